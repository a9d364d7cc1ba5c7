//! How whatever is outside is called, and how it is told of in the health checks.

use crate::config::Config;
use crate::exit::{Exit, Failure, Outcome};
use kernel::Rng;
use log::Log;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;
use traffic::resilience::{BreakerState, Policies};
use web::{Dependency, Mode};

/// A file of policies is no longer than this.
const MAX_FILE: u64 = 1 << 20;
/// How often it is looked how far consumers are behind.
const LOOK: Duration = Duration::from_secs(2);
/// A consumer that is behind for so long is degraded, in milliseconds.
const BEHIND_MS: i64 = 30_000;
/// A disk with less than this, in bytes, or less than this share, in percent, is nearly full.
const LEAST_FREE: u64 = 1 << 30;
const LEAST_PERCENT: u64 = 5;

/// The policies of the configuration. Errors: a file that can't be read, or is wrong, with the line.
pub(crate) fn policies(config: &Config, rng: &Arc<dyn Rng>) -> Outcome<Policies> {
    let Some(path) = &config.policies else { return Ok(Policies::new(rng.clone())) };
    let unreadable = |why: String| Failure::new(Exit::Usage, "config.invalid", format!("resilience.policies: {path}: {why}"));
    let size = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
    if size > MAX_FILE {
        return Err(unreadable("the file is larger than 1 MB".to_owned()));
    }
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    Ok(Policies::parse(path, &text, rng.clone())?)
}

/// How far the consumers of the log are behind, looked at now and then.
pub(crate) fn log_health(log: &Log) -> Dependency {
    // Milliseconds; below zero: it can't be learnt.
    let oldest = Arc::new(AtomicI64::new(0));
    tokio::spawn(watch_log(log.clone(), Arc::downgrade(&oldest)));
    Dependency::new("log", move || log_mode(oldest.load(Relaxed)))
}

/// By how far the consumer that is behind most is behind, in milliseconds.
fn log_mode(oldest_ms: i64) -> (Mode, String) {
    match oldest_ms {
        ms if ms < 0 => (Mode::Away, "it can't be learnt how far consumers are; what follows from events comes later".to_owned()),
        ms if ms >= BEHIND_MS => (Mode::Degraded, format!("a consumer is {} s behind: what follows from events comes later", ms / 1000)),
        _ => (Mode::Normal, "consumers keep up".to_owned()),
    }
}

async fn watch_log(log: Log, oldest: Weak<AtomicI64>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(oldest) = oldest.upgrade() else { return };
        let now = match tokio::time::timeout(LOOK, log.lag()).await {
            Ok(Ok(lags)) => lags.iter().map(|lag| lag.oldest_age_ms).max().unwrap_or(0),
            _ => -1,
        };
        oldest.store(now, Relaxed);
    }
}

/// Those who are called: payment providers.
pub(crate) fn calls_health(policies: &Arc<Policies>) -> Dependency {
    let policies = policies.clone();
    Dependency::new("providers", move || {
        let away: Vec<String> = policies
            .all()
            .iter()
            .filter(|policy| policy.breaker() != BreakerState::Closed)
            .map(|policy| policy.name().to_owned())
            .collect();
        match away.len() {
            0 => (Mode::Normal, "none is known to be away".to_owned()),
            _ => (Mode::Degraded, format!("not called for a while: {}; payments go to others, or wait", away.join(", "))),
        }
    })
}

/// Room on the disk of the data folder.
pub(crate) fn disk_health(config: &Config) -> Dependency {
    let folder: PathBuf = config.data.clone();
    let embedded = config.database.is_empty();
    Dependency::new("disk", move || {
        if !embedded {
            return (Mode::Normal, "nothing is kept here".to_owned());
        }
        match rustix::fs::statvfs(&folder) {
            Ok(room) => {
                let (free, all) = (room.f_bavail * room.f_frsize, (room.f_blocks * room.f_frsize).max(1));
                room_mode(free, all)
            }
            Err(error) => (Mode::Away, format!("the data folder can't be looked at: {error}")),
        }
    })
}

fn room_mode(free: u64, all: u64) -> (Mode, String) {
    let detail = format!("{} MB free of {} MB", free >> 20, all >> 20);
    if free < LEAST_FREE && free * 100 / all.max(1) < LEAST_PERCENT {
        return (Mode::Degraded, format!("{detail}: when it is full, writes are refused and reads go on"));
    }
    (Mode::Normal, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consumers_that_are_behind_are_told_of() {
        let modes = [-1, 0, BEHIND_MS - 1, BEHIND_MS].map(|ms| log_mode(ms).0);
        assert_eq!(modes, [Mode::Away, Mode::Normal, Mode::Normal, Mode::Degraded]);
    }

    #[test]
    fn a_disk_that_is_nearly_full_is_told_of() {
        const GB: u64 = 1 << 30;
        assert_eq!(room_mode(50 * GB, 100 * GB).0, Mode::Normal);
        assert_eq!(room_mode(2 * GB, 1_000 * GB).0, Mode::Normal, "a little of very much is enough");
        assert_eq!(room_mode(GB / 2, 4 * GB).0, Mode::Normal, "an eighth of a small one, too");
        assert_eq!(room_mode(GB / 2, 100 * GB).0, Mode::Degraded);
        assert_eq!(room_mode(0, 0).0, Mode::Degraded);
    }
}
