//! A saga takes its first step in the transaction that starts or wakes it, so that it costs neither a search for what is due nor a
//! transaction of its own; its call goes out as soon as that is committed.

use crate::engine::{self, Input, Looked, Told, Work};
use crate::runner::Shared;
use crate::saga::SagaId;
use crate::turns::Due;
use kernel::Result;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use store::{Left, Rider, Tx};

/// The most steps that a saga takes in another one's transaction.
const STEPS: u32 = 4;
/// The most sagas that one command takes along: the lane is everybody's.
const SAGAS: usize = 4;

/// A saga that is due, and the token under which it was seen.
pub(crate) struct Begun {
    pub id: SagaId,
    pub token: i64,
}

/// A saga that has taken its first step, and what follows once that is committed.
pub(crate) struct Ridden {
    pub due: Due,
    pub work: Work,
    pub told: Vec<Told>,
    pub seat: Seat,
}

/// Who has how many sagas under way that nobody has searched for.
#[derive(Default)]
pub(crate) struct Seats(Mutex<HashMap<i64, usize>>);

impl Seats {
    fn taken(&self) -> MutexGuard<'_, HashMap<i64, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody has one.
    pub(crate) fn is_free(&self) -> bool {
        self.taken().is_empty()
    }
}

/// The right to have one such saga under way. Given back by dropping it.
pub(crate) struct Seat {
    shared: Arc<Shared>,
    tenant: i64,
}

impl Seat {
    /// None when as many as may be are under way, or half as many of this tenant: what has no seat is found due, and waits for its turn.
    fn take(shared: &Arc<Shared>, tenant: i64) -> Option<Seat> {
        let most = shared.config.concurrency;
        let mut taken = shared.seats.taken();
        let own = taken.get(&tenant).copied().unwrap_or(0);
        if taken.values().sum::<usize>() >= most || own >= (most / 2).max(1) {
            return None;
        }
        taken.insert(tenant, own + 1);
        Some(Seat { shared: shared.clone(), tenant })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // Before the seat is free: whoever sees that nothing is under way sees that something has come to its end.
        self.shared.finished.fetch_add(1, Ordering::SeqCst);
        let mut taken = self.shared.seats.taken();
        if let Some(own) = taken.get_mut(&self.tenant) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.tenant);
            }
        }
    }
}

/// What the store knows the runner by.
pub(crate) struct Rides(pub Arc<Shared>);

impl Rider for Rides {
    fn ride(&self, tx: &mut Tx<'_>, left: Vec<Left>) -> Result<Vec<Left>> {
        let shared = &self.0;
        let tenant = tx.scope().tenant().map_or(0, |tenant| tenant.as_i64());
        let mut ridden: Vec<Left> = Vec::new();
        for (nth, begun) in left.into_iter().filter_map(|left| left.downcast::<Begun>().ok()).enumerate() {
            let seat = if nth >= SAGAS || shared.stopping() { None } else { Seat::take(shared, tenant) };
            let Some(seat) = seat else {
                tx.wake();
                continue;
            };
            let look = shared.look_at(begun.id, begun.token, STEPS, Input::Claim);
            let Looked { work, told, kind } = engine::look(tx, &look)?;
            if !matches!(work, Work::Rest) || !told.is_empty() {
                let due = Due { tenant, id: begun.id, token: begun.token, kind };
                ridden.push(Box::new(Ridden { due, work, told, seat }));
            }
        }
        Ok(ridden)
    }

    fn committed(&self, shard: u16, done: Vec<Left>) {
        let Some(follow) = self.0.follow.get(usize::from(shard)) else { return };
        for ridden in done.into_iter().filter_map(|left| left.downcast::<Ridden>().ok()) {
            // One that comes too late, while the runner ends, is found when its lease is over.
            let _ = follow.send(*ridden);
        }
    }
}
