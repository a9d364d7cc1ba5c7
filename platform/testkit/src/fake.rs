//! Who is asking, in tests of modules that don't know the identity module: the token says it all.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use kernel::{Actor, ActorKind, Error, Result, TenantId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use store::Store;
use web::{Authenticator, Credential, Identity};

/// A user of a tenant with these permissions, or with all for `*`.
pub fn token(tenant: TenantId, permissions: &[&str]) -> String {
    format!("test:{tenant}:{}", permissions.join(","))
}

/// A user with these permissions on the platform, or with all for `*`.
pub fn platform_token(permissions: &[&str]) -> String {
    format!("test:platform:{}", permissions.join(","))
}

/// Believes tokens of the form `test:<tenant id or platform>:<permission,permission>` with an optional `:<user number>`.
/// Tenants are those that a test has named.
pub struct FakeAuthenticator {
    /// What `*` stands for.
    all: Vec<String>,
    tenants: Mutex<BTreeMap<String, TenantId>>,
}

impl FakeAuthenticator {
    /// With the permissions that `*` stands for.
    pub fn new(all: Vec<String>) -> FakeAuthenticator {
        FakeAuthenticator { all, tenants: Mutex::default() }
    }

    /// Adds a tenant under a slug, or finds it.
    pub fn tenant(&self, slug: &str, new_id: impl FnOnce() -> TenantId) -> TenantId {
        *self.lock().entry(slug.to_owned()).or_insert_with(new_id)
    }

    /// Every tenant that was named.
    pub fn tenants(&self) -> Vec<TenantId> {
        self.lock().values().copied().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, TenantId>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn identity(&self, token: &str) -> Result<Identity> {
        let unknown = || Error::unauthenticated("identity.invalid_token", "not a token of the tests' form");
        let mut parts = token.strip_prefix("test:").ok_or_else(unknown)?.split(':');
        let (of, listed) = (parts.next().ok_or_else(unknown)?, parts.next().ok_or_else(unknown)?);
        let id = parts.next().map_or(Ok(1), str::parse).map_err(|_| unknown())?;
        let platform = of == "platform";
        let tenant = if platform { None } else { Some(of.parse().map_err(|_| unknown())?) };
        let listed: Vec<&str> = listed.split(',').filter(|p| !p.is_empty()).collect();
        let permissions = if listed == ["*"] { self.all.iter().map(String::as_str).collect() } else { listed.into_iter().collect() };
        Ok(Identity {
            actor: Actor { kind: ActorKind::User, id },
            tenant,
            permissions: Arc::new(permissions),
            platform,
            plan: None,
            publishable: None,
            remembered: false,
        })
    }
}

impl Authenticator for FakeAuthenticator {
    fn authenticate<'a>(&'a self, _: &'a Store, credential: Credential<'a>, _: Option<TenantId>) -> BoxFuture<'a, Result<Identity>> {
        let Credential::Bearer(token) = credential;
        std::future::ready(self.identity(token)).boxed()
    }

    fn actor_now<'a>(&'a self, _: &'a Store, actor: Actor, tenant: TenantId) -> BoxFuture<'a, Result<Identity>> {
        let identity = self.identity(&format!("test:{tenant}:*:{}", actor.id));
        std::future::ready(identity).boxed()
    }

    fn tenant_by_name<'a>(&'a self, _: &'a Store, name: &'a str) -> BoxFuture<'a, Result<Option<TenantId>>> {
        let tenants = self.lock();
        let by_id = || name.parse().ok().filter(|id| tenants.values().any(|known| known == id));
        let found = tenants.get(name).copied().or_else(by_id);
        std::future::ready(Ok(found)).boxed()
    }
}
