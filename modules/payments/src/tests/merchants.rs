//! Merchants are settled: fees, reserve, payouts and negative balances, as stories; the books are audited at the end of each.

use super::settlement::file;
use super::world::{World, setup};
use serde_json::{Value, json};
use store::Tx;
use testkit::TestApp;

fn terms() -> Value {
    json!({ "name": "Potter", "account": "DE02120300000000202051", "fee_micros": 20_000, "bears_provider_fee": true, "reserve_micros": 100_000, "reserve_days": 30 })
}

async fn settle(world: &World) -> Value {
    world.acme.post("/api/v1/payments/settlement-batches").json(&json!({ "currency": "EUR" })).send().await.expect(201).json
}

testkit::both_engines! {
    setup: setup;

    async fn merchants_get_what_is_theirs(app: TestApp) {
        let world = World::new(app).await;
        world.acme.put("/api/v1/payments/merchants/potter").json(&terms()).send().await.expect(200);
        // 100.00 each; the provider keeps 1.65, the platform 2.00, and 10.00 are held back.
        let first = world.pay("tok_approve", json!({ "merchant": "potter" })).await.expect(201).text("intent_id");
        world.pay("tok_approve", json!({ "merchant": "potter" })).await.expect(201);
        world.pay("tok_approve", json!({ "merchant": "stranger" })).await.expect(201);
        world.pay("tok_approve", json!({})).await.expect(201);
        let batch = settle(&world).await;
        let line = &batch["lines"][0];
        assert_eq!((&batch["operations"], batch["lines"].as_array().map(Vec::len)), (&json!(2), Some(1)), "{batch}");
        let amounts = ["captured_minor", "platform_fee_minor", "provider_fee_minor", "reserved_minor", "payout_minor", "balance_minor"];
        assert_eq!(amounts.map(|name| line[name].as_i64().expect("an amount")), [20_000, 400, 330, 2_000, 17_270, 0], "{line}");
        let path = format!("/api/v1/payments/settlement-batches/{}", batch["batch_id"].as_str().expect("an id"));
        let file = world.acme.get(format!("{path}/payouts")).send().await.expect(200);
        let file = String::from_utf8(file.body.clone()).expect("text");
        assert!(file.contains(",potter,Potter,DE02120300000000202051,EUR,17270,172.70"), "{file}");
        assert_eq!(world.get(&path).await, batch);
        // Nobody posts to what is paid out to a merchant.
        let accounts = world.get("/api/v1/ledger/accounts?limit=100").await;
        let of = |code: &str| {
            let found = accounts["data"].as_array().expect("accounts").iter().find(|account| account["code"].as_str().is_some_and(|c| c.starts_with(code)));
            found.expect("an account")["account_id"].clone()
        };
        for credited in ["payments:merchant:", "payments:reserve:", "payments:platform_fees:"] {
            let body = json!({ "debit_account_id": of("payments:fees_borne:"), "credit_account_id": of(credited), "amount_minor": 1 });
            world.acme.post("/api/v1/ledger/transfers").json(&body).send().await.expect_problem(409, "ledger.account_managed");
        }
        // What the bank has executed is booked by whoever hears it from the bank.
        let open = json!({ "code": "bank:EUR", "type": "asset", "currency": "EUR", "may_go_negative": true });
        let bank = world.acme.post("/api/v1/ledger/accounts").json(&open).send().await.expect(201).json["account_id"].clone();
        let body = json!({ "debit_account_id": of("payments:payouts:"), "credit_account_id": bank, "amount_minor": 17_270 });
        world.acme.post("/api/v1/ledger/transfers").json(&body).send().await.expect(201);
        let nothing = world.acme.post("/api/v1/payments/settlement-batches").json(&json!({ "currency": "EUR" })).send().await;
        nothing.expect_problem(409, "payments.nothing_to_settle");

        // All of one payment goes back after it was paid out: the merchant owes it, and nothing is paid out.
        world.ask(&format!("/api/v1/payments/intents/{first}"), "refund", json!({ "wait_ms": 2_000 })).await.expect(200);
        let batch = settle(&world).await;
        assert_eq!((&batch["lines"][0]["payout_minor"], &batch["lines"][0]["balance_minor"]), (&json!(0), &json!(-10_000)), "{batch}");
        // The reserve comes free a month later, and goes against what is owed; another sale brings the rest.
        world.later(31 * 86_400_000).await;
        let batch = settle(&world).await;
        assert_eq!((&batch["lines"][0]["released_minor"], &batch["lines"][0]["balance_minor"]), (&json!(2_000), &json!(-8_000)), "{batch}");
        world.pay("tok_approve", json!({ "merchant": "potter" })).await.expect(201);
        let batch = settle(&world).await;
        assert_eq!(batch["lines"][0]["payout_minor"], 8_635 - 8_000, "{batch}");
        // Terms that come later settle what has waited.
        let stranger = json!({ "name": "Stranger", "account": "x" });
        world.acme.put("/api/v1/payments/merchants/stranger").json(&stranger).send().await.expect(200);
        assert_eq!(settle(&world).await["lines"][0]["payout_minor"], 10_000);
    }

    async fn what_waits_for_nobody_stands_in_nobodys_way(app: TestApp) {
        let world = World::new(app).await;
        // As many as a batch takes wait for a merchant that has no terms.
        let crowd = |tx: &mut Tx<'_>, (): &()| {
            tx.exec(
                "WITH RECURSIVE n(i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
INSERT INTO payments_merchant_operations (tenant_id, currency, operation_id, merchant, provider_id, kind, amount_minor, fee_minor)
SELECT CAST($1 AS BIGINT), 'EUR', i, 'stranger', 1, 'capture', 100, 0 FROM n",
                (),
            )
        };
        world.app.store().write(world.app.tenant("acme"), crowd, ()).await.expect("a crowd");
        world.acme.put("/api/v1/payments/merchants/potter").json(&terms()).send().await.expect(200);
        world.pay("tok_approve", json!({ "merchant": "potter" })).await.expect(201);
        let batch = settle(&world).await;
        assert_eq!((&batch["operations"], &batch["more"]), (&json!(1), &json!(false)), "{batch}");
    }

    async fn a_fee_that_only_the_file_tells_is_the_merchants(app: TestApp) {
        let world = World::new(app).await;
        world.acme.put("/api/v1/payments/merchants/potter").json(&terms()).send().await.expect(200);
        let free = json!({ "name": "Free", "account": "x" });
        world.acme.put("/api/v1/payments/merchants/free").json(&free).send().await.expect(200);
        for merchant in ["potter", "free"] {
            world.pay("tok_approve", json!({ "merchant": merchant })).await.expect(201);
        }
        let before = settle(&world).await;
        let path = format!("/api/v1/payments/providers/{}/settlement-format", world.psp.id);
        let mut format = world.get(&path).await;
        format["rules"] = json!([{ "kind": "fee", "up_to_minor": 100, "action": "post" }]);
        world.acme.put(&path).json(&format).send().await.expect(200);
        let rows = file(&world).await.replace(",165,9835,", ",185,9815,");
        let path = format!("/api/v1/payments/reconciliations?provider_id={}&day=2026-01-05", world.psp.id);
        let run = world.acme.post(&path).raw("text/csv", rows.into_bytes()).send().await.expect(201).json;
        assert_eq!(run["summary"]["resolved_by_rule"], 2, "{run}");
        let after = settle(&world).await;
        let line = |batch: &Value, merchant: &str| batch["lines"].as_array().expect("lines").iter().find(|line| line["merchant"] == merchant).cloned().expect("a line");
        let (potter, free) = (line(&after, "potter"), line(&after, "free"));
        assert_eq!((&potter["provider_fee_minor"], &potter["captured_minor"], &potter["balance_minor"]), (&json!(20), &json!(0), &json!(-20)), "{potter}");
        assert_eq!((&free["provider_fee_minor"], &free["balance_minor"]), (&json!(0), &json!(0)), "who doesn't bear it pays nothing");
        assert_eq!(line(&before, "potter")["provider_fee_minor"], 165);
    }
}
