//! Orders at a steady rate, each sent three times under one key (at the same time, a little later, much later), while the server is killed
//! again and again: none is lost and none is there twice. How long an order took is counted from the moment when it was due, whether or not
//! it could be sent then.
//!
//! Twenty seconds with two kills unless `BRANDOS_ORDER_STORM_MINUTES` says how many minutes, with a kill in each.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::wire::Wire;
use common::{Sandbox, address};
use kernel::{Rng as _, SeededRng};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

const ORDERS_A_MINUTE: u64 = 10_000;

struct Storm {
    seconds: u64,
    kills: u64,
}

impl Storm {
    fn of_environment() -> Storm {
        match std::env::var("BRANDOS_ORDER_STORM_MINUTES").ok().and_then(|text| text.parse::<u64>().ok()) {
            Some(minutes) => Storm { seconds: minutes * 60, kills: minutes },
            None => Storm { seconds: 20, kills: 2 },
        }
    }

    fn orders(&self) -> u64 {
        ORDERS_A_MINUTE * self.seconds / 60
    }

    /// How long there is for each kill.
    fn round_ms(&self) -> u64 {
        self.seconds * 1_000 / self.kills
    }
}

/// The order that has this number, and what it comes to.
fn order(n: u64) -> (Value, i64) {
    let quantity = 1 + n as i64 % 7;
    let lines = json!([
        { "sku": format!("TEA-{}", n % 5), "description": "Tea", "quantity": quantity, "unit_price": "4.95" },
        { "sku": "CUP-1", "description": "Cup", "quantity": 1, "unit_price": "12.25" },
    ]);
    (json!({ "currency": "EUR", "country": "NL", "lines": lines }), quantity * 495 + 1_225)
}

/// How one of the three came through.
struct Sent {
    order_id: String,
    number: i64,
    answered: Instant,
    /// Whether an answer was lost on the way: the server was away.
    disturbed: bool,
}

async fn send(wire: &Wire, n: u64, at: Instant) -> Sent {
    tokio::time::sleep_until(at.into()).await;
    let (key, (body, total_minor)) = (format!("storm-{n}"), order(n));
    let headers = [("idempotency-key", key.as_str())];
    let (rng, mut pause_ms, mut disturbed) = (SeededRng::new(n), 50, false);
    loop {
        match wire.try_send("POST", "orders", &headers, &body).await {
            Some((201, answer)) => {
                assert_eq!(answer["total_minor"], total_minor, "{answer}");
                let (order_id, number) = (answer["order_id"].as_str().unwrap().to_owned(), answer["number"].as_i64().unwrap());
                return Sent { order_id, number, answered: Instant::now(), disturbed };
            }
            // Too much at once is no disturbance: it counts as waiting.
            Some((503, _)) => {}
            None => disturbed = true,
            Some((status, answer)) => panic!("order {n}: {status} {answer}"),
        }
        tokio::time::sleep(Duration::from_millis(pause_ms / 2 + rng.below(pause_ms))).await;
        pause_ms = (pause_ms * 2).min(800);
    }
}

/// What came of an order: its id and number, and how long it took until one of the three was answered.
struct Placed {
    order_id: String,
    number: i64,
    took: Duration,
    disturbed: bool,
}

async fn three_times(wire: Arc<Wire>, n: u64, due: Instant, round_ms: u64) -> Placed {
    let rng = SeededRng::new(n);
    // A third of them presses twice at once, and a tenth is sent again after one more kill, as a queue does that was not told.
    let second = if n.is_multiple_of(3) { 0 } else { rng.below(300) };
    let third = if n.is_multiple_of(10) { round_ms + rng.below(round_ms) } else { rng.below(5_000) };
    let at = |ms: u64| send(&wire, n, due + Duration::from_millis(ms));
    let (first, second, third) = tokio::join!(at(0), at(second), at(third));
    let all = [first, second, third];
    for sent in &all {
        assert_eq!((&sent.order_id, sent.number), (&all[0].order_id, all[0].number), "order {n} is two");
    }
    let earliest = all.into_iter().min_by_key(|sent| sent.answered).unwrap();
    let Sent { order_id, number, answered, disturbed } = earliest;
    Placed { order_id, number, took: answered.duration_since(due), disturbed }
}

/// Milliseconds at this share, in thousandths, and the most.
fn quantiles(mut took: Vec<Duration>) -> String {
    took.sort_unstable();
    let at = |thousandths: usize| took.get(took.len().saturating_sub(1) * thousandths / 1_000).copied().unwrap_or_default();
    format!("{} orders, p50 {:?}, p99 {:?}, p99.9 {:?}, most {:?}", took.len(), at(500), at(990), at(999), at(1_000))
}

fn storms(sandbox: &Sandbox) {
    let storm = Storm::of_environment();
    sandbox.run(&["tenant", "create", "storm"]).expect(0);
    let key = sandbox.run(&["api-key", "create", "--tenant", "storm", "--json"]).expect(0).json();
    let key = key["key"].as_str().unwrap();
    let (front, options) = (address(), ["serve", "--set", "limits.rules=off"]);
    let mut server = sandbox.serve_at(&front, &options);
    let wire = Arc::new(Wire::new(&format!("http://{front}/api/v1"), key));
    let runtime = Runtime::new().unwrap();
    let begun = Instant::now();
    let sending = {
        let (wire, count, round_ms) = (wire.clone(), storm.orders(), storm.round_ms());
        runtime.spawn(async move {
            let mut orders = JoinSet::new();
            for n in 0..count {
                let due = begun + Duration::from_micros(n * 60_000_000 / ORDERS_A_MINUTE);
                // Spawned a little before it is due: a task for each of them from the beginning would be the load.
                tokio::time::sleep_until((due - Duration::from_millis(20)).into()).await;
                orders.spawn(three_times(wire.clone(), n, due, round_ms));
            }
            orders.join_all().await
        })
    };
    let (rng, mut away) = (SeededRng::new(storm.seconds), Vec::new());
    for round in 0..storm.kills {
        let moment = begun + Duration::from_millis(round * storm.round_ms() + rng.below(storm.round_ms()));
        std::thread::sleep(moment.saturating_duration_since(Instant::now()));
        let killed = Instant::now();
        server.signal("KILL");
        drop(server);
        server = sandbox.serve_at(&front, &options);
        away.push(killed.elapsed());
    }
    let placed = runtime.block_on(sending).unwrap();

    // Each is there once, and nothing else is.
    let numbers: BTreeMap<i64, String> = placed.iter().map(|placed| (placed.number, placed.order_id.clone())).collect();
    assert_eq!(numbers.len() as u64, storm.orders(), "each has a number of its own");
    let listed = runtime.block_on(wire.list("orders"));
    assert_eq!(listed.len(), numbers.len(), "as many orders as were acknowledged");
    let there: BTreeMap<i64, String> =
        listed.iter().map(|order| (order["number"].as_i64().unwrap(), order["order_id"].as_str().unwrap().to_owned())).collect();
    assert_eq!(there, numbers);

    let (gap, steady): (Vec<Placed>, Vec<Placed>) = placed.into_iter().partition(|placed| placed.disturbed);
    assert!(!gap.is_empty(), "the kills have disturbed nothing");
    let of = |placed: Vec<Placed>| quantiles(placed.into_iter().map(|placed| placed.took).collect());
    let _ = writeln!(
        std::io::stderr().lock(),
        "{}: steady: {}; over a kill: {}; away for {away:?}; {} answers lost, {} times busy",
        sandbox.engine(),
        of(steady),
        of(gap),
        wire.lost.load(Relaxed),
        wire.busy.load(Relaxed),
    );
    drop(wire);
    assert_eq!(server.stop(), Some(0), "a graceful end");
    let audit = sandbox.run(&["audit", "--json"]).expect(0).json();
    assert_eq!(audit["ok"], true, "{audit}");
}

#[test]
fn orders_are_placed_once_in_a_storm_on_sqlite() {
    storms(&Sandbox::new());
}

#[test]
fn orders_are_placed_once_in_a_storm_on_postgres() {
    if let Some(sandbox) = Sandbox::on_postgres() {
        storms(&sandbox);
    }
}
