//! The client: HTTP/1.1 over TCP or TLS, with a pool of connections.

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
use std::time::Duration;

/// Bounds of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// How long a connection may take to be there. Less than `timeout_ms`, so that a host that is away is known to have seen nothing.
    pub connect_timeout_ms: u64,
    /// How long a request may take, its whole answer included.
    pub timeout_ms: u64,
    /// The most bytes of an answer's body.
    pub max_body_bytes: usize,
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
            idle_per_host: 64,
            idle_timeout_ms: 20_000,
            public_only: false,
        }
    }
}

/// A client; cheap to clone. Its clones share one pool of connections.
#[derive(Clone)]
pub struct Client {
    pool: Pool<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>,
    config: ClientConfig,
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
    /// No connection came about, or the request is none: the other side has certainly not seen it.
    NotSent(String),
    /// It may have been seen, and done: it was sent, and no whole answer came in time.
    Unanswered(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::NotSent(why) => write!(f, "not sent: {why}"),
            Failure::Unanswered(why) => write!(f, "unanswered: {why}"),
        }
    }
}

impl Client {
    /// A client that trusts the machine's certificates. Errors: `internal` when TLS can't be set up.
    pub fn new(config: ClientConfig) -> Result<Client> {
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
        Ok(Client { pool, config })
    }

    /// Sends it, and reads the whole answer, whatever its status.
    pub async fn send(&self, request: Request) -> std::result::Result<Response, Failure> {
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
        let answer = tokio::time::timeout(Duration::from_millis(self.config.timeout_ms), self.exchange(outgoing)).await;
        answer.unwrap_or_else(|_| Err(Failure::Unanswered(format!("no answer within {} ms", self.config.timeout_ms))))
    }

    async fn exchange(&self, request: hyper::Request<Full<Bytes>>) -> std::result::Result<Response, Failure> {
        let response = self
            .pool
            .request(request)
            .await
            .map_err(|error| if error.is_connect() { Failure::NotSent(chain(&error)) } else { Failure::Unanswered(chain(&error)) })?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, self.config.max_body_bytes).collect().await;
        let body = body.map_err(|error| Failure::Unanswered(error.to_string()))?.to_bytes();
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    fn quick() -> Client {
        let config = ClientConfig { connect_timeout_ms: 200, timeout_ms: 400, max_body_bytes: 64, ..ClientConfig::default() };
        Client::new(config).expect("a client")
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
}
