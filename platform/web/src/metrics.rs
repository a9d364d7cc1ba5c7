//! Request metrics, in Prometheus form, by route template: the number of series is bounded by the number of routes.

use crate::health::Mode;
use axum::http::{Method, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::time::Duration;
use traffic::resilience::Priority;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    method: String,
    route: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: String,
    route: String,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PriorityLabel {
    priority: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DependencyLabel {
    name: &'static str,
}

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The edge's metrics.
pub(crate) struct HttpMetrics {
    requests: Family<RequestLabels, Counter>,
    seconds: Family<RouteLabels, Histogram>,
    /// Requests whose answer has not begun.
    pub(crate) in_flight: Gauge,
    /// Requests refused because too many were in flight.
    pub(crate) overloaded: Counter,
    /// Requests that had to go for others that matter more, by priority.
    shed: Family<PriorityLabel, Counter>,
    /// Requests to no route, or with a method that their route does not take.
    pub(crate) unmatched: Counter,
    /// How each dependency was when it was last asked.
    dependencies: Family<DependencyLabel, Gauge>,
    /// Open connections.
    pub(crate) connections: Gauge,
    /// Open event streams.
    pub(crate) event_streams: Gauge,
}

impl HttpMetrics {
    /// Makes them and puts them into the registry.
    pub(crate) fn register(registry: &mut Registry) -> HttpMetrics {
        let buckets = || Histogram::new([0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]);
        let metrics = HttpMetrics {
            requests: Family::default(),
            seconds: Family::new_with_constructor(buckets),
            in_flight: Gauge::default(),
            overloaded: Counter::default(),
            shed: Family::default(),
            unmatched: Counter::default(),
            dependencies: Family::default(),
            connections: Gauge::default(),
            event_streams: Gauge::default(),
        };
        registry.register("http_requests", "Answered requests", metrics.requests.clone());
        registry.register_with_unit("http_request_duration", "Time until the answer begins", Unit::Seconds, metrics.seconds.clone());
        registry.register("http_requests_in_flight", "Requests whose answer has not begun", metrics.in_flight.clone());
        registry.register("http_requests_overloaded", "Requests refused because too many were in flight", metrics.overloaded.clone());
        registry.register("http_requests_shed", "Requests that had to go for others that matter more", metrics.shed.clone());
        registry.register(
            "http_requests_unmatched",
            "Requests to an unknown path or with a method it does not take",
            metrics.unmatched.clone(),
        );
        let help = "How each dependency is: 0 as it should be, 1 degraded, 2 away";
        registry.register("health_dependency", help, metrics.dependencies.clone());
        registry.register("http_connections", "Open connections", metrics.connections.clone());
        registry.register("http_event_streams", "Open event streams", metrics.event_streams.clone());
        metrics
    }

    /// Counts a request that was turned away for others.
    pub(crate) fn shed(&self, priority: Priority) {
        let priority = match priority {
            Priority::Background => "background",
            Priority::Low => "low",
            Priority::Normal => "normal",
            Priority::Critical => "critical",
        };
        self.shed.get_or_create_owned(&PriorityLabel { priority }).inc();
    }

    /// Notes how a dependency is.
    pub(crate) fn dependency(&self, name: &'static str, mode: Mode) {
        let level = match mode {
            Mode::Normal => 0,
            Mode::Degraded => 1,
            Mode::Away => 2,
        };
        self.dependencies.get_or_create_owned(&DependencyLabel { name }).set(level);
    }

    /// The metrics of one route, looked up once.
    pub(crate) fn of_route(&self, method: &Method, route: &str) -> RouteMetrics {
        let (method, route) = (method.to_string(), route.to_owned());
        let by_class = CLASSES
            .map(|status| self.requests.get_or_create_owned(&RequestLabels { method: method.clone(), route: route.clone(), status }));
        RouteMetrics { by_class, seconds: self.seconds.get_or_create_owned(&RouteLabels { method, route }) }
    }
}

/// The metrics of one method of one route.
pub(crate) struct RouteMetrics {
    by_class: [Counter; 5],
    seconds: Histogram,
}

impl RouteMetrics {
    /// Counts an answer.
    pub(crate) fn record(&self, status: StatusCode, took: Duration) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        self.by_class[class].inc();
        self.seconds.observe(took.as_secs_f64());
    }
}
