//! The store: shards, their directory, and the calls that commands and reads come through.

use crate::call::{Call, Once, OnceKey};
use crate::copy::{Database, aside};
use crate::event::{Event, Position};
use crate::job::{Codec, Command, Job, SetCommand, SetFunction, json_codec};
use crate::lane::{Departure, Forward, Lane, LaneEngine};
use crate::metrics::StoreMetrics;
use crate::migrate::Migrations;
use crate::observe::{Change, Observer, Observers};
use crate::peekers::Peekers;
use crate::queue::{Bounds, Queue};
use crate::reader::{PEEK_MS, READ_MS, ReadEngine as _, Readers, Reading, read_once};
use crate::replica::{CommitPosition, MAX_REPLICAS, Mark, ReplicaConnection, Replicas, SYSTEM, WRITTEN, Wal};
use crate::rider::{Rider, Riders};
use crate::sql::Sql;
use crate::tx::{Read, Tx};
use crate::value::{Args, FromRow, Row};
use crate::{postgres, sqlite};
use kernel::{Clock, Error, IdGenerator, Result, Scope, TenantId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

/// Which engine a shard runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// A file, in this process.
    Sqlite,
    /// A database of a PostgreSQL 15+ server.
    Postgres,
}

/// Where a shard's data is.
#[derive(Clone, Debug)]
pub enum ShardConfig {
    /// An SQLite file, created when it is missing.
    Sqlite {
        /// Path of the file.
        path: PathBuf,
    },
    /// A PostgreSQL database.
    Postgres {
        /// `postgres://user:password@host:port/database`.
        url: String,
        /// Lanes made when the shard is new; an existing shard keeps its own number.
        lanes: u16,
        /// Whether connections are sessions of their own: statements are prepared under names, and readers and lanes are set up once. Off
        /// behind a pooler in transaction mode, which would lend a session with its settings to others.
        prepared: bool,
        /// URLs of streaming replicas that [`Store::read_at`] may ask; at most 16. Their role needs no rights but those on the primary.
        replicas: Vec<String>,
    },
}

/// How a store is set up.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The shards; the first is the home of tenants that the directory does not place elsewhere.
    pub shards: Vec<ShardConfig>,
    /// Read connections for each shard.
    pub readers: usize,
    /// The most commands that wait on one lane.
    pub queue_commands: usize,
    /// The most bytes that wait on one lane.
    pub queue_bytes: usize,
    /// The most commands of one tenant that wait.
    pub queue_tenant_commands: usize,
    /// The longest that a command is expected to wait when it is accepted, in milliseconds; 0 for no such bound. As long as no
    /// more than 64 commands are ahead of it, it is always accepted.
    pub queue_wait_ms: u32,
}

impl StoreConfig {
    /// One SQLite file with the default bounds.
    pub fn sqlite(path: impl Into<PathBuf>) -> StoreConfig {
        StoreConfig::with_shards(vec![ShardConfig::Sqlite { path: path.into() }])
    }

    /// One PostgreSQL database with four lanes and the default bounds.
    pub fn postgres(url: impl Into<String>) -> StoreConfig {
        StoreConfig::with_shards(vec![ShardConfig::Postgres { url: url.into(), lanes: 4, prepared: true, replicas: Vec::new() }])
    }

    /// These shards with the default bounds: 2 readers each; 16,384 commands, 64 MiB, 4,096 commands of one
    /// tenant, and an expected wait of 25 ms on each lane.
    pub fn with_shards(shards: Vec<ShardConfig>) -> StoreConfig {
        StoreConfig {
            shards,
            readers: 2,
            queue_commands: 16_384,
            queue_bytes: 64 * 1024 * 1024,
            queue_tenant_commands: 4_096,
            queue_wait_ms: 25,
        }
    }
}

/// Lets the planner know what the tables of a shard hold now, which after a bulk load it would only learn about a minute later, and
/// plan badly until then. Blocks, for seconds at most: the server looks at a sample. Safe beside work of any kind.
/// Does nothing on SQLite: there a plan rests on the schema alone, so that what the wall has checked is what runs.
/// Errors: `store.unavailable`.
pub fn analyze(shard: &ShardConfig) -> Result<()> {
    match shard {
        ShardConfig::Sqlite { .. } => Ok(()),
        ShardConfig::Postgres { .. } => aside(|| Database::open(shard)?.batch("ANALYZE")),
    }
}

/// Time and ids, which a test replaces.
#[derive(Clone)]
pub struct Environment {
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where ids come from.
    pub ids: Arc<IdGenerator>,
}

/// A handle on the shards; cheap to clone. Dropping the last one ends the lanes after what they have accepted is answered.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct LaneHandle {
    queue: Arc<Queue>,
    committed: watch::Receiver<i64>,
    woken: watch::Receiver<()>,
}

pub(crate) struct Shard {
    pub config: ShardConfig,
    /// The lanes that run.
    lanes: Vec<LaneHandle>,
    /// The last sequence, at the start, of each lane that the log has: those that run, and on SQLite those of a PostgreSQL shard from
    /// which it was restored.
    sequences: Vec<i64>,
    readers: Arc<Readers>,
    /// Read connections for reads on the calling thread (SQLite).
    peekers: Arc<Peekers>,
    replicas: Option<Replicas>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    wal: Option<Arc<sqlite::Wal>>,
}

struct Inner {
    shards: Vec<Shard>,
    /// Tenants that live on another shard than the home.
    directory: RwLock<HashMap<TenantId, u16>>,
    environment: Environment,
    observers: Observers,
    riders: Riders,
    metrics: StoreMetrics,
}

/// Events that one look at a lane goes over.
const MAX_LOOK: i64 = 100_000;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    fn shard_of(&self, tenant: TenantId) -> u16 {
        self.directory.read().unwrap_or_else(PoisonError::into_inner).get(&tenant).copied().unwrap_or(0)
    }

    fn submit(&self, job: Box<dyn Job>) -> Result<()> {
        let call = job.call();
        let (shard, lane) = match (call.on, call.scope) {
            (Some(place), _) => place,
            (None, Scope::Platform) => (0, 0),
            (None, Scope::Tenant(tenant)) => {
                let shard = self.shard_of(tenant);
                (shard, lane_of(tenant, self.shards[usize::from(shard)].lanes.len() as u16))
            }
        };
        let lanes = self.shards.get(usize::from(shard)).map_or(&[][..], |s| &s.lanes);
        let known = lanes.get(usize::from(lane)).or(lanes.first());
        let lane = known.ok_or_else(|| Error::internal(format!("there is no shard {shard}")))?;
        lane.queue.push(job).map_err(|(_, error)| error)
    }

    /// Sends a command on to the shard where its tenant lives by now.
    fn forward(&self, job: Box<dyn Job>, departure: Departure) {
        if let Some(tenant) = job.call().scope.tenant() {
            if let Some(shard) = self.shards.get(usize::from(departure.shard)) {
                shard.tenants_arrive();
            }
            self.directory.write().unwrap_or_else(PoisonError::into_inner).insert(tenant, departure.shard);
            let lanes = self.shards.get(usize::from(departure.shard)).map_or(0, |s| s.lanes.len() as u16);
            if lanes > 0 {
                let lane = &self.shards[usize::from(departure.shard)].lanes[usize::from(lane_of(tenant, lanes))];
                if let Err((job, error)) = lane.queue.push(job) {
                    job.finish(Err(error));
                }
                return;
            }
        }
        job.finish(Err(Error::unavailable("store.unknown_shard", "the tenant has moved to a shard that this node is not configured for")));
    }
}

impl Shard {
    /// Called before anyone looks here for a tenant that lived elsewhere: what was brought along was committed by no lane.
    fn tenants_arrive(&self) {
        self.peekers.changed();
        if let Some(replicas) = &self.replicas {
            replicas.arrived();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for shard in &self.shards {
            close_shard(shard);
        }
    }
}

fn close_shard(shard: &Shard) {
    for lane in &shard.lanes {
        lane.queue.close();
    }
    shard.readers.close();
    if let Some(replicas) = &shard.replicas {
        replicas.close();
    }
    if let Some(wal) = &shard.wal {
        wal.close();
    }
    // Their snapshots would keep the last checkpoint from copying all.
    shard.peekers.close();
    let threads = std::mem::take(&mut *locked(&shard.threads));
    for thread in threads {
        if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
            tracing::error!("a thread of the store ended by a panic");
        }
    }
}

/// The lane of a tenant: the same on every node, and evenly spread (SplitMix64's finaliser).
pub(crate) fn lane_of(tenant: TenantId, lanes: u16) -> u16 {
    let mut z = tenant.as_i64() as u64;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) % u64::from(lanes.max(1))) as u16
}

impl Store {
    /// Opens (and migrates) every shard. Blocks; may be called inside an async runtime at start.
    /// Errors: `store.unavailable` when a database can't be reached; what [`crate::migrate`] refuses.
    pub fn open(config: StoreConfig, migrations: &[Migrations], environment: Environment) -> Result<Store> {
        // Engines block on runtimes of their own, which is forbidden on a thread of another runtime.
        std::thread::scope(|scope| {
            let opening = scope.spawn(|| Store::open_here(config, migrations, environment));
            opening.join().unwrap_or_else(|_| Err(Error::internal("opening the store panicked")))
        })
    }

    fn open_here(config: StoreConfig, migrations: &[Migrations], environment: Environment) -> Result<Store> {
        if config.shards.is_empty() {
            return Err(Error::invalid("store.no_shards", "a store needs at least one shard"));
        }
        let metrics = StoreMetrics::new();
        let weak: Arc<OnceLock<Weak<Inner>>> = Arc::default();
        let target = weak.clone();
        let forward: Forward = Arc::new(move |job, departure| match target.get().and_then(Weak::upgrade) {
            Some(inner) => inner.forward(job, departure),
            None => job.finish(Err(Error::unavailable("store.closed", "the store is shutting down"))),
        });
        let (observers, riders) = (Observers::default(), Riders::default());
        let mut shards = Vec::new();
        for (number, shard) in config.shards.iter().enumerate() {
            let number = u16::try_from(number).map_err(|_| Error::invalid("store.too_many_shards", "at most 65,535 shards"))?;
            shards.push(open_shard(number, shard, &config, migrations, &environment, &metrics, &forward, &observers, &riders)?);
        }
        let inner = Arc::new(Inner { shards, directory: RwLock::default(), environment, observers, riders, metrics });
        // The cell was made above and is set once.
        let _ = weak.set(Arc::downgrade(&inner));
        let store = Store { inner };
        store.load_directory()?;
        Ok(store)
    }

    /// Reads where tenants live that are not at home. Other nodes' moves become known through the lanes at once for commands, and
    /// through this for reads.
    fn load_directory(&self) -> Result<()> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().build().map_err(|e| Error::internal("a runtime can't be built").caused_by(e))?;
        runtime.block_on(self.refresh_directory())
    }

    /// Reads the directory of tenants again; a node does so about once a second when several nodes share PostgreSQL. Also looks where
    /// the shards with replicas stand: a replica that lags behind that is asked no more, and nobody reads what is older than this.
    pub async fn refresh_directory(&self) -> Result<()> {
        let looked: Vec<Option<u64>> = self.inner.shards.iter().map(|s| s.replicas.as_ref().map(Replicas::arrivals)).collect();
        let placed: Vec<(TenantId, u16)> = self.read_shard(0, |read| read.all("SELECT tenant, shard FROM store_directory", ())).await?;
        let placed: HashMap<TenantId, u16> = placed.into_iter().collect();
        let moved = *self.inner.directory.read().unwrap_or_else(PoisonError::into_inner) != placed;
        // Before anyone reads a tenant where it is now: a replica there may not have its rows yet.
        for (shard, arrivals) in looked.into_iter().enumerate() {
            let (Some(replicas), Some(arrivals)) = (&self.inner.shards[shard].replicas, arrivals) else { continue };
            match self.written(shard as u16).await {
                Ok(at) => replicas.raise(at, arrivals),
                Err(error) => {
                    tracing::warn!(shard, ?error, "it can't be learnt how far a primary is written");
                    if moved {
                        replicas.arrived();
                    }
                }
            }
        }
        self.inner.shards.iter().for_each(|shard| shard.peekers.changed());
        *self.inner.directory.write().unwrap_or_else(PoisonError::into_inner) = placed;
        Ok(())
    }

    /// Runs a command on its tenant's lane and answers after its commit is durable. The command may run several times, so it has no
    /// effect but through `Tx`. Errors: the command's own; `store.overloaded` when the queue is full; `store.deadline`;
    /// `store.unavailable` when the database is away; `store.unknown_outcome` when the commit's fate can't be learnt.
    pub async fn write<C, T, F>(&self, call: impl Into<Call>, command: F, data: C) -> Result<T>
    where
        C: Send + 'static,
        T: Send + 'static,
        F: Fn(&mut Tx<'_>, &C) -> Result<T> + Send + 'static,
    {
        Ok(self.submit(call.into(), None, command, data).await?.value)
    }

    /// The same under an idempotency key: the first success is stored with its answer, which later calls get.
    /// Errors: as [`Store::write`], and `idempotency.key_reused`.
    pub async fn write_once<C, T, F>(&self, call: impl Into<Call>, key: OnceKey, command: F, data: C) -> Result<Once<T>>
    where
        C: Send + 'static,
        T: Serialize + DeserializeOwned + Send + 'static,
        F: Fn(&mut Tx<'_>, &C) -> Result<T> + Send + 'static,
    {
        self.submit(call.into(), Some((key, json_codec())), command, data).await
    }

    /// Runs a command whose neighbours of the same tenant and the same function, as far as they are queued together, are handed
    /// over at once, so that a hot path costs statements for a set and not for each command. `set` answers for each of its members
    /// in order. It decides first and writes then: what it refuses a member for is the member's alone, and it must not have written
    /// anything for it. An error of the whole makes each member run alone, in a savepoint of its own.
    /// Errors: as [`Store::write`]; with a key as [`Store::write_once`].
    pub async fn write_set<C, T>(&self, call: impl Into<Call>, key: Option<OnceKey>, set: SetFunction<C, T>, data: C) -> Result<Once<T>>
    where
        C: Send + Sync + 'static,
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        let once = key.map(|key| (key, json_codec()));
        let (reply, answer) = oneshot::channel();
        let inner = Command { call: call.into(), once, data, run: set, answer: None, submitted: Instant::now(), reply };
        self.inner.submit(Box::new(SetCommand { inner }))?;
        answer.await.unwrap_or_else(|_| Err(lane_ended()))
    }

    async fn submit<C, T, F>(&self, call: Call, once: Option<(OnceKey, Codec<T>)>, run: F, data: C) -> Result<Once<T>>
    where
        C: Send + 'static,
        T: Send + 'static,
        F: Fn(&mut Tx<'_>, &C) -> Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.inner.submit(Box::new(Command { call, once, data, run, answer: None, submitted: Instant::now(), reply }))?;
        answer.await.unwrap_or_else(|_| Err(lane_ended()))
    }

    /// Reads on a snapshot of the scope's shard, on a thread made for it. On the platform's scope: the home shard.
    pub async fn read<T, F>(&self, scope: impl Into<Scope>, read: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Read<'_>) -> Result<T> + Send + 'static,
    {
        self.read_within(scope, READ_MS, read).await
    }

    /// The same with a deadline of its own in milliseconds, for an audit or an export. While it runs SQLite's WAL only grows.
    pub async fn read_within<T, F>(&self, scope: impl Into<Scope>, deadline_ms: u32, read: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Read<'_>) -> Result<T> + Send + 'static,
    {
        let scope = scope.into();
        let shard = scope.tenant().map_or(0, |tenant| self.inner.shard_of(tenant));
        self.shard(shard)?.readers.read(scope, Reading::Snapshot(deadline_ms), self.inner.environment.clock.now(), read).await
    }

    /// A read of a few rows by key. SQLite answers on the calling thread, in microseconds; PostgreSQL as in [`Store::read`].
    pub async fn peek<T, F>(&self, scope: impl Into<Scope>, read: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Read<'_>) -> Result<T> + Send + 'static,
    {
        let scope = scope.into();
        let shard = self.shard(scope.tenant().map_or(0, |tenant| self.inner.shard_of(tenant)))?;
        self.peek_on(shard, scope, Reading::Snapshot(READ_MS), read).await
    }

    /// [`Store::peek`] for all rows of one statement, on the platform's scope: on PostgreSQL the transaction around it costs several times
    /// the statement.
    pub async fn peek_statement<R: FromRow + Send + 'static>(
        &self,
        sql: impl Into<Sql>,
        args: impl Args + Send + 'static,
    ) -> Result<Vec<R>> {
        let sql = sql.into();
        self.peek_on(self.shard(0)?, Scope::Platform, Reading::Statement, move |read| read.all(sql, args)).await
    }

    async fn peek_on<T, F>(&self, shard: &Shard, scope: Scope, reading: Reading, read: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Read<'_>) -> Result<T> + Send + 'static,
    {
        let now = self.inner.environment.clock.now();
        match shard.peekers.lend() {
            Some(mut peeker) => {
                let mut result = None;
                read_once(&mut peeker, Reading::Snapshot(PEEK_MS), scope, now, read, |answer| result = Some(answer));
                result.unwrap_or_else(|| Err(Error::internal("a read ended without an answer")))
            }
            None => shard.readers.read(scope, reading, now, read).await,
        }
    }

    /// Whether the database of the platform's scope has answered a read within so long: what tells one that is away from one that is busy.
    pub fn answered_within(&self, time: Duration) -> bool {
        self.inner.shards.first().is_some_and(|home| home.readers.answered_within(time))
    }

    /// [`Store::read`], where a replica may answer (on PostgreSQL, when there are some): one that has everything that this node's
    /// commands in the scope have committed, and everything up to `after`. What others have committed since may be missing. It waits
    /// some milliseconds for a replica to come so far; then, and whatever is wrong with a replica, the primary answers. So `read` may run
    /// twice. Not for decisions: what a command rests on it reads itself.
    pub async fn read_at<T, F>(&self, scope: impl Into<Scope>, after: Option<CommitPosition>, read: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut Read<'_>) -> Result<T> + Send + Sync + 'static,
    {
        let (scope, read) = (scope.into(), Arc::new(read));
        match self.read_on_replica(scope, after, &read).await {
            Some(result) => result,
            None => self.read(scope, move |view| read(view)).await,
        }
    }

    /// [`Store::peek`], where a replica may answer as in [`Store::read_at`].
    pub async fn peek_at<T, F>(&self, scope: impl Into<Scope>, after: Option<CommitPosition>, read: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut Read<'_>) -> Result<T> + Send + Sync + 'static,
    {
        let (scope, read) = (scope.into(), Arc::new(read));
        match self.read_on_replica(scope, after, &read).await {
            Some(result) => result,
            None => self.peek(scope, move |view| read(view)).await,
        }
    }

    async fn read_on_replica<T, F>(&self, scope: Scope, after: Option<CommitPosition>, read: &Arc<F>) -> Option<Result<T>>
    where
        T: Send + 'static,
        F: Fn(&mut Read<'_>) -> Result<T> + Send + Sync + 'static,
    {
        let shard = self.inner.shards.get(usize::from(scope.tenant().map_or(0, |tenant| self.inner.shard_of(tenant))))?;
        shard.replicas.as_ref()?.read(scope, after, READ_MS, self.inner.environment.clock.now(), read).await
    }

    /// How far the commands in this scope have come that this node has answered, for [`Store::read_at`] on another node. None where
    /// the scope's shard has no replicas, and when it can't be learnt because the primary is away.
    pub async fn position(&self, scope: impl Into<Scope>) -> Option<CommitPosition> {
        let scope = scope.into();
        let shard = scope.tenant().map_or(0, |tenant| self.inner.shard_of(tenant));
        let position = self.inner.shards.get(usize::from(shard))?.replicas.as_ref()?.wanted(scope);
        if position.is_known() { Some(position) } else { Some(CommitPosition::of(shard, self.written(shard).await.ok()?)) }
    }

    /// How far the log of a shard's primary is written.
    async fn written(&self, shard: u16) -> Result<Wal> {
        self.read_shard(shard, |read| {
            let mut at = Wal::UNKNOWN;
            read.each(WRITTEN, (), |row| {
                at = Wal::from_written(row)?;
                Ok(())
            })?;
            Ok(at)
        })
        .await
    }

    /// Reads on the platform's scope of one shard.
    pub async fn read_shard<T, F>(&self, shard: u16, read: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Read<'_>) -> Result<T> + Send + 'static,
    {
        let now = self.inner.environment.clock.now();
        self.shard(shard)?.readers.read(Scope::Platform, Reading::Snapshot(READ_MS), now, read).await
    }

    pub(crate) fn shard(&self, number: u16) -> Result<&Shard> {
        self.inner.shards.get(usize::from(number)).ok_or_else(|| Error::internal(format!("there is no shard {number}")))
    }

    /// [`analyze`] for one shard, on a thread for what blocks. For the end of a bulk load.
    pub async fn analyze(&self, shard: u16) -> Result<()> {
        let config = self.shard(shard)?.config.clone();
        let done = tokio::task::spawn_blocking(move || analyze(&config)).await;
        done.map_err(|e| Error::internal("a thread of the store panicked").caused_by(e))?
    }

    /// Lets the planner know of the tables that have come to hold something, or several times as much as it knows of. It has planned for
    /// them when they were all but empty, where any index that begins with the tenant is as good as another, and goes on with those plans;
    /// PostgreSQL itself looks once a minute. Says which they were. Nothing on SQLite. Errors: `store.unavailable`.
    pub async fn analyze_grown(&self, shard: u16) -> Result<Vec<String>> {
        const FEW: i64 = 50;
        const TIMES: i64 = 3;
        const LIMIT: std::time::Duration = std::time::Duration::from_secs(60);
        const GROWN: &str = "SELECT s.relname::text FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid
            WHERE s.schemaname = current_schema() AND s.n_live_tup >= $1 AND s.n_live_tup >= CAST($2 AS BIGINT) * c.reltuples
              AND pg_has_role(session_user, c.relowner, 'USAGE')";
        let ShardConfig::Postgres { url, .. } = &self.shard(shard)?.config else { return Ok(Vec::new()) };
        let tables: Vec<String> = self
            .read_shard(shard, |read| Ok(read.all::<(String,)>(GROWN, (FEW, TIMES))?.into_iter().map(|(name,)| name).collect()))
            .await?;
        for table in &tables {
            // Each alone: what is known of one is not lost because another takes too long.
            let analyze = format!("ANALYZE (SKIP_LOCKED) \"{}\"", table.replace('"', "\"\""));
            let text = format!("BEGIN; SET LOCAL statement_timeout = '30s'; SET LOCAL lock_timeout = '1s'; {analyze}; COMMIT");
            crate::postgres::run_aside(url, &text, LIMIT).await?;
        }
        Ok(tables)
    }

    /// How many shards there are; they are numbered from 0, and 0 is the home.
    pub fn shards(&self) -> u16 {
        self.inner.shards.len() as u16
    }

    /// How many lanes a shard's log has, numbered from 0; none on a shard that is not there. A log that was restored from another
    /// engine may have more lanes than run: a command for one of those runs on lane 0.
    pub fn lanes(&self, shard: u16) -> u16 {
        self.shard(shard).map_or(0, |s| s.sequences.len() as u16)
    }

    /// The engine of a shard; the home's for a shard that is not there.
    pub fn engine(&self, shard: u16) -> Engine {
        let shard = self.inner.shards.get(usize::from(shard)).unwrap_or(&self.inner.shards[0]);
        match shard.config {
            ShardConfig::Sqlite { .. } => Engine::Sqlite,
            ShardConfig::Postgres { .. } => Engine::Postgres,
        }
    }

    /// The shard on which a tenant lives now.
    pub fn shard_of(&self, tenant: TenantId) -> u16 {
        self.inner.shard_of(tenant)
    }

    /// The lane on which a tenant's commands run.
    pub fn lane_of(&self, tenant: TenantId) -> u16 {
        lane_of(tenant, self.shard(self.shard_of(tenant)).map_or(1, |s| s.lanes.len() as u16))
    }

    /// Up to `limit` events of one lane after `after.sequence`, of all tenants, in order.
    pub async fn events_after(&self, after: Position, limit: u32) -> Result<Vec<Event>> {
        const AFTER: &str = "SELECT event_id, lane, sequence, tenant_id, kind, version, subject, occurred_at, correlation_id, payload
            FROM store_events WHERE lane = $1 AND sequence > $2 ORDER BY sequence LIMIT $3";
        let (readers, now) = (&self.shard(after.shard)?.readers, self.inner.environment.clock.now());
        let read = move |read: &mut Read<'_>| read.all::<EventRow>(AFTER, (after.lane, after.sequence, limit));
        let events = readers.read(Scope::Platform, Reading::Statement, now, read).await?;
        Ok(events.into_iter().map(|row| row.on(after.shard)).collect())
    }

    /// Tells `observer` of the events that this process commits from now on, before the commands that emitted them are answered. What other
    /// processes commit is read with [`Store::changes_after`].
    pub fn observe(&self, observer: Observer) {
        self.inner.observers.add(observer);
    }

    /// The events of these kinds that were committed on a lane after `after`, without their payloads; up to which sequence was looked, and
    /// whether that was all. Without an `after`, only where the lane's end is. Errors: `store.unavailable`.
    pub async fn changes_after(&self, shard: u16, lane: u16, after: Option<i64>, kinds: Vec<String>) -> Result<(i64, bool, Vec<Change>)> {
        const LAST: &str = "SELECT last_sequence FROM store_lanes WHERE lane = $1";
        const CHANGES: Sql = Sql::per_engine(
            "SELECT sequence, tenant_id, kind, subject FROM store_events
            WHERE lane = $1 AND sequence > $2 AND sequence <= $3 AND kind IN (SELECT value FROM json_each($4)) ORDER BY sequence",
            "SELECT sequence, tenant_id, kind, subject FROM store_events
            WHERE lane = $1 AND sequence > $2 AND sequence <= $3 AND kind = ANY($4) ORDER BY sequence",
        );
        self.read_shard(shard, move |read| {
            let last: i64 = read.opt(LAST, (lane,))?.map_or(0, |(last,)| last);
            let Some(after) = after.filter(|after| *after < last) else { return Ok((last, true, Vec::new())) };
            // So much in one look, however long nobody has looked.
            let seen = last.min(after + MAX_LOOK);
            let rows: Vec<(i64, i64, String, String)> = read.all(CHANGES, (lane, after, seen, kinds.clone()))?;
            let change = |(sequence, tenant, kind, subject)| Change {
                position: Position { shard, lane: lane as i16, sequence },
                tenant: (tenant != 0).then(|| TenantId::from_i64(tenant)),
                kind,
                subject,
            };
            Ok((seen, seen == last, rows.into_iter().map(change).collect()))
        })
        .await
    }

    /// Up to `limit` events of one tenant on its shard with ids after `after`, in the order of their ids.
    pub async fn tenant_events_after(&self, tenant: TenantId, after: i64, limit: u32) -> Result<Vec<Event>> {
        const AFTER: &str = "SELECT event_id, lane, sequence, tenant_id, kind, version, subject, occurred_at, correlation_id, payload
            FROM store_events WHERE tenant_id = $1 AND event_id > $2 ORDER BY event_id LIMIT $3";
        let shard = self.shard_of(tenant);
        let events: Vec<EventRow> = self.read(tenant, move |read| read.all(AFTER, (after, limit))).await?;
        Ok(events.into_iter().map(|row| row.on(shard)).collect())
    }

    /// Follows the last sequence that this process has committed on a lane, to wake consumers at once. Other nodes' commits do not
    /// show here: whoever follows also looks from time to time. A lane that is not there never moves.
    pub fn committed(&self, shard: u16, lane: u16) -> watch::Receiver<i64> {
        let Some(shard) = self.inner.shards.get(usize::from(shard)) else { return watch::channel(0).1 };
        match shard.lanes.get(usize::from(lane)) {
            Some(running) => running.committed.clone(),
            None => watch::channel(shard.sequences.get(usize::from(lane)).copied().unwrap_or(0)).1,
        }
    }

    /// Ends the patience of the commands that wait on a lane (see [`Call::patience_ms`]). Nothing on a lane that is not there.
    pub fn hurry(&self, shard: u16, lane: u16) {
        if let Some(lane) = self.inner.shards.get(usize::from(shard)).and_then(|s| s.lanes.get(usize::from(lane))) {
            lane.queue.hurry();
        }
    }

    /// Changes when this process has committed a command on a lane that called [`Tx::wake`]. As with [`Store::committed`], whoever
    /// follows also looks from time to time, for what other nodes have done. A lane that is not there never changes.
    pub fn woken(&self, shard: u16, lane: u16) -> watch::Receiver<()> {
        let running = self.inner.shards.get(usize::from(shard)).and_then(|s| s.lanes.get(usize::from(lane)));
        running.map_or_else(|| watch::channel(()).1, |lane| lane.woken.clone())
    }

    /// Who goes on, from now on, with what commands leave in this process; the last one that was set, for as long as it lives.
    pub fn set_rider(&self, rider: Weak<dyn Rider>) {
        self.inner.riders.set(rider);
    }

    /// The clock of this store's environment.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.environment.clock
    }

    /// The id generator of this store's environment.
    pub fn ids(&self) -> &Arc<IdGenerator> {
        &self.inner.environment.ids
    }

    /// Registers queue lengths, group sizes, commit times and replays.
    pub fn register_metrics(&self, registry: &mut prometheus_client::registry::Registry) {
        let queues =
            self.inner.shards.iter().enumerate().flat_map(|(shard, s)| {
                s.lanes.iter().enumerate().map(move |(lane, handle)| (shard as u16, lane as u16, handle.queue.clone()))
            });
        self.inner.metrics.register(registry, queues.collect());
    }

    /// Stops taking commands, answers what was accepted, and ends the lanes.
    pub async fn close(&self) {
        let inner = self.inner.clone();
        let closing = tokio::task::spawn_blocking(move || inner.shards.iter().for_each(close_shard));
        if closing.await.is_err() {
            tracing::error!("closing the store panicked");
        }
    }
}

fn lane_ended() -> Error {
    Error::unknown("store.unknown_outcome", "the lane ended before it answered")
}

struct EventRow(Event);

impl EventRow {
    fn on(mut self, shard: u16) -> Event {
        self.0.position.shard = shard;
        self.0
    }
}

impl FromRow for EventRow {
    fn from_row(row: &dyn Row) -> Result<Self> {
        let tenant: i64 = row.get(3)?;
        Ok(EventRow(Event {
            id: row.get(0)?,
            position: Position { shard: 0, lane: row.get(1)?, sequence: row.get(2)? },
            tenant_id: (tenant != 0).then(|| TenantId::from_i64(tenant)),
            kind: row.get(4)?,
            version: row.get(5)?,
            subject: row.get(6)?,
            occurred_at: row.get(7)?,
            correlation_id: row.get(8)?,
            payload: row.get(9)?,
        }))
    }
}

fn spawn(threads: &mut Vec<JoinHandle<()>>, name: String, run: impl FnOnce() + Send + 'static) -> Result<()> {
    let thread =
        std::thread::Builder::new().name(name).spawn(run).map_err(|e| Error::internal("a thread can't be started").caused_by(e))?;
    threads.push(thread);
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "the parts of a shard, named once")]
fn open_shard(
    number: u16,
    shard: &ShardConfig,
    config: &StoreConfig,
    migrations: &[Migrations],
    environment: &Environment,
    metrics: &StoreMetrics,
    forward: &Forward,
    observers: &Observers,
    riders: &Riders,
) -> Result<Shard> {
    let now = environment.clock.now();
    let readers = Arc::new(Readers::new());
    let mut threads = Vec::new();
    let mut lanes = Vec::new();
    let peekers = Arc::new(Peekers::default());
    let mut wal = None;
    let mut replicas = None;
    let sequences;
    match shard {
        ShardConfig::Sqlite { path } => {
            let prepared = sqlite::prepare_file(path, migrations, now)?;
            let shared = Arc::new(sqlite::Wal::open(path)?);
            let engine =
                sqlite::SqliteLane::open(path, prepared.tenant_tables.clone(), shared.clone(), peekers.clone(), environment.clock.clone())?;
            sequences = prepared.sequences;
            let last = sequences.first().copied().unwrap_or(0);
            lanes.push(start_lane(number, 0, engine, last, config, environment, metrics, forward, observers, riders, &mut threads)?);
            for reader in 0..config.readers.max(1) {
                let engine = sqlite::Connection::open(path, false, prepared.tenant_tables.clone())?;
                let queue = readers.clone();
                spawn(&mut threads, format!("read-{number}-{reader}"), move || queue.work(engine))?;
                peekers.add(sqlite::Connection::open(path, false, prepared.tenant_tables.clone())?);
            }
            let (file, watched, kept) = (path.clone(), shared.clone(), peekers.clone());
            spawn(&mut threads, format!("checkpoint-{number}"), move || sqlite::checkpoint_loop(file, watched, kept))?;
            wal = Some(shared);
        }
        ShardConfig::Postgres { url, lanes: wanted, prepared, replicas: replica_urls } => {
            if replica_urls.len() > MAX_REPLICAS {
                return Err(Error::invalid("store.too_many_replicas", format!("a shard has at most {MAX_REPLICAS} replicas")));
            }
            sequences = postgres::prepare_database(url, *wanted, migrations, now)?;
            let marks: Vec<Mark> = sequences.iter().filter(|_| !replica_urls.is_empty()).map(|_| Mark::default()).collect();
            for (lane, last) in (0..).zip(sequences.iter().copied()) {
                let mark = marks.get(usize::from(lane)).cloned();
                let engine = postgres::PostgresLane::open(url, *prepared, lane, sequences.len() as u16, mark)?;
                lanes.push(start_lane(number, lane, engine, last, config, environment, metrics, forward, observers, riders, &mut threads)?);
            }
            for reader in 0..config.readers.max(1) {
                let engine = postgres::Connection::open(url, *prepared)?;
                let queue = readers.clone();
                spawn(&mut threads, format!("read-{number}-{reader}"), move || queue.work(engine))?;
            }
            if !replica_urls.is_empty() {
                let queues = open_replicas(number, url, replica_urls, *prepared, config.readers.max(1))?;
                replicas = Some(Replicas::new(number, marks, queues, metrics.replicas(number)));
            }
        }
    }
    Ok(Shard { config: shard.clone(), lanes, sequences, readers, peekers, replicas, threads: Mutex::new(threads), wal })
}

/// Starts the threads that read on replicas, which need not be there. Gives each replica's queue.
fn open_replicas(number: u16, primary: &str, replicas: &[String], prepared: bool, readers: usize) -> Result<Vec<Arc<Readers>>> {
    let answer =
        postgres::Connection::unconnected(primary, prepared)?.ask_alone(SYSTEM, std::time::Duration::from_millis(READ_MS.into()))?;
    let system: i64 = (&answer as &dyn Row).get(0)?;
    let mut queues = Vec::new();
    // Not waited for at the end: one may hang on a replica that says nothing more.
    let mut threads = Vec::new();
    for (replica, url) in replicas.iter().enumerate() {
        let queue = Arc::new(Readers::new());
        for reader in 0..readers {
            let mut engine = ReplicaConnection::new(url, prepared, system)?;
            let waiting = queue.clone();
            spawn(&mut threads, format!("replica-{number}-{replica}-{reader}"), move || {
                // Connected before the first read comes, if it is there.
                let _ = engine.replayed(Wal::default());
                waiting.work(engine);
            })?;
        }
        queues.push(queue);
    }
    Ok(queues)
}

#[expect(clippy::too_many_arguments, reason = "the parts of a lane, named once")]
fn start_lane(
    shard: u16,
    number: u16,
    engine: impl LaneEngine + Send + 'static,
    last_sequence: i64,
    config: &StoreConfig,
    environment: &Environment,
    metrics: &StoreMetrics,
    forward: &Forward,
    observers: &Observers,
    riders: &Riders,
    threads: &mut Vec<JoinHandle<()>>,
) -> Result<LaneHandle> {
    let bounds = Bounds {
        commands: config.queue_commands,
        bytes: config.queue_bytes,
        tenant_commands: config.queue_tenant_commands,
        wait_ms: config.queue_wait_ms,
    };
    let queue = Arc::new(Queue::new(bounds));
    let (committed, watched) = watch::channel(last_sequence);
    let (woken, awake) = watch::channel(());
    let lane = Lane {
        shard,
        number,
        engine,
        queue: queue.clone(),
        clock: environment.clock.clone(),
        ids: environment.ids.clone(),
        committed,
        woken,
        memory: crate::tx::Memory::default(),
        forward: forward.clone(),
        observers: observers.clone(),
        riders: riders.clone(),
        metrics: metrics.lane(shard, number),
    };
    spawn(threads, format!("lane-{shard}-{number}"), move || lane.run())?;
    Ok(LaneHandle { queue, committed: watched, woken: awake })
}
