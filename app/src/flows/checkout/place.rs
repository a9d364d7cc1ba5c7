//! How a checkout ends: the one way in which it becomes an order, and the one in which it does not, whoever brings the news: the answer
//! to the shopper's own request, a provider's callback, or time.

use super::model::{Act, Checkout, CheckoutId, Heard, State, decide, order_of};
use super::sql;
use crate::flows::fulfilment::cancelled;
use carts::api as carts_api;
use inventory::api::{self as stock, Confirmation, Demand};
use kernel::{Error, ErrorKind, Result};
use orders::api::{self as orders_api, By, NewOrder};
use payments::api::{self as payments_api, IntentId};
use pricing::api as pricing_api;
use serde::Serialize;
use std::collections::HashSet;
use store::{NewEvent, Read, Tx};

/// The events of this flow.
pub(super) const EVENTS: &[web::EventInfo] = &[
    web::EventInfo { kind: "checkout.failed", version: 1, description: "A checkout ended without an order; what it held is free again." },
    web::EventInfo {
        kind: "checkout.payment_lost",
        version: 1,
        description: "The payment of a placed order was let go of, has run out or could not be taken: a person has to look at the order.",
    },
    web::EventInfo {
        kind: "checkout.payment_kept",
        version: 1,
        description: "A checkout failed, and what was paid for it can't be given back by itself: a person has to look at the payment.",
    },
];

/// Payload of each.
#[derive(Serialize)]
struct Told<'a> {
    checkout_id: CheckoutId,
    reason: &'a str,
}

/// A checkout, if it is there.
pub(super) fn load(read: &mut Read<'_>, checkout_id: CheckoutId) -> Result<Option<Checkout>> {
    read.opt(sql::CHECKOUT, (checkout_id,))
}

/// Those of them that there are, in no order.
pub(super) fn load_all(read: &mut Read<'_>, checkouts: Vec<CheckoutId>) -> Result<Vec<Checkout>> {
    if checkouts.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<i64> = checkouts.into_iter().map(CheckoutId::as_i64).collect();
    read.all(sql::CHECKOUTS, (ids,))
}

/// Takes in what was heard of a checkout. One that there is not is somebody else's order.
pub(super) fn hear(tx: &mut Tx<'_>, checkout_id: CheckoutId, heard: Heard, reason: &str, by: &By) -> Result<()> {
    let Some(checkout) = &load(tx, checkout_id)? else { return Ok(()) };
    match decide(checkout.state, heard) {
        Act::Place => place_paid(tx, &[checkout], by).map(drop),
        Act::Release => release(tx, checkout, if checkout.reason.is_empty() { reason } else { &checkout.reason }),
        Act::GiveBack => {
            // Kept until the payment is gone: that it was let go of is not why.
            if checkout.state == State::Paying && checkout.reason.is_empty() {
                end(tx, checkout, State::Paying, reason, &checkout.stock_reference)?;
            }
            give_back(tx, checkout, reason)
        }
        // An order that was called off has let its payment go itself.
        Act::Tell if is_cancelled(tx, checkout_id)? => Ok(()),
        Act::Tell => {
            end(tx, checkout, State::Completed, reason, &checkout.stock_reference)?;
            tell(tx, "checkout.payment_lost", checkout, reason);
            Ok(())
        }
        Act::TellKept => {
            tell(tx, "checkout.payment_kept", checkout, reason);
            Ok(())
        }
        // What was being taken when the order was called off.
        Act::Nothing if (checkout.state, heard) == (State::Completed, Heard::Paid) && is_cancelled(tx, checkout_id)? => {
            give_back(tx, checkout, "the order was cancelled")
        }
        Act::Nothing => Ok(()),
    }
}

fn is_cancelled(tx: &mut Tx<'_>, checkout_id: CheckoutId) -> Result<bool> {
    Ok(!cancelled(tx, vec![order_of(checkout_id)])?.is_empty())
}

/// Places those of them whose payment was not given up meanwhile: of one that is on its way back it is heard what that comes to. Which
/// ones have become orders.
pub(super) fn place_paid(tx: &mut Tx<'_>, checkouts: &[&Checkout], by: &By) -> Result<HashSet<CheckoutId>> {
    let payments: Vec<IntentId> = checkouts.iter().filter_map(|checkout| checkout.intent_id).collect();
    let given_back = payments_api::given_back(tx, &payments)?;
    let stands = |checkout: &&&Checkout| checkout.intent_id.is_none_or(|intent_id| !given_back.contains(&intent_id));
    place(tx, &checkouts.iter().filter(stands).copied().collect::<Vec<_>>(), by)
}

/// Confirms what is reserved for them and places their orders. Stock whose time was over is reserved anew; when it is gone, the payment is
/// given back. Which ones have become orders.
pub(super) fn place(tx: &mut Tx<'_>, checkouts: &[&Checkout], by: &By) -> Result<HashSet<CheckoutId>> {
    if checkouts.is_empty() {
        return Ok(HashSet::new());
    }
    let confirmed = stock::confirm_all(tx, checkouts.iter().map(|checkout| checkout.stock_reference.clone()).collect())?;
    let mut held: Vec<(&Checkout, String)> = Vec::with_capacity(checkouts.len());
    for checkout in checkouts {
        let reference = match confirmed.get(&checkout.stock_reference) {
            Some(Confirmation::Confirmed) => Some(checkout.stock_reference.clone()),
            _ => reserved_anew(tx, checkout)?,
        };
        match reference {
            Some(reference) => held.push((checkout, reference)),
            None => {
                release(tx, checkout, "stock_gone")?;
                give_back(tx, checkout, "stock_gone")?;
            }
        }
    }
    let order = |(checkout, _): &(&Checkout, String)| NewOrder {
        order_id: order_of(checkout.checkout_id),
        customer_id: checkout.customer_id,
        country: checkout.agreed.destination.country.clone(),
        currency: checkout.currency,
        lines: checkout.agreed.lines.clone(),
        by: by.clone(),
    };
    orders_api::place_all(tx, held.iter().map(order).collect())?;
    for (checkout, reference) in &held {
        if !checkout.agreed.priced.promotions.is_empty() {
            pricing_api::keep(tx, &checkout.checkout_id.to_string())?;
        }
        if let Some((cart_id, _)) = checkout.cart {
            carts_api::ordered(tx, cart_id, carts::OrderId::from_i64(checkout.checkout_id.as_i64()))?;
        }
        end(tx, checkout, State::Completed, "", reference)?;
    }
    Ok(held.iter().map(|(checkout, _)| checkout.checkout_id).collect())
}

/// The reference under which stock is reserved for it once more; none when it is gone.
fn reserved_anew(tx: &mut Tx<'_>, checkout: &Checkout) -> Result<Option<String>> {
    let lines =
        checkout.agreed.lines.iter().filter_map(|line| Some((stock::VariantId::from_i64(line.variant_id?.as_i64()), line.quantity)));
    let reference = format!("{}.again", checkout.checkout_id);
    let demand = Demand { reference: reference.clone(), lines: lines.collect(), expires_at: None, destination: None };
    match stock::reserve(tx, &demand) {
        Ok(_) => Ok(Some(reference)),
        Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::FailedPrecondition) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Ends it without an order: whatever it held is free again.
fn release(tx: &mut Tx<'_>, checkout: &Checkout, reason: &str) -> Result<()> {
    stock::release(tx, &checkout.stock_reference)?;
    if !checkout.agreed.priced.promotions.is_empty() {
        pricing_api::release(tx, &checkout.checkout_id.to_string())?;
    }
    if let Some((cart_id, attempt)) = checkout.cart {
        carts_api::reopen(tx, cart_id, attempt)?;
    }
    end(tx, checkout, State::Failed, reason, &checkout.stock_reference)?;
    tell(tx, "checkout.failed", checkout, reason);
    Ok(())
}

/// The payment is let go of, or refunded. One that a provider is being asked for goes on: what it comes to is heard. Of a checkout that is
/// being paid, the event that the payment is gone is what ends it. What payments refuse is told to a person, and holds up nothing.
fn give_back(tx: &mut Tx<'_>, checkout: &Checkout, reason: &str) -> Result<()> {
    let Some(intent_id) = checkout.intent_id else { return Ok(()) };
    match tx.attempt(|tx| payments_api::give_back(tx, intent_id, reason))? {
        Ok(()) => Ok(()),
        Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::FailedPrecondition) => {
            tell(tx, "checkout.payment_kept", checkout, error.code());
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Writes down where it stands, and why.
fn end(tx: &mut Tx<'_>, checkout: &Checkout, state: State, reason: &str, stock_reference: &str) -> Result<()> {
    let now = tx.now();
    let row = (checkout.checkout_id, checkout.state.as_str(), state.as_str(), reason, stock_reference, now);
    tx.must(sql::END, row, || Error::internal("a checkout was ended by two commands at once"))
}

fn tell(tx: &mut Tx<'_>, kind: &'static str, checkout: &Checkout, reason: &str) {
    let told = Told { checkout_id: checkout.checkout_id, reason };
    tx.emit(NewEvent::new(kind, 1, checkout.checkout_id, &told));
}
