//! SQLite's wall between tenants: what row-level security is on PostgreSQL.
//!
//! A statement in a tenant's scope passes twice. [`check_text`] sees to it that `tenant_id` is compared with `$1` and nothing else,
//! is inserted as `$1`, and is never updated. [`check_plan`] asks SQLite how it will run the statement, and wants `tenant_id=?` on
//! every table that is searched; a scan is refused. Together: every row that is touched was found by `tenant_id = $1`.
//! The wall is stricter than it would have to be. It stops mistakes; it is not a sandbox for hostile SQL.

use crate::copy::{Database, aside};
use crate::sql::tokens;
use crate::store::ShardConfig;
use kernel::{Error, Result};
use std::collections::HashSet;

/// Words after a comparison that would make its right side more than `$1`, and operators that compare or compute.
const OPERATORS: &[&str] = &[
    "=", "<", ">", "!", "+", "-", "*", "/", "%", "|", "&", "~", "in", "is", "not", "between", "like", "glob", "regexp", "match", "collate",
    "isnull", "notnull",
];
/// Words that may follow a table's name without being its alias.
const NOT_ALIASES: &[&str] = &[
    "where",
    "on",
    "join",
    "left",
    "inner",
    "cross",
    "natural",
    "right",
    "full",
    "using",
    "order",
    "group",
    "limit",
    "set",
    "values",
    "select",
    "union",
    "except",
    "intersect",
    "returning",
    "indexed",
    "not",
    "having",
    "window",
    "default",
    "do",
    "offset",
    "as",
];

fn refused(why: &str, sql: &str) -> Error {
    Error::internal(format!("the wall between tenants refuses a statement: {why}: {sql}"))
}

/// The words, parameters and punctuation of a statement, in lower case; quoted text stands as it is.
fn words(sql: &str) -> Vec<String> {
    let significant = tokens(sql).filter(|t| !t.trim().is_empty() && !t.starts_with("--"));
    significant.map(|t| if t.starts_with('\'') { t.to_owned() } else { t.to_lowercase() }).collect()
}

/// A word list with questions; out of bounds is the empty word.
struct Words(Vec<String>);

impl Words {
    fn at(&self, index: usize) -> &str {
        self.0.get(index).map_or("", String::as_str)
    }

    /// The word `back` places before `index`.
    fn before(&self, index: usize, back: usize) -> &str {
        index.checked_sub(back).map_or("", |i| self.at(i))
    }

    fn operator(&self, word: &str) -> bool {
        OPERATORS.contains(&word)
    }

    /// The index of the parenthesis that closes the one at `open`, or the end.
    fn close(&self, open: usize) -> usize {
        let mut depth = 0;
        for (index, word) in self.0.iter().enumerate().skip(open) {
            match word.as_str() {
                "(" => depth += 1,
                ")" => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return index;
            }
        }
        self.0.len()
    }

    /// Whether `tenant_id` at `index` is compared with the parameter `$1` (or `?1`), and with that alone.
    fn compared_with_tenant(&self, index: usize) -> bool {
        let start = self.operand(index);
        let right = self.at(index + 1) == "=" && self.tenant_parameter(index + 2) && !self.operator(self.after_parameter(index + 2));
        let left = self.before(start, 1) == "=" && start >= 2 && self.tenant_parameter_ending(start - 2);
        match (self.operator(self.before(start, 1)), self.operator(self.at(index + 1))) {
            (false, true) => right,
            // `$1 = tenant_id`, and what is before `$1` does not compute.
            (true, false) => left,
            _ => false,
        }
    }

    /// Where the operand that ends in `tenant_id` begins: `x` in `x.tenant_id`.
    fn operand(&self, index: usize) -> usize {
        if self.before(index, 1) == "." { index.saturating_sub(2) } else { index }
    }

    /// `$1` as it was written, or `?1`, which [`tokens`] takes for two words.
    fn tenant_parameter(&self, index: usize) -> bool {
        self.at(index) == "$1" || self.at(index) == "?" && self.at(index + 1) == "1"
    }

    fn after_parameter(&self, index: usize) -> &str {
        self.at(if self.at(index) == "$1" { index + 1 } else { index + 2 })
    }

    fn tenant_parameter_ending(&self, index: usize) -> bool {
        let start = if self.at(index) == "$1" { index } else { index.saturating_sub(1) };
        self.tenant_parameter(start) && !self.operator(self.before(start, 1))
    }

    /// `$1` or `CAST($1 AS BIGINT)`: where it ends, if it stands at `index`.
    fn tenant_value(&self, index: usize) -> Option<usize> {
        if self.at(index) == "$1" {
            return Some(index + 1);
        }
        let cast = ["cast", "(", "$1", "as", "bigint", ")"];
        cast.iter().enumerate().all(|(i, word)| self.at(index + i) == *word).then_some(index + cast.len())
    }
}

/// Checks the text of a statement for a tenant's scope, as it was written (with `$1`). Errors: `internal` naming the statement.
pub(crate) fn check_text(sql: &str) -> Result<()> {
    let words = Words(words(sql));
    match words.at(0) {
        "select" | "insert" | "update" | "delete" | "with" | "values" => {}
        other => return Err(refused(&format!("it begins with {other}"), sql)),
    }
    for (index, word) in words.0.iter().enumerate() {
        match word.as_str() {
            ";" if index + 1 < words.0.len() => return Err(refused("it is more than one statement", sql)),
            "natural" => return Err(refused("a natural join compares tenants unseen", sql)),
            "replace" if words.before(index, 1) == "or" => return Err(refused("INSERT OR REPLACE deletes rows unseen", sql)),
            "\"tenant_id\"" => return Err(refused("tenant_id is quoted", sql)),
            "tenant_id" => check_mention(&words, index).map_err(|why| refused(why, sql))?,
            "into" if words.0[..index].iter().rev().take(3).any(|w| w == "insert") => {
                check_insert(&words, index + 1).map_err(|why| refused(why, sql))?;
            }
            "set" => check_set(&words, index + 1).map_err(|why| refused(why, sql))?,
            _ => {}
        }
    }
    Ok(())
}

/// One mention of `tenant_id`.
fn check_mention(words: &Words, index: usize) -> Result<(), &'static str> {
    let (before, after) = (words.before(words.operand(index), 1), words.at(index + 1));
    if words.operator(before) || words.operator(after) {
        return if words.compared_with_tenant(index) { Ok(()) } else { Err("tenant_id is compared with something else than $1") };
    }
    if after == "as" {
        return Err("tenant_id is given another name");
    }
    // A list in parentheses: what is it for?
    let mut depth = 0;
    for open in (0..index).rev() {
        match words.at(open) {
            ")" => depth += 1,
            "(" if depth > 0 => depth -= 1,
            "(" => {
                let compared = words.operator(words.at(words.close(open) + 1)) || words.operator(words.before(open, 1));
                let plain = !words.0[open..index].iter().any(|w| w == "select");
                if words.before(open, 1) == "using" || (plain && compared) {
                    return Err("tenant_id is compared as part of a list");
                }
                break;
            }
            _ => {}
        }
    }
    Ok(())
}

/// `t [AS a] (tenant_id, ...) VALUES ($1, ...), ...` or `... SELECT $1, ...`.
fn check_insert(words: &Words, table: usize) -> Result<(), &'static str> {
    const FIRST: &str = "the first column of an INSERT must be tenant_id, and its value $1";
    let mut open = table + 1;
    if words.at(open) == "as" {
        open += 2;
    }
    if words.at(open) != "(" || words.at(open + 1) != "tenant_id" {
        return Err(FIRST);
    }
    let mut index = words.close(open) + 1;
    let mut rows = 0;
    let mut in_values = false;
    while index < words.0.len() {
        match words.at(index) {
            "values" => in_values = true,
            "select" => {
                let distinct = usize::from(words.at(index + 1) == "distinct");
                let end = words.tenant_value(index + 1 + distinct).ok_or(FIRST)?;
                if !matches!(words.at(end), "," | "as" | "from" | "where") {
                    return Err(FIRST);
                }
                rows += 1;
            }
            "on" | "returning" => in_values = false,
            "(" => {
                if in_values {
                    let end = words.tenant_value(index + 1).ok_or(FIRST)?;
                    if !matches!(words.at(end), "," | ")") {
                        return Err(FIRST);
                    }
                    rows += 1;
                }
                index = words.close(index);
            }
            ")" => break,
            _ => {}
        }
        index += 1;
    }
    if rows == 0 { Err(FIRST) } else { Ok(()) }
}

/// The assignments after SET.
fn check_set(words: &Words, start: usize) -> Result<(), &'static str> {
    let mut index = start;
    while index < words.0.len() {
        match words.at(index) {
            "(" => {
                let close = words.close(index);
                let assigned = words.at(close + 1) == "=" && matches!(words.before(index, 1), "set" | ",");
                if assigned && words.0[index..close].iter().any(|w| w == "tenant_id") {
                    return Err("tenant_id is assigned");
                }
                index = close;
            }
            "where" | "from" | "returning" | ")" | ";" => return Ok(()),
            "tenant_id" if matches!(words.before(index, 1), "set" | ",") => return Err("tenant_id is assigned"),
            _ => {}
        }
        index += 1;
    }
    Ok(())
}

/// The names under which a statement reads what is not a table, and the names of its tables.
struct Names {
    derived: HashSet<String>,
    tables: HashSet<String>,
    /// How often a tenant's table is read, as against being inserted into or named before a column.
    mentions: usize,
    /// How often `tenant_id` is compared with the tenant.
    comparisons: usize,
}

fn names(words: &Words, tenant_tables: &HashSet<String>) -> Names {
    let mut names = Names { derived: HashSet::new(), tables: HashSet::new(), mentions: 0, comparisons: 0 };
    // `name AS [NOT] [MATERIALIZED] (SELECT`, with or without a list of columns before AS, and `(...) AS name`.
    for (index, word) in words.0.iter().enumerate() {
        if word == "as" && index > 0 {
            let mut open = index + 1;
            while matches!(words.at(open), "not" | "materialized") {
                open += 1;
            }
            if words.at(open) == "(" {
                let name = if words.before(index, 1) == ")" {
                    (0..index - 1)
                        .rev()
                        .find(|open| words.at(*open) == "(" && words.close(*open) == index - 1)
                        .map_or("", |open| words.before(open, 1))
                } else {
                    words.before(index, 1)
                };
                names.derived.insert(name.to_owned());
            }
        }
        if word == ")" {
            let next = index + 1 + usize::from(words.at(index + 1) == "as");
            if is_name(words.at(next)) {
                names.derived.insert(words.at(next).to_owned());
            }
        }
    }
    for (index, word) in words.0.iter().enumerate() {
        if word == "tenant_id" && words.compared_with_tenant(index) {
            names.comparisons += 1;
        }
        let in_from = matches!(words.before(index, 1), "from" | "join" | "update" | "into" | "," | "(");
        if !in_from || words.at(index + 1) == "." || words.at(index + 1) == "(" && words.before(index, 1) != "into" {
            continue;
        }
        let alias_at = index + 1 + usize::from(words.at(index + 1) == "as");
        let alias = Some(words.at(alias_at)).filter(|alias| is_name(alias));
        if tenant_tables.contains(word.as_str()) {
            names.mentions += usize::from(words.before(index, 1) != "into");
            names.tables.insert(alias.unwrap_or(word).to_owned());
        } else if names.derived.contains(word.as_str())
            && let Some(alias) = alias
        {
            names.derived.insert(alias.to_owned());
        }
    }
    // A name that stands for both is taken for a table.
    names.derived.retain(|name| !names.tables.contains(name) && !tenant_tables.contains(name));
    names
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_') && !NOT_ALIASES.contains(&word) && word != "and" && word != "or"
}

/// Checks how SQLite would run a statement for a tenant's scope, given with numbered parameters (`?1`).
/// Errors: `internal` naming the statement.
pub(crate) fn check_plan(connection: &rusqlite::Connection, sql_numbered: &str, tenant_tables: &HashSet<String>) -> Result<()> {
    let failed = |e: rusqlite::Error| Error::internal(format!("SQLite can't plan a statement: {sql_numbered}")).caused_by(e);
    let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql_numbered}")).map_err(failed)?;
    for index in 1..=explain.parameter_count() {
        // A bare `$2` is a name, numbered by first appearance: binding by position would hit another parameter.
        if explain.parameter_name(index).is_some_and(|name| !name.starts_with('?')) {
            return Err(refused("its parameters are not numbered", sql_numbered));
        }
    }
    let words = Words(words(sql_numbered));
    let names = names(&words, tenant_tables);
    if names.mentions > names.comparisons {
        return Err(refused("every table of tenants that it reads needs its own tenant_id = $1", sql_numbered));
    }
    let mut searches = 0;
    let mut rows = explain.raw_query();
    while let Some(row) = rows.next().map_err(failed)? {
        let step: String = row.get(3).map_err(failed)?;
        if let Some(reason) = refused_step(&step, &names, tenant_tables) {
            return Err(refused(&format!("{reason} ({step})"), sql_numbered));
        }
        searches += usize::from(step.starts_with("SEARCH "));
    }
    if matches!(words.at(0), "update" | "delete") && searches == 0 {
        return Err(refused("it changes rows without searching for a tenant's", sql_numbered));
    }
    Ok(())
}

/// Why a step of a plan does not pass, if it doesn't.
fn refused_step(step: &str, names: &Names, tenant_tables: &HashSet<String>) -> Option<String> {
    let (verb, rest) = step.split_once(' ')?;
    if verb == "RIGHT-JOIN" {
        return Some("a right or full join reads a table twice".to_owned());
    }
    if verb != "SCAN" && verb != "SEARCH" {
        return None;
    }
    let name = rest.split(' ').next().unwrap_or_default().to_lowercase();
    let constant = rest == "CONSTANT ROW" || rest.ends_with(" CONSTANT ROWS") || rest.contains("-ROW VALUES CLAUSE");
    let subquery = name.starts_with("(subquery-") || name.starts_with("(join-");
    let derived = names.derived.contains(&name);
    let function = rest.contains(" VIRTUAL TABLE INDEX ") && (derived || name == "json_each" || name == "json_tree");
    if constant || subquery || derived || function {
        return None;
    }
    let is_table = names.tables.contains(&name) || tenant_tables.contains(&name);
    if !is_table {
        return Some(format!("{name} is not a table of tenants"));
    }
    if verb == "SCAN" {
        return Some(format!("{name} is read for all tenants"));
    }
    if rest.contains(" AUTOMATIC ") {
        return Some(format!("{name} has no index for this and would get one made of all tenants"));
    }
    let by_tenant = rest.contains("(tenant_id=?") || rest.contains(" tenant_id=?");
    (!by_tenant).then(|| format!("{name} is not searched by tenant_id"))
}

/// Tables whose keys begin otherwise, each for the reason given in its migration.
const EXCEPTIONS: &[&str] = &["store_events", "store_once"];

/// What is wrong with a shard's schema, for a test of the modules' migrations: every tenant's table begins its primary key and each of
/// its indexes with `tenant_id`, which is never NULL; on PostgreSQL row-level security is forced on it, and a tenant has no rights on
/// any other table. The store's own two logs begin their keys otherwise, for reasons given in their migration.
pub fn schema_problems(shard: &ShardConfig) -> Result<Vec<String>> {
    aside(|| match Database::open(shard)? {
        Database::Sqlite(connection) => {
            schema_problems_sqlite(&connection).map_err(|e| Error::internal("the schema can't be read").caused_by(e))
        }
        Database::Postgres(mut p) => {
            let (client, runtime) = p.parts();
            runtime.block_on(schema_problems_postgres(client)).map_err(|e| Error::internal("the schema can't be read").caused_by(e))
        }
    })
}

fn schema_problems_sqlite(connection: &rusqlite::Connection) -> rusqlite::Result<Vec<String>> {
    let mut problems = Vec::new();
    let mut tables = connection.prepare(
        "SELECT m.name, c.pk, c.\"notnull\" FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' AND c.name = 'tenant_id' ORDER BY 1",
    )?;
    let tables =
        tables.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect::<rusqlite::Result<Vec<(String, i64, bool)>>>()?;
    for (table, key_position, not_null) in tables {
        if !not_null {
            problems.push(format!("{table}: tenant_id may be NULL"));
        }
        if EXCEPTIONS.contains(&table.as_str()) {
            continue;
        }
        if key_position != 1 {
            problems.push(format!("{table}: the primary key does not begin with tenant_id"));
        }
        let mut indexes = connection
            .prepare("SELECT i.name, (SELECT x.name FROM pragma_index_info(i.name) x WHERE x.seqno = 0) FROM pragma_index_list(?1) i")?;
        let indexes = indexes
            .query_map([&table], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<Vec<(String, Option<String>)>>>()?;
        for (index, first) in indexes {
            if first.as_deref() != Some("tenant_id") {
                problems.push(format!("{table}: the index {index} does not begin with tenant_id"));
            }
        }
    }
    Ok(problems)
}

async fn schema_problems_postgres(client: &tokio_postgres::Client) -> Result<Vec<String>, tokio_postgres::Error> {
    const TABLES: &str = "SELECT c.relname::text, t.attnotnull, c.relrowsecurity AND c.relforcerowsecurity,
             (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname IN ('store_tenant', 'store_platform')) = 2,
             has_table_privilege('brandos_tenant', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE'),
             EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary),
             coalesce((SELECT string_agg(x.relname, ', ') FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
                        WHERE i.indrelid = c.oid AND i.indkey[0] IS DISTINCT FROM t.attnum), '')
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_attribute t ON t.attrelid = c.oid AND t.attname = 'tenant_id' AND NOT t.attisdropped
        WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p') AND pg_has_role(current_user, c.relowner, 'USAGE') ORDER BY 1";
    let mut problems = Vec::new();
    for row in client.query_typed(TABLES, &[]).await? {
        let table: String = row.try_get(0)?;
        let may_something: bool = row.try_get(4)?;
        let Some(not_null) = row.try_get::<_, Option<bool>>(1)? else {
            if may_something {
                problems.push(format!("{table}: a tenant has rights on a table of the platform"));
            }
            continue;
        };
        if !not_null {
            problems.push(format!("{table}: tenant_id may be NULL"));
        }
        if !row.try_get::<_, bool>(2)? || !row.try_get::<_, bool>(3)? {
            problems.push(format!("{table}: row-level security is not forced"));
        }
        if EXCEPTIONS.iter().any(|exception| table.starts_with(exception)) {
            continue;
        }
        if !row.try_get::<_, bool>(5)? {
            problems.push(format!("{table}: there is no primary key"));
        }
        let others: String = row.try_get(6)?;
        if !others.is_empty() {
            problems.push(format!("{table}: these indexes do not begin with tenant_id: {others}"));
        }
    }
    Ok(problems)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::numbered_parameters;

    const SCHEMA: &str = "
        CREATE TABLE shop_orders (tenant_id BIGINT NOT NULL, order_id BIGINT NOT NULL, customer_id BIGINT, total BIGINT, PRIMARY KEY (tenant_id, order_id)) WITHOUT ROWID;
        CREATE INDEX shop_orders_customer ON shop_orders (tenant_id, customer_id);
        CREATE TABLE shop_lines (tenant_id BIGINT NOT NULL, order_id BIGINT NOT NULL, line BIGINT NOT NULL, sku TEXT, quantity BIGINT, PRIMARY KEY (tenant_id, order_id, line)) WITHOUT ROWID;
        CREATE TABLE shop_days (tenant_id BIGINT NOT NULL, day BIGINT NOT NULL, orders BIGINT NOT NULL, PRIMARY KEY (tenant_id, day));
        CREATE TABLE platform_plans (plan TEXT PRIMARY KEY, price BIGINT);";

    fn database() -> (rusqlite::Connection, HashSet<String>) {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        connection.execute_batch(SCHEMA).unwrap();
        (connection, ["shop_orders", "shop_lines", "shop_days"].map(str::to_owned).into())
    }

    #[test]
    fn good_statements_pass() {
        let (connection, tables) = database();
        let good = [
            "SELECT order_id FROM shop_orders WHERE tenant_id = $1 AND order_id = $2",
            "SELECT order_id FROM shop_orders WHERE $1 = tenant_id AND order_id < $2 ORDER BY order_id DESC LIMIT $3",
            "SELECT order_id FROM shop_orders WHERE order_id = $2 AND tenant_id = $1",
            "SELECT count(*), CAST(sum(total) AS BIGINT) FROM shop_orders WHERE tenant_id = $1",
            "SELECT o.order_id, l.sku FROM shop_orders o JOIN shop_lines AS l ON l.tenant_id = $1 AND l.order_id = o.order_id WHERE o.tenant_id = $1",
            "SELECT o.order_id FROM shop_orders o LEFT JOIN shop_lines l ON l.tenant_id = $1 AND l.order_id = o.order_id WHERE o.tenant_id = $1 AND (o.total > $2 OR l.sku = $3)",
            "SELECT order_id FROM shop_orders WHERE tenant_id = $1 AND (order_id = $2 OR customer_id = $3)",
            "SELECT order_id FROM shop_orders WHERE (tenant_id = $1 AND order_id = $2) OR (tenant_id = $1 AND customer_id = $3)",
            "SELECT order_id FROM shop_orders WHERE tenant_id = $1 AND order_id IN (SELECT value FROM json_each($2))",
            "SELECT o.order_id FROM json_each($2) AS wanted JOIN shop_orders o ON o.tenant_id = $1 AND o.order_id = wanted.value",
            "SELECT order_id FROM shop_orders o WHERE o.tenant_id = $1 AND EXISTS (SELECT 1 FROM shop_lines l WHERE l.tenant_id = $1 AND l.order_id = o.order_id)",
            "SELECT day, (SELECT count(*) FROM shop_orders WHERE tenant_id = $1 AND order_id > d.day) FROM shop_days d WHERE d.tenant_id = $1",
            "WITH big AS (SELECT order_id, total FROM shop_orders WHERE tenant_id = $1 AND total > $2) SELECT a.order_id FROM big a JOIN big b ON b.total = a.total",
            "WITH big(id, t) AS MATERIALIZED (SELECT order_id, total FROM shop_orders WHERE tenant_id = $1) SELECT id FROM big AS x WHERE t > $2",
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9) SELECT n.i FROM n JOIN shop_orders o ON o.tenant_id = $1 AND o.order_id = n.i",
            "SELECT s.n FROM (SELECT customer_id, count(*) AS n FROM shop_orders WHERE tenant_id = $1 GROUP BY customer_id) AS s WHERE s.n > $2",
            "SELECT tenant_id, order_id FROM shop_orders WHERE tenant_id = $1 ORDER BY tenant_id, order_id",
            "SELECT order_id, row_number() OVER (PARTITION BY tenant_id ORDER BY order_id) FROM shop_orders WHERE tenant_id = $1",
            "SELECT order_id FROM shop_orders WHERE tenant_id = $1 UNION ALL SELECT order_id FROM shop_lines WHERE tenant_id = $1",
            "SELECT order_id FROM shop_orders WHERE tenant_id = $1 AND (customer_id, order_id) > ($2, $3) ORDER BY customer_id, order_id LIMIT 10",
            "INSERT INTO shop_orders (tenant_id, order_id, total) VALUES ($1, $2, $3)",
            "INSERT INTO shop_orders (tenant_id, order_id) VALUES ($1, $2), ($1, $3) ON CONFLICT DO NOTHING",
            "INSERT INTO shop_days AS d (tenant_id, day, orders) VALUES ($1, $2, 1) ON CONFLICT (tenant_id, day) DO UPDATE SET orders = d.orders + excluded.orders",
            "INSERT INTO shop_days (tenant_id, day, orders) VALUES (CAST($1 AS BIGINT), $2, $3) ON CONFLICT (tenant_id, day) DO UPDATE SET orders = shop_days.orders + 1 WHERE shop_days.orders < $4 RETURNING orders",
            "INSERT INTO shop_lines (tenant_id, order_id, line, sku) SELECT CAST($1 AS BIGINT), CAST(r.value ->> 0 AS BIGINT), 1, r.value ->> 1 FROM json_each($2) AS r WHERE TRUE ON CONFLICT DO NOTHING",
            "INSERT INTO shop_days (tenant_id, day, orders) SELECT $1, order_id, count(*) FROM shop_orders WHERE tenant_id = $1 GROUP BY order_id",
            "UPDATE shop_orders SET total = total + $3 WHERE tenant_id = $1 AND order_id = $2 AND total >= $3",
            "UPDATE shop_orders SET (total, customer_id) = ($3, $4) WHERE tenant_id = $1 AND order_id = $2 RETURNING total",
            "UPDATE shop_orders SET total = r.value ->> 1 FROM json_each($2) AS r WHERE shop_orders.tenant_id = $1 AND shop_orders.order_id = r.value ->> 0",
            "UPDATE shop_orders SET total = (SELECT count(*) FROM shop_lines l WHERE l.tenant_id = $1 AND l.order_id = shop_orders.order_id) WHERE tenant_id = $1",
            "DELETE FROM shop_lines WHERE tenant_id = $1 AND order_id = $2;",
            "SELECT CAST($1 AS BIGINT) -- only tells the tenant\n",
        ];
        for sql in good {
            check_text(sql).unwrap_or_else(|e| panic!("{e:?}"));
            check_plan(&connection, &numbered_parameters(sql), &tables).unwrap_or_else(|e| panic!("{e:?}"));
        }
    }

    #[test]
    fn planted_bad_statements_are_caught() {
        let (connection, tables) = database();
        let bad = [
            (
                "a join without the tenant",
                "SELECT o.order_id, l.sku FROM shop_orders o JOIN shop_lines l ON l.order_id = o.order_id WHERE o.tenant_id = $1",
            ),
            (
                "a join through the other table",
                "SELECT o.order_id FROM shop_orders o JOIN shop_lines l ON l.tenant_id = o.tenant_id WHERE o.tenant_id = $1",
            ),
            (
                "a join by USING",
                "SELECT o.order_id FROM shop_orders o JOIN shop_lines l USING (tenant_id, order_id) WHERE o.tenant_id = $1",
            ),
            ("a natural join", "SELECT o.order_id FROM shop_orders o NATURAL JOIN shop_lines l WHERE o.tenant_id = $1"),
            (
                "a full join",
                "SELECT o.order_id FROM shop_orders o FULL JOIN shop_lines l ON l.tenant_id = $1 AND o.tenant_id = $1 AND l.order_id = o.order_id",
            ),
            (
                "a left join that constrains the wrong side",
                "SELECT o.order_id FROM shop_orders o LEFT JOIN shop_lines l ON o.tenant_id = $1 AND l.tenant_id = $1",
            ),
            ("an OR", "SELECT order_id FROM shop_orders WHERE tenant_id = $1 OR total > $2"),
            ("an OR without parentheses", "SELECT order_id FROM shop_orders WHERE tenant_id = $1 AND order_id = $2 OR customer_id = $3"),
            ("a tenant that is only selected", "SELECT $1, order_id FROM shop_orders"),
            ("a tenant that is only compared with itself", "SELECT order_id FROM shop_orders WHERE $1 = $1"),
            ("another parameter", "SELECT order_id FROM shop_orders WHERE tenant_id = $2 AND $1 = $1"),
            ("another parameter that begins alike", "SELECT order_id FROM shop_orders WHERE tenant_id = $10 AND $1 = $1"),
            ("another parameter on the left", "SELECT order_id FROM shop_orders WHERE $2 = tenant_id AND $1 = $1"),
            ("a constant", "SELECT order_id FROM shop_orders WHERE tenant_id = 7 AND $1 = $1"),
            ("a sum", "SELECT order_id FROM shop_orders WHERE tenant_id = $1 + 1"),
            ("a sum on the left", "SELECT order_id FROM shop_orders WHERE 1 + $1 = tenant_id"),
            ("IN", "SELECT order_id FROM shop_orders WHERE tenant_id IN ($1, $2)"),
            ("more than", "SELECT order_id FROM shop_orders WHERE tenant_id >= $1"),
            ("IS", "SELECT order_id FROM shop_orders WHERE tenant_id IS $1"),
            ("not equal", "SELECT order_id FROM shop_orders WHERE tenant_id <> $1"),
            ("BETWEEN", "SELECT order_id FROM shop_orders WHERE tenant_id BETWEEN $1 AND $2"),
            ("NOT", "SELECT order_id FROM shop_orders WHERE NOT tenant_id = $1"),
            (
                "a list of tenants",
                "SELECT order_id FROM shop_orders WHERE (tenant_id, order_id) IN (SELECT value ->> 0, value ->> 1 FROM json_each($2)) AND $1 = $1",
            ),
            ("a list compared", "SELECT order_id FROM shop_orders WHERE ($2, $3) = (tenant_id, order_id) AND $1 = $1"),
            ("a quoted name", "SELECT order_id FROM shop_orders WHERE \"tenant_id\" = $2 AND tenant_id = $1"),
            (
                "another name",
                "SELECT o.order_id FROM json_each($2) j JOIN (SELECT tenant_id AS t, order_id FROM shop_orders) o ON o.t = j.value WHERE $1 = $1",
            ),
            (
                "another name by a list of columns",
                "WITH o(t, x) AS (SELECT tenant_id, order_id FROM shop_orders) SELECT o.x FROM o JOIN json_each($2) j ON o.t = j.value AND $1 = $1",
            ),
            ("a subquery over all tenants", "SELECT order_id, (SELECT count(*) FROM shop_lines) FROM shop_orders WHERE tenant_id = $1"),
            (
                "an EXISTS over all tenants",
                "SELECT order_id FROM shop_orders o WHERE tenant_id = $1 AND EXISTS (SELECT 1 FROM shop_lines l WHERE l.order_id = o.order_id)",
            ),
            (
                "a WITH over all tenants",
                "WITH l AS (SELECT order_id FROM shop_lines) SELECT o.order_id FROM shop_orders o JOIN l ON l.order_id = o.order_id WHERE o.tenant_id = $1",
            ),
            ("a table that hides behind a WITH", "WITH o AS (SELECT 1 AS x) SELECT o.order_id FROM shop_orders AS o WHERE $1 = $1"),
            ("a union with all tenants", "SELECT order_id FROM shop_orders WHERE tenant_id = $1 UNION SELECT order_id FROM shop_lines"),
            ("a table of the platform", "SELECT price FROM platform_plans WHERE plan = $2 AND $1 = $1"),
            ("the schema", "SELECT name FROM sqlite_master WHERE $1 = $1"),
            ("an UPDATE without the tenant", "UPDATE shop_orders SET total = $1"),
            ("an UPDATE of one order without the tenant", "UPDATE shop_orders SET total = $1 WHERE order_id = $2"),
            ("an UPDATE of the tenant", "UPDATE shop_orders SET tenant_id = $1 WHERE tenant_id = $1 AND order_id = $2"),
            ("an UPDATE of the tenant among others", "UPDATE shop_orders SET (total, tenant_id) = ($2, $3) WHERE tenant_id = $1"),
            (
                "an upsert of the tenant",
                "INSERT INTO shop_days (tenant_id, day, orders) VALUES ($1, 1, 1) ON CONFLICT (tenant_id, day) DO UPDATE SET orders = 1, tenant_id = $2",
            ),
            (
                "an UPDATE from all tenants",
                "UPDATE shop_orders SET total = l.quantity FROM shop_lines l WHERE shop_orders.tenant_id = $1 AND l.order_id = shop_orders.order_id",
            ),
            ("a DELETE without the tenant", "DELETE FROM shop_orders WHERE order_id = $1"),
            ("a DELETE of everything", "DELETE FROM shop_orders RETURNING $1"),
            ("an INSERT of another tenant", "INSERT INTO shop_orders (tenant_id, order_id) VALUES ($2, $1)"),
            ("an INSERT with one wrong row", "INSERT INTO shop_orders (tenant_id, order_id) VALUES ($1, 1), ($2, 1)"),
            ("an INSERT of a sum", "INSERT INTO shop_orders (tenant_id, order_id) VALUES ($1 + 1, 1)"),
            ("an INSERT with the tenant elsewhere", "INSERT INTO shop_orders (order_id, tenant_id) VALUES ($1, $2)"),
            ("an INSERT without columns", "INSERT INTO shop_orders VALUES ($1, 1, 1, 1)"),
            ("an INSERT of what is read", "INSERT INTO shop_orders (tenant_id, order_id) SELECT value ->> 0, $1 FROM json_each($2)"),
            ("an INSERT of a union", "INSERT INTO shop_orders (tenant_id, order_id) SELECT $1, 1 UNION ALL SELECT $2, 1"),
            ("an INSERT OR REPLACE", "INSERT OR REPLACE INTO shop_orders (tenant_id, order_id) VALUES ($1, 1)"),
            ("two statements", "DELETE FROM shop_orders WHERE tenant_id = $1; DELETE FROM shop_lines"),
            ("no query", "PRAGMA table_list"),
        ];
        for (what, sql) in bad {
            let outcome = check_text(sql).and_then(|()| check_plan(&connection, &numbered_parameters(sql), &tables));
            let error = outcome.expect_err(what);
            assert!(format!("{error:?}").contains("the wall between tenants refuses"), "{what}: {error:?}");
        }
    }

    /// `$2` first: right when the parameters are numbered, another tenant's rows when they are not.
    #[test]
    fn a_statement_in_which_the_second_parameter_comes_first() {
        let (connection, tables) = database();
        connection.execute_batch("INSERT INTO shop_orders VALUES (7, 8, 1, 1), (8, 7, 2, 2)").unwrap();
        let sql = "SELECT tenant_id FROM shop_orders WHERE order_id = $2 AND tenant_id = $1";
        let found = |sql: &str| connection.query_row(sql, [7_i64, 8], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(found(sql), 8, "SQLite binds names by first appearance");
        assert_eq!(found(&numbered_parameters(sql)), 7);
        check_text(sql).unwrap();
        check_plan(&connection, &numbered_parameters(sql), &tables).unwrap();
        let error = check_plan(&connection, sql, &tables).unwrap_err();
        assert!(format!("{error:?}").contains("not numbered"), "{error:?}");
    }

    #[test]
    fn the_store_s_schema_is_sound_and_problems_are_named() {
        let mut connection = rusqlite::Connection::open_in_memory().unwrap();
        crate::migrate::run_sqlite(&mut connection, &[crate::migrate::store_migrations()], kernel::Timestamp::from_micros(0)).unwrap();
        assert_eq!(schema_problems_sqlite(&connection).unwrap(), Vec::<String>::new());
        connection
            .execute_batch(
                "CREATE TABLE a (id BIGINT PRIMARY KEY, tenant_id BIGINT NOT NULL); CREATE TABLE b (tenant_id BIGINT, x BIGINT, PRIMARY KEY (tenant_id, x));
                 CREATE INDEX b_x ON b (x)",
            )
            .unwrap();
        let problems = schema_problems_sqlite(&connection).unwrap().join("\n");
        for expected in ["a: the primary key does not begin", "b: tenant_id may be NULL", "the index b_x"] {
            assert!(problems.contains(expected), "{problems}");
        }
    }
}
