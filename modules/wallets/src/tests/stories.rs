//! What people do with wallets, over HTTP.

use super::world::{World, by_amount, setup};
use kernel::Clock as _;
use serde_json::{Value, json};
use testkit::TestApp;

testkit::both_engines! {
    setup: setup;

    async fn money_moves_and_every_refusal_has_a_code(app: TestApp) {
        let world = World::new(app);
        let (alice, bob) = (world.user("alice", 50_000).await, world.user("bob", 0).await);
        let shop = world.wallet("shop", "merchant", 0, json!({ "fee_bps": 250 })).await;
        let sent = world.send(&alice, &bob, 12_345, json!({ "note": "dinner" })).await.expect(201).json;
        assert_eq!((sent["status"].as_str(), sent["fee_minor"].as_i64()), (Some("completed"), Some(0)));
        assert!(sent["reasons"].as_array().is_some_and(|reasons| !reasons.is_empty()), "a new payee is a reason: {sent}");
        let paid = world.send(&alice, &shop, 10_010, json!({ "kind": "payment" })).await.expect(201).json;
        assert_eq!(paid["fee_minor"].as_i64(), Some(250), "2.5 % rounded down");
        assert_eq!((world.balance(&alice).await, world.balance(&bob).await, world.balance(&shop).await.0), ((27_645, 27_645), (12_345, 12_345), 9_760));

        // A key is one transfer.
        let body = json!({ "from_wallet_id": alice, "to_wallet_id": bob, "amount_minor": 100, "currency": "EUR" });
        let first = world.acme.post("/api/v1/wallet-transfers").key("k1").json(&body).send().await.expect(201);
        let again = world.acme.post("/api/v1/wallet-transfers").key("k1").json(&body).send().await.expect(201);
        assert_eq!((first.json.clone(), again.header("idempotency-replayed")), (again.json.clone(), "true"));
        let other = json!({ "from_wallet_id": alice, "to_wallet_id": bob, "amount_minor": 101, "currency": "EUR" });
        world.acme.post("/api/v1/wallet-transfers").key("k1").json(&other).send().await.expect_problem(409, "idempotency.key_reused");

        // The statement leads to the transfers, page by page.
        let page = world.get(&format!("/api/v1/wallets/{alice}/statement?currency=EUR&limit=2")).await;
        assert_eq!((page["data"][0]["amount_minor"].as_i64(), page["data"][0]["balance"]["posted_minor"].as_i64()), (Some(-100), Some(27_545)));
        assert_eq!(page["data"][1]["transfer_id"], paid["transfer_id"]);
        let cursor = page["next_cursor"].as_str().expect("there is more").to_owned();
        let rest = world.get(&format!("/api/v1/wallets/{alice}/statement?currency=EUR&limit=2&cursor={cursor}")).await;
        assert_eq!((rest["data"][0]["transfer_id"].clone(), rest["data"][1]["amount_minor"].as_i64()), (sent["transfer_id"].clone(), Some(50_000)));

        let nobody = "wal_0000000000A";
        let empty = world.wallet("dollars", "user", 0, json!({ "currencies": ["USD"] })).await;
        let cases: &[(Value, u16, &str)] = &[
            (json!({ "amount_minor": -1 }), 400, "wallets.amount_negative"),
            (json!({ "amount_minor": 0 }), 400, "wallets.amount_zero"),
            (json!({ "amount_minor": 10.5 }), 400, "wallets.amount_fractional"),
            (json!({ "amount_minor": 1_000_000_000_001_i64 }), 400, "wallets.amount_too_large"),
            (json!({ "amount_minor": 1e300 }), 400, "wallets.amount_too_large"),
            (json!({ "amount_minor": 18_446_744_073_709_551_615_u64 }), 400, "wallets.amount_too_large"),
            (json!({ "amount_minor": "100" }), 400, "request.invalid"),
            (json!({ "currency": "XXQ" }), 400, "money.unknown_currency"),
            (json!({ "note": "x".repeat(141) }), 400, "request.invalid"),
            (json!({ "whence": { "country": "Germany" } }), 400, "request.invalid"),
            (json!({ "from_wallet_id": nobody }), 404, "wallets.wallet_not_found"),
            (json!({ "to_wallet_id": nobody }), 400, "wallets.payee_not_found"),
            (json!({ "to_wallet_id": alice }), 400, "wallets.same_wallet"),
            (json!({ "to_wallet_id": shop }), 400, "wallets.is_a_merchant"),
            (json!({ "kind": "payment" }), 400, "wallets.not_a_merchant"),
            (json!({ "to_wallet_id": empty }), 409, "wallets.no_currency"),
            (json!({ "amount_minor": 27_546 }), 409, "wallets.insufficient_funds"),
        ];
        for (more, status, code) in cases {
            world.send(&alice, &bob, 100, more.clone()).await.expect_problem(*status, code);
        }
        assert_eq!(world.balance(&alice).await, (27_545, 27_545), "nothing of it moved");
        assert_eq!(world.events(&["wallet.transfer_completed", "wallet.transfer_denied"]).await, [4, 0]);
    }

    async fn a_frozen_wallet_gives_nothing_and_a_closed_one_takes_nothing(app: TestApp) {
        let world = World::new(app);
        let (alice, bob) = (world.user("alice", 1_000).await, world.user("bob", 0).await);
        let change = |wallet: &str, status: &str| world.acme.patch(format!("/api/v1/wallets/{wallet}")).json(&json!({ "status": status, "reason": "police" }));
        change(&alice, "frozen").if_match(7).send().await.expect_problem(412, "request.precondition_failed");
        change(&alice, "frozen").if_match(1).send().await.expect(200);
        world.send(&alice, &bob, 1, json!({})).await.expect_problem(409, "wallets.frozen");
        change(&bob, "closed").send().await.expect(200);
        world.send(&alice, &bob, 1, json!({})).await.expect_problem(409, "wallets.payee_closed");
        change(&alice, "open").send().await.expect(200);
        world.send(&alice, &bob, 1, json!({})).await.expect_problem(409, "wallets.payee_closed");
        world.send(&bob, &alice, 1, json!({})).await.expect_problem(409, "wallets.closed");
        change(&alice, "closed").send().await.expect_problem(409, "wallets.not_empty");
        change(&bob, "open").send().await.expect_problem(409, "wallets.closed");
        // A currency that is added to a frozen wallet is frozen too.
        change(&alice, "frozen").send().await.expect(200);
        world.post(&format!("/api/v1/wallets/{alice}/currencies"), json!({ "currency": "USD" })).await.expect(200);
        let wallet = world.get(&format!("/api/v1/wallets/{alice}")).await;
        let account = wallet["pockets"][1]["account_id"].as_str().expect("an account").to_owned();
        assert_eq!(world.get(&format!("/api/v1/ledger/accounts/{account}")).await["status"], "frozen");
    }

    async fn limits_are_those_of_the_level(app: TestApp) {
        let world = World::new(app);
        let (alice, bob) = (world.wallet("alice", "user", 1_000_000, json!({ "level": 0 })).await, world.user("bob", 0).await);
        world.judge(json!([]), [1_001; 3]).await;
        world.send(&alice, &bob, 15_001, json!({})).await.expect_problem(409, "wallets.transaction_limit");
        world.send(&alice, &bob, 10_000, json!({})).await.expect(201);
        let refused = world.send(&alice, &bob, 5_001, json!({})).await.expect_problem(409, "wallets.daily_limit");
        assert!(refused.json["detail"].as_str().is_some_and(|detail| detail.contains("5000")), "{}", refused.json);
        world.send(&alice, &bob, 5_000, json!({})).await.expect(201);
        // A refusal for want of funds uses nothing up.
        let carol = world.wallet("carol", "user", 100, json!({ "level": 0 })).await;
        world.send(&carol, &bob, 15_000, json!({})).await.expect_problem(409, "wallets.insufficient_funds");
        world.send(&carol, &bob, 100, json!({})).await.expect(201);
        // Days of 150.00 up to the month's 1,000.00.
        for _ in 0..5 {
            world.app.advance_ms(86_400_000).await;
            world.send(&alice, &bob, 15_000, json!({})).await.expect(201);
        }
        world.app.advance_ms(86_400_000).await;
        world.send(&alice, &bob, 15_000, json!({})).await.expect_problem(409, "wallets.monthly_limit");
        world.send(&alice, &bob, 10_000, json!({})).await.expect(201);
        let edit = json!({ "level": 1, "reason": "identified" });
        world.acme.patch(format!("/api/v1/wallets/{alice}")).json(&edit).send().await.expect(200);
        world.send(&alice, &bob, 100_000, json!({})).await.expect(201);
        let edit = json!({ "level": 77, "reason": "a mistake" });
        world.acme.patch(format!("/api/v1/wallets/{alice}")).json(&edit).send().await.expect(200);
        world.send(&alice, &bob, 1, json!({})).await.expect_problem(409, "wallets.level_unknown");
        // In yen, which has no smaller unit, the same limit is a hundredth of the number.
        let (yen, payee) = (json!({ "level": 0, "currencies": ["JPY"] }), json!({ "currencies": ["JPY"] }));
        let (dora, emil) = (world.wallet("dora", "user", 0, yen).await, world.wallet("emil", "user", 0, payee).await);
        let deposit = json!({ "amount_minor": 500, "currency": "JPY", "reference": "yen" });
        world.post(&format!("/api/v1/wallets/{dora}/deposits"), deposit.clone()).await.expect(201);
        world.post(&format!("/api/v1/wallets/{dora}/deposits"), deposit).await.expect_problem(409, "wallets.deposit_taken");
        world.send(&dora, &emil, 151, json!({ "currency": "JPY" })).await.expect_problem(409, "wallets.transaction_limit");
        world.send(&dora, &emil, 150, json!({ "currency": "JPY" })).await.expect(201);
    }

    /// Show 6: however many come at once, the day's limit holds to the minor unit.
    async fn a_daily_limit_holds_under_five_hundred_at_once(app: TestApp) {
        let world = World::new(app);
        world.judge(json!([]), [1_001; 3]).await;
        let alice = world.wallet("alice", "user", 100_000, json!({ "level": 0 })).await;
        let bob = world.user("bob", 0).await;
        let body = json!({ "from_wallet_id": alice, "to_wallet_id": bob, "amount_minor": 100, "currency": "EUR" });
        let sends = (0..500).map(|n| {
            let request = world.acme.post("/api/v1/wallet-transfers").key(&format!("k{n}")).json(&body);
            tokio::spawn(request.send())
        });
        let (mut done, mut refused) = (0, 0);
        for answer in futures_util::future::join_all(sends).await {
            let answer = answer.expect("no panic");
            match answer.status.as_u16() {
                201 => {
                    assert!(answer.json["reasons"].is_array(), "{}", answer.json);
                    done += 1;
                }
                _ => {
                    answer.expect_problem(409, "wallets.daily_limit");
                    refused += 1;
                }
            }
        }
        assert_eq!((done, refused, world.balance(&alice).await.0), (150, 350, 85_000));
        let wallet = world.get(&format!("/api/v1/wallets/{alice}")).await;
        assert_eq!(wallet["pockets"][0]["used_today_minor"].as_i64(), Some(15_000));
    }

    /// Those that run out of money in a set have used nothing of the limits, and do not stand in the way of those after them.
    async fn a_set_is_decided_in_its_order(app: TestApp) {
        let world = World::new(app);
        world.judge(json!([]), [1_001; 3]).await;
        let payers: Vec<String> = futures_util::future::join_all((0..20).map(|n| {
            let (world, name) = (&world, format!("payer{n}"));
            async move { world.wallet(&name, "user", 10_000, json!({ "level": 1 })).await }
        }))
        .await;
        // 60.00, 60.00 and 40.00 of 100.00 from each, all at once: whichever of the first two comes second is short of money, and
        // the third fits whenever it comes.
        let bob = world.user("bob", 0).await;
        let sends = [6_000, 6_000, 4_000].into_iter().flat_map(|minor| {
            let (acme, bob) = (&world.acme, &bob);
            payers.iter().map(move |payer| {
                let body = json!({ "from_wallet_id": payer, "to_wallet_id": bob, "amount_minor": minor, "currency": "EUR" });
                tokio::spawn(acme.post("/api/v1/wallet-transfers").json(&body).send())
            })
        });
        let mut done = 0;
        for answer in futures_util::future::join_all(sends).await {
            let answer = answer.expect("no panic");
            match answer.status.as_u16() {
                201 => done += 1,
                _ => drop(answer.expect_problem(409, "wallets.insufficient_funds")),
            }
        }
        assert_eq!((done, world.balance(&bob).await.0), (40, 200_000));
        for payer in &payers {
            let wallet = world.get(&format!("/api/v1/wallets/{payer}")).await;
            let pocket = &wallet["pockets"][0];
            assert_eq!((pocket["used_today_minor"].as_i64(), pocket["balance"]["posted_minor"].as_i64()), (Some(10_000), Some(0)));
        }
    }

    async fn a_challenge_wants_its_code_in_time(app: TestApp) {
        let world = World::new(app);
        let (alice, bob) = (world.user("alice", 100_000).await, world.user("bob", 0).await);
        world.judge(by_amount(), [100, 900, 1_001]).await;
        let ask = || async { world.send(&alice, &bob, 10_000, json!({})).await.expect(202).json };
        let code_of = |id: &str| world.acme.get(format!("/api/v1/wallet-transfers/{id}/code")).send();
        let confirm = |id: &str, code: &str| world.acme.post(format!("/api/v1/wallet-transfers/{id}/confirm")).json(&json!({ "one_time_code": code })).send();
        let asked = ask().await;
        let id = asked["transfer_id"].as_str().expect("an id").to_owned();
        assert_eq!((asked["status"].as_str(), asked["score"].as_i64(), asked["reasons"][0]["code"].as_str()), (Some("challenged"), Some(100), Some("hundred")));
        assert_eq!(world.balance(&alice).await, (100_000, 100_000), "nothing is held for a challenge");
        let code = code_of(&id).await.expect(200).text("one_time_code");
        world.app.client("acme", &["wallets.use", "wallets.operate"]).get(format!("/api/v1/wallet-transfers/{id}/code")).send().await.expect_problem(403, "request.forbidden");
        let wrong = if code == "000000" { "000001" } else { "000000" };
        confirm(&id, wrong).await.expect_problem(409, "wallets.wrong_code");
        let done = confirm(&id, &code).await.expect(201).json;
        assert_eq!((done["status"].as_str(), done["transfer_id"].as_str()), (Some("completed"), Some(id.as_str())));
        confirm(&id, &code).await.expect_problem(409, "wallets.not_challenged");
        assert_eq!(world.balance(&bob).await.0, 10_000);
        // Three wrong ones are enough.
        let id = ask().await["transfer_id"].as_str().expect("an id").to_owned();
        let code = code_of(&id).await.expect(200).text("one_time_code");
        let wrong = if code == "000000" { "000001" } else { "000000" };
        for left in ["2 more", "1 more", "0 more"] {
            let refused = confirm(&id, wrong).await.expect_problem(409, "wallets.wrong_code");
            assert!(refused.json["detail"].as_str().is_some_and(|detail| detail.contains(left)), "{}", refused.json);
        }
        confirm(&id, &code).await.expect_problem(409, "wallets.not_challenged");
        assert_eq!(world.get(&format!("/api/v1/wallet-transfers/{id}")).await["status"], "rejected");
        // Nobody answers.
        let id = ask().await["transfer_id"].as_str().expect("an id").to_owned();
        let code = code_of(&id).await.expect(200).text("one_time_code");
        world.app.clock().advance_ms(600_000);
        confirm(&id, &code).await.expect_problem(409, "wallets.challenge_expired");
        world.app.advance_ms(1_000).await;
        assert_eq!(world.get(&format!("/api/v1/wallet-transfers/{id}")).await["status"], "expired");
        // What is confirmed is decided anew: the money may be gone.
        let id = ask().await["transfer_id"].as_str().expect("an id").to_owned();
        let code = code_of(&id).await.expect(200).text("one_time_code");
        for _ in 0..9 {
            world.send(&alice, &bob, 9_999, json!({})).await.expect(201);
        }
        confirm(&id, &code).await.expect_problem(409, "wallets.insufficient_funds");
        assert_eq!(world.events(&["wallet.transfer_challenged", "wallet.transfer_expired", "wallet.transfer_rejected"]).await, [4, 1, 1]);
        world.app.advance_ms(700_000).await;
    }

    async fn a_review_holds_until_somebody_decides(app: TestApp) {
        let world = World::new(app);
        let alice = world.wallet("alice", "user", 100_000, json!({ "level": 1 })).await;
        let (bob, shop) = (world.user("bob", 0).await, world.wallet("shop", "merchant", 0, json!({})).await);
        let ask = |to: String, more: Value| {
            let world = &world;
            let alice = alice.clone();
            async move { world.send(&alice, &to, 20_000, more).await.expect(202).json["transfer_id"].as_str().expect("an id").to_owned() }
        };
        world.judge(by_amount(), [150, 200, 300]).await;
        let (one, two) = (ask(bob.clone(), json!({})).await, ask(shop.clone(), json!({ "kind": "payment" })).await);
        let three = ask(bob.clone(), json!({})).await;
        assert_eq!(world.balance(&alice).await, (100_000, 40_000), "what is in review is held");
        let queue = world.get("/api/v1/wallet-reviews").await;
        let queued: Vec<&str> = queue["data"].as_array().expect("a list").iter().filter_map(|review| review["transfer"]["transfer_id"].as_str()).collect();
        assert_eq!(queued, [one.as_str(), two.as_str(), three.as_str()]);
        let decide = |id: &str, how: &str| world.acme.post(format!("/api/v1/wallet-reviews/{id}/{how}")).json(&json!({ "reason": "called her" })).send();
        assert_eq!(decide(&two, "approve").await.expect(200).json["status"], "completed");
        assert_eq!((world.balance(&shop).await.0, world.balance(&alice).await), (20_000 - 240, (80_000, 40_000)));
        decide(&two, "reject").await.expect_problem(409, "wallets.not_in_review");
        // What was refused counts against no limit any more.
        let used = || async { world.get(&format!("/api/v1/wallets/{alice}")).await["pockets"][0]["used_today_minor"].as_i64() };
        assert_eq!(used().await, Some(60_000));
        assert_eq!(decide(&one, "reject").await.expect(200).json["status"], "rejected");
        assert_eq!((used().await, world.balance(&alice).await), (Some(40_000), (80_000, 60_000)));
        // A frozen payer's is not let through.
        let freeze = |status: &str| world.acme.patch(format!("/api/v1/wallets/{alice}")).json(&json!({ "status": status, "reason": "police" })).send();
        freeze("frozen").await.expect(200);
        decide(&three, "approve").await.expect_problem(409, "wallets.frozen");
        freeze("open").await.expect(200);
        // Nobody decides.
        world.app.advance_ms(172_800_000).await;
        assert_eq!(world.get(&format!("/api/v1/wallet-transfers/{three}")).await["status"], "expired");
        assert_eq!(world.balance(&alice).await, (80_000, 80_000));
        assert_eq!(world.get("/api/v1/wallet-reviews").await["data"], json!([]));
        assert_eq!(world.events(&["wallet.transfer_in_review", "wallet.transfer_rejected", "wallet.transfer_expired"]).await, [3, 1, 1]);
    }

    /// Whatever becomes of the saga that is to end it, nothing waits for ever; and what nobody decided in time can still be rejected.
    async fn nothing_waits_for_an_expiry_that_was_cancelled(app: TestApp) {
        let world = World::new(app);
        let (alice, bob) = (world.user("alice", 100_000).await, world.user("bob", 0).await);
        world.judge(by_amount(), [150, 200, 300]).await;
        let ask = async || world.send(&alice, &bob, 20_000, json!({})).await.expect(202).text("transfer_id");
        let key = |what: &str, id: &str| format!("{what}:{}", id.parse::<crate::TransferId>().expect("an id").as_i64());
        let (one, two) = (ask().await, ask().await);
        world.cancel(crate::EXPIRE, &key("review", &one)).await;
        assert_eq!(world.get(&format!("/api/v1/wallet-transfers/{one}")).await["status"], "expired");
        assert_eq!(world.balance(&alice).await, (100_000, 80_000));
        // Its time is over, and whatever is to end it has not run.
        let late = |tx: &mut store::Tx<'_>, (): &()| tx.exec("UPDATE wallets_pending SET expires_at = 1 WHERE tenant_id = $1", ());
        world.app.store().write(world.app.tenant("acme"), late, ()).await.expect("time is over");
        let decide = |how: &str| world.acme.post(format!("/api/v1/wallet-reviews/{two}/{how}")).json(&json!({ "reason": "too late" })).send();
        decide("approve").await.expect_problem(409, "wallets.not_in_review");
        assert_eq!(decide("reject").await.expect(200).json["status"], "rejected");
        assert_eq!(world.balance(&alice).await, (100_000, 100_000));
        let body = json!({ "asker_wallet_id": alice, "payer_wallet_id": bob, "amount_minor": 5, "currency": "EUR" });
        let request = world.post("/api/v1/wallet-requests", body).await.expect(201).text("request_id");
        world.cancel(crate::EXPIRE, &format!("request:{}", request.parse::<crate::RequestId>().expect("an id").as_i64())).await;
        assert_eq!(world.get(&format!("/api/v1/wallet-requests/{request}")).await["status"], "expired");
        let body = json!({ "from_wallet_id": alice, "to_wallet_id": bob, "amount_minor": 5, "currency": "EUR", "every": "day",
            "first_at": world.app.clock().now().plus_ms(86_400_000).to_string() });
        let schedule = world.post("/api/v1/wallet-schedules", body).await.expect(201).text("schedule_id");
        world.cancel(crate::SCHEDULE, &schedule).await;
        let seen = world.get(&format!("/api/v1/wallet-schedules/{schedule}")).await;
        assert_eq!((seen["status"].as_str(), seen["next_at"].is_null()), (Some("cancelled"), true));
    }

    /// As with a clock that has stepped back: what is looked at before its time is looked at again.
    async fn an_expiry_that_comes_early_comes_again(app: TestApp) {
        let world = World::new(app);
        let (alice, bob) = (world.user("alice", 100_000).await, world.user("bob", 0).await);
        world.judge(by_amount(), [150, 200, 300]).await;
        let transfer = world.send(&alice, &bob, 20_000, json!({})).await.expect(202).text("transfer_id");
        let body = json!({ "asker_wallet_id": alice, "payer_wallet_id": bob, "amount_minor": 5, "currency": "EUR" });
        let request = world.post("/api/v1/wallet-requests", body).await.expect(201).text("request_id");
        let later = |tx: &mut store::Tx<'_>, (): &()| {
            tx.exec("UPDATE wallets_pending SET expires_at = expires_at + 2592000000000 WHERE tenant_id = $1", ())?;
            tx.exec("UPDATE wallets_requests SET expires_at = expires_at + 2592000000000 WHERE tenant_id = $1", ())
        };
        world.app.store().write(world.app.tenant("acme"), later, ()).await.expect("a month later");
        let statuses = async || {
            let of = async |path: String| world.get(&path).await["status"].as_str().expect("a status").to_owned();
            (of(format!("/api/v1/wallet-transfers/{transfer}")).await, of(format!("/api/v1/wallet-requests/{request}")).await)
        };
        world.app.advance_ms(20 * 86_400_000).await;
        assert_eq!(statuses().await, ("in_review".to_owned(), "open".to_owned()));
        world.app.advance_ms(40 * 86_400_000).await;
        assert_eq!(statuses().await, ("expired".to_owned(), "expired".to_owned()));
        assert_eq!((world.balance(&alice).await, world.events(&["wallet.request_expired"]).await), ((100_000, 100_000), vec![1]));
    }

    /// A code has a million values, and whoever has somebody's session may ask for as many challenges as it likes.
    async fn guesses_of_codes_have_an_end(app: TestApp) {
        let world = World::new(app);
        let (alice, bob) = (world.user("alice", 10_000_000).await, world.user("bob", 0).await);
        world.judge(by_amount(), [100, 900, 1_001]).await;
        let ask = async || world.send(&alice, &bob, 10_000, json!({})).await;
        let code_of = async |id: &str| world.get(&format!("/api/v1/wallet-transfers/{id}/code")).await["one_time_code"].as_str().expect("a code").to_owned();
        let confirm = async |id: &str, code: &str| world.post(&format!("/api/v1/wallet-transfers/{id}/confirm"), json!({ "one_time_code": code })).await;
        let left_over = ask().await.expect(202).text("transfer_id");
        let mut wrong = 0;
        while wrong < crate::model::Codes::MAX_WRONG {
            let id = ask().await.expect(202).text("transfer_id");
            let code = code_of(&id).await;
            let guess = if code == "000000" { "000001" } else { "000000" };
            for _ in 0..3.min(crate::model::Codes::MAX_WRONG - wrong) {
                confirm(&id, guess).await.expect_problem(409, "wallets.wrong_code");
                wrong += 1;
            }
        }
        // Neither another challenge nor the right code of an earlier one; what needs none goes on.
        ask().await.expect_problem(409, "wallets.too_many_codes");
        let code = code_of(&left_over).await;
        confirm(&left_over, &code).await.expect_problem(409, "wallets.too_many_codes");
        world.send(&alice, &bob, 100, json!({})).await.expect(201);
        assert_eq!(world.balance(&bob).await.0, 100);
        // Tomorrow is another day, of so many challenges.
        world.app.advance_ms(86_400_000).await;
        for _ in 0..crate::model::Codes::MAX_ASKED {
            ask().await.expect(202);
        }
        ask().await.expect_problem(409, "wallets.too_many_codes");
    }

    /// A payment to a frozen merchant is taken with its fee; so is one that was reviewed first.
    async fn a_review_is_approved_while_its_merchant_is_frozen(app: TestApp) {
        let world = World::new(app);
        let (alice, shop) = (world.user("alice", 100_000).await, world.wallet("shop", "merchant", 0, json!({ "fee_bps": 100 })).await);
        world.judge(by_amount(), [150, 200, 300]).await;
        let asked = world.send(&alice, &shop, 20_000, json!({ "kind": "payment" })).await.expect(202).text("transfer_id");
        let edit = json!({ "status": "frozen", "reason": "police" });
        world.acme.patch(format!("/api/v1/wallets/{shop}")).json(&edit).send().await.expect(200);
        world.send(&alice, &shop, 1_000, json!({ "kind": "payment" })).await.expect(201);
        let approved = world.post(&format!("/api/v1/wallet-reviews/{asked}/approve"), json!({ "reason": "known" })).await.expect(200).json;
        assert_eq!((approved["status"].as_str(), world.balance(&shop).await.0), (Some("completed"), 20_000 - 200 + 1_000 - 10));
    }

    /// Nobody has prepared an account for a wallet, and nobody changes one behind its back.
    async fn accounts_of_wallets_are_the_wallets_own(app: TestApp) {
        let world = World::new(app);
        let (alice, shop) = (world.user("alice", 5_000).await, world.wallet("shop", "merchant", 0, json!({})).await);
        let accounts = world.get("/api/v1/ledger/accounts?limit=100").await;
        let account = |code: String| {
            let found = accounts["data"].as_array().expect("accounts").iter().find(|account| account["code"] == json!(code)).cloned();
            found.expect("an account")["account_id"].as_str().expect("an id").to_owned()
        };
        let (alices, fees) = (account(format!("wallets:{alice}:EUR")), account("wallets:fees:EUR".to_owned()));
        let patch = |id: &str, body: Value| world.acme.patch(format!("/api/v1/ledger/accounts/{id}")).json(&body).send();
        patch(&alices, json!({ "may_go_negative": true })).await.expect_problem(409, "ledger.account_managed");
        patch(&fees, json!({ "status": "closed" })).await.expect_problem(409, "ledger.account_managed");
        let limit = json!({ "per_day_minor": 0 });
        for path in [format!("/api/v1/ledger/accounts/{alices}/limits"), format!("/api/v1/ledger/owners/{alice}/limits/EUR")] {
            world.acme.put(path).json(&limit).send().await.expect_problem(409, "ledger.account_managed");
        }
        world.acme.put("/api/v1/ledger/owners/somebody/limits/EUR").json(&limit).send().await.expect(200);
        world.send(&alice, &shop, 1_000, json!({ "kind": "payment" })).await.expect(201);
        // An account that somebody opened under the name that a pocket would have.
        let open = json!({ "code": format!("wallets:{alice}:USD"), "type": "liability", "currency": "USD", "may_go_negative": true });
        world.post("/api/v1/ledger/accounts", open).await.expect(201);
        let add = world.post(&format!("/api/v1/wallets/{alice}/currencies"), json!({ "currency": "USD" })).await;
        add.expect_problem(409, "ledger.code_taken");
        let open = json!({ "code": "wallets:bank:JPY", "type": "asset", "currency": "JPY", "may_go_negative": true });
        world.post("/api/v1/ledger/accounts", open).await.expect(201);
        let add = world.post(&format!("/api/v1/wallets/{alice}/currencies"), json!({ "currency": "JPY" })).await;
        add.expect_problem(409, "ledger.code_taken");
    }

    async fn what_is_denied_says_why(app: TestApp) {
        let world = World::new(app);
        let (alice, bob) = (world.user("alice", 100_000).await, world.user("bob", 0).await);
        world.judge(by_amount(), [150, 200, 300]).await;
        let body = json!({ "from_wallet_id": alice, "to_wallet_id": bob, "amount_minor": 30_000, "currency": "EUR" });
        let denied = world.acme.post("/api/v1/wallet-transfers").key("d").json(&body).send().await.expect_problem(409, "wallets.denied");
        assert!(["hundred", "two_hundred", "three_hundred"].iter().all(|reason| denied.names_field(reason)), "{}", denied.json);
        let again = world.acme.post("/api/v1/wallet-transfers").key("d").json(&body).send().await.expect_problem(409, "wallets.denied");
        assert_eq!(again.json["detail"], denied.json["detail"], "the same transfer");
        let list = world.get("/api/v1/wallet-transfers").await;
        assert_eq!((list["data"][0]["status"].as_str(), list["data"][0]["score"].as_i64(), list["data"][0]["counted_at"].is_null()), (Some("denied"), Some(300), true));
        assert_eq!((world.balance(&alice).await, world.events(&["wallet.transfer_denied"]).await), ((100_000, 100_000), vec![1]));
        // The tenant's own money is not judged.
        let house = world.wallet("house", "system", 100_000, json!({})).await;
        world.send(&house, &bob, 30_000, json!({})).await.expect(201);
    }

    async fn the_past_makes_the_score(app: TestApp) {
        let world = World::new(app);
        let (alice, bob, carol) = (world.user("alice", 10_000_000).await, world.user("bob", 0).await, world.user("carol", 0).await);
        let codes = |answer: &Value| -> Vec<String> {
            let reasons = answer["reasons"].as_array().expect("reasons");
            reasons.iter().map(|reason| reason["code"].as_str().expect("a code").to_owned()).collect()
        };
        let from = |device: &str, country: &str| json!({ "whence": { "device": device, "country": country } });
        world.policy(|policy| policy["fraud"]["thresholds"] = json!({ "challenge": 1001, "review": 1001, "deny": 1001 })).await;
        for _ in 0..4 {
            world.send(&alice, &bob, 1_000, from("phone", "DE")).await.expect(201);
        }
        let usual = world.send(&alice, &bob, 1_000, from("phone", "DE")).await.expect(201).json;
        assert!(!codes(&usual).iter().any(|code| !code.starts_with("model")), "{usual}");
        let stolen = world.send(&alice, &carol, 60_000, from("laptop", "BR")).await.expect(201).json;
        for reason in ["new_payee_large_amount", "unusual_amount", "extreme_amount", "new_device", "new_device_large_amount", "other_country", "young_wallet_large_amount"] {
            assert!(codes(&stolen).contains(&reason.to_owned()), "{reason} in {stolen}");
        }
        assert_eq!(stolen["score"].as_i64(), Some(1_000));
        let points: Vec<i64> = stolen["reasons"].as_array().expect("reasons").iter().filter_map(|reason| reason["points"].as_i64()).collect();
        assert!(points.is_sorted_by(|a, b| a >= b), "the heaviest first: {points:?}");
        // Carol sends it back and on: money in a circle, passed on as it came.
        let back = world.send(&carol, &alice, 55_000, json!({})).await.expect(201).json;
        assert!(codes(&back).contains(&"money_in_a_circle".to_owned()) && codes(&back).contains(&"passes_on_what_came".to_owned()), "{back}");
        // A policy is kept with its version, and says which one counted.
        assert_eq!((usual["policy_version"].as_i64(), world.get("/api/v1/wallet-policy/versions").await["data"].as_array().map(Vec::len)), (Some(1), Some(1)));
        let stale = world.get("/api/v1/wallet-policy").await["policy"].clone();
        world.acme.put("/api/v1/wallet-policy").if_match(0).json(&stale).send().await.expect_problem(412, "request.precondition_failed");
        let mut wrong = stale.clone();
        wrong["fraud"]["model"]["weights"]["amount"] = json!(-0.1);
        let refused = world.acme.put("/api/v1/wallet-policy").json(&wrong).send().await.expect_problem(400, "request.invalid");
        assert!(refused.names_field("fraud.model.weights.amount"), "{}", refused.json);
    }

    async fn people_see_and_use_their_own(app: TestApp) {
        let world = World::new(app);
        let user = |id: i64| world.person(id);
        let ((ann, ann_id), (ben, ben_id)) = (user(41), user(42));
        let anns = world.wallet("ann", "user", 1_000, json!({ "user_id": ann_id })).await;
        let bens = world.wallet("ben", "user", 1_000, json!({ "user_id": ben_id })).await;
        let body = |from: &str, to: &str| json!({ "from_wallet_id": from, "to_wallet_id": to, "amount_minor": 10, "currency": "EUR" });
        let sent = ann.post("/api/v1/wallet-transfers").json(&body(&anns, &bens)).send().await.expect(201).text("transfer_id");
        ann.post("/api/v1/wallet-transfers").json(&body(&bens, &anns)).send().await.expect_problem(404, "wallets.wallet_not_found");
        ann.get(format!("/api/v1/wallets/{bens}")).send().await.expect_problem(404, "wallets.wallet_not_found");
        ann.get(format!("/api/v1/wallets/{bens}/statement?currency=EUR")).send().await.expect_problem(404, "wallets.wallet_not_found");
        // What the payer's past made of it is not for the payee.
        let path = format!("/api/v1/wallet-transfers/{sent}");
        let (anns_view, bens_view) = (ann.get(&path).send().await.expect(200).json, ben.get(&path).send().await.expect(200).json);
        assert!(anns_view["score"].as_i64() > Some(0) && anns_view["reasons"] != json!([]), "{anns_view}");
        assert_eq!((bens_view["score"].as_i64(), bens_view["reasons"].clone(), bens_view["amount_minor"].as_i64()), (Some(0), json!([]), Some(10)));
        let (eve, _) = user(43);
        eve.get(format!("/api/v1/wallet-transfers/{sent}")).send().await.expect_problem(404, "wallets.transfer_not_found");
        assert_eq!(ann.get("/api/v1/wallets").send().await.expect(200).json["data"].as_array().map(Vec::len), Some(1));
        assert_eq!(ann.get(format!("/api/v1/wallets?user_id={ben_id}")).send().await.expect(200).json["data"][0]["wallet_id"], json!(anns));
        ann.get("/api/v1/wallet-transfers").send().await.expect_problem(403, "request.forbidden");
        world.app.client("globex", &["*"]).get(format!("/api/v1/wallets/{anns}")).send().await.expect_problem(404, "wallets.wallet_not_found");
        // Asked for money, only the payer may answer, and only the asker take it back.
        let ask = json!({ "asker_wallet_id": anns, "payer_wallet_id": bens, "amount_minor": 5, "currency": "EUR" });
        let request = ann.post("/api/v1/wallet-requests").json(&ask).send().await.expect(201).text("request_id");
        let path = |what: &str| format!("/api/v1/wallet-requests/{request}{what}");
        ann.post(path("/accept")).send().await.expect_problem(404, "wallets.request_not_found");
        ben.post(path("/cancel")).send().await.expect_problem(404, "wallets.request_not_found");
        eve.get(path("")).send().await.expect_problem(404, "wallets.request_not_found");
        ben.post(path("/accept")).send().await.expect(201);
        assert_eq!(ann.get(path("")).send().await.expect(200).json["status"], "accepted");
    }

    async fn money_is_asked_for(app: TestApp) {
        let world = World::new(app);
        let (alice, bob) = (world.user("alice", 0).await, world.user("bob", 1_000).await);
        let ask = |minor: i64| {
            let body = json!({ "asker_wallet_id": alice, "payer_wallet_id": bob, "amount_minor": minor, "currency": "EUR", "note": "rent" });
            let world = &world;
            async move { world.post("/api/v1/wallet-requests", body).await.expect(201).text("request_id") }
        };
        let (paid, declined, cancelled, dear, late) = (ask(400).await, ask(1).await, ask(1).await, ask(601).await, ask(1).await);
        let answer = |id: &str, what: &str| world.acme.post(format!("/api/v1/wallet-requests/{id}/{what}")).send();
        let transfer = answer(&paid, "accept").await.expect(201).json;
        assert_eq!((transfer["note"].as_str(), world.balance(&alice).await.0), (Some("rent"), 400));
        assert_eq!(world.get(&format!("/api/v1/wallet-requests/{paid}")).await["transfer_id"], transfer["transfer_id"]);
        answer(&paid, "accept").await.expect_problem(409, "wallets.not_open");
        assert_eq!(answer(&declined, "decline").await.expect(200).json["status"], "declined");
        assert_eq!(answer(&cancelled, "cancel").await.expect(200).json["status"], "cancelled");
        answer(&declined, "accept").await.expect_problem(409, "wallets.not_open");
        answer(&dear, "accept").await.expect_problem(409, "wallets.insufficient_funds");
        assert_eq!(world.get(&format!("/api/v1/wallet-requests/{dear}")).await["status"], "open");
        world.app.clock().advance_ms(604_800_000);
        answer(&late, "accept").await.expect_problem(409, "wallets.not_open");
        world.app.drained().await;
        let made = world.get(&format!("/api/v1/wallet-requests?wallet_id={alice}&side=asker")).await;
        let states: Vec<&str> = made["data"].as_array().expect("a list").iter().filter_map(|request| request["status"].as_str()).collect();
        assert_eq!(states, ["expired", "expired", "cancelled", "declined", "accepted"]);
        assert_eq!(world.get(&format!("/api/v1/wallet-requests?wallet_id={bob}&side=payer")).await["data"], made["data"]);
        let nobody = json!({ "asker_wallet_id": alice, "payer_wallet_id": "wal_0000000000A", "amount_minor": 1, "currency": "EUR" });
        world.post("/api/v1/wallet-requests", nobody).await.expect_problem(400, "wallets.payer_not_found");
        assert_eq!(world.events(&["wallet.money_requested", "wallet.request_expired", "wallet.request_accepted"]).await, [5, 2, 1]);
    }

    async fn a_pay_code_is_paid_once_in_time_and_as_it_was_signed(app: TestApp) {
        let world = World::new(app);
        let (alice, shop) = (world.user("alice", 100_000).await, world.wallet("shop", "merchant", 0, json!({ "fee_bps": 0 })).await);
        let make = || async {
            let body = json!({ "merchant_wallet_id": shop, "amount_minor": 1_250, "currency": "EUR", "note": "two coffees" });
            world.post("/api/v1/wallet-pay-codes", body).await.expect(201).json
        };
        let pay = |text: &str| world.acme.post("/api/v1/wallet-pay-codes/pay").json(&json!({ "from_wallet_id": alice, "pay_code": text })).send();
        let code = make().await;
        let text = code["pay_code"].as_str().expect("a text").to_owned();
        assert!(text.starts_with("brandos-pay:1:ten_") && text.contains(":EUR:1250:"), "{text}");
        for forged in [text.replace(":1250:", ":1:"), text.replace(":EUR:", ":USD:"), format!("{text}0"), text.replace("brandos", "evil"), "x".to_owned()] {
            pay(&forged).await.expect_problem(400, "wallets.pay_code_invalid");
        }
        // Twenty scan it at once, one pays.
        let scans = (0..20).map(|_| pay(&text));
        let answers = futures_util::future::join_all(scans).await;
        assert_eq!(answers.iter().filter(|answer| answer.status.as_u16() == 201).count(), 1);
        for answer in answers.into_iter().filter(|answer| answer.status.as_u16() != 201) {
            answer.expect_problem(409, "wallets.pay_code_used");
        }
        assert_eq!((world.balance(&shop).await.0, world.balance(&alice).await.0), (1_250, 98_750));
        let id = code["code_id"].as_str().expect("an id").to_owned();
        assert_eq!(world.get(&format!("/api/v1/wallet-pay-codes/{id}")).await["status"], "used");
        // Too late, or taken back.
        let late = make().await["pay_code"].as_str().expect("a text").to_owned();
        let code = make().await;
        world.acme.post(format!("/api/v1/wallet-pay-codes/{}/cancel", code["code_id"].as_str().expect("an id"))).send().await.expect(200);
        pay(code["pay_code"].as_str().expect("a text")).await.expect_problem(409, "wallets.not_open");
        world.app.advance_ms(300_000).await;
        pay(&late).await.expect_problem(409, "wallets.pay_code_expired");
        // Another tenant's code is none.
        let globex = world.app.client("globex", &["*"]);
        let theirs = json!({ "kind": "user", "name": "zoe", "currencies": ["EUR"] });
        let zoe = globex.post("/api/v1/wallets").json(&theirs).send().await.expect(201).text("wallet_id");
        let stolen = json!({ "from_wallet_id": zoe, "pay_code": late });
        globex.post("/api/v1/wallet-pay-codes/pay").json(&stolen).send().await.expect_problem(400, "wallets.pay_code_invalid");
        let user = json!({ "merchant_wallet_id": alice, "amount_minor": 1, "currency": "EUR" });
        world.post("/api/v1/wallet-pay-codes", user).await.expect_problem(400, "wallets.not_a_merchant");
    }

    async fn scheduled_transfers_come_back(app: TestApp) {
        const DAY_MS: i64 = 86_400_000;
        let world = World::new(app);
        let (alice, bob) = (world.user("alice", 350).await, world.user("bob", 0).await);
        let schedule = |every: &str, first: &str, more: Value| {
            let mut body = json!({ "from_wallet_id": alice, "to_wallet_id": bob, "amount_minor": 100, "currency": "EUR", "every": every, "first_at": first });
            body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            let world = &world;
            async move { world.post("/api/v1/wallet-schedules", body).await.expect(201).text("schedule_id") }
        };
        let see = |id: String| {
            let world = &world;
            async move { world.get(&format!("/api/v1/wallet-schedules/{id}")).await }
        };
        // It is 2026-01-05T12:00Z.
        let once = schedule("once", "2026-01-06T12:00:00Z", json!({})).await;
        let daily = schedule("day", "2026-01-07T12:00:00Z", json!({ "until_at": "2026-01-20T00:00:00Z" })).await;
        let off = schedule("week", "2026-01-05T13:00:00Z", json!({ "amount_minor": 1 })).await;
        world.acme.post(format!("/api/v1/wallet-schedules/{off}/cancel")).send().await.expect(200);
        world.acme.post(format!("/api/v1/wallet-schedules/{off}/cancel")).send().await.expect_problem(409, "wallets.not_open");
        world.app.advance_ms(DAY_MS).await;
        assert_eq!((see(once.clone()).await["status"].as_str().map(str::to_owned), world.balance(&bob).await.0), (Some("ended".to_owned()), 100));
        world.app.advance_ms(2 * DAY_MS).await;
        let seen = see(daily.clone()).await;
        assert_eq!((seen["done"].as_i64(), seen["next_at"].as_str()), (Some(2), Some("2026-01-09T12:00:00.000000Z")), "{seen}");
        assert_eq!(world.balance(&bob).await.0, 300);
        // There are 50 left: refused, and not made up for; after three in a row it ends.
        world.app.advance_ms(DAY_MS).await;
        let seen = see(daily.clone()).await;
        assert_eq!((seen["failures"].as_i64(), seen["last_code"].as_str()), (Some(1), Some("wallets.insufficient_funds")));
        let deposit = json!({ "amount_minor": 60, "currency": "EUR", "reference": "d2" });
        world.post(&format!("/api/v1/wallets/{alice}/deposits"), deposit).await.expect(201);
        world.app.advance_ms(DAY_MS).await;
        assert_eq!((see(daily.clone()).await["failures"].as_i64(), world.balance(&bob).await.0), (Some(0), 400));
        world.app.advance_ms(3 * DAY_MS).await;
        let seen = see(daily.clone()).await;
        assert_eq!((seen["status"].as_str(), seen["done"].as_i64(), seen["next_at"].is_null()), (Some("failed"), Some(3), true), "{seen}");
        assert_eq!(world.events(&["wallet.schedule_run_done", "wallet.schedule_run_refused", "wallet.schedule_ended"]).await, [4, 4, 3]);
        // The month's last days.
        let deposit = json!({ "amount_minor": 1_000, "currency": "EUR", "reference": "d3" });
        world.post(&format!("/api/v1/wallets/{alice}/deposits"), deposit).await.expect(201);
        let monthly = schedule("month", "2026-01-31T09:00:00Z", json!({})).await;
        world.app.advance_ms(20 * DAY_MS).await;
        assert_eq!(see(monthly.clone()).await["next_at"], "2026-02-28T09:00:00.000000Z");
        world.app.advance_ms(28 * DAY_MS).await;
        assert_eq!(see(monthly.clone()).await["next_at"], "2026-03-31T09:00:00.000000Z");
        let list = world.get(&format!("/api/v1/wallet-schedules?wallet_id={alice}")).await;
        assert_eq!(list["data"].as_array().map(Vec::len), Some(4));
        let past = json!({ "from_wallet_id": alice, "to_wallet_id": bob, "amount_minor": 1, "currency": "EUR", "every": "once", "first_at": "2020-01-01T00:00:00Z" });
        world.post("/api/v1/wallet-schedules", past).await.expect_problem(400, "request.invalid");
    }

    /// What the ledger's own routes moved there, no wallet would know of.
    async fn nobody_posts_past_the_wallets(app: TestApp) {
        let world = World::new(app);
        let (alice, bob) = (world.user("alice", 5_000).await, world.user("bob", 0).await);
        world.judge(json!([{ "code": "large", "when": [{ "feature": "amount", "at_least": 1_000 }], "points": 600 }]), [500, 500, 1_001]).await;
        world.send(&alice, &bob, 1_000, json!({})).await.expect(202);
        let account_of = async |wallet: &str| {
            let accounts = world.get(&format!("/api/v1/ledger/accounts?owner={wallet}")).await;
            accounts["data"][0]["account_id"].as_str().expect("an account").to_owned()
        };
        let (alices, bobs) = (account_of(&alice).await, account_of(&bob).await);
        let statement = world.get(&format!("/api/v1/ledger/accounts/{alices}/statement")).await;
        let transaction = |kind: &str| {
            let lines = statement["data"].as_array().expect("lines");
            lines.iter().find(|line| line["kind"] == kind).expect(kind)["transaction_id"].as_str().expect("an id").to_owned()
        };
        let (deposit, hold) = (transaction("transfer"), transaction("hold"));
        let transfer = json!({ "debit_account_id": alices, "credit_account_id": bobs, "amount_minor": 1 });
        for (path, body) in [
            ("/api/v1/ledger/transfers".to_owned(), transfer.clone()),
            ("/api/v1/ledger/transactions/bulk".to_owned(), json!({ "transactions": [{ "transfer": transfer }] })),
            (format!("/api/v1/ledger/transactions/{deposit}/reverse"), json!({})),
            (format!("/api/v1/ledger/holds/{hold}/capture"), json!({})),
            (format!("/api/v1/ledger/holds/{hold}/void"), json!({})),
        ] {
            let answer = world.post(&path, body).await;
            let text = answer.json.to_string();
            assert!(text.contains("ledger.account_managed"), "{path}: {} {text}", answer.status);
        }
        assert_eq!((world.balance(&alice).await, world.balance(&bob).await), ((5_000, 4_000), (0, 0)));
    }
}
