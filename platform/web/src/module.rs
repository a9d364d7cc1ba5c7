//! What a module is: plain data, so that tests and the start-up can walk it.

use crate::handlers::Handlers;
use axum::http::Method;
use std::sync::Arc;

/// A module of the product.
pub struct Module {
    /// Its name; its tables, permissions, events and error codes begin with it.
    pub name: &'static str,
    /// Its tables.
    pub migrations: store::Migrations,
    /// The permissions that its routes ask for.
    pub permissions: &'static [PermissionInfo],
    /// Its HTTP routes.
    pub routes: Vec<Route>,
    /// Its durable consumers of the log.
    pub consumers: Vec<log::Consumer>,
    /// Its sagas, jobs and timers: whatever it does outside.
    pub workflows: Vec<workflow::Workflow>,
    /// The events that its commands emit.
    pub events: &'static [EventInfo],
    /// Its statements, for tests that prepare each on both engines. May be empty.
    pub statements: Vec<Statement>,
    /// What `brandos audit` checks of it.
    pub audits: Vec<Audit>,
    /// What it remembers.
    pub caches: Option<crate::caches::ModuleCaches>,
}

impl Module {
    /// A module that has nothing but a name and its tables; the rest is added with `..Module::new(..)`.
    pub fn new(name: &'static str, steps: &'static [store::Migration]) -> Module {
        Module {
            name,
            migrations: store::Migrations { module: name, steps },
            permissions: &[],
            routes: Vec::new(),
            consumers: Vec::new(),
            workflows: Vec::new(),
            events: &[],
            statements: Vec::new(),
            audits: Vec::new(),
            caches: None,
        }
    }
}

/// A permission, as roles and API keys list it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PermissionInfo {
    /// Such as `orders.write`.
    pub name: &'static str,
    /// What it allows, for the person who grants it.
    pub description: &'static str,
}

/// A kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventInfo {
    /// Such as `order.placed`.
    pub kind: &'static str,
    /// The version of its payload that is written today.
    pub version: u16,
    /// When it happens.
    pub description: &'static str,
}

/// A statement of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Name of the constant that holds it.
    pub name: &'static str,
    /// The statement.
    pub sql: store::Sql,
    /// Where it runs.
    pub scope: InScope,
}

impl Statement {
    /// A statement by its constant's name.
    pub fn new(name: &'static str, sql: impl Into<store::Sql>, scope: InScope) -> Statement {
        Statement { name, sql: sql.into(), scope }
    }
}

/// In which scope a statement runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InScope {
    /// A tenant's: `$1` is the tenant.
    Tenant,
    /// The platform's.
    Platform,
}

/// A named check of `brandos audit`.
#[derive(Clone, Copy)]
pub struct Audit {
    /// Such as `orders.totals_add_up`.
    pub name: &'static str,
    /// The check.
    pub check: AuditCheck,
}

/// Where a check runs.
#[derive(Clone, Copy)]
pub enum AuditCheck {
    /// In the scope of each tenant.
    Tenant(fn(&mut store::Read<'_>) -> kernel::Result<AuditOutcome>),
    /// Once for each shard, on the platform's scope.
    Platform(fn(&mut store::Read<'_>) -> kernel::Result<AuditOutcome>),
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditOutcome {
    /// Whether all is well.
    pub ok: bool,
    /// What was counted, or what is wrong.
    pub detail: String,
}

/// Who may call a route. Checked by `web` before the handler runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Anyone; a credential is not even looked at.
    Public,
    /// Whoever has a valid credential, in a tenant or not.
    SignedIn,
    /// Whoever has this permission in the request's tenant.
    Tenant(&'static str),
    /// Whoever has a publishable key of the request's tenant, or the permission [`STOREFRONT`] there. The path lies under
    /// `/api/v1/storefront/`, where pages of every origin may ask, since nobody is known by anything that a browser adds by itself.
    Storefront,
    /// Whoever has this permission on the platform.
    Platform(&'static str),
}

/// The permission of routes of the storefront, for callers with another credential than a publishable key. A module with such routes
/// lists it.
pub const STOREFRONT: &str = "storefront.use";
/// Where they are.
pub(crate) const STOREFRONT_PATH: &str = "/api/v1/storefront/";

/// A path with its handlers, who may call it and how large its bodies may be.
pub struct Route {
    pub(crate) access: Access,
    pub(crate) body_limit_bytes: Option<usize>,
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) keyed: bool,
    pub(crate) priority: Option<traffic::resilience::Priority>,
    pub(crate) taken_in: bool,
    pub(crate) handlers: Handlers,
}

impl Route {
    /// A route of [`crate::handlers!`]. The handlers share one path, written in full: `/api/v1/orders/{id}`.
    pub fn new(access: Access, handlers: Handlers) -> Route {
        Route { access, body_limit_bytes: None, timeout_ms: None, keyed: false, priority: None, taken_in: false, handlers }
    }

    /// The most bytes of a body, instead of the configuration's.
    #[must_use]
    pub fn body_limit(mut self, bytes: usize) -> Route {
        self.body_limit_bytes = Some(bytes);
        self
    }

    /// How long a request may take until its answer begins, its body included, instead of the configuration's.
    #[must_use]
    pub fn timeout_ms(mut self, timeout_ms: u64) -> Route {
        self.timeout_ms = Some(timeout_ms);
        self
    }

    /// How much it matters when there is too much to do, instead of low for reading and normal for writing.
    #[must_use]
    pub fn priority(mut self, priority: traffic::resilience::Priority) -> Route {
        self.priority = Some(priority);
        self
    }

    /// Documents the `Idempotency-Key` header on its POST, PUT, PATCH and DELETE: the handlers take [`crate::Keyed`].
    #[must_use]
    pub fn keyed(mut self) -> Route {
        self.keyed = true;
        self
    }

    /// While the store is away its POST is answered with 202 and done later, where somebody takes it in. Its handler checks the request
    /// without the store, and then runs one command under the request's idempotency key, through [`App::submit`] or its like. What it
    /// answers when it is done later is heard by nobody but for its `Location`.
    #[must_use]
    pub fn taken_in(mut self) -> Route {
        self.taken_in = true;
        self
    }
}

/// A route as tests walk it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteInfo {
    /// The module that it belongs to.
    pub module: &'static str,
    /// GET, POST, ...
    pub method: Method,
    /// With its parameters in braces.
    pub path: Arc<str>,
    /// Who may call it.
    pub access: Access,
    /// Whether it takes an `Idempotency-Key`.
    pub keyed: bool,
}

/// Every route of the modules, a line for each method.
pub fn routes(modules: &[Module]) -> Vec<RouteInfo> {
    let mut all = Vec::new();
    for module in modules {
        for route in &module.routes {
            for path in &route.handlers.paths {
                let path: Arc<str> = path.as_str().into();
                for method in route.handlers.methods.iter().cloned() {
                    let keyed = route.keyed && method != Method::GET;
                    all.push(RouteInfo { module: module.name, method, path: path.clone(), access: route.access, keyed });
                }
            }
        }
    }
    all
}

/// Refuses modules whose routes are not of the house's form. Errors: `internal`, naming the route: an error of the program, found at its start.
pub(crate) fn check(modules: &[Module]) -> kernel::Result<()> {
    let wrong = |module: &Module, what: String| Err(kernel::Error::internal(format!("module {}: {what}", module.name)));
    let mut seen = std::collections::HashMap::new();
    for module in modules {
        for route in &module.routes {
            let paths = &route.handlers.paths;
            let [path] = &paths[..] else { return wrong(module, format!("a route has the paths {paths:?} instead of one")) };
            if path.strip_prefix("/api/v1/tenants/{").and_then(|rest| rest.split_once('}')).is_some_and(|(_, rest)| rest.len() > 1) {
                return wrong(module, format!("{path} is taken by the path form of the tenant"));
            }
            if (route.access == Access::Storefront) != path.starts_with(STOREFRONT_PATH) {
                return wrong(module, format!("{path} is not where its access says: those of the storefront lie under {STOREFRONT_PATH}"));
            }
            // Two templates that differ only in a parameter's name would be the same place under two names.
            let shape: String = path.split('/').map(|part| if part.starts_with('{') { "/{}" } else { part }).collect::<Vec<_>>().join("/");
            for method in &route.handlers.methods {
                if seen.insert((shape.clone(), Some(method.clone())), path.clone()).is_some() {
                    return wrong(module, format!("{method} {path} is there twice"));
                }
            }
            match seen.insert((shape, None), path.clone()) {
                Some(other) if other != *path => return wrong(module, format!("{path} and {other} differ only in a parameter's name")),
                _ => {}
            }
        }
    }
    Ok(())
}
