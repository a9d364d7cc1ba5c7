//! What commands of modules and people do to sagas, in their own transactions. In the scope, and so on the lane, of the saga's owner.

use crate::engine;
use crate::ride::{Begun, Calling};
use crate::saga::{MAX_KEY, Phase, Saga, SagaId, Status, to_json};
use crate::scope::keyed;
use crate::{Kind, Outcome, sql};
use kernel::{Error, Result, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{FromRow, Row, Tx};

/// The most signals that one saga is told in its life.
const MAX_SIGNALS: i64 = 64;
/// How long a person's retry gives a saga whose deadline can't be told, in milliseconds.
const AGAIN_MS: i64 = 24 * 3_600_000;

/// What became of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Signalled {
    /// It is kept until the saga hears it.
    Kept,
    /// The saga was told this before.
    Duplicate,
    /// The saga has ended.
    Ended,
    /// There is no such saga.
    NoSaga,
}

/// What a person has found out about a parked saga's call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Decision {
    /// It has happened, and this is the answer.
    Done(Value),
    /// It has not happened and will not.
    Refused(String),
}

fn key_fits(text: &str, what: &str) -> Result<()> {
    if text.is_empty() || text.len() > MAX_KEY {
        return Err(Error::invalid("workflow.invalid_key", format!("{what} has 1 to {MAX_KEY} bytes")));
    }
    Ok(())
}

/// The name of a report has one more byte.
pub(crate) fn call_key_fits(key: &str) -> Result<()> {
    if key.is_empty() || key.len() >= MAX_KEY {
        return Err(Error::invalid("workflow.invalid_key", format!("a stable key has 1 to {} bytes", MAX_KEY - 1)));
    }
    Ok(())
}

/// Starts a saga: exactly one for each tenant, kind and business key. Repeated, it does nothing. Where this process runs sagas, what its
/// first steps do in SQL is done at the end of this command, in its transaction, and its first call goes out when that is committed;
/// otherwise all of it comes later. Errors: `workflow.invalid_key`, `workflow.too_large`.
pub fn start(tx: &mut Tx<'_>, kind: Kind, key: &str, state: &impl Serialize) -> Result<()> {
    insert(tx, kind, key, state, None)
}

/// The same, not before `at`: a job for later, a timer of one row.
pub fn start_at(tx: &mut Tx<'_>, kind: Kind, key: &str, state: &impl Serialize, at: Timestamp) -> Result<()> {
    insert(tx, kind, key, state, Some(at))
}

/// Starts a saga whose first step calls out, with that call prepared: for a command that has at hand what the step's own [`crate::Prepare`]
/// would look up, and does now what that would do. What is asked under which stable key is as for [`crate::Prepared::Call`]. The business key
/// is one that no saga can have been started under, such as a fresh id. The command that starts it does not tell it anything: it is written
/// down at its end.
/// Errors: `workflow.invalid_key`, `workflow.too_large`; `internal` for a business key that is taken.
pub fn start_calling(tx: &mut Tx<'_>, kind: Kind, key: &str, state: &impl Serialize, call_key: &str, body: &impl Serialize) -> Result<()> {
    key_fits(key, "a business key")?;
    call_key_fits(call_key)?;
    let saga =
        Saga::calling(tx.new_id(), kind, key, to_json(state, "a saga's state")?, call_key, to_json(body, "what is asked")?, tx.now());
    match tx.leave(Calling(Box::new(saga))) {
        None => Ok(()),
        Some(Calling(saga)) => {
            tx.wake();
            engine::insert(tx, &saga)
        }
    }
}

fn insert(tx: &mut Tx<'_>, kind: Kind, key: &str, state: &impl Serialize, at: Option<Timestamp>) -> Result<()> {
    key_fits(key, "a business key")?;
    let state = to_json(state, "a saga's state")?;
    let now = tx.now();
    let later = at.filter(|at| *at > now);
    let status = if later.is_some() { Status::Waiting } else { Status::Running };
    let id: SagaId = tx.new_id();
    let row = (id, kind.name, key, kind.version, status.as_str(), later.unwrap_or(now), now, state);
    tx.exec(sql::START, &keyed(tx.scope(), &row)[..])?;
    if later.is_none() {
        due_now(tx, id, 0);
    }
    Ok(())
}

/// A saga that is due now is gone on with at the end of this command, or found soon.
fn due_now(tx: &mut Tx<'_>, id: SagaId, token: i64) {
    let correlation = tx.correlation();
    if tx.leave(Begun { id, token, correlation }).is_some() {
        tx.wake();
    }
}

/// What has to be known of a saga to tell it something.
struct Addressee {
    id: SagaId,
    status: Status,
    phase: Phase,
    undoing: bool,
    owner: i64,
    token: i64,
    call_key: String,
    awaits: String,
    signals: i64,
    known: i64,
}

impl FromRow for Addressee {
    fn from_row(row: &dyn Row) -> Result<Addressee> {
        Ok(Addressee {
            id: row.get(0)?,
            status: Status::parse(&row.get::<String>(1)?)?,
            phase: Phase::parse(&row.get::<String>(2)?)?,
            undoing: row.get(3)?,
            owner: row.get(4)?,
            token: row.get(5)?,
            call_key: row.get(6)?,
            awaits: row.get(7)?,
            signals: row.get(8)?,
            known: row.get(9)?,
        })
    }
}

/// Tells a saga something. The name says what, and is heard once in a saga's life: the same name again is a duplicate, so what may
/// differ belongs into it (`captured:ch_123`). One that comes before it is waited for is kept; nobody has to be there.
/// Errors: `workflow.invalid_key`, `workflow.too_large`, `workflow.too_many_signals` beyond 64 for one saga.
pub fn signal(tx: &mut Tx<'_>, kind: Kind, key: &str, name: &str, payload: &impl Serialize) -> Result<Signalled> {
    if name.starts_with('=') {
        return Err(Error::invalid("workflow.invalid_key", "a signal's name does not begin with ="));
    }
    tell(tx, kind, key, name, payload)
}

/// Tells the outcome of the call with this stable key, as a callback knows it. It ends the doubt at once, also that of a parked saga.
/// Whoever is first, the call's own answer or this, is heard; the other is harmless. Errors: as [`signal`], and
/// `workflow.not_an_outcome` for [`Outcome::NotDone`] and [`Outcome::Unknown`], which tell nothing.
pub fn report(tx: &mut Tx<'_>, kind: Kind, key: &str, call_key: &str, outcome: &Outcome) -> Result<Signalled> {
    if matches!(outcome, Outcome::NotDone(_) | Outcome::Unknown(_)) {
        return Err(Error::invalid("workflow.not_an_outcome", "only what was done or refused can be reported"));
    }
    tell(tx, kind, key, &report_name(call_key), outcome)
}

/// The name under which the outcome of a call is kept.
pub(crate) fn report_name(call_key: &str) -> String {
    format!("={call_key}")
}

fn tell(tx: &mut Tx<'_>, kind: Kind, key: &str, name: &str, payload: &impl Serialize) -> Result<Signalled> {
    key_fits(name, "a signal's name")?;
    let payload = to_json(payload, "a signal's payload")?;
    let (scope, now) = (tx.scope(), tx.now());
    let found: Option<Addressee> = tx.opt(sql::ADDRESSEE, &keyed(scope, &(kind.name, key, name))[..])?;
    let Some(saga) = found else { return Ok(Signalled::NoSaga) };
    if saga.status.ended() {
        return Ok(Signalled::Ended);
    }
    if saga.known > 0 {
        return Ok(Signalled::Duplicate);
    }
    if saga.signals >= MAX_SIGNALS {
        return Err(Error::failed_precondition(
            "workflow.too_many_signals",
            format!("a saga is told at most {MAX_SIGNALS} different things"),
        ));
    }
    tx.exec(sql::KEEP_SIGNAL, &keyed(scope, &(saga.id, name, now, payload))[..])?;
    let awaited = match saga.phase {
        Phase::Wait => serde_json::from_str::<Vec<String>>(&saga.awaits).is_ok_and(|names| names.iter().any(|awaited| awaited == name)),
        Phase::Call | Phase::Doubt | Phase::Again => report_name(&saga.call_key) == name,
        Phase::Prepare | Phase::Answer | Phase::End => false,
    };
    // A node that has it looks for itself before it lets go.
    if awaited && saga.owner == 0 {
        let status = if saga.undoing { Status::Compensating } else { Status::Running };
        tx.exec(sql::WAKE, &keyed(scope, &(saga.id, now, status.as_str()))[..])?;
        due_now(tx, saga.id, saga.token);
    }
    Ok(Signalled::Kept)
}

fn load(tx: &mut Tx<'_>, id: SagaId) -> Result<Saga> {
    let scope = tx.scope();
    let found = tx.opt(sql::LOAD, &keyed(scope, &(id,))[..])?;
    found.ok_or_else(|| Error::not_found("workflow.not_found", "there is no such saga; ended ones are kept for a while only"))
}

/// Cancels a saga: what it has done is undone, and it ends as cancelled. While a call is under way or in doubt, its outcome is awaited
/// and heard first. Answers false when there is none, or it has ended, or is being undone already.
pub fn cancel(tx: &mut Tx<'_>, kind: Kind, key: &str) -> Result<bool> {
    let scope = tx.scope();
    let found: Option<Saga> = tx.opt(sql::FIND, &keyed(scope, &(kind.name, key))[..])?;
    found.map_or(Ok(false), |saga| cancel_loaded(tx, &saga))
}

/// The same for a person who has its id. Errors: `workflow.not_found`, `workflow.not_cancellable`.
pub fn cancel_saga(tx: &mut Tx<'_>, id: SagaId) -> Result<()> {
    let saga = load(tx, id)?;
    if cancel_loaded(tx, &saga)? {
        return Ok(());
    }
    Err(Error::failed_precondition("workflow.not_cancellable", "it has ended, or is being undone already"))
}

fn cancel_loaded(tx: &mut Tx<'_>, saga: &Saga) -> Result<bool> {
    if saga.status.ended() || saga.undoing {
        return Ok(false);
    }
    let now = tx.now();
    // A node that has it sees the wish when it is done with what it is at.
    let (status, next_at) = match saga.owner {
        0 => (Status::Running, Some(now)),
        _ => (saga.status, saga.next_at),
    };
    tx.exec(sql::CANCEL, &keyed(tx.scope(), &(saga.id, status.as_str(), next_at))[..])?;
    tx.wake();
    Ok(true)
}

/// Tries a parked saga again where it stopped, with all its attempts and its time before it; one that waits for its next attempt is
/// tried now. Errors: `workflow.not_found`, `workflow.not_retryable`.
pub fn retry(tx: &mut Tx<'_>, id: SagaId) -> Result<()> {
    let saga = load(tx, id)?;
    let stuck = saga.status == Status::Parked || (saga.owner == 0 && saga.attempts > 0);
    if saga.status.ended() || !stuck {
        return Err(Error::failed_precondition("workflow.not_retryable", "it is not parked and has not failed"));
    }
    let refused = matches!(serde_json::from_str(&saga.answer), Ok(Outcome::Refused(_)));
    if saga.undoing && saga.phase == Phase::Answer && refused {
        // Undone anew, under another stable key: the same one would be refused again.
        return resume(tx, &saga, Phase::Prepare, String::new(), saga.visit + 1);
    }
    let answer = saga.answer.clone();
    resume(tx, &saga, saga.phase, answer, saga.visit)
}

/// Tells what a person has found out about the call that a saga is parked for. Errors: `workflow.not_found`,
/// `workflow.not_in_doubt`, `workflow.too_large`.
pub fn decide(tx: &mut Tx<'_>, id: SagaId, decision: &Decision) -> Result<()> {
    let saga = load(tx, id)?;
    if saga.status != Status::Parked || !matches!(saga.phase, Phase::Call | Phase::Doubt | Phase::Again | Phase::Answer) {
        return Err(Error::failed_precondition("workflow.not_in_doubt", "it is not parked for the outcome of a call"));
    }
    let outcome = match decision {
        Decision::Done(answer) => Outcome::Done(answer.clone()),
        Decision::Refused(reason) => Outcome::Refused(reason.clone()),
    };
    let answer = to_json(&outcome, "an answer")?;
    resume(tx, &saga, Phase::Answer, answer, saga.visit)
}

fn resume(tx: &mut Tx<'_>, saga: &Saga, phase: Phase, answer: String, visit: u32) -> Result<()> {
    let now = tx.now();
    let length = match (saga.since, saga.deadline_at) {
        (Some(since), Some(deadline)) => deadline.ms_since(since).max(0),
        _ => AGAIN_MS,
    };
    let status = if saga.undoing { Status::Compensating } else { Status::Running };
    let row = (saga.id, status.as_str(), now, now.plus_ms(length), phase.as_str(), answer, visit);
    tx.exec(sql::RESUME, &keyed(tx.scope(), &row)[..])?;
    tx.wake();
    Ok(())
}
