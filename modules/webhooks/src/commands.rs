//! Commands: load, decide, write, emit. Each runs in one transaction and may be run again.

use crate::model::*;
use crate::{queries, sql, workflows};
use kernel::{Error, Result};
use store::{EventId, NewEvent, Tx};
use web::IfMatch;

/// An endpoint to set up; its secrets are sealed already.
#[derive(Clone, Debug)]
pub(crate) struct NewEndpoint {
    pub endpoint_id: EndpointId,
    pub url: String,
    pub description: String,
    pub events: Vec<String>,
    pub sealed: Vec<u8>,
}

fn text(events: &[String]) -> Result<String> {
    serde_json::to_string(events).map_err(|e| Error::internal("names of events don't serialise").caused_by(e))
}

/// Sets an endpoint up. Errors: `webhooks.too_many_endpoints`.
pub(crate) fn create(tx: &mut Tx<'_>, new: &NewEndpoint) -> Result<EndpointView> {
    if queries::endpoints(tx)?.len() >= MAX_ENDPOINTS {
        let detail = format!("a tenant has at most {MAX_ENDPOINTS} webhook endpoints");
        return Err(Error::failed_precondition("webhooks.too_many_endpoints", detail));
    }
    let now = tx.now();
    tx.exec(sql::INSERT_ENDPOINT, (new.endpoint_id, &new.url, &new.description, text(&new.events)?, &new.sealed, now))?;
    let endpoint = Endpoint {
        endpoint_id: new.endpoint_id,
        version: 1,
        url: new.url.clone(),
        description: new.description.clone(),
        events: new.events.clone(),
        sealed: Vec::new(),
        state: "enabled".to_owned(),
        waiting: 0,
        failing_since: None,
        created_at: now,
        updated_at: now,
    };
    let view = EndpointView::from(endpoint);
    tx.emit(NewEvent::new("webhook.endpoint_created", 1, view.endpoint_id, &view));
    Ok(view)
}

/// Writes an endpoint under its next version, and tells of it.
fn save(tx: &mut Tx<'_>, mut endpoint: Endpoint, event: &'static str) -> Result<EndpointView> {
    let read = endpoint.version;
    endpoint.version += 1;
    endpoint.updated_at = tx.now();
    let e = &endpoint;
    let args =
        (e.endpoint_id, read, e.version, &e.url, &e.description, text(&e.events)?, &e.sealed, &e.state, e.failing_since, e.updated_at);
    tx.must(sql::UPDATE_ENDPOINT, args, || Error::internal("an endpoint was changed by two commands at once"))?;
    let view = EndpointView::from(endpoint);
    tx.emit(NewEvent::new(event, 1, view.endpoint_id, &view));
    Ok(view)
}

/// A change of an endpoint. What is none stays.
#[derive(Clone, Debug)]
pub(crate) struct ChangeEndpoint {
    pub endpoint_id: EndpointId,
    pub if_match: IfMatch,
    pub url: Option<String>,
    pub description: Option<String>,
    pub events: Option<Vec<String>>,
    pub enabled: Option<bool>,
    pub sealed: Option<Vec<u8>>,
}

/// Changes an endpoint. Errors: `webhooks.endpoint_not_found`, `request.precondition_failed`.
pub(crate) fn change(tx: &mut Tx<'_>, change: &ChangeEndpoint) -> Result<EndpointView> {
    let mut endpoint = queries::endpoint(tx, change.endpoint_id)?;
    change.if_match.check(endpoint.version)?;
    endpoint.url = change.url.clone().unwrap_or(endpoint.url);
    endpoint.description = change.description.clone().unwrap_or(endpoint.description);
    endpoint.events = change.events.clone().unwrap_or(endpoint.events);
    endpoint.sealed = change.sealed.clone().unwrap_or(endpoint.sealed);
    if let Some(enabled) = change.enabled {
        endpoint.state = if enabled { "enabled" } else { "disabled" }.to_owned();
        endpoint.failing_since = None;
    }
    save(tx, endpoint, "webhook.endpoint_changed")
}

/// Switches an endpoint off that has failed for long, or says that it is gone.
pub(crate) fn give_up(tx: &mut Tx<'_>, mut endpoint: Endpoint) -> Result<()> {
    tracing::warn!(endpoint = %endpoint.endpoint_id, "a webhook endpoint is switched off");
    endpoint.state = "failing".to_owned();
    save(tx, endpoint, "webhook.endpoint_disabled").map(|_| ())
}

/// Removes an endpoint. What waits for it ends as failed. Errors: `webhooks.endpoint_not_found`.
pub(crate) fn remove(tx: &mut Tx<'_>, endpoint_id: &EndpointId) -> Result<EndpointView> {
    let view = EndpointView::from(queries::endpoint(tx, *endpoint_id)?);
    tx.exec(sql::DELETE_ENDPOINT, (*endpoint_id,))?;
    tx.emit(NewEvent::new("webhook.endpoint_removed", 1, view.endpoint_id, &view));
    Ok(view)
}

/// Writes a delivery down and begins it; one too many for its endpoint ends at once. Says whether it waits.
pub(crate) fn deliver(tx: &mut Tx<'_>, endpoint: &Endpoint, event_id: EventId, kind: &str, waiting: i64) -> Result<Delivery> {
    let (delivery_id, now): (DeliveryId, _) = (tx.new_id(), tx.now());
    let full = endpoint.waiting + waiting >= MAX_WAITING;
    let error = full.then(|| format!("{MAX_WAITING} others wait for this endpoint"));
    let (state, next_at) = if full { ("failed", None) } else { ("waiting", Some(now)) };
    tx.exec(sql::INSERT_DELIVERY, (delivery_id, endpoint.endpoint_id, event_id, kind, state, &error, now, next_at))?;
    if !full {
        workflows::begin(tx, delivery_id)?;
    }
    Ok(Delivery {
        delivery_id,
        endpoint_id: endpoint.endpoint_id,
        event_id,
        kind: kind.to_owned(),
        state: state.to_owned(),
        attempts: 0,
        status: None,
        error,
        created_at: now,
        attempted_at: None,
        next_at,
    })
}

fn enabled(tx: &mut Tx<'_>, endpoint_id: EndpointId) -> Result<Endpoint> {
    let endpoint = queries::endpoint(tx, endpoint_id)?;
    if !endpoint.is_enabled() {
        return Err(Error::failed_precondition("webhooks.endpoint_off", "this endpoint is switched off; enable it first"));
    }
    Ok(endpoint)
}

fn deliver_one(tx: &mut Tx<'_>, endpoint: &Endpoint, event_id: EventId, kind: &str) -> Result<Delivery> {
    let made = deliver(tx, endpoint, event_id, kind, 0)?;
    if made.state == "waiting" {
        tx.exec(sql::ADD_WAITING, (endpoint.endpoint_id, 1_i64))?;
    }
    Ok(made)
}

/// Delivers an event again. Errors: `webhooks.delivery_not_found`, `webhooks.endpoint_not_found`, `webhooks.endpoint_off`,
/// `webhooks.still_waiting` when it is under way already.
pub(crate) fn resend(tx: &mut Tx<'_>, delivery_id: &DeliveryId) -> Result<Delivery> {
    let delivery = queries::delivery(tx, *delivery_id)?;
    let endpoint = enabled(tx, delivery.endpoint_id)?;
    if delivery.state == "waiting" {
        return Err(Error::failed_precondition("webhooks.still_waiting", "this delivery is still under way"));
    }
    queries::message(tx, delivery.event_id)?;
    deliver_one(tx, &endpoint, delivery.event_id, &delivery.kind)
}

/// Sends an endpoint a message that means nothing. Errors: `webhooks.endpoint_not_found`, `webhooks.endpoint_off`.
pub(crate) fn ping(tx: &mut Tx<'_>, endpoint_id: &EndpointId) -> Result<Delivery> {
    let endpoint = enabled(tx, *endpoint_id)?;
    let (event_id, now): (EventId, _) = (tx.new_id(), tx.now());
    let body = serde_json::json!({ "type": "webhook.ping", "timestamp": now, "id": event_id, "data": { "endpoint_id": endpoint_id } });
    tx.exec(sql::INSERT_MESSAGE, (event_id, "webhook.ping", body.to_string()))?;
    deliver_one(tx, &endpoint, event_id, "webhook.ping")
}
