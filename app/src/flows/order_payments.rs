//! What was paid for an order: `GET /api/v1/orders/{order_id}/payments`, and the audit that orders, payments and books agree.

use axum::Json;
use axum::extract::State as AppState;
use kernel::{Currency, Result};
use orders::OrderId;
use orders::api::{self as order_api, OrderHead};
use payments::api::{self as payment_api, IntentView, PaidForOrder, PaidOrder, RecordView};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use store::Read;
use utoipa::ToSchema;
use web::{Access, App, Audit, AuditCheck, AuditOutcome, Caller, Params, Route, handlers};

pub(crate) fn routes() -> Vec<Route> {
    vec![Route::new(Access::Tenant("payments.read"), handlers!(order_payments))]
}

pub(crate) const AUDIT: Audit = Audit { name: "flows.orders_payments_and_books_agree", check: AuditCheck::Tenant(agree) };

/// Whether an order is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = OrderPaymentState)]
enum PaymentState {
    /// Nothing is due: its total is zero, or it was called off and nothing is left to give back.
    NothingDue,
    /// Nothing was taken, and nobody is being asked.
    Unpaid,
    /// Money is set aside, or is being asked for.
    Pending,
    /// Some was taken.
    PartlyPaid,
    /// All was taken.
    Paid,
    /// More was taken than it costs.
    Overpaid,
    /// Some of what was taken was given back.
    PartlyRefunded,
    /// All of what was taken was given back.
    Refunded,
    /// The customer contests a payment.
    Disputed,
}

/// What was paid for an order.
#[derive(Debug, Serialize, ToSchema)]
struct OrderPayments {
    /// The order.
    order_id: OrderId,
    /// Of every amount.
    currency: Currency,
    /// Whether it is paid.
    payment_state: PaymentState,
    /// What the order costs, in minor units, credit notes taken off.
    total_minor: i64,
    /// Taken, in minor units.
    captured_minor: i64,
    /// Given back, in minor units.
    refunded_minor: i64,
    /// What exchanges have carried over to it of what came back of other orders, less what they have carried from it; in minor units.
    carried_minor: i64,
    /// What is still to be paid, in minor units; below zero is to be given back.
    due_minor: i64,
    /// At most 100, the latest first; the amounts are those of all.
    payments: Vec<IntentView>,
    /// Money that moved outside and was written down; at most 100, the latest first.
    records: Vec<RecordView>,
}

/// Decides from the order's amount, what its payments come to, and what exchanges have carried over to it.
fn state_of(total_minor: i64, paid: &PaidForOrder, carried_minor: i64) -> PaymentState {
    let PaidForOrder { captured_minor, refunded_minor, open, disputed } = *paid;
    let kept = captured_minor - refunded_minor + carried_minor;
    match () {
        () if disputed > 0 => PaymentState::Disputed,
        () if captured_minor > 0 && captured_minor == refunded_minor && carried_minor == 0 => PaymentState::Refunded,
        () if kept > total_minor => PaymentState::Overpaid,
        () if refunded_minor > 0 => PaymentState::PartlyRefunded,
        () if total_minor == 0 => PaymentState::NothingDue,
        () if kept == total_minor => PaymentState::Paid,
        () if kept > 0 => PaymentState::PartlyPaid,
        () if open > 0 => PaymentState::Pending,
        () => PaymentState::Unpaid,
    }
}

fn total_of(order: &OrderHead) -> i64 {
    match order.state {
        order_api::State::Cancelled => 0,
        _ => order.total_minor + order.credited_minor,
    }
}

/// Shows what was paid for an order. Payments name it by `order_id`.
#[utoipa::path(get, path = "/api/v1/orders/{order_id}/payments", tag = "orders", params(("order_id" = OrderId, Path)), responses(
    (status = 200, body = OrderPayments)))]
async fn order_payments(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(order_id): Params<OrderId>,
) -> web::Result<Json<OrderPayments>> {
    let both = move |read: &mut Read<'_>| {
        let order = order_api::head(read, order_id)?;
        let order = order.ok_or_else(|| kernel::Error::not_found("orders.order_not_found", "there is no such order"))?;
        let name = order_id.to_string();
        let paid = payment_api::paid_for_order(read, &name, order.currency)?;
        let carried_minor = order_api::carried(read, order_id)?;
        Ok((order, paid, carried_minor, payment_api::payments_of_order(read, &name)?, payment_api::records_of(read, &name)?))
    };
    let (order, paid, carried_minor, payments, mut records) = app.store().read(caller.tenant()?, both).await?;
    let payments: Vec<IntentView> = payments.into_iter().filter(|payment| payment.currency == order.currency).collect();
    records.retain(|record| record.currency == order.currency);
    let PaidForOrder { captured_minor, refunded_minor, .. } = paid;
    let total_minor = total_of(&order);
    Ok(Json(OrderPayments {
        order_id,
        currency: order.currency,
        payment_state: state_of(total_minor, &paid, carried_minor),
        total_minor,
        captured_minor,
        refunded_minor,
        carried_minor,
        due_minor: total_minor - captured_minor + refunded_minor - carried_minor,
        payments,
        records,
    }))
}

/// Sums that are read at once.
const PAGE: i64 = 2_000;

/// Each payment for an order of ours is in its currency; no order that stands as it was placed has paid more than it costs; and what
/// customers have paid by the payments is what the books say they have.
fn agree(read: &mut Read<'_>) -> Result<AuditOutcome> {
    let wrong = |detail: String| Ok(AuditOutcome { ok: false, detail });
    let (mut paid_orders, mut strangers, mut payments) = (0_u64, 0_u64, 0_i64);
    let mut of_orders: BTreeMap<String, i64> = BTreeMap::new();
    let mut after = String::new();
    loop {
        let mut page = payment_api::paid_by_order(read, &after, PAGE)?;
        let full = page.len() as i64 == PAGE;
        if let (true, Some(last)) = (full, page.last().map(|paid| paid.order_id.clone())) {
            page.retain(|paid| paid.order_id != last);
        }
        let ids: Vec<OrderId> = page.iter().filter_map(|paid| paid.order_id.parse().ok()).collect();
        let orders: HashMap<i64, OrderHead> =
            order_api::heads(read, &ids)?.into_iter().map(|order| (order.order_id.as_i64(), order)).collect();
        for paid in &page {
            payments += paid.payments;
            *of_orders.entry(paid.currency.to_string()).or_default() += paid.captured_minor - paid.refunded_minor;
            let Some(order) = paid.order_id.parse::<OrderId>().ok().and_then(|order_id| orders.get(&order_id.as_i64())) else {
                // Another shop's order: the tenant names what it likes.
                strangers += 1;
                continue;
            };
            paid_orders += 1;
            if let Some(why) = contradicts(order, paid) {
                return wrong(why);
            }
        }
        match page.last() {
            Some(last) if full => after.clone_from(&last.order_id),
            _ => break,
        }
    }
    let sums = payment_api::customers_money(read)?;
    for (currency, (by_payments, by_books)) in &sums {
        if by_payments != by_books {
            return wrong(format!("customers have paid {by_payments} minor units of {currency} by the payments, {by_books} by the books"));
        }
        let orders = of_orders.get(currency).copied().unwrap_or_default();
        if orders > *by_payments {
            return wrong(format!("orders were paid {orders} minor units of {currency}, all payments together {by_payments}"));
        }
    }
    let kept: Vec<String> = sums.iter().map(|(currency, (minor, _))| format!("{minor} {currency}")).collect();
    let kept = if kept.is_empty() { "nothing".to_owned() } else { kept.join(", ") };
    Ok(AuditOutcome {
        ok: true,
        detail: format!("{paid_orders} orders and {strangers} others in {payments} payments; {kept} (minor units) in payments and books"),
    })
}

/// What an order and its payments contradict each other in.
fn contradicts(order: &OrderHead, paid: &PaidOrder) -> Option<String> {
    if order.currency != paid.currency {
        return Some(format!("{} is in {}, and was paid in {}", order.order_id, order.currency, paid.currency));
    }
    let unchanged = order.version == 1 && order.credited_minor == 0;
    (unchanged && paid.captured_minor > order.total_minor)
        .then(|| format!("{} costs {} minor units, and {} were taken", order.order_id, order.total_minor, paid.captured_minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_follows_from_the_amounts() {
        let cases = [
            ((100, 0, 0), PaymentState::Unpaid),
            ((0, 0, 0), PaymentState::NothingDue),
            ((100, 40, 0), PaymentState::PartlyPaid),
            ((100, 100, 0), PaymentState::Paid),
            ((100, 120, 0), PaymentState::Overpaid),
            ((100, 100, 30), PaymentState::PartlyRefunded),
            ((100, 100, 100), PaymentState::Refunded),
            ((0, 100, 0), PaymentState::Overpaid),
            ((70, 100, 30), PaymentState::PartlyRefunded),
        ];
        for ((total, captured, refunded), expected) in cases {
            let paid = PaidForOrder { captured_minor: captured, refunded_minor: refunded, ..PaidForOrder::default() };
            assert_eq!(state_of(total, &paid, 0), expected, "{total} {captured} {refunded}");
        }
        assert_eq!(state_of(100, &PaidForOrder { open: 1, ..PaidForOrder::default() }, 0), PaymentState::Pending);
        assert_eq!(state_of(100, &PaidForOrder { captured_minor: 100, disputed: 1, ..PaidForOrder::default() }, 0), PaymentState::Disputed);
        // An exchange: what the one order was paid with pays for the other.
        assert_eq!(state_of(0, &PaidForOrder { captured_minor: 100, ..PaidForOrder::default() }, -100), PaymentState::NothingDue);
        assert_eq!(state_of(150, &PaidForOrder::default(), 100), PaymentState::PartlyPaid);
        assert_eq!(state_of(100, &PaidForOrder::default(), 100), PaymentState::Paid);
    }
}
