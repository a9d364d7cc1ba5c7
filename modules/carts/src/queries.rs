//! Reads.

use crate::error;
use crate::model::{Cart, CartId, CustomerId, Settings, Status};
use crate::sql::{self, Head};
use crate::token::TokenHash;
use kernel::{PageRequest, Result};
use store::Read;

/// By what right somebody reaches a cart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// By one of its tokens.
    Token(TokenHash),
    /// By the caller's own rights in the tenant, or for a saga that was let in before.
    Staff,
}

/// Which cart, and by what right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CartKey {
    /// Which.
    pub cart_id: CartId,
    /// By what right.
    pub proof: Proof,
}

impl CartKey {
    /// A cart by one of its tokens, as its holder sends it.
    pub fn by_token(cart_id: CartId, token: &str) -> CartKey {
        CartKey { cart_id, proof: Proof::Token(TokenHash::of(token)) }
    }

    /// Any cart of the tenant.
    pub fn staff(cart_id: CartId) -> CartKey {
        CartKey { cart_id, proof: Proof::Staff }
    }
}

/// A cart without its lines: one point read. Errors: `carts.cart_not_found`, also for somebody else's.
pub(crate) fn head(read: &mut Read<'_>, key: &CartKey) -> Result<Head> {
    let found: Option<Head> = read.opt(sql::CART, (key.cart_id,))?;
    let mine = |head: &Head| match key.proof {
        Proof::Token(hash) => hash.is_among(&head.tokens),
        Proof::Staff => true,
    };
    found.filter(mine).ok_or_else(error::cart_not_found)
}

/// A cart with its lines, wherever it stands in its life: two point reads.
/// Errors: `carts.cart_not_found`, also for somebody else's.
pub fn load(read: &mut Read<'_>, key: &CartKey) -> Result<Cart> {
    let head = head(read, key)?;
    with_lines(read, head.cart)
}

pub(crate) fn with_lines(read: &mut Read<'_>, mut cart: Cart) -> Result<Cart> {
    // An empty one needs no second look.
    if cart.line_count > 0 {
        cart.lines = read.all(sql::LINES, (cart.cart_id,))?;
    }
    Ok(cart)
}

/// The cart of a customer that is not over, without its lines.
pub(crate) fn head_of_customer(read: &mut Read<'_>, customer_id: CustomerId) -> Result<Option<Head>> {
    read.opt(sql::CART_OF_CUSTOMER, (customer_id,))
}

/// Which carts a list shows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CartFilter {
    /// Only these.
    pub status: Option<Status>,
    /// Only this customer's.
    pub customer_id: Option<CustomerId>,
}

/// Up to one cart more than the page holds, the newest first, without lines.
pub(crate) fn carts(read: &mut Read<'_>, filter: CartFilter, page: &PageRequest<CartId>) -> Result<Vec<Cart>> {
    let before = page.after.unwrap_or(CartId::from_i64(i64::MAX));
    let limit = page.limit + 1;
    let heads: Vec<Head> = match (filter.customer_id, filter.status) {
        (Some(customer_id), status) => read.all(sql::CARTS_OF_CUSTOMER, (before, limit, customer_id, status))?,
        (None, Some(status)) => read.all(sql::CARTS_IN_STATUS, (before, limit, status))?,
        (None, None) => read.all(sql::CARTS, (before, limit))?,
    };
    Ok(heads.into_iter().map(|head| head.cart).collect())
}

/// How long the tenant keeps carts, and the version of that; 1 as long as it was never set.
pub(crate) fn settings(read: &mut Read<'_>) -> Result<(Settings, i64)> {
    let row: Option<(i64, i64, i64, i64)> = read.opt(sql::SETTINGS, ())?;
    Ok(row.map_or((Settings::default(), 1), |(guest_days, customer_days, abandoned_after_minutes, version)| {
        (Settings { guest_days, customer_days, abandoned_after_minutes }, version)
    }))
}
