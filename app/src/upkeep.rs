//! What a serving node does from time to time: the directory of tenants read again, partitions made ahead of their months.

use crate::wiring::Node;
use kernel::Clock;
use payments::Payments;
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
/// How often exchange rates are taken over from their source.
const RATES: Duration = Duration::from_secs(60);
/// So many months are made ahead.
const MONTHS_AHEAD: u32 = 3;

/// Starts the tasks. Dropping the set ends them; each of their steps can be cut off and done again.
pub(crate) fn start(node: &Node, payments: Payments) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    if node.config.payments.rates.is_some() {
        tasks.spawn(feed_rates(node.store.clone(), payments));
    }
    let postgres = node.store.engine(0) == Engine::Postgres;
    tasks.spawn(expire_holds(node.store.clone()));
    // A node with one file has nowhere to move a tenant to.
    if postgres || node.store.shards() > 1 {
        tasks.spawn(refresh_directory(node.store.clone()));
    }
    if postgres {
        tasks.spawn(make_partitions(crate::wiring::store_config(&node.config).shards, node.clock.clone()));
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

async fn expire_holds(store: Store) {
    let mut failing = false;
    loop {
        tokio::time::sleep(HOLDS).await;
        let expired = crate::ledger::expire_holds(&store).await;
        if let (Err(error), false) = (&expired, failing) {
            tracing::warn!(?error, "holds whose time is over can't be released");
        }
        failing = expired.is_err();
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
