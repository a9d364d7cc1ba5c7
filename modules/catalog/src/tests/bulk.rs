//! The bulk commands, against a naive model and as importers use them.

use super::events;
use crate::api::*;
use crate::model::ProductStatus;
use kernel::{Currency, Rng as _, SeededRng, Timestamp, UnitPrice};
use std::collections::BTreeMap;
use testkit::TestApp;

fn gbp() -> Currency {
    "GBP".parse().unwrap()
}

fn row(sku: &str, title: &str) -> UpsertRow {
    UpsertRow { sku: sku.to_owned(), title: (!title.is_empty()).then(|| title.to_owned()), ..UpsertRow::default() }
}

async fn upsert(app: &TestApp, rows: Vec<UpsertRow>) -> kernel::Result<Vec<VariantRef>> {
    app.store().write(app.tenant("acme"), |tx, rows: &Vec<UpsertRow>| upsert_by_sku(tx, rows), rows).await
}

async fn observe(app: &TestApp, observations: Vec<Observation>) -> kernel::Result<()> {
    app.store().write(app.tenant("acme"), |tx, observations: &Vec<Observation>| observe_prices(tx, observations), observations).await
}

async fn snapshot(app: &TestApp, id: VariantId) -> Option<VariantSnapshot> {
    app.store().read(app.tenant("acme"), move |read| variant_snapshots(read, &[id])).await.unwrap().remove(&id)
}

/// What a SKU should look like, kept by the simplest means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Expected {
    title: String,
    prices: BTreeMap<Currency, UnitPrice>,
    product: Option<String>,
}

testkit::both_engines! {
    setup: crate::tests::setup;

    async fn an_importer_makes_skus_and_retitles_them(app: TestApp) {
        let first = upsert(&app, vec![row("85123A", ""), row("m", "Manual"), row("85123A", "HEART"), row("M", "Manual")]).await.unwrap();
        assert_eq!(first[0], first[2], "rows of one SKU are one variant");
        assert_eq!(first.iter().map(|r| r.variant_id).collect::<std::collections::HashSet<_>>().len(), 3);
        let made = events(&app, "acme").await;
        assert_eq!(made.len(), 6);

        let second = upsert(&app, vec![row("M", ""), row("85123A", "HEART HOLDER"), row("85123A", "")]).await.unwrap();
        assert_eq!(second, [first[3], first[0], first[0]]);
        assert_eq!(events(&app, "acme").await[6..], ["product.updated", "variant.updated"]);
        let heart = snapshot(&app, first[0].variant_id).await.unwrap();
        assert_eq!((heart.sku.as_str(), heart.title.as_str(), heart.product_title.as_str(), heart.for_sale), ("85123A", "HEART HOLDER", "HEART HOLDER", true));
        assert_eq!(heart.price_in(gbp()), None);

        let skus = ["m", "nowhere", "85123A"].map(str::to_owned);
        let found = app.store().read(app.tenant("acme"), move |read| variants_by_sku(read, &skus)).await.unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found["m"], first[1]);
        assert_eq!(snapshot(&app, VariantId::from_i64(1)).await, None);

        // One wrong row refuses them all, and names it.
        let error = upsert(&app, vec![row("new", "x"), row("", "y")]).await.unwrap_err();
        assert_eq!((error.code(), error.field_errors()[0].field.as_str()), ("request.invalid", "rows[1].sku"));
        let too_many = (0..=MAX_BATCH).map(|n| row(&n.to_string(), "")).collect();
        assert_eq!(upsert(&app, too_many).await.unwrap_err().code(), "catalog.batch_too_large");
    }

    async fn a_product_keeps_the_title_that_a_person_gave_it(app: TestApp) {
        let place = upsert(&app, vec![row("a", "From the file")]).await.unwrap()[0];
        let acme = app.client("acme", &["*"]);
        let path = format!("/api/v1/products/{}", place.product_id);
        acme.patch(&path).json(&serde_json::json!({ "title": "By hand", "status": "archived" })).send().await.expect(200);
        upsert(&app, vec![row("a", "From the next file")]).await.unwrap();
        let now = snapshot(&app, place.variant_id).await.unwrap();
        assert_eq!((now.product_title.as_str(), now.title.as_str(), now.for_sale), ("By hand", "From the next file", false));
        let read = acme.get(&path).send().await.expect(200);
        assert_eq!((read.header("etag"), read.text("status").as_str()), ("\"3\"", ProductStatus::Archived.as_str()));
    }

    async fn observations_add_up(app: TestApp) {
        let place = upsert(&app, vec![row("B", "Adjust bad debt"), row("a", "")]).await.unwrap();
        let seen = |variant: usize, price: &str, first: i64, last: i64, times_seen: i64| Observation {
            variant_id: place[variant].variant_id,
            currency: gbp(),
            price: price.parse().unwrap(),
            first_seen: Timestamp::from_micros(first),
            last_seen: Timestamp::from_micros(last),
            times_seen,
        };
        observe(&app, vec![seen(0, "-11062.06", 50, 60, 2), seen(0, "0.001", 50, 50, 1), seen(1, "2.55", 1, 1, 1), seen(0, "-11062.06", 55, 70, 1)]).await.unwrap();
        observe(&app, vec![seen(0, "-11062.06", 40, 45, 5)]).await.unwrap();
        observe(&app, Vec::new()).await.unwrap();
        assert_eq!(observe(&app, vec![seen(0, "1", 2, 1, 1)]).await.unwrap_err().code(), "catalog.invalid_observation");

        let acme = app.client("acme", &["*"]);
        let path = format!("/api/v1/variants/{}/price-observations?limit=1", place[0].variant_id);
        let first = acme.get(&path).send().await.expect(200);
        let expected = serde_json::json!([{ "currency": "GBP", "price": "-11062.06", "times_seen": 8,
            "first_seen": "1970-01-01T00:00:00.000040Z", "last_seen": "1970-01-01T00:00:00.000070Z" }]);
        assert_eq!(first.json["data"], expected);
        let second = acme.get(format!("{path}&cursor={}", first.text("next_cursor"))).send().await.expect(200);
        assert_eq!((&second.json["data"][0]["price"], &second.json["next_cursor"]), (&serde_json::json!("0.001"), &serde_json::Value::Null));
        let before = events(&app, "acme").await.len();
        assert_eq!(before, 4, "observations are no events");
    }

    /// Random batches over few SKUs and products, checked against a map after each.
    async fn batches_do_what_a_map_would(app: TestApp) {
        let rng = SeededRng::new(7);
        let pick = |n: u64| rng.below(n);
        let currencies: [Currency; 2] = [gbp(), "EUR".parse().unwrap()];
        let mut model: BTreeMap<String, Expected> = BTreeMap::new();
        for _ in 0..40 {
            let mut batch = UpsertBatch { rows: Vec::new(), by: By::SYSTEM };
            for _ in 0..=pick(12) {
                let mut row = row(&format!("sku{}", pick(15)), ["", "one", "two", "three"][pick(4) as usize]);
                if pick(3) == 0 {
                    row.product = Some(format!("product{}", pick(3)));
                }
                for currency in currencies {
                    if pick(3) == 0 {
                        row.prices.push(Price { currency, price: UnitPrice::from_micros(pick(3) as i64 * 1_000_000) });
                    }
                }
                batch.rows.push(row);
            }
            // The model: rows of one SKU as one, then one SKU after another.
            let mut merged: Vec<UpsertRow> = Vec::new();
            for row in &batch.rows {
                match merged.iter_mut().find(|m| m.sku == row.sku) {
                    None => merged.push(row.clone()),
                    Some(into) => {
                        into.title = row.title.clone().or(into.title.take());
                        into.product = row.product.clone().or(into.product.take());
                        into.prices.retain(|p| row.prices.iter().all(|new| new.currency != p.currency));
                        into.prices.extend(&row.prices);
                    }
                }
            }
            let mut expected: BTreeMap<String, Result<Change, &'static str>> = BTreeMap::new();
            for row in merged {
                let prices = row.prices.iter().map(|p| (p.currency, p.price));
                let outcome = match model.get_mut(&row.sku) {
                    None => {
                        let title = row.title.clone().unwrap_or(row.sku.clone());
                        model.insert(row.sku.clone(), Expected { title, prices: prices.collect(), product: row.product.clone() });
                        Ok(Change::Created)
                    }
                    Some(old) if row.product.is_some() && row.product != old.product => Err("other_product"),
                    Some(old) => {
                        let before = old.clone();
                        old.title = row.title.clone().unwrap_or(before.title.clone());
                        old.prices.extend(prices);
                        Ok(if *old == before { Change::Unchanged } else { Change::Updated })
                    }
                };
                expected.insert(row.sku, outcome);
            }
            let rows = batch.rows.clone();
            let outcomes = app.store().write(app.tenant("acme"), upsert_variants, batch).await.unwrap();
            assert_eq!(outcomes.len(), rows.len());
            for (row, outcome) in rows.iter().zip(&outcomes) {
                let found = outcome.as_ref().map(|(_, change)| *change).map_err(|fault| fault.code);
                assert_eq!(found, expected[&row.sku], "{row:?}");
            }
            let ids: Vec<VariantId> = outcomes.iter().filter_map(|o| o.as_ref().ok()).map(|(place, _)| place.variant_id).collect();
            let snapshots = app.store().read(app.tenant("acme"), move |read| variant_snapshots(read, &ids)).await.unwrap();
            for snapshot in snapshots.values() {
                let stored = &model[&snapshot.sku];
                let prices: BTreeMap<_, _> = snapshot.prices.iter().map(|p| (p.currency, p.price)).collect();
                assert_eq!((&snapshot.title, &prices), (&stored.title, &stored.prices));
                if let Some(product) = &stored.product {
                    assert_eq!(&snapshot.product_title, product);
                }
            }
        }
    }
}
