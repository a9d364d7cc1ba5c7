//! Moving a tenant to another shard while it works.
//!
//! 1. Triggers capture the keys of the tenant's rows that change from now on.
//! 2. Its rows are copied in batches, each as it is at that moment.
//! 3. Rounds of catching up: within one snapshot of the source all captured keys are copied again, so that after a round the copy
//!    equals that snapshot. Every range of every table is compared under such a snapshot once, and every row that a later round copies
//!    is read back, so that in the end all of it is known to be equal.
//! 4. The tenant's commands are held, consumers of the source finish its events, a last round, and the directory is switched. That is
//!    the pause, well under a second.
//! 5. The source's rows are deleted in batches, after the other nodes have had time to read the directory again.
//!
//! The switch of the directory, on the home shard, is the moment of truth: a move that was broken off before it is undone, one that
//! was broken off after it is finished, by running it again. Events arrive in the history lane, which only a replay reads.

use crate::copy::{ColumnType, Database, Mapping, Range, SLICE_ROWS, Sum, Table, Values, aside, key_expression, mismatch, parse_key};
use crate::event::Position;
use crate::migrate::{literal, quoted};
use crate::postgres::LOCK_CLASS;
use crate::store::{Engine, ShardConfig};
use crate::value::Value;
use kernel::{Error, Result, TenantId, Timestamp};
use std::time::{Duration, Instant};

/// The key of `store_meta` that says that a tenant is being moved off this shard, or restored on it.
pub(crate) const MARK: &str = "move";
/// Rows that are compared under one snapshot: short enough that a WAL doesn't grow much behind it.
const COMPARED_ROWS: usize = 20_000;
/// A round that takes no longer is followed by the pause: the last one, with nobody in its way, will be quicker.
const CLOSE: Duration = Duration::from_millis(150);
/// Rounds after which a tenant that changes faster than it is copied is left where it is.
const ROUNDS: u32 = 100;
/// Pauses that are tried before the move is given up.
const PAUSES: u32 = 20;
/// How long consumers may take to come near before a pause, in milliseconds.
const NEAR_MS: u64 = 30_000;
/// The key of `store_meta` that is written on the target as the last thing before the switch.
const ARRIVING: &str = "arriving";
/// What the triggers' names begin with.
const CAPTURE: &str = "store_capture_";

/// Says whether all consumers of a shard have passed these positions, one for each lane.
pub type Passed<'a> = dyn FnMut(&[Position]) -> Result<bool> + Send + 'a;

/// What [`move_tenant`] is asked to do.
pub struct Move<'a> {
    /// The shards of the node, in order. All are migrated to the same state.
    pub shards: &'a [ShardConfig],
    /// Who moves.
    pub tenant: TenantId,
    /// The number of the shard to move to.
    pub to: u16,
    /// The time, which the directory keeps.
    pub now: Timestamp,
    /// A pause that takes longer is broken off and tried again later, in milliseconds; 900 is a good number.
    pub pause_limit_ms: u64,
    /// How long the source's rows are kept after the switch, for readers on nodes that have not read the directory again, in
    /// milliseconds; 5,000 is a good number.
    pub settle_ms: u64,
    /// Says whether the source's consumers have passed these positions.
    pub passed: &'a mut Passed<'a>,
}

/// How a move went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The rows that were compared, in all tables.
    pub rows: u64,
    /// How often the copy caught up with changes.
    pub rounds: u32,
    /// How long the tenant's commands were held, in milliseconds; 0 when a move that was broken off after its switch was finished.
    pub pause_ms: u64,
}

/// Moves a tenant. Blocks for as long as the copying takes.
/// Errors: `store.tenant_already_there`; `store.unknown_shard`; `store.move_under_way` when another tenant is moving off the same
/// shard; `store.move_too_busy` when the tenant changes faster than it can be copied, `store.consumers_behind`: the tenant stays where
/// it is; `store.copy_mismatch`.
pub fn move_tenant(request: Move<'_>) -> Result<Moved> {
    aside(move || {
        let tenant = request.tenant.as_i64();
        let config = |number: u16| {
            let unknown = || Error::failed_precondition("store.unknown_shard", format!("there is no shard {number}"));
            request.shards.get(usize::from(number)).ok_or_else(unknown)
        };
        let mut home = Database::open(config(0)?)?;
        let lives_on = home.shard_of(tenant)?;
        let mark = format!("move {tenant} to {}", request.to);
        if lives_on == request.to {
            return finish_broken_off(&request, &mark);
        }
        let mut source = Database::open(config(lives_on)?)?;
        let mut target = Database::open(config(request.to)?)?;
        match source.meta(MARK)? {
            Some(other) if !other.starts_with(&format!("move {tenant} ")) => {
                return Err(Error::conflict("store.move_under_way", "another tenant is being moved off this shard").retry_after_ms(10_000));
            }
            _ => {}
        }
        let tables = tables(&mut source)?;
        let mappings = mappings(&tables, &target.tables()?)?;
        let mut moving = Moving { tenant, source, target, tables, mappings, sums: Vec::new(), rounds: 0 };
        moving.clear()?;
        moving.source.write(true, |source| source.set_meta(MARK, Some(&mark)))?;
        let result = moving.run(lives_on, request.to, request.now, &mut home, request.pause_limit_ms, request.passed);
        match result {
            Ok(pause_ms) => {
                std::thread::sleep(Duration::from_millis(request.settle_ms));
                leave(&mut moving.source, &moving.tables, tenant)?;
                let rows = moving.sums.iter().map(|sum| sum.rows).sum();
                Ok(Moved { rows, rounds: moving.rounds, pause_ms })
            }
            Err(error) => {
                // The first error is the one that counts. What can't be undone now is undone when the move is run again.
                let undone = home.shard_of(tenant).and_then(|shard| if shard == lives_on { moving.undo() } else { Ok(()) });
                if let Err(second) = undone {
                    tracing::error!(error = ?second, tenant, "a move that failed could not be undone; run it again");
                }
                Err(error)
            }
        }
    })
}

/// The tables of tenants.
fn tables(database: &mut Database) -> Result<Vec<Table>> {
    Ok(database.tables()?.into_iter().filter(|table| table.of_tenants).collect())
}

fn mappings(from: &[Table], to: &[Table]) -> Result<Vec<Mapping>> {
    let find = |table: &Table| {
        let found = to.iter().find(|t| t.name == table.name);
        found.ok_or_else(|| Error::internal(format!("the schemas differ: {} is missing on the target", table.name)))
    };
    from.iter().map(|table| Mapping::new(table, find(table)?, true)).collect()
}

/// Holds a tenant's commands. `shard` is where it goes, or where it is.
pub(crate) fn hold(database: &mut Database, tenant: i64, shard: u16) -> Result<()> {
    const HOLD: &str = "INSERT INTO store_departures (tenant, shard, state) VALUES ($1, $2, 'moving')
        ON CONFLICT (tenant) DO UPDATE SET shard = excluded.shard, state = excluded.state";
    database.execute(HOLD, &[Value::Int(tenant), Value::Int(shard.into())]).map(|_| ())
}

/// Lets a tenant's commands run again.
pub(crate) fn release(database: &mut Database, tenant: i64) -> Result<()> {
    database.execute("DELETE FROM store_departures WHERE tenant = $1", &[Value::Int(tenant)]).map(|_| ())
}

/// Waits until every group that began before now has ended. On SQLite a write transaction that was committed is proof enough.
pub(crate) fn wait_for_lanes(database: &mut Database) -> Result<()> {
    if database.engine() == Engine::Sqlite {
        return Ok(());
    }
    for position in lane_positions(database, 0)? {
        database.write(false, |db| db.batch(&format!("SELECT pg_advisory_xact_lock({LOCK_CLASS}, {})", position.lane)))?;
    }
    Ok(())
}

/// The last event of each lane.
fn lane_positions(database: &mut Database, shard: u16) -> Result<Vec<Position>> {
    let rows = database.rows(
        "SELECT lane, last_sequence FROM store_lanes WHERE lane >= 0 ORDER BY lane",
        &[],
        &[ColumnType::Int, ColumnType::Int],
    )?;
    let position = |row: &Values| match row.as_slice() {
        [Value::Int(lane), Value::Int(sequence)] => Some(Position { shard, lane: i16::try_from(*lane).ok()?, sequence: *sequence }),
        _ => None,
    };
    rows.iter().map(|row| position(row).ok_or_else(|| Error::internal("the lanes can't be read"))).collect()
}

/// Waits until consumers have passed what is committed now.
pub(crate) fn wait_for_consumers(database: &mut Database, shard: u16, passed: &mut Passed<'_>, limit_ms: u64) -> Result<()> {
    let began = Instant::now();
    let positions = lane_positions(database, shard)?;
    while !passed(&positions)? {
        if began.elapsed() > Duration::from_millis(limit_ms) {
            let what = "consumers of the tenant's shard are too far behind for it to be held; see the log's lag and its dead letters";
            return Err(Error::unavailable("store.consumers_behind", what).retry_after_ms(60_000));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// From now on the target's ids are above all that the source has given: what a tenant has written there is older than what it writes
/// here, whichever node's clock is behind. A lane reads its last id when it has its lock.
fn raise_ids(source: &mut Database, target: &mut Database) -> Result<()> {
    let Some(last) = source.integer("SELECT max(last_event_id) FROM store_lanes", &[])? else { return Ok(()) };
    const RAISE: &str = "UPDATE store_lanes SET last_event_id = $2 WHERE lane = $1 AND last_event_id < $2";
    for Position { lane, .. } in lane_positions(target, 0)? {
        target.write(false, |target| {
            if target.engine() == Engine::Postgres {
                target.batch(&format!("SELECT pg_advisory_xact_lock({LOCK_CLASS}, {lane})"))?;
            }
            target.execute(RAISE, &[Value::Int(lane.into()), Value::Int(last)]).map(|_| ())
        })?;
    }
    Ok(())
}

/// After the switch: the target takes the tenant's commands, and the source sends them on.
fn switched(source: &mut Database, target: &mut Database, tenant: i64, to: u16) -> Result<()> {
    raise_ids(source, target)?;
    // In this order a command that comes too early is sent back and held, and never lost.
    target.write(false, |target| {
        target.set_meta(ARRIVING, None)?;
        release(target, tenant)
    })?;
    const MOVED: &str = "INSERT INTO store_departures (tenant, shard, state) VALUES ($1, $2, 'moved')
        ON CONFLICT (tenant) DO UPDATE SET shard = excluded.shard, state = excluded.state";
    source.write(false, |source| source.execute(MOVED, &[Value::Int(tenant), Value::Int(to.into())]).map(|_| ()))
}

/// Removes what is left of a tenant on the shard that it has left.
fn leave(source: &mut Database, tables: &[Table], tenant: i64) -> Result<()> {
    stop_capture(source)?;
    for table in tables {
        source.delete_tenant(table, tenant, true)?;
    }
    source.write(true, |source| source.set_meta(MARK, None))
}

/// The tenant lives where it should: either it did, or a move was broken off after its switch.
fn finish_broken_off(request: &Move<'_>, mark: &str) -> Result<Moved> {
    let tenant = request.tenant.as_i64();
    for (number, shard) in request.shards.iter().enumerate() {
        let mut source = Database::open(shard)?;
        if number == usize::from(request.to) || source.meta(MARK)?.as_deref() != Some(mark) {
            continue;
        }
        let mut target = Database::open(&request.shards[usize::from(request.to)])?;
        switched(&mut source, &mut target, tenant, request.to)?;
        let tables = tables(&mut source)?;
        leave(&mut source, &tables, tenant)?;
        return Ok(Moved { rows: 0, rounds: 0, pause_ms: 0 });
    }
    Err(Error::failed_precondition("store.tenant_already_there", format!("the tenant lives on shard {} already", request.to)))
}

/// Captures the keys of a tenant's rows that change in a table, the `number`th.
fn start_capture(source: &mut Database, number: usize, table: &Table, tenant: i64) -> Result<()> {
    let (on, name, engine) = (quoted(&table.name), literal(&table.name), source.engine());
    let key = |row: &str| key_expression(engine, table, row);
    let mut ddl = String::new();
    for (event, row) in [("insert", "NEW"), ("update", "NEW"), ("delete", "OLD")] {
        let trigger = format!("{CAPTURE}{event}_{number}");
        let mut body = format!("INSERT INTO store_changes (table_name, key) VALUES ({name}, {});", key(row));
        if event == "update" {
            body += &format!(
                " INSERT INTO store_changes (table_name, key) SELECT {name}, {} WHERE {} <> {};",
                key("OLD"),
                key("OLD"),
                key("NEW")
            );
        }
        ddl += &match engine {
            Engine::Sqlite => {
                format!("CREATE TRIGGER {trigger} AFTER {event} ON {on} WHEN {row}.tenant_id = {tenant} BEGIN {body} END;\n")
            }
            // With the rights of the owner: whoever changes the row has none on store_changes.
            Engine::Postgres => format!(
                "CREATE FUNCTION {trigger}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
                   AS $capture$ BEGIN {body} RETURN NULL; END $capture$;
                 CREATE TRIGGER {trigger} AFTER {event} ON {on} FOR EACH ROW WHEN ({row}.tenant_id = {tenant}) EXECUTE FUNCTION {trigger}();\n"
            ),
        };
    }
    source.write(true, |source| source.batch(&ddl))
}

/// How often it is tried to end a capture beside commands that hold the table.
const STOP_TRIES: u32 = 20;

/// Removes the triggers, and what they have captured. Only one tenant moves off a shard at a time, so all of them are meant.
fn stop_capture(source: &mut Database) -> Result<()> {
    let find = match source.engine() {
        Engine::Sqlite => "SELECT name, '' FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'store\\_capture\\_%' ESCAPE '\\'",
        Engine::Postgres => {
            "SELECT p.proname::text, coalesce(t.tgrelid::regclass::text, '')
               FROM pg_proc p LEFT JOIN pg_trigger t ON t.tgfoid = p.oid AND t.tgparentid = 0
              WHERE p.pronamespace = current_schema()::regnamespace AND p.proname LIKE 'store\\_capture\\_%'"
        }
    };
    for found in source.rows(find, &[], &[ColumnType::Text, ColumnType::Text])? {
        let [Value::Text(trigger), Value::Text(table)] = found.as_slice() else { continue };
        let ddl = match source.engine() {
            Engine::Sqlite => format!("DROP TRIGGER IF EXISTS {trigger}"),
            Engine::Postgres if table.is_empty() => format!("DROP FUNCTION IF EXISTS {trigger}()"),
            // The name is quoted where it must be: regclass sees to it.
            Engine::Postgres => format!("DROP TRIGGER IF EXISTS {trigger} ON {table}; DROP FUNCTION IF EXISTS {trigger}()"),
        };
        // A command that holds the table and waits for a row of this one's would wait for ever: one of the two gives way, and it may be this.
        for left in (0..STOP_TRIES).rev() {
            match source.write(true, |source| source.batch(&ddl)) {
                Err(error) if error.code() == "store.busy" && left > 0 => std::thread::sleep(std::time::Duration::from_millis(100)),
                stopped => {
                    stopped?;
                    break;
                }
            }
        }
    }
    forget_changes(source, i64::MAX, true)
}

/// Forgets captured changes up to `last`, in short transactions.
fn forget_changes(source: &mut Database, last: i64, gentle: bool) -> Result<()> {
    const FORGET: &str = "DELETE FROM store_changes WHERE seq IN (SELECT seq FROM store_changes WHERE seq <= $1 ORDER BY seq LIMIT 5000)";
    while source.write(gentle, |source| source.execute(FORGET, &[Value::Int(last)]))? == 5000 {}
    Ok(())
}

struct Moving {
    tenant: i64,
    source: Database,
    target: Database,
    tables: Vec<Table>,
    mappings: Vec<Mapping>,
    sums: Vec<Sum>,
    rounds: u32,
}

impl Moving {
    /// Removes what an earlier move that was broken off has left behind.
    fn clear(&mut self) -> Result<()> {
        self.target.write(true, |target| target.set_meta(ARRIVING, None))?;
        self.source.write(true, |source| release(source, self.tenant))?;
        stop_capture(&mut self.source)?;
        for mapping in &self.mappings {
            self.target.delete_tenant(&mapping.target, self.tenant, true)?;
        }
        Ok(())
    }

    /// The tenant stays: as if nothing had been.
    fn undo(&mut self) -> Result<()> {
        // A snapshot of the broken off move may be open still.
        let _ = self.source.end(false);
        let _ = self.target.end(false);
        self.clear()?;
        self.source.write(true, |source| source.set_meta(MARK, None))
    }

    fn run(
        &mut self,
        from: u16,
        to: u16,
        now: Timestamp,
        home: &mut Database,
        pause_limit_ms: u64,
        passed: &mut Passed<'_>,
    ) -> Result<u64> {
        // Until the switch nothing needs to survive a crash but its order.
        self.source.durable(false)?;
        self.target.durable(false)?;
        for (number, table) in self.tables.iter().enumerate() {
            start_capture(&mut self.source, number, table, self.tenant)?;
        }
        // A group that was under way when a trigger was made has ended since: making it waited for the table's writers.
        self.copy()?;
        if self.target.engine() == Engine::Postgres {
            // From its first command on the tenant is planned for as what it is; the server would look about a minute later.
            self.target.batch("ANALYZE")?;
        }
        self.catch_up()?;
        self.compare()?;
        let limit = Duration::from_millis(pause_limit_ms);
        for pause in 0..PAUSES {
            self.catch_up()?;
            wait_for_consumers(&mut self.source, from, passed, NEAR_MS)?;
            let began = Instant::now();
            self.source.write(false, |source| hold(source, self.tenant, to))?;
            if self.last_rounds(from, began, limit, passed)? {
                self.source.durable(true)?;
                self.target.durable(true)?;
                // One commit that waits for the disk, and with it everything that was copied.
                self.target.write(false, |target| target.set_meta(ARRIVING, Some(&format!("{} at {}", self.tenant, now.micros()))))?;
                const SWITCH: &str = "INSERT INTO store_directory (tenant, shard, placed_at) VALUES ($1, $2, $3)
                    ON CONFLICT (tenant) DO UPDATE SET shard = excluded.shard, placed_at = excluded.placed_at";
                let row = [Value::Int(self.tenant), Value::Int(to.into()), Value::Int(now.micros())];
                home.write(false, |home| home.execute(SWITCH, &row).map(|_| ()))?;
                switched(&mut self.source, &mut self.target, self.tenant, to)?;
                return Ok(began.elapsed().as_millis() as u64);
            }
            self.source.write(false, |source| release(source, self.tenant))?;
            tracing::info!(tenant = self.tenant, pause, "a pause took too long and is tried again");
            std::thread::sleep(limit);
        }
        Err(too_busy())
    }

    /// The first copy: each batch as it is when it is read. What changes meanwhile is captured, and copied again later; so a row that
    /// collides with one that was copied before it has changed since, and may be left out. Rows that are appended meanwhile are left to
    /// the rounds, or the copy might chase them for ever.
    fn copy(&mut self) -> Result<()> {
        for mapping in &self.mappings {
            let end = self.source.last_key(&mapping.source, self.tenant)?;
            let mut after: Option<Values> = None;
            loop {
                let range = Range { tenant: Some(self.tenant), after: after.as_deref(), up_to: end.as_deref(), limit: Some(SLICE_ROWS) };
                let (rows, last) = self.source.page(mapping, range)?;
                if !rows.is_empty() {
                    self.target.write(true, |target| target.insert(&mapping.target, &rows, true))?;
                }
                after = last;
                if after.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Rounds until few changes are left. Errors: `store.move_too_busy`.
    fn catch_up(&mut self) -> Result<()> {
        for _ in 0..ROUNDS {
            let began = Instant::now();
            self.snapshot_round(true, |_| Ok(()))?;
            if began.elapsed() <= CLOSE {
                return Ok(());
            }
        }
        Err(too_busy())
    }

    /// Compares every range of every table, each under a snapshot that the copy has caught up with.
    fn compare(&mut self) -> Result<()> {
        for mapping in self.mappings.clone() {
            let limit = mapping.same_ranges().then_some(COMPARED_ROWS);
            // Later rows come by rounds, which read back what they copy.
            let end = if limit.is_some() { self.source.last_key(&mapping.source, self.tenant)? } else { None };
            let mut total = Sum::default();
            let mut after: Option<Values> = None;
            loop {
                let mut next = None;
                self.snapshot_round(true, |moving| {
                    let range = Range { tenant: Some(moving.tenant), after: after.as_deref(), up_to: end.as_deref(), limit };
                    let (expected, last) = moving.source.sum(&mapping, range)?;
                    let up_to = last.as_deref().or(end.as_deref());
                    let range = Range { limit: None, up_to, ..range };
                    let (found, _) = moving.target.sum(&Mapping::identity(&mapping.target), range)?;
                    if expected != found {
                        let what =
                            format!("{} of tenant {}: {} rows and {}", mapping.target.name, moving.tenant, expected.rows, found.rows);
                        return Err(mismatch(what));
                    }
                    total = total.plus(found);
                    next = last;
                    Ok(())
                })?;
                after = next;
                if after.is_none() {
                    break;
                }
            }
            self.sums.push(total);
        }
        Ok(())
    }

    /// While the tenant is held: the groups under way end, consumers finish what has been committed, and the copy catches up, until
    /// there is nothing new. Says whether that was done within the limit.
    fn last_rounds(&mut self, from: u16, began: Instant, limit: Duration, passed: &mut Passed<'_>) -> Result<bool> {
        wait_for_lanes(&mut self.source)?;
        loop {
            let left = limit.saturating_sub(began.elapsed()).as_millis() as u64;
            match wait_for_consumers(&mut self.source, from, passed, left) {
                Err(error) if error.code() == "store.consumers_behind" => return Ok(false),
                other => other?,
            }
            // Consumers may have emitted events of their own, and other consumers may follow those.
            if self.snapshot_round(false, |_| Ok(()))? == 0 {
                return Ok(began.elapsed() < limit);
            }
            if began.elapsed() > limit {
                return Ok(false);
            }
        }
    }

    /// One round under a snapshot of the source, and `then` while the snapshot stands and the copy equals it. Gives the number of
    /// captured events.
    fn snapshot_round(&mut self, gentle: bool, then: impl FnOnce(&mut Moving) -> Result<()>) -> Result<usize> {
        self.rounds += 1;
        self.source.snapshot()?;
        let last = self.source.integer("SELECT max(seq) FROM store_changes", &[])?;
        let events = match last {
            Some(_) => self.round(gentle)?,
            None => 0,
        };
        then(self)?;
        match (self.source.engine(), last) {
            // Exactly the rows of this snapshot: numbers are not given in the order of commits.
            (Engine::Postgres, Some(_)) => {
                self.source.batch("DELETE FROM store_changes")?;
                self.source.end(true)?;
            }
            (Engine::Sqlite, Some(last)) => {
                self.source.end(false)?;
                forget_changes(&mut self.source, last, gentle)?;
            }
            (_, None) => self.source.end(false)?,
        }
        Ok(events)
    }

    /// Copies every captured row again. Gives the number of events among them. All of them are deleted before any is inserted, since a unique value may have changed hands.
    fn round(&mut self, gentle: bool) -> Result<usize> {
        let mut events = 0;
        let tenant = self.tenant;
        for mapping in &self.mappings {
            for insert in [false, true] {
                let mut after = String::new();
                loop {
                    let keys = changed_keys(&mut self.source, &mapping.source, &after)?;
                    let Some((last, _)) = keys.last() else { break };
                    after = last.clone();
                    let keys: Vec<Values> = keys.into_iter().map(|(_, key)| key).collect();
                    let target_keys: Vec<Values> = keys.iter().map(|key| mapping.target_key(key)).collect();
                    if !insert {
                        events += if mapping.source.name == "store_events" { keys.len() } else { 0 };
                        self.target.write(gentle, |target| target.delete(&mapping.target, tenant, &target_keys))?;
                        continue;
                    }
                    let rows = self.source.fetch(mapping, tenant, &keys)?;
                    self.target.write(gentle, |target| target.insert(&mapping.target, &rows, false))?;
                    let found = self.target.fetch(&Mapping::identity(&mapping.target), tenant, &target_keys)?;
                    if sum(&mapping.target, &rows) != sum(&mapping.target, &found) {
                        return Err(mismatch(format!("changed rows of {} of tenant {tenant}", mapping.target.name)));
                    }
                }
            }
        }
        Ok(events)
    }
}

fn sum(table: &Table, rows: &[Values]) -> Sum {
    let mut sum = Sum::default();
    rows.iter().for_each(|row| sum.add(table, row));
    sum
}

fn too_busy() -> Error {
    let what = "the tenant changes faster than it can be copied; it stays where it is, try again at a quieter time";
    Error::unavailable("store.move_too_busy", what).retry_after_ms(600_000)
}

/// The next captured keys of a table, as text and parsed.
fn changed_keys(source: &mut Database, table: &Table, after: &str) -> Result<Vec<(String, Values)>> {
    let sql = format!("SELECT DISTINCT key FROM store_changes WHERE table_name = $1 AND key > $2 ORDER BY key LIMIT {SLICE_ROWS}");
    let mut keys = Vec::new();
    source.query(&sql, &[Value::Text(table.name.as_str().into()), Value::Text(after.into())], &[ColumnType::Text], &mut |row| {
        if let Some(Value::Text(text)) = row.first() {
            keys.push((text.to_string(), parse_key(table, text)?));
        }
        Ok(true)
    })?;
    Ok(keys)
}
