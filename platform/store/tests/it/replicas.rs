//! Reads on a streaming replica: never older than what the caller has seen, and never an error because of the replica.

use crate::common::{Place, administer, balance, open_account, skipped, tenant};
use crate::store;
use crate::store::{CommitPosition, Engine, ShardConfig, Store, Tx};
use kernel::TenantId;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

/// "repl" as a number: one test at a time uses the replica, whichever process it runs in.
const LOCK: i64 = 0x7265_706c;

/// A database with a replica of its own server, for one test at a time.
struct Replicated {
    place: Place,
    /// Of the same database on the replica.
    replica: String,
    /// Of the database from which replay may be paused.
    control: String,
    _lock: tokio_postgres::Client,
}

impl Replicated {
    async fn new() -> Option<Replicated> {
        let place = Place::new(Engine::Postgres)?;
        let Ok(control) = std::env::var("BRANDOS_TEST_POSTGRES_REPLICA") else {
            assert!(std::env::var("CI").is_err(), "BRANDOS_TEST_POSTGRES_REPLICA is not set: the replica is missing");
            skipped("with a replica: BRANDOS_TEST_POSTGRES_REPLICA is not set");
            return None;
        };
        let admin = std::env::var("BRANDOS_TEST_POSTGRES").expect("set, or the place would not be there");
        let lock = client(&admin).await;
        lock.batch_execute(&format!("SELECT pg_advisory_lock({LOCK})")).await.expect("locked");
        // Whoever was killed in between may have left it paused.
        administer(&control, "SELECT pg_wal_replay_resume()");
        let ShardConfig::Postgres { url, .. } = &place.shard else { return None };
        let (_, name) = url.rsplit_once('/').expect("a database");
        let (base, _) = control.rsplit_once('/').expect("a database");
        let mut replicated = Replicated { replica: format!("{base}/{name}"), place, control, _lock: lock };
        replicated.replicas(vec![replicated.replica.clone()]);
        // The schema, and the database itself, are there before anyone connects to the replica.
        replicated.place.node(9).close().await;
        replicated.caught_up().await;
        Some(replicated)
    }

    fn replicas(&mut self, urls: Vec<String>) {
        let ShardConfig::Postgres { replicas, .. } = &mut self.place.shard else { return };
        *replicas = urls;
    }

    /// Waits until the replica has everything that is committed now.
    async fn caught_up(&self) {
        let admin = std::env::var("BRANDOS_TEST_POSTGRES").expect("set");
        let written: String = client(&admin).await.query_one("SELECT pg_current_wal_flush_lsn()::text", &[]).await.expect("asked").get(0);
        let replica = client(&self.control).await;
        for _ in 0..1_000 {
            let asked = format!("SELECT pg_last_wal_replay_lsn() >= '{written}'::pg_lsn");
            if replica.query_one(&asked, &[]).await.expect("asked").get(0) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the replica does not come to {written}");
    }

    async fn pause(&self) {
        self.caught_up().await;
        let replica = client(&self.control).await;
        replica.batch_execute("SELECT pg_wal_replay_pause()").await.expect("paused");
        for _ in 0..1_000 {
            let state: String = replica.query_one("SELECT pg_get_wal_replay_pause_state()", &[]).await.expect("asked").get(0);
            if state == "paused" {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the replica does not pause");
    }

    fn resume(&self) {
        administer(&self.control, "SELECT pg_wal_replay_resume()");
    }
}

impl Drop for Replicated {
    fn drop(&mut self) {
        let control = self.control.clone();
        let _ = std::panic::catch_unwind(|| administer(&control, "SELECT pg_wal_replay_resume()"));
    }
}

async fn client(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("PostgreSQL answers");
    tokio::spawn(connection);
    client
}

/// A node with its metrics.
struct Node {
    store: Store,
    metrics: Registry,
}

impl Node {
    fn open(place: &Place, number: u16) -> Node {
        let (store, mut metrics) = (place.node(number), Registry::default());
        store.register_metrics(&mut metrics);
        Node { store, metrics }
    }

    /// How many reads were answered so.
    fn served(&self, how: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.metrics).expect("encoded");
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("store_replica_reads_total{{shard=\"0\",served=\"{how}\"}} ")));
        line.unwrap_or_else(|| panic!("no {how} in {text}")).parse().expect("a number")
    }

    async fn balance_at(&self, of: TenantId, after: Option<CommitPosition>) -> i64 {
        let read = |read: &mut store::Read<'_>| {
            read.one::<(i64,)>("SELECT balance FROM bank_accounts WHERE tenant_id = $1 AND account = CAST($2 AS BIGINT)", (1,))
        };
        let (read, peeked) = (self.store.read_at(of, after, read).await, self.store.peek_at(of, after, read).await);
        let (read, peeked) = (read.expect("the account is there").0, peeked.expect("the account is there").0);
        assert_eq!(read, peeked);
        read
    }

    /// Waits until a replica answers again.
    async fn until_served_by_the_replica(&self, of: TenantId, after: Option<CommitPosition>) {
        let before = self.served("replica");
        for _ in 0..200 {
            self.balance_at(of, after).await;
            if self.served("replica") > before {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the replica is not asked any more");
    }
}

fn set_balance(tx: &mut Tx<'_>, balance: &i64) -> kernel::Result<()> {
    tx.must("UPDATE bank_accounts SET balance = $2 WHERE tenant_id = $1 AND account = 1", (*balance,), || {
        kernel::Error::not_found("bank.no_account", "no such account")
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_seen_a_write_never_reads_what_was_before_it() {
    let Some(replicated) = Replicated::new().await else { return };
    let here = Node::open(&replicated.place, 1);
    here.store.write(tenant(7), open_account, (1, 0)).await.expect("opened");
    replicated.caught_up().await;
    let there = Node::open(&replicated.place, 2);
    replicated.pause().await;
    here.store.write(tenant(7), set_balance, 1).await.expect("written");
    let token = here.store.position(tenant(7)).await.expect("there are replicas").to_string();
    let token = CommitPosition::parse(&token).expect("as it was given");

    // Another node, without a token: the replica answers, with what it has.
    assert_eq!(there.balance_at(tenant(7), None).await, 0);
    assert_eq!((there.served("replica"), there.served("primary_lag")), (2, 0));
    // With it: the primary, since the replica does not come so far.
    assert_eq!(there.balance_at(tenant(7), Some(token)).await, 1);
    assert_eq!((there.served("replica"), there.served("primary_lag")), (2, 2));
    // That it was behind for one is no reason not to ask it for others.
    assert_eq!(there.balance_at(tenant(7), None).await, 0);
    assert_eq!((there.served("replica"), there.served("primary_lag")), (4, 2));
    // The node that wrote needs no token.
    assert_eq!(here.balance_at(tenant(7), None).await, 1);
    assert_eq!(here.served("primary_lag"), 2);
    // A node that has looked where the primary stands reads nothing that is older.
    there.store.refresh_directory().await.expect("looked");
    assert_eq!(there.balance_at(tenant(7), None).await, 1);
    // A position of another shard says nothing about this one.
    let elsewhere = CommitPosition::parse("1-1-1").expect("a position");
    assert_eq!(there.balance_at(tenant(7), Some(elsewhere)).await, 1);

    replicated.resume();
    here.until_served_by_the_replica(tenant(7), None).await;
    there.until_served_by_the_replica(tenant(7), Some(token)).await;
    assert_eq!(there.balance_at(tenant(7), Some(token)).await, 1);
}

/// A replayed answer and a refusal tell of what another node has committed: their position covers that.
#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_answer_carries_the_position_of_the_first() {
    let Some(replicated) = Replicated::new().await else { return };
    let (here, there) = (Node::open(&replicated.place, 1), Node::open(&replicated.place, 2));
    here.store.write(tenant(7), open_account, (1, 0)).await.expect("opened");
    replicated.pause().await;
    let key = || store::OnceKey::new("key", b"same");
    here.store.write_once(tenant(7), key(), set_balance, 1).await.expect("written");
    assert!(there.store.write_once(tenant(7), key(), set_balance, 1).await.expect("replayed").replayed);
    let token = there.store.position(tenant(7)).await;
    assert_eq!(there.balance_at(tenant(7), None).await, 1);
    let third = Node::open(&replicated.place, 3);
    assert_eq!(third.balance_at(tenant(7), token).await, 1);
    assert_eq!(there.store.write(tenant(7), open_account, (1, 0)).await.expect_err("there already").code(), "bank.exists");
}

#[tokio::test(flavor = "multi_thread")]
async fn own_writes_are_read_while_the_replica_keeps_up() {
    let Some(replicated) = Replicated::new().await else { return };
    let (here, there) = (Node::open(&replicated.place, 1), Node::open(&replicated.place, 2));
    here.store.write(tenant(7), open_account, (1, 0)).await.expect("opened");
    for n in 1..=200 {
        here.store.write(tenant(7), set_balance, n).await.expect("written");
        let token = here.store.position(tenant(7)).await;
        assert_eq!(here.balance_at(tenant(7), None).await, n);
        assert_eq!(there.balance_at(tenant(7), token).await, n);
    }
    assert!(here.served("replica") > 0 && there.served("replica") > 0, "the replica was asked");
    assert_eq!(here.served("primary_failed") + there.served("primary_failed"), 0);
}

/// What the way to the replica does.
const OPEN: u8 = 0;
const SHUT: u8 = 1;
/// Takes connections, and says nothing.
const MUTE: u8 = 2;

/// Forwards to `server` as `state` says; a change ends the connections that stand, unless it goes mute. Gives its own port.
async fn way(server: String, state: Arc<AtomicU8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let (server, state) = (server.clone(), state.clone());
            tokio::spawn(async move {
                if state.load(SeqCst) == SHUT {
                    return;
                }
                let Ok(mut far) = TcpStream::connect(server).await else { return };
                {
                    let mut copying = std::pin::pin!(tokio::io::copy_bidirectional(&mut near, &mut far));
                    while state.load(SeqCst) == OPEN {
                        if tokio::time::timeout(Duration::from_millis(5), &mut copying).await.is_ok() {
                            return;
                        }
                    }
                }
                while state.load(SeqCst) == MUTE {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                let _ = near.shutdown().await;
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_go_on_whatever_happens_to_the_replica() {
    let Some(mut replicated) = Replicated::new().await else { return };
    let (head, name) = replicated.replica.rsplit_once('/').expect("a database");
    let (credentials, server) = head.rsplit_once('@').expect("credentials");
    let state = Arc::new(AtomicU8::new(SHUT));
    let port = way(server.to_owned(), state.clone()).await;
    replicated.replicas(vec![format!("{credentials}@127.0.0.1:{port}/{name}")]);
    // A node starts without its replica.
    let node = Node::open(&replicated.place, 1);
    node.store.write(tenant(7), open_account, (1, 5)).await.expect("opened");
    assert_eq!(node.balance_at(tenant(7), None).await, 5);
    assert_eq!(node.served("replica"), 0);
    assert!(node.served("primary_away") > 0);
    for gone in [SHUT, MUTE] {
        state.store(OPEN, SeqCst);
        node.until_served_by_the_replica(tenant(7), None).await;
        state.store(gone, SeqCst);
        let away = node.served("primary_away");
        for _ in 0..20 {
            assert_eq!(node.balance_at(tenant(7), None).await, 5);
        }
        assert!(node.served("primary_away") > away);
    }
    state.store(OPEN, SeqCst);
    node.until_served_by_the_replica(tenant(7), None).await;
    // Not even the end waits for one that hangs.
    state.store(MUTE, SeqCst);
    assert_eq!(node.balance_at(tenant(7), None).await, 5);
    tokio::time::timeout(Duration::from_secs(4), node.store.close()).await.expect("closed");
}

/// One that was promoted, or never was a replica, goes its own way: nothing it says can be trusted.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_no_replica_is_not_read() {
    let Some(mut replicated) = Replicated::new().await else { return };
    let ShardConfig::Postgres { url, .. } = &replicated.place.shard else { return };
    let primary = url.clone();
    replicated.replicas(vec![primary]);
    let node = Node::open(&replicated.place, 1);
    node.store.write(tenant(7), open_account, (1, 5)).await.expect("opened");
    assert_eq!(node.balance_at(tenant(7), None).await, 5);
    assert_eq!((node.served("replica"), node.served("primary_away")), (0, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_walls_stand_on_the_replica_too() {
    let Some(replicated) = Replicated::new().await else { return };
    let node = Node::open(&replicated.place, 1);
    for n in [7, 8] {
        node.store.write(tenant(n), open_account, (1, n)).await.expect("opened");
    }
    replicated.caught_up().await;
    // No predicate: row-level security alone.
    const ALL: &str = "SELECT tenant_id, balance FROM bank_accounts WHERE CAST($1 AS BIGINT) IS NOT NULL ORDER BY tenant_id";
    let before = node.served("replica");
    for n in [7, 8, 7] {
        let rows: Vec<(i64, i64)> = node.store.read_at(tenant(n), None, |read| read.all(ALL, ())).await.expect("read");
        assert_eq!(rows, [(n, n)]);
    }
    let unbound = node.store.read_at(tenant(7), None, |read| read.all::<(i64,)>("SELECT balance FROM bank_accounts", ())).await;
    assert_eq!(unbound.expect_err("a statement without $1").code(), "internal");
    assert_eq!(node.served("replica"), before + 3);
    // A statement that fails there is asked of the primary, and the replica is asked on.
    let failed = node.store.read_at(tenant(7), None, |read| read.all::<(i64,)>("SELECT $1 / CAST(0 AS BIGINT)", ())).await;
    assert!(failed.is_err());
    assert_eq!(node.served("primary_failed"), 2);
    node.until_served_by_the_replica(tenant(7), None).await;
    assert_eq!(balance(&node.store, tenant(8), 1).await, 8);
}

/// Without replicas there are no positions, and reads that may go to one are reads like others.
#[tokio::test(flavor = "multi_thread")]
async fn without_replicas_nothing_changes() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let Some(place) = Place::new(engine) else { continue };
        let store = place.node(1);
        store.write(tenant(7), open_account, (1, 5)).await.expect("opened");
        assert_eq!(store.position(tenant(7)).await, None);
        let after = CommitPosition::parse("0-9-ffff");
        let count = |read: &mut store::Read<'_>| read.one::<(i64,)>("SELECT COUNT(*) FROM bank_accounts WHERE tenant_id = $1", ());
        assert_eq!(store.read_at(tenant(7), after, count).await.expect("read"), (1,));
        assert_eq!(store.peek_at(tenant(7), after, count).await.expect("read"), (1,));
    }
}
