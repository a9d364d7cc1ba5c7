//! What follows when goods go out, come back, or never go: stock, order and payment are brought to say the same, each by its own
//! commands, in the transaction that takes the event in. `docs/checkout.md` tells it to users.
//!
//! What one of them refuses (an order that somebody has fulfilled by hand, a payment that was refunded already) holds up none of the others: it
//! is told as `fulfilment.refused`, for a person.

use super::checkout::{Sold, sold};
use super::guards::reserved_line;
use inventory::api::{self as stock, Parts};
use kernel::{Actor, Error, ErrorKind, Result};
use log::Consumer;
use orders::OrderId;
use orders::api::{self as orders_api, By, State};
use payments::api as payments_api;
use pricing::api as pricing_api;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use store::{Event, NewEvent, Tx};
use web::EventInfo;

pub(super) const EVENTS: &[EventInfo] = &[EventInfo {
    kind: "fulfilment.refused",
    version: 1,
    description: "Something that follows from goods that went out or came back was refused: a person has to look at the order.",
}];

/// What goes out or arrives, what comes back, what never goes, what was paid.
pub(super) fn consumers() -> Vec<Consumer> {
    vec![
        Consumer::sql("fulfilment.shipments", &["shipment.shipped", "shipment.delivered"], take_in_shipments),
        Consumer::sql("fulfilment.orders", &["order.fulfilled", "order.changed"], take_in_orders),
        Consumer::sql("fulfilment.returns", &["return.inspected", "return.refunded", "return.exchanged"], take_in_returns),
        Consumer::sql("fulfilment.cancelled", &["order.cancelled"], take_in_cancelled),
        Consumer::sql("fulfilment.captures", &["payment.captured"], take_in_captures),
    ]
}

/// Payload of `fulfilment.refused`.
#[derive(Serialize)]
struct Refused<'a> {
    order_id: OrderId,
    /// What it follows from: a shipment, a return or the order.
    cause: &'a str,
    /// `stock`, `order` or `payment`.
    part: &'static str,
    code: &'a str,
    detail: &'a str,
}

/// What follows from an event for one order.
struct Following<'a, 'tx> {
    tx: &'a mut Tx<'tx>,
    order_id: OrderId,
    cause: &'a str,
}

impl Following<'_, '_> {
    /// Does one part of it, or tells that it was refused. Says whether it was done.
    fn part(&mut self, part: &'static str, done: impl FnOnce(&mut Tx<'_>) -> Result<()>) -> Result<bool> {
        match self.tx.attempt(done)? {
            Ok(()) => Ok(true),
            Err(error) if is_refusal(&error) => {
                let refused = Refused { order_id: self.order_id, cause: self.cause, part, code: error.code(), detail: error.detail() };
                self.tx.emit(NewEvent::new("fulfilment.refused", 1, self.order_id, &refused));
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether a rule has said no, rather than the store being in trouble.
fn is_refusal(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Invalid | ErrorKind::NotFound | ErrorKind::Conflict | ErrorKind::FailedPrecondition)
}

fn payload<'e, T: Deserialize<'e>>(event: &'e Event) -> Result<T> {
    let unreadable = |e| Error::internal(format!("event {} has a payload that fulfilment can't read", event.id)).caused_by(e);
    serde_json::from_str(&event.payload).map_err(unreadable)
}

fn by() -> By {
    By { actor: Actor::SYSTEM, request_id: None }
}

/// What matters of a shipment's event.
#[derive(Deserialize)]
struct Shipped {
    order_id: String,
    goods: Option<BTreeMap<u32, i64>>,
}

fn take_in_shipments(tx: &mut Tx<'_>, events: &[Event]) -> Result<()> {
    for event in events {
        let Shipped { order_id, goods } = payload(event)?;
        // Another shop's order: the tenant names what it likes.
        let (Ok(order_id), Some(goods)) = (order_id.parse::<OrderId>(), goods) else { continue };
        if orders_api::head(tx, order_id)?.is_none() {
            continue;
        }
        let mut following = Following { tx, order_id, cause: &event.subject };
        if event.kind == "shipment.shipped" {
            shipped(&mut following, &goods)?;
        } else {
            following.part("order", |tx| orders_api::deliver(tx, order_id, Some(goods), &event.subject, &by()).map(drop))?;
        }
    }
    Ok(())
}

/// Goods went: they are out of the order, and what follows from that comes with its event. What the order refuses (it is on hold, or
/// somebody has fulfilled it by hand) has left all the same, and is out of stock unless it was already.
fn shipped(following: &mut Following<'_, '_>, goods: &BTreeMap<u32, i64>) -> Result<()> {
    let (order_id, cause) = (following.order_id, following.cause);
    if following.part("order", |tx| orders_api::fulfil(tx, order_id, Some(goods.clone()), cause, &by()).map(drop))? {
        return Ok(());
    }
    let Some(sold) = sold(following.tx, order_id)? else { return Ok(()) };
    following.part("stock", |tx| take_out(tx, &sold, cause, |line, _| goods.get(&line).copied().unwrap_or(0)))?;
    following.part("stock", |tx| were_reserved(tx, &sold, goods))?;
    Ok(())
}

/// Refuses goods that went and that the reservation does not have: an edit that came between a shipment and the news of it has let go of
/// them, and they are counted as if they were there.
fn were_reserved(tx: &mut Tx<'_>, sold: &Sold, goods: &BTreeMap<u32, i64>) -> Result<()> {
    let reserved = stock::reservation(tx, &sold.stock_reference)?;
    let held = |line: u32| reserved.lines.iter().find(|own| own.line == reserved_line(line)).map_or(0, |own| own.quantity);
    match goods.iter().find(|(line, quantity)| **quantity > held(**line)) {
        None => Ok(()),
        Some((line, quantity)) => {
            let detail = format!("{quantity} of line {line} went, and {} are reserved: count them", held(*line));
            Err(Error::failed_precondition("fulfilment.not_reserved", detail))
        }
    }
}

/// What matters of an order's event.
#[derive(Deserialize)]
struct Fulfilled {
    reason: Option<String>,
}

/// Goods left an order, by a shipment or by hand: its stock and its payment follow what has gone so far. When it was edited its stock has
/// followed by then, and what has gone may cost something else, or be all that there is.
fn take_in_orders(tx: &mut Tx<'_>, events: &[Event]) -> Result<()> {
    for event in events {
        let (Ok(order_id), Fulfilled { reason }) = (event.subject.parse::<OrderId>(), payload(event)?) else { continue };
        let Some(sold) = sold(tx, order_id)? else { continue };
        let cause = reason.filter(|reason| !reason.is_empty()).unwrap_or_else(|| event.subject.clone());
        let mut following = Following { tx, order_id, cause: &cause };
        if event.kind == "order.fulfilled" {
            let sent = orders_api::progress(following.tx, order_id)?;
            let sent: BTreeMap<u32, i64> = sent.into_iter().map(|line| (line.line, line.shipped)).collect();
            following.part("stock", |tx| take_out(tx, &sold, &cause, |line, gone| sent.get(&line).copied().unwrap_or(0) - gone))?;
        }
        following.part("payment", |tx| capture(tx, order_id, &sold))?;
    }
    Ok(())
}

/// Takes goods of an order out of stock: of each line, by its number and by how many are out already, so many as are still reserved.
fn take_out(tx: &mut Tx<'_>, sold: &Sold, note: &str, wanted: impl Fn(u32, i64) -> i64) -> Result<()> {
    let reserved = stock::reservation(tx, &sold.stock_reference)?;
    let of_line = |line: &stock::ReservedLine| {
        let (gone, open) = reserved.gone_and_open(line.line)?;
        Some((line.line, wanted(line.line + 1, gone).min(open))).filter(|(_, quantity)| *quantity > 0)
    };
    let lines: Vec<(u32, i64)> = reserved.lines.iter().filter_map(of_line).collect();
    if lines.is_empty() {
        return Ok(());
    }
    let shipment = stock::Shipment { reference: sold.stock_reference.clone(), note: note.to_owned(), parts: Parts::Lines(lines) };
    stock::ship(tx, &shipment).map(drop)
}

/// Takes what all that was sent so far costs by the order as it is now, less what was taken for it, as far as it was authorised. While a
/// capture is under way nothing: its outcome comes here again. Of an order of which nothing more goes the rest is let go of.
fn capture(tx: &mut Tx<'_>, order_id: OrderId, sold: &Sold) -> Result<()> {
    let Some(intent_id) = sold.intent_id else { return Ok(()) };
    let capturable_minor = payments_api::capturable(tx, intent_id)?;
    if capturable_minor == 0 {
        return Ok(());
    }
    let Some(order) = orders_api::head(tx, order_id)? else { return Ok(()) };
    let Some(sent_minor) = orders_api::sent_minor(tx, &order)? else { return Ok(()) };
    // What was given back was taken for goods that went, and counts. Nothing is carried over to an order whose payment is open.
    let taken_minor = payments_api::paid_for_order(tx, &order_id.to_string(), order.currency)?.captured_minor;
    let amount_minor = (sent_minor - taken_minor).min(capturable_minor);
    let last = matches!(order.state, State::Fulfilled | State::Closed);
    if amount_minor > 0 {
        return payments_api::capture(tx, intent_id, Some(amount_minor), last);
    }
    if last { payments_api::void(tx, intent_id, "nothing more of the order goes") } else { Ok(()) }
}

/// What matters of a payment's event.
#[derive(Deserialize)]
struct Captured {
    order_id: Option<String>,
}

fn take_in_captures(tx: &mut Tx<'_>, events: &[Event]) -> Result<()> {
    for event in events {
        let captured: Captured = payload(event)?;
        let Some(order_id) = captured.order_id.and_then(|name| name.parse::<OrderId>().ok()) else { continue };
        let Some(sold) = sold(tx, order_id)? else { continue };
        let mut following = Following { tx, order_id, cause: &event.subject };
        following.part("payment", |tx| capture(tx, order_id, &sold))?;
    }
    Ok(())
}

/// What matters of a return's event.
#[derive(Deserialize)]
struct Returned {
    order_id: OrderId,
    refund_minor: i64,
    /// Of an exchange: what counts for the other order.
    #[serde(default)]
    carried_minor: i64,
    back: Option<Vec<Back>>,
}

/// What came back of a line.
#[derive(Deserialize)]
struct Back {
    line: u32,
    restock: i64,
    write_off: i64,
}

fn take_in_returns(tx: &mut Tx<'_>, events: &[Event]) -> Result<()> {
    for event in events {
        let returned: Returned = payload(event)?;
        let Some(sold) = sold(tx, returned.order_id)? else { continue };
        let mut following = Following { tx, order_id: returned.order_id, cause: &event.subject };
        if event.kind != "return.inspected" {
            let back_minor = returned.refund_minor - returned.carried_minor;
            let Some(intent_id) = sold.intent_id.filter(|_| back_minor > 0) else { continue };
            following.part("payment", |tx| payments_api::refund(tx, intent_id, Some(back_minor), &event.subject))?;
            continue;
        }
        for (damaged, quantity) in [(false, (|back| back.restock) as fn(&Back) -> i64), (true, |back| back.write_off)] {
            let lines: Vec<(u32, i64)> = returned
                .back
                .iter()
                .flatten()
                .map(|back| (reserved_line(back.line), quantity(back)))
                .filter(|(_, quantity)| *quantity > 0)
                .collect();
            if !lines.is_empty() {
                following.part("stock", |tx| take_back(tx, &sold, lines, damaged, &event.subject))?;
            }
        }
    }
    Ok(())
}

/// Goods are back where they came from, to be sold again or not.
fn take_back(tx: &mut Tx<'_>, sold: &Sold, lines: Vec<(u32, i64)>, damaged: bool, note: &str) -> Result<()> {
    let reserved = stock::reservation(tx, &sold.stock_reference)?;
    // What is not tracked was never taken out of stock.
    let from = |line: u32| reserved.allocations.iter().find(|part| part.line == line).map(|part| part.location_id);
    let mut places: BTreeMap<inventory::api::LocationId, Vec<(u32, i64)>> = BTreeMap::new();
    for (line, quantity) in lines {
        if let Some(location_id) = from(line) {
            places.entry(location_id).or_default().push((line, quantity));
        }
    }
    for (location_id, lines) in places {
        let reference = sold.stock_reference.clone();
        stock::restock(tx, &stock::Return { reference, note: note.to_owned(), location_id, lines, damaged })?;
    }
    Ok(())
}

/// An order that is called off holds no stock, uses no coupon and keeps nobody's money.
fn take_in_cancelled(tx: &mut Tx<'_>, events: &[Event]) -> Result<()> {
    for event in events {
        let Ok(order_id) = event.subject.parse::<OrderId>() else { continue };
        let mut following = Following { tx, order_id, cause: &event.subject };
        following.part("payment", |tx| nothing_carried(tx, order_id))?;
        let Some(sold) = sold(following.tx, order_id)? else { continue };
        following.part("stock", |tx| stock::release(tx, &sold.stock_reference).map(drop))?;
        following.part("order", |tx| pricing_api::give_back(tx, &sold.checkout_name))?;
        if let Some(intent_id) = sold.intent_id {
            following.part("payment", |tx| payments_api::give_back(tx, intent_id, "the order was cancelled"))?;
        }
    }
    Ok(())
}

/// Refuses to call it done when an exchange has paid for an order that was called off: nothing gives that back by itself.
fn nothing_carried(tx: &mut Tx<'_>, order_id: OrderId) -> Result<()> {
    let carried_minor = orders_api::carried(tx, order_id)?;
    if carried_minor <= 0 {
        return Ok(());
    }
    let detail = format!("an exchange has carried {carried_minor} minor units over to it: give them back");
    Err(Error::failed_precondition("fulfilment.carried_over", detail))
}

/// Those of these orders that were called off.
pub(super) fn cancelled(tx: &mut Tx<'_>, order_ids: Vec<OrderId>) -> Result<HashSet<OrderId>> {
    if order_ids.is_empty() {
        return Ok(HashSet::new());
    }
    let called_off = orders_api::heads(tx, &order_ids)?.into_iter().filter(|order| order.state == State::Cancelled);
    Ok(called_off.map(|order| order.order_id).collect())
}
