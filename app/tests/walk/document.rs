//! The operations out of `brandos openapi`, and sample values for whatever they take.

use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Where a parameter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Path,
    Query,
    Header,
}

/// One parameter of an operation.
#[derive(Clone, Debug)]
pub struct Parameter {
    pub name: String,
    pub place: Place,
    pub required: bool,
    /// Without references at its top.
    pub schema: Value,
}

/// A method of a path.
#[derive(Clone, Debug)]
pub struct Operation {
    pub method: String,
    pub path: String,
    /// `public`, `signed_in`, `tenant` or `platform`.
    pub access: String,
    /// Of `tenant` and `platform`.
    pub permission: String,
    pub parameters: Vec<Parameter>,
    /// Content type and schema.
    pub bodies: Vec<(String, Value)>,
    /// Answers without end.
    pub streams: bool,
}

impl Operation {
    /// `GET /api/v1/orders`.
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    pub fn at(&self, place: Place) -> impl Iterator<Item = &Parameter> {
        self.parameters.iter().filter(move |parameter| parameter.place == place)
    }

    pub fn takes(&self, place: Place, name: &str) -> bool {
        self.at(place).any(|parameter| parameter.name == name)
    }

    pub fn json_body(&self) -> Option<&Value> {
        self.bodies.iter().find(|(kind, _)| kind == "application/json").map(|(_, schema)| schema)
    }
}

/// What a tenant has of its own, to be put into requests.
#[derive(Clone, Debug, Default)]
pub struct Things {
    /// An id for each prefix.
    pub ids: HashMap<String, String>,
    /// A custom role.
    pub role: String,
    /// A SKU.
    pub sku: String,
    /// Reference of a customer, an order or a product.
    pub reference: String,
    /// The text of an open pay code.
    pub pay_code: String,
    /// The code of a coupon.
    pub coupon: String,
}

/// The document.
pub struct Document {
    pub value: Value,
    pub operations: Vec<Operation>,
}

impl Document {
    pub fn read(text: &str) -> Document {
        let value: Value = serde_json::from_str(text).expect("the document is JSON");
        let mut document = Document { value, operations: Vec::new() };
        for (path, methods) in document.value["paths"].as_object().expect("paths") {
            for (method, operation) in methods.as_object().expect("methods") {
                let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
                let bodies = operation["requestBody"]["content"].as_object().cloned().unwrap_or_default();
                document.operations.push(Operation {
                    method: method.to_uppercase(),
                    path: path.clone(),
                    access: operation["x-access"].as_str().expect("each operation says who may call it").to_owned(),
                    permission: operation["x-permission"].as_str().unwrap_or_default().to_owned(),
                    parameters: parameters.iter().map(|parameter| document.parameter(parameter)).collect(),
                    bodies: bodies.into_iter().map(|(kind, media)| (kind, media["schema"].clone())).collect(),
                    streams: !operation["responses"]["200"]["content"]["text/event-stream"].is_null(),
                });
            }
        }
        document
    }

    fn parameter(&self, parameter: &Value) -> Parameter {
        let parameter = self.resolved(parameter);
        let place = match parameter["in"].as_str() {
            Some("path") => Place::Path,
            Some("query") => Place::Query,
            Some("header") => Place::Header,
            other => panic!("a parameter in {other:?}: teach the walk"),
        };
        Parameter {
            name: parameter["name"].as_str().expect("a name").to_owned(),
            place,
            required: parameter["required"] == true,
            schema: self.resolved(&parameter["schema"]),
        }
    }

    /// Follows references and takes the first of several choices.
    pub fn resolved(&self, schema: &Value) -> Value {
        let choice = schema["oneOf"].as_array().and_then(|choices| choices.iter().find(|choice| choice["type"] != "null"));
        match (schema["$ref"].as_str(), choice) {
            (Some(target), _) => {
                let found = self.value.pointer(target.strip_prefix('#').expect("within the document"));
                self.resolved(found.unwrap_or_else(|| panic!("{target} is not in the document")))
            }
            (None, Some(choice)) => self.resolved(choice),
            (None, None) => schema.clone(),
        }
    }

    /// A body that the operation takes, with every field that there is; what has to be unique is new each time.
    pub fn body(&self, operation: &Operation, things: &Things) -> Option<Value> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let mut body = self.sample("", operation.json_body()?, things, Some(NEXT.fetch_add(1, Relaxed)));
        // The rules that only this operation has.
        if operation.name() == "POST /api/v1/credit-notes" {
            body["lines"][0]["quantity"] = json!(-1);
        }
        let either = [
            "POST /api/v1/payments/intents",
            "POST /api/v1/payments/intents/{intent_id}/confirm",
            "POST /api/v1/wallets/{wallet_id}/top-ups",
        ];
        if either.contains(&operation.name().as_str()) {
            // Either a token or a stored method.
            body.as_object_mut().expect("an object").remove("method_id");
        }
        match operation.name().as_str() {
            // Of lines, without a cart, which would have its own.
            "POST /api/v1/storefront/checkouts" => {
                body.as_object_mut()
                    .expect("an object")
                    .retain(|name, _| !["cart_id", "cart_version", "shipping_method"].contains(&name.as_str()));
            }
            // Either a parcel or lines, and a reference is without spaces.
            "POST /api/v1/inventory/reservations/{reservation_ref}/ship" => {
                drop(body.as_object_mut().expect("an object").remove("location_id"))
            }
            // A medium is at one place, and a product is shown for a while.
            "POST /api/v1/products" | "PATCH /api/v1/products/{product_id}" => {
                drop(body["media"][0].as_object_mut().expect("an object").remove("key"));
                drop(body.as_object_mut().expect("an object").remove("unpublish_at"));
            }
            // Only a choice has choices.
            "POST /api/v1/catalog/attributes" => body["kind"] = json!("choice"),
            "POST /api/v1/inventory/reservations" => body["reference"] = json!("walked"),
            "POST /api/v1/ledger/exchanges" => body["buy_minor"] = json!(5),
            "POST /api/v1/ledger/transactions" => {
                let mut credit = body["postings"][0].clone();
                credit["side"] = json!("credit");
                credit["account_id"] = json!(things.ids["debit"]);
                body["postings"].as_array_mut().expect("a list").push(credit);
            }
            "POST /api/v1/ledger/transactions/bulk" => {
                body["transactions"][0].as_object_mut().expect("an object").retain(|name, _| name == "transfer");
            }
            _ => {}
        }
        Some(body)
    }

    /// A value that fits the schema and, as far as names tell, the rules behind it. With `fresh` it is for a new thing, else to look one up.
    fn sample(&self, name: &str, schema: &Value, things: &Things, fresh: Option<u32>) -> Value {
        let schema = self.resolved(schema);
        if let Some(known) = known(name, things, fresh) {
            return known;
        }
        if let Some(first) = schema["enum"].as_array().and_then(|words| words.first()) {
            return first.clone();
        }
        if let Some(prefix) = id_prefix(&schema) {
            return json!(things.ids.get(prefix).unwrap_or_else(|| panic!("{name}: no sample of an id {prefix}_: teach the walk")));
        }
        match kind(&schema) {
            "object" => {
                let mut fields = Map::new();
                for (field, inner) in schema["properties"].as_object().into_iter().flatten() {
                    fields.insert(field.clone(), self.sample(field, inner, things, fresh));
                }
                Value::Object(fields)
            }
            "array" => json!([self.sample(name, &schema["items"], things, fresh)]),
            "integer" => json!(schema["minimum"].as_i64().unwrap_or(1).max(1)),
            "boolean" => json!(false),
            "number" => json!(1),
            "string" if schema["format"] == "date-time" => json!("2036-01-31T12:00:00Z"),
            "string" if schema["pattern"].as_str().is_some_and(|pattern| pattern.contains(r"\.")) => json!("4.95"),
            "string" => json!(format!("some {name}")),
            other => panic!("{name}: a schema of type {other:?}: teach the walk: {schema}"),
        }
    }

    /// The value of a path's or a query's parameter.
    #[track_caller]
    pub fn parameter_sample(&self, operation: &Operation, parameter: &Parameter, things: &Things) -> String {
        let known = known(&parameter.name, things, None).is_some();
        let shaped = id_prefix(&parameter.schema).is_some() || parameter.schema["enum"].is_array() || kind(&parameter.schema) == "integer";
        assert!(
            known || shaped || parameter.place != Place::Path,
            "{}: the walk does not know the path parameter {}: teach it",
            operation.name(),
            parameter.name
        );
        match self.sample(&parameter.name, &parameter.schema, things, None) {
            Value::String(text) => text,
            other => other.to_string(),
        }
    }
}

/// Rules that the schema can't tell, by the field's name.
fn known(name: &str, things: &Things, fresh: Option<u32>) -> Option<Value> {
    if let Some(fresh) = fresh {
        match name {
            "email" => return Some(json!(format!("walk-{fresh}@walk.example"))),
            "slug" | "sku" | "external_ref" | "external_id" | "code" => return Some(json!(format!("walk-{fresh}"))),
            "owner" => return Some(json!("walk-owner")),
            // In a path it is the id of one of ours.
            "api_key" => return Some(json!("sk_walk")),
            _ => {}
        }
    }
    Some(match name {
        "support_email" => json!("somebody@walk.example"),
        "permissions" => json!(["orders.read"]),
        "role" => json!("staff"),
        // The only parameter of that name is a role's; as a field it is what people call something.
        "name" => json!(things.role),
        "locale" => json!("en-GB"),
        "time_zone" => json!("Europe/London"),
        "country" => json!("GB"),
        "currency" | "default_currency" => json!("GBP"),
        "flags" => json!({ "some-flag": true }),
        "discount_minor" | "tax_minor" | "included_tax_minor" => json!(0),
        "password" | "current_password" | "new_password" => json!("correct horse battery"),
        "sku" => json!(things.sku),
        "external_ref" => json!(things.reference),
        "owner" => json!("somebody"),
        "metadata" => json!({ "some-name": "some value" }),
        "debit_account_id" | "from_account_id" => json!(things.ids["debit"]),
        "to_account_id" => json!(things.ids["dollars"]),
        "ip" => json!("203.0.113.7"),
        "done" => json!({}),
        "to_wallet_id" | "payer_wallet_id" => json!(things.ids["payee"]),
        "merchant_wallet_id" => json!(things.ids["shop"]),
        "pay_code" => json!(things.pay_code),
        "iban" => json!("DE89370400440532013000"),
        "one_time_code" => json!("000000"),
        "reservation_ref" => json!(things.reference),
        "to_location_id" => json!(things.ids["shelf"]),
        "variant_ids" => json!(things.ids["var"]),
        "saga_id" => json!(things.ids["sag"]),
        // Nobody listens there: a payment that is confirmed finds its provider away.
        "base_url" => json!("http://127.0.0.1:9"),
        "webhook_secrets" => json!(["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]),
        "currencies" => json!(["GBP"]),
        "countries" => json!(["GB"]),
        "from" => json!("2011-01-01"),
        "to" => json!("2011-12-31"),
        "after" => json!("start"),
        "types" => json!("order.placed"),
        "display_currency" => json!("GBP"),
        "url" => json!("https://hooks.invalid/hook"),
        "events" => json!(["order.placed"]),
        "delimiter" => json!(","),
        "day" => json!("2026-01-05"),
        "merchant" => json!(things.reference),
        "coupon_code" => json!(things.coupon),
        "coupon_required" => json!(true),
        "prefix" => json!("WALK-"),
        "origin_country" => json!("GB"),
        "effective_from" => json!("2011-01-01"),
        "rates" => json!({ "standard": 20 }),
        "exceptions" => json!([{ "name": "some place", "postcode": "AB\\d+", "standard": 0 }]),
        "items" => json!({ "GB": [{ "effective_from": "2011-01-01", "rates": { "standard": 20 } }] }),
        "origins" => json!(["https://shop.example"]),
        "coupon" => json!("WALK"),
        "coupons" => json!(["WALK"]),
        "shipping_method" => json!("post"),
        // More than anything costs.
        "seen_price" => json!("99999"),
        _ => return None,
    })
}

/// The type, the null of an optional one left out.
pub fn kind(schema: &Value) -> &str {
    match &schema["type"] {
        Value::String(kind) => kind,
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or(""),
        _ if schema["properties"].is_object() => "object",
        _ => "",
    }
}

/// `ord` of an id's pattern.
pub fn id_prefix(schema: &Value) -> Option<&str> {
    let (prefix, rest) = schema["pattern"].as_str()?.strip_prefix('^')?.split_once('_')?;
    (prefix.len() == 3 && rest.starts_with("[0-9A-Za-z]")).then_some(prefix)
}
