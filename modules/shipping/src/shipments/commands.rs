//! What changes shipments: load, decide, write, tell. Each runs in one transaction and may be run again.

use crate::carriers;
use crate::error;
use crate::rates;
use crate::rates::model::MethodId;
use crate::shipments::model::*;
use crate::shipments::{queries, sql};
use crate::words::{By, to_json};
use kernel::{Error, Result, Timestamp};
use serde::Serialize;
use std::collections::BTreeMap;
use store::{NewEvent, Tx};
use web::IfMatch;

/// Payload of every event about a shipment. Addresses stay out: events are kept longer than a person may wish to be known.
#[derive(Serialize)]
struct ShipmentEvent<'a> {
    shipment_id: ShipmentId,
    order_id: &'a str,
    state: State,
    version: i64,
    method_id: Option<MethodId>,
    parcel_count: i64,
    weight_g: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    goods: Option<&'a BTreeMap<u32, i64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracking: Option<&'a Tracking>,
}

/// An event about a shipment: with what is in it when it is made, goes or ends, with what was told when it was tracked.
pub(crate) fn event(kind: &'static str, head: &ShipmentHead, goods: Option<&BTreeMap<u32, i64>>, tracking: Option<&Tracking>) -> NewEvent {
    let payload = ShipmentEvent {
        shipment_id: head.shipment_id,
        order_id: &head.order_id,
        state: head.state,
        version: head.version,
        method_id: head.method_id,
        parcel_count: head.parcel_count,
        weight_g: head.weight_g,
        goods,
        tracking,
    };
    NewEvent::new(kind, 1, head.shipment_id, &payload)
}

/// The event that tells of a state.
pub(crate) fn event_of(state: State) -> &'static str {
    match state {
        State::Pending => "shipment.created",
        State::Picked => "shipment.picked",
        State::Packed => "shipment.packed",
        State::LabelRequested => "shipment.label_requested",
        State::Ready => "shipment.ready",
        State::Shipped => "shipment.shipped",
        State::Delivered => "shipment.delivered",
        State::Failed => "shipment.failed",
        State::Cancelled => "shipment.cancelled",
        State::ReturnedToSender => "shipment.returned",
    }
}

fn change(tx: &mut Tx<'_>, head: &ShipmentHead, kind: &str, by: &By, reason: &str) -> Result<()> {
    let request_id = by.request_id.as_deref();
    tx.exec(
        sql::INSERT_CHANGE,
        (head.shipment_id, head.version, kind, head.state, by.kind(), by.actor.id, reason, request_id, head.updated_at),
    )
}

/// Writes a shipment under its next version, and who changed it how.
pub(crate) fn save(tx: &mut Tx<'_>, head: &mut ShipmentHead, kind: &str, by: &By, reason: &str) -> Result<()> {
    let read = head.version;
    head.version += 1;
    head.updated_at = tx.now();
    let h = &*head;
    let args = (
        h.shipment_id,
        read,
        h.version,
        h.state,
        h.parcel_count,
        h.weight_g,
        h.label_requests,
        h.labelled,
        h.shipped_at,
        h.delivered_at,
        h.updated_at,
    );
    tx.must(sql::UPDATE_SHIPMENT, args, error::version_conflict)?;
    change(tx, head, kind, by, reason)
}

fn write_parcels(tx: &mut Tx<'_>, shipment_id: ShipmentId, parcels: &[NewParcel]) -> Result<Vec<Parcel>> {
    let mut written = Vec::with_capacity(parcels.len());
    for (number, new) in (1_u32..).zip(parcels) {
        tx.exec(sql::INSERT_PARCEL, (shipment_id, number, new.weight_g, new.length_mm, new.width_mm, new.height_mm))?;
        let mut lines = new.lines.clone();
        lines.sort_unstable();
        for entry in &lines {
            tx.exec(sql::INSERT_ENTRY, (shipment_id, number, entry.line, entry.quantity))?;
        }
        written.push(Parcel {
            parcel: number,
            weight_g: new.weight_g,
            length_mm: new.length_mm,
            width_mm: new.width_mm,
            height_mm: new.height_mm,
            tracking_number: None,
            progress: None,
            lines,
        });
    }
    Ok(written)
}

/// Makes a shipment. Errors: `request.invalid`, `shipping.over_shipment`.
pub(crate) fn create(tx: &mut Tx<'_>, (new, by): &(NewShipment, By)) -> Result<Shipment> {
    new.check()?;
    if let Some(method_id) = new.method_id {
        let unknown = |_| Error::field("method_id", "unknown", "there is no such method");
        rates::queries::method(tx, method_id).map_err(unknown)?;
    }
    let wanted = goods(new.parcels.iter().map(|parcel| &parcel.lines[..]));
    if let Some(ordered) = &new.ordered {
        within(ordered, &queries::goods_of_order(tx, &new.order_ref)?, &wanted)?;
    }
    let now = tx.now();
    let head = ShipmentHead {
        shipment_id: tx.new_id(),
        order_id: new.order_ref.clone(),
        state: State::Pending,
        version: 1,
        method_id: new.method_id,
        destination: new.destination.clone(),
        note: new.note.clone(),
        parcel_count: new.parcels.len() as i64,
        weight_g: new.parcels.iter().map(|parcel| parcel.weight_g).sum(),
        label_requests: 0,
        labelled: false,
        shipped_at: None,
        delivered_at: None,
        created_at: now,
        updated_at: now,
    };
    let destination = to_json(&head.destination)?;
    tx.exec(
        sql::INSERT_SHIPMENT,
        (head.shipment_id, &head.order_id, head.state, head.method_id, destination, &head.note, head.parcel_count, head.weight_g, now),
    )?;
    let parcels = write_parcels(tx, head.shipment_id, &new.parcels)?;
    change(tx, &head, "created", by, "")?;
    tx.emit(event("shipment.created", &head, Some(&wanted), None));
    Ok(Shipment { head, parcels })
}

/// Other parcels for the same goods.
#[derive(Clone, Debug)]
pub(crate) struct Repack {
    pub shipment_id: ShipmentId,
    pub if_match: IfMatch,
    pub parcels: Vec<NewParcel>,
    pub by: By,
}

/// Errors: `shipping.shipment_not_found`, `shipping.not_allowed`, `shipping.has_label`, `shipping.other_goods`, `request.precondition_failed`.
pub(crate) fn repack(tx: &mut Tx<'_>, repack: &Repack) -> Result<Shipment> {
    let Shipment { mut head, parcels } = queries::shipment(tx, repack.shipment_id)?;
    repack.if_match.check(head.version)?;
    head.state = decide(head.state, head.labelled, Command::Repack)?;
    if goods(parcels.iter().map(|parcel| &parcel.lines[..])) != goods(repack.parcels.iter().map(|parcel| &parcel.lines[..])) {
        return Err(error::other_goods());
    }
    tx.exec(sql::DELETE_ENTRIES, (head.shipment_id,))?;
    tx.exec(sql::DELETE_PARCELS, (head.shipment_id,))?;
    let parcels = write_parcels(tx, head.shipment_id, &repack.parcels)?;
    head.parcel_count = parcels.len() as i64;
    head.weight_g = parcels.iter().map(|parcel| parcel.weight_g).sum();
    save(tx, &mut head, "repacked", &repack.by, "")?;
    tx.emit(event("shipment.repacked", &head, None, None));
    Ok(Shipment { head, parcels })
}

/// A step of a shipment.
#[derive(Clone, Debug)]
pub struct Take {
    /// The shipment.
    pub shipment_id: ShipmentId,
    /// The version that the caller has seen, if it insists on it.
    pub if_match: IfMatch,
    /// What is done.
    pub step: Step,
    /// Why, up to 500 characters.
    pub reason: String,
    /// What the carrier calls the parcels, by their numbers; for shipments without labels of a carrier that is asked.
    pub tracking_numbers: BTreeMap<u32, String>,
    /// Who does it.
    pub by: By,
    /// Who may keep it from going.
    pub gate: Option<Gate>,
}

/// What the application asks before a shipment goes, in the same transaction, because it concerns what this module does not know; a part of
/// the application.
#[derive(Clone, Copy, Debug)]
pub struct Gate {
    /// Refuses when what belongs to this order may not go.
    pub may_go: fn(&mut Tx<'_>, &str) -> Result<()>,
}

/// Errors: `shipping.shipment_not_found`, `shipping.not_allowed`, `shipping.has_label`, `shipping.label_voiding`,
/// `shipping.tracking_number_taken`, `request.invalid` for a parcel that is not there, `request.precondition_failed`, those of its gate.
pub(crate) fn take(tx: &mut Tx<'_>, take: &Take) -> Result<Shipment> {
    let Shipment { mut head, mut parcels } = queries::shipment(tx, take.shipment_id)?;
    take.if_match.check(head.version)?;
    let state = decide(head.state, head.labelled, Command::By(take.step))?;
    if take.step == Step::Ship {
        carriers::commands::keeps_its_label(tx, &head)?;
        if let Some(gate) = take.gate {
            (gate.may_go)(tx, &head.order_id)?;
        }
    }
    number_parcels(tx, head.shipment_id, &mut parcels, &take.tracking_numbers)?;
    let shipment_goods = goods(parcels.iter().map(|parcel| &parcel.lines[..]));
    enter(tx, &mut head, state, &shipment_goods, take.step.as_str(), &take.by, &take.reason)?;
    Ok(Shipment { head, parcels })
}

/// Gives parcels their carrier's numbers. Errors: `request.invalid`, `shipping.tracking_number_taken`.
pub(crate) fn number_parcels(
    tx: &mut Tx<'_>,
    shipment_id: ShipmentId,
    parcels: &mut [Parcel],
    numbers: &BTreeMap<u32, String>,
) -> Result<()> {
    for (number, tracking_number) in numbers {
        let unknown = || Error::field("tracking_numbers", "unknown_parcel", format!("there is no parcel {number}"));
        let parcel = parcels.iter_mut().find(|parcel| parcel.parcel == *number).ok_or_else(unknown)?;
        let holder: Option<(ShipmentId, u32)> = tx.opt(sql::PARCEL_BY_NUMBER, (tracking_number,))?;
        if holder.is_some_and(|holder| holder != (shipment_id, *number)) {
            return Err(error::tracking_number_taken());
        }
        tx.exec(sql::SET_TRACKING_NUMBER, (shipment_id, *number, tracking_number))?;
        parcel.tracking_number = Some(tracking_number.clone());
    }
    Ok(())
}

/// Brings a shipment into a state that was decided on, and tells of it.
pub(crate) fn enter(
    tx: &mut Tx<'_>,
    head: &mut ShipmentHead,
    state: State,
    goods: &BTreeMap<u32, i64>,
    kind: &str,
    by: &By,
    reason: &str,
) -> Result<()> {
    let now = tx.now();
    let gone_before = head.shipped_at.is_some();
    head.state = state;
    if matches!(state, State::Shipped | State::Delivered | State::Failed | State::ReturnedToSender) {
        head.shipped_at = head.shipped_at.or(Some(now));
    }
    head.delivered_at = if state == State::Delivered { head.delivered_at.or(Some(now)) } else { None };
    save(tx, head, kind, by, reason)?;
    // That a shipment went is told once, and before what became of it, however either became known: goods leave the books by it.
    let goes = head.shipped_at.is_some() && !gone_before;
    if goes {
        tx.emit(event(event_of(State::Shipped), head, Some(goods), None));
    }
    match (state, goes) {
        (State::Shipped, true) => {}
        (State::Shipped, false) => tx.emit(event("shipment.resumed", head, Some(goods), None)),
        _ => tx.emit(event(event_of(state), head, Some(goods), None)),
    }
    Ok(())
}

/// Something that was told of a parcel.
#[derive(Clone, Debug, Serialize, serde::Deserialize)]
pub struct Told {
    /// What its teller calls the event: 1 to 128 characters. Told again it is the same.
    pub event_ref: String,
    /// What happened.
    pub status: Tracked,
    /// When.
    pub occurred_at: Timestamp,
    /// Where: up to 200 characters.
    pub place: String,
    /// In the teller's words: up to 500 characters.
    pub detail: String,
}

/// What was told of one parcel.
#[derive(Clone, Debug)]
pub(crate) struct Track {
    pub shipment_id: ShipmentId,
    pub parcel: u32,
    pub told: Vec<Told>,
    pub by: By,
}

/// Takes in what was told of a parcel, each event once, in whatever order it comes; the shipment follows. What is known already changes
/// nothing. Errors: `shipping.shipment_not_found`, `request.invalid` for a parcel that is not there, `shipping.too_much_tracking`.
pub(crate) fn track(tx: &mut Tx<'_>, track: &Track) -> Result<Shipment> {
    let Shipment { mut head, mut parcels } = queries::shipment(tx, track.shipment_id)?;
    let unknown = || Error::field("parcel", "unknown_parcel", format!("there is no parcel {}", track.parcel));
    let place = parcels.iter().position(|parcel| parcel.parcel == track.parcel).ok_or_else(unknown)?;
    let mut known: BTreeMap<String, (Tracked, Timestamp)> = tx
        .all::<(String, Tracked, Timestamp)>(sql::KNOWN, (head.shipment_id, track.parcel))?
        .into_iter()
        .map(|(event_ref, status, at)| (event_ref, (status, at)))
        .collect();
    let now = tx.now();
    let mut fresh = Vec::new();
    for told in &track.told {
        if known.contains_key(&told.event_ref) {
            continue;
        }
        if known.len() as i64 >= MAX_TRACKING {
            return Err(error::too_much_tracking());
        }
        known.insert(told.event_ref.clone(), (told.status, told.occurred_at));
        let Told { event_ref, status, occurred_at, place, detail } = told.clone();
        fresh.push(Tracking { parcel: track.parcel, event_ref, status, occurred_at, place, detail, received_at: now });
    }
    if fresh.is_empty() {
        return Ok(Shipment { head, parcels });
    }
    for f in &fresh {
        let row = (head.shipment_id, f.parcel, &f.event_ref, f.status, f.occurred_at, &f.place, &f.detail, now);
        tx.exec(sql::INSERT_TRACKING, row)?;
    }
    parcels[place].progress = progress(known.values());
    tx.exec(sql::SET_PROGRESS, (head.shipment_id, track.parcel, parcels[place].progress))?;
    let all: Vec<Option<Tracked>> = parcels.iter().map(|parcel| parcel.progress).collect();
    let state = match standing(&all) {
        Some(standing) => decide(head.state, head.labelled, Command::Tracked(standing))?,
        None => head.state,
    };
    for tracking in &fresh {
        tx.emit(event("shipment.tracked", &head, None, Some(tracking)));
    }
    if state != head.state {
        let shipment_goods = goods(parcels.iter().map(|parcel| &parcel.lines[..]));
        enter(tx, &mut head, state, &shipment_goods, "tracked", &track.by, "")?;
    }
    Ok(Shipment { head, parcels })
}
