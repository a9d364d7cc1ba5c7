//! The embedded engine: one file, one writer, WAL with `synchronous=FULL`.

use crate::lane::{Committed, Departure, Facts, Fault, LaneEngine, Remains, Stored, Wanted};
use crate::migrate::{self, Migrations};
use crate::once::{ARRIVED, Buckets};
use crate::peekers::Peekers;
use crate::sql::{Sql, numbered_parameters};
use crate::store::Engine;
use crate::tx::{EachRow, Refusal, Session};
use crate::value::{ArgList, Row, Value, ValueRef};
use crate::wall;
use kernel::{Clock, Error, Result, Scope, Timestamp};
use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, ValueRef as SqliteValue};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Frames (pages of 4 KiB) in the WAL at which it is copied back into the database file.
const CHECKPOINT_FRAMES: u64 = 4_096;
/// Frames that are left to the lane at the end of that, while its commands wait; more when more is always written meanwhile.
const LEFT_FRAMES: u64 = 256;
/// How often it is tried to leave the lane no more.
const PASSES: u32 = 8;
/// How many virtual-machine steps pass between two looks at the deadline.
const STEPS_BETWEEN_LOOKS: i32 = 5_000;
/// Statements kept prepared on each connection.
const STATEMENTS: usize = 512;
/// Expired idempotency keys deleted at a time.
const PURGE: u32 = 2_000;
/// Groups between two looks for expired keys among those that arrived from elsewhere.
const PURGE_ARRIVED_EVERY: u32 = 1_024;

/// How far the WAL has grown, shared by the lane and the checkpoint thread.
pub(crate) struct Wal {
    /// The database file, to bring to the disk what is copied into it. Never closed, since that takes all locks of this process off the
    /// file (POSIX), whichever of its connections they belong to: a process has one more file open for each shard that it has opened.
    database: ManuallyDrop<File>,
    /// Frames in the WAL after the last commit.
    frames: AtomicU64,
    /// The checkpoint thread has copied the bulk: the lane finishes, so that the WAL starts again from its beginning.
    nearly_done: AtomicBool,
    closed: AtomicBool,
}

/// A connection with its prepared statements.
pub(crate) struct Connection {
    inner: rusqlite::Connection,
    /// Statements rewritten for SQLite, by the address of their text; those checked for a tenant's scope.
    texts: HashMap<(usize, usize), Prepared>,
    tenant_tables: Arc<HashSet<String>>,
    scope: Scope,
    /// Unix-like microseconds of a monotonic clock until which a statement may run; 0 for ever.
    deadline: Arc<AtomicI64>,
    epoch: Instant,
}

struct Prepared {
    text: Arc<str>,
    walled: bool,
}

struct SqliteRow<'a>(&'a rusqlite::Row<'a>, usize);

impl Row for SqliteRow<'_> {
    fn value(&self, index: usize) -> Result<ValueRef<'_>> {
        let value = self.0.get_ref(index).map_err(|e| Error::internal("a row has fewer columns than are read").caused_by(e))?;
        Ok(match value {
            SqliteValue::Null => ValueRef::Null,
            SqliteValue::Integer(v) => ValueRef::Int(v),
            SqliteValue::Real(v) => ValueRef::Real(v),
            SqliteValue::Text(v) => {
                ValueRef::Text(std::str::from_utf8(v).map_err(|e| Error::internal("a column holds text that is not UTF-8").caused_by(e))?)
            }
            SqliteValue::Blob(v) => ValueRef::Bytes(v),
        })
    }

    fn len(&self) -> usize {
        self.1
    }
}

impl rusqlite::ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let json = |text: Result<String, serde_json::Error>| {
            text.map(|t| ToSqlOutput::Owned(rusqlite::types::Value::Text(t)))
                .map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))
        };
        Ok(match self {
            Value::Null => ToSqlOutput::Borrowed(SqliteValue::Null),
            Value::Int(v) => ToSqlOutput::Borrowed(SqliteValue::Integer(*v)),
            Value::Bool(v) => ToSqlOutput::Borrowed(SqliteValue::Integer(i64::from(*v))),
            Value::Real(v) => ToSqlOutput::Borrowed(SqliteValue::Real(*v)),
            Value::Text(v) => ToSqlOutput::Borrowed(SqliteValue::Text(v.as_bytes())),
            Value::Bytes(v) => ToSqlOutput::Borrowed(SqliteValue::Blob(v)),
            Value::Ints(v) => json(serde_json::to_string(v))?,
            Value::Texts(v) => json(serde_json::to_string(v))?,
        })
    }
}

fn bind(statement: &mut rusqlite::CachedStatement<'_>, args: &ArgList<'_>, text: &str) -> Result<()> {
    let expected = statement.parameter_count();
    if expected != args.len() {
        return Err(Error::internal(format!("{} arguments for {expected} parameters: {text}", args.len())));
    }
    for (index, value) in args.iter().enumerate() {
        statement.raw_bind_parameter(index + 1, value).map_err(|e| sqlite_error(e, text))?;
    }
    Ok(())
}

/// A statement's error as the house's: a broken unique constraint is a conflict, everything else is ours.
pub(crate) fn sqlite_error(error: rusqlite::Error, what: &str) -> Error {
    let code = error.sqlite_error().map(|e| (e.code, e.extended_code));
    match code {
        Some((rusqlite::ErrorCode::ConstraintViolation, 1555 | 2067)) => {
            Error::conflict("store.duplicate", "something with the same unique value exists already").caused_by(error)
        }
        Some((rusqlite::ErrorCode::OperationInterrupted, _)) => {
            Error::unavailable("store.statement_timeout", "the database took longer than the deadline").caused_by(error)
        }
        Some((rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked, _)) => {
            Error::unavailable("store.busy", "the database is held by another process").retry_after_ms(1_000).caused_by(error)
        }
        Some((rusqlite::ErrorCode::DiskFull, _)) => {
            Error::unavailable("store.disk_full", "the disk is full; nothing was done").caused_by(error)
        }
        _ => Error::internal(format!("SQLite failed at: {what}")).caused_by(error),
    }
}

impl Connection {
    /// Opens the file for reading, or for writing too.
    pub(crate) fn open(path: &Path, write: bool, tenant_tables: Arc<HashSet<String>>) -> Result<Connection> {
        let open = || -> rusqlite::Result<rusqlite::Connection> {
            let inner = rusqlite::Connection::open(path)?;
            inner.busy_timeout(Duration::from_secs(5))?;
            inner.set_prepared_statement_cache_capacity(STATEMENTS);
            // The plan of a statement does not depend on its arguments: otherwise SQLite compiles some anew at each call, which was
            // a quarter of the time of reading an order, and the wall would have checked another plan than the one that runs.
            inner.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
            inner.pragma_update(None, "journal_mode", "WAL")?;
            inner.pragma_update(None, "synchronous", "FULL")?;
            inner.pragma_update(None, "wal_autocheckpoint", 0)?;
            inner.pragma_update(None, "temp_store", "MEMORY")?;
            // Not more: a commit that has balanced a tree has SQLite walk over all of its cache, as long as the file is below 1 GiB (pages
            // change places by way of the number at the pending byte, and what is above the file's end is then looked for). With 64 MiB
            // that cost payments a fifth of their rate; what is not there is in the system's cache.
            inner.pragma_update(None, "cache_size", -8_192)?;
            inner.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
            inner.pragma_update(None, "query_only", !write)?;
            Ok(inner)
        };
        let mut inner = open().map_err(|e| sqlite_error(e, "opening the database file"))?;
        let deadline = Arc::new(AtomicI64::new(0));
        let (watched, epoch) = (deadline.clone(), Instant::now());
        inner
            .progress_handler(
                STEPS_BETWEEN_LOOKS,
                Some(move || {
                    let until = watched.load(Ordering::Relaxed);
                    until != 0 && epoch.elapsed().as_micros() as i64 > until
                }),
            )
            .map_err(|e| sqlite_error(e, "setting the progress handler"))?;
        Ok(Connection { inner, texts: HashMap::new(), tenant_tables, scope: Scope::Platform, deadline, epoch })
    }

    /// Bounds the statements that follow; 0 lifts the bound.
    fn limit_ms(&self, ms: u32) {
        let until = if ms == 0 { 0 } else { self.epoch.elapsed().as_micros() as i64 + i64::from(ms) * 1_000 };
        self.deadline.store(until, Ordering::Relaxed);
    }

    /// The text for SQLite; checked against the wall when it is first met in a tenant's scope.
    fn text(&mut self, sql: Sql) -> Result<Arc<str>> {
        let key = (sql.sqlite.as_ptr() as usize, sql.sqlite.len());
        let tenant = matches!(self.scope, Scope::Tenant(_));
        match self.texts.get(&key) {
            Some(prepared) if prepared.walled || !tenant => return Ok(prepared.text.clone()),
            _ => {}
        }
        let text: Arc<str> = numbered_parameters(sql.sqlite).into();
        if tenant {
            wall::check_text(sql.sqlite)?;
            wall::check_plan(&self.inner, &text, &self.tenant_tables)?;
        }
        self.texts.insert(key, Prepared { text: text.clone(), walled: tenant });
        Ok(text)
    }

    fn run<T>(&mut self, sql: Sql, args: &ArgList<'_>, run: impl FnOnce(&mut rusqlite::CachedStatement<'_>) -> Result<T>) -> Result<T> {
        let text = self.text(sql)?;
        let mut statement = self.inner.prepare_cached(&text).map_err(|e| sqlite_error(e, &text))?;
        bind(&mut statement, args, &text)?;
        run(&mut statement)
    }

    fn raw(&self, text: &str) -> Result<()> {
        let mut statement = self.inner.prepare_cached(text).map_err(|e| sqlite_error(e, text))?;
        statement.raw_execute().map(|_| ()).map_err(|e| sqlite_error(e, text))
    }

    /// Runs `read` on one snapshot, bounded in time.
    pub(crate) fn snapshot<T>(&mut self, limit_ms: u32, read: impl FnOnce(&mut dyn Session) -> T) -> Result<T> {
        self.begin_snapshot()?;
        let result = self.bounded(limit_ms, read);
        self.end_snapshot()?;
        Ok(result)
    }

    /// Begins a snapshot, which is taken at its first statement. A panic of the read before may have left one open: it is ended.
    pub(crate) fn begin_snapshot(&mut self) -> Result<()> {
        self.end_snapshot()?;
        self.raw("BEGIN")
    }

    /// Whether a snapshot is open.
    pub(crate) fn in_snapshot(&self) -> bool {
        !self.inner.is_autocommit()
    }

    /// Ends the snapshot, if one is open.
    pub(crate) fn end_snapshot(&mut self) -> Result<()> {
        if self.in_snapshot() { self.raw("ROLLBACK") } else { Ok(()) }
    }

    /// Runs `read` on what is open, bounded in time.
    pub(crate) fn bounded<T>(&mut self, limit_ms: u32, read: impl FnOnce(&mut dyn Session) -> T) -> T {
        self.limit_ms(limit_ms);
        let result = read(self);
        self.limit_ms(0);
        result
    }
}

impl Session for Connection {
    fn query(&mut self, sql: Sql, args: ArgList<'_>, each: &mut dyn FnMut(&dyn Row) -> Result<()>) -> Result<()> {
        self.run(sql, &args, |statement| {
            let columns = statement.column_count();
            let mut rows = statement.raw_query();
            while let Some(row) = rows.next().map_err(|e| sqlite_error(e, sql.sqlite))? {
                each(&SqliteRow(row, columns))?;
            }
            Ok(())
        })
    }

    fn write(&mut self, sql: Sql, args: ArgList<'_>, refusal: Option<Refusal>) -> Result<()> {
        let changed = self.count(sql, args)?;
        match refusal {
            Some(refusal) if changed != 1 => Err(refusal()),
            _ => Ok(()),
        }
    }

    fn write_each(&mut self, sql: Sql, rows: &mut EachRow<'_>) -> Result<()> {
        let text = self.text(sql)?;
        let mut statement = self.inner.prepare_cached(&text).map_err(|e| sqlite_error(e, &text))?;
        rows(&mut |args| {
            bind(&mut statement, &args, &text)?;
            statement.raw_execute().map(|_| ()).map_err(|e| sqlite_error(e, sql.sqlite))
        })
    }

    fn count(&mut self, sql: Sql, args: ArgList<'_>) -> Result<u64> {
        self.run(sql, &args, |statement| statement.raw_execute().map(|n| n as u64).map_err(|e| sqlite_error(e, sql.sqlite)))
    }

    fn control(&mut self, text: &'static str) -> Result<()> {
        self.raw(text)
    }

    fn enter(&mut self, scope: Scope) -> Result<()> {
        self.scope = scope;
        Ok(())
    }

    fn settle(&mut self) -> Result<()> {
        Ok(())
    }

    fn engine(&self) -> Engine {
        Engine::Sqlite
    }
}

/// The write connection of the only lane.
pub(crate) struct SqliteLane {
    connection: Connection,
    buckets: Buckets,
    /// Whether there are keys that were brought along from another shard; asked as each group begins.
    arrived: bool,
    /// SQLite's number for what other connections have written, as it was when the last group began.
    data_version: i64,
    groups: u32,
    wal: Arc<Wal>,
    peekers: Arc<Peekers>,
    clock: Arc<dyn Clock>,
}

impl SqliteLane {
    pub(crate) fn open(
        path: &Path,
        tenant_tables: Arc<HashSet<String>>,
        wal: Arc<Wal>,
        peekers: Arc<Peekers>,
        clock: Arc<dyn Clock>,
    ) -> Result<SqliteLane> {
        let mut connection = Connection::open(path, true, tenant_tables)?;
        let buckets = Buckets::load(&connection.inner, clock.now().unix_ms()).map_err(|e| sqlite_error(e, "loading idempotency keys"))?;
        let frames = wal.clone();
        connection
            .inner
            .wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages: std::ffi::c_int| {
                frames.frames.store(pages.max(0) as u64, Ordering::Relaxed);
                Ok(())
            }))
            .map_err(|e| sqlite_error(e, "setting the WAL hook"))?;
        Ok(SqliteLane { connection, buckets, arrived: false, data_version: 0, groups: 0, wal, peekers, clock })
    }

    fn stored(&mut self, tenant: i64, hash: &[u8; 16]) -> Result<Option<Stored>> {
        const FIND: &str = "SELECT fingerprint, answer FROM store_once WHERE bucket = ?1 AND tenant_id = ?2 AND hash = ?3";
        let arrived = self.arrived.then_some(ARRIVED);
        for bucket in self.buckets.candidates(tenant, hash).into_iter().chain(arrived) {
            let mut found = None;
            self.connection.query(
                FIND.into(),
                [Value::Int(bucket), Value::Int(tenant), bytes(hash)].into_iter().collect(),
                &mut |row| {
                    found = Some(Stored { fingerprint: row.get(0)?, answer: row.get::<Vec<u8>>(1)?.into() });
                    Ok(())
                },
            )?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Changes when another connection has written to the file.
    fn data_version(&self) -> Result<i64> {
        const VERSION: &str = "PRAGMA data_version";
        let ask = || self.connection.inner.prepare_cached(VERSION)?.query_row([], |row| row.get(0));
        ask().map_err(|e| sqlite_error(e, VERSION))
    }

    fn departures(&mut self) -> Result<HashMap<i64, Departure>> {
        const DEPARTURES: &str = "SELECT tenant, shard, state FROM store_departures";
        let mut departures = HashMap::new();
        self.connection.query(DEPARTURES.into(), ArgList::new(), &mut |row| {
            let arrived = row.get::<String>(2)? == "moved";
            departures.insert(row.get(0)?, Departure { shard: row.get(1)?, arrived });
            Ok(())
        })?;
        Ok(departures)
    }

    fn leave(&mut self, remains: Remains, now: Timestamp) -> Result<()> {
        const EVENT: &str =
            "INSERT INTO store_events (tenant_id, event_id, lane, sequence, kind, version, subject, occurred_at, correlation_id, payload)
            VALUES (?1, ?2, 0, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        const LAST: &str = "UPDATE store_lanes SET last_sequence = ?1, last_event_id = ?2 WHERE lane = 0";
        const ONCE: &str =
            "INSERT INTO store_once (bucket, tenant_id, hash, fingerprint, answer, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        self.connection.scope = Scope::Platform;
        let event = |event: &crate::lane::NumberedEvent, write: &mut dyn FnMut(ArgList<'_>) -> Result<()>| {
            let fields = &event.emitted.event;
            let list: ArgList<'_> = [
                Value::Int(event.emitted.tenant.map_or(0, |t| t.as_i64())),
                Value::Int(event.id),
                Value::Int(event.sequence),
                text(fields.kind),
                Value::Int(fields.version.into()),
                text(&fields.subject),
                Value::Int(now.micros()),
                event.emitted.correlation.as_deref().map_or(Value::Null, text),
                text(&fields.payload),
            ]
            .into_iter()
            .collect();
            write(list)
        };
        if !remains.events.is_empty() {
            self.connection.write_each(EVENT.into(), &mut |write| remains.events.iter().try_for_each(|e| event(e, write)))?;
            let last = [Value::Int(remains.last_sequence), Value::Int(remains.last_event_id)];
            self.connection.write(LAST.into(), last.into_iter().collect(), None)?;
        }
        for stored in &remains.stored {
            self.buckets.note(stored.tenant, &stored.hash);
            let list: ArgList<'_> = [
                Value::Int(self.buckets.open_bucket()),
                Value::Int(stored.tenant),
                bytes(&stored.hash),
                bytes(&stored.stored.fingerprint),
                bytes(&stored.stored.answer),
                Value::Int(now.micros()),
            ]
            .into_iter()
            .collect();
            self.connection.write(ONCE.into(), list, None)?;
        }
        Ok(())
    }

    /// Housekeeping between groups, each piece short.
    fn tidy(&mut self) -> rusqlite::Result<()> {
        let now_ms = self.clock.now().unix_ms();
        if self.buckets.due(now_ms) {
            self.buckets.seal(&self.connection.inner, now_ms)?;
        }
        self.buckets.purge(&self.connection.inner, now_ms, PURGE)?;
        self.groups = self.groups.wrapping_add(1);
        if self.arrived && self.groups.is_multiple_of(PURGE_ARRIVED_EVERY) {
            Buckets::purge_arrived(&self.connection.inner, now_ms, PURGE)?;
        }
        if self.wal.nearly_done.swap(false, Ordering::AcqRel) {
            // One that is kept from before the last commit would keep the last frame from being copied.
            self.peekers.end_snapshots();
            checkpoint(&self.connection.inner)?;
            // Snapshots that begin now need nothing of the WAL, if all of it is copied; with the older ones gone, it starts again at the
            // next write.
            self.peekers.changed();
            self.peekers.end_snapshots();
        }
        Ok(())
    }
}

fn text(value: &str) -> Value<'_> {
    Value::Text(value.into())
}

fn bytes(value: &[u8]) -> Value<'_> {
    Value::Bytes(value.into())
}

impl Session for SqliteLane {
    fn query(&mut self, sql: Sql, args: ArgList<'_>, each: &mut dyn FnMut(&dyn Row) -> Result<()>) -> Result<()> {
        self.connection.query(sql, args, each)
    }
    fn write(&mut self, sql: Sql, args: ArgList<'_>, refusal: Option<Refusal>) -> Result<()> {
        self.connection.write(sql, args, refusal)
    }
    fn write_each(&mut self, sql: Sql, rows: &mut EachRow<'_>) -> Result<()> {
        self.connection.write_each(sql, rows)
    }
    fn count(&mut self, sql: Sql, args: ArgList<'_>) -> Result<u64> {
        self.connection.count(sql, args)
    }
    fn control(&mut self, text: &'static str) -> Result<()> {
        self.connection.control(text)
    }
    fn enter(&mut self, scope: Scope) -> Result<()> {
        self.connection.enter(scope)
    }
    fn settle(&mut self) -> Result<()> {
        Ok(())
    }
    fn engine(&self) -> Engine {
        Engine::Sqlite
    }
}

impl LaneEngine for SqliteLane {
    fn begin(&mut self, wanted: &Wanted, _: Timestamp) -> Result<Facts> {
        const LAST: &str = "SELECT last_sequence, last_event_id FROM store_lanes WHERE lane = 0";
        self.connection.scope = Scope::Platform;
        self.connection.raw("BEGIN IMMEDIATE")?;
        self.connection.limit_ms(wanted.statement_ms);
        let version = self.data_version()?;
        let alone = std::mem::replace(&mut self.data_version, version) == version;
        if !alone {
            self.peekers.changed();
        }
        let mut facts = Facts { alone, departures: self.departures()?, ..Facts::default() };
        self.connection.query(LAST.into(), ArgList::new(), &mut |row| {
            facts.last_sequence = row.get(0)?;
            facts.last_event_id = row.get(1)?;
            Ok(())
        })?;
        if !wanted.keys.is_empty() {
            const ANY_ARRIVED: &str = "SELECT EXISTS (SELECT 1 FROM store_once WHERE bucket = 0)";
            let mut any = false;
            self.connection.query(ANY_ARRIVED.into(), ArgList::new(), &mut |row| {
                any = row.get(0)?;
                Ok(())
            })?;
            self.arrived = any;
        }
        for (tenant, hash) in &wanted.keys {
            if let Some(stored) = self.stored(*tenant, hash)? {
                facts.stored.insert((*tenant, *hash), stored);
            }
        }
        Ok(facts)
    }

    fn savepoint(&mut self) -> Result<()> {
        self.connection.raw("SAVEPOINT command")
    }

    fn release(&mut self) -> Result<()> {
        self.connection.raw("RELEASE command")
    }

    fn rollback_to(&mut self) -> Result<()> {
        self.connection.raw("ROLLBACK TO command")?;
        self.connection.raw("RELEASE command")
    }

    fn commit(&mut self, remains: Remains, now: Timestamp) -> Committed {
        self.connection.limit_ms(0);
        // An error of COMMIT leaves the transaction open, and nothing of it stands once it is rolled back.
        let left = self.leave(remains, now);
        self.peekers.committing();
        let result = left.and_then(|()| self.connection.raw("COMMIT"));
        self.peekers.committed();
        result.map_or_else(Committed::No, |()| Committed::Yes)
    }

    fn rollback(&mut self) {
        self.connection.limit_ms(0);
        // Some errors have rolled back already; then there is nothing left to roll back.
        if !self.connection.inner.is_autocommit()
            && let Err(error) = self.connection.raw("ROLLBACK")
        {
            tracing::error!(?error, "rolling back failed");
        }
    }

    fn fault(&mut self) -> Fault {
        // SQLite rolls back by itself on a full disk or an I/O error: then the group is over.
        if self.connection.inner.is_autocommit() { Fault::Retry } else { Fault::None }
    }

    fn reconnect(&mut self) -> Result<()> {
        Ok(())
    }

    fn between(&mut self) {
        if let Err(error) = self.tidy() {
            tracing::warn!(%error, "housekeeping between groups failed and is tried again");
            self.rollback();
        }
    }

    fn group_limit(&self) -> usize {
        512
    }
}

/// What is known of a file before its lane starts.
pub(crate) struct PreparedFile {
    pub tenant_tables: Arc<HashSet<String>>,
    /// The last sequence of each lane that the log has; a log that was restored from PostgreSQL has several, of which one runs.
    pub sequences: Vec<i64>,
}

/// What a shard is answered with whose restore broke off.
pub(crate) fn half_restored() -> Error {
    Error::failed_precondition("store.half_restored", "a restore of this shard broke off: restore it again, into an empty place")
}

/// Makes the file and its folder when they are missing, and migrates it.
pub(crate) fn prepare_file(path: &Path, migrations: &[Migrations], now: Timestamp) -> Result<PreparedFile> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|e| {
            Error::unavailable("store.data_folder", format!("the data folder {} can't be made", folder.display())).caused_by(e)
        })?;
    }
    let mut connection = Connection::open(path, true, Arc::default())?.inner;
    let sets: Vec<Migrations> = std::iter::once(migrate::store_migrations()).chain(migrations.iter().copied()).collect();
    migrate::run_sqlite(&mut connection, &sets, now)?;
    let restoring: i64 = connection
        .query_row("SELECT count(*) FROM store_meta WHERE key = 'restoring'", [], |row| row.get(0))
        .map_err(|e| sqlite_error(e, "reading the shard's state"))?;
    if restoring > 0 {
        return Err(half_restored());
    }
    let read = || -> rusqlite::Result<PreparedFile> {
        connection.execute("INSERT INTO store_lanes (lane, last_sequence) VALUES (0, 0) ON CONFLICT DO NOTHING", [])?;
        let mut lanes = connection.prepare("SELECT last_sequence FROM store_lanes ORDER BY lane")?;
        let sequences = lanes.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<i64>>>()?;
        let mut tables = connection
            .prepare("SELECT m.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' AND c.name = 'tenant_id'")?;
        let tenant_tables = tables.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<HashSet<String>>>()?;
        Ok(PreparedFile { tenant_tables: Arc::new(tenant_tables), sequences })
    };
    read().map_err(|e| sqlite_error(e, "reading the schema"))
}

/// Copies what it can of the WAL into the file. Says how many frames are copied.
fn checkpoint(connection: &rusqlite::Connection) -> rusqlite::Result<u64> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| Ok(row.get::<_, i64>(2)?.max(0) as u64))
}

/// Copies the WAL beside the lane, and what has come meanwhile, until little is left. Says whether the lane may end it: not while a reader
/// holds it back. What is copied is on the disk by then: SQLite leaves that to whoever copies the last frame, and the lane would wait for
/// every page of the checkpoint, 10 to 20 ms at a time. Errors: the file's; then it is tried again.
fn copy_bulk(connection: &rusqlite::Connection, wal: &Wal, peekers: &Peekers) -> Result<bool> {
    let mut before = 0;
    for _ in 0..PASSES {
        peekers.end_snapshots();
        let copied = checkpoint(connection).map_err(|e| sqlite_error(e, "a checkpoint"))?;
        let late = |e| Error::unavailable("store.unavailable", "a checkpoint's pages can't be brought to the disk").caused_by(e);
        wal.database.sync_data().map_err(late)?;
        if copied + LEFT_FRAMES >= wal.frames.load(Ordering::Relaxed) {
            return Ok(true);
        }
        if copied == before {
            return Ok(false);
        }
        before = copied;
    }
    // So much is written that there is always more: the lane ends it with what is left.
    Ok(true)
}

/// The checkpoint thread: copies the bulk of the WAL beside the lane, and leaves the rest to it. The WAL starts again from its
/// beginning when the lane has copied its last frame and no reader needs it, so it stays near [`CHECKPOINT_FRAMES`] pages.
pub(crate) fn checkpoint_loop(path: PathBuf, wal: Arc<Wal>, peekers: Arc<Peekers>) {
    let connection = match Connection::open(&path, true, Arc::default()) {
        Ok(connection) => connection.inner,
        Err(error) => {
            tracing::error!(?error, "the checkpoint thread can't open the database");
            return;
        }
    };
    let mut done_at = 0;
    while !wal.closed.load(Ordering::Acquire) {
        std::thread::sleep(Duration::from_millis(20));
        peekers.end_snapshots();
        let frames = wal.frames.load(Ordering::Relaxed);
        if frames < done_at {
            done_at = 0;
        }
        if frames < CHECKPOINT_FRAMES || frames < done_at + CHECKPOINT_FRAMES / 8 {
            continue;
        }
        match copy_bulk(&connection, &wal, &peekers) {
            Ok(may_end) => {
                done_at = wal.frames.load(Ordering::Relaxed);
                if may_end {
                    wal.nearly_done.store(true, Ordering::Release);
                }
            }
            Err(error) => tracing::warn!(?error, "a checkpoint failed and is tried again"),
        }
    }
    // Leaves a short WAL for the next start.
    if let Err(error) = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
        tracing::warn!(%error, "the last checkpoint failed; the next start replays the WAL");
    }
}

impl Wal {
    /// Of a file that is there.
    pub(crate) fn open(path: &Path) -> Result<Wal> {
        let database = File::open(path).map_err(|e| {
            Error::unavailable("store.unavailable", format!("the database file {} can't be opened", path.display())).caused_by(e)
        })?;
        Ok(Wal {
            database: ManuallyDrop::new(database),
            frames: AtomicU64::new(0),
            nearly_done: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        })
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }
}
