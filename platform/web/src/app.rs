//! What every handler shares: the store, time, randomness, the authenticator and the modules' own parts.

use crate::caches::{Invalidations, Part};
use crate::caller::Caller;
use crate::config::WebConfig;
use crate::edge::Web;
use crate::health::Dependency;
use crate::intake::Intake;
use crate::metrics::HttpMetrics;
use crate::module::Module;
use futures_util::future::BoxFuture;
use kernel::{Actor, Clock, CursorKey, Error, ErrorKind, Result, Rng, SystemRng, TenantId};
use prometheus_client::registry::Registry;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use store::{Once, OnceKey, Read, SetFunction, Store, Tx};
use tokio::sync::watch;
use traffic::cache::{Cache, Cacheable, Cached, Caches, CachesConfig, Found, Sourced};
use traffic::resilience::Shedder;

/// What a caller shows to say who it is.
#[derive(Clone, Copy)]
pub enum Credential<'a> {
    /// The token of `Authorization: Bearer ...`: an access token or an API key.
    Bearer(&'a str),
}

/// Who a credential belongs to and what it allows.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Who.
    pub actor: Actor,
    /// The credential's own tenant. A request that names another one is refused.
    pub tenant: Option<TenantId>,
    /// What it may do in the request's tenant, or on the platform when `platform` is set.
    pub permissions: Arc<PermissionSet>,
    /// Whether the permissions are the platform's.
    pub platform: bool,
    /// The tenant's plan, for limits by plan.
    pub plan: Option<&'static str>,
    /// Of a publishable key, which is no secret: the origins whose pages may use it, none for any. It opens routes of the storefront and
    /// nothing else, and whoever holds it is limited as anybody is who shows nothing.
    pub publishable: Option<Arc<[String]>>,
    /// Whether this is what was known before the store went away, and can't be asked about now. It is good for reading what is remembered
    /// and for what is taken in, which looks again before it is done; for nothing else.
    pub remembered: bool,
}

/// A set of permissions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PermissionSet(Vec<Box<str>>);

impl PermissionSet {
    /// Whether it contains the permission.
    pub fn contains(&self, permission: &str) -> bool {
        self.0.binary_search_by(|held| (**held).cmp(permission)).is_ok()
    }

    /// The permissions, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|p| &**p)
    }
}

impl<S: Into<Box<str>>> FromIterator<S> for PermissionSet {
    fn from_iter<I: IntoIterator<Item = S>>(names: I) -> Self {
        let mut names: Vec<Box<str>> = names.into_iter().map(Into::into).collect();
        names.sort_unstable();
        names.dedup();
        PermissionSet(names)
    }
}

/// Tells who is asking. Implemented by the identity module. Both calls should answer from memory when they can: they run for each request.
pub trait Authenticator: Send + Sync + 'static {
    /// Who holds the credential, and what it allows in `tenant` (the one that the request names, if any; otherwise the credential's own).
    /// Errors: unauthenticated when it is unknown, expired or revoked; unavailable when that can't be learnt.
    fn authenticate<'a>(
        &'a self,
        store: &'a Store,
        credential: Credential<'a>,
        tenant: Option<TenantId>,
    ) -> BoxFuture<'a, Result<Identity>>;

    /// What an actor of a tenant may do there now, for what it has asked for earlier. Errors: unauthenticated or forbidden when it may do
    /// nothing any more; unavailable when that can't be learnt.
    fn actor_now<'a>(&'a self, store: &'a Store, actor: Actor, tenant: TenantId) -> BoxFuture<'a, Result<Identity>>;

    /// The tenant with this slug or this id (`ten_...`), if there is one.
    fn tenant_by_name<'a>(&'a self, store: &'a Store, name: &'a str) -> BoxFuture<'a, Result<Option<TenantId>>>;
}

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) cursor_key: CursorKey,
    pub(crate) authenticator: Arc<dyn Authenticator>,
    pub(crate) config: WebConfig,
    pub(crate) registry: Registry,
    pub(crate) metrics: HttpMetrics,
    pub(crate) stopping: watch::Sender<bool>,
    limits: Option<Arc<traffic::Limiter>>,
    pub(crate) caches: Caches,
    pub(crate) invalidations: Arc<Invalidations>,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) intake: Option<Arc<dyn Intake>>,
    pub(crate) shedder: Shedder,
    trusted_proxies: traffic::Networks,
    parts: HashMap<TypeId, Box<dyn Any + Send + Sync>>,
}

/// The state of every handler (`State<App>`); cheap to clone.
#[derive(Clone)]
pub struct App(pub(crate) Arc<Inner>);

impl App {
    /// Begins to put an application together.
    pub fn builder(store: Store, authenticator: Arc<dyn Authenticator>) -> AppBuilder {
        AppBuilder {
            store,
            authenticator,
            modules: Vec::new(),
            config: WebConfig::default(),
            clock: None,
            rng: None,
            cursor_key: None,
            registry: Registry::default(),
            limits: None,
            caches: None,
            dependencies: Vec::new(),
            intake: None,
            parts: HashMap::new(),
            pages: &[],
        }
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// The clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    /// Randomness fit for secrets (repeatable in tests).
    pub fn rng(&self) -> &Arc<dyn Rng> {
        &self.0.rng
    }

    /// The rate limits, if there are any.
    pub fn limits(&self) -> Option<&Arc<traffic::Limiter>> {
        self.0.limits.as_ref()
    }

    /// The caches of this process.
    pub fn caches(&self) -> &Caches {
        &self.0.caches
    }

    /// A value of the caller's tenant, out of the cache or read from the primary. A caller that says with `BrandOS-Position` what it has seen
    /// elsewhere is answered from the store: a cache knows nothing of positions. None when the read says that there is no such thing.
    /// Errors: `request.tenant_required`, and those of the read, unless an old value may stand in for it.
    pub async fn cached<K, V, F>(&self, caller: &Caller, cache: &Cache<K, V>, key: K, read: F) -> Result<Option<Found<V>>>
    where
        K: Hash + Eq + Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
        V: Cached,
        V::Class: Cacheable,
        F: Fn(&mut Read<'_>) -> Result<V> + Send + Sync + 'static,
    {
        let tenant = caller.tenant()?;
        let missing = |answer: Result<V>| match answer {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        if caller.position.is_some() {
            return Ok(missing(self.peek(caller, read).await)?.map(Found::loaded));
        }
        let (store, reach) = (self.store().clone(), caller.reach());
        let load = async move || {
            reach?;
            missing(store.peek(tenant, read).await)
        };
        cache.get(&key, load).await
    }

    /// What the store says now in the caller's tenant, perhaps on a replica as in [`App::peek`]; and while it is away, what `keep` has kept of
    /// what was last read here, if nothing has told since that it changed. For what has to be right whenever that can be had, such as where
    /// an order stands. Errors: those of the read.
    pub async fn or_remembered<T, K, V, F>(
        &self,
        caller: &Caller,
        cache: &Cache<K, V>,
        key: K,
        read: F,
        keep: impl FnOnce(&T) -> Option<V>,
    ) -> Result<Sourced<T, V>>
    where
        T: Send + 'static,
        K: Hash + Eq + Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
        V: Cached,
        V::Class: Cacheable,
        F: Fn(&mut Read<'_>) -> Result<T> + Send + Sync + 'static,
    {
        // Whoever has seen more than this node may know is not told less.
        if caller.position.is_some() {
            return Ok(Sourced::Now(self.peek(caller, read).await?));
        }
        cache.source_first(&key, self.peek(caller, read), keep).await
    }

    /// The proxies whose word on the client's address is believed.
    pub(crate) fn trusted_proxies(&self) -> &traffic::Networks {
        &self.0.trusted_proxies
    }

    /// The key that signs cursors.
    pub fn cursor_key(&self) -> &CursorKey {
        &self.0.cursor_key
    }

    /// How the edge is set up.
    pub fn config(&self) -> &WebConfig {
        &self.0.config
    }

    /// The metrics that `/metrics` shows.
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// The authenticator, for routes that are public and yet look at a credential.
    pub fn authenticator(&self) -> &Arc<dyn Authenticator> {
        &self.0.authenticator
    }

    /// A module's own shared state, put in with [`AppBuilder::part`]. Panics when it was not: that is an error of the wiring, found by the first test.
    pub fn part<T: Any + Send + Sync>(&self) -> &T {
        self.part_if_any().unwrap_or_else(|| panic!("no part of type {} was put into the application", std::any::type_name::<T>()))
    }

    /// The same for a part that an application may do without.
    pub fn part_if_any<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.0.parts.get(&TypeId::of::<T>()).and_then(|part| part.downcast_ref())
    }

    /// Turns true when the server begins to stop: long answers (event streams) end then.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.0.stopping.subscribe()
    }

    /// Reads in the caller's tenant, perhaps on a replica: one that has everything this node has answered in that tenant, and everything
    /// up to the caller's `BrandOS-Position`. For what is shown to the caller; what a decision rests on is read by its command.
    /// Errors: `request.tenant_required`, and those of [`Store::read_at`].
    pub async fn read<T, F>(&self, caller: &Caller, read: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut Read<'_>) -> Result<T> + Send + Sync + 'static,
    {
        caller.reach()?;
        self.store().read_at(caller.tenant()?, caller.position, read).await
    }

    /// The same for a few rows by key, as [`Store::peek`].
    pub async fn peek<T, F>(&self, caller: &Caller, read: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut Read<'_>) -> Result<T> + Send + Sync + 'static,
    {
        caller.reach()?;
        self.store().peek_at(caller.tenant()?, caller.position, read).await
    }

    /// Runs a command for the caller: in its tenant, or on the platform's scope for a route with platform access; under its
    /// idempotency key when there is one. A replayed answer gets the header `Idempotency-Replayed: true` without more ado.
    /// Errors: `request.tenant_required`, and those of [`Store::write`] and [`Store::write_once`].
    pub async fn submit<C, T, F>(&self, caller: &Caller, key: Option<OnceKey>, command: F, data: C) -> Result<Once<T>>
    where
        C: Send + 'static,
        T: Serialize + DeserializeOwned + Send + 'static,
        F: Fn(&mut Tx<'_>, &C) -> Result<T> + Send + 'static,
    {
        let call = caller.call()?;
        let Some(key) = key else {
            return Ok(Once { value: self.store().write(call, command, data).await?, replayed: false });
        };
        let once = self.store().write_once(call, key, command, data).await?;
        if once.replayed {
            caller.mark_replayed();
        }
        Ok(once)
    }

    /// The same for a command that takes those of its kind which are queued together as a set: see [`Store::write_set`].
    pub async fn submit_set<C, T>(&self, caller: &Caller, key: Option<OnceKey>, set: SetFunction<C, T>, data: C) -> Result<Once<T>>
    where
        C: Send + Sync + 'static,
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        let once = self.store().write_set(caller.call()?, key, set, data).await?;
        if once.replayed {
            caller.mark_replayed();
        }
        Ok(once)
    }
}

/// Puts an application together.
pub struct AppBuilder {
    store: Store,
    authenticator: Arc<dyn Authenticator>,
    modules: Vec<Module>,
    config: WebConfig,
    clock: Option<Arc<dyn Clock>>,
    rng: Option<Arc<dyn Rng>>,
    cursor_key: Option<CursorKey>,
    registry: Registry,
    limits: Option<Arc<traffic::Limiter>>,
    caches: Option<Caches>,
    dependencies: Vec<Dependency>,
    intake: Option<Arc<dyn Intake>>,
    parts: HashMap<TypeId, Box<dyn Any + Send + Sync>>,
    pages: &'static [crate::builtin::Page],
}

impl AppBuilder {
    /// The modules whose routes are served.
    #[must_use]
    pub fn modules(mut self, modules: Vec<Module>) -> Self {
        self.modules = modules;
        self
    }

    /// How the edge is set up.
    #[must_use]
    pub fn config(mut self, config: WebConfig) -> Self {
        self.config = config;
        self
    }

    /// The clock, if not the store's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Randomness, if not the operating system's.
    #[must_use]
    pub fn rng(mut self, rng: Arc<dyn Rng>) -> Self {
        self.rng = Some(rng);
        self
    }

    /// The key that signs cursors. Without one a random key is made, and cursors end with the process.
    #[must_use]
    pub fn cursor_key(mut self, key: CursorKey) -> Self {
        self.cursor_key = Some(key);
        self
    }

    /// The rate limits of every route under `/api/`. Without them nothing is limited.
    #[must_use]
    pub fn limits(mut self, limits: Arc<traffic::Limiter>) -> Self {
        self.limits = Some(limits);
        self
    }

    /// The caches, if not those of a process that is alone with the default sizes.
    #[must_use]
    pub fn caches(mut self, caches: Caches) -> Self {
        self.caches = Some(caches);
        self
    }

    /// Something outside that this process depends on, for the health checks.
    #[must_use]
    pub fn dependency(mut self, dependency: Dependency) -> Self {
        self.dependencies.push(dependency);
        self
    }

    /// Who takes in, while the store is away, what routes with [`crate::Route::taken_in`] are asked for. Without one they refuse it.
    #[must_use]
    pub fn intake(mut self, intake: Arc<dyn Intake>) -> Self {
        self.intake = Some(intake);
        self
    }

    /// The registry in which the store and the log have already put their metrics.
    #[must_use]
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = registry;
        self
    }

    /// A module's own shared state, for [`App::part`].
    #[must_use]
    pub fn part<T: Any + Send + Sync>(mut self, part: T) -> Self {
        self.parts.insert(TypeId::of::<T>(), Box::new(part));
        self
    }

    /// Files that are served beside the API, each at a path of its own.
    #[must_use]
    pub fn pages(mut self, pages: &'static [crate::builtin::Page]) -> Self {
        self.pages = pages;
        self
    }

    /// The application, ready to serve. Errors: `internal` when two routes collide or a route is not of the house's form;
    /// invalid with code `config.invalid` for a wrong option.
    pub fn build(mut self) -> Result<Web> {
        let rng = self.rng.unwrap_or_else(|| Arc::new(SystemRng::new()));
        let cursor_key = self.cursor_key.unwrap_or_else(|| {
            let mut secret = [0; 32];
            rng.fill(&mut secret);
            CursorKey::new(&secret)
        });
        check(&self.config)?;
        let trusted_proxies =
            self.config.trusted_proxies.iter().map(|text| text.parse::<traffic::Network>()).collect::<Result<traffic::Networks>>()?;
        if let Some(limits) = &self.limits {
            limits.register(&mut self.registry);
        }
        let shedder = Shedder::new(self.config.concurrency);
        let metrics = HttpMetrics::register(&mut self.registry);
        let caches = self.caches.unwrap_or_else(|| Caches::new(CachesConfig::default(), rng.clone()));
        caches.register(&mut self.registry);
        for open in self.modules.iter().filter_map(|module| module.caches.as_ref()) {
            let Part(id, part) = (open.open)(&caches)?;
            self.parts.insert(id, part);
        }
        let invalidations = Invalidations::observe(&self.store, &caches, &self.modules);
        let clock = self.clock.unwrap_or_else(|| self.store.clock().clone());
        let inner = Inner {
            store: self.store,
            clock,
            rng,
            cursor_key,
            authenticator: self.authenticator,
            config: self.config,
            registry: self.registry,
            metrics,
            stopping: watch::Sender::new(false),
            limits: self.limits,
            caches,
            invalidations,
            dependencies: self.dependencies,
            intake: self.intake,
            shedder,
            trusted_proxies,
            parts: self.parts,
        };
        let app = App(Arc::new(inner));
        app.0.invalidations.belongs_to(&app);
        Web::new(app, self.modules, self.pages)
    }
}

fn check(config: &WebConfig) -> Result<()> {
    let wrong = |detail: &'static str| Err(Error::invalid("config.invalid", detail));
    if config.header_limit_bytes < 8192 {
        return wrong("web.header_limit_bytes is below 8192");
    }
    if config.tls_cert.is_some() != config.tls_key.is_some() {
        return wrong("web.tls_cert and web.tls_key go together");
    }
    if config.concurrency == 0
        || config.connections == 0
        || config.request_timeout_ms == 0
        || config.body_timeout_ms == 0
        || config.header_timeout_ms == 0
    {
        return wrong("web.concurrency, web.connections and the time limits of web are above 0");
    }
    Ok(())
}
