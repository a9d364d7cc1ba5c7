//! Limits on a real Redis: the same decisions as in process, several nodes against one limit, and a Redis that goes and comes back.
//! Redis is taken from `BRANDOS_TEST_REDIS`; without it these tests are skipped, and say so. In CI that is a failure.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

use brandos_traffic::{Limiter, LimiterConfig, Outcome, RuleFile, SharedConfig, Subject, Take};
use kernel::{Clock, ManualClock, Rng as _, SeededRng, SystemClock, Timestamp};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

fn redis() -> Option<String> {
    let url = std::env::var("BRANDOS_TEST_REDIS").ok().filter(|url| !url.is_empty());
    if url.is_none() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "BRANDOS_TEST_REDIS is not set");
        eprintln!("SKIPPED: no Redis; eval \"$(cargo xtask engines up)\"");
    }
    url
}

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
        let ours = here.check(&subject);
        let theirs = there.decide_shared(&there.rules(), &subject, Take::All).await;
        assert_eq!(theirs.outcome.clone_without_ties(), ours.outcome.clone_without_ties(), "request {n}");
        assert_eq!(theirs.delay_us, ours.delay_us, "request {n}");
        let figures = |decision: &brandos_traffic::Decision| {
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
                    let decision = node.decide_shared(&node.rules(), &Subject::default(), Take::All).await;
                    assert!(!matches!(decision.outcome, Outcome::Away { .. }));
                    asked.fetch_add(1, SeqCst);
                    admitted.fetch_add(u32::from(decision.admitted()), SeqCst);
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

/// A Redis of this test's own, which it may end.
struct Server {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Server {
    fn start(port: u16, folder: tempfile::TempDir) -> Option<Server> {
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &port.to_string(), "--dir"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        Some(Server { child, port, folder })
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    fn kill(mut self) -> (u16, tempfile::TempDir) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        (self.port, self.folder)
    }
}

/// Killed: each rule does at once what it says. Back: within two seconds the limits are shared again.
#[tokio::test]
async fn a_redis_that_goes_and_comes_back() {
    if redis().is_none() {
        return;
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = Server::start(port, tempfile::tempdir().unwrap()).expect("redis-server runs");
    let (url, up) = (server.url(), Instant::now());
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(up.elapsed() < Duration::from_secs(10), "it listens");
        std::thread::sleep(Duration::from_millis(20));
    }
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
    let (port, folder) = server.kill();
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
    let server = Server::start(port, folder).expect("redis-server runs");
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
    drop(server.kill());
}
