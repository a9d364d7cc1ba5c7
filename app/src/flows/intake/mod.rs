//! Orders that are taken in while the database is away, and placed when it is back.
//!
//! **What is taken in.** `POST /api/v1/orders`, and nothing else: its caller has decided what is bought and for how much, and it needs no stock
//! and no money to be right. A checkout promises stock and asks for money, which nobody can decide without the database; it is refused. The
//! order is checked as far as it can be without the database, written down in a file of this node's own, and answered with 202, a temporary id
//! (`qor_...`) and the place where its state can be asked for. The modules know nothing of it: a route says that it may be taken in
//! ([`web::Route::taken_in`]), and what is kept is the request.
//!
//! **Where.** In the data folder, `intake-<node>/queue.db`: an SQLite store with one table. Its lane groups what arrives together into one
//! commit, and answers when that is on the disk; so a node that is killed has forgotten nothing that it has answered. On PostgreSQL only, and
//! there unless `intake.enabled` says no: with SQLite inside the database is this disk, and when that fails there is nowhere to write. What was
//! taken in before that was switched off is placed all the same, and a start warns of what waits in the folder for nobody ([`stranded`]).
//!
//! **Who may.** Whoever was known in the hour before the database went away (identity remembers credentials with their permissions); anybody
//! else gets 503, since nobody can be looked up. Whoever asked is looked up again before the order is placed, and if the key was revoked
//! meanwhile, the order is refused.
//!
//! **How much.** Bounded in orders, bytes, and orders of one tenant; beyond that 503 with `Retry-After`, which is the back-pressure.
//!
//! **Once.** An order is placed under the caller's `Idempotency-Key`, or, if there is none, under its temporary id, as if the caller had sent it
//! again. A first attempt that had reached the database, a client that tries again on its own, another node that has taken in the same: all
//! end as one order. A request without a key whose first attempt may have been done is not taken in. Keys are kept for a day; so what has waited
//! for longer than [`drain::LONGEST_WAIT_MS`] is refused, not placed.
//!
//! **When the database is back**, each tenant's orders are placed one after the other, as they came, tenants side by side, at a bounded rate
//! ([`drain`]). What became of one is written in the tenant's database together with an event, `intake.placed` or `intake.refused`, which
//! webhooks deliver: so the customer is told once, and every node knows. Orders that arrive then don't wait for those that were taken in.

mod drain;
mod queue;
mod routes;
mod tell;
#[cfg(test)]
mod tests;

use crate::lock::FolderLock;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::path::Path;
use std::sync::Arc;
use store::Environment;
use web::{Dependency, EventInfo, InScope, Mode, Module, Statement};

pub(crate) use drain::drain;
pub(crate) use queue::{Bounds, Queue};

const MIGRATIONS: &[store::Migration] = &[store::Migration { number: 1, name: "first", sql: include_str!("migrations/0001_first.sql") }];

const EVENTS: &[EventInfo] = &[
    EventInfo { kind: "intake.placed", version: 1, description: "An order that was taken in while the database was away was placed." },
    EventInfo { kind: "intake.refused", version: 1, description: "An order that was taken in while the database was away was refused." },
];

/// The flow, as a module with tables.
pub(crate) fn module() -> Module {
    Module {
        routes: routes::routes(),
        events: EVENTS,
        statements: tell::STATEMENTS.iter().map(|(name, sql)| Statement::new(name, *sql, InScope::Tenant)).collect(),
        ..Module::new("intake", MIGRATIONS)
    }
}

/// This node's queue; a part of the application.
#[derive(Clone)]
pub(crate) enum OrderIntake {
    /// Nothing is taken in here, by configuration, or because the database is inside.
    Off,
    /// It should be, and can't.
    Broken(String),
    /// It is not any more; what was taken in before is placed.
    Draining(Arc<Queue>),
    /// It is.
    On(Arc<Queue>),
}

/// The folder of a node's queue begins with this, and ends with the node's number.
const FOLDER: &str = "intake-";
const FILE: &str = "queue.db";

impl OrderIntake {
    /// Opens the queue in the data folder. A node that can't serves without it, and says so in its health: it may be one without a disk.
    pub(crate) async fn open(data: &Path, bounds: Bounds, environment: Environment, node: u16) -> OrderIntake {
        match open(data, bounds, environment, node).await {
            Ok(queue) => OrderIntake::On(Arc::new(queue)),
            Err(why) => {
                tracing::warn!(why, "no orders can be taken in while the database is away");
                OrderIntake::Broken(why)
            }
        }
    }

    /// Opens the queue of a node that takes nothing in any more, if there is one in which something waits.
    pub(crate) async fn left(data: &Path, environment: Environment, node: u16) -> OrderIntake {
        if !data.join(format!("{FOLDER}{node}")).join(FILE).is_file() {
            return OrderIntake::Off;
        }
        match open(data, Bounds::NOTHING, environment, node).await {
            Ok(queue) if queue.is_empty() => {
                queue.close().await;
                OrderIntake::Off
            }
            Ok(queue) => OrderIntake::Draining(Arc::new(queue)),
            Err(why) => {
                tracing::error!(why, "orders that were taken in may wait in a file that can't be opened");
                OrderIntake::Off
            }
        }
    }

    /// The queue that takes orders in, if one does.
    pub(crate) fn taking(&self) -> Option<&Arc<Queue>> {
        match self {
            OrderIntake::On(queue) => Some(queue),
            OrderIntake::Off | OrderIntake::Broken(_) | OrderIntake::Draining(_) => None,
        }
    }

    /// The queue of which orders are placed, if there is one.
    pub(crate) fn queue(&self) -> Option<&Arc<Queue>> {
        match self {
            OrderIntake::On(queue) | OrderIntake::Draining(queue) => Some(queue),
            OrderIntake::Off | OrderIntake::Broken(_) => None,
        }
    }

    /// What the health checks say of it; nothing where it is off.
    pub(crate) fn health(&self) -> Option<Dependency> {
        match self {
            OrderIntake::Off => None,
            OrderIntake::Broken(why) => {
                let detail = format!("nothing can be taken in while the database is away: {why}");
                Some(Dependency::new("intake", move || (Mode::Away, detail.clone())))
            }
            OrderIntake::On(queue) | OrderIntake::Draining(queue) => {
                let queue = queue.clone();
                Some(Dependency::new("intake", move || queue.health()))
            }
        }
    }

    /// Closes the file.
    pub(crate) async fn close(&self) {
        if let Some(queue) = self.queue() {
            queue.close().await;
        }
    }
}

async fn open(data: &Path, bounds: Bounds, environment: Environment, node: u16) -> Result<Queue, String> {
    let folder = data.join(format!("{FOLDER}{node}"));
    match FolderLock::take(&folder, "serve") {
        Ok(lock) => Queue::open(&folder.join(FILE), lock, bounds, environment, node).await.map_err(|error| error.to_string()),
        Err(failure) => Err(failure.detail),
    }
}

/// The queues in the data folder of which nobody places anything: those of other nodes that don't run here, and with `own` this node's. Each
/// by its node, and how many orders wait there.
pub(crate) async fn stranded(data: &Path, environment: &Environment, node: u16, own: bool) -> Vec<(u16, usize)> {
    let folders = std::fs::read_dir(data).into_iter().flatten().flatten();
    let nodes = folders.filter_map(|entry| entry.file_name().to_str()?.strip_prefix(FOLDER)?.parse::<u16>().ok());
    let mut found = Vec::new();
    for other in nodes.filter(|other| own || *other != node) {
        let folder = data.join(format!("{FOLDER}{other}"));
        if !folder.join(FILE).is_file() || FolderLock::held_by(&folder).is_some() {
            continue;
        }
        match open(data, Bounds::NOTHING, environment.clone(), other).await {
            Ok(queue) => {
                found.extend(Some((other, queue.orders())).filter(|(_, orders)| *orders > 0));
                queue.close().await;
            }
            Err(why) => tracing::warn!(node = other, why, "whether orders wait for another node can't be read"),
        }
    }
    found.sort_unstable();
    found
}

/// What is counted.
#[derive(Clone, Default)]
pub(crate) struct Metrics {
    waiting: Gauge,
    waiting_bytes: Gauge,
    taken_in: Counter,
    turned_away: Counter,
    placed: Counter,
    refused: Counter,
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("intake_waiting", "Orders that were taken in and wait for the database", self.waiting.clone());
        registry.register("intake_waiting_bytes", "Bytes of the orders that wait for the database", self.waiting_bytes.clone());
        registry.register("intake_taken_in", "Orders that were taken in", self.taken_in.clone());
        registry.register("intake_turned_away", "Orders that were not taken in for want of room", self.turned_away.clone());
        registry.register("intake_placed", "Orders that were taken in and placed", self.placed.clone());
        registry.register("intake_refused", "Orders that were taken in and refused", self.refused.clone());
    }
}
