//! What `brandos audit` checks of a tenant's orders. Each check counts what it looked at and what is wrong.

use crate::care::sql as care;
use crate::returns::sql as returns;
use crate::sql;
use kernel::Result;
use store::Read;
use web::{Audit, AuditCheck, AuditOutcome};

/// Every check of this module.
pub(crate) fn audits() -> Vec<Audit> {
    vec![
        Audit { name: "orders.totals_add_up", check: AuditCheck::Tenant(totals_add_up) },
        Audit { name: "orders.notes_have_lines", check: AuditCheck::Tenant(notes_have_lines) },
        Audit { name: "orders.numbers_unique", check: AuditCheck::Tenant(numbers_unique) },
        Audit { name: "orders.states_recorded", check: AuditCheck::Tenant(states_recorded) },
        Audit { name: "orders.credits_add_up", check: AuditCheck::Tenant(credits_add_up) },
        Audit { name: "orders.refunds_add_up", check: AuditCheck::Tenant(refunds_add_up) },
        Audit { name: "orders.returned_quantities", check: AuditCheck::Tenant(returned_quantities) },
        Audit { name: "orders.return_states_recorded", check: AuditCheck::Tenant(return_states_recorded) },
        Audit { name: "orders.delivered_was_sold", check: AuditCheck::Tenant(delivered_was_sold) },
        Audit { name: "orders.holds_have_orders", check: AuditCheck::Tenant(holds_have_orders) },
        Audit { name: "orders.daily_sales_recounted", check: AuditCheck::Tenant(daily_sales_recounted) },
    ]
}

fn counted(read: &mut Read<'_>, statement: &'static str, things: &str, fault: &str) -> Result<AuditOutcome> {
    let (looked_at, wrong): (i64, i64) = read.one(statement, ())?;
    let detail = if wrong == 0 { format!("{looked_at} {things}") } else { format!("{wrong} of {looked_at} {things} {fault}") };
    Ok(AuditOutcome { ok: wrong == 0, detail })
}

/// An order's sums are those of its current lines.
fn totals_add_up(read: &mut Read<'_>) -> Result<AuditOutcome> {
    counted(read, sql::AUDIT_ORDER_TOTALS, "orders", "do not come to the sum of their lines")
}

/// A credit note or an adjustment has lines, and comes to their sum.
fn notes_have_lines(read: &mut Read<'_>) -> Result<AuditOutcome> {
    counted(read, sql::AUDIT_NOTE_TOTALS, "credit notes and adjustments", "have no lines or do not come to their sum")
}

/// No two documents of a kind share a number, and none is above the counter.
fn numbers_unique(read: &mut Read<'_>) -> Result<AuditOutcome> {
    counted(read, sql::AUDIT_NUMBERS, "documents", "have a number that is not theirs alone")
}

/// The last change of an order tells of the state that it is in.
fn states_recorded(read: &mut Read<'_>) -> Result<AuditOutcome> {
    counted(read, sql::AUDIT_STATES, "orders", "are in a state that their last change does not tell of")
}

/// What an order says was credited is the sum of its credit notes.
fn credits_add_up(read: &mut Read<'_>) -> Result<AuditOutcome> {
    counted(read, sql::AUDIT_CREDITS, "orders", "do not come to the sum of their credit notes")
}

/// The projection is what a recount of the documents gives. True once its consumer has read every event.
fn daily_sales_recounted(read: &mut Read<'_>) -> Result<AuditOutcome> {
    counted(read, sql::AUDIT_DAILY_SALES, "rows of daily sales", "differ from a recount of the documents (has the consumer caught up?)")
}

/// What a return refunds is the sum of its lines, and what its credit note gives back.
fn refunds_add_up(read: &mut Read<'_>) -> Result<AuditOutcome> {
    counted(read, returns::AUDIT_REFUNDS, "returns", "refund other than their lines or their credit notes")
}

/// No more of a line came back than was asked for, no more is refunded or put away than came.
fn returned_quantities(read: &mut Read<'_>) -> Result<AuditOutcome> {
    counted(read, returns::AUDIT_RETURN_LINES, "lines of returns", "have quantities that contradict each other")
}

/// The last change of a return tells of the state that it is in.
fn return_states_recorded(read: &mut Read<'_>) -> Result<AuditOutcome> {
    counted(read, returns::AUDIT_RETURN_STATES, "returns", "are in a state that their last change does not tell of")
}

/// No more of a line arrived than was sold.
fn delivered_was_sold(read: &mut Read<'_>) -> Result<AuditOutcome> {
    counted(read, care::AUDIT_DELIVERIES, "lines that arrived", "arrived more often than they were sold")
}

/// What is on hold is there.
fn holds_have_orders(read: &mut Read<'_>) -> Result<AuditOutcome> {
    counted(read, care::AUDIT_HOLDS, "holds", "are of orders that are not there")
}
