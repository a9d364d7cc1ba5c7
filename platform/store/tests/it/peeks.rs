//! Reads on the calling thread, which keep a snapshot for a moment: what they must not miss, and what they must not hold up.

use crate::common::{Place, open_account, tenant};
use crate::store::{Engine, NewEvent, ShardConfig, Store, Tx};
use kernel::Result;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const BALANCE: &str = "SELECT balance FROM bank_accounts WHERE tenant_id = $1 AND account = 1";

async fn peeked(store: &Store) -> i64 {
    store.peek(tenant(7), |read| read.one::<(i64,)>(BALANCE, ())).await.expect("the account is there").0
}

fn set_balance(tx: &mut Tx<'_>, balance: &i64) -> Result<()> {
    tx.exec("UPDATE bank_accounts SET balance = $2 WHERE tenant_id = $1 AND account = 1", (*balance,)).map(|_| ())
}

/// Tasks that peek until they are told that it is over; none may see a balance fall.
fn peeking(store: &Store, tasks: usize) -> (Arc<AtomicBool>, tokio::task::JoinSet<()>) {
    let over = Arc::new(AtomicBool::new(false));
    let mut others = tokio::task::JoinSet::new();
    for _ in 0..tasks {
        let (store, over) = (store.clone(), over.clone());
        others.spawn(async move {
            let mut last = 0;
            while !over.load(Ordering::Relaxed) {
                let seen = peeked(&store).await;
                assert!(seen >= last, "{seen} after {last}: a later read saw less");
                last = seen;
                tokio::task::yield_now().await;
            }
        });
    }
    (over, others)
}

/// Another process on the same file.
fn other(place: &Place) -> rusqlite::Connection {
    let ShardConfig::Sqlite { path } = &place.shard else { panic!("SQLite alone keeps snapshots") };
    rusqlite::Connection::open(path).expect("opens")
}

/// Whoever has the answer to a write sees it, however many read meanwhile and keep snapshots open.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_peek_sees_what_was_acknowledged_before_it() {
    let place = Place::new(Engine::Sqlite).expect("SQLite is inside");
    let store = place.node_with(1, |config| config.readers = 2);
    store.write(tenant(7), open_account, (1, 0)).await.expect("opened");
    let (over, others) = peeking(&store, 3);
    for balance in 1..=2_000 {
        store.write(tenant(7), set_balance, balance).await.expect("written");
        assert_eq!(peeked(&store).await, balance);
    }
    over.store(true, Ordering::Relaxed);
    others.join_all().await;
}

/// What another process commits is seen a moment later, while one reads all the time.
#[tokio::test]
async fn a_peek_sees_what_another_process_commits() {
    let place = Place::new(Engine::Sqlite).expect("SQLite is inside");
    let store = place.node_with(1, |config| config.readers = 1);
    store.write(tenant(7), open_account, (1, 0)).await.expect("opened");
    let other = other(&place);
    for balance in 1..=50 {
        assert_eq!(peeked(&store).await, balance - 1);
        other.execute("UPDATE bank_accounts SET balance = ?1 WHERE account = 1", [balance]).expect("written");
        let committed = Instant::now();
        while committed.elapsed() < Duration::from_millis(2) {
            peeked(&store).await;
        }
        assert_eq!(peeked(&store).await, balance);
    }
}

/// A snapshot that was kept and is read on no more doesn't hold up the WAL.
#[tokio::test]
async fn a_snapshot_that_nobody_reads_on_is_ended() {
    let place = Place::new(Engine::Sqlite).expect("SQLite is inside");
    let store = place.node_with(1, |config| config.readers = 1);
    store.write(tenant(7), open_account, (1, 1)).await.expect("opened");
    peeked(&store).await;
    let other = other(&place);
    other.execute("UPDATE bank_accounts SET balance = 2 WHERE account = 1", []).expect("written");
    let began = Instant::now();
    loop {
        let held: i64 = other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).expect("asked");
        if held == 0 {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "a snapshot still holds the WAL");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(peeked(&store).await, 2);
}

/// The WAL starts again from its beginning while reads keep snapshots all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn the_wal_stays_bounded_while_peeks_go_on() {
    const WRITTEN: u64 = 96 * 1024 * 1024;
    const PIECE: usize = 512 * 1024;
    let place = Place::new(Engine::Sqlite).expect("SQLite is inside");
    let store = place.node_with(1, |config| config.readers = 2);
    store.write(tenant(7), open_account, (1, 1)).await.expect("opened");
    let (over, others) = peeking(&store, 2);
    let text = "x".repeat(PIECE);
    for _ in 0..WRITTEN / PIECE as u64 {
        let emit = |tx: &mut Tx<'_>, text: &String| {
            tx.emit(NewEvent::new("bank.remarked", 1, 1_i64, text));
            Ok(())
        };
        store.write(tenant(7), emit, text.clone()).await.expect("written");
    }
    over.store(true, Ordering::Relaxed);
    others.join_all().await;
    let ShardConfig::Sqlite { path } = &place.shard else { panic!("SQLite alone has this WAL") };
    let wal = std::fs::metadata(path.with_extension("db-wal")).expect("it is there").len();
    assert!(wal < WRITTEN / 4 * 3, "{wal} bytes of WAL after {WRITTEN} were written");
}
