//! A saga takes its first step in the transaction that starts or wakes it, so that it costs neither a search for what is due nor a
//! transaction of its own; its call goes out as soon as that is committed.

use crate::engine::{self, Input, Looked, Told, Work};
use crate::runner::Shared;
use crate::saga::{Saga, SagaId};
use crate::turns::Due;
use kernel::Result;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use store::{Left, Rider, Tx};

/// The most steps that a saga takes in another one's transaction.
const STEPS: u32 = 4;
/// The most sagas of which one command takes steps along: the lane is everybody's.
const SAGAS: usize = 4;

/// A saga that is due, the token under which it was seen, and the request that what it does belongs to.
pub(crate) struct Begun {
    pub id: SagaId,
    pub token: i64,
    pub correlation: Option<Arc<str>>,
}

/// A saga whose first call is prepared, and which is not written down yet: with a seat it is so as one that is under way.
pub(crate) struct Calling(pub Box<Saga>);

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

impl Rides {
    fn seat(&self, tenant: i64) -> Option<Seat> {
        if self.0.stopping() { None } else { Seat::take(&self.0, tenant) }
    }

    /// Takes the steps of a saga that is due. None when that comes later.
    fn step(&self, tx: &mut Tx<'_>, begun: &Begun, seat: Option<Seat>) -> Result<Option<Ridden>> {
        let Some(seat) = seat else {
            tx.wake();
            return Ok(None);
        };
        tx.correlate(begun.correlation.clone());
        let look = self.0.look_at(begun.id, begun.token, STEPS, Input::Claim);
        let Looked { work, told, kind } = engine::look(tx, &look)?;
        let due = Due { tenant: seat.tenant, id: begun.id, token: begun.token, kind };
        Ok((!matches!(work, Work::Rest) || !told.is_empty()).then_some(Ridden { due, work, told, seat }))
    }

    /// Writes down a saga that begins with a call. None when that is made later.
    fn call(&self, tx: &mut Tx<'_>, saga: &mut Saga, seat: Option<Seat>) -> Result<Option<Ridden>> {
        let shared = &self.0;
        if let Some(seat) = seat
            && let Some((called, kind)) = engine::begin_calling(tx, saga, &shared.workflows, shared.owner, shared.config.lease_ms)?
        {
            let due = Due { tenant: seat.tenant, id: saga.id, token: saga.token, kind };
            return Ok(Some(Ridden { due, work: Work::Call(saga.token, Box::new(called)), told: Vec::new(), seat }));
        }
        tx.wake();
        engine::insert(tx, saga).map(|()| None)
    }
}

impl Rider for Rides {
    fn ride(&self, tx: &mut Tx<'_>, left: Vec<Left>) -> Result<Vec<Left>> {
        let tenant = tx.scope().tenant().map_or(0, |tenant| tenant.as_i64());
        let (mut ridden, mut looked): (Vec<Left>, usize) = (Vec::new(), 0);
        for left in left {
            let on_the_way = match left.downcast::<Calling>() {
                Ok(mut calling) => self.call(tx, &mut calling.0, self.seat(tenant))?,
                Err(left) => match left.downcast::<Begun>() {
                    Ok(begun) => {
                        looked += 1;
                        self.step(tx, &begun, if looked > SAGAS { None } else { self.seat(tenant) })?
                    }
                    Err(_) => None,
                },
            };
            ridden.extend(on_the_way.map(|on_the_way| Box::new(on_the_way) as Left));
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
