//! Carts: what somebody means to buy, until it is an order or forgotten.
//!
//! Promises: a cart is reached by one of its tokens, which are stored as hashes, or as its customer's, and by nobody else: to them it is
//! not there; a customer has one cart that is not over; a version rises with every change, and whoever names the one that was seen
//! changes or checks out that one or nothing; lines and quantities have bounds; merging twice is merging once; that a cart was abandoned
//! is told once; what is over is forgotten in time.
//! Must never know: the catalog, stock, prices, promotions, tax, shipping or payment. What a line's owner was last shown is kept as it
//! was told, and [`api::revalidate`] says what is different now.

pub mod api;
mod audits;
mod commands;
mod error;
mod events;
mod merge;
mod model;
mod queries;
mod revalidate;
mod routes;
mod sql;
#[cfg(test)]
mod tests;
mod token;
mod workflows;

use web::{InScope, Module, PermissionInfo, Statement};

pub use model::{CartId, CustomerId, OrderId, VariantId};
pub use workflows::SWEEP;

const MIGRATIONS: &[store::Migration] = &[
    store::Migration { number: 1, name: "first", sql: include_str!("../migrations/0001_first.sql") },
    store::Migration { number: 2, name: "lists", sql: include_str!("../migrations/0002_lists.sql") },
];

const PERMISSIONS: &[PermissionInfo] = &[
    PermissionInfo { name: "carts.read", description: "See carts, and how long they are kept." },
    PermissionInfo { name: "carts.write", description: "Open customers' carts for them, and set how long carts are kept." },
];

/// The module, as plain data.
pub fn module() -> Module {
    Module {
        permissions: PERMISSIONS,
        routes: routes::routes(),
        workflows: workflows::workflows(),
        events: events::EVENTS,
        statements: sql::STATEMENTS.iter().map(|(name, text)| Statement::new(name, *text, InScope::Tenant)).collect(),
        audits: audits::audits(),
        ..Module::new("carts", MIGRATIONS)
    }
}
