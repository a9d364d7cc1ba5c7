//! Redis servers for tests.

#![allow(dead_code, reason = "not every test uses all of it")]

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The shared one, from `BRANDOS_TEST_REDIS`; none, with a loud word, when it is missing; a failure in CI.
pub fn redis() -> Option<String> {
    let url = std::env::var("BRANDOS_TEST_REDIS").ok().filter(|url| !url.is_empty());
    if url.is_none() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "BRANDOS_TEST_REDIS is not set");
        eprintln!("SKIPPED: no Redis; eval \"$(cargo xtask engines up)\"");
    }
    url
}

/// A Redis of this test's own, which it may end.
pub struct Server {
    child: Child,
    pub port: u16,
    folder: tempfile::TempDir,
}

impl Server {
    pub fn start() -> Server {
        Server::start_with(&[])
    }

    /// With more arguments.
    pub fn start_with(more: &[&str]) -> Server {
        Server::start_on(free_port(), tempfile::tempdir().unwrap(), more)
    }

    /// A Sentinel of the master on this port, which it calls `limits`.
    pub fn sentinel(master: u16) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("sentinel.conf");
        let text = format!(
            "sentinel monitor limits 127.0.0.1 {master} 2\nsentinel down-after-milliseconds limits 500\nsentinel failover-timeout limits 3000\n"
        );
        std::fs::write(&config, text).unwrap();
        Server::start_on(free_port(), folder, &[config.to_str().unwrap(), "--sentinel"])
    }

    /// Starts it, and waits until it listens.
    fn start_on(port: u16, folder: tempfile::TempDir, more: &[&str]) -> Server {
        let child = Command::new("redis-server")
            .args(more)
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &port.to_string(), "--dir"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server runs");
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(10), "it listens");
            std::thread::sleep(Duration::from_millis(20));
        }
        Server { child, port, folder }
    }

    /// On the same port, as empty as at first, without more arguments.
    pub fn start_again(&mut self) {
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        *self = Server::start_on(self.port, folder, &[]);
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// What it answers to a command of redis-cli.
    pub fn ask(&self, command: &[&str]) -> String {
        let output = Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(command).output().expect("redis-cli runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One that has room for a cluster's bus 10,000 above.
fn free_port() -> u16 {
    loop {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if port < 55_000 && std::net::TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok() {
            return port;
        }
    }
}
