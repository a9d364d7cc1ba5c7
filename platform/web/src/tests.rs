//! Tests of the edge: a small module behind it, called without sockets; and the serving loop over loopback.

use crate::handlers;
use crate::*;
use axum::Json;
use axum::body::Body as HttpBody;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http_body_util::BodyExt as _;
use kernel::{Actor, ActorKind, Clock as _, Error, Id, IdGenerator, ManualClock, Page, SystemClock, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use store::{Environment, Migration, NewEvent, Store, StoreConfig, Tx};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

mod away;
mod limits;
mod storefront;

const ACME: TenantId = TenantId::from_i64(1001);
const GLOBEX: TenantId = TenantId::from_i64(1002);

enum ThingEntity {}
impl kernel::Entity for ThingEntity {
    const PREFIX: &'static str = "thg";
}
type ThingId = Id<ThingEntity>;

#[derive(Serialize, Deserialize, Clone, utoipa::ToSchema)]
struct Thing {
    #[schema(value_type = String)]
    thing_id: ThingId,
    name: String,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct NewThing {
    name: String,
    #[serde(default)]
    lines: Vec<Line>,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Line {
    quantity: u32,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    of: Option<ThingId>,
}

fn make_thing(tx: &mut Tx<'_>, name: &String) -> kernel::Result<Thing> {
    let thing = Thing { thing_id: tx.new_id(), name: name.clone() };
    tx.exec("INSERT INTO things_things (tenant_id, thing_id, name) VALUES ($1, $2, $3)", (thing.thing_id, name))?;
    tx.emit(NewEvent::new("thing.made", 1, thing.thing_id, &thing));
    Ok(thing)
}

/// Make a thing.
#[utoipa::path(post, path = "/api/v1/things", request_body = NewThing, responses((status = 201, body = Thing), (status = 409, description = "There is one")))]
async fn make(State(app): State<App>, caller: Caller, Keyed { key, body }: Keyed<NewThing>) -> Result<impl IntoResponse> {
    let _: Vec<_> = body.lines.iter().map(|line| (line.quantity, line.of)).collect();
    let made = app.submit(&caller, key, make_thing, body.name).await?.value;
    Ok(Created(format!("/api/v1/things/{}", made.thing_id), made))
}

/// List things.
#[utoipa::path(get, path = "/api/v1/things", params(PagingParams), responses((status = 200, body = Page<Thing>)))]
async fn list(State(app): State<App>, caller: Caller, paging: Paging<ThingId>) -> Result<Json<Page<Thing>>> {
    let asked = paging.request("things")?;
    let after = asked.after.map_or(0, ThingId::as_i64);
    let sql = "SELECT thing_id, name FROM things_things WHERE tenant_id = $1 AND thing_id > $2 ORDER BY thing_id LIMIT $3";
    let rows = app.store().read(caller.tenant()?, move |read| read.all::<(ThingId, String)>(sql, (after, asked.limit + 1))).await?;
    let things = rows.into_iter().map(|(thing_id, name)| Thing { thing_id, name }).collect();
    Ok(Json(paging.page("things", things, |thing| thing.thing_id)?))
}

#[utoipa::path(get, path = "/api/v1/things/{thing_id}", params(("thing_id" = String, Path)), responses((status = 200, body = Thing)))]
async fn show(Params(thing_id): Params<ThingId>) -> impl IntoResponse {
    Versioned(7, Thing { thing_id, name: "seven".repeat(1000) })
}

#[utoipa::path(put, path = "/api/v1/things/{thing_id}", params(("thing_id" = String, Path)), responses((status = 204), (status = 412, description = "Changed")))]
async fn change(Params(_): Params<ThingId>, seen: IfMatch) -> Result<StatusCode> {
    seen.check(7)?;
    Ok(StatusCode::NO_CONTENT)
}

#[utoipa::path(get, path = "/api/v1/things/{thing_id}/parts/{number}/of/{other}", params(("thing_id" = String, Path), ("number" = i64, Path),
    ("other" = String, Path)), responses((status = 204)))]
async fn part(Params(_): Params<(ThingId, i64, ThingId)>) -> StatusCode {
    StatusCode::NO_CONTENT
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
struct Probe {
    days: Option<u8>,
}

#[utoipa::path(get, path = "/api/v1/probe", params(Probe), responses((status = 200)))]
async fn probe(caller: Caller, headers: HeaderMap, Query(query): Query<Probe>) -> Result<Json<Value>> {
    if headers.contains_key("x-panic") {
        panic!("as asked");
    }
    if headers.contains_key("x-slow") {
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
    if headers.contains_key("x-bug") {
        return Err(Error::internal("the secret cause").into());
    }
    Ok(Json(json!({ "tenant": caller.tenant, "actor": caller.actor.id, "request_id": &*caller.request_id, "days": query.days })))
}

#[utoipa::path(post, path = "/api/v1/files", responses((status = 200)))]
async fn upload(file: RawBody) -> String {
    file.bytes.len().to_string()
}

#[utoipa::path(get, path = "/api/v1/platform/report", responses((status = 200)))]
async fn report(caller: Caller) -> Json<Value> {
    Json(json!({ "platform": caller.scope() == kernel::Scope::Platform }))
}

#[utoipa::path(get, path = "/api/v1/me", responses((status = 200)))]
async fn me(caller: Caller) -> Json<Value> {
    Json(json!({ "actor": caller.actor.id, "tenant": caller.tenant }))
}

#[utoipa::path(get, path = "/api/v1/storefront/shelf", responses((status = 200)))]
async fn shelf(caller: Caller) -> Json<Value> {
    Json(json!({ "tenant": caller.tenant }))
}

const THINGS: &str = "CREATE TABLE things_things (tenant_id BIGINT NOT NULL, thing_id BIGINT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (tenant_id, thing_id));";

fn things() -> Module {
    Module {
        permissions: &[PermissionInfo { name: "things.write", description: "Make things" }],
        routes: vec![
            Route::new(Access::Tenant("things.write"), handlers!(make)).keyed().body_limit(4096).taken_in(),
            Route::new(Access::Tenant("things.read"), handlers!(list)),
            Route::new(Access::Tenant("things.read"), handlers!(show)),
            Route::new(Access::Tenant("things.read"), handlers!(part)),
            Route::new(Access::Tenant("things.write"), handlers!(change)),
            Route::new(Access::Public, handlers!(probe)).timeout_ms(100),
            Route::new(Access::Public, handlers!(upload)).body_limit(100),
            Route::new(Access::Platform("platform.report"), handlers!(report)),
            Route::new(Access::SignedIn, handlers!(me)),
            Route::new(Access::Storefront, handlers!(shelf)),
        ],
        ..Module::new("things", &[Migration { number: 1, name: "first", sql: THINGS }])
    }
}

/// A user who may do nothing any more.
const NOBODY_NOW: i64 = 404;

/// Tokens are `<user>:<tenant or - or platform>:<permissions>`; tenants are acme and globex.
struct Fake;

impl Authenticator for Fake {
    fn authenticate<'a>(
        &'a self,
        _: &'a Store,
        Credential::Bearer(token): Credential<'a>,
        _: Option<TenantId>,
    ) -> BoxFuture<'a, kernel::Result<Identity>> {
        let parts: Vec<&str> = token.split(':').collect();
        let identity = match parts[..] {
            [user, tenant, permissions] => Ok(Identity {
                actor: Actor { kind: ActorKind::User, id: user.parse().unwrap_or(0) },
                tenant: match tenant {
                    "acme" => Some(ACME),
                    "globex" => Some(GLOBEX),
                    _ => None,
                },
                permissions: Arc::new(permissions.split(',').collect()),
                plan: None,
                platform: tenant == "platform",
                // A publishable key for pages of one origin, or of any.
                publishable: match user {
                    "pk" => Some(["https://shop.example".to_owned()].into()),
                    "pk-any" => Some([].into()),
                    _ => None,
                },
                remembered: user == "remembered",
            }),
            _ => Err(Error::unauthenticated("identity.invalid_token", "unknown token")),
        };
        std::future::ready(identity).boxed()
    }

    fn actor_now<'a>(&'a self, store: &'a Store, actor: Actor, tenant: TenantId) -> BoxFuture<'a, kernel::Result<Identity>> {
        let tenant = if tenant == ACME { "acme" } else { "globex" };
        let token = format!("{}:{tenant}:{}", actor.id, if actor.id == NOBODY_NOW { "none" } else { "things.read,things.write" });
        Box::pin(async move { self.authenticate(store, Credential::Bearer(&token), None).await })
    }

    fn tenant_by_name<'a>(&'a self, _: &'a Store, name: &'a str) -> BoxFuture<'a, kernel::Result<Option<TenantId>>> {
        let found = match name {
            "acme" => Some(ACME),
            "globex" => Some(GLOBEX),
            id => id.parse().ok().filter(|id| [ACME, GLOBEX].contains(id)),
        };
        std::future::ready(Ok(found)).boxed()
    }
}

struct Bench {
    web: Web,
    _folder: tempfile::TempDir,
}

fn bench_with(config: WebConfig) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let environment = Environment { clock: clock.clone(), ids: Arc::new(IdGenerator::new(clock, 1)) };
    let store = Store::open(StoreConfig::sqlite(folder.path().join("web.db")), &[things().migrations], environment).unwrap();
    let web = App::builder(store, Arc::new(Fake)).config(config).modules(vec![things(), events_module()]).build().unwrap();
    Bench { web, _folder: folder }
}

fn bench() -> Bench {
    bench_with(WebConfig { base_domain: Some("brand.example".to_owned()), ..WebConfig::default() })
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    json: Value,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    #[track_caller]
    fn is_problem(&self, status: u16, code: &str, field: &str) {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!((self.status, self.header("content-type")), (status, "application/problem+json"), "{text}");
        assert_eq!(self.json["code"], code, "{text}");
        assert_eq!(self.json["type"], format!("/problems/{code}"));
        assert_eq!(self.json["status"], status);
        assert_eq!(self.json["request_id"], self.header("x-request-id"));
        if !field.is_empty() {
            let named: Vec<&str> = self.json["errors"].as_array().unwrap().iter().map(|e| e["field"].as_str().unwrap()).collect();
            assert_eq!(named, [field], "{text}");
        }
    }
}

impl Bench {
    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<HttpBody>) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, body) = self.web.handle(request.body(body.into()).unwrap()).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Answer { status: parts.status.as_u16(), headers: parts.headers, json: serde_json::from_slice(&body).unwrap_or_default(), body }
    }

    async fn metrics(&self) -> String {
        String::from_utf8(self.get("/metrics", &[]).await.body).unwrap()
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send("GET", path, headers, HttpBody::empty()).await
    }

    async fn make(&self, more: &[(&str, &str)], body: &str) -> Answer {
        let headers = [&[WRITER, ("content-type", "application/json")], more].concat();
        self.send("POST", "/api/v1/things", &headers, body.to_owned()).await
    }
}

const WRITER: (&str, &str) = ("authorization", "Bearer 5:acme:things.write,things.read,events.read");

#[tokio::test]
async fn bodies_are_refused_by_the_path_of_their_field() {
    let bench = bench();
    let deep = "[".repeat(5000);
    let table = [
        (r#"{"name": 5}"#, "name", "invalid"),
        (r#"{}"#, "name", "required"),
        (r#"{"name":"a","nam":1}"#, "nam", "unknown_field"),
        (r#"{"name":"a","name":"b"}"#, "name", "repeated"),
        (r#"{"name":"a","lines":[{"quantity":1},{"quantity":-1}]}"#, "lines[1].quantity", "invalid"),
        (r#"{"name":"a","lines":[{"quantity":1},{}]}"#, "lines[1].quantity", "required"),
        (r#"{"name":"a","lines":[{"quantity":1,"x":0}]}"#, "lines[0].x", "unknown_field"),
        (r#"{"name":"a","lines":[{"quantity":99999999999}]}"#, "lines[0].quantity", "invalid"),
        (r#"{"name":"a","lines":[{"quantity":1,"of":"thg_x"}]}"#, "lines[0].of", "invalid"),
        (r#"{"name":"a","lines":{}}"#, "lines", "invalid"),
        (r#"{"name":"a\u0000b"}"#, "name", "invalid"),
        (r#"{"name":"a","lines":[{"quantity":1,"of":"\u0000"}]}"#, "lines[0].of", "invalid"),
        (r#"{"name":"a""#, "body", "syntax"),
        (r#"{"name":"a"} x"#, "body", "syntax"),
        ("\u{fffd}", "body", "syntax"),
        ("5", "body", "invalid"),
        ("[]", "body", "invalid"),
        (r#" ["a"]"#, "body", "invalid"),
        ("", "body", "required"),
    ];
    for (body, field, code) in table {
        let answer = bench.make(&[], body).await;
        answer.is_problem(400, "request.invalid", field);
        assert_eq!(answer.json["errors"][0]["code"], code, "{body}: {}", answer.json);
    }
    bench.make(&[], &deep[..4000]).await.is_problem(400, "request.invalid", "body");
    bench.make(&[], &deep).await.is_problem(413, "request.too_large", "body");
    let plain = bench.send("POST", "/api/v1/things", &[WRITER, ("content-type", "text/plain")], "{}").await;
    plain.is_problem(415, "request.unsupported_media_type", "Content-Type");
    // A body of no announced length is cut off all the same.
    let chunks = futures_util::stream::iter((0..200).map(|_| Ok::<_, std::io::Error>("x".repeat(100))));
    let answer = bench.send("POST", "/api/v1/things", &[WRITER, ("content-type", "application/json")], HttpBody::from_stream(chunks)).await;
    answer.is_problem(413, "request.too_large", "body");
    bench.send("POST", "/api/v1/files", &[("content-length", "101")], "x".repeat(101)).await.is_problem(413, "request.too_large", "body");
    assert_eq!(bench.send("POST", "/api/v1/files", &[], "x".repeat(100)).await.body, b"100");
}

#[tokio::test]
async fn paths_queries_and_headers_are_refused_by_name() {
    let bench = bench();
    let key = "k".repeat(256);
    for bad in ["", "two words", "café", &key] {
        bench.make(&[("idempotency-key", bad)], r#"{"name":"a"}"#).await.is_problem(400, "request.invalid", "Idempotency-Key");
    }
    bench.make(&[("idempotency-key", "a"), ("idempotency-key", "b")], r#"{"name":"a"}"#).await.is_problem(
        400,
        "request.invalid",
        "Idempotency-Key",
    );
    for bad in ["", "x", "0-1", "0-1-2 ", "0-1-2,0-1-2", "0-01-2", "0-1-FF", "é", "0-1-99999999999999999"] {
        bench.get("/api/v1/things", &[WRITER, ("brandos-position", bad)]).await.is_problem(400, "request.invalid", "BrandOS-Position");
    }
    let twice = [WRITER, ("brandos-position", "0-1-2"), ("brandos-position", "0-1-2")];
    bench.get("/api/v1/things", &twice).await.is_problem(400, "request.invalid", "BrandOS-Position");
    assert_eq!(bench.get("/api/v1/things", &twice[..2]).await.status, 200);
    let made = bench.make(&twice[..2], r#"{"name":"a"}"#).await;
    assert_eq!((made.status, made.header("brandos-position")), (201, ""), "there is none without replicas");
    for (path, field) in [
        ("/api/v1/things/thg_short", "thing_id"),
        ("/api/v1/things/-1", "thing_id"),
        ("/api/v1/things/%00", "thing_id"),
        ("/api/v1/things/%ff", "thing_id"),
        ("/api/v1/things?limit=0", "limit"),
        ("/api/v1/things?limit=101", "limit"),
        ("/api/v1/things?limit=-1", "limit"),
        ("/api/v1/things?limit=99999999999", "limit"),
        ("/api/v1/things?cursor=AAAA", "cursor"),
        ("/api/v1/things?cursor=%00", "cursor"),
        ("/api/v1/probe?days=256", "days"),
        ("/api/v1/probe?day=1", "day"),
    ] {
        let answer = bench.get(path, &[WRITER]).await;
        let code = if path.contains("cursor=A") { "request.invalid_cursor" } else { "request.invalid" };
        answer.is_problem(400, code, field);
    }
    let thing = format!("/api/v1/things/{}", ThingId::from_i64(77));
    // Of several parameters the one is named that is wrong.
    let id = ThingId::from_i64(77).to_string();
    for (thing_id, number, other, wrong) in
        [("x", "7", &*id, "thing_id"), (&id, "x", &id, "number"), (&id, "7", "x", "other"), (&id, "7", "%00", "other")]
    {
        bench.get(&format!("/api/v1/things/{thing_id}/parts/{number}/of/{other}"), &[WRITER]).await.is_problem(
            400,
            "request.invalid",
            wrong,
        );
    }
    assert_eq!(bench.get(&format!("/api/v1/things/{id}/parts/7/of/{id}"), &[WRITER]).await.status, 204);
    for bad in ["7", "\"7", "\"1\", \"2\""] {
        bench.send("PUT", &thing, &[WRITER, ("if-match", bad)], "").await.is_problem(400, "request.invalid", "If-Match");
    }
}

#[tokio::test]
async fn versions_guard_changes_and_save_transfers() {
    let bench = bench();
    let thing = format!("/api/v1/things/{}", ThingId::from_i64(77));
    let read = bench.get(&thing, &[WRITER]).await;
    assert_eq!((read.status, read.header("etag")), (200, "\"7\""));
    for (tag, status) in [("\"7\"", 204), ("*", 204), ("\"6\"", 412), ("\"other\"", 412)] {
        assert_eq!(bench.send("PUT", &thing, &[WRITER, ("if-match", tag)], "").await.status, status, "{tag}");
    }
    bench.send("PUT", &thing, &[WRITER, ("if-match", "\"8\"")], "").await.is_problem(412, "request.precondition_failed", "If-Match");
    let unchanged = bench.get(&thing, &[WRITER, ("if-none-match", "\"1\", W/\"7\"")]).await;
    assert_eq!((unchanged.status, unchanged.body.len(), unchanged.header("etag")), (304, 0, "\"7\""));
    let packed = bench.get(&thing, &[WRITER, ("accept-encoding", "br, gzip;q=0.5")]).await;
    assert_eq!((packed.header("content-encoding"), packed.header("vary")), ("gzip", "accept-encoding"));
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&packed.body[..]), &mut text).unwrap();
    assert_eq!(text.as_bytes(), read.body);
    assert_eq!(bench.get(&thing, &[WRITER, ("accept-encoding", "gzip;q=0")]).await.header("content-encoding"), "");
    assert_eq!(bench.get("/health/live", &[("accept-encoding", "gzip")]).await.header("content-encoding"), "");
}

#[tokio::test]
async fn the_tenant_comes_by_any_way_and_two_must_agree() {
    let bench = bench();
    let acme_id = ACME.to_string();
    let tenant = |answer: &Answer| answer.json["tenant"].as_str().unwrap_or("none").to_owned();
    for (path, headers) in [
        ("/api/v1/probe", [("x-tenant-id", "acme"), ("host", "api.brand.example")]),
        ("/api/v1/probe", [("x-tenant-id", &acme_id), ("host", "x")]),
        ("/api/v1/probe", [("host", "acme.brand.example:8080"), ("x-other", "")]),
        ("/api/v1/tenants/acme/probe?days=3", [("host", "ACME.other.example"), ("x-other", "")]),
        ("/api/v1/tenants/acme/probe", [("host", "acme.BRAND.example"), ("x-tenant-id", &acme_id)]),
        ("/api/v1/me", [WRITER, ("host", "brand.example")]),
        ("/api/v1/me", [WRITER, ("x-tenant-id", "acme")]),
        ("/api/v1/me", [("authorization", "bearer 5:-:none"), ("x-tenant-id", "acme")]),
    ] {
        let answer = bench.get(path, &headers).await;
        assert_eq!((answer.status, tenant(&answer)), (200, acme_id.clone()), "{path} {headers:?} {}", answer.json);
    }
    assert_eq!(bench.get("/api/v1/tenants/acme/probe?days=3", &[]).await.json["days"], 3);
    assert_eq!(tenant(&bench.get("/api/v1/probe", &[("host", "www.brand.example")]).await), "none");
    for (path, headers) in [
        ("/api/v1/tenants/acme/probe", vec![("x-tenant-id", "globex")]),
        ("/api/v1/tenants/acme/probe", vec![("host", "globex.brand.example")]),
        ("/api/v1/me", vec![WRITER, ("x-tenant-id", "globex")]),
        ("/api/v1/tenants/globex/things", vec![WRITER]),
    ] {
        bench.get(path, &headers).await.is_problem(400, "request.tenant_mismatch", "X-Tenant-Id");
    }
    for (path, headers) in [
        ("/api/v1/tenants/nobody/probe", vec![]),
        ("/api/v1/tenants/%61cme/probe", vec![]),
        ("/api/v1/probe", vec![("x-tenant-id", "nobody")]),
        ("/api/v1/probe", vec![("x-tenant-id", "")]),
        ("/api/v1/probe", vec![("host", "a.b.brand.example")]),
    ] {
        bench.get(path, &headers).await.is_problem(404, "request.unknown_tenant", "");
    }
    assert_eq!(bench.get("/health/live", &[("x-tenant-id", "nobody")]).await.status, 200);
    bench.get("/api/v1/things", &[("authorization", "Bearer 5:-:things.read")]).await.is_problem(
        400,
        "request.tenant_required",
        "X-Tenant-Id",
    );
}

#[tokio::test]
async fn routes_admit_only_whom_they_name() {
    let bench = bench();
    for header in [("x-none", ""), ("authorization", "Basic abc"), ("authorization", "Bearer "), ("authorization", "Bearer")] {
        let answer = bench.get("/api/v1/things", &[header]).await;
        answer.is_problem(401, "request.unauthenticated", "");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }
    bench.get("/api/v1/things", &[("authorization", "Bearer rubbish")]).await.is_problem(401, "identity.invalid_token", "");
    let table = [
        ("/api/v1/things", "5:acme:other", 403),
        ("/api/v1/things", "5:platform:things.read", 400),
        ("/api/v1/tenants/acme/things", "5:platform:things.read", 403),
        ("/api/v1/platform/report", "5:acme:platform.report", 403),
        ("/api/v1/platform/report", "5:platform:other", 403),
        ("/api/v1/platform/report", "5:platform:platform.report", 200),
        ("/api/v1/me", "5:-:none", 200),
    ];
    for (path, token, status) in table {
        let answer = bench.get(path, &[("authorization", &format!("Bearer {token}"))]).await;
        assert_eq!(answer.status, status, "{path} {token} {}", answer.json);
    }
    // A credential is not even looked at on a public route.
    assert_eq!(bench.get("/api/v1/probe", &[("authorization", "Bearer rubbish")]).await.status, 200);
}

#[tokio::test]
async fn requests_have_an_id_and_errors_keep_their_causes() {
    let bench = bench();
    assert_eq!(bench.get("/api/v1/probe", &[("x-request-id", "abc_-9")]).await.json["request_id"], "abc_-9");
    let long = "x".repeat(65);
    for bad in ["", "a b", "a/b", &long] {
        let answer = bench.get("/api/v1/probe", &[("x-request-id", bad)]).await;
        let made = answer.header("x-request-id");
        assert!(made != bad && made.len() == 32 && answer.json["request_id"] == made, "{made}");
    }
    let (one, two) = (bench.get("/", &[]).await, bench.get("/", &[]).await);
    assert_ne!(one.header("x-request-id"), two.header("x-request-id"));
    bench.get("/api/v1/nothing", &[]).await.is_problem(404, "request.unknown_path", "");
    bench.get("/api/v1/tenants/acme/nothing", &[]).await.is_problem(404, "request.unknown_path", "");
    let wrong = bench.send("DELETE", "/api/v1/probe", &[], "").await;
    wrong.is_problem(405, "request.method_not_allowed", "");
    assert_eq!(wrong.header("allow"), "GET,HEAD");
    bench.get("/api/v1/probe", &[("x-panic", "1")]).await.is_problem(500, "internal", "");
    bench.get("/api/v1/probe", &[("x-slow", "1")]).await.is_problem(503, "server.timeout", "");
    let bug = bench.get("/api/v1/probe", &[("x-bug", "1")]).await;
    bug.is_problem(500, "internal", "");
    assert!(!String::from_utf8_lossy(&bug.body).contains("secret"));
    let head = bench.send("HEAD", "/api/v1/probe", &[], "").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[tokio::test]
async fn pages_follow_each_other_and_cursors_stay_in_their_tenant() {
    let bench = bench();
    for name in ["a", "b", "c"] {
        assert_eq!(bench.make(&[], &json!({ "name": name }).to_string()).await.status, 201);
    }
    let first = bench.get("/api/v1/things?limit=2", &[WRITER]).await;
    assert_eq!(first.json["data"].as_array().unwrap().len(), 2, "{}", first.json);
    let cursor = first.json["next_cursor"].as_str().unwrap();
    let next = format!("/api/v1/things?limit=2&cursor={cursor}");
    let second = bench.get(&next, &[WRITER]).await;
    assert_eq!((second.json["data"][0]["name"].as_str(), &second.json["next_cursor"]), (Some("c"), &Value::Null));
    let stranger = ("authorization", "Bearer 6:globex:things.read");
    bench.get(&next, &[stranger]).await.is_problem(400, "request.invalid_cursor", "cursor");
    assert_eq!(bench.get("/api/v1/things", &[stranger]).await.json["data"], json!([]));
}

#[tokio::test]
async fn a_key_makes_a_request_happen_once() {
    let bench = bench();
    let first = bench.make(&[("idempotency-key", "k1")], r#"{"name":"a"}"#).await;
    assert_eq!((first.status, first.header("idempotency-replayed")), (201, ""));
    assert_eq!(first.header("location"), format!("/api/v1/things/{}", first.json["thing_id"].as_str().unwrap()));
    let again = bench.make(&[("idempotency-key", "k1")], r#"{"name":"a"}"#).await;
    assert_eq!((again.status, again.header("idempotency-replayed"), &again.body), (201, "true", &first.body));
    assert_eq!(again.header("location"), first.header("location"));
    bench.make(&[("idempotency-key", "k1")], r#"{"name":"b"}"#).await.is_problem(409, "idempotency.key_reused", "");
    let globex = [("authorization", "Bearer 6:globex:things.write"), ("content-type", "application/json"), ("idempotency-key", "k1")];
    let other = bench.send("POST", "/api/v1/things", &globex, r#"{"name":"a"}"#).await;
    assert_eq!((other.status, other.header("idempotency-replayed")), (201, ""));
    // The path form is the same request.
    let path_form = [WRITER, ("content-type", "application/json"), ("idempotency-key", "k1")];
    let same = bench.send("POST", "/api/v1/tenants/acme/things", &path_form, r#"{"name":"a"}"#).await;
    assert_eq!((same.header("idempotency-replayed"), &same.body), ("true", &first.body));
}

#[tokio::test]
async fn too_many_requests_at_once_are_told_so() {
    let bench = bench_with(WebConfig { concurrency: 1, ..WebConfig::default() });
    let slow = bench.get("/api/v1/probe", &[("x-slow", "1")]);
    let meanwhile = async {
        tokio::task::yield_now().await;
        (bench.get("/api/v1/probe", &[]).await, bench.get("/health/live", &[]).await)
    };
    let (_, (refused, alive)) = futures_util::future::join(slow, meanwhile).await;
    refused.is_problem(503, "server.overloaded", "");
    assert_eq!((refused.header("retry-after"), alive.status), ("1", 200));
    assert_eq!(bench.get("/api/v1/probe", &[]).await.status, 200);
}

#[tokio::test]
async fn pages_of_other_origins_may_call_when_configured() {
    let origin = ("origin", "https://shop.example");
    let ask = [origin, ("access-control-request-method", "POST")];
    let closed = bench();
    assert_eq!(closed.send("OPTIONS", "/api/v1/things", &ask, "").await.status, 405);
    assert_eq!(closed.get("/api/v1/probe", &[origin]).await.header("access-control-allow-origin"), "");
    let open = bench_with(WebConfig { cors_origins: vec!["https://shop.example".to_owned()], ..WebConfig::default() });
    let preflight = open.send("OPTIONS", "/api/v1/things", &ask, "").await;
    assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (204, "https://shop.example"));
    assert!(preflight.header("access-control-allow-headers").contains("idempotency-key"));
    assert_eq!(open.get("/api/v1/nothing", &[origin]).await.header("access-control-allow-origin"), "https://shop.example");
    assert_eq!(open.get("/api/v1/probe", &[("origin", "https://evil.example")]).await.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn the_document_describes_every_route() {
    let bench = bench();
    let document = bench.get("/openapi.json", &[]).await.json;
    assert_eq!(document["openapi"], "3.1.0");
    let all = routes(&[things(), events_module()]);
    assert!(all.len() > 8);
    for route in &all {
        let operation = &document["paths"][&*route.path][route.method.as_str().to_ascii_lowercase()];
        assert!(operation["responses"]["500"].is_object(), "{route:?}");
        let described = |response: &Value| response["description"].is_string() || response["$ref"].is_string();
        assert!(operation["responses"].as_object().unwrap().values().all(described), "{route:?}");
        assert_eq!(operation["responses"].get("401").is_some(), route.access != Access::Public, "{route:?}");
    }
    let make = &document["paths"]["/api/v1/things"]["post"];
    let parameters: Vec<&str> = make["parameters"].as_array().unwrap().iter().filter_map(|p| p["$ref"].as_str()).collect();
    assert_eq!(
        parameters,
        ["#/components/parameters/TenantId", "#/components/parameters/Position", "#/components/parameters/IdempotencyKey"]
    );
    assert_eq!(make["responses"]["201"]["headers"]["BrandOS-Position"]["$ref"], "#/components/headers/Position");
    assert_eq!(make["x-permission"], "things.write");
    assert_eq!(make["responses"]["409"]["content"]["application/problem+json"]["schema"]["$ref"], "#/components/schemas/Problem");
    assert_eq!(make["security"], json!([{ "bearer": [] }]));
    // Whatever is pointed at is there.
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => fields.iter().for_each(|(name, v)| match v.as_str() {
                Some(target) if name == "$ref" => found.push(target),
                _ => references(v, found),
            }),
            Value::Array(items) => items.iter().for_each(|v| references(v, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 20);
    for target in found {
        assert!(document.pointer(&target[1..]).is_some(), "{target} is missing");
    }
}

#[test]
fn routes_that_collide_are_found_at_the_start() {
    let check = |routes: Vec<Route>| crate::module::check(&[Module { routes, ..Module::new("things", &[]) }]);
    assert!(check(things().routes).is_ok());
    assert!(check(vec![Route::new(Access::Public, handlers!(show)), Route::new(Access::Public, handlers!(show))]).is_err());
    #[utoipa::path(delete, path = "/api/v1/things/{id}", responses((status = 200)))]
    async fn other_name() {}
    assert!(check(vec![Route::new(Access::Public, handlers!(show)), Route::new(Access::Public, handlers!(other_name))]).is_err());
    #[utoipa::path(get, path = "/api/v1/tenants/{id}/users", responses((status = 200)))]
    async fn in_the_way() {}
    assert!(check(vec![Route::new(Access::Public, handlers!(in_the_way))]).is_err());
}

#[tokio::test]
async fn pages_probes_and_metrics_are_there() {
    let bench = bench();
    for path in ["/", "/docs"] {
        let page = bench.get(path, &[]).await;
        assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
        assert!(page.header("content-security-policy").starts_with("default-src 'none'") && page.header("x-frame-options") == "DENY");
        assert!(!String::from_utf8_lossy(&page.body).contains("http"), "nothing from elsewhere");
    }
    assert_eq!(bench.get("/docs/docs.js", &[]).await.status, 200);
    let ready = json!({ "status": "ok", "dependencies": [{ "name": "store", "mode": "normal" }] });
    assert_eq!(bench.get("/health/ready", &[]).await.json, ready);
    bench.get("/api/v1/probe", &[]).await;
    bench.get("/api/v1/probe?days=x", &[]).await;
    bench.get("/nowhere", &[]).await;
    let metrics = String::from_utf8(bench.get("/metrics", &[]).await.body).unwrap();
    for line in [
        r#"http_requests_total{method="GET",route="/api/v1/probe",status="2xx"} 1"#,
        r#"http_requests_total{method="GET",route="/api/v1/probe",status="4xx"} 1"#,
        "http_requests_unmatched_total 1",
        "http_requests_in_flight 1",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    bench.web.app().store().close().await;
    bench.get("/health/ready", &[]).await.is_problem(503, "server.not_ready", "");
}

/// The next events of a stream: their names.
async fn names(body: &mut HttpBody, count: usize) -> Vec<String> {
    let mut text = String::new();
    while text.matches("event: ").count() < count {
        let frame = tokio::time::timeout(Duration::from_secs(10), body.frame()).await.expect("events in time").unwrap().unwrap();
        text.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
    }
    let named = |data: &str| serde_json::from_str::<Value>(data).unwrap()["payload"]["name"].as_str().unwrap().to_owned();
    text.lines().filter_map(|line| line.strip_prefix("data: ")).map(named).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_stream_in_order_and_resume() {
    let bench = bench();
    let open = async |path: &str, headers: &[(&str, &str)]| {
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = bench.web.handle(request.body(HttpBody::empty()).unwrap()).await;
        assert_eq!(response.status(), 200);
        response.into_body()
    };
    bench.make(&[], r#"{"name":"a"}"#).await;
    bench.make(&[], r#"{"name":"b"}"#).await;
    let globex = [("authorization", "Bearer 6:globex:things.write"), ("content-type", "application/json")];
    bench.send("POST", "/api/v1/things", &globex, r#"{"name":"foreign"}"#).await;
    let mut from_start = open("/api/v1/events?after=start", &[WRITER]).await;
    assert_eq!(names(&mut from_start, 2).await, ["a", "b"]);
    let events = bench.web.app().store().tenant_events_after(ACME, 0, 10).await.unwrap();
    let mut resumed = open("/api/v1/events", &[WRITER, ("last-event-id", &events[0].id.to_string())]).await;
    assert_eq!(names(&mut resumed, 1).await, ["b"]);
    let other_type = open("/api/v1/events?after=start&types=thing.lost", &[WRITER]).await;
    // What is committed now arrives at once.
    bench.make(&[], r#"{"name":"c"}"#).await;
    assert_eq!(names(&mut from_start, 1).await, ["c"]);
    bench.web.app().0.stopping.send_replace(true);
    let rest = tokio::time::timeout(Duration::from_secs(10), other_type.collect()).await.expect("streams end when the server stops");
    assert_eq!(rest.unwrap().to_bytes(), "retry: 2000\n\n");
    bench.get("/api/v1/events", &[WRITER, ("last-event-id", "x")]).await.is_problem(400, "request.invalid", "Last-Event-ID");
    bench.get("/api/v1/events?after=x", &[WRITER]).await.is_problem(400, "request.invalid", "after");
}

/// Sends bytes over a connection of its own, and reads to the end.
async fn exchange(at: std::net::SocketAddr, bytes: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(at).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(Duration::from_secs(10), stream.read_to_string(&mut answer)).await.expect("an answer in time").unwrap();
    answer
}

/// A client that sends the whole of a refused body reads the refusal, and not a reset connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_body_does_not_cost_the_answer() {
    let bench = bench_with(WebConfig { listen: ([127, 0, 0, 1], 0).into(), ..WebConfig::default() });
    let server = Server::bind(bench.web.clone()).await.unwrap();
    let at = server.local_addr();
    let running = tokio::spawn(server.run(std::future::pending()));
    let (name, token) = WRITER;
    let body = " ".repeat(8 * 1024 * 1024);
    let head = format!("POST /api/v1/things HTTP/1.1\r\nhost: x\r\n{name}: {token}\r\ncontent-type: application/json\r\n");
    for _ in 0..5 {
        let announced = exchange(at, &format!("{head}content-length: {}\r\n\r\n{body}", body.len())).await;
        assert!(announced.starts_with("HTTP/1.1 413") && announced.contains("connection: close\r\n"), "{announced}");
        let chunked = exchange(at, &format!("{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len())).await;
        assert!(chunked.starts_with("HTTP/1.1 413"), "{chunked}");
    }
    running.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_finishes_what_is_in_flight() {
    let config = WebConfig { listen: ([127, 0, 0, 1], 0).into(), header_timeout_ms: 300, ..WebConfig::default() };
    let bench = bench_with(config);
    let server = Server::bind(bench.web.clone()).await.unwrap();
    let at = server.local_addr();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async move { drop(stopped.await) }));
    let answer = exchange(at, "GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with(r#"{"status":"ok"}"#), "{answer}");
    // Headers that never end, and headers without an end to their size.
    assert_eq!(exchange(at, "GET / HTTP/1.1\r\nhost: x\r\n").await.find("200"), None);
    let huge = format!("GET / HTTP/1.1\r\nhost: x\r\nx-huge: {}\r\n\r\n", "x".repeat(20_000));
    assert!(exchange(at, &huge).await.starts_with("HTTP/1.1 431"), "too large headers");
    // In flight at the stop: answered all the same (by its time limit of 100 ms).
    let in_flight = tokio::spawn(async move { exchange(at, "GET /api/v1/probe HTTP/1.1\r\nhost: x\r\nx-slow: 1\r\n\r\n").await });
    while bench.web.app().0.metrics.in_flight.get() == 0 {
        tokio::task::yield_now().await;
    }
    stop.send(()).unwrap();
    assert!(running.await.unwrap(), "all of it was finished");
    assert!(in_flight.await.unwrap().starts_with("HTTP/1.1 503"), "answered after the stop");
    assert!(tokio::net::TcpStream::connect(at).await.is_err(), "no longer listening");
}
