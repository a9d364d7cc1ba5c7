//! Endpoints and deliveries: types, which events an endpoint wants, and when an attempt is repeated. Pure data and functions.

use kernel::{Entity, Error, Id, Result, Timestamp};
use serde::{Deserialize, Serialize};
use store::{EventId, FromRow, Row};
use utoipa::ToSchema;

/// Marks endpoints' ids (`whe_...`).
pub enum EndpointEntity {}

impl Entity for EndpointEntity {
    const PREFIX: &'static str = "whe";
}

/// The id of an endpoint.
pub type EndpointId = Id<EndpointEntity>;

/// Marks deliveries' ids (`whd_...`).
pub enum DeliveryEntity {}

impl Entity for DeliveryEntity {
    const PREFIX: &'static str = "whd";
}

/// The id of a delivery: one event for one endpoint.
pub type DeliveryId = Id<DeliveryEntity>;

/// Endpoints of one tenant.
pub(crate) const MAX_ENDPOINTS: usize = 20;
/// Names of events that one endpoint asks for.
pub(crate) const MAX_EVENTS: usize = 32;
/// Deliveries that wait for one endpoint; beyond that they end at once, as failed, and can be sent again.
pub(crate) const MAX_WAITING: i64 = 10_000;
/// An endpoint that has failed for so long is switched off, in milliseconds: five days.
pub(crate) const DISABLE_AFTER_MS: i64 = 5 * 86_400_000;
/// How long deliveries are kept, in milliseconds: thirty days. Messages a week longer, since what is sent again may wait for days.
pub(crate) const KEEP_MS: i64 = 30 * 86_400_000;
pub(crate) const KEEP_MESSAGES_MS: i64 = 37 * 86_400_000;
/// How long an earlier secret goes on to sign unless said, and at most, in milliseconds: a day, and a week.
pub(crate) const OVERLAP_MS: i64 = 86_400_000;
pub(crate) const MAX_OVERLAP_MS: i64 = 7 * 86_400_000;
/// Secrets in force at once.
pub(crate) const MAX_SECRETS: usize = 3;

/// The waits before the second attempt, the third and so on, in milliseconds, as the specification suggests; about three days in all.
const WAITS_MS: &[i64] =
    &[5_000, 5 * 60_000, 30 * 60_000, 2 * 3_600_000, 5 * 3_600_000, 10 * 3_600_000, 14 * 3_600_000, 20 * 3_600_000, 24 * 3_600_000];

/// How long to wait after the `attempts`-th attempt has failed, spread by up to a fifth so that what failed together does not come back
/// together; none when it was the last. `seed` spreads.
pub(crate) fn wait_ms(attempts: i64, seed: u64) -> Option<i64> {
    let wait = *WAITS_MS.get(usize::try_from(attempts - 1).ok()?)?;
    let mixed = (seed ^ (attempts as u64)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    Some(wait + (wait / 5) * (mixed % 1_000) as i64 / 1_000)
}

/// Whether an endpoint that asks for these events wants one of this kind: its name, `*`, or a prefix such as `payment.*`.
pub(crate) fn wants(events: &[String], kind: &str) -> bool {
    events.iter().any(|wanted| match wanted.strip_suffix('*') {
        Some(prefix) => kind.starts_with(prefix),
        None => wanted == kind,
    })
}

/// Errors: `request.invalid` naming the one that is no name of an event.
pub(crate) fn check_events(events: &[String]) -> Result<()> {
    if events.is_empty() || events.len() > MAX_EVENTS {
        return Err(Error::field("events", "out_of_range", format!("1 to {MAX_EVENTS} names of events")));
    }
    for (i, wanted) in events.iter().enumerate() {
        let name = wanted.strip_suffix(".*").unwrap_or(wanted);
        let is_name = name.len() <= 64
            && name
                .split('.')
                .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
        if wanted != "*" && !is_name {
            return Err(Error::field(format!("events[{i}]"), "invalid", "an event's name, a beginning such as payment.*, or *"));
        }
    }
    Ok(())
}

/// A secret and until when it signs.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Signing {
    /// `whsec_...`.
    pub secret: String,
    /// None for the newest.
    pub until: Option<Timestamp>,
}

/// An endpoint as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub endpoint_id: EndpointId,
    pub version: i64,
    pub url: String,
    pub description: String,
    pub events: Vec<String>,
    pub sealed: Vec<u8>,
    pub state: String,
    pub waiting: i64,
    pub failing_since: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Endpoint {
    pub(crate) fn is_enabled(&self) -> bool {
        self.state == "enabled"
    }
}

impl FromRow for Endpoint {
    fn from_row(row: &dyn Row) -> Result<Self> {
        let events: String = row.get(4)?;
        Ok(Endpoint {
            endpoint_id: row.get(0)?,
            version: row.get(1)?,
            url: row.get(2)?,
            description: row.get(3)?,
            events: serde_json::from_str(&events).map_err(|e| Error::internal("an endpoint's events can't be read").caused_by(e))?,
            sealed: row.get(5)?,
            state: row.get(6)?,
            waiting: row.get(7)?,
            failing_since: row.get(8)?,
            created_at: row.get(9)?,
            updated_at: row.get(10)?,
        })
    }
}

/// An endpoint as it is shown: without its secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = WebhookEndpoint)]
pub struct EndpointView {
    /// Its id.
    pub endpoint_id: EndpointId,
    /// Rises with each change.
    pub version: i64,
    /// Where events are sent.
    pub url: String,
    /// For people.
    pub description: String,
    /// Names of events, beginnings such as `payment.*`, or `*`.
    pub events: Vec<String>,
    /// `enabled`; `disabled` by hand; or `failing`, switched off because it failed for five days, or answered that it is gone (410).
    pub state: String,
    /// Deliveries that wait for it.
    pub waiting: i64,
    /// Since when every attempt has failed.
    pub failing_since: Option<Timestamp>,
    /// When it was set up.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl From<Endpoint> for EndpointView {
    fn from(endpoint: Endpoint) -> Self {
        let Endpoint { endpoint_id, version, url, description, events, state, waiting, failing_since, created_at, updated_at, .. } =
            endpoint;
        EndpointView { endpoint_id, version, url, description, events, state, waiting, failing_since, created_at, updated_at }
    }
}

/// A delivery as it is stored and shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = WebhookDelivery)]
pub struct Delivery {
    /// Its id.
    pub delivery_id: DeliveryId,
    /// Where to.
    pub endpoint_id: EndpointId,
    /// The event, and the `webhook-id` of each attempt.
    #[schema(value_type = String, example = "evt_0ABCDEFGHIJ")]
    pub event_id: EventId,
    /// The event's type.
    #[serde(rename = "type")]
    pub kind: String,
    /// `waiting`, `delivered`, or `failed` for good.
    pub state: String,
    /// How often it was tried.
    pub attempts: i64,
    /// The last answer's status; none without an answer.
    pub status: Option<i64>,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// Since when.
    pub created_at: Timestamp,
    /// When it was last tried.
    pub attempted_at: Option<Timestamp>,
    /// When it is tried next.
    pub next_at: Option<Timestamp>,
}

impl FromRow for Delivery {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(Delivery {
            delivery_id: row.get(0)?,
            endpoint_id: row.get(1)?,
            event_id: row.get(2)?,
            kind: row.get(3)?,
            state: row.get(4)?,
            attempts: row.get(5)?,
            status: row.get(6)?,
            error: row.get(7)?,
            created_at: row.get(8)?,
            attempted_at: row.get(9)?,
            next_at: row.get(10)?,
        })
    }
}

#[cfg(test)]
mod rules {
    use super::*;

    #[test]
    fn an_endpoint_gets_what_it_asks_for() {
        let wanted = |events: &[&str], kind: &str| wants(&events.iter().map(|e| (*e).to_owned()).collect::<Vec<_>>(), kind);
        assert!(wanted(&["payment.captured"], "payment.captured"));
        assert!(!wanted(&["payment.captured"], "payment.captured_twice"));
        assert!(wanted(&["order.placed", "payment.*"], "payment.refunded"));
        assert!(!wanted(&["payment.*"], "payments.refunded"));
        assert!(wanted(&["*"], "anything.at_all"));
        let check = |events: &[&str]| check_events(&events.iter().map(|e| (*e).to_owned()).collect::<Vec<_>>()).is_ok();
        assert!(check(&["*"]) && check(&["payment.*", "order.placed"]));
        assert!(!check(&[]) && !check(&["pay*"]) && !check(&["Payment.captured"]) && !check(&[""]) && !check(&["a..b"]) && !check(&[".*"]));
    }

    #[test]
    fn waits_grow_spread_and_end() {
        let waits: Vec<i64> = (1..).map_while(|attempts| wait_ms(attempts, 7)).collect();
        assert_eq!(waits.len(), WAITS_MS.len());
        assert!(waits.iter().zip(WAITS_MS).all(|(wait, base)| wait >= base && *wait <= base + base / 5), "{waits:?}");
        assert!(waits.windows(2).all(|pair| pair[0] < pair[1]));
        let spread: std::collections::BTreeSet<_> = (0..100).map(|seed| wait_ms(3, seed)).collect();
        assert!(spread.len() > 50);
        assert_eq!(wait_ms(0, 1), None);
    }
}
