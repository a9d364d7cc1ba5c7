//! Money is conserved in a storm: many clients transfer, hold, capture, void, reverse and exchange at random while the server is killed at
//! random moments. At every read the sum of each currency is zero and no account is beyond its limit; at the end every acknowledged
//! transaction is there, once, every audit is well, the exported journal verifies offline, and hledger comes to our balances.
//!
//! Seconds unless `BRANDOS_STORM` says `threads,seconds,kills`, such as `64,60,10`.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Sandbox, Server};
use kernel::{Rng as _, SeededRng};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Wallets of each currency: of four one may go 500 below zero, none of the others at all.
const WALLETS: usize = 16;
const CURRENCIES: [&str; 2] = ["EUR", "JPY"];
const ACCOUNTS: &str = "/api/v1/ledger/accounts";

struct Storm {
    threads: u64,
    seconds: u64,
    kills: u64,
}

impl Storm {
    fn of_environment() -> Storm {
        let text = std::env::var("BRANDOS_STORM").unwrap_or_default();
        let numbers: Vec<u64> = text.split(',').filter_map(|n| n.trim().parse().ok()).collect();
        match numbers[..] {
            [threads, seconds, kills] => Storm { threads, seconds, kills },
            _ => Storm { threads: 12, seconds: 4, kills: 3 },
        }
    }
}

/// An account, and how far below zero it may go.
struct Account {
    id: String,
    floor: i64,
}

/// What the clients know of each other's doings.
#[derive(Default)]
struct Done {
    /// Acknowledged transactions: under which number, at which path and with which body.
    acknowledged: HashMap<u64, (String, String, String)>,
    posted: Vec<String>,
    holds: Vec<String>,
}

fn open(server: &Server, key: &str) -> Vec<Vec<Account>> {
    let create = |body: Value| -> String {
        let (status, answer) = server.request("POST", ACCOUNTS, Some(key), &body.to_string());
        assert_eq!(status, 201, "{answer}");
        serde_json::from_str::<Value>(&answer).unwrap()["account_id"].as_str().unwrap().to_owned()
    };
    let of = |currency: &str| {
        create(json!({ "code": format!("conversion:{currency}"), "type": "equity", "currency": currency, "may_go_negative": true }));
        let bank = json!({ "code": format!("bank:{currency}"), "type": "asset", "currency": currency, "may_go_negative": true });
        let mut accounts = vec![Account { id: create(bank), floor: i64::MAX }];
        for n in 0..WALLETS {
            let floor = if n % 4 == 0 { 500 } else { 0 };
            let mut body = json!({ "code": format!("wallet:{currency}:{n}"), "type": "liability", "currency": currency });
            if floor > 0 {
                (body["may_go_negative"], body["negative_limit_minor"]) = (json!(true), json!(floor));
            }
            accounts.push(Account { id: create(body), floor });
        }
        accounts
    };
    CURRENCIES.iter().map(|currency| of(currency)).collect()
}

/// A random operation: its path and body.
fn operation(rng: &SeededRng, accounts: &[Vec<Account>], done: &Mutex<Done>) -> (String, Value) {
    let below = |n: usize| rng.below(n as u64) as usize;
    let currency = below(CURRENCIES.len());
    let from = below(WALLETS + 1);
    let to = (from + 1 + below(WALLETS)) % (WALLETS + 1);
    let (from, to) = (&accounts[currency][from].id, &accounts[currency][to].id);
    let pair = json!({ "debit_account_id": from, "credit_account_id": to, "amount_minor": 1 + below(200) });
    let late = |list: &[String]| (!list.is_empty()).then(|| list[list.len() - 1 - below(list.len().min(60))].clone());
    let (hold, posted) = {
        let done = done.lock().unwrap();
        (late(&done.holds), late(&done.posted))
    };
    let part = if below(2) == 0 { json!({ "amount_minor": 1 + below(90) }) } else { json!({}) };
    match (below(10), hold, posted) {
        (0 | 1, _, _) => {
            let mut hold = pair;
            // Some expire in the storm, others stay.
            hold["expires_at"] = json!(if below(3) == 0 { soon() } else { "2099-01-01T00:00:00Z".to_owned() });
            ("/api/v1/ledger/holds".into(), hold)
        }
        (2 | 3, Some(hold), _) => (format!("/api/v1/ledger/holds/{hold}/capture"), part),
        (4, Some(hold), _) => (format!("/api/v1/ledger/holds/{hold}/void"), json!({})),
        (5, _, Some(posted)) => (format!("/api/v1/ledger/transactions/{posted}/reverse"), part),
        (6, _, _) => {
            let sell = 1 + below(100);
            let (from, to) = (&accounts[0][1 + below(WALLETS)].id, &accounts[1][1 + below(WALLETS)].id);
            let body = json!({ "from_account_id": from, "to_account_id": to, "sell_minor": sell, "buy_minor": sell * 2, "rate": "200" });
            ("/api/v1/ledger/exchanges".into(), body)
        }
        _ => ("/api/v1/ledger/transfers".into(), pair),
    }
}

/// In three seconds, as the wire has it.
fn soon() -> String {
    use kernel::Clock as _;
    kernel::SystemClock.now().plus_ms(3_000).to_string()
}

fn send(server: &Server, key: &str, n: u64, path: &str, body: &str) -> Option<(u16, Value)> {
    let (status, answer) = server.try_request("POST", path, Some(key), &format!("Idempotency-Key: storm-{n}\r\n"), body).ok()??;
    Some((status, serde_json::from_str(&answer).unwrap_or(Value::Null)))
}

fn client(server: &Server, key: &str, accounts: &[Vec<Account>], next: &AtomicU64, stop: &AtomicBool, done: &Mutex<Done>) {
    while !stop.load(Ordering::Relaxed) {
        let n = next.fetch_add(1, Ordering::Relaxed);
        let (path, body) = operation(&SeededRng::new(n), accounts, done);
        let body = body.to_string();
        match send(server, key, n, &path, &body) {
            Some((201, answer)) => {
                let id = answer["transaction_id"].as_str().unwrap().to_owned();
                let mut done = done.lock().unwrap();
                if path.ends_with("/holds") {
                    done.holds.push(id.clone());
                } else if !path.ends_with("/void") && !path.ends_with("/reverse") {
                    done.posted.push(id.clone());
                }
                done.acknowledged.insert(n, (id, path, body));
            }
            // Refused by a guard, or the server is busy or gone.
            Some((400 | 404 | 409 | 503, _)) | None => {}
            Some((status, answer)) => panic!("{path} {body}: {status} {answer}"),
        }
    }
}

/// Reads while it storms: each read alone has to be right. How many reads there were.
fn reader(server: &Server, key: &str, accounts: &[Vec<Account>], stop: &AtomicBool, seed: u64) -> u64 {
    let (rng, mut reads) = (SeededRng::new(seed), 0);
    while !stop.load(Ordering::Relaxed) {
        if let Ok(Some((200, text))) = server.try_request("GET", "/api/v1/ledger/trial-balance", Some(key), "", "") {
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["balanced"], true, "{text}");
            reads += 1;
        }
        let of = &accounts[rng.below(2) as usize];
        let account = &of[1 + rng.below(WALLETS as u64) as usize];
        if let Ok(Some((200, text))) = server.try_request("GET", &format!("{ACCOUNTS}/{}/balance", account.id), Some(key), "", "") {
            let balance: Value = serde_json::from_str(&text).unwrap();
            assert!(balance["available_minor"].as_i64().unwrap() >= -account.floor, "{text} with a limit of {}", account.floor);
            reads += 1;
        }
    }
    reads
}

/// Balances by hledger's names, from the accounts' own pages.
fn our_balances(server: &Server, key: &str) -> BTreeMap<String, String> {
    let get = |path: &str| serde_json::from_str::<Value>(&server.request("GET", path, Some(key), "").1).unwrap();
    let mut balances = BTreeMap::new();
    for account in get(&format!("{ACCOUNTS}?limit=100"))["data"].as_array().unwrap() {
        let (id, code, currency) = (&account["account_id"], account["code"].as_str().unwrap(), account["currency"].as_str().unwrap());
        let posted = get(&format!("{ACCOUNTS}/{}/balance", id.as_str().unwrap()))["posted_minor"].as_i64().unwrap();
        let (root, signed) = match account["type"].as_str().unwrap() {
            "asset" => ("assets", posted),
            "liability" => ("liabilities", -posted),
            _ => ("equity", -posted),
        };
        if signed != 0 {
            let amount = match currency {
                "JPY" => format!("{signed}"),
                _ => format!("{}{}.{:02}", if signed < 0 { "-" } else { "" }, signed.abs() / 100, signed.abs() % 100),
            };
            balances.insert(format!("{root}:{code}"), format!("{amount} {currency}"));
        }
    }
    balances
}

fn hledger(journal: &[u8], arguments: &[&str]) -> Option<String> {
    let run = Command::new("hledger").args(["-f", "-"]).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut run) = run else {
        assert!(std::env::var("CI").is_err(), "hledger is not installed, and this is CI");
        let _ = writeln!(std::io::stderr().lock(), "SKIPPED: hledger is not installed");
        return None;
    };
    run.stdin.take().unwrap().write_all(journal).unwrap();
    let output = run.wait_with_output().unwrap();
    assert!(output.status.success(), "hledger refuses the journal");
    Some(String::from_utf8(output.stdout).unwrap())
}

fn storms(sandbox: &Sandbox) {
    let storm = Storm::of_environment();
    sandbox.run(&["tenant", "create", "storm"]).expect(0);
    let key = sandbox.run(&["api-key", "create", "--tenant", "storm", "--json"]).expect(0).json();
    let key = key["key"].as_str().unwrap();
    let mut server = sandbox.serve(&["serve"]);
    let accounts = open(&server, key);
    let (next, done, rng) = (AtomicU64::new(0), Mutex::new(Done::default()), SeededRng::new(storm.seconds));
    let mut reads = 0;
    for round in 0..=storm.kills {
        if round > 0 {
            server = sandbox.serve(&["serve"]);
        }
        let stop = AtomicBool::new(false);
        let share_ms = storm.seconds * 1_000 / (storm.kills + 1);
        std::thread::scope(|threads| {
            for _ in 0..storm.threads {
                threads.spawn(|| client(&server, key, &accounts, &next, &stop, &done));
            }
            let reader = threads.spawn(|| reader(&server, key, &accounts, &stop, round));
            std::thread::sleep(Duration::from_millis(share_ms / 2 + rng.below(share_ms)));
            if round < storm.kills {
                server.signal("KILL");
            }
            stop.store(true, Ordering::Relaxed);
            reads += reader.join().unwrap();
        });
    }
    let done = done.into_inner().unwrap();
    let acknowledged = done.acknowledged.len();
    assert!(acknowledged as u64 > 20 * storm.seconds && reads > storm.seconds, "{acknowledged} acknowledged, {reads} reads: too few");
    // What was acknowledged is what the key gives again.
    for (n, (id, path, body)) in done.acknowledged.iter().take(200) {
        let (status, answer) = send(&server, key, *n, path, body).unwrap();
        assert_eq!((status, answer["transaction_id"].as_str()), (201, Some(id.as_str())), "{path} {body}: {answer}");
    }
    let ours = our_balances(&server, key);
    assert_eq!(server.stop(), Some(0), "a graceful end");
    let audit = sandbox.run(&["audit", "--json"]).expect(0).json();
    assert_eq!(audit["ok"], true, "{audit}");
    sandbox.run(&["ledger", "verify", "--tenant", "storm"]).expect(0);
    let trial = sandbox.run(&["ledger", "trial-balance", "--tenant", "storm", "--json"]).expect(0).json();
    assert_eq!(trial["balanced"], true, "{trial}");

    let sealed = sandbox.run(&["ledger", "seal", "--tenant", "storm", "--json"]).expect(0).json();
    let (public_key, head) = (sealed["public_key"].as_str().unwrap(), sealed["seal"]["transactions_head"].as_str().unwrap());
    let export = sandbox.command(&["ledger", "export", "--tenant", "storm", "--format", "json"]).output().unwrap();
    assert!(export.status.success());
    let journal = String::from_utf8(export.stdout).unwrap();
    let file = sandbox.write("journal.jsonl", &journal);
    let verify = |file: &std::path::Path| {
        sandbox.run_bare(&["ledger", "verify", file.to_str().unwrap(), "--public-key", public_key, "--head", head, "--json"])
    };
    let report = verify(&file).expect(0).json();
    assert_eq!((&report["ok"], &report["unsealed"]), (&json!(true), &json!(0)), "{report}");
    let lines: Vec<Value> = journal.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let there: HashSet<&str> = lines.iter().filter_map(|line| line["transaction"]["transaction_id"].as_str()).collect();
    assert!(done.acknowledged.values().all(|(id, ..)| there.contains(id.as_str())), "an acknowledged transaction is lost");
    // One amount edited on both sides: sums to zero, and is found.
    let edited = journal.replacen("\"amount_minor\":1", "\"amount_minor\":9", 2);
    let edited = sandbox.write("edited.jsonl", edited);
    let report = verify(&edited).expect(1).json();
    assert_eq!(report["ok"], false, "{report}");

    let export = sandbox.command(&["ledger", "export", "--tenant", "storm"]).output().unwrap();
    let Some(csv) = hledger(&export.stdout, &["balance", "--flat", "--no-total", "--output-format=csv"]) else { return };
    let row = |line: &str| line.trim_matches('"').split_once("\",\"").map(|(name, amount)| (name.to_owned(), amount.replace(". ", " ")));
    let theirs: BTreeMap<String, String> = csv.lines().skip(1).filter_map(row).collect();
    assert_eq!(theirs, ours);
    hledger(&export.stdout, &["check", "--strict"]);
    let _ = writeln!(
        std::io::stderr().lock(),
        "{}: {} sent, {acknowledged} acknowledged, {} recorded, {reads} reads",
        sandbox.engine(),
        next.into_inner(),
        there.len()
    );
}

#[test]
fn money_is_conserved_in_a_storm_on_sqlite() {
    storms(&Sandbox::new());
}

#[test]
fn money_is_conserved_in_a_storm_on_postgres() {
    if let Some(sandbox) = Sandbox::on_postgres() {
        storms(&sandbox);
    }
}
