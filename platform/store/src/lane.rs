//! A lane: one thread with one write connection that runs what is queued in groups, one transaction and one commit a group.
//!
//! A group runs without savepoints. Everybody is answered after the commit, refusals too, since a refusal may rest on a neighbour's
//! uncommitted write. When a command fails after it has written, the group is rolled back and run again with a savepoint each.
//! While one group commits, the next one gathers: no timer makes a command that somebody waits for wait for company.

use crate::call::OnceKey;
use crate::event::EventId;
use crate::job::Job;
use crate::metrics::LaneMetrics;
use crate::observe::Observers;
use crate::queue::Queue;
use crate::rider::Riders;
use crate::tx::{Emitted, Group, Memory, Read, Session, Tx};
use kernel::{Clock, Error, ErrorKind, IdGenerator, Result, Timestamp};
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// What a group asks of the database as it begins, in one round trip.
#[derive(Default)]
pub(crate) struct Wanted {
    /// Tenants whose residence is checked.
    pub tenants: Vec<i64>,
    /// Idempotency keys, with their tenants (0 for the platform).
    pub keys: Vec<(i64, [u8; 16])>,
    /// The longest that a statement may take, in milliseconds.
    pub statement_ms: u32,
}

/// A stored answer.
#[derive(Clone)]
pub(crate) struct Stored {
    pub fingerprint: [u8; 16],
    pub answer: Arc<[u8]>,
}

/// What the database knows as a group begins.
#[derive(Default)]
pub(crate) struct Facts {
    /// The sequence and the id of the lane's last event.
    pub last_sequence: i64,
    pub last_event_id: i64,
    /// Whether nobody but this lane has written since its last group.
    pub alone: bool,
    /// Tenants that are leaving or have left: where to, and whether they have arrived.
    pub departures: HashMap<i64, Departure>,
    /// Those of the wanted keys that are already there.
    pub stored: HashMap<(i64, [u8; 16]), Stored>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Departure {
    pub shard: u16,
    pub arrived: bool,
}

/// A numbered event, ready to be inserted.
pub(crate) struct NumberedEvent {
    pub id: i64,
    pub sequence: i64,
    pub emitted: Emitted,
}

/// A key with its answer, ready to be inserted.
pub(crate) struct NewStored {
    pub tenant: i64,
    pub hash: [u8; 16],
    pub stored: Stored,
}

/// What a group leaves behind besides the commands' own writes.
#[derive(Default)]
pub(crate) struct Remains {
    pub events: Vec<NumberedEvent>,
    pub stored: Vec<NewStored>,
    pub last_sequence: i64,
    pub last_event_id: i64,
}

/// How the last failure of an engine is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The statement's own.
    None,
    /// The transaction lost a race (a deadlock, a serialisation failure): run the group again.
    Retry,
    /// The connection is gone.
    Lost,
}

/// How a commit ended.
pub(crate) enum Committed {
    Yes,
    /// Certainly not: run the group again.
    No(Error),
    /// Nobody can tell.
    Unknown(Error),
}

/// What an engine does for a lane besides running statements.
pub(crate) trait LaneEngine: Session {
    /// Opens the group's transaction, alone on this lane among all nodes.
    fn begin(&mut self, wanted: &Wanted, now: Timestamp) -> Result<Facts>;
    fn savepoint(&mut self) -> Result<()>;
    fn release(&mut self) -> Result<()>;
    fn rollback_to(&mut self) -> Result<()>;
    /// Writes the remains and commits. Durable when it says yes.
    fn commit(&mut self, remains: Remains, now: Timestamp) -> Committed;
    fn rollback(&mut self);
    /// What the last error was, and whether the connection is usable.
    fn fault(&mut self) -> Fault;
    /// Makes the connection usable again.
    fn reconnect(&mut self) -> Result<()>;
    /// Called between groups, for work that must not be in one (finishing a checkpoint).
    fn between(&mut self);
    /// The most commands of a group.
    fn group_limit(&self) -> usize;
}

/// Takes back the commands of tenants that live elsewhere, to be sent on.
pub(crate) type Forward = Arc<dyn Fn(Box<dyn Job>, Departure) + Send + Sync>;

pub(crate) struct Lane<E> {
    pub shard: u16,
    pub number: u16,
    pub engine: E,
    pub queue: Arc<Queue>,
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<IdGenerator>,
    pub committed: watch::Sender<i64>,
    pub woken: watch::Sender<()>,
    /// What the commands of earlier groups keep.
    pub memory: Memory,
    pub forward: Forward,
    pub observers: Observers,
    pub riders: Riders,
    pub metrics: LaneMetrics,
}

/// Whether the group runs bare or with a savepoint for each command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Bare,
    Savepoints,
}

/// How a run of a group ended.
enum Ran {
    /// Committed: the outcome of each command, in order.
    Committed(Vec<Result<()>>),
    /// A command failed after it had written: nothing stands, run with savepoints.
    NeedsSavepoints,
    /// Nothing stands, run it again.
    Again(Error),
    /// This command took the transaction down with it (SQLite ends it when a write runs into its deadline): run the others again.
    Culprit(usize, Error),
    /// Whether it stands can't be learnt.
    Unknown(Error),
}

/// The code of a statement that ran into its command's deadline.
pub(crate) const TIMED_OUT: &str = "store.statement_timeout";
/// What an engine says when there is no room left.
const DISK_FULL: &str = "store.disk_full";
/// How often a group is run before its callers are told that the database is away.
const ATTEMPTS: u32 = 6;
/// How long a tenant's commands rest while it moves, before they are looked at again.
const HELD_PAUSE: Duration = Duration::from_millis(5);

impl<E: LaneEngine> Lane<E> {
    /// Runs until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        while let Some(mut jobs) = self.queue.take(self.engine.group_limit()) {
            let (began, taken) = (Instant::now(), jobs.len());
            jobs = self.refuse_expired(jobs, None);
            if !jobs.is_empty() {
                self.group(jobs);
            }
            self.engine.between();
            self.queue.served(taken, began.elapsed());
        }
    }

    /// `unknown`: why nobody can tell whether an earlier attempt stands.
    fn refuse_expired(&mut self, jobs: Vec<Box<dyn Job>>, unknown: Option<&Error>) -> Vec<Box<dyn Job>> {
        let (late, fresh): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| job.expired());
        let lost = self.engine.fault() == Fault::Lost;
        for job in late {
            let error = match unknown {
                Some(unknown) => unknown_outcome(unknown),
                None if lost => away(),
                None => Error::overloaded("store.deadline", "it waited longer than its deadline; nothing was done"),
            };
            job.finish(Err(error.retry_after_ms(1_000)));
        }
        fresh
    }

    fn group(&mut self, mut jobs: Vec<Box<dyn Job>>) {
        let began = Instant::now();
        let mut mode = Mode::Bare;
        let mut last = away();
        // Once it is, nothing but an answer of a later attempt says what became of those that are left.
        let mut unknown: Option<Error> = None;
        for attempt in 0..ATTEMPTS {
            match self.attempt(&mut jobs, mode) {
                Ran::Committed(outcomes) => {
                    self.metrics.group(outcomes.len(), began.elapsed());
                    for (job, outcome) in jobs.into_iter().zip(outcomes) {
                        job.finish(outcome);
                    }
                    return;
                }
                Ran::NeedsSavepoints => {
                    self.metrics.replays.inc();
                    mode = Mode::Savepoints;
                }
                Ran::Again(error) => {
                    tracing::warn!(shard = self.shard, lane = self.number, attempt, ?error, "a group is run again");
                    last = error;
                }
                Ran::Culprit(index, error) => {
                    let error = unknown.as_ref().map_or(error, unknown_outcome);
                    jobs.remove(index).finish(Err(error));
                }
                Ran::Unknown(error) => {
                    // Under a key a second run finds out by itself; without one nobody can tell.
                    tracing::error!(shard = self.shard, lane = self.number, ?error, "a commit's outcome is unknown");
                    let (keyed, bare): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| job.once().is_some());
                    for job in bare {
                        job.finish(Err(unknown_outcome(&error)));
                    }
                    jobs = keyed;
                    last = error.clone();
                    unknown = Some(error);
                }
            }
            jobs = self.refuse_expired(jobs, unknown.as_ref());
            if jobs.is_empty() {
                return;
            }
            self.recover(attempt);
        }
        for job in jobs {
            // That the disk is full says more than that it did not work.
            let error = match (&unknown, last.code()) {
                (Some(error), _) => unknown_outcome(error),
                (None, DISK_FULL) => last.clone(),
                (None, _) => away().caused_by(last.clone()),
            };
            job.finish(Err(error.retry_after_ms(1_000)));
        }
    }

    /// Waits a little longer each time, and connects again.
    fn recover(&mut self, attempt: u32) {
        if self.engine.fault() == Fault::Lost {
            std::thread::sleep(Duration::from_millis(10 << attempt.min(6)));
            if let Err(error) = self.engine.reconnect() {
                tracing::warn!(shard = self.shard, lane = self.number, ?error, "connecting failed");
            }
        }
    }

    /// One transaction. `jobs` loses those whose tenant is moving or has moved.
    fn attempt(&mut self, jobs: &mut Vec<Box<dyn Job>>, mode: Mode) -> Ran {
        let now = self.clock.now();
        let facts = match self.engine.begin(&wanted(jobs), now) {
            Ok(facts) => facts,
            Err(error) => {
                self.engine.rollback();
                // It may have been told, and have lost again, that somebody else has written.
                self.memory = Memory::default();
                return Ran::Again(error);
            }
        };
        // Ids rise along the lane in the order of its commits, whichever node's clock is behind.
        self.ids.next_above(EventId::from_i64(facts.last_event_id));
        // Taken out, so that it is forgotten however this ends unless it is put back.
        let memory = std::mem::take(&mut self.memory);
        let memory = if facts.alone { memory } else { Memory::default() };
        if !facts.departures.is_empty() {
            self.send_on(jobs, &facts.departures);
        }
        let mut stored = facts.stored;
        let mut remains = Remains { last_sequence: facts.last_sequence, last_event_id: facts.last_event_id, ..Remains::default() };
        // When a group is run again nobody rides: it may have been the rider's fault.
        let rider = if mode == Mode::Bare { self.riders.get() } else { None };
        let mut group = Group {
            events: Vec::new(),
            wrote: false,
            wakes: false,
            memory,
            rider: rider.clone(),
            left: Vec::new(),
            ridden: Vec::new(),
            rode: false,
        };
        let mut outcomes = Vec::with_capacity(jobs.len());
        while outcomes.len() < jobs.len() {
            let index = outcomes.len();
            let first = jobs[index].as_mut();
            if let Some(key) = first.once().cloned()
                && let Some(known) = stored.get(&(first.line(), key.hash))
            {
                outcomes.push(answer_again(first, &key, known));
                continue;
            }
            let together = match mode {
                Mode::Bare => set_length(&jobs[index..], &stored),
                Mode::Savepoints => 1,
            };
            let some = &mut jobs[index..index + together];
            let done = match self.run_some(some, &mut group, mode, now) {
                Ok(done) => done,
                Err(error) => {
                    let fault = self.engine.fault();
                    self.engine.rollback();
                    return match fault {
                        // Which one of a set it was, or whether it was the rider, shows when each runs alone.
                        Fault::Retry if error.code() == TIMED_OUT && together == 1 && !group.rode => Ran::Culprit(index, error),
                        Fault::Retry if error.code() == TIMED_OUT => Ran::NeedsSavepoints,
                        Fault::None if mode == Mode::Bare => Ran::NeedsSavepoints,
                        _ => Ran::Again(error),
                    };
                }
            };
            for (job, outcome) in some.iter().zip(done) {
                let outcome = match (outcome, job.once()) {
                    (Ok(()), Some(key)) => job.stored().map(|answer| {
                        let fresh = Stored { fingerprint: key.fingerprint, answer };
                        stored.insert((job.line(), key.hash), fresh.clone());
                        remains.stored.push(NewStored { tenant: job.line(), hash: key.hash, stored: fresh });
                    }),
                    (outcome, _) => outcome,
                };
                outcomes.push(outcome);
            }
        }
        if let Err(error) = self.engine.settle() {
            let fault = self.engine.fault();
            self.engine.rollback();
            return match fault {
                Fault::None if mode == Mode::Bare => Ran::NeedsSavepoints,
                _ => Ran::Again(error),
            };
        }
        if !group.wrote && remains.stored.is_empty() {
            self.engine.rollback();
            self.memory = group.memory;
            return Ran::Committed(outcomes);
        }
        let wakes = group.wakes;
        for emitted in group.events {
            remains.last_sequence += 1;
            let id = self.ids.next_above(EventId::from_i64(remains.last_event_id)).as_i64();
            remains.last_event_id = id;
            remains.events.push(NumberedEvent { id, sequence: remains.last_sequence, emitted });
        }
        let (last, emitted) = (remains.last_sequence, !remains.events.is_empty());
        let observed = self.observers.pick(self.shard, self.number, &remains.events);
        let committing = Instant::now();
        let committed = self.engine.commit(remains, now);
        // Before anyone is answered, and also when it may have been committed.
        if !matches!(committed, Committed::No(_)) {
            observed.iter().for_each(|(observer, changes)| (observer.observe)(changes));
        }
        match committed {
            Committed::Yes => {
                self.metrics.commit(committing.elapsed());
                self.memory = group.memory;
                if emitted {
                    self.committed.send_replace(last);
                }
                if wakes {
                    self.woken.send_replace(());
                }
                // Not the group's, which a command that panicked within `in_tenant` has not put back.
                if let Some(rider) = rider
                    && !group.ridden.is_empty()
                {
                    rider.committed(self.shard, group.ridden);
                }
                Ran::Committed(outcomes)
            }
            Committed::No(error) => {
                self.engine.rollback();
                Ran::Again(error)
            }
            Committed::Unknown(error) => Ran::Unknown(error),
        }
    }

    /// Runs one command, or some that are a set: one outcome each. A refusal has undone what its command wrote. An error says that
    /// the transaction can't go on.
    fn run_some(&mut self, jobs: &mut [Box<dyn Job>], group: &mut Group, mode: Mode, now: Timestamp) -> Result<Vec<Result<()>>> {
        let events = group.events.len();
        let wrote_before = std::mem::replace(&mut group.wrote, false);
        if mode == Mode::Savepoints {
            self.engine.savepoint()?;
        }
        let mut result = self.call(jobs, group, now);
        if mode == Mode::Savepoints {
            if let Err(error) = self.engine.settle() {
                result = Err(error);
            }
            if self.engine.fault() != Fault::None {
                return Err(result.err().unwrap_or_else(away));
            }
            match &result {
                Ok(_) => self.engine.release()?,
                Err(_) => self.engine.rollback_to()?,
            }
            if let Err(error) = result {
                group.events.truncate(events);
                group.wrote = wrote_before;
                group.memory = Memory::default();
                return Ok(vec![Err(error)]);
            }
        } else if let Err(error) = result {
            // What fails a set as a whole may be the fault of one, or of whoever rides: each is to run alone, and without a rider.
            if group.wrote || group.rode || jobs.len() > 1 || self.engine.fault() != Fault::None {
                return Err(error);
            }
            group.wrote = wrote_before;
            return Ok(vec![Err(error)]);
        }
        group.wrote |= wrote_before;
        result
    }

    /// Calls the function of one command or of a set. The only outcome of one command is also the result.
    fn call(&mut self, jobs: &mut [Box<dyn Job>], group: &mut Group, now: Timestamp) -> Result<Vec<Result<()>>> {
        let Some((first, others)) = jobs.split_first_mut() else { return Ok(Vec::new()) };
        let scope = first.call().scope;
        self.engine.enter(scope)?;
        let correlation = first.call().correlation.clone();
        let read = Read::new(&mut self.engine, scope, now);
        group.left.clear();
        group.rode = false;
        let mut tx = Tx { read, group, ids: &self.ids, correlation };
        let run = || first.run_set(&mut tx, others).and_then(|outcomes| tx.ride().map(|()| outcomes));
        let result = catch_unwind(AssertUnwindSafe(run))
            .unwrap_or_else(|panic| Err(Error::internal(format!("a command panicked: {}", panic_text(&*panic)))));
        // A swallowed statement error does not save the command.
        let poison = tx.read.poison.take();
        let poisoned = poison.is_some();
        let mut outcomes = result.and_then(|outcomes| poison.map_or(Ok(outcomes), Err));
        group.wrote |= poisoned;
        if let Ok([Err(alone)]) = outcomes.as_deref() {
            outcomes = Err(alone.clone());
        }
        outcomes
    }

    /// Sends on the commands of tenants that live elsewhere by now, and lets those of a tenant that is moving wait a moment.
    fn send_on(&mut self, jobs: &mut Vec<Box<dyn Job>>, departures: &HashMap<i64, Departure>) {
        let mut held = Vec::new();
        let mut staying = Vec::with_capacity(jobs.len());
        for job in jobs.drain(..) {
            match departures.get(&job.line()) {
                None => staying.push(job),
                Some(departure) if departure.arrived => (self.forward)(job, *departure),
                Some(_) => held.push(job),
            }
        }
        *jobs = staying;
        if !held.is_empty() {
            let only_held = jobs.is_empty();
            self.queue.put_back(held);
            if only_held {
                std::thread::sleep(HELD_PAUSE);
            }
        }
    }
}

fn away() -> Error {
    Error::unavailable("store.unavailable", "the database is away; nothing was done")
}

/// What is told of a command of which nobody knows whether it was done, and why.
fn unknown_outcome(why: &Error) -> Error {
    Error::unknown("store.unknown_outcome", "it may or may not have been done: the database was lost while committing")
        .caused_by(why.clone())
}

/// How many commands from the first one on are a set. One whose key is already answered, or comes twice, waits for the next look.
fn set_length(jobs: &[Box<dyn Job>], stored: &HashMap<(i64, [u8; 16]), Stored>) -> usize {
    let Some(set) = jobs[0].set() else { return 1 };
    let scope = jobs[0].call().scope;
    let mut keys = HashSet::new();
    let mut joins = |job: &dyn Job| {
        let fresh = job.once().is_none_or(|key| !stored.contains_key(&(job.line(), key.hash)) && keys.insert(key.hash));
        job.set() == Some(set) && job.call().scope == scope && fresh
    };
    jobs.iter().take_while(|job| joins(job.as_ref())).count().max(1)
}

fn wanted(jobs: &[Box<dyn Job>]) -> Wanted {
    let mut wanted = Wanted { statement_ms: 1, ..Wanted::default() };
    for job in jobs {
        let line = job.line();
        if line != 0 && wanted.tenants.last() != Some(&line) {
            wanted.tenants.push(line);
        }
        if let Some(key) = job.once() {
            wanted.keys.push((line, key.hash));
        }
        wanted.statement_ms = wanted.statement_ms.max(job.call().deadline_ms);
    }
    wanted
}

fn answer_again(job: &mut dyn Job, key: &OnceKey, known: &Stored) -> Result<()> {
    if known.fingerprint != key.fingerprint {
        return Err(Error::new(
            ErrorKind::Conflict,
            "idempotency.key_reused",
            "this idempotency key was used before for another request; use a fresh key for each request",
        ));
    }
    job.restore(&known.answer)
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without words")
}
