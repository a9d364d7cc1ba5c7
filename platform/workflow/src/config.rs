//! The runner's bounds and intervals.

use crate::Probe;
use std::sync::Arc;

/// Told after the commit in which a call's outcome was resolved: the saga's kind and its business key. It runs on the runner's task, so it
/// only passes the word on.
pub type OnOutcome = Arc<dyn Fn(&'static str, &str) + Send + Sync>;

/// How sagas are run. Every number has a sensible default.
#[derive(Clone)]
pub struct RunnerConfig {
    /// How often to look for what is due. What this process commits wakes it at once.
    pub poll_ms: u64,
    /// The most sagas of one shard that this process has under way at once. While several tenants wait, one has at most half of them.
    pub concurrency: usize,
    /// How many due sagas are read at once. What is beyond is read when those are done, tenants in turn.
    pub window: u32,
    /// For how long a process that died keeps the others from its sagas, in milliseconds; renewed while a call runs.
    pub lease_ms: i64,
    /// Whether no other process can be running sagas of these shards, as on SQLite, whose folder is one process's: then a start waits for
    /// nobody's lease, and asks at once what became of the calls of a process that died.
    pub alone: bool,
    /// How long [`crate::Runner::stop`] waits for what is in flight, in milliseconds.
    pub stop_ms: u64,
    /// How long ended sagas are kept, in milliseconds. Their business keys may be used again after that.
    pub keep_ended_ms: i64,
    /// How often the metrics are refreshed, in milliseconds.
    pub metrics_ms: u64,
    /// For those who wait for what a saga does, in this process; others find out by looking.
    pub on_outcome: Option<OnOutcome>,
    /// For tests.
    pub probe: Option<Probe>,
}

impl Default for RunnerConfig {
    fn default() -> Self {
        RunnerConfig {
            poll_ms: 500,
            concurrency: 256,
            window: 512,
            lease_ms: 30_000,
            alone: false,
            stop_ms: 20_000,
            keep_ended_ms: 30 * 24 * 3_600_000,
            metrics_ms: 15_000,
            on_outcome: None,
            probe: None,
        }
    }
}
