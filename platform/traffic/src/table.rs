//! What is remembered of the keys, in a memory that never grows: sets of three entries, each set with its own lock.
//!
//! A key's set and its tag come from a keyed hash whose key nobody outside knows, so that nobody can choose keys that meet in one set.
//! When a set is full, the entry that matters least goes: one that is as good as new, or else one that has used less than half of its quota,
//! the one with the least `weight` first, which is how long it will be remembered times how much is used. So a flood of new keys, each hardly
//! used, drives out others of its kind; `evictions` counts them, each of which is given back what it had used.
//!
//! **A key that has used half of its quota is never forgotten before its time.** Where a set has nothing else, such an entry moves to a room
//! that 256 sets share and that few ever need. Where that is full too, there is no place for another key, and whoever comes with one is
//! refused until there is. For that, more than half of all places have to be held by keys that have used half of their quotas.

use crate::algorithm::{Log, Quota, State};
use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Entries of a set: with the lock they fill one line of the processor's cache.
const WAYS: usize = 3;
/// Sets that share a room for what they have no place for.
const GROUP: usize = 256;
/// Entries of such a room: one for eight places of its sets.
const ROOM: usize = GROUP * WAYS / 8;
/// Logs of a set.
const LOG_WAYS: usize = 32;
/// Not in the table.
pub(crate) const NO_PLACE: usize = usize::MAX;
/// In the room that its set shares with others.
pub(crate) const SPILLED: usize = usize::MAX - 1;
/// From here on, of 63, a key is not forgotten: half of its quota.
const USED_UP: u64 = 32;
/// Set in the rank of entries that are not forgotten.
const STAYS: u64 = 1 << 63;
/// So often a thread looks at a lock before it lets others run. A lock is held for a fraction of a microsecond, never while waiting.
const SPINS: u32 = 100;

/// Moments are kept modulo this, about nine years, and read as the one next to now.
const MOMENTS: u64 = 1 << 48;

/// Three entries behind a lock of one word, so that a set is locked with one locked instruction and unlocked with a plain write. The other
/// words are only touched by whoever holds the lock; they are atomics so that this needs no `unsafe`, and cost what plain words cost.
#[repr(align(64))]
#[derive(Default)]
struct Set {
    lock: AtomicU16,
    /// Nobody reads it: see [`Table::touch`].
    touched: AtomicU8,
    /// Whether an entry of this set may be in the room that it shares.
    spilled: AtomicBool,
    marks: [AtomicU32; WAYS],
    moments: [AtomicU64; WAYS],
    words: [AtomicU64; WAYS],
}

/// An entry. It has 40 bits of the key's hash: a mark of 32, four beside the moment and four beside the word. Those and the set's place tell
/// keys apart: that one is taken for another happens once in 10^11 looks.
#[derive(Clone, Copy)]
struct Entry {
    mark: u32,
    /// When it is as good as new: 48 bits; the quota's version: 6; how much is used: 6; hash: 4. Zero: no entry.
    moment: u64,
    /// The state's word in 60 bits, its halves being below 2^30; hash: 4.
    word: u64,
}

/// An entry that its set had no place for.
struct Spilled {
    set: u32,
    entry: Entry,
}

/// A moment out of its 48 bits.
#[inline]
fn moment(bits: u64, now_us: u64) -> u64 {
    // As far from now as the bits say, before or after.
    let ahead = (bits.wrapping_sub(now_us) << 16) as i64 >> 16;
    now_us.saturating_add_signed(ahead)
}

/// How long an entry with this moment will still count.
#[inline]
fn ahead(packed: u64, now_us: u64) -> u64 {
    if packed == 0 { 0 } else { moment(packed >> 16, now_us).saturating_sub(now_us) }
}

impl Entry {
    #[inline(always)]
    fn new(hash: u64, version: u8, used: u8, state: State) -> Entry {
        let moment = (state.until_us % MOMENTS) << 16 | u64::from(version) << 10 | u64::from(used >> 2) << 4 | (hash >> 28 & 0xf);
        let word = ((state.word >> 32) << 30 | (state.word & 0x3fff_ffff)) << 4 | (hash >> 24 & 0xf);
        Entry { mark: (hash >> 32) as u32, moment, word }
    }

    /// Whether it is this key's.
    #[inline(always)]
    fn is(&self, hash: u64) -> bool {
        self.mark == (hash >> 32) as u32 && self.moment != 0 && self.moment & 0xf == hash >> 28 & 0xf && self.word & 0xf == hash >> 24 & 0xf
    }

    #[inline(always)]
    fn found(&self, slot: usize, now_us: u64) -> Found {
        let word = (self.word >> 34) << 32 | (self.word >> 4 & 0x3fff_ffff);
        Found { slot, version: (self.moment >> 10 & 0x3f) as u8, state: State { until_us: moment(self.moment >> 16, now_us), word } }
    }
}

impl Set {
    #[inline(always)]
    fn entry(&self, slot: usize) -> Entry {
        Entry { mark: self.marks[slot].load(Relaxed), moment: self.moments[slot].load(Relaxed), word: self.words[slot].load(Relaxed) }
    }

    #[inline]
    fn ahead(&self, slot: usize, now_us: u64) -> u64 {
        ahead(self.moments[slot].load(Relaxed), now_us)
    }

    /// The higher, the more its loss would matter. Zero: as good as new.
    #[inline]
    fn rank(&self, slot: usize, now_us: u64) -> u64 {
        let packed = self.moments[slot].load(Relaxed);
        let used = packed >> 4 & 0x3f;
        let ahead = ahead(packed, now_us);
        if ahead > 0 && used >= USED_UP { STAYS | ahead } else { ahead * (1 + used) }
    }

    #[inline(always)]
    fn find(&self, hash: u64, now_us: u64) -> Option<Found> {
        let slot = self.marks.iter().position(|mark| mark.load(Relaxed) == (hash >> 32) as u32)?;
        let entry = self.entry(slot);
        entry.is(hash).then(|| entry.found(slot, now_us))
    }

    #[inline(always)]
    fn put(&self, slot: usize, entry: Entry) {
        self.marks[slot].store(entry.mark, Relaxed);
        self.moments[slot].store(entry.moment, Relaxed);
        self.words[slot].store(entry.word, Relaxed);
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
    /// How much of the quota is used, of 255.
    used: u8,
    /// When it is as good as new.
    until_us: u64,
    log: Log,
}

impl LogEntry {
    fn rank(&self, now_us: u64) -> u64 {
        let ahead = self.until_us.saturating_sub(now_us);
        let used = u64::from(self.used >> 2);
        if ahead > 0 && used >= USED_UP { STAYS | ahead } else { ahead.saturating_mul(1 + used).min(STAYS - 1) }
    }
}

/// What is written now and then, on lines of the processor's cache of its own: or each write takes its neighbours' line away from whoever
/// reads them.
#[repr(align(128))]
#[derive(Default)]
pub(crate) struct Apart<T>(pub(crate) T);

/// The memory of a limiter.
pub(crate) struct Table {
    sets: Box<[Set]>,
    rooms: Box<[Mutex<Vec<Spilled>>]>,
    logs: Box<[Mutex<Vec<LogEntry>>]>,
    evictions: Apart<AtomicU64>,
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

/// What a slot for a new key has in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Victim {
    /// Nothing that counts.
    Nobody,
    /// A key that has used less than half of its quota: it may be forgotten.
    Light,
    /// A key that has used more: it may not. With [`NO_PLACE`]: all slots are another level's of the same request.
    Stays,
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
            rooms: std::iter::repeat_with(Mutex::default).take(sets.div_ceil(GROUP)).collect(),
            logs: std::iter::repeat_with(Mutex::default).take(logs.div_ceil(LOG_WAYS).max(1)).collect(),
            evictions: Apart::default(),
        }
    }

    /// How many keys its sets have room for.
    pub(crate) fn keys(&self) -> usize {
        self.sets.len() * WAYS
    }

    /// How many keys were forgotten before their time.
    pub(crate) fn evictions(&self) -> u64 {
        self.evictions.0.load(Relaxed)
    }

    /// How many keys are remembered at `now_us`, counted by walking over all of them.
    pub(crate) fn live(&self, now_us: u64) -> u64 {
        let in_set = |set: &Set| (0..WAYS).filter(|slot| set.ahead(*slot, now_us) > 0).count();
        let in_room = |room: &Mutex<Vec<Spilled>>| lock(room).iter().filter(|spilled| ahead(spilled.entry.moment, now_us) > 0).count();
        let in_logs = |logs: &Mutex<Vec<LogEntry>>| lock(logs).iter().filter(|entry| entry.until_us > now_us).count();
        let sets = self.sets.iter().map(in_set).sum::<usize>() + self.rooms.iter().map(in_room).sum::<usize>();
        (sets + self.logs.iter().map(in_logs).sum::<usize>()) as u64
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
        self.evictions.0.fetch_add(1, Relaxed);
    }

    /// The key's entry in the room that its set shares. Whoever asks holds the set: no entry of a set changes without it.
    #[cold]
    pub(crate) fn find_spilled(&self, place: Place, hash: u64, now_us: u64) -> Option<Found> {
        let mut room = self.room(place);
        room.retain(|spilled| spilled.set != place.set || ahead(spilled.entry.moment, now_us) > 0);
        let mut of_set = room.iter().filter(|spilled| spilled.set == place.set).peekable();
        self.sets[place.set as usize].spilled.store(of_set.peek().is_some(), Relaxed);
        of_set.find(|spilled| spilled.entry.is(hash)).map(|spilled| spilled.entry.found(SPILLED, now_us))
    }

    /// Writes the key's entry there, or takes it away.
    #[cold]
    pub(crate) fn put_spilled(&self, place: Place, hash: u64, entry: Option<(u8, u8, State)>) {
        let mut room = self.room(place);
        let Some(at) = room.iter().position(|spilled| spilled.set == place.set && spilled.entry.is(hash)) else { return };
        match entry {
            Some((version, used, state)) => room[at].entry = Entry::new(hash, version, used, state),
            None => _ = room.swap_remove(at),
        }
    }

    /// Moves an entry from its slot to the room; not if that is full.
    #[cold]
    pub(crate) fn spill(&self, place: Place, slot: usize, now_us: u64) -> bool {
        let set = &self.sets[place.set as usize];
        let mut room = self.room(place);
        if room.len() >= ROOM {
            room.retain(|spilled| ahead(spilled.entry.moment, now_us) > 0);
        }
        if room.len() >= ROOM {
            return false;
        }
        room.push(Spilled { set: place.set, entry: set.entry(slot) });
        set.put(slot, Entry { mark: 0, moment: 0, word: 0 });
        set.spilled.store(true, Relaxed);
        true
    }

    fn room(&self, place: Place) -> MutexGuard<'_, Vec<Spilled>> {
        lock(&self.rooms[place.set as usize / GROUP])
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

    /// Whether a key of this set may be in the room that it shares.
    #[inline(always)]
    pub(crate) fn has_spilled(&self) -> bool {
        matches!(self, Held::Set(LockedSet(set)) if set.spilled.load(Relaxed))
    }

    /// A slot for a new key, none of those in the mask `taken`, and what is there.
    #[inline]
    pub(crate) fn victim(&self, taken: u32, now_us: u64) -> (usize, Victim) {
        let free = |slot: &usize| taken & (1 << slot) == 0;
        let least = match self {
            Held::Set(LockedSet(set)) => (0..WAYS).filter(free).map(|slot| (set.rank(slot, now_us), slot)).min(),
            Held::Logs(logs) => {
                // Several new keys of one request come one after the other.
                let rank = |slot: usize| logs.get(slot).map_or(0, |entry| entry.rank(now_us));
                (0..LOG_WAYS).filter(free).map(|slot| (rank(slot), slot)).min()
            }
        };
        match least {
            Some((0, slot)) => (slot, Victim::Nobody),
            Some((rank, slot)) if rank < STAYS => (slot, Victim::Light),
            Some((_, slot)) => (slot, Victim::Stays),
            None => (NO_PLACE, Victim::Stays),
        }
    }

    /// When the first of its entries is as good as new, in microseconds from now; at least one.
    pub(crate) fn first_ends(&self, now_us: u64) -> u64 {
        let least = match self {
            Held::Set(LockedSet(set)) => (0..WAYS).map(|slot| set.ahead(slot, now_us)).min(),
            Held::Logs(logs) => logs.iter().map(|entry| entry.until_us.saturating_sub(now_us)).min(),
        };
        least.unwrap_or(0).max(1)
    }

    /// Writes an entry whole.
    #[inline]
    pub(crate) fn put(&mut self, slot: usize, hash: u64, version: u8, used: u8, state: State) {
        if let Held::Set(LockedSet(set)) = self {
            set.put(slot, Entry::new(hash, version, used, state));
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
    pub(crate) fn put_log(&mut self, slot: usize, hash: u64, (version, used): (u8, u8), cost: u32, until_us: u64, now_us: u64) {
        let Held::Logs(logs) = self else { return };
        if slot >= logs.len() {
            // One beyond the last that is not the next: another new key of the same request comes before it.
            logs.resize_with(slot + 1, LogEntry::default);
        }
        let entry = &mut logs[slot];
        if entry.hash != hash {
            *entry = LogEntry { hash, ..LogEntry::default() };
        }
        (entry.version, entry.used) = (version, used);
        entry.until_us = until_us;
        entry.log.take(cost, now_us);
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
            set.put(n % WAYS, Entry::new(hash, 63, 255, state));
            let found = set.find(hash, now).unwrap();
            assert_eq!((found.slot, found.version, found.state), (n % WAYS, 63, state));
            for bit in 24..64 {
                assert!(set.find(hash ^ 1 << bit, now).is_none(), "bit {bit} tells keys apart");
            }
        }
    }

    const PLACE: Place = Place { in_logs: false, set: 0 };

    fn hash(n: u64) -> u64 {
        (n + 1) << 40
    }

    fn fill(held: &mut Held<'_>, entries: [(u64, u8); 3]) {
        for (slot, (until_us, used)) in entries.into_iter().enumerate() {
            held.put(slot, hash(slot as u64), 0, used, State { until_us, word: 1 });
        }
    }

    #[test]
    fn the_entry_that_matters_least_goes() {
        let table = Table::new(3, 8);
        let mut held = table.lock(PLACE);
        assert_eq!(held.victim(0, 1_000), (0, Victim::Nobody));
        assert_eq!(held.victim(0b1, 1_000), (1, Victim::Nobody));
        fill(&mut held, [(5_000, 255), (9_000, 10), (8_000, 80)]);
        // The first stays, though its time is short; then 8,000 x 3 against 7,000 x 21.
        assert_eq!(held.victim(0, 1_000), (1, Victim::Light));
        assert_eq!(held.victim(0b010, 1_000), (2, Victim::Light));
        assert_eq!(held.victim(0b110, 1_000), (0, Victim::Stays));
        assert_eq!(held.first_ends(1_000), 4_000);
        // Once one is as good as new it goes first, and nobody loses anything.
        assert_eq!(held.victim(0, 5_500), (0, Victim::Nobody));
        assert_eq!(held.victim(0b111, 1_000), (NO_PLACE, Victim::Stays));
    }

    #[test]
    fn what_has_no_place_in_its_set_is_in_the_room_until_it_ends() {
        let table = Table::new(3, 8);
        let mut held = table.lock(PLACE);
        let state = |until_us| State { until_us, word: 7 };
        for n in 0..ROOM as u64 {
            held.put(0, hash(n), 3, 255, state(5_000 + n));
            assert!(table.spill(PLACE, 0, 1_000), "{n}");
        }
        assert!(held.has_spilled());
        assert!(held.find(hash(7), 1_000).is_none());
        let found = table.find_spilled(PLACE, hash(7), 1_000).unwrap();
        assert_eq!((found.slot, found.version, found.state), (SPILLED, 3, state(5_007)));
        assert!(table.find_spilled(PLACE, hash(ROOM as u64), 1_000).is_none());
        assert_eq!(table.live(1_000), ROOM as u64);
        table.put_spilled(PLACE, hash(7), Some((4, 255, state(9_000))));
        assert_eq!(table.find_spilled(PLACE, hash(7), 1_000).unwrap().state, state(9_000));
        held.put(0, hash(99), 3, 255, state(6_000));
        assert!(!table.spill(PLACE, 0, 1_000), "it is full");
        assert!(held.find(hash(99), 1_000).is_some(), "and what was to move stays where it was");
        assert!(table.spill(PLACE, 0, 5_001), "until some end");
        table.put_spilled(PLACE, hash(99), None);
        assert!(table.find_spilled(PLACE, hash(99), 5_001).is_none());
        assert!(table.find_spilled(PLACE, hash(7), 9_001).is_none());
        assert!(!held.has_spilled(), "the set's is forgotten when nothing is left");
    }
}
