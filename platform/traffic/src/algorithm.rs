//! The five algorithms as pure functions of a state of two words, a cost and the time. All times are microseconds.
//!
//! Nothing is rounded: a bucket's time is kept as whole microseconds and a numerator over the limit, so that its decisions are those of a
//! token bucket computed in fractions, for ever.

/// How a quota is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// A bucket of `burst` tokens, refilled at `limit` in `per`. Kept as the generic cell rate algorithm: one moment instead of a level.
    TokenBucket,
    /// A queue that is served at `limit` in `per` and has room for `burst` that wait: it delays instead of refusing.
    LeakyBucket,
    /// `limit` in each window of `per`, windows beginning at multiples of `per`. Twice the limit may pass around a window's end.
    FixedWindow,
    /// `limit` in any window of `per`, exactly: the moment of every admitted request is kept.
    SlidingLog,
    /// `limit` in any window of `per`, on the assumption that the requests of the window before were spread evenly.
    SlidingCounter,
}

/// The longest period: 31 days.
pub const MAX_PER_US: u64 = 31 * 86_400_000_000;
/// The most that a sliding log keeps for one key.
pub const MAX_LOG: u32 = 1_000;
/// The longest that a leaky bucket lets a request wait.
pub const MAX_DELAY_US: u64 = 10_000_000;

/// An algorithm with its figures, checked, and what follows from them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quota {
    pub(crate) algorithm: Algorithm,
    pub(crate) limit: u32,
    pub(crate) per_us: u64,
    pub(crate) burst: u32,
    /// One token is so long: whole microseconds, and a numerator over `limit`.
    token: (u64, u32),
    /// And the whole bucket.
    full: (u64, u32),
    /// 255 over the bucket's length, or over the limit.
    used_scale: f32,
}

/// What is remembered of one key. All zeroes: nothing yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// From this moment on the key is as if it had never been seen.
    pub until_us: u64,
    /// Buckets: the numerator of the moment's fraction, over `limit`. Windows: what was admitted. Counter: of the window before, and of this.
    pub word: u64,
}

/// What an algorithm says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it may pass. If not, nothing is taken.
    pub admitted: bool,
    /// The state if it passes. If not, the state as it is; with an earlier end when the clock was set back, and then it should be kept.
    pub next: State,
    /// How long it has to wait before it is served (leaky bucket).
    pub delay_us: u64,
    /// If it may not pass: when it could, if nothing else came.
    pub retry_us: u64,
}

impl Quota {
    /// Checks the figures. `burst` counts for buckets only: 0 stands for `limit` with a token bucket, for no queue with a leaky one.
    /// Errors: what is wrong, in words.
    pub fn new(algorithm: Algorithm, limit: u32, per_us: u64, burst: u32) -> Result<Quota, &'static str> {
        if limit == 0 {
            return Err("a limit of 0 can never pass; to refuse addresses there is the block list");
        }
        if per_us == 0 {
            return Err("a window of zero length");
        }
        if per_us > MAX_PER_US {
            return Err("a window is at most 31 days");
        }
        if algorithm == Algorithm::SlidingLog && limit > MAX_LOG {
            return Err("a sliding log keeps every request and takes at most 1000; use sliding_counter");
        }
        let burst = if burst == 0 && algorithm == Algorithm::TokenBucket { limit } else { burst };
        // Bounds every product below: 2 * limit * per and burst * per stay under 2^63.
        if u64::from(limit.max(burst)).checked_mul(per_us).is_none_or(|product| product >= 1 << 61) {
            return Err("limit times window is too large; use a shorter window");
        }
        let token = (per_us / u64::from(limit), (per_us % u64::from(limit)) as u32);
        let whole = u64::from(burst) * per_us;
        let full = (whole / u64::from(limit), (whole % u64::from(limit)) as u32);
        if algorithm == Algorithm::LeakyBucket && full.0 > MAX_DELAY_US {
            return Err("the last of the queue would wait more than 10 s; shorten the queue or raise the limit");
        }
        let whole = match algorithm {
            Algorithm::TokenBucket | Algorithm::LeakyBucket => full.0.max(1) as f32,
            _ => limit as f32,
        };
        Ok(Quota { algorithm, limit, per_us, burst, token, full, used_scale: 255.0 / whole })
    }

    /// How it counts.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
    /// So many in each period.
    pub fn limit(&self) -> u32 {
        self.limit
    }
    /// The period, in microseconds.
    pub fn per_us(&self) -> u64 {
        self.per_us
    }
    /// The size of the bucket or the queue.
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// The bucket's length: microseconds, and a numerator over the limit.
    pub(crate) fn full(&self) -> (u64, u32) {
        self.full
    }

    /// What an unused key may do at once, and the time, in microseconds, in which it may do so again.
    pub fn allowance(&self) -> (u32, u64) {
        match self.algorithm {
            Algorithm::TokenBucket | Algorithm::LeakyBucket => (self.burst.max(1), self.full.0.max(self.token.0)),
            _ => (self.limit, self.per_us),
        }
    }

    /// The most that one request may cost: one that costs more never passes.
    pub fn most(&self) -> u32 {
        match self.algorithm {
            Algorithm::TokenBucket => self.burst,
            Algorithm::LeakyBucket => self.burst.max(1),
            _ => self.limit,
        }
    }

    /// Decides about a request of `cost` at `now_us`. Not for the sliding log, whose state is a list: see [`Log::decide`].
    #[inline(always)]
    pub fn decide(&self, state: State, cost: u32, now_us: u64) -> Verdict {
        match self.algorithm {
            Algorithm::TokenBucket => self.token_bucket(state, cost, now_us),
            Algorithm::LeakyBucket => self.leaky_bucket(state, cost, now_us),
            Algorithm::FixedWindow => self.fixed_window(state, cost, now_us),
            Algorithm::SlidingCounter | Algorithm::SlidingLog => self.sliding_counter(state, cost, now_us),
        }
    }

    /// The moment at which the bucket was last empty of debt, not before now. A clock that was set back can't lock a key out for longer than
    /// a full bucket lasts. (A queue's last may have as many turns as the queue is long, behind the queue.)
    #[inline]
    fn base(&self, state: State, now_us: u64) -> (u64, u32) {
        if state.until_us < now_us {
            return (now_us, 0);
        }
        if state.until_us - now_us > 2 * self.full.0 + self.token.0 + 2 {
            return (now_us + self.full.0, self.full.1);
        }
        (state.until_us, state.word as u32)
    }

    /// `at` and `cost` tokens, as whole microseconds and a numerator over the limit.
    #[inline]
    pub(crate) fn plus(&self, at: (u64, u32), cost: u32) -> (u64, u32) {
        let limit = u64::from(self.limit);
        let (whole, part) = if cost == 1 {
            (self.token.0, u64::from(self.token.1))
        } else {
            let parts = u64::from(self.token.1) * u64::from(cost);
            (self.token.0 * u64::from(cost) + parts / limit, parts % limit)
        };
        let part = u64::from(at.1) + part;
        let carry = u64::from(part >= limit);
        (at.0 + whole + carry, (part - carry * limit) as u32)
    }

    #[inline(always)]
    fn token_bucket(&self, state: State, cost: u32, now_us: u64) -> Verdict {
        let base = self.base(state, now_us);
        let next = self.plus(base, cost);
        let full = (now_us + self.full.0, self.full.1);
        if next <= full {
            let next = State { until_us: next.0, word: u64::from(next.1) };
            return Verdict { admitted: true, next, delay_us: 0, retry_us: 0 };
        }
        let retry_us = next.0 - full.0 + u64::from(next.1 > full.1);
        Verdict { admitted: false, next: State { until_us: base.0, word: u64::from(base.1) }, delay_us: 0, retry_us }
    }

    fn leaky_bucket(&self, state: State, cost: u32, now_us: u64) -> Verdict {
        let served = self.base(state, now_us);
        let last = (now_us + self.full.0, self.full.1);
        if served <= last && cost <= self.most() {
            let next = self.plus(served, cost);
            let next = State { until_us: next.0, word: u64::from(next.1) };
            return Verdict { admitted: true, next, delay_us: served.0 - now_us + u64::from(served.1 > 0), retry_us: 0 };
        }
        let retry_us = served.0.saturating_sub(last.0) + u64::from(served.1 > last.1);
        Verdict { admitted: false, next: State { until_us: served.0, word: u64::from(served.1) }, delay_us: 0, retry_us }
    }

    /// The end of the window that `now_us` is in.
    #[inline]
    fn window_end(&self, now_us: u64) -> u64 {
        (now_us / self.per_us + 1) * self.per_us
    }

    #[inline(always)]
    fn fixed_window(&self, state: State, cost: u32, now_us: u64) -> Verdict {
        let (end, count) = if now_us >= state.until_us {
            (self.window_end(now_us), 0)
        } else if state.until_us - now_us <= self.per_us {
            (state.until_us, state.word)
        } else {
            // The clock was set back: what was counted counts now.
            (self.window_end(now_us), state.word)
        };
        if count + u64::from(cost) <= u64::from(self.limit) {
            let next = State { until_us: end, word: count + u64::from(cost) };
            return Verdict { admitted: true, next, delay_us: 0, retry_us: 0 };
        }
        Verdict { admitted: false, next: State { until_us: end, word: count }, delay_us: 0, retry_us: end - now_us }
    }

    /// The current window's end, what the window before admitted, and what this one has.
    #[inline]
    fn counted(&self, state: State, now_us: u64) -> (u64, u64, u64) {
        let (before, this) = (state.word >> 32, state.word & 0xffff_ffff);
        if now_us >= state.until_us {
            return (self.window_end(now_us), 0, 0);
        }
        let end = state.until_us.saturating_sub(self.per_us);
        if now_us >= end {
            return (state.until_us, this, 0);
        }
        if end - now_us <= self.per_us { (end, before, this) } else { (self.window_end(now_us), before, this) }
    }

    #[inline(always)]
    fn sliding_counter(&self, state: State, cost: u32, now_us: u64) -> Verdict {
        let (end, before, this) = self.counted(state, now_us);
        let (per, limit, cost) = (self.per_us, u64::from(self.limit), u64::from(cost));
        let left = end - now_us;
        if before * left + (this + cost) * per <= limit * per {
            let next = State { until_us: end + per, word: before << 32 | (this + cost) };
            return Verdict { admitted: true, next, delay_us: 0, retry_us: 0 };
        }
        // In this window, when enough of the one before has slid out; or else in the next one, when enough of this one has.
        let slides_to = |count: u64, room: u64| (room * per).checked_div(count).map_or(per, |slides| slides.min(per));
        let retry_us = match limit.checked_sub(this + cost) {
            Some(room) => left - slides_to(before, room).min(left),
            None => left + (per - slides_to(this, limit.saturating_sub(cost))),
        };
        let next = State { until_us: end + per, word: before << 32 | this };
        Verdict { admitted: false, next, delay_us: 0, retry_us: retry_us.max(1) }
    }

    /// How much of the quota is used, 0..=255, rounded up: how much is forgotten with the state.
    #[inline]
    pub(crate) fn used(&self, next: State, now_us: u64) -> u8 {
        let used = match self.algorithm {
            Algorithm::TokenBucket | Algorithm::LeakyBucket => next.until_us.saturating_sub(now_us) as f32,
            Algorithm::FixedWindow => next.word as f32,
            Algorithm::SlidingCounter | Algorithm::SlidingLog => ((next.word >> 32) + (next.word & 0xffff_ffff)) as f32,
        };
        (used * self.used_scale) as u8
    }

    /// What is left at `now_us`, and after how many microseconds all of it is there again.
    pub fn left(&self, state: State, now_us: u64) -> (u32, u64) {
        match self.algorithm {
            Algorithm::TokenBucket | Algorithm::LeakyBucket => {
                let base = self.base(state, now_us);
                let debt = (base.0 - now_us, base.1);
                let limit = i128::from(self.limit);
                // Both in units of a microsecond over the limit, in which a token is `per_us` long.
                let debt_units = i128::from(debt.0) * limit + i128::from(debt.1);
                let full_units = i128::from(self.full.0) * limit + i128::from(self.full.1);
                let left = (full_units - debt_units).max(0) / i128::from(self.per_us);
                (u32::try_from(left).unwrap_or(u32::MAX), debt.0 + u64::from(debt.1 > 0))
            }
            Algorithm::FixedWindow => {
                let live = state.until_us > now_us;
                let count = if live { state.word } else { 0 };
                let end = if live && state.until_us - now_us <= self.per_us { state.until_us } else { self.window_end(now_us) };
                (u64::from(self.limit).saturating_sub(count) as u32, end - now_us)
            }
            Algorithm::SlidingLog => {
                let sum = if state.until_us > now_us { state.word } else { 0 };
                (u64::from(self.limit).saturating_sub(sum) as u32, state.until_us.saturating_sub(now_us))
            }
            Algorithm::SlidingCounter => {
                let (end, before, this) = self.counted(state, now_us);
                let used = (before * (end - now_us)).div_ceil(self.per_us) + this;
                let reset = match (before, this) {
                    (0, 0) => 0,
                    (_, 0) => end - now_us,
                    _ => end + self.per_us - now_us,
                };
                (u64::from(self.limit).saturating_sub(used) as u32, reset)
            }
        }
    }

    /// The state of a key whose quota was `old` and is this one now: the share that is left stays the same.
    pub(crate) fn rescaled(&self, old: &Quota, state: State, now_us: u64) -> State {
        if state.until_us <= now_us || old == self {
            return if old == self { state } else { State::default() };
        }
        let is_bucket = |a: Algorithm| matches!(a, Algorithm::TokenBucket | Algorithm::LeakyBucket);
        if is_bucket(old.algorithm) && is_bucket(self.algorithm) && old.full.0 > 0 {
            let base = old.base(state, now_us);
            let debt = u128::from(base.0 - now_us) * u128::from(self.full.0) / u128::from(old.full.0);
            return State { until_us: now_us + debt as u64, word: 0 };
        }
        if old.algorithm == self.algorithm && old.per_us == self.per_us {
            // Windows of the same length: their counts, in the new measure, rounded up and never more than all of it.
            let scale = |count: u64| (count * u64::from(self.limit)).div_ceil(u64::from(old.limit)).min(u64::from(self.limit));
            let word = match self.algorithm {
                Algorithm::FixedWindow => scale(state.word),
                _ => scale(state.word >> 32) << 32 | scale(state.word & 0xffff_ffff),
            };
            return State { until_us: state.until_us, word };
        }
        // Another way of counting: as if the share that is used had been used just now.
        let all = match old.algorithm {
            Algorithm::TokenBucket | Algorithm::LeakyBucket => old.burst.max(1),
            _ => old.limit,
        };
        let left = old.left(state, now_us).0.min(all);
        let of = match self.algorithm {
            Algorithm::TokenBucket | Algorithm::LeakyBucket => self.burst,
            _ => self.limit,
        };
        self.having_used((u64::from(all - left) * u64::from(of)).div_ceil(u64::from(all)) as u32, now_us)
    }

    /// The state of a key that has used so many just now.
    pub(crate) fn having_used(&self, used: u32, now_us: u64) -> State {
        match self.algorithm {
            Algorithm::TokenBucket | Algorithm::LeakyBucket => {
                let at = self.plus((now_us, 0), used);
                State { until_us: at.0, word: u64::from(at.1) }
            }
            Algorithm::FixedWindow => State { until_us: self.window_end(now_us), word: u64::from(used) },
            Algorithm::SlidingCounter | Algorithm::SlidingLog => {
                State { until_us: self.window_end(now_us) + self.per_us, word: u64::from(used) }
            }
        }
    }
}

/// The state of a sliding log: what was admitted and when, in order; at most [`MAX_LOG`] entries.
#[derive(Clone, Debug, Default)]
pub struct Log {
    admitted: std::collections::VecDeque<(u64, u32)>,
    sum: u64,
}

impl Log {
    /// Decides about a request of `cost` at `now_us`; with [`Log::take`] it is then entered.
    pub fn decide(&mut self, quota: &Quota, cost: u32, now_us: u64) -> Verdict {
        self.forget(quota, now_us);
        let next = State { until_us: now_us + quota.per_us, word: self.sum + u64::from(cost) };
        if next.word <= u64::from(quota.limit) {
            return Verdict { admitted: true, next, delay_us: 0, retry_us: 0 };
        }
        let mut over = next.word - u64::from(quota.limit);
        let mut retry_us = quota.per_us;
        for (at, cost) in &self.admitted {
            retry_us = (at + quota.per_us).saturating_sub(now_us);
            over = over.saturating_sub(u64::from(*cost));
            if over == 0 {
                break;
            }
        }
        Verdict { admitted: false, next: self.state(quota), delay_us: 0, retry_us: retry_us.max(1) }
    }

    /// Enters what was admitted.
    pub fn take(&mut self, cost: u32, now_us: u64) {
        // Entries stay in order when the clock is set back.
        let at = self.admitted.back().map_or(now_us, |(last, _)| now_us.max(*last));
        match self.admitted.back_mut() {
            Some((last, sum)) if *last == at => *sum += cost,
            _ => self.admitted.push_back((at, cost)),
        }
        self.sum += u64::from(cost);
    }

    /// Takes out what has slid out of the window.
    fn forget(&mut self, quota: &Quota, now_us: u64) {
        while let Some((at, cost)) = self.admitted.front().copied() {
            let ahead = at > now_us + quota.per_us;
            if at + quota.per_us > now_us && !ahead {
                break;
            }
            self.admitted.pop_front();
            self.sum -= u64::from(cost);
        }
    }

    /// As the other algorithms have it, for what is left.
    pub(crate) fn state(&self, quota: &Quota) -> State {
        let until_us = self.admitted.back().map_or(0, |(at, _)| at + quota.per_us);
        State { until_us, word: self.sum }
    }
}
