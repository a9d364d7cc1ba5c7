//! The daily sales projection: every event about a document says what it adds, so the projection is their sum.

use crate::model::{Sales, SalesLine};
use crate::sql;
use crate::write::{self, SalesRow};
use kernel::{Currency, Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use store::{Event, Tx};

/// The events that add to the daily sales.
pub(crate) const SALES_EVENTS: &[&str] = &["order.placed", "order.changed", "order.cancelled", "credit_note.issued", "adjustment.recorded"];

/// The projection's consumer.
pub(crate) const DAILY_SALES: log::Consumer =
    log::Consumer::sql("orders.daily_sales", SALES_EVENTS, add_to_daily_sales).with_reset(reset_daily_sales).patient();

/// What of an event's payload matters here, in every version so far.
#[derive(Deserialize)]
struct Payload {
    sales: Vec<Sales>,
}

/// Adds a run of one tenant's events, summed up in memory first: a day's orders meet in few rows.
pub(crate) fn add_to_daily_sales(tx: &mut Tx<'_>, events: &[Event]) -> Result<()> {
    let mut payloads = Vec::with_capacity(events.len());
    for event in events.iter().filter(|event| SALES_EVENTS.contains(&event.kind.as_str())) {
        let payload: Payload = serde_json::from_str(&event.payload)
            .map_err(|e| Error::internal(format!("event {} has a payload that daily sales cannot read", event.id)).caused_by(e))?;
        payloads.push(payload);
    }
    let rows = summed(payloads.iter().flat_map(|p| &p.sales));
    write::sales(tx, &rows)
}

/// One row for each day, SKU, country and currency, in the order of the projection's key; those that add nothing are left out.
fn summed<'a>(sales: impl Iterator<Item = &'a Sales>) -> Vec<SalesRow<'a>> {
    let mut sums: BTreeMap<(i64, &str, &str, Currency), SalesLine> = BTreeMap::new();
    for group in sales {
        for line in &group.lines {
            let sum = sums.entry((group.day, &line.sku, &group.country, group.currency)).or_default();
            sum.lines += line.lines;
            sum.quantity += line.quantity;
            sum.extended_micros += line.extended_micros;
            sum.total_minor += line.total_minor;
        }
    }
    let row = |((day, sku, country, currency), sum): ((i64, &str, &'a str, Currency), SalesLine)| SalesRow {
        day,
        country,
        currency,
        sum: SalesLine { sku: sku.to_owned(), ..sum },
    };
    sums.into_iter().filter(|(_, sum)| !sum.is_nothing()).map(row).collect()
}

/// Empties the projection of a whole shard before it is built again, on the platform's scope.
fn reset_daily_sales(tx: &mut Tx<'_>) -> Result<()> {
    tx.exec(sql::RESET_SALES, ())
}
