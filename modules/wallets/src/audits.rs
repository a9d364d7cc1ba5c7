//! What `brandos audit` checks of a tenant's wallets.

use crate::model::*;
use crate::{service, sql};
use kernel::{Currency, Result, Timestamp};
use ledger::{AccountId, HoldStatus, TransactionId};
use std::collections::HashMap;
use store::Read;
use web::{Audit, AuditCheck, AuditOutcome};

/// Every check of this module.
pub(crate) fn audits() -> Vec<Audit> {
    vec![
        Audit { name: "wallets.balances_equal_the_ledgers", check: AuditCheck::Tenant(balances) },
        Audit { name: "wallets.limits_hold", check: AuditCheck::Tenant(limits) },
        Audit { name: "wallets.reviews_are_queued", check: AuditCheck::Tenant(reviews) },
    ]
}

type Row = (WalletId, Currency, AccountId, i64, i64, i64, WalletKind, i64, Timestamp, Timestamp);

/// Judges each wallet's account; the first that is wrong is told.
fn each_account(read: &mut Read<'_>, mut wrong: impl FnMut(&mut Read<'_>, &Row) -> Result<Option<String>>) -> Result<AuditOutcome> {
    let accounts: Vec<Row> = read.all(sql::AUDIT_ACCOUNTS, ())?;
    for row in &accounts {
        if let Some(what) = wrong(read, row)? {
            return Ok(AuditOutcome { ok: false, detail: format!("wallet {} in {}: {what}", row.0, row.1) });
        }
    }
    Ok(AuditOutcome { ok: true, detail: format!("{} accounts of wallets", accounts.len()) })
}

/// What came to a wallet less what left it, by its transfers, is its balance in the ledger; what waits of them is what is held there.
fn balances(read: &mut Read<'_>) -> Result<AuditOutcome> {
    let came: Vec<(WalletId, Currency, i64)> = read.all(sql::AUDIT_CAME, ())?;
    let came: HashMap<(WalletId, Currency), i64> = came.into_iter().map(|(wallet, currency, minor)| ((wallet, currency), minor)).collect();
    let left: Vec<(WalletId, Currency, i64, i64)> = read.all(sql::AUDIT_LEFT, ())?;
    let left: HashMap<(WalletId, Currency), (i64, i64)> =
        left.into_iter().map(|(wallet, currency, left, held)| ((wallet, currency), (left, held))).collect();
    each_account(read, |read, (wallet_id, currency, account_id, ..)| {
        let key = (*wallet_id, *currency);
        let (left, held) = left.get(&key).copied().unwrap_or_default();
        let by_transfers = came.get(&key).copied().unwrap_or_default() - left;
        let balance = ledger::api::balance(read, *account_id)?;
        let wrong = (balance.posted_minor, balance.pending_out_minor) != (by_transfers, held);
        Ok(wrong.then(|| {
            let (posted, pending) = (balance.posted_minor, balance.pending_out_minor);
            format!("its transfers leave {by_transfers} and hold {held}, the ledger has {posted} and holds {pending}")
        }))
    })
}

/// What was counted in the last day and month is the sum of the transfers of it; and no day or month that lies wholly under the limits that
/// are in force now has passed them.
fn limits(read: &mut Read<'_>) -> Result<AuditOutcome> {
    let policy = service::policy(read, None)?;
    let counted: Vec<(WalletId, Currency, i64, i64)> = read.all(sql::AUDIT_COUNTED, ())?;
    let mut days: HashMap<(WalletId, Currency), Vec<(i64, i64)>> = HashMap::new();
    for (wallet, currency, day, minor) in counted {
        days.entry((wallet, currency)).or_default().push((day, minor));
    }
    each_account(read, |_, (wallet_id, currency, _, used_day, day_minor, month_minor, kind, level, level_since, created_at)| {
        let days = days.get(&(*wallet_id, *currency)).map_or(&[][..], Vec::as_slice);
        let month = |day: i64| (civil(day).0, civil(day).1);
        let sum = |within: &dyn Fn(i64) -> bool| days.iter().filter(|(day, _)| within(*day)).map(|(_, minor)| minor).sum::<i64>();
        let (in_day, in_month) = (sum(&|day| day == *used_day), sum(&|day| month(day) == month(*used_day)));
        if (in_day, in_month) != (*day_minor, *month_minor) {
            return Ok(Some(format!("{day_minor} and {month_minor} were counted for {in_day} in the day and {in_month} in the month")));
        }
        let Some(limits) = policy.policy.limits(*level, *currency).filter(|_| *kind != WalletKind::System) else { return Ok(None) };
        // Nothing left before the wallet was there; a day or month in which limits were changed proves nothing.
        let since = if *level_since == *created_at && policy.at.micros() == 0 { 0 } else { level_since.max(&policy.at).day() + 1 };
        let passed = |most: Option<i64>, minor: i64| most.is_some_and(|most| minor > most);
        for (day, minor) in days.iter().filter(|(day, _)| *day >= since) {
            if passed(limits.per_day_minor, *minor) {
                return Ok(Some(format!("{minor} left on day {day}, above the day's limit")));
            }
            let whole_month = since == 0 || month(*day) != month(since - 1);
            let in_month = sum(&|other| month(other) == month(*day));
            if whole_month && passed(limits.per_month_minor, in_month) {
                return Ok(Some(format!("{in_month} left in the month of day {day}, above the month's limit")));
            }
        }
        Ok(None)
    })
}

/// Whatever waits for a code or a person has an open entry, each open entry a transfer that waits, and each review its hold.
fn reviews(read: &mut Read<'_>) -> Result<AuditOutcome> {
    for (statement, what) in
        [(sql::AUDIT_UNQUEUED, "waits without an entry in the queue"), (sql::AUDIT_LEFT_OVER, "has come to its end and is in the queue")]
    {
        if let Some((transfer_id,)) = read.opt::<(TransferId,)>(statement, ())? {
            return Ok(AuditOutcome { ok: false, detail: format!("{transfer_id} {what}") });
        }
    }
    let open: Vec<(TransferId, Option<TransactionId>)> = read.all(sql::AUDIT_REVIEWS, ())?;
    for (transfer_id, hold_id) in &open {
        let held = match hold_id {
            Some(hold_id) => ledger::api::hold(read, *hold_id)?.status == HoldStatus::Open,
            None => false,
        };
        if !held {
            return Ok(AuditOutcome { ok: false, detail: format!("{transfer_id} is in review without a hold") });
        }
    }
    Ok(AuditOutcome { ok: true, detail: format!("{} transfers in review", open.len()) })
}
