//! The order path over HTTP: a closed loop on kept-alive connections, cheap enough to share two cores with the server.

use crate::measure::{Outcome, callers, median, tell};
use clap::{Args, ValueEnum};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Place an order of three lines with an `Idempotency-Key`.
    Place,
    /// Read an order that was placed before.
    Read,
    /// Nine reads for each order placed.
    Mixed,
    /// `/health/live`: what the server costs without the store.
    Live,
    /// Make a payment, have it authorised and captured, and wait for both.
    Pay,
}

/// In the answer to a payment that is made.
const CAPTURED: &[u8] = br#""state":"captured""#;

/// Options of `http`.
#[derive(Args)]
pub struct Options {
    /// `host:port` of the server.
    #[arg(long, default_value = "127.0.0.1:8080")]
    address: String,
    /// An API key or access token; may be given as BRANDOS_BENCH_TOKEN.
    #[arg(long, default_value = "")]
    token: String,
    /// What is asked.
    #[arg(long, value_enum, default_value = "place")]
    what: What,
    /// Connections, each with one request at a time.
    #[arg(long, default_value_t = 64)]
    connections: u64,
    /// Seconds for each run.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Runs, of which the median counts.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    #[command(flatten)]
    pub(crate) generator: Generator,
}

/// What makes the load of a server that runs elsewhere.
#[derive(Args)]
pub struct Generator {
    /// Threads of the load generator. One takes least from a server on the same cores, since threads that wake each other cost more than
    /// they add; `live` needs two to be bounded by the server.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: u16,
}

impl Generator {
    pub(crate) fn runtime(&self) -> tokio::runtime::Runtime {
        let mut builder = match self.threads {
            1 => tokio::runtime::Builder::new_current_thread(),
            _ => tokio::runtime::Builder::new_multi_thread(),
        };
        builder.worker_threads(usize::from(self.threads)).enable_all().build().expect("a runtime can be built")
    }
}

/// A kept-alive connection.
pub(crate) struct Connection {
    stream: TcpStream,
    pub(crate) received: Vec<u8>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: std::ops::Range<usize>,
}

impl Connection {
    pub(crate) async fn open(address: &str) -> Connection {
        let stream = TcpStream::connect(address).await.expect("the server answers");
        stream.set_nodelay(true).expect("a socket option");
        Connection { stream, received: Vec::with_capacity(16 * 1024) }
    }

    /// Sends one request and reads its answer, which carries a `Content-Length`.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> std::io::Result<Answer> {
        self.stream.write_all(request).await?;
        self.received.clear();
        loop {
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let Some(head) = memchr::memmem::find(&self.received, b"\r\n\r\n") else { continue };
            let length = content_length(&self.received[..head]).unwrap_or(0);
            let end = head + 4 + length;
            if self.received.len() >= end {
                let status = std::str::from_utf8(&self.received[9..12]).ok().and_then(|s| s.parse().ok()).unwrap_or(0);
                return Ok(Answer { status, body: head + 4..end });
            }
        }
    }
}

fn content_length(head: &[u8]) -> Option<usize> {
    // The server's names are in lower case.
    let value = &head[memchr::memmem::find(head, b"\r\ncontent-length:")? + b"\r\ncontent-length:".len()..];
    let digits = value.split(|byte| *byte == b'\r').next()?;
    std::str::from_utf8(digits).ok()?.trim().parse().ok()
}

fn place(options: &Options, key: &str) -> Vec<u8> {
    let body = r#"{"currency":"EUR","country":"NL","lines":[{"sku":"TEA-01","description":"Green tea, 100 g","quantity":2,"unit_price":"4.95","tax_minor":89},{"sku":"TEA-02","description":"White tea, 50 g","quantity":1,"unit_price":"9.5","tax_minor":85},{"sku":"CUP-07","description":"Cup, stoneware","quantity":4,"unit_price":"12.25","tax_minor":1029}]}"#;
    post(options, "/api/v1/orders", key, body)
}

fn post(options: &Options, path: &str, key: &str, body: &str) -> Vec<u8> {
    request(&options.address, &options.token, "POST", path, Some(key), body)
}

/// A request as it is sent.
pub(crate) fn request(address: &str, token: &str, method: &str, path: &str, key: Option<&str>, body: &str) -> Vec<u8> {
    let key = key.map_or_else(String::new, |key| format!("Idempotency-Key: {key}\r\n"));
    let content = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n{content}{key}Content-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// Sends one request that has to be answered so, and reads the answer.
pub(crate) async fn must(connection: &mut Connection, request: Vec<u8>, status: u16) -> serde_json::Value {
    let answer = connection.ask(&request).await.expect("the server answers");
    let body = &connection.received[answer.body];
    assert_eq!(answer.status, status, "{}", String::from_utf8_lossy(body));
    serde_json::from_slice(body).expect("JSON")
}

fn pay(options: &Options, key: &str) -> Vec<u8> {
    let body = r#"{"amount_minor":4200,"currency":"EUR","token":"tok_approve","confirm":true}"#;
    post(options, "/api/v1/payments/intents", key, body)
}

fn get(options: &Options, path: &str) -> Vec<u8> {
    request(&options.address, &options.token, "GET", path, None, "")
}

/// Runs it.
pub async fn run(mut options: Options) {
    if options.token.is_empty() {
        options.token = std::env::var("BRANDOS_BENCH_TOKEN").unwrap_or_default();
    }
    let options = Arc::new(options);
    // A key of an earlier run must not be met again: the process id and a counter keep them apart.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let fresh = || format!("bench-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let mut orders = Vec::new();
    if matches!(options.what, What::Read | What::Mixed) {
        let mut connection = Connection::open(&options.address).await;
        for _ in 0..1_000 {
            let answer = connection.ask(&place(&options, &fresh())).await.expect("an order is placed");
            let body: serde_json::Value = serde_json::from_slice(&connection.received[answer.body]).expect("JSON");
            orders.push(body["order_id"].as_str().expect("an order has an id").to_owned());
        }
    }
    let reads: Arc<Vec<Vec<u8>>> = Arc::new(orders.iter().map(|id| get(&options, &format!("/api/v1/orders/{id}"))).collect());
    let live = Arc::new(get(&options, "/health/live"));
    let mut connections = Vec::new();
    for _ in 0..options.connections {
        connections.push(Mutex::new(Connection::open(&options.address).await));
    }
    let connections = Arc::new(connections);
    let mut rates = Vec::new();
    for _ in 0..options.runs {
        let (options_in, connections, reads, live) = (options.clone(), connections.clone(), reads.clone(), live.clone());
        let outcome: Outcome = callers(options.connections, options.seconds, move |caller, n| {
            let (options, connections, reads, live) = (options_in.clone(), connections.clone(), reads.clone(), live.clone());
            async move {
                let mut connection = connections[caller as usize].lock().await;
                let placing = match options.what {
                    What::Place | What::Pay => true,
                    What::Mixed => n % 10 == 0,
                    What::Read | What::Live => false,
                };
                let answer = if placing {
                    let key = format!("bench-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
                    let request = if options.what == What::Pay { pay(&options, &key) } else { place(&options, &key) };
                    connection.ask(&request).await
                } else if options.what == What::Live {
                    connection.ask(&live).await
                } else {
                    connection.ask(&reads[(caller as usize * 31 + n as usize) % reads.len()]).await
                };
                // A payment that goes on behind its answer is none that was made in this time.
                let captured = |body: &[u8]| body.windows(CAPTURED.len()).any(|text| text == CAPTURED);
                answer.is_ok_and(|answer| {
                    let paid = options.what != What::Pay || captured(&connection.received[answer.body.clone()]);
                    paid && answer.status == if placing { 201 } else { 200 }
                })
            }
        })
        .await;
        let name = match options.what {
            What::Place => "HTTP, place an order of 3 lines",
            What::Read => "HTTP, read an order",
            What::Mixed => "HTTP, nine reads for each order placed",
            What::Live => "HTTP, /health/live",
            What::Pay => "HTTP, a payment authorised and captured",
        };
        tell(&outcome.line(name));
        rates.push(outcome.per_second());
    }
    tell(&format!("median {:.0}/s with {} connections, load generator on the same machine", median(rates), options.connections));
}
