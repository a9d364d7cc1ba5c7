//! The HTTP routes: parse, check, and hand over to a command or a query.

use crate::cache::{Orders, Shared};
use crate::commands::{self, ChangeCustomer, CreateCustomer, CreateOrder, Edit, Fulfil, IssueNote, PutAddress, Step};
use crate::customers::{Address, Customer, MAX_ADDRESSES, NewAddress};
use crate::error;
use crate::model::*;
use crate::queries::{self, CustomerWithAddresses, DailySales, GroupBy, Note, Order, SalesPosition, Which};
use crate::write::By;
use axum::Json;
use axum::extract::State as AppState;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use kernel::{Currency, Error, Faults, Page};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use traffic::cache::Sourced;
use utoipa::{IntoParams, ToSchema};
use web::{
    Access, App, Body, Caller, Created, ETag, IfMatch, Keyed, Paging, PagingParams, Params, Query, Result, Route, Versioned, aged, handlers,
};

/// 2,000 lines with long texts.
const ORDER_BODY: usize = 2 * 1024 * 1024;
const SMALL_BODY: usize = 64 * 1024;
/// The longest period of a report, in days.
const MAX_PERIOD: i64 = 1_100;

pub(crate) fn routes() -> Vec<Route> {
    let (orders, customers) = (Access::Tenant("orders.write"), Access::Tenant("customers.write"));
    let (see_orders, see_customers) = (Access::Tenant("orders.read"), Access::Tenant("customers.read"));
    vec![
        Route::new(orders, handlers!(create_order)).body_limit(ORDER_BODY).keyed().taken_in(),
        Route::new(see_orders, handlers!(list_orders)),
        Route::new(see_orders, handlers!(get_order)),
        Route::new(orders, handlers!(edit_order)).body_limit(ORDER_BODY),
        Route::new(orders, handlers!(place_order)).body_limit(SMALL_BODY).keyed(),
        Route::new(orders, handlers!(cancel_order)).body_limit(SMALL_BODY).keyed(),
        Route::new(orders, handlers!(fulfil_order)).body_limit(ORDER_BODY).keyed(),
        Route::new(orders, handlers!(close_order)).body_limit(SMALL_BODY).keyed(),
        Route::new(see_orders, handlers!(list_changes)),
        Route::new(see_orders, handlers!(get_lines_at)),
        Route::new(orders, handlers!(issue_credit_note)).body_limit(ORDER_BODY).keyed(),
        Route::new(see_orders, handlers!(list_credit_notes)),
        Route::new(see_orders, handlers!(get_credit_note)),
        Route::new(orders, handlers!(record_adjustment)).body_limit(ORDER_BODY).keyed(),
        Route::new(see_orders, handlers!(list_adjustments)),
        Route::new(see_orders, handlers!(get_adjustment)),
        Route::new(customers, handlers!(create_customer)).body_limit(SMALL_BODY).keyed(),
        Route::new(see_customers, handlers!(list_customers)),
        Route::new(see_customers, handlers!(get_customer)),
        Route::new(customers, handlers!(change_customer)).body_limit(SMALL_BODY),
        Route::new(customers, handlers!(add_address)).body_limit(SMALL_BODY).keyed(),
        Route::new(customers, handlers!(change_address, remove_address)).body_limit(SMALL_BODY),
        Route::new(Access::Tenant("reports.read"), handlers!(daily_sales)),
    ]
}

pub(crate) fn by(caller: &Caller) -> By {
    By { actor: caller.actor, request_id: Some(caller.request_id.clone()) }
}

/// A field that was given, be it null. With `#[serde(default)]` a missing one is none.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> std::result::Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

// Orders.

/// A new order.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewOrder {
    /// Only write it down; it is placed later.
    #[serde(default)]
    draft: bool,
    /// What another system calls it; unique among the tenant's documents.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 128)]
    external_ref: Option<String>,
    /// Who buys.
    #[serde(default)]
    customer_id: Option<CustomerId>,
    /// Where it goes: a country's name or ISO code.
    #[schema(min_length = 1, max_length = 64)]
    country: String,
    /// Of every amount.
    currency: Currency,
    /// What is bought.
    #[schema(min_items = 1, max_items = 2000)]
    lines: Vec<NewLine>,
}

/// Places an order, or writes a draft of one down.
#[utoipa::path(post, path = "/api/v1/orders", tag = "orders", request_body = NewOrder, responses(
    (status = 201, description = "The order, without its lines.", body = OrderHead),
    (status = 409, description = "The external_ref is taken, or the idempotency key was used for another request.")))]
async fn create_order(AppState(app): AppState<App>, caller: Caller, Keyed { key, body }: Keyed<NewOrder>) -> Result<impl IntoResponse> {
    let mut faults = Faults::default();
    faults.optional_text("external_ref", body.external_ref.as_deref(), 128);
    faults.text("country", &body.country, 1, 64);
    let lines = price_lines(DocumentKind::Order, body.currency, &body.lines, 0, &mut faults);
    faults.finish()?;
    let NewOrder { draft, external_ref, customer_id, country, currency, .. } = body;
    let new = CreateOrder { draft, external_ref, customer_id, country, currency, lines, by: by(&caller) };
    let head = app.submit_set(&caller, key, commands::create_orders, new).await?.value;
    Ok((ETag(head.version), Created(format!("/api/v1/orders/{}", head.order_id), head)))
}

/// Which orders to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct OrderFilter {
    /// Only those of this customer.
    customer_id: Option<CustomerId>,
    /// Only the one with this number.
    number: Option<i64>,
    /// Only the one with this external reference.
    #[param(max_length = 128)]
    external_ref: Option<String>,
}

/// Lists orders, the latest first. At most one of the filters may be given.
#[utoipa::path(get, path = "/api/v1/orders", tag = "orders", params(PagingParams, OrderFilter), responses((status = 200, body = Page<OrderHead>)))]
async fn list_orders(
    AppState(app): AppState<App>,
    caller: Caller,
    Query(filter): Query<OrderFilter>,
    paging: Paging<i64>,
) -> Result<Json<Page<OrderHead>>> {
    let which = match (filter.customer_id, filter.number, filter.external_ref) {
        (None, None, None) => Which::All,
        (Some(customer_id), None, None) => Which::OfCustomer(customer_id),
        (None, Some(number), None) => Which::Numbered(number),
        (None, None, Some(external_ref)) => Which::Named(external_ref),
        _ => return Err(Error::field("query", "too_many", "at most one of customer_id, number and external_ref").into()),
    };
    const LIST: &str = "orders.orders";
    let page = paging.request(LIST)?;
    let (before, limit) = (page.after.unwrap_or(i64::MAX), i64::from(page.limit) + 1);
    let rows = app.read(&caller, move |read| queries::orders(read, &which, before, limit)).await?;
    Ok(Json(paging.page(LIST, rows, |head| head.order_id.as_i64())?))
}

/// Reads an order with its current lines. While the database is away: as it was last read, with `Age` and `Warning`.
#[utoipa::path(get, path = "/api/v1/orders/{order_id}", tag = "orders", params(("order_id" = OrderId, Path)), responses((status = 200, body = Order)))]
async fn get_order(AppState(app): AppState<App>, caller: Caller, Params(order_id): Params<OrderId>) -> Result<impl IntoResponse> {
    let key = (caller.tenant()?, order_id);
    let cache = &app.part::<Orders>().0;
    let read = move |read: &mut store::Read<'_>| queries::order(read, order_id).map(Shared::from);
    let (headers, order) = match app.or_remembered(&caller, cache, key, read, |order| Some(order.clone())).await? {
        Sourced::Now(order) => (HeaderMap::new(), order),
        Sourced::Then(found) => {
            let age_ms = Some(found.age().as_millis() as u64);
            (aged(&found), Shared::from(Order { age_ms, ..Order::clone(&found.0) }))
        }
    };
    Ok((headers, Versioned(order.0.head.version, order)))
}

/// A change of an order. What is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct OrderEdit {
    /// Why.
    #[serde(default)]
    #[schema(max_length = 500)]
    reason: String,
    /// Where it goes.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 64)]
    country: Option<String>,
    /// Who buys; null for nobody known.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<CustomerId>)]
    customer_id: Option<Option<CustomerId>>,
    /// All lines as they shall be. Those with the number of a line that is there replace it; the others are new; what is missing goes.
    #[serde(default)]
    #[schema(min_items = 1, max_items = 2000)]
    lines: Option<Vec<NewLine>>,
}

/// Edits an order that is a draft, placed or partly fulfilled. The lines before are kept under their version.
#[utoipa::path(patch, path = "/api/v1/orders/{order_id}", tag = "orders", params(("order_id" = OrderId, Path), ("If-Match" = Option<String>, Header)),
    request_body = OrderEdit, responses((status = 200, body = OrderHead),
    (status = 409, description = "Its state, what was fulfilled or what was credited does not allow it, or there is not enough stock for what is added."),
    (status = 412, description = "It has another version than If-Match says.")))]
async fn edit_order(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(order_id): Params<OrderId>,
    if_match: IfMatch,
    Body(body): Body<OrderEdit>,
) -> Result<Versioned<OrderHead>> {
    let mut faults = Faults::default();
    faults.text("reason", &body.reason, 0, 500);
    faults.optional_text("country", body.country.as_deref(), 64);
    if body.country.is_none() && body.customer_id.is_none() && body.lines.is_none() {
        faults.add("body", "empty", "nothing is to be changed: give country, customer_id or lines");
    }
    faults.finish()?;
    let OrderEdit { reason, country, customer_id, lines } = body;
    let outside = app.part_if_any::<commands::Outside>().copied();
    let edit = Edit { step: Step { order_id, if_match, reason, by: by(&caller) }, lines, country, customer_id, outside };
    let head = app.submit(&caller, None, commands::edit_order, edit).await?.value;
    Ok(Versioned(head.version, head))
}

/// Why something is done.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reason {
    /// For whoever reads the changes later.
    #[serde(default)]
    #[schema(max_length = 500)]
    pub reason: String,
}

pub(crate) fn step(caller: &Caller, order_id: OrderId, if_match: IfMatch, reason: Option<Reason>) -> kernel::Result<Step> {
    let reason = reason.unwrap_or_default().reason;
    let mut faults = Faults::default();
    faults.text("reason", &reason, 0, 500);
    faults.finish()?;
    Ok(Step { order_id, if_match, reason, by: by(caller) })
}

/// Places a draft.
#[utoipa::path(post, path = "/api/v1/orders/{order_id}/place", tag = "orders", params(("order_id" = OrderId, Path), ("If-Match" = Option<String>, Header)),
    request_body = Option<Reason>, responses((status = 200, body = OrderHead), (status = 409, description = "It is not a draft."),
    (status = 412, description = "It has another version than If-Match says.")))]
async fn place_order(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(order_id): Params<OrderId>,
    if_match: IfMatch,
    Keyed { key, body }: Keyed<Option<Reason>>,
) -> Result<Versioned<OrderHead>> {
    let step = step(&caller, order_id, if_match, body)?;
    let head = app.submit(&caller, key, commands::place_order, step).await?.value;
    Ok(Versioned(head.version, head))
}

/// Cancels an order of which nothing was fulfilled or credited.
#[utoipa::path(post, path = "/api/v1/orders/{order_id}/cancel", tag = "orders", params(("order_id" = OrderId, Path), ("If-Match" = Option<String>, Header)),
    request_body = Option<Reason>, responses((status = 200, body = OrderHead), (status = 409, description = "Its state does not allow it, or it was credited."),
    (status = 412, description = "It has another version than If-Match says.")))]
async fn cancel_order(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(order_id): Params<OrderId>,
    if_match: IfMatch,
    Keyed { key, body }: Keyed<Option<Reason>>,
) -> Result<Versioned<OrderHead>> {
    let step = step(&caller, order_id, if_match, body)?;
    let head = app.submit(&caller, key, commands::cancel_order, step).await?.value;
    Ok(Versioned(head.version, head))
}

/// Closes a fulfilled order.
#[utoipa::path(post, path = "/api/v1/orders/{order_id}/close", tag = "orders", params(("order_id" = OrderId, Path), ("If-Match" = Option<String>, Header)),
    request_body = Option<Reason>, responses((status = 200, body = OrderHead), (status = 409, description = "It is not fulfilled."),
    (status = 412, description = "It has another version than If-Match says.")))]
async fn close_order(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(order_id): Params<OrderId>,
    if_match: IfMatch,
    Keyed { key, body }: Keyed<Option<Reason>>,
) -> Result<Versioned<OrderHead>> {
    let step = step(&caller, order_id, if_match, body)?;
    let head = app.submit(&caller, key, commands::close_order, step).await?.value;
    Ok(Versioned(head.version, head))
}

/// What went out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Fulfilment {
    /// For whoever reads the changes later.
    #[serde(default)]
    #[schema(max_length = 500)]
    reason: String,
    /// How much of which line; left out: everything that remains.
    #[serde(default)]
    #[schema(min_items = 1, max_items = 2000)]
    lines: Option<Vec<FulfilledLine>>,
}

/// How much of a line went out.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FulfilledLine {
    /// Number of the line.
    #[schema(minimum = 1, maximum = 100_000)]
    line: u32,
    /// How many.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    quantity: i64,
}

/// Records that goods of an order went out.
#[utoipa::path(post, path = "/api/v1/orders/{order_id}/fulfil", tag = "orders", params(("order_id" = OrderId, Path), ("If-Match" = Option<String>, Header)),
    request_body = Option<Fulfilment>, responses((status = 200, body = OrderHead), (status = 409, description = "Its state does not allow it, or less remains."),
    (status = 412, description = "It has another version than If-Match says.")))]
async fn fulfil_order(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(order_id): Params<OrderId>,
    if_match: IfMatch,
    Keyed { key, body }: Keyed<Option<Fulfilment>>,
) -> Result<Versioned<OrderHead>> {
    let Fulfilment { reason, lines } = body.unwrap_or_default();
    let quantities = lines.map(|lines| quantities(&lines)).transpose()?;
    let fulfil = Fulfil { step: step(&caller, order_id, if_match, Some(Reason { reason }))?, quantities };
    let head = app.submit(&caller, key, commands::fulfil_order, fulfil).await?.value;
    Ok(Versioned(head.version, head))
}

pub(crate) fn quantities(lines: &[FulfilledLine]) -> kernel::Result<BTreeMap<u32, i64>> {
    let mut faults = Faults::default();
    if lines.is_empty() || lines.len() > MAX_LINES {
        faults.add("lines", "wrong_count", format!("{} lines; between 1 and {MAX_LINES}", lines.len()));
    }
    let mut quantities = BTreeMap::new();
    for (i, line) in lines.iter().take(MAX_LINES).enumerate() {
        if line.line == 0 || line.line > MAX_LINE_NUMBER {
            faults.add(format!("lines[{i}].line"), "out_of_range", format!("between 1 and {MAX_LINE_NUMBER}"));
        }
        if line.quantity < 1 || line.quantity > MAX_QUANTITY {
            faults.add(format!("lines[{i}].quantity"), "out_of_range", format!("between 1 and {MAX_QUANTITY}"));
        }
        if quantities.insert(line.line, line.quantity).is_some() {
            faults.add(format!("lines[{i}].line"), "repeated", "this line is given twice");
        }
    }
    faults.finish()?;
    Ok(quantities)
}

/// Lists the changes of an order, the first one first.
#[utoipa::path(get, path = "/api/v1/orders/{order_id}/changes", tag = "orders", params(("order_id" = OrderId, Path), PagingParams),
    responses((status = 200, body = Page<Change>)))]
async fn list_changes(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(order_id): Params<OrderId>,
    paging: Paging<i64>,
) -> Result<Json<Page<Change>>> {
    const LIST: &str = "orders.changes";
    let page = paging.request(LIST)?;
    let (after, limit) = (page.after.unwrap_or(0), i64::from(page.limit) + 1);
    let rows = app.read(&caller, move |read| queries::changes(read, order_id, after, limit)).await?;
    Ok(Json(paging.page(LIST, rows, |change| change.version)?))
}

/// The lines of a version of an order.
#[derive(Debug, Serialize, ToSchema)]
struct LinesAt {
    /// By number; at most 2,000.
    lines: Vec<Line>,
}

/// Reads the lines as a version of the order had them.
#[utoipa::path(get, path = "/api/v1/orders/{order_id}/versions/{version}/lines", tag = "orders", params(("order_id" = OrderId, Path), ("version" = i64, Path)),
    responses((status = 200, body = LinesAt)))]
async fn get_lines_at(
    AppState(app): AppState<App>,
    caller: Caller,
    Params((order_id, version)): Params<(OrderId, i64)>,
) -> Result<Json<LinesAt>> {
    let lines = app.read(&caller, move |read| queries::lines_at(read, order_id, version)).await?;
    Ok(Json(LinesAt { lines }))
}

// Credit notes and adjustments.

/// A new credit note.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewCreditNote {
    /// What another system calls it; unique among the tenant's documents.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 128)]
    external_ref: Option<String>,
    /// The order that it credits, if it is one order.
    #[serde(default)]
    order_id: Option<OrderId>,
    /// Whom it concerns; left out: the order's customer.
    #[serde(default)]
    customer_id: Option<CustomerId>,
    /// A country's name or ISO code; left out: the order's.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 64)]
    country: Option<String>,
    /// Of every amount; the order's, if there is one.
    currency: Currency,
    /// Why.
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
    /// What is taken back: quantities below zero.
    #[schema(min_items = 1, max_items = 2000)]
    lines: Vec<NewLine>,
}

/// Issues a credit note, against an order or on its own.
#[utoipa::path(post, path = "/api/v1/credit-notes", tag = "orders", request_body = NewCreditNote, responses(
    (status = 201, description = "The credit note, without its lines.", body = NoteHead),
    (status = 409, description = "The external_ref is taken, the order's state does not allow it, or more would be credited than it comes to.")))]
async fn issue_credit_note(
    AppState(app): AppState<App>,
    caller: Caller,
    Keyed { key, body }: Keyed<NewCreditNote>,
) -> Result<impl IntoResponse> {
    let mut faults = Faults::default();
    faults.optional_text("external_ref", body.external_ref.as_deref(), 128);
    faults.optional_text("country", body.country.as_deref(), 64);
    faults.text("reason", &body.reason, 1, 500);
    let lines = price_lines(DocumentKind::CreditNote, body.currency, &body.lines, 0, &mut faults);
    faults.finish()?;
    let NewCreditNote { external_ref, order_id, customer_id, country, currency, reason, .. } = body;
    let new = IssueNote {
        kind: DocumentKind::CreditNote,
        external_ref,
        order_id,
        customer_id,
        country,
        currency,
        reason,
        lines,
        by: by(&caller),
    };
    let head = app.submit(&caller, key, commands::issue_note, new).await?.value;
    Ok(Created(format!("/api/v1/credit-notes/{}", head.id), head))
}

/// A new adjustment.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewAdjustment {
    /// What another system calls it; unique among the tenant's documents.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 128)]
    external_ref: Option<String>,
    /// Whom it concerns.
    #[serde(default)]
    customer_id: Option<CustomerId>,
    /// A country's name or ISO code.
    #[schema(min_length = 1, max_length = 64)]
    country: String,
    /// Of every amount.
    currency: Currency,
    /// Why.
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
    /// What is corrected: quantities and prices of either sign.
    #[schema(min_items = 1, max_items = 2000)]
    lines: Vec<NewLine>,
}

/// Records an adjustment that is tied to no goods, such as a bad debt.
#[utoipa::path(post, path = "/api/v1/adjustments", tag = "orders", request_body = NewAdjustment, responses(
    (status = 201, description = "The adjustment, without its lines.", body = NoteHead),
    (status = 409, description = "The external_ref is taken.")))]
async fn record_adjustment(
    AppState(app): AppState<App>,
    caller: Caller,
    Keyed { key, body }: Keyed<NewAdjustment>,
) -> Result<impl IntoResponse> {
    let mut faults = Faults::default();
    faults.optional_text("external_ref", body.external_ref.as_deref(), 128);
    faults.text("country", &body.country, 1, 64);
    faults.text("reason", &body.reason, 1, 500);
    let lines = price_lines(DocumentKind::Adjustment, body.currency, &body.lines, 0, &mut faults);
    faults.finish()?;
    let NewAdjustment { external_ref, customer_id, country, currency, reason, .. } = body;
    let (kind, country) = (DocumentKind::Adjustment, Some(country));
    let new = IssueNote { kind, external_ref, order_id: None, customer_id, country, currency, reason, lines, by: by(&caller) };
    let head = app.submit(&caller, key, commands::issue_note, new).await?.value;
    Ok(Created(format!("/api/v1/adjustments/{}", head.id), head))
}

/// Which credit notes to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct CreditNoteFilter {
    /// Only those against this order.
    order_id: Option<OrderId>,
}

async fn notes(
    app: &App,
    caller: &Caller,
    kind: DocumentKind,
    order: Option<OrderId>,
    paging: Paging<i64>,
) -> Result<Json<Page<NoteHead>>> {
    let list = if kind == DocumentKind::CreditNote { "orders.credit_notes" } else { "orders.adjustments" };
    let page = paging.request(list)?;
    let (before, limit) = (page.after.unwrap_or(i64::MAX), i64::from(page.limit) + 1);
    let rows = app.read(caller, move |read| queries::notes(read, kind, order, before, limit)).await?;
    Ok(Json(paging.page(list, rows, |head| head.note_id)?))
}

/// Lists credit notes, the latest first.
#[utoipa::path(get, path = "/api/v1/credit-notes", tag = "orders", params(PagingParams, CreditNoteFilter), responses((status = 200, body = Page<NoteHead>)))]
async fn list_credit_notes(
    AppState(app): AppState<App>,
    caller: Caller,
    Query(filter): Query<CreditNoteFilter>,
    paging: Paging<i64>,
) -> Result<Json<Page<NoteHead>>> {
    notes(&app, &caller, DocumentKind::CreditNote, filter.order_id, paging).await
}

/// Lists adjustments, the latest first.
#[utoipa::path(get, path = "/api/v1/adjustments", tag = "orders", params(PagingParams), responses((status = 200, body = Page<NoteHead>)))]
async fn list_adjustments(AppState(app): AppState<App>, caller: Caller, paging: Paging<i64>) -> Result<Json<Page<NoteHead>>> {
    notes(&app, &caller, DocumentKind::Adjustment, None, paging).await
}

/// Reads a credit note with its lines.
#[utoipa::path(get, path = "/api/v1/credit-notes/{credit_note_id}", tag = "orders", params(("credit_note_id" = inline(CreditNoteId), Path)),
    responses((status = 200, body = Note)))]
async fn get_credit_note(AppState(app): AppState<App>, caller: Caller, Params(id): Params<CreditNoteId>) -> Result<Json<Note>> {
    let note = app.peek(&caller, move |read| queries::note(read, DocumentKind::CreditNote, id.as_i64())).await?;
    Ok(Json(note.ok_or_else(error::credit_note_not_found)?))
}

/// Reads an adjustment with its lines.
#[utoipa::path(get, path = "/api/v1/adjustments/{adjustment_id}", tag = "orders", params(("adjustment_id" = inline(AdjustmentId), Path)),
    responses((status = 200, body = Note)))]
async fn get_adjustment(AppState(app): AppState<App>, caller: Caller, Params(id): Params<AdjustmentId>) -> Result<Json<Note>> {
    let note = app.peek(&caller, move |read| queries::note(read, DocumentKind::Adjustment, id.as_i64())).await?;
    Ok(Json(note.ok_or_else(error::adjustment_not_found)?))
}

// Customers.

/// A new customer.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewCustomer {
    /// What another system calls it; unique among the tenant's customers.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 128)]
    external_ref: Option<String>,
    /// Name of the person or the company.
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    /// Where to write to.
    #[serde(default)]
    #[schema(min_length = 3, max_length = 254)]
    email: Option<String>,
    /// A country's name or ISO code.
    #[serde(default)]
    #[schema(max_length = 64)]
    country: String,
    /// At most 20.
    #[serde(default)]
    #[schema(max_items = 20)]
    addresses: Vec<NewAddress>,
}

/// Creates a customer.
#[utoipa::path(post, path = "/api/v1/customers", tag = "customers", request_body = NewCustomer, responses(
    (status = 201, body = CustomerWithAddresses), (status = 409, description = "The external_ref is taken.")))]
async fn create_customer(
    AppState(app): AppState<App>,
    caller: Caller,
    Keyed { key, body }: Keyed<NewCustomer>,
) -> Result<impl IntoResponse> {
    let mut faults = Faults::default();
    faults.optional_text("external_ref", body.external_ref.as_deref(), 128);
    faults.text("name", &body.name, 1, 200);
    if let Some(email) = &body.email {
        faults.email("email", email);
    }
    faults.text("country", &body.country, 0, 64);
    if body.addresses.len() > MAX_ADDRESSES {
        faults.add("addresses", "too_many", format!("{} addresses; at most {MAX_ADDRESSES}", body.addresses.len()));
    }
    for (i, address) in body.addresses.iter().take(MAX_ADDRESSES).enumerate() {
        address.check(&format!("addresses[{i}]."), &mut faults);
    }
    faults.finish()?;
    let NewCustomer { external_ref, name, email, country, addresses } = body;
    let new = CreateCustomer { external_ref, name, email, country, addresses };
    let made = app.submit(&caller, key, commands::create_customer, new).await?.value;
    Ok((ETag(made.customer.version), Created(format!("/api/v1/customers/{}", made.customer.customer_id), made)))
}

/// Which customers to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct CustomerFilter {
    /// Only the one with this external reference.
    #[param(max_length = 128)]
    external_ref: Option<String>,
}

/// Lists customers, the latest first.
#[utoipa::path(get, path = "/api/v1/customers", tag = "customers", params(PagingParams, CustomerFilter), responses((status = 200, body = Page<Customer>)))]
async fn list_customers(
    AppState(app): AppState<App>,
    caller: Caller,
    Query(filter): Query<CustomerFilter>,
    paging: Paging<i64>,
) -> Result<Json<Page<Customer>>> {
    const LIST: &str = "orders.customers";
    let page = paging.request(LIST)?;
    let (before, limit) = (page.after.unwrap_or(i64::MAX), i64::from(page.limit) + 1);
    let rows = app.read(&caller, move |read| queries::customers(read, filter.external_ref.as_deref(), before, limit)).await?;
    Ok(Json(paging.page(LIST, rows, |customer| customer.customer_id.as_i64())?))
}

/// Reads a customer with its addresses.
#[utoipa::path(get, path = "/api/v1/customers/{customer_id}", tag = "customers", params(("customer_id" = CustomerId, Path)),
    responses((status = 200, body = CustomerWithAddresses)))]
async fn get_customer(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(customer_id): Params<CustomerId>,
) -> Result<Versioned<CustomerWithAddresses>> {
    let found = app.peek(&caller, move |read| queries::customer(read, customer_id)).await?;
    Ok(Versioned(found.customer.version, found))
}

/// A change of a customer. What is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CustomerEdit {
    /// What another system calls it; null for nothing.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 128)]
    external_ref: Option<Option<String>>,
    /// Name of the person or the company.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    /// Where to write to; null for nowhere.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, min_length = 3, max_length = 254)]
    email: Option<Option<String>>,
    /// A country's name or ISO code.
    #[serde(default)]
    #[schema(max_length = 64)]
    country: Option<String>,
}

/// Changes a customer.
#[utoipa::path(patch, path = "/api/v1/customers/{customer_id}", tag = "customers",
    params(("customer_id" = CustomerId, Path), ("If-Match" = Option<String>, Header)), request_body = CustomerEdit,
    responses((status = 200, body = CustomerWithAddresses), (status = 409, description = "The external_ref is taken."),
    (status = 412, description = "It has another version than If-Match says.")))]
async fn change_customer(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(customer_id): Params<CustomerId>,
    if_match: IfMatch,
    Body(body): Body<CustomerEdit>,
) -> Result<Versioned<CustomerWithAddresses>> {
    let mut faults = Faults::default();
    faults.optional_text("external_ref", body.external_ref.as_ref().and_then(|r| r.as_deref()), 128);
    faults.optional_text("name", body.name.as_deref(), 200);
    if let Some(Some(email)) = &body.email {
        faults.email("email", email);
    }
    faults.text("country", body.country.as_deref().unwrap_or_default(), 0, 64);
    faults.finish()?;
    let CustomerEdit { external_ref, name, email, country } = body;
    let change = ChangeCustomer { customer_id, if_match, external_ref, name, email, country };
    let changed = app.submit(&caller, None, commands::change_customer, change).await?.value;
    Ok(Versioned(changed.customer.version, changed))
}

fn checked_address(address: NewAddress) -> kernel::Result<NewAddress> {
    let mut faults = Faults::default();
    address.check("", &mut faults);
    faults.finish()?;
    Ok(address)
}

/// Adds an address to a customer, who has at most 20.
#[utoipa::path(post, path = "/api/v1/customers/{customer_id}/addresses", tag = "customers", params(("customer_id" = CustomerId, Path)),
    request_body = NewAddress, responses((status = 201, body = Address), (status = 409, description = "The customer has 20 addresses.")))]
async fn add_address(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(customer_id): Params<CustomerId>,
    Keyed { key, body }: Keyed<NewAddress>,
) -> Result<Created<Address>> {
    let put = PutAddress { customer_id, address_id: None, address: checked_address(body)? };
    let address = app.submit(&caller, key, commands::put_address, put).await?.value;
    Ok(Created(format!("/api/v1/customers/{customer_id}/addresses/{}", address.address_id), address))
}

/// Replaces an address of a customer.
#[utoipa::path(put, path = "/api/v1/customers/{customer_id}/addresses/{address_id}", tag = "customers",
    params(("customer_id" = CustomerId, Path), ("address_id" = AddressId, Path)), request_body = NewAddress, responses((status = 200, body = Address)))]
async fn change_address(
    AppState(app): AppState<App>,
    caller: Caller,
    Params((customer_id, address_id)): Params<(CustomerId, AddressId)>,
    Body(body): Body<NewAddress>,
) -> Result<Json<Address>> {
    let put = PutAddress { customer_id, address_id: Some(address_id), address: checked_address(body)? };
    Ok(Json(app.submit(&caller, None, commands::put_address, put).await?.value))
}

/// Removes an address of a customer. Orders keep what they say.
#[utoipa::path(delete, path = "/api/v1/customers/{customer_id}/addresses/{address_id}", tag = "customers",
    params(("customer_id" = CustomerId, Path), ("address_id" = AddressId, Path)), responses((status = 204, description = "It is gone.")))]
async fn remove_address(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(address): Params<(CustomerId, AddressId)>,
) -> Result<StatusCode> {
    app.submit(&caller, None, commands::remove_address, address).await?;
    Ok(StatusCode::NO_CONTENT)
}

// Reports.

/// Which days, and by what they are added up.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ReportFilter {
    /// The first UTC day, such as 2026-01-01.
    #[param(format = Date)]
    from: String,
    /// The last UTC day, at most 1,100 days from the first.
    #[param(format = Date)]
    to: String,
    /// One row for each day (the default), product or country, and currency.
    #[param(inline)]
    group_by: Option<GroupBy>,
}

/// A page of the daily sales report.
#[derive(Debug, Serialize, ToSchema)]
struct DailySalesReport {
    /// In the order of the day, the SKU or the country, and the currency.
    data: Vec<DailySales>,
    /// Ask again with this for the next page; null on the last one.
    next_cursor: Option<String>,
    /// What the whole period comes to, one row for each currency.
    totals: Vec<DailySales>,
}

/// What was sold, net of credit notes and adjustments. Follows the documents within moments.
#[utoipa::path(get, path = "/api/v1/reports/daily-sales", tag = "reports", params(PagingParams, ReportFilter), responses((status = 200, body = DailySalesReport)))]
async fn daily_sales(
    AppState(app): AppState<App>,
    caller: Caller,
    Query(filter): Query<ReportFilter>,
    paging: Paging<SalesPosition>,
) -> Result<Json<DailySalesReport>> {
    let period = (parse_day("from", &filter.from)?, parse_day("to", &filter.to)?);
    if period.1 < period.0 || period.1 - period.0 >= MAX_PERIOD {
        return Err(Error::field("to", "out_of_range", format!("not before from, and at most {MAX_PERIOD} days")).into());
    }
    let group_by = filter.group_by.unwrap_or(GroupBy::Day);
    let list = match group_by {
        GroupBy::Day => "orders.sales_by_day",
        GroupBy::Product => "orders.sales_by_product",
        GroupBy::Country => "orders.sales_by_country",
    };
    let page = paging.request(list)?;
    let limit = i64::from(page.limit) + 1;
    let read = move |read: &mut store::Read<'_>| {
        let rows = queries::daily_sales(read, group_by, period, page.after.clone(), limit)?;
        Ok((rows, queries::daily_sales_totals(read, period)?))
    };
    let (rows, totals) = app.read(&caller, read).await?;
    let page = paging.page(list, rows, |(key, row)| SalesPosition { key: key.clone(), currency: row.currency.code().to_owned() })?;
    Ok(Json(DailySalesReport { data: page.data.into_iter().map(|(_, row)| row).collect(), next_cursor: page.next_cursor, totals }))
}
