//! Limits on a real Redis: the same decisions as in process, several nodes against one limit, and a Redis that goes and comes back.
//! Redis is taken from `BRANDOS_TEST_REDIS`; without it these tests are skipped, and say so. In CI that is a failure.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

mod server;

use brandos_traffic::{Limiter, LimiterConfig, Outcome, RuleFile, SharedConfig, Subject, Take};
use kernel::{Clock, ManualClock, Rng as _, SeededRng, SystemClock, Timestamp};
use server::{Server, redis};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// Names that no other run has used: state outlives a test.
fn unique(name: &str) -> String {
    format!("{name}_{}_{}", std::process::id(), SystemClock.now().micros())
}

fn limiter(rules: &str, clock: Arc<dyn Clock>) -> Arc<Limiter> {
    Arc::new(Limiter::new(RuleFile::parse("rules", rules).unwrap(), LimiterConfig::default(), clock, &SeededRng::new(1)))
}

fn patient(url: &str) -> SharedConfig {
    SharedConfig { patience_ms: 5_000, ..SharedConfig::new(url) }
}

/// Random requests against five algorithms at once, on a simulated clock, in process and on Redis: the same outcome, the same figures left.
#[tokio::test]
async fn redis_decides_as_the_process_does() {
    let Some(url) = redis() else { return };
    let name = unique("t");
    let rule = |n: u32, key: &str, algorithm: &str, limit: u32, per: &str, more: &str| {
        format!("[[rule]]\nname = \"{name}_{n}\"\nkey = [{key}]\nalgorithm = \"{algorithm}\"\nlimit = {limit}\nper = \"{per}\"\n{more}\n")
    };
    let rules = {
        rule(1, "\"ip\"", "token_bucket", 16, "1s", "burst = 20")
            + &rule(2, "\"user\"", "fixed_window", 900, "1m", "")
            + &rule(3, "\"tenant\"", "sliding_log", 280, "10s", "")
            + &rule(4, "\"user\", \"ip\"", "sliding_counter", 50, "10s", "")
            + &rule(5, "\"tenant\", \"ip\"", "leaky_bucket", 14, "1s", "burst = 5")
            + &rule(6, "", "token_bucket", 1, "1s", "dry_run = true")
    };
    let clock = Arc::new(ManualClock::new(Timestamp::from_micros(1_700_000_000_000_000)));
    let (here, there) = (limiter(&rules, clock.clone()), limiter(&rules, clock.clone()));
    there.share(SharedConfig { own_clock: true, ..patient(&url) }).await.unwrap();
    let rng = SeededRng::new(11);
    let (mut admitted, mut refused_by) = (0, std::collections::BTreeMap::<u16, u32>::new());
    for n in 0..6_000 {
        clock.advance_ms(rng.below(35) as i64);
        let subject = Subject {
            ip: Some(std::net::Ipv4Addr::from_bits(1 + rng.below(4) as u32).into()),
            user: Some(rng.below(3) as i64),
            tenant: Some(kernel::TenantId::from_i64(1 + rng.below(2) as i64)),
            cost: 1 + rng.below(3) as u32 / 2,
            ..Subject::default()
        };
        let (here_rules, there_rules) = (here.rules(), there.rules());
        let ours = here.decide(&here_rules, &subject, Take::All);
        let theirs = there.decide_shared(&there_rules, &subject, Take::All).await;
        assert_eq!(theirs.outcome.clone_without_ties(), ours.outcome.clone_without_ties(), "request {n}");
        assert_eq!(theirs.delay_us, ours.delay_us, "request {n}");
        let figures = |decision: &brandos_traffic::Decision<'_>| {
            let mut all: Vec<_> = decision.levels.iter().map(|level| (level.rule, decision.left(level))).collect();
            all.sort_unstable();
            all
        };
        assert_eq!(figures(&theirs), figures(&ours), "request {n}: {:?}", ours.outcome);
        match ours.outcome {
            Outcome::Limited { rule, .. } => *refused_by.entry(rule).or_default() += 1,
            _ => admitted += 1,
        }
    }
    assert!(admitted > 500 && refused_by.len() >= 3, "{admitted} {refused_by:?}");
    assert!(!there.limited().is_empty());
}

/// Which of two rules that refuse for equally long is named does not matter.
trait WithoutTies {
    fn clone_without_ties(&self) -> Option<u64>;
}

impl WithoutTies for Outcome {
    fn clone_without_ties(&self) -> Option<u64> {
        match self {
            Outcome::Admitted => None,
            Outcome::Limited { retry_us, .. } => Some(*retry_us),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_changed_limit_keeps_its_share_on_redis() {
    let Some(url) = redis() else { return };
    for (algorithm, left) in [("token_bucket", 100), ("fixed_window", 100), ("sliding_counter", 100)] {
        let name = unique("t");
        let of = |limit| format!("[[rule]]\nname = \"{name}\"\nalgorithm = \"{algorithm}\"\nlimit = {limit}\nper = \"30d\"\n");
        let limiter = limiter(&of(100), Arc::new(SystemClock));
        limiter.share(patient(&url)).await.unwrap();
        let passing = async |most: u32| {
            let mut passed = 0;
            for _ in 0..most {
                passed += u32::from(limiter.decide_shared(&limiter.rules(), &Subject::default(), Take::All).await.admitted());
            }
            passed
        };
        assert_eq!(passing(50).await, 50);
        limiter.replace(RuleFile::parse("rules", &of(200)).unwrap());
        assert_eq!(passing(150).await, left, "{algorithm}");
    }
}

/// Three nodes, one of them with a clock five seconds ahead, and ten times as much as the limit allows: not one too many.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_admit_together_what_the_rule_says() {
    let Some(url) = redis() else { return };
    let name = unique("t");
    let rules = format!(
        "[[rule]]\nname = \"{name}\"\nalgorithm = \"token_bucket\"\nlimit = 200\nper = \"1s\"\nburst = 50\nwhen_away = \"closed\"\n"
    );
    let ahead = Arc::new(ManualClock::new(Timestamp::from_micros(SystemClock.now().micros() + 5_000_000)));
    let clocks: [Arc<dyn Clock>; 3] = [Arc::new(SystemClock), Arc::new(SystemClock), ahead];
    let admitted = Arc::new(AtomicU32::new(0));
    let asked = Arc::new(AtomicU32::new(0));
    let begun = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for clock in clocks {
        let node = limiter(&rules, clock);
        node.share(patient(&url)).await.unwrap();
        for _ in 0..8 {
            let (node, admitted, asked) = (node.clone(), admitted.clone(), asked.clone());
            tasks.spawn(async move {
                while begun.elapsed() < Duration::from_secs(3) {
                    let outcome = node.decide_shared(&node.rules(), &Subject::default(), Take::All).await.outcome;
                    assert!(!matches!(outcome, Outcome::Away { .. }));
                    asked.fetch_add(1, SeqCst);
                    admitted.fetch_add(u32::from(outcome.admitted()), SeqCst);
                }
            });
        }
    }
    tasks.join_all().await;
    let most = 50.0 + 200.0 * begun.elapsed().as_secs_f64();
    let (admitted, asked) = (f64::from(admitted.load(SeqCst)), asked.load(SeqCst));
    assert!(admitted <= most, "{admitted} of {asked}, at most {most}");
    assert!(admitted >= 0.9 * most, "{admitted} of {asked}: the limit is also reached (most {most})");
    assert!(f64::from(asked) > 2.0 * most, "there was more than the limit lets pass");
}

/// Until it is so, for at most so many seconds.
async fn within(seconds: u64, what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < Duration::from_secs(seconds), "not within {seconds} s: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Killed: each rule does at once what it says. Back: within two seconds the limits are shared again.
#[tokio::test]
async fn a_redis_that_goes_and_comes_back() {
    if redis().is_none() {
        return;
    }
    let mut server = Server::start();
    let url = server.url();
    let rule = |name: &str, away: &str| {
        format!(
            "[[rule]]\nname = \"{name}\"\nkey = [\"name\"]\nmatch = {{ service = \"{name}\" }}\nalgorithm = \"fixed_window\"\nlimit = 6\nper = \"30d\"\nwhen_away = \"{away}\"\n"
        )
    };
    let rules = ["open", "closed", "local"].map(|mode| rule(mode, mode)).concat();
    let node = limiter(&rules, Arc::new(SystemClock));
    node.share(SharedConfig { nodes: 3, patience_ms: 1_000, ..SharedConfig::new(url) }).await.unwrap();
    let ask = async |service: &'static str| {
        let subject = Subject { service: Some(service), name: Some("x"), ..Subject::default() };
        node.decide_shared(&node.rules(), &subject, Take::All).await.outcome
    };
    for service in ["open", "closed", "local"] {
        for _ in 0..6 {
            assert_eq!(ask(service).await, Outcome::Admitted);
        }
        assert!(matches!(ask(service).await, Outcome::Limited { .. }));
    }
    server.kill();
    // The first to find out loses the connection; from then on nobody waits.
    let _ = ask("open").await;
    let begun = Instant::now();
    for _ in 0..1_000 {
        assert_eq!(ask("open").await, Outcome::Admitted);
        assert!(matches!(ask("closed").await, Outcome::Away { .. }));
    }
    let each = begun.elapsed() / 2_000;
    assert!(each < Duration::from_millis(1), "{each:?} for a decision without Redis");
    let mut passed = 0;
    for _ in 0..10 {
        passed += u32::from(ask("local").await == Outcome::Admitted);
    }
    assert_eq!(passed, 2, "a third of six");
    server.start_again();
    let begun = Instant::now();
    while matches!(ask("closed").await, Outcome::Away { .. }) {
        assert!(begun.elapsed() < Duration::from_secs(2), "shared again within two seconds");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // It came back empty; what it said it says again.
    let mut passed = 1;
    for _ in 0..10 {
        passed += u32::from(ask("closed").await == Outcome::Admitted);
    }
    assert_eq!(passed, 6);
}

/// Hostile keys until Redis has no memory left: it takes no more, who is at a limit stays there, and for new keys each rule does what it says.
#[tokio::test]
async fn a_redis_that_is_full_forgets_nobody() {
    if redis().is_none() {
        return;
    }
    let most = 4_000_000;
    let server = Server::start_with(&["--maxmemory", &most.to_string(), "--maxmemory-policy", "noeviction"]);
    let rule = |name: &str, away: &str| {
        format!(
            "[[rule]]\nname = \"{name}\"\nkey = [\"name\"]\nmatch = {{ service = \"{name}\" }}\nalgorithm = \"fixed_window\"\nlimit = 3\nper = \"30d\"\nwhen_away = \"{away}\"\n"
        )
    };
    let node = limiter(&(rule("closed", "closed") + &rule("open", "open")), Arc::new(SystemClock));
    node.share(patient(&server.url())).await.unwrap();
    let ask = async |service: &'static str, name: &str| {
        let subject = Subject { service: Some(service), name: Some(name), ..Subject::default() };
        node.decide_shared(&node.rules(), &subject, Take::All).await.outcome
    };
    for service in ["closed", "open"] {
        for _ in 0..3 {
            assert_eq!(ask(service, "guilty").await, Outcome::Admitted);
        }
    }
    let mut taken = 0;
    while taken < 100_000 {
        let outcomes = (0..200).map(|n| format!("hostile-{}", taken + n)).map(async |name| ask("closed", &name).await);
        if futures_util::future::join_all(outcomes).await.iter().any(|outcome| !outcome.admitted()) {
            break;
        }
        taken += 200;
    }
    // One by one, as the buffers of many at once count too.
    let mut outcome = Outcome::Admitted;
    while outcome.admitted() && taken < 100_000 {
        taken += 1;
        outcome = ask("closed", &format!("hostile-{taken} alone")).await;
    }
    assert!(matches!(outcome, Outcome::Away { .. }), "{outcome:?}, {taken} keys");
    for service in ["closed", "open"] {
        assert!(matches!(ask(service, "guilty").await, Outcome::Limited { .. }), "{service}");
    }
    assert!(matches!(ask("closed", "new").await, Outcome::Away { .. }));
    assert_eq!(ask("open", "new").await, Outcome::Admitted);
    let memory = server.ask(&["INFO", "memory"]);
    let used: u64 = memory.lines().find_map(|line| line.strip_prefix("used_memory:")?.trim().parse().ok()).unwrap();
    assert!(used < most + most / 4, "{used} bytes");
}

/// With leases: what three nodes admit together is at most what Redis has lent, and a hot key costs few round trips.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_never_admit_more_than_was_lent() {
    if redis().is_none() {
        return;
    }
    let seconds = std::env::var("BRANDOS_TEST_LIMITS_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3_u64);
    for (algorithm, burst) in [("token_bucket", "burst = 200\n"), ("fixed_window", ""), ("sliding_counter", "")] {
        let server = Server::start();
        let rules = format!(
            "[[rule]]\nname = \"hot\"\nalgorithm = \"{algorithm}\"\nlimit = 1_000\nper = \"1s\"\n{burst}when_away = \"closed\"\nlease = 50\n"
        );
        let ahead = Arc::new(ManualClock::new(Timestamp::from_micros(SystemClock.now().micros() + 5_000_000)));
        let clocks: [Arc<dyn Clock>; 3] = [Arc::new(SystemClock), Arc::new(SystemClock), ahead];
        // Every admitted request by the millisecond in which it was.
        let admitted = Arc::new((0..seconds * 1_000 + 500).map(|_| AtomicU32::new(0)).collect::<Vec<_>>());
        let asked = Arc::new(AtomicU32::new(0));
        let mut nodes = Vec::new();
        for clock in clocks {
            let node = limiter(&rules, clock);
            node.share(patient(&server.url())).await.unwrap();
            nodes.push(node);
        }
        let begun = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..24 {
            let (node, admitted, asked) = (nodes[n % 3].clone(), admitted.clone(), asked.clone());
            tasks.spawn(async move {
                while begun.elapsed() < Duration::from_secs(seconds) {
                    let outcome = node.decide_shared(&node.rules(), &Subject::default(), Take::All).await.outcome;
                    assert!(!matches!(outcome, Outcome::Away { .. }));
                    asked.fetch_add(1, SeqCst);
                    if outcome.admitted() {
                        admitted[begun.elapsed().as_millis() as usize].fetch_add(1, SeqCst);
                    }
                    tokio::task::yield_now().await;
                }
            });
        }
        tasks.join_all().await;
        let (took, asked) = (begun.elapsed().as_secs_f64(), asked.load(SeqCst));
        let counts: Vec<u32> = admitted.iter().map(|count| count.load(SeqCst)).collect();
        let sum = f64::from(counts.iter().sum::<u32>());
        // From the beginning nothing is over at all: what is spent was lent. A window has one more begun in it than it is long.
        let most = match algorithm {
            "token_bucket" => 200.0 + 1_000.0 * took,
            _ => 1_000.0 * (took.ceil() + 1.0),
        };
        assert!(sum <= most, "{algorithm}: {sum} of {asked}, at most {most}");
        assert!(sum >= 0.85 * 1_000.0 * took, "{algorithm}: {sum} of {asked}: the limit is also reached");
        // In any second: the rule, and what the nodes may have held. (Around a window's end twice the limit may pass, also by the sliding
        // counter when there was nothing before.)
        let bound = match algorithm {
            "token_bucket" => 200 + 1_000 + 3 * 50,
            _ => 2_000 + 3 * 50,
        };
        let worst = counts.windows(1_000).map(|second| second.iter().sum::<u32>()).max().unwrap();
        assert!(worst <= bound, "{algorithm}: {worst} in a second, at most {bound}");
        let calls = server.ask(&["INFO", "commandstats"]);
        let calls: u32 =
            calls.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls=")?.split(',').next()?.parse().ok()).unwrap();
        assert!(calls < asked / 10, "{algorithm}: {calls} round trips for {asked} decisions");
    }
}

/// What a node holds it may spend while Redis is away, and not more; what it did not spend goes back.
#[tokio::test]
async fn loans_outlive_redis_and_come_back() {
    if redis().is_none() {
        return;
    }
    let mut server = Server::start();
    let rule = |name: &str, per: &str| {
        format!(
            "[[rule]]\nname = \"{name}\"\nkey = [\"user\"]\nmatch = {{ service = \"{name}\" }}\nalgorithm = \"token_bucket\"\nlimit = 100\nper = \"{per}\"\nlease = 40\nwhen_away = \"closed\"\n"
        )
    };
    let rules = rule("long", "30d") + &rule("short", "1s");
    let (node, other) = (limiter(&rules, Arc::new(SystemClock)), limiter(&rules, Arc::new(SystemClock)));
    node.share(patient(&server.url())).await.unwrap();
    other.share(patient(&server.url())).await.unwrap();
    let ask = async |node: &Limiter, service: &'static str| {
        let subject = Subject { service: Some(service), user: Some(1), ..Subject::default() };
        node.decide_shared(&node.rules(), &subject, Take::All).await.outcome
    };
    let passing = async |node: &Limiter, service: &'static str, most: u32| {
        let mut passed = 0;
        for _ in 0..most {
            passed += u32::from(ask(node, service).await.admitted());
        }
        passed
    };
    // A lease of 40 begins with a block of ten: one is spent, nine are held here, and the others have the ninety.
    assert_eq!(passing(&node, "long", 1).await, 1);
    assert_eq!(passing(&other, "long", 300).await, 90);
    assert!(matches!(ask(&other, "long").await, Outcome::Limited { .. }));
    server.kill();
    assert_eq!(passing(&node, "long", 9).await, 9, "what was lent is spent without Redis");
    within(2, "then the rule is closed", async || matches!(ask(&node, "long").await, Outcome::Away { .. })).await;

    // Tokens that were held for too long are not spent, and the bucket is not short of them for good.
    let server = Server::start();
    let node = limiter(&rules, Arc::new(SystemClock));
    node.share(patient(&server.url())).await.unwrap();
    for _ in 0..3 {
        assert_eq!(passing(&node, "short", 1).await, 1);
        tokio::time::sleep(Duration::from_millis(1_100)).await;
    }
    assert!(passing(&node, "short", 300).await >= 99);
}

/// A rule without a lease beside one with: a refusal by either costs the other nothing.
#[tokio::test]
async fn all_or_none_holds_with_leases() {
    let Some(url) = redis() else { return };
    let name = unique("t");
    let rules = format!(
        "[[rule]]\nname = \"{name}_a\"\nkey = [\"user\"]\nalgorithm = \"fixed_window\"\nlimit = 30\nper = \"30d\"\nlease = 30\n\
         [[rule]]\nname = \"{name}_b\"\nkey = [\"ip\"]\nalgorithm = \"fixed_window\"\nlimit = 5\nper = \"30d\"\n"
    );
    let node = limiter(&rules, Arc::new(SystemClock));
    node.share(patient(&url)).await.unwrap();
    let passing = async |ip: u32, most: u32| {
        let mut passed = 0;
        for _ in 0..most {
            let subject = Subject { user: Some(1), ip: Some(std::net::Ipv4Addr::from_bits(ip).into()), ..Subject::default() };
            passed += u32::from(node.decide_shared(&node.rules(), &subject, Take::All).await.admitted());
        }
        passed
    };
    // Each address passes five times, however often it is refused; the user thirty times.
    for ip in 1..=6 {
        assert_eq!(passing(ip, 20).await, 5, "address {ip}");
    }
    assert_eq!(passing(7, 20).await, 0, "the user is at the limit, which cost the address nothing");
}

/// The master dies, the Sentinels name another, and the limits go on where they were.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_name_another_master() {
    if redis().is_none() {
        return;
    }
    let mut master = Server::start();
    let replica = Server::start_with(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    let sentinels = [(); 3].map(|()| Server::sentinel(master.port));
    within(20, "the Sentinels know each other and the replica", async || {
        sentinels.iter().all(|sentinel| {
            let known = sentinel.ask(&["SENTINEL", "MASTER", "limits"]);
            let figure = |name: &str| known.lines().skip_while(|line| *line != name).nth(1).map(str::to_owned);
            figure("num-other-sentinels").as_deref() == Some("2") && figure("num-slaves").as_deref() == Some("1")
        }) && replica.ask(&["INFO", "replication"]).contains("master_link_status:up")
    })
    .await;
    let servers = sentinels.each_ref().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).join(",");
    let rules = "[[rule]]\nname = \"a\"\nalgorithm = \"fixed_window\"\nlimit = 10\nper = \"30d\"\nwhen_away = \"closed\"\n";
    let node = limiter(rules, Arc::new(SystemClock));
    node.share(SharedConfig { patience_ms: 1_000, ..SharedConfig::new(format!("redis+sentinel://{servers}/limits")) }).await.unwrap();
    let ask = async || node.decide_shared(&node.rules(), &Subject::default(), Take::All).await.outcome;
    for _ in 0..4 {
        assert_eq!(ask().await, Outcome::Admitted);
    }
    within(5, "the replica has it", async || replica.ask(&["DBSIZE"]).trim() == "1").await;
    master.kill();
    within(30, "the other one is master", async || ask().await == Outcome::Admitted).await;
    assert!(replica.ask(&["ROLE"]).starts_with("master"));
    let mut passed = 5;
    for _ in 0..20 {
        passed += u32::from(ask().await == Outcome::Admitted);
    }
    assert_eq!(passed, 10, "what was counted before counts");
}

/// In a cluster: a tenant's rules are one slot's, others' are not, and all or none holds over all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_decides_all_or_none() {
    if redis().is_none() {
        return;
    }
    let servers = [(); 3].map(|()| Server::start_with(&["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"]));
    let addresses = servers.each_ref().map(|server| format!("127.0.0.1:{}", server.port));
    let mut create = vec!["--cluster", "create"];
    create.extend(addresses.iter().map(String::as_str));
    create.push("--cluster-yes");
    let made = Command::new("redis-cli").args(&create).output().expect("redis-cli runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
    within(20, "the cluster is whole", async || servers.iter().all(|server| server.ask(&["CLUSTER", "INFO"]).contains("cluster_state:ok")))
        .await;
    for lease in ["", "lease = 5\n"] {
        let name = unique("t");
        let rule = |n: u32, key: &str, algorithm: &str, limit: u32, more: &str| {
            format!("[[rule]]\nname = \"{name}_{n}\"\nkey = [{key}]\nalgorithm = \"{algorithm}\"\nlimit = {limit}\nper = \"30d\"\n{more}")
        };
        let rules = rule(1, "\"tenant\"", "fixed_window", 1_000, "")
            + &rule(2, "\"tenant\", \"user\"", "token_bucket", 40, lease)
            + &rule(3, "\"ip\"", "sliding_counter", 5, lease)
            + &rule(4, "\"ip\"", "sliding_log", 100, "")
            + &rule(5, "\"user\"", "fixed_window", 40, "");
        let node = limiter(&rules, Arc::new(SystemClock));
        node.share(patient(&format!("redis-cluster://{}", addresses.join(",")))).await.unwrap();
        let passing = async |user: i64, ip: u32, most: u32| {
            let mut passed = 0;
            for _ in 0..most {
                let ip = std::net::Ipv4Addr::from_bits(ip).into();
                let subject = Subject { user: Some(user), ip: Some(ip), tenant: Some(kernel::TenantId::from_i64(1)), ..Subject::default() };
                let outcome = node.decide_shared(&node.rules(), &subject, Take::All).await.outcome;
                assert!(matches!(outcome, Outcome::Admitted | Outcome::Limited { .. }), "{outcome:?}");
                passed += u32::from(outcome.admitted());
            }
            passed
        };
        // What an address is refused for takes nothing from its user, whose forty are for eight addresses.
        for ip in 1..=8 {
            assert_eq!(passing(1, ip, 12).await, 5, "address {ip} {lease}");
        }
        assert_eq!(passing(1, 9, 12).await, 0, "the user is at the limit {lease}");
        assert_eq!(passing(2, 9, 12).await, 5, "which took nothing from the address {lease}");
    }
}
