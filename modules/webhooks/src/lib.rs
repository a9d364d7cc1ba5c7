//! Webhooks out: a tenant's events, delivered to its own servers as the Standard Webhooks specification says.
//!
//! Promises: every event that an endpoint wants is delivered at least once, or its delivery ends as failed and can be sent again; the id of
//! a message is its event's, in each attempt and each time it is sent again; each attempt is signed with every secret that is in force;
//! secrets are sealed and shown once; no address beside the server is called, whatever a name resolves to; an endpoint that fails for long
//! is switched off, with an event; a slow or dead endpoint holds up nobody else, and what waits for it is bounded.
//! Must never know: what events mean.

mod commands;
mod consumers;
mod model;
mod queries;
mod routes;
mod service;
mod sql;
#[cfg(test)]
mod tests;
mod workflows;

use web::{EventInfo, InScope, Module, PermissionInfo, Statement};

pub use model::{DeliveryId, EndpointId};
pub use service::{Webhooks, WebhooksConfig};
pub use workflows::DELIVER;

const MIGRATIONS: &[store::Migration] = &[store::Migration { number: 1, name: "first", sql: include_str!("../migrations/0001_first.sql") }];

const PERMISSIONS: &[PermissionInfo] = &[
    PermissionInfo { name: "webhooks.read", description: "See webhook endpoints and what was delivered." },
    PermissionInfo {
        name: "webhooks.configure",
        description: "Set up webhook endpoints, which are sent every event of the tenant that they ask for; send again.",
    },
];

const EVENTS: &[EventInfo] = &[
    EventInfo { kind: "webhook.endpoint_created", version: 1, description: "A webhook endpoint was set up." },
    EventInfo { kind: "webhook.endpoint_changed", version: 1, description: "A webhook endpoint was changed, or its secret rotated." },
    EventInfo { kind: "webhook.endpoint_removed", version: 1, description: "A webhook endpoint was removed." },
    EventInfo {
        kind: "webhook.endpoint_disabled",
        version: 1,
        description: "A webhook endpoint failed for so long that it is asked no more.",
    },
];

/// This module, for the application to put together. [`Webhooks`] has to be put into both the application and the workflows.
pub fn module() -> Module {
    let tenant = |(name, text): &(&'static str, &'static str)| Statement::new(name, *text, InScope::Tenant);
    Module {
        permissions: PERMISSIONS,
        routes: routes::routes(),
        consumers: vec![consumers::DELIVERIES],
        workflows: workflows::workflows(),
        events: EVENTS,
        statements: sql::STATEMENTS.iter().map(tenant).collect(),
        audits: vec![queries::AUDIT],
        ..Module::new("webhooks", MIGRATIONS)
    }
}
