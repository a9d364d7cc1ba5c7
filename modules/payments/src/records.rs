//! Records: money that was taken or given back outside (at another system's provider, over the counter, by bank), written down and booked
//! here. Nobody is asked for it, and nothing of it can be captured or refunded through a provider: what goes back is recorded, too.

use crate::model::{ProviderId, words};
use crate::{books, card, sql};
use kernel::{Currency, Entity, Error, Id, Result, Timestamp};
use ledger::{Details, Request};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use store::{Engine, FromRow, FromValue, NewEvent, Read, Row, ToValue, Tx, Value, ValueRef};
use utoipa::ToSchema;

/// The most records of one command.
pub const MAX_RECORDS: usize = 8_000;
/// The largest amount of a record, in minor units: that of the ledger.
pub const MAX_RECORD_MINOR: i64 = 1_000_000_000_000_000;
/// Whose accounts it is booked on: no provider has this id.
pub(crate) const OUTSIDE: ProviderId = ProviderId::from_i64(0);

/// Marks records' ids (`prc_...`).
pub enum RecordEntity {}

impl Entity for RecordEntity {
    const PREFIX: &'static str = "prc";
}

/// The id of a record.
pub type RecordId = Id<RecordEntity>;

words! {
    /// What a record says.
    #[schema(as = PaymentRecordKind)]
    RecordKind {
        /// Money came in.
        Payment = "payment",
        /// Money went back.
        Refund = "refund",
        /// What was recorded before was not so: a bad debt, a mistake.
        Correction = "correction",
    }
}

/// Money that moved outside.
#[derive(Clone, Debug)]
pub struct NewRecord {
    /// What it says.
    pub kind: RecordKind,
    /// Above zero for a payment, below zero for a refund, either for a correction; at most [`MAX_RECORD_MINOR`] from zero.
    pub amount_minor: i64,
    /// Of the amount.
    pub currency: Currency,
    /// What it is for: an order's id, or a credit note's or an adjustment's; 1 to 64 bytes.
    pub document: String,
    /// Who says so: 1 to 64 bytes.
    pub source: String,
    /// When it moved.
    pub at: Timestamp,
}

/// A record as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = PaymentRecord)]
pub struct RecordView {
    /// Its id.
    pub record_id: RecordId,
    /// What it says.
    pub kind: RecordKind,
    /// Above zero it came in, below zero it went back; in minor units of `currency`.
    pub amount_minor: i64,
    /// Of the amount.
    pub currency: Currency,
    /// What it is for.
    pub document: String,
    /// Who said so.
    pub source: String,
    /// When it moved.
    pub happened_at: Timestamp,
    /// When it was written down.
    pub recorded_at: Timestamp,
}

impl FromRow for RecordView {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(RecordView {
            record_id: row.get(0)?,
            kind: row.get(1)?,
            amount_minor: row.get(2)?,
            currency: row.get(3)?,
            document: row.get(4)?,
            source: row.get(5)?,
            happened_at: row.get(6)?,
            recorded_at: row.get(7)?,
        })
    }
}

/// What is wrong with a record. Pure. Errors: `request.invalid`, `payments.card_number`.
fn check(new: &NewRecord) -> Result<()> {
    for (field, text) in [("document", &new.document), ("source", &new.source)] {
        if card::has_card_number(text.as_bytes()) {
            return Err(card::refused(field));
        }
        if !(1..=64).contains(&text.len()) || text.chars().any(char::is_control) {
            return Err(Error::field(field, "out_of_range", "1 to 64 bytes without control characters"));
        }
    }
    let fits = match new.kind {
        RecordKind::Payment => new.amount_minor > 0,
        RecordKind::Refund => new.amount_minor < 0,
        RecordKind::Correction => new.amount_minor != 0,
    };
    if !fits || new.amount_minor.unsigned_abs() > MAX_RECORD_MINOR.unsigned_abs() {
        let detail =
            format!("a payment is above zero, a refund below, a correction not zero, and none is beyond {MAX_RECORD_MINOR} minor units");
        return Err(Error::field("amount_minor", "out_of_range", detail));
    }
    Ok(())
}

/// Writes records down and books them, all or none. Errors: `request.invalid`, `payments.card_number`, those of the ledger.
pub(crate) fn record(tx: &mut Tx<'_>, records: &[NewRecord]) -> Result<()> {
    if records.len() > MAX_RECORDS {
        return Err(Error::field("records", "too_many", format!("{} records; at most {MAX_RECORDS} at once", records.len())));
    }
    records.iter().try_for_each(check)?;
    let mut accounts: HashMap<Currency, books::Accounts> = HashMap::new();
    let mut requests = Vec::with_capacity(records.len());
    for new in records {
        let books = match accounts.get(&new.currency) {
            Some(known) => *known,
            None => *accounts.entry(new.currency).or_insert(books::accounts(tx, OUTSIDE, new.currency)?),
        };
        let (debit, credit) = if new.amount_minor > 0 { (books.receivable, books.clearing) } else { (books.clearing, books.receivable) };
        let details = Details { effective_at: Some(new.at), ..Details::default() };
        requests.push(Request::transfer(debit, credit, new.amount_minor.abs()).details(details));
    }
    if requests.is_empty() {
        return Ok(());
    }
    let receipts = ledger::api::post_bulk(tx, &requests)?;
    let now = tx.now();
    let mut rows = Vec::with_capacity(records.len());
    for (new, receipt) in records.iter().zip(receipts) {
        rows.push((tx.new_id::<RecordEntity>(), new, receipt?.transaction_id.as_i64()));
    }
    insert(tx, &rows, now)?;
    for (record_id, new, _) in &rows {
        tx.emit(recorded(*record_id, new));
    }
    Ok(())
}

fn recorded(record_id: RecordId, new: &NewRecord) -> NewEvent {
    #[derive(Serialize)]
    struct Payload<'a> {
        record_id: RecordId,
        kind: RecordKind,
        amount_minor: i64,
        currency: Currency,
        document: &'a str,
        source: &'a str,
        happened_at: Timestamp,
    }
    let NewRecord { kind, amount_minor, currency, document, source, at } = new;
    let payload = Payload { record_id, kind: *kind, amount_minor: *amount_minor, currency: *currency, document, source, happened_at: *at };
    NewEvent::new("payment.recorded", 1, document, &payload)
}

/// One statement a row on SQLite, where that is fastest; one for all on PostgreSQL, where a message costs more than a row.
fn insert(tx: &mut Tx<'_>, rows: &[(RecordId, &NewRecord, i64)], now: Timestamp) -> Result<()> {
    if tx.engine() == Engine::Postgres {
        let ints = |value: fn(&(RecordId, &NewRecord, i64)) -> i64| -> Value<'static> { Value::Ints(rows.iter().map(value).collect()) };
        let texts = |value: fn(&NewRecord) -> String| -> Value<'static> { Value::Texts(rows.iter().map(|row| value(row.1)).collect()) };
        let args = (
            texts(|r| r.document.clone()),
            ints(|row| row.0.as_i64()),
            texts(|r| r.kind.as_str().to_owned()),
            ints(|row| row.1.amount_minor),
            texts(|r| r.currency.to_string()),
            texts(|r| r.source.clone()),
            ints(|row| row.2),
            ints(|row| row.1.at.micros()),
            now,
        );
        return tx.exec(sql::INSERT_RECORD_SET, args);
    }
    let row = |(record_id, r, transaction_id): &(RecordId, &NewRecord, i64)| {
        let what = (r.document.clone(), *record_id, r.kind, r.amount_minor, r.currency, r.source.clone());
        (what.0, what.1, what.2, what.3, what.4, what.5, *transaction_id, r.at, now)
    };
    tx.exec_each(sql::INSERT_RECORD, rows.iter().map(row))
}

/// At most `limit` records of a document, the latest first.
pub(crate) fn of_document(read: &mut Read<'_>, document: &str, limit: i64) -> Result<Vec<RecordView>> {
    read.all(sql::RECORDS_OF, (document, limit))
}

/// At most `limit` records after this one, by document and id.
pub(crate) fn after(read: &mut Read<'_>, after: Option<&RecordView>, limit: i64) -> Result<Vec<RecordView>> {
    let (document, record_id) = after.map_or(("", RecordId::from_i64(0)), |last| (last.document.as_str(), last.record_id));
    read.all(sql::RECORDS_AFTER, (document, record_id, limit))
}

/// How many records there are from a source, and what they come to in each currency.
pub(crate) fn sums(read: &mut Read<'_>, source: &str) -> Result<Vec<RecordSum>> {
    read.all(sql::RECORD_SUMS, (source,))
}

/// What the records of a source come to in a currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordSum {
    /// Of the amounts.
    pub currency: Currency,
    /// How many.
    pub records: i64,
    /// Came in, in minor units.
    pub in_minor: i64,
    /// Went back, in minor units, above zero.
    pub out_minor: i64,
}

impl FromRow for RecordSum {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(RecordSum { currency: row.get(0)?, records: row.get(1)?, in_minor: row.get(2)?, out_minor: row.get(3)? })
    }
}
