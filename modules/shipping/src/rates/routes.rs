//! The routes of zones, methods, rates and quotes.

use crate::rates::cache::cached;
use crate::rates::commands::{self, ChangeMethod, ChangeZone, PutRate, PutZone};
use crate::rates::model::*;
use crate::rates::{queries, sql};
use axum::Json;
use axum::extract::State as AppState;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use kernel::{Currency, Faults, Page};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use web::{Access, App, Body, Caller, Created, ETag, IfMatch, Keyed, Paging, PagingParams, Params, Result, Route, Versioned, handlers};

/// 300 areas with 200 postcodes each would be more; nobody has them.
const ZONE_BODY: usize = 512 * 1024;
const BODY: usize = 16 * 1024;

pub(crate) fn routes() -> Vec<Route> {
    let (read, write) = (Access::Tenant("shipping.read"), Access::Tenant("shipping.write"));
    vec![
        Route::new(write, handlers!(create_zone)).body_limit(ZONE_BODY).keyed(),
        Route::new(read, handlers!(list_zones)),
        Route::new(read, handlers!(get_zone)),
        Route::new(write, handlers!(change_zone, remove_zone)).body_limit(ZONE_BODY),
        Route::new(write, handlers!(create_method)).body_limit(BODY).keyed(),
        Route::new(read, handlers!(list_methods)),
        Route::new(read, handlers!(get_method)),
        Route::new(write, handlers!(change_method)).body_limit(BODY),
        Route::new(read, handlers!(list_rates)),
        Route::new(read, handlers!(get_rate)),
        Route::new(write, handlers!(set_rate, remove_rate)).body_limit(BODY),
        Route::new(read, handlers!(quotes)).body_limit(BODY),
    ]
}

/// A new zone.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewShippingZone {
    /// For people.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// What it consists of.
    #[schema(min_items = 1, max_items = 300)]
    areas: Vec<Area>,
}

fn check_name(name: &str) -> kernel::Result<()> {
    let mut faults = Faults::default();
    faults.text("name", name, 1, 100);
    faults.finish()
}

/// Makes a zone: a part of the world that is shipped to alike.
#[utoipa::path(post, path = "/api/v1/shipping/zones", tag = "shipping", request_body = NewShippingZone, responses((status = 201, body = Zone),
    (status = 409, description = "Another zone has some of its addresses, there are as many as may be, or the idempotency key was used for another request.")))]
async fn create_zone(
    AppState(app): AppState<App>,
    caller: Caller,
    Keyed { key, body }: Keyed<NewShippingZone>,
) -> Result<impl IntoResponse> {
    check_name(&body.name)?;
    let new = PutZone { name: body.name, areas: normal_areas(&body.areas)? };
    let zone = app.submit(&caller, key, commands::create_zone, new).await?.value;
    Ok((ETag(zone.version), Created(format!("/api/v1/shipping/zones/{}", zone.zone_id), zone)))
}

/// Lists zones, the latest first.
#[utoipa::path(get, path = "/api/v1/shipping/zones", tag = "shipping", params(PagingParams), responses((status = 200, body = Page<Zone>)))]
async fn list_zones(AppState(app): AppState<App>, caller: Caller, paging: Paging<i64>) -> Result<Json<Page<Zone>>> {
    const LIST: &str = "shipping.zones";
    let page = paging.request(LIST)?;
    let (before, limit) = (page.after.unwrap_or(i64::MAX), i64::from(page.limit) + 1);
    let rows = app.read(&caller, move |read| read.all(sql::ZONES_PAGE, (before, limit))).await?;
    Ok(Json(paging.page(LIST, rows, |zone: &Zone| zone.zone_id.as_i64())?))
}

/// Reads a zone.
#[utoipa::path(get, path = "/api/v1/shipping/zones/{zone_id}", tag = "shipping", params(("zone_id" = ZoneId, Path)), responses((status = 200, body = Zone)))]
async fn get_zone(AppState(app): AppState<App>, caller: Caller, Params(zone_id): Params<ZoneId>) -> Result<Versioned<Zone>> {
    let zone = app.peek(&caller, move |read| queries::zone(read, zone_id)).await?;
    Ok(Versioned(zone.version, zone))
}

/// A change of a zone. What is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ShippingZoneEdit {
    /// For people.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    /// All that it consists of.
    #[serde(default)]
    #[schema(min_items = 1, max_items = 300)]
    areas: Option<Vec<Area>>,
}

/// Changes a zone.
#[utoipa::path(patch, path = "/api/v1/shipping/zones/{zone_id}", tag = "shipping", params(("zone_id" = ZoneId, Path), ("If-Match" = Option<String>, Header)),
    request_body = ShippingZoneEdit, responses((status = 200, body = Zone), (status = 409, description = "Another zone has some of its addresses."),
    (status = 412, description = "It has another version than If-Match says.")))]
async fn change_zone(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(zone_id): Params<ZoneId>,
    if_match: IfMatch,
    Body(body): Body<ShippingZoneEdit>,
) -> Result<Versioned<Zone>> {
    body.name.as_deref().map_or(Ok(()), check_name)?;
    let areas = body.areas.map(|areas| normal_areas(&areas)).transpose()?;
    let change = ChangeZone { zone_id, if_match, name: body.name, areas };
    let zone = app.submit(&caller, None, commands::change_zone, change).await?.value;
    Ok(Versioned(zone.version, zone))
}

/// Removes a zone and the rates in it.
#[utoipa::path(delete, path = "/api/v1/shipping/zones/{zone_id}", tag = "shipping", params(("zone_id" = ZoneId, Path), ("If-Match" = Option<String>, Header)),
    responses((status = 204, description = "It is gone."), (status = 412, description = "It has another version than If-Match says.")))]
async fn remove_zone(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(zone_id): Params<ZoneId>,
    if_match: IfMatch,
) -> Result<StatusCode> {
    app.submit(&caller, None, commands::remove_zone, (zone_id, if_match)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes a method: a way to ship that customers choose. What it costs is set by its rates.
#[utoipa::path(post, path = "/api/v1/shipping/methods", tag = "shipping", request_body = NewMethod, responses((status = 201, body = Method),
    (status = 409, description = "There are as many as may be, or the idempotency key was used for another request.")))]
async fn create_method(AppState(app): AppState<App>, caller: Caller, Keyed { key, body }: Keyed<NewMethod>) -> Result<impl IntoResponse> {
    let method = app.submit(&caller, key, commands::create_method, body).await?.value;
    Ok((ETag(method.version), Created(format!("/api/v1/shipping/methods/{}", method.method_id), method)))
}

/// Lists methods, the latest first.
#[utoipa::path(get, path = "/api/v1/shipping/methods", tag = "shipping", params(PagingParams), responses((status = 200, body = Page<Method>)))]
async fn list_methods(AppState(app): AppState<App>, caller: Caller, paging: Paging<i64>) -> Result<Json<Page<Method>>> {
    const LIST: &str = "shipping.methods";
    let page = paging.request(LIST)?;
    let (before, limit) = (page.after.unwrap_or(i64::MAX), i64::from(page.limit) + 1);
    let rows = app.read(&caller, move |read| read.all(sql::METHODS_PAGE, (before, limit))).await?;
    Ok(Json(paging.page(LIST, rows, |method: &Method| method.method_id.as_i64())?))
}

/// Reads a method.
#[utoipa::path(get, path = "/api/v1/shipping/methods/{method_id}", tag = "shipping", params(("method_id" = MethodId, Path)),
    responses((status = 200, body = Method)))]
async fn get_method(AppState(app): AppState<App>, caller: Caller, Params(method_id): Params<MethodId>) -> Result<Versioned<Method>> {
    let method = app.peek(&caller, move |read| queries::method(read, method_id)).await?;
    Ok(Versioned(method.version, method))
}

/// Replaces what is set of a method. One that isn't active is not offered any more.
#[utoipa::path(put, path = "/api/v1/shipping/methods/{method_id}", tag = "shipping", params(("method_id" = MethodId, Path), ("If-Match" = Option<String>, Header)),
    request_body = NewMethod, responses((status = 200, body = Method), (status = 412, description = "It has another version than If-Match says.")))]
async fn change_method(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(method_id): Params<MethodId>,
    if_match: IfMatch,
    Body(set): Body<NewMethod>,
) -> Result<Versioned<Method>> {
    let method = app.submit(&caller, None, commands::change_method, ChangeMethod { method_id, if_match, set }).await?.value;
    Ok(Versioned(method.version, method))
}

/// Lists a method's rates by zone and currency.
#[utoipa::path(get, path = "/api/v1/shipping/methods/{method_id}/rates", tag = "shipping", params(("method_id" = MethodId, Path), PagingParams),
    responses((status = 200, body = Page<Rate>)))]
async fn list_rates(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(method_id): Params<MethodId>,
    paging: Paging<(i64, String)>,
) -> Result<Json<Page<Rate>>> {
    const LIST: &str = "shipping.rates";
    let page = paging.request(LIST)?;
    let (after, limit) = (page.after.unwrap_or_default(), i64::from(page.limit) + 1);
    let rows = app.read(&caller, move |read| queries::rates_of(read, method_id, &after, limit)).await?;
    Ok(Json(paging.page(LIST, rows, |rate| (rate.zone_id.as_i64(), rate.currency.code().to_owned()))?))
}

/// Reads what a method costs in a zone and a currency.
#[utoipa::path(get, path = "/api/v1/shipping/methods/{method_id}/rates/{zone_id}/{currency}", tag = "shipping",
    params(("method_id" = MethodId, Path), ("zone_id" = ZoneId, Path), ("currency" = Currency, Path)), responses((status = 200, body = Rate)))]
async fn get_rate(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(place): Params<(MethodId, ZoneId, Currency)>,
) -> Result<Versioned<Rate>> {
    let rate = app.peek(&caller, move |read| queries::rate(read, place)).await?;
    Ok(Versioned(rate.version, rate))
}

/// Sets what a method costs in a zone and a currency.
#[utoipa::path(put, path = "/api/v1/shipping/methods/{method_id}/rates/{zone_id}/{currency}", tag = "shipping",
    params(("method_id" = MethodId, Path), ("zone_id" = ZoneId, Path), ("currency" = Currency, Path), ("If-Match" = Option<String>, Header)),
    request_body = NewRate, responses((status = 200, body = Rate), (status = 409, description = "There are as many as may be."),
    (status = 412, description = "It has another version than If-Match says.")))]
async fn set_rate(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(place): Params<(MethodId, ZoneId, Currency)>,
    if_match: IfMatch,
    Body(set): Body<NewRate>,
) -> Result<Versioned<Rate>> {
    let rate = app.submit(&caller, None, commands::set_rate, PutRate { place, if_match, set }).await?.value;
    Ok(Versioned(rate.version, rate))
}

/// Removes what a method costs in a zone and a currency: it is not offered there any more.
#[utoipa::path(delete, path = "/api/v1/shipping/methods/{method_id}/rates/{zone_id}/{currency}", tag = "shipping",
    params(("method_id" = MethodId, Path), ("zone_id" = ZoneId, Path), ("currency" = Currency, Path), ("If-Match" = Option<String>, Header)),
    responses((status = 204, description = "It is gone."), (status = 412, description = "It has another version than If-Match says.")))]
async fn remove_rate(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(place): Params<(MethodId, ZoneId, Currency)>,
    if_match: IfMatch,
) -> Result<StatusCode> {
    app.submit(&caller, None, commands::remove_rate, (place, if_match)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What it costs to ship something.
#[derive(Debug, Serialize, ToSchema)]
struct ShippingQuotes {
    /// The cheapest first, then the quickest.
    data: Vec<MethodQuote>,
}

/// Says what each method costs. Where there is none, the answer is `shipping.no_method` and names the field that stands in the way.
#[utoipa::path(post, path = "/api/v1/shipping/quotes", tag = "shipping", request_body = Parcelled, responses((status = 200, body = ShippingQuotes)))]
async fn quotes(AppState(app): AppState<App>, caller: Caller, Body(parcelled): Body<Parcelled>) -> Result<Json<ShippingQuotes>> {
    parcelled.check()?;
    let rates = cached(&app, &caller).await?;
    Ok(Json(ShippingQuotes { data: quote_some(&rates, &parcelled)? }))
}
