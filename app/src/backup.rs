//! `brandos backup`, `restore` and `tenant move`: whole nodes and single tenants, copied while the node works.

use crate::cli;
use crate::config::Config;
use crate::exit::{Exit, Failure, Outcome};
use crate::lock::FolderLock;
use crate::output::{Output, grouped};
use crate::wiring::{self, Node, Use};
use kernel::{Clock as _, Error, Result, SystemClock};
use log::Log;
use serde_json::json;
use store::Position;
use store::backup::{Manifest, RestoreTenant};
use store::move_tenant::Move;

/// A pause of a tenant's commands that would take longer is broken off and tried again later.
const PAUSE_LIMIT_MS: u64 = 900;
/// Readers on other nodes have read the directory of tenants again after this.
const SETTLE_MS: u64 = 5_000;

/// Copies the node into a new folder, beside a running server too.
pub(crate) async fn backup(config: Config, backup: &cli::Backup, out: Output) -> Outcome<Exit> {
    if config.database.is_empty() && !wiring::exists(&config.data) {
        return Err(Failure::new(
            Exit::Refused,
            "cli.no_data",
            format!("there is no data in {}; name the folder with --data", config.data.display()),
        ));
    }
    let bar = out.progress(0, "{spinner} {msg} {elapsed}");
    bar.set_message("copying and checking");
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    let folder = backup.dir.clone();
    let shards = wiring::store_config(&config).shards;
    let manifest = blocking(move || store::backup::backup(&shards, &folder, &wiring::migrations(), SystemClock.now())).await?;
    bar.finish_and_clear();
    told(out, "backed up into", &backup.dir, &manifest);
    Ok(Exit::Ok)
}

/// Brings a whole node back into empty databases, or one tenant into a node that works.
pub(crate) async fn restore(config: Config, restore: &cli::Restore, out: Output) -> Outcome<Exit> {
    let Some(name) = &restore.tenant else {
        let lock = if config.database.is_empty() { Some(FolderLock::take(&config.data, "restore")?) } else { None };
        let bar = out.progress(0, "{spinner} {msg} {elapsed}");
        bar.set_message("copying and checking");
        bar.enable_steady_tick(std::time::Duration::from_millis(200));
        let folder = restore.dir.clone();
        let shards = wiring::store_config(&config).shards;
        let manifest = blocking(move || {
            let manifest = store::backup::restore_node(&folder, &shards, &wiring::migrations(), SystemClock.now())?;
            shards.iter().try_for_each(store::analyze)?;
            Ok(manifest)
        })
        .await?;
        bar.finish_and_clear();
        drop(lock);
        told(out, "restored from", &restore.dir, &manifest);
        return Ok(Exit::Ok);
    };
    let node = Node::open(config, Use::Read("restore"))?;
    let tenant = crate::admin::find(&node, name).await?;
    let log = log_of(&node).await?;
    let (folder, shards, now) = (restore.dir.clone(), wiring::store_config(&node.config).shards, node.clock.now());
    let mut passed = passed(&log);
    let modules = wiring::migrations();
    let id = tenant.id;
    let rows = blocking(move || {
        let request = RestoreTenant { folder: &folder, shards: &shards, modules: &modules, tenant: id, now, passed: &mut passed };
        store::backup::restore_tenant(request)
    })
    .await?;
    log.stop().await;
    node.store.analyze(node.store.shard_of(id)).await?;
    out.line(format!("restored {}: {} rows", tenant.slug, grouped(rows as i64)));
    out.value(&json!({ "ok": true, "tenant_id": tenant.id, "slug": tenant.slug, "rows": rows }));
    node.close().await;
    Ok(Exit::Ok)
}

/// Moves a tenant to another shard while it works.
pub(crate) async fn move_tenant(config: Config, name: &str, to: u16, out: Output) -> Outcome<Exit> {
    let node = Node::open(config, Use::Read("tenant move"))?;
    let tenant = crate::admin::find(&node, name).await?;
    let log = log_of(&node).await?;
    let (shards, now, id) = (wiring::store_config(&node.config).shards, node.clock.now(), tenant.id);
    let mut passed = passed(&log);
    let moved = blocking(move || {
        store::move_tenant::move_tenant(Move {
            shards: &shards,
            tenant: id,
            to,
            now,
            pause_limit_ms: PAUSE_LIMIT_MS,
            settle_ms: SETTLE_MS,
            passed: &mut passed,
        })
    })
    .await?;
    log.stop().await;
    out.line(format!("{} is on shard {to}: {} rows compared, paused for {} ms", tenant.slug, grouped(moved.rows as i64), moved.pause_ms));
    out.value(&json!({ "ok": true, "tenant_id": tenant.id, "slug": tenant.slug, "shard": to, "rows": moved.rows, "rounds": moved.rounds, "pause_ms": moved.pause_ms }));
    node.close().await;
    Ok(Exit::Ok)
}

/// The consumers: run here, unless a server beside us runs them.
async fn log_of(node: &Node) -> Outcome<Log> {
    if node.may_write() { node.start_log().await } else { node.idle_log() }
}

/// Asks the log whether every consumer has passed the positions. For threads outside of the runtime.
fn passed(log: &Log) -> impl FnMut(&[Position]) -> Result<bool> + Send + use<> {
    let (log, runtime) = (log.clone(), tokio::runtime::Handle::current());
    move |positions| {
        let lag = runtime.block_on(log.lag())?;
        let behind = |position: &Position| {
            lag.iter().any(|l| l.shard == position.shard && l.lane == position.lane && l.sequence < position.sequence)
        };
        Ok(!positions.iter().any(behind))
    }
}

/// Runs what blocks on a thread for it.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Outcome<T> {
    let ended = tokio::task::spawn_blocking(work).await;
    Ok(ended.map_err(|e| Error::internal("work on the databases ended by a panic").caused_by(e))??)
}

fn told(out: Output, what: &str, folder: &std::path::Path, manifest: &Manifest) {
    let rows: u64 = manifest.shards.iter().flat_map(|shard| &shard.tables).map(|table| table.rows).sum();
    out.line(format!(
        "{what} {}: {} shards, {} rows, as of {}",
        folder.display(),
        manifest.shards.len(),
        grouped(rows as i64),
        manifest.taken_at
    ));
    out.value(&json!({ "ok": true, "folder": folder, "shards": manifest.shards.len(), "rows": rows, "taken_at": manifest.taken_at }));
}
