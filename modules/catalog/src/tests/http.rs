//! The HTTP API, told as stories.

use super::{column, events};
use crate::api::{CSV_HEADER, VariantId, VariantSnapshot, export_page, variant_snapshots};
use serde_json::{Value, json};
use testkit::{Client, TestApp, TestResponse};

fn shirt() -> Value {
    json!({
        "external_id": "shirt", "title": "Shirt", "description": "Linen.\nCool.", "status": "active",
        "variants": [
            { "sku": "S-M", "title": "Shirt M", "options": [{ "name": "Size", "value": "M" }], "barcode": "96385074",
              "prices": [{ "currency": "USD", "price": "30" }, { "currency": "EUR", "price": "25.5" }] },
            { "sku": "S-L", "options": [{ "name": "Size", "value": "L" }] },
        ],
    })
}

async fn create(client: &Client, product: &Value) -> TestResponse {
    client.post("/api/v1/products").json(product).send().await.expect(201)
}

/// Of each SKU, its status and its product's.
async fn statuses(client: &Client, skus: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for sku in skus {
        let variant = client.get(format!("/api/v1/variants/by-sku?sku={sku}")).send().await.expect(200);
        let product = client.get(format!("/api/v1/products?sku={sku}")).send().await.expect(200);
        found.push((variant.text("status"), product.json["data"][0]["status"].as_str().unwrap().to_owned()));
    }
    found
}

testkit::both_engines! {
    setup: crate::tests::setup;

    async fn a_product_is_made_and_read_with_its_variants_and_prices(app: TestApp) {
        let acme = app.client("acme", &["catalog.read", "catalog.write"]);
        let made = acme.post("/api/v1/products").key("k1").json(&shirt()).send().await.expect(201);
        assert_eq!(made.header("etag"), "\"1\"");
        let path = made.header("location").to_owned();
        let read = acme.get(&path).send().await.expect(200);
        assert_eq!(read.json, made.json);
        assert_eq!(read.json["variant_count"], 2);
        assert_eq!(read.json["variants"][0]["prices"], json!([{ "currency": "EUR", "price": "25.5" }, { "currency": "USD", "price": "30" }]));
        assert_eq!(read.json["variants"][1]["title"], "Shirt", "a variant without a title takes the product's");
        let expected = ["product.created", "variant.created", "price.changed", "price.changed", "variant.created"];
        assert_eq!(events(&app, "acme").await, expected);

        // The same key again: the same answer, and nothing made.
        let again = acme.post("/api/v1/products").key("k1").json(&shirt()).send().await.expect(201);
        assert_eq!(again.json, made.json);
        assert_eq!(events(&app, "acme").await.len(), 5);

        let by_sku = acme.get("/api/v1/variants/by-sku?sku=S-M").send().await.expect(200);
        assert_eq!(by_sku.json, read.json["variants"][0]);
        acme.get("/api/v1/variants/by-sku?sku=s-m").send().await.expect_problem(404, "catalog.variant_not_found");
        let variant = acme.get(format!("/api/v1/variants/{}", by_sku.text("variant_id"))).send().await.expect(200);
        assert_eq!(variant.json, by_sku.json);
        assert_eq!(variant.header("etag"), "\"1\"");
    }

    async fn a_taken_sku_or_external_id_is_a_conflict_and_nothing_is_left_behind(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        create(&acme, &shirt()).await;
        let before = events(&app, "acme").await;
        let other = json!({ "title": "Other", "variants": [{ "sku": "new" }, { "sku": "S-L" }] });
        acme.post("/api/v1/products").json(&other).send().await.expect_problem(409, "catalog.sku_taken");
        acme.post("/api/v1/products").json(&json!({ "title": "Other", "external_id": "shirt" })).send().await.expect_problem(409, "catalog.external_id_taken");
        acme.get("/api/v1/variants/by-sku?sku=new").send().await.expect(404);
        assert_eq!(events(&app, "acme").await, before);

        // Upper and lower case differ.
        let lower = create(&acme, &json!({ "title": "Lower", "variants": [{ "sku": "s-m" }] })).await;
        let id = lower.json["variants"][0]["variant_id"].as_str().unwrap();
        acme.patch(format!("/api/v1/variants/{id}")).json(&json!({ "sku": "S-M" })).send().await.expect_problem(409, "catalog.sku_taken");
        let product = lower.text("product_id");
        acme.patch(format!("/api/v1/products/{product}")).json(&json!({ "external_id": "shirt" })).send().await.expect_problem(409, "catalog.external_id_taken");
        acme.post(format!("/api/v1/products/{product}/variants")).json(&json!({ "sku": "S-M" })).send().await.expect_problem(409, "catalog.sku_taken");
        let read = acme.get(format!("/api/v1/products/{product}")).send().await.expect(200);
        assert_eq!((&read.json["variant_count"], &read.json["version"]), (&json!(1), &json!(1)));
    }

    async fn changes_ask_for_the_version_that_was_seen(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        let made = create(&acme, &shirt()).await;
        let path = made.header("location").to_owned();
        let before = events(&app, "acme").await.len();

        app.clock().advance_ms(1_000);
        let changed = acme.patch(&path).if_match(1).json(&json!({ "title": "Linen shirt" })).send().await.expect(200);
        assert_eq!((changed.header("etag"), changed.text("title").as_str()), ("\"2\"", "Linen shirt"));
        assert_ne!(changed.json["updated_at"], made.json["updated_at"]);
        assert_eq!(changed.json, acme.get(&path).send().await.expect(200).json);
        acme.patch(&path).if_match(1).json(&json!({ "title": "Late" })).send().await.expect_problem(412, "request.precondition_failed");

        // What is there already is no change and no event.
        let same = acme.patch(&path).if_match(2).json(&json!({ "title": "Linen shirt" })).send().await.expect(200);
        assert_eq!(same.json, changed.json);
        assert_eq!(events(&app, "acme").await[before..], ["product.updated"]);

        // A variant and a price have versions of their own, and the product's rises with them.
        let variant = format!("/api/v1/variants/{}", made.json["variants"][0]["variant_id"].as_str().unwrap());
        acme.patch(&variant).if_match(1).json(&json!({ "barcode": null, "status": "archived" })).send().await.expect(200);
        let price = |amount: &str| acme.put(format!("{variant}/prices/EUR")).json(&json!({ "price": amount }));
        price("26").if_match(1).send().await.expect_problem(412, "request.precondition_failed");
        let priced = price("26").if_match(2).send().await.expect(200);
        assert_eq!((priced.header("etag"), &priced.json["prices"][0]["price"], &priced.json["barcode"]), ("\"3\"", &json!("26"), &Value::Null));
        price("26.00").send().await.expect(200);
        acme.put(format!("{variant}/prices/JPY")).json(&json!({ "price": "4000" })).send().await.expect(200);
        let read = acme.get(&path).send().await.expect(200);
        assert_eq!(read.header("etag"), "\"5\"");
        assert_eq!(read.json["variants"][0]["version"], 4);
        assert_eq!(read.json["variants"][0]["prices"].as_array().unwrap().len(), 3);
        assert_eq!(events(&app, "acme").await[before..], ["product.updated", "variant.updated", "price.changed", "price.changed"]);
    }

    async fn goods_have_a_tax_class_and_a_weight(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        let box_of = json!({ "length_mm": 300, "width_mm": 200, "height_mm": 20 });
        let book = json!({ "title": "Book", "status": "active", "tax_class": "reduced", "variants": [
            { "sku": "paper", "weight_g": 400, "dimensions": box_of }, { "sku": "audio", "tax_class": "standard" }] });
        let made = create(&acme, &book).await;
        let ids: Vec<VariantId> =
            made.json["variants"].as_array().unwrap().iter().map(|v| v["variant_id"].as_str().unwrap().parse().unwrap()).collect();
        let goods = |app: &TestApp| {
            let (store, tenant, ids) = (app.store().clone(), app.tenant("acme"), ids.clone());
            async move {
                let known = store.read(tenant, move |read| variant_snapshots(read, &ids).map(|found| (ids, found))).await.unwrap();
                let of = |id: &VariantId| {
                    let VariantSnapshot { tax_class, weight_g, dimensions, .. } = &known.1[id];
                    (tax_class.clone(), *weight_g, dimensions.map(|d| [d.length_mm, d.width_mm, d.height_mm]))
                };
                known.0.iter().map(of).collect::<Vec<_>>()
            }
        };
        let class = |name: &str| Some(name.to_owned());
        let paper = (class("reduced"), Some(400), Some([300, 200, 20]));
        assert_eq!(goods(&app).await, [paper.clone(), (class("standard"), None, None)]);

        // The product's class is that of variants that have none of their own; null takes a value away.
        let path = made.header("location").to_owned();
        acme.patch(&path).json(&json!({ "tax_class": "books" })).send().await.expect(200);
        let audio = format!("/api/v1/variants/{}", ids[1]);
        let changed = acme.patch(&audio).json(&json!({ "tax_class": null, "weight_g": 5 })).send().await.expect(200);
        assert_eq!((&changed.json["tax_class"], &changed.json["weight_g"]), (&Value::Null, &json!(5)));
        assert_eq!(acme.get(&path).send().await.expect(200).json["variants"][1], changed.json);
        assert_eq!(goods(&app).await[1], (class("books"), Some(5), None));
        acme.patch(&path).json(&json!({ "tax_class": null })).send().await.expect(200);
        assert_eq!(goods(&app).await[0], (None, Some(400), paper.2));

        // A file says the same, and an empty cell leaves what is there.
        let file = "sku,tax_class,weight_g,length_mm,width_mm,height_mm\npaper,reduced,410,,,\naudio,,,1,2,3\nnew,exempt,7,4,5,6\n";
        let report = acme.post("/api/v1/catalog/import").raw("text/csv", file).send().await.expect(200);
        assert_eq!((&report.json["created"], &report.json["updated"]), (&json!(1), &json!(2)));
        assert_eq!(goods(&app).await, [(class("reduced"), Some(410), Some([300, 200, 20])), (None, Some(5), Some([1, 2, 3]))]);
        let new = acme.get("/api/v1/variants/by-sku?sku=new").send().await.expect(200);
        assert_eq!((&new.json["tax_class"], &new.json["weight_g"], &new.json["dimensions"]["height_mm"]), (&json!("exempt"), &json!(7), &json!(6)));
        let again = acme.post("/api/v1/catalog/import").raw("text/csv", file).send().await.expect(200);
        assert_eq!(again.json["unchanged"], 3);
    }

    async fn a_product_is_archived_once_and_is_no_draft_again(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        let path = create(&acme, &shirt()).await.header("location").to_owned();
        let before = events(&app, "acme").await.len();
        for _ in 0..2 {
            let archived = acme.post(format!("{path}/archive")).send().await.expect(200);
            assert_eq!((archived.text("status").as_str(), archived.header("etag")), ("archived", "\"2\""));
        }
        assert_eq!(events(&app, "acme").await[before..], ["product.updated"]);
        acme.patch(&path).json(&json!({ "status": "draft" })).send().await.expect_problem(409, "catalog.product_not_draft_again");
        acme.patch(&path).json(&json!({ "status": "active" })).send().await.expect(200);
    }

    async fn a_product_has_a_bounded_number_of_variants(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        let variants: Vec<Value> = (0..99).map(|n| json!({ "sku": format!("v{n}") })).collect();
        let path = create(&acme, &json!({ "title": "Many", "variants": variants })).await.header("location").to_owned();
        let added = acme.post(format!("{path}/variants")).json(&json!({ "sku": "last" })).send().await.expect(201);
        assert_eq!(acme.get(added.header("location")).send().await.expect(200).json, added.json);
        acme.post(format!("{path}/variants")).json(&json!({ "sku": "one more" })).send().await.expect_problem(409, "catalog.too_many_variants");
        let read = acme.get(&path).send().await.expect(200);
        assert_eq!((read.json["variants"].as_array().unwrap().len(), &read.json["variant_count"]), (100, &json!(100)));
        assert_eq!(read.json["version"], 2);
    }

    async fn lists_are_paged_and_filtered(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        for (n, status) in ["active", "draft", "active", "archived", "active"].iter().enumerate() {
            app.clock().advance_ms(1_000);
            create(&acme, &json!({ "title": format!("p{n}"), "status": status, "variants": [{ "sku": format!("s{n}") }] })).await;
        }
        let list = |query: &str| acme.get(format!("/api/v1/products?{query}")).send();
        let first = list("limit=2").await.expect(200);
        assert_eq!(column(&first, "title"), ["p4", "p3"]);
        let second = list(&format!("limit=2&cursor={}", first.text("next_cursor"))).await.expect(200);
        assert_eq!(column(&second, "title"), ["p2", "p1"]);
        let last = list(&format!("limit=2&cursor={}", second.text("next_cursor"))).await.expect(200);
        assert_eq!((column(&last, "title"), &last.json["next_cursor"]), (vec!["p0".to_owned()], &Value::Null));
        assert!(first.json["data"][0].get("description").is_none());

        assert_eq!(column(&list("status=active").await.expect(200), "title"), ["p4", "p2", "p0"]);
        assert_eq!(column(&list("sku=s1").await.expect(200), "title"), ["p1"]);
        assert_eq!(column(&list("sku=s1&status=active").await.expect(200), "title"), Vec::<String>::new());
        assert_eq!(column(&list("sku=S1").await.expect(200), "title"), Vec::<String>::new());

        // In the order of change: what changes while the list is followed comes again at its end.
        let since = first.json["data"][1]["updated_at"].as_str().unwrap();
        let changed = list(&format!("limit=1&updated_since={since}")).await.expect(200);
        assert_eq!(column(&changed, "title"), ["p3"]);
        app.clock().advance_ms(1_000);
        let p0 = last.json["data"][0]["product_id"].as_str().unwrap();
        acme.patch(format!("/api/v1/products/{p0}")).json(&json!({ "title": "p0 new" })).send().await.expect(200);
        let rest = list(&format!("updated_since={since}&cursor={}", changed.text("next_cursor"))).await.expect(200);
        assert_eq!(column(&rest, "title"), ["p4", "p0 new"]);

        // A cursor belongs to its list.
        list(&format!("cursor={}", changed.text("next_cursor"))).await.expect_problem(400, "request.invalid_cursor");
        assert!(list("status=gone").await.expect_problem(400, "request.invalid").names_field("status"));
        assert!(list("updated_since=yesterday").await.expect_problem(400, "request.invalid").names_field("updated_since"));
    }

    async fn wrong_input_names_the_field(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        let product = create(&acme, &shirt()).await;
        let variant = product.json["variants"][0]["variant_id"].as_str().unwrap();
        let table = [
            (acme.post("/api/v1/products").json(&json!({})), "title"),
            (acme.post("/api/v1/products").json(&json!({ "title": "x", "price": 1 })), "price"),
            (acme.post("/api/v1/products").json(&json!({ "title": "x".repeat(301) })), "title"),
            (acme.post("/api/v1/products").json(&json!({ "title": "x", "variants": [{ "sku": "a\u{200b}" }] })), "variants[0].sku"),
            (acme.post("/api/v1/products").json(&json!({ "title": "x", "variants": [{ "sku": "a", "barcode": "96385075" }] })), "variants[0].barcode"),
            (acme.post("/api/v1/products").json(&json!({ "title": "x", "variants": [{ "sku": "a", "prices": [{ "currency": "EUR", "price": "-1" }] }] })), "variants[0].prices[0].price"),
            (acme.patch(format!("/api/v1/variants/{variant}")).json(&json!({ "options": [{ "name": "", "value": "x" }] })), "options[0].name"),
            (acme.put(format!("/api/v1/variants/{variant}/prices/EUR")).json(&json!({ "price": "-0.01" })), "price"),
            (acme.patch(format!("/api/v1/variants/{variant}")).json(&json!({ "weight_g": -1 })), "weight_g"),
            (acme.patch(format!("/api/v1/variants/{variant}")).json(&json!({ "dimensions": { "length_mm": 1, "width_mm": 0, "height_mm": 1 } })), "dimensions.width_mm"),
            (acme.patch(format!("/api/v1/variants/{variant}")).json(&json!({ "tax_class": "x".repeat(41) })), "tax_class"),
            (acme.post("/api/v1/products").json(&json!({ "title": "x", "tax_class": "" })), "tax_class"),
            (acme.get("/api/v1/products?limit=101"), "limit"),
            (acme.get("/api/v1/variants/by-sku"), "sku"),
        ];
        for (request, field) in table {
            let problem = request.send().await.expect_problem(400, "request.invalid");
            assert!(problem.names_field(field), "{field}: {}", problem.json);
        }
        for path in ["/api/v1/products/prd_1", "/api/v1/products/var_00000000001", "/api/v1/variants/x"] {
            let status = acme.get(path).send().await.status;
            assert!(status == 400 || status == 404, "{path}: {status}");
        }
    }

    async fn permissions_are_asked_for(app: TestApp) {
        let reader = app.client("acme", &["catalog.read"]);
        reader.get("/api/v1/products").send().await.expect(200);
        assert_eq!(reader.post("/api/v1/products").json(&shirt()).send().await.status, 403);
        assert_eq!(reader.post("/api/v1/catalog/import").raw("text/csv", "sku\na\n").send().await.status, 403);
        assert_eq!(app.get("/api/v1/products").send().await.status, 401);
    }

    async fn tenants_do_not_see_each_other(app: TestApp) {
        let (acme, other) = (app.client("acme", &["*"]), app.client("other", &["*"]));
        let product = create(&acme, &shirt()).await;
        let path = product.header("location").to_owned();
        let variant = format!("/api/v1/variants/{}", product.json["variants"][0]["variant_id"].as_str().unwrap());
        let sku = "/api/v1/variants/by-sku?sku=S-M";
        for hidden in [&path, &variant, &format!("{variant}/price-observations"), sku] {
            acme.get(hidden).send().await.expect(200);
            other.get(hidden).send().await.expect(404);
        }
        assert_eq!(column(&other.get("/api/v1/products").send().await.expect(200), "title"), Vec::<String>::new());
        assert_eq!(column(&other.get("/api/v1/products?sku=S-M").send().await.expect(200), "title"), Vec::<String>::new());
        other.patch(&path).json(&json!({ "title": "Mine" })).send().await.expect_problem(404, "catalog.product_not_found");
        other.post(format!("{path}/archive")).send().await.expect_problem(404, "catalog.product_not_found");
        other.post(format!("{path}/variants")).json(&json!({ "sku": "x" })).send().await.expect_problem(404, "catalog.product_not_found");
        other.patch(&variant).json(&json!({ "title": "Mine" })).send().await.expect_problem(404, "catalog.variant_not_found");
        other.put(format!("{variant}/prices/EUR")).json(&json!({ "price": "1" })).send().await.expect_problem(404, "catalog.variant_not_found");

        // The same SKUs and external ids are free in another tenant, and change nothing in the first.
        create(&other, &shirt()).await;
        other.post("/api/v1/catalog/import").raw("text/csv", "sku,title,currency,price\nS-M,Theirs,EUR,1\n").send().await.expect(200);
        assert_eq!(acme.get(&path).send().await.expect(200).json, product.json);
        create(&acme, &json!({ "title": "Second" })).await;
        let page = acme.get("/api/v1/products?limit=1").send().await.expect(200);
        let cursor = page.text("next_cursor");
        other.get(format!("/api/v1/products?cursor={cursor}")).send().await.expect_problem(400, "request.invalid_cursor");
    }

    async fn a_file_is_taken_row_by_row_with_a_report(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        let import = |kind: &str, file: &str| acme.post("/api/v1/catalog/import").raw(kind, file).send();
        let counts = |report: &TestResponse| ["rows", "accepted", "created", "updated", "unchanged", "rejected"].map(|field| report.json[field].as_u64().unwrap());
        let file = "sku,product,title,barcode,currency,price,option1_name,option1_value\n\
            T-S,tee,Tee S,,EUR,10,Size,S\n\
            T-M,tee,Tee M,,EUR,10,Size,M\n\
            T-M,tee,,,USD,12.5,,\n\
            X,,,96385075,,,,\n\
            85123A,,WHITE HANGING HEART T-LIGHT HOLDER,,GBP,2.55,,\n\
            85123a,,,,,,,\n";
        let report = import("text/csv", file).await.expect(200);
        assert_eq!(counts(&report), [6, 5, 5, 0, 0, 1]);
        let problem = json!([{ "line": 5, "field": "barcode", "code": "check_digit", "detail": "the check digit of this GTIN-8 should be 4, not 5" }]);
        assert_eq!(report.json["problems"], problem);
        let after_first = events(&app, "acme").await;
        assert_eq!(after_first.iter().filter(|kind| *kind == "product.created").count(), 3);
        assert_eq!(after_first.iter().filter(|kind| *kind == "price.changed").count(), 4);

        let tee = acme.get("/api/v1/products?sku=T-M").send().await.expect(200);
        assert_eq!((&tee.json["data"][0]["title"], &tee.json["data"][0]["variant_count"]), (&json!("tee"), &json!(2)));
        let medium = acme.get("/api/v1/variants/by-sku?sku=T-M").send().await.expect(200);
        assert_eq!(medium.json["prices"], json!([{ "currency": "EUR", "price": "10" }, { "currency": "USD", "price": "12.5" }]));
        assert_eq!(acme.get("/api/v1/variants/by-sku?sku=85123a").send().await.expect(200).text("title"), "85123a");

        // The same file again changes nothing, and no event tells of it.
        let again = import("text/csv", file).await.expect(200);
        assert_eq!(counts(&again), [6, 5, 0, 0, 5, 1]);
        assert_eq!(events(&app, "acme").await, after_first);
        assert_eq!(acme.get("/api/v1/products?sku=T-M").send().await.expect(200).json, tee.json);

        // What differs changes; a SKU does not move to another product.
        let lines = "{\"sku\":\"85123A\",\"title\":\"HEART\"}\n{\"sku\":\"T-S\",\"product\":\"other\"}\n{\"sku\":\"T-S\",\"currency\":\"EUR\",\"price\":\"11\"}\nnot json\n";
        let report = import("application/x-ndjson", lines).await.expect(200);
        assert_eq!(counts(&report), [4, 1, 0, 1, 0, 3]);
        let problems: Vec<(u64, &str)> = report.json["problems"].as_array().unwrap().iter().map(|p| (p["line"].as_u64().unwrap(), p["code"].as_str().unwrap())).collect();
        assert_eq!(problems, [(2, "other_product"), (3, "other_product"), (4, "json")]);
        assert_eq!(events(&app, "acme").await[after_first.len()..], ["product.updated", "variant.updated"]);
        let heart = acme.get("/api/v1/products?sku=85123A").send().await.expect(200);
        assert_eq!(column(&heart, "title"), ["HEART"]);
    }

    async fn what_is_not_for_sale_comes_out_of_a_file_as_it_went_in(app: TestApp) {
        let (acme, other) = (app.client("acme", &["*"]), app.client("other", &["*"]));
        create(&acme, &json!({ "title": "Draft", "external_id": "draft", "variants": [{ "sku": "d-1" }, { "sku": "d-2" }] })).await;
        create(&acme, &json!({ "title": "Gone", "status": "archived", "variants": [{ "sku": "gone" }] })).await;
        let prices = json!([{ "currency": "EUR", "price": "1" }, { "currency": "USD", "price": "2" }]);
        let sold = json!([{ "sku": "old", "status": "archived", "prices": prices }, { "sku": "new" }]);
        create(&acme, &json!({ "title": "Sold", "status": "active", "variants": sold })).await;
        let skus = ["d-1", "d-2", "gone", "old", "new"];
        let expected = [("active", "draft"), ("active", "draft"), ("active", "archived"), ("archived", "active"), ("active", "active")];
        let expected = expected.map(|(variant, product)| (variant.to_owned(), product.to_owned()));

        let (rows, _) = app.store().read(app.tenant("acme"), |read| export_page(read, None, 100)).await.unwrap().unwrap();
        let lines = std::iter::once(CSV_HEADER.to_vec()).chain(rows.iter().map(|row| row.cells()));
        let csv: String = lines.map(|cells| cells.join(",") + "\n").collect();
        let ndjson: String = rows.iter().map(|row| serde_json::to_string(row).unwrap() + "\n").collect();
        let before = events(&app, "acme").await;
        for (client, file, kind, count) in [
            (&other, &csv, "text/csv", "created"),
            (&other, &ndjson, "application/x-ndjson", "unchanged"),
            (&acme, &csv, "text/csv", "unchanged"),
            (&acme, &ndjson, "application/x-ndjson", "unchanged"),
        ] {
            let report = client.post("/api/v1/catalog/import").raw(kind, file.clone()).send().await.expect(200);
            assert_eq!((&report.json[count], &report.json["rejected"]), (&json!(6), &json!(0)), "{}", report.json);
            assert_eq!(statuses(client, &skus).await, expected);
        }
        assert_eq!(events(&app, "acme").await, before);

        // What is said of a status changes it, the product's with an event of its own.
        let told = events(&app, "other").await.len();
        let file = "sku,status,product_status\nold,active,\nd-1,,active\nd-2,,\nnew,,draft\ngone,gone,\n";
        let report = other.post("/api/v1/catalog/import").raw("text/csv", file).send().await.expect(200);
        assert_eq!((&report.json["updated"], &report.json["unchanged"]), (&json!(2), &json!(1)));
        let problems: Vec<(&Value, &Value)> = report.json["problems"].as_array().unwrap().iter().map(|p| (&p["field"], &p["code"])).collect();
        assert_eq!(problems, [(&json!("product_status"), &json!("not_draft_again")), (&json!("status"), &json!("unknown"))]);
        let now = statuses(&other, &skus).await;
        assert_eq!((now[0].1.as_str(), now[1].1.as_str(), now[2].1.as_str(), now[3].0.as_str()), ("active", "active", "archived", "active"));
        assert_eq!(events(&app, "other").await[told..], ["product.updated", "variant.updated"]);
    }

    async fn a_file_names_a_product_by_its_id_too(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        let bare = create(&acme, &json!({ "title": "Bare", "variants": [{ "sku": "b-1" }] })).await.text("product_id");
        let named = create(&acme, &json!({ "title": "Named", "external_id": "named", "variants": [{ "sku": "n-1" }] })).await.text("product_id");
        let nobody = "prd_00000000001";
        let new = format!("sku,product\nb-2,{bare}\nn-2,{named}\nx-1,{nobody}\n");
        let more = format!("sku,product\nb-1,{bare}\nb-2,{bare}\nn-1,{named}\nn-2,named\nn-3,{named}\nx-1,{nobody}\nx-2,{nobody}\n");
        for (file, created, unchanged) in [(new, 3, 0), (more, 2, 5)] {
            let report = acme.post("/api/v1/catalog/import").raw("text/csv", file).send().await.expect(200);
            assert_eq!((&report.json["created"], &report.json["unchanged"]), (&json!(created), &json!(unchanged)), "{}", report.json);
        }
        let wrong = acme.post("/api/v1/catalog/import").raw("text/csv", format!("sku,product\nb-1,{named}\n")).send().await.expect(200);
        assert_eq!(wrong.json["problems"][0]["code"], "other_product");
        for (sku, product, variants) in [("b-2", &bare, 2), ("n-2", &named, 3), ("n-3", &named, 3)] {
            let found = acme.get(format!("/api/v1/products?sku={sku}")).send().await.expect(200);
            assert_eq!((column(&found, "product_id"), &found.json["data"][0]["variant_count"]), (vec![product.clone()], &json!(variants)), "{sku}");
        }
        let made = acme.get("/api/v1/products?sku=x-2").send().await.expect(200);
        assert_eq!((column(&made, "external_id"), &made.json["data"][0]["variant_count"]), (vec![nobody.to_owned()], &json!(2)));
        assert_eq!(events(&app, "acme").await.iter().filter(|kind| *kind == "product.created").count(), 3);
    }

    async fn an_event_of_an_import_tells_the_whole_product(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        for (sku, external_id) in [("book", json!(null)), ("map", json!("map"))] {
            create(&acme, &json!({ "title": sku, "external_id": external_id, "tax_class": "reduced", "variants": [{ "sku": sku, "title": sku }] })).await;
        }
        let before = app.store().tenant_events_after(app.tenant("acme"), 0, 100).await.unwrap().len();
        let file = "sku,product,title,product_status\nbook,,Atlas,\nmap-2,map,,active\n";
        acme.post("/api/v1/catalog/import").raw("text/csv", file).send().await.expect(200);
        let events = app.store().tenant_events_after(app.tenant("acme"), 0, 100).await.unwrap();
        let told: Vec<Value> = events[before..]
            .iter()
            .filter(|event| event.kind == "product.updated")
            .map(|event| serde_json::from_str::<Value>(&event.payload).unwrap())
            .map(|payload| json!([payload["title"], payload["status"], payload["tax_class"], payload["changed"]]))
            .collect();
        assert_eq!(told, [json!(["Atlas", "draft", "reduced", ["title"]]), json!(["map", "active", "reduced", ["status"]])]);
    }

    async fn a_file_that_is_wrong_as_a_whole_is_refused(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        let import = |kind: &str, file: String| acme.post("/api/v1/catalog/import").raw(kind, file).send();
        import("application/json", "{}".to_owned()).await.expect_problem(415, "request.unsupported_media_type");
        assert!(import("text/csv", "sku,stock\na,1\n".to_owned()).await.expect_problem(400, "request.invalid").names_field("header"));
        let many: String = (0..=10_000).map(|n| format!("{n}\n")).collect();
        import("text/csv", format!("sku\n{many}")).await.expect_problem(400, "catalog.too_many_rows");
        import("text/csv", format!("sku\n{}", "x".repeat(8 * 1024 * 1024))).await.expect_problem(413, "request.too_large");
        assert_eq!(events(&app, "acme").await, Vec::<String>::new());
    }

    async fn the_largest_file_goes_through(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        let rows: String = (0..10_000).map(|n| format!("{n},Title {n},EUR,{n}.5\n")).collect();
        let file = format!("sku,title,currency,price\n{rows}");
        let report = acme.post("/api/v1/catalog/import").raw("text/csv", file.clone()).send().await.expect(200);
        assert_eq!((&report.json["created"], &report.json["rejected"]), (&json!(10_000), &json!(0)));
        let again = acme.post("/api/v1/catalog/import").raw("text/csv", file).send().await.expect(200);
        assert_eq!(again.json["unchanged"], 10_000);
    }
}
