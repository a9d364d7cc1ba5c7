//! The state machines by tables, and whole policies on a clock that jumps.

use super::*;
use kernel::{Error, Result, SeededRng};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;
use tokio::time::Instant;

fn policies(text: &str) -> Policies {
    Policies::parse("policies.toml", text, Arc::new(SeededRng::new(4))).unwrap()
}

fn down() -> Error {
    Error::unavailable("test.down", "it is down")
}

#[test]
fn the_breaker_opens_tries_and_closes() {
    let breaker = Breaker::new(BreakerConfig { failures: 3, open_ms: 30_000, ..BreakerConfig::default() });
    let s = 1_000_000;
    let fail = |now: u64| breaker.leave(breaker.enter(now).unwrap(), false, now);
    assert!(!fail(s) && !fail(2 * s));
    let _ = breaker.leave(breaker.enter(2 * s).unwrap(), true, 2 * s);
    assert!(!fail(3 * s) && !fail(3 * s), "a success in between counts anew");
    let late = breaker.enter(3 * s).unwrap();
    assert!(fail(3 * s));
    assert_eq!(breaker.state(), BreakerState::Open);
    assert_eq!(breaker.enter(4 * s), Err(29 * s));
    assert!(!breaker.leave(late, true, 5 * s), "an answer from before changes nothing");
    assert_eq!(breaker.state(), BreakerState::Open);
    let probe = breaker.enter(33 * s).unwrap();
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    assert!(breaker.enter(33 * s).is_err(), "one tries at a time");
    assert!(breaker.leave(probe, false, 34 * s));
    assert_eq!(breaker.enter(35 * s), Err(29 * s), "open again for its whole time");
    let given_up = breaker.enter(64 * s).unwrap();
    breaker.forget(given_up);
    let probe = breaker.enter(64 * s).unwrap();
    assert!(breaker.leave(probe, true, 64 * s));
    assert_eq!(breaker.state(), BreakerState::Closed);
    assert!(!fail(65 * s) && !fail(65 * s), "closed, it counts from nothing");
    assert!(fail(65 * s));
    assert_eq!(breaker.enter(s), Err(30 * s), "a clock that was set back makes it no longer");
}

#[test]
fn the_breaker_opens_by_rate_over_its_window() {
    let config = BreakerConfig { failures: 1_000, failure_percent: 50, least_calls: 10, window_ms: 10_000, ..BreakerConfig::default() };
    let run = |gap_us: u64, calls: u32, fails: fn(u32) -> bool| {
        let breaker = Breaker::new(config);
        for n in 0..calls {
            let now = 1_000_000_000 + u64::from(n) * gap_us;
            let Ok(pass) = breaker.enter(now) else { return Some(n) };
            let _ = breaker.leave(pass, !fails(n), now);
        }
        None
    };
    assert_eq!(run(1_000, 1_000, |n| n % 2 == 1), Some(10), "half of ten");
    assert_eq!(run(1_000, 1_000, |n| n % 3 == 1), None, "a third is below half");
    assert_eq!(run(1_200_000, 1_000, |_| true), None, "never ten calls in ten seconds");
}

#[test]
fn pauses_double_are_random_and_have_a_cap() {
    let config = PolicyConfig::default();
    for (number, random, pause_us) in [
        (2, u64::MAX, 1_000_000),
        (3, u64::MAX, 2_000_000),
        (4, u64::MAX, 4_000_000),
        (7, u64::MAX, 10_000_000),
        (63, u64::MAX, 10_000_000),
        (2, 0, 0),
        (2, 1 << 63, 500_000),
    ] {
        assert_eq!(backoff_us(&config, number, random), pause_us, "{number} {random}");
    }
}

#[test]
fn retries_are_a_share_of_the_calls() {
    let budget = Budget::new(10, 5);
    assert_eq!((0..100).filter(|_| budget.spend()).count(), 5);
    for _ in 0..9 {
        budget.earn();
    }
    assert!(!budget.spend());
    budget.earn();
    assert!(budget.spend() && !budget.spend());
    (0..10_000).for_each(|_| budget.earn());
    assert_eq!((0..100).filter(|_| budget.spend()).count(), 5, "what is not used is not saved up");
}

#[test]
fn what_matters_least_goes_first() {
    let shedder = Shedder::new(100);
    let enter = |priority, most: usize| (0..most).map_while(|_| shedder.enter(priority)).collect::<Vec<_>>();
    let background = enter(Priority::Background, 200);
    let low = enter(Priority::Low, 200);
    let normal = enter(Priority::Normal, 200);
    let critical = enter(Priority::Critical, 200);
    assert_eq!([background.len(), low.len(), normal.len(), critical.len()], [50, 25, 15, 10]);
    assert_eq!(shedder.used(), 100);
    drop(critical);
    assert!(shedder.enter(Priority::Normal).is_none() && shedder.enter(Priority::Critical).is_some());
    drop((background, low, normal));
    assert_eq!((shedder.used(), shedder.shed(Priority::Normal)), (0, 2));
    assert!(Shedder::new(1).enter(Priority::Background).is_some());
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_tried_again_and_what_may_not_is_not() {
    let policies = policies("");
    let tried = AtomicU32::new(0);
    let answer = |fails: u32, error: fn() -> Error| {
        tried.store(0, SeqCst);
        let tried = &tried;
        move |number| async move {
            assert_eq!(tried.fetch_add(1, SeqCst) + 1, number);
            if number <= fails { Err(error()) } else { Ok(number) }
        }
    };
    assert_eq!(policies.of("a").call(answer(2, down)).await.unwrap(), 3);
    assert_eq!(policies.of("b").call(answer(9, down)).await.unwrap_err().code(), "test.down");
    assert_eq!(tried.load(SeqCst), 3);
    let missing = || Error::not_found("test.missing", "there is none");
    for _ in 0..100 {
        assert_eq!(policies.of("c").call(answer(9, missing)).await.unwrap_err().code(), "test.missing");
        assert_eq!(tried.load(SeqCst), 1, "an answer is an answer");
    }
    assert_eq!(policies.of("c").breaker(), BreakerState::Closed, "and says that it is up");
    // What may have happened is not done again, unless it can be.
    let open = || Error::unknown("test.unknown", "who knows");
    assert!(policies.of("d").call_once(answer(1, open)).await.is_err());
    assert_eq!(policies.of("d").call_once(answer(1, down)).await.unwrap(), 2);
    assert_eq!(policies.of("d").call(answer(1, open)).await.unwrap(), 2);
    let text = policies.of("e").call_or(answer(9, down), |why| Ok(why.code().len() as u32)).await.unwrap();
    assert_eq!(text, 9);
    assert_eq!(policies.of("f").call_or(answer(9, missing), |_| Ok(0)).await.unwrap_err().code(), "test.missing");
}

#[tokio::test(start_paused = true)]
async fn a_budget_ends_the_retries_of_a_dependency_that_is_down() {
    let policies =
        policies("[dependency.a]\nretry_reserve = 3\nretry_percent = 10\nbreaker = { failures = 1000000, least_calls = 1000000 }\n");
    let tried = AtomicU32::new(0);
    for _ in 0..1_000 {
        let _ = policies
            .of("a")
            .call(|_| async {
                tried.fetch_add(1, SeqCst);
                Err::<(), _>(down())
            })
            .await;
    }
    let tried = tried.load(SeqCst);
    assert!((1_090..=1_110).contains(&tried), "{tried} attempts for 1,000 calls: a tenth, and the reserve");
}

/// A provider that hangs takes no more than its seats, holds callers no longer than their patience, and trips the breaker; when it heals,
/// traffic is back within one probe interval.
#[tokio::test(start_paused = true)]
async fn a_provider_that_hangs_and_heals() {
    let policies = Arc::new(policies(
        "[dependency.slow]\nbulkhead = 10\nattempts = 1\ntimeout_ms = 2000\nbreaker = { failures = 5, open_ms = 30000 }\n",
    ));
    let (inside, most, healthy) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let call = {
        let (inside, most, healthy) = (inside.clone(), most.clone(), healthy.clone());
        move |policy: Arc<Policy>| {
            let (inside, most, healthy) = (inside.clone(), most.clone(), healthy.clone());
            async move {
                let attempt = |_| {
                    let (inside, most, healthy) = (inside.clone(), most.clone(), healthy.clone());
                    async move {
                        struct Leave(Arc<AtomicU32>);
                        impl Drop for Leave {
                            fn drop(&mut self) {
                                self.0.fetch_sub(1, SeqCst);
                            }
                        }
                        most.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
                        let _leave = Leave(inside);
                        if healthy.load(SeqCst) == 0 {
                            std::future::pending::<()>().await;
                        }
                        Ok::<_, Error>(())
                    }
                };
                policy.call(attempt).await
            }
        }
    };
    let begun = Instant::now();
    let callers: Vec<_> = (0..1_000).map(|_| tokio::spawn(call(policies.of("slow")))).collect();
    let mut codes = std::collections::BTreeMap::<&str, u32>::new();
    for caller in callers {
        *codes.entry(caller.await.unwrap().unwrap_err().code()).or_default() += 1;
    }
    assert_eq!(most.load(SeqCst), 10, "no more than its seats");
    assert_eq!(codes, [("dependency.busy", 990), ("dependency.timeout", 10)].into());
    assert!(begun.elapsed() <= Duration::from_millis(2_010));
    assert_eq!(policies.of("slow").breaker(), BreakerState::Open);
    let begun = Instant::now();
    assert_eq!(call(policies.of("slow")).await.unwrap_err().code(), "dependency.open");
    assert_eq!(begun.elapsed(), Duration::ZERO, "nobody waits for what is known to be down");
    healthy.store(1, SeqCst);
    tokio::time::sleep(Duration::from_millis(30_001)).await;
    for _ in 0..100 {
        call(policies.of("slow")).await.unwrap();
    }
    assert_eq!(policies.of("slow").breaker(), BreakerState::Closed);
    assert_eq!(inside.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_travels_and_is_kept() {
    let policies = policies("");
    let begun = Instant::now();
    let late: Result<()> = Deadline::within(Duration::from_millis(300))
        .scope(async {
            // A longer one inside does not lengthen it.
            let inner = async { policies.of("a").call(|_| std::future::pending()).await };
            Deadline::within(Duration::from_secs(60)).scope(inner).await
        })
        .await;
    assert_eq!(late.unwrap_err().code(), "dependency.timeout");
    assert!((300..=302).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    for _ in 0..20 {
        let hurried: Result<()> = Deadline::within(Duration::from_millis(1)).scope(policies.of("a").call(|_| std::future::pending())).await;
        assert!(hurried.is_err());
    }
    assert_eq!(policies.of("a").breaker(), BreakerState::Closed, "that callers are in a hurry says nothing of the dependency");
    let over = Deadline::within(Duration::ZERO).scope(policies.of("a").call(|_| async { Ok(()) })).await;
    assert_eq!(over.unwrap_err().code(), "dependency.too_late");
    assert_eq!(Deadline::current(), None);
}

#[test]
fn policies_are_read_from_toml() {
    let policies = policies("[default]\ntimeout_ms = 700\n[dependency.mail]\nattempts = 7\nbreaker = { failures = 2 }\n");
    let (other, mail) = (policies.of("other"), policies.of("mail"));
    assert_eq!((other.config().timeout_ms, other.config().attempts, other.config().breaker.failures), (700, 3, 5));
    assert_eq!((mail.config().timeout_ms, mail.config().attempts, mail.config().breaker.failures), (700, 7, 2));
    assert_eq!(mail.config().breaker.open_ms, 30_000);
    // What is said of one is laid over what is usual for it.
    let usual = PolicyConfig { attempts: 1, bulkhead: 9, ..PolicyConfig::default() };
    let bank = policies.of_kind("mail", "mail", usual);
    assert_eq!(bank.config().attempts, 7, "the same for all who ask");
    let policies = self::policies("[default]\ntimeout_ms = 700\n[dependency.bank]\nbulkhead = 2\nbreaker = { failures = 2 }\n");
    let usual = PolicyConfig { breaker: BreakerConfig { open_ms: 1, ..usual.breaker }, ..usual };
    for name in ["bank", "bank.one"] {
        let bank = *policies.of_kind(name, "bank", usual).config();
        assert_eq!(bank, PolicyConfig { bulkhead: 2, breaker: BreakerConfig { failures: 2, ..usual.breaker }, ..usual });
    }
    let text = include_str!("../../../../docs/traffic.md");
    let example = text
        .split("```toml\n")
        .find(|block| block.contains("[dependency.\"payments.api.stripe.com\"]"))
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let stripe = Policies::parse("docs/traffic.md", example, Arc::new(SeededRng::new(1))).unwrap().of("payments.api.stripe.com");
    assert_eq!((stripe.config().timeout_ms, stripe.config().attempts, stripe.config().breaker.open_ms), (3_000, 4, 15_000));
    for (text, line, words) in [
        ("[default]\ntimeout = 5\n", 2, "unknown field `timeout`"),
        ("[default]\ntimeout_ms = 0\n", 1, "above 0"),
        ("\n[dependency.a]\nattempts = 0\n", 2, "above 0"),
        ("\n[dependency.a]\nbreaker = { open = 3 }\n", 2, "unknown field `open`"),
        ("[dependency.a]\nbreaker = { failure_percent = 101 }\n", 1, "from 1 to 100"),
        ("[dependencies.a]\n", 1, "unknown field `dependencies`"),
    ] {
        let error = Policies::parse("p.toml", text, Arc::new(SeededRng::new(1))).map(|_| ()).unwrap_err();
        assert_eq!(error.code(), "dependency.invalid_policy");
        assert!(error.detail().starts_with(&format!("p.toml:{line}: ")) && error.detail().contains(words), "{error}");
    }
}
