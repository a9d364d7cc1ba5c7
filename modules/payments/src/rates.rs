//! Exchange rates for display: a table of the platform, fed each minute from a file or an HTTP address. They move no money: an exchange in
//! the ledger states its own rate.

use crate::service::Payments;
use crate::sql;
use axum::Json;
use axum::extract::State as AppState;
use bytes::Bytes;
use client::{Method, Request as Outgoing};
use kernel::{Currency, Error, Result, Scope, Timestamp};
use ledger::Rate;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use store::{Read, Store, Tx};
use utoipa::{IntoParams, ToSchema};
use web::{Access, App, Caller, Query, Route, handlers};

/// The largest source, in bytes.
const MAX_BYTES: u64 = 64 * 1024;
/// Currencies of one source.
const MAX_RATES: usize = 400;
/// A rate that is older is shown as stale, in milliseconds: three days, since sources rest on weekends.
const STALE_MS: i64 = 3 * 86_400_000;

pub(crate) fn routes() -> Vec<Route> {
    vec![Route::new(Access::SignedIn, handlers!(list_rates)), Route::new(Access::SignedIn, handlers!(convert))]
}

/// What a source says: `{"base": "EUR", "at": "2026-01-05T12:00:00Z", "rates": {"USD": "1.0842"}}`; rates are texts or numbers.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Table {
    base: Currency,
    at: Timestamp,
    rates: BTreeMap<Currency, Value>,
}

impl Table {
    fn read(bytes: &[u8]) -> std::result::Result<Table, String> {
        let table: Table = serde_json::from_slice(bytes).map_err(|error| format!("not a table of rates: {error}"))?;
        if table.rates.len() > MAX_RATES {
            return Err(format!("more than {MAX_RATES} rates"));
        }
        table.nanos().map(|_| table)
    }

    /// Each rate in billionths, the base's own too.
    fn nanos(&self) -> std::result::Result<Vec<(Currency, i64)>, String> {
        let one = |(currency, value): (&Currency, &Value)| {
            // A number is rounded to what a rate can say; as JSON writes it, it may have an exponent or more digits.
            let text = match (value.as_str(), value.as_f64()) {
                (Some(text), _) => text.to_owned(),
                (None, Some(number)) => format!("{number:.9}"),
                (None, None) => value.to_string(),
            };
            text.parse::<Rate>().map(|rate| (*currency, rate.nanos())).map_err(|_| format!("{currency}: {text} is no rate"))
        };
        let mut all: Vec<(Currency, i64)> = self.rates.iter().map(one).collect::<std::result::Result<_, _>>()?;
        all.retain(|(currency, _)| *currency != self.base);
        all.push((self.base, 1_000_000_000));
        Ok(all)
    }
}

/// What the source says now.
async fn fetch(payments: &Payments, source: &str) -> std::result::Result<Table, String> {
    let bytes = if source.starts_with("http://") || source.starts_with("https://") {
        let ask = Outgoing { method: Method::GET, url: source.to_owned(), headers: Vec::new(), body: Bytes::new() };
        match payments.client().send(ask).await {
            Ok(answer) if answer.status == 200 => answer.body.to_vec(),
            Ok(answer) => return Err(format!("status {}", answer.status)),
            Err(failure) => return Err(failure.to_string()),
        }
    } else {
        let path = source.to_owned();
        let reading = tokio::task::spawn_blocking(move || {
            use std::io::Read as _;
            let mut bytes = Vec::new();
            std::fs::File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes).map(|_| bytes)
        });
        reading.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?
    };
    match bytes.len() as u64 > MAX_BYTES {
        true => Err(format!("more than {MAX_BYTES} bytes")),
        false => Table::read(&bytes),
    }
}

/// Takes over what the source says. Every node does; the last to write is right. Errors: `payments.rates_unavailable` when the source has
/// none, and then the rates of before stay, with their time; the store's.
pub(crate) async fn feed(payments: &Payments, store: &Store) -> Result<()> {
    let Some(source) = payments.rates_source() else { return Ok(()) };
    let unavailable =
        |why: String| Error::unavailable("payments.rates_unavailable", format!("the source of exchange rates has none: {why}"));
    let table = fetch(payments, source).await.map_err(unavailable)?;
    store.write(Scope::Platform, store_table, table).await
}

/// What the source no longer has goes with it.
fn store_table(tx: &mut Tx<'_>, table: &Table) -> Result<()> {
    let now = tx.now();
    let nanos = table.nanos().map_err(Error::internal)?;
    nanos.into_iter().try_for_each(|(currency, nanos)| tx.exec(sql::SET_RATE, (currency, table.base, nanos, table.at, now)))?;
    tx.exec(sql::FORGET_RATES, (now,))
}

/// Currency, base, billionths, the source's time, when it was asked.
type RateRow = (Currency, Currency, i64, Timestamp, Timestamp);

/// A rate as it is shown.
#[derive(Debug, Serialize, ToSchema)]
struct ExchangeRate {
    /// What one unit of the base buys so much of.
    currency: Currency,
    /// How much, as a decimal number.
    rate: String,
}

/// The table of rates.
#[derive(Debug, Serialize, ToSchema)]
struct ExchangeRates {
    /// Of each rate; none before the source has said anything.
    base: Option<Currency>,
    /// The source's own time.
    at: Option<Timestamp>,
    /// When the source was last asked with success.
    fetched_at: Option<Timestamp>,
    /// By currency.
    rates: Vec<ExchangeRate>,
}

async fn all(app: &App) -> Result<Vec<RateRow>> {
    app.store().peek(Scope::Platform, |read: &mut Read<'_>| read.all::<RateRow>(sql::RATES, ())).await
}

fn decimal(nanos: i64) -> String {
    Rate::from_nanos(nanos).map_or_else(|_| "0".to_owned(), |rate| rate.to_string())
}

/// Lists exchange rates for display.
#[utoipa::path(get, path = "/api/v1/rates", tag = "payments", responses((status = 200, body = ExchangeRates)))]
async fn list_rates(AppState(app): AppState<App>, _: Caller) -> web::Result<Json<ExchangeRates>> {
    let rows = all(&app).await?;
    let first = rows.first();
    Ok(Json(ExchangeRates {
        base: first.map(|row| row.1),
        at: first.map(|row| row.3),
        fetched_at: first.map(|row| row.4),
        rates: rows.iter().map(|row| ExchangeRate { currency: row.0, rate: decimal(row.2) }).collect(),
    }))
}

/// What is to be converted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Conversion {
    /// In minor units of `currency`.
    #[param(minimum = -1_000_000_000_000_i64, maximum = 1_000_000_000_000_i64)]
    amount_minor: i64,
    /// The currency of the amount.
    currency: Currency,
    /// The currency to show it in.
    display_currency: Currency,
}

/// An amount in another currency, for display.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
struct Converted {
    /// In minor units of `currency`, rounded half away from zero.
    amount_minor: i64,
    /// The currency.
    currency: Currency,
    /// What one unit of the amount's own currency buys, as a decimal number.
    rate: String,
    /// The source's time of the rate.
    at: Timestamp,
    /// Whether that is more than three days ago.
    stale: bool,
}

/// Converts an amount for display, and says at which rate and of when.
#[utoipa::path(get, path = "/api/v1/rates/convert", tag = "payments", params(Conversion), responses((status = 200, body = Converted)))]
async fn convert(AppState(app): AppState<App>, _: Caller, Query(asked): Query<Conversion>) -> web::Result<Json<Converted>> {
    if asked.amount_minor.unsigned_abs() > crate::model::MAX_AMOUNT_MINOR.unsigned_abs() {
        return Err(Error::field("amount_minor", "out_of_range", "at most 10^12 minor units").into());
    }
    let rows = all(&app).await?;
    Ok(Json(converted(&rows, &asked, app.clock().now())?))
}

fn converted(rows: &[RateRow], asked: &Conversion, now: Timestamp) -> Result<Converted> {
    if asked.currency == asked.display_currency {
        let (amount_minor, currency) = (asked.amount_minor, asked.currency);
        return Ok(Converted { amount_minor, currency, rate: "1".to_owned(), at: now, stale: false });
    }
    let unknown =
        || Error::not_found("payments.rate_unknown", format!("there is no rate between {} and {}", asked.currency, asked.display_currency));
    let row = |currency: Currency| rows.iter().find(|row| row.0 == currency).ok_or_else(unknown);
    let (from, to) = (row(asked.currency)?, row(asked.display_currency)?);
    let above = i128::from(asked.amount_minor) * i128::from(to.2) * i128::from(asked.display_currency.minor_per_major());
    let below = i128::from(from.2) * i128::from(asked.currency.minor_per_major());
    let rounded = (above.abs() * 2 + below) / (below * 2) * above.signum();
    let cross = (i128::from(to.2) * 1_000_000_000 + i128::from(from.2) / 2) / i128::from(from.2);
    let at = from.3.min(to.3);
    Ok(Converted {
        amount_minor: i64::try_from(rounded).map_err(|_| Error::field("amount_minor", "out_of_range", "more than can be counted"))?,
        currency: asked.display_currency,
        rate: decimal(i64::try_from(cross).unwrap_or(i64::MAX)),
        at,
        stale: now.ms_since(at) > STALE_MS,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::PaymentsConfig;
    use crate::tests::world::{policies, setup_of};
    use testkit::TestApp;

    fn currency(code: &str) -> Currency {
        code.parse().expect("a currency")
    }

    #[test]
    fn amounts_are_converted_exactly_and_rounded_once() {
        let at = Timestamp::from_micros(0);
        let rows: Vec<RateRow> = [("EUR", 1_000_000_000), ("USD", 1_084_200_000), ("JPY", 169_310_000_000), ("BHD", 408_500_000)]
            .map(|(code, nanos)| (currency(code), currency("EUR"), nanos, at, at))
            .to_vec();
        let convert = |amount_minor: i64, from: &str, to: &str| {
            converted(&rows, &Conversion { amount_minor, currency: currency(from), display_currency: currency(to) }, at)
                .map(|c| (c.amount_minor, c.rate))
        };
        assert_eq!(convert(10_000, "EUR", "USD").ok(), Some((10_842, "1.0842".to_owned())));
        assert_eq!(convert(100, "EUR", "JPY").ok().map(|c| c.0), Some(169));
        assert_eq!(convert(1_000, "JPY", "EUR").ok(), Some((591, "0.005906326".to_owned())));
        assert_eq!(convert(1_000, "BHD", "USD").ok().map(|c| c.0), Some(265));
        assert_eq!(convert(-10_000, "EUR", "USD").ok().map(|c| c.0), Some(-10_842));
        assert_eq!(convert(77, "EUR", "EUR").ok(), Some((77, "1".to_owned())));
        assert_eq!(convert(1, "EUR", "GBP").err().map(|e| e.code()), Some("payments.rate_unknown"));
    }

    #[test]
    fn numbers_are_rates_however_json_writes_them() {
        let read = |rate: &str| {
            let text = format!(r#"{{"base":"EUR","at":"2026-01-05T12:00:00Z","rates":{{"USD":{rate}}}}}"#);
            Table::read(text.as_bytes()).and_then(|table| table.nanos()).map(|nanos| nanos[0].1)
        };
        let table = [
            ("1.0842", 1_084_200_000),
            ("\"1.0842\"", 1_084_200_000),
            ("0.00001", 10_000),
            ("1e-5", 10_000),
            ("25000", 25_000_000_000_000),
            ("0.3333333333333333", 333_333_333),
        ];
        for (rate, nanos) in table {
            assert_eq!(read(rate), Ok(nanos), "{rate}");
        }
        for rate in ["0", "-1", "1e-10", "1e300", "true", "null", "\"1e-5\""] {
            assert!(read(rate).is_err(), "{rate}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_file_feeds_the_table() {
        for engine in [store::Engine::Sqlite, store::Engine::Postgres] {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("rates.json");
            let put = |text: &str| std::fs::write(&path, text).expect("written");
            put(r#"{"base":"EUR","at":"2026-01-05T12:00:00Z","rates":{"USD":"1.0842","GBP":0.8612}}"#);
            let config = PaymentsConfig {
                sealing_key: [7; 32],
                base_urls: Vec::new(),
                call_timeout_ms: 500,
                rates: Some(path.display().to_string()),
                policies: policies(),
            };
            let payments = Payments::new(&config).expect("payments");
            let Some(app) = TestApp::start(engine, setup_of(config)).await else { continue };
            let acme = app.client("acme", &[]);
            let convert = async |to: &str| {
                acme.get(format!("/api/v1/rates/convert?amount_minor=10000&currency=EUR&display_currency={to}")).send().await
            };
            payments.feed_rates(app.store()).await.expect("fed");
            let shown = convert("USD").await.expect(200).json;
            assert_eq!((&shown["amount_minor"], &shown["at"]), (&10_842.into(), &"2026-01-05T12:00:00.000000Z".into()), "{shown}");
            assert_eq!(convert("GBP").await.expect(200).json["rate"], "0.8612");
            // What is no table changes nothing.
            put(r#"{"base":"EUR","at":"2026-01-05T12:01:00Z","rates":{"USD":"-1"}}"#);
            assert_eq!(payments.feed_rates(app.store()).await.err().map(|e| e.code()), Some("payments.rates_unavailable"));
            assert_eq!(convert("USD").await.expect(200).json["rate"], "1.0842");
            put(r#"{"base":"EUR","at":"2026-01-05T12:02:00Z","rates":{"USD":"1.1"}}"#);
            app.advance_ms(60_000).await;
            payments.feed_rates(app.store()).await.expect("fed");
            assert_eq!(convert("USD").await.expect(200).json["rate"], "1.1");
            convert("GBP").await.expect_problem(404, "payments.rate_unknown");
            app.finish().await;
        }
    }
}
