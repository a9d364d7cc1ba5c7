//! Events: rows of the same transaction as the state that they tell of, numbered by their lane in the order in which they commit.

use kernel::{TenantId, Timestamp};
use serde::{Deserialize, Serialize};

/// Marks events' ids (`evt_...`).
pub enum EventEntity {}

impl kernel::Entity for EventEntity {
    const PREFIX: &'static str = "evt";
}

/// The id of an event.
pub type EventId = kernel::Id<EventEntity>;

/// An event as a command emits it.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// Name in the past tense, such as `order.placed`; at most 64 bytes.
    pub kind: &'static str,
    /// Version of the payload's shape, from 1. Old versions stay readable for ever.
    pub version: u16,
    /// What it is about, such as `ord_...`: events of one subject are handled in order. At most 128 bytes.
    pub subject: String,
    /// JSON, at most 256 KiB.
    pub payload: String,
}

impl NewEvent {
    /// Serialises `payload`. A payload that does not serialise is a bug and ends as JSON null with an error in the log.
    pub fn new(kind: &'static str, version: u16, subject: impl ToString, payload: &impl Serialize) -> NewEvent {
        let payload = serde_json::to_string(payload).unwrap_or_else(|error| {
            tracing::error!(kind, %error, "an event's payload does not serialise");
            "null".to_owned()
        });
        NewEvent { kind, version, subject: subject.to_string(), payload }
    }
}

/// Where an event stands: lanes number their own events from 1, in commit order and without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The shard's number.
    pub shard: u16,
    /// The lane within the shard; [`HISTORY_LANE`] holds events that a tenant brought along from another shard.
    pub lane: i16,
    /// The number within the lane.
    pub sequence: i64,
}

/// The pseudo-lane of events that were handled on another shard before their tenant moved here; only a replay reads it.
pub const HISTORY_LANE: i16 = -1;

/// An event as it was committed.
#[derive(Clone, Debug)]
pub struct Event {
    /// Unique, rising with time.
    pub id: EventId,
    /// Where it stands.
    pub position: Position,
    /// Whose it is; none for the platform's own.
    pub tenant_id: Option<TenantId>,
    /// See [`NewEvent::kind`].
    pub kind: String,
    /// See [`NewEvent::version`].
    pub version: u16,
    /// See [`NewEvent::subject`].
    pub subject: String,
    /// When it was committed, by the clock of its node.
    pub occurred_at: Timestamp,
    /// The request that caused it.
    pub correlation_id: Option<String>,
    /// JSON.
    pub payload: String,
}
