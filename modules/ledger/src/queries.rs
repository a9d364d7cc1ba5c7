//! Reads: accounts, balances now and at any moment, statements, transactions. Each is bounded.

use crate::engine::ENTRIES_PER_MARK;
use crate::model::*;
use crate::{error, load, sql};
use kernel::{Currency, Result, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use store::{FromRow, Read, Row};
use utoipa::ToSchema;

/// An account. Errors: `ledger.account_not_found`.
pub(crate) fn account(read: &mut Read<'_>, account_id: AccountId) -> Result<Account> {
    read.opt(sql::ACCOUNT, (account_id,))?.ok_or_else(error::account_not_found)
}

/// Up to `limit` accounts with ids after `after`, the oldest first; of one owner, if it is given.
pub(crate) fn accounts(read: &mut Read<'_>, owner: Option<&str>, after: i64, limit: i64) -> Result<Vec<Account>> {
    match owner {
        Some(owner) => read.all(sql::ACCOUNTS_OF_OWNER_PAGE, (after, limit, owner)),
        None => read.all(sql::ACCOUNTS_PAGE, (after, limit)),
    }
}

/// An account's sums as they stand, and its last transaction.
struct Standing {
    sums: Sums,
    last_transaction: i64,
    last_recorded: Timestamp,
    next_expiry: Option<i64>,
}

fn standing(read: &mut Read<'_>, account_id: AccountId) -> Result<Standing> {
    let mut found = None;
    let mut tail: Option<i64> = None;
    read.each(sql::ACCOUNT_STATES, (vec![account_id.as_i64()],), |row| {
        let sums =
            Sums { debits_posted: row.get(7)?, credits_posted: row.get(8)?, debits_pending: row.get(9)?, credits_pending: row.get(10)? };
        found = Some(Standing { sums, last_transaction: row.get(12)?, last_recorded: row.get(13)?, next_expiry: row.get(14)? });
        tail = row.get(15)?;
        Ok(())
    })?;
    let mut standing = found.ok_or_else(error::account_not_found)?;
    // What is in no balance yet (books.rs).
    if let Some(first) = tail
        && let Some((debits, credits, last, at)) = read.opt::<(i64, i64, i64, Timestamp)>(sql::TAIL_OF, (first, account_id))?
    {
        standing.sums.debits_posted += debits;
        standing.sums.credits_posted += credits;
        (standing.last_transaction, standing.last_recorded) = (last, at);
    }
    Ok(standing)
}

/// Whether any hold of the account was neither captured, voided nor released after its expiry.
pub(crate) fn anything_pending(read: &mut Read<'_>, account_id: AccountId) -> Result<bool> {
    let sums = standing(read, account_id)?.sums;
    Ok(sums.debits_pending != 0 || sums.credits_pending != 0)
}

/// An account's balance now: expired holds don't count, released or not. Errors: `ledger.account_not_found`.
pub(crate) fn balance(read: &mut Read<'_>, account: &Account) -> Result<Balance> {
    let Standing { mut sums, next_expiry, last_recorded, .. } = standing(read, account.account_id)?;
    // The snapshot may be later than the clock was looked at: what had expired for a decision in it has expired for the reader.
    let now = read.now().max(last_recorded);
    if next_expiry.is_some_and(|at| at <= now.micros()) {
        let (debits, credits) = load::expired(read, account.account_id, now)?;
        sums.debits_pending -= debits;
        sums.credits_pending -= credits;
    }
    Ok(Balance::of(&sums, account.account_type.normal_side()))
}

/// An account's balance as it was recorded at a moment, that moment included. A hold counts until its end was recorded.
/// Errors: `ledger.account_not_found`.
pub(crate) fn balance_at(read: &mut Read<'_>, account: &Account, at: Timestamp) -> Result<Balance> {
    Ok(Balance::of(&sums_at(read, account.account_id, at)?, account.account_type.normal_side()))
}

/// An account's balance at a moment by the effective dates of what is recorded today; what is pending is that which was recorded by then,
/// since holds have no other date. Errors: `ledger.account_not_found`.
pub(crate) fn balance_effective_at(read: &mut Read<'_>, account: &Account, at: Timestamp) -> Result<Balance> {
    let mut sums = sums_at(read, account.account_id, at)?;
    let (debits, credits): (i64, i64) = read.one(sql::SHIFTED, (account.account_id, at))?;
    sums.debits_posted += debits;
    sums.credits_posted += credits;
    Ok(Balance::of(&sums, account.account_type.normal_side()))
}

fn sums_at(read: &mut Read<'_>, id: AccountId, at: Timestamp) -> Result<Sums> {
    let Standing { mut sums, last_transaction: mut from, .. } = standing(read, id)?;
    if let Some((transaction, debits_posted, credits_posted, debits_pending, credits_pending)) = read.opt(sql::MARK_AFTER, (id, at))? {
        (sums, from) = (Sums { debits_posted, credits_posted, debits_pending, credits_pending }, transaction);
    }
    // From the mark, or from the end, back to the first entry that is not later: between two marks there are no more than these.
    for entry in chain(read, id, from, ENTRIES_PER_MARK + 1, at)? {
        if entry.recorded_at <= at {
            break;
        }
        entry.take_back(&mut sums);
    }
    Ok(sums)
}

/// An entry of an account's chain.
struct Entry {
    transaction_id: TransactionId,
    kind: TransactionKind,
    side: Side,
    amount_minor: i64,
    pending_minor: i64,
    recorded_at: Timestamp,
    effective_at: Option<Timestamp>,
    description: Option<String>,
    external_ref: Option<String>,
    subject: Option<TransactionId>,
    previous: i64,
}

impl FromRow for Entry {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(Entry {
            transaction_id: row.get(0)?,
            kind: row.get(1)?,
            side: row.get(2)?,
            amount_minor: row.get(3)?,
            pending_minor: row.get(4)?,
            recorded_at: row.get(5)?,
            effective_at: row.get(6)?,
            description: row.get(7)?,
            external_ref: row.get(8)?,
            subject: row.get(9)?,
            previous: row.get(10)?,
        })
    }
}

impl Entry {
    fn take_back(&self, sums: &mut Sums) {
        match self.side {
            Side::Debit => {
                sums.debits_posted -= self.amount_minor;
                sums.debits_pending -= self.pending_minor;
            }
            Side::Credit => {
                sums.credits_posted -= self.amount_minor;
                sums.credits_pending -= self.pending_minor;
            }
        }
    }
}

/// Up to `limit` entries from transaction `from` backwards, up to and including the first that was recorded before `since`.
fn chain(read: &mut Read<'_>, account_id: AccountId, from: i64, limit: i64, since: Timestamp) -> Result<Vec<Entry>> {
    if from == 0 {
        return Ok(Vec::new());
    }
    read.all(sql::ENTRIES, (account_id, from, limit, since))
}

/// A line of an account's statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatementLine {
    /// The transaction.
    pub transaction_id: TransactionId,
    /// What it did.
    pub kind: TransactionKind,
    /// The account's side of it.
    pub side: Side,
    /// What was posted; 0 for a hold and its release.
    pub amount_minor: i64,
    /// By how much it changed what is pending; below zero when a hold ended.
    pub pending_minor: i64,
    /// The balance after it.
    pub balance: Balance,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// When it took effect.
    pub effective_at: Timestamp,
    /// For people.
    pub description: Option<String>,
    /// What another system calls it.
    pub external_ref: Option<String>,
    /// The hold that it ends, or the transaction that it reverses.
    pub subject_id: Option<TransactionId>,
}

/// Where a statement's page ended: the next entry, and the sums after it. What was recorded doesn't change, so they stay true.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementPosition {
    next: i64,
    sums: Sums,
}

/// Up to `limit` lines of an account's statement, the latest first, each with the position behind it.
/// Errors: `ledger.account_not_found`.
pub(crate) fn statement(
    read: &mut Read<'_>,
    account: &Account,
    after: Option<StatementPosition>,
    limit: i64,
) -> Result<Vec<(StatementLine, StatementPosition)>> {
    let StatementPosition { next, mut sums } = match after {
        Some(position) => position,
        None => {
            let standing = standing(read, account.account_id)?;
            StatementPosition { next: standing.last_transaction, sums: standing.sums }
        }
    };
    let entries = chain(read, account.account_id, next, limit, Timestamp::from_micros(i64::MIN))?;
    let normal = account.account_type.normal_side();
    let line = |entry: Entry| {
        let balance = Balance::of(&sums, normal);
        entry.take_back(&mut sums);
        let position = StatementPosition { next: entry.previous, sums };
        let line = StatementLine {
            transaction_id: entry.transaction_id,
            kind: entry.kind,
            side: entry.side,
            amount_minor: entry.amount_minor,
            pending_minor: entry.pending_minor,
            balance,
            recorded_at: entry.recorded_at,
            effective_at: entry.effective_at.unwrap_or(entry.recorded_at),
            description: entry.description,
            external_ref: entry.external_ref,
            subject_id: entry.subject,
        };
        (line, position)
    };
    Ok(entries.into_iter().map(line).collect())
}

/// A posting as it was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PostedLine {
    /// The account.
    pub account_id: AccountId,
    /// Its side.
    pub side: Side,
    /// What was posted; 0 for a hold and its release.
    pub amount_minor: i64,
}

/// A transaction as it was recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Transaction {
    /// Its id.
    pub transaction_id: TransactionId,
    /// What it did.
    pub kind: TransactionKind,
    /// Its postings.
    pub postings: Vec<PostedLine>,
    /// By how much it changed what is pending; below zero when a hold ended.
    pub pending_minor: i64,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// When it took effect.
    pub effective_at: Timestamp,
    /// The hold that it ends, or the transaction that it reverses.
    pub subject_id: Option<TransactionId>,
    /// The stated rate of an exchange.
    pub rate: Option<String>,
    /// What another system calls it.
    pub external_ref: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// The tenant's own names and values.
    pub metadata: BTreeMap<String, String>,
}

impl FromRow for Transaction {
    fn from_row(row: &dyn Row) -> Result<Self> {
        let (debit, credit, amount_minor): (i64, i64, i64) = (row.get(2)?, row.get(3)?, row.get(4)?);
        let line = |account: i64, side| PostedLine { account_id: AccountId::from_i64(account), side, amount_minor };
        let recorded_at: Timestamp = row.get(6)?;
        let rate: Option<i64> = row.get(8)?;
        let metadata: Option<String> = row.get(12)?;
        let read = |text: String| {
            serde_json::from_str(&text).map_err(|e| kernel::Error::internal("a transaction's metadata does not parse").caused_by(e))
        };
        Ok(Transaction {
            transaction_id: row.get(0)?,
            kind: row.get(1)?,
            postings: if debit == 0 { Vec::new() } else { vec![line(debit, Side::Debit), line(credit, Side::Credit)] },
            pending_minor: row.get(5)?,
            recorded_at,
            effective_at: row.get::<Option<Timestamp>>(9)?.unwrap_or(recorded_at),
            subject_id: row.get(7)?,
            rate: rate.and_then(|nanos| Rate::from_nanos(nanos).ok()).map(|rate| rate.to_string()),
            external_ref: row.get(10)?,
            description: row.get(11)?,
            metadata: metadata.map(read).transpose()?.unwrap_or_default(),
        })
    }
}

/// Puts the postings to those transactions that have several.
fn with_postings(read: &mut Read<'_>, mut transactions: Vec<Transaction>) -> Result<Vec<Transaction>> {
    let several: Vec<i64> = transactions.iter().filter(|t| t.postings.is_empty()).map(|t| t.transaction_id.as_i64()).collect();
    if several.is_empty() {
        return Ok(transactions);
    }
    let places: HashMap<i64, usize> = transactions.iter().enumerate().map(|(index, t)| (t.transaction_id.as_i64(), index)).collect();
    read.each(sql::POSTINGS, (several,), |row| {
        let signed: i64 = row.get(2)?;
        let side = if signed > 0 { Side::Debit } else { Side::Credit };
        if let Some(index) = places.get(&row.get::<i64>(0)?) {
            transactions[*index].postings.push(PostedLine { account_id: row.get(1)?, side, amount_minor: signed.abs() });
        }
        Ok(())
    })?;
    Ok(transactions)
}

/// A transaction. Errors: `ledger.transaction_not_found`.
pub(crate) fn transaction(read: &mut Read<'_>, transaction_id: TransactionId) -> Result<Transaction> {
    let found = read.all(sql::TRANSACTION, (transaction_id,))?;
    with_postings(read, found)?.pop().ok_or_else(error::transaction_not_found)
}

/// Up to `limit` transactions with ids below `before`, the latest first; the one with an external reference if it is given.
pub(crate) fn transactions(read: &mut Read<'_>, external_ref: Option<&str>, before: i64, limit: i64) -> Result<Vec<Transaction>> {
    let Some(external_ref) = external_ref else {
        let found = read.all(sql::TRANSACTIONS_PAGE, (before, limit))?;
        return with_postings(read, found);
    };
    match read.opt::<(TransactionId,)>(sql::TRANSACTION_BY_REF, (external_ref,))? {
        Some((id,)) if id.as_i64() < before => Ok(vec![transaction(read, id)?]),
        _ => Ok(Vec::new()),
    }
}

/// Up to `limit` transactions with ids above `after`, the oldest first.
pub(crate) fn transactions_after(read: &mut Read<'_>, after: i64, limit: i64) -> Result<Vec<Transaction>> {
    let found = read.all(sql::TRANSACTIONS_AFTER, (after, limit))?;
    with_postings(read, found)
}

/// A hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Hold {
    /// Its id: that of the transaction that placed it.
    pub hold_id: TransactionId,
    /// The account that a capture debits.
    pub debit_account_id: AccountId,
    /// The account that a capture credits.
    pub credit_account_id: AccountId,
    /// What was set aside.
    pub amount_minor: i64,
    /// What was captured of it.
    pub captured_minor: i64,
    /// What can still be captured.
    pub remaining_minor: i64,
    /// What has become of it.
    pub status: HoldStatus,
    /// From then on it no longer counts.
    pub expires_at: Timestamp,
}

impl FromRow for Hold {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(Hold {
            hold_id: row.get(0)?,
            debit_account_id: row.get(1)?,
            credit_account_id: row.get(2)?,
            amount_minor: row.get(3)?,
            captured_minor: row.get(4)?,
            remaining_minor: row.get(5)?,
            status: row.get(6)?,
            expires_at: row.get(7)?,
        })
    }
}

/// A hold as it stands now: one whose time is over is expired, whether that was written down yet or not.
/// Errors: `ledger.hold_not_found`.
pub(crate) fn hold(read: &mut Read<'_>, hold_id: TransactionId) -> Result<Hold> {
    let mut hold: Hold = read.opt(sql::HOLD, (hold_id,))?.ok_or_else(error::hold_not_found)?;
    if hold.status == HoldStatus::Open && hold.expires_at <= read.now() {
        (hold.status, hold.remaining_minor) = (HoldStatus::Expired, 0);
    }
    Ok(hold)
}

/// A velocity limit; one without bounds if none was set.
pub(crate) fn limit(read: &mut Read<'_>, kind: LimitSubject, subject: &str, currency: Currency) -> Result<Limit> {
    Ok(read.opt(sql::LIMIT, (kind, subject, currency))?.unwrap_or_default())
}

/// One line of the trial balance: all accounts of a type in a currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TrialBalanceLine {
    /// The currency.
    pub currency: Currency,
    /// The type.
    #[serde(rename = "type")]
    pub account_type: AccountType,
    /// How many accounts.
    pub accounts: i64,
    /// Everything that was debited.
    pub debits_minor: i64,
    /// Everything that was credited.
    pub credits_minor: i64,
}

/// The trial balance: a line for each currency and type; in each currency debits and credits are equal. What is left of sums beyond 64
/// bits stands in another line after it, of no accounts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TrialBalance {
    /// Whether debits and credits are equal in each currency. They always are.
    pub balanced: bool,
    /// By currency and type.
    pub lines: Vec<TrialBalanceLine>,
}

/// The trial balance.
pub(crate) fn trial_balance(read: &mut Read<'_>) -> Result<TrialBalance> {
    let whole = |high: i64, low: i64| (i128::from(high) << 31) + i128::from(low);
    let part = |sum: &mut i128| {
        let part = (*sum).min(i128::from(i64::MAX)) as i64;
        *sum -= i128::from(part);
        part
    };
    type Row = (Currency, AccountType, i64, i64, i64, i64, i64);
    let mut lines = Vec::new();
    let mut sums: BTreeMap<Currency, i128> = BTreeMap::new();
    for (currency, account_type, mut accounts, debits_high, debits_low, credits_high, credits_low) in
        read.all::<Row>(sql::TRIAL_BALANCE, ())?
    {
        let (mut debits, mut credits) = (whole(debits_high, debits_low), whole(credits_high, credits_low));
        *sums.entry(currency).or_default() += debits - credits;
        loop {
            let (debits_minor, credits_minor) = (part(&mut debits), part(&mut credits));
            lines.push(TrialBalanceLine { currency, account_type, accounts, debits_minor, credits_minor });
            accounts = 0;
            if (debits, credits) == (0, 0) {
                break;
            }
        }
    }
    Ok(TrialBalance { balanced: sums.values().all(|sum| *sum == 0), lines })
}
