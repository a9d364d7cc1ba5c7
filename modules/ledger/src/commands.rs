//! Commands: load what a batch touches, decide it, write what changed, tell of it.
//!
//! Events are lean. A request that comes alone (by itself, or through the `api` of this module) has an event of its own; a bulk has one
//! for all of it, with the first and the last of its transactions: whoever wants each reads them from the journal.

use crate::engine::{self, NewTransaction, View, check_text};
use crate::model::*;
use crate::{books, error, load, queries, sql, write};
use kernel::{Currency, Error, Result};
use serde::Serialize;
use store::{Member, NewEvent, Tx};

/// Payload of `ledger.transaction_posted`, `ledger.hold_placed` and `ledger.hold_released`, version 1.
#[derive(Serialize)]
struct TransactionEvent {
    transaction_id: TransactionId,
    kind: TransactionKind,
    /// Null with several postings.
    #[serde(skip_serializing_if = "Option::is_none")]
    debit_account_id: Option<AccountId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credit_account_id: Option<AccountId>,
    amount_minor: i64,
    /// By how much the pending sums changed.
    #[serde(skip_serializing_if = "is_zero")]
    pending_minor: i64,
    /// The hold that it ends, or the transaction that it reverses.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject_id: Option<TransactionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_ref: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
fn is_zero(minor: &i64) -> bool {
    *minor == 0
}

pub(crate) fn event_of(row: &NewTransaction) -> NewEvent {
    let some = |id: i64| (id != 0).then_some(id);
    let payload = TransactionEvent {
        transaction_id: row.transaction_id,
        kind: row.kind,
        debit_account_id: some(row.debit).map(AccountId::from_i64),
        credit_account_id: some(row.credit).map(AccountId::from_i64),
        amount_minor: row.amount_minor,
        pending_minor: row.pending_minor,
        subject_id: some(row.subject).map(TransactionId::from_i64),
        external_ref: row.details.as_deref().and_then(|d| d.external_ref.clone()),
    };
    let kind = match row.kind {
        TransactionKind::Hold => "ledger.hold_placed",
        TransactionKind::Void | TransactionKind::Expiry => "ledger.hold_released",
        _ => "ledger.transaction_posted",
    };
    NewEvent::new(kind, 1, row.transaction_id, &payload)
}

/// Payload of `ledger.batch_posted`, version 1.
#[derive(Serialize)]
struct BatchEvent {
    first_transaction_id: TransactionId,
    last_transaction_id: TransactionId,
    transactions: usize,
}

fn emit_batch(tx: &mut Tx<'_>, rows: &[NewTransaction]) {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return };
    let (first_transaction_id, last_transaction_id) = (first.transaction_id, last.transaction_id);
    let payload = BatchEvent { first_transaction_id, last_transaction_id, transactions: rows.len() };
    tx.emit(NewEvent::new("ledger.batch_posted", 1, first_transaction_id, &payload));
}

/// Single requests that are queued together: decided in their order over one view, and written at once.
pub(crate) fn post_set(tx: &mut Tx<'_>, members: &[Member<'_, Request>]) -> Result<Vec<Result<Receipt>>> {
    let (mut view, books) = load::view(tx, members.iter().map(|member| &**member))?;
    let mut outcomes = Vec::with_capacity(members.len());
    for member in members {
        let mut decided = engine::decide_all(&mut view, std::slice::from_ref(&**member), &mut || tx.new_id());
        outcomes.push(decided.pop().unwrap_or_else(|| Err(Error::internal("a request was not decided"))));
    }
    write::view(tx, &view, books)?;
    let mut rows = view.transactions.iter();
    for (member, outcome) in members.iter().zip(&outcomes) {
        if matches!(outcome, Ok(receipt) if !receipt.replayed)
            && let Some(row) = rows.next()
        {
            tx.emit_for(member, event_of(row));
        }
    }
    Ok(outcomes)
}

/// A bulk: one outcome for each request. Errors: `ledger.batch_too_large`.
pub(crate) fn post_bulk(tx: &mut Tx<'_>, requests: &[Request]) -> Result<Vec<Result<Receipt>>> {
    if requests.is_empty() || requests.len() > MAX_BATCH {
        return Err(error::batch_too_large(MAX_BATCH));
    }
    let (view, outcomes) = decided(tx, requests)?;
    if let [row] = &view.transactions[..] {
        tx.emit(event_of(row));
    } else {
        emit_batch(tx, &view.transactions);
    }
    Ok(outcomes)
}

/// Requests of another module's command: an event for each that was done. Errors: `ledger.batch_too_large`.
pub(crate) fn post_some(tx: &mut Tx<'_>, requests: &[Request]) -> Result<Vec<Result<Receipt>>> {
    if requests.len() > MAX_BATCH {
        return Err(error::batch_too_large(MAX_BATCH));
    }
    let (view, outcomes) = decided(tx, requests)?;
    view.transactions.iter().for_each(|row| tx.emit(event_of(row)));
    Ok(outcomes)
}

/// Loads what the requests touch, decides them and writes what changed.
fn decided(tx: &mut Tx<'_>, requests: &[Request]) -> Result<(View, Vec<Result<Receipt>>)> {
    let (mut view, books) = load::view(tx, requests.iter())?;
    let outcomes = engine::decide_all(&mut view, requests, &mut || tx.new_id());
    write::view(tx, &view, books)?;
    Ok((view, outcomes))
}

/// Releases up to `limit` holds whose time is over, the oldest first. How many it were: as many as `limit` says that there may be more.
pub(crate) fn expire_holds(tx: &mut Tx<'_>, limit: u32) -> Result<u32> {
    let (mut view, books, due) = load::due_holds(tx, i64::from(limit))?;
    for hold_id in &due {
        let id = tx.new_id();
        engine::expire(&mut view, *hold_id, id);
    }
    // When all that were due are released, the next expiry of their accounts is one that is still to come.
    if due.len() < limit as usize {
        let now = view.now;
        for place in 0..view.accounts.len() {
            let next = load::next_expiry(tx, view.accounts[place].id, now)?;
            view.accounts[place].moving.next_expiry = next;
        }
    }
    write::view(tx, &view, books)?;
    view.transactions.iter().for_each(|row| tx.emit(event_of(row)));
    Ok(due.len() as u32)
}

/// An account to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAccount {
    /// Unique for the tenant; see [`Account::code`].
    pub code: String,
    /// For people; at most 200 bytes.
    pub name: String,
    /// Its type.
    pub account_type: AccountType,
    /// Of all its postings.
    pub currency: Currency,
    /// Whose it is.
    pub owner: Option<String>,
    /// Whether its balance may go below zero.
    pub may_go_negative: bool,
    /// How far; none for as far as it likes.
    pub negative_limit_minor: Option<i64>,
    /// Whether a module looks after it: then nobody posts to it, changes it or limits it over HTTP.
    pub managed: bool,
}

impl NewAccount {
    /// An account that may not go below zero and has no owner.
    pub fn new(code: impl Into<String>, account_type: AccountType, currency: Currency) -> NewAccount {
        let code = code.into();
        NewAccount {
            name: code.clone(),
            code,
            account_type,
            currency,
            owner: None,
            may_go_negative: false,
            negative_limit_minor: None,
            managed: false,
        }
    }

    /// One that the module which opens it looks after: nobody posts to it, changes it or limits it over HTTP.
    #[must_use]
    pub fn managed(mut self) -> NewAccount {
        self.managed = true;
        self
    }

    /// One that may go as far below zero as it likes.
    #[must_use]
    pub fn unbounded(mut self) -> NewAccount {
        self.may_go_negative = true;
        self
    }

    /// Whether `account` is what would be opened. What a module looks after is just as that module has opened it, so that nobody has
    /// prepared it; of another account type and currency count.
    pub(crate) fn is(&self, account: &Account) -> bool {
        let same = account.account_type == self.account_type && account.currency == self.currency;
        let floor = (account.may_go_negative, account.negative_limit_minor) == (self.may_go_negative, self.floor());
        same && (!self.managed || (account.managed && account.owner == self.owner && floor))
    }

    fn floor(&self) -> Option<i64> {
        if self.may_go_negative { self.negative_limit_minor } else { Some(0) }
    }

    /// Of this owner.
    #[must_use]
    pub fn owner(mut self, owner: impl Into<String>) -> NewAccount {
        self.owner = Some(owner.into());
        self
    }
}

/// A code is parts joined by `:`, none of them empty.
fn check_code(code: &str) -> Result<()> {
    let part = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if code.len() > MAX_CODE || !code.split(':').all(part) {
        let detail = format!("at most {MAX_CODE} characters: parts of letters, digits, '.', '_' and '-', joined by ':'");
        return Err(Error::field("code", "invalid", detail));
    }
    Ok(())
}

fn check_limit(limit_minor: Option<i64>) -> Result<()> {
    const FIELD: &str = "negative_limit_minor";
    match limit_minor {
        Some(limit) if !(0..=MAX_AMOUNT_MINOR).contains(&limit) => {
            Err(Error::field(FIELD, "out_of_range", format!("between 0 and {MAX_AMOUNT_MINOR}")))
        }
        _ => Ok(()),
    }
}

/// An owner's name, as accounts and limits have it: it stands in paths.
pub(crate) fn check_owner(owner: &str) -> Result<()> {
    let fine = (1..=MAX_CODE).contains(&owner.len()) && owner.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-:@".contains(&b));
    let detail = || format!("1 to {MAX_CODE} letters, digits, '.', '_', '-', ':' and '@'");
    if fine { Ok(()) } else { Err(Error::field("owner", "invalid", detail())) }
}

/// Opens an account. Errors: `request.invalid`, `ledger.invalid_text`, `ledger.code_taken`.
pub(crate) fn open_account(tx: &mut Tx<'_>, new: &NewAccount) -> Result<Account> {
    check_code(&new.code)?;
    check_text("name", &new.name, 1, 200)?;
    check_limit(new.negative_limit_minor)?;
    new.owner.as_deref().map_or(Ok(()), check_owner)?;
    if tx.opt::<Account>(sql::ACCOUNT_BY_CODE, (&new.code,))?.is_some() {
        return Err(error::code_taken());
    }
    let limited = match &new.owner {
        Some(owner) => tx.opt::<Limit>(sql::LIMIT, (LimitSubject::Owner, owner, new.currency))?.is_some(),
        None => false,
    };
    let account = Account {
        account_id: tx.new_id(),
        code: new.code.clone(),
        name: new.name.clone(),
        account_type: new.account_type,
        currency: new.currency,
        owner: new.owner.clone(),
        may_go_negative: new.may_go_negative,
        negative_limit_minor: new.floor(),
        status: AccountStatus::Open,
        version: 1,
        created_at: tx.now(),
        managed: new.managed,
    };
    let a = &account;
    let row = (a.account_id, &a.code, &a.name, a.account_type, a.currency, &a.owner, a.may_go_negative, a.negative_limit_minor);
    let args = (row.0, row.1, row.2, row.3, row.4, row.5, row.6, row.7, limited, a.created_at, a.managed);
    tx.must(sql::INSERT_ACCOUNT, args, error::code_taken)?;
    tx.exec(sql::INSERT_BALANCE, (account.account_id,))?;
    emit_account(tx, "ledger.account_opened", &account);
    Ok(account)
}

/// Payload of `ledger.account_opened` and `ledger.account_changed`, version 1.
#[derive(Serialize)]
struct AccountEvent<'a> {
    account_id: AccountId,
    code: &'a str,
    #[serde(rename = "type")]
    account_type: AccountType,
    currency: Currency,
    owner: &'a Option<String>,
    status: AccountStatus,
    version: i64,
}

fn emit_account(tx: &mut Tx<'_>, kind: &'static str, account: &Account) {
    let Account { account_id, code, account_type, currency, owner, status, version, .. } = account;
    let payload = AccountEvent {
        account_id: *account_id,
        code,
        account_type: *account_type,
        currency: *currency,
        owner,
        status: *status,
        version: *version,
    };
    tx.emit(NewEvent::new(kind, 1, account_id, &payload));
}

/// A change of an account. What is none stays.
#[derive(Clone, Debug, Default)]
pub(crate) struct AccountChange {
    pub name: Option<String>,
    pub status: Option<AccountStatus>,
    /// Whether, and how far.
    pub may_go_negative: Option<(bool, Option<i64>)>,
    /// Whether somebody outside asks: then an account that a module looks after is refused.
    pub direct: bool,
}

/// Changes an account. Errors: `ledger.account_not_found`, `request.precondition_failed`, `ledger.account_managed`,
/// `ledger.stays_closed`, `ledger.account_not_empty`, `ledger.limit_below_balance`.
pub(crate) fn change_account(tx: &mut Tx<'_>, account_id: AccountId, seen: web::IfMatch, change: &AccountChange) -> Result<Account> {
    books::settle(tx)?;
    let mut account = queries::account(tx, account_id)?;
    seen.check(account.version)?;
    if change.direct && account.managed {
        return Err(error::account_managed());
    }
    if account.status == AccountStatus::Closed {
        return Err(error::stays_closed());
    }
    if let Some(name) = &change.name {
        check_text("name", name, 1, 200)?;
        account.name.clone_from(name);
    }
    let balance = queries::balance(tx, &account)?;
    if let Some((may_go_negative, limit_minor)) = change.may_go_negative {
        check_limit(limit_minor)?;
        let floor = if may_go_negative { limit_minor } else { Some(0) };
        if floor.is_some_and(|floor| balance.available_minor < -floor) {
            return Err(error::limit_below_balance());
        }
        (account.may_go_negative, account.negative_limit_minor) = (may_go_negative, floor);
    }
    if let Some(status) = change.status {
        // An expired hold that was not released yet is still to be written down, so it keeps the account open.
        if status == AccountStatus::Closed && (balance.posted_minor != 0 || queries::anything_pending(tx, account_id)?) {
            return Err(error::account_not_empty());
        }
        account.status = status;
    }
    account.version += 1;
    let a = &account;
    tx.exec(sql::UPDATE_ACCOUNT, (a.account_id, &a.name, a.may_go_negative, a.negative_limit_minor, a.status, a.version))?;
    emit_account(tx, "ledger.account_changed", &account);
    Ok(account)
}

fn check_velocity(limit: &Limit) -> Result<()> {
    let fields = [
        ("per_transaction_minor", limit.per_transaction_minor),
        ("per_day_minor", limit.per_day_minor),
        ("per_month_minor", limit.per_month_minor),
    ];
    match fields.iter().find(|(_, minor)| minor.is_some_and(|minor| minor < 0)) {
        Some((field, _)) => Err(Error::field(*field, "out_of_range", "zero or more")),
        None => Ok(()),
    }
}

/// Payload of `ledger.limit_changed`, version 1.
#[derive(Serialize)]
struct LimitEvent<'a> {
    subject_kind: LimitSubject,
    subject: &'a str,
    currency: Currency,
    #[serde(flatten)]
    limit: Limit,
}

/// Sets an account's velocity limit; of one that a module looks after only for a module. What has left before in the day and the month
/// counts only if a limit was there already. Errors: `ledger.account_not_found`, `ledger.account_managed`, `request.invalid`.
pub(crate) fn limit_account(tx: &mut Tx<'_>, account_id: AccountId, limit: Limit, direct: bool) -> Result<Limit> {
    check_velocity(&limit)?;
    books::settle(tx)?;
    let account = queries::account(tx, account_id)?;
    if direct && account.managed {
        return Err(error::account_managed());
    }
    let subject = account_id.as_i64().to_string();
    put_limit(tx, LimitSubject::Account, &subject, account.currency, limit)?;
    tx.exec(sql::MARK_LIMITED, (account_id,))?;
    let payload = LimitEvent { subject_kind: LimitSubject::Account, subject: &account_id.to_string(), currency: account.currency, limit };
    tx.emit(NewEvent::new("ledger.limit_changed", 1, account_id, &payload));
    Ok(limit)
}

/// Sets the velocity limit of all accounts of an owner in a currency; when a module looks after one of them, only for a module.
/// Errors: `request.invalid`, `ledger.invalid_text`, `ledger.account_managed`.
pub(crate) fn limit_owner(tx: &mut Tx<'_>, owner: &str, currency: Currency, limit: Limit, direct: bool) -> Result<Limit> {
    check_velocity(&limit)?;
    check_owner(owner)?;
    books::settle(tx)?;
    if direct && tx.opt::<(AccountId,)>(sql::MANAGED_OF_OWNER, (owner, currency))?.is_some() {
        return Err(error::account_managed());
    }
    put_limit(tx, LimitSubject::Owner, owner, currency, limit)?;
    tx.exec(sql::MARK_OWNER_LIMITED, (owner, currency))?;
    let payload = LimitEvent { subject_kind: LimitSubject::Owner, subject: owner, currency, limit };
    tx.emit(NewEvent::new("ledger.limit_changed", 1, owner, &payload));
    Ok(limit)
}

fn put_limit(tx: &mut Tx<'_>, kind: LimitSubject, subject: &str, currency: Currency, limit: Limit) -> Result<()> {
    tx.exec(sql::PUT_LIMIT, (kind, subject, currency, limit.per_transaction_minor, limit.per_day_minor, limit.per_month_minor))
}
