//! Locks on real Redis servers. Skipped without `redis-server`; in CI that is a failure.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

mod server;

use brandos_traffic::lock::{RedisLocks, Redlock};
use kernel::SystemRng;
use server::{Server, redis};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

const LIFE: Duration = Duration::from_millis(600);
const PATIENT: Duration = Duration::from_secs(20);

async fn locks(url: &str) -> RedisLocks {
    RedisLocks::open(url, "test", Arc::new(SystemRng::new())).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_holds_it_and_the_others_wait_in_line() {
    if redis().is_none() {
        return;
    }
    let server = Server::start();
    let one = locks(&server.url()).await;
    let first = one.lock("a", LIFE, PATIENT).await.unwrap();
    let begun = Instant::now();
    assert_eq!(one.lock("a", LIFE, Duration::from_millis(100)).await.err().unwrap().code(), "lock.timeout");
    assert!(begun.elapsed() < Duration::from_millis(400));
    assert!(one.lock("b", LIFE, Duration::ZERO).await.is_ok(), "another name");
    // In the order in which they asked, with rising tokens.
    let (order, mut tasks) = (Arc::new(AtomicU32::new(0)), tokio::task::JoinSet::new());
    for place in 0..4 {
        let (mine, order) = (locks(&server.url()).await, order.clone());
        tasks.spawn(async move {
            let held = mine.lock("a", LIFE, PATIENT).await.unwrap();
            assert_eq!(order.fetch_add(1, SeqCst), place, "nobody overtakes");
            tokio::time::sleep(Duration::from_millis(5)).await;
            held.token()
        });
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    // The watchdog keeps it far beyond its life.
    tokio::time::sleep(LIFE * 2).await;
    assert!(!first.is_lost() && order.load(SeqCst) == 0);
    let token = first.token();
    drop(first);
    let mut tokens = tasks.join_all().await;
    tokens.push(token);
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!((tokens.len(), tokens[0]), (5, token));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiter_that_goes_does_not_hold_up_the_line() {
    if redis().is_none() {
        return;
    }
    let server = Server::start();
    let one = locks(&server.url()).await;
    let first = one.lock("a", LIFE, PATIENT).await.unwrap();
    let goes = tokio::spawn({
        let one = one.clone();
        async move { one.lock("a", LIFE, PATIENT).await }
    });
    tokio::time::sleep(Duration::from_millis(60)).await;
    goes.abort();
    drop(first);
    let begun = Instant::now();
    assert!(one.lock("a", LIFE, PATIENT).await.is_ok());
    assert!(begun.elapsed() < Duration::from_millis(900), "it gave its place back when it was dropped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_loses_it_is_told() {
    if redis().is_none() {
        return;
    }
    let mut server = Server::start();
    let one = locks(&server.url()).await;
    let held = one.lock("a", LIFE, PATIENT).await.unwrap();
    server.kill();
    tokio::time::timeout(Duration::from_secs(5), held.lost()).await.expect("it is told");
    assert_eq!(one.lock("a", LIFE, PATIENT).await.err().unwrap().code(), "lock.away");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn most_of_three_servers_are_enough() {
    if redis().is_none() {
        return;
    }
    let mut servers: Vec<Server> = (0..3).map(|_| Server::start()).collect();
    let urls: Vec<String> = servers.iter().map(Server::url).collect();
    let lock = Redlock::open(&urls, "test", Arc::new(SystemRng::new())).await.unwrap();
    let first = lock.lock("a", Duration::from_secs(5), PATIENT).await.unwrap();
    assert_eq!(lock.lock("a", LIFE, Duration::from_millis(150)).await.err().unwrap().code(), "lock.timeout");
    let token = first.token();
    drop(first);
    servers[0].kill();
    let second = lock.lock("a", LIFE, PATIENT).await.unwrap();
    assert!(second.token() > token);
    tokio::time::timeout(Duration::from_secs(5), second.lost()).await.expect("it is not extended, and says when it is over");
    servers[1].kill();
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(lock.lock("a", LIFE, Duration::from_millis(300)).await.is_err(), "one of three is no majority");
}
