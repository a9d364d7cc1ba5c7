//! Checkouts, orders, stock and payments say the same.

use super::model::{CheckoutId, State, order_of};
use super::sql;
use inventory::api::{self as stock, ReservationState};
use kernel::{Currency, ErrorKind, Result};
use orders::api::{self as orders_api, OrderHead};
use payments::api::{self as payments_api, IntentId, Status};
use std::collections::HashMap;
use store::Read;
use web::AuditOutcome;

/// Checkouts that are read at once.
const PAGE: i64 = 1_000;

type Row = (CheckoutId, String, String, Option<IntentId>, String, Currency, i64);

/// Each completed checkout is an order of its amount, whose stock is held or has gone out; no other one is an order; one that failed holds
/// no stock, and no payment of it is kept.
pub(super) fn agree(read: &mut Read<'_>) -> Result<AuditOutcome> {
    let (mut completed, mut failed, mut paying) = (0_u64, 0_u64, 0_u64);
    let mut after = CheckoutId::from_i64(0);
    loop {
        let page: Vec<Row> = read.all(sql::AFTER, (after, PAGE))?;
        let Some(last) = page.last().map(|row| row.0) else { break };
        let ids: Vec<_> = page.iter().map(|row| order_of(row.0)).collect();
        let orders: HashMap<i64, OrderHead> =
            orders_api::heads(read, &ids)?.into_iter().map(|order| (order.order_id.as_i64(), order)).collect();
        for row in &page {
            match row.1.as_str() {
                state if state == State::Completed.as_str() => completed += 1,
                state if state == State::Failed.as_str() => failed += 1,
                _ => paying += 1,
            }
            if let Some(why) = contradicts(read, row, orders.get(&row.0.as_i64()))? {
                return Ok(AuditOutcome { ok: false, detail: why });
            }
        }
        after = last;
    }
    Ok(AuditOutcome { ok: true, detail: format!("{completed} checkouts are orders, {failed} failed, {paying} are being paid") })
}

/// What a checkout and the rest contradict each other in.
fn contradicts(read: &mut Read<'_>, row: &Row, order: Option<&OrderHead>) -> Result<Option<String>> {
    let (checkout_id, state, reason, intent_id, reference, currency, total_minor) = row;
    let wrong = |what: String| Ok(Some(format!("{checkout_id} is {state}, {what}")));
    let held = match stock::reservation(read, reference) {
        Ok(reserved) => reserved.state,
        Err(error) if error.kind() == ErrorKind::NotFound => return wrong(format!("and has no reservation {reference}")),
        Err(error) => return Err(error),
    };
    let holds = matches!(held, ReservationState::Held | ReservationState::Confirmed);
    if state == State::Completed.as_str() {
        let Some(order) = order else { return wrong("and there is no such order".to_owned()) };
        // An order may be edited or called off after it was placed.
        if order.version == 1 && (order.currency != *currency || order.total_minor != *total_minor) {
            return wrong(format!("for {total_minor} {currency}, and its order is one of {} {}", order.total_minor, order.currency));
        }
        if order.version == 1 && reason.is_empty() && !matches!(held, ReservationState::Confirmed | ReservationState::Shipped) {
            return wrong(format!("and its stock is {held:?}"));
        }
        return Ok(None);
    }
    if order.is_some() {
        return wrong("and there is an order of it".to_owned());
    }
    if state == State::Failed.as_str() {
        if holds {
            return wrong(format!("and its stock is {held:?}"));
        }
        if let Some(intent_id) = intent_id
            && payments_api::status(read, *intent_id)?.0 == Status::Succeeded
        {
            return wrong("and its payment was taken".to_owned());
        }
    }
    Ok(None)
}
