//! What time does to carts: abandoned, given up, forgotten.
//!
//! One sleeping saga a tenant looks at what is due, so many carts a time, and sleeps until the next is. A cart's `next_at` is never
//! sooner than the time of abandonment or a day from its last write, so a sleep of that length misses none; the saga that sleeps is a row that
//! costs nothing, and whose turn it is among tenants is the engine's business.

use crate::commands;
use crate::model::Due;
use crate::sql::{self, Head};
use crate::{events, queries};
use kernel::{Result, Timestamp};
use store::Tx;
use workflow::{Action, Kind, Next, Prepared, Saga, Workflow};

/// Looks after a tenant's carts; its business key is `carts`.
pub const SWEEP: Kind = Kind { name: "carts.sweep", version: 1 };

/// So many carts at a time: a lane is not held up for long.
pub(crate) const BATCH: i64 = 100;
/// No cart is given up sooner than this after a change, in milliseconds.
const LONGEST_SLEEP_MS: i64 = 24 * 3_600_000;
const KEY: &str = "carts";

pub(crate) fn workflows() -> Vec<Workflow> {
    vec![Workflow::job(SWEEP, Action::sql(sweep))]
}

/// Sees to it that somebody looks at `at` or sooner. Does nothing for a tenant that has its saga.
pub(crate) fn begin(tx: &mut Tx<'_>, at: Timestamp) -> Result<()> {
    workflow::start_at(tx, SWEEP, KEY, &(), at)
}

fn sweep(tx: &mut Tx<'_>, _: &mut Saga) -> Result<Prepared> {
    let now = tx.now();
    let (settings, _) = queries::settings(tx)?;
    let due: Vec<Head> = tx.all(sql::DUE, (now, BATCH))?;
    let seen = due.len() as i64;
    let mut looks = Vec::new();
    for Head { cart, .. } in &due {
        match cart.due(now, &settings) {
            Due::Look(at) => looks.push((cart.cart_id, at)),
            Due::Abandon => {
                tx.exec(sql::ABANDON, (cart.cart_id, now, cart.expires_at))?;
                tx.emit(events::abandoned(cart));
            }
            Due::Expire => commands::expire(tx, cart.cart_id)?,
            Due::Forget => {
                tx.exec(sql::DELETE_LINES, (cart.cart_id,))?;
                tx.exec(sql::DELETE_CART, (cart.cart_id,))?;
            }
        }
    }
    tx.exec_each(sql::LOOK_AGAIN, looks)?;
    if seen == BATCH {
        return Ok(Prepared::Next(Next::StepAt("run", now)));
    }
    let (next,): (Option<Timestamp>,) = tx.one(sql::NEXT_DUE, ())?;
    let latest = settings.abandonment(now).min(now.plus_ms(LONGEST_SLEEP_MS));
    // Never at once: what is due now was looked at.
    let at = next.map_or(latest, |next| next.min(latest)).max(now.plus_ms(1_000));
    Ok(Prepared::Next(Next::StepAt("run", at)))
}
