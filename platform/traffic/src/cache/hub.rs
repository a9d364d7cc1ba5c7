//! What all caches of a process share: the generations of tags, the trust in what is remembered, metrics, and the link to the other nodes.

use super::bus::{Bus, BusConfig, Heard};
use super::shared::{CacheRedis, Shared};
use super::tags::{Generations, Tag};
use kernel::{Error, Result, Rng};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use tokio::time::Instant;

/// How the caches of a process are set up.
#[derive(Clone, Debug)]
pub struct CachesConfig {
    /// Memory of all caches together, in bytes. Default 100 MB.
    pub bytes: u64,
    /// Times of the invalidation bus.
    pub bus: BusConfig,
}

impl Default for CachesConfig {
    fn default() -> Self {
        CachesConfig { bytes: 100_000_000, bus: BusConfig::default() }
    }
}

/// The caches of a process; cheap to clone.
#[derive(Clone)]
pub struct Caches(pub(crate) Arc<Hub>);

pub(crate) struct Hub {
    begun: Instant,
    pub(crate) config: CachesConfig,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) generations: Generations,
    /// What began to be loaded at or before this moment has to go.
    dropped_us: AtomicU64,
    /// Until then memory is proven to be right. For ever, as long as there are no other nodes.
    proven_until_us: AtomicU64,
    /// The same by the log of events, where other processes write to the same database. For ever where none does.
    log_until_us: AtomicU64,
    pub(crate) bus: Mutex<Bus>,
    pub(crate) shared: OnceLock<Arc<Shared>>,
    caches: Mutex<Vec<Weak<dyn Seen>>>,
    percent: AtomicU64,
    families: Families,
    pub(crate) metrics: HubMetrics,
}

/// A cache as the admin view sees it.
pub(crate) trait Seen: Send + Sync {
    fn view(&self) -> CacheView;
}

/// A cache's figures.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct CacheView {
    /// Such as `catalog.products`.
    pub name: &'static str,
    /// Its values' class.
    pub class: &'static str,
    /// How long a value is good, in milliseconds.
    pub ttl_ms: u64,
    /// Values in memory.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The most bytes.
    pub capacity_bytes: u64,
    /// Answers out of memory.
    pub hits: u64,
    /// Answers that had to be fetched.
    pub misses: u64,
    /// Loads from the source.
    pub loads: u64,
    /// Loads that failed.
    pub load_failures: u64,
    /// Answers that Redis gave.
    pub shared_hits: u64,
    /// Answers that were past their time, because a new one was under way or could not be had.
    pub stale: u64,
    /// Values that had to make room.
    pub evictions: u64,
}

/// How the bus between nodes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct BusView {
    /// Whether there is a Redis in the configuration.
    pub shared: bool,
    /// Whether it answers.
    pub connected: bool,
    /// Nodes that are known, this one included.
    pub nodes: usize,
    /// Whether memory is proven to be right. If not, nothing older than the bound is served.
    pub proven: bool,
    /// The bound, in milliseconds.
    pub bound_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CacheLabel {
    cache: &'static str,
}

#[derive(Clone, Default)]
struct Families {
    hits: Family<CacheLabel, Counter>,
    misses: Family<CacheLabel, Counter>,
    loads: Family<CacheLabel, Counter>,
    load_failures: Family<CacheLabel, Counter>,
    shared_hits: Family<CacheLabel, Counter>,
    stale: Family<CacheLabel, Counter>,
    evictions: Family<CacheLabel, Counter>,
    bytes: Family<CacheLabel, Gauge>,
}

/// The metrics of one cache.
#[derive(Clone)]
pub(crate) struct CacheMetrics {
    pub(crate) hits: Counter,
    pub(crate) misses: Counter,
    pub(crate) loads: Counter,
    pub(crate) load_failures: Counter,
    pub(crate) shared_hits: Counter,
    pub(crate) stale: Counter,
    pub(crate) evictions: Counter,
    pub(crate) bytes: Gauge,
}

/// The metrics of what caches share.
#[derive(Clone, Default)]
pub(crate) struct HubMetrics {
    pub(crate) invalidations: Counter,
    pub(crate) dropped: Counter,
    pub(crate) unsent: Counter,
    pub(crate) up: Gauge,
}

pub(crate) fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Caches {
    /// Caches of this process alone.
    pub fn new(config: CachesConfig, rng: Arc<dyn Rng>) -> Caches {
        let mut me = [0; 8];
        rng.fill(&mut me);
        Caches(Arc::new(Hub {
            begun: Instant::now(),
            bus: Mutex::new(Bus::new(config.bus, u64::from_le_bytes(me))),
            config,
            rng,
            generations: Generations::new(),
            dropped_us: AtomicU64::new(0),
            proven_until_us: AtomicU64::new(u64::MAX),
            log_until_us: AtomicU64::new(u64::MAX),
            shared: OnceLock::new(),
            caches: Mutex::default(),
            percent: AtomicU64::new(0),
            families: Families::default(),
            metrics: HubMetrics::default(),
        }))
    }

    /// Shares values and invalidations with other nodes over Redis from now on. Returns when it is connected, or has tried once; a Redis
    /// that is away is waited for in the background, and meanwhile nothing older than the bound is served.
    /// Errors: `cache.invalid_redis` for a URL that is none, or for a second call.
    pub async fn share(&self, config: CacheRedis) -> Result<()> {
        self.0.proven_until_us.store(0, SeqCst);
        let shared = Shared::start(&self.0, config).await?;
        self.0.shared.set(shared).map_err(|_| Error::invalid("cache.invalid_redis", "the caches are shared already"))
    }

    /// Whatever was loaded under one of these tags is old. When this returns, this node serves it no more, and every other node at most
    /// for the bound. Call it after the commit and before the answer.
    pub async fn invalidate(&self, tags: &[Tag]) {
        for tag in tags {
            self.0.generations.raise(tag.0);
        }
        self.0.metrics.invalidations.inc();
        if let Some(shared) = self.0.shared.get() {
            shared.invalidate(tags.iter().map(|tag| tag.0).collect()).await;
        }
    }

    /// The same from where nothing can be waited for, such as a lane's commit: this node serves it no more when this returns, and the others
    /// are told at once. The bound holds as well: no heartbeat leaves before what was to be told when it was due.
    pub fn invalidate_soon(&self, tags: &[Tag]) {
        for tag in tags {
            self.0.generations.raise(tag.0);
        }
        self.0.metrics.invalidations.inc();
        if let Some(shared) = self.0.shared.get() {
            shared.invalidate_soon(&self.0, tags.iter().map(|tag| tag.0).collect());
        }
    }

    /// From now on what is remembered has to be proven by the log as well: [`Caches::log_known`] is called by whoever follows it.
    pub fn require_log(&self) {
        self.0.log_until_us.store(0, SeqCst);
    }

    /// Whatever was committed before `began`, by any process, has been heeded.
    pub fn log_known(&self, began: Instant) {
        let at = began.saturating_duration_since(self.0.begun).as_micros() as u64 + 1;
        self.0.log_until_us.store(at + self.0.config.bus.bound_us, SeqCst);
    }

    /// Everything goes, in this process.
    pub fn drop_all(&self) {
        self.0.drop_all();
    }

    /// Every cache, by name.
    pub fn views(&self) -> Vec<CacheView> {
        let mut views: Vec<CacheView> = locked(&self.0.caches).iter().filter_map(Weak::upgrade).map(|cache| cache.view()).collect();
        views.sort_by_key(|view| view.name);
        views
    }

    /// How the bus is.
    pub fn bus(&self) -> BusView {
        let hub = &*self.0;
        BusView {
            shared: hub.shared.get().is_some(),
            connected: hub.shared.get().is_some_and(|shared| shared.connected()),
            nodes: locked(&hub.bus).peers().max(1),
            proven: hub.proven(hub.now_us()),
            bound_ms: hub.config.bus.bound_us / 1000,
        }
    }

    /// Whether this node hears the bus, and so itself. Always, without Redis.
    pub fn on_bus(&self) -> bool {
        self.0.shared.get().is_none_or(|shared| shared.on_bus(self.0.now_us()))
    }

    /// Tells the other nodes that this one goes.
    pub async fn stop(&self) {
        if let Some(shared) = self.0.shared.get() {
            shared.goodbye().await;
        }
    }

    /// Puts the metrics into the registry.
    pub fn register(&self, registry: &mut Registry) {
        let families = &self.0.families;
        registry.register("cache_hits", "Answers out of memory", families.hits.clone());
        registry.register("cache_misses", "Answers that had to be fetched", families.misses.clone());
        registry.register("cache_loads", "Loads from the source", families.loads.clone());
        registry.register("cache_load_failures", "Loads that failed", families.load_failures.clone());
        registry.register("cache_shared_hits", "Answers that Redis gave", families.shared_hits.clone());
        registry.register("cache_stale", "Answers that were past their time", families.stale.clone());
        registry.register("cache_evictions", "Values that had to make room", families.evictions.clone());
        registry.register("cache_bytes", "Bytes of values in memory", families.bytes.clone());
        let metrics = &self.0.metrics;
        registry.register("cache_invalidations", "Invalidations by this node", metrics.invalidations.clone());
        registry.register("cache_dropped", "Times that everything was dropped, because a message was missed", metrics.dropped.clone());
        registry.register("cache_invalidations_unsent", "Invalidations that Redis did not take in time", metrics.unsent.clone());
        registry.register("cache_shared_up", "1 while the caches' Redis answers", metrics.up.clone());
    }

    /// Takes a cache in, and says how many bytes it may have. Errors: `cache.invalid_settings` when the shares are above 100 percent.
    pub(crate) fn reserve(&self, percent: u8) -> Result<u64> {
        let taken = self.0.percent.fetch_add(u64::from(percent), SeqCst) + u64::from(percent);
        if percent == 0 || taken > 100 {
            return Err(Error::invalid("cache.invalid_settings", format!("the caches' shares of memory are {taken} percent together")));
        }
        Ok((self.0.config.bytes * u64::from(percent) / 100).max(1))
    }

    pub(crate) fn metrics_of(&self, cache: &'static str) -> CacheMetrics {
        let (label, families) = (CacheLabel { cache }, &self.0.families);
        CacheMetrics {
            hits: families.hits.get_or_create_owned(&label),
            misses: families.misses.get_or_create_owned(&label),
            loads: families.loads.get_or_create_owned(&label),
            load_failures: families.load_failures.get_or_create_owned(&label),
            shared_hits: families.shared_hits.get_or_create_owned(&label),
            stale: families.stale.get_or_create_owned(&label),
            evictions: families.evictions.get_or_create_owned(&label),
            bytes: families.bytes.get_or_create_owned(&label),
        }
    }

    pub(crate) fn see(&self, cache: Weak<dyn Seen>) {
        locked(&self.0.caches).push(cache);
    }
}

impl Hub {
    /// Microseconds of this process's own clock, which is never set. Never 0.
    pub(crate) fn now_us(&self) -> u64 {
        self.begun.elapsed().as_micros() as u64 + 1
    }

    /// Whether what began to be loaded at this moment has not been dropped since.
    pub(crate) fn stands(&self, loaded_us: u64) -> bool {
        loaded_us > self.dropped_us.load(Relaxed)
    }

    /// Whether what began to be loaded at `loaded_us` may be served now as far as other nodes are concerned.
    pub(crate) fn trusts(&self, loaded_us: u64, now_us: u64) -> bool {
        self.proven(now_us) || now_us < loaded_us + self.config.bus.bound_us
    }

    /// Whether memory is proven to be right now.
    pub(crate) fn proven(&self, now_us: u64) -> bool {
        now_us < self.proven_until_us.load(Relaxed) && now_us < self.log_until_us.load(Relaxed)
    }

    pub(crate) fn drop_all(&self) {
        self.drop_all_at(self.now_us());
    }

    pub(crate) fn drop_all_at(&self, now_us: u64) {
        self.dropped_us.fetch_max(now_us, SeqCst);
        self.metrics.dropped.inc();
    }

    /// Does what follows from a message, in the order that makes it safe: first what is old goes, then trust is renewed.
    pub(crate) fn heed(&self, heard: &Heard, proven_until_us: u64, now_us: u64) {
        for tag in &heard.tags {
            self.generations.raise(*tag);
        }
        if heard.drop_all {
            self.drop_all_at(now_us);
        }
        self.proven_until_us.store(proven_until_us, SeqCst);
    }
}
