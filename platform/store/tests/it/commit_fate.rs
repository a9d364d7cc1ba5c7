//! The answer to COMMIT is cut off by a proxy between the lane and PostgreSQL: applied once, and answered rightly.

use crate::common::{Place, balance, open_account, tenant};
use crate::store;
use crate::store::{Call, Engine, OnceKey, ShardConfig};
use kernel::Scope;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Where the proxy cuts the connection, for as many commits as `cuts` says.
#[derive(Clone, Copy, PartialEq)]
enum Cut {
    /// The server never sees the COMMIT: the transaction is aborted.
    BeforeCommit,
    /// The server commits, its answer is lost.
    AfterCommit,
    /// The same, and from then on the server is not reached any more.
    ForGood,
}

/// Forwards to `server` and cuts the connection at the next commits of a lane. Gives its own port.
async fn proxy(server: String, cut: Cut, cuts: Arc<AtomicI32>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let gone = Arc::new(AtomicBool::new(false));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            if gone.load(Ordering::SeqCst) {
                continue;
            }
            let (server, cuts, gone) = (server.clone(), cuts.clone(), gone.clone());
            tokio::spawn(async move {
                let Ok(upstream) = TcpStream::connect(server).await else { return };
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = upstream.into_split();
                let back = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
                let mut buffer = vec![0; 64 * 1024];
                while let Ok(n @ 1..) = from_client.read(&mut buffer).await {
                    let commits = buffer[..n].windows(7).any(|w| w == b"COMMIT\0");
                    if commits && cuts.fetch_sub(1, Ordering::SeqCst) > 0 {
                        back.abort();
                        gone.store(cut == Cut::ForGood, Ordering::SeqCst);
                        if cut != Cut::BeforeCommit {
                            let _ = to_server.write_all(&buffer[..n]).await;
                            // Long enough for the server to have committed; the client's socket closes afterwards.
                            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                        }
                        return;
                    }
                    if to_server.write_all(&buffer[..n]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

/// The same place, by way of a proxy.
async fn by_proxy(place: &Place, cut: Cut, cuts: Arc<AtomicI32>) -> ShardConfig {
    let ShardConfig::Postgres { url, lanes, prepared, replicas } = place.shard.clone() else { panic!("it is PostgreSQL's") };
    let (head, database) = url.rsplit_once('/').expect("a database");
    let (credentials, server) = head.rsplit_once('@').expect("credentials");
    let port = proxy(server.to_owned(), cut, cuts).await;
    ShardConfig::Postgres { url: format!("{credentials}@127.0.0.1:{port}/{database}"), lanes, prepared, replicas }
}

fn add(tx: &mut store::Tx<'_>, _: &()) -> kernel::Result<()> {
    tx.exec("UPDATE bank_accounts SET balance = balance + 1 WHERE tenant_id = $1 AND account = 1", ())
}

async fn applied_once(cut: Cut) {
    let Some(mut place) = Place::new(Engine::Postgres) else { return };
    // The schema is made without the proxy.
    place.node(1).close().await;
    let cuts = Arc::new(AtomicI32::new(0));
    let direct = place.shard.clone();
    place.shard = by_proxy(&place, cut, cuts.clone()).await;
    let node = place.node(2);
    node.write(tenant(7), open_account, (1, 0)).await.expect("opened");
    for round in 1..=10 {
        cuts.store(1, Ordering::SeqCst);
        node.write(Call::new(tenant(7)).deadline_ms(30_000), add, ()).await.expect("answered rightly");
        assert!(cuts.load(Ordering::SeqCst) <= 0, "the commit was cut");
        assert_eq!(balance(&node, tenant(7), 1).await, round, "applied once");
        // The connection that was made anew is set up like the first one.
        let on_lane = Call::new(Scope::Platform).on_lane(0, node.lane_of(tenant(7)));
        let scans = node.write(on_lane, |tx, ()| tx.one::<(String,)>("SELECT current_setting('enable_seqscan')", ()), ()).await;
        assert_eq!(scans.expect("asked").0, "off");
    }
    place.shard = direct;
}

/// The server is gone when it is asked what became of the commit, and when a command with a key is tried again: that it can't be done
/// again does not say that it was not done.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_learn_of_stays_unknown() {
    let Some(mut place) = Place::new(Engine::Postgres) else { return };
    let direct = place.node(1);
    direct.write(tenant(7), open_account, (1, 0)).await.expect("opened");
    let cuts = Arc::new(AtomicI32::new(0));
    let shard = place.shard.clone();
    place.shard = by_proxy(&place, Cut::ForGood, cuts.clone()).await;
    let node = place.node(2);
    assert_eq!(balance(&node, tenant(7), 1).await, 0);
    cuts.store(1, Ordering::SeqCst);
    let key = || OnceKey::new("one", b"the same");
    let lost = node.write_once(Call::new(tenant(7)).deadline_ms(30_000), key(), add, ()).await.map(|done| done.replayed);
    assert_eq!(lost.map_err(|error| error.code()), Err("store.unknown_outcome"));
    assert_eq!(balance(&direct, tenant(7), 1).await, 1, "it was done");
    assert!(direct.write_once(tenant(7), key(), add, ()).await.expect("answered").replayed, "and with its key that is learnt");
    place.shard = shard;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_applied_once() {
    applied_once(Cut::AfterCommit).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_never_arrived_is_applied_once() {
    applied_once(Cut::BeforeCommit).await;
}

/// A transaction left open elsewhere stalls nobody, and what commits late is not skipped: positions are given under the lane's lock.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_transaction_stalls_nobody() {
    let Some(place) = Place::new(Engine::Postgres) else { return };
    let ShardConfig::Postgres { url, .. } = place.shard.clone() else { return };
    let admin = std::env::var("BRANDOS_TEST_POSTGRES").expect("set, or the place would not be there");
    let node = place.node(1);
    let mut held = Vec::new();
    for url in [url, admin] {
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.expect("PostgreSQL answers");
        tokio::spawn(connection);
        client.batch_execute("BEGIN; CREATE TEMPORARY TABLE held (n BIGINT); INSERT INTO held VALUES (1)").await.expect("held open");
        held.push(client);
    }
    for n in 0..50 {
        node.write(
            tenant(7),
            |tx, n| {
                tx.emit(store::NewEvent::new("bank.counted", 1, n, n));
                Ok(())
            },
            n,
        )
        .await
        .expect("committed");
    }
    let lane = node.lane_of(tenant(7)) as i16;
    let events = node.events_after(store::Position { shard: 0, lane, sequence: 0 }, 100).await.expect("events");
    assert_eq!(events.len(), 50);
}
