//! What follows from payments: a captured one credits the wallet that it tops up.

use crate::outside;
use kernel::{Error, Result};
use store::{Event, Tx};

/// The events of payments that move or end top-ups.
const PAYMENT_EVENTS: &[&str] = &["payment.captured", "payment.refunded", "payment.failed", "payment.voided", "payment.expired"];

/// Each event is taken in with the consumer's position, in one transaction.
pub(crate) const TOP_UPS: log::Consumer = log::Consumer::sql("wallets.top_ups", PAYMENT_EVENTS, take_in);

fn take_in(tx: &mut Tx<'_>, events: &[Event]) -> Result<()> {
    for event in events {
        let told = serde_json::from_str(&event.payload)
            .map_err(|e| Error::internal(format!("event {} has a payload that top-ups cannot read", event.id)).caused_by(e))?;
        outside::payment_moved(tx, &told, matches!(event.kind.as_str(), "payment.failed" | "payment.voided" | "payment.expired"))?;
    }
    Ok(())
}
