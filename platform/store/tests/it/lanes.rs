//! Lanes at work, on both engines: groups, refusals, idempotency, events, fairness of failure.

use crate::common::{Place, Transfer, UNLUCKY, administer, balance, open_account, tenant, transfer, transfers};
use crate::store;
use crate::store::{Call, Engine, Left, NewEvent, OnceKey, Position, Rider, Store, Tx};
use kernel::{Error, ErrorKind, Scope};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Runs a test body on each engine that is there.
macro_rules! on_both {
    ($($(#[$doc:meta])* async fn $name:ident($place:ident: &Place) $body:block)*) => {$(
        mod $name {
            use super::*;
            async fn body($place: &Place) $body
            #[tokio::test(flavor = "multi_thread")]
            async fn sqlite() {
                body(&Place::new(Engine::Sqlite).expect("SQLite is inside")).await;
            }
            #[tokio::test(flavor = "multi_thread")]
            async fn postgres() {
                if let Some(place) = Place::new(Engine::Postgres) {
                    body(&place).await;
                }
            }
        }
    )*};
}

async fn bank(place: &Place) -> Store {
    let store = place.node(1);
    for account in 1..=4 {
        store.write(tenant(7), open_account, (account, 1_000)).await.expect("opened");
    }
    store
}

/// Counts the groups that this lane remembers; fails after that if it is told to.
fn remembered(tx: &mut Tx<'_>, &fails: &bool) -> kernel::Result<i64> {
    let count = tx.take_kept::<i64>().unwrap_or(0) + 1;
    tx.keep(count);
    tx.exec("UPDATE bank_accounts SET balance = balance + 1 WHERE tenant_id = $1 AND account = $2", (1_i64,))?;
    if fails { Err(Error::conflict("bank.failed", "after it has written")) } else { Ok(count) }
}

/// Reads a balance, thinks, and writes what follows from it: right only where nobody else writes meanwhile.
fn count_up(tx: &mut Tx<'_>, (): &()) -> kernel::Result<()> {
    let (balance,): (i64,) = tx.one("SELECT balance FROM bank_accounts WHERE tenant_id = $1 AND account = 5", ())?;
    std::thread::sleep(Duration::from_millis(2));
    tx.exec("UPDATE bank_accounts SET balance = $2 WHERE tenant_id = $1 AND account = 5", (balance + 1,))
}

/// The same in several tenants, whosever lane this is.
fn within(tx: &mut Tx<'_>, guest: i64, strangers: &[i64]) -> kernel::Result<()> {
    strangers.iter().chain([&guest]).try_for_each(|number| tx.in_tenant(tenant(*number), |tx| count_up(tx, &())))
}

on_both! {
    async fn what_a_lane_keeps_is_forgotten_with_a_rollback_and_with_another_writer(place: &Place) {
        let store = bank(place).await;
        let alone = matches!(place.shard, crate::store::ShardConfig::Sqlite { .. });
        let count = async |store: &Store| store.write(tenant(7), remembered, false).await.expect("counted");
        assert_eq!(count(&store).await, 1);
        assert_eq!(count(&store).await, if alone { 2 } else { 1 });
        assert_eq!(store.write(tenant(7), remembered, true).await.expect_err("it fails").code(), "bank.failed");
        assert_eq!(count(&store).await, 1);
        assert_eq!(count(&store).await, if alone { 2 } else { 1 });
        // A savepoint of a command's own undoes what was kept in it.
        let attempted = |tx: &mut Tx<'_>, (): &()| tx.attempt(|tx| remembered(tx, &true)).map(|refused| refused.is_err());
        assert!(store.write(tenant(7), attempted, ()).await.expect("attempted"));
        assert_eq!(count(&store).await, 1);
        let other = place.node(2);
        assert_eq!(count(&other).await, 1);
        assert_eq!(count(&store).await, 1, "the other one has written since");
        assert_eq!(count(&other).await, 1);
    }

    async fn ids_rise_with_the_commits_of_a_lane_and_not_ahead_of_the_clock(place: &Place) {
        let (one, other) = (bank(place).await, place.node(2));
        let emits = |tx: &mut Tx<'_>, (): &()| {
            let id = tx.new_id::<kernel::Tenant>().as_i64();
            for _ in 0..100 {
                tx.emit(NewEvent::new("bank.told", 1, "x", &0));
            }
            Ok(id)
        };
        let mut last = 0;
        for _ in 0..20 {
            for node in [&one, &other] {
                let id = node.write(tenant(7), emits, ()).await.expect("told");
                assert!(id > last, "{id} after {last}");
                last = id;
            }
        }
        let ahead_ms = kernel::Id::<kernel::Tenant>::from_i64(last).unix_ms() - kernel::Clock::now(&kernel::SystemClock).unix_ms();
        assert!(ahead_ms < 1_000, "4,000 events took the ids {ahead_ms} ms ahead of the clock");
    }

    async fn a_group_commits_and_refusals_undo_only_themselves(place: &Place) {
        let store = bank(place).await;
        let mut calls = tokio::task::JoinSet::new();
        for n in 0..200_i64 {
            let store = store.clone();
            // Every fifth wants more than there is; every seventh pays an account that is not there, after it has taken the money.
            let data = Transfer { debit: 1 + n % 4, credit: if n % 7 == 0 { 99 } else { 1 + (n + 1) % 4 }, amount: if n % 5 == 0 { 1_000_000 } else { 1 } };
            calls.spawn(async move { (n, store.write(tenant(7), transfer, data).await) });
        }
        let mut done = 0;
        while let Some(call) = calls.join_next().await {
            let (n, outcome) = call.expect("no panic");
            match outcome {
                Ok(_) => { done += 1; assert!(n % 5 != 0 && n % 7 != 0); }
                Err(error) if n % 5 == 0 => assert_eq!(error.code(), "bank.insufficient"),
                Err(error) => { assert!(n % 7 == 0, "{error:?}"); assert_eq!(error.code(), "bank.no_account"); }
            }
        }
        let mut sum = 0;
        for account in 1..=4 { sum += balance(&store, tenant(7), account).await; }
        assert_eq!(sum, 4_000);
        let (transfers,): (i64,) = store.read(tenant(7), |r| r.one("SELECT count(*) FROM bank_transfers WHERE tenant_id = $1", ())).await.expect("counted");
        assert_eq!(transfers, done);
        let lane = store.lane_of(tenant(7));
        let events = store.events_after(Position { shard: 0, lane: lane as i16, sequence: 0 }, 1_000).await.expect("events");
        assert_eq!(events.len() as i64, done);
        assert!(events.iter().enumerate().all(|(i, e)| e.position.sequence == i as i64 + 1), "no gap");
    }

    async fn a_key_happens_once(place: &Place) {
        let store = bank(place).await;
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..200 {
            let store = store.clone();
            calls.spawn(async move {
                store.write_once(tenant(7), OnceKey::new("pay-1", b"same"), transfer, Transfer { debit: 1, credit: 2, amount: 10 }).await.expect("answered")
            });
        }
        let answers: Vec<_> = calls.join_all().await;
        assert_eq!(answers.iter().map(|a| a.value).collect::<HashSet<_>>().len(), 1);
        assert_eq!(answers.iter().filter(|a| !a.replayed).count(), 1);
        assert_eq!(balance(&store, tenant(7), 1).await, 990);
        let other = store.write_once(tenant(7), OnceKey::new("pay-1", b"other"), transfer, Transfer { debit: 1, credit: 2, amount: 10 }).await;
        assert_eq!(other.expect_err("refused").code(), "idempotency.key_reused");
        // A refusal is not stored: the same key succeeds later.
        let poor = Transfer { debit: 1, credit: 2, amount: 995 };
        let refused = store.write_once(tenant(7), OnceKey::new("pay-2", b"x"), transfer, poor).await;
        assert_eq!(refused.expect_err("refused").code(), "bank.insufficient");
        store.write(tenant(7), transfer, Transfer { debit: 2, credit: 1, amount: 10 }).await.expect("paid back");
        assert!(!store.write_once(tenant(7), OnceKey::new("pay-2", b"x"), transfer, poor).await.expect("now it goes").replayed);
        // Another tenant's equal key is another key.
        store.write(tenant(8), open_account, (1, 5)).await.expect("opened");
        let stranger = store.write_once(tenant(8), OnceKey::new("pay-1", b"z"), open_account, (2, 5)).await.expect("its own key");
        assert!(!stranger.replayed);
        // It is remembered over a restart.
        store.close().await;
        drop(store);
        let store = place.node(2);
        let again = store.write_once(tenant(7), OnceKey::new("pay-1", b"same"), transfer, Transfer { debit: 1, credit: 2, amount: 10 }).await.expect("answered");
        assert!(again.replayed && again.value == answers[0].value);
    }

    async fn commands_of_a_set_run_together_and_are_answered_each(place: &Place) {
        let store = bank(place).await;
        // The lane is kept busy once, so that the others gather behind it.
        let slow = |_: &mut Tx<'_>, _: &()| { std::thread::sleep(std::time::Duration::from_millis(300)); Ok(()) };
        let busy = tokio::spawn({ let store = store.clone(); async move { store.write(tenant(7), slow, ()).await } });
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let mut calls = tokio::task::JoinSet::new();
        for n in 0..40_i64 {
            let store = store.clone();
            // Each key comes twice; the 13th wants too much, the 27th panics whoever runs it.
            let data = Transfer { debit: 1, credit: 2, amount: match n % 20 { 13 => 1_000_000, 17 => UNLUCKY, _ => 1 } };
            let key = OnceKey::new(&format!("set-{}", n % 20), b"same");
            let call = Call::new(tenant(7)).correlation(format!("request-{n}"));
            calls.spawn(async move { (n % 20, store.write_set(call, Some(key), transfers, data).await) });
        }
        let (mut sizes, mut fresh) = (HashSet::new(), 0);
        while let Some(call) = calls.join_next().await {
            match call.expect("no panic reaches the caller") {
                (13, outcome) => assert_eq!(outcome.expect_err("refused").code(), "bank.insufficient"),
                (17, outcome) => assert_eq!(outcome.expect_err("refused").kind(), ErrorKind::Internal),
                (n, outcome) => {
                    let answer = outcome.unwrap_or_else(|e| panic!("{n}: {e:?}"));
                    if !answer.replayed { fresh += 1; sizes.insert(answer.value); }
                }
            }
        }
        busy.await.expect("joined").expect("answered");
        assert_eq!(fresh, 18, "each key once");
        assert_eq!(sizes, HashSet::from([1]), "a panic made each run alone");
        assert_eq!(balance(&store, tenant(7), 1).await, 1_000 - 18);

        // Without the unlucky one they run as one set, and each event has its own request.
        let busy = tokio::spawn({ let store = store.clone(); async move { store.write(tenant(7), slow, ()).await } });
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let mut calls = tokio::task::JoinSet::new();
        for n in 0..10_i64 {
            let store = store.clone();
            let data = Transfer { debit: 1, credit: 2, amount: if n == 4 { 1_000_000 } else { 1 } };
            let call = Call::new(tenant(7)).correlation(format!("again-{n}"));
            calls.spawn(async move { (n, store.write_set(call, None, transfers, data).await) });
        }
        while let Some(call) = calls.join_next().await {
            match call.expect("no panic") {
                (4, outcome) => assert_eq!(outcome.expect_err("refused").code(), "bank.insufficient"),
                (_, outcome) => assert_eq!(outcome.expect("done").value, 10, "all ten were handed over together"),
            }
        }
        busy.await.expect("joined").expect("answered");
        let events = store.tenant_events_after(tenant(7), 0, 100).await.expect("events");
        let requests: HashSet<_> = events.iter().filter_map(|e| e.correlation_id.as_deref()).filter(|c| c.starts_with("again-")).collect();
        assert_eq!(requests.len(), 9);
        assert!(!requests.contains("again-4"));
    }

    async fn a_tenant_sees_its_own_rows_alone(place: &Place) {
        let store = bank(place).await;
        store.write(tenant(8), open_account, (1, 5)).await.expect("the same account number for another tenant");
        assert_eq!(balance(&store, tenant(8), 1).await, 5);
        assert_eq!(balance(&store, tenant(7), 1).await, 1_000);
        let all: Vec<(i64,)> = store.read(tenant(8), |r| r.all("SELECT account FROM bank_accounts WHERE tenant_id = $1", ())).await.expect("read");
        assert_eq!(all.len(), 1);
        // A statement without the tenant is refused before it runs.
        let without = store.read(tenant(8), |r| r.all::<(i64,)>("SELECT account FROM bank_accounts", ())).await;
        assert_eq!(without.expect_err("refused").kind(), ErrorKind::Internal);
        let (platform,): (i64,) = store.read(Scope::Platform, |r| r.one("SELECT count(*) FROM bank_accounts", ())).await.expect("read");
        assert_eq!(platform, 5);
    }

    async fn a_panic_and_a_swallowed_error_refuse_one_command(place: &Place) {
        let store = bank(place).await;
        let panics = store.write(tenant(7), |tx, ()| { open_account(tx, &(50, 1))?; panic!("planted") as kernel::Result<()> }, ());
        let swallows = store.write(tenant(7), |tx, ()| {
            let _ = tx.exec("INSERT INTO bank_accounts (tenant_id, account, balance) VALUES ($1, 1, 1)", ());
            let _ = tx.all::<(i64,)>("SELECT account FROM bank_accounts WHERE tenant_id = $1", ());
            Ok(())
        }, ());
        let fine = store.write(tenant(7), open_account, (51, 1));
        let (panics, swallows, fine) = tokio::join!(panics, swallows, fine);
        assert_eq!(panics.expect_err("refused").kind(), ErrorKind::Internal);
        assert_eq!(swallows.expect_err("refused").code(), "store.duplicate");
        fine.expect("unharmed");
        let gone: Option<(i64,)> = store.read(tenant(7), |r| r.opt("SELECT balance FROM bank_accounts WHERE tenant_id = $1 AND account = 50", ())).await.expect("read");
        assert_eq!(gone, None);
    }

    async fn what_is_ridden_is_passed_on_beside_a_panic(place: &Place) {
        let store = bank(place).await;
        let riding = Arc::new(Passes::default());
        let rider: Arc<dyn Rider> = riding.clone();
        store.set_rider(Arc::downgrade(&rider));
        // They wait for this one, and so are one group.
        let slow = store.write(tenant(7), |tx, ()| { std::thread::sleep(Duration::from_millis(200)); open_account(tx, &(70, 1)) }, ());
        let rides = store.write(tenant(7), |tx, ()| { assert!(tx.leave(71_i64).is_none(), "somebody rides"); open_account(tx, &(71, 1)) }, ());
        let panics = store.write(Scope::Platform, |tx, ()| tx.in_tenant(tenant(7), |_| -> kernel::Result<()> { panic!("planted") }), ());
        let later = store.write(tenant(7), |tx, ()| { tx.leave(72_i64); open_account(tx, &(72, 1)) }, ());
        let (slow, rides, panics, later) = tokio::join!(slow, rides, panics, later);
        slow.and(rides).and(later).expect("unharmed");
        assert_eq!(panics.expect_err("refused").kind(), ErrorKind::Internal);
        assert!(riding.0.lock().expect("whole").contains(&71), "{riding:?}");
    }

    async fn a_rider_that_has_no_end_rides_no_further(place: &Place) {
        let store = bank(place).await;
        let riding = Arc::new(Endless::default());
        let rider: Arc<dyn Rider> = riding.clone();
        store.set_rider(Arc::downgrade(&rider));
        let begun = store.write(tenant(7), |tx, ()| { open_account(tx, &(71, 1))?; Ok(tx.leave(WRITES).is_none()) }, ()).await.expect("done");
        assert!(!begun, "run again with nobody riding");
        // The same where nothing is written.
        let before = riding.rounds.load(SeqCst);
        let begun = store.write(tenant(7), |tx, ()| Ok(tx.leave(0_i64).is_none()), ()).await.expect("done");
        assert!(!begun && before > 2 && riding.rounds.load(SeqCst) == 2 * before && !riding.told.load(SeqCst), "{riding:?}");
        let opened: (i64,) = store.read(tenant(7), |r| r.one("SELECT count(*) FROM bank_accounts WHERE tenant_id = $1 AND account > 70", ())).await.expect("read");
        assert_eq!(opened, (1,), "what was left is undone with the command");
    }

    async fn what_a_write_changed_is_counted_however_many_are_under_way(place: &Place) {
        let store = bank(place).await;
        // 1,024 may be under way on PostgreSQL.
        for before in [0, 1, 1_022, 1_023, 1_024, 1_025, 2_047] {
            let counted = store.write(tenant(7), |tx, &before: &i32| {
                (0..before).try_for_each(|_| tx.exec("UPDATE bank_accounts SET balance = balance WHERE tenant_id = $1 AND account = 1", ()))?;
                tx.count("UPDATE bank_accounts SET balance = 1 WHERE tenant_id = $1 AND account <= $2", (3_i64,))
            }, before).await.expect("counted");
            assert_eq!(counted, 3, "after {before} others");
        }
    }

    async fn a_tenant_has_one_writer_from_another_lane_too(place: &Place) {
        let (store, other) = (bank(place).await, place.node(2));
        let strangers = (1..).filter(|number| store.lane_of(tenant(*number)) == 0).take(2).collect::<Vec<_>>();
        // On SQLite there is one lane.
        let guest = (1..).find(|number| store.lane_of(tenant(*number)) == store.lanes(0) - 1 && !strangers.contains(number)).expect("a tenant");
        for number in strangers.iter().copied().chain([guest]) {
            store.write(tenant(number), open_account, (5, 0)).await.expect("opened");
        }
        let mut calls = tokio::task::JoinSet::new();
        for n in 0..120_i64 {
            let store = if n % 2 == 0 { store.clone() } else { other.clone() };
            let strangers = strangers.clone();
            calls.spawn(async move {
                match n % 4 {
                    0 | 1 => store.write(tenant(guest), count_up, ()).await,
                    2 => store.write(Scope::Platform, move |tx, strangers| within(tx, guest, strangers), strangers).await,
                    // What is undone gives the lock back, and is entered again.
                    _ => store.write(Scope::Platform, move |tx, strangers| {
                        let refused = tx.attempt(|tx| tx.in_tenant(tenant(guest), |tx| count_up(tx, &()).and(open_account(tx, &(5, 0)))))?;
                        assert_eq!(refused.expect_err("refused").code(), "bank.exists");
                        within(tx, guest, strangers)
                    }, strangers).await,
                }
            });
        }
        for outcome in calls.join_all().await {
            outcome.expect("counted");
        }
        assert_eq!(balance(&store, tenant(guest), 5).await, 120);
        assert_eq!(balance(&store, tenant(strangers[0]), 5).await, 60);
    }

    async fn an_attempt_undoes_itself_alone(place: &Place) {
        let store = bank(place).await;
        store.write(Scope::Platform, |tx, ()| {
            tx.in_tenant(tenant(7), |tx| open_account(tx, &(60, 1)))?;
            let failed = tx.attempt(|tx| tx.in_tenant(tenant(7), |tx| {
                open_account(tx, &(61, 1))?;
                tx.emit(NewEvent::new("bank.never", 1, "x", &()));
                open_account(tx, &(1, 1))?;
                tx.all::<(i64,)>("SELECT account FROM bank_accounts WHERE tenant_id = $1", ()).map(|_| ())
            }))?;
            assert_eq!(failed.expect_err("refused").code(), "bank.exists");
            let fine = tx.attempt(|tx| tx.in_tenant(tenant(8), |tx| open_account(tx, &(62, 1))))?;
            fine.expect("stands");
            tx.in_tenant(tenant(7), |tx| open_account(tx, &(63, 1)))
        }, ()).await.expect("committed");
        let accounts: Vec<(i64, i64)> = store.read(Scope::Platform, |r| r.all("SELECT tenant_id, account FROM bank_accounts WHERE account >= 60 ORDER BY account", ())).await.expect("read");
        assert_eq!(accounts, [(7, 60), (8, 62), (7, 63)]);
    }

    async fn the_full_queue_refuses_at_once(place: &Place) {
        let store = place.node_with(1, |config| config.queue_tenant_commands = 8);
        let slow = |tx: &mut store::Tx<'_>, _: &()| { std::thread::sleep(std::time::Duration::from_millis(200)); tx.exec("UPDATE bank_accounts SET balance = 0 WHERE tenant_id = $1", ()) };
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..40 {
            let store = store.clone();
            calls.spawn(async move { store.write(Call::new(tenant(7)).deadline_ms(60_000), slow, ()).await });
        }
        let outcomes: Vec<kernel::Result<()>> = calls.join_all().await;
        let refused: Vec<&Error> = outcomes.iter().filter_map(|o| o.as_ref().err()).collect();
        assert!(refused.len() >= 20, "{} refused", refused.len());
        assert!(refused.iter().all(|e| e.code() == "store.overloaded" && e.retry_after().is_some()), "{refused:?}");
        assert!(outcomes.iter().any(Result::is_ok));
    }
}

/// Two nodes on one database: no acknowledged update is lost, however the lanes interleave.
#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_lose_nothing() {
    let Some(place) = Place::new(Engine::Postgres) else { return };
    let first = bank(&place).await;
    let second = place.node(2);
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..2_000_i64 {
        let store = if n % 2 == 0 { first.clone() } else { second.clone() };
        calls.spawn(async move {
            store
                .write(
                    Call::new(tenant(7)).deadline_ms(60_000),
                    |tx, ()| {
                        let (balance,): (i64,) = tx.one("SELECT balance FROM bank_accounts WHERE tenant_id = $1 AND account = 1", ())?;
                        tx.emit(NewEvent::new("bank.counted", 1, "1", &balance));
                        tx.exec("UPDATE bank_accounts SET balance = $2 WHERE tenant_id = $1 AND account = 1", (balance + 1,))
                    },
                    (),
                )
                .await
        });
    }
    let acknowledged = calls.join_all().await.into_iter().filter(Result::is_ok).count() as i64;
    assert_eq!(acknowledged, 2_000);
    assert_eq!(balance(&first, tenant(7), 1).await, 1_000 + acknowledged);
    let lane = first.lane_of(tenant(7)) as i16;
    let mut last = 0;
    loop {
        let events = second.events_after(Position { shard: 0, lane, sequence: last }, 500).await.expect("events");
        if events.is_empty() {
            break;
        }
        for event in events {
            assert_eq!(event.position.sequence, last + 1, "positions rise without a gap");
            last += 1;
        }
    }
    assert_eq!(last, 2_000);
}

/// A command that runs into its deadline is refused alone, though SQLite takes the whole transaction down with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_statement_is_refused_alone() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let Some(place) = Place::new(engine) else { continue };
        let store = bank(&place).await;
        let slow = store.write(Call::new(tenant(7)).deadline_ms(300), |tx, ()| {
            tx.exec("UPDATE bank_accounts SET balance = balance + (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000) SELECT max(i) FROM n) WHERE tenant_id = $1", ())
        }, ());
        let mut calls = tokio::task::JoinSet::new();
        for account in 100..110 {
            let store = store.clone();
            calls.spawn(async move { store.write(Call::new(tenant(7)).deadline_ms(290), open_account, (account, 1)).await });
        }
        let error = slow.await.expect_err("refused");
        // PostgreSQL tells after the fact which command it was; by then its deadline has passed.
        assert!(["store.statement_timeout", "store.deadline"].contains(&error.code()), "{error:?}");
        // The neighbours are done, or were told that they waited too long; the lane goes on either way.
        for outcome in calls.join_all().await {
            assert!(outcome.is_ok() || outcome.is_err_and(|e| e.code() == "store.deadline"));
        }
        store.write(tenant(7), open_account, (200, 1)).await.expect("the lane goes on");
        assert_eq!(balance(&store, tenant(7), 1).await, 1_000);
    }
}

/// Behind PgBouncer in transaction mode, whose server connections change hands after each transaction.
#[tokio::test(flavor = "multi_thread")]
async fn it_works_behind_pgbouncer() {
    let Some(place) = Place::pooled() else { return };
    let store = bank(&place).await;
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..400_i64 {
        let store = store.clone();
        calls.spawn(async move {
            let key = OnceKey::new(&format!("pooled-{}", n / 2), b"same");
            store
                .write_once(tenant(7), key, transfer, Transfer { debit: 1 + n / 2 % 4, credit: 1 + (n / 2 + 1) % 4, amount: 1 })
                .await
                .expect("answered");
            store.write(tenant(n % 5 + 10), open_account, (n, n)).await.expect("opened");
            assert_eq!(balance(&store, tenant(n % 5 + 10), n).await, n);
        });
    }
    calls.join_all().await;
    let (transfers,): (i64,) =
        store.read(tenant(7), |r| r.one("SELECT count(*) FROM bank_transfers WHERE tenant_id = $1", ())).await.expect("counted");
    assert_eq!(transfers, 200);
}

/// A read that panics harms nobody after it, though its snapshot was open and its thread goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_panics_leaves_its_connection_usable() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let Some(place) = Place::new(engine) else { continue };
        let store = place.node_with(1, |config| config.readers = 1);
        store.write(tenant(7), open_account, (1, 5)).await.expect("opened");
        let panics = store.read(tenant(7), |_| -> kernel::Result<()> { panic!("planted") }).await;
        assert_eq!(panics.expect_err("refused").code(), "store.read_dropped");
        assert_eq!(balance(&store, tenant(7), 1).await, 5);
    }
}

/// A guard that fails unseen, and is met by a neighbour's savepoint first, still refuses its own command and no other.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_guard_is_not_taken_by_a_neighbour() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let Some(place) = Place::new(engine) else { continue };
        let store = bank(&place).await;
        for round in 0..20_i64 {
            // Something slow, so that the two that follow share a group.
            let slow = store.write(
                tenant(7),
                |tx, ()| {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                    open_account(tx, &(0, 0)).map(|_| ())
                },
                (),
            );
            let poor = store.write(tenant(7), transfer, Transfer { debit: 1, credit: 2, amount: 1_000_000 });
            let saving = store.write(tenant(7), |tx, n| tx.attempt(|tx| open_account(tx, &(1_000 + n, 1)))?, round);
            let (_, poor, saving) = tokio::join!(slow, poor, saving);
            assert_eq!(poor.expect_err("refused").code(), "bank.insufficient");
            saving.expect("not its failure");
        }
    }
}

/// A rider that takes numbers along, and what it was given back.
#[derive(Debug, Default)]
struct Passes(Mutex<Vec<i64>>);

impl Rider for Passes {
    fn ride(&self, _: &mut store::Tx<'_>, left: Vec<Left>) -> kernel::Result<Vec<Left>> {
        Ok(left)
    }

    fn committed(&self, _: u16, done: Vec<Left>) {
        self.0.lock().expect("whole").extend(done.into_iter().filter_map(|left| left.downcast::<i64>().ok()).map(|number| *number));
    }
}

/// What an [`Endless`] rider is left that is to open accounts.
const WRITES: i64 = 1;

/// A rider that always leaves more of what it was left.
#[derive(Debug, Default)]
struct Endless {
    rounds: AtomicUsize,
    told: AtomicBool,
}

impl Rider for Endless {
    fn ride(&self, tx: &mut store::Tx<'_>, left: Vec<Left>) -> kernel::Result<Vec<Left>> {
        let round = self.rounds.fetch_add(1, SeqCst) as i64;
        let what = left.first().and_then(|what| what.downcast_ref::<i64>()).copied().unwrap_or_default();
        if what == WRITES {
            open_account(tx, &(100 + round, 1))?;
        }
        tx.leave(what);
        Ok(left)
    }

    fn committed(&self, _: u16, _: Vec<Left>) {
        self.told.store(true, SeqCst);
    }
}

/// The question for keys was prepared while there were few: it is not asked of the whole table when there are many.
#[tokio::test(flavor = "multi_thread")]
async fn keys_are_found_by_their_index_though_their_table_was_small() {
    const MANY: i64 = 50_000;
    let Some(place) = Place::new(Engine::Postgres) else { return };
    let crate::store::ShardConfig::Postgres { url, .. } = &place.shard else { return };
    let store = bank(&place).await;
    let keyed = async |n: i64| {
        let moved = Transfer { debit: 1, credit: 2, amount: 1 };
        store.write_once(tenant(7), OnceKey::new(&format!("key-{n}"), b""), transfer, moved).await.expect("transferred");
    };
    // What was read of this table, with and without an index, and how often its index was looked at.
    let read = async || {
        const READ: &str = "SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) + (
                SELECT coalesce(sum(i.idx_tup_read), 0)::bigint FROM pg_stat_user_indexes i WHERE i.relname = 'store_once'), coalesce(idx_scan, 0)
            FROM pg_stat_user_tables WHERE relname = 'store_once'";
        store.read_shard(0, |read| read.one::<(i64, i64)>(READ, ())).await.expect("counted")
    };
    keyed(0).await;
    administer(url, "ALTER TABLE store_once SET (autovacuum_enabled = off)");
    administer(url, "VACUUM ANALYZE store_once");
    for n in 1..20 {
        keyed(n).await;
    }
    administer(
        url,
        &format!(
            "SET ROLE brandos_platform; INSERT INTO store_once (tenant_id, hash, fingerprint, answer, created_at)
             SELECT 8, decode(md5(n::text), 'hex'), '\\x00', '\\x00', 0 FROM generate_series(1, {MANY}) AS g(n)"
        ),
    );
    let before = read().await;
    // PostgreSQL counts some time after the fact.
    for n in 20..60 {
        keyed(n).await;
        tokio::time::sleep(Duration::from_millis(250)).await;
        let now = read().await;
        if now.1 > before.1 + 5 || now.0 >= before.0 + MANY {
            assert!(now.0 < before.0 + MANY, "{} rows were gone over for {} keys", now.0 - before.0, n - 19);
            return;
        }
    }
    panic!("PostgreSQL does not count: {before:?}");
}
