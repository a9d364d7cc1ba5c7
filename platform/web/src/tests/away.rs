//! What is answered while something is away, or there is too much to do: each line of docs/degradation.md that is the edge's.

use super::*;
use traffic::cache::{Cache, Cached, Caches, Found, Normal, Settings, Tag, Tags};

impl Cached for Thing {
    type Class = Normal;
    fn bytes(&self) -> usize {
        self.name.len()
    }
}

struct Remembered(Cache<(TenantId, ThingId), Thing>);

/// A thing is remembered for so long, in milliseconds.
const TTL_MS: u64 = 80;

fn tag(key: &(TenantId, ThingId)) -> Tags {
    Tags::of([Tag::new("thing", (key.0.as_i64(), key.1.as_i64()))])
}

#[utoipa::path(get, path = "/api/v1/remembered/{thing_id}", params(("thing_id" = String, Path)), responses((status = 200, body = Thing)))]
async fn remembered(State(app): State<App>, caller: Caller, Params(id): Params<ThingId>) -> Result<(HeaderMap, Json<Found<Thing>>)> {
    let key = (caller.tenant()?, id);
    let read = move |read: &mut store::Read<'_>| {
        let found: Option<(String,)> = read.opt("SELECT name FROM things_things WHERE tenant_id = $1 AND thing_id = $2", (id,))?;
        found.map(|(name,)| Thing { thing_id: id, name }).ok_or_else(|| Error::not_found("request.unknown_path", "no such thing"))
    };
    let found = app.cached(&caller, &app.part::<Remembered>().0, key, read).await?;
    let thing = found.ok_or_else(|| Error::not_found("request.unknown_path", "no such thing"))?;
    Ok((aged(&thing), Json(thing)))
}

fn open(caches: &Caches) -> kernel::Result<Part> {
    let settings = Settings { ttl_ms: TTL_MS, jitter_percent: 0, stale_ms: 0, eagerness: 0.0, ..Settings::of::<Thing>("things.things") };
    Ok(Part::new(Remembered(Cache::new(caches, settings, tag)?)))
}

fn module(ttl_ms: u64) -> Module {
    let mut module = things();
    module.routes.push(Route::new(Access::Tenant("things.read"), handlers!(remembered)));
    let long = |caches: &Caches| -> kernel::Result<Part> {
        let settings = Settings { ttl_ms: 3_600_000, ..Settings::of::<Thing>("things.things") };
        Ok(Part::new(Remembered(Cache::new(caches, settings, tag)?)))
    };
    module.caches = Some(ModuleCaches {
        open: if ttl_ms == TTL_MS { open } else { long },
        events: &["thing.made", "thing.renamed"],
        tags: |change| match (change.tenant, change.subject.parse()) {
            (Some(tenant), Ok(thing)) => tag(&(tenant, thing)),
            _ => Tags::NONE,
        },
        forget: |_, _| {},
        hot: |app, most| serde_json::to_value(app.part::<Remembered>().0.hot(most)).unwrap(),
        warm: |_, _, _| Box::pin(async { 0 }),
    });
    module
}

fn rename(tx: &mut Tx<'_>, (id, name): &(ThingId, String)) -> kernel::Result<()> {
    tx.exec("UPDATE things_things SET name = $3 WHERE tenant_id = $1 AND thing_id = $2", (*id, name))?;
    tx.emit(NewEvent::new("thing.renamed", 1, *id, name));
    Ok(())
}

fn store_in(folder: &tempfile::TempDir, node: u16) -> Store {
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let environment = Environment { clock: clock.clone(), ids: Arc::new(IdGenerator::new(clock, node)) };
    Store::open(StoreConfig::sqlite(folder.path().join("web.db")), &[things().migrations], environment).unwrap()
}

fn bench_of(folder: tempfile::TempDir, ttl_ms: u64, change: impl FnOnce(AppBuilder) -> AppBuilder) -> Bench {
    let builder = App::builder(store_in(&folder, 1), Arc::new(Fake)).modules(vec![module(ttl_ms), health_module(), caches_module()]);
    Bench { web: change(builder).build().unwrap(), _folder: folder }
}

async fn made(bench: &Bench, name: &str) -> String {
    let answer = bench.make(&[], &json!({ "name": name }).to_string()).await;
    assert_eq!(answer.status, 201);
    answer.json["thing_id"].as_str().unwrap().to_owned()
}

const OPERATOR: (&str, &str) = ("authorization", "Bearer 9:platform:platform.health.read,platform.caches.read");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_store_what_is_remembered_is_served_with_its_age() {
    let bench = bench_of(tempfile::tempdir().unwrap(), TTL_MS, |builder| builder);
    let (known, unknown) = (made(&bench, "known").await, made(&bench, "unknown").await);
    let get = async |id: &str| bench.get(&format!("/api/v1/remembered/{id}"), &[WRITER]).await;
    let fresh = get(&known).await;
    assert_eq!((fresh.status, fresh.json["name"].as_str(), fresh.header("warning")), (200, Some("known"), ""));
    let ready = bench.get("/health/ready", &[]).await;
    assert_eq!((ready.status, ready.json["status"].as_str()), (200, Some("ok")));
    bench.web.app().store().close().await;
    tokio::time::sleep(Duration::from_millis(TTL_MS + 20)).await;
    let stale = get(&known).await;
    assert_eq!((stale.status, stale.json["name"].as_str()), (200, Some("known")), "past its time, but there is nothing better");
    assert_eq!((stale.header("warning"), stale.header("age")), ("110 - \"Response is Stale\"", "0"));
    assert_eq!(get(&unknown).await.status, 503, "what was never read can't be served");
    assert_eq!(bench.make(&[], &json!({ "name": "new" }).to_string()).await.status, 503, "writes are refused");
    assert_eq!(bench.get("/health/live", &[]).await.status, 200);
    bench.get("/health/ready", &[]).await.is_problem(503, "server.not_ready", "");
    let health = bench.get("/api/v1/platform/health", &[OPERATOR]).await;
    assert_eq!((health.json["mode"].as_str(), health.json["dependencies"][0]["name"].as_str()), (Some("away"), Some("store")));
    assert!(bench.metrics().await.contains("health_dependency{name=\"store\"} 2\n"));
}

/// Takes in what it is given, as long as it may.
#[derive(Default)]
struct Drawer(std::sync::Mutex<Vec<Deferred>>);

const ROOM: usize = 2;

impl Intake for Drawer {
    fn take_in(self: Arc<Self>, request: Deferred) -> BoxFuture<'static, kernel::Result<TakenIn>> {
        let mut kept = self.0.lock().unwrap();
        let taken = if kept.len() < ROOM {
            let intake_id = IntakeId::from_i64(kept.len() as i64 + 1);
            kept.push(request);
            let (state, status_url, taken_in_at) = (IntakeState::Waiting, format!("/drawer/{intake_id}"), SystemClock.now());
            Ok(TakenIn { intake_id, state, status_url, location: None, code: None, detail: None, taken_in_at, ended_at: None })
        } else {
            Err(Error::overloaded("test.full", "no more"))
        };
        std::future::ready(taken).boxed()
    }

    fn has_room(&self) -> bool {
        self.0.lock().unwrap().len() < ROOM
    }
}

/// Somebody whom the authenticator only remembers: the store is away.
const REMEMBERED: (&str, &str) = ("authorization", "Bearer remembered:acme:things.write,things.read");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_wait_is_taken_in_and_done_once() {
    let drawer = Arc::new(Drawer::default());
    let bench = bench_of(tempfile::tempdir().unwrap(), TTL_MS, |builder| builder.intake(drawer.clone()));
    let make = async |more: &[(&str, &str)], body: &str| {
        let headers = [&[REMEMBERED, ("content-type", "application/json")], more].concat();
        bench.send("POST", "/api/v1/things", &headers, body.to_owned()).await
    };
    make(&[], "{}").await.is_problem(400, "request.invalid", "name");
    let taken = make(&[("idempotency-key", "one")], r#"{"name":"one"}"#).await;
    assert_eq!((taken.status, taken.header("location"), taken.json["state"].as_str()), (202, "/drawer/qor_00000000001", Some("waiting")));
    assert_eq!(make(&[], r#"{"name":"two"}"#).await.status, 202);
    make(&[], r#"{"name":"three"}"#).await.is_problem(503, "test.full", "");
    let changed = bench.send("PUT", "/api/v1/things/thg_00000000001", &[REMEMBERED], HttpBody::empty()).await;
    changed.is_problem(503, "store.unavailable", "");
    // Whoever is known for certain is served by the store.
    assert_eq!(bench.make(&[], r#"{"name":"now"}"#).await.status, 201);

    // The store is back.
    let one = drawer.0.lock().unwrap()[0].clone();
    assert_eq!((one.path.as_str(), one.key.as_deref(), one.actor.kind), ("/api/v1/things", Some("one"), ActorKind::User));
    let location = async |request: Deferred, key: &str| {
        let answer = bench.web.again(request, key).await?;
        Ok::<_, Error>(answer.headers()["location"].to_str().unwrap().to_owned())
    };
    let first = location(one.clone(), "one").await.unwrap();
    assert_eq!(location(one.clone(), "one").await.unwrap(), first, "the same key is the same thing");
    let again = bench.make(&[("idempotency-key", "one")], r#"{"name":"one"}"#).await;
    assert_eq!((again.status, again.header("location"), again.header("idempotency-replayed")), (201, first.as_str(), "true"));
    let reused = location(Deferred { body: r#"{"name":"other"}"#.into(), ..one.clone() }, "one").await;
    assert_eq!(reused.unwrap_err().code(), "idempotency.key_reused");
    let stranger = location(Deferred { actor: Actor { id: NOBODY_NOW, ..one.actor }, ..one }, "two").await;
    assert_eq!(stranger.unwrap_err().code(), "request.forbidden", "who may not any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_and_reads_go_on() {
    let bench = bench_of(tempfile::tempdir().unwrap(), TTL_MS, |builder| builder);
    let store = bench.web.app().store().clone();
    // SQLite is told that there are no more pages, and says what it says when the disk has none.
    let room = async |there_is: bool| {
        let sql: &'static str = if there_is { "PRAGMA max_page_count = 1000000" } else { "PRAGMA max_page_count = 1" };
        let set = move |tx: &mut Tx<'_>, (): &()| tx.all::<(i64,)>(sql, ()).map(drop);
        store.write(kernel::Scope::Platform, set, ()).await.unwrap();
    };
    let known = made(&bench, "known").await;
    room(false).await;
    // What fits into pages that are there is still written.
    let large = json!({ "name": "x".repeat(3_000) }).to_string();
    let mut refused = bench.make(&[], &large).await;
    for _ in 0..100 {
        if refused.status != 201 {
            break;
        }
        refused = bench.make(&[], &large).await;
    }
    refused.is_problem(503, "store.disk_full", "");
    assert_eq!(bench.get(&format!("/api/v1/remembered/{known}"), &[WRITER]).await.json["name"], "known");
    assert_eq!(bench.get("/api/v1/things", &[WRITER]).await.status, 200);
    assert_eq!(bench.get("/health/ready", &[]).await.status, 200, "it can be asked, and says what it can't do");
    room(true).await;
    assert_eq!(bench.make(&[], &large).await.status, 201, "by itself, when there is room");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_committed_is_not_remembered_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let beside = store_in(&folder, 2);
    let bench = bench_of(folder, 0, |builder| builder);
    let id = made(&bench, "one").await;
    let thing: ThingId = id.parse().unwrap();
    let name = async || bench.get(&format!("/api/v1/remembered/{id}"), &[WRITER]).await.json["name"].as_str().unwrap().to_owned();
    assert_eq!((name().await.as_str(), name().await.as_str()), ("one", "one"));
    for round in 0..50 {
        // Whoever writes it in this process, over whichever route.
        let text = format!("round {round}");
        bench.web.app().store().write(ACME, rename, (thing, text.clone())).await.unwrap();
        assert_eq!(name().await, text, "no later than the answer");
    }
    let caches = bench.get("/api/v1/platform/caches", &[OPERATOR]).await.json;
    assert_eq!((caches["caches"][0]["name"].as_str(), caches["proven"].as_bool()), (Some("things.things"), Some(true)));
    assert_eq!(caches["caches"][0]["loads"].as_i64(), Some(51), "and remembered in between");
    assert!(bench.web.hot(10).contains(&id));
    // Another process on the same database: seen when the log is looked at.
    let web = bench.web.clone();
    let following = tokio::spawn(async move { web.follow_changes().await });
    let begun = std::time::Instant::now();
    while !bench.web.app().caches().bus().proven || begun.elapsed() < Duration::from_millis(700) {
        assert!(begun.elapsed() < Duration::from_secs(10), "the log is followed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    name().await;
    beside.write(ACME, rename, (thing, "elsewhere".to_owned())).await.unwrap();
    let changed = std::time::Instant::now();
    while name().await != "elsewhere" {
        assert!(changed.elapsed() < Duration::from_secs(2), "within the bound");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Whoever can't look trusts nothing that is older than the bound.
    following.abort();
    tokio::time::sleep(Duration::from_millis(2_300)).await;
    assert!(!bench.web.app().caches().bus().proven);
    let ready = bench.get("/health/ready", &[]).await.json;
    assert_eq!((&ready["status"], &ready["dependencies"][1]), (&json!("degraded"), &json!({ "name": "caches", "mode": "degraded" })));
    assert!(bench.metrics().await.contains("health_dependency{name=\"caches\"} 1\n"));
    beside.write(ACME, rename, (thing, "unheard".to_owned())).await.unwrap();
    assert_eq!(name().await, "unheard");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_matters_least_is_turned_away_first() {
    let bench = Arc::new(bench_of(tempfile::tempdir().unwrap(), 0, |builder| {
        builder.config(WebConfig { concurrency: 10, ..WebConfig::default() })
    }));
    // Seven reads that take their time: as many as reads may be at once.
    let mut slow = tokio::task::JoinSet::new();
    for _ in 0..7 {
        let bench = bench.clone();
        slow.spawn(async move { bench.get("/api/v1/probe", &[("x-slow", "1")]).await.status });
    }
    while bench.web.app().0.shedder.used() < 7 {
        tokio::task::yield_now().await;
    }
    bench.get("/api/v1/things", &[WRITER]).await.is_problem(503, "server.overloaded", "");
    assert_eq!(bench.make(&[], &json!({ "name": "written" }).to_string()).await.status, 201, "a write still comes in");
    assert_eq!(bench.get("/api/v1/platform/health", &[OPERATOR]).await.status, 200, "and whoever looks after it");
    assert_eq!(bench.get("/health/live", &[]).await.status, 200);
    slow.join_all().await;
    assert_eq!(bench.get("/api/v1/things", &[WRITER]).await.status, 200, "it passes when there is room again");
    let metrics = bench.get("/metrics", &[]).await.body;
    assert!(String::from_utf8(metrics).unwrap().contains("http_requests_shed_total{priority=\"low\"} 1\n"));
}

#[tokio::test]
async fn a_dependency_that_can_be_done_without_degrades() {
    let bench = bench_of(tempfile::tempdir().unwrap(), 0, |builder| {
        builder.dependency(Dependency::new("providers", || (Mode::Degraded, "one is not called for a while".to_owned())))
    });
    let ready = bench.get("/health/ready", &[]).await;
    assert_eq!((ready.status, ready.json["status"].as_str()), (200, Some("degraded")), "it serves");
    assert_eq!(ready.json["dependencies"], json!([{ "name": "store", "mode": "normal" }, { "name": "providers", "mode": "degraded" }]));
    assert!(!String::from_utf8(ready.body).unwrap().contains("for a while"), "strangers are not told what");
    let health = bench.get("/api/v1/platform/health", &[OPERATOR]).await.json;
    assert_eq!(
        (health["mode"].as_str(), health["dependencies"][1]["detail"].as_str()),
        (Some("degraded"), Some("one is not called for a while"))
    );
}
