//! The settlement file of a day: every capture and refund with its fee, as CSV.

use crate::books::{Books, Movement};
use kernel::{Error, Result};

/// The file of a UTC day (days since 1970-01-01). Rows in the order of charges, a charge's captures before its refunds.
pub(crate) fn file(books: &Books, day: i64) -> Result<Vec<u8>> {
    let failed = |error: csv::Error| Error::internal("the settlement file can't be written").caused_by(error);
    let mut writer = csv::Writer::from_writer(Vec::new());
    let header = [
        "type",
        "charge_id",
        "charge_reference",
        "movement_id",
        "reference",
        "currency",
        "gross_minor",
        "fee_minor",
        "net_minor",
        "occurred_at",
    ];
    writer.write_record(header).map_err(failed)?;
    for charge in books.charges.values() {
        let captures = charge.captures.iter().map(|movement| ("capture", 1, movement));
        let refunds = charge.refunds.iter().map(|movement| ("refund", -1, movement));
        // A dispute that was lost took back what a refund would have; nobody asked for it under a reference.
        let lost = charge.dispute.as_ref().filter(|_| charge.lost_minor() > 0).map(|dispute| Movement {
            id: format!("dp_{}", charge.id),
            reference: String::new(),
            amount_minor: dispute.amount_minor,
            fee_minor: 0,
            at: dispute.at,
        });
        let refunds = refunds.chain(lost.iter().map(|movement| ("refund", -1, movement)));
        for (kind, sign, movement) in captures.chain(refunds).filter(|(_, _, movement)| movement.at.day() == day) {
            let gross = sign * movement.amount_minor;
            let row = [
                kind,
                &charge.id,
                &charge.reference,
                &movement.id,
                &movement.reference,
                charge.currency.code(),
                &gross.to_string(),
                &movement.fee_minor.to_string(),
                &(gross - movement.fee_minor).to_string(),
                &movement.at.to_string(),
            ];
            writer.write_record(row).map_err(failed)?;
        }
    }
    writer.into_inner().map_err(|error| Error::internal("the settlement file can't be written").caused_by(error.into_error()))
}
