//! Named durable consumers over the events of each shard's lanes: effect and position in one transaction where the effect is SQL.
//!
//! Promises: a consumer sees the events of one (tenant, subject) in order; an SQL effect happens exactly once however many nodes
//! run; an outside effect happens at least once; an event that fails holds back its own key alone, is retried with jittered
//! backoff, and ends as a dead letter that can be inspected, retried or skipped; a consumer can be replayed from any position.
//! Must never know: what an event means.
//!
//! In reading order: [`Consumer`] says what runs, `runs` who gets what, `backoff` when again; `positions` and `failures` are the
//! two tables; `lane` drives SQL effects, `outside` the others, `retry` what has failed; [`Log`] is the handle on it all.

mod backoff;
mod config;
mod consumer;
mod failures;
mod handle;
mod lane;
mod metrics;
mod outside;
mod positions;
mod replay;
mod retry;
mod runs;
mod sql;
#[cfg(test)]
mod tests;

pub use backoff::Backoff;
pub use config::LogConfig;
pub use consumer::{ALL_EVENTS, Consumer, Effect, OutsideEffect, Reset, SqlEffect};
pub use failures::{Failure, FailureKey, FailureState, FailureSummary, FailuresOf};
pub use handle::{Lag, Log};
pub use replay::ReplayOf;

/// The tables of positions and failures.
pub fn migrations() -> store::Migrations {
    store::Migrations {
        module: "log",
        steps: &[store::Migration {
            number: 1,
            name: "positions_and_failures",
            sql: include_str!("../migrations/0001_positions_and_failures.sql"),
        }],
    }
}
