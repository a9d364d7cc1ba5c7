//! Reconciliation: a real day of the sandbox provider, and a made-up one with every kind of difference.

use super::world::{World, policies, setup};
use crate::model::{IntentId, OperationId};
use crate::reconcile::{Format, Source, reconcile};
use bytes::Bytes;
use sandbox::GeneratedDay;
use serde_json::{Value, json};
use std::sync::Arc;
use store::Tx;
use testkit::{Engine, TestApp};

const DAY: &str = "2026-01-05";
/// Enough for each kind to come several times.
const MOVEMENTS: u64 = 6_000;

/// The provider's file of the day.
async fn file(world: &World) -> String {
    let client = client::Client::new(client::ClientConfig::default(), policies().of("test")).expect("a client");
    let headers = vec![("authorization", "Bearer sk_sandbox".to_owned())];
    let url = format!("{}/settlements/{DAY}.csv", world.psp.url);
    let answer = client.send(client::Request { method: client::Method::GET, url, headers, body: Bytes::new() }).await.expect("a file");
    String::from_utf8(answer.body.to_vec()).expect("text")
}

async fn send(world: &World, file: &str, day: &str) -> Value {
    let path = format!("/api/v1/payments/reconciliations?provider_id={}&day={day}", world.psp.id);
    world.acme.post(&path).raw("text/csv", file.as_bytes().to_vec()).send().await.expect(201).json
}

testkit::both_engines! {
    setup: setup;

    async fn a_day_is_compared_corrected_and_closed(app: TestApp) {
        let world = World::new(app).await;
        let mut paths = Vec::new();
        for _ in 0..6 {
            let made = world.pay("tok_approve", json!({})).await.expect(201);
            assert_eq!(made.json["state"], "captured");
            paths.push(format!("/api/v1/payments/intents/{}", made.text("intent_id")));
        }
        world.ask(&paths[0], "refund", json!({ "amount_minor": 3_000, "wait_ms": 2_000 })).await.expect(200);
        let text = file(&world).await;
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows.len(), 1 + 7, "{text}");
        // The file has another fee for one, not the last, one twice, and one that is nobody's.
        let fee = rows[3].replace(",165,9835,", ",170,9830,");
        assert_ne!(fee, rows[3], "{text}");
        let stranger = "capture,ch_9999999999,,ca_9999999999,nobody,EUR,500,32,468,2026-01-05T12:00:00Z";
        let last = rows.iter().rposition(|row| row.starts_with("capture")).expect("a capture");
        let missing = rows[last];
        let kept = rows.iter().enumerate().filter(|(at, _)| *at != last).map(|(at, row)| if at == 3 { fee.as_str() } else { row });
        let bent = kept.chain([rows[1], stranger]).collect::<Vec<_>>().join("\n") + "\n";

        let early = send(&world, &bent, DAY).await;
        assert_eq!(early["summary"]["breaks"], json!({ "fee": 1, "duplicate": 1, "missing_here": 1 }), "nothing is missing on the day itself");
        assert_eq!(early["state"], "done");
        // A payment tells which file had it.
        assert_eq!(world.get(&paths[1]).await["operations"][0]["settled_run"], early["run_id"]);
        // The same file again is the same run.
        assert_eq!(send(&world, &bent, DAY).await, early);
        // A day later what is missing is missed, and what the file of before had comes a second time.
        let next = send(&world, &format!("{}\n{}\n", rows[0], rows[2]), "2026-01-06").await;
        assert_eq!(next["summary"]["breaks"], json!({ "duplicate": 1, "missing_there": 1 }), "{next}");
        let list = world.get(&format!("/api/v1/payments/breaks?run_id={}", early["run_id"].as_str().expect("an id"))).await;
        let breaks = list["data"].as_array().expect("breaks").clone();
        assert_eq!(breaks.len(), 3, "{list}");
        let path = format!("/api/v1/payments/reconciliations/{}/close", early["run_id"].as_str().expect("an id"));
        assert_eq!(world.acme.post(&path).send().await.expect(409).text("code"), "payments.breaks_open");
        for found in &breaks {
            let path = format!("/api/v1/payments/breaks/{}/resolve", found["break_id"].as_str().expect("an id"));
            let resolve = json!({ "action": "post", "note": "looked at" });
            let resolved = world.acme.post(&path).json(&resolve).send().await.expect(200).json;
            assert_eq!(resolved["state"], "resolved", "{resolved}");
            assert!(resolved["transaction_id"].is_string(), "{resolved}");
            assert_eq!(world.acme.post(&path).json(&resolve).send().await.expect(200).json, resolved, "once");
        }
        assert_eq!(world.acme.post(&path).send().await.expect(200).json["state"], "closed");
        assert_eq!(world.acme.post(&path).send().await.expect(200).json["state"], "closed", "quietly the same");
        // What was missing comes: nobody has to do anything.
        let third = send(&world, &format!("{}\n{missing}\n", rows[0]), "2026-01-07").await;
        assert_eq!((&third["summary"]["matched"], &third["summary"]["breaks"]), (&json!(1), &json!({})), "{third}");
        let all = world.get("/api/v1/payments/breaks").await;
        let missed = all["data"].as_array().expect("breaks").iter().find(|found| found["kind"] == "missing_there").expect("it").clone();
        assert_eq!(missed["resolution"], "it came in a later file", "{missed}");
        // The books are audited at the end of the test.
    }

    async fn rules_resolve_what_they_are_declared_for(app: TestApp) {
        let world = World::new(app).await;
        for _ in 0..3 {
            world.pay("tok_approve", json!({})).await.expect(201);
        }
        let path = format!("/api/v1/payments/providers/{}/settlement-format", world.psp.id);
        let mut format = world.get(&path).await;
        format["rules"] = json!([{ "kind": "fee", "up_to_minor": 5, "action": "post" }]);
        format["tolerance_minor"] = json!(2);
        world.acme.put(&path).json(&format).send().await.expect(200);
        let text = file(&world).await;
        let rows: Vec<String> = text.lines().map(str::to_owned).collect();
        let near = rows[1].replace(",10000,165,9835,", ",10001,165,9836,");
        let fee = rows[2].replace(",165,9835,", ",170,9830,");
        let far = rows[3].replace(",165,9835,", ",171,9829,");
        let run = send(&world, &format!("{}\n{near}\n{fee}\n{far}\n", rows[0]), DAY).await;
        assert_eq!(run["summary"]["breaks"], json!({ "fee": 2 }), "{run}");
        assert_eq!((&run["summary"]["resolved_by_rule"], &run["summary"]["by_tolerance"]), (&json!(1), &json!(1)), "{run}");
        format["columns"]["gross"] = json!("nowhere");
        world.acme.put(&path).json(&format).send().await.expect(200);
        let path = format!("/api/v1/payments/reconciliations?provider_id={}&day={DAY}", world.psp.id);
        let refused = world.acme.post(&path).raw("text/csv", text.into_bytes()).send().await.expect(400);
        assert_eq!(refused.text("code"), "payments.file_malformed");
    }
}

/// Intents and operations as so many captures and refunds would have left them.
pub(super) fn seed(tx: &mut Tx<'_>, (provider, day, from, to): &(i64, GeneratedDay, u64, u64)) -> kernel::Result<()> {
    let at = tx.now();
    for number in *from..*to {
        let made = day.movement(number);
        let (intent_id, operation_id) = ids(number);
        let (captured, refunded) = if made.refund { (made.amount_minor, made.amount_minor) } else { (made.amount_minor, 0) };
        tx.exec(
            "INSERT INTO payments_intents (tenant_id, intent_id, version, state, asking, capture_open, amount_minor, currency, captured_minor,
  capturing_minor, refunded_minor, refunding_minor, fee_minor, method, capture_mode, country, merchant, token, provider_id, provider_charge, attempt,
  created_at, updated_at)
VALUES ($1, $2, 1, 'captured', FALSE, FALSE, $3, 'EUR', $4, 0, $5, 0, $6, 'card', 'automatic', '', '', '', $7, $8, 1, $9, $9)",
            (intent_id, made.amount_minor, captured, refunded, made.fee_minor, *provider, format!("ch_{number:010}"), at),
        )?;
        let kind = if made.refund { "refund" } else { "capture" };
        tx.exec(
            "INSERT INTO payments_operations (tenant_id, intent_id, operation_id, kind, state, amount_minor, fee_minor, last, cause, reason, begun_at, ended_at)
VALUES ($1, $2, $3, $4, 'succeeded', $5, $6, TRUE, 'request', '', $7, $7)",
            (intent_id, operation_id, kind, made.amount_minor, made.fee_minor, at),
        )?;
    }
    Ok(())
}

fn ids(number: u64) -> (IntentId, OperationId) {
    (IntentId::from_i64(1_000_000 + number as i64), OperationId::from_i64(5_000_000_000 + number as i64))
}

fn names(number: u64) -> (String, String, String) {
    let (intent_id, operation_id) = ids(number);
    (format!("ch_{number:010}"), format!("{intent_id}-1"), operation_id.to_string())
}

async fn every_difference(engine: Engine, movements: u64) {
    let Some(app) = TestApp::start(engine, setup()).await else { return };
    let tenant = app.tenant("acme");
    let body = json!({ "name": "Sandbox", "kind": "sandbox", "base_url": "http://127.0.0.1:9", "api_key": "sk_sandbox" });
    let acme = app.client("acme", &["*"]);
    let provider = acme.post("/api/v1/payments/providers").json(&body).send().await.expect(201).text("provider_id");
    let mut format = Format::sandbox();
    format.columns.status = Some("status".to_owned());
    acme.put(format!("/api/v1/payments/providers/{provider}/settlement-format")).json(&format).send().await.expect(200);
    let provider: crate::ProviderId = provider.parse().expect("an id");
    let day = GeneratedDay { seed: 5, movements, one_in: 40, day: DAY, later: "2026-01-10" };
    for from in (0..movements).step_by(1_000) {
        app.store().write(tenant, seed, (provider.as_i64(), day, from, (from + 1_000).min(movements))).await.expect("seeded");
    }
    let mut csv = Vec::new();
    let rows = day.write(&mut csv, names).expect("a file");
    let source = Source::Bytes(Bytes::from(csv));
    let run = reconcile(app.store(), tenant, provider, source.clone(), 20_459).await.expect("compared");
    let expected = day.differences();
    assert_eq!(expected.len(), 12);
    assert_eq!(run.summary.breaks, expected, "each of its kind, and none besides");
    assert_eq!((run.summary.rows, run.summary.operations), (rows, movements));
    // A movement is matched unless it differs; a stranger or a duplicate takes nothing away from the one that is right.
    let differing: u64 = expected.iter().filter(|(kind, _)| !matches!(kind.as_str(), "missing_here" | "duplicate")).map(|(_, n)| n).sum();
    assert_eq!(run.summary.matched, movements - differing);
    assert!(run.summary.in_parts > 0);
    // Each is about the right movement.
    let mut after = String::new();
    let mut seen = 0;
    loop {
        let page = acme.get(format!("/api/v1/payments/breaks?limit=100&run_id={}{after}", run.run_id)).send().await.expect(200).json;
        for found in page["data"].as_array().expect("breaks") {
            let operation = found["operation_id"].as_str().map(|id| id.parse::<OperationId>().expect("an id").as_i64() - 5_000_000_000);
            let kind = found["kind"].as_str().expect("a kind");
            match operation {
                Some(number) => assert_eq!(day.difference(number as u64), Some(kind), "{found}"),
                None => assert_eq!(kind, "missing_here", "{found}"),
            }
            seen += 1;
        }
        match page["next_cursor"].as_str() {
            Some(cursor) => after = format!("&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen, expected.values().sum::<u64>());
    // Again it is the same, and nothing is done twice.
    assert_eq!(reconcile(app.store(), tenant, provider, source, 20_459).await.expect("known"), run);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_difference_is_found_and_none_invented_sqlite() {
    every_difference(Engine::Sqlite, MOVEMENTS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_difference_is_found_and_none_invented_postgres() {
    every_difference(Engine::Postgres, MOVEMENTS).await;
}

/// A run that broke off after it had written some of what it found, or marked some of what it saw, ends as one that did not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_breaks_off_is_gone_on_with() {
    let Some(app) = TestApp::start(Engine::Sqlite, setup()).await else { return };
    let tenant = app.tenant("acme");
    let acme = app.client("acme", &["*"]);
    let body = json!({ "name": "Sandbox", "kind": "sandbox", "base_url": "http://127.0.0.1:9", "api_key": "sk_sandbox" });
    let provider: crate::ProviderId =
        acme.post("/api/v1/payments/providers").json(&body).send().await.expect(201).text("provider_id").parse().expect("an id");
    let day = GeneratedDay { seed: 9, movements: 900, one_in: 40, day: DAY, later: "2026-01-10" };
    app.store().write(tenant, seed, (provider.as_i64(), day, 0, 900)).await.expect("seeded");
    let mut csv = Vec::new();
    day.write(&mut csv, names).expect("a file");
    let source = Source::Bytes(Bytes::from(csv));
    let whole = Arc::new(std::sync::Mutex::new(None));
    for stage in ["matching", "marking"] {
        let run = reconcile(app.store(), tenant, provider, source.clone(), 20_459).await.expect("compared");
        let counted = |read: &mut store::Read<'_>| {
            read.one::<(i64, i64)>(
            "SELECT CAST(COUNT(*) AS BIGINT), CAST(SUM(CASE WHEN settled_run IS NULL THEN 1 ELSE 0 END) AS BIGINT) FROM payments_operations WHERE tenant_id = $1", ())
        };
        let counts = app.store().read(tenant, counted).await.expect("counts");
        let breaks = acme.get(format!("/api/v1/payments/breaks?limit=100&run_id={}", run.run_id)).send().await.expect(200).json["data"]
            .as_array()
            .expect("breaks")
            .len();
        let now = (run.summary.breaks.clone(), run.summary.matched, counts, breaks);
        let before = whole.lock().expect("a lock").replace(now.clone());
        assert!(before.is_none_or(|before| before == now), "{stage}: {now:?}");
        // As it would stand had the process died there: some of the marks are missing.
        let undo = |tx: &mut Tx<'_>, stage: &&'static str| {
            tx.exec("UPDATE payments_runs SET state = $2 WHERE tenant_id = $1", (*stage,))?;
            let from: i64 = if *stage == "matching" { 0 } else { 1_000_400 };
            tx.exec("UPDATE payments_operations SET settled_run = NULL WHERE tenant_id = $1 AND intent_id > $2", (from,))
        };
        app.store().write(tenant, undo, stage).await.expect("undone");
    }
}
