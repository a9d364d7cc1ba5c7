//! Writing what a batch has changed: each balance once, one row a transfer. One statement a row on SQLite, where that is fastest, and one
//! statement for a set on PostgreSQL, where a message costs more than a row.

use crate::books::{self, Books};
use crate::engine::{HoldState, Moving, NewTransaction, View};
use crate::model::*;
use crate::sql;
use kernel::{Error, Result};
use std::collections::HashSet;
use store::{Engine, Tx, Value};

/// Rows of one set-based statement: bounds its memory.
const SET_ROWS: usize = 10_000;

/// Writes everything that the decisions changed, and gives back what the lane remembers.
pub(crate) fn view(tx: &mut Tx<'_>, view: &View, mut books: Books) -> Result<()> {
    if view.transactions.is_empty() {
        return books::give_back(tx, books);
    }
    let set = tx.engine() == Engine::Postgres;
    transactions(tx, set, &view.transactions)?;
    postings(tx, set, view)?;
    let ids: Vec<TransactionId> = view.transactions.iter().map(|row| row.transaction_id).collect();
    let changed: Vec<_> = view.accounts.iter().filter(|account| account.moving.changed).collect();
    // What is pending is read from the balances alone.
    let may_wait = !set && view.transactions.iter().all(|row| row.pending_minor == 0);
    books.write(tx, &ids, &changed, may_wait)?;
    books::give_back(tx, books)?;
    marks(tx, set, view)?;
    holds(tx, set, view)?;
    for (id, original) in view.originals.iter().filter(|(_, original)| original.changed) {
        tx.exec(sql::PUT_REVERSED, (*id, original.reversed_minor))?;
    }
    keys_and_refs(tx, set, view)?;
    let today = view.now.day();
    for limit in view.limits.iter().filter(|limit| limit.used.changed) {
        tx.exec(sql::PUT_USAGE, (limit.subject, &limit.name, limit.currency, today, limit.used.today))?;
    }
    Ok(())
}

fn ints<T>(rows: &[T], value: impl Fn(&T) -> i64) -> Value<'static> {
    Value::Ints(rows.iter().map(value).collect())
}

fn texts<T>(rows: &[T], value: impl Fn(&T) -> String) -> Value<'static> {
    Value::Texts(rows.iter().map(value).collect())
}

/// Whether the row has nothing besides its accounts and its amount.
fn plain(row: &NewTransaction) -> bool {
    row.kind == TransactionKind::Transfer && row.details.is_none()
}

fn transactions(tx: &mut Tx<'_>, set: bool, rows: &[NewTransaction]) -> Result<()> {
    if !set {
        // In the order of their ids, which is that of the tree.
        for rows in rows.chunk_by(|a, b| plain(a) == plain(b)) {
            let transfer = |row: &NewTransaction| {
                let ids = (row.transaction_id, row.debit, row.credit, row.amount_minor);
                (ids.0, ids.1, ids.2, ids.3, row.debit_previous, row.credit_previous, row.recorded_at)
            };
            if plain(&rows[0]) {
                tx.exec_each(sql::INSERT_TRANSFER, rows.iter().map(transfer))?;
            } else {
                rows.iter().try_for_each(|row| transaction(tx, row))?;
            }
        }
        return Ok(());
    }
    let (transfers, others): (Vec<&NewTransaction>, Vec<&NewTransaction>) = rows.iter().partition(|row| plain(row));
    for rows in transfers.chunks(SET_ROWS) {
        let args = (
            ints(rows, |r| r.transaction_id.as_i64()),
            ints(rows, |r| r.debit),
            ints(rows, |r| r.credit),
            ints(rows, |r| r.amount_minor),
            ints(rows, |r| r.debit_previous),
            ints(rows, |r| r.credit_previous),
            ints(rows, |r| r.recorded_at.micros()),
        );
        tx.exec(sql::INSERT_TRANSFER_SET, args)?;
    }
    for rows in others.chunks(SET_ROWS) {
        let metadata = rows.iter().map(|row| metadata_text(row)).collect::<Result<Vec<String>>>()?;
        let of = |row: &&NewTransaction, text: fn(&Details) -> &Option<String>| {
            row.details.as_deref().and_then(|d| text(d).clone()).unwrap_or_default()
        };
        let args = (
            ints(rows, |r| r.transaction_id.as_i64()),
            texts(rows, |r| r.kind.as_str().to_owned()),
            ints(rows, |r| r.debit),
            ints(rows, |r| r.credit),
            ints(rows, |r| r.amount_minor),
            ints(rows, |r| r.pending_minor),
            ints(rows, |r| r.debit_previous),
            ints(rows, |r| r.credit_previous),
            ints(rows, |r| r.recorded_at.micros()),
            ints(rows, |r| r.subject),
            ints(rows, |r| r.rate_nanos),
            ints(rows, |r| r.details.as_deref().and_then(|d| d.effective_at).map_or(i64::MIN, |at| at.micros())),
            texts(rows, |r| of(r, |d| &d.external_ref)),
            texts(rows, |r| of(r, |d| &d.description)),
            Value::Texts(metadata),
        );
        tx.exec(sql::INSERT_TRANSACTION_SET, args)?;
    }
    Ok(())
}

/// The metadata as JSON; empty when there is none.
fn metadata_text(row: &NewTransaction) -> Result<String> {
    match row.details.as_deref() {
        Some(details) if !details.metadata.is_empty() => {
            serde_json::to_string(&details.metadata).map_err(|e| Error::internal("metadata does not serialise").caused_by(e))
        }
        _ => Ok(String::new()),
    }
}

fn transaction(tx: &mut Tx<'_>, row: &NewTransaction) -> Result<()> {
    let nothing = Details::default();
    let details = row.details.as_deref().unwrap_or(&nothing);
    tx.exec(
        sql::INSERT_TRANSACTION,
        (
            row.transaction_id,
            row.kind,
            row.debit,
            row.credit,
            row.amount_minor,
            row.pending_minor,
            row.debit_previous,
            row.credit_previous,
            row.recorded_at,
            row.subject,
            row.rate_nanos,
            details.effective_at,
            details.external_ref.as_deref().unwrap_or_default(),
            details.description.as_deref().unwrap_or_default(),
            metadata_text(row)?,
        ),
    )
}

fn postings(tx: &mut Tx<'_>, set: bool, view: &View) -> Result<()> {
    let dated = |row: &&NewTransaction| row.debit == 0 && row.details.as_deref().is_some_and(|details| details.effective_at.is_some());
    let dated: HashSet<TransactionId> = view.transactions.iter().filter(dated).map(|row| row.transaction_id).collect();
    if !dated.is_empty() {
        let shifted = view.postings.iter().filter(|posting| dated.contains(&posting.transaction_id));
        tx.exec_each(sql::INSERT_SHIFTED, shifted.map(|posting| (posting.account_id, posting.transaction_id)))?;
    }
    if !set {
        let row = |p: &crate::engine::NewPosting| (p.transaction_id, p.posting, p.account_id, p.signed_minor, p.previous);
        return tx.exec_each(sql::INSERT_POSTING, view.postings.iter().map(row));
    }
    for rows in view.postings.chunks(SET_ROWS) {
        let args = (
            ints(rows, |p| p.transaction_id.as_i64()),
            ints(rows, |p| p.posting),
            ints(rows, |p| p.account_id.as_i64()),
            ints(rows, |p| p.signed_minor),
            ints(rows, |p| p.previous),
        );
        tx.exec(sql::INSERT_POSTING_SET, args)?;
    }
    Ok(())
}

/// Writes balances, given in the order of the table so that neighbours are found where the one before was.
pub(crate) fn balances(tx: &mut Tx<'_>, rows: &[(AccountId, Moving)]) -> Result<()> {
    if tx.engine() != Engine::Postgres {
        let row = |(id, m): &(AccountId, Moving)| {
            let s = &m.sums;
            let sums = (s.debits_posted, s.credits_posted, s.debits_pending, s.credits_pending);
            (*id, sums.0, sums.1, sums.2, sums.3, m.entries, m.last_transaction, m.last_recorded, m.next_expiry.unwrap_or(0))
        };
        return tx.exec_each(sql::UPDATE_BALANCE, rows.iter().map(row));
    }
    for rows in rows.chunks(SET_ROWS) {
        let args = (
            ints(rows, |(id, _)| id.as_i64()),
            ints(rows, |(_, m)| m.sums.debits_posted),
            ints(rows, |(_, m)| m.sums.credits_posted),
            ints(rows, |(_, m)| m.sums.debits_pending),
            ints(rows, |(_, m)| m.sums.credits_pending),
            ints(rows, |(_, m)| m.entries),
            ints(rows, |(_, m)| m.last_transaction),
            ints(rows, |(_, m)| m.last_recorded),
            ints(rows, |(_, m)| m.next_expiry.unwrap_or(0)),
        );
        tx.exec(sql::UPDATE_BALANCE_SET, args)?;
    }
    Ok(())
}

fn marks(tx: &mut Tx<'_>, set: bool, view: &View) -> Result<()> {
    if !set {
        for mark in &view.marks {
            let (m, s) = (&mark.moving, &mark.moving.sums);
            let sums = (s.debits_posted, s.credits_posted, s.debits_pending, s.credits_pending);
            let at = (m.last_recorded, m.entries, m.last_transaction);
            tx.exec(sql::INSERT_MARK, (mark.account_id, at.0, at.1, at.2, sums.0, sums.1, sums.2, sums.3))?;
        }
        return Ok(());
    }
    for rows in view.marks.chunks(SET_ROWS) {
        let args = (
            ints(rows, |m| m.account_id.as_i64()),
            ints(rows, |m| m.moving.last_recorded),
            ints(rows, |m| m.moving.entries),
            ints(rows, |m| m.moving.last_transaction),
            ints(rows, |m| m.moving.sums.debits_posted),
            ints(rows, |m| m.moving.sums.credits_posted),
            ints(rows, |m| m.moving.sums.debits_pending),
            ints(rows, |m| m.moving.sums.credits_pending),
        );
        tx.exec(sql::INSERT_MARK_SET, args)?;
    }
    Ok(())
}

fn holds(tx: &mut Tx<'_>, set: bool, view: &View) -> Result<()> {
    let account = |place: u32| view.accounts[place as usize].id.as_i64();
    let changed: Vec<(&TransactionId, &HoldState)> = view.holds.iter().filter(|(_, hold)| hold.changed).collect();
    if !set {
        for (id, hold) in &view.new_holds {
            tx.exec(sql::INSERT_HOLD, (*id, account(hold.debit), account(hold.credit), hold.amount_minor, hold.expires_at))?;
        }
        for (id, hold) in changed {
            tx.exec(sql::UPDATE_HOLD, (*id, hold.captured_minor, hold.remaining_minor, hold.status))?;
        }
        return Ok(());
    }
    for rows in view.new_holds.chunks(SET_ROWS) {
        let args = (
            ints(rows, |(id, _)| id.as_i64()),
            ints(rows, |(_, hold)| account(hold.debit)),
            ints(rows, |(_, hold)| account(hold.credit)),
            ints(rows, |(_, hold)| hold.amount_minor),
            ints(rows, |(_, hold)| hold.expires_at.micros()),
        );
        tx.exec(sql::INSERT_HOLD_SET, args)?;
    }
    for rows in changed.chunks(SET_ROWS) {
        let args = (
            ints(rows, |(id, _)| id.as_i64()),
            ints(rows, |(_, hold)| hold.captured_minor),
            ints(rows, |(_, hold)| hold.remaining_minor),
            texts(rows, |(_, hold)| hold.status.as_str().to_owned()),
        );
        tx.exec(sql::UPDATE_HOLD_SET, args)?;
    }
    Ok(())
}

fn keys_and_refs(tx: &mut Tx<'_>, set: bool, view: &View) -> Result<()> {
    if !set {
        let row = |(key, id, at): &(Key, TransactionId, kernel::Timestamp)| {
            let (hash, print) = (key.hash, key.fingerprint);
            (hash.0, hash.1, print.0, print.1, *id, *at)
        };
        tx.exec_each(sql::INSERT_KEY, view.new_keys.iter().map(row))?;
        return view.new_refs.iter().try_for_each(|(external_ref, id)| tx.exec(sql::INSERT_REF, (external_ref, *id)));
    }
    for rows in view.new_keys.chunks(SET_ROWS) {
        let args = (
            ints(rows, |(key, ..)| key.hash.0),
            ints(rows, |(key, ..)| key.hash.1),
            ints(rows, |(key, ..)| key.fingerprint.0),
            ints(rows, |(key, ..)| key.fingerprint.1),
            ints(rows, |(_, id, _)| id.as_i64()),
            ints(rows, |(_, _, at)| at.micros()),
        );
        tx.exec(sql::INSERT_KEY_SET, args)?;
    }
    for rows in view.new_refs.chunks(SET_ROWS) {
        tx.exec(sql::INSERT_REF_SET, (texts(rows, |(r, _)| r.clone()), ints(rows, |(_, id)| id.as_i64())))?;
    }
    Ok(())
}
