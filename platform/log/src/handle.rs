//! The handle on the running consumers, and what their tasks share.

use crate::failures::{self, FailedAttempt};
use crate::metrics::Metrics;
use crate::retry::Kind;
use crate::{Consumer, Effect, Failure, FailureKey, FailureState, FailureSummary, FailuresOf, LogConfig, ReplayOf};
use crate::{consumer, lane, outside, positions, replay, retry, sql};
use kernel::{Error, Result, Rng};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use store::{HISTORY_LANE, Position, Store};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The most events that an effect is given at once.
const MAX_BATCH: u32 = 256;
/// How often a position is stored that only moves past events which nobody wants.
pub(crate) const FLUSH_EVERY: Duration = Duration::from_millis(200);
/// How often [`Log::drained`] looks.
const DRAINED_EVERY: Duration = Duration::from_millis(5);

/// How far one consumer is behind on one lane.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Lag {
    /// The consumer.
    pub consumer: &'static str,
    /// The shard.
    pub shard: u16,
    /// The lane; -1 while the consumer goes through what moved tenants brought along, for its first time or in a replay. A tenant
    /// must not be moved to or from a shard meanwhile.
    pub lane: i16,
    /// The last event that it has handled or passed; -1 while the lane waits for lane -1.
    pub sequence: i64,
    /// How many events are after it, of whatever kind. At least 1 if there are any; exact but for what other nodes have committed
    /// in the last moments, and on lane -1.
    pub events_behind: i64,
    /// How long ago the first of those was committed, in milliseconds; 0 when there is none.
    pub oldest_age_ms: i64,
}

/// The running consumers; cheap to clone. They run until [`Log::stop`].
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
}

/// What tells tasks to stop, or to look at the tables at once.
#[derive(Clone, Copy, Default)]
pub(crate) struct Signal {
    stop: bool,
    nudges: u64,
}

/// What the tasks share.
pub(crate) struct Shared {
    pub store: Store,
    pub consumers: Vec<Consumer>,
    pub config: LogConfig,
    pub rng: Arc<dyn Rng>,
    /// This process, in leases.
    pub owner: i64,
    metrics: Metrics,
    signal: watch::Sender<Signal>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Retries that are under way here, and how many have ended: a claimed retry is not due, yet not done.
    pub retries: Retries,
    /// About how many failures each consumer has on each shard: counted from time to time, and added to meanwhile.
    failures: Mutex<HashMap<(u16, &'static str), u64>>,
}

/// See [`Shared::retries`].
#[derive(Default)]
pub(crate) struct Retries {
    pub under_way: AtomicUsize,
    pub ended: AtomicU64,
}

/// Where every consumer stands, and how many retries have ended: equal twice means that nothing went on in between.
#[derive(PartialEq, Eq)]
struct Stands {
    positions: Vec<(u16, &'static str, i16, i64)>,
    retries_ended: u64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a waiting task goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// This process has committed events on the lane.
    Commit,
    /// It is time to look for what others have done.
    Tick,
    /// Somebody has changed the tables.
    Nudge,
    /// The log stops.
    Stop,
}

/// What a task waits with.
pub(crate) struct Waiter {
    signal: watch::Receiver<Signal>,
    committed: Option<watch::Receiver<i64>>,
    poll: Duration,
}

impl Waiter {
    pub(crate) fn stopping(&self) -> bool {
        self.signal.borrow().stop
    }

    /// The last sequence that this process is known to have committed on the lane; no bound where it runs no such lane.
    pub(crate) fn committed(&mut self) -> i64 {
        self.committed.as_mut().map_or(i64::MAX, |committed| *committed.borrow_and_update())
    }

    /// Waits for a reason to go on, for no longer than `at_most`, which is a tick too.
    pub(crate) async fn wait(&mut self, at_most: Duration) -> Woken {
        let committed = async {
            match &mut self.committed {
                Some(committed) => committed.changed().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = self.signal.changed() => match changed {
                Ok(()) if !self.signal.borrow().stop => Woken::Nudge,
                _ => Woken::Stop,
            },
            alive = committed => {
                if !alive {
                    // The lane has ended.
                    self.committed = None;
                }
                Woken::Commit
            }
            () = tokio::time::sleep(self.poll.min(at_most)) => Woken::Tick,
        }
    }
}

impl Shared {
    /// The most events that are read and handled at once.
    pub(crate) fn batch(&self) -> usize {
        self.config.batch.clamp(1, MAX_BATCH) as usize
    }

    pub(crate) fn stopping(&self) -> bool {
        self.signal.borrow().stop
    }

    /// Makes every task look at the tables at once.
    pub(crate) fn nudge(&self) {
        self.signal.send_modify(|signal| signal.nudges += 1);
    }

    pub(crate) fn waiter(&self, shard: u16, lane: i16) -> Waiter {
        let committed = u16::try_from(lane).ok().map(|lane| self.store.committed(shard, lane));
        Waiter { committed, ..self.waiter_without_lane() }
    }

    pub(crate) fn waiter_without_lane(&self) -> Waiter {
        let poll = Duration::from_millis(self.config.poll_ms.max(1));
        Waiter { signal: self.signal.subscribe(), committed: None, poll }
    }

    /// Writes down, after its commit, what a batch or a retry came to.
    pub(crate) fn report(&self, shard: u16, consumer: &'static str, handled: u64, waiting: u64, failed: &[FailedAttempt]) {
        let dead = failed.iter().filter(|attempt| attempt.dead).count() as u64;
        self.metrics.outcome(consumer, handled, failed.len() as u64, dead);
        let added = waiting + failed.len() as u64;
        if added > 0 {
            *locked(&self.failures).entry((shard, consumer)).or_default() += added;
        }
        for attempt in failed {
            let (event, subject, error) = (attempt.event_id, &attempt.subject, &attempt.error);
            if attempt.dead {
                tracing::error!(consumer, shard, %event, subject, ?error, "an event is a dead letter");
            } else {
                tracing::warn!(consumer, shard, %event, subject, ?error, "an event failed and is tried again");
            }
        }
    }

    /// Whether a consumer has as many failures on a shard as it may.
    pub(crate) fn too_many_failures(&self, shard: u16, consumer: &'static str) -> bool {
        locked(&self.failures).get(&(shard, consumer)).is_some_and(|count| *count >= self.config.max_failures)
    }

    async fn lag(&self) -> Result<Vec<Lag>> {
        let mut lags = Vec::new();
        for shard in 0..self.store.shards() {
            let positions = positions::load(&self.store, shard).await?;
            for consumer in &self.consumers {
                let Some(lanes) = positions.get(consumer.name) else { continue };
                for lane in (HISTORY_LANE..).take(usize::from(self.store.lanes(shard)) + 1) {
                    match lanes.get(&lane) {
                        Some(sequence) => lags.push(self.lag_of(consumer.name, Position { shard, lane, sequence: *sequence }).await?),
                        None => self.metrics.forget_lag(consumer.name, shard, lane),
                    }
                }
            }
            self.count_failures(shard).await?;
        }
        lags.iter().for_each(|lag| self.metrics.lag(lag));
        Ok(lags)
    }

    async fn lag_of(&self, consumer: &'static str, at: Position) -> Result<Lag> {
        let (shard, lane) = (at.shard, at.lane);
        let passed = at.sequence.max(0);
        let first = self.store.events_after(Position { sequence: passed, ..at }, 1).await?;
        let (events_behind, oldest_age_ms) = match first.first() {
            None => (0, 0),
            Some(event) => {
                let end = u16::try_from(lane).map_or(0, |lane| *self.store.committed(shard, lane).borrow());
                ((end - passed).max(1), self.store.clock().now().ms_since(event.occurred_at).max(0))
            }
        };
        Ok(Lag { consumer, shard, lane, sequence: at.sequence, events_behind, oldest_age_ms })
    }

    async fn count_failures(&self, shard: u16) -> Result<()> {
        let rows: Vec<(String, String, i64)> = self.store.read_shard(shard, |read| read.all(sql::COUNT_FAILURES, ())).await?;
        for consumer in &self.consumers {
            let mut total = 0;
            for state in FailureState::ALL {
                let found = rows.iter().find(|(name, stored, _)| name == consumer.name && stored == state.as_str());
                let count = found.map_or(0, |(_, _, count)| *count);
                self.metrics.failures(consumer.name, shard, state, count);
                total += count.max(0) as u64;
            }
            locked(&self.failures).insert((shard, consumer.name), total);
        }
        Ok(())
    }

    /// Where everything stands, if every consumer is at the end of every lane and no retry is due or under way.
    async fn at_rest(&self) -> Result<Option<Stands>> {
        let retries_ended = self.retries.ended.load(Ordering::SeqCst);
        let mut stands = Vec::new();
        for shard in 0..self.store.shards() {
            let positions = positions::load(&self.store, shard).await?;
            for lane in 0..self.store.lanes(shard) as i16 {
                for consumer in &self.consumers {
                    let lanes = positions.get(consumer.name);
                    let sequence = lanes.and_then(|lanes| lanes.get(&lane)).copied().unwrap_or(positions::WAITING);
                    if sequence < 0 {
                        return Ok(None);
                    }
                    stands.push((shard, consumer.name, lane, sequence));
                }
                let last = stands.iter().filter(|stand| stand.0 == shard && stand.2 == lane).map(|stand| stand.3).min();
                if let Some(sequence) = last
                    && !self.store.events_after(Position { shard, lane, sequence }, 1).await?.is_empty()
                {
                    return Ok(None);
                }
            }
            if retry::any_due(self, shard).await? {
                return Ok(None);
            }
        }
        let under_way = self.retries.under_way.load(Ordering::SeqCst);
        Ok((under_way == 0).then_some(Stands { positions: stands, retries_ended }))
    }

    async fn refresh_lag(self: Arc<Self>) {
        let mut signal = self.signal.subscribe();
        let every = Duration::from_millis(self.config.lag_refresh_ms.max(1));
        loop {
            if let Err(error) = self.lag().await {
                tracing::warn!(?error, "the log's lag can't be read");
            }
            tokio::select! {
                _ = signal.wait_for(|signal| signal.stop) => return,
                () = tokio::time::sleep(every) => {}
            }
        }
    }
}

impl Log {
    /// Starts the consumers on every lane of every shard, in tasks of the current tokio runtime.
    /// Errors: `internal` when two consumers have one name; the store's own.
    pub async fn start(store: Store, consumers: Vec<Consumer>, config: LogConfig, rng: Arc<dyn Rng>) -> Result<Log> {
        let log = Log::idle(store, consumers, config, rng)?;
        let shared = &log.shared;
        let names: Vec<&'static str> = shared.consumers.iter().map(|consumer| consumer.name).collect();
        let mut tasks = Vec::new();
        for shard in 0..shared.store.shards() {
            positions::create_missing(&shared.store, shard, &names).await?;
            for lane in (HISTORY_LANE..).take(usize::from(shared.store.lanes(shard)) + 1) {
                if shared.consumers.iter().any(|consumer| matches!(consumer.effect, Effect::Sql(_))) {
                    tasks.push(tokio::spawn(lane::run(shared.clone(), shard, lane)));
                }
                for consumer in &shared.consumers {
                    if let Effect::Outside(effect) = consumer.effect {
                        tasks.push(tokio::spawn(outside::run(shared.clone(), shard, lane, *consumer, effect)));
                    }
                }
            }
            for kind in [Kind::Sql, Kind::Outside] {
                tasks.push(tokio::spawn(retry::run(shared.clone(), shard, kind)));
            }
        }
        tasks.push(tokio::spawn(shared.clone().refresh_lag()));
        *locked(&shared.tasks) = tasks;
        Ok(log)
    }

    /// The same handle without running anything, for tools beside a running server: lists, retries, skips, replays, lag.
    /// Errors: `internal` when two consumers have one name.
    pub fn idle(store: Store, consumers: Vec<Consumer>, config: LogConfig, rng: Arc<dyn Rng>) -> Result<Log> {
        consumer::check(&consumers)?;
        let owner = rng.below(i64::MAX as u64) as i64 + 1;
        let signal = watch::Sender::new(Signal::default());
        let (metrics, tasks, retries, failures) = (Metrics::default(), Mutex::default(), Retries::default(), Mutex::default());
        Ok(Log { shared: Arc::new(Shared { store, consumers, config, rng, owner, metrics, signal, tasks, retries, failures }) })
    }

    /// Ends the tasks after what they have begun: an outside effect that is under way is awaited up to its timeout. Nothing is lost
    /// by not calling it.
    pub async fn stop(&self) {
        self.shared.signal.send_modify(|signal| signal.stop = true);
        let tasks = std::mem::take(&mut *locked(&self.shared.tasks));
        for task in tasks {
            if task.await.is_err() {
                tracing::error!("a task of the log panicked");
            }
        }
    }

    /// Registers the metrics: events behind, oldest age, failures by state, events handled and failed.
    pub fn register(&self, registry: &mut prometheus_client::registry::Registry) {
        self.shared.metrics.register(registry);
    }

    /// How far each consumer is behind on each lane. Positions that only pass unwanted events are stored five times a second.
    pub async fn lag(&self) -> Result<Vec<Lag>> {
        self.shared.lag().await
    }

    /// Resolves when every consumer has reached every lane's end and no retry is due, or under way in this process: for tests and for
    /// tools. Never resolves on an idle handle with nobody else running what is left.
    pub async fn drained(&self) -> Result<()> {
        let mut before = None;
        loop {
            self.shared.nudge();
            let stands = self.shared.at_rest().await?;
            if stands.is_some() && stands == before {
                return Ok(());
            }
            before = stands;
            if before.is_none() {
                tokio::time::sleep(DRAINED_EVERY).await;
            }
        }
    }

    /// Whether every consumer has passed these positions and waits for no history on their lanes: what a tenant's move asks about the
    /// shard that the tenant leaves. With sequence 0 it asks of a target shard whether a replay is going through its history, in which
    /// case nobody may move there.
    pub async fn passed(&self, positions: &[Position]) -> Result<bool> {
        self.shared.nudge();
        let mut shards: Vec<u16> = positions.iter().map(|position| position.shard).collect();
        shards.dedup();
        for shard in shards {
            let stored = positions::load(&self.shared.store, shard).await?;
            for position in positions.iter().filter(|position| position.shard == shard) {
                let passed = |consumer: &Consumer| {
                    let sequence = stored.get(consumer.name).and_then(|lanes| lanes.get(&position.lane));
                    sequence.is_some_and(|sequence| *sequence >= position.sequence)
                };
                if !self.shared.consumers.iter().all(passed) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Up to `limit` (1 to 100) failures in the order of their keys, of one state if it is given, after a key.
    pub async fn failures(
        &self,
        of: FailuresOf,
        state: Option<FailureState>,
        after: Option<FailureKey>,
        limit: u32,
    ) -> Result<Vec<FailureSummary>> {
        failures::list(&self.shared.store, of, state, after, limit).await
    }

    /// One failure with its event. Errors: `log.failure_not_found`.
    pub async fn inspect(&self, key: &FailureKey) -> Result<Failure> {
        failures::inspect(&self.shared.store, key).await
    }

    /// Tries a dead letter (or one that waits for its next attempt) again now, with all its attempts before it.
    /// Errors: `log.failure_not_found`, `log.failure_blocked` when an earlier event of its key has to go first.
    pub async fn retry(&self, key: &FailureKey) -> Result<()> {
        failures::retry_now(&self.shared.store, key).await?;
        self.shared.nudge();
        Ok(())
    }

    /// Gives an event up for this consumer and lets those behind it go on. Answers with what was given up, for the audit trail.
    /// Errors: `log.failure_not_found`.
    pub async fn skip(&self, key: &FailureKey) -> Result<Failure> {
        let skipped = failures::skip(&self.shared.store, key).await?;
        tracing::warn!(consumer = key.consumer, event = %key.event_id, "a failed event is skipped");
        self.shared.nudge();
        Ok(skipped)
    }

    /// Sets a consumer back, in one transaction a shard, forgets its failures there, and clears its projection if it has a reset.
    /// Errors: `log.consumer_not_found`, `log.lane_not_found`, `log.replay_whole_shard`, `log.replay_ahead`.
    pub async fn replay(&self, consumer: &str, of: ReplayOf) -> Result<()> {
        let known = self.shared.consumers.iter().find(|known| known.name == consumer);
        let known = known.ok_or_else(|| Error::not_found("log.consumer_not_found", "there is no consumer of that name"))?;
        replay::replay(&self.shared.store, known, of).await?;
        self.shared.nudge();
        Ok(())
    }
}
