//! A cart as its owner sees it: at today's prices, with what is different from what was last shown.

use super::facts::{Available, Facts, of_catalog, words};
use super::price::Unpriced;
use carts::api::{self as carts_api, Cart, CartKey, Destination, Diff, Difference, Line, Status};
use carts::{CartId, CustomerId, OrderId, VariantId};
use kernel::{Currency, ErrorKind, Result, Timestamp, UnitPrice};
use pricing::api::{Priced, Pricing};
use serde::Serialize;
use shipping::api::MethodQuote;
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
    /// What it comes to, with an explanation of each amount, at this moment and for this destination; its lines have the same numbers.
    /// Lines that are not sold any more are left out. Null when it can't be told: `pricing_problem` says why.
    pricing: Option<Priced>,
    /// Why there is no price: a code, such as `pricing.no_tax_rate`.
    pricing_problem: Option<PricingProblem>,
    /// The ways to ship it to its destination, the cheapest first.
    #[schema(max_items = 100)]
    shipping_methods: Vec<MethodQuote>,
    /// What is different from what was last shown. `accept` takes the cart as it is now.
    #[schema(max_items = 1000)]
    differences: Vec<Difference>,
    /// Whether it can be checked out as it is: it is open, has lines and a price, and nothing is different but lower prices.
    can_checkout: bool,
    /// The order that it became.
    order_id: Option<OrderId>,
    /// The cart that it went into, at sign-in.
    merged_into: Option<CartId>,
    /// When it is given up unless it is changed.
    expires_at: Timestamp,
}

/// Why a cart has no price.
#[derive(Serialize, ToSchema)]
pub(super) struct PricingProblem {
    /// As in problems.
    code: &'static str,
    /// For people.
    detail: String,
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

/// A cart with what has to be known to show it.
struct Known {
    cart: Cart,
    facts: Facts,
    /// None for one that is over or being paid for: what it comes to was decided.
    unpriced: Option<Result<Unpriced>>,
    /// Whether it can be changed.
    open: bool,
}

/// Leaves out promotions that do not hold, except those whose code was given: the shop's plans are nobody's business.
fn keep_own(priced: &mut Priced) {
    let Priced { not_applied, coupons, .. } = priced;
    not_applied.retain(|of| coupons.iter().any(|coupon| coupon.promotion_id == Some(of.promotion_id)));
}

/// A cart that the caller may see, in one read. Errors: `carts.cart_not_found`.
pub(super) async fn of(app: &App, caller: &Caller, key: CartKey) -> Result<CartView> {
    let pricing = app.part::<Pricing>().clone();
    let known = app.read(caller, move |read| know(read, &pricing, &key)).await?;
    let rates = shipping::api::cached_rates(app, caller).await?;
    let Known { cart, facts, unpriced, open } = known;
    let priced = unpriced.map(|unpriced| unpriced.and_then(|unpriced| unpriced.price(&rates, &cart))).transpose();
    let (pricing, pricing_problem, methods) = match priced {
        Ok(priced) => {
            let (mut priced, methods) = priced.unzip();
            priced.iter_mut().for_each(keep_own);
            (priced, None, methods.unwrap_or_default())
        }
        // What is wrong with the tenant's rules or the cart is told; what is wrong with this server is an error.
        Err(error)
            if matches!(error.kind(), ErrorKind::Invalid | ErrorKind::FailedPrecondition | ErrorKind::NotFound | ErrorKind::Conflict) =>
        {
            (None, Some(PricingProblem { code: error.code(), detail: error.detail().to_owned() }), Vec::new())
        }
        Err(error) => return Err(error),
    };
    // What is over or being paid for is not held against today's catalog.
    let diff = if open { carts_api::revalidate(&cart, &facts.facts(&cart)) } else { Diff::default() };
    let can_checkout = open && !cart.lines.is_empty() && pricing.is_some() && !diff.stops_checkout();
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
        pricing,
        pricing_problem,
        shipping_methods: methods,
        differences: diff.differences,
        can_checkout,
        order_id: cart.order_id,
        merged_into: cart.merged_into,
        expires_at: cart.expires_at,
    })
}

fn know(read: &mut Read<'_>, pricing: &Pricing, key: &CartKey) -> Result<Known> {
    let cart = carts_api::load(read, key)?;
    let facts = Facts::of_cart(read, &cart)?;
    let open = cart.must_be_open(read.now()).is_ok();
    let unpriced = open.then(|| Unpriced::of(read, pricing, &cart, &facts));
    Ok(Known { cart, facts, unpriced, open })
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
