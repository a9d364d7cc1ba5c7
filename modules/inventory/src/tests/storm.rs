//! Many want the last ones at once: exactly as many get one as there are, by commands of their own and as a set.

use super::*;
use crate::reserve::reserve_set;
use futures_util::future::join_all;
use serde_json::json;

const UNITS: i64 = 40;
const BUYERS: usize = 300;

testkit::both_engines! {
    setup: setup;

    async fn the_last_units_are_reserved_once_each(app: TestApp) {
        let shop = Shop::new(&app, "acme");
        let (item, place, variant) = shop.simple("MUG", UNITS).await;
        let storm = (0..BUYERS).map(|n| {
            let (shop, demand) = (shop.clone(), demand(&app, &format!("chk_{n}"), &[(variant, 1)]));
            tokio::spawn(async move { shop.reserve(demand).await })
        });
        let outcomes = join_all(storm).await;
        let outcomes: Vec<_> = outcomes.into_iter().map(|outcome| outcome.expect("nobody panics")).collect();
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count() as i64, UNITS);
        assert!(outcomes.iter().flat_map(|outcome| outcome.as_ref().err()).all(|error| error.code() == "inventory.insufficient"));
        let level = shop.level(item, place).await;
        assert_eq!((level.on_hand, level.reserved, level.available), (UNITS, UNITS, 0));
    }

    async fn sets_of_demands_are_decided_each_by_itself(app: TestApp) {
        let shop = Shop::new(&app, "acme");
        let (item, place, variant) = shop.simple("MUG", UNITS).await;
        // Each comes twice under its reference, and gets one.
        let storm = (0..BUYERS).map(|n| {
            let (shop, demand) = (shop.clone(), demand(&app, &format!("chk_{}", n / 2), &[(variant, 1)]));
            tokio::spawn(async move { shop.app.store().write_set(shop.tenant, None, reserve_set, demand).await })
        });
        let outcomes = join_all(storm).await;
        let granted: Vec<Reserved> = outcomes.into_iter().filter_map(|outcome| outcome.expect("nobody panics").ok()).map(|once| once.value).collect();
        let mut references: Vec<&str> = granted.iter().map(|reserved| reserved.reference.as_str()).collect();
        assert_eq!(references.len() as i64, 2 * UNITS);
        references.sort_unstable();
        references.dedup();
        assert_eq!((references.len() as i64, shop.level(item, place).await.reserved), (UNITS, UNITS));
    }

    async fn over_http_with_keys_that_repeat(app: TestApp) {
        let shop = Shop::new(&app, "acme");
        let (item, place, variant) = shop.simple("MUG", UNITS).await;
        let acme = app.client("acme", &["inventory.write"]);
        let storm = (0..BUYERS / 3).flat_map(|n| [n, n, n]).map(|n| {
            let body = json!({ "reference": format!("chk_{n}"), "lines": [{ "variant_id": variant, "quantity": 1 }] });
            acme.post("/api/v1/inventory/reservations").key(&format!("key-{n}")).json(&body).send()
        });
        let answers = join_all(storm).await;
        let granted = answers.iter().filter(|answer| answer.status == 201).count() as i64;
        let refused = answers.iter().filter(|answer| answer.json["code"] == "inventory.insufficient").count() as i64;
        assert_eq!((granted, refused), (3 * UNITS, BUYERS as i64 - 3 * UNITS));
        assert_eq!(shop.level(item, place).await.reserved, UNITS);
    }
}
