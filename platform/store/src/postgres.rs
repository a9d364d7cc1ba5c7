//! PostgreSQL: tokio-postgres on a current-thread runtime for each lane and reader.
//!
//! Writes are sent without waiting and checked when an answer is needed; only reads wait. A group opens with an advisory lock on its
//! lane, sent along with BEGIN at READ COMMITTED, so that one lane has one writer among all nodes. So has one tenant: a group that enters
//! a tenant of another lane, as the log's history does, takes that lane's lock too.

use crate::lane::{Committed, Departure, Facts, Fault, LaneEngine, Remains, Stored, Wanted};
use crate::migrate::{self, Migrations};
use crate::once::KEEP_MS;
use crate::reader::READ_MS;
use crate::replica::{Mark, WRITTEN, Wal};
use crate::sql::Sql;
use crate::store::{Engine, lane_of};
use crate::tx::{Refusal, Session};
use crate::value::{ArgList, Row, Value, ValueRef};
use bytes::BytesMut;
use futures_util::TryStreamExt as _;
use kernel::{Error, Result, Scope, Timestamp};
use std::cell::Cell;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::task::AbortHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, NoTls, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

/// "bran" as a number: the class of the advisory locks of lanes.
pub(crate) const LOCK_CLASS: i32 = 0x6272_616e;
/// Writes that may be under way before an answer is awaited: bounds memory.
const PIPELINE: usize = 1_024;
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// A connection on which nothing has come for so long is probed, and given up when several probes stay unanswered.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// How long after the server should have stopped a statement by itself its answer is waited for. Then the server hangs, or is no longer
/// reached, and the connection is given up.
const GRACE: Duration = Duration::from_secs(2);
/// How long is waited once more before that.
const SECOND_LOOK: Duration = Duration::from_millis(100);
/// How much longer than a statement may take a group may be silent in its transaction before the server ends it, in milliseconds.
const ABANDONED_MS: u32 = 15_000;
/// Until when another attempt to learn what became of a commit begins.
const OUTCOME: Duration = Duration::from_secs(5);
/// Expired idempotency keys deleted at a time.
const PURGE: i64 = 1_000;
/// Groups between two looks for expired keys.
const PURGE_EVERY: u32 = 256;

impl ToSql for Value<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Value::Null => Ok(IsNull::Yes),
            Value::Int(v) => match *ty {
                Type::INT8 => v.to_sql(ty, out),
                Type::INT4 => i32::try_from(*v)?.to_sql(ty, out),
                Type::INT2 => i16::try_from(*v)?.to_sql(ty, out),
                Type::BOOL => (*v != 0).to_sql(ty, out),
                Type::FLOAT8 => (*v as f64).to_sql(ty, out),
                _ => Err(format!("an integer is bound to a parameter of type {ty}").into()),
            },
            Value::Bool(v) => v.to_sql(ty, out),
            Value::Real(v) => v.to_sql(ty, out),
            Value::Text(v) => v.to_sql(ty, out),
            Value::Bytes(v) => v.as_ref().to_sql(ty, out),
            Value::Ints(v) => v.to_sql(ty, out),
            Value::Texts(v) => v.to_sql(ty, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// The type under which a value is sent when statements are not prepared under names.
fn type_of(value: &Value<'_>) -> Type {
    match value {
        Value::Null => Type::UNKNOWN,
        Value::Int(_) => Type::INT8,
        Value::Bool(_) => Type::BOOL,
        Value::Real(_) => Type::FLOAT8,
        Value::Text(_) => Type::TEXT,
        Value::Bytes(_) => Type::BYTEA,
        Value::Ints(_) => Type::INT8_ARRAY,
        Value::Texts(_) => Type::TEXT_ARRAY,
    }
}

/// A statement that gives rows.
enum Question {
    Prepared(Statement),
    Text(&'static str),
}

impl Question {
    async fn ask(&self, client: &Client, args: &[Value<'_>]) -> Result<Vec<tokio_postgres::Row>, tokio_postgres::Error> {
        match self {
            Question::Prepared(statement) => {
                let args: Vec<&(dyn ToSql + Sync)> = args.iter().map(|value| value as _).collect();
                client.query(statement, &args).await
            }
            Question::Text(text) => {
                let args: Vec<(&(dyn ToSql + Sync), Type)> = args.iter().map(|value| (value as _, type_of(value))).collect();
                client.query_typed(text, &args).await
            }
        }
    }
}

pub(crate) struct PostgresRow(tokio_postgres::Row);

impl Row for PostgresRow {
    fn value(&self, index: usize) -> Result<ValueRef<'_>> {
        let column = self.0.columns().get(index).ok_or_else(|| Error::internal("a row has fewer columns than are read"))?;
        let wrong = |e: tokio_postgres::Error| Error::internal(format!("column {} can't be read", column.name())).caused_by(e);
        Ok(match *column.type_() {
            Type::INT8 => self.0.try_get::<_, Option<i64>>(index).map_err(wrong)?.map_or(ValueRef::Null, ValueRef::Int),
            Type::INT4 => self.0.try_get::<_, Option<i32>>(index).map_err(wrong)?.map_or(ValueRef::Null, |v| ValueRef::Int(v.into())),
            Type::INT2 => self.0.try_get::<_, Option<i16>>(index).map_err(wrong)?.map_or(ValueRef::Null, |v| ValueRef::Int(v.into())),
            Type::BOOL => self.0.try_get::<_, Option<bool>>(index).map_err(wrong)?.map_or(ValueRef::Null, |v| ValueRef::Int(v.into())),
            Type::FLOAT8 => self.0.try_get::<_, Option<f64>>(index).map_err(wrong)?.map_or(ValueRef::Null, ValueRef::Real),
            Type::TEXT | Type::VARCHAR | Type::NAME => {
                self.0.try_get::<_, Option<&str>>(index).map_err(wrong)?.map_or(ValueRef::Null, ValueRef::Text)
            }
            Type::BYTEA => self.0.try_get::<_, Option<&[u8]>>(index).map_err(wrong)?.map_or(ValueRef::Null, ValueRef::Bytes),
            ref other => {
                return Err(Error::internal(format!("column {} has type {other}, which is outside the shared subset", column.name())));
            }
        })
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<u64, tokio_postgres::Error>> + Send>>;

struct Pending {
    answer: Answer,
    /// What the answer was, once it has been awaited on the way to a later one.
    done: Option<Result<u64, tokio_postgres::Error>>,
    refusal: Option<Refusal>,
    what: &'static str,
}

/// Takes in the answers that come before the one that is wanted. They arrive in the order of their requests, and the connection reads
/// no further while an earlier one has not been taken: waiting for a later one alone could wait for ever.
async fn take_in(pending: &mut VecDeque<Pending>, watch: &Watch) {
    for earlier in pending.iter_mut().filter(|p| p.done.is_none()) {
        earlier.done = Some(earlier.answer.as_mut().await);
        watch.came();
    }
}

/// Sees to it that nobody waits for ever for a server that hangs: it stops a statement by its deadline, but a server that is stopped
/// itself, or that is no longer reached, says nothing at all.
struct Watch {
    /// How long the next answer may take.
    patience: Duration,
    /// Answers that have come.
    answers: Cell<u64>,
    /// The task that drives the connection.
    driver: Option<AbortHandle>,
}

impl Watch {
    fn came(&self) {
        self.answers.set(self.answers.get().wrapping_add(1));
    }

    /// Waits for `answer` as long as any come. When none does, the connection is given up, and `answer` fails as of one that is closed.
    async fn over<T>(&self, answer: impl Future<Output = T>) -> T {
        let mut answer = std::pin::pin!(answer);
        loop {
            let before = self.answers.get();
            match tokio::time::timeout(self.patience, &mut answer).await {
                Ok(answer) => return answer,
                Err(_) if self.answers.get() != before => {}
                Err(_) => break,
            }
        }
        // After a pause of this process itself the answer may be there, and only has to be read.
        if let Ok(answer) = tokio::time::timeout(SECOND_LOOK, &mut answer).await {
            return answer;
        }
        tracing::warn!(patience = ?self.patience, "PostgreSQL does not answer: a connection is given up");
        if let Some(driver) = &self.driver {
            driver.abort();
        }
        answer.await
    }
}

/// A connection with its runtime, its prepared statements and the writes under way.
pub(crate) struct Connection {
    url: String,
    prepared: bool,
    runtime: Runtime,
    client: Option<Arc<Client>>,
    watch: Watch,
    statements: HashMap<(usize, usize), Statement>,
    pending: VecDeque<Pending>,
    /// The first write that failed since the transaction, or the savepoint, began. It is told at every later look until that is undone:
    /// otherwise whoever happened to look first would bear a neighbour's failure, and the neighbour would be answered as if all were well.
    failed: Option<Error>,
    fault: Fault,
    /// What `app.tenant` and the role are set to in the open transaction.
    scope: Option<Scope>,
    /// The server's timeline at the first connection: another one means a failover.
    timeline: Option<i32>,
    /// Whether the session is set to reading as the platform.
    reads: bool,
}

/// A statement's error as the house's.
fn postgres_error(error: tokio_postgres::Error, what: &str) -> (Error, Fault) {
    if error.is_closed() || error.as_db_error().is_none() && is_io(&error) {
        return (Error::unavailable("store.unavailable", "the database is away").retry_after_ms(1_000).caused_by(error), Fault::Lost);
    }
    let Some(state) = error.code().cloned() else {
        return (Error::internal(format!("PostgreSQL failed at: {what}")).caused_by(error), Fault::None);
    };
    let lost = [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::CONNECTION_FAILURE,
        SqlState::TOO_MANY_CONNECTIONS,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
    ];
    if state == SqlState::UNIQUE_VIOLATION {
        (Error::conflict("store.duplicate", "something with the same unique value exists already").caused_by(error), Fault::None)
    } else if state == SqlState::T_R_DEADLOCK_DETECTED
        || state == SqlState::T_R_SERIALIZATION_FAILURE
        || state == SqlState::LOCK_NOT_AVAILABLE
    {
        (Error::unavailable("store.busy", "other work held the same rows").retry_after_ms(100).caused_by(error), Fault::Retry)
    } else if state == SqlState::QUERY_CANCELED {
        (Error::unavailable("store.statement_timeout", "the database took longer than the deadline").caused_by(error), Fault::None)
    } else if state == SqlState::DISK_FULL {
        (Error::unavailable("store.disk_full", "the disk is full; nothing was done").caused_by(error), Fault::None)
    } else if lost.contains(&state) || state == SqlState::READ_ONLY_SQL_TRANSACTION {
        // A read-only server is a primary that was demoted: connecting again finds the new one.
        (Error::unavailable("store.unavailable", "the database is away").retry_after_ms(1_000).caused_by(error), Fault::Lost)
    } else {
        (Error::internal(format!("PostgreSQL failed at: {what}")).caused_by(error), Fault::None)
    }
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    use std::error::Error as _;
    error.source().is_some_and(|s| s.is::<std::io::Error>())
}

/// Connects, and drives the connection on the calling runtime until it is aborted. `sslmode=require` in the URL asks for TLS with a
/// certificate that the system's roots vouch for (`SSL_CERT_FILE` names others); otherwise the connection is in the clear, as within one
/// machine or network. Errors: `store.invalid_url`, `store.unavailable`.
pub(crate) async fn connect(url: &str) -> Result<(Client, AbortHandle)> {
    let unreachable = || Error::unavailable("store.unavailable", "the database can't be reached").retry_after_ms(1_000);
    let mut config: tokio_postgres::Config = url
        .parse()
        .map_err(|e: tokio_postgres::Error| Error::invalid("store.invalid_url", "not a PostgreSQL connection URL").caused_by(e))?;
    config.connect_timeout(CONNECT / 2).application_name("brandos");
    let idle = config.get_keepalives_idle().min(KEEPALIVE);
    config.keepalives_idle(idle);
    config.keepalives_interval(config.get_keepalives_interval().unwrap_or(KEEPALIVE / 3));
    config.keepalives_retries(config.get_keepalives_retries().unwrap_or(3));
    let connecting = async {
        if config.get_ssl_mode() == SslMode::Require {
            let (tls, _unreadable) = MakeRustlsConnect::with_native_certs().map_err(|e| {
                Error::unavailable("store.unavailable", "the system's root certificates can't be read")
                    .caused_by(Error::internal(format!("{e:?}")))
            })?;
            let (client, connection) = config.connect(tls).await.map_err(|e| unreachable().caused_by(e))?;
            Ok((client, drive(connection)))
        } else {
            let (client, connection) = config.connect(NoTls).await.map_err(|e| unreachable().caused_by(e))?;
            Ok((client, drive(connection)))
        }
    };
    // The client's own limit is for each address, and ends when the socket stands, before the server has said anything.
    let limit = CONNECT * u32::try_from(config.get_hosts().len().max(1)).unwrap_or(1);
    tokio::time::timeout(limit, connecting).await.unwrap_or_else(|_| Err(unreachable()))
}

fn drive(connection: impl Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static) -> AbortHandle {
    let driver = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::warn!(%error, "a PostgreSQL connection ended");
        }
    });
    driver.abort_handle()
}

impl Connection {
    /// Connects. Errors: `store.unavailable`, which names the cause but not the password.
    pub(crate) fn open(url: &str, prepared: bool) -> Result<Connection> {
        let mut connection = Connection::unconnected(url, prepared)?;
        connection.connect()?;
        connection.timeline = connection.read_timeline();
        Ok(connection)
    }

    /// One that connects when it is first used.
    pub(crate) fn unconnected(url: &str, prepared: bool) -> Result<Connection> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Error::internal("a runtime can't be built").caused_by(e))?;
        Ok(Connection {
            url: url.to_owned(),
            prepared,
            runtime,
            client: None,
            watch: Watch { patience: CONNECT, answers: Cell::new(0), driver: None },
            statements: HashMap::new(),
            pending: VecDeque::new(),
            failed: None,
            fault: Fault::None,
            scope: None,
            timeline: None,
            reads: false,
        })
    }

    fn connect(&mut self) -> Result<()> {
        self.client = None;
        self.statements.clear();
        self.pending.clear();
        self.failed = None;
        self.scope = None;
        self.reads = false;
        let (client, driver) = self.runtime.block_on(connect(&self.url))?;
        self.client = Some(Arc::new(client));
        self.watch.driver = Some(driver);
        self.watch.patience = CONNECT;
        self.fault = Fault::None;
        if self.prepared {
            // Lanes of one shard only meet at a few rows, where one of them should give way at once. Needs a right that not every
            // role has; behind a pooler it would leak into other sessions.
            let client = self.client()?;
            let _ = self.runtime.block_on(self.watch.over(client.batch_execute("SET deadlock_timeout = '10ms'")));
        }
        Ok(())
    }

    /// The server's timeline; none where asking is not allowed.
    fn read_timeline(&mut self) -> Option<i32> {
        let client = self.client().ok()?;
        let asked = client.query_typed("SELECT timeline_id FROM pg_control_checkpoint()", &[]);
        let row = self.runtime.block_on(self.watch.over(asked)).ok()?;
        row.first()?.try_get(0).ok()
    }

    fn client(&mut self) -> Result<Arc<Client>> {
        match &self.client {
            Some(client) if !client.is_closed() => Ok(client.clone()),
            _ => {
                self.fault = Fault::Lost;
                Err(Error::unavailable("store.unavailable", "the database is away").retry_after_ms(1_000))
            }
        }
    }

    fn failed(&mut self, error: tokio_postgres::Error, what: &str) -> Error {
        let (error, fault) = postgres_error(error, what);
        if self.fault != Fault::Lost {
            self.fault = fault;
        }
        error
    }

    fn statement(&mut self, client: &Client, text: &'static str) -> Result<Statement> {
        let key = (text.as_ptr() as usize, text.len());
        if let Some(statement) = self.statements.get(&key) {
            return Ok(statement.clone());
        }
        let prepared = self.runtime.block_on(self.watch.over(async {
            take_in(&mut self.pending, &self.watch).await;
            client.prepare(text).await
        }));
        match prepared {
            Ok(statement) => {
                self.statements.insert(key, statement.clone());
                Ok(statement)
            }
            // The transaction may have failed before, at a write that was sent without waiting: that is the error to tell.
            Err(error) => {
                let own = self.failed(error, text);
                Err(self.settle().err().unwrap_or(own))
            }
        }
    }

    /// A question to ask, prepared where statements may be: planning it anew each time costs PostgreSQL several times what answering does.
    fn question(&mut self, client: &Client, text: &'static str) -> Result<Question> {
        if self.prepared { self.statement(client, text).map(Question::Prepared) } else { Ok(Question::Text(text)) }
    }

    /// Sends a write and keeps its answer for later.
    fn send(&mut self, text: &'static str, args: ArgList<'_>, refusal: Option<Refusal>) -> Result<()> {
        let client = self.client()?;
        let values: Vec<Value<'static>> = args.into_iter().map(Value::into_owned).collect();
        let mut answer: Answer = if self.prepared {
            let statement = self.statement(&client, text)?;
            if statement.params().len() != values.len() {
                return Err(Error::internal(format!("{} arguments for {} parameters: {text}", values.len(), statement.params().len())));
            }
            Box::pin(async move { client.execute_raw(&statement, values).await })
        } else {
            Box::pin(async move {
                let typed: Vec<(&(dyn ToSql + Sync), Type)> = values.iter().map(|v| (v as _, type_of(v))).collect();
                client.execute_typed(text, &typed).await
            })
        };
        // The first poll hands the message to the connection. An answer that is there at once is an error.
        if let std::task::Poll::Ready(result) = answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            answer = Box::pin(std::future::ready(result));
        }
        self.pending.push_back(Pending { answer, done: None, refusal, what: text });
        if self.pending.len() >= PIPELINE { self.settle() } else { Ok(()) }
    }

    /// Whether it stands, with no snapshot open that a panic has left (a scope that is still set).
    pub(crate) fn is_usable(&self) -> bool {
        self.fault != Fault::Lost && self.scope.is_none() && self.client.as_ref().is_some_and(|client| !client.is_closed())
    }

    /// Asks outside of any transaction for one row; connects first when it must. Given up, with the connection, after `limit`.
    pub(crate) fn ask_alone(&mut self, text: &str, limit: Duration) -> Result<PostgresRow> {
        if !self.is_usable() {
            self.connect()?;
        }
        let client = self.client()?;
        self.watch.patience = limit;
        match self.runtime.block_on(self.watch.over(client.query_typed(text, &[]))) {
            Ok(rows) => rows.into_iter().next().map(PostgresRow).ok_or_else(|| Error::internal("a question was answered with no row")),
            Err(error) => Err(self.failed(error, text)),
        }
    }

    /// Waits for every write sent so far, and asks along with the last of them how far the server is written.
    fn settle_written(&mut self) -> (Result<()>, Wal) {
        let asked = self.client().map(|client| {
            self.runtime.block_on(self.watch.over(async {
                // Joined, the question is sent before the answers are awaited: no round trip of its own.
                futures_util::future::join(take_in(&mut self.pending, &self.watch), client.query_typed(WRITTEN, &[])).await.1
            }))
        });
        let written = asked.ok().and_then(|rows| written(&rows.ok()?).ok());
        (self.settle(), written.unwrap_or(Wal::UNKNOWN))
    }

    /// Makes ready to read, as the platform; connects first when it must. A connection of its own keeps to reading from then on, so that a
    /// transaction need not say so each time; behind a pooler that would leak into other sessions.
    fn begin_reading(&mut self, limit_ms: u32) -> Result<()> {
        self.failed = None;
        if !self.is_usable() {
            self.connect()?;
        }
        self.fault = Fault::None;
        self.watch.patience = Duration::from_millis(limit_ms.into()) + GRACE;
        if self.prepared && !self.reads {
            let client = self.client()?;
            let reads = format!("SET ROLE brandos_platform; SET statement_timeout = {READ_MS}; SET default_transaction_read_only = on");
            self.runtime.block_on(self.watch.over(client.batch_execute(&reads))).map_err(|error| self.failed(error, "SET ROLE"))?;
            self.reads = true;
        }
        self.scope = Some(Scope::Platform);
        Ok(())
    }

    /// Opens a read-only snapshot, runs `read` and ends it. A lost connection is made again first.
    pub(crate) fn snapshot<T>(&mut self, limit_ms: u32, read: impl FnOnce(&mut dyn Session) -> T) -> Result<T> {
        self.begin_reading(limit_ms)?;
        let mut begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY".to_owned();
        if !self.reads {
            begin += "; SET LOCAL ROLE brandos_platform";
        }
        if !self.reads || limit_ms != READ_MS {
            begin += &format!("; SET LOCAL statement_timeout = {limit_ms}");
        }
        self.batch(begin)?;
        let result = read(self);
        let ended = self.batch("ROLLBACK".to_owned()).and_then(|()| self.settle());
        self.scope = None;
        if let Err(error) = ended {
            // The answer was read from a snapshot that stood: it is good. The connection is made anew at the next read.
            tracing::debug!(?error, "ending a snapshot failed");
            self.fault = Fault::Lost;
        }
        Ok(result)
    }

    /// The same for a `read` of one statement on the platform's scope, with no transaction around it where the session is its own.
    pub(crate) fn statement_alone<T>(&mut self, read: impl FnOnce(&mut dyn Session) -> T) -> Result<T> {
        if !self.prepared {
            return self.snapshot(READ_MS, read);
        }
        self.begin_reading(READ_MS)?;
        let result = read(self);
        self.scope = None;
        Ok(result)
    }

    /// Waits, before any later statement, until no other group writes on this lane, and keeps it from all others until the transaction ends.
    /// Taken each time: a savepoint that is rolled back gives back what was locked in it. Only groups of the first lane do this, so no two
    /// wait for each other's lanes; where one waits for a row of the other besides, the server ends one, and it is run again.
    fn lock_lane(&mut self, lane: u16) -> Result<()> {
        const LOCK: &str = "SELECT pg_advisory_xact_lock(CAST(CAST($1 AS BIGINT) AS INT), CAST(CAST($2 AS BIGINT) AS INT))";
        self.send(LOCK, [Value::Int(LOCK_CLASS.into()), Value::Int(lane.into())].into_iter().collect(), None)
    }

    /// Sends a batch of statements without parameters and keeps its answer for later.
    fn batch(&mut self, text: String) -> Result<()> {
        let client = self.client()?;
        let mut answer: Answer = Box::pin(async move { client.batch_execute(&text).await.map(|()| 0) });
        if let std::task::Poll::Ready(result) = answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            answer = Box::pin(std::future::ready(result));
        }
        self.pending.push_back(Pending { answer, done: None, refusal: None, what: "transaction control" });
        Ok(())
    }
}

impl Session for Connection {
    fn query(&mut self, sql: Sql, args: ArgList<'_>, each: &mut dyn FnMut(&dyn Row) -> Result<()>) -> Result<()> {
        let text = sql.postgres;
        let client = self.client()?;
        let prepared = if self.prepared { Some(self.statement(&client, text)?) } else { None };
        if let Some(statement) = &prepared
            && statement.params().len() != args.len()
        {
            return Err(Error::internal(format!("{} arguments for {} parameters: {text}", args.len(), statement.params().len())));
        }
        let mut inner = Ok(());
        let outcome: Result<(), tokio_postgres::Error> = self.runtime.block_on(self.watch.over(async {
            let asking = async {
                match &prepared {
                    Some(statement) => client.query_raw(statement, args.iter()).await,
                    None => client.query_typed_raw(text, args.iter().map(|v| (v, type_of(v)))).await,
                }
            };
            // Joined, the question is sent before the earlier answers are awaited: one round trip for all.
            let ((), stream) = futures_util::future::join(take_in(&mut self.pending, &self.watch), asking).await;
            let mut stream = std::pin::pin!(stream?);
            while let Some(row) = stream.try_next().await? {
                self.watch.came();
                if let Err(error) = each(&PostgresRow(row)) {
                    inner = Err(error);
                    break;
                }
            }
            Ok(())
        }));
        match outcome {
            Ok(()) => inner,
            Err(error) => {
                let own = self.failed(error, text);
                Err(self.settle().err().unwrap_or(own))
            }
        }
    }

    fn write(&mut self, sql: Sql, args: ArgList<'_>, refusal: Option<Refusal>) -> Result<()> {
        self.send(sql.postgres, args, refusal)
    }

    fn count(&mut self, sql: Sql, args: ArgList<'_>) -> Result<u64> {
        if self.pending.len() + 1 >= PIPELINE {
            // Sending it would take its own answer in, too.
            self.settle()?;
        }
        self.send(sql.postgres, args, None)?;
        let last = self.pending.pop_back();
        self.settle()?;
        let Some(mut last) = last else { return Ok(0) };
        let answer = match last.done.take() {
            Some(done) => done,
            None => self.runtime.block_on(self.watch.over(last.answer)),
        };
        match answer {
            Ok(count) => Ok(count),
            Err(error) => Err(self.failed(error, last.what)),
        }
    }

    fn control(&mut self, text: &'static str) -> Result<()> {
        if text.starts_with("ROLLBACK TO") {
            self.failed = None;
        }
        self.batch(text.to_owned())
    }

    fn enter(&mut self, scope: Scope) -> Result<()> {
        if self.scope == Some(scope) {
            return Ok(());
        }
        let (role, tenant) = match scope {
            Scope::Tenant(tenant) => ("brandos_tenant", tenant.as_i64().to_string()),
            Scope::Platform => ("brandos_platform", String::new()),
        };
        const ENTER: &str = "SELECT set_config('role', $1, true), set_config('app.tenant', $2, true)";
        self.send(ENTER, [Value::Text(role.into()), Value::Text(tenant.into())].into_iter().collect(), None)?;
        self.scope = Some(scope);
        Ok(())
    }

    fn settle(&mut self) -> Result<()> {
        if !self.pending.is_empty() {
            self.runtime.block_on(self.watch.over(take_in(&mut self.pending, &self.watch)));
        }
        for Pending { done, refusal, what, .. } in std::mem::take(&mut self.pending) {
            let failure = match (done, refusal) {
                (Some(Err(error)), _) => self.failed(error, what),
                (Some(Ok(changed)), Some(refusal)) if changed != 1 => refusal(),
                _ => continue,
            };
            // What came after it failed because of it.
            self.failed.get_or_insert(failure);
            break;
        }
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn engine(&self) -> Engine {
        Engine::Postgres
    }
}

/// Runs a text on a connection of its own, for so long at most. Errors: `store.unavailable`.
pub(crate) async fn run_aside(url: &str, text: &str, limit: Duration) -> Result<()> {
    let running = async {
        let (client, _) = connect(url).await?;
        client.batch_execute(text).await.map_err(|error| postgres_error(error, "work aside").0)
    };
    let late = || Error::unavailable("store.unavailable", "the database did not answer in time").retry_after_ms(1_000);
    tokio::time::timeout(limit, running).await.unwrap_or_else(|_| Err(late()))
}

/// Migrates the database and makes its lanes when it is new. Gives each lane's last sequence.
pub(crate) fn prepare_database(url: &str, lanes: u16, migrations: &[Migrations], now: Timestamp) -> Result<Vec<i64>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::internal("a runtime can't be built").caused_by(e))?;
    let sets: Vec<Migrations> = std::iter::once(migrate::store_migrations()).chain(migrations.iter().copied()).collect();
    runtime.block_on(async {
        let failed = |e: tokio_postgres::Error| Error::internal("preparing the lanes failed").caused_by(e);
        let (mut client, _) = connect(url).await?;
        migrate::run_postgres(&mut client, &sets, now).await?;
        let restoring = client.query_typed("SELECT 1 FROM store_meta WHERE key = 'restoring'", &[]).await.map_err(failed)?;
        if !restoring.is_empty() {
            return Err(crate::sqlite::half_restored());
        }
        // Whoever comes first decides how many lanes there are; everybody reads the same number afterwards.
        client
            .execute_typed(
                "INSERT INTO store_meta (key, value) VALUES ('lanes', $1) ON CONFLICT (key) DO NOTHING",
                &[(&lanes.max(1).to_string(), Type::TEXT)],
            )
            .await
            .map_err(failed)?;
        client
            .batch_execute(
                "INSERT INTO store_lanes (lane, last_sequence)
                   SELECT lane, 0 FROM generate_series(0, (SELECT value::bigint - 1 FROM store_meta WHERE key = 'lanes')) AS lane
                 ON CONFLICT (lane) DO NOTHING",
            )
            .await
            .map_err(failed)?;
        let rows = client.query_typed("SELECT last_sequence FROM store_lanes ORDER BY lane", &[]).await.map_err(failed)?;
        rows.iter().map(|row| row.try_get(0).map_err(failed)).collect()
    })
}

/// The row of [`WRITTEN`].
fn written(rows: &[tokio_postgres::Row]) -> Result<Wal> {
    let row = rows.first().cloned().map(PostgresRow).ok_or_else(|| Error::internal("the server does not say how far it is written"))?;
    Wal::from_written(&row)
}

/// The write connection of one lane.
pub(crate) struct PostgresLane {
    connection: Connection,
    number: u16,
    /// How many lanes the shard has.
    lanes: u16,
    /// Where it says how far its commands have come, when the shard has replicas.
    mark: Option<Mark>,
    xid: Option<u64>,
    groups: u32,
}

const LAST: &str =
    "SELECT last_sequence, last_event_id, CAST(CAST(pg_current_xact_id() AS TEXT) AS BIGINT) FROM store_lanes WHERE lane = $1";
const DEPARTURES: &str = "SELECT tenant, shard, state FROM store_departures WHERE tenant = ANY($1)";
/// Each key is looked for by itself: a join may be planned, while the table is small, to go over all of it, and still be when it has grown.
const STORED: &str = "SELECT o.tenant_id, o.hash, o.fingerprint, o.answer FROM unnest($1::bigint[], $2::text[]) AS w(tenant, hash)
    CROSS JOIN LATERAL (SELECT s.tenant_id, s.hash, s.fingerprint, s.answer FROM store_once s
        WHERE s.tenant_id = w.tenant AND s.hash = decode(w.hash, 'hex') LIMIT 1) o";

impl PostgresLane {
    pub(crate) fn open(url: &str, prepared: bool, number: u16, lanes: u16, mark: Option<Mark>) -> Result<PostgresLane> {
        let mut lane = PostgresLane { connection: Connection::open(url, prepared)?, number, lanes, mark, xid: None, groups: 0 };
        lane.keep_to_indexes()?;
        Ok(lane)
    }

    /// A statement that is prepared while its table is small may be planned to go over all of it, and still be when it has grown. Commands
    /// work by key. (Compiling is for long statements, and what is forbidden counts as long.)
    fn keep_to_indexes(&mut self) -> Result<()> {
        if !self.connection.prepared {
            return Ok(());
        }
        let client = self.connection.client()?;
        let set =
            self.connection.runtime.block_on(self.connection.watch.over(client.batch_execute("SET enable_seqscan = off; SET jit = off")));
        set.map_err(|error| self.connection.failed(error, "SET enable_seqscan"))
    }

    fn set_mark(&self, at: Wal) {
        if let Some(mark) = &self.mark {
            *mark.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = at;
        }
    }

    fn ask(&mut self, text: &'static str, args: ArgList<'_>, each: &mut dyn FnMut(&dyn Row) -> Result<()>) -> Result<()> {
        self.connection.query(text.into(), args, each)
    }

    /// What became of a transaction whose COMMIT got no answer. Waits for its lane lock first: its backend holds that until it has
    /// ended. `pg_xact_status` is not to be trusted after a failover to a server that may have missed the commit.
    fn outcome(&mut self, lost: Error) -> Committed {
        let Some(xid) = self.xid else { return Committed::No(lost) };
        let timeline = self.connection.timeline;
        let began = Instant::now();
        for attempt in 0..8_u32 {
            if began.elapsed() > OUTCOME {
                break;
            }
            std::thread::sleep(Duration::from_millis(10 << attempt.min(6)));
            if self.reconnect().is_err() {
                continue;
            }
            if timeline.is_none() || self.connection.read_timeline() != timeline {
                return Committed::Unknown(lost);
            }
            let lock = format!("BEGIN; SET LOCAL lock_timeout = '2s'; SELECT pg_advisory_xact_lock({LOCK_CLASS}, {})", self.number);
            let mut status = None;
            let asked = self
                .connection
                .batch(lock)
                .and_then(|()| self.connection.settle())
                .and_then(|()| {
                    const STATUS: &str = "SELECT pg_xact_status(CAST(CAST($1 AS BIGINT) AS TEXT)::xid8)";
                    self.ask(STATUS, [Value::Int(xid as i64)].into_iter().collect(), &mut |row| {
                        status = row.get::<Option<String>>(0)?;
                        Ok(())
                    })
                })
                .and_then(|()| self.connection.batch("ROLLBACK".to_owned()))
                .and_then(|()| self.connection.settle());
            match (asked, status.as_deref()) {
                (Ok(()), Some("committed")) => return Committed::Yes,
                (Ok(()), Some("aborted")) => return Committed::No(lost),
                (Ok(()), None) => return Committed::Unknown(lost),
                _ => {}
            }
        }
        Committed::Unknown(lost)
    }

    fn leave(&mut self, remains: &Remains, now: Timestamp) -> Result<()> {
        const EVENTS: &str =
            "INSERT INTO store_events (tenant_id, event_id, lane, sequence, kind, version, subject, occurred_at, correlation_id, payload)
            SELECT e.tenant, e.id, $1, e.sequence, e.kind, e.version, e.subject, $2, nullif(e.correlation, ''), e.payload
            FROM unnest($3::bigint[], $4::bigint[], $5::bigint[], $6::text[], $7::bigint[], $8::text[], $9::text[], $10::text[])
              AS e(tenant, id, sequence, kind, version, subject, correlation, payload)";
        const SEQUENCE: &str = "UPDATE store_lanes SET last_sequence = $2, last_event_id = $3 WHERE lane = $1";
        const ONCE: &str = "INSERT INTO store_once (tenant_id, hash, fingerprint, answer, created_at)
            SELECT k.tenant, decode(k.hash, 'hex'), decode(k.fingerprint, 'hex'), convert_to(k.answer, 'UTF8'), $1
            FROM unnest($2::bigint[], $3::text[], $4::text[], $5::text[]) AS k(tenant, hash, fingerprint, answer)";
        self.connection.enter(Scope::Platform)?;
        if !remains.events.is_empty() {
            let events = &remains.events;
            let ints = |f: &dyn Fn(&crate::lane::NumberedEvent) -> i64| Value::Ints(events.iter().map(f).collect());
            let texts = |f: &dyn Fn(&crate::lane::NumberedEvent) -> String| Value::Texts(events.iter().map(f).collect());
            let list: ArgList<'_> = [
                Value::Int(self.number.into()),
                Value::Int(now.micros()),
                ints(&|e| e.emitted.tenant.map_or(0, |t| t.as_i64())),
                ints(&|e| e.id),
                ints(&|e| e.sequence),
                texts(&|e| e.emitted.event.kind.to_owned()),
                ints(&|e| e.emitted.event.version.into()),
                texts(&|e| e.emitted.event.subject.clone()),
                texts(&|e| e.emitted.correlation.as_deref().unwrap_or_default().to_owned()),
                texts(&|e| e.emitted.event.payload.clone()),
            ]
            .into_iter()
            .collect();
            self.connection.send(EVENTS, list, None)?;
            let list: ArgList<'_> = [Value::Int(self.number.into()), Value::Int(remains.last_sequence), Value::Int(remains.last_event_id)]
                .into_iter()
                .collect();
            self.connection.send(SEQUENCE, list, None)?;
        }
        if !remains.stored.is_empty() {
            let mut answers = Vec::with_capacity(remains.stored.len());
            for stored in &remains.stored {
                let answer =
                    std::str::from_utf8(&stored.stored.answer).map_err(|e| Error::internal("an answer is not UTF-8").caused_by(e))?;
                answers.push(answer.to_owned());
            }
            let list: ArgList<'_> = [
                Value::Int(now.micros()),
                Value::Ints(remains.stored.iter().map(|s| s.tenant).collect()),
                Value::Texts(remains.stored.iter().map(|s| hex(&s.hash)).collect()),
                Value::Texts(remains.stored.iter().map(|s| hex(&s.stored.fingerprint)).collect()),
                Value::Texts(answers),
            ]
            .into_iter()
            .collect();
            self.connection.send(ONCE, list, None)?;
        }
        if self.groups.is_multiple_of(PURGE_EVERY) {
            const PURGE_KEYS: &str = "DELETE FROM store_once WHERE (tenant_id, hash) IN
                (SELECT tenant_id, hash FROM store_once WHERE created_at < $1 ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED)";
            let before = now.plus_ms(-KEEP_MS).micros();
            self.connection.send(PURGE_KEYS, [Value::Int(before), Value::Int(PURGE)].into_iter().collect(), None)?;
        }
        self.connection.settle()
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)] as char, DIGITS[usize::from(b & 15)] as char]).collect()
}

impl Session for PostgresLane {
    fn query(&mut self, sql: Sql, args: ArgList<'_>, each: &mut dyn FnMut(&dyn Row) -> Result<()>) -> Result<()> {
        self.connection.query(sql, args, each)
    }
    fn write(&mut self, sql: Sql, args: ArgList<'_>, refusal: Option<Refusal>) -> Result<()> {
        self.connection.write(sql, args, refusal)
    }
    fn count(&mut self, sql: Sql, args: ArgList<'_>) -> Result<u64> {
        self.connection.count(sql, args)
    }
    fn control(&mut self, text: &'static str) -> Result<()> {
        self.connection.control(text)
    }
    fn enter(&mut self, scope: Scope) -> Result<()> {
        if let Scope::Tenant(tenant) = scope {
            let lane = lane_of(tenant, self.lanes);
            if lane != self.number {
                self.connection.lock_lane(lane)?;
            }
        }
        self.connection.enter(scope)
    }
    fn settle(&mut self) -> Result<()> {
        self.connection.settle()
    }
    fn engine(&self) -> Engine {
        Engine::Postgres
    }
}

impl LaneEngine for PostgresLane {
    fn begin(&mut self, wanted: &Wanted, _: Timestamp) -> Result<Facts> {
        self.connection.fault = Fault::None;
        self.xid = None;
        self.groups = self.groups.wrapping_add(1);
        let begin = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL ROLE brandos_platform; SET LOCAL statement_timeout = {}; \
             SET LOCAL idle_in_transaction_session_timeout = {}; SELECT pg_advisory_xact_lock({LOCK_CLASS}, {})",
            wanted.statement_ms,
            // A node that is cut off does not keep its lane from the others for as long as the server takes to notice.
            wanted.statement_ms.saturating_add(ABANDONED_MS).min(i32::MAX as u32),
            self.number
        );
        self.connection.scope = Some(Scope::Platform);
        self.connection.watch.patience = Duration::from_millis(wanted.statement_ms.into()) + GRACE;
        let client = self.connection.client()?;
        let with_keys = !wanted.keys.is_empty();
        let (last, departures) = (self.connection.question(&client, LAST)?, self.connection.question(&client, DEPARTURES)?);
        let stored = self.connection.question(&client, STORED)?;
        let lane_number = [Value::Int(self.number.into())];
        let tenants = [Value::Ints(wanted.tenants.clone())];
        let keys = [
            Value::Ints(wanted.keys.iter().map(|(tenant, _)| *tenant).collect()),
            Value::Texts(wanted.keys.iter().map(|(_, hash)| hex(hash)).collect()),
        ];
        // Everything goes out at once and is answered in order: one round trip, and the lock is held before the rest is read.
        let answers = self.connection.runtime.block_on(self.connection.watch.over(async {
            let stored = async { if with_keys { stored.ask(&client, &keys).await } else { Ok(Vec::new()) } };
            let begun = async {
                let begun = client.batch_execute(&begin).await;
                // It has the lane, perhaps after a wait: the rest has its own time.
                self.connection.watch.came();
                begun
            };
            // What other nodes have committed on this lane is before this: replayed answers and refusals may rest on it.
            let at = async { if self.mark.is_some() { client.query_typed(WRITTEN, &[]).await.map(Some) } else { Ok(None) } };
            futures_util::future::try_join(
                futures_util::future::try_join4(begun, last.ask(&client, &lane_number), departures.ask(&client, &tenants), stored),
                at,
            )
            .await
        }));
        let (((), last, departures, stored), at) = answers.map_err(|e| self.connection.failed(e, "opening a group"))?;
        if let Some(rows) = at {
            self.set_mark(written(&rows)?);
        }
        let last = last.into_iter().next().map(PostgresRow).ok_or_else(|| Error::internal("the shard has no such lane"))?;
        let last: &dyn Row = &last;
        self.xid = Some(last.get::<i64>(2)? as u64);
        let mut facts = Facts { last_sequence: last.get(0)?, last_event_id: last.get(1)?, ..Facts::default() };
        for row in departures {
            let row = PostgresRow(row);
            let row: &dyn Row = &row;
            facts.departures.insert(row.get(0)?, Departure { shard: row.get(1)?, arrived: row.get::<String>(2)? == "moved" });
        }
        for row in stored {
            let row = PostgresRow(row);
            let row: &dyn Row = &row;
            facts.stored.insert((row.get(0)?, row.get(1)?), Stored { fingerprint: row.get(2)?, answer: row.get::<Vec<u8>>(3)?.into() });
        }
        Ok(facts)
    }

    fn savepoint(&mut self) -> Result<()> {
        self.connection.batch("SAVEPOINT command".to_owned())
    }

    fn release(&mut self) -> Result<()> {
        self.connection.batch("RELEASE command".to_owned())
    }

    fn rollback_to(&mut self) -> Result<()> {
        // The role and the tenant that were set since the savepoint go back with it.
        self.connection.scope = None;
        self.connection.failed = None;
        self.connection.batch("ROLLBACK TO command; RELEASE command".to_owned())
    }

    fn commit(&mut self, remains: Remains, now: Timestamp) -> Committed {
        if let Err(error) = self.leave(&remains, now) {
            return Committed::No(error);
        }
        let sent = self.connection.batch("COMMIT".to_owned());
        let (committed, mut at) = match &self.mark {
            Some(_) => self.connection.settle_written(),
            None => (self.connection.settle(), Wal::UNKNOWN),
        };
        self.connection.scope = None;
        let committed = match sent.and(committed) {
            Ok(()) => Committed::Yes,
            Err(error) if self.connection.fault == Fault::Lost => self.outcome(error),
            Err(error) => Committed::No(error),
        };
        if self.mark.is_some() && !matches!(committed, Committed::No(_)) {
            if !at.is_known() && matches!(committed, Committed::Yes) {
                at = self.connection.settle_written().1;
            }
            self.set_mark(at);
        }
        committed
    }

    fn rollback(&mut self) {
        if self.connection.fault != Fault::Lost {
            let ended = self.connection.batch("ROLLBACK".to_owned());
            // Earlier writes of the transaction may have failed: only the connection's loss matters now.
            let fault = self.connection.fault;
            let _ = ended.and_then(|()| self.connection.settle());
            if self.connection.fault != Fault::Lost {
                self.connection.fault = fault;
            }
        }
        self.connection.pending.clear();
        self.connection.failed = None;
        self.connection.scope = None;
    }

    fn fault(&mut self) -> Fault {
        self.connection.fault
    }

    fn reconnect(&mut self) -> Result<()> {
        self.connection.connect()?;
        self.keep_to_indexes()
    }

    fn between(&mut self) {}

    fn group_limit(&self) -> usize {
        64
    }
}
