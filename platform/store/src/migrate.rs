//! Migrations: numbered files of portable DDL, run once per shard under a lock, checksummed, never edited after release.
//!
//! On PostgreSQL the runner also raises the wall: row-level security, forced, on every table with a `tenant_id`, for two roles that
//! own nothing. `brandos_tenant` sees the rows of the tenant that `app.tenant` names, `brandos_platform` sees all.

use crate::copy::{ColumnType, Database, aside};
use crate::sql::tokens;
use crate::store::{Engine, ShardConfig};
use crate::value::Value;
use kernel::{Error, Result, Timestamp};
use std::collections::{HashMap, HashSet};
use tokio_postgres::error::SqlState;

/// One numbered file of portable DDL. Lines between `-- @sqlite` or `-- @postgres` and `-- @end` are for that engine alone.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// From 1, without a gap within a module.
    pub number: u32,
    /// The file's name without number and ending.
    pub name: &'static str,
    /// The file's text.
    pub sql: &'static str,
}

/// A module's migrations, in order.
#[derive(Clone, Copy, Debug)]
pub struct Migrations {
    /// The module's name; its tables begin with it.
    pub module: &'static str,
    /// In order.
    pub steps: &'static [Migration],
}

/// A migration that was run just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Applied {
    /// The module.
    pub module: &'static str,
    /// The migration's number.
    pub number: u32,
    /// The migration's name.
    pub name: &'static str,
}

/// A migration that a shard does not have yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The module.
    pub module: &'static str,
    /// The migration's number.
    pub number: u32,
    /// The migration's name.
    pub name: &'static str,
}

/// The advisory lock under which one node at a time migrates: "brandosm" as a number.
pub(crate) const LOCK: i64 = 0x6272_616e_646f_736d;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS store_migrations (
  module TEXT NOT NULL,
  number BIGINT NOT NULL,
  name TEXT NOT NULL,
  checksum TEXT NOT NULL,
  applied_at BIGINT NOT NULL,
  PRIMARY KEY (module, number)
)";
const APPLIED: &str = "SELECT module, number, checksum FROM store_migrations ORDER BY module, number";

const STEPS: &[Migration] = &[
    Migration { number: 1, name: "store", sql: include_str!("../migrations/0001_store.sql") },
    Migration { number: 2, name: "leases", sql: include_str!("../migrations/0002_leases.sql") },
];

/// The store's own tables.
pub(crate) fn store_migrations() -> Migrations {
    Migrations { module: "store", steps: STEPS }
}

/// The text of a file for one engine. A block ends at `-- @end` or where the other engine's begins.
/// Errors: `internal` naming the line with an unknown directive, a stray end, or a block that is not closed.
pub(crate) fn text_for(sql: &str, engine: Engine) -> Result<String> {
    let mut out = String::with_capacity(sql.len());
    let mut block: Option<(Engine, usize)> = None;
    for (index, line) in sql.lines().enumerate() {
        let number = index + 1;
        let directive = line.trim().strip_prefix("--").map(str::trim_start).and_then(|comment| comment.strip_prefix('@'));
        match directive.map(str::trim_end) {
            Some("sqlite") => block = Some((Engine::Sqlite, number)),
            Some("postgres") => block = Some((Engine::Postgres, number)),
            Some("end") if block.is_some() => block = None,
            Some(other) => return Err(Error::internal(format!("line {number} of a migration: unexpected directive @{other}"))),
            None if block.is_none_or(|(only, _)| only == engine) => {
                out.push_str(line);
                out.push('\n');
            }
            None => {}
        }
    }
    match block {
        Some((_, number)) => Err(Error::internal(format!("line {number} of a migration: the block is not closed by -- @end"))),
        None => Ok(out),
    }
}

/// Gives each text column the collation "C": text is ordered by its bytes, as on SQLite, and no upgrade of the system's locales can
/// make an index wrong.
fn in_byte_order(ddl: &str) -> String {
    let mut out = String::with_capacity(ddl.len());
    let mut before = "";
    let mut rest = tokens(ddl).peekable();
    while let Some(token) = rest.next() {
        out.push_str(token);
        if token.trim().is_empty() {
            continue;
        }
        let column = token.eq_ignore_ascii_case("text") && !before.eq_ignore_ascii_case("as") && before != ":";
        before = token;
        if column {
            let space = rest.next_if(|next| next.trim().is_empty()).unwrap_or_default();
            if !rest.peek().is_some_and(|next| next.eq_ignore_ascii_case("collate")) {
                out.push_str(" COLLATE \"C\"");
            }
            out.push_str(space);
        }
    }
    out
}

/// The statements of a text, without the semicolons between them. Quoted text, comments and `$$` bodies are left whole.
pub(crate) fn statements(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut start, mut end) = (0, 0);
    let (mut in_body, mut after_dollar, mut says_something) = (false, false, false);
    for token in tokens(text) {
        let dollar = token == "$";
        if dollar && after_dollar {
            in_body = !in_body;
        }
        after_dollar = dollar && !after_dollar;
        if token == ";" && !in_body {
            if says_something {
                found.push(text[start..end].trim());
            }
            start = end + 1;
            says_something = false;
        } else {
            says_something |= !token.starts_with("--") && !token.trim().is_empty();
        }
        end += token.len();
    }
    if says_something {
        found.push(text[start..].trim());
    }
    found
}

fn checksum(sql: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, sql.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is still to be done, in order, given what the database says has been done.
fn pending(sets: &[Migrations], done: &[(String, i64, String)]) -> Result<Vec<(&'static str, Migration)>> {
    let mut names = HashSet::new();
    for set in sets {
        let numbered = set.steps.iter().zip(1..).all(|(step, number)| step.number == number);
        if !numbered || !names.insert(set.module) {
            return Err(Error::internal(format!(
                "the migrations of {} are not numbered from 1 without a gap, or are given twice",
                set.module
            )));
        }
    }
    let mut applied: HashMap<&str, i64> = HashMap::new();
    for (module, number, sum) in done {
        let unknown = |why: &str| {
            let what = format!("this database has migration {module}/{number:04}, {why}: it was made by another version of this program");
            Error::failed_precondition("store.migration_unknown", what)
        };
        let set = sets.iter().find(|set| set.module == module).ok_or_else(|| unknown("of a module that is not known here"))?;
        let last = applied.insert(set.module, *number).unwrap_or(0);
        if *number != last + 1 {
            return Err(unknown("with a gap before it"));
        }
        let step = set.steps.get(last as usize).ok_or_else(|| unknown("which is not known here"))?;
        if checksum(step.sql) != *sum {
            let what = format!("migration {module}/{number:04}_{} was edited after it had been applied to this database", step.name);
            return Err(Error::failed_precondition("store.migration_edited", what));
        }
    }
    let count = |set: &Migrations| applied.get(set.module).copied().unwrap_or(0) as usize;
    Ok(sets.iter().flat_map(|set| set.steps[count(set)..].iter().map(|step| (set.module, *step))).collect())
}

/// What opening a store would run on a shard, in order. Only reads; a database that is empty or missing has everything before it. Blocks.
/// Errors: `store.migration_edited`, `store.migration_unknown`, `store.unavailable`.
pub fn pending_migrations(shard: &ShardConfig, modules: &[Migrations]) -> Result<Vec<Pending>> {
    let sets: Vec<Migrations> = std::iter::once(store_migrations()).chain(modules.iter().copied()).collect();
    let done = aside(|| applied_on(shard))?;
    let pending = pending(&sets, &done)?;
    Ok(pending.into_iter().map(|(module, step)| Pending { module, number: step.number, name: step.name }).collect())
}

/// The migrations that a shard has, without changing anything there.
fn applied_on(shard: &ShardConfig) -> Result<Vec<(String, i64, String)>> {
    let (mut database, there) = match shard {
        ShardConfig::Sqlite { path } if !path.exists() => return Ok(Vec::new()),
        ShardConfig::Sqlite { path } => {
            let failed = |e| crate::sqlite::sqlite_error(e, "opening a database file to read it");
            let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = rusqlite::Connection::open_with_flags(path, flags).map_err(failed)?;
            connection.busy_timeout(std::time::Duration::from_secs(5)).map_err(failed)?;
            (Database::Sqlite(connection), "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'store_migrations'")
        }
        ShardConfig::Postgres { .. } => match Database::open(shard) {
            Ok(database) => (database, "SELECT count(*) FROM pg_class WHERE oid = to_regclass('store_migrations')"),
            Err(error) if is_missing_database(&error) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        },
    };
    if database.integer(there, &[])? == Some(0) {
        return Ok(Vec::new());
    }
    let read = |row: Vec<Value<'static>>| match row.as_slice() {
        [Value::Text(module), Value::Int(number), Value::Text(checksum)] => Ok((module.to_string(), *number, checksum.to_string())),
        _ => Err(Error::internal("store_migrations can't be read")),
    };
    database.rows(APPLIED, &[], &[ColumnType::Text, ColumnType::Int, ColumnType::Text])?.into_iter().map(read).collect()
}

fn is_missing_database(error: &Error) -> bool {
    let cause = error.cause().and_then(|cause| cause.downcast_ref::<tokio_postgres::Error>());
    cause.and_then(|cause| cause.code()) == Some(&SqlState::INVALID_CATALOG_NAME)
}

/// Runs what is pending on an SQLite file, all of it in one transaction.
/// Errors: `store.migration_edited`, `store.migration_unknown`; `internal` naming the statement that failed.
pub(crate) fn run_sqlite(connection: &mut rusqlite::Connection, sets: &[Migrations], now: Timestamp) -> Result<Vec<Applied>> {
    let failed = |what: String| move |e: rusqlite::Error| Error::internal(format!("migrating failed at: {what}")).caused_by(e);
    let transaction = connection
        .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
        .map_err(|e| Error::unavailable("store.busy", "the database is held by another process").caused_by(e))?;
    transaction.execute(TABLE, []).map_err(failed(TABLE.to_owned()))?;
    let done = {
        let mut statement = transaction.prepare(APPLIED).map_err(failed(APPLIED.to_owned()))?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).map_err(failed(APPLIED.to_owned()))?;
        rows.collect::<rusqlite::Result<Vec<_>>>().map_err(failed(APPLIED.to_owned()))?
    };
    let mut applied = Vec::new();
    for (module, step) in pending(sets, &done)? {
        for statement in statements(&text_for(step.sql, Engine::Sqlite)?) {
            transaction.execute_batch(statement).map_err(failed(format!("{module}/{:04}_{}: {statement}", step.number, step.name)))?;
        }
        const INSERT: &str = "INSERT INTO store_migrations (module, number, name, checksum, applied_at) VALUES (?1, ?2, ?3, ?4, ?5)";
        let row = (module, step.number, step.name, checksum(step.sql), now.micros());
        transaction.execute(INSERT, row).map_err(failed(INSERT.to_owned()))?;
        applied.push(Applied { module, number: step.number, name: step.name });
    }
    transaction.commit().map_err(failed("COMMIT".to_owned()))?;
    Ok(applied)
}

fn postgres_error(what: impl Into<String>) -> impl FnOnce(tokio_postgres::Error) -> Error {
    let what = what.into();
    move |e| {
        if e.is_closed() {
            return Error::unavailable("store.unavailable", "the database is away").caused_by(e);
        }
        Error::internal(format!("preparing the PostgreSQL shard failed at: {what}")).caused_by(e)
    }
}

/// Runs what is pending on a PostgreSQL database, each file in a transaction of its own, and raises the wall on every table.
/// The lock is held by each transaction, not by the session, so that this works through PgBouncer in transaction mode.
/// Errors: `store.migration_edited`, `store.migration_unknown`, `store.roles_missing` when the user may not make the roles that the
/// wall needs; `internal` naming the statement that failed.
pub(crate) async fn run_postgres(client: &mut tokio_postgres::Client, sets: &[Migrations], now: Timestamp) -> Result<Vec<Applied>> {
    let mut applied = Vec::new();
    ensure_roles(client).await?;
    loop {
        let transaction = client.transaction().await.map_err(postgres_error("BEGIN"))?;
        transaction
            .batch_execute(&format!("SELECT pg_advisory_xact_lock({LOCK})"))
            .await
            .map_err(postgres_error("the migrations' lock"))?;
        transaction.batch_execute(TABLE).await.map_err(postgres_error(TABLE))?;
        let rows = transaction.query_typed(APPLIED, &[]).await.map_err(postgres_error(APPLIED))?;
        let read = |row: &tokio_postgres::Row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
        let done = rows.iter().map(read).collect::<Result<Vec<_>, tokio_postgres::Error>>().map_err(postgres_error(APPLIED))?;
        let Some((module, step)) = pending(sets, &done)?.into_iter().next() else {
            secure(&transaction).await?;
            transaction.commit().await.map_err(postgres_error("COMMIT"))?;
            return Ok(applied);
        };
        for statement in statements(&in_byte_order(&text_for(step.sql, Engine::Postgres)?)) {
            let what = format!("{module}/{:04}_{}: {statement}", step.number, step.name);
            transaction.batch_execute(statement).await.map_err(postgres_error(what))?;
        }
        // In the same transaction: no table stands for a moment without its wall.
        secure(&transaction).await?;
        let insert = format!(
            "INSERT INTO store_migrations (module, number, name, checksum, applied_at) VALUES ({}, {}, {}, {}, {})",
            literal(module),
            step.number,
            literal(step.name),
            literal(&checksum(step.sql)),
            now.micros()
        );
        transaction.batch_execute(&insert).await.map_err(postgres_error("store_migrations"))?;
        transaction.commit().await.map_err(postgres_error("COMMIT"))?;
        applied.push(Applied { module, number: step.number, name: step.name });
    }
}

/// Text as an SQL literal. For generated DDL, where nothing can be bound.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name as an SQL identifier.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Makes the two roles and lets the connected user take them. Roles belong to the whole cluster: another database's migration may be
/// doing the same at this moment.
async fn ensure_roles(client: &tokio_postgres::Client) -> Result<()> {
    for role in ["brandos_tenant", "brandos_platform"] {
        let make = format!(
            "DO $$ BEGIN
               IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN CREATE ROLE {role} NOLOGIN; END IF;
             EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
             END $$"
        );
        // USAGE and not MEMBER: the policies must hold for the user too, who inherits the roles' rights.
        let grant = format!(
            "DO $$ BEGIN IF NOT pg_has_role(current_user, '{role}', 'USAGE') THEN GRANT {role} TO current_user; END IF; END $$;
             DO $$ BEGIN IF NOT has_schema_privilege('{role}', current_schema(), 'USAGE')
               THEN EXECUTE format('GRANT USAGE ON SCHEMA %I TO {role}', current_schema()); END IF; END $$"
        );
        for statement in [make, grant] {
            let mut tries = 0;
            while let Err(error) = client.batch_execute(&statement).await {
                tries += 1;
                // "tuple concurrently updated", or a key that is there already, is how PostgreSQL says that another session granted at the same moment.
                let raced = matches!(error.code(), Some(code) if [SqlState::INTERNAL_ERROR, SqlState::UNIQUE_VIOLATION].contains(code))
                    && tries < 10;
                if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
                    let what = format!(
                        "the database's user may not make or use the role {role}; as an administrator run: \
                         CREATE ROLE {role} NOLOGIN; GRANT {role} TO <the user>"
                    );
                    return Err(Error::failed_precondition("store.roles_missing", what).caused_by(error));
                }
                if !raced {
                    return Err(postgres_error(statement)(error));
                }
                tokio::time::sleep(std::time::Duration::from_millis(20 * tries)).await;
            }
        }
        let inherits = client
            .query_typed(&format!("SELECT pg_has_role(current_user, '{role}', 'USAGE')"), &[])
            .await
            .and_then(|rows| rows.first().map_or(Ok(false), |row| row.try_get(0)))
            .map_err(postgres_error("reading the roles"))?;
        if !inherits {
            let what = format!(
                "the database's user has the role {role} without its rights; as an administrator run: ALTER ROLE <the user> INHERIT"
            );
            return Err(Error::failed_precondition("store.roles_missing", what));
        }
    }
    Ok(())
}

/// The tables of the schema that the connected user owns, with what their wall lacks.
const WALLS: &str = "SELECT c.relname::text,
       EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped),
       c.relrowsecurity AND c.relforcerowsecurity,
       EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'store_tenant'),
       EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'store_platform'),
       has_table_privilege('brandos_tenant', c.oid, 'SELECT') AND has_table_privilege('brandos_tenant', c.oid, 'INSERT')
         AND has_table_privilege('brandos_tenant', c.oid, 'UPDATE') AND has_table_privilege('brandos_tenant', c.oid, 'DELETE'),
       has_table_privilege('brandos_tenant', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER'),
       has_table_privilege('brandos_platform', c.oid, 'SELECT') AND has_table_privilege('brandos_platform', c.oid, 'INSERT')
         AND has_table_privilege('brandos_platform', c.oid, 'UPDATE') AND has_table_privilege('brandos_platform', c.oid, 'DELETE')
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p') AND pg_has_role(current_user, c.relowner, 'USAGE')
  ORDER BY c.relname";

/// Raises the wall where it is missing: rights and row-level security on every table, partitions included, since a partition that is
/// named itself is not covered by its parent's. Does nothing, and locks nothing, where it stands.
pub(crate) async fn secure(transaction: &impl tokio_postgres::GenericClient) -> Result<()> {
    let rows = transaction.query_typed(WALLS, &[]).await.map_err(postgres_error("reading the tables' rights"))?;
    let mut ddl = String::new();
    for row in rows {
        let name: String = row.try_get(0).map_err(postgres_error("reading the tables' rights"))?;
        let fact = |index: usize| row.try_get::<_, bool>(index).map_err(postgres_error("reading the tables' rights"));
        let (of_tenants, forced, tenant_policy, platform_policy) = (fact(1)?, fact(2)?, fact(3)?, fact(4)?);
        let (tenant_may_all, tenant_may_something, platform_may_all) = (fact(5)?, fact(6)?, fact(7)?);
        let table = quoted(&name);
        if !platform_may_all {
            ddl += &format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO brandos_platform;\n");
        }
        if !of_tenants {
            // A platform table: nothing for a tenant, whatever an administrator's default privileges gave.
            if tenant_may_something {
                ddl += &format!("REVOKE ALL ON {table} FROM brandos_tenant, PUBLIC;\n");
            }
            continue;
        }
        if !tenant_may_all {
            ddl += &format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO brandos_tenant;\n");
        }
        if !forced {
            ddl += &format!("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;\nALTER TABLE {table} FORCE ROW LEVEL SECURITY;\n");
        }
        if !tenant_policy {
            // The tenant is in every statement's own condition, which finds its rows. To the planner a second one would be as good as
            // another column: it would expect next to nothing of a tenant, and take any index that begins with one. COALESCE is opaque to it.
            let own = "tenant_id = nullif(current_setting('app.tenant', true), '')::bigint";
            ddl += &format!("CREATE POLICY store_tenant ON {table} TO brandos_tenant USING (coalesce({own}, false)) WITH CHECK ({own});\n");
        }
        if !platform_policy {
            ddl += &format!("CREATE POLICY store_platform ON {table} TO brandos_platform USING (true) WITH CHECK (true);\n");
        }
    }
    if ddl.is_empty() {
        return Ok(());
    }
    transaction.batch_execute(&ddl).await.map_err(postgres_error(ddl))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

    fn fails(result: Result<Vec<Applied>>, code: &str, says: &str) {
        let error = result.expect_err("it fails");
        assert_eq!(error.code(), code, "{error:?}");
        assert!(format!("{error:?}").contains(says), "{error:?}");
    }

    #[test]
    fn blocks_are_for_one_engine() {
        let text = "a\n-- @sqlite\nb\n-- @end\nc\n-- @postgres\nd\n-- @sqlite\ne\n  --@end  \nf -- @sqlite is a comment here\n";
        assert_eq!(text_for(text, Engine::Sqlite).unwrap(), "a\nb\nc\ne\nf -- @sqlite is a comment here\n");
        assert_eq!(text_for(text, Engine::Postgres).unwrap(), "a\nc\nd\nf -- @sqlite is a comment here\n");
        for wrong in ["-- @sqlite\na", "-- @mysql\na\n-- @end", "-- @end"] {
            assert!(text_for(wrong, Engine::Sqlite).is_err(), "{wrong}");
        }
    }

    #[test]
    fn text_columns_are_ordered_by_bytes() {
        let ddl = "CREATE TABLE t (a TEXT NOT NULL, b text, c BIGINT DEFAULT CAST(CAST('1' AS TEXT) AS BIGINT)) -- TEXT";
        let expected = "CREATE TABLE t (a TEXT COLLATE \"C\" NOT NULL, b text COLLATE \"C\", c BIGINT DEFAULT CAST(CAST('1' AS TEXT) AS BIGINT)) -- TEXT";
        assert_eq!(in_byte_order(ddl), expected);
    }

    #[test]
    fn statements_are_split_outside_of_quotes_and_comments() {
        let table: [(&str, &[&str]); 7] = [
            ("", &[]),
            (" ; ;\n-- nothing\n;", &[]),
            ("a; b", &["a", "b"]),
            ("a ';' b;", &["a ';' b"]),
            ("a -- x;y\n b;\n-- last", &["a -- x;y\n b"]),
            ("\"a;b\"; 'it''s;'", &["\"a;b\"", "'it''s;'"]),
            ("DO $$ BEGIN x; END $$; b", &["DO $$ BEGIN x; END $$", "b"]),
        ];
        for (given, expected) in table {
            assert_eq!(statements(given), expected, "{given}");
        }
    }

    const FIRST: Migration =
        Migration { number: 1, name: "first", sql: "CREATE TABLE m_a (tenant_id BIGINT NOT NULL, a BIGINT, PRIMARY KEY (tenant_id))" };
    const SECOND: Migration = Migration { number: 2, name: "second", sql: "CREATE TABLE m_b (b BIGINT);\nINSERT INTO m_b VALUES (1);" };
    const EDITED: Migration = Migration { sql: "CREATE TABLE m_a (a TEXT)", ..FIRST };
    const BROKEN: Migration = Migration { number: 2, name: "broken", sql: "CREATE TABLE m_c (c BIGINT); CREATE NONSENSE;" };
    const OLD: &[Migrations] = &[Migrations { module: "m", steps: &[FIRST] }];
    const NEW: &[Migrations] = &[Migrations { module: "m", steps: &[FIRST, SECOND] }];

    #[test]
    fn sqlite_migrates_once_and_refuses_what_does_not_fit() {
        let mut connection = rusqlite::Connection::open_in_memory().unwrap();
        let both = [store_migrations(), OLD[0]];
        let applied = run_sqlite(&mut connection, &both, NOW).unwrap();
        assert_eq!(applied.iter().map(|a| (a.module, a.number)).collect::<Vec<_>>(), [("store", 1), ("store", 2), ("m", 1)]);
        assert!(run_sqlite(&mut connection, &both, NOW).unwrap().is_empty());
        let newer = [store_migrations(), NEW[0]];
        assert_eq!(run_sqlite(&mut connection, &newer, NOW).unwrap(), [Applied { module: "m", number: 2, name: "second" }]);
        fails(run_sqlite(&mut connection, &both, NOW), "store.migration_unknown", "m/0002");
        fails(run_sqlite(&mut connection, &newer[..1], NOW), "store.migration_unknown", "m/0001");
        let edited = [store_migrations(), Migrations { module: "m", steps: &[EDITED, SECOND] }];
        fails(run_sqlite(&mut connection, &edited, NOW), "store.migration_edited", "m/0001_first");
        connection.execute("DELETE FROM store_migrations WHERE module = 'm' AND number = 1", []).unwrap();
        fails(run_sqlite(&mut connection, &newer, NOW), "store.migration_unknown", "gap");
    }

    #[test]
    fn what_is_pending_is_told_without_a_trace() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shard.db");
        let shard = ShardConfig::Sqlite { path: path.clone() };
        let names = |shard: &ShardConfig, sets: &[Migrations]| -> Vec<(&str, u32)> {
            pending_migrations(shard, sets).unwrap().iter().map(|p| (p.module, p.number)).collect()
        };
        let everything = [("store", 1), ("store", 2), ("m", 1), ("m", 2)];
        assert_eq!(names(&shard, NEW), everything);
        assert!(!path.exists());
        std::fs::write(&path, b"").unwrap();
        assert_eq!(names(&shard, NEW), everything);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);

        let mut connection = rusqlite::Connection::open(&path).unwrap();
        run_sqlite(&mut connection, &[store_migrations(), OLD[0]], NOW).unwrap();
        drop(connection);
        let before = std::fs::read(&path).unwrap();
        assert_eq!(names(&shard, OLD), []);
        assert_eq!(names(&shard, NEW), [("m", 2)]);
        assert_eq!(std::fs::read(&path).unwrap(), before);
        let edited = [Migrations { module: "m", steps: &[EDITED, SECOND] }];
        assert_eq!(pending_migrations(&shard, &edited).unwrap_err().code(), "store.migration_edited");
        assert_eq!(pending_migrations(&shard, &[]).unwrap_err().code(), "store.migration_unknown");
    }

    #[test]
    fn a_broken_migration_leaves_nothing_behind() {
        let mut connection = rusqlite::Connection::open_in_memory().unwrap();
        let broken = [Migrations { module: "m", steps: &[FIRST, BROKEN] }];
        fails(run_sqlite(&mut connection, &broken, NOW), "internal", "m/0002_broken: CREATE NONSENSE");
        let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0)).unwrap();
        assert_eq!(tables, 0);
        let gap = [Migrations { module: "m", steps: &[SECOND] }];
        fails(run_sqlite(&mut connection, &gap, NOW), "internal", "not numbered");
    }
}
