//! The HTTP API, told as stories.

use serde_json::{Value, json};
use testkit::{Client, TestApp, TestResponse};

/// The kinds of all events of a tenant so far, in order.
pub(super) async fn events(app: &TestApp, slug: &str) -> Vec<String> {
    let events = app.store().tenant_events_after(app.tenant(slug), 0, 1_000).await.unwrap();
    events.into_iter().map(|event| event.kind).collect()
}

async fn quote(client: &Client, body: Value) -> TestResponse {
    client.post("/api/v1/pricing/quotes").json(&body).send().await.expect(200)
}

fn column(page: &TestResponse, field: &str) -> Vec<String> {
    page.json["data"].as_array().unwrap().iter().map(|row| row[field].as_str().unwrap().to_owned()).collect()
}

testkit::both_engines! {
    setup: crate::tests::setup;

    async fn price_lists_and_their_breaks_decide_before_the_catalog(app: TestApp) {
        let acme = app.client("acme", &["pricing.read", "pricing.write"]);
        let list = async |body: Value| acme.post("/api/v1/pricing/price-lists").json(&body).send().await.expect(201);
        let general = list(json!({ "name": "Winter", "currency": "EUR" })).await;
        let trade = list(json!({ "name": "Trade", "currency": "EUR", "customer_group": "trade", "prices_include_tax": false })).await;
        let entries = async |list: &TestResponse, set: Value| {
            acme.post(format!("{}/entries", list.header("location"))).json(&json!({ "set": set })).send().await.expect(200)
        };
        entries(&general, json!([{ "sku": "a", "price": "9" }, { "sku": "a", "min_quantity": 10, "price": "8" }, { "sku": "b", "price": "5" }])).await;
        let changed = entries(&trade, json!([{ "sku": "a", "price": "6.5" }])).await;
        assert_eq!(changed.json["set"], 1);

        let body = |groups: Value| json!({ "currency": "EUR", "customer_groups": groups, "lines": [
            { "sku": "a", "quantity": 4, "list_price": "12" }, { "sku": "a", "quantity": 6, "list_price": "12" },
            { "sku": "b", "quantity": 1 }, { "sku": "c", "quantity": 1, "list_price": "3" }] });
        let everybody = quote(&acme, body(json!([]))).await;
        let prices = |quote: &TestResponse| quote.json["lines"].as_array().unwrap().iter().map(|line| line["unit_price"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
        assert_eq!(prices(&everybody), ["8", "8", "5", "3"], "ten of a, on two lines");
        assert_eq!(everybody.json["lines"][0]["price_list_id"], general.json["price_list_id"]);
        assert_eq!(everybody.json["lines"][3]["price_source"], "catalog");
        assert_eq!(prices(&quote(&acme, body(json!(["other", "trade"]))).await), ["6.5", "6.5", "5", "3"]);
        let dollars = json!({ "currency": "USD", "lines": [{ "sku": "b", "quantity": 1 }] });
        acme.post("/api/v1/pricing/quotes").json(&dollars).send().await.expect_problem(409, "pricing.no_price");

        // A removed price is gone at once; a paused list, too.
        let path = general.header("location").to_owned();
        acme.post(format!("{path}/entries")).json(&json!({ "remove": [{ "sku": "a", "min_quantity": 10 }] })).send().await.expect(200);
        assert_eq!(prices(&quote(&acme, body(json!([]))).await)[0], "9");
        let page = acme.get(format!("{path}/entries?limit=1")).send().await.expect(200);
        let rest = acme.get(format!("{path}/entries?limit=5&cursor={}", page.text("next_cursor"))).send().await.expect(200);
        assert_eq!((column(&page, "sku"), column(&rest, "sku")), (vec!["a".to_owned()], vec!["b".to_owned()]));
        let paused = json!({ "name": "Winter", "currency": "EUR", "status": "paused" });
        acme.put(&path).if_match(2).json(&paused).send().await.expect_problem(412, "request.precondition_failed");
        acme.put(&path).if_match(1).json(&paused).send().await.expect(200);
        acme.put(&path).json(&json!({ "name": "Winter", "currency": "USD" })).send().await.expect_problem(400, "request.invalid");
        acme.post("/api/v1/pricing/quotes").json(&body(json!([]))).send().await.expect_problem(409, "pricing.no_price");
        let lists = acme.get("/api/v1/pricing/price-lists?limit=1").send().await.expect(200);
        assert_eq!(column(&lists, "name"), ["Trade"]);
        assert_eq!(events(&app, "acme").await, [
            "price_list.changed", "price_list.changed", "price_list.prices_changed", "price_list.prices_changed", "price_list.prices_changed", "price_list.changed",
        ]);
    }

    async fn a_sku_has_so_many_breaks_and_no_more(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        let list = acme.post("/api/v1/pricing/price-lists").json(&json!({ "name": "Many", "currency": "EUR" })).send().await.expect(201);
        let path = format!("{}/entries", list.header("location"));
        let set = |from: i64, to: i64| json!({ "set": (from..=to).map(|n| json!({ "sku": "a", "min_quantity": n, "price": "1" })).collect::<Vec<_>>() });
        acme.post(&path).json(&set(1, 20)).send().await.expect(200);
        acme.post(&path).json(&set(5, 15)).send().await.expect(200);
        let problem = acme.post(&path).json(&set(21, 21)).send().await.expect_problem(400, "request.invalid");
        assert!(problem.names_field("set[0].min_quantity"));
        let swap = json!({ "remove": [{ "sku": "a", "min_quantity": 20 }], "set": [{ "sku": "a", "min_quantity": 21, "price": "1" }] });
        acme.post(&path).json(&swap).send().await.expect(200);
    }

    async fn promotions_and_coupons_are_explained(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        let make = async |body: Value| acme.post("/api/v1/pricing/promotions").json(&body).send().await.expect(201);
        let shoes = json!({ "name": "Shoes", "priority": 5, "target": { "labels": ["category:shoes"] }, "effect": { "kind": "percent", "percent": 20 } });
        let shoes = make(shoes).await;
        let secret = make(json!({ "name": "Secret", "coupon_required": true, "currency": "EUR", "effect": { "kind": "amount", "amount_minor": 500 } })).await;
        make(json!({ "name": "Post", "currency": "EUR", "minimum": { "amount_minor": 10_000, "of": "order" }, "effect": { "kind": "free_shipping" } })).await;
        acme.post("/api/v1/pricing/coupons").json(&json!({ "code": "welcome-5", "promotion_id": secret.json["promotion_id"] })).send().await.expect(201);
        let needs_none = acme.post("/api/v1/pricing/coupons").json(&json!({ "code": "x-1", "promotion_id": shoes.json["promotion_id"] })).send().await;
        assert!(needs_none.expect_problem(400, "request.invalid").names_field("promotion_id"));

        let body = |coupons: Value, quantity: i64| json!({ "currency": "EUR", "coupons": coupons,
            "lines": [{ "sku": "boot", "quantity": quantity, "list_price": "30", "labels": ["category:shoes"] }, { "sku": "sock", "quantity": 1, "list_price": "10" }],
            "charges": [{ "kind": "shipping", "name": "Post", "amount_minor": 495 }] });
        let plain = quote(&acme, body(json!([]), 1)).await;
        assert_eq!(plain.json["totals"]["total_minor"], 2_400 + 1_000 + 495);
        assert_eq!(plain.json["adjustments"], json!([{ "promotion_id": shoes.json["promotion_id"], "name": "Shoes", "coupon": null, "amount_minor": 600, "lines": [{ "line": 1, "amount_minor": 600 }] }]));
        assert_eq!(plain.json["not_applied"][0]["reason"], "below_minimum_amount");
        assert_eq!(plain.json["not_applied"][0]["detail"], "40.00 EUR of at least 100.00 EUR");
        assert_eq!(plain.json["not_applied"].as_array().unwrap().len(), 1, "who has no code is not told of it");
        let all = quote(&acme, body(json!([" Welcome-5 ", "nonsense", "no spaces"]), 3)).await;
        assert_eq!(all.json["totals"]["total_minor"], 7_200 + 1_000 - 500);
        assert_eq!(all.json["adjustments"][1], json!({ "promotion_id": secret.json["promotion_id"], "name": "Secret", "coupon": "WELCOME-5", "amount_minor": 500,
            "lines": [{ "line": 1, "amount_minor": 439 }, { "line": 2, "amount_minor": 61 }] }));
        assert_eq!(all.json["adjustments"][2]["lines"], json!([{ "line": 3, "amount_minor": 495 }]));
        let outcomes: Vec<&Value> = all.json["coupons"].as_array().unwrap().iter().map(|coupon| &coupon["reason"]).collect();
        assert_eq!(outcomes, [&Value::Null, &json!("unknown_coupon"), &json!("unknown_coupon")]);
        // Nothing was used by asking.
        assert_eq!(acme.get("/api/v1/pricing/coupons/welcome-5").send().await.expect(200).json["uses"], 0);
    }

    async fn coupons_are_made_listed_changed_and_generated(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        let promotion = json!({ "name": "Ten", "coupon_required": true, "effect": { "kind": "percent", "percent": 10 } });
        let id = acme.post("/api/v1/pricing/promotions").json(&promotion).send().await.expect(201).text("promotion_id");
        let other = acme.post("/api/v1/pricing/promotions").json(&promotion).send().await.expect(201).text("promotion_id");
        let made = acme.post("/api/v1/pricing/coupons").key("k").json(&json!({ "code": "one", "promotion_id": id, "max_uses": 5 })).send().await.expect(201);
        assert_eq!((made.header("location"), made.text("code").as_str()), ("/api/v1/pricing/coupons/ONE", "ONE"));
        acme.post("/api/v1/pricing/coupons").key("k").json(&json!({ "code": "one", "promotion_id": id, "max_uses": 5 })).send().await.expect(201);
        acme.post("/api/v1/pricing/coupons").json(&json!({ "code": "oNe", "promotion_id": id })).send().await.expect_problem(409, "pricing.coupon_taken");
        let batch = json!({ "promotion_id": other, "count": 1_000, "prefix": "vip-" });
        let codes = acme.post("/api/v1/pricing/coupons/generate").key("g").json(&batch).send().await.expect(201);
        let all = codes.json["codes"].as_array().unwrap();
        let distinct: std::collections::HashSet<&str> = all.iter().map(|code| code.as_str().unwrap()).collect();
        assert_eq!((all.len(), distinct.len()), (1_000, 1_000));
        assert!(distinct.iter().all(|code| code.starts_with("VIP-") && code.len() == 16));
        let again = acme.post("/api/v1/pricing/coupons/generate").key("g").json(&batch).send().await.expect(201);
        assert_eq!(again.json, codes.json);
        let mine = acme.get(format!("/api/v1/pricing/coupons?promotion_id={id}")).send().await.expect(200);
        assert_eq!(column(&mine, "code"), ["ONE"]);
        let first = acme.get("/api/v1/pricing/coupons?limit=2").send().await.expect(200);
        let second = acme.get(format!("/api/v1/pricing/coupons?limit=100&cursor={}", first.text("next_cursor"))).send().await.expect(200);
        assert_eq!((column(&first, "code")[0].as_str(), column(&second, "code").len()), ("ONE", 100));
        let changed = acme.put("/api/v1/pricing/coupons/one").if_match(1).json(&json!({ "status": "archived" })).send().await.expect(200);
        assert_eq!((changed.header("etag"), &changed.json["max_uses"]), ("\"2\"", &Value::Null));
        acme.put("/api/v1/pricing/coupons/one").if_match(1).json(&json!({})).send().await.expect_problem(412, "request.precondition_failed");
        // A sale at a till; the same again uses it no more, and what is archived is not used at all.
        let till = |code: &str, reference: &str| acme.post(format!("/api/v1/pricing/coupons/{code}/redemptions")).json(&json!({ "reference": reference, "customer": "c" }));
        let vip = column(&second, "code")[0].to_lowercase();
        for _ in 0..2 {
            assert_eq!(till(&vip, "till-1").send().await.expect(201).json["uses"], 1);
        }
        till(&vip, "till-2").send().await.expect_problem(409, "pricing.coupon_used_up");
        till("one", "till-2").send().await.expect_problem(409, "pricing.coupon_not_active");
        till("gone", "till-2").send().await.expect_problem(404, "pricing.coupon_not_found");
        let kept = acme.get(format!("/api/v1/pricing/coupons/{vip}/redemptions")).send().await.expect(200);
        assert_eq!((&kept.json["data"][0]["reference"], &kept.json["data"][0]["kept"]), (&json!("till-1"), &json!(true)));
        acme.get("/api/v1/pricing/coupons/gone").send().await.expect_problem(404, "pricing.coupon_not_found");
        assert_eq!(events(&app, "acme").await, ["promotion.changed", "promotion.changed", "coupon.changed", "coupons.generated", "coupon.changed", "coupon.redeemed"]);
    }

    async fn tax_exceptions_are_bounded_in_all_countries_together(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        let rates = async |country: &str, periods: usize, each: usize| {
            let exception = |n: usize| json!({ "name": format!("Island {n}"), "postcode": format!("{n:05}"), "standard": 0 });
            let period = |n: usize| json!({ "effective_from": format!("20{n:02}-01-01"), "rates": { "standard": 20 },
                "exceptions": (0..each).map(exception).collect::<Vec<_>>() });
            let body = json!({ "periods": (0..periods).map(period).collect::<Vec<_>>() });
            acme.put(format!("/api/v1/pricing/tax/rates/{country}")).json(&body).send().await
        };
        rates("DE", 40, 50).await.expect(200);
        let refused = rates("FR", 1, 1).await.expect_problem(400, "request.invalid");
        assert!(refused.names_field("periods"), "{}", refused.json);
        rates("FR", 1, 0).await.expect(200);
        // Fewer of one leave room for others.
        rates("DE", 40, 49).await.expect(200);
        rates("FR", 1, 1).await.expect(200);
        let file = json!({ "items": { "NL": [{ "effective_from": "2021-01-01", "rates": { "standard": 21 },
            "exceptions": (0..40).map(|n| json!({ "name": "Isle", "postcode": format!("{n:05}"), "standard": 0 })).collect::<Vec<_>>() }] } });
        assert!(acme.post("/api/v1/pricing/tax/rates/import").json(&file).send().await.expect_problem(400, "request.invalid").names_field("items"));
    }

    async fn tax_is_set_up_imported_and_charged(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        let unset = acme.get("/api/v1/pricing/tax/settings").send().await.expect(200);
        assert_eq!((unset.header("etag"), &unset.json["prices_include_tax"], &unset.json["updated_at"]), ("\"1\"", &json!(true), &Value::Null));
        let body = |country: &str, postcode: &str| json!({ "currency": "EUR", "country": country, "postcode": postcode,
            "lines": [{ "sku": "a", "quantity": 1, "list_price": "119" }, { "sku": "b", "quantity": 1, "list_price": "10.70", "tax_class": "reduced" }] });
        let untaxed = quote(&acme, body("DE", "10115")).await;
        assert_eq!((&untaxed.json["tax"]["reason"], &untaxed.json["totals"]["included_tax_minor"]), (&json!("not_set_up"), &json!(0)));

        // A file in the shape of ibericode/vat-rates.
        let file = json!({ "details": "x", "version": 4, "items": {
            "DE": [
                { "effective_from": "2020-07-01", "rates": { "reduced": 5, "standard": 16 } },
                { "effective_from": "2021-01-01", "rates": { "reduced": 7, "standard": 19 }, "exceptions": [{ "name": "Heligoland", "postcode": "27498", "standard": 0 }] },
                { "effective_from": "0000-01-01", "rates": { "reduced": 7, "standard": 19 } }],
            "FR": [{ "effective_from": "0000-01-01", "rates": { "super_reduced": 2.1, "reduced1": 5.5, "standard": 20 },
                "exceptions": [{ "name": "Martinique", "postcode": "972\\d{2,}", "standard": 8.5 }] }] } });
        let imported = acme.post("/api/v1/pricing/tax/rates/import").json(&file).send().await.expect(200);
        assert_eq!(imported.json, json!({ "changed": ["DE", "FR"], "unchanged": 0 }));
        let again = acme.post("/api/v1/pricing/tax/rates/import").json(&file).send().await.expect(200);
        assert_eq!(again.json, json!({ "changed": [], "unchanged": 2 }));
        let settings = json!({ "origin_country": "DE", "registrations": [{ "country": "FR", "number": "FR00123456789" }],
            "classes": [{ "tax_class": "reduced", "country": "FR", "rate": "reduced1" }], "reverse_charge": true });
        acme.put("/api/v1/pricing/tax/settings").if_match(1).json(&settings).send().await.expect(200);
        acme.put("/api/v1/pricing/tax/settings").if_match(1).json(&json!({})).send().await.expect_problem(412, "request.precondition_failed");

        let taxes = |quote: &TestResponse| (quote.json["totals"]["included_tax_minor"].as_i64().unwrap(), quote.json["totals"]["total_minor"].as_i64().unwrap());
        assert_eq!(taxes(&quote(&acme, body("DE", "10115")).await), (1_900 + 70, 12_970));
        assert_eq!(taxes(&quote(&acme, body("DE", "27 498")).await), (0, 12_970));
        let france = quote(&acme, body("FR", "75001")).await;
        assert_eq!(taxes(&france), (1_983 + 56, 12_970));
        assert_eq!((&france.json["tax"]["reason"], &france.json["tax"]["registration"]), (&json!("destination"), &json!("FR00123456789")));
        assert_eq!(france.json["lines"][1]["tax"]["rate_name"], "reduced1");
        let martinique = quote(&acme, body("FR", "97200")).await;
        assert_eq!((&martinique.json["tax"]["exception"], &martinique.json["lines"][0]["tax"]["rate"], &martinique.json["lines"][1]["tax"]["rate"]),
            (&json!("Martinique"), &json!(8.5), &json!(5.5)));
        // Where one is not registered, no tax is due, and prices lose the tax that they have in them.
        let spain = quote(&acme, body("ES", "28001")).await;
        assert_eq!((taxes(&spain), &spain.json["tax"]["reason"]), ((0, 11_000), &json!("not_registered")));
        let mut business = body("FR", "75001");
        business["vat_id"] = json!("FR 12 345678901");
        let business = quote(&acme, business).await;
        assert_eq!((taxes(&business), &business.json["tax"]["reason"]), ((0, 11_000), &json!("reverse_charge")));
        let mut before = body("DE", "10115");
        before["at"] = json!("2020-08-01T00:00:00Z");
        assert_eq!(taxes(&quote(&acme, before).await), (1_641 + 51, 12_970));

        // A country's rates by themselves.
        let page = acme.get("/api/v1/pricing/tax/rates?limit=1").send().await.expect(200);
        assert_eq!(column(&page, "country"), ["DE"]);
        assert_eq!(page.json["data"][0]["periods"][0]["effective_from"], "2021-01-01", "the newest first");
        let path = "/api/v1/pricing/tax/rates/FR";
        let rates = json!({ "periods": [{ "effective_from": "2026-01-01", "rates": { "standard": "21.5" } }] });
        acme.put(path).if_match(7).json(&rates).send().await.expect_problem(412, "request.precondition_failed");
        let changed = acme.put(path).if_match(1).json(&rates).send().await.expect(200);
        assert_eq!((changed.header("etag"), &changed.json["periods"][0]["rates"]["standard"]), ("\"2\"", &json!(21.5)));
        let fallback = quote(&acme, { let mut body = body("FR", "75001"); body["at"] = json!("2026-06-01T00:00:00Z"); body }).await;
        assert_eq!((&fallback.json["lines"][1]["tax"]["rate_name"], &fallback.json["lines"][1]["tax"]["fallback"]), (&json!("standard"), &json!(true)));
        acme.delete(path).send().await.expect(204);
        acme.get(path).send().await.expect_problem(404, "pricing.tax_rates_not_found");
        // Tax is due there, and nobody knows how much: that is no reason to sell without.
        acme.post("/api/v1/pricing/quotes").json(&body("FR", "75001")).send().await.expect_problem(409, "pricing.no_tax_rate");
        assert_eq!(events(&app, "acme").await, ["tax_rates.changed", "tax_settings.changed", "tax_rates.changed", "tax_rates.changed"]);
    }

    async fn wrong_input_names_the_field(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        let promotion = |change: Value| {
            let mut body = json!({ "name": "x", "effect": { "kind": "percent", "percent": 10 } });
            body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            acme.post("/api/v1/pricing/promotions").json(&body)
        };
        let quote = |change: Value| {
            let mut body = json!({ "currency": "EUR", "lines": [{ "sku": "a", "quantity": 1, "list_price": "1" }] });
            body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            acme.post("/api/v1/pricing/quotes").json(&body)
        };
        let line = |quantity: Value| json!({ "lines": [{ "sku": "a", "quantity": quantity, "list_price": "1" }] });
        let rates = |period: Value| acme.put("/api/v1/pricing/tax/rates/DE").json(&json!({ "periods": [period] }));
        let many: Vec<Value> = (0..2_001).map(|_| json!({ "sku": "a", "quantity": 1, "list_price": "1" })).collect();
        let table = [
            (promotion(json!({ "name": "" })), "name"),
            (promotion(json!({ "effect": { "kind": "percent", "percent": 0 } })), "effect.percent"),
            (promotion(json!({ "effect": { "kind": "percent", "percent": 100.5 } })), "effect"),
            (promotion(json!({ "effect": { "kind": "amount", "amount_minor": 5 } })), "currency"),
            (promotion(json!({ "effect": { "kind": "tiers", "by": "quantity", "steps": [{ "at_least": 3 }] } })), "effect.steps[0]"),
            (promotion(json!({ "starts_at": "2026-02-01T00:00:00Z", "ends_at": "2026-01-01T00:00:00Z" })), "ends_at"),
            (promotion(json!({ "target": { "skus": [""] } })), "target.skus[0]"),
            (promotion(json!({ "target": { "tags": [] } })), "target.tags"),
            (promotion(json!({ "target": [[]] })), "target"),
            (quote(line(json!(0))), "lines[0].quantity"),
            (quote(line(json!(-1))), "lines[0].quantity"),
            (quote(line(json!(1_000_000_000_000_i64))), "lines[0].quantity"),
            (quote(line(json!(1.5))), "lines[0].quantity"),
            (quote(json!({ "lines": [] })), "lines"),
            (quote(json!({ "lines": many })), "lines"),
            (quote(json!({ "lines": [{ "sku": "a", "quantity": 1, "list_price": "-1" }] })), "lines[0].list_price"),
            (quote(json!({ "country": "Germany" })), "country"),
            (quote(json!({ "coupons": (0..11).map(|n| format!("c-{n}")).collect::<Vec<_>>() })), "coupons"),
            (quote(json!({ "charges": [{ "kind": "shipping", "name": "x", "amount_minor": -1 }] })), "charges[0].amount_minor"),
            (rates(json!({ "effective_from": "2026-13-01", "rates": { "standard": 1 } })), "periods[0].effective_from"),
            (rates(json!({ "effective_from": "2026-01-01", "rates": { "reduced": 1 } })), "periods[0].rates.standard"),
            (rates(json!({ "effective_from": "2026-01-01", "rates": { "standard": 101 } })), "periods[0].rates.standard"),
            (rates(json!({ "effective_from": "2026-01-01", "rates": { "standard": 1 }, "exceptions": [{ "name": "x", "postcode": "(", "standard": 0 }] })), "periods[0].exceptions[0].postcode"),
            (acme.put("/api/v1/pricing/tax/rates/Germany").json(&json!({ "periods": [] })), "country"),
            (acme.post("/api/v1/pricing/coupons").json(&json!({ "code": "a b", "promotion_id": "prm_00000000001" })), "code"),
            (acme.post("/api/v1/pricing/coupons").json(&json!({ "code": "abc", "promotion_id": "prm_00000000001" })), "promotion_id"),
            (acme.post("/api/v1/pricing/coupons/generate").json(&json!({ "count": 1_001, "promotion_id": "prm_00000000001" })), "count"),
            (acme.put("/api/v1/pricing/tax/settings").json(&json!({ "registrations": [{ "country": "de" }] })), "registrations[0].country"),
        ];
        for (request, field) in table {
            let problem = request.send().await.expect_problem(400, "request.invalid");
            assert!(problem.names_field(field), "{field}: {}", problem.json);
        }
    }

    async fn permissions_and_tenants(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        let spec = json!({ "name": "x", "effect": { "kind": "percent", "percent": 10 } });
        let path = acme.post("/api/v1/pricing/promotions").json(&spec).send().await.expect(201).header("location").to_owned();
        let reader = app.client("acme", &["pricing.read"]);
        reader.get(&path).send().await.expect(200);
        reader.put(&path).json(&spec).send().await.expect(403);
        let stranger = app.client("globex", &["*"]);
        stranger.get(&path).send().await.expect_problem(404, "pricing.promotion_not_found");
        stranger.put(&path).json(&spec).send().await.expect_problem(404, "pricing.promotion_not_found");
        let quote = json!({ "currency": "EUR", "lines": [{ "sku": "a", "quantity": 1, "list_price": "1" }] });
        let strangers = stranger.post("/api/v1/pricing/quotes").json(&quote).send().await.expect(200);
        assert_eq!((&strangers.json["totals"]["total_minor"], strangers.json["adjustments"].as_array().unwrap().len()), (&json!(100), 0));
    }
}
