//! What is refused, and under which code. Each has its entry in `docs/problems.md`.

use crate::allocate::Shortage;
use crate::model::{ItemId, LocationId, ReservationState, VariantId};
use crate::reserve::Wanted;
use kernel::Error;
use std::collections::HashMap;

pub(crate) fn item_not_found() -> Error {
    Error::not_found("inventory.item_not_found", "there is no such item")
}

pub(crate) fn location_not_found() -> Error {
    Error::not_found("inventory.location_not_found", "there is no such location")
}

pub(crate) fn reservation_not_found() -> Error {
    Error::not_found("inventory.reservation_not_found", "there is no reservation of this reference")
}

pub(crate) fn transfer_not_found() -> Error {
    Error::not_found("inventory.transfer_not_found", "there is no such transfer")
}

pub(crate) fn count_not_found() -> Error {
    Error::not_found("inventory.count_not_found", "there is no such stock take")
}

pub(crate) fn sku_taken() -> Error {
    Error::conflict("inventory.sku_taken", "another item has this SKU")
}

pub(crate) fn too_many_locations(max: usize) -> Error {
    Error::failed_precondition("inventory.too_many_locations", format!("a tenant has at most {max} locations"))
}

/// Names each line that has a part in a shortage. `components`: what variants are made of.
pub(crate) fn insufficient(lines: &[Wanted], shortages: &[Shortage], components: &HashMap<VariantId, Vec<(ItemId, i64)>>) -> Error {
    let mut error = Error::failed_precondition("inventory.insufficient", "there is not enough stock for what is wanted");
    let mut named = 0;
    for Wanted { at, variant_id, quantity, .. } in lines {
        let of_line = components.get(variant_id).map_or(&[][..], Vec::as_slice);
        let mine = |short: &&Shortage| of_line.iter().any(|(item_id, _)| *item_id == short.item_id);
        let each = |item: ItemId| of_line.iter().find(|(item_id, _)| *item_id == item).map_or(1, |(_, each)| (*each).max(1));
        let worst = shortages.iter().filter(mine).min_by_key(|short| short.available / each(short.item_id));
        if let Some(short) = worst.filter(|_| named < 20) {
            named += 1;
            let (each, item_id) = (each(short.item_id), short.item_id);
            let mut detail = format!("{quantity} wanted, {} available", (short.available / each).max(0));
            if each * quantity != short.wanted {
                detail
                    .push_str(&format!("; the lines want {} of {item_id} together, of which {} can be had", short.wanted, short.available));
            }
            error = error.with_field(format!("lines[{at}].quantity"), "insufficient", detail);
        }
    }
    error
}

pub(crate) fn reference_reused() -> Error {
    Error::conflict("inventory.reference_reused", "a reservation with other lines has this reference")
}

pub(crate) fn reservation_ended(state: ReservationState) -> Error {
    let detail = format!("the reservation of this reference is {} and holds nothing any more", state.as_str());
    Error::failed_precondition("inventory.reservation_ended", detail)
}

pub(crate) fn components_changed(field: String) -> Error {
    let detail = "the variant is made of other items now than when it was reserved: add a line of its own for more of it";
    Error::failed_precondition("inventory.components_changed", detail).with_field(field, "components_changed", detail)
}

/// Somebody wrote beside the lane.
pub(crate) fn contended() -> Error {
    Error::conflict("inventory.contended", "the stock changed in the meantime; try again")
}

pub(crate) fn version_conflict() -> Error {
    Error::conflict("inventory.version_conflict", "it was changed in the meantime; read it again")
}

pub(crate) fn expected_differs(field: String, expected: i64, found: i64) -> Error {
    Error::conflict("inventory.expected_differs", "the level is not what was expected").with_field(
        field,
        "differs",
        format!("{expected} expected, {found} found"),
    )
}

pub(crate) fn below_zero(field: String, detail: String) -> Error {
    Error::failed_precondition("inventory.below_zero", "there is less than is to be taken").with_field(field, "below_zero", detail)
}

pub(crate) fn level_too_large(field: String, max: i64) -> Error {
    Error::failed_precondition("inventory.level_too_large", "a level would become too large").with_field(
        field,
        "too_large",
        format!("no number of a level is above {max}"),
    )
}

pub(crate) fn not_on_hand(item_id: ItemId, location_id: LocationId, quantity: i64) -> Error {
    let detail = format!("{quantity} of {item_id} are to go out from {location_id}, which has fewer on hand");
    Error::failed_precondition("inventory.not_on_hand", detail)
}

pub(crate) fn over_shipped(field: String, wanted: i64, left: i64) -> Error {
    Error::failed_precondition("inventory.over_shipped", "more would go out than is still reserved").with_field(
        field,
        "too_large",
        format!("{wanted} wanted, {left} left"),
    )
}

pub(crate) fn over_returned(field: String, wanted: i64, left: i64) -> Error {
    Error::failed_precondition("inventory.over_returned", "more would come back than has gone out").with_field(
        field,
        "too_large",
        format!("{wanted} wanted, {left} out"),
    )
}

pub(crate) fn over_received(field: String, wanted: i64, left: i64) -> Error {
    Error::failed_precondition("inventory.over_received", "more would be received than was sent").with_field(
        field,
        "too_large",
        format!("{wanted} told, {left} under way"),
    )
}

pub(crate) fn not_open(what: &str) -> Error {
    Error::failed_precondition("inventory.not_open", format!("the {what} is not open any more"))
}
