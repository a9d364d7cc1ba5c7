//! `kill -9` under load, then an audit: every acknowledged order is there, none twice, and the projection equals a recount.
//!
//! `BRANDOS_CRASH_ROUNDS` sets how often the server is killed on each engine; a few times unless it is set.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Sandbox, Server};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const CLIENTS: u64 = 8;

/// Orders by the number under which they were sent: the id and the order number that they were given.
type Given = HashMap<u64, (String, i64)>;

fn place_order(server: &Server, token: &str, n: u64) -> Option<(u16, Value)> {
    let quantity = 1 + n % 7;
    let body = format!(
        r#"{{"currency":"EUR","country":"NL","lines":[{{"sku":"TEA-{}","description":"Tea","quantity":{quantity},"unit_price":"4.955","tax_minor":10}},{{"sku":"CUP-1","description":"Cup","quantity":1,"unit_price":"12.25"}}]}}"#,
        n % 5
    );
    let key = format!("Idempotency-Key: crash-{n}\r\n");
    let (status, body) = server.try_request("POST", "/api/v1/orders", Some(token), &key, &body).ok()??;
    Some((status, serde_json::from_str(&body).unwrap_or(Value::Null)))
}

fn given(body: &Value) -> (String, i64) {
    (body["order_id"].as_str().unwrap().to_owned(), body["number"].as_i64().unwrap())
}

/// Sends orders until told to stop, and writes down which were acknowledged.
fn client(server: &Server, token: &str, next: &AtomicU64, stop: &AtomicBool, acknowledged: &Mutex<Given>) {
    while !stop.load(Ordering::Relaxed) {
        let n = next.fetch_add(1, Ordering::Relaxed);
        match place_order(server, token, n) {
            Some((201, body)) => {
                acknowledged.lock().unwrap().insert(n, given(&body));
            }
            Some((503, _)) | None => {}
            Some((status, body)) => panic!("order {n}: {status} {body}"),
        }
    }
}

fn rounds() -> u64 {
    std::env::var("BRANDOS_CRASH_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(4)
}

fn killed_again_and_again(sandbox: &Sandbox) {
    sandbox.run(&["tenant", "create", "crash"]).expect(0);
    let key = sandbox.run(&["api-key", "create", "--tenant", "crash", "--json"]).expect(0).json();
    let token = key["key"].as_str().unwrap();
    let next = AtomicU64::new(0);
    let acknowledged = Mutex::new(Given::new());
    for round in 0..rounds() {
        let server = sandbox.serve(&["serve"]);
        let stop = AtomicBool::new(false);
        std::thread::scope(|threads| {
            for _ in 0..CLIENTS {
                threads.spawn(|| client(&server, token, &next, &stop, &acknowledged));
            }
            // A different moment each time: now in the middle of a group, now while a consumer moves on.
            std::thread::sleep(Duration::from_millis(150 + round * 7_919 % 450));
            server.signal("KILL");
            stop.store(true, Ordering::Relaxed);
        });
    }
    let server = sandbox.serve(&["serve"]);
    let (sent, acknowledged) = (next.into_inner(), acknowledged.into_inner().unwrap());
    assert!(acknowledged.len() as u64 > rounds() * 5, "{} of {sent} acknowledged: too few to tell anything", acknowledged.len());
    // Asked again, an order that was acknowledged is the same one, and one whose answer was lost is placed now or was placed then.
    let numbers = Mutex::new(HashMap::new());
    std::thread::scope(|threads| {
        for part in 0..CLIENTS {
            let (server, numbers, acknowledged) = (&server, &numbers, &acknowledged);
            threads.spawn(move || {
                for n in (part..sent).step_by(CLIENTS as usize) {
                    let (status, body) = place_order(server, token, n).unwrap();
                    assert_eq!(status, 201, "{body}");
                    let (id, number) = given(&body);
                    if let Some(before) = acknowledged.get(&n) {
                        assert_eq!(before, &(id.clone(), number), "order {n} was acknowledged");
                    }
                    let taken = numbers.lock().unwrap().insert(number, id);
                    assert_eq!(taken, None, "number {number} was given twice");
                }
            });
        }
    });
    // Each is there once, and nothing else is.
    let (mut count, mut cursor) = (0, String::new());
    loop {
        let (status, page) = server.request("GET", &format!("/api/v1/orders?limit=100{cursor}"), Some(token), "");
        assert_eq!(status, 200, "{page}");
        let page: Value = serde_json::from_str(&page).unwrap();
        count += page["data"].as_array().unwrap().len() as u64;
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(count, sent, "each order once");
    assert_eq!(server.stop(), Some(0), "a graceful end");
    let audit = sandbox.run(&["audit", "--json"]).expect(0).json();
    assert_eq!(audit["ok"], true, "{audit}");
}

#[test]
fn sqlite_survives_kill_9() {
    killed_again_and_again(&Sandbox::new());
}

#[test]
fn postgres_survives_kill_9() {
    if let Some(sandbox) = Sandbox::on_postgres() {
        killed_again_and_again(&sandbox);
    }
}
