//! Why the ledger refuses: one function for each guard, each with its stable code and its entry in docs/problems.md. The order in which
//! guards are asked is told in `engine.rs`.

use crate::model::{Limit, MAX_AMOUNT_MINOR, MAX_POSTINGS, TransactionKind};
use kernel::{Currency, Error, Money};

/// The key was used before for something else.
pub(crate) fn key_reused() -> Error {
    Error::conflict("idempotency.key_reused", "this idempotency key was used before for another request; use a fresh key for each request")
}

/// A member of a linked chain was refused, so this one is too.
pub(crate) fn linked_failed() -> Error {
    Error::failed_precondition("ledger.linked_failed", "it is linked with a transaction that was refused; nothing of the chain was done")
}

/// The last of a batch is linked with the one after it.
pub(crate) fn linked_open() -> Error {
    Error::invalid("ledger.linked_open", "the last transaction of a batch is linked with a next one that is not there").with_field(
        "linked",
        "open",
        "false on the last of a chain",
    )
}

/// Fewer than two postings.
pub(crate) fn too_few_postings(at: &str) -> Error {
    let error = Error::invalid("ledger.too_few_postings", "a transaction has at least two postings");
    error.with_field(format!("{at}postings"), "too_few", "at least 2")
}

/// More postings than a transaction may have.
pub(crate) fn too_many_postings(at: &str) -> Error {
    let error = Error::invalid("ledger.too_many_postings", format!("a transaction has at most {MAX_POSTINGS} postings"));
    error.with_field(format!("{at}postings"), "too_many", format!("at most {MAX_POSTINGS}"))
}

/// An amount below zero.
pub(crate) fn amount_negative(field: &str) -> Error {
    let error = Error::invalid("ledger.amount_negative", "an amount is above zero; its side says where it goes");
    error.with_field(field, "negative", "above zero")
}

/// An amount of nothing.
pub(crate) fn amount_zero(field: &str) -> Error {
    Error::invalid("ledger.amount_zero", "an amount is above zero").with_field(field, "zero", "above zero")
}

/// An amount with a fraction of the minor unit.
pub(crate) fn amount_fractional(field: &str) -> Error {
    let error = Error::invalid("ledger.amount_fractional", "an amount is a whole number of minor units");
    error.with_field(field, "fractional", "a whole number of minor units")
}

/// An amount above the bound.
pub(crate) fn amount_too_large(field: &str) -> Error {
    let error = Error::invalid("ledger.amount_too_large", format!("an amount is at most {MAX_AMOUNT_MINOR} minor units"));
    error.with_field(field, "too_large", format!("at most {MAX_AMOUNT_MINOR}"))
}

/// A currency that is not one.
pub(crate) fn unknown_currency(field: &str) -> Error {
    let error = Error::invalid("money.unknown_currency", "not an active ISO 4217 currency code such as EUR");
    error.with_field(field, "unknown", "an active ISO 4217 code")
}

/// Metadata beyond its bounds.
pub(crate) fn metadata_too_large(field: &str, detail: String) -> Error {
    let error = Error::invalid("ledger.metadata_too_large", "the metadata is larger than a transaction may have");
    error.with_field(field, "too_large", detail)
}

/// A text beyond its bounds.
pub(crate) fn invalid_text(field: &str, detail: String) -> Error {
    Error::invalid("ledger.invalid_text", "a text of the transaction is empty, too long or holds control characters")
        .with_field(field, "invalid", detail)
}

/// An effective date too far away.
pub(crate) fn effective_out_of_range(at: &str) -> Error {
    let error = Error::invalid("ledger.effective_out_of_range", "the effective date is too far away");
    error.with_field(format!("{at}details.effective_at"), "out_of_range", "at most 100 years before or after now")
}

/// An expiry in the past or too far away.
pub(crate) fn invalid_expiry(at: &str) -> Error {
    let error = Error::invalid("ledger.invalid_expiry", "a hold expires after now and within ten years");
    error.with_field(format!("{at}expires_at"), "out_of_range", "after now and within ten years")
}

/// The rate is not one.
pub(crate) fn invalid_rate(at: &str) -> Error {
    let error = Error::invalid("ledger.invalid_rate", "a rate is a decimal number above zero with at most nine decimals");
    error.with_field(format!("{at}rate"), "invalid", "above zero, at most nine decimals, at most 1000000000")
}

/// No such hold.
pub(crate) fn hold_not_found() -> Error {
    Error::not_found("ledger.hold_not_found", "there is no such hold")
}

/// No such transaction.
pub(crate) fn transaction_not_found() -> Error {
    Error::not_found("ledger.transaction_not_found", "there is no such transaction")
}

/// The hold was voided.
pub(crate) fn hold_voided() -> Error {
    Error::failed_precondition("ledger.hold_voided", "the hold was voided")
}

/// The hold has expired.
pub(crate) fn hold_expired() -> Error {
    Error::failed_precondition("ledger.hold_expired", "the hold has expired")
}

/// Nothing of the hold is left.
pub(crate) fn hold_captured() -> Error {
    Error::failed_precondition("ledger.hold_captured", "nothing of the hold is left: it was captured")
}

/// More is captured than is held.
pub(crate) fn capture_exceeds_hold(remaining_minor: i64) -> Error {
    Error::failed_precondition("ledger.capture_exceeds_hold", format!("of the hold {remaining_minor} minor units are left"))
}

/// Transactions of this kind are not reversed.
pub(crate) fn not_reversible(kind: TransactionKind) -> Error {
    Error::failed_precondition("ledger.not_reversible", format!("a transaction of kind {} is not reversed", kind.as_str()))
}

/// It was reversed in full.
pub(crate) fn already_reversed() -> Error {
    Error::failed_precondition("ledger.already_reversed", "the transaction was reversed in full")
}

/// More is reversed than is left of it.
pub(crate) fn reversal_exceeds(remaining_minor: i64) -> Error {
    Error::failed_precondition(
        "ledger.reversal_exceeds",
        format!("of the transaction {remaining_minor} minor units are left to be reversed"),
    )
}

/// A transaction of several postings is reversed as a whole.
pub(crate) fn reversal_whole() -> Error {
    let error = Error::invalid("ledger.reversal_whole", "a transaction of several postings is reversed as a whole");
    error.with_field("amount_minor", "not_allowed", "leave it out")
}

/// No such account.
pub(crate) fn account_not_found() -> Error {
    Error::not_found("ledger.account_not_found", "there is no such account")
}

/// A transaction names an account that does not exist: the path of the field says which.
pub(crate) fn unknown_account(field: &str) -> Error {
    let error = Error::invalid("ledger.unknown_account", "there is no such account");
    error.with_field(field, "unknown", "there is no such account")
}

/// One account, several postings.
pub(crate) fn account_repeated(field: &str) -> Error {
    let error = Error::invalid("ledger.account_repeated", "each posting of a transaction is of another account");
    error.with_field(field, "repeated", "an account appears once")
}

/// The stated currency is not the account's.
pub(crate) fn currency_mismatch(field: &str, stated: Currency, account: Currency) -> Error {
    let error = Error::invalid("ledger.currency_mismatch", format!("{stated} is posted to an account in {account}"));
    error.with_field(field, "mismatch", format!("the account is in {account}"))
}

/// The postings of a currency don't sum to zero.
pub(crate) fn unbalanced(currency: Currency) -> Error {
    let error = Error::invalid("ledger.unbalanced", format!("debits and credits in {currency} are not equal"));
    error.with_field("postings", "unbalanced", "debits and credits of each currency are equal")
}

/// An exchange within one currency.
pub(crate) fn same_currency() -> Error {
    let error = Error::invalid("ledger.same_currency", "an exchange is between accounts of two currencies");
    error.with_field("to_account_id", "same_currency", "an account in another currency")
}

/// There is no conversion account for a currency.
pub(crate) fn no_conversion_account(currency: Currency) -> Error {
    Error::failed_precondition(
        "ledger.no_conversion_account",
        format!("an exchange needs an equity account in {currency} with the code conversion:{currency}"),
    )
}

/// What is bought is not what is sold at the rate.
pub(crate) fn rate_mismatch(expected: Money) -> Error {
    let error = Error::invalid("ledger.rate_mismatch", "the bought amount is not the sold one at the stated rate");
    error.with_field("buy_minor", "mismatch", format!("at this rate {} minor units, or less than one away from it", expected.minor))
}

/// The account was closed.
pub(crate) fn account_closed() -> Error {
    Error::failed_precondition("ledger.account_closed", "an account of the transaction is closed")
}

/// A module looks after the account.
pub(crate) fn account_managed() -> Error {
    let detail = "a module looks after the account: it is posted to, changed and limited by what that module is asked for";
    Error::failed_precondition("ledger.account_managed", detail)
}

/// Nothing may be taken out of the account.
pub(crate) fn account_frozen() -> Error {
    Error::failed_precondition("ledger.account_frozen", "an account that the transaction takes from is frozen")
}

/// Another transaction has the external reference.
pub(crate) fn external_ref_taken() -> Error {
    Error::conflict("ledger.external_ref_taken", "another transaction has this external_ref")
}

/// A sum would leave 64 bits.
pub(crate) fn overflow() -> Error {
    Error::failed_precondition("ledger.overflow", "the account's sums would become larger than can be represented")
}

/// The account would go below what it may.
pub(crate) fn insufficient_funds() -> Error {
    Error::failed_precondition("ledger.insufficient_funds", "an account of the transaction would go below its limit")
}

/// More in one transaction than the velocity limit allows.
pub(crate) fn transaction_limit(limit: &Limit) -> Error {
    let most = limit.per_transaction_minor.unwrap_or_default();
    Error::failed_precondition("ledger.transaction_limit", format!("at most {most} minor units may leave in one transaction"))
}

/// More in a day than the velocity limit allows.
pub(crate) fn daily_limit(limit: &Limit) -> Error {
    let most = limit.per_day_minor.unwrap_or_default();
    Error::failed_precondition("ledger.daily_limit", format!("at most {most} minor units may leave in a day (UTC)"))
}

/// More in a month than the velocity limit allows.
pub(crate) fn monthly_limit(limit: &Limit) -> Error {
    let most = limit.per_month_minor.unwrap_or_default();
    Error::failed_precondition("ledger.monthly_limit", format!("at most {most} minor units may leave in a month (UTC)"))
}

/// Another account has the code.
pub(crate) fn code_taken() -> Error {
    Error::conflict("ledger.code_taken", "another account has this code")
}

/// There is still something in the account, or held.
pub(crate) fn account_not_empty() -> Error {
    Error::failed_precondition("ledger.account_not_empty", "an account is closed when its balance is zero and nothing of it is held")
}

/// A closed account stays closed.
pub(crate) fn stays_closed() -> Error {
    Error::failed_precondition("ledger.stays_closed", "a closed account is not changed any more")
}

/// The account is already further below zero.
pub(crate) fn limit_below_balance() -> Error {
    Error::failed_precondition("ledger.limit_below_balance", "the account's balance is already beyond this limit")
}

/// More than a bulk holds.
pub(crate) fn batch_too_large(most: usize) -> Error {
    let error = Error::invalid("ledger.batch_too_large", format!("at most {most} transactions a batch"));
    error.with_field("transactions", "wrong_count", format!("between 1 and {most}"))
}
