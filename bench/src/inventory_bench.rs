//! Reservations of one hot item, in process: three ways to make them, taken in turn within one run.
//!
//! - optimistic: the level is read on a snapshot beside the lane, and updated if it is still what was read; else again from the start
//! - pessimistic: `inventory::api::reserve` as a command of its own: the lane is the lock, the level is read and updated under it
//! - grouped: `inventory::api::submit`: those that wait in the lane are decided together, the level is written once for all of them

use crate::measure::{Outcome, callers, fsyncs_per_second, median, tell};
use clap::Args;
use inventory::api::{self, Component, Demand, ItemId, LocationId, LocationKind, MAX_QUANTITY, NewItem, NewLocation, VariantId};
use kernel::{Error, IdGenerator, Result, SystemClock, TenantId, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use store::{Call, Environment, ShardConfig, Store, StoreConfig, Tx};

/// Options of `inventory`.
#[derive(Args)]
pub struct Options {
    /// A PostgreSQL to measure instead of SQLite: `postgres://...`; it has to be empty.
    #[arg(long)]
    postgres: Option<String>,
    /// Seconds for each run.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Runs of each way, of which the median counts.
    #[arg(long, default_value_t = 3)]
    runs: u64,
    /// Callers at once.
    #[arg(long, default_value_t = 512)]
    callers: u64,
    /// Folder for the SQLite file; a temporary one unless given.
    #[arg(long)]
    folder: Option<std::path::PathBuf>,
}

const TENANT: TenantId = TenantId::from_i64(1);
/// The most that one level takes in: enough for every run.
const UNITS: i64 = MAX_QUANTITY;

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Optimistic,
    Pessimistic,
    Grouped,
}

/// The item that everybody wants.
#[derive(Clone, Copy)]
struct Hot {
    item_id: ItemId,
    location_id: LocationId,
    variant_id: VariantId,
}

fn set_up(tx: &mut Tx<'_>, _: &()) -> Result<Hot> {
    let item = api::create_item(tx, &NewItem { sku: "HOT".to_owned(), ..NewItem::default() })?;
    let hall = NewLocation {
        kind: LocationKind::Warehouse,
        name: "Hall".to_owned(),
        address: api::Address::default(),
        coordinates: None,
        priority: 0,
        active: true,
    };
    let location_id = api::create_location(tx, &hall)?.location_id;
    let variant_id = tx.new_id();
    api::set_components(tx, variant_id, vec![Component { item_id: item.item_id, quantity: 1 }])?;
    api::receive(tx, item.item_id, location_id, UNITS, "bench")?;
    Ok(Hot { item_id: item.item_id, location_id, variant_id })
}

/// A reservation that rests on a level as it was read beside the lane.
struct Optimistic {
    hot: Hot,
    reference: String,
    expires_at: Timestamp,
    seen: i64,
}

fn swap(tx: &mut Tx<'_>, wanted: &Optimistic) -> Result<()> {
    const UPDATE: &str = "UPDATE inventory_levels SET reserved = reserved + 1
        WHERE tenant_id = $1 AND item_id = $2 AND location_id = $3 AND reserved = $4 AND on_hand - reserved - safety >= 1";
    const INSERT: &str =
        "INSERT INTO inventory_reservations (tenant_id, reference, state, expires_at, promised_at, lines, allocations, created_at, updated_at)
        VALUES ($1, $2, 'held', $3, NULL, $4, $5, $6, $6)";
    let Optimistic { hot, reference, expires_at, seen } = wanted;
    tx.must(UPDATE, (hot.item_id, hot.location_id, seen), || Error::conflict("bench.conflict", "somebody was faster"))?;
    let (item, place, now) = (hot.item_id.as_i64(), hot.location_id.as_i64(), tx.now());
    let allocations = format!("[[0,{item},{place},1,0,0,0]]");
    tx.exec(INSERT, (reference, expires_at, format!("[[{},1]]", hot.variant_id.as_i64()), allocations, now))
}

async fn optimistic(store: &Store, hot: Hot, reference: String, expires_at: Timestamp, again: &AtomicU64) -> bool {
    loop {
        let level = store.peek(TENANT, move |read| api::level(read, hot.item_id, hot.location_id)).await;
        let Ok(level) = level else { return false };
        let wanted = Optimistic { hot, reference: reference.clone(), expires_at, seen: level.reserved };
        match store.write(Call::new(TENANT).deadline_ms(60_000), swap, wanted).await {
            Ok(()) => return true,
            Err(error) if error.code() == "bench.conflict" => drop(again.fetch_add(1, Relaxed)),
            Err(_) => return false,
        }
    }
}

async fn measure(store: &Store, way: Way, hot: Hot, options: &Options, round: u64, again: &Arc<AtomicU64>) -> Outcome {
    let (store, again) = (store.clone(), again.clone());
    let letter = ['o', 'p', 'g'][way as usize];
    callers(options.callers, options.seconds, move |caller, n| {
        let (store, again) = (store.clone(), again.clone());
        async move {
            let expires_at = store.clock().now().plus_ms(900_000);
            // As references are in life: rising with time, near enough.
            let reference = format!("chk_{letter}{round:02}{n:08}{caller:04}");
            let demand =
                |reference| Demand { reference, lines: vec![(hot.variant_id, 1)], expires_at: Some(expires_at), destination: None };
            match way {
                Way::Optimistic => optimistic(&store, hot, reference, expires_at, &again).await,
                Way::Pessimistic => store.write(Call::new(TENANT).deadline_ms(60_000), api::reserve, demand(reference)).await.is_ok(),
                Way::Grouped => api::submit(&store, Call::new(TENANT).deadline_ms(60_000), demand(reference)).await.is_ok(),
            }
        }
    })
    .await
}

/// Runs it.
pub async fn run(options: Options) {
    let temporary = tempfile::tempdir().expect("a folder");
    let folder = options.folder.clone().unwrap_or_else(|| temporary.path().to_owned());
    let shard = match &options.postgres {
        Some(url) => {
            tell(&format!("PostgreSQL; {} callers, {} s a run", options.callers, options.seconds));
            ShardConfig::Postgres { url: url.clone(), lanes: 4, prepared: true, replicas: Vec::new() }
        }
        None => {
            let fsyncs = fsyncs_per_second(&folder);
            let (callers, seconds) = (options.callers, options.seconds);
            tell(&format!("SQLite, WAL, synchronous=FULL; {callers} callers, {seconds} s a run; fsync of 4 KiB: {fsyncs:.0}/s"));
            ShardConfig::Sqlite { path: folder.join("inventory.db") }
        }
    };
    let clock = Arc::new(SystemClock);
    let environment = Environment { clock: clock.clone(), ids: Arc::new(IdGenerator::new(clock, 1)) };
    // All callers belong to one tenant and wait for as long as it takes: this measures throughput.
    let config = StoreConfig { queue_wait_ms: 0, ..StoreConfig::with_shards(vec![shard]) };
    let migrations = [log::migrations(), workflow::migrations(), inventory::module().migrations];
    let store = Store::open(config, &migrations, environment).expect("the store opens");
    let hot = store.write(TENANT, set_up, ()).await.expect("an item with stock");
    let ways = [
        (Way::Optimistic, "optimistic: read, then swap"),
        (Way::Pessimistic, "pessimistic: under the lane"),
        (Way::Grouped, "grouped: a set of the lane"),
    ];
    let mut rates = [const { Vec::new() }; 3];
    let mut made = 0;
    for round in 0..options.runs {
        for (way, name) in ways {
            let again = Arc::new(AtomicU64::new(0));
            let outcome = measure(&store, way, hot, &options, round, &again).await;
            let swaps = if way == Way::Optimistic { format!("   begun again {}", again.load(Relaxed)) } else { String::new() };
            tell(&format!("{}{swaps}", outcome.line(name)));
            made += outcome.done;
            rates[way as usize].push(outcome.per_second());
        }
    }
    let [optimistic, pessimistic, grouped] = rates.map(median);
    tell(&format!("medians: optimistic {optimistic:.0}/s, pessimistic {pessimistic:.0}/s, grouped {grouped:.0}/s"));
    tell(&format!("grouped / pessimistic: {:.1}; pessimistic / optimistic: {:.1}", grouped / pessimistic, pessimistic / optimistic));
    let level = store.read(TENANT, move |read| api::level(read, hot.item_id, hot.location_id)).await.expect("the level");
    assert_eq!(level.reserved as u64, made, "each reservation that was granted is counted once");
    for audit in inventory::module().audits {
        if let web::AuditCheck::Tenant(check) = audit.check {
            let outcome = store.read(TENANT, check).await.expect("the audit runs");
            assert!(outcome.ok, "{}: {}", audit.name, outcome.detail);
        }
    }
    tell(&format!("{made} reservations, and the audits are well"));
    store.close().await;
}
