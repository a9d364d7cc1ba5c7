//! What the runner tells of itself: sagas by status, the oldest, what is overdue, outcomes, endings.

use crate::Status;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    shard: u32,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShardLabels {
    shard: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabels {
    kind: &'static str,
    step: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
    status: &'static str,
}

#[derive(Clone, Default)]
pub(crate) struct Metrics {
    sagas: Family<StatusLabels, Gauge>,
    oldest_age_ms: Family<StatusLabels, Gauge>,
    overdue_ms: Family<ShardLabels, Gauge>,
    outcomes: Family<StepLabels, Counter>,
    ended: Family<KindLabels, Counter>,
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("workflow_sagas", "Sagas that have not ended, counted up to 100,000 a shard", self.sagas.clone());
        registry.register("workflow_oldest_age_ms", "Age of the oldest saga that has not ended", self.oldest_age_ms.clone());
        registry.register("workflow_overdue_ms", "For how long the first saga has been due", self.overdue_ms.clone());
        registry.register("workflow_outcomes", "Outcomes of calls and questions", self.outcomes.clone());
        registry.register("workflow_ended", "Sagas that ended or were parked", self.ended.clone());
    }

    /// Sets the gauges of a shard: for each status that is not an end the number and the age of the oldest.
    pub(crate) fn open(&self, shard: u16, of: impl Fn(Status) -> (i64, i64), overdue_ms: i64) {
        for status in Status::ALL.into_iter().filter(|status| !status.ended()) {
            let labels = StatusLabels { shard: shard.into(), status: status.as_str() };
            let (count, age_ms) = of(status);
            self.sagas.get_or_create(&labels).set(count);
            self.oldest_age_ms.get_or_create(&labels).set(age_ms);
        }
        self.overdue_ms.get_or_create(&ShardLabels { shard: shard.into() }).set(overdue_ms);
    }

    pub(crate) fn outcome(&self, kind: &'static str, step: &str, outcome: &'static str) {
        self.outcomes.get_or_create(&StepLabels { kind, step: step.to_owned(), outcome }).inc();
    }

    pub(crate) fn ended(&self, kind: &'static str, status: Status) {
        self.ended.get_or_create(&KindLabels { kind, status: status.as_str() }).inc();
    }
}
