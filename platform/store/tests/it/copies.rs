//! Backups, restores, moves between shards, and month partitions, on each engine and across them, under load.

use crate::common::{BANK, Place, Transfer, balance, open_account, tenant, transfer};
use crate::store;
use crate::store::backup::{self, RestoreTenant};
use crate::store::move_tenant::{Move, Moved, move_tenant};
use crate::store::{Engine, Environment, OnceKey, ShardConfig, Store, StoreConfig, partition};
use kernel::{Clock as _, Error, IdGenerator, ManualClock, Scope, SystemClock, TenantId};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const ENGINES: [Engine; 2] = [Engine::Sqlite, Engine::Postgres];
const PAIRS: [(Engine, Engine); 4] = [
    (Engine::Sqlite, Engine::Sqlite),
    (Engine::Sqlite, Engine::Postgres),
    (Engine::Postgres, Engine::Sqlite),
    (Engine::Postgres, Engine::Postgres),
];

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn node(shards: &[ShardConfig]) -> Store {
    node_at(shards, Arc::new(SystemClock))
}

fn node_at(shards: &[ShardConfig], clock: Arc<dyn kernel::Clock>) -> Store {
    let environment = Environment { clock: clock.clone(), ids: Arc::new(IdGenerator::new(clock, 1)) };
    Store::open(StoreConfig::with_shards(shards.to_vec()), &[BANK], environment).expect("the store opens")
}

async fn open_bank(store: &Store, who: TenantId) {
    for account in 1..=10 {
        store.write(who, open_account, (account, 1_000)).await.expect("the account opens");
    }
}

/// Transfers under keys until it is told to stop; every acknowledged key is kept with its answer.
async fn trade(store: Store, who: TenantId, worker: u64, stop: Arc<AtomicBool>, done: Arc<AtomicU64>) -> Vec<(String, i64)> {
    let mut acknowledged = Vec::new();
    let mut n = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        let key = format!("{worker}-{n}");
        let data = Transfer { debit: 1 + (n % 10) as i64, credit: 1 + ((n + 1 + worker) % 10) as i64, amount: 1 };
        match store.write_once(who, OnceKey::new(&key, b"t"), transfer, data).await {
            Ok(answer) => {
                acknowledged.push((key, answer.value));
                done.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => assert!(error.code() == "bank.insufficient", "{error:?}"),
        }
        // Load, not a flood: the moved tenant is to stay small enough for a quick test.
        tokio::time::sleep(std::time::Duration::from_millis(3)).await;
    }
    acknowledged
}

/// The books balance, each transfer has its event, and what was acknowledged is there, once.
async fn audit(store: &Store, who: TenantId, acknowledged: &[(String, i64)]) -> usize {
    let (total,): (i64,) =
        store.read(who, |r| r.one("SELECT CAST(sum(balance) AS BIGINT) FROM bank_accounts WHERE tenant_id = $1", ())).await.expect("read");
    assert_eq!(total, 10_000);
    let transfers: Vec<(i64,)> =
        store.read(who, |r| r.all("SELECT transfer FROM bank_transfers WHERE tenant_id = $1 ORDER BY transfer", ())).await.expect("read");
    let transfers: std::collections::HashSet<i64> = transfers.into_iter().map(|(t,)| t).collect();
    for (key, id) in acknowledged {
        assert!(transfers.contains(id), "the acknowledged transfer {key} is lost");
    }
    let (mut events, mut after) = (0, 0);
    loop {
        let page = store.tenant_events_after(who, after, 1_000).await.expect("events");
        let Some(last) = page.last() else { break };
        after = last.id.as_i64();
        events += page.len();
    }
    assert_eq!(events, transfers.len(), "one event for each transfer");
    transfers.len()
}

async fn replays(store: &Store, who: TenantId, acknowledged: &[(String, i64)]) {
    for (key, id) in acknowledged.iter().step_by(1 + acknowledged.len() / 50) {
        let again =
            store.write_once(who, OnceKey::new(key, b"t"), transfer, Transfer { debit: 1, credit: 2, amount: 1 }).await.expect("answered");
        assert!(again.replayed && again.value == *id, "{key} was done twice");
    }
}

#[test]
fn a_backup_under_load_restores_into_either_engine() {
    for from in ENGINES {
        let Some(place) = Place::new(from) else { continue };
        let folder = tempfile::tempdir().expect("a folder");
        let copy = folder.path().join("backup");
        let runtime = runtime();
        let live = node(std::slice::from_ref(&place.shard));
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicU64::new(0));
        let acknowledged = runtime.block_on(async {
            open_bank(&live, tenant(7)).await;
            let workers: Vec<_> = (0..8).map(|w| tokio::spawn(trade(live.clone(), tenant(7), w, stop.clone(), done.clone()))).collect();
            while done.load(Ordering::Relaxed) < 300 {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            let (path, shard) = (copy.clone(), place.shard.clone());
            let before = done.load(Ordering::Relaxed);
            let taken = tokio::task::spawn_blocking(move || backup::backup(&[shard], &path, &[BANK], SystemClock.now()))
                .await
                .expect("no panic")
                .expect("the backup is taken");
            let transfers = taken.shards[0].tables.iter().find(|t| t.name == "bank_transfers").expect("listed").rows;
            assert!(transfers >= before, "what was acknowledged before is in it");
            stop.store(true, Ordering::Relaxed);
            let mut all = Vec::new();
            for worker in workers {
                all.extend(worker.await.expect("no panic"));
            }
            all
        });
        assert_eq!(audit_now(&runtime, &live, &acknowledged), acknowledged.len());
        backup::verify(&copy).expect("the backup is sound");
        let error = backup::backup(std::slice::from_ref(&place.shard), &copy, &[BANK], SystemClock.now()).expect_err("refused");
        assert_eq!(error.code(), "store.backup_folder");
        for to in ENGINES {
            let Some(other) = Place::new(to) else { continue };
            backup::restore_node(&copy, std::slice::from_ref(&other.shard), &[BANK], SystemClock.now())
                .unwrap_or_else(|e| panic!("{from:?} -> {to:?}: {e:?}"));
            let restored = node(std::slice::from_ref(&other.shard));
            assert_eq!(store::schema_problems(&other.shard).expect("read"), Vec::<String>::new());
            runtime.block_on(async {
                audit(&restored, tenant(7), &[]).await;
                // It works on: keys are known, new work is done.
                let known: Vec<_> = {
                    let there: Vec<(i64,)> = restored
                        .read(tenant(7), |r| r.all("SELECT transfer FROM bank_transfers WHERE tenant_id = $1", ()))
                        .await
                        .expect("read");
                    acknowledged.iter().filter(|(_, id)| there.contains(&(*id,))).cloned().collect()
                };
                assert!(known.len() >= 300);
                replays(&restored, tenant(7), &known).await;
                restored.write(tenant(7), transfer, Transfer { debit: 1, credit: 2, amount: 1 }).await.expect("it works");
                audit(&restored, tenant(7), &known).await;
            });
            runtime.block_on(restored.close());
            let error = backup::restore_node(&copy, std::slice::from_ref(&other.shard), &[BANK], SystemClock.now()).expect_err("not empty");
            assert_eq!(error.code(), "store.restore_not_empty");
        }
        // A damaged backup is noticed.
        let file = rusqlite::Connection::open(copy.join("shard-0.db")).expect("opens");
        file.execute("UPDATE bank_accounts SET balance = balance + 1 WHERE account = 3", []).expect("tampered");
        drop(file);
        assert_eq!(backup::verify(&copy).expect_err("damaged").code(), "store.copy_mismatch");
        assert_eq!(backup::verify(folder.path()).expect_err("nothing there").code(), "store.not_a_backup");
        runtime.block_on(live.close());
    }
}

fn audit_now(runtime: &tokio::runtime::Runtime, store: &Store, acknowledged: &[(String, i64)]) -> usize {
    runtime.block_on(audit(store, tenant(7), acknowledged))
}

#[test]
fn one_tenant_is_restored_while_the_others_work() {
    for engine in ENGINES {
        let Some(place) = Place::new(engine) else { continue };
        let folder = tempfile::tempdir().expect("a folder");
        let live = node(std::slice::from_ref(&place.shard));
        runtime().block_on(async {
            for who in [tenant(7), tenant(8)] {
                open_bank(&live, who).await;
                live.write_once(who, OnceKey::new("before", b"t"), transfer, Transfer { debit: 1, credit: 2, amount: 100 })
                    .await
                    .expect("done");
            }
            let (path, shard) = (folder.path().join("b"), place.shard.clone());
            let shards = vec![shard];
            let taken = shards.clone();
            let copy = path.clone();
            tokio::task::spawn_blocking(move || backup::backup(&taken, &copy, &[BANK], SystemClock.now()))
                .await
                .expect("no panic")
                .expect("taken");
            for who in [tenant(7), tenant(8)] {
                live.write(who, transfer, Transfer { debit: 1, credit: 2, amount: 500 }).await.expect("done");
            }
            let stop = Arc::new(AtomicBool::new(false));
            let others = tokio::spawn(trade(live.clone(), tenant(8), 1, stop.clone(), Arc::default()));
            let restored = tokio::task::spawn_blocking(move || {
                let mut passed = |_: &[store::Position]| Ok(true);
                let request = RestoreTenant {
                    folder: &path,
                    shards: &shards,
                    modules: &[BANK],
                    tenant: tenant(7),
                    now: SystemClock.now(),
                    passed: &mut passed,
                };
                backup::restore_tenant(request)
            });
            let rows = restored.await.expect("no panic").expect("restored");
            assert_eq!(rows, 10 + 1 + 1 + 1, "accounts, a transfer, its event and its key");
            stop.store(true, Ordering::Relaxed);
            let acknowledged = others.await.expect("no panic");
            assert_eq!(balance(&live, tenant(7), 1).await, 900);
            assert_eq!(audit(&live, tenant(7), &[]).await, 1);
            assert_eq!(audit(&live, tenant(8), &acknowledged).await, acknowledged.len() + 2);
            let again =
                live.write_once(tenant(7), OnceKey::new("before", b"t"), transfer, Transfer { debit: 1, credit: 2, amount: 100 }).await;
            assert!(again.expect("answered").replayed);
            live.write(tenant(7), transfer, Transfer { debit: 1, credit: 2, amount: 1 }).await.expect("it works on");
            live.close().await;
        });
    }
}

fn run_move(shards: &[ShardConfig], who: TenantId, to: u16, passed: &mut store::move_tenant::Passed<'_>) -> kernel::Result<Moved> {
    // The request wants one lifetime for everything.
    let mut passed = |positions: &[store::Position]| passed(positions);
    move_tenant(Move { shards, tenant: who, to, now: SystemClock.now(), pause_limit_ms: 900, settle_ms: 50, passed: &mut passed })
}

async fn count_on(store: &Store, shard: u16, table: &'static str, who: TenantId) -> i64 {
    let sql: &'static str = match table {
        "accounts" => "SELECT count(*) FROM bank_accounts WHERE tenant_id = $1",
        "transfers" => "SELECT count(*) FROM bank_transfers WHERE tenant_id = $1",
        "events" => "SELECT count(*) FROM store_events WHERE tenant_id = $1",
        _ => "SELECT count(*) FROM store_once WHERE tenant_id = $1",
    };
    store.read_shard(shard, move |r| r.one::<(i64,)>(sql, (who.as_i64(),))).await.expect("counted").0
}

#[test]
fn a_tenant_is_moved_under_load_and_back() {
    for (here, there) in PAIRS {
        let (Some(a), Some(b)) = (Place::new(here), Place::new(there)) else { continue };
        let shards = vec![a.shard.clone(), b.shard.clone()];
        let live = node(&shards);
        runtime().block_on(async {
            for who in [tenant(7), tenant(8)] {
                open_bank(&live, who).await;
            }
            let stop = Arc::new(AtomicBool::new(false));
            let done = Arc::new(AtomicU64::new(0));
            let workers: Vec<_> = (0..6).map(|w| tokio::spawn(trade(live.clone(), tenant(7), w, stop.clone(), done.clone()))).collect();
            let neighbour = tokio::spawn(trade(live.clone(), tenant(8), 9, stop.clone(), Arc::default()));
            for to in [1_u16, 0] {
                let before = done.load(Ordering::Relaxed);
                while done.load(Ordering::Relaxed) < before + 500 {
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
                let moved = {
                    let shards = shards.clone();
                    tokio::task::spawn_blocking(move || run_move(&shards, tenant(7), to, &mut |_| Ok(true))).await.expect("no panic")
                };
                let moved = moved.unwrap_or_else(|e| panic!("{here:?} -> {there:?} to {to}: {e:?}"));
                assert!(moved.pause_ms < 1_000, "{moved:?}");
                assert_eq!(live.shard_of(tenant(7)), to, "the node has learnt of it");
                for table in ["accounts", "transfers", "events", "once"] {
                    assert_eq!(count_on(&live, 1 - to, table, tenant(7)).await, 0, "{table} are left behind");
                }
            }
            stop.store(true, Ordering::Relaxed);
            let mut acknowledged = Vec::new();
            for worker in workers {
                acknowledged.extend(worker.await.expect("no panic"));
            }
            assert_eq!(audit(&live, tenant(7), &acknowledged).await, acknowledged.len());
            replays(&live, tenant(7), &acknowledged).await;
            let others = neighbour.await.expect("no panic");
            assert_eq!(audit(&live, tenant(8), &others).await, others.len());
            assert_eq!(live.shard_of(tenant(8)), 0);
            live.close().await;
        });
    }
}

/// A node whose clock is ahead wrote last where the tenant was, one whose clock is right writes next where it is.
#[test]
fn ids_rise_across_a_move() {
    for (here, there) in PAIRS {
        let (Some(a), Some(b)) = (Place::new(here), Place::new(there)) else { continue };
        let shards = vec![a.shard.clone(), b.shard.clone()];
        let write = async |store: &Store| store.write(tenant(7), transfer, Transfer { debit: 1, credit: 2, amount: 1 }).await;
        runtime().block_on(async {
            let ahead = node_at(&shards, Arc::new(ManualClock::new(SystemClock.now().plus_ms(3_600_000))));
            open_bank(&ahead, tenant(7)).await;
            let before = write(&ahead).await.expect("done");
            ahead.close().await;
            let moved = {
                let shards = shards.clone();
                tokio::task::spawn_blocking(move || run_move(&shards, tenant(7), 1, &mut |_| Ok(true))).await.expect("no panic")
            };
            moved.unwrap_or_else(|e| panic!("{here:?} -> {there:?}: {e:?}"));
            let right = node(&shards);
            let after = write(&right).await.expect("done");
            assert!(after > before, "{here:?} -> {there:?}: {after} comes after {before}");
            right.close().await;
        });
    }
}

#[test]
fn a_move_that_fails_leaves_the_tenant_where_it_was() {
    for (here, there) in [(Engine::Sqlite, Engine::Sqlite), (Engine::Postgres, Engine::Postgres)] {
        let (Some(a), Some(b)) = (Place::new(here), Place::new(there)) else { continue };
        let shards = vec![a.shard.clone(), b.shard.clone()];
        let live = node(&shards);
        runtime().block_on(async {
            open_bank(&live, tenant(7)).await;
            live.write(tenant(7), transfer, Transfer { debit: 1, credit: 2, amount: 1 }).await.expect("done");
            let attempt = |answers: Vec<kernel::Result<bool>>, to: u16| {
                let shards = shards.clone();
                let mut answers = answers.into_iter();
                tokio::task::spawn_blocking(move || run_move(&shards, tenant(7), to, &mut |_| answers.next().unwrap_or(Ok(true))))
            };
            // Once before the tenant is held, and once while it is.
            for ready in [vec![], vec![Ok(true)]] {
                let mut answers = ready;
                answers.push(Err(Error::unavailable("log.gone", "the log is gone")));
                let error = attempt(answers, 1).await.expect("no panic").expect_err("fails");
                assert_eq!(error.code(), "log.gone");
                live.write(tenant(7), transfer, Transfer { debit: 1, credit: 2, amount: 1 }).await.expect("it is not held");
                assert_eq!(count_on(&live, 1, "accounts", tenant(7)).await, 0);
                let (changes,): (i64,) = live.read_shard(0, |r| r.one("SELECT count(*) FROM store_changes", ())).await.expect("counted");
                assert_eq!(changes, 0, "nothing is captured any more");
            }
            assert_eq!(attempt(vec![], 9).await.expect("no panic").expect_err("fails").code(), "store.unknown_shard");
            assert_eq!(attempt(vec![], 0).await.expect("no panic").expect_err("fails").code(), "store.tenant_already_there");
            attempt(vec![], 1).await.expect("no panic").expect("it moves when it can");
            assert_eq!(audit_moved(&live).await, 3);
            live.close().await;
        });
    }
}

/// The first command finds out where the tenant is.
async fn audit_moved(live: &Store) -> usize {
    live.refresh_directory().await.expect("read");
    audit(live, tenant(7), &[]).await
}

/// Killed before the switch of the directory, the move starts anew when it is run again; killed after it, it is finished.
#[test]
fn a_move_that_was_killed_goes_on_when_it_is_run_again() {
    for engine in ENGINES {
        let (Some(a), Some(b)) = (Place::new(engine), Place::new(engine)) else { continue };
        let shards = vec![a.shard.clone(), b.shard.clone()];
        let live = node(&shards);
        runtime().block_on(async {
            open_bank(&live, tenant(7)).await;
            // As it stood when it was killed: held, the mark set, something copied.
            let mark = |tx: &mut store::Tx<'_>, _: &()| {
                tx.exec("INSERT INTO store_departures (tenant, shard, state) VALUES (7, 1, 'moving')", ())?;
                tx.exec("INSERT INTO store_meta (key, value) VALUES ('move', 'move 7 to 1')", ())
            };
            live.write(Scope::Platform, mark, ()).await.expect("set up");
            let copied = |tx: &mut store::Tx<'_>, _: &()| {
                tx.exec("INSERT INTO bank_accounts (tenant_id, account, balance) VALUES (7, 1, 5), (7, 77, 5)", ())
            };
            live.write(store::Call::new(Scope::Platform).on_lane(1, 0), copied, ()).await.expect("set up");
            let folder = tempfile::tempdir().expect("a folder");
            let (taking, path) = (shards.clone(), folder.path().to_owned());
            let error = blocking(move || backup::backup(&taking, &path, &[BANK], SystemClock.now())).await.expect_err("not now");
            assert_eq!(error.code(), "store.move_under_way");
            let moving = shards.clone();
            tokio::task::spawn_blocking(move || run_move(&moving, tenant(7), 1, &mut |_| Ok(true)))
                .await
                .expect("no panic")
                .expect("moved");
            // As it stood when it was killed: held on the source, the mark set, a row left behind.
            live.write(
                Scope::Platform,
                |tx, _| {
                    tx.exec("UPDATE store_departures SET state = 'moving' WHERE tenant = 7", ())?;
                    tx.exec("INSERT INTO store_meta (key, value) VALUES ('move', 'move 7 to 1')", ())?;
                    tx.exec("INSERT INTO bank_accounts (tenant_id, account, balance) VALUES (7, 1, 5)", ())
                },
                (),
            )
            .await
            .expect("set up");
            let error = {
                let shards = shards.clone();
                tokio::task::spawn_blocking(move || run_move(&shards, tenant(8), 1, &mut |_| Ok(true)))
                    .await
                    .expect("no panic")
                    .expect_err("refused")
            };
            assert_eq!(error.code(), "store.move_under_way");
            let again = shards.clone();
            let finished = tokio::task::spawn_blocking(move || run_move(&again, tenant(7), 1, &mut |_| Ok(true)))
                .await
                .expect("no panic")
                .expect("finished");
            assert_eq!(finished.pause_ms, 0);
            assert_eq!(count_on(&live, 0, "accounts", tenant(7)).await, 0);
            live.write(tenant(7), transfer, Transfer { debit: 1, credit: 2, amount: 1 }).await.expect("it works there");
            assert_eq!(audit_moved(&live).await, 1);
            live.close().await;
        });
    }
}

#[test]
fn nodes_that_start_at_the_same_time_migrate_once() {
    // The two databases share their cluster's roles.
    let (Some(a), Some(b)) = (Place::new(Engine::Postgres), Place::new(Engine::Postgres)) else { return };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            for place in [&a, &b] {
                scope.spawn(|| node(std::slice::from_ref(&place.shard)));
            }
        }
    });
    for place in [&a, &b] {
        assert_eq!(store::schema_problems(&place.shard).expect("read"), Vec::<String>::new());
    }
}

#[test]
fn months_are_made_ahead_emptied_out_of_the_default_and_archived() {
    let Some(place) = Place::new(Engine::Postgres) else { return };
    let live = node(std::slice::from_ref(&place.shard));
    runtime().block_on(async {
        open_bank(&live, tenant(7)).await;
        for _ in 0..5 {
            live.write(tenant(7), transfer, Transfer { debit: 1, credit: 2, amount: 1 }).await.expect("done");
        }
        let shard = place.shard.clone();
        let in_default = |live: Store| async move {
            live.read_shard(0, |r| r.one::<(i64,)>("SELECT count(*) FROM store_events_default", ())).await.expect("counted").0
        };
        assert_eq!(in_default(live.clone()).await, 5);
        let now = SystemClock.now();
        let made = blocking(move || partition::ensure_months(&shard, now, 2)).await.expect("made");
        assert_eq!(made.len(), 3, "{made:?}");
        let shard = place.shard.clone();
        assert!(blocking(move || partition::ensure_months(&shard, now, 2)).await.expect("nothing to do").is_empty());
        assert_eq!(in_default(live.clone()).await, 0);
        live.write(tenant(7), transfer, Transfer { debit: 1, credit: 2, amount: 1 }).await.expect("done");
        assert_eq!(audit(&live, tenant(7), &[]).await, 6);
        let shard = place.shard.clone();
        assert_eq!(blocking(move || store::schema_problems(&shard)).await.expect("read"), Vec::<String>::new(), "each month has its wall");

        let month = now.to_string()[..7].to_owned();
        let (shard, which) = (place.shard.clone(), month.clone());
        let archive = blocking(move || partition::detach(&shard, "store_events", &which)).await.expect("detached");
        assert_eq!(archive, format!("archive_{}", made[0]));
        assert!(live.tenant_events_after(tenant(7), 0, 10).await.expect("read").is_empty());
        let shard = place.shard.clone();
        let listed = blocking(move || partition::list(&shard)).await.expect("listed");
        assert_eq!(listed.len(), 4, "{listed:?}");
        assert!(listed.iter().any(|p| p.archived && p.name == archive && p.table == "store_events"), "{listed:?}");
        // An archived month is not made again under the old name, and is no part of a backup.
        let shard = place.shard.clone();
        assert!(blocking(move || partition::ensure_months(&shard, now, 2)).await.expect("nothing to do").is_empty());
        let folder = tempfile::tempdir().expect("a folder");
        let (shard, path) = (place.shard.clone(), folder.path().to_owned());
        let taken = blocking(move || backup::backup(&[shard], &path, &[BANK], now)).await.expect("taken");
        assert!(taken.shards[0].tables.iter().all(|t| !t.name.starts_with("archive_") && !t.name.contains("_y")), "{taken:?}");
        let (shard, which) = (place.shard.clone(), month.clone());
        blocking(move || partition::attach(&shard, "store_events", &which)).await.expect("attached");
        assert_eq!(audit(&live, tenant(7), &[]).await, 6);
        let shard = place.shard.clone();
        let error = blocking(move || partition::detach(&shard, "store_events", "1999-01")).await.expect_err("unknown");
        assert_eq!(error.code(), "store.unknown_partition");
        live.close().await;
    });
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> kernel::Result<T> + Send + 'static) -> kernel::Result<T> {
    tokio::task::spawn_blocking(work).await.expect("no panic")
}
