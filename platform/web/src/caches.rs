//! What modules remember: opened at the start, kept right by what is committed, and shown to the platform's people.
//!
//! A change reaches a cache by its event. What this process commits is heeded before it is answered. What other processes commit, a
//! server beside this one or the command line, is heeded when the bus tells of it, and at the latest when the log is looked at, which is
//! done twice a second where processes share a database; a node that can't look trusts its memory no longer than the bound.

use crate::app::App;
use crate::edge::Web;
use crate::handlers;
use crate::module::{Access, Module, PermissionInfo, Route};
use crate::problem::Result;
use axum::Json;
use axum::extract::State;
use axum::http::header::{AGE, WARNING};
use axum::http::{HeaderMap, HeaderValue};
use futures_util::future::BoxFuture;
use std::any::{Any, TypeId};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;
use store::{Change, Observer, Position, Store};
use tokio::time::Instant;
use traffic::cache::{Caches, Found, Tags};

/// How often the log is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Changes of this process that the next look need not heed again.
const MAX_OWN: usize = 100_000;
const READ: &str = "platform.caches.read";

/// The caches of a module.
#[derive(Clone, Copy)]
pub struct ModuleCaches {
    /// Opens them, as the part that its handlers ask for with [`App::part`].
    pub open: fn(&Caches) -> kernel::Result<Part>,
    /// The kinds of events by which something remembered becomes old.
    pub events: &'static [&'static str],
    /// What such an event makes old.
    pub tags: fn(&Change) -> Tags,
    /// Forgets what such an event makes old of what only this process remembers, which costs other values nothing.
    pub forget: fn(&App, &Change),
    /// The keys that were asked for most, at most so many, as JSON.
    pub hot: fn(&App, usize) -> serde_json::Value,
    /// Loads what such JSON names, as far as it can in this time. Gives how many values.
    pub warm: fn(App, serde_json::Value, Duration) -> BoxFuture<'static, usize>,
}

/// A part of the application, made by a module at the start.
pub struct Part(pub(crate) TypeId, pub(crate) Box<dyn Any + Send + Sync>);

impl Part {
    /// This one.
    pub fn new<T: Any + Send + Sync>(part: T) -> Part {
        Part(TypeId::of::<T>(), Box::new(part))
    }
}

/// Which events make what old.
pub(crate) struct Invalidations {
    /// By the module's name.
    modules: Vec<(&'static str, ModuleCaches)>,
    by_kind: HashMap<&'static str, ModuleCaches>,
    /// The application, once it is put together.
    app: OnceLock<Weak<crate::app::Inner>>,
    /// Changes of this process since the log was last looked at; none where nobody looks.
    own: Mutex<Option<HashSet<Position>>>,
}

impl Invalidations {
    /// Heeds what this process commits.
    pub(crate) fn observe(store: &Store, caches: &Caches, modules: &[Module]) -> Arc<Invalidations> {
        let all = modules.iter().filter_map(|module| module.caches);
        let by_kind: HashMap<_, _> = all.flat_map(|own| own.events.iter().map(move |kind| (*kind, own))).collect();
        let modules = modules.iter().filter_map(|module| Some((module.name, module.caches?))).collect();
        let this = Arc::new(Invalidations { modules, by_kind, app: OnceLock::new(), own: Mutex::new(None) });
        if !this.by_kind.is_empty() {
            let (heeds, caches) = (this.clone(), caches.clone());
            let observe = move |changes: &[Change]| {
                heeds.heed(&caches, changes);
                if let Some(own) = heeds.own.lock().unwrap_or_else(PoisonError::into_inner).as_mut()
                    && own.len() < MAX_OWN
                {
                    own.extend(changes.iter().map(|change| change.position));
                }
            };
            store.observe(Observer { kinds: this.by_kind.keys().copied().collect(), observe: Box::new(observe) });
        }
        this
    }

    fn heed(&self, caches: &Caches, changes: &[Change]) {
        let app = self.app.get().and_then(Weak::upgrade).map(App);
        for change in changes {
            let Some(own) = self.by_kind.get(change.kind.as_str()) else { continue };
            let tags = (own.tags)(change);
            if !tags.is_empty() {
                caches.invalidate_soon(&tags);
            }
            if let Some(app) = &app {
                (own.forget)(app, change);
            }
        }
    }

    /// What forgets needs the application, which needs this.
    pub(crate) fn belongs_to(&self, app: &App) {
        // Set once: each application has its own.
        let _ = self.app.set(Arc::downgrade(&app.0));
    }

    fn own(&self) -> std::sync::MutexGuard<'_, Option<HashSet<Position>>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Web {
    /// What is hot in the caches, at most `most` keys of each, for [`Web::warm`] of the next process.
    pub fn hot(&self, most: usize) -> String {
        let modules = &self.app().0.invalidations.modules;
        let keys = modules.iter().map(|(name, own)| ((*name).to_owned(), (own.hot)(self.app(), most)));
        serde_json::Value::Object(keys.collect()).to_string()
    }

    /// Loads what [`Web::hot`] told. What can't be read or is not there any more is left out. Gives how many values were loaded.
    pub async fn warm(&self, hot: &str, within: Duration) -> usize {
        let Ok(serde_json::Value::Object(mut hot)) = serde_json::from_str(hot) else { return 0 };
        let mut loaded = 0;
        for (name, own) in &self.app().0.invalidations.modules {
            if let Some(keys) = hot.remove(*name) {
                loaded += (own.warm)(self.app().clone(), keys, within).await;
            }
        }
        loaded
    }

    /// Follows the log for the caches, as long as it is awaited: for a node beside which other processes write to the same database. Until
    /// it has begun nothing is proven, and nothing older than the caches' bound is served.
    pub async fn follow_changes(&self) {
        let app = self.app();
        let (invalidations, caches, store) = (app.0.invalidations.clone(), app.caches().clone(), app.store().clone());
        if invalidations.by_kind.is_empty() {
            return;
        }
        caches.require_log();
        *invalidations.own() = Some(HashSet::new());
        let kinds: Vec<String> = invalidations.by_kind.keys().map(|kind| (*kind).to_owned()).collect();
        let mut seen: HashMap<(u16, u16), i64> = HashMap::new();
        let mut failing = false;
        loop {
            let began = Instant::now();
            let looked = look(&store, &caches, &invalidations, &kinds, &mut seen).await;
            match &looked {
                Ok(all) => {
                    if *all {
                        caches.log_known(began);
                    }
                }
                Err(error) if !failing => tracing::warn!(?error, "the log can't be followed: caches serve only what is young"),
                Err(_) => {}
            }
            failing = looked.is_err();
            if looked.unwrap_or(true) {
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}

/// Looks at each lane once. Whether it saw the end of all of them.
async fn look(
    store: &Store,
    caches: &Caches,
    invalidations: &Invalidations,
    kinds: &[String],
    seen: &mut HashMap<(u16, u16), i64>,
) -> kernel::Result<bool> {
    let mut all = true;
    for shard in 0..store.shards() {
        for lane in 0..store.lanes(shard) {
            let after = seen.get(&(shard, lane)).copied();
            let (last, end, mut changes) = store.changes_after(shard, lane, after, kinds.to_vec()).await?;
            if after.is_none() {
                // What came before is not known.
                caches.drop_all();
            }
            {
                let mut own = invalidations.own();
                let own = own.get_or_insert_default();
                changes.retain(|change| !own.contains(&change.position));
                own.retain(|position| (position.shard, position.lane) != (shard, lane as i16) || position.sequence > last);
            }
            invalidations.heed(caches, &changes);
            seen.insert((shard, lane), last);
            all &= end;
        }
    }
    Ok(all)
}

/// Headers that say how old an answer is, when it is older than it should be: `Age`, and `Warning: 110`.
pub fn aged<V>(found: &Found<V>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if found.is_stale() {
        headers.insert(AGE, HeaderValue::from(found.age().as_secs()));
        headers.insert(WARNING, HeaderValue::from_static("110 - \"Response is Stale\""));
    }
    headers
}

/// The module with the view of caches.
pub fn caches_module() -> Module {
    Module {
        permissions: &[PermissionInfo { name: READ, description: "See the platform's caches: their sizes, hits, and how old they may be" }],
        routes: vec![Route::new(Access::Platform(READ), handlers!(caches))],
        ..Module::new("caches", &[])
    }
}

/// A cache of this node.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = Cache)]
struct CacheInfo {
    /// Its name.
    name: &'static str,
    /// What its values may do: `short`, `normal`, `reference` or `final`.
    class: &'static str,
    /// How long a value is good, in milliseconds.
    ttl_ms: u64,
    /// Values in memory.
    entries: u64,
    /// Their bytes.
    bytes: u64,
    /// The most bytes.
    capacity_bytes: u64,
    /// Answers out of memory.
    hits: u64,
    /// Answers that had to be fetched.
    misses: u64,
    /// Loads from the source.
    loads: u64,
    /// Loads that failed.
    load_failures: u64,
    /// Answers that Redis gave.
    shared_hits: u64,
    /// Answers that were past their time.
    stale: u64,
    /// Values that had to make room.
    evictions: u64,
}

/// The caches of the node that answers.
#[derive(serde::Serialize, utoipa::ToSchema)]
struct CacheOverview {
    /// Whether they are shared over Redis.
    shared: bool,
    /// Whether that Redis answers.
    connected: bool,
    /// Nodes that are known, this one included.
    nodes: usize,
    /// Whether memory is proven to be right. If not, nothing older than the bound is served but in want of anything better.
    proven: bool,
    /// The longest that an old value is served after a change by another node, in milliseconds.
    bound_ms: u64,
    /// Each of them.
    caches: Vec<CacheInfo>,
}

/// The caches of the node that answers: what they hold, how often they helped, and whether they may be trusted.
#[utoipa::path(get, path = "/api/v1/platform/caches", tag = "platform", responses((status = 200, body = CacheOverview)))]
async fn caches(State(app): State<App>) -> Result<Json<CacheOverview>> {
    let bus = app.caches().bus();
    let info = |view: traffic::cache::CacheView| CacheInfo {
        name: view.name,
        class: view.class,
        ttl_ms: view.ttl_ms,
        entries: view.entries,
        bytes: view.bytes,
        capacity_bytes: view.capacity_bytes,
        hits: view.hits,
        misses: view.misses,
        loads: view.loads,
        load_failures: view.load_failures,
        shared_hits: view.shared_hits,
        stale: view.stale,
        evictions: view.evictions,
    };
    Ok(Json(CacheOverview {
        shared: bus.shared,
        connected: bus.connected,
        nodes: bus.nodes,
        proven: bus.proven,
        bound_ms: bus.bound_ms,
        caches: app.caches().views().into_iter().map(info).collect(),
    }))
}
