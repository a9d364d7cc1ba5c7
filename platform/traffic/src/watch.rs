//! Watches the file of rules, so that a change is in force within 50 ms.

use crate::limiter::Limiter;
use crate::rules::{MAX_FILE, RuleFile};
use kernel::{Error, ErrorKind, Result};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Weak;
use std::time::{Duration, SystemTime};

/// How often the file is looked at: one question to the file system each time. It is read when it is the same at two looks, so that what is
/// half written is not taken for the whole.
const LOOK_EVERY: Duration = Duration::from_millis(10);

impl RuleFile {
    /// Reads a file. Errors: `limits.invalid_rules`, with the line; unavailable with `limits.unreadable_rules`.
    pub fn read(path: &Path) -> Result<RuleFile> {
        let wrong = |error: std::io::Error| {
            Error::unavailable("limits.unreadable_rules", format!("cannot read the rules in {}: {error}", path.display())).caused_by(error)
        };
        let name = path.display().to_string();
        if std::fs::metadata(path).map_err(wrong)?.len() > MAX_FILE {
            return Err(Error::invalid("limits.invalid_rules", format!("{name}:1: the file is larger than 64 MB")));
        }
        let text = std::fs::read_to_string(path).map_err(wrong)?;
        if text.trim().is_empty() {
            // As a full disk or a crash leaves it: that must not lift every limit.
            return Err(Error::invalid(
                "limits.invalid_rules",
                format!("{name}:1: the file is empty; for no limits at all, set limits.rules to `off`"),
            ));
        }
        RuleFile::parse(&name, &text)
    }
}

/// What tells one content of a file from another without reading it.
/// The inode too: files that are made repeatably all have one time, and often one length.
type Stamp = (SystemTime, u64, u64);

fn stamp(path: &Path) -> Option<Stamp> {
    let data = std::fs::metadata(path).ok()?;
    Some((data.modified().ok()?, data.len(), data.ino()))
}

/// Replaces the limiter's rules whenever the file changes, until the limiter is gone. Wrong rules are told once in the log, and the ones
/// before stay; a file that can't be read is tried again.
pub async fn watch(limiter: Weak<Limiter>, path: PathBuf) {
    let mut seen = stamp(&path);
    let (mut last, mut is_told) = (seen, false);
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if limiter.strong_count() == 0 {
            return;
        }
        let now = stamp(&path);
        let is_settled = std::mem::replace(&mut last, now) == now;
        if now == seen || now.is_none() || !is_settled {
            continue;
        }
        let Some(limiter) = limiter.upgrade() else { return };
        match RuleFile::read(&path) {
            Ok(file) => {
                tracing::info!(path = %path.display(), rules = file.rules().len(), "the rules of rate limits were replaced");
                limiter.replace(file);
            }
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                if !std::mem::replace(&mut is_told, true) {
                    tracing::error!(%error, "the changed rules of rate limits can't be read; the ones before stay until they can");
                }
                continue;
            }
            Err(error) => tracing::error!(%error, "the changed rules of rate limits are wrong; the ones before stay"),
        }
        (seen, is_told) = (now, false);
    }
}
