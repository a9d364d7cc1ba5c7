//! Many requests at once to a server that may be killed meanwhile: from tasks, over connections that are kept.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kernel::{Rng as _, SeededRng};
use serde_json::Value;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::Semaphore;

/// How long an answer may take until it counts as lost.
const PATIENCE: Duration = Duration::from_secs(30);
/// Requests at once, each with a connection: fewer than a process may have files open.
const AT_ONCE: usize = 12_000;

/// Asks one server with one key.
pub struct Wire {
    client: Client<HttpConnector, Full<Bytes>>,
    url: String,
    key: String,
    /// Nobody comes again at the same moment as the others.
    rng: SeededRng,
    room: Semaphore,
    /// Answers that did not come, and those that said to come again later.
    pub lost: AtomicU64,
    pub busy: AtomicU64,
}

impl Wire {
    /// Of paths below `url`.
    pub fn new(url: &str, key: &str) -> Wire {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        // What was lost is for the caller to send again, who counts it.
        let client = Client::builder(TokioExecutor::new()).retry_canceled_requests(false).build(connector);
        let (url, key) = (url.to_owned(), key.to_owned());
        let (rng, room) = (SeededRng::new(1), Semaphore::new(AT_ONCE));
        Wire { client, url, key, rng, room, lost: AtomicU64::new(0), busy: AtomicU64::new(0) }
    }

    /// None when the whole answer did not come.
    pub async fn try_send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &Value) -> Option<(u16, Value)> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = Request::builder().method(method).uri(format!("{}/{path}", self.url));
        let request = request.header("authorization", format!("Bearer {}", self.key)).header("content-type", "application/json");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.body(Full::new(Bytes::from(body))).expect("a request");
        let _room = self.room.acquire().await.expect("it is never closed");
        let answered = tokio::time::timeout(PATIENCE, async {
            let answer = self.client.request(request).await.ok()?;
            let status = answer.status().as_u16();
            let body = answer.into_body().collect().await.ok()?.to_bytes();
            Some((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
        });
        let answer = answered.await.ok().flatten();
        match &answer {
            None => self.lost.fetch_add(1, Relaxed),
            Some((503, _)) => self.busy.fetch_add(1, Relaxed),
            Some(_) => 0,
        };
        answer
    }

    /// Sends the same until it is answered, as a sensible client does: what is lost or comes too early is sent again under the same key.
    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &Value) -> (u16, Value) {
        let mut pause_ms = 20;
        loop {
            match self.try_send(method, path, headers, body).await {
                None | Some((503, _)) => {}
                Some(answer) => return answer,
            }
            tokio::time::sleep(Duration::from_millis(pause_ms / 2 + self.rng.below(pause_ms))).await;
            pause_ms = (pause_ms * 2).min(2_000);
        }
    }

    /// Gets it, whatever it takes.
    pub async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.send("GET", path, &[], &Value::Null).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// A whole list.
    pub async fn list(&self, path: &str) -> Vec<Value> {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        let mark = if path.contains('?') { '&' } else { '?' };
        loop {
            let mut page = self.get(&format!("{path}{mark}limit=100{cursor}")).await;
            if let Value::Array(rows) = page["data"].take() {
                all.extend(rows);
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return all,
            }
        }
    }

    /// Does it under a key, and expects this status.
    #[track_caller]
    pub fn done(&self, method: &str, path: &str, key: &str, body: &Value, status: u16) -> impl Future<Output = Value> {
        let at = std::panic::Location::caller();
        async move {
            let (got, answer) = self.send(method, path, &[("idempotency-key", key)], body).await;
            assert_eq!(got, status, "{at}: {method} {path} {body}: {answer}");
            answer
        }
    }
}
