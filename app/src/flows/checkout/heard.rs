//! What a checkout hears by the log: of its payment, and of its stock.

use super::model::{Act, Checkout, CheckoutId, Heard, State, decide, of_order_name, order_of};
use super::place::{hear, load_all, place_paid};
use crate::flows::fulfilment::cancelled;
use kernel::{Actor, Error, Result};
use log::Consumer;
use orders::api::By;
use payments::api::IntentId;
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use store::{Event, Tx};

/// Payments that move: the order is placed in the transaction that takes the event in, as many at once as there are.
pub(super) const PAYMENTS: Consumer = Consumer::sql(
    "checkout.payments",
    &[
        "payment.authorized",
        "payment.captured",
        "payment.failed",
        "payment.voided",
        "payment.expired",
        "payment.refunded",
        "payment.operation_failed",
    ],
    take_in_payments,
);

/// Reservations that nobody has confirmed in time.
pub(super) const STOCK: Consumer = Consumer::sql("checkout.stock", &["stock.reservation_expired"], take_in_stock);

/// What matters of a payment's event.
#[derive(Deserialize)]
struct Payment {
    intent_id: IntentId,
    order_id: Option<String>,
    failure: Option<String>,
    captured_minor: i64,
    refunded_minor: i64,
    operation: Option<Operation>,
}

/// What matters of a capture, a void or a refund.
#[derive(Deserialize)]
struct Operation {
    kind: String,
}

/// What matters of a reservation's event.
#[derive(Deserialize)]
struct Reservation {
    reference: String,
}

fn by() -> By {
    By { actor: Actor::SYSTEM, request_id: None }
}

fn payload<'e, T: Deserialize<'e>>(event: &'e Event) -> Result<T> {
    let unreadable = |e| Error::internal(format!("event {} has a payload that checkouts can't read", event.id)).caused_by(e);
    serde_json::from_str(&event.payload).map_err(unreadable)
}

/// What was heard of a checkout's payment.
struct News {
    checkout_id: CheckoutId,
    intent_id: IntentId,
    heard: Heard,
    reason: String,
}

impl News {
    /// None when it is about nothing that a checkout waits for.
    fn of(event: &Event) -> Result<Option<News>> {
        let payment: Payment = payload(event)?;
        let Some(checkout_id) = payment.order_id.as_deref().and_then(of_order_name) else { return Ok(None) };
        let operation = payment.operation.as_ref().map_or("", |operation| &operation.kind);
        let (heard, reason) = match (event.kind.as_str(), operation) {
            ("payment.authorized" | "payment.captured", _) => (Heard::Paid, "late"),
            ("payment.failed", _) => (Heard::Unpaid, payment.failure.as_deref().unwrap_or("payment_failed")),
            ("payment.expired", _) => (Heard::Unpaid, "payment_expired"),
            ("payment.voided", _) => (Heard::Unpaid, "payment_voided"),
            ("payment.refunded", _) if payment.refunded_minor >= payment.captured_minor => (Heard::Refunded, "payment_refunded"),
            ("payment.operation_failed", "capture") => (Heard::NotTaken, "capture_failed"),
            ("payment.operation_failed", "refund") => (Heard::NotRefunded, "refund_failed"),
            _ => return Ok(None),
        };
        Ok(Some(News { checkout_id, intent_id: payment.intent_id, heard, reason: reason.to_owned() }))
    }
}

/// Checkouts of which nothing was heard before they are paid are placed together, and what changes nothing is passed by together; the rest
/// is taken in one by one. The news of one checkout keep their order; that of different ones does not matter.
fn take_in_payments(tx: &mut Tx<'_>, events: &[Event]) -> Result<()> {
    let news: Vec<News> = events.iter().filter_map(|event| News::of(event).transpose()).collect::<Result<_>>()?;
    let checkouts = load_all(tx, news.iter().map(|of| of.checkout_id).collect())?;
    let checkouts: HashMap<CheckoutId, Checkout> = checkouts.into_iter().map(|checkout| (checkout.checkout_id, checkout)).collect();
    let (mut paid, mut rest) = (Vec::new(), Vec::new());
    let mut heard = HashSet::new();
    for of in &news {
        // Somebody may have been asked for another payment of the same order: that is no business of the checkout's.
        let Some(checkout) = checkouts.get(&of.checkout_id).filter(|checkout| checkout.intent_id == Some(of.intent_id)) else { continue };
        let first = heard.insert(of.checkout_id);
        match decide(checkout.state, of.heard) {
            Act::Place if first => paid.push(checkout),
            _ => rest.push((checkout, of)),
        }
    }
    let placed = place_paid(tx, &paid, &by())?;
    let taken = |checkout: &Checkout, of: &News| checkout.state == State::Completed && of.heard == Heard::Paid;
    let orders = rest.iter().filter(|(checkout, of)| taken(checkout, of)).map(|(checkout, _)| order_of(checkout.checkout_id));
    let cancelled = cancelled(tx, orders.collect())?;
    for (checkout, of) in rest {
        let stands = taken(checkout, of) && !cancelled.contains(&order_of(checkout.checkout_id));
        if !(stands || of.heard == Heard::Paid && placed.contains(&checkout.checkout_id)) {
            hear(tx, checkout.checkout_id, of.heard, &of.reason, &by())?;
        }
    }
    Ok(())
}

fn take_in_stock(tx: &mut Tx<'_>, events: &[Event]) -> Result<()> {
    for event in events {
        let reservation: Reservation = payload(event)?;
        let Ok(checkout_id) = reservation.reference.parse::<CheckoutId>() else { continue };
        hear(tx, checkout_id, Heard::StockExpired, "expired", &by())?;
    }
    Ok(())
}
