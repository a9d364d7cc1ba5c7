//! Carts in a store, told as stories, on both engines.

use super::{Shop, add, content, customer, lines, set, variant};
use crate::api::{CartKey, Change, Destination, LineEdit};
use crate::commands;
use crate::model::{CartId, OrderId, Status};
use serde_json::json;
use testkit::TestApp;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

fn code<T: std::fmt::Debug>(outcome: kernel::Result<T>) -> &'static str {
    outcome.unwrap_err().code()
}

testkit::both_engines! {
    setup: crate::tests::setup;

    async fn a_guest_fills_a_cart_and_nobody_else_reaches_it(app: TestApp) {
        let (shop, other) = (Shop::new(&app, "acme"), Shop::new(&app, "other"));
        let cart = shop.guest("secret", lines([add(1, 2), add(2, 1)])).await;
        let mine = CartKey::by_token(cart.cart_id, "secret");
        assert_eq!((content(&cart), cart.version, cart.status), (vec![(1, 2), (2, 1)], 1, Status::Open));
        assert_eq!(shop.load(mine).await.unwrap(), cart, "what is read back is what was answered");

        let cart = shop.change(mine, Some(1), lines([add(1, 1), add(3, 5), LineEdit::Remove(variant(2))])).await.unwrap();
        assert_eq!((content(&cart), cart.version), (vec![(1, 3), (3, 5)], 2));
        let details = Change {
            email: Some(Some("ann@example.com".to_owned())),
            destination: Some(Some(Destination { country: "NL".to_owned(), ..Destination::default() })),
            shipping_method: Some(Some("post".to_owned())),
            coupons: Some(vec!["SPRING".to_owned()]),
            ..lines([set(3, 6)])
        };
        let cart = shop.change(mine, None, details.clone()).await.unwrap();
        assert_eq!(shop.load(mine).await.unwrap(), cart);
        assert_eq!((cart.version, cart.coupons.len(), cart.lines[1].quantity), (3, 1, 6));
        // The same again changes nothing.
        assert_eq!(shop.change(mine, Some(3), details).await.unwrap(), cart);

        // Another version, another token, another tenant.
        assert_eq!(code(shop.change(mine, Some(2), lines([add(1, 1)])).await), "request.precondition_failed");
        for wrong in ["", "Secret", "secret "] {
            assert_eq!(code(shop.load(CartKey::by_token(cart.cart_id, wrong)).await), "carts.cart_not_found");
        }
        assert_eq!(code(other.load(mine).await), "carts.cart_not_found");
        assert_eq!(code(other.change(CartKey::staff(cart.cart_id), None, lines([add(1, 1)])).await), "carts.cart_not_found");
        assert_eq!(shop.see(cart.cart_id).await, cart);
        assert!(shop.events().await.is_empty(), "edits are nobody's business");
    }

    async fn two_tabs_add_at_the_same_time_and_nothing_is_lost(app: TestApp) {
        let shop = Shop::new(&app, "acme");
        let cart = shop.guest("t", lines([add(1, 1)])).await;
        let mine = CartKey::by_token(cart.cart_id, "t");
        let tabs: Vec<_> = (0..40)
            .map(|i| {
                let shop = shop.clone();
                tokio::spawn(async move { shop.change(mine, None, lines([add(1, 1), add(2 + i % 4, 1)])).await })
            })
            .collect();
        for tab in tabs {
            tab.await.unwrap().unwrap();
        }
        let cart = shop.see(cart.cart_id).await;
        let mut sorted = content(&cart);
        sorted.sort_unstable();
        assert_eq!((sorted, cart.version), (vec![(1, 41), (2, 10), (3, 10), (4, 10), (5, 10)], 41));
        // Who insists on the version that was seen: one of them wins.
        let tabs: Vec<_> = (0..10)
            .map(|_| {
                let shop = shop.clone();
                tokio::spawn(async move { shop.change(mine, Some(41), lines([add(1, 1)])).await })
            })
            .collect();
        let mut won = 0;
        for tab in tabs {
            match tab.await.unwrap() {
                Ok(_) => won += 1,
                Err(error) => assert_eq!(error.code(), "request.precondition_failed"),
            }
        }
        assert_eq!((won, shop.see(cart.cart_id).await.lines[0].quantity), (1, 42));
    }

    async fn signing_in_merges_once(app: TestApp) {
        let shop = Shop::new(&app, "acme");
        let ann = customer(1);
        let own = shop.sign_in(ann, None, "own").await.unwrap();
        assert!(!own.merged && own.cart.customer_id == Some(ann));
        let own_key = CartKey::by_token(own.cart.cart_id, "own");
        shop.change(own_key, None, lines([add(1, 2), add(2, 2)])).await.unwrap();
        let guest = shop.guest("guest", lines([add(3, 1), add(1, 5)])).await;
        let guest_key = CartKey::by_token(guest.cart_id, "guest");

        let signed_in = shop.sign_in(ann, Some(guest_key), "phone").await.unwrap();
        assert!(signed_in.merged && signed_in.left_out == 0);
        assert_eq!(signed_in.cart.cart_id, own.cart.cart_id);
        assert_eq!(content(&signed_in.cart), [(1, 7), (2, 2), (3, 1)]);
        assert_eq!(shop.see(own.cart.cart_id).await, signed_in.cart);
        // Each of the customer's tokens opens it; the guest's doesn't.
        for token in ["own", "phone"] {
            shop.load(CartKey::by_token(own.cart.cart_id, token)).await.unwrap();
        }
        assert_eq!(code(shop.load(CartKey::by_token(own.cart.cart_id, "guest")).await), "carts.cart_not_found");

        // Again: nothing is added twice.
        for token in ["phone", "tablet"] {
            let again = shop.sign_in(ann, Some(guest_key), token).await.unwrap();
            assert!(!again.merged);
            assert_eq!(content(&again.cart), [(1, 7), (2, 2), (3, 1)]);
        }
        let gone = shop.load(guest_key).await.unwrap();
        assert_eq!((gone.status, gone.merged_into), (Status::Merged, Some(own.cart.cart_id)));
        assert_eq!(code(shop.change(guest_key, None, lines([add(1, 1)])).await), "carts.merged");
        assert_eq!(code(shop.sign_in(customer(2), Some(guest_key), "x").await), "carts.merged");
        // A token of one's own cart in place of a guest's is nothing to merge; another customer's is not merged.
        assert!(!shop.sign_in(ann, Some(own_key), "own").await.unwrap().merged);
        assert_eq!(code(shop.sign_in(customer(2), Some(own_key), "x").await), "carts.not_a_guests");
        assert_eq!(code(shop.sign_in(ann, Some(CartKey::by_token(guest.cart_id, "no")), "x").await), "carts.cart_not_found");

        let payload = json!({ "cart_id": own.cart.cart_id, "from_cart_id": guest.cart_id, "customer_id": ann, "currency": "EUR", "lines": 3, "left_out": 0 });
        assert_eq!(shop.events().await, [("cart.merged".to_owned(), payload)]);
        // The oldest token gives way.
        for number in 0..5 {
            shop.sign_in(ann, None, &format!("device {number}")).await.unwrap();
        }
        assert_eq!(code(shop.load(own_key).await), "carts.cart_not_found");
        shop.load(CartKey::by_token(own.cart.cart_id, "device 0")).await.unwrap();
    }

    async fn a_customer_signs_in_from_ten_places_at_once_and_has_one_cart(app: TestApp) {
        let shop = Shop::new(&app, "acme");
        let guest = shop.guest("guest", lines([add(1, 5)])).await;
        let key = CartKey::by_token(guest.cart_id, "guest");
        let tasks: Vec<_> = (0..10)
            .map(|i| {
                let shop = shop.clone();
                tokio::spawn(async move { shop.sign_in(customer(1), Some(key), &format!("t{i}")).await })
            })
            .collect();
        let mut carts = Vec::new();
        for task in tasks {
            carts.push(task.await.unwrap().unwrap());
        }
        assert_eq!(carts.iter().filter(|signed_in| signed_in.merged).count(), 1);
        assert!(carts.iter().all(|signed_in| signed_in.cart.cart_id == carts[0].cart.cart_id && content(&signed_in.cart) == [(1, 5)]));
    }

    async fn a_checkout_takes_the_version_that_was_seen(app: TestApp) {
        let shop = Shop::new(&app, "acme");
        let cart = shop.guest("t", lines([add(1, 1)])).await;
        let mine = CartKey::by_token(cart.cart_id, "t");
        let (id, order) = (cart.cart_id, OrderId::from_i64(77));
        shop.change(mine, None, lines([add(1, 1)])).await.unwrap();
        assert_eq!(code(shop.begin(id, 1).await), "carts.changed");
        let mark = |order| move |tx: &mut store::Tx<'_>, id: &CartId| commands::ordered(tx, *id, order);
        assert_eq!(code(shop.write(mark(order), id).await), "carts.not_checking_out");
        let begun = shop.begin(id, 2).await.unwrap();
        assert_eq!((begun.status, begun.attempts), (Status::CheckingOut, 1));
        assert_eq!(shop.see(id).await, begun);
        assert_eq!(code(shop.begin(id, 2).await), "carts.checking_out");
        assert_eq!(code(shop.change(mine, None, lines([add(1, 1)])).await), "carts.checking_out");
        assert_eq!(code(shop.sign_in(customer(1), Some(mine), "x").await), "carts.checking_out");

        // The payment fails: the same version can be tried again; a late word of the first attempt is heeded no more.
        let reopen = |attempt| move |tx: &mut store::Tx<'_>, id: &CartId| commands::reopen(tx, *id, attempt);
        shop.write(reopen(2), id).await.unwrap();
        assert_eq!(shop.see(id).await.status, Status::CheckingOut, "another attempt's word");
        shop.write(reopen(1), id).await.unwrap();
        let open = shop.see(id).await;
        assert_eq!((open.status, open.version), (Status::Open, 2));
        assert_eq!(shop.begin(id, 2).await.unwrap().attempts, 2);
        shop.write(reopen(1), id).await.unwrap();
        assert_eq!(shop.see(id).await.status, Status::CheckingOut);

        for _ in 0..2 {
            shop.write(mark(order), id).await.unwrap();
        }
        assert_eq!(code(shop.write(mark(OrderId::from_i64(78)), id).await), "carts.not_checking_out");
        shop.write(reopen(2), id).await.unwrap();
        let done = shop.load(mine).await.unwrap();
        assert_eq!((done.status, done.order_id), (Status::Ordered, Some(order)));
        assert_eq!(code(shop.begin(id, 2).await), "carts.ordered");

        let empty = shop.guest("e", Change::default()).await;
        assert_eq!(code(shop.begin(empty.cart_id, 1).await), "carts.empty");
        // A customer who has ordered begins a cart anew.
        let own = shop.sign_in(customer(1), None, "own").await.unwrap().cart;
        shop.change(CartKey::staff(own.cart_id), None, lines([add(1, 1)])).await.unwrap();
        shop.begin(own.cart_id, 2).await.unwrap();
        assert_eq!(shop.sign_in(customer(1), None, "own").await.unwrap().cart.cart_id, own.cart_id);
        shop.write(mark(order), own.cart_id).await.unwrap();
        assert_ne!(shop.sign_in(customer(1), None, "own").await.unwrap().cart.cart_id, own.cart_id);
    }

    async fn two_checkouts_of_one_cart_at_once_are_one(app: TestApp) {
        let shop = Shop::new(&app, "acme");
        let cart = shop.guest("t", lines([add(1, 1)])).await;
        let tasks: Vec<_> = (0..20).map(|_| (shop.clone(), cart.cart_id)).map(|(shop, id)| tokio::spawn(async move { shop.begin(id, 1).await })).collect();
        let mut begun = 0;
        for task in tasks {
            match task.await.unwrap() {
                Ok(_) => begun += 1,
                Err(error) => assert_eq!(error.code(), "carts.checking_out"),
            }
        }
        assert_eq!((begun, shop.see(cart.cart_id).await.attempts), (1, 1));
    }

    async fn an_abandoned_cart_is_told_once_and_at_last_forgotten(app: TestApp) {
        let (shop, other) = (Shop::new(&app, "acme"), Shop::new(&app, "other"));
        let cart = shop.guest("t", lines([add(1, 2)])).await;
        let empty = shop.guest("e", Change::default()).await;
        let theirs = other.guest("o", lines([add(9, 1)])).await;
        let mine = CartKey::by_token(cart.cart_id, "t");
        app.advance_ms(20 * HOUR_MS).await;
        // A change begins the time anew.
        shop.change(mine, None, Change { email: Some(Some("a@b.example".to_owned())), ..Change::default() }).await.unwrap();
        app.advance_ms(23 * HOUR_MS).await;
        assert_eq!(shop.events().await.len(), 0);
        assert_eq!(other.events().await.len(), 1);
        app.advance_ms(2 * HOUR_MS).await;
        let events = shop.events().await;
        assert_eq!((events.len(), events[0].0.as_str(), &events[0].1["cart_id"]), (1, "cart.abandoned", &json!(cart.cart_id)));
        let abandoned = shop.see(cart.cart_id).await;
        assert_eq!((abandoned.status, abandoned.version), (Status::Abandoned, 2));
        assert!(abandoned.abandoned_at.is_some());
        // Its owner comes back, and leaves again: told once.
        let back = shop.change(mine, Some(2), lines([add(1, 1)])).await.unwrap();
        assert_eq!((back.status, back.version), (Status::Open, 3));
        app.advance_ms(3 * DAY_MS).await;
        assert_eq!(shop.events().await.len(), 1);
        // One that was empty for long, and then filled and left.
        shop.change(CartKey::by_token(empty.cart_id, "e"), None, lines([add(4, 1)])).await.unwrap();
        app.advance_ms(2 * DAY_MS).await;
        assert_eq!(shop.events().await.len(), 2);

        app.advance_ms(26 * DAY_MS).await;
        assert_eq!(shop.see(cart.cart_id).await.status, Status::Expired, "thirty days without a change");
        assert_eq!(code(shop.change(mine, None, lines([add(1, 1)])).await), "carts.expired");
        let expired = shop.load(mine).await.unwrap();
        assert_eq!((expired.email, expired.lines.len(), expired.line_count), (None, 0, 0), "what it told of a person is gone");
        app.advance_ms(91 * DAY_MS).await;
        assert_eq!(code(shop.load(mine).await), "carts.cart_not_found");
        assert_eq!(code(other.load(CartKey::staff(theirs.cart_id)).await), "carts.cart_not_found");
        assert_eq!(other.events().await.len(), 1);
    }

    async fn more_carts_than_one_look_takes(app: TestApp) {
        let shop = Shop::new(&app, "acme");
        let many = 2 * crate::workflows::BATCH + 7;
        for number in 0..many {
            shop.guest(&format!("t{number}"), lines([add(1, 1)])).await;
        }
        app.advance_ms(25 * HOUR_MS).await;
        assert_eq!(shop.events().await.len() as i64, many);
    }

    async fn an_expired_cart_is_not_bought_even_before_it_is_swept(app: TestApp) {
        let shop = Shop::new(&app, "acme");
        let cart = shop.guest("t", lines([add(1, 1)])).await;
        let own = shop.sign_in(customer(1), None, "own").await.unwrap().cart;
        // No saga runs meanwhile.
        app.clock().advance_ms(400 * DAY_MS);
        let mine = CartKey::by_token(cart.cart_id, "t");
        assert_eq!(code(shop.begin(cart.cart_id, 1).await), "carts.expired");
        assert_eq!(code(shop.change(mine, None, lines([add(1, 1)])).await), "carts.expired");
        let signed_in = shop.sign_in(customer(1), Some(mine), "own").await.unwrap();
        assert!(!signed_in.merged && signed_in.cart.cart_id != own.cart_id, "both were over");
    }

    async fn the_tenants_people_see_carts_and_say_how_long_they_are_kept(app: TestApp) {
        let shop = Shop::new(&app, "acme");
        let first = shop.guest("t", lines([add(1, 2)])).await;
        let own = shop.sign_in(customer(5), None, "own").await.unwrap().cart;
        let reader = app.client("acme", &["carts.read"]);
        let all = reader.get("/api/v1/carts?limit=1").send().await.expect(200);
        assert_eq!(all.json["data"][0]["cart_id"], json!(own.cart_id));
        let rest = reader.get(format!("/api/v1/carts?limit=1&cursor={}", all.text("next_cursor"))).send().await.expect(200);
        assert_eq!((&rest.json["data"][0]["cart_id"], &rest.json["next_cursor"]), (&json!(first.cart_id), &json!(null)));
        let of = reader.get(format!("/api/v1/carts?customer_id={}&status=open", customer(5))).send().await.expect(200);
        assert_eq!(of.json["data"].as_array().unwrap().len(), 1);
        let none = reader.get("/api/v1/carts?status=ordered").send().await.expect(200);
        assert_eq!(none.json["data"], json!([]));
        let seen = reader.get(format!("/api/v1/carts/{}", first.cart_id)).send().await.expect(200);
        assert_eq!((seen.header("etag"), &seen.json["lines"][0]["unit_price"]), ("\"1\"", &json!("2.5")));
        assert!(!seen.json.to_string().contains("token"));
        app.client("other", &["carts.read"]).get(format!("/api/v1/carts/{}", first.cart_id)).send().await.expect_problem(404, "carts.cart_not_found");

        let writer = app.client("acme", &["carts.read", "carts.write"]);
        let usual = writer.get("/api/v1/cart-settings").send().await.expect(200);
        assert_eq!(usual.json, json!({ "guest_days": 30, "customer_days": 365, "abandoned_after_minutes": 1440 }));
        let short = json!({ "guest_days": 1, "customer_days": 2, "abandoned_after_minutes": 30 });
        writer.put("/api/v1/cart-settings").json(&short).send().await.expect(200);
        writer.put("/api/v1/cart-settings").if_match(7).json(&short).send().await.expect_problem(412, "request.precondition_failed");
        let wrong = json!({ "guest_days": 0, "customer_days": 2, "abandoned_after_minutes": 1 });
        let refused = writer.put("/api/v1/cart-settings").json(&wrong).send().await.expect_problem(400, "request.invalid");
        assert_eq!(refused.json["errors"].as_array().unwrap().len(), 2);
        reader.put("/api/v1/cart-settings").json(&short).send().await.expect(403);
        let brief = shop.guest("b", lines([add(1, 1)])).await;
        assert_eq!(brief.expires_at.ms_since(brief.created_at), DAY_MS);
        app.advance_ms(2 * DAY_MS).await;
        assert_eq!(shop.see(brief.cart_id).await.status, Status::Expired);
    }
}
