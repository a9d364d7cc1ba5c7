//! Stories over HTTP, on each engine. Each ends with the audits of `crate::audits`: totals, numbers, states, credits, and the
//! projection against a recount.

use crate::api::{By, ImportBatch, ImportCustomer, ImportDocument, ImportOutcome, Summary, import_documents, summary};
use crate::model::{DocumentKind, NewLine, State};
use kernel::{Actor, Timestamp};
use serde_json::{Value, json};
use testkit::{Setup, TestApp};

fn setup() -> Setup {
    Setup::new(vec![crate::module()])
}

fn three_lines() -> Value {
    json!({
        "country": "United Kingdom",
        "currency": "GBP",
        "lines": [
            { "sku": "85123A", "description": "White hanging heart", "quantity": 6, "unit_price": "2.55" },
            { "sku": "71053", "description": "White metal lantern", "quantity": 6, "unit_price": "3.39", "tax_minor": 407 },
            { "sku": "84406B", "description": "Cream cupid hearts", "quantity": 8, "unit_price": "0.335", "discount_minor": 8 },
        ]
    })
}

async fn sales(app: &TestApp, group_by: &str) -> Value {
    app.drained().await;
    let path = format!("/api/v1/reports/daily-sales?from=2026-01-01&to=2026-01-31&group_by={group_by}");
    app.client("acme", &["reports.read"]).get(path).send().await.expect(200).json
}

testkit::both_engines! {
    setup: setup;

    async fn an_order_goes_from_placed_to_closed(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        let placed = acme.post("/api/v1/orders").json(&three_lines()).send().await.expect(201);
        // 15.30 + 20.34 + 4.07 tax + 2.68 - 0.08 discount.
        assert_eq!((placed.json["total_minor"].as_i64(), placed.json["number"].as_i64()), (Some(4_231), Some(1)));
        assert_eq!((placed.json["extended"].as_str(), placed.json["state"].as_str()), (Some("38.32"), Some("placed")));
        let path = placed.header("location").to_owned();

        let order = acme.get(&path).send().await.expect(200);
        assert_eq!(order.header("etag"), "\"1\"");
        let totals: Vec<i64> = order.json["lines"].as_array().expect("lines").iter().map(|l| l["total_minor"].as_i64().expect("a total")).collect();
        assert_eq!(totals, [1_530, 2_441, 260]);

        acme.post(format!("{path}/close")).send().await.expect_problem(409, "orders.not_allowed");
        let part = json!({ "lines": [{ "line": 1, "quantity": 4 }] });
        let fulfilled = acme.post(format!("{path}/fulfil")).json(&part).send().await.expect(200);
        assert_eq!(fulfilled.json["state"], "partly_fulfilled");
        acme.post(format!("{path}/fulfil")).json(&json!({ "lines": [{ "line": 1, "quantity": 3 }] })).send().await.expect_problem(409, "orders.over_fulfilment");
        acme.post(format!("{path}/cancel")).send().await.expect_problem(409, "orders.not_allowed");
        let order = acme.get(&path).send().await.expect(200).json;
        assert_eq!((order["lines"][0]["fulfilled_quantity"].as_i64(), order["lines"][1]["fulfilled_quantity"].as_i64()), (Some(4), Some(0)));

        let fulfilled = acme.post(format!("{path}/fulfil")).if_match(2).json(&json!({ "reason": "the rest" })).send().await.expect(200);
        assert_eq!((fulfilled.json["state"].as_str(), fulfilled.json["version"].as_i64()), (Some("fulfilled"), Some(3)));
        acme.post(format!("{path}/close")).if_match(2).send().await.expect_problem(412, "request.precondition_failed");
        acme.post(format!("{path}/close")).send().await.expect(200);
        let order = acme.get(&path).send().await.expect(200).json;
        assert_eq!((order["state"].as_str(), order["lines"][2]["fulfilled_quantity"].as_i64()), (Some("closed"), Some(8)));

        let changes = acme.get(format!("{path}/changes")).send().await.expect(200).json;
        let kinds: Vec<&str> = changes["data"].as_array().expect("changes").iter().filter_map(|c| c["kind"].as_str()).collect();
        assert_eq!(kinds, ["created", "fulfilled", "fulfilled", "closed"]);
        assert_eq!((&changes["data"][2]["change"], &changes["data"][2]["reason"]), (&json!({ "quantities": { "1": 2, "2": 6, "3": 8 } }), &json!("the rest")));
    }

    async fn an_edit_writes_new_lines_and_keeps_the_old(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        let path = acme.post("/api/v1/orders").json(&three_lines()).send().await.expect(201).header("location").to_owned();
        acme.post(format!("{path}/fulfil")).json(&json!({ "lines": [{ "line": 2, "quantity": 5 }] })).send().await.expect(200);

        let keep = |quantity: i64| json!({ "line": 2, "sku": "71053", "quantity": quantity, "unit_price": "3.39" });
        let below = acme.patch(&path).json(&json!({ "lines": [keep(4)] })).send().await;
        below.expect_problem(409, "orders.below_fulfilled");
        let edit = json!({ "reason": "as agreed by telephone", "country": "France", "lines": [keep(7), { "sku": "NEW", "quantity": 1, "unit_price": "1" }] });
        let edited = acme.patch(&path).if_match(2).json(&edit).send().await.expect(200).json;
        assert_eq!((edited["version"].as_i64(), edited["state"].as_str(), edited["total_minor"].as_i64()), (Some(3), Some("partly_fulfilled"), Some(2_473)));

        let now = acme.get(&path).send().await.expect(200).json;
        let lines: Vec<(i64, &str)> = now["lines"].as_array().expect("lines").iter().map(|l| (l["line"].as_i64().expect("a number"), l["sku"].as_str().expect("a sku"))).collect();
        assert_eq!(lines, [(2, "71053"), (4, "NEW")]);
        let before = acme.get(format!("{path}/versions/2/lines")).send().await.expect(200).json;
        assert_eq!(before["lines"].as_array().map(Vec::len), Some(3));
        let change = acme.get(format!("{path}/changes")).send().await.expect(200).json["data"][2]["change"].clone();
        assert_eq!(change, json!({ "country": ["United Kingdom", "France"], "total_minor": [4_231, 2_473], "lines_added": [4], "lines_changed": [2], "lines_removed": [1, 3] }));

        let by_country = sales(&app, "country").await;
        let rows: Vec<(&str, i64)> = by_country["data"].as_array().expect("rows").iter().map(|r| (r["country"].as_str().expect("a country"), r["total_minor"].as_i64().expect("a total"))).collect();
        assert_eq!(rows.iter().filter(|(_, total)| *total != 0).collect::<Vec<_>>(), [&("France", 2_473)]);

        // Nothing remains once the last piece of line 2 and line 4 are edited away.
        acme.patch(&path).json(&json!({ "lines": [keep(5)] })).send().await.expect(200);
        assert_eq!(acme.get(&path).send().await.expect(200).json["state"], "fulfilled");
    }

    async fn drafts_and_cancelled_orders_are_in_no_report(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        let mut draft = three_lines();
        draft["draft"] = json!(true);
        let path = acme.post("/api/v1/orders").json(&draft).send().await.expect(201).header("location").to_owned();
        assert_eq!(sales(&app, "day").await["totals"], json!([]));
        acme.post(format!("{path}/fulfil")).send().await.expect_problem(409, "orders.not_allowed");

        app.clock().advance_ms(86_400_000);
        acme.post(format!("{path}/place")).send().await.expect(200);
        let report = sales(&app, "day").await;
        assert_eq!(report["data"], json!([{ "day": "2026-01-06", "currency": "GBP", "lines": 3, "quantity": 20, "extended": "38.32", "total_minor": 4_231 }]));

        acme.post(format!("{path}/cancel")).json(&json!({ "reason": "changed their mind" })).send().await.expect(200);
        assert_eq!(sales(&app, "day").await["totals"][0]["total_minor"], 0);
        acme.post(format!("{path}/cancel")).send().await.expect_problem(409, "orders.not_allowed");
    }

    async fn a_credit_note_takes_back_at_most_what_the_order_came_to(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        let placed = acme.post("/api/v1/orders").json(&three_lines()).send().await.expect(201);
        let (path, order_id) = (placed.header("location").to_owned(), placed.text("order_id"));
        let note = |quantity: i64| json!({ "order_id": order_id, "currency": "GBP", "reason": "arrived broken",
            "lines": [{ "sku": "85123A", "quantity": quantity, "unit_price": "2.55" }] });

        acme.post("/api/v1/credit-notes").json(&note(2)).send().await.expect_problem(400, "request.invalid");
        let issued = acme.post("/api/v1/credit-notes").json(&note(-2)).send().await.expect(201);
        assert_eq!((issued.json["number"].as_i64(), issued.json["total_minor"].as_i64(), issued.json["country"].as_str()), (Some(1), Some(-510), Some("United Kingdom")));
        let read = acme.get(issued.header("location")).send().await.expect(200).json;
        assert_eq!(read["lines"][0]["kind"], "credit");
        acme.post("/api/v1/credit-notes").json(&note(-100)).send().await.expect_problem(409, "orders.credit_exceeds_order");
        acme.post(format!("{path}/cancel")).send().await.expect_problem(409, "orders.has_credit_notes");
        let less = json!({ "lines": [{ "sku": "85123A", "quantity": 1, "unit_price": "2.55" }] });
        acme.patch(&path).json(&less).send().await.expect_problem(409, "orders.credit_exceeds_order");

        let order = acme.get(&path).send().await.expect(200).json;
        assert_eq!((order["credited_minor"].as_i64(), order["version"].as_i64()), (Some(-510), Some(2)));
        let listed = acme.get(format!("/api/v1/credit-notes?order_id={order_id}")).send().await.expect(200).json;
        assert_eq!(listed["data"].as_array().map(Vec::len), Some(1));
        assert_eq!(sales(&app, "product").await["totals"][0]["total_minor"], 4_231 - 510);

        let alone = json!({ "country": "Norway", "currency": "NOK", "reason": "goodwill", "lines": [{ "sku": "M", "quantity": -1, "unit_price": "50" }] });
        assert_eq!(acme.post("/api/v1/credit-notes").json(&alone).send().await.expect(201).json["number"], 2);
        let debt = json!({ "country": "Norway", "currency": "NOK", "reason": "bad debt", "lines": [{ "sku": "B", "quantity": 1, "unit_price": "-11062.06" }] });
        let recorded = acme.post("/api/v1/adjustments").json(&debt).send().await.expect(201);
        assert_eq!((recorded.json["number"].as_i64(), recorded.json["total_minor"].as_i64()), (Some(1), Some(-1_106_206)));
        // A credit note's number is no adjustment's, though both are numbers of one series of ids.
        let other = recorded.header("location").replace("adjustments/adj", "credit-notes/crn");
        acme.get(other).send().await.expect_problem(404, "orders.credit_note_not_found");
    }

    async fn one_key_places_one_order(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        let first = acme.post("/api/v1/orders").key("k1").json(&three_lines()).send().await.expect(201);
        let again = acme.post("/api/v1/orders").key("k1").json(&three_lines()).send().await.expect(201);
        assert_eq!((again.json, again.headers.get("idempotency-replayed").is_some()), (first.json, true));
        let mut other = three_lines();
        other["country"] = json!("EIRE");
        acme.post("/api/v1/orders").key("k1").json(&other).send().await.expect_problem(409, "idempotency.key_reused");
        let listed = acme.get("/api/v1/orders").send().await.expect(200).json;
        assert_eq!(listed["data"].as_array().map(Vec::len), Some(1));
    }

    async fn numbers_rise_and_references_are_unique(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        let named = |reference: &str| {
            let mut order = three_lines();
            order["external_ref"] = json!(reference);
            order
        };
        acme.post("/api/v1/orders").json(&named("536365")).send().await.expect(201);
        acme.post("/api/v1/orders").json(&named("536365")).send().await.expect_problem(409, "orders.external_ref_taken");
        let second = acme.post("/api/v1/orders").json(&named("536366")).send().await.expect(201);
        let number = second.json["number"].as_i64().expect("a number");
        assert!(number > 1);
        for query in ["external_ref=536366".to_owned(), format!("number={number}")] {
            let found = acme.get(format!("/api/v1/orders?{query}")).send().await.expect(200).json;
            assert_eq!(found["data"][0]["order_id"], second.json["order_id"], "{query}");
        }
        acme.get("/api/v1/orders?number=1&external_ref=x").send().await.expect_problem(400, "request.invalid");
        let page = acme.get("/api/v1/orders?limit=1").send().await.expect(200).json;
        let cursor = page["next_cursor"].as_str().expect("a second page");
        let rest = acme.get(format!("/api/v1/orders?limit=1&cursor={cursor}")).send().await.expect(200).json;
        assert_eq!((rest["data"][0]["external_ref"].as_str(), &rest["next_cursor"]), (Some("536365"), &Value::Null));
        // Another tenant has its own numbers and references.
        assert_eq!(app.client("other", &["*"]).post("/api/v1/orders").json(&named("536365")).send().await.expect(201).json["number"], 1);
    }

    async fn nothing_of_another_tenant_is_there(app: TestApp) {
        let (acme, other) = (app.client("acme", &["*"]), app.client("other", &["*"]));
        let customer = acme.post("/api/v1/customers").json(&json!({ "name": "Ann" })).send().await.expect(201);
        let placed = acme.post("/api/v1/orders").json(&three_lines()).send().await.expect(201);
        let path = placed.header("location");
        other.get(path).send().await.expect_problem(404, "orders.order_not_found");
        other.get(format!("{path}/changes")).send().await.expect_problem(404, "orders.order_not_found");
        other.patch(path).json(&json!({ "country": "X" })).send().await.expect_problem(404, "orders.order_not_found");
        for step in ["place", "cancel", "close", "fulfil"] {
            other.post(format!("{path}/{step}")).send().await.expect_problem(404, "orders.order_not_found");
        }
        other.get(customer.header("location")).send().await.expect_problem(404, "orders.customer_not_found");
        let mut theirs = three_lines();
        theirs["customer_id"] = customer.json["customer_id"].clone();
        let refused = other.post("/api/v1/orders").json(&theirs).send().await.expect_problem(400, "request.invalid");
        assert!(refused.names_field("customer_id"));
        assert_eq!(other.get("/api/v1/orders").send().await.expect(200).json["data"], json!([]));
        acme.post("/api/v1/orders").json(&theirs).send().await.expect(201);
    }

    async fn customers_have_a_version_and_addresses(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        let address = json!({ "recipient": "Ann", "line1": "High Street 1", "city": "Leeds", "country": "GB" });
        let new = json!({ "external_ref": "17850", "name": "Ann", "email": "ann@example.com", "addresses": [address] });
        let made = acme.post("/api/v1/customers").json(&new).send().await.expect(201);
        let path = made.header("location").to_owned();
        acme.post("/api/v1/customers").json(&new).send().await.expect_problem(409, "orders.customer_ref_taken");
        let bob = acme.post("/api/v1/customers").json(&json!({ "name": "Bob" })).send().await.expect(201);
        acme.patch(bob.header("location")).json(&json!({ "external_ref": "17850" })).send().await.expect_problem(409, "orders.customer_ref_taken");
        let wrong = acme.patch(&path).json(&json!({ "email": "nowhere" })).send().await.expect_problem(400, "request.invalid");
        assert!(wrong.names_field("email"));

        let changed = acme.patch(&path).if_match(1).json(&json!({ "email": null, "name": "Ann B" })).send().await.expect(200).json;
        assert_eq!((&changed["email"], changed["name"].as_str(), changed["version"].as_i64()), (&Value::Null, Some("Ann B"), Some(2)));
        acme.patch(&path).if_match(1).json(&json!({ "name": "C" })).send().await.expect_problem(412, "request.precondition_failed");

        for _ in 0..19 {
            acme.post(format!("{path}/addresses")).json(&address).send().await.expect(201);
        }
        acme.post(format!("{path}/addresses")).json(&address).send().await.expect_problem(409, "orders.too_many_addresses");
        let read = acme.get(&path).send().await.expect(200).json;
        assert_eq!(read["addresses"].as_array().map(Vec::len), Some(20));
        let one = format!("{path}/addresses/{}", read["addresses"][3]["address_id"].as_str().expect("an id"));
        let mut moved = address.clone();
        moved["city"] = json!("York");
        assert_eq!(acme.put(&one).json(&moved).send().await.expect(200).json["city"], "York");
        acme.delete(&one).send().await.expect(204);
        acme.delete(&one).send().await.expect_problem(404, "orders.address_not_found");
        let listed = acme.get("/api/v1/customers?external_ref=17850").send().await.expect(200).json;
        assert_eq!(listed["data"][0]["name"], "Ann B");
    }

    async fn bad_input_is_named(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        let mut order = three_lines();
        order["lines"][1]["quantity"] = json!(0);
        order["lines"][2]["sku"] = json!("");
        order["country"] = json!("x".repeat(65));
        let refused = acme.post("/api/v1/orders").json(&order).send().await.expect_problem(400, "request.invalid");
        for field in ["lines[1].quantity", "lines[2].sku", "country"] {
            assert!(refused.names_field(field), "{field}: {}", refused.json);
        }
        for (query, field) in [("from=2026-01-01", "to"), ("from=x&to=2026-01-01", "from"), ("from=2026-01-02&to=2026-01-01", "to"), ("from=2016-01-02&to=2026-01-01", "to")] {
            let refused = acme.get(format!("/api/v1/reports/daily-sales?{query}")).send().await.expect_problem(400, "request.invalid");
            assert!(refused.names_field(field), "{query}: {}", refused.json);
        }
        acme.post("/api/v1/orders/ord_00000000001/fulfil").json(&json!({ "lines": [] })).send().await.expect_problem(400, "request.invalid");
        acme.get("/api/v1/orders/ord_00000000001").send().await.expect_problem(404, "orders.order_not_found");
    }

    async fn the_report_is_paged_and_its_totals_are_of_the_whole_period(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        for i in 0..12 {
            let lines: Vec<Value> = (0..20).map(|l| json!({ "sku": format!("S{:02}", (l + i) % 25), "quantity": 1 + l, "unit_price": "1.005" })).collect();
            let order = json!({ "country": "Spain", "currency": if i % 2 == 0 { "EUR" } else { "USD" }, "lines": lines });
            acme.post("/api/v1/orders").json(&order).send().await.expect(201);
        }
        app.drained().await;
        let mut seen = Vec::new();
        let mut path = "/api/v1/reports/daily-sales?from=2026-01-05&to=2026-01-05&group_by=product&limit=7".to_owned();
        let totals = loop {
            let page = acme.get(&path).send().await.expect(200).json;
            seen.extend(page["data"].as_array().expect("rows").clone());
            let Some(cursor) = page["next_cursor"].as_str() else { break page["totals"].clone() };
            path = format!("/api/v1/reports/daily-sales?from=2026-01-05&to=2026-01-05&group_by=product&limit=7&cursor={cursor}");
        };
        let keys: std::collections::BTreeSet<String> = seen.iter().map(|r| format!("{} {}", r["sku"], r["currency"])).collect();
        assert_eq!(keys.len(), seen.len(), "no row twice");
        for total in totals.as_array().expect("totals") {
            let sum: i64 = seen.iter().filter(|r| r["currency"] == total["currency"]).map(|r| r["total_minor"].as_i64().expect("a total")).sum();
            assert_eq!(total["total_minor"], sum);
            assert_eq!(total["lines"], 120);
        }
    }

    async fn an_import_runs_twice_and_changes_nothing(app: TestApp) {
        let tenant = app.tenant("acme");
        let mut batch = batch();
        let first: ImportOutcome = app.store().write(tenant, import_documents, batch.clone()).await.expect("the batch is taken");
        assert_eq!((first.orders, first.credit_notes, first.adjustments, first.customers, first.lines), (40, 1, 1, 2, 40 * 15 + 2));
        assert_eq!(first.rejected.iter().map(|r| r.external_ref.as_str()).collect::<Vec<_>>(), ["BAD", "NOBODY"]);
        let stored: Summary = app.store().read(tenant, summary).await.expect("a summary");
        let again = app.store().write(tenant, import_documents, batch.clone()).await.expect("the batch is taken");
        assert_eq!((again.orders, again.customers, again.already_there), (0, 0, 42));
        assert_eq!(app.store().read(tenant, summary).await.expect("a summary"), stored);

        assert_eq!((stored.orders.documents, stored.lines, stored.customers, stored.countries), (40, 602, 2, 2));
        // 40 orders of 1..=15 pieces at 0.125, less one credit, less the debt.
        let orders = 40 * (1..=15).map(|q| q * 125_000).sum::<i64>();
        assert_eq!((stored.orders.extended_micros, stored.extended_total_micros), (orders, orders - 2 * 1_250_000 - 11_062_060_000));
        assert_eq!(stored.stock_codes, 15 + 2);

        // The importer's numbers go on where the API's stand, and the other way round.
        let acme = app.client("acme", &["*"]);
        assert_eq!(acme.post("/api/v1/orders").json(&three_lines()).send().await.expect(201).json["number"], 41);
        batch.documents.truncate(1);
        batch.documents[0].external_ref = "LATER".to_owned();
        app.store().write(tenant, import_documents, batch).await.expect("the batch is taken");
        let later = acme.get("/api/v1/orders?external_ref=LATER").send().await.expect(200).json["data"][0].clone();
        assert_eq!((later["number"].as_i64(), later["state"].as_str()), (Some(42), Some("closed")));
        let order = acme.get(format!("/api/v1/orders/{}", later["order_id"].as_str().expect("an id"))).send().await.expect(200).json;
        assert_eq!((order["placed_at"].as_str(), order["lines"][4]["fulfilled_quantity"].as_i64()), (Some("2010-12-01T08:26:00.000000Z"), Some(5)));
        let credit = acme.post("/api/v1/credit-notes").json(&json!({ "order_id": later["order_id"], "currency": "GBP", "reason": "r",
            "lines": [{ "sku": "S1", "quantity": -1, "unit_price": "0.125" }] })).send().await.expect(201).json;
        assert_eq!((credit["number"].as_i64(), credit["total_minor"].as_i64()), (Some(2), Some(-13)));
    }

    async fn events_tell_what_readers_have_come_to_rely_on(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        let placed = acme.post("/api/v1/orders").json(&three_lines()).send().await.expect(201);
        let (path, order_id) = (placed.header("location").to_owned(), placed.text("order_id"));
        let note = json!({ "order_id": order_id, "currency": "GBP", "reason": "broken", "lines": [{ "sku": "71053", "quantity": -1, "unit_price": "3.39" }] });
        let note_id = acme.post("/api/v1/credit-notes").json(&note).send().await.expect(201).text("id");
        acme.patch(&path).json(&json!({ "country": "France" })).send().await.expect(200);
        acme.post(format!("{path}/fulfil")).json(&json!({ "lines": [{ "line": 3, "quantity": 2 }] })).send().await.expect(200);
        acme.post(format!("{path}/fulfil")).send().await.expect(200);
        acme.post(format!("{path}/close")).send().await.expect(200);

        let events = app.store().tenant_events_after(app.tenant("acme"), 0, 100).await.expect("the events");
        let told: Vec<(&str, &str)> = events.iter().map(|e| (e.kind.as_str(), e.subject.as_str())).collect();
        let (order, credit) = (order_id.as_str(), note_id.as_str());
        assert_eq!(
            told,
            [("order.placed", order), ("credit_note.issued", credit), ("order.changed", order), ("order.fulfilled", order), ("order.fulfilled", order), ("order.closed", order)]
        );
        let payload = |i: usize| serde_json::from_str::<Value>(&events[i].payload).expect("JSON");
        assert_eq!(
            payload(0),
            json!({
                "order_id": order, "number": 1, "version": 1, "state": "placed", "external_ref": null, "customer_id": null, "country": "United Kingdom",
                "currency": "GBP", "total_minor": 4231, "placed_at": "2026-01-05T12:00:00.000000Z",
                "sales": [{ "day": 20458, "country": "United Kingdom", "currency": "GBP", "lines": [
                    { "sku": "71053", "lines": 1, "quantity": 6, "extended_micros": 20_340_000, "total_minor": 2441 },
                    { "sku": "84406B", "lines": 1, "quantity": 8, "extended_micros": 2_680_000, "total_minor": 260 },
                    { "sku": "85123A", "lines": 1, "quantity": 6, "extended_micros": 15_300_000, "total_minor": 1530 },
                ] }],
            })
        );
        assert_eq!(
            payload(1),
            json!({
                "id": credit, "number": 1, "external_ref": null, "order_id": order, "customer_id": null, "country": "United Kingdom", "currency": "GBP",
                "total_minor": -339, "issued_at": "2026-01-05T12:00:00.000000Z", "reason": "broken",
                "sales": [{ "day": 20458, "country": "United Kingdom", "currency": "GBP",
                    "lines": [{ "sku": "71053", "lines": 1, "quantity": -1, "extended_micros": -3_390_000, "total_minor": -339 }] }],
            })
        );
        assert_eq!(payload(2)["sales"].as_array().map(Vec::len), Some(2), "what leaves one country arrives in the other");
        assert_eq!((&payload(3)["fulfilled"], &payload(3)["sales"]), (&json!({ "3": 2 }), &json!([])));
        assert_eq!(payload(4)["fulfilled"], json!({ "1": 6, "2": 6, "3": 6 }));
    }

    async fn the_projection_can_be_built_again(app: TestApp) {
        let tenant = app.tenant("acme");
        app.store().write(tenant, import_documents, batch()).await.expect("the batch is taken");
        let report = "/api/v1/reports/daily-sales?from=2010-12-01&to=2010-12-31&group_by=country";
        let acme = app.client("acme", &["*"]);
        app.drained().await;
        let before = acme.get(report).send().await.expect(200).json;
        app.log().replay("orders.daily_sales", log::ReplayOf::All).await.expect("a replay");
        app.drained().await;
        assert_eq!(acme.get(report).send().await.expect(200).json, before);
        assert_eq!(before["data"].as_array().map(Vec::len), Some(2));
    }
}

/// Forty orders, a credit note, an adjustment, and two documents that can't be taken.
fn batch() -> ImportBatch {
    let at: Timestamp = "2010-12-01T08:26:00Z".parse().expect("a time");
    let line = |sku: &str, quantity: i64, price: &str| NewLine {
        line: None,
        sku: sku.to_owned(),
        variant_id: None,
        description: "A thing".to_owned(),
        quantity,
        unit_price: price.parse().expect("a price"),
        discount_minor: 0,
        tax_minor: 0,
        included_tax_minor: 0,
        charge: false,
    };
    let document = |kind, external_ref: &str, lines| ImportDocument {
        kind,
        external_ref: external_ref.to_owned(),
        at,
        country: "United Kingdom".to_owned(),
        currency: "GBP".parse().expect("a currency"),
        customer_ref: None,
        state: State::Closed,
        reason: "imported".to_owned(),
        lines,
    };
    let mut documents: Vec<ImportDocument> = (0..40)
        .map(|i| ImportDocument {
            customer_ref: Some(if i % 2 == 0 { "17850" } else { "13047" }.to_owned()),
            country: if i % 3 == 0 { "EIRE" } else { "United Kingdom" }.to_owned(),
            ..document(DocumentKind::Order, &format!("{}", 536_365 + i), (1..=15).map(|q| line(&format!("S{q}"), q, "0.125")).collect())
        })
        .collect();
    documents.push(document(DocumentKind::CreditNote, "C1", vec![line("D", -2, "1.25")]));
    documents.push(document(DocumentKind::Adjustment, "A1", vec![line("B", 1, "-11062.06")]));
    documents.push(document(DocumentKind::Order, "BAD", vec![line("S1", 0, "1")]));
    documents.push(ImportDocument {
        customer_ref: Some("nobody".to_owned()),
        ..document(DocumentKind::Order, "NOBODY", vec![line("S1", 1, "1")])
    });
    let customer = |reference: &str| ImportCustomer {
        external_ref: reference.to_owned(),
        name: format!("Customer {reference}"),
        email: None,
        country: "United Kingdom".to_owned(),
    };
    ImportBatch { customers: vec![customer("17850"), customer("13047")], documents, by: By { actor: Actor::SYSTEM, request_id: None } }
}
