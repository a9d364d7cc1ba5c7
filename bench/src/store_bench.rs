//! The store alone: 512 callers in process.

use crate::measure::{Outcome, callers, fsyncs_per_second, median, tell};
use crate::peers::postgres_one_each;
use clap::Args;
use kernel::{Error, IdGenerator, Result, SystemClock, TenantId};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use store::{Call, Environment, Member, Migration, Migrations, NewEvent, OnceKey, ShardConfig, Store, StoreConfig, Tx, Value};

/// Options of `store`.
#[derive(Args)]
pub struct Options {
    /// A PostgreSQL to measure instead of SQLite: `postgres://...`; its tables `bench_*` are made in it.
    #[arg(long)]
    postgres: Option<String>,
    /// Seconds for each run.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Runs, of which the median counts.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Callers at once.
    #[arg(long, default_value_t = 512)]
    callers: u64,
    /// Random keys that exist before the run with random keys.
    #[arg(long, default_value_t = 5_000_000)]
    existing: u64,
    /// Folder for the SQLite file; a temporary one unless given.
    #[arg(long)]
    folder: Option<std::path::PathBuf>,
}

const BENCH: Migrations = Migrations {
    module: "bench",
    steps: &[Migration {
        number: 1,
        name: "bench",
        sql: "CREATE TABLE bench_keys (tenant_id BIGINT NOT NULL, key BIGINT NOT NULL, PRIMARY KEY (tenant_id, key))
-- @sqlite
WITHOUT ROWID
-- @end
;
CREATE TABLE bench_accounts (tenant_id BIGINT NOT NULL, account BIGINT NOT NULL, balance BIGINT NOT NULL, PRIMARY KEY (tenant_id, account))
-- @sqlite
WITHOUT ROWID
-- @end
;
CREATE TABLE bench_postings (tenant_id BIGINT NOT NULL, posting BIGINT NOT NULL, account BIGINT NOT NULL, amount BIGINT NOT NULL, PRIMARY KEY (tenant_id, posting))
-- @sqlite
WITHOUT ROWID
-- @end
;
CREATE TABLE bench_log (id BIGINT NOT NULL PRIMARY KEY, payload TEXT NOT NULL);",
    }],
};

#[derive(Clone, Copy)]
struct Move {
    debit: i64,
    credit: i64,
    keyed: bool,
}

/// One keyed insert (here, or the idempotency key's), two guarded updates, two inserts, one event.
fn command(tx: &mut Tx<'_>, data: &Move) -> Result<i64> {
    let first = tx.new_id::<kernel::Tenant>().as_i64();
    let second = tx.new_id::<kernel::Tenant>().as_i64();
    if data.keyed {
        tx.exec("INSERT INTO bench_keys (tenant_id, key) VALUES ($1, $2)", (first,))?;
    }
    tx.must(
        "UPDATE bench_accounts SET balance = balance - $3 WHERE tenant_id = $1 AND account = $2 AND balance >= $3",
        (data.debit, 1_i64),
        insufficient,
    )?;
    tx.must("UPDATE bench_accounts SET balance = balance + $3 WHERE tenant_id = $1 AND account = $2", (data.credit, 1_i64), no_account)?;
    const POSTING: &str = "INSERT INTO bench_postings (tenant_id, posting, account, amount) VALUES ($1, $2, $3, $4)";
    tx.exec(POSTING, (first, data.debit, -1_i64))?;
    tx.exec(POSTING, (second, data.credit, 1_i64))?;
    tx.emit(NewEvent::new("bench.moved", 1, data.debit, &1));
    Ok(first)
}

fn insufficient() -> Error {
    Error::failed_precondition("bench.insufficient", "not enough")
}

fn no_account() -> Error {
    Error::not_found("bench.no_account", "no such account")
}

/// The same command, of which those that are queued together are taken as a set on PostgreSQL: each is decided by itself, in order, and
/// what they come to is written with a statement for each table.
fn commands(tx: &mut Tx<'_>, members: &[Member<'_, Move>]) -> Result<Vec<Result<i64>>> {
    let mut touched: Vec<i64> = members.iter().flat_map(|data| [data.debit, data.credit]).collect();
    touched.sort_unstable();
    touched.dedup();
    const BALANCES: &str = "SELECT account, balance FROM bench_accounts WHERE tenant_id = $1 AND account = ANY($2::bigint[])";
    let mut balances: BTreeMap<i64, i64> = tx.all::<(i64, i64)>(BALANCES, (Value::Ints(touched),))?.into_iter().collect();
    let (mut answers, mut keys) = (Vec::with_capacity(members.len()), Vec::new());
    let (mut postings, mut accounts, mut amounts) = (Vec::new(), Vec::new(), Vec::new());
    for data in members {
        let decided = match (balances.get(&data.debit), balances.get(&data.credit)) {
            (None, _) | (_, None) => Err(no_account()),
            (Some(left), _) if *left < 1 => Err(insufficient()),
            _ => Ok((tx.new_id::<kernel::Tenant>().as_i64(), tx.new_id::<kernel::Tenant>().as_i64())),
        };
        answers.push(decided.map(|(first, second)| {
            keys.push(first);
            for (posting, account, amount) in [(first, data.debit, -1), (second, data.credit, 1)] {
                *balances.entry(account).or_default() += amount;
                postings.push(posting);
                accounts.push(account);
                amounts.push(amount);
            }
            tx.emit_for(data, NewEvent::new("bench.moved", 1, data.debit, &1));
            first
        }));
    }
    const KEYS: &str = "INSERT INTO bench_keys (tenant_id, key) SELECT $1, key FROM unnest($2::bigint[]) AS t(key)";
    const SUMS: &str = "UPDATE bench_accounts SET balance = t.balance FROM unnest($2::bigint[], $3::bigint[]) AS t(account, balance)
WHERE tenant_id = $1 AND bench_accounts.account = t.account";
    const POSTINGS: &str = "INSERT INTO bench_postings (tenant_id, posting, account, amount)
SELECT $1, posting, account, amount FROM unnest($2::bigint[], $3::bigint[], $4::bigint[]) AS t(posting, account, amount)";
    let (named, sums): (Vec<i64>, Vec<i64>) = balances.into_iter().unzip();
    tx.exec(KEYS, (Value::Ints(keys),))?;
    tx.exec(SUMS, (Value::Ints(named), Value::Ints(sums)))?;
    tx.exec(POSTINGS, (Value::Ints(postings), Value::Ints(accounts), Value::Ints(amounts)))?;
    Ok(answers)
}

fn open(shard: ShardConfig, node: u16) -> Store {
    let clock = Arc::new(SystemClock);
    let environment = Environment { clock: clock.clone(), ids: Arc::new(IdGenerator::new(clock, node)) };
    // All callers belong to one tenant and wait for as long as it takes: this measures throughput.
    let config = StoreConfig { queue_wait_ms: 0, ..StoreConfig::with_shards(vec![shard]) };
    Store::open(config, &[BENCH], environment).expect("the store opens")
}

async fn fill(store: &Store, accounts: i64) {
    for begin in (0..accounts).step_by(1_000) {
        let open = move |tx: &mut Tx<'_>, _: &()| {
            for account in begin..(begin + 1_000).min(accounts) {
                tx.exec(
                    "INSERT INTO bench_accounts (tenant_id, account, balance) VALUES ($1, $2, 1000000000) ON CONFLICT DO NOTHING",
                    (account,),
                )?;
            }
            Ok(())
        };
        store.write(Call::new(TenantId::from_i64(1)).deadline_ms(60_000), open, ()).await.expect("accounts are made");
    }
}

/// How a command is submitted.
#[derive(Clone, Copy)]
enum How {
    /// Its keyed insert is its own: in the order of time.
    Ordered,
    /// Its keyed insert is that of a random idempotency key.
    Random,
    /// Ordered, and taken as a set with its neighbours.
    AsSet,
}

async fn moves(store: &Store, count: u64, seconds: f64, rows: i64, how: How) -> Outcome {
    let store = store.clone();
    callers(count, seconds, move |caller, n| {
        let store = store.clone();
        async move {
            let from = (caller as i64 * 7_919 + n as i64 * 104_729) % rows;
            let data = Move { debit: from, credit: (from + 1) % rows, keyed: !matches!(how, How::Random) };
            let call = Call::new(TenantId::from_i64(1)).deadline_ms(60_000);
            let done = match how {
                How::Ordered => store.write(call, command, data).await.map(|_| ()),
                How::Random => {
                    let key = OnceKey::new(&format!("run-{caller}-{n}-{seconds}"), b"same");
                    store.write_once(call, key, command, data).await.map(|_| ())
                }
                How::AsSet => store.write_set(call, None, commands, data).await.map(|_| ()),
            };
            done.is_ok()
        }
    })
    .await
}

/// Runs it.
pub async fn run(options: Options) {
    match options.postgres.clone() {
        Some(url) => postgres(&options, &url).await,
        None => sqlite(&options).await,
    }
}

async fn several(options: &Options, name: &str, mut once: impl AsyncFnMut() -> Outcome) -> f64 {
    let mut rates = Vec::new();
    for _ in 0..options.runs {
        let outcome = once().await;
        tell(&outcome.line(name));
        rates.push(outcome.per_second());
    }
    median(rates)
}

async fn sqlite(options: &Options) {
    let temporary = tempfile::tempdir().expect("a folder");
    let folder = options.folder.clone().unwrap_or_else(|| temporary.path().to_owned());
    tell(&format!(
        "SQLite, WAL, synchronous=FULL; {} callers, {} s a run; fsync of 4 KiB: {:.0}/s",
        options.callers,
        options.seconds,
        fsyncs_per_second(&folder)
    ));
    let path = folder.join("bench.db");
    let store = open(ShardConfig::Sqlite { path: path.clone() }, 1);
    fill(&store, 10_000).await;
    let alone =
        several(options, "one commit each (1 caller)", async || moves(&store, 1, options.seconds, 10_000, How::Ordered).await).await;
    let lanes =
        several(options, "lane, time-ordered keys", async || moves(&store, options.callers, options.seconds, 10_000, How::Ordered).await)
            .await;
    tell(&format!("lane / one commit each: {:.1}", lanes / alone));
    wal(&path);
    let reading = store.clone();
    let reader = tokio::spawn(async move {
        reading
            .read(kernel::Scope::Platform, |read| {
                let mut rows = 0_u64;
                let _: Vec<(i64,)> = read.all("SELECT count(*) FROM bench_accounts", ())?;
                std::thread::sleep(Duration::from_secs(3));
                read.each("SELECT balance FROM bench_accounts", (), |_| {
                    rows += 1;
                    Ok(())
                })?;
                Ok(rows)
            })
            .await
    });
    tell(&moves(&store, options.callers, options.seconds, 10_000, How::Ordered).await.line("lane, with a reader of 3 s"));
    let _ = reader.await;
    wal(&path);
    let (from, to) = (path.clone(), folder.join("backup.db"));
    let backup = std::thread::spawn(move || vacuum_into(&from, &to));
    tell(&moves(&store, options.callers, options.seconds, 10_000, How::Ordered).await.line("lane, with a backup (VACUUM INTO)"));
    let _ = backup.join();
    let _ = std::fs::remove_file(folder.join("backup.db"));
    wal(&path);
    tell(&format!("making {} random keys ...", options.existing));
    let filling = store.clone();
    let (each, fillers) = (options.existing / 512, 512);
    let made = std::time::Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for filler in 0..fillers {
        let store = filling.clone();
        tasks.spawn(async move {
            for n in 0..each {
                let key = OnceKey::new(&format!("old-{filler}-{n}"), b"same");
                let call = Call::new(TenantId::from_i64(1)).deadline_ms(60_000);
                store.write_once(call, key, |_: &mut Tx<'_>, &n: &u64| Ok(n), n).await.expect("stored");
            }
        });
    }
    tasks.join_all().await;
    tell(&format!("  {:.0} keys/s", options.existing as f64 / made.elapsed().as_secs_f64()));
    let mut round = 0.0;
    several(options, "lane, random keys over those", async || {
        round += 0.001;
        moves(&store, options.callers, options.seconds + round, 10_000, How::Random).await
    })
    .await;
    wal(&path);
    store.close().await;
}

/// A backup as an operator's tool would make it, from a process of its own.
fn vacuum_into(from: &Path, to: &Path) {
    let statement = format!("VACUUM INTO '{}'", to.display());
    let done = std::process::Command::new("sqlite3").arg(from).arg(statement).status();
    if !done.is_ok_and(|status| status.success()) {
        tell("  (no sqlite3 program here: the backup was left out)");
    }
}

fn wal(path: &Path) {
    let size = std::fs::metadata(path.with_extension("db-wal")).map_or(0, |m| m.len());
    tell(&format!("  WAL: {} MiB", size / (1024 * 1024)));
}

async fn postgres(options: &Options, url: &str) {
    tell(&format!("PostgreSQL; {} callers on ten hot rows of one tenant, {} s a run", options.callers, options.seconds));
    let shard = ShardConfig::Postgres { url: url.to_owned(), lanes: 4, prepared: true, replicas: Vec::new() };
    let store = open(shard.clone(), 1);
    fill(&store, 10).await;
    let peer = several(options, "one transaction each, pipelined, 8 connections", async || {
        postgres_one_each(url, 8, options.callers, 10, options.seconds).await
    })
    .await;
    let lanes =
        several(options, "lane, time-ordered keys", async || moves(&store, options.callers, options.seconds, 10, How::Ordered).await).await;
    tell(&format!("lane / one transaction each: {:.1}", lanes / peer));
    let sets =
        several(options, "lane, neighbours as a set", async || moves(&store, options.callers, options.seconds, 10, How::AsSet).await).await;
    tell(&format!("as sets / one transaction each: {:.1}", sets / peer));
    let mut round = 0.0;
    several(options, "lane, random keys", async || {
        round += 0.001;
        moves(&store, options.callers, options.seconds + round, 10, How::Random).await
    })
    .await;
    let second = open(shard, 2);
    let two = several(options, "two nodes", async || {
        let (a, b) = tokio::join!(
            moves(&store, options.callers / 2, options.seconds, 10, How::Ordered),
            moves(&second, options.callers / 2, options.seconds, 10, How::Ordered)
        );
        let mut latency = a.latency;
        latency.add(b.latency).expect("equal histograms");
        Outcome { done: a.done + b.done, failed: a.failed + b.failed, seconds: a.seconds.max(b.seconds), latency }
    })
    .await;
    tell(&format!("two nodes / one node: {:.2}", two / lanes));
    store.close().await;
    second.close().await;
}
