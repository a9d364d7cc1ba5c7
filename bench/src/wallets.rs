//! Transfers between wallets over HTTP: each with an `Idempotency-Key`, limits of a KYC level that count, and a score. A closed loop on
//! kept-alive connections, cheap enough to share two cores with the server.

use crate::http::{Connection, Generator, must};
use crate::measure::{Outcome, callers, median, tell};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Mutex;

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// From one person to another.
    Transfer,
    /// To a merchant, with a fee.
    Payment,
    /// `/health/live`: what the server and the generator cost without the store.
    Live,
}

/// Options of `wallets`.
#[derive(Args)]
pub struct Options {
    /// `host:port` of the server.
    #[arg(long, default_value = "127.0.0.1:8080")]
    address: String,
    /// An API key or access token with the permissions of wallets; may be given as BRANDOS_BENCH_TOKEN.
    #[arg(long, default_value = "")]
    token: String,
    /// What is asked.
    #[arg(long, value_enum, default_value = "transfer")]
    what: What,
    /// Wallets that send to each other.
    #[arg(long, default_value_t = 10_000)]
    wallets: u64,
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

fn request(options: &Options, method: &str, path: &str, key: Option<&str>, body: &str) -> Vec<u8> {
    crate::http::request(&options.address, &options.token, method, path, key, body)
}

/// The policy that is in force, with a score that is reckoned and refuses nobody: a benchmark looks like a machine that sends too much.
async fn tolerate(options: &Options, connection: &mut Connection) {
    let mut policy = must(connection, request(options, "GET", "/api/v1/wallet-policy", None, ""), 200).await["policy"].take();
    policy["fraud"]["thresholds"] = json!({ "challenge": 1001, "review": 1001, "deny": 1001 });
    let most =
        json!({ "per_transfer_minor": 1_000_000_000, "per_day_minor": 100_000_000_000_i64, "per_month_minor": 1_000_000_000_000_i64 });
    policy["levels"] = json!([{ "level": 2, "name": "bench", "otherwise": most }]);
    must(connection, request(options, "PUT", "/api/v1/wallet-policy", None, &policy.to_string()), 200).await;
}

/// Opens wallets with money in them, on all connections at once.
async fn open(options: &Arc<Options>, count: u64, kind: &'static str) -> Vec<String> {
    let each = count.div_ceil(options.connections.min(count));
    let tasks = (0..options.connections.min(count)).map(|caller| {
        let options = options.clone();
        tokio::spawn(async move {
            let mut connection = Connection::open(&options.address).await;
            let mut opened = Vec::new();
            for n in 0..each {
                let wallet = json!({ "kind": kind, "name": "bench", "level": 2, "currencies": ["EUR"] }).to_string();
                let wallet = must(&mut connection, request(&options, "POST", "/api/v1/wallets", None, &wallet), 201).await;
                let wallet_id = wallet["wallet_id"].as_str().expect("an id").to_owned();
                let reference = format!("bench-{}-{kind}-{caller}-{n}", std::process::id());
                let deposit = json!({ "amount_minor": 1_000_000_000, "currency": "EUR", "reference": reference }).to_string();
                let path = format!("/api/v1/wallets/{wallet_id}/deposits");
                must(&mut connection, request(&options, "POST", &path, None, &deposit), 201).await;
                opened.push(wallet_id);
            }
            opened
        })
    });
    let mut all = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        all.extend(task.await.expect("wallets are opened"));
    }
    all
}

/// Runs it.
pub async fn run(mut options: Options) {
    if options.token.is_empty() {
        options.token = std::env::var("BRANDOS_BENCH_TOKEN").unwrap_or_default();
    }
    let options = Arc::new(options);
    let mut first = Connection::open(&options.address).await;
    let (mut people, mut merchants) = (Vec::new(), Vec::new());
    if options.what != What::Live {
        tolerate(&options, &mut first).await;
        people = open(&options, options.wallets, "user").await;
        if options.what == What::Payment {
            merchants = open(&options, 100, "merchant").await;
        }
    }
    let (people, merchants) = (Arc::new(people), Arc::new(merchants));
    let mut connections = Vec::new();
    for _ in 0..options.connections {
        connections.push(Mutex::new(Connection::open(&options.address).await));
    }
    let connections = Arc::new(connections);
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut rates = Vec::new();
    for _ in 0..options.runs {
        let (options_in, connections, people, merchants) = (options.clone(), connections.clone(), people.clone(), merchants.clone());
        let outcome: Outcome = callers(options.connections, options.seconds, move |caller, _| {
            let (options, connections, people, merchants) = (options_in.clone(), connections.clone(), people.clone(), merchants.clone());
            async move {
                let mut connection = connections[caller as usize].lock().await;
                if options.what == What::Live {
                    return connection.ask(&request(&options, "GET", "/health/live", None, "")).await.is_ok_and(|answer| answer.status == 200);
                }
                let n = NEXT.fetch_add(1, Ordering::Relaxed);
                // A scattered payer, and one of sixteen payees of his: people send to those that they know.
                let count = people.len() as u64;
                let payer = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % count;
                let (kind, payee) = match options.what {
                    What::Payment => ("payment", &merchants[(n % merchants.len() as u64) as usize]),
                    _ => ("transfer", &people[((payer + 1 + n % 16) % count) as usize]),
                };
                let from = &people[payer as usize];
                let body = format!(
                    r#"{{"kind":"{kind}","from_wallet_id":"{from}","to_wallet_id":"{payee}","amount_minor":{},"currency":"EUR","note":"lunch","whence":{{"device":"phone-{payer}","country":"DE"}}}}"#,
                    100 + n % 900
                );
                let key = format!("bench-{}-{n}", std::process::id());
                let asked = connection.ask(&request(&options, "POST", "/api/v1/wallet-transfers", Some(&key), &body)).await;
                asked.is_ok_and(|answer| answer.status == 201)
            }
        })
        .await;
        let name = match options.what {
            What::Transfer => "HTTP, a transfer between wallets with key, limits and score",
            What::Payment => "HTTP, a payment to a merchant with key, limits, score and fee",
            What::Live => "HTTP, /health/live",
        };
        tell(&outcome.line(name));
        rates.push(outcome.per_second());
    }
    tell(&format!(
        "median {:.0}/s with {} connections and {} wallets, load generator on the same machine",
        median(rates),
        options.connections,
        people.len()
    ));
}
