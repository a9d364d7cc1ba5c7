//! A lane's queue: bounded in commands and bytes, one line for each tenant, lines taken in turn.

use crate::job::Job;
use kernel::{Error, Result};
use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many commands a tenant's line gives at each of its turns: small enough to mix tenants, large enough to keep neighbours together.
const TURN: usize = 8;
/// A tenant whose neighbours have been seen within this time shares its groups with them.
const COMPANY: Duration = Duration::from_secs(1);
/// The most commands of one tenant in a group while it has company: bounds what a flood adds to its neighbours' wait.
const SHARE: usize = 48;

/// Bounds of one lane's queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub commands: usize,
    pub bytes: usize,
    pub tenant_commands: usize,
}

struct Waiting {
    lines: HashMap<i64, VecDeque<Box<dyn Job>>>,
    /// Tenants with a line that is not empty, in the order of their turns.
    turns: VecDeque<i64>,
    commands: usize,
    bytes: usize,
    closed: bool,
    /// The last two tenants that submitted, with the moment at which the tenant changed: tells whether anyone has company.
    latest: i64,
    changed: Option<Instant>,
}

/// See the module.
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    bounds: Bounds,
}

impl Queue {
    pub(crate) fn new(bounds: Bounds) -> Queue {
        let waiting =
            Waiting { lines: HashMap::new(), turns: VecDeque::new(), commands: 0, bytes: 0, closed: false, latest: 0, changed: None };
        Queue { waiting: Mutex::new(waiting), arrived: Condvar::new(), bounds }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a command to its tenant's line, or gives it back with why not.
    pub(crate) fn push(&self, job: Box<dyn Job>) -> Result<(), (Box<dyn Job>, Error)> {
        let tenant = job.line();
        let bytes = job.call().bytes;
        let mut waiting = self.lock();
        if waiting.closed {
            return Err((job, Error::unavailable("store.closed", "the store is shutting down")));
        }
        let own = waiting.lines.get(&tenant).map_or(0, VecDeque::len);
        if waiting.commands >= self.bounds.commands || waiting.bytes + bytes > self.bounds.bytes || own >= self.bounds.tenant_commands {
            let error = Error::overloaded("store.overloaded", "more work is waiting than can be done soon; nothing was done");
            return Err((job, error.retry_after_ms(1_000)));
        }
        waiting.commands += 1;
        waiting.bytes += bytes;
        if waiting.latest != tenant {
            waiting.changed = (waiting.latest != 0).then(Instant::now);
            waiting.latest = tenant;
        }
        let line = waiting.lines.entry(tenant).or_default();
        line.push_back(job);
        if line.len() == 1 {
            waiting.turns.push_back(tenant);
        }
        drop(waiting);
        self.arrived.notify_one();
        Ok(())
    }

    /// Puts commands that were taken back to the front of their lines, in their order (their tenant is held for a moment).
    pub(crate) fn put_back(&self, jobs: Vec<Box<dyn Job>>) {
        let mut waiting = self.lock();
        for job in jobs.into_iter().rev() {
            waiting.commands += 1;
            waiting.bytes += job.call().bytes;
            let tenant = job.line();
            let line = waiting.lines.entry(tenant).or_default();
            line.push_front(job);
            if line.len() == 1 {
                waiting.turns.push_back(tenant);
            }
        }
    }

    /// Takes up to `most` commands, a few from each tenant in turn; neighbours of one tenant stand together. Waits for the first one.
    /// Nothing when the queue is closed and empty.
    pub(crate) fn take(&self, most: usize) -> Option<Vec<Box<dyn Job>>> {
        let mut waiting = self.lock();
        while waiting.turns.is_empty() {
            if waiting.closed {
                return None;
            }
            waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        let company = waiting.turns.len() > 1 || waiting.changed.is_some_and(|at| at.elapsed() < COMPANY);
        let share = if company { SHARE.min(most) } else { most };
        let mut taken: Vec<(usize, Box<dyn Job>)> = Vec::new();
        // Tenants that used up their share in this group, or were served: their places, so that the group can be ordered by tenant.
        let mut places: HashMap<i64, (usize, usize)> = HashMap::new();
        let mut resting = Vec::new();
        while taken.len() < most {
            let Some(tenant) = waiting.turns.pop_front() else { break };
            let next_place = places.len();
            let (place, used) = places.entry(tenant).or_insert((next_place, 0));
            let turn = TURN.min(share - *used).min(most - taken.len());
            let line = waiting.lines.get_mut(&tenant).expect("a tenant that has a turn has a line");
            let mut bytes = 0;
            let mut count = 0;
            while count < turn {
                let Some(job) = line.pop_front() else { break };
                bytes += job.call().bytes;
                count += 1;
                taken.push((*place, job));
            }
            *used += count;
            let spent = *used >= share;
            if line.is_empty() {
                waiting.lines.remove(&tenant);
            } else if spent {
                resting.push(tenant);
            } else {
                waiting.turns.push_back(tenant);
            }
            waiting.commands -= count;
            waiting.bytes -= bytes;
        }
        waiting.turns.extend(resting);
        drop(waiting);
        taken.sort_by_key(|(place, _)| *place);
        Some(taken.into_iter().map(|(_, job)| job).collect())
    }

    /// Refuses what comes from now on; what waits is still taken.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
    }

    /// Commands and bytes that wait.
    pub(crate) fn depth(&self) -> (usize, usize) {
        let waiting = self.lock();
        (waiting.commands, waiting.bytes)
    }
}
