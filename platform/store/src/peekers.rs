//! Read connections of a SQLite shard for reads on the calling thread, which keep their snapshots for a moment.
//!
//! To begin and to end a snapshot takes file locks, which cost a third of reading a few rows by key and stand in each other's way when
//! several threads read. So a snapshot is kept for the reads that follow, until something was committed that they have to see:
//!
//! - What a lane of this process commits is seen by every read that begins after its answer: the lane tells it here before it answers.
//! - What another process commits (the command line, beside a server) is seen [`KEPT`] later.
//! - A snapshot that nobody reads on is ended by the checkpoint thread at its next look, and before a lane finishes a checkpoint: an
//!   open one keeps the WAL from starting again from its beginning.

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
    idle: Mutex<Vec<Peeker>>,
    /// Rises with whatever is committed that reads have to see.
    commits: Arc<AtomicU64>,
}

/// A read connection with the snapshot that it may have open.
pub(crate) struct Peeker {
    connection: Connection,
    commits: Arc<AtomicU64>,
    /// What [`Peekers::commits`] was before the snapshot was begun, and when that was.
    seen: u64,
    begun: Instant,
}

impl Peekers {
    fn idle(&self) -> MutexGuard<'_, Vec<Peeker>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, connection: Connection) {
        let commits = self.commits.clone();
        self.idle().push(Peeker { connection, commits, seen: 0, begun: Instant::now() });
    }

    /// One to read on, if one is free; it is given back when the read has ended.
    pub(crate) fn take(&self) -> Option<Peeker> {
        self.idle().pop()
    }

    /// See [`Peekers::take`].
    pub(crate) fn give_back(&self, peeker: Peeker) {
        self.idle().push(peeker);
    }

    /// Reads that begin after this see all that is committed by now.
    pub(crate) fn committed(&self) {
        self.commits.fetch_add(1, Ordering::Release);
    }

    /// Ends the snapshots that serve no more: those older than `age`.
    pub(crate) fn end_snapshots(&self, age: Duration) {
        for peeker in &mut *self.idle() {
            if peeker.connection.in_snapshot()
                && peeker.begun.elapsed() >= age
                && let Err(error) = peeker.connection.end_snapshot()
            {
                tracing::warn!(%error, "a snapshot could not be ended; the next read on it tries again");
            }
        }
    }

    /// Closes those that are not in use.
    pub(crate) fn close(&self) {
        self.idle().clear();
    }
}

impl ReadEngine for Peeker {
    fn on_snapshot(&mut self, limit_ms: u32, read: &mut dyn FnMut(&mut dyn Session)) -> Result<()> {
        // Loaded before the snapshot is begun: it may be newer than this says, never older.
        let commits = self.commits.load(Ordering::Acquire);
        let serves = self.connection.in_snapshot() && self.seen == commits && self.begun.elapsed() < KEPT;
        if !serves {
            (self.seen, self.begun) = (commits, Instant::now());
            self.connection.begin_snapshot()?;
        }
        self.connection.bounded(limit_ms, read);
        Ok(())
    }
}
