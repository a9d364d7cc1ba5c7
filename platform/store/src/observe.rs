//! Whoever wants to know at once what was committed: caches that must not serve what a command has just changed.

use crate::event::Position;
use crate::lane::NumberedEvent;
use kernel::TenantId;
use std::sync::{Arc, PoisonError, RwLock};

/// An event that was committed, without its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where it stands.
    pub position: Position,
    /// Whose it is; none for the platform's own.
    pub tenant: Option<TenantId>,
    /// See [`crate::NewEvent::kind`].
    pub kind: String,
    /// See [`crate::NewEvent::subject`].
    pub subject: String,
}

/// Looks at changes.
pub type Observe = Box<dyn Fn(&[Change]) + Send + Sync>;

/// Looks at what this process commits.
pub struct Observer {
    /// The kinds of events that it wants to see.
    pub kinds: Vec<&'static str>,
    /// Called on a lane's thread, before anybody is answered: it takes microseconds, and does not wait. It is also called when a commit's
    /// outcome could not be learnt.
    pub observe: Observe,
}

/// Those of a store.
#[derive(Clone, Default)]
pub(crate) struct Observers(Arc<RwLock<Vec<Arc<Observer>>>>);

impl Observers {
    pub(crate) fn add(&self, observer: Observer) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(Arc::new(observer));
    }

    /// What each of them is to be told of these, if they are committed.
    pub(crate) fn pick(&self, shard: u16, lane: u16, events: &[NumberedEvent]) -> Vec<(Arc<Observer>, Vec<Change>)> {
        if events.is_empty() {
            return Vec::new();
        }
        let observers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let of = |observer: &Arc<Observer>| {
            let wanted = events.iter().filter(|event| observer.kinds.contains(&event.emitted.event.kind));
            let change = |event: &NumberedEvent| Change {
                position: Position { shard, lane: lane as i16, sequence: event.sequence },
                tenant: event.emitted.tenant,
                kind: event.emitted.event.kind.to_owned(),
                subject: event.emitted.event.subject.clone(),
            };
            (observer.clone(), wanted.map(change).collect())
        };
        observers.iter().map(of).filter(|(_, changes): &(_, Vec<Change>)| !changes.is_empty()).collect()
    }
}
