//! The sandbox as its callers see it: over HTTP, in this process and on a port.

use crate::{Fault, Rates, Sandbox, SandboxConfig, Status};
use axum::body::Body;
use axum::http::Request;
use client::webhook;
use http_body_util::BodyExt as _;
use kernel::{ManualClock, SystemClock, Timestamp};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tower::ServiceExt as _;

const START: Timestamp = Timestamp::from_micros(1_767_614_400_000_000);

fn config() -> SandboxConfig {
    SandboxConfig { hang_ms: 30, late_ms: 60, retry_ms: 5, ..SandboxConfig::default() }
}

fn sandbox() -> Sandbox {
    Sandbox::open(config(), Arc::new(ManualClock::new(START))).expect("a sandbox")
}

async fn call(sandbox: &Sandbox, method: &str, path: &str, key: &str, body: Value) -> (u16, Value) {
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    let request = Request::builder().method(method).uri(path).header("authorization", "Bearer sk_sandbox").header("idempotency-key", key);
    let response = sandbox.router().oneshot(request.body(body).expect("a request")).await.expect("an answer");
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.expect("a body").to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned())))
}

async fn create(sandbox: &Sandbox, token: &str, key: &str) -> (u16, Value) {
    let body = json!({ "reference": format!("pay-{key}"), "token": token, "amount_minor": 10_000, "currency": "EUR" });
    call(sandbox, "POST", "/v1/charges", key, body).await
}

#[tokio::test]
async fn a_charge_goes_from_authorised_to_refunded() {
    let sandbox = sandbox();
    let (status, charge) = create(&sandbox, "tok_approve", "a").await;
    assert_eq!((status, charge["status"].as_str(), charge["open"].as_bool()), (201, Some("authorized"), Some(true)));
    let at = |what: &str| format!("/v1/charges/{}/{what}", charge["id"].as_str().expect("an id"));
    let capture = |amount: i64, last: bool| json!({ "reference": "c", "amount_minor": amount, "last": last });
    let (_, part) = call(&sandbox, "POST", &at("captures"), "c1", capture(4_000, false)).await;
    assert_eq!((part["captured_minor"].as_i64(), part["captures"][0]["fee_minor"].as_i64()), (Some(4_000), Some(81)));
    assert_eq!(call(&sandbox, "POST", &at("captures"), "c2", capture(6_001, false)).await.1["error"]["code"], "capture_exceeds");
    assert_eq!(call(&sandbox, "POST", &at("captures"), "c3", capture(1_000, true)).await.0, 201);
    assert_eq!(call(&sandbox, "POST", &at("captures"), "c4", capture(1, true)).await.1["error"]["code"], "not_capturable");
    assert_eq!(call(&sandbox, "POST", &at("void"), "v", Value::Null).await.1["error"]["code"], "not_voidable");
    let refund = |amount: i64| json!({ "reference": "r", "amount_minor": amount });
    assert_eq!(call(&sandbox, "POST", &at("refunds"), "r1", refund(3_000)).await.0, 201);
    assert_eq!(call(&sandbox, "POST", &at("refunds"), "r1", refund(3_000)).await.1["refunded_minor"], 3_000);
    assert_eq!(call(&sandbox, "POST", &at("refunds"), "r1", refund(2_000)).await.1["error"]["code"], "idempotency_key_reused");
    assert_eq!(call(&sandbox, "POST", &at("refunds"), "r2", refund(2_001)).await.1["error"]["code"], "refund_exceeds");
    assert_eq!(call(&sandbox, "POST", &at("refunds"), "r3", refund(2_000)).await.1["refunded_minor"], 5_000);

    let (_, file) = call(&sandbox, "GET", "/settlements/2026-01-05.csv", "", Value::Null).await;
    let rows: Vec<&str> = file.as_str().expect("a file").lines().collect();
    assert_eq!(rows.len(), 5, "{rows:?}");
    assert!(rows[1].starts_with("capture,ch_0000000001,pay-a,ca_0000000001,c,EUR,4000,81,3919,"), "{}", rows[1]);
    assert!(rows[3].starts_with("refund,ch_0000000001,pay-a,re_0000000003,r,EUR,-3000,0,-3000,"), "{}", rows[3]);
    assert_eq!(call(&sandbox, "GET", "/settlements/2026-01-06.csv", "", Value::Null).await.1.as_str().map(|f| f.lines().count()), Some(1));
}

#[tokio::test]
async fn tokens_decide() {
    let sandbox = sandbox();
    for (token, status, soft) in [
        ("tok_soft_decline", "declined", Some(true)),
        ("tok_hard_decline", "declined", Some(false)),
        ("tok_requires_action", "requires_action", None),
    ] {
        let (_, charge) = create(&sandbox, token, token).await;
        assert_eq!((charge["status"].as_str(), charge["decline"]["soft"].as_bool()), (Some(status), soft), "{token}");
    }
    assert_eq!(create(&sandbox, "4242424242424242", "pan").await.1["error"]["code"], "unknown_token");
    let id = sandbox.books()[2].id.clone();
    assert_eq!(call(&sandbox, "POST", &format!("/challenge/{id}"), "", json!({ "outcome": "pass" })).await.1["status"], "authorized");
    assert_eq!(call(&sandbox, "POST", &format!("/challenge/{id}"), "", json!({ "outcome": "fail" })).await.1["status"], "authorized");
    let (status, _) = call(&sandbox, "GET", &format!("/challenge/{id}"), "", Value::Null).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_key_makes_a_request_happen_once_whatever_becomes_of_the_answer() {
    let sandbox = sandbox();
    // The token, what the first attempt says, how many charges there are then, and what the second says.
    let table = [
        ("timeout_before", 504, 0, 201),
        ("timeout_after", 504, 1, 201),
        ("error_after", 500, 1, 201),
        ("outage", 503, 0, 201),
        ("late", 201, 1, 201),
        ("silent", 504, 0, 504),
        ("mute", 504, 1, 504),
    ];
    let mut expected = 0;
    for (fault, first, made, second) in table {
        let token = format!("tok_{fault}");
        assert_eq!(create(&sandbox, &token, fault).await.0, first, "{fault}");
        assert_eq!(sandbox.books().len(), expected + made, "{fault}");
        assert_eq!(create(&sandbox, &token, fault).await.0, second, "{fault}");
        expected += usize::from(fault != "silent");
        assert_eq!(sandbox.books().len(), expected, "{fault}");
    }
    let one_reference = call(&sandbox, "GET", "/v1/charges?reference=pay-timeout_after", "", Value::Null).await.1;
    assert_eq!(one_reference["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(call(&sandbox, "GET", "/v1/charges?reference=pay-mute", "", Value::Null).await.0, 504);
    // Another key is another charge, whatever its reference.
    let again = json!({ "reference": "pay-timeout_after", "token": "tok_approve", "amount_minor": 1, "currency": "EUR" });
    call(&sandbox, "POST", "/v1/charges", "other", again).await;
    assert_eq!(
        call(&sandbox, "GET", "/v1/charges?reference=pay-timeout_after", "", Value::Null).await.1["data"].as_array().map(Vec::len),
        Some(2)
    );
}

#[tokio::test]
async fn a_stale_charge_is_denied_for_a_while() {
    let sandbox = sandbox();
    create(&sandbox, "tok_stale", "a").await;
    let seen =
        async || call(&sandbox, "GET", "/v1/charges?reference=pay-a", "", Value::Null).await.1["data"].as_array().map_or(0, Vec::len);
    assert_eq!((seen().await, seen().await, seen().await), (0, 0, 1));
}

#[tokio::test]
async fn who_shows_no_key_is_refused() {
    let router = sandbox().router();
    for request in [Request::builder().uri("/books"), Request::builder().uri("/v1/charges").header("authorization", "Bearer wrong")] {
        let answer = router.clone().oneshot(request.body(Body::empty()).expect("a request")).await.expect("an answer");
        assert_eq!(answer.status().as_u16(), 401);
    }
}

#[test]
fn the_same_seed_behaves_the_same_and_the_rates_hold() {
    let rates: Rates = "timeout_after=0.25,late=0.25,soft_decline=0.5".parse().expect("rates");
    let count = |seed: u64| {
        let behaviour = crate::behaviour::Behaviour { seed, rates: rates.clone() };
        let script = crate::behaviour::Script::read("tok_random").expect("a script");
        let drawn: Vec<_> = (0..4_000).map(|i| behaviour.fault(&script, crate::behaviour::Kind::Create, &format!("k{i}"), 0)).collect();
        let late = drawn.iter().filter(|fault| **fault == Some(Fault::Late)).count();
        (late, drawn.iter().filter(|fault| fault.is_none()).count(), drawn)
    };
    let (late, none, drawn) = count(1);
    assert!((900..1_100).contains(&late) && (1_850..2_150).contains(&none), "{late} {none}");
    assert_eq!(drawn, count(1).2);
    assert_ne!(drawn, count(2).2);
    assert!("late=2".parse::<Rates>().is_err() && "lateness=0.1".parse::<Rates>().is_err());
}

#[tokio::test]
async fn the_books_survive_in_their_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = SandboxConfig { data: Some(folder.path().join("psp.db")), ..config() };
    let open = || Sandbox::open(config.clone(), Arc::new(ManualClock::new(START))).expect("a sandbox");
    let first = open();
    let (_, charge) = create(&first, "tok_approve", "a").await;
    let path = format!("/v1/charges/{}/captures", charge["id"].as_str().expect("an id"));
    call(&first, "POST", &path, "c", json!({ "reference": "c", "amount_minor": 7 })).await;
    let books = first.books();
    drop(first);
    let second = open();
    assert_eq!(second.books(), books);
    // Keys, too: the same request is not done again, and the next charge has the next number.
    assert_eq!(create(&second, "tok_approve", "a").await.1, charge);
    assert_eq!(create(&second, "tok_approve", "b").await.1["id"], "ch_0000000002");
    assert_eq!(second.books()[0].status, Status::Captured);
}

/// What a receiver of callbacks got: the id and the type of each, in order.
type Got = Arc<Mutex<Vec<(String, String)>>>;

#[tokio::test]
async fn callbacks_are_signed_and_misbehave_as_told() {
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let got: Got = Arc::default();
    let refusals = Arc::new(Mutex::new(1));
    let (log, left) = (got.clone(), refusals.clone());
    let receive = move |headers: axum::http::HeaderMap, body: axum::body::Bytes| async move {
        // The first delivery is refused, and comes again.
        if std::mem::take(&mut *left.lock().expect("a lock")) > 0 {
            return 503;
        }
        let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
        let secret = [SECRET.parse().expect("a secret")];
        let now = kernel::Clock::now(&SystemClock);
        webhook::verify(&secret, &text(webhook::ID), &text(webhook::TIMESTAMP), &text(webhook::SIGNATURE), &body, now).expect("signed");
        let told: Value = serde_json::from_slice(&body).expect("JSON");
        log.lock().expect("a lock").push((text(webhook::ID), told["type"].as_str().expect("a type").to_owned()));
        200
    };
    let route = axum::routing::post(move |headers, body| async move {
        axum::http::StatusCode::from_u16(receive(headers, body).await).expect("a status")
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
    let receiver = tokio::spawn(async move { axum::serve(listener, axum::Router::new().route("/hook", route)).await });

    let config = SandboxConfig { callback: Some((url, SECRET.to_owned())), ..config() };
    let sandbox = Sandbox::open(config, Arc::new(SystemClock)).expect("a sandbox");
    let settled = async |number: usize| {
        for _ in 0..400 {
            if got.lock().expect("a lock").len() >= number {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        std::mem::take(&mut *got.lock().expect("a lock"))
    };
    create(&sandbox, "tok_approve", "a").await;
    assert_eq!(settled(1).await.into_iter().map(|(_, kind)| kind).collect::<Vec<_>>(), ["charge.authorized"]);
    create(&sandbox, "tok_callback_first", "b").await;
    assert_eq!(got.lock().expect("a lock").len(), 1, "it was there before the answer");
    settled(1).await;
    create(&sandbox, "tok_callback_twice", "c").await;
    let twice = settled(2).await;
    assert_eq!(twice[0], twice[1]);
    create(&sandbox, "tok_answer_twice", "d").await;
    let twice = settled(2).await;
    assert!(twice[0].0 != twice[1].0 && twice[0].1 == twice[1].1, "{twice:?}");
    create(&sandbox, "tok_callback_lies", "e").await;
    assert_eq!(settled(2).await.into_iter().map(|(_, kind)| kind).collect::<Vec<_>>(), ["charge.authorized", "charge.declined"]);
    let (_, late) = create(&sandbox, "tok_callback_out_of_order", "f").await;
    let path = format!("/v1/charges/{}/captures", late["id"].as_str().expect("an id"));
    call(&sandbox, "POST", &path, "f2", json!({ "reference": "c", "amount_minor": 7 })).await;
    assert_eq!(settled(2).await.into_iter().map(|(_, kind)| kind).collect::<Vec<_>>(), ["charge.captured", "charge.authorized"]);
    receiver.abort();
}
