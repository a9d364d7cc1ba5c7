//! `brandos migrate`: brings the tables of every shard up to date, or says what is pending, and shows which migrations they have.

use crate::backup::blocking;
use crate::config::Config;
use crate::exit::{Exit, Outcome};
use crate::output::Output;
use crate::wiring::{self, Node, Use};
use kernel::{Clock as _, SystemClock, Timestamp};

const APPLIED: &str = "SELECT module, number, name, applied_at FROM store_migrations ORDER BY applied_at, module, number";

/// Migrates by opening the databases, and says what is new.
pub(crate) async fn migrate(config: Config, out: Output) -> Outcome<Exit> {
    let began = SystemClock.now();
    let node = Node::open(config, Use::Write("migrate"))?;
    let (mut rows, mut listed, mut new) = (Vec::new(), Vec::new(), 0);
    for shard in 0..node.store.shards() {
        let applied: Vec<(String, i64, String, Timestamp)> = node.store.read_shard(shard, |read| read.all(APPLIED, ())).await?;
        for (module, number, name, at) in applied {
            let is_new = at >= began;
            new += usize::from(is_new);
            rows.push(vec![
                shard.to_string(),
                format!("{module}/{number:04}_{name}"),
                at.to_string(),
                if is_new { "new" } else { "" }.to_owned(),
            ]);
            listed.push(
                serde_json::json!({ "shard": shard, "module": module, "number": number, "name": name, "applied_at": at, "new": is_new }),
            );
        }
    }
    out.table(&["SHARD", "MIGRATION", "APPLIED AT", ""], &rows);
    out.line(format!("{new} new of {}", rows.len()));
    out.value(&serde_json::json!({ "ok": true, "new": new, "migrations": listed }));
    node.close().await;
    Ok(Exit::Ok)
}

/// Says what a migration would do on each shard, and does nothing, beside a running server too. Exits 1 when something is pending.
pub(crate) async fn status(config: Config, out: Output) -> Outcome<Exit> {
    let shards = wiring::store_config(&config).shards;
    let found: Vec<Vec<store::Pending>> = blocking(move || {
        let modules = wiring::migrations();
        shards.iter().map(|shard| store::pending_migrations(shard, &modules)).collect()
    })
    .await?;
    let (mut rows, mut listed) = (Vec::new(), Vec::new());
    for (shard, pending) in found.iter().enumerate() {
        for step in pending {
            rows.push(vec![shard.to_string(), format!("{}/{:04}_{}", step.module, step.number, step.name)]);
            listed.push(serde_json::json!({ "shard": shard, "module": step.module, "number": step.number, "name": step.name }));
        }
    }
    out.table(&["SHARD", "PENDING"], &rows);
    out.line(if rows.is_empty() { "up to date".to_owned() } else { format!("{} pending", rows.len()) });
    out.value(&serde_json::json!({ "ok": rows.is_empty(), "pending": listed }));
    Ok(if rows.is_empty() { Exit::Ok } else { Exit::CheckFailed })
}
