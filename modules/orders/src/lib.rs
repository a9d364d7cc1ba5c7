//! Orders: customers, orders, credit notes, adjustments, returns, and the daily sales report.
//!
//! Promises: a line is kept as it was sold, whatever becomes of the catalog; an order's total is the sum of its lines' totals, to the
//! minor unit; nothing is rewritten: each edit, fulfilment, cancellation and credit is a version of its own with who, why and what;
//! numbers are unique and rising for each tenant and kind of document; an external reference names one document for ever; the daily
//! sales are the sum of the events, equal to a recount of the documents; no more comes back than went out, and what is refunded of a line
//! adds up to the line, to the minor unit, whatever its parts; what is on hold does not go.
//! Must never know: stock, payment, tax rules, and the tables of the catalog.

pub mod api;
mod audits;
mod cache;
mod care;
mod commands;
mod consumers;
mod customers;
mod error;
mod model;
mod queries;
mod returns;
mod routes;
mod sql;
#[cfg(test)]
mod tests;
mod write;

use web::{EventInfo, InScope, Module, PermissionInfo, Statement};

pub use model::{AddressId, AdjustmentId, CreditNoteId, CustomerId, DocumentKind, OrderId, State};

const MIGRATIONS: &[store::Migration] = &[
    store::Migration { number: 1, name: "first", sql: include_str!("../migrations/0001_first.sql") },
    store::Migration { number: 2, name: "included_tax", sql: include_str!("../migrations/0002_included_tax.sql") },
    store::Migration { number: 3, name: "returns", sql: include_str!("../migrations/0003_returns.sql") },
    store::Migration { number: 4, name: "exchanges", sql: include_str!("../migrations/0004_exchanges.sql") },
];

const PERMISSIONS: &[PermissionInfo] = &[
    PermissionInfo { name: "orders.read", description: "See orders, credit notes and adjustments." },
    PermissionInfo {
        name: "orders.write",
        description: "Place, edit, fulfil, close and cancel orders; issue credit notes and record adjustments.",
    },
    PermissionInfo { name: "customers.read", description: "See customers and their addresses." },
    PermissionInfo { name: "customers.write", description: "Create and change customers and their addresses." },
    PermissionInfo { name: "reports.read", description: "See sales reports." },
];

const EVENTS: &[EventInfo] = &[
    EventInfo { kind: "order.drafted", version: 1, description: "A draft of an order was written down." },
    EventInfo { kind: "order.placed", version: 1, description: "An order was placed, or imported." },
    EventInfo { kind: "order.changed", version: 1, description: "An order's lines, country or customer were edited." },
    EventInfo { kind: "order.fulfilled", version: 1, description: "Some or all of an order's goods went out." },
    EventInfo { kind: "order.closed", version: 1, description: "An order was closed." },
    EventInfo { kind: "order.cancelled", version: 1, description: "An order was cancelled." },
    EventInfo { kind: "order.held", version: 1, description: "An order was put on hold: nothing of it goes." },
    EventInfo { kind: "order.released", version: 1, description: "An order that was on hold may go." },
    EventInfo { kind: "order.delivered", version: 1, description: "Goods of an order arrived." },
    EventInfo { kind: "order.tagged", version: 1, description: "An order's tags were changed." },
    EventInfo { kind: "order.exchanged_for", version: 1, description: "An order took the place of what came back of another one." },
    EventInfo { kind: "return.requested", version: 1, description: "A return was asked for." },
    EventInfo { kind: "return.approved", version: 1, description: "A return may come." },
    EventInfo { kind: "return.rejected", version: 1, description: "A return may not come." },
    EventInfo { kind: "return.cancelled", version: 1, description: "A return doesn't come after all." },
    EventInfo { kind: "return.received", version: 1, description: "A return came." },
    EventInfo { kind: "return.inspected", version: 1, description: "A return was inspected: what may be sold again." },
    EventInfo { kind: "return.refunded", version: 1, description: "A return was credited." },
    EventInfo { kind: "return.exchanged", version: 1, description: "A return was credited, and another order takes its place." },
    EventInfo { kind: "return.closed", version: 1, description: "A return ended without money." },
    EventInfo { kind: "credit_note.issued", version: 1, description: "A credit note was issued, or imported." },
    EventInfo { kind: "adjustment.recorded", version: 1, description: "An adjustment was recorded, or imported." },
    EventInfo { kind: "customer.created", version: 1, description: "A customer was created." },
    EventInfo { kind: "customer.changed", version: 1, description: "A customer or its addresses were changed." },
];

/// This module, for the application to put together.
pub fn module() -> Module {
    Module {
        permissions: PERMISSIONS,
        routes: [routes::routes(), care::routes::routes(), returns::routes::routes()].into_iter().flatten().collect(),
        consumers: vec![consumers::DAILY_SALES],
        events: EVENTS,
        statements: statements(),
        audits: audits::audits(),
        caches: Some(cache::CACHES),
        ..Module::new("orders", MIGRATIONS)
    }
}

/// The tables that PostgreSQL keeps in a partition a month, by the time in their documents' ids; each has a default partition
/// `<table>_default`.
pub fn partitioned_tables() -> &'static [&'static str] {
    &["orders_orders", "orders_lines"]
}

fn statements() -> Vec<Statement> {
    let tenant = |(name, sql): &(&'static str, store::Sql)| Statement::new(name, *sql, InScope::Tenant);
    let mut all: Vec<Statement> = sql::TENANT_STATEMENTS.iter().map(tenant).collect();
    let more = care::sql::STATEMENTS.iter().chain(returns::sql::STATEMENTS);
    all.extend(more.map(|(name, sql)| Statement::new(name, *sql, InScope::Tenant)));
    all.extend(returns::sql::BY_ENGINE.iter().map(tenant));
    all.push(Statement::new("RESET_SALES", sql::RESET_SALES, InScope::Platform));
    all
}
