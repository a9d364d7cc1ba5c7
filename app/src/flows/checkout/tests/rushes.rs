//! Many at once for a little: units whose time is over are sold again, and a coupon is used as often as it may be.

use super::world::{World, setup};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream;
use serde_json::{Value, json};
use testkit::TestApp;

const COUPON_USES: usize = 100;
/// Shoppers who are asking at the same time: fewer than may wait for a tenant's lane.
const AT_ONCE: usize = 500;

/// `BRANDOS_COUPON_CARTS`, such as 5000, or some that a test does in seconds.
fn coupon_carts() -> usize {
    std::env::var("BRANDOS_COUPON_CARTS").ok().and_then(|text| text.parse().ok()).unwrap_or(400)
}

/// A shopper with a cart.
struct Shopper {
    cart_id: String,
    secret: String,
    version: i64,
    token: &'static str,
}

impl Shopper {
    async fn fill(world: &World, variant_id: &str, token: &'static str) -> Shopper {
        let new = json!({
            "currency": "EUR", "lines": [{ "variant_id": variant_id, "quantity": 1 }], "destination": { "country": "NL" },
            "email": "ada@example.com",
        });
        let cart = world.acme.post("/api/v1/storefront/carts").json(&new).send().await.expect(201);
        let (cart_id, secret) = (cart.text("cart_id"), cart.text("token"));
        let coupons = format!("/api/v1/storefront/carts/{cart_id}/coupons");
        let cart = world.acme.post(coupons).header("cart-token", &secret).json(&json!({ "code": "hundred" })).send().await.expect(200);
        Shopper { cart_id, secret, version: cart.json["version"].as_i64().expect("a version"), token }
    }

    /// The checkout; none when the coupon is used up.
    async fn check_out(&self, world: &World) -> Option<String> {
        let body = json!({ "cart_id": self.cart_id, "cart_version": self.version, "payment_token": self.token, "wait_ms": 2_000 });
        let answer = world.acme.post("/api/v1/storefront/checkouts").header("cart-token", &self.secret).json(&body).send().await;
        match (answer.status.as_u16(), answer.json["code"].as_str()) {
            (201, _) => Some(answer.text("checkout_id")),
            (409, Some("checkout.coupon_refused" | "pricing.coupon_used_up")) => None,
            _ => panic!("{}", answer.json),
        }
    }
}

testkit::both_engines! {
    setup: setup;

    /// Everybody tries at once, a tenth of the cards is declined; what those give back is used by others, and never more than there is.
    async fn a_coupon_for_a_hundred_makes_a_hundred_orders(app: TestApp) {
        let world = World::new(app).await;
        let (variant, _) = world.variant("TEA-01", "10", None).await;
        let promotion = json!({ "name": "Half", "coupon_required": true, "effect": { "kind": "percent", "percent": 50 } });
        let promotion = world.acme.post("/api/v1/pricing/promotions").json(&promotion).send().await.expect(201).text("promotion_id");
        let coupon = json!({ "code": "HUNDRED", "promotion_id": promotion, "max_uses": COUPON_USES });
        world.acme.post("/api/v1/pricing/coupons").json(&coupon).send().await.expect(201);
        let token = |n: usize| if n.is_multiple_of(10) { "tok_hard_decline" } else { "tok_approve" };
        let fill = stream::iter(0..coupon_carts()).map(|n| Shopper::fill(&world, &variant, token(n)));
        let mut shoppers: Vec<Shopper> = fill.buffered(AT_ONCE).collect().await;
        let (mut orders, mut declined) = (0, 0);
        loop {
            let asking = stream::iter(&shoppers).map(|shopper| shopper.check_out(&world));
            let begun: Vec<Option<String>> = asking.buffered(AT_ONCE).collect().await;
            // In the rush the provider's answers come too late: it is asked what became of it.
            world.later(60_000).await;
            for checkout_id in begun.iter().flatten() {
                match world.checkout(checkout_id).await["state"].as_str() {
                    Some("completed") => orders += 1,
                    Some("failed") => declined += 1,
                    state => panic!("{checkout_id} is {state:?}"),
                }
            }
            let uses = world.acme.get("/api/v1/pricing/coupons/HUNDRED").send().await.expect(200).json["uses"].clone();
            assert_eq!(uses, json!(orders), "what an order keeps, and nothing else");
            assert!(orders <= COUPON_USES, "{orders}");
            if begun.iter().all(Option::is_none) {
                break;
            }
            let mut begun = begun.into_iter();
            shoppers.retain(|_| begun.next() == Some(None));
        }
        assert_eq!(orders, COUPON_USES);
        assert!(declined > 0);
        assert_eq!(shoppers.len(), coupon_carts() - orders - declined);
        let (mut kept, mut cursor) = (0, String::new());
        loop {
            let path = format!("/api/v1/pricing/coupons/HUNDRED/redemptions?limit=100{cursor}");
            let page = world.acme.get(path).send().await.expect(200).json;
            kept += page["data"].as_array().expect("redemptions").iter().filter(|redemption| redemption["kept"] == true).count();
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(kept, COUPON_USES);
        assert!(world.charges().iter().all(|charge| charge.amount_minor == 500), "half of it");
    }

    /// A third never confirms: what they hold is free when its time is over, and sold to those who are still there.
    async fn what_a_rush_leaves_unpaid_is_sold_again(app: TestApp) {
        const UNITS: i64 = 12;
        let world = World::new(app).await;
        let (variant, item) = world.variant("DROP", "100", Some(UNITS)).await;
        let token = |n: usize| match n {
            n if n.is_multiple_of(3) => "tok_requires_action",
            n if n % 10 == 1 => "tok_hard_decline",
            n if n % 10 == 2 => "tok_timeout_after",
            _ => "tok_approve",
        };
        let mut waiting: Vec<usize> = (0..60).collect();
        let (mut sold, mut lapsed, mut rounds) = (0, 0, 0);
        while sold < UNITS {
            let answers = join_all(waiting.iter().map(|n| world.buy(&variant, 1, token(*n), 2_000))).await;
            let begun: Vec<&Value> = answers.iter().filter(|answer| answer.status == 201).map(|answer| &answer.json).collect();
            let refused = answers.iter().filter(|answer| answer.status == 409 && answer.json["code"] == "inventory.insufficient").count();
            assert_eq!(begun.len() + refused, waiting.len());
            // Questions are asked, and then everybody's time is over.
            world.later(60_000).await;
            world.later(15 * 60_000).await;
            for checkout in begun {
                let checkout = world.checkout(checkout["checkout_id"].as_str().expect("an id")).await;
                match (checkout["state"].as_str(), checkout["reason"].as_str()) {
                    (Some("completed"), None) => sold += 1,
                    (Some("failed"), Some("expired")) => lapsed += 1,
                    (Some("failed"), Some("stolen_card")) => {}
                    end => panic!("{end:?}: {checkout}"),
                }
            }
            assert_eq!(world.level(&item).await, (UNITS, sold), "nothing is reserved that is not sold");
            let mut answers = answers.iter();
            waiting.retain(|_| answers.next().is_some_and(|answer| answer.status == 409));
            rounds += 1;
        }
        assert_eq!(sold, UNITS);
        assert!(lapsed > 0 && rounds > 1, "{lapsed} lapsed in {rounds} rounds");
        world.buy(&variant, 1, "tok_approve", 2_000).await.expect(409);
        let taken: i64 = world.charges().iter().map(|charge| charge.captured_minor - charge.refunded_minor).sum();
        assert_eq!(taken, UNITS * 10_000);
    }
}
