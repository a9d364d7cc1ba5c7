//! Transfers between locations: sent, under way, received, or found missing.

use crate::levels::{self, Change, Changes};
use crate::model::*;
use crate::{error, sql};
use kernel::{Error, Faults, Result, Timestamp};
use serde::{Deserialize, Serialize};
use store::{FromRow, NewEvent, Read, Row, Tx};
use utoipa::ToSchema;
use web::IfMatch;

/// A line of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = StockTransferLine)]
pub struct TransferLine {
    /// The item.
    pub item_id: ItemId,
    /// How many were sent.
    pub quantity: i64,
    /// How many came in, fit for sale.
    pub received: i64,
    /// How many came in damaged.
    pub damaged: i64,
    /// How many never came.
    pub short: i64,
}

impl TransferLine {
    /// How many have not been told of.
    pub(crate) fn under_way(&self) -> i64 {
        self.quantity - self.received - self.damaged - self.short
    }
}

/// A transfer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = StockTransfer)]
pub struct Transfer {
    /// Its id.
    pub transfer_id: TransferId,
    /// From where.
    pub from_location_id: LocationId,
    /// To where.
    pub to_location_id: LocationId,
    /// Where it stands.
    pub state: TransferState,
    /// For people.
    pub note: String,
    /// What was sent, and what has become of it.
    pub lines: Vec<TransferLine>,
    /// Rises with every change; the `ETag`.
    pub version: i64,
    /// When it was sent.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

type StoredLine = (i64, i64, i64, i64, i64);

fn lines_text(lines: &[TransferLine]) -> Result<String> {
    stored(&lines.iter().map(|l| (l.item_id.as_i64(), l.quantity, l.received, l.damaged, l.short)).collect::<Vec<StoredLine>>())
}

pub(crate) fn lines_of(text: &str) -> Result<Vec<TransferLine>> {
    let rows: Vec<StoredLine> = restored(text)?;
    let line = |(item, quantity, received, damaged, short): StoredLine| TransferLine {
        item_id: ItemId::from_i64(item),
        quantity,
        received,
        damaged,
        short,
    };
    Ok(rows.into_iter().map(line).collect())
}

impl FromRow for Transfer {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(Transfer {
            transfer_id: row.get(0)?,
            from_location_id: row.get(1)?,
            to_location_id: row.get(2)?,
            state: row.get(3)?,
            note: row.get(4)?,
            lines: lines_of(&row.get::<String>(5)?)?,
            version: row.get(6)?,
            created_at: row.get(7)?,
            updated_at: row.get(8)?,
        })
    }
}

/// A transfer to be sent.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = NewStockTransfer)]
#[serde(deny_unknown_fields)]
pub struct NewTransfer {
    /// From where.
    pub from_location_id: LocationId,
    /// To where.
    pub to_location_id: LocationId,
    /// For people.
    #[serde(default)]
    #[schema(max_length = 500)]
    pub note: String,
    /// What; each item once.
    #[schema(min_items = 1, max_items = 500)]
    pub lines: Vec<NewTransferLine>,
}

/// A line of a transfer to be sent.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[schema(as = NewStockTransferLine)]
#[serde(deny_unknown_fields)]
pub struct NewTransferLine {
    /// The item.
    pub item_id: ItemId,
    /// How many.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    pub quantity: i64,
}

/// Sends goods: they leave one location and are incoming at the other. Only what is available goes.
/// Errors: `request.invalid`, `inventory.below_zero`.
pub(crate) fn send(tx: &mut Tx<'_>, new: &NewTransfer) -> Result<Transfer> {
    let mut faults = Faults::default();
    faults.text("note", &new.note, 0, MAX_NOTE);
    faults.count("lines", new.lines.len(), 1, MAX_ITEMS);
    if new.from_location_id == new.to_location_id {
        faults.add("to_location_id", "same", "it is where the goods are");
    }
    for (at, line) in new.lines.iter().enumerate().take(MAX_ITEMS) {
        faults.number(format!("lines[{at}].quantity"), line.quantity, 1, MAX_QUANTITY);
        if new.lines[..at].iter().any(|other| other.item_id == line.item_id) {
            faults.add(format!("lines[{at}].item_id"), "repeated", "each item once");
        }
    }
    faults.finish()?;
    for (field, location_id) in [("from_location_id", new.from_location_id), ("to_location_id", new.to_location_id)] {
        if tx.opt::<Location>(sql::LOCATION, (location_id,))?.is_none() {
            return Err(Error::field(field, "unknown", "there is no such location"));
        }
    }
    let (transfer_id, now): (TransferId, _) = (tx.new_id(), tx.now());
    let change = |line: &NewTransferLine, location_id, kind| Change {
        item_id: line.item_id,
        location_id,
        kind,
        quantity: line.quantity,
        expected: None,
    };
    let both = |line: &NewTransferLine| {
        let out = change(line, new.from_location_id, MovementKind::TransferOut);
        [out, change(line, new.to_location_id, MovementKind::TransferExpected)]
    };
    let lines = new.lines.iter().flat_map(both).collect();
    levels::change_named(tx, &Changes { reference: transfer_id.to_string(), note: new.note.clone(), lines }, |at| {
        format!("lines[{}]", at / 2)
    })?;
    let line = |line: &NewTransferLine| TransferLine { item_id: line.item_id, quantity: line.quantity, received: 0, damaged: 0, short: 0 };
    let transfer = Transfer {
        transfer_id,
        from_location_id: new.from_location_id,
        to_location_id: new.to_location_id,
        state: TransferState::InTransit,
        note: new.note.clone(),
        lines: new.lines.iter().map(line).collect(),
        version: 1,
        created_at: now,
        updated_at: now,
    };
    let t = &transfer;
    let row = (t.transfer_id, t.from_location_id, t.to_location_id, t.state, &t.note, lines_text(&t.lines)?, now);
    tx.exec(sql::INSERT_TRANSFER, row)?;
    tx.emit(NewEvent::new("inventory.transfer_sent", 1, t.transfer_id, t));
    Ok(transfer)
}

/// What has come of a transfer.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = StockTransferReceipt)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// What came in; each item once. May be empty when the rest is short.
    #[serde(default)]
    #[schema(max_items = 500)]
    pub lines: Vec<ReceiptLine>,
    /// Whether what is not told of will never come.
    #[serde(default)]
    pub rest_is_short: bool,
}

/// What has come of a line.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[schema(as = StockTransferReceiptLine)]
#[serde(deny_unknown_fields)]
pub struct ReceiptLine {
    /// The item.
    pub item_id: ItemId,
    /// How many came in, fit for sale.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    pub received: i64,
    /// How many came in damaged.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    pub damaged: i64,
}

/// A transfer that comes in.
#[derive(Clone, Debug)]
pub(crate) struct Receive {
    pub transfer_id: TransferId,
    pub if_match: IfMatch,
    pub receipt: Receipt,
}

/// Takes in what has come: several times, until all of it is accounted for. Errors: `inventory.transfer_not_found`,
/// `inventory.not_open`, `inventory.over_received`, `request.precondition_failed`, `request.invalid`.
pub(crate) fn receive(tx: &mut Tx<'_>, asked: &Receive) -> Result<Transfer> {
    let mut transfer = transfer(tx, asked.transfer_id)?;
    asked.if_match.check(transfer.version)?;
    if transfer.state != TransferState::InTransit {
        return Err(error::not_open("transfer"));
    }
    let told = &asked.receipt.lines;
    let mut faults = Faults::default();
    faults.count("lines", told.len(), usize::from(!asked.receipt.rest_is_short), MAX_ITEMS);
    for (at, line) in told.iter().enumerate().take(MAX_ITEMS) {
        faults.number(format!("lines[{at}].received"), line.received, 0, MAX_QUANTITY);
        faults.number(format!("lines[{at}].damaged"), line.damaged, 0, MAX_QUANTITY);
        if line.received == 0 && line.damaged == 0 {
            faults.add(format!("lines[{at}].received"), "empty", "nothing is told of this item");
        }
        if told[..at].iter().any(|other| other.item_id == line.item_id) {
            faults.add(format!("lines[{at}].item_id"), "repeated", "each item once");
        }
        if !transfer.lines.iter().any(|own| own.item_id == line.item_id) {
            faults.add(format!("lines[{at}].item_id"), "unknown", "it is not in this transfer");
        }
    }
    faults.finish()?;
    let mut changes = Vec::new();
    let mut change = |line: &TransferLine, kind, quantity: i64| {
        if quantity > 0 {
            changes.push(Change { item_id: line.item_id, location_id: transfer.to_location_id, kind, quantity, expected: None });
        }
    };
    for line in &mut transfer.lines {
        if let Some((at, told)) = told.iter().enumerate().find(|(_, told)| told.item_id == line.item_id) {
            if told.received + told.damaged > line.under_way() {
                return Err(error::over_received(format!("lines[{at}].received"), told.received + told.damaged, line.under_way()));
            }
            change(line, MovementKind::TransferIn, told.received);
            change(line, MovementKind::TransferDamaged, told.damaged);
            (line.received, line.damaged) = (line.received + told.received, line.damaged + told.damaged);
        }
        if asked.receipt.rest_is_short {
            change(line, MovementKind::TransferShort, line.under_way());
            line.short += line.under_way();
        }
    }
    // Up to three for each of 500 lines: in two parts.
    for lines in changes.chunks(2 * MAX_ITEMS) {
        let part = Changes { reference: transfer.transfer_id.to_string(), note: String::new(), lines: lines.to_vec() };
        levels::change_named(tx, &part, |_| "lines".to_owned())?;
    }
    if transfer.lines.iter().all(|line| line.under_way() == 0) {
        transfer.state = TransferState::Received;
    }
    let read = transfer.version;
    (transfer.version, transfer.updated_at) = (read + 1, tx.now());
    let t = &transfer;
    let row = (t.transfer_id, read, t.version, t.state, lines_text(&t.lines)?, t.updated_at);
    tx.must(sql::UPDATE_TRANSFER, row, error::version_conflict)?;
    tx.emit(NewEvent::new("inventory.transfer_received", 1, t.transfer_id, t));
    Ok(transfer)
}

/// A transfer. Errors: `inventory.transfer_not_found`.
pub(crate) fn transfer(read: &mut Read<'_>, transfer_id: TransferId) -> Result<Transfer> {
    read.opt(sql::TRANSFER, (transfer_id,))?.ok_or_else(error::transfer_not_found)
}

/// Up to `limit` transfers before `before`, the latest first.
pub(crate) fn transfers(read: &mut Read<'_>, before: i64, limit: i64) -> Result<Vec<Transfer>> {
    read.all(sql::TRANSFERS_PAGE, (before, limit))
}
