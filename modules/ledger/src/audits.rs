//! What `brandos audit` checks of a tenant's ledger. Each check counts what it looked at and what is wrong.

use crate::sql;
use kernel::Result;
use store::{Args, Read};
use web::{Audit, AuditCheck, AuditOutcome};

/// Every check of this module.
pub(crate) fn audits() -> Vec<Audit> {
    vec![
        Audit { name: "ledger.sums_to_zero", check: AuditCheck::Tenant(sums_to_zero) },
        Audit { name: "ledger.balances_recounted", check: AuditCheck::Tenant(balances_recounted) },
        Audit { name: "ledger.pending_is_held", check: AuditCheck::Tenant(pending_is_held) },
        Audit { name: "ledger.within_limits", check: AuditCheck::Tenant(within_limits) },
        Audit { name: "ledger.transactions_balance", check: AuditCheck::Tenant(transactions_balance) },
        Audit { name: "ledger.reversals_add_up", check: AuditCheck::Tenant(reversals_add_up) },
        Audit { name: "ledger.captures_add_up", check: AuditCheck::Tenant(captures_add_up) },
    ]
}

fn counted(read: &mut Read<'_>, statement: &'static str, args: impl Args, things: &str, fault: &str) -> Result<AuditOutcome> {
    let (looked_at, wrong): (i64, i64) = read.one(statement, args)?;
    let detail = if wrong == 0 { format!("{looked_at} {things}") } else { format!("{wrong} of {looked_at} {things} {fault}") };
    Ok(AuditOutcome { ok: wrong == 0, detail })
}

/// In each currency all debits are all credits, posted and pending.
fn sums_to_zero(read: &mut Read<'_>) -> Result<AuditOutcome> {
    counted(read, sql::AUDIT_ZERO, (), "currencies", "do not sum to zero")
}

/// An account's sums, and the number of its entries, are those of the transactions.
fn balances_recounted(read: &mut Read<'_>) -> Result<AuditOutcome> {
    counted(read, sql::AUDIT_RECOUNT, (), "accounts", "differ from a recount of their transactions")
}

/// What is pending is what is left of open holds.
fn pending_is_held(read: &mut Read<'_>) -> Result<AuditOutcome> {
    counted(read, sql::AUDIT_HOLDS, (), "accounts", "have something pending that is not held")
}

/// No account is beyond its limit. An expired hold holds nothing, released or not.
fn within_limits(read: &mut Read<'_>) -> Result<AuditOutcome> {
    let now = read.now();
    counted(read, sql::AUDIT_LIMITS, (now,), "accounts", "are beyond their limit")
}

/// A transaction of several postings sums to zero in each of its currencies.
fn transactions_balance(read: &mut Read<'_>) -> Result<AuditOutcome> {
    counted(read, sql::AUDIT_POSTINGS, (), "sums of transactions", "are not zero")
}

/// What was taken back of a transaction is the sum of its reversals, and no more than it came to.
fn reversals_add_up(read: &mut Read<'_>) -> Result<AuditOutcome> {
    counted(read, sql::AUDIT_REVERSED, (), "reversed transactions", "do not come to the sum of their reversals")
}

/// What was captured of a hold is the sum of its captures, and with what is left no more than was held.
fn captures_add_up(read: &mut Read<'_>) -> Result<AuditOutcome> {
    counted(read, sql::AUDIT_CAPTURES, (), "holds", "do not come to the sum of their captures")
}
