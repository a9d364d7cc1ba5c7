//! Ids: the text form, the order, and the generator under threads and a clock that steps back.

use crate::{Entity, Id, IdGenerator, ManualClock, SystemClock, Timestamp};
use proptest::prelude::*;
use std::collections::HashSet;
use std::sync::{Arc, Mutex};

enum Order {}

impl Entity for Order {
    const PREFIX: &'static str = "ord";
}

/// 2026-01-01T00:00:00Z.
const NEW_YEAR_MS: i64 = 1_767_225_600_000;

fn at(unix_ms: i64) -> Timestamp {
    Timestamp::from_micros(unix_ms * 1000)
}

#[test]
fn text_forms() {
    for (number, text) in [(1, "ord_00000000001"), (61, "ord_0000000000z"), (62, "ord_00000000010"), (i64::MAX, "ord_AzL8n0Y58m7")] {
        let id = Id::<Order>::from_i64(number);
        assert_eq!(id.to_string(), text);
        assert_eq!(text.parse::<Id<Order>>().ok(), Some(id));
    }
}

#[test]
fn what_is_no_id_is_refused() {
    for text in [
        "",
        "ord",
        "ord_",
        "00000000001",
        "ORD_00000000001",
        "cus_00000000001",
        "ord00000000001",
        "ord_0000000001",
        "ord_000000000001",
        "ord_0000000000-",
        "ord_0000000000é",
        "ord_ 0000000001",
        // Not positive, and just over 63 and 64 bits.
        "ord_00000000000",
        "ord_AzL8n0Y58m8",
        "ord_LygHa16AHYF",
        "ord_LygHa16AHYG",
        "ord_zzzzzzzzzzz",
    ] {
        let error = text.parse::<Id<Order>>().expect_err(text);
        assert_eq!(error.code(), "request.invalid_id", "{text}");
    }
}

proptest! {
    #[test]
    fn text_comes_back(number in 1..=i64::MAX) {
        let id = Id::<Order>::from_i64(number);
        prop_assert_eq!(id.to_string().parse::<Id<Order>>().ok(), Some(id));
        let json = serde_json::to_string(&id).expect("an id serialises");
        prop_assert_eq!(serde_json::from_str::<Id<Order>>(&json).ok(), Some(id));
    }

    #[test]
    fn text_sorts_as_numbers_do(a in 1..=i64::MAX, b in 1..=i64::MAX) {
        let (a, b) = (Id::<Order>::from_i64(a), Id::<Order>::from_i64(b));
        prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
    }

    #[test]
    fn no_text_panics(text in "(ord_)?\\PC{0,16}") {
        let _ = text.parse::<Id<Order>>();
    }

    #[test]
    fn an_id_lies_in_its_millisecond(since_new_year_ms in 0..1_000_000_000_000_i64, node in 0..1024_u16) {
        let unix_ms = NEW_YEAR_MS + since_new_year_ms;
        let id = IdGenerator::new(Arc::new(ManualClock::new(at(unix_ms))), node).next::<Order>();
        prop_assert_eq!(id.unix_ms(), unix_ms);
        prop_assert!(Id::first_at(unix_ms) <= id && id < Id::first_at(unix_ms + 1));
    }

    /// The clock jumps as it likes, back too; ids rise all the same, and stay positive.
    #[test]
    fn ids_rise_whatever_the_clock_does(jumps in prop::collection::vec(-10_000_i64..10_000, 1..50), node in 0..1024_u16) {
        let clock = Arc::new(ManualClock::new(at(NEW_YEAR_MS)));
        let ids = IdGenerator::new(clock.clone(), node);
        let mut last = Id::<Order>::from_i64(0);
        for jump in jumps {
            clock.advance_ms(jump);
            for _ in 0..3 {
                let next = ids.next::<Order>();
                prop_assert!(next > last, "{next:?} after {last:?}");
                last = next;
            }
        }
    }
}

#[test]
fn a_clock_before_2020_still_gives_positive_ids_that_rise() {
    let ids = IdGenerator::new(Arc::new(ManualClock::new(at(-5))), 0);
    let (first, second) = (ids.next::<Order>(), ids.next::<Order>());
    assert!(first.as_i64() > 0 && second > first);
}

#[test]
fn a_full_millisecond_runs_over_into_the_next() {
    let ids = IdGenerator::new(Arc::new(ManualClock::new(at(NEW_YEAR_MS))), 1023);
    let made: Vec<Id<Order>> = (0..10_000).map(|_| ids.next()).collect();
    assert!(made.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(made[4095].unix_ms(), NEW_YEAR_MS);
    assert_eq!(made[4096].unix_ms(), NEW_YEAR_MS + 1);
}

#[test]
fn nodes_never_meet() {
    let clock = Arc::new(ManualClock::new(at(NEW_YEAR_MS)));
    let mut seen = HashSet::new();
    for node in [0, 1, 2, 511, 1023] {
        let ids = IdGenerator::new(clock.clone(), node);
        assert!((0..5000).all(|_| seen.insert(ids.next::<Order>().as_i64())));
    }
}

#[test]
fn ids_rise_across_threads() {
    const THREADS: usize = 8;
    const EACH: usize = 20_000;
    let ids = IdGenerator::new(Arc::new(SystemClock), 7);
    // Whoever holds the lock comes after whoever held it before, so its id is the greater one.
    let last = Mutex::new(Id::<Order>::from_i64(0));
    let made: Vec<Vec<Id<Order>>> = std::thread::scope(|scope| {
        let make = || {
            let mut made = Vec::with_capacity(EACH);
            for turn in 0..EACH {
                if turn % 16 == 0 {
                    let mut last = last.lock().expect("no thread panicked");
                    let next = ids.next();
                    assert!(next > *last);
                    *last = next;
                    made.push(next);
                } else {
                    made.push(ids.next());
                }
            }
            made
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(make)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no thread panicked")).collect()
    });
    assert!(made.iter().all(|ids| ids.windows(2).all(|pair| pair[0] < pair[1])));
    let unique: HashSet<i64> = made.iter().flatten().map(|id| id.as_i64()).collect();
    assert_eq!(unique.len(), THREADS * EACH);
}
