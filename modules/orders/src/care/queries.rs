//! Reads of holds, remarks, tags, and what became of each line.

use crate::care::model::*;
use crate::care::sql;
use crate::model::{OrderHead, OrderId};
use crate::returns::queries as returns;
use crate::{queries, sql as orders};
use kernel::Result;
use std::collections::BTreeMap;
use store::Read;

/// Why an order is on hold, if it is. Errors: `orders.order_not_found`.
pub(crate) fn hold(read: &mut Read<'_>, order_id: OrderId) -> Result<Option<Hold>> {
    queries::head(read, order_id)?;
    read.opt(sql::HOLD, (order_id,))
}

/// What of each line is known to have arrived.
pub(crate) fn delivered(read: &mut Read<'_>, order_id: OrderId) -> Result<BTreeMap<u32, i64>> {
    Ok(read.all::<(u32, i64)>(sql::DELIVERED, (order_id,))?.into_iter().collect())
}

/// What became of each line of an order. Errors: `orders.order_not_found`.
pub(crate) fn progress(read: &mut Read<'_>, order_id: OrderId) -> Result<Vec<Progress>> {
    let head = queries::head(read, order_id)?;
    let lines = queries::lines(read, order_id.as_i64(), head.lines_version)?;
    let standing = returns::standing(read, &head, &lines)?;
    let (delivered, received) = (delivered(read, order_id)?, returns::received(read, order_id)?);
    let of = |quantities: &BTreeMap<u32, i64>, line: u32| quantities.get(&line).copied().unwrap_or(0);
    let one = |line: crate::model::Line| Progress {
        line: line.line,
        kind: line.kind,
        ordered: line.quantity,
        shipped: of(&standing.fulfilled, line.line),
        delivered: of(&delivered, line.line),
        returned: of(&received, line.line),
        returning: of(&standing.claimed, line.line) - of(&received, line.line),
        refunded: of(&standing.refunded, line.line),
        sku: line.sku,
    };
    Ok(lines.into_iter().map(one).collect())
}

/// An order's tags. Errors: `orders.order_not_found`.
pub(crate) fn tags(read: &mut Read<'_>, order_id: OrderId) -> Result<Vec<String>> {
    queries::head(read, order_id)?;
    Ok(read.all::<(String,)>(sql::TAGS, (order_id,))?.into_iter().map(|(tag,)| tag).collect())
}

/// Which orders a list is about.
#[derive(Clone, Debug)]
pub(crate) enum Marked {
    /// Those that are on hold.
    Held,
    /// Those with this tag.
    Tagged(String),
}

/// Up to `limit` orders with ids below `before`, the latest first.
pub(crate) fn marked(read: &mut Read<'_>, which: &Marked, before: i64, limit: i64) -> Result<Vec<OrderHead>> {
    let ids: Vec<(i64,)> = match which {
        Marked::Held => read.all(sql::HELD_PAGE, (before, limit))?,
        Marked::Tagged(tag) => read.all(sql::TAGGED_PAGE, (before, limit, tag))?,
    };
    let ids: Vec<i64> = ids.into_iter().map(|(id,)| id).collect();
    let mut heads: Vec<OrderHead> = read.all(orders::ORDERS_BY_ID, (ids,))?;
    heads.sort_unstable_by_key(|head| std::cmp::Reverse(head.order_id));
    Ok(heads)
}

/// Up to `limit` entries of an order's timeline after a moment and a place in it. Errors: `orders.order_not_found`.
pub(crate) fn timeline(read: &mut Read<'_>, order_id: OrderId, after: (i64, i64), limit: i64) -> Result<Vec<Entry>> {
    queries::head(read, order_id)?;
    read.all(sql::TIMELINE, (order_id, after.0, after.1, limit))
}
