//! Backups of a running node, and restoring them: the whole node, or one tenant.
//!
//! A backup is a folder with one SQLite file a shard, whatever the shard's engine, and `manifest.json`, which is written last: a
//! folder without it is not a backup. Each shard is copied as of one moment while it goes on working (`VACUUM INTO` on SQLite, one
//! `REPEATABLE READ` snapshot on PostgreSQL). Shards are copied one after another: they are consistent each in itself.

use crate::copy::{Database, Mapping, Range, SLICE_ROWS, Sum, Table, Values, aside, mismatch};
use crate::migrate::{self, Migrations};
use crate::move_tenant::{self, Passed};
use crate::partition;
use crate::store::{Engine, ShardConfig};
use crate::value::Value;
use kernel::{Error, Result, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::{Path, PathBuf};

/// The version of the folder's layout.
const FORMAT: u32 = 1;
const MANIFEST: &str = "manifest.json";
/// Rows of one transaction where nobody else is waiting.
const BULK_ROWS: usize = 2_000;
/// Set in `store_meta` while a node is being restored.
const RESTORING: &str = "restoring";

/// What a backup holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of the folder's layout: 1.
    pub format_version: u32,
    /// When it was begun.
    pub taken_at: Timestamp,
    /// In the order of the node's shards.
    pub shards: Vec<ShardManifest>,
}

/// One shard of a backup.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ShardManifest {
    /// The shard's number.
    pub number: u16,
    /// The engine that it was taken from: `sqlite` or `postgres`. The file is SQLite's in both cases.
    pub engine: String,
    /// The file's name in the folder.
    pub file: String,
    /// Every table of the file, by name.
    pub tables: Vec<TableManifest>,
    /// The migrations that had been applied.
    pub migrations: Vec<MigrationManifest>,
}

/// One table of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableManifest {
    /// Its name.
    pub name: String,
    /// How many rows it has.
    pub rows: u64,
    /// The sum of the rows' hashes, in hexadecimal: the same on every engine and in whatever order.
    pub checksum: String,
}

/// An applied migration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationManifest {
    /// The module.
    pub module: String,
    /// Its number.
    pub number: u32,
    /// SHA-256 of the file, in hexadecimal.
    pub checksum: String,
}

fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
    let what = what.into();
    move |e| Error::unavailable("store.backup_folder", format!("{what}: {e}")).caused_by(e)
}

fn all_sets(modules: &[Migrations]) -> Vec<Migrations> {
    std::iter::once(migrate::store_migrations()).chain(modules.iter().copied()).collect()
}

/// Backs up a node while it works. `folder` must be missing or empty. `modules` are the migrations of all modules.
/// Errors: `store.backup_folder` when the folder is not empty or can't be written; `store.move_under_way` when a tenant was moved
/// meanwhile (take it again); `store.unavailable`.
pub fn backup(shards: &[ShardConfig], folder: &Path, modules: &[Migrations], now: Timestamp) -> Result<Manifest> {
    aside(|| {
        std::fs::create_dir_all(folder).map_err(io("the folder of the backup can't be made"))?;
        let mut entries = std::fs::read_dir(folder).map_err(io("the folder of the backup can't be read"))?;
        if entries.next().is_some() {
            return Err(Error::failed_precondition("store.backup_folder", "the folder of the backup is not empty"));
        }
        let before = placement(shards)?;
        let mut manifest = Manifest { format_version: FORMAT, taken_at: now, shards: Vec::new() };
        for (number, shard) in shards.iter().enumerate() {
            let file = format!("shard-{number}.db");
            let path = folder.join(&file);
            let mut database = Database::open(shard)?;
            let engine = match database.engine() {
                Engine::Sqlite => {
                    let target =
                        path.to_str().ok_or_else(|| Error::failed_precondition("store.backup_folder", "the folder's path is not UTF-8"))?;
                    database.execute("VACUUM INTO $1", &[Value::Text(target.into())])?;
                    "sqlite"
                }
                Engine::Postgres => {
                    export(&mut database, &path, modules, now)?;
                    "postgres"
                }
            };
            File::open(&path).and_then(|f| f.sync_all()).map_err(io("the backup can't be flushed to disk"))?;
            let mut copy = Database::open_file(&path, false)?;
            let tables = tables_of(&mut copy)?;
            let migrations = migrations_of(&mut copy)?;
            manifest.shards.push(ShardManifest { number: number as u16, engine: engine.to_owned(), file, tables, migrations });
        }
        if placement(shards)? != before {
            return Err(under_way());
        }
        let text = serde_json::to_vec_pretty(&manifest).map_err(|e| Error::internal("a manifest does not serialise").caused_by(e))?;
        let unfinished = folder.join("manifest.json.unfinished");
        std::fs::write(&unfinished, text).map_err(io("the manifest can't be written"))?;
        File::open(&unfinished).and_then(|f| f.sync_all()).map_err(io("the manifest can't be flushed to disk"))?;
        std::fs::rename(&unfinished, folder.join(MANIFEST)).map_err(io("the manifest can't be written"))?;
        File::open(folder).and_then(|f| f.sync_all()).map_err(io("the folder can't be flushed to disk"))?;
        Ok(manifest)
    })
}

fn under_way() -> Error {
    Error::conflict("store.move_under_way", "a tenant is being moved or restored; try again when that is done").retry_after_ms(10_000)
}

/// Where tenants live. Errors: `store.move_under_way`.
fn placement(shards: &[ShardConfig]) -> Result<Vec<Values>> {
    use crate::copy::ColumnType::Int;
    let mut directory = Vec::new();
    for (number, shard) in shards.iter().enumerate() {
        let mut database = Database::open(shard)?;
        if database.meta(move_tenant::MARK)?.is_some() {
            return Err(under_way());
        }
        if number == 0 {
            directory = database.rows("SELECT tenant, shard FROM store_directory ORDER BY tenant", &[], &[Int, Int])?;
        }
    }
    Ok(directory)
}

/// Copies a PostgreSQL database into a new SQLite file with the same tables.
fn export(database: &mut Database, path: &Path, modules: &[Migrations], now: Timestamp) -> Result<()> {
    let mut file = Database::open_file(path, true)?;
    // Nobody needs the file if the machine goes down before the manifest stands.
    file.batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -65536")?;
    migrate_file(&mut file, modules, now)?;
    file.batch("DELETE FROM store_migrations")?;
    database.batch("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
    let copied = copy_all(database, &mut file).and_then(|()| copy_migrations(database, &mut file));
    database.end(false)?;
    copied?;
    file.batch("PRAGMA synchronous = FULL; PRAGMA journal_mode = DELETE")
}

/// The record of applied migrations goes along: it tells which program the data belongs to.
fn copy_migrations(source: &mut Database, target: &mut Database) -> Result<()> {
    use crate::copy::ColumnType::{Int, Text};
    const READ: &str = "SELECT module, number, name, checksum, applied_at FROM store_migrations";
    const WRITE: &str = "INSERT INTO store_migrations (module, number, name, checksum, applied_at) VALUES ($1, $2, $3, $4, $5)";
    let rows = source.rows(READ, &[], &[Text, Int, Text, Text, Int])?;
    target.write(false, |target| rows.iter().try_for_each(|row| target.execute(WRITE, row).map(|_| ())))
}

fn migrate_file(file: &mut Database, modules: &[Migrations], now: Timestamp) -> Result<bool> {
    let sets = all_sets(modules);
    let applied = match file {
        Database::Sqlite(connection) => migrate::run_sqlite(connection, &sets, now)?,
        Database::Postgres(p) => {
            let (client, runtime) = p.client_mut();
            runtime.block_on(migrate::run_postgres(client, &sets, now))?
        }
    };
    // Whether it was empty before.
    Ok(applied.iter().any(|a| a.module == "store" && a.number == 1))
}

/// Copies every table of `target` from `source`, and reads back what was copied. Flat in memory.
fn copy_all(source: &mut Database, target: &mut Database) -> Result<()> {
    let (from, mut to) = (source.tables()?, target.tables()?);
    // Last, since it holds the mark of a restore that is under way.
    to.sort_by_key(|table| table.name == "store_meta");
    for table in &to {
        if table.name == "store_meta" {
            target.batch("DELETE FROM store_meta")?;
        }
        let Some(original) = from.iter().find(|t| t.name == table.name) else {
            // SQLite's buckets of idempotency keys have no counterpart.
            if table.name == "store_once_buckets" {
                continue;
            }
            return Err(Error::internal(format!("the schemas differ: {} is missing in the source", table.name)));
        };
        let mapping = Mapping::new(original, table, false)?;
        let (mut batch, mut bytes, mut sum) = (Vec::new(), 0, Sum::default());
        source.scan(&mapping, Range::default(), &mut |row, _| {
            sum.add(table, &row);
            bytes += crate::copy::size(&row);
            batch.push(row);
            if batch.len() >= BULK_ROWS || bytes >= crate::copy::BATCH_BYTES {
                target.write(false, |target| target.insert(table, &batch, false))?;
                batch.clear();
                bytes = 0;
            }
            Ok(true)
        })?;
        target.write(false, |target| target.insert(table, &batch, false))?;
        let (copied, _) = target.sum(&Mapping::identity(table), Range::default())?;
        if copied != sum {
            return Err(mismatch(format!("{} has {} rows {copied}, expected {} rows {sum}", table.name, copied.rows, sum.rows)));
        }
    }
    let lost = from.iter().find(|t| t.name != "store_once_buckets" && to.iter().all(|known| known.name != t.name));
    lost.map_or(Ok(()), |table| Err(Error::internal(format!("the schemas differ: {} is missing in the target", table.name))))
}

fn tables_of(database: &mut Database) -> Result<Vec<TableManifest>> {
    let mut manifests = Vec::new();
    for table in database.tables()? {
        let (sum, _) = database.sum(&Mapping::identity(&table), Range::default())?;
        manifests.push(TableManifest { name: table.name, rows: sum.rows, checksum: sum.to_string() });
    }
    Ok(manifests)
}

fn migrations_of(database: &mut Database) -> Result<Vec<MigrationManifest>> {
    use crate::copy::ColumnType::{Int, Text};
    let rows = database.rows("SELECT module, number, checksum FROM store_migrations ORDER BY module, number", &[], &[Text, Int, Text])?;
    let migration = |row: &Values| match row.as_slice() {
        [Value::Text(module), Value::Int(number), Value::Text(checksum)] => {
            Ok(MigrationManifest { module: module.to_string(), number: *number as u32, checksum: checksum.to_string() })
        }
        _ => Err(Error::internal("the record of migrations can't be read")),
    };
    rows.iter().map(migration).collect()
}

/// Reads a backup's manifest. Errors: `store.not_a_backup` when there is none or it is of another format.
pub fn manifest(folder: &Path) -> Result<Manifest> {
    let not_a_backup = |why: &str| Error::failed_precondition("store.not_a_backup", format!("{}: {why}", folder.display()));
    let text = std::fs::read(folder.join(MANIFEST)).map_err(|e| not_a_backup("there is no manifest.json").caused_by(e))?;
    let manifest: Manifest = serde_json::from_slice(&text).map_err(|e| not_a_backup("manifest.json does not parse").caused_by(e))?;
    if manifest.format_version != FORMAT {
        return Err(not_a_backup("its format is of another version of this program"));
    }
    let proper = |shard: &ShardManifest| Path::new(&shard.file).components().count() == 1 && !shard.file.contains("..");
    if !manifest.shards.iter().all(proper) {
        return Err(not_a_backup("it names a file outside of its folder"));
    }
    Ok(manifest)
}

/// Reads every row of a backup and compares the checksums with its manifest. Errors: `store.not_a_backup`, `store.copy_mismatch`.
pub fn verify(folder: &Path) -> Result<Manifest> {
    aside(|| {
        let manifest = manifest(folder)?;
        for shard in &manifest.shards {
            verify_shard(folder, shard)?;
        }
        Ok(manifest)
    })
}

fn verify_shard(folder: &Path, shard: &ShardManifest) -> Result<Database> {
    let mut file = Database::open_file(&folder.join(&shard.file), false)?;
    let found = tables_of(&mut file)?;
    for expected in &shard.tables {
        if !found.contains(expected) {
            return Err(mismatch(format!("{} of {} is not as the manifest says", expected.name, shard.file)));
        }
    }
    if migrations_of(&mut file)? != shard.migrations {
        return Err(mismatch(format!("the migrations of {} are not as the manifest says", shard.file)));
    }
    Ok(file)
}

/// A verified shard of a backup with the tables of this program; a copy, brought up to date, when the backup is of an older one.
struct Source {
    database: Database,
    copy: Option<PathBuf>,
}

impl Source {
    fn open(folder: &Path, shard: &ShardManifest, modules: &[Migrations], now: Timestamp) -> Result<Source> {
        let database = verify_shard(folder, shard)?;
        let steps: usize = all_sets(modules).iter().map(|set| set.steps.len()).sum();
        if steps == shard.migrations.len() {
            return Ok(Source { database, copy: None });
        }
        drop(database);
        let copy = folder.join(format!("{}.restoring", shard.file));
        std::fs::copy(folder.join(&shard.file), &copy).map_err(io("the backup can't be copied to be brought up to date"))?;
        let mut source = Source { database: Database::open_file(&copy, false)?, copy: Some(copy) };
        migrate_file(&mut source.database, modules, now)?;
        Ok(source)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Some(copy) = &self.copy
            && let Err(error) = std::fs::remove_file(copy)
        {
            tracing::warn!(%error, file = %copy.display(), "a temporary copy of a backup is left behind");
        }
    }
}

/// Restores a whole node into empty shards, which may be of another engine than the backup's. No store may be open on them.
/// A backup of an older program is brought up to date on the way.
/// Errors: `store.not_a_backup`, `store.copy_mismatch` when the backup or a copy is damaged; `store.restore_shards` when the number
/// of shards differs; `store.restore_not_empty`; `store.migration_unknown` when the backup is of a newer program.
pub fn restore_node(folder: &Path, shards: &[ShardConfig], modules: &[Migrations], now: Timestamp) -> Result<Manifest> {
    aside(|| {
        let manifest = manifest(folder)?;
        if manifest.shards.len() != shards.len() {
            let what = format!("the backup has {} shards and {} are configured", manifest.shards.len(), shards.len());
            return Err(Error::failed_precondition("store.restore_shards", what));
        }
        for (from, to) in manifest.shards.iter().zip(shards) {
            let mut source = Source::open(folder, from, modules, now)?;
            restore_shard(&mut source.database, to, modules, now)?;
        }
        Ok(manifest)
    })
}

fn restore_shard(source: &mut Database, shard: &ShardConfig, modules: &[Migrations], now: Timestamp) -> Result<()> {
    let mut target = match shard {
        ShardConfig::Sqlite { path } => {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder).map_err(io("the data folder can't be made"))?;
            }
            let mut file = Database::open_file(path, true)?;
            file.batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA cache_size = -65536")?;
            file
        }
        ShardConfig::Postgres { .. } => Database::open(shard)?,
    };
    let fresh = migrate_file(&mut target, modules, now)?;
    let tables = target.tables()?;
    // What a store writes when it opens, or a migration when it runs, is no data.
    let own = |table: &Table| matches!(table.name.as_str(), "store_meta" | "store_lanes" | "store_once_buckets");
    if !fresh && target.meta(RESTORING)?.is_some() {
        let what = "a restore was broken off here; start again with an empty shard";
        return Err(Error::failed_precondition("store.restore_not_empty", what));
    }
    for table in tables.iter().filter(|table| !fresh && !own(table)) {
        let rows = target.integer(&format!("SELECT count(*) FROM (SELECT 1 FROM {} LIMIT 1) AS t", migrate::quoted(&table.name)), &[])?;
        if rows != Some(0) {
            let what = format!("{} has rows already; a node is restored into empty shards only", table.name);
            return Err(Error::failed_precondition("store.restore_not_empty", what));
        }
    }
    for table in &tables {
        target.batch(&format!("DELETE FROM {}", migrate::quoted(&table.name)))?;
    }
    target.set_meta(RESTORING, Some("yes"))?;
    for (table, column) in partition::partitioned_tables(&mut target)? {
        let (quoted_table, quoted_column) = (migrate::quoted(&table), migrate::quoted(&column));
        let first = source.integer(&format!("SELECT min({quoted_column}) FROM {quoted_table}"), &[])?;
        let last = source.integer(&format!("SELECT max({quoted_column}) FROM {quoted_table}"), &[])?;
        if let (Some(first), Some(last)) = (first, last) {
            partition::ensure_between(&mut target, &table, &column, first, last)?;
        }
    }
    copy_all(source, &mut target)?;
    match target.engine() {
        // Copied without waiting for the disk so far.
        Engine::Sqlite => target
            .rows("PRAGMA synchronous = FULL", &[], &[])
            .and_then(|_| target.rows("PRAGMA wal_checkpoint(TRUNCATE)", &[], &[crate::copy::ColumnType::Int]).map(|_| ())),
        Engine::Postgres => target.batch("ANALYZE"),
    }
}

/// What [`restore_tenant`] is asked to do.
pub struct RestoreTenant<'a> {
    /// The backup.
    pub folder: &'a Path,
    /// The shards of the running node.
    pub shards: &'a [ShardConfig],
    /// The migrations of all modules.
    pub modules: &'a [Migrations],
    /// Whose rows are replaced.
    pub tenant: TenantId,
    /// The time.
    pub now: Timestamp,
    /// Says whether the consumers of the tenant's shard have passed these positions.
    pub passed: &'a mut Passed<'a>,
}

/// Replaces a tenant's rows in the shard where it lives now by those of a backup, while the node works. The tenant's commands are held
/// meanwhile; everybody else's go on. Only tables with a `tenant_id` are touched: what the platform itself knows of the tenant stays.
/// Broken off, the tenant stays held until this is run again. Gives the number of rows that were put back.
/// Errors: `store.not_a_backup`, `store.copy_mismatch`, `store.move_under_way`, `store.consumers_behind`.
pub fn restore_tenant(request: RestoreTenant<'_>) -> Result<u64> {
    aside(move || {
        let RestoreTenant { folder, shards, modules, tenant, now, passed } = request;
        let tenant = tenant.as_i64();
        let manifest = manifest(folder)?;
        let unknown = || Error::failed_precondition("store.restore_shards", "the tenant's shard is not in the backup or not configured");
        let home = manifest.shards.first().ok_or_else(unknown)?;
        let was_on = Database::open_file(&folder.join(&home.file), false)?.shard_of(tenant)?;
        let from = manifest.shards.get(usize::from(was_on)).ok_or_else(unknown)?;
        let lives_on = Database::open(shards.first().ok_or_else(unknown)?)?.shard_of(tenant)?;
        let mut live = Database::open(shards.get(usize::from(lives_on)).ok_or_else(unknown)?)?;
        let mark = format!("restore {tenant}");
        if live.meta(move_tenant::MARK)?.is_some_and(|other| other != mark) {
            return Err(under_way());
        }
        let mut source = Source::open(folder, from, modules, now)?;
        let mut mappings = Vec::new();
        let originals = source.database.tables()?;
        for table in live.tables()?.into_iter().filter(|table| table.of_tenants) {
            let original = originals.iter().find(|t| t.name == table.name);
            let original =
                original.ok_or_else(|| Error::internal(format!("the schemas differ: {} is missing in the backup", table.name)))?;
            mappings.push(Mapping::new(original, &table, true)?);
        }
        live.write(true, |live| {
            live.set_meta(move_tenant::MARK, Some(&mark))?;
            move_tenant::hold(live, tenant, lives_on)
        })?;
        let waited =
            move_tenant::wait_for_lanes(&mut live).and_then(|()| move_tenant::wait_for_consumers(&mut live, lives_on, passed, 30_000));
        if let Err(error) = waited {
            // Nothing is touched yet.
            release(&mut live, tenant)?;
            return Err(error);
        }
        let mut restored = 0;
        for mapping in &mappings {
            live.delete_tenant(&mapping.target, tenant, true)?;
            let mut after: Option<Values> = None;
            loop {
                let range = Range { tenant: Some(tenant), after: after.as_deref(), limit: Some(SLICE_ROWS), ..Range::default() };
                let (rows, last) = source.database.page(mapping, range)?;
                restored += rows.len() as u64;
                live.write(true, |live| live.insert(&mapping.target, &rows, false))?;
                after = last;
                if after.is_none() {
                    break;
                }
            }
            let whole = Range { tenant: Some(tenant), ..Range::default() };
            let (expected, found) = (source.database.sum(mapping, whole)?.0, live.sum(&Mapping::identity(&mapping.target), whole)?.0);
            if expected != found {
                return Err(mismatch(format!("{} of tenant {tenant}", mapping.target.name)));
            }
        }
        release(&mut live, tenant)?;
        Ok(restored)
    })
}

fn release(live: &mut Database, tenant: i64) -> Result<()> {
    live.write(true, |live| {
        live.set_meta(move_tenant::MARK, None)?;
        move_tenant::release(live, tenant)
    })
}
