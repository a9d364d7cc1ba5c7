//! For the application, which puts payments together with orders: what was paid for an order, and what customers have paid in all.

use crate::sql;
use kernel::{Currency, Result};
use ledger::AccountId;
use std::collections::BTreeMap;
use store::{FromRow, Read, Row};

pub use crate::model::{IntentId, State, Status};
pub use crate::queries::IntentView;

/// The most payments of one order that are looked at.
pub const MAX_OF_ORDER: i64 = 100;

/// What was paid for an order in one currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaidOrder {
    /// The order, as the payments name it.
    pub order_id: String,
    /// Of the amounts.
    pub currency: Currency,
    /// How many payments there are for it, failed ones too.
    pub payments: i64,
    /// Taken, in minor units.
    pub captured_minor: i64,
    /// Given back or about to be, in minor units.
    pub refunded_minor: i64,
}

impl FromRow for PaidOrder {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(PaidOrder {
            order_id: row.get(0)?,
            currency: row.get(1)?,
            payments: row.get(2)?,
            captured_minor: row.get(3)?,
            refunded_minor: row.get(4)?,
        })
    }
}

/// The latest [`MAX_OF_ORDER`] payments for an order, the latest first.
pub fn payments_of_order(read: &mut Read<'_>, order_id: &str) -> Result<Vec<IntentView>> {
    let found = crate::queries::intents_of_order(read, order_id, IntentId::from_i64(i64::MAX), MAX_OF_ORDER)?;
    Ok(found.into_iter().map(IntentView::from).collect())
}

/// Up to `limit` sums of orders' payments, by the orders' names after `after`. An order in two currencies has two; the last one of a full
/// page may have another on the next, so a reader drops the last name of a full page and goes on before it.
pub fn paid_by_order(read: &mut Read<'_>, after: &str, limit: i64) -> Result<Vec<PaidOrder>> {
    read.all(sql::PAID_BY_ORDER, (after, limit))
}

/// What customers have paid and not got back, in minor units of each currency: by the payments, and by the ledger's accounts.
pub fn customers_money(read: &mut Read<'_>) -> Result<BTreeMap<String, (i64, i64)>> {
    let mut sums: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for (currency, minor) in read.all::<(Currency, i64)>(sql::PAID, ())? {
        sums.entry(currency.to_string()).or_default().0 += minor;
    }
    for (currency, clearing, settled) in read.all::<(Currency, AccountId, i64)>(sql::CLEARING_ACCOUNTS, ())? {
        // What was moved on to merchants was the customers' money, too.
        sums.entry(currency.to_string()).or_default().1 += ledger::api::balance(read, clearing)?.posted_minor + settled;
    }
    Ok(sums)
}
