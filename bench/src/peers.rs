//! What the store is measured against: the same statements, one transaction each.

use crate::measure::{Outcome, callers};
use kernel::{Clock as _, SystemClock};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};
use tokio::sync::Mutex;
use tokio_postgres::{Client, NoTls, Statement};

struct Peer {
    client: Client,
    statements: Vec<Statement>,
}

/// The next id of a peer's rows: from the time on, since all runs write to the same tables, those of another call too.
static NEXT: LazyLock<AtomicI64> = LazyLock::new(|| AtomicI64::new(SystemClock.now().micros()));

/// One transaction each on `connections` connections, statements of a transaction pipelined, on `rows` hot rows.
pub async fn postgres_one_each(url: &str, connections: usize, count: u64, rows: i64, seconds: f64) -> Outcome {
    let mut peers = Vec::new();
    for _ in 0..connections {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("PostgreSQL answers");
        tokio::spawn(connection);
        let mut statements = Vec::new();
        for text in [
            "INSERT INTO bench_keys (tenant_id, key) VALUES (1, $1)",
            "UPDATE bench_accounts SET balance = balance - $2 WHERE tenant_id = 1 AND account = $1 AND balance >= $2",
            "UPDATE bench_accounts SET balance = balance + $2 WHERE tenant_id = 1 AND account = $1",
            "INSERT INTO bench_postings (tenant_id, posting, account, amount) VALUES (1, $1, $2, $3)",
            "INSERT INTO bench_log (id, payload) VALUES ($1, $2)",
        ] {
            statements.push(client.prepare(text).await.expect("prepared"));
        }
        peers.push(Arc::new(Mutex::new(Peer { client, statements })));
    }
    let peers = Arc::new(peers);
    callers(count, seconds, move |caller, _| {
        let peers = peers.clone();
        async move {
            let peer = peers[caller as usize % peers.len()].lock().await;
            let id = NEXT.fetch_add(2, Ordering::Relaxed);
            // Rows are taken in one order, so that the peer does not suffer deadlocks.
            let (a, b) = (id / 2 % rows, (id / 2 + 1) % rows);
            let (first, second) = (a.min(b), a.max(b));
            let (c, s) = (&peer.client, &peer.statements);
            let one = 1_i64;
            let done = futures_util::future::try_join_all([
                c.execute_boxed("BEGIN"),
                c.run(&s[0], vec![Box::new(id)]),
                c.run(&s[1], vec![Box::new(first), Box::new(one)]),
                c.run(&s[2], vec![Box::new(second), Box::new(one)]),
                c.run(&s[3], vec![Box::new(id), Box::new(first), Box::new(-one)]),
                c.run(&s[3], vec![Box::new(id + 1), Box::new(second), Box::new(one)]),
                c.run(&s[4], vec![Box::new(id), Box::new("1".to_owned())]),
                c.execute_boxed("COMMIT"),
            ])
            .await;
            done.is_ok()
        }
    })
    .await
}

type Argument = Box<dyn tokio_postgres::types::ToSql + Sync + Send>;
type Run<'a> = std::pin::Pin<Box<dyn Future<Output = Result<(), tokio_postgres::Error>> + Send + 'a>>;

/// Calls of one type, so that they can be joined and are sent together.
trait Pipelined {
    fn execute_boxed<'a>(&'a self, text: &'a str) -> Run<'a>;
    fn run<'a>(&'a self, statement: &'a Statement, arguments: Vec<Argument>) -> Run<'a>;
}

impl Pipelined for Client {
    fn execute_boxed<'a>(&'a self, text: &'a str) -> Run<'a> {
        Box::pin(self.batch_execute(text))
    }

    fn run<'a>(&'a self, statement: &'a Statement, arguments: Vec<Argument>) -> Run<'a> {
        Box::pin(async move {
            self.execute_raw(statement, arguments.iter().map(|a| &**a as &(dyn tokio_postgres::types::ToSql + Sync))).await.map(|_| ())
        })
    }
}
