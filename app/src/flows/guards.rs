//! What other modules have to say in a transaction of one that does not know them: stock that can't be had can't be added to an order, what
//! is on hold does not go, and what came back pays for what takes its place.

use super::checkout::sold;
use inventory::api::{self as stock, AmendedLine, Amendment};
use kernel::{Error, Result};
use orders::OrderId;
use orders::api::{self as orders_api, Line, LineKind, OrderHead, Outside};
use payments::api as payments_api;
use shipping::api::Gate;
use store::Tx;

/// What orders ask.
pub(crate) const OUTSIDE: Outside = Outside { edited, due_minor };

/// What keeps a shipment from going.
pub(crate) const GATE: Gate = Gate { may_go };

/// The reservation of an order that came from a checkout has the order's lines. Another order has none.
fn edited(tx: &mut Tx<'_>, order_id: OrderId, lines: &[Line]) -> Result<()> {
    let Some(sold) = sold(tx, order_id)? else { return Ok(()) };
    let line = |line: &Line| AmendedLine {
        line: reserved_line(line.line),
        variant_id: line.variant_id.filter(|_| line.kind == LineKind::Sale).map(|id| stock::VariantId::from_i64(id.as_i64())),
        quantity: line.quantity,
    };
    let amendment = Amendment { reference: sold.stock_reference, lines: lines.iter().map(line).collect() };
    stock::amend(tx, &amendment).map(drop)
}

/// The number that an order's line has in its reservation: those of the checkout are in the order in which they were reserved.
pub(super) fn reserved_line(line: u32) -> u32 {
    line.saturating_sub(1)
}

/// What is still to be paid for an order: its amount less what was paid and what was carried over to it. While a payment is under way, or
/// its money is set aside, nothing: it is paid by that one.
fn due_minor(tx: &mut Tx<'_>, order: &OrderHead) -> Result<i64> {
    let paid = payments_api::paid_for_order(tx, &order.order_id.to_string(), order.currency)?;
    if paid.open > 0 {
        return Ok(0);
    }
    let carried_minor = orders_api::carried(tx, order.order_id)?;
    Ok(order.total_minor + order.credited_minor - (paid.captured_minor - paid.refunded_minor) - carried_minor)
}

/// Shipments name orders as they like; one that is not ours holds nothing up.
fn may_go(tx: &mut Tx<'_>, order_ref: &str) -> Result<()> {
    let Ok(order_id) = order_ref.parse::<OrderId>() else { return Ok(()) };
    if orders_api::head(tx, order_id)?.is_none() {
        return Ok(());
    }
    match orders_api::on_hold(tx, order_id)? {
        Some(hold) => Err(Error::failed_precondition("orders.on_hold", format!("the order is on hold: {}", hold.reason))),
        None => Ok(()),
    }
}
