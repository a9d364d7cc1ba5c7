//! What is remembered of the keys, in a memory that never grows: sets of five entries, each set with its own lock.
//!
//! A key's set and its tag come from a keyed hash whose key nobody outside knows, so that nobody can choose keys that meet in one set.
//! When a set is full, the entry that matters least goes: one that is as good as new, or else the one with the least `weight`, which is
//! how long it will be remembered times how much of its quota is used. So a flood of new keys, each hardly used, drives out others of its
//! kind and never a key that is at its limit: to be forgotten, five keys that are used up further would have to meet in the same set, and
//! to bring that about costs about as many admitted requests as five whole tables of quotas hold. An entry that is lost gives its key back
//! what it had used; `evictions` counts these.

use crate::algorithm::{Log, Quota, State};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Entries of a set: with the lock they fill two lines of the processor's cache.
const WAYS: usize = 5;
/// Logs of a set.
const LOG_WAYS: usize = 8;
/// A level in the same set as others finds no place at worst; then it is decided and not remembered.
pub(crate) const NO_PLACE: usize = usize::MAX;

/// An entry: 48 bits of the key's hash, 8 of the quota's version, 8 of how much is used; and the state.
#[derive(Clone, Copy, Default)]
pub(crate) struct Entry {
    tag: u64,
    state: State,
}

const HASH: u64 = !0 << 16;

impl Entry {
    fn weight(&self, now_us: u64) -> u64 {
        self.state.until_us.saturating_sub(now_us).saturating_mul(1 + (self.tag & 0xff))
    }
}

#[repr(align(128))]
#[derive(Default)]
struct Set(Mutex<[Entry; WAYS]>);

#[derive(Default)]
pub(crate) struct LogEntry {
    hash: u64,
    version: u8,
    /// When it is as good as new.
    until_us: u64,
    log: Log,
}

/// The memory of a limiter.
pub(crate) struct Table {
    sets: Box<[Set]>,
    logs: Box<[Mutex<Vec<LogEntry>>]>,
    evictions: AtomicU64,
}

/// Where a key of one level is found.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    in_logs: bool,
    set: u32,
}

/// A locked set.
pub(crate) enum Held<'a> {
    Set(MutexGuard<'a, [Entry; WAYS]>),
    Logs(MutexGuard<'a, Vec<LogEntry>>),
}

/// What was found of a key: its version and state, and its slot.
pub(crate) struct Found {
    pub(crate) slot: usize,
    pub(crate) version: u8,
    pub(crate) state: State,
}

impl Table {
    /// For so many keys, and so many with a sliding log.
    pub(crate) fn new(keys: usize, logs: usize) -> Table {
        let sets = keys.div_ceil(WAYS).clamp(1, u32::MAX as usize);
        Table {
            sets: std::iter::repeat_with(Set::default).take(sets).collect(),
            logs: std::iter::repeat_with(Mutex::default).take(logs.div_ceil(LOG_WAYS).max(1)).collect(),
            evictions: AtomicU64::new(0),
        }
    }

    /// How many keys it has room for.
    pub(crate) fn keys(&self) -> usize {
        self.sets.len() * WAYS
    }

    /// How many keys were forgotten before their time.
    pub(crate) fn evictions(&self) -> u64 {
        self.evictions.load(Relaxed)
    }

    /// How many keys are remembered at `now_us`, counted by walking over all of them.
    pub(crate) fn live(&self, now_us: u64) -> u64 {
        let in_set = |set: &Set| lock(&set.0).iter().filter(|entry| entry.state.until_us > now_us).count();
        let in_logs = |logs: &Mutex<Vec<LogEntry>>| lock(logs).iter().filter(|entry| entry.until_us > now_us).count();
        (self.sets.iter().map(in_set).sum::<usize>() + self.logs.iter().map(in_logs).sum::<usize>()) as u64
    }

    pub(crate) fn place(&self, hash: u64, quota: &Quota) -> Place {
        let in_logs = quota.algorithm == crate::Algorithm::SlidingLog;
        let sets = if in_logs { self.logs.len() } else { self.sets.len() } as u64;
        // The bits that are not in the tag come first, so that set and tag together tell as much as they can.
        let bits = u64::from((hash as u32).rotate_left(16));
        Place { in_logs, set: ((bits * sets) >> 32) as u32 }
    }

    /// Brings the set's memory near before it is locked: several of these overlap, several locks do not.
    #[inline]
    pub(crate) fn touch(&self, place: Place) {
        if !place.in_logs {
            std::hint::black_box(self.sets[place.set as usize].0.is_poisoned());
        }
    }

    /// Locks a set. Whoever locks several does so in the order of [`Place`].
    #[inline]
    pub(crate) fn lock(&self, place: Place) -> Held<'_> {
        if place.in_logs { Held::Logs(lock(&self.logs[place.set as usize])) } else { Held::Set(lock(&self.sets[place.set as usize].0)) }
    }

    pub(crate) fn count_eviction(&self) {
        self.evictions.fetch_add(1, Relaxed);
    }
}

/// A panic can't leave a set half changed: each entry is written whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Held<'_> {
    /// The key's own entry.
    #[inline]
    pub(crate) fn find(&self, hash: u64) -> Option<Found> {
        match self {
            Held::Set(entries) => {
                let slot = entries.iter().position(|entry| (entry.tag ^ hash) & HASH == 0 && entry.state.until_us > 0)?;
                Some(Found { slot, version: (entries[slot].tag >> 8) as u8, state: entries[slot].state })
            }
            Held::Logs(logs) => {
                let slot = logs.iter().position(|entry| entry.hash == hash)?;
                Some(Found { slot, version: logs[slot].version, state: State::default() })
            }
        }
    }

    /// A slot for a new key, none of those in the mask `taken`; and whether a key that still counted has to go for it.
    #[inline]
    pub(crate) fn victim(&self, taken: u8, now_us: u64) -> (usize, bool) {
        let free = |slot: &usize| taken & (1 << slot) == 0;
        match self {
            Held::Set(entries) => {
                let least = (0..WAYS).filter(free).min_by_key(|slot| entries[*slot].weight(now_us));
                least.map_or((NO_PLACE, true), |slot| (slot, entries[slot].state.until_us > now_us))
            }
            Held::Logs(logs) => {
                if logs.len() < LOG_WAYS {
                    // Several new keys of one request come one after the other.
                    let slot = logs.len() + (0..LOG_WAYS).filter(|slot| *slot >= logs.len() && !free(slot)).count();
                    return if slot < LOG_WAYS { (slot, false) } else { (NO_PLACE, true) };
                }
                let weight = |slot: &usize| logs[*slot].until_us.saturating_sub(now_us).saturating_mul(logs[*slot].log.left_out());
                let least = (0..LOG_WAYS).filter(free).min_by_key(weight);
                least.map_or((NO_PLACE, true), |slot| (slot, logs[slot].until_us > now_us))
            }
        }
    }

    /// Writes an entry whole.
    #[inline]
    pub(crate) fn put(&mut self, slot: usize, hash: u64, version: u8, used: u8, state: State) {
        if let Held::Set(entries) = self {
            entries[slot] = Entry { tag: hash & HASH | u64::from(version) << 8 | u64::from(used), state };
        }
    }

    /// The log in a slot, if it is this key's.
    pub(crate) fn log(&mut self, slot: usize, hash: u64) -> Option<&mut Log> {
        match self {
            Held::Logs(logs) => logs.get_mut(slot).filter(|entry| entry.hash == hash).map(|entry| &mut entry.log),
            Held::Set(_) => None,
        }
    }

    /// Enters an admitted request into the key's log, which begins anew if the slot was another's.
    pub(crate) fn put_log(&mut self, slot: usize, hash: u64, version: u8, cost: u32, until_us: u64, now_us: u64) {
        let Held::Logs(logs) = self else { return };
        if slot >= logs.len() {
            logs.push(LogEntry::default());
        }
        let last = logs.len() - 1;
        let entry = &mut logs[slot.min(last)];
        if entry.hash != hash {
            *entry = LogEntry { hash, ..LogEntry::default() };
        }
        entry.version = version;
        entry.until_us = until_us;
        entry.log.take(cost, now_us);
    }
}

impl Log {
    /// How much its loss would give back.
    fn left_out(&self) -> u64 {
        self.state_sum().max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_fills_two_cache_lines() {
        assert_eq!(std::mem::size_of::<Set>(), 128);
    }

    #[test]
    fn the_entry_that_matters_least_goes() {
        let table = Table::new(5, 8);
        let place = Place { in_logs: false, set: 0 };
        let now = 1_000;
        let mut held = table.lock(place);
        let hash = |n: u64| (n + 1) << 40;
        for (n, (until_us, used)) in [(5_000, 255), (9_000, 10), (6_000, 100), (5_000, 200), (8_000, 255)].into_iter().enumerate() {
            let (slot, evicts) = held.victim(0, now);
            assert!(!evicts);
            held.put(slot, hash(n as u64), 0, used, State { until_us, word: 1 });
        }
        // 4,000 x 256, 8,000 x 11, 5,000 x 101, 4,000 x 201, 7,000 x 256
        let (slot, evicts) = held.victim(0, now);
        assert!(evicts);
        assert_eq!(held.find(hash(1)).map(|found| found.slot), Some(slot));
        // Once one is as good as new it goes first, and nobody loses anything.
        let (slot, evicts) = held.victim(0, 5_500);
        assert!(!evicts);
        assert!(held.find(hash(0)).is_some_and(|found| found.slot == slot) || held.find(hash(3)).is_some_and(|found| found.slot == slot));
        assert_eq!(held.victim(0b1_1111, now), (NO_PLACE, true));
    }
}
