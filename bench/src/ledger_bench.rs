//! The ledger in process: single transfers by many callers, batches, hot accounts, and on PostgreSQL a row-lock ledger in PL/pgSQL as the peer.

use crate::measure::{Outcome, callers, fsyncs_per_second, median, tell};
use clap::Args;
use kernel::{Clock as _, Currency, IdGenerator, SystemClock, TenantId};
use ledger::api::{self, NewAccount};
use ledger::{AccountId, AccountType, Request};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use store::{Call, Environment, ShardConfig, Store, StoreConfig, Tx};
use tokio::sync::Mutex;
use tokio_postgres::{Client, NoTls, Statement};

/// Options of `ledger`.
#[derive(Args)]
pub struct Options {
    /// A PostgreSQL to measure instead of SQLite: `postgres://...`; its tables `ledger_*` and `bench_ledger_*` are made in it.
    #[arg(long)]
    postgres: Option<String>,
    /// Seconds for each run.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Runs, of which the median counts.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Callers of one transfer each.
    #[arg(long, default_value_t = 32)]
    callers: u64,
    /// Accounts between which transfers are spread evenly.
    #[arg(long, default_value_t = 10_000)]
    accounts: usize,
    /// Transfers of a batch.
    #[arg(long, default_value_t = 8_192)]
    batch: usize,
    /// Measure once more after so many transfers, and say what is left of the speed; 0 leaves it out.
    #[arg(long, default_value_t = 0)]
    endurance: u64,
    /// Seal what is written meanwhile, as a server does.
    #[arg(long)]
    sealed: bool,
    /// Leave out the single transfers.
    #[arg(long)]
    batches_only: bool,
    /// Folder for the SQLite file; a temporary one unless given.
    #[arg(long)]
    folder: Option<PathBuf>,
}

const TENANT: TenantId = TenantId::from_i64(1);

fn open(shard: ShardConfig) -> Store {
    let clock = Arc::new(SystemClock);
    let environment = Environment { clock: clock.clone(), ids: Arc::new(IdGenerator::new(clock, 1)) };
    // All callers belong to one tenant and wait for as long as it takes: this measures throughput.
    let config = StoreConfig { queue_wait_ms: 0, ..StoreConfig::with_shards(vec![shard]) };
    Store::open(config, &[log::migrations(), ledger::module().migrations], environment).expect("the store opens")
}

async fn open_accounts(store: &Store, count: usize) -> Vec<AccountId> {
    let euro: Currency = "EUR".parse().expect("a currency");
    let mut ids = Vec::with_capacity(count);
    for begin in (0..count).step_by(500) {
        let range = begin..(begin + 500).min(count);
        let make = move |tx: &mut Tx<'_>, range: &std::ops::Range<usize>| {
            let account = |n: usize| NewAccount::new(format!("wallet:{n}"), AccountType::Liability, euro).unbounded();
            range.clone().map(|n| Ok(api::ensure_account(tx, &account(n))?.account_id)).collect::<kernel::Result<Vec<_>>>()
        };
        let call = Call::new(TENANT).deadline_ms(60_000);
        ids.extend(store.write(call, make, range).await.expect("accounts are opened"));
    }
    ids
}

/// Two different accounts, spread evenly.
fn pair(accounts: &[AccountId], seed: u64) -> (AccountId, AccountId) {
    let mut z = seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z ^= z >> 27;
    let first = (z % accounts.len() as u64) as usize;
    let step = 1 + ((z >> 32) % (accounts.len() as u64 - 1)) as usize;
    (accounts[first], accounts[(first + step) % accounts.len()])
}

async fn singles(store: &Store, accounts: &Arc<Vec<AccountId>>, options: &Options, keyed: bool) -> Outcome {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let (store, accounts) = (store.clone(), accounts.clone());
    callers(options.callers, options.seconds, move |_, _| {
        let (store, accounts) = (store.clone(), accounts.clone());
        async move {
            let n = NEXT.fetch_add(1, Ordering::Relaxed);
            let (debit, credit) = pair(&accounts, n);
            let mut request = Request::transfer(debit, credit, 1);
            if keyed {
                request = request.key(&format!("bench:{n}"));
            }
            api::submit(&store, Call::new(TENANT).deadline_ms(60_000), request).await.is_ok()
        }
    })
    .await
}

/// Batches by two callers, so that one is made while the other is done.
async fn batches(store: &Store, accounts: &Arc<Vec<AccountId>>, size: usize, seconds: f64) -> Outcome {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let (store, accounts) = (store.clone(), accounts.clone());
    let mut outcome = callers(2, seconds, move |_, _| {
        let (store, accounts) = (store.clone(), accounts.clone());
        async move {
            let begin = NEXT.fetch_add(size as u64, Ordering::Relaxed);
            let requests = (0..size as u64).map(|n| {
                let (debit, credit) = pair(&accounts, begin + n);
                Request::transfer(debit, credit, 1)
            });
            let call = Call::new(TENANT).deadline_ms(60_000);
            api::submit_bulk(&store, call, requests.collect()).await.is_ok_and(|all| all.iter().all(Result::is_ok))
        }
    })
    .await;
    outcome.done *= size as u64;
    outcome
}

async fn several(runs: usize, name: &str, mut once: impl AsyncFnMut() -> Outcome) -> f64 {
    let mut rates = Vec::new();
    for _ in 0..runs {
        let outcome = once().await;
        tell(&outcome.line(name));
        rates.push(outcome.per_second());
    }
    median(rates)
}

/// Runs it.
pub async fn run(options: Options) {
    let temporary = tempfile::tempdir().expect("a folder");
    let folder = options.folder.clone().unwrap_or_else(|| temporary.path().to_owned());
    let shard = match &options.postgres {
        Some(url) => ShardConfig::Postgres { url: url.clone(), lanes: 4, prepared: true, replicas: Vec::new() },
        None => ShardConfig::Sqlite { path: folder.join("ledger.db") },
    };
    let engine = if options.postgres.is_some() { "PostgreSQL" } else { "SQLite, WAL, synchronous=FULL" };
    tell(&format!(
        "{engine}; {} accounts, {} s a run; fsync of 4 KiB: {:.0}/s",
        options.accounts,
        options.seconds,
        fsyncs_per_second(&folder)
    ));
    let store = open(shard);
    let uniform = Arc::new(open_accounts(&store, options.accounts).await);
    let hot = Arc::new(uniform[..10.min(uniform.len())].to_vec());
    let sealing = options.sealed.then(|| tokio::spawn(seals(store.clone())));
    let callers_name = |what: &str| format!("{} callers, one transfer each, {what}", options.callers);
    let mut even = 0.0;
    if !options.batches_only {
        even = several(options.runs, &callers_name("even"), async || singles(&store, &uniform, &options, false).await).await;
        let on_hot = several(options.runs, &callers_name("ten hot"), async || singles(&store, &hot, &options, false).await).await;
        tell(&format!("ten hot accounts / even: {:.2}", on_hot / even));
        several(options.runs, &callers_name("even, random keys"), async || singles(&store, &uniform, &options, true).await).await;
    }
    let name = |what: &str| format!("batches of {}, {what}", options.batch);
    let first = several(options.runs, &name("even"), async || batches(&store, &uniform, options.batch, options.seconds).await).await;
    let on_hot = several(options.runs, &name("ten hot"), async || batches(&store, &hot, options.batch, options.seconds).await).await;
    tell(&format!("ten hot accounts / even: {:.2}", on_hot / first));
    if options.endurance > 0 {
        let (began, mut done) = (Instant::now(), 0);
        while done < options.endurance {
            done += batches(&store, &uniform, options.batch, 10.0).await.done;
        }
        tell(&format!("{done} more transfers: {:.0}/s", done as f64 / began.elapsed().as_secs_f64()));
        let last =
            several(options.runs, &name("after them"), async || batches(&store, &uniform, options.batch, options.seconds).await).await;
        tell(&format!("after / before: {:.2}", last / first));
    }
    if let Some(url) = &options.postgres {
        let peer = several(options.runs, "peer: PL/pgSQL, one transaction each, ten hot", async || {
            peer(url, options.callers, options.seconds).await
        })
        .await;
        tell(&format!("batches on ten hot accounts / peer: {:.1}; single transfers / peer: {:.1}", on_hot / peer, even / peer));
    }
    if let Some(sealing) = sealing {
        sealing.abort();
        let last = store.read_within(TENANT, 60_000, |read| api::seals_after(read, 0, 1_000_000)).await.expect("the seals").pop();
        let counts = last.map(|seal| (seal.transactions, seal.seal)).unwrap_or_default();
        tell(&format!("{} transactions are sealed, by {} seals", counts.0, counts.1));
    }
    let trial = store.read_within(TENANT, 60_000, api::trial_balance).await.expect("the trial balance");
    assert!(trial.balanced, "debits and credits differ");
    store.close().await;
}

/// Seals again and again, with a pause when nothing is left to seal.
async fn seals(store: Store) {
    let key = api::SealKey::from_seed(&[7; 32]);
    loop {
        let more = api::seal(&store, TENANT, &key, SystemClock.now()).await.expect("sealed");
        if !more {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
    }
}

const PEER: &str = "
CREATE TABLE IF NOT EXISTS bench_ledger_accounts (account BIGINT PRIMARY KEY, debits BIGINT NOT NULL, credits BIGINT NOT NULL) WITH (fillfactor = 50);
CREATE TABLE IF NOT EXISTS bench_ledger_transfers (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, debit BIGINT NOT NULL, credit BIGINT NOT NULL,
  amount BIGINT NOT NULL, recorded_at BIGINT NOT NULL);
INSERT INTO bench_ledger_accounts SELECT n, 0, 0 FROM generate_series(0, 9) n ON CONFLICT DO NOTHING;
CREATE OR REPLACE FUNCTION bench_ledger_transfer(a BIGINT, b BIGINT, minor BIGINT, recorded BIGINT) RETURNS BIGINT LANGUAGE plpgsql AS $$
DECLARE new_id BIGINT;
BEGIN
  -- Rows are locked in one order, so that the peer does not suffer deadlocks.
  PERFORM 1 FROM bench_ledger_accounts WHERE account IN (a, b) ORDER BY account FOR UPDATE;
  UPDATE bench_ledger_accounts SET debits = debits + minor WHERE account = a;
  UPDATE bench_ledger_accounts SET credits = credits + minor WHERE account = b;
  INSERT INTO bench_ledger_transfers (debit, credit, amount, recorded_at) VALUES (a, b, minor, recorded) RETURNING id INTO new_id;
  RETURN new_id;
END $$;";

/// The usual way: a function that locks both rows, one transaction a transfer, eight connections.
async fn peer(url: &str, count: u64, seconds: f64) -> Outcome {
    let mut connections: Vec<Arc<Mutex<(Client, Statement)>>> = Vec::new();
    for _ in 0..8 {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("PostgreSQL answers");
        tokio::spawn(connection);
        if connections.is_empty() {
            client.batch_execute(PEER).await.expect("the peer's tables");
        }
        let statement = client.prepare("SELECT bench_ledger_transfer($1, $2, 1, $3)").await.expect("prepared");
        connections.push(Arc::new(Mutex::new((client, statement))));
    }
    let connections = Arc::new(connections);
    callers(count, seconds, move |caller, n| {
        let connections = connections.clone();
        async move {
            let peer = connections[caller as usize % connections.len()].lock().await;
            let first = (caller as i64 * 7 + n as i64) % 10;
            let now = SystemClock.now().micros();
            peer.0.query_one(&peer.1, &[&first, &((first + 1 + n as i64 % 9) % 10), &now]).await.is_ok()
        }
    })
    .await
}
