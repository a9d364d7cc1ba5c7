//! The durable queue: what waits is in the file, and by id in memory, where its order and its bounds are kept.

use super::Metrics;
use crate::lock::FolderLock;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use kernel::{Actor, ActorKind, Error, Result, Scope, TenantId, Timestamp};
use ring::digest;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use store::{Call, Environment, Migration, Migrations, Read, Store, StoreConfig, Tx};
use tokio::sync::Notify;
use web::{Deferred, Intake, IntakeId, IntakeState, Mode, TakenIn};

const MIGRATIONS: Migrations =
    Migrations { module: "intake", steps: &[Migration { number: 1, name: "first", sql: include_str!("queue_migrations/0001_first.sql") }] };
/// When whoever finds it full may try again, in milliseconds.
const FULL_MS: u32 = 10_000;
/// The longest that the file is read at the start, in milliseconds.
const LOAD_MS: u32 = 60_000;
/// What ended is kept for so long, in milliseconds: two days, of which one is promised.
const KEEP_MS: i64 = 48 * 3_600_000;
/// What the rows of one request are beside its body, in bytes, about.
const ROW_BYTES: usize = 512;

const BY_KEY: &str = "SELECT intake_id, fingerprint FROM intake_requests WHERE tenant_id = $1 AND request_key = $2";
const INSERT: &str = "INSERT INTO intake_requests (tenant_id, intake_id, request_key, fingerprint, actor_kind, actor_id, request_id, path, body, state, taken_in_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'waiting', $10)";
const ONE: &str =
    "SELECT state, location, code, detail, taken_in_at, ended_at FROM intake_requests WHERE tenant_id = $1 AND intake_id = $2";
const REQUEST: &str = "SELECT request_key, actor_kind, actor_id, request_id, path, body, taken_in_at FROM intake_requests
    WHERE tenant_id = $1 AND intake_id = $2";
const END: &str = "UPDATE intake_requests SET state = $3, location = $4, code = $5, detail = $6, ended_at = $7, body = $8
    WHERE tenant_id = $1 AND intake_id = $2";
const WAITING: &str =
    "SELECT tenant_id, intake_id, length(body), taken_in_at FROM intake_requests WHERE state = 'waiting' ORDER BY intake_id";
const PURGE: &str = "DELETE FROM intake_requests WHERE state <> 'waiting' AND ended_at < $1";

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Orders.
    pub orders: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Orders of one tenant.
    pub tenant_orders: usize,
}

impl Bounds {
    /// No more.
    pub(super) const NOTHING: Bounds = Bounds { orders: 0, bytes: 0, tenant_orders: 0 };
}

/// What waits: how large it is, and since when.
struct Entry {
    id: IntakeId,
    bytes: usize,
    taken_in_at: Timestamp,
}

#[derive(Default)]
struct Waiting {
    /// Each tenant's, the oldest first. No tenant without any.
    tenants: BTreeMap<TenantId, VecDeque<Entry>>,
    /// What waits, and what is being written down.
    orders: usize,
    bytes: usize,
    /// Being written down, by tenant.
    arriving: BTreeMap<TenantId, usize>,
    /// Whose turn was last.
    last: Option<TenantId>,
}

/// A request that waits, as it is done.
pub(super) struct Due {
    /// The key under which it is done.
    pub key: String,
    pub request: Deferred,
    pub taken_in_at: Timestamp,
}

/// What became of a request.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub intake_id: IntakeId,
    pub state: IntakeState,
    pub location: Option<String>,
    pub code: Option<String>,
    pub detail: Option<String>,
    pub taken_in_at: Timestamp,
    pub ended_at: Timestamp,
}

/// The queue of this node.
pub(crate) struct Queue {
    store: Store,
    bounds: Bounds,
    node: u16,
    waiting: Mutex<Waiting>,
    /// Tells that something has arrived.
    pub(super) arrived: Notify,
    pub(super) metrics: Metrics,
    /// Nobody else writes to the folder.
    _lock: FolderLock,
}

impl Queue {
    /// Opens the file and finds what waits in it. Errors: those of [`Store::open`].
    pub(super) async fn open(path: &Path, lock: FolderLock, bounds: Bounds, environment: Environment, node: u16) -> Result<Queue> {
        let config = StoreConfig { readers: 1, queue_wait_ms: 0, ..StoreConfig::sqlite(path) };
        let store = Store::open(config, &[MIGRATIONS], environment)?;
        let mut waiting = Waiting::default();
        let found = store.read_within(Scope::Platform, LOAD_MS, |read| read.all::<(TenantId, IntakeId, i64, Timestamp)>(WAITING, ()));
        for (tenant, id, bytes, taken_in_at) in found.await? {
            let bytes = bytes as usize + ROW_BYTES;
            waiting.tenants.entry(tenant).or_default().push_back(Entry { id, bytes, taken_in_at });
            waiting.orders += 1;
            waiting.bytes += bytes;
        }
        if waiting.orders > 0 {
            tracing::info!(orders = waiting.orders, "orders that were taken in wait to be placed");
        }
        let (waiting, metrics) = (Mutex::new(waiting), Metrics::default());
        let queue = Queue { store, bounds, node, waiting, arrived: Notify::new(), metrics, _lock: lock };
        queue.measure(&queue.lock());
        Ok(queue)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn measure(&self, waiting: &Waiting) {
        self.metrics.waiting.set(waiting.orders as i64);
        self.metrics.waiting_bytes.set(waiting.bytes as i64);
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(super) fn now(&self) -> Timestamp {
        self.store.clock().now()
    }

    pub(super) async fn close(&self) {
        self.store.close().await;
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().tenants.is_empty()
    }

    /// How many orders wait.
    pub(super) fn orders(&self) -> usize {
        self.lock().orders
    }

    /// For the health checks.
    pub(super) fn health(&self) -> (Mode, String) {
        let waiting = self.lock();
        let oldest = waiting.tenants.values().filter_map(VecDeque::front).map(|entry| entry.taken_in_at).min();
        let Some(oldest) = oldest else { return (Mode::Normal, "nothing waits".to_owned()) };
        let (orders, since) = (waiting.orders, self.now().ms_since(oldest).max(0) / 1_000);
        let full = if self.full(&waiting) { "; no more are taken in" } else { "" };
        (Mode::Degraded, format!("{orders} orders wait to be placed, the oldest for {since} s{full}"))
    }

    fn full(&self, waiting: &Waiting) -> bool {
        waiting.orders >= self.bounds.orders || waiting.bytes >= self.bounds.bytes
    }

    /// Keeps room for one more. Errors: `intake.full`.
    fn make_room(&self, tenant: TenantId, bytes: usize) -> Result<()> {
        let mut waiting = self.lock();
        let own = waiting.tenants.get(&tenant).map_or(0, VecDeque::len) + waiting.arriving.get(&tenant).copied().unwrap_or(0);
        if self.full(&waiting) || waiting.bytes + bytes > self.bounds.bytes || own >= self.bounds.tenant_orders {
            self.metrics.turned_away.inc();
            return Err(Error::overloaded("intake.full", "the database is away, and as much waits for it as may; it was not taken in")
                .retry_after_ms(FULL_MS));
        }
        waiting.orders += 1;
        waiting.bytes += bytes;
        *waiting.arriving.entry(tenant).or_default() += 1;
        Ok(())
    }

    /// What room was kept for is there, or it is not.
    fn arrive(&self, tenant: TenantId, bytes: usize, entry: Option<Entry>) {
        let mut waiting = self.lock();
        if let Some(left) = waiting.arriving.get_mut(&tenant) {
            *left -= 1;
            if *left == 0 {
                waiting.arriving.remove(&tenant);
            }
        }
        match entry {
            Some(entry) => waiting.tenants.entry(tenant).or_default().push_back(entry),
            None => {
                waiting.orders -= 1;
                waiting.bytes -= bytes;
            }
        }
        self.measure(&waiting);
    }

    async fn write_down(&self, request: Deferred) -> Result<TakenIn> {
        let (tenant, bytes, hash) = (request.tenant, request.body.len() + ROW_BYTES, fingerprint(&request));
        let given = request.key.clone();
        // What is taken in already needs no room.
        if let Some(known) = self.store.peek(tenant, move |read| given.map_or(Ok(None), |key| known(read, &key, &hash))).await? {
            return self.found(tenant, known).await;
        }
        self.make_room(tenant, bytes)?;
        let (intake_id, taken_in_at) = (self.store.ids().next(), self.now());
        let key = request.key.clone().unwrap_or_else(|| intake_id.to_string());
        let call = Call::new(tenant).bytes(bytes);
        let written = self.store.write(call, insert, New { intake_id, key, hash, taken_in_at, request }).await;
        let new = matches!(written, Ok((_, true)));
        self.arrive(tenant, bytes, new.then_some(Entry { id: intake_id, bytes, taken_in_at }));
        let (known, _) = written?;
        if new {
            self.metrics.taken_in.inc();
            self.arrived.notify_one();
        }
        self.found(tenant, known).await
    }

    async fn found(&self, tenant: TenantId, intake_id: IntakeId) -> Result<TakenIn> {
        self.find(tenant, intake_id).await?.ok_or_else(|| Error::internal("what was just taken in is not there"))
    }

    /// One that this node has taken in.
    pub(super) async fn find(&self, tenant: TenantId, intake_id: IntakeId) -> Result<Option<TakenIn>> {
        self.store.peek(tenant, move |read| taken_in(read, intake_id)).await
    }

    /// Whether this node has made the id.
    pub(super) fn made(&self, intake_id: IntakeId) -> bool {
        // The node's ten bits stand above the sequence's twelve.
        (intake_id.as_i64() >> 12) & 0x3FF == i64::from(self.node)
    }

    /// The oldest of up to `most` tenants that may take their turn now, those first whose turn it is.
    pub(super) fn heads(&self, most: usize, may: impl Fn(TenantId) -> bool) -> Vec<(TenantId, IntakeId)> {
        let mut waiting = self.lock();
        let after = waiting.last.map_or(Bound::Unbounded, Bound::Excluded);
        let up_to = waiting.last.map_or(Bound::Unbounded, Bound::Included);
        let turn = waiting.tenants.range((after, Bound::Unbounded));
        // From the beginning again, up to where the turn began.
        let again = waiting.last.map(|_| waiting.tenants.range((Bound::Unbounded, up_to))).into_iter().flatten();
        let heads: Vec<_> = turn
            .chain(again)
            .filter(|(tenant, _)| may(**tenant))
            .filter_map(|(tenant, own)| Some((*tenant, own.front()?.id)))
            .take(most)
            .collect();
        waiting.last = heads.last().map_or(waiting.last, |(tenant, _)| Some(*tenant));
        heads
    }

    /// A request that waits.
    pub(super) async fn due(&self, tenant: TenantId, intake_id: IntakeId) -> Result<Due> {
        type Columns = (String, String, i64, String, String, Vec<u8>, Timestamp);
        let row = self.store.peek(tenant, move |read| read.one::<Columns>(REQUEST, (intake_id,))).await?;
        let (key, kind, id, request_id, path, body, taken_in_at) = row;
        let kind = if kind == "api_key" { ActorKind::ApiKey } else { ActorKind::User };
        let actor = Actor { kind, id };
        let request = Deferred { tenant, actor, request_id: request_id.into(), path, key: Some(key.clone()), body: body.into() };
        Ok(Due { key, request, taken_in_at })
    }

    /// Notes what became of a request, and forgets its body.
    pub(super) async fn end(&self, tenant: TenantId, outcome: Outcome) -> Result<()> {
        let (intake_id, placed) = (outcome.intake_id, outcome.state == IntakeState::Placed);
        self.store.write(tenant, end, outcome).await?;
        if placed { &self.metrics.placed } else { &self.metrics.refused }.inc();
        let mut waiting = self.lock();
        let Some(own) = waiting.tenants.get_mut(&tenant) else { return Ok(()) };
        let Some(at) = own.iter().position(|entry| entry.id == intake_id) else { return Ok(()) };
        let gone = own.remove(at).map_or(0, |entry| entry.bytes);
        if own.is_empty() {
            waiting.tenants.remove(&tenant);
        }
        waiting.orders -= 1;
        waiting.bytes -= gone;
        self.measure(&waiting);
        Ok(())
    }

    /// Forgets what ended long ago.
    pub(super) async fn purge(&self) -> Result<()> {
        let before = Timestamp::from_micros(self.now().micros() - KEEP_MS * 1_000);
        self.store.write(Scope::Platform, |tx: &mut Tx<'_>, before: &Timestamp| tx.exec(PURGE, (*before,)), before).await
    }
}

impl Intake for Queue {
    fn take_in(self: Arc<Self>, request: Deferred) -> BoxFuture<'static, Result<TakenIn>> {
        // A task of its own: what is written down is placed, also when its caller has gone meanwhile.
        let written = tokio::spawn(async move { self.write_down(request).await });
        written.map(|done| done.unwrap_or_else(|e| Err(Error::internal("taking something in panicked").caused_by(e)))).boxed()
    }

    fn has_room(&self) -> bool {
        !self.full(&self.lock())
    }
}

/// Where the state of something that was taken in can be asked for.
pub(super) fn status_url(intake_id: IntakeId) -> String {
    format!("/api/v1/order-intake/{intake_id}")
}

fn fingerprint(request: &Deferred) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(request.path.as_bytes());
    context.update(b"\n");
    context.update(&request.body);
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

struct New {
    intake_id: IntakeId,
    key: String,
    hash: [u8; 32],
    taken_in_at: Timestamp,
    request: Deferred,
}

/// The request that was taken in under a key. Errors: `idempotency.key_reused` if that is another one.
fn known(read: &mut Read<'_>, key: &str, hash: &[u8; 32]) -> Result<Option<IntakeId>> {
    match read.opt::<(IntakeId, [u8; 32])>(BY_KEY, (key,))? {
        Some((_, other)) if other != *hash => {
            Err(Error::conflict("idempotency.key_reused", "this idempotency key was used for another request"))
        }
        found => Ok(found.map(|(intake_id, _)| intake_id)),
    }
}

/// Writes a request down, unless its key is known. Gives its id, and whether it is new. Errors: `idempotency.key_reused`.
fn insert(tx: &mut Tx<'_>, new: &New) -> Result<(IntakeId, bool)> {
    if let Some(known) = known(tx, &new.key, &new.hash)? {
        return Ok((known, false));
    }
    let request = &new.request;
    let kind = if request.actor.kind == ActorKind::ApiKey { "api_key" } else { "user" };
    let who = (kind, request.actor.id);
    let args =
        (new.intake_id, &new.key, new.hash, who.0, who.1, &*request.request_id, &request.path, request.body.to_vec(), new.taken_in_at);
    tx.exec(INSERT, args)?;
    Ok((new.intake_id, true))
}

fn end(tx: &mut Tx<'_>, outcome: &Outcome) -> Result<()> {
    let words = (outcome.location.as_deref(), outcome.code.as_deref(), outcome.detail.as_deref());
    tx.exec(END, (outcome.intake_id, outcome.state.as_str(), words.0, words.1, words.2, outcome.ended_at, Vec::<u8>::new()))
}

fn taken_in(read: &mut Read<'_>, intake_id: IntakeId) -> Result<Option<TakenIn>> {
    type Columns = (String, Option<String>, Option<String>, Option<String>, Timestamp, Option<Timestamp>);
    let Some((state, location, code, detail, taken_in_at, ended_at)) = read.opt::<Columns>(ONE, (intake_id,))? else { return Ok(None) };
    let (state, status_url) = (IntakeState::parse(&state)?, status_url(intake_id));
    Ok(Some(TakenIn { intake_id, state, status_url, location, code, detail, taken_in_at, ended_at }))
}
