//! The circuit breaker: after too many failures nobody calls for a while, and then a few try.

use std::sync::{Mutex, PoisonError};

/// When a breaker opens and closes.
#[derive(Clone, Copy, Debug, PartialEq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerConfig {
    /// Opens after so many failures one after the other. Default 5.
    pub failures: u32,
    /// Opens as well when this share of the calls of the last `window_ms` failed, in percent. Default 50.
    pub failure_percent: u32,
    /// ... of at least so many calls. Default 20.
    pub least_calls: u32,
    /// Default 10 s.
    pub window_ms: u64,
    /// How long it stays open before somebody tries. Default 30 s.
    pub open_ms: u64,
    /// How many may try at once, and have to succeed for it to close. Default 1.
    pub probes: u32,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        BreakerConfig { failures: 5, failure_percent: 50, least_calls: 20, window_ms: 10_000, open_ms: 30_000, probes: 1 }
    }
}

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls go through.
    Closed,
    /// They don't.
    Open,
    /// A few try.
    HalfOpen,
}

/// Leave to call once, to be given back with what came of it. `era` tells late answers from before a change of state from those that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the breaker waits for what came of the call"]
pub struct Pass {
    era: u64,
}

#[derive(Clone, Copy, Default)]
struct Slice {
    number: u64,
    calls: u32,
    failures: u32,
}

/// The window is counted in so many slices.
const SLICES: u64 = 10;

struct Inner {
    state: BreakerState,
    era: u64,
    in_a_row: u32,
    slices: [Slice; SLICES as usize],
    open_until_us: u64,
    probing: u32,
    probed: u32,
}

/// A circuit breaker. Times are microseconds of whatever clock its user has.
pub struct Breaker {
    config: BreakerConfig,
    inner: Mutex<Inner>,
}

impl Breaker {
    /// A closed one.
    pub fn new(config: BreakerConfig) -> Breaker {
        let inner = Inner {
            state: BreakerState::Closed,
            era: 0,
            in_a_row: 0,
            slices: [Slice::default(); SLICES as usize],
            open_until_us: 0,
            probing: 0,
            probed: 0,
        };
        Breaker { config, inner: Mutex::new(inner) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leave to call now, or after how many microseconds to ask again.
    pub fn enter(&self, now_us: u64) -> Result<Pass, u64> {
        let mut inner = self.lock();
        if inner.state == BreakerState::Open {
            // A clock that was set back does not keep it open for longer than its time.
            let left = inner.open_until_us.saturating_sub(now_us).min(self.config.open_ms * 1000);
            if left > 0 {
                inner.open_until_us = now_us + left;
                return Err(left);
            }
            inner.state = BreakerState::HalfOpen;
            inner.era += 1;
            (inner.probing, inner.probed) = (0, 0);
        }
        if inner.state == BreakerState::HalfOpen {
            if inner.probing + inner.probed >= self.config.probes.max(1) {
                return Err(1_000);
            }
            inner.probing += 1;
        }
        Ok(Pass { era: inner.era })
    }

    /// What came of the call. True when the breaker changed its state by it.
    pub fn leave(&self, pass: Pass, ok: bool, now_us: u64) -> bool {
        let mut inner = self.lock();
        if pass.era != inner.era {
            return false;
        }
        match inner.state {
            BreakerState::Open => false,
            BreakerState::HalfOpen => {
                inner.probing = inner.probing.saturating_sub(1);
                if !ok {
                    self.open(&mut inner, now_us);
                    return true;
                }
                inner.probed += 1;
                if inner.probed < self.config.probes.max(1) {
                    return false;
                }
                inner.state = BreakerState::Closed;
                inner.era += 1;
                inner.in_a_row = 0;
                inner.slices = [Slice::default(); SLICES as usize];
                true
            }
            BreakerState::Closed => {
                let slice_us = (self.config.window_ms * 1000 / SLICES).max(1);
                let number = now_us / slice_us;
                let slice = &mut inner.slices[(number % SLICES) as usize];
                if slice.number != number {
                    *slice = Slice { number, ..Slice::default() };
                }
                slice.calls += 1;
                if ok {
                    inner.in_a_row = 0;
                    return false;
                }
                slice.failures += 1;
                inner.in_a_row += 1;
                let live = || inner.slices.iter().filter(|slice| slice.number + SLICES > number && slice.number <= number);
                let calls: u64 = live().map(|slice| u64::from(slice.calls)).sum();
                let failures: u64 = live().map(|slice| u64::from(slice.failures)).sum();
                let too_many =
                    calls >= u64::from(self.config.least_calls.max(1)) && failures * 100 >= calls * u64::from(self.config.failure_percent);
                if inner.in_a_row >= self.config.failures.max(1) || too_many {
                    self.open(&mut inner, now_us);
                    return true;
                }
                false
            }
        }
    }

    /// The call was given up before anything could be learnt from it: a probe may be tried by somebody else.
    pub fn forget(&self, pass: Pass) {
        let mut inner = self.lock();
        if pass.era == inner.era && inner.state == BreakerState::HalfOpen {
            inner.probing = inner.probing.saturating_sub(1);
        }
    }

    fn open(&self, inner: &mut Inner, now_us: u64) {
        inner.state = BreakerState::Open;
        inner.era += 1;
        inner.open_until_us = now_us + self.config.open_ms * 1000;
    }

    /// Where it stands.
    pub fn state(&self) -> BreakerState {
        self.lock().state
    }
}
