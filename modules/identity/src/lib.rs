//! Tenants, people, programs, and what each may do.
//!
//! Promises: a change of rights that was acknowledged holds for every request that comes in afterwards, on every node; no password, key
//! or token is stored or logged, only hashes; nobody gives a right that they do not hold; every administrative change, and every use
//! of the platform's own rights, is in an audit trail in the same transaction.
//! Must never know: what the permissions of other modules mean.
//!
//! Where data lives: tenants, users, sessions and platform administrators on the home shard, in tables without a `tenant_id`; settings,
//! memberships, roles, invitations, API keys and the audit trail on the tenant's own shard.

pub mod api;
mod auth;
mod commands;
mod model;
mod password;
mod queries;
mod routes;
mod sessions;
mod sql;
#[cfg(test)]
mod tests;
mod token;

pub use auth::{Auth, AuthConfig};
pub use model::{ApiKeyId, InvitationId, Known, Plan, Settings, TenantStatus, UserId, UserStatus};

use web::{Audit, AuditCheck, Module};

/// The module, as the application puts it together. Its handlers need an [`Auth`] as a part.
pub fn module() -> Module {
    const STEPS: &[store::Migration] = &[
        store::Migration { number: 1, name: "identity", sql: include_str!("../migrations/0001_identity.sql") },
        store::Migration { number: 2, name: "publishable_keys", sql: include_str!("../migrations/0002_publishable_keys.sql") },
    ];
    Module {
        permissions: routes::PERMISSIONS,
        routes: routes::routes(),
        statements: sql::all(),
        audits: vec![Audit { name: "identity.members_are_sound", check: AuditCheck::Tenant(queries::members_are_sound) }],
        ..Module::new("identity", STEPS)
    }
}
