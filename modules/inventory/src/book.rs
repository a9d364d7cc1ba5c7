//! Movements of many documents at once: stock that another system has kept until now, taken over with its history.

use crate::levels::{self, Changes};
use crate::model::*;
use crate::{events, items, sql};
use kernel::{Error, Faults, Result, Timestamp};
use std::collections::{BTreeMap, HashMap, HashSet};
use store::{Read, Tx};

/// The most lines, or items, that are booked at once.
pub const MAX_BOOKED: usize = 200_000;

/// What one document did to levels, and when.
#[derive(Clone, Debug)]
pub struct Booking {
    /// What it did, in this order.
    pub changes: Changes,
    /// When that was: it is the time of its entries, which stand in the order in which they are booked.
    pub at: Timestamp,
}

/// A SKU whose stock is to be kept.
#[derive(Clone, Debug)]
pub struct Keep {
    /// The item's SKU.
    pub sku: String,
    /// The name of an item that is made.
    pub name: String,
    /// The variant that is one of it, if there is one.
    pub variant_id: Option<VariantId>,
}

/// What the movements of a location come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// By kind: how many movements, and what they did to what is on hand.
    pub by_kind: BTreeMap<MovementKind, (i64, i64)>,
    /// Items that it has a level of.
    pub levels: i64,
    /// On hand in all of its levels.
    pub on_hand: i64,
}

/// Books what follows from what is on hand; how many entries it were. Errors: `request.invalid`, those of a change of levels.
pub(crate) fn book(
    tx: &mut Tx<'_>,
    location_id: LocationId,
    items: &[ItemId],
    follow: impl FnOnce(&BTreeMap<ItemId, i64>) -> Vec<Booking>,
) -> Result<usize> {
    let kept = levels::load(tx, items.iter().copied())?;
    let on_hand: BTreeMap<ItemId, i64> = kept.iter().map(|(item_id, item)| (*item_id, item.on_hand(location_id))).collect();
    let bookings = follow(&on_hand);
    let lines: usize = bookings.iter().map(|booking| booking.changes.lines.len()).sum();
    let field = |document: usize, line: usize| format!("bookings[{document}].lines[{line}]");
    let mut faults = Faults::default();
    faults.count("lines", lines, 0, MAX_BOOKED);
    faults.finish()?;
    let mut faults = Faults::default();
    for (document, booking) in bookings.iter().enumerate() {
        levels::check(&mut faults, &booking.changes, &|line| field(document, line));
    }
    faults.finish()?;
    let documents: Vec<(&Changes, Timestamp)> = bookings.iter().map(|booking| (&booking.changes, booking.at)).collect();
    let movements = levels::decide_on(tx, kept, &documents, field)?;
    if let Some(event) = events::booked(&movements) {
        tx.emit(event);
    }
    Ok(movements.len())
}

/// Finds or makes the items. Errors: `request.invalid`.
pub(crate) fn ensure_items(tx: &mut Tx<'_>, keep: &[Keep]) -> Result<Vec<ItemId>> {
    let mut faults = Faults::default();
    faults.count("keep", keep.len(), 0, MAX_BOOKED);
    faults.finish()?;
    let skus: Vec<String> = keep.iter().map(|one| one.sku.clone()).collect();
    let mut known: HashMap<String, ItemId> = tx.all::<(String, ItemId)>(sql::ITEMS_BY_SKUS, (skus,))?.into_iter().collect();
    let missing: Vec<&Keep> = keep.iter().filter(|one| !known.contains_key(&one.sku)).collect();
    let variants: Vec<i64> = missing.iter().filter_map(|one| one.variant_id).map(VariantId::as_i64).collect();
    let mut tracked: HashSet<VariantId> = HashSet::new();
    if !variants.is_empty() {
        tracked.extend(tx.all::<(VariantId,)>(sql::TRACKED_VARIANTS, (variants,))?.into_iter().map(|(variant_id,)| variant_id));
    }
    for one in missing {
        if known.contains_key(&one.sku) {
            continue;
        }
        let item = items::create_item(tx, &NewItem { sku: one.sku.clone(), name: one.name.clone(), ..NewItem::default() })?;
        known.insert(item.sku, item.item_id);
        if let Some(variant_id) = one.variant_id.filter(|variant_id| tracked.insert(*variant_id)) {
            items::track(tx, variant_id, item.item_id)?;
        }
    }
    let found = |one: &Keep| known.get(&one.sku).copied().ok_or_else(|| Error::internal("an item was made and is not there"));
    keep.iter().map(found).collect()
}

/// Counts what a location's movements come to.
pub(crate) fn moved(read: &mut Read<'_>, location_id: LocationId) -> Result<Moved> {
    let kinds: Vec<(MovementKind, i64, i64)> = read.all(sql::MOVED_AT, (location_id,))?;
    let (levels, on_hand) = read.one(sql::ON_HAND_AT, (location_id,))?;
    Ok(Moved { by_kind: kinds.into_iter().map(|(kind, count, on_hand)| (kind, (count, on_hand))).collect(), levels, on_hand })
}
