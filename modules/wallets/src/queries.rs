//! Reads. Each is bounded.

use crate::model::*;
use crate::moves::Reach;
use crate::{error, sql};
use kernel::{Currency, Result, Timestamp};
use ledger::api::{StatementLine, StatementPosition};
use ledger::{AccountId, Balance, TransactionId, TransactionKind};
use serde::{Deserialize, Serialize};
use store::{FromRow, Read, Row};
use utoipa::ToSchema;

/// A wallet that the caller may use. Errors: `wallets.wallet_not_found`.
pub(crate) fn wallet(read: &mut Read<'_>, wallet_id: WalletId, reach: Reach) -> Result<Wallet> {
    let found: Option<Wallet> = read.opt(sql::WALLET, (wallet_id,))?;
    found.filter(|wallet| reach.covers(wallet.user_id)).ok_or_else(error::wallet_not_found)
}

/// Which wallets to list.
#[derive(Clone, Debug)]
pub(crate) enum Which {
    All,
    OfOwner(String),
    OfUser(UserId),
}

pub(crate) fn wallets(read: &mut Read<'_>, which: &Which, before: i64, limit: i64) -> Result<Vec<Wallet>> {
    match which {
        Which::All => read.all(sql::WALLETS_PAGE, (before, limit)),
        Which::OfOwner(owner) => read.all(sql::WALLETS_OF_OWNER, (before, limit, owner)),
        Which::OfUser(user) => read.all(sql::WALLETS_OF_USER, (before, limit, *user)),
    }
}

/// A wallet's account in a currency, and what has left it.
pub(crate) struct Account {
    pub currency: Currency,
    pub account_id: AccountId,
    pub used: Used,
}

impl FromRow for Account {
    fn from_row(row: &dyn Row) -> Result<Self> {
        let used = Used { day: row.get(2)?, day_minor: row.get(3)?, month_minor: row.get(4)? };
        Ok(Account { currency: row.get(0)?, account_id: row.get(1)?, used })
    }
}

/// A wallet's accounts: at most [`MAX_CURRENCIES`].
pub(crate) fn accounts(read: &mut Read<'_>, wallet_id: WalletId) -> Result<Vec<Account>> {
    read.all(sql::ACCOUNTS, (wallet_id,))
}

/// A wallet's account in a currency. Errors: `wallets.no_currency`.
pub(crate) fn account(read: &mut Read<'_>, wallet_id: WalletId, currency: Currency) -> Result<Account> {
    accounts(read, wallet_id)?.into_iter().find(|account| account.currency == currency).ok_or_else(|| error::no_currency(currency))
}

/// A wallet with what is in it. Errors: `wallets.wallet_not_found`.
pub(crate) fn detail(read: &mut Read<'_>, wallet_id: WalletId, reach: Reach) -> Result<WalletDetail> {
    let wallet = wallet(read, wallet_id, reach)?;
    let today = read.now().day();
    let mut pockets = Vec::new();
    for Account { currency, account_id, used } in accounts(read, wallet_id)? {
        let balance = ledger::api::balance(read, account_id)?;
        let used = used.on(today);
        pockets.push(Pocket { currency, account_id, balance, used_today_minor: used.day_minor, used_this_month_minor: used.month_minor });
    }
    Ok(WalletDetail { wallet, pockets })
}

/// A line of a wallet's statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WalletLine {
    /// The ledger's transaction.
    pub transaction_id: TransactionId,
    /// What it did.
    pub kind: TransactionKind,
    /// The transfer that it belongs to, if it is one of this module's.
    pub transfer_id: Option<TransferId>,
    /// What came (above zero) or left (below); 0 for a hold and its release.
    pub amount_minor: i64,
    /// By how much it changed what is held of the wallet, or is on its way to it.
    pub pending_minor: i64,
    /// The balance after it.
    pub balance: Balance,
    /// When it was recorded.
    pub recorded_at: Timestamp,
}

/// Up to `limit` lines of a wallet's statement in a currency, the latest first, each with the position behind it.
/// Errors: `wallets.wallet_not_found`, `wallets.no_currency`.
pub(crate) fn statement(
    read: &mut Read<'_>,
    (wallet_id, reach): (WalletId, Reach),
    currency: Currency,
    after: Option<StatementPosition>,
    limit: u32,
) -> Result<Vec<(WalletLine, StatementPosition)>> {
    wallet(read, wallet_id, reach)?;
    let account = account(read, wallet_id, currency)?;
    let line = |line: StatementLine| WalletLine {
        transaction_id: line.transaction_id,
        kind: line.kind,
        transfer_id: line.description.as_deref().and_then(|text| text.parse().ok()),
        amount_minor: if line.side == ledger::Side::Credit { line.amount_minor } else { -line.amount_minor },
        pending_minor: line.pending_minor,
        balance: line.balance,
        recorded_at: line.recorded_at,
    };
    let lines = ledger::api::statement(read, account.account_id, after, limit)?;
    Ok(lines.into_iter().map(|(found, position)| (line(found), position)).collect())
}

/// A transfer that the caller may see: of a wallet that it may use, on either side. What its score says of the payer is not for the payee.
/// Errors: `wallets.transfer_not_found`.
pub(crate) fn visible_transfer(read: &mut Read<'_>, transfer_id: TransferId, reach: Reach) -> Result<Transfer> {
    let mut found: Transfer = read.opt(sql::TRANSFER, (transfer_id,))?.ok_or_else(error::transfer_not_found)?;
    let mut may_use = |side: Option<WalletId>| side.is_some_and(|side| wallet(read, side, reach).is_ok());
    if may_use(found.from_wallet_id) {
        return Ok(found);
    }
    if may_use(found.to_wallet_id) {
        (found.score, found.reasons) = (0, Vec::new());
        return Ok(found);
    }
    Err(error::transfer_not_found())
}

/// A transfer whose payer the caller may act for. Errors: `wallets.transfer_not_found`.
pub(crate) fn transfer(read: &mut Read<'_>, transfer_id: TransferId, reach: Reach) -> Result<Transfer> {
    let found: Transfer = read.opt(sql::TRANSFER, (transfer_id,))?.ok_or_else(error::transfer_not_found)?;
    if reach != Reach::All {
        let payer = found.from_wallet_id.ok_or_else(error::transfer_not_found)?;
        wallet(read, payer, reach).map_err(|_| error::transfer_not_found())?;
    }
    Ok(found)
}

pub(crate) fn transfers(read: &mut Read<'_>, before: i64, limit: i64) -> Result<Vec<Transfer>> {
    read.all(sql::TRANSFERS_PAGE, (before, limit))
}

/// What a transfer waits for, or waited for.
pub(crate) struct Pending {
    pub waits_for: WaitsFor,
    pub is_open: bool,
    pub hold_id: Option<TransactionId>,
    pub attempts_left: i64,
    pub device: i64,
    pub country: String,
    pub expires_at: Timestamp,
}

impl FromRow for Pending {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(Pending {
            waits_for: row.get(1)?,
            is_open: row.get(2)?,
            hold_id: row.get(3)?,
            attempts_left: row.get(4)?,
            device: row.get(5)?,
            country: row.get(6)?,
            expires_at: row.get(8)?,
        })
    }
}

pub(crate) fn pending(read: &mut Read<'_>, transfer_id: TransferId) -> Result<Option<Pending>> {
    read.opt(sql::PENDING, (transfer_id,))
}

/// A transfer in the queue of reviews.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = WalletReview)]
pub struct Review {
    /// The transfer.
    pub transfer: Transfer,
    /// Since when it waits.
    pub opened_at: Timestamp,
    /// When it is let go of, unless somebody decides.
    pub expires_at: Timestamp,
}

impl FromRow for Review {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(Review { transfer: Transfer::from_row(row)?, opened_at: row.get(16)?, expires_at: row.get(17)? })
    }
}

pub(crate) fn reviews(read: &mut Read<'_>, after: i64, limit: i64) -> Result<Vec<Review>> {
    read.all(sql::REVIEWS_PAGE, (after, limit))
}

/// Where a withdrawal goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = WalletPayout)]
pub struct Payout {
    /// The account that gets it.
    pub iban: String,
    /// Whose that is.
    pub holder: String,
    /// What the bank calls it, once it is done.
    pub bank_ref: String,
    /// Why the bank refused it.
    pub failure: String,
}

impl FromRow for Payout {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(Payout { iban: row.get(0)?, holder: row.get(1)?, bank_ref: row.get(2)?, failure: row.get(3)? })
    }
}

pub(crate) fn payout(read: &mut Read<'_>, transfer_id: TransferId) -> Result<Option<Payout>> {
    read.opt(sql::PAYOUT, (transfer_id,))
}
