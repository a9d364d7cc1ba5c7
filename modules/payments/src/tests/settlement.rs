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
pub(super) async fn file(world: &World) -> String {
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

/// A provider's file of made-up days: the sandbox's rows, each with where it stands.
struct Files {
    header: String,
    rows: Vec<String>,
}

impl Files {
    /// Of what was paid so far; how the file is read is declared with these rules, and a tolerance of two minor units.
    async fn new(world: &World, rules: Value) -> Files {
        let path = format!("/api/v1/payments/providers/{}/settlement-format", world.psp.id);
        let mut format = world.get(&path).await;
        format["columns"]["status"] = json!("status");
        format["tolerance_minor"] = json!(2);
        format["rules"] = rules;
        world.acme.put(&path).json(&format).send().await.expect(200);
        let text = file(world).await;
        let mut lines = text.lines();
        let header = format!("{},status", lines.next().expect("a header"));
        Files { header, rows: lines.map(|row| format!("{row},paid")).collect() }
    }

    async fn send(&self, world: &World, rows: &[&str], day: &str) -> Value {
        send(world, &format!("{}\n{}\n", self.header, rows.join("\n")), day).await
    }
}

async fn close(world: &World, run: &Value) {
    let path = format!("/api/v1/payments/reconciliations/{}/close", run["run_id"].as_str().expect("an id"));
    assert_eq!(world.acme.post(&path).send().await.expect(200).json["state"], "closed");
}

/// The breaks of a run.
async fn breaks(world: &World, run: &Value) -> Vec<Value> {
    let list = world.get(&format!("/api/v1/payments/breaks?run_id={}", run["run_id"].as_str().expect("an id"))).await;
    list["data"].as_array().expect("breaks").clone()
}

async fn post(world: &World, found: &Value) -> Value {
    let path = format!("/api/v1/payments/breaks/{}/resolve", found["break_id"].as_str().expect("an id"));
    world.acme.post(&path).json(&json!({ "action": "post", "note": "looked at" })).send().await.expect(200).json
}

/// What stands on the provider's account of this part, in euros' cents; zero when there is none.
async fn balance(world: &World, part: &str) -> i64 {
    let code = format!("payments:{part}:{}:EUR", world.psp.id);
    let read = move |read: &mut store::Read<'_>| match ledger::api::account_by_code(read, &code)? {
        Some(account) => Ok(ledger::api::balance(read, account.account_id)?.posted_minor),
        None => Ok(0),
    };
    world.app.store().read(world.app.tenant("acme"), read).await.expect("a balance")
}

async fn paid(world: &World, payments: usize) -> Vec<String> {
    let mut paths = Vec::new();
    for _ in 0..payments {
        paths.push(world.pay("tok_approve", json!({})).await.expect(201).header("location").to_owned());
    }
    paths
}

testkit::both_engines! {
    setup: setup;

    async fn what_was_written_off_and_comes_is_taken_back(app: TestApp) {
        let world = World::new(app).await;
        paid(&world, 2).await;
        let files = Files::new(&world, json!([{ "kind": "missing_there", "up_to_minor": 10_000, "action": "post" }])).await;
        // The payout comes two days later, when all is written off by a rule.
        let first = files.send(&world, &[], "2026-01-06").await;
        assert_eq!((&first["summary"]["breaks"], &first["summary"]["resolved_by_rule"]), (&json!({ "missing_there": 2 }), &json!(2)));
        assert_eq!((balance(&world, "receivable").await, balance(&world, "differences").await), (0, 19_670));
        let second = files.send(&world, &[&files.rows[0], &files.rows[1]], "2026-01-07").await;
        assert_eq!((&second["summary"]["matched"], &second["summary"]["breaks"]), (&json!(2), &json!({})), "{second}");
        close(&world, &first).await;
        close(&world, &second).await;
        let found = breaks(&world, &first).await;
        assert!(found.iter().all(|found| found["transaction_id"].is_string() && found["reversal_id"].is_string()), "{found:?}");
        let books = (balance(&world, "receivable").await, balance(&world, "differences").await, balance(&world, "bank").await);
        assert_eq!(books, (0, 0, 19_670), "what has come is no loss, and what was paid out is owed no more");
    }

    async fn only_what_has_come_is_settled(app: TestApp) {
        let world = World::new(app).await;
        let paths = paid(&world, 1).await;
        let accept = json!([{ "kind": "status", "up_to_minor": 9_999, "action": "accept" }]);
        let files = Files::new(&world, accept).await;
        let row = &files.rows[0];
        let first = files.send(&world, &[&row.replace(",paid", ",pending")], DAY).await;
        assert_eq!((&first["summary"]["breaks"], &first["summary"]["resolved_by_rule"]), (&json!({ "status": 1 }), &json!(0)), "a rule is bounded");
        assert_eq!(world.get(&paths[0]).await["operations"][0]["settled_run"], Value::Null);
        let again = files.send(&world, &[&row.replace(",paid", ",processing")], "2026-01-06").await;
        assert_eq!(breaks(&world, &again).await[0]["break_id"], breaks(&world, &first).await[0]["break_id"], "found again");
        let last = files.send(&world, &[row], "2026-01-07").await;
        assert_eq!((&last["summary"]["matched"], &last["summary"]["breaks"]), (&json!(1), &json!({})), "{last}");
        assert_eq!(breaks(&world, &first).await[0]["resolution"], "it came in a later file");
        for run in [&first, &again, &last] {
            close(&world, run).await;
        }
        assert_eq!((balance(&world, "receivable").await, balance(&world, "suspense").await), (0, 0));
    }

    async fn parts_may_come_in_several_files(app: TestApp) {
        let world = World::new(app).await;
        paid(&world, 1).await;
        let files = Files::new(&world, json!([])).await;
        let whole = &files.rows[0];
        let movement = whole.split(',').nth(3).expect("a movement").to_owned();
        let part = |number: u32, amounts: &str| whole.replace(&movement, &format!("ca_part_{number}")).replace(",10000,165,9835,", amounts);
        let (one, two, three) = (part(1, ",5000,100,4900,"), part(2, ",2000,65,1935,"), part(3, ",3000,0,3000,"));
        let first = files.send(&world, &[&one], DAY).await;
        assert_eq!(first["summary"]["breaks"], json!({ "amount": 1 }), "{first}");
        // The rest is written off, and comes all the same; the part that has come comes again, and is not the rest.
        let found = breaks(&world, &first).await;
        assert_eq!((&found[0]["difference_minor"], &post(&world, &found[0]).await["state"]), (&json!(-4_935), &json!("resolved")));
        let second = files.send(&world, &[&one, &two], "2026-01-06").await;
        assert_eq!(second["summary"]["breaks"], json!({ "duplicate": 1, "partly_settled": 1 }), "{second}");
        let again = breaks(&world, &second).await;
        assert_eq!(again.iter().find(|found| found["kind"] == "partly_settled").expect("it")["difference_minor"], -3_000);
        assert!(breaks(&world, &first).await[0]["reversal_id"].is_string());
        let third = files.send(&world, &[&three], "2026-01-07").await;
        assert_eq!((&third["summary"]["matched"], &third["summary"]["breaks"]), (&json!(1), &json!({})), "{third}");
        // What came twice is owed to nobody; the rest of what is not closed is open.
        post(&world, again.iter().find(|found| found["kind"] == "duplicate").expect("it")).await;
        for run in [&first, &second, &third] {
            close(&world, run).await;
        }
        let books = (balance(&world, "receivable").await, balance(&world, "differences").await, balance(&world, "suspense").await);
        assert_eq!(books, (0, 0, 4_900));
    }

    async fn a_repeated_row_is_none_of_its_twins(app: TestApp) {
        let world = World::new(app).await;
        let path = world.pay("tok_approve", json!({ "capture": "manual" })).await.expect(201).header("location").to_owned();
        for _ in 0..2 {
            world.ask(&path, "capture", json!({ "amount_minor": 5_000, "wait_ms": 2_000 })).await.expect(200);
        }
        let files = Files::new(&world, json!([])).await;
        let (one, two) = (&files.rows[0], &files.rows[1]);
        let settled = async || world.get(&path).await["operations"].as_array().expect("operations").iter().filter(|o| o["settled_run"].is_string()).count();
        let first = files.send(&world, &[one], DAY).await;
        assert_eq!(first["summary"]["matched"], 1);
        // As if it had broken off when everything was marked.
        let broken = |tx: &mut Tx<'_>, (): &()| tx.exec("UPDATE payments_runs SET state = 'marking' WHERE tenant_id = $1", ());
        world.app.store().write(world.app.tenant("acme"), broken, ()).await.expect("broken off");
        let resumed = files.send(&world, &[one], DAY).await;
        assert_eq!((&resumed["run_id"], settled().await), (&first["run_id"], 1));
        let second = files.send(&world, &[one, ""], DAY).await;
        assert_eq!((&second["summary"]["breaks"], settled().await), (&json!({ "duplicate": 1 }), 1), "the other capture is not the one that is named");
        let third = files.send(&world, &[two], "2026-01-06").await;
        assert_eq!((&third["summary"]["matched"], &third["summary"]["breaks"], settled().await), (&json!(1), &json!({}), 2), "{third}");
    }

    async fn nothing_of_what_is_tolerated_stays(app: TestApp) {
        let world = World::new(app).await;
        paid(&world, 2).await;
        let files = Files::new(&world, json!([])).await;
        let near = files.rows[0].replace(",10000,165,9835,", ",10002,165,9837,");
        // More is taken and more is kept: nothing more comes, and there is nothing to post.
        let more = files.rows[1].replace(",10000,165,9835,", ",10100,265,9835,");
        let run = files.send(&world, &[&near, &more], DAY).await;
        assert_eq!((&run["summary"]["breaks"], &run["summary"]["totals"]["EUR"]["tolerated_minor"]), (&json!({ "amount": 1 }), &json!(2)), "{run}");
        let found = breaks(&world, &run).await;
        assert_eq!(found[0]["difference_minor"], 0, "{found:?}");
        let path = format!("/api/v1/payments/breaks/{}/resolve", found[0]["break_id"].as_str().expect("an id"));
        world.acme.post(&path).json(&json!({ "action": "post", "note": "x" })).send().await.expect_problem(409, "payments.nothing_to_post");
        let card = json!({ "action": "accept", "note": "paid with 4242 4242 4242 4242" });
        world.acme.post(&path).json(&card).send().await.expect_problem(400, "payments.card_number");
        world.acme.post(&path).json(&json!({ "action": "accept", "note": "seen" })).send().await.expect(200);
        close(&world, &run).await;
        assert_eq!((balance(&world, "receivable").await, balance(&world, "differences").await), (0, -2));
    }

    async fn a_day_is_not_closed_over_what_a_later_one_found_again(app: TestApp) {
        let world = World::new(app).await;
        paid(&world, 1).await;
        let files = Files::new(&world, json!([])).await;
        let first = files.send(&world, &[], "2026-01-06").await;
        let second = files.send(&world, &["", ""], "2026-01-07").await;
        assert_ne!(first["run_id"], second["run_id"]);
        for run in [&first, &second] {
            assert_eq!(breaks(&world, run).await.len(), 1);
            let path = format!("/api/v1/payments/reconciliations/{}/close", run["run_id"].as_str().expect("an id"));
            world.acme.post(&path).send().await.expect_problem(409, "payments.breaks_open");
        }
    }

    async fn a_card_number_in_a_file_is_not_kept(app: TestApp) {
        let world = World::new(app).await;
        paid(&world, 1).await;
        let files = Files::new(&world, json!([])).await;
        let stranger = "capture,ch_9,,4242 4242 4242 4242,nobody,EUR,500,32,468,2026-01-05T12:00:00Z,paid";
        let unreadable = "capture,ch_9,,m,nobody,EUR,4242424242424242,32,468,2026-01-05T12:00:00Z,paid";
        let run = files.send(&world, &[stranger, unreadable], DAY).await;
        assert_eq!(run["summary"]["breaks"], json!({ "missing_here": 1, "unreadable": 1 }), "{run}");
        let found = breaks(&world, &run).await;
        assert!(found.iter().all(|found| found["detail"] == "it holds what looks like a card number, and is not kept"), "{found:?}");
    }
}

/// Only what is the provider's is looked through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_provider_is_looked_through_by_itself() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let Some(app) = TestApp::start(engine, setup()).await else { return };
        let tenant = app.tenant("acme");
        let day = GeneratedDay { seed: 1, movements: 30, one_in: 40, day: DAY, later: "2026-01-10" };
        app.store().write(tenant, seed, (7, day, 0, 20)).await.expect("seeded");
        app.store().write(tenant, seed, (8, day, 20, 30)).await.expect("seeded");
        let count = |read: &mut store::Read<'_>| read.one::<(i64,)>(crate::reconcile::sql::UNSETTLED_COUNT, (8_i64,));
        assert_eq!(app.store().read(tenant, count).await.expect("a count"), (10,), "no more are walked, and no room is made for more");
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
            "INSERT INTO payments_operations (tenant_id, intent_id, operation_id, kind, state, amount_minor, fee_minor, last, cause, reason, begun_at, ended_at, provider_id)
VALUES ($1, $2, $3, $4, 'succeeded', $5, $6, TRUE, 'request', '', $7, $7, $8)",
            (intent_id, operation_id, kind, made.amount_minor, made.fee_minor, at, *provider),
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
