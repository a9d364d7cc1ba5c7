//! What reconciliation does in the ledger: payouts, and what corrects a difference.
//!
//! Besides a provider's own accounts there are `payments:bank:...` (an asset: what was paid out to us), `payments:differences:...` (an
//! expense: what turned out to be more or less) and `payments:suspense:...` (a liability: what came and is nobody's yet).

use super::matching::BreakKind;
use super::queries::{Break, RunId};
use super::sql;
use crate::books::accounts;
use crate::model::ProviderId;
use crate::{merchants, queries};
use kernel::{Currency, Error, Result};
use ledger::api::{NewAccount, ensure_account, post};
use ledger::{AccountId, AccountType, Request, TransactionId};
use store::Tx;

/// The name of the account that differences go to.
const DIFFERENCES: &str = "Differences of settlement";

fn other(
    tx: &mut Tx<'_>,
    part: &str,
    name: &str,
    account_type: AccountType,
    provider: ProviderId,
    currency: Currency,
) -> Result<AccountId> {
    let new = NewAccount {
        code: format!("payments:{part}:{provider}:{currency}"),
        name: format!("{name} {currency}"),
        account_type,
        currency,
        owner: None,
        may_go_negative: true,
        negative_limit_minor: None,
        managed: false,
    };
    Ok(ensure_account(tx, &new)?.account_id)
}

/// Where the other side of a correction goes; none for a kind that moves no money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Against {
    Fees,
    Differences,
    Suspense,
}

/// What a correcting posting moves against what the provider owes us.
pub(crate) fn against(kind: BreakKind) -> Option<Against> {
    match kind {
        BreakKind::Fee => Some(Against::Fees),
        BreakKind::Amount | BreakKind::Net | BreakKind::PartlySettled | BreakKind::MissingThere | BreakKind::Reference => {
            Some(Against::Differences)
        }
        BreakKind::MissingHere | BreakKind::Duplicate => Some(Against::Suspense),
        // What they are about is not an amount: a person finds out what is right.
        BreakKind::Currency | BreakKind::Date | BreakKind::Status | BreakKind::Direction | BreakKind::Unreadable => None,
    }
}

/// Posts what corrects a difference; none when there is nothing to post.
pub(crate) fn correct(tx: &mut Tx<'_>, found: &Break) -> Result<Option<TransactionId>> {
    let Some(side) = against(found.kind).filter(|_| found.difference_minor != 0) else { return Ok(None) };
    let posted = adjust(tx, found, side, found.difference_minor, &format!("{}:correct", found.break_id))?;
    if let (Against::Fees, Some(intent_id), Some(ours), Some(theirs)) = (side, found.intent_id, found.ours_minor, found.theirs_minor) {
        // A fee that only the file tells is the merchant's, too, if it bears it.
        let intent = queries::intent(tx, intent_id)?;
        merchants::note_fee(tx, &intent, found.provider_id, theirs - ours)?;
    }
    Ok(Some(posted))
}

/// Takes a correction back: what it wrote off has come. Errors: `internal` for a break that no posting corrects.
pub(crate) fn take_back(tx: &mut Tx<'_>, found: &Break) -> Result<TransactionId> {
    let side = against(found.kind).ok_or_else(|| Error::internal("a break that was not posted is taken back"))?;
    adjust(tx, found, side, -found.difference_minor, &format!("{}:arrived", found.break_id))
}

/// Moves an amount between what the provider owes us, which is more by it, and the other side.
fn adjust(tx: &mut Tx<'_>, found: &Break, side: Against, minor: i64, key: &str) -> Result<TransactionId> {
    let (provider, currency) = (found.provider_id, found.currency);
    let own = accounts(tx, provider, currency)?;
    let opposite = match side {
        Against::Fees => own.fees,
        Against::Differences => other(tx, "differences", DIFFERENCES, AccountType::Expense, provider, currency)?,
        Against::Suspense => other(tx, "suspense", "Settled and not known", AccountType::Liability, provider, currency)?,
    };
    let (debit, credit) = if minor > 0 { (own.receivable, opposite) } else { (opposite, own.receivable) };
    let receipt = post(tx, &Request::transfer(debit, credit, minor.abs()).key(key))?;
    let fees = if side == Against::Fees { -minor } else { 0 };
    tx.exec(sql::ADJUST, (provider, currency, minor, fees))?;
    Ok(receipt.transaction_id)
}

/// Posts what matched within the tolerances brings more than was booked, so that nothing of it stays with what the provider owes.
pub(crate) fn tolerated(tx: &mut Tx<'_>, run_id: RunId, provider: ProviderId, currency: Currency, minor: i64) -> Result<()> {
    if minor == 0 {
        return Ok(());
    }
    let own = accounts(tx, provider, currency)?;
    let differences = other(tx, "differences", DIFFERENCES, AccountType::Expense, provider, currency)?;
    let (debit, credit) = if minor > 0 { (own.receivable, differences) } else { (differences, own.receivable) };
    post(tx, &Request::transfer(debit, credit, minor.abs()).key(&format!("{run_id}:tolerated:{currency}")))?;
    tx.exec(sql::ADJUST, (provider, currency, minor, 0_i64))
}

/// Posts what a file pays out in a currency. Below zero the provider takes it from us.
pub(crate) fn pay_out(tx: &mut Tx<'_>, run_id: RunId, provider: ProviderId, currency: Currency, net_minor: i64) -> Result<()> {
    if net_minor == 0 {
        return Ok(());
    }
    let own = accounts(tx, provider, currency)?;
    let bank = other(tx, "bank", "Paid out by payment provider", AccountType::Asset, provider, currency)?;
    let (debit, credit) = if net_minor > 0 { (bank, own.receivable) } else { (own.receivable, bank) };
    post(tx, &Request::transfer(debit, credit, net_minor.abs()).key(&format!("{run_id}:payout:{currency}")))?;
    tx.exec(sql::ADJUST, (provider, currency, -net_minor, 0_i64))
}
