//! Sagas as a module's tests run them: with the fake clock, over HTTP where a person is needed.

use crate::{Setup, TestApp};
use kernel::Result;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use store::Tx;
use web::Module;
use workflow::{Action, Fate, Kind, Outcome, Point, Prepared, Request, Saga, Step, Workflow, go_on};

const LETTER: Kind = Kind { name: "post.letter", version: 1 };

/// A post office: how often each key was sent, and for how many questions it is closed.
#[derive(Clone, Default)]
struct Office {
    sent: Arc<Mutex<Vec<String>>>,
    closed_for: Arc<AtomicU32>,
}

fn prepare(_: &mut Tx<'_>, saga: &mut Saga) -> Result<Prepared> {
    Ok(Prepared::Call { key: saga.stable_key(), body: json!({ "to": saga.key() }) })
}

fn send(request: Request) -> futures_util::future::BoxFuture<'static, Outcome> {
    Box::pin(async move {
        request.part::<Office>().sent.lock().expect("no test panicked here").push(request.key.clone());
        // The answer is lost.
        Outcome::Unknown("the line went dead".to_owned())
    })
}

fn ask(request: Request) -> futures_util::future::BoxFuture<'static, Outcome> {
    Box::pin(async move {
        let office = request.part::<Office>();
        if office.closed_for.load(SeqCst) > 0 {
            office.closed_for.fetch_sub(1, SeqCst);
            return Outcome::Unknown("closed".to_owned());
        }
        match office.sent.lock().expect("no test panicked here").iter().filter(|key| **key == request.key).count() {
            0 => Outcome::NotDone("never seen".to_owned()),
            count => Outcome::Done(json!({ "count": count })),
        }
    })
}

fn module() -> Module {
    let sending = Action::outside(prepare, send, go_on).ask(ask).deadline_ms(3_600_000);
    let daily = Action::outside(prepare, send, go_on).ask(ask);
    Module {
        workflows: vec![
            Workflow::new(LETTER).version(1, vec![Step::new("send", sending)]),
            Workflow::timer("post.daily", 24 * 3_600_000, daily).home_only(),
        ],
        ..Module::new("post", &[])
    }
}

fn setup(office: Office) -> Setup {
    Setup::new(vec![module(), web::workflows_module()]).workflow_part(office)
}

async fn post(app: &TestApp, slug: &str, to: &'static str) {
    let start = |tx: &mut Tx<'_>, to: &&'static str| workflow::start(tx, LETTER, to, &Value::Null);
    app.store().write(app.tenant(slug), start, to).await.expect("it starts");
}

fn status(app: &TestApp, slug: &str, to: &'static str) -> impl Future<Output = workflow::Status> {
    let (store, tenant) = (app.store().clone(), app.tenant(slug));
    async move {
        let saga = store.read(tenant, move |read| workflow::find(read, LETTER, to)).await.expect("it can be read");
        saga.expect("it is there").status
    }
}

crate::both_engines! {
    setup: || setup(Office { closed_for: Arc::new(AtomicU32::new(2)), ..Office::default() });

    async fn sagas_and_timers_follow_the_clock(app: TestApp) {
        post(&app, "acme", "alice").await;
        app.drained().await;
        assert_eq!(status(&app, "acme", "alice").await, workflow::Status::Running);
        // Twice closed, so that it is asked three times within seven seconds.
        app.advance_ms(7_100).await;
        assert_eq!(status(&app, "acme", "alice").await, workflow::Status::Done);
        let before = app.clock();
        assert_eq!(kernel::Clock::now(before).to_string(), "2026-01-05T12:00:07.100000Z");
        // Midnights.
        app.advance_ms(3 * 24 * 3_600_000).await;
        let daily = app.store().read_shard(0, |read| workflow::find_named(read, "post.daily", "timer")).await.expect("it can be read");
        let daily = daily.expect("the timer is there");
        assert_eq!((daily.status, daily.updated_at.day()), (workflow::Status::Waiting, kernel::Clock::now(app.clock()).day()));
    }
}

crate::both_engines! {
    setup: || setup(Office { closed_for: Arc::new(AtomicU32::new(1_000)), ..Office::default() });

    async fn a_person_looks_after_what_is_parked(app: TestApp) {
        for to in ["alice", "bob", "carol"] {
            post(&app, "acme", to).await;
        }
        app.advance_ms(2 * 3_600_000).await;
        app.allow_parked();
        let (acme, reader, stranger) =
            (app.client("acme", &["*"]), app.client("acme", &["workflows.read"]), app.client("globex", &["*"]));
        let list = acme.get("/api/v1/workflows?which=parked&limit=2").send().await.expect(200).json;
        assert_eq!(list["data"].as_array().map(Vec::len), Some(2));
        let cursor = list["next_cursor"].as_str().expect("there are three").to_owned();
        let rest = acme.get(format!("/api/v1/workflows?which=parked&limit=2&cursor={cursor}")).send().await.expect(200).json;
        assert_eq!((rest["data"][0]["key"].as_str(), rest["next_cursor"].as_str()), (Some("alice"), None));
        let (carol, bob, alice) = (&list["data"][0], &list["data"][1], &rest["data"][0]);
        let path = |saga: &Value, rest: &str| format!("/api/v1/workflows/{}{rest}", saga["id"].as_str().expect("an id"));
        let shown = reader.get(path(bob, "")).send().await.expect(200).json;
        assert_eq!((shown["status"].as_str(), shown["phase"].as_str(), shown["body"]["to"].as_str()), (Some("parked"), Some("doubt"), Some("bob")));
        // Nobody else's.
        stranger.get(path(bob, "")).send().await.expect_problem(404, "workflow.not_found");
        stranger.post(path(bob, "/cancel")).send().await.expect_problem(404, "workflow.not_found");
        reader.post(path(bob, "/retry")).send().await.expect_problem(403, "request.forbidden");
        assert_eq!(stranger.get("/api/v1/workflows").send().await.expect(200).json["data"], json!([]));
        acme.get("/api/v1/workflows?which=some").send().await.expect_problem(400, "request.invalid");
        // Alice's letter arrived, says the postman; Bob's is asked about again; Carol's never will.
        acme.post(path(alice, "/decide")).json(&json!({ "maybe": 1 })).send().await.expect_problem(400, "request.invalid");
        acme.post(path(alice, "/decide")).json(&json!({ "done": { "seen": true } })).send().await.expect(200);
        acme.post(path(carol, "/decide")).json(&json!({ "refused": "lost" })).send().await.expect(200);
        app.drained().await;
        assert_eq!(status(&app, "acme", "alice").await, workflow::Status::Done);
        assert_eq!(status(&app, "acme", "carol").await, workflow::Status::Failed);
        acme.post(path(alice, "/retry")).send().await.expect_problem(409, "workflow.not_retryable");
        acme.post(path(alice, "/cancel")).send().await.expect_problem(409, "workflow.not_cancellable");
        acme.post(path(alice, "/decide")).json(&json!({ "refused": "" })).send().await.expect_problem(409, "workflow.not_in_doubt");
        acme.post(path(bob, "/retry")).send().await.expect(200);
        app.advance_ms(60_000).await;
        assert_eq!(status(&app, "acme", "bob").await, workflow::Status::Running);
        acme.post(path(bob, "/cancel")).send().await.expect(200);
        app.advance_ms(2 * 3_600_000).await;
        assert_eq!(status(&app, "acme", "bob").await, workflow::Status::Parked, "nobody knows whether there is something to undo");
        let metrics = app.get("/metrics").send().await.expect(200);
        let metrics = String::from_utf8(metrics.body).expect("metrics are text");
        assert!(metrics.contains("workflow_ended_total{kind=\"post.letter\",status=\"parked\"} 4"), "{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[should_panic(expected = "parked and waiting for a person")]
async fn a_parked_saga_fails_the_test() {
    let office = Office { closed_for: Arc::new(AtomicU32::new(1_000)), ..Office::default() };
    crate::run(crate::Engine::Sqlite, setup(office), |app| async move {
        post(&app, "acme", "alice").await;
        app.advance_ms(2 * 3_600_000).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_kills_a_saga_and_the_clock_brings_it_back() {
    let died = Arc::new(AtomicU32::new(0));
    let told = died.clone();
    let office = Office::default();
    let probed = setup(office.clone()).probe(move |point, _| {
        let first = point == Point::AfterCall && told.fetch_add(1, SeqCst) == 0;
        if first { Fate::Die } else { Fate::Go }
    });
    crate::run(crate::Engine::Sqlite, probed, |app| async move {
        post(&app, "acme", "alice").await;
        app.drained().await;
        assert_eq!(status(&app, "acme", "alice").await, workflow::Status::Running);
        app.advance_ms(31_000).await;
        assert_eq!(status(&app, "acme", "alice").await, workflow::Status::Done);
        assert_eq!(office.sent.lock().expect("no test panicked here").len(), 1);
    })
    .await;
}
