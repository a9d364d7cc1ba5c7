//! What changes zones, methods and rates. Each command reads, decides, writes, and tells.

use crate::error;
use crate::rates::model::*;
use crate::rates::{queries, sql};
use crate::words::to_json;
use kernel::{Currency, Result};
use serde::Serialize;
use store::{NewEvent, Tx};
use web::IfMatch;

/// Payload of the events about zones.
#[derive(Serialize)]
struct ZoneEvent<'a> {
    zone_id: ZoneId,
    name: &'a str,
    version: i64,
}

/// The event that a zone was made, changed or removed.
pub(crate) fn zone_event(kind: &'static str, zone: &Zone) -> NewEvent {
    NewEvent::new(kind, 1, zone.zone_id, &ZoneEvent { zone_id: zone.zone_id, name: &zone.name, version: zone.version })
}

/// Payload of the events about methods.
#[derive(Serialize)]
struct MethodEvent<'a> {
    method_id: MethodId,
    version: i64,
    #[serde(flatten)]
    set: &'a NewMethod,
}

/// The event that a method was made or changed.
pub(crate) fn method_event(kind: &'static str, method: &Method) -> NewEvent {
    NewEvent::new(kind, 1, method.method_id, &MethodEvent { method_id: method.method_id, version: method.version, set: &method.set })
}

/// Payload of the events about rates.
#[derive(Serialize)]
struct RateEvent<'a> {
    method_id: MethodId,
    zone_id: ZoneId,
    currency: Currency,
    version: i64,
    #[serde(flatten)]
    set: &'a NewRate,
}

/// The event that a rate was set or removed.
pub(crate) fn rate_event(kind: &'static str, rate: &Rate) -> NewEvent {
    let Rate { method_id, zone_id, currency, version, ref set, .. } = *rate;
    NewEvent::new(kind, 1, method_id, &RateEvent { method_id, zone_id, currency, version, set })
}

/// A zone as it shall be, its areas in their normal form.
#[derive(Clone, Debug)]
pub(crate) struct PutZone {
    pub name: String,
    pub areas: Vec<Area>,
}

/// Makes a zone. Errors: `shipping.too_many`, `shipping.zones_overlap`.
pub(crate) fn create_zone(tx: &mut Tx<'_>, new: &PutZone) -> Result<Zone> {
    let mut zones = queries::zones(tx)?;
    if zones.len() >= MAX_ZONES {
        return Err(error::too_many("zones", MAX_ZONES));
    }
    let now = tx.now();
    let zone =
        Zone { zone_id: tx.new_id(), name: new.name.clone(), areas: new.areas.clone(), version: 1, created_at: now, updated_at: now };
    zones.push(zone.clone());
    disjoint(&zones, &zone)?;
    tx.exec(sql::INSERT_ZONE, (zone.zone_id, &zone.name, to_json(&zone.areas)?, now))?;
    let event = zone_event("shipping_zone.created", &zone);
    tx.emit(event);
    Ok(zone)
}

/// Errors: `shipping.zones_overlap`, naming another zone than `ours`.
fn disjoint(zones: &[Zone], ours: &Zone) -> Result<()> {
    match overlap(zones) {
        None => Ok(()),
        Some((one, other, what)) => {
            let theirs = if zones[one].zone_id == ours.zone_id { &zones[other] } else { &zones[one] };
            Err(error::zones_overlap(&theirs.name, &what))
        }
    }
}

/// A change of a zone. What is none stays.
#[derive(Clone, Debug)]
pub(crate) struct ChangeZone {
    pub zone_id: ZoneId,
    pub if_match: IfMatch,
    pub name: Option<String>,
    pub areas: Option<Vec<Area>>,
}

/// Errors: `shipping.zone_not_found`, `shipping.zones_overlap`, `request.precondition_failed`.
pub(crate) fn change_zone(tx: &mut Tx<'_>, change: &ChangeZone) -> Result<Zone> {
    let mut zones = queries::zones(tx)?;
    let place = zones.iter().position(|zone| zone.zone_id == change.zone_id).ok_or_else(error::zone_not_found)?;
    let zone = &mut zones[place];
    change.if_match.check(zone.version)?;
    let read = zone.version;
    zone.version += 1;
    zone.updated_at = tx.now();
    zone.name = change.name.clone().unwrap_or_else(|| zone.name.clone());
    zone.areas = change.areas.clone().unwrap_or_else(|| zone.areas.clone());
    let zone = zone.clone();
    disjoint(&zones, &zone)?;
    let args = (zone.zone_id, read, zone.version, &zone.name, to_json(&zone.areas)?, zone.updated_at);
    tx.must(sql::UPDATE_ZONE, args, error::version_conflict)?;
    let event = zone_event("shipping_zone.changed", &zone);
    tx.emit(event);
    Ok(zone)
}

/// Removes a zone and the rates in it. Errors: `shipping.zone_not_found`, `request.precondition_failed`.
pub(crate) fn remove_zone(tx: &mut Tx<'_>, (zone_id, if_match): &(ZoneId, IfMatch)) -> Result<()> {
    let zone = queries::zone(tx, *zone_id)?;
    if_match.check(zone.version)?;
    tx.exec(sql::DELETE_RATES_OF_ZONE, (*zone_id,))?;
    tx.must(sql::DELETE_ZONE, (*zone_id,), error::zone_not_found)?;
    let event = zone_event("shipping_zone.removed", &zone);
    tx.emit(event);
    Ok(())
}

/// Makes a method. Errors: `request.invalid`, `shipping.too_many`.
pub(crate) fn create_method(tx: &mut Tx<'_>, new: &NewMethod) -> Result<Method> {
    new.check()?;
    let (count,): (i64,) = tx.one(sql::COUNT_METHODS, ())?;
    if count >= MAX_METHODS as i64 {
        return Err(error::too_many("methods", MAX_METHODS));
    }
    let now = tx.now();
    let method = Method { method_id: tx.new_id(), set: new.clone(), version: 1, created_at: now, updated_at: now };
    tx.exec(sql::INSERT_METHOD, (method.method_id, &new.name, new.active, new.min_days, new.max_days, &new.service, now))?;
    let event = method_event("shipping_method.created", &method);
    tx.emit(event);
    Ok(method)
}

/// A method as it shall be.
#[derive(Clone, Debug)]
pub(crate) struct ChangeMethod {
    pub method_id: MethodId,
    pub if_match: IfMatch,
    pub set: NewMethod,
}

/// Errors: `request.invalid`, `shipping.method_not_found`, `request.precondition_failed`.
pub(crate) fn change_method(tx: &mut Tx<'_>, change: &ChangeMethod) -> Result<Method> {
    change.set.check()?;
    let mut method = queries::method(tx, change.method_id)?;
    change.if_match.check(method.version)?;
    let read = method.version;
    method.version += 1;
    method.updated_at = tx.now();
    method.set = change.set.clone();
    let set = &method.set;
    let args = (method.method_id, read, method.version, &set.name, set.active, set.min_days, set.max_days, &set.service, method.updated_at);
    tx.must(sql::UPDATE_METHOD, args, error::version_conflict)?;
    let event = method_event("shipping_method.changed", &method);
    tx.emit(event);
    Ok(method)
}

/// A rate as it shall be.
#[derive(Clone, Debug)]
pub(crate) struct PutRate {
    pub place: (MethodId, ZoneId, Currency),
    pub if_match: IfMatch,
    pub set: NewRate,
}

/// Sets what a method costs somewhere. Errors: `request.invalid`, `shipping.method_not_found`, `shipping.zone_not_found`,
/// `shipping.too_many`, `request.precondition_failed`.
pub(crate) fn set_rate(tx: &mut Tx<'_>, put: &PutRate) -> Result<Rate> {
    put.set.check()?;
    let (method_id, zone_id, currency) = put.place;
    queries::method(tx, method_id)?;
    queries::zone(tx, zone_id)?;
    let known: Option<Rate> = tx.opt(sql::RATE, put.place)?;
    let version = known.as_ref().map_or(0, |rate| rate.version);
    put.if_match.check(version)?;
    if known.is_none() {
        let (count,): (i64,) = tx.one(sql::COUNT_RATES, ())?;
        if count >= MAX_TABLES as i64 {
            return Err(error::too_many("rates", MAX_TABLES));
        }
    }
    let rate = Rate { method_id, zone_id, currency, set: put.set.clone(), version: version + 1, updated_at: tx.now() };
    let tiers = to_json(&rate.set.tiers)?;
    tx.exec(sql::SET_RATE, (method_id, zone_id, currency, rate.set.basis, tiers, rate.set.free_from_minor, rate.version, rate.updated_at))?;
    let event = rate_event("shipping_rate.set", &rate);
    tx.emit(event);
    Ok(rate)
}

/// Errors: `shipping.rate_not_found`, `request.precondition_failed`.
pub(crate) fn remove_rate(tx: &mut Tx<'_>, (place, if_match): &((MethodId, ZoneId, Currency), IfMatch)) -> Result<()> {
    let rate = queries::rate(tx, *place)?;
    if_match.check(rate.version)?;
    tx.must(sql::DELETE_RATE, *place, error::rate_not_found)?;
    let event = rate_event("shipping_rate.removed", &rate);
    tx.emit(event);
    Ok(())
}
