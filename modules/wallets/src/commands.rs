//! Commands about wallets themselves, policies, challenges and reviews: load, decide, write, emit.

use crate::model::*;
use crate::moves::{self, Ask, Reach};
use crate::policy::Policy;
use crate::service::Wallets;
use crate::{activity, error, outside, queries, service, sql, workflows};
use kernel::{Currency, Error, Result, Timestamp};
use ledger::api::{NewAccount, ensure_account, post, post_linked, set_account_status};
use ledger::{AccountStatus, AccountType, Request, TransactionId};
use serde::{Deserialize, Serialize};
use store::{NewEvent, Tx};
use web::IfMatch;

/// Payload of `wallet.opened` and `wallet.changed`, version 1.
#[derive(Serialize)]
struct WalletEvent<'a> {
    wallet_id: WalletId,
    kind: WalletKind,
    status: WalletStatus,
    level: i64,
    user_id: Option<UserId>,
    owner: &'a Option<String>,
    version: i64,
    reason: &'a str,
}

fn emit_wallet(tx: &mut Tx<'_>, kind: &'static str, wallet: &Wallet, reason: &str) {
    let Wallet { wallet_id, status, level, user_id, owner, version, .. } = wallet;
    let payload = WalletEvent {
        wallet_id: *wallet_id,
        kind: wallet.kind,
        status: *status,
        level: *level,
        user_id: *user_id,
        owner,
        version: *version,
        reason,
    };
    tx.emit(NewEvent::new(kind, 1, wallet_id, &payload));
}

/// A wallet to be opened.
#[derive(Clone)]
pub(crate) struct Open {
    pub wallets: Wallets,
    pub kind: WalletKind,
    pub user_id: Option<UserId>,
    pub owner: Option<String>,
    pub name: String,
    /// The policy's first one if none is given.
    pub level: Option<i64>,
    pub fee_bps: Option<i64>,
    pub currencies: Vec<Currency>,
}

/// Opens a wallet with an account of the ledger for each currency.
pub(crate) fn open(tx: &mut Tx<'_>, new: &Open) -> Result<Wallet> {
    let policy = service::policy(tx, Some(&new.wallets))?;
    let first = policy.policy.levels.first().map_or(0, |level| level.level);
    let now = tx.now();
    let wallet = Wallet {
        wallet_id: tx.new_id(),
        kind: new.kind,
        status: WalletStatus::Open,
        level: new.level.unwrap_or(first),
        user_id: new.user_id,
        owner: new.owner.clone(),
        name: new.name.clone(),
        fee_bps: new.fee_bps,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    let w = &wallet;
    tx.exec(sql::INSERT_WALLET, (w.wallet_id, w.kind, w.level, w.user_id, &w.owner, &w.name, w.fee_bps, now))?;
    for currency in &new.currencies {
        open_account(tx, w, *currency)?;
    }
    emit_wallet(tx, "wallet.opened", w, "");
    Ok(wallet)
}

/// The wallet's account in a currency, and the tenant's own beside it.
fn open_account(tx: &mut Tx<'_>, wallet: &Wallet, currency: Currency) -> Result<()> {
    if !moves::books(tx)?.contains_key(&currency) {
        let mut own = |part: &str, account_type: AccountType| -> Result<ledger::AccountId> {
            let account = NewAccount::new(format!("wallets:{part}:{currency}"), account_type, currency).unbounded().managed();
            Ok(ensure_account(tx, &account)?.account_id)
        };
        let (bank, fees, owed) = (own("bank", AccountType::Asset)?, own("fees", AccountType::Income)?, own("owed", AccountType::Asset)?);
        tx.exec(sql::INSERT_BOOKS, (currency, bank, fees, owed))?;
    }
    let code = format!("wallets:{}:{currency}", wallet.wallet_id);
    let account = NewAccount { name: wallet.name.clone(), ..NewAccount::new(code, AccountType::Liability, currency) };
    let account = ensure_account(tx, &account.owner(wallet.wallet_id.to_string()).managed())?;
    tx.exec(sql::INSERT_ACCOUNT, (wallet.wallet_id, currency, account.account_id, activity::Activity::default().to_bytes()))
}

/// Adds a currency to a wallet; quietly the same when it is there. Errors: `wallets.wallet_not_found`, `wallets.closed`,
/// `wallets.too_many_currencies`.
pub(crate) fn add_currency(tx: &mut Tx<'_>, (wallet_id, currency): &(WalletId, Currency)) -> Result<Wallet> {
    let wallet = queries::wallet(tx, *wallet_id, Reach::All)?;
    if wallet.status == WalletStatus::Closed {
        return Err(error::closed());
    }
    let there = queries::accounts(tx, *wallet_id)?;
    if there.iter().any(|account| account.currency == *currency) {
        return Ok(wallet);
    }
    if there.len() >= MAX_CURRENCIES {
        return Err(error::too_many_currencies());
    }
    open_account(tx, &wallet, *currency)?;
    if wallet.status == WalletStatus::Frozen {
        follow(tx, *wallet_id, AccountStatus::Frozen)?;
    }
    Ok(wallet)
}

/// A change of a wallet. What is none stays.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub wallet_id: WalletId,
    pub if_match: IfMatch,
    pub name: Option<String>,
    pub status: Option<WalletStatus>,
    pub level: Option<i64>,
    pub fee_bps: Option<Option<i64>>,
    pub reason: String,
}

/// Errors: `wallets.wallet_not_found`, `request.precondition_failed`, `wallets.closed`, `wallets.not_empty`.
pub(crate) fn change(tx: &mut Tx<'_>, change: &Change) -> Result<Wallet> {
    let mut wallet = queries::wallet(tx, change.wallet_id, Reach::All)?;
    change.if_match.check(wallet.version)?;
    if wallet.status == WalletStatus::Closed {
        return Err(error::closed());
    }
    let read = wallet.version;
    if let Some(status) = change.status.filter(|status| *status != wallet.status) {
        follow(
            tx,
            wallet.wallet_id,
            match status {
                WalletStatus::Open => AccountStatus::Open,
                WalletStatus::Frozen => AccountStatus::Frozen,
                WalletStatus::Closed => AccountStatus::Closed,
            },
        )?;
        if status == WalletStatus::Frozen {
            workflows::cancel_payouts(tx, wallet.wallet_id)?;
        }
        wallet.status = status;
    }
    wallet.name = change.name.clone().unwrap_or(wallet.name);
    wallet.level = change.level.unwrap_or(wallet.level);
    wallet.fee_bps = change.fee_bps.unwrap_or(wallet.fee_bps);
    wallet.version += 1;
    wallet.updated_at = tx.now();
    let w = &wallet;
    let args = (w.wallet_id, read, w.status, w.level, &w.name, w.fee_bps, w.updated_at);
    tx.must(sql::UPDATE_WALLET, args, || Error::internal("a wallet was changed by two commands at once"))?;
    emit_wallet(tx, "wallet.changed", w, &change.reason);
    Ok(wallet)
}

/// Gives all of the wallet's accounts this status: what the wallet may not do, the ledger does not do either.
fn follow(tx: &mut Tx<'_>, wallet_id: WalletId, status: AccountStatus) -> Result<()> {
    for account in queries::accounts(tx, wallet_id)? {
        set_account_status(tx, account.account_id, status).map_err(error::of_ledger)?;
    }
    Ok(())
}

/// A policy that a tenant has, with its version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = WalletPolicyVersion)]
pub struct PolicyVersion {
    /// From 1; 0 for the one that is built in.
    pub version: i64,
    /// When it began to count; null for the one that is built in.
    pub created_at: Option<Timestamp>,
    /// What counts.
    pub policy: Policy,
}

/// A policy to come into force, by whom.
#[derive(Clone, Debug)]
pub(crate) struct PutPolicy {
    pub if_match: IfMatch,
    pub policy: Policy,
    pub by: i64,
}

/// Puts a policy into force as the next version; the ones before stay. Errors: `request.precondition_failed`.
pub(crate) fn put_policy(tx: &mut Tx<'_>, put: &PutPolicy) -> Result<PolicyVersion> {
    let current = tx.opt::<(i64, Timestamp)>(sql::POLICY_VERSION, ())?.map_or(0, |(version, _)| version);
    put.if_match.check(current)?;
    let body = serde_json::to_string(&put.policy).map_err(|e| Error::internal("a policy does not serialise").caused_by(e))?;
    let (version, now) = (current + 1, tx.now());
    tx.must(sql::INSERT_POLICY, (version, body, now, put.by), || Error::internal("two policies at once"))?;
    tx.emit(NewEvent::new("wallet.policy_changed", 1, "policy", &serde_json::json!({ "version": version })));
    Ok(PolicyVersion { version, created_at: Some(now), policy: put.policy.clone() })
}

/// A code that somebody gives for a challenged transfer.
#[derive(Clone)]
pub(crate) struct Confirm {
    pub wallets: Wallets,
    pub reach: Reach,
    pub transfer_id: TransferId,
    pub code: String,
    pub by: i64,
}

/// What became of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Confirmed {
    /// It was the code: the transfer as it stands now.
    Right(Box<Transfer>),
    /// It was not; so many attempts are left.
    Wrong(i64),
}

/// Confirms a challenged transfer, which is decided anew: limits, funds and the score may have changed. A wrong code uses up an attempt,
/// and the last one ends the transfer. Errors: `wallets.transfer_not_found`, `wallets.not_challenged`, `wallets.challenge_expired`,
/// `wallets.too_many_codes`, and those of the guards.
pub(crate) fn confirm(tx: &mut Tx<'_>, confirm: &Confirm) -> Result<Confirmed> {
    let mut transfer = queries::transfer(tx, confirm.transfer_id, confirm.reach)?;
    let now = tx.now();
    let pending = queries::pending(tx, confirm.transfer_id)?.filter(|pending| pending.waits_for == WaitsFor::Challenge);
    let pending = match (pending, transfer.status) {
        // The same whether or not what ends it has come by.
        (Some(pending), TransferStatus::Challenged | TransferStatus::Expired) if pending.expires_at <= now => {
            return Err(error::challenge_expired());
        }
        (Some(pending), TransferStatus::Challenged) if pending.is_open => pending,
        _ => return Err(error::not_challenged()),
    };
    let payer = transfer.from_wallet_id.unwrap_or(OUTSIDE);
    let codes = tx.one::<Codes>(sql::CODES, (payer,))?.on(now.day());
    if codes.wrong >= Codes::MAX_WRONG {
        return Err(error::too_many_codes());
    }
    let tenant = tx.tenant()?;
    if !confirm.wallets.is_one_time_code(tenant, confirm.transfer_id, &confirm.code) {
        let left = pending.attempts_left - 1;
        tx.exec(sql::USE_ATTEMPT, (confirm.transfer_id,))?;
        tx.exec(sql::SET_CODES, (payer, codes.day, codes.asked, codes.wrong + 1))?;
        if left <= 0 {
            end(tx, &mut transfer, TransferStatus::Rejected, Some(confirm.by), "too many wrong codes")?;
        }
        return Ok(Confirmed::Wrong(left.max(0)));
    }
    let payout = queries::payout(tx, confirm.transfer_id)?;
    let ask = Ask {
        wallets: Some(confirm.wallets.clone()),
        reach: Reach::All,
        kind: transfer.kind,
        from: transfer.from_wallet_id.unwrap_or(OUTSIDE),
        to: transfer.to_wallet_id.unwrap_or(OUTSIDE),
        amount_minor: transfer.amount_minor,
        currency: transfer.currency,
        note: transfer.note.clone(),
        device: pending.device as u32,
        country: country("country", Some(&pending.country).filter(|country| !country.is_empty()).map(String::as_str))?,
        target: payout.as_ref().map_or(0, |payout| outside::target_of(&payout.iban)),
        confirmed: Some(Box::new(transfer)),
    };
    let transfer = moves::transfer(tx, &ask)?;
    if transfer.status != TransferStatus::InReview {
        tx.exec(sql::CLOSE_PENDING, (transfer.transfer_id, now, Some(confirm.by), "confirmed"))?;
    }
    if payout.is_some() {
        outside::held(tx, &transfer)?;
    }
    Ok(Confirmed::Right(Box::new(transfer)))
}

/// Ends a waiting transfer of which nothing stays moved: its hold is let go, and what it had counted against limits is given back.
pub(crate) fn end(tx: &mut Tx<'_>, transfer: &mut Transfer, status: TransferStatus, by: Option<i64>, reason: &str) -> Result<()> {
    let now = tx.now();
    if let Some(hold_id) = transfer.transaction_id {
        release(tx, hold_id)?;
    }
    give_back(tx, transfer)?;
    transfer.status = status;
    transfer.ended_at = Some(now);
    transfer.counted_at = None;
    moves::update_transfer(tx, transfer)?;
    tx.exec(sql::CLOSE_PENDING, (transfer.transfer_id, now, by, reason))?;
    let event = moves::event_of(transfer);
    tx.emit(event);
    Ok(())
}

/// Lets go of a hold. Quietly nothing when its own time was over.
fn release(tx: &mut Tx<'_>, hold_id: TransactionId) -> Result<()> {
    match post(tx, &Request::void(hold_id)) {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.code(), "ledger.hold_expired" | "ledger.hold_voided") => Ok(()),
        Err(error) => Err(error),
    }
}

fn give_back(tx: &mut Tx<'_>, transfer: &Transfer) -> Result<()> {
    let (Some(from), Some(counted_at)) = (transfer.from_wallet_id, transfer.counted_at) else { return Ok(()) };
    let accounts = queries::accounts(tx, from)?;
    let Some(account) = accounts.iter().find(|account| account.currency == transfer.currency) else { return Ok(()) };
    let used = account.used.less(counted_at.day(), transfer.amount_minor);
    tx.exec(sql::SET_USED, (from, transfer.currency, used.day, used.day_minor, used.month_minor))
}

/// A person's word on a transfer in review.
#[derive(Clone, Debug)]
pub(crate) struct Decide {
    pub transfer_id: TransferId,
    pub approve: bool,
    pub reason: String,
    pub by: i64,
}

/// Nothing is approved after its time; rejected it may be as long as it waits. Errors: `wallets.transfer_not_found`,
/// `wallets.not_in_review`, `wallets.frozen`, and those of the ledger.
pub(crate) fn decide_review(tx: &mut Tx<'_>, decide: &Decide) -> Result<Transfer> {
    let mut transfer = queries::transfer(tx, decide.transfer_id, Reach::All)?;
    let pending = queries::pending(tx, decide.transfer_id)?.filter(|pending| pending.is_open && pending.waits_for == WaitsFor::Review);
    let now = tx.now();
    let hold_id = pending.filter(|pending| !decide.approve || pending.expires_at > now).and_then(|pending| pending.hold_id);
    let hold_id = hold_id.filter(|_| transfer.status == TransferStatus::InReview).ok_or_else(error::not_in_review)?;
    if !decide.approve {
        end(tx, &mut transfer, TransferStatus::Rejected, Some(decide.by), &decide.reason)?;
        return Ok(transfer);
    }
    let payer = queries::wallet(tx, transfer.from_wallet_id.unwrap_or(OUTSIDE), Reach::All)?;
    if payer.status != WalletStatus::Open {
        return Err(error::frozen());
    }
    if transfer.kind == TransferKind::Withdrawal {
        transfer.status = TransferStatus::Pending;
    } else {
        capture(tx, &mut transfer, hold_id)?;
    }
    moves::update_transfer(tx, &transfer)?;
    tx.exec(sql::CLOSE_PENDING, (transfer.transfer_id, now, Some(decide.by), &decide.reason))?;
    let event = moves::event_of(&transfer);
    tx.emit(event);
    if transfer.kind == TransferKind::Withdrawal {
        outside::held(tx, &transfer)?;
    }
    Ok(transfer)
}

/// Moves what is held, and takes the merchant's fee of it: both or none.
pub(crate) fn capture(tx: &mut Tx<'_>, transfer: &mut Transfer, hold_id: TransactionId) -> Result<()> {
    let mut requests = vec![Request::capture(hold_id, None).details(moves::described(transfer.transfer_id))];
    if let (Some(to), true) = (transfer.to_wallet_id, transfer.fee_minor > 0) {
        let accounts = queries::accounts(tx, to)?;
        let merchant = accounts.iter().find(|account| account.currency == transfer.currency);
        let merchant = merchant.ok_or_else(|| error::no_currency(transfer.currency))?.account_id;
        let books = moves::books(tx)?;
        let fees = books.get(&transfer.currency).ok_or_else(|| error::no_currency(transfer.currency))?.fees;
        // A frozen merchant gets what is its own of it, as it does of a payment without a review.
        let fee = Request::transfer(merchant, fees, transfer.fee_minor).from_frozen();
        requests.push(fee.details(moves::described(transfer.transfer_id)));
    }
    let receipts = post_linked(tx, requests).map_err(error::of_ledger)?;
    transfer.transaction_id = receipts.first().map(|receipt| receipt.transaction_id);
    transfer.status = TransferStatus::Completed;
    transfer.ended_at = Some(tx.now());
    Ok(())
}
