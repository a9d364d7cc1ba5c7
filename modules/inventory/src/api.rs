//! Stock inside other modules' commands: everything here runs in the caller's transaction, so that stock is taken with what it is taken
//! for or not at all.
//!
//! ```ignore
//! let reserved = inventory::api::reserve(tx, &Demand { reference: checkout_id.to_string(), lines, expires_at, destination: None })?;
//! match inventory::api::confirm(tx, &reserved.reference)? { Confirmation::Confirmed => ..., _ => ... }
//! inventory::api::ship(tx, &Shipment { reference, note: shipment_id.to_string(), parts: Parts::At(location_id) })?;
//! ```
//!
//! What each costs, besides what an event costs (R: waits for an answer on PostgreSQL, w: does not):
//! `reserve` R + w for each level + w; `confirm` R; `release` R + w for each level; `ship` R + 2w for each level + w.

use crate::{amend, book, fulfil, items, levels, reserve};
use kernel::Result;
use std::collections::{BTreeMap, HashMap};
use store::{Call, Read, Store, Tx};
use web::IfMatch;

pub use crate::allocate::{Portion, Ranking, Rules, Shortage, Site, Stock, StockAt, allocate};
pub use crate::amend::{AmendedLine, Amendment};
pub use crate::book::{Booking, Keep, MAX_BOOKED, Moved};
pub use crate::fulfil::{Parts, Return, Shipment};
pub use crate::levels::{Change, Changes, Deltas, ManualKind};
pub use crate::model::{
    Address, Allocation, Availability, Component, Components, Coordinates, Demand, Item, ItemId, Level, Location, LocationId, LocationKind,
    MAX_BATCH, MAX_LINES, MAX_QUANTITY, Movement, MovementKind, NewItem, NewLocation, Policy, ReservationState, Reserved, ReservedLine,
    VariantId,
};
pub use crate::reserve::{Confirmation, Release};

/// Reserves everything that a demand asks for, or nothing. What its lines come to is summed by item, components expanded, before it is
/// checked. The same reference with the same lines again gets the same answer. A variant without components is not tracked: it is always
/// available, and nothing is held for it.
/// Errors: `inventory.insufficient`, naming `lines[i].quantity`; `inventory.reference_reused` for other lines under the same reference;
/// `inventory.reservation_ended` when what the reference held was released, has expired or was shipped; `request.invalid`.
pub fn reserve(tx: &mut Tx<'_>, demand: &Demand) -> Result<Reserved> {
    let outcome = reserve::reserve_all(tx, &[demand])?.pop();
    outcome.unwrap_or_else(|| Err(kernel::Error::internal("a demand was not decided")))
}

/// The same for several, an answer for each in their order: what is refused leaves nothing behind. Errors: `request.invalid` above
/// [`MAX_BATCH`].
pub fn reserve_all(tx: &mut Tx<'_>, demands: &[&Demand]) -> Result<Vec<Result<Reserved>>> {
    reserve::reserve_all(tx, demands)
}

/// Reserves in a transaction of its own. Demands that come at once are decided and written together: the fastest way for a hot item.
/// Errors: as [`reserve`], and those of [`Store::write_set`].
pub async fn submit(store: &Store, call: impl Into<Call>, demand: Demand) -> Result<Reserved> {
    Ok(store.write_set(call, None, reserve::reserve_set, demand).await?.value)
}

/// Confirms a reservation, which has no expiry from then on; or says that it has expired or was released, and holds nothing. One whose
/// time is over and that nobody has swept yet still holds its stock, and is confirmed.
pub fn confirm(tx: &mut Tx<'_>, reference: &str) -> Result<Confirmation> {
    reserve::confirm(tx, reference)
}

/// The same for several, with one statement: by their references. One that there is not is missing.
pub fn confirm_all(tx: &mut Tx<'_>, references: Vec<String>) -> Result<HashMap<String, Confirmation>> {
    reserve::confirm_all(tx, references)
}

/// Lets go of what a reservation still holds; what has gone out stays out. Repeated, it does nothing.
pub fn release(tx: &mut Tx<'_>, reference: &str) -> Result<Release> {
    reserve::release(tx, reference)
}

/// Changes what a reservation holds, when what it is for is changed: lines that it has no more are free, what is more is held, all of it or
/// nothing. Not less than what has gone out. A confirmed one stays so, and takes lines when all that it held has gone out, too.
/// Errors: `inventory.reservation_not_found`, `inventory.reservation_ended`, `inventory.over_shipped`, `inventory.components_changed` when
/// more is wanted of a line whose variant is made of other items now, `inventory.insufficient` naming `lines[i].quantity`,
/// `request.invalid`.
pub fn amend(tx: &mut Tx<'_>, amendment: &Amendment) -> Result<Reserved> {
    amend::amend(tx, amendment)
}

/// Goods of a reservation go out. Errors: `inventory.reservation_not_found`, `inventory.reservation_ended`, `inventory.over_shipped`,
/// `inventory.not_on_hand`, `request.invalid`.
pub fn ship(tx: &mut Tx<'_>, shipment: &Shipment) -> Result<Reserved> {
    fulfil::ship(tx, shipment)
}

/// Shipped goods of a reservation come back. Errors: `inventory.reservation_not_found`, `inventory.over_returned`, `request.invalid`.
pub fn restock(tx: &mut Tx<'_>, back: &Return) -> Result<Reserved> {
    fulfil::take_back(tx, back)
}

/// Books what many documents did to the levels of these items, all or none, in their order: the same rules and the same entries of the
/// ledger as changes by hand, each at its document's time, and one event for all of them. What they did may follow from what is on hand at a
/// location. How many entries it were. Errors: `request.invalid`, also above [`MAX_BOOKED`] lines, `inventory.expected_differs`,
/// `inventory.below_zero`, `inventory.level_too_large`.
pub fn book(
    tx: &mut Tx<'_>,
    location_id: LocationId,
    items: &[ItemId],
    follow: impl FnOnce(&BTreeMap<ItemId, i64>) -> Vec<Booking>,
) -> Result<usize> {
    book::book(tx, location_id, items, follow)
}

/// The items that keep these SKUs' stock, in their order. One that is not there is made, and its variant is made of one of it unless that is
/// made of something already. Errors: `request.invalid`, also above [`MAX_BOOKED`].
pub fn ensure_items(tx: &mut Tx<'_>, keep: &[Keep]) -> Result<Vec<ItemId>> {
    book::ensure_items(tx, keep)
}

/// What the movements of a location come to. Reads all of them: for tools, not for requests.
pub fn moved(read: &mut Read<'_>, location_id: LocationId) -> Result<Moved> {
    book::moved(read, location_id)
}

/// Goods come in: on hand is more, and what was announced of them is incoming no more. Errors: `request.invalid`, `inventory.level_too_large`.
pub fn receive(tx: &mut Tx<'_>, item_id: ItemId, location_id: LocationId, quantity: i64, reference: &str) -> Result<Movement> {
    let line = Change { item_id, location_id, kind: MovementKind::Received, quantity, expected: None };
    let changes = Changes { reference: reference.to_owned(), note: String::new(), lines: vec![line] };
    levels::change_named(tx, &changes, |_| String::new())?.pop().ok_or_else(|| kernel::Error::internal("a change has no movement"))
}

/// How much of each variant can be had, in their order; it decides nothing. Errors: `request.invalid` above [`MAX_LINES`].
pub fn available(read: &mut Read<'_>, variants: &[VariantId]) -> Result<Vec<Availability>> {
    reserve::available(read, variants)
}

/// A reservation. Errors: `inventory.reservation_not_found`.
pub fn reservation(read: &mut Read<'_>, reference: &str) -> Result<Reserved> {
    reserve::find(read, reference)
}

/// The level of an item at a location; nothing where there is none.
pub fn level(read: &mut Read<'_>, item_id: ItemId, location_id: LocationId) -> Result<Level> {
    levels::level(read, item_id, location_id)
}

/// Makes an item. Errors: `request.invalid`, `inventory.sku_taken`.
pub fn create_item(tx: &mut Tx<'_>, new: &NewItem) -> Result<Item> {
    items::create_item(tx, new)
}

/// Makes a location. Errors: `request.invalid`, `inventory.too_many_locations`.
pub fn create_location(tx: &mut Tx<'_>, new: &NewLocation) -> Result<Location> {
    items::create_location(tx, new)
}

/// Sets what a variant is made of. Errors: `request.invalid`.
pub fn set_components(tx: &mut Tx<'_>, variant_id: VariantId, components: Vec<Component>) -> Result<Components> {
    items::set_components(tx, &items::SetComponents { variant_id, if_match: IfMatch(None), components })
}
