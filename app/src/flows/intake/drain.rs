//! Places what was taken in, when the database is back.

use super::queue::{Outcome, Queue};
use super::tell;
use axum::http::header::LOCATION;
use futures_util::future::join_all;
use kernel::{Error, ErrorKind, Result, Scope, TenantId};
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

/// Places what waits and what arrives, for as long as it is awaited. It may be cut off anywhere.
pub(crate) async fn drain(queue: Arc<Queue>, web: Web) {
    let mut failures = HashMap::new();
    loop {
        if queue.is_empty() {
            if let Err(error) = queue.purge().await {
                tracing::warn!(?error, "what was taken in long ago can't be forgotten");
            }
            failures.clear();
            let _ = tokio::time::timeout(PURGE, queue.arrived.notified()).await;
        } else if is_back(&web).await {
            round(&queue, &web, &mut failures).await;
        } else {
            tokio::time::sleep(LOOK).await;
        }
    }
}

async fn is_back(web: &Web) -> bool {
    let asked = web.app().store().read(Scope::Platform, |read| read.one::<(i64,)>("SELECT CAST(1 AS BIGINT)", ()));
    matches!(tokio::time::timeout(PATIENCE, asked).await, Ok(Ok(_)))
}

/// One order of each of some tenants.
async fn round(queue: &Queue, web: &Web, failures: &mut HashMap<IntakeId, u32>) {
    let began = Instant::now();
    let heads = queue.heads(AT_ONCE);
    let mut pause = ROUND;
    for ((_, intake_id), placed) in heads.iter().zip(join_all(heads.iter().map(|head| place(queue, web, *head, failures))).await) {
        match placed {
            Ok(()) => _ = failures.remove(intake_id),
            Err(error) => {
                tracing::warn!(%intake_id, ?error, "what was taken in can't be placed now");
                *failures.entry(*intake_id).or_default() += u32::from(error.kind() == ErrorKind::Internal);
                pause = LOOK;
            }
        }
    }
    tokio::time::sleep_until(began + pause).await;
}

/// Places an order, tells of it, and forgets it. Errors: what may pass, and `internal`; then it is still the first.
async fn place(queue: &Queue, web: &Web, (tenant, intake_id): (TenantId, IntakeId), failures: &HashMap<IntakeId, u32>) -> Result<()> {
    let due = queue.due(tenant, intake_id).await?;
    let (store, taken_in_at) = (web.app().store(), due.taken_in_at);
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
    Error::failed_precondition("intake.too_late", "the database was away for so long that it was not placed any more; nothing was done")
}

/// A refusal for a person: its detail, and what is wrong with each field.
fn in_words(error: &Error) -> String {
    let fields = error.field_errors().iter().map(|field| format!("; {}: {}", field.field, field.detail));
    std::iter::once(error.detail().to_owned()).chain(fields).collect()
}
