//! Stories over HTTP and through the api, on each engine. After each of them every audit of the ledger has to be well.

use crate::api::{self, NewAccount};
use crate::model::*;
use kernel::{Clock as _, Currency, Timestamp};
use serde_json::{Value, json};
use store::{Read, Tx};
use testkit::{Client, Setup, TestApp, TestRequest, TestResponse};

const TRANSFERS: &str = "/api/v1/ledger/transfers";
const TRANSACTIONS: &str = "/api/v1/ledger/transactions";
const HOLDS: &str = "/api/v1/ledger/holds";

async fn open(client: &Client, code: &str, account_type: &str, more: Value) -> String {
    let mut body = json!({ "code": code, "type": account_type, "currency": "EUR" });
    body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    client.post("/api/v1/ledger/accounts").json(&body).send().await.expect(201).text("account_id")
}

async fn available(client: &Client, account: &str) -> (i64, i64) {
    let balance = client.get(format!("/api/v1/ledger/accounts/{account}/balance")).send().await.expect(200).json;
    (balance["posted_minor"].as_i64().unwrap(), balance["available_minor"].as_i64().unwrap())
}

/// A bank without end, and alice with 100.
async fn bank_and_alice(app: &TestApp) -> (Client, String, String) {
    let acme = app.client("acme", &["*"]);
    let bank = open(&acme, "bank", "asset", json!({ "may_go_negative": true })).await;
    let alice = open(&acme, "wallet:alice", "liability", json!({ "owner": "alice" })).await;
    let body = json!({ "debit_account_id": bank, "credit_account_id": alice, "amount_minor": 100 });
    acme.post(TRANSFERS).json(&body).send().await.expect(201);
    (acme, bank, alice)
}

fn transfer(debit: &str, credit: &str, amount_minor: i64) -> Value {
    json!({ "debit_account_id": debit, "credit_account_id": credit, "amount_minor": amount_minor })
}

fn euro() -> Currency {
    "EUR".parse().unwrap()
}

testkit::both_engines! {
    setup: || Setup::new(vec![crate::module()]);

    async fn a_wallet_is_filled_held_captured_and_given_back(app: TestApp) {
        let (acme, bank, alice) = bank_and_alice(&app).await;
        let shop = open(&acme, "merchant:shop", "liability", json!({})).await;
        let expires_at = app.clock().now().plus_ms(60_000).to_string();
        let mut hold = transfer(&alice, &shop, 70);
        hold["expires_at"] = json!(expires_at);
        let hold = acme.post(HOLDS).key("hold-1").json(&hold).send().await.expect(201).text("transaction_id");
        assert_eq!(available(&acme, &alice).await, (100, 30));
        acme.post(TRANSFERS).json(&transfer(&alice, &bank, 31)).send().await.expect_problem(409, "ledger.insufficient_funds");
        let part = acme.post(format!("{HOLDS}/{hold}/capture")).json(&json!({ "amount_minor": 50, "release_rest": true })).send().await.expect(201);
        assert_eq!((available(&acme, &alice).await, available(&acme, &shop).await), ((50, 50), (50, 50)));
        let capture = part.text("transaction_id");
        let back = acme.post(format!("{TRANSACTIONS}/{capture}/reverse")).json(&json!({ "amount_minor": 20 })).send().await.expect(201);
        assert_eq!((available(&acme, &alice).await, available(&acme, &shop).await), ((70, 70), (30, 30)));
        let back = acme.get(back.header("location")).send().await.expect(200).json;
        assert_eq!((&back["kind"], &back["subject_id"]), (&json!("reversal"), &json!(capture)));
        assert_eq!(back["postings"][0], json!({ "account_id": shop, "side": "debit", "amount_minor": 20 }));
        let hold = acme.get(format!("{HOLDS}/{hold}")).send().await.expect(200).json;
        assert_eq!((&hold["status"], &hold["captured_minor"], &hold["remaining_minor"]), (&json!("captured"), &json!(50), &json!(0)));
        let trial = acme.get("/api/v1/ledger/trial-balance").send().await.expect(200).json;
        assert_eq!(trial["balanced"], true);
        assert_eq!(trial["lines"][1], json!({ "currency": "EUR", "type": "liability", "accounts": 2, "debits_minor": 70, "credits_minor": 170 }));
    }

    async fn bad_input_is_named_and_changes_nothing(app: TestApp) {
        let (acme, bank, alice) = bank_and_alice(&app).await;
        let closed = open(&acme, "closed", "liability", json!({})).await;
        acme.patch(format!("/api/v1/ledger/accounts/{closed}")).json(&json!({ "status": "closed" })).send().await.expect(200);
        let with = |field: &str, value: Value| {
            let mut body = transfer(&alice, &bank, 5);
            body[field] = value;
            body
        };
        let metadata = |entries: usize| (0..entries).map(|n| (format!("n{n}"), json!("v"))).collect::<serde_json::Map<_, _>>();
        for (body, status, code, field) in [
            (with("amount_minor", json!(-5)), 400, "ledger.amount_negative", "amount_minor"),
            (with("amount_minor", json!(0)), 400, "ledger.amount_zero", "amount_minor"),
            (with("amount_minor", json!(10.5)), 400, "ledger.amount_fractional", "amount_minor"),
            (with("amount_minor", json!(1_000_000_000_000_001_i64)), 400, "ledger.amount_too_large", "amount_minor"),
            (with("amount_minor", json!(18_446_744_073_709_551_615_u64)), 400, "ledger.amount_too_large", "amount_minor"),
            (with("amount_minor", json!(1e300)), 400, "ledger.amount_too_large", "amount_minor"),
            (with("amount_minor", json!("5")), 400, "request.invalid", "amount_minor"),
            (with("currency", json!("XXX")), 400, "money.unknown_currency", "currency"),
            (with("currency", json!("USD")), 400, "ledger.currency_mismatch", "currency"),
            (with("credit_account_id", json!(closed)), 409, "ledger.account_closed", ""),
            (with("credit_account_id", json!("acc_00000000001")), 400, "ledger.unknown_account", "credit_account_id"),
            (with("credit_account_id", json!(alice)), 400, "ledger.account_repeated", "credit_account_id"),
            (with("details", json!({ "metadata": metadata(21) })), 400, "ledger.metadata_too_large", "details.metadata"),
            (with("details", json!({ "metadata": { "n": "v".repeat(201) } })), 400, "ledger.metadata_too_large", "details.metadata"),
            (with("details", json!({ "description": "" })), 400, "ledger.invalid_text", "details.description"),
            (with("details", json!({ "effective_at": "1800-01-01T00:00:00Z" })), 400, "ledger.effective_out_of_range", "details.effective_at"),
            (with("more", json!(1)), 400, "request.invalid", "more"),
        ] {
            let answer = acme.post(TRANSFERS).json(&body).send().await.expect_problem(status, code);
            assert!(field.is_empty() || answer.names_field(field), "{body}: {}", answer.json);
        }
        let metadata_bomb = with("details", json!({ "metadata": metadata(10_000) }));
        acme.post(TRANSFERS).json(&metadata_bomb).send().await.expect_problem(413, "request.too_large");
        let post = |postings: Value| acme.post(TRANSACTIONS).json(&json!({ "postings": postings }));
        let line = |account: &str, side: &str, amount: i64| json!({ "account_id": account, "side": side, "amount_minor": amount });
        let uneven = json!([line(&alice, "debit", 5), line(&bank, "credit", 4)]);
        assert!(post(uneven).send().await.expect_problem(400, "ledger.unbalanced").names_field("postings"));
        post(json!([line(&alice, "debit", 5)])).send().await.expect_problem(400, "ledger.too_few_postings");
        let fraction = json!([line(&alice, "debit", 5), { "account_id": bank, "side": "credit", "amount_minor": 4.5 }]);
        assert!(post(fraction).send().await.expect_problem(400, "ledger.amount_fractional").names_field("postings[1].amount_minor"));
        let mut hold = transfer(&alice, &bank, 5);
        hold["expires_at"] = json!(app.clock().now().to_string());
        assert!(acme.post(HOLDS).json(&hold).send().await.expect_problem(400, "ledger.invalid_expiry").names_field("expires_at"));
        acme.post(format!("{HOLDS}/txn_00000000001/capture")).send().await.expect_problem(404, "ledger.hold_not_found");
        acme.post(format!("{TRANSACTIONS}/txn_00000000001/reverse")).send().await.expect_problem(404, "ledger.transaction_not_found");
        let account = |body: Value| acme.post("/api/v1/ledger/accounts").json(&body);
        account(json!({ "code": "a b", "type": "asset", "currency": "EUR" })).send().await.expect_problem(400, "request.invalid");
        account(json!({ "code": "a", "type": "asset", "currency": "XXX" })).send().await.expect_problem(400, "request.invalid");
        account(json!({ "code": "bank", "type": "asset", "currency": "EUR" })).send().await.expect_problem(409, "ledger.code_taken");
        // Nothing of all that has changed anything.
        assert_eq!((available(&acme, &alice).await, available(&acme, &bank).await), ((100, 100), (100, 100)));
        let listed = acme.get(TRANSACTIONS).send().await.expect(200).json;
        assert_eq!(listed["data"].as_array().unwrap().len(), 1);
    }

    async fn two_hundred_refunds_at_once_never_exceed_their_capture(app: TestApp) {
        let tenant = app.tenant("acme");
        let open = |tx: &mut Tx<'_>, (): &()| {
            let bank = api::open_account(tx, &NewAccount::new("bank", AccountType::Asset, euro()).unbounded())?.account_id;
            let shop = api::open_account(tx, &NewAccount::new("shop", AccountType::Liability, euro()))?.account_id;
            // The shop has more than the capture, so that it is not its balance that bounds the refunds.
            api::post(tx, &Request::transfer(bank, shop, 5_000))?;
            let hold = api::post(tx, &Request::hold(bank, shop, 1_000, tx.now().plus_ms(60_000)))?;
            Ok((shop, api::post(tx, &Request::capture(hold.transaction_id, None))?.transaction_id))
        };
        let (shop, capture) = app.store().write(tenant, open, ()).await.unwrap();
        let mut refunds = tokio::task::JoinSet::new();
        for n in 0..200_i64 {
            let store = app.store().clone();
            let amount = 3 + n % 9;
            let refund = Request::reverse(capture, Some(amount)).key(&format!("refund:{n}"));
            // A quarter of them in bulks, the others alone; each of them twice, under its key.
            refunds.spawn(async move {
                let mut outcomes = Vec::new();
                for _ in 0..2 {
                    let outcome = match n % 4 {
                        0 => api::submit_bulk(&store, tenant, vec![refund.clone()]).await.unwrap().remove(0),
                        _ => api::submit(&store, tenant, refund.clone()).await,
                    };
                    outcomes.push(outcome.map(|receipt| receipt.transaction_id).map_err(|refused| refused.code()));
                }
                (amount, outcomes)
            });
        }
        let (mut given_back, mut refused) = (0, 0);
        while let Some(refund) = refunds.join_next().await {
            match refund.unwrap() {
                (amount, outcomes) if outcomes[0].is_ok() => {
                    assert_eq!(outcomes[0], outcomes[1], "the same refund");
                    given_back += amount;
                }
                (_, outcomes) => {
                    assert!(matches!(outcomes[0], Err("ledger.reversal_exceeds" | "ledger.already_reversed")), "{outcomes:?}");
                    refused += 1;
                }
            }
        }
        // All of it but for what no refund was small enough.
        assert!((998..=1_000).contains(&given_back) && refused > 20, "{given_back} given back, {refused} refused");
        let balance = app.store().read(tenant, move |read| api::balance(read, shop)).await.unwrap();
        assert_eq!(balance.posted_minor, 6_000 - given_back);
    }

    async fn a_balance_by_effective_dates_counts_what_was_recorded_late(app: TestApp) {
        let (acme, bank, alice) = bank_and_alice(&app).await;
        let shop = open(&acme, "merchant:shop", "liability", json!({})).await;
        let day = 86_400_000;
        let first = app.clock().now();
        app.clock().advance_ms(10 * day);
        let dated = |mut body: Value, days: i64| {
            body["details"] = json!({ "effective_at": first.plus_ms(days * day).to_string() });
            body
        };
        // Recorded on the tenth day: one as of the third, one as of the twentieth, one as of today.
        acme.post(TRANSFERS).json(&dated(transfer(&bank, &alice, 30), 3)).send().await.expect(201);
        acme.post(TRANSFERS).json(&dated(transfer(&alice, &bank, 7), 20)).send().await.expect(201);
        acme.post(TRANSFERS).json(&transfer(&bank, &alice, 1)).send().await.expect(201);
        let line = |account: &str, side: &str, amount: i64| json!({ "account_id": account, "side": side, "amount_minor": amount });
        let several = json!({ "postings": [line(&alice, "debit", 10), line(&shop, "credit", 4), line(&bank, "credit", 6)] });
        acme.post(TRANSACTIONS).json(&dated(several, 5)).send().await.expect(201);
        let at = async |how: &str, days: i64| {
            let moment = first.plus_ms(days * day);
            let balance = acme.get(format!("/api/v1/ledger/accounts/{alice}/balance?{how}={moment}")).send().await.expect(200).json;
            balance["posted_minor"].as_i64().unwrap()
        };
        for (days, effective, recorded) in [(-1, 0, 0), (0, 100, 100), (3, 130, 100), (5, 120, 100), (9, 120, 100), (10, 121, 114), (19, 121, 114), (20, 114, 114)] {
            assert_eq!((at("effective_at", days).await, at("at", days).await), (effective, recorded), "day {days}");
        }
        let both = format!("/api/v1/ledger/accounts/{alice}/balance?at={first}&effective_at={first}");
        acme.get(both).send().await.expect_problem(400, "request.invalid");
    }

    async fn a_key_happens_once_for_ever(app: TestApp) {
        let (acme, bank, alice) = bank_and_alice(&app).await;
        let send = |key: &str, amount: i64| acme.post(TRANSFERS).key(key).json(&transfer(&alice, &bank, amount)).send();
        let first = send("k", 10).await.expect(201);
        app.clock().advance_ms(3_650 * 86_400_000);
        let again = send("k", 10).await.expect(201);
        assert_eq!(first.text("transaction_id"), again.text("transaction_id"));
        assert_eq!(first.text("recorded_at"), again.text("recorded_at"));
        assert_eq!((first.header("idempotency-replayed"), again.header("idempotency-replayed")), ("", "true"));
        send("k", 11).await.expect_problem(409, "idempotency.key_reused");
        // A refusal is not kept under its key.
        send("r", 1_000).await.expect_problem(409, "ledger.insufficient_funds");
        send("r", 10).await.expect(201);
        assert_eq!(available(&acme, &alice).await, (80, 80));
        // Fifty at once are one.
        let body = transfer(&alice, &bank, 10);
        let all = {
            let acme = acme.clone();
            at_once(50, move || acme.post(TRANSFERS).key("fifty").json(&body)).await
        };
        let ids: std::collections::BTreeSet<String> = all.into_iter().map(|answer| answer.expect(201).text("transaction_id")).collect();
        assert_eq!((ids.len(), available(&acme, &alice).await), (1, (70, 70)));
    }

    async fn fifty_at_once_never_take_more_than_there_is(app: TestApp) {
        let (acme, bank, alice) = bank_and_alice(&app).await;
        let mut hold = transfer(&alice, &bank, 100);
        hold["expires_at"] = json!(app.clock().now().plus_ms(60_000).to_string());
        let hold = acme.post(HOLDS).json(&hold).send().await.expect(201).text("transaction_id");
        let captures = {
            let acme = acme.clone();
            at_once(50, move || acme.post(format!("{HOLDS}/{hold}/capture")).json(&json!({ "amount_minor": 7 }))).await
        };
        let (done, refused): (Vec<_>, Vec<_>) = captures.into_iter().partition(|answer| answer.status == 201);
        assert_eq!((done.len(), refused.len()), (14, 36), "100 is 14 times 7, and 2");
        refused.into_iter().for_each(|answer| { answer.expect_problem(409, "ledger.capture_exceeds_hold"); });
        assert_eq!((available(&acme, &alice).await, available(&acme, &bank).await), ((2, 0), (2, 0)));
        let capture = done[0].text("transaction_id");
        let back = {
            let acme = acme.clone();
            at_once(50, move || acme.post(format!("{TRANSACTIONS}/{capture}/reverse")).json(&json!({ "amount_minor": 2 }))).await
        };
        assert_eq!(back.iter().filter(|answer| answer.status == 201).count(), 3, "7 is 3 times 2, and 1");
        assert_eq!(available(&acme, &alice).await, (8, 6));
        // 500 transfers against a daily limit.
        let limits = format!("/api/v1/ledger/accounts/{bank}/limits");
        acme.put(&limits).json(&json!({ "per_day_minor": 90 })).send().await.expect(200);
        assert_eq!(acme.get(&limits).send().await.expect(200).json["per_day_minor"], 90);
        let other = open(&acme, "bank:other", "asset", json!({ "may_go_negative": true })).await;
        let out = {
            let acme = acme.clone();
            at_once(500, move || acme.post(TRANSFERS).json(&transfer(&other, &bank, 1))).await
        };
        assert_eq!(out.iter().filter(|answer| answer.status == 201).count(), 90);
        let refused = out.into_iter().find(|answer| answer.status != 201).unwrap();
        refused.expect_problem(409, "ledger.daily_limit");
    }

    async fn a_bulk_has_an_outcome_for_each_and_chains_stand_together(app: TestApp) {
        let (acme, bank, alice) = bank_and_alice(&app).await;
        let bulk = |items: Value| acme.post(format!("{TRANSACTIONS}/bulk")).json(&json!({ "transactions": items }));
        let item = |amount: i64| json!({ "transfer": transfer(&alice, &bank, amount) });
        let linked = |amount: i64| json!({ "transfer": transfer(&alice, &bank, amount), "linked": true });
        let keyed = json!({ "transfer": transfer(&alice, &bank, 1), "key": "one" });
        let answer = bulk(json!([item(10), item(1_000), linked(5), item(86), linked(5), item(5), keyed, keyed])).send().await.expect(200).json;
        let codes: Vec<&str> =
            answer["outcomes"].as_array().unwrap().iter().map(|o| o["error"]["code"].as_str().unwrap_or("done")).collect();
        let expected =
            ["done", "ledger.insufficient_funds", "ledger.linked_failed", "ledger.insufficient_funds", "done", "done", "done", "done"];
        assert_eq!(codes, expected);
        assert_eq!((answer["done"].as_i64(), answer["refused"].as_i64()), (Some(5), Some(3)));
        assert_eq!(answer["outcomes"][7]["receipt"]["replayed"], true);
        assert_eq!(available(&acme, &alice).await, (79, 79));
        let open_chain = bulk(json!([linked(5)])).send().await.expect(200).json;
        assert_eq!(open_chain["outcomes"][0]["error"]["code"], "ledger.linked_open");
        assert!(bulk(json!([])).send().await.expect_problem(400, "ledger.batch_too_large").names_field("transactions"));
        let two = json!([{ "transfer": transfer(&alice, &bank, 1), "void": { "hold_id": "txn_00000000001" } }]);
        let zero = bulk(json!([item(1), item(0)])).send().await.expect_problem(400, "ledger.amount_zero");
        assert!(zero.names_field("transactions[1].transfer.amount_minor"));
        assert!(bulk(two).send().await.expect_problem(400, "request.invalid").names_field("transactions[0]"));
        let many: Vec<Value> = (0..8_192).map(|_| item(1)).collect();
        let answer = bulk(json!(many)).send().await.expect(200).json;
        assert_eq!((answer["done"].as_i64(), answer["refused"].as_i64()), (Some(79), Some(8_113)));
        let too_many: Vec<Value> = (0..8_193).map(|_| json!({ "void": { "hold_id": "txn_00000000001" } })).collect();
        bulk(json!(too_many)).send().await.expect_problem(400, "ledger.batch_too_large");
    }

    /// A repeat is looked for before anything that time may change.
    async fn a_bulks_key_is_answered_however_late(app: TestApp) {
        let (acme, bank, alice) = bank_and_alice(&app).await;
        let mut hold = transfer(&alice, &bank, 10);
        hold["expires_at"] = json!(app.clock().now().plus_ms(60_000).to_string());
        let bulk = |key: &str| json!({ "transactions": [{ "hold": hold, "key": key }] });
        let send = |body: Value| acme.post(format!("{TRANSACTIONS}/bulk")).json(&body).send();
        let first = send(bulk("late")).await.expect(200).json;
        app.clock().advance_ms(120_000);
        let again = send(bulk("late")).await.expect(200).json;
        assert_eq!(again["outcomes"][0]["receipt"]["transaction_id"], first["outcomes"][0]["receipt"]["transaction_id"]);
        assert_eq!(again["outcomes"][0]["receipt"]["replayed"], true, "{again}");
        // Another key is another request, and too late; without one it is seen at once.
        assert_eq!(send(bulk("other")).await.expect(200).json["outcomes"][0]["error"]["code"], "ledger.invalid_expiry");
        send(json!({ "transactions": [{ "hold": hold }] })).await.expect_problem(400, "ledger.invalid_expiry");
    }

    async fn a_statement_runs_back_through_every_balance(app: TestApp) {
        let (acme, bank, alice) = bank_and_alice(&app).await;
        // Enough for three marks, with holds and journals among them.
        let fees = open(&acme, "fees", "income", json!({})).await;
        let ids: Vec<AccountId> = [&bank, &alice, &fees].iter().map(|id| id.parse().unwrap()).collect();
        let mut expected: Vec<(Timestamp, i64, i64)> = vec![(app.clock().now(), 100, 100)];
        let (mut posted, mut held) = (100, 0);
        for n in 0..800_i64 {
            app.clock().advance_ms(if n % 3 == 0 { 0 } else { 1_000 });
            let request = match n % 5 {
                0..3 => Request::transfer(ids[0], ids[1], 3),
                3 => Request::journal(vec![
                    Posting { account_id: ids[1], side: Side::Debit, amount_minor: 5, currency: None },
                    Posting { account_id: ids[0], side: Side::Credit, amount_minor: 4, currency: None },
                    Posting { account_id: ids[2], side: Side::Credit, amount_minor: 1, currency: None },
                ]),
                _ => Request::hold(ids[1], ids[0], 1, app.clock().now().plus_ms(86_400_000)),
            };
            match n % 5 {
                0..3 => posted += 3,
                3 => posted -= 5,
                _ => held += 1,
            }
            api::submit(app.store(), app.tenant("acme"), request).await.unwrap();
            expected.push((app.clock().now(), posted, posted - held));
        }
        let path = format!("/api/v1/ledger/accounts/{alice}/statement");
        let (mut lines, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let page = acme.get(format!("{path}?limit=100{}", cursor.map(|c| format!("&cursor={c}")).unwrap_or_default())).send().await.expect(200).json;
            lines.extend(page["data"].as_array().unwrap().iter().map(|l| (l["balance"]["posted_minor"].as_i64().unwrap(), l["balance"]["available_minor"].as_i64().unwrap())));
            cursor = page["next_cursor"].as_str().map(str::to_owned);
            if cursor.is_none() { break }
        }
        lines.reverse();
        assert_eq!(lines, expected.iter().map(|(_, posted, available)| (*posted, *available)).collect::<Vec<_>>());
        // A cursor of one account is none of another.
        let page = acme.get(format!("{path}?limit=1")).send().await.expect(200).text("next_cursor");
        acme.get(format!("/api/v1/ledger/accounts/{bank}/statement?cursor={page}")).send().await.expect_problem(400, "request.invalid_cursor");
        // Each past moment, by the last that was recorded at it.
        let moments: std::collections::BTreeMap<Timestamp, (i64, i64)> = expected.iter().map(|(at, p, a)| (*at, (*p, *a))).collect();
        let account = ids[1];
        let asked: Vec<Timestamp> = moments.keys().copied().collect();
        let told = app.store().read_within(app.tenant("acme"), 60_000, move |read: &mut Read<'_>| {
            asked.iter().map(|at| api::balance_at(read, account, *at)).collect::<kernel::Result<Vec<Balance>>>()
        }).await.unwrap();
        let told: Vec<(i64, i64)> = told.iter().map(|b| (b.posted_minor, b.available_minor)).collect();
        assert_eq!(told, moments.values().copied().collect::<Vec<_>>());
        let before = moments.keys().next().unwrap().plus_ms(-1);
        let before = acme.get(format!("/api/v1/ledger/accounts/{alice}/balance?at={before}")).send().await.expect(200).json;
        assert_eq!(before["posted_minor"], 0);
    }

    async fn an_expired_hold_holds_nothing(app: TestApp) {
        let (acme, bank, alice) = bank_and_alice(&app).await;
        let tenant = app.tenant("acme");
        let mut hold = transfer(&alice, &bank, 100);
        hold["expires_at"] = json!(app.clock().now().plus_ms(60_000).to_string());
        let hold = acme.post(HOLDS).json(&hold).send().await.expect(201).text("transaction_id");
        assert_eq!(available(&acme, &alice).await, (100, 0));
        app.clock().advance_ms(60_000);
        assert_eq!(available(&acme, &alice).await, (100, 100));
        assert_eq!(acme.get(format!("{HOLDS}/{hold}")).send().await.expect(200).text("status"), "expired");
        acme.post(TRANSFERS).json(&transfer(&alice, &bank, 60)).send().await.expect(201);
        acme.post(format!("{HOLDS}/{hold}/capture")).send().await.expect_problem(409, "ledger.hold_expired");
        assert_eq!(app.store().read_shard(0, |read| api::tenants_with_due_holds(read, 10)).await.unwrap(), [tenant]);
        let release = |tx: &mut Tx<'_>, _: &()| api::expire_holds(tx, 100);
        assert_eq!(app.store().write(tenant, release, ()).await.unwrap(), 1);
        assert_eq!(app.store().write(tenant, release, ()).await.unwrap(), 0);
        assert_eq!(app.store().read_shard(0, |read| api::tenants_with_due_holds(read, 10)).await.unwrap(), []);
        assert_eq!(available(&acme, &alice).await, (40, 40));
        let lines = acme.get(format!("/api/v1/ledger/accounts/{alice}/statement")).send().await.expect(200).json;
        assert_eq!((&lines["data"][0]["kind"], &lines["data"][0]["pending_minor"]), (&json!("expiry"), &json!(-100)));
    }

    async fn accounts_are_frozen_and_closed_and_permissions_count(app: TestApp) {
        let (acme, bank, alice) = bank_and_alice(&app).await;
        let path = format!("/api/v1/ledger/accounts/{alice}");
        let seen = acme.get(&path).send().await.expect(200);
        assert_eq!((seen.header("etag"), &seen.json["balance"]["available_minor"]), ("\"1\"", &json!(100)));
        acme.patch(&path).if_match(9).json(&json!({ "status": "frozen" })).send().await.expect_problem(412, "request.precondition_failed");
        acme.patch(&path).if_match(1).json(&json!({ "status": "frozen" })).send().await.expect(200);
        acme.post(TRANSFERS).json(&transfer(&alice, &bank, 1)).send().await.expect_problem(409, "ledger.account_frozen");
        acme.post(TRANSFERS).json(&transfer(&bank, &alice, 1)).send().await.expect(201);
        acme.patch(&path).json(&json!({ "status": "closed" })).send().await.expect_problem(409, "ledger.account_not_empty");
        acme.patch(&path).json(&json!({ "status": "open", "may_go_negative": true, "negative_limit_minor": 10 })).send().await.expect(200);
        acme.post(TRANSFERS).json(&transfer(&alice, &bank, 111)).send().await.expect(201);
        acme.patch(&path).json(&json!({ "may_go_negative": false })).send().await.expect_problem(409, "ledger.limit_below_balance");
        acme.patch(&path).json(&json!({ "negative_limit_minor": 1 })).send().await.expect_problem(400, "request.invalid");
        acme.post(TRANSFERS).json(&transfer(&bank, &alice, 10)).send().await.expect(201);
        acme.patch(&path).json(&json!({ "status": "closed" })).send().await.expect(200);
        acme.patch(&path).json(&json!({ "status": "open" })).send().await.expect_problem(409, "ledger.stays_closed");
        let limits = "/api/v1/ledger/owners/alice/limits/EUR";
        acme.put(limits).json(&json!({ "per_month_minor": -1 })).send().await.expect_problem(400, "request.invalid");
        acme.put(limits).json(&json!({ "per_month_minor": 5 })).send().await.expect(200);
        // A limit of the owner binds accounts that are opened later, too.
        let second = open(&acme, "wallet:alice:2", "liability", json!({ "owner": "alice" })).await;
        acme.post(TRANSFERS).json(&transfer(&bank, &second, 100)).send().await.expect(201);
        acme.post(TRANSFERS).json(&transfer(&second, &bank, 6)).send().await.expect_problem(409, "ledger.monthly_limit");
        let of_alice = acme.get("/api/v1/ledger/accounts?owner=alice").send().await.expect(200).json;
        assert_eq!(of_alice["data"].as_array().unwrap().len(), 2);
        let reader = app.client("acme", &["ledger.read"]);
        reader.post(TRANSFERS).json(&transfer(&bank, &second, 1)).send().await.expect_problem(403, "request.forbidden");
        let writer = app.client("acme", &["ledger.write"]);
        writer.patch(&path).json(&json!({ "name": "x" })).send().await.expect_problem(403, "request.forbidden");
        writer.get(&path).send().await.expect_problem(403, "request.forbidden");
        // Another tenant's accounts are not there.
        let globex = app.client("globex", &["*"]);
        globex.get(&path).send().await.expect_problem(404, "ledger.account_not_found");
        globex.post(TRANSFERS).json(&transfer(&bank, &second, 1)).send().await.expect_problem(400, "ledger.unknown_account");
    }

    async fn money_is_conserved_at_every_read_under_sixty_four_tasks(app: TestApp) {
        let tenant = app.tenant("acme");
        let opened = app.store().write(tenant, |tx: &mut Tx<'_>, _: &()| {
            let mut ids = Vec::new();
            for n in 0..20 {
                let id = api::open_account(tx, &NewAccount::new(format!("wallet:{n}"), AccountType::Liability, euro()))?.account_id;
                ids.push(id);
            }
            let bank = api::open_account(tx, &NewAccount::new("bank", AccountType::Asset, euro()).unbounded())?.account_id;
            for id in &ids {
                api::post(tx, &Request::transfer(bank, *id, 1_000))?;
            }
            Ok(ids)
        }, ());
        let ids = opened.await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..64_usize {
            let (app, ids) = (app.clone(), ids.clone());
            tasks.spawn(async move {
                let mut own = Vec::new();
                for n in 0..40_usize {
                    let (a, b) = (ids[(task * 7 + n * 3) % 20], ids[(task * 11 + n * 5 + 1) % 20]);
                    let soon = app.clock().now().plus_ms(5_000);
                    let request = match (n % 6, own.last()) {
                        (0..3, _) | (_, None) => Request::transfer(a, b, 1 + (n as i64 * 37) % 300),
                        (3, _) => Request::hold(a, b, 50, soon),
                        (4, Some(last)) => Request::capture(*last, Some(10)),
                        (_, Some(last)) => Request::reverse(*last, Some(5)),
                    };
                    if let Ok(receipt) = api::submit(app.store(), tenant, request).await {
                        own.push(receipt.transaction_id);
                    }
                    if n % 10 == 0 {
                        app.clock().advance_ms(100);
                    }
                    if n % 8 == task % 8 {
                        let conserved = |read: &mut Read<'_>| {
                            let trial = api::trial_balance(read)?;
                            let mut lowest = 0;
                            for account in api::accounts(read, None, 100)? {
                                let balance = api::balance(read, account.account_id)?;
                                if !account.may_go_negative {
                                    lowest = lowest.min(balance.available_minor);
                                }
                            }
                            Ok((trial.balanced, lowest))
                        };
                        assert_eq!(app.store().read(tenant, conserved).await.unwrap(), (true, 0));
                    }
                }
                own.len()
            });
        }
        let done: usize = tasks.join_all().await.into_iter().sum();
        assert!(done > 1_000, "only {done} were done");
    }

    async fn another_modules_command_moves_money_with_its_own_rows_or_not_at_all(app: TestApp) {
        let (acme, bank, alice) = bank_and_alice(&app).await;
        let (bank, alice_id): (AccountId, AccountId) = (bank.parse().unwrap(), alice.parse().unwrap());
        let pay = move |tx: &mut Tx<'_>, amount: &i64| {
            let fees = api::ensure_account(tx, &NewAccount::new("fees", AccountType::Income, euro()))?.account_id;
            let hold = api::post(tx, &Request::hold(alice_id, bank, *amount, tx.now().plus_ms(1_000)).key("payments:1:hold"))?;
            api::post_linked(tx, vec![Request::capture(hold.transaction_id, None), Request::transfer(alice_id, fees, 2)])
        };
        let refused = app.store().write(app.tenant("acme"), pay, 99).await.unwrap_err();
        assert_eq!(refused.code(), "ledger.insufficient_funds");
        assert_eq!(available(&acme, &alice).await, (100, 100));
        let receipts = app.store().write(app.tenant("acme"), pay, 50).await.unwrap();
        assert_eq!((receipts.len(), available(&acme, &alice).await), (2, (48, 48)));
        let events = app.store().tenant_events_after(app.tenant("acme"), 0, 100).await.unwrap();
        let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).filter(|kind| !kind.contains("account")).collect();
        assert_eq!(kinds, ["ledger.transaction_posted", "ledger.hold_placed", "ledger.transaction_posted", "ledger.transaction_posted"]);
    }
}

/// Sends `count` equal requests at once; one that finds the machine too busy is sent again: nothing was done.
async fn at_once(count: usize, make: impl Fn() -> TestRequest + Clone + Send + Sync + 'static) -> Vec<TestResponse> {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..count {
        let make = make.clone();
        tasks.spawn(async move {
            loop {
                let answer = make().send().await;
                if answer.status != 503 {
                    return answer;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        });
    }
    tasks.join_all().await
}
