//! Who is calling, as a handler sees it.

use crate::app::PermissionSet;
use crate::problem::Problem;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use kernel::{Actor, ActorKind, Error, Result, Scope, TenantId};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use store::{Call, CommitPosition};
use traffic::resilience::Deadline;

/// For how long a command is wanted at most, unless a handler says so: what [`Call::new`] says.
const USUAL_MS: u128 = 5_000;

/// Who is calling, in which tenant, with which request. Made by the edge; a handler takes it as an argument.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who. On public routes nobody is known: a user with number 0.
    pub actor: Actor,
    /// The request's tenant.
    pub tenant: Option<TenantId>,
    /// Goes into events, logs and the `X-Request-Id` header.
    pub request_id: Arc<str>,
    /// What the caller may do: in its tenant, or on the platform when `platform` is set.
    pub permissions: Arc<PermissionSet>,
    /// Whether the permissions are the platform's.
    pub platform: bool,
    /// Whether the route is one of the platform's, so that commands run on its scope.
    pub(crate) on_platform: bool,
    /// The body's size as announced, for the store's queue.
    pub(crate) body_bytes: usize,
    /// The most bytes that the route takes.
    pub(crate) body_limit_bytes: usize,
    /// Set when an answer was a replay. There only for requests with an idempotency key.
    pub(crate) replayed: Option<Arc<AtomicBool>>,
    /// The tenant's name out of the path.
    pub(crate) path_tenant: Option<Box<str>>,
    /// What the caller has seen, by its `BrandOS-Position` header.
    pub(crate) position: Option<CommitPosition>,
    /// Whether the store is known to be away: who is calling is only remembered.
    pub(crate) away: bool,
}

impl Caller {
    /// Nobody, as on public routes.
    pub const NOBODY: Actor = Actor { kind: ActorKind::User, id: 0 };

    pub(crate) fn nobody(request_id: Arc<str>) -> Caller {
        Caller {
            actor: Self::NOBODY,
            tenant: None,
            request_id,
            permissions: Arc::default(),
            platform: false,
            on_platform: false,
            body_bytes: 0,
            body_limit_bytes: 0,
            replayed: None,
            path_tenant: None,
            position: None,
            away: false,
        }
    }

    /// The request's tenant. Errors: `request.tenant_required`.
    pub fn tenant(&self) -> Result<TenantId> {
        self.tenant.ok_or_else(|| {
            Error::invalid("request.tenant_required", "name the tenant: with a subdomain, the X-Tenant-Id header, the path /api/v1/tenants/{tenant}/... or a credential of that tenant")
                .with_field("X-Tenant-Id", "required", "this request needs a tenant")
        })
    }

    /// Whose data this request is about: the platform's on its own routes and where no tenant is known, otherwise the tenant's.
    pub fn scope(&self) -> Scope {
        match self.tenant {
            Some(tenant) if !self.on_platform => Scope::Tenant(tenant),
            _ => Scope::Platform,
        }
    }

    /// Refuses what needs the store while it is known to be away, so that nobody waits for it and nothing may be half done.
    /// Errors: `store.unavailable`.
    pub(crate) fn reach(&self) -> Result<()> {
        if !self.away {
            return Ok(());
        }
        Err(Error::unavailable("store.unavailable", "the database is away; nothing was done").retry_after_ms(1_000))
    }

    /// The envelope of a command in the request's tenant (on the platform's scope for a route with platform access).
    /// Errors: `request.tenant_required`, `store.unavailable`.
    pub fn call(&self) -> Result<Call> {
        self.reach()?;
        if self.on_platform {
            return Ok(self.platform_call());
        }
        Ok(self.envelope(Scope::Tenant(self.tenant()?)))
    }

    /// The envelope of a command on the platform's scope, for what belongs to no tenant (users, sessions, tenants themselves).
    pub fn platform_call(&self) -> Call {
        self.envelope(Scope::Platform)
    }

    /// Whether the caller has the permission, in its tenant or on the platform as the route has it.
    pub fn has(&self, permission: &str) -> bool {
        self.platform == self.on_platform && self.permissions.contains(permission)
    }

    /// Makes the answer carry `Idempotency-Replayed: true`; [`crate::App::submit`] does it by itself.
    pub fn mark_replayed(&self) {
        if let Some(replayed) = &self.replayed {
            replayed.store(true, Relaxed);
        }
    }

    fn envelope(&self, scope: Scope) -> Call {
        let call = Call::new(scope).correlation(self.request_id.clone()).bytes(1024 + self.body_bytes);
        // A command that would begin when nobody waits for its answer any more is not begun.
        match Deadline::current().map(|deadline| deadline.left().unwrap_or_default().as_millis()) {
            Some(left_ms) if left_ms < USUAL_MS => call.deadline_ms(left_ms.max(1) as u32),
            _ => call,
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> std::result::Result<Self, Problem> {
        parts.extensions.get::<Caller>().cloned().ok_or_else(|| Error::internal("a handler was called around the edge").into())
    }
}
