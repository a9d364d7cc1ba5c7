//! What reaches carriers: labels are bought, given back, and their parcels are watched.
//!
//! A purchase whose outcome is unknown is asked about by its reference. What the carrier has never seen is asked for again under the same
//! key; so there is one purchase, whatever became of the first request.

use crate::carriers::adapter::{Adapter, Order};
use crate::carriers::model::{LabelState, Purchase};
use crate::carriers::service::Shipping;
use crate::carriers::{commands, queries};
use crate::shipments::commands::{Told, Track, event, track};
use crate::shipments::model::{ShipmentId, State};
use crate::shipments::queries as shipments;
use crate::words::By;
use futures_util::future::BoxFuture;
use kernel::{Error, Result};
use log::Backoff;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::Tx;
use workflow::{Action, Heard, Kind, Next, Outcome, Prepared, Request, Saga, Status, Step, Workflow};

/// Buys a shipment's labels; its business key is the shipment's id and which request it is.
pub const LABEL: Kind = Kind { name: "shipping.label", version: 1 };
/// Gives a shipment's labels back; its business key is the shipment's id, which request they were bought by, and the shipment's version.
pub const VOID: Kind = Kind { name: "shipping.void", version: 1 };
/// Asks now and then where a shipment's parcels are; its business key is that of [`LABEL`].
pub const WATCH: Kind = Kind { name: "shipping.watch", version: 1 };

/// How long it may stay unknown what became of a purchase, in milliseconds. Then a person has to look.
pub(crate) const DEADLINE_MS: i64 = 86_400_000;
/// How often a carrier is asked where a parcel is, in milliseconds; callbacks tell it sooner.
const LOOK_MS: i64 = 12 * 3_600_000;
/// How long it is asked, in milliseconds.
pub(crate) const WATCH_MS: i64 = 45 * 86_400_000;
/// What one look takes in of all parcels together: a saga's answer has a bound.
const MAX_NEWS: usize = 60;

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Asked {
    shipment_id: ShipmentId,
    attempt: i64,
}

impl Asked {
    fn key(self) -> String {
        format!("{}-{}", self.shipment_id, self.attempt)
    }

    /// The carrier, where it was when it was asked for the labels.
    async fn adapter(self, request: &Request) -> Result<Adapter> {
        let tenant = request.tenant.ok_or_else(|| Error::internal("a label without a tenant"))?;
        request.part::<Shipping>().adapter_of_label(request.store(), tenant, self.shipment_id, self.attempt).await
    }
}

pub(crate) fn workflows() -> Vec<Workflow> {
    let backoff = Backoff { base_ms: 1_000, cap_ms: 1_800_000, max_attempts: 10 };
    let buy = Action::outside(prepare_buy, buy, bought).ask(ask_buy).deadline_ms(DEADLINE_MS).backoff(backoff);
    let void = Action::outside(prepare_void, void, voided).ask(ask_void).deadline_ms(DEADLINE_MS).backoff(backoff);
    let look = Action::outside(prepare_look, look, looked).timeout_ms(60_000);
    vec![
        Workflow::new(LABEL).version(1, vec![Step::new("buy", buy)]).on_park(in_doubt).on_end(label_ended),
        Workflow::new(VOID).version(1, vec![Step::new("void", void)]).on_park(in_doubt).on_end(void_ended),
        Workflow::new(WATCH).version(1, vec![Step::new("look", look)]),
    ]
}

pub(crate) fn begin_label(tx: &mut Tx<'_>, shipment_id: ShipmentId, attempt: i64) -> Result<()> {
    let asked = Asked { shipment_id, attempt };
    workflow::start(tx, LABEL, &asked.key(), &asked)
}

pub(crate) fn begin_void(tx: &mut Tx<'_>, shipment_id: ShipmentId, attempt: i64, version: i64) -> Result<()> {
    let asked = Asked { shipment_id, attempt };
    workflow::start(tx, VOID, &format!("{}-{version}", asked.key()), &asked)
}

pub(crate) fn begin_watch(tx: &mut Tx<'_>, shipment_id: ShipmentId, attempt: i64) -> Result<()> {
    let asked = Asked { shipment_id, attempt };
    let at = tx.now().plus_ms(LOOK_MS);
    workflow::start_at(tx, WATCH, &asked.key(), &asked, at)
}

fn to_value(value: &impl Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|e| Error::internal("a request does not serialise").caused_by(e))
}

/// The address stays out of what is written down: whoever may look at sagas may not see it.
fn prepare_buy(tx: &mut Tx<'_>, saga: &mut Saga) -> Result<Prepared> {
    let asked: Asked = saga.state()?;
    let label = queries::label(tx, asked.shipment_id, asked.attempt)?;
    if label.state != LabelState::Requested {
        return Ok(Prepared::Next(Next::Finish));
    }
    Ok(Prepared::Call { key: asked.key(), body: to_value(&asked)? })
}

/// Whom to ask for what.
async fn order(request: &Request) -> Result<(Adapter, Order)> {
    let asked: Asked = request.body()?;
    let tenant = request.tenant.ok_or_else(|| Error::internal("a label without a tenant"))?;
    let all = move |read: &mut store::Read<'_>| {
        Ok((queries::label(read, asked.shipment_id, asked.attempt)?, shipments::shipment(read, asked.shipment_id)?))
    };
    let (label, shipment) = request.store().peek(tenant, all).await?;
    let adapter = asked.adapter(request).await?;
    let (destination, parcels) = (shipment.head.destination, shipment.parcels);
    Ok((adapter, Order { reference: asked.key(), service: label.service, destination, parcels }))
}

fn buy(request: Request) -> BoxFuture<'static, Outcome> {
    Box::pin(async move {
        match order(&request).await {
            Ok((adapter, order)) => adapter.buy(&order).await,
            Err(error) => Outcome::NotDone(error.to_string()),
        }
    })
}

fn ask_buy(request: Request) -> BoxFuture<'static, Outcome> {
    Box::pin(async move {
        match order(&request).await {
            Ok((adapter, order)) => adapter.find(&order).await,
            Err(error) => Outcome::Unknown(error.to_string()),
        }
    })
}

fn bought(tx: &mut Tx<'_>, saga: &mut Saga, heard: Heard) -> Result<Next> {
    let asked: Asked = saga.state()?;
    let label = queries::label(tx, asked.shipment_id, asked.attempt)?;
    if !matches!(label.state, LabelState::Requested | LabelState::InDoubt) {
        return Ok(Next::Finish);
    }
    match heard {
        Heard::Done(value) => {
            let purchase: Purchase = serde_json::from_value(value).map_err(|e| Error::internal("a purchase can't be read").caused_by(e))?;
            commands::label_bought(tx, asked.shipment_id, asked.attempt, &purchase)?;
        }
        Heard::Refused(why) => commands::label_refused(tx, asked.shipment_id, asked.attempt, &why)?,
        Heard::Signal { .. } | Heard::Deadline => return Ok(Next::Park("a purchase waits for nothing".to_owned())),
    }
    Ok(Next::Finish)
}

fn in_doubt(tx: &mut Tx<'_>, saga: &Saga, reason: &str) -> Result<()> {
    let asked: Asked = saga.state()?;
    commands::label_in_doubt(tx, asked.shipment_id, asked.attempt, reason)
}

/// A purchase that was called off before the carrier had done it: there are no labels.
fn label_ended(tx: &mut Tx<'_>, saga: &Saga, status: Status, reason: &str) -> Result<()> {
    let asked: Asked = saga.state()?;
    let label = queries::label(tx, asked.shipment_id, asked.attempt)?;
    if status == Status::Done || !matches!(label.state, LabelState::Requested | LabelState::InDoubt) {
        return Ok(());
    }
    commands::label_refused(tx, asked.shipment_id, asked.attempt, reason)
}

#[derive(Serialize, Deserialize)]
struct Given {
    carrier_label: String,
    #[serde(flatten)]
    asked: Asked,
}

fn prepare_void(tx: &mut Tx<'_>, saga: &mut Saga) -> Result<Prepared> {
    let asked: Asked = saga.state()?;
    let label = queries::label(tx, asked.shipment_id, asked.attempt)?;
    let (LabelState::Voiding, Some(carrier_label)) = (label.state, label.carrier_label) else {
        return Ok(Prepared::Next(Next::Finish));
    };
    let body = to_value(&Given { carrier_label, asked })?;
    Ok(Prepared::Call { key: saga.stable_key(), body })
}

async fn given(request: &Request) -> Result<(Adapter, String)> {
    let Given { carrier_label, asked } = request.body()?;
    Ok((asked.adapter(request).await?, carrier_label))
}

fn void(request: Request) -> BoxFuture<'static, Outcome> {
    Box::pin(async move {
        match given(&request).await {
            Ok((adapter, label)) => adapter.void(&label, &request.key).await,
            Err(error) => Outcome::NotDone(error.to_string()),
        }
    })
}

fn ask_void(request: Request) -> BoxFuture<'static, Outcome> {
    Box::pin(async move {
        match given(&request).await {
            Ok((adapter, label)) => adapter.voided(&label).await,
            Err(error) => Outcome::Unknown(error.to_string()),
        }
    })
}

fn voided(tx: &mut Tx<'_>, saga: &mut Saga, heard: Heard) -> Result<Next> {
    let asked: Asked = saga.state()?;
    if queries::label(tx, asked.shipment_id, asked.attempt)?.state != LabelState::Voiding {
        return Ok(Next::Finish);
    }
    match heard {
        Heard::Done(_) => commands::label_voided(tx, asked.shipment_id, asked.attempt)?,
        Heard::Refused(why) => commands::void_refused(tx, asked.shipment_id, asked.attempt, &why)?,
        Heard::Signal { .. } | Heard::Deadline => return Ok(Next::Park("it waits for nothing".to_owned())),
    }
    Ok(Next::Finish)
}

/// Asking was called off: the labels stay bought.
fn void_ended(tx: &mut Tx<'_>, saga: &Saga, status: Status, reason: &str) -> Result<()> {
    let asked: Asked = saga.state()?;
    if status == Status::Done || queries::label(tx, asked.shipment_id, asked.attempt)?.state != LabelState::Voiding {
        return Ok(());
    }
    commands::void_refused(tx, asked.shipment_id, asked.attempt, reason)
}

/// Whether a shipment's parcels are no longer looked for.
fn is_over(state: State) -> bool {
    matches!(state, State::Delivered | State::Cancelled | State::ReturnedToSender)
}

#[derive(Serialize, Deserialize)]
struct Look {
    #[serde(flatten)]
    asked: Asked,
    /// Parcels by their numbers, with what their carrier calls them.
    parcels: Vec<(u32, String)>,
}

fn prepare_look(tx: &mut Tx<'_>, saga: &mut Saga) -> Result<Prepared> {
    let asked: Asked = saga.state()?;
    let head = shipments::head(tx, asked.shipment_id)?;
    let label = queries::label(tx, asked.shipment_id, asked.attempt)?;
    if is_over(head.state) || label.state == LabelState::Voided {
        return Ok(Prepared::Next(Next::Finish));
    }
    if label.ended_at.is_some_and(|at| tx.now().ms_since(at) >= WATCH_MS) {
        // Nobody has heard where it is: somebody has to ask.
        let overdue = event("shipment.overdue", &head, None, None);
        tx.emit(overdue);
        return Ok(Prepared::Next(Next::Finish));
    }
    let parcels = queries::sold(tx, asked.shipment_id, asked.attempt)?;
    let parcels = parcels.into_iter().map(|(parcel, tracking_number, _)| (parcel, tracking_number)).collect();
    Ok(Prepared::Call { key: saga.stable_key(), body: to_value(&Look { asked, parcels })? })
}

/// A read: what can't be learnt now is no news.
fn look(request: Request) -> BoxFuture<'static, Outcome> {
    Box::pin(async move {
        let news = news(&request).await.unwrap_or_default();
        serde_json::to_value(&news).map_or_else(|error| Outcome::Refused(error.to_string()), Outcome::Done)
    })
}

async fn news(request: &Request) -> Result<Vec<(u32, Vec<Told>)>> {
    let Look { asked, parcels } = request.body()?;
    let adapter = asked.adapter(request).await?;
    let mut all = Vec::with_capacity(parcels.len());
    // Each parcel has its part: at most 50 of them.
    let room = (MAX_NEWS / parcels.len().max(1)).clamp(1, 10);
    for (parcel, tracking_number) in parcels {
        let Some(told) = adapter.track(&tracking_number).await else { continue };
        // The latest say most.
        all.push((parcel, told[told.len().saturating_sub(room)..].to_vec()));
    }
    Ok(all)
}

fn looked(tx: &mut Tx<'_>, saga: &mut Saga, heard: Heard) -> Result<Next> {
    let asked: Asked = saga.state()?;
    if let Heard::Done(value) = heard {
        let news: Vec<(u32, Vec<Told>)> = serde_json::from_value(value).map_err(|e| Error::internal("news can't be read").caused_by(e))?;
        for (parcel, told) in news {
            let told = Track { shipment_id: asked.shipment_id, parcel, told, by: By::system() };
            match track(tx, &told) {
                // More is not kept of it; what it comes to is known from what is.
                Err(error) if error.code() == "shipping.too_much_tracking" => {}
                tracked => drop(tracked?),
            }
        }
    }
    if is_over(shipments::head(tx, asked.shipment_id)?.state) {
        return Ok(Next::Finish);
    }
    Ok(Next::StepAt("look", tx.now().plus_ms(LOOK_MS)))
}
