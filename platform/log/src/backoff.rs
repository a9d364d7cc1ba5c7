//! When a failed event is tried again: a pure function, jittered by a seed that is drawn outside.

use kernel::ErrorKind;

/// Exponential backoff with jitter, and when to give up.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// The wait after the first failure, before jitter, in milliseconds.
    pub base_ms: u64,
    /// No wait is longer, in milliseconds.
    pub cap_ms: u64,
    /// After as many failed attempts the event is a dead letter.
    pub max_attempts: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { base_ms: 1_000, cap_ms: 300_000, max_attempts: 10 }
    }
}

/// An event that is refused as invalid is refused by the next attempts too, unless it waits for something that is on its way.
const MAX_ATTEMPTS_INVALID: u32 = 3;

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Again after so many milliseconds.
    RetryAfterMs(i64),
    /// Not again by itself.
    Dead,
}

impl Backoff {
    /// What follows the failed attempt number `attempts` (from 1). The wait is between half and all of
    /// `base * 2^(attempts - 1)`, capped; equal seeds give equal waits.
    pub(crate) fn after(&self, attempts: u32, kind: ErrorKind, seed: u64) -> Next {
        let most = if kind == ErrorKind::Invalid { self.max_attempts.min(MAX_ATTEMPTS_INVALID) } else { self.max_attempts };
        if attempts >= most {
            return Next::Dead;
        }
        Next::RetryAfterMs(self.wait_ms(attempts, seed))
    }

    /// The wait after the failed attempt number `attempts` (from 1), whether or not it was the last, in milliseconds.
    pub fn wait_ms(&self, attempts: u32, seed: u64) -> i64 {
        let doublings = attempts.saturating_sub(1).min(32);
        let whole = self.base_ms.saturating_mul(1 << doublings).min(self.cap_ms);
        let half = whole / 2;
        let jitter = ((u128::from(mix(seed)) * u128::from(whole - half + 1)) >> 64) as u64;
        i64::try_from(half + jitter).unwrap_or(i64::MAX)
    }
}

/// Spreads a seed over all 64 bits (the finaliser of SplitMix64), so that seeds that differ little give waits that differ much.
pub(crate) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn waits_double_up_to_the_cap_and_end_as_a_dead_letter() {
        let backoff = Backoff::default();
        // After attempt n: the wait is within these bounds, in milliseconds.
        let table = [(1, 500, 1_000), (2, 1_000, 2_000), (3, 2_000, 4_000), (8, 64_000, 128_000), (9, 128_000, 256_000)];
        for (attempts, least, most) in table {
            for seed in 0..200 {
                let Next::RetryAfterMs(wait) = backoff.after(attempts, ErrorKind::Internal, seed) else {
                    panic!("{attempts} is not the last")
                };
                assert!((least..=most).contains(&wait), "attempt {attempts} waits {wait} ms");
            }
        }
        let many = Backoff { max_attempts: 100, ..backoff };
        let Next::RetryAfterMs(wait) = many.after(99, ErrorKind::Internal, 1) else { panic!("99 is not the last") };
        assert!((150_000..=300_000).contains(&wait));
        let dead = [(10, ErrorKind::Internal), (11, ErrorKind::Internal), (3, ErrorKind::Invalid)];
        for (attempts, kind) in dead {
            assert_eq!(backoff.after(attempts, kind, 5), Next::Dead);
        }
        assert_ne!(backoff.after(2, ErrorKind::Invalid, 5), Next::Dead);
        assert_eq!(Backoff { max_attempts: 1, ..backoff }.after(1, ErrorKind::Internal, 5), Next::Dead);
    }

    proptest! {
        #[test]
        fn no_wait_is_out_of_bounds(base in 0_u64..10_000, cap in 0_u64..1_000_000, attempts in 1_u32..1_000, seed in any::<u64>()) {
            let backoff = Backoff { base_ms: base, cap_ms: cap, max_attempts: u32::MAX };
            match backoff.after(attempts, ErrorKind::Unavailable, seed) {
                Next::RetryAfterMs(wait) => prop_assert!(wait >= 0 && wait as u64 <= cap),
                Next::Dead => prop_assert!(false),
            }
        }
    }

    #[test]
    fn neighbouring_seeds_spread() {
        let waits: std::collections::HashSet<_> =
            (0..100).map(|seed| format!("{:?}", Backoff::default().after(5, ErrorKind::Internal, seed))).collect();
        assert!(waits.len() > 90);
    }
}
