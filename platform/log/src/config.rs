//! The log's bounds and intervals.

use crate::backoff::Backoff;

/// How consumers are run. Every number has a sensible default.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// The most events that are read at once and handled in one transaction: 1 to 256.
    pub batch: u32,
    /// How often to look for what other nodes have committed and for retries that are due. What this process commits wakes its
    /// consumers at once.
    pub poll_ms: u64,
    /// When a failed event is tried again.
    pub backoff: Backoff,
    /// The most outside effects of one consumer and lane that are under way at once, and as many retries.
    pub outside_concurrency: usize,
    /// After how long an outside effect counts as failed.
    pub outside_timeout_ms: u64,
    /// For how long a process that died keeps the others from its outside effects.
    pub lease_ms: i64,
    /// How often the lag's metrics are refreshed.
    pub lag_refresh_ms: u64,
    /// About how many failed and blocked events one consumer may have on one shard; beyond it, the consumer stops there and says
    /// so, rather than filling the disk with copies.
    pub max_failures: u64,
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig {
            batch: 256,
            poll_ms: 500,
            backoff: Backoff::default(),
            outside_concurrency: 16,
            outside_timeout_ms: 30_000,
            lease_ms: 10_000,
            lag_refresh_ms: 5_000,
            max_failures: 100_000,
        }
    }
}
