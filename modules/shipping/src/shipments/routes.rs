//! The routes of shipments.

use crate::rates::model::MethodId;
use crate::shipments::commands::{self, Repack, Take, Told, Track};
use crate::shipments::model::*;
use crate::shipments::queries::{self, TrackingPosition, Which};
use crate::words::By;
use axum::Json;
use axum::extract::State as AppState;
use axum::response::IntoResponse;
use kernel::{Error, Faults, Page, Timestamp};
use serde::Deserialize;
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};
use web::{
    Access, App, Body, Caller, Created, ETag, IfMatch, Keyed, Paging, PagingParams, Params, Query, Result, Route, Versioned, handlers,
};

const PARCELS_BODY: usize = 256 * 1024;
const BODY: usize = 16 * 1024;

pub(crate) fn routes() -> Vec<Route> {
    let (read, write) = (Access::Tenant("shipping.read"), Access::Tenant("shipping.write"));
    vec![
        Route::new(write, handlers!(create_shipment)).body_limit(PARCELS_BODY).keyed(),
        Route::new(read, handlers!(list_shipments)),
        Route::new(read, handlers!(get_shipment)),
        Route::new(write, handlers!(repack_shipment)).body_limit(PARCELS_BODY),
        Route::new(write, handlers!(take_step)).body_limit(BODY).keyed(),
        Route::new(read, handlers!(list_changes)),
        Route::new(write, handlers!(track_parcel)).body_limit(BODY).keyed(),
        Route::new(read, handlers!(list_tracking)),
    ]
}

pub(crate) fn by(caller: &Caller) -> By {
    By { actor: caller.actor, request_id: Some(caller.request_id.clone()) }
}

/// A shipment to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ShipmentBody {
    /// The order, as whoever has it names it.
    #[schema(min_length = 1, max_length = 64)]
    order_id: String,
    /// How it goes.
    #[serde(default)]
    method_id: Option<MethodId>,
    /// Where to.
    destination: Address,
    /// For whoever packs.
    #[serde(default)]
    #[schema(max_length = 500)]
    note: String,
    /// What it consists of.
    #[schema(min_items = 1, max_items = 50)]
    parcels: Vec<NewParcel>,
    /// How many of each line were ordered. Given, no more than that goes into the order's shipments, but for those that were cancelled,
    /// failed, or came back.
    #[serde(default)]
    #[schema(min_items = 1, max_items = 2000)]
    ordered: Option<Vec<Entry>>,
}

/// Makes a shipment of goods of an order.
#[utoipa::path(post, path = "/api/v1/shipping/shipments", tag = "shipping", request_body = ShipmentBody, responses((status = 201, body = Shipment),
    (status = 409, description = "More of a line than was ordered would be shipped, or the idempotency key was used for another request.")))]
async fn create_shipment(
    AppState(app): AppState<App>,
    caller: Caller,
    Keyed { key, body }: Keyed<ShipmentBody>,
) -> Result<impl IntoResponse> {
    let ShipmentBody { order_id, method_id, destination, note, parcels, ordered } = body;
    let ordered = ordered.map(|ordered| entries("ordered", &ordered)).transpose()?;
    let new = NewShipment { order_ref: order_id, method_id, destination, note, parcels, ordered };
    let made = app.submit(&caller, key, commands::create, (new, by(&caller))).await?.value;
    Ok((ETag(made.head.version), Created(format!("/api/v1/shipping/shipments/{}", made.head.shipment_id), made)))
}

fn entries(field: &str, given: &[Entry]) -> kernel::Result<BTreeMap<u32, i64>> {
    let mut faults = Faults::default();
    let mut quantities = BTreeMap::new();
    if faults.count(field, given.len(), 1, MAX_ENTRIES) {
        for (i, entry) in given.iter().enumerate() {
            faults.number(format!("{field}[{i}].line"), i64::from(entry.line), 1, 100_000);
            faults.number(format!("{field}[{i}].quantity"), entry.quantity, 1, 1_000_000_000);
            if quantities.insert(entry.line, entry.quantity).is_some() {
                faults.add(format!("{field}[{i}].line"), "repeated", "this line is given twice");
            }
        }
    }
    faults.finish()?;
    Ok(quantities)
}

/// Which shipments to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ShipmentFilter {
    /// Only those of this order.
    #[param(max_length = 64)]
    order_id: Option<String>,
    /// Only those that stand here.
    #[param(inline)]
    state: Option<State>,
}

/// Lists shipments, the latest first. At most one of the filters may be given.
#[utoipa::path(get, path = "/api/v1/shipping/shipments", tag = "shipping", params(PagingParams, ShipmentFilter),
    responses((status = 200, body = Page<ShipmentHead>)))]
async fn list_shipments(
    AppState(app): AppState<App>,
    caller: Caller,
    Query(filter): Query<ShipmentFilter>,
    paging: Paging<i64>,
) -> Result<Json<Page<ShipmentHead>>> {
    let which = match (filter.order_id, filter.state) {
        (None, None) => Which::All,
        (Some(order_id), None) => Which::OfOrder(order_id),
        (None, Some(state)) => Which::In(state),
        _ => return Err(Error::field("query", "too_many", "at most one of order_id and state").into()),
    };
    const LIST: &str = "shipping.shipments";
    let page = paging.request(LIST)?;
    let (before, limit) = (page.after.unwrap_or(i64::MAX), i64::from(page.limit) + 1);
    let rows = app.read(&caller, move |read| queries::shipments(read, &which, before, limit)).await?;
    Ok(Json(paging.page(LIST, rows, |head| head.shipment_id.as_i64())?))
}

/// Reads a shipment with its parcels.
#[utoipa::path(get, path = "/api/v1/shipping/shipments/{shipment_id}", tag = "shipping", params(("shipment_id" = ShipmentId, Path)),
    responses((status = 200, body = Shipment)))]
async fn get_shipment(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(shipment_id): Params<ShipmentId>,
) -> Result<Versioned<Shipment>> {
    let shipment = app.peek(&caller, move |read| queries::shipment(read, shipment_id)).await?;
    Ok(Versioned(shipment.head.version, shipment))
}

/// Parcels instead of those that there are.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ParcelsOfShipment {
    /// Together they hold the same goods.
    #[schema(min_items = 1, max_items = 50)]
    parcels: Vec<NewParcel>,
}

/// Packs the same goods into other parcels, as long as no label was bought.
#[utoipa::path(put, path = "/api/v1/shipping/shipments/{shipment_id}/parcels", tag = "shipping",
    params(("shipment_id" = ShipmentId, Path), ("If-Match" = Option<String>, Header)), request_body = ParcelsOfShipment,
    responses((status = 200, body = Shipment), (status = 409, description = "Its state does not allow it, or these are other goods."),
    (status = 412, description = "It has another version than If-Match says.")))]
async fn repack_shipment(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(shipment_id): Params<ShipmentId>,
    if_match: IfMatch,
    Body(ParcelsOfShipment { parcels }): Body<ParcelsOfShipment>,
) -> Result<Versioned<Shipment>> {
    let mut faults = Faults::default();
    check_parcels(&parcels, &mut faults);
    faults.finish()?;
    let repack = Repack { shipment_id, if_match, parcels, by: by(&caller) };
    let shipment = app.submit(&caller, None, commands::repack, repack).await?.value;
    Ok(Versioned(shipment.head.version, shipment))
}

/// A step of a shipment.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ShipmentStepBody {
    /// What is done.
    step: Step,
    /// For whoever reads the changes later.
    #[serde(default)]
    #[schema(max_length = 500)]
    reason: String,
    /// What the carrier calls the parcels; for shipments whose labels were not bought here.
    #[serde(default)]
    #[schema(max_items = 50)]
    tracking_numbers: Vec<NumberOfParcel>,
}

/// What a carrier calls a parcel.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NumberOfParcel {
    /// The parcel's number.
    #[schema(minimum = 1, maximum = 50)]
    parcel: u32,
    /// What its carrier calls it.
    #[schema(min_length = 1, max_length = 64)]
    tracking_number: String,
}

/// Takes a step with a shipment: pick, pack, ship, ...
#[utoipa::path(post, path = "/api/v1/shipping/shipments/{shipment_id}/steps", tag = "shipping",
    params(("shipment_id" = ShipmentId, Path), ("If-Match" = Option<String>, Header)), request_body = ShipmentStepBody,
    responses((status = 200, body = Shipment), (status = 409, description = "Its state or a label does not allow it."),
    (status = 412, description = "It has another version than If-Match says.")))]
async fn take_step(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(shipment_id): Params<ShipmentId>,
    if_match: IfMatch,
    Keyed { key, body }: Keyed<ShipmentStepBody>,
) -> Result<Versioned<Shipment>> {
    let mut faults = Faults::default();
    faults.text("reason", &body.reason, 0, 500);
    let mut tracking_numbers = BTreeMap::new();
    if faults.count("tracking_numbers", body.tracking_numbers.len(), 0, MAX_PARCELS) {
        for (i, number) in body.tracking_numbers.into_iter().enumerate() {
            faults.number(format!("tracking_numbers[{i}].parcel"), i64::from(number.parcel), 1, MAX_PARCELS as i64);
            faults.text(format!("tracking_numbers[{i}].tracking_number"), &number.tracking_number, 1, 64);
            if tracking_numbers.insert(number.parcel, number.tracking_number).is_some() {
                faults.add(format!("tracking_numbers[{i}].parcel"), "repeated", "this parcel is given twice");
            }
        }
    }
    faults.finish()?;
    let gate = app.part_if_any::<commands::Gate>().copied();
    let take = Take { shipment_id, if_match, step: body.step, reason: body.reason, tracking_numbers, by: by(&caller), gate };
    let shipment = app.submit(&caller, key, commands::take, take).await?.value;
    Ok(Versioned(shipment.head.version, shipment))
}

/// Lists the changes of a shipment, the first one first.
#[utoipa::path(get, path = "/api/v1/shipping/shipments/{shipment_id}/changes", tag = "shipping",
    params(("shipment_id" = ShipmentId, Path), PagingParams), responses((status = 200, body = Page<Change>)))]
async fn list_changes(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(shipment_id): Params<ShipmentId>,
    paging: Paging<i64>,
) -> Result<Json<Page<Change>>> {
    const LIST: &str = "shipping.changes";
    let page = paging.request(LIST)?;
    let (after, limit) = (page.after.unwrap_or(0), i64::from(page.limit) + 1);
    let rows = app.read(&caller, move |read| queries::changes(read, shipment_id, after, limit)).await?;
    Ok(Json(paging.page(LIST, rows, |change| change.version)?))
}

/// What is known of a parcel's way.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TrackingOfParcel {
    /// The parcel's number.
    #[schema(minimum = 1, maximum = 50)]
    parcel: u32,
    /// What its teller calls the event; told again it is the same.
    #[schema(min_length = 1, max_length = 128)]
    event_ref: String,
    /// What happened.
    status: Tracked,
    /// When.
    occurred_at: Timestamp,
    /// Where.
    #[serde(default)]
    #[schema(max_length = 200)]
    place: String,
    /// In the teller's words.
    #[serde(default)]
    #[schema(max_length = 500)]
    detail: String,
}

/// Tells what happened to a parcel on its way, for carriers that don't tell by themselves. Events may come late, twice and in any order.
#[utoipa::path(post, path = "/api/v1/shipping/shipments/{shipment_id}/tracking", tag = "shipping", params(("shipment_id" = ShipmentId, Path)),
    request_body = TrackingOfParcel, responses((status = 200, body = Shipment), (status = 409, description = "More was told of it than is kept.")))]
async fn track_parcel(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(shipment_id): Params<ShipmentId>,
    Keyed { key, body }: Keyed<TrackingOfParcel>,
) -> Result<Versioned<Shipment>> {
    let mut faults = Faults::default();
    faults.text("event_ref", &body.event_ref, 1, 128);
    faults.text("place", &body.place, 0, 200);
    faults.text("detail", &body.detail, 0, 500);
    faults.finish()?;
    let TrackingOfParcel { parcel, event_ref, status, occurred_at, place, detail } = body;
    let told = vec![Told { event_ref, status, occurred_at, place, detail }];
    let shipment = app.submit(&caller, key, commands::track, Track { shipment_id, parcel, told, by: by(&caller) }).await?.value;
    Ok(Versioned(shipment.head.version, shipment))
}

/// Lists what is known of a shipment's way, in the order in which it happened.
#[utoipa::path(get, path = "/api/v1/shipping/shipments/{shipment_id}/tracking", tag = "shipping",
    params(("shipment_id" = ShipmentId, Path), PagingParams), responses((status = 200, body = Page<Tracking>)))]
async fn list_tracking(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(shipment_id): Params<ShipmentId>,
    paging: Paging<TrackingPosition>,
) -> Result<Json<Page<Tracking>>> {
    const LIST: &str = "shipping.tracking";
    let page = paging.request(LIST)?;
    let (after, limit) = (page.after.unwrap_or((i64::MIN, 0, String::new())), i64::from(page.limit) + 1);
    let rows = app.read(&caller, move |read| queries::tracking(read, shipment_id, &after, limit)).await?;
    Ok(Json(paging.page(LIST, rows, |t| (t.occurred_at.micros(), t.parcel, t.event_ref.clone()))?))
}
