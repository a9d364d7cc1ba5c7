//! A small bank on each engine: enough tables to see a lane at work.

use crate::store::{Engine, Environment, Member, Migration, Migrations, NewEvent, ShardConfig, Store, StoreConfig, Tx};
use kernel::{Error, IdGenerator, Result, SystemClock, TenantId};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

pub const BANK: Migrations = Migrations {
    module: "bank",
    steps: &[Migration {
        number: 1,
        name: "bank",
        sql: "CREATE TABLE bank_accounts (tenant_id BIGINT NOT NULL, account BIGINT NOT NULL, balance BIGINT NOT NULL, PRIMARY KEY (tenant_id, account));
              CREATE TABLE bank_transfers (tenant_id BIGINT NOT NULL, transfer BIGINT NOT NULL, debit BIGINT NOT NULL, credit BIGINT NOT NULL, amount BIGINT NOT NULL, PRIMARY KEY (tenant_id, transfer));",
    }],
};

/// A shard in a place of its own, gone when this is dropped.
pub struct Place {
    pub shard: ShardConfig,
    _folder: Option<tempfile::TempDir>,
    database: Option<(String, String)>,
}

impl Place {
    /// None, with a loud word, when the engine is missing; a failure in CI.
    pub fn new(engine: Engine) -> Option<Place> {
        match engine {
            Engine::Sqlite => {
                let folder = tempfile::tempdir().expect("a temporary folder");
                let shard = ShardConfig::Sqlite { path: folder.path().join("shard.db") };
                Some(Place { shard, _folder: Some(folder), database: None })
            }
            Engine::Postgres => {
                let Ok(admin) = std::env::var("BRANDOS_TEST_POSTGRES") else {
                    assert!(std::env::var("CI").is_err(), "BRANDOS_TEST_POSTGRES is not set: PostgreSQL is missing");
                    skipped("on PostgreSQL: BRANDOS_TEST_POSTGRES is not set");
                    return None;
                };
                static NUMBER: AtomicU32 = AtomicU32::new(0);
                let name = format!("store_test_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
                administer(&admin, &format!("CREATE DATABASE {name}"));
                let (base, _) = admin.rsplit_once('/').expect("a URL with a database");
                let shard = ShardConfig::Postgres { url: format!("{base}/{name}"), lanes: 4, prepared: true, replicas: Vec::new() };
                Some(Place { shard, _folder: None, database: Some((admin, name)) })
            }
        }
    }

    /// A PostgreSQL behind PgBouncer in transaction mode, if there is one.
    pub fn pooled() -> Option<Place> {
        let mut place = Place::new(Engine::Postgres)?;
        let Ok(pooler) = std::env::var("BRANDOS_TEST_PGBOUNCER") else {
            assert!(std::env::var("CI").is_err(), "BRANDOS_TEST_PGBOUNCER is not set: PgBouncer is missing");
            skipped("behind PgBouncer: BRANDOS_TEST_PGBOUNCER is not set");
            return None;
        };
        let (base, _) = pooler.rsplit_once('/').expect("a URL with a database");
        let (_, name) = place.database.as_ref().expect("a PostgreSQL place has a database");
        place.shard = ShardConfig::Postgres { url: format!("{base}/{name}"), lanes: 4, prepared: false, replicas: Vec::new() };
        Some(place)
    }

    /// Opens a node on this shard.
    pub fn node(&self, node: u16) -> Store {
        self.node_with(node, |_| {})
    }

    pub fn node_with(&self, node: u16, change: impl FnOnce(&mut StoreConfig)) -> Store {
        // However slow the machine is, nobody is refused for it unless a test is about that.
        let mut config = StoreConfig { queue_wait_ms: 0, ..StoreConfig::with_shards(vec![self.shard.clone()]) };
        change(&mut config);
        let clock = Arc::new(SystemClock);
        let environment = Environment { clock: clock.clone(), ids: Arc::new(IdGenerator::new(clock, node)) };
        Store::open(config, &[BANK], environment).expect("the store opens")
    }
}

#[allow(clippy::print_stderr, reason = "a skip is loud")]
pub fn skipped(why: &str) {
    eprintln!("SKIPPED {why}");
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some((admin, name)) = &self.database {
            // FORCE may not end an autovacuum worker, which belongs to the server: then the database goes with its cluster.
            let (admin, drop) = (admin.clone(), format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
            let _ = std::panic::catch_unwind(|| administer(&admin, &drop));
        }
    }
}

/// Runs one statement on a connection of its own.
pub fn administer(url: &str, statement: &str) {
    let (url, statement) = (url.to_owned(), statement.to_owned());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.expect("PostgreSQL answers");
            let connection = tokio::spawn(connection);
            client.batch_execute(&statement).await.expect("the statement runs");
            drop(client);
            let _ = connection.await;
        });
    })
    .join()
    .expect("the statement runs");
}

pub fn tenant(n: i64) -> TenantId {
    TenantId::from_i64(n)
}

pub fn open_account(tx: &mut Tx<'_>, &(account, balance): &(i64, i64)) -> Result<()> {
    tx.must(
        "INSERT INTO bank_accounts (tenant_id, account, balance) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        (account, balance),
        || Error::conflict("bank.exists", "the account exists"),
    )
}

#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    pub debit: i64,
    pub credit: i64,
    pub amount: i64,
}

/// Moves money, without a read: the guard is part of the write.
pub fn transfer(tx: &mut Tx<'_>, data: &Transfer) -> Result<i64> {
    let id = tx.new_id::<kernel::Tenant>().as_i64();
    tx.must(
        "UPDATE bank_accounts SET balance = balance - $3 WHERE tenant_id = $1 AND account = $2 AND balance >= $3",
        (data.debit, data.amount),
        || Error::failed_precondition("bank.insufficient", "not enough money"),
    )?;
    tx.must("UPDATE bank_accounts SET balance = balance + $3 WHERE tenant_id = $1 AND account = $2", (data.credit, data.amount), || {
        Error::not_found("bank.no_account", "no such account")
    })?;
    tx.exec(
        "INSERT INTO bank_transfers (tenant_id, transfer, debit, credit, amount) VALUES ($1, $2, $3, $4, $5)",
        (id, data.debit, data.credit, data.amount),
    )?;
    tx.emit(NewEvent::new("bank.transferred", 1, data.debit, &data.amount));
    Ok(id)
}

pub async fn balance(store: &Store, tenant: TenantId, account: i64) -> i64 {
    store
        .read(tenant, move |read| read.one::<(i64,)>("SELECT balance FROM bank_accounts WHERE tenant_id = $1 AND account = $2", (account,)))
        .await
        .expect("the account is there")
        .0
}

/// An amount at which [`transfers`] panics.
pub const UNLUCKY: i64 = 13_131_313;

/// The same for a set, all from one account to one other: each balance is written once. Answers with how many were handed over.
pub fn transfers(tx: &mut Tx<'_>, all: &[Member<'_, Transfer>]) -> Result<Vec<Result<i64>>> {
    let (from, to) = (all[0].debit, all[0].credit);
    let (mut left,): (i64,) = tx.one("SELECT balance FROM bank_accounts WHERE tenant_id = $1 AND account = $2", (from,))?;
    let mut moved = 0;
    let mut outcomes = Vec::with_capacity(all.len());
    for member in all {
        assert!(member.amount != UNLUCKY, "an unlucky amount");
        if member.amount > left {
            outcomes.push(Err(Error::failed_precondition("bank.insufficient", "not enough money")));
            continue;
        }
        left -= member.amount;
        moved += member.amount;
        let id = tx.new_id::<kernel::Tenant>().as_i64();
        tx.exec(
            "INSERT INTO bank_transfers (tenant_id, transfer, debit, credit, amount) VALUES ($1, $2, $3, $4, $5)",
            (id, from, to, member.amount),
        )?;
        tx.emit_for(member, NewEvent::new("bank.transferred", 1, from, &member.amount));
        outcomes.push(Ok(all.len() as i64));
    }
    tx.exec("UPDATE bank_accounts SET balance = balance - $3 WHERE tenant_id = $1 AND account = $2", (from, moved))?;
    tx.exec("UPDATE bank_accounts SET balance = balance + $3 WHERE tenant_id = $1 AND account = $2", (to, moved))?;
    Ok(outcomes)
}
