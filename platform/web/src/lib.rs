//! The HTTP edge: request id, tenant, actor and permissions, limits, idempotency keys, paging, problems, metrics, OpenAPI and the serving loop.
//!
//! Promises: a handler runs only for a caller that its route's [`Access`] admits; every error is `application/problem+json` that names
//! the field at fault; every body, header, wait and queue is bounded; a shutdown finishes what is in flight.
//! Must never know: what a shop, a payment or a user is. Who is asking is told by an [`Authenticator`].

mod answer;
mod app;
mod builtin;
mod caches;
mod caller;
mod config;
mod edge;
mod events;
mod extract;
mod handlers;
mod health;
mod intake;
mod limits;
mod metrics;
mod module;
mod openapi;
mod problem;
mod server;
#[cfg(test)]
mod tests;
mod waiters;
mod workflows;

pub use answer::{Created, ETag, Versioned};
pub use app::{App, AppBuilder, Authenticator, Credential, Identity, PermissionSet};
pub use builtin::Page;
pub use caches::{ModuleCaches, Part, aged, caches_module};
pub use caller::Caller;
pub use config::WebConfig;
pub use edge::Web;
pub use events::events_module;
pub use extract::{Body, IfMatch, Keyed, Paging, PagingParams, Params, Query, RawBody};
pub use handlers::Handlers;
pub use health::{Dependency, Mode, health_module};
pub use intake::{Deferred, Intake, IntakeEntity, IntakeId, IntakeState, TakenIn};
pub use limits::{Peer, limits_module};
pub use module::{
    Access, Audit, AuditCheck, AuditOutcome, EventInfo, InScope, Module, PermissionInfo, Route, RouteInfo, STOREFRONT, Statement, routes,
};
pub use openapi::openapi;
pub use problem::{Problem, Result, precondition_failed, status};
pub use server::Server;
pub use traffic::resilience::Priority;
pub use waiters::{Waiter, Waiters};
pub use workflows::workflows_module;
#[doc(hidden)]
pub use {utoipa_axum::paste, utoipa_axum::routes as described};
