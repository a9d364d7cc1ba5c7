//! What the store tells of itself: queue length, group size, commit time, replays.

use crate::queue::Queue;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LaneLabels {
    shard: u32,
    lane: u32,
}

/// Who answered a read that a replica may answer, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    Replica,
    /// No replica had come as far as the caller has seen.
    PrimaryLag,
    /// No replica could be reached.
    PrimaryAway,
    /// A statement failed on the replica.
    PrimaryFailed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReplicaLabels {
    shard: u32,
    served: &'static str,
}

/// The metrics of one shard's replicas.
#[derive(Clone, Default)]
pub(crate) struct ReplicaMetrics {
    reads: [Counter; 4],
}

impl ReplicaMetrics {
    pub(crate) fn count(&self, served: Served) {
        self.reads[served as usize].inc();
    }
}

/// The metrics of all lanes.
#[derive(Clone)]
pub(crate) struct StoreMetrics {
    commands: Family<LaneLabels, Counter>,
    replays: Family<LaneLabels, Counter>,
    group_size: Family<LaneLabels, Histogram>,
    group_seconds: Family<LaneLabels, Histogram>,
    commit_seconds: Family<LaneLabels, Histogram>,
    replica_reads: Family<ReplicaLabels, Counter>,
}

/// The metrics of one lane.
pub(crate) struct LaneMetrics {
    commands: Counter,
    pub replays: Counter,
    group_size: Histogram,
    group_seconds: Histogram,
    commit_seconds: Histogram,
}

impl StoreMetrics {
    pub(crate) fn new() -> StoreMetrics {
        let seconds: fn() -> Histogram = || Histogram::new(exponential_buckets(0.000_1, 2.0, 16));
        StoreMetrics {
            commands: Family::default(),
            replays: Family::default(),
            group_size: Family::new_with_constructor(|| Histogram::new(exponential_buckets(1.0, 2.0, 10))),
            group_seconds: Family::new_with_constructor(seconds),
            commit_seconds: Family::new_with_constructor(seconds),
            replica_reads: Family::default(),
        }
    }

    pub(crate) fn replicas(&self, shard: u16) -> ReplicaMetrics {
        let reads = ["replica", "primary_lag", "primary_away", "primary_failed"];
        let labels = reads.map(|served| ReplicaLabels { shard: shard.into(), served });
        ReplicaMetrics { reads: labels.map(|labels| self.replica_reads.get_or_create(&labels).clone()) }
    }

    pub(crate) fn lane(&self, shard: u16, lane: u16) -> LaneMetrics {
        let labels = LaneLabels { shard: shard.into(), lane: lane.into() };
        LaneMetrics {
            commands: self.commands.get_or_create(&labels).clone(),
            replays: self.replays.get_or_create(&labels).clone(),
            group_size: self.group_size.get_or_create(&labels).clone(),
            group_seconds: self.group_seconds.get_or_create(&labels).clone(),
            commit_seconds: self.commit_seconds.get_or_create(&labels).clone(),
        }
    }

    pub(crate) fn register(&self, registry: &mut Registry, queues: Vec<(u16, u16, Arc<Queue>)>) {
        registry.register("store_commands", "Commands answered", self.commands.clone());
        registry.register("store_group_replays", "Groups run again with savepoints", self.replays.clone());
        registry.register("store_group_size", "Commands in a committed group", self.group_size.clone());
        registry.register("store_group_seconds", "From taking a group to its commit", self.group_seconds.clone());
        registry.register("store_commit_seconds", "Committing a group", self.commit_seconds.clone());
        let help = "Reads that a replica may answer, by who answered and why (primary_lag: no replica had come far enough)";
        registry.register("store_replica_reads", help, self.replica_reads.clone());
        registry.register_collector(Box::new(QueueDepths(queues)));
    }
}

impl LaneMetrics {
    pub(crate) fn group(&self, commands: usize, elapsed: Duration) {
        self.commands.inc_by(commands as u64);
        self.group_size.observe(commands as f64);
        self.group_seconds.observe(elapsed.as_secs_f64());
    }

    pub(crate) fn commit(&self, elapsed: Duration) {
        self.commit_seconds.observe(elapsed.as_secs_f64());
    }
}

/// Queue depths, read when they are asked for.
struct QueueDepths(Vec<(u16, u16, Arc<Queue>)>);

impl std::fmt::Debug for QueueDepths {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueueDepths").field("lanes", &self.0.len()).finish()
    }
}

impl Collector for QueueDepths {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (name, help, bytes) in [
            ("store_queue_commands", "Commands that wait for a lane", false),
            ("store_queue_bytes", "Bytes of the commands that wait for a lane", true),
        ] {
            let zero = ConstGauge::new(0_i64);
            let mut metric = encoder.encode_descriptor(name, help, None, zero.metric_type())?;
            for (shard, lane, queue) in &self.0 {
                let depth = queue.depth();
                let gauge = ConstGauge::new(if bytes { depth.1 } else { depth.0 } as i64);
                let labels = LaneLabels { shard: (*shard).into(), lane: (*lane).into() };
                gauge.encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
