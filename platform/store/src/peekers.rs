//! Read connections of a SQLite shard for reads on the calling thread, which keep their snapshots for a moment.
//!
//! To begin and to end a snapshot takes file locks, which cost a third of reading a few rows by key and stand in each other's way when
//! several threads read. So a snapshot is kept for the reads that follow, until something was committed that they have to see:
//!
//! - What the lane of this process commits is seen by every read that begins after anybody could know of it: the lane tells before a COMMIT
//!   and after it, and in between each read begins a snapshot of its own.
//! - What another process commits (the command line, beside a server) is seen [`KEPT`] later.
//! - A snapshot that nobody reads on is ended by the checkpoint thread at its next look, and when a lane has finished a checkpoint: one
//!   that is older keeps the WAL from starting again from its beginning.

use crate::reader::ReadEngine;
use crate::sqlite::Connection;
use crate::tx::Session;
use kernel::Result;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a snapshot serves, at most.
pub(crate) const KEPT: Duration = Duration::from_millis(1);

/// The read connections of a shard that are not in use; none on PostgreSQL.
#[derive(Default)]
pub(crate) struct Peekers {
    idle: Mutex<Idle>,
    commits: Arc<Commits>,
}

#[derive(Default)]
struct Idle {
    peekers: Vec<Peeker>,
    closed: bool,
}

/// A number that changes with whatever is committed that reads have to see; odd while a COMMIT is under way.
#[derive(Default)]
struct Commits(AtomicU64);

impl Commits {
    fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// A read connection with the snapshot that it may have open.
struct Peeker {
    connection: Connection,
    commits: Arc<Commits>,
    /// What the number of commits was before the snapshot was begun, and when that was.
    seen: u64,
    begun: Instant,
}

/// A read connection in use; given back when this is dropped, after a panic too.
pub(crate) struct Lent<'a> {
    peekers: &'a Peekers,
    peeker: Option<Peeker>,
}

impl Peekers {
    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, connection: Connection) {
        let commits = self.commits.clone();
        self.idle().peekers.push(Peeker { connection, commits, seen: 0, begun: Instant::now() });
    }

    /// One to read on, if one is free.
    pub(crate) fn lend(&self) -> Option<Lent<'_>> {
        let peeker = self.idle().peekers.pop()?;
        Some(Lent { peekers: self, peeker: Some(peeker) })
    }

    /// Called by the lane before a COMMIT: from here on somebody may see what it commits, so nobody reads on an older snapshot.
    pub(crate) fn committing(&self) {
        self.commits.0.fetch_or(1, Ordering::SeqCst);
    }

    /// Ends what [`Peekers::committing`] began, whatever came of the COMMIT: reads that begin after this see all that is committed by now.
    pub(crate) fn committed(&self) {
        self.commits.0.fetch_add(1, Ordering::SeqCst);
    }

    /// Reads that begin after this see what something else than the lane has committed by now; may be called at any time.
    pub(crate) fn changed(&self) {
        self.commits.0.fetch_add(2, Ordering::SeqCst);
    }

    /// Ends the snapshots that serve no more.
    pub(crate) fn end_snapshots(&self) {
        for peeker in &mut self.idle().peekers {
            if peeker.connection.in_snapshot() && !peeker.serves() {
                peeker.end_snapshot();
            }
        }
    }

    /// Closes all of them, those in use when they are given back.
    pub(crate) fn close(&self) {
        let mut idle = self.idle();
        idle.closed = true;
        idle.peekers.clear();
    }
}

impl Peeker {
    /// Whether its snapshot shows all that a read which begins now has to see.
    fn serves(&self) -> bool {
        let commits = self.commits.now();
        commits & 1 == 0 && self.seen == commits && self.begun.elapsed() < KEPT && self.connection.in_snapshot()
    }

    fn end_snapshot(&mut self) {
        if let Err(error) = self.connection.end_snapshot() {
            tracing::warn!(%error, "a snapshot could not be ended; the next read on it tries again");
        }
    }
}

impl ReadEngine for Lent<'_> {
    fn on_snapshot(&mut self, limit_ms: u32, read: &mut dyn FnMut(&mut dyn Session)) -> Result<()> {
        let Some(peeker) = &mut self.peeker else { return Ok(()) };
        if !peeker.serves() {
            // Looked at before the snapshot is begun: that may be newer than this says, never older.
            let (seen, begun) = (peeker.commits.now(), Instant::now());
            peeker.connection.begin_snapshot()?;
            (peeker.seen, peeker.begun) = (seen, begun);
        }
        peeker.connection.bounded(limit_ms, read);
        Ok(())
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let Some(mut peeker) = self.peeker.take() else { return };
        // Nobody reads on it any more, and it may be long until the next read: a checkpoint would have to wait for it.
        if peeker.connection.in_snapshot() && !peeker.serves() {
            peeker.end_snapshot();
        }
        let mut idle = self.peekers.idle();
        if !idle.closed {
            idle.peekers.push(peeker);
        }
    }
}
