//! The runner of a node: finds what is due on each shard, takes it under a lease, calls out, and has the outcome written.

use crate::config::RunnerConfig;
use crate::engine::{self, Called, Input, LEASE_LOST, Look, Looked, STEPS, Told, Work};
use crate::metrics::Metrics;
use crate::parts::{Parts, Request};
use crate::probe::{Fate, Point};
use crate::ride::{Ridden, Rides, Seats};
use crate::saga::{SagaId, Status};
use crate::scope::{call_for, keyed, shard_of, tenant_of};
use crate::turns::{Due, Turns};
use crate::workflow::{self, Workflow};
use crate::{Outcome, sql};
use futures_util::FutureExt as _;
use futures_util::future::{FusedFuture as _, OptionFuture};
use kernel::{Error, ErrorKind, Result, Rng, Timestamp};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use store::{Store, Tx};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

/// Tenants, and sagas of each, that are looked for besides the earliest when more is due than one look shows.
const IN_TURN: (u32, u32) = (128, 4);
/// How long the first and the longest rest is while an outcome can't be written.
const REST_MS: (u64, u64) = (20, 1_000);
/// The most rows that are counted for the metrics of a shard.
const COUNTED: u32 = 100_000;
/// How often [`Runner::drained`] looks.
const DRAINED_EVERY: Duration = Duration::from_millis(2);

/// The running sagas of this node; cheap to clone. They run until [`Runner::stop`].
#[derive(Clone)]
pub struct Runner {
    shared: Arc<Shared>,
    /// By what the store knows it.
    rides: Arc<Rides>,
}

pub(crate) struct Shared {
    store: Store,
    pub(crate) workflows: Arc<Vec<Workflow>>,
    /// The kinds and versions that this program knows, as `name/version`: what others know is left to them.
    known: Vec<String>,
    parts: Arc<Parts>,
    pub(crate) config: RunnerConfig,
    rng: Arc<dyn Rng>,
    /// This process, in leases.
    pub(crate) owner: i64,
    metrics: Metrics,
    stop: watch::Sender<bool>,
    /// One for each shard: look at once.
    looks: Vec<Notify>,
    /// One for each shard: sagas that go on after the commit in which they took a step. As many as have a seat.
    pub(crate) follow: Vec<mpsc::UnboundedSender<Ridden>>,
    following: Mutex<Vec<Option<mpsc::UnboundedReceiver<Ridden>>>>,
    under_way: AtomicUsize,
    pub(crate) seats: Seats,
    pub(crate) finished: AtomicU64,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// Whether an error is the store's trouble rather than the step's: nothing was done, and the same is tried again. A statement that ran
/// into its deadline counts as the step's.
fn is_trouble(error: &Error) -> bool {
    let kind = matches!(error.kind(), ErrorKind::Overloaded | ErrorKind::Unavailable | ErrorKind::Unknown);
    kind && error.code().starts_with("store.") && error.code() != "store.statement_timeout"
}

impl Runner {
    /// Starts running what is due on every shard, in tasks of the current tokio runtime, and makes the timers that are missing.
    /// Errors: `internal` for workflows that don't fit together; the store's own.
    pub async fn start(store: Store, workflows: Vec<Workflow>, parts: Parts, config: RunnerConfig, rng: Arc<dyn Rng>) -> Result<Runner> {
        let runner = Runner::idle(store, workflows, parts, config, rng)?;
        let shared = &runner.shared;
        if shared.workflows.is_empty() {
            return Ok(runner);
        }
        let mut tasks = Vec::new();
        for shard in 0..shared.store.shards() {
            shared.make_timers(shard).await?;
            if shared.config.alone {
                shared.store.write(call_for(None, shard), end_leases, shared.config.lease_ms).await?;
            }
            for lane in 0..shared.store.lanes(shard) {
                tasks.push(tokio::spawn(wake(shared.clone(), shard, lane)));
            }
            tasks.push(tokio::spawn(drive(shared.clone(), shard)));
        }
        let rides: Weak<Rides> = Arc::downgrade(&runner.rides);
        shared.store.set_rider(rides);
        tasks.push(tokio::spawn(refresh_metrics(shared.clone())));
        *runner.tasks() = tasks;
        Ok(runner)
    }

    /// The same handle without running anything, for tools beside a running server.
    /// Errors: `internal` for workflows that don't fit together.
    pub fn idle(store: Store, workflows: Vec<Workflow>, parts: Parts, config: RunnerConfig, rng: Arc<dyn Rng>) -> Result<Runner> {
        workflow::check(&workflows)?;
        let known = workflows.iter().flat_map(|w| w.versions.iter().map(move |(number, _)| format!("{}/{number}", w.kind.name))).collect();
        let looks = (0..store.shards()).map(|_| Notify::new()).collect();
        let (follow, following) = (0..store.shards()).map(|_| mpsc::unbounded_channel()).map(|(to, from)| (to, Some(from))).unzip();
        let shared = Shared {
            workflows: Arc::new(workflows),
            known,
            parts: Arc::new(parts),
            config,
            owner: rng.below(i64::MAX as u64) as i64 + 1,
            rng,
            metrics: Metrics::default(),
            stop: watch::Sender::new(false),
            looks,
            follow,
            following: Mutex::new(following),
            under_way: AtomicUsize::new(0),
            seats: Seats::default(),
            finished: AtomicU64::new(0),
            tasks: Mutex::default(),
            store,
        };
        let shared = Arc::new(shared);
        Ok(Runner { rides: Arc::new(Rides(shared.clone())), shared })
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.shared.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins nothing new, awaits what is in flight within its bound, and ends. What is not over by then is found out about by whoever
    /// runs next. Nothing is lost by not calling it.
    pub async fn stop(&self) {
        self.shared.stop.send_replace(true);
        let tasks = std::mem::take(&mut *self.tasks());
        for task in tasks {
            if task.await.is_err() {
                tracing::error!("a task of the workflows panicked");
            }
        }
    }

    /// Whether it was told to stop.
    pub fn stopping(&self) -> bool {
        self.shared.stopping()
    }

    /// Registers the metrics: sagas by status, the oldest, what is overdue, outcomes, endings.
    pub fn register(&self, registry: &mut prometheus_client::registry::Registry) {
        self.shared.metrics.register(registry);
    }

    /// Looks for what is due at once, as for a clock that a test has moved.
    pub fn nudge(&self) {
        self.shared.nudge();
    }

    /// Resolves when nothing is due and nothing is under way in this process: for tests and for tools. Never resolves on an idle
    /// handle with nobody else running what is due.
    pub async fn drained(&self) -> Result<()> {
        if self.shared.workflows.is_empty() {
            return Ok(());
        }
        let mut before = None;
        loop {
            self.nudge();
            let rest = self.shared.at_rest().await?;
            if rest.is_some() && rest == before {
                return Ok(());
            }
            before = rest;
            tokio::time::sleep(DRAINED_EVERY).await;
        }
    }

    /// When the next saga of any shard is due, be it for a lease that runs out: for tests that move a clock.
    pub async fn next_due(&self) -> Result<Option<Timestamp>> {
        let mut earliest: Option<Timestamp> = None;
        for shard in 0..self.shared.store.shards() {
            let next: Option<(Timestamp,)> = self.shared.store.read_shard(shard, |read| read.opt(sql::NEXT_DUE, ())).await?;
            earliest = earliest.into_iter().chain(next.map(|(at,)| at)).min();
        }
        Ok(earliest)
    }
}

impl Shared {
    pub(crate) fn stopping(&self) -> bool {
        *self.stop.borrow()
    }

    fn nudge(&self) {
        self.looks.iter().for_each(Notify::notify_one);
    }

    async fn make_timers(&self, shard: u16) -> Result<()> {
        let timers: Vec<(&'static str, i64)> = self
            .workflows
            .iter()
            .filter(|w| shard == 0 || !w.home_only)
            .filter_map(|w| w.every_ms.map(|every_ms| (w.kind.name, every_ms)))
            .collect();
        if timers.is_empty() {
            return Ok(());
        }
        self.store.write(call_for(None, shard), make_timers, timers).await
    }

    /// Due sagas, the earliest first; whether there may be more. Beyond a full window tenants are looked at in turn, from `after` on.
    async fn due(&self, shard: u16, limit: u32, after: i64) -> Result<(Vec<Due>, bool, i64)> {
        type Row = (i64, Option<SagaId>, Option<String>, Option<i64>, Option<Timestamp>);
        let known = self.known.clone();
        let (rows, full, last) = self
            .store
            .read_shard(shard, move |read| {
                let now = read.now();
                let mut rows: Vec<Row> = read.all(sql::DUE, (now, known.clone(), limit))?;
                if rows.len() < limit as usize {
                    return Ok((rows, false, 0));
                }
                let turns: Vec<Row> = read.all(sql::DUE_IN_TURN, (now, known, after, IN_TURN.0, IN_TURN.1))?;
                // From the first tenant again after the last one.
                let last = turns.last().map_or(-1, |row| row.0);
                rows.extend(turns);
                Ok((rows, true, last))
            })
            .await?;
        let kind = |name: &str| self.workflows.iter().map(|w| w.kind.name).find(|known| *known == name).unwrap_or_default();
        let due = rows
            .into_iter()
            .filter_map(|(tenant, id, name, token, _)| Some(Due { tenant, id: id?, token: token?, kind: kind(&name?) }))
            .collect();
        Ok((due, full, last))
    }

    /// How many sagas have come to a rest here, if nothing is due and nothing is under way.
    async fn at_rest(&self) -> Result<Option<u64>> {
        let finished = self.finished.load(Ordering::SeqCst);
        for shard in 0..self.store.shards() {
            let (due, _, _) = self.due(shard, 1, -1).await?;
            if !due.is_empty() {
                return Ok(None);
            }
        }
        let idle = self.under_way.load(Ordering::SeqCst) == 0 && self.seats.is_free();
        Ok((idle && finished == self.finished.load(Ordering::SeqCst)).then_some(finished))
    }

    fn probe(&self, point: Point, id: SagaId) -> bool {
        self.config.probe.as_ref().is_some_and(|probe| probe(point, id) == Fate::Die)
    }

    /// Runs one saga that is due, for as long as it has something to do.
    async fn run(&self, shard: u16, due: &Due) {
        if let Some(work) = self.look(shard, due, due.token, Input::Claim).await {
            self.go_on(shard, due, work).await;
        }
    }

    /// Does what follows a look, and what follows that.
    async fn go_on(&self, shard: u16, due: &Due, mut work: Work) {
        loop {
            let (token, input) = match work {
                Work::Rest => return,
                Work::More(token) => (token, Input::More),
                Work::Call(token, called) => {
                    if self.probe(Point::BeforeCall, due.id) {
                        return;
                    }
                    let outcome = self.call_out(shard, due, token, *called).await;
                    if self.probe(Point::AfterCall, due.id) {
                        return;
                    }
                    (token, Input::Outcome(outcome))
                }
            };
            let written = matches!(input, Input::Outcome(_));
            let Some(next) = self.look(shard, due, token, input).await else { return };
            if written && self.probe(Point::AfterCommit, due.id) {
                return;
            }
            work = next;
        }
    }

    /// One look at a saga, as a command.
    pub(crate) fn look_at(&self, id: SagaId, token: i64, steps: u32, input: Input) -> Look {
        Look {
            workflows: self.workflows.clone(),
            id,
            token,
            owner: self.owner,
            lease_ms: self.config.lease_ms,
            keep_ended_ms: self.config.keep_ended_ms,
            seed: self.rng.below(u64::MAX),
            stopping: self.stopping(),
            steps,
            input,
            probe: self.config.probe.clone(),
            fate: Arc::default(),
        }
    }

    /// One look at a saga, again and again while the store is away: an outcome that is known had better not be asked for again.
    /// None when the saga is left to whoever finds it due.
    async fn look(&self, shard: u16, due: &Due, token: i64, mut input: Input) -> Option<Work> {
        let claimed = matches!(input, Input::Claim);
        let (mut steps, mut rest_ms) = (STEPS, REST_MS.0);
        loop {
            let look = self.look_at(due.id, token, steps, input.clone());
            let error = match self.store.write(self.call_of(shard, due), engine::look, look).await {
                Ok(Looked { work, told, .. }) => {
                    self.report(due, told);
                    return Some(work);
                }
                Err(error) => error,
            };
            if error.code() == LEASE_LOST {
                tracing::warn!(saga = %due.id, kind = due.kind, "another node has taken a saga over; what was to be written here is dropped");
                return None;
            }
            if is_trouble(&error) {
                // What was not taken is due again.
                if claimed || error.code() == "store.closed" {
                    tracing::debug!(saga = %due.id, kind = due.kind, ?error, "a saga can't be taken");
                    return None;
                }
                tracing::warn!(saga = %due.id, kind = due.kind, ?error, "a saga's outcome could not be written yet");
                tokio::time::sleep(Duration::from_millis(rest_ms)).await;
                rest_ms = (rest_ms * 2).min(REST_MS.1);
                continue;
            }
            input = match input {
                Input::Failed { .. } => {
                    tracing::error!(saga = %due.id, kind = due.kind, ?error, "a saga's failure could not be written");
                    return None;
                }
                // Several steps together failed: each alone, to see which.
                input if steps == STEPS => {
                    steps = u32::from(matches!(input, Input::More));
                    input
                }
                input => {
                    tracing::warn!(saga = %due.id, kind = due.kind, ?error, "a saga's transaction failed");
                    steps = STEPS;
                    let outcome = if let Input::Outcome(outcome) = input { Some(outcome) } else { None };
                    Input::Failed { error, outcome, leased: !claimed }
                }
            };
        }
    }

    /// Whatever a saga does goes before what begins: it holds stock and money for it. There are never more than may be under way.
    fn call_of(&self, shard: u16, due: &Due) -> store::Call {
        let tenant = tenant_of(due.tenant);
        call_for(tenant, shard_of(&self.store, tenant, shard)).correlation(due.id.to_string()).finishes()
    }

    /// Calls the outside while the lease is renewed.
    async fn call_out(&self, shard: u16, due: &Due, token: i64, called: Called) -> Outcome {
        let Called { call, key, body, attempt, since, timeout_ms } = called;
        let request = Request {
            key,
            body,
            tenant: tenant_of(due.tenant),
            saga: due.id,
            attempt,
            first_called_at: since,
            store: self.store.clone(),
            parts: self.parts.clone(),
        };
        let calling = AssertUnwindSafe(async move { call(request).await }).catch_unwind();
        let calling = tokio::time::timeout(Duration::from_millis(timeout_ms.into()), calling);
        tokio::select! {
            called = calling => match called {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) => {
                    tracing::error!(saga = %due.id, kind = due.kind, "a call panicked");
                    Outcome::Unknown("the call panicked".to_owned())
                }
                Err(_) => Outcome::Unknown(format!("there was no answer within {timeout_ms} ms")),
            },
            never = self.renew(shard, due, token) => match never {},
        }
    }

    async fn renew(&self, shard: u16, due: &Due, token: i64) -> std::convert::Infallible {
        loop {
            tokio::time::sleep(Duration::from_millis((self.config.lease_ms / 3).max(1) as u64)).await;
            let lease = (due.id, token, self.owner, self.config.lease_ms);
            if let Err(error) = self.store.write(self.call_of(shard, due), renew, lease).await {
                tracing::warn!(saga = %due.id, kind = due.kind, ?error, "a lease could not be renewed");
            }
        }
    }

    /// Counts and logs what is committed.
    fn report(&self, due: &Due, told: Vec<Told>) {
        for told in told {
            match told {
                Told::Outcome { key, step, outcome } => {
                    self.metrics.outcome(due.kind, &step, outcome);
                    if let Some(heard) = &self.config.on_outcome {
                        heard(due.kind, &key);
                    }
                }
                Told::Ended(status) => self.metrics.ended(due.kind, status),
                Told::Parked { key, step, reason } => {
                    self.metrics.ended(due.kind, Status::Parked);
                    tracing::error!(saga = %due.id, kind = due.kind, key, step, reason, "a saga is parked for a person");
                }
                Told::Failed { step, reason } => {
                    tracing::warn!(saga = %due.id, kind = due.kind, step, reason, "a saga failed and is tried again");
                }
            }
        }
    }

    async fn measure(&self, shard: u16) -> Result<()> {
        type Counted = (Vec<(String, i64, SagaId)>, Option<(Timestamp,)>, Timestamp);
        let (counts, first, now): Counted = self
            .store
            .read_shard(shard, |read| {
                let now = read.now();
                Ok((read.all(sql::COUNTS, (COUNTED,))?, read.opt(sql::FIRST_DUE, (now,))?, now))
            })
            .await?;
        let of = |status: Status| {
            let found = counts.iter().find(|(stored, _, _)| stored == status.as_str());
            found.map_or((0, 0), |(_, count, oldest)| (*count, (now.unix_ms() - oldest.unix_ms()).max(0)))
        };
        self.metrics.open(shard, of, first.map_or(0, |(at,)| now.ms_since(at).max(0)));
        Ok(())
    }
}

fn renew(tx: &mut Tx<'_>, (id, token, owner, lease_ms): &(SagaId, i64, i64, i64)) -> Result<()> {
    let until = tx.now().plus_ms(*lease_ms);
    tx.exec(sql::RENEW, &keyed(tx.scope(), &(*id, *token, *owner, until))[..])
}

fn end_leases(tx: &mut Tx<'_>, lease_ms: &i64) -> Result<()> {
    let now = tx.now();
    tx.exec(sql::END_LEASES, (now, now.plus_ms(*lease_ms)))
}

fn make_timers(tx: &mut Tx<'_>, timers: &Vec<(&'static str, i64)>) -> Result<()> {
    let now = tx.now();
    for (name, every_ms) in timers {
        let id: SagaId = tx.new_id();
        let row = (id, *name, "timer", 1_u16, Status::Waiting.as_str(), engine::next_tick(now, *every_ms), now, "null");
        tx.exec(sql::START, &keyed(tx.scope(), &row)[..])?;
    }
    Ok(())
}

/// Passes on that this process has committed something for the runner on a lane.
async fn wake(shared: Arc<Shared>, shard: u16, lane: u16) {
    let (mut woken, mut stop) = (shared.store.woken(shard, lane), shared.stop.subscribe());
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            changed = woken.changed() => match changed {
                Ok(()) => shared.looks[usize::from(shard)].notify_one(),
                // The lane has ended.
                Err(_) => return,
            },
        }
    }
}

/// Goes on with a saga whose first step is committed, and says what there is to tell of that.
fn follow(shared: &Arc<Shared>, shard: u16, ridden: Ridden, tasks: &mut JoinSet<Option<(i64, SagaId)>>) {
    let Ridden { due, work, told, seat } = ridden;
    shared.report(&due, told);
    if matches!(work, Work::Rest) {
        return;
    }
    let shared = shared.clone();
    tasks.spawn(async move {
        let _seat = seat;
        if AssertUnwindSafe(shared.go_on(shard, &due, work)).catch_unwind().await.is_err() {
            tracing::error!(saga = %due.id, kind = due.kind, "running a saga panicked");
        }
        None
    });
}

/// Runs what is due on one shard until the runner stops.
async fn drive(shared: Arc<Shared>, shard: u16) {
    let config = &shared.config;
    let (poll, window) = (Duration::from_millis(config.poll_ms.max(1)), config.window.max(1));
    let mut stop = shared.stop.subscribe();
    let mut turns = Turns::new(config.concurrency);
    // Of what was found due: whose it was.
    let mut tasks: JoinSet<Option<(i64, SagaId)>> = JoinSet::new();
    let following = shared.following.lock().unwrap_or_else(PoisonError::into_inner)[usize::from(shard)].take();
    let Some(mut following) = following else { return };
    // Whether to look, whether the last look showed that there is more, and the tenant after which it goes on.
    let (mut look, mut more, mut after) = (true, false, -1);
    // The look that is under way: what rides goes on meanwhile.
    let mut looking: OptionFuture<_> = None.into();
    while !shared.stopping() {
        if looking.is_terminated() && (look || (more && turns.is_empty())) {
            look = false;
            looking = Some(Box::pin(shared.due(shard, window, after)).fuse()).into();
        }
        let mut began = false;
        while let Some(due) = turns.take() {
            began = true;
            shared.under_way.fetch_add(1, Ordering::SeqCst);
            let shared = shared.clone();
            tasks.spawn(async move {
                if AssertUnwindSafe(shared.run(shard, &due)).catch_unwind().await.is_err() {
                    tracing::error!(saga = %due.id, kind = due.kind, "running a saga panicked");
                }
                shared.finished.fetch_add(1, Ordering::SeqCst);
                shared.under_way.fetch_sub(1, Ordering::SeqCst);
                Some((due.tenant, due.id))
            });
        }
        // What is due and could not begin is all under way elsewhere: it is looked for later.
        more &= began || !tasks.is_empty();
        tokio::select! {
            Some(found) = &mut looking, if !looking.is_terminated() => match found {
                Ok((due, full, last)) => {
                    turns.replace(due);
                    (more, after) = (full, if full { last } else { -1 });
                }
                Err(error) => {
                    tracing::warn!(shard, ?error, "due sagas can't be read");
                    more = false;
                }
            },
            Some(done) = tasks.join_next() => {
                for done in std::iter::once(done).chain(std::iter::from_fn(|| tasks.try_join_next())) {
                    if let Ok(Some((tenant, id))) = done {
                        turns.done(tenant, id);
                    }
                }
            }
            Some(ridden) = following.recv() => {
                follow(&shared, shard, ridden, &mut tasks);
                while let Ok(ridden) = following.try_recv() {
                    follow(&shared, shard, ridden, &mut tasks);
                }
            }
            () = shared.looks[usize::from(shard)].notified() => look = true,
            () = tokio::time::sleep(poll) => look = true,
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }
    following.close();
    while let Some(ridden) = following.recv().await {
        follow(&shared, shard, ridden, &mut tasks);
    }
    let ending = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(Duration::from_millis(config.stop_ms), ending).await.is_err() {
        tracing::warn!(shard, "calls were still in flight when the sagas had to stop; they are asked about later");
    }
}

async fn refresh_metrics(shared: Arc<Shared>) {
    let mut stop = shared.stop.subscribe();
    let every = Duration::from_millis(shared.config.metrics_ms.max(1));
    loop {
        for shard in 0..shared.store.shards() {
            if let Err(error) = shared.measure(shard).await {
                tracing::warn!(shard, ?error, "sagas can't be counted");
            }
        }
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(every) => {}
        }
    }
}
