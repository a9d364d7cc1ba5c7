//! SQL effects: one task for each lane reads each batch of events once, and hands it to every consumer that has come as far.

use crate::failures::{FailedAttempt, FailureState, Recorder, in_scope, is_trouble, outstanding, try_effect};
use crate::handle::{FLUSH_EVERY, Shared, Waiter, Woken};
use crate::positions::{self, Advance, MOVED, WAITING, on_lane};
use crate::runs::{Keys, Run, bytes_of, runs_of, tenant_number};
use crate::{Consumer, Effect, SqlEffect};
use futures_util::future::join_all;
use kernel::{Error, Result};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;
use store::{Event, HISTORY_LANE, Position, Store, Tx};
use tokio::time::Instant;

/// Payloads of one read beyond which the next read is smaller, in bytes: keeps memory flat.
const READ_BYTES: usize = 4 * 1024 * 1024;
/// How long a consumer rests after trouble of the store, at first and at most.
const REST: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// How long the loser of a race for a position lets the winner go ahead, at most, in milliseconds.
const GIVE_WAY_MS: u64 = 20;

/// A patient consumer's batch that was not full goes along with a group of the lane's own commands, if one comes within this time in
/// milliseconds: a group costs the database as much as the order that it tells of. When more is committed meanwhile, for which others may
/// not be so patient, it goes at once.
const PATIENCE_MS: u32 = 25;

/// After a batch that was not full, the lane lets events gather for so many times as long as the batch took, and for so long at most:
/// a busy lane has few large batches instead of many small ones, which take its commands' time.
const PACE: u32 = 2;
const LONGEST_PACE: Duration = Duration::from_millis(50);

/// A consumer on this lane.
struct Member {
    consumer: Consumer,
    effect: SqlEffect,
    /// Whether it runs here now: not while its lanes wait for its history, and on the history lane only then.
    active: bool,
    /// The position in the table.
    stored: i64,
    /// The position: beyond `stored` by events that it does not want.
    position: i64,
    flushed: Instant,
    /// The most events that it takes at once; smaller after a batch that could not be handled even event by event.
    limit: usize,
    resting_until: Instant,
    troubles: u32,
}

/// How a consumer fared with a batch.
enum Fared {
    /// Nothing in it was wanted.
    Passed(i64),
    /// It is handled, and the position is stored.
    Handled(i64),
    /// Somebody else has moved the position.
    Moved,
    /// The store can't now.
    Trouble(Error),
    /// The batch can't be recorded: take fewer events.
    Shrink(Error),
}

/// One consumer's part of a batch.
struct Batch {
    effect: SqlEffect,
    recorder: Recorder,
    to: Advance,
    runs: Vec<Run>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Each tenant's events in one call; an error fails the batch.
    Together,
    /// Each tenant's in a savepoint, then each event in its own, so that a failure is recorded for that event alone.
    Apart,
    /// Nothing is run: the only event is recorded as failed, because running it breaks the transaction itself.
    Aside,
}

/// What a batch came to.
#[derive(Default)]
struct Outcome {
    handled: u64,
    waiting: u64,
    failed: Vec<FailedAttempt>,
}

/// Runs the SQL consumers of one lane until the log stops.
pub(crate) async fn run(shared: Arc<Shared>, shard: u16, lane: i16) {
    let mut lane = Lane::new(shared, shard, lane);
    let (mut reload, mut look) = (true, Look::Database);
    loop {
        if reload {
            match lane.load().await {
                Ok(()) => reload = false,
                Err(error) => tracing::warn!(shard, lane = lane.number, ?error, "the log's positions can't be read"),
            }
        }
        let mut idle = true;
        if !reload {
            match lane.step(look).await {
                Ok(Step::Worked { full }) => {
                    idle = false;
                    if !full {
                        look = Look::Committed;
                        tokio::time::sleep((lane.worked * PACE).min(LONGEST_PACE)).await;
                    }
                }
                Ok(Step::Idle) => {}
                Ok(Step::Moved) => {
                    look = Look::Database;
                    tokio::time::sleep(Duration::from_millis(lane.shared.rng.below(GIVE_WAY_MS))).await;
                    reload = true;
                    idle = false;
                }
                Err(error) => tracing::warn!(shard, lane = lane.number, ?error, "the lane's events can't be read"),
            }
        }
        lane.flush(false).await;
        if lane.waiter.stopping() {
            return lane.flush(true).await;
        }
        if idle {
            match lane.waiter.wait(lane.patience()).await {
                Woken::Stop => return lane.flush(true).await,
                Woken::Commit => look = Look::Committed,
                Woken::Tick => (reload, look) = (true, Look::Database),
                Woken::Nudge => {
                    lane.flush(true).await;
                    (reload, look) = (true, Look::Hurried);
                }
            }
        }
    }
}

/// What the next step looks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    /// What this process is known to have committed.
    Committed,
    /// That, and whatever other nodes have committed.
    Database,
    /// The same, and somebody waits for it.
    Hurried,
}

enum Step {
    /// Whether there was as much as a batch takes.
    Worked {
        full: bool,
    },
    Idle,
    Moved,
}

struct Lane {
    shared: Arc<Shared>,
    shard: u16,
    number: i16,
    waiter: Waiter,
    members: Vec<Member>,
    /// The most events that are read at once.
    limit: usize,
    /// How long the last step took, without what its batches have waited for company.
    worked: Duration,
}

impl Lane {
    fn new(shared: Arc<Shared>, shard: u16, number: i16) -> Lane {
        let now = Instant::now();
        let members = shared
            .consumers
            .iter()
            .filter_map(|consumer| match consumer.effect {
                Effect::Sql(effect) => Some(Member {
                    consumer: *consumer,
                    effect,
                    active: false,
                    stored: WAITING,
                    position: WAITING,
                    flushed: now,
                    limit: shared.batch(),
                    resting_until: now,
                    troubles: 0,
                }),
                Effect::Outside(_) => None,
            })
            .collect();
        let (waiter, limit) = (shared.waiter(shard, number), shared.batch());
        Lane { shared, shard, number, waiter, members, limit, worked: Duration::ZERO }
    }

    /// Takes over what the table says, where it differs from what is known here.
    async fn load(&mut self) -> Result<()> {
        let positions = positions::load(&self.shared.store, self.shard).await?;
        for member in &mut self.members {
            let stored = positions.get(member.consumer.name).and_then(|lanes| lanes.get(&self.number)).copied();
            member.active = stored.is_some_and(|sequence| sequence >= 0);
            let stored = stored.unwrap_or(WAITING);
            if stored != member.stored {
                member.stored = stored;
                member.position = stored;
            }
        }
        Ok(())
    }

    /// One batch for the consumers at each position. Those that are behind stop where the next ones stand, and join them.
    async fn step(&mut self, look: Look) -> Result<Step> {
        let known = if look == Look::Committed { self.waiter.committed() } else { i64::MAX };
        let now = Instant::now();
        let ready = |member: &&Member| member.active && member.resting_until <= now && member.position < known;
        let mut places: Vec<i64> = self.members.iter().filter(ready).map(|member| member.position).collect();
        places.sort_unstable();
        places.dedup();
        let mut step = Step::Idle;
        self.worked = Duration::ZERO;
        for (index, place) in places.iter().enumerate() {
            let gap = places.get(index + 1).map_or(usize::MAX, |next| usize::try_from(next - place).unwrap_or(usize::MAX));
            let group: Vec<usize> = (0..self.members.len())
                .filter(|i| {
                    let member = &self.members[*i];
                    ready(&member) && member.position == *place
                })
                .collect();
            let limit = self.limit.min(gap).max(1);
            let after = Position { shard: self.shard, lane: self.number, sequence: *place };
            let began = Instant::now();
            let events = self.shared.store.events_after(after, limit as u32).await?;
            self.worked += began.elapsed();
            let bytes = bytes_of(&events);
            self.limit = if bytes > READ_BYTES { (limit / 2).max(1) } else { (self.limit * 2).min(self.shared.batch()) };
            if events.is_empty() {
                if self.number == HISTORY_LANE {
                    self.end_history(&group).await?;
                    step = Step::Moved;
                }
                continue;
            }
            match &mut step {
                Step::Idle => step = Step::Worked { full: events.len() >= limit },
                Step::Worked { full } => *full |= events.len() >= limit,
                Step::Moved => {}
            }
            let wanted = |i: &usize| events.iter().any(|event| self.members[*i].consumer.wants(&event.kind));
            let patient = look != Look::Hurried
                && events.len() < limit
                && self.number != HISTORY_LANE
                && group.iter().all(|i| self.members[*i].consumer.patient || !wanted(i));
            let patience_ms = if patient { PATIENCE_MS } else { 0 };
            let handing = join_all(group.iter().map(|i| self.hand(&self.members[*i], &events, patience_ms)));
            let last = events.last().map_or(*place, |event| event.position.sequence);
            let began = Instant::now();
            let (fared, hurried) = unless_more(&self.shared.store, self.shard, self.number, last, handing).await;
            self.worked += if patient { hurried.map_or(Duration::ZERO, |since| since.elapsed()) } else { began.elapsed() };
            drop(events);
            for (i, fared) in group.into_iter().zip(fared) {
                if self.settle(i, fared) {
                    step = Step::Moved;
                }
                // It has taken less than there is.
                if let Step::Worked { full } = &mut step {
                    *full |= self.members[i].position < last;
                }
            }
        }
        Ok(step)
    }

    /// Hands a consumer as much of a batch as it takes, which waits for company so long at first.
    async fn hand(&self, member: &Member, events: &[Event], patience_ms: u32) -> Fared {
        let events = &events[..events.len().min(member.limit)];
        let Some(target) = events.last().map(|event| event.position.sequence) else { return Fared::Passed(member.position) };
        let runs = runs_of(&member.consumer, events);
        if runs.is_empty() {
            return Fared::Passed(target);
        }
        let name = member.consumer.name;
        if self.shared.too_many_failures(self.shard, name) {
            let what = format!("{name} has more failures on shard {} than it may; retry or skip them", self.shard);
            return Fared::Trouble(Error::internal(what));
        }
        let single = events.len() == 1;
        let recorder = Recorder { consumer: name, backoff: self.shared.config.backoff, seed: self.shared.rng.below(u64::MAX) };
        let to = Advance { consumer: name, lane: self.number, expected: member.stored, target };
        let batch = Arc::new(Batch { effect: member.effect, recorder, to, runs });
        let mut tried = self.write(&batch, Mode::Together, patience_ms).await;
        if let Err(error) = &tried
            && error.code() != MOVED
            && !is_trouble(error)
        {
            tracing::debug!(consumer = name, shard = self.shard, lane = self.number, ?error, "a batch failed and is run event by event");
            tried = self.write(&batch, Mode::Apart, 0).await;
            if let Err(error) = &tried
                && single
                && error.code() != MOVED
                && !is_trouble(error)
            {
                tried = self.write(&batch, Mode::Aside, 0).await;
            }
        }
        match tried {
            Ok(outcome) => {
                self.shared.report(self.shard, name, outcome.handled, outcome.waiting, &outcome.failed);
                Fared::Handled(target)
            }
            Err(error) if error.code() == MOVED => Fared::Moved,
            Err(error) if is_trouble(&error) || single => Fared::Trouble(error),
            Err(error) => Fared::Shrink(error),
        }
    }

    async fn write(&self, batch: &Arc<Batch>, mode: Mode, patience_ms: u32) -> Result<Outcome> {
        let bytes = bytes_of(batch.runs.iter().flat_map(|run| &run.events));
        let call = on_lane(self.shard, self.number).bytes(bytes).patience_ms(patience_ms);
        self.shared.store.write(call, handle, (batch.clone(), mode)).await
    }

    /// Notes how a consumer fared; tells whether the positions have to be read again.
    fn settle(&mut self, index: usize, fared: Fared) -> bool {
        let (shard, lane, most) = (self.shard, self.number, self.shared.batch());
        let member = &mut self.members[index];
        match fared {
            Fared::Passed(position) => member.position = position,
            Fared::Handled(position) => {
                (member.position, member.stored) = (position, position);
                member.flushed = Instant::now();
                member.limit = (member.limit * 2).min(most);
                member.troubles = 0;
            }
            Fared::Moved => return true,
            Fared::Shrink(error) => {
                member.limit = (member.limit / 4).max(1);
                tracing::warn!(
                    consumer = member.consumer.name,
                    shard,
                    lane,
                    limit = member.limit,
                    ?error,
                    "fewer events are taken at once"
                );
            }
            Fared::Trouble(error) => {
                let rest = REST.0.saturating_mul(1 << member.troubles.min(10)).min(REST.1);
                member.troubles += 1;
                member.resting_until = Instant::now() + rest;
                tracing::warn!(consumer = member.consumer.name, shard, lane, ?rest, ?error, "a consumer rests");
                // The outcome may be open: the table knows.
                return true;
            }
        }
        false
    }

    /// How long to wait at most: no position is left unstored for long.
    fn patience(&self) -> Duration {
        if self.members.iter().any(|member| member.active && member.position != member.stored) { FLUSH_EVERY } else { Duration::MAX }
    }

    /// Stores positions that have only moved past unwanted events: those of a while ago, or all.
    async fn flush(&mut self, all: bool) {
        let now = Instant::now();
        let patience_ms = if all { 0 } else { PATIENCE_MS };
        let (shard, number, store) = (self.shard, self.number, &self.shared.store);
        let old = |member: &&mut Member| {
            member.active && member.position != member.stored && (all || now.duration_since(member.flushed) >= FLUSH_EVERY)
        };
        let last = self.members.iter().filter(|member| member.active).map(|member| member.position).max().unwrap_or(WAITING);
        // Together: no event is handled meanwhile, and one after the other each would wait for a group of the lane.
        let stores = self.members.iter_mut().filter(old).map(async |member| {
            let to = Advance { consumer: member.consumer.name, lane: number, expected: member.stored, target: member.position };
            match store.write(on_lane(shard, number).patience_ms(patience_ms), positions::advance, to).await {
                Ok(()) => member.stored = member.position,
                // The next look at the table tells where it is.
                Err(error) => tracing::debug!(consumer = member.consumer.name, ?error, "a position could not be stored"),
            }
            member.flushed = now;
        });
        unless_more(store, shard, number, last, join_all(stores)).await;
    }

    /// These consumers have seen all of the history: their lanes begin.
    async fn end_history(&self, group: &[usize]) -> Result<()> {
        for index in group {
            self.shared.store.write(on_lane(self.shard, self.number), positions::end_history, self.members[*index].consumer.name).await?;
        }
        self.shared.nudge();
        Ok(())
    }
}

/// Waits for commands of a lane, patiently as long as nothing is committed there beyond `last`. Tells since when not.
async fn unless_more<T>(store: &Store, shard: u16, lane: i16, last: i64, commands: impl Future<Output = T>) -> (T, Option<Instant>) {
    let Ok(lane) = u16::try_from(lane) else { return (commands.await, None) };
    let mut committed = store.committed(shard, lane);
    let mut commands = std::pin::pin!(commands);
    tokio::select! {
        // First what is awaited: it is queued before it is hurried.
        biased;
        done = &mut commands => return (done, None),
        _ = committed.wait_for(|sequence| *sequence > last) => {}
    }
    let since = Instant::now();
    store.hurry(shard, lane);
    (commands.await, Some(since))
}

/// The command: position and effects together.
fn handle(tx: &mut Tx<'_>, (batch, mode): &(Arc<Batch>, Mode)) -> Result<Outcome> {
    let failures = positions::take(tx, &batch.to)?;
    let mut keys = match failures {
        true => outstanding(tx, batch.recorder.consumer, batch.runs.iter().flat_map(|run| &run.events))?,
        false => Keys::default(),
    };
    let mut outcome = Outcome::default();
    for run in &batch.runs {
        in_scope(tx, run.tenant, |tx| match mode {
            Mode::Together => together(tx, batch, run, &mut keys, &mut outcome),
            Mode::Apart => apart(tx, batch, run, &mut keys, &mut outcome),
            Mode::Aside => run.events.iter().try_for_each(|event| {
                let error =
                    Error::unavailable("log.effect_broke_transaction", "handling the event takes too long or breaks the transaction");
                fail(tx, batch, event, error, &mut keys, &mut outcome)
            }),
        })?;
    }
    Ok(outcome)
}

fn together(tx: &mut Tx<'_>, batch: &Batch, run: &Run, keys: &mut Keys, outcome: &mut Outcome) -> Result<()> {
    let (free, waiting) = match keys.split(tenant_number(run.tenant), &run.events) {
        None => (Cow::Borrowed(&run.events[..]), Vec::new()),
        Some((free, waiting)) => (Cow::Owned(free), waiting),
    };
    if !free.is_empty() {
        (batch.effect)(tx, &free)?;
        outcome.handled += free.len() as u64;
    }
    for event in waiting {
        batch.recorder.record(tx, event, None, keys)?;
        outcome.waiting += 1;
    }
    Ok(())
}

fn apart(tx: &mut Tx<'_>, batch: &Batch, run: &Run, keys: &mut Keys, outcome: &mut Outcome) -> Result<()> {
    let whole = tx.attempt(|tx| {
        let mut part = Outcome::default();
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| together(tx, batch, run, keys, &mut part)))
            .unwrap_or_else(|_| Err(Error::internal("a consumer's effect panicked")))?;
        Ok(part)
    })?;
    match whole {
        Ok(part) => {
            outcome.handled += part.handled;
            outcome.waiting += part.waiting;
            return Ok(());
        }
        Err(error) if is_trouble(&error) => return Err(error),
        Err(_) => {}
    }
    let tenant = tenant_number(run.tenant);
    for event in &run.events {
        if keys.blocks(tenant, &event.subject) {
            batch.recorder.record(tx, event, None, keys)?;
            outcome.waiting += 1;
            continue;
        }
        match try_effect(tx, batch.effect, std::slice::from_ref(event))? {
            Ok(()) => outcome.handled += 1,
            Err(error) if is_trouble(&error) => return Err(error),
            Err(error) => fail(tx, batch, event, error, keys, outcome)?,
        }
    }
    Ok(())
}

fn fail(tx: &mut Tx<'_>, batch: &Batch, event: &Event, error: Error, keys: &mut Keys, outcome: &mut Outcome) -> Result<()> {
    let state = batch.recorder.record(tx, event, Some(&error), keys)?;
    let dead = state == FailureState::Dead;
    outcome.failed.push(FailedAttempt { event_id: event.id, subject: event.subject.clone(), error, dead });
    Ok(())
}
