//! Checkouts of one hot item over HTTP, through the storefront, up to the payment's authorisation: a steady load on kept-alive connections,
//! or a flash sale, in which everybody presses "buy" at once.

use crate::http::{Connection, Generator, must, request};
use crate::measure::{Outcome, callers, histogram, median, tell};
use clap::Args;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::sync::{Barrier, Mutex};
use tokio::task::JoinSet;

/// Options of `checkout`. The tenant needs a provider of payments.
#[derive(Args)]
pub struct Options {
    /// `host:port` of the server.
    #[arg(long, default_value = "127.0.0.1:8080")]
    address: String,
    /// An API key with the permissions of a shop's owner; may be given as BRANDOS_BENCH_TOKEN.
    #[arg(long, env = "BRANDOS_BENCH_TOKEN", hide_env_values = true)]
    token: String,
    /// A publishable key of the same tenant.
    #[arg(long)]
    publishable_key: String,
    /// Connections, each with one checkout at a time.
    #[arg(long, default_value_t = 256)]
    connections: u64,
    /// Seconds for each run.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Runs, of which the median counts.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Buyers of a flash sale, each with a connection and one checkout, instead of a steady load.
    #[arg(long)]
    buyers: Option<u64>,
    /// Units that the flash sale has.
    #[arg(long, default_value_t = 1_000)]
    units: u64,
    #[command(flatten)]
    pub(crate) generator: Generator,
}

/// In the answer to a checkout that has become an order.
const COMPLETED: &[u8] = br#""state":"completed""#;
/// In the answer to one that found nothing left.
const SOLD_OUT: &[u8] = br#""inventory.insufficient""#;

fn contains(body: &[u8], text: &[u8]) -> bool {
    body.windows(text.len()).any(|window| window == text)
}

/// A product with one variant and so many in stock; gives the variant's id. Payments are authorised, and taken when goods are shipped.
async fn stock(options: &Options, units: u64) -> String {
    let mut connection = Connection::open(&options.address).await;
    let name = format!("HOT-{}-{units}-{}", std::process::id(), next());
    let ask = |method: &str, path: &str, body: serde_json::Value| {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        request(&options.address, &options.token, method, path, None, &body)
    };
    let product =
        json!({ "title": name, "status": "active", "variants": [{ "sku": name, "prices": [{ "currency": "EUR", "price": "42.00" }] }] });
    let product = must(&mut connection, ask("POST", "/api/v1/products", product), 201).await;
    let variant_id = product["variants"][0]["variant_id"].as_str().expect("an id").to_owned();
    let place = must(&mut connection, ask("POST", "/api/v1/inventory/locations", json!({ "kind": "warehouse", "name": name })), 201).await;
    let item = must(&mut connection, ask("POST", "/api/v1/inventory/items", json!({ "sku": name, "name": name })), 201).await;
    let made_of = json!({ "variant_id": variant_id, "components": [{ "item_id": item["item_id"], "quantity": 1 }] });
    must(&mut connection, ask("PUT", "/api/v1/inventory/components", made_of), 200).await;
    let line = json!({ "kind": "received", "item_id": item["item_id"], "location_id": place["location_id"], "quantity": units });
    must(&mut connection, ask("POST", "/api/v1/inventory/movements", json!({ "reference": "delivery", "lines": [line] })), 201).await;
    let mut settings = must(&mut connection, ask("GET", "/api/v1/checkout-settings", serde_json::Value::Null), 200).await;
    settings["capture"] = json!("manual");
    must(&mut connection, ask("PUT", "/api/v1/checkout-settings", settings), 200).await;
    variant_id
}

/// A number that this process has not given yet.
fn next() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn buy(options: &Options, variant_id: &str) -> Vec<u8> {
    let key = format!("bench-{}-{}", std::process::id(), next());
    let body = format!(
        r#"{{"lines":[{{"variant_id":"{variant_id}","quantity":1}}],"currency":"EUR","email":"ada@example.com","destination":{{"country":"NL","postcode":"1011 AB"}},"payment_token":"tok_approve"}}"#
    );
    request(&options.address, &options.publishable_key, "POST", "/api/v1/storefront/checkouts", Some(&key), &body)
}

/// Runs it.
pub async fn run(options: Options) {
    let options = Arc::new(options);
    match options.buyers {
        Some(buyers) => {
            for _ in 0..options.runs {
                flash(&options, buyers).await;
            }
        }
        None => steady(&options).await,
    }
}

async fn steady(options: &Arc<Options>) {
    let variant_id: Arc<str> = stock(options, 1_000_000).await.into();
    let mut connections = Vec::new();
    for _ in 0..options.connections {
        connections.push(Mutex::new(Connection::open(&options.address).await));
    }
    let connections = Arc::new(connections);
    let mut rates = Vec::new();
    for _ in 0..options.runs {
        let (options_in, connections, variant_id) = (options.clone(), connections.clone(), variant_id.clone());
        let outcome: Outcome = callers(options.connections, options.seconds, move |caller, _| {
            let (options, connections, variant_id) = (options_in.clone(), connections.clone(), variant_id.clone());
            async move {
                let mut connection = connections[caller as usize].lock().await;
                let answer = connection.ask(&buy(&options, &variant_id)).await;
                // A checkout that goes on behind its answer is none that was done in this time.
                answer.is_ok_and(|answer| answer.status == 201 && contains(&connection.received[answer.body], COMPLETED))
            }
        })
        .await;
        tell(&outcome.line("HTTP, a checkout reserved and authorised"));
        rates.push(outcome.per_second());
    }
    tell(&format!("median {:.0}/s with {} connections, load generator on the same machine", median(rates), options.connections));
}

/// Everybody presses "buy" at once. An answer that says "later" is asked again, as a page does, and counts with all its time.
async fn flash(options: &Arc<Options>, buyers: u64) {
    let variant_id: Arc<str> = stock(options, options.units).await.into();
    let start = Arc::new(Barrier::new(buyers as usize + 1));
    let mut tasks = JoinSet::new();
    for _ in 0..buyers {
        let (options, variant_id, start) = (options.clone(), variant_id.clone(), start.clone());
        tasks.spawn(async move {
            let mut connection = Connection::open(&options.address).await;
            let ask = buy(&options, &variant_id);
            start.wait().await;
            let began = Instant::now();
            let mut later = 0_u64;
            loop {
                // One that waited too long for its request was closed: the same key on a new one.
                let Ok(answer) = connection.ask(&ask).await else {
                    later += 1;
                    connection = Connection::open(&options.address).await;
                    continue;
                };
                let body = &connection.received[answer.body];
                let sold = match answer.status {
                    201 if contains(body, COMPLETED) => Some(true),
                    409 if contains(body, SOLD_OUT) => Some(false),
                    429 | 503 => {
                        later += 1;
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                        continue;
                    }
                    _ => None,
                };
                return (sold, later, began.elapsed());
            }
        });
    }
    start.wait().await;
    let began = Instant::now();
    let (mut sold, mut out, mut other, mut later, mut latency) = (0_u64, 0_u64, 0_u64, 0_u64, histogram());
    let mut last_sold = std::time::Duration::ZERO;
    while let Some(done) = tasks.join_next().await {
        let (outcome, again, took) = done.expect("a buyer does not panic");
        later += again;
        match outcome {
            Some(true) => {
                sold += 1;
                last_sold = last_sold.max(took);
            }
            Some(false) => out += 1,
            None => other += 1,
        }
        latency.saturating_record(took.as_micros().max(1) as u64);
    }
    let seconds = began.elapsed().as_secs_f64();
    let ms = |quantile: f64| latency.value_at_quantile(quantile) as f64 / 1e3;
    tell(&format!(
        "{buyers} buyers for {} units: {sold} sold, the last after {:.2} s, {out} sold out, {other} other; {later} times told to come later; all answered in {seconds:.2} s ({:.0}/s), p50 {:.0} ms, p99 {:.0} ms",
        options.units,
        last_sold.as_secs_f64(),
        buyers as f64 / seconds,
        ms(0.5),
        ms(0.99)
    ));
}
