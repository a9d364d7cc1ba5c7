//! Reads of shipments.

use crate::error;
use crate::shipments::model::*;
use crate::shipments::sql;
use kernel::Result;
use std::collections::BTreeMap;
use store::Read;

/// A shipment without its parcels. Errors: `shipping.shipment_not_found`.
pub(crate) fn head(read: &mut Read<'_>, shipment_id: ShipmentId) -> Result<ShipmentHead> {
    read.opt(sql::SHIPMENT, (shipment_id,))?.ok_or_else(error::shipment_not_found)
}

/// A shipment's parcels with what is in them.
pub(crate) fn parcels(read: &mut Read<'_>, shipment_id: ShipmentId) -> Result<Vec<Parcel>> {
    let mut parcels: Vec<Parcel> = read.all(sql::PARCELS, (shipment_id,))?;
    let entries: Vec<(u32, u32, i64)> = read.all(sql::ENTRIES, (shipment_id,))?;
    for (parcel, line, quantity) in entries {
        if let Ok(place) = parcels.binary_search_by_key(&parcel, |p| p.parcel) {
            parcels[place].lines.push(Entry { line, quantity });
        }
    }
    Ok(parcels)
}

/// A shipment with its parcels. Errors: `shipping.shipment_not_found`.
pub(crate) fn shipment(read: &mut Read<'_>, shipment_id: ShipmentId) -> Result<Shipment> {
    Ok(Shipment { head: head(read, shipment_id)?, parcels: parcels(read, shipment_id)? })
}

/// Which shipments a list is about.
#[derive(Clone, Debug)]
pub(crate) enum Which {
    All,
    OfOrder(String),
    In(State),
}

/// Up to `limit` shipments with ids below `before`, the latest first.
pub(crate) fn shipments(read: &mut Read<'_>, which: &Which, before: i64, limit: i64) -> Result<Vec<ShipmentHead>> {
    match which {
        Which::All => read.all(sql::SHIPMENTS_PAGE, (before, limit)),
        Which::OfOrder(order) => read.all(sql::SHIPMENTS_OF_ORDER_PAGE, (before, limit, order)),
        Which::In(state) => read.all(sql::SHIPMENTS_IN_STATE_PAGE, (before, limit, *state)),
    }
}

/// What of each line of an order is in shipments that are not cancelled, failed or returned.
pub(crate) fn goods_of_order(read: &mut Read<'_>, order_ref: &str) -> Result<BTreeMap<u32, i64>> {
    Ok(read.all::<(u32, i64)>(sql::GOODS_OF_ORDER, (order_ref,))?.into_iter().collect())
}

/// Up to `limit` changes of a shipment after a version. Errors: `shipping.shipment_not_found`.
pub(crate) fn changes(read: &mut Read<'_>, shipment_id: ShipmentId, after: i64, limit: i64) -> Result<Vec<Change>> {
    head(read, shipment_id)?;
    read.all(sql::CHANGES_PAGE, (shipment_id, after, limit))
}

/// Where a page of tracking ended: the time, the parcel and the event's name.
pub(crate) type TrackingPosition = (i64, u32, String);

/// Up to `limit` of what is known of a shipment's way, in the order in which it happened. Errors: `shipping.shipment_not_found`.
pub(crate) fn tracking(read: &mut Read<'_>, shipment_id: ShipmentId, after: &TrackingPosition, limit: i64) -> Result<Vec<Tracking>> {
    head(read, shipment_id)?;
    read.all(sql::TRACKING_PAGE, (shipment_id, after.0, after.1, &after.2, limit))
}
