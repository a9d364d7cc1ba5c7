//! Why carts refuses: one function for each stable code, each with its entry in docs/problems.md.

use crate::model::{MAX_LINES, MAX_QUANTITY, Status};
use kernel::Error;

/// No such cart, or not the caller's.
pub(crate) fn cart_not_found() -> Error {
    Error::not_found("carts.cart_not_found", "there is no such cart, or its token is another one")
}

/// The variant is not in the cart.
pub(crate) fn line_not_found() -> Error {
    Error::not_found("carts.line_not_found", "the cart has no line of this variant")
}

/// Why a cart can't be changed or checked out where it stands.
pub(crate) fn not_open(status: Status) -> Error {
    match status {
        Status::CheckingOut => Error::failed_precondition("carts.checking_out", "the cart is being paid for; it opens again if that fails"),
        Status::Ordered => Error::failed_precondition("carts.ordered", "the cart is an order already"),
        Status::Merged => Error::failed_precondition("carts.merged", "the cart went into its customer's cart"),
        Status::Open | Status::Abandoned | Status::Expired => expired(),
    }
}

/// Nobody changed it for too long.
pub(crate) fn expired() -> Error {
    Error::failed_precondition("carts.expired", "nobody changed the cart for so long that it was given up; begin another one")
}

/// The version that was seen is not the current one.
pub(crate) fn changed() -> Error {
    Error::conflict("carts.changed", "the cart changed since the version that was seen; look at it again")
}

/// There is nothing to buy.
pub(crate) fn empty() -> Error {
    Error::failed_precondition("carts.empty", "the cart has no lines")
}

/// It is not being checked out, or is another order's.
pub(crate) fn not_checking_out() -> Error {
    Error::failed_precondition("carts.not_checking_out", "no checkout of this cart is under way, or it is another order's")
}

/// One line too many.
pub(crate) fn too_many_lines() -> Error {
    Error::failed_precondition("carts.too_many_lines", format!("a cart has at most {MAX_LINES} lines"))
}

/// Together it would be too many.
pub(crate) fn quantity_limit() -> Error {
    Error::failed_precondition("carts.quantity_limit", format!("a line has at most {MAX_QUANTITY} units, with those that it had already"))
}

/// The guest's cart went to somebody else.
pub(crate) fn merged_elsewhere() -> Error {
    Error::failed_precondition("carts.merged", "the guest's cart went into another customer's cart")
}

/// Only guests' carts are merged.
pub(crate) fn not_a_guests() -> Error {
    Error::failed_precondition("carts.not_a_guests", "this is a customer's cart already; only a guest's can be merged")
}
