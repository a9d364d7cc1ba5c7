//! Caches: a hit with TTL and tag check, with quick_cache alone and moka in the same run; a hit on Redis; what a policy costs a call.

use crate::measure::{callers, median, tell};
use clap::Args;
use futures_util::FutureExt as _;
use kernel::{Rng as _, SeededRng, SystemRng};
use serde::{Deserialize, Serialize};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use traffic::cache::{Cache, CacheRedis, Cached, Caches, CachesConfig, Normal, Settings, Tag, Tags};
use traffic::resilience::{Policies, Policy, PolicyConfig};

/// `cache`.
#[derive(Args)]
pub struct Options {
    /// Lookups of each run.
    #[arg(long, default_value_t = 4_000_000)]
    lookups: usize,
    /// Runs of each kind; the median is told.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// A Redis for the shared part, such as redis://127.0.0.1:6379/.
    #[arg(long, env = "BRANDOS_TEST_REDIS")]
    redis: Option<String>,
    /// Seconds of the shared part.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Callers of the shared part.
    #[arg(long, default_value_t = 32)]
    callers: u64,
}

#[derive(Serialize, Deserialize)]
struct Value(u64, String);

impl Cached for Value {
    type Class = Normal;
    fn bytes(&self) -> usize {
        size_of::<Value>() + self.1.len()
    }
}

fn tags(key: &u64) -> Tags {
    Tags::of([Tag::new("product", key), Tag::new("tenant", key % 1_000)])
}

fn value(key: u64) -> Value {
    Value(key, "a title of some length".to_owned())
}

/// Runs and prints.
pub async fn run(options: Options) {
    for keys in [1_000, 1_000_000] {
        hits(&options, keys);
    }
    policies(&options);
    match &options.redis {
        Some(url) => shared(&options, url).await,
        None => tell("no Redis was named: the shared part is left out"),
    }
}

/// Nanoseconds of each lookup.
fn timed(options: &Options, keys: u64, lookup: impl Fn(&u64) -> bool) -> f64 {
    let rng = SeededRng::new(3);
    let draws: Vec<u64> = (0..1 << 20).map(|_| rng.below(keys)).collect();
    assert!(draws.iter().all(&lookup), "every lookup is a hit");
    median(
        (0..options.runs)
            .map(|_| {
                let begun = Instant::now();
                for n in 0..options.lookups {
                    black_box(lookup(&draws[n & ((1 << 20) - 1)]));
                }
                begun.elapsed().as_nanos() as f64 / options.lookups as f64
            })
            .collect(),
    )
}

fn hits(options: &Options, keys: u64) {
    let caches = Caches::new(CachesConfig { bytes: 4_000_000_000, ..CachesConfig::default() }, Arc::new(SystemRng::new()));
    let settings = Settings { ttl_ms: 3_600_000, memory_percent: 100, ..Settings::of::<Value>("bench.values") };
    let ours: Cache<u64, Value> = Cache::new(&caches, settings, tags).expect("the settings are valid");
    let runtime = tokio::runtime::Handle::current();
    tokio::task::block_in_place(|| {
        runtime.block_on(async {
            for key in 0..keys {
                ours.get(&key, move || async move { Ok(Some(value(key))) }).await.expect("it loads");
            }
        });
        let bare: quick_cache::sync::Cache<u64, Arc<Value>> = quick_cache::sync::Cache::new(keys as usize * 2);
        let moka: moka::sync::Cache<u64, Arc<Value>> =
            moka::sync::Cache::builder().max_capacity(keys * 2).time_to_live(Duration::from_secs(3_600)).build();
        for key in 0..keys {
            bare.insert(key, Arc::new(value(key)));
            moka.insert(key, Arc::new(value(key)));
        }
        moka.run_pending_tasks();
        let never = || std::future::pending::<kernel::Result<Option<Value>>>();
        let peeked = timed(options, keys, |key| ours.peek(key).is_some());
        let got = timed(options, keys, |key| matches!(ours.get(key, never).now_or_never(), Some(Ok(Some(_)))));
        let bare = timed(options, keys, |key| bare.get(key).is_some());
        let moka = timed(options, keys, |key| moka.get(key).is_some());
        tell(&format!(
            "{keys:>9} keys, one thread: ours {got:>5.0} ns (peek {peeked:.0}), quick_cache alone {bare:>5.0} ns, moka with TTL {moka:>5.0} ns"
        ));
    });
}

fn policies(options: &Options) {
    let policies = Policies::new(Arc::new(SystemRng::new()));
    let policy: Arc<Policy> = policies.of("bench");
    let calls = options.lookups.min(2_000_000);
    let run = |call: &dyn Fn() -> bool| {
        median(
            (0..options.runs)
                .map(|_| {
                    let begun = Instant::now();
                    for _ in 0..calls {
                        assert!(call());
                    }
                    begun.elapsed().as_nanos() as f64 / calls as f64
                })
                .collect(),
        )
    };
    let all = run(&|| policy.call(|_| async { Ok::<_, kernel::Error>(black_box(1)) }).now_or_never().is_some_and(|answer| answer.is_ok()));
    let bare = run(&|| {
        async { Ok::<_, kernel::Error>(black_box(1)) }.now_or_never().is_some_and(|answer: Result<i32, kernel::Error>| answer.is_ok())
    });
    let config = PolicyConfig::default();
    tell(&format!(
        "a call under bulkhead, breaker, timeout and retry: {:.0} ns more than without ({} attempts)",
        all - bare,
        config.attempts
    ));
}

/// Every lookup goes to Redis: the cache keeps nothing in the process.
async fn shared(options: &Options, url: &str) {
    const KEYS: u64 = 10_000;
    let caches = Caches::new(CachesConfig::default(), Arc::new(SystemRng::new()));
    let namespace = format!("bench_{}", std::process::id());
    let redis = CacheRedis { namespace, patience_ms: 1_000, ..CacheRedis::new(url) };
    caches.share(redis).await.expect("the URL is valid");
    let begun = Instant::now();
    while !caches.bus().proven {
        assert!(begun.elapsed() < Duration::from_secs(10), "it hears itself");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let settings = Settings { ttl_ms: 600_000, local: false, ..Settings::of::<Value>("bench.shared") };
    let cache: Cache<u64, Value> = Cache::new(&caches, settings, tags).expect("the settings are valid");
    let loads = Arc::new(AtomicU64::new(0));
    let get = move |key: u64| {
        let (cache, loads) = (cache.clone(), loads.clone());
        async move {
            let load = move || async move {
                loads.fetch_add(1, Relaxed);
                Ok(Some(value(key)))
            };
            cache.get(&key, load).await.is_ok_and(|found| found.is_some_and(|found| found.0 == key))
        }
    };
    for key in 0..KEYS {
        assert!(get(key).await);
    }
    let view = caches.views();
    let (before, gets) = (view[0].loads, get.clone());
    let outcome = callers(options.callers, options.seconds, move |caller, n| gets((caller * 7_919 + n * 31) % KEYS)).await;
    tell(&outcome.line(&format!("a hit on Redis, {} callers", options.callers)));
    let view = caches.views();
    tell(&format!("loads of the source meanwhile: {} of {}", view[0].loads - before, outcome.done));
}
