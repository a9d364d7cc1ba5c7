//! Reads of returns.

use crate::model::{Line, OrderHead, OrderId};
use crate::returns::model::*;
use crate::returns::sql;
use crate::{error, queries};
use kernel::Result;
use std::collections::BTreeMap;
use store::Read;

/// A return without its lines. Errors: `orders.return_not_found`.
pub(crate) fn head(read: &mut Read<'_>, return_id: ReturnId) -> Result<ReturnHead> {
    read.opt(sql::RETURN, (return_id,))?.ok_or_else(error::return_not_found)
}

/// A return with its lines. Errors: `orders.return_not_found`.
pub(crate) fn find(read: &mut Read<'_>, return_id: ReturnId) -> Result<Return> {
    let head = head(read, return_id)?;
    let lines = read.all(sql::RETURN_LINES, (head.order_id, return_id))?;
    Ok(Return { head, lines })
}

/// Which returns a list is about.
#[derive(Clone, Debug)]
pub(crate) enum Which {
    All,
    OfOrder(OrderId),
    In(ReturnState),
}

/// Up to `limit` returns with ids below `before`, the latest first.
pub(crate) fn returns(read: &mut Read<'_>, which: &Which, before: i64, limit: i64) -> Result<Vec<ReturnHead>> {
    match which {
        Which::All => read.all(sql::RETURNS_PAGE, (before, limit)),
        Which::OfOrder(order_id) => read.all(sql::RETURNS_OF_ORDER_PAGE, (before, limit, *order_id)),
        Which::In(state) => read.all(sql::RETURNS_IN_STATE_PAGE, (before, limit, *state)),
    }
}

/// Up to `limit` changes of a return after a version. Errors: `orders.return_not_found`.
pub(crate) fn changes(read: &mut Read<'_>, return_id: ReturnId, after: i64, limit: i64) -> Result<Vec<ReturnChange>> {
    head(read, return_id)?;
    read.all(sql::RETURN_CHANGES_PAGE, (return_id, after, limit))
}

/// What of an order's lines went out, is claimed by returns, and was refunded.
pub(crate) fn standing(read: &mut Read<'_>, order: &OrderHead, lines: &[Line]) -> Result<Standing> {
    let fulfilled = queries::fulfilled(read, order, lines)?;
    let mut standing = Standing { fulfilled, ..Standing::default() };
    for (line, claimed, refunded, refund_minor) in read.all::<(u32, i64, i64, i64)>(sql::CLAIMED, (order.order_id,))? {
        standing.claimed.insert(line, claimed);
        standing.refunded.insert(line, refunded);
        standing.given_back.insert(line, refund_minor);
    }
    if order.credited_minor != 0 {
        let by_hand: Vec<(String, i64)> = read.all(sql::CREDITED_BY_HAND, (order.order_id,))?;
        standing.credited_by_hand(lines, by_hand.into_iter().collect());
    }
    Ok(standing)
}

/// What of each line of an order came back.
pub(crate) fn received(read: &mut Read<'_>, order_id: OrderId) -> Result<BTreeMap<u32, i64>> {
    Ok(read.all::<(u32, i64)>(sql::RECEIVED, (order_id,))?.into_iter().collect())
}
