//! The HTTP routes: parse, check, hand over to a command or a query, and wait a while for the provider.

use crate::adapter::{Found, Secrets};
use crate::card;
use crate::commands::{
    self, ChangeProvider, CloseTask, Confirm, NewIntent, NewMethod, NewProvider, NoteTask, Observe, Operate, PayWith, Policed,
};
use crate::model::*;
use crate::queries::{self, IntentDetail, IntentView, MethodView, ProviderView, Task};
use crate::routing::Policy;
use crate::service::Payments;
use crate::sql;
use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request, State as AppState};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use kernel::{Currency, Error, Page, Timestamp};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use store::{Once, OnceKey};
use utoipa::{IntoParams, ToSchema};
use web::Priority;
use web::{
    Access, App, Caller, Created, ETag, IfMatch, Keyed, Paging, PagingParams, Params, Problem, Query, RawBody, Result, Route, Versioned,
    handlers,
};

const BODY: usize = 16 * 1024;
const POLICY_BODY: usize = 512 * 1024;
const CALLBACK_BODY: usize = 256 * 1024;
/// How long an answer waits for the provider unless the caller says otherwise, in milliseconds.
const WAIT_MS: u32 = 10_000;
const MAX_WAIT_MS: u32 = 20_000;
/// The first pause between two looks at a payment that is waited for, in milliseconds; they grow to the second.
const LOOK_MS: (u64, u64) = (2, 100);
/// The same where the sagas' runner says when something has happened: these looks find what another node did, and the first of them what was
/// told before anybody listened.
const TOLD_LOOK_MS: (u64, u64) = (100, 500);

pub(crate) fn routes() -> Vec<Route> {
    let (read, write, refund) = (Access::Tenant("payments.read"), Access::Tenant("payments.write"), Access::Tenant("payments.refund"));
    let configure = Access::Tenant("payments.configure");
    let routes = vec![
        Route::new(write, handlers!(create_intent)).body_limit(BODY).keyed(),
        Route::new(read, handlers!(list_intents)),
        Route::new(read, handlers!(get_intent)),
        Route::new(write, handlers!(confirm_intent)).body_limit(BODY).keyed(),
        Route::new(write, handlers!(capture_intent)).body_limit(BODY).keyed(),
        Route::new(write, handlers!(void_intent)).body_limit(BODY).keyed(),
        Route::new(refund, handlers!(refund_intent)).body_limit(BODY).keyed(),
        Route::new(write, handlers!(store_method)).body_limit(BODY).keyed(),
        Route::new(read, handlers!(list_methods)),
        Route::new(write, handlers!(remove_method)),
        Route::new(write, handlers!(note_task)).body_limit(BODY).keyed(),
        Route::new(read, handlers!(list_tasks)),
        Route::new(write, handlers!(close_task)).body_limit(BODY).keyed(),
        Route::new(configure, handlers!(add_provider)).body_limit(BODY).keyed(),
        Route::new(read, handlers!(list_providers)),
        Route::new(configure, handlers!(change_provider)).body_limit(BODY),
        Route::new(read, handlers!(get_routing)),
        Route::new(configure, handlers!(set_routing)).body_limit(POLICY_BODY),
        Route::new(Access::Public, handlers!(take_callback)).body_limit(CALLBACK_BODY),
    ];
    // Money goes first when there is too much to do.
    routes.into_iter().map(|route| route.priority(Priority::Critical)).collect()
}

/// Refuses a request whose address, or a header that is kept or logged, holds a card number.
struct NoCard;

impl FromRequestParts<App> for NoCard {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> std::result::Result<Self, Problem> {
        look_over(parts)?;
        Ok(NoCard)
    }
}

fn look_over(parts: &Parts) -> kernel::Result<()> {
    if parts.uri.path_and_query().is_some_and(|address| card::has_card_number(address.as_str().as_bytes())) {
        return Err(card::refused("address"));
    }
    for name in ["idempotency-key", "x-request-id", "referer"] {
        if parts.headers.get_all(name).iter().any(|value| card::has_card_number(value.as_bytes())) {
            return Err(card::refused(name));
        }
    }
    Ok(())
}

/// A body as `E` takes it, refused before anything is made of it when it holds a card number.
pub struct Clean<E>(
    /// The body.
    pub E,
);

impl<E: FromRequest<App, Rejection = Problem>> FromRequest<App> for Clean<E> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> std::result::Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        look_over(&parts)?;
        // The edge has cut it off at the route's limit.
        let whole =
            tokio::time::timeout(Duration::from_millis(app.config().body_timeout_ms), axum::body::to_bytes(body, POLICY_BODY)).await;
        let bytes = match whole {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) if is_over_limit(&error) => {
                let error = Error::invalid("request.too_large", "the body is larger than this route takes");
                return Err(error.with_field("body", "too_large", "larger than this route takes").into());
            }
            Ok(Err(error)) => return Err(Error::invalid("request.body_incomplete", "the body broke off").caused_by(error).into()),
            Err(_) => return Err(Error::invalid("request.timeout", "the body did not arrive in time").into()),
        };
        if card::has_card_number(&bytes) {
            return Err(card::refused("body").into());
        }
        Ok(Clean(E::from_request(Request::from_parts(parts, Body::from(bytes)), app).await?))
    }
}

fn is_over_limit(error: &axum::Error) -> bool {
    let mut causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.any(|cause| cause.is::<http_body_util::LengthLimitError>())
}

/// The text of a field has between `least` and `most` bytes.
fn text(field: &str, value: &str, least: usize, most: usize) -> kernel::Result<()> {
    if (least..=most).contains(&value.len()) && !value.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Error::field(field, "out_of_range", format!("{least} to {most} bytes without control characters")))
}

fn country(value: &str) -> kernel::Result<()> {
    if value.is_empty() || (value.len() == 2 && value.bytes().all(|b| b.is_ascii_uppercase())) {
        return Ok(());
    }
    Err(Error::field("country", "invalid", "a country is two capital letters, such as DE"))
}

/// A key of an optional body's request: without a body there is none to speak of.
type Key = Option<OnceKey>;

fn check_wait(wait_ms: Option<u32>) -> kernel::Result<()> {
    if wait_ms.is_none_or(|wait_ms| wait_ms <= MAX_WAIT_MS) {
        return Ok(());
    }
    Err(Error::field("wait_ms", "out_of_range", format!("at most {MAX_WAIT_MS}")))
}

/// Looks at the payment until it has come to rest, or the wait is over. One that is `fresh` was not at rest a moment ago, so it is not
/// looked at before something is told of it.
async fn rested(
    app: &App,
    caller: &Caller,
    (intent_id, fresh): (IntentId, bool),
    wait_ms: Option<u32>,
    at_rest: fn(&Intent) -> bool,
) -> Result<Intent> {
    let tenant = caller.tenant()?;
    let deadline = tokio::time::Instant::now() + Duration::from_millis(wait_ms.unwrap_or(WAIT_MS).into());
    let payments = app.part::<Payments>();
    let waiter = payments.wait_for(intent_id);
    let (mut pause_ms, longest_ms) = if payments.is_told() { TOLD_LOOK_MS } else { LOOK_MS };
    let mut look = !(fresh && payments.is_told());
    loop {
        let told = waiter.told();
        let over = tokio::time::Instant::now() >= deadline;
        if look || over {
            let intent = app.store().peek(tenant, move |read| queries::intent(read, intent_id)).await?;
            if at_rest(&intent) || over {
                return Ok(intent);
            }
        }
        look = true;
        let pause = tokio::time::Instant::now() + Duration::from_millis(pause_ms);
        tokio::select! {
            () = told => {}
            () = tokio::time::sleep_until(deadline.min(pause)) => pause_ms = (pause_ms * 5).min(longest_ms),
        }
    }
}

fn is_answered(intent: &Intent) -> bool {
    !intent.asking && intent.capturing_minor == 0
}

/// A new payment.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateIntent {
    /// What is to be paid, in minor units of `currency`.
    #[schema(minimum = 1, maximum = 1_000_000_000_000_i64)]
    amount_minor: i64,
    /// Its currency.
    currency: Currency,
    /// How it is paid.
    #[serde(default = "card_method")]
    method: MethodKind,
    /// When what is authorised is taken.
    #[serde(default = "automatic")]
    capture: CaptureMode,
    /// The customer's country, ISO 3166 alpha-2; for routing.
    #[serde(default)]
    #[schema(pattern = "^([A-Z]{2})?$")]
    country: String,
    /// The merchant of the tenant that is paid; for routing.
    #[serde(default)]
    #[schema(max_length = 64)]
    merchant: String,
    /// What the tenant calls it, such as an order's id; unique among its payments.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 128)]
    external_ref: Option<String>,
    /// The order that it is for, as the shop names it; an order may have several payments.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 64)]
    order_id: Option<String>,
    /// A provider's token of the card. Never a card's number.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 255)]
    token: Option<String>,
    /// The provider that the token belongs to; none when every provider takes it.
    #[serde(default)]
    token_provider_id: Option<ProviderId>,
    /// A stored method, instead of a token.
    #[serde(default)]
    method_id: Option<MethodId>,
    /// Ask a provider at once.
    #[serde(default)]
    confirm: bool,
    /// How long the answer may wait for the provider, in milliseconds; 10,000 unless said.
    #[serde(default)]
    #[schema(maximum = 20_000)]
    wait_ms: Option<u32>,
}

fn card_method() -> MethodKind {
    MethodKind::Card
}

fn automatic() -> CaptureMode {
    CaptureMode::Automatic
}

fn pay_with(token: Option<String>, provider: Option<ProviderId>, method_id: Option<MethodId>) -> kernel::Result<Option<PayWith>> {
    match (token, method_id) {
        (Some(_), Some(_)) => Err(Error::field("method_id", "ambiguous", "either a token or a stored method")),
        (Some(token), None) => {
            text("token", &token, 1, 255)?;
            Ok(Some(PayWith::Token(token, provider)))
        }
        (None, Some(method_id)) => Ok(Some(PayWith::Stored(method_id))),
        (None, None) => Ok(None),
    }
}

/// Makes a payment and, with `confirm`, asks a provider for the money. The answer waits for the provider for a while; a payment that is
/// still `processing` then goes on by itself.
#[utoipa::path(post, path = "/api/v1/payments/intents", tag = "payments", request_body = CreateIntent, responses(
    (status = 201, description = "The payment.", body = IntentView),
    (status = 409, description = "The external_ref is taken, there is nothing to pay with, or the idempotency key was used for another request.")))]
async fn create_intent(
    AppState(app): AppState<App>,
    caller: Caller,
    Clean(Keyed { key, body }): Clean<Keyed<CreateIntent>>,
) -> Result<impl IntoResponse> {
    check_amount("amount_minor", body.amount_minor)?;
    check_wait(body.wait_ms)?;
    if body.method != MethodKind::Card {
        return Err(Error::field("method", "not_served", "no provider that is spoken to takes this; pay by card").into());
    }
    country(&body.country)?;
    text("merchant", &body.merchant, 0, 64)?;
    if let Some(external_ref) = &body.external_ref {
        text("external_ref", external_ref, 1, 128)?;
    }
    if let Some(order_id) = &body.order_id {
        text("order_id", order_id, 1, 64)?;
    }
    let new = NewIntent {
        amount_minor: body.amount_minor,
        currency: body.currency,
        method: body.method,
        capture_mode: body.capture,
        country: body.country,
        merchant: body.merchant,
        external_ref: body.external_ref,
        order_id: body.order_id,
        pay_with: pay_with(body.token, body.token_provider_id, body.method_id)?,
        confirm: body.confirm,
    };
    let Once { value: made, replayed } = app.submit(&caller, key, commands::create, new).await?;
    // One for which no provider could be asked has failed by now, and nobody tells of it.
    let fresh = !replayed && made.attempt > 0;
    let intent = if made.asking { rested(&app, &caller, (made.intent_id, fresh), body.wait_ms, is_answered).await? } else { made };
    Ok((ETag(intent.version), Created(format!("/api/v1/payments/intents/{}", intent.intent_id), IntentView::from(intent))))
}

/// Which payments to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct IntentFilter {
    /// Only the one with this external reference.
    #[param(max_length = 128)]
    external_ref: Option<String>,
    /// Only those for this order.
    #[param(max_length = 64)]
    order_id: Option<String>,
}

const INTENTS: &str = "payments.intents";

/// Lists payments, the latest first.
#[utoipa::path(get, path = "/api/v1/payments/intents", tag = "payments", params(PagingParams, IntentFilter), responses((status = 200, body = Page<IntentView>)))]
async fn list_intents(
    AppState(app): AppState<App>,
    caller: Caller,
    _: NoCard,
    paging: Paging<IntentId>,
    Query(filter): Query<IntentFilter>,
) -> Result<Json<Page<IntentView>>> {
    let page = paging.request(INTENTS)?;
    let found = app
        .store()
        .read(caller.tenant()?, move |read| {
            if let Some(external_ref) = filter.external_ref {
                let one = read.opt::<(IntentId,)>(sql::INTENT_BY_REF, (external_ref,))?;
                return one.map(|(intent_id,)| queries::intent(read, intent_id)).into_iter().collect();
            }
            let (before, limit) = (page.after.unwrap_or(IntentId::from_i64(i64::MAX)), i64::from(page.limit) + 1);
            match filter.order_id {
                Some(order_id) => queries::intents_of_order(read, &order_id, before, limit),
                None => queries::intents(read, before, limit),
            }
        })
        .await?;
    Ok(Json(paging.page(INTENTS, found.into_iter().map(IntentView::from).collect(), |intent| intent.intent_id)?))
}

/// Shows a payment with what was asked of providers for it.
#[utoipa::path(get, path = "/api/v1/payments/intents/{intent_id}", tag = "payments", params(("intent_id" = IntentId, Path)), responses(
    (status = 200, body = IntentDetail)))]
async fn get_intent(
    AppState(app): AppState<App>,
    caller: Caller,
    _: NoCard,
    Params(intent_id): Params<IntentId>,
) -> Result<Versioned<IntentDetail>> {
    let detail = app.store().read(caller.tenant()?, move |read| queries::detail(read, intent_id)).await?;
    Ok(Versioned(detail.intent.version, detail))
}

/// What it is paid with.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ConfirmIntent {
    /// A provider's token of the card, if the payment was made without one. Never a card's number.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 255)]
    token: Option<String>,
    /// The provider that the token belongs to; none when every provider takes it.
    #[serde(default)]
    token_provider_id: Option<ProviderId>,
    /// A stored method, instead of a token.
    #[serde(default)]
    method_id: Option<MethodId>,
    /// How long the answer may wait for the provider, in milliseconds; 10,000 unless said.
    #[serde(default)]
    #[schema(maximum = 20_000)]
    wait_ms: Option<u32>,
}

/// Asks a provider for a payment's money. Quietly the same when that has begun.
#[utoipa::path(post, path = "/api/v1/payments/intents/{intent_id}/confirm", tag = "payments", params(("intent_id" = IntentId, Path)),
    request_body = Option<ConfirmIntent>, responses((status = 200, body = IntentView), (status = 409, description = "It failed before, or there is nothing to pay with.")))]
async fn confirm_intent(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(intent_id): Params<IntentId>,
    Clean(Keyed { key, body }): Clean<Keyed<Option<ConfirmIntent>>>,
) -> Result<Versioned<IntentView>> {
    let body = body.unwrap_or_default();
    check_wait(body.wait_ms)?;
    let confirm = Confirm { intent_id, pay_with: pay_with(body.token, body.token_provider_id, body.method_id)? };
    app.submit(&caller, key, commands::confirm, confirm).await?;
    shown(rested(&app, &caller, (intent_id, false), body.wait_ms, is_answered).await?)
}

fn shown(intent: Intent) -> Result<Versioned<IntentView>> {
    Ok(Versioned(intent.version, intent.into()))
}

/// How much to capture or refund.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Part {
    /// In minor units; all that is left when it is missing.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1_000_000_000_000_i64)]
    amount_minor: Option<i64>,
    /// Of a capture: nothing will be captured after it, so the rest is let go.
    #[serde(default)]
    last: bool,
    /// For people.
    #[serde(default)]
    #[schema(max_length = 200)]
    reason: String,
    /// How long the answer may wait for the provider, in milliseconds; 10,000 unless said.
    #[serde(default)]
    #[schema(maximum = 20_000)]
    wait_ms: Option<u32>,
}

async fn operated(
    app: &App,
    caller: &Caller,
    (intent_id, kind): (IntentId, OperationKind),
    (key, body): (Key, Option<Part>),
    at_rest: fn(&Intent) -> bool,
) -> Result<Versioned<IntentView>> {
    let body = body.unwrap_or_default();
    text("reason", &body.reason, 0, 200)?;
    if let Some(amount_minor) = body.amount_minor {
        check_amount("amount_minor", amount_minor)?;
    }
    check_wait(body.wait_ms)?;
    let operate = Operate { intent_id, kind, amount_minor: body.amount_minor, last: body.last, reason: body.reason };
    app.submit(caller, key, commands::operate, operate).await?;
    shown(rested(app, caller, (intent_id, false), body.wait_ms, at_rest).await?)
}

/// Takes what was authorised, or a part of it.
#[utoipa::path(post, path = "/api/v1/payments/intents/{intent_id}/capture", tag = "payments", params(("intent_id" = IntentId, Path)),
    request_body = Option<Part>, responses((status = 200, body = IntentView), (status = 409, description = "It is not authorised, or not for so much, or another capture or a void is under way.")))]
async fn capture_intent(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(intent_id): Params<IntentId>,
    Clean(Keyed { key, body }): Clean<Keyed<Option<Part>>>,
) -> Result<Versioned<IntentView>> {
    operated(&app, &caller, (intent_id, OperationKind::Capture), (key, body), |intent| intent.capturing_minor == 0).await
}

/// Gives an authorisation up, or what is left of it once a part was captured. Quietly the same when it was given up.
#[utoipa::path(post, path = "/api/v1/payments/intents/{intent_id}/void", tag = "payments", params(("intent_id" = IntentId, Path)),
    request_body = Option<Part>, responses((status = 200, body = IntentView), (status = 409, description = "All of it was captured, or some of it is being.")))]
async fn void_intent(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(intent_id): Params<IntentId>,
    Clean(Keyed { key, body }): Clean<Keyed<Option<Part>>>,
) -> Result<Versioned<IntentView>> {
    let at_rest = |intent: &Intent| !intent.capture_open && intent.state != State::RequiresAction;
    operated(&app, &caller, (intent_id, OperationKind::Void), (key, body), at_rest).await
}

/// Gives back what was captured, or a part of it.
#[utoipa::path(post, path = "/api/v1/payments/intents/{intent_id}/refund", tag = "payments", params(("intent_id" = IntentId, Path)),
    request_body = Option<Part>, responses((status = 200, body = IntentView), (status = 409, description = "Nothing was captured, or not so much is left.")))]
async fn refund_intent(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(intent_id): Params<IntentId>,
    Clean(Keyed { key, body }): Clean<Keyed<Option<Part>>>,
) -> Result<Versioned<IntentView>> {
    operated(&app, &caller, (intent_id, OperationKind::Refund), (key, body), |intent| intent.refunding_minor == 0).await
}

/// A provider's token to keep for a customer.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct StoreMethod {
    /// Whose it is, as the tenant names customers.
    #[schema(min_length = 1, max_length = 128)]
    customer: String,
    /// The provider whose token it is.
    provider_id: ProviderId,
    /// The token. Never a card's number.
    #[schema(min_length = 1, max_length = 255)]
    token: String,
    /// For the customer, such as `Visa ending in 4242`.
    #[serde(default)]
    #[schema(max_length = 100)]
    label: String,
}

/// Stores a way to pay.
#[utoipa::path(post, path = "/api/v1/payments/methods", tag = "payments", request_body = StoreMethod, responses(
    (status = 201, body = MethodView), (status = 409, description = "The idempotency key was used for another request.")))]
async fn store_method(
    AppState(app): AppState<App>,
    caller: Caller,
    Clean(Keyed { key, body }): Clean<Keyed<StoreMethod>>,
) -> Result<impl IntoResponse> {
    text("customer", &body.customer, 1, 128)?;
    text("token", &body.token, 1, 255)?;
    text("label", &body.label, 0, 100)?;
    let StoreMethod { customer, provider_id, token, label } = body;
    let stored = app.submit(&caller, key, commands::store_method, NewMethod { customer, provider_id, token, label }).await?.value;
    Ok(Created(format!("/api/v1/payments/methods/{}", stored.method_id), stored))
}

const METHODS: &str = "payments.methods";

/// Lists stored ways to pay, the latest first.
#[utoipa::path(get, path = "/api/v1/payments/methods", tag = "payments", params(PagingParams), responses((status = 200, body = Page<MethodView>)))]
async fn list_methods(AppState(app): AppState<App>, caller: Caller, _: NoCard, paging: Paging<MethodId>) -> Result<Json<Page<MethodView>>> {
    let page = paging.request(METHODS)?;
    let before = page.after.unwrap_or(MethodId::from_i64(i64::MAX));
    let found = app.store().read(caller.tenant()?, move |read| queries::methods(read, before, i64::from(page.limit) + 1)).await?;
    Ok(Json(paging.page(METHODS, found, |method| method.method_id)?))
}

/// Removes a stored way to pay, and forgets its token.
#[utoipa::path(delete, path = "/api/v1/payments/methods/{method_id}", tag = "payments", params(("method_id" = MethodId, Path)), responses(
    (status = 200, body = MethodView)))]
async fn remove_method(
    AppState(app): AppState<App>,
    caller: Caller,
    _: NoCard,
    Params(method_id): Params<MethodId>,
) -> Result<Json<MethodView>> {
    Ok(Json(app.submit(&caller, None, commands::remove_method, method_id).await?.value))
}

const TASKS: &str = "payments.tasks";

/// Lists what people have to look at, the latest first.
#[utoipa::path(get, path = "/api/v1/payments/tasks", tag = "payments", params(PagingParams), responses((status = 200, body = Page<Task>)))]
async fn list_tasks(AppState(app): AppState<App>, caller: Caller, _: NoCard, paging: Paging<TaskId>) -> Result<Json<Page<Task>>> {
    let page = paging.request(TASKS)?;
    let before = page.after.unwrap_or(TaskId::from_i64(i64::MAX));
    let found = app.store().read(caller.tenant()?, move |read| queries::tasks(read, before, i64::from(page.limit) + 1)).await?;
    Ok(Json(paging.page(TASKS, found, |task| task.task_id)?))
}

/// Why a payment has to be looked at.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Noting {
    /// The payment.
    intent_id: IntentId,
    /// What somebody has noticed.
    #[schema(min_length = 1, max_length = 1000)]
    detail: String,
}

/// Opens a task by hand. Quietly the one that somebody has opened for this payment already.
#[utoipa::path(post, path = "/api/v1/payments/tasks", tag = "payments", request_body = Noting, responses(
    (status = 201, body = Task), (status = 409, description = "The idempotency key was used for another request.")))]
async fn note_task(
    AppState(app): AppState<App>,
    caller: Caller,
    Clean(Keyed { key, body }): Clean<Keyed<Noting>>,
) -> Result<impl IntoResponse> {
    text("detail", &body.detail, 1, 1_000)?;
    let Noting { intent_id, detail } = body;
    let task = app.submit(&caller, key, commands::note_task, NoteTask { intent_id, detail }).await?.value;
    Ok(Created("/api/v1/payments/tasks".to_owned(), task))
}

/// What a person did about a task.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Closing {
    /// What was found and done.
    #[schema(min_length = 1, max_length = 1000)]
    note: String,
}

/// Closes a task. Quietly the same when it is closed.
#[utoipa::path(post, path = "/api/v1/payments/tasks/{task_id}/close", tag = "payments", params(("task_id" = TaskId, Path)),
    request_body = Closing, responses((status = 200, body = Task), (status = 409, description = "The idempotency key was used for another request.")))]
async fn close_task(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(task_id): Params<TaskId>,
    Clean(Keyed { key, body }): Clean<Keyed<Closing>>,
) -> Result<Json<Task>> {
    text("note", &body.note, 1, 1_000)?;
    Ok(Json(app.submit(&caller, key, commands::close_task, CloseTask { task_id, note: body.note }).await?.value))
}

/// A provider to set up.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AddProvider {
    /// For people.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// Whose API it speaks.
    kind: ProviderKind,
    /// Where its API is; one of those that the platform allows.
    #[schema(min_length = 8, max_length = 300)]
    base_url: String,
    /// The key with which it is called. Sealed in the store, and never shown again.
    #[schema(min_length = 1, max_length = 255, write_only)]
    api_key: String,
    /// Secrets with which its callbacks are signed: one, or two while they rotate.
    #[serde(default)]
    #[schema(max_items = 2, write_only)]
    webhook_secrets: Vec<String>,
    /// Whether it does a request once for one idempotency key, so that repeating an unanswered one is safe. False: an unanswered request
    /// is only asked about.
    #[serde(default = "yes")]
    honours_keys: bool,
}

fn yes() -> bool {
    true
}

fn check_secrets(kind: ProviderKind, Secrets { api_key, webhook_secrets }: &Secrets) -> kernel::Result<()> {
    if !(1..=255).contains(&api_key.len()) || !api_key.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Error::field("api_key", "invalid", "1 to 255 visible ASCII characters"));
    }
    if webhook_secrets.len() > 2 || webhook_secrets.iter().any(|secret| !(16..=255).contains(&secret.len())) {
        return Err(Error::field("webhook_secrets", "invalid", "at most two, each of 16 to 255 bytes"));
    }
    if kind == ProviderKind::Sandbox && webhook_secrets.iter().any(|secret| secret.parse::<client::webhook::Secret>().is_err()) {
        return Err(Error::field("webhook_secrets", "invalid", "a sandbox's secret is whsec_ and base64"));
    }
    Ok(())
}

/// Sets a provider up. Its secrets are sealed.
#[utoipa::path(post, path = "/api/v1/payments/providers", tag = "payments", request_body = AddProvider, responses(
    (status = 201, body = ProviderView), (status = 409, description = "There are as many as may be, or the idempotency key was used for another request.")))]
async fn add_provider(
    AppState(app): AppState<App>,
    caller: Caller,
    Clean(Keyed { key, body }): Clean<Keyed<AddProvider>>,
) -> Result<impl IntoResponse> {
    text("name", &body.name, 1, 100)?;
    text("base_url", &body.base_url, 8, 300)?;
    let secrets = Secrets { api_key: body.api_key, webhook_secrets: body.webhook_secrets };
    check_secrets(body.kind, &secrets)?;
    let payments = app.part::<Payments>();
    let provider_id: ProviderId = app.store().ids().next();
    let new = NewProvider {
        provider_id,
        name: body.name,
        kind: body.kind,
        base_url: payments.allowed(&body.base_url)?,
        sealed: payments.seal(caller.tenant()?, provider_id, &secrets, &**app.rng())?,
        honours_keys: body.honours_keys,
    };
    let added = app.submit(&caller, key, commands::add_provider, new).await?.value;
    Ok((ETag(added.version), Created(format!("/api/v1/payments/providers/{}", added.provider_id), added)))
}

/// Every provider of the tenant.
#[derive(Debug, Serialize, ToSchema)]
struct Providers {
    /// The oldest first.
    data: Vec<ProviderView>,
}

/// Lists the tenant's providers, without their secrets.
#[utoipa::path(get, path = "/api/v1/payments/providers", tag = "payments", responses((status = 200, body = Providers)))]
async fn list_providers(AppState(app): AppState<App>, caller: Caller, _: NoCard) -> Result<Json<Providers>> {
    Ok(Json(Providers { data: app.store().read(caller.tenant()?, queries::providers).await? }))
}

/// A change of a provider. What is missing stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangeOfProvider {
    /// For people.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    /// Another address of its API; then its key has to be given, too: a key goes nowhere that its owner has not said.
    #[serde(default)]
    #[schema(min_length = 8, max_length = 300)]
    base_url: Option<String>,
    /// Another key.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 255, write_only)]
    api_key: Option<String>,
    /// All webhook secrets, instead of those that it has.
    #[serde(default)]
    #[schema(max_items = 2, write_only)]
    webhook_secrets: Option<Vec<String>>,
    /// Whether it is asked for new payments. What is under way goes on.
    #[serde(default)]
    enabled: Option<bool>,
}

/// Changes a provider: its name, its secrets, or whether it is asked.
#[utoipa::path(patch, path = "/api/v1/payments/providers/{provider_id}", tag = "payments", params(("provider_id" = ProviderId, Path)),
    request_body = ChangeOfProvider, responses((status = 200, body = ProviderView), (status = 412, description = "It was changed meanwhile.")))]
async fn change_provider(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(provider_id): Params<ProviderId>,
    if_match: IfMatch,
    Clean(web::Body(body)): Clean<web::Body<ChangeOfProvider>>,
) -> Result<Versioned<ProviderView>> {
    if let Some(name) = &body.name {
        text("name", name, 1, 100)?;
    }
    if body.base_url.is_some() && body.api_key.is_none() {
        return Err(Error::field("api_key", "required", "a key goes to another address only when it is given").into());
    }
    let (mut if_match, mut sealed) = (if_match, None);
    if body.api_key.is_some() || body.webhook_secrets.is_some() {
        let (tenant, payments) = (caller.tenant()?, app.part::<Payments>());
        let known = app.store().peek(tenant, move |read| queries::provider(read, provider_id)).await?;
        // What is not given stays as it is now, so the provider may not be changed meanwhile.
        if_match.check(known.version)?;
        if_match = IfMatch(Some(known.version));
        let secrets = match (body.api_key, body.webhook_secrets) {
            (Some(api_key), Some(webhook_secrets)) => Secrets { api_key, webhook_secrets },
            (api_key, webhook_secrets) => {
                let kept = payments.secrets(tenant, &known)?;
                Secrets { api_key: api_key.unwrap_or(kept.api_key), webhook_secrets: webhook_secrets.unwrap_or(kept.webhook_secrets) }
            }
        };
        check_secrets(known.kind, &secrets)?;
        sealed = Some(payments.seal(tenant, provider_id, &secrets, &**app.rng())?);
    }
    let base_url = body.base_url.map(|base_url| app.part::<Payments>().allowed(&base_url)).transpose()?;
    let change = ChangeProvider { provider_id, if_match, name: body.name, base_url, sealed, enabled: body.enabled };
    let changed = app.submit(&caller, None, commands::change_provider, change).await?.value;
    Ok(Versioned(changed.version, changed))
}

/// Shows the rules by which providers are chosen.
#[utoipa::path(get, path = "/api/v1/payments/routing", tag = "payments", responses((status = 200, body = Policy)))]
async fn get_routing(AppState(app): AppState<App>, caller: Caller, _: NoCard) -> Result<Versioned<Policy>> {
    let (version, policy) = app.store().read(caller.tenant()?, queries::policy).await?;
    Ok(Versioned(version, policy))
}

/// Sets the rules by which providers are chosen.
#[utoipa::path(put, path = "/api/v1/payments/routing", tag = "payments", request_body = Policy, responses(
    (status = 200, body = Policy), (status = 412, description = "They were changed meanwhile.")))]
async fn set_routing(
    AppState(app): AppState<App>,
    caller: Caller,
    if_match: IfMatch,
    Clean(web::Body(policy)): Clean<web::Body<Policy>>,
) -> Result<Versioned<Policy>> {
    policy.check()?;
    let Policed { version, policy } = app.submit(&caller, None, commands::set_policy, (if_match, policy)).await?.value;
    Ok(Versioned(version, policy))
}

/// Takes a provider's callback: checks its signature, asks the provider what is true, and lets whoever waits hear it.
#[utoipa::path(post, path = "/api/v1/payments/callbacks/{provider_id}", tag = "payments", params(("provider_id" = ProviderId, Path)), responses(
    (status = 204, description = "Taken, or known already."),
    (status = 401, description = "Its signature is not that of a known secret.")))]
async fn take_callback(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(provider_id): Params<ProviderId>,
    headers: HeaderMap,
    RawBody { bytes, .. }: RawBody,
) -> Result<StatusCode> {
    let tenant = caller.tenant()?;
    let adapter = app.part::<Payments>().adapter(app.store(), tenant, provider_id).await?;
    let now: Timestamp = app.clock().now();
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    let counted = |outcome| app.part::<Payments>().metrics().called_back(adapter.kind, outcome);
    let Some(callback) = adapter.callback(&header, &bytes, now).inspect_err(|_| counted("refused"))? else {
        return Ok(StatusCode::NO_CONTENT);
    };
    if callback.event_id.len() > 255 {
        return Err(crate::adapter::malformed().into());
    }
    let event_id = callback.event_id.clone();
    let known = app.store().peek(tenant, move |read| read.opt::<(Timestamp,)>(sql::CALLBACK_KNOWN, (provider_id, event_id))).await?;
    if known.is_some() {
        counted("known");
        return Ok(StatusCode::NO_CONTENT);
    }
    // What it says is a hint. What is true is what the provider says when it is asked.
    let charge = match adapter.retrieve(&callback.charge).await {
        Found::Charge(charge) => *charge,
        Found::Absent | Found::Unknown(_) => {
            counted("later");
            let later = Error::unavailable(
                "payments.provider_unavailable",
                "the provider can't say now what became of it; deliver this again later",
            );
            return Err(later.retry_after_ms(1_000).into());
        }
    };
    // It may end a doubt that holds stock and money, and the provider has been asked already.
    let call = store::Call::new(tenant).correlation(caller.request_id.clone()).finishes();
    app.store().write(call, commands::observe, Observe { provider_id, event_id: callback.event_id, charge }).await?;
    counted("taken");
    Ok(StatusCode::NO_CONTENT)
}
