//! A lane's queue: bounded in commands and bytes, one line for each tenant, lines taken in turn.

use crate::job::Job;
use kernel::{Error, Result};
use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many commands a tenant's line gives at each of its turns: small enough to mix tenants, large enough to keep neighbours together.
const TURN: usize = 8;
/// A tenant whose neighbours have been seen within this time shares its groups with them.
const COMPANY: Duration = Duration::from_secs(1);
/// What one tenant's commands may add to a group while it has company, in nanoseconds and, whatever they cost, in commands: bounds
/// what a flood adds to its neighbours' wait.
const SHARE_NS: u64 = 3_000_000;
const SHARE: (usize, usize) = (8, 24);

/// A tenant that has company, and more than one command and more than half of a group's, gives way for so many times as long as the group
/// took, and for so long at most. What it offers meanwhile comes in one group instead of in several small ones, whose statements and
/// commits take the processor from its neighbours. Who sends one command after another never waits for this.
const GIVE_WAY: u32 = 2;
const LONGEST_GIVE_WAY: Duration = Duration::from_millis(10);

/// So many commands may always be ahead of a new one, whatever they take: a short line of slow ones is no flood.
const SHORT: usize = 64;
/// Groups of at most so many commands tell what a group costs whatever is in it: the commit above all.
const FEW: usize = 2;
/// Groups of at least so many tell what a command adds.
const MANY: usize = 8;

/// Bounds of one lane's queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub commands: usize,
    pub bytes: usize,
    pub tenant_commands: usize,
    /// The longest that a tenant's next command is expected to wait, in milliseconds; 0 for no such bound. Who would wait longer is refused at once:
    /// that keeps the wait of those who are accepted short while more is offered than can be done.
    pub wait_ms: u32,
}

struct Waiting {
    lines: HashMap<i64, VecDeque<Box<dyn Job>>>,
    /// Tenants with a line that is not empty, in the order of their turns.
    turns: VecDeque<i64>,
    /// Commands that go along with others' (see [`crate::Call::patience_ms`]), in the order in which they came, each with the moment from
    /// which it goes alone.
    patient: VecDeque<(Instant, Box<dyn Job>)>,
    commands: usize,
    bytes: usize,
    closed: bool,
    /// What a group costs whatever is in it, and what a command adds to it, in nanoseconds, smoothed; 0 until they are known.
    group_ns: u64,
    command_ns: u64,
    /// The most commands of a group, as the lane asked for last.
    most: usize,
    /// The tenant that gives way, and until when.
    giving_way: Option<(i64, Instant)>,
    /// The tenant with more than half of the group that was taken last.
    dominant: Option<i64>,
    /// The last two tenants that submitted, with the moment at which the tenant changed: tells whether anyone has company.
    latest: i64,
    changed: Option<Instant>,
}

impl Waiting {
    /// Whether more than one tenant has been seen lately. The platform's own commands (line 0) come beside anyone's: they are no company.
    fn company(&self) -> bool {
        self.turns.iter().filter(|tenant| **tenant != 0).take(2).count() > 1 || self.changed.is_some_and(|at| at.elapsed() < COMPANY)
    }

    /// The most commands of one tenant in a group.
    fn share(&self) -> usize {
        match SHARE_NS.checked_div(self.command_ns) {
            _ if !self.company() => self.most,
            None => SHARE.1.min(self.most),
            Some(fair) => (fair as usize).clamp(SHARE.0, SHARE.1).min(self.most),
        }
    }

    /// Who gives way now, and for how long.
    fn giving_way(&self) -> Option<(i64, Duration)> {
        let (tenant, until) = self.giving_way?;
        let left = until.checked_duration_since(Instant::now())?;
        Some((tenant, left))
    }

    /// When somebody's patience ends first.
    fn patient_until(&self) -> Option<Instant> {
        self.patient.iter().map(|(until, _)| *until).min()
    }

    /// How long a tenant's command is expected to wait with so many ahead of it, in nanoseconds.
    fn wait_ns(&self, ahead: usize) -> u64 {
        let share = self.share().max(1);
        let commands_ns = |commands: usize| (commands as u64).saturating_mul(self.command_ns);
        let mut group_ns = self.group_ns;
        if self.company() {
            group_ns += give_way(Duration::from_nanos(self.group_ns.saturating_add(commands_ns(share)))).as_nanos() as u64;
        }
        commands_ns(ahead).saturating_add(((ahead / share) as u64).saturating_mul(group_ns))
    }
}

/// How long whoever filled a group that took so long gives way.
fn give_way(group: Duration) -> Duration {
    group.saturating_mul(GIVE_WAY).min(LONGEST_GIVE_WAY)
}

/// See the module.
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    bounds: Bounds,
}

impl Queue {
    pub(crate) fn new(bounds: Bounds) -> Queue {
        let waiting = Waiting {
            lines: HashMap::new(),
            turns: VecDeque::new(),
            patient: VecDeque::new(),
            commands: 0,
            bytes: 0,
            closed: false,
            group_ns: 0,
            command_ns: 0,
            most: 0,
            giving_way: None,
            dominant: None,
            latest: 0,
            changed: None,
        };
        Queue { waiting: Mutex::new(waiting), arrived: Condvar::new(), bounds }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a command to its tenant's line, or gives it back with why not.
    pub(crate) fn push(&self, job: Box<dyn Job>) -> Result<(), (Box<dyn Job>, Error)> {
        let tenant = job.line();
        let bytes = job.call().bytes;
        let mut waiting = self.lock();
        if waiting.closed {
            return Err((job, Error::unavailable("store.closed", "the store is shutting down")));
        }
        let own = waiting.lines.get(&tenant).map_or(0, VecDeque::len);
        // Lines are served in turn, so a tenant waits for about as many commands of each other line as its own line has.
        let ahead = own.saturating_mul(waiting.turns.len().max(1)).min(waiting.commands);
        let bounded = self.bounds.wait_ms > 0 && !job.call().finishes;
        let too_long = bounded && ahead >= SHORT && waiting.wait_ns(ahead) / 1_000_000 > u64::from(self.bounds.wait_ms);
        if too_long
            || waiting.commands >= self.bounds.commands
            || waiting.bytes + bytes > self.bounds.bytes
            || own >= self.bounds.tenant_commands
        {
            let error = Error::overloaded("store.overloaded", "more work is waiting than can be done soon; nothing was done");
            return Err((job, error.retry_after_ms(1_000)));
        }
        waiting.commands += 1;
        waiting.bytes += bytes;
        let patience = Duration::from_millis(job.call().patience_ms.into());
        if !patience.is_zero() {
            waiting.patient.push_back((Instant::now() + patience, job));
            drop(waiting);
            self.arrived.notify_one();
            return Ok(());
        }
        if tenant != 0 && waiting.latest != tenant {
            waiting.changed = (waiting.latest != 0).then(Instant::now);
            waiting.latest = tenant;
        }
        let line = waiting.lines.entry(tenant).or_default();
        line.push_back(job);
        if line.len() == 1 {
            waiting.turns.push_back(tenant);
        }
        drop(waiting);
        self.arrived.notify_one();
        Ok(())
    }

    /// Ends everybody's patience.
    pub(crate) fn hurry(&self) {
        let now = Instant::now();
        let mut waiting = self.lock();
        if waiting.patient.is_empty() {
            return;
        }
        waiting.patient.iter_mut().for_each(|(until, _)| *until = now);
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Puts commands that were taken back to the front of their lines, in their order (their tenant is held for a moment).
    pub(crate) fn put_back(&self, jobs: Vec<Box<dyn Job>>) {
        let mut waiting = self.lock();
        for job in jobs.into_iter().rev() {
            waiting.commands += 1;
            waiting.bytes += job.call().bytes;
            let tenant = job.line();
            let line = waiting.lines.entry(tenant).or_default();
            line.push_front(job);
            if line.len() == 1 {
                waiting.turns.push_back(tenant);
            }
        }
    }

    /// Takes up to `most` commands, a few from each tenant in turn; neighbours of one tenant stand together, and those that only go along
    /// stand last. Waits for the first one that doesn't, or whose patience ends. Nothing when the queue is closed and empty.
    pub(crate) fn take(&self, most: usize) -> Option<Vec<Box<dyn Job>>> {
        let mut waiting = self.lock();
        let giving_way = loop {
            let giving_way = waiting.giving_way();
            let patient_until = waiting.patient_until();
            let now = Instant::now();
            if waiting.turns.iter().any(|tenant| giving_way.is_none_or(|(one, _)| one != *tenant))
                || patient_until.is_some_and(|until| until <= now || waiting.closed)
            {
                break giving_way.map(|(tenant, _)| tenant);
            }
            if waiting.closed && waiting.turns.is_empty() {
                return None;
            }
            let left = [giving_way.map(|(_, left)| left), patient_until.map(|until| until - now)].into_iter().flatten().min();
            waiting = match left {
                Some(left) => self.arrived.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner),
            };
        };
        waiting.most = most;
        let share = waiting.share();
        let mut taken: Vec<(usize, Box<dyn Job>)> = Vec::new();
        // Tenants that used up their share in this group, or were served: their places, so that the group can be ordered by tenant.
        let mut places: HashMap<i64, (usize, usize)> = HashMap::new();
        let mut resting = Vec::new();
        // They have a place in every group, or a flood would keep them waiting.
        while taken.len() < most {
            let Some((_, job)) = waiting.patient.pop_front() else { break };
            waiting.commands -= 1;
            waiting.bytes -= job.call().bytes;
            taken.push((usize::MAX, job));
        }
        let along = taken.len();
        while taken.len() < most {
            let Some(tenant) = waiting.turns.pop_front() else { break };
            if giving_way == Some(tenant) {
                resting.push(tenant);
                continue;
            }
            let next_place = places.len();
            let (place, used) = places.entry(tenant).or_insert((next_place, 0));
            let turn = TURN.min(share - *used).min(most - taken.len());
            let line = waiting.lines.get_mut(&tenant).expect("a tenant that has a turn has a line");
            let mut bytes = 0;
            let mut count = 0;
            while count < turn {
                let Some(job) = line.pop_front() else { break };
                bytes += job.call().bytes;
                count += 1;
                taken.push((*place, job));
            }
            *used += count;
            let spent = *used >= share;
            if line.is_empty() {
                waiting.lines.remove(&tenant);
            } else if spent {
                resting.push(tenant);
            } else {
                waiting.turns.push_back(tenant);
            }
            waiting.commands -= count;
            waiting.bytes -= bytes;
        }
        waiting.turns.extend(resting);
        let dominates = |count: usize| count > 1 && count * 2 > taken.len() - along;
        // The platform's own commands give way to nobody.
        waiting.dominant = places.iter().find(|(tenant, (_, count))| **tenant != 0 && dominates(*count)).map(|(tenant, _)| *tenant);
        drop(waiting);
        taken.sort_by_key(|(place, _)| *place);
        Some(taken.into_iter().map(|(_, job)| job).collect())
    }

    /// Learns from a group what groups and commands cost.
    pub(crate) fn served(&self, commands: usize, elapsed: Duration) {
        let elapsed_ns = elapsed.as_nanos() as u64;
        let smoothed = |known: u64, new: u64| if known == 0 { new } else { (known * 7 + new) / 8 };
        let mut waiting = self.lock();
        if commands <= FEW {
            waiting.group_ns = smoothed(waiting.group_ns, elapsed_ns);
        } else if commands >= MANY {
            let added = elapsed_ns.saturating_sub(waiting.group_ns) / commands as u64;
            waiting.command_ns = smoothed(waiting.command_ns, added);
        }
        if let Some(tenant) = waiting.dominant.take()
            && waiting.company()
        {
            waiting.giving_way = Some((tenant, Instant::now() + give_way(elapsed)));
        }
    }

    /// Refuses what comes from now on; what waits is still taken.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
    }

    /// Commands and bytes that wait.
    pub(crate) fn depth(&self) -> (usize, usize) {
        let waiting = self.lock();
        (waiting.commands, waiting.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{Call, OnceKey};
    use crate::tx::Tx;
    use kernel::TenantId;

    struct Waits(Call);

    impl Job for Waits {
        fn call(&self) -> &Call {
            &self.0
        }
        fn once(&self) -> Option<&OnceKey> {
            None
        }
        fn submitted(&self) -> Instant {
            Instant::now()
        }
        fn run(&mut self, _: &mut Tx<'_>) -> Result<()> {
            Ok(())
        }
        fn stored(&self) -> Result<std::sync::Arc<[u8]>> {
            Ok(std::sync::Arc::new([]))
        }
        fn restore(&mut self, _: &[u8]) -> Result<()> {
            Ok(())
        }
        fn as_any(&mut self) -> &mut dyn std::any::Any {
            self
        }
        fn finish(self: Box<Self>, _: Result<()>) {}
    }

    fn push(queue: &Queue, tenant: i64) -> Result<(), &'static str> {
        push_call(queue, Call::new(TenantId::from_i64(tenant)))
    }

    fn push_call(queue: &Queue, call: Call) -> Result<(), &'static str> {
        queue.push(Box::new(Waits(call.bytes(10)))).map_err(|(_, error)| error.code())
    }

    fn lines(jobs: &[Box<dyn Job>]) -> Vec<i64> {
        jobs.iter().map(|job| job.line()).collect()
    }

    #[test]
    fn a_flood_does_not_starve_its_neighbours() {
        let queue = Queue::new(Bounds { commands: 10_000, bytes: 1 << 20, tenant_commands: 5_000, wait_ms: 0 });
        for _ in 0..5_000 {
            push(&queue, 1).expect("room");
        }
        for tenant in 2..=5 {
            push(&queue, tenant).expect("room");
        }
        let group = lines(&queue.take(64).expect("work"));
        assert!((2..=5).all(|tenant| group.contains(&tenant)), "{group:?}");
        assert!(group.iter().filter(|tenant| **tenant == 1).count() <= SHARE.1);
        assert!(group.is_sorted(), "neighbours stand together: {group:?}");
    }

    #[test]
    fn who_has_most_of_a_group_gives_way_to_company_for_a_while() {
        let queue = Queue::new(Bounds { commands: 1_000, bytes: 1 << 20, tenant_commands: 1_000, wait_ms: 0 });
        for tenant in [1, 1, 2] {
            push(&queue, tenant).expect("room");
        }
        assert_eq!(lines(&queue.take(64).expect("work")), [1, 1, 2]);
        queue.served(3, Duration::from_secs(1));
        let until = |after: Duration| {
            queue.lock().giving_way.as_mut().map(|(tenant, until)| {
                *until = Instant::now() + after;
                *tenant
            })
        };
        assert_eq!(until(Duration::from_secs(60)), Some(1));
        for tenant in [1, 2, 1] {
            push(&queue, tenant).expect("room");
        }
        assert_eq!(lines(&queue.take(64).expect("work")), [2], "one command alone gives way to nobody");
        queue.served(1, Duration::from_millis(1));
        queue.close();
        let began = Instant::now();
        assert_eq!(until(Duration::from_millis(20)), Some(1));
        assert_eq!(lines(&queue.take(64).expect("closed, but not empty")), [1, 1]);
        assert!(began.elapsed() >= Duration::from_millis(20));
        assert!(queue.take(64).is_none());

        let queue = Queue::new(Bounds { commands: 1_000, bytes: 1 << 20, tenant_commands: 1_000, wait_ms: 0 });
        for tenant in [1, 1, 2, 2] {
            push(&queue, tenant).expect("room");
        }
        assert_eq!(lines(&queue.take(64).expect("work")), [1, 1, 2, 2]);
        queue.served(4, Duration::from_secs(1));
        assert!(queue.lock().giving_way.is_none(), "nobody has most of it");
    }

    #[test]
    fn a_tenant_alone_fills_the_group_and_keeps_its_order() {
        let queue = Queue::new(Bounds { commands: 1_000, bytes: 1 << 20, tenant_commands: 1_000, wait_ms: 0 });
        for _ in 0..600 {
            push(&queue, 1).expect("room");
        }
        assert_eq!(queue.take(512).expect("work").len(), 512);
        assert_eq!(queue.depth(), (88, 880));
        let back = queue.take(512).expect("work");
        queue.put_back(back);
        assert_eq!(queue.depth(), (88, 880));
        assert_eq!(queue.take(512).expect("work").len(), 88);
        queue.close();
        assert!(queue.take(512).is_none());
        assert_eq!(push(&queue, 1), Err("store.closed"));
    }

    #[test]
    fn who_is_patient_goes_along_and_alone_when_nobody_comes() {
        const SHORT_MS: u32 = 20;
        const LONG_MS: u32 = 600_000;
        let queue = Queue::new(Bounds { commands: 4, bytes: 1 << 20, tenant_commands: 3, wait_ms: 0 });
        let push_patient = |ms| push_call(&queue, Call::new(kernel::Scope::Platform).patience_ms(ms));
        assert_eq!(push_patient(LONG_MS), Ok(()));
        assert_eq!([1, 1].map(|tenant| push(&queue, tenant)), [Ok(()), Ok(())]);
        assert_eq!(push_patient(LONG_MS), Ok(()));
        assert_eq!((push_patient(LONG_MS), queue.depth()), (Err("store.overloaded"), (4, 40)), "patience is bounded as well");
        assert_eq!(lines(&queue.take(3).expect("work")), [1, 0, 0], "a place for each, behind those who brought them");
        queue.served(3, Duration::ZERO);
        assert_eq!(lines(&queue.take(3).expect("work")), [1]);
        let began = Instant::now();
        assert_eq!(push_patient(SHORT_MS), Ok(()));
        assert_eq!(lines(&queue.take(3).expect("work")), [0]);
        assert!(began.elapsed() >= Duration::from_millis(SHORT_MS.into()));
        // Whoever is hurried does not wait, nor who would wait for company that can't come: this would take twenty minutes.
        assert_eq!((queue.depth(), push_patient(LONG_MS)), ((0, 0), Ok(())));
        queue.hurry();
        assert_eq!(lines(&queue.take(3).expect("work")), [0]);
        assert_eq!(push_patient(LONG_MS), Ok(()));
        queue.close();
        assert_eq!(lines(&queue.take(3).expect("closed, but not empty")), [0]);
        assert!(queue.take(3).is_none());
    }

    #[test]
    fn every_bound_is_kept() {
        let queue = Queue::new(Bounds { commands: 5, bytes: 1 << 20, tenant_commands: 3, wait_ms: 0 });
        assert_eq!([1, 1, 1, 1, 2, 3, 4].map(|tenant| push(&queue, tenant).is_ok()), [true, true, true, false, true, true, false]);
        let queue = Queue::new(Bounds { commands: 100, bytes: 25, tenant_commands: 100, wait_ms: 0 });
        assert_eq!([1, 2, 3].map(|tenant| push(&queue, tenant)), [Ok(()), Ok(()), Err("store.overloaded")]);
    }

    #[test]
    fn what_finishes_something_is_taken_however_long_the_line_is() {
        let queue = Queue::new(Bounds { commands: 1_000, bytes: 1 << 20, tenant_commands: 500, wait_ms: 50 });
        queue.served(1, Duration::from_millis(10));
        queue.served(100, Duration::from_millis(200));
        let begun = std::iter::from_fn(|| push(&queue, 1).ok()).take(1_000).count();
        assert!((SHORT..500).contains(&begun), "{begun} would wait too long");
        let finishes = || push_call(&queue, Call::new(TenantId::from_i64(1)).finishes());
        let finished = std::iter::from_fn(|| finishes().ok()).take(1_000).count();
        assert_eq!(begun + finished, 500, "the line's own bound holds for all");
        assert_eq!(push(&queue, 1), Err("store.overloaded"));
    }

    #[test]
    fn who_would_wait_too_long_is_refused_and_its_neighbours_are_not() {
        let queue = Queue::new(Bounds { commands: 10_000, bytes: 1 << 20, tenant_commands: 10_000, wait_ms: 50 });
        let accepted = |tenant| std::iter::from_fn(|| push(&queue, tenant).ok()).take(5_000).count();
        queue.served(100, Duration::from_millis(50));
        // Half a millisecond each: with 102 before it the next one would wait for 51 ms.
        assert_eq!(accepted(1), 102);
        assert_eq!(push(&queue, 1), Err("store.overloaded"));
        assert_eq!(push(&queue, 2), Ok(()), "a neighbour has its own line");
        // A short line is never too long, however slow its commands are; three tenants in turn fill it three times as fast.
        queue.served(MANY, Duration::from_secs(1_000));
        assert_eq!(accepted(3), SHORT.div_ceil(3));
    }
}
