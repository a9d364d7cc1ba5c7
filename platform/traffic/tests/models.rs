//! Each algorithm against a model that was written from its definition and nothing else: random arrivals on a simulated clock, with every
//! decision compared.

use brandos_traffic::{Algorithm, Limiter, LimiterConfig, Log, Quota, RuleFile, State, Subject, Take};
use kernel::{Clock as _, ManualClock, Rng as _, SeededRng, Timestamp};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// `BRANDOS_TEST_ARRIVALS=1000000` for the long form, best with `--release`.
fn how_many() -> usize {
    std::env::var("BRANDOS_TEST_ARRIVALS").ok().and_then(|number| number.parse().ok()).unwrap_or(60_000)
}

/// A token bucket as the books have it: a level that rises with time up to the burst. In units of which a token has `per`.
struct Bucket {
    level: u128,
    at: u64,
}

impl Bucket {
    fn admits(&mut self, quota: &Quota, cost: u32, now: u64) -> bool {
        let full = u128::from(quota.burst()) * u128::from(quota.per_us());
        self.level = (self.level + u128::from(now - self.at) * u128::from(quota.limit())).min(full);
        self.at = now;
        let price = u128::from(cost) * u128::from(quota.per_us());
        let admits = self.level >= price;
        if admits {
            self.level -= price;
        }
        admits
    }
}

/// A queue: when each that was admitted begins to be served, in units of a microsecond over the limit.
#[derive(Default)]
struct Queue {
    starts: VecDeque<u128>,
    free: u128,
}

impl Queue {
    /// The delay, rounded up, if there is room.
    fn admits(&mut self, quota: &Quota, cost: u32, now: u64) -> Option<u64> {
        let limit = u128::from(quota.limit());
        let now = u128::from(now) * limit;
        self.starts.retain(|start| *start > now);
        // Each waits for its turn; one that costs several takes several turns' time, but it is those turns that the room is counted in.
        let turns = self.free.saturating_sub(now).div_ceil(u128::from(quota.per_us()));
        if turns > u128::from(quota.burst()) {
            return None;
        }
        let start = self.free.max(now);
        self.starts.push_back(start);
        self.free = start + u128::from(cost) * u128::from(quota.per_us());
        Some(((start - now).div_ceil(limit)) as u64)
    }
}

/// Windows by their number.
#[derive(Default)]
struct Windows(BTreeMap<u64, u64>);

impl Windows {
    fn fixed(&mut self, quota: &Quota, cost: u32, now: u64) -> bool {
        let count = self.0.entry(now / quota.per_us()).or_default();
        let admits = *count + u64::from(cost) <= u64::from(quota.limit());
        if admits {
            *count += u64::from(cost);
        }
        admits
    }

    fn sliding(&mut self, quota: &Quota, cost: u32, now: u64) -> bool {
        let number = now / quota.per_us();
        let of = |number: u64| u128::from(self.0.get(&number).copied().unwrap_or(0));
        let before = if number == 0 { 0 } else { of(number - 1) };
        let share_left = u128::from(quota.per_us() - now % quota.per_us());
        let estimate = before * share_left + (of(number) + u128::from(cost)) * u128::from(quota.per_us());
        let admits = estimate <= u128::from(quota.limit()) * u128::from(quota.per_us());
        if admits {
            *self.0.entry(number).or_default() += u64::from(cost);
        }
        self.0.retain(|n, _| n + 2 > number);
        admits
    }
}

/// Everything that was admitted, and when.
#[derive(Default)]
struct History(Vec<(u64, u32)>);

impl History {
    fn in_window(&self, quota: &Quota, now: u64) -> u64 {
        self.0.iter().rev().take_while(|(at, _)| at + quota.per_us() > now).map(|(_, cost)| u64::from(*cost)).sum()
    }

    fn admits(&mut self, quota: &Quota, cost: u32, now: u64) -> bool {
        let admits = self.in_window(quota, now) + u64::from(cost) <= u64::from(quota.limit());
        if admits {
            self.0.push((now, cost));
        }
        admits
    }
}

/// Arrivals in bursts and lulls, around the quota's own rate; some at the very same moment.
struct Arrivals {
    rng: SeededRng,
    now: u64,
    mean: u64,
}

impl Arrivals {
    fn new(seed: u64, quota: &Quota) -> Arrivals {
        Arrivals { rng: SeededRng::new(seed), now: 1_700_000_000_000_000, mean: (quota.per_us() / u64::from(quota.limit())).max(1) }
    }

    fn next(&mut self, most: u32) -> (u64, u32) {
        self.now += match self.rng.below(20) {
            0..=3 => 0,
            4..=11 => self.rng.below(self.mean + 1),
            12..=18 => self.rng.below(2 * self.mean + 1),
            _ => self.rng.below(10 * self.mean + 1),
        };
        let cost = if self.rng.below(4) == 0 { 1 + self.rng.below(u64::from(most.min(5))) as u32 } else { 1 };
        (self.now, cost)
    }
}

fn quotas(algorithm: Algorithm) -> Vec<Quota> {
    // Limits that do and don't divide their windows; bursts below and above the limit.
    let figures =
        [(10, 1_000_000, 100), (7, 1_000_000, 7), (100, 60_000_000, 10), (97, 3_600_000_000, 3), (3, 1_000, 5), (1, 1_000_000, 1)];
    let short = [(10, 1_000_000, 5), (7, 1_000_000, 2), (100, 60_000_000, 10), (97, 1_000_000, 3), (3, 1_000, 5), (1, 1_000_000, 1)];
    let figures = if algorithm == Algorithm::LeakyBucket { short } else { figures };
    figures
        .into_iter()
        .map(|(limit, per_us, burst)| {
            let burst = if matches!(algorithm, Algorithm::TokenBucket | Algorithm::LeakyBucket) { burst } else { 0 };
            Quota::new(algorithm, limit, per_us, burst).expect("figures that can be meant")
        })
        .collect()
}

/// Runs the quotas against a model. The share that is admitted must be neither all nor nothing, or nothing would be shown.
fn compare(algorithm: Algorithm, mut model: impl FnMut(usize, &Quota, u32, u64) -> bool) {
    let quotas = quotas(algorithm);
    for (number, quota) in quotas.iter().enumerate() {
        let mut arrivals = Arrivals::new(number as u64, quota);
        let (mut state, mut log, mut admitted) = (State::default(), Log::default(), 0);
        let count = how_many() / quotas.len();
        for n in 0..count {
            let (now, cost) = arrivals.next(quota.most());
            let verdict = if algorithm == Algorithm::SlidingLog { log.decide(quota, cost, now) } else { quota.decide(state, cost, now) };
            assert_eq!(verdict.admitted, model(number, quota, cost, now), "arrival {n} of {quota:?}, cost {cost}, at {now}");
            if verdict.admitted {
                admitted += 1;
                state = verdict.next;
                log.take(cost, now);
                continue;
            }
            // What it says of when to come again holds to the microsecond.
            let then = now + verdict.retry_us;
            let decide = |log: &mut Log, at: u64| {
                if algorithm == Algorithm::SlidingLog { log.decide(quota, cost, at) } else { quota.decide(state, cost, at) }.admitted
            };
            let mut copy = log.clone();
            assert!(!decide(&mut copy, then - 1), "arrival {n} of {quota:?}: could have come earlier than {}", verdict.retry_us);
            assert!(decide(&mut copy, then), "arrival {n} of {quota:?}: not after {} either", verdict.retry_us);
        }
        assert!(admitted > count / 20 && admitted < count - count / 20, "{quota:?}: {admitted} of {count} tell too little");
    }
}

#[test]
fn token_bucket() {
    let mut buckets: Vec<Option<Bucket>> = (0..6).map(|_| None).collect();
    compare(Algorithm::TokenBucket, |number, quota, cost, now| {
        let full = u128::from(quota.burst()) * u128::from(quota.per_us());
        buckets[number].get_or_insert(Bucket { level: full, at: now }).admits(quota, cost, now)
    });
}

#[test]
fn leaky_bucket() {
    let quotas = quotas(Algorithm::LeakyBucket);
    for (number, quota) in quotas.iter().enumerate() {
        let mut arrivals = Arrivals::new(number as u64, quota);
        let (mut state, mut queue, mut waited) = (State::default(), Queue::default(), 0);
        for n in 0..how_many() / quotas.len() {
            let (now, cost) = arrivals.next(quota.most());
            let verdict = quota.decide(state, cost, now);
            let expected = queue.admits(quota, cost, now);
            assert_eq!(verdict.admitted.then_some(verdict.delay_us), expected, "arrival {n} of {quota:?} at {now}");
            waited += u32::from(expected.is_some_and(|delay| delay > 0));
            if verdict.admitted {
                state = verdict.next;
            }
        }
        assert!(waited > 500, "{quota:?}: {waited} waited");
    }
}

#[test]
fn fixed_window() {
    let mut windows: Vec<Windows> = (0..6).map(|_| Windows::default()).collect();
    compare(Algorithm::FixedWindow, |number, quota, cost, now| windows[number].fixed(quota, cost, now));
}

#[test]
fn sliding_log() {
    let mut histories: Vec<History> = (0..6).map(|_| History::default()).collect();
    compare(Algorithm::SlidingLog, |number, quota, cost, now| histories[number].admits(quota, cost, now));
}

/// The counter does what its definition says; and what it admits in any window is at most `limit` and what it took for slid out of the
/// window before: less than twice the limit at the worst, and a third above it with a steady overload.
#[test]
fn sliding_counter() {
    let mut windows: Vec<(Windows, History, u64)> = (0..6).map(|_| Default::default()).collect();
    compare(Algorithm::SlidingCounter, |number, quota, cost, now| {
        let (windows, history, most) = &mut windows[number];
        let admits = windows.sliding(quota, cost, now);
        if admits {
            history.0.push((now, cost));
            let real = history.in_window(quota, now);
            let number = now / quota.per_us();
            let elapsed = now % quota.per_us();
            let before: u64 = history
                .0
                .iter()
                .rev()
                .skip_while(|(at, _)| at / quota.per_us() == number)
                .take_while(|(at, _)| at / quota.per_us() + 1 == number)
                .map(|(_, cost)| u64::from(*cost))
                .sum();
            let error = (before * elapsed).div_ceil(quota.per_us());
            assert!(real <= u64::from(quota.limit()) + error, "{real} in a window of {quota:?}, error {error}");
            *most = (*most).max(real);
        }
        admits
    });
    assert!(windows.iter().any(|(_, _, most)| *most > 100), "a limit is reached");
    let quota = Quota::new(Algorithm::SlidingCounter, 100, 60_000_000, 0).expect("valid");
    let (mut state, mut history, mut worst) = (State::default(), History::default(), 0);
    for n in 0..100_000_u64 {
        let now = 1_700_000_000_000_000 + n * 300_000;
        let verdict = quota.decide(state, 1, now);
        if verdict.admitted {
            state = verdict.next;
            history.0.push((now, 1));
            worst = worst.max(history.in_window(&quota, now));
        }
    }
    assert!((100..=134).contains(&worst), "steady traffic at twice the limit: {worst} in the fullest window");
}

/// All rules or none: over the whole limiter, on many keys, against models that take only when everybody agrees.
#[test]
fn several_rules_decide_all_or_none() {
    let text = r#"
        [[rule]]
        name = "ip"
        key = ["ip"]
        algorithm = "token_bucket"
        limit = 4
        per = "1s"
        burst = 8
        [[rule]]
        name = "user"
        key = ["user"]
        algorithm = "fixed_window"
        limit = 600
        per = "1m"
        [[rule]]
        name = "tenant"
        key = ["tenant"]
        algorithm = "sliding_log"
        limit = 160
        per = "10s"
        [[rule]]
        name = "tried_out"
        key = []
        algorithm = "sliding_counter"
        limit = 1
        per = "1m"
        dry_run = true
    "#;
    let clock = Arc::new(ManualClock::new(Timestamp::from_micros(1_700_000_000_000_000)));
    let limiter = Limiter::new(RuleFile::parse("rules", text).expect("valid"), LimiterConfig::default(), clock.clone(), &SeededRng::new(5));
    let ip_quota = Quota::new(Algorithm::TokenBucket, 4, 1_000_000, 8).expect("valid");
    let user_quota = Quota::new(Algorithm::FixedWindow, 600, 60_000_000, 0).expect("valid");
    let tenant_quota = Quota::new(Algorithm::SlidingLog, 160, 10_000_000, 0).expect("valid");
    let (mut ips, mut users, mut tenants) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::<u64, History>::new());
    let rng = SeededRng::new(9);
    let mut refused_by = [0; 3];
    for n in 0..100_000 {
        clock.advance_ms(rng.below(12) as i64);
        let now = clock.now().micros() as u64;
        let (ip, user, tenant) = (rng.below(20), rng.below(8), rng.below(6));
        let full = 8 * 1_000_000;
        let bucket = ips.entry(ip).or_insert(Bucket { level: full, at: now });
        let window: &mut Windows = users.entry(user).or_default();
        let history = tenants.entry(tenant).or_default();
        // Each model is asked on a copy, and takes when all agree.
        let ask_ip = Bucket { level: bucket.level, at: bucket.at }.admits(&ip_quota, 1, now);
        let ask_user = Windows(window.0.clone()).fixed(&user_quota, 1, now);
        let ask_tenant = history.in_window(&tenant_quota, now) < 160;
        let admits = ask_ip && ask_user && ask_tenant;
        if admits {
            bucket.admits(&ip_quota, 1, now);
            window.fixed(&user_quota, 1, now);
            history.0.push((now, 1));
        }
        for (count, ask) in refused_by.iter_mut().zip([ask_ip, ask_user, ask_tenant]) {
            *count += u32::from(!ask);
        }
        let subject = Subject {
            ip: Some(std::net::Ipv4Addr::from_bits(0x0a00_0000 + ip as u32).into()),
            user: Some(user as i64),
            tenant: Some(kernel::TenantId::from_i64(1 + tenant as i64)),
            ..Subject::default()
        };
        let rules = limiter.rules();
        let decision = limiter.decide(&rules, &subject, Take::All);
        assert_eq!(decision.admitted(), admits, "request {n}: ip {ask_ip}, user {ask_user}, tenant {ask_tenant}; {decision:?}");
    }
    assert!(refused_by.iter().all(|count| *count > 100), "each rule refuses now and then: {refused_by:?}");
    assert_eq!(limiter.evictions(), 0);
}
