//! The OpenAPI 3.1 document: what the handlers declare, and what the edge adds to every operation.

use crate::intake::TakenIn;
use crate::module::{Access, Module, Route, STOREFRONT};
use crate::problem::{ProblemBody, ProblemField};
use axum::http::{Method, StatusCode};
use serde_json::{Map, Value, json};
use utoipa::{PartialSchema as _, ToSchema};

/// What every operation may answer besides what its handler declares: status, and in words.
const COMMON: [(&str, &str); 9] = [
    ("400", "The request is not valid; `errors` names the fields."),
    ("401", "There is no valid credential."),
    ("403", "The caller may not do this."),
    ("404", "It does not exist, or the caller may not know that it does."),
    ("408", "The body did not arrive in time."),
    ("413", "The body is too large."),
    ("429", "The caller has used up a quota; see `Retry-After`."),
    ("500", "Something went wrong on our side."),
    ("503", "Nothing was done, or the outcome is unknown (code `store.unknown_outcome` or `server.timeout`); see `Retry-After`."),
];

/// The document of the modules' routes and of the edge's own. Takes tens of milliseconds and megabytes.
pub fn openapi(modules: &[Module]) -> Value {
    let mut paths = Map::new();
    let mut schemas = Map::new();
    let mut own = Vec::new();
    ProblemBody::schemas(&mut own);
    own.push((ProblemBody::name().into_owned(), ProblemBody::schema()));
    own.push((ProblemField::name().into_owned(), ProblemField::schema()));
    TakenIn::schemas(&mut own);
    own.push((TakenIn::name().into_owned(), TakenIn::schema()));
    add_schemas(&mut schemas, &own);
    let built_in = crate::builtin::routes();
    let all = modules.iter().flat_map(|module| module.routes.iter().map(|route| (module.name, route)));
    for (module, route) in all.chain(built_in.iter().map(|route| ("platform", route))) {
        let (types, described, _) = (route.handlers.describe)();
        add_schemas(&mut schemas, &types);
        for (path, item) in described.paths {
            let mut item = serde_json::to_value(item).unwrap_or_default();
            let entry = paths.entry(path).or_insert_with(|| json!({}));
            for method in &route.handlers.methods {
                let name = method.as_str().to_ascii_lowercase();
                let mut operation = item[&name].take();
                complete(&mut operation, module, route, method);
                entry[&name] = operation;
            }
        }
    }
    open_parts(&mut schemas);
    let responses: Map<String, Value> = COMMON
        .iter()
        .chain([&("415", "The body is not of a content type that this route takes.")])
        .map(|(status, words)| (response_name(status), problem_response(words)))
        .collect();
    let permissions: Vec<Value> =
        modules.iter().flat_map(|m| m.permissions).map(|p| json!({ "name": p.name, "description": p.description })).collect();
    let events: Vec<Value> = modules
        .iter()
        .flat_map(|m| m.events)
        .map(|e| json!({ "type": e.kind, "version": e.version, "description": e.description }))
        .collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "BrandOS",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The backend of a brand. A tenant's routes need the tenant: in the credential, as subdomain, in `X-Tenant-Id`, or as \
                `/api/v1/tenants/{tenant}/...` in place of `/api/v1/...`; two that disagree are refused. Errors are `application/problem+json`.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": responses,
            "parameters": {
                "TenantId": {
                    "name": "X-Tenant-Id", "in": "header", "required": false, "schema": { "type": "string", "pattern": "^[0-9A-Za-z_-]{1,64}$" },
                    "description": "Slug or id of the tenant, where nothing else names it.",
                },
                "Position": {
                    "name": "BrandOS-Position", "in": "header", "required": false, "schema": { "type": "string", "pattern": "^(0|[1-9][0-9]{0,3})-(0|[1-9][0-9]{0,8})-(0|[1-9a-f][0-9a-f]{0,14})$" },
                    "description": "The header of the same name of the tenant's last answer that had one. What is read is then not older than that \
                        answer, whichever node or replica it comes from. Without it a read that follows a write on another node may be a moment late.",
                },
                "IdempotencyKey": {
                    "name": "Idempotency-Key", "in": "header", "required": false, "schema": { "type": "string", "pattern": "^[!-~]{1,255}$" },
                    "description": "Makes the request happen once: repeated with the same key and body it gets the first answer again, \
                        with the header `Idempotency-Replayed: true`. Kept for at least 24 hours.",
                },
            },
            "headers": {
                "Position": {
                    "schema": { "type": "string" },
                    "description": "How far the caller has seen, to be sent along with the tenant's next requests. There only where replicas are read.",
                },
            },
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer", "description": "An access token, or an API key; on routes of the storefront also a publishable key (`pk_...`)." },
            },
        },
        "x-permissions": permissions,
        "x-events": events,
    })
}

/// A type that refuses unknown fields is closed; where others are put beside its own, it is written out and open, since what is beside them
/// would be unknown to it.
fn open_parts(schemas: &mut Map<String, Value>) {
    let closed: Map<String, Value> =
        schemas.iter().filter(|(_, schema)| schema["additionalProperties"] == false).map(|(name, of)| (name.clone(), of.clone())).collect();
    schemas.values_mut().for_each(|schema| open_parts_of(schema, &closed));
}

fn open_parts_of(schema: &mut Value, closed: &Map<String, Value>) {
    match schema {
        Value::Object(fields) => {
            for part in fields.get_mut("allOf").and_then(Value::as_array_mut).into_iter().flatten() {
                let name = part["$ref"].as_str().and_then(|target| target.strip_prefix("#/components/schemas/"));
                if let Some(Value::Object(found)) = name.and_then(|name| closed.get(name)) {
                    let mut open = found.clone();
                    open.remove("additionalProperties");
                    *part = Value::Object(open);
                }
            }
            fields.values_mut().for_each(|inner| open_parts_of(inner, closed));
        }
        Value::Array(items) => items.iter_mut().for_each(|inner| open_parts_of(inner, closed)),
        _ => {}
    }
}

fn add_schemas(all: &mut Map<String, Value>, new: &[(String, utoipa::openapi::RefOr<utoipa::openapi::Schema>)]) {
    for (name, schema) in new {
        if let Ok(schema) = serde_json::to_value(schema) {
            // One would take the other's place, and the document would lie. `#[schema(as = ...)]` gives a type another name.
            debug_assert!(all.get(name).is_none_or(|known| *known == schema), "two types are called {name} in the API's description");
            all.insert(name.clone(), schema);
        }
    }
}

fn response_name(status: &str) -> String {
    format!("Problem{status}")
}

fn problem_response(words: &str) -> Value {
    json!({ "description": words, "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } } })
}

fn taken_in_response() -> Value {
    json!({
        "description": "The database is away. It is written down, and done when the database is back; `Location` tells where it stands.",
        "headers": { "Location": { "schema": { "type": "string" }, "description": "Where it stands." } },
        "content": { "application/json": { "schema": { "$ref": "#/components/schemas/TakenIn" } } },
    })
}

/// Adds to an operation what the edge does for it.
fn complete(operation: &mut Value, module: &str, route: &Route, method: &Method) {
    let Some(fields) = operation.as_object_mut() else { return };
    fields.entry("tags").or_insert_with(|| json!([module]));
    let in_tenant = matches!(route.access, Access::Tenant(_) | Access::Storefront);
    let has_body = fields.contains_key("requestBody");
    let parameters = fields.entry("parameters").or_insert_with(|| json!([]));
    if let Some(parameters) = parameters.as_array_mut() {
        if matches!(route.access, Access::Tenant(_) | Access::Storefront | Access::SignedIn) {
            parameters.push(json!({ "$ref": "#/components/parameters/TenantId" }));
        }
        if in_tenant {
            parameters.push(json!({ "$ref": "#/components/parameters/Position" }));
        }
        let declared = parameters.iter().any(|p| p["name"].as_str().is_some_and(|name| name.eq_ignore_ascii_case("idempotency-key")));
        if route.keyed && *method != Method::GET && !declared {
            parameters.push(json!({ "$ref": "#/components/parameters/IdempotencyKey" }));
        }
    }
    let responses = fields.entry("responses").or_insert_with(|| json!({}));
    if let Some(responses) = responses.as_object_mut() {
        if route.taken_in && *method == Method::POST {
            responses.insert("202".to_owned(), taken_in_response());
        }
        for (status, response) in responses.iter_mut() {
            let described = response.get("description").is_some() || response.get("$ref").is_some();
            if let (false, Some(fields)) = (described, response.as_object_mut()) {
                let words = status.parse().ok().and_then(|code| StatusCode::from_u16(code).ok()).and_then(|code| code.canonical_reason());
                fields.insert("description".to_owned(), json!(words.unwrap_or(status)));
            }
            // What the edge tells where there are replicas.
            if in_tenant
                && *method != Method::GET
                && status.starts_with('2')
                && let Some(fields) = response.as_object_mut()
            {
                let headers = fields.entry("headers").or_insert_with(|| json!({}));
                headers["BrandOS-Position"] = json!({ "$ref": "#/components/headers/Position" });
            }
            // Errors that a handler declares have the body of every error.
            if status.starts_with(['4', '5']) && response.get("content").is_none() && response.get("$ref").is_none() {
                let words = response["description"].as_str().unwrap_or("").to_owned();
                *response = problem_response(&words);
            }
        }
        for (status, _) in COMMON {
            let needless = match status {
                "401" | "403" => route.access == Access::Public,
                "408" | "413" => !has_body && *method == Method::GET,
                _ => false,
            };
            if !needless {
                responses.entry(status).or_insert_with(|| json!({ "$ref": format!("#/components/responses/{}", response_name(status)) }));
            }
        }
        if has_body {
            responses.entry("415").or_insert_with(|| json!({ "$ref": "#/components/responses/Problem415" }));
        }
    }
    let (access, permission) = match route.access {
        Access::Public => ("public", None),
        Access::SignedIn => ("signed_in", None),
        Access::Tenant(permission) => ("tenant", Some(permission)),
        Access::Storefront => ("tenant", Some(STOREFRONT)),
        Access::Platform(permission) => ("platform", Some(permission)),
    };
    fields.insert("x-access".to_owned(), json!(access));
    if let Some(permission) = permission {
        fields.insert("x-permission".to_owned(), json!(permission));
    }
    if route.access == Access::Storefront {
        fields.insert("x-publishable-key".to_owned(), json!(true));
    }
    fields.insert("security".to_owned(), if access == "public" { json!([]) } else { json!([{ "bearer": [] }]) });
}
