//! For flows: what shipping costs, and who may keep a shipment from going. What becomes of shipments goes by events.

use crate::rates;
use kernel::Result;
use store::Read;

pub use crate::rates::model::{Destination, MethodId, MethodQuote, Parcelled, Rates, ZoneId, quote, quote_of, quote_some};
pub use crate::shipments::commands::Gate;

/// A tenant's zones, methods and rates, ready for [`quote`]: three statements. They change rarely: a request may take them from
/// [`cached_rates`], and only the price that was quoted goes into the transaction.
pub fn rates(read: &mut Read<'_>) -> Result<Rates> {
    rates::queries::rates(read)
}

/// The same out of this process's cache, which follows every change.
pub async fn cached_rates(app: &web::App, caller: &web::Caller) -> Result<impl std::ops::Deref<Target = Rates>> {
    rates::cache::cached(app, caller).await
}
