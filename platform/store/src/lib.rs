//! SQL on lanes: one embedded SQLite file or a PostgreSQL database a shard, group commit, idempotency and events in the same transaction.
//!
//! Promises: a command is answered only after its state, its idempotency key and its events are durable together; a tenant's commands
//! run one after another on one lane; a statement in a tenant's scope touches that tenant's rows alone; every queue is bounded.
//! Must never know: HTTP, or what any table of a module means.

pub mod backup;
mod call;
mod copy;
mod event;
mod job;
mod lane;
mod lease;
mod metrics;
mod migrate;
pub mod move_tenant;
mod observe;
mod once;
pub mod partition;
mod peekers;
mod postgres;
mod queue;
mod reader;
mod replica;
mod rider;
mod sql;
mod sqlite;
mod store;
mod tx;
mod value;
mod wall;

pub use call::{Call, Once, OnceKey};
pub use event::{Event, EventEntity, EventId, HISTORY_LANE, NewEvent, Position};
pub use job::{Member, SetFunction};
pub use lease::{Candidate, Lease};
pub use migrate::{Migration, Migrations, Pending, pending_migrations};
pub use observe::{Change, Observe, Observer};
pub use replica::CommitPosition;
pub use rider::{Left, Rider};
pub use sql::Sql;
pub use store::{Engine, Environment, ShardConfig, Store, StoreConfig, analyze};
pub use tx::{Read, Tx};
pub use value::{ArgList, Args, FromRow, FromValue, MAX_ARGS, Row, ToValue, Value, ValueRef};
pub use wall::schema_problems;
