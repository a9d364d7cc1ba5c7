//! Reads on a PostgreSQL shard's replicas: how far one must have come to be asked, and when it is left alone for a while.
//!
//! A replica answers a read when it has replayed the log as far as the latest of: what the caller says it has seen (its token), what
//! this node's commands in the same scope have committed, and where the shard stood when this node last looked. It is looked before the
//! snapshot is taken, never after. Whatever goes wrong with a replica, the primary is asked instead.

use crate::metrics::{ReplicaMetrics, Served};
use crate::postgres::Connection;
use crate::reader::{ReadEngine, Readers, Work};
use crate::store::lane_of;
use crate::tx::{Read, Session};
use crate::value::Row;
use kernel::{Error, Result, Scope, Timestamp};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// The most replicas of one shard.
pub(crate) const MAX_REPLICAS: usize = 16;
/// How long a read waits for a replica to come as far as it must.
const LAG: Duration = Duration::from_millis(5);
/// How often it is looked meanwhile.
const LOOK: Duration = Duration::from_millis(1);
/// A replica that was too far behind is not asked so soon for more than it had.
const BEHIND: Duration = Duration::from_millis(100);
/// How long a read may wait until a replica has begun it, connecting included.
const BEGIN: Duration = Duration::from_millis(500);
/// A replica that is away is left alone for so long, twice as long after each further failure, up to 64 times.
const AWAY: Duration = Duration::from_millis(100);

/// A place in the write-ahead log of PostgreSQL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wal {
    pub timeline: u32,
    pub lsn: u64,
}

impl Wal {
    /// Nobody knows. No replica has come so far.
    pub(crate) const UNKNOWN: Wal = Wal { timeline: u32::MAX, lsn: u64::MAX };

    /// Whether it is known, and so is each that it was made from.
    pub(crate) fn is_known(self) -> bool {
        self.timeline != u32::MAX && self.lsn != u64::MAX
    }

    /// Whether who has replayed so far has everything that was committed before `wanted`. A timeline begins with all that it shares with
    /// the one before, so a later one will do; an earlier one never does, however long its log has grown since: it is that of a server
    /// that was the primary once.
    pub(crate) fn covers(self, wanted: Wal) -> bool {
        self.timeline >= wanted.timeline && self.lsn >= wanted.lsn
    }

    /// From the row of [`WRITTEN`]. The name of a log file begins with its timeline.
    pub(crate) fn from_written(row: &dyn Row) -> Result<Wal> {
        let (file, lsn): (String, i64) = (row.get(0)?, row.get(1)?);
        let timeline = file.get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        Ok(Wal { timeline: timeline.ok_or_else(|| Error::internal("the name of a log file has no timeline"))?, lsn: lsn as u64 })
    }

    /// What covers both.
    pub(crate) fn and(self, other: Wal) -> Wal {
        Wal { timeline: self.timeline.max(other.timeline), lsn: self.lsn.max(other.lsn) }
    }
}

/// How far a shard was written when a command was answered: a read that is given it sees what that command saw and did, on whichever
/// node and replica it runs. Opaque to clients, as text such as `0-1-615bd8c0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitPosition {
    shard: u16,
    at: Wal,
}

impl CommitPosition {
    pub(crate) fn of(shard: u16, at: Wal) -> CommitPosition {
        CommitPosition { shard, at }
    }

    pub(crate) fn is_known(self) -> bool {
        self.at.is_known()
    }

    /// Takes exactly what [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<CommitPosition> {
        let (shard, rest) = text.split_once('-')?;
        let (timeline, lsn) = rest.split_once('-')?;
        let at = Wal { timeline: timeline.parse().ok()?, lsn: u64::from_str_radix(lsn, 16).ok()? };
        let position = CommitPosition { shard: shard.parse().ok()?, at };
        (position.to_string() == text).then_some(position)
    }

    /// The later of both; `other` when they are of different shards, which can't be compared.
    #[must_use]
    pub fn or_later(self, other: CommitPosition) -> CommitPosition {
        if self.shard == other.shard { CommitPosition { shard: self.shard, at: self.at.and(other.at) } } else { other }
    }
}

impl fmt::Display for CommitPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{:x}", self.shard, self.at.timeline, self.at.lsn)
    }
}

/// How far the primary is written, as [`Wal::from_written`] reads it. Whatever was answered as committed before it was asked is in it.
pub(crate) const WRITTEN: &str = "SELECT CAST(pg_walfile_name(pg_current_wal_flush_lsn()) AS TEXT),
    CAST(pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0') AS BIGINT)";

/// How far a replica has replayed, and whose it is. The timeline is that of its last restart point and so may be told late, never early:
/// after a failover a replica is not asked until it has had one.
const REPLAYED: &str = "SELECT pg_is_in_recovery(), CAST(pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0') AS BIGINT),
    (SELECT timeline_id FROM pg_control_checkpoint()), (SELECT system_identifier FROM pg_control_system())";

/// Which cluster a server belongs to: a replica has the number of its primary.
pub(crate) const SYSTEM: &str = "SELECT system_identifier FROM pg_control_system()";

/// How far the commands of one lane on this node have come. Set before they are answered.
pub(crate) type Mark = Arc<Mutex<Wal>>;

/// The replicas of a shard.
pub(crate) struct Replicas {
    shard: u16,
    marks: Vec<Mark>,
    floor: Mutex<Floor>,
    replicas: Vec<Replica>,
    turn: AtomicUsize,
    metrics: ReplicaMetrics,
}

/// What every read wants at least.
struct Floor {
    at: Wal,
    /// How often a tenant was found to have moved here: its rows came by a way that no lane's mark tells of.
    arrivals: u64,
}

struct Replica {
    readers: Arc<Readers>,
    rest: Mutex<Rest>,
}

/// Why a replica is left alone for now.
#[derive(Default)]
struct Rest {
    away_until: Option<Instant>,
    failures: u32,
    /// It had come so far; who wants more does not ask until then.
    behind: Option<(Wal, Instant)>,
}

/// Why a replica did not answer.
enum Missed {
    Behind(Wal),
    Away(Error),
    /// A statement failed there, perhaps for the replica's own reasons: what it replays wins over what is read.
    Failed,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Replicas {
    /// Of a shard with these lanes' marks. Each replica is a queue, on which threads with a [`ReplicaConnection`] work.
    pub(crate) fn new(shard: u16, marks: Vec<Mark>, queues: Vec<Arc<Readers>>, metrics: ReplicaMetrics) -> Replicas {
        let replicas = queues.into_iter().map(|readers| Replica { readers, rest: Mutex::default() }).collect();
        let floor = Mutex::new(Floor { at: Wal::UNKNOWN, arrivals: 0 });
        Replicas { shard, marks, floor, replicas, turn: AtomicUsize::new(0), metrics }
    }

    /// How far a read in this scope wants a replica to have come, besides what its caller has seen.
    pub(crate) fn wanted(&self, scope: Scope) -> CommitPosition {
        let lane = scope.tenant().map_or(0, |tenant| lane_of(tenant, self.marks.len() as u16));
        let mark = self.marks.get(usize::from(lane)).map_or(Wal::UNKNOWN, |mark| *locked(mark));
        CommitPosition { shard: self.shard, at: mark.and(locked(&self.floor).at) }
    }

    /// How many arrivals are known of, to be given to [`Replicas::raise`].
    pub(crate) fn arrivals(&self) -> u64 {
        locked(&self.floor).arrivals
    }

    /// The shard has been seen to stand there: from now on no replica is asked that has not come so far. Does nothing when a tenant has
    /// arrived since it was looked.
    pub(crate) fn raise(&self, at: Wal, arrivals: u64) {
        let mut floor = locked(&self.floor);
        if floor.arrivals == arrivals {
            floor.at = at;
        }
    }

    /// A tenant has moved to this shard: no replica is asked until it is known where the shard stands.
    pub(crate) fn arrived(&self) {
        let mut floor = locked(&self.floor);
        floor.arrivals += 1;
        floor.at = Wal::UNKNOWN;
    }

    /// Runs a read on a replica. None when the primary has to be asked.
    pub(crate) async fn read<T, F>(
        &self,
        scope: Scope,
        after: Option<CommitPosition>,
        limit_ms: u32,
        now: Timestamp,
        read: &Arc<F>,
    ) -> Option<Result<T>>
    where
        T: Send + 'static,
        F: Fn(&mut Read<'_>) -> Result<T> + Send + Sync + 'static,
    {
        let own = self.wanted(scope).at;
        let wanted = match after {
            None => own,
            Some(after) if after.shard == self.shard => own.and(after.at),
            // Of the shard on which the tenant lived before: it says nothing about this one.
            Some(_) => Wal::UNKNOWN,
        };
        let served = match self.pick(wanted) {
            Err(why) => why,
            Ok(replica) => match replica.read(wanted, scope, limit_ms, now, read.clone()).await {
                Ok(result) => {
                    replica.is_well();
                    self.metrics.count(Served::Replica);
                    return Some(result);
                }
                Err(Missed::Behind(at)) => {
                    replica.is_behind(at);
                    Served::PrimaryLag
                }
                Err(Missed::Away(error)) => {
                    replica.is_away(self.shard, &error);
                    Served::PrimaryAway
                }
                Err(Missed::Failed) => Served::PrimaryFailed,
            },
        };
        self.metrics.count(served);
        None
    }

    /// The next replica in turn that is not left alone, or why there is none.
    fn pick(&self, wanted: Wal) -> std::result::Result<&Replica, Served> {
        if !wanted.is_known() {
            return Err(Served::PrimaryLag);
        }
        let first = self.turn.fetch_add(1, Relaxed);
        let mut why = Served::PrimaryAway;
        for n in 0..self.replicas.len() {
            let replica = &self.replicas[first.wrapping_add(n) % self.replicas.len()];
            match replica.rests(wanted) {
                None => return Ok(replica),
                Some(Served::PrimaryLag) => why = Served::PrimaryLag,
                Some(_) => {}
            }
        }
        Err(why)
    }

    /// Ends the threads when their work is done.
    pub(crate) fn close(&self) {
        self.replicas.iter().for_each(|replica| replica.readers.close());
    }
}

impl Replica {
    async fn read<T, F>(
        &self,
        wanted: Wal,
        scope: Scope,
        limit_ms: u32,
        now: Timestamp,
        read: Arc<F>,
    ) -> std::result::Result<Result<T>, Missed>
    where
        T: Send + 'static,
        F: Fn(&mut Read<'_>) -> Result<T> + Send + Sync + 'static,
    {
        let (reply, mut answer) = oneshot::channel();
        let begun = Arc::new(AtomicBool::new(false));
        let begins = begun.clone();
        let work: Work = Box::new(move |engine| {
            // Whoever gave up has asked the primary.
            if reply.is_closed() {
                return;
            }
            let mut reply = Some(reply);
            let mut answer = |result| _ = reply.take().map(|reply| reply.send(result));
            match engine.replayed(wanted) {
                Err(error) => return answer(Err(Missed::Away(error))),
                Ok(at) if !at.covers(wanted) => return answer(Err(Missed::Behind(at))),
                Ok(_) => begins.store(true, Relaxed),
            }
            let opened = engine.on_snapshot(limit_ms, &mut |session| answer(read_on(session, scope, now, &*read)));
            if let Err(error) = opened {
                answer(Err(Missed::Away(error)));
            }
        });
        self.readers.push(work).map_err(Missed::Away)?;
        let late = || Missed::Away(Error::unavailable("store.unavailable", "a replica did not answer in time"));
        let answered = match timeout(BEGIN, &mut answer).await {
            Ok(answered) => answered,
            Err(_) if begun.load(Relaxed) => timeout(BEGIN + Duration::from_millis(limit_ms.into()), answer).await.map_err(|_| late())?,
            Err(_) => return Err(late()),
        };
        answered.unwrap_or(Err(Missed::Failed))
    }

    /// Why it is not asked now, if so.
    fn rests(&self, wanted: Wal) -> Option<Served> {
        let (rest, now) = (locked(&self.rest), Instant::now());
        if rest.away_until.is_some_and(|until| now < until) {
            Some(Served::PrimaryAway)
        } else {
            rest.behind.filter(|(at, until)| now < *until && !at.covers(wanted)).map(|_| Served::PrimaryLag)
        }
    }

    fn is_well(&self) {
        let mut rest = locked(&self.rest);
        if rest.failures > 0 {
            tracing::info!("a replica answers again");
            (rest.failures, rest.away_until) = (0, None);
        }
    }

    fn is_behind(&self, at: Wal) {
        locked(&self.rest).behind = Some((at, Instant::now() + BEHIND));
    }

    fn is_away(&self, shard: u16, error: &Error) {
        let mut rest = locked(&self.rest);
        if rest.failures == 0 {
            tracing::warn!(shard, ?error, "a replica is away: the primary is read instead");
        }
        rest.away_until = Some(Instant::now() + AWAY * (1 << rest.failures.min(6)));
        rest.failures = rest.failures.saturating_add(1);
    }
}

/// Runs the read in its scope. A statement that fails is no answer: the primary is to say whether it fails there too.
fn read_on<T>(
    session: &mut dyn Session,
    scope: Scope,
    now: Timestamp,
    read: &impl Fn(&mut Read<'_>) -> Result<T>,
) -> std::result::Result<Result<T>, Missed> {
    session.enter(scope).map_err(Missed::Away)?;
    let mut view = Read::new(session, scope, now);
    let result = read(&mut view);
    match view.poison.take() {
        Some(error) if error.code() == "store.unavailable" => Err(Missed::Away(error)),
        Some(_) => Err(Missed::Failed),
        None => Ok(result),
    }
}

/// The connection of one thread to a replica. It is made when it is first needed, so that a node starts while a replica is away.
pub(crate) struct ReplicaConnection {
    connection: Connection,
    /// That of the primary.
    system: i64,
    /// How far the server at the other end has come, as last seen on this connection: it never goes back while the connection stands.
    seen: Wal,
}

impl ReplicaConnection {
    pub(crate) fn new(url: &str, prepared: bool, system: i64) -> Result<ReplicaConnection> {
        Ok(ReplicaConnection { connection: Connection::unconnected(url, prepared)?, system, seen: Wal::default() })
    }

    fn look(&mut self) -> Result<Wal> {
        let row = self.connection.ask_alone(REPLAYED, BEGIN)?;
        let row: &dyn Row = &row;
        let (replica, lsn, timeline, system): (bool, Option<i64>, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        let unusable = |why| Error::unavailable("store.unavailable", why);
        match lsn {
            _ if system != self.system => Err(unusable("what is configured as a replica belongs to another cluster")),
            Some(lsn) if replica => Ok(Wal { timeline: timeline as u32, lsn: lsn as u64 }),
            _ => Err(unusable("what is configured as a replica is none, or has become a primary")),
        }
    }
}

impl ReadEngine for ReplicaConnection {
    fn replayed(&mut self, wanted: Wal) -> Result<Wal> {
        if !self.connection.is_usable() {
            self.seen = Wal::default();
        }
        let began = Instant::now();
        while !self.seen.covers(wanted) || self.seen == Wal::default() {
            self.seen = self.look()?;
            if self.seen.covers(wanted) || self.seen.timeline < wanted.timeline || began.elapsed() >= LAG {
                break;
            }
            std::thread::sleep(LOOK);
        }
        Ok(self.seen)
    }

    fn on_snapshot(&mut self, limit_ms: u32, read: &mut dyn FnMut(&mut dyn Session)) -> Result<()> {
        if !self.connection.is_usable() {
            return Err(Error::unavailable("store.unavailable", "the replica is away"));
        }
        self.connection.snapshot(limit_ms, read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(timeline: u32, lsn: u64) -> Wal {
        Wal { timeline, lsn }
    }

    #[test]
    fn a_replica_of_an_earlier_timeline_never_covers_a_later_one() {
        let table = [
            (at(1, 100), at(1, 100), true),
            (at(1, 99), at(1, 100), false),
            (at(2, 100), at(1, 100), true),
            (at(2, 99), at(1, 100), false),
            (at(1, 1_000_000), at(2, 100), false),
            (at(1, u64::MAX - 1), Wal::UNKNOWN, false),
            (at(u32::MAX - 1, u64::MAX), at(1, 1).and(Wal::UNKNOWN), false),
        ];
        for (replayed, wanted, covers) in table {
            assert_eq!(replayed.covers(wanted), covers, "{replayed:?} covers {wanted:?}");
        }
        assert_eq!(at(1, 9).and(at(2, 5)), at(2, 9));
        assert!(!at(1, 9).and(Wal::UNKNOWN).is_known());
    }

    #[test]
    fn a_token_is_taken_as_it_was_given_and_in_no_other_form() {
        let position = CommitPosition { shard: 3, at: at(2, 0x615b_d8c0) };
        assert_eq!(position.to_string(), "3-2-615bd8c0");
        assert_eq!(CommitPosition::parse("3-2-615bd8c0"), Some(position));
        let wrong = [
            "",
            "-",
            "--",
            "3",
            "3-2",
            "3-2-",
            "-2-1",
            "3--1",
            "3-2-615BD8C0",
            "03-2-1",
            "3-02-1",
            "3-2-01",
            "+3-2-1",
            "3-+2-1",
            "3-2-+1",
            "3-2-1-",
            "3-2-1 ",
            " 3-2-1",
            "65536-1-1",
            "0-4294967296-1",
            "0-1-10000000000000000",
            "0-1-0x1",
            "٣-2-1",
            "0-1-1\u{0}",
        ];
        for text in wrong {
            assert_eq!(CommitPosition::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_later_of_two_positions_is_never_behind_either() {
        let position = |shard, lsn| CommitPosition { shard, at: at(1, lsn) };
        assert_eq!(position(0, 5).or_later(position(0, 3)), position(0, 5));
        assert_eq!(position(0, 3).or_later(position(0, 5)), position(0, 5));
        assert_eq!(position(1, 9).or_later(position(0, 5)), position(0, 5), "shards can't be compared");
    }

    #[test]
    fn an_arrival_is_not_undone_by_an_earlier_look() {
        let replicas = Replicas::new(0, vec![Mark::default()], Vec::new(), ReplicaMetrics::default());
        let before = replicas.arrivals();
        replicas.arrived();
        replicas.raise(at(1, 50), before);
        assert!(!replicas.wanted(Scope::Platform).at.is_known());
        replicas.raise(at(1, 60), replicas.arrivals());
        assert_eq!(replicas.wanted(Scope::Platform).at, at(1, 60));
    }

    #[test]
    fn a_replica_rests_for_those_whom_it_can_not_serve() {
        let replica = Replica { readers: Arc::new(Readers::new()), rest: Mutex::default() };
        assert!(replica.rests(at(1, 5)).is_none());
        replica.is_behind(at(1, 5));
        assert!(replica.rests(at(1, 5)).is_none(), "what it has it may be asked for");
        assert_eq!(replica.rests(at(1, 6)), Some(Served::PrimaryLag));
        replica.is_away(0, &Error::unavailable("store.unavailable", "away"));
        assert_eq!(replica.rests(at(1, 5)), Some(Served::PrimaryAway));
        replica.is_well();
        assert!(replica.rests(at(1, 5)).is_none());
    }
}
