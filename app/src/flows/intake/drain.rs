//! Places what was taken in, when the database is back.

use super::queue::{Outcome, Queue};
use super::tell;
use axum::http::header::LOCATION;
use futures_util::future::join_all;
use kernel::{Error, ErrorKind, Result, TenantId};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use store::Call;
use tokio::time::Instant;
use web::{IntakeId, IntakeState, Web};

/// What has waited for longer is refused, in milliseconds: the database keeps idempotency keys for a day, and an order whose first attempt
/// reached it must not be placed again when that is forgotten.
pub(super) const LONGEST_WAIT_MS: i64 = 20 * 3_600_000;
/// So many tenants at once.
const AT_ONCE: usize = 16;
/// Each of them one order in this time: a database that has just come back has others to serve.
const ROUND: Duration = Duration::from_millis(10);
/// How often it is looked whether the database is back.
const LOOK: Duration = Duration::from_millis(250);
/// How long that look may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often what ended is forgotten, when there is nothing to do.
const PURGE: Duration = Duration::from_secs(3_600);
/// An order that the program fails at is tried so often.
const MOST_FAILURES: u32 = 10;
/// A shard that an order could not be placed in rests for so many times as long as that took, so that the others are hardly held up by one
/// that hangs.
const REST: u32 = 4;
/// But no longer than this.
const LONGEST_REST: Duration = Duration::from_secs(10);

/// What is remembered between rounds.
#[derive(Default)]
struct Pace {
    /// How often the program has failed at an order.
    failures: HashMap<IntakeId, u32>,
    /// Shards that are away, and until when their tenants are left out.
    aside: HashMap<u16, Instant>,
}

impl Pace {
    /// An attempt that took so long found its shard away.
    fn set_aside(&mut self, shard: u16, took: Duration, now: Instant) {
        self.aside.insert(shard, now + (took * REST).clamp(LOOK, LONGEST_REST));
    }

    fn may(&self, shard: u16, now: Instant) -> bool {
        self.aside.get(&shard).is_none_or(|until| *until <= now)
    }
}

/// Places what waits and what arrives, for as long as it is awaited. It may be cut off anywhere.
pub(crate) async fn drain(queue: Arc<Queue>, web: Web) {
    let mut pace = Pace::default();
    loop {
        if queue.is_empty() {
            if let Err(error) = queue.purge().await {
                tracing::warn!(?error, "what was taken in long ago can't be forgotten");
            }
            pace = Pace::default();
            let _ = tokio::time::timeout(PURGE, queue.arrived.notified()).await;
        } else if is_back(&web, 0).await {
            round(&queue, &web, &mut pace).await;
        } else {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Whether a shard answers; the first one has the platform's tables, without which nothing can be placed.
async fn is_back(web: &Web, shard: u16) -> bool {
    let asked = web.app().store().read_shard(shard, |read| read.one::<(i64,)>("SELECT CAST(1 AS BIGINT)", ()));
    matches!(tokio::time::timeout(PATIENCE, asked).await, Ok(Ok(_)))
}

/// One order of each of some tenants.
async fn round(queue: &Queue, web: &Web, pace: &mut Pace) {
    let began = Instant::now();
    let shard = |tenant: TenantId| web.app().store().shard_of(tenant);
    let heads = queue.heads(AT_ONCE, |tenant| pace.may(shard(tenant), began));
    // Nobody may: all are set aside.
    let mut pause = if heads.is_empty() { LOOK } else { ROUND };
    let failures = &pace.failures;
    let attempts = heads.iter().map(|head| async move { (place(queue, web, *head, failures).await, began.elapsed()) });
    for ((tenant, intake_id), (placed, took)) in heads.iter().zip(join_all(attempts).await) {
        match placed {
            Ok(()) => _ = pace.failures.remove(intake_id),
            Err(error) => {
                tracing::warn!(%intake_id, ?error, "what was taken in can't be placed now");
                match error.kind() {
                    ErrorKind::Internal => *pace.failures.entry(*intake_id).or_default() += 1,
                    // The first one is asked before each round.
                    ErrorKind::Unavailable if shard(*tenant) != 0 => pace.set_aside(shard(*tenant), took, Instant::now()),
                    _ => {}
                }
                pause = LOOK;
            }
        }
    }
    tokio::time::sleep_until(began + pause).await;
}

/// Places an order, tells of it, and forgets it. Errors: what may pass, and `internal`; then it is still the first.
async fn place(queue: &Queue, web: &Web, (tenant, intake_id): (TenantId, IntakeId), failures: &HashMap<IntakeId, u32>) -> Result<()> {
    let (store, shard) = (web.app().store(), web.app().store().shard_of(tenant));
    if shard != 0 && !is_back(web, shard).await {
        return Err(Error::unavailable("store.unavailable", "the tenant's shard does not answer; nothing was done"));
    }
    let due = queue.due(tenant, intake_id).await?;
    let taken_in_at = due.taken_in_at;
    let call = Call::new(tenant).correlation(due.request.request_id.clone());
    let outcome = match store.peek(tenant, move |read| tell::outcome(read, intake_id)).await? {
        // This process, or the one before it, came so far and no further.
        Some(told) => told,
        None => {
            let late = queue.now().ms_since(taken_in_at) > LONGEST_WAIT_MS;
            let tired = failures.get(&intake_id).is_some_and(|failed| *failed >= MOST_FAILURES);
            let (state, location, refusal) = match if late { Err(too_late()) } else { web.again(due.request, &due.key).await } {
                Ok(answer) => {
                    let location = answer.headers().get(LOCATION).and_then(|place| place.to_str().ok()).map(str::to_owned);
                    (IntakeState::Placed, location, None)
                }
                Err(error) if may_pass(&error) && !(tired && error.kind() == ErrorKind::Internal) => return Err(error),
                Err(error) => (IntakeState::Refused, None, Some(error)),
            };
            let code = refusal.as_ref().map(|error| error.code().to_owned());
            let detail = refusal.as_ref().map(in_words);
            let outcome = Outcome { intake_id, state, location, code, detail, taken_in_at, ended_at: queue.now() };
            store.write(call, tell::tell, outcome).await?
        }
    };
    queue.end(tenant, outcome).await
}

/// Whether the same may succeed later.
fn may_pass(error: &Error) -> bool {
    use ErrorKind::{Internal, Limited, Overloaded, Unavailable, Unknown};
    matches!(error.kind(), Unavailable | Overloaded | Unknown | Limited | Internal)
}

fn too_late() -> Error {
    let detail =
        "the database was away for so long that it was not placed any more; if an attempt had reached the database before, it is there";
    Error::failed_precondition("intake.too_late", detail)
}

/// A refusal for a person: its detail, and what is wrong with each field.
fn in_words(error: &Error) -> String {
    let fields = error.field_errors().iter().map(|field| format!("; {}: {}", field.field, field.detail));
    std::iter::once(error.detail().to_owned()).chain(fields).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_hangs_rests_longer_than_it_hung() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.set_aside(1, Duration::from_secs(2), now);
        pace.set_aside(2, Duration::from_millis(1), now);
        pace.set_aside(3, Duration::from_secs(60), now);
        let rests = |shard: u16, ms: u64| !pace.may(shard, now + Duration::from_millis(ms));
        assert!(!rests(0, 0), "the others go on");
        assert!(rests(1, 7_999) && !rests(1, 8_000));
        assert!(rests(2, 249) && !rests(2, 250), "one that is gone at once is looked at as often as ever");
        assert!(rests(3, 9_999) && !rests(3, 10_000));
    }
}
