//! What statements search by on SQLite, whose planner goes by the schema alone: in a large catalog a search by the tenant alone is a walk
//! over all that the tenant has.

use rusqlite::Connection;

/// Statements that look at all of a tenant's rows, or at a page in the order of an index: audits, counts, and lists from a place on.
const WALKS: &[&str] = &["AUDIT_", "_COUNT"];

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

#[test]
fn statements_search_by_more_than_the_tenant() {
    let connection = Connection::open_in_memory().unwrap();
    for migration in crate::MIGRATIONS {
        connection.execute_batch(&on_sqlite(migration.sql)).unwrap();
    }
    let mut walks = Vec::new();
    for statement in crate::sql::statements() {
        if WALKS.iter().any(|part| statement.name.contains(part)) {
            continue;
        }
        let text = statement.sql.sqlite().replace('$', "?");
        let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {text}")).unwrap();
        let nothing = vec![rusqlite::types::Null; explain.parameter_count()];
        let steps = explain.query_map(rusqlite::params_from_iter(nothing), |row| row.get::<_, String>(3)).unwrap();
        let steps: Vec<String> = steps.map(Result::unwrap).collect();
        if steps.iter().any(|step| step.starts_with("SEARCH") && step.ends_with("(tenant_id=?)")) {
            walks.push(format!("{}: {steps:?}", statement.name));
        }
    }
    assert_eq!(walks, Vec::<String>::new());
}
