//! Reads of carriers and labels.

use crate::carriers::model::*;
use crate::carriers::sql;
use crate::error;
use crate::shipments::model::ShipmentId;
use kernel::Result;
use store::Read;

/// A carrier with its sealed secrets. Errors: `shipping.carrier_not_found`.
pub(crate) fn carrier(read: &mut Read<'_>, carrier_id: CarrierId) -> Result<Carrier> {
    read.opt(sql::CARRIER, (carrier_id,))?.ok_or_else(error::carrier_not_found)
}

/// The carrier of a request for labels, as it is to be asked about it. Errors: `shipping.label_not_found`.
pub(crate) fn carrier_of_label(read: &mut Read<'_>, shipment_id: ShipmentId, attempt: i64) -> Result<Carrier> {
    read.opt(sql::CARRIER_OF_LABEL, (shipment_id, attempt))?.ok_or_else(error::label_not_found)
}

/// Every carrier; a tenant has at most 20.
pub(crate) fn carriers(read: &mut Read<'_>) -> Result<Vec<CarrierView>> {
    Ok(read.all::<Carrier>(sql::CARRIERS, ())?.into_iter().map(CarrierView::from).collect())
}

/// One request for labels. Errors: `shipping.label_not_found`.
pub(crate) fn label(read: &mut Read<'_>, shipment_id: ShipmentId, attempt: i64) -> Result<Label> {
    read.opt(sql::LABEL, (shipment_id, attempt))?.ok_or_else(error::label_not_found)
}

/// Every request for a shipment's labels, the first one first; at most 20.
pub(crate) fn labels(read: &mut Read<'_>, shipment_id: ShipmentId) -> Result<Vec<Label>> {
    crate::shipments::queries::head(read, shipment_id)?;
    read.all(sql::LABELS, (shipment_id,))
}

/// The labels of a request: each parcel's number, its carrier's number and where its document is.
pub(crate) fn sold(read: &mut Read<'_>, shipment_id: ShipmentId, attempt: i64) -> Result<Vec<(u32, String, String)>> {
    read.all(sql::LABEL_PARCELS, (shipment_id, attempt))
}
