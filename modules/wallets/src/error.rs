//! Why wallets refuse: one function for each stable code, each with its entry in docs/problems.md.

use crate::model::{MAX_AMOUNT_MINOR, Transfer};
use kernel::{Currency, Error, ErrorKind};

pub(crate) fn amount_negative() -> Error {
    Error::invalid("wallets.amount_negative", "an amount is above zero").with_field("amount_minor", "negative", "above zero")
}

pub(crate) fn amount_zero() -> Error {
    Error::invalid("wallets.amount_zero", "an amount is above zero").with_field("amount_minor", "zero", "above zero")
}

pub(crate) fn amount_fractional() -> Error {
    let error = Error::invalid("wallets.amount_fractional", "an amount is a whole number of minor units");
    error.with_field("amount_minor", "fractional", "a whole number of minor units")
}

pub(crate) fn amount_too_large() -> Error {
    let error = Error::invalid("wallets.amount_too_large", format!("an amount is at most {MAX_AMOUNT_MINOR} minor units"));
    error.with_field("amount_minor", "too_large", format!("at most {MAX_AMOUNT_MINOR}"))
}

pub(crate) fn unknown_currency(field: &str) -> Error {
    let error = Error::invalid("money.unknown_currency", "not an active ISO 4217 currency code such as EUR");
    error.with_field(field, "unknown", "an active ISO 4217 code")
}

/// No such wallet, or not the caller's.
pub(crate) fn wallet_not_found() -> Error {
    Error::not_found("wallets.wallet_not_found", "there is no such wallet")
}

pub(crate) fn payee_not_found() -> Error {
    let error = Error::invalid("wallets.payee_not_found", "there is no such wallet to pay to");
    error.with_field("to_wallet_id", "unknown", "there is no such wallet")
}

pub(crate) fn transfer_not_found() -> Error {
    Error::not_found("wallets.transfer_not_found", "there is no such transfer")
}

pub(crate) fn request_not_found() -> Error {
    Error::not_found("wallets.request_not_found", "there is no such request for money")
}

pub(crate) fn schedule_not_found() -> Error {
    Error::not_found("wallets.schedule_not_found", "there is no such schedule")
}

pub(crate) fn same_wallet() -> Error {
    let error = Error::invalid("wallets.same_wallet", "payer and payee are one wallet");
    error.with_field("to_wallet_id", "same", "another wallet than the payer's")
}

pub(crate) fn not_a_merchant() -> Error {
    let error = Error::invalid("wallets.not_a_merchant", "only a merchant's wallet is paid by a payment; send a transfer");
    error.with_field("to_wallet_id", "not_a_merchant", "a merchant's wallet")
}

pub(crate) fn is_a_merchant() -> Error {
    let error = Error::invalid("wallets.is_a_merchant", "a merchant is paid by a payment, not by a transfer");
    error.with_field("to_wallet_id", "is_a_merchant", "a wallet that is no merchant's")
}

pub(crate) fn no_currency(currency: Currency) -> Error {
    Error::failed_precondition("wallets.no_currency", format!("one of the wallets holds no {currency}; add the currency to it first"))
}

pub(crate) fn closed() -> Error {
    Error::failed_precondition("wallets.closed", "the wallet is closed")
}

pub(crate) fn payee_closed() -> Error {
    Error::failed_precondition("wallets.payee_closed", "the payee's wallet is closed")
}

pub(crate) fn frozen() -> Error {
    Error::failed_precondition("wallets.frozen", "the wallet is frozen: money may come, and nothing leaves")
}

pub(crate) fn not_empty() -> Error {
    Error::failed_precondition("wallets.not_empty", "only an empty wallet without anything held can be closed")
}

pub(crate) fn level_unknown(level: i64) -> Error {
    Error::failed_precondition("wallets.level_unknown", format!("the policy has no level {level}: nothing may be sent"))
}

pub(crate) fn transaction_limit(most: i64) -> Error {
    Error::failed_precondition("wallets.transaction_limit", format!("at most {most} minor units may leave this wallet in one transfer"))
}

pub(crate) fn daily_limit(left: i64) -> Error {
    Error::failed_precondition("wallets.daily_limit", format!("today {left} more minor units may leave this wallet"))
}

pub(crate) fn monthly_limit(left: i64) -> Error {
    Error::failed_precondition("wallets.monthly_limit", format!("this month {left} more minor units may leave this wallet"))
}

pub(crate) fn insufficient_funds() -> Error {
    Error::failed_precondition("wallets.insufficient_funds", "there is not enough in the wallet; what is held does not count")
}

/// What the ledger refuses, in the words of wallets where they have some.
pub(crate) fn of_ledger(error: Error) -> Error {
    match error.code() {
        "ledger.insufficient_funds" => insufficient_funds(),
        "ledger.account_frozen" => frozen(),
        "ledger.account_closed" => closed(),
        "ledger.account_not_empty" => not_empty(),
        // The request was checked before it was made: what else is wrong is ours.
        _ if error.kind() == ErrorKind::Invalid => Error::internal("the ledger does not take what wallets ask").caused_by(error),
        _ => error,
    }
}

/// The score was too high; each reason is a field with its points.
pub(crate) fn denied(transfer: &Transfer) -> Error {
    let detail = format!("the transfer {} was refused with {} points", transfer.transfer_id, transfer.score);
    let error = Error::failed_precondition("wallets.denied", detail);
    transfer
        .reasons
        .iter()
        .fold(error, |error, reason| error.with_field(reason.code.clone(), "reason", format!("{} points", reason.points)))
}

pub(crate) fn not_challenged() -> Error {
    Error::failed_precondition("wallets.not_challenged", "the transfer does not wait for a code")
}

pub(crate) fn challenge_expired() -> Error {
    Error::failed_precondition("wallets.challenge_expired", "the time to confirm the transfer is over; ask for it again")
}

pub(crate) fn wrong_code(attempts_left: i64) -> Error {
    Error::failed_precondition("wallets.wrong_code", format!("this is not the code; {attempts_left} more attempts"))
}

pub(crate) fn too_many_codes() -> Error {
    let detail =
        "too many one-time codes were asked for or were wrong today; transfers of this wallet that need one wait until tomorrow (UTC)";
    Error::failed_precondition("wallets.too_many_codes", detail)
}

pub(crate) fn not_in_review() -> Error {
    Error::failed_precondition("wallets.not_in_review", "the transfer does not wait for a review")
}

pub(crate) fn not_open(what: &'static str) -> Error {
    Error::failed_precondition("wallets.not_open", format!("the {what} is open no more"))
}

pub(crate) fn code_invalid() -> Error {
    let error = Error::invalid("wallets.pay_code_invalid", "this is no pay code of ours, or it was changed");
    error.with_field("pay_code", "invalid", "the text that the point of sale shows")
}

pub(crate) fn code_used() -> Error {
    Error::conflict("wallets.pay_code_used", "this pay code was used before")
}

pub(crate) fn code_expired() -> Error {
    Error::failed_precondition("wallets.pay_code_expired", "the time of this pay code is over; ask for a new one")
}

pub(crate) fn no_bank() -> Error {
    Error::failed_precondition("wallets.no_bank", "no bank is set up to pay out through")
}

pub(crate) fn deposit_taken() -> Error {
    Error::conflict("wallets.deposit_taken", "a deposit with this reference was credited before")
}

pub(crate) fn too_many_currencies() -> Error {
    Error::failed_precondition("wallets.too_many_currencies", format!("a wallet has at most {} currencies", crate::model::MAX_CURRENCIES))
}

pub(crate) fn payer_not_found() -> Error {
    let error = Error::invalid("wallets.payer_not_found", "there is no such wallet to ask");
    error.with_field("payer_wallet_id", "unknown", "there is no such wallet")
}

pub(crate) fn code_not_found() -> Error {
    Error::not_found("wallets.code_not_found", "there is no such pay code")
}
