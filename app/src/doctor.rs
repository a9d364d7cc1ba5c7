//! `brandos doctor`: looks at what BrandOS stands on, and changes nothing.

use crate::config::Config;
use crate::exit::{Exit, Outcome};
use crate::lock::FolderLock;
use crate::output::{Output, grouped};
use crate::wiring::{self, Node, Use};
use kernel::{Clock as _, SystemClock, Timestamp};
use serde::Serialize;
use std::path::Path;
use store::{Engine, Sql};

/// Less free space than this is a warning that comes early enough.
const FREE_BYTES: u64 = 1 << 30;
/// Connections, database files and streams together need about so many.
const OPEN_FILES: u64 = 4_096;
/// Nodes whose clocks differ by more give ids and events that are not in the order of time.
const CLOCK_DIFFERENCE_MS: i64 = 1_000;

/// 2025 and 2100: outside of them the clock is not set.
const YEARS: std::ops::Range<i64> = 1_735_689_600_000..4_102_444_800_000;

const VERSION: Sql = Sql::per_engine("SELECT 'SQLite ' || sqlite_version()", "SELECT 'PostgreSQL ' || current_setting('server_version')");
const DURABLE: Sql =
    Sql::per_engine("SELECT 'on'", "SELECT current_setting('synchronous_commit') || ', fsync ' || current_setting('fsync')");
const TIME: Sql = Sql::per_engine(
    "SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER)",
    "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)",
);

#[derive(Debug, Serialize)]
struct Finding {
    name: String,
    ok: bool,
    detail: String,
}

/// Looks at everything. Exits 1 when something is wrong.
pub(crate) async fn doctor(config: Config, out: Output) -> Outcome<Exit> {
    let mut found = vec![finding("config", true, "every option is valid")];
    found.push(clock(SystemClock.now()));
    found.push(open_files());
    found.extend(data_folder(&config.data, config.database.is_empty()));
    found.extend(engines(config).await);

    let ok = found.iter().all(|f| f.ok);
    for f in &found {
        out.line(format!("{}  {:<18} {}", if f.ok { "ok    " } else { "WRONG " }, f.name, f.detail));
    }
    out.value(&serde_json::json!({ "ok": ok, "checks": found }));
    Ok(if ok { Exit::Ok } else { Exit::CheckFailed })
}

fn finding(name: impl Into<String>, ok: bool, detail: impl Into<String>) -> Finding {
    Finding { name: name.into(), ok, detail: detail.into() }
}

fn clock(now: Timestamp) -> Finding {
    finding("clock", YEARS.contains(&now.unix_ms()), format!("{now} UTC"))
}

fn open_files() -> Finding {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    match limit {
        None => finding("open files", true, "no limit"),
        Some(limit) => {
            let advice =
                if limit < OPEN_FILES { format!("; raise it to {OPEN_FILES} or more (ulimit -n, LimitNOFILE=)") } else { String::new() };
            finding("open files", limit >= OPEN_FILES, format!("at most {limit}{advice}"))
        }
    }
}

fn data_folder(data: &Path, embedded: bool) -> Vec<Finding> {
    let probe = data.join(format!(".doctor-{}", std::process::id()));
    // The folder may not be there yet; then the nearest one above it counts.
    let existing = data.ancestors().find(|p| p.is_dir()).filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let probe = if data.is_dir() { probe } else { existing.join(format!(".doctor-{}", std::process::id())) };
    let written = std::fs::write(&probe, b"x").and_then(|()| std::fs::remove_file(&probe));
    let holder = if embedded { FolderLock::held_by(data) } else { None };
    let state = match (data.is_dir(), holder) {
        (false, _) => format!("{} will be made", data.display()),
        (true, Some(holder)) => format!("{}, in use by {holder}", data.display()),
        (true, None) => data.display().to_string(),
    };
    let folder = match written {
        Ok(()) => finding("data folder", true, state),
        Err(e) => finding("data folder", false, format!("{} cannot be written to: {e}", existing.display())),
    };
    let space = match rustix::fs::statvfs(existing) {
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            finding("disk", free >= FREE_BYTES, format!("{} MiB free at {}", grouped((free >> 20) as i64), existing.display()))
        }
        Err(e) => finding("disk", false, format!("free space at {} is unknown: {e}", existing.display())),
    };
    vec![folder, space]
}

/// Asks each shard. An embedded node that was never started has none.
async fn engines(config: Config) -> Vec<Finding> {
    if config.database.is_empty() && !wiring::exists(&config.data) {
        return vec![finding("engine", true, "SQLite in this process; no data yet")];
    }
    let node = match Node::open(config, Use::Read("doctor")) {
        Ok(node) => node,
        Err(failure) => return vec![finding("engine", false, failure.to_string())],
    };
    let mut found = Vec::new();
    for shard in 0..node.store.shards() {
        let name = format!("shard {shard}");
        let before = SystemClock.now();
        let asked = node
            .store
            .read_shard(shard, |read| {
                let (version,): (String,) = read.one(VERSION, ())?;
                let (durable,): (String,) = read.one(DURABLE, ())?;
                let (unix_ms,): (i64,) = read.one(TIME, ())?;
                Ok((version, durable, unix_ms))
            })
            .await;
        match asked {
            Ok((version, durable, unix_ms)) => {
                let lanes = node.store.lanes(shard);
                let safe = !durable.contains("off") && !durable.starts_with("local");
                found.push(finding(name.clone(), safe, format!("{version}, {lanes} lanes, synchronous commit {durable}")));
                if node.store.engine(shard) == Engine::Postgres {
                    // Between the two readings of our own clock the database's must have been.
                    let after = SystemClock.now();
                    let apart = (before.unix_ms() - unix_ms).max(unix_ms - after.unix_ms()).max(0);
                    found.push(finding(format!("{name} clock"), apart <= CLOCK_DIFFERENCE_MS, format!("{apart} ms from this machine's")));
                }
            }
            Err(error) => found.push(finding(name, false, crate::exit::Failure::from(error).to_string())),
        }
    }
    node.close().await;
    found
}
