//! A database for one test: a file in a temporary folder, or a fresh PostgreSQL database that is dropped at the end.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use store::{Engine, ShardConfig, StoreConfig};

/// Where the tests' PostgreSQL is: `postgres://user@host:port/database`, of a role that may create databases.
const POSTGRES_URL: &str = "BRANDOS_TEST_POSTGRES";
/// Where a streaming replica of it is. With one, whatever tests read through [`web::App::read`] comes from there where it may.
const REPLICA_URL: &str = "BRANDOS_TEST_POSTGRES_REPLICA";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Removes the database when it is dropped.
pub(crate) enum Database {
    /// A folder with an SQLite file.
    Folder {
        /// Removed with it.
        _folder: tempfile::TempDir,
    },
    /// A database of a PostgreSQL server.
    Postgres {
        /// Of the database from which others are made and dropped.
        server: String,
        /// The database of this test.
        name: String,
    },
}

/// Nobody is refused because the machine is slow.
fn patient(config: StoreConfig) -> StoreConfig {
    StoreConfig { queue_wait_ms: 0, ..config }
}

impl Database {
    /// A new one; none when the engine is not there, which is said loudly, and is a failure in CI.
    pub(crate) async fn create(engine: Engine) -> Option<(Database, StoreConfig)> {
        match engine {
            Engine::Sqlite => {
                let folder = tempfile::tempdir().expect("a temporary folder can be made");
                let config = patient(StoreConfig::sqlite(folder.path().join("test.db")));
                Some((Database::Folder { _folder: folder }, config))
            }
            Engine::Postgres => {
                let Some(server) = std::env::var(POSTGRES_URL).ok().filter(|url| !url.is_empty()) else {
                    assert!(std::env::var("CI").is_err(), "{POSTGRES_URL} is not set: in CI a test without PostgreSQL is a failure");
                    #[allow(clippy::print_stderr, reason = "a skipped test has to be seen")]
                    {
                        eprintln!("SKIPPED on PostgreSQL: {POSTGRES_URL} is not set (cargo xtask engines up prints it)");
                    }
                    return None;
                };
                let name = format!("brandos_test_{}_{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
                execute(&server, &[format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"), format!("CREATE DATABASE {name}")]).await;
                let mut config = patient(StoreConfig::postgres(with_database(&server, &name)));
                if let (Ok(replica), [ShardConfig::Postgres { replicas, .. }]) = (std::env::var(REPLICA_URL), &mut config.shards[..]) {
                    replicas.push(with_database(&replica, &name));
                }
                Some((Database::Postgres { server, name }, config))
            }
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let Database::Postgres { server, name } = self else { return };
        let (server, statement) = (std::mem::take(server), format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
        // On a thread of its own, since this may run inside a runtime.
        let dropper = std::thread::spawn(move || {
            if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
                runtime.block_on(execute(&server, &[statement]));
            }
        });
        let _ = dropper.join();
    }
}

async fn execute(url: &str, statements: &[String]) {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
        .await
        .unwrap_or_else(|error| panic!("{POSTGRES_URL} can't be reached: {error}"));
    let driver = tokio::spawn(connection);
    for statement in statements {
        client.batch_execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    drop(client);
    let _ = driver.await;
}

/// The URL with another database name.
fn with_database(url: &str, name: &str) -> String {
    let (base, options) = url.split_once('?').map_or((url, None), |(base, options)| (base, Some(options)));
    let authority = base.find("://").map_or(0, |at| at + 3);
    let base = base[authority..].find('/').map_or(base, |at| &base[..authority + at]);
    match options {
        Some(options) => format!("{base}/{name}?{options}"),
        None => format!("{base}/{name}"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_database_of_a_url_is_replaced() {
        let table = [
            ("postgres://u:p@h:1/old", "postgres://u:p@h:1/new"),
            ("postgres://u@h", "postgres://u@h/new"),
            ("postgres://u@h/old?host=/tmp/x", "postgres://u@h/new?host=/tmp/x"),
        ];
        for (given, expected) in table {
            assert_eq!(super::with_database(given, "new"), expected);
        }
    }
}
