//! Why orders refuses: one function for each stable code, each with its entry in docs/problems.md.

use crate::model::State;
use crate::returns::model::ReturnState;
use kernel::Error;

/// No such order in this tenant.
pub(crate) fn order_not_found() -> Error {
    Error::not_found("orders.order_not_found", "there is no such order")
}

/// No such credit note in this tenant.
pub(crate) fn credit_note_not_found() -> Error {
    Error::not_found("orders.credit_note_not_found", "there is no such credit note")
}

/// No such adjustment in this tenant.
pub(crate) fn adjustment_not_found() -> Error {
    Error::not_found("orders.adjustment_not_found", "there is no such adjustment")
}

/// No such customer in this tenant.
pub(crate) fn customer_not_found() -> Error {
    Error::not_found("orders.customer_not_found", "there is no such customer")
}

/// No such address of this customer.
pub(crate) fn address_not_found() -> Error {
    Error::not_found("orders.address_not_found", "the customer has no such address")
}

/// The body points at a customer that does not exist.
pub(crate) fn unknown_customer() -> Error {
    Error::field("customer_id", "unknown", "there is no such customer")
}

/// Another document has the external reference.
pub(crate) fn external_ref_taken() -> Error {
    Error::conflict("orders.external_ref_taken", "another document has this external_ref")
}

/// Another customer has the external reference.
pub(crate) fn customer_ref_taken() -> Error {
    Error::conflict("orders.customer_ref_taken", "another customer has this external_ref")
}

/// The order's state does not allow it.
pub(crate) fn not_allowed(state: State, verb: &str) -> Error {
    Error::failed_precondition("orders.not_allowed", format!("an order that is {} cannot be {verb}", state.as_str().replace('_', " ")))
}

/// A credited order cannot be called off.
pub(crate) fn has_credit_notes() -> Error {
    Error::failed_precondition(
        "orders.has_credit_notes",
        "credit notes were issued against the order; credit the rest instead of cancelling it",
    )
}

/// More would be credited than the order comes to.
pub(crate) fn credit_exceeds_order(total_minor: i64, credited_minor: i64) -> Error {
    Error::failed_precondition(
        "orders.credit_exceeds_order",
        format!("the order would come to {total_minor} with credit notes of {credited_minor} against it, in minor units"),
    )
}

/// More would be fulfilled than was ordered.
pub(crate) fn over_fulfilment(line: u32, left: i64) -> Error {
    Error::failed_precondition("orders.over_fulfilment", format!("of line {line} only {left} remain to be fulfilled"))
}

/// An edit would go below what was fulfilled.
pub(crate) fn below_fulfilled(line: u32, fulfilled: i64) -> Error {
    Error::failed_precondition(
        "orders.below_fulfilled",
        format!("of line {line} {fulfilled} were fulfilled already; it must keep its SKU and at least that quantity"),
    )
}

/// The customer has all the addresses that it may have.
pub(crate) fn too_many_addresses() -> Error {
    Error::failed_precondition("orders.too_many_addresses", format!("a customer has at most {} addresses", crate::customers::MAX_ADDRESSES))
}

/// Somebody changed it in between.
pub(crate) fn version_conflict() -> Error {
    Error::conflict("orders.version_conflict", "it was changed in the meantime; read it again")
}

/// No such return in this tenant.
pub(crate) fn return_not_found() -> Error {
    Error::not_found("orders.return_not_found", "there is no such return")
}

/// The return's state does not allow it.
pub(crate) fn return_not_allowed(state: ReturnState, verb: &str) -> Error {
    Error::failed_precondition("orders.return_not_allowed", format!("a return that is {} cannot be {verb}", state.as_str()))
}

/// More would come back than went out.
pub(crate) fn over_return(line: u32, left: i64) -> Error {
    Error::failed_precondition("orders.over_return", format!("of line {line} only {left} can come back"))
}

/// An order has as many returns as it may have.
pub(crate) fn too_many_returns(most: i64) -> Error {
    Error::failed_precondition("orders.too_many_returns", format!("an order has at most {most} returns"))
}

/// An inspection says of each line that came what becomes of all of it.
pub(crate) fn inspection_incomplete(line: u32, received: i64) -> Error {
    Error::failed_precondition(
        "orders.inspection_incomplete",
        format!("of line {line} {received} came: restock and write_off have to add up to that, and no more of it is refunded"),
    )
}

/// Nothing of the return is refunded.
pub(crate) fn nothing_to_refund() -> Error {
    Error::failed_precondition("orders.nothing_to_refund", "nothing of this return is refunded; close it instead")
}

/// The order can't take the place of what came back.
pub(crate) fn not_an_exchange() -> Error {
    Error::failed_precondition(
        "orders.not_an_exchange",
        "the other order has to be placed, and of the same customer and currency as the one whose goods came back",
    )
}

/// Another return was exchanged for the order.
pub(crate) fn already_exchanged() -> Error {
    Error::failed_precondition("orders.already_exchanged", "the other order has taken the place of another return")
}

/// The order must not go before somebody has looked at it.
pub(crate) fn on_hold(reason: &str) -> Error {
    Error::failed_precondition("orders.on_hold", format!("the order is on hold: {reason}"))
}

/// The order is not on hold.
pub(crate) fn not_on_hold() -> Error {
    Error::failed_precondition("orders.not_on_hold", "the order is not on hold")
}

/// More would have arrived than went out.
pub(crate) fn over_delivery(line: u32, under_way: i64) -> Error {
    Error::failed_precondition("orders.over_delivery", format!("of line {line} only {under_way} are under way"))
}

/// Everything that went out has arrived.
pub(crate) fn nothing_under_way() -> Error {
    Error::failed_precondition("orders.nothing_under_way", "nothing of this order is under way")
}

/// An order has as many remarks as it may have.
pub(crate) fn too_many_remarks(most: i64) -> Error {
    Error::failed_precondition("orders.too_many_remarks", format!("an order has at most {most} remarks"))
}
