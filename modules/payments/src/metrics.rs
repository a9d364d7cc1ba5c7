//! What payments tell of providers: calls by what came of them, how long they took, and callbacks.

use crate::adapter::{ChargeStatus, Told};
use crate::model::ProviderKind;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    provider: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProviderLabels {
    provider: &'static str,
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.002, 2.0, 14))
}

/// Counters and durations. Labels are few and known: no tenant, no provider's id.
#[derive(Clone)]
pub(crate) struct Metrics {
    calls: Family<CallLabels, Counter>,
    call_seconds: Family<ProviderLabels, Histogram, fn() -> Histogram>,
    callbacks: Family<CallLabels, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics {
            calls: Family::default(),
            call_seconds: Family::new_with_constructor(seconds as fn() -> Histogram),
            callbacks: Family::default(),
        }
    }
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("payments_provider_calls", "Calls to payment providers by what came of them", self.calls.clone());
        registry.register("payments_provider_call_seconds", "How long calls to payment providers took", self.call_seconds.clone());
        registry.register("payments_callbacks", "Callbacks of payment providers by what came of them", self.callbacks.clone());
    }

    /// A call has ended.
    pub(crate) fn called(&self, provider: ProviderKind, told: &Told, took: Duration) {
        let outcome = match told {
            Told::Charge { charge } if charge.status == ChargeStatus::Declined => "declined",
            Told::Charge { .. } => "done",
            Told::Refused { .. } => "refused",
            Told::Outage { .. } => "outage",
            Told::NotAsked { .. } => "not_asked",
            Told::Unknown { .. } => "unknown",
        };
        self.calls.get_or_create(&CallLabels { provider: provider.as_str(), outcome }).inc();
        self.call_seconds.get_or_create(&ProviderLabels { provider: provider.as_str() }).observe(took.as_secs_f64());
    }

    /// A callback has come: `taken`, `known` from before, `refused`, or put off until `later`.
    pub(crate) fn called_back(&self, provider: ProviderKind, outcome: &'static str) {
        self.callbacks.get_or_create(&CallLabels { provider: provider.as_str(), outcome }).inc();
    }
}
