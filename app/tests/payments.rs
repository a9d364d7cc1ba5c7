//! Payments by the built binary: a provider in a process of its own that misbehaves, and a server that is killed in the middle of it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Sandbox, Server};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const PAYMENTS: usize = 40;
const RATES: &str = "timeout_before=0.08,timeout_after=0.08,late=0.08,error_after=0.08,stale=0.08,answer_twice=0.08,callback_lies=0.08,\
soft_decline=0.05,hard_decline=0.05";
/// A killed process holds its sagas for half a minute; then they are asked about.
const PATIENCE: Duration = Duration::from_secs(150);

fn pay(server: &Server, token: &str, number: usize) -> Option<(u16, Value)> {
    let body =
        json!({ "amount_minor": 1_000 + number, "currency": "EUR", "token": "tok_random", "confirm": true, "wait_ms": 3_000 }).to_string();
    let key = format!("Idempotency-Key: payment-{number}\r\n");
    let (status, body) = server.try_request("POST", "/api/v1/payments/intents", Some(token), &key, &body).ok()??;
    Some((status, serde_json::from_str(&body).unwrap_or(Value::Null)))
}

/// Sends every payment at once by eight clients, each until it is taken, or the server is gone.
fn pay_all(server: &Server, token: &str, ids: &Mutex<BTreeMap<usize, String>>) {
    std::thread::scope(|threads| {
        for client in 0..8 {
            threads.spawn(move || {
                for number in (client..PAYMENTS).step_by(8) {
                    loop {
                        match pay(server, token, number) {
                            Some((201, answer)) => {
                                let id = answer["intent_id"].as_str().unwrap().to_owned();
                                let before = ids.lock().unwrap().insert(number, id.clone());
                                assert!(before.is_none_or(|before| before == id), "payment {number} is two");
                                break;
                            }
                            Some((503, _)) => std::thread::sleep(Duration::from_millis(20)),
                            Some((status, answer)) => panic!("{status} {answer}"),
                            None => break,
                        }
                    }
                }
            });
        }
    });
}

fn read(server: &Server, token: &str, path: &str) -> Value {
    let (status, body) = server.request("GET", path, Some(token), "");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

fn killed_in_the_middle(sandbox: &Sandbox) {
    let books = sandbox.path("psp.db");
    let provider = Sandbox::new();
    let psp = provider.serve(&[
        "sandbox-psp",
        "--books",
        books.to_str().unwrap(),
        "--seed",
        "11",
        "--rates",
        RATES,
        "--hang-ms",
        "700",
        "--late-ms",
        "600",
    ]);
    let psp_url = psp.serving["url"].as_str().unwrap().to_owned();
    let options = ["serve", "--set", "payments.base_urls=http://127.0.0.1", "--set", "payments.call_timeout_ms=400"];
    sandbox.run(&["tenant", "create", "payer"]).expect(0);
    let key = sandbox.run(&["api-key", "create", "--tenant", "payer", "--json"]).expect(0).json();
    let token = key["key"].as_str().unwrap();
    let ids = Mutex::new(BTreeMap::new());

    let server = sandbox.serve(&options);
    let add = json!({ "name": "Sandbox", "kind": "sandbox", "base_url": psp_url, "api_key": "sk_sandbox" }).to_string();
    let (status, added) = server.request("POST", "/api/v1/payments/providers", Some(token), &add);
    assert_eq!(status, 201, "{added}");
    std::thread::scope(|threads| {
        threads.spawn(|| pay_all(&server, token, &ids));
        std::thread::sleep(Duration::from_millis(1_500));
        server.signal("KILL");
    });
    drop(server);

    let server = sandbox.serve(&options);
    pay_all(&server, token, &ids);
    let ids: Vec<String> = ids.into_inner().unwrap().into_values().collect();
    assert_eq!(ids.len(), PAYMENTS);
    let begun = Instant::now();
    let mut ended: BTreeMap<String, Value> = BTreeMap::new();
    while ended.len() < PAYMENTS {
        assert!(begun.elapsed() < PATIENCE, "only {} of {PAYMENTS} have ended", ended.len());
        for id in &ids {
            let intent = read(&server, token, &format!("/api/v1/payments/intents/{id}"));
            if matches!(intent["state"].as_str(), Some("captured" | "failed")) {
                ended.insert(id.clone(), intent);
            }
        }
        std::thread::sleep(Duration::from_millis(250));
    }

    // The provider's books are ours: a charge for each payment that is captured, and none besides.
    let listed = read(&psp, "sk_sandbox", "/books");
    let mut captured: BTreeMap<String, i64> = BTreeMap::new();
    for charge in listed["charges"].as_array().unwrap().iter().filter(|charge| charge["status"] != "declined") {
        assert_eq!(charge["status"], "captured", "{charge}");
        let id = charge["reference"].as_str().unwrap().split('-').next().unwrap().to_owned();
        let twice = captured.insert(id, charge["captured_minor"].as_i64().unwrap());
        assert_eq!(twice, None, "two charges: {charge}");
    }
    let ours: BTreeMap<String, i64> = ended
        .into_iter()
        .filter(|(_, intent)| intent["state"] == "captured")
        .map(|(id, intent)| (id, intent["captured_minor"].as_i64().unwrap()))
        .collect();
    assert_eq!(ours, captured);
    // A breaker that opens meanwhile fails some of them at once.
    assert!(ours.len() > PAYMENTS / 4, "{} of {PAYMENTS} were paid", ours.len());
    let tasks = read(&server, token, "/api/v1/payments/tasks");
    assert_eq!(tasks["data"], json!([]));
    assert_eq!(server.stop(), Some(0));
    assert_eq!(psp.stop(), Some(0));
    let audit = sandbox.run(&["audit", "--json"]).expect(0).json();
    assert_eq!(audit["ok"], true, "{audit}");
}

#[test]
fn sqlite_pays_once_whatever_is_killed() {
    killed_in_the_middle(&Sandbox::new());
}

#[test]
fn postgres_pays_once_whatever_is_killed() {
    if let Some(sandbox) = Sandbox::on_postgres() {
        killed_in_the_middle(&sandbox);
    }
}
