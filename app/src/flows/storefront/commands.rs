//! What a shopper does to a cart: the cart's own commands, with what the catalog and the stock say in the same transaction.

use super::facts::Facts;
use carts::VariantId;
use carts::api::{self as carts_api, Cart, CartKey, Change, LineEdit, NewCart, TokenHash};
use kernel::{Currency, Error, FieldError, Result, UnitPrice};
use store::Tx;
use web::IfMatch;

/// A variant to put into a cart.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub variant_id: VariantId,
    pub quantity: i64,
    /// The price that the shopper saw, if the page insists on it.
    pub seen_price: Option<UnitPrice>,
}

/// Turns what is wanted into edits, at today's prices. The fields are named as in a list when there are several.
/// Errors: `request.invalid` for what is not for sale; `storefront.price_changed`.
fn edits(tx: &mut Tx<'_>, currency: Currency, wanted: &[Wanted], listed: bool) -> Result<Vec<LineEdit>> {
    // More than a cart holds is refused by the cart, before anything is looked up.
    if wanted.len() > carts_api::MAX_LINES {
        let limit = format!("at most {} lines", carts_api::MAX_LINES);
        return Err(Error::field("lines", "too_many", limit));
    }
    let named = |i: usize, field: &str| if listed { format!("lines[{i}].{field}") } else { field.to_owned() };
    let mut wrong = Vec::new();
    for (i, line) in wanted.iter().enumerate() {
        if let Err((code, detail)) = carts_api::check_quantity(line.quantity) {
            wrong.push(FieldError { field: named(i, "quantity"), code, detail });
        }
    }
    let variants: Vec<VariantId> = wanted.iter().map(|w| w.variant_id).collect();
    let facts = Facts::of(tx, &variants)?;
    let mut edits = Vec::with_capacity(wanted.len());
    for (i, Wanted { variant_id, quantity, seen_price }) in wanted.iter().enumerate() {
        let known = facts.snapshots.contains_key(&super::facts::of_catalog(*variant_id));
        let Some(seen) = facts.seen(*variant_id, currency) else {
            let (code, detail) = if known {
                ("not_sold", format!("it is not for sale, or not in {currency}"))
            } else {
                ("unknown", "there is no such variant".to_owned())
            };
            wrong.push(FieldError { field: named(i, "variant_id"), code, detail });
            continue;
        };
        if let (Some(expected), Some(now), true) = (seen_price, seen.unit_price, wrong.is_empty())
            && *expected < now
        {
            let detail = format!("{} costs {now} {currency} now, not {expected}", seen.title);
            return Err(Error::conflict("storefront.price_changed", detail));
        }
        edits.push(LineEdit::Add { variant_id: *variant_id, quantity: *quantity, seen });
    }
    Error::fields(wrong).map(|()| edits)
}

/// A cart to be made.
#[derive(Clone, Debug)]
pub(super) struct CreateCart {
    pub token: TokenHash,
    pub currency: Currency,
    pub wanted: Vec<Wanted>,
    /// E-mail, destination, shipping method and coupons.
    pub details: Change,
}

pub(super) fn create(tx: &mut Tx<'_>, asked: &CreateCart) -> Result<Cart> {
    let lines = edits(tx, asked.currency, &asked.wanted, true)?;
    let change = Change { lines, ..asked.details.clone() };
    carts_api::create(tx, &NewCart { token: asked.token, currency: asked.currency, change })
}

/// Variants to put into a cart.
#[derive(Clone, Debug)]
pub(super) struct AddLines {
    pub key: CartKey,
    pub if_match: IfMatch,
    pub wanted: Vec<Wanted>,
}

pub(super) fn add_lines(tx: &mut Tx<'_>, asked: &AddLines) -> Result<Cart> {
    let cart = carts_api::load(tx, &asked.key)?;
    cart.must_be_open(tx.now())?;
    let lines = edits(tx, cart.currency, &asked.wanted, false)?;
    carts_api::change_loaded(tx, cart, asked.if_match, &Change { lines, ..Change::default() })
}

/// Codes to add to a cart's, or to take away.
#[derive(Clone, Debug)]
pub(super) struct Coupon {
    pub key: CartKey,
    pub if_match: IfMatch,
    pub code: String,
    /// Whether it is added.
    pub add: bool,
}

pub(super) fn coupon(tx: &mut Tx<'_>, asked: &Coupon) -> Result<Cart> {
    if asked.add {
        carts_api::check_coupon(&asked.code).map_err(|(code, detail)| Error::field("code", code, detail))?;
    }
    let cart = carts_api::load(tx, &asked.key)?;
    let mut codes = cart.coupons.clone();
    match codes.iter().position(|code| *code == asked.code) {
        None if asked.add => codes.push(asked.code.clone()),
        None => return Err(Error::not_found("storefront.coupon_not_found", "the cart has no such code")),
        Some(_) if asked.add => {}
        Some(at) => drop(codes.remove(at)),
    }
    carts_api::change_loaded(tx, cart, asked.if_match, &Change { coupons: Some(codes), ..Change::default() })
}

/// A cart whose owner has seen what is different and agrees.
#[derive(Clone, Debug)]
pub(super) struct Accept {
    pub key: CartKey,
    pub if_match: IfMatch,
}

pub(super) fn accept(tx: &mut Tx<'_>, asked: &Accept) -> Result<Cart> {
    let cart = carts_api::load(tx, &asked.key)?;
    cart.must_be_open(tx.now())?;
    let facts = Facts::of_cart(tx, &cart)?.facts(&cart);
    let lines = carts_api::settle(&cart, &facts);
    carts_api::change_loaded(tx, cart, asked.if_match, &Change { lines, ..Change::default() })
}
