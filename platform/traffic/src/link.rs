//! A connection to one Redis that comes back by itself: whoever asks gets an answer in time, or none at once.

use arc_swap::ArcSwapOption;
use redis::aio::MultiplexedConnection;
use redis::{Client, RedisError, RedisResult};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;

/// How long a connection may take to be made, and Redis to say that it is there.
const CONNECT: Duration = Duration::from_millis(500);
/// Between two attempts to connect.
const RECONNECT: Duration = Duration::from_millis(200);
/// How often Redis is asked whether it is there.
const PING: Duration = Duration::from_millis(500);
/// So many answers in a row that did not come in time end a connection.
const LATE: u32 = 3;

/// The connection. Many callers use it at once.
pub(crate) struct Link {
    client: Client,
    patience: Duration,
    connection: ArcSwapOption<MultiplexedConnection>,
    late: AtomicU32,
    lost: Notify,
    /// Which run of Redis it is: another one after each restart, and on another server after a failover.
    run: AtomicU64,
}

impl Link {
    /// Connects, or has tried once: then it is tried again until the link is dropped. Errors: a URL that is none.
    pub(crate) async fn open(url: &str, patience: Duration) -> RedisResult<Arc<Link>> {
        let client = Client::open(url)?;
        let link = Arc::new(Link {
            client,
            patience,
            connection: ArcSwapOption::empty(),
            late: AtomicU32::new(0),
            lost: Notify::new(),
            run: AtomicU64::new(0),
        });
        if link.connect().await.is_err() {
            tracing::warn!("a Redis is away; it is waited for");
        }
        tokio::spawn(keep(Arc::downgrade(&link)));
        Ok(link)
    }

    /// For connections of another kind, such as subscriptions.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Whether it answered last time.
    pub(crate) fn is_up(&self) -> bool {
        self.connection.load().is_some()
    }

    /// Which run of Redis answers.
    pub(crate) fn run(&self) -> u64 {
        self.run.load(Relaxed)
    }

    /// Asks; none when Redis is away, did not answer in time, or refused.
    pub(crate) async fn ask<T, F>(&self, call: impl FnOnce(MultiplexedConnection) -> F) -> Option<T>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let connection = self.connection.load_full()?;
        match tokio::time::timeout(self.patience, call((*connection).clone())).await {
            Ok(Ok(answer)) => {
                if self.late.load(Relaxed) > 0 {
                    self.late.store(0, Relaxed);
                }
                return Some(answer);
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "Redis refused");
                if error.is_io_error() || error.is_connection_dropped() {
                    self.lose(&connection);
                }
            }
            Err(_) if self.late.fetch_add(1, Relaxed) + 1 >= LATE => self.lose(&connection),
            Err(_) => {}
        }
        None
    }

    async fn connect(&self) -> std::result::Result<(), RedisError> {
        let late = || RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
        let connection = async {
            let mut connection = self.client.get_multiplexed_async_connection().await?;
            let info: String = redis::cmd("INFO").arg("server").query_async(&mut connection).await?;
            Ok::<_, RedisError>((connection, info))
        };
        let (connection, info) = tokio::time::timeout(CONNECT, connection).await.map_err(|_| late())??;
        let run = info.lines().find_map(|line| line.strip_prefix("run_id:")).and_then(|id| id.get(..16));
        self.run.store(run.and_then(|id| u64::from_str_radix(id, 16).ok()).unwrap_or(0), Relaxed);
        self.late.store(0, Relaxed);
        self.connection.store(Some(Arc::new(connection)));
        Ok(())
    }

    fn lose(&self, connection: &Arc<MultiplexedConnection>) {
        if self.connection.load().as_ref().is_some_and(|current| Arc::ptr_eq(current, connection)) {
            self.connection.store(None);
            self.lost.notify_one();
        }
    }
}

async fn keep(link: Weak<Link>) {
    let mut up = true;
    loop {
        let Some(link) = link.upgrade() else { return };
        match link.connection.load_full() {
            Some(connection) => {
                let mut asked = (*connection).clone();
                let there = tokio::time::timeout(CONNECT, redis::cmd("PING").query_async::<String>(&mut asked)).await;
                if !matches!(there, Ok(Ok(_))) {
                    link.lose(&connection);
                    continue;
                }
                let _ = tokio::time::timeout(PING, link.lost.notified()).await;
            }
            None => {
                if up {
                    up = false;
                    tracing::warn!("a Redis is away");
                }
                if link.connect().await.is_ok() {
                    up = true;
                    tracing::info!("a Redis is there again");
                } else {
                    tokio::time::sleep(RECONNECT).await;
                }
            }
        }
    }
}
