//! Payments: intents, the providers that are asked for money, and what becomes of both.
//!
//! Promises: a provider is asked under a reference that was written down before, and never under two for one attempt; an outcome that is
//! unknown is asked about until a person is told, never guessed; only an outage or a soft decline leads to another provider; a final state
//! is never left; no more is refunded than was captured, because the ledger refuses it; whatever a provider has moved is in the ledger; a
//! card number is refused before anything keeps or logs it; providers' secrets are sealed.
//! Must never know: what an order is besides its name, what was bought, and the tables of the ledger.

mod adapter;
pub mod api;
mod audits;
mod books;
mod card;
mod commands;
mod known;
mod merchants;
mod metrics;
mod model;
mod queries;
mod rates;
pub mod reconcile;
mod records;
mod routes;
mod routing;
mod service;
mod sql;
#[cfg(test)]
mod tests;
mod workflows;

use web::{EventInfo, InScope, Module, PermissionInfo, Statement};

pub use card::has_card_number;
pub use model::{IntentId, MethodId, OperationId, ProviderId, TaskId};
pub use service::{Payments, PaymentsConfig};
pub use workflows::{AUTHORIZE, EXPIRE, OPERATE};

const MIGRATIONS: &[store::Migration] = &[
    store::Migration { number: 1, name: "first", sql: include_str!("../migrations/0001_first.sql") },
    store::Migration { number: 2, name: "orders", sql: include_str!("../migrations/0002_orders.sql") },
    store::Migration { number: 3, name: "reconciliation", sql: include_str!("../migrations/0003_reconciliation.sql") },
    store::Migration { number: 4, name: "rates", sql: include_str!("../migrations/0004_rates.sql") },
    store::Migration { number: 5, name: "merchants", sql: include_str!("../migrations/0005_merchants.sql") },
    store::Migration { number: 6, name: "callbacks", sql: include_str!("../migrations/0006_callbacks.sql") },
    store::Migration { number: 7, name: "settlement", sql: include_str!("../migrations/0007_settlement.sql") },
    store::Migration { number: 8, name: "methods", sql: include_str!("../migrations/0008_methods.sql") },
    store::Migration { number: 9, name: "records", sql: include_str!("../migrations/0009_records.sql") },
    store::Migration { number: 10, name: "under_way", sql: include_str!("../migrations/0010_under_way.sql") },
];

const PERMISSIONS: &[PermissionInfo] = &[
    PermissionInfo { name: "payments.read", description: "See payments, stored ways to pay, tasks, providers and routing." },
    PermissionInfo { name: "payments.write", description: "Make, confirm, capture and void payments; store ways to pay; close tasks." },
    PermissionInfo { name: "payments.refund", description: "Give payments back." },
    PermissionInfo { name: "payments.settle", description: "Compare settlement files, resolve what differs, and close days." },
    PermissionInfo { name: "payments.configure", description: "Set up providers with their secrets, and the rules of routing." },
];

const EVENTS: &[EventInfo] = &[
    EventInfo { kind: "payment.initiated", version: 1, description: "A payment was made; nobody has been asked yet." },
    EventInfo { kind: "payment.requires_action", version: 1, description: "The customer has to confirm a payment." },
    EventInfo { kind: "payment.authorized", version: 1, description: "A provider set a payment's money aside." },
    EventInfo { kind: "payment.captured", version: 1, description: "Some or all of a payment's money was taken." },
    EventInfo {
        kind: "payment.refunded",
        version: 1,
        description: "Some or all of a payment was given back, on demand or by a lost dispute.",
    },
    EventInfo { kind: "payment.failed", version: 1, description: "Nobody authorised a payment." },
    EventInfo { kind: "payment.voided", version: 1, description: "An authorisation was given up." },
    EventInfo { kind: "payment.expired", version: 1, description: "An authorisation, or the time to confirm, ran out." },
    EventInfo { kind: "payment.disputed", version: 1, description: "The customer contests a payment." },
    EventInfo { kind: "payment.operation_failed", version: 1, description: "A provider refused a capture, void or refund." },
    EventInfo { kind: "payment.recorded", version: 1, description: "Money that moved outside was written down and booked." },
    EventInfo { kind: "settlement.reconciled", version: 1, description: "A provider's settlement file was compared with the payments." },
    EventInfo { kind: "settlement.batch_made", version: 1, description: "Merchants were settled: fees, reserves and payouts are booked." },
    EventInfo { kind: "settlement.closed", version: 1, description: "What a settlement file pays out was booked, and its day closed." },
    EventInfo {
        kind: "payment.needs_attention",
        version: 1,
        description: "A payment is in doubt or contradicts itself: a person has to look.",
    },
];

/// This module, for the application to put together. [`Payments`] has to be put into both the application and the workflows.
pub fn module() -> Module {
    Module {
        permissions: PERMISSIONS,
        routes: routes::routes().into_iter().chain(reconcile::routes()).chain(rates::routes()).chain(merchants::routes()).collect(),
        workflows: workflows::workflows(),
        events: EVENTS,
        statements: statements(),
        audits: audits::audits().into_iter().chain([merchants::AUDIT]).collect(),
        ..Module::new("payments", MIGRATIONS)
    }
}

fn statements() -> Vec<Statement> {
    let plain = sql::STATEMENTS
        .iter()
        .chain(reconcile::sql::STATEMENTS)
        .chain(merchants::sql::STATEMENTS)
        .map(|(name, text)| Statement::new(name, *text, InScope::Tenant));
    let by_engine =
        reconcile::sql::BY_ENGINE.iter().chain(sql::SET_STATEMENTS).map(|(name, text)| Statement::new(name, *text, InScope::Tenant));
    let platform = sql::PLATFORM_STATEMENTS.iter().map(|(name, text)| Statement::new(name, *text, InScope::Platform));
    plain.chain(by_engine).chain(platform).collect()
}
