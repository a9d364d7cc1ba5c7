//! What `brandos audit` checks of a tenant's carts.

use crate::sql;
use kernel::Result;
use store::Read;
use web::{Audit, AuditCheck, AuditOutcome};

/// Every check of this module.
pub(crate) fn audits() -> Vec<Audit> {
    vec![
        Audit { name: "carts.lines_are_counted", check: AuditCheck::Tenant(lines) },
        Audit { name: "carts.quantities_in_bounds", check: AuditCheck::Tenant(quantities) },
        Audit { name: "carts.states_are_sound", check: AuditCheck::Tenant(states) },
        Audit { name: "carts.one_for_each_customer", check: AuditCheck::Tenant(customers) },
    ]
}

fn lines(read: &mut Read<'_>) -> Result<AuditOutcome> {
    let (carts, wrong): (i64, i64) = read.one(sql::AUDIT_LINES, ())?;
    Ok(AuditOutcome { ok: wrong == 0, detail: format!("{carts} carts, {wrong} count their lines wrong") })
}

fn quantities(read: &mut Read<'_>) -> Result<AuditOutcome> {
    let (lines, wrong, lost): (i64, i64, i64) = read.one(sql::AUDIT_QUANTITIES, ())?;
    Ok(AuditOutcome { ok: wrong == 0 && lost == 0, detail: format!("{lines} lines, {wrong} out of bounds, {lost} without a cart") })
}

fn states(read: &mut Read<'_>) -> Result<AuditOutcome> {
    let (carts, wrong): (i64, i64) = read.one(sql::AUDIT_STATES, ())?;
    Ok(AuditOutcome { ok: wrong == 0, detail: format!("{carts} carts, {wrong} contradict themselves") })
}

fn customers(read: &mut Read<'_>) -> Result<AuditOutcome> {
    let (customers, carts): (i64, i64) = read.one(sql::AUDIT_CUSTOMERS, ())?;
    Ok(AuditOutcome { ok: customers == carts, detail: format!("{customers} customers with {carts} carts that are not over") })
}
