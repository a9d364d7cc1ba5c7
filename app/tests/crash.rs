//! `kill -9` under load, then an audit: every acknowledged order is there, none twice, and the projection equals a recount.
//!
//! `BRANDOS_CRASH_ROUNDS` sets how often the server is killed on each engine; a few times unless it is set.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const CLIENTS: usize = 8;

/// Where the node keeps its data.
struct Place {
    folder: tempfile::TempDir,
    database: Option<String>,
}

impl Place {
    fn sqlite() -> Place {
        Place { folder: tempfile::tempdir().expect("a folder"), database: None }
    }

    fn postgres() -> Option<Place> {
        let Ok(url) = std::env::var("BRANDOS_TEST_POSTGRES") else {
            assert!(std::env::var("CI").is_err(), "BRANDOS_TEST_POSTGRES is not set: PostgreSQL is missing");
            eprintln!("SKIPPED on PostgreSQL: BRANDOS_TEST_POSTGRES is not set");
            return None;
        };
        let name = format!("crash_test_{}", std::process::id());
        psql(&url, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
        psql(&url, &format!("CREATE DATABASE {name}"));
        let (base, _) = url.rsplit_once('/').expect("a URL with a database");
        Some(Place { folder: tempfile::tempdir().expect("a folder"), database: Some(format!("{base}/{name}")) })
    }

    /// `brandos` with this place's data.
    fn brandos(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_brandos"));
        command.args(arguments).arg("--data").arg(self.folder.path()).stdin(Stdio::null());
        if let Some(url) = &self.database {
            command.args(["--database", url]);
        }
        command
    }

    /// Runs it to its end and gives the object on its last line.
    fn answer(&self, arguments: &[&str]) -> serde_json::Value {
        let output = self.brandos(arguments).arg("--json").output().expect("brandos runs");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_str(text.lines().last().expect("a line")).expect("JSON")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let (Some(url), Ok(admin)) = (&self.database, std::env::var("BRANDOS_TEST_POSTGRES")) {
            let name = url.rsplit_once('/').expect("a database").1;
            psql(&admin, &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
        }
    }
}

fn psql(url: &str, statement: &str) {
    let done = Command::new("psql").args([url, "-qc", statement]).stderr(Stdio::null()).status().expect("psql runs");
    assert!(done.success(), "{statement}");
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port()
}

fn serve(place: &Place, port: u16, log: &Path) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log).expect("a log file");
    let mut server = place
        .brandos(&["serve", "--listen", &format!("127.0.0.1:{port}")])
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("the server starts");
    let until = Instant::now() + Duration::from_secs(30);
    while ask(port, "GET", "/health/ready", "", "", "").is_none_or(|(status, _)| status != 200) {
        assert!(Instant::now() < until, "the server becomes ready");
        assert!(server.try_wait().expect("asked").is_none(), "the server runs");
        std::thread::sleep(Duration::from_millis(20));
    }
    server
}

/// One request on a connection of its own. None when the server is gone before it has answered.
fn ask(port: u16, method: &str, path: &str, token: &str, key: &str, body: &str) -> Option<(u16, serde_json::Value)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    let authorization = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    let key = if key.is_empty() { String::new() } else { format!("Idempotency-Key: {key}\r\n") };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{authorization}{key}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let status = line.split(' ').nth(1)?.parse().ok()?;
    let mut length = 0;
    loop {
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((status, serde_json::from_slice(&body).unwrap_or(serde_json::Value::Null)))
}

fn order(n: u64) -> String {
    let quantity = 1 + n % 7;
    format!(
        r#"{{"currency":"EUR","country":"NL","lines":[{{"sku":"TEA-{}","description":"Tea","quantity":{quantity},"unit_price":"4.955","tax_minor":10}},{{"sku":"CUP-1","description":"Cup","quantity":1,"unit_price":"12.25"}}]}}"#,
        n % 5
    )
}

fn place_order(port: u16, token: &str, n: u64) -> Option<(u16, serde_json::Value)> {
    ask(port, "POST", "/api/v1/orders", token, &format!("crash-{n}"), &order(n))
}

/// Sends orders until told to stop; writes down which were acknowledged, with the id and the number that were given.
fn client(port: u16, token: &str, next: &AtomicU64, stop: &AtomicBool, acknowledged: &Mutex<HashMap<u64, (String, i64)>>) {
    while !stop.load(Ordering::Relaxed) {
        let n = next.fetch_add(1, Ordering::Relaxed);
        match place_order(port, token, n) {
            Some((201, body)) => {
                let given = (body["order_id"].as_str().expect("an id").to_owned(), body["number"].as_i64().expect("a number"));
                acknowledged.lock().expect("unpoisoned").insert(n, given);
            }
            Some((503, _)) | None => {}
            Some((status, body)) => panic!("order {n}: {status} {body}"),
        }
    }
}

fn rounds() -> u64 {
    std::env::var("BRANDOS_CRASH_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(4)
}

fn killed_again_and_again(place: &Place) {
    place.answer(&["tenant", "create", "crash"]);
    let key = place.answer(&["api-key", "create", "--tenant", "crash"]);
    let token = key["key"].as_str().expect("a key").to_owned();
    let log = place.folder.path().join("server.log");
    let next = Arc::new(AtomicU64::new(0));
    let acknowledged = Arc::new(Mutex::new(HashMap::new()));
    for round in 0..rounds() {
        let port = free_port();
        let mut server = serve(place, port, &log);
        let stop = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (token, next, stop, acknowledged) = (token.clone(), next.clone(), stop.clone(), acknowledged.clone());
                std::thread::spawn(move || client(port, &token, &next, &stop, &acknowledged))
            })
            .collect();
        // A different moment each time: now in the middle of a group, now while a consumer moves on.
        std::thread::sleep(Duration::from_millis(150 + round * 7_919 % 450));
        server.kill().expect("killed with SIGKILL");
        server.wait().expect("gone");
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().expect("a client does not panic");
        }
    }
    let port = free_port();
    let mut server = serve(place, port, &log);
    let (sent, acknowledged) = (next.load(Ordering::Relaxed), acknowledged.lock().expect("unpoisoned"));
    assert!(acknowledged.len() as u64 > rounds() * 5, "{} of {sent} acknowledged: too few to tell anything", acknowledged.len());
    let mut numbers = HashMap::new();
    for n in 0..sent {
        // Asked again, an order that was acknowledged is the same one, and one whose answer was lost is placed now or was placed then.
        let (status, body) = place_order(port, &token, n).expect("answered");
        assert_eq!(status, 201, "{body}");
        let (id, number) = (body["order_id"].as_str().expect("an id").to_owned(), body["number"].as_i64().expect("a number"));
        if let Some(given) = acknowledged.get(&n) {
            assert_eq!(given, &(id.clone(), number), "order {n} was acknowledged");
        }
        assert_eq!(numbers.insert(number, id), None, "number {number} was given twice");
    }
    // Each is there once, and nothing else is.
    let (mut count, mut cursor) = (0, String::new());
    loop {
        let (status, page) = ask(port, "GET", &format!("/api/v1/orders?limit=100{cursor}"), &token, "", "").expect("answered");
        assert_eq!(status, 200, "{page}");
        count += page["data"].as_array().expect("a list").len() as u64;
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(count, sent, "each order once");
    // SIGTERM finishes what is in flight.
    let stopped = Command::new("kill").arg(server.id().to_string()).status().expect("kill runs");
    assert!(stopped.success());
    assert!(server.wait().expect("ended").success(), "a graceful end");
    let audit = place.answer(&["audit"]);
    assert_eq!(audit["ok"], true, "{audit}");
}

#[test]
fn sqlite_survives_kill_9() {
    killed_again_and_again(&Place::sqlite());
}

#[test]
fn postgres_survives_kill_9() {
    if let Some(place) = Place::postgres() {
        killed_again_and_again(&place);
    }
}
