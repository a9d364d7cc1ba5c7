//! The routes of returns.

use crate::commands::Outside;
use crate::model::{MAX_LINES, NewLine, OrderId};
use crate::returns::commands::{self, Exchange, Inspect, Receive, RequestReturn, ReturnStep};
use crate::returns::model::*;
use crate::returns::queries::{self, Which};
use crate::routes::by;
use axum::Json;
use axum::extract::State as AppState;
use axum::response::IntoResponse;
use kernel::{Error, Faults, Page};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use utoipa::{IntoParams, ToSchema};
use web::{
    Access, App, Body, Caller, Created, ETag, IfMatch, Keyed, Paging, PagingParams, Params, Query, Result, Route, Versioned, handlers,
};

/// 2,000 lines with their reasons.
const LINES_BODY: usize = 1024 * 1024;
const SMALL_BODY: usize = 16 * 1024;

pub(crate) fn routes() -> Vec<Route> {
    let (see, write) = (Access::Tenant("orders.read"), Access::Tenant("orders.write"));
    vec![
        Route::new(see, handlers!(preview_return)).body_limit(LINES_BODY),
        Route::new(write, handlers!(request_return)).body_limit(LINES_BODY).keyed(),
        Route::new(see, handlers!(list_returns)),
        Route::new(see, handlers!(get_return)),
        Route::new(see, handlers!(list_return_changes)),
        Route::new(write, handlers!(take_return_step)).body_limit(SMALL_BODY).keyed(),
        Route::new(write, handlers!(receive_return)).body_limit(LINES_BODY).keyed(),
        Route::new(write, handlers!(inspect_return)).body_limit(LINES_BODY).keyed(),
        Route::new(write, handlers!(refund_return)).body_limit(SMALL_BODY).keyed(),
        Route::new(write, handlers!(exchange_return)).body_limit(SMALL_BODY).keyed(),
    ]
}

/// What would come back, and what would be sent instead.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ReturnPreviewBody {
    /// What would come back; each line once.
    #[schema(min_items = 1, max_items = 2000)]
    lines: Vec<WantedLine>,
    /// What would be sent instead, as lines of an order.
    #[serde(default)]
    #[schema(min_items = 1, max_items = 2000)]
    exchange_lines: Option<Vec<NewLine>>,
}

/// Says what a return, or an exchange, would cost. Nothing is written.
#[utoipa::path(post, path = "/api/v1/orders/{order_id}/returns/preview", tag = "returns", params(("order_id" = OrderId, Path)),
    request_body = ReturnPreviewBody, responses((status = 200, body = Preview), (status = 409, description = "Not so much can come back.")))]
async fn preview_return(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(order_id): Params<OrderId>,
    Body(body): Body<ReturnPreviewBody>,
) -> Result<Json<Preview>> {
    let mut faults = Faults::default();
    check_wanted(&body.lines, &mut faults);
    faults.finish()?;
    let ReturnPreviewBody { lines, exchange_lines } = body;
    let preview = move |read: &mut store::Read<'_>| commands::preview_of(read, order_id, &lines, exchange_lines.as_deref());
    Ok(Json(app.read(&caller, preview).await?))
}

/// A return to ask for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ReturnBody {
    /// What comes back; each line once.
    #[schema(min_items = 1, max_items = 2000)]
    lines: Vec<WantedLine>,
    /// Why, as the customer says.
    #[serde(default)]
    #[schema(max_length = 500)]
    reason: String,
}

/// Asks for a return of what went out and isn't in another return.
#[utoipa::path(post, path = "/api/v1/orders/{order_id}/returns", tag = "returns", params(("order_id" = OrderId, Path)), request_body = ReturnBody,
    responses((status = 201, body = Return), (status = 409, description = "Not so much can come back, or there are as many returns as may be.")))]
async fn request_return(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(order_id): Params<OrderId>,
    Keyed { key, body }: Keyed<ReturnBody>,
) -> Result<impl IntoResponse> {
    let mut faults = Faults::default();
    faults.text("reason", &body.reason, 0, 500);
    check_wanted(&body.lines, &mut faults);
    faults.finish()?;
    let new = RequestReturn { order_id, lines: body.lines, reason: body.reason, by: by(&caller) };
    let made = app.submit(&caller, key, commands::request, new).await?.value;
    Ok((ETag(made.head.version), Created(format!("/api/v1/returns/{}", made.head.return_id), made)))
}

/// Which returns to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ReturnFilter {
    /// Only those of this order.
    order_id: Option<OrderId>,
    /// Only those that stand here.
    #[param(inline)]
    state: Option<ReturnState>,
}

/// Lists returns, the latest first. At most one of the filters may be given.
#[utoipa::path(get, path = "/api/v1/returns", tag = "returns", params(PagingParams, ReturnFilter), responses((status = 200, body = Page<ReturnHead>)))]
async fn list_returns(
    AppState(app): AppState<App>,
    caller: Caller,
    Query(filter): Query<ReturnFilter>,
    paging: Paging<i64>,
) -> Result<Json<Page<ReturnHead>>> {
    let which = match (filter.order_id, filter.state) {
        (None, None) => Which::All,
        (Some(order_id), None) => Which::OfOrder(order_id),
        (None, Some(state)) => Which::In(state),
        _ => return Err(Error::field("query", "too_many", "at most one of order_id and state").into()),
    };
    const LIST: &str = "orders.returns";
    let page = paging.request(LIST)?;
    let (before, limit) = (page.after.unwrap_or(i64::MAX), i64::from(page.limit) + 1);
    let rows = app.read(&caller, move |read| queries::returns(read, &which, before, limit)).await?;
    Ok(Json(paging.page(LIST, rows, |head| head.return_id.as_i64())?))
}

/// Reads a return with its lines.
#[utoipa::path(get, path = "/api/v1/returns/{return_id}", tag = "returns", params(("return_id" = inline(ReturnId), Path)),
    responses((status = 200, body = Return)))]
async fn get_return(AppState(app): AppState<App>, caller: Caller, Params(return_id): Params<ReturnId>) -> Result<Versioned<Return>> {
    let found = app.peek(&caller, move |read| queries::find(read, return_id)).await?;
    Ok(Versioned(found.head.version, found))
}

/// Lists the changes of a return, the first one first.
#[utoipa::path(get, path = "/api/v1/returns/{return_id}/changes", tag = "returns", params(("return_id" = inline(ReturnId), Path), PagingParams),
    responses((status = 200, body = Page<ReturnChange>)))]
async fn list_return_changes(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(return_id): Params<ReturnId>,
    paging: Paging<i64>,
) -> Result<Json<Page<ReturnChange>>> {
    const LIST: &str = "orders.return_changes";
    let page = paging.request(LIST)?;
    let (after, limit) = (page.after.unwrap_or(0), i64::from(page.limit) + 1);
    let rows = app.read(&caller, move |read| queries::changes(read, return_id, after, limit)).await?;
    Ok(Json(paging.page(LIST, rows, |change| change.version)?))
}

fn step(caller: &Caller, return_id: ReturnId, if_match: IfMatch, reason: String) -> kernel::Result<ReturnStep> {
    let mut faults = Faults::default();
    faults.text("reason", &reason, 0, 500);
    faults.finish()?;
    Ok(ReturnStep { return_id, if_match, reason, by: by(caller) })
}

/// A step that needs nothing but a reason.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ReturnPlainStep)]
enum PlainStep {
    /// Let it come.
    Approve,
    /// Don't.
    Reject,
    /// It doesn't come after all.
    Cancel,
    /// End it without money.
    Close,
}

/// A step of a return.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ReturnStepBody {
    /// What is done.
    step: PlainStep,
    /// For whoever reads the changes later.
    #[serde(default)]
    #[schema(max_length = 500)]
    reason: String,
}

/// Approves, rejects, cancels or closes a return.
#[utoipa::path(post, path = "/api/v1/returns/{return_id}/steps", tag = "returns",
    params(("return_id" = inline(ReturnId), Path), ("If-Match" = Option<String>, Header)), request_body = ReturnStepBody,
    responses((status = 200, body = Return), (status = 409, description = "Its state does not allow it."),
    (status = 412, description = "It has another version than If-Match says.")))]
async fn take_return_step(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(return_id): Params<ReturnId>,
    if_match: IfMatch,
    Keyed { key, body }: Keyed<ReturnStepBody>,
) -> Result<Versioned<Return>> {
    let command = match body.step {
        PlainStep::Approve => ReturnCommand::Approve,
        PlainStep::Reject => ReturnCommand::Reject,
        PlainStep::Cancel => ReturnCommand::Cancel,
        PlainStep::Close => ReturnCommand::Close,
    };
    let step = step(&caller, return_id, if_match, body.reason)?;
    let done = app.submit(&caller, key, commands::take, (step, command)).await?.value;
    Ok(Versioned(done.head.version, done))
}

/// What came.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ReturnReceiveBody {
    /// For whoever reads the changes later.
    #[serde(default)]
    #[schema(max_length = 500)]
    reason: String,
    /// How much of which line; lines that are not named did not come. Left out: everything that was asked for.
    #[serde(default)]
    #[schema(min_items = 1, max_items = 2000)]
    lines: Option<Vec<ReturnCameLine>>,
}

/// How much of a line came.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ReturnCameLine {
    /// Number of the order's line.
    #[schema(minimum = 1, maximum = 100_000)]
    line: u32,
    /// How many.
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    quantity: i64,
}

/// Notes what came of an approved return.
#[utoipa::path(post, path = "/api/v1/returns/{return_id}/receive", tag = "returns",
    params(("return_id" = inline(ReturnId), Path), ("If-Match" = Option<String>, Header)), request_body = Option<ReturnReceiveBody>,
    responses((status = 200, body = Return), (status = 409, description = "Its state does not allow it, or more came than was asked for."),
    (status = 412, description = "It has another version than If-Match says.")))]
async fn receive_return(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(return_id): Params<ReturnId>,
    if_match: IfMatch,
    Keyed { key, body }: Keyed<Option<ReturnReceiveBody>>,
) -> Result<Versioned<Return>> {
    let ReturnReceiveBody { reason, lines } = body.unwrap_or_default();
    let mut faults = Faults::default();
    let mut quantities = None;
    if let Some(lines) = &lines {
        let mut seen = BTreeSet::new();
        if lines.is_empty() || lines.len() > MAX_LINES {
            faults.add("lines", "wrong_count", format!("{} lines; between 1 and {MAX_LINES}", lines.len()));
        }
        for (i, line) in lines.iter().take(MAX_LINES).enumerate() {
            check_line(i, line.line, &[("quantity", line.quantity, 0)], &mut seen, &mut faults);
        }
        quantities = Some(lines.iter().map(|line| (line.line, line.quantity)).collect::<BTreeMap<u32, i64>>());
    }
    faults.finish()?;
    let receive = Receive { step: step(&caller, return_id, if_match, reason)?, quantities };
    let done = app.submit(&caller, key, commands::receive, receive).await?.value;
    Ok(Versioned(done.head.version, done))
}

/// What may be sold again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ReturnInspectBody {
    /// For whoever reads the changes later.
    #[serde(default)]
    #[schema(max_length = 500)]
    reason: String,
    /// Every line of which something came.
    #[schema(min_items = 1, max_items = 2000)]
    lines: Vec<InspectedLine>,
}

/// Notes what of a return may be sold again, and what is refunded.
#[utoipa::path(post, path = "/api/v1/returns/{return_id}/inspect", tag = "returns",
    params(("return_id" = inline(ReturnId), Path), ("If-Match" = Option<String>, Header)), request_body = ReturnInspectBody,
    responses((status = 200, body = Return), (status = 409, description = "Its state does not allow it, or the quantities are not what came."),
    (status = 412, description = "It has another version than If-Match says.")))]
async fn inspect_return(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(return_id): Params<ReturnId>,
    if_match: IfMatch,
    Keyed { key, body }: Keyed<ReturnInspectBody>,
) -> Result<Versioned<Return>> {
    let mut faults = Faults::default();
    let mut seen = BTreeSet::new();
    if body.lines.is_empty() || body.lines.len() > MAX_LINES {
        faults.add("lines", "wrong_count", format!("{} lines; between 1 and {MAX_LINES}", body.lines.len()));
    }
    for (i, line) in body.lines.iter().take(MAX_LINES).enumerate() {
        let quantities = [("restock", line.restock, 0), ("write_off", line.write_off, 0), ("refund", line.refund.unwrap_or(0), 0)];
        check_line(i, line.line, &quantities, &mut seen, &mut faults);
    }
    faults.finish()?;
    let inspect = Inspect { step: step(&caller, return_id, if_match, body.reason)?, lines: body.lines };
    let done = app.submit(&caller, key, commands::inspect, inspect).await?.value;
    Ok(Versioned(done.head.version, done))
}

/// Why something is done.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ReasonOfReturn {
    /// For whoever reads the changes later.
    #[serde(default)]
    #[schema(max_length = 500)]
    reason: String,
}

/// Issues the credit note over what an inspected return refunds.
#[utoipa::path(post, path = "/api/v1/returns/{return_id}/refund", tag = "returns",
    params(("return_id" = inline(ReturnId), Path), ("If-Match" = Option<String>, Header)), request_body = Option<ReasonOfReturn>,
    responses((status = 200, body = Return), (status = 409, description = "Its state does not allow it, or nothing is refunded."),
    (status = 412, description = "It has another version than If-Match says.")))]
async fn refund_return(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(return_id): Params<ReturnId>,
    if_match: IfMatch,
    Keyed { key, body }: Keyed<Option<ReasonOfReturn>>,
) -> Result<Versioned<Return>> {
    let step = step(&caller, return_id, if_match, body.unwrap_or_default().reason)?;
    let done = app.submit(&caller, key, commands::refund, step).await?.value;
    Ok(Versioned(done.head.version, done))
}

/// Another order instead.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ReturnExchangeBody {
    /// For whoever reads the changes later.
    #[serde(default)]
    #[schema(max_length = 500)]
    reason: String,
    /// The order that takes its place: placed, of the same customer and currency.
    order_id: OrderId,
}

/// An exchange.
#[derive(Debug, Serialize, ToSchema)]
struct ReturnExchange {
    /// The return.
    #[serde(flatten)]
    of: Return,
    /// What the customer has still to pay for the other order, less what was credited, in minor units; below zero is given back.
    due_minor: i64,
}

/// Credits what an inspected return refunds, and names the order that takes its place.
#[utoipa::path(post, path = "/api/v1/returns/{return_id}/exchange", tag = "returns",
    params(("return_id" = inline(ReturnId), Path), ("If-Match" = Option<String>, Header)), request_body = ReturnExchangeBody,
    responses((status = 200, body = ReturnExchange), (status = 409, description = "Its state or the other order does not allow it."),
    (status = 412, description = "It has another version than If-Match says.")))]
async fn exchange_return(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(return_id): Params<ReturnId>,
    if_match: IfMatch,
    Keyed { key, body }: Keyed<ReturnExchangeBody>,
) -> Result<Versioned<ReturnExchange>> {
    let outside = app.part_if_any::<Outside>().copied();
    let exchange = Exchange { step: step(&caller, return_id, if_match, body.reason)?, order_id: body.order_id, outside };
    let done = app.submit(&caller, key, commands::exchange, exchange).await?.value;
    Ok(Versioned(done.of.head.version, ReturnExchange { of: done.of, due_minor: done.due_minor }))
}
