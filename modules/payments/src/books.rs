//! What payments do in the ledger. An authorisation is a hold, a capture moves it, a refund takes a capture back, a fee is an expense.
//!
//! For each provider and currency there are `payments:receivable:...` (an asset: what the provider owes us), `payments:clearing:...` (a
//! liability: what customers have paid, until it is somebody's) and `payments:fees:...` (an expense).

use crate::model::{Intent, ProviderId, refund_exceeds};
use crate::records::OUTSIDE;
use crate::{known, sql};
use kernel::{Currency, Error, ErrorKind, Result, Timestamp};
use ledger::api::{NewAccount, ensure_account, post, post_all};
use ledger::{AccountId, AccountType, Operation, Request, TransactionId};
use store::Tx;

/// How long after the provider's authorisation has run out the ledger's hold still stands, in milliseconds: a capture that was answered
/// late finds it.
const HOLD_GRACE_MS: i64 = 2 * 86_400_000;

/// The accounts of a provider in a currency.
#[derive(Clone, Copy)]
pub(crate) struct Accounts {
    pub receivable: AccountId,
    pub clearing: AccountId,
    pub fees: AccountId,
}

pub(crate) fn accounts(tx: &mut Tx<'_>, provider_id: ProviderId, currency: Currency) -> Result<Accounts> {
    known::accounts(tx, provider_id, currency, |tx| stored_accounts(tx, provider_id, currency))
}

fn stored_accounts(tx: &mut Tx<'_>, provider_id: ProviderId, currency: Currency) -> Result<Accounts> {
    let known: Option<(AccountId, AccountId, AccountId)> = tx.opt(sql::ACCOUNTS, (provider_id, currency))?;
    if let Some((receivable, clearing, fees)) = known {
        return Ok(Accounts { receivable, clearing, fees });
    }
    // What moved outside is booked as if a provider of that name had moved it.
    let whose = if provider_id == OUTSIDE { "outside".to_owned() } else { provider_id.to_string() };
    let mut open = |part: &str, account_type: AccountType, name: &str| -> Result<AccountId> {
        let new = NewAccount {
            code: format!("payments:{part}:{whose}:{currency}"),
            name: format!("{name} {currency}"),
            account_type,
            currency,
            owner: None,
            // Refunds may come after what was taken has been passed on.
            may_go_negative: true,
            negative_limit_minor: None,
            managed: part == "clearing",
        };
        Ok(ensure_account(tx, &new)?.account_id)
    };
    let receivable = open("receivable", AccountType::Asset, "Due from payment provider")?;
    let clearing = open("clearing", AccountType::Liability, "Customers' payments")?;
    let fees = open("fees", AccountType::Expense, "Payment fees")?;
    tx.exec(sql::INSERT_ACCOUNTS, (provider_id, currency, receivable, clearing, fees))?;
    Ok(Accounts { receivable, clearing, fees })
}

fn provider_of(intent: &Intent) -> Result<ProviderId> {
    intent.provider_id.ok_or_else(|| Error::internal("a payment moves money without a provider"))
}

/// Sets the intent's amount aside, before its provider is asked.
pub(crate) fn hold(tx: &mut Tx<'_>, intent: &mut Intent, until: Timestamp) -> Result<()> {
    let accounts = accounts(tx, provider_of(intent)?, intent.currency)?;
    let request = Request::hold(accounts.receivable, accounts.clearing, intent.amount_minor, until.plus_ms(HOLD_GRACE_MS));
    let receipt = post(tx, &request.key(&format!("{}:hold", intent.reference())))?;
    intent.hold_id = Some(receipt.transaction_id.as_i64());
    Ok(())
}

/// Lets go of what is still held. Quietly nothing when nothing is.
pub(crate) fn release(tx: &mut Tx<'_>, intent: &mut Intent) -> Result<()> {
    let Some(hold) = intent.hold_id.take() else { return Ok(()) };
    match post(tx, &Request::void(TransactionId::from_i64(hold))) {
        Ok(_) => Ok(()),
        // Its own time was over, or the last capture has used it up.
        Err(error) if is_over(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

fn is_over(error: &Error) -> bool {
    matches!(error.code(), "ledger.hold_expired" | "ledger.hold_voided" | "ledger.hold_captured")
}

/// Books what the provider took, and what it kept of it. With `last` the rest of the hold is let go.
pub(crate) fn capture(tx: &mut Tx<'_>, intent: &mut Intent, operation: &str, amount_minor: i64, fee_minor: i64, last: bool) -> Result<()> {
    let accounts = accounts(tx, provider_of(intent)?, intent.currency)?;
    let key = format!("{operation}:capture");
    let held = intent.hold_id.map(|hold| {
        let request = Operation::Capture { hold_id: TransactionId::from_i64(hold), amount_minor: Some(amount_minor), release_rest: last };
        Request::new(request).key(&key)
    });
    let fee = Request::transfer(accounts.fees, accounts.receivable, fee_minor).key(&format!("{operation}:fee"));
    let (is_held, has_fee) = (held.is_some(), fee_minor > 0);
    let requests: Vec<Request> = held.into_iter().chain(has_fee.then_some(fee)).collect();
    let mut booked = post_all(tx, &requests)?.into_iter();
    let held = if is_held { booked.next() } else { None };
    booked.collect::<Result<Vec<_>>>()?;
    let receipt = match held {
        Some(Ok(receipt)) => receipt,
        // The money has moved, whatever became of the hold: it is booked without one.
        Some(Err(error)) if !is_over(&error) => return Err(error),
        _ => post(tx, &Request::transfer(accounts.receivable, accounts.clearing, amount_minor).key(&format!("{key}:unheld")))?,
    };
    if last {
        intent.hold_id = None;
    }
    tx.exec(sql::INSERT_SOURCE, (intent.intent_id, receipt.transaction_id, amount_minor))
}

/// Takes captures back for a refund that is about to be asked for, the oldest first. The ledger refuses more than was captured.
/// Errors: `payments.refund_exceeds`.
pub(crate) fn refund(tx: &mut Tx<'_>, intent: &Intent, operation: &str, amount_minor: i64) -> Result<()> {
    let sources: Vec<(i64, i64)> = tx.all(sql::SOURCES, (intent.intent_id,))?;
    let mut left = amount_minor;
    for (source, open) in sources {
        let part = left.min(open);
        if part == 0 {
            break;
        }
        let request = Request::reverse(TransactionId::from_i64(source), Some(part)).key(&format!("{operation}:refund:{source}"));
        post(tx, &request).map_err(|error| match error.kind() {
            ErrorKind::FailedPrecondition => refund_exceeds(open).caused_by(error),
            _ => error,
        })?;
        tx.exec(sql::REVERSE_SOURCE, (intent.intent_id, source, part))?;
        left -= part;
    }
    if left > 0 {
        return Err(refund_exceeds(amount_minor - left));
    }
    Ok(())
}

/// Puts back what a refund took that the provider will not do.
pub(crate) fn refund_failed(tx: &mut Tx<'_>, intent: &Intent, operation: &str, amount_minor: i64) -> Result<()> {
    let accounts = accounts(tx, provider_of(intent)?, intent.currency)?;
    let request = Request::transfer(accounts.receivable, accounts.clearing, amount_minor).key(&format!("{operation}:refund:failed"));
    let receipt = post(tx, &request)?;
    tx.exec(sql::INSERT_SOURCE, (intent.intent_id, receipt.transaction_id, amount_minor))
}
