//! The log's events become deliveries, in the transaction that moves the consumer's position: none is lost and none is made twice.

use crate::model::*;
use crate::{commands, queries, sql};
use kernel::Result;
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use store::{Event, EventId, Tx};

/// Feeds every tenant's endpoints.
pub(crate) const DELIVERIES: log::Consumer = log::Consumer::sql("webhooks.deliveries", &[log::ALL_EVENTS], feed).patient();

/// What is forgotten with each run of events: more than any run adds.
const FORGET: i64 = 10_000;

/// The body of a message.
#[derive(Serialize)]
struct Message<'a> {
    r#type: &'a str,
    timestamp: kernel::Timestamp,
    id: EventId,
    version: u16,
    tenant_id: Option<kernel::TenantId>,
    subject: &'a str,
    data: &'a RawValue,
}

fn feed(tx: &mut Tx<'_>, events: &[Event]) -> Result<()> {
    // The platform's own events are nobody's.
    if events.first().is_none_or(|event| event.tenant_id.is_none()) {
        return Ok(());
    }
    let endpoints: Vec<Endpoint> = queries::endpoints(tx)?.into_iter().filter(Endpoint::is_enabled).collect();
    if endpoints.is_empty() {
        return Ok(());
    }
    let mut added: BTreeMap<EndpointId, i64> = BTreeMap::new();
    for event in events.iter().filter(|event| !event.kind.starts_with("webhook.")) {
        // What happened before an endpoint was set up is not for it.
        let wanting: Vec<&Endpoint> =
            endpoints.iter().filter(|e| wants(&e.events, &event.kind) && event.occurred_at >= e.created_at).collect();
        if wanting.is_empty() {
            continue;
        }
        let data: Box<RawValue> = serde_json::from_str(&event.payload)
            .map_err(|e| kernel::Error::internal(format!("event {} has a payload that is no JSON", event.id)).caused_by(e))?;
        let message = Message {
            r#type: &event.kind,
            timestamp: event.occurred_at,
            id: event.id,
            version: event.version,
            tenant_id: event.tenant_id,
            subject: &event.subject,
            data: &data,
        };
        let body = serde_json::to_string(&message).map_err(|e| kernel::Error::internal("a message does not serialise").caused_by(e))?;
        tx.exec(sql::INSERT_MESSAGE, (event.id, &event.kind, body))?;
        for endpoint in wanting {
            let waiting = added.entry(endpoint.endpoint_id).or_default();
            if commands::deliver(tx, endpoint, event.id, &event.kind, *waiting)?.state == "waiting" {
                *waiting += 1;
            }
        }
    }
    for (endpoint_id, waiting) in added {
        tx.exec(sql::ADD_WAITING, (endpoint_id, waiting))?;
    }
    let now_ms = tx.now().unix_ms();
    tx.exec(sql::FORGET_DELIVERIES, (DeliveryId::first_at(now_ms - KEEP_MS), FORGET))?;
    tx.exec(sql::FORGET_MESSAGES, (EventId::first_at(now_ms - KEEP_MESSAGES_MS), FORGET))
}
