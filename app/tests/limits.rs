//! Rate limits of three server processes that share a Redis: what they let pass together, and what they do when Redis is killed.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

mod common;

use common::{Sandbox, Server};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// What passes at once, and in a second.
const BURST: f64 = 50.0;
const RATE: f64 = 100.0;

/// A Redis of this test's own, which it may end; none, said loudly, where there are no test engines. In CI that is a failure.
struct Redis {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Redis {
    fn new() -> Option<Redis> {
        if std::env::var("BRANDOS_TEST_REDIS").is_ok_and(|url| !url.is_empty()) {
            let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            return Some(Redis::start(port, tempfile::tempdir().unwrap()));
        }
        assert!(std::env::var("CI").is_err(), "BRANDOS_TEST_REDIS is not set: in CI a test without Redis is a failure");
        eprintln!("SKIPPED: BRANDOS_TEST_REDIS is not set (cargo xtask engines up prints it)");
        None
    }

    fn start(port: u16, folder: tempfile::TempDir) -> Redis {
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &port.to_string(), "--dir"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server runs");
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(10), "it listens");
            std::thread::sleep(Duration::from_millis(20));
        }
        Redis { child, port, folder }
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn start_again(mut self) -> Redis {
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        Redis::start(self.port, folder)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A connection that is kept.
struct Client(BufReader<TcpStream>);

impl Client {
    fn of(server: &Server) -> Client {
        let url = server.serving["url"].as_str().unwrap();
        let stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_nodelay(true).unwrap();
        Client(BufReader::new(stream))
    }

    /// The status of an answer to a request that the limits let pass and that is then refused for want of a credential.
    fn ask(&mut self) -> u16 {
        self.0.get_mut().write_all(b"GET /api/v1/me HTTP/1.1\r\nHost: limits.example\r\n\r\n").unwrap();
        let (mut status, mut length, mut line) = (0, 0, String::new());
        loop {
            line.clear();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the server closed the connection");
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
                status = rest[..3].parse().unwrap();
            }
            if let Some((name, value)) = line.split_once(": ")
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.parse().unwrap();
            }
        }
        self.0.read_exact(&mut vec![0; length]).unwrap();
        status
    }
}

/// Three servers with the one rule, whose state is in this Redis.
fn servers(redis: &Redis, more: &str) -> Vec<(Server, Sandbox)> {
    let rules = format!(
        "[[rule]]\nname = \"all\"\nalgorithm = \"token_bucket\"\nlimit = {RATE}\nper = \"1s\"\nburst = {BURST}\nwhen_away = \"closed\"\n{more}"
    );
    let serve = || {
        let sandbox = Sandbox::new();
        let file = sandbox.write("rules.toml", &rules);
        let (rules, redis) = (format!("limits.rules={}", file.display()), format!("limits.redis=redis://127.0.0.1:{}/", redis.port));
        (sandbox.serve(&["serve", "--set", &rules, "--set", &redis]), sandbox)
    };
    vec![serve(), serve(), serve()]
}

/// Asks all of them as often as they answer until told to stop: how often each status came, and the longest wait for one.
fn ask_all(servers: &[(Server, Sandbox)], mut meanwhile: impl FnMut()) -> (BTreeMap<u16, u32>, f64) {
    let (stop, begun) = (AtomicBool::new(false), Instant::now());
    let mut all = BTreeMap::new();
    std::thread::scope(|scope| {
        let clients: Vec<_> = servers
            .iter()
            .map(|(server, _)| {
                let stop = &stop;
                scope.spawn(move || {
                    let (mut client, mut statuses) = (Client::of(server), BTreeMap::<u16, u32>::new());
                    while !stop.load(SeqCst) {
                        *statuses.entry(client.ask()).or_default() += 1;
                    }
                    statuses
                })
            })
            .collect();
        meanwhile();
        stop.store(true, SeqCst);
        for client in clients {
            for (status, count) in client.join().unwrap() {
                *all.entry(status).or_default() += count;
            }
        }
    });
    (all, begun.elapsed().as_secs_f64())
}

#[test]
fn three_servers_let_pass_together_what_the_rule_says() {
    for (more, lent) in [("", 0.0), ("lease = 20\n", 3.0 * 20.0)] {
        let Some(redis) = Redis::new() else { return };
        let servers = servers(&redis, more);
        let (statuses, seconds) = ask_all(&servers, || std::thread::sleep(Duration::from_secs(3)));
        let of = |status| f64::from(statuses.get(&status).copied().unwrap_or(0));
        let most = BURST + RATE * seconds + lent;
        assert!(of(401) <= most, "{more}: {statuses:?}, at most {most}");
        assert!(of(401) >= (BURST + RATE * seconds) * 0.6, "{more}: {statuses:?} of {most}: the limit is also reached");
        assert!(of(429) > of(401), "{more}: more was asked for than may pass: {statuses:?}");
        assert!(statuses.keys().all(|status| [401, 429, 503].contains(status)), "{more}: {statuses:?}");
    }
}

#[test]
fn a_redis_that_is_killed_closes_the_rule_and_nothing_else() {
    let Some(mut redis) = Redis::new() else { return };
    let servers = servers(&redis, "");
    let (statuses, _) = ask_all(&servers, || {
        std::thread::sleep(Duration::from_millis(500));
        redis.kill();
        std::thread::sleep(Duration::from_millis(500));
    });
    assert!(statuses.get(&503).is_some_and(|count| *count > 10), "{statuses:?}");
    assert!(statuses.keys().all(|status| [401, 429, 503].contains(status)), "{statuses:?}");
    let mut clients: Vec<Client> = servers.iter().map(|(server, _)| Client::of(server)).collect();
    assert!(clients.iter_mut().all(|client| client.ask() == 503));
    // What needs no limit works as before.
    assert!(servers.iter().all(|(server, _)| server.get("/health/live").0 == 200));
    let _redis = redis.start_again();
    let begun = Instant::now();
    for client in &mut clients {
        while client.ask() == 503 {
            // Twice what is promised, because the machine may be busy with other tests.
            assert!(begun.elapsed() < Duration::from_secs(4), "the limits are shared again");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
