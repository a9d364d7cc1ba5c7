//! Two nodes on a PostgreSQL with a replica that lags: whoever sends the position of an answer along reads nothing older on the other
//! node, and who wrote on a node reads its own writes there without one.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

mod common;

use common::{Sandbox, Server, sql};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};

const REPLICA: &str = "BRANDOS_TEST_POSTGRES_REPLICA";
/// One test at a time uses the replica, whichever process it runs in; the store's own tests take the same lock.
const LOCK: i64 = 0x7265_706c;

/// Holds the lock, and lets the replica go on at the end.
struct Held {
    replica: String,
    psql: Child,
}

impl Held {
    fn take(replica: &str) -> Held {
        let server = std::env::var(common::POSTGRES).unwrap();
        let arguments = [server.as_str(), "--quiet", "--no-psqlrc", "--tuples-only", "--no-align"];
        let mut psql = Command::new("psql").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        writeln!(psql.stdin.as_mut().unwrap(), "SELECT pg_advisory_lock({LOCK}); SELECT 'held';").unwrap();
        let held = BufReader::new(psql.stdout.take().unwrap()).lines().map_while(Result::ok).any(|line| line == "held");
        assert!(held, "the lock is not to be had");
        let held = Held { replica: replica.to_owned(), psql };
        held.say("SELECT pg_wal_replay_resume()");
        held
    }

    fn say(&self, statement: &str) {
        sql(&self.replica, &[statement.to_owned()]);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = std::panic::catch_unwind(|| self.say("SELECT pg_wal_replay_resume()"));
        let _ = self.psql.kill();
        let _ = self.psql.wait();
    }
}

fn place(server: &Server, key: &str, headers: &str) -> (String, String) {
    let body = json!({ "currency": "EUR", "country": "NL", "lines": [{ "sku": "TEA-1", "description": "Tea", "quantity": 1, "unit_price": "4.955" }] });
    let answer = server.exchange("POST", "/api/v1/orders", Some(key), headers, &body.to_string()).unwrap();
    let (status, head, body) = answer.unwrap();
    assert_eq!(status, 201, "{body}");
    let order: Value = serde_json::from_str(&body).unwrap();
    (order["order_id"].as_str().unwrap().to_owned(), position(&head))
}

fn position(head: &str) -> String {
    let position = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("brandos-position: ").map(str::to_owned));
    position.unwrap_or_else(|| panic!("no position in {head}"))
}

#[test]
fn a_position_carries_what_was_seen_from_node_to_node() {
    let Some(sandbox) = Sandbox::on_postgres() else { return };
    let Ok(replica) = std::env::var(REPLICA) else {
        assert!(std::env::var("CI").is_err(), "{REPLICA} is not set: in CI a test without a replica is a failure");
        eprintln!("SKIPPED with a replica: {REPLICA} is not set (cargo xtask engines up prints it)");
        return;
    };
    let held = Held::take(&replica);
    sandbox.run(&["tenant", "create", "acme"]).expect(0);
    let key = sandbox.run(&["api-key", "create", "--tenant", "acme", "--json"]).expect(0).json();
    let key = key["key"].as_str().unwrap();
    let replicas = format!("replicas={}", sandbox.database_at(&replica));
    let (one, two) = (sandbox.serve(&["serve", "--set", &replicas]), sandbox.serve(&["serve", "--set", &replicas, "--set", "node=1"]));
    let get = |server: &Server, path: &str, headers: &str| server.request_with("GET", path, Some(key), headers, "");

    // While the replica keeps up, it answers.
    let (order, seen_at) = place(&one, key, "");
    let seen = format!("BrandOS-Position: {seen_at}\r\n");
    let path = format!("/api/v1/orders/{order}");
    let served = |server: &Server, how: &str| -> u64 {
        let metrics = server.get("/metrics").1;
        let line = metrics
            .lines()
            .find_map(|l| l.strip_prefix(&format!("store_replica_reads_total{{shard=\"0\",served=\"{how}\"}} ")).map(str::to_owned));
        line.unwrap().parse().unwrap()
    };
    let answers = (0..200).any(|_| {
        assert_eq!(get(&two, &path, &seen).0, 200);
        std::thread::sleep(std::time::Duration::from_millis(20));
        served(&two, "replica") > 0
    });
    assert!(answers, "the replica was never asked");

    held.say("SELECT pg_wal_replay_pause()");
    let mut last = seen_at;
    for n in 0..20 {
        let (order, made_at) = place(&one, key, &format!("BrandOS-Position: {last}\r\n"));
        let path = format!("/api/v1/orders/{order}");
        assert_eq!(get(&one, &path, "").0, 200, "its own write, {n}");
        let seen = format!("BrandOS-Position: {made_at}\r\n");
        assert_eq!(get(&two, &path, &seen).0, 200, "with its position {made_at}, {n}");
        let (status, list) = get(&two, "/api/v1/orders?limit=1", &seen);
        assert!(status == 200 && list.contains(&order), "{n}: {list}");
        // A write on the other node never tells of less than what its caller had seen.
        last = place(&two, key, &seen).1;
        assert_eq!(get(&one, &path, &format!("BrandOS-Position: {last}\r\n")).0, 200);
    }
    assert!(served(&two, "primary_lag") > 0);

    // A refusal may rest on what another has written: it tells a position, too.
    let (status, head, _) = two.exchange("POST", "/api/v1/orders", Some(key), "", "{}").unwrap().unwrap();
    assert_eq!((status, get(&one, &path, &format!("BrandOS-Position: {}\r\n", position(&head))).0), (400, 200));

    let (status, problem) = get(&two, &path, "BrandOS-Position: 0-1-FF\r\n");
    assert!(status == 400 && problem.contains("BrandOS-Position"), "{status} {problem}");
    assert_eq!((one.stop(), two.stop()), (Some(0), Some(0)));
    drop(held);
    assert_eq!(sandbox.run(&["audit", "--json"]).expect(0).json()["ok"], true);
}
