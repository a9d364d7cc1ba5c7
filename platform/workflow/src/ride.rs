//! A saga takes its first step in the transaction that starts or wakes it, so that it costs neither a search for what is due nor a
//! transaction of its own; its call goes out as soon as that is committed.

use crate::engine::{self, Input, Looked, Told, Work};
use crate::runner::Shared;
use crate::saga::SagaId;
use crate::turns::Due;
use kernel::Result;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use store::{Left, Rider, Tx};

/// The most steps that a saga takes in another one's transaction.
const STEPS: u32 = 4;

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

/// The right to have one saga under way that nobody has searched for. Given back by dropping it.
pub(crate) struct Seat(Arc<Shared>);

impl Seat {
    /// None when as many as may be are under way: what has no seat is found due, and waits for its turn.
    fn take(shared: &Arc<Shared>) -> Option<Seat> {
        let most = shared.config.concurrency;
        let more = |taken: usize| (taken < most).then_some(taken + 1);
        shared.riding.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).ok()?;
        Some(Seat(shared.clone()))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.finished.fetch_add(1, Ordering::SeqCst);
        self.0.riding.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What the store knows the runner by.
pub(crate) struct Rides(pub Arc<Shared>);

impl Rider for Rides {
    fn ride(&self, tx: &mut Tx<'_>, left: Vec<Left>) -> Result<Vec<Left>> {
        let shared = &self.0;
        let tenant = tx.scope().tenant().map_or(0, |tenant| tenant.as_i64());
        let mut ridden: Vec<Left> = Vec::new();
        for begun in left.into_iter().filter_map(|left| left.downcast::<Begun>().ok()) {
            let seat = if shared.stopping() { None } else { Seat::take(shared) };
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
