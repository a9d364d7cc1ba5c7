//! What a serving node does from time to time: the directory of tenants read again, partitions made ahead of their months, the planner told
//! of new tables.

use crate::flows::intake::OrderIntake;
use crate::wiring::Node;
use kernel::Clock;
use ledger::api::SealKey;
use payments::Payments;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use store::{Engine, ShardConfig, Store};
use tokio::task::JoinSet;

/// Other processes move tenants too (`brandos tenant move`, also beside a server with an embedded folder): how often their places are
/// read again. A move keeps what it has copied for several of these, for reads that don't know yet.
const DIRECTORY: Duration = Duration::from_secs(1);
/// How often it is seen to that the coming months have their partitions.
const PARTITIONS: Duration = Duration::from_secs(6 * 3600);
/// How often holds of money whose time is over are released. They hold nothing meanwhile; this writes it down.
const HOLDS: Duration = Duration::from_secs(10);
/// How often what was written to ledgers is sealed.
const SEALS: Duration = Duration::from_secs(10);
/// How often it is noted what is hot in the caches, how many keys of each, and how long a start may load them.
const HOT: Duration = Duration::from_secs(60);
const HOT_KEYS: usize = 1_000;
const WARM_WITHIN: Duration = Duration::from_secs(10);
const HOT_FILE: &str = "caches-hot.json";
/// How often exchange rates are taken over from their source.
const RATES: Duration = Duration::from_secs(60);
/// How often it is looked for tables that have outgrown what the planner knows of them; PostgreSQL's own look is a minute away when a new
/// shop opens.
const GROWN_TABLES: Duration = Duration::from_secs(2);
/// So many months are made ahead.
const MONTHS_AHEAD: u32 = 3;

/// Starts the tasks. Dropping the set ends them; each of their steps can be cut off and done again.
pub(crate) fn start(node: &Node, web: web::Web, payments: Payments, seal_key: SealKey, intake: &OrderIntake) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    if let Some(queue) = intake.queue() {
        tasks.spawn(crate::flows::intake::drain(queue.clone(), web.clone()));
    }
    if node.config.payments.rates.is_some() {
        tasks.spawn(feed_rates(node.store.clone(), payments));
    }
    let postgres = node.store.engine(0) == Engine::Postgres;
    tasks.spawn(expire_holds(node.store.clone(), i64::from(node.config.node)));
    tasks.spawn(seal_ledgers(node.store.clone(), seal_key, node.clock.clone()));
    let hot = node.config.data.join(HOT_FILE);
    tasks.spawn(keep_hot(web.clone(), hot));
    // Beside an embedded node nobody writes to its folder.
    if postgres {
        tasks.spawn(async move { web.follow_changes().await });
    }
    // A node with one file has nowhere to move a tenant to.
    if postgres || node.store.shards() > 1 {
        tasks.spawn(refresh_directory(node.store.clone()));
    }
    if postgres {
        tasks.spawn(make_partitions(crate::wiring::store_config(&node.config).shards, node.clock.clone()));
        tasks.spawn(analyze_grown(node.store.clone(), i64::from(node.config.node)));
    }
    tasks
}

async fn feed_rates(store: Store, payments: Payments) {
    loop {
        if let Err(error) = payments.feed_rates(&store).await {
            tracing::warn!(?error, "exchange rates stay as they were");
        }
        tokio::time::sleep(RATES).await;
    }
}

async fn refresh_directory(store: Store) {
    let mut failing = false;
    loop {
        tokio::time::sleep(DIRECTORY).await;
        let refreshed = store.refresh_directory().await;
        // Said once when it begins and once when it ends: an engine that is away would fill the log.
        match (&refreshed, failing) {
            (Err(error), false) => tracing::warn!(?error, "the directory of tenants can't be read"),
            (Ok(()), true) => tracing::info!("the directory of tenants can be read again"),
            _ => {}
        }
        failing = refreshed.is_err();
    }
}

/// Loads what was hot when the process before ended, and notes from time to time what is hot now.
async fn keep_hot(web: web::Web, file: PathBuf) {
    let from = file.clone();
    if let Ok(Ok(text)) = tokio::task::spawn_blocking(move || std::fs::read_to_string(from)).await {
        let begun = std::time::Instant::now();
        let loaded = web.warm(&text, WARM_WITHIN).await;
        tracing::info!(loaded, ms = begun.elapsed().as_millis() as u64, "caches are warm");
    }
    loop {
        tokio::time::sleep(HOT).await;
        let (aside, file, hot) = (file.with_extension("new"), file.clone(), web.hot(HOT_KEYS));
        // A node without a data folder begins cold.
        let _ = tokio::task::spawn_blocking(move || std::fs::write(&aside, hot).and_then(|()| std::fs::rename(&aside, &file))).await;
    }
}

/// One of the nodes that share a database does it.
async fn expire_holds(store: Store, node: i64) {
    let candidate = store::Candidate::stand(store.clone(), "ledger.expire_holds", node, HOLDS.as_millis() as i64 * 3);
    let (mut failing, mut tenants) = (false, crate::ledger::Failing::default());
    loop {
        tokio::time::sleep(HOLDS).await;
        if candidate.leads().is_none() {
            continue;
        }
        let expired = crate::ledger::expire_holds(&store, &mut tenants).await;
        if let (Err(error), false) = (&expired, failing) {
            tracing::warn!(?error, "holds whose time is over can't be released");
        }
        failing = expired.is_err();
    }
}

async fn seal_ledgers(store: Store, key: SealKey, clock: Arc<dyn Clock>) {
    let (mut failing, mut tenants) = (false, crate::ledger::Failing::default());
    loop {
        tokio::time::sleep(SEALS).await;
        let sealed = crate::ledger::seal_all(&store, &key, &*clock, &mut tenants).await;
        if let (Err(error), false) = (&sealed, failing) {
            tracing::warn!(?error, "ledgers can't be sealed");
        }
        failing = sealed.is_err();
    }
}

/// One of the nodes that share a database does it.
async fn analyze_grown(store: Store, node: i64) {
    let candidate = store::Candidate::stand(store.clone(), "store.analyze_grown", node, GROWN_TABLES.as_millis() as i64 * 3);
    loop {
        tokio::time::sleep(GROWN_TABLES).await;
        if candidate.leads().is_none() {
            continue;
        }
        for shard in 0..store.shards() {
            match store.analyze_grown(shard).await {
                Ok(tables) if !tables.is_empty() => tracing::info!(shard, tables = tables.join(" "), "the planner knows grown tables"),
                Ok(_) => {}
                // That the database is away is said by others.
                Err(error) => tracing::debug!(shard, ?error, "grown tables can't be looked for"),
            }
        }
    }
}

async fn make_partitions(shards: Vec<ShardConfig>, clock: Arc<dyn Clock>) {
    loop {
        tokio::time::sleep(PARTITIONS).await;
        make_partitions_once(&shards, &clock).await;
    }
}

/// Makes the coming months' partitions where they are missing. Done once before the first request is taken, since rows that had gone to
/// the default partition meanwhile would have to be moved under a lock.
pub(crate) async fn prepare(node: &Node) {
    if node.store.engine(0) == Engine::Postgres {
        make_partitions_once(&crate::wiring::store_config(&node.config).shards, &node.clock).await;
    }
}

async fn make_partitions_once(shards: &[ShardConfig], clock: &Arc<dyn Clock>) {
    for shard in shards {
        let (shard, now) = (shard.clone(), clock.now());
        let made = tokio::task::spawn_blocking(move || store::partition::ensure_months(&shard, now, MONTHS_AHEAD)).await;
        match made {
            Ok(Ok(made)) if !made.is_empty() => tracing::info!(partitions = made.join(" "), "partitions were made ahead"),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::error!(?error, "the coming months' partitions could not be made"),
            Err(error) => tracing::error!(%error, "making partitions ended by a panic"),
        }
    }
}
