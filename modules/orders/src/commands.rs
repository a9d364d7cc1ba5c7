//! Commands: load, decide, write, emit. Each runs in one transaction and may be run again.

use crate::customers::{Address, Customer, MAX_ADDRESSES, NewAddress};
use crate::model::*;
use crate::write::{self, By, Registered};
use crate::{error, queries, sql};
use kernel::{Currency, Error, Faults, Result, Timestamp};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use store::{Member, NewEvent, Tx};
use web::IfMatch;

/// Payload of every event about an order. `sales` is what it adds to the daily sales, net of what was there before.
#[derive(Serialize)]
struct OrderEvent<'a> {
    order_id: OrderId,
    number: i64,
    version: i64,
    state: State,
    external_ref: &'a Option<String>,
    customer_id: Option<CustomerId>,
    country: &'a str,
    currency: Currency,
    total_minor: i64,
    placed_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fulfilled: Option<&'a BTreeMap<u32, i64>>,
    /// Why, of what was fulfilled: a shipment's id, or what a person says.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    sales: &'a [Sales],
}

/// What went out, and why.
type Went<'a> = (&'a BTreeMap<u32, i64>, &'a str);

pub(crate) fn emit_order(tx: &mut Tx<'_>, kind: &'static str, head: &OrderHead, sales: &[Sales], went: Option<Went<'_>>) {
    tx.emit(order_event(kind, head, sales, went));
}

fn order_event(kind: &'static str, head: &OrderHead, sales: &[Sales], went: Option<Went<'_>>) -> NewEvent {
    let payload = OrderEvent {
        order_id: head.order_id,
        number: head.number,
        version: head.version,
        state: head.state,
        external_ref: &head.external_ref,
        customer_id: head.customer_id,
        country: &head.country,
        currency: head.currency,
        total_minor: head.total_minor,
        placed_at: head.placed_at,
        fulfilled: went.map(|(quantities, _)| quantities),
        reason: went.map(|(_, reason)| reason),
        sales,
    };
    NewEvent::new(kind, 1, head.order_id, &payload)
}

/// Payload of `credit_note.issued` and `adjustment.recorded`.
#[derive(Serialize)]
struct NoteEvent<'a> {
    id: &'a str,
    number: i64,
    external_ref: &'a Option<String>,
    order_id: Option<OrderId>,
    customer_id: Option<CustomerId>,
    country: &'a str,
    currency: Currency,
    total_minor: i64,
    issued_at: Timestamp,
    reason: &'a str,
    sales: &'a [Sales],
}

pub(crate) fn emit_note(tx: &mut Tx<'_>, head: &NoteHead, sales: &[Sales]) {
    let kind = match head.kind {
        DocumentKind::Adjustment => "adjustment.recorded",
        DocumentKind::CreditNote | DocumentKind::Order => "credit_note.issued",
    };
    let payload = NoteEvent {
        id: &head.id,
        number: head.number,
        external_ref: &head.external_ref,
        order_id: head.order_id,
        customer_id: head.customer_id,
        country: &head.country,
        currency: head.currency,
        total_minor: head.total_minor,
        issued_at: head.issued_at,
        reason: &head.reason,
        sales,
    };
    tx.emit(NewEvent::new(kind, 1, &head.id, &payload));
}

/// Payload of `customer.created` and `customer.changed`. Names and addresses stay out: events are kept longer than a person may
/// wish to be known.
#[derive(Serialize)]
struct CustomerEvent<'a> {
    customer_id: CustomerId,
    external_ref: &'a Option<String>,
    version: i64,
}

pub(crate) fn emit_customer(tx: &mut Tx<'_>, kind: &'static str, customer: &Customer) {
    let payload = CustomerEvent { customer_id: customer.customer_id, external_ref: &customer.external_ref, version: customer.version };
    tx.emit(NewEvent::new(kind, 1, customer.customer_id, &payload));
}

/// Those of `customers` that are there.
fn known_customers(tx: &mut Tx<'_>, customers: impl Iterator<Item = CustomerId>) -> Result<HashSet<CustomerId>> {
    let asked: BTreeSet<i64> = customers.map(CustomerId::as_i64).collect();
    if asked.is_empty() {
        return Ok(HashSet::new());
    }
    let asked: Vec<i64> = asked.into_iter().collect();
    Ok(tx.all::<(CustomerId,)>(sql::KNOWN_CUSTOMERS, (asked,))?.into_iter().map(|(id,)| id).collect())
}

fn known_customer(tx: &mut Tx<'_>, customer: Option<CustomerId>) -> Result<()> {
    let known = known_customers(tx, customer.into_iter())?;
    if customer.is_none_or(|id| known.contains(&id)) { Ok(()) } else { Err(error::unknown_customer()) }
}

/// A new order, its lines priced.
#[derive(Clone, Debug)]
pub(crate) struct CreateOrder {
    /// Only write it down.
    pub draft: bool,
    pub external_ref: Option<String>,
    pub customer_id: Option<CustomerId>,
    pub country: String,
    pub currency: Currency,
    pub lines: Vec<Line>,
    pub by: By,
}

/// Writes orders down and, unless they are drafts, places them: those that are queued together as a set.
/// Errors of one: `request.invalid` for an unknown customer or an order too large for an event, `orders.external_ref_taken`.
pub(crate) fn create_orders(tx: &mut Tx<'_>, all: &[Member<'_, CreateOrder>]) -> Result<Vec<Result<OrderHead>>> {
    let customers = known_customers(tx, all.iter().filter_map(|new| new.customer_id))?;
    let mut taken = write::taken_refs(tx, all.iter().filter_map(|new| new.external_ref.clone()))?;
    let mut decided = Vec::with_capacity(all.len());
    for new in all {
        decided.push(new_order(tx, tx.new_id(), new, &customers, &mut taken));
    }
    let mut accepted: Vec<(&CreateOrder, &mut OrderHead)> =
        all.iter().zip(&mut decided).filter_map(|(new, order)| Some((&**new, &mut order.as_mut().ok()?.0))).collect();
    write_new_orders(tx, &mut accepted)?;
    for (new, (head, sales)) in all.iter().zip(&decided).filter_map(|(new, order)| Some((new, order.as_ref().ok()?))) {
        let kind = if new.draft { "order.drafted" } else { "order.placed" };
        tx.emit_for(new, order_event(kind, head, sales, None));
    }
    Ok(decided.into_iter().map(|order| order.map(|(head, _)| head)).collect())
}

/// Writes orders down under ids of the caller's, all of them or none. Errors: as those of one of [`create_orders`].
pub(crate) fn create_orders_as(tx: &mut Tx<'_>, all: &[(OrderId, CreateOrder)]) -> Result<Vec<OrderHead>> {
    let customers = known_customers(tx, all.iter().filter_map(|(_, new)| new.customer_id))?;
    let mut taken = write::taken_refs(tx, all.iter().filter_map(|(_, new)| new.external_ref.clone()))?;
    let mut decided = Vec::with_capacity(all.len());
    for (order_id, new) in all {
        decided.push(new_order(tx, *order_id, new, &customers, &mut taken)?);
    }
    let mut accepted: Vec<(&CreateOrder, &mut OrderHead)> = all.iter().zip(&mut decided).map(|((_, new), (head, _))| (new, head)).collect();
    write_new_orders(tx, &mut accepted)?;
    for ((_, new), (head, sales)) in all.iter().zip(&decided) {
        emit_order(tx, if new.draft { "order.drafted" } else { "order.placed" }, head, sales, None);
    }
    Ok(decided.into_iter().map(|(head, _)| head).collect())
}

/// The head of a new order, still without its number, and what it adds to the daily sales.
fn new_order(
    tx: &Tx<'_>,
    order_id: OrderId,
    new: &CreateOrder,
    customers: &HashSet<CustomerId>,
    taken: &mut HashSet<String>,
) -> Result<(OrderHead, Vec<Sales>)> {
    if new.customer_id.is_some_and(|id| !customers.contains(&id)) {
        return Err(error::unknown_customer());
    }
    let now = tx.now();
    let mut head = OrderHead {
        order_id,
        number: 0,
        state: if new.draft { State::Draft } else { State::Placed },
        version: 1,
        lines_version: 1,
        external_ref: new.external_ref.clone(),
        customer_id: new.customer_id,
        country: new.country.clone(),
        currency: new.currency,
        line_count: 0,
        extended: Default::default(),
        discount_minor: 0,
        tax_minor: 0,
        total_minor: 0,
        credited_minor: 0,
        placed_at: (!new.draft).then_some(now),
        created_at: now,
        updated_at: now,
    };
    head.set_totals(Totals::of(&new.lines));
    let sales = sales_of(&head, None, Some((&head.country, &new.lines)))?;
    // Last, so that an order that is refused leaves its reference to a later one.
    if let Some(external_ref) = &head.external_ref
        && !taken.insert(external_ref.clone())
    {
        return Err(error::external_ref_taken());
    }
    Ok((head, sales))
}

/// Numbers new orders and writes them.
fn write_new_orders(tx: &mut Tx<'_>, new: &mut [(&CreateOrder, &mut OrderHead)]) -> Result<()> {
    if new.is_empty() {
        return Ok(());
    }
    let first = write::take_numbers(tx, DocumentKind::Order, new.len() as i64)?;
    for (number, (_, head)) in (first..).zip(&mut *new) {
        head.number = number;
    }
    let new: Vec<(&CreateOrder, &OrderHead)> = new.iter().map(|(new, head)| (*new, &**head)).collect();
    let set = write::set_based(tx) && new.len() > 1;
    let heads: Vec<&OrderHead> = new.iter().map(|(_, head)| *head).collect();
    write::orders(tx, set, &heads)?;
    let lines: Vec<(i64, &[Line])> = new.iter().map(|(new, head)| (head.order_id.as_i64(), &new.lines[..])).collect();
    write::lines_of(tx, write::set_based(tx), 1, &lines)?;
    let registered: Vec<Registered<'_>> = heads.iter().map(|head| Registered::order(head)).collect();
    write::register_all(tx, set, &registered)?;
    let changes: Vec<(&OrderHead, &By)> = new.iter().map(|(new, head)| (*head, &new.by)).collect();
    write::first_changes(tx, set, "created", &changes)
}

/// What a change adds to the daily sales; nothing as long as the order is not placed.
fn sales_of(head: &OrderHead, before: Option<(&str, &[Line])>, after: Option<(&str, &[Line])>) -> Result<Vec<Sales>> {
    let Some(placed_at) = head.placed_at else { return Ok(Vec::new()) };
    let sales = sales_difference(placed_at, head.currency, before, after);
    fits_event(&sales)?;
    Ok(sales)
}

/// A step of an order that needs nothing but a reason.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub order_id: OrderId,
    pub if_match: IfMatch,
    pub reason: String,
    pub by: By,
}

fn load(tx: &mut Tx<'_>, order_id: OrderId, if_match: IfMatch) -> Result<OrderHead> {
    let head = queries::head(tx, order_id)?;
    if_match.check(head.version)?;
    Ok(head)
}

/// Places a draft. Errors: `orders.order_not_found`, `orders.not_allowed`, `request.precondition_failed`.
pub(crate) fn place_order(tx: &mut Tx<'_>, step: &Step) -> Result<OrderHead> {
    let mut head = load(tx, step.order_id, step.if_match)?;
    head.state = decide(head.state, Command::Place)?;
    let lines = queries::lines(tx, head.order_id.as_i64(), head.lines_version)?;
    head.placed_at = Some(tx.now());
    let sales = sales_of(&head, None, Some((&head.country, &lines)))?;
    write::save(tx, &mut head, "placed", &step.by, &step.reason, "{}")?;
    emit_order(tx, "order.placed", &head, &sales, None);
    Ok(head)
}

/// Calls an order off, and takes it out of the daily sales.
/// Errors: `orders.order_not_found`, `orders.not_allowed`, `orders.has_credit_notes`, `request.precondition_failed`.
pub(crate) fn cancel_order(tx: &mut Tx<'_>, step: &Step) -> Result<OrderHead> {
    let mut head = load(tx, step.order_id, step.if_match)?;
    let credited = tx.opt::<(i64,)>(sql::HAS_CREDIT_NOTES, (head.order_id,))?.is_some();
    head.state = decide(head.state, Command::Cancel { credited })?;
    let lines = queries::lines(tx, head.order_id.as_i64(), head.lines_version)?;
    let sales = sales_of(&head, Some((&head.country, &lines)), None)?;
    write::save(tx, &mut head, "cancelled", &step.by, &step.reason, "{}")?;
    emit_order(tx, "order.cancelled", &head, &sales, None);
    Ok(head)
}

/// Files an order. Errors: `orders.order_not_found`, `orders.not_allowed`, `request.precondition_failed`.
pub(crate) fn close_order(tx: &mut Tx<'_>, step: &Step) -> Result<OrderHead> {
    let mut head = load(tx, step.order_id, step.if_match)?;
    head.state = decide(head.state, Command::Close)?;
    write::save(tx, &mut head, "closed", &step.by, &step.reason, "{}")?;
    emit_order(tx, "order.closed", &head, &[], None);
    Ok(head)
}

/// Goods that went out.
#[derive(Clone, Debug)]
pub(crate) struct Fulfil {
    pub step: Step,
    /// Line number to quantity, each above zero; none for everything that remains.
    pub quantities: Option<BTreeMap<u32, i64>>,
}

/// Records what went out. Errors: `orders.order_not_found`, `orders.not_allowed`, `orders.on_hold`, `orders.over_fulfilment`,
/// `request.precondition_failed`.
pub(crate) fn fulfil_order(tx: &mut Tx<'_>, fulfil: &Fulfil) -> Result<OrderHead> {
    let step = &fulfil.step;
    let mut head = load(tx, step.order_id, step.if_match)?;
    let lines = queries::lines(tx, head.order_id.as_i64(), head.lines_version)?;
    let mut left = remaining(&lines, &queries::fulfilled(tx, &head, &lines)?);
    let sent = fulfil.quantities.clone().unwrap_or_else(|| left.clone());
    // The state speaks first: of a closed order nothing remains, and that is not what is wrong with fulfilling it.
    decide(head.state, Command::Fulfil { complete: true })?;
    crate::care::commands::not_held(tx, head.order_id)?;
    for (line, quantity) in &sent {
        let open = left.entry(*line).or_insert(0);
        if quantity > open {
            return Err(error::over_fulfilment(*line, *open));
        }
        *open -= quantity;
    }
    head.state = decide(head.state, Command::Fulfil { complete: left.values().all(|open| *open == 0) })?;
    let version = head.version + 1;
    for (line, quantity) in &sent {
        tx.exec(sql::INSERT_FULFILMENT, (head.order_id, version, *line, *quantity))?;
    }
    let what = serde_json::json!({ "quantities": sent }).to_string();
    write::save(tx, &mut head, "fulfilled", &step.by, &step.reason, &what)?;
    emit_order(tx, "order.fulfilled", &head, &[], Some((&sent, &step.reason)));
    Ok(head)
}

/// A change of what was ordered. What is none stays.
#[derive(Clone, Debug)]
pub(crate) struct Edit {
    pub step: Step,
    /// All lines as they shall be. Those that keep their number are the same line; the others are new. One that keeps its SKU, too, keeps
    /// its variant when none is given.
    pub lines: Option<Vec<NewLine>>,
    pub country: Option<String>,
    pub customer_id: Option<Option<CustomerId>>,
    pub outside: Option<Outside>,
}

/// What the application has to say in this module's transactions, because it concerns what this module does not know; a part of the
/// application.
#[derive(Clone, Copy, Debug)]
pub struct Outside {
    /// An order has these lines now. What is refused is not edited.
    pub edited: fn(&mut Tx<'_>, OrderId, &[Line]) -> Result<()>,
    /// What is still to be paid for an order, in minor units; below zero when more was paid than it costs.
    pub due_minor: fn(&mut Tx<'_>, &OrderHead) -> Result<i64>,
}

/// What an edit did, as it is recorded. Lines before and after it are both kept, so their numbers suffice.
#[derive(Default, Serialize)]
struct Edited<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    country: Option<[&'a str; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer_id: Option<[Option<CustomerId>; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_minor: Option<[i64; 2]>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lines_added: Vec<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lines_changed: Vec<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lines_removed: Vec<u32>,
}

/// Changes an order; the lines before stay under their version. Errors: `orders.order_not_found`, `orders.not_allowed`,
/// `orders.below_fulfilled`, `orders.credit_exceeds_order`, `request.invalid`, `request.precondition_failed`, and those from outside.
pub(crate) fn edit_order(tx: &mut Tx<'_>, edit: &Edit) -> Result<OrderHead> {
    let step = &edit.step;
    let old = load(tx, step.order_id, step.if_match)?;
    decide(old.state, Command::Edit { complete: false })?;
    if let Some(customer_id) = edit.customer_id {
        known_customer(tx, customer_id)?;
    }
    let old_lines = queries::lines(tx, old.order_id.as_i64(), old.lines_version)?;
    let fulfilled = queries::fulfilled(tx, &old, &old_lines)?;

    let lines = match &edit.lines {
        None => old_lines.clone(),
        Some(given) => {
            let mut faults = Faults::default();
            let last_line = old_lines.iter().map(|l| l.line).max().unwrap_or(0);
            let given: Vec<NewLine> = given.iter().map(|line| keeping_variant(line, &old_lines)).collect();
            let lines = price_lines(DocumentKind::Order, old.currency, &given, last_line, &mut faults);
            faults.finish()?;
            keeps_fulfilled(&old_lines, &lines, &fulfilled)?;
            lines
        }
    };

    let mut head = old.clone();
    head.set_totals(Totals::of(&lines));
    if let Some(country) = &edit.country {
        head.country.clone_from(country);
    }
    if let Some(customer_id) = edit.customer_id {
        head.customer_id = customer_id;
    }
    covers_credits(&head)?;
    head.state = decide(old.state, Command::Edit { complete: remaining(&lines, &fulfilled).is_empty() })?;

    let (added, changed, removed) = compare(&old_lines, &lines);
    let edited = Edited {
        country: (old.country != head.country).then_some([&old.country, &head.country]),
        customer_id: (old.customer_id != head.customer_id).then_some([old.customer_id, head.customer_id]),
        total_minor: (old.total_minor != head.total_minor).then_some([old.total_minor, head.total_minor]),
        lines_added: added,
        lines_changed: changed,
        lines_removed: removed,
    };
    let what = serde_json::to_string(&edited).map_err(|e| Error::internal("an edit does not serialise").caused_by(e))?;
    let sales = sales_of(&head, Some((&old.country, &old_lines)), Some((&head.country, &lines)))?;
    if lines != old_lines {
        head.lines_version = old.version + 1;
        write::lines(tx, head.order_id.as_i64(), head.lines_version, &lines)?;
    }
    write::save(tx, &mut head, "edited", &step.by, &step.reason, &what)?;
    if let Some(outside) = edit.outside.filter(|_| lines != old_lines) {
        (outside.edited)(tx, head.order_id, &lines)?;
    }
    emit_order(tx, "order.changed", &head, &sales, None);
    Ok(head)
}

/// A line that keeps its number and its SKU is the same goods: left out, its variant stays, and so does what is reserved for it.
fn keeping_variant(given: &NewLine, old: &[Line]) -> NewLine {
    let same = |old: &&Line| Some(old.line) == given.line && old.sku == given.sku;
    let variant_id = given.variant_id.or_else(|| old.iter().find(same)?.variant_id);
    NewLine { variant_id, ..given.clone() }
}

/// Errors: `orders.below_fulfilled`.
fn keeps_fulfilled(old: &[Line], new: &[Line], fulfilled: &BTreeMap<u32, i64>) -> Result<()> {
    for (number, sent) in fulfilled.iter().filter(|(_, sent)| **sent > 0) {
        let sku = old.iter().find(|l| l.line == *number).map(|l| &l.sku);
        let kept = new.iter().find(|l| l.line == *number).is_some_and(|l| Some(&l.sku) == sku && l.quantity >= *sent);
        if !kept {
            return Err(error::below_fulfilled(*number, *sent));
        }
    }
    Ok(())
}

/// Errors: `orders.credit_exceeds_order`.
fn covers_credits(head: &OrderHead) -> Result<()> {
    if head.credited_minor < 0 && head.total_minor + head.credited_minor < 0 {
        return Err(error::credit_exceeds_order(head.total_minor, head.credited_minor));
    }
    Ok(())
}

/// Numbers of the lines that were added, changed and removed.
fn compare(old: &[Line], new: &[Line]) -> (Vec<u32>, Vec<u32>, Vec<u32>) {
    let by_number: BTreeMap<u32, &Line> = old.iter().map(|l| (l.line, l)).collect();
    let kept: BTreeSet<u32> = new.iter().map(|l| l.line).collect();
    let added = new.iter().filter(|l| !by_number.contains_key(&l.line)).map(|l| l.line).collect();
    let changed = new.iter().filter(|l| by_number.get(&l.line).is_some_and(|before| *before != *l)).map(|l| l.line).collect();
    let removed = old.iter().filter(|l| !kept.contains(&l.line)).map(|l| l.line).collect();
    (added, changed, removed)
}

/// A new credit note or adjustment, its lines priced.
#[derive(Clone, Debug)]
pub(crate) struct IssueNote {
    pub kind: DocumentKind,
    pub external_ref: Option<String>,
    pub order_id: Option<OrderId>,
    pub customer_id: Option<CustomerId>,
    /// None: that of the order.
    pub country: Option<String>,
    pub currency: Currency,
    pub reason: String,
    pub lines: Vec<Line>,
    pub by: By,
}

/// Issues a credit note or records an adjustment. Errors: `orders.external_ref_taken`, `orders.not_allowed`,
/// `orders.credit_exceeds_order`, `request.invalid` for an unknown order or customer or another currency than the order's.
pub(crate) fn issue_note(tx: &mut Tx<'_>, new: &IssueNote) -> Result<NoteHead> {
    known_customer(tx, new.customer_id)?;
    let order = match new.order_id {
        None => None,
        Some(order_id) => {
            let found: Option<OrderHead> = tx.opt(sql::ORDER, (order_id,))?;
            Some(found.ok_or_else(|| Error::field("order_id", "unknown", "there is no such order"))?)
        }
    };
    let country = match (&new.country, &order) {
        (Some(country), _) => country.clone(),
        (None, Some(order)) => order.country.clone(),
        (None, None) => return Err(Error::field("country", "required", "required where no order is named")),
    };
    let now = tx.now();
    let totals = Totals::of(&new.lines);
    let sales = sales_difference(now, new.currency, None, Some((&country, &new.lines)));
    fits_event(&sales)?;

    let note_id = tx.new_id::<CreditNoteEntity>().as_i64();
    let number = write::take_numbers(tx, new.kind, 1)?;
    let mut head = NoteHead {
        note_id,
        id: NoteHead::wire_id(new.kind, note_id),
        kind: new.kind,
        number,
        external_ref: new.external_ref.clone(),
        order_id: new.order_id,
        customer_id: new.customer_id.or_else(|| order.as_ref().and_then(|o| o.customer_id)),
        country,
        currency: new.currency,
        reason: new.reason.clone(),
        line_count: 0,
        extended: Default::default(),
        discount_minor: 0,
        tax_minor: 0,
        total_minor: 0,
        issued_at: now,
        created_at: now,
    };
    head.set_totals(totals);
    if let Some(mut order) = order {
        credit(tx, &mut order, &head, &new.by)?;
    }
    write::note(tx, &head, &new.by)?;
    write::lines(tx, note_id, 1, &new.lines)?;
    write::register(tx, Registered { kind: new.kind, document_id: note_id, number, external_ref: head.external_ref.as_deref() })?;
    emit_note(tx, &head, &sales);
    Ok(head)
}

/// Records on the order that it was credited. Errors: see [`issue_note`].
fn credit(tx: &mut Tx<'_>, order: &mut OrderHead, note: &NoteHead, by: &By) -> Result<()> {
    if order.currency != note.currency {
        return Err(Error::field("currency", "mismatch", format!("the order is in {}", order.currency)));
    }
    order.state = decide(order.state, Command::Credit)?;
    order.credited_minor += note.total_minor;
    covers_credits(order)?;
    let what = serde_json::json!({ "credit_note_id": note.id, "number": note.number, "total_minor": note.total_minor }).to_string();
    write::save(tx, order, "credited", by, &note.reason, &what)
}

/// A new customer.
#[derive(Clone, Debug)]
pub(crate) struct CreateCustomer {
    pub external_ref: Option<String>,
    pub name: String,
    pub email: Option<String>,
    pub country: String,
    pub addresses: Vec<NewAddress>,
}

/// Errors: `orders.customer_ref_taken`.
pub(crate) fn create_customer(tx: &mut Tx<'_>, new: &CreateCustomer) -> Result<queries::CustomerWithAddresses> {
    let now = tx.now();
    let customer = Customer {
        customer_id: tx.new_id(),
        external_ref: new.external_ref.clone(),
        name: new.name.clone(),
        email: new.email.clone(),
        country: new.country.clone(),
        version: 1,
        created_at: now,
        updated_at: now,
    };
    let c = &customer;
    tx.must(sql::INSERT_CUSTOMER, (c.customer_id, &c.external_ref, &c.name, &c.email, &c.country, now), error::customer_ref_taken)?;
    let mut addresses = Vec::with_capacity(new.addresses.len());
    for address in &new.addresses {
        let address = Address::new(tx.new_id(), address.clone());
        insert_address(tx, c.customer_id, &address)?;
        addresses.push(address);
    }
    emit_customer(tx, "customer.created", &customer);
    Ok(queries::CustomerWithAddresses { customer, addresses })
}

/// A change of a customer. What is none stays.
#[derive(Clone, Debug)]
pub(crate) struct ChangeCustomer {
    pub customer_id: CustomerId,
    pub if_match: IfMatch,
    pub external_ref: Option<Option<String>>,
    pub name: Option<String>,
    pub email: Option<Option<String>>,
    pub country: Option<String>,
}

/// Errors: `orders.customer_not_found`, `orders.customer_ref_taken`, `request.precondition_failed`.
pub(crate) fn change_customer(tx: &mut Tx<'_>, change: &ChangeCustomer) -> Result<queries::CustomerWithAddresses> {
    let mut found = queries::customer(tx, change.customer_id)?;
    let customer = &mut found.customer;
    change.if_match.check(customer.version)?;
    if let Some(external_ref) = &change.external_ref {
        if let Some(wanted) = external_ref {
            let holder: Option<(CustomerId,)> = tx.opt(sql::CUSTOMER_BY_REF, (wanted,))?;
            if holder.is_some_and(|(id,)| id != customer.customer_id) {
                return Err(error::customer_ref_taken());
            }
        }
        customer.external_ref.clone_from(external_ref);
    }
    if let Some(name) = &change.name {
        customer.name.clone_from(name);
    }
    if let Some(email) = &change.email {
        customer.email.clone_from(email);
    }
    if let Some(country) = &change.country {
        customer.country.clone_from(country);
    }
    save_customer(tx, customer)?;
    Ok(found)
}

fn save_customer(tx: &mut Tx<'_>, customer: &mut Customer) -> Result<()> {
    let read = customer.version;
    customer.version += 1;
    customer.updated_at = tx.now();
    let c = &*customer;
    tx.must(
        sql::UPDATE_CUSTOMER,
        (c.customer_id, read, c.version, &c.external_ref, &c.name, &c.email, &c.country, c.updated_at),
        error::version_conflict,
    )?;
    emit_customer(tx, "customer.changed", customer);
    Ok(())
}

fn insert_address(tx: &mut Tx<'_>, customer_id: CustomerId, a: &Address) -> Result<()> {
    tx.exec(
        sql::INSERT_ADDRESS,
        (customer_id, a.address_id, &a.label, &a.recipient, &a.line1, &a.line2, &a.city, &a.region, &a.postal_code, &a.country, &a.phone),
    )
}

/// An address of a customer: a new one, or what an old one becomes.
#[derive(Clone, Debug)]
pub(crate) struct PutAddress {
    pub customer_id: CustomerId,
    /// None: a new one.
    pub address_id: Option<AddressId>,
    pub address: NewAddress,
}

/// Errors: `orders.customer_not_found`, `orders.address_not_found`, `orders.too_many_addresses`.
pub(crate) fn put_address(tx: &mut Tx<'_>, put: &PutAddress) -> Result<Address> {
    let mut found = queries::customer(tx, put.customer_id)?;
    let address = match put.address_id {
        None => {
            if found.addresses.len() >= MAX_ADDRESSES {
                return Err(error::too_many_addresses());
            }
            let address = Address::new(tx.new_id(), put.address.clone());
            insert_address(tx, put.customer_id, &address)?;
            address
        }
        Some(address_id) => {
            let a = Address::new(address_id, put.address.clone());
            tx.must(
                sql::UPDATE_ADDRESS,
                (
                    put.customer_id,
                    address_id,
                    &a.label,
                    &a.recipient,
                    &a.line1,
                    &a.line2,
                    &a.city,
                    &a.region,
                    &a.postal_code,
                    &a.country,
                    &a.phone,
                ),
                error::address_not_found,
            )?;
            a
        }
    };
    save_customer(tx, &mut found.customer)?;
    Ok(address)
}

/// Errors: `orders.customer_not_found`, `orders.address_not_found`.
pub(crate) fn remove_address(tx: &mut Tx<'_>, (customer_id, address_id): &(CustomerId, AddressId)) -> Result<()> {
    let mut found = queries::customer(tx, *customer_id)?;
    tx.must(sql::DELETE_ADDRESS, (*customer_id, *address_id), error::address_not_found)?;
    save_customer(tx, &mut found.customer)
}
