//! Jobs and timers: at their time, once, and without touching what is not due.

use super::*;
use kernel::Scope;
use rusqlite::StatementStatus;

const JOB: Kind = Kind { name: "test.job", version: 1 };

fn job() -> Workflow {
    Workflow::job(JOB, Action::outside(prepare_booking, book_by_key, booked).timeout_ms(40).backoff(quick()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_runs_at_its_time_and_is_tried_again_with_backoff() {
    on_each_engine(async |fixture| {
        let world = World::new(|_, _, nth| if nth < 3 { Manner::Busy } else { Manner::Honest });
        let runner = fixture.runner(vec![job()], &world).await;
        let begin = |tx: &mut Tx<'_>, _: &()| start_at(tx, JOB, "j", &json!({}), tx.now().plus_ms(3_600_000));
        fixture.store.write(tenant(1), begin, ()).await.expect("it starts");
        rest(&runner).await;
        assert_eq!(fixture.saga(tenant(1), JOB, "j").await.status, Status::Waiting);
        fixture.advance(&runner, 3_599_000).await;
        assert_eq!(world.calls("book"), 0);
        fixture.advance(&runner, 1_000).await;
        let saga = fixture.saga(tenant(1), JOB, "j").await;
        assert_eq!((saga.status, saga.phase.as_str(), saga.attempts), (Status::Running, "again", 1));
        let wait_ms = saga.next_at.expect("it is tried again").ms_since(fixture.clock.now());
        assert!((499..=1_001).contains(&wait_ms), "{wait_ms}");
        // 1, 2 and 4 seconds at most.
        fixture.advance(&runner, 7_010).await;
        assert_eq!((fixture.saga(tenant(1), JOB, "j").await.status, world.calls("book")), (Status::Done, 4));
        // One that waits for its time can be cancelled.
        let begin = |tx: &mut Tx<'_>, _: &()| start_at(tx, JOB, "k", &json!({}), tx.now().plus_ms(3_600_000));
        fixture.store.write(tenant(1), begin, ()).await.expect("it starts");
        assert!(fixture.cancel(tenant(1), JOB, "k").await);
        rest(&runner).await;
        assert_eq!((fixture.saga(tenant(1), JOB, "k").await.status, world.calls("book")), (Status::Cancelled, 4));
        runner.stop().await;
    })
    .await;
}

/// PostgreSQL keeps the plans that it made when there were no sagas, where any index of theirs is as good as another, until it is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_steps_of_a_new_shard_do_not_read_other_sagas() {
    const SAGAS: i64 = 1_200;
    let Ok(url) = std::env::var("BRANDOS_TEST_POSTGRES") else {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "BRANDOS_TEST_POSTGRES is not set: PostgreSQL is not tested");
        return;
    };
    let fixture = Fixture::postgres(&url).await;
    let name = fixture.database.as_ref().expect("a database").1.clone();
    // Nobody else tells the planner.
    admin(&with_database(&url, &name), "ALTER TABLE workflow_sagas SET (autovacuum_enabled = false)").await;
    let runner = fixture.runner(vec![job()], &World::honest()).await;
    // When there are a few, and when there are several times as many.
    let mut told = Vec::new();
    for n in 0..SAGAS {
        fixture.start(tenant(1), JOB, &n.to_string(), json!({})).await;
        let least = told.last().map_or(100, |n| n * 3 + 60);
        if n >= least && n % 20 == 0 {
            // What a connection has written it tells a second later.
            tokio::time::sleep(Duration::from_millis(250)).await;
            let tables = async || fixture.store.analyze_grown(0).await.expect("it is told");
            if tables().await.iter().any(|table| table == "workflow_sagas") {
                assert!(!tables().await.iter().any(|table| table == "workflow_sagas"), "told, it knows");
                told.push(n);
            }
        }
    }
    assert!(told.len() >= 2, "the planner was told at {told:?}");
    rest(&runner).await;
    runner.stop().await;
    // Connections tell what they have counted when they end, if not before.
    fixture.store.close().await;
    let (client, connection) = tokio_postgres::connect(&with_database(&url, &name), tokio_postgres::NoTls).await.expect("it answers");
    let driver = tokio::spawn(connection);
    let counted = "SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes WHERE relname = 'workflow_sagas'";
    let mut read = -1_i64;
    for _ in 0..50 {
        let before = read;
        read = client.query_one(counted, &[]).await.expect("it is counted").get::<_, Option<i64>>(0).unwrap_or(0);
        if read > SAGAS && read == before {
            break;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    drop(client);
    let _ = driver.await;
    fixture.end().await;
    assert!(read > SAGAS && read < SAGAS * SAGAS / 3, "{read} entries of the indexes were read for {SAGAS} sagas");
}

fn tick(tx: &mut Tx<'_>, saga: &mut Saga) -> Result<Prepared> {
    const COUNT: &str = "INSERT INTO test_ticks (name, ticks) VALUES ($1, 1) ON CONFLICT (name) DO UPDATE SET ticks = test_ticks.ticks + 1";
    tx.exec(COUNT, (saga.kind(),))?;
    Ok(Prepared::Done(Value::Null))
}

fn broken(_: &mut Tx<'_>, _: &mut Saga) -> Result<Prepared> {
    Err(kernel::Error::conflict("test.broken", "broken on purpose"))
}

async fn ticks(fixture: &Fixture, name: &'static str) -> i64 {
    let found: Option<(i64,)> = fixture
        .store
        .read(Scope::Platform, move |read| read.opt("SELECT ticks FROM test_ticks WHERE name = $1", (name,)))
        .await
        .expect("ticks can be read");
    found.map_or(0, |(ticks,)| ticks)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timer_fires_once_an_interval_on_one_node_and_missed_ones_are_one() {
    on_each_engine(async |fixture| {
        let timers = || {
            vec![
                Workflow::timer("test.minutely", 60_000, Action::sql(tick)),
                Workflow::timer("test.hourly", 3_600_000, Action::sql(tick)).home_only(),
                Workflow::timer("test.failing", 60_000, Action::sql(broken).backoff(quick())),
                Workflow::timer(
                    "test.outside",
                    60_000,
                    Action::outside(|_, saga| Ok(Prepared::Call { key: saga.stable_key(), body: json!({}) }), book_by_key, go_on),
                ),
            ]
        };
        let world = World::honest();
        let first = fixture.runner(timers(), &world).await;
        let second = fixture.runner_on(&fixture.other, timers(), &world, config()).await;
        rest(&first).await;
        assert_eq!(ticks(fixture, "test.minutely").await, 0, "not before its time");
        fixture.advance(&first, 10 * 60_000).await;
        rest(&second).await;
        assert_eq!(ticks(fixture, "test.minutely").await, 10);
        assert_eq!(world.calls("book"), 10);
        assert_eq!(ticks(fixture, "test.hourly").await, 0);
        // Nobody looks for an hour and a half.
        first.stop().await;
        second.stop().await;
        fixture.clock.advance_ms(90 * 60_000);
        let third = fixture.runner(timers(), &world).await;
        rest(&third).await;
        assert_eq!(ticks(fixture, "test.minutely").await, 11);
        assert_eq!(ticks(fixture, "test.hourly").await, 1);
        assert_eq!(world.calls("book"), 11);
        fixture.advance(&third, 60_000).await;
        assert_eq!(ticks(fixture, "test.minutely").await, 12);
        // One that fails is tried again, gives up until its next time, and parks nobody's attention.
        let failing: Option<(String, String)> = fixture
            .store
            .read(Scope::Platform, |read| read.opt("SELECT status, reason FROM workflow_sagas WHERE kind = 'test.failing'", ()))
            .await
            .expect("it can be read");
        let (status, reason) = failing.expect("it is there");
        assert!(status == "waiting" || status == "running", "{status}");
        assert_eq!(reason, "test.broken: broken on purpose");
        third.stop().await;
    })
    .await;
}

/// So many sleep; so many are due.
const SLEEPING: i64 = 1_000_000;
const DUE: i64 = 3;

/// Sleeping sagas of a hundred tenants, as rows, since starting them one by one is not what is tested.
const SLEEP: &str =
    "INSERT INTO workflow_sagas (tenant_id, saga_id, kind, business_key, version, status, next_at, created_at, updated_at, state)
    WITH RECURSIVE n (i) AS (SELECT CAST($1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < $2)
    SELECT 1 + i % 100, 1000000 + i, 'test.job', 'sleeper-' || CAST(i AS TEXT), 1, 'waiting', $3 + i, 0, 0, 'null' FROM n";

/// A look reads what is due and not what sleeps: by the plan, and by what the engine counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_sleepers_are_not_touched_by_a_look() {
    on_each_engine(async |fixture| {
        let far = fixture.clock.now().plus_ms(24 * 3_600_000).micros();
        let mut first = 0;
        while first < SLEEPING {
            let last = first + 50_000 - 1;
            let sleep = |tx: &mut Tx<'_>, (first, last, far): &(i64, i64, i64)| tx.exec(SLEEP, (*first, *last, *far));
            let call = store::Call::new(Scope::Platform).deadline_ms(60_000);
            fixture.store.write(call, sleep, (first, last, far)).await.expect("they sleep");
            first = last + 1;
        }
        let begin = |tx: &mut Tx<'_>, _: &()| (0..DUE).try_for_each(|n| start(tx, JOB, &format!("j{n}"), &json!({})));
        fixture.store.write(tenant(1), begin, ()).await.expect("they start");
        let now = fixture.clock.now().micros();
        let (plan, read) = match (&fixture.folder, &fixture.database) {
            (Some(folder), _) => on_sqlite(&folder.path().join("test.db"), now),
            (None, Some((url, name))) => on_postgres(&with_database(url, name), now).await,
            (None, None) => unreachable!("a fixture has an engine"),
        };
        assert!(plan.contains("workflow_sagas_due"), "{plan}");
        assert!(read < 5_000, "{read} steps or rows for {DUE} due ones: {plan}");
        // The same in turn, for when more is due than a look shows.
        let world = World::honest();
        let runner = fixture.runner_on(&fixture.store, vec![job()], &world, RunnerConfig { window: 1, ..config() }).await;
        rest(&runner).await;
        assert_eq!(world.calls("book"), DUE as u32);
        runner.stop().await;
    })
    .await;
}

/// The plan, and the virtual-machine steps that the statement takes.
fn on_sqlite(file: &std::path::Path, now: i64) -> (String, i64) {
    let connection = rusqlite::Connection::open(file).expect("the file opens");
    let (known, limit) = (r#"["test.job/1"]"#, 512);
    let text = |sql: &str| sql.replace('$', "?");
    let mut plan = String::new();
    for sql in [crate::sql::DUE.sqlite()] {
        let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {}", text(sql))).expect("it can be explained");
        let mut rows = explain.query((now, known, limit)).expect("it can be explained");
        while let Some(row) = rows.next().expect("a row") {
            plan.push_str(&row.get::<_, String>(3).expect("a step"));
            plan.push('\n');
        }
    }
    let mut due = connection.prepare(&text(crate::sql::DUE.sqlite())).expect("it can be prepared");
    let found = due.query_map((now, known, limit), |_| Ok(())).expect("it runs").count();
    assert_eq!(found as i64, DUE);
    let mut steps = i64::from(due.get_status(StatementStatus::VmStep));
    assert_eq!(due.get_status(StatementStatus::FullscanStep), 0, "{plan}");
    let mut turn = connection.prepare(&text(crate::sql::DUE_IN_TURN.sqlite())).expect("it can be prepared");
    let found = turn.query_map((now, known, -1, 20, 4), |row| row.get::<_, Option<i64>>(1)).expect("it runs");
    assert_eq!(found.filter(|id| matches!(id, Ok(Some(_)))).count() as i64, DUE);
    steps += i64::from(turn.get_status(StatementStatus::VmStep));
    (plan, steps)
}

/// The plan, and the rows that its scans have read.
async fn on_postgres(url: &str, now: i64) -> (String, i64) {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("PostgreSQL answers");
    let driver = tokio::spawn(connection);
    client.batch_execute("ANALYZE workflow_sagas").await.expect("it can be analysed");
    let known = vec!["test.job/1".to_owned()];
    let mut plans = String::new();
    let explained = format!("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) {}", crate::sql::DUE.postgres());
    for row in client.query(&explained, &[&now, &known, &512_i64]).await.expect("it can be explained") {
        plans.push_str(row.get::<_, &str>(0));
        plans.push('\n');
    }
    let explained = format!("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) {}", crate::sql::DUE_IN_TURN.postgres());
    for row in client.query(&explained, &[&now, &known, &-1_i64, &20_i64, &4_i64]).await.expect("it can be explained") {
        plans.push_str(row.get::<_, &str>(0));
        plans.push('\n');
    }
    drop(client);
    let _ = driver.await;
    // Each line with actual rows and loops, and what a filter has thrown away.
    let number = |line: &str, of: &str| line.split_once(of).and_then(|(_, rest)| rest.split([' ', ')']).next()?.parse::<f64>().ok());
    let read: f64 = plans
        .lines()
        .map(|line| match (number(line, "rows="), number(line, "loops=")) {
            (Some(rows), Some(loops)) => rows * loops,
            _ => number(line, "Removed by Filter: ").unwrap_or(0.0),
        })
        .sum();
    (plans, read as i64)
}
