//! Month partitions on PostgreSQL: made ahead of time, listed, detached into an archive and attached again.
//!
//! A partitioned table is `PARTITION BY RANGE` over one id column, and ids are ordered by time, so that a month is a range of ids.
//! Whatever falls outside of every month goes into the default partition and is moved out of it when its month is made.
//! A detached month is an ordinary table named `archive_...` in the same database, with its wall: it can be dumped with `pg_dump -t`,
//! dropped, or attached again. Consumers, reports and backups no longer see it. On SQLite there is nothing to do.

use crate::copy::{ColumnType, Database, aside};
use crate::migrate::{quoted, secure};
use crate::store::ShardConfig;
use crate::value::Value;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use kernel::{Error, Id, Result, Timestamp};

/// A month of a partitioned table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The partitioned table.
    pub table: String,
    /// The partition's own name, `<table>_y2026m01`, `<table>_default`, or `archive_<table>_y2026m01` once it is detached.
    pub name: String,
    /// About how many rows it holds, as the server's statistics say; 0 when they don't know.
    pub rows: u64,
    /// Whether it is detached.
    pub archived: bool,
}

/// A calendar month in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Month(Date);

enum Nothing {}

impl Month {
    fn at(unix_ms: i64) -> Result<Month> {
        let time = jiff::Timestamp::from_millisecond(unix_ms).map_err(|e| Error::internal("a time is out of range").caused_by(e))?;
        Ok(Month(time.to_zoned(TimeZone::UTC).date().first_of_month()))
    }

    fn next(self) -> Result<Month> {
        let span = jiff::Span::new().months(1);
        Ok(Month(self.0.checked_add(span).map_err(|e| Error::internal("a month is out of range").caused_by(e))?))
    }

    /// The first id of this month.
    fn first_id(self) -> Result<i64> {
        let start = self.0.to_zoned(TimeZone::UTC).map_err(|e| Error::internal("a month is out of range").caused_by(e))?;
        Ok(Id::<Nothing>::first_at(start.timestamp().as_millisecond()).as_i64())
    }

    fn partition_of(self, table: &str) -> String {
        format!("{table}_y{:04}m{:02}", self.0.year(), self.0.month())
    }

    /// From `2026-01`.
    fn parse(text: &str) -> Result<Month> {
        let wrong = || Error::field("month", "invalid", "not a month such as 2026-01");
        let date: Date = format!("{text}-01").parse().map_err(|_| wrong())?;
        if text.len() == 7 { Ok(Month(date)) } else { Err(wrong()) }
    }
}

fn postgres(shard: &ShardConfig) -> Result<Option<Database>> {
    match shard {
        ShardConfig::Sqlite { .. } => Ok(None),
        ShardConfig::Postgres { .. } => Database::open(shard).map(Some),
    }
}

/// Makes the partitions of the present month and of `months_ahead` more, for every partitioned table of the shard. Safe to run on
/// several nodes at once, and at any time: a table that is busy for two seconds is left for the next run.
/// Gives the names of those that were made. Errors: `store.unavailable`, `store.busy`.
pub fn ensure_months(shard: &ShardConfig, now: Timestamp, months_ahead: u32) -> Result<Vec<String>> {
    aside(|| {
        let Some(mut database) = postgres(shard)? else { return Ok(Vec::new()) };
        let mut made = Vec::new();
        for (table, column) in partitioned_tables(&mut database)? {
            let mut month = Month::at(now.unix_ms())?;
            for _ in 0..=months_ahead {
                made.extend(ensure(&mut database, &table, &column, month)?);
                month = month.next()?;
            }
        }
        Ok(made)
    })
}

/// Makes every month between two ids, for rows that are about to be copied in.
pub(crate) fn ensure_between(database: &mut Database, table: &str, column: &str, first: i64, last: i64) -> Result<()> {
    let (mut month, last) = (Month::at(Id::<Nothing>::from_i64(first).unix_ms())?, Month::at(Id::<Nothing>::from_i64(last).unix_ms())?);
    while month <= last {
        ensure(database, table, column, month)?;
        month = month.next()?;
    }
    Ok(())
}

/// The partitioned tables with the id column that they are partitioned by.
pub(crate) fn partitioned_tables(database: &mut Database) -> Result<Vec<(String, String)>> {
    if matches!(database, Database::Sqlite(_)) {
        return Ok(Vec::new());
    }
    const TABLES: &str = "SELECT c.relname::text, a.attname::text FROM pg_partitioned_table p
        JOIN pg_class c ON c.oid = p.partrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0]
        WHERE n.nspname = current_schema() AND p.partstrat = 'r' AND p.partnatts = 1 AND pg_has_role(current_user, c.relowner, 'USAGE')
        ORDER BY 1";
    let rows = database.rows(TABLES, &[], &[ColumnType::Text, ColumnType::Text])?;
    Ok(rows.iter().map(|row| (text(&row[0]), text(&row[1]))).collect())
}

fn text(value: &Value<'_>) -> String {
    if let Value::Text(text) = value { text.to_string() } else { String::new() }
}

fn exists(database: &mut Database, name: &str) -> Result<bool> {
    const EXISTS: &str = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = current_schema() AND c.relname = $1";
    Ok(database.integer(EXISTS, &[Value::Text(name.into())])?.unwrap_or(0) > 0)
}

/// Makes one month. The table is filled from the default partition first and attached when it is complete.
fn ensure(database: &mut Database, table: &str, column: &str, month: Month) -> Result<Option<String>> {
    let name = month.partition_of(table);
    if exists(database, &name)? || exists(database, &format!("archive_{name}"))? {
        return Ok(None);
    }
    let (first, end) = (month.first_id()?, month.next()?.first_id()?);
    let (parent, partition, column) = (quoted(table), quoted(&name), quoted(column));
    let default = quoted(&format!("{table}_default"));
    let has_default = exists(database, &format!("{table}_default"))?;
    let made = database.write(false, |database| {
        // Under the migrations' lock, since other nodes do the same at the same time.
        database.batch(&format!("SET LOCAL lock_timeout = '2s'; SELECT pg_advisory_xact_lock({})", crate::migrate::LOCK))?;
        if exists(database, &name)? {
            return Ok(false);
        }
        database.batch(&format!("CREATE TABLE {partition} (LIKE {parent} INCLUDING ALL)"))?;
        wall(database)?;
        if has_default {
            // Writers wait until the month is attached: else a row could slip in between. Readers wait too: one that was planned before
            // would look for the moved rows in the default partition alone, and find nothing.
            database.batch(&format!(
                "LOCK TABLE {parent}, {default} IN ACCESS EXCLUSIVE MODE;
                 WITH moved AS (DELETE FROM {default} WHERE {column} >= {first} AND {column} < {end} RETURNING *) INSERT INTO {partition} SELECT * FROM moved"
            ))?;
        }
        database.batch(&format!("ALTER TABLE {parent} ATTACH PARTITION {partition} FOR VALUES FROM ({first}) TO ({end})"))?;
        Ok(true)
    })?;
    Ok(made.then_some(name))
}

/// Raises the wall on what the open transaction has made.
fn wall(database: &mut Database) -> Result<()> {
    match database {
        Database::Sqlite(_) => Ok(()),
        Database::Postgres(p) => {
            let (client, runtime) = p.parts();
            runtime.block_on(secure(client))
        }
    }
}

/// The partitions of the shard, archived ones included, by name.
pub fn list(shard: &ShardConfig) -> Result<Vec<Partition>> {
    aside(|| {
        let Some(mut database) = postgres(shard)? else { return Ok(Vec::new()) };
        const PARTITIONS: &str = "SELECT coalesce(parent.relname::text, substring(c.relname::text FROM '^archive_(.*)_y[0-9]{4}m[0-9]{2}$')),
                 c.relname::text, greatest(c.reltuples, 0)::bigint, (parent.relname IS NULL)::int::bigint
            FROM pg_class c
            JOIN pg_namespace n ON n.oid = c.relnamespace
            LEFT JOIN pg_inherits i ON i.inhrelid = c.oid LEFT JOIN pg_class parent ON parent.oid = i.inhparent
            WHERE n.nspname = current_schema() AND c.relkind = 'r' AND (c.relispartition OR c.relname ~ '^archive_.*_y[0-9]{4}m[0-9]{2}$') ORDER BY 2";
        let rows = database.rows(PARTITIONS, &[], &[ColumnType::Text, ColumnType::Text, ColumnType::Int, ColumnType::Int])?;
        let partition = |row: &Vec<Value<'static>>| Partition {
            table: text(&row[0]),
            name: text(&row[1]),
            rows: if let Value::Int(rows) = row[2] { rows.max(0) as u64 } else { 0 },
            archived: row[3] == Value::Int(1),
        };
        Ok(rows.iter().map(partition).collect())
    })
}

/// Detaches a month, such as `2026-01`, from `table`. Gives the archive's name.
/// Errors: `request.invalid` for what is not a month; `store.unknown_partition` when there is no such month; `store.busy`.
pub fn detach(shard: &ShardConfig, table: &str, month: &str) -> Result<String> {
    let name = Month::parse(month)?.partition_of(table);
    let archive = format!("archive_{name}");
    aside(|| {
        let mut database = known(shard, &name)?;
        database.write(false, |database| {
            database.batch(&format!(
                "SET LOCAL lock_timeout = '2s'; ALTER TABLE {} DETACH PARTITION {}; ALTER TABLE {} RENAME TO {}",
                quoted(table),
                quoted(&name),
                quoted(&name),
                quoted(&archive)
            ))
        })
    })?;
    Ok(archive)
}

/// Attaches an archived month again. Errors: as [`detach`].
pub fn attach(shard: &ShardConfig, table: &str, month: &str) -> Result<()> {
    let month = Month::parse(month)?;
    let name = month.partition_of(table);
    aside(|| {
        let mut database = known(shard, &format!("archive_{name}"))?;
        let (first, end) = (month.first_id()?, month.next()?.first_id()?);
        database.write(false, |database| {
            database.batch(&format!(
                "SET LOCAL lock_timeout = '2s'; ALTER TABLE {} RENAME TO {}; ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({first}) TO ({end})",
                quoted(&format!("archive_{name}")),
                quoted(&name),
                quoted(table),
                quoted(&name)
            ))
        })
    })
}

fn known(shard: &ShardConfig, name: &str) -> Result<Database> {
    let unknown = || Error::not_found("store.unknown_partition", format!("there is no partition {name}"));
    let mut database = postgres(shard)?.ok_or_else(unknown)?;
    if exists(&mut database, name)? { Ok(database) } else { Err(unknown()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_ranges_of_ids() {
        let month = Month::parse("2026-01").unwrap();
        assert_eq!(month.partition_of("store_events"), "store_events_y2026m01");
        assert_eq!(month.next().unwrap(), Month::parse("2026-02").unwrap());
        assert_eq!(Month::parse("2025-12").unwrap().next().unwrap(), month);
        let first = Id::<Nothing>::from_i64(month.first_id().unwrap());
        assert_eq!(first.unix_ms(), 1_767_225_600_000);
        assert_eq!(Month::at(first.unix_ms()).unwrap(), month);
        assert_eq!(Month::at(first.unix_ms() - 1).unwrap(), Month::parse("2025-12").unwrap());
        for wrong in ["2026-13", "2026", "01-2026", "2026-1", "2026-01-01", ""] {
            assert!(Month::parse(wrong).is_err(), "{wrong}");
        }
    }
}
