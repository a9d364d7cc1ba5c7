//! Categories, collections, attributes, media, schedules and the history, told as stories.

use super::{column, events};
use crate::api::{CategoryId, ProductId, Shelf, shelf_products, shop_categories, variant_snapshots};
use crate::attributes::Hidden;
use kernel::Clock as _;
use serde_json::{Value, json};
use testkit::{Client, TestApp};

/// Makes something, and gives its id.
async fn make(client: &Client, what: &str, id: &str, body: Value) -> String {
    client.post(format!("/api/v1/{what}")).json(&body).send().await.expect(201).text(id)
}

async fn category(client: &Client, slug: &str, parent: Option<&str>) -> String {
    make(client, "catalog/categories", "category_id", json!({ "slug": slug, "title": slug, "parent_id": parent })).await
}

async fn product(client: &Client, title: &str, more: Value) -> String {
    let mut body =
        json!({ "title": title, "status": "active", "variants": [{ "sku": title, "prices": [{ "currency": "EUR", "price": "10" }] }] });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    make(client, "products", "product_id", body).await
}

/// The titles of all pages of a shelf, `limit` at a time.
async fn on_shelf(app: &TestApp, shelf: Shelf, limit: u32) -> Vec<String> {
    let (mut titles, mut after) = (Vec::new(), None);
    loop {
        let shelf = shelf.clone();
        let read = app.store().read(app.tenant("acme"), move |read| {
            let (ids, next) = shelf_products(read, &shelf, after, limit)?.expect("the shelf is there");
            let titles: Vec<String> =
                ids.iter().map(|id| Ok(crate::queries::bare_product(read, *id)?.title)).collect::<kernel::Result<_>>()?;
            Ok((titles, next))
        });
        let (page, next) = read.await.unwrap();
        assert!(page.len() <= limit as usize);
        titles.extend(page);
        after = next;
        if after.is_none() {
            return titles;
        }
    }
}

fn in_category(slug: &str) -> Shelf {
    Shelf::Category(slug.to_owned())
}

fn collected(slug: &str) -> Shelf {
    Shelf::Collection(slug.to_owned())
}

testkit::both_engines! {
    setup: crate::tests::setup;

    async fn a_tree_is_moved_and_keeps_its_products(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        let clothes = category(&acme, "clothes", None).await;
        let shirts = category(&acme, "shirts", Some(&clothes)).await;
        let linen = category(&acme, "linen", Some(&shirts)).await;
        let sale = category(&acme, "sale", None).await;
        for n in 0..5 {
            let places = [[&clothes, &linen], [&linen, &sale], [&shirts, &linen], [&sale, &sale], [&shirts, &shirts]][n];
            product(&acme, &format!("p{n}"), json!({ "category_ids": places })).await;
        }
        for limit in [1, 2, 10] {
            assert_eq!(on_shelf(&app, in_category("clothes"), limit).await, ["p4", "p2", "p1", "p0"]);
            assert_eq!(on_shelf(&app, in_category("linen"), limit).await, ["p2", "p1", "p0"]);
            assert_eq!(on_shelf(&app, in_category("sale"), limit).await, ["p3", "p1"]);
        }
        let path = |id: &str| format!("/api/v1/catalog/categories/{id}");
        let before = acme.get(path(&linen)).send().await.expect(200);
        assert_eq!((&before.json["parent_id"], &before.json["depth"]), (&json!(shirts), &json!(3)));

        // Not below itself, not below what is not there, not under a slug that is taken.
        for below in [&clothes, &linen] {
            acme.patch(path(&clothes)).json(&json!({ "parent_id": below })).send().await.expect_problem(409, "catalog.category_cycle");
        }
        let nowhere = CategoryId::from_i64(1).to_string();
        assert!(acme.patch(path(&clothes)).json(&json!({ "parent_id": nowhere })).send().await.expect_problem(400, "request.invalid").names_field("parent_id"));
        acme.patch(path(&sale)).json(&json!({ "slug": "linen" })).send().await.expect_problem(409, "catalog.slug_taken");

        // With all that is below it.
        acme.patch(path(&shirts)).if_match(2).json(&json!({ "parent_id": sale })).send().await.expect(412);
        let moved = acme.patch(path(&shirts)).if_match(1).json(&json!({ "parent_id": sale, "position": 3 })).send().await.expect(200);
        assert_eq!((moved.header("etag"), &moved.json["parent_id"], &moved.json["depth"]), ("\"2\"", &json!(sale), &json!(2)));
        let below = acme.get(path(&linen)).send().await.expect(200);
        assert_eq!((&below.json["parent_id"], &below.json["depth"]), (&json!(shirts), &json!(3)));
        assert_eq!([before.header("etag"), below.header("etag")], ["\"1\"", "\"2\""], "how deep it is may have changed");
        assert_eq!(on_shelf(&app, in_category("clothes"), 2).await, ["p0"]);
        assert_eq!(on_shelf(&app, in_category("sale"), 2).await, ["p4", "p3", "p2", "p1", "p0"]);
        acme.patch(path(&shirts)).json(&json!({ "parent_id": null })).send().await.expect(200);
        let tree = app.store().read(app.tenant("acme"), shop_categories).await.unwrap();
        let tree: Vec<(&str, bool)> = tree.iter().map(|c| (c.slug.as_str(), c.parent_id.is_some())).collect();
        assert_eq!(tree, [("clothes", false), ("sale", false), ("shirts", false), ("linen", true)]);
        let list = acme.get("/api/v1/catalog/categories?limit=3").send().await.expect(200);
        let rest = acme.get(format!("/api/v1/catalog/categories?cursor={}", list.text("next_cursor"))).send().await.expect(200);
        assert_eq!([column(&list, "slug"), column(&rest, "slug")].concat(), ["clothes", "shirts", "linen", "sale"]);

        // Only what is empty goes.
        acme.delete(path(&shirts)).send().await.expect_problem(409, "catalog.category_not_empty");
        acme.delete(path(&linen)).send().await.expect_problem(409, "catalog.category_not_empty");
        let empty = category(&acme, "empty", None).await;
        acme.delete(path(&empty)).if_match(1).send().await.expect(204);
        acme.get(path(&empty)).send().await.expect_problem(404, "catalog.category_not_found");
        let kinds = events(&app, "acme").await;
        assert_eq!(kinds.iter().filter(|kind| *kind == "category.updated").count(), 2);
        assert_eq!(kinds.last().unwrap(), "category.deleted");
    }

    async fn a_tree_is_bounded_in_depth(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        let mut chain = vec![category(&acme, "level-1", None).await];
        for level in 2..=8 {
            chain.push(category(&acme, &format!("level-{level}"), chain.last().map(String::as_str)).await);
        }
        let ninth = json!({ "slug": "level-9", "title": "x", "parent_id": chain[7] });
        acme.post("/api/v1/catalog/categories").json(&ninth).send().await.expect_problem(409, "catalog.tree_too_deep");
        let root = category(&acme, "root", None).await;
        let move_below = |id: &str, parent: &str| acme.patch(format!("/api/v1/catalog/categories/{id}")).json(&json!({ "parent_id": parent })).send();
        move_below(&chain[0], &root).await.expect_problem(409, "catalog.tree_too_deep");
        move_below(&chain[1], &root).await.expect(200);
        for (body, field) in [
            (json!({ "slug": "Shirts", "title": "x" }), "slug"),
            (json!({ "slug": "a--b", "title": "x" }), "slug"),
            (json!({ "slug": "a", "title": "" }), "title"),
            (json!({ "slug": "a", "title": "x", "position": -1 }), "position"),
        ] {
            assert!(acme.post("/api/v1/catalog/categories").json(&body).send().await.expect_problem(400, "request.invalid").names_field(field));
        }
    }

    async fn collections_are_chosen_or_follow_a_rule(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        let clothes = category(&acme, "clothes", None).await;
        let shirts = category(&acme, "shirts", Some(&clothes)).await;
        make(&acme, "catalog/attributes", "attribute_id", json!({ "code": "material", "title": "Material", "kind": "choice", "choices": ["linen", "wool"] })).await;
        let mut ids = Vec::new();
        for n in 0..6 {
            let more = json!({
                "tags": if n % 2 == 0 { json!(["summer"]) } else { json!([]) },
                "category_ids": if n < 4 { json!([shirts]) } else { json!([]) },
                "attributes": if n == 5 { json!({}) } else { json!({ "material": if n < 3 { "linen" } else { "wool" } }) },
                "variants": [{ "sku": format!("s{n}"), "prices": [{ "currency": "EUR", "price": n.to_string() }] }],
            });
            ids.push(product(&acme, &format!("p{n}"), more).await);
        }
        make(&acme, "catalog/attributes", "attribute_id", json!({ "code": "width", "title": "Width", "kind": "number" })).await;
        acme.patch(format!("/api/v1/products/{}", ids[0])).json(&json!({ "attributes": { "width": 12 } })).send().await.expect(200);
        let told = events(&app, "acme").await.len();
        acme.patch(format!("/api/v1/products/{}", ids[0])).json(&json!({ "attributes": { "width": 12.0 } })).send().await.expect(200);
        assert_eq!(events(&app, "acme").await.len(), told, "it is the same number");
        let chosen = make(&acme, "catalog/collections", "collection_id", json!({ "slug": "window", "title": "Window" })).await;
        let products = format!("/api/v1/catalog/collections/{chosen}/products");
        let choose = |list: Vec<&String>| acme.put(&products).json(&json!({ "product_ids": list }));
        let now = choose(vec![&ids[3], &ids[0], &ids[4]]).if_match(1).send().await.expect(200);
        assert_eq!(now.header("etag"), "\"2\"");
        for limit in [1, 2, 3, 10] {
            assert_eq!(on_shelf(&app, collected("window"), limit).await, ["p3", "p0", "p4"]);
        }
        let before = events(&app, "acme").await.len();
        choose(vec![&ids[3], &ids[0], &ids[4]]).send().await.expect(200);
        assert_eq!(events(&app, "acme").await.len(), before, "the same again is no change");
        choose(vec![&ids[1], &ids[3]]).if_match(1).send().await.expect(412);
        choose(vec![&ids[1], &ids[3]]).if_match(2).send().await.expect(200);
        assert_eq!(on_shelf(&app, collected("window"), 10).await, ["p1", "p3"]);
        let listed = acme.get(format!("{products}?limit=1")).send().await.expect(200);
        assert_eq!(column(&listed, "product_id"), [ids[1].clone()]);
        assert!(choose(vec![&ids[1], &ids[1]]).send().await.expect_problem(400, "request.invalid").names_field("product_ids"));
        let nobody = ProductId::from_i64(1).to_string();
        assert!(choose(vec![&ids[1], &nobody]).send().await.expect_problem(400, "request.invalid").names_field("product_ids[1]"));
        assert!(choose(vec![&ids[0]; 1_001]).send().await.expect_problem(400, "request.invalid").names_field("product_ids"));

        let rules: [(&str, Value, &[&str]); 8] = [
            ("by-tag", json!({ "tags": ["summer"] }), &["p4", "p2", "p0"]),
            ("by-category", json!({ "category_id": clothes }), &["p3", "p2", "p1", "p0"]),
            ("by-value", json!({ "attributes": { "material": "wool" } }), &["p4", "p3"]),
            ("by-number", json!({ "attributes": { "width": 12.0 } }), &["p0"]),
            ("by-price", json!({ "price": { "currency": "EUR", "at_least": "2", "at_most": "4" } }), &["p4", "p3", "p2"]),
            ("by-dollars", json!({ "price": { "currency": "USD" } }), &[]),
            ("by-status", json!({ "status": "draft" }), &[]),
            ("by-all", json!({ "tags": ["summer"], "category_id": shirts, "price": { "currency": "EUR", "at_least": "1" } }), &["p2"]),
        ];
        let mut by_tag = String::new();
        for (slug, rule, expected) in rules {
            let id = make(&acme, "catalog/collections", "collection_id", json!({ "slug": slug, "title": slug, "rule": rule })).await;
            for limit in [1, 2, 10] {
                assert_eq!(on_shelf(&app, collected(slug), limit).await, expected, "{slug} by {limit}");
            }
            if slug == "by-tag" {
                by_tag = format!("/api/v1/catalog/collections/{id}");
            }
        }
        // It holds at once for what changes.
        acme.patch(format!("/api/v1/products/{}", ids[1])).json(&json!({ "tags": ["summer", "new"] })).send().await.expect(200);
        assert_eq!(on_shelf(&app, collected("by-tag"), 10).await, ["p4", "p2", "p1", "p0"]);
        let narrowed = acme.patch(&by_tag).if_match(1).json(&json!({ "rule": { "tags": ["new"] } })).send().await.expect(200);
        assert_eq!(narrowed.json["rule"], json!({ "tags": ["new"] }));
        assert_eq!(on_shelf(&app, collected("by-tag"), 10).await, ["p1"]);

        // One kind is not the other.
        acme.put(format!("{by_tag}/products")).json(&json!({ "product_ids": [] })).send().await.expect_problem(409, "catalog.collection_kind");
        acme.patch(format!("/api/v1/catalog/collections/{chosen}")).json(&json!({ "rule": { "tags": ["x"] } })).send().await.expect_problem(409, "catalog.collection_kind");
        for (rule, field) in [
            (json!({}), "rule"),
            (json!({ "category_id": CategoryId::from_i64(1).to_string() }), "rule.category_id"),
            (json!({ "tags": [" x"] }), "rule.tags[0]"),
            (json!({ "price": { "currency": "EUR", "at_least": "-1" } }), "rule.price.at_least"),
        ] {
            let body = json!({ "slug": "wrong", "title": "x", "rule": rule });
            assert!(acme.post("/api/v1/catalog/collections").json(&body).send().await.expect_problem(400, "request.invalid").names_field(field), "{rule}");
        }
        acme.post("/api/v1/catalog/collections").json(&json!({ "slug": "window", "title": "x" })).send().await.expect_problem(409, "catalog.slug_taken");
        acme.delete(format!("/api/v1/catalog/collections/{chosen}")).send().await.expect(204);
        acme.get(&products).send().await.expect_problem(404, "catalog.collection_not_found");
        acme.get(format!("/api/v1/products/{}", ids[1])).send().await.expect(200);
    }

    async fn values_are_checked_against_their_attributes(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        let define = |code: &str, kind: &str, choices: Value| acme.post("/api/v1/catalog/attributes").json(&json!({ "code": code, "title": code, "kind": kind, "choices": choices }));
        for kind in ["text", "number", "boolean", "date"] {
            define(kind, kind, json!([])).send().await.expect(201);
        }
        let colour = define("colour", "choice", json!(["red", "blue"])).send().await.expect(201);
        define("colour", "text", json!([])).send().await.expect_problem(409, "catalog.attribute_taken");
        assert!(define("size", "choice", json!([])).send().await.expect_problem(400, "request.invalid").names_field("choices"));
        assert!(define("size", "text", json!(["S"])).send().await.expect_problem(400, "request.invalid").names_field("choices"));
        let listed = acme.get("/api/v1/catalog/attributes").send().await.expect(200);
        assert_eq!(column(&listed, "code"), ["boolean", "colour", "date", "number", "text"]);

        let values = json!({ "text": "linen", "number": 12.5, "boolean": false, "date": "2026-02-28", "colour": "red" });
        let media = json!([{ "kind": "image", "url": "https://cdn.example/1.png", "alt": "Front" }, { "kind": "video", "key": "films/2.mp4", "alt": "" }]);
        let shirt = product(&acme, "Shirt", json!({ "attributes": values, "media": media, "tags": ["b", "a"],
            "variants": [{ "sku": "S-M", "attributes": { "number": 1 } }] })).await;
        let path = format!("/api/v1/products/{shirt}");
        let read = acme.get(&path).send().await.expect(200);
        assert_eq!((&read.json["attributes"], &read.json["media"], &read.json["tags"]), (&values, &media, &json!(["b", "a"])));
        assert_eq!(read.json["variants"][0]["attributes"], json!({ "number": 1 }));
        let id = shirt.parse().unwrap();
        let detail = app.store().read(app.tenant("acme"), move |read| crate::queries::product(read, id)).await.unwrap();
        let shown = crate::shop::shown(&detail, &Hidden::default(), app.clock().now()).unwrap();
        assert_eq!((shown.media.len(), shown.attributes.len(), shown.variants[0].attributes.len()), (2, 5, 1));

        // What is not for the public is not shown to it.
        let number = listed.json["data"][3]["attribute_id"].as_str().unwrap();
        let number = acme.patch(format!("/api/v1/catalog/attributes/{number}")).if_match(1).json(&json!({ "storefront": false })).send().await.expect(200);
        assert_eq!((&number.json["storefront"], number.header("etag"), &colour.json["storefront"]), (&json!(false), "\"2\"", &json!(true)));
        let secret = json!({ "code": "supplier", "title": "Supplier", "kind": "text", "storefront": false });
        make(&acme, "catalog/attributes", "attribute_id", secret).await;
        let hidden = app.store().read(app.tenant("acme"), crate::attributes::hidden).await.unwrap();
        assert_eq!(hidden.0.iter().collect::<Vec<_>>(), ["number", "supplier"]);
        let shown = crate::shop::shown(&detail, &hidden, app.clock().now()).unwrap();
        assert_eq!((shown.attributes.keys().any(|code| code == "number"), shown.attributes.len(), shown.variants[0].attributes.len()), (false, 4, 0));

        // What is left out stays; null takes away; a wrong one is named and nothing is taken.
        let changed = acme.patch(&path).json(&json!({ "attributes": { "number": null, "colour": "blue" } })).send().await.expect(200);
        assert_eq!(changed.json["attributes"], json!({ "text": "linen", "boolean": false, "date": "2026-02-28", "colour": "blue" }));
        let variant = format!("/api/v1/variants/{}", read.json["variants"][0]["variant_id"].as_str().unwrap());
        for (path, body, field) in [
            (&path, json!({ "attributes": { "colour": "green" } }), "attributes.colour"),
            (&path, json!({ "attributes": { "boolean": "yes", "text": "x" } }), "attributes.boolean"),
            (&path, json!({ "attributes": { "nothing": 1 } }), "attributes.nothing"),
            (&variant, json!({ "attributes": { "date": "2026-02-30" } }), "attributes.date"),
            (&path, json!({ "tags": ["a", "a"] }), "tags[1]"),
            (&path, json!({ "tags": vec!["x"; 31] }), "tags"),
            (&path, json!({ "media": [{ "kind": "image" }] }), "media[0].url"),
            (&path, json!({ "media": vec![json!({ "kind": "image", "key": "x" }); 51] }), "media"),
            (&path, json!({ "category_ids": [CategoryId::from_i64(1).to_string()] }), "category_ids"),
            (&path, json!({ "publish_at": "2027-01-01T00:00:00Z", "unpublish_at": "2027-01-01T00:00:00Z" }), "unpublish_at"),
        ] {
            let problem = acme.patch(path).json(&body).send().await.expect_problem(400, "request.invalid");
            assert!(problem.names_field(field), "{field}: {}", problem.json);
        }
        assert_eq!(acme.get(&path).send().await.expect(200).json, changed.json);

        // Choices are added, and none goes.
        let path = colour.header("location").to_owned();
        acme.patch(&path).json(&json!({ "choices": ["red"] })).send().await.expect_problem(409, "catalog.choice_kept");
        let more = acme.patch(&path).if_match(1).json(&json!({ "choices": ["green", "blue", "red"], "title": "Colour" })).send().await.expect(200);
        assert_eq!((more.header("etag"), &more.json["choices"]), ("\"2\"", &json!(["green", "blue", "red"])));
    }

    async fn a_schedule_is_kept_by_the_clock_and_told_once(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        let start = app.clock().now();
        let at = |seconds: i64| start.plus_ms(seconds * 1_000).to_string();
        let id = product(&acme, "Launch", json!({ "publish_at": at(100), "unpublish_at": at(200) })).await;
        let draft = product(&acme, "Draft", json!({ "status": "draft", "publish_at": at(100) })).await;
        let moved = product(&acme, "Moved", json!({ "publish_at": at(100) })).await;
        acme.patch(format!("/api/v1/products/{moved}")).json(&json!({ "publish_at": at(900) })).send().await.expect(200);
        let variant: crate::api::VariantId =
            acme.get(format!("/api/v1/products/{id}")).send().await.expect(200).json["variants"][0]["variant_id"].as_str().unwrap().parse().unwrap();
        let for_sale = || {
            let (store, tenant, now, id, variant) = (app.store().clone(), app.tenant("acme"), app.clock().now(), id.parse().unwrap(), variant);
            async move {
                let detail = store.read(tenant, move |read| crate::queries::product(read, id)).await.unwrap();
                let shown = crate::shop::shown(&detail, &Hidden::default(), now).is_some();
                let sold = store.read(tenant, move |read| variant_snapshots(read, &[variant])).await.unwrap()[&variant].for_sale;
                let listed = store.read(tenant, move |read| crate::api::shop_products(read, "", None, 10)).await.unwrap().contains(&id);
                assert_eq!((shown, sold), (listed, listed));
                shown
            }
        };
        let told = || async { events(&app, "acme").await.into_iter().filter(|kind| kind.ends_with("published")).collect::<Vec<_>>() };
        assert!(!for_sale().await);
        app.advance_ms(99_000).await;
        assert!(!for_sale().await);
        app.advance_ms(1_000).await;
        assert!(for_sale().await, "at the moment itself, remembered or not");
        app.advance_ms(20_000).await;
        assert_eq!(told().await, ["product.published"], "nothing is told of a draft, nor of what was put off");
        app.advance_ms(80_000).await;
        assert!(!for_sale().await);
        app.advance_ms(20_000).await;
        assert_eq!(told().await, ["product.published", "product.unpublished"]);
        app.advance_ms(60_000).await;
        assert_eq!(told().await.len(), 2, "once");
        acme.get(format!("/api/v1/products/{draft}")).send().await.expect(200);
    }

    async fn a_product_tells_who_changed_what(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        let id = product(&acme, "Shirt", json!({})).await;
        let path = format!("/api/v1/products/{id}");
        let variant = acme.get(&path).send().await.expect(200).json["variants"][0]["variant_id"].as_str().unwrap().to_owned();
        acme.patch(&path).json(&json!({ "title": "Linen shirt", "tags": ["new"] })).send().await.expect(200);
        acme.patch(&path).json(&json!({ "title": "Linen shirt" })).send().await.expect(200);
        acme.put(format!("/api/v1/variants/{variant}/prices/EUR")).json(&json!({ "price": "12" })).send().await.expect(200);
        acme.post("/api/v1/catalog/import").raw("text/csv", "sku,title,currency,price\nShirt,Shirt M,EUR,13\n").send().await.expect(200);
        let first = acme.get(format!("{path}/changes?limit=2")).send().await.expect(200);
        let rest = acme.get(format!("{path}/changes?cursor={}", first.text("next_cursor"))).send().await.expect(200);
        let all: Vec<Value> = [first.json["data"].as_array().unwrap().clone(), rest.json["data"].as_array().unwrap().clone()].concat();
        let told: Vec<(&str, &Value, &Value)> = all.iter().map(|change| (change["what"].as_str().unwrap(), &change["variant_id"], &change["changes"])).collect();
        let price = json!([{ "field": "prices.EUR", "from": "10", "to": "12" }]);
        let product = json!([{ "field": "title", "from": "Shirt", "to": "Linen shirt" }, { "field": "tags", "from": [], "to": ["new"] }]);
        let (file, nothing, variant) = (json!([{ "field": "prices.EUR" }, { "field": "title" }]), json!([]), json!(variant));
        assert_eq!(told, [("imported", &Value::Null, &file), ("updated", &variant, &price), ("updated", &Value::Null, &product), ("created", &Value::Null, &nothing)]);
        for change in &all {
            assert!(change["actor_kind"].is_string() && change["request_id"].is_string(), "{change}");
        }
        let stranger = app.client("other", &["*"]);
        stranger.get(format!("{path}/changes")).send().await.expect_problem(404, "catalog.product_not_found");
    }

    async fn what_one_tenant_arranges_the_other_does_not_see(app: TestApp) {
        let (acme, other) = (app.client("acme", &["*"]), app.client("other", &["*"]));
        let shirts = category(&acme, "shirts", None).await;
        let id = product(&acme, "Shirt", json!({ "category_ids": [shirts] })).await;
        let window = make(&acme, "catalog/collections", "collection_id", json!({ "slug": "window", "title": "Window" })).await;
        let colour = make(&acme, "catalog/attributes", "attribute_id", json!({ "code": "colour", "title": "Colour", "kind": "text" })).await;
        let theirs = product(&other, "Theirs", json!({})).await;
        for path in [format!("categories/{shirts}"), format!("collections/{window}"), format!("collections/{window}/products"), format!("attributes/{colour}")] {
            acme.get(format!("/api/v1/catalog/{path}")).send().await.expect(200);
            other.get(format!("/api/v1/catalog/{path}")).send().await.expect(404);
        }
        for list in ["categories", "collections", "attributes"] {
            assert_eq!(other.get(format!("/api/v1/catalog/{list}")).send().await.expect(200).json["data"], json!([]));
        }
        other.patch(format!("/api/v1/catalog/categories/{shirts}")).json(&json!({ "title": "x" })).send().await.expect(404);
        other.delete(format!("/api/v1/catalog/categories/{shirts}")).send().await.expect(404);
        other.delete(format!("/api/v1/catalog/collections/{window}")).send().await.expect(404);
        other.patch(format!("/api/v1/catalog/attributes/{colour}")).json(&json!({ "title": "x" })).send().await.expect(404);
        let place = other.patch(format!("/api/v1/products/{theirs}")).json(&json!({ "category_ids": [shirts] })).send().await;
        assert!(place.expect_problem(400, "request.invalid").names_field("category_ids"));
        let own = make(&other, "catalog/collections", "collection_id", json!({ "slug": "window", "title": "Window" })).await;
        let chosen = other.put(format!("/api/v1/catalog/collections/{own}/products")).json(&json!({ "product_ids": [id] })).send().await;
        assert!(chosen.expect_problem(400, "request.invalid").names_field("product_ids[0]"));
        let reader = app.client("acme", &["catalog.read"]);
        assert_eq!(reader.post("/api/v1/catalog/categories").json(&json!({ "slug": "x", "title": "x" })).send().await.status, 403);
    }
}
