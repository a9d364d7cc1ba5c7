//! What a consumer is: plain data, so that tests and tools can walk it.

use futures_util::future::BoxFuture;
use kernel::{Error, Result};
use store::{Event, Tx};

/// The name in [`Consumer::events`] that stands for every event.
pub const ALL_EVENTS: &str = "*";

/// Runs in the transaction that also moves the position. Gets 1 to 256 events of one tenant, in order, in that tenant's scope (the
/// platform's own events come on the platform's scope). May be run more than once before it commits once.
pub type SqlEffect = fn(&mut Tx<'_>, &[Event]) -> Result<()>;

/// Delivers one event outside the transaction. The event's id is the key under which the receiver can tell a repeated delivery.
pub type OutsideEffect = fn(Event) -> BoxFuture<'static, Result<()>>;

/// Clears a consumer's projection for every tenant of a shard, on the platform's scope.
pub type Reset = fn(&mut Tx<'_>) -> Result<()>;

/// A named durable consumer. A name that the store has not seen before starts with the first event that is kept.
#[derive(Clone, Copy)]
pub struct Consumer {
    /// Unique and stable, such as `orders.daily_sales`; at most 64 bytes. Another name is another consumer, which starts anew.
    pub name: &'static str,
    /// The kinds of events that it wants, or [`ALL_EVENTS`].
    pub events: &'static [&'static str],
    /// What it does with them.
    pub effect: Effect,
    /// Clears what it has built, so that a replay from zero builds the same again. A consumer whose effect may simply be repeated
    /// (an upsert, an outside effect) has none.
    pub reset: Option<Reset>,
    /// Whether nobody waits for what it does: then it waits for a moment to share a commit with others.
    pub patient: bool,
}

/// What a consumer does with events.
#[derive(Clone, Copy)]
pub enum Effect {
    /// Exactly once.
    Sql(SqlEffect),
    /// At least once, with a timeout, in order for each (tenant, subject).
    Outside(OutsideEffect),
}

impl Consumer {
    /// A consumer whose effect is SQL.
    pub const fn sql(name: &'static str, events: &'static [&'static str], effect: SqlEffect) -> Consumer {
        Consumer { name, events, effect: Effect::Sql(effect), reset: None, patient: false }
    }

    /// A consumer whose effect is outside.
    pub const fn outside(name: &'static str, events: &'static [&'static str], effect: OutsideEffect) -> Consumer {
        Consumer { name, events, effect: Effect::Outside(effect), reset: None, patient: false }
    }

    /// The same with a function that clears its projection.
    #[must_use]
    pub const fn with_reset(mut self, reset: Reset) -> Consumer {
        self.reset = Some(reset);
        self
    }

    /// The same where nobody waits for what it does, such as a projection for reports.
    #[must_use]
    pub const fn patient(mut self) -> Consumer {
        self.patient = true;
        self
    }

    /// Whether it wants events of this kind.
    pub fn wants(&self, kind: &str) -> bool {
        self.events.iter().any(|name| *name == kind || *name == ALL_EVENTS)
    }
}

/// Errors: `internal` for a name that is empty, too long or used twice: those are bugs of the program, found at start.
pub(crate) fn check(consumers: &[Consumer]) -> Result<()> {
    for (index, consumer) in consumers.iter().enumerate() {
        if consumer.name.is_empty() || consumer.name.len() > 64 {
            return Err(Error::internal(format!("a consumer's name has 1 to 64 bytes, unlike {:?}", consumer.name)));
        }
        if consumers[..index].iter().any(|other| other.name == consumer.name) {
            return Err(Error::internal(format!("two consumers are named {}", consumer.name)));
        }
    }
    Ok(())
}
