//! The HTTP API for the tenant's own people and programs; shoppers come through the storefront.

use crate::commands::{self, SetSettings};
use crate::model::{Cart, CartId, CustomerId, Settings, Status};
use crate::queries::{self, CartFilter, CartKey};
use axum::Json;
use axum::extract::State;
use kernel::{Currency, Page, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use web::{Access, App, Body, Caller, IfMatch, Paging, PagingParams, Params, Query, Result, Route, Versioned, handlers};

const READ: Access = Access::Tenant("carts.read");
const WRITE: Access = Access::Tenant("carts.write");
const LIST: &str = "carts.carts";

/// Every route.
pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::new(READ, handlers!(list_carts)),
        Route::new(READ, handlers!(get_cart)),
        Route::new(READ, handlers!(get_cart_settings)),
        Route::new(WRITE, handlers!(put_cart_settings)),
    ]
}

/// Filters of the list of carts.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct CartQuery {
    /// Only carts of this status.
    status: Option<Status>,
    /// Only this customer's.
    customer_id: Option<CustomerId>,
}

/// A cart as lists show it.
#[derive(Serialize, ToSchema)]
struct CartSummary {
    cart_id: CartId,
    customer_id: Option<CustomerId>,
    status: Status,
    currency: Currency,
    email: Option<String>,
    /// How many lines it has.
    line_count: i64,
    version: i64,
    created_at: Timestamp,
    changed_at: Timestamp,
    expires_at: Timestamp,
    abandoned_at: Option<Timestamp>,
}

impl From<Cart> for CartSummary {
    fn from(c: Cart) -> Self {
        let Cart {
            cart_id,
            customer_id,
            status,
            currency,
            email,
            line_count,
            version,
            created_at,
            changed_at,
            expires_at,
            abandoned_at,
            ..
        } = c;
        CartSummary { cart_id, customer_id, status, currency, email, line_count, version, created_at, changed_at, expires_at, abandoned_at }
    }
}

/// Carts, the newest first, without their lines.
#[utoipa::path(get, path = "/api/v1/carts", tag = "carts", params(CartQuery, PagingParams), responses((status = 200, body = Page<CartSummary>)))]
async fn list_carts(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<CartQuery>,
    paging: Paging<CartId>,
) -> Result<Json<Page<CartSummary>>> {
    let request = paging.request(LIST)?;
    let filter = CartFilter { status: query.status, customer_id: query.customer_id };
    let rows = app.read(&caller, move |read| queries::carts(read, filter, &request)).await?;
    let page = paging.page(LIST, rows, |cart| cart.cart_id)?;
    Ok(Json(Page { data: page.data.into_iter().map(CartSummary::from).collect(), next_cursor: page.next_cursor }))
}

/// A cart with its lines.
#[utoipa::path(get, path = "/api/v1/carts/{cart_id}", tag = "carts", params(("cart_id" = CartId, Path)), responses((status = 200, body = Cart)))]
async fn get_cart(State(app): State<App>, caller: Caller, Params(id): Params<CartId>) -> Result<Versioned<Cart>> {
    let cart = app.peek(&caller, move |read| queries::load(read, &CartKey::staff(id))).await?;
    Ok(Versioned(cart.version, cart))
}

/// How long carts are kept.
#[utoipa::path(get, path = "/api/v1/cart-settings", tag = "carts", responses((status = 200, body = Settings)))]
async fn get_cart_settings(State(app): State<App>, caller: Caller) -> Result<Versioned<Settings>> {
    let (settings, version) = app.peek(&caller, queries::settings).await?;
    Ok(Versioned(version, settings))
}

/// Sets how long carts are kept; it holds for each cart from its next change on.
#[utoipa::path(put, path = "/api/v1/cart-settings", tag = "carts", params(("If-Match" = Option<String>, Header)), request_body = Settings,
    responses((status = 200, body = Settings), (status = 412, description = "Changed since the version in `If-Match`")))]
async fn put_cart_settings(
    State(app): State<App>,
    caller: Caller,
    if_match: IfMatch,
    Body(settings): Body<Settings>,
) -> Result<Versioned<Settings>> {
    let (settings, version) = app.submit(&caller, None, commands::set_settings, SetSettings { if_match, settings }).await?.value;
    Ok(Versioned(version, settings))
}
