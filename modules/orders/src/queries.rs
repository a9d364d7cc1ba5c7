//! Reads. Each is bounded, and a read by key touches one or two places of the store.

use crate::customers::{Address, Customer};
use crate::model::*;
use crate::{error, sql};
use kernel::{Currency, Result, UnitPrice};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use store::Read;
use utoipa::ToSchema;

/// A line of an order with what was sent of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrderLine {
    /// The line.
    #[serde(flatten)]
    pub line: Line,
    /// How many of it were fulfilled; always 0 for what is not goods.
    pub fulfilled_quantity: i64,
}

/// An order with its current lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Order {
    /// The order.
    #[serde(flatten)]
    pub head: OrderHead,
    /// Its lines by number.
    pub lines: Vec<OrderLine>,
    /// How old this is, in milliseconds, if it is what was remembered because the database is away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
}

/// A credit note or an adjustment with its lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Note {
    /// The document.
    #[serde(flatten)]
    pub head: NoteHead,
    /// Its lines by number.
    pub lines: Vec<Line>,
}

/// A customer with its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CustomerWithAddresses {
    /// The customer.
    #[serde(flatten)]
    pub customer: Customer,
    /// At most 20, the oldest first.
    pub addresses: Vec<Address>,
}

/// An order's head. Errors: `orders.order_not_found`.
pub(crate) fn head(read: &mut Read<'_>, order_id: OrderId) -> Result<OrderHead> {
    read.opt(sql::ORDER, (order_id,))?.ok_or_else(error::order_not_found)
}

/// The lines of a version of a document.
pub(crate) fn lines(read: &mut Read<'_>, document_id: i64, version: i64) -> Result<Vec<Line>> {
    read.all(sql::LINES, (document_id, version))
}

/// What was fulfilled of each line so far. Only a partly fulfilled order has to be asked: before it is nothing, after it everything.
pub(crate) fn fulfilled(read: &mut Read<'_>, head: &OrderHead, lines: &[Line]) -> Result<BTreeMap<u32, i64>> {
    match head.state {
        State::Draft | State::Placed | State::Cancelled => Ok(BTreeMap::new()),
        State::PartlyFulfilled => Ok(read.all::<(u32, i64)>(sql::FULFILLED, (head.order_id,))?.into_iter().collect()),
        State::Fulfilled | State::Closed => Ok(lines.iter().filter(|l| l.kind == LineKind::Sale).map(|l| (l.line, l.quantity)).collect()),
    }
}

/// An order with its lines. Errors: `orders.order_not_found`.
pub(crate) fn order(read: &mut Read<'_>, order_id: OrderId) -> Result<Order> {
    let head = head(read, order_id)?;
    let lines = lines(read, order_id.as_i64(), head.lines_version)?;
    let fulfilled = fulfilled(read, &head, &lines)?;
    let of = |line: &Line| fulfilled.get(&line.line).copied().unwrap_or(0);
    let lines = lines.into_iter().map(|line| OrderLine { fulfilled_quantity: of(&line), line }).collect();
    Ok(Order { head, lines, age_ms: None })
}

/// Which orders a list is about.
#[derive(Clone, Debug)]
pub(crate) enum Which {
    All,
    OfCustomer(CustomerId),
    Numbered(i64),
    Named(String),
}

/// Up to `limit` orders with ids below `before`, the latest first.
pub(crate) fn orders(read: &mut Read<'_>, which: &Which, before: i64, limit: i64) -> Result<Vec<OrderHead>> {
    let found: Option<(i64,)> = match which {
        Which::All => return read.all(sql::ORDERS_PAGE, (before, limit)),
        Which::OfCustomer(customer_id) => return read.all(sql::ORDERS_OF_CUSTOMER_PAGE, (before, limit, *customer_id)),
        Which::Numbered(number) => read.opt(sql::DOCUMENT_BY_NUMBER, (DocumentKind::Order, *number))?,
        Which::Named(external_ref) => read.opt(sql::DOCUMENT_BY_REF, (DocumentKind::Order, external_ref))?,
    };
    match found {
        Some((order_id,)) if order_id < before => Ok(read.opt(sql::ORDER, (order_id,))?.into_iter().collect()),
        _ => Ok(Vec::new()),
    }
}

/// Up to `limit` changes of an order after a version. Errors: `orders.order_not_found`.
pub(crate) fn changes(read: &mut Read<'_>, order_id: OrderId, after: i64, limit: i64) -> Result<Vec<Change>> {
    head(read, order_id)?;
    read.all(sql::CHANGES_PAGE, (order_id, after, limit))
}

/// The lines as a version of the order had them: those of the latest version up to it that wrote lines.
/// Errors: `orders.order_not_found`, also for a version that the order never had.
pub(crate) fn lines_at(read: &mut Read<'_>, order_id: OrderId, version: i64) -> Result<Vec<Line>> {
    let head = head(read, order_id)?;
    if version < 1 || version > head.version {
        return Err(error::order_not_found());
    }
    let (wrote,): (i64,) = read.one(sql::LINES_VERSION_AT, (order_id, version))?;
    lines(read, order_id.as_i64(), wrote)
}

/// A credit note or an adjustment with its lines, if there is one.
pub(crate) fn note(read: &mut Read<'_>, kind: DocumentKind, note_id: i64) -> Result<Option<Note>> {
    let Some(head) = read.opt(sql::NOTE, (kind, note_id))? else { return Ok(None) };
    Ok(Some(Note { head, lines: lines(read, note_id, 1)? }))
}

/// Up to `limit` notes of a kind with ids below `before`, the latest first; those of one order if it is given.
pub(crate) fn notes(read: &mut Read<'_>, kind: DocumentKind, order: Option<OrderId>, before: i64, limit: i64) -> Result<Vec<NoteHead>> {
    match order {
        Some(order_id) => read.all(sql::NOTES_OF_ORDER_PAGE, (kind, before, limit, order_id)),
        None => read.all(sql::NOTES_PAGE, (kind, before, limit)),
    }
}

/// A customer with its addresses. Errors: `orders.customer_not_found`.
pub(crate) fn customer(read: &mut Read<'_>, customer_id: CustomerId) -> Result<CustomerWithAddresses> {
    let customer = read.opt(sql::CUSTOMER, (customer_id,))?.ok_or_else(error::customer_not_found)?;
    Ok(CustomerWithAddresses { customer, addresses: read.all(sql::ADDRESSES, (customer_id,))? })
}

/// Up to `limit` customers with ids below `before`, the latest first; the one with an external reference if it is given.
pub(crate) fn customers(read: &mut Read<'_>, external_ref: Option<&str>, before: i64, limit: i64) -> Result<Vec<Customer>> {
    let Some(external_ref) = external_ref else {
        return read.all(sql::CUSTOMERS_PAGE, (before, limit));
    };
    match read.opt::<(CustomerId,)>(sql::CUSTOMER_BY_REF, (external_ref,))? {
        Some((customer_id,)) if customer_id.as_i64() < before => Ok(read.opt(sql::CUSTOMER, (customer_id,))?.into_iter().collect()),
        _ => Ok(Vec::new()),
    }
}

/// By what the daily sales are added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GroupBy {
    /// One row a day.
    Day,
    /// One row a SKU.
    Product,
    /// One row a country.
    Country,
}

/// One row of the report. Of `day`, `sku` and `country` the one is there by which it is grouped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DailySales {
    /// The UTC day, such as `2026-01-31`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub day: Option<String>,
    /// The stock-keeping unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sku: Option<String>,
    /// The country as the documents have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// Of the amounts.
    pub currency: Currency,
    /// Lines of documents: orders, credit notes and adjustments.
    pub lines: i64,
    /// Pieces, net.
    pub quantity: i64,
    /// Exact amount, net.
    pub extended: UnitPrice,
    /// The lines' totals, net, in minor units.
    pub total_minor: i64,
}

/// Where a page of the report ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SalesPosition {
    pub key: String,
    pub currency: String,
}

/// Up to `limit` rows after a position, in the order of the key.
pub(crate) fn daily_sales(
    read: &mut Read<'_>,
    by: GroupBy,
    (from, to): (i64, i64),
    after: Option<SalesPosition>,
    limit: i64,
) -> Result<Vec<(String, DailySales)>> {
    let row = |sums: (Currency, i64, i64, UnitPrice, i64)| DailySales {
        day: None,
        sku: None,
        country: None,
        currency: sums.0,
        lines: sums.1,
        quantity: sums.2,
        extended: sums.3,
        total_minor: sums.4,
    };
    let (key, currency) = after.map_or((None, String::new()), |p| (Some(p.key), p.currency));
    let mut rows = Vec::new();
    if by == GroupBy::Day {
        // Every day is above the least number, so that the first page needs no statement of its own.
        let after_day = key.and_then(|k| k.parse().ok()).unwrap_or(i64::MIN);
        read.each(sql::SALES_BY_DAY, (from, to, after_day, currency, limit), |r| {
            let day: i64 = r.get(0)?;
            let sums = (r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?, r.get(5)?);
            rows.push((day.to_string(), DailySales { day: Some(format_day(day)), ..row(sums) }));
            Ok(())
        })?;
        return Ok(rows);
    }
    let statement = if by == GroupBy::Product { sql::SALES_BY_PRODUCT } else { sql::SALES_BY_COUNTRY };
    read.each(statement, (from, to, key.unwrap_or_default(), currency, limit), |r| {
        let name: String = r.get(0)?;
        let sums = row((r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?, r.get(5)?));
        let sales = match by {
            GroupBy::Product => DailySales { sku: Some(name.clone()), ..sums },
            _ => DailySales { country: Some(name.clone()), ..sums },
        };
        rows.push((name, sales));
        Ok(())
    })?;
    Ok(rows)
}

/// What all rows of a period add up to, one row a currency.
pub(crate) fn daily_sales_totals(read: &mut Read<'_>, (from, to): (i64, i64)) -> Result<Vec<DailySales>> {
    let rows: Vec<(Currency, i64, i64, UnitPrice, i64)> = read.all(sql::SALES_TOTALS, (from, to))?;
    let total = |(currency, lines, quantity, extended, total_minor)| DailySales {
        day: None,
        sku: None,
        country: None,
        currency,
        lines,
        quantity,
        extended,
        total_minor,
    };
    Ok(rows.into_iter().map(total).collect())
}
