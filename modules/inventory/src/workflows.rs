//! What happens by itself: reservations whose time is over let go of what they hold.
//!
//! A timer looks for tenants that have any, hopping along the index of expiries, and starts a job for each on its own lane; a job releases
//! them in small transactions, one after the other, so that no tenant waits for another's thousands.

use crate::reserve;
use kernel::Result;
use serde_json::Value;
use store::Tx;
use workflow::{Action, Kind, Next, Prepared, Saga, Workflow};

/// Looks for tenants with reservations whose time is over.
const SWEEP: &str = "inventory.sweep";
/// Releases a tenant's.
pub const EXPIRE: Kind = Kind { name: "inventory.expire", version: 1 };

/// How often, in milliseconds: so much longer than its time a reservation may hold something.
const SWEEP_MS: i64 = 10_000;
/// Reservations of one transaction of a job.
const BATCH: u32 = 100;

pub(crate) fn workflows() -> Vec<Workflow> {
    vec![Workflow::timer(SWEEP, SWEEP_MS, Action::sql(sweep)), Workflow::job(EXPIRE, Action::sql(expire))]
}

fn sweep(tx: &mut Tx<'_>, saga: &mut Saga) -> Result<Prepared> {
    workflow::start_in_each(tx, saga, EXPIRE, |tx, after, limit| reserve::tenants_with_due(tx, after, limit))
}

fn expire(tx: &mut Tx<'_>, _: &mut Saga) -> Result<Prepared> {
    let more = reserve::expire_due(tx, BATCH)? == BATCH;
    Ok(if more { Prepared::Next(Next::Step("run")) } else { Prepared::Done(Value::Null) })
}
