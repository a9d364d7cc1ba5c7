//! Commands of reconciliation. Each runs in one transaction and may be run again.

use super::books;
use super::format::{Format, Rule, RuleAction};
use super::matching::BreakKind;
use super::queries::{self, Break, BreakId, Run, RunId, RunView, Summary};
use super::sql;
use crate::model::ProviderId;
use kernel::{Currency, Error, Result};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use store::{Engine, NewEvent, Tx};
use web::IfMatch;

/// A format to set.
#[derive(Clone, Debug)]
pub(crate) struct SetFormat {
    pub provider_id: ProviderId,
    pub if_match: IfMatch,
    pub format: Format,
}

/// A format with its version.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Formatted {
    pub version: i64,
    pub format: Format,
}

/// Declares how a provider's files are read. Errors: `payments.provider_not_found`, `request.precondition_failed`.
pub(crate) fn set_format(tx: &mut Tx<'_>, set: &SetFormat) -> Result<Formatted> {
    crate::queries::provider(tx, set.provider_id)?;
    let version = tx.opt::<(i64, String)>(sql::FORMAT, (set.provider_id,))?.map_or(0, |(version, _)| version);
    set.if_match.check(version)?;
    let text = serde_json::to_string(&set.format).map_err(|e| Error::internal("a format does not serialise").caused_by(e))?;
    tx.exec(sql::SET_FORMAT, (set.provider_id, version + 1, text))?;
    Ok(Formatted { version: version + 1, format: set.format.clone() })
}

/// A file that is to be compared.
#[derive(Clone, Debug)]
pub(crate) struct Begin {
    pub provider_id: ProviderId,
    pub day: i64,
    pub digest: String,
}

/// Begins a run, takes one over that broke off, or finds that the file was compared before.
/// Errors: `payments.provider_not_found`, `payments.reconciliation_under_way` while another file of the provider is.
pub(crate) fn begin(tx: &mut Tx<'_>, begin: &Begin) -> Result<Run> {
    crate::queries::provider(tx, begin.provider_id)?;
    if let Some((run_id,)) = tx.opt::<(RunId,)>(sql::RUN_OF_FILE, (begin.provider_id, &begin.digest))? {
        let mut run = queries::run(tx, run_id)?;
        if matches!(run.state.as_str(), "matching" | "marking") {
            run.attempt += 1;
            tx.exec(sql::TAKE_RUN, (run_id, run.attempt))?;
            if run.state == "matching" {
                tx.exec(sql::CLEAR_BREAKS, (run_id, run.provider_id))?;
            }
        }
        return Ok(run);
    }
    if let Some((other,)) = tx.opt::<(RunId,)>(sql::RUN_UNDER_WAY, (begin.provider_id,))? {
        let detail = format!("{other} of this provider is under way or broke off; send its file again, or abandon it");
        return Err(Error::failed_precondition("payments.reconciliation_under_way", detail));
    }
    let (run_id, now): (RunId, _) = (tx.new_id(), tx.now());
    tx.exec(sql::INSERT_RUN, (run_id, begin.provider_id, begin.day, &begin.digest, now))?;
    tx.exec(sql::INSERT_FILE, (begin.provider_id, &begin.digest, run_id))?;
    Ok(Run {
        run_id,
        provider_id: begin.provider_id,
        day: begin.day,
        digest: begin.digest.clone(),
        state: "matching".to_owned(),
        attempt: 1,
        summary: Summary::default(),
        begun_at: now,
        ended_at: None,
        closed_at: None,
        note: None,
    })
}

fn superseded() -> Error {
    Error::conflict("payments.reconciliation_superseded", "somebody else has taken this reconciliation over")
}

/// A run as the one who goes through it holds it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub run_id: RunId,
    pub provider_id: ProviderId,
    pub attempt: i64,
}

/// A difference to write down.
#[derive(Clone, Debug)]
pub(crate) struct NewBreak {
    pub subject: String,
    pub kind: BreakKind,
    pub ours: Option<(i64, i64)>,
    pub line: Option<u32>,
    pub currency: Currency,
    pub ours_minor: Option<i64>,
    pub theirs_minor: Option<i64>,
    pub difference_minor: i64,
    pub day: i64,
    pub detail: String,
    /// Whether a later file may end it.
    pub awaits: bool,
}

/// Writes differences down; one that is known already is found again. Errors: `payments.reconciliation_superseded`.
pub(crate) fn write_breaks(tx: &mut Tx<'_>, (held, breaks): &(Held, Arc<Vec<NewBreak>>)) -> Result<()> {
    tx.must(sql::HOLD_RUN, (held.run_id, held.attempt, "matching"), superseded)?;
    let now = tx.now();
    for b in breaks.iter() {
        let break_id: BreakId = tx.new_id();
        let args = (
            held.provider_id,
            &b.subject,
            b.kind.as_str(),
            break_id,
            held.run_id,
            b.ours.map(|(intent, _)| intent),
            b.ours.map(|(_, operation)| operation),
            b.line.map(i64::from),
            b.currency,
            b.ours_minor,
            b.theirs_minor,
            b.difference_minor,
            b.day,
            &b.detail,
            now,
            b.awaits,
        );
        tx.exec(sql::INSERT_BREAK, args)?;
    }
    Ok(())
}

/// Everything is found: from here on what the file has is marked. Errors: `payments.reconciliation_superseded`.
pub(crate) fn found_all(tx: &mut Tx<'_>, (held, summary): &(Held, Summary)) -> Result<()> {
    move_on(tx, held, "matching", "marking", summary, false)
}

fn move_on(tx: &mut Tx<'_>, held: &Held, from: &str, to: &str, summary: &Summary, ended: bool) -> Result<()> {
    let text = serde_json::to_string(summary).map_err(|e| Error::internal("a summary does not serialise").caused_by(e))?;
    let ended = ended.then(|| tx.now());
    tx.must(sql::MOVE_RUN, (held.run_id, held.attempt, from, to, text, ended), superseded)
}

/// A row that is less than the operation that it names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewPart {
    pub intent_id: i64,
    pub operation_id: i64,
    pub line: i64,
    pub gross_minor: i64,
    pub fee_minor: i64,
    pub movement: u128,
}

/// Remembers what has come in part; what is remembered already stays. Errors: `payments.reconciliation_superseded`.
pub(crate) fn remember_parts(tx: &mut Tx<'_>, (held, parts): &(Held, Arc<Vec<NewPart>>)) -> Result<()> {
    tx.must(sql::HOLD_RUN, (held.run_id, held.attempt, "marking"), superseded)?;
    parts.iter().try_for_each(|part| {
        let movement = part.movement.to_be_bytes().to_vec();
        let args = (part.intent_id, part.operation_id, held.run_id, part.line, part.gross_minor, part.fee_minor, movement);
        tx.exec(sql::INSERT_PART, args)
    })
}

/// Marks operations that the file settles. Errors: `payments.reconciliation_superseded`.
pub(crate) fn mark(tx: &mut Tx<'_>, (held, seen): &(Held, Arc<Vec<(i64, i64)>>)) -> Result<()> {
    tx.must(sql::HOLD_RUN, (held.run_id, held.attempt, "marking"), superseded)?;
    if tx.engine() == Engine::Postgres {
        let (intents, operations): (Vec<i64>, Vec<i64>) = seen.iter().copied().unzip();
        return tx.exec(sql::MARK, (held.run_id, intents, operations));
    }
    seen.iter().try_for_each(|(intent, operation)| tx.exec(sql::MARK, (held.run_id, *intent, *operation)))
}

/// Breaks that are looked at for rules in one transaction.
const RULED: i64 = 200;
/// What stands beside a difference that a rule has resolved.
const BY_RULE: &str = "resolved by rule";

/// Resolves what the rules resolve, of the run's differences after one; the last one that was looked at, if there may be more. A rule that
/// posts leaves open what has nothing to post. Errors: `payments.reconciliation_superseded`.
pub(crate) fn apply_rules(tx: &mut Tx<'_>, (held, format, after): &(Held, Arc<Format>, BreakId)) -> Result<Option<BreakId>> {
    tx.must(sql::HOLD_RUN, (held.run_id, held.attempt, "marking"), superseded)?;
    let page: Vec<Break> = tx.all(sql::BREAKS_OF_RUN, (*after, RULED, held.run_id))?;
    for found in page.iter().filter(|found| found.state == "open") {
        let fits = |rule: &&Rule| {
            rule.kind == found.kind
                && found.at_stake_minor() <= rule.up_to_minor
                && (rule.action == RuleAction::Accept || found.can_be_posted())
        };
        let Some(rule) = format.rules.iter().find(fits) else { continue };
        resolve_one(tx, found, rule.action, BY_RULE)?;
    }
    Ok(next_of(&page))
}

/// Where to go on after a full page.
fn next_of(page: &[Break]) -> Option<BreakId> {
    page.last().filter(|_| page.len() as i64 == RULED).map(|last| last.break_id)
}

/// Takes back what was written off and has come, of the provider's breaks after one; the last one that was looked at, if there may be
/// more. Errors: `payments.reconciliation_superseded`.
pub(crate) fn take_back_arrived(tx: &mut Tx<'_>, (held, after): &(Held, BreakId)) -> Result<Option<BreakId>> {
    tx.must(sql::HOLD_RUN, (held.run_id, held.attempt, "marking"), superseded)?;
    let page: Vec<Break> = tx.all(sql::WRITTEN_OFF_ARRIVED, (held.provider_id, *after, RULED))?;
    for found in &page {
        let reversal = books::take_back(tx, found)?;
        tx.must(sql::REVERSE_BREAK, (found.break_id, reversal), || Error::internal("a break was taken back by two commands at once"))?;
    }
    Ok(next_of(&page))
}

fn resolve_one(tx: &mut Tx<'_>, found: &Break, action: RuleAction, resolution: &str) -> Result<()> {
    let transaction = match action {
        RuleAction::Accept => None,
        RuleAction::Post => books::correct(tx, found)?,
    };
    let now = tx.now();
    let changed = || Error::internal("a break was resolved by two commands at once");
    tx.must(sql::RESOLVE_BREAK, (found.break_id, resolution, transaction, now), changed)
}

/// The run is done. What was missing before and has come, or more of it, is resolved. Errors: `payments.reconciliation_superseded`.
pub(crate) fn finish(tx: &mut Tx<'_>, (held, summary): &(Held, Summary)) -> Result<RunView> {
    let (resolved,): (i64,) = tx.one(sql::RESOLVED_BY_RULE, (held.provider_id, held.run_id, BY_RULE))?;
    let summary = Summary { resolved_by_rule: resolved.unsigned_abs(), ..summary.clone() };
    move_on(tx, held, "marking", "done", &summary, true)?;
    let now = tx.now();
    tx.exec(sql::RESOLVE_ARRIVED, (held.provider_id, now))?;
    let view = RunView::from(queries::run(tx, held.run_id)?);
    tx.emit(NewEvent::new("settlement.reconciled", 1, held.run_id, &view));
    Ok(view)
}

/// A day that is to be closed.
#[derive(Clone, Debug)]
pub(crate) struct Close {
    pub run_id: RunId,
    /// Close it although differences are open.
    pub force: bool,
    pub note: String,
}

/// Books what the file pays out, and closes the day. Quietly the same when it is closed. Errors: `payments.reconciliation_not_found`,
/// `payments.reconciliation_not_done`, `payments.breaks_open`.
pub(crate) fn close(tx: &mut Tx<'_>, close: &Close) -> Result<RunView> {
    let run = queries::run(tx, close.run_id)?;
    match run.state.as_str() {
        "closed" => return Ok(run.into()),
        "done" => {}
        other => {
            let detail = format!("a reconciliation that is {other} can't be closed");
            return Err(Error::failed_precondition("payments.reconciliation_not_done", detail));
        }
    }
    let open: Vec<(String, i64)> = tx.all(sql::OPEN_BREAKS, (run.provider_id, run.run_id))?;
    if !open.is_empty() && !close.force {
        let open: Vec<String> = open.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        return Err(Error::failed_precondition("payments.breaks_open", format!("open: {}", open.join(", "))));
    }
    for (currency, total) in &run.summary.totals {
        let currency = currency.parse()?;
        books::tolerated(tx, run.run_id, run.provider_id, currency, total.tolerated_minor)?;
        books::pay_out(tx, run.run_id, run.provider_id, currency, total.net_minor)?;
    }
    let now = tx.now();
    let changed = || Error::internal("a reconciliation was closed by two commands at once");
    tx.must(sql::CLOSE_RUN, (run.run_id, now, &close.note), changed)?;
    let view = RunView { state: "closed".to_owned(), closed_at: Some(now), note: Some(close.note.clone()), ..RunView::from(run) };
    tx.emit(NewEvent::new("settlement.closed", 1, view.run_id, &view));
    Ok(view)
}

/// Gives a run up that broke off before it marked anything, so that another file can be compared.
/// Errors: `payments.reconciliation_not_found`, `payments.reconciliation_not_done` for one that has gone further.
pub(crate) fn abandon(tx: &mut Tx<'_>, run_id: &RunId) -> Result<RunView> {
    let run = queries::run(tx, *run_id)?;
    if run.state == "abandoned" {
        return Ok(run.into());
    }
    let now = tx.now();
    let detail = format!("a reconciliation that is {} can't be abandoned; send its file again", run.state);
    tx.must(sql::ABANDON_RUN, (*run_id, now), move || Error::failed_precondition("payments.reconciliation_not_done", detail))?;
    tx.exec(sql::CLEAR_BREAKS, (*run_id, run.provider_id))?;
    tx.exec(sql::DELETE_FILE, (*run_id, run.provider_id, &run.digest))?;
    Ok(RunView { state: "abandoned".to_owned(), ended_at: Some(now), ..RunView::from(run) })
}

/// How a person resolves a difference.
#[derive(Clone, Debug)]
pub(crate) struct Resolve {
    pub break_id: BreakId,
    pub action: RuleAction,
    pub note: String,
}

/// Resolves a difference. Quietly the same when it is resolved. Errors: `payments.break_not_found`, `payments.nothing_to_post`.
pub(crate) fn resolve(tx: &mut Tx<'_>, resolve: &Resolve) -> Result<Break> {
    let found = queries::find_break(tx, resolve.break_id)?;
    if found.state != "open" {
        return Ok(found);
    }
    if resolve.action == RuleAction::Post && !found.can_be_posted() {
        let detail = "this difference moves no amount; find out what is right, and accept it";
        return Err(Error::failed_precondition("payments.nothing_to_post", detail));
    }
    resolve_one(tx, &found, resolve.action, &resolve.note)?;
    queries::find_break(tx, resolve.break_id)
}
