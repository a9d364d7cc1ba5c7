//! Rate limits on Redis: three processes against one server, exactly and with leases, and the same script called bare; and what the limit
//! lets pass under overload, in every window, also with a server that is killed and started again.

use crate::limits::{subject, zipf_draws};
use crate::measure::tell;
use clap::{Args, ValueEnum};
use hdrhistogram::Histogram;
use kernel::{Clock, SeededRng, SystemClock, Timestamp};
use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use traffic::{Limiter, LimiterConfig, Outcome, RuleFile, SharedConfig, Subject, Take};

/// `limits-redis`.
#[derive(Args, Clone)]
pub struct Options {
    /// What the processes do.
    #[arg(long, value_enum, default_value_t = Mode::All)]
    mode: Mode,
    /// Keys of each level.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Seconds that count.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seconds before.
    #[arg(long, default_value_t = 10.0)]
    warm: f64,
    /// Levels of a decision, 1 to 4.
    #[arg(long, default_value_t = 4)]
    levels: usize,
    /// Processes.
    #[arg(long, default_value_t = 3)]
    processes: u64,
    /// The server of a process that this program has started itself.
    #[arg(long, hide = true)]
    child_of: Option<String>,
    /// And its number.
    #[arg(long, hide = true, default_value_t = 0)]
    child: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// All of them, one after the other.
    All,
    /// Each decision is a script in Redis.
    Exact,
    /// With leases.
    Lease,
    /// The script of `exact`, called without anything around it.
    Bare,
    /// One key with a limit of 1,000 a second, asked as often as possible, each decision in Redis; the third process's clock is 5 s ahead.
    Overload,
    /// The same with a lease of 50.
    OverloadLease,
    /// As `overload`, and in the middle the server is killed and started again after two seconds, empty.
    OverloadKill,
    /// The same with a lease of 50.
    OverloadKillLease,
}

/// The limit of the overload modes, a second and at once.
const LIMIT: u64 = 1_000;
/// And the lease.
const LEASE: u64 = 50;

impl Mode {
    fn is_overload(self) -> bool {
        matches!(self, Mode::Overload | Mode::OverloadLease) || self.kills()
    }

    fn kills(self) -> bool {
        matches!(self, Mode::OverloadKill | Mode::OverloadKillLease)
    }

    fn has_lease(self) -> bool {
        matches!(self, Mode::OverloadLease | Mode::OverloadKillLease)
    }

    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// A server of this run's own.
struct Server {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Server {
    fn start() -> Server {
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port();
        Server::start_on(port, tempfile::tempdir().expect("a folder"))
    }

    fn start_on(port: u16, folder: tempfile::TempDir) -> Server {
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &port.to_string(), "--dir"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() && begun.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(20));
        }
        Server { child, port, folder }
    }

    fn stop(mut self) -> (u16, tempfile::TempDir) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        (self.port, self.folder)
    }
}

/// Runs and prints.
pub fn run(options: &Options) {
    match &options.child_of {
        Some(url) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built");
            runtime.block_on(child(options, url));
        }
        None => parent(options),
    }
}

fn parent(options: &Options) {
    let modes = match options.mode {
        Mode::All => {
            vec![Mode::Bare, Mode::Exact, Mode::Lease, Mode::Overload, Mode::OverloadLease, Mode::OverloadKill, Mode::OverloadKillLease]
        }
        one => vec![one],
    };
    tell(&format!(
        "{} processes of one thread and one redis-server, {} keys a level, Zipf (exponent 1), {} levels, {} s after {} s",
        options.processes, options.keys, options.levels, options.seconds, options.warm
    ));
    for mode in modes {
        let server = Server::start();
        let children: Vec<Child> = (0..options.processes)
            .map(|number| {
                let mut command = Command::new(std::env::current_exe().expect("this program's own file"));
                command.arg("limits-redis").args(["--mode", &mode.name(), "--child-of", &format!("redis://127.0.0.1:{}/", server.port)]);
                command.args(["--keys", &options.keys.to_string(), "--levels", &options.levels.to_string()]);
                command.args(["--seconds", &options.seconds.to_string(), "--warm", &options.warm.to_string()]);
                command.args(["--child", &number.to_string()]).stdout(Stdio::piped());
                command.spawn().expect("a process can be started")
            })
            .collect();
        if mode.kills() {
            std::thread::sleep(Duration::from_secs_f64(options.warm + options.seconds / 2.0));
            let (port, folder) = server.stop();
            std::thread::sleep(Duration::from_secs(2));
            let begun_ms = SystemClock.now().micros() / 1_000;
            finish(mode, options, children, Server::start_on(port, folder), begun_ms);
        } else {
            finish(mode, options, children, server, 0);
        }
    }
}

/// Waits for the processes, tells what came of them, and ends the server, which was started for the second time at `begun_ms`.
fn finish(mode: Mode, options: &Options, children: Vec<Child>, server: Server, begun_ms: i64) {
    let (mut sum, mut worst) = ([0_u64; 3], [0_u64; 4]);
    let mut admitted_at = BTreeMap::<i64, u64>::new();
    for child in children {
        let output = child.wait_with_output().expect("a process ends");
        let text = String::from_utf8_lossy(&output.stdout);
        let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        for (sum, number) in sum.iter_mut().zip(&numbers) {
            *sum += number;
        }
        for (worst, number) in worst.iter_mut().zip(numbers.iter().skip(3)) {
            *worst = (*worst).max(*number);
        }
        for (ms, count) in text.split_whitespace().filter_map(|word| word.split_once(':')) {
            if let (Ok(ms), Ok(count)) = (ms.parse::<i64>(), count.parse::<u64>()) {
                *admitted_at.entry(ms).or_default() += count;
            }
        }
    }
    let [decided, admitted, away] = sum;
    let [p99_us, away_p99_us, away_most_us, last_away_ms] = worst;
    let seconds = if mode.is_overload() { options.seconds + options.warm } else { options.seconds };
    tell(&format!(
        "{:<19} {:>9.0} decisions/s  admitted {admitted} ({:.1} %)  without Redis {away}  p99 {p99_us} us",
        mode.name(),
        decided as f64 / seconds,
        admitted as f64 * 100.0 / decided.max(1) as f64
    ));
    if mode.is_overload() {
        let per_second = admitted as f64 / seconds;
        let (before, after): (BTreeMap<i64, u64>, BTreeMap<i64, u64>) = admitted_at.into_iter().partition(|(ms, _)| *ms < begun_ms);
        let over = excess(&before).max(excess(&after));
        let bound = if mode.has_lease() { LEASE * options.processes } else { 0 };
        tell(&format!("  {per_second:.0} a second; in the fullest of all windows {over} more than the rule says, {bound} are allowed"));
    }
    if mode.kills() {
        let back_ms = last_away_ms as i64 - begun_ms;
        tell(&format!(
            "  decided without Redis: p99 {away_p99_us} us, at most {away_most_us} us; shared again {back_ms} ms after it was started"
        ));
    }
    drop(server.stop());
}

/// How many more than the rule says were admitted in the window where that is the most, of all windows from one millisecond to another.
fn excess(admitted_at: &BTreeMap<i64, u64>) -> u64 {
    let per_ms = LIMIT as i64 / 1_000;
    let (mut sum, mut most, mut last) = (0_i64, 0_i64, 0_i64);
    for (ms, count) in admitted_at {
        // The fullest window that ends here either begins here, or goes on from the one before.
        sum = (sum - (ms - last - 1) * per_ms).max(0) + *count as i64 - per_ms;
        (most, last) = (most.max(sum), *ms);
    }
    (most - LIMIT as i64).max(0) as u64
}

fn rules(mode: Mode, levels: usize) -> String {
    let lease = |tokens: u32| if mode == Mode::Lease { format!("lease = {tokens}\n") } else { String::new() };
    let rule = |name: &str, key: &str, algorithm: &str, limit: u32, per: &str, tokens: u32| {
        format!(
            "[[rule]]\nname = \"{name}\"\nkey = [\"{key}\"]\nalgorithm = \"{algorithm}\"\nlimit = {limit}\nper = \"{per}\"\n{}",
            lease(tokens)
        )
    };
    [
        rule("ip", "ip", "token_bucket", 600_000, "1m", 6_000),
        rule("user", "user", "sliding_counter", 1_000_000, "1m", 10_000),
        rule("api_key", "api_key", "fixed_window", 1_000_000, "1m", 10_000),
        rule("tenant", "tenant", "token_bucket", 6_000_000, "1m", 30_000),
    ][..levels.clamp(1, 4)]
        .concat()
}

async fn child(options: &Options, url: &str) {
    match options.mode {
        Mode::Bare => bare(options, url).await,
        mode if mode.is_overload() => overload(options, url).await,
        _ => decisions(options, url).await,
    }
}

async fn limiter(rules: &str, keys: u64, clock: Arc<dyn Clock>, url: &str, patience_ms: u64) -> Arc<Limiter> {
    let config = LimiterConfig { keys: (keys * 5) as usize, ..LimiterConfig::default() };
    let file = RuleFile::parse("bench", rules).expect("the rules are valid");
    let limiter = Arc::new(Limiter::new(file, config, clock, &SeededRng::new(1)));
    limiter.share(SharedConfig { patience_ms, ..SharedConfig::new(url) }).await.expect("the URL is valid");
    limiter
}

/// Loops of decisions, as many at once as keep the connection full.
async fn decisions(options: &Options, url: &str) {
    let limiter = limiter(&rules(options.mode, options.levels), options.keys, Arc::new(SystemClock), url, 5_000).await;
    let draws = Arc::new(zipf_draws(options.keys, 1 << 20, options.child + 1));
    let (begun, warm) = (Instant::now(), Duration::from_secs_f64(options.warm));
    let until = warm + Duration::from_secs_f64(options.seconds);
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..256_usize {
        let (limiter, draws) = (limiter.clone(), draws.clone());
        tasks.spawn(async move {
            let (mut decided, mut admitted, mut at) = (0_u64, 0_u64, task * 4_096);
            let mut latency = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).expect("the bounds are valid");
            loop {
                let now = begun.elapsed();
                if now >= until {
                    return (decided, admitted, latency);
                }
                for _ in 0..32 {
                    at = (at + 1) % draws.len();
                    let rules = limiter.rules();
                    let asked = (at % 32 == 0).then(Instant::now);
                    let passes = limiter.decide_shared(&rules, &subject(&draws[at]), Take::All).await.admitted();
                    if now >= warm {
                        decided += 1;
                        admitted += u64::from(passes);
                        if let Some(asked) = asked {
                            latency.saturating_record(asked.elapsed().as_micros().max(1) as u64);
                        }
                    }
                }
                tokio::task::yield_now().await;
            }
        });
    }
    let (mut decided, mut admitted, mut latency) =
        (0, 0, Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).expect("the bounds are valid"));
    while let Some(done) = tasks.join_next().await {
        let (d, a, l) = done.expect("a task does not panic");
        decided += d;
        admitted += a;
        latency.add(l).expect("equal histograms");
    }
    tell(&format!("{decided} {admitted} {} {}", limiter.away(), latency.value_at_quantile(0.99)));
}

/// The script of `exact` with arguments that are made beforehand, a hundred calls in each pipeline.
async fn bare(options: &Options, url: &str) {
    let client = redis::Client::open(url).expect("the URL is valid");
    let mut connection = client.get_multiplexed_async_connection().await.expect("redis answers");
    let hash: String =
        redis::cmd("SCRIPT").arg("LOAD").arg(traffic::shared_script()).query_async(&mut connection).await.expect("the script is loaded");
    let draws = zipf_draws(options.keys, 1 << 16, options.child + 1);
    let figures: [[u64; 10]; 4] = [
        [0, 1, 600_000, 60_000_000, 600_000, 100, 0, 60_000_000, 0, 0],
        [4, 1, 1_000_000, 60_000_000, 0, 60, 0, 0, 0, 0],
        [2, 1, 1_000_000, 60_000_000, 0, 60, 0, 0, 0, 0],
        [0, 1, 6_000_000, 60_000_000, 6_000_000, 10, 0, 60_000_000, 0, 0],
    ];
    let pipes: Vec<redis::Pipeline> = draws
        .chunks(100)
        .map(|chunk| {
            let mut pipe = redis::pipe();
            for draw in chunk {
                let call = pipe.cmd("EVALSHA").arg(&hash).arg(options.levels);
                for (level, key) in draw.iter().enumerate().take(options.levels) {
                    call.arg(format!("brandos:limit:{{{key:016x}}}:level_{level}:0:{key:032x}"));
                }
                call.arg(1).arg(0);
                for level in figures.iter().take(options.levels) {
                    for figure in level {
                        call.arg(figure);
                    }
                }
            }
            pipe
        })
        .collect();
    let (begun, warm) = (Instant::now(), Duration::from_secs_f64(options.warm));
    let until = warm + Duration::from_secs_f64(options.seconds);
    let pipes = Arc::new(pipes);
    let mut tasks = tokio::task::JoinSet::new();
    // Three pipelines under way: the server never waits for this process.
    for task in 0..3_usize {
        let (pipes, mut connection) = (pipes.clone(), connection.clone());
        tasks.spawn(async move {
            let (mut decided, mut at) = (0_u64, task * pipes.len() / 3);
            while begun.elapsed() < until {
                at = (at + 1) % pipes.len();
                let answers: Vec<Vec<i64>> = pipes[at].query_async(&mut connection).await.expect("the script answers");
                if begun.elapsed() >= warm {
                    decided += answers.len() as u64;
                }
            }
            decided
        });
    }
    let decided: u64 = tasks.join_all().await.into_iter().sum();
    tell(&format!("{decided} {decided} 0 0"));
}

/// A clock that is five seconds ahead.
struct Ahead;

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(SystemClock.now().micros() + 5_000_000)
    }
}

/// One key, as many questions as can be asked. Tells when what was admitted was: by Redis's clock where Redis decided it.
async fn overload(options: &Options, url: &str) {
    let has_lease = options.mode.has_lease();
    let lease = if has_lease { format!("lease = {LEASE}\n") } else { String::new() };
    let rule = format!(
        "[[rule]]\nname = \"all\"\nalgorithm = \"token_bucket\"\nlimit = {LIMIT}\nper = \"1s\"\nburst = {LIMIT}\nwhen_away = \"closed\"\n{lease}"
    );
    let clock: Arc<dyn Clock> = if options.child == 2 { Arc::new(Ahead) } else { Arc::new(SystemClock) };
    let limiter = limiter(&rule, 1_000, clock, url, 25).await;
    let (begun, time) = (Instant::now(), Duration::from_secs_f64(options.warm + options.seconds));
    let histogram = || Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).expect("the bounds are valid");
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..128 {
        let limiter = limiter.clone();
        tasks.spawn(async move {
            let (mut decided, mut last_away_ms, mut admitted_at) = (0_u64, 0_i64, BTreeMap::<i64, u64>::new());
            let (mut shared, mut away) = (histogram(), histogram());
            while begun.elapsed() < time {
                let rules = limiter.rules();
                let asked = Instant::now();
                let decision = limiter.decide_shared(&rules, &Subject::default(), Take::All).await;
                let took_us = asked.elapsed().as_micros().max(1) as u64;
                let now_ms = SystemClock.now().micros() / 1_000;
                decided += 1;
                if matches!(decision.outcome, Outcome::Away { .. }) {
                    last_away_ms = now_ms;
                    away.saturating_record(took_us);
                } else {
                    shared.saturating_record(took_us);
                }
                if decision.admitted() {
                    *admitted_at.entry(if has_lease { now_ms } else { decision.now_us() as i64 / 1_000 }).or_default() += 1;
                }
                // What is decided without Redis would leave nobody else the thread.
                tokio::task::yield_now().await;
            }
            (decided, last_away_ms, admitted_at, shared, away)
        });
    }
    let (mut decided, mut last_away_ms, mut admitted_at, mut shared, mut away) = (0, 0, BTreeMap::new(), histogram(), histogram());
    while let Some(done) = tasks.join_next().await {
        let (count, last, times, s, a) = done.expect("a task does not panic");
        decided += count;
        last_away_ms = last_away_ms.max(last);
        for (ms, count) in times {
            *admitted_at.entry(ms).or_default() += count;
        }
        shared.add(s).expect("equal histograms");
        away.add(a).expect("equal histograms");
    }
    let admitted: u64 = admitted_at.values().sum();
    let figures = [shared.value_at_quantile(0.99), away.value_at_quantile(0.99), away.max()].map(|figure| figure.to_string()).join(" ");
    tell(&format!("{decided} {admitted} {} {figures} {last_away_ms}", limiter.away()));
    tell(&admitted_at.iter().map(|(ms, count)| format!("{ms}:{count}")).collect::<Vec<_>>().join(" "));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fullest_window_is_found() {
        let of = |counts: &[(i64, u64)]| excess(&counts.iter().copied().collect());
        // A burst at once, and then one each millisecond.
        assert_eq!(of(&[(5, 1_001), (6, 1), (7, 1)]), 0);
        assert_eq!(of(&[(5, 1_003), (6, 1)]), 2);
        assert_eq!(of(&[(5, 1_001), (6, 3)]), 2);
        assert_eq!(of(&[(5, 1_001), (105, 100)]), 0, "a hundred are refilled");
        assert_eq!(of(&[(5, 1_001), (105, 104)]), 4);
        assert_eq!(of(&[(5, 1), (9_000, 1_001), (9_001, 2)]), 1);
    }
}
