//! Products out of memory: never older than what was answered.

use crate::api::{UpsertRow, upsert_by_sku};
use crate::cache::Remembered;
use serde_json::json;
use testkit::TestApp;

testkit::both_engines! {
    setup: crate::tests::setup;

    async fn a_product_is_remembered_until_it_changes_whoever_changes_it(app: TestApp) {
        let acme = app.client("acme", &["catalog.read", "catalog.write"]);
        let made = acme.post("/api/v1/products").json(&json!({ "title": "Shirt", "variants": [{ "sku": "S-M" }] })).send().await.expect(201);
        let path = made.header("location").to_owned();
        let loads = || app.app().part::<Remembered>().products.view().loads;
        for _ in 0..5 {
            let read = acme.get(&path).send().await.expect(200);
            assert_eq!((read.json["title"].as_str(), read.header("etag"), loads()), (Some("Shirt"), "\"1\"", 1));
        }
        acme.patch(&path).json(&json!({ "title": "Blouse" })).send().await.expect(200);
        assert_eq!(acme.get(&path).send().await.expect(200).json["title"], "Blouse");
        let variant = made.json["variants"][0]["variant_id"].as_str().unwrap().to_owned();
        acme.put(format!("/api/v1/variants/{variant}/prices/EUR")).json(&json!({ "price": "12" })).send().await.expect(200);
        assert_eq!(acme.get(&path).send().await.expect(200).json["variants"][0]["prices"][0]["price"], "12");
        // An importer, within its own transaction and far from any route.
        let rows = vec![UpsertRow { sku: "S-M".to_owned(), title: Some("Retitled".to_owned()), ..UpsertRow::default() }];
        app.store().write(app.tenant("acme"), |tx, rows: &Vec<UpsertRow>| upsert_by_sku(tx, rows), rows).await.unwrap();
        assert_eq!(acme.get(&path).send().await.expect(200).json["variants"][0]["title"], "Retitled");
        assert_eq!(loads(), 4, "and remembered in between");
        // Another tenant does not see it, remembered or not.
        let globex = app.client("globex", &["catalog.read"]);
        globex.get(&path).send().await.expect_problem(404, "catalog.product_not_found");
        // What was hot is warm in the next process.
        let hot = app.web().hot(10);
        app.app().caches().drop_all();
        assert_eq!(app.web().warm(&hot, std::time::Duration::from_secs(5)).await, 1);
        assert_eq!(app.web().warm("nonsense", std::time::Duration::from_secs(5)).await, 0);
        let before = loads();
        acme.get(&path).send().await.expect(200);
        assert_eq!(loads(), before);
    }
}
