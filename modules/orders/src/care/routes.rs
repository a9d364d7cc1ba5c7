//! The routes of holds, deliveries, remarks, tags and the timeline.

use crate::care::commands::{self, Deliver, NewRemark, SetTags};
use crate::care::model::*;
use crate::care::queries::{self, Marked};
use crate::commands::Step;
use crate::model::{OrderHead, OrderId};
use crate::routes::{FulfilledLine, Reason, by, quantities, step};
use axum::Json;
use axum::extract::State as AppState;
use kernel::{Error, Faults, Page};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use web::{Access, App, Body, Caller, Created, IfMatch, Keyed, Paging, PagingParams, Params, Query, Result, Route, Versioned, handlers};

const BODY: usize = 64 * 1024;

pub(crate) fn routes() -> Vec<Route> {
    let (see, write) = (Access::Tenant("orders.read"), Access::Tenant("orders.write"));
    vec![
        Route::new(write, handlers!(hold_order)).body_limit(BODY).keyed(),
        Route::new(write, handlers!(release_order)).body_limit(BODY).keyed(),
        Route::new(see, handlers!(get_hold)),
        Route::new(write, handlers!(deliver_order)).body_limit(BODY).keyed(),
        Route::new(see, handlers!(get_progress)),
        Route::new(write, handlers!(add_remark)).body_limit(BODY).keyed(),
        Route::new(see, handlers!(get_tags)),
        Route::new(write, handlers!(set_tags)).body_limit(BODY),
        Route::new(see, handlers!(list_marked)),
        Route::new(see, handlers!(get_timeline)),
    ]
}

/// Puts an order on hold, such as for a fraud review: nothing of it is sent until it is released. It may be cancelled.
#[utoipa::path(post, path = "/api/v1/orders/{order_id}/hold", tag = "orders", params(("order_id" = OrderId, Path), ("If-Match" = Option<String>, Header)),
    request_body = Option<Reason>, responses((status = 200, body = OrderHead), (status = 409, description = "Its state does not allow it, or it is on hold."),
    (status = 412, description = "It has another version than If-Match says.")))]
async fn hold_order(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(order_id): Params<OrderId>,
    if_match: IfMatch,
    Keyed { key, body }: Keyed<Option<Reason>>,
) -> Result<Versioned<OrderHead>> {
    let step = step(&caller, order_id, if_match, body)?;
    let head = app.submit(&caller, key, commands::hold, step).await?.value;
    Ok(Versioned(head.version, head))
}

/// Lets an order go that was on hold.
#[utoipa::path(post, path = "/api/v1/orders/{order_id}/release", tag = "orders", params(("order_id" = OrderId, Path), ("If-Match" = Option<String>, Header)),
    request_body = Option<Reason>, responses((status = 200, body = OrderHead), (status = 409, description = "It is not on hold."),
    (status = 412, description = "It has another version than If-Match says.")))]
async fn release_order(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(order_id): Params<OrderId>,
    if_match: IfMatch,
    Keyed { key, body }: Keyed<Option<Reason>>,
) -> Result<Versioned<OrderHead>> {
    let step = step(&caller, order_id, if_match, body)?;
    let head = app.submit(&caller, key, commands::release, step).await?.value;
    Ok(Versioned(head.version, head))
}

/// Whether an order is on hold.
#[derive(Debug, Serialize, ToSchema)]
struct HoldOfOrder {
    /// The order.
    order_id: OrderId,
    /// Whether it must not go.
    on_hold: bool,
    /// Why; null when it isn't.
    hold: Option<Hold>,
}

/// Says whether an order is on hold, and why.
#[utoipa::path(get, path = "/api/v1/orders/{order_id}/hold", tag = "orders", params(("order_id" = OrderId, Path)), responses((status = 200, body = HoldOfOrder)))]
async fn get_hold(AppState(app): AppState<App>, caller: Caller, Params(order_id): Params<OrderId>) -> Result<Json<HoldOfOrder>> {
    let hold = app.peek(&caller, move |read| queries::hold(read, order_id)).await?;
    Ok(Json(HoldOfOrder { order_id, on_hold: hold.is_some(), hold }))
}

/// What arrived.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct OrderDelivery {
    /// For whoever reads the changes later.
    #[serde(default)]
    #[schema(max_length = 500)]
    reason: String,
    /// How much of which line; left out: everything that is under way.
    #[serde(default)]
    #[schema(min_items = 1, max_items = 2000)]
    lines: Option<Vec<FulfilledLine>>,
}

/// Records that goods of an order arrived.
#[utoipa::path(post, path = "/api/v1/orders/{order_id}/deliver", tag = "orders", params(("order_id" = OrderId, Path), ("If-Match" = Option<String>, Header)),
    request_body = Option<OrderDelivery>, responses((status = 200, body = OrderHead), (status = 409, description = "Not so much is under way."),
    (status = 412, description = "It has another version than If-Match says.")))]
async fn deliver_order(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(order_id): Params<OrderId>,
    if_match: IfMatch,
    Keyed { key, body }: Keyed<Option<OrderDelivery>>,
) -> Result<Versioned<OrderHead>> {
    let OrderDelivery { reason, lines } = body.unwrap_or_default();
    let quantities = lines.map(|lines| quantities(&lines)).transpose()?;
    let deliver = Deliver { step: step(&caller, order_id, if_match, Some(Reason { reason }))?, quantities };
    let head = app.submit(&caller, key, commands::deliver, deliver).await?.value;
    Ok(Versioned(head.version, head))
}

/// What became of an order's lines.
#[derive(Debug, Serialize, ToSchema)]
struct OrderProgress {
    /// The order.
    order_id: OrderId,
    /// By number; at most 2,000.
    lines: Vec<Progress>,
}

/// Says how many of each line were shipped, delivered, returned and refunded.
#[utoipa::path(get, path = "/api/v1/orders/{order_id}/progress", tag = "orders", params(("order_id" = OrderId, Path)), responses((status = 200, body = OrderProgress)))]
async fn get_progress(AppState(app): AppState<App>, caller: Caller, Params(order_id): Params<OrderId>) -> Result<Json<OrderProgress>> {
    let lines = app.read(&caller, move |read| queries::progress(read, order_id)).await?;
    Ok(Json(OrderProgress { order_id, lines }))
}

/// Something to write down.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewRemarkBody {
    /// What. Line breaks are allowed.
    #[schema(min_length = 1, max_length = 4000)]
    text: String,
}

/// Writes something down about an order. It stands in the timeline.
#[utoipa::path(post, path = "/api/v1/orders/{order_id}/remarks", tag = "orders", params(("order_id" = OrderId, Path)), request_body = NewRemarkBody,
    responses((status = 201, body = Remark), (status = 409, description = "There are as many as may be.")))]
async fn add_remark(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(order_id): Params<OrderId>,
    Keyed { key, body }: Keyed<NewRemarkBody>,
) -> Result<Created<Remark>> {
    let mut faults = Faults::default();
    faults.text("text", &body.text.replace(['\n', '\t'], " "), 1, 4000);
    faults.finish()?;
    let remark = app.submit(&caller, key, commands::remark, NewRemark { order_id, text: body.text, by: by(&caller) }).await?.value;
    Ok(Created(format!("/api/v1/orders/{order_id}/timeline"), remark))
}

/// An order's tags.
#[derive(Debug, Serialize, ToSchema)]
struct OrderTags {
    /// The order.
    order_id: OrderId,
    /// Sorted.
    tags: Vec<String>,
}

/// Reads an order's tags.
#[utoipa::path(get, path = "/api/v1/orders/{order_id}/tags", tag = "orders", params(("order_id" = OrderId, Path)), responses((status = 200, body = OrderTags)))]
async fn get_tags(AppState(app): AppState<App>, caller: Caller, Params(order_id): Params<OrderId>) -> Result<Json<OrderTags>> {
    let tags = app.peek(&caller, move |read| queries::tags(read, order_id)).await?;
    Ok(Json(OrderTags { order_id, tags }))
}

/// All tags of an order.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewOrderTags {
    /// Each of 1 to 40 characters; kept in lower case.
    #[schema(max_items = 20)]
    tags: Vec<String>,
}

/// Replaces an order's tags.
#[utoipa::path(put, path = "/api/v1/orders/{order_id}/tags", tag = "orders", params(("order_id" = OrderId, Path), ("If-Match" = Option<String>, Header)),
    request_body = NewOrderTags, responses((status = 200, body = OrderHead), (status = 412, description = "It has another version than If-Match says.")))]
async fn set_tags(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(order_id): Params<OrderId>,
    if_match: IfMatch,
    Body(body): Body<NewOrderTags>,
) -> Result<Versioned<OrderHead>> {
    let tags = normal_tags(&body.tags)?;
    let step = Step { order_id, if_match, reason: String::new(), by: by(&caller) };
    let head = app.submit(&caller, None, commands::set_tags, SetTags { step, tags }).await?.value;
    Ok(Versioned(head.version, head))
}

/// Which orders to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct MarkedFilter {
    /// Those with this tag; left out: those that are on hold.
    #[param(max_length = 40)]
    tag: Option<String>,
}

/// Lists the orders with a tag, or those that are on hold, the latest first.
#[utoipa::path(get, path = "/api/v1/marked-orders", tag = "orders", params(PagingParams, MarkedFilter), responses((status = 200, body = Page<OrderHead>)))]
async fn list_marked(
    AppState(app): AppState<App>,
    caller: Caller,
    Query(filter): Query<MarkedFilter>,
    paging: Paging<i64>,
) -> Result<Json<Page<OrderHead>>> {
    let which = match filter.tag {
        Some(tag) if tag.chars().count() > 40 => return Err(Error::field("tag", "too_long", "at most 40 characters").into()),
        Some(tag) => Marked::Tagged(tag.trim().to_lowercase()),
        None => Marked::Held,
    };
    const LIST: &str = "orders.marked";
    let page = paging.request(LIST)?;
    let (before, limit) = (page.after.unwrap_or(i64::MAX), i64::from(page.limit) + 1);
    let rows = app.read(&caller, move |read| queries::marked(read, &which, before, limit)).await?;
    Ok(Json(paging.page(LIST, rows, |head| head.order_id.as_i64())?))
}

/// Lists everything that happened to an order and was written down about it, the first one first.
#[utoipa::path(get, path = "/api/v1/orders/{order_id}/timeline", tag = "orders", params(("order_id" = OrderId, Path), PagingParams),
    responses((status = 200, body = Page<Entry>)))]
async fn get_timeline(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(order_id): Params<OrderId>,
    paging: Paging<(i64, i64)>,
) -> Result<Json<Page<Entry>>> {
    const LIST: &str = "orders.timeline";
    let page = paging.request(LIST)?;
    let (after, limit) = (page.after.unwrap_or((i64::MIN, i64::MIN)), i64::from(page.limit) + 1);
    let rows = app.read(&caller, move |read| queries::timeline(read, order_id, after, limit)).await?;
    Ok(Json(paging.page(LIST, rows, |entry| (entry.at.micros(), entry.place))?))
}
