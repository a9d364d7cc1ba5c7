//! What changes carts. Each command reads, decides and writes; asking for what is there already changes nothing.

use crate::merge::merge;
use crate::model::{Cart, CartId, Change, CustomerId, KEPT_MS, Line, MAX_TOKENS, OrderId, REOPENED_MS, Settings, Status};
use crate::queries::{self, CartKey};
use crate::sql::{self, Head};
use crate::token::TokenHash;
use crate::{error, events, workflows};
use kernel::{Currency, Result, Timestamp};
use serde::{Deserialize, Serialize};
use store::Tx;
use web::IfMatch;

/// A guest's cart to be made.
#[derive(Clone, Debug)]
pub struct NewCart {
    /// The hash of the token that opens it.
    pub token: TokenHash,
    /// Of its prices; it never changes.
    pub currency: Currency,
    /// What is in it from the start.
    pub change: Change,
}

/// Makes a guest's cart. One read.
/// Errors: `request.invalid`, `carts.line_not_found`, `carts.too_many_lines`, `carts.quantity_limit`.
pub fn create(tx: &mut Tx<'_>, new: &NewCart) -> Result<Cart> {
    new.change.check()?;
    let (kept, _) = queries::settings(tx)?;
    let mut cart = blank(tx, None, new.currency, kept);
    cart.apply(&new.change)?;
    insert(tx, &cart, &new.token.0)?;
    Ok(cart)
}

fn blank(tx: &Tx<'_>, customer_id: Option<CustomerId>, currency: Currency, kept: Settings) -> Cart {
    let now = tx.now();
    Cart {
        cart_id: tx.new_id(),
        customer_id,
        status: Status::Open,
        currency,
        email: None,
        destination: None,
        shipping_method: None,
        coupons: Vec::new(),
        line_count: 0,
        lines: Vec::new(),
        version: 1,
        attempts: 0,
        order_id: None,
        merged_into: None,
        created_at: now,
        changed_at: now,
        expires_at: kept.expiry(customer_id, now),
        abandoned_at: None,
        kept,
    }
}

fn insert(tx: &mut Tx<'_>, cart: &Cart, tokens: &[u8]) -> Result<()> {
    let next_at = cart.kept.abandonment(cart.created_at).min(cart.expires_at);
    let (destination, coupons) = (sql::destination_to_json(cart.destination.as_ref()), sql::coupons_to_json(&cart.coupons));
    let details = (&cart.email, destination, &cart.shipping_method, coupons);
    tx.exec(
        sql::INSERT_CART,
        (
            cart.cart_id,
            cart.customer_id,
            tokens,
            cart.currency,
            details.0,
            details.1,
            details.2,
            details.3,
            cart.line_count,
            cart.created_at,
            cart.expires_at,
            next_at,
        ),
    )?;
    put_lines(tx, cart.cart_id, cart.lines.iter())?;
    workflows::begin(tx, next_at)
}

fn put_lines<'l>(tx: &mut Tx<'_>, cart_id: CartId, lines: impl Iterator<Item = &'l Line>) -> Result<()> {
    tx.exec_each(sql::PUT_LINE, lines.map(|line| (cart_id, line.variant_id, line.place, line.quantity, &line.title, line.unit_price)))
}

/// A change of a cart.
#[derive(Clone, Debug)]
pub struct ChangeCart {
    /// Which, and by what right.
    pub key: CartKey,
    /// The version that the caller has seen, if it insists on it.
    pub if_match: IfMatch,
    /// What.
    pub change: Change,
}

/// Changes a cart. Two point reads, and a statement for the cart and for each line that differs.
/// Errors: `request.invalid`, `carts.cart_not_found`, `request.precondition_failed`, `carts.expired`, `carts.checking_out`, `carts.ordered`,
/// `carts.merged`, `carts.line_not_found`, `carts.too_many_lines`, `carts.quantity_limit`.
pub fn change(tx: &mut Tx<'_>, asked: &ChangeCart) -> Result<Cart> {
    asked.change.check()?;
    let cart = queries::load(tx, &asked.key)?;
    change_loaded(tx, cart, asked.if_match, &asked.change)
}

/// The same of a cart that was loaded in this transaction, for a flow that has looked at it to say what is to be changed.
pub fn change_loaded(tx: &mut Tx<'_>, mut cart: Cart, if_match: IfMatch, change: &Change) -> Result<Cart> {
    change.check()?;
    cart.must_be_open(tx.now())?;
    if_match.check(cart.version)?;
    let applied = cart.apply(change)?;
    if !applied.any {
        return Ok(cart);
    }
    touch(tx, &mut cart)?;
    let written = applied.written.iter().filter_map(|variant_id| cart.line(*variant_id));
    put_lines(tx, cart.cart_id, written)?;
    tx.exec_each(sql::DELETE_LINE, applied.removed.iter().map(|variant_id| (cart.cart_id, *variant_id)))?;
    Ok(cart)
}

/// Writes an open cart's next version, as it is but for its lines. It is open again, and its time begins anew.
fn touch(tx: &mut Tx<'_>, cart: &mut Cart) -> Result<()> {
    let seen = cart.version;
    cart.version += 1;
    cart.status = Status::Open;
    cart.changed_at = tx.now();
    cart.expires_at = cart.kept.expiry(cart.customer_id, cart.changed_at);
    let (destination, coupons) = (sql::destination_to_json(cart.destination.as_ref()), sql::coupons_to_json(&cart.coupons));
    let key = (cart.cart_id, seen);
    tx.must(
        sql::UPDATE_CART,
        (key.0, key.1, &cart.email, destination, &cart.shipping_method, coupons, cart.line_count, cart.changed_at, cart.expires_at),
        error::changed,
    )
}

/// A customer who signs in, perhaps with a guest's cart in hand.
#[derive(Clone, Debug)]
pub struct SignIn {
    /// Whose identity the caller has made sure of.
    pub customer_id: CustomerId,
    /// The guest's cart, and by what right.
    pub guest: Option<CartKey>,
    /// The hash of a fresh token that opens the customer's cart from now on, beside those that it had.
    pub token: TokenHash,
    /// Of the customer's cart when it has to be made and there is no guest's.
    pub currency: Currency,
}

/// What a sign-in came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SignedIn {
    /// The customer's cart.
    pub cart: Cart,
    /// Whether the guest's cart went into it just now.
    pub merged: bool,
    /// How many of the guest's lines found no room in it.
    pub left_out: usize,
}

/// Gives a customer its cart, which is made when there is none, and adds a guest's to it. Repeated, it merges nothing again; a guest's
/// cart that is over (an order, expired) has nothing to merge.
/// Errors: `carts.cart_not_found` for the guest's; `carts.not_a_guests`, `carts.merged` when it went to another customer,
/// `carts.checking_out` when either is being paid for and there is something to merge.
pub fn sign_in(tx: &mut Tx<'_>, asked: &SignIn) -> Result<SignedIn> {
    let now = tx.now();
    let own = queries::head_of_customer(tx, asked.customer_id)?;
    let guest = match &asked.guest {
        Some(key) => mergeable(tx, key, asked.customer_id)?,
        None => None,
    };
    // One whose time is over makes room at once.
    let own = match own {
        Some(head) if head.cart.status.is_open() && head.cart.expires_at <= now => {
            expire(tx, head.cart.cart_id)?;
            None
        }
        own => own,
    };
    let Some(guest) = guest else {
        let cart = match own {
            Some(Head { cart, tokens }) => {
                add_token(tx, cart.cart_id, tokens, &asked.token)?;
                queries::with_lines(tx, cart)?
            }
            None => {
                let (kept, _) = queries::settings(tx)?;
                let cart = blank(tx, Some(asked.customer_id), asked.currency, kept);
                insert(tx, &cart, &asked.token.0)?;
                cart
            }
        };
        return Ok(SignedIn { cart, merged: false, left_out: 0 });
    };
    let (cart, left_out) = match own {
        Some(Head { cart, tokens }) => {
            cart.must_be_open(now)?;
            let mut cart = queries::with_lines(tx, cart)?;
            let merge = merge(&mut cart, &guest);
            touch(tx, &mut cart)?;
            put_lines(tx, cart.cart_id, merge.written.iter().filter_map(|variant_id| cart.line(*variant_id)))?;
            add_token(tx, cart.cart_id, tokens, &asked.token)?;
            (cart, merge.left_out)
        }
        None => {
            let mut cart = blank(tx, Some(asked.customer_id), guest.currency, guest.kept);
            let merge = merge(&mut cart, &guest);
            insert(tx, &cart, &asked.token.0)?;
            (cart, merge.left_out)
        }
    };
    tx.must(sql::MERGED, (guest.cart_id, cart.cart_id, now.plus_ms(KEPT_MS)), error::changed)?;
    tx.emit(events::merged(&cart, guest.cart_id, left_out));
    Ok(SignedIn { cart, merged: true, left_out })
}

/// A guest's cart with its lines, if there is something to merge.
fn mergeable(tx: &mut Tx<'_>, key: &CartKey, customer_id: CustomerId) -> Result<Option<Cart>> {
    let guest = queries::load(tx, key)?;
    if guest.customer_id == Some(customer_id) {
        // The client sends the token that an earlier sign-in gave it.
        return Ok(None);
    }
    if guest.customer_id.is_some() {
        return Err(error::not_a_guests());
    }
    match (guest.status, guest.merged_into) {
        (Status::Merged, Some(into)) => {
            // What it went into may be forgotten by now.
            let into: Option<Head> = tx.opt(sql::CART, (into,))?;
            match into {
                Some(into) if into.cart.customer_id != Some(customer_id) => Err(error::merged_elsewhere()),
                _ => Ok(None),
            }
        }
        (Status::CheckingOut, _) => Err(error::not_open(Status::CheckingOut)),
        (status, _) => Ok((status.is_open() && guest.expires_at > tx.now()).then_some(guest)),
    }
}

fn add_token(tx: &mut Tx<'_>, cart_id: CartId, mut tokens: Vec<u8>, new: &TokenHash) -> Result<()> {
    if new.is_among(&tokens) {
        return Ok(());
    }
    tokens.extend_from_slice(&new.0);
    let surplus = (tokens.len() / 32).saturating_sub(MAX_TOKENS);
    tx.exec(sql::SET_TOKENS, (cart_id, &tokens[surplus * 32..]))
}

/// Whether a checkout of a cart may begin. Errors: those of [`begin_checkout`].
pub fn may_check_out(cart: &Cart, seen_version: i64, now: Timestamp) -> Result<()> {
    cart.must_be_open(now)?;
    if cart.version != seen_version {
        return Err(error::changed());
    }
    if cart.line_count == 0 { Err(error::empty()) } else { Ok(()) }
}

/// Begins a checkout of a cart that was loaded in this transaction: from now on it can't be changed until [`reopen`]. One statement.
/// `attempts` rises, and tells this checkout from earlier ones that failed.
/// Errors: `carts.expired`, `carts.checking_out`, `carts.ordered`, `carts.merged`, `carts.empty`, `carts.changed` when the version is not
/// the one that the shopper saw.
pub fn begin_checkout(tx: &mut Tx<'_>, cart: &mut Cart, seen_version: i64) -> Result<()> {
    may_check_out(cart, seen_version, tx.now())?;
    tx.must(sql::BEGIN_CHECKOUT, (cart.cart_id, seen_version), error::changed)?;
    (cart.status, cart.attempts) = (Status::CheckingOut, cart.attempts + 1);
    Ok(())
}

/// The cart is this order. Repeated for the same order it does nothing. One statement, without waiting.
/// Errors: `carts.not_checking_out`.
pub fn ordered(tx: &mut Tx<'_>, cart_id: CartId, order_id: OrderId) -> Result<()> {
    let forgotten = tx.now().plus_ms(KEPT_MS);
    tx.must(sql::ORDERED, (cart_id, order_id, forgotten), error::not_checking_out)
}

/// The checkout that made `attempt` of the cart's attempts has failed: the cart can be changed again, for a day at least. Does nothing
/// when it is not being checked out any more, or by another attempt. One statement, without waiting.
pub fn reopen(tx: &mut Tx<'_>, cart_id: CartId, attempt: i64) -> Result<()> {
    let now = tx.now();
    tx.exec(sql::REOPEN, (cart_id, attempt, now, now.plus_ms(REOPENED_MS)))
}

/// Gives a cart up: what it told of a person is removed, its lines too.
pub(crate) fn expire(tx: &mut Tx<'_>, cart_id: CartId) -> Result<()> {
    let forgotten = tx.now().plus_ms(KEPT_MS);
    tx.exec(sql::EXPIRE, (cart_id, forgotten))?;
    tx.exec(sql::DELETE_LINES, (cart_id,))
}

/// Settings to be set.
#[derive(Clone, Debug)]
pub(crate) struct SetSettings {
    /// The version that the caller has seen, if it insists on it.
    pub if_match: IfMatch,
    /// What.
    pub settings: Settings,
}

/// Sets how long carts are kept; it holds for each from its next change on. Gives the new version.
/// Errors: `request.invalid`, `request.precondition_failed`.
pub(crate) fn set_settings(tx: &mut Tx<'_>, asked: &SetSettings) -> Result<(Settings, i64)> {
    asked.settings.check()?;
    let (current, version) = queries::settings(tx)?;
    asked.if_match.check(version)?;
    if current == asked.settings {
        return Ok((current, version));
    }
    let Settings { guest_days, customer_days, abandoned_after_minutes } = asked.settings;
    tx.exec(sql::PUT_SETTINGS, (guest_days, customer_days, abandoned_after_minutes, version + 1))?;
    Ok((asked.settings, version + 1))
}
