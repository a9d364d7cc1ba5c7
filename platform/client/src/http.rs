//! The client: HTTP/1.1 over TCP or TLS, with a pool of connections, under the policy of a dependency.

use crate::guard::{Resolver, is_public, literal};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::Method;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client as Pool, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kernel::{Error, Result};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use traffic::resilience::Policy;

/// Bounds of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// How long a connection may take to be there. Less than `timeout_ms`, so that a host that is away is known to have seen nothing.
    pub connect_timeout_ms: u64,
    /// How long a request may take, its whole answer included.
    pub timeout_ms: u64,
    /// The most bytes of an answer's body.
    pub max_body_bytes: usize,
    /// Whether an answer's status is all that counts: one whose body is too large, or breaks off, is answered with an empty body.
    pub status_only: bool,
    /// The most idle connections that are kept for each host.
    pub idle_per_host: usize,
    /// How long an idle connection is kept.
    pub idle_timeout_ms: u64,
    /// Whether only addresses of the public internet are called, whatever a name resolves to: for addresses that strangers name.
    pub public_only: bool,
}

impl Default for ClientConfig {
    /// 3 s to connect, 10 s in all, 1 MiB, 64 idle connections for 20 s.
    fn default() -> Self {
        ClientConfig {
            connect_timeout_ms: 3_000,
            timeout_ms: 10_000,
            max_body_bytes: 1024 * 1024,
            status_only: false,
            idle_per_host: 64,
            idle_timeout_ms: 20_000,
            public_only: false,
        }
    }
}

/// A client of one dependency; cheap to clone. Its clones share one pool of connections.
#[derive(Clone)]
pub struct Client {
    pool: Pool<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>,
    config: ClientConfig,
    policy: Arc<Policy>,
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Absolute, `http` or `https`.
    pub url: String,
    /// Headers by their lower-case names. Host and length are added.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Bytes,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Response {
    /// A header's text; empty when it is missing or no text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody was called: there are as many calls under way as may be, or no time was left. It says nothing of the other side.
    Busy(String),
    /// No connection came about, or the request is none: the other side has certainly not seen it.
    NotSent(String),
    /// It may have been seen, and done: it was sent, and no whole answer came in time.
    Unanswered(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Busy(why) => write!(f, "not tried: {why}"),
            Failure::NotSent(why) => write!(f, "not sent: {why}"),
            Failure::Unanswered(why) => write!(f, "unanswered: {why}"),
        }
    }
}

impl Client {
    /// A client that trusts the machine's certificates and calls under this policy. Errors: `internal` when TLS can't be set up.
    pub fn new(config: ClientConfig, policy: Arc<Policy>) -> Result<Client> {
        let mut http = HttpConnector::new_with_resolver(Resolver::new(config.public_only));
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(Duration::from_millis(config.connect_timeout_ms)));
        let https = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
            .map_err(|error| Error::internal("TLS can't be set up").caused_by(error))?
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_millis(config.idle_timeout_ms))
            .pool_max_idle_per_host(config.idle_per_host)
            .build(https);
        Ok(Client { pool, config, policy })
    }

    /// The same for another dependency, on the same pool of connections.
    #[must_use]
    pub fn under(&self, policy: Arc<Policy>) -> Client {
        Client { policy, ..self.clone() }
    }

    /// Sends it, and reads the whole answer, whatever its status. It is sent again only when it has certainly not been seen.
    pub async fn send(&self, request: Request) -> std::result::Result<Response, Failure> {
        self.call(request, false).await
    }

    /// The same for a read, which may be done twice. It is sent again after any failure, an answer of 500 and above included. Not for a
    /// write, whatever keys the receiver honours: the answer is that of the last attempt, and a refusal in it (too many requests, say)
    /// tells nothing of an attempt before it that was lost.
    pub async fn send_repeatable(&self, request: Request) -> std::result::Result<Response, Failure> {
        self.call(request, true).await
    }

    /// Under the policy. An answer of 500 and above counts as a failure of the dependency, and is an answer nevertheless.
    async fn call(&self, request: Request, repeatable: bool) -> std::result::Result<Response, Failure> {
        let last: Mutex<Option<std::result::Result<Response, Failure>>> = Mutex::new(None);
        // Whether some attempt may have been seen.
        let seen = AtomicBool::new(false);
        let attempt = |_| {
            let request = request.clone();
            let (last, seen) = (&last, &seen);
            async move {
                let before = seen.swap(true, SeqCst);
                let answer = self.once(request).await;
                if matches!(answer, Err(Failure::NotSent(_))) {
                    seen.store(before, SeqCst);
                }
                let verdict = match &answer {
                    Ok(response) if response.status >= 500 => {
                        Err(Error::unknown("dependency.failed", format!("it answered {}", response.status)))
                    }
                    Ok(_) => Ok(()),
                    Err(Failure::Busy(why) | Failure::NotSent(why)) => Err(Error::unavailable("dependency.not_sent", why.clone())),
                    Err(Failure::Unanswered(why)) => Err(Error::unknown("dependency.unanswered", why.clone())),
                };
                *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
                verdict
            }
        };
        let ran = if repeatable { self.policy.call(attempt).await } else { self.policy.call_once(attempt).await };
        let last = last.into_inner().unwrap_or_else(PoisonError::into_inner);
        let failure = match (ran, last) {
            (_, Some(Ok(response))) => return Ok(response),
            (Ok(()), _) => Failure::Unanswered("the answer was lost".to_owned()),
            (Err(error), Some(Err(failure))) if !matches!(error.code(), "dependency.timeout") => failure,
            (Err(error), None) if matches!(error.code(), "dependency.busy" | "dependency.too_late") => {
                Failure::Busy(error.detail().to_owned())
            }
            (Err(error), _) => Failure::NotSent(error.detail().to_owned()),
        };
        // What one attempt did not send, an earlier one may have sent.
        Err(match failure {
            Failure::NotSent(why) if seen.load(SeqCst) => Failure::Unanswered(why),
            failure => failure,
        })
    }

    /// One attempt.
    async fn once(&self, request: Request) -> std::result::Result<Response, Failure> {
        let mut outgoing = hyper::Request::builder().method(request.method).uri(&request.url);
        for (name, value) in &request.headers {
            let value = HeaderValue::from_str(value).map_err(|_| Failure::NotSent(format!("the header {name} is no header value")))?;
            outgoing = outgoing.header(HeaderName::from_static(name), value);
        }
        let outgoing = outgoing.body(Full::new(request.body)).map_err(|error| Failure::NotSent(error.to_string()))?;
        if !matches!(outgoing.uri().scheme_str(), Some("http" | "https")) || outgoing.uri().host().is_none() {
            return Err(Failure::NotSent("the address is neither http nor https".to_owned()));
        }
        // An address that is no name is not resolved.
        if self.config.public_only && outgoing.uri().host().and_then(literal).is_some_and(|address| !is_public(address)) {
            return Err(Failure::NotSent("the address is none of the public internet".to_owned()));
        }
        self.exchange(outgoing).await
    }

    async fn exchange(&self, request: hyper::Request<Full<Bytes>>) -> std::result::Result<Response, Failure> {
        let until = tokio::time::Instant::now() + Duration::from_millis(self.config.timeout_ms);
        let late = |_| Failure::Unanswered(format!("no answer within {} ms", self.config.timeout_ms));
        let response = tokio::time::timeout_at(until, self.pool.request(request))
            .await
            .map_err(late)?
            .map_err(|error| if error.is_connect() { Failure::NotSent(chain(&error)) } else { Failure::Unanswered(chain(&error)) })?;
        let (parts, body) = response.into_parts();
        let body = tokio::time::timeout_at(until, Limited::new(body, self.config.max_body_bytes).collect()).await;
        let body = match body.map_err(late).and_then(|body| body.map_err(|error| Failure::Unanswered(error.to_string()))) {
            Ok(body) => body.to_bytes(),
            Err(_) if self.config.status_only => Bytes::new(),
            Err(failure) => return Err(failure),
        };
        Ok(Response { status: parts.status.as_u16(), headers: parts.headers, body })
    }
}

/// An error and its causes in a line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernel::SeededRng;
    use std::sync::atomic::AtomicU32;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use traffic::resilience::{BreakerConfig, BreakerState, PolicyConfig};

    fn quick() -> Client {
        under(PolicyConfig { attempts: 1, ..PolicyConfig::default() })
    }

    fn under(policy: PolicyConfig) -> Client {
        let config = ClientConfig { connect_timeout_ms: 200, timeout_ms: 400, max_body_bytes: 64, ..ClientConfig::default() };
        Client::new(config, Policy::alone("test", policy, Arc::new(SeededRng::new(1)))).expect("a client")
    }

    fn get(url: String) -> Request {
        Request { method: Method::GET, url, headers: vec![("x-test", "1".into())], body: Bytes::new() }
    }

    /// A server that answers every connection with these bytes, or with silence.
    async fn server(answer: Option<&'static str>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut seen = [0; 1024];
                let _ = stream.read(&mut seen).await;
                match answer {
                    Some(answer) => drop(stream.write_all(answer.as_bytes()).await),
                    None => open.push(stream),
                }
            }
        });
        format!("http://{address}/")
    }

    #[tokio::test]
    async fn an_answer_is_whole_and_bounded() {
        let url = server(Some("HTTP/1.1 201 Created\r\ncontent-length: 2\r\nx-a: b\r\n\r\nok")).await;
        let answer = quick().send(get(url)).await.expect("an answer");
        assert_eq!((answer.status, answer.header("x-a"), &answer.body[..]), (201, "b", &b"ok"[..]));
        let large =
            server(Some("HTTP/1.1 200 OK\r\ncontent-length: 65\r\n\r\n01234567890123456789012345678901234567890123456789012345678901234"))
                .await;
        assert!(matches!(quick().send(get(large)).await, Err(Failure::Unanswered(_))));
    }

    #[tokio::test]
    async fn a_failure_says_whether_the_request_can_have_been_seen() {
        let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
        assert!(matches!(quick().send(get(format!("http://{nobody}/"))).await, Err(Failure::NotSent(_))));
        assert!(matches!(quick().send(get("nonsense".into())).await, Err(Failure::NotSent(_))));
        let silent = server(None).await;
        assert!(matches!(quick().send(get(silent)).await, Err(Failure::Unanswered(_))));
        let broken = server(Some("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")).await;
        assert!(matches!(quick().send(get(broken)).await, Err(Failure::Unanswered(_))));
    }

    /// A server that counts what it gets, and hangs, answers 500, or is well, as it is told.
    async fn moody() -> (String, Arc<AtomicU32>, Arc<AtomicU32>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        let (mood, got) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let (its_mood, counts) = (mood.clone(), got.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (mood, counts) = (its_mood.clone(), counts.clone());
                tokio::spawn(async move {
                    let mut seen = [0; 1024];
                    if stream.read(&mut seen).await.is_ok_and(|bytes| bytes > 0) {
                        counts.fetch_add(1, SeqCst);
                    }
                    let answer = match mood.load(SeqCst) {
                        0 => return tokio::time::sleep(Duration::from_secs(60)).await,
                        1 => "HTTP/1.1 500 Oh\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
                        _ => "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
                    };
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        (url, mood, got)
    }

    #[tokio::test]
    async fn what_may_have_been_seen_is_not_sent_again() {
        let (url, mood, got) = moody().await;
        let client = under(PolicyConfig { pause_ms: 1, timeout_ms: 200, ..PolicyConfig::default() });
        assert!(matches!(client.send(get(url.clone())).await, Err(Failure::Unanswered(_))));
        assert_eq!(got.load(SeqCst), 1, "it hung: nobody knows");
        mood.store(1, SeqCst);
        assert_eq!(client.send(get(url.clone())).await.expect("an answer").status, 500);
        assert_eq!(got.load(SeqCst), 2);
        assert_eq!(client.send_repeatable(get(url)).await.expect("an answer").status, 500);
        assert_eq!(got.load(SeqCst), 5, "what may be repeated is, three times in all");
        // Nobody listens: it is tried again, and is still certainly not sent.
        let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
        assert!(matches!(client.send(get(format!("http://{nobody}/"))).await, Err(Failure::NotSent(_))));
    }

    #[tokio::test]
    async fn one_who_hangs_takes_no_more_than_its_seats_and_comes_back_by_itself() {
        let (url, mood, got) = moody().await;
        let open_ms = 300;
        let breaker = BreakerConfig { failures: 5, open_ms, ..BreakerConfig::default() };
        let policy = PolicyConfig { bulkhead: 8, bulkhead_wait_ms: 20, timeout_ms: 250, attempts: 1, breaker, ..PolicyConfig::default() };
        let client = under(policy);
        let begun = std::time::Instant::now();
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let (client, url) = (client.clone(), url.clone());
            calls.spawn(async move { client.send(get(url)).await });
        }
        let failures = calls.join_all().await;
        let certain = failures.iter().filter(|answer| matches!(answer, Err(Failure::Busy(_)))).count();
        assert_eq!((got.load(SeqCst), certain), (8, 92), "eight seats, and the rest is told at once that nobody was called");
        assert_eq!(client.policy.breaker(), BreakerState::Open);
        assert!(begun.elapsed() < Duration::from_millis(2_000));
        assert!(matches!(client.send(get(url.clone())).await, Err(Failure::NotSent(_))), "nobody calls it now");
        mood.store(2, SeqCst);
        let healed = std::time::Instant::now();
        while client.send(get(url.clone())).await.is_err() {
            assert!(healed.elapsed() < Duration::from_millis(open_ms + 500), "traffic is back within one probe interval");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(client.policy.breaker(), BreakerState::Closed);
    }
}
