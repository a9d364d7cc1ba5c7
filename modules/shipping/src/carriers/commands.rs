//! What changes carriers, and what begins and ends requests for labels.

use crate::carriers::model::*;
use crate::carriers::{queries, sql, workflows};
use crate::error;
use crate::shipments::commands::{enter, event, number_parcels, save};
use crate::shipments::model::*;
use crate::shipments::queries as shipments;
use crate::words::By;
use kernel::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use store::{NewEvent, Tx};
use web::IfMatch;

/// A carrier to set up; its secrets are sealed already.
#[derive(Clone, Debug)]
pub(crate) struct NewCarrier {
    pub carrier_id: CarrierId,
    pub name: String,
    pub kind: CarrierKind,
    pub base_url: String,
    pub sealed: Vec<u8>,
}

/// Sets a carrier up. Errors: `shipping.too_many`.
pub(crate) fn add_carrier(tx: &mut Tx<'_>, new: &NewCarrier) -> Result<CarrierView> {
    if queries::carriers(tx)?.len() >= MAX_CARRIERS {
        return Err(error::too_many("carriers", MAX_CARRIERS));
    }
    let now = tx.now();
    tx.exec(sql::INSERT_CARRIER, (new.carrier_id, &new.name, new.kind, &new.base_url, &new.sealed, now))?;
    let (name, base_url) = (new.name.clone(), new.base_url.clone());
    let view = CarrierView {
        carrier_id: new.carrier_id,
        name,
        kind: new.kind,
        base_url,
        enabled: true,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    tx.emit(carrier_event("shipping_carrier.created", &view));
    Ok(view)
}

/// The event that a carrier was set up or changed.
pub(crate) fn carrier_event(kind: &'static str, carrier: &CarrierView) -> NewEvent {
    NewEvent::new(kind, 1, carrier.carrier_id, carrier)
}

/// A change of a carrier. What is none stays.
#[derive(Clone, Debug)]
pub(crate) struct ChangeCarrier {
    pub carrier_id: CarrierId,
    pub if_match: IfMatch,
    pub name: Option<String>,
    pub base_url: Option<String>,
    pub sealed: Option<Vec<u8>>,
    pub enabled: Option<bool>,
}

/// Errors: `shipping.carrier_not_found`, `request.precondition_failed`.
pub(crate) fn change_carrier(tx: &mut Tx<'_>, change: &ChangeCarrier) -> Result<CarrierView> {
    let mut carrier = queries::carrier(tx, change.carrier_id)?;
    change.if_match.check(carrier.version)?;
    let read = carrier.version;
    carrier.version += 1;
    carrier.updated_at = tx.now();
    carrier.name = change.name.clone().unwrap_or(carrier.name);
    carrier.base_url = change.base_url.clone().unwrap_or(carrier.base_url);
    carrier.sealed = change.sealed.clone().unwrap_or(carrier.sealed);
    carrier.enabled = change.enabled.unwrap_or(carrier.enabled);
    let c = &carrier;
    tx.must(
        sql::UPDATE_CARRIER,
        (c.carrier_id, read, c.version, &c.name, &c.base_url, &c.sealed, c.enabled, c.updated_at),
        error::version_conflict,
    )?;
    let view = CarrierView::from(carrier);
    tx.emit(carrier_event("shipping_carrier.changed", &view));
    Ok(view)
}

/// Labels to ask for.
#[derive(Clone, Debug)]
pub(crate) struct RequestLabel {
    pub shipment_id: ShipmentId,
    pub if_match: IfMatch,
    pub carrier_id: CarrierId,
    /// None: what the shipment's method says.
    pub service: Option<String>,
    pub by: By,
}

/// Writes down that labels are asked for, and begins to ask. Errors: `shipping.shipment_not_found`, `shipping.not_allowed`,
/// `shipping.too_many`, `shipping.carrier_disabled`, `request.invalid`, `request.precondition_failed`.
pub(crate) fn request_label(tx: &mut Tx<'_>, request: &RequestLabel) -> Result<Shipment> {
    let Shipment { mut head, parcels } = shipments::shipment(tx, request.shipment_id)?;
    request.if_match.check(head.version)?;
    let unknown = |_| Error::field("carrier_id", "unknown", "there is no such carrier");
    let carrier = queries::carrier(tx, request.carrier_id).map_err(unknown)?;
    if !carrier.enabled {
        return Err(error::carrier_disabled());
    }
    let state = decide(head.state, head.labelled, Command::RequestLabel)?;
    if head.label_requests >= MAX_ATTEMPTS {
        return Err(error::too_many("requests for a shipment's labels", MAX_ATTEMPTS as usize));
    }
    let service = match (&request.service, head.method_id) {
        (Some(service), _) => service.clone(),
        (None, Some(method_id)) => crate::rates::queries::method(tx, method_id)?.set.service,
        (None, None) => String::new(),
    };
    if service.is_empty() {
        return Err(Error::field("service", "required", "neither the request nor the shipment's method says what to ask the carrier for"));
    }
    head.label_requests += 1;
    let now = tx.now();
    tx.exec(
        sql::INSERT_LABEL,
        (head.shipment_id, head.label_requests, request.carrier_id, &service, now, &carrier.base_url, &carrier.sealed),
    )?;
    workflows::begin_label(tx, head.shipment_id, head.label_requests)?;
    let goods = goods(parcels.iter().map(|parcel| &parcel.lines[..]));
    enter(tx, &mut head, state, &goods, "label_requested", &request.by, "")?;
    Ok(Shipment { head, parcels })
}

pub(crate) fn update_label(tx: &mut Tx<'_>, shipment_id: ShipmentId, label: &Label) -> Result<()> {
    let l = label;
    tx.exec(sql::UPDATE_LABEL, (shipment_id, l.attempt, l.state, &l.carrier_label, l.price_minor, l.currency, &l.detail, l.ended_at))
}

/// Payload of the events about labels.
#[derive(Serialize)]
struct LabelEvent<'a> {
    shipment_id: ShipmentId,
    order_id: &'a str,
    #[serde(flatten)]
    label: &'a Label,
}

/// The event that tells what became of a label.
pub(crate) fn label_event(kind: &'static str, head: &ShipmentHead, label: &Label) -> NewEvent {
    let payload = LabelEvent { shipment_id: head.shipment_id, order_id: &head.order_id, label };
    NewEvent::new(kind, 1, head.shipment_id, &payload)
}

/// The carrier has sold labels. A number that another parcel has already is the carrier's fault, and a person's to sort out.
/// Errors: `shipping.tracking_number_taken`.
pub(crate) fn label_bought(tx: &mut Tx<'_>, shipment_id: ShipmentId, attempt: i64, purchase: &Purchase) -> Result<()> {
    let Shipment { mut head, mut parcels } = shipments::shipment(tx, shipment_id)?;
    let mut label = queries::label(tx, shipment_id, attempt)?;
    let numbers: BTreeMap<u32, String> =
        parcels.iter().zip(&purchase.parcels).map(|(parcel, sold)| (parcel.parcel, sold.tracking_number.clone())).collect();
    number_parcels(tx, shipment_id, &mut parcels, &numbers)?;
    for (parcel, sold) in parcels.iter().zip(&purchase.parcels) {
        tx.exec(sql::INSERT_LABEL_PARCEL, (shipment_id, attempt, parcel.parcel, &sold.tracking_number, &sold.label_url))?;
    }
    label.state = LabelState::Bought;
    label.carrier_label = Some(purchase.label.clone());
    label.price_minor = Some(purchase.price_minor);
    label.currency = Some(purchase.currency);
    label.ended_at = Some(tx.now());
    update_label(tx, shipment_id, &label)?;
    head.labelled = true;
    workflows::begin_watch(tx, shipment_id, attempt)?;
    // It may be on its way by now, if its carrier was quicker with its scans than with its answer.
    if head.state == State::LabelRequested {
        let state = decide(head.state, false, Command::LabelBought)?;
        let goods = goods(parcels.iter().map(|parcel| &parcel.lines[..]));
        return enter(tx, &mut head, state, &goods, "label_bought", &By::system(), "");
    }
    save(tx, &mut head, "label_bought", &By::system(), "")
}

/// There are no labels: the carrier refused, or the request was called off before it was done.
pub(crate) fn label_refused(tx: &mut Tx<'_>, shipment_id: ShipmentId, attempt: i64, why: &str) -> Result<()> {
    let Shipment { mut head, parcels } = shipments::shipment(tx, shipment_id)?;
    let mut label = queries::label(tx, shipment_id, attempt)?;
    label.state = LabelState::Refused;
    label.detail = why.chars().take(300).collect();
    label.ended_at = Some(tx.now());
    update_label(tx, shipment_id, &label)?;
    let refused = label_event("shipment.label_refused", &head, &label);
    tx.emit(refused);
    if head.state == State::LabelRequested {
        let state = decide(head.state, false, Command::LabelRefused)?;
        let goods = goods(parcels.iter().map(|parcel| &parcel.lines[..]));
        enter(tx, &mut head, state, &goods, "label_refused", &By::system(), &label.detail)?;
    }
    Ok(())
}

/// Nobody could learn in time what became of a request.
pub(crate) fn label_in_doubt(tx: &mut Tx<'_>, shipment_id: ShipmentId, attempt: i64, why: &str) -> Result<()> {
    let head = shipments::head(tx, shipment_id)?;
    let mut label = queries::label(tx, shipment_id, attempt)?;
    if label.state == LabelState::Requested {
        label.state = LabelState::InDoubt;
    }
    label.detail = why.chars().take(300).collect();
    update_label(tx, shipment_id, &label)?;
    let doubt = label_event("shipment.label_in_doubt", &head, &label);
    tx.emit(doubt);
    Ok(())
}

/// Labels to give back.
#[derive(Clone, Debug)]
pub(crate) struct VoidLabel {
    pub shipment_id: ShipmentId,
    pub if_match: IfMatch,
    pub by: By,
}

/// Begins to ask the carrier to take its labels back. Errors: `shipping.shipment_not_found`, `shipping.not_allowed`,
/// `request.precondition_failed`.
pub(crate) fn void_label(tx: &mut Tx<'_>, void: &VoidLabel) -> Result<Shipment> {
    let Shipment { mut head, parcels } = shipments::shipment(tx, void.shipment_id)?;
    void.if_match.check(head.version)?;
    decide(head.state, head.labelled, Command::LabelVoided)?;
    if !head.labelled {
        return Err(error::not_labelled());
    }
    let mut label = queries::label(tx, head.shipment_id, head.label_requests)?;
    if label.state != LabelState::Bought {
        return Err(error::label_voiding());
    }
    label.state = LabelState::Voiding;
    label.detail.clear();
    update_label(tx, head.shipment_id, &label)?;
    workflows::begin_void(tx, head.shipment_id, head.label_requests, head.version)?;
    save(tx, &mut head, "label_voiding", &void.by, "")?;
    let voiding = event("shipment.label_voiding", &head, None, None);
    tx.emit(voiding);
    Ok(Shipment { head, parcels })
}

/// The carrier has taken its labels back.
pub(crate) fn label_voided(tx: &mut Tx<'_>, shipment_id: ShipmentId, attempt: i64) -> Result<()> {
    let Shipment { mut head, mut parcels } = shipments::shipment(tx, shipment_id)?;
    let mut label = queries::label(tx, shipment_id, attempt)?;
    label.state = LabelState::Voided;
    label.ended_at = Some(tx.now());
    update_label(tx, shipment_id, &label)?;
    for parcel in &mut parcels {
        tx.exec(crate::shipments::sql::SET_TRACKING_NUMBER, (shipment_id, parcel.parcel, None::<String>))?;
    }
    head.labelled = false;
    let goods = goods(parcels.iter().map(|parcel| &parcel.lines[..]));
    if head.state == State::Ready {
        let state = decide(head.state, false, Command::LabelVoided)?;
        return enter(tx, &mut head, state, &goods, "label_voided", &By::system(), "");
    }
    save(tx, &mut head, "label_voided", &By::system(), "")
}

/// The carrier keeps its labels sold.
pub(crate) fn void_refused(tx: &mut Tx<'_>, shipment_id: ShipmentId, attempt: i64, why: &str) -> Result<()> {
    let head = shipments::head(tx, shipment_id)?;
    let mut label = queries::label(tx, shipment_id, attempt)?;
    label.state = LabelState::Bought;
    label.detail = why.chars().take(300).collect();
    update_label(tx, shipment_id, &label)?;
    let refused = label_event("shipment.label_void_refused", &head, &label);
    tx.emit(refused);
    Ok(())
}

/// Refuses to let a shipment go whose labels are being given back. Errors: `shipping.label_voiding`.
pub(crate) fn keeps_its_label(tx: &mut Tx<'_>, head: &ShipmentHead) -> Result<()> {
    if head.labelled && queries::label(tx, head.shipment_id, head.label_requests)?.state == LabelState::Voiding {
        return Err(error::label_voiding());
    }
    Ok(())
}
