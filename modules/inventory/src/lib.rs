//! Inventory: what there is of each item, where it is, and who has it reserved.
//!
//! Promises: what is reserved was available when it was reserved, or the item's policy allows more up to its limit; a demand is held
//! entirely or not at all, and once for each reference; a reservation that nobody confirms lets go of what it holds soon after its time; each
//! change of a level is an entry of an append-only ledger of stock, whose sums are the levels; what is reserved is the sum of what open
//! reservations hold.
//! Must never know: products, prices, orders, payments, and the tables of any other module. Of a variant it knows only the id.

mod allocate;
mod amend;
pub mod api;
mod audits;
mod book;
mod counts;
mod error;
mod events;
mod fulfil;
mod items;
mod levels;
mod model;
mod reserve;
mod routes;
mod sql;
#[cfg(test)]
mod tests;
mod transfers;
mod workflows;

use web::{Module, PermissionInfo};

pub use model::{CountId, ItemId, LocationId, MovementId, TransferId, VariantId};
pub use workflows::EXPIRE;

const MIGRATIONS: &[store::Migration] = &[
    store::Migration { number: 1, name: "first", sql: include_str!("../migrations/0001_first.sql") },
    store::Migration { number: 2, name: "under_way", sql: include_str!("../migrations/0002_under_way.sql") },
];

const PERMISSIONS: &[PermissionInfo] = &[
    PermissionInfo {
        name: "inventory.read",
        description: "See items, locations, levels, movements, reservations, transfers and stock takes.",
    },
    PermissionInfo {
        name: "inventory.write",
        description: "Make and change items and locations, change levels, reserve, ship, take back, transfer and count stock.",
    },
];

/// This module, for the application to put together.
pub fn module() -> Module {
    Module {
        permissions: PERMISSIONS,
        routes: routes::routes(),
        workflows: workflows::workflows(),
        events: events::EVENTS,
        statements: sql::statements(),
        audits: audits::audits(),
        ..Module::new("inventory", MIGRATIONS)
    }
}
