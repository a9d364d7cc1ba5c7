//! What the log tells of itself: lag, failures by state, events handled and failed.

use crate::FailureState;
use crate::handle::Lag;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LaneLabels {
    consumer: &'static str,
    shard: u32,
    lane: i32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    consumer: &'static str,
    shard: u32,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConsumerLabels {
    consumer: &'static str,
}

#[derive(Default)]
pub(crate) struct Metrics {
    events_behind: Family<LaneLabels, Gauge>,
    oldest_age_ms: Family<LaneLabels, Gauge>,
    failures: Family<StateLabels, Gauge>,
    handled: Family<ConsumerLabels, Counter>,
    failed: Family<ConsumerLabels, Counter>,
    dead: Family<ConsumerLabels, Counter>,
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("log_events_behind", "Events of a lane that a consumer has not passed", self.events_behind.clone());
        registry.register("log_oldest_age_ms", "Age of the first event that a consumer has not passed", self.oldest_age_ms.clone());
        registry.register("log_failures", "Events that failed or wait behind one that did", self.failures.clone());
        registry.register("log_events_handled", "Events that a consumer has handled", self.handled.clone());
        registry.register("log_attempts_failed", "Attempts to handle an event that failed", self.failed.clone());
        registry.register("log_dead_letters", "Events that became dead letters", self.dead.clone());
    }

    pub(crate) fn lag(&self, lag: &Lag) {
        let labels = LaneLabels { consumer: lag.consumer, shard: lag.shard.into(), lane: lag.lane.into() };
        self.events_behind.get_or_create(&labels).set(lag.events_behind);
        self.oldest_age_ms.get_or_create(&labels).set(lag.oldest_age_ms);
    }

    /// The history lane is done with.
    pub(crate) fn forget_lag(&self, consumer: &'static str, shard: u16, lane: i16) {
        let labels = LaneLabels { consumer, shard: shard.into(), lane: lane.into() };
        self.events_behind.remove(&labels);
        self.oldest_age_ms.remove(&labels);
    }

    pub(crate) fn failures(&self, consumer: &'static str, shard: u16, state: FailureState, count: i64) {
        self.failures.get_or_create(&StateLabels { consumer, shard: shard.into(), state: state.as_str() }).set(count);
    }

    pub(crate) fn outcome(&self, consumer: &'static str, handled: u64, failed: u64, dead: u64) {
        let labels = ConsumerLabels { consumer };
        for (family, count) in [(&self.handled, handled), (&self.failed, failed), (&self.dead, dead)] {
            if count > 0 {
                family.get_or_create(&labels).inc_by(count);
            }
        }
    }
}
