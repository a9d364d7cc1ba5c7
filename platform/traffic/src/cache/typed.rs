//! The cache of one kind of value.

use super::class::{Cacheable, Cached, Class};
use super::hub::{CacheMetrics, CacheView, Caches, Hub, Seen, locked};
use super::shared::Looked;
use super::tags::{Stamps, Tag, Tags};
use crate::resilience::Deadline;
use kernel::{Error, ErrorKind, Result};
use quick_cache::sync::Cache as Memory;
use quick_cache::{DefaultHashBuilder, Lifecycle, Weighter};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher as _};
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// What is added to a value's own bytes: its entry, its key's place and its tags.
const ENTRY_BYTES: u64 = 160;
/// When Redis is away, values that are kept only there are kept here, so many.
const FALLBACK_ENTRIES: u64 = 10_000;
/// Counters of what was forgotten, by the key's hash.
const FORGOTTEN: usize = 256;
/// Minus the logarithm of the least number above 0 that [`uniform`] gives: an early refresh is that far ahead at most.
const LONGEST_DRAW: f64 = 36.75;

/// How a cache behaves. Begin with [`Settings::of`], which takes the class's own figures.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name, such as `catalog.products`, in metrics and in Redis.
    pub name: &'static str,
    /// How long a value is good, in milliseconds; the class has the last word.
    pub ttl_ms: u64,
    /// Each value's time is shortened by up to this share, in percent, so that those loaded together don't end together. Default 10.
    pub jitter_percent: u8,
    /// For so long after its time a value is given while a new one is loaded, in milliseconds.
    pub stale_ms: u64,
    /// For so long after its time a value is given when loading fails, in milliseconds.
    pub stale_if_error_ms: u64,
    /// How long it is remembered that there is no such value, in milliseconds.
    pub negative_ms: u64,
    /// How long a load may take, waiting for another node's included, in milliseconds. Default 5 s.
    pub load_ms: u64,
    /// How eagerly values are refreshed before their time (XFetch's beta); 0 for never. Default 1.
    pub eagerness: f64,
    /// Its share of the memory of all caches, in percent. Default 10.
    pub memory_percent: u8,
    /// Whether nodes share it over Redis, when there is one.
    pub shared: bool,
    /// Whether it is kept in this process, or only in Redis as long as that is there.
    pub local: bool,
}

impl Settings {
    /// The figures of the value's class.
    pub fn of<V: Cached>(name: &'static str) -> Settings
    where
        V::Class: Cacheable,
    {
        Settings {
            name,
            ttl_ms: V::Class::TTL_MS,
            jitter_percent: 10,
            stale_ms: V::Class::STALE_MS,
            stale_if_error_ms: V::Class::STALE_IF_ERROR_MS,
            negative_ms: V::Class::NEGATIVE_MS,
            load_ms: 5_000,
            eagerness: 1.0,
            memory_percent: 10,
            shared: V::Class::SHARED,
            local: true,
        }
    }

    /// Those of what stands in for an hour for a source that is away ([`Cache::source_first`]). It stays in this process. Every read that
    /// finds something else puts a value in, and none is loaded when its time is over: so there is nothing to spread, and no random number is
    /// drawn for each.
    pub fn standing_in<V: Cached>(name: &'static str, memory_percent: u8) -> Settings
    where
        V::Class: Cacheable,
    {
        Settings { ttl_ms: 3_600_000, jitter_percent: 0, memory_percent, shared: false, ..Settings::of::<V>(name) }
    }
}

/// What every hit looks at. With the two counts of the `Arc` before it, it fills 64 bytes: with a million entries each line of memory that
/// a hit has to wait for costs it about a hundred nanoseconds.
#[repr(C)]
struct Head {
    /// When its load began, by the hub's clock. What comes from Redis keeps the moment of its own load. Rises when the source says the
    /// same again ([`Cache::source_first`]).
    loaded_us: AtomicU64,
    stamps: Stamps,
    /// How long after that it is fresh, in milliseconds.
    fresh_ms: u32,
    /// For so long before its end a draw decides on an early refresh, in milliseconds; before that none can lead to it.
    early_ms: u32,
    hits: AtomicU32,
    refreshing: AtomicBool,
    /// Whether there is a value.
    is_some: bool,
}

impl Head {
    fn loaded_us(&self) -> u64 {
        self.loaded_us.load(Relaxed)
    }

    fn fresh_until_us(&self) -> u64 {
        self.loaded_us() + u64::from(self.fresh_ms) * 1000
    }
}

/// A value, or that there is none, and what is known of it.
#[repr(C)]
pub(crate) struct Entry<V> {
    head: Head,
    /// How long its load took, times the eagerness.
    delta_us: f64,
    bytes: u64,
    value: Option<V>,
}

const _: () = assert!(size_of::<Head>() == 48, "and 16 bytes of the counts");

/// A value from a cache.
pub struct Found<V> {
    entry: Arc<Entry<V>>,
    age_us: u64,
    stale: bool,
}

impl<V> Deref for Found<V> {
    type Target = V;
    fn deref(&self) -> &V {
        self.entry.value.as_ref().expect("a Found is made of an entry with a value")
    }
}

impl<V: fmt::Debug> fmt::Debug for Found<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<V: Serialize> Serialize for Found<V> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<V> Found<V> {
    /// A value that came straight from its source.
    pub fn loaded(value: V) -> Found<V> {
        let head = Head {
            loaded_us: AtomicU64::new(0),
            stamps: Stamps::default(),
            fresh_ms: 0,
            early_ms: 0,
            hits: AtomicU32::new(0),
            refreshing: AtomicBool::new(false),
            is_some: true,
        };
        let entry = Entry { head, delta_us: 0.0, bytes: 0, value: Some(value) };
        Found { entry: Arc::new(entry), age_us: 0, stale: false }
    }

    /// How long ago it began to be loaded.
    pub fn age(&self) -> Duration {
        Duration::from_micros(self.age_us)
    }

    /// Whether its time is over: a new one is under way, or could not be had.
    pub fn is_stale(&self) -> bool {
        self.stale
    }
}

/// What [`Cache::source_first`] gives.
pub enum Sourced<T, V> {
    /// What the source says now.
    Now(T),
    /// What is remembered of what it said.
    Then(Found<V>),
}

/// A value weighs its bytes.
#[derive(Clone)]
struct Bytes;

impl<K, V> Weighter<K, Arc<Entry<V>>> for Bytes {
    fn weight(&self, _: &K, entry: &Arc<Entry<V>>) -> u64 {
        entry.bytes
    }
}

/// Counts what has to make room.
#[derive(Clone)]
struct Evicted(CacheMetrics);

impl<K, V> Lifecycle<K, V> for Evicted {
    type RequestState = ();
    fn on_evict(&self, _: &mut (), _: K, _: V) {
        self.0.evictions.inc();
    }
}

type Loaded<V> = Result<Arc<Entry<V>>>;

/// A load under way.
struct Flight<V> {
    stamps: Stamps,
    began_us: u64,
    number: u64,
    done: watch::Receiver<Option<Loaded<V>>>,
}

struct Inner<K, V> {
    hub: Arc<Hub>,
    settings: Settings,
    /// The tag of everything in it.
    own: Tag,
    class: &'static str,
    tags: fn(&K) -> Tags,
    memory: Memory<K, Arc<Entry<V>>, Bytes, DefaultHashBuilder, Evicted>,
    capacity: u64,
    flights: Mutex<Flights<K, V>>,
    /// Raised when a key of this hash is forgotten: what was read before that is not kept after it.
    forgotten: [AtomicU32; FORGOTTEN],
    metrics: CacheMetrics,
}

struct Flights<K, V> {
    last: u64,
    under_way: HashMap<K, Flight<V>>,
}

/// A cache; cheap to clone. `K` is what a value is found by; its tags follow from it.
pub struct Cache<K, V: Cached>(Arc<Inner<K, V>>)
where
    V::Class: Cacheable;

impl<K, V: Cached> Clone for Cache<K, V>
where
    V::Class: Cacheable,
{
    fn clone(&self) -> Self {
        Cache(self.0.clone())
    }
}

/// What an entry is worth now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Worth {
    /// To be given.
    Fresh,
    /// To be given, while a new one is loaded.
    Refresh,
    /// Only if no new one can be had.
    Spare,
    /// Never again: it was invalidated, or its time is long over.
    Nothing,
}

impl<K, V> Cache<K, V>
where
    K: Hash + Eq + Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
    V: Cached,
    V::Class: Cacheable,
{
    /// A cache. `tags` says what the value of a key depends on; the cache's own name is always among it.
    /// Errors: `cache.invalid_settings`, also when the shares of memory of all caches are above 100 percent.
    pub fn new(caches: &Caches, mut settings: Settings, tags: fn(&K) -> Tags) -> Result<Cache<K, V>> {
        let wrong = |why: &str| Err(Error::invalid("cache.invalid_settings", format!("cache {}: {why}", settings.name)));
        if settings.ttl_ms == 0 || settings.load_ms == 0 {
            return wrong("ttl_ms and load_ms are above 0");
        }
        if settings.jitter_percent > 50 || !(0.0..=100.0).contains(&settings.eagerness) {
            return wrong("jitter_percent is at most 50, eagerness at most 100");
        }
        settings.ttl_ms = settings.ttl_ms.min(V::Class::LONGEST_TTL_MS);
        settings.stale_ms = settings.stale_ms.min(V::Class::STALE_IF_ERROR_MS);
        settings.stale_if_error_ms = settings.stale_if_error_ms.min(V::Class::STALE_IF_ERROR_MS);
        settings.shared &= V::Class::SHARED;
        let capacity = if settings.local { caches.reserve(settings.memory_percent)? } else { FALLBACK_ENTRIES };
        let estimated = if settings.local { (capacity / (ENTRY_BYTES * 2)).clamp(16, 2_000_000) } else { FALLBACK_ENTRIES };
        let metrics = caches.metrics_of(settings.name);
        let memory = Memory::with(estimated as usize, capacity, Bytes, DefaultHashBuilder::default(), Evicted(metrics.clone()));
        let inner = Arc::new(Inner {
            hub: caches.0.clone(),
            class: V::Class::NAME,
            own: Tag::new("cache", settings.name),
            tags,
            memory,
            capacity,
            flights: Mutex::new(Flights { last: 0, under_way: HashMap::new() }),
            forgotten: [const { AtomicU32::new(0) }; FORGOTTEN],
            metrics,
            settings,
        });
        let seen: Arc<dyn Seen> = inner.clone();
        caches.see(Arc::downgrade(&seen));
        Ok(Cache(inner))
    }

    /// The value of a key, loaded if need be; none when there is none. `load` runs at most once for all who ask at the same time, here
    /// and on all nodes that share a Redis; it reads the source itself, not a copy that may lag behind. Nobody waits longer than
    /// `load_ms`, nor than the current [`Deadline`].
    /// Errors: those of `load`, unless an old value may stand in for it; unavailable with `cache.load_timeout`.
    pub async fn get<L, F>(&self, key: &K, load: L) -> Result<Option<Found<V>>>
    where
        L: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<Option<V>>> + Send + 'static,
    {
        let inner = &self.0;
        let now = inner.hub.now_us();
        let spare = match inner.remembered(key) {
            None => None,
            Some(entry) => match inner.worth(&entry, now) {
                Worth::Fresh => return Ok(inner.hit(entry, now)),
                Worth::Refresh => {
                    if !entry.head.refreshing.swap(true, Relaxed) {
                        // Nobody waits for it. If it fails, the next one tries.
                        let _ = inner.clone().fly(key.clone(), load, Some(entry.clone()));
                    }
                    return Ok(inner.hit(entry, now));
                }
                Worth::Spare => Some(entry),
                Worth::Nothing => None,
            },
        };
        inner.metrics.misses.inc();
        let answer = inner.wait(inner.clone().fly(key.clone(), load, None)).await;
        match (answer, spare) {
            (Ok(entry), _) => Ok(inner.found(entry, inner.hub.now_us(), false)),
            // What was invalidated meanwhile is no spare any more.
            (Err(error), Some(spare)) if is_failure(&error) && inner.worth(&spare, inner.hub.now_us()) != Worth::Nothing => {
                inner.metrics.stale.inc();
                Ok(inner.found(spare, inner.hub.now_us(), true))
            }
            (Err(error), _) => Err(error),
        }
    }

    /// What the source says now, whatever is remembered; and of that what `keep` makes of it is remembered. When the source fails, what it
    /// said last stands in, for as long as the value's time and `stale_if_error_ms` together, but never what is known to have changed. What
    /// is remembered so stays in this process. Errors: those of `load`, unless an old value may stand in for it.
    pub async fn source_first<T>(
        &self,
        key: &K,
        load: impl Future<Output = Result<T>>,
        keep: impl FnOnce(&T) -> Option<V>,
    ) -> Result<Sourced<T, V>> {
        let inner = &self.0;
        let (stamps, began_us, forgotten) = (inner.stamps(key), inner.hub.now_us(), inner.forgotten(key));
        let before = forgotten.load(SeqCst);
        inner.metrics.loads.inc();
        match load.await {
            Ok(answer) => {
                if let Some(value) = keep(&answer) {
                    if !inner.renew(key, &value, stamps, began_us) {
                        inner.keep(key.clone(), &Arc::new(inner.entry(Some(value), stamps, began_us, 0, None)));
                    }
                    if forgotten.load(SeqCst) != before {
                        inner.memory.remove(key);
                    }
                }
                Ok(Sourced::Now(answer))
            }
            Err(error) if is_failure(&error) => {
                inner.metrics.load_failures.inc();
                let now = inner.hub.now_us();
                let spare = inner.remembered(key).filter(|entry| inner.worth(entry, now) != Worth::Nothing);
                let found = spare.and_then(|entry| inner.found(entry, now, true)).ok_or(error)?;
                inner.metrics.stale.inc();
                Ok(Sourced::Then(found))
            }
            Err(error) => Err(error),
        }
    }

    /// Takes what [`Cache::source_first`] has kept for this key out of this process's memory: it is old. For what changes so often that
    /// raising a tag, which others share, would cost them too much.
    pub fn forget(&self, key: &K) {
        self.0.forgotten(key).fetch_add(1, SeqCst);
        self.0.memory.remove(key);
    }

    /// The value if it is in this process's memory and fresh.
    pub fn peek(&self, key: &K) -> Option<Found<V>> {
        let now = self.0.hub.now_us();
        let entry = self.0.remembered(key).filter(|entry| self.0.worth(entry, now) == Worth::Fresh)?;
        self.0.hit(entry, now)
    }

    /// What was loaded for this key, or under any of its tags, is old.
    pub async fn invalidate(&self, key: &K) {
        let tags = (self.0.tags)(key);
        Caches(self.0.hub.clone()).invalidate(&tags).await;
    }

    /// Everything in this cache is old.
    pub async fn invalidate_all(&self) {
        Caches(self.0.hub.clone()).invalidate(&[self.0.own]).await;
    }

    /// Writes through: runs `write`, which answers with the value as it is stored now; the old value is invalidated, and the new one kept if
    /// nobody else has written meanwhile. (If somebody has, nobody knows here whose came last, and the next reader loads it.)
    /// Errors: those of `write`. After an error the old value is invalidated too: the write may have happened.
    pub async fn write_through<F>(&self, key: &K, write: F) -> Result<Found<V>>
    where
        F: Future<Output = Result<V>>,
    {
        let inner = &self.0;
        let began_us = inner.hub.now_us();
        let before = inner.stamps(key);
        let written = write.await;
        self.invalidate(key).await;
        let value = written?;
        // Raised once for each tag, by us: nobody has written between.
        let stamps = before.raised(&(inner.tags)(key), inner.own);
        let alone = inner.hub.generations.hold(&stamps, inner.own);
        let entry = Arc::new(inner.entry(Some(value), stamps, began_us, 0, None));
        if alone {
            inner.keep(key.clone(), &entry);
        }
        Ok(Found { entry, age_us: 0, stale: false })
    }

    /// The keys that were asked for most, the most wanted first: what to warm a new process with.
    pub fn hot(&self, most: usize) -> Vec<K> {
        let mut all: Vec<(u32, K)> =
            self.0.memory.iter().filter(|(_, entry)| entry.head.is_some).map(|(key, entry)| (entry.head.hits.load(Relaxed), key)).collect();
        all.sort_by_key(|(hits, _)| std::cmp::Reverse(*hits));
        all.truncate(most);
        all.into_iter().map(|(_, key)| key).collect()
    }

    /// Loads these keys, a few at a time, until `within` is over. Gives how many were loaded.
    pub async fn warm<L, F>(&self, keys: Vec<K>, within: Duration, load: L) -> usize
    where
        L: Fn(K) -> F + Clone + Send + 'static,
        F: Future<Output = Result<Option<V>>> + Send + 'static,
    {
        /// Loads at once.
        const AT_ONCE: usize = 8;
        let (mut keys, mut tasks, mut done) = (keys.into_iter(), tokio::task::JoinSet::new(), 0);
        let all = async {
            loop {
                while tasks.len() < AT_ONCE
                    && let Some(key) = keys.next()
                {
                    let (cache, load) = (self.clone(), load.clone());
                    tasks.spawn(async move {
                        let wanted = key.clone();
                        cache.get(&key, move || load(wanted)).await.is_ok()
                    });
                }
                match tasks.join_next().await {
                    Some(loaded) => done += usize::from(loaded.unwrap_or(false)),
                    None => return,
                }
            }
        };
        let _ = tokio::time::timeout(within, all).await;
        done
    }

    /// Its figures.
    pub fn view(&self) -> CacheView {
        self.0.view()
    }
}

/// Whether the source failed, as against having answered.
fn is_failure(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Overloaded | ErrorKind::Unknown | ErrorKind::Internal)
}

impl<K, V> Inner<K, V>
where
    K: Hash + Eq + Clone + Serialize + Send + Sync + 'static,
    V: Cached,
{
    fn forgotten(&self, key: &K) -> &AtomicU32 {
        let mut hasher = std::hash::DefaultHasher::new();
        key.hash(&mut hasher);
        &self.forgotten[hasher.finish() as usize % FORGOTTEN]
    }

    fn remembered(&self, key: &K) -> Option<Arc<Entry<V>>> {
        if !self.settings.local && self.hub.shared.get().is_some_and(|shared| shared.connected()) {
            return None;
        }
        self.memory.get(key)
    }

    fn worth(&self, entry: &Entry<V>, now: u64) -> Worth {
        let head = &entry.head;
        if !self.hub.stands(head.loaded_us()) || !self.hub.generations.hold(&head.stamps, self.own) {
            return Worth::Nothing;
        }
        let fresh_until_us = head.fresh_until_us();
        if now < fresh_until_us {
            if !self.hub.trusts(head.loaded_us(), now) {
                return Worth::Spare;
            }
            let may_be_early = fresh_until_us - now <= u64::from(head.early_ms) * 1000;
            return if may_be_early && self.comes_early(entry, now) { Worth::Refresh } else { Worth::Fresh };
        }
        let over_us = now - fresh_until_us;
        if head.is_some && over_us < self.settings.stale_ms * 1000 && self.hub.trusts(head.loaded_us(), now) {
            Worth::Refresh
        } else if head.is_some && over_us < self.settings.stale_if_error_ms * 1000 {
            Worth::Spare
        } else {
            Worth::Nothing
        }
    }

    /// XFetch (Vattani, Chierichetti, Lowenstein: Optimal Probabilistic Cache Stampede Prevention, VLDB 2015): refresh when
    /// `now - delta * beta * ln(random) >= expiry`, so that one caller of many is early by about the time that a load takes.
    fn comes_early(&self, entry: &Entry<V>, now: u64) -> bool {
        now as f64 - entry.delta_us * self.uniform().ln() >= entry.head.fresh_until_us() as f64
    }

    /// Random: above 0 and at most 1.
    fn uniform(&self) -> f64 {
        let mut random = [0; 8];
        self.hub.rng.fill(&mut random);
        ((u64::from_le_bytes(random) >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    fn hit(&self, entry: Arc<Entry<V>>, now: u64) -> Option<Found<V>> {
        // A few lost among several threads don't matter, a locked instruction would.
        let hits = &entry.head.hits;
        hits.store(hits.load(Relaxed).wrapping_add(1), Relaxed);
        self.metrics.hits.inc();
        let stale = now >= entry.head.fresh_until_us();
        if stale {
            self.metrics.stale.inc();
        }
        self.found(entry, now, stale)
    }

    fn found(&self, entry: Arc<Entry<V>>, now: u64, stale: bool) -> Option<Found<V>> {
        if !entry.head.is_some {
            return None;
        }
        let age_us = now.saturating_sub(entry.head.loaded_us());
        Some(Found { entry, age_us, stale })
    }

    fn stamps(&self, key: &K) -> Stamps {
        self.hub.generations.stamps((self.tags)(key), self.own)
    }

    /// An entry whose load began at `began_us` and took `took_us`. `left_us`: how long it is good, if that is known already.
    fn entry(&self, value: Option<V>, stamps: Stamps, began_us: u64, took_us: u64, left_us: Option<u64>) -> Entry<V> {
        let ttl_ms = if value.is_some() { self.settings.ttl_ms } else { self.settings.negative_ms };
        let jitter = match self.settings.jitter_percent {
            0 => 0.0,
            percent => self.uniform() * f64::from(percent) / 100.0,
        };
        let ttl_us = left_us.unwrap_or((ttl_ms as f64 * 1000.0 * (1.0 - jitter)) as u64);
        let fresh_us = self.hub.now_us() + ttl_us - began_us;
        let delta_us = took_us as f64 * self.settings.eagerness;
        let own = value.as_ref().map_or(0, |value| value.bytes() as u64);
        let head = Head {
            loaded_us: AtomicU64::new(began_us),
            stamps,
            fresh_ms: u32::try_from(fresh_us / 1000).unwrap_or(u32::MAX),
            early_ms: (delta_us * LONGEST_DRAW / 1000.0).ceil() as u32,
            hits: AtomicU32::new(0),
            refreshing: AtomicBool::new(false),
            is_some: value.is_some(),
        };
        Entry { head, delta_us, bytes: if self.settings.local { own + ENTRY_BYTES } else { 1 }, value }
    }

    fn keep(&self, key: K, entry: &Arc<Entry<V>>) {
        // A load that was overtaken by an invalidation must not take the place of a later one.
        if !self.hub.generations.hold(&entry.head.stamps, self.own) || !self.hub.stands(entry.head.loaded_us()) {
            return;
        }
        self.memory.insert(key, entry.clone());
        self.metrics.bytes.set(self.memory.weight() as i64);
    }

    /// Makes what is remembered as young as this value, if it says the same. Gives whether it does.
    fn renew(&self, key: &K, value: &V, stamps: Stamps, began_us: u64) -> bool {
        let Some(entry) = self.memory.get(key) else { return false };
        let same = entry.head.stamps == stamps && entry.value.as_ref().is_some_and(|known| value.same(known));
        if same {
            entry.head.loaded_us.fetch_max(began_us, Relaxed);
        }
        same
    }

    /// Joins the load of this key that is under way, if it began under the generations that hold now, or begins one.
    fn fly<L, F>(self: Arc<Self>, key: K, load: L, refreshed: Option<Arc<Entry<V>>>) -> watch::Receiver<Option<Loaded<V>>>
    where
        L: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<Option<V>>> + Send + 'static,
        K: 'static,
    {
        let stamps = self.stamps(&key);
        let began_us = self.hub.now_us();
        let mut flights = locked(&self.flights);
        if let Some(flight) = flights.under_way.get(&key)
            && flight.stamps == stamps
            && self.hub.stands(flight.began_us)
        {
            return flight.done.clone();
        }
        let (tell, done) = watch::channel(None);
        flights.last += 1;
        let number = flights.last;
        flights.under_way.insert(key.clone(), Flight { stamps, began_us, number, done: done.clone() });
        drop(flights);
        let landing = Landing { inner: self.clone(), key: key.clone(), number, refreshed };
        tokio::spawn(async move {
            let time = Duration::from_millis(self.settings.load_ms);
            let work = self.fetch(&key, load, stamps, began_us);
            let answer = match tokio::time::timeout(time, Deadline::within(time).scope(work)).await {
                Ok(answer) => answer,
                Err(_) => Err(self.too_slow()),
            };
            match &answer {
                Ok(entry) => self.keep(key, entry),
                Err(_) => _ = self.metrics.load_failures.inc(),
            }
            drop(landing);
            tell.send_replace(Some(answer));
        });
        done
    }

    fn too_slow(&self) -> Error {
        let detail = format!("{} could not be loaded within {} ms", self.settings.name, self.settings.load_ms);
        Error::unavailable("cache.load_timeout", detail).retry_after_ms(1000)
    }

    async fn wait(&self, mut done: watch::Receiver<Option<Loaded<V>>>) -> Loaded<V> {
        let most = Duration::from_millis(self.settings.load_ms);
        let time = Deadline::current().map_or(Some(most), |deadline| deadline.left().map(|left| left.min(most)));
        let Some(time) = time else { return Err(self.too_slow()) };
        match tokio::time::timeout(time, done.wait_for(Option::is_some)).await {
            Ok(Ok(answer)) => answer.clone().unwrap_or_else(|| Err(self.too_slow())),
            Ok(Err(_)) => Err(Error::internal(format!("a load of {} panicked", self.settings.name))),
            Err(_) => Err(self.too_slow()),
        }
    }

    /// From Redis if it has it, from the source otherwise.
    async fn fetch<L, F>(&self, key: &K, load: L, stamps: Stamps, began_us: u64) -> Loaded<V>
    where
        L: FnOnce() -> F,
        F: Future<Output = Result<Option<V>>>,
    {
        let shared = self.hub.shared.get().filter(|_| self.settings.shared);
        let Some(shared) = shared.filter(|shared| shared.connected() && self.hub.proven(began_us)) else {
            return self.load(load, stamps, began_us).await;
        };
        let text = serde_json::to_string(key).map_err(|error| Error::internal("a key of a cache does not serialise").caused_by(error))?;
        let place = shared.place(self.settings.name, &text);
        let buckets = stamps.buckets(self.own);
        let until = tokio::time::Instant::now() + Duration::from_millis(self.settings.load_ms);
        match shared.look(&place, &buckets, until).await {
            Looked::Value { bytes, left_us, age_us } => match serde_json::from_slice::<Option<V>>(&bytes) {
                Ok(value) => {
                    self.metrics.shared_hits.inc();
                    let loaded_us = began_us.saturating_sub(age_us);
                    Ok(Arc::new(self.entry(value, stamps, loaded_us, 0, Some(left_us))))
                }
                // Of another version of the program.
                Err(_) => self.load(load, stamps, began_us).await,
            },
            Looked::Load(leave) => {
                let entry = self.load(load, stamps, began_us).await;
                if let Ok(entry) = &entry {
                    let left_us = entry.head.fresh_until_us().saturating_sub(self.hub.now_us());
                    if let Ok(bytes) = serde_json::to_vec(&entry.value) {
                        shared.put(&place, leave, bytes, left_us).await;
                    }
                } else {
                    shared.give_up(&place, leave).await;
                }
                entry
            }
            Looked::Away => self.load(load, stamps, began_us).await,
        }
    }

    async fn load<L, F>(&self, load: L, stamps: Stamps, began_us: u64) -> Loaded<V>
    where
        L: FnOnce() -> F,
        F: Future<Output = Result<Option<V>>>,
    {
        self.metrics.loads.inc();
        let loading_us = self.hub.now_us();
        let value = load().await?;
        let took_us = self.hub.now_us() - loading_us;
        Ok(Arc::new(self.entry(value, stamps, began_us, took_us, None)))
    }
}

/// Takes a flight off the list, even when its load panics.
struct Landing<K: Hash + Eq, V> {
    inner: Arc<Inner<K, V>>,
    key: K,
    number: u64,
    /// The entry that was to be refreshed.
    refreshed: Option<Arc<Entry<V>>>,
}

impl<K: Hash + Eq, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        if let Some(entry) = &self.refreshed {
            entry.head.refreshing.store(false, Relaxed);
        }
        let mut flights = locked(&self.inner.flights);
        if flights.under_way.get(&self.key).is_some_and(|flight| flight.number == self.number) {
            flights.under_way.remove(&self.key);
        }
    }
}

impl<K, V> Seen for Inner<K, V>
where
    K: Hash + Eq + Send + Sync,
    V: Cached,
{
    fn view(&self) -> CacheView {
        let metrics = &self.metrics;
        CacheView {
            name: self.settings.name,
            class: self.class,
            ttl_ms: self.settings.ttl_ms,
            entries: self.memory.len() as u64,
            bytes: self.memory.weight(),
            capacity_bytes: self.capacity,
            hits: metrics.hits.get(),
            misses: metrics.misses.get(),
            loads: metrics.loads.get(),
            load_failures: metrics.load_failures.get(),
            shared_hits: metrics.shared_hits.get(),
            stale: metrics.stale.get(),
            evictions: metrics.evictions.get(),
        }
    }
}
