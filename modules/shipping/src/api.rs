//! For flows that put shipping together with orders, stock and payment in one transaction: plain functions over a transaction or a read.

use crate::rates;
use crate::shipments::{commands, queries};
use kernel::Result;
use std::collections::BTreeMap;
use store::{Read, Tx};
use web::IfMatch;

pub use crate::rates::model::{Destination, MethodId, MethodQuote, Parcelled, Rates, ZoneId, quote, quote_of, quote_some};
pub use crate::shipments::commands::{Take, Told};
pub use crate::shipments::model::{
    Address, Entry, NewParcel, NewShipment, Parcel, Shipment, ShipmentHead, ShipmentId, State, Step, Tracked,
};
pub use crate::words::By;

/// A tenant's zones, methods and rates, ready for [`quote`]: three statements. They change rarely: a request may take them from
/// [`cached_rates`], and only the price that was quoted goes into the transaction.
pub fn rates(read: &mut Read<'_>) -> Result<Rates> {
    rates::queries::rates(read)
}

/// The same out of this process's cache, which follows every change.
pub async fn cached_rates(app: &web::App, caller: &web::Caller) -> Result<impl std::ops::Deref<Target = Rates>> {
    rates::cache::cached(app, caller).await
}

/// Makes a shipment. With [`NewShipment::ordered`] no line of the order is shipped more often than it was ordered.
/// Errors: `request.invalid`, `shipping.over_shipment`.
pub fn create(tx: &mut Tx<'_>, new: NewShipment, by: By) -> Result<Shipment> {
    commands::create(tx, &(new, by))
}

/// Takes a step: [`Step::Ship`] when the goods go. The answer says what is in the shipment ([`Shipment::goods`]), for the order and the
/// stock. Errors: `shipping.shipment_not_found`, `shipping.not_allowed`, `shipping.has_label`, `shipping.tracking_number_taken`,
/// `request.invalid`, `request.precondition_failed`.
pub fn take(tx: &mut Tx<'_>, take: &Take) -> Result<Shipment> {
    commands::take(tx, take)
}

/// [`take`] without a version that was seen, a reason, or numbers of the carrier.
pub fn step(tx: &mut Tx<'_>, shipment_id: ShipmentId, step: Step, by: By) -> Result<Shipment> {
    let (if_match, reason, tracking_numbers) = (IfMatch(None), String::new(), BTreeMap::new());
    commands::take(tx, &Take { shipment_id, if_match, step, reason, tracking_numbers, by })
}

/// Takes in what was told of a parcel, each event once, in whatever order it comes; the shipment follows.
/// Errors: `shipping.shipment_not_found`, `request.invalid` for a parcel that is not there, `shipping.too_much_tracking`.
pub fn track(tx: &mut Tx<'_>, shipment_id: ShipmentId, parcel: u32, told: Vec<Told>, by: By) -> Result<Shipment> {
    commands::track(tx, &commands::Track { shipment_id, parcel, told, by })
}

/// A shipment with its parcels. Errors: `shipping.shipment_not_found`.
pub fn shipment(read: &mut Read<'_>, shipment_id: ShipmentId) -> Result<Shipment> {
    queries::shipment(read, shipment_id)
}

/// An order's shipments, the latest first, at most 100.
pub fn shipments_of_order(read: &mut Read<'_>, order_ref: &str) -> Result<Vec<ShipmentHead>> {
    queries::shipments(read, &queries::Which::OfOrder(order_ref.to_owned()), i64::MAX, 100)
}

/// What of each line of an order is in shipments that are not cancelled, failed or returned: line number to quantity.
pub fn goods_of_order(read: &mut Read<'_>, order_ref: &str) -> Result<BTreeMap<u32, i64>> {
    queries::goods_of_order(read, order_ref)
}
