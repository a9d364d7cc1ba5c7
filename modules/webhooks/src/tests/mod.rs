//! Tests of this module: a receiver of our own that verifies as the specification says, on each engine.

use crate::service::{Webhooks, WebhooksConfig};
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use client::webhook;
use kernel::{Clock as _, Timestamp};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use store::{NewEvent, Tx};
use testkit::{Client, Setup, TestApp};
use traffic::resilience::Policies;

/// What a receiver got.
#[derive(Clone, Debug)]
struct Got {
    id: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Got {
    fn verifies(&self, secret: &str, now: Timestamp) -> bool {
        let header = |name: &str| self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
        let secret: webhook::Secret = secret.parse().expect("a secret");
        webhook::verify(&[secret], &self.id, &header(webhook::TIMESTAMP), &header(webhook::SIGNATURE), &self.body, now).is_ok()
    }

    fn signatures(&self) -> usize {
        self.headers.get(webhook::SIGNATURE).and_then(|v| v.to_str().ok()).map_or(0, |v| v.split(' ').count())
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

/// A receiver on a port of its own, which answers with a status that the test sets.
#[derive(Clone)]
struct Receiver {
    url: String,
    got: Arc<Mutex<Vec<Got>>>,
    status: Arc<Mutex<u16>>,
    /// How many bytes it answers besides.
    says: Arc<Mutex<usize>>,
}

impl Receiver {
    async fn start() -> Receiver {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/hooks", listener.local_addr().expect("an address"));
        let receiver = Receiver { url, got: Arc::default(), status: Arc::new(Mutex::new(200)), says: Arc::default() };
        let state = receiver.clone();
        let take = move |headers: HeaderMap, body: Bytes| async move {
            let id = headers.get(webhook::ID).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
            state.got.lock().expect("a lock").push(Got { id, headers, body });
            let status = *state.status.lock().expect("a lock");
            let says = "x".repeat(*state.says.lock().expect("a lock"));
            (StatusCode::from_u16(status).expect("a status"), says)
        };
        let router = axum::Router::new().route("/hooks", axum::routing::post(take));
        tokio::spawn(async move { axum::serve(listener, router).await });
        receiver
    }

    fn answer(&self, status: u16) {
        *self.status.lock().expect("a lock") = status;
    }

    fn got(&self) -> Vec<Got> {
        self.got.lock().expect("a lock").clone()
    }
}

fn policies() -> Arc<Policies> {
    Arc::new(Policies::new(Arc::new(kernel::SeededRng::new(3))))
}

fn setup_with(allow_private: bool) -> Setup {
    let webhooks =
        Webhooks::new(&WebhooksConfig { sealing_key: [7; 32], allow_private, timeout_ms: 500, policies: policies() }).expect("webhooks");
    let for_routes = webhooks.clone();
    Setup::new(vec![crate::module()]).customise(move |builder| builder.part(for_routes)).workflow_part(webhooks)
}

fn setup() -> Setup {
    setup_with(true)
}

/// Emits an event as another module's command would.
async fn tell(app: &TestApp, tenant: &str, kind: &'static str, subject: &str) {
    let command = |tx: &mut Tx<'_>, tell: &(&'static str, String)| {
        tx.emit(NewEvent::new(tell.0, 1, &tell.1, &json!({ "about": tell.1 })));
        Ok(())
    };
    app.store().write(app.tenant(tenant), command, (kind, subject.to_owned())).await.expect("an event");
}

async fn endpoint(acme: &Client, receiver: &Receiver, events: Value) -> (String, String) {
    let made = acme.post("/api/v1/webhooks/endpoints").json(&json!({ "url": receiver.url, "events": events })).send().await.expect(201);
    (made.text("endpoint_id"), made.text("secret"))
}

async fn deliveries(acme: &Client) -> Vec<Value> {
    let page = acme.get("/api/v1/webhooks/deliveries?limit=100").send().await.expect(200).json;
    page["data"].as_array().expect("deliveries").clone()
}

/// Waits until as many deliveries are in that state.
async fn until(acme: &Client, state: &str, count: usize) -> Vec<Value> {
    for _ in 0..400 {
        let all = deliveries(acme).await;
        if all.iter().filter(|one| one["state"] == state).count() >= count {
            return all;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("not {count} are {state}: {:?}", deliveries(acme).await);
}

/// Waits until the latest delivery was tried so often.
async fn attempted(acme: &Client, attempts: i64) -> Vec<Value> {
    for _ in 0..400 {
        let all = deliveries(acme).await;
        if all.first().is_some_and(|one| one["attempts"] == attempts) {
            return all;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the latest was not tried {attempts} times: {:?}", deliveries(acme).await);
}

testkit::both_engines! {
    setup: setup;

    async fn whatever_a_receiver_says_its_status_counts(app: TestApp) {
        let (acme, receiver) = (app.client("acme", &["*"]), Receiver::start().await);
        endpoint(&acme, &receiver, json!(["payment.*"])).await;
        *receiver.says.lock().expect("a lock") = 200 * 1024;
        tell(&app, "acme", "payment.captured", "pay_1").await;
        let all = attempted(&acme, 1).await;
        assert_eq!((&all[0]["state"], &all[0]["status"]), (&json!("delivered"), &json!(200)), "{all:?}");
        assert_eq!(receiver.got().len(), 1);
    }

    async fn what_is_asked_for_is_delivered_signed_and_once(app: TestApp) {
        let (acme, receiver) = (app.client("acme", &["*"]), Receiver::start().await);
        tell(&app, "acme", "payment.captured", "before").await;
        app.drained().await;
        let (_, secret) = endpoint(&acme, &receiver, json!(["payment.*"])).await;
        tell(&app, "acme", "payment.captured", "pay_1").await;
        tell(&app, "acme", "order.placed", "ord_1").await;
        tell(&app, "other", "payment.captured", "pay_2").await;
        let all = until(&acme, "delivered", 1).await;
        assert_eq!(all.len(), 1, "{all:?}");
        let got = receiver.got();
        assert_eq!(got.len(), 1);
        assert_eq!(all[0]["event_id"], *got[0].id);
        assert_eq!((&all[0]["status"], &all[0]["attempts"]), (&json!(200), &json!(1)));
        assert!(got[0].verifies(&secret, app.clock().now()));
        assert!(!got[0].verifies(&webhook::secret_text(&[1; 32]), app.clock().now()));
        let body = got[0].json();
        assert_eq!((&body["type"], &body["subject"], &body["data"]["about"]), (&json!("payment.captured"), &json!("pay_1"), &json!("pay_1")));
        // By hand again: the same id, so that the receiver knows it.
        let path = format!("/api/v1/webhooks/deliveries/{}", all[0]["delivery_id"].as_str().expect("an id"));
        assert_eq!(acme.get(&path).send().await.expect(200).json["message"], body);
        acme.post(format!("{path}/resend")).key("again").send().await.expect(201);
        acme.post(format!("{path}/resend")).key("again").send().await.expect(201);
        until(&acme, "delivered", 2).await;
        let got = receiver.got();
        assert_eq!((got.len(), &got[0].id, &got[0].body), (2, &got[1].id, &got[1].body));
    }

    async fn what_fails_is_tried_again_and_given_up_at_last(app: TestApp) {
        let (acme, receiver) = (app.client("acme", &["*"]), Receiver::start().await);
        let (id, _) = endpoint(&acme, &receiver, json!(["*"])).await;
        receiver.answer(500);
        tell(&app, "acme", "a.b", "x").await;
        let all = attempted(&acme, 1).await;
        assert_eq!((&all[0]["error"], &all[0]["state"]), (&json!("status 500"), &json!("waiting")), "{all:?}");
        // Its turn has not come yet, and then it has.
        app.advance_ms(4_900).await;
        assert_eq!(receiver.got().len(), 1);
        app.advance_ms(1_200).await;
        let all = attempted(&acme, 2).await;
        let next: Timestamp = all[0]["next_at"].as_str().expect("a time").parse().expect("a time");
        assert!(next.ms_since(app.clock().now()) >= 4 * 60_000, "{all:?}");
        app.advance_ms(4 * 86_400_000).await;
        let all = until(&acme, "failed", 1).await;
        assert_eq!((receiver.got().len(), &all[0]["attempts"]), (10, &json!(10)), "{all:?}");
        let state = async |acme: &Client| acme.get(format!("/api/v1/webhooks/endpoints/{id}")).send().await.expect(200).json;
        assert_eq!(state(&acme).await["state"], "enabled", "not yet");
        // It has failed for more than five days: it is asked no more, and what happens is not kept for it.
        app.advance_ms(2 * 86_400_000).await;
        tell(&app, "acme", "a.b", "y").await;
        attempted(&acme, 1).await;
        assert_eq!(state(&acme).await["state"], "failing");
        app.advance_ms(10_000).await;
        until(&acme, "failed", 2).await;
        assert_eq!(state(&acme).await["waiting"], 0);
        tell(&app, "acme", "a.b", "z").await;
        app.drained().await;
        assert_eq!(deliveries(&acme).await.len(), 2);
        // Switched on again, a delivery of before can be sent again.
        receiver.answer(204);
        let path = format!("/api/v1/webhooks/deliveries/{}/resend", all[0]["delivery_id"].as_str().expect("an id"));
        assert_eq!(acme.post(&path).send().await.expect(409).text("code"), "webhooks.endpoint_off");
        acme.patch(format!("/api/v1/webhooks/endpoints/{id}")).json(&json!({ "enabled": true })).send().await.expect(200);
        acme.post(&path).send().await.expect(201);
        until(&acme, "delivered", 1).await;
    }

    async fn a_secret_rotates_with_an_overlap(app: TestApp) {
        let (acme, receiver) = (app.client("acme", &["*"]), Receiver::start().await);
        let (id, first) = endpoint(&acme, &receiver, json!(["*"])).await;
        let rotate = format!("/api/v1/webhooks/endpoints/{id}/rotate-secret");
        let second = acme.post(&rotate).json(&json!({ "overlap_ms": 3_600_000 })).send().await.expect(200).text("secret");
        let ping = format!("/api/v1/webhooks/endpoints/{id}/ping");
        acme.post(&ping).send().await.expect(201);
        until(&acme, "delivered", 1).await;
        let got = receiver.got();
        assert_eq!(got[0].signatures(), 2);
        assert!(got[0].verifies(&first, app.clock().now()) && got[0].verifies(&second, app.clock().now()));
        assert_eq!(got[0].json()["type"], "webhook.ping");
        app.advance_ms(3_600_001).await;
        acme.post(&ping).send().await.expect(201);
        until(&acme, "delivered", 2).await;
        let got = receiver.got();
        assert_eq!(got[1].signatures(), 1);
        assert!(!got[1].verifies(&first, app.clock().now()) && got[1].verifies(&second, app.clock().now()));
        // Nothing shows a secret but the answer that made it.
        let shown = acme.get("/api/v1/webhooks/endpoints").send().await.expect(200).json.to_string();
        assert!(!shown.contains("whsec_"), "{shown}");
        // Gone for good: what answers 410 is asked no more.
        receiver.answer(410);
        acme.post(&ping).send().await.expect(201);
        until(&acme, "failed", 1).await;
        assert_eq!(acme.get(format!("/api/v1/webhooks/endpoints/{id}")).send().await.expect(200).json["state"], "failing");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_address_beside_the_server_is_called() {
    testkit::run(store::Engine::Sqlite, setup_with(false), |app| async move {
        let acme = app.client("acme", &["*"]);
        let refused = [
            "http://shop.example/hook",
            "https://127.0.0.1/",
            "https://[::1]:8443/",
            "https://[::ffff:10.0.0.1]/",
            "https://169.254.169.254/latest/meta-data",
            "https://10.1.2.3/",
            "https://localhost/hook",
            "https://user:password@shop.example/",
            "ftp://shop.example/",
            "https:///hook",
            "https://shop.example:99999/",
        ];
        for url in refused {
            let answer = acme.post("/api/v1/webhooks/endpoints").json(&json!({ "url": url, "events": ["*"] })).send().await.expect(400);
            assert_eq!(answer.json["errors"][0]["field"], "url", "{url}: {}", answer.json);
        }
        // A name, or a way to write an address, that resolves to one beside the server.
        for url in ["https://localhost.localdomain/", "https://0x7f.1/", "https://2130706433/"] {
            let made = acme.post("/api/v1/webhooks/endpoints").json(&json!({ "url": url, "events": ["*"] })).send().await.expect(201);
            let ping = format!("/api/v1/webhooks/endpoints/{}/ping", made.text("endpoint_id"));
            let one = acme.post(&ping).send().await.expect(201).text("delivery_id");
            let path = format!("/api/v1/webhooks/deliveries/{one}");
            for _ in 0..400 {
                if acme.get(&path).send().await.expect(200).json["attempts"] == 1 {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            let shown = acme.get(&path).send().await.expect(200).json;
            assert!(shown["error"].as_str().is_some_and(|error| error.starts_with("not sent")), "{url}: {shown}");
        }
    })
    .await;
}
