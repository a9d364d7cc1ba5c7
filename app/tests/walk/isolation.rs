//! Nothing of a tenant reaches anybody else, and nobody else changes it: every operation with every way to ask for what is not one's own.

use crate::client::{Answer, Client, Request};
use crate::common::Sandbox;
use crate::document::{Operation, Place, Things, id_prefix};
use crate::world::{MARKS, World, audit, with_query};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Answers of numbers and ids alone, without a word that would tell whose they are.
const ONLY_NUMBERS: &[&str] = &[
    "/api/v1/inventory/settings",
    "/api/v1/ledger/accounts/{account_id}/balance",
    "/api/v1/ledger/accounts/{account_id}/limits",
    "/api/v1/ledger/owners/{owner}/limits/{currency}",
    "/api/v1/ledger/holds/{hold_id}",
    "/api/v1/ledger/trial-balance",
    "/api/v1/cart-settings",
    "/api/v1/checkout-settings",
    "/api/v1/storefront/destinations",
    "/api/v1/storefront/products/{product_id}/availability",
    "/api/v1/rates",
    "/api/v1/rates/convert",
    "/api/v1/wallets/{wallet_id}/statement",
    "/api/v1/wallet-transfers/{transfer_id}/code",
];

/// What is there only after the database was away; `app/tests/away.rs` looks at these.
const NOT_THERE: &[&str] = &["/api/v1/order-intake/{intake_id}"];

pub fn walk(sandbox: &Sandbox) {
    let world = World::new(sandbox);
    let guarded: Vec<&Operation> = world.document.operations.iter().filter(|operation| operation.access != "public").collect();
    assert!(guarded.len() > 50, "the document has lost its operations");
    let mut walk = Walk { client: world.client(), world: &world, secret: BTreeSet::new(), said: BTreeSet::new() };
    let replayable = walk.keyed_requests_of_a(&guarded);
    walk.order_to(&world.a.key, "zqamark before");
    let before = walk.seen_by_a(&guarded);
    let events = walk.events(&world.a.key, &[], "zqamark before");
    walk.secret.extend(ids_in(&events));
    for operation in &guarded {
        walk.without_a_credential(operation);
        walk.without_the_permission(operation);
        walk.of_another_tenant(operation);
        walk.by_another_name(operation);
        walk.by_the_administrator(operation);
    }
    walk.cursors(&guarded);
    walk.keys(&replayable);
    walk.streams(&events);
    let after = walk.seen_by_a(&guarded);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before, after, "what A has was changed");
    }
    walk.order_to(&world.a.key, "zqamark after");
    let all_events = walk.events(&world.a.key, &[], "zqamark after");
    let added = all_events.strip_prefix(&events).expect("the events of A go on where they were");
    assert_eq!(added.lines().filter(|line| line.starts_with("id:")).count(), 1, "A has only placed one order more: {added}");
    assert_eq!(world.server.stop(), Some(0));
    audit(sandbox);
}

struct Walk<'a> {
    client: Client,
    world: &'a World,
    /// Every id that A's answers hold.
    secret: BTreeSet<String>,
    /// Those of them that a stranger has written somewhere of its own, and so may read there: a reference that is not looked up.
    said: BTreeSet<String>,
}

impl Walk<'_> {
    /// Sends for somebody who is not of A, and looks for A in the answer.
    #[track_caller]
    fn send(&mut self, request: &Request) -> Answer {
        let answer = self.client.send(request);
        if request.method != "GET" && answer.status < 300 {
            let body = String::from_utf8_lossy(request.body.as_deref().unwrap_or_default()).into_owned();
            self.said.extend(ids_in(&body).into_iter().filter(|id| self.secret.contains(id)));
        }
        self.innocent(request, &format!("{}\n{}", answer.head, answer.text()));
        if answer.status >= 400 {
            assert!(answer.is_problem() && answer.status < 500, "{}: {} {}", request.shown(), answer.head, answer.text());
        }
        answer
    }

    /// Asserts that a text for a stranger holds nothing of A but what the stranger has said.
    #[track_caller]
    fn innocent(&self, request: &Request, text: &str) {
        let lower = text.to_lowercase();
        for mark in MARKS {
            assert!(!lower.contains(mark), "{mark} leaks: {}: {text}", request.shown());
        }
        for id in ids_in(text) {
            assert!(
                !self.secret.contains(&id) || self.said.contains(&id) || request.contains(&id),
                "{id} leaks: {}: {text}",
                request.shown()
            );
        }
    }

    #[track_caller]
    fn refused(&mut self, request: &Request, statuses: &[u16]) -> Answer {
        let answer = self.send(request);
        assert!(statuses.contains(&answer.status), "{}: {} instead of {statuses:?}: {}", request.shown(), answer.status, answer.text());
        answer
    }

    /// What A sees: the whole of it, and ids out of it.
    fn seen_by_a(&mut self, operations: &[&Operation]) -> Vec<String> {
        let mut all = Vec::new();
        for operation in
            operations.iter().filter(|o| o.method == "GET" && o.access != "platform" && !o.streams && !NOT_THERE.contains(&o.path.as_str()))
        {
            let request = self.world.request(operation, &self.world.a.things).bearer(&self.world.a.key);
            let answer = self.client.send(&request);
            assert_eq!(answer.status, 200, "{}: {}", request.shown(), answer.text());
            // What has no text of its own has ids.
            let named = self.world.a.things.ids.values().any(|id| answer.text().contains(id));
            let marked = named
                || ONLY_NUMBERS.contains(&operation.path.as_str())
                || MARKS.iter().any(|mark| answer.text().to_lowercase().contains(*mark));
            assert!(marked, "nothing would tell that this is A's: {}: {}", request.shown(), answer.text());
            self.secret.extend(ids_in(&answer.text()));
            let mut body = answer.json();
            forget_use(&mut body);
            if operation.path == "/api/v1/rates/convert" {
                // A currency's rate to itself is always of now.
                body["at"] = Value::Null;
            }
            all.push(format!("{}: {body}", operation.name()));
        }
        // What both have is no secret: the ids that are in the words of an answer, such as examples, belong to nobody.
        self.secret.retain(|id| !self.world.b.things.ids.values().any(|own| own == id));
        all
    }

    /// Does each operation that takes an idempotency key once for A. Gives the requests, with their keys, and the ids in the answers.
    fn keyed_requests_of_a(&mut self, operations: &[&Operation]) -> Vec<(Request, BTreeSet<String>)> {
        let keyed = operations.iter().filter(|o| o.access == "tenant" && o.takes(Place::Header, "Idempotency-Key"));
        let mut done = Vec::new();
        for (number, operation) in keyed.enumerate() {
            let request = self.world.request(operation, &self.world.a.things).header("Idempotency-Key", format!("walked-{number}"));
            let answer = self.client.send(&request.clone().bearer(&self.world.a.key));
            assert!(answer.status < 500 && answer.status != 400, "{}: {} {}", request.shown(), answer.status, answer.text());
            if answer.status < 300 {
                let again = self.client.send(&request.clone().bearer(&self.world.a.key));
                assert_eq!(
                    (again.status, again.header("idempotency-replayed")),
                    (answer.status, "true"),
                    "{}: {}",
                    request.shown(),
                    again.text()
                );
                let ids = ids_in(&answer.text()).into_iter().filter(|id| !request.contains(id)).collect();
                done.push((request, ids));
            }
        }
        assert!(done.len() >= 8, "only {} operations with a key could be done", done.len());
        done
    }

    /// No credential, and credentials that are none.
    fn without_a_credential(&mut self, operation: &Operation) {
        let request = self.world.request(operation, &self.world.a.things);
        let key = &self.world.a.key;
        let other_end = if key.ends_with('a') { "b" } else { "a" };
        let cut = &key[..key.len() - 1];
        self.refused(&request, &[401]);
        for header in [
            "Bearer garbage".to_owned(),
            "Bearer ".to_owned(),
            "Basic YTpi".to_owned(),
            key.clone(),
            format!("Bearer {cut}{other_end}"),
            format!("Bearer {cut}"),
            format!("Bearer {key}{key}"),
            format!("Bearer {}", "x".repeat(5000)),
            format!("Bearer {}", altered(&self.world.admin)),
            "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb290In0.".to_owned(),
        ] {
            self.refused(&request.clone().header("Authorization", header), &[401]);
        }
    }

    /// A credential of A itself that lacks just this.
    fn without_the_permission(&mut self, operation: &Operation) {
        if operation.access == "signed_in" {
            return;
        }
        let key = self.world.a.key_without(&operation.permission);
        let request = self.world.request(operation, &self.world.a.things).bearer(key);
        self.refused(&request, &[403, 404]);
        if operation.access == "platform" {
            let all = self.world.request(operation, &self.world.a.things).bearer(&self.world.a.key);
            self.refused(&all, &[403, 404]);
        }
    }

    /// B's key with ids of A: in the path, in the query, in the body.
    fn of_another_tenant(&mut self, operation: &Operation) {
        let world = self.world;
        let (a, b) = (&world.a.things, &world.b.things);
        if operation.streams {
            return;
        }
        if operation.access == "platform" {
            let request = world.request(operation, a).bearer(&world.b.key);
            self.refused(&request, &[401, 403, 404]);
            return;
        }
        // All ids of A, and each of them alone between B's own.
        let ids: Vec<&str> = operation.at(Place::Path).filter_map(|parameter| id_prefix(&parameter.schema)).collect();
        for alone in ids.iter().map(Some).chain([None]) {
            let mut mixed = b.clone();
            for prefix in &ids {
                if alone.is_none_or(|alone| alone == prefix) {
                    mixed.ids.insert((*prefix).to_owned(), a.ids[*prefix].clone());
                }
            }
            let mut request = world.request(operation, &mixed).bearer(&world.b.key);
            if let Some(body) = world.document.body(operation, b) {
                request.body = Some(body.to_string().into_bytes());
            }
            if !ids.is_empty() {
                self.refused(&request, &[404]);
            } else if operation.method == "GET" {
                let answer = self.send(&request);
                assert_eq!(answer.status, 200, "{}: {}", request.shown(), answer.text());
            }
        }
        for parameter in operation.at(Place::Query).filter(|parameter| parameter.name != "limit" && parameter.name != "cursor") {
            let value = world.document.parameter_sample(operation, parameter, a).replace(' ', "%20");
            let path = operation_path(world, operation, b, &parameter.name);
            let answer =
                self.send(&Request::new(&operation.method, with_query(&path, &format!("{}={value}", parameter.name))).bearer(&world.b.key));
            assert!(answer.status < 500);
        }
        if let Some(body) = world.document.body(operation, b) {
            let own = world.request(operation, b);
            for path in id_fields(&body, b, "") {
                let mut foreign = body.clone();
                let field = foreign.pointer_mut(&path).unwrap();
                let prefix = field.as_str().unwrap()[..3].to_owned();
                *field = Value::from(a.ids[&prefix].clone());
                let request = Request::new(&operation.method, &own.path).bearer(&world.b.key).json(&foreign);
                let answer = self.send(&request);
                // A line's variant is a note that leads nowhere: the orders never look it up; so is a wallet's user. A bulk says what of it
                // was done.
                let note = path.ends_with("variant_id") || path.ends_with("/user_id");
                let accepted = answer.status < 300 && !note && answer.json()["done"] != 0;
                assert!(!accepted, "{} with A's {path} was accepted: {}", request.shown(), answer.text());
            }
        }
    }

    /// B's key, and A named as the tenant by header or path.
    fn by_another_name(&mut self, operation: &Operation) {
        let world = self.world;
        for things in [&world.a.things, &world.b.things] {
            let request = world.request(operation, things).bearer(&world.b.key);
            let statuses: &[u16] = if operation.access == "platform" { &[400, 401, 403, 404] } else { &[400, 404] };
            for name in [world.a.slug, &world.a.things.ids["ten"]] {
                let by_header = self.refused(&request.clone().header("X-Tenant-Id", name), statuses);
                if by_header.status == 400 {
                    assert_eq!(by_header.json()["code"], "request.tenant_mismatch", "{}", by_header.text());
                }
                let mut by_path = request.clone();
                by_path.path = request.path.replacen("/api/v1/", &format!("/api/v1/tenants/{name}/"), 1);
                self.refused(&by_path, statuses);
                // One of the two names may be one's own.
                self.refused(&by_path.header("X-Tenant-Id", world.b.slug), statuses);
            }
        }
    }

    /// The platform's administrator has the platform's rights, and none in a tenant.
    fn by_the_administrator(&mut self, operation: &Operation) {
        let world = self.world;
        if operation.access != "tenant" {
            return;
        }
        let request = world.request(operation, &world.a.things).bearer(&world.admin);
        self.refused(&request, &[400, 403, 404]);
        self.refused(&request.header("X-Tenant-Id", world.a.slug), &[403, 404]);
    }

    /// A's cursors in B's hands, and A's cursor of one list in another.
    fn cursors(&mut self, operations: &[&Operation]) {
        let world = self.world;
        let lists = operations.iter().filter(|o| o.takes(Place::Query, "cursor"));
        let mut before: Option<String> = None;
        for operation in lists {
            let (mine, theirs) = match operation.access.as_str() {
                "platform" => (&world.admin, &world.b.key),
                _ => (&world.a.key, &world.b.key),
            };
            let path = with_query(&world.request(operation, &world.a.things).path, "limit=1");
            let page = self.client.send(&Request::new("GET", &path).bearer(mine));
            let cursor =
                page.json()["next_cursor"].as_str().unwrap_or_else(|| panic!("{path} has no second page: {}", page.text())).to_owned();
            let next = format!("cursor={cursor}");
            let followed = self.client.send(&Request::new("GET", with_query(&path, &next)).bearer(mine));
            assert_eq!(followed.status, 200, "{}", followed.text());
            let path = with_query(&world.request(operation, &world.b.things).path, &next);
            let answer = self.refused(&Request::new("GET", path).bearer(theirs), &[400, 403]);
            if answer.status == 400 {
                assert_eq!((answer.json()["code"].as_str(), answer.fields()), (Some("request.invalid_cursor"), vec!["cursor".to_owned()]));
            }
            if let Some(other) = before.replace(cursor) {
                let path = with_query(&world.request(operation, &world.a.things).path, &format!("cursor={other}"));
                let answer = self.client.send(&Request::new("GET", path).bearer(mine));
                assert_eq!(answer.status, 400, "a cursor of another list: {}", answer.text());
            }
        }
    }

    /// The very requests that A has sent under its keys, from B: they are B's own.
    fn keys(&mut self, done: &[(Request, BTreeSet<String>)]) {
        for (request, ids) in done {
            let answer = self.send(&request.clone().bearer(&self.world.b.key));
            assert_eq!(answer.header("idempotency-replayed"), "", "{}: {}", request.shown(), answer.text());
            let got = ids_in(&answer.text());
            assert!(got.iter().all(|id| !ids.contains(id)), "{}: A's answer: {}", request.shown(), answer.text());
        }
    }

    /// Places an order to a country that nobody else has: the last event of its tenant.
    fn order_to(&mut self, key: &str, country: &str) {
        let lines = json!([{ "sku": "x", "quantity": 1, "unit_price": "1" }]);
        let order = json!({ "country": country, "currency": "EUR", "lines": lines });
        let answer = self.client.send(&Request::new("POST", "/api/v1/orders").bearer(key).json(&order));
        assert_eq!(answer.status, 201, "{}", answer.text());
    }

    /// A tenant's stream until a text is in it; the frames' text without the frames' lengths.
    fn events(&self, key: &str, headers: &[(&'static str, &str)], until: &str) -> String {
        let mut request = Request::new("GET", "/api/v1/events?after=start").bearer(key);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let text = self.client.stream(&request, |text| text.contains(until) && text.ends_with("\n\r\n"));
        text.lines().filter(|line| line.starts_with("id:") || line.starts_with("data:")).map(|line| format!("{line}\n")).collect()
    }

    /// B's streams hold B's events and no others, wherever they begin.
    fn streams(&mut self, of_a: &str) {
        let world = self.world;
        let last = "the last one of B";
        self.order_to(&world.b.key, last);
        let of_b = self.events(&world.b.key, &[], last);
        let request = Request::new("GET", "/api/v1/events");
        self.innocent(&request, &of_b);
        assert!(of_b.lines().count() > 4, "{of_b}");
        let ids: Vec<String> = ids_in(of_a).into_iter().filter(|id| id.starts_with("evt_")).collect();
        assert!(ids.len() > 2);
        for id in [&ids[0], &ids[ids.len() - 1]] {
            let resumed = self.events(&world.b.key, &[("Last-Event-ID", id)], last);
            self.innocent(&request, &resumed);
            // It is no more than a moment to go on from: what follows is B's own, in the same order.
            assert!(of_b.ends_with(&resumed), "{resumed}");
        }
    }
}

/// The path of an operation without one of its query parameters.
fn operation_path(world: &World, operation: &Operation, things: &Things, without: &str) -> String {
    let path = world.request(operation, things).path;
    let (path, query) = path.split_once('?').unwrap_or((&path, ""));
    let rest: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with(&format!("{without}="))).collect();
    if rest.is_empty() { path.to_owned() } else { format!("{path}?{}", rest.join("&")) }
}

/// Pointers to the fields of a body that hold one of the tenant's ids.
fn id_fields(body: &Value, things: &Things, at: &str) -> Vec<String> {
    match body {
        Value::String(text) if things.ids.values().any(|id| id == text) => vec![at.to_owned()],
        Value::Object(fields) => fields.iter().flat_map(|(name, inner)| id_fields(inner, things, &format!("{at}/{name}"))).collect(),
        Value::Array(items) => items.iter().enumerate().flat_map(|(i, inner)| id_fields(inner, things, &format!("{at}/{i}"))).collect(),
        _ => Vec::new(),
    }
}

/// Every id in a text: three letters, an underscore, eleven more.
fn ids_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let id = |word: &&str| {
        let (mut kind, mut digits) = (word.bytes().take(3), word.bytes().skip(4));
        word.len() == 15 && word.as_bytes()[3] == b'_' && kind.all(|b| b.is_ascii_lowercase()) && digits.all(|b| b != b'_')
    };
    words.filter(id).map(str::to_owned).collect()
}

/// What changes without anybody's doing: when a key was used last, by looking; and how a delivery fares that nobody takes, with time.
fn forget_use(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("last_used_at");
            // A cart is priced whenever it is looked at.
            fields.remove("priced_at");
            if fields.get("kind").is_some_and(|kind| kind == "webhooks.deliver") {
                fields.retain(|name, _| ["id", "key", "kind", "tenant_id"].contains(&name.as_str()));
            }
            if fields.contains_key("delivery_id") {
                fields.retain(|name, _| !["attempted_at", "attempts", "next_at", "error"].contains(&name.as_str()));
            }
            fields.values_mut().for_each(forget_use);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_use),
        _ => {}
    }
}

/// A token with another signature.
fn altered(token: &str) -> String {
    let (front, signature) = token.rsplit_once('.').unwrap_or(("", token));
    let swapped: String = signature.chars().rev().collect();
    format!("{front}.{swapped}")
}
