//! For flows: what happens to an order after it was placed, in the transaction in which stock, shipments and money follow. Orders know none
//! of these: what a flow needs for them is in the answers.

use crate::care::commands as care;
use crate::commands::{self, Fulfil, Step};
use crate::model::{NewLine, OrderHead, OrderId};
use crate::returns::{commands as returns, queries};
use crate::write::By;
use kernel::Result;
use std::collections::BTreeMap;
use store::{Read, Tx};
use web::IfMatch;

pub use crate::care::model::{Hold, Progress};
pub use crate::returns::commands::{Exchange, Exchanged, Inspect, Inspected, Receive, RequestReturn, ReturnStep};
pub use crate::returns::model::{
    Back, InspectedLine, Preview, Return, ReturnCommand, ReturnHead, ReturnId, ReturnLine, ReturnState, Share, WantedLine, share,
};

fn step(order_id: OrderId, reason: &str, by: &By) -> Step {
    Step { order_id, if_match: IfMatch(None), reason: reason.to_owned(), by: by.clone() }
}

/// Records that goods went out: line number to quantity, each above zero; none for everything that remains.
/// Errors: `orders.order_not_found`, `orders.not_allowed`, `orders.over_fulfilment`, `orders.on_hold`.
pub fn fulfil(tx: &mut Tx<'_>, order_id: OrderId, quantities: Option<BTreeMap<u32, i64>>, reason: &str, by: &By) -> Result<OrderHead> {
    commands::fulfil_order(tx, &Fulfil { step: step(order_id, reason, by), quantities })
}

/// Records that goods arrived: line number to quantity, each above zero; none for everything that is under way.
/// Errors: `orders.order_not_found`, `orders.over_delivery`, `orders.nothing_under_way`.
pub fn deliver(tx: &mut Tx<'_>, order_id: OrderId, quantities: Option<BTreeMap<u32, i64>>, reason: &str, by: &By) -> Result<OrderHead> {
    care::deliver(tx, &care::Deliver { step: step(order_id, reason, by), quantities })
}

/// Keeps an order from going until somebody has looked at it. Errors: `orders.order_not_found`, `orders.not_allowed`, `orders.on_hold`.
pub fn hold(tx: &mut Tx<'_>, order_id: OrderId, reason: &str, by: &By) -> Result<OrderHead> {
    care::hold(tx, &step(order_id, reason, by))
}

/// Lets an order go that was on hold. Errors: `orders.order_not_found`, `orders.not_on_hold`.
pub fn release(tx: &mut Tx<'_>, order_id: OrderId, reason: &str, by: &By) -> Result<OrderHead> {
    care::release(tx, &step(order_id, reason, by))
}

/// Why an order is on hold, if it is. Errors: `orders.order_not_found`.
pub fn on_hold(read: &mut Read<'_>, order_id: OrderId) -> Result<Option<Hold>> {
    crate::care::queries::hold(read, order_id)
}

/// What became of each line of an order. Errors: `orders.order_not_found`.
pub fn progress(read: &mut Read<'_>, order_id: OrderId) -> Result<Vec<Progress>> {
    crate::care::queries::progress(read, order_id)
}

/// What a return, or an exchange, would cost. Errors: `orders.order_not_found`, `orders.over_return`, `request.invalid`.
pub fn preview_return(
    read: &mut Read<'_>,
    order_id: OrderId,
    wanted: &[WantedLine],
    exchange_lines: Option<&[NewLine]>,
) -> Result<Preview> {
    returns::preview_of(read, order_id, wanted, exchange_lines)
}

/// Asks for a return. Errors: `orders.order_not_found`, `orders.over_return`, `orders.too_many_returns`, `request.invalid`.
pub fn request_return(tx: &mut Tx<'_>, new: &RequestReturn) -> Result<Return> {
    returns::request(tx, new)
}

/// Approves, rejects, cancels or closes a return. Errors: `orders.return_not_found`, `orders.return_not_allowed`,
/// `request.precondition_failed`.
pub fn return_step(tx: &mut Tx<'_>, step: ReturnStep, command: ReturnCommand) -> Result<Return> {
    returns::take(tx, &(step, command))
}

/// Notes what came. Errors: `orders.return_not_found`, `orders.return_not_allowed`, `orders.over_return`, `request.invalid`,
/// `request.precondition_failed`.
pub fn receive_return(tx: &mut Tx<'_>, receive: &Receive) -> Result<Return> {
    returns::receive(tx, receive)
}

/// Notes what may be sold again; [`Inspected::back`] is what the stock has to do. Errors: `orders.return_not_found`,
/// `orders.return_not_allowed`, `orders.inspection_incomplete`, `request.precondition_failed`.
pub fn inspect_return(tx: &mut Tx<'_>, inspect: &Inspect) -> Result<Inspected> {
    returns::inspect(tx, inspect)
}

/// Issues the credit note over what is refunded; [`ReturnHead::refund_minor`] is what the payment has to give back.
/// Errors: `orders.return_not_found`, `orders.return_not_allowed`, `orders.nothing_to_refund`, `orders.credit_exceeds_order`,
/// `request.precondition_failed`.
pub fn refund_return(tx: &mut Tx<'_>, step: &ReturnStep) -> Result<Return> {
    returns::refund(tx, step)
}

/// Credits what came back and names the order that takes its place, which is placed already; [`Exchanged::due_minor`] is what is to be paid
/// or given back. Errors: those of [`refund_return`], `orders.not_an_exchange`.
pub fn exchange_return(tx: &mut Tx<'_>, exchange: &Exchange) -> Result<Exchanged> {
    returns::exchange(tx, exchange)
}

/// A return with its lines. Errors: `orders.return_not_found`.
pub fn find_return(read: &mut Read<'_>, return_id: ReturnId) -> Result<Return> {
    queries::find(read, return_id)
}
