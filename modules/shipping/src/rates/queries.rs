//! Reads of zones, methods and rates.

use crate::error;
use crate::rates::model::*;
use crate::rates::sql;
use kernel::{Currency, Result};
use store::Read;

/// A zone. Errors: `shipping.zone_not_found`.
pub(crate) fn zone(read: &mut Read<'_>, zone_id: ZoneId) -> Result<Zone> {
    read.opt(sql::ZONE, (zone_id,))?.ok_or_else(error::zone_not_found)
}

/// Every zone; a tenant has at most 250.
pub(crate) fn zones(read: &mut Read<'_>) -> Result<Vec<Zone>> {
    read.all(sql::ZONES, ())
}

/// A method. Errors: `shipping.method_not_found`.
pub(crate) fn method(read: &mut Read<'_>, method_id: MethodId) -> Result<Method> {
    read.opt(sql::METHOD, (method_id,))?.ok_or_else(error::method_not_found)
}

/// A rate. Errors: `shipping.rate_not_found`.
pub(crate) fn rate(read: &mut Read<'_>, (method_id, zone_id, currency): (MethodId, ZoneId, Currency)) -> Result<Rate> {
    read.opt(sql::RATE, (method_id, zone_id, currency))?.ok_or_else(error::rate_not_found)
}

/// Up to `limit` rates of a method after a zone and currency. Errors: `shipping.method_not_found`.
pub(crate) fn rates_of(read: &mut Read<'_>, method_id: MethodId, after: &(i64, String), limit: i64) -> Result<Vec<Rate>> {
    method(read, method_id)?;
    read.all(sql::RATES_OF_METHOD, (method_id, after.0, &after.1, limit))
}

/// Everything that a quote needs: three statements, each bounded.
pub(crate) fn rates(read: &mut Read<'_>) -> Result<Rates> {
    let zones = zones(read)?;
    let methods = read.all(sql::METHODS, ())?;
    Ok(Rates::new(&zones, methods, read.all(sql::RATES, ())?))
}
