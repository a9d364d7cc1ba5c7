//! What became of what was taken in, told in the tenant's own database: once, to every node, and to whoever follows the events.

use super::queue::{Outcome, status_url};
use kernel::Result;
use serde::Serialize;
use store::{NewEvent, Read, Tx};
use web::{IntakeId, IntakeState, TakenIn};

/// It is kept for so long, in milliseconds: a week.
const KEEP_MS: i64 = 7 * 24 * 3_600_000;

const OUTCOME: &str =
    "SELECT state, location, code, detail, taken_in_at, ended_at FROM intake_outcomes WHERE tenant_id = $1 AND intake_id = $2";
const INSERT: &str = "INSERT INTO intake_outcomes (tenant_id, intake_id, state, location, code, detail, taken_in_at, ended_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
const PURGE: &str = "DELETE FROM intake_outcomes WHERE tenant_id = $1 AND intake_id < $2";

/// All of them, for tests that prepare each on both engines.
pub(super) const STATEMENTS: [(&str, &str); 3] = [("OUTCOME", OUTCOME), ("INSERT", INSERT), ("PURGE", PURGE)];

/// Payload of both events.
#[derive(Serialize)]
struct Told<'a> {
    intake_id: IntakeId,
    location: Option<&'a str>,
    code: Option<&'a str>,
    detail: Option<&'a str>,
}

/// Tells what became of a request. If that was told before, that stands, and is given instead.
pub(super) fn tell(tx: &mut Tx<'_>, new: &Outcome) -> Result<Outcome> {
    if let Some(known) = outcome(tx, new.intake_id)? {
        return Ok(known);
    }
    let (state, location, code, detail) = (new.state.as_str(), new.location.as_deref(), new.code.as_deref(), new.detail.as_deref());
    tx.exec(PURGE, (IntakeId::first_at(tx.now().unix_ms() - KEEP_MS),))?;
    tx.exec(INSERT, (new.intake_id, state, location, code, detail, new.taken_in_at, new.ended_at))?;
    let kind = if new.state == IntakeState::Placed { "intake.placed" } else { "intake.refused" };
    tx.emit(NewEvent::new(kind, 1, new.intake_id, &Told { intake_id: new.intake_id, location, code, detail }));
    Ok(new.clone())
}

/// What was told of a request.
pub(super) fn outcome(read: &mut Read<'_>, intake_id: IntakeId) -> Result<Option<Outcome>> {
    type Columns = (String, Option<String>, Option<String>, Option<String>, kernel::Timestamp, kernel::Timestamp);
    let Some((state, location, code, detail, taken_in_at, ended_at)) = read.opt::<Columns>(OUTCOME, (intake_id,))? else {
        return Ok(None);
    };
    Ok(Some(Outcome { intake_id, state: IntakeState::parse(&state)?, location, code, detail, taken_in_at, ended_at }))
}

/// The same, as it is shown.
pub(super) fn shown(outcome: Outcome) -> TakenIn {
    let Outcome { intake_id, state, location, code, detail, taken_in_at, ended_at } = outcome;
    TakenIn { intake_id, state, status_url: status_url(intake_id), location, code, detail, taken_in_at, ended_at: Some(ended_at) }
}
