//! The promises of the crate, against a real store: SQLite always, PostgreSQL where `BRANDOS_TEST_POSTGRES` names a server.

mod crashes;
mod paths;
mod random;
mod ride;
mod timers;
mod two_nodes;

use crate::*;
use futures_util::future::BoxFuture;
use kernel::{Clock as _, IdGenerator, ManualClock, Result, SeededRng, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use store::{Environment, Migration, Migrations, Store, StoreConfig, Tx};

/// What a business would keep: what is booked for whom.
const MODULE: Migrations = Migrations {
    module: "test",
    steps: &[Migration {
        number: 1,
        name: "tables",
        sql: "CREATE TABLE test_bookings (tenant_id BIGINT NOT NULL, trip TEXT NOT NULL, what TEXT NOT NULL, booked BIGINT NOT NULL,
                PRIMARY KEY (tenant_id, trip, what));
              CREATE TABLE test_ticks (name TEXT NOT NULL PRIMARY KEY, ticks BIGINT NOT NULL);",
    }],
};

const BOOK: &str = "INSERT INTO test_bookings (tenant_id, trip, what, booked) VALUES ($1, $2, $3, $4) ON CONFLICT (tenant_id, trip, what)
    DO UPDATE SET booked = test_bookings.booked + excluded.booked";

/// A store of one engine with what it needs; ends with the test.
struct Fixture {
    store: Store,
    /// Another node on the same PostgreSQL; the same store again on SQLite.
    other: Store,
    clock: Arc<ManualClock>,
    folder: Option<tempfile::TempDir>,
    database: Option<(String, String)>,
}

static SEEDS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
static DATABASES: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

async fn admin(url: &str, statement: &str) {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("PostgreSQL answers");
    let driver = tokio::spawn(connection);
    client.batch_execute(statement).await.expect("the database can be made and dropped");
    drop(client);
    let _ = driver.await;
}

/// The URL with another database.
fn with_database(url: &str, name: &str) -> String {
    let (base, query) = url.split_once('?').map_or((url, ""), |(base, query)| (base, query));
    let host = base.find("://").map_or(0, |at| at + 3);
    let end = base[host..].find('/').map_or(base.len(), |at| host + at);
    let query = if query.is_empty() { String::new() } else { format!("?{query}") };
    format!("{}/{name}{query}", &base[..end])
}

/// Nobody is refused because the machine is slow.
fn patient(config: StoreConfig) -> StoreConfig {
    StoreConfig { queue_wait_ms: 0, ..config }
}

impl Fixture {
    /// One for each engine that is there.
    async fn each() -> Vec<Fixture> {
        let mut fixtures = vec![Fixture::sqlite()];
        match std::env::var("BRANDOS_TEST_POSTGRES") {
            Ok(url) => fixtures.push(Fixture::postgres(&url).await),
            Err(_) => assert!(std::env::var("CI").as_deref() != Ok("true"), "BRANDOS_TEST_POSTGRES is not set: PostgreSQL is not tested"),
        }
        fixtures
    }

    fn environment(clock: &Arc<ManualClock>, node: u16) -> Environment {
        Environment { clock: clock.clone(), ids: Arc::new(IdGenerator::new(clock.clone(), node)) }
    }

    fn clock() -> Arc<ManualClock> {
        Arc::new(ManualClock::new("2026-03-01T12:00:00Z".parse().expect("a time")))
    }

    fn sqlite() -> Fixture {
        let (folder, clock) = (tempfile::tempdir().expect("a folder"), Fixture::clock());
        let config = patient(StoreConfig::sqlite(folder.path().join("test.db")));
        let store = Store::open(config, &[migrations(), MODULE], Fixture::environment(&clock, 1)).expect("the store opens");
        Fixture { other: store.clone(), store, clock, folder: Some(folder), database: None }
    }

    async fn postgres(url: &str) -> Fixture {
        let number = DATABASES.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("brandos_workflow_{}_{number}", std::process::id());
        admin(url, &format!("CREATE DATABASE {name}")).await;
        let (clock, database) = (Fixture::clock(), with_database(url, &name));
        let open = |node| {
            let config = patient(StoreConfig::postgres(database.clone()));
            Store::open(config, &[migrations(), MODULE], Fixture::environment(&clock, node)).expect("the store opens")
        };
        Fixture { store: open(1), other: open(2), clock, folder: None, database: Some((url.to_owned(), name)) }
    }

    async fn end(self) {
        self.store.close().await;
        self.other.close().await;
        if let Some((url, name)) = &self.database {
            let (url, drop) = (url.clone(), format!("DROP DATABASE {name} WITH (FORCE)"));
            let _ = tokio::spawn(async move { admin(&url, &drop).await }).await;
        }
        drop(self.folder);
    }

    async fn runner_on(&self, store: &Store, workflows: Vec<Workflow>, world: &World, config: RunnerConfig) -> Runner {
        // Each runner has a seed of its own: processes tell each other apart by what they draw.
        let seed = SEEDS.fetch_add(1, std::sync::atomic::Ordering::Relaxed).into();
        let parts = Parts::new().with(world.clone());
        Runner::start(store.clone(), workflows, parts, config, Arc::new(SeededRng::new(seed))).await.expect("the runner starts")
    }

    async fn runner(&self, workflows: Vec<Workflow>, world: &World) -> Runner {
        self.runner_on(&self.store, workflows, world, config()).await
    }

    async fn start(&self, tenant: TenantId, kind: Kind, key: &str, state: Value) {
        let begin = move |tx: &mut Tx<'_>, (key, state): &(String, Value)| start(tx, kind, key, state);
        self.store.write(tenant, begin, (key.to_owned(), state)).await.expect("it starts");
    }

    async fn signal(&self, tenant: TenantId, kind: Kind, key: &str, name: &str) -> Signalled {
        let tell = move |tx: &mut Tx<'_>, (key, name): &(String, String)| signal(tx, kind, key, name, &json!({ "told": name }));
        self.store.write(tenant, tell, (key.to_owned(), name.to_owned())).await.expect("it can be told")
    }

    async fn report(&self, tenant: TenantId, kind: Kind, key: &str, call_key: &str, outcome: Outcome) -> Signalled {
        let tell = move |tx: &mut Tx<'_>, (key, call_key, outcome): &(String, String, Outcome)| report(tx, kind, key, call_key, outcome);
        self.store.write(tenant, tell, (key.to_owned(), call_key.to_owned(), outcome)).await.expect("it can be reported")
    }

    async fn cancel(&self, tenant: TenantId, kind: Kind, key: &str) -> bool {
        self.store.write(tenant, move |tx: &mut Tx<'_>, key: &String| cancel(tx, kind, key), key.to_owned()).await.expect("it can be asked")
    }

    async fn saga(&self, tenant: TenantId, kind: Kind, key: &str) -> SagaView {
        let key = key.to_owned();
        self.store.read(tenant, move |read| find(read, kind, &key)).await.expect("it can be read").expect("it is there")
    }

    /// What is booked for a trip.
    async fn booked(&self, tenant: TenantId, trip: &str) -> HashMap<String, i64> {
        let trip = trip.to_owned();
        let rows: Vec<(String, i64)> = self
            .store
            .read(tenant, move |read| {
                read.all("SELECT what, booked FROM test_bookings WHERE tenant_id = $1 AND trip = $2 ORDER BY what", (trip,))
            })
            .await
            .expect("bookings can be read");
        rows.into_iter().collect()
    }

    /// Moves the clock from due time to due time for at most `ms`, and comes to rest at each.
    async fn advance(&self, runner: &Runner, ms: i64) {
        let until = self.clock.now().plus_ms(ms);
        loop {
            rest(runner).await;
            match runner.next_due().await.expect("the tables can be read").filter(|at| *at <= until) {
                // Whole milliseconds: a little late is late enough.
                Some(at) if at > self.clock.now() => self.clock.advance_ms(at.ms_since(self.clock.now()) + 1),
                Some(_) => {}
                None => break,
            }
        }
        let left = until.ms_since(self.clock.now()).max(0);
        self.clock.advance_ms(left);
        rest(runner).await;
    }
}

async fn rest(runner: &Runner) {
    tokio::time::timeout(Duration::from_secs(60), runner.drained()).await.expect("it comes to rest").expect("the tables can be read");
}

fn config() -> RunnerConfig {
    RunnerConfig { poll_ms: 5, ..RunnerConfig::default() }
}

fn tenant(number: i64) -> TenantId {
    TenantId::from_i64(number)
}

/// The test's body runs once for each engine.
async fn on_each_engine(test: impl AsyncFn(&Fixture)) {
    for fixture in Fixture::each().await {
        test(&fixture).await;
        fixture.end().await;
    }
}

/// How the world behaves towards the nth call or question about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Manner {
    /// It does as it is asked, and says so.
    Honest,
    /// It does it, and the answer is lost.
    DoesAndLoses,
    /// It does nothing, and nobody can tell.
    Loses,
    /// It says no, for good, and does nothing.
    Refuses,
    /// It certainly does nothing.
    Busy,
    /// It does it, and never answers.
    DoesAndHangs,
    /// It panics before it does anything.
    Panics,
}

type Manners = Arc<dyn Fn(&str, &Request, u32) -> Manner + Send + Sync>;

/// The outside world: counts what it does for each stable key, so that nothing done twice goes unnoticed.
#[derive(Clone)]
struct World {
    state: Arc<Mutex<WorldState>>,
    /// By operation (`book`, `unbook`, `ask`), request, and how often that was asked before.
    manners: Manners,
}

#[derive(Default)]
struct WorldState {
    /// How often each key was done. A key of an undo counts against [`WorldState::undone`].
    done: HashMap<String, u32>,
    undone: HashMap<String, u32>,
    calls: HashMap<(String, String), u32>,
    trail: Vec<String>,
    /// The keys in the order in which they were done.
    order: Vec<String>,
}

impl World {
    fn new(manners: impl Fn(&str, &Request, u32) -> Manner + Send + Sync + 'static) -> World {
        World { state: Arc::default(), manners: Arc::new(manners) }
    }

    fn honest() -> World {
        World::new(|_, _, _| Manner::Honest)
    }

    fn state(&self) -> MutexGuard<'_, WorldState> {
        self.state.lock().expect("no test panicked here")
    }

    fn manner(&self, op: &str, request: &Request) -> Manner {
        let nth = {
            let mut state = self.state();
            let count = state.calls.entry((op.to_owned(), request.key.clone())).or_default();
            *count += 1;
            *count - 1
        };
        (self.manners)(op, request, nth)
    }

    /// Does it. A receiver that knows keys does a repeated one once.
    fn act(&self, op: &str, request: &Request, knows_keys: bool) {
        let mut state = self.state();
        let known = state.done.get(&request.key).copied().unwrap_or(0);
        if known > 0 && knows_keys {
            return;
        }
        *state.done.entry(request.key.clone()).or_default() += 1;
        if let Some(of) = request.body.get("of").and_then(Value::as_str) {
            *state.undone.entry(of.to_owned()).or_default() += 1;
        }
        state.order.push(request.key.clone());
        state.trail.push(format!("{op} {}", request.body["what"].as_str().unwrap_or_default()));
    }

    fn done(&self, key: &str) -> u32 {
        self.state().done.get(key).copied().unwrap_or(0)
    }

    fn undone(&self, key: &str) -> u32 {
        self.state().undone.get(key).copied().unwrap_or(0)
    }

    fn trail(&self) -> Vec<String> {
        self.state().trail.clone()
    }

    fn calls(&self, op: &str) -> u32 {
        self.state().calls.iter().filter(|((known, _), _)| known == op).map(|(_, count)| count).sum()
    }
}

async fn answer(op: &str, request: Request, knows_keys: bool) -> Outcome {
    let world = request.part::<World>().clone();
    let answer = || Outcome::Done(json!({ "confirmation": request.key }));
    match world.manner(op, &request) {
        Manner::Honest => {
            world.act(op, &request, knows_keys);
            answer()
        }
        Manner::DoesAndLoses => {
            world.act(op, &request, knows_keys);
            Outcome::Unknown("the connection was lost".to_owned())
        }
        Manner::Loses => Outcome::Unknown("the connection was lost".to_owned()),
        // A receiver that knows keys says what it said before.
        Manner::Refuses if world.done(&request.key) > 0 && knows_keys => answer(),
        Manner::Refuses => Outcome::Refused("sold out".to_owned()),
        Manner::Busy => Outcome::NotDone("too many requests".to_owned()),
        Manner::DoesAndHangs => {
            world.act(op, &request, knows_keys);
            std::future::pending().await
        }
        Manner::Panics => panic!("broken on purpose"),
    }
}

fn book(request: Request) -> BoxFuture<'static, Outcome> {
    Box::pin(answer(if request.body.get("of").is_some() { "unbook" } else { "book" }, request, false))
}

fn book_by_key(request: Request) -> BoxFuture<'static, Outcome> {
    Box::pin(answer(if request.body.get("of").is_some() { "unbook" } else { "book" }, request, true))
}

/// Asks by the key; a lost question stays unknown.
fn ask(request: Request) -> BoxFuture<'static, Outcome> {
    Box::pin(async move {
        let world = request.part::<World>().clone();
        match world.manner("ask", &request) {
            Manner::Honest if world.done(&request.key) > 0 => Outcome::Done(json!({ "confirmation": request.key })),
            Manner::Honest => Outcome::NotDone("it is not known".to_owned()),
            _ => Outcome::Unknown("the question was lost".to_owned()),
        }
    })
}

fn prepare_booking(_: &mut Tx<'_>, saga: &mut Saga) -> Result<Prepared> {
    Ok(Prepared::Call { key: saga.stable_key(), body: json!({ "what": saga.step(), "trip": saga.key() }) })
}

fn booked(tx: &mut Tx<'_>, saga: &mut Saga, heard: Heard) -> Result<Next> {
    if let Heard::Done(_) = heard {
        tx.exec(BOOK, (saga.key(), saga.step(), 1_i64))?;
    }
    go_on(tx, saga, heard)
}

fn prepare_undo(_: &mut Tx<'_>, saga: &mut Saga) -> Result<Prepared> {
    let did = saga.undoing().expect("an undo undoes something");
    Ok(Prepared::Call { key: saga.stable_key(), body: json!({ "what": saga.step(), "trip": saga.key(), "of": did.key }) })
}

fn undone(tx: &mut Tx<'_>, saga: &mut Saga, heard: Heard) -> Result<Next> {
    if let Heard::Done(_) = heard {
        tx.exec(BOOK, (saga.key(), saga.step(), -1_i64))?;
    }
    go_on(tx, saga, heard)
}

fn quick() -> log::Backoff {
    log::Backoff { base_ms: 1_000, cap_ms: 8_000, max_attempts: 4 }
}

/// A step whose receiver does not know keys, so that a repeated call would be done twice: it is asked.
fn asked(name: &'static str) -> Step {
    let tuned = |action: Action| action.ask(ask).timeout_ms(40).deadline_ms(60_000).backoff(quick());
    Step::new(name, tuned(Action::outside(prepare_booking, book, booked))).undo(tuned(Action::outside(prepare_undo, book, undone)))
}

/// A step whose receiver does a repeated key once.
fn keyed_step(name: &'static str) -> Step {
    let tuned = |action: Action| action.timeout_ms(40).deadline_ms(60_000).backoff(quick());
    Step::new(name, tuned(Action::outside(prepare_booking, book_by_key, booked))).undo(tuned(Action::outside(
        prepare_undo,
        book_by_key,
        undone,
    )))
}

const TRIP: Kind = Kind { name: "test.trip", version: 1 };

/// Three steps, each with its undo.
fn trip() -> Workflow {
    Workflow::new(TRIP).version(1, vec![asked("flight"), keyed_step("hotel"), asked("car")])
}

/// What holds of every saga at its end: each effect was done once, and the books say the same.
async fn books_agree(fixture: &Fixture, world: &World, tenant: TenantId, saga: &SagaView) {
    let booked = fixture.booked(tenant, &saga.key).await;
    let mut expected: HashMap<String, i64> = HashMap::new();
    for did in &saga.trail {
        assert_eq!(world.done(&did.key), 1, "{} of {saga:#?}", did.key);
        // What a person was told that nobody knows may have happened or not.
        let in_doubt = saga.status == Status::Parked && saga.phase == "doubt" && saga.body["of"] == did.key.as_str();
        let times = world.undone(&did.key);
        assert!(times == u32::from(did.undone) || (in_doubt && times <= 1), "{} of {saga:#?}: undone {times} times", did.key);
        *expected.entry(did.step.clone()).or_default() += i64::from(!did.undone);
    }
    for (what, count) in &booked {
        assert_eq!(expected.get(what).copied().unwrap_or(0), *count, "{what} of {saga:#?}");
    }
    for (what, count) in expected {
        assert_eq!(booked.get(&what).copied().unwrap_or(0), count, "{what} of {saga:#?}");
    }
    // Nobody has done what the saga doesn't know of, unless a person was told of it.
    let known = |key: &String| saga.trail.iter().any(|did| did.key == *key) || (saga.status == Status::Parked && *key == saga.call_key);
    let prefix = format!("{}-", saga.id);
    for (key, count) in &world.state().done {
        assert!(!key.starts_with(&prefix) || key.ends_with("-undo") || known(key), "{key} was done {count} times unknown to {saga:#?}");
    }
    match saga.status {
        Status::Done => assert!(saga.trail.iter().all(|did| !did.undone)),
        Status::Failed | Status::Cancelled => assert!(saga.trail.iter().all(|did| did.undone), "{saga:#?}"),
        Status::Parked => assert!(!saga.reason.is_empty()),
        Status::Running | Status::Waiting | Status::Compensating => panic!("it has not ended: {saga:#?}"),
    }
}
