//! Rate limits of three servers with one Redis, over HTTP: what they admit together of more than they can answer, with Redis killed and
//! started again and one server's clock five seconds ahead; what an outage of Redis does to requests; and how soon rules that are changed
//! are in force on all.
//!
//! What is counted is exact on any machine. What takes time is only held to what any machine does; where `BRANDOS_LIMITS_SECONDS` says how
//! many seconds each part takes, the limits are higher and the figures are told, for which `BRANDOS_TEST_BINARY` should be a release.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

mod common;
#[path = "../../platform/traffic/tests/server/mod.rs"]
mod redis;

use common::{Sandbox, Server};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const NODES: usize = 3;
/// Tokens that a node holds by a rule with a lease.
const LEASE: u64 = 50;
/// How far one server's clock is ahead.
const AHEAD_S: i64 = 5;
/// How long anything that comes by itself may take on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(20);

/// One test at a time: each takes all that the machine has.
static MACHINE: Mutex<()> = Mutex::new(());

/// How long a part of a test takes, and what is asked of it.
struct Run {
    seconds: u64,
    /// What the rules let pass in a second.
    limit: u64,
    /// Connections to each server, and requests on their way on each.
    lines: usize,
    depth: usize,
    /// What a rule lets pass that is asked for steadily, and how often each connection asks then: for more than its server's part.
    steady_limit: u64,
    steady_every: Duration,
    /// Whether figures are told.
    is_measured: bool,
}

impl Run {
    fn of_environment() -> Run {
        match std::env::var("BRANDOS_LIMITS_SECONDS").ok().and_then(|text| text.parse().ok()) {
            Some(seconds) => Run {
                seconds,
                limit: 1_000,
                lines: 16,
                depth: 8,
                steady_limit: 300,
                steady_every: Duration::from_millis(5),
                is_measured: true,
            },
            None => Run {
                seconds: 3,
                limit: 60,
                lines: 8,
                depth: 4,
                steady_limit: 30,
                steady_every: Duration::from_millis(20),
                is_measured: false,
            },
        }
    }

    fn tell(&self, what: &str) {
        if self.is_measured {
            eprintln!("{what}");
        }
    }
}

/// Three servers on one database, whose limits are in one Redis.
struct World {
    redis: redis::Server,
    servers: Vec<Server>,
    front: Front,
    /// The file of their rules.
    file: PathBuf,
    sandbox: Sandbox,
}

/// What a client knows of them.
struct Front {
    addresses: Vec<String>,
    key: String,
    path: String,
}

/// A rule about reading an order, for requests that name it in a header.
fn rule(name: &str, algorithm: &str, limit: u64, more: &str) -> String {
    format!(
        "[[rule]]\nname = \"{name}\"\nkey = [\"tenant\", \"route\"]\nalgorithm = \"{algorithm}\"\nlimit = {limit}\nper = \"1s\"\n{more}\n\
         match = {{ route = [\"/api/v1/orders/{{order_id}}\"], header = {{ x-rule = \"{name}\" }} }}\n"
    )
}

impl World {
    /// With these rules on each server; the last one's clock is ahead if that is asked for.
    fn new(rules: &str, is_ahead: bool) -> Option<World> {
        redis::redis()?;
        let sandbox = Sandbox::on_postgres()?;
        let redis = redis::Server::start();
        sandbox.run(&["tenant", "create", "acme"]).expect(0);
        let key = sandbox.run(&["api-key", "create", "--tenant", "acme", "--json"]).expect(0).json();
        let key = key["key"].as_str().unwrap().to_owned();
        let clock = is_ahead.then(|| clock_ahead(&sandbox));
        let file = sandbox.write("rules.toml", rules);
        let start = |node: usize| {
            let mut options = vec![format!("node={node}"), format!("limits.nodes={NODES}"), format!("limits.redis={}", redis.url())];
            options.push(format!("limits.rules={}", file.display()));
            let args: Vec<&str> = std::iter::once("serve").chain(options.iter().flat_map(|option| ["--set", option])).collect();
            let library = clock.as_ref().filter(|_| node + 1 == NODES).and_then(|library| library.to_str());
            sandbox.serve_with(&args, &library.map(|library| ("LD_PRELOAD", library)).into_iter().collect::<Vec<_>>())
        };
        // At once: each of them waits for the database more than it computes.
        let servers: Vec<Server> = std::thread::scope(|scope| {
            let start = &start;
            let started: Vec<_> = (0..NODES).map(|node| scope.spawn(move || start(node))).collect();
            started.into_iter().map(|server| server.join().unwrap()).collect()
        });
        let order = json!({ "currency": "EUR", "country": "NL",
            "lines": [{ "sku": "TEA-1", "description": "Tea", "quantity": 1, "unit_price": "4.95" }] });
        let (status, order) = servers[0].request("POST", "/api/v1/orders", Some(&key), &order.to_string());
        assert_eq!(status, 201, "{order}");
        let order: serde_json::Value = serde_json::from_str(&order).unwrap();
        let path = format!("/api/v1/orders/{}", order["order_id"].as_str().unwrap());
        let address = |server: &Server| server.serving["url"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned();
        let front = Front { addresses: servers.iter().map(address).collect(), key, path };
        Some(World { redis, servers, front, file, sandbox })
    }

    /// Changes the file in one step, so that nobody reads half of it.
    fn write_rules(&self, rules: &str) -> Instant {
        let new = self.sandbox.write("rules-new", rules);
        std::fs::rename(new, &self.file).unwrap();
        Instant::now()
    }

    fn stop(self) {
        for server in self.servers {
            assert_eq!(server.stop(), Some(0));
        }
    }
}

/// A library that a process loads before the system's, and by which its wall clock is ahead.
fn clock_ahead(sandbox: &Sandbox) -> PathBuf {
    let source = format!(
        "#define _GNU_SOURCE\n#include <sys/syscall.h>\n#include <time.h>\n#include <unistd.h>\n\
         int clock_gettime(clockid_t clock, struct timespec *now) {{\n\
         int failed = (int)syscall(SYS_clock_gettime, clock, now);\n\
         if (!failed && clock == CLOCK_REALTIME) now->tv_sec += {AHEAD_S};\n\
         return failed;\n}}\n"
    );
    let (source, library) = (sandbox.write("ahead.c", source), sandbox.path("ahead.so"));
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).output().expect("cc runs");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    library
}

/// The second of the day that a server's answers name.
fn second_of_day(server: &Server) -> i64 {
    let (_, head, _) = server.exchange("GET", "/health/live", None, "", "").unwrap().unwrap();
    let date = head.lines().find_map(|line| line.strip_prefix("date: ")).expect("an answer has a date");
    let time = date.split(' ').nth(4).expect("a date has a time");
    time.split(':').fold(0, |sum, part| sum * 60 + part.parse::<i64>().unwrap())
}

/// An answer, as far as it is about limits.
struct Answer {
    node: usize,
    sent: Instant,
    received: Instant,
    status: u16,
    /// 503 because Redis is away.
    is_away: bool,
    limit: u64,
    remaining: u64,
    /// When all of the quota is there again, in seconds since 1970: of a fixed window, its end by the clock that has decided.
    reset_s: u64,
}

/// A connection that is kept, and the one request that goes over it.
struct Line {
    node: usize,
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    request: Vec<u8>,
}

impl Line {
    fn new(front: &Front, node: usize, rule: &str) -> Line {
        let stream = TcpStream::connect(&front.addresses[node]).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request =
            format!("GET {} HTTP/1.1\r\nHost: limits\r\nAuthorization: Bearer {}\r\nX-Rule: {rule}\r\n\r\n", front.path, front.key);
        Line { node, reader: BufReader::new(stream.try_clone().unwrap()), stream, request: request.into_bytes() }
    }

    /// Sends the request so often at once, and waits for every answer.
    fn ask(&mut self, times: usize, mut each: impl FnMut(Answer)) {
        let sent = Instant::now();
        self.stream.write_all(&self.request.repeat(times)).unwrap();
        for _ in 0..times {
            each(self.answer(sent));
        }
    }

    fn answer(&mut self, sent: Instant) -> Answer {
        let (mut line, mut length) = (String::new(), 0);
        self.reader.read_line(&mut line).unwrap();
        let status = line.get(9..12).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no answer: {line:?}"));
        let mut answer = Answer { node: self.node, sent, received: sent, status, is_away: false, limit: 0, remaining: 0, reset_s: 0 };
        loop {
            line.clear();
            self.reader.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            let number = || value.trim_start().parse().unwrap();
            match name {
                "content-length" => length = number() as usize,
                "x-ratelimit-limit" => answer.limit = number(),
                "x-ratelimit-remaining" => answer.remaining = number(),
                "x-ratelimit-reset" => answer.reset_s = number(),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body).unwrap();
        answer.received = Instant::now();
        answer.is_away = answer.status == 503 && String::from_utf8_lossy(&body).contains("limits.away");
        answer
    }
}

/// What came of many requests.
#[derive(Default)]
struct Tally {
    asked: u64,
    limited: u64,
    away: u64,
    admitted: Vec<Answer>,
}

/// Tells those who ask to stop, also when who tells them panics: a scope waits for all of its threads.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// As many requests as are answered, to all servers at once, while something is done, and for a third of the time after it.
fn overload(run: &Run, front: &Front, rule: &str, meanwhile: impl FnOnce()) -> Tally {
    let (begun, time) = (Instant::now(), Duration::from_secs(run.seconds));
    let (mut whole, is_over) = (Tally::default(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let is_over = &is_over;
        let over = Over(is_over);
        let asking: Vec<_> = (0..NODES * run.lines)
            .map(|n| {
                scope.spawn(move || {
                    let (mut line, mut tally) = (Line::new(front, n % NODES, rule), Tally::default());
                    while !is_over.load(Relaxed) {
                        line.ask(run.depth, |answer| match answer.status {
                            200 => tally.admitted.push(answer),
                            429 => tally.limited += 1,
                            503 if answer.is_away => tally.away += 1,
                            other => panic!("{other} is no answer to {rule}"),
                        });
                        tally.asked += run.depth as u64;
                    }
                    tally
                })
            })
            .collect();
        meanwhile();
        std::thread::sleep((time / 3).max(time.saturating_sub(begun.elapsed())));
        drop(over);
        for tally in asking {
            let tally = tally.join().unwrap();
            whole.asked += tally.asked;
            whole.limited += tally.limited;
            whole.away += tally.away;
            whole.admitted.extend(tally.admitted);
        }
    });
    let seconds = begun.elapsed().as_secs_f64();
    run.tell(&format!(
        "{rule}: {:.0} offered a second, {} admitted of {} in {seconds:.1} s, {} limited, {} while Redis was away",
        whole.asked as f64 / seconds,
        whole.admitted.len(),
        whole.asked,
        whole.limited,
        whole.away
    ));
    whole
}

/// How often each window's tokens were given, by what was left after them.
fn windows(admitted: &[Answer]) -> BTreeMap<u64, Vec<u64>> {
    let mut windows = BTreeMap::<u64, Vec<u64>>::new();
    for answer in admitted {
        windows.entry(answer.reset_s).or_default().push(answer.remaining);
    }
    windows
}

/// Of a fixed window decided by one clock: no window gave a token twice, and so none gave more than it has; and there were no more windows than
/// there was time for. How many the fullest gave.
fn assert_each_token_once(admitted: &[Answer], limit: u64) -> u64 {
    let windows = windows(admitted);
    let ends = windows.keys().next().zip(windows.keys().next_back()).map_or(0, |(first, last)| last - first);
    let took = spans(admitted.iter()).iter().map(|(_, received)| *received).max().unwrap_or_default();
    assert!(ends <= took.as_secs() + 1, "windows by one clock: {:?} in {took:?}", windows.keys());
    let mut fullest = 0;
    for (window, mut left) in windows {
        left.sort_unstable();
        let given = left.len() as u64;
        left.dedup();
        assert_eq!(left.len() as u64, given, "the window that ends at {window} gave a token twice");
        assert!(given <= limit, "{given} in the window that ends at {window}");
        fullest = fullest.max(given);
    }
    fullest
}

/// Nearly all of it passed: what Redis gave out and a server did not wait for is lost.
fn is_reached(passed: u64, limit: u64) -> bool {
    passed * 4 >= limit * 3
}

/// How many more than a bucket has (`limit` at once and in a second) were surely admitted in the fullest of all windows: those that were sent
/// and answered in it. And in those that begin with the first request.
fn most_over(mut admitted: Vec<(Duration, Duration)>, limit: u64) -> (i64, i64) {
    admitted.sort_unstable_by_key(|(_, received)| *received);
    // One beginning in each hundredth of a second is enough: the first that was sent in it.
    let mut begins = BTreeMap::<u128, Duration>::new();
    for (sent, _) in &admitted {
        let first = begins.entry(sent.as_millis() / 10).or_insert(*sent);
        *first = (*first).min(*sent);
    }
    let over = |begin: &Duration| {
        let within = admitted.iter().filter(|(sent, _)| sent >= begin);
        let over = |(n, (_, received)): (usize, &(Duration, Duration))| {
            n as i64 + 1 - (limit as f64 * (1.0 + (*received - *begin).as_secs_f64())).floor() as i64
        };
        within.enumerate().map(over).max().unwrap_or(i64::MIN)
    };
    (begins.values().map(over).max().unwrap_or(i64::MIN), begins.values().next().map_or(i64::MIN, over))
}

#[test]
fn the_fullest_window_is_found() {
    let ms = Duration::from_millis;
    let of = |times: &[(u64, u64)]| most_over(times.iter().map(|(sent, received)| (ms(*sent), ms(*received))).collect(), 2);
    assert_eq!(of(&[(0, 1), (0, 1)]), (0, 0));
    assert_eq!(of(&[(0, 1), (0, 1), (0, 1)]), (1, 1));
    assert_eq!(of(&[(0, 1), (0, 1), (0, 501)]).0, 0, "a third is refilled by then");
    assert_eq!(of(&[(0, 1), (4_000, 4_001), (4_000, 4_001), (4_000, 4_001)]), (1, -1), "the window begins later");
    assert_eq!(of(&[(0, 4_001), (4_000, 4_001), (4_000, 4_001)]).0, 0, "one may have been admitted before");
}

/// The moments between which each was decided, since the first of them was sent.
fn spans<'a>(admitted: impl Iterator<Item = &'a Answer>) -> Vec<(Duration, Duration)> {
    let answers: Vec<&Answer> = admitted.collect();
    let Some(first) = answers.iter().map(|answer| answer.sent).min() else { return Vec::new() };
    answers.iter().map(|answer| (answer.sent - first, answer.received - first)).collect()
}

/// Kills Redis in the middle of a part, and starts it again, empty, when a second that had begun is over. When that was.
fn kill_in_the_middle(run: &Run, redis: &mut redis::Server) -> Instant {
    std::thread::sleep(Duration::from_millis(run.seconds * 1_000 / 3));
    redis.kill();
    std::thread::sleep(Duration::from_millis(1_200));
    let started = Instant::now();
    redis.start_again();
    started
}

#[test]
fn three_servers_admit_together_what_a_rule_says() {
    let _machine = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let run = Run::of_environment();
    let rules = rule("exact", "fixed_window", run.limit, "when_away = \"closed\"")
        + &rule("leased", "token_bucket", run.limit, &format!("burst = {}\nlease = {LEASE}\nwhen_away = \"closed\"", run.limit));
    let Some(mut world) = World::new(&rules, true) else { return };
    let ahead = (second_of_day(&world.servers[NODES - 1]) - second_of_day(&world.servers[0])).rem_euclid(86_400);
    assert!((AHEAD_S - 1..=AHEAD_S + 1).contains(&ahead), "the clock of one server is {ahead} s ahead");
    let held = LEASE as i64 * NODES as i64;

    let exact = overload(&run, &world.front, "exact", || {});
    let fullest = assert_each_token_once(&exact.admitted, run.limit);
    assert!(exact.limited > 0 && is_reached(fullest, run.limit), "the limit is also reached: {fullest} of {}", run.limit);

    let leased = overload(&run, &world.front, "leased", || {});
    let (over, from_first) = most_over(spans(leased.admitted.iter()), run.limit);
    run.tell(&format!("  {over} over in the fullest window, of {held}; {from_first} from the beginning, of 0"));
    assert!(over <= held && from_first <= 0, "{over} over, {from_first} from the beginning");
    let least = run.limit * run.seconds / 2;
    assert!(leased.admitted.len() as u64 > least, "the limit is also reached: {} of {} admitted", leased.admitted.len(), leased.asked);

    let killed = overload(&run, &world.front, "exact", || {
        kill_in_the_middle(&run, &mut world.redis);
    });
    let fullest = assert_each_token_once(&killed.admitted, run.limit);
    assert!(killed.away > 0 && is_reached(fullest, run.limit), "{} refused while Redis was away, {fullest} admitted", killed.away);

    let mut started = Instant::now();
    let killed = overload(&run, &world.front, "leased", || started = kill_in_the_middle(&run, &mut world.redis));
    // It came back empty: the quota begins anew.
    for is_after in [false, true] {
        let (over, _) = most_over(spans(killed.admitted.iter().filter(|answer| (answer.sent >= started) == is_after)), run.limit);
        run.tell(&format!("  {over} over in the fullest window, of {held}"));
        assert!(over <= held, "{over} over");
    }
    let after = killed.admitted.iter().filter(|answer| answer.sent >= started).count();
    assert!(killed.away > 0 && after > 0, "{} refused while Redis was away, {after} admitted after", killed.away);
    world.stop();
}

/// Steady requests under one rule to each server, until told to stop.
fn steadily(front: &Front, rules: &[&'static str], every: Duration, meanwhile: impl FnOnce()) -> BTreeMap<&'static str, Vec<Answer>> {
    let is_over = AtomicBool::new(false);
    let mut all = BTreeMap::<&str, Vec<Answer>>::new();
    std::thread::scope(|scope| {
        let is_over = &is_over;
        let over = Over(is_over);
        let asking: Vec<_> = (0..NODES * rules.len())
            .map(|n| {
                let rule = rules[n / NODES];
                let ask = move || {
                    let (mut line, mut answers, mut due) = (Line::new(front, n % NODES, rule), Vec::new(), Instant::now());
                    while !is_over.load(Relaxed) {
                        std::thread::sleep(due.saturating_duration_since(Instant::now()));
                        due += every;
                        line.ask(1, |answer| answers.push(answer));
                    }
                    answers
                };
                (rule, scope.spawn(ask))
            })
            .collect();
        meanwhile();
        drop(over);
        for (rule, answers) in asking {
            all.entry(rule).or_default().extend(answers.join().unwrap());
        }
    });
    all
}

/// The time within which so many thousandths of the answers came.
fn quantile<'a>(answers: impl Iterator<Item = &'a Answer>, thousandths: usize) -> Duration {
    let mut took: Vec<Duration> = answers.map(|answer| answer.received - answer.sent).collect();
    took.sort_unstable();
    took.get((took.len() * thousandths / 1_000).min(took.len().saturating_sub(1))).copied().unwrap_or_default()
}

#[test]
fn a_redis_that_is_killed_costs_nobody_an_answer() {
    let _machine = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let run = Run::of_environment();
    let (limit, part) = (run.steady_limit, run.steady_limit / NODES as u64);
    let names = ["open", "closed", "local"];
    let rules = names.map(|name| rule(name, "fixed_window", limit, &format!("when_away = \"{name}\""))).concat();
    let Some(mut world) = World::new(&rules, false) else { return };
    let time = Duration::from_secs(run.seconds);
    let (mut killed, mut starting, mut ending) = (Instant::now(), Instant::now(), Instant::now());
    let all = steadily(&world.front, &names, run.steady_every, || {
        std::thread::sleep(time);
        killed = Instant::now();
        world.redis.kill();
        std::thread::sleep(time);
        starting = Instant::now();
        world.redis.start_again();
        std::thread::sleep(Duration::from_secs(2) + time);
        ending = Instant::now();
    });

    // No other answer than these, whatever happens to Redis.
    for (rule, answers) in &all {
        for answer in answers {
            let is_known = matches!(answer.status, 200 | 429) || *rule == "closed" && answer.is_away;
            assert!(is_known, "{rule}: {} {:?} after the kill", answer.status, answer.received.saturating_duration_since(killed));
        }
    }
    // Each does what it says while Redis is away, from when the last server has noticed.
    let noticed = killed + Duration::from_millis(500);
    let of = |rule: &str, from: Instant, until: Instant| {
        all[rule].iter().filter(move |answer| answer.sent >= from && answer.received <= until).collect::<Vec<_>>()
    };
    let [open, closed, local] = names.map(|rule| of(rule, noticed, starting));
    assert!(!open.is_empty() && open.iter().all(|answer| answer.status == 200), "an open rule lets pass");
    assert!(!closed.is_empty() && closed.iter().all(|answer| answer.is_away), "a closed one does not");
    let mut parts = BTreeMap::<(usize, u64), u64>::new();
    for answer in local.iter().filter(|answer| answer.status == 200) {
        *parts.entry((answer.node, answer.reset_s)).or_default() += 1;
        assert_eq!(answer.limit, part);
    }
    assert!(parts.values().all(|passed| *passed <= part), "a local one lets its part pass: {parts:?}");
    assert!((0..NODES).all(|node| parts.iter().any(|((own, _), passed)| *own == node && *passed == part)), "and all of it: {parts:?}");

    // Counted together before, and again soon after.
    let first_back = |node: usize| {
        let after = all["closed"].iter().filter(|answer| answer.node == node && answer.sent >= starting && !answer.is_away);
        after.map(|answer| answer.received).min().expect("each server counts with Redis again")
    };
    let shared_again = (0..NODES).map(first_back).max().unwrap();
    let back = shared_again.saturating_duration_since(starting);
    for (from, until) in [(killed - time, killed), (shared_again, ending)] {
        for rule in names {
            let mut windows = BTreeMap::<u64, u64>::new();
            // What a server decided by itself, as Redis was too slow for once, names no limit, or its part of it.
            for answer in of(rule, from, until).iter().filter(|answer| answer.status == 200 && answer.limit == limit) {
                *windows.entry(answer.reset_s).or_default() += 1;
            }
            // In the first one some may have passed that nobody counted together.
            assert!(windows.values().skip(1).all(|passed| *passed <= limit), "{rule}: {windows:?}");
            assert!(windows.values().any(|passed| is_reached(*passed, limit)), "{rule} is reached: {windows:?}");
        }
    }

    // Nobody waits for a Redis that is away: those that pass are compared with those that passed, and those refused with those refused.
    for rule in names {
        let (before, after) = (of(rule, killed - time, killed), all[rule].iter().filter(|a| a.received > killed && a.sent < starting));
        let alike = |answer: &&Answer| (answer.status == 200) == (rule == "open");
        let times = [before.into_iter().filter(alike).collect::<Vec<_>>(), after.filter(alike).collect()].map(|answers| {
            let at = |thousandths: usize| quantile(answers.iter().copied(), thousandths);
            (answers.len(), at(500), at(990), at(1_000))
        });
        let [(_, _, with, _), (_, _, without, _)] = times;
        let [with_redis, from_the_kill_on] =
            times.map(|(answers, half, most, all)| format!("{answers}: p50 {half:?}, p99 {most:?}, most {all:?}"));
        run.tell(&format!("{rule}: with Redis {with_redis}; from the kill on {from_the_kill_on}"));
        assert!(without < with + Duration::from_secs(1), "{rule}: p99 {without:?} without Redis, {with:?} with");
    }
    run.tell(&format!("shared again {back:?} after Redis was being started"));
    world.stop();
}

#[test]
fn rules_that_are_changed_are_in_force_on_all_servers() {
    let _machine = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let run = Run::of_environment();
    let day = |limit: u64| rule("quota", "fixed_window", limit, "").replace("\"1s\"", "\"30d\"");
    let (first, used) = (100_000, 600);
    let Some(world) = World::new(&day(first), false) else { return };
    let mut lines: Vec<Line> = (0..NODES).map(|node| Line::new(&world.front, node, "quota")).collect();
    let mut asked = 0;
    // Where Redis was too slow for once nothing is counted, and no limit is named.
    let (mut counted, begun) = (0, Instant::now());
    while counted < used {
        assert!(begun.elapsed() < PATIENCE, "{counted} of {used} are counted");
        for line in &mut lines {
            line.ask(50, |answer| counted += u64::from(answer.limit == first));
            asked += 50;
        }
    }
    // Twice as much, half as much, and so on.
    let changes = if run.is_measured { 20 * run.seconds } else { 4 };
    let mut took = Vec::new();
    for change in 0..changes {
        let limit = if change.is_multiple_of(2) { 2 * first } else { first };
        let changed = world.write_rules(&day(limit));
        let mut left = [0; NODES];
        std::thread::scope(|scope| {
            let asking: Vec<_> = lines
                .iter_mut()
                .map(|line| {
                    scope.spawn(move || {
                        let (mut asked, mut found) = (0, None);
                        while found.is_none() {
                            line.ask(1, |answer| {
                                assert_eq!(answer.status, 200);
                                found = (answer.limit == limit).then_some((answer.received, answer.remaining));
                            });
                            asked += 1;
                            assert!(changed.elapsed() < PATIENCE, "server {} has other rules", line.node);
                            std::thread::sleep(Duration::from_millis(1));
                        }
                        (asked, found.unwrap())
                    })
                })
                .collect();
            for (node, asking) in asking.into_iter().enumerate() {
                let (own, (received, remaining)) = asking.join().unwrap();
                asked += own;
                left[node] = remaining;
                took.push(received.saturating_duration_since(changed));
            }
        });
        // What was counted counts, as the same share. Servers that don't agree yet convert it to and fro, and round up.
        let share = limit / first;
        for left in left {
            let counted = limit - left;
            assert!(counted >= share * used, "{counted} of {limit} are counted");
            assert!(counted <= share * 3 * asked, "{counted} of {limit} are counted after {asked} requests");
        }
    }
    took.sort_unstable();
    let (half, most) = (took[took.len() / 2], took[took.len() - 1]);
    run.tell(&format!("in force: half within {half:?}, all within {most:?}, {} times", took.len()));
    world.stop();
}
