//! The limiter as a whole: changes of rules, floods of keys, clocks that are set back, who is shown, threads.

use super::*;
use kernel::{ManualClock, SeededRng, TenantId};

const NOW: i64 = 1_700_000_040_000_000;

fn rule(name: &str, key: &str, algorithm: &str, limit: u32, per: &str, more: &str) -> String {
    format!("[[rule]]\nname = \"{name}\"\nkey = [{key}]\nalgorithm = \"{algorithm}\"\nlimit = {limit}\nper = \"{per}\"\n{more}\n")
}

fn file(text: &str) -> RuleFile {
    RuleFile::parse("rules", text).unwrap()
}

fn limiter(text: &str, config: LimiterConfig) -> (Arc<Limiter>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(Timestamp::from_micros(NOW)));
    (Arc::new(Limiter::new(file(text), config, clock.clone(), &SeededRng::new(1))), clock)
}

fn from_ip(n: u32) -> Subject<'static> {
    Subject { ip: Some(std::net::Ipv4Addr::from_bits(n).into()), ..Subject::default() }
}

/// How many of these pass now.
fn passing(limiter: &Limiter, subject: &Subject<'_>, most: u32) -> u32 {
    (0..most).filter(|_| limiter.check(subject).admitted()).count() as u32
}

#[test]
fn a_refusal_says_how_much_is_left_and_when_to_come_again() {
    let (limiter, clock) = limiter(&rule("ip", "\"ip\"", "token_bucket", 10, "1s", "burst = 5"), LimiterConfig::default());
    let rules = limiter.rules();
    let decision = limiter.decide(&rules, &from_ip(1), Take::All);
    let level = decision.tightest().unwrap();
    assert_eq!((limiter.rules().name(level.rule), decision.left(level)), ("ip", (4, 100_000)));
    assert_eq!(level.quota.allowance(), (5, 500_000));
    assert_eq!(passing(&limiter, &from_ip(1), 10), 4);
    let rules = limiter.rules();
    let decision = limiter.decide(&rules, &from_ip(1), Take::All);
    assert_eq!(decision.outcome, Outcome::Limited { rule: 0, retry_us: 100_000 });
    assert_eq!(decision.left(decision.tightest().unwrap()), (0, 500_000));
    assert_eq!(passing(&limiter, &from_ip(2), 10), 5, "another address has its own");
    clock.advance_ms(100);
    assert_eq!(passing(&limiter, &from_ip(1), 10), 1);
    let limited = limiter.limited();
    assert_eq!((limited.len(), &*limited[0].key, &*limited[0].rule), (2, "ip=0.0.0.1", "ip"));
    assert_eq!(limited[0].refused, 6 + 1 + 9);
}

#[test]
fn nobody_known_meets_only_the_rules_that_need_nobody() {
    let text = rule("ip", "\"ip\"", "fixed_window", 3, "1m", "") + &rule("user", "\"user\"", "fixed_window", 1, "1m", "");
    let (limiter, _) = limiter(&text, LimiterConfig::default());
    let rules = limiter.rules();
    let user = Subject { user: Some(7), ..from_ip(1) };
    for _ in 0..5 {
        assert!(limiter.decide(&rules, &user, Take::Peek).admitted(), "a look takes nothing");
    }
    assert!(limiter.decide(&rules, &user, Take::All).admitted());
    assert!(!limiter.decide(&rules, &user, Take::All).admitted());
    assert!(limiter.decide(&rules, &user, Take::Anonymous).admitted());
    assert!(limiter.decide(&rules, &user, Take::Anonymous).admitted());
    assert!(!limiter.decide(&rules, &user, Take::Peek).admitted(), "the address has used up its three");
}

#[test]
fn tenants_may_have_limits_of_their_own() {
    let more =
        "[[rule.override]]\ntenant = \"ten_00000000002\"\nlimit = 5\n[[rule.override]]\ntenant = \"ten_00000000003\"\nunlimited = true";
    let (limiter, _) = limiter(&rule("tenant", "\"tenant\"", "fixed_window", 2, "1m", more), LimiterConfig::default());
    let of = |number| Subject { tenant: Some(TenantId::from_i64(number)), ..Subject::default() };
    assert_eq!([1, 2, 3].map(|number| passing(&limiter, &of(number), 100)), [2, 5, 100]);
}

#[test]
fn costs_multiply() {
    let (limiter, _) = limiter(&rule("a", "", "token_bucket", 10, "1h", "cost = 2"), LimiterConfig::default());
    assert_eq!(passing(&limiter, &Subject { cost: 2, ..Subject::default() }, 10), 2);
    assert_eq!(passing(&limiter, &Subject { cost: 1, ..Subject::default() }, 10), 1);
}

#[test]
fn another_programs_limits_are_its_own() {
    let matches = "match = { service = \"checkout\" }";
    let text = rule("web", "\"tenant\"", "fixed_window", 1, "1h", "") + &rule("checkout", "\"name\"", "fixed_window", 2, "1h", matches);
    let (limiter, _) = limiter(&text, LimiterConfig::default());
    let of = |tenant, name| Subject {
        service: Some("checkout"),
        name: Some(name),
        tenant: Some(TenantId::from_i64(tenant)),
        ..Subject::default()
    };
    assert_eq!(passing(&limiter, &of(1, "a"), 9), 2);
    assert_eq!(passing(&limiter, &of(2, "a"), 9), 2, "what one tenant counts is nothing to another");
    assert_eq!(passing(&limiter, &Subject { service: None, ..of(1, "a") }, 9), 1);
}

#[test]
fn a_changed_limit_keeps_the_share_that_is_left() {
    for (algorithm, after_raise, after_cut) in [("token_bucket", 100, 25), ("fixed_window", 100, 25), ("sliding_counter", 100, 25)] {
        let of = |limit| rule("a", "\"ip\"", algorithm, limit, "1h", "");
        let (limiter, clock) = limiter(&of(100), LimiterConfig::default());
        for n in [1, 2] {
            assert_eq!(passing(&limiter, &from_ip(n), 50), 50);
        }
        // Half of 200, then a quarter of a hundred after half is gone again.
        limiter.replace(file(&of(200)));
        assert_eq!(passing(&limiter, &from_ip(1), 1_000), after_raise, "{algorithm}");
        limiter.replace(file(&of(50)));
        assert_eq!(passing(&limiter, &from_ip(2), 1_000), after_cut, "{algorithm}, over two changes");
        assert_eq!(passing(&limiter, &from_ip(1), 1_000), 0, "{algorithm}");
        limiter.replace(file(&of(50)));
        assert_eq!(passing(&limiter, &from_ip(1), 1_000), 0, "{algorithm}: the same rules again change nothing");
        clock.advance_ms(2 * 3_600_000);
        assert_eq!(passing(&limiter, &from_ip(1), 1_000), 50, "{algorithm}");
    }
    // Another way of counting keeps the share too; a rule that went and came back begins anew.
    let (limiter, _) = limiter(&rule("a", "\"ip\"", "fixed_window", 100, "1h", ""), LimiterConfig::default());
    assert_eq!(passing(&limiter, &from_ip(1), 25), 25);
    limiter.replace(file(&rule("a", "\"ip\"", "token_bucket", 200, "1m", "")));
    assert_eq!(passing(&limiter, &from_ip(1), 1_000), 150);
    limiter.replace(file(""));
    assert_eq!(passing(&limiter, &from_ip(1), 1_000), 1_000);
}

#[test]
fn a_clock_set_back_locks_nobody_out_for_longer_than_a_window() {
    for algorithm in ["token_bucket", "fixed_window", "sliding_counter", "sliding_log"] {
        let (limiter, clock) = limiter(&rule("a", "\"ip\"", algorithm, 10, "1m", ""), LimiterConfig::default());
        assert_eq!(passing(&limiter, &from_ip(1), 100), 10);
        clock.advance_ms(-86_400_000);
        let at_once = passing(&limiter, &from_ip(1), 100);
        assert_eq!(at_once, if algorithm == "sliding_log" { 10 } else { 0 }, "{algorithm}: a log's moments mean nothing any more");
        clock.advance_ms(120_000);
        assert_eq!(passing(&limiter, &from_ip(1), 100), 10, "{algorithm}");
    }
}

/// Ten times as many hostile keys as there is room for, over and over: a key at its limit stays at its limit, and memory does not grow.
/// `BRANDOS_TEST_FLOOD=100000000` for as many keys of each algorithm, best with `--release`.
#[test]
fn a_flood_of_keys_resets_nobodys_limit() {
    let flood = std::env::var("BRANDOS_TEST_FLOOD").ok().and_then(|number| number.parse().ok()).unwrap_or(50_000);
    for algorithm in ["token_bucket", "fixed_window", "sliding_counter"] {
        let config = LimiterConfig { keys: 4_998, log_keys: 64 };
        let (limiter, _) = limiter(&rule("a", "\"ip\"", algorithm, 20, "1h", ""), config);
        // A fifth of the places, so that many sets have nothing else.
        let guilty: Vec<u32> = (1..=1_000).collect();
        for n in &guilty {
            assert_eq!(passing(&limiter, &from_ip(*n), 30), 20, "{algorithm} {n}");
        }
        for n in 0..flood {
            limiter.check(&from_ip(1_000_000 + n));
        }
        let escaped: u32 = guilty.iter().map(|n| passing(&limiter, &from_ip(*n), 30)).sum();
        assert_eq!(escaped, 0, "{algorithm}");
        assert_eq!(limiter.without_room(), 0, "{algorithm}: nobody was refused for want of room");
        assert!(limiter.evictions() > u64::from(flood) * 4 / 5, "{algorithm}: there was a flood");
        assert!(limiter.live_keys() <= MOST_LIVE, "{algorithm}");
        assert!(limiter.limited().len() <= LIMITED_KEYS);
    }
}

#[test]
fn keys_that_their_set_has_no_place_for_are_counted_as_exactly() {
    let config = LimiterConfig { keys: 3, log_keys: 1 };
    let (limiter, clock) = limiter(&rule("a", "\"ip\"", "token_bucket", 20, "1h", ""), config);
    let pass = |limiter: &Limiter| (1..=20).map(|n| passing(limiter, &from_ip(n), 30)).collect::<Vec<_>>();
    assert_eq!(pass(&limiter), [20; 20]);
    assert_eq!((pass(&limiter), limiter.live_keys()), (vec![0; 20], 20));
    clock.advance_ms(30 * 60_000);
    assert_eq!(pass(&limiter), [10; 20]);
    clock.advance_ms(45 * 60_000);
    assert_eq!(pass(&limiter), [15; 20]);
    // One goes on while the others' time ends: it is back in the set, as it was.
    clock.advance_ms(30 * 60_000);
    assert_eq!(passing(&limiter, &from_ip(7), 30), 10);
    clock.advance_ms(31 * 60_000);
    assert_eq!(limiter.live_keys(), 1);
    assert_eq!(passing(&limiter, &from_ip(7), 30), 10);
    assert_eq!((passing(&limiter, &from_ip(7), 30), limiter.live_keys()), (0, 1));
    assert_eq!((limiter.evictions(), limiter.without_room()), (0, 0));
}

/// Places of 4,998 keys, and the rooms of their 1,666 sets.
const MOST_LIVE: u64 = 4_998 + 7 * 96;

/// Each of the hostile keys uses more than half of its quota. What passes is bounded by the memory, whoever asks: when that is full, another
/// key is refused where the rule is closed, and no key that was at its limit passes. When their time is over everything is as before.
#[test]
fn when_the_memory_is_full_new_keys_are_refused_and_old_ones_stay_limited() {
    for algorithm in ["token_bucket", "fixed_window", "sliding_counter"] {
        let config = LimiterConfig { keys: 4_998, log_keys: 64 };
        let (limiter, clock) = limiter(&rule("a", "\"ip\"", algorithm, 20, "1h", "when_away = \"closed\""), config);
        let guilty: Vec<u32> = (1..=100).collect();
        for n in &guilty {
            assert_eq!(passing(&limiter, &from_ip(*n), 20), 20);
        }
        let passed: u32 = (0..10_000).map(|n| passing(&limiter, &from_ip(1_000_000 + n), 15)).sum();
        assert!(u64::from(passed) <= MOST_LIVE * 15, "{algorithm}: {passed}");
        assert!(u64::from(passed) >= 4_998 * 15 * 9 / 10, "{algorithm}: {passed}, and most of the memory is used");
        let refused = limiter.without_room();
        assert!(refused > 10_000, "{algorithm}: {refused}");
        let escaped: u32 = guilty.iter().map(|n| passing(&limiter, &from_ip(*n), 30)).sum();
        assert_eq!(escaped, 0, "{algorithm}");
        assert_eq!((limiter.evictions(), limiter.live_keys() <= MOST_LIVE), (0, true), "{algorithm}");
        let rules = limiter.rules();
        let decision =
            (0..100).map(|n| limiter.decide(&rules, &from_ip(9_000_000 + n), Take::All)).find(|decision| !decision.admitted()).unwrap();
        let level = decision.tightest().unwrap();
        assert_eq!((decision.left(level).0, limiter.rules().name(level.rule)), (0, "a"), "{algorithm}");
        let Outcome::Limited { retry_us, .. } = decision.outcome else { panic!("{algorithm}") };
        assert!((1..=7_200_000_000).contains(&retry_us), "{algorithm}: {retry_us}");
        clock.advance_ms(2 * 3_600_000);
        assert_eq!(guilty.iter().map(|n| passing(&limiter, &from_ip(*n), 30)).sum::<u32>(), 2_000, "{algorithm}");
    }
}

/// Where a rule is open, whoever fills the memory shuts nobody out, and is not let in again either.
#[test]
fn when_the_memory_is_full_an_open_rule_lets_new_keys_pass() {
    let (limiter, _) = limiter(&rule("a", "\"ip\"", "token_bucket", 20, "1h", ""), LimiterConfig { keys: 300, log_keys: 64 });
    let guilty: Vec<u32> = (0..1_000).filter(|n| passing(&limiter, &from_ip(*n), 30) == 20).collect();
    assert!((300..400).contains(&guilty.len()), "{}", guilty.len());
    assert_eq!(guilty.iter().map(|n| passing(&limiter, &from_ip(*n), 30)).sum::<u32>(), 0);
    assert_eq!(passing(&limiter, &from_ip(2_000_000), 30), 30, "there is no room to count it in");
    assert!(limiter.without_room() > 0);
}

#[test]
fn logs_are_bounded_too() {
    let config = LimiterConfig { keys: 100, log_keys: 64 };
    let (limiter, _) = limiter(&rule("a", "\"ip\"", "sliding_log", 20, "1h", ""), config);
    for n in 1..=10 {
        assert_eq!(passing(&limiter, &from_ip(n), 30), 20);
    }
    for n in 0..10_000 {
        limiter.check(&from_ip(1_000_000 + n));
    }
    assert_eq!((1..=10).map(|n| passing(&limiter, &from_ip(n), 30)).sum::<u32>(), 0);
    assert_eq!((limiter.live_keys(), limiter.without_room()), (64, 0));
    // Full of logs that are used up: no other key passes, and none of these again.
    for n in 0..1_000 {
        passing(&limiter, &from_ip(2_000_000 + n), 30);
    }
    assert!(limiter.without_room() > 0);
    assert_eq!((1..=10).map(|n| passing(&limiter, &from_ip(n), 30)).sum::<u32>(), 0);
    assert_eq!(limiter.live_keys(), 64);
}

#[test]
fn who_is_shown_is_bounded() {
    let (limiter, clock) = limiter(&rule("a", "\"ip\"", "fixed_window", 1, "1h", ""), LimiterConfig::default());
    for n in 0..5_000 {
        limiter.check(&from_ip(n));
        limiter.check(&from_ip(n));
        clock.advance_ms(1);
    }
    let limited = limiter.limited();
    assert!((LIMITED_KEYS / 2..=LIMITED_KEYS).contains(&limited.len()));
    assert_eq!(&*limited[0].key, "ip=0.0.19.135", "the latest first");
}

#[test]
fn blocked_addresses_and_too_many_connections() {
    let text = "block = [\"192.0.2.0/24\"]\n[connections]\nper_ip = 2\n";
    let (limiter, _) = limiter(text, LimiterConfig::default());
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    assert_eq!(limiter.check(&Subject { ip: Some(ip("192.0.2.77")), ..Subject::default() }), Outcome::Blocked);
    assert!(limiter.connection(ip("192.0.2.77")).is_none());
    let first = limiter.connection(ip("2001:db8::1"));
    let second = limiter.connection(ip("2001:db8::2"));
    assert!(first.is_some() && second.is_some());
    assert!(limiter.connection(ip("2001:db8::3")).is_none(), "one /64 is one customer");
    assert!(limiter.connection(ip("2001:db8:0:1::3")).is_some());
    drop(second);
    assert!(limiter.connection(ip("2001:db8::3")).is_some());
    drop(first);
    assert!(limiter.connections.0.lock().unwrap().is_empty(), "nothing is kept of closed ones");
}

#[test]
fn rules_know_countries_and_open_connections() {
    let text = rule("abroad", "\"country\"", "fixed_window", 2, "1h", "match = { country = [\"DE\", \"FR\"] }")
        + &rule("crowd", "\"ip\"", "fixed_window", 3, "1h", "match = { connections = 2 }");
    let (limiter, _) = limiter(&text, LimiterConfig::default());
    let from = |ip: &str| Subject { ip: Some(ip.parse().unwrap()), ..Subject::default() };
    assert_eq!(passing(&limiter, &from("192.0.2.9"), 9), 9, "no file, no country");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("countries.mmdb");
    std::fs::write(&path, crate::country::tests::file_of([192, 0, 2, 0], 24, "DE")).unwrap();
    limiter.know_countries(Countries::read(&path).unwrap());
    assert_eq!(passing(&limiter, &from("192.0.2.9"), 9), 2);
    assert_eq!(passing(&limiter, &from("192.0.2.10"), 9), 0, "the whole country has two");
    assert_eq!(passing(&limiter, &from("198.51.100.1"), 9), 9, "another country, or none");
    let crowd = from("198.51.100.2");
    let first = limiter.connection(crowd.ip.unwrap());
    assert_eq!(passing(&limiter, &crowd, 9), 9);
    let second = limiter.connection(crowd.ip.unwrap());
    assert_eq!(passing(&limiter, &crowd, 9), 3);
    drop((first, second));
    assert_eq!(passing(&limiter, &crowd, 9), 9);
}

/// Two threads on the same keys admit together exactly what one would.
#[test]
fn threads_share_a_limit_exactly() {
    let text = rule("a", "\"ip\"", "token_bucket", 1_000, "1h", "") + &rule("b", "\"user\"", "fixed_window", 700, "1h", "");
    let (limiter, _) = limiter(&text, LimiterConfig::default());
    let admitted: Vec<u32> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let limiter = &limiter;
                // Every thread the same address; every other one the same user.
                scope.spawn(move || passing(limiter, &Subject { user: Some(thread % 2), ..from_ip(1) }, 5_000))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(admitted.iter().sum::<u32>(), 1_000, "{admitted:?}");
    assert!(admitted[0] + admitted[2] <= 700 && admitted[1] + admitted[3] <= 700, "{admitted:?}");
    // What the users were refused for cost the address nothing: the other user's rest is untouched.
    let rest = 1_400 - 1_000;
    assert_eq!((0..2).map(|user| passing(&limiter, &Subject { user: Some(user), ..Subject::default() }, 5_000)).sum::<u32>(), rest);
}

#[tokio::test]
async fn a_changed_file_is_in_force_within_50_ms_and_a_wrong_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rules.toml");
    std::fs::write(&path, rule("a", "\"ip\"", "fixed_window", 1, "1h", "")).unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::from_micros(NOW)));
    let rules = RuleFile::read(&path).unwrap();
    let limiter = Arc::new(Limiter::new(rules, LimiterConfig::default(), clock, &SeededRng::new(1)));
    let watching = tokio::spawn(crate::watch(Arc::downgrade(&limiter), path.clone()));
    let limit = || limiter.rules().file().rules()[0].quota().limit();
    tokio::time::sleep(std::time::Duration::from_millis(60)).await;
    std::fs::write(&path, rule("a", "\"ip\"", "fixed_window", 20, "0s", "")).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(limit(), 1, "the old rules stay");
    std::fs::write(&path, "\n").unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(limiter.rules().file().rules().len(), 1, "an empty file is what a full disk leaves, not a wish");
    // A hundred times the promise, because the machine may be busy with other tests.
    let in_force = async |wanted: u32| {
        let changed = async {
            while limit() != wanted {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(5), changed).await.expect("the new rules are in force");
    };
    std::fs::write(&path, rule("a", "\"ip\"", "fixed_window", 200, "1h", "")).unwrap();
    in_force(200).await;
    // What can't be read is looked at again: a folder is no file, until one takes its place.
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    std::fs::remove_dir(&path).unwrap();
    std::fs::write(&path, rule("a", "\"ip\"", "fixed_window", 300, "1h", "")).unwrap();
    in_force(300).await;
    // Another file of the same length and time takes its place.
    let other = folder.path().join("other.toml");
    std::fs::write(&other, rule("a", "\"ip\"", "fixed_window", 400, "1h", "")).unwrap();
    let time = std::fs::metadata(&path).unwrap().modified().unwrap();
    std::fs::File::options().write(true).open(&other).unwrap().set_modified(time).unwrap();
    std::fs::rename(&other, &path).unwrap();
    in_force(400).await;
    drop(limiter);
    tokio::time::timeout(std::time::Duration::from_secs(5), watching).await.expect("the watch ends with the limiter").unwrap();
}
