//! The HTTP routes: parse, check, hand over to a command or a query.

use crate::commands::{self, ChangeEndpoint, NewEndpoint};
use crate::model::*;
use crate::queries;
use crate::service::Webhooks;
use axum::Json;
use axum::extract::State as AppState;
use axum::response::IntoResponse;
use kernel::{Error, Page};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use web::{
    Access, App, Body, Caller, Created, ETag, IfMatch, Keyed, Paging, PagingParams, Params, Query, Result, Route, Versioned, handlers,
};

const BODY: usize = 16 * 1024;

pub(crate) fn routes() -> Vec<Route> {
    let (read, configure) = (Access::Tenant("webhooks.read"), Access::Tenant("webhooks.configure"));
    vec![
        Route::new(configure, handlers!(create_endpoint)).body_limit(BODY).keyed(),
        Route::new(read, handlers!(list_endpoints)),
        Route::new(read, handlers!(get_endpoint)),
        Route::new(configure, handlers!(change_endpoint)).body_limit(BODY),
        Route::new(configure, handlers!(remove_endpoint)),
        Route::new(configure, handlers!(rotate_secret)).body_limit(BODY),
        Route::new(configure, handlers!(ping_endpoint)).body_limit(BODY).keyed(),
        Route::new(read, handlers!(list_deliveries)),
        Route::new(read, handlers!(get_delivery)),
        Route::new(configure, handlers!(resend_delivery)).body_limit(BODY).keyed(),
    ]
}

fn text(field: &str, value: &str, most: usize) -> kernel::Result<()> {
    if value.len() <= most && !value.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Error::field(field, "out_of_range", format!("at most {most} bytes without control characters")))
}

/// A new endpoint.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CreateWebhookEndpoint)]
struct CreateEndpoint {
    /// Where events are sent: `https://...`, at an address of the public internet.
    #[schema(min_length = 8, max_length = 500, example = "https://shop.example/hooks")]
    url: String,
    /// For people.
    #[serde(default)]
    #[schema(max_length = 200)]
    description: String,
    /// Names of events, beginnings such as `payment.*`, or `*`.
    #[schema(min_items = 1, max_items = 32, example = json!(["payment.*"]))]
    events: Vec<String>,
}

/// An endpoint with its newest secret.
#[derive(Debug, Serialize, ToSchema)]
struct WebhookEndpointWithSecret {
    /// The endpoint.
    #[serde(flatten)]
    endpoint: EndpointView,
    /// Verifies its messages. Shown now and never again.
    #[schema(example = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")]
    secret: String,
}

/// The endpoint as it is stored, with its newest secret.
async fn with_secret(app: &App, caller: &Caller, endpoint_id: EndpointId) -> kernel::Result<WebhookEndpointWithSecret> {
    let tenant = caller.tenant()?;
    let endpoint = app.store().peek(tenant, move |read| queries::endpoint(read, endpoint_id)).await?;
    let secrets = app.part::<Webhooks>().secrets(tenant, &endpoint)?;
    let secret = secrets.into_iter().next().map(|signing| signing.secret).unwrap_or_default();
    Ok(WebhookEndpointWithSecret { endpoint: endpoint.into(), secret })
}

/// Sets an endpoint up. The answer holds its secret, which is shown this once.
#[utoipa::path(post, path = "/api/v1/webhooks/endpoints", tag = "webhooks", request_body = CreateEndpoint, responses(
    (status = 201, body = WebhookEndpointWithSecret),
    (status = 409, description = "There are as many as may be, or the idempotency key was used for another request.")))]
async fn create_endpoint(
    AppState(app): AppState<App>,
    caller: Caller,
    Keyed { key, body }: Keyed<CreateEndpoint>,
) -> Result<impl IntoResponse> {
    let webhooks = app.part::<Webhooks>();
    webhooks.check_url(&body.url)?;
    text("description", &body.description, 200)?;
    check_events(&body.events)?;
    let endpoint_id: EndpointId = app.store().ids().next();
    let secrets = [Signing { secret: webhooks.new_secret(&**app.rng()), until: None }];
    let sealed = webhooks.seal(caller.tenant()?, endpoint_id, &secrets, &**app.rng())?;
    let new = NewEndpoint { endpoint_id, url: body.url, description: body.description, events: body.events, sealed };
    let made = app.submit(&caller, key, commands::create, new).await?.value;
    let shown = with_secret(&app, &caller, made.endpoint_id).await?;
    Ok((ETag(shown.endpoint.version), Created(format!("/api/v1/webhooks/endpoints/{}", made.endpoint_id), shown)))
}

/// Every endpoint of the tenant.
#[derive(Debug, Serialize, ToSchema)]
struct WebhookEndpoints {
    /// The oldest first.
    data: Vec<EndpointView>,
}

/// Lists the tenant's endpoints, at most 20.
#[utoipa::path(get, path = "/api/v1/webhooks/endpoints", tag = "webhooks", responses((status = 200, body = WebhookEndpoints)))]
async fn list_endpoints(AppState(app): AppState<App>, caller: Caller) -> Result<Json<WebhookEndpoints>> {
    let found = app.store().read(caller.tenant()?, queries::endpoints).await?;
    Ok(Json(WebhookEndpoints { data: found.into_iter().map(EndpointView::from).collect() }))
}

/// Shows an endpoint.
#[utoipa::path(get, path = "/api/v1/webhooks/endpoints/{endpoint_id}", tag = "webhooks", params(("endpoint_id" = EndpointId, Path)), responses(
    (status = 200, body = EndpointView)))]
async fn get_endpoint(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(endpoint_id): Params<EndpointId>,
) -> Result<Versioned<EndpointView>> {
    let found = app.store().peek(caller.tenant()?, move |read| queries::endpoint(read, endpoint_id)).await?;
    Ok(Versioned(found.version, found.into()))
}

/// A change of an endpoint. What is missing stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangeOfWebhookEndpoint {
    /// Where events are sent.
    #[serde(default)]
    #[schema(min_length = 8, max_length = 500, example = "https://shop.example/hooks")]
    url: Option<String>,
    /// For people.
    #[serde(default)]
    #[schema(max_length = 200)]
    description: Option<String>,
    /// Names of events, beginnings such as `payment.*`, or `*`.
    #[serde(default)]
    #[schema(min_items = 1, max_items = 32, example = json!(["payment.*"]))]
    events: Option<Vec<String>>,
    /// Whether it is sent anything; also switches one on again that had failed for long.
    #[serde(default)]
    enabled: Option<bool>,
}

/// Changes an endpoint.
#[utoipa::path(patch, path = "/api/v1/webhooks/endpoints/{endpoint_id}", tag = "webhooks", params(("endpoint_id" = EndpointId, Path)),
    request_body = ChangeOfWebhookEndpoint, responses((status = 200, body = EndpointView), (status = 412, description = "It was changed meanwhile.")))]
async fn change_endpoint(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(endpoint_id): Params<EndpointId>,
    if_match: IfMatch,
    Body(body): Body<ChangeOfWebhookEndpoint>,
) -> Result<Versioned<EndpointView>> {
    if let Some(url) = &body.url {
        app.part::<Webhooks>().check_url(url)?;
    }
    text("description", body.description.as_deref().unwrap_or(""), 200)?;
    if let Some(events) = &body.events {
        check_events(events)?;
    }
    let ChangeOfWebhookEndpoint { url, description, events, enabled } = body;
    let change = ChangeEndpoint { endpoint_id, if_match, url, description, events, enabled, sealed: None };
    let changed = app.submit(&caller, None, commands::change, change).await?.value;
    Ok(Versioned(changed.version, changed))
}

/// Removes an endpoint. What waits for it is not delivered.
#[utoipa::path(delete, path = "/api/v1/webhooks/endpoints/{endpoint_id}", tag = "webhooks", params(("endpoint_id" = EndpointId, Path)), responses(
    (status = 200, body = EndpointView)))]
async fn remove_endpoint(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(endpoint_id): Params<EndpointId>,
) -> Result<Json<EndpointView>> {
    Ok(Json(app.submit(&caller, None, commands::remove, endpoint_id).await?.value))
}

/// How a secret is replaced.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RotateWebhookSecret {
    /// How long messages are signed with the earlier secret besides, in milliseconds; a day unless said.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 604_800_000)]
    overlap_ms: Option<i64>,
}

/// Makes a new secret. For a while messages are signed with the earlier one, too, so that a receiver can change over without losing any.
#[utoipa::path(post, path = "/api/v1/webhooks/endpoints/{endpoint_id}/rotate-secret", tag = "webhooks",
    params(("endpoint_id" = EndpointId, Path)), request_body = RotateWebhookSecret, responses(
    (status = 200, body = WebhookEndpointWithSecret), (status = 412, description = "It was changed meanwhile.")))]
async fn rotate_secret(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(endpoint_id): Params<EndpointId>,
    Body(body): Body<RotateWebhookSecret>,
) -> Result<Json<WebhookEndpointWithSecret>> {
    let overlap_ms = body.overlap_ms.unwrap_or(OVERLAP_MS);
    if !(0..=MAX_OVERLAP_MS).contains(&overlap_ms) {
        return Err(Error::field("overlap_ms", "out_of_range", format!("0 to {MAX_OVERLAP_MS}")).into());
    }
    let (tenant, now) = (caller.tenant()?, app.clock().now());
    let endpoint = app.store().peek(tenant, move |read| queries::endpoint(read, endpoint_id)).await?;
    let webhooks = app.part::<Webhooks>();
    let mut secrets = vec![Signing { secret: webhooks.new_secret(&**app.rng()), until: None }];
    // Secrets sealed with a key that is lost are replaced like any other: they sign nothing any more.
    let earlier = webhooks.secrets(tenant, &endpoint).unwrap_or_default();
    let until = now.plus_ms(overlap_ms);
    secrets.extend(
        earlier.into_iter().map(|signing| Signing { until: Some(signing.until.map_or(until, |known| known.min(until))), ..signing }),
    );
    secrets.retain(|signing| signing.until.is_none_or(|until| now < until));
    secrets.truncate(MAX_SECRETS);
    let sealed = Some(webhooks.seal(tenant, endpoint_id, &secrets, &**app.rng())?);
    // Two rotations at once: the second finds another version.
    let if_match = IfMatch(Some(endpoint.version));
    let change = ChangeEndpoint { endpoint_id, if_match, url: None, description: None, events: None, enabled: None, sealed };
    app.submit(&caller, None, commands::change, change).await?;
    Ok(Json(with_secret(&app, &caller, endpoint_id).await?))
}

/// Sends an endpoint a message of type `webhook.ping`.
#[utoipa::path(post, path = "/api/v1/webhooks/endpoints/{endpoint_id}/ping", tag = "webhooks", params(("endpoint_id" = EndpointId, Path)), responses(
    (status = 201, body = Delivery), (status = 409, description = "It is switched off, or the idempotency key was used for another request.")))]
async fn ping_endpoint(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(endpoint_id): Params<EndpointId>,
    Keyed { key, .. }: Keyed<Option<Nothing>>,
) -> Result<impl IntoResponse> {
    let made = app.submit(&caller, key, commands::ping, endpoint_id).await?.value;
    Ok(Created(format!("/api/v1/webhooks/deliveries/{}", made.delivery_id), made))
}

/// A body that may be empty and says nothing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

const DELIVERIES: &str = "webhooks.deliveries";

/// Which deliveries to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct DeliveryFilter {
    /// Only those to this endpoint.
    endpoint_id: Option<EndpointId>,
}

/// Lists what was delivered, is to be, or could not be, the latest first. Thirty days are kept.
#[utoipa::path(get, path = "/api/v1/webhooks/deliveries", tag = "webhooks", params(PagingParams, DeliveryFilter), responses((status = 200, body = Page<Delivery>)))]
async fn list_deliveries(
    AppState(app): AppState<App>,
    caller: Caller,
    paging: Paging<DeliveryId>,
    Query(filter): Query<DeliveryFilter>,
) -> Result<Json<Page<Delivery>>> {
    let page = paging.request(DELIVERIES)?;
    let before = page.after.unwrap_or(DeliveryId::from_i64(i64::MAX));
    let limit = i64::from(page.limit) + 1;
    let found = app.store().read(caller.tenant()?, move |read| queries::deliveries(read, filter.endpoint_id, before, limit)).await?;
    Ok(Json(paging.page(DELIVERIES, found, |delivery| delivery.delivery_id)?))
}

/// A delivery with its message.
#[derive(Debug, Serialize, ToSchema)]
struct WebhookDeliveryWithMessage {
    /// The delivery.
    #[serde(flatten)]
    delivery: Delivery,
    /// The body of each attempt; none when it is forgotten.
    #[schema(value_type = Option<Object>)]
    message: Option<Box<RawValue>>,
}

/// Shows a delivery with its message.
#[utoipa::path(get, path = "/api/v1/webhooks/deliveries/{delivery_id}", tag = "webhooks", params(("delivery_id" = DeliveryId, Path)), responses(
    (status = 200, body = WebhookDeliveryWithMessage)))]
async fn get_delivery(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(delivery_id): Params<DeliveryId>,
) -> Result<Json<WebhookDeliveryWithMessage>> {
    let both = move |read: &mut store::Read<'_>| {
        let delivery = queries::delivery(read, delivery_id)?;
        let message = queries::message(read, delivery.event_id).ok();
        Ok((delivery, message))
    };
    let (delivery, message) = app.store().peek(caller.tenant()?, both).await?;
    let message = message.and_then(|message| RawValue::from_string(message).ok());
    Ok(Json(WebhookDeliveryWithMessage { delivery, message }))
}

/// Delivers an event once more, under the same `webhook-id`.
#[utoipa::path(post, path = "/api/v1/webhooks/deliveries/{delivery_id}/resend", tag = "webhooks", params(("delivery_id" = DeliveryId, Path)), responses(
    (status = 201, body = Delivery), (status = 409, description = "It is still under way, its endpoint is switched off, or the idempotency key was used for another request.")))]
async fn resend_delivery(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(delivery_id): Params<DeliveryId>,
    Keyed { key, .. }: Keyed<Option<Nothing>>,
) -> Result<impl IntoResponse> {
    let made = app.submit(&caller, key, commands::resend, delivery_id).await?.value;
    Ok(Created(format!("/api/v1/webhooks/deliveries/{}", made.delivery_id), made))
}
