//! The table of positions: how far each consumer has come on each lane of a shard.
//!
//! A lane stands at -1 while its consumer goes through the history lane, and the history lane has a row only then. A consumer that is
//! new, and one that is replayed from zero, begins so; without a history the wait ends at once.

use crate::sql;
use kernel::{Error, Result, Scope};
use std::collections::HashMap;
use store::{Call, HISTORY_LANE, Store, Tx};

/// Where a lane stands while its consumer goes through the history lane.
pub(crate) const WAITING: i64 = -1;

/// The code of [`moved`].
pub(crate) const MOVED: &str = "log.position_moved";

/// Another process has moved the position: what was about to be done is done already, or is to be done over.
pub(crate) fn moved() -> Error {
    Error::conflict(MOVED, "another process has moved this consumer's position")
}

/// A command of the platform on a lane of a shard; on the first lane for the history.
pub(crate) fn on_lane(shard: u16, lane: i16) -> Call {
    Call::new(Scope::Platform).on_lane(shard, u16::try_from(lane).unwrap_or(0)).deadline_ms(10_000)
}

/// The positions on one shard, by consumer and lane.
pub(crate) async fn load(store: &Store, shard: u16) -> Result<HashMap<String, HashMap<i16, i64>>> {
    let rows: Vec<(String, i16, i64)> = store.read_shard(shard, |read| read.all(sql::POSITIONS, ())).await?;
    let mut positions: HashMap<String, HashMap<i16, i64>> = HashMap::new();
    for (consumer, lane, sequence) in rows {
        positions.entry(consumer).or_default().insert(lane, sequence);
    }
    Ok(positions)
}

/// Makes the rows that a shard lacks, in one transaction.
pub(crate) async fn create_missing(store: &Store, shard: u16, consumers: &[&'static str]) -> Result<()> {
    let lanes = store.lanes(shard);
    let known = load(store, shard).await?;
    let missing: Vec<(&'static str, i16, i64)> = consumers
        .iter()
        .filter(|name| !known.contains_key(**name))
        .flat_map(|name| {
            let lanes = (0..lanes).map(|lane| (*name, lane as i16, WAITING));
            lanes.chain(std::iter::once((*name, HISTORY_LANE, 0)))
        })
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    store.write(on_lane(shard, 0), create, missing).await
}

fn create(tx: &mut Tx<'_>, missing: &Vec<(&'static str, i16, i64)>) -> Result<()> {
    for row in missing {
        tx.exec(sql::CREATE_POSITION, *row)?;
    }
    Ok(())
}

/// What it takes to move a position, and nothing else.
pub(crate) struct Advance {
    pub consumer: &'static str,
    pub lane: i16,
    pub expected: i64,
    pub target: i64,
}

/// Moves a position past events that nobody wanted. Errors: `log.position_moved`.
pub(crate) fn advance(tx: &mut Tx<'_>, to: &Advance) -> Result<()> {
    tx.must(sql::ADVANCE, (to.consumer, to.lane, to.expected, to.target), moved)
}

/// Checks and moves a position in the transaction that handles the events; tells whether any failure is recorded on this shard.
/// The check comes first and writes nothing, so that losing a race costs the neighbours in the lane's group nothing.
/// Errors: `log.position_moved`.
pub(crate) fn take(tx: &mut Tx<'_>, to: &Advance) -> Result<bool> {
    let (sequence, failures): (i64, bool) = tx.opt(sql::TAKE_POSITION, (to.consumer, to.lane))?.ok_or_else(moved)?;
    if sequence != to.expected {
        return Err(moved());
    }
    advance(tx, to)?;
    Ok(failures)
}

/// Ends a consumer's way through the history: its lanes begin.
pub(crate) fn end_history(tx: &mut Tx<'_>, consumer: &&'static str) -> Result<()> {
    tx.exec(sql::END_HISTORY, (*consumer,))?;
    tx.exec(sql::RELEASE_LANES, (*consumer,))
}
