//! Stories over HTTP, on each engine. Each ends with the audits of `crate::audits`.

use crate::shipments::commands::{self, Take, Track};
use crate::shipments::model::*;
use crate::shipments::queries;
use crate::words::By;
use kernel::{Error, Result, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use store::Tx;
use testkit::{Client, Setup, TestApp};
use traffic::resilience::Policies;

fn setup() -> Setup {
    let config = crate::ShippingConfig {
        sealing_key: [7; 32],
        base_urls: Vec::new(),
        call_timeout_ms: 100,
        policies: Arc::new(Policies::new(Arc::new(kernel::SeededRng::new(3)))),
    };
    let shipping = crate::Shipping::new(&config).expect("shipping");
    Setup::new(vec![crate::module()]).workflow_part(shipping)
}

pub(crate) fn address() -> Value {
    json!({ "recipient": "Ann Archer", "line1": "1 High Street", "city": "Berlin", "postal_code": "10115", "country": "DE" })
}

pub(crate) fn shipment(order: &str) -> Value {
    json!({ "order_id": order, "destination": address(), "parcels": [
        { "weight_g": 700, "length_mm": 300, "width_mm": 200, "height_mm": 100, "lines": [{ "line": 1, "quantity": 2 }, { "line": 2, "quantity": 1 }] },
        { "weight_g": 400, "lines": [{ "line": 1, "quantity": 1 }] },
    ] })
}

async fn step(client: &Client, path: &str, step: &str) -> Value {
    client.post(format!("{path}/steps")).json(&json!({ "step": step })).send().await.expect(200).json
}

/// A zone of the country with a method and its rate.
async fn offer(client: &Client, country: &str, price_minor: i64) -> (String, String) {
    let zone = json!({ "name": country, "areas": [{ "country": country }] });
    let zone = client.post("/api/v1/shipping/zones").json(&zone).send().await.expect(201).text("zone_id");
    let method = json!({ "name": "Standard", "min_days": 1, "max_days": 3 });
    let method = client.post("/api/v1/shipping/methods").json(&method).send().await.expect(201).text("method_id");
    let rate = json!({ "basis": "weight", "tiers": [{ "up_to": 5_000, "price_minor": price_minor }], "free_from_minor": 10_000 });
    client.put(format!("/api/v1/shipping/methods/{method}/rates/{zone}/EUR")).json(&rate).send().await.expect(200);
    (zone, method)
}

fn asked(country: &str) -> Value {
    json!({ "destination": { "country": country, "postcode": "10115" }, "weight_g": 800, "amount_minor": 4_000, "currency": "EUR" })
}

fn told(event_ref: &str, status: Tracked, second: i64) -> commands::Told {
    let occurred_at = Timestamp::from_micros(1_767_614_400_000_000 + second * 1_000_000);
    commands::Told { event_ref: event_ref.to_owned(), status, occurred_at, place: String::new(), detail: String::new() }
}

fn new_shipment(order_ref: &str, quantity: i64) -> NewShipment {
    let destination: Address = serde_json::from_value(address()).expect("an address");
    let parcel = NewParcel { weight_g: 1, length_mm: 0, width_mm: 0, height_mm: 0, lines: vec![Entry { line: 1, quantity }] };
    let ordered = Some(BTreeMap::from([(1, 3)]));
    NewShipment { order_ref: order_ref.to_owned(), method_id: None, destination, note: String::new(), parcels: vec![parcel], ordered }
}

testkit::both_engines! {
    setup: setup;

    async fn what_is_set_is_quoted(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        let refused = acme.post("/api/v1/shipping/quotes").json(&asked("DE")).send().await.expect_problem(400, "shipping.no_method");
        assert!(refused.names_field("destination.country"));
        let (zone, method) = offer(&acme, "DE", 390).await;
        let quoted = acme.post("/api/v1/shipping/quotes").json(&asked("DE")).send().await.expect(200).json;
        assert_eq!(quoted["data"], json!([{ "method_id": method, "name": "Standard", "price_minor": 390, "currency": "EUR", "min_days": 1, "max_days": 3, "zone_id": zone }]));

        // What changes is quoted at once.
        let path = format!("/api/v1/shipping/methods/{method}/rates/{zone}/EUR");
        let rate = json!({ "basis": "price", "tiers": [{ "price_minor": 450 }] });
        acme.put(&path).if_match(7).json(&rate).send().await.expect_problem(412, "request.precondition_failed");
        assert_eq!(acme.put(&path).if_match(1).json(&rate).send().await.expect(200).header("etag"), "\"2\"");
        let quoted = acme.post("/api/v1/shipping/quotes").json(&asked("DE")).send().await.expect(200).json;
        assert_eq!(quoted["data"][0]["price_minor"], 450);
        let listed = acme.get(format!("/api/v1/shipping/methods/{method}/rates?limit=1")).send().await.expect(200).json;
        assert_eq!((&listed["data"][0]["tiers"], &listed["next_cursor"]), (&json!([{ "up_to": null, "price_minor": 450 }]), &Value::Null));

        let off = json!({ "name": "Standard", "active": false, "min_days": 1, "max_days": 3 });
        acme.put(format!("/api/v1/shipping/methods/{method}")).json(&off).send().await.expect(200);
        acme.post("/api/v1/shipping/quotes").json(&asked("DE")).send().await.expect_problem(400, "shipping.no_method");
        acme.delete(&path).send().await.expect(204);
        acme.get(&path).send().await.expect_problem(404, "shipping.rate_not_found");

        // Another tenant has its own.
        let other = app.client("other", &["*"]);
        other.get(format!("/api/v1/shipping/zones/{zone}")).send().await.expect_problem(404, "shipping.zone_not_found");
        other.post("/api/v1/shipping/quotes").json(&asked("DE")).send().await.expect_problem(400, "shipping.no_method");
    }

    async fn an_address_lies_in_one_zone(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        let (zone, method) = offer(&acme, "DE", 390).await;
        let again = json!({ "name": "Again", "areas": [{ "country": "AT" }, { "country": "DE" }] });
        acme.post("/api/v1/shipping/zones").json(&again).send().await.expect_problem(409, "shipping.zones_overlap");
        let part = json!({ "name": "Berlin", "areas": [{ "country": "DE", "postcodes": [{ "from": "10", "to": "14" }] }] });
        let part = acme.post("/api/v1/shipping/zones").key("k").json(&part).send().await.expect(201);
        let path = part.header("location").to_owned();
        // Berlin is a zone of its own now, and nothing is offered there yet.
        let refused = acme.post("/api/v1/shipping/quotes").json(&asked("DE")).send().await.expect_problem(400, "shipping.no_method");
        assert!(refused.names_field("destination.postcode"), "{}", refused.json);

        acme.patch(&path).json(&json!({ "areas": [{ "country": "DE" }] })).send().await.expect_problem(409, "shipping.zones_overlap");
        acme.patch(&path).if_match(1).json(&json!({ "areas": [{ "country": "DE", "postcodes": [{ "from": "8" }] }] })).send().await.expect(200);
        assert_eq!(acme.post("/api/v1/shipping/quotes").json(&asked("DE")).send().await.expect(200).json["data"][0]["price_minor"], 390);

        // A zone goes with its rates.
        acme.delete(format!("/api/v1/shipping/zones/{zone}")).if_match(9).send().await.expect_problem(412, "request.precondition_failed");
        acme.delete(format!("/api/v1/shipping/zones/{zone}")).send().await.expect(204);
        acme.get(format!("/api/v1/shipping/methods/{method}/rates/{zone}/EUR")).send().await.expect_problem(404, "shipping.rate_not_found");
        let listed = acme.get("/api/v1/shipping/zones").send().await.expect(200).json;
        assert_eq!(listed["data"].as_array().map(Vec::len), Some(1));
    }

    async fn a_shipment_goes_from_pending_to_delivered(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        let made = acme.post("/api/v1/shipping/shipments").key("s1").json(&shipment("ord_1")).send().await.expect(201);
        let path = made.header("location").to_owned();
        assert_eq!((made.json["state"].as_str(), made.json["weight_g"].as_i64(), made.json["parcel_count"].as_i64()), (Some("pending"), Some(1_100), Some(2)));
        let again = acme.post("/api/v1/shipping/shipments").key("s1").json(&shipment("ord_1")).send().await.expect(201);
        assert_eq!(again.json, made.json);

        acme.post(format!("{path}/steps")).json(&json!({ "step": "ship" })).send().await.expect_problem(409, "shipping.not_allowed");
        step(&acme, &path, "pick").await;
        acme.post(format!("{path}/steps")).if_match(1).json(&json!({ "step": "pack" })).send().await.expect_problem(412, "request.precondition_failed");
        // One parcel is enough after all.
        let one = json!({ "parcels": [{ "weight_g": 1_000, "lines": [{ "line": 2, "quantity": 1 }, { "line": 1, "quantity": 3 }] }] });
        let other = json!({ "parcels": [{ "weight_g": 1_000, "lines": [{ "line": 1, "quantity": 4 }] }] });
        acme.put(format!("{path}/parcels")).json(&other).send().await.expect_problem(409, "shipping.other_goods");
        let repacked = acme.put(format!("{path}/parcels")).if_match(2).json(&one).send().await.expect(200).json;
        assert_eq!((repacked["parcel_count"].as_i64(), &repacked["parcels"][0]["lines"]), (Some(1), &json!([{ "line": 1, "quantity": 3 }, { "line": 2, "quantity": 1 }])));
        step(&acme, &path, "pack").await;
        let numbers = json!({ "step": "ship", "reason": "with the morning van", "tracking_numbers": [{ "parcel": 1, "tracking_number": "T-1" }] });
        let shipped = acme.post(format!("{path}/steps")).json(&numbers).send().await.expect(200).json;
        assert_eq!((shipped["state"].as_str(), shipped["parcels"][0]["tracking_number"].as_str()), (Some("shipped"), Some("T-1")));
        acme.post(format!("{path}/steps")).json(&json!({ "step": "cancel" })).send().await.expect_problem(409, "shipping.not_allowed");
        let delivered = step(&acme, &path, "deliver").await;
        assert!(delivered["delivered_at"].is_string());

        let changes = acme.get(format!("{path}/changes")).send().await.expect(200).json;
        let kinds: Vec<&str> = changes["data"].as_array().expect("changes").iter().filter_map(|c| c["kind"].as_str()).collect();
        assert_eq!(kinds, ["created", "pick", "repacked", "pack", "ship", "deliver"]);
        assert_eq!(changes["data"][4]["reason"], "with the morning van");

        // A number belongs to one parcel.
        let second = acme.post("/api/v1/shipping/shipments").json(&shipment("ord_1")).send().await.expect(201).header("location").to_owned();
        step(&acme, &second, "pack").await;
        acme.post(format!("{second}/steps")).json(&numbers).send().await.expect_problem(409, "shipping.tracking_number_taken");
        let listed = acme.get("/api/v1/shipping/shipments?order_id=ord_1&limit=1").send().await.expect(200).json;
        assert_eq!((listed["data"].as_array().map(Vec::len), listed["next_cursor"].is_string()), (Some(1), true));
        let packed = acme.get("/api/v1/shipping/shipments?state=packed").send().await.expect(200).json;
        assert_eq!(packed["data"].as_array().map(Vec::len), Some(1));
        acme.get("/api/v1/shipping/shipments?state=packed&order_id=x").send().await.expect_problem(400, "request.invalid");
        app.client("other", &["*"]).get(&path).send().await.expect_problem(404, "shipping.shipment_not_found");
    }

    async fn what_a_carrier_tells_is_taken_in_once_and_in_any_order(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        let path = acme.post("/api/v1/shipping/shipments").json(&shipment("ord_1")).send().await.expect(201).header("location").to_owned();
        step(&acme, &path, "pack").await;
        step(&acme, &path, "ship").await;
        let tell = |parcel: u32, event_ref: &str, status: &str, time: &str| {
            let body = json!({ "parcel": parcel, "event_ref": event_ref, "status": status, "occurred_at": format!("2026-01-06T{time}:00Z"), "place": "Leipzig" });
            let request = acme.post(format!("{path}/tracking")).json(&body);
            async move { request.send().await }
        };
        assert_eq!(tell(1, "e3", "delivered", "12:00").await.expect(200).json["state"], "shipped");
        assert_eq!(tell(2, "f1", "lost", "11:00").await.expect(200).json["state"], "failed");
        assert_eq!(tell(1, "e2", "in_transit", "09:00").await.expect(200).json["parcels"][0]["progress"], "delivered");
        let before = acme.get(&path).send().await.expect(200).json["version"].clone();
        assert_eq!(tell(2, "f1", "lost", "11:00").await.expect(200).json["version"], before, "told twice");
        // It was found again.
        assert_eq!(tell(2, "f2", "delivered", "15:00").await.expect(200).json["state"], "delivered");
        tell(3, "g", "lost", "11:00").await.expect_problem(400, "request.invalid");
        let listed = acme.get(format!("{path}/tracking")).send().await.expect(200).json;
        let order: Vec<&str> = listed["data"].as_array().expect("tracking").iter().filter_map(|t| t["event_ref"].as_str()).collect();
        assert_eq!(order, ["e2", "f1", "e3", "f2"]);
        let first = acme.get(format!("{path}/tracking?limit=3")).send().await.expect(200).json;
        let rest = acme.get(format!("{path}/tracking?limit=3&cursor={}", first["next_cursor"].as_str().expect("a second page"))).send().await.expect(200).json;
        assert_eq!(rest["data"][0]["event_ref"], "f2");
    }

    async fn two_people_ship_the_same_line_and_one_of_them_does(app: TestApp) {
        let mut racing = tokio::task::JoinSet::new();
        let (store, tenant) = (app.store().clone(), app.tenant("acme"));
        for _ in 0..10 {
            let store = store.clone();
            racing.spawn(async move {
                let command = |tx: &mut Tx<'_>, quantity: &i64| commands::create(tx, &(new_shipment("ord_9", *quantity), By::system())).map(|made| made.head.shipment_id);
                store.write(tenant, command, 2_i64).await
            });
        }
        let ended: Vec<Result<ShipmentId>> = racing.join_all().await;
        let made: Vec<ShipmentId> = ended.iter().filter_map(|end| end.as_ref().ok()).copied().collect();
        assert_eq!(made.len(), 1, "two of three fit once");
        assert!(ended.iter().filter_map(|end| end.as_ref().err()).all(|refused: &Error| refused.code() == "shipping.over_shipment"));
        // What is called off, or lost, may be shipped again.
        let cancel = |tx: &mut Tx<'_>, id: &ShipmentId| {
            let take = |tx: &mut Tx<'_>, shipment_id: ShipmentId, step: Step| {
                let (if_match, tracking_numbers) = (web::IfMatch(None), BTreeMap::new());
                commands::take(tx, &Take { shipment_id, if_match, step, reason: String::new(), tracking_numbers, by: By::system(), gate: None })
            };
            take(tx, *id, Step::Cancel)?;
            let second = commands::create(tx, &(new_shipment("ord_9", 3), By::system()))?.head.shipment_id;
            take(tx, second, Step::Pack)?;
            take(tx, second, Step::Ship)?;
            let lost = Track { shipment_id: second, parcel: 1, told: vec![told("x", Tracked::Lost, 1)], by: By::system() };
            let lost = commands::track(tx, &lost)?;
            assert_eq!((lost.head.state, goods(lost.parcels.iter().map(|parcel| &parcel.lines[..]))), (State::Failed, BTreeMap::from([(1, 3)])));
            assert_eq!(queries::goods_of_order(tx, "ord_9")?, BTreeMap::new());
            commands::create(tx, &(new_shipment("ord_9", 3), By::system())).map(|_| ())
        };
        store.write(tenant, cancel, made[0]).await.expect("shipped again");
        let of_order = queries::Which::OfOrder("ord_9".to_owned());
        assert_eq!(store.read(tenant, move |read| queries::shipments(read, &of_order, i64::MAX, 100)).await.expect("shipments").len(), 3);
    }

    async fn ten_people_ship_one_shipment_and_it_goes_once(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        let path = acme.post("/api/v1/shipping/shipments").json(&shipment("ord_1")).send().await.expect(201).header("location").to_owned();
        step(&acme, &path, "pack").await;
        let mut racing = tokio::task::JoinSet::new();
        for _ in 0..10 {
            let request = acme.post(format!("{path}/steps")).json(&json!({ "step": "ship" }));
            racing.spawn(async move { request.send().await.status.as_u16() });
        }
        let mut statuses = racing.join_all().await;
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409, 409, 409, 409, 409, 409, 409, 409, 409]);
        let id: ShipmentId = path.rsplit('/').next().expect("an id").parse().expect("an id");
        let head = app.store().read(app.tenant("acme"), move |read| queries::head(read, id)).await.expect("a shipment");
        assert_eq!(head.version, 3);
    }

    async fn wrong_input_is_named(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        let mut wrong = shipment("");
        wrong["destination"]["country"] = json!("Germany");
        wrong["parcels"][0]["lines"][1]["line"] = json!(1);
        wrong["parcels"][1]["weight_g"] = json!(-1);
        wrong["parcels"][1]["lines"][0]["quantity"] = json!(0);
        let refused = acme.post("/api/v1/shipping/shipments").json(&wrong).send().await.expect_problem(400, "request.invalid");
        for field in ["order_id", "destination.country", "parcels[0].lines[1].line", "parcels[1].weight_g", "parcels[1].lines[0].quantity"] {
            assert!(refused.names_field(field), "{field}: {}", refused.json);
        }
        let mut huge = shipment("o");
        huge["parcels"] = json!(vec![huge["parcels"][0].clone(); 51]);
        assert!(acme.post("/api/v1/shipping/shipments").json(&huge).send().await.expect_problem(400, "request.invalid").names_field("parcels"));
        let mut stranger = shipment("o");
        stranger["method_id"] = json!("smt_00000000001");
        assert!(acme.post("/api/v1/shipping/shipments").json(&stranger).send().await.expect_problem(400, "request.invalid").names_field("method_id"));
        app.client("acme", &["shipping.read"]).post("/api/v1/shipping/shipments").json(&shipment("o")).send().await.expect(403);
    }
}
