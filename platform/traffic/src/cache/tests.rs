//! One cache on a clock that jumps, and many nodes on a bus that loses messages.

use super::bus::{Bus, BusConfig, Message};
use super::*;
use crate::resilience::Deadline;
use kernel::{Error, Result, Rng as _, SeededRng};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Product(u32);

impl Cached for Product {
    type Class = Normal;
    fn bytes(&self) -> usize {
        1_000
    }

    fn same(&self, other: &Product) -> bool {
        self == other
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Count(u32);

impl Cached for Count {
    type Class = Short;
    fn bytes(&self) -> usize {
        4
    }
}

fn caches() -> Caches {
    Caches::new(CachesConfig::default(), Arc::new(SeededRng::new(7)))
}

fn tags(key: &u32) -> Tags {
    Tags::of([Tag::new("product", key)])
}

/// 10 s fresh, no jitter and no early refresh unless a test wants them.
fn settings() -> Settings {
    Settings {
        ttl_ms: 10_000,
        jitter_percent: 0,
        eagerness: 0.0,
        stale_ms: 2_000,
        stale_if_error_ms: 60_000,
        negative_ms: 3_000,
        ..Settings::of::<Product>("test.products")
    }
}

fn cache(caches: &Caches, settings: Settings) -> Cache<u32, Product> {
    Cache::new(caches, settings, tags).unwrap()
}

fn down() -> Error {
    Error::unavailable("test.down", "it is down")
}

type Loading = std::pin::Pin<Box<dyn Future<Output = Result<Option<Product>>> + Send>>;

/// A source that counts how often it was asked, and answers with that number.
#[derive(Clone, Default)]
struct Source(Arc<AtomicU32>);

impl Source {
    fn loads(&self) -> u32 {
        self.0.load(SeqCst)
    }

    fn load(&self) -> impl FnOnce() -> Loading + Send + 'static {
        let loads = self.0.clone();
        move || {
            Box::pin(async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                Ok(Some(Product(loads.fetch_add(1, SeqCst) + 1)))
            })
        }
    }
}

async fn pass(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

#[tokio::test(start_paused = true)]
async fn a_value_is_fresh_then_stale_then_a_spare_then_gone() {
    let (caches, source) = (caches(), Source::default());
    let cache = cache(&caches, settings());
    let get = async || cache.get(&1, source.load()).await.map(|found| found.map(|found| (found.0, found.is_stale())));
    let fail = async || cache.get(&1, || async { Err(down()) }).await.map(|found| found.map(|found| (found.0, found.is_stale())));
    assert_eq!(get().await.unwrap(), Some((1, false)));
    pass(9_990).await;
    assert_eq!(get().await.unwrap(), Some((1, false)), "nobody loads within its time");
    assert_eq!(cache.get(&1, source.load()).await.unwrap().unwrap().age().as_millis() / 10, 1009);
    pass(20).await;
    assert_eq!(get().await.unwrap(), Some((1, true)), "past its time it is given while a new one is loaded");
    assert_eq!(get().await.unwrap(), Some((1, true)), "and only one is");
    pass(150).await;
    assert_eq!((get().await.unwrap(), source.loads()), (Some((2, false)), 2));
    pass(12_500).await;
    assert_eq!(fail().await.unwrap(), Some((2, true)), "too old to be given, unless loading fails");
    assert_eq!(get().await.unwrap(), Some((3, false)));
    pass(71_000).await;
    assert_eq!(fail().await.unwrap_err().code(), "test.down", "too old for anything");
    let view = cache.view();
    assert_eq!((view.class, view.loads, view.load_failures, view.stale), ("normal", 5, 2, 3));
}

#[tokio::test(start_paused = true)]
async fn the_source_comes_first_and_what_it_said_stands_in() {
    let caches = caches();
    let cache = cache(&caches, settings());
    let ask = async |answer: Result<u32>| match cache.source_first(&1, async { answer }, |n| (*n > 0).then_some(Product(*n))).await {
        Ok(Sourced::Now(n)) => Ok((n, false)),
        Ok(Sourced::Then(found)) => Ok((found.0, found.is_stale())),
        Err(error) => Err(error.code()),
    };
    assert_eq!(ask(Err(down())).await, Err("test.down"), "nothing is remembered");
    assert_eq!(ask(Ok(1)).await, Ok((1, false)));
    assert_eq!(ask(Ok(2)).await, Ok((2, false)), "what is remembered is never in the way");
    assert_eq!(ask(Ok(0)).await, Ok((0, false)));
    assert_eq!(ask(Err(down())).await, Ok((2, true)), "what is not to be kept is not");
    assert_eq!(ask(Err(Error::not_found("test.gone", "it is gone"))).await, Err("test.gone"), "that is an answer");
    cache.invalidate(&1).await;
    assert_eq!(ask(Err(down())).await, Err("test.down"), "never what is known to have changed");
    assert_eq!(ask(Ok(3)).await, Ok((3, false)));
    cache.forget(&1);
    assert_eq!(ask(Err(down())).await, Err("test.down"), "nor what was forgotten");
    // What was read before the change that made it forgotten is not kept after it.
    let overtaken = async {
        pass(10).await;
        Ok(4)
    };
    let change = async {
        pass(5).await;
        cache.forget(&1);
    };
    let (read, ()) = tokio::join!(cache.source_first(&1, overtaken, |n| Some(Product(*n))), change);
    assert!(matches!(read, Ok(Sourced::Now(4))));
    assert_eq!(ask(Err(down())).await, Err("test.down"));
    assert_eq!(ask(Ok(5)).await, Ok((5, false)));
    // Found the same again it is as young as the last time, though it stays where it is; unless it was invalidated or forgotten meanwhile.
    let age = async || match cache.source_first(&1, async { Err::<u32, _>(down()) }, |_| None).await {
        Ok(Sourced::Then(found)) => Some((found.0, found.age().as_secs())),
        _ => None,
    };
    pass(5_000).await;
    assert_eq!((ask(Ok(5)).await, age().await), (Ok((5, false)), Some((5, 0))));
    pass(8_000).await;
    assert_eq!(age().await, Some((5, 8)));
    cache.invalidate(&1).await;
    assert_eq!((age().await, ask(Ok(5)).await, age().await), (None, Ok((5, false)), Some((5, 0))));
    let overtaken = async {
        pass(10).await;
        Ok(5)
    };
    let change = async {
        pass(5).await;
        cache.forget(&1);
        // Somebody else has read it anew, and it is the same: but whoever began before the change can't know.
        assert_eq!(ask(Ok(5)).await, Ok((5, false)));
    };
    let _ = tokio::join!(cache.source_first(&1, overtaken, |n| Some(Product(*n))), change);
    assert_eq!(age().await, None);
    assert_eq!(ask(Ok(5)).await, Ok((5, false)));
    pass(10_000 + 71_000).await;
    assert_eq!(ask(Err(down())).await, Err("test.down"), "too old for anything");
}

#[tokio::test(start_paused = true)]
async fn what_was_invalidated_is_never_given_again() {
    let (caches, source) = (caches(), Source::default());
    let cache = cache(&caches, settings());
    cache.get(&1, source.load()).await.unwrap();
    cache.invalidate(&1).await;
    assert_eq!(cache.get(&1, || async { Err(down()) }).await.unwrap_err().code(), "test.down", "not even when nothing else can be had");
    assert_eq!(cache.get(&1, source.load()).await.unwrap().unwrap().0, 2);
    // A load that began before the invalidation is for those who came before it.
    let early = tokio::spawn({
        let (cache, source) = (cache.clone(), source.clone());
        async move { cache.get(&2, source.load()).await.unwrap().unwrap().0 }
    });
    pass(50).await;
    cache.invalidate(&2).await;
    let late = cache.get(&2, source.load()).await.unwrap().unwrap().0;
    assert_eq!((early.await.unwrap(), late), (3, 4));
    assert_eq!(cache.peek(&2).unwrap().0, 4, "the overtaken load did not take its place");
    caches.invalidate(&[Tag::new("cache", "test.products")]).await;
    assert!(cache.peek(&1).is_none() && cache.peek(&2).is_none(), "the cache's own tag is everything in it");
    cache.get(&1, source.load()).await.unwrap();
    pass(1).await;
    caches.drop_all();
    assert!(cache.peek(&1).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_thousand_who_ask_at_once_load_once() {
    let (caches, source) = (caches(), Source::default());
    let cache = cache(&caches, settings());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..1_000 {
        let (cache, source) = (cache.clone(), source.clone());
        tasks.spawn(async move { cache.get(&1, source.load()).await.unwrap().unwrap().0 });
    }
    assert!(tasks.join_all().await.into_iter().all(|value| value == 1));
    assert_eq!(source.loads(), 1);
    // Whoever asked first may leave; the others still get it.
    let first = tokio::time::timeout(Duration::from_millis(10), cache.get(&2, source.load())).await;
    assert!(first.is_err());
    assert_eq!(cache.get(&2, source.load()).await.unwrap().unwrap().0, 2);
    let panicked = cache.get(&3, || async { panic!("a load that panics") }).await;
    assert_eq!(panicked.unwrap_err().kind(), kernel::ErrorKind::Internal);
    assert_eq!(cache.get(&3, source.load()).await.unwrap().unwrap().0, 3, "and the next one loads");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_a_load_or_their_own_deadline() {
    let caches = caches();
    let cache = cache(&caches, Settings { load_ms: 1_000, ..settings() });
    let begun = tokio::time::Instant::now();
    let never = || std::future::pending::<Result<Option<Product>>>();
    let hurried = Deadline::within(Duration::from_millis(300)).scope(cache.get(&1, never)).await;
    assert_eq!((hurried.unwrap_err().code(), begun.elapsed().as_millis()), ("cache.load_timeout", 300));
    let joined = cache.get(&1, never).await;
    assert_eq!((joined.unwrap_err().code(), begun.elapsed().as_millis()), ("cache.load_timeout", 1_000), "the load began with the first");
}

#[tokio::test(start_paused = true)]
async fn that_there_is_none_is_remembered_for_a_while() {
    let (caches, asked) = (caches(), Arc::new(AtomicU32::new(0)));
    let cache = cache(&caches, settings());
    let none = || {
        let asked = asked.clone();
        move || async move {
            asked.fetch_add(1, SeqCst);
            Ok(None)
        }
    };
    for _ in 0..3 {
        assert!(cache.get(&1, none()).await.unwrap().is_none());
    }
    assert_eq!(asked.load(SeqCst), 1);
    pass(3_100).await;
    assert!(cache.get(&1, none()).await.unwrap().is_none());
    assert_eq!(asked.load(SeqCst), 2);
    cache.invalidate(&1).await;
    assert_eq!(cache.get(&1, Source::default().load()).await.unwrap().unwrap().0, 1, "made meanwhile, it is there at once");
}

#[tokio::test(start_paused = true)]
async fn a_class_has_the_last_word() {
    let caches = caches();
    let short =
        Cache::<u32, Count>::new(&caches, Settings { ttl_ms: 60_000, ..Settings::of::<Count>("test.counts") }, |_| Tags::NONE).unwrap();
    assert_eq!(short.view().ttl_ms, 5_000);
    short.get(&1, || async { Ok(Some(Count(1))) }).await.unwrap();
    pass(5_001).await;
    assert!(short.get(&1, || async { Err(down()) }).await.is_err(), "and is no spare");
    let too_much = Settings { memory_percent: 95, ..settings() };
    assert_eq!(Cache::<u32, Product>::new(&caches, too_much, tags).err().unwrap().code(), "cache.invalid_settings");
}

#[tokio::test(start_paused = true)]
async fn values_loaded_together_do_not_end_together() {
    let caches = caches();
    let cache = cache(&caches, Settings { jitter_percent: 20, ttl_ms: 100_000, ..settings() });
    for key in 0..200 {
        cache.get(&key, || async { Ok(Some(Product(0))) }).await.unwrap();
    }
    let fresh = || (0..200).filter(|key| cache.peek(key).is_some()).count();
    pass(79_000).await;
    assert_eq!(fresh(), 200);
    pass(11_000).await;
    assert!((70..130).contains(&fresh()), "{}", fresh());
    pass(10_001).await;
    assert_eq!(fresh(), 0);
}

/// XFetch with a load of 100 ms: one of many who ask every 10 ms refreshes it before its time, the earlier the more eager.
#[tokio::test(start_paused = true)]
async fn a_value_that_many_ask_for_is_refreshed_before_its_time() {
    let mut early_by = Vec::new();
    for eagerness in [0.0, 1.0, 5.0] {
        let mut sum = 0;
        for key in 0..20 {
            let (caches, source) = (Caches::new(CachesConfig::default(), Arc::new(SeededRng::new(100 + key))), Source::default());
            let cache = cache(&caches, Settings { eagerness, ..settings() });
            cache.get(&1, source.load()).await.unwrap();
            let loaded = tokio::time::Instant::now();
            while source.loads() < 2 {
                assert!(cache.get(&1, source.load()).await.unwrap().is_some());
                pass(10).await;
            }
            // The load itself took 100 ms.
            let at_ms = loaded.elapsed().as_millis() as i64 - 100;
            sum += 10_000 - at_ms;
        }
        early_by.push(sum / 20);
    }
    assert!(early_by[0] <= 0, "never early: {early_by:?}");
    assert!((50..600).contains(&early_by[1]), "by a few loads' time: {early_by:?}");
    assert!(early_by[2] > 2 * early_by[1] && early_by[2] < 4_000, "{early_by:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_written_through_is_there_unless_somebody_else_wrote() {
    let (caches, source) = (caches(), Source::default());
    let cache = cache(&caches, settings());
    cache.get(&1, source.load()).await.unwrap();
    let written = cache.write_through(&1, async { Ok(Product(70)) }).await.unwrap();
    assert_eq!((written.0, cache.peek(&1).unwrap().0, source.loads()), (70, 70, 1));
    let (one, other) = (cache.clone(), cache.clone());
    let slow = tokio::spawn(async move {
        one.write_through(&1, async {
            pass(100).await;
            Ok(Product(80))
        })
        .await
    });
    pass(10).await;
    other.write_through(&1, async { Ok(Product(90)) }).await.unwrap();
    slow.await.unwrap().unwrap();
    assert!(cache.peek(&1).is_none(), "whose came last is not known here");
    cache.get(&1, source.load()).await.unwrap();
    assert!(cache.write_through(&1, async { Err(down()) }).await.is_err());
    assert!(cache.peek(&1).is_none(), "it may have happened");
}

#[tokio::test(start_paused = true)]
async fn memory_has_a_bound_and_what_was_hot_is_known() {
    let caches = Caches::new(CachesConfig { bytes: 1_000_000, ..CachesConfig::default() }, Arc::new(SeededRng::new(7)));
    let cache = cache(&caches, Settings { memory_percent: 100, ..settings() });
    for key in 0..10_000 {
        cache.get(&key, || async { Ok(Some(Product(1))) }).await.unwrap();
        if key % 100 == 0 {
            for _ in 0..3 {
                cache.get(&0, || async { Ok(Some(Product(0))) }).await.unwrap();
            }
        }
    }
    let view = cache.view();
    assert!(view.bytes <= 1_000_000 && view.entries > 300 && view.evictions > 8_000, "{view:?}");
    let hot = cache.hot(10);
    assert_eq!((hot.len(), hot[0]), (10, 0));
    let next = self::caches();
    let warmed = self::cache(&next, settings());
    let done = warmed.warm(hot.clone(), Duration::from_secs(1), |key| async move { Ok(Some(Product(key))) }).await;
    assert_eq!((done, warmed.peek(&hot[3]).unwrap().0), (10, hot[3]));
    let mut registry = prometheus_client::registry::Registry::default();
    next.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(text.contains("cache_loads_total{cache=\"test.products\"} 10\n"), "{text}");
    assert_eq!(next.views()[0].loads, 10);
}

/// What a node of the simulation remembers of a key.
struct Kept {
    version: u32,
    loaded_us: u64,
    generation: u32,
}

struct Node {
    id: u64,
    bus: Bus,
    hub: Caches,
    kept: HashMap<u16, Kept>,
    next_beat_us: u64,
    cut_until_us: u64,
    paused_until_us: u64,
    /// The last version of each key that it has acknowledged itself.
    own: HashMap<u16, u32>,
}

impl Node {
    fn new(id: u64, now: u64) -> Node {
        let hub = caches();
        let bus = Bus::new(BusConfig { forget_us: 60_000_000, ..BusConfig::default() }, id);
        hub.0.heed(&Heard::default(), 0, now);
        Node { id, bus, hub, kept: HashMap::new(), next_beat_us: now, cut_until_us: 0, paused_until_us: 0, own: HashMap::new() }
    }
}

enum Happening {
    Arrives { at: u64, message: Message },
    Loaded { at: u64, key: u16, kept: Kept },
    Published { at: u64, key: u16, version: u32 },
}

struct Tally {
    reads: u64,
    hits: u64,
    old_within_bound: u64,
    old_beyond_bound: u64,
    own_old: u64,
}

/// Four nodes, twelve keys, virtual time. Of the messages a share is lost, the others are late and out of order; nodes are cut off from the bus
/// while they go on writing, stop for seconds, and die between their commit and their word of it.
fn simulate(seed: u64, reads: u64, lost_percent: u64, heed_gaps: bool) -> Tally {
    let rng = SeededRng::new(seed);
    let bound = BusConfig::default().bound_us;
    let (mut now, mut next_id, mut counter) = (1_000_000, 10, 0_u64);
    let mut nodes: Vec<Node> = (0..4).map(|n| Node::new(n + 1, now)).collect();
    let mut source = [0_u32; 12];
    // Acknowledged versions of each key, and the newest that was acknowledged longer ago than the bound.
    let mut acked: Vec<Vec<(u64, u32)>> = vec![Vec::new(); 12];
    let mut due: [u32; 12] = [0; 12];
    let mut happenings: BinaryHeap<Reverse<(u64, u64, usize)>> = BinaryHeap::new();
    let mut what: Vec<Option<Happening>> = Vec::new();
    let mut tally = Tally { reads: 0, hits: 0, old_within_bound: 0, old_beyond_bound: 0, own_old: 0 };
    macro_rules! later {
        ($at:expr, $happening:expr) => {{
            counter += 1;
            what.push(Some($happening));
            happenings.push(Reverse(($at, counter, what.len() - 1)));
        }};
    }
    macro_rules! send {
        ($from:expr, $message:expr) => {{
            let message: Message = $message;
            for node in &nodes {
                let cut = node.cut_until_us > now;
                if !cut && rng.below(100) >= lost_percent {
                    later!(now + 200 + rng.below(100) * rng.below(3_000), Happening::Arrives { at: node.id, message: message.clone() });
                }
            }
        }};
    }
    while tally.reads < reads {
        now += 1 + rng.below(4_000);
        while let Some(Reverse((at, _, index))) = happenings.peek().copied().filter(|Reverse((at, ..))| *at <= now) {
            happenings.pop();
            let Some(happening) = what[index].take() else { continue };
            let id = match &happening {
                Happening::Arrives { at, .. } | Happening::Loaded { at, .. } | Happening::Published { at, .. } => *at,
            };
            // Of a node that has died nothing more is heard.
            let Some(place) = nodes.iter().position(|node| node.id == id) else { continue };
            if nodes[place].paused_until_us > at {
                let wake = nodes[place].paused_until_us;
                later!(wake, happening);
                continue;
            }
            match happening {
                Happening::Arrives { message, .. } => {
                    let node = &mut nodes[place];
                    let mut heard = node.bus.hear(&message, at);
                    heard.drop_all &= heed_gaps;
                    node.hub.0.heed(&heard, node.bus.proven_until_us(), at);
                }
                Happening::Loaded { key, kept, .. } => _ = nodes[place].kept.insert(key, kept),
                Happening::Published { key, version, .. } => {
                    let node = &mut nodes[place];
                    node.hub.0.generations.raise(key);
                    let message = node.bus.invalidate(vec![key]);
                    if node.cut_until_us <= now {
                        send!(id, message);
                    }
                    // Acknowledged whether or not Redis took the message.
                    acked[usize::from(key)].push((at, version));
                    let own = nodes[place].own.entry(key).or_default();
                    *own = version.max(*own);
                }
            }
        }
        for place in 0..nodes.len() {
            if nodes[place].next_beat_us > now || nodes[place].paused_until_us > now {
                continue;
            }
            nodes[place].next_beat_us = now + 250_000;
            let (message, forgotten) = nodes[place].bus.beat(now);
            if forgotten {
                nodes[place].hub.0.drop_all_at(now);
            }
            if nodes[place].cut_until_us <= now {
                let subscribers = nodes.iter().filter(|node| node.cut_until_us <= now).count() as u64;
                nodes[place].bus.counted(subscribers, now);
                send!(nodes[place].id, message);
            }
            let node = &nodes[place];
            node.hub.0.heed(&Heard::default(), node.bus.proven_until_us(), now);
        }
        let place = rng.below(4) as usize;
        let key = rng.below(12) as u16;
        let slot = usize::from(key);
        match rng.below(20_000) {
            0 => nodes[place].cut_until_us = now + rng.below(8_000_000),
            1 => nodes[place].paused_until_us = now + rng.below(4_000_000),
            2 => {
                next_id += 1;
                nodes[place] = Node::new(next_id, now);
            }
            _ => {}
        }
        if nodes[place].paused_until_us > now {
            continue;
        }
        if rng.below(300) == 0 {
            source[slot] += 1;
            later!(now + rng.below(20_000), Happening::Published { at: nodes[place].id, key, version: source[slot] });
        }
        let node = &nodes[place];
        let kept = node.kept.get(&key).filter(|kept| {
            let hub = &node.hub.0;
            hub.stands(kept.loaded_us) && hub.generations.of(key) == kept.generation && hub.trusts(kept.loaded_us, now)
        });
        acked[slot].retain(|(at, version)| {
            let old = at + bound <= now;
            if old {
                due[slot] = due[slot].max(*version);
            }
            !old
        });
        tally.reads += 1;
        match kept {
            Some(kept) => {
                tally.hits += 1;
                tally.old_beyond_bound += u64::from(kept.version < due[slot]);
                tally.own_old += u64::from(node.own.get(&key).is_some_and(|own| kept.version < *own));
                tally.old_within_bound += u64::from(acked[slot].iter().any(|(_, version)| kept.version < *version));
            }
            None => {
                // The load begins now, sees the source now, and is kept later.
                let kept = Kept { version: source[slot], loaded_us: now, generation: node.hub.0.generations.of(key) };
                later!(now + rng.below(30_000), Happening::Loaded { at: node.id, key, kept });
            }
        }
    }
    tally
}

/// A million checks in the long form (`BRANDOS_TEST_CHECKS=1000000`).
#[test]
fn with_a_third_of_the_messages_lost_nothing_older_than_the_bound_is_served() {
    let checks = std::env::var("BRANDOS_TEST_CHECKS").ok().and_then(|text| text.parse().ok()).unwrap_or(200_000);
    let tally = simulate(1, checks, 30, true);
    assert_eq!((tally.old_beyond_bound, tally.own_old), (0, 0), "of {} reads", tally.reads);
    assert!(tally.hits > tally.reads / 4 && tally.old_within_bound > 10, "{} hits, {} old", tally.hits, tally.old_within_bound);
    let quiet = simulate(2, checks / 4, 0, true);
    assert_eq!((quiet.old_beyond_bound, quiet.own_old), (0, 0));
    assert!(quiet.hits > tally.hits / 4, "with no loss memory serves more");
    let broken = simulate(1, checks, 30, false);
    assert!(broken.old_beyond_bound > 0, "without sequence numbers the test sees old values");
}

#[test]
fn a_node_that_hears_nobody_is_not_proven() {
    let config = BusConfig::default();
    let (mut one, mut two) = (Bus::new(config, 1), Bus::new(config, 2));
    let s = 1_000_000;
    let (first, _) = one.beat(s);
    assert_eq!(one.proven_until_us(), 0, "it does not hear itself");
    one.hear(&first, s);
    one.counted(1, s);
    assert_eq!(one.proven_until_us(), s + config.bound_us);
    let (second, _) = one.beat(2 * s);
    one.hear(&second, 2 * s);
    one.counted(2, 2 * s);
    assert_eq!(one.proven_until_us(), s + config.bound_us, "a stranger was counted");
    let (theirs, _) = two.beat(2 * s);
    assert!(one.hear(&theirs, 2 * s).drop_all, "what it said before is not known");
    assert_eq!(one.proven_until_us(), 0, "it has not answered yet");
    two.hear(&second, 2 * s);
    let (theirs, _) = two.beat(3 * s);
    assert_eq!(one.hear(&theirs, 3 * s), Heard::default());
    one.counted(2, 2 * s);
    assert_eq!(one.proven_until_us(), 2 * s + config.bound_us, "by when our own was sent, not by when theirs came");
    assert_eq!(one.hear(&two.invalidate(vec![5]), 3 * s), Heard { drop_all: false, tags: vec![5] });
    two.invalidate(vec![6]);
    assert_eq!(one.hear(&two.invalidate(vec![7]), 3 * s), Heard { drop_all: true, tags: vec![7] }, "one is missing");
    two.invalidate(vec![8]);
    assert!(one.hear(&two.beat(4 * s).0, 4 * s).drop_all, "the heartbeat tells of it");
    assert!(!one.hear(&two.goodbye(), 4 * s).drop_all);
    assert_eq!(one.peers(), 1);
}
