//! A carrier of our own on a port of its own, and everything that goes wrong between it and us: stories on each engine.

use super::stories::shipment;
use crate::carriers::model::Purchase;
use crate::{LABEL, ShipmentId, Shipping, ShippingConfig, VOID};
use client::webhook;
use kernel::{Clock as _, ManualClock, Timestamp};
use sandbox::{Carrier, CarrierConfig, LabelStatus, ScanStatus};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use store::{Engine, Event, Tx};
use testkit::{Client, Setup, TestApp};
use tokio::net::TcpListener;
use traffic::resilience::Policies;
use workflow::{Act, Decision, Fate, Kind, Point};

/// The moment at which a `TestApp`'s clock stands.
const START: Timestamp = Timestamp::from_micros(1_767_614_400_000_000);
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// How long we wait for the carrier, and how long it lets us wait, in milliseconds.
const CALL_MS: u64 = 100;
const HANG_MS: u64 = 160;

/// Shipments of which it was told that they are overdue, by engine.
static OVERDUE: Mutex<Vec<(Engine, String)>> = Mutex::new(Vec::new());

fn hear(tx: &mut Tx<'_>, events: &[Event]) -> kernel::Result<()> {
    let engine = tx.engine();
    OVERDUE.lock().expect("a lock").extend(events.iter().map(|event| (engine, event.subject.clone())));
    Ok(())
}

fn setup() -> Setup {
    // The carrier fails all the time here, and is asked nevertheless: what a breaker does is the business of other tests.
    let text = "[dependency.shipping]\nattempts = 1\ntimeout_ms = 60_000\nbreaker = { failures = 1_000_000, least_calls = 1_000_000 }\n";
    let policies = Policies::parse("test", text, Arc::new(kernel::SeededRng::new(3))).expect("policies");
    let shipping = Shipping::new(&ShippingConfig {
        sealing_key: [7; 32],
        base_urls: vec!["http://127.0.0.1".to_owned()],
        call_timeout_ms: CALL_MS,
        policies: Arc::new(policies),
    })
    .expect("shipping");
    let for_routes = shipping.clone();
    const NONE: &[store::Migration] = &[];
    let ears =
        web::Module { consumers: vec![log::Consumer::sql("ears.overdue", &["shipment.overdue"], hear)], ..web::Module::new("ears", NONE) };
    Setup::new(vec![crate::module(), ears]).customise(move |builder| builder.part(for_routes)).workflow_part(shipping)
}

/// As above, and a saga's process dies once after it has called, before it has written down what it heard.
fn dying() -> Setup {
    let died = AtomicBool::new(false);
    setup().probe(move |point, _| if point == Point::AfterCall && !died.swap(true, SeqCst) { Fate::Die } else { Fate::Go })
}

struct World {
    app: TestApp,
    acme: Client,
    carrier: Carrier,
    clock: Arc<ManualClock>,
    id: String,
    hook: String,
}

impl World {
    async fn new(app: TestApp) -> World {
        let clock = Arc::new(ManualClock::new(START));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let config = CarrierConfig { hang_ms: HANG_MS, late_ms: 150, retry_ms: 5, public_url: url.clone(), ..CarrierConfig::default() };
        let carrier = Carrier::open(config, clock.clone()).expect("a carrier");
        let serving = carrier.clone();
        tokio::spawn(async move { sandbox::serve_carrier(serving, listener, std::future::pending()).await });
        let acme = app.client("acme", &["*"]);
        let body = json!({ "name": "Sandbox", "kind": "sandbox", "base_url": url, "api_key": "ck_sandbox", "webhook_secrets": [SECRET] });
        let id = acme.post("/api/v1/shipping/carriers").json(&body).send().await.expect(201).text("carrier_id");
        let front = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let hook = format!("/api/v1/tenants/acme/shipping/callbacks/{id}");
        let address = format!("http://{}{hook}", front.local_addr().expect("an address"));
        let router = axum::Router::new().fallback_service(app.web().clone());
        tokio::spawn(async move { axum::serve(front, router).await });
        carrier.call_back(&address, SECRET).expect("callbacks");
        World { acme, app, carrier, clock, id, hook }
    }

    /// A packed shipment of two parcels: its path.
    async fn packed(&self) -> String {
        let path =
            self.acme.post("/api/v1/shipping/shipments").json(&shipment("ord_1")).send().await.expect(201).header("location").to_owned();
        self.step(&path, "pack").await;
        path
    }

    async fn step(&self, path: &str, step: &str) -> Value {
        self.acme.post(format!("{path}/steps")).json(&json!({ "step": step })).send().await.expect(200).json
    }

    /// Asks for labels, and waits until what is to be known at once is known.
    async fn ask(&self, path: &str, service: &str) {
        let body = json!({ "carrier_id": self.id, "service": service });
        let asked = self.acme.post(format!("{path}/labels")).json(&body).send().await.expect(202).json;
        assert_eq!(asked["state"], "label_requested");
        self.app.drained().await;
    }

    /// A shipment with labels of this service.
    async fn labelled(&self, service: &str) -> String {
        let path = self.packed().await;
        self.ask(&path, service).await;
        self.later(60_000).await;
        assert_eq!(self.get(&path).await["state"], "ready");
        path
    }

    async fn get(&self, path: &str) -> Value {
        self.acme.get(path).send().await.expect(200).json
    }

    /// The last request for labels.
    async fn label(&self, path: &str) -> Value {
        let labels = self.get(&format!("{path}/labels")).await;
        labels["data"].as_array().and_then(|labels| labels.last()).expect("a label").clone()
    }

    async fn later(&self, ms: i64) {
        self.clock.advance_ms(ms);
        self.app.advance_ms(ms).await;
    }

    /// Waits for callbacks until the shipment stands there.
    async fn until(&self, path: &str, state: &str) -> Value {
        for _ in 0..300 {
            let shipment = self.get(path).await;
            if shipment["state"] == state {
                return shipment;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("not {state}: {}", self.get(path).await);
    }

    /// What a person says of a saga that is parked.
    async fn decide(&self, kind: Kind, path: &str, rest: &str, decision: Decision) {
        let (tenant, id) = (self.app.tenant("acme"), path.rsplit('/').next().expect("an id").to_owned());
        let key = format!("{id}-{rest}");
        let saga = self.app.store().read(tenant, move |read| workflow::find(read, kind, &key)).await.expect("read").expect("a saga");
        workflow::act(self.app.store(), Some(tenant), 0, saga.id, Act::Decide(decision)).await.expect("it can be decided");
        self.app.drained().await;
    }

    fn numbers(&self, label: usize) -> Vec<String> {
        self.carrier.books()[label].parcels.iter().map(|parcel| parcel.tracking_number.clone()).collect()
    }

    /// Scans of all parcels of a label, as its service says.
    fn travel(&self, label: usize) {
        for number in self.numbers(label) {
            self.carrier.travel(&number).expect("a parcel");
        }
    }
}

testkit::both_engines! {
    setup: setup;

    async fn labels_are_bought_printed_and_their_parcels_arrive(app: TestApp) {
        let world = World::new(app).await;
        let path = world.labelled("standard").await;
        let shipment = world.get(&path).await;
        assert_eq!((shipment["labelled"].as_bool(), shipment["parcels"][1]["tracking_number"].as_str()), (Some(true), Some("SBX00000000102")));
        let label = world.label(&path).await;
        assert_eq!((label["state"].as_str(), label["price_minor"].as_i64(), label["currency"].as_str()), (Some("bought"), Some(780), Some("EUR")));
        let page = world.acme.get(format!("{path}/parcels/2/label")).send().await.expect(200);
        assert!(page.header("content-type") == "application/pdf" && page.body.starts_with(b"%PDF-"));
        world.acme.get(format!("{path}/parcels/3/label")).send().await.expect_problem(404, "shipping.label_not_found");
        world.app.client("other", &["*"]).get(format!("{path}/parcels/1/label")).send().await.expect_problem(404, "shipping.shipment_not_found");
        world.acme.post(format!("{path}/steps")).json(&json!({ "step": "cancel" })).send().await.expect_problem(409, "shipping.has_label");
        world.acme.post(format!("{path}/labels")).json(&json!({ "carrier_id": world.id, "service": "standard" })).send().await.expect_problem(409, "shipping.not_allowed");

        world.step(&path, "ship").await;
        world.travel(0);
        let delivered = world.until(&path, "delivered").await;
        assert_eq!(delivered["parcels"][0]["progress"], "delivered");
        let changes = world.get(&format!("{path}/changes")).await;
        let kinds: Vec<&str> = changes["data"].as_array().expect("changes").iter().filter_map(|c| c["kind"].as_str()).collect();
        assert_eq!(kinds, ["created", "pack", "label_requested", "label_bought", "ship", "tracked"]);
    }

    async fn whatever_becomes_of_the_answer_labels_are_bought_once(app: TestApp) {
        let world = World::new(app).await;
        // The service, the shipment's state and the label's, and how many labels the carrier has sold.
        let table = [
            ("standard+timeout_before", "ready", "bought", 1),
            ("standard+timeout_after", "ready", "bought", 1),
            ("standard+timeout_after+stale", "ready", "bought", 1),
            ("standard+late", "ready", "bought", 1),
            ("standard+error_after", "ready", "bought", 1),
            ("standard+outage", "ready", "bought", 1),
            ("standard+refuse_address", "packed", "refused", 0),
            ("pigeon", "packed", "refused", 0),
        ];
        let mut sold = 0;
        for (service, state, label, more) in table {
            let path = world.packed().await;
            world.ask(&path, service).await;
            for _ in 0..4 {
                world.later(30_000).await;
            }
            let shipment = world.get(&path).await;
            assert_eq!((shipment["state"].as_str(), world.label(&path).await["state"].as_str()), (Some(state), Some(label)), "{service}");
            sold += more;
            assert_eq!(world.carrier.books().len(), sold, "{service}");
            if state == "packed" {
                let detail = world.label(&path).await["detail"].as_str().expect("a detail").to_owned();
                assert!(detail.starts_with("address_not_served") || detail.starts_with("unknown_service"), "{detail}");
                // It is asked for another way.
                world.ask(&path, "express").await;
                assert_eq!((world.get(&path).await["state"].as_str(), world.label(&path).await["attempt"].as_i64()), (Some("ready"), Some(2)));
                sold += 1;
            }
        }
    }

    async fn a_carrier_is_asked_where_it_was(app: TestApp) {
        let world = World::new(app).await;
        let (doubtful, sold) = (world.packed().await, world.labelled("standard").await);
        world.ask(&doubtful, "standard+timeout_after").await;
        assert_eq!(world.label(&doubtful).await["state"], "requested");
        // The carrier moves to where nobody knows of it, with another key.
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let elsewhere = format!("http://{}", listener.local_addr().expect("an address"));
        let other = Carrier::open(CarrierConfig { public_url: elsewhere.clone(), ..CarrierConfig::default() }, world.clock.clone()).expect("a carrier");
        let serving = other.clone();
        tokio::spawn(async move { sandbox::serve_carrier(serving, listener, std::future::pending()).await });
        let moved = json!({ "base_url": elsewhere, "api_key": "ck_sandbox", "webhook_secrets": [SECRET] });
        world.acme.patch(format!("/api/v1/shipping/carriers/{}", world.id)).json(&moved).send().await.expect(200);
        for _ in 0..4 {
            world.later(30_000).await;
        }
        assert_eq!((world.get(&doubtful).await["state"].as_str(), world.carrier.books().len(), other.books().len()), (Some("ready"), 2, 0));
        // What it sold there it takes back there, and shows there.
        world.acme.get(format!("{doubtful}/parcels/1/label")).send().await.expect(200);
        world.acme.post(format!("{sold}/void-label")).send().await.expect(202);
        world.app.drained().await;
        assert_eq!(world.label(&sold).await["state"], "voided");
        // What is asked for from now on it is asked for where it is now.
        world.ask(&sold, "standard").await;
        assert_eq!((world.carrier.books().len(), other.books().len()), (2, 1));
    }

    async fn every_parcel_of_a_large_shipment_is_looked_for(app: TestApp) {
        let world = World::new(app).await;
        let parcels: Vec<Value> = (1..=12).map(|line| json!({ "weight_g": 100, "lines": [{ "line": line, "quantity": 1 }] })).collect();
        let large = json!({ "order_id": "ord_1", "destination": super::stories::address(), "parcels": parcels });
        let path = world.acme.post("/api/v1/shipping/shipments").json(&large).send().await.expect(201).header("location").to_owned();
        world.step(&path, "pack").await;
        world.ask(&path, "standard+quiet").await;
        world.step(&path, "ship").await;
        // More has been seen of each parcel than one look takes in of all of them.
        for number in world.numbers(0) {
            for stop in 0..12 {
                world.carrier.scan(&number, ScanStatus::InTransit, &format!("Stop {stop}")).expect("a parcel");
            }
        }
        world.travel(0);
        world.later(13 * 3_600_000).await;
        assert_eq!(world.get(&path).await["state"], "delivered");
    }

    async fn what_nobody_can_learn_a_person_finds_out(app: TestApp) {
        app.allow_parked();
        let world = World::new(app).await;
        let (silent, mute) = (world.packed().await, world.packed().await);
        world.ask(&silent, "standard+silent").await;
        world.ask(&mute, "standard+mute").await;
        world.later(26 * 3_600_000).await;
        assert_eq!(world.carrier.books().len(), 1, "the mute one was sold, and nobody says so");
        let label = world.label(&mute).await;
        assert_eq!((world.get(&mute).await["state"].as_str(), label["state"].as_str()), (Some("label_requested"), Some("in_doubt")));
        let books = world.carrier.books();
        let bought = json!({ "label": books[0].id, "price_minor": 780, "currency": "EUR", "parcels": books[0].parcels.iter().map(|p|
            json!({ "tracking_number": p.tracking_number, "label_url": p.label_url })).collect::<Vec<_>>() });
        serde_json::from_value::<Purchase>(bought.clone()).expect("what a person says is a purchase");
        world.decide(LABEL, &mute, "1", Decision::Done(bought)).await;
        assert_eq!((world.get(&mute).await["state"].as_str(), world.label(&mute).await["state"].as_str()), (Some("ready"), Some("bought")));
        // The silent one was never seen by the carrier, which says so when it is asked: at the deadline it is refused, or a person says so.
        if world.label(&silent).await["state"] == "in_doubt" {
            world.decide(LABEL, &silent, "1", Decision::Refused("never sold".to_owned())).await;
        }
        assert_eq!((world.get(&silent).await["state"].as_str(), world.label(&silent).await["state"].as_str()), (Some("packed"), Some("refused")));
    }

    async fn labels_are_given_back_whatever_becomes_of_the_answer(app: TestApp) {
        let world = World::new(app).await;
        for (number, fault) in ["", "+void:timeout_before", "+void:timeout_after", "+void:late", "+void:error_after", "+void:outage"].into_iter().enumerate() {
            let path = world.labelled(&format!("standard{fault}")).await;
            world.acme.post(format!("{path}/void-label")).send().await.expect(202);
            for _ in 0..3 {
                world.later(30_000).await;
            }
            let shipment = world.get(&path).await;
            assert_eq!((shipment["state"].as_str(), shipment["labelled"].as_bool()), (Some("packed"), Some(false)), "{fault}");
            assert_eq!((world.carrier.books()[number].status, shipment["parcels"][0]["tracking_number"].as_str()), (LabelStatus::Voided, None), "{fault}");
            world.acme.post(format!("{path}/void-label")).send().await.expect_problem(409, "shipping.not_allowed");
            world.step(&path, "cancel").await;
        }
        // What the carrier has seen it does not take back; the label stays, and may be used.
        let path = world.labelled("standard").await;
        let number = world.numbers(6)[0].clone();
        world.carrier.scan(&number, ScanStatus::InTransit, "Kassel").expect("a parcel");
        world.until(&path, "shipped").await;
        world.acme.post(format!("{path}/void-label")).send().await.expect_problem(409, "shipping.not_allowed");
        let quiet = world.labelled("standard+quiet").await;
        world.carrier.scan(&world.numbers(7)[0], ScanStatus::InTransit, "Kassel").expect("a parcel");
        world.acme.post(format!("{quiet}/void-label")).send().await.expect(202);
        world.app.drained().await;
        let label = world.label(&quiet).await;
        assert_eq!((label["state"].as_str(), label["detail"].as_str()), (Some("bought"), Some("already_used: its parcels are on their way")));
        assert_eq!(world.step(&quiet, "ship").await["state"], "shipped");
    }

    async fn what_is_being_given_back_does_not_go(app: TestApp) {
        app.allow_parked();
        let world = World::new(app).await;
        let path = world.labelled("standard+void:silent").await;
        world.acme.post(format!("{path}/void-label")).send().await.expect(202);
        world.app.drained().await;
        world.acme.post(format!("{path}/steps")).json(&json!({ "step": "ship" })).send().await.expect_problem(409, "shipping.label_voiding");
        world.acme.post(format!("{path}/void-label")).send().await.expect_problem(409, "shipping.label_voiding");
        world.later(26 * 3_600_000).await;
        if world.label(&path).await["state"] == "voiding" {
            world.decide(VOID, &path, "1-4", Decision::Refused("they keep it".to_owned())).await;
        }
        assert_eq!(world.label(&path).await["state"], "bought");
        assert_eq!(world.step(&path, "ship").await["state"], "shipped");
    }

    async fn callbacks_may_come_twice_late_in_any_order_or_not_at_all(app: TestApp) {
        let world = World::new(app).await;
        for (number, (service, state)) in [
            ("standard+twice", "delivered"),
            ("standard+reordered", "delivered"),
            ("express+twice+reordered", "delivered"),
            ("standard+lost", "failed"),
            ("standard+lost+twice+reordered", "failed"),
            ("standard+returned+reordered", "returned_to_sender"),
        ].into_iter().enumerate() {
            let path = world.labelled(service).await;
            world.travel(number);
            world.until(&path, state).await;
            tokio::time::sleep(std::time::Duration::from_millis(250)).await;
            assert_eq!(world.get(&path).await["state"], state, "{service}: what comes late changes nothing");
            let told = world.get(&format!("{path}/tracking?limit=100")).await;
            let seen = world.carrier.books()[number].parcels.iter().map(|parcel| parcel.scans.len() - 1).sum::<usize>();
            assert_eq!(told["data"].as_array().map(Vec::len), Some(seen), "{service}: each once");
        }
        // Nothing is told at all: the carrier is asked.
        let path = world.labelled("standard+quiet").await;
        world.step(&path, "ship").await;
        world.travel(6);
        world.later(13 * 3_600_000).await;
        assert_eq!(world.get(&path).await["state"], "delivered");
    }

    async fn a_parcel_that_nobody_hears_of_is_overdue_in_the_end(app: TestApp) {
        let world = World::new(app).await;
        let path = world.labelled("standard+quiet").await;
        world.step(&path, "ship").await;
        world.later(46 * 86_400_000).await;
        let engine = world.app.store().engine(0);
        let heard = OVERDUE.lock().expect("a lock").iter().filter(|(of, subject)| *of == engine && path.ends_with(subject.as_str())).count();
        assert_eq!(heard, 1);
    }

    async fn who_is_not_the_carrier_tells_nothing(app: TestApp) {
        let world = World::new(app).await;
        let path = world.labelled("standard+quiet").await;
        let number = world.numbers(0)[0].clone();
        let body = |id: &str, number: &str| json!({ "id": id, "type": "parcel.scanned", "data": { "tracking_number": number,
            "scan": { "id": "scn_x", "status": "delivered", "occurred_at": "2026-01-05T12:00:00Z" } } }).to_string();
        let now = world.app.clock().now();
        let tell = |body: String, id: &str, at: Timestamp, secret: &str| {
            let secret: webhook::Secret = secret.parse().expect("a secret");
            let signature = webhook::sign(&secret, id, at, body.as_bytes());
            let request = world.app.post(&world.hook).raw("application/json", body).header(webhook::ID, id);
            let request = request.header(webhook::TIMESTAMP, at.unix_seconds().to_string()).header(webhook::SIGNATURE, signature);
            async move { request.send().await }
        };
        let other = webhook::secret_text(&[9; 32]);
        tell(body("e1", &number), "e1", now, &other).await.expect_problem(401, "shipping.callback_forged");
        tell(body("e1", &number), "e1", now.plus_ms(-600_000), SECRET).await.expect_problem(400, "shipping.callback_out_of_time");
        tell(body("e2", &number), "e1", now, SECRET).await.expect_problem(400, "shipping.callback_malformed");
        tell("{}".to_owned(), "e1", now, SECRET).await.expect_problem(400, "shipping.callback_malformed");
        tell(body("e1", "SBX99"), "e1", now, SECRET).await.expect_problem(503, "shipping.parcel_unknown");
        world.app.post(&world.hook).json(&json!({})).send().await.expect_problem(400, "shipping.callback_malformed");
        assert_eq!(world.get(&path).await["state"], "ready");
        // Another carrier of the tenant tells nothing of this one's parcels.
        let second = json!({ "name": "Other", "kind": "sandbox", "base_url": "http://127.0.0.1:9", "api_key": "k", "webhook_secrets": [other] });
        let second = world.acme.post("/api/v1/shipping/carriers").json(&second).send().await.expect(201).text("carrier_id");
        let hook = world.hook.replace(&world.id, &second);
        let signed = body("e1", &number);
        let signature = webhook::sign(&other.parse().expect("a secret"), "e1", now, signed.as_bytes());
        let request = world.app.post(hook).raw("application/json", signed).header(webhook::ID, "e1");
        request.header(webhook::TIMESTAMP, now.unix_seconds().to_string()).header(webhook::SIGNATURE, signature).send().await.expect_problem(503, "shipping.parcel_unknown");
        // The carrier itself.
        for _ in 0..2 {
            tell(body("e1", &number), "e1", now, SECRET).await.expect(204);
        }
        assert_eq!(world.get(&path).await["state"], "shipped", "one of two parcels has arrived");
    }

    async fn ten_people_ask_for_labels_and_they_are_bought_once(app: TestApp) {
        let world = World::new(app).await;
        let path = world.packed().await;
        let mut racing = tokio::task::JoinSet::new();
        for _ in 0..10 {
            let request = world.acme.post(format!("{path}/labels")).json(&json!({ "carrier_id": world.id, "service": "standard+late" }));
            racing.spawn(async move { request.send().await.status.as_u16() });
        }
        let statuses = racing.join_all().await;
        assert_eq!((statuses.iter().filter(|s| **s == 202).count(), statuses.iter().filter(|s| **s == 409).count()), (1, 9));
        world.later(60_000).await;
        world.later(60_000).await;
        assert_eq!((world.carrier.books().len(), world.get(&path).await["state"].as_str()), (1, Some("ready")));
    }

    async fn a_carrier_is_called_where_it_may_be_and_its_secrets_are_kept(app: TestApp) {
        let world = World::new(app).await;
        let shown = world.acme.get(format!("/api/v1/shipping/carriers/{}", world.id)).send().await.expect(200);
        assert!(!String::from_utf8_lossy(&shown.body).contains("ck_sandbox") && !String::from_utf8_lossy(&shown.body).contains("whsec"));
        let elsewhere = json!({ "name": "X", "kind": "sandbox", "base_url": "http://169.254.169.254", "api_key": "k" });
        assert!(world.acme.post("/api/v1/shipping/carriers").json(&elsewhere).send().await.expect_problem(400, "request.invalid").names_field("base_url"));
        let at = format!("/api/v1/shipping/carriers/{}", world.id);
        let moved = json!({ "base_url": "http://127.0.0.1:9" });
        assert!(world.acme.patch(&at).json(&moved).send().await.expect_problem(400, "request.invalid").names_field("api_key"));
        world.acme.patch(&at).if_match(7).json(&json!({ "api_key": "new" })).send().await.expect_problem(412, "request.precondition_failed");
        world.acme.patch(&at).json(&json!({ "enabled": false })).send().await.expect(200);
        let path = world.packed().await;
        world.acme.post(format!("{path}/labels")).json(&json!({ "carrier_id": world.id, "service": "standard" })).send().await.expect_problem(409, "shipping.carrier_disabled");
        assert!(world.acme.post(format!("{path}/labels")).json(&json!({ "carrier_id": "car_00000000001", "service": "standard" })).send().await
            .expect_problem(400, "request.invalid").names_field("carrier_id"));
        world.acme.patch(&at).json(&json!({ "enabled": true })).send().await.expect(200);
        assert!(world.acme.post(format!("{path}/labels")).json(&json!({ "carrier_id": world.id })).send().await.expect_problem(400, "request.invalid").names_field("service"));
        world.app.client("acme", &["shipping.write"]).post("/api/v1/shipping/carriers").json(&elsewhere).send().await.expect(403);
    }
}

testkit::both_engines! {
    setup: dying;

    async fn a_process_that_dies_after_it_has_called_buys_nothing_twice(app: TestApp) {
        let world = World::new(app).await;
        let path = world.packed().await;
        let body = json!({ "carrier_id": world.id, "service": "standard" });
        world.acme.post(format!("{path}/labels")).json(&body).send().await.expect(202);
        // Its lease has to run out before another one takes over.
        for _ in 0..4 {
            world.later(60_000).await;
        }
        let id: ShipmentId = path.rsplit('/').next().expect("an id").parse().expect("an id");
        assert_eq!((world.carrier.books().len(), world.get(&path).await["state"].as_str()), (1, Some("ready")));
        assert_eq!(world.carrier.books()[0].reference, format!("{id}-1"));
    }
}
