//! What is done about a placed order: hold and release, deliver, remark, tag. Each runs in one transaction and may be run again.

use crate::care::model::*;
use crate::care::{queries, sql};
use crate::commands::{Step, emit_order};
use crate::model::{OrderHead, OrderId, State};
use crate::write::{self, By};
use crate::{error, queries as orders};
use kernel::Result;
use serde::Serialize;
use std::collections::BTreeMap;
use store::{NewEvent, Tx};

fn load(tx: &mut Tx<'_>, step: &Step) -> Result<OrderHead> {
    let head = orders::head(tx, step.order_id)?;
    step.if_match.check(head.version)?;
    Ok(head)
}

/// Refuses what would send goods of an order that is on hold. Errors: `orders.on_hold`.
pub(crate) fn not_held(tx: &mut Tx<'_>, order_id: OrderId) -> Result<()> {
    match tx.opt::<Hold>(sql::HOLD, (order_id,))? {
        Some(hold) => Err(error::on_hold(&hold.reason)),
        None => Ok(()),
    }
}

/// Keeps an order from going until somebody has looked at it. Errors: `orders.order_not_found`, `orders.not_allowed` for one that goes no
/// more, `orders.on_hold` for one that is held already, `request.precondition_failed`.
pub(crate) fn hold(tx: &mut Tx<'_>, step: &Step) -> Result<OrderHead> {
    let mut head = load(tx, step)?;
    if !matches!(head.state, State::Draft | State::Placed | State::PartlyFulfilled) {
        return Err(error::not_allowed(head.state, "held"));
    }
    not_held(tx, head.order_id)?;
    let by = &step.by;
    tx.exec(sql::INSERT_HOLD, (head.order_id, &step.reason, by.kind(), by.actor.id, tx.now()))?;
    write::save(tx, &mut head, "held", by, &step.reason, "{}")?;
    emit_order(tx, "order.held", &head, &[], None);
    Ok(head)
}

/// Lets an order go that was held. Errors: `orders.order_not_found`, `orders.not_on_hold`, `request.precondition_failed`.
pub(crate) fn release(tx: &mut Tx<'_>, step: &Step) -> Result<OrderHead> {
    let mut head = load(tx, step)?;
    if queries::hold(tx, head.order_id)?.is_none() {
        return Err(error::not_on_hold());
    }
    tx.exec(sql::DELETE_HOLD, (head.order_id,))?;
    write::save(tx, &mut head, "released", &step.by, &step.reason, "{}")?;
    emit_order(tx, "order.released", &head, &[], None);
    Ok(head)
}

/// Goods that arrived.
#[derive(Clone, Debug)]
pub(crate) struct Deliver {
    pub step: Step,
    /// Line number to quantity, each above zero; none for everything that went out.
    pub quantities: Option<BTreeMap<u32, i64>>,
}

/// Records what arrived of what went out. Errors: `orders.order_not_found`, `orders.over_delivery`, `orders.nothing_under_way`,
/// `request.precondition_failed`.
pub(crate) fn deliver(tx: &mut Tx<'_>, deliver: &Deliver) -> Result<OrderHead> {
    let step = &deliver.step;
    let mut head = load(tx, step)?;
    let lines = orders::lines(tx, head.order_id.as_i64(), head.lines_version)?;
    let mut left = orders::fulfilled(tx, &head, &lines)?;
    for (line, quantity) in queries::delivered(tx, head.order_id)? {
        *left.entry(line).or_insert(0) -= quantity;
    }
    left.retain(|_, quantity| *quantity > 0);
    let arrived = deliver.quantities.clone().unwrap_or_else(|| left.clone());
    if arrived.is_empty() {
        return Err(error::nothing_under_way());
    }
    for (line, quantity) in &arrived {
        let under_way = left.get(line).copied().unwrap_or(0);
        if *quantity > under_way {
            return Err(error::over_delivery(*line, under_way));
        }
    }
    let version = head.version + 1;
    for (line, quantity) in &arrived {
        tx.exec(sql::INSERT_DELIVERY, (head.order_id, version, *line, *quantity))?;
    }
    let what = serde_json::json!({ "quantities": arrived }).to_string();
    write::save(tx, &mut head, "delivered", &step.by, &step.reason, &what)?;
    tx.emit(delivered_event(&head, &arrived));
    Ok(head)
}

/// Payload of `order.delivered`.
#[derive(Serialize)]
struct Delivered<'a> {
    order_id: OrderId,
    number: i64,
    version: i64,
    state: State,
    delivered: &'a BTreeMap<u32, i64>,
}

/// The event that goods arrived.
pub(crate) fn delivered_event(head: &OrderHead, delivered: &BTreeMap<u32, i64>) -> NewEvent {
    let OrderHead { order_id, number, version, state, .. } = *head;
    NewEvent::new("order.delivered", 1, order_id, &Delivered { order_id, number, version, state, delivered })
}

/// Something to write down about an order.
#[derive(Clone, Debug)]
pub(crate) struct NewRemark {
    pub order_id: OrderId,
    pub text: String,
    pub by: By,
}

/// Writes it down; the order itself is not changed. Errors: `orders.order_not_found`, `orders.too_many_remarks`.
pub(crate) fn remark(tx: &mut Tx<'_>, new: &NewRemark) -> Result<Remark> {
    orders::head(tx, new.order_id)?;
    let (count,): (i64,) = tx.one(sql::COUNT_REMARKS, (new.order_id,))?;
    if count >= MAX_REMARKS {
        return Err(error::too_many_remarks(MAX_REMARKS));
    }
    let by = &new.by;
    let remark = Remark {
        remark_id: tx.new_id(),
        text: new.text.clone(),
        actor_kind: by.kind().to_owned(),
        actor_id: by.actor.id,
        written_at: tx.now(),
    };
    tx.exec(
        sql::INSERT_REMARK,
        (new.order_id, remark.remark_id, &remark.text, by.kind(), by.actor.id, by.request_id.as_deref(), remark.written_at),
    )?;
    Ok(remark)
}

/// All tags of an order, in their normal form.
#[derive(Clone, Debug)]
pub(crate) struct SetTags {
    pub step: Step,
    pub tags: Vec<String>,
}

/// Replaces an order's tags; those that it has already change nothing. Errors: `orders.order_not_found`, `request.precondition_failed`.
pub(crate) fn set_tags(tx: &mut Tx<'_>, set: &SetTags) -> Result<OrderHead> {
    let mut head = load(tx, &set.step)?;
    let before = queries::tags(tx, head.order_id)?;
    if before == set.tags {
        return Ok(head);
    }
    tx.exec(sql::DELETE_TAGS, (head.order_id,))?;
    for tag in &set.tags {
        tx.exec(sql::INSERT_TAG, (tag, head.order_id))?;
    }
    let what = serde_json::json!({ "tags": [before, set.tags.clone()] }).to_string();
    write::save(tx, &mut head, "tagged", &set.step.by, &set.step.reason, &what)?;
    emit_order(tx, "order.tagged", &head, &[], None);
    Ok(head)
}
