//! The ledger inside other modules' commands: everything here runs in the caller's transaction, so that money moves with what it is
//! paid for or not at all.
//!
//! ```ignore
//! let hold = ledger::api::post(tx, &Request::hold(customer, clearing, 1_000, expires_at).key("pay_1:authorise"))?;
//! let capture = ledger::api::post(tx, &Request::capture(hold.transaction_id, Some(400)).key("pay_1:capture:1"))?;
//! ```

use crate::model::*;
use crate::{chain, commands, queries, sql};
use kernel::{Currency, Error, Result, TenantId, Timestamp};
use store::{Call, Read, Store, Tx};
use web::IfMatch;

pub use crate::batch::Batch;
pub use crate::chain::{JournalHead, MAX_SEALED, Report, Seal, SealKey, Verifier, seal};
pub use crate::commands::NewAccount;
pub use crate::hledger::Journal;
pub use crate::queries::{Hold, PostedLine, StatementLine, StatementPosition, Transaction, TrialBalance, TrialBalanceLine};

/// Does one request, or refuses it with the outcome of a guard; nothing was written then. A repeat of its key gets the first's answer.
pub fn post(tx: &mut Tx<'_>, request: &Request) -> Result<Receipt> {
    let outcome = commands::post_some(tx, std::slice::from_ref(request))?.pop();
    outcome.unwrap_or_else(|| Err(Error::internal("a request was not decided")))
}

/// Does each request that passes its guards, in their order; those that are linked stand or fall together.
/// Errors: `ledger.batch_too_large` above [`MAX_BATCH`].
pub fn post_all(tx: &mut Tx<'_>, requests: &[Request]) -> Result<Vec<Result<Receipt>>> {
    commands::post_some(tx, requests)
}

/// The same with one event for all of them, as for a bulk. Errors: `ledger.batch_too_large` for none and above [`MAX_BATCH`].
pub fn post_bulk(tx: &mut Tx<'_>, requests: &[Request]) -> Result<Vec<Result<Receipt>>> {
    commands::post_bulk(tx, requests)
}

/// Does all of them or none: links them with each other. Errors: the outcome of the guard that refused, as for that request alone.
pub fn post_linked(tx: &mut Tx<'_>, mut requests: Vec<Request>) -> Result<Vec<Receipt>> {
    let last = requests.len().saturating_sub(1);
    requests.iter_mut().enumerate().for_each(|(index, request)| request.linked = index != last);
    let outcomes = commands::post_some(tx, &requests)?;
    let culprit = outcomes.iter().find_map(|outcome| outcome.as_ref().err().filter(|e| e.code() != "ledger.linked_failed"));
    if let Some(refused) = culprit {
        return Err(refused.clone());
    }
    outcomes.into_iter().collect()
}

/// Does one request in a transaction of its own. Those that come at once are decided and committed together.
pub async fn submit(store: &Store, call: impl Into<Call>, request: Request) -> Result<Receipt> {
    Ok(store.write_set(call, None, commands::post_set, request).await?.value)
}

/// Does up to [`MAX_BATCH`] requests in one transaction of their own: an outcome for each. Errors: `ledger.batch_too_large`.
pub async fn submit_bulk(store: &Store, call: impl Into<Call>, requests: Vec<Request>) -> Result<Vec<Result<Receipt>>> {
    let bytes = requests.len() * std::mem::size_of::<Request>();
    let command = |tx: &mut Tx<'_>, requests: &Vec<Request>| commands::post_bulk(tx, requests);
    store.write(call.into().bytes(1024 + bytes), command, requests).await
}

/// Releases up to `limit` holds whose time is over; how many it were. Run it again as long as that is `limit`.
pub fn expire_holds(tx: &mut Tx<'_>, limit: u32) -> Result<u32> {
    commands::expire_holds(tx, limit)
}

/// Up to `limit` tenants that have holds whose time is over, on the platform's scope of a shard.
pub fn tenants_with_due_holds(read: &mut Read<'_>, limit: u32) -> Result<Vec<TenantId>> {
    let now = read.now();
    Ok(read.all::<(TenantId,)>(sql::TENANTS_WITH_DUE_HOLDS, (now, limit))?.into_iter().map(|(tenant,)| tenant).collect())
}

/// Opens an account. Errors: `request.invalid`, `ledger.code_taken`.
pub fn open_account(tx: &mut Tx<'_>, new: &NewAccount) -> Result<Account> {
    commands::open_account(tx, new)
}

/// The account with this code, opened if it is not there. Errors: `request.invalid`; `ledger.code_taken` when the code belongs to an
/// account of another type or currency, and for one that a module is to look after also when nobody does, or when its owner or how far
/// it may go below zero are others.
pub fn ensure_account(tx: &mut Tx<'_>, new: &NewAccount) -> Result<Account> {
    match account_by_code(tx, &new.code)? {
        Some(account) if new.is(&account) => Ok(account),
        Some(_) => Err(crate::error::code_taken()),
        None => commands::open_account(tx, new),
    }
}

/// Freezes, opens again or closes an account. Errors: `ledger.account_not_found`, `ledger.stays_closed`, `ledger.account_not_empty`.
pub fn set_account_status(tx: &mut Tx<'_>, account_id: AccountId, status: AccountStatus) -> Result<Account> {
    let change = commands::AccountChange { status: Some(status), ..commands::AccountChange::default() };
    commands::change_account(tx, account_id, IfMatch(None), &change)
}

/// Sets an account's velocity limit. Errors: `ledger.account_not_found`, `request.invalid`.
pub fn limit_account(tx: &mut Tx<'_>, account_id: AccountId, limit: Limit) -> Result<Limit> {
    commands::limit_account(tx, account_id, limit, false)
}

/// Sets the velocity limit of all accounts of an owner in a currency. Errors: `request.invalid`.
pub fn limit_owner(tx: &mut Tx<'_>, owner: &str, currency: Currency, limit: Limit) -> Result<Limit> {
    commands::limit_owner(tx, owner, currency, limit, false)
}

/// An account. Errors: `ledger.account_not_found`.
pub fn account(read: &mut Read<'_>, account_id: AccountId) -> Result<Account> {
    queries::account(read, account_id)
}

/// The account with this code, if there is one.
pub fn account_by_code(read: &mut Read<'_>, code: &str) -> Result<Option<Account>> {
    read.opt(sql::ACCOUNT_BY_CODE, (code,))
}

/// Up to `limit` accounts after `after`, the oldest first.
pub fn accounts(read: &mut Read<'_>, after: Option<AccountId>, limit: u32) -> Result<Vec<Account>> {
    queries::accounts(read, None, after.map_or(0, |id| id.as_i64()), i64::from(limit))
}

/// An account's balance now, expired holds left out. Errors: `ledger.account_not_found`.
pub fn balance(read: &mut Read<'_>, account_id: AccountId) -> Result<Balance> {
    let account = queries::account(read, account_id)?;
    queries::balance(read, &account)
}

/// An account's balance as it was recorded at a moment. Errors: `ledger.account_not_found`.
pub fn balance_at(read: &mut Read<'_>, account_id: AccountId, at: Timestamp) -> Result<Balance> {
    let account = queries::account(read, account_id)?;
    queries::balance_at(read, &account, at)
}

/// Up to `limit` lines of an account's statement, the latest first, each with the position behind it; after `after`, if it is given.
/// Errors: `ledger.account_not_found`.
pub fn statement(
    read: &mut Read<'_>,
    account_id: AccountId,
    after: Option<StatementPosition>,
    limit: u32,
) -> Result<Vec<(StatementLine, StatementPosition)>> {
    let account = queries::account(read, account_id)?;
    queries::statement(read, &account, after, i64::from(limit))
}

/// An account's balance at a moment by the effective dates of what is recorded today. Errors: `ledger.account_not_found`.
pub fn balance_effective_at(read: &mut Read<'_>, account_id: AccountId, at: Timestamp) -> Result<Balance> {
    let account = queries::account(read, account_id)?;
    queries::balance_effective_at(read, &account, at)
}

/// A hold as it stands now. Errors: `ledger.hold_not_found`.
pub fn hold(read: &mut Read<'_>, hold_id: TransactionId) -> Result<Hold> {
    queries::hold(read, hold_id)
}

/// A transaction. Errors: `ledger.transaction_not_found`.
pub fn transaction(read: &mut Read<'_>, transaction_id: TransactionId) -> Result<Transaction> {
    queries::transaction(read, transaction_id)
}

/// Up to `limit` transactions after `after`, the oldest first: the journal, page by page.
pub fn transactions_after(read: &mut Read<'_>, after: Option<TransactionId>, limit: u32) -> Result<Vec<Transaction>> {
    queries::transactions_after(read, after.map_or(0, |id| id.as_i64()), i64::from(limit))
}

/// The latest transaction, if there is one.
pub fn last_transaction(read: &mut Read<'_>) -> Result<Option<TransactionId>> {
    Ok(queries::transactions(read, None, i64::MAX, 1)?.pop().map(|transaction| transaction.transaction_id))
}

/// Up to `limit` seals after the one with number `after`, the oldest first.
pub fn seals_after(read: &mut Read<'_>, after: i64, limit: u32) -> Result<Vec<Seal>> {
    chain::seals_after(read, after, i64::from(limit))
}

/// Up to `limit` tenants after `after` whose journals have grown since their last seal, on the platform's scope of a shard.
pub fn tenants_to_seal(read: &mut Read<'_>, after: Option<TenantId>, limit: u32) -> Result<Vec<TenantId>> {
    let after = after.map_or(0, |tenant| tenant.as_i64());
    Ok(read.all::<(TenantId,)>(sql::TENANTS_TO_SEAL, (after, limit))?.into_iter().map(|(tenant,)| tenant).collect())
}

/// The trial balance.
pub fn trial_balance(read: &mut Read<'_>) -> Result<TrialBalance> {
    queries::trial_balance(read)
}
