//! What `brandos audit` checks of a tenant's payments.

use crate::model::{IntentId, ProviderId};
use crate::sql;
use crate::workflows::OPERATE_DEADLINE_MS;
use kernel::{Currency, Result};
use ledger::AccountId;
use std::collections::BTreeMap;
use store::Read;
use web::{Audit, AuditCheck, AuditOutcome};

/// How much longer than any deadline something may be open, in milliseconds: the last question and its transaction.
const SLACK_MS: i64 = 3_600_000;

/// Every check of this module.
pub(crate) fn audits() -> Vec<Audit> {
    vec![
        Audit { name: "payments.amounts_are_possible", check: AuditCheck::Tenant(amounts) },
        Audit { name: "payments.operations_add_up", check: AuditCheck::Tenant(sums) },
        Audit { name: "payments.ledger_agrees", check: AuditCheck::Tenant(ledger_agrees) },
        Audit { name: "payments.nothing_is_stuck", check: AuditCheck::Tenant(nothing_is_stuck) },
    ]
}

fn none(found: Option<(IntentId,)>, well: &str, wrong: &str) -> AuditOutcome {
    match found {
        None => AuditOutcome { ok: true, detail: well.to_owned() },
        Some((intent_id,)) => AuditOutcome { ok: false, detail: format!("{intent_id} {wrong}") },
    }
}

/// Nothing is negative, no more was captured than authorised, no more refunded than captured.
fn amounts(read: &mut Read<'_>) -> Result<AuditOutcome> {
    Ok(none(read.opt(sql::WRONG_AMOUNTS, ())?, "all amounts are possible", "has amounts that can't be"))
}

/// An intent's amounts are the sums of its operations.
fn sums(read: &mut Read<'_>) -> Result<AuditOutcome> {
    Ok(none(read.opt(sql::WRONG_SUMS, ())?, "all operations add up", "has amounts that are not the sums of its operations"))
}

/// What each provider owes, and what it kept, is in the ledger as in the payments.
fn ledger_agrees(read: &mut Read<'_>) -> Result<AuditOutcome> {
    let owed: Vec<(ProviderId, Currency, i64, i64)> = read.all(sql::OWED, ())?;
    let mut expected: BTreeMap<(i64, String), (i64, i64)> =
        owed.into_iter().map(|(provider, currency, owed, fees)| ((provider.as_i64(), currency.to_string()), (owed, fees))).collect();
    let accounts: Vec<(ProviderId, Currency, AccountId, AccountId, i64, i64)> = read.all(sql::ALL_ACCOUNTS, ())?;
    let looked_at = accounts.len();
    for (provider, currency, receivable, fees, receivable_adjusted, fees_adjusted) in accounts {
        let (owed, kept) = expected.remove(&(provider.as_i64(), currency.to_string())).unwrap_or_default();
        // Payouts and resolved differences of settlement move these accounts, too.
        let (owed, kept) = (owed + receivable_adjusted, kept + fees_adjusted);
        let found = (ledger::api::balance(read, receivable)?.posted_minor, ledger::api::balance(read, fees)?.posted_minor);
        if found != (owed, kept) {
            let detail = format!("{provider} {currency}: payments say {owed} due and {kept} kept, the ledger {} and {}", found.0, found.1);
            return Ok(AuditOutcome { ok: false, detail });
        }
    }
    match expected.into_iter().find(|(_, amounts)| *amounts != (0, 0)) {
        None => Ok(AuditOutcome { ok: true, detail: format!("{looked_at} providers and currencies agree") }),
        Some(((provider, currency), (owed, _))) => {
            let provider = ProviderId::from_i64(provider);
            Ok(AuditOutcome { ok: false, detail: format!("{provider} owes {owed} {currency}, and has no account") })
        }
    }
}

/// Whatever is open beyond its deadline has a task.
fn nothing_is_stuck(read: &mut Read<'_>) -> Result<AuditOutcome> {
    let before = read.now().plus_ms(-OPERATE_DEADLINE_MS - SLACK_MS);
    let mut found = read.opt(sql::STUCK, (before,))?;
    if found.is_none() {
        found = read.opt(sql::STUCK_OPERATION, (before,))?;
    }
    Ok(none(found, "nothing is stuck", "is open beyond its deadline, and nobody was told"))
}
