//! Durable sagas, jobs and timers inside the store, without a server of their own: whatever reaches outside is a step of one.
//!
//! Promises: a step is prepared in a transaction, called outside it under a stable key, and its outcome is written in a transaction that
//! also moves the business state; an outcome that is unknown is asked about, told, or parked for a person, never guessed; what was done
//! is undone in reverse when the rest can't be; a process that dies at any point is taken over; two nodes don't run a step at once as
//! far as leases go, and what a stale one writes is refused by its fencing token; a saga ends under the version of its steps under
//! which it began; a timer that is not due costs nothing.
//! Must never know: what any step does.
//!
//! In reading order: [`Workflow`] says what runs, [`Saga`] what it sees of itself; [`start`], [`signal`], [`report`] are for commands;
//! `engine` is what happens in a transaction, `runner` what happens between them, `ride` how a saga takes its first step in the transaction
//! that starts it, `turns` whose turn it is.

mod commands;
mod config;
mod each;
mod engine;
mod metrics;
mod parts;
mod probe;
mod queries;
mod ride;
mod runner;
mod saga;
mod scope;
mod sql;
#[cfg(test)]
mod tests;
mod turns;
mod workflow;

pub use commands::{Decision, Signalled, cancel, cancel_saga, decide, report, retry, signal, start, start_at, start_calling};
pub use config::{OnOutcome, RunnerConfig};
pub use each::start_in_each;
pub use parts::{Parts, Request};
pub use probe::{Fate, Point, Probe};
pub use queries::{Act, act, find, find_named, inspect, inspect_of, list, list_of, overdue, parked, parked_of_shard};
pub use runner::Runner;
pub use saga::{Did, Saga, SagaEntity, SagaId, SagaView, Status};
pub use workflow::{Action, CallOut, Ending, Heard, Kind, Next, Outcome, Parking, Prepare, Prepared, Resolve, Step, Workflow, go_on};

/// The tables of sagas and of what they are told.
pub fn migrations() -> store::Migrations {
    store::Migrations {
        module: "workflow",
        steps: &[store::Migration { number: 1, name: "sagas", sql: include_str!("../migrations/0001_sagas.sql") }],
    }
}
