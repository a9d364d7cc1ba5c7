//! Whatever is sent, the answer is a problem of the 4xx that names the field, or the value is legitimately fine. Never a 5xx, never a hang.

use crate::client::{Answer, Client, Request};
use crate::common::Sandbox;
use crate::document::{Operation, Parameter, Place, id_prefix, kind};
use crate::world::{World, audit, with_query};
use serde_json::{Map, Value, json};

/// Larger than any route takes.
const HUGE_BODY: usize = 10 * 1024 * 1024;
/// Longer than any text may be.
const LONG: usize = 100_000;
/// Fits the line of a request, and no parameter.
const LONG_PARAMETER: usize = 6_000;

pub fn walk(sandbox: &Sandbox) {
    let world = World::new(sandbox);
    let mut walk = Walk { client: world.client(), world: &world, wrong: Vec::new(), sent: 0 };
    for operation in &world.document.operations {
        walk.headers(operation);
        for parameter in operation.at(Place::Path) {
            walk.path(operation, parameter);
        }
        for parameter in operation.at(Place::Query) {
            walk.query(operation, parameter);
        }
        for (content_type, _) in &operation.bodies {
            walk.whole_body(operation, content_type);
        }
        if operation.json_body().is_some() {
            walk.fields(operation);
        }
        // What was set last is not to get in the way of what follows.
        if operation.method == "PUT" {
            let base = walk.base(operation);
            walk.client.send(&base);
        }
    }
    let Walk { wrong, sent, .. } = walk;
    assert!(wrong.is_empty(), "{} of {sent} requests were answered wrongly:\n{}", wrong.len(), wrong.join("\n"));
    assert!(sent > 3_000, "only {sent} requests: the walk has lost its way");
    assert_eq!(world.server.stop(), Some(0));
    audit(sandbox);
}

/// What may come back.
#[derive(Clone, Copy, PartialEq)]
enum Expect<'a> {
    /// A refusal, whatever it names.
    Refused,
    /// A refusal that names this field, one of its own, or the one that it is in. A 404 names nothing.
    Naming(&'a str),
    /// The same, or it is taken.
    NamingOrFine(&'a str),
}

struct Walk<'a> {
    client: Client,
    world: &'a World,
    /// What was answered wrongly; all of it is told at the end.
    wrong: Vec<String>,
    sent: usize,
}

impl Walk<'_> {
    /// The operation's request as it should be, with the credential that may do it.
    fn base(&self, operation: &Operation) -> Request {
        let request = self.world.request(operation, &self.world.b.things);
        match operation.access.as_str() {
            "public" => request,
            "platform" => request.bearer(&self.world.admin),
            _ => request.bearer(&self.world.b.key),
        }
    }

    fn send(&mut self, request: &Request, expect: Expect<'_>) -> Answer {
        let answer = self.client.send(request);
        self.sent += 1;
        if let Some(why) = wrong(&answer, expect) {
            let body: String = answer.text().chars().take(500).collect();
            self.wrong.push(format!("- {why}: {}\n  {} {body}", request.shown(), answer.status));
        }
        answer
    }

    fn headers(&mut self, operation: &Operation) {
        let base = self.base(operation);
        if operation.takes(Place::Header, "Idempotency-Key") {
            for value in ["", " ", "two words", "k\u{e9}y", &"k".repeat(256)] {
                self.send(&base.clone().header("Idempotency-Key", value), Expect::Naming("Idempotency-Key"));
            }
            let twice = base.clone().header("Idempotency-Key", "one").header("Idempotency-Key", "two");
            self.send(&twice, Expect::Naming("Idempotency-Key"));
        }
        if operation.takes(Place::Header, "If-Match") {
            for value in ["", "3", "\"3", "\"3\", \"4\"", "caf\u{e9}"] {
                self.send(&base.clone().header("If-Match", value), Expect::Naming("If-Match"));
            }
            for value in ["\"99999999999999999999999\"", "\"-1\"", "\"\"", "W/\"1\""] {
                self.send(&base.clone().header("If-Match", value), Expect::Refused);
            }
        }
        if operation.takes(Place::Header, "X-Tenant-Id") {
            for value in ["", "no-such-tenant", "ten_00000000000", "\u{e9}", "a b", "../x", &"a".repeat(5000)] {
                self.send(&base.clone().header("X-Tenant-Id", value), Expect::Refused);
            }
        }
        if operation.takes(Place::Header, "Last-Event-ID") {
            for value in ["", "x", "evt_", "evt_zzzzzzzzzzzzzzz", "ord_00000000001", "\u{e9}"] {
                self.send(&base.clone().header("Last-Event-ID", value), Expect::Naming("Last-Event-ID"));
            }
        }
    }

    fn path(&mut self, operation: &Operation, parameter: &Parameter) {
        let base = self.base(operation);
        let good = self.world.document.parameter_sample(operation, parameter, &self.world.b.things);
        let long = "a".repeat(LONG_PARAMETER);
        let mut values = vec![
            "%C3%A9%F0%9F%98%80",
            "\u{e9}",
            "%FF%FE",
            "%00",
            "a%00",
            "%2F..%2F",
            "..%2f",
            "%20",
            "-1",
            "1e30",
            "null",
            "*",
            "'",
            &long,
        ];
        let (cut, longer) = (&good[..good.len() - 1], format!("{good}{}", "0".repeat(100)));
        if id_prefix(&parameter.schema).is_some() {
            values.extend(["zzz_00000000001", "00000000001", cut, &longer]);
        }
        if kind(&parameter.schema) == "integer" {
            values.extend(["abc", "1.5", "99999999999999999999999", "0x1"]);
        }
        let free = parameter.schema["pattern"].is_null() && parameter.schema["enum"].is_null() && kind(&parameter.schema) == "string";
        for value in values {
            let mut request = base.clone();
            request.path = replaced(&operation.path, &base.path, &parameter.name, value);
            // Odd names, but names.
            let name = free && ["-1", "1e30", "null"].contains(&value);
            let expect = if name { Expect::NamingOrFine(&parameter.name) } else { Expect::Naming(&parameter.name) };
            self.send(&request, expect);
        }
    }

    fn query(&mut self, operation: &Operation, parameter: &Parameter) {
        let base = self.base(operation);
        let name = parameter.name.as_str();
        let (path, others) = base.path.split_once('?').unwrap_or((&base.path, ""));
        let others: Vec<&str> = others.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with(&format!("{name}="))).collect();
        let rest = if others.is_empty() { path.to_owned() } else { format!("{path}?{}", others.join("&")) };
        let mut send = |value: &str, expect| {
            let mut request = base.clone();
            request.path = with_query(&rest, &format!("{name}={value}"));
            if operation.streams && expect != Expect::Naming(name) {
                return;
            }
            self.send(&request, expect);
        };
        send("%00", Expect::Naming(name));
        send("a%00b", Expect::Naming(name));
        let long = "a".repeat(LONG_PARAMETER);
        for value in ["%C3%A9%F0%9F%98%80", "%FF%FE", &long, "", "-1", "1e30", "%22%27%3B--", "[]"] {
            send(value, Expect::NamingOrFine(name));
        }
        let shaped =
            id_prefix(&parameter.schema).is_some() || parameter.schema["enum"].is_array() || parameter.schema["format"].is_string();
        if kind(&parameter.schema) == "integer" {
            for value in ["abc", "1.5", "1e30", "99999999999999999999", "", "0x1"] {
                send(value, Expect::Naming(name));
            }
        } else if shaped || name == "cursor" {
            for value in ["garbage", "%C3%A9", "zzz_00000000001", &long] {
                send(value, Expect::Naming(name));
            }
        }
        if name == "limit" {
            for value in ["0", "-1", "101", "4294967296"] {
                send(value, Expect::Naming(name));
            }
        }
        let twice = with_query(&rest, &format!("{name}=1&{name}=2"));
        let mut request = base.clone();
        request.path = twice;
        self.send(&request, Expect::Naming(name));
        if parameter.required {
            let mut request = base.clone();
            request.path = rest;
            self.send(&request, Expect::Naming(name));
        }
    }

    /// The body as a whole.
    fn whole_body(&mut self, operation: &Operation, content_type: &str) {
        let base = self.base(operation);
        let json = content_type == "application/json";
        let with = |kind: &str, body: Vec<u8>| {
            let mut request = base.clone();
            request.headers.retain(|(name, _)| *name != "Content-Type");
            request.body(kind, body)
        };
        let good = base.body.clone().unwrap_or_default();
        if json {
            let answer = self.client.send(&base);
            // What the walk makes up has to be understood: else nothing that follows would tell anything.
            if answer.status == 400 || answer.status >= 500 {
                self.wrong.push(format!("- the walk's own body is not taken: {}\n  {}", base.shown(), answer.text()));
            }
        }
        for kind in
            ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "nonsense", "application/jsonx"]
        {
            let answer = self.send(&with(kind, good.clone()), Expect::Refused);
            if answer.status != 415 {
                self.wrong.push(format!("- {} with Content-Type {kind:?} is answered {} and not 415", operation.name(), answer.status));
            }
        }
        let mut none = base.clone();
        none.body = None;
        let optional =
            json && self.world.document.value["paths"][&operation.path][operation.method.to_lowercase()]["requestBody"]["required"] != true;
        if !optional {
            self.send(&none, Expect::Refused);
            self.send(&with(content_type, Vec::new()), Expect::Refused);
        }
        if json {
            let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
            let deep_object = format!("{}1{}", "{\"a\":".repeat(200), "}".repeat(200));
            let deep_field = format!("{{\"lines\":{deep}}}");
            let trailing = [good.as_slice(), b"{}"].concat();
            let texts: [&[u8]; 14] = [
                b"{",
                b"nonsense",
                b"{\"a\":}",
                b"[]",
                b"[1,2]",
                b"\"text\"",
                b"1",
                b"true",
                b"\xff\xfe",
                b"{\"\xff\":1}",
                deep.as_bytes(),
                deep_object.as_bytes(),
                deep_field.as_bytes(),
                &trailing,
            ];
            for text in texts {
                self.send(&with(content_type, text.to_vec()), Expect::Refused);
            }
        }
        for chunked in [false, true] {
            let mut huge = with(content_type, vec![b' '; HUGE_BODY]);
            huge.chunked = chunked;
            let answer = self.send(&huge, Expect::Refused);
            if answer.status != 413 {
                self.wrong.push(format!(
                    "- {} with 10 MiB (chunked: {chunked}) is answered {} and not 413",
                    operation.name(),
                    answer.status
                ));
            }
        }
        if !json {
            for text in [&b"\xff\xfe\x00"[..], b"\n\n\n", b"\"", b"sku,sku\n1,2\n", b"nonsense\n1\n", b"{\"sku\":1e30}\n", b"sku\n\x00\n"] {
                // A file has a report of its wrong lines, or is refused as a whole.
                let answer = self.send(&with(content_type, text.to_vec()), Expect::NamingOrFine(""));
                if answer.status == 200 && answer.json()["created"] != 0 {
                    self.wrong.push(format!("- {:?} was taken: {}", String::from_utf8_lossy(text), answer.text()));
                }
            }
        }
    }

    /// Each field in turn.
    fn fields(&mut self, operation: &Operation) {
        let base = self.base(operation);
        let things = &self.world.b.things;
        let Some(body) = self.world.document.body(operation, things) else { return };
        let schema = operation.json_body().cloned().unwrap_or_default();
        let mut fields = Vec::new();
        self.collect(&schema, &body, "", "", &mut fields);
        for field in fields {
            let mut send = |value: Value, expect| {
                // A new body each time: else the second would collide with the first.
                let mut body = self.world.document.body(operation, things).unwrap_or_default();
                if let Some(place) = body.pointer_mut(&field.pointer) {
                    *place = value;
                }
                let mut request = base.clone();
                request.body = Some(body.to_string().into_bytes());
                self.send(&request, expect);
            };
            let naming = Expect::Naming(&field.path);
            let maybe = Expect::NamingOrFine(&field.path);
            send(Value::Null, if field.may_be_null { maybe } else { naming });
            let kinds = [
                ("string", json!("\u{1F600} \u{e9} \u{202e}")),
                ("integer", json!(7)),
                ("boolean", json!(true)),
                ("array", json!([[]])),
                ("object", json!({ "zz": 1 })),
            ];
            for (kind, value) in kinds {
                // Prices may come as numbers, too.
                let fits = kind == field.kind || (kind == "integer" && (field.pattern || field.kind == "number"));
                send(value, if fits && kind != "array" { maybe } else { naming });
            }
            send(json!(1e30), naming);
            let number = field.pattern || field.kind == "number";
            send(json!(-1), if field.kind == "integer" || number { maybe } else { naming });
            send(json!(-1.5), if number { maybe } else { naming });
            send(json!(i64::MIN), naming);
            send(json!(u64::MAX), naming);
            send(json!("x".repeat(LONG)), naming);
            send(json!("\u{1F600}".repeat(LONG / 4)), naming);
            send(json!("a\u{0}b"), naming);
            send(json!(""), maybe);
            send(json!("   "), maybe);
            send(json!("\u{7f}\u{85}\u{feff}"), maybe);
            if field.kind == "array" {
                send(json!([]), maybe);
                send(json!([null]), naming);
                send(json!(["x", 1, {}]), naming);
            }
            if field.kind == "object" && field.closed {
                let mut more = Map::new();
                more.insert("no_such_field".to_owned(), json!(1));
                let mut body = self.world.document.body(operation, things).unwrap_or_default();
                if let Some(Value::Object(fields)) = body.pointer_mut(&field.pointer) {
                    fields.append(&mut more);
                }
                let mut request = base.clone();
                request.body = Some(body.to_string().into_bytes());
                let path = if field.path.is_empty() { "no_such_field".to_owned() } else { format!("{}.no_such_field", field.path) };
                self.send(&request, Expect::Naming(&path));
            }
        }
    }

    /// Every field of a body, the body itself among them.
    fn collect(&self, schema: &Value, value: &Value, pointer: &str, path: &str, fields: &mut Vec<Field>) {
        let nullable = |schema: &Value| {
            schema["oneOf"].as_array().is_some_and(|choices| choices.iter().any(|choice| choice["type"] == "null"))
                || schema["type"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "null"))
        };
        let resolved = self.world.document.resolved(schema);
        fields.push(Field {
            pointer: pointer.to_owned(),
            path: path.to_owned(),
            kind: if resolved["enum"].is_array() { "enum".to_owned() } else { kind(&resolved).to_owned() },
            pattern: resolved["pattern"].as_str().is_some_and(|pattern| pattern.contains(r"\.")),
            may_be_null: nullable(schema) || nullable(&resolved),
            closed: resolved["additionalProperties"] == false,
        });
        match value {
            Value::Object(inner) => {
                for (name, value) in inner {
                    let schema = if resolved["properties"][name].is_null() {
                        &resolved["additionalProperties"]
                    } else {
                        &resolved["properties"][name]
                    };
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    self.collect(schema, value, &format!("{pointer}/{name}"), &path, fields);
                }
            }
            Value::Array(items) => {
                if let Some(first) = items.first() {
                    self.collect(&resolved["items"], first, &format!("{pointer}/0"), &format!("{path}[0]"), fields);
                }
            }
            _ => {}
        }
    }
}

/// A field of a body.
struct Field {
    /// In the body.
    pointer: String,
    /// As a problem names it.
    path: String,
    kind: String,
    /// A decimal number as text.
    pattern: bool,
    may_be_null: bool,
    /// Takes no other fields.
    closed: bool,
}

/// What is wrong with an answer, if anything.
fn wrong(answer: &Answer, expect: Expect<'_>) -> Option<String> {
    match answer.status {
        200..300 => (!matches!(expect, Expect::NamingOrFine(_))).then(|| "it was taken".to_owned()),
        400..500 if !answer.is_problem() => Some("no problem+json".to_owned()),
        400 => {
            let fields = answer.fields();
            match expect {
                Expect::Naming(name) | Expect::NamingOrFine(name) if !fields.iter().any(|field| about(field, name)) => {
                    Some(format!("{name:?} is not named"))
                }
                Expect::Refused if fields.is_empty() && answer.json()["code"] == "request.invalid" => Some("no field is named".to_owned()),
                _ => None,
            }
        }
        401..500 => None,
        other => Some(format!("status {other}")),
    }
}

/// Whether a problem's field is the one, within it, or around it.
fn about(field: &str, name: &str) -> bool {
    let plain = |text: &str| text.replace(['[', ']'], ".").replace("..", ".").trim_matches('.').to_owned();
    let (field, name) = (plain(field), plain(name));
    let within = |inner: &str, outer: &str| {
        outer.is_empty() || inner == outer || inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'))
    };
    within(&field, &name) || within(&name, &field) || field == "body"
}

/// A path with one of its parameters replaced.
fn replaced(template: &str, path: &str, name: &str, value: &str) -> String {
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let parts = template.split('/').zip(path.split('/')).map(|(part, own)| if part == format!("{{{name}}}") { value } else { own });
    let path = parts.collect::<Vec<_>>().join("/");
    query.map_or(path.clone(), |query| format!("{path}?{query}"))
}
