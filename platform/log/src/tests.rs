//! The promises of the crate, against a real store: SQLite always, PostgreSQL where `BRANDOS_TEST_POSTGRES` names a server.

use crate::*;
use futures_util::future::BoxFuture;
use kernel::{Error, IdGenerator, ManualClock, Result, Scope, SeededRng, SystemRng, TenantId, Timestamp};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use store::{Environment, Event, EventId, Migration, Migrations, NewEvent, Position, Store, StoreConfig, Tx};

/// An event as unit tests need it. Tenant 0 is the platform.
pub(crate) fn event(tenant: i64, sequence: i64, subject: &str, kind: &str) -> Event {
    Event {
        id: EventId::from_i64(sequence),
        position: Position { shard: 0, lane: 0, sequence },
        tenant_id: (tenant != 0).then(|| TenantId::from_i64(tenant)),
        kind: kind.to_owned(),
        version: 1,
        subject: subject.to_owned(),
        occurred_at: Timestamp::from_micros(0),
        correlation_id: None,
        payload: "{}".to_owned(),
    }
}

/// A projection that shows repetition and order, and keys that are broken for as long as their row is there.
const MODULE: Migrations = Migrations {
    module: "test",
    steps: &[Migration {
        number: 1,
        name: "tables",
        sql: "CREATE TABLE test_tallies (tenant_id BIGINT NOT NULL, subject TEXT NOT NULL, total BIGINT NOT NULL, trail TEXT NOT NULL,
                PRIMARY KEY (tenant_id, subject));
              CREATE TABLE test_broken (tenant_id BIGINT NOT NULL, subject TEXT NOT NULL, how TEXT NOT NULL, PRIMARY KEY (tenant_id, subject));
              CREATE TABLE test_platform (event BIGINT NOT NULL PRIMARY KEY, n BIGINT NOT NULL);",
    }],
};

const TALLY: &str = "INSERT INTO test_tallies (tenant_id, subject, total, trail) VALUES ($1, $2, $3, $4) ON CONFLICT (tenant_id, subject)
    DO UPDATE SET total = test_tallies.total + excluded.total, trail = test_tallies.trail || excluded.trail";

fn number(event: &Event) -> i64 {
    event.payload.parse().expect("the payload is a number")
}

/// Whether somebody was held by a subject that is broken so.
static HELD: AtomicBool = AtomicBool::new(false);

/// Adds up numbers; an even number of a broken subject fails, after it has written.
fn tally(tx: &mut Tx<'_>, events: &[Event]) -> Result<()> {
    assert!(!events.is_empty() && events.iter().all(|event| event.tenant_id == events[0].tenant_id));
    assert_eq!(tx.scope().tenant(), events[0].tenant_id);
    for event in events {
        let n = number(event);
        if event.tenant_id.is_none() {
            tx.exec("INSERT INTO test_platform (event, n) VALUES ($1, $2)", (event.id, n))?;
            continue;
        }
        tx.exec(TALLY, (event.subject.as_str(), n, format!("{n},")))?;
        let how: Option<(String,)> =
            tx.opt("SELECT how FROM test_broken WHERE tenant_id = $1 AND subject = $2", (event.subject.as_str(),))?;
        match how.as_ref().filter(|_| n % 2 == 0).map(|(how,)| how.as_str()) {
            None => {}
            Some("refuse") => return Err(Error::conflict("test.refused", "this number is refused")),
            Some("invalid") => return Err(Error::invalid("test.invalid", "this number is invalid").with_field("n", "even", "is even")),
            Some("statement") => {
                tx.exec("INSERT INTO test_broken (tenant_id, subject, how) VALUES ($1, $2, 'twice')", (event.subject.as_str(),))?;
            }
            // For a moment, the first time.
            Some("holds") if !HELD.swap(true, Ordering::SeqCst) => std::thread::sleep(Duration::from_millis(500)),
            Some("holds") => {}
            Some(_) => panic!("broken on purpose"),
        }
    }
    Ok(())
}

fn clear(tx: &mut Tx<'_>) -> Result<()> {
    tx.exec("DELETE FROM test_platform", ())?;
    tx.exec("DELETE FROM test_tallies", ())
}

const TALLIES: Consumer = Consumer::sql("test.tallies", &["test.counted"], tally).with_reset(clear);

/// A store of one engine with what it needs; ends with the test.
struct Fixture {
    store: Store,
    /// Another node on the same PostgreSQL; the same store again on SQLite.
    other: Store,
    clock: Arc<ManualClock>,
    folder: Option<tempfile::TempDir>,
    database: Option<(String, String)>,
}

static SEEDS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
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
        let name = format!("brandos_log_{}_{number}", std::process::id());
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
            // FORCE may not end an autovacuum worker, which belongs to the server: then the database goes with its cluster.
            let (url, drop) = (url.clone(), format!("DROP DATABASE {name} WITH (FORCE)"));
            let _ = tokio::spawn(async move { admin(&url, &drop).await }).await;
        }
        drop(self.folder);
    }

    async fn log_on(&self, store: &Store, consumers: Vec<Consumer>, config: LogConfig) -> Log {
        // Each log has a seed of its own: processes tell each other apart by what they draw.
        let seed = SEEDS.fetch_add(1, std::sync::atomic::Ordering::Relaxed).into();
        Log::start(store.clone(), consumers, config, Arc::new(SeededRng::new(seed))).await.expect("the log starts")
    }

    async fn log(&self, consumers: Vec<Consumer>) -> Log {
        self.log_on(&self.store, consumers, config()).await
    }

    async fn emit(&self, tenant: TenantId, subject: &str, n: i64) {
        emit(&self.store, tenant, subject, n).await;
    }

    /// What a tenant's subject has come to: its numbers in the order in which they were handled.
    async fn trail(&self, tenant: TenantId, subject: &'static str) -> String {
        let row: Option<(String,)> = self
            .store
            .read(tenant, move |read| read.opt("SELECT trail FROM test_tallies WHERE tenant_id = $1 AND subject = $2", (subject,)))
            .await
            .expect("the tallies can be read");
        row.map(|(trail,)| trail).unwrap_or_default()
    }

    async fn all(&self) -> Vec<(i64, String, i64, String)> {
        self.store
            .read(Scope::Platform, |read| {
                read.all("SELECT tenant_id, subject, total, trail FROM test_tallies ORDER BY tenant_id, subject", ())
            })
            .await
            .expect("the tallies can be read")
    }

    async fn breaks(&self, tenant: TenantId, subject: &'static str, how: &'static str) {
        const BREAK: &str = "INSERT INTO test_broken (tenant_id, subject, how) VALUES ($1, $2, $3)";
        self.store.write(tenant, |tx, row| tx.exec(BREAK, *row), (subject, how)).await.expect("it can be broken");
    }

    async fn heals(&self, tenant: TenantId, subject: &'static str) {
        const HEAL: &str = "DELETE FROM test_broken WHERE tenant_id = $1 AND subject = $2";
        self.store.write(tenant, |tx, row| tx.exec(HEAL, *row), (subject,)).await.expect("it can be healed");
    }
}

async fn emit(store: &Store, tenant: TenantId, subject: &str, n: i64) {
    let emit = |tx: &mut Tx<'_>, (subject, n): &(String, i64)| {
        tx.emit(NewEvent::new("test.counted", 1, subject, n));
        Ok(())
    };
    store.write(tenant, emit, (subject.to_owned(), n)).await.expect("it is emitted");
}

fn config() -> LogConfig {
    LogConfig { poll_ms: 20, lag_refresh_ms: 20, outside_timeout_ms: 100, ..LogConfig::default() }
}

fn tenant(number: i64) -> TenantId {
    TenantId::from_i64(number)
}

async fn drained(log: &Log) {
    tokio::time::timeout(std::time::Duration::from_secs(60), log.drained()).await.expect("it drains").expect("the tables can be read");
}

async fn states(log: &Log, tenant: TenantId) -> Vec<(String, i64, FailureState, u32)> {
    let list = log.failures(FailuresOf::Tenant(tenant), None, None, 100).await.expect("the list can be read");
    let mut states = Vec::new();
    for summary in list {
        let failure = log.inspect(&summary.key).await.expect("what is listed is there");
        assert_eq!(failure.summary, summary);
        states.push((summary.subject, number(&failure.event), summary.state, summary.attempts));
    }
    states
}

/// The test's body runs once for each engine.
async fn on_each_engine(test: impl AsyncFn(&Fixture)) {
    for fixture in Fixture::each().await {
        test(&fixture).await;
        fixture.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effects_happen_exactly_once_under_two_competing_logs() {
    on_each_engine(async |fixture| {
        let first = fixture.log(vec![TALLIES]).await;
        let second = fixture.log_on(&fixture.other, vec![TALLIES], LogConfig { batch: 7, ..config() }).await;
        let emitters = (1..=6).map(|t| {
            let store = if t % 2 == 0 { fixture.store.clone() } else { fixture.other.clone() };
            tokio::spawn(async move {
                for n in 0..200 {
                    emit(&store, tenant(t), if n % 3 == 0 { "three" } else { "other" }, n).await;
                }
            })
        });
        for emitter in emitters.collect::<Vec<_>>() {
            emitter.await.expect("the emitter ends");
        }
        drained(&first).await;
        drained(&second).await;
        let trail = |three: bool| (0..200).filter(|n| (n % 3 == 0) == three).map(|n| format!("{n},")).collect::<String>();
        for t in 1..=6 {
            assert_eq!(fixture.trail(tenant(t), "three").await, trail(true));
            assert_eq!(fixture.trail(tenant(t), "other").await, trail(false));
        }
        first.stop().await;
        second.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_event_holds_back_its_key_alone_and_order_is_kept_over_the_retry() {
    on_each_engine(async |fixture| {
        for (index, how) in ["refuse", "statement", "panic"].into_iter().enumerate() {
            let (one, two) = (tenant(index as i64 * 2 + 1), tenant(index as i64 * 2 + 2));
            fixture.breaks(one, "bad", how).await;
            // Everything is there before the log starts, so that it comes in one batch.
            for n in 1..=6 {
                fixture.emit(one, "bad", n).await;
                fixture.emit(one, "good", n).await;
                fixture.emit(two, "bad", n).await;
            }
            let log = fixture.log(vec![TALLIES]).await;
            drained(&log).await;
            assert_eq!(fixture.trail(one, "bad").await, "1,", "{how}");
            assert_eq!(fixture.trail(one, "good").await, "1,2,3,4,5,6,");
            assert_eq!(fixture.trail(two, "bad").await, "1,2,3,4,5,6,");
            fixture.emit(one, "bad", 7).await;
            fixture.emit(one, "good", 7).await;
            drained(&log).await;
            assert_eq!(fixture.trail(one, "good").await, "1,2,3,4,5,6,7,");
            let mut expected = vec![("bad".to_owned(), 2, FailureState::Retrying, 1)];
            expected.extend((3..=7).map(|n| ("bad".to_owned(), n, FailureState::Blocked, 0)));
            assert_eq!(states(&log, one).await, expected);
            assert_eq!(states(&log, two).await, []);

            // It fails once more, then succeeds, and those behind it follow in order.
            fixture.clock.advance_ms(1_000);
            drained(&log).await;
            assert_eq!(states(&log, one).await[0], ("bad".to_owned(), 2, FailureState::Retrying, 2));
            fixture.heals(one, "bad").await;
            fixture.clock.advance_ms(2_000);
            drained(&log).await;
            assert_eq!(fixture.trail(one, "bad").await, "1,2,3,4,5,6,7,");
            assert_eq!(states(&log, one).await, []);
            log.stop().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_listed_inspected_retried_and_skipped() {
    on_each_engine(async |fixture| {
        let one = tenant(1);
        fixture.breaks(one, "bad", "invalid").await;
        let log = fixture.log(vec![TALLIES]).await;
        for n in [1, 2, 3, 4] {
            fixture.emit(one, "bad", n).await;
        }
        drained(&log).await;
        for _ in 0..2 {
            fixture.clock.advance_ms(10_000);
            drained(&log).await;
        }
        let listed = log.failures(FailuresOf::Shard(0), Some(FailureState::Dead), None, 100).await.expect("the list can be read");
        assert_eq!(listed.len(), 1, "what is invalid dies after three attempts");
        let dead = &listed[0];
        assert_eq!((dead.attempts, dead.error_code.as_str(), dead.next_attempt_at), (3, "test.invalid", None));
        assert_eq!(dead.error_detail, "this number is invalid; n: is even");
        let failure = log.inspect(&dead.key).await.expect("it is there");
        assert_eq!(
            (failure.event.payload.as_str(), failure.event.kind.as_str(), failure.event.tenant_id),
            ("2", "test.counted", Some(one))
        );

        // Paging goes through the rest, and another tenant sees none of it.
        let page = |after| log.failures(FailuresOf::Tenant(one), None, after, 1);
        let first = page(None).await.expect("a page");
        let second = page(Some(first[0].key.clone())).await.expect("a page");
        let third = page(Some(second[0].key.clone())).await.expect("a page");
        assert_eq!(page(Some(third[0].key.clone())).await.expect("a page"), []);
        assert_eq!(log.failures(FailuresOf::Tenant(tenant(2)), None, None, 100).await.expect("a page"), []);
        let foreign = FailureKey { tenant_id: Some(tenant(2)), ..dead.key.clone() };
        assert_eq!(log.inspect(&foreign).await.expect_err("not theirs").code(), "log.failure_not_found");
        assert_eq!(log.retry(&second[0].key).await.expect_err("it waits").code(), "log.failure_blocked");

        // A retry of what is still broken fails again, with all its attempts before it.
        log.retry(&dead.key).await.expect("it may be retried");
        drained(&log).await;
        assert_eq!(states(&log, one).await[0], ("bad".to_owned(), 2, FailureState::Retrying, 1));
        // Skipped, it lets 3 go, and 4 fails in its turn; healed, 4 goes by a retry.
        let skipped = log.skip(&dead.key).await.expect("it may be skipped");
        assert_eq!(number(&skipped.event), 2);
        drained(&log).await;
        assert_eq!(fixture.trail(one, "bad").await, "1,3,");
        assert_eq!(states(&log, one).await, [("bad".to_owned(), 4, FailureState::Retrying, 1)]);
        assert_eq!(log.skip(&dead.key).await.expect_err("it is gone").code(), "log.failure_not_found");
        fixture.heals(one, "bad").await;
        log.retry(&third[0].key).await.expect("it may be retried");
        drained(&log).await;
        assert_eq!(fixture.trail(one, "bad").await, "1,3,4,");
        assert_eq!(states(&log, one).await, []);
        log.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_from_zero_gives_the_same_projection() {
    on_each_engine(async |fixture| {
        let log = fixture.log(vec![TALLIES]).await;
        fixture.breaks(tenant(1), "bad", "refuse").await;
        for n in 0..120 {
            fixture.emit(tenant(1 + n % 3), ["a", "b", "bad"][(n % 2) as usize], n).await;
        }
        fixture.emit(tenant(1), "bad", 2).await;
        drained(&log).await;
        let before = fixture.all().await;
        assert_eq!(states(&log, tenant(1)).await.len(), 1);
        for of in [ReplayOf::All, ReplayOf::Shard(0)] {
            log.replay("test.tallies", of).await.expect("it is replayed");
            drained(&log).await;
            assert_eq!(fixture.all().await, before);
            assert_eq!(states(&log, tenant(1)).await, [("bad".to_owned(), 2, FailureState::Retrying, 1)], "it failed afresh");
        }
        // Under load too.
        let store = fixture.store.clone();
        let emitter = tokio::spawn(async move {
            for n in 0..200 {
                emit(&store, tenant(9), "c", n).await;
            }
        });
        for _ in 0..3 {
            log.replay("test.tallies", ReplayOf::All).await.expect("it is replayed");
        }
        emitter.await.expect("the emitter ends");
        drained(&log).await;
        assert_eq!(fixture.trail(tenant(9), "c").await, (0..200).map(|n| format!("{n},")).collect::<String>());
        let code = |result: Result<()>| result.expect_err("refused").code();
        let lane = ReplayOf::Lane { shard: 0, lane: 0, after_sequence: 0 };
        assert_eq!(code(log.replay("test.tallies", lane).await), "log.replay_whole_shard");
        assert_eq!(code(log.replay("test.nobody", ReplayOf::All).await), "log.consumer_not_found");
        assert_eq!(code(log.replay("test.tallies", ReplayOf::Shard(5)).await), "log.lane_not_found");
        log.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_that_a_replay_overtakes_counts_once() {
    on_each_engine(async |fixture| {
        // On PostgreSQL a retry runs on its tenant's own lane, and a replay on the first.
        let owner = (1..).map(tenant).find(|one| fixture.store.lane_of(*one) == fixture.store.lanes(0) - 1).expect("a tenant");
        let log = fixture.log(vec![TALLIES]).await;
        fixture.breaks(owner, "bad", "refuse").await;
        fixture.emit(owner, "bad", 2).await;
        drained(&log).await;
        fixture.heals(owner, "bad").await;
        fixture.breaks(owner, "bad", "holds").await;
        HELD.store(false, Ordering::SeqCst);
        let failed = log.failures(FailuresOf::Tenant(owner), None, None, 1).await.expect("the list can be read").remove(0);
        log.retry(&failed.key).await.expect("it may be retried");
        while !HELD.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        log.replay("test.tallies", ReplayOf::All).await.expect("it is replayed");
        drained(&log).await;
        assert_eq!(fixture.trail(owner, "bad").await, "2,");
        assert_eq!(states(&log, owner).await, []);
        log.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_lane_is_replayed_from_a_sequence() {
    const REPEATABLE: Consumer = Consumer::sql("test.repeatable", &["test.counted"], tally);
    on_each_engine(async |fixture| {
        let log = fixture.log(vec![REPEATABLE]).await;
        for n in 1..=5 {
            fixture.emit(tenant(1), "a", n).await;
        }
        drained(&log).await;
        let lane = fixture.store.lane_of(tenant(1));
        log.replay("test.repeatable", ReplayOf::Lane { shard: 0, lane, after_sequence: 3 }).await.expect("it is replayed");
        drained(&log).await;
        assert_eq!(fixture.trail(tenant(1), "a").await, "1,2,3,4,5,4,5,");
        let ahead = log.replay("test.repeatable", ReplayOf::Lane { shard: 0, lane, after_sequence: 6 }).await;
        assert_eq!(ahead.expect_err("refused").code(), "log.replay_ahead");
        log.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_resumes_where_it_stopped_and_a_new_consumer_begins_at_the_beginning() {
    const SECOND: Consumer = Consumer::sql("test.second", &["test.counted"], |tx, events| {
        events
            .iter()
            .try_for_each(|event| tx.exec(TALLY, (format!("second {}", event.subject), number(event), format!("{},", event.payload))))
    });
    on_each_engine(async |fixture| {
        for round in 0..4 {
            let log = fixture.log(if round < 3 { vec![TALLIES] } else { vec![TALLIES, SECOND] }).await;
            for n in 0..30 {
                fixture.emit(tenant(1), "a", round * 30 + n).await;
            }
            if round % 2 == 1 {
                drained(&log).await;
            }
            log.stop().await;
        }
        let all: String = (0..120).map(|n| format!("{n},")).collect();
        assert_eq!(fixture.trail(tenant(1), "a").await, all);
        assert_eq!(fixture.trail(tenant(1), "second a").await, all);
    })
    .await;
}

/// Nobody hurries the log here, and it does not look by itself: what it must not miss is told to it by the commits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_committed_is_handled_without_a_look_at_the_tables() {
    on_each_engine(async |fixture| {
        for (subject, consumer) in [("prompt", TALLIES), ("patient", TALLIES.patient())] {
            let seldom = LogConfig { poll_ms: 600_000, lag_refresh_ms: 600_000, batch: 4, ..config() };
            let log = fixture.log_on(&fixture.store, vec![consumer], seldom).await;
            let arrived = async |numbers: std::ops::RangeInclusive<i64>| {
                let all: String = numbers.map(|n| format!("{n},")).collect();
                for _ in 0..1_000 {
                    if fixture.trail(tenant(1), subject).await == all {
                        return;
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
                assert_eq!(fixture.trail(tenant(1), subject).await, all);
            };
            // One after the other, some while a batch is under way, and more than a batch takes.
            for n in 1..=40 {
                fixture.emit(tenant(1), subject, n).await;
                if n % 10 == 0 {
                    arrived(1..=n).await;
                }
            }
            // What another node has committed on the lane comes before what this one commits.
            for n in 41..=60 {
                emit(&fixture.other, tenant(1), subject, n).await;
            }
            fixture.emit(tenant(1), subject, 61).await;
            arrived(1..=61).await;
            log.stop().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn platform_events_are_handled_on_the_platforms_scope() {
    on_each_engine(async |fixture| {
        let log = fixture.log(vec![TALLIES]).await;
        for n in 0..3_i64 {
            let emit = |tx: &mut Tx<'_>, n: &i64| {
                tx.emit(NewEvent::new("test.counted", 1, "platform", n));
                Ok(())
            };
            fixture.store.write(Scope::Platform, emit, n).await.expect("it is emitted");
        }
        drained(&log).await;
        let rows: Vec<(i64,)> =
            fixture.store.read(Scope::Platform, |read| read.all("SELECT n FROM test_platform ORDER BY n", ())).await.expect("rows");
        assert_eq!(rows, [(0,), (1,), (2,)]);
        log.stop().await;
    })
    .await;
}

/// An effect that breaks the transaction itself at a negative number, by ending the savepoint around it.
fn wreck(tx: &mut Tx<'_>, events: &[Event]) -> Result<()> {
    for event in events {
        if number(event) < 0 {
            tx.exec("RELEASE SAVEPOINT attempt", ())?;
        }
        tx.exec("INSERT INTO test_platform (event, n) VALUES ($1, $2)", (event.id, number(event)))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_breaks_the_transaction_is_set_aside_alone() {
    const WRECKED: Consumer = Consumer::sql("test.wrecked", &["test.counted"], wreck);
    on_each_engine(async |fixture| {
        for n in [1_i64, 2, -3, 4, 5] {
            let emit = |tx: &mut Tx<'_>, n: &i64| {
                tx.emit(NewEvent::new("test.counted", 1, format!("number {n}"), n));
                Ok(())
            };
            fixture.store.write(Scope::Platform, emit, n).await.expect("it is emitted");
        }
        let log = fixture.log(vec![WRECKED]).await;
        let handled = async || {
            let rows: Vec<(i64,)> =
                fixture.store.read(Scope::Platform, |read| read.all("SELECT n FROM test_platform ORDER BY n", ())).await.expect("rows");
            rows.into_iter().map(|(n,)| n).collect::<Vec<_>>()
        };
        drained(&log).await;
        assert_eq!(handled().await, [1, 2, 4, 5]);
        for (attempts, code) in [(1, "log.effect_broke_transaction"), (2, "internal")] {
            let listed = log.failures(FailuresOf::Shard(0), None, None, 100).await.expect("the list can be read");
            let found: Vec<_> = listed.iter().map(|f| (f.key.tenant_id, f.attempts, f.error_code.as_str(), f.state)).collect();
            assert_eq!(found, [(None, attempts, code, FailureState::Retrying)]);
            fixture.clock.advance_ms(10_000);
            drained(&log).await;
        }
        let listed = log.failures(FailuresOf::Shard(0), None, None, 100).await.expect("the list can be read");
        log.skip(&listed[0].key).await.expect("it may be skipped");
        drained(&log).await;
        assert_eq!(handled().await, [1, 2, 4, 5]);
        log.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lag_tells_how_far_behind_and_unwanted_events_are_passed() {
    const OTHER: Consumer = Consumer::sql("test.other", &["test.never"], tally);
    on_each_engine(async |fixture| {
        // Positions exist once a log has run.
        fixture.log(vec![TALLIES, OTHER]).await.stop().await;
        for n in 0..10 {
            fixture.emit(tenant(1), "a", n).await;
        }
        fixture.clock.advance_ms(3_000);
        let tool = Log::idle(fixture.store.clone(), vec![TALLIES, OTHER], config(), Arc::new(SystemRng::new())).expect("a handle");
        let lane = fixture.store.lane_of(tenant(1)) as i16;
        let lags = tool.lag().await.expect("the lag");
        for lag in &lags {
            if lag.lane == lane {
                assert_eq!((lag.events_behind, lag.oldest_age_ms), (10, 3_000), "{lag:?}");
            }
        }
        let mut registry = prometheus_client::registry::Registry::default();
        tool.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("it encodes");
        assert!(text.contains(&format!("log_events_behind{{consumer=\"test.tallies\",shard=\"0\",lane=\"{lane}\"}} 10")), "{text}");

        let end = |sequence| [Position { shard: 0, lane, sequence }];
        assert!(!tool.passed(&end(10)).await.expect("the positions"));
        let log = fixture.log(vec![TALLIES, OTHER]).await;
        drained(&log).await;
        assert!(tool.passed(&end(10)).await.expect("the positions") && !tool.passed(&end(11)).await.expect("the positions"));
        assert!(tool.lag().await.expect("the lag").iter().all(|lag| lag.events_behind == 0 && lag.oldest_age_ms == 0));
        log.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_with_too_many_failures_stops_until_there_are_fewer() {
    on_each_engine(async |fixture| {
        let one = tenant(1);
        fixture.breaks(one, "bad", "refuse").await;
        let log = fixture.log_on(&fixture.store, vec![TALLIES], LogConfig { max_failures: 3, ..config() }).await;
        for n in 2..5 {
            fixture.emit(one, "bad", n).await;
        }
        drained(&log).await;
        fixture.emit(one, "good", 1).await;
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        assert_eq!(fixture.trail(one, "good").await, "", "it has stopped");
        fixture.heals(one, "bad").await;
        fixture.clock.advance_ms(1_000);
        drained(&log).await;
        assert_eq!(fixture.trail(one, "good").await, "1,");
        log.stop().await;
    })
    .await;
}

/// What outside effects have delivered, in order: tenants tell tests and engines apart.
static DELIVERED: Mutex<Vec<(i64, String, i64)>> = Mutex::new(Vec::new());
/// Tenants and subjects whose even numbers are not taken: refused, or (with a `slow` subject) never answered.
static CLOSED: Mutex<Vec<(i64, String)>> = Mutex::new(Vec::new());

fn deliver(event: Event) -> BoxFuture<'static, Result<()>> {
    Box::pin(async move {
        let (owner, n) = (event.tenant_id.map_or(0, |tenant| tenant.as_i64()), number(&event));
        tokio::task::yield_now().await;
        let closed = CLOSED.lock().expect("no panic").contains(&(owner, event.subject.clone()));
        if closed && n % 2 == 0 {
            if event.subject.starts_with("slow") {
                std::future::pending::<()>().await;
            }
            return Err(Error::unavailable("test.closed", "the receiver is closed"));
        }
        DELIVERED.lock().expect("no panic").push((owner, event.subject, n));
        Ok(())
    })
}

const DELIVERIES: Consumer = Consumer::outside("test.deliveries", &["test.counted"], deliver);

fn delivered(owner: TenantId, subject: &str) -> Vec<i64> {
    let all = DELIVERED.lock().expect("no panic");
    all.iter().filter(|(tenant, of, _)| *tenant == owner.as_i64() && of == subject).map(|(_, _, n)| *n).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outside_effects_are_delivered_in_order_and_failures_are_retried() {
    on_each_engine(async |fixture| {
        let base = if fixture.database.is_some() { 2_000 } else { 1_000 };
        let (one, two) = (tenant(base + 1), tenant(base + 2));
        CLOSED.lock().expect("no panic").extend([(one.as_i64(), "bad".to_owned()), (two.as_i64(), "slow".to_owned())]);
        // Two nodes: one delivers.
        let first = fixture.log(vec![DELIVERIES]).await;
        let second = fixture.log_on(&fixture.other, vec![DELIVERIES], config()).await;
        for n in 1..=40 {
            fixture.emit(one, "good", n).await;
            if n <= 5 {
                fixture.emit(one, "bad", n).await;
                fixture.emit(two, "slow", n).await;
            }
        }
        drained(&first).await;
        assert_eq!(delivered(one, "good"), (1..=40).collect::<Vec<_>>());
        assert_eq!((delivered(one, "bad"), delivered(two, "slow")), (vec![1], vec![1]));
        let expected = |subject: &str| {
            let mut states = vec![(subject.to_owned(), 2, FailureState::Retrying, 1)];
            states.extend((3..=5).map(|n| (subject.to_owned(), n, FailureState::Blocked, 0)));
            states
        };
        assert_eq!(states(&first, one).await, expected("bad"));
        assert_eq!(states(&first, two).await, expected("slow"));
        CLOSED.lock().expect("no panic").retain(|(owner, _)| *owner != one.as_i64() && *owner != two.as_i64());
        fixture.clock.advance_ms(1_000);
        // Either node may have claimed a retry, which the other does not see as due.
        while !first.failures(FailuresOf::Shard(0), None, None, 100).await.expect("the list can be read").is_empty() {
            drained(&first).await;
            drained(&second).await;
        }
        assert_eq!((delivered(one, "bad"), delivered(two, "slow")), (vec![1, 2, 3, 4, 5], vec![1, 2, 3, 4, 5]));
        first.stop().await;
        second.stop().await;
        // A restart delivers nothing again.
        let third = fixture.log(vec![DELIVERIES]).await;
        drained(&third).await;
        assert_eq!(delivered(one, "good").len(), 40);
        third.stop().await;
    })
    .await;
}

#[test]
fn the_database_of_a_url_is_replaced() {
    for (url, expected) in [
        ("postgres://u:p@h:1/db", "postgres://u:p@h:1/new"),
        ("postgres://u@h:1", "postgres://u@h:1/new"),
        ("postgres://u@h/db?sslmode=disable", "postgres://u@h/new?sslmode=disable"),
    ] {
        assert_eq!(with_database(url, "new"), expected);
    }
}

#[test]
fn names_of_consumers_are_checked() {
    assert!(consumer::check(&[TALLIES, DELIVERIES]).is_ok());
    assert!(consumer::check(&[TALLIES, TALLIES]).is_err());
    assert!(consumer::check(&[Consumer::sql("", &[], tally)]).is_err());
}
