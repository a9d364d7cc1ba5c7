//! What statements search by on SQLite, whose planner goes by the schema alone: a search by the tenant alone is a walk over all that the
//! tenant has in a table, and may be taken although an index is there.

use rusqlite::Connection;
use rusqlite::types::Null;
use web::{InScope, Module};

/// A migration as SQLite gets it.
fn on_sqlite(text: &str) -> String {
    let mut here = true;
    let mut lines = String::new();
    for line in text.lines() {
        match line.trim() {
            "-- @postgres" => here = false,
            "-- @sqlite" | "-- @end" => here = true,
            _ if here => lines.extend([line, "\n"]),
            _ => {}
        }
    }
    lines
}

/// Tables with one row for each tenant.
const SINGLE: &str = "SELECT m.name FROM sqlite_master m WHERE m.type = 'table'
  AND (SELECT group_concat(i.name) FROM pragma_table_info(m.name) i WHERE i.pk > 0) = 'tenant_id'";

/// The statements of a module's tenants that search a table of many rows by the tenant alone, by their names, sorted.
///
/// # Panics
///
/// When a migration or a statement is refused by SQLite.
#[must_use]
pub fn walks(module: &Module) -> Vec<&'static str> {
    let connection = Connection::open_in_memory().expect("a database in memory");
    for migration in module.migrations.steps {
        connection.execute_batch(&on_sqlite(migration.sql)).unwrap_or_else(|e| panic!("{} {}: {e}", module.name, migration.name));
    }
    let single = || -> rusqlite::Result<Vec<String>> { connection.prepare(SINGLE)?.query_map([], |row| row.get(0))?.collect() };
    let single = single().expect("the schema");
    let walks = |sql: &str| -> rusqlite::Result<bool> {
        let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {}", sql.replace('$', "?")))?;
        let nothing = vec![Null; explain.parameter_count()];
        let steps = explain.query_map(rusqlite::params_from_iter(nothing), |row| row.get::<_, String>(3))?;
        let steps: Vec<String> = steps.collect::<Result<_, _>>()?;
        // A plan names a table by its alias.
        let alone = |name: &str| single.iter().any(|table| table == name || sql.contains(&format!("{table} {name}")));
        let walk = |step: &String| {
            let searched = step.strip_prefix("SEARCH ").filter(|step| step.contains("(tenant_id=?)"));
            searched.and_then(|step| step.split(' ').next()).is_some_and(|name| !alone(name))
        };
        Ok(steps.iter().any(walk))
    };
    let mut found = Vec::new();
    for statement in module.statements.iter().filter(|statement| statement.scope == InScope::Tenant) {
        match walks(statement.sql.sqlite()) {
            Ok(true) => found.push(statement.name),
            Ok(false) => {}
            Err(e) => panic!("{} {}: {e}", module.name, statement.name),
        }
    }
    found.sort_unstable();
    found
}
