//! What a serving node does from time to time: the directory of tenants read again, idempotency keys purged, partitions made ahead.

use crate::wiring::Node;
use std::time::Duration;
use store::{Engine, Store};
use tokio::task::JoinSet;

/// Other nodes move tenants too: how often their places are read again, where several nodes can share a database.
const DIRECTORY: Duration = Duration::from_secs(1);

/// Starts the tasks. Dropping the set ends them; each of their steps can be cut off and done again.
pub(crate) fn start(node: &Node) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    if node.store.engine(0) == Engine::Postgres {
        tasks.spawn(refresh_directory(node.store.clone()));
    }
    tasks
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
