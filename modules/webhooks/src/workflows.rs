//! One delivery: an attempt, and after a failure another one later, until it is taken or given up.
//!
//! An attempt whose outcome is unknown is one that failed: it is made again under the same `webhook-id`, by which a receiver knows it.

use crate::model::*;
use crate::service::Webhooks;
use crate::{commands, queries, sql};
use bytes::Bytes;
use client::{Method, Request as Outgoing, webhook};
use futures_util::future::BoxFuture;
use kernel::{Error, Result};
use serde::{Deserialize, Serialize};
use store::{EventId, Tx};
use workflow::{Action, Heard, Kind, Next, Outcome, Prepared, Request, Saga, Step, Workflow};

/// Delivers one event to one endpoint; its business key is the delivery's id.
pub const DELIVER: Kind = Kind { name: "webhooks.deliver", version: 1 };

/// One attempt; more than the client's own limit.
const CALL_MS: u32 = 20_000;
const USER_AGENT: &str = concat!("BrandOS-Webhooks/", env!("CARGO_PKG_VERSION"));

pub(crate) fn workflows() -> Vec<Workflow> {
    let attempt = Action::outside(prepare, attempt, attempted).timeout_ms(CALL_MS);
    vec![Workflow::new(DELIVER).version(1, vec![Step::new("attempt", attempt)])]
}

pub(crate) fn begin(tx: &mut Tx<'_>, delivery_id: DeliveryId) -> Result<()> {
    workflow::start(tx, DELIVER, &delivery_id.to_string(), &delivery_id)
}

#[derive(Serialize, Deserialize)]
struct Asked {
    endpoint_id: EndpointId,
    event_id: EventId,
}

/// How an attempt ended.
#[derive(Serialize, Deserialize)]
struct Ended {
    /// None without an answer.
    status: Option<u16>,
    error: String,
}

fn prepare(tx: &mut Tx<'_>, saga: &mut Saga) -> Result<Prepared> {
    let delivery_id: DeliveryId = saga.state()?;
    let delivery = queries::delivery(tx, delivery_id)?;
    if delivery.state != "waiting" {
        return Ok(Prepared::Next(Next::Finish));
    }
    let endpoint = tx.opt::<Endpoint>(sql::ENDPOINT, (delivery.endpoint_id,))?;
    if !endpoint.as_ref().is_some_and(Endpoint::is_enabled) {
        end(tx, &delivery, "failed", delivery.attempts, None, Some("the endpoint was switched off or removed"))?;
        return Ok(Prepared::Next(Next::Finish));
    }
    let asked = Asked { endpoint_id: delivery.endpoint_id, event_id: delivery.event_id };
    let body = serde_json::to_value(&asked).map_err(|e| Error::internal("a request does not serialise").caused_by(e))?;
    Ok(Prepared::Call { key: format!("{delivery_id}-{}", delivery.attempts + 1), body })
}

/// A delivery waits no more.
fn end(tx: &mut Tx<'_>, delivery: &Delivery, state: &str, attempts: i64, status: Option<u16>, error: Option<&str>) -> Result<()> {
    let at = if attempts > delivery.attempts { Some(tx.now()) } else { delivery.attempted_at };
    let none: Option<kernel::Timestamp> = None;
    tx.exec(sql::ATTEMPTED, (delivery.delivery_id, state, attempts, status.map(i64::from), error, at, none))?;
    tx.exec(sql::ADD_WAITING, (delivery.endpoint_id, -1_i64))
}

fn attempt(request: Request) -> BoxFuture<'static, Outcome> {
    Box::pin(async move {
        let ended = send(&request).await.unwrap_or_else(|error| Ended { status: None, error: error.to_string() });
        match serde_json::to_value(&ended) {
            Ok(value) => Outcome::Done(value),
            Err(error) => Outcome::Unknown(error.to_string()),
        }
    })
}

async fn send(request: &Request) -> Result<Ended> {
    let Asked { endpoint_id, event_id } = request.body()?;
    let tenant = request.tenant.ok_or_else(|| Error::internal("a webhook without a tenant"))?;
    let both = move |read: &mut store::Read<'_>| Ok((queries::endpoint(read, endpoint_id)?, queries::message(read, event_id)?));
    let (endpoint, body) = request.store().peek(tenant, both).await?;
    let webhooks = request.part::<Webhooks>();
    // The address may have been allowed by a configuration that is no more.
    webhooks.check_url(&endpoint.url)?;
    let (id, now) = (event_id.to_string(), request.store().clock().now());
    let signatures = webhooks.signatures(&webhooks.secrets(tenant, &endpoint)?, &id, now, body.as_bytes())?;
    let headers = vec![
        ("content-type", "application/json".to_owned()),
        ("user-agent", USER_AGENT.to_owned()),
        (webhook::ID, id),
        (webhook::TIMESTAMP, now.unix_seconds().to_string()),
        (webhook::SIGNATURE, signatures),
    ];
    let outgoing = Outgoing { method: Method::POST, url: endpoint.url, headers, body: Bytes::from(body) };
    Ok(match webhooks.client().send(outgoing).await {
        Ok(answer) if (200..300).contains(&answer.status) => Ended { status: Some(answer.status), error: String::new() },
        Ok(answer) => Ended { status: Some(answer.status), error: format!("status {}", answer.status) },
        Err(failure) => Ended { status: None, error: failure.to_string() },
    })
}

/// Hears how an attempt ended.
fn attempted(tx: &mut Tx<'_>, saga: &mut Saga, heard: Heard) -> Result<Next> {
    let delivery_id: DeliveryId = saga.state()?;
    let delivery = queries::delivery(tx, delivery_id)?;
    let ended = match heard {
        Heard::Done(value) => {
            serde_json::from_value(value).map_err(|e| Error::internal("how an attempt ended can't be read").caused_by(e))?
        }
        Heard::Refused(why) => Ended { status: None, error: why },
        Heard::Signal { .. } | Heard::Deadline => return Ok(Next::Park("a delivery waits for nothing".to_owned())),
    };
    if delivery.state != "waiting" {
        return Ok(Next::Finish);
    }
    let (attempts, now) = (delivery.attempts + 1, tx.now());
    let endpoint = tx.opt::<Endpoint>(sql::ENDPOINT, (delivery.endpoint_id,))?;
    if ended.error.is_empty() {
        if endpoint.is_some_and(|endpoint| endpoint.failing_since.is_some()) {
            tx.exec(sql::SET_FAILING, (delivery.endpoint_id, None::<kernel::Timestamp>))?;
        }
        end(tx, &delivery, "delivered", attempts, ended.status, None)?;
        return Ok(Next::Finish);
    }
    let error: String = ended.error.chars().take(200).collect();
    let since = endpoint.as_ref().and_then(|endpoint| endpoint.failing_since);
    let gone = ended.status == Some(410);
    if let Some(endpoint) = endpoint.filter(Endpoint::is_enabled) {
        let long = since.is_some_and(|since| now.ms_since(since) >= DISABLE_AFTER_MS);
        if gone || long {
            commands::give_up(tx, endpoint)?;
        } else if since.is_none() {
            tx.exec(sql::SET_FAILING, (delivery.endpoint_id, now))?;
        }
    }
    match wait_ms(attempts, delivery_id.as_i64() as u64).filter(|_| !gone) {
        Some(wait) => {
            let next = now.plus_ms(wait);
            tx.exec(sql::ATTEMPTED, (delivery_id, "waiting", attempts, ended.status.map(i64::from), error, now, next))?;
            Ok(Next::StepAt("attempt", next))
        }
        None => {
            end(tx, &delivery, "failed", attempts, ended.status, Some(&error))?;
            Ok(Next::Finish)
        }
    }
}
