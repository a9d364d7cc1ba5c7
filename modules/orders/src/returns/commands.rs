//! What changes returns: load, decide, write, tell. Each runs in one transaction, alone or with what stock and payment do about it.

use crate::commands::{IssueNote, Outside, emit_order, issue_note};
use crate::model::{CreditNoteId, DocumentKind, Line, NewLine, OrderHead, OrderId};
use crate::returns::model::*;
use crate::returns::{queries, sql};
use crate::write::{self, By};
use crate::{error, queries as orders};
use kernel::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use store::{NewEvent, Tx};
use web::IfMatch;

/// The most returns of one order.
const MAX_RETURNS: i64 = 200;

/// Payload of every event about a return.
#[derive(Serialize)]
struct ReturnEvent<'a> {
    #[serde(flatten)]
    head: &'a ReturnHead,
    lines: &'a [ReturnLine],
    #[serde(skip_serializing_if = "Option::is_none")]
    back: Option<&'a [Back]>,
}

/// An event about a return; `back`: what it does to the stock.
pub(crate) fn event(kind: &'static str, of: &Return, back: Option<&[Back]>) -> NewEvent {
    NewEvent::new(kind, 1, of.head.return_id, &ReturnEvent { head: &of.head, lines: &of.lines, back })
}

/// The event and the kind of change that lead to a state.
pub(crate) fn named(state: ReturnState) -> (&'static str, &'static str) {
    match state {
        ReturnState::Requested => ("return.requested", "requested"),
        ReturnState::Approved => ("return.approved", "approved"),
        ReturnState::Rejected => ("return.rejected", "rejected"),
        ReturnState::Cancelled => ("return.cancelled", "cancelled"),
        ReturnState::Received => ("return.received", "received"),
        ReturnState::Inspected => ("return.inspected", "inspected"),
        ReturnState::Refunded => ("return.refunded", "refunded"),
        ReturnState::Exchanged => ("return.exchanged", "exchanged"),
        ReturnState::Closed => ("return.closed", "closed"),
    }
}

/// A return to ask for.
#[derive(Clone, Debug)]
pub struct RequestReturn {
    /// The order whose goods come back.
    pub order_id: OrderId,
    /// What, each line once.
    pub lines: Vec<WantedLine>,
    /// Why: up to 500 characters.
    pub reason: String,
    /// Who asks.
    pub by: By,
}

fn order_of(tx: &mut Tx<'_>, order_id: OrderId) -> Result<(OrderHead, Vec<Line>)> {
    let order = orders::head(tx, order_id)?;
    let lines = orders::lines(tx, order_id.as_i64(), order.lines_version)?;
    Ok((order, lines))
}

/// Asks for a return of what went out and isn't claimed by another one. Errors: `orders.order_not_found`, `orders.over_return`,
/// `orders.too_many_returns`, `request.invalid`.
pub(crate) fn request(tx: &mut Tx<'_>, new: &RequestReturn) -> Result<Return> {
    let (order, lines) = order_of(tx, new.order_id)?;
    let standing = queries::standing(tx, &order, &lines)?;
    preview(&lines, &standing, &new.lines, None, order.currency)?;
    let (count,): (i64,) = tx.one(sql::COUNT_RETURNS, (new.order_id,))?;
    if count >= MAX_RETURNS {
        return Err(error::too_many_returns(MAX_RETURNS));
    }
    let now = tx.now();
    let head = ReturnHead {
        return_id: tx.new_id(),
        order_id: new.order_id,
        state: ReturnState::Requested,
        version: 1,
        reason: new.reason.clone(),
        refund_minor: 0,
        carried_minor: 0,
        currency: order.currency,
        credit_note_id: None,
        exchange_order_id: None,
        created_at: now,
        updated_at: now,
    };
    tx.exec(sql::INSERT_RETURN, (head.return_id, head.order_id, head.state, &head.reason, head.currency, now))?;
    let mut wanted = new.lines.clone();
    wanted.sort_unstable_by_key(|line| line.line);
    let mut made = Return { head, lines: Vec::with_capacity(wanted.len()) };
    for WantedLine { line, quantity, reason } in wanted {
        tx.exec(sql::INSERT_RETURN_LINE, (new.order_id, made.head.return_id, line, quantity, &reason))?;
        made.lines.push(ReturnLine { line, quantity, reason, received: 0, restocked: 0, written_off: 0, refunded: 0, refund_minor: 0 });
    }
    change(tx, &made.head, "requested", &new.by, &new.reason)?;
    on_order(tx, order, &made.head, "return_requested", &new.by, &new.reason)?;
    let requested = event("return.requested", &made, None);
    tx.emit(requested);
    Ok(made)
}

fn change(tx: &mut Tx<'_>, head: &ReturnHead, kind: &str, by: &By, reason: &str) -> Result<()> {
    let request_id = by.request_id.as_deref();
    tx.exec(
        sql::INSERT_RETURN_CHANGE,
        (head.return_id, head.version, kind, head.state, by.kind(), by.actor.id, reason, request_id, head.updated_at),
    )
}

/// Records on the order what became of a return, so that its changes tell everything.
fn on_order(tx: &mut Tx<'_>, mut order: OrderHead, head: &ReturnHead, kind: &'static str, by: &By, reason: &str) -> Result<()> {
    let what = serde_json::json!({ "return_id": head.return_id, "refund_minor": head.refund_minor }).to_string();
    write::save(tx, &mut order, kind, by, reason, &what)
}

/// Which return is changed by whom, and why.
#[derive(Clone, Debug)]
pub struct ReturnStep {
    /// The return.
    pub return_id: ReturnId,
    /// The version that the caller has seen, if it insists on it.
    pub if_match: IfMatch,
    /// Why: up to 500 characters.
    pub reason: String,
    /// Who does it.
    pub by: By,
}

fn load(tx: &mut Tx<'_>, step: &ReturnStep) -> Result<Return> {
    let found = queries::find(tx, step.return_id)?;
    step.if_match.check(found.head.version)?;
    Ok(found)
}

/// Writes a return under its next version, its lines, and what was done; tells of it.
fn save(tx: &mut Tx<'_>, of: &mut Return, step: &ReturnStep, back: Option<&[Back]>) -> Result<()> {
    let head = &mut of.head;
    let read = head.version;
    head.version += 1;
    head.updated_at = tx.now();
    tx.must(
        sql::UPDATE_RETURN,
        (
            head.return_id,
            read,
            head.version,
            head.state,
            head.refund_minor,
            head.credit_note_id,
            head.exchange_order_id,
            head.updated_at,
            head.carried_minor,
        ),
        error::version_conflict,
    )?;
    for l in &of.lines {
        let claimed = match of.head.state {
            ReturnState::Requested | ReturnState::Approved => l.quantity,
            ReturnState::Rejected | ReturnState::Cancelled => 0,
            _ => l.received,
        };
        tx.exec(
            sql::UPDATE_RETURN_LINE,
            (of.head.order_id, of.head.return_id, l.line, claimed, l.received, l.restocked, l.written_off, l.refunded, l.refund_minor),
        )?;
    }
    let (kind_of_event, kind) = named(of.head.state);
    change(tx, &of.head, kind, &step.by, &step.reason)?;
    let order = orders::head(tx, of.head.order_id)?;
    let on = match of.head.state {
        ReturnState::Requested => "return_requested",
        ReturnState::Approved => "return_approved",
        ReturnState::Rejected => "return_rejected",
        ReturnState::Cancelled => "return_cancelled",
        ReturnState::Received => "return_received",
        ReturnState::Inspected => "return_inspected",
        ReturnState::Refunded => "return_refunded",
        ReturnState::Exchanged => "return_exchanged",
        ReturnState::Closed => "return_closed",
    };
    on_order(tx, order, &of.head, on, &step.by, &step.reason)?;
    let told = event(kind_of_event, of, back);
    tx.emit(told);
    Ok(())
}

/// A step that needs nothing but a reason: approve, reject, cancel, close.
/// Errors: `orders.return_not_found`, `orders.return_not_allowed`, `request.precondition_failed`.
pub(crate) fn take(tx: &mut Tx<'_>, (step, command): &(ReturnStep, ReturnCommand)) -> Result<Return> {
    let mut found = load(tx, step)?;
    found.head.state = decide(found.head.state, *command)?;
    save(tx, &mut found, step, None)?;
    Ok(found)
}

/// What came.
#[derive(Clone, Debug)]
pub struct Receive {
    /// Which return, who and why.
    pub step: ReturnStep,
    /// Line number to quantity; lines that are not named did not come. None: everything that was asked for.
    pub quantities: Option<BTreeMap<u32, i64>>,
}

/// Notes what came; what did not is no longer claimed. Errors: `orders.return_not_found`, `orders.return_not_allowed`, `orders.over_return`,
/// `request.invalid`, `request.precondition_failed`.
pub(crate) fn receive(tx: &mut Tx<'_>, receive: &Receive) -> Result<Return> {
    let mut found = load(tx, &receive.step)?;
    found.head.state = decide(found.head.state, ReturnCommand::Receive)?;
    let came = match &receive.quantities {
        None => found.lines.iter().map(|line| (line.line, line.quantity)).collect(),
        Some(quantities) => quantities.clone(),
    };
    for (number, quantity) in &came {
        let unknown = || Error::field("lines", "unknown", format!("the return has no line {number}"));
        let line = found.lines.iter_mut().find(|line| line.line == *number).ok_or_else(unknown)?;
        if *quantity > line.quantity {
            return Err(error::over_return(*number, line.quantity));
        }
        line.received = *quantity;
    }
    if found.lines.iter().all(|line| line.received == 0) {
        return Err(Error::field("lines", "nothing", "nothing came: cancel the return instead"));
    }
    save(tx, &mut found, &receive.step, None)?;
    Ok(found)
}

/// What may be sold again, and what is refunded.
#[derive(Clone, Debug)]
pub struct Inspect {
    /// Which return, who and why.
    pub step: ReturnStep,
    /// Every line of which something came.
    pub lines: Vec<InspectedLine>,
}

/// Notes what may be sold again. Errors: `orders.return_not_found`, `orders.return_not_allowed`, `orders.inspection_incomplete`,
/// `request.precondition_failed`.
pub(crate) fn inspect(tx: &mut Tx<'_>, inspect: &Inspect) -> Result<Return> {
    let mut found = load(tx, &inspect.step)?;
    found.head.state = decide(found.head.state, ReturnCommand::Inspect)?;
    let (_, lines) = order_of(tx, found.head.order_id)?;
    let by_line: BTreeMap<u32, &InspectedLine> = inspect.lines.iter().map(|line| (line.line, line)).collect();
    let mut back = Vec::with_capacity(found.lines.len());
    for line in &mut found.lines {
        let seen = by_line.get(&line.line);
        let (restock, write_off) = seen.map_or((0, 0), |seen| (seen.restock, seen.write_off));
        let refund = seen.map_or(0, |seen| seen.refund.unwrap_or(line.received));
        if restock + write_off != line.received || refund > line.received {
            return Err(error::inspection_incomplete(line.line, line.received));
        }
        (line.restocked, line.written_off, line.refunded) = (restock, write_off, refund);
        if line.received > 0 {
            let sold = lines.iter().find(|sold| sold.line == line.line);
            let sold = sold.ok_or_else(|| Error::internal("a line that came back is no more in its order"))?;
            back.push(Back { line: line.line, sku: sold.sku.clone(), variant_id: sold.variant_id, restock, write_off });
        }
    }
    if let Some(stranger) = inspect.lines.iter().find(|seen| !found.lines.iter().any(|line| line.line == seen.line)) {
        return Err(error::inspection_incomplete(stranger.line, 0));
    }
    save(tx, &mut found, &inspect.step, Some(&back))?;
    Ok(found)
}

/// Credits what an inspected return refunds: each line its share, so that all returns of a line together credit it exactly; less what a
/// credit note has given back for it. Errors: those of a credit note, `orders.nothing_to_refund` when all of it was given back before.
fn credit(tx: &mut Tx<'_>, found: &mut Return, step: &ReturnStep) -> Result<()> {
    let (order, lines) = order_of(tx, found.head.order_id)?;
    let standing = queries::standing(tx, &order, &lines)?;
    let (mut credited, mut spent) = (Vec::new(), false);
    for line in found.lines.iter_mut().filter(|line| line.refunded > 0) {
        let sold = lines.iter().find(|sold| sold.line == line.line);
        let sold = sold.ok_or_else(|| Error::internal("a line that came back is no more in its order"))?;
        let share = standing.refund(sold, line.refunded);
        spent |= share.total_minor() == 0 && sold.total_minor > 0;
        let credit = credit_line(credited.len() as u32 + 1, sold, order.currency, line.refunded, &share)?;
        line.refund_minor = -credit.total_minor;
        credited.push(credit);
    }
    found.head.refund_minor = found.lines.iter().map(|line| line.refund_minor).sum();
    if found.head.refund_minor == 0 && spent {
        return Err(error::nothing_to_refund());
    }
    let reason = format!("return {}: {}", found.head.return_id, if step.reason.is_empty() { &found.head.reason } else { &step.reason });
    let note = IssueNote {
        kind: DocumentKind::CreditNote,
        external_ref: None,
        order_id: Some(order.order_id),
        customer_id: order.customer_id,
        country: Some(order.country.clone()),
        currency: order.currency,
        reason: reason.chars().take(500).collect(),
        lines: credited,
        by: step.by.clone(),
    };
    let note = issue_note(tx, &note)?;
    found.head.credit_note_id = Some(CreditNoteId::from_i64(note.note_id));
    Ok(())
}

fn has_money(found: &Return) -> bool {
    found.lines.iter().any(|line| line.refunded > 0)
}

/// Issues the credit note over what is refunded; giving the money back is the payment's business.
/// Errors: `orders.return_not_found`, `orders.return_not_allowed`, `orders.nothing_to_refund`, `orders.credit_exceeds_order`,
/// `request.precondition_failed`.
pub(crate) fn refund(tx: &mut Tx<'_>, step: &ReturnStep) -> Result<Return> {
    let mut found = load(tx, step)?;
    found.head.state = decide(found.head.state, ReturnCommand::Refund { money: has_money(&found) })?;
    credit(tx, &mut found, step)?;
    save(tx, &mut found, step, None)?;
    Ok(found)
}

/// Another order instead.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Which return, who and why.
    pub step: ReturnStep,
    /// The order that takes its place: placed, of the same customer and currency.
    pub order_id: OrderId,
    /// Who knows what is paid; without it nothing is.
    pub outside: Option<Outside>,
}

/// An exchange, and what it comes to.
#[derive(Clone, Debug, Serialize, serde::Deserialize)]
pub struct Exchanged {
    /// The return.
    pub of: Return,
    /// What the customer has still to pay for the other order, less what was credited, in minor units; below zero is given back.
    pub due_minor: i64,
}

/// Credits what came back and names the order that takes its place. What is still to be paid for that one is paid with what is credited, as
/// far as it goes; the rest of it is to be given back. Errors: those of [`refund`], `orders.not_an_exchange`,
/// `orders.already_exchanged`.
pub(crate) fn exchange(tx: &mut Tx<'_>, exchange: &Exchange) -> Result<Exchanged> {
    let mut found = load(tx, &exchange.step)?;
    found.head.state = decide(found.head.state, ReturnCommand::Exchange { money: has_money(&found) })?;
    let returned_of = orders::head(tx, found.head.order_id)?;
    let unknown = |_| Error::field("order_id", "unknown", "there is no such order");
    let instead = orders::head(tx, exchange.order_id).map_err(unknown)?;
    let placed = instead.placed_at.is_some() && instead.state != crate::model::State::Cancelled;
    let alike = instead.currency == returned_of.currency && instead.customer_id == returned_of.customer_id;
    if !placed || !alike || instead.order_id == returned_of.order_id {
        return Err(error::not_an_exchange());
    }
    if tx.opt::<(ReturnId,)>(sql::EXCHANGED_FOR, (instead.order_id,))?.is_some() {
        return Err(error::already_exchanged());
    }
    credit(tx, &mut found, &exchange.step)?;
    found.head.exchange_order_id = Some(instead.order_id);
    let open_minor = match exchange.outside {
        Some(outside) => (outside.due_minor)(tx, &instead)?,
        None => instead.total_minor + instead.credited_minor,
    };
    found.head.carried_minor = found.head.refund_minor.min(open_minor.max(0));
    save(tx, &mut found, &exchange.step, None)?;
    let due_minor = open_minor.max(0) - found.head.refund_minor;
    let mut instead = instead;
    let what = serde_json::json!({ "return_id": found.head.return_id, "order_id": returned_of.order_id }).to_string();
    write::save(tx, &mut instead, "exchanged_for", &exchange.step.by, &exchange.step.reason, &what)?;
    emit_order(tx, "order.exchanged_for", &instead, &[], None);
    Ok(Exchanged { of: found, due_minor })
}

/// What a return would cost, with what would be sent instead. Errors: `orders.order_not_found`, `orders.over_return`, `request.invalid`.
pub(crate) fn preview_of(
    read: &mut store::Read<'_>,
    order_id: OrderId,
    wanted: &[WantedLine],
    exchange_lines: Option<&[NewLine]>,
) -> Result<Preview> {
    let order = orders::head(read, order_id)?;
    let lines = orders::lines(read, order_id.as_i64(), order.lines_version)?;
    let standing = queries::standing(read, &order, &lines)?;
    let instead = exchange_lines.map(|lines| instead(order.currency, lines)).transpose()?;
    preview(&lines, &standing, wanted, instead.as_deref(), order.currency)
}
