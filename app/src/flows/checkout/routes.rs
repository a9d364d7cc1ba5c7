//! The HTTP routes: a shopper begins a checkout, follows it and gives it up; the shop looks at all of them.

use super::begin::{self, Begin, Details, MAX_LINES, Source};
use super::model::{Checkout, CheckoutId, Heard, Settings, State};
use super::view::{self, CheckoutView, Ended, EndedCheckouts};
use super::{Checkouts, place, sql};
use axum::Json;
use axum::extract::State as AppState;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use carts::CartId;
use carts::api::{CartKey, Change, Destination};
use catalog::api::VariantId;
use kernel::{Currency, Error, FieldError, Page, Result as Checked};
use orders::api::By;
use payments::api::{Clean, Means};
use pricing::api::Pricing;
use serde::Deserialize;
use std::time::Duration;
use store::{Once, Tx};
use traffic::cache::Sourced;
use utoipa::ToSchema;
use web::{
    Access, App, Body, Caller, Created, IfMatch, Keyed, Paging, PagingParams, Params, Priority, Result, Route, Versioned, aged, handlers,
};

const BODY: usize = 64 * 1024;
/// How long an answer waits for the payment unless the caller says otherwise, and at most, in milliseconds.
const WAIT_MS: (u32, u32) = (10_000, 20_000);
/// How often a checkout that is waited for is looked at for what another node did to it, in milliseconds: for the first time sooner, for
/// what was told before anybody listened.
const LOOK_MS: (u64, u64) = (100, 500);
/// The list of which a shopper's token is a cursor: it is signed, and opens one checkout of one tenant.
const TOKEN: &str = "checkout.token";
/// The header that holds it.
const CHECKOUT_TOKEN: &str = "checkout-token";
/// The header that holds a cart's token.
const CART_TOKEN: &str = "cart-token";

pub(super) fn routes() -> Vec<Route> {
    let (read, configure) = (Access::Tenant("checkout.read"), Access::Tenant("checkout.configure"));
    let sells = vec![
        Route::new(Access::Storefront, handlers!(begin_checkout)).body_limit(BODY).keyed(),
        Route::new(Access::Storefront, handlers!(get_checkout)),
        Route::new(Access::Storefront, handlers!(cancel_checkout)),
    ];
    let looks = vec![
        Route::new(read, handlers!(list_checkouts)),
        Route::new(read, handlers!(show_checkout)),
        Route::new(read, handlers!(get_checkout_settings)),
        Route::new(configure, handlers!(set_checkout_settings)).body_limit(BODY),
    ];
    // Money goes first when there is too much to do.
    sells.into_iter().map(|route| route.priority(Priority::Critical)).chain(looks).collect()
}

/// A variant to buy.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CheckoutLine)]
struct BuyLine {
    /// Which.
    variant_id: VariantId,
    /// How many.
    #[schema(minimum = 1, maximum = 1_000_000)]
    quantity: i64,
}

/// A checkout to begin: of a cart, with the header `Cart-Token`, or of `lines` without one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct BeginCheckout {
    /// The cart, whose e-mail, destination, shipping method and coupons are taken over.
    #[serde(default)]
    cart_id: Option<CartId>,
    /// The version of the cart that the shopper saw.
    #[serde(default)]
    cart_version: Option<i64>,
    /// Without a cart: what to buy.
    #[serde(default)]
    #[schema(max_items = 500)]
    lines: Vec<BuyLine>,
    /// Without a cart: the currency to pay in.
    #[serde(default)]
    currency: Option<Currency>,
    /// Without a cart: where the confirmation goes.
    #[serde(default)]
    #[schema(max_length = 254)]
    email: Option<String>,
    /// Without a cart: where to.
    #[serde(default)]
    destination: Option<Destination>,
    /// Without a cart: how.
    #[serde(default)]
    #[schema(max_length = 100)]
    shipping_method: Option<String>,
    /// Without a cart: coupon codes.
    #[serde(default)]
    #[schema(max_items = 10)]
    coupons: Vec<String>,
    /// What the shopper has agreed to pay: if it comes to anything else, nothing is begun.
    #[serde(default)]
    #[schema(minimum = 0)]
    expected_total_minor: Option<i64>,
    /// A provider's token of the card, of Apple Pay or of Google Pay. Never a card's number. None when nothing is to be paid.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 200)]
    payment_token: Option<String>,
    /// How long the answer may wait for the payment, in milliseconds; 10,000 unless said.
    #[serde(default)]
    #[schema(maximum = 20_000)]
    wait_ms: Option<u32>,
}

impl BeginCheckout {
    /// What is to be bought. Errors: `request.invalid` with every field that is wrong.
    fn source(&self, headers: &HeaderMap) -> Checked<Source> {
        let mut wrong: Vec<FieldError> = Vec::new();
        let mut add = |field: &str, code: &'static str, detail: &str| {
            wrong.push(FieldError { field: field.to_owned(), code, detail: detail.to_owned() });
        };
        if let Some(cart_id) = self.cart_id {
            let own = [
                ("lines", !self.lines.is_empty()),
                ("currency", self.currency.is_some()),
                ("email", self.email.is_some()),
                ("destination", self.destination.is_some()),
                ("shipping_method", self.shipping_method.is_some()),
                ("coupons", !self.coupons.is_empty()),
            ];
            for (field, _) in own.into_iter().filter(|(_, given)| *given) {
                add(field, "not_allowed", "a cart has its own");
            }
            if self.cart_version.is_none() {
                add("cart_version", "required", "the version of the cart that the shopper saw");
            }
            let token = headers.get(CART_TOKEN).and_then(|value| value.to_str().ok());
            if token.is_none() {
                add(CART_TOKEN, "required", "the header with the cart's token");
            }
            Error::fields(wrong)?;
            let key = CartKey::by_token(cart_id, token.unwrap_or_default());
            return Ok(Source::Cart { key, version: self.cart_version.unwrap_or_default() });
        }
        if self.lines.is_empty() || self.lines.len() > MAX_LINES {
            add("lines", "wrong_count", &format!("{} lines; from 1 to {MAX_LINES}, or a cart_id", self.lines.len()));
        } else {
            for (i, line) in self.lines.iter().enumerate().filter(|(_, line)| !(1..=carts::api::MAX_QUANTITY).contains(&line.quantity)) {
                add(&format!("lines[{i}].quantity"), "out_of_range", &format!("{}; from 1 to {}", line.quantity, carts::api::MAX_QUANTITY));
            }
        }
        if self.currency.is_none() {
            add("currency", "required", "the currency to pay in, such as EUR");
        }
        Error::fields(wrong)?;
        let details = Box::new(Details {
            email: self.email.clone(),
            destination: self.destination.clone(),
            shipping_method: self.shipping_method.clone(),
            coupons: self.coupons.clone(),
        });
        let checked = Change {
            lines: Vec::new(),
            email: Some(self.email.clone()),
            destination: Some(self.destination.clone()),
            shipping_method: Some(self.shipping_method.clone()),
            coupons: Some(self.coupons.clone()),
        };
        checked.check()?;
        let lines = self.lines.iter().map(|line| (line.variant_id, line.quantity)).collect();
        let currency = self.currency.ok_or_else(|| Error::internal("a currency that was checked is missing"))?;
        Ok(Source::Lines { currency, lines, details })
    }
}

/// Begins a checkout: what is bought is priced and reserved, and the payment is asked for. The answer waits for the payment for a while; a
/// checkout that is still `paying` then goes on by itself: to the shopper's confirmation at `payment.action_url`, or to its end.
#[utoipa::path(post, path = "/api/v1/storefront/checkouts", tag = "storefront", request_body = BeginCheckout,
    params(("Cart-Token" = Option<String>, Header, description = "The cart's token, for a checkout of a cart.")), responses(
    (status = 201, description = "The checkout.", body = CheckoutView),
    (status = 409, description = "Something is sold out, costs something else now, can't be paid so, or the cart was changed.")))]
async fn begin_checkout(
    AppState(app): AppState<App>,
    caller: Caller,
    headers: HeaderMap,
    Clean(Keyed { key, body }): Clean<Keyed<BeginCheckout>>,
) -> Result<impl IntoResponse> {
    if body.wait_ms.is_some_and(|wait_ms| wait_ms > WAIT_MS.1) {
        return Err(Error::field("wait_ms", "out_of_range", format!("at most {}", WAIT_MS.1)).into());
    }
    let begin = Begin {
        source: body.source(&headers)?,
        means: body.payment_token.map(Means::Token),
        expected_total_minor: body.expected_total_minor,
        pricing: app.part::<Pricing>().clone(),
        by: by(&caller),
    };
    let Once { value: begun, replayed } = app.submit_set(&caller, key, begin::begin, begin).await?;
    let wait_ms = body.wait_ms.unwrap_or(WAIT_MS.0);
    let mut shown = if begun.at_rest() { begun } else { wait(&app, &caller, begun, !replayed, wait_ms, CheckoutView::at_rest).await? };
    shown.token = Some(token_of(&app, &caller, shown.checkout_id)?);
    Ok(Created(format!("/api/v1/storefront/checkouts/{}", shown.checkout_id), shown))
}

fn by(caller: &Caller) -> By {
    By { actor: caller.actor, request_id: Some(caller.request_id.clone()) }
}

fn token_of(app: &App, caller: &Caller, checkout_id: CheckoutId) -> Checked<String> {
    app.cursor_key().seal(caller.tenant()?.into(), TOKEN, &checkout_id)
}

/// Waits until `done` says so of a checkout, or the wait is over. What is `fresh` was as it was given a moment ago, so it is not looked at
/// before something is told of it.
async fn wait(
    app: &App,
    caller: &Caller,
    given: CheckoutView,
    fresh: bool,
    wait_ms: u32,
    done: fn(&CheckoutView) -> bool,
) -> Result<CheckoutView> {
    let (tenant, checkout_id) = (caller.tenant()?, given.checkout_id);
    let deadline = tokio::time::Instant::now() + Duration::from_millis(wait_ms.into());
    let waiters = &app.part::<Checkouts>().0;
    let intent = given.payment.as_ref().map_or(0, |payment| payment.intent_id.as_i64());
    let (ends, asks) = (waiters.wait_for(checkout_id.as_i64()), waiters.wait_for(intent));
    let mut shown = given;
    let mut look = !fresh;
    let mut pause_ms = LOOK_MS.0;
    loop {
        let (ended, asked) = (ends.told(), asks.told());
        if look {
            shown = app.store().peek(tenant, move |read| view::of(read, checkout_id)).await?;
        }
        look = true;
        let now = tokio::time::Instant::now();
        if done(&shown) || now >= deadline {
            return Ok(shown);
        }
        let pause = tokio::time::sleep_until(deadline.min(now + Duration::from_millis(pause_ms)));
        pause_ms = LOOK_MS.1;
        tokio::select! {
            () = ended => {}
            () = asked => {}
            () = pause => {}
        }
    }
}

/// Whoever has the permission for all checkouts has it for this one; a shopper needs its token. Errors: `checkout.checkout_not_found`.
fn opened(app: &App, caller: &Caller, headers: &HeaderMap, checkout_id: CheckoutId, permission: &str) -> Checked<()> {
    if caller.has(permission) {
        return Ok(());
    }
    let token = headers.get(CHECKOUT_TOKEN).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match app.cursor_key().open::<CheckoutId>(caller.tenant()?.into(), TOKEN, token) {
        Ok(opens) if opens == checkout_id => Ok(()),
        _ => Err(view::not_found()),
    }
}

/// Shows a checkout to whoever began it.
#[utoipa::path(get, path = "/api/v1/storefront/checkouts/{checkout_id}", tag = "storefront", params(("checkout_id" = CheckoutId, Path),
    ("Checkout-Token" = Option<String>, Header, description = "The checkout's token; the shop's own servers need none.")), responses((status = 200, body = CheckoutView)))]
async fn get_checkout(
    AppState(app): AppState<App>,
    caller: Caller,
    headers: HeaderMap,
    Params(checkout_id): Params<CheckoutId>,
) -> Result<(HeaderMap, Json<CheckoutView>)> {
    opened(&app, &caller, &headers, checkout_id, "checkout.read")?;
    now_or_then(&app, &caller, checkout_id).await
}

/// A checkout as it stands; and while the database is away, one that had ended when it was last looked at, with `Age` and `Warning`.
async fn now_or_then(app: &App, caller: &Caller, checkout_id: CheckoutId) -> Result<(HeaderMap, Json<CheckoutView>)> {
    let (key, ended) = ((caller.tenant()?, checkout_id), &app.part::<EndedCheckouts>().0);
    match app.or_remembered(caller, ended, key, move |read| view::of(read, checkout_id), Ended::of).await? {
        Sourced::Now(shown) => Ok((HeaderMap::new(), Json(shown))),
        Sourced::Then(found) => Ok((aged(&found), Json(found.shown(found.age().as_millis() as u64)))),
    }
}

/// Gives a checkout up that waits for the shopper's confirmation: its payment is let go of, and that frees its stock. While a provider is
/// being asked it goes on until the answer is there.
#[utoipa::path(post, path = "/api/v1/storefront/checkouts/{checkout_id}/cancel", tag = "storefront", params(("checkout_id" = CheckoutId, Path),
    ("Checkout-Token" = Option<String>, Header, description = "The checkout's token; the shop's own servers need none.")), responses((status = 200, body = CheckoutView)))]
async fn cancel_checkout(
    AppState(app): AppState<App>,
    caller: Caller,
    headers: HeaderMap,
    Params(checkout_id): Params<CheckoutId>,
) -> Result<Json<CheckoutView>> {
    opened(&app, &caller, &headers, checkout_id, "checkout.cancel")?;
    let asked = (checkout_id, by(&caller));
    let begun = app.submit(&caller, None, cancel, asked).await?.value;
    // What ends it is the provider's word that nothing will be taken.
    Ok(Json(wait(&app, &caller, begun, true, WAIT_MS.0, |shown| shown.state != State::Paying).await?))
}

fn cancel(tx: &mut Tx<'_>, (checkout_id, by): &(CheckoutId, By)) -> Checked<CheckoutView> {
    place::hear(tx, *checkout_id, Heard::Cancelled, "cancelled", by)?;
    view::of(tx, *checkout_id)
}

const CHECKOUTS: &str = "checkout.checkouts";

/// Lists checkouts, the latest first.
#[utoipa::path(get, path = "/api/v1/checkouts", tag = "checkout", params(PagingParams), responses((status = 200, body = Page<CheckoutView>)))]
async fn list_checkouts(AppState(app): AppState<App>, caller: Caller, paging: Paging<CheckoutId>) -> Result<Json<Page<CheckoutView>>> {
    let page = paging.request(CHECKOUTS)?;
    let (before, limit) = (page.after.unwrap_or(CheckoutId::from_i64(i64::MAX)), i64::from(page.limit) + 1);
    let found = app
        .store()
        .read(caller.tenant()?, move |read| {
            let rows: Vec<Checkout> = read.all(sql::PAGE, (before, limit))?;
            rows.into_iter().map(|row| view::shown(read, row)).collect::<Checked<Vec<CheckoutView>>>()
        })
        .await?;
    Ok(Json(paging.page(CHECKOUTS, found, |checkout| checkout.checkout_id)?))
}

/// Shows a checkout.
#[utoipa::path(get, path = "/api/v1/checkouts/{checkout_id}", tag = "checkout", params(("checkout_id" = CheckoutId, Path)), responses(
    (status = 200, body = CheckoutView)))]
async fn show_checkout(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(checkout_id): Params<CheckoutId>,
) -> Result<(HeaderMap, Json<CheckoutView>)> {
    now_or_then(&app, &caller, checkout_id).await
}

/// Shows how checkouts work.
#[utoipa::path(get, path = "/api/v1/checkout-settings", tag = "checkout", responses((status = 200, body = Settings)))]
async fn get_checkout_settings(AppState(app): AppState<App>, caller: Caller) -> Result<Versioned<Settings>> {
    let (settings, version) = app.store().read(caller.tenant()?, begin::settings).await?;
    Ok(Versioned(version, settings))
}

/// Sets how checkouts work, from the next one on.
#[utoipa::path(put, path = "/api/v1/checkout-settings", tag = "checkout", request_body = Settings, responses((status = 200, body = Settings),
    (status = 412, description = "They were changed meanwhile.")))]
async fn set_checkout_settings(
    AppState(app): AppState<App>,
    caller: Caller,
    if_match: IfMatch,
    Body(settings): Body<Settings>,
) -> Result<Versioned<Settings>> {
    settings.check()?;
    let (settings, version) = app.submit(&caller, None, set_settings, (if_match, settings)).await?.value;
    Ok(Versioned(version, settings))
}

fn set_settings(tx: &mut Tx<'_>, (if_match, settings): &(IfMatch, Settings)) -> Checked<(Settings, i64)> {
    let (known, version) = begin::settings(tx)?;
    if_match.check(version)?;
    if known == *settings {
        return Ok((known, version));
    }
    let text = serde_json::to_string(settings).map_err(|e| Error::internal("settings don't serialise").caused_by(e))?;
    tx.must(sql::SET_SETTINGS, (version, text), web::precondition_failed)?;
    Ok((settings.clone(), version + 1))
}
