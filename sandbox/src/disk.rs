//! The books in an SQLite file: a row for each charge and each key, written with the change itself.

use crate::books::{Books, Charge, Keyed};
use kernel::{Error, Result};
use rusqlite::{Connection, params};
use std::path::Path;

/// The file.
pub(crate) struct Disk(Connection);

fn broken(error: rusqlite::Error) -> Error {
    Error::unavailable("sandbox.disk", "the sandbox's file can't be read or written").caused_by(error)
}

impl Disk {
    /// Opens the file, made when it is missing, and reads it into `books`. Errors: `sandbox.disk`.
    pub(crate) fn open(path: &Path, books: &mut Books) -> Result<Disk> {
        let connection = Connection::open(path).map_err(broken)?;
        // A killed process loses nothing with this; a lost machine may lose the last moments, which a sandbox can bear.
        let setup = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
            CREATE TABLE IF NOT EXISTS charges (id TEXT PRIMARY KEY, charge TEXT NOT NULL) WITHOUT ROWID;
            CREATE TABLE IF NOT EXISTS keys (number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, keyed TEXT NOT NULL);";
        connection.execute_batch(setup).map_err(broken)?;
        let read = |sql: &str| -> Result<Vec<(String, String)>> {
            let mut statement = connection.prepare(sql).map_err(broken)?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).map_err(broken)?;
            rows.collect::<std::result::Result<_, _>>().map_err(broken)
        };
        let wrong = |error: serde_json::Error| Error::internal("the sandbox's file holds what it did not write").caused_by(error);
        for (_, charge) in read("SELECT id, charge FROM charges ORDER BY id")? {
            books.restore(serde_json::from_str::<Charge>(&charge).map_err(wrong)?);
        }
        for (key, keyed) in read("SELECT key, keyed FROM keys ORDER BY number")? {
            books.restore_key(key, serde_json::from_str::<Keyed>(&keyed).map_err(wrong)?);
        }
        Ok(Disk(connection))
    }

    /// Keeps a charge, and the key under which it changed. Errors: `sandbox.disk`.
    pub(crate) fn keep(&mut self, charge: Option<&Charge>, key: Option<(&str, &Keyed)>) -> Result<()> {
        let text = |value: serde_json::Result<String>| value.map_err(|e| Error::internal("a charge does not serialise").caused_by(e));
        let transaction = self.0.transaction().map_err(broken)?;
        if let Some(charge) = charge {
            let json = text(serde_json::to_string(charge))?;
            let sql = "INSERT INTO charges (id, charge) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET charge = excluded.charge";
            transaction.prepare_cached(sql).and_then(|mut s| s.execute(params![charge.id, json])).map_err(broken)?;
        }
        if let Some((key, keyed)) = key {
            let json = text(serde_json::to_string(keyed))?;
            let sql = "INSERT INTO keys (key, keyed) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET keyed = excluded.keyed";
            transaction.prepare_cached(sql).and_then(|mut s| s.execute(params![key, json])).map_err(broken)?;
        }
        transaction.commit().map_err(broken)
    }
}
