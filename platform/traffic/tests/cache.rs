//! Caches on a real Redis: one load over three processes, invalidations between nodes, a Redis that goes and comes back, and several of
//! them. Redis is taken from `BRANDOS_TEST_REDIS`; without it these tests are skipped, and say so. In CI that is a failure.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

mod server;

use brandos_traffic::cache::{Cache, CacheRedis, Cached, Caches, CachesConfig, Normal, Settings, Tag, Tags};
use kernel::{Clock as _, Result, SystemClock, SystemRng};
use serde::{Deserialize, Serialize};
use server::{Server, redis};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Product(u32);

impl Cached for Product {
    type Class = Normal;
    fn bytes(&self) -> usize {
        4
    }
}

/// A namespace that no other run has used.
fn unique(name: &str) -> String {
    format!("{name}_{}_{}", std::process::id(), SystemClock.now().micros())
}

fn tags(key: &u32) -> Tags {
    Tags::of([Tag::new("product", key)])
}

async fn node(urls: &[String], namespace: &str) -> (Caches, Cache<u32, Product>) {
    let caches = Caches::new(CachesConfig::default(), Arc::new(SystemRng::new()));
    let redis = CacheRedis { urls: urls.to_vec(), patience_ms: 2_000, namespace: namespace.to_owned() };
    caches.share(redis).await.unwrap();
    let settings = Settings { eagerness: 0.0, ..Settings::of::<Product>("test.products") };
    let cache = Cache::new(&caches, settings, tags).unwrap();
    (caches, cache)
}

async fn until(what: &str, within: Duration, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < within, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn all_know_each_other(nodes: &[&Caches]) {
    until("every node is proven and knows the others", Duration::from_secs(10), || {
        nodes.iter().all(|caches| caches.bus().proven && caches.bus().nodes == nodes.len())
    })
    .await;
}

type Loading = std::pin::Pin<Box<dyn Future<Output = Result<Option<Product>>> + Send>>;

fn value(version: &Arc<AtomicU32>, loads: &Arc<AtomicU32>) -> impl FnOnce() -> Loading + Send + 'static {
    let (version, loads) = (version.clone(), loads.clone());
    move || {
        Box::pin(async move {
            loads.fetch_add(1, SeqCst);
            let value = version.load(SeqCst);
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok(Some(Product(value)))
        })
    }
}

/// The part of one process in the next test; it says how often it loaded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_of_three() {
    let Ok(namespace) = std::env::var("BRANDOS_TEST_CACHE_CHILD") else { return };
    let url = redis().unwrap();
    let (caches, cache) = node(&[url], &namespace).await;
    until("on the bus with the two others", Duration::from_secs(20), || caches.bus().proven && caches.bus().nodes >= 3).await;
    // The others need a moment to have heard as much.
    tokio::time::sleep(Duration::from_millis(600)).await;
    let (version, loads) = (Arc::new(AtomicU32::new(7)), Arc::new(AtomicU32::new(0)));
    for key in 0..3 {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..3_334 {
            let (cache, load) = (cache.clone(), value(&version, &loads));
            tasks.spawn(async move { cache.get(&key, load).await.unwrap().unwrap().0 });
        }
        assert!(tasks.join_all().await.into_iter().all(|value| value == 7));
    }
    println_loads(loads.load(SeqCst));
    // Stays until the others are done, or they would wait for one that is gone.
    tokio::time::sleep(Duration::from_secs(2)).await;
}

fn println_loads(loads: u32) {
    use std::io::Write as _;
    let mut out = std::io::stdout();
    writeln!(out, "\nLOADS={loads}").unwrap();
}

#[test]
fn ten_thousand_misses_over_three_processes_load_once() {
    if redis().is_none() {
        return;
    }
    let namespace = unique("flight");
    let children: Vec<Child> = (0..3)
        .map(|_| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "one_process_of_three", "--nocapture", "--test-threads=1"])
                .env("BRANDOS_TEST_CACHE_CHILD", &namespace)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let mut loads = 0;
    for child in children {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
        let told = text.lines().find_map(|line| line.strip_prefix("LOADS=")).expect("it says how often");
        loads += told.parse::<u32>().unwrap();
    }
    assert_eq!(loads, 3, "three keys, 10,002 misses each, one load each");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_changes_no_node_serves_for_long() {
    let Some(url) = redis() else { return };
    let namespace = unique("bus");
    let (first, here) = node(std::slice::from_ref(&url), &namespace).await;
    let (second, there) = node(&[url], &namespace).await;
    all_know_each_other(&[&first, &second]).await;
    let (version, loads) = (Arc::new(AtomicU32::new(1)), Arc::new(AtomicU32::new(0)));
    assert_eq!(here.get(&1, value(&version, &loads)).await.unwrap().unwrap().0, 1);
    assert_eq!(there.get(&1, value(&version, &loads)).await.unwrap().unwrap().0, 1);
    assert_eq!((loads.load(SeqCst), there.view().shared_hits), (1, 1), "the second node takes it from Redis");
    for round in 2..30 {
        version.store(round, SeqCst);
        here.invalidate(&1).await;
        assert_eq!(here.get(&1, value(&version, &loads)).await.unwrap().unwrap().0, round, "here at once");
        let begun = Instant::now();
        while there.get(&1, value(&version, &loads)).await.unwrap().unwrap().0 != round {
            assert!(begun.elapsed() < Duration::from_secs(2), "there within the bound");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    // A value that Redis keeps does not come back under a node that has just begun.
    let (third, fresh) = node(&[redis().unwrap()], &namespace).await;
    all_know_each_other(&[&first, &second, &third]).await;
    assert_eq!(fresh.get(&1, value(&version, &loads)).await.unwrap().unwrap().0, 29);
    first.stop().await;
    until("one has said goodbye", Duration::from_secs(2), || second.bus().nodes == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_each_node_serves_what_is_young() {
    if redis().is_none() {
        return;
    }
    let mut server = Server::start();
    let namespace = unique("away");
    let (first, here) = node(&[server.url()], &namespace).await;
    let (second, there) = node(&[server.url()], &namespace).await;
    all_know_each_other(&[&first, &second]).await;
    let (version, loads) = (Arc::new(AtomicU32::new(1)), Arc::new(AtomicU32::new(0)));
    here.get(&1, value(&version, &loads)).await.unwrap();
    there.get(&1, value(&version, &loads)).await.unwrap();
    server.kill();
    until("it is noticed", Duration::from_secs(3), || !first.bus().connected && !second.bus().connected).await;
    // Acknowledged here, told to nobody: after the bound the other does not serve the old one.
    version.store(2, SeqCst);
    let begun = Instant::now();
    here.invalidate(&1).await;
    assert!(begun.elapsed() < Duration::from_millis(200), "a write does not wait for a Redis that is away");
    assert_eq!(here.get(&1, value(&version, &loads)).await.unwrap().unwrap().0, 2);
    let acknowledged = Instant::now();
    while there.get(&1, value(&version, &loads)).await.unwrap().unwrap().0 != 2 {
        assert!(acknowledged.elapsed() < Duration::from_millis(2_100), "old for longer than the bound");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(!second.bus().proven);
    // Alone, each of them still spares its source.
    let before = loads.load(SeqCst);
    for _ in 0..500 {
        assert_eq!(there.get(&1, value(&version, &loads)).await.unwrap().unwrap().0, 2);
    }
    assert!(loads.load(SeqCst) - before <= 1);
    server.start_again();
    all_know_each_other(&[&first, &second]).await;
    until("values are shared again", Duration::from_secs(3), || first.bus().connected).await;
    assert_eq!(there.get(&1, value(&version, &loads)).await.unwrap().unwrap().0, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_are_on_two_of_several_redis_servers() {
    if redis().is_none() {
        return;
    }
    let mut servers: Vec<Server> = (0..3).map(|_| Server::start()).collect();
    let urls: Vec<String> = servers.iter().map(Server::url).collect();
    let namespace = unique("ring");
    let (first, here) = node(&urls, &namespace).await;
    let (second, there) = node(&urls, &namespace).await;
    all_know_each_other(&[&first, &second]).await;
    let (version, loads) = (Arc::new(AtomicU32::new(1)), Arc::new(AtomicU32::new(0)));
    for key in 0..60 {
        here.get(&key, value(&version, &loads)).await.unwrap();
    }
    assert_eq!(loads.load(SeqCst), 60);
    // One of those that only have values dies: each of its values has a copy.
    servers[2].kill();
    tokio::time::sleep(Duration::from_millis(700)).await;
    for key in 0..60 {
        assert_eq!(there.get(&key, value(&version, &loads)).await.unwrap().unwrap().0, 1);
    }
    assert_eq!((loads.load(SeqCst), there.view().shared_hits), (60, 60));
    version.store(2, SeqCst);
    for key in 0..60 {
        there.invalidate(&key).await;
        assert_eq!(there.get(&key, value(&version, &loads)).await.unwrap().unwrap().0, 2);
    }
}
