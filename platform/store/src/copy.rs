//! Rows between engines: tables and columns are discovered from the schema, rows are streamed in bounded batches, and every table has
//! a checksum that depends neither on the order of its rows nor on the engine.
//!
//! Everything here blocks, on connections of its own, beside the lanes. On SQLite each write transaction is short, so that a lane of
//! the same process waits for milliseconds at most.

use crate::event::HISTORY_LANE;
use crate::migrate::{literal, quoted};
use crate::sql::numbered_parameters;
use crate::store::{Engine, ShardConfig};
use crate::value::Value;
use futures_util::StreamExt as _;
use kernel::{Error, ErrorKind, Result};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};

/// Rows of one write transaction beside a lane: a few milliseconds.
pub(crate) const SLICE_ROWS: usize = 500;
/// Bytes at which a batch ends before it has all its rows.
pub(crate) const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Rows that are taken from PostgreSQL's stream at a time.
const STREAM_ROWS: usize = 512;
/// How long a write waits for its turn beside a lane that writes without a pause.
const TURN: Duration = Duration::from_secs(30);

/// A row, or a key.
pub(crate) type Values = Vec<Value<'static>>;

/// The types of the subset that both engines share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ColumnType {
    Int,
    Bool,
    Real,
    Text,
    Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub name: String,
    pub kind: ColumnType,
}

/// A table as it stands in one database.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub name: String,
    pub columns: Vec<Column>,
    /// The columns that tell a tenant's rows apart, in order: the primary key without `tenant_id`. Positions in `columns`.
    pub key: Vec<usize>,
    /// Whether it has a `tenant_id`.
    pub of_tenants: bool,
    /// The columns that are hashed, in the order of their names.
    hashed: Vec<usize>,
}

impl Table {
    fn position(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name == column)
    }

    fn key_columns(&self) -> impl Iterator<Item = &Column> {
        self.key.iter().map(|index| &self.columns[*index])
    }
}

/// The store's tables that are not copied: they belong to the database and not to its data.
const NOT_COPIED: &[&str] = &["store_migrations", "store_changes"];

/// Runs blocking work that has runtimes of its own on a thread where that is allowed.
pub(crate) fn aside<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| scope.spawn(work).join().unwrap_or_else(|_| Err(Error::internal("a thread of the store panicked"))))
}

/// Copies that should be equal and are not.
pub(crate) fn mismatch(what: String) -> Error {
    Error::new(ErrorKind::Internal, "store.copy_mismatch", format!("a copy does not equal its original: {what}"))
}

/// How many rows, and the sum of their hashes: equal sets of rows have equal sums in whatever order they come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub rows: u64,
    sum: u128,
}

impl Sum {
    /// Adds a row of `table`. Hashed are the values in the order of their columns' names, so that only the data counts.
    pub(crate) fn add(&mut self, table: &Table, row: &[Value<'_>]) {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        for index in &table.hashed {
            let mut field = |tag: u8, bytes: &[u8]| {
                context.update(&[tag]);
                context.update(&(bytes.len() as u64).to_le_bytes());
                context.update(bytes);
            };
            match &row[*index] {
                Value::Null => field(0, &[]),
                Value::Int(v) => field(1, &v.to_le_bytes()),
                Value::Bool(v) => field(2, &[u8::from(*v)]),
                Value::Real(v) => field(3, &v.to_bits().to_le_bytes()),
                Value::Text(v) => field(4, v.as_bytes()),
                Value::Bytes(v) => field(5, v),
                // Lists are arguments only, never columns.
                Value::Ints(_) | Value::Texts(_) => field(6, &[]),
            }
        }
        let digest = context.finish();
        let half: [u8; 16] = digest.as_ref()[..16].try_into().expect("sixteen of thirty-two bytes");
        self.sum = self.sum.wrapping_add(u128::from_le_bytes(half));
        self.rows += 1;
    }

    pub(crate) fn plus(self, other: Sum) -> Sum {
        Sum { rows: self.rows + other.rows, sum: self.sum.wrapping_add(other.sum) }
    }
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.sum)
    }
}

/// The bucket of an idempotency key is SQLite's own affair.
fn is_bucket(table: &str, column: &str) -> bool {
    table == "store_once" && column == "bucket"
}

/// How rows of a table in one database become rows of the same table in another.
#[derive(Clone, Debug)]
pub(crate) struct Mapping {
    pub source: Table,
    pub target: Table,
    /// An expression over the source's columns for each of the target's.
    expressions: Vec<String>,
}

impl Mapping {
    /// With `moving`, events go into the history lane and idempotency keys into the bucket of those that were brought along.
    /// Errors: `internal` when a column is missing on one side.
    pub(crate) fn new(source: &Table, target: &Table, moving: bool) -> Result<Mapping> {
        let missing = |column: &str| Error::internal(format!("the schemas differ: {}.{column} is missing on one side", source.name));
        if let Some(lost) = source.columns.iter().find(|c| target.position(&c.name).is_none() && !is_bucket(&source.name, &c.name)) {
            return Err(missing(&lost.name));
        }
        let expression = |column: &Column| match (source.name.as_str(), column.name.as_str()) {
            ("store_events", "lane") if moving => Ok(format!("CAST({HISTORY_LANE} AS BIGINT)")),
            ("store_events", "sequence") if moving => Ok("event_id".to_owned()),
            ("store_once", "bucket") if moving || source.position("bucket").is_none() => Ok("CAST(0 AS BIGINT)".to_owned()),
            (_, name) if source.position(name).is_some() => Ok(quoted(name)),
            (_, name) => Err(missing(name)),
        };
        let expressions = target.columns.iter().map(expression).collect::<Result<_>>()?;
        Ok(Mapping { source: source.clone(), target: target.clone(), expressions })
    }

    /// A table onto itself, for reading it back.
    pub(crate) fn identity(table: &Table) -> Mapping {
        Mapping { source: table.clone(), target: table.clone(), expressions: table.columns.iter().map(|c| quoted(&c.name)).collect() }
    }

    /// The target's key for a key of the source.
    pub(crate) fn target_key(&self, key: &[Value<'static>]) -> Values {
        let part = |index: &usize| {
            let name = &self.target.columns[*index].name;
            let from = self.source.key.iter().position(|i| self.source.columns[*i].name == *name);
            match from {
                Some(from) if !is_bucket(&self.target.name, name) => key[from].clone(),
                _ => Value::Int(0),
            }
        };
        self.target.key.iter().map(part).collect()
    }

    /// Whether both sides sort their keys alike, so that a range of one is a range of the other.
    pub(crate) fn same_ranges(&self) -> bool {
        self.source.name != "store_once"
    }
}

/// Which rows of a table, in the order of their keys.
#[derive(Clone, Copy, Default)]
pub(crate) struct Range<'a> {
    /// One tenant's, or everybody's in no order.
    pub tenant: Option<i64>,
    /// After this key.
    pub after: Option<&'a [Value<'static>]>,
    /// Up to this key, inclusive.
    pub up_to: Option<&'a [Value<'static>]>,
    /// At most so many.
    pub limit: Option<usize>,
}

pub(crate) struct Postgres {
    runtime: tokio::runtime::Runtime,
    client: tokio_postgres::Client,
    /// Whether text must be compared under the C collation explicitly, to sort as SQLite does.
    collate: bool,
    /// See [`Database::durable`].
    durable: bool,
}

/// A connection of one's own to a shard.
pub(crate) enum Database {
    Sqlite(rusqlite::Connection),
    Postgres(Postgres),
}

fn sqlite_failed(what: &str) -> impl FnOnce(rusqlite::Error) -> Error {
    let what = what.to_owned();
    move |e| crate::sqlite::sqlite_error(e, &what)
}

fn postgres_failed(what: &str) -> impl FnOnce(tokio_postgres::Error) -> Error {
    let what = what.to_owned();
    move |e| {
        if e.is_closed() {
            return Error::unavailable("store.unavailable", "the database is away").retry_after_ms(1_000).caused_by(e);
        }
        let busy = [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED];
        if e.code().is_some_and(|code| busy.contains(code)) {
            return Error::unavailable("store.busy", "other work held the table").retry_after_ms(1_000).caused_by(e);
        }
        Error::internal(format!("PostgreSQL failed at: {what}")).caused_by(e)
    }
}

fn parameter_type(value: &Value<'_>) -> Type {
    match value {
        Value::Int(_) => Type::INT8,
        Value::Bool(_) => Type::BOOL,
        Value::Real(_) => Type::FLOAT8,
        Value::Bytes(_) => Type::BYTEA,
        Value::Ints(_) => Type::INT8_ARRAY,
        Value::Texts(_) => Type::TEXT_ARRAY,
        Value::Text(_) | Value::Null => Type::TEXT,
    }
}

pub(crate) fn size(row: &[Value<'_>]) -> usize {
    let one = |value: &Value<'_>| match value {
        Value::Text(v) => v.len(),
        Value::Bytes(v) => v.len(),
        _ => 8,
    };
    row.iter().map(one).sum()
}

impl Database {
    /// Connects. An SQLite file must be there.
    pub(crate) fn open(shard: &ShardConfig) -> Result<Database> {
        match shard {
            ShardConfig::Sqlite { path } => Database::open_file(path, false),
            ShardConfig::Postgres { url, .. } => {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .map_err(|e| Error::internal("a runtime can't be built").caused_by(e))?;
                let away = |e| Error::unavailable("store.unavailable", "the database can't be reached").caused_by(e);
                let (client, collate) = runtime.block_on(async {
                    let (client, _) = crate::postgres::connect(url).await?;
                    let ask = "SELECT datcollate::text NOT IN ('C', 'POSIX') FROM pg_database WHERE datname = current_database()";
                    let rows = client.query_typed(ask, &[]).await.map_err(away)?;
                    let collate = rows.first().map_or(Ok(true), |row| row.try_get(0)).map_err(away)?;
                    Ok::<_, Error>((client, collate))
                })?;
                Ok(Database::Postgres(Postgres { runtime, client, collate, durable: true }))
            }
        }
    }

    /// Opens an SQLite file, or makes it.
    pub(crate) fn open_file(path: &Path, make: bool) -> Result<Database> {
        use rusqlite::OpenFlags;
        let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        if make {
            flags |= OpenFlags::SQLITE_OPEN_CREATE;
        }
        let mut connection = rusqlite::Connection::open_with_flags(path, flags).map_err(sqlite_failed("opening a database file"))?;
        // A lane under load leaves gaps of microseconds between its transactions: looking often is the way to get a turn.
        connection
            .busy_handler(Some(|tries| {
                std::thread::sleep(Duration::from_micros(100));
                Duration::from_micros(100) * tries as u32 * 2 < TURN
            }))
            .map_err(sqlite_failed("setting the busy handler"))?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(sqlite_failed("PRAGMA synchronous"))?;
        Ok(Database::Sqlite(connection))
    }

    pub(crate) fn engine(&self) -> Engine {
        match self {
            Database::Sqlite(_) => Engine::Sqlite,
            Database::Postgres(_) => Engine::Postgres,
        }
    }

    /// Runs statements without arguments.
    pub(crate) fn batch(&mut self, sql: &str) -> Result<()> {
        match self {
            Database::Sqlite(connection) => connection.execute_batch(sql).map_err(sqlite_failed(sql)),
            Database::Postgres(p) => p.runtime.block_on(p.client.batch_execute(sql)).map_err(postgres_failed(sql)),
        }
    }

    /// Runs one statement with `$n` parameters and gives the number of changed rows.
    pub(crate) fn execute(&mut self, sql: &str, args: &[Value<'_>]) -> Result<u64> {
        match self {
            Database::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(&numbered_parameters(sql)).map_err(sqlite_failed(sql))?;
                statement.execute(rusqlite::params_from_iter(args)).map(|n| n as u64).map_err(sqlite_failed(sql))
            }
            Database::Postgres(p) => {
                let typed: Vec<(&(dyn ToSql + Sync), Type)> = args.iter().map(|v| (v as &(dyn ToSql + Sync), parameter_type(v))).collect();
                p.runtime.block_on(p.client.execute_typed(sql, &typed)).map_err(postgres_failed(sql))
            }
        }
    }

    /// Streams the rows of a query, whose columns have the given types, until `each` says false. `each` may use another database.
    pub(crate) fn query(
        &mut self,
        sql: &str,
        args: &[Value<'_>],
        types: &[ColumnType],
        each: &mut dyn FnMut(Values) -> Result<bool>,
    ) -> Result<()> {
        match self {
            Database::Sqlite(connection) => {
                let mut statement = connection.prepare_cached(&numbered_parameters(sql)).map_err(sqlite_failed(sql))?;
                let mut rows = statement.query(rusqlite::params_from_iter(args)).map_err(sqlite_failed(sql))?;
                while let Some(row) = rows.next().map_err(sqlite_failed(sql))? {
                    let values = types.iter().enumerate().map(|(index, kind)| sqlite_value(row, index, *kind)).collect::<Result<_>>()?;
                    if !each(values)? {
                        break;
                    }
                }
                Ok(())
            }
            Database::Postgres(p) => {
                let owned: Vec<(Value<'static>, Type)> = args.iter().map(|v| (v.clone().into_owned(), parameter_type(v))).collect();
                let stream = p.runtime.block_on(p.client.query_typed_raw(sql, owned)).map_err(postgres_failed(sql))?;
                let mut stream = Box::pin(stream);
                loop {
                    // Only whole batches are taken inside the runtime: `each` may block on another one.
                    let batch: Vec<_> = p.runtime.block_on(stream.as_mut().take(STREAM_ROWS).collect());
                    let last = batch.len() < STREAM_ROWS;
                    for row in batch {
                        let row = row.map_err(postgres_failed(sql))?;
                        let values =
                            types.iter().enumerate().map(|(index, kind)| postgres_value(&row, index, *kind)).collect::<Result<_>>()?;
                        if !each(values)? {
                            return Ok(());
                        }
                    }
                    if last {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// All rows of a query that has few.
    pub(crate) fn rows(&mut self, sql: &str, args: &[Value<'_>], types: &[ColumnType]) -> Result<Vec<Values>> {
        let mut rows = Vec::new();
        self.query(sql, args, types, &mut |row| {
            rows.push(row);
            Ok(true)
        })?;
        Ok(rows)
    }

    /// One integer, or none when there is no row or it is NULL.
    pub(crate) fn integer(&mut self, sql: &str, args: &[Value<'_>]) -> Result<Option<i64>> {
        Ok(match self.rows(sql, args, &[ColumnType::Int])?.first().and_then(|row| row.first()) {
            Some(Value::Int(v)) => Some(*v),
            _ => None,
        })
    }

    /// Begins a transaction that sees one moment of the database until [`Database::end`].
    pub(crate) fn snapshot(&mut self) -> Result<()> {
        self.batch(match self {
            Database::Sqlite(_) => "BEGIN",
            Database::Postgres(_) => "BEGIN ISOLATION LEVEL REPEATABLE READ",
        })
    }

    /// Ends a transaction.
    pub(crate) fn end(&mut self, commit: bool) -> Result<()> {
        self.batch(if commit { "COMMIT" } else { "ROLLBACK" })
    }

    /// Runs `write` in a transaction. Beside a lane (`gentle`) it then lets the lane have as much time as it took.
    pub(crate) fn write<T>(&mut self, gentle: bool, write: impl FnOnce(&mut Database) -> Result<T>) -> Result<T> {
        let begin = match self {
            Database::Sqlite(_) => "BEGIN IMMEDIATE",
            Database::Postgres(p) if p.durable => "BEGIN",
            Database::Postgres(_) => "BEGIN; SET LOCAL synchronous_commit = off",
        };
        self.batch(begin)?;
        // The wait for the turn does not count: the lane had it.
        let began = Instant::now();
        let done = write(self);
        let result = match done {
            Ok(value) => self.end(true).map(|()| value),
            Err(error) => Err(error),
        };
        if result.is_err() {
            // The first error is the one that counts; a lost connection has rolled back by itself.
            let _ = self.end(false);
        }
        if gentle && self.engine() == Engine::Sqlite {
            std::thread::sleep(began.elapsed().clamp(Duration::from_millis(1), Duration::from_millis(20)));
        }
        result
    }

    /// Whether commits wait for the disk from here on. Without, a crash may lose the last of them, but never their order: one commit
    /// that waits makes all before it durable.
    pub(crate) fn durable(&mut self, durable: bool) -> Result<()> {
        match self {
            Database::Sqlite(connection) => connection
                .pragma_update(None, "synchronous", if durable { "FULL" } else { "NORMAL" })
                .map_err(sqlite_failed("PRAGMA synchronous")),
            Database::Postgres(p) => {
                p.durable = durable;
                Ok(())
            }
        }
    }

    /// The tables that hold data, by name. Partitions are part of their table; archived ones are not looked at.
    pub(crate) fn tables(&mut self) -> Result<Vec<Table>> {
        use ColumnType::{Int, Text};
        let (sql, types) = match self {
            Database::Sqlite(_) => (
                "SELECT m.name, c.name, c.type, c.pk FROM sqlite_master m, pragma_table_info(m.name) c
                   WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' ORDER BY m.name, c.cid",
                [Text, Text, Text, Int],
            ),
            Database::Postgres(_) => (
                "SELECT c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod),
                        coalesce(array_position(i.indkey::int2[], a.attnum) + 1, 0)::bigint
                   FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                   JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                   LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
                   WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p') AND NOT c.relispartition
                     AND c.relname NOT LIKE 'archive\\_%' AND pg_has_role(current_user, c.relowner, 'USAGE')
                   ORDER BY c.relname COLLATE \"C\", a.attnum",
                [Text, Text, Text, Int],
            ),
        };
        let mut tables: Vec<(Table, Vec<(i64, usize)>)> = Vec::new();
        for row in self.rows(sql, &[], &types)? {
            let [Value::Text(table), Value::Text(column), Value::Text(declared), Value::Int(in_key)] = row.as_slice() else {
                return Err(Error::internal("the schema can't be read"));
            };
            if NOT_COPIED.contains(&table.as_ref()) {
                continue;
            }
            if tables.last().is_none_or(|(last, _)| last.name != *table) {
                tables.push((
                    Table { name: table.to_string(), columns: Vec::new(), key: Vec::new(), of_tenants: false, hashed: Vec::new() },
                    Vec::new(),
                ));
            }
            let (last, key) = tables.last_mut().expect("one was pushed");
            let kind = column_type(declared)
                .ok_or_else(|| Error::internal(format!("{table}.{column} has type {declared}, which is outside the shared subset")))?;
            last.of_tenants |= column == "tenant_id";
            if *in_key > 0 && column != "tenant_id" {
                key.push((*in_key, last.columns.len()));
            }
            last.columns.push(Column { name: column.to_string(), kind });
        }
        Ok(tables
            .into_iter()
            .map(|(mut table, mut key)| {
                key.sort_unstable();
                table.key = key.into_iter().map(|(_, index)| index).collect();
                if table.name == "store_events" {
                    // Unique by itself, and indexed behind tenant_id.
                    table.key = table.position("event_id").into_iter().collect();
                }
                let data = |index: &usize| !is_bucket(&table.name, &table.columns[*index].name);
                table.hashed = (0..table.columns.len()).filter(data).collect();
                table.hashed.sort_by(|a, b| table.columns[*a].name.cmp(&table.columns[*b].name));
                table
            })
            .collect())
    }

    /// A column of a key as it is compared: text by its bytes, as SQLite does.
    fn comparable(&self, column: &Column) -> String {
        match self {
            Database::Postgres(p) if p.collate && column.kind == ColumnType::Text => format!("{} COLLATE \"C\"", quoted(&column.name)),
            _ => quoted(&column.name),
        }
    }

    /// Streams rows as the mapping's target has them, each with its key in the source, until `each` says false.
    pub(crate) fn scan(&mut self, mapping: &Mapping, range: Range<'_>, each: &mut dyn FnMut(Values, Values) -> Result<bool>) -> Result<()> {
        let table = &mapping.source;
        let key: Vec<String> = table.key_columns().map(|c| self.comparable(c)).collect();
        let mut sql = format!("SELECT {}", mapping.expressions.join(", "));
        for column in table.key_columns() {
            sql += &format!(", {}", quoted(&column.name));
        }
        sql += &format!(" FROM {} WHERE TRUE", quoted(&table.name));
        let mut args: Values = Vec::new();
        if let Some(tenant) = range.tenant {
            args.push(Value::Int(tenant));
            sql += " AND tenant_id = $1";
        }
        for (bound, operator) in [(range.after, ">"), (range.up_to, "<=")] {
            if let Some(bound) = bound
                && !key.is_empty()
            {
                let parameters: Vec<String> = (args.len() + 1..=args.len() + bound.len()).map(|n| format!("${n}")).collect();
                sql += &format!(" AND ({}) {operator} ({})", key.join(", "), parameters.join(", "));
                args.extend(bound.iter().cloned());
            }
        }
        if range.tenant.is_some() && !key.is_empty() {
            sql += &format!(" ORDER BY {}", key.join(", "));
        }
        if let Some(limit) = range.limit {
            sql += &format!(" LIMIT {limit}");
        }
        let columns = mapping.target.columns.len();
        let types: Vec<ColumnType> = mapping.target.columns.iter().chain(table.key_columns()).map(|c| c.kind).collect();
        self.query(&sql, &args, &types, &mut |mut row| {
            let key = row.split_off(columns);
            each(row, key)
        })
    }

    /// The key of a tenant's last row. Rows with later keys are new.
    pub(crate) fn last_key(&mut self, table: &Table, tenant: i64) -> Result<Option<Values>> {
        if table.key.is_empty() {
            return Ok(None);
        }
        let columns: Vec<String> = table.key_columns().map(|c| quoted(&c.name)).collect();
        let order: Vec<String> = table.key_columns().map(|c| format!("{} DESC", self.comparable(c))).collect();
        let types: Vec<ColumnType> = table.key_columns().map(|c| c.kind).collect();
        let sql = format!(
            "SELECT {} FROM {} WHERE tenant_id = $1 ORDER BY {} LIMIT 1",
            columns.join(", "),
            quoted(&table.name),
            order.join(", ")
        );
        Ok(self.rows(&sql, &[Value::Int(tenant)], &types)?.pop())
    }

    /// One batch of a range, bounded in rows and bytes, and the key of its last row; no key when the range ended with it.
    pub(crate) fn page(&mut self, mapping: &Mapping, range: Range<'_>) -> Result<(Vec<Values>, Option<Values>)> {
        let limit = range.limit.unwrap_or(SLICE_ROWS);
        let (mut rows, mut bytes, mut last) = (Vec::new(), 0, None);
        self.scan(mapping, Range { limit: Some(limit), ..range }, &mut |row, key| {
            bytes += size(&row);
            rows.push(row);
            last = Some(key);
            Ok(bytes < BATCH_BYTES)
        })?;
        let ended = (rows.len() < limit && bytes < BATCH_BYTES) || mapping.source.key.is_empty();
        Ok((rows, if ended { None } else { last }))
    }

    /// The checksum of a range, and the key of its last row when the limit ended it.
    pub(crate) fn sum(&mut self, mapping: &Mapping, range: Range<'_>) -> Result<(Sum, Option<Values>)> {
        let (mut sum, mut last) = (Sum::default(), None);
        self.scan(mapping, range, &mut |row, key| {
            sum.add(&mapping.target, &row);
            last = Some(key);
            Ok(true)
        })?;
        let full = range.limit.is_some_and(|limit| sum.rows >= limit as u64);
        Ok((sum, if full && !mapping.source.key.is_empty() { last } else { None }))
    }

    /// The rows of a tenant with these keys, as the mapping's target has them; those that are not there are left out.
    pub(crate) fn fetch(&mut self, mapping: &Mapping, tenant: i64, keys: &[Values]) -> Result<Vec<Values>> {
        let table = &mapping.source;
        let types: Vec<ColumnType> = mapping.target.columns.iter().map(|c| c.kind).collect();
        let mut rows = Vec::new();
        let mut keep = |row| {
            rows.push(row);
            Ok(true)
        };
        match self {
            Database::Sqlite(_) => {
                let sql = format!("SELECT {} FROM {} WHERE {}", mapping.expressions.join(", "), quoted(&table.name), by_key(table));
                for key in keys {
                    let args: Values = std::iter::once(Value::Int(tenant)).chain(key.iter().cloned()).collect();
                    self.query(&sql, &args, &types, &mut keep)?;
                }
            }
            Database::Postgres(p) => {
                let sql = format!(
                    "SELECT {} FROM {} AS t WHERE t.tenant_id = $1{}",
                    mapping.expressions.join(", "),
                    quoted(&table.name),
                    in_keys(table)
                );
                for row in p.keyed(&sql, tenant, table, keys, |client, sql, args| Box::pin(client.query_typed(sql, args)))? {
                    keep(types.iter().enumerate().map(|(index, kind)| postgres_value(&row, index, *kind)).collect::<Result<_>>()?)?;
                }
            }
        }
        Ok(rows)
    }

    /// Deletes the rows of a tenant with these keys.
    pub(crate) fn delete(&mut self, table: &Table, tenant: i64, keys: &[Values]) -> Result<()> {
        match self {
            Database::Sqlite(_) => {
                let sql = format!("DELETE FROM {} WHERE {}", quoted(&table.name), by_key(table));
                for key in keys {
                    let args: Values = std::iter::once(Value::Int(tenant)).chain(key.iter().cloned()).collect();
                    self.execute(&sql, &args)?;
                }
                Ok(())
            }
            Database::Postgres(p) => {
                let sql = format!("DELETE FROM {} AS t WHERE t.tenant_id = $1{}", quoted(&table.name), in_keys(table));
                p.keyed(&sql, tenant, table, keys, |client, sql, args| Box::pin(client.execute_typed(sql, args))).map(|_| ())
            }
        }
    }

    /// Inserts rows. With `if_missing` those that collide with a row that is there are left out.
    pub(crate) fn insert(&mut self, table: &Table, rows: &[Values], if_missing: bool) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let columns: Vec<String> = table.columns.iter().map(|c| quoted(&c.name)).collect();
        let ending = if if_missing { " ON CONFLICT DO NOTHING" } else { "" };
        let into = format!("INSERT INTO {} ({})", quoted(&table.name), columns.join(", "));
        match self {
            Database::Sqlite(_) => {
                let parameters: Vec<String> = (1..=columns.len()).map(|n| format!("${n}")).collect();
                let sql = format!("{into} VALUES ({}){ending}", parameters.join(", "));
                for row in rows {
                    self.execute(&sql, row)?;
                }
                Ok(())
            }
            Database::Postgres(p) => {
                let lists: Vec<String> =
                    table.columns.iter().enumerate().map(|(i, c)| format!("${}::{}[]", i + 1, type_name(c.kind))).collect();
                let sql = format!("{into} SELECT * FROM unnest({}){ending}", lists.join(", "));
                let arrays: Vec<_> = table.columns.iter().enumerate().map(|(index, c)| array(c.kind, rows, index)).collect();
                let typed: Vec<(&(dyn ToSql + Sync), Type)> = arrays.iter().map(|(list, kind)| (&**list, kind.clone())).collect();
                p.runtime.block_on(p.client.execute_typed(&sql, &typed)).map(|_| ()).map_err(postgres_failed(&sql))
            }
        }
    }

    /// Deletes all rows of a tenant in short transactions. Gives their number.
    pub(crate) fn delete_tenant(&mut self, table: &Table, tenant: i64, gentle: bool) -> Result<u64> {
        let mapping = Mapping::identity(table);
        let mut deleted = 0;
        if table.key.is_empty() {
            let sql = format!("DELETE FROM {} WHERE tenant_id = $1", quoted(&table.name));
            return self.write(gentle, |db| db.execute(&sql, &[Value::Int(tenant)]));
        }
        loop {
            let mut keys = Vec::new();
            self.scan(&mapping, Range { tenant: Some(tenant), limit: Some(SLICE_ROWS), ..Range::default() }, &mut |_, key| {
                keys.push(key);
                Ok(true)
            })?;
            if keys.is_empty() {
                return Ok(deleted);
            }
            deleted += keys.len() as u64;
            self.write(gentle, |db| db.delete(table, tenant, &keys))?;
        }
    }

    /// The value of a key of `store_meta`.
    pub(crate) fn meta(&mut self, key: &str) -> Result<Option<String>> {
        let rows = self.rows("SELECT value FROM store_meta WHERE key = $1", &[Value::Text(key.into())], &[ColumnType::Text])?;
        Ok(rows.into_iter().flatten().find_map(|value| if let Value::Text(text) = value { Some(text.into_owned()) } else { None }))
    }

    /// Sets or removes a key of `store_meta`.
    pub(crate) fn set_meta(&mut self, key: &str, value: Option<&str>) -> Result<()> {
        match value {
            Some(value) => self.execute(
                "INSERT INTO store_meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                &[Value::Text(key.into()), Value::Text(value.into())],
            ),
            None => self.execute("DELETE FROM store_meta WHERE key = $1", &[Value::Text(key.into())]),
        }
        .map(|_| ())
    }

    /// The shard that a tenant lives on, by the directory of this, the home shard.
    pub(crate) fn shard_of(&mut self, tenant: i64) -> Result<u16> {
        let shard = self.integer("SELECT shard FROM store_directory WHERE tenant = $1", &[Value::Int(tenant)])?;
        u16::try_from(shard.unwrap_or(0)).map_err(|_| Error::internal("the directory names a shard that can't be"))
    }
}

impl Postgres {
    /// Runs a statement over a tenant and lists of key columns.
    fn keyed<T>(
        &self,
        sql: &str,
        tenant: i64,
        table: &Table,
        keys: &[Values],
        run: impl for<'a> FnOnce(
            &'a tokio_postgres::Client,
            &'a str,
            &'a [(&'a (dyn ToSql + Sync), Type)],
        ) -> std::pin::Pin<Box<dyn Future<Output = Result<T, tokio_postgres::Error>> + 'a>>,
    ) -> Result<T> {
        let arrays: Vec<_> = table.key_columns().enumerate().map(|(index, c)| array(c.kind, keys, index)).collect();
        let mut typed: Vec<(&(dyn ToSql + Sync), Type)> = vec![(&tenant, Type::INT8)];
        typed.extend(arrays.iter().map(|(list, kind)| (&**list, kind.clone())));
        self.runtime.block_on(run(&self.client, sql, &typed)).map_err(postgres_failed(sql))
    }

    /// For what the rest of the store does with a client of its own.
    pub(crate) fn parts(&mut self) -> (&tokio_postgres::Client, &tokio::runtime::Runtime) {
        (&self.client, &self.runtime)
    }

    pub(crate) fn client_mut(&mut self) -> (&mut tokio_postgres::Client, &tokio::runtime::Runtime) {
        (&mut self.client, &self.runtime)
    }
}

/// `tenant_id = $1 AND a = $2 AND b = $3`.
fn by_key(table: &Table) -> String {
    let mut sql = "tenant_id = $1".to_owned();
    for (index, column) in table.key_columns().enumerate() {
        sql += &format!(" AND {} = ${}", quoted(&column.name), index + 2);
    }
    sql
}

/// ` AND (t.a, t.b) IN (SELECT * FROM unnest($2::bigint[], $3::text[]))`.
fn in_keys(table: &Table) -> String {
    if table.key.is_empty() {
        return String::new();
    }
    let columns: Vec<String> = table.key_columns().map(|c| format!("t.{}", quoted(&c.name))).collect();
    let lists: Vec<String> = table.key_columns().enumerate().map(|(i, c)| format!("${}::{}[]", i + 2, type_name(c.kind))).collect();
    format!(" AND ({}) IN (SELECT * FROM unnest({}))", columns.join(", "), lists.join(", "))
}

fn column_type(declared: &str) -> Option<ColumnType> {
    Some(match declared.to_lowercase().as_str() {
        "bigint" | "integer" => ColumnType::Int,
        "boolean" => ColumnType::Bool,
        "double precision" => ColumnType::Real,
        "text" => ColumnType::Text,
        "bytea" => ColumnType::Bytes,
        _ => return None,
    })
}

fn type_name(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::Int => "bigint",
        ColumnType::Bool => "boolean",
        ColumnType::Real => "double precision",
        ColumnType::Text => "text",
        ColumnType::Bytes => "bytea",
    }
}

type Array<'a> = (Box<dyn ToSql + Sync + 'a>, Type);

/// One column of many rows as a PostgreSQL array.
fn array(kind: ColumnType, rows: &[Values], index: usize) -> Array<'_> {
    let values = rows.iter().map(move |row| &row[index]);
    match kind {
        ColumnType::Int => {
            let list: Vec<Option<i64>> = values.map(|v| if let Value::Int(v) = v { Some(*v) } else { None }).collect();
            (Box::new(list), Type::INT8_ARRAY)
        }
        ColumnType::Bool => {
            let list: Vec<Option<bool>> = values.map(|v| if let Value::Bool(v) = v { Some(*v) } else { None }).collect();
            (Box::new(list), Type::BOOL_ARRAY)
        }
        ColumnType::Real => {
            let list: Vec<Option<f64>> = values.map(|v| if let Value::Real(v) = v { Some(*v) } else { None }).collect();
            (Box::new(list), Type::FLOAT8_ARRAY)
        }
        ColumnType::Text => {
            let list: Vec<Option<&str>> = values.map(|v| if let Value::Text(v) = v { Some(v.as_ref()) } else { None }).collect();
            (Box::new(list), Type::TEXT_ARRAY)
        }
        ColumnType::Bytes => {
            let list: Vec<Option<&[u8]>> = values.map(|v| if let Value::Bytes(v) = v { Some(v.as_ref()) } else { None }).collect();
            (Box::new(list), Type::BYTEA_ARRAY)
        }
    }
}

/// A value of an SQLite row. The column's type decides: SQLite itself would keep text in a column of integers.
fn sqlite_value(row: &rusqlite::Row<'_>, index: usize, kind: ColumnType) -> Result<Value<'static>> {
    use rusqlite::types::ValueRef;
    let value = row.get_ref(index).map_err(sqlite_failed("reading a column"))?;
    Ok(match (kind, value) {
        (_, ValueRef::Null) => Value::Null,
        (ColumnType::Int, ValueRef::Integer(v)) => Value::Int(v),
        (ColumnType::Bool, ValueRef::Integer(v)) => Value::Bool(v != 0),
        (ColumnType::Real, ValueRef::Real(v)) => Value::Real(v),
        (ColumnType::Real, ValueRef::Integer(v)) => Value::Real(v as f64),
        (ColumnType::Text, ValueRef::Text(v)) => {
            let text = std::str::from_utf8(v).map_err(|e| Error::internal("a column holds text that is not UTF-8").caused_by(e))?;
            Value::Text(text.to_owned().into())
        }
        (ColumnType::Bytes, ValueRef::Blob(v)) => Value::Bytes(v.to_owned().into()),
        (kind, other) => return Err(Error::internal(format!("a column of type {} holds {}", type_name(kind), other.data_type()))),
    })
}

fn postgres_value(row: &tokio_postgres::Row, index: usize, kind: ColumnType) -> Result<Value<'static>> {
    let wrong = |e: tokio_postgres::Error| Error::internal("a column has another type than the schema says").caused_by(e);
    let value = match kind {
        ColumnType::Int => row.try_get::<_, Option<i64>>(index).map_err(wrong)?.map(Value::Int),
        ColumnType::Bool => row.try_get::<_, Option<bool>>(index).map_err(wrong)?.map(Value::Bool),
        ColumnType::Real => row.try_get::<_, Option<f64>>(index).map_err(wrong)?.map(Value::Real),
        ColumnType::Text => row.try_get::<_, Option<String>>(index).map_err(wrong)?.map(|v| Value::Text(v.into())),
        ColumnType::Bytes => row.try_get::<_, Option<Vec<u8>>>(index).map_err(wrong)?.map(|v| Value::Bytes(v.into())),
    };
    Ok(value.unwrap_or(Value::Null))
}

/// A row's key as JSON, as a trigger for the given row (`NEW` or `OLD`) writes it: bytes in hexadecimal.
pub(crate) fn key_expression(engine: Engine, table: &Table, row: &str) -> String {
    let part = |column: &Column| {
        let name = format!("{row}.{}", quoted(&column.name));
        match (engine, column.kind) {
            (Engine::Sqlite, ColumnType::Bytes) => format!("lower(hex({name}))"),
            (Engine::Postgres, ColumnType::Bytes) => format!("encode({name}, {})", literal("hex")),
            _ => name,
        }
    };
    let parts: Vec<String> = table.key_columns().map(part).collect();
    match engine {
        Engine::Sqlite => format!("json_array({})", parts.join(", ")),
        Engine::Postgres => format!("jsonb_build_array({})::text", parts.join(", ")),
    }
}

/// Reads back what [`key_expression`] wrote.
pub(crate) fn parse_key(table: &Table, text: &str) -> Result<Values> {
    let wrong = || Error::internal(format!("a captured key of {} does not parse: {text}", table.name));
    let list: Vec<serde_json::Value> = serde_json::from_str(text).map_err(|e| wrong().caused_by(e))?;
    if list.len() != table.key.len() {
        return Err(wrong());
    }
    let part = |(column, value): (&Column, &serde_json::Value)| match (column.kind, value) {
        (ColumnType::Int, serde_json::Value::Number(n)) => n.as_i64().map(Value::Int),
        (ColumnType::Bool, serde_json::Value::Number(n)) => n.as_i64().map(|v| Value::Bool(v != 0)),
        (ColumnType::Bool, serde_json::Value::Bool(v)) => Some(Value::Bool(*v)),
        (ColumnType::Text, serde_json::Value::String(v)) => Some(Value::Text(v.clone().into())),
        (ColumnType::Bytes, serde_json::Value::String(v)) => unhex(v).map(|bytes| Value::Bytes(bytes.into())),
        _ => None,
    };
    table.key_columns().zip(&list).map(|pair| part(pair).ok_or_else(wrong)).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
    text.as_bytes().chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
}
