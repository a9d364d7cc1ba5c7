//! Requests that wait for something to happen to a thing with an id, in this process; what happens elsewhere they find by looking.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Who waits for what; cheap to clone. As many as there are requests.
#[derive(Clone, Default)]
pub struct Waiters(Arc<Mutex<HashMap<i64, Waiting>>>);

/// Those who wait for one thing.
#[derive(Default)]
struct Waiting {
    count: usize,
    told: Arc<Notify>,
}

/// One who waits, for as long as it lives.
pub struct Waiter {
    waiters: Waiters,
    id: i64,
    told: Arc<Notify>,
}

impl Waiters {
    fn all(&self) -> MutexGuard<'_, HashMap<i64, Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to wait.
    pub fn wait_for(&self, id: i64) -> Waiter {
        let mut all = self.all();
        let waiting = all.entry(id).or_default();
        waiting.count += 1;
        Waiter { waiters: self.clone(), id, told: waiting.told.clone() }
    }

    /// Whoever waits for it looks now.
    pub fn tell(&self, id: i64) {
        if let Some(waiting) = self.all().get(&id) {
            waiting.told.notify_waiters();
        }
    }
}

impl Waiter {
    /// What is told from now on: made before the look at the thing, so that nothing happens unheard between the look and the wait.
    pub fn told(&self) -> std::pin::Pin<Box<tokio::sync::futures::Notified<'_>>> {
        let mut told = Box::pin(self.told.notified());
        told.as_mut().enable();
        told
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut all = self.waiters.all();
        if let Some(waiting) = all.get_mut(&self.id) {
            waiting.count -= 1;
            if waiting.count == 0 {
                all.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_told_between_the_look_and_the_wait_is_heard() {
        let waiters = Waiters::default();
        let (one, other) = (waiters.wait_for(1), waiters.wait_for(2));
        let told = one.told();
        waiters.tell(1);
        told.await;
        assert!(futures_util::FutureExt::now_or_never(other.told()).is_none());
        drop((one, other));
        assert!(waiters.all().is_empty(), "nobody who is gone is remembered");
    }
}
