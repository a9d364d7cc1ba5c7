//! The moments at which products begin and cease to be for sale by their schedule. Whether one is for sale is decided by the clock when it
//! is read; here it is told, once, so that whoever remembers or repeats what is for sale learns of it.
//!
//! A timer looks for tenants that have such moments, and starts a job for each on its own lane.

use crate::facets::Facets;
use crate::model::{Product, ProductId, ProductStatus};
use crate::{events, queries, sql};
use kernel::{Result, TenantId, Timestamp};
use serde_json::Value;
use store::Tx;
use workflow::{Action, Kind, Next, Prepared, Saga, Workflow};

/// Looks for tenants with moments that have come.
const SWEEP: &str = "catalog.sweep";
/// Tells of a tenant's.
const PUBLISH: Kind = Kind { name: "catalog.publish", version: 1 };

/// How often, in milliseconds: so late it may be told.
const SWEEP_MS: i64 = 10_000;
/// Moments of one transaction of a job.
const BATCH: u32 = 200;

pub(crate) fn workflows() -> Vec<Workflow> {
    vec![Workflow::timer(SWEEP, SWEEP_MS, Action::sql(sweep)), Workflow::job(PUBLISH, Action::sql(publish))]
}

/// Keeps the moments that are to be told in step with a product's schedule.
pub(crate) fn schedule(tx: &mut Tx<'_>, id: ProductId, before: &Facets, after: &Facets) -> Result<()> {
    let moments = |of: &Facets| [of.publish_at, of.unpublish_at].into_iter().flatten().collect::<Vec<Timestamp>>();
    let (old, new) = (moments(before), moments(after));
    for at in old.iter().filter(|at| !new.contains(at)) {
        tx.exec(sql::DELETE_MOMENT, (at, id))?;
    }
    // What has passed already is told by the change itself.
    let now = tx.now();
    for at in new.iter().filter(|at| !old.contains(at) && **at > now) {
        tx.exec(sql::INSERT_MOMENT, (at, id))?;
    }
    Ok(())
}

fn sweep(tx: &mut Tx<'_>, saga: &mut Saga) -> Result<Prepared> {
    workflow::start_in_each(tx, saga, PUBLISH, |tx, after, limit| {
        let now = tx.now();
        let tenants: Vec<(TenantId,)> = tx.all(sql::TENANTS_WITH_MOMENTS, (now, after, limit))?;
        Ok(tenants.into_iter().map(|(tenant,)| tenant).collect())
    })
}

fn publish(tx: &mut Tx<'_>, _: &mut Saga) -> Result<Prepared> {
    let more = tell(tx)? == BATCH as usize;
    Ok(if more { Prepared::Next(Next::Step("run")) } else { Prepared::Done(Value::Null) })
}

/// Tells of moments that have come, the earliest first; says how many.
pub(crate) fn tell(tx: &mut Tx<'_>) -> Result<usize> {
    let now = tx.now();
    let due: Vec<(Timestamp, ProductId)> = tx.all(sql::DUE_MOMENTS, (now, BATCH))?;
    for (at, id) in &due {
        tx.exec(sql::DELETE_MOMENT, (at, id))?;
        let product: Product = queries::bare_product(tx, *id)?;
        // A draft or an archived product is not for sale, whatever the clock says.
        if product.status == ProductStatus::Active {
            let facets = queries::facets(tx, *id)?;
            let kind = if facets.unpublish_at == Some(*at) { "product.unpublished" } else { "product.published" };
            tx.emit(events::moment(kind, &product, *at));
        }
    }
    Ok(due.len())
}
