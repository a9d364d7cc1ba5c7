//! Stories on each engine, over HTTP and by the API that other modules use.

use super::*;
use crate::api::{AmendedLine, Amendment, Change, Changes, Confirmation, Parts, Release, Return, Shipment};
use crate::{levels, reserve};
use serde_json::{Value, json};
use testkit::Client;

async fn availability(client: &Client, variant_id: VariantId) -> (Option<i64>, Option<i64>, String) {
    let shown =
        client.get(format!("/api/v1/inventory/availability?variant_ids={variant_id}")).send().await.expect(200).json["data"][0].take();
    (shown["in_stock"].as_i64(), shown["available"].as_i64(), shown["beyond"].as_str().expect("a policy").to_owned())
}

testkit::both_engines! {
    setup: setup;

    async fn an_item_is_received_reserved_shipped_and_returned(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        let item = acme.post("/api/v1/inventory/items").key("k1").json(&json!({ "sku": "MUG", "name": "Mug", "low_stock_at": 2 })).send().await.expect(201);
        let again = acme.post("/api/v1/inventory/items").key("k1").json(&json!({ "sku": "MUG", "name": "Mug", "low_stock_at": 2 })).send().await.expect(201);
        assert_eq!(item.json, again.json);
        acme.post("/api/v1/inventory/items").json(&json!({ "sku": "MUG" })).send().await.expect_problem(409, "inventory.sku_taken");
        let item = item.text("item_id");
        let place = json!({ "kind": "warehouse", "name": "North", "coordinates": { "latitude": 53.5, "longitude": 10.0 } });
        let place = acme.post("/api/v1/inventory/locations").json(&place).send().await.expect(201).text("location_id");
        let variant = "var_00000000001";
        let components = json!({ "variant_id": variant, "components": [{ "item_id": item, "quantity": 1 }] });
        let path = "/api/v1/inventory/components";
        let untracked = acme.get(format!("{path}?variant_id={variant}")).send().await.expect(200);
        assert_eq!((untracked.header("etag"), &untracked.json["components"]), ("\"1\"", &json!([])));
        let set = acme.put(path).if_match(1).json(&components).send().await.expect(200);
        acme.put(path).if_match(1).json(&components).send().await.expect_problem(412, "request.precondition_failed");
        assert_eq!(acme.get(format!("{path}?variant_id={variant}")).send().await.expect(200).json, set.json);

        let line = |kind: &str, quantity: i64| json!({ "kind": kind, "item_id": item, "location_id": place, "quantity": quantity });
        let delivery = json!({ "reference": "po-7", "lines": [line("expected", 10)] });
        acme.post("/api/v1/inventory/movements").json(&delivery).send().await.expect(201);
        let delivery = json!({ "reference": "po-7", "lines": [line("received", 6), line("damaged", 1)] });
        let entered = acme.post("/api/v1/inventory/movements").key("k2").json(&delivery).send().await.expect(201).json;
        assert_eq!((entered["data"][0]["on_hand"].as_i64(), entered["data"][0]["incoming"].as_i64(), entered["data"][1]["damaged"].as_i64()), (Some(6), Some(-6), Some(1)));
        assert_eq!(acme.post("/api/v1/inventory/movements").key("k2").json(&delivery).send().await.expect(201).json, entered);

        let wanted = |reference: &str, quantity: i64| json!({ "reference": reference, "lines": [{ "variant_id": variant, "quantity": quantity }] });
        let short = acme.post("/api/v1/inventory/reservations").json(&wanted("chk_1", 6)).send().await.expect_problem(409, "inventory.insufficient");
        assert!(short.names_field("lines[0].quantity"));
        assert_eq!(short.json["errors"][0]["detail"], "6 wanted, 5 available");
        let held = acme.post("/api/v1/inventory/reservations").json(&wanted("chk_1", 4)).send().await.expect(201);
        assert_eq!((held.json["state"].as_str(), held.json["expires_at"].as_str()), (Some("held"), Some("2026-01-05T12:15:00.000000Z")));
        let path = held.header("location").to_owned();
        // The same again is the same; other lines are not.
        assert_eq!(acme.post("/api/v1/inventory/reservations").json(&wanted("chk_1", 4)).send().await.expect(201).json, held.json);
        acme.post("/api/v1/inventory/reservations").json(&wanted("chk_1", 3)).send().await.expect_problem(409, "inventory.reference_reused");
        let levels = acme.get(format!("/api/v1/inventory/items/{item}/levels")).send().await.expect(200).json;
        let numbers = |level: &Value| ["on_hand", "reserved", "incoming", "damaged", "safety", "available"].map(|n| level[n].as_i64().expect("a number"));
        assert_eq!(numbers(&levels["data"][0]), [5, 4, 4, 1, 0, 1]);

        let confirmed = acme.post(format!("{path}/confirm")).send().await.expect(200).json;
        assert_eq!((confirmed["state"].as_str(), &confirmed["expires_at"]), (Some("confirmed"), &Value::Null));
        let part = json!({ "note": "shp_1", "lines": [{ "line": 0, "quantity": 3 }] });
        acme.post(format!("{path}/ship")).key("s1").json(&part).send().await.expect(200);
        acme.post(format!("{path}/ship")).key("s1").json(&part).send().await.expect(200);
        acme.post(format!("{path}/ship")).json(&part).send().await.expect_problem(409, "inventory.over_shipped");
        let shipped = acme.post(format!("{path}/ship")).send().await.expect(200).json;
        assert_eq!((shipped["state"].as_str(), shipped["allocations"][0]["shipped"].as_i64()), (Some("shipped"), Some(4)));
        acme.post(format!("{path}/ship")).send().await.expect_problem(409, "inventory.reservation_ended");
        acme.post("/api/v1/inventory/reservations").json(&wanted("chk_1", 4)).send().await.expect_problem(409, "inventory.reservation_ended");
        acme.post(format!("{path}/release")).send().await.expect(200);

        let back = |quantity: i64, damaged: bool| json!({ "location_id": place, "damaged": damaged, "lines": [{ "line": 0, "quantity": quantity }] });
        acme.post(format!("{path}/return")).json(&back(1, true)).send().await.expect(200);
        acme.post(format!("{path}/return")).json(&back(4, false)).send().await.expect_problem(409, "inventory.over_returned");
        acme.post(format!("{path}/return")).json(&back(3, false)).send().await.expect(200);
        let levels = acme.get(format!("/api/v1/inventory/items/{item}/levels")).send().await.expect(200).json;
        assert_eq!(numbers(&levels["data"][0]), [4, 0, 4, 2, 0, 4]);

        let page = acme.get(format!("/api/v1/inventory/items/{item}/movements?limit=4")).send().await.expect(200).json;
        let kinds = |page: &Value| page["data"].as_array().expect("a page").iter().map(|m| m["kind"].as_str().expect("a kind").to_owned()).collect::<Vec<_>>();
        assert_eq!(kinds(&page), ["returned", "returned_damaged", "shipped", "shipped"]);
        let cursor = page["next_cursor"].as_str().expect("there is more").to_owned();
        let rest = acme.get(format!("/api/v1/inventory/items/{item}/movements?limit=4&cursor={cursor}")).send().await.expect(200).json;
        assert_eq!((kinds(&rest), &rest["next_cursor"]), (vec!["damaged".to_owned(), "received".to_owned(), "expected".to_owned()], &Value::Null));
        // 5 available came down to 1: once.
        let events = Shop::new(&app, "acme").events().await;
        assert_eq!(events.iter().filter(|kind| *kind == "stock.low").count(), 1, "{events:?}");
        let variants = acme.get(format!("/api/v1/inventory/items/{item}/variants")).send().await.expect(200).json;
        assert_eq!(variants["data"], json!([{ "variant_id": variant, "quantity": 1 }]));
        let listed = acme.get("/api/v1/inventory/reservations").send().await.expect(200).json;
        assert_eq!(listed["data"][0]["reference"], "chk_1");
    }

    async fn manual_corrections_compare_and_swap(app: TestApp) {
        let shop = Shop::new(&app, "acme");
        let (item_id, location_id, _) = shop.simple("MUG", 10).await;
        let acme = app.client("acme", &["inventory.write"]);
        let set = |quantity: i64, expected: Value| json!({ "lines": [{ "kind": "corrected", "item_id": item_id, "location_id": location_id, "quantity": quantity, "expected": expected }] });
        let send = |body: Value| acme.post("/api/v1/inventory/movements").json(&body).send();
        assert!(send(set(8, Value::Null)).await.expect_problem(400, "request.invalid").names_field("lines[0].expected"));
        let differs = send(set(8, json!(9))).await.expect_problem(409, "inventory.expected_differs");
        assert_eq!(differs.json["errors"][0]["detail"], "9 expected, 10 found");
        send(set(8, json!(10))).await.expect(201);
        // Whoever comes second has not seen it.
        send(set(7, json!(10))).await.expect_problem(409, "inventory.expected_differs");
        assert_eq!(shop.level(item_id, location_id).await.on_hand, 8);
        // All or none: the second line is refused.
        let two = json!({ "lines": [{ "kind": "restocked", "item_id": item_id, "location_id": location_id, "quantity": 5 },
            { "kind": "written_off", "item_id": item_id, "location_id": location_id, "quantity": 14 }] });
        assert!(send(two).await.expect_problem(409, "inventory.below_zero").names_field("lines[1].quantity"));
        assert_eq!(shop.level(item_id, location_id).await.on_hand, 8);
        let unknown = json!({ "lines": [{ "kind": "restocked", "item_id": "itm_00000000009", "location_id": location_id, "quantity": 5 }] });
        assert!(send(unknown).await.expect_problem(400, "request.invalid").names_field("lines[0].item_id"));
        let unknown = json!({ "lines": [{ "kind": "restocked", "item_id": item_id, "location_id": "loc_00000000009", "quantity": 5 }] });
        assert!(send(unknown).await.expect_problem(400, "request.invalid").names_field("lines[0].location_id"));
    }

    async fn a_bundle_and_its_own_component_do_not_oversell(app: TestApp) {
        let shop = Shop::new(&app, "acme");
        let (mug, place, mug_alone) = shop.simple("MUG", 5).await;
        let tea = shop.item(NewItem { sku: "TEA".to_owned(), ..NewItem::default() }).await.item_id;
        shop.receive(tea, place, 50).await;
        let gift = shop.variant(&[(mug, 2), (tea, 1)]).await;
        let service = VariantId::from_i64(77);
        // 2 * 2 + 2 = 6 mugs, each line alone would do.
        let refused = shop.reserve(demand(&app, "chk_1", &[(gift, 2), (mug_alone, 2)])).await.expect_err("there are five");
        assert_eq!((refused.code(), refused.field_errors().len()), ("inventory.insufficient", 2));
        assert_eq!((shop.level(mug, place).await.reserved, shop.level(tea, place).await.reserved), (0, 0));
        let held = shop.reserve(demand(&app, "chk_1", &[(gift, 2), (mug_alone, 1), (service, 9)])).await.expect("there are five");
        let of_line = |line: u32| held.allocations.iter().filter(|a| a.line == line).map(|a| (a.item_id, a.quantity)).collect::<Vec<_>>();
        assert_eq!((of_line(0), of_line(1), of_line(2)), (vec![(mug, 4), (tea, 2)], vec![(mug, 1)], vec![]));
        let acme = app.client("acme", &["inventory.read"]);
        assert_eq!(availability(&acme, gift).await, (Some(0), Some(0), "deny".to_owned()));
        assert_eq!(availability(&acme, service).await, (None, None, "deny".to_owned()));
        // The same item from two lines ships and comes back by line.
        let ship = |lines: Vec<(u32, i64)>| shop.write(api::ship, Shipment { reference: "chk_1".to_owned(), note: String::new(), parts: Parts::Lines(lines) });
        ship(vec![(0, 1)]).await.expect("a bundle goes out");
        assert_eq!((shop.level(mug, place).await.on_hand, shop.level(tea, place).await.on_hand), (3, 49));
        let refused = ship(vec![(0, 2)]).await.expect_err("one is left");
        assert_eq!(refused.field_errors()[0].detail, "2 wanted, 1 left");
        ship(vec![(1, 1), (0, 1)]).await.expect("the rest");
        let back = Return { reference: "chk_1".to_owned(), note: String::new(), location_id: place, lines: vec![(0, 1)], damaged: false };
        let held = shop.write(api::restock, back).await.expect("a bundle comes back");
        assert_eq!(held.state, ReservationState::Shipped);
        assert_eq!((shop.level(mug, place).await.on_hand, shop.level(tea, place).await.on_hand), (2, 49));
    }

    async fn references_are_for_once_and_what_ended_is_told(app: TestApp) {
        let shop = Shop::new(&app, "acme");
        let (item, place, variant) = shop.simple("MUG", 10).await;
        let confirm = |reference: &str| shop.write(|tx, reference: &String| api::confirm(tx, reference), reference.to_owned());
        let release = |reference: &str| shop.write(|tx, reference: &String| api::release(tx, reference), reference.to_owned());
        assert_eq!((confirm("chk_0").await.unwrap(), release("chk_0").await.unwrap()), (Confirmation::Unknown, Release::Unknown));
        let first = shop.reserve(demand(&app, "chk_1", &[(variant, 4)])).await.expect("there are ten");
        let again = shop.reserve(demand(&app, "chk_1", &[(variant, 4)])).await.expect("it is there");
        assert_eq!((first, shop.level(item, place).await.reserved), (again, 4));
        assert_eq!(release("chk_1").await.unwrap(), Release::Released);
        assert_eq!(release("chk_1").await.unwrap(), Release::Ended);
        assert_eq!(confirm("chk_1").await.unwrap(), Confirmation::Released);
        assert_eq!(shop.level(item, place).await.reserved, 0);
        // Without an expiry it is confirmed at once.
        let lasting = Demand { expires_at: None, ..demand(&app, "chk_2", &[(variant, 4)]) };
        assert_eq!(shop.reserve(lasting).await.expect("there are ten").state, ReservationState::Confirmed);
        assert_eq!(confirm("chk_2").await.unwrap(), Confirmation::Confirmed);
        shop.write(api::ship, Shipment { reference: "chk_2".to_owned(), note: String::new(), parts: Parts::Lines(vec![(0, 1)]) }).await.expect("one goes out");
        assert_eq!(release("chk_2").await.unwrap(), Release::Released);
        assert_eq!((shop.level(item, place).await.reserved, shop.level(item, place).await.on_hand), (0, 9));
        // Several at once: each by itself, in their order, repeats of each other too.
        let now = kernel::Clock::now(app.clock());
        let all = [("a", 5), ("b", 5), ("a", 5), ("c", 4), ("a", 4), ("", 1), ("d", 0), ("e", 1)];
        let all: Vec<Demand> = all
            .iter()
            .map(|(reference, quantity)| Demand { reference: (*reference).to_owned(), lines: vec![(variant, *quantity)], expires_at: Some(now.plus_ms(1_000)), destination: None })
            .collect();
        let reserve = |tx: &mut Tx<'_>, all: &Vec<Demand>| {
            let outcomes = reserve::reserve_all(tx, &all.iter().collect::<Vec<_>>())?;
            Ok(outcomes.into_iter().map(|outcome| outcome.map(|reserved| reserved.reference).map_err(|error| error.code())).collect::<Vec<_>>())
        };
        let told = shop.write(reserve, all).await.expect("each is answered");
        let ok = |reference: &str| Ok(reference.to_owned());
        let invalid = Err("request.invalid");
        assert_eq!(told, [ok("a"), Err("inventory.insufficient"), ok("a"), ok("c"), Err("inventory.reference_reused"), invalid.clone(), invalid, Err("inventory.insufficient")]);
        assert_eq!(shop.level(item, place).await.available, 0);
    }

    async fn what_nobody_confirms_expires(app: TestApp) {
        let (acme, globex) = (Shop::new(&app, "acme"), Shop::new(&app, "globex"));
        let mut shops = Vec::new();
        for shop in [&acme, &globex] {
            shops.push((shop.clone(), shop.simple("MUG", 300).await));
        }
        for (shop, (_, _, variant)) in &shops {
            // More than one batch of them.
            for n in 0..120 {
                shop.reserve(demand(&app, &format!("chk_{n}"), &[(*variant, 1)])).await.expect("there are enough");
            }
            shop.write(|tx, reference: &String| api::confirm(tx, reference), "chk_5".to_owned()).await.expect("it is held");
        }
        app.advance_ms(899_000).await;
        for (shop, (item, place, _)) in &shops {
            assert_eq!(shop.level(*item, *place).await.reserved, 120);
        }
        app.advance_ms(12_000).await;
        for (shop, (item, place, variant)) in &shops {
            assert_eq!(shop.level(*item, *place).await.reserved, 1);
            assert_eq!(shop.events().await.iter().filter(|kind| *kind == "stock.reservation_expired").count(), 119);
            let told = shop.write(|tx, reference: &String| api::confirm(tx, reference), "chk_6".to_owned()).await.expect("it is known");
            assert_eq!(told, Confirmation::Expired);
            let refused = shop.reserve(demand(&app, "chk_6", &[(*variant, 1)])).await.expect_err("it has ended");
            assert_eq!(refused.code(), "inventory.reservation_ended");
        }
        // Over, but not swept yet: it still holds, and can be confirmed.
        let (shop, (item, place, variant)) = &shops[0];
        shop.reserve(demand(&app, "late", &[(*variant, 1)])).await.expect("there are enough");
        app.clock().advance_ms(900_001);
        let told = shop.write(|tx, reference: &String| api::confirm(tx, reference), "late".to_owned()).await.expect("it is known");
        assert_eq!(told, Confirmation::Confirmed);
        app.advance_ms(20_000).await;
        assert_eq!(shop.level(*item, *place).await.reserved, 2);
    }

    async fn backorders_are_promised_within_their_limit(app: TestApp) {
        let shop = Shop::new(&app, "acme");
        let promised = Some(kernel::Clock::now(app.clock()).plus_ms(86_400_000));
        let new = NewItem { sku: "NEW".to_owned(), policy: Policy::Preorder, oversell_limit: 3, promised_at: promised, ..NewItem::default() };
        let item = shop.item(new).await.item_id;
        let variant = shop.variant(&[(item, 1)]).await;
        // There is no location yet.
        assert_eq!(shop.reserve(demand(&app, "chk_0", &[(variant, 1)])).await.expect_err("nowhere").code(), "inventory.insufficient");
        let place = shop.location("Main", 0, None).await;
        let acme = app.client("acme", &["*"]);
        assert_eq!(availability(&acme, variant).await, (Some(0), Some(3), "preorder".to_owned()));
        let first = shop.reserve(demand(&app, "chk_1", &[(variant, 2)])).await.expect("within the limit");
        assert_eq!((first.allocations[0].backordered, first.promised_at, first.is_backordered()), (2, promised, true));
        assert_eq!(shop.reserve(demand(&app, "chk_2", &[(variant, 2)])).await.expect_err("one is left").code(), "inventory.insufficient");
        let level = shop.level(item, place).await;
        assert_eq!((level.on_hand, level.reserved, level.available), (0, 2, -2));
        // It can't go out before it has come.
        let ship = || shop.write(api::ship, Shipment { reference: "chk_1".to_owned(), note: String::new(), parts: Parts::Rest });
        assert_eq!(ship().await.expect_err("nothing is there").code(), "inventory.not_on_hand");
        shop.receive(item, place, 3).await;
        let second = shop.reserve(demand(&app, "chk_2", &[(variant, 3)])).await.expect("one is there, two are promised");
        assert_eq!((second.allocations[0].quantity, second.allocations[0].backordered), (3, 2));
        ship().await.expect("now it is there");
        assert_eq!(shop.level(item, place).await.available, -2);
        let events = shop.events().await;
        assert!(!events.iter().any(|kind| kind == "stock.oversold"), "{events:?}");
    }

    async fn stock_is_allocated_by_the_tenants_rules(app: TestApp) {
        let shop = Shop::new(&app, "acme");
        let item = shop.item(NewItem { sku: "MUG".to_owned(), ..NewItem::default() }).await.item_id;
        let north = shop.location("North", 20, Some(Coordinates { latitude: 53.5, longitude: 10.0 })).await;
        let south = shop.location("South", 10, Some(Coordinates { latitude: 48.1, longitude: 11.6 })).await;
        let variant = shop.variant(&[(item, 1)]).await;
        shop.receive(item, north, 10).await;
        shop.receive(item, south, 10).await;
        let to_berlin = Some(Coordinates { latitude: 52.5, longitude: 13.4 });
        let from = async |reference: &str, quantity: i64| {
            let held = shop.reserve(Demand { destination: to_berlin, ..demand(&app, reference, &[(variant, quantity)]) }).await.expect("there are enough");
            held.allocations.iter().map(|a| (a.location_id, a.quantity)).collect::<Vec<_>>()
        };
        assert_eq!(from("a", 1).await, [(south, 1)]);
        let acme = app.client("acme", &["*"]);
        let settings = acme.get("/api/v1/inventory/settings").send().await.expect(200);
        assert_eq!((settings.header("etag"), settings.json["rules"]["fewest_parcels"].as_bool()), ("\"1\"", Some(true)));
        let rules = json!({ "rules": { "fewest_parcels": false, "order": ["nearest"], "kinds": ["warehouse"] } });
        acme.put("/api/v1/inventory/settings").if_match(1).json(&rules).send().await.expect(200);
        acme.put("/api/v1/inventory/settings").if_match(1).json(&rules).send().await.expect_problem(412, "request.precondition_failed");
        assert_eq!(from("b", 1).await, [(north, 1)]);
        assert_eq!(from("c", 12).await, [(north, 9), (south, 3)]);
        // A place that is closed sells nothing more; what is reserved there goes out all the same.
        let path = format!("/api/v1/inventory/locations/{south}");
        acme.patch(&path).if_match(1).json(&json!({ "active": false })).send().await.expect(200);
        acme.patch(&path).if_match(1).json(&json!({ "active": true })).send().await.expect_problem(412, "request.precondition_failed");
        assert_eq!(availability(&acme, variant).await, (Some(0), Some(0), "deny".to_owned()));
        let parcel = shop.write(api::ship, Shipment { reference: "c".to_owned(), note: String::new(), parts: Parts::At(south) }).await.expect("a parcel");
        assert_eq!((parcel.state, parcel.locations().len()), (ReservationState::Confirmed, 2));
        let parcel = shop.write(api::ship, Shipment { reference: "c".to_owned(), note: String::new(), parts: Parts::At(north) }).await.expect("a parcel");
        assert_eq!(parcel.state, ReservationState::Shipped);
    }

    async fn low_stock_is_told_once_for_each_crossing(app: TestApp) {
        let shop = Shop::new(&app, "acme");
        let item = shop.item(NewItem { sku: "MUG".to_owned(), low_stock_at: Some(3), ..NewItem::default() }).await.item_id;
        let place = shop.location("Main", 0, None).await;
        let variant = shop.variant(&[(item, 1)]).await;
        let lows = async || shop.events().await.iter().filter(|kind| *kind == "stock.low").count();
        shop.receive(item, place, 6).await;
        for (n, told) in [0, 0, 1, 1, 1].into_iter().enumerate() {
            shop.reserve(demand(&app, &format!("chk_{n}"), &[(variant, 1)])).await.expect("there are enough");
            assert_eq!(lows().await, told, "{n}");
        }
        shop.write(|tx, _: &()| api::release(tx, "chk_0").and(api::release(tx, "chk_1")).and(api::release(tx, "chk_2")), ()).await.expect("released");
        assert_eq!(lows().await, 1);
        // Four are left: lost ones cross it, too.
        let lose = |tx: &mut Tx<'_>, (item, place, quantity): &(ItemId, LocationId, i64)| {
            let line = Change { item_id: *item, location_id: *place, kind: MovementKind::WrittenOff, quantity: *quantity, expected: None };
            levels::change(tx, &Changes { reference: "broken".to_owned(), note: String::new(), lines: vec![line] })
        };
        shop.write(lose, (item, place, 1)).await.expect("one is lost");
        assert_eq!(lows().await, 2);
        // More is lost than is nobody's: whose it was is told once.
        shop.write(lose, (item, place, 4)).await.expect("four are lost");
        shop.write(lose, (item, place, 1)).await.expect("the last one is lost");
        assert_eq!((lows().await, shop.level(item, place).await.available), (2, -2));
        assert_eq!(shop.events().await.iter().filter(|kind| *kind == "stock.oversold").count(), 1);
    }

    async fn goods_go_from_one_location_to_another(app: TestApp) {
        let shop = Shop::new(&app, "acme");
        let (item, north, variant) = shop.simple("MUG", 10).await;
        let south = shop.location("South", 5, None).await;
        shop.reserve(demand(&app, "chk_1", &[(variant, 2)])).await.expect("there are ten");
        let acme = app.client("acme", &["*"]);
        let send = |quantity: i64| json!({ "from_location_id": north, "to_location_id": south, "note": "van 1", "lines": [{ "item_id": item, "quantity": quantity }] });
        assert!(acme.post("/api/v1/inventory/transfers").json(&send(9)).send().await.expect_problem(409, "inventory.below_zero").names_field("lines[0].quantity"));
        let sent = acme.post("/api/v1/inventory/transfers").key("t1").json(&send(8)).send().await.expect(201);
        let path = sent.header("location").to_owned();
        assert_eq!(sent.json["state"], "in_transit");
        let both = async || {
            let (n, s) = (shop.level(item, north).await, shop.level(item, south).await);
            (n.on_hand, n.available, s.on_hand, s.incoming, s.damaged)
        };
        assert_eq!(both().await, (2, 0, 0, 8, 0));
        let receive = |received: i64, damaged: i64| json!({ "lines": [{ "item_id": item, "received": received, "damaged": damaged }] });
        let received = acme.post(format!("{path}/receive")).if_match(1).json(&receive(4, 1)).send().await.expect(200);
        assert_eq!((received.json["state"].as_str(), received.header("etag")), (Some("in_transit"), "\"2\""));
        acme.post(format!("{path}/receive")).if_match(1).json(&receive(1, 0)).send().await.expect_problem(412, "request.precondition_failed");
        acme.post(format!("{path}/receive")).json(&receive(4, 0)).send().await.expect_problem(409, "inventory.over_received");
        assert_eq!(both().await, (2, 0, 4, 3, 1));
        let rest = json!({ "lines": [{ "item_id": item, "received": 1 }], "rest_is_short": true });
        let received = acme.post(format!("{path}/receive")).json(&rest).send().await.expect(200).json;
        assert_eq!(received["lines"][0], json!({ "item_id": item, "quantity": 8, "received": 5, "damaged": 1, "short": 2 }));
        assert_eq!(received["state"], "received");
        assert_eq!(both().await, (2, 0, 5, 0, 1));
        acme.post(format!("{path}/receive")).json(&rest).send().await.expect_problem(409, "inventory.not_open");
        let list = acme.get("/api/v1/inventory/transfers").send().await.expect(200).json;
        assert_eq!((list["data"].as_array().map(Vec::len), &list["data"][0]), (Some(1), &acme.get(&path).send().await.expect(200).json));
        let nowhere = json!({ "from_location_id": north, "to_location_id": north, "lines": [{ "item_id": item, "quantity": 1 }] });
        assert!(acme.post("/api/v1/inventory/transfers").json(&nowhere).send().await.expect_problem(400, "request.invalid").names_field("to_location_id"));
    }

    async fn a_reservation_follows_what_it_is_for(app: TestApp) {
        let shop = Shop::new(&app, "acme");
        let (mug, place, mugs) = shop.simple("MUG", 10).await;
        let tea = shop.item(NewItem { sku: "TEA".to_owned(), ..NewItem::default() }).await.item_id;
        shop.receive(tea, place, 4).await;
        let box_of_both = shop.variant(&[(mug, 1), (tea, 2)]).await;
        shop.reserve(Demand { expires_at: None, ..demand(&app, "chk_1", &[(mugs, 3)]) }).await.expect("there are ten");
        let amend = async |lines: &[(u32, Option<VariantId>, i64)]| {
            let line = |(line, variant_id, quantity): &(u32, Option<VariantId>, i64)| AmendedLine { line: *line, variant_id: *variant_id, quantity: *quantity };
            shop.write(api::amend, Amendment { reference: "chk_1".to_owned(), lines: lines.iter().map(line).collect() }).await
        };
        let reserved = async || (shop.level(mug, place).await.reserved, shop.level(tea, place).await.reserved);
        // More of a line, and a line with a number of its own.
        let amended = amend(&[(0, Some(mugs), 4), (1, None, 1), (5, Some(box_of_both), 2)]).await.expect("there is enough");
        assert_eq!((amended.lines.len(), amended.gone_and_open(0), amended.gone_and_open(5), amended.gone_and_open(1)), (2, Some((0, 4)), Some((0, 2)), None));
        assert_eq!(reserved().await, (6, 4));
        // All of it or nothing, and the line is named by its place.
        let refused = amend(&[(0, Some(mugs), 1), (5, Some(box_of_both), 3)]).await.expect_err("four teas");
        assert_eq!((refused.code(), refused.field_errors()[0].field.as_str()), ("inventory.insufficient", "lines[1].quantity"));
        assert_eq!(reserved().await, (6, 4));
        // What one line lets go of another one can have.
        amend(&[(0, Some(mugs), 10)]).await.expect("ten mugs");
        assert_eq!(reserved().await, (10, 0));
        let ship = |quantity: i64| Shipment { reference: "chk_1".to_owned(), note: String::new(), parts: Parts::Lines(vec![(0, quantity)]) };
        shop.write(api::ship, ship(4)).await.expect("four go");
        assert_eq!(amend(&[(0, Some(mugs), 3)]).await.expect_err("four are gone").code(), "inventory.over_shipped");
        let done = amend(&[(0, Some(mugs), 4)]).await.expect("no more than that");
        assert_eq!((done.state, done.gone_and_open(0), reserved().await), (ReservationState::Shipped, Some((4, 0)), (0, 0)));
        // Another one after all.
        let more = amend(&[(0, Some(mugs), 4), (6, Some(mugs), 1)]).await.expect("six are left");
        assert_eq!((more.state, more.gone_and_open(6), reserved().await), (ReservationState::Confirmed, Some((0, 1)), (1, 0)));
        // What the variant is made of today is another thing than what is reserved.
        let set = |tx: &mut Tx<'_>, (variant, item): &(VariantId, ItemId)| api::set_components(tx, *variant, vec![Component { item_id: *item, quantity: 2 }]);
        shop.write(set, (mugs, mug)).await.expect("two in one");
        assert_eq!(amend(&[(0, Some(mugs), 5), (6, Some(mugs), 1)]).await.expect_err("changed").code(), "inventory.components_changed");
        shop.write(|tx, _: &()| api::release(tx, "chk_1"), ()).await.expect("released");
        assert_eq!(amend(&[(0, Some(mugs), 4)]).await.expect_err("released").code(), "inventory.reservation_ended");
    }

    async fn what_nobody_announced_takes_nothing_of_a_transfer(app: TestApp) {
        let shop = Shop::new(&app, "acme");
        let (item, north, _) = shop.simple("MUG", 10).await;
        let south = shop.location("South", 5, None).await;
        let acme = app.client("acme", &["*"]);
        let send = json!({ "from_location_id": north, "to_location_id": south, "lines": [{ "item_id": item, "quantity": 8 }] });
        let path = acme.post("/api/v1/inventory/transfers").json(&send).send().await.expect(201).header("location").to_owned();
        shop.receive(item, south, 5).await;
        let level = shop.level(item, south).await;
        assert_eq!((level.on_hand, level.incoming, level.in_transit), (5, 8, 8));
        // Nor can less of it be announced than was announced.
        let change = |kind, quantity| Change { item_id: item, location_id: south, kind, quantity, expected: None };
        let expect = |quantity| Changes { reference: String::new(), note: String::new(), lines: vec![change(MovementKind::Expected, quantity)] };
        assert_eq!(shop.write(levels::change, expect(-1)).await.expect_err("a transfer's").code(), "inventory.below_zero");
        shop.write(levels::change, expect(3)).await.expect("announced");
        shop.receive(item, south, 2).await;
        assert_eq!(shop.level(item, south).await.incoming, 9);
        shop.write(levels::change, expect(-1)).await.expect("not so many");
        let all = json!({ "lines": [{ "item_id": item, "received": 7 }], "rest_is_short": true });
        acme.post(format!("{path}/receive")).json(&all).send().await.expect(200);
        let level = shop.level(item, south).await;
        assert_eq!((level.on_hand, level.incoming, level.in_transit), (14, 0, 0));
    }

    async fn what_two_stock_takes_find_is_booked_once(app: TestApp) {
        let shop = Shop::new(&app, "acme");
        let (mug, place, _) = shop.simple("MUG", 10).await;
        let acme = app.client("acme", &["*"]);
        let count = async |counted: i64| {
            let begun = acme.post("/api/v1/inventory/counts").json(&json!({ "location_id": place })).send().await.expect(201);
            let path = begun.header("location").to_owned();
            let lines = json!({ "lines": [{ "item_id": mug, "counted": counted }] });
            acme.put(format!("{path}/lines")).json(&lines).send().await.expect(200);
            path
        };
        let apply = async |path: String| acme.post(format!("{path}/apply")).send().await.expect(200).json["lines"][0].clone();
        let (first, second, third) = (count(8).await, count(8).await, count(9).await);
        shop.receive(mug, place, 1).await;
        assert_eq!(apply(first).await["difference"], -2);
        assert_eq!(apply(second).await, json!({ "item_id": mug, "expected": 8, "counted": 8, "difference": 0 }));
        assert_eq!(shop.level(mug, place).await.on_hand, 9);
        // Who has found something else is believed, whatever was booked before.
        assert_eq!(apply(third).await["difference"], 1);
        assert_eq!(shop.level(mug, place).await.on_hand, 10);
        // And so it is with what somebody has corrected.
        let fourth = count(7).await;
        let change = Change { item_id: mug, location_id: place, kind: MovementKind::Corrected, quantity: 7, expected: Some(10) };
        shop.write(levels::change, Changes { reference: String::new(), note: String::new(), lines: vec![change] }).await.expect("corrected");
        assert_eq!(apply(fourth).await["difference"], 0);
        assert_eq!(shop.level(mug, place).await.on_hand, 7);
    }

    async fn a_stock_take_books_differences(app: TestApp) {
        let shop = Shop::new(&app, "acme");
        let (mug, place, variant) = shop.simple("MUG", 10).await;
        let tea = shop.item(NewItem { sku: "TEA".to_owned(), ..NewItem::default() }).await.item_id;
        let acme = app.client("acme", &["*"]);
        let begun = acme.post("/api/v1/inventory/counts").json(&json!({ "location_id": place, "note": "January" })).send().await.expect(201);
        let path = begun.header("location").to_owned();
        let counted = |mugs: i64, teas: i64| json!({ "lines": [{ "item_id": mug, "counted": mugs }, { "item_id": tea, "counted": teas }] });
        acme.put(format!("{path}/lines")).if_match(1).json(&counted(7, 0)).send().await.expect(200);
        acme.put(format!("{path}/lines")).if_match(1).json(&counted(8, 3)).send().await.expect_problem(412, "request.precondition_failed");
        let report = acme.put(format!("{path}/lines")).if_match(2).json(&counted(8, 3)).send().await.expect(200).json;
        assert_eq!(report["lines"][0], json!({ "item_id": mug, "expected": 10, "counted": 8, "difference": -2 }));
        assert_eq!(report["differing"], 2);
        // Sold while it is counted: not undone.
        shop.reserve(Demand { expires_at: None, ..demand(&app, "chk_1", &[(variant, 1)]) }).await.expect("there are ten");
        shop.write(api::ship, Shipment { reference: "chk_1".to_owned(), note: String::new(), parts: Parts::Rest }).await.expect("it goes out");
        acme.post(format!("{path}/apply")).if_match(3).send().await.expect(200);
        assert_eq!((shop.level(mug, place).await.on_hand, shop.level(tea, place).await.on_hand), (7, 3));
        acme.post(format!("{path}/apply")).send().await.expect_problem(409, "inventory.not_open");
        acme.put(format!("{path}/lines")).json(&counted(1, 1)).send().await.expect_problem(409, "inventory.not_open");
        let other = acme.post("/api/v1/inventory/counts").json(&json!({ "location_id": place })).send().await.expect(201).header("location").to_owned();
        acme.post(format!("{other}/cancel")).send().await.expect(200);
        acme.post(format!("{other}/apply")).send().await.expect_problem(409, "inventory.not_open");
        let list = acme.get("/api/v1/inventory/counts").send().await.expect(200).json;
        assert_eq!(list["data"].as_array().expect("a list").iter().map(|count| count["state"].as_str().expect("a state")).collect::<Vec<_>>(), ["cancelled", "applied"]);
    }

    async fn wrong_input_is_named(app: TestApp) {
        let shop = Shop::new(&app, "acme");
        let (item, place, variant) = shop.simple("MUG", 10).await;
        let acme = app.client("acme", &["*"]);
        let line = |quantity: Value| json!([{ "variant_id": variant, "quantity": quantity }]);
        let demand = |reference: &str, lines: Value| json!({ "reference": reference, "lines": lines });
        for (body, field) in [
            (demand("a", line(json!(0))), "lines[0].quantity"),
            (demand("a", line(json!(-1))), "lines[0].quantity"),
            (demand("a", line(json!(1_000_000_000_000_i64))), "lines[0].quantity"),
            (demand("a", json!([])), "lines"),
            (demand("", line(json!(1))), "reference"),
            (demand("with space", line(json!(1))), "reference"),
            (demand("a/b", line(json!(1))), "reference"),
            (demand(&"r".repeat(101), line(json!(1))), "reference"),
            (json!({ "reference": "a", "lines": line(json!(1)), "expires_at": "2020-01-01T00:00:00Z" }), "expires_at"),
            (json!({ "reference": "a", "lines": line(json!(1)), "destination": { "latitude": 91, "longitude": 0 } }), "destination.latitude"),
            (demand("a", Value::Array((0..501).map(|_| line(json!(1))[0].clone()).collect())), "lines"),
        ] {
            let refused = acme.post("/api/v1/inventory/reservations").json(&body).send().await.expect_problem(400, "request.invalid");
            assert!(refused.names_field(field), "{field}: {}", refused.json);
        }
        let components = |components: Value| json!({ "variant_id": variant, "components": components });
        for (body, field) in [
            (components(json!([{ "item_id": item, "quantity": 0 }])), "components[0].quantity"),
            (components(json!([{ "item_id": item, "quantity": 1 }, { "item_id": item, "quantity": 2 }])), "components[1].item_id"),
            (components(json!([{ "item_id": "itm_00000000009", "quantity": 1 }])), "components[0].item_id"),
        ] {
            let refused = acme.put("/api/v1/inventory/components").json(&body).send().await.expect_problem(400, "request.invalid");
            assert!(refused.names_field(field), "{field}: {}", refused.json);
        }
        for ids in ["", "var_1", "var_00000000001,", &vec!["var_00000000001"; 101].join(",")] {
            let refused = acme.get(format!("/api/v1/inventory/availability?variant_ids={ids}")).send().await.expect_problem(400, "request.invalid");
            assert!(refused.names_field("variant_ids"), "{ids}");
        }
        acme.get("/api/v1/inventory/reservations/none").send().await.expect_problem(404, "inventory.reservation_not_found");
        acme.post("/api/v1/inventory/reservations/none/confirm").send().await.expect_problem(404, "inventory.reservation_not_found");
        acme.post("/api/v1/inventory/reservations/none/ship").send().await.expect_problem(404, "inventory.reservation_not_found");
        // What is another tenant's is not there.
        let globex = app.client("globex", &["*"]);
        globex.get(format!("/api/v1/inventory/items/{item}/levels")).send().await.expect_problem(404, "inventory.item_not_found");
        globex.get(format!("/api/v1/inventory/locations/{place}")).send().await.expect_problem(404, "inventory.location_not_found");
        app.client("acme", &["inventory.read"]).post("/api/v1/inventory/items").json(&json!({ "sku": "X" })).send().await.expect_problem(403, "request.forbidden");
        // A list of changes that stand or fall together, by the API.
        let change = |quantity: i64| Change { item_id: item, location_id: place, kind: MovementKind::Restocked, quantity, expected: None };
        let refused = shop.write(levels::change, Changes { reference: String::new(), note: String::new(), lines: vec![change(1), change(0)] }).await;
        assert_eq!(refused.expect_err("nothing is no change").field_errors()[0].field, "lines[1].quantity");
    }

    async fn what_many_documents_did_is_booked_at_once(app: TestApp) {
        use api::{Booking, Keep};
        let shop = Shop::new(&app, "acme");
        let place = shop.location("Old warehouse", 0, None).await;
        let (cup, _, cups) = shop.simple("CUP", 0).await;
        let keep = |sku: &str, variant_id: Option<VariantId>| Keep { sku: sku.to_owned(), name: format!("A {sku}"), variant_id };
        let ensure = |tx: &mut Tx<'_>, keep: &Vec<Keep>| api::ensure_items(tx, keep);
        // One that is there, one that is new and named twice, and one whose variant is made of something else already.
        let variant = VariantId::from_i64(77);
        let wanted = vec![keep("CUP", Some(cups)), keep("POT", Some(variant)), keep("POT", Some(variant)), keep("SET", Some(cups))];
        let items = shop.write(ensure, wanted.clone()).await.expect("items");
        assert_eq!(shop.write(ensure, wanted).await.expect("the same items"), items);
        let (pot, set) = (items[1], items[3]);
        assert!(items[0] == cup && items[2] == pot && set != cup && set != pot);
        let made_of = shop.read(move |read| Ok((crate::items::components(read, variant)?, crate::items::components(read, cups)?))).await;
        let one = |item_id| vec![Component { item_id, quantity: 1 }];
        assert_eq!((made_of.0.components, made_of.1.components), (one(pot), one(cup)));

        let day = |n: i64| kernel::Timestamp::from_micros(n * 86_400_000_000);
        let booking = |document: &str, at: i64, lines: &[(ItemId, MovementKind, i64)]| {
            let change = |(item_id, kind, quantity): &(ItemId, MovementKind, i64)| {
                Change { item_id: *item_id, location_id: place, kind: *kind, quantity: *quantity, expected: None }
            };
            let changes = Changes { reference: document.to_owned(), note: String::new(), lines: lines.iter().map(change).collect() };
            Booking { changes, at: day(at) }
        };
        let book = |tx: &mut Tx<'_>, (place, items, bookings): &(LocationId, Vec<ItemId>, Vec<Booking>)| {
            api::book(tx, *place, items, |on_hand| {
                assert_eq!(on_hand.len(), 2);
                bookings.clone()
            })
        };
        let with = |bookings: Vec<Booking>| (place, vec![cup, pot], bookings);
        let events = shop.events().await.len();
        // More than a few, so that they go to the store together where it takes them so.
        let year = vec![
            booking("a", 1, &[(cup, MovementKind::Received, 12), (cup, MovementKind::Shipped, 10), (pot, MovementKind::Received, 5)]),
            booking("nothing", 2, &[]),
            booking("b", 3, &[(cup, MovementKind::Returned, 4), (cup, MovementKind::Shipped, 6), (pot, MovementKind::WrittenOff, 5)]),
        ];
        assert_eq!(shop.write(book, with(year)).await.expect("they are booked"), 6);
        assert_eq!(shop.events().await[events..], ["stock.booked"]);
        assert_eq!((shop.level(cup, place).await.on_hand, shop.level(pot, place).await.on_hand), (0, 0));
        let entries = shop.read(move |read| crate::levels::movements(read, cup, i64::MAX, 10)).await;
        let told: Vec<_> = entries.iter().map(|entry| (entry.reference.as_str(), entry.kind, entry.on_hand, entry.moved_at)).collect();
        assert_eq!(told, [
            ("b", MovementKind::Shipped, -6, day(3)),
            ("b", MovementKind::Returned, 4, day(3)),
            ("a", MovementKind::Shipped, -10, day(1)),
            ("a", MovementKind::Received, 12, day(1)),
        ]);
        let moved = shop.read(move |read| api::moved(read, place)).await;
        assert_eq!((moved.levels, moved.on_hand, moved.by_kind.get(&MovementKind::Shipped)), (2, 0, Some(&(2, -16))));

        // All or none, each on what those before it have left.
        let refused = vec![booking("c", 4, &[(pot, MovementKind::Received, 1)]), booking("d", 5, &[(pot, MovementKind::Shipped, 2)])];
        let refused = shop.write(book, with(refused)).await.expect_err("there are fewer");
        assert_eq!((refused.code(), refused.field_errors()[0].field.as_str()), ("inventory.below_zero", "bookings[1].lines[0].quantity"));
        let refused = shop.write(book, with(vec![booking("e", 6, &[(ItemId::from_i64(9), MovementKind::Received, 1)])])).await;
        assert_eq!(refused.expect_err("nobody knows it").field_errors()[0].field, "bookings[0].lines[0].item_id");
        let refused = shop.write(book, with(vec![booking("f", 6, &[(pot, MovementKind::Received, 0)])])).await;
        assert_eq!(refused.expect_err("nothing is no change").field_errors()[0].field, "bookings[0].lines[0].quantity");
        assert_eq!(shop.level(pot, place).await.on_hand, 0);
    }
}
