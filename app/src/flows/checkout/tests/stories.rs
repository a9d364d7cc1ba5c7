//! Checkouts as shoppers meet them.

use super::world::{World, setup};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use testkit::TestApp;

testkit::both_engines! {
    setup: setup;

    /// Priced, reserved, paid and placed; and what is sold is gone from the shelf.
    async fn a_unit_is_sold(app: TestApp) {
        let world = World::new(app).await;
        let (variant, item) = world.variant("TEA-01", "4.95", Some(10)).await;
        let bought = world.buy(&variant, 2, "tok_approve", 5_000).await.expect(201).json;
        assert_eq!((&bought["state"], &bought["total_minor"]), (&json!("completed"), &json!(990)));
        assert!(bought["token"].is_string());
        world.app.drained().await;
        let order_id = bought["order_id"].as_str().expect("an order");
        let order = world.acme.get(format!("/api/v1/orders/{order_id}")).send().await.expect(200).json;
        assert_eq!((&order["state"], &order["total_minor"], &order["lines"][0]["sku"]), (&json!("placed"), &json!(990), &json!("TEA-01")));
        let paid = world.acme.get(format!("/api/v1/orders/{order_id}/payments")).send().await.expect(200).json;
        assert_eq!(paid["payment_state"], "paid");
        assert_eq!(world.level(&item).await, (10, 2));
    }

    /// What is refused has left nothing behind: no reservation, no payment, no coupon used.
    async fn what_is_wrong_is_said_and_nothing_is_begun(app: TestApp) {
        let world = World::new(app).await;
        let (variant, item) = world.variant("TEA-01", "4.95", Some(3)).await;
        let body = |change: &dyn Fn(&mut Value)| {
            let mut body = json!({
                "lines": [{ "variant_id": variant, "quantity": 1 }], "currency": "EUR", "destination": { "country": "NL" },
                "payment_token": "tok_approve",
            });
            change(&mut body);
            body
        };
        let cases: [(&str, Value, u16, &str, &str); 12] = [
            ("too many", body(&|b| b["lines"][0]["quantity"] = json!(4)), 409, "inventory.insufficient", "lines[0].quantity"),
            ("none", body(&|b| b["lines"][0]["quantity"] = json!(0)), 400, "request.invalid", "lines[0].quantity"),
            ("less than none", body(&|b| b["lines"][0]["quantity"] = json!(-1)), 400, "request.invalid", "lines[0].quantity"),
            ("a million millions", body(&|b| b["lines"][0]["quantity"] = json!(1_000_000_000_000_i64)), 400, "request.invalid", "lines[0].quantity"),
            ("unknown", body(&|b| b["lines"][0]["variant_id"] = json!("var_00000000001")), 400, "request.invalid", "lines[0].variant_id"),
            ("no lines", body(&|b| b["lines"] = json!([])), 400, "request.invalid", "lines"),
            ("another currency", body(&|b| b["currency"] = json!("USD")), 400, "request.invalid", "lines[0].variant_id"),
            ("nowhere", body(&|b| b["destination"] = Value::Null), 400, "request.invalid", "destination"),
            ("no such country", body(&|b| b["destination"]["country"] = json!("nl")), 400, "request.invalid", "destination.country"),
            ("another price", body(&|b| b["expected_total_minor"] = json!(494)), 409, "checkout.total_changed", "expected_total_minor"),
            ("a coupon", body(&|b| b["coupons"] = json!(["NEVER"])), 409, "checkout.coupon_refused", "coupons[0]"),
            ("nothing to pay with", body(&|b| b["payment_token"] = Value::Null), 409, "checkout.payment_required", "payment_token"),
        ];
        for (name, body, status, code, field) in cases {
            let refused = world.acme.post("/api/v1/storefront/checkouts").json(&body).send().await.expect(status).json;
            assert_eq!(refused["code"], code, "{name}: {refused}");
            assert_eq!(refused["errors"][0]["field"], field, "{name}: {refused}");
        }
        let many: Vec<Value> = (0..10_000).map(|_| json!({ "variant_id": variant, "quantity": 1 })).collect();
        world.acme.post("/api/v1/storefront/checkouts").json(&body(&|b| b["lines"] = json!(many))).send().await.expect(413);
        let card = body(&|b| b["payment_token"] = json!("4242424242424242"));
        let refused = world.acme.post("/api/v1/storefront/checkouts").json(&card).send().await.expect(400).json;
        assert_eq!(refused["code"], "payments.card_number");
        assert_eq!(world.level(&item).await, (3, 0));
        let checkouts = world.acme.get("/api/v1/checkouts").send().await.expect(200).json;
        assert_eq!(checkouts["data"], json!([]));
        assert!(world.charges().is_empty());
    }

    /// What is looked up and written for all of them together is each one's own all the same: its answer, its payment, its request.
    async fn those_that_come_at_once_are_told_apart(app: TestApp) {
        let world = World::deaf(app).await;
        let (few, item) = world.variant("FEW", "10", Some(5)).await;
        let (many, _) = world.variant("MANY", "3", None).await;
        let promotion = json!({ "name": "Half", "coupon_required": true, "effect": { "kind": "percent", "percent": 50 } });
        let promotion = world.acme.post("/api/v1/pricing/promotions").json(&promotion).send().await.expect(201).text("promotion_id");
        let coupon = json!({ "code": "TWICE", "promotion_id": promotion, "max_uses": 2 });
        world.acme.post("/api/v1/pricing/coupons").json(&coupon).send().await.expect(201);
        let ask = async |n: i64| {
            let mut body = json!({
                "lines": [{ "variant_id": many, "quantity": n + 1 }], "currency": "EUR", "destination": { "country": "NL" },
                "payment_token": "tok_approve", "wait_ms": 0,
            });
            match n % 5 {
                0 => body["lines"] = json!([{ "variant_id": few, "quantity": 1 }]),
                1 => body["lines"][0]["variant_id"] = json!(few),
                2 => body["expected_total_minor"] = json!(1),
                3 => body["coupons"] = json!(["TWICE"]),
                _ => {}
            }
            (n, world.acme.post("/api/v1/storefront/checkouts").json(&body).send().await)
        };
        let answers = join_all((0..60).map(ask)).await;
        let (mut sold, mut halved) = (0, 0);
        let mut requests = BTreeMap::new();
        for (n, answer) in answers {
            let total_minor = match (n % 5, answer.status.as_u16(), answer.json["code"].as_str()) {
                (0, 201, _) => 1_000,
                (1, 201, _) if n == 1 => 2_000,
                (0 | 1, 409, Some("inventory.insufficient")) => continue,
                (2, 409, Some("checkout.total_changed")) => continue,
                (3, 409, Some("checkout.coupon_refused" | "pricing.coupon_used_up")) => continue,
                (3, 201, _) => 150 * (n + 1),
                (4, 201, _) => 300 * (n + 1),
                (_, status, code) => panic!("{n}: {status} {code:?}"),
            };
            assert_eq!(answer.json["total_minor"], total_minor, "{n}");
            sold += if n % 5 < 2 { total_minor / 1_000 } else { 0 };
            halved += i64::from(n % 5 == 3);
            requests.insert(answer.json["payment"]["intent_id"].as_str().expect("a payment").to_owned(), answer.header("x-request-id").to_owned());
        }
        assert_eq!((sold, halved), (5, 2));
        world.app.drained().await;
        assert_eq!(world.level(&item).await, (5, 5));
        let events = world.app.store().tenant_events_after(world.app.tenant("acme"), 0, 5_000).await.expect("events");
        let begun = events.iter().filter(|event| event.kind == "payment.initiated");
        let told: BTreeMap<String, String> =
            begun.map(|event| (event.subject.clone(), event.correlation_id.as_deref().unwrap_or_default().to_owned())).collect();
        assert_eq!(told, requests);
    }

    /// More want it than there are: each unit is sold once, nobody who gets none is charged.
    async fn the_last_units_are_sold_once(app: TestApp) {
        let world = World::new(app).await;
        let (variant, item) = world.variant("DROP", "100", Some(7)).await;
        let answers = join_all((0..40).map(|_| world.buy(&variant, 1, "tok_approve", 10_000))).await;
        let sold = answers.iter().filter(|answer| answer.status == 201).count();
        let gone = answers.iter().filter(|answer| answer.status == 409 && answer.json["code"] == "inventory.insufficient").count();
        assert_eq!((sold, gone), (7, 33));
        world.app.drained().await;
        assert_eq!(world.level(&item).await, (7, 7));
        assert_eq!(world.charges().len(), 7);
    }

    /// What somebody could not pay for is sold to the next one.
    async fn a_declined_unit_is_free_again(app: TestApp) {
        let world = World::new(app).await;
        let (variant, item) = world.variant("LAST", "10", Some(1)).await;
        let declined = world.buy(&variant, 1, "tok_hard_decline", 5_000).await.expect(201).json;
        assert_eq!(declined["state"], "failed");
        assert_eq!(world.level(&item).await, (1, 0));
        let bought = world.buy(&variant, 1, "tok_approve", 5_000).await.expect(201).json;
        assert_eq!(bought["state"], "completed");
    }

    /// A bundle and its own part are counted together, within a checkout and over several.
    async fn a_bundle_shares_its_parts(app: TestApp) {
        let world = World::new(app).await;
        let (cup, item) = world.variant("CUP", "5", Some(5)).await;
        let (set, _) = world.variant("SET", "18", None).await;
        world.components(&set, &[(&item, 4)]).await;
        let lines = json!([{ "variant_id": cup, "quantity": 2 }, { "variant_id": set, "quantity": 1 }]);
        let body = json!({ "lines": lines, "currency": "EUR", "destination": { "country": "NL" }, "payment_token": "tok_approve" });
        world.acme.post("/api/v1/storefront/checkouts").json(&body).send().await.expect(409);
        world.buy(&set, 1, "tok_approve", 5_000).await.expect(201);
        world.buy(&cup, 2, "tok_approve", 5_000).await.expect(409);
        world.buy(&cup, 1, "tok_approve", 5_000).await.expect(201);
        assert_eq!(world.level(&item).await, (5, 5));
    }

    /// One order for a cart, whoever presses how often; a failed payment opens it again.
    async fn a_cart_becomes_one_order(app: TestApp) {
        let world = World::new(app).await;
        let (variant, _) = world.variant("TEA-01", "4.95", Some(10)).await;
        let new = json!({
            "currency": "EUR", "lines": [{ "variant_id": variant, "quantity": 2 }], "destination": { "country": "NL" }, "email": "ada@example.com",
        });
        let cart = world.acme.post("/api/v1/storefront/carts").json(&new).send().await.expect(201).json;
        let (cart_id, secret) = (cart["cart_id"].as_str().expect("an id"), cart["token"].as_str().expect("a token"));
        let check_out = |version: i64, token: &str| {
            let body = json!({ "cart_id": cart_id, "cart_version": version, "payment_token": token, "wait_ms": 10_000 });
            world.acme.post("/api/v1/storefront/checkouts").header("cart-token", secret).json(&body).send()
        };
        let version = cart["version"].as_i64().expect("a version");
        let declined = check_out(version, "tok_hard_decline").await.expect(201).json;
        assert_eq!(declined["state"], "failed");
        let again = world.acme.get(format!("/api/v1/storefront/carts/{cart_id}")).header("cart-token", secret).send().await.expect(200).json;
        let version = again["version"].as_i64().expect("a version");
        let answers = join_all((0..5).map(|_| check_out(version, "tok_approve"))).await;
        let orders: Vec<&Value> = answers.iter().filter(|answer| answer.status == 201).map(|answer| &answer.json["order_id"]).collect();
        assert_eq!(orders.len(), 1, "{:?}", answers.iter().map(|answer| &answer.json).collect::<Vec<_>>());
        world.app.drained().await;
        let orders = world.acme.get("/api/v1/orders").send().await.expect(200).json;
        assert_eq!(orders["data"].as_array().expect("orders").len(), 1);
        // Somebody else's cart is none.
        let body = json!({ "cart_id": cart_id, "cart_version": version, "payment_token": "tok_approve" });
        let stranger = world.acme.post("/api/v1/storefront/checkouts").header("cart-token", "guessed").json(&body).send().await.expect(404);
        assert_eq!(stranger.json["code"], "carts.cart_not_found");
    }

    /// The same request again is the same checkout, and charges nobody twice.
    async fn a_repeated_request_is_one_checkout(app: TestApp) {
        let world = World::new(app).await;
        let (variant, item) = world.variant("TEA-01", "4.95", Some(10)).await;
        let body = json!({
            "lines": [{ "variant_id": variant, "quantity": 1 }], "currency": "EUR", "destination": { "country": "NL" }, "payment_token": "tok_approve",
        });
        let ask = || world.acme.post("/api/v1/storefront/checkouts").key("k1").json(&body).send();
        let answers = join_all((0..3).map(|_| ask())).await;
        let ids: Vec<&Value> = answers.iter().map(|answer| &answer.json["checkout_id"]).collect();
        assert!(ids.iter().all(|id| **id == *ids[0] && id.is_string()), "{ids:?}");
        world.app.drained().await;
        assert_eq!((world.level(&item).await, world.charges().len()), ((10, 1), 1));
        // Whoever has the token sees it, and nobody else does.
        let path = format!("/api/v1/storefront/checkouts/{}", ids[0].as_str().expect("an id"));
        let token = answers[0].json["token"].as_str().expect("a token");
        let shopper = world.app.client("acme", &["storefront.use"]);
        let seen = shopper.get(&path).header("checkout-token", token).send().await.expect(200).json;
        assert_eq!(seen["state"], "completed");
        assert!(seen.get("token").is_none());
        shopper.get(&path).header("checkout-token", "guessed").send().await.expect(404);
        shopper.get(&path).send().await.expect(404);
        let stranger = world.app.client("globex", &["storefront.use"]);
        stranger.get(&path).header("checkout-token", token).send().await.expect(404);
    }

    /// A payment that waits for the shopper is let go of when the shopper gives up, or when the stock's time is over.
    async fn what_nobody_confirms_is_free_again(app: TestApp) {
        let world = World::new(app).await;
        let (variant, item) = world.variant("TEA-01", "4.95", Some(2)).await;
        let mut begun = Vec::new();
        for _ in 0..2 {
            let waits = world.buy(&variant, 1, "tok_requires_action", 5_000).await.expect(201).json;
            assert_eq!(waits["state"], "paying");
            assert!(waits["payment"]["action_url"].is_string());
            begun.push(waits);
        }
        world.buy(&variant, 1, "tok_approve", 5_000).await.expect(409);
        let given_up = &begun[0];
        let path = format!("/api/v1/storefront/checkouts/{}/cancel", given_up["checkout_id"].as_str().expect("an id"));
        let token = given_up["token"].as_str().expect("a token");
        let over = world.acme.post(&path).header("checkout-token", token).send().await.expect(200).json;
        assert_eq!((&over["state"], &over["reason"]), (&json!("failed"), &json!("cancelled")));
        assert_eq!(world.level(&item).await, (2, 1));
        world.later(20 * 60_000).await;
        let forgotten = world.checkout(begun[1]["checkout_id"].as_str().expect("an id")).await;
        assert_eq!((&forgotten["state"], &forgotten["reason"]), (&json!("failed"), &json!("expired")));
        assert_eq!(world.level(&item).await, (2, 0));
    }

    /// What costs nothing is placed at once, and nobody is asked for money.
    async fn a_gift_is_placed_at_once(app: TestApp) {
        let world = World::new(app).await;
        let (variant, item) = world.variant("FREE", "0", Some(1)).await;
        let body = json!({ "lines": [{ "variant_id": variant, "quantity": 1 }], "currency": "EUR", "destination": { "country": "NL" } });
        let bought = world.acme.post("/api/v1/storefront/checkouts").json(&body).send().await.expect(201).json;
        assert_eq!((&bought["state"], &bought["payment"]), (&json!("completed"), &Value::Null));
        assert_eq!(world.level(&item).await, (1, 1));
    }
}
