//! Watches the file of rules, and with Redis those of all nodes, so that a change is in force everywhere within 50 ms.
//!
//! The rules that were changed last are in force on all nodes. When that was is a number that only grows: the time of the file that they came
//! from, in microseconds since 1970, or one more than that of the rules that they replaced, whichever is more. So a change that is seen
//! while a node runs is the last one, whatever clocks say, and a node that starts with an older file than the others have takes theirs. Redis
//! keeps them; each node asks it whether they are others by now, and one that finds older ones, or none, gives it its own. Nothing is missed
//! by a node that was cut off, and nothing is lost with a Redis that comes back empty.

use crate::limiter::Limiter;
use crate::rules::{MAX_FILE, RuleFile};
use kernel::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::Weak;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// How often the file is looked at, and Redis is asked: one question to the file system and one to Redis each time.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// The longest text that is given to other nodes: it goes over the connection on which decisions are made.
const MAX_SHARED: usize = 1 << 20;
/// When Redis did not take rules, it is asked to again after this.
const AGAIN: Duration = Duration::from_millis(200);

impl RuleFile {
    /// Reads a file. Errors: `limits.invalid_rules`, with the line; unavailable with `limits.unreadable_rules`.
    pub fn read(path: &Path) -> Result<RuleFile> {
        RuleFile::parse(&path.display().to_string(), &read(path)?)
    }
}

fn read(path: &Path) -> Result<String> {
    let wrong = |error: std::io::Error| {
        Error::unavailable("limits.unreadable_rules", format!("cannot read the rules in {}: {error}", path.display())).caused_by(error)
    };
    if std::fs::metadata(path).map_err(wrong)?.len() > MAX_FILE {
        return Err(Error::invalid("limits.invalid_rules", format!("{}:1: the file is larger than 64 MB", path.display())));
    }
    std::fs::read_to_string(path).map_err(wrong)
}

/// What tells one content of a file from another without reading it.
type Stamp = (SystemTime, u64);

fn stamp(path: &Path) -> Option<Stamp> {
    let data = std::fs::metadata(path).ok()?;
    Some((data.modified().ok()?, data.len()))
}

/// The rules in force on this node, as they are shared.
#[derive(Default)]
struct Own {
    /// When they were changed, as above.
    changed_at: u64,
    /// None of a file that is too long to be shared.
    text: Option<String>,
    /// They were changed here, and the other nodes have not been told.
    untold: bool,
    /// Redis did not take them, and is not asked to until then.
    again: Option<Instant>,
}

/// Replaces the limiter's rules whenever the file changes, or those of the other nodes do, until the limiter is gone. Wrong rules are told
/// once in the log, and the ones before stay.
pub async fn watch(limiter: Weak<Limiter>, path: PathBuf) {
    let (mut seen, mut own) = (None, Own::default());
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(limiter) = limiter.upgrade() else { return };
        let now = stamp(&path);
        if let Some(now) = now.filter(|now| seen != Some(*now)) {
            own.look(&limiter, &path, now, seen.is_some());
            seen = Some(now);
        }
        own.share(&limiter).await;
    }
}

impl Own {
    /// Takes in the file: for the first time, or because it has changed.
    fn look(&mut self, limiter: &Limiter, path: &Path, (modified, _): Stamp, is_change: bool) {
        let found = read(path).and_then(|text| RuleFile::parse(&path.display().to_string(), &text).map(|file| (text, file)));
        let (text, file) = match found {
            Ok(found) => found,
            Err(error) => return tracing::error!(%error, "the changed rules of rate limits are wrong; the ones before stay"),
        };
        // At the first look these are the rules that the limiter began with, if nobody was very quick.
        if limiter.rules().file() != &file {
            tracing::info!(path = %path.display(), rules = file.rules().len(), "the rules of rate limits were replaced");
            limiter.replace(file);
        }
        let modified_us = modified.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64);
        self.changed_at = if is_change { modified_us.max(self.changed_at + 1) } else { modified_us };
        self.text = Some(text).filter(|text| text.len() <= MAX_SHARED);
        self.untold = is_change && self.text.is_some();
        self.again = None;
        if self.text.is_none() && limiter.shared().is_some() {
            tracing::warn!(path = %path.display(), "the rules of rate limits are longer than 1 MiB, and are not given to other nodes");
        }
    }

    /// Agrees with the other nodes, if there are any.
    async fn share(&mut self, limiter: &Limiter) {
        let Some(shared) = limiter.shared() else { return };
        let Some(mut there) = shared.rules_changed_at().await else { return };
        if there > self.changed_at || there == self.changed_at && self.untold {
            let Some((changed_at, text)) = shared.rules().await else { return };
            there = changed_at;
            if self.text.as_ref() == Some(&text) {
                // One file for all nodes, or the same change on each.
                (self.changed_at, self.untold) = (there, false);
            } else if self.untold {
                self.changed_at = there + 1;
            } else {
                return self.take(limiter, there, text);
            }
        }
        let is_due = there < self.changed_at && self.again.is_none_or(|again| again <= Instant::now());
        let Some(text) = self.text.as_ref().filter(|_| is_due) else { return };
        match shared.put_rules(self.changed_at, text).await {
            Some(put) => self.untold &= !put,
            None => self.again = Some(Instant::now() + AGAIN),
        }
    }

    /// Puts the rules of another node into force.
    fn take(&mut self, limiter: &Limiter, changed_at: u64, text: String) {
        self.changed_at = changed_at;
        match RuleFile::parse("the rules of another node", &text) {
            Ok(file) => {
                tracing::info!(rules = file.rules().len(), "the rules of rate limits were replaced by those of another node");
                limiter.replace(file);
                self.text = Some(text);
            }
            Err(error) => tracing::error!(%error, "the rules of rate limits of another node are wrong here; the ones before stay"),
        }
    }
}
