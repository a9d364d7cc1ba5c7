//! Times as text, the manual clock, and repeatable randomness.

use crate::{Clock as _, ManualClock, Rng as _, SeededRng, SystemRng, Timestamp};
use proptest::prelude::*;

#[test]
fn times_as_text() {
    for (text, micros, shown) in [
        ("1970-01-01T00:00:00Z", 0, "1970-01-01T00:00:00.000000Z"),
        ("2010-12-01T08:26:00Z", 1_291_191_960_000_000, "2010-12-01T08:26:00.000000Z"),
        ("2026-01-31T12:00:00.25+01:00", 1_769_857_200_250_000, "2026-01-31T11:00:00.250000Z"),
        ("1969-12-31T23:59:59.999999Z", -1, "1969-12-31T23:59:59.999999Z"),
    ] {
        let time: Timestamp = text.parse().expect("a time");
        assert_eq!(time.micros(), micros, "{text}");
        assert_eq!(time.to_string(), shown);
    }
    for text in ["", "now", "2026-01-31", "2026-01-31T12:00:00", "2026-02-30T12:00:00Z", "12:00", "1767225600"] {
        assert_eq!(text.parse::<Timestamp>().expect_err(text).code(), "request.invalid_time", "{text}");
    }
}

#[test]
fn days_and_seconds_round_down_before_1970_too() {
    for (micros, ms, seconds, day) in [
        (0, 0, 0, 0),
        (-1, -1, -1, -1),
        (86_400_000_000, 86_400_000, 86_400, 1),
        (86_399_999_999, 86_399_999, 86_399, 0),
        (-86_400_000_001, -86_400_001, -86_401, -2),
    ] {
        let time = Timestamp::from_micros(micros);
        assert_eq!((time.unix_ms(), time.unix_seconds(), time.day()), (ms, seconds, day));
    }
}

proptest! {
    #[test]
    fn time_text_comes_back(micros in -62_135_596_800_000_000..253_402_300_799_000_000_i64) {
        let time = Timestamp::from_micros(micros);
        prop_assert_eq!(time.to_string().parse::<Timestamp>().ok(), Some(time));
    }

    #[test]
    fn time_text_sorts_as_time_does(a in 0..253_402_300_799_000_000_i64, b in 0..253_402_300_799_000_000_i64) {
        let (a, b) = (Timestamp::from_micros(a), Timestamp::from_micros(b));
        prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
    }

    #[test]
    fn no_time_panics(a: i64, b: i64) {
        let (a, later) = (Timestamp::from_micros(a), Timestamp::from_micros(a).plus_ms(b));
        let _ = (a.to_string(), later.ms_since(a), a.day());
        prop_assert_eq!(Timestamp::from_micros(i64::MIN).ms_since(Timestamp::from_micros(i64::MAX)), i64::MIN / 1000);
    }

    #[test]
    fn a_draw_is_below_its_bound(seed: u64, bound in 1..u64::MAX) {
        prop_assert!(SeededRng::new(seed).below(bound) < bound);
        prop_assert!(SystemRng::new().below(bound) < bound);
    }
}

#[test]
fn a_manual_clock_stands_until_it_is_moved() {
    let clock = ManualClock::new(Timestamp::from_micros(5));
    assert_eq!(clock.now().micros(), 5);
    clock.advance_ms(2);
    assert_eq!(clock.now().micros(), 2005);
    clock.advance_ms(-1);
    assert_eq!(clock.now().micros(), 1005);
}

#[test]
fn the_same_seed_gives_the_same_draws_spread_evenly() {
    let draws = |seed| {
        let rng = SeededRng::new(seed);
        (0..6000).map(|_| rng.below(6)).collect::<Vec<_>>()
    };
    assert_eq!(draws(1), draws(1));
    assert_ne!(draws(1), draws(2));
    for face in 0..6 {
        let number = draws(1).iter().filter(|draw| **draw == face).count();
        assert!((800..1200).contains(&number), "{face} came {number} times");
    }
}
