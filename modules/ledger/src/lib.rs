//! The ledger: immutable double entry.
//!
//! Promises: debits and credits of each transaction and currency are equal; nothing that was recorded is changed or removed, and what was
//! wrong is taken back by a new transaction; a balance is the sum of its entries at every moment, now and in the past; what is held is
//! not available to anybody else, and an expired hold holds nothing; no account goes beyond its limit; a key and an external reference
//! happen once, for ever; guards are asked in one documented order, and each has one named outcome.
//! Must never know: payments, wallets, orders, or what anybody buys.

pub mod api;
mod audits;
mod batch;
mod books;
mod chain;
mod commands;
mod decimal;
mod engine;
mod error;
mod hledger;
mod load;
mod model;
mod queries;
mod routes;
mod sql;
#[cfg(test)]
mod tests;
mod wire;
mod write;

use web::{EventInfo, InScope, Module, PermissionInfo, Statement};

pub use model::*;

const MIGRATIONS: &[store::Migration] = &[
    store::Migration { number: 1, name: "first", sql: include_str!("../migrations/0001_first.sql") },
    store::Migration { number: 2, name: "tail", sql: include_str!("../migrations/0002_tail.sql") },
    store::Migration { number: 3, name: "seals", sql: include_str!("../migrations/0003_seals.sql") },
    store::Migration { number: 4, name: "effective", sql: include_str!("../migrations/0004_effective.sql") },
    store::Migration { number: 5, name: "managed", sql: include_str!("../migrations/0005_managed.sql") },
    store::Migration { number: 6, name: "looked_after", sql: include_str!("../migrations/0006_looked_after.sql") },
    store::Migration { number: 7, name: "shifted", sql: include_str!("../migrations/0007_shifted.sql") },
];

const PERMISSIONS: &[PermissionInfo] = &[
    PermissionInfo { name: "ledger.read", description: "See accounts, balances, transactions and statements." },
    PermissionInfo { name: "ledger.write", description: "Post, hold, capture, void, reverse and exchange." },
    PermissionInfo { name: "ledger.admin", description: "Open, freeze and close accounts, and set their limits." },
];

const EVENTS: &[EventInfo] = &[
    EventInfo { kind: "ledger.account_opened", version: 1, description: "An account was opened." },
    EventInfo { kind: "ledger.account_changed", version: 1, description: "An account was renamed, frozen, closed or given another limit." },
    EventInfo { kind: "ledger.limit_changed", version: 1, description: "A velocity limit was set." },
    EventInfo { kind: "ledger.transaction_posted", version: 1, description: "A transaction was posted: also a capture or a reversal." },
    EventInfo { kind: "ledger.hold_placed", version: 1, description: "An amount was set aside." },
    EventInfo { kind: "ledger.hold_released", version: 1, description: "What was left of a hold was let go of: voided or expired." },
    EventInfo {
        kind: "ledger.batch_posted",
        version: 1,
        description: "Several transactions of one bulk were posted; it names the first and the last.",
    },
];

/// This module, for the application to put together.
pub fn module() -> Module {
    Module {
        permissions: PERMISSIONS,
        routes: routes::routes(),
        events: EVENTS,
        statements: statements(),
        audits: audits::audits(),
        ..Module::new("ledger", MIGRATIONS)
    }
}

fn statements() -> Vec<Statement> {
    let tenant = |(name, sql): &(&'static str, store::Sql)| Statement::new(name, *sql, InScope::Tenant);
    let mut all: Vec<Statement> = sql::TENANT_STATEMENTS.iter().map(tenant).collect();
    all.push(Statement::new("TENANTS_WITH_DUE_HOLDS", sql::TENANTS_WITH_DUE_HOLDS, InScope::Platform));
    all.push(Statement::new("TENANTS_TO_SEAL", sql::TENANTS_TO_SEAL, InScope::Platform));
    all
}
