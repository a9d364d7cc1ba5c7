//! `brandos import online-retail`, black box: known answers, twice the same, killed and resumed, on each engine.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

mod common;

use common::{HEADER, Sandbox, assert_holds, generated, real_file};
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

fn import(sandbox: &Sandbox, file: &Path) -> Value {
    let ended = sandbox.run(&["import", "online-retail", file.to_str().unwrap(), "--tenant", "acme", "--json"]);
    ended.expect(0).json()
}

fn audit(sandbox: &Sandbox) {
    let report = sandbox.run(&["audit", "--json"]).expect(0).json();
    assert_eq!(report["ok"], json!(true), "{report}");
    let names: Vec<&str> = report["checks"].as_array().unwrap().iter().filter_map(|check| check["name"].as_str()).collect();
    for name in [
        "log.caught_up",
        "orders.totals_add_up",
        "orders.daily_sales_recounted",
        "catalog.skus_unique",
        "inventory.levels_are_sums_of_movements",
        "flows.orders_payments_and_books_agree",
        "imports.trade_is_paid",
    ] {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// Whatever the prices and whatever was killed: no order is unpaid, and what is on the shelf is what came in less what went out.
fn settled(answer: &Value) {
    assert_eq!(answer["payments"]["kept"], answer["rounded_total"], "{answer}");
    let units = |name: &str| answer["stock"][name].as_i64().unwrap();
    assert_eq!(units("on_hand"), units("received") + units("returned") - units("sold") - units("written_off"), "{answer}");
    assert_eq!(units("received") % 144, 0, "{answer}");
}

/// The level after each movement of each item, in the order in which they were booked, was never below zero.
fn never_below_zero(sandbox: &Sandbox) {
    let lowest = "SELECT COALESCE(MIN(level), 0) FROM (
      SELECT SUM(on_hand) OVER (PARTITION BY tenant_id, item_id, location_id ORDER BY movement_id) AS level FROM inventory_movements) AS levels";
    sandbox.assert_in_database(&format!("({lowest}) >= 0"));
    if let Some(lowest) = sandbox.ask_embedded(lowest) {
        assert!(lowest >= 0, "a level was {lowest} once");
    }
}

const SAMPLE: &str = "\
536365,85123A,WHITE HANGING HEART,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom
C536379,D,Discount,-1,2010-12-01 09:41:00,27.505,14527.0,United Kingdom
536365,85123a,,-2,2010-12-01 08:27:00,0.0,17850.0,United Kingdom
536366,POST,\"POSTAGE, EXPRESS\",3,2010-12-02 10:00:00,0.125,,EIRE
A563185,B,Adjust bad debt,1,2011-08-12 14:50:00,-11062.06,,United Kingdom
";

#[test]
fn a_sample_gives_the_known_answers_and_twice_the_same() {
    for sandbox in Sandbox::each_engine() {
        let file = sandbox.write("sample.csv", format!("{HEADER}{SAMPLE}"));
        let expected = json!({
            "lines": 5, "invoices": 4, "orders": 2, "credit_notes": 1, "adjustments": 1,
            "stock_codes": 5, "customers": 2, "countries": 2,
            // 15.30 + 0.375 - 27.505 - 11062.06; rounded: 15.30 + 0.38 - 27.51 - 11062.06
            "extended_total": "-11073.89", "rounded_total": "-11073.89",
            "by_country": { "United Kingdom": "-11074.265", "EIRE": "0.375" },
            // Deliveries come in whole gross: for the six, for what was lost of the other, and for the three. The discount came back.
            "stock": { "items": 4, "received": 432, "sold": 9, "written_off": 2, "returned": 1, "on_hand": 422 },
            // Two orders; a credit note and an adjustment.
            "payments": { "records": 4, "taken": "15.68", "given_back": "11089.57", "kept": "-11073.89" },
        });
        let first = import(&sandbox, &file);
        assert_holds(&first, &expected);
        let odd = &first["odd"];
        for (name, count) in [
            ("lines_without_customer", 2),
            ("lines_without_description", 1),
            ("adjustment_lines", 1),
            ("zero_prices", 1),
            ("negative_prices", 1),
            ("interrupted_invoices", 1),
            ("invoices_with_several_times", 1),
            ("fine_prices", 2),
        ] {
            assert_eq!(odd[name], json!(count), "{name} of {odd} on {}", sandbox.engine());
        }
        audit(&sandbox);
        // The planner knows at once: -1 is what a table has that nobody has looked at.
        sandbox.assert_in_database("(SELECT reltuples FROM pg_class WHERE relname = 'orders_orders') = 2");

        let second = import(&sandbox, &file);
        assert_holds(&second, &expected);
        assert_eq!((&second["this_run"]["orders"], &second["this_run"]["lines"]), (&json!(0), &json!(0)));
        audit(&sandbox);
    }
}

#[test]
fn the_same_invoices_in_another_file_are_not_taken_again() {
    let sandbox = Sandbox::new();
    let (text, expected) = generated(300);
    let body = text.strip_prefix(HEADER).unwrap();
    let half: String = body.lines().take(400).map(|line| format!("{line}\n")).collect();
    // The last invoice of the half is cut short there, so it must not be among those that are compared: end it at an invoice's end.
    let last = half.lines().last().unwrap().split(',').next().unwrap().to_owned();
    let half: String = half.lines().filter(|line| line.split(',').next() != Some(&last)).map(|line| format!("{line}\n")).collect();
    import(&sandbox, &sandbox.write("half.csv", format!("{HEADER}{half}")));
    // The rest comes in a compressed file that repeats the half.
    let whole = import(&sandbox, &sandbox.write("whole.csv.gz", gzip(&text)));
    assert_holds(&whole, &expected);
    let there = whole["this_run"]["already_there"].as_u64().unwrap();
    assert!(there > 0 && there < 300, "{whole}");
    audit(&sandbox);
}

#[test]
fn a_bad_file_is_refused_with_its_line() {
    let sandbox = Sandbox::new();
    let table = [
        (format!("{HEADER}1,a,X,six,2010-12-01 08:26:00,2.55,1.0,UK\n"), 2, "line 2: Quantity must be a whole number"),
        ("a,b,c\n1,2,3\n".to_owned(), 2, "the first line must be InvoiceNo,"),
        (format!("{HEADER}1,a,X,6,2010-12-01 08:26:00,2.55,1.0\n"), 2, "line 2: has 7 fields instead of 8"),
    ];
    for (text, code, expected) in table {
        let file = sandbox.write("bad.csv", text);
        let ended = sandbox.run(&["import", "online-retail", file.to_str().unwrap(), "--tenant", "acme"]).expect(code);
        assert!(ended.stderr.contains(expected), "{expected:?} is not in {}", ended.stderr);
    }
    let ended = sandbox.run(&["import", "online-retail", "missing.csv", "--tenant", "acme", "--json"]).expect(2);
    assert_eq!(ended.json()["error"]["code"], json!("cli.file"));
}

/// Kills an import with -9 after a while, `rounds` times, then lets it finish.
fn killed_and_resumed(sandbox: &Sandbox, file: &Path, rounds: u64, longest_ms: u64) -> Value {
    // Repeatable spread: the rounds fall all over the import.
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for round in 0..rounds {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let pause = Duration::from_millis(20 + (state >> 33) % longest_ms);
        let mut command = sandbox.command(&["import", "online-retail", file.to_str().unwrap(), "--tenant", "acme", "--json"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(pause);
        child.kill().unwrap();
        let ended = child.wait().unwrap();
        eprintln!("round {round} on {}: {ended} after {pause:?}", sandbox.engine());
    }
    import(sandbox, file)
}

#[test]
fn killed_at_any_moment_and_resumed_it_gives_the_same_answers() {
    let (text, expected) = generated(10_000);
    for sandbox in Sandbox::each_engine() {
        let file = sandbox.write("generated.csv.gz", gzip(&text));
        // Somewhere else, and at once: what is booked does not depend on where it broke off.
        let at_once = if sandbox.engine() == "SQLite" { Sandbox::new() } else { Sandbox::on_postgres().unwrap() };
        let undisturbed = import(&at_once, &file);
        let answer = killed_and_resumed(&sandbox, &file, 5, 1_500);
        assert_holds(&answer, &expected);
        assert_eq!((&answer["stock"], &answer["payments"]), (&undisturbed["stock"], &undisturbed["payments"]));
        settled(&answer);
        never_below_zero(&sandbox);
        audit(&sandbox);
    }
}

fn known_answers() -> Value {
    json!({
        "lines": 541_909, "invoices": 25_900, "orders": 22_061, "credit_notes": 3_836, "adjustments": 3,
        "stock_codes": 4_070, "customers": 4_372, "countries": 38,
        "extended_total": "9747747.934", "rounded_total": "9747747.93",
        "orders_total": "10655622.484", "credit_notes_total": "-896812.49", "adjustments_total": "-11062.06",
        // Worked out from the file by another program, by the same rules.
        "stock": {
            "items": 4_069, "received": 6_089_616, "sold": 5_660_978, "written_off": 206_957, "returned": 277_574, "on_hand": 499_255,
        },
        "payments": { "records": 23_798, "taken": "10666684.54", "given_back": "918936.61", "kept": "9747747.93" },
    })
}

#[test]
fn a_real_year_of_trade_gives_the_known_answers() {
    let Some(file) = real_file() else { return };
    for sandbox in Sandbox::each_engine() {
        let answer = import(&sandbox, &file);
        assert_holds(&answer, &known_answers());
        let countries = json!({ "United Kingdom": "8187806.364", "Netherlands": "284661.54", "EIRE": "263276.82" });
        assert_holds(&answer["by_country"], &countries);
        settled(&answer);
        never_below_zero(&sandbox);
        audit(&sandbox);
        let second = import(&sandbox, &file);
        assert_holds(&second, &known_answers());
        assert_eq!(second["this_run"]["lines"], json!(0));
        audit(&sandbox);
    }
}

/// Twenty rounds on the real file: `cargo test -p brandos --release -- --ignored`.
#[test]
#[ignore = "takes minutes"]
fn a_real_year_killed_twenty_times_gives_the_known_answers() {
    let Some(file) = real_file() else { return };
    for sandbox in Sandbox::each_engine() {
        let answer = killed_and_resumed(&sandbox, &file, 20, 6_000);
        assert_holds(&answer, &known_answers());
        settled(&answer);
        never_below_zero(&sandbox);
        audit(&sandbox);
    }
}
