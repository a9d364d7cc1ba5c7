//! Writing rows: one statement a row on SQLite, where that is fastest, and one statement for a set on PostgreSQL, where a round
//! trip and a plan cost more than a row.

use crate::customers::Customer;
use crate::model::{CustomerId, DocumentKind, Line, NoteHead, OrderHead, SalesLine};
use crate::{error, sql};
use kernel::{Actor, ActorKind, Currency, Error, Result, Timestamp};
use std::collections::HashSet;
use std::sync::Arc;
use store::{Engine, Tx, Value};

/// A document with more lines than this is worth the question whether the engine takes sets.
const FEW_LINES: usize = 2;
/// Rows of one set-based statement: bounds its memory.
const SET_ROWS: usize = 5_000;

/// Who asked for a change, and with which request.
#[derive(Clone, Debug)]
pub struct By {
    /// Who.
    pub actor: Actor,
    /// The request, if it was one.
    pub request_id: Option<Arc<str>>,
}

impl By {
    /// The kind of actor, as it is stored.
    pub(crate) fn kind(&self) -> &'static str {
        match self.actor.kind {
            ActorKind::User => "user",
            ActorKind::ApiKey => "api_key",
            ActorKind::System => "system",
        }
    }
}

/// Whether statements for sets of rows are to be used: they save messages to PostgreSQL; on SQLite a loop is faster.
pub(crate) fn set_based(tx: &Tx<'_>) -> bool {
    tx.engine() == Engine::Postgres
}

/// Takes `count` numbers of a kind and returns the first. They rise without a gap as long as no command is rolled back.
pub(crate) fn take_numbers(tx: &mut Tx<'_>, kind: DocumentKind, count: i64) -> Result<i64> {
    let last: Option<(i64,)> = tx.write_opt(sql::TAKE_NUMBERS, (kind, count))?;
    let (last,) = last.ok_or_else(|| Error::internal("the counter of documents did not answer"))?;
    Ok(last - count + 1)
}

/// What a new order or note is registered under.
pub(crate) struct Registered<'a> {
    pub kind: DocumentKind,
    pub document_id: i64,
    pub number: i64,
    pub external_ref: Option<&'a str>,
}

impl<'a> Registered<'a> {
    /// What an order is registered under.
    pub(crate) fn order(head: &'a OrderHead) -> Registered<'a> {
        let external_ref = head.external_ref.as_deref();
        Registered { kind: DocumentKind::Order, document_id: head.order_id.as_i64(), number: head.number, external_ref }
    }
}

/// Those of the external references that documents have already.
pub(crate) fn taken_refs(tx: &mut Tx<'_>, references: impl Iterator<Item = String>) -> Result<HashSet<String>> {
    let references: Vec<String> = references.collect();
    if references.is_empty() {
        return Ok(HashSet::new());
    }
    Ok(tx.all::<(String,)>(sql::KNOWN_REFS, (references,))?.into_iter().map(|(taken,)| taken).collect())
}

/// Registers one document's number and external reference. Errors (at the latest with the commit): `orders.external_ref_taken`.
pub(crate) fn register(tx: &mut Tx<'_>, new: Registered<'_>) -> Result<()> {
    tx.exec(sql::INSERT_NUMBER, (new.kind, new.number, new.document_id))?;
    if let Some(external_ref) = new.external_ref {
        tx.must(sql::INSERT_REF, (external_ref, new.kind, new.document_id), error::external_ref_taken)?;
    }
    Ok(())
}

/// The same for many documents, whose references are known to be free.
pub(crate) fn register_all(tx: &mut Tx<'_>, set: bool, new: &[Registered<'_>]) -> Result<()> {
    if !set {
        return new.iter().try_for_each(|one| register(tx, Registered { ..*one }));
    }
    for rows in new.chunks(SET_ROWS) {
        let kinds = || texts(rows, |r| r.kind.as_str());
        let ids = || ints(rows, |r| r.document_id);
        tx.exec(sql::INSERT_NUMBER_SET, (kinds(), ints(rows, |r| r.number), ids()))?;
        let named: Vec<&Registered<'_>> = rows.iter().filter(|r| r.external_ref.is_some()).collect();
        if !named.is_empty() {
            let refs = texts(&named, |r| r.external_ref.unwrap_or_default());
            tx.exec(sql::INSERT_REF_SET, (refs, texts(&named, |r| r.kind.as_str()), ints(&named, |r| r.document_id)))?;
        }
    }
    Ok(())
}

fn ints<T>(rows: &[T], value: impl Fn(&T) -> i64) -> Value<'static> {
    Value::Ints(rows.iter().map(value).collect())
}

fn texts<'a, T>(rows: &'a [T], value: impl Fn(&'a T) -> &'a str) -> Value<'static> {
    Value::Texts(rows.iter().map(|row| value(row).to_owned()).collect())
}

/// Writes a new order's head.
pub(crate) fn order(tx: &mut Tx<'_>, head: &OrderHead) -> Result<()> {
    tx.exec(
        sql::INSERT_ORDER,
        (
            head.order_id,
            head.number,
            head.state,
            head.version,
            head.lines_version,
            &head.external_ref,
            head.customer_id,
            &head.country,
            head.currency,
            head.line_count,
            head.extended,
            head.discount_minor,
            head.tax_minor,
            head.total_minor,
            head.credited_minor,
            head.placed_at,
            head.created_at,
            head.updated_at,
        ),
    )
}

/// Writes new orders' heads: each at version 1, with nothing credited.
pub(crate) fn orders(tx: &mut Tx<'_>, set: bool, heads: &[&OrderHead]) -> Result<()> {
    if !set {
        return heads.iter().try_for_each(|head| order(tx, head));
    }
    let now = tx.now();
    for rows in heads.chunks(SET_ROWS) {
        tx.exec(
            sql::INSERT_ORDER_SET,
            (
                ints(rows, |h| h.order_id.as_i64()),
                ints(rows, |h| h.number),
                texts(rows, |h| h.state.as_str()),
                texts(rows, |h| h.external_ref.as_deref().unwrap_or_default()),
                ints(rows, |h| h.customer_id.map_or(0, CustomerId::as_i64)),
                texts(rows, |h| &h.country),
                texts(rows, |h| h.currency.code()),
                ints(rows, |h| h.line_count),
                ints(rows, |h| h.extended.micros()),
                ints(rows, |h| h.discount_minor),
                ints(rows, |h| h.tax_minor),
                ints(rows, |h| h.total_minor),
                ints(rows, |h| h.placed_at.map_or(i64::MAX, Timestamp::micros)),
                now,
            ),
        )?;
    }
    Ok(())
}

/// Writes a credit note's or an adjustment's head.
pub(crate) fn note(tx: &mut Tx<'_>, head: &NoteHead, by: &By) -> Result<()> {
    tx.exec(
        sql::INSERT_NOTE,
        (
            head.kind,
            head.note_id,
            head.number,
            &head.external_ref,
            head.order_id,
            head.customer_id,
            &head.country,
            head.currency,
            &head.reason,
            head.line_count,
            head.extended,
            head.discount_minor,
            head.tax_minor,
            head.total_minor,
            head.issued_at,
            by.kind(),
            by.actor.id,
            by.request_id.as_deref(),
            head.created_at,
        ),
    )
}

/// Writes the lines of one document.
pub(crate) fn lines(tx: &mut Tx<'_>, document_id: i64, version: i64, lines: &[Line]) -> Result<()> {
    let set = lines.len() > FEW_LINES && set_based(tx);
    lines_of(tx, set, version, &[(document_id, lines)])
}

/// Writes the lines of several documents, all of one version.
pub(crate) fn lines_of(tx: &mut Tx<'_>, set: bool, version: i64, documents: &[(i64, &[Line])]) -> Result<()> {
    let flat = documents.iter().flat_map(|(id, lines)| lines.iter().map(move |line| (*id, line)));
    if set {
        let rows: Vec<(i64, &Line)> = flat.collect();
        return rows.chunks(SET_ROWS).try_for_each(|rows| line_set(tx, version, rows));
    }
    for (document_id, line) in flat {
        tx.exec(
            sql::INSERT_LINE,
            (
                document_id,
                version,
                line.line,
                line.kind,
                &line.sku,
                line.variant_id,
                &line.description,
                line.quantity,
                line.unit_price,
                line.extended,
                line.discount_minor,
                line.tax_minor,
                line.included_tax_minor,
                line.total_minor,
            ),
        )?;
    }
    Ok(())
}

fn line_set(tx: &mut Tx<'_>, version: i64, rows: &[(i64, &Line)]) -> Result<()> {
    tx.exec(
        sql::INSERT_LINE_SET,
        (
            version,
            ints(rows, |(id, _)| *id),
            ints(rows, |(_, l)| i64::from(l.line)),
            texts(rows, |(_, l)| l.kind.as_str()),
            texts(rows, |(_, l)| &l.sku),
            ints(rows, |(_, l)| l.variant_id.map_or(0, |id| id.as_i64())),
            texts(rows, |(_, l)| &l.description),
            ints(rows, |(_, l)| l.quantity),
            ints(rows, |(_, l)| l.unit_price.micros()),
            ints(rows, |(_, l)| l.extended.micros()),
            ints(rows, |(_, l)| l.discount_minor),
            ints(rows, |(_, l)| l.tax_minor),
            ints(rows, |(_, l)| l.included_tax_minor),
            ints(rows, |(_, l)| l.total_minor),
        ),
    )
}

/// Records a change of an order. `head` is what the order is after it; `change` is JSON.
pub(crate) fn change(tx: &mut Tx<'_>, head: &OrderHead, kind: &'static str, by: &By, reason: &str, change: &str) -> Result<()> {
    tx.exec(
        sql::INSERT_CHANGE,
        (head.order_id, head.version, kind, head.state, by.kind(), by.actor.id, reason, change, by.request_id.as_deref(), head.updated_at),
    )
}

/// Records the first change of new orders, which is of this kind, with who made it.
pub(crate) fn first_changes(tx: &mut Tx<'_>, set: bool, kind: &'static str, orders: &[(&OrderHead, &By)]) -> Result<()> {
    if !set {
        return orders.iter().try_for_each(|(head, by)| change(tx, head, kind, by, "", "{}"));
    }
    let now = tx.now();
    for rows in orders.chunks(SET_ROWS) {
        tx.exec(
            sql::INSERT_CHANGE_SET,
            (
                kind,
                now,
                ints(rows, |(head, _)| head.order_id.as_i64()),
                texts(rows, |(head, _)| head.state.as_str()),
                texts(rows, |(_, by)| by.kind()),
                ints(rows, |(_, by)| by.actor.id),
                texts(rows, |(_, by)| by.request_id.as_deref().unwrap_or_default()),
            ),
        )?;
    }
    Ok(())
}

/// Stores what an order has become under its next version, and records the change.
pub(crate) fn save(tx: &mut Tx<'_>, head: &mut OrderHead, kind: &'static str, by: &By, reason: &str, what: &str) -> Result<()> {
    let read = head.version;
    head.version += 1;
    head.updated_at = tx.now();
    tx.must(
        sql::UPDATE_ORDER,
        (
            head.order_id,
            read,
            head.version,
            head.state,
            head.lines_version,
            head.customer_id,
            &head.country,
            head.line_count,
            head.extended,
            head.discount_minor,
            head.tax_minor,
            head.total_minor,
            head.credited_minor,
            head.placed_at,
            head.updated_at,
        ),
        error::version_conflict,
    )?;
    change(tx, head, kind, by, reason, what)
}

/// A row of the daily sales, to be added to what is there.
pub(crate) struct SalesRow<'a> {
    pub day: i64,
    pub country: &'a str,
    pub currency: Currency,
    pub sum: SalesLine,
}

/// Adds to the daily sales. The keys of `rows` are distinct: PostgreSQL refuses to touch a row twice in one statement.
pub(crate) fn sales(tx: &mut Tx<'_>, rows: &[SalesRow<'_>]) -> Result<()> {
    if rows.len() > FEW_LINES && set_based(tx) {
        return rows.chunks(SET_ROWS).try_for_each(|rows| {
            tx.exec(
                sql::ADD_SALES_SET,
                (
                    ints(rows, |r| r.day),
                    texts(rows, |r| &r.sum.sku),
                    texts(rows, |r| r.country),
                    texts(rows, |r| r.currency.code()),
                    ints(rows, |r| r.sum.lines),
                    ints(rows, |r| r.sum.quantity),
                    ints(rows, |r| r.sum.extended_micros),
                    ints(rows, |r| r.sum.total_minor),
                ),
            )
        });
    }
    for row in rows {
        let sum = &row.sum;
        tx.exec(
            sql::ADD_SALES,
            (row.day, &sum.sku, row.country, row.currency, sum.lines, sum.quantity, sum.extended_micros, sum.total_minor),
        )?;
    }
    Ok(())
}

/// Writes new customers, whose references are known to be free.
pub(crate) fn customers(tx: &mut Tx<'_>, set: bool, new: &[Customer]) -> Result<()> {
    if !set {
        return new.iter().try_for_each(|c| {
            let row = (c.customer_id, &c.external_ref, &c.name, &c.email, &c.country, c.created_at);
            tx.must(sql::INSERT_CUSTOMER, row, error::customer_ref_taken)
        });
    }
    let now = tx.now();
    for rows in new.chunks(SET_ROWS) {
        tx.exec(
            sql::INSERT_CUSTOMER_SET,
            (
                ints(rows, |c| c.customer_id.as_i64()),
                texts(rows, |c| c.external_ref.as_deref().unwrap_or_default()),
                texts(rows, |c| &c.name),
                texts(rows, |c| c.email.as_deref().unwrap_or_default()),
                texts(rows, |c| &c.country),
                now,
            ),
        )?;
    }
    Ok(())
}
