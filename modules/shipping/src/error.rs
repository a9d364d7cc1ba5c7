//! Why shipping refuses: one function for each stable code, each with its entry in docs/problems.md.

use crate::shipments::model::State;
use kernel::Error;

/// Nothing can be shipped so; the field that stands in the way is named.
pub(crate) fn no_method(field: &str, code: &'static str, detail: &str) -> Error {
    Error::invalid("shipping.no_method", "there is no way to ship this").with_field(field, code, detail)
}

/// No such zone in this tenant.
pub(crate) fn zone_not_found() -> Error {
    Error::not_found("shipping.zone_not_found", "there is no such zone")
}

/// No such method in this tenant.
pub(crate) fn method_not_found() -> Error {
    Error::not_found("shipping.method_not_found", "there is no such method")
}

/// The method has no rate there.
pub(crate) fn rate_not_found() -> Error {
    Error::not_found("shipping.rate_not_found", "the method has no such rate")
}

/// No such shipment in this tenant.
pub(crate) fn shipment_not_found() -> Error {
    Error::not_found("shipping.shipment_not_found", "there is no such shipment")
}

/// An address would lie in two zones.
pub(crate) fn zones_overlap(other: &str, what: &str) -> Error {
    Error::conflict("shipping.zones_overlap", format!("the zone {other} has {what} too; an address lies in one zone only"))
}

/// The tenant has as many as it may have.
pub(crate) fn too_many(what: &str, most: usize) -> Error {
    Error::failed_precondition("shipping.too_many", format!("at most {most} {what}"))
}

/// The shipment's state does not allow it.
pub(crate) fn not_allowed(state: State, verb: &str) -> Error {
    Error::failed_precondition("shipping.not_allowed", format!("a shipment that is {} cannot be {verb}", state.as_str().replace('_', " ")))
}

/// A label was bought for it, which has to be given back first.
pub(crate) fn has_label() -> Error {
    Error::failed_precondition("shipping.has_label", "a label was bought for this shipment; void it first")
}

/// More would be shipped than was ordered.
pub(crate) fn over_shipment(line: u32, left: i64) -> Error {
    Error::failed_precondition("shipping.over_shipment", format!("of line {line} only {left} are in no other shipment"))
}

/// Repacking keeps what is shipped.
pub(crate) fn other_goods() -> Error {
    Error::failed_precondition("shipping.other_goods", "the parcels hold other goods than before; make another shipment for them")
}

/// A tracking number belongs to one parcel.
pub(crate) fn tracking_number_taken() -> Error {
    Error::conflict("shipping.tracking_number_taken", "another parcel has this tracking number")
}

/// The parcel has been told of as often as is kept.
pub(crate) fn too_much_tracking() -> Error {
    Error::failed_precondition("shipping.too_much_tracking", "more was told of this parcel than is kept")
}

/// Somebody changed it in between.
pub(crate) fn version_conflict() -> Error {
    Error::conflict("shipping.version_conflict", "it was changed in the meantime; read it again")
}

/// No such carrier in this tenant.
pub(crate) fn carrier_not_found() -> Error {
    Error::not_found("shipping.carrier_not_found", "there is no such carrier")
}

/// The carrier is not asked for new labels.
pub(crate) fn carrier_disabled() -> Error {
    Error::failed_precondition("shipping.carrier_disabled", "the carrier is switched off")
}

/// The parcel has no label, or not this one.
pub(crate) fn label_not_found() -> Error {
    Error::not_found("shipping.label_not_found", "there is no such label")
}

/// There is no label to give back.
pub(crate) fn not_labelled() -> Error {
    Error::failed_precondition("shipping.not_labelled", "no labels were bought for this shipment")
}

/// The label is being given back.
pub(crate) fn label_voiding() -> Error {
    Error::failed_precondition("shipping.label_voiding", "the carrier is being asked to take the labels back")
}
