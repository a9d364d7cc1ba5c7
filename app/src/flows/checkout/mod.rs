//! The checkout: from a cart, or from a button that says "buy now", to a paid order.
//!
//! Promises: what is bought is priced, reserved and begun to be paid in one transaction, or nothing of it is; no stock is locked while a
//! provider is asked; there is one order for a checkout, and one checkout at a time for a cart, whatever comes first, twice or late: the
//! answer to the shopper's request, a provider's callback, the end of the reservation; a checkout that does not become an order leaves
//! nothing reserved, no coupon used and nobody's money taken.
//!
//! Its steps: [`begin`] reserves, prices, takes coupons and begins the payment, whose saga (of the module `payments`) does all that is
//! outside; [`heard`] takes the payment's outcome in from the log; [`place`] ends it one way or the other. `docs/checkout.md` lists every
//! state in which it can end.

mod audit;
mod begin;
mod heard;
mod model;
mod place;
mod routes;
mod sql;
#[cfg(test)]
mod tests;
mod view;

use kernel::Result;
use model::{CheckoutId, State};
use orders::OrderId;
use payments::api::IntentId;
use store::{Change, Observer, Read, Store};
use web::{Audit, AuditCheck, Module, PermissionInfo, Waiters};

const MIGRATIONS: &[store::Migration] = &[store::Migration { number: 1, name: "first", sql: include_str!("migrations/0001_first.sql") }];

const PERMISSIONS: &[PermissionInfo] = &[
    PermissionInfo { name: "checkout.read", description: "See checkouts, and how they work." },
    PermissionInfo { name: "checkout.cancel", description: "Give a shopper's checkout up that is not paid yet." },
    PermissionInfo { name: "checkout.configure", description: "Set how checkouts work." },
];

/// Requests that wait for a checkout; a part of the application.
#[derive(Clone, Default)]
pub(crate) struct Checkouts(Waiters);

impl Checkouts {
    /// Tells those who wait when this process commits what they wait for.
    pub(crate) fn follow(&self, store: &Store) {
        let waiters = self.0.clone();
        let number = |change: &Change| match change.kind.as_str() {
            "order.placed" => change.subject.parse().ok().map(OrderId::as_i64),
            "checkout.failed" => change.subject.parse().ok().map(CheckoutId::as_i64),
            _ => change.subject.parse().ok().map(IntentId::as_i64),
        };
        let observe = move |changes: &[Change]| changes.iter().filter_map(number).for_each(|id| waiters.tell(id));
        let kinds = vec!["order.placed", "checkout.failed", "payment.requires_action"];
        store.observe(Observer { kinds, observe: Box::new(observe) });
    }
}

/// What an order came from, for what follows it.
pub(crate) struct Sold {
    /// The checkout's id, as coupons know it.
    pub checkout_name: String,
    /// What its stock is reserved under; line `n` of the order is the reservation's line `n - 1`.
    pub stock_reference: String,
    /// Its payment, if anything was paid.
    pub intent_id: Option<IntentId>,
}

/// The checkout that has become this order, if one has.
pub(crate) fn sold(read: &mut Read<'_>, order_id: OrderId) -> Result<Option<Sold>> {
    let checkout = place::load(read, CheckoutId::from_i64(order_id.as_i64()))?;
    Ok(checkout.filter(|checkout| checkout.state == State::Completed).map(|checkout| Sold {
        checkout_name: checkout.checkout_id.to_string(),
        stock_reference: checkout.stock_reference,
        intent_id: checkout.intent_id,
    }))
}

/// The checkout, as a module with tables.
pub(crate) fn module() -> Module {
    Module {
        permissions: PERMISSIONS,
        routes: routes::routes(),
        consumers: vec![heard::PAYMENTS, heard::STOCK],
        events: place::EVENTS,
        statements: sql::statements(),
        caches: Some(view::CACHES),
        audits: vec![Audit { name: "checkout.orders_stock_and_payments_agree", check: AuditCheck::Tenant(audit::agree) }],
        ..Module::new("checkout", MIGRATIONS)
    }
}
