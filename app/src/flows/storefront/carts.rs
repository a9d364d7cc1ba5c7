//! Carts, as shoppers use them: reached by a token that is shown once, and told with today's prices and what is different from before.

use super::commands::{self, Accept, AddLines, Coupon, CreateCart, Wanted};
use super::products::currency_of;
use super::view::{self, CartView};
use axum::Json;
use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use carts::api::{self as carts_api, CartKey, Change, ChangeCart, Destination, LineEdit, MAX_COUPONS, Proof, SignIn, TokenHash};
use carts::{CartId, CustomerId, VariantId};
use kernel::{Currency, Error, UnitPrice};
use orders::api as order_api;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use web::{App, Body, Caller, IfMatch, Keyed, Params, Problem, Result};

/// What opens any cart of the tenant without its token.
const ANY_CART: &str = "carts.write";
/// Longer tokens don't exist.
const MAX_TOKEN: usize = 100;

/// The token of a cart, by the header `Cart-Token`.
pub(super) struct CartToken(Option<String>);

impl<S: Sync> axum::extract::FromRequestParts<S> for CartToken {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> std::result::Result<Self, Problem> {
        let mut values = parts.headers.get_all("cart-token").iter();
        let Some(value) = values.next() else { return Ok(CartToken(None)) };
        let text = value.to_str().ok().filter(|text| text.len() <= MAX_TOKEN && values.next().is_none());
        let wrong = || Error::field("Cart-Token", "invalid", "the token that came with the cart when it was made");
        Ok(CartToken(Some(text.ok_or_else(wrong)?.to_owned())))
    }
}

/// By what right the caller reaches a cart: by its token, or, with `carts.write`, any of its tenant.
fn key(caller: &Caller, cart_id: CartId, token: &CartToken) -> kernel::Result<CartKey> {
    match &token.0 {
        Some(token) => Ok(CartKey::by_token(cart_id, token)),
        None if caller.has(ANY_CART) => Ok(CartKey::staff(cart_id)),
        None => Err(Error::field("Cart-Token", "required", "the token that came with the cart when it was made")),
    }
}

/// An answer about one shopper, which is kept nowhere.
pub(super) struct Private<T>(T);

impl<T: IntoResponse> IntoResponse for Private<T> {
    fn into_response(self) -> Response {
        let mut response = self.0.into_response();
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// A variant to put into a cart.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewCartLine {
    /// The variant.
    variant_id: VariantId,
    /// How many more; 1 to 1,000,000.
    #[schema(minimum = 1, maximum = 1000000)]
    quantity: i64,
    /// The price that the page showed: if it is higher now, nothing is added.
    #[serde(default)]
    seen_price: Option<UnitPrice>,
}

impl From<NewCartLine> for Wanted {
    fn from(NewCartLine { variant_id, quantity, seen_price }: NewCartLine) -> Wanted {
        Wanted { variant_id, quantity, seen_price }
    }
}

/// A cart to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewShopCart {
    /// Of its prices, for good; the shop's own unless said.
    #[serde(default)]
    currency: Option<Currency>,
    /// What is in it.
    #[serde(default)]
    #[schema(max_items = 500)]
    lines: Vec<NewCartLine>,
    /// Where the confirmation goes.
    #[serde(default)]
    #[schema(min_length = 3, max_length = 254)]
    email: Option<String>,
    /// Where it is to be sent.
    #[serde(default)]
    destination: Option<Destination>,
}

/// A new cart.
#[derive(Serialize, ToSchema)]
pub(super) struct CartMade {
    /// The cart.
    #[serde(flatten)]
    cart: CartView,
    /// What opens it, in the header `Cart-Token`; shown this once, and null when the answer is a replay.
    token: Option<String>,
}

/// Makes a guest's cart. Its token is shown this once.
#[utoipa::path(post, path = "/api/v1/storefront/carts", tag = "storefront", request_body = NewShopCart,
    responses((status = 201, body = CartMade), (status = 409, description = "`storefront.price_changed`, `carts.quantity_limit`")))]
pub(super) async fn create_shop_cart(State(app): State<App>, caller: Caller, new: Keyed<NewShopCart>) -> Result<Response> {
    let NewShopCart { currency, lines, email, destination } = new.body;
    let token = carts_api::new_token(&**app.rng());
    let details = Change { email: email.map(Some), destination: destination.map(Some), ..Change::default() };
    let create = CreateCart {
        token: TokenHash::of(&token),
        currency: currency_of(&app, &caller, currency).await?,
        wanted: lines.into_iter().map(Wanted::from).collect(),
        details,
    };
    let once = app.submit(&caller, new.key, commands::create, create).await?;
    // The stored answer of an idempotency key holds no secret.
    let token = (!once.replayed).then_some(token);
    let cart_id = once.value.cart_id;
    let made = CartMade { cart: view::of(&app, &caller, CartKey::staff(cart_id)).await?, token };
    Ok(Private(web::Created(format!("/api/v1/storefront/carts/{cart_id}"), made)).into_response())
}

/// A cart at today's prices, with what is different from what its owner was last shown. It is made anew each time, so it has no `ETag`:
/// its `version` is what `If-Match` names.
#[utoipa::path(get, path = "/api/v1/storefront/carts/{cart_id}", tag = "storefront",
    params(("cart_id" = CartId, Path), ("Cart-Token" = Option<String>, Header, description = "The cart's token; needed with a publishable key")),
    responses((status = 200, body = CartView)))]
pub(super) async fn get_shop_cart(
    State(app): State<App>,
    caller: Caller,
    Params(cart_id): Params<CartId>,
    token: CartToken,
) -> Result<Private<Json<CartView>>> {
    shown(&app, &caller, key(&caller, cart_id, &token)?).await
}

async fn shown(app: &App, caller: &Caller, key: CartKey) -> Result<Private<Json<CartView>>> {
    Ok(Private(Json(view::of(app, caller, key).await?)))
}

/// Puts so many more of a variant into a cart.
#[utoipa::path(post, path = "/api/v1/storefront/carts/{cart_id}/lines", tag = "storefront",
    params(("cart_id" = CartId, Path), ("Cart-Token" = Option<String>, Header), ("If-Match" = Option<String>, Header, description = "The version that was seen, such as `\"3\"`")),
    request_body = NewCartLine,
    responses((status = 200, body = CartView), (status = 409, description = "`storefront.price_changed`, `carts.*`"), (status = 412, description = "Changed since the version in `If-Match`")))]
pub(super) async fn add_cart_line(
    State(app): State<App>,
    caller: Caller,
    Params(cart_id): Params<CartId>,
    token: CartToken,
    if_match: IfMatch,
    line: Keyed<NewCartLine>,
) -> Result<Private<Json<CartView>>> {
    let key = key(&caller, cart_id, &token)?;
    app.submit(&caller, line.key, commands::add_lines, AddLines { key, if_match, wanted: vec![line.body.into()] }).await?;
    shown(&app, &caller, key).await
}

/// How many.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CartQuantity {
    /// 1 to 1,000,000; a line is taken out by DELETE.
    #[schema(minimum = 1, maximum = 1000000)]
    quantity: i64,
}

/// Sets how many of a variant that is in the cart.
#[utoipa::path(put, path = "/api/v1/storefront/carts/{cart_id}/lines/{variant_id}", tag = "storefront",
    params(("cart_id" = CartId, Path), ("variant_id" = VariantId, Path), ("Cart-Token" = Option<String>, Header), ("If-Match" = Option<String>, Header)),
    request_body = CartQuantity,
    responses((status = 200, body = CartView), (status = 409, description = "`carts.*`"), (status = 412, description = "Changed since the version in `If-Match`")))]
pub(super) async fn set_cart_line(
    State(app): State<App>,
    caller: Caller,
    Params((cart_id, variant_id)): Params<(CartId, VariantId)>,
    token: CartToken,
    if_match: IfMatch,
    Body(CartQuantity { quantity }): Body<CartQuantity>,
) -> Result<Private<Json<CartView>>> {
    let key = key(&caller, cart_id, &token)?;
    changed(&app, &caller, key, if_match, LineEdit::Set { variant_id, quantity, seen: None }).await
}

/// Takes a variant out of a cart.
#[utoipa::path(delete, path = "/api/v1/storefront/carts/{cart_id}/lines/{variant_id}", tag = "storefront",
    params(("cart_id" = CartId, Path), ("variant_id" = VariantId, Path), ("Cart-Token" = Option<String>, Header), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = CartView), (status = 409, description = "`carts.*`"), (status = 412, description = "Changed since the version in `If-Match`")))]
pub(super) async fn remove_cart_line(
    State(app): State<App>,
    caller: Caller,
    Params((cart_id, variant_id)): Params<(CartId, VariantId)>,
    token: CartToken,
    if_match: IfMatch,
) -> Result<Private<Json<CartView>>> {
    let key = key(&caller, cart_id, &token)?;
    changed(&app, &caller, key, if_match, LineEdit::Remove(variant_id)).await
}

async fn changed(app: &App, caller: &Caller, key: CartKey, if_match: IfMatch, edit: LineEdit) -> Result<Private<Json<CartView>>> {
    let change = Change { lines: vec![edit], ..Change::default() };
    app.submit(caller, None, carts_api::change, ChangeCart { key, if_match, change }).await?;
    shown(app, caller, key).await
}

/// What to change beside the lines; what is left out stays, null removes.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CartDetails {
    /// Where the confirmation goes.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, min_length = 3, max_length = 254)]
    email: Option<Option<String>>,
    /// Where it is to be sent.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Destination>)]
    destination: Option<Option<Destination>>,
    /// One of the methods that `shipping-methods` shows.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 100)]
    shipping_method: Option<Option<String>>,
    /// All coupon codes.
    #[serde(default)]
    #[schema(max_items = 10)]
    coupons: Option<Vec<String>>,
}

/// Tells a field that is null from one that is left out.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

/// Sets e-mail, destination, shipping method and coupons.
#[utoipa::path(patch, path = "/api/v1/storefront/carts/{cart_id}", tag = "storefront",
    params(("cart_id" = CartId, Path), ("Cart-Token" = Option<String>, Header), ("If-Match" = Option<String>, Header)),
    request_body = CartDetails,
    responses((status = 200, body = CartView), (status = 409, description = "`carts.*`"), (status = 412, description = "Changed since the version in `If-Match`")))]
pub(super) async fn change_shop_cart(
    State(app): State<App>,
    caller: Caller,
    Params(cart_id): Params<CartId>,
    token: CartToken,
    if_match: IfMatch,
    Body(CartDetails { email, destination, shipping_method, coupons }): Body<CartDetails>,
) -> Result<Private<Json<CartView>>> {
    let key = key(&caller, cart_id, &token)?;
    let change = Change { lines: Vec::new(), email, destination, shipping_method, coupons };
    app.submit(&caller, None, carts_api::change, ChangeCart { key, if_match, change }).await?;
    shown(&app, &caller, key).await
}

/// A coupon code.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CouponCode {
    /// As the shopper typed it.
    #[schema(min_length = 1, max_length = 64)]
    code: String,
}

/// Adds a coupon code, at most ten. Whether it takes something off, or why not, is in the answer.
#[utoipa::path(post, path = "/api/v1/storefront/carts/{cart_id}/coupons", tag = "storefront",
    params(("cart_id" = CartId, Path), ("Cart-Token" = Option<String>, Header), ("If-Match" = Option<String>, Header)),
    request_body = CouponCode,
    responses((status = 200, body = CartView), (status = 409, description = "`carts.*`"), (status = 412, description = "Changed since the version in `If-Match`")))]
pub(super) async fn add_cart_coupon(
    State(app): State<App>,
    caller: Caller,
    Params(cart_id): Params<CartId>,
    token: CartToken,
    if_match: IfMatch,
    Body(CouponCode { code }): Body<CouponCode>,
) -> Result<Private<Json<CartView>>> {
    let key = key(&caller, cart_id, &token)?;
    app.submit(&caller, None, commands::coupon, Coupon { key, if_match, code, add: true }).await?;
    shown(&app, &caller, key).await
}

/// Takes a coupon code away.
#[utoipa::path(delete, path = "/api/v1/storefront/carts/{cart_id}/coupons/{coupon}", tag = "storefront",
    params(("cart_id" = CartId, Path), ("coupon" = String, Path), ("Cart-Token" = Option<String>, Header), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = CartView), (status = 409, description = "`carts.*`"), (status = 412, description = "Changed since the version in `If-Match`")))]
pub(super) async fn remove_cart_coupon(
    State(app): State<App>,
    caller: Caller,
    Params((cart_id, code)): Params<(CartId, String)>,
    token: CartToken,
    if_match: IfMatch,
) -> Result<Private<Json<CartView>>> {
    let key = key(&caller, cart_id, &token)?;
    app.submit(&caller, None, commands::coupon, Coupon { key, if_match, code, add: false }).await?;
    shown(&app, &caller, key).await
}

/// Takes the cart as it can be had today, when its owner has seen the differences: what is not sold or not there goes out, quantities go
/// down to what there is, and prices are today's.
#[utoipa::path(post, path = "/api/v1/storefront/carts/{cart_id}/accept", tag = "storefront",
    params(("cart_id" = CartId, Path), ("Cart-Token" = Option<String>, Header), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = CartView), (status = 409, description = "`carts.*`"), (status = 412, description = "Changed since the version in `If-Match`")))]
pub(super) async fn accept_shop_cart(
    State(app): State<App>,
    caller: Caller,
    Params(cart_id): Params<CartId>,
    token: CartToken,
    if_match: IfMatch,
) -> Result<Private<Json<CartView>>> {
    let key = key(&caller, cart_id, &token)?;
    app.submit(&caller, None, commands::accept, Accept { key, if_match }).await?;
    shown(&app, &caller, key).await
}

/// A customer who signs in at the shop.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ShopSignIn {
    /// Who it is: the shop's own server has made sure of it.
    customer_id: CustomerId,
    /// The guest's cart that the shopper had, to be added to the customer's.
    #[serde(default)]
    guest_cart_id: Option<CartId>,
    /// The guest's cart's token.
    #[serde(default)]
    #[schema(max_length = 100)]
    guest_token: Option<String>,
    /// Of the customer's cart when it has to be made and there is no guest's; the shop's own unless said.
    #[serde(default)]
    currency: Option<Currency>,
}

/// The customer's cart.
#[derive(Serialize, ToSchema)]
pub(super) struct ShopSignedIn {
    /// The cart.
    cart: CartView,
    /// What opens it for this browser, beside those that others have; shown this once.
    token: String,
    /// Whether the guest's cart went into it just now.
    merged: bool,
    /// How many of the guest's lines found no room in it.
    left_out: usize,
}

/// Gives a customer its cart and a token for the browser that signs in, and adds the guest's cart to it, once however often it is asked.
/// For the shop's own server, which knows who signs in: it needs the permission `carts.write`, and no publishable key has that.
#[utoipa::path(post, path = "/api/v1/carts/sign-in", tag = "carts", request_body = ShopSignIn,
    responses((status = 200, body = ShopSignedIn), (status = 409, description = "`carts.merged`, `carts.not_a_guests`, `carts.checking_out`")))]
pub(super) async fn sign_in(
    State(app): State<App>,
    caller: Caller,
    Body(asked): Body<ShopSignIn>,
) -> Result<Private<(StatusCode, Json<ShopSignedIn>)>> {
    let ShopSignIn { customer_id, guest_cart_id, guest_token, currency } = asked;
    let known = order_api::CustomerId::from_i64(customer_id.as_i64());
    if !app.peek(&caller, move |read| order_api::customer_exists(read, known)).await? {
        return Err(Error::field("customer_id", "unknown", "there is no such customer").into());
    }
    let guest = match (guest_cart_id, &guest_token) {
        (Some(cart_id), Some(token)) => Some(CartKey { cart_id, proof: Proof::Token(TokenHash::of(token)) }),
        (None, None) => None,
        (cart, _) => {
            let missing = if cart.is_none() { "guest_cart_id" } else { "guest_token" };
            return Err(Error::field(missing, "incomplete", "guest_cart_id and guest_token go together").into());
        }
    };
    let token = carts_api::new_token(&**app.rng());
    let currency = currency_of(&app, &caller, currency).await?;
    let asked = SignIn { customer_id, guest, token: TokenHash::of(&token), currency };
    let signed_in = app.submit(&caller, None, carts_api::sign_in, asked).await?.value;
    let cart = view::of(&app, &caller, CartKey::staff(signed_in.cart.cart_id)).await?;
    let body = ShopSignedIn { cart, token, merged: signed_in.merged, left_out: signed_in.left_out };
    Ok(Private((StatusCode::OK, Json(body))))
}

const _: () = assert!(MAX_COUPONS == 10, "as the API's description says");
