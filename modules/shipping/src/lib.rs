//! Shipping: zones, methods and rates with their quotes; shipments, parcels and what becomes of them on their way; carriers and labels.
//!
//! Promises: an address lies in one zone; a quote is a pure function of the rates, and where nothing can be shipped the field that stands
//! in the way is named; a shipment's state moves only as its table says, each change is a version with who and why, and an event; what a
//! carrier tells is taken in once, in whatever order it comes, and the shipment stands where that says; labels are asked for under one key
//! and bought once, whatever becomes of the answer; carriers' secrets are sealed, and nobody else's addresses are called.
//! Must never know: orders, stock, payment, the catalog. An order is a text and its lines are numbers.

pub mod api;
mod audits;
mod carriers;
mod error;
mod rates;
mod shipments;
#[cfg(test)]
mod tests;
mod words;

use web::{EventInfo, InScope, Module, PermissionInfo, Statement};

pub use carriers::model::CarrierId;
pub use carriers::service::{Shipping, ShippingConfig};
pub use carriers::workflows::{LABEL, VOID, WATCH};
pub use rates::model::{MethodId, ZoneId};
pub use shipments::model::ShipmentId;

const MIGRATIONS: &[store::Migration] = &[
    store::Migration { number: 1, name: "first", sql: include_str!("../migrations/0001_first.sql") },
    store::Migration { number: 2, name: "carriers", sql: include_str!("../migrations/0002_carriers.sql") },
    store::Migration { number: 3, name: "asked_where", sql: include_str!("../migrations/0003_asked_where.sql") },
];

const PERMISSIONS: &[PermissionInfo] = &[
    PermissionInfo { name: "shipping.read", description: "See shipping zones, methods, rates, quotes and shipments." },
    PermissionInfo { name: "shipping.write", description: "Set shipping zones, methods and rates; make shipments and move them on." },
    PermissionInfo { name: "shipping.configure", description: "Set up the carriers that are asked for labels." },
];

const EVENTS: &[EventInfo] = &[
    EventInfo { kind: "shipping_zone.created", version: 1, description: "A shipping zone was made." },
    EventInfo { kind: "shipping_zone.changed", version: 1, description: "A shipping zone was changed." },
    EventInfo { kind: "shipping_zone.removed", version: 1, description: "A shipping zone was removed, and the rates in it." },
    EventInfo { kind: "shipping_method.created", version: 1, description: "A shipping method was made." },
    EventInfo { kind: "shipping_method.changed", version: 1, description: "A shipping method was changed." },
    EventInfo { kind: "shipping_rate.set", version: 1, description: "What a method costs in a zone was set." },
    EventInfo { kind: "shipping_rate.removed", version: 1, description: "A method is not offered in a zone any more." },
    EventInfo { kind: "shipping_carrier.created", version: 1, description: "A carrier was set up." },
    EventInfo { kind: "shipping_carrier.changed", version: 1, description: "A carrier was changed." },
    EventInfo { kind: "shipment.created", version: 1, description: "A shipment was made." },
    EventInfo { kind: "shipment.picked", version: 1, description: "A shipment's goods were taken from their places." },
    EventInfo { kind: "shipment.packed", version: 1, description: "A shipment was packed, or its labels were refused or given back." },
    EventInfo { kind: "shipment.repacked", version: 1, description: "A shipment's goods were packed into other parcels." },
    EventInfo { kind: "shipment.label_requested", version: 1, description: "A carrier is being asked for a shipment's labels." },
    EventInfo { kind: "shipment.label_refused", version: 1, description: "A carrier did not sell a shipment's labels." },
    EventInfo {
        kind: "shipment.label_in_doubt",
        version: 1,
        description: "Nobody could learn in time what became of a request for labels.",
    },
    EventInfo { kind: "shipment.label_voiding", version: 1, description: "A carrier is being asked to take labels back." },
    EventInfo { kind: "shipment.label_void_refused", version: 1, description: "A carrier did not take labels back." },
    EventInfo { kind: "shipment.overdue", version: 1, description: "Nobody has heard for weeks where a shipment is." },
    EventInfo { kind: "shipment.ready", version: 1, description: "A shipment is labelled." },
    EventInfo { kind: "shipment.shipped", version: 1, description: "A shipment went." },
    EventInfo { kind: "shipment.resumed", version: 1, description: "A shipment that was thought lost is on its way again." },
    EventInfo { kind: "shipment.tracked", version: 1, description: "Something became known of a parcel on its way." },
    EventInfo { kind: "shipment.delivered", version: 1, description: "A shipment arrived." },
    EventInfo { kind: "shipment.failed", version: 1, description: "A shipment is lost, or can't be delivered." },
    EventInfo { kind: "shipment.cancelled", version: 1, description: "A shipment was called off before it went." },
    EventInfo { kind: "shipment.returned", version: 1, description: "A shipment came back." },
];

/// This module, for the application to put together. [`Shipping`] has to be put into both the application and the workflows.
pub fn module() -> Module {
    let tenant = |(name, text): &(&'static str, &'static str)| Statement::new(name, *text, InScope::Tenant);
    let statements = [rates::sql::STATEMENTS, shipments::sql::STATEMENTS, carriers::sql::STATEMENTS];
    let by_engine = |(name, sql): &(&'static str, store::Sql)| Statement::new(name, *sql, InScope::Tenant);
    let routes = [rates::routes::routes(), shipments::routes::routes(), carriers::routes::routes()];
    Module {
        permissions: PERMISSIONS,
        routes: routes.into_iter().flatten().collect(),
        workflows: carriers::workflows::workflows(),
        events: EVENTS,
        statements: statements.into_iter().flatten().map(tenant).chain(shipments::sql::BY_ENGINE.iter().map(by_engine)).collect(),
        audits: audits::audits(),
        caches: Some(rates::cache::CACHES),
        ..Module::new("shipping", MIGRATIONS)
    }
}
