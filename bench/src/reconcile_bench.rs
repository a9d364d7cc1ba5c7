//! Reconciliation in process: a generated day of payments in the store, the provider's file with twelve kinds of differences, and how long
//! and in how much memory they are found.

use crate::measure::tell;
use clap::Args;
use kernel::{IdGenerator, SystemClock, TenantId, Timestamp};
use payments::reconcile::{Format, Source, reconcile};
use payments::{IntentId, OperationId, ProviderId};
use sandbox::GeneratedDay;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Instant;
use store::{Call, Environment, ShardConfig, Store, StoreConfig, Tx};

/// Options of `reconcile`.
#[derive(Args)]
pub struct Options {
    /// A PostgreSQL to measure instead of SQLite: `postgres://...`; its tables are made in it.
    #[arg(long)]
    postgres: Option<String>,
    /// Movements of the day.
    #[arg(long, default_value_t = 1_000_000)]
    movements: u64,
    /// One movement of so many differs.
    #[arg(long, default_value_t = 500)]
    one_in: u64,
}

const TENANT: TenantId = TenantId::from_i64(1);
const PROVIDER: ProviderId = ProviderId::from_i64(77);
const DAY: &str = "2026-01-05";
/// Movements that are made in one transaction.
const BLOCK: u64 = 5_000;

fn ids(number: u64) -> (IntentId, OperationId) {
    (IntentId::from_i64(1_000_000 + number as i64), OperationId::from_i64(500_000_000_000 + number as i64))
}

fn names(number: u64) -> (String, String, String) {
    let (intent_id, operation_id) = ids(number);
    (format!("ch_{number:010}"), format!("{intent_id}-1"), operation_id.to_string())
}

fn provider(tx: &mut Tx<'_>, (format,): &(String,)) -> kernel::Result<()> {
    let now = tx.now();
    let insert = "INSERT INTO payments_providers (tenant_id, provider_id, version, name, kind, base_url, sealed, honours_keys, enabled, created_at, updated_at)
VALUES ($1, $2, 1, 'bench', 'sandbox', 'http://127.0.0.1:9', $3, TRUE, TRUE, $4, $4) ON CONFLICT DO NOTHING";
    tx.exec(insert, (PROVIDER, vec![0_u8], now))?;
    tx.exec(
        "INSERT INTO payments_formats (tenant_id, provider_id, version, format) VALUES ($1, $2, 1, $3) ON CONFLICT DO NOTHING",
        (PROVIDER, format),
    )
}

/// Intents and operations as so many captures and refunds would have left them.
fn fill(tx: &mut Tx<'_>, (day, from, to): &(GeneratedDay, u64, u64)) -> kernel::Result<()> {
    let at: Timestamp = format!("{DAY}T09:00:00Z").parse()?;
    for number in *from..*to {
        let made = day.movement(number);
        let (intent_id, operation_id) = ids(number);
        let refunded = if made.refund { made.amount_minor } else { 0 };
        let insert = "INSERT INTO payments_intents (tenant_id, intent_id, version, state, asking, capture_open, amount_minor, currency, captured_minor,
  capturing_minor, refunded_minor, refunding_minor, fee_minor, method, capture_mode, country, merchant, token, provider_id, provider_charge, attempt,
  created_at, updated_at)
VALUES ($1, $2, 1, 'captured', FALSE, FALSE, $3, 'EUR', $3, 0, $4, 0, $5, 'card', 'automatic', '', '', '', $6, $7, 1, $8, $8)";
        tx.exec(insert, (intent_id, made.amount_minor, refunded, made.fee_minor, PROVIDER, format!("ch_{number:010}"), at))?;
        let insert = "INSERT INTO payments_operations (tenant_id, intent_id, operation_id, kind, state, amount_minor, fee_minor, last, cause, reason,
  begun_at, ended_at, provider_id)
VALUES ($1, $2, $3, $4, 'succeeded', $5, $6, TRUE, 'request', '', $7, $7, $8)";
        let kind = if made.refund { "refund" } else { "capture" };
        tx.exec(insert, (intent_id, operation_id, kind, made.amount_minor, made.fee_minor, at, PROVIDER))?;
    }
    Ok(())
}

/// The most memory that the process has held since the mark was last set, in MiB; none where the system doesn't tell.
fn peak_mib(reset: bool) -> Option<u64> {
    if reset {
        std::fs::write("/proc/self/clear_refs", "5").ok()?;
    }
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib / 1024)
}

/// Runs it.
pub async fn run(options: Options) {
    let folder = tempfile::tempdir().expect("a folder");
    let shard = match &options.postgres {
        Some(url) => ShardConfig::Postgres { url: url.clone(), lanes: 4, prepared: true, replicas: Vec::new() },
        None => ShardConfig::Sqlite { path: folder.path().join("bench.db") },
    };
    let clock = Arc::new(SystemClock);
    let environment = Environment { clock: clock.clone(), ids: Arc::new(IdGenerator::new(clock, 1)) };
    let config = StoreConfig { queue_wait_ms: 0, ..StoreConfig::with_shards(vec![shard]) };
    let migrations = [log::migrations(), workflow::migrations(), ledger::module().migrations, payments::module().migrations];
    let store = Store::open(config, &migrations, environment).expect("the store opens");
    let mut format = Format::sandbox();
    format.columns.status = Some("status".to_owned());
    let format = serde_json::to_string(&format).expect("a format");
    store.write(TENANT, provider, (format,)).await.expect("a provider");
    let day = GeneratedDay { seed: 1, movements: options.movements, one_in: options.one_in, day: DAY, later: "2026-01-10" };
    for from in (0..options.movements).step_by(BLOCK as usize) {
        let call = Call::new(TENANT).deadline_ms(120_000);
        store.write(call, fill, (day, from, (from + BLOCK).min(options.movements))).await.expect("filled");
    }
    let path = folder.path().join("day.csv");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path).expect("a file"));
    let rows = day.write(&mut file, names).expect("written");
    file.flush().expect("written");
    drop(file);
    let bytes = std::fs::metadata(&path).map_or(0, |m| m.len());
    let before = peak_mib(true);
    let began = Instant::now();
    // Captured on the 5th, compared on the 6th.
    let run = reconcile(&store, TENANT, PROVIDER, Source::Path(path), 20_459).await.expect("compared");
    let seconds = began.elapsed().as_secs_f64();
    let peak = peak_mib(false);
    assert_eq!(run.summary.breaks, day.differences(), "every difference is found, and none is invented");
    tell(&format!(
        "{rows} rows ({} MiB) against {} operations: {seconds:.1} s, {:.0} rows/s; {} of {} differences found in {} kinds, none invented; {} match; memory {} MiB before, {} MiB at most",
        bytes >> 20,
        run.summary.operations,
        rows as f64 / seconds,
        run.summary.breaks.values().sum::<u64>(),
        day.differences().values().sum::<u64>(),
        run.summary.breaks.len(),
        run.summary.matched,
        before.unwrap_or(0),
        peak.unwrap_or(0),
    ));
}
