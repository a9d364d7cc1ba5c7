//! The routes of carriers and labels.

use crate::carriers::adapter::Secrets;
use crate::carriers::commands::{self, ChangeCarrier, NewCarrier, RequestLabel, VoidLabel};
use crate::carriers::model::*;
use crate::carriers::queries;
use crate::carriers::service::Shipping;
use crate::error;
use crate::shipments::commands::{Track, track};
use crate::shipments::model::{Shipment, ShipmentId};
use crate::shipments::queries as shipments;
use crate::shipments::routes::by;
use crate::words::By;
use axum::Json;
use axum::extract::State as AppState;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use kernel::{Error, Faults};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use web::{Access, App, Body, Caller, Created, ETag, IfMatch, Keyed, Params, RawBody, Result, Route, Versioned, handlers};

const BODY: usize = 16 * 1024;
const CALLBACK_BODY: usize = 64 * 1024;

pub(crate) fn routes() -> Vec<Route> {
    let (read, write) = (Access::Tenant("shipping.read"), Access::Tenant("shipping.write"));
    let configure = Access::Tenant("shipping.configure");
    vec![
        Route::new(configure, handlers!(add_carrier)).body_limit(BODY).keyed(),
        Route::new(read, handlers!(list_carriers)),
        Route::new(read, handlers!(get_carrier)),
        Route::new(configure, handlers!(change_carrier)).body_limit(BODY),
        Route::new(write, handlers!(request_labels)).body_limit(BODY).keyed(),
        Route::new(read, handlers!(list_labels)),
        Route::new(write, handlers!(void_labels)).body_limit(BODY).keyed(),
        Route::new(read, handlers!(get_label)),
        Route::new(Access::Public, handlers!(take_callback)).body_limit(CALLBACK_BODY),
    ]
}

/// A carrier to set up.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AddCarrier {
    /// For people.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// Whose API it speaks.
    kind: CarrierKind,
    /// Where its API is; one of those that the platform allows.
    #[schema(min_length = 8, max_length = 300)]
    base_url: String,
    /// The key with which it is called. Sealed in the store, and never shown again.
    #[schema(min_length = 1, max_length = 255, write_only)]
    api_key: String,
    /// Secrets with which its callbacks are signed, `whsec_` and base64: one, or two while they rotate.
    #[serde(default)]
    #[schema(max_items = 2, write_only)]
    webhook_secrets: Vec<String>,
}

fn check(name: Option<&str>, base_url: Option<&str>, secrets: Option<&Secrets>) -> kernel::Result<()> {
    let mut faults = Faults::default();
    if let Some(name) = name {
        faults.text("name", name, 1, 100);
    }
    if let Some(base_url) = base_url {
        faults.text("base_url", base_url, 8, 300);
    }
    if let Some(Secrets { api_key, webhook_secrets }) = secrets {
        if !(1..=255).contains(&api_key.len()) || !api_key.bytes().all(|b| b.is_ascii_graphic()) {
            faults.add("api_key", "invalid", "1 to 255 visible ASCII characters");
        }
        let good = |secret: &String| secret.parse::<client::webhook::Secret>().is_ok();
        if webhook_secrets.len() > 2 || !webhook_secrets.iter().all(good) {
            faults.add("webhook_secrets", "invalid", "at most two, each whsec_ and the base64 of 24 to 64 bytes");
        }
    }
    faults.finish()
}

/// Sets a carrier up. Its secrets are sealed.
#[utoipa::path(post, path = "/api/v1/shipping/carriers", tag = "shipping", request_body = AddCarrier, responses((status = 201, body = CarrierView),
    (status = 409, description = "There are as many as may be, or the idempotency key was used for another request.")))]
async fn add_carrier(AppState(app): AppState<App>, caller: Caller, Keyed { key, body }: Keyed<AddCarrier>) -> Result<impl IntoResponse> {
    let AddCarrier { name, kind, base_url, api_key, webhook_secrets } = body;
    let secrets = Secrets { api_key, webhook_secrets };
    check(Some(&name), Some(&base_url), Some(&secrets))?;
    let shipping = app.part::<Shipping>();
    let carrier_id: CarrierId = app.store().ids().next();
    let sealed = shipping.seal(caller.tenant()?, carrier_id, &secrets, &**app.rng())?;
    let new = NewCarrier { carrier_id, name, kind, base_url: shipping.allowed(&base_url)?, sealed };
    let added = app.submit(&caller, key, commands::add_carrier, new).await?.value;
    Ok((ETag(added.version), Created(format!("/api/v1/shipping/carriers/{}", added.carrier_id), added)))
}

/// Every carrier of the tenant.
#[derive(Debug, Serialize, ToSchema)]
struct Carriers {
    /// The oldest first; at most 20.
    data: Vec<CarrierView>,
}

/// Lists carriers, without their secrets.
#[utoipa::path(get, path = "/api/v1/shipping/carriers", tag = "shipping", responses((status = 200, body = Carriers)))]
async fn list_carriers(AppState(app): AppState<App>, caller: Caller) -> Result<Json<Carriers>> {
    Ok(Json(Carriers { data: app.read(&caller, queries::carriers).await? }))
}

/// Reads a carrier.
#[utoipa::path(get, path = "/api/v1/shipping/carriers/{carrier_id}", tag = "shipping", params(("carrier_id" = CarrierId, Path)),
    responses((status = 200, body = CarrierView)))]
async fn get_carrier(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(carrier_id): Params<CarrierId>,
) -> Result<Versioned<CarrierView>> {
    let view = app.peek(&caller, move |read| queries::carrier(read, carrier_id).map(CarrierView::from)).await?;
    Ok(Versioned(view.version, view))
}

/// A change of a carrier. What is missing stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CarrierEdit {
    /// For people.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    /// Another address of its API; then its key has to be given, too: a key goes nowhere that its owner has not said.
    #[serde(default)]
    #[schema(min_length = 8, max_length = 300)]
    base_url: Option<String>,
    /// Another key; with it all webhook secrets are given.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 255, write_only)]
    api_key: Option<String>,
    /// All webhook secrets, instead of those that it has; with the key.
    #[serde(default)]
    #[schema(max_items = 2, write_only)]
    webhook_secrets: Option<Vec<String>>,
    /// Whether it is asked for new labels. What is under way goes on.
    #[serde(default)]
    enabled: Option<bool>,
}

/// Changes a carrier.
#[utoipa::path(patch, path = "/api/v1/shipping/carriers/{carrier_id}", tag = "shipping",
    params(("carrier_id" = CarrierId, Path), ("If-Match" = Option<String>, Header)), request_body = CarrierEdit,
    responses((status = 200, body = CarrierView), (status = 412, description = "It has another version than If-Match says.")))]
async fn change_carrier(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(carrier_id): Params<CarrierId>,
    if_match: IfMatch,
    Body(body): Body<CarrierEdit>,
) -> Result<Versioned<CarrierView>> {
    let CarrierEdit { name, base_url, api_key, webhook_secrets, enabled } = body;
    if base_url.is_some() && api_key.is_none() {
        return Err(Error::field("api_key", "required", "a key goes to another address only when it is given").into());
    }
    let (tenant, shipping) = (caller.tenant()?, app.part::<Shipping>());
    let (mut if_match, mut secrets) = (if_match, None);
    if api_key.is_some() || webhook_secrets.is_some() {
        let known = app.store().peek(tenant, move |read| queries::carrier(read, carrier_id)).await?;
        // What is not given stays as it is now, so the carrier may not be changed meanwhile.
        if_match.check(known.version)?;
        if_match = IfMatch(Some(known.version));
        secrets = Some(match (api_key, webhook_secrets) {
            (Some(api_key), Some(webhook_secrets)) => Secrets { api_key, webhook_secrets },
            (api_key, webhook_secrets) => {
                let kept = shipping.secrets(tenant, &known)?;
                Secrets { api_key: api_key.unwrap_or(kept.api_key), webhook_secrets: webhook_secrets.unwrap_or(kept.webhook_secrets) }
            }
        });
    }
    check(name.as_deref(), base_url.as_deref(), secrets.as_ref())?;
    let sealed = secrets.map(|secrets| shipping.seal(tenant, carrier_id, &secrets, &**app.rng())).transpose()?;
    let base_url = base_url.map(|base_url| shipping.allowed(&base_url)).transpose()?;
    let change = ChangeCarrier { carrier_id, if_match, name, base_url, sealed, enabled };
    let view = app.submit(&caller, None, commands::change_carrier, change).await?.value;
    Ok(Versioned(view.version, view))
}

/// Whom to ask for labels.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LabelRequest {
    /// The carrier.
    carrier_id: CarrierId,
    /// What it is asked for; left out: what the shipment's method says.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 64)]
    service: Option<String>,
}

/// Asks a carrier for a packed shipment's labels. The answer does not wait for the carrier: the shipment is `ready` when they were bought,
/// and `packed` again when the carrier refused.
#[utoipa::path(post, path = "/api/v1/shipping/shipments/{shipment_id}/labels", tag = "shipping",
    params(("shipment_id" = ShipmentId, Path), ("If-Match" = Option<String>, Header)), request_body = LabelRequest,
    responses((status = 202, description = "The carrier is being asked.", body = Shipment),
    (status = 409, description = "The shipment is not packed, or the carrier is switched off."),
    (status = 412, description = "It has another version than If-Match says.")))]
async fn request_labels(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(shipment_id): Params<ShipmentId>,
    if_match: IfMatch,
    Keyed { key, body }: Keyed<LabelRequest>,
) -> Result<impl IntoResponse> {
    let mut faults = Faults::default();
    if let Some(service) = &body.service {
        faults.text("service", service, 1, 64);
    }
    faults.finish()?;
    let request = RequestLabel { shipment_id, if_match, carrier_id: body.carrier_id, service: body.service, by: by(&caller) };
    let shipment = app.submit(&caller, key, commands::request_label, request).await?.value;
    Ok((StatusCode::ACCEPTED, Versioned(shipment.head.version, shipment)))
}

/// Every request for a shipment's labels.
#[derive(Debug, Serialize, ToSchema)]
struct ShipmentLabels {
    /// The shipment.
    shipment_id: ShipmentId,
    /// The first one first; at most 20.
    data: Vec<Label>,
}

/// Lists what became of the requests for a shipment's labels.
#[utoipa::path(get, path = "/api/v1/shipping/shipments/{shipment_id}/labels", tag = "shipping", params(("shipment_id" = ShipmentId, Path)),
    responses((status = 200, body = ShipmentLabels)))]
async fn list_labels(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(shipment_id): Params<ShipmentId>,
) -> Result<Json<ShipmentLabels>> {
    let data = app.read(&caller, move |read| queries::labels(read, shipment_id)).await?;
    Ok(Json(ShipmentLabels { shipment_id, data }))
}

/// Asks the carrier to take a shipment's labels back. The shipment is `packed` again when it has.
#[utoipa::path(post, path = "/api/v1/shipping/shipments/{shipment_id}/void-label", tag = "shipping",
    params(("shipment_id" = ShipmentId, Path), ("If-Match" = Option<String>, Header)),
    responses((status = 202, description = "The carrier is being asked.", body = Shipment), (status = 409, description = "There are no labels to give back."),
    (status = 412, description = "It has another version than If-Match says.")))]
async fn void_labels(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(shipment_id): Params<ShipmentId>,
    if_match: IfMatch,
    Keyed { key, .. }: Keyed<Option<Nothing>>,
) -> Result<impl IntoResponse> {
    let shipment = app.submit(&caller, key, commands::void_label, VoidLabel { shipment_id, if_match, by: by(&caller) }).await?.value;
    Ok((StatusCode::ACCEPTED, Versioned(shipment.head.version, shipment)))
}

/// A body without fields.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Fetches the label of a parcel from its carrier: PDF, or ZPL for label printers, at most 1 MiB.
#[utoipa::path(get, path = "/api/v1/shipping/shipments/{shipment_id}/parcels/{parcel}/label", tag = "shipping",
    params(("shipment_id" = ShipmentId, Path), ("parcel" = u32, Path)),
    responses((status = 200, description = "The document.", body = String, content_type = "application/pdf")))]
async fn get_label(
    AppState(app): AppState<App>,
    caller: Caller,
    Params((shipment_id, parcel)): Params<(ShipmentId, u32)>,
) -> Result<impl IntoResponse> {
    let both = move |read: &mut store::Read<'_>| {
        let head = shipments::head(read, shipment_id)?;
        if !head.labelled {
            return Err(error::label_not_found());
        }
        let sold = queries::sold(read, shipment_id, head.label_requests)?;
        let found = sold.into_iter().find(|(number, _, _)| *number == parcel).ok_or_else(error::label_not_found)?;
        Ok((head.label_requests, found.2))
    };
    let (attempt, label_url) = app.peek(&caller, both).await?;
    let adapter = app.part::<Shipping>().adapter_of_label(app.store(), caller.tenant()?, shipment_id, attempt).await?;
    let document = adapter.document(&label_url).await?;
    Ok(([(CONTENT_TYPE, document.content_type), (CACHE_CONTROL, "private, no-store")], document.bytes))
}

/// Takes a carrier's callback: checks its signature, and takes in what it tells of a parcel, once.
#[utoipa::path(post, path = "/api/v1/shipping/callbacks/{carrier_id}", tag = "shipping", params(("carrier_id" = CarrierId, Path)), responses(
    (status = 204, description = "Taken, or known already."),
    (status = 401, description = "Its signature is not that of a known secret.")))]
async fn take_callback(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(carrier_id): Params<CarrierId>,
    headers: HeaderMap,
    RawBody { bytes, .. }: RawBody,
) -> Result<StatusCode> {
    let tenant = caller.tenant()?;
    let adapter = app.part::<Shipping>().adapter(app.store(), tenant, carrier_id).await?;
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    let news = adapter.callback(&header, &bytes, app.clock().now())?;
    let number = news.tracking_number.clone();
    // A carrier tells of its own parcels only.
    let whose = move |read: &mut store::Read<'_>| {
        let found: Option<(ShipmentId, u32)> = read.opt(crate::shipments::sql::PARCEL_BY_NUMBER, (&number,))?;
        let Some((shipment_id, parcel)) = found else { return Ok(None) };
        let head = shipments::head(read, shipment_id)?;
        let label: Option<Label> = read.opt(crate::carriers::sql::LABEL, (shipment_id, head.label_requests))?;
        Ok(label.filter(|label| label.carrier_id == carrier_id).map(|_| (shipment_id, parcel)))
    };
    let Some((shipment_id, parcel)) = app.store().peek(tenant, whose).await? else {
        // It may be quicker than the answer to the purchase.
        let later = Error::unavailable("shipping.parcel_unknown", "no parcel has this number, or not yet; deliver this again later");
        return Err(later.retry_after_ms(1_000).into());
    };
    let by = By { request_id: Some(caller.request_id.clone()), ..By::system() };
    let call = store::Call::new(tenant).correlation(caller.request_id.clone());
    let told = Track { shipment_id, parcel, told: vec![news.told], by };
    match app.store().write(call, track, told).await {
        // More is not kept; delivering it again would change nothing.
        Err(error) if error.code() == "shipping.too_much_tracking" => Ok(StatusCode::NO_CONTENT),
        taken => {
            taken?;
            Ok(StatusCode::NO_CONTENT)
        }
    }
}
