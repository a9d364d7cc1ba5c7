//! What a checkout hears by the log: of its payment, and of its stock.

use super::model::{CheckoutId, Heard, of_order_name};
use super::place::{hear, hear_of, load};
use kernel::{Actor, Error, Result};
use log::Consumer;
use orders::api::By;
use payments::api::IntentId;
use serde::Deserialize;
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

fn take_in_payments(tx: &mut Tx<'_>, events: &[Event]) -> Result<()> {
    for event in events {
        let payment: Payment = payload(event)?;
        let Some(checkout_id) = payment.order_id.as_deref().and_then(of_order_name) else { continue };
        let operation = payment.operation.as_ref().map_or("", |operation| &operation.kind);
        let (heard, reason) = match (event.kind.as_str(), operation) {
            ("payment.authorized" | "payment.captured", _) => (Heard::Paid, "late"),
            ("payment.failed", _) => (Heard::Unpaid, payment.failure.as_deref().unwrap_or("payment_failed")),
            ("payment.expired", _) => (Heard::Unpaid, "payment_expired"),
            ("payment.voided", _) => (Heard::Unpaid, "payment_voided"),
            ("payment.refunded", _) if payment.refunded_minor >= payment.captured_minor => (Heard::Refunded, "payment_refunded"),
            ("payment.operation_failed", "capture") => (Heard::NotTaken, "capture_failed"),
            ("payment.operation_failed", "refund") => (Heard::NotRefunded, "refund_failed"),
            _ => continue,
        };
        // Somebody may have been asked for another payment of the same order: that is no business of the checkout's.
        if let Some(checkout) = load(tx, checkout_id)?.filter(|checkout| checkout.intent_id == Some(payment.intent_id)) {
            hear_of(tx, &checkout, heard, reason, &by())?;
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
