//! Two tenants with a bit of everything, whose texts give away whose they are, on a running server.

use crate::client::{Answer, Client, Request};
use crate::common::{HEADER, Sandbox, Server};
use crate::document::{Document, Operation, Place, Things};
use serde_json::{Value, json};
use std::collections::HashMap;

/// In each text of tenant A, and nowhere else.
pub const MARK: &str = "zqamark";
/// Where A's data has no text, it has this price.
const MARK_PRICE: &str = "7131.77";
/// What gives A's data away: the text, the price, and the price of two in the reports.
pub const MARKS: [&str; 3] = [MARK, MARK_PRICE, "14263.54"];

/// A tenant.
pub struct Tenant {
    pub slug: &'static str,
    /// A key that may do everything.
    pub key: String,
    /// Keys that may do only one thing: the permission and the key.
    pub poor_keys: Vec<(&'static str, String)>,
    pub things: Things,
}

impl Tenant {
    /// A key without the permission.
    pub fn key_without(&self, permission: &str) -> &str {
        &self.poor_keys.iter().find(|(own, _)| *own != permission).unwrap().1
    }
}

/// Everything that a walk needs.
pub struct World {
    pub server: Server,
    /// The provider that the tenants' payments were made at, and the carrier that sold their labels.
    _others: [Server; 2],
    pub document: Document,
    pub a: Tenant,
    pub b: Tenant,
    /// Access token of the platform's administrator.
    pub admin: String,
}

/// The document as the program prints it.
pub fn document(sandbox: &Sandbox) -> Document {
    Document::read(&sandbox.run_bare(&["openapi"]).expect(0).stdout)
}

impl World {
    pub fn new(sandbox: &Sandbox) -> World {
        let document = document(sandbox);
        let admin = sandbox.run(&["user", "create", "admin@walk.example", "--platform-admin", "--json"]).expect(0).json();
        let mut tenants = Vec::new();
        for (slug, mark, price) in [("walk-zqamark", MARK, MARK_PRICE), ("walk-b", "other", "12.50")] {
            let made = sandbox.run(&["tenant", "create", slug, "--name", &format!("{mark} ltd"), "--json"]).expect(0).json();
            // Trade of long ago, so that there are reports and observed prices, too.
            let trade = [("1", "01", 2, price), ("2", "02", 2, "8.25"), ("C3", "03", -1, price)];
            let line = |item: u8, (invoice, day, quantity, price): (&str, &str, i32, &str)| {
                format!("{invoice},{mark}{item},{mark} thing {item},{quantity},2011-03-{day} 10:00:00,{price},{day}.0,{mark} land\n")
            };
            let lines: String = trade.into_iter().flat_map(|invoice| [line(1, invoice), line(2, invoice)]).collect();
            let file = sandbox.write("trade.csv", format!("{HEADER}{lines}"));
            sandbox.run(&["import", "online-retail", file.to_str().unwrap(), "--tenant", slug]).expect(0);
            let key = |permission: &str| {
                let name = format!("{mark} {permission}");
                let mut arguments = vec!["api-key", "create", "--tenant", slug, "--name", &name, "--json"];
                if !permission.is_empty() {
                    arguments.extend(["--permission", permission]);
                }
                sandbox.run(&arguments).expect(0).json()["key"].as_str().unwrap().to_owned()
            };
            let mut things =
                Things { role: "packers".to_owned(), sku: format!("{mark}1"), reference: format!("{mark}-r"), ..Things::default() };
            things.ids.insert("ten".to_owned(), made["tenant"]["id"].as_str().unwrap().to_owned());
            for role in ["owner", "staff"] {
                let email = format!("{mark}-{role}@walk.example");
                let made =
                    sandbox.run(&["user", "create", &email, "--name", mark, "--tenant", slug, "--role", role, "--json"]).expect(0).json();
                things.ids.insert("usr".to_owned(), made["id"].as_str().unwrap().to_owned());
            }
            let poor_keys = ["reports.read", "customers.read"].map(|permission| (permission, key(permission))).to_vec();
            tenants.push((mark, price, Tenant { slug, key: key(""), poor_keys, things }));
        }
        let provider = sandbox.serve(&["sandbox-psp"]);
        let carrier = sandbox.serve(&["sandbox-carrier"]);
        let server =
            sandbox.serve(&["serve", "--set", "payments.base_urls=http://127.0.0.1", "--set", "shipping.base_urls=http://127.0.0.1"]);
        let mut client = Client::new(server.serving["url"].as_str().unwrap());
        for (mark, price, tenant) in &mut tenants {
            let urls = [&provider, &carrier].map(|other| other.serving["url"].as_str().unwrap());
            fill(&mut client, mark, price, tenant, urls);
        }
        let credentials = json!({ "email": "admin@walk.example", "password": admin["password"], "platform": true });
        let tokens = client.send(&Request::new("POST", "/api/v1/auth/sign-in").json(&credentials));
        assert_eq!(tokens.status, 200, "{}", tokens.text());
        let admin = tokens.json()["access_token"].as_str().unwrap().to_owned();
        let (b, a) = (tenants.pop().unwrap().2, tenants.pop().unwrap().2);
        World { server, _others: [provider, carrier], document, a, b, admin }
    }

    pub fn client(&self) -> Client {
        Client::new(self.server.serving["url"].as_str().unwrap())
    }

    /// The request of an operation with parameters out of `things`: those of the path and the required ones of the query.
    #[track_caller]
    pub fn request(&self, operation: &Operation, things: &Things) -> Request {
        let (mut path, mut query) = (operation.path.clone(), Vec::new());
        for parameter in &operation.parameters {
            let value = || self.document.parameter_sample(operation, parameter, things);
            match parameter.place {
                Place::Path => path = path.replace(&format!("{{{}}}", parameter.name), &value()),
                Place::Query if parameter.required => query.push(format!("{}={}", parameter.name, value())),
                _ => {}
            }
        }
        if !query.is_empty() {
            path = format!("{path}?{}", query.join("&"));
        }
        let request = Request::new(&operation.method, path);
        match self.document.body(operation, things) {
            Some(body) => request.json(&body),
            None => match operation.bodies.first() {
                Some((kind, _)) => request.body(kind, file_of(kind)),
                None => request,
            },
        }
    }
}

/// Every check of every module is well.
pub fn audit(sandbox: &Sandbox) {
    let audit = sandbox.run(&["audit", "--json"]).json();
    let failed: Vec<&Value> = audit["checks"].as_array().unwrap().iter().filter(|check| check["ok"] != true).collect();
    assert!(audit["ok"] == true && failed.is_empty(), "{failed:?}");
}

/// A file of a content type that is not JSON.
fn file_of(kind: &str) -> &'static str {
    match kind {
        "text/csv" => "sku,title\nwalked-in,Walked in\n",
        "application/x-ndjson" => "{\"sku\":\"walked-in\",\"title\":\"Walked in\"}\n",
        other => panic!("a body of {other}: teach the walk"),
    }
}

/// Adds to a path that may have a query already.
pub fn with_query(path: &str, query: &str) -> String {
    format!("{path}{}{query}", if path.contains('?') { '&' } else { '?' })
}

/// Makes two of everything.
fn fill(client: &mut Client, mark: &str, price: &str, tenant: &mut Tenant, [provider_url, carrier_url]: [&str; 2]) {
    let mut send = |method: &str, path: &str, body: Value| -> Value {
        let mut request = Request::new(method, path).bearer(&tenant.key);
        if !body.is_null() {
            request = request.json(&body);
        }
        let answer: Answer = client.send(&request);
        assert!((200..300).contains(&answer.status), "{}: {} {}", request.shown(), answer.status, answer.text());
        answer.json()
    };
    let text = |what: &str| format!("{mark} {what}");
    let ids = &mut tenant.things.ids;
    let mut note = |prefix: &str, value: &Value| drop(ids.insert(prefix.to_owned(), value.as_str().unwrap().to_owned()));
    let mut products: Vec<Value> = Vec::new();
    for n in ["r", "s"] {
        let reference = format!("{mark}-{n}");
        let address = json!({ "label": text("label"), "recipient": text("recipient"), "line1": text("line1"), "line2": text("line2"), "city": text("city"),
            "region": text("region"), "postal_code": mark, "country": text("land"), "phone": mark });
        let customer = json!({ "external_ref": reference, "name": text("customer"), "email": format!("{mark}@customer.example"), "country": text("land"), "addresses": [address] });
        let customer = send("POST", "/api/v1/customers", customer);
        note("cus", &customer["customer_id"]);
        note("adr", &customer["addresses"][0]["address_id"]);
        let variant = json!({ "sku": format!("{mark}-sku-{n}"), "title": text("variant"), "barcode": mark, "options": [{ "name": text("option"), "value": text("value") }],
            "prices": [{ "currency": "GBP", "price": price }] });
        let product = json!({ "title": text("product"), "description": text("description"), "external_id": reference, "status": "active", "variants": [variant] });
        let category = json!({ "slug": format!("{mark}-{n}"), "title": text("category"), "description": text("description") });
        let category = send("POST", "/api/v1/catalog/categories", category)["category_id"].clone();
        note("cat", &category);
        let attribute = json!({ "code": format!("{mark}-{n}"), "title": text("attribute"), "kind": "choice", "choices": [text("choice")] });
        note("atr", &send("POST", "/api/v1/catalog/attributes", attribute)["attribute_id"]);
        let product = send("POST", "/api/v1/products", product);
        note("prd", &product["product_id"]);
        let path = format!("/api/v1/products/{}", product["product_id"].as_str().unwrap());
        send("PATCH", &path, json!({ "tags": [mark], "category_ids": [category] }));
        let collection = json!({ "slug": format!("{mark}-{n}"), "title": text("collection"), "description": text("description") });
        let collection = send("POST", "/api/v1/catalog/collections", collection)["collection_id"].clone();
        note("col", &collection);
        products.push(product["product_id"].clone());
        send("PUT", &format!("/api/v1/catalog/collections/{}/products", collection.as_str().unwrap()), json!({ "product_ids": products }));
        let variant = &product["variants"][0]["variant_id"];
        let line = |quantity: i64| json!({ "sku": format!("{mark}-sku-{n}"), "variant_id": variant, "description": text("line"), "quantity": quantity, "unit_price": price });
        let order = json!({ "draft": true, "external_ref": reference, "customer_id": customer["customer_id"], "country": text("land"), "currency": "GBP", "lines": [line(3)] });
        let order = send("POST", "/api/v1/orders", order);
        note("ord", &order["order_id"]);
        let at = format!("/api/v1/orders/{}", order["order_id"].as_str().unwrap());
        send("POST", &format!("{at}/place"), json!({ "reason": text("reason") }));
        send("POST", &format!("{at}/fulfil"), json!({ "reason": text("reason"), "lines": [{ "line": 1, "quantity": 1 }] }));
        let back = json!({ "reason": text("reason"), "lines": [{ "line": 1, "quantity": 1, "reason": text("reason") }] });
        let back = send("POST", &format!("{at}/returns"), back)["return_id"].clone();
        send("POST", &format!("/api/v1/returns/{}/steps", back.as_str().unwrap()), json!({ "step": "approve", "reason": text("reason") }));
        note("rtn", &back);
        // Another one is on hold, too: the walk releases the last.
        let second = json!({ "country": text("land"), "currency": "GBP", "lines": [line(1)] });
        let second = send("POST", "/api/v1/orders", second)["order_id"].clone();
        for held in [at.clone(), format!("/api/v1/orders/{}", second.as_str().unwrap())] {
            send("POST", &format!("{held}/hold"), json!({ "reason": text("reason") }));
        }
        send("POST", &format!("{at}/remarks"), json!({ "text": text("remark") }));
        send("PUT", &format!("{at}/tags"), json!({ "tags": [mark] }));
        let credit = json!({ "external_ref": format!("{reference}-c"), "order_id": order["order_id"], "currency": "GBP", "reason": text("reason"), "lines": [line(-1)] });
        note("crn", &send("POST", "/api/v1/credit-notes", credit)["id"]);
        let adjustment = json!({ "external_ref": format!("{reference}-a"), "country": text("land"), "currency": "GBP", "reason": text("reason"), "lines": [line(-1)] });
        note("adj", &send("POST", "/api/v1/adjustments", adjustment)["id"]);
        let invitation = json!({ "email": format!("{mark}-{n}@invited.example"), "role": "staff" });
        note("inv", &send("POST", "/api/v1/invitations", invitation)["id"]);
        note("key", &send("POST", "/api/v1/api-keys", json!({ "name": text("key"), "permissions": ["orders.read"] }))["id"]);
    }
    // Accounts with a hold between two of them, which is a transaction too.
    let account = |code: &str, owner: &str| json!({ "code": format!("{mark}-{code}"), "name": text("account"), "type": "liability", "currency": "GBP", "owner": owner, "may_go_negative": true });
    let payer = send("POST", "/api/v1/ledger/accounts", account("payer", mark))["account_id"].clone();
    let payee = send("POST", "/api/v1/ledger/accounts", account("payee", mark))["account_id"].clone();
    note("acc", &payee);
    note("debit", &payer);
    let dollars = json!({ "code": format!("{mark}-dollars"), "type": "liability", "currency": "USD" });
    note("dollars", &send("POST", "/api/v1/ledger/accounts", dollars)["account_id"]);
    let details = json!({ "external_ref": format!("{mark}-hold"), "description": text("hold"), "metadata": { mark: text("metadata") } });
    let hold = json!({ "debit_account_id": payer, "credit_account_id": payee, "amount_minor": 7, "expires_at": "2036-01-31T12:00:00Z", "details": details });
    note("txn", &send("POST", "/api/v1/ledger/holds", hold)["transaction_id"]);
    // Payments with a task, their providers, and stored ways to pay.
    for n in ["r", "s"] {
        let provider =
            json!({ "name": text("provider"), "kind": "sandbox", "base_url": "http://127.0.0.1:9", "api_key": format!("sk_{mark}") });
        let provider = send("POST", "/api/v1/payments/providers", provider)["provider_id"].clone();
        note("psp", &provider);
        send("PUT", "/api/v1/payments/routing", json!({ "rules": [{ "provider_id": provider, "merchants": [mark] }] }));
        let method = json!({ "customer": mark, "provider_id": provider, "token": "tok_approve", "label": text("card") });
        note("pmt", &send("POST", "/api/v1/payments/methods", method)["method_id"]);
        let payment = json!({ "amount_minor": 100, "currency": "GBP", "merchant": mark, "external_ref": format!("{mark}-{n}") });
        let payment = send("POST", "/api/v1/payments/intents", payment)["intent_id"].clone();
        note("pay", &payment);
        send("POST", &format!("/api/v1/payments/intents/{}/confirm", payment.as_str().unwrap()), json!({ "token": "tok_approve" }));
        note("sag", &send("GET", "/api/v1/workflows", Value::Null)["data"][0]["id"]);
        note("ptk", &send("POST", "/api/v1/payments/tasks", json!({ "intent_id": payment, "detail": text("task") }))["task_id"]);
    }
    // Settlement files, each with a row that is nobody's.
    let provider = ids["psp"].clone();
    for n in ["r", "s"] {
        let file = format!(
            "type,charge_id,charge_reference,movement_id,reference,currency,gross_minor,fee_minor,net_minor,occurred_at\ncapture,{mark}-{n},,{mark}-m{n},{mark}-ref,GBP,100,5,95,2026-01-05T12:00:00Z\n"
        );
        let path = format!("/api/v1/payments/reconciliations?provider_id={provider}&day=2026-01-05");
        let answer = client.send(&Request::new("POST", path).bearer(&tenant.key).body("text/csv", file));
        assert_eq!(answer.status, 201, "{}", answer.text());
        ids.insert("rcn".to_owned(), answer.json()["run_id"].as_str().unwrap().to_owned());
        let request = Request::new("GET", "/api/v1/payments/breaks").bearer(&tenant.key);
        ids.insert("brk".to_owned(), client.send(&request).json()["data"][0]["break_id"].as_str().unwrap().to_owned());
    }
    let mut send = |method: &str, path: &str, body: Value| -> Value {
        let mut request = Request::new(method, path).bearer(&tenant.key);
        if !body.is_null() {
            request = request.json(&body);
        }
        let answer: Answer = client.send(&request);
        assert!((200..300).contains(&answer.status), "{}: {} {}", request.shown(), answer.status, answer.text());
        answer.json()
    };
    let format = json!({ "columns": { "reference": "reference", "gross": "gross", "currency": "currency" }, "captures": [mark] });
    send("PUT", &format!("/api/v1/payments/providers/{provider}/settlement-format"), format);
    let mut note = |prefix: &str, value: &Value| {
        ids.insert(prefix.to_owned(), value.as_str().unwrap().to_owned());
    };
    // Merchants, each paid at a provider that works, and settled.
    let provider = json!({ "name": text("provider"), "kind": "sandbox", "base_url": provider_url, "api_key": "sk_sandbox" });
    let provider = send("POST", "/api/v1/payments/providers", provider)["provider_id"].clone();
    for n in ["r", "s"] {
        let merchant = format!("{mark}-{n}");
        send("PUT", &format!("/api/v1/payments/merchants/{merchant}"), json!({ "name": text("merchant"), "account": mark }));
        let payment = json!({ "amount_minor": 100, "currency": "GBP", "merchant": merchant, "token": "tok_approve", "token_provider_id": provider, "confirm": true });
        assert_eq!(send("POST", "/api/v1/payments/intents", payment)["state"], "captured");
        note("stb", &send("POST", "/api/v1/payments/settlement-batches", json!({ "currency": "GBP" }))["batch_id"]);
        note("mch", &send("GET", "/api/v1/payments/merchants", Value::Null)["data"][0]["merchant_id"]);
    }
    // Webhook endpoints, at a name that nobody has, with what could not be delivered.
    for n in ["r", "s"] {
        let hook =
            json!({ "url": format!("https://{mark}-{n}.invalid/hook"), "description": text("hook"), "events": [format!("{mark}.*")] });
        let endpoint = send("POST", "/api/v1/webhooks/endpoints", hook)["endpoint_id"].clone();
        note("whe", &endpoint);
        let ping = format!("/api/v1/webhooks/endpoints/{}/ping", endpoint.as_str().unwrap());
        note("whd", &send("POST", &ping, Value::Null)["delivery_id"]);
    }
    // Nothing has one: the database was never away.
    note("qor", &json!(if mark == MARK { "qor_0000000ZZZZ" } else { "qor_0000000YYYY" }));
    tenant.things.pay_code = wallets(mark, &mut send, &mut note);
    tenant.things.coupon = pricing(mark, &mut send, &mut note);
    shipping(mark, carrier_url, &mut send, &mut note);
    // The variant of which there are observed prices.
    note("var", &send("GET", &format!("/api/v1/variants/by-sku?sku={mark}1"), Value::Null)["variant_id"]);
    let variant = ids["var"].clone();
    inventory(mark, &variant, &mut send, ids);
    // It has a price too, so that it can be put into a cart.
    send("PUT", &format!("/api/v1/variants/{}/prices/GBP", ids["var"]), json!({ "price": price }));
    // While these are bought, everything is paid at the provider that works.
    let routing = send("GET", "/api/v1/payments/routing", Value::Null)["rules"].clone();
    send("PUT", "/api/v1/payments/routing", json!({ "rules": [{ "provider_id": provider }] }));
    for _ in 0..2 {
        let line = json!({ "variant_id": ids["var"], "quantity": 2 });
        let cart = json!({ "currency": "GBP", "email": format!("{mark}@cart.example"), "lines": [line] });
        let cart = send("POST", "/api/v1/storefront/carts", cart)["cart_id"].clone();
        send("PATCH", &format!("/api/v1/storefront/carts/{}", cart.as_str().unwrap()), json!({ "coupons": ["WALK"] }));
        ids.insert("crt".to_owned(), cart.as_str().unwrap().to_owned());
        let checkout = json!({
            "lines": [{ "variant_id": ids["var"], "quantity": 1 }], "currency": "GBP", "email": format!("{mark}@checkout.example"),
            "destination": { "country": "GB", "recipient": text("buyer") }, "payment_token": "tok_approve",
        });
        let checkout = send("POST", "/api/v1/storefront/checkouts", checkout);
        assert!(checkout["state"] != "failed", "{checkout}");
        ids.insert("chk".to_owned(), checkout["checkout_id"].as_str().unwrap().to_owned());
    }
    send("PUT", "/api/v1/payments/routing", json!({ "rules": routing }));
    send("PUT", "/api/v1/roles/packers", json!({ "description": text("role"), "permissions": ["orders.read"] }));
    send("PUT", "/api/v1/settings", json!({ "legal_name": text("legal"), "support_email": format!("{mark}@walk.example") }));
    send("PUT", "/api/v1/flags", json!({ "flags": { mark: true } }));
}

/// Zones with a method and its rates, and shipments on their way.
fn shipping(mark: &str, carrier_url: &str, send: &mut impl FnMut(&str, &str, Value) -> Value, note: &mut impl FnMut(&str, &Value)) {
    let text = |what: &str| format!("{mark} {what}");
    for country in ["GB", "FR"] {
        let zone = json!({ "name": text("zone"), "areas": [{ "country": country }] });
        let zone = send("POST", "/api/v1/shipping/zones", zone)["zone_id"].clone();
        let method = json!({ "name": text("method"), "min_days": 1, "max_days": 2, "service": "standard" });
        let method = send("POST", "/api/v1/shipping/methods", method)["method_id"].clone();
        for currency in ["GBP", "EUR"] {
            let path = format!("/api/v1/shipping/methods/{}/rates/{}/{currency}", method.as_str().unwrap(), zone.as_str().unwrap());
            send("PUT", &path, json!({ "basis": "weight", "tiers": [{ "price_minor": 100 }] }));
        }
        let destination = json!({ "recipient": text("recipient"), "line1": text("line1"), "line2": text("line2"), "city": text("city"),
            "region": text("region"), "postal_code": mark, "country": country, "phone": mark });
        let parcel = json!({ "weight_g": 500, "lines": [{ "line": 1, "quantity": 1 }] });
        let shipment = json!({ "order_id": format!("{mark}-order"), "method_id": method, "destination": destination, "note": text("note"), "parcels": [parcel] });
        let shipment = send("POST", "/api/v1/shipping/shipments", shipment)["shipment_id"].clone();
        let path = format!("/api/v1/shipping/shipments/{}", shipment.as_str().unwrap());
        send("POST", &format!("{path}/steps"), json!({ "step": "pick", "reason": text("reason") }));
        let numbers = json!([{ "parcel": 1, "tracking_number": format!("{mark}-{country}") }]);
        send("POST", &format!("{path}/steps"), json!({ "step": "pack", "reason": text("reason"), "tracking_numbers": numbers }));
        let carrier = json!({ "name": text("carrier"), "kind": "sandbox", "base_url": carrier_url, "api_key": "ck_sandbox" });
        let carrier = send("POST", "/api/v1/shipping/carriers", carrier)["carrier_id"].clone();
        send("POST", &format!("{path}/labels"), json!({ "carrier_id": carrier }));
        while send("GET", &path, Value::Null)["state"] == "label_requested" {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        // What went keeps its labels, whatever the walk asks for.
        send("POST", &format!("{path}/steps"), json!({ "step": "ship", "reason": text("reason") }));
        for event in ["a", "b"] {
            let told = json!({ "parcel": 1, "event_ref": format!("{mark}-{event}"), "status": "announced", "occurred_at": "2026-01-05T12:00:00Z", "place": mark });
            send("POST", &format!("{path}/tracking"), told);
        }
        note("zon", &zone);
        note("smt", &method);
        note("shp", &shipment);
        note("car", &carrier);
    }
}

/// Two of everything that prices have; the code of a coupon.
fn pricing(mark: &str, send: &mut impl FnMut(&str, &str, Value) -> Value, note: &mut impl FnMut(&str, &Value)) -> String {
    let mut coupon = String::new();
    for (n, country) in [("r", "FR"), ("s", "GB")] {
        let list =
            send("POST", "/api/v1/pricing/price-lists", json!({ "name": format!("{mark} list"), "currency": "GBP", "status": "paused" }));
        note("pls", &list["price_list_id"]);
        let entries = json!({ "set": [{ "sku": format!("{mark}-1"), "price": "1" }, { "sku": format!("{mark}-2"), "price": "2" }] });
        send("POST", &format!("/api/v1/pricing/price-lists/{}/entries", list["price_list_id"].as_str().unwrap()), entries);
        let promotion =
            json!({ "name": format!("{mark} promotion"), "coupon_required": true, "effect": { "kind": "percent", "percent": 10 } });
        let promotion = send("POST", "/api/v1/pricing/promotions", promotion)["promotion_id"].clone();
        note("prm", &promotion);
        coupon = format!("{}-{n}", mark.to_uppercase());
        for code in [&coupon, &format!("{coupon}-2")] {
            send("POST", "/api/v1/pricing/coupons", json!({ "code": code, "promotion_id": promotion }));
        }
        for sale in ["1", "2"] {
            let sale = json!({ "reference": format!("{mark}-sale-{sale}"), "customer": mark });
            send("POST", &format!("/api/v1/pricing/coupons/{coupon}/redemptions"), sale);
        }
        let exception = json!({ "name": mark, "postcode": "ZZ", "standard": 0 });
        let periods = json!([{ "effective_from": "2020-01-01", "rates": { "standard": 20 }, "exceptions": [exception] }]);
        send("PUT", &format!("/api/v1/pricing/tax/rates/{country}"), json!({ "periods": periods }));
    }
    let settings = json!({ "origin_country": "GB", "registrations": [{ "country": "FR", "number": mark }] });
    send("PUT", "/api/v1/pricing/tax/settings", settings);
    coupon
}

/// Wallets with everything that they can have, and two of what is listed; the text of a pay code.
fn wallets(mark: &str, send: &mut impl FnMut(&str, &str, Value) -> Value, note: &mut impl FnMut(&str, &Value)) -> String {
    let mut policy = send("GET", "/api/v1/wallet-policy", Value::Null)["policy"].take();
    for level in 1..=4 {
        policy["levels"][level - 1] = json!({ "level": level, "name": mark, "otherwise": {} });
    }
    let rule = |code: &str, at_least: i64, points: i64| json!({ "code": code, "when": [{ "feature": "amount", "at_least": at_least }], "points": points });
    policy["fraud"]["rules"] = json!([rule("some", 1_000, 500), rule("more", 2_000, 500)]);
    policy["fraud"]["model"]["points"] = json!(0);
    policy["fraud"]["thresholds"] = json!({ "challenge": 500, "review": 1000, "deny": 1001 });
    policy["times"]["challenge_seconds"] = json!(3600);
    policy["times"]["challenge_attempts"] = json!(10);
    policy["times"]["pay_code_seconds"] = json!(86400);
    for _ in 0..2 {
        send("PUT", "/api/v1/wallet-policy", policy.clone());
    }
    let mut open = |kind: &str| {
        let wallet = json!({ "kind": kind, "name": format!("{mark} {kind}"), "owner": mark, "level": 1, "currencies": ["GBP"] });
        let wallet_id = send("POST", "/api/v1/wallets", wallet)["wallet_id"].clone();
        let deposit = json!({ "amount_minor": 1_000_000, "currency": "GBP", "reference": wallet_id });
        send("POST", &format!("/api/v1/wallets/{}/deposits", wallet_id.as_str().unwrap()), deposit);
        wallet_id
    };
    let (shop, payee, payer) = (open("merchant"), open("system"), open("user"));
    note("shop", &shop);
    note("payee", &payee);
    note("wal", &payer);
    let mut pay = |amount_minor: i64| {
        let transfer = json!({ "from_wallet_id": payer, "to_wallet_id": payee, "amount_minor": amount_minor, "currency": "GBP", "note": format!("{mark} note") });
        send("POST", "/api/v1/wallet-transfers", transfer)["transfer_id"].clone()
    };
    pay(1);
    pay(2_000);
    pay(2_000);
    note("trf", &pay(1_000));
    let mut pay_code = String::new();
    for _ in 0..2 {
        let request = json!({ "asker_wallet_id": payer, "payer_wallet_id": payee, "amount_minor": 5, "currency": "GBP", "note": format!("{mark} note") });
        note("wrq", &send("POST", "/api/v1/wallet-requests", request)["request_id"]);
        let code = json!({ "merchant_wallet_id": shop, "amount_minor": 5, "currency": "GBP", "note": format!("{mark} note") });
        let code = send("POST", "/api/v1/wallet-pay-codes", code);
        note("pcd", &code["code_id"]);
        pay_code = code["pay_code"].as_str().unwrap().to_owned();
        let schedule = json!({ "from_wallet_id": payer, "to_wallet_id": payee, "amount_minor": 5, "currency": "GBP", "note": format!("{mark} note"),
            "every": "month", "first_at": "2036-01-31T12:00:00Z" });
        note("wsc", &send("POST", "/api/v1/wallet-schedules", schedule)["schedule_id"]);
    }
    pay_code
}

/// Stock with everything that it can have, and two of what is listed.
fn inventory(mark: &str, variant: &str, send: &mut impl FnMut(&str, &str, Value) -> Value, ids: &mut HashMap<String, String>) {
    let mut note = |prefix: &str, value: &Value| {
        ids.insert(prefix.to_owned(), value.as_str().unwrap().to_owned());
    };
    let text = |what: &str| format!("{mark} {what}");
    let at = |path: &str| format!("/api/v1/inventory/{path}");
    let mut place = |n: &str| {
        let address = json!({ "line1": text("line1"), "city": text("city"), "postal_code": mark, "country": text("land") });
        let place =
            json!({ "kind": "warehouse", "name": text(n), "address": address, "coordinates": { "latitude": 53.5, "longitude": 10 } });
        send("POST", &at("locations"), place)["location_id"].clone()
    };
    let (shelf, place) = (place("shelf"), place("hall"));
    note("shelf", &shelf);
    note("loc", &place);
    let other = send("GET", &format!("/api/v1/variants/by-sku?sku={mark}2"), Value::Null)["variant_id"].clone();
    for n in ["r", "s"] {
        let item = json!({ "sku": format!("{mark}-{n}"), "name": text("item") });
        let item = send("POST", &at("items"), item)["item_id"].clone();
        note("itm", &item);
        let line = |quantity: i64| json!({ "kind": "received", "item_id": item, "location_id": place, "quantity": quantity });
        let delivery = json!({ "reference": text("delivery"), "note": text("note"), "lines": [line(900), line(100)] });
        send("POST", &at("movements"), delivery);
        for variant in [variant, other.as_str().unwrap()] {
            send("PUT", &at("components"), json!({ "variant_id": variant, "components": [{ "item_id": item, "quantity": 1 }] }));
        }
        let line = json!({ "variant_id": variant, "quantity": 2 });
        let wanted = json!({ "reference": format!("{mark}-{n}"), "lines": [line, line] });
        send("POST", &at("reservations"), wanted);
        let goods = json!({ "from_location_id": place, "to_location_id": shelf, "note": text("van"), "lines": [{ "item_id": item, "quantity": 3 }] });
        note("stf", &send("POST", &at("transfers"), goods)["transfer_id"]);
        let count = send("POST", &at("counts"), json!({ "location_id": place, "note": text("count") }))["count_id"].clone();
        note("stc", &count);
        send("PUT", &at(&format!("counts/{}/lines", count.as_str().unwrap())), json!({ "lines": [{ "item_id": item, "counted": 990 }] }));
    }
}
