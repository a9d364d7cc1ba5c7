//! The HTTP API.

use crate::counts::{self, Count, Counted, NewCount, Note};
use crate::fulfil::{self, Parts, Return, Shipment};
use crate::items::{self, ChangeItem, ChangeLocation, ItemVariant, SetComponents, SetRules, Settings};
use crate::levels::{self, Change, Changes, ManualKind};
use crate::model::*;
use crate::reserve::{self, Confirmation, Release};
use crate::transfers::{self, NewTransfer, Receipt, Receive, Transfer};
use crate::{allocate::Rules, error};
use axum::Json;
use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::response::IntoResponse;
use kernel::{Error, Faults, Page, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use web::{
    Access, App, Body, Caller, Created, ETag, IfMatch, Keyed, Paging, PagingParams, Params, Query, Result, Route, Versioned, handlers,
};

const READ: Access = Access::Tenant("inventory.read");
const WRITE: Access = Access::Tenant("inventory.write");
/// 500 lines.
const LINES_BODY: usize = 256 * 1024;
const SMALL_BODY: usize = 64 * 1024;
/// The most variants whose availability is shown at once.
const MAX_SHOWN: usize = 100;
/// How long a reservation is held unless its maker says, in milliseconds.
const HOLD_MS: i64 = 15 * 60_000;

/// Every route.
pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::new(READ, handlers!(list_items)),
        Route::new(WRITE, handlers!(create_item)).body_limit(SMALL_BODY).keyed(),
        Route::new(READ, handlers!(get_item)),
        Route::new(WRITE, handlers!(change_item)).body_limit(SMALL_BODY),
        Route::new(READ, handlers!(list_levels)),
        Route::new(READ, handlers!(list_movements)),
        Route::new(READ, handlers!(list_item_variants)),
        Route::new(READ, handlers!(list_locations)),
        Route::new(WRITE, handlers!(create_location)).body_limit(SMALL_BODY).keyed(),
        Route::new(READ, handlers!(get_location)),
        Route::new(WRITE, handlers!(change_location)).body_limit(SMALL_BODY),
        Route::new(READ, handlers!(get_components)),
        Route::new(WRITE, handlers!(set_components)).body_limit(SMALL_BODY),
        Route::new(READ, handlers!(list_availability)),
        Route::new(READ, handlers!(get_settings)),
        Route::new(WRITE, handlers!(set_settings)).body_limit(SMALL_BODY),
        Route::new(WRITE, handlers!(create_movements)).body_limit(LINES_BODY).keyed(),
        Route::new(READ, handlers!(list_reservations)),
        Route::new(WRITE, handlers!(create_reservation)).body_limit(LINES_BODY).keyed(),
        Route::new(READ, handlers!(get_reservation)),
        Route::new(WRITE, handlers!(confirm_reservation)).body_limit(SMALL_BODY).keyed(),
        Route::new(WRITE, handlers!(release_reservation)).body_limit(SMALL_BODY).keyed(),
        Route::new(WRITE, handlers!(ship_reservation)).body_limit(LINES_BODY).keyed(),
        Route::new(WRITE, handlers!(return_reservation)).body_limit(LINES_BODY).keyed(),
        Route::new(READ, handlers!(list_transfers)),
        Route::new(WRITE, handlers!(create_transfer)).body_limit(LINES_BODY).keyed(),
        Route::new(READ, handlers!(get_transfer)),
        Route::new(WRITE, handlers!(receive_transfer)).body_limit(LINES_BODY).keyed(),
        Route::new(READ, handlers!(list_counts)),
        Route::new(WRITE, handlers!(create_count)).body_limit(SMALL_BODY).keyed(),
        Route::new(READ, handlers!(get_count)),
        Route::new(WRITE, handlers!(note_count)).body_limit(LINES_BODY),
        Route::new(WRITE, handlers!(apply_count)).body_limit(SMALL_BODY).keyed(),
        Route::new(WRITE, handlers!(cancel_count)).body_limit(SMALL_BODY).keyed(),
    ]
}

/// Where a page of a list with the latest first begins, and how many rows are read of it.
fn page_of(paging: &Paging<i64>, list: &str) -> kernel::Result<(i64, i64)> {
    let page = paging.request(list)?;
    Ok((page.after.unwrap_or(i64::MAX), i64::from(page.limit) + 1))
}

// Items.

/// Which items to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ItemFilter {
    /// Only the item with this SKU.
    #[param(min_length = 1, max_length = 64)]
    sku: Option<String>,
}

/// Items, the latest first.
#[utoipa::path(get, path = "/api/v1/inventory/items", tag = "inventory", params(ItemFilter, PagingParams), responses((status = 200, body = Page<Item>)))]
async fn list_items(
    State(app): State<App>,
    caller: Caller,
    Query(filter): Query<ItemFilter>,
    paging: Paging<i64>,
) -> Result<Json<Page<Item>>> {
    const LIST: &str = "inventory.items";
    let (before, limit) = page_of(&paging, LIST)?;
    let rows = app
        .read(&caller, move |read| match &filter.sku {
            Some(sku) => Ok(items::item_by_sku(read, sku)?.into_iter().collect()),
            None => items::items(read, before, limit),
        })
        .await?;
    Ok(Json(paging.page(LIST, rows, |item| item.item_id.as_i64())?))
}

/// Makes an item: something that is stored and counted.
#[utoipa::path(post, path = "/api/v1/inventory/items", tag = "inventory", request_body = NewItem,
    responses((status = 201, body = Item), (status = 409, description = "`inventory.sku_taken`")))]
async fn create_item(State(app): State<App>, caller: Caller, new: Keyed<NewItem>) -> Result<impl IntoResponse> {
    let item = app.submit(&caller, new.key, items::create_item, new.body).await?.value;
    Ok((ETag(item.version), Created(format!("/api/v1/inventory/items/{}", item.item_id), item)))
}

/// An item.
#[utoipa::path(get, path = "/api/v1/inventory/items/{item_id}", tag = "inventory", params(("item_id" = ItemId, Path)), responses((status = 200, body = Item)))]
async fn get_item(State(app): State<App>, caller: Caller, Params(item_id): Params<ItemId>) -> Result<Versioned<Item>> {
    let item = app.peek(&caller, move |read| items::item(read, item_id)).await?;
    Ok(Versioned(item.version, item))
}

/// Changes an item; what is left out stays.
#[utoipa::path(patch, path = "/api/v1/inventory/items/{item_id}", tag = "inventory", params(("item_id" = ItemId, Path), ("If-Match" = Option<String>, Header)),
    request_body = ItemChange, responses((status = 200, body = Item), (status = 409, description = "`inventory.sku_taken`"),
    (status = 412, description = "Changed since the version in `If-Match`")))]
async fn change_item(
    State(app): State<App>,
    caller: Caller,
    Params(item_id): Params<ItemId>,
    if_match: IfMatch,
    Body(change): Body<ItemChange>,
) -> Result<Versioned<Item>> {
    let item = app.submit(&caller, None, items::change_item, ChangeItem { item_id, if_match, change }).await?.value;
    Ok(Versioned(item.version, item))
}

/// The levels of an item, at most one a location.
#[derive(Serialize, ToSchema)]
#[schema(as = StockLevels)]
struct Levels {
    /// By location.
    data: Vec<Level>,
}

/// How much of an item each location has.
#[utoipa::path(get, path = "/api/v1/inventory/items/{item_id}/levels", tag = "inventory", params(("item_id" = ItemId, Path)), responses((status = 200, body = Levels)))]
async fn list_levels(State(app): State<App>, caller: Caller, Params(item_id): Params<ItemId>) -> Result<Json<Levels>> {
    Ok(Json(Levels { data: app.read(&caller, move |read| levels::levels(read, item_id)).await? }))
}

/// The stock ledger of an item, the latest entry first.
#[utoipa::path(get, path = "/api/v1/inventory/items/{item_id}/movements", tag = "inventory", params(("item_id" = ItemId, Path), PagingParams),
    responses((status = 200, body = Page<Movement>)))]
async fn list_movements(
    State(app): State<App>,
    caller: Caller,
    Params(item_id): Params<ItemId>,
    paging: Paging<i64>,
) -> Result<Json<Page<Movement>>> {
    const LIST: &str = "inventory.movements";
    let (before, limit) = page_of(&paging, LIST)?;
    let rows = app.read(&caller, move |read| levels::movements(read, item_id, before, limit)).await?;
    Ok(Json(paging.page(LIST, rows, |movement| movement.movement_id.as_i64())?))
}

/// The variants that an item is in.
#[utoipa::path(get, path = "/api/v1/inventory/items/{item_id}/variants", tag = "inventory", params(("item_id" = ItemId, Path), PagingParams),
    responses((status = 200, body = Page<ItemVariant>)))]
async fn list_item_variants(
    State(app): State<App>,
    caller: Caller,
    Params(item_id): Params<ItemId>,
    paging: Paging<i64>,
) -> Result<Json<Page<ItemVariant>>> {
    const LIST: &str = "inventory.item_variants";
    let page = paging.request(LIST)?;
    let (after, limit) = (page.after.unwrap_or_default(), i64::from(page.limit) + 1);
    let rows = app.read(&caller, move |read| items::variants_of(read, item_id, after, limit)).await?;
    Ok(Json(paging.page(LIST, rows, |variant| variant.variant_id.as_i64())?))
}

// Locations.

/// Locations, the latest first.
#[utoipa::path(get, path = "/api/v1/inventory/locations", tag = "inventory", params(PagingParams), responses((status = 200, body = Page<Location>)))]
async fn list_locations(State(app): State<App>, caller: Caller, paging: Paging<i64>) -> Result<Json<Page<Location>>> {
    const LIST: &str = "inventory.locations";
    let (before, limit) = page_of(&paging, LIST)?;
    let rows = app.read(&caller, move |read| items::locations(read, before, limit)).await?;
    Ok(Json(paging.page(LIST, rows, |location| location.location_id.as_i64())?))
}

/// Makes a location: a warehouse, a shop, a supplier.
#[utoipa::path(post, path = "/api/v1/inventory/locations", tag = "inventory", request_body = NewLocation,
    responses((status = 201, body = Location), (status = 409, description = "`inventory.too_many_locations`")))]
async fn create_location(State(app): State<App>, caller: Caller, new: Keyed<NewLocation>) -> Result<impl IntoResponse> {
    let location = app.submit(&caller, new.key, items::create_location, new.body).await?.value;
    Ok((ETag(location.version), Created(format!("/api/v1/inventory/locations/{}", location.location_id), location)))
}

/// A location.
#[utoipa::path(get, path = "/api/v1/inventory/locations/{location_id}", tag = "inventory", params(("location_id" = LocationId, Path)),
    responses((status = 200, body = Location)))]
async fn get_location(State(app): State<App>, caller: Caller, Params(location_id): Params<LocationId>) -> Result<Versioned<Location>> {
    let location = app.peek(&caller, move |read| items::location(read, location_id)).await?;
    Ok(Versioned(location.version, location))
}

/// Changes a location; what is left out stays. Nothing is sold from one that is not active; what is reserved there stays so.
#[utoipa::path(patch, path = "/api/v1/inventory/locations/{location_id}", tag = "inventory",
    params(("location_id" = LocationId, Path), ("If-Match" = Option<String>, Header)), request_body = LocationChange,
    responses((status = 200, body = Location), (status = 412, description = "Changed since the version in `If-Match`")))]
async fn change_location(
    State(app): State<App>,
    caller: Caller,
    Params(location_id): Params<LocationId>,
    if_match: IfMatch,
    Body(change): Body<LocationChange>,
) -> Result<Versioned<Location>> {
    let location = app.submit(&caller, None, items::change_location, ChangeLocation { location_id, if_match, change }).await?.value;
    Ok(Versioned(location.version, location))
}

// Variants.

/// Which variant.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct OneVariant {
    /// The variant.
    variant_id: VariantId,
}

/// What a variant is made of. Nothing: it is not tracked, and always available. (In the query, since nobody here knows which there are.)
#[utoipa::path(get, path = "/api/v1/inventory/components", tag = "inventory", params(OneVariant), responses((status = 200, body = Components)))]
async fn get_components(State(app): State<App>, caller: Caller, Query(which): Query<OneVariant>) -> Result<Versioned<Components>> {
    let components = app.peek(&caller, move |read| items::components(read, which.variant_id)).await?;
    Ok(Versioned(components.version, components))
}

/// What a variant shall be made of.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = NewStockComponents)]
#[serde(deny_unknown_fields)]
struct NewComponents {
    /// The variant.
    variant_id: VariantId,
    /// Its items, each once; none: it is not tracked.
    #[schema(max_items = 50)]
    components: Vec<Component>,
}

/// Sets what a variant is made of: one item, or those of a bundle. Reservations that are there stay as they are.
#[utoipa::path(put, path = "/api/v1/inventory/components", tag = "inventory", params(("If-Match" = Option<String>, Header)),
    request_body = NewComponents, responses((status = 200, body = Components), (status = 412, description = "Changed since the version in `If-Match`")))]
async fn set_components(
    State(app): State<App>,
    caller: Caller,
    if_match: IfMatch,
    Body(NewComponents { variant_id, components }): Body<NewComponents>,
) -> Result<Versioned<Components>> {
    let set = app.submit(&caller, None, items::set_components, SetComponents { variant_id, if_match, components }).await?.value;
    Ok(Versioned(set.version, set))
}

/// Which variants.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ManyVariants {
    /// Up to 100 variants, with commas between them.
    #[param(min_length = 15, max_length = 1599)]
    variant_ids: String,
}

/// How much of some variants can be had.
#[derive(Serialize, ToSchema)]
#[schema(as = StockAvailabilities)]
struct Availabilities {
    /// In the order in which they were asked for.
    data: Vec<Availability>,
}

/// How much of up to 100 variants can be had. It may be shown for a second; it decides nothing.
#[utoipa::path(get, path = "/api/v1/inventory/availability", tag = "inventory", params(ManyVariants), responses((status = 200, body = Availabilities)))]
async fn list_availability(State(app): State<App>, caller: Caller, Query(which): Query<ManyVariants>) -> Result<impl IntoResponse> {
    let wrong = |detail: String| Error::field("variant_ids", "invalid", detail);
    let ids = which.variant_ids.split(',').take(MAX_SHOWN + 1).map(|text| text.parse::<VariantId>());
    let ids = ids.collect::<kernel::Result<Vec<VariantId>>>().map_err(|_| wrong("ids of variants with commas between them".to_owned()))?;
    if ids.len() > MAX_SHOWN {
        return Err(wrong(format!("at most {MAX_SHOWN} variants")).into());
    }
    let data = app.peek(&caller, move |read| reserve::available(read, &ids)).await?;
    Ok(([(CACHE_CONTROL, "private, max-age=1")], Json(Availabilities { data })))
}

// The rules.

/// How stock is allocated.
#[utoipa::path(get, path = "/api/v1/inventory/settings", tag = "inventory", responses((status = 200, body = Settings)))]
async fn get_settings(State(app): State<App>, caller: Caller) -> Result<Versioned<Settings>> {
    let settings = app.peek(&caller, items::settings).await?;
    Ok(Versioned(settings.version, settings))
}

/// How stock shall be allocated.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = NewStockSettings)]
#[serde(deny_unknown_fields)]
struct NewSettings {
    /// The rules.
    rules: Rules,
}

/// Sets how stock is allocated.
#[utoipa::path(put, path = "/api/v1/inventory/settings", tag = "inventory", params(("If-Match" = Option<String>, Header)), request_body = NewSettings,
    responses((status = 200, body = Settings), (status = 412, description = "Changed since the version in `If-Match`")))]
async fn set_settings(
    State(app): State<App>,
    caller: Caller,
    if_match: IfMatch,
    Body(NewSettings { rules }): Body<NewSettings>,
) -> Result<Versioned<Settings>> {
    let settings = app.submit(&caller, None, items::set_rules, SetRules { if_match, rules }).await?.value;
    Ok(Versioned(settings.version, settings))
}

// Changes of levels.

/// Changes of levels that stand or fall together.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = NewStockMovements)]
#[serde(deny_unknown_fields)]
struct NewMovements {
    /// What they belong to, such as the number of a delivery.
    #[serde(default)]
    #[schema(max_length = 100)]
    reference: String,
    /// For people.
    #[serde(default)]
    #[schema(max_length = 500)]
    note: String,
    /// The changes, in their order.
    #[schema(min_items = 1, max_items = 500)]
    lines: Vec<NewMovement>,
}

/// A change of a level.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = NewStockMovement)]
#[serde(deny_unknown_fields)]
struct NewMovement {
    /// Why.
    kind: ManualKind,
    /// Of which item.
    item_id: ItemId,
    /// Where.
    location_id: LocationId,
    /// How many; for `corrected` and `safety_set` what it shall be. Below zero only for `expected`.
    #[schema(minimum = -1_000_000_000, maximum = 1_000_000_000)]
    quantity: i64,
    /// What the number is believed to be now: another one refuses. Required for `corrected`.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    expected: Option<i64>,
}

/// What was entered into the stock ledger.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = StockMovements)]
struct Entered {
    /// A movement for each line.
    data: Vec<Movement>,
}

/// Changes levels: what was announced, came in, was lost, damaged or set by hand. All or none.
#[utoipa::path(post, path = "/api/v1/inventory/movements", tag = "inventory", request_body = NewMovements, responses((status = 201, body = Entered),
    (status = 409, description = "`inventory.expected_differs`, `inventory.below_zero`, `inventory.level_too_large`")))]
async fn create_movements(State(app): State<App>, caller: Caller, new: Keyed<NewMovements>) -> Result<impl IntoResponse> {
    let NewMovements { reference, note, lines } = new.body;
    if lines.len() > MAX_ITEMS {
        return Err(Error::field("lines", "wrong_count", format!("{} lines; between 1 and {MAX_ITEMS}", lines.len())).into());
    }
    let change = |line: NewMovement| Change {
        item_id: line.item_id,
        location_id: line.location_id,
        kind: line.kind.into(),
        quantity: line.quantity,
        expected: line.expected,
    };
    let changes = Changes { reference, note, lines: lines.into_iter().map(change).collect() };
    let data = app.submit(&caller, new.key, levels::change, changes).await?.value;
    Ok((axum::http::StatusCode::CREATED, Json(Entered { data })))
}

// Reservations.

/// A reservation to make.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = NewStockReservation)]
#[serde(deny_unknown_fields)]
struct NewReservation {
    /// What it is for; one reservation for each, for ever. Letters, digits, and `-_.:~`.
    #[schema(min_length = 1, max_length = 100)]
    reference: String,
    /// What is wanted.
    #[schema(min_items = 1, max_items = 500)]
    lines: Vec<NewReservationLine>,
    /// Until when it is held, at most twenty years; 15 minutes from now unless said.
    #[serde(default)]
    expires_at: Option<Timestamp>,
    /// Where it goes, for the nearest location to be found.
    #[serde(default)]
    destination: Option<Coordinates>,
}

/// A line of a reservation to make.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = NewStockReservationLine)]
#[serde(deny_unknown_fields)]
struct NewReservationLine {
    /// The variant.
    variant_id: VariantId,
    /// How many.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    quantity: i64,
}

/// Reserves everything that is asked for, or nothing. The same reference with the same lines again gets the same answer.
#[utoipa::path(post, path = "/api/v1/inventory/reservations", tag = "inventory", request_body = NewReservation, responses((status = 201, body = Reserved),
    (status = 409, description = "`inventory.insufficient`, `inventory.reference_reused`, `inventory.reservation_ended`")))]
async fn create_reservation(State(app): State<App>, caller: Caller, new: Keyed<NewReservation>) -> Result<impl IntoResponse> {
    let NewReservation { reference, lines, expires_at, destination } = new.body;
    let expires_at = Some(expires_at.unwrap_or_else(|| app.clock().now().plus_ms(HOLD_MS)));
    let lines = lines.into_iter().map(|line| (line.variant_id, line.quantity)).collect();
    let demand = Demand { reference, lines, expires_at, destination };
    let reserved = app.submit_set(&caller, new.key, reserve::reserve_set, demand).await?.value;
    Ok(Created(format!("/api/v1/inventory/reservations/{}", reserved.reference), reserved))
}

/// Reservations, in the order of their references.
#[utoipa::path(get, path = "/api/v1/inventory/reservations", tag = "inventory", params(PagingParams), responses((status = 200, body = Page<Reserved>)))]
async fn list_reservations(State(app): State<App>, caller: Caller, paging: Paging<String>) -> Result<Json<Page<Reserved>>> {
    const LIST: &str = "inventory.reservations";
    let page = paging.request(LIST)?;
    let (after, limit) = (page.after.unwrap_or_default(), i64::from(page.limit) + 1);
    let rows = app.read(&caller, move |read| reserve::list(read, &after, limit)).await?;
    Ok(Json(paging.page(LIST, rows, |reserved| reserved.reference.clone())?))
}

fn checked(reference: String) -> kernel::Result<String> {
    let mut faults = Faults::default();
    check_reference(&mut faults, "reservation_ref", &reference);
    faults.finish()?;
    Ok(reference)
}

/// A reservation.
#[utoipa::path(get, path = "/api/v1/inventory/reservations/{reservation_ref}", tag = "inventory", params(("reservation_ref" = String, Path, max_length = 100)),
    responses((status = 200, body = Reserved)))]
async fn get_reservation(State(app): State<App>, caller: Caller, Params(reference): Params<String>) -> Result<Json<Reserved>> {
    let reference = checked(reference)?;
    Ok(Json(app.peek(&caller, move |read| reserve::find(read, &reference)).await?))
}

/// Confirms a reservation: it is held until it is shipped or released.
#[utoipa::path(post, path = "/api/v1/inventory/reservations/{reservation_ref}/confirm", tag = "inventory", params(("reservation_ref" = String, Path, max_length = 100)),
    responses((status = 200, body = Reserved), (status = 409, description = "`inventory.reservation_ended`: it has expired or was released")))]
async fn confirm_reservation(
    State(app): State<App>,
    caller: Caller,
    Params(reference): Params<String>,
    Keyed { key, body: _ }: Keyed<Option<Nothing>>,
) -> Result<Json<Reserved>> {
    let confirm = |tx: &mut store::Tx<'_>, reference: &String| match reserve::confirm(tx, reference)? {
        Confirmation::Confirmed => reserve::find(tx, reference),
        Confirmation::Expired => Err(error::reservation_ended(ReservationState::Expired)),
        Confirmation::Released => Err(error::reservation_ended(ReservationState::Released)),
        Confirmation::Unknown => Err(error::reservation_not_found()),
    };
    Ok(Json(app.submit(&caller, key, confirm, checked(reference)?).await?.value))
}

/// A body that says nothing.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = StockNothing)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Lets go of what a reservation still holds. Done already, it changes nothing.
#[utoipa::path(post, path = "/api/v1/inventory/reservations/{reservation_ref}/release", tag = "inventory", params(("reservation_ref" = String, Path, max_length = 100)),
    responses((status = 200, body = Reserved),
    (status = 409, description = "The idempotency key was used for another request.")))]
async fn release_reservation(
    State(app): State<App>,
    caller: Caller,
    Params(reference): Params<String>,
    Keyed { key, body: _ }: Keyed<Option<Nothing>>,
) -> Result<Json<Reserved>> {
    let release = |tx: &mut store::Tx<'_>, reference: &String| match reserve::release(tx, reference)? {
        Release::Released | Release::Ended => reserve::find(tx, reference),
        Release::Unknown => Err(error::reservation_not_found()),
    };
    Ok(Json(app.submit(&caller, key, release, checked(reference)?).await?.value))
}

/// A part of a line.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = StockLinePart)]
#[serde(deny_unknown_fields)]
struct LinePart {
    /// The reservation's line, from 0.
    #[schema(minimum = 0, maximum = 499)]
    line: u32,
    /// How many of its variant.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    quantity: i64,
}

fn parts(lines: Vec<LinePart>) -> Vec<(u32, i64)> {
    lines.into_iter().map(|part| (part.line, part.quantity)).collect()
}

/// What goes out: everything that is still reserved unless said; at one location, or of some lines.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(as = NewStockShipment)]
#[serde(deny_unknown_fields)]
struct NewShipment {
    /// For people, and for the parcel's own name.
    #[serde(default)]
    #[schema(max_length = 500)]
    note: String,
    /// Only what is reserved at this location. Not together with `lines`.
    #[serde(default)]
    location_id: Option<LocationId>,
    /// Only so much of these lines.
    #[serde(default)]
    #[schema(min_items = 1, max_items = 500)]
    lines: Option<Vec<LinePart>>,
}

/// Records that goods of a reservation went out: what is on hand and what is reserved go down together.
#[utoipa::path(post, path = "/api/v1/inventory/reservations/{reservation_ref}/ship", tag = "inventory", params(("reservation_ref" = String, Path, max_length = 100)),
    request_body = Option<NewShipment>, responses((status = 200, body = Reserved),
    (status = 409, description = "`inventory.reservation_ended`, `inventory.over_shipped`, `inventory.not_on_hand`")))]
async fn ship_reservation(
    State(app): State<App>,
    caller: Caller,
    Params(reference): Params<String>,
    Keyed { key, body }: Keyed<Option<NewShipment>>,
) -> Result<Json<Reserved>> {
    let NewShipment { note, location_id, lines } = body.unwrap_or_default();
    let parts = match (location_id, lines) {
        (None, None) => Parts::Rest,
        (Some(location_id), None) => Parts::At(location_id),
        (None, Some(lines)) => Parts::Lines(parts(lines)),
        (Some(_), Some(_)) => return Err(Error::field("lines", "too_many", "either lines or a location_id").into()),
    };
    let shipment = Shipment { reference: checked(reference)?, note, parts };
    Ok(Json(app.submit(&caller, key, fulfil::ship, shipment).await?.value))
}

/// What comes back.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = NewStockReturn)]
#[serde(deny_unknown_fields)]
struct NewReturn {
    /// For people.
    #[serde(default)]
    #[schema(max_length = 500)]
    note: String,
    /// Where it comes to.
    location_id: LocationId,
    /// How much of which lines.
    #[schema(min_items = 1, max_items = 500)]
    lines: Vec<LinePart>,
    /// Whether it can't be sold again.
    #[serde(default)]
    damaged: bool,
}

/// Takes back goods of a reservation that went out: not more than did.
#[utoipa::path(post, path = "/api/v1/inventory/reservations/{reservation_ref}/return", tag = "inventory", params(("reservation_ref" = String, Path, max_length = 100)),
    request_body = NewReturn, responses((status = 200, body = Reserved), (status = 409, description = "`inventory.over_returned`")))]
async fn return_reservation(
    State(app): State<App>,
    caller: Caller,
    Params(reference): Params<String>,
    Keyed { key, body }: Keyed<NewReturn>,
) -> Result<Json<Reserved>> {
    let NewReturn { note, location_id, lines, damaged } = body;
    let back = Return { reference: checked(reference)?, note, location_id, lines: parts(lines), damaged };
    Ok(Json(app.submit(&caller, key, fulfil::take_back, back).await?.value))
}

// Transfers.

/// Transfers, the latest first.
#[utoipa::path(get, path = "/api/v1/inventory/transfers", tag = "inventory", params(PagingParams), responses((status = 200, body = Page<Transfer>)))]
async fn list_transfers(State(app): State<App>, caller: Caller, paging: Paging<i64>) -> Result<Json<Page<Transfer>>> {
    const LIST: &str = "inventory.transfers";
    let (before, limit) = page_of(&paging, LIST)?;
    let rows = app.read(&caller, move |read| transfers::transfers(read, before, limit)).await?;
    Ok(Json(paging.page(LIST, rows, |transfer| transfer.transfer_id.as_i64())?))
}

/// Sends goods from one location to another. Only what is available goes.
#[utoipa::path(post, path = "/api/v1/inventory/transfers", tag = "inventory", request_body = NewTransfer,
    responses((status = 201, body = Transfer), (status = 409, description = "`inventory.below_zero`")))]
async fn create_transfer(State(app): State<App>, caller: Caller, new: Keyed<NewTransfer>) -> Result<impl IntoResponse> {
    let transfer = app.submit(&caller, new.key, transfers::send, new.body).await?.value;
    Ok((ETag(transfer.version), Created(format!("/api/v1/inventory/transfers/{}", transfer.transfer_id), transfer)))
}

/// A transfer.
#[utoipa::path(get, path = "/api/v1/inventory/transfers/{transfer_id}", tag = "inventory", params(("transfer_id" = TransferId, Path)),
    responses((status = 200, body = Transfer)))]
async fn get_transfer(State(app): State<App>, caller: Caller, Params(transfer_id): Params<TransferId>) -> Result<Versioned<Transfer>> {
    let transfer = app.peek(&caller, move |read| transfers::transfer(read, transfer_id)).await?;
    Ok(Versioned(transfer.version, transfer))
}

/// Takes in what has come of a transfer; several times, until all of it is accounted for.
#[utoipa::path(post, path = "/api/v1/inventory/transfers/{transfer_id}/receive", tag = "inventory",
    params(("transfer_id" = TransferId, Path), ("If-Match" = Option<String>, Header)), request_body = Receipt, responses((status = 200, body = Transfer),
    (status = 409, description = "`inventory.not_open`, `inventory.over_received`"), (status = 412, description = "Changed since the version in `If-Match`")))]
async fn receive_transfer(
    State(app): State<App>,
    caller: Caller,
    Params(transfer_id): Params<TransferId>,
    if_match: IfMatch,
    Keyed { key, body: receipt }: Keyed<Receipt>,
) -> Result<Versioned<Transfer>> {
    let transfer = app.submit(&caller, key, transfers::receive, Receive { transfer_id, if_match, receipt }).await?.value;
    Ok(Versioned(transfer.version, transfer))
}

// Stock takes.

/// Stock takes, the latest first.
#[utoipa::path(get, path = "/api/v1/inventory/counts", tag = "inventory", params(PagingParams), responses((status = 200, body = Page<Count>)))]
async fn list_counts(State(app): State<App>, caller: Caller, paging: Paging<i64>) -> Result<Json<Page<Count>>> {
    const LIST: &str = "inventory.counts";
    let (before, limit) = page_of(&paging, LIST)?;
    let rows = app.read(&caller, move |read| counts::counts(read, before, limit)).await?;
    Ok(Json(paging.page(LIST, rows, |count| count.count_id.as_i64())?))
}

/// Begins a stock take at a location.
#[utoipa::path(post, path = "/api/v1/inventory/counts", tag = "inventory", request_body = NewCount, responses((status = 201, body = Count)))]
async fn create_count(State(app): State<App>, caller: Caller, new: Keyed<NewCount>) -> Result<impl IntoResponse> {
    let count = app.submit(&caller, new.key, counts::begin, new.body).await?.value;
    Ok((ETag(count.version), Created(format!("/api/v1/inventory/counts/{}", count.count_id), count)))
}

/// A stock take, with how what was counted differs from the books.
#[utoipa::path(get, path = "/api/v1/inventory/counts/{count_id}", tag = "inventory", params(("count_id" = CountId, Path)), responses((status = 200, body = Count)))]
async fn get_count(State(app): State<App>, caller: Caller, Params(count_id): Params<CountId>) -> Result<Versioned<Count>> {
    let count = app.peek(&caller, move |read| counts::count(read, count_id)).await?;
    Ok(Versioned(count.version, count))
}

/// What was counted.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = StockCountNote)]
#[serde(deny_unknown_fields)]
struct CountNote {
    /// Items, each once; one that was noted before is counted anew.
    #[schema(min_items = 1, max_items = 500)]
    lines: Vec<Counted>,
}

/// Notes what was counted, against what the books have at this moment.
#[utoipa::path(put, path = "/api/v1/inventory/counts/{count_id}/lines", tag = "inventory", params(("count_id" = CountId, Path), ("If-Match" = Option<String>, Header)),
    request_body = CountNote, responses((status = 200, body = Count), (status = 409, description = "`inventory.not_open`"),
    (status = 412, description = "Changed since the version in `If-Match`")))]
async fn note_count(
    State(app): State<App>,
    caller: Caller,
    Params(count_id): Params<CountId>,
    if_match: IfMatch,
    Body(CountNote { lines }): Body<CountNote>,
) -> Result<Versioned<Count>> {
    let count = app.submit(&caller, None, counts::note, Note { count_id, if_match, lines }).await?.value;
    Ok(Versioned(count.version, count))
}

/// Books the differences: what was sold since it was counted is not undone.
#[utoipa::path(post, path = "/api/v1/inventory/counts/{count_id}/apply", tag = "inventory", params(("count_id" = CountId, Path), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = Count), (status = 409, description = "`inventory.not_open`, `inventory.below_zero`"),
    (status = 412, description = "Changed since the version in `If-Match`")))]
async fn apply_count(
    State(app): State<App>,
    caller: Caller,
    Params(count_id): Params<CountId>,
    if_match: IfMatch,
    Keyed { key, body: _ }: Keyed<Option<Nothing>>,
) -> Result<Versioned<Count>> {
    let count = app.submit(&caller, key, counts::apply, counts::Step { count_id, if_match }).await?.value;
    Ok(Versioned(count.version, count))
}

/// Calls a stock take off; nothing is booked.
#[utoipa::path(post, path = "/api/v1/inventory/counts/{count_id}/cancel", tag = "inventory", params(("count_id" = CountId, Path), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = Count), (status = 409, description = "`inventory.not_open`"),
    (status = 412, description = "Changed since the version in `If-Match`")))]
async fn cancel_count(
    State(app): State<App>,
    caller: Caller,
    Params(count_id): Params<CountId>,
    if_match: IfMatch,
    Keyed { key, body: _ }: Keyed<Option<Nothing>>,
) -> Result<Versioned<Count>> {
    let count = app.submit(&caller, key, counts::cancel, counts::Step { count_id, if_match }).await?.value;
    Ok(Versioned(count.version, count))
}
