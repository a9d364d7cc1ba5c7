//! What is remembered of the keys, in a memory that never grows: sets of three entries, each set with its own lock.
//!
//! A key's set and its tag come from a keyed hash whose key nobody outside knows, so that nobody can choose keys that meet in one set.
//! When a set is full, the entry that matters least goes: one that is as good as new, or else the one with the least `weight`, which is
//! how long it will be remembered times how much of its quota is used. So a flood of new keys, each hardly used, drives out others of its
//! kind, and a key at its limit only where two others that are used up further are in its set already. Nobody can choose that: to bring it
//! about for a certain key takes about as many admitted requests as two thirds of the table's keys have quota. An entry that is lost gives
//! its key back what it had used; `evictions` counts these.

use crate::algorithm::{Log, Quota, State};
use std::sync::atomic::{
    AtomicU16, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Entries of a set: with the lock they fill one line of the processor's cache.
const WAYS: usize = 3;
/// Logs of a set.
const LOG_WAYS: usize = 8;
/// A level in the same set as others finds no place at worst; then it is decided and not remembered.
pub(crate) const NO_PLACE: usize = usize::MAX;
/// So often a thread looks at a lock before it lets others run. A lock is held for a fraction of a microsecond, never while waiting.
const SPINS: u32 = 100;

/// Moments are kept modulo this, about nine years, and read as the one next to now.
const MOMENTS: u64 = 1 << 48;

/// Three entries behind a lock of one word, so that a set is locked with one locked instruction and unlocked with a plain write. The other
/// words are only touched by whoever holds the lock; they are atomics so that this needs no `unsafe`, and cost what plain words cost.
///
/// An entry has 40 bits of the key's hash: a mark of 32, four beside the moment and four beside the word. Those and the set's place tell
/// keys apart: that one is taken for another happens once in 10^11 looks.
#[repr(align(64))]
#[derive(Default)]
struct Set {
    lock: AtomicU16,
    /// Nobody reads it: see [`Table::touch`].
    touched: AtomicU16,
    marks: [AtomicU32; WAYS],
    /// When it is as good as new: 48 bits; the quota's version: 6; how much is used: 6; hash: 4. Zero: no entry.
    moments: [AtomicU64; WAYS],
    /// The state's word in 60 bits, its halves being below 2^30; hash: 4.
    words: [AtomicU64; WAYS],
}

/// A moment out of its 48 bits.
#[inline]
fn moment(bits: u64, now_us: u64) -> u64 {
    // As far from now as the bits say, before or after.
    let ahead = (bits.wrapping_sub(now_us) << 16) as i64 >> 16;
    now_us.saturating_add_signed(ahead)
}

impl Set {
    /// How long an entry will still count.
    #[inline]
    fn ahead(&self, slot: usize, now_us: u64) -> u64 {
        let packed = self.moments[slot].load(Relaxed);
        if packed == 0 { 0 } else { moment(packed >> 16, now_us).saturating_sub(now_us) }
    }

    fn weight(&self, slot: usize, now_us: u64) -> u64 {
        let used = self.moments[slot].load(Relaxed) >> 4 & 0x3f;
        self.ahead(slot, now_us).saturating_mul(1 + used)
    }

    #[inline(always)]
    fn find(&self, hash: u64, now_us: u64) -> Option<Found> {
        let slot = self.marks.iter().position(|mark| mark.load(Relaxed) == (hash >> 32) as u32)?;
        let (packed, word) = (self.moments[slot].load(Relaxed), self.words[slot].load(Relaxed));
        if packed == 0 || packed & 0xf != hash >> 28 & 0xf || word & 0xf != hash >> 24 & 0xf {
            return None;
        }
        let state = State { until_us: moment(packed >> 16, now_us), word: (word >> 34) << 32 | (word >> 4 & 0x3fff_ffff) };
        Some(Found { slot, version: (packed >> 10 & 0x3f) as u8, state })
    }

    #[inline]
    fn put(&self, slot: usize, hash: u64, version: u8, used: u8, state: State) {
        self.marks[slot].store((hash >> 32) as u32, Relaxed);
        let packed = (state.until_us % MOMENTS) << 16 | u64::from(version) << 10 | u64::from(used >> 2) << 4 | (hash >> 28 & 0xf);
        self.moments[slot].store(packed, Relaxed);
        let word = (state.word >> 32) << 30 | (state.word & 0x3fff_ffff);
        self.words[slot].store(word << 4 | (hash >> 24 & 0xf), Relaxed);
    }

    #[inline]
    fn lock(&self) -> LockedSet<'_> {
        if self.lock.compare_exchange(0, 1, Acquire, Relaxed).is_err() {
            self.wait();
        }
        LockedSet(self)
    }

    #[cold]
    fn wait(&self) {
        let mut spins = 0;
        while self.lock.compare_exchange_weak(0, 1, Acquire, Relaxed).is_err() {
            spins += 1;
            if spins < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
    }
}

/// Unlocks when it goes, after a panic too: that can't leave a set half changed, since each entry is written at once.
pub(crate) struct LockedSet<'a>(&'a Set);

impl Drop for LockedSet<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.lock.store(0, Release);
    }
}

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

impl Place {
    /// In the order of places; below 2^33.
    #[inline]
    pub(crate) fn number(self) -> u64 {
        u64::from(self.in_logs) << 32 | u64::from(self.set)
    }
}

/// A locked set.
pub(crate) enum Held<'a> {
    Set(LockedSet<'a>),
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
        let in_set = |set: &Set| (0..WAYS).filter(|slot| set.ahead(*slot, now_us) > 0).count();
        let in_logs = |logs: &Mutex<Vec<LogEntry>>| lock(logs).iter().filter(|entry| entry.until_us > now_us).count();
        (self.sets.iter().map(in_set).sum::<usize>() + self.logs.iter().map(in_logs).sum::<usize>()) as u64
    }

    pub(crate) fn place(&self, hash: u64, quota: &Quota) -> Place {
        let in_logs = quota.algorithm == crate::Algorithm::SlidingLog;
        let sets = if in_logs { self.logs.len() } else { self.sets.len() } as u64;
        // The bits that are not in the entry come first, so that set and entry together tell as much as they can.
        let bits = u64::from((hash as u32).rotate_left(8));
        Place { in_logs, set: ((bits * sets) >> 32) as u32 }
    }

    /// Has the set's memory fetched while other work goes on, so that several fetches overlap. A write does not wait for its line, which a
    /// read would and which locking one after the other does.
    #[inline]
    pub(crate) fn touch(&self, place: Place) {
        if !place.in_logs {
            self.sets[place.set as usize].touched.store(0, Relaxed);
        }
    }

    /// Locks a set. Whoever locks several does so in the order of [`Place`].
    #[inline]
    pub(crate) fn lock(&self, place: Place) -> Held<'_> {
        if place.in_logs { Held::Logs(lock(&self.logs[place.set as usize])) } else { Held::Set(self.sets[place.set as usize].lock()) }
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
    #[inline(always)]
    pub(crate) fn find(&self, hash: u64, now_us: u64) -> Option<Found> {
        match self {
            Held::Set(LockedSet(set)) => set.find(hash, now_us),
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
            Held::Set(LockedSet(set)) => {
                let least = (0..WAYS).filter(free).min_by_key(|slot| set.weight(*slot, now_us));
                least.map_or((NO_PLACE, true), |slot| (slot, set.ahead(slot, now_us) > 0))
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
        if let Held::Set(LockedSet(set)) = self {
            set.put(slot, hash, version, used, state);
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
    fn a_set_fills_one_cache_line() {
        assert_eq!(std::mem::size_of::<Set>(), 64);
    }

    #[test]
    fn what_is_put_is_found() {
        let now = 1_700_000_000_000_000;
        let set = Set::default();
        for (n, until_us) in [now - 86_400_000_000, now, now + 31 * 86_400_000_000, MOMENTS * 7 - 1].into_iter().enumerate() {
            let hash = 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(n as u64 + 1);
            let now = if n == 3 { MOMENTS * 7 + 5 } else { now };
            let state = State { until_us, word: 999_999_999 << 32 | (1_000_000_000 - n as u64) };
            set.put(n % WAYS, hash, 63, 255, state);
            let found = set.find(hash, now).unwrap();
            assert_eq!((found.slot, found.version, found.state), (n % WAYS, 63, state));
            for bit in 24..64 {
                assert!(set.find(hash ^ 1 << bit, now).is_none(), "bit {bit} tells keys apart");
            }
        }
    }

    #[test]
    fn the_entry_that_matters_least_goes() {
        let table = Table::new(3, 8);
        let place = Place { in_logs: false, set: 0 };
        let now = 1_000;
        let mut held = table.lock(place);
        let hash = |n: u64| (n + 1) << 40;
        for (n, (until_us, used)) in [(5_000, 255), (9_000, 10), (8_000, 255)].into_iter().enumerate() {
            let (slot, evicts) = held.victim(0, now);
            assert!(!evicts);
            held.put(slot, hash(n as u64), 0, used, State { until_us, word: 1 });
        }
        // 4,000 x 64, 8,000 x 3, 7,000 x 64
        let (slot, evicts) = held.victim(0, now);
        assert!(evicts);
        assert_eq!(held.find(hash(1), now).map(|found| found.slot), Some(slot));
        // Once one is as good as new it goes first, and nobody loses anything.
        let (slot, evicts) = held.victim(0, 5_500);
        assert!(!evicts);
        assert!(held.find(hash(0), now).is_some_and(|found| found.slot == slot));
        assert_eq!(held.victim(0b111, now), (NO_PLACE, true));
    }
}
