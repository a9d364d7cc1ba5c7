//! Copies of a node under load, black box: a backup, and a tenant that moves to another shard and back, while its orders come in over
//! HTTP. Writes pause for less than a second; every acknowledged order is there exactly once; events go on; keys are remembered.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod common;

use common::{Sandbox, Server};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const CLIENTS: usize = 4;
/// How long a client rests between its orders: what is measured are pauses, and each order has to be copied.
const BETWEEN_ORDERS: Duration = Duration::from_millis(20);
/// No client may wait longer for an order than this, whatever goes on.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// An order that was acknowledged.
#[derive(Clone)]
struct Acknowledged {
    id: String,
    number: i64,
    at: Instant,
}

/// Clients that place orders for one tenant until they are told to stop.
struct Load<'a> {
    server: &'a Server,
    key: &'a str,
    next: AtomicU64,
    stop: AtomicBool,
    acknowledged: Mutex<HashMap<u64, Acknowledged>>,
    /// What was answered instead, and the longest that a client waited for one answer.
    refused: Mutex<Vec<String>>,
    slowest: Mutex<Duration>,
}

/// Ends the load also when a test fails, so that its threads can be joined.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn place(server: &Server, key: &str, n: u64) -> (u16, Value) {
    let quantity = 1 + n % 7;
    let body = json!({ "currency": "EUR", "country": "NL", "lines": [
        { "sku": format!("TEA-{}", n % 5), "description": "Tea", "quantity": quantity, "unit_price": "4.955", "tax_minor": 10 },
        { "sku": "CUP-1", "description": "Cup", "quantity": 1, "unit_price": "12.25" },
    ] });
    let (status, body) =
        server.request_with("POST", "/api/v1/orders", Some(key), &format!("Idempotency-Key: move-{n}\r\n"), &body.to_string());
    (status, serde_json::from_str(&body).unwrap_or(Value::Null))
}

impl<'a> Load<'a> {
    fn new(server: &'a Server, key: &'a str, first: u64) -> Load<'a> {
        Load {
            server,
            key,
            next: AtomicU64::new(first),
            stop: AtomicBool::new(false),
            acknowledged: Mutex::default(),
            refused: Mutex::default(),
            slowest: Mutex::default(),
        }
    }

    fn client(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let n = self.next.fetch_add(1, Ordering::Relaxed);
            let began = Instant::now();
            let (status, body) = place(self.server, self.key, n);
            let mut slowest = self.slowest.lock().unwrap();
            *slowest = began.elapsed().max(*slowest);
            match status {
                201 => {
                    let (id, number) = (body["order_id"].as_str().unwrap().to_owned(), body["number"].as_i64().unwrap());
                    self.acknowledged.lock().unwrap().insert(n, Acknowledged { id, number, at: Instant::now() });
                }
                _ => self.refused.lock().unwrap().push(format!("order {n}: {status} {body}")),
            }
            std::thread::sleep(BETWEEN_ORDERS);
        }
    }

    /// Runs `meanwhile` under the load, with half a second of it before and after. Gives what was acknowledged.
    fn around(self, meanwhile: impl FnOnce(&Load<'a>)) -> HashMap<u64, Acknowledged> {
        let began = Instant::now();
        std::thread::scope(|scope| {
            let _stop = Stop(&self.stop);
            for _ in 0..CLIENTS {
                scope.spawn(|| self.client());
            }
            std::thread::sleep(Duration::from_millis(500));
            meanwhile(&self);
            std::thread::sleep(Duration::from_millis(500));
        });
        let refused = self.refused.into_inner().unwrap();
        assert!(refused.is_empty(), "{} were refused, such as {}", refused.len(), refused[0]);
        let acknowledged = self.acknowledged.into_inner().unwrap();
        let mut moments: Vec<Instant> = acknowledged.values().map(|a| a.at).chain([began]).collect();
        moments.sort();
        let pause = moments.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        let slowest = self.slowest.into_inner().unwrap();
        println!("{} orders, longest pause {pause:?}, slowest answer {slowest:?}", acknowledged.len());
        assert!(pause < LONGEST_PAUSE, "for {pause:?} no order was acknowledged");
        acknowledged
    }
}

/// Every order of the tenant, as the API lists them: id and number.
fn listed(server: &Server, key: &str) -> Vec<(String, i64)> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let (status, body) = server.request("GET", &format!("/api/v1/orders?limit=100{cursor}"), Some(key), "");
        assert_eq!(status, 200, "{body}");
        let page: Value = serde_json::from_str(&body).unwrap();
        all.extend(
            page["data"].as_array().unwrap().iter().map(|o| (o["order_id"].as_str().unwrap().to_owned(), o["number"].as_i64().unwrap())),
        );
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

/// Asserts that the tenant's orders are exactly the acknowledged ones.
fn assert_all_there(server: &Server, key: &str, acknowledged: &HashMap<u64, Acknowledged>) {
    let mut expected: Vec<(String, i64)> = acknowledged.values().map(|a| (a.id.clone(), a.number)).collect();
    let mut found = listed(server, key);
    expected.sort();
    found.sort();
    assert_eq!(found.len(), expected.len(), "as many orders as were acknowledged");
    assert!(found == expected, "other orders than were acknowledged");
}

/// Asserts that orders which are sent again are not placed again.
fn assert_keys_known(server: &Server, key: &str, acknowledged: &HashMap<u64, Acknowledged>) {
    for (n, order) in acknowledged.iter().filter(|(n, _)| *n % 9 == 0) {
        let (status, body) = place(server, key, *n);
        assert_eq!((status, &body["order_id"], &body["number"]), (201, &json!(order.id), &json!(order.number)), "order {n} again: {body}");
    }
}

/// Follows `order.placed` from the first event on, over one connection, until all of `done`'s orders have come or none has for long.
fn follow(server: &Server, key: &str, done: &(impl Fn(usize) -> bool + Sync)) -> Vec<String> {
    let authority = server.serving["url"].as_str().unwrap().strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(authority).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let request = format!(
        "GET /api/v1/events?types=order.placed&after=start HTTP/1.1\r\nHost: {authority}\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut orders = Vec::new();
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { break };
        if let Some(event) = line.strip_prefix("data: ") {
            let event: Value = serde_json::from_str(event).unwrap();
            orders.push(event["subject"].as_str().unwrap().to_owned());
        }
        if done(orders.len()) {
            break;
        }
    }
    orders
}

fn assert_events(found: &[String], acknowledged: &HashMap<u64, Acknowledged>) {
    let mut times: HashMap<&str, u32> = HashMap::new();
    for order in found {
        *times.entry(order).or_default() += 1;
    }
    let missing = acknowledged.values().filter(|a| !times.contains_key(a.id.as_str())).count();
    let twice = times.values().filter(|n| **n > 1).count();
    assert_eq!((missing, twice, found.len()), (0, 0, acknowledged.len()), "missing, twice and all events");
}

fn audited(sandbox: &Sandbox) {
    let report = sandbox.run(&["audit", "--json"]).expect(0).json();
    assert_eq!(report["ok"], json!(true), "{report}");
}

fn tenant_with_key(sandbox: &Sandbox, slug: &str) -> String {
    sandbox.run(&["tenant", "create", slug]).expect(0);
    sandbox.run(&["api-key", "create", "--tenant", slug, "--json"]).expect(0).json()["key"].as_str().unwrap().to_owned()
}

fn backed_up_under_load(sandbox: &Sandbox) {
    let key = tenant_with_key(sandbox, "acme");
    let server = sandbox.serve(&["serve"]);
    let folder = sandbox.path("backup");
    let before = Mutex::new(Vec::new());
    let acknowledged = Load::new(&server, &key, 0).around(|load| {
        before.lock().unwrap().extend(load.acknowledged.lock().unwrap().values().map(|a| a.id.clone()));
        let backup = sandbox.run(&["backup", folder.to_str().unwrap(), "--json"]).expect(0).json();
        assert_eq!(backup["shards"], json!(2), "{backup}");
    });
    assert_all_there(&server, &key, &acknowledged);
    assert_eq!(server.stop(), Some(0));
    audited(sandbox);

    // Into an empty place: one moment between the first order and the last, in which everything adds up.
    let place = Sandbox::with_shards(2);
    place.run(&["restore", folder.to_str().unwrap()]).expect(0);
    audited(&place);
    let restored = place.serve(&["serve"]);
    let there: HashMap<String, i64> = listed(&restored, &key).into_iter().collect();
    for id in before.into_inner().unwrap() {
        assert!(there.contains_key(&id), "{id} was acknowledged before the backup began");
    }
    let numbers: HashMap<&str, i64> = acknowledged.values().map(|a| (a.id.as_str(), a.number)).collect();
    for (id, number) in &there {
        assert_eq!(numbers.get(id.as_str()), Some(number), "an order that was never acknowledged");
    }
    let kept: HashMap<u64, Acknowledged> = acknowledged.into_iter().filter(|(_, a)| there.contains_key(&a.id)).collect();
    assert_keys_known(&restored, &key, &kept);
    // It goes on where the backup left off.
    assert_eq!(place_new(&restored, &key), 201);
    assert_eq!(restored.stop(), Some(0));
    audited(&place);
}

fn place_new(server: &Server, key: &str) -> u16 {
    place(server, key, 1_000_000).0
}

/// Moves it. On a machine that is busy with other things the copy may not catch up with the load: it is asked again then, as the answer says.
fn moved(sandbox: &Sandbox, shard: u64) -> Value {
    let ask = || sandbox.run(&["tenant", "move", "acme", "--to-shard", &shard.to_string(), "--json"]);
    let mut ended = ask();
    for _ in 0..5 {
        if !ended.stdout.contains("store.move_too_busy") {
            break;
        }
        ended = ask();
    }
    ended.expect(0).json()
}

fn moved_under_load(sandbox: &Sandbox) {
    let (key, quiet) = (tenant_with_key(sandbox, "acme"), tenant_with_key(sandbox, "quiet"));
    let server = sandbox.serve(&["serve"]);
    assert_eq!(place_new(&server, &quiet), 201);
    assert_eq!(listed(&server, &quiet).len(), 1);
    let mut acknowledged: HashMap<u64, Acknowledged> = HashMap::new();
    // There and back: the second time it comes to a shard that has sent its commands on until then.
    for shard in [1, 0] {
        let (loaded, total) = (AtomicBool::new(false), AtomicU64::new(0));
        let done = |seen: usize| loaded.load(Ordering::SeqCst) && seen as u64 >= total.load(Ordering::SeqCst);
        let followed = std::thread::scope(|scope| {
            let follower = scope.spawn(|| follow(&server, &key, &done));
            let more = Load::new(&server, &key, shard * 100_000).around(|load| {
                let moved = moved(sandbox, shard);
                println!("{} to shard {shard}: {moved}", sandbox.engine());
                assert!(moved["pause_ms"].as_u64().unwrap() < 1_000, "{moved}");
                // What was placed long before the move, and what was placed during it, is read where it is now.
                let some = load.acknowledged.lock().unwrap().values().next().unwrap().clone();
                assert_eq!(server.request("GET", &format!("/api/v1/orders/{}", some.id), Some(&key), "").0, 200);
            });
            acknowledged.extend(more);
            // One more event, so that the stream looks once more when everything is there.
            let (status, last) = place(&server, &key, shard * 100_000 + 99_999);
            assert_eq!(status, 201, "{last}");
            let last = Acknowledged {
                id: last["order_id"].as_str().unwrap().to_owned(),
                number: last["number"].as_i64().unwrap(),
                at: Instant::now(),
            };
            acknowledged.insert(shard * 100_000 + 99_999, last);
            total.store(acknowledged.len() as u64, Ordering::SeqCst);
            loaded.store(true, Ordering::SeqCst);
            follower.join().unwrap()
        });
        assert_events(&followed, &acknowledged);
        let shown = sandbox.run(&["tenant", "show", "acme", "--json"]).expect(0).json();
        assert_eq!(shown["shard"], json!(shard));
        assert_all_there(&server, &key, &acknowledged);
        assert_keys_known(&server, &key, &acknowledged);
        assert_all_there(&server, &key, &acknowledged);
        // A stream that begins now finds the whole history where the tenant is.
        let all = acknowledged.len();
        assert_events(&follow(&server, &key, &|seen| seen >= all), &acknowledged);
        audited(sandbox);
    }
    // A tenant that sends no command, which would find its way by itself, is read where it is too.
    sandbox.run(&["tenant", "move", "quiet", "--to-shard", "1"]).expect(0);
    assert_eq!(listed(&server, &quiet).len(), 1);
    assert_eq!(server.stop(), Some(0));
    audited(sandbox);
    let server = sandbox.serve(&["serve"]);
    assert_all_there(&server, &key, &acknowledged);
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_node_with_two_files_is_backed_up_under_load() {
    backed_up_under_load(&Sandbox::with_shards(2));
}

#[test]
fn a_node_with_two_databases_is_backed_up_under_load() {
    if let Some(sandbox) = Sandbox::on_postgres_with_shards(2) {
        backed_up_under_load(&sandbox);
    }
}

#[test]
fn a_tenant_moves_between_files_under_load() {
    moved_under_load(&Sandbox::with_shards(2));
}

#[test]
fn a_tenant_moves_between_databases_under_load() {
    if let Some(sandbox) = Sandbox::on_postgres_with_shards(2) {
        moved_under_load(&sandbox);
    }
}
