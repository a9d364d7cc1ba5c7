//! Items, locations, what variants are made of, and the rules of allocation.

use crate::allocate::Rules;
use crate::model::*;
use crate::{error, events, sql};
use kernel::{Error, Faults, Result};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use store::{NewEvent, Read, Tx};
use utoipa::ToSchema;
use web::IfMatch;

// Items.

/// Makes an item. Errors: `request.invalid`, `inventory.sku_taken`.
pub(crate) fn create_item(tx: &mut Tx<'_>, new: &NewItem) -> Result<Item> {
    let now = tx.now();
    let item = Item {
        item_id: tx.new_id(),
        sku: new.sku.clone(),
        name: new.name.clone(),
        policy: new.policy,
        oversell_limit: new.oversell_limit,
        promised_at: new.promised_at,
        low_stock_at: new.low_stock_at,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    item.check()?;
    let i = &item;
    tx.must(
        sql::INSERT_ITEM,
        (i.item_id, &i.sku, &i.name, i.policy, i.oversell_limit, i.promised_at, i.low_stock_at, i.version, i.created_at, i.updated_at),
        error::sku_taken,
    )?;
    tx.emit(events::item("inventory.item_created", i));
    Ok(item)
}

/// What is to be changed of an item.
#[derive(Clone, Debug)]
pub(crate) struct ChangeItem {
    pub item_id: ItemId,
    pub if_match: IfMatch,
    pub change: ItemChange,
}

/// Changes an item. Errors: `inventory.item_not_found`, `request.precondition_failed`, `request.invalid`, `inventory.sku_taken`.
pub(crate) fn change_item(tx: &mut Tx<'_>, asked: &ChangeItem) -> Result<Item> {
    let mut item = item(tx, asked.item_id)?;
    asked.if_match.check(item.version)?;
    let ItemChange { sku, name, policy, oversell_limit, promised_at, low_stock_at } = asked.change.clone();
    let renamed = sku.as_ref().is_some_and(|sku| *sku != item.sku);
    item.sku = sku.unwrap_or(item.sku);
    item.name = name.unwrap_or(item.name);
    item.policy = policy.unwrap_or(item.policy);
    item.oversell_limit = oversell_limit.unwrap_or(item.oversell_limit);
    item.promised_at = promised_at.unwrap_or(item.promised_at);
    item.low_stock_at = low_stock_at.unwrap_or(item.low_stock_at);
    item.check()?;
    if renamed && tx.opt::<Item>(sql::ITEM_BY_SKU, (&item.sku,))?.is_some() {
        return Err(error::sku_taken());
    }
    let read = item.version;
    (item.version, item.updated_at) = (read + 1, tx.now());
    let i = &item;
    tx.must(
        sql::UPDATE_ITEM,
        (i.item_id, read, &i.sku, &i.name, i.policy, i.oversell_limit, i.promised_at, i.low_stock_at, i.version, i.updated_at),
        error::version_conflict,
    )?;
    tx.emit(events::item("inventory.item_changed", i));
    Ok(item)
}

/// An item. Errors: `inventory.item_not_found`.
pub(crate) fn item(read: &mut Read<'_>, item_id: ItemId) -> Result<Item> {
    read.opt(sql::ITEM, (item_id,))?.ok_or_else(error::item_not_found)
}

/// The item with this SKU, if there is one.
pub(crate) fn item_by_sku(read: &mut Read<'_>, sku: &str) -> Result<Option<Item>> {
    read.opt(sql::ITEM_BY_SKU, (sku,))
}

/// Up to `limit` items before `before`, the latest first.
pub(crate) fn items(read: &mut Read<'_>, before: i64, limit: i64) -> Result<Vec<Item>> {
    read.all(sql::ITEMS_PAGE, (before, limit))
}

// Locations.

/// Makes a location. Errors: `request.invalid`, `inventory.too_many_locations`.
pub(crate) fn create_location(tx: &mut Tx<'_>, new: &NewLocation) -> Result<Location> {
    let now = tx.now();
    let location = Location {
        location_id: tx.new_id(),
        kind: new.kind,
        name: new.name.clone(),
        address: new.address.clone(),
        coordinates: new.coordinates,
        priority: new.priority,
        active: new.active,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    location.check()?;
    let (there,): (i64,) = tx.one(sql::COUNT_LOCATIONS, ())?;
    if there >= MAX_LOCATIONS as i64 {
        return Err(error::too_many_locations(MAX_LOCATIONS));
    }
    let (l, a) = (&location, &location.address);
    let (latitude, longitude) = degrees(l);
    tx.exec(
        sql::INSERT_LOCATION,
        (
            l.location_id,
            l.kind,
            &l.name,
            &a.line1,
            &a.line2,
            &a.city,
            &a.region,
            &a.postal_code,
            &a.country,
            latitude,
            longitude,
            l.priority,
            l.active,
            l.version,
            l.created_at,
            l.updated_at,
        ),
    )?;
    tx.emit(events::location("inventory.location_created", l));
    Ok(location)
}

fn degrees(location: &Location) -> (Option<f64>, Option<f64>) {
    location.coordinates.map(|place| (place.latitude, place.longitude)).unzip()
}

/// What is to be changed of a location.
#[derive(Clone, Debug)]
pub(crate) struct ChangeLocation {
    pub location_id: LocationId,
    pub if_match: IfMatch,
    pub change: LocationChange,
}

/// Changes a location. Errors: `inventory.location_not_found`, `request.precondition_failed`, `request.invalid`.
pub(crate) fn change_location(tx: &mut Tx<'_>, asked: &ChangeLocation) -> Result<Location> {
    let mut location = location(tx, asked.location_id)?;
    asked.if_match.check(location.version)?;
    let LocationChange { kind, name, address, coordinates, priority, active } = asked.change.clone();
    location.kind = kind.unwrap_or(location.kind);
    location.name = name.unwrap_or(location.name);
    location.address = address.unwrap_or(location.address);
    location.coordinates = coordinates.unwrap_or(location.coordinates);
    location.priority = priority.unwrap_or(location.priority);
    location.active = active.unwrap_or(location.active);
    location.check()?;
    let read = location.version;
    (location.version, location.updated_at) = (read + 1, tx.now());
    let (l, a) = (&location, &location.address);
    let (latitude, longitude) = degrees(l);
    tx.must(
        sql::UPDATE_LOCATION,
        (
            l.location_id,
            read,
            l.kind,
            &l.name,
            &a.line1,
            &a.line2,
            &a.city,
            &a.region,
            &a.postal_code,
            &a.country,
            latitude,
            longitude,
            l.priority,
            l.active,
            l.version,
            l.updated_at,
        ),
        error::version_conflict,
    )?;
    tx.emit(events::location("inventory.location_changed", l));
    Ok(location)
}

/// A location. Errors: `inventory.location_not_found`.
pub(crate) fn location(read: &mut Read<'_>, location_id: LocationId) -> Result<Location> {
    read.opt(sql::LOCATION, (location_id,))?.ok_or_else(error::location_not_found)
}

/// Up to `limit` locations before `before`, the latest first.
pub(crate) fn locations(read: &mut Read<'_>, before: i64, limit: i64) -> Result<Vec<Location>> {
    read.all(sql::LOCATIONS_PAGE, (before, limit))
}

// What variants are made of.

/// The version of an empty list.
const NO_COMPONENTS: i64 = 1;

/// What a variant shall be made of.
#[derive(Clone, Debug)]
pub(crate) struct SetComponents {
    pub variant_id: VariantId,
    pub if_match: IfMatch,
    pub components: Vec<Component>,
}

/// Sets what a variant is made of; reservations that are there stay as they are. Without components it is not tracked.
/// Errors: `request.precondition_failed`, `request.invalid`.
pub(crate) fn set_components(tx: &mut Tx<'_>, asked: &SetComponents) -> Result<Components> {
    let mut faults = Faults::default();
    faults.count("components", asked.components.len(), 0, MAX_COMPONENTS);
    let mut seen = HashSet::new();
    for (at, component) in asked.components.iter().enumerate().take(MAX_COMPONENTS) {
        faults.number(format!("components[{at}].quantity"), component.quantity, 1, MAX_COMPONENT_QUANTITY);
        if !seen.insert(component.item_id) {
            faults.add(format!("components[{at}].item_id"), "repeated", "each item once");
        }
    }
    faults.finish()?;
    let before = components(tx, asked.variant_id)?;
    asked.if_match.check(before.version)?;
    let ids: Vec<i64> = seen.into_iter().map(ItemId::as_i64).collect();
    let known: HashSet<ItemId> = tx.all::<(ItemId,)>(sql::KNOWN_ITEMS, (ids,))?.into_iter().map(|(item_id,)| item_id).collect();
    if let Some(at) = asked.components.iter().position(|component| !known.contains(&component.item_id)) {
        return Err(Error::field(format!("components[{at}].item_id"), "unknown", "there is no such item"));
    }
    // Later than every list before, those that are gone with it: a version is never that of two lists.
    let version = if asked.components.is_empty() { NO_COMPONENTS } else { tx.now().micros().max(before.version + 1) };
    tx.exec(sql::DELETE_COMPONENTS, (asked.variant_id,))?;
    let mut list = asked.components.clone();
    list.sort_by_key(|component| component.item_id);
    tx.exec_each(sql::INSERT_COMPONENT, list.iter().map(|c| (asked.variant_id, c.item_id, c.quantity, version)))?;
    let set = Components { variant_id: asked.variant_id, components: list, version };
    tx.emit(events::components_set(&set));
    Ok(set)
}

/// Makes a variant that is known to be made of nothing one of an item that is known to be there.
pub(crate) fn track(tx: &mut Tx<'_>, variant_id: VariantId, item_id: ItemId) -> Result<()> {
    let version = tx.now().micros();
    tx.exec(sql::INSERT_COMPONENT, (variant_id, item_id, 1_i64, version))?;
    tx.emit(events::components_set(&Components { variant_id, components: vec![Component { item_id, quantity: 1 }], version }));
    Ok(())
}

/// What a variant is made of: nothing for one that nobody has told of.
pub(crate) fn components(read: &mut Read<'_>, variant_id: VariantId) -> Result<Components> {
    let rows: Vec<(ItemId, i64, i64)> = read.all(sql::COMPONENTS, (variant_id,))?;
    let version = rows.first().map_or(NO_COMPONENTS, |row| row.2);
    let components = rows.into_iter().map(|(item_id, quantity, _)| Component { item_id, quantity }).collect();
    Ok(Components { variant_id, components, version })
}

/// A variant that an item is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = StockItemVariant)]
pub(crate) struct ItemVariant {
    /// The variant.
    pub variant_id: VariantId,
    /// How many of the item are in one of it.
    pub quantity: i64,
}

/// Up to `limit` variants after `after` that an item is in. Errors: `inventory.item_not_found`.
pub(crate) fn variants_of(read: &mut Read<'_>, item_id: ItemId, after: i64, limit: i64) -> Result<Vec<ItemVariant>> {
    item(read, item_id)?;
    let rows: Vec<(VariantId, i64)> = read.all(sql::VARIANTS_OF_ITEM_PAGE, (item_id, after, limit))?;
    Ok(rows.into_iter().map(|(variant_id, quantity)| ItemVariant { variant_id, quantity }).collect())
}

// The rules of allocation.

/// A tenant's rules, as they stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = StockSettings)]
pub struct Settings {
    /// How stock is allocated.
    pub rules: Rules,
    /// Rises with every change; the `ETag`. 1 as long as nobody has set them.
    pub version: i64,
}

/// The rules that shall be in force.
#[derive(Clone, Debug)]
pub(crate) struct SetRules {
    pub if_match: IfMatch,
    pub rules: Rules,
}

/// Sets the rules. Errors: `request.precondition_failed`, `request.invalid`.
pub(crate) fn set_rules(tx: &mut Tx<'_>, asked: &SetRules) -> Result<Settings> {
    asked.rules.check()?;
    let before = settings(tx)?;
    asked.if_match.check(before.version)?;
    let set = Settings { rules: asked.rules.clone(), version: before.version + 1 };
    let now = tx.now();
    tx.exec(sql::SAVE_SETTINGS, (stored(&set.rules)?, set.version, now))?;
    let tenant = tx.tenant()?;
    tx.emit(NewEvent::new("inventory.rules_set", 1, tenant, &set));
    Ok(set)
}

/// The rules in force.
pub(crate) fn settings(read: &mut Read<'_>) -> Result<Settings> {
    match read.opt::<(String, i64)>(sql::SETTINGS, ())? {
        Some((rules, version)) => Ok(Settings { rules: restored(&rules)?, version }),
        None => Ok(Settings { rules: Rules::default(), version: 1 }),
    }
}
