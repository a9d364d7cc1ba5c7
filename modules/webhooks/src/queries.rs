//! Reads. Each is bounded.

use crate::model::*;
use crate::sql;
use kernel::{Error, Result};
use store::{EventId, Read};
use web::{Audit, AuditCheck, AuditOutcome};

/// An endpoint. Errors: `webhooks.endpoint_not_found`.
pub(crate) fn endpoint(read: &mut Read<'_>, endpoint_id: EndpointId) -> Result<Endpoint> {
    let not_found = || Error::not_found("webhooks.endpoint_not_found", "there is no such webhook endpoint");
    read.opt(sql::ENDPOINT, (endpoint_id,))?.ok_or_else(not_found)
}

/// Every endpoint, the oldest first.
pub(crate) fn endpoints(read: &mut Read<'_>) -> Result<Vec<Endpoint>> {
    read.all(sql::ENDPOINTS, ())
}

/// A delivery. Errors: `webhooks.delivery_not_found`.
pub(crate) fn delivery(read: &mut Read<'_>, delivery_id: DeliveryId) -> Result<Delivery> {
    let not_found = || Error::not_found("webhooks.delivery_not_found", "there is no such delivery, or it is too long ago");
    read.opt(sql::DELIVERY, (delivery_id,))?.ok_or_else(not_found)
}

/// Up to `limit` deliveries below `before`, the latest first.
pub(crate) fn deliveries(read: &mut Read<'_>, of: Option<EndpointId>, before: DeliveryId, limit: i64) -> Result<Vec<Delivery>> {
    match of {
        Some(endpoint_id) => read.all(sql::DELIVERIES_OF_ENDPOINT_PAGE, (before, limit, endpoint_id)),
        None => read.all(sql::DELIVERIES_PAGE, (before, limit)),
    }
}

/// What is delivered. Errors: `webhooks.delivery_not_found` when it is forgotten.
pub(crate) fn message(read: &mut Read<'_>, event_id: EventId) -> Result<String> {
    let not_found = || Error::not_found("webhooks.delivery_not_found", "there is no such delivery, or it is too long ago");
    Ok(read.opt::<(String,)>(sql::MESSAGE, (event_id,))?.ok_or_else(not_found)?.0)
}

/// What `brandos audit` checks.
pub(crate) const AUDIT: Audit = Audit { name: "webhooks.waiting_adds_up", check: AuditCheck::Tenant(waiting) };

fn waiting(read: &mut Read<'_>) -> Result<AuditOutcome> {
    Ok(match read.opt::<(EndpointId, i64, i64)>(sql::WRONG_WAITING, ())? {
        None => AuditOutcome { ok: true, detail: "what waits is counted".to_owned() },
        Some((endpoint_id, counted, found)) => {
            AuditOutcome { ok: false, detail: format!("{endpoint_id} counts {counted} deliveries that wait, and {found} do") }
        }
    })
}
