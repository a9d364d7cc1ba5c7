//! Whoever wants to know at once what was committed: caches that must not serve what a command has just changed.

use crate::lane::NumberedEvent;
use kernel::TenantId;
use std::sync::{Arc, OnceLock};

/// An event that was committed, without its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Whose it is; none for the platform's own.
    pub tenant: Option<TenantId>,
    /// See [`crate::NewEvent::kind`].
    pub kind: String,
    /// See [`crate::NewEvent::subject`].
    pub subject: String,
}

/// Looks at what this process commits.
pub struct Observer {
    /// The kinds of events that it wants to see.
    pub kinds: Vec<&'static str>,
    /// Called on a lane's thread, before anybody is answered: it takes microseconds, and does not wait. It is also called when a commit's outcome
    /// could not be learnt.
    pub observe: Box<dyn Fn(&[Change]) + Send + Sync>,
}

/// Set once, some time after the lanes began.
pub(crate) type ObserverCell = Arc<OnceLock<Observer>>;

impl Observer {
    /// What it wants of these.
    pub(crate) fn pick(&self, events: &[NumberedEvent]) -> Vec<Change> {
        let wanted = events.iter().filter(|event| self.kinds.contains(&event.emitted.event.kind));
        wanted
            .map(|event| Change {
                tenant: event.emitted.tenant,
                kind: event.emitted.event.kind.to_owned(),
                subject: event.emitted.event.subject.clone(),
            })
            .collect()
    }
}
