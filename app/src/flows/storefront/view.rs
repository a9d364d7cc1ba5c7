//! A cart as its owner sees it: at today's prices, with what is different from what was last shown.

use super::facts::{Available, Facts, of_catalog, words};
use carts::api::{self as carts_api, Cart, CartKey, Destination, Diff, Difference, Line, Status};
use carts::{CartId, CustomerId, OrderId, VariantId};
use kernel::{Currency, Result, Timestamp, UnitPrice};
use serde::Serialize;
use store::Read;
use utoipa::ToSchema;
use web::{App, Caller};

/// A cart.
#[derive(Serialize, ToSchema)]
#[schema(as = ShopCart)]
pub(super) struct CartView {
    cart_id: CartId,
    /// Whose it is; null for a guest's.
    customer_id: Option<CustomerId>,
    /// Where it is in its life.
    status: Status,
    /// Rises with every change. `If-Match` and a checkout name it.
    version: i64,
    currency: Currency,
    email: Option<String>,
    destination: Option<Destination>,
    /// The shipping method that was chosen.
    shipping_method: Option<String>,
    /// Coupon codes, as they were typed.
    coupons: Vec<String>,
    /// In the order in which they were added.
    #[schema(max_items = 500)]
    lines: Vec<CartLineView>,
    /// What is different from what was last shown. `accept` takes the cart as it is now.
    #[schema(max_items = 1000)]
    differences: Vec<Difference>,
    /// Whether it can be checked out as it is: it is open, has lines, and nothing is different but lower prices.
    can_checkout: bool,
    /// The order that it became.
    order_id: Option<OrderId>,
    /// The cart that it went into, at sign-in.
    merged_into: Option<CartId>,
    /// When it is given up unless it is changed.
    expires_at: Timestamp,
}

/// A line.
#[derive(Serialize, ToSchema)]
#[schema(as = ShopCartLine)]
pub(super) struct CartLineView {
    /// Its number, from 1.
    line: u32,
    variant_id: VariantId,
    /// Null when there is no such variant any more.
    sku: Option<String>,
    title: String,
    quantity: i64,
    /// The list price of one unit that was last shown.
    seen_price: Option<UnitPrice>,
    /// The list price of one unit now; null when it is not sold any more.
    list_price: Option<UnitPrice>,
    /// Whether so many can be had now. It decides nothing: a checkout does.
    available: Available,
}

/// A cart that the caller may see, in one read. Errors: `carts.cart_not_found`.
pub(super) async fn of(app: &App, caller: &Caller, key: CartKey) -> Result<CartView> {
    app.read(caller, move |read| view(read, &key)).await
}

fn view(read: &mut Read<'_>, key: &CartKey) -> Result<CartView> {
    let cart = carts_api::load(read, key)?;
    let facts = Facts::of_cart(read, &cart)?;
    let open = cart.must_be_open(read.now()).is_ok();
    // What is over or being paid for is not held against today's catalog.
    let diff = if open { carts_api::revalidate(&cart, &facts.facts(&cart)) } else { Diff::default() };
    let can_checkout = open && !cart.lines.is_empty() && !diff.stops_checkout();
    let lines = (1..).zip(&cart.lines).map(|(number, line)| line_view(number, line, &cart, &facts)).collect();
    Ok(CartView {
        cart_id: cart.cart_id,
        customer_id: cart.customer_id,
        // One that is over by the clock says so before anybody has swept it.
        status: if cart.status.is_open() && !open { Status::Expired } else { cart.status },
        version: cart.version,
        currency: cart.currency,
        email: cart.email,
        destination: cart.destination,
        shipping_method: cart.shipping_method,
        coupons: cart.coupons,
        lines,
        differences: diff.differences,
        can_checkout,
        order_id: cart.order_id,
        merged_into: cart.merged_into,
        expires_at: cart.expires_at,
    })
}

fn line_view(number: u32, line: &Line, cart: &Cart, facts: &Facts) -> CartLineView {
    let snapshot = facts.snapshots.get(&of_catalog(line.variant_id));
    let available = facts.available(line.variant_id);
    CartLineView {
        line: number,
        variant_id: line.variant_id,
        sku: snapshot.map(|snapshot| snapshot.sku.clone()),
        title: line.title.clone(),
        quantity: line.quantity,
        seen_price: line.unit_price,
        list_price: snapshot.filter(|snapshot| snapshot.for_sale).and_then(|snapshot| snapshot.price_in(cart.currency)),
        available: if available.is_some_and(|available| available < line.quantity) { Available::No } else { words(available) },
    }
}
