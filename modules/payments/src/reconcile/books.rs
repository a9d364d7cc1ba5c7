//! What reconciliation does in the ledger: payouts, and what corrects a difference.
//!
//! Besides a provider's own accounts there are `payments:bank:...` (an asset: what was paid out to us), `payments:differences:...` (an
//! expense: what turned out to be more or less) and `payments:suspense:...` (a liability: what came and is nobody's yet).

use super::matching::BreakKind;
use super::queries::{Break, RunId};
use super::sql;
use crate::books::accounts;
use crate::model::ProviderId;
use kernel::{Currency, Result};
use ledger::api::{NewAccount, ensure_account, post};
use ledger::{AccountId, AccountType, Request, TransactionId};
use store::Tx;

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
        BreakKind::Amount | BreakKind::Net | BreakKind::PartlySettled | BreakKind::MissingThere => Some(Against::Differences),
        BreakKind::MissingHere | BreakKind::Duplicate => Some(Against::Suspense),
        // What they are about is not an amount: a person finds out what is right.
        BreakKind::Currency | BreakKind::Date | BreakKind::Status | BreakKind::Direction | BreakKind::Reference | BreakKind::Unreadable => {
            None
        }
    }
}

/// Posts what corrects a difference; none when there is nothing to post.
pub(crate) fn correct(tx: &mut Tx<'_>, found: &Break) -> Result<Option<TransactionId>> {
    let Some(side) = against(found.kind) else { return Ok(None) };
    let (provider, currency, minor) = (found.provider_id, found.currency, found.difference_minor);
    if minor == 0 {
        return Ok(None);
    }
    let own = accounts(tx, provider, currency)?;
    let opposite = match side {
        Against::Fees => own.fees,
        Against::Differences => other(tx, "differences", "Differences of settlement", AccountType::Expense, provider, currency)?,
        Against::Suspense => other(tx, "suspense", "Settled and not known", AccountType::Liability, provider, currency)?,
    };
    let (debit, credit) = if minor > 0 { (own.receivable, opposite) } else { (opposite, own.receivable) };
    let receipt = post(tx, &Request::transfer(debit, credit, minor.abs()).key(&format!("{}:correct", found.break_id)))?;
    let fees = if side == Against::Fees { -minor } else { 0 };
    tx.exec(sql::ADJUST, (provider, currency, minor, fees))?;
    Ok(Some(receipt.transaction_id))
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
