//! The storefront of the built binary, as a shop's page and the shop's own server use it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Sandbox, Server};
use serde_json::{Value, json};

const TRILLION: i64 = 1_000_000_000_000;

/// Somebody who asks a server.
struct Client<'a> {
    server: &'a Server,
    key: String,
    /// Further headers, each ended by a line break.
    headers: String,
}

struct Answer {
    status: u16,
    head: String,
    json: Value,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        let found = self.head.lines().skip(1).filter_map(|line| line.split_once(':')).find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value.trim())
    }

    #[track_caller]
    fn expect(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{}", self.json);
        self
    }

    #[track_caller]
    fn refused(self, status: u16, code: &str) -> Answer {
        assert_eq!((self.status, self.json["code"].as_str()), (status, Some(code)), "{}", self.json);
        self
    }

    /// Refused for this field, with its code.
    #[track_caller]
    fn field(self, field: &str, code: &str) {
        let answer = self.refused(400, "request.invalid");
        let error = &answer.json["errors"][0];
        assert_eq!((error["field"].as_str(), error["code"].as_str()), (Some(field), Some(code)), "{}", answer.json);
    }
}

impl<'a> Client<'a> {
    fn new(server: &'a Server, key: &str) -> Client<'a> {
        Client { server, key: key.to_owned(), headers: String::new() }
    }

    /// The same with a cart's token.
    fn with_token(&self, token: &str) -> Client<'a> {
        self.with("Cart-Token", token)
    }

    fn with(&self, name: &str, value: &str) -> Client<'a> {
        Client { server: self.server, key: self.key.clone(), headers: format!("{}{name}: {value}\r\n", self.headers) }
    }

    fn send(&self, method: &str, path: &str, body: Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let path = format!("/api/v1/{path}");
        let (status, head, body) = self.server.exchange(method, &path, Some(&self.key), &self.headers, &body).unwrap().unwrap();
        Answer { status, head, json: serde_json::from_str(&body).unwrap_or(Value::Null) }
    }

    fn get(&self, path: &str) -> Answer {
        self.send("GET", path, Value::Null)
    }
}

/// A shop with a product that is for sale, one that is a draft, and one that was archived.
struct Shop {
    secret: String,
    publishable: String,
    product: String,
    hidden: Vec<String>,
    small: String,
    large: String,
}

impl Shop {
    fn open(sandbox: &Sandbox, slug: &str) -> (String, String) {
        sandbox.run(&["tenant", "create", slug]).expect(0);
        let key = |more: &[&str]| {
            let arguments = [&["api-key", "create", "--tenant", slug, "--json"], more].concat();
            sandbox.run(&arguments).expect(0).json()["key"].as_str().unwrap().to_owned()
        };
        (key(&[]), key(&["--publishable"]))
    }

    fn fill(server: &Server, (secret, publishable): (String, String)) -> Shop {
        let staff = Client::new(server, &secret);
        let mug = |title: &str, status: &str| {
            let variant = |size: &str, price: &str| json!({ "sku": format!("{title}-{size}"), "title": format!("{title} {size}"), "prices": [{ "currency": "EUR", "price": price }] });
            let archived =
                json!({ "sku": format!("{title}-old"), "status": "archived", "prices": [{ "currency": "EUR", "price": "0.01" }] });
            let product = json!({ "title": title, "description": "Holds tea.", "status": status, "variants": [variant("S", "8.50"), variant("L", "10.00"), archived] });
            staff.send("POST", "products", product).expect(201).json
        };
        let (sold, draft, gone) = (mug("Mug 100%", "active"), mug("Draft", "draft"), mug("Gone", "active"));
        let id = |product: &Value| product["product_id"].as_str().unwrap().to_owned();
        staff.send("POST", &format!("products/{}/archive", id(&gone)), Value::Null).expect(200);
        let variant = |at: usize| sold["variants"][at]["variant_id"].as_str().unwrap().to_owned();
        Shop { secret, publishable, product: id(&sold), hidden: vec![id(&draft), id(&gone)], small: variant(0), large: variant(1) }
    }
}

#[test]
fn a_shop_shows_what_is_for_sale_and_nothing_else() {
    for sandbox in Sandbox::each_engine() {
        let keys = Shop::open(&sandbox, "mugs");
        let server = sandbox.serve(&["serve"]);
        let shop = Shop::fill(&server, keys);
        let page = Client::new(&server, &shop.publishable);

        let list = page.get("storefront/products?currency=EUR").expect(200);
        assert_eq!(list.json["data"].as_array().unwrap().len(), 1, "{}", list.json);
        let expected = json!({ "product_id": shop.product, "title": "Mug 100%", "variant_count": 2, "image": null, "currency": "EUR", "from_price": "8.5" });
        assert_eq!(list.json["data"][0], expected);
        for (q, found) in [("mug", 1), ("100%25", 1), ("10_%25", 0), ("g 1", 1), ("draft", 0), ("!", 0)] {
            let found_now =
                page.get(&format!("storefront/products?q={}", q.replace(' ', "%20"))).expect(200).json["data"].as_array().unwrap().len();
            assert_eq!(found_now, found, "{q}");
        }
        let product = page.get(&format!("storefront/products/{}", shop.product)).expect(200);
        assert_eq!(product.json["variants"].as_array().unwrap().len(), 2, "what was archived is not shown");
        assert_eq!(product.json["variants"][0]["unit_price"], "8.5");
        let dollars = page.get(&format!("storefront/products/{}?currency=USD", shop.product)).expect(200);
        assert_eq!(dollars.json["variants"][0]["unit_price"], Value::Null);
        for hidden in &shop.hidden {
            page.get(&format!("storefront/products/{hidden}")).refused(404, "storefront.product_not_found");
        }

        // Anybody may keep it for a while, and asks then whether it is still so.
        let tag = product.header("etag").to_owned();
        assert_eq!((product.header("cache-control"), product.header("vary")), ("public, max-age=30", "authorization"));
        let again = page.with("If-None-Match", &tag).get(&format!("storefront/products/{}", shop.product));
        assert_eq!((again.status, again.header("etag")), (304, tag.as_str()));
        let staff = Client::new(&server, &shop.secret);
        staff.send("PATCH", &format!("products/{}", shop.product), json!({ "title": "Beaker" })).expect(200);
        let changed = page.with("If-None-Match", &tag).get(&format!("storefront/products/{}", shop.product)).expect(200);
        assert_eq!(changed.json["title"], "Beaker");
        staff.send("POST", &format!("products/{}/archive", shop.product), Value::Null).expect(200);
        page.get(&format!("storefront/products/{}", shop.product)).refused(404, "storefront.product_not_found");

        // The key opens nothing else; its pages may come from anywhere.
        for path in ["products", "carts", "orders", "me", "settings"] {
            page.get(path).refused(403, "request.forbidden");
        }
        let other = page.with("Origin", "https://shop.example").get("storefront/shop").expect(200);
        assert_eq!((other.header("access-control-allow-origin"), other.json["currency"].as_str()), ("https://shop.example", Some("EUR")));
        assert_eq!(server.stop(), Some(0));
        sandbox.run(&["audit"]).expect(0);
    }
}

#[test]
fn a_shop_is_arranged_and_its_goods_are_taxed_and_weighed() {
    for sandbox in Sandbox::each_engine() {
        let keys = Shop::open(&sandbox, "mugs");
        let server = sandbox.serve(&["serve"]);
        let shop = Shop::fill(&server, keys);
        let (page, staff) = (Client::new(&server, &shop.publishable), Client::new(&server, &shop.secret));
        let post = |path: &str, body: Value| staff.send("POST", path, body).expect(201).json;
        let kitchen = post("catalog/categories", json!({ "slug": "kitchen", "title": "Kitchen" }))["category_id"].clone();
        let mugs = post("catalog/categories", json!({ "slug": "mugs", "title": "Mugs", "parent_id": kitchen }))["category_id"].clone();
        post("catalog/attributes", json!({ "code": "glaze", "title": "Glaze", "kind": "choice", "choices": ["matt", "clear"] }));
        let supplier = json!({ "code": "supplier", "title": "Supplier", "kind": "text", "storefront": false });
        let supplier = post("catalog/attributes", supplier)["attribute_id"].clone();
        let picture = json!({ "kind": "image", "url": "https://cdn.example/mug.png", "alt": "A mug" });
        let change = json!({ "category_ids": [mugs], "attributes": { "glaze": "matt", "supplier": "S-17" }, "media": [picture], "tags": ["gift"], "tax_class": "reduced" });
        staff.send("PATCH", &format!("products/{}", shop.product), change).expect(200);
        staff.send("PATCH", &format!("products/{}", shop.hidden[0]), json!({ "category_ids": [mugs] })).expect(200);
        let gifts = post("catalog/collections", json!({ "slug": "gifts", "title": "Gifts", "rule": { "tags": ["gift"] } }));
        assert_eq!(gifts["rule"], json!({ "tags": ["gift"] }));
        let window = post("catalog/collections", json!({ "slug": "window", "title": "Window" }))["collection_id"].clone();
        let chosen = json!({ "product_ids": [shop.hidden[1], shop.product] });
        staff.send("PUT", &format!("catalog/collections/{}/products", window.as_str().unwrap()), chosen).expect(200);

        // Each shelf shows what is for sale of it.
        for shelf in ["category=kitchen", "category=mugs", "collection=gifts", "collection=window"] {
            let list = page.get(&format!("storefront/products?{shelf}")).expect(200);
            let ids: Vec<&Value> = list.json["data"].as_array().unwrap().iter().map(|product| &product["product_id"]).collect();
            assert_eq!(ids, [&json!(shop.product)], "{shelf}: {}", list.json);
            assert_eq!((&list.json["next_cursor"], &list.json["data"][0]["image"]), (&Value::Null, &picture));
            let tag = list.header("etag").to_owned();
            assert_eq!(page.with("If-None-Match", &tag).get(&format!("storefront/products?{shelf}")).status, 304);
        }
        let first = page.get("storefront/products?collection=window&limit=1").expect(200);
        assert_eq!(first.json["data"], json!([]), "what is not for sale is left out of its page");
        let next = format!("storefront/products?collection=window&limit=1&cursor={}", first.json["next_cursor"].as_str().unwrap());
        assert_eq!(page.get(&next).expect(200).json["data"][0]["product_id"], json!(shop.product));
        page.get(&next.replace("window", "gifts")).refused(400, "request.invalid_cursor");
        page.get("storefront/products?category=nowhere").field("category", "unknown");
        page.get("storefront/products?category=mugs&collection=gifts").field("collection", "not_allowed");
        page.get("storefront/products?category=mugs&q=mug").field("q", "not_allowed");
        let tree = page.get("storefront/categories").expect(200);
        let slugs: Vec<&str> = tree.json["data"].as_array().unwrap().iter().map(|category| category["slug"].as_str().unwrap()).collect();
        assert_eq!((slugs, &tree.json["data"][1]["parent_id"]), (vec!["kitchen", "mugs"], &kitchen));
        let shown = page.get(&format!("storefront/products/{}", shop.product)).expect(200);
        assert_eq!((&shown.json["attributes"], &shown.json["media"]), (&json!({ "glaze": "matt" }), &json!([picture])));
        staff.send("PATCH", &format!("catalog/attributes/{}", supplier.as_str().unwrap()), json!({ "storefront": true })).expect(200);
        let shown = page.get(&format!("storefront/products/{}", shop.product)).expect(200);
        assert_eq!(shown.json["attributes"], json!({ "glaze": "matt", "supplier": "S-17" }), "at once, remembered or not");

        // Two of the small one, 400 g each, and one of the large one, which has a class of its own and was never weighed.
        staff.send("PATCH", &format!("variants/{}", shop.small), json!({ "weight_g": 400 })).expect(200);
        staff.send("PATCH", &format!("variants/{}", shop.large), json!({ "tax_class": "standard" })).expect(200);
        let zone = post("shipping/zones", json!({ "name": "Home", "areas": [{ "country": "NL" }] }))["zone_id"].clone();
        let method = post("shipping/methods", json!({ "name": "Post", "min_days": 1, "max_days": 2 }))["method_id"].clone();
        let rate = format!("shipping/methods/{}/rates/{}/EUR", method.as_str().unwrap(), zone.as_str().unwrap());
        let tiers = json!([{ "up_to": 799, "price_minor": 450 }, { "up_to": 800, "price_minor": 500 }, { "price_minor": 900 }]);
        staff.send("PUT", &rate, json!({ "basis": "weight", "tiers": tiers })).expect(200);
        let lines = json!([{ "variant_id": shop.small, "quantity": 2 }, { "variant_id": shop.large, "quantity": 1 }]);
        let made = page.send("POST", "storefront/carts", json!({ "lines": lines, "destination": { "country": "NL" } })).expect(201).json;
        let classes = [&made["pricing"]["lines"][0]["tax"]["class"], &made["pricing"]["lines"][1]["tax"]["class"]];
        assert_eq!(classes, ["reduced", "standard"]);
        assert_eq!(made["shipping_methods"][0]["price_minor"], 500);
        let cart = format!("storefront/carts/{}/lines/{}", made["cart_id"].as_str().unwrap(), shop.small);
        let mine = page.with_token(made["token"].as_str().unwrap());
        let heavier = mine.send("PUT", &cart, json!({ "quantity": 3 })).expect(200).json;
        assert_eq!(heavier["shipping_methods"][0]["price_minor"], 900);

        // A promotion aims at a category, and holds for what is below it.
        let target = json!({ "labels": [format!("category:{}", kitchen.as_str().unwrap())] });
        let promotion = json!({ "name": "Kitchen week", "effect": { "kind": "percent", "percent": 10 }, "target": target });
        post("pricing/promotions", promotion);
        let now = mine.get(&format!("storefront/carts/{}", made["cart_id"].as_str().unwrap())).expect(200).json;
        assert_eq!(now["pricing"]["totals"]["discount_minor"], 355, "a tenth of 3 x 8.50 and 10.00");
        assert_eq!(server.stop(), Some(0));
        sandbox.run(&["audit"]).expect(0);
    }
}

#[test]
fn a_shopper_fills_a_cart_and_signs_in() {
    for sandbox in Sandbox::each_engine() {
        let (keys, others) = (Shop::open(&sandbox, "mugs"), Shop::open(&sandbox, "other"));
        let server = sandbox.serve(&["serve"]);
        let (shop, other) = (Shop::fill(&server, keys), Shop::fill(&server, others));
        let (page, staff) = (Client::new(&server, &shop.publishable), Client::new(&server, &shop.secret));

        let lines = json!([{ "variant_id": shop.small, "quantity": 2, "seen_price": "8.50" }]);
        let made = page.send("POST", "storefront/carts", json!({ "lines": lines })).expect(201);
        assert_eq!(
            (made.header("cache-control"), made.json["version"].as_i64(), made.json["can_checkout"].as_bool()),
            ("no-store", Some(1), Some(true))
        );
        let cart = format!("storefront/carts/{}", made.json["cart_id"].as_str().unwrap());
        let mine = page.with_token(made.json["token"].as_str().unwrap());
        assert!(!mine.get(&cart).expect(200).json.to_string().contains("token"));

        // Under a key it is made once, and its token is shown once.
        let keyed = page.with("Idempotency-Key", "once");
        let (first, second) =
            (keyed.send("POST", "storefront/carts", json!({})).expect(201), keyed.send("POST", "storefront/carts", json!({})).expect(201));
        assert_eq!((&first.json["cart_id"], &second.json["token"]), (&second.json["cart_id"], &Value::Null));

        // Somebody else's: by the token, the shop, the number.
        page.get(&cart).field("Cart-Token", "required");
        page.with_token("guessed").get(&cart).refused(404, "carts.cart_not_found");
        Client::new(&server, &other.publishable)
            .with_token(made.json["token"].as_str().unwrap())
            .get(&cart)
            .refused(404, "carts.cart_not_found");
        Client::new(&server, &other.secret).get(&cart).refused(404, "carts.cart_not_found");
        mine.get("storefront/carts/crt_00000000001").refused(404, "carts.cart_not_found");
        staff.get(&cart).expect(200);

        // Lines.
        let add = |variant: &str, quantity: i64| {
            mine.send("POST", &format!("{cart}/lines"), json!({ "variant_id": variant, "quantity": quantity }))
        };
        let now = add(&shop.large, 1).expect(200).json;
        assert_eq!(
            (now["lines"][1]["title"].as_str(), now["lines"][1]["list_price"].as_str(), &now["version"]),
            (Some("Mug 100% L"), Some("10"), &json!(2))
        );
        add(&shop.large, 0).field("quantity", "too_small");
        add(&shop.large, -1).field("quantity", "too_small");
        add(&shop.large, TRILLION).field("quantity", "too_large");
        add(&shop.large, 1_000_000).refused(409, "carts.quantity_limit");
        add("var_00000000001", 1).field("variant_id", "unknown");
        add(&other.small, 1).field("variant_id", "unknown");
        mine.send("POST", &format!("{cart}/lines"), json!({ "variant_id": shop.large, "quantity": 1, "seen_price": "9.99" }))
            .refused(409, "storefront.price_changed");
        let many = vec![json!({ "variant_id": shop.small, "quantity": 1 }); 10_000];
        page.send("POST", "storefront/carts", json!({ "lines": many })).field("lines", "too_many");
        page.send("POST", "storefront/carts", json!({ "lines": [{ "variant_id": shop.small, "quantity": 0 }] }))
            .field("lines[0].quantity", "too_small");
        page.send("POST", "storefront/carts", json!({ "currency": "USD", "lines": [{ "variant_id": shop.small, "quantity": 1 }] }))
            .field("lines[0].variant_id", "not_sold");
        let line = format!("{cart}/lines/{}", shop.large);
        mine.send("PUT", &line, json!({ "quantity": 0 })).field("quantity", "too_small");
        assert_eq!(mine.with("If-Match", "\"2\"").send("PUT", &line, json!({ "quantity": 3 })).expect(200).json["version"], 3);
        mine.with("If-Match", "\"2\"").send("PUT", &line, json!({ "quantity": 4 })).refused(412, "request.precondition_failed");
        mine.send("DELETE", &format!("{cart}/lines/{}", other.small), Value::Null).refused(404, "carts.line_not_found");

        // Details and coupons.
        let destination = json!({ "country": "NL", "postcode": "1011 AB" });
        let now = mine.send("PATCH", &cart, json!({ "email": "ann@example.com", "destination": destination })).expect(200).json;
        assert_eq!((now["email"].as_str(), now["destination"]["country"].as_str()), (Some("ann@example.com"), Some("NL")));
        mine.send("PATCH", &cart, json!({ "destination": { "country": "Netherlands" } })).field("destination.country", "not_a_country");
        mine.send("POST", &format!("{cart}/coupons"), json!({ "code": "SPRING" })).expect(200);
        let now = mine.send("POST", &format!("{cart}/coupons"), json!({ "code": "SUMMER" })).expect(200).json;
        assert_eq!(now["coupons"], json!(["SPRING", "SUMMER"]));
        assert_eq!(mine.send("DELETE", &format!("{cart}/coupons/SPRING"), Value::Null).expect(200).json["coupons"], json!(["SUMMER"]));
        mine.send("DELETE", &format!("{cart}/coupons/SPRING"), Value::Null).refused(404, "storefront.coupon_not_found");

        // What changes meanwhile is told, and taken when the shopper says so.
        staff.send("PUT", &format!("variants/{}/prices/EUR", shop.small), json!({ "price": "9" })).expect(200);
        staff.send("PATCH", &format!("variants/{}", shop.large), json!({ "status": "archived" })).expect(200);
        let now = mine.get(&cart).expect(200).json;
        assert_eq!(now["can_checkout"], false);
        let up = json!({ "what": "price_up", "variant_id": shop.small, "seen": "8.5", "now": "9" });
        assert_eq!(now["differences"], json!([up, { "what": "not_sold", "variant_id": shop.large, "title": "Mug 100% L" }]));
        let now = mine.send("POST", &format!("{cart}/accept"), Value::Null).expect(200).json;
        assert_eq!((&now["differences"], now["lines"].as_array().unwrap().len(), &now["can_checkout"]), (&json!([]), 1, &json!(true)));

        // Signing in, by the shop's own server.
        let ann = staff.send("POST", "customers", json!({ "name": "Ann", "country": "NL" })).expect(201).json["customer_id"].clone();
        let guest = json!({ "customer_id": ann, "guest_cart_id": made.json["cart_id"], "guest_token": made.json["token"] });
        page.send("POST", "carts/sign-in", guest.clone()).refused(403, "request.forbidden");
        let signed_in = staff.send("POST", "carts/sign-in", guest.clone()).expect(200).json;
        assert_eq!((&signed_in["merged"], &signed_in["cart"]["customer_id"]), (&json!(true), &ann));
        assert_eq!((&signed_in["cart"]["lines"][0]["quantity"], &signed_in["cart"]["email"]), (&json!(2), &json!("ann@example.com")));
        let again = staff.send("POST", "carts/sign-in", guest).expect(200).json;
        assert_eq!((&again["merged"], &again["cart"]["lines"]), (&json!(false), &signed_in["cart"]["lines"]));
        let own = format!("storefront/carts/{}", signed_in["cart"]["cart_id"].as_str().unwrap());
        for token in [&signed_in["token"], &again["token"]] {
            page.with_token(token.as_str().unwrap()).get(&own).expect(200);
        }
        assert_eq!(mine.get(&cart).expect(200).json["merged_into"], signed_in["cart"]["cart_id"]);
        mine.send("PUT", &format!("{cart}/lines/{}", shop.small), json!({ "quantity": 1 })).refused(409, "carts.merged");
        staff.send("POST", "carts/sign-in", json!({ "customer_id": "cus_00000000001" })).field("customer_id", "unknown");
        assert_eq!(server.stop(), Some(0));
        sandbox.run(&["audit"]).expect(0);
    }
}

#[test]
fn a_cart_is_priced_by_the_rules_and_knows_what_is_there() {
    for sandbox in Sandbox::each_engine() {
        let keys = Shop::open(&sandbox, "mugs");
        let server = sandbox.serve(&["serve"]);
        let shop = Shop::fill(&server, keys);
        let (page, staff) = (Client::new(&server, &shop.publishable), Client::new(&server, &shop.secret));
        let post = |path: &str, body: Value| staff.send("POST", path, body).expect(201).json;

        // Three of the small one are in stock; of the large one nobody counts.
        let place = post("inventory/locations", json!({ "kind": "warehouse", "name": "North" }))["location_id"].clone();
        let item = post("inventory/items", json!({ "sku": "MUG", "name": "Mug" }))["item_id"].clone();
        let components = json!({ "variant_id": shop.small, "components": [{ "item_id": item, "quantity": 1 }] });
        staff.send("PUT", "inventory/components", components).expect(200);
        let availability = format!("storefront/products/{}/availability", shop.product);
        let words = |answer: Answer| {
            answer.json["data"].as_array().unwrap().iter().map(|of| of["available"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(words(page.get(&availability).expect(200)), ["no", "yes"]);
        let receive =
            |quantity: i64| json!({ "lines": [{ "kind": "received", "item_id": item, "location_id": place, "quantity": quantity }] });
        post("inventory/movements", receive(3));
        // At most a second later it shows.
        std::thread::sleep(std::time::Duration::from_millis(1_100));
        let shown = page.get(&availability).expect(200);
        let tag = shown.header("etag").to_owned();
        assert_eq!(words(shown), ["low", "yes"]);
        assert_eq!(page.with("If-None-Match", &tag).get(&availability).status, 304);
        page.get(&format!("storefront/products/{}/availability", shop.hidden[0])).refused(404, "storefront.product_not_found");

        // A promotion by coupon, and shipping to one country.
        let promotion = json!({ "name": "Ten off", "coupon_required": true, "effect": { "kind": "percent", "percent": 10 } });
        let promotion = post("pricing/promotions", promotion)["promotion_id"].clone();
        post("pricing/coupons", json!({ "code": "TEN", "promotion_id": promotion }));
        // One that holds for nobody yet is nobody's business.
        let planned = json!({ "name": "Planned", "minimum": { "amount_minor": 100_000_000 }, "currency": "EUR", "effect": { "kind": "percent", "percent": 50 } });
        post("pricing/promotions", planned);
        let zone = post("shipping/zones", json!({ "name": "Home", "areas": [{ "country": "NL" }] }))["zone_id"].clone();
        let method = post("shipping/methods", json!({ "name": "Post", "min_days": 1, "max_days": 2 }))["method_id"].clone();
        let rate = format!("shipping/methods/{}/rates/{}/EUR", method.as_str().unwrap(), zone.as_str().unwrap());
        staff.send("PUT", &rate, json!({ "basis": "weight", "tiers": [{ "price_minor": 450 }] })).expect(200);
        assert_eq!(page.get("storefront/destinations").expect(200).json["countries"], json!(["NL"]));

        let lines = json!([{ "variant_id": shop.small, "quantity": 2 }, { "variant_id": shop.large, "quantity": 1 }]);
        let made = page.send("POST", "storefront/carts", json!({ "lines": lines, "email": "ann@example.com" })).expect(201).json;
        assert_eq!((&made["pricing"]["totals"]["total_minor"], &made["shipping_methods"]), (&json!(2700), &json!([])));
        assert_eq!(made["pricing"]["not_applied"], json!([]));
        let cart = format!("storefront/carts/{}", made["cart_id"].as_str().unwrap());
        let mine = page.with_token(made["token"].as_str().unwrap());
        let now = mine.send("POST", &format!("{cart}/coupons"), json!({ "code": "ten" })).expect(200).json;
        assert_eq!(
            (&now["pricing"]["totals"]["discount_minor"], &now["pricing"]["adjustments"][0]["name"]),
            (&json!(270), &json!("Ten off"))
        );
        let now = mine.send("POST", &format!("{cart}/coupons"), json!({ "code": "NOSUCH" })).expect(200).json;
        assert_eq!(now["pricing"]["coupons"][1]["reason"], "unknown_coupon");
        mine.send("DELETE", &format!("{cart}/coupons/NOSUCH"), Value::Null).expect(200);
        let now = mine.send("PATCH", &cart, json!({ "destination": { "country": "NL" } })).expect(200).json;
        assert_eq!((&now["shipping_methods"][0]["method_id"], &now["shipping_methods"][0]["price_minor"]), (&method, &json!(450)));
        let now = mine.send("PATCH", &cart, json!({ "shipping_method": method })).expect(200).json;
        let charge = &now["pricing"]["lines"][2];
        assert_eq!(
            (&charge["kind"], &charge["total_minor"], &now["pricing"]["totals"]["total_minor"]),
            (&json!("charge"), &json!(450), &json!(2880))
        );
        assert_eq!(now["can_checkout"], true);
        // Nothing is shipped there.
        let now = mine.send("PATCH", &cart, json!({ "destination": { "country": "DE" } })).expect(200).json;
        assert_eq!((&now["shipping_methods"], &now["pricing"]["totals"]["total_minor"]), (&json!([]), &json!(2430)));
        mine.send("PATCH", &cart, json!({ "destination": { "country": "NL" } })).expect(200);

        // Two more than there are.
        let now = mine.send("PUT", &format!("{cart}/lines/{}", shop.small), json!({ "quantity": 5 })).expect(200).json;
        let fewer = json!({ "what": "fewer_available", "variant_id": shop.small, "quantity": 5, "available": 3 });
        assert_eq!(
            (&now["differences"], &now["can_checkout"], &now["lines"][0]["available"]),
            (&json!([fewer]), &json!(false), &json!("no"))
        );
        let now = mine.send("POST", &format!("{cart}/accept"), Value::Null).expect(200).json;
        assert_eq!((&now["lines"][0]["quantity"], &now["differences"], &now["can_checkout"]), (&json!(3), &json!([]), &json!(true)));

        // The checkout comes to what the cart has shown; without a payment provider it is refused, and the cart is as it was.
        let total = now["pricing"]["totals"]["total_minor"].as_i64().unwrap();
        let buy = |total: i64| json!({ "cart_id": made["cart_id"], "cart_version": now["version"], "expected_total_minor": total, "payment_token": "tok_approve" });
        mine.send("POST", "storefront/checkouts", buy(total + 1)).refused(409, "checkout.total_changed");
        let refused = mine.send("POST", "storefront/checkouts", buy(total));
        assert!(refused.json["code"] != "checkout.total_changed", "{}", refused.json);
        assert_eq!(server.stop(), Some(0));
        sandbox.run(&["audit"]).expect(0);
    }
}
