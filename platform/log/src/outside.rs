//! Outside effects: at least once, awaited with a timeout, in order for each (tenant, subject), tenants in turn.
//!
//! One process at a time delivers for a consumer and lane: it holds a lease in the table of positions. The position moves when every
//! event of a batch is delivered or recorded as a failure, so a process that dies makes its last batch be delivered again.

use crate::failures::{FailedAttempt, FailureState, Recorder, in_scope, is_trouble, outstanding};
use crate::handle::{FLUSH_EVERY, Shared, Waiter, Woken};
use crate::positions::{self, Advance, MOVED, WAITING, on_lane};
use crate::runs::{Keys, Run, bytes_of, runs_of, tenant_number};
use crate::{Consumer, OutsideEffect, sql};
use futures_util::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use kernel::{Error, Result, TenantId};
use std::collections::{HashSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use store::{Event, HISTORY_LANE, Position, Tx};
use tokio::time::Instant;

/// The most events of a batch: they wait for the slowest of them.
const BATCH: usize = 64;
const REST: Duration = Duration::from_secs(1);

/// The code of an outside effect that took too long.
const TIMEOUT: &str = "log.effect_timeout";

/// Delivers one event. Errors: the effect's own; `log.effect_timeout`; `internal` when it panicked.
pub(crate) async fn attempt(effect: OutsideEffect, event: Event, timeout_ms: u64) -> Result<()> {
    let delivery = AssertUnwindSafe(async move { effect(event).await }).catch_unwind();
    match tokio::time::timeout(Duration::from_millis(timeout_ms), delivery).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(Error::internal("a consumer's effect panicked")),
        Err(_) => Err(Error::unavailable(TIMEOUT, format!("it took longer than {timeout_ms} ms"))),
    }
}

/// Whether an error means that the receiver is slow, so that the rest of its tenant's events had better not wait in line.
pub(crate) fn is_timeout(error: &Error) -> bool {
    error.code() == TIMEOUT
}

/// The events of a batch that are still to be delivered.
struct Turns {
    tenants: Vec<Turn>,
    /// Whose turn is next.
    next: usize,
    concurrency: usize,
}

struct Turn {
    tenant: Option<TenantId>,
    events: VecDeque<Event>,
    /// Subjects that are being delivered.
    under_way: HashSet<String>,
}

impl Turns {
    fn new(runs: Vec<Run>, concurrency: usize) -> Turns {
        let turn = |run: Run| Turn { tenant: run.tenant, events: run.events.into(), under_way: HashSet::new() };
        Turns { tenants: runs.into_iter().map(turn).collect(), next: 0, concurrency: concurrency.max(1) }
    }

    /// The next event that may go: tenants in turn, the first of its subject, while none of its subject is under way. Where several
    /// tenants wait, one holds at most half of the places.
    fn take(&mut self) -> Option<Event> {
        let count = self.tenants.len();
        let waiting = self.tenants.iter().filter(|turn| !turn.events.is_empty()).count();
        let most = if waiting > 1 { (self.concurrency / 2).max(1) } else { self.concurrency };
        for step in 0..count {
            let place = (self.next + step) % count;
            let turn = &mut self.tenants[place];
            if turn.under_way.len() >= most {
                continue;
            }
            // Events before it that are skipped have their subject under way, so this is the first of its own.
            let Some(index) = turn.events.iter().position(|event| !turn.under_way.contains(&event.subject)) else { continue };
            let Some(event) = turn.events.remove(index) else { continue };
            turn.under_way.insert(event.subject.clone());
            self.next = (place + 1) % count;
            return Some(event);
        }
        None
    }

    fn of(&mut self, event: &Event) -> Option<&mut Turn> {
        self.tenants.iter_mut().find(|turn| turn.tenant == event.tenant_id)
    }

    /// An event is delivered.
    fn done(&mut self, event: &Event) {
        if let Some(turn) = self.of(event) {
            turn.under_way.remove(&event.subject);
        }
    }

    /// An event has failed: takes out those that wait behind it, which is the rest of its subject, or of its tenant when the
    /// receiver is slow.
    fn failed(&mut self, event: &Event, whole_tenant: bool) -> Vec<Event> {
        self.done(event);
        let Some(turn) = self.of(event) else { return Vec::new() };
        let (out, rest): (Vec<Event>, Vec<Event>) = turn.events.drain(..).partition(|other| whole_tenant || other.subject == event.subject);
        turn.events = rest.into();
        out
    }

    /// The first sequence that has not gone.
    fn first_left(&self) -> Option<i64> {
        self.tenants.iter().filter_map(|turn| turn.events.front()).map(|event| event.position.sequence).min()
    }
}

/// What a batch came to.
struct Delivery {
    handled: u64,
    /// Failed with an error, or waiting without one.
    records: Vec<(Event, Option<Error>)>,
    /// When stopped early: the first event that has not gone.
    left: Option<i64>,
}

async fn deliver(shared: &Shared, effect: OutsideEffect, runs: Vec<Run>, blocked: &Keys) -> Delivery {
    let mut delivery = Delivery { handled: 0, records: Vec::new(), left: None };
    let mut free = Vec::new();
    for run in runs {
        match blocked.split(tenant_number(run.tenant), &run.events) {
            None => free.push(run),
            Some((events, waiting)) => {
                delivery.records.extend(waiting.into_iter().map(|event| (event.clone(), None)));
                free.push(Run { tenant: run.tenant, events });
            }
        }
    }
    let config = &shared.config;
    let mut turns = Turns::new(free, config.outside_concurrency);
    let mut under_way = FuturesUnordered::new();
    loop {
        while under_way.len() < turns.concurrency && !shared.stopping() {
            let Some(event) = turns.take() else { break };
            under_way.push(async move {
                let result = attempt(effect, event.clone(), config.outside_timeout_ms).await;
                (event, result)
            });
        }
        let Some((event, result)) = under_way.next().await else { break };
        match result {
            Ok(()) => {
                turns.done(&event);
                delivery.handled += 1;
            }
            Err(error) => {
                let behind = turns.failed(&event, is_timeout(&error));
                delivery.records.push((event, Some(error)));
                delivery.records.extend(behind.into_iter().map(|event| (event, None)));
            }
        }
    }
    delivery.left = turns.first_left();
    delivery
}

/// A batch's end, as one command: the position, and what has failed or waits.
struct Finish {
    to: Advance,
    recorder: Recorder,
    records: Vec<(Event, Option<Error>)>,
}

fn finish(tx: &mut Tx<'_>, batch: &Arc<Finish>) -> Result<(u64, Vec<FailedAttempt>)> {
    let failures = positions::take(tx, &batch.to)?;
    let mut keys = match failures && !batch.records.is_empty() {
        true => outstanding(tx, batch.recorder.consumer, batch.records.iter().map(|(event, _)| event))?,
        false => Keys::default(),
    };
    let (mut waiting, mut failed) = (0, Vec::new());
    for (event, error) in &batch.records {
        let state = in_scope(tx, event.tenant_id, |tx| batch.recorder.record(tx, event, error.as_ref(), &mut keys))?;
        match error {
            None => waiting += 1,
            Some(error) => failed.push(FailedAttempt {
                event_id: event.id,
                subject: event.subject.clone(),
                error: error.clone(),
                dead: state == FailureState::Dead,
            }),
        }
    }
    Ok((waiting, failed))
}

struct Claim {
    consumer: &'static str,
    lane: i16,
    owner: i64,
    lease_ms: i64,
}

/// Takes or renews the lease; answers with the position, or none while another process delivers.
fn claim(tx: &mut Tx<'_>, claim: &Claim) -> Result<Option<i64>> {
    let now = tx.now();
    let row = (claim.consumer, claim.lane, claim.owner, now, now.plus_ms(claim.lease_ms));
    let taken: Option<(i64,)> = tx.write_opt(sql::CLAIM, row)?;
    Ok(taken.map(|(sequence,)| sequence))
}

fn release(tx: &mut Tx<'_>, claim: &Claim) -> Result<()> {
    tx.exec(sql::RELEASE, (claim.consumer, claim.lane, claim.owner))
}

struct Outside {
    shared: Arc<Shared>,
    shard: u16,
    lane: i16,
    consumer: Consumer,
    effect: OutsideEffect,
    waiter: Waiter,
    active: bool,
    stored: i64,
    position: i64,
    flushed: Instant,
}

enum Step {
    Worked,
    Idle,
    /// Read the position again.
    Moved,
}

/// Runs one outside consumer on one lane until the log stops.
pub(crate) async fn run(shared: Arc<Shared>, shard: u16, lane: i16, consumer: Consumer, effect: OutsideEffect) {
    let waiter = shared.waiter(shard, lane);
    let (active, stored, position, flushed) = (false, WAITING, WAITING, Instant::now());
    let mut outside = Outside { shared, shard, lane, consumer, effect, waiter, active, stored, position, flushed };
    loop {
        let step = match outside.step().await {
            Ok(step) => step,
            Err(error) => {
                tracing::warn!(consumer = consumer.name, shard, lane, ?error, "an outside consumer rests");
                outside.active = false;
                Step::Idle
            }
        };
        outside.flush(false).await;
        if outside.waiter.stopping() {
            break;
        }
        let patience = if outside.position == outside.stored { Duration::MAX } else { FLUSH_EVERY };
        match step {
            Step::Worked => {}
            Step::Moved => outside.active = false,
            Step::Idle => match outside.waiter.wait(patience).await {
                Woken::Stop => break,
                Woken::Commit => {}
                Woken::Tick => outside.active = false,
                Woken::Nudge => {
                    outside.flush(true).await;
                    outside.active = false;
                }
            },
        }
    }
    outside.flush(true).await;
    let call = on_lane(shard, lane);
    if let Err(error) = outside.shared.store.write(call, release, outside.claim()).await {
        tracing::debug!(consumer = consumer.name, shard, lane, ?error, "a lease could not be released; it runs out");
    }
}

impl Outside {
    fn claim(&self) -> Claim {
        Claim { consumer: self.consumer.name, lane: self.lane, owner: self.shared.owner, lease_ms: self.shared.config.lease_ms }
    }

    /// Takes over what the table says, where it differs from what is known here.
    async fn load(&mut self) -> Result<()> {
        let positions = positions::load(&self.shared.store, self.shard).await?;
        let stored = positions.get(self.consumer.name).and_then(|lanes| lanes.get(&self.lane)).copied();
        self.active = stored.is_some_and(|sequence| sequence >= 0);
        let stored = stored.unwrap_or(WAITING);
        if stored != self.stored {
            (self.stored, self.position) = (stored, stored);
        }
        Ok(())
    }

    async fn step(&mut self) -> Result<Step> {
        if !self.active {
            self.load().await?;
        }
        if !self.active {
            return Ok(Step::Idle);
        }
        let store = &self.shared.store;
        let after = Position { shard: self.shard, lane: self.lane, sequence: self.position };
        let events = store.events_after(after, self.shared.batch().min(BATCH) as u32).await?;
        let Some(target) = events.last().map(|event| event.position.sequence) else {
            if self.lane != HISTORY_LANE {
                return Ok(Step::Idle);
            }
            store.write(on_lane(self.shard, self.lane), positions::end_history, self.consumer.name).await?;
            self.shared.nudge();
            return Ok(Step::Moved);
        };
        let runs = runs_of(&self.consumer, &events);
        drop(events);
        if runs.is_empty() {
            self.position = target;
            return Ok(Step::Worked);
        }
        if self.shared.too_many_failures(self.shard, self.consumer.name) {
            return Err(Error::internal("more failures than there may be on this shard; retry or skip them"));
        }
        match store.write(on_lane(self.shard, self.lane), claim, self.claim()).await? {
            None => return Ok(Step::Idle),
            Some(sequence) if sequence != self.stored => return Ok(Step::Moved),
            Some(_) => {}
        }
        let (name, keyed): (_, Vec<Event>) = (self.consumer.name, runs.iter().flat_map(|run| run.events.iter().cloned()).collect());
        let blocked = store.read_shard(self.shard, move |read| outstanding(read, name, &keyed)).await?;
        let delivery = tokio::select! {
            delivery = deliver(&self.shared, self.effect, runs, &blocked) => delivery,
            never = self.renew() => match never {},
        };
        self.finish(delivery, target).await
    }

    /// Keeps the lease while a batch is delivered.
    async fn renew(&self) -> std::convert::Infallible {
        loop {
            tokio::time::sleep(Duration::from_millis((self.shared.config.lease_ms / 3).max(1) as u64)).await;
            if let Err(error) = self.shared.store.write(on_lane(self.shard, self.lane), claim, self.claim()).await {
                tracing::warn!(consumer = self.consumer.name, ?error, "a lease could not be renewed");
            }
        }
    }

    /// Stores what a batch came to, again and again while the store is away: what is delivered had better not be delivered twice.
    async fn finish(&mut self, delivery: Delivery, target: i64) -> Result<Step> {
        let mut records = delivery.records;
        records.sort_by_key(|(event, _)| event.position.sequence);
        let target = delivery.left.map_or(target, |left| left - 1);
        records.retain(|(event, _)| event.position.sequence <= target);
        let bytes = bytes_of(records.iter().map(|(event, _)| event));
        let name = self.consumer.name;
        let to = Advance { consumer: name, lane: self.lane, expected: self.stored, target };
        let recorder = Recorder { consumer: name, backoff: self.shared.config.backoff, seed: self.shared.rng.below(u64::MAX) };
        let batch = Arc::new(Finish { to, recorder, records });
        loop {
            match self.shared.store.write(on_lane(self.shard, self.lane).bytes(bytes), finish, batch.clone()).await {
                Ok((waiting, failed)) => {
                    self.shared.report(self.shard, name, delivery.handled, waiting, &failed);
                    (self.stored, self.position, self.flushed) = (target, target, Instant::now());
                    return Ok(Step::Worked);
                }
                Err(error) if error.code() == MOVED => return Ok(Step::Moved),
                Err(error) if is_trouble(&error) && !self.shared.stopping() => {
                    tracing::warn!(consumer = name, ?error, "delivered events could not be recorded yet");
                    tokio::time::sleep(REST).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Stores a position that has only moved past unwanted events.
    async fn flush(&mut self, all: bool) {
        if self.position == self.stored || !(all || self.flushed.elapsed() >= FLUSH_EVERY) {
            return;
        }
        let to = Advance { consumer: self.consumer.name, lane: self.lane, expected: self.stored, target: self.position };
        match self.shared.store.write(on_lane(self.shard, self.lane), positions::advance, to).await {
            Ok(()) => self.stored = self.position,
            Err(_) => self.active = false,
        }
        self.flushed = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::event;

    fn turns(events: &[(i64, i64, &str)], concurrency: usize) -> Turns {
        fn nothing(_: Event) -> futures_util::future::BoxFuture<'static, Result<()>> {
            Box::pin(async { Ok(()) })
        }
        let consumer = Consumer::outside("test.outside", &[crate::ALL_EVENTS], nothing);
        let events: Vec<Event> =
            events.iter().map(|(tenant, sequence, subject)| event(*tenant, *sequence, subject, "a.happened")).collect();
        Turns::new(runs_of(&consumer, &events), concurrency)
    }

    fn taken(turns: &mut Turns) -> Vec<i64> {
        std::iter::from_fn(|| turns.take()).map(|event| event.position.sequence).collect()
    }

    #[test]
    fn tenants_take_turns_and_a_subject_goes_one_at_a_time() {
        let mut turns = turns(&[(1, 1, "a"), (1, 2, "a"), (1, 3, "b"), (1, 4, "c"), (2, 5, "a"), (2, 6, "b")], 8);
        assert_eq!(taken(&mut turns), [1, 5, 3, 6, 4], "2 waits for 1, which has its subject");
        turns.done(&event(1, 1, "a", "a.happened"));
        assert_eq!(taken(&mut turns), [2]);
        assert_eq!(turns.first_left(), None);
    }

    #[test]
    fn a_tenant_holds_at_most_half_of_the_places_while_others_wait() {
        let mut turns = turns(&[(1, 1, "a"), (1, 2, "b"), (1, 3, "c"), (2, 4, "a"), (2, 5, "a")], 4);
        assert_eq!(taken(&mut turns), [1, 4, 2], "of tenant 1 at most two of four; tenant 2 has one subject");
        turns.done(&event(2, 4, "a", "a.happened"));
        assert_eq!(turns.take().map(|e| e.position.sequence), Some(5));
        assert_eq!(taken(&mut turns), [3], "nobody else waits any more");
    }

    #[test]
    fn a_failure_takes_out_its_subject_and_a_timeout_its_tenant() {
        let all = [(1, 1, "a"), (1, 2, "a"), (1, 3, "b"), (2, 4, "a")];
        for (whole_tenant, out) in [(false, vec![2]), (true, vec![2, 3])] {
            let mut turns = turns(&all, 1);
            let first = turns.take().expect("one may go");
            let behind: Vec<i64> = turns.failed(&first, whole_tenant).iter().map(|e| e.position.sequence).collect();
            assert_eq!(behind, out);
        }
    }
}
