//! Reads: threads with a read connection each, fed from one bounded queue, every read on a snapshot and bounded in time.

use crate::replica::Wal;
use crate::tx::{Read, Session};
use kernel::{Error, Result, Scope, Timestamp};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// The longest that a read may take, in milliseconds: a long reader lets the WAL grow.
pub(crate) const READ_MS: u32 = 5_000;
/// The longest that a read on the calling thread may take, in milliseconds.
pub(crate) const PEEK_MS: u32 = 250;
/// Reads that may wait for a thread.
const QUEUE: usize = 10_000;

/// What a read needs.
#[derive(Clone, Copy)]
pub(crate) enum Reading {
    /// One snapshot for all that it asks, and so many milliseconds.
    Snapshot(u32),
    /// Nothing but to ask one thing, on the platform's scope: that is a snapshot of its own.
    Statement,
}

/// What an engine does for a reader.
pub(crate) trait ReadEngine {
    /// Runs `read` on one snapshot. Errors only when there is no snapshot to be had; then `read` was not run.
    fn on_snapshot(&mut self, limit_ms: u32, read: &mut dyn FnMut(&mut dyn Session)) -> Result<()>;

    /// The same for a `read` that runs one statement on the platform's scope, within [`READ_MS`].
    fn on_statement(&mut self, read: &mut dyn FnMut(&mut dyn Session)) -> Result<()> {
        self.on_snapshot(READ_MS, read)
    }

    /// How far a replica has replayed its primary's log; waits a little when that is not as far as `wanted`. A primary has everything.
    fn replayed(&mut self, wanted: Wal) -> Result<Wal> {
        Ok(wanted)
    }
}

impl ReadEngine for crate::sqlite::Connection {
    fn on_snapshot(&mut self, limit_ms: u32, read: &mut dyn FnMut(&mut dyn Session)) -> Result<()> {
        self.snapshot(limit_ms, read)
    }
}

impl ReadEngine for crate::postgres::Connection {
    fn on_snapshot(&mut self, limit_ms: u32, read: &mut dyn FnMut(&mut dyn Session)) -> Result<()> {
        self.snapshot(limit_ms, read)
    }

    fn on_statement(&mut self, read: &mut dyn FnMut(&mut dyn Session)) -> Result<()> {
        self.statement_alone(read)
    }
}

/// Runs one read in its scope.
pub(crate) fn read_once<T>(
    engine: &mut dyn ReadEngine,
    reading: Reading,
    scope: Scope,
    now: Timestamp,
    read: impl FnOnce(&mut Read<'_>) -> Result<T>,
    answer: impl FnOnce(Result<T>),
) {
    let mut parts = Some((read, answer));
    let mut run = |session: &mut dyn Session| {
        let Some((read, answer)) = parts.take() else { return };
        // Answered before the snapshot is ended: nobody waits for that.
        answer(session.enter(scope).and_then(|()| {
            let mut view = Read::new(session, scope, now);
            let result = read(&mut view);
            view.poison.take().map_or(result, Err)
        }));
    };
    let opened = match reading {
        Reading::Snapshot(limit_ms) => engine.on_snapshot(limit_ms, &mut run),
        Reading::Statement => engine.on_statement(&mut run),
    };
    if let (Err(error), Some((_, answer))) = (opened, parts) {
        answer(Err(error));
    }
}

pub(crate) type Work = Box<dyn FnOnce(&mut dyn ReadEngine) + Send>;

struct Waiting {
    work: VecDeque<(Instant, Work)>,
    closed: bool,
}

/// The queue of a shard's readers.
pub(crate) struct Readers {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    began: Instant,
    /// When a read was last answered, in milliseconds after `began`; 0 for never.
    answered_ms: Arc<AtomicU64>,
}

impl Readers {
    pub(crate) fn new() -> Readers {
        Readers {
            waiting: Mutex::new(Waiting { work: VecDeque::new(), closed: false }),
            arrived: Condvar::new(),
            began: Instant::now(),
            answered_ms: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues work for the next thread that is free.
    pub(crate) fn push(&self, work: Work) -> Result<()> {
        {
            let mut waiting = self.lock();
            if waiting.closed {
                return Err(Error::unavailable("store.closed", "the store is shutting down"));
            }
            if waiting.work.len() >= QUEUE {
                return Err(Error::overloaded("store.overloaded", "more work is waiting than can be done soon; nothing was done")
                    .retry_after_ms(1_000));
            }
            waiting.work.push_back((Instant::now(), work));
        }
        self.arrived.notify_one();
        Ok(())
    }

    /// Queues a read and waits for its answer.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        scope: Scope,
        reading: Reading,
        now: Timestamp,
        read: impl FnOnce(&mut Read<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let (began, answered_ms) = (self.began, self.answered_ms.clone());
        let work: Work = Box::new(move |engine| {
            read_once(engine, reading, scope, now, read, move |result| {
                if result.is_ok() {
                    answered_ms.store(began.elapsed().as_millis() as u64 + 1, Relaxed);
                }
                // The caller may have gone.
                let _ = reply.send(result);
            });
        });
        self.push(work)?;
        answer.await.unwrap_or_else(|_| {
            Err(Error::unavailable("store.read_dropped", "the read waited too long or ended early").retry_after_ms(1_000))
        })
    }

    /// Whether the database has answered a read within so long.
    pub(crate) fn answered_within(&self, time: Duration) -> bool {
        let answered_ms = self.answered_ms.load(Relaxed);
        answered_ms > 0 && (answered_ms + time.as_millis() as u64) > self.began.elapsed().as_millis() as u64
    }

    /// A reader thread: runs until the queue is closed and empty. Work that has waited too long is dropped, which its caller is told.
    pub(crate) fn work(self: Arc<Self>, mut engine: impl ReadEngine) {
        loop {
            let (since, work) = {
                let mut waiting = self.lock();
                loop {
                    if let Some(next) = waiting.work.pop_front() {
                        break next;
                    }
                    if waiting.closed {
                        return;
                    }
                    waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
                }
            };
            if since.elapsed().as_millis() > u128::from(READ_MS) {
                continue;
            }
            // A panic refuses that read alone.
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&mut engine))).is_err() {
                tracing::error!("a read panicked");
            }
        }
    }

    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
    }
}
