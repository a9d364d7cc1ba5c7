//! Callbacks: each event signed by the Standard Webhooks specification and delivered until it is taken, or given up.

use bytes::Bytes;
use client::{Client, ClientConfig, Method, Request, webhook};
use kernel::{Clock, Result, SystemRng};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::Semaphore;
use traffic::resilience::{BreakerConfig, Policy, PolicyConfig};

/// Deliveries that wait or run; beyond that events are dropped, and counted.
const MAX_WAITING: usize = 20_000;
/// Deliveries at once.
const MAX_RUNNING: usize = 64;
/// Attempts for each event.
const ATTEMPTS: u32 = 8;

/// The body of a callback.
#[derive(Serialize)]
struct Told<'a, T> {
    id: &'a str,
    r#type: &'a str,
    data: &'a T,
}

/// Where callbacks go.
#[derive(Clone)]
pub(crate) struct Callbacks(Arc<Inner>);

struct Inner {
    client: Client,
    url: String,
    secret: webhook::Secret,
    clock: Arc<dyn Clock>,
    waiting: Arc<Semaphore>,
    running: Semaphore,
    numbers: AtomicU64,
    dropped: AtomicU64,
    retry_ms: u64,
}

impl Callbacks {
    /// To this address, signed with this secret. Errors: `internal` when TLS can't be set up.
    pub(crate) fn new(url: String, secret: webhook::Secret, clock: Arc<dyn Clock>, retry_ms: u64) -> Result<Callbacks> {
        // It tries again by itself, and does not mind one that fails.
        let breaker = BreakerConfig { failures: u32::MAX, least_calls: u32::MAX, ..BreakerConfig::default() };
        let policy = PolicyConfig { attempts: 1, timeout_ms: 6_000, bulkhead: MAX_RUNNING as u32, breaker, ..PolicyConfig::default() };
        let policy = Policy::alone("callbacks", policy, Arc::new(SystemRng::new()));
        let client = Client::new(ClientConfig { timeout_ms: 5_000, max_body_bytes: 64 * 1024, ..ClientConfig::default() }, policy)?;
        // Ids differ from those of the process before, whose events may still be known to the other side.
        let first = clock.now().micros().unsigned_abs();
        Ok(Callbacks(Arc::new(Inner {
            client,
            url,
            secret,
            clock,
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            running: Semaphore::new(MAX_RUNNING),
            numbers: AtomicU64::new(first),
            dropped: AtomicU64::new(0),
            retry_ms,
        })))
    }

    /// Events that were dropped because too many waited.
    pub(crate) fn dropped(&self) -> u64 {
        self.0.dropped.load(Relaxed)
    }

    /// A fresh event's id.
    pub(crate) fn next_id(&self) -> String {
        format!("evt_{}", self.0.numbers.fetch_add(1, Relaxed))
    }

    /// Delivers it some time, `delay_ms` from now at the earliest.
    pub(crate) fn send<T: Serialize + Clone + Send + Sync + 'static>(&self, id: String, kind: &'static str, data: &T, delay_ms: u64) {
        let Ok(place) = self.0.waiting.clone().try_acquire_owned() else {
            self.0.dropped.fetch_add(1, Relaxed);
            return;
        };
        let (callbacks, data) = (self.clone(), data.clone());
        tokio::spawn(async move {
            if delay_ms > 0 {
                tokio::time::sleep(Duration::from_millis(delay_ms)).await;
            }
            callbacks.deliver(&id, kind, &data).await;
            drop(place);
        });
    }

    /// Delivers it, trying again with growing pauses. Says whether it was taken.
    pub(crate) async fn deliver<T: Serialize>(&self, id: &str, kind: &'static str, data: &T) -> bool {
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(Duration::from_millis(self.0.retry_ms << attempt.min(6))).await;
            }
            if self.attempt(id, kind, data).await {
                return true;
            }
        }
        tracing::warn!(id, kind, "a callback was given up");
        false
    }

    /// One attempt.
    pub(crate) async fn attempt<T: Serialize>(&self, id: &str, kind: &'static str, data: &T) -> bool {
        let inner = &self.0;
        let Ok(_running) = inner.running.acquire().await else { return false };
        let Ok(body) = serde_json::to_vec(&Told { id, r#type: kind, data }) else { return false };
        let now = inner.clock.now();
        let headers = vec![
            ("content-type", "application/json".to_owned()),
            (webhook::ID, id.to_owned()),
            (webhook::TIMESTAMP, now.unix_seconds().to_string()),
            (webhook::SIGNATURE, webhook::sign(&inner.secret, id, now, &body)),
        ];
        let request = Request { method: Method::POST, url: inner.url.clone(), headers, body: Bytes::from(body) };
        matches!(inner.client.send(request).await, Ok(answer) if (200..300).contains(&answer.status))
    }
}
