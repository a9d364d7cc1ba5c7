//! A timer's sweep over the tenants that have something to do: a job for each, on its own lane.

use crate::commands::start;
use crate::saga::Saga;
use crate::workflow::{Kind, Next, Prepared};
use kernel::{Result, TenantId};
use serde_json::Value;
use store::Tx;

/// Tenants of one transaction of a sweep.
const TENANTS: u32 = 200;

/// The action of a timer whose work is the tenants': starts a job of `kind` in each tenant that `find` tells of, a page of them in a
/// transaction. `find` gives the next tenants after this one, in their order, at most so many. A job's business key is the moment of its
/// page.
pub fn start_in_each(
    tx: &mut Tx<'_>,
    saga: &mut Saga,
    kind: Kind,
    find: impl FnOnce(&mut Tx<'_>, i64, u32) -> Result<Vec<TenantId>>,
) -> Result<Prepared> {
    let after: i64 = saga.state::<Option<i64>>()?.unwrap_or_default();
    let tenants = find(tx, after, TENANTS)?;
    let key = tx.now().micros().to_string();
    for tenant in &tenants {
        tx.in_tenant(*tenant, |tx| start(tx, kind, &key, &Value::Null))?;
    }
    let last = tenants.last().filter(|_| tenants.len() == TENANTS as usize).map(|tenant| tenant.as_i64());
    saga.set_state(&last)?;
    Ok(if last.is_some() { Prepared::Next(Next::Step("run")) } else { Prepared::Done(Value::Null) })
}
