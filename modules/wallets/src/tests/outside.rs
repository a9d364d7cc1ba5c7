//! Money from cards and to banks.

use super::world::{FakeBank, World, policies, setup, setup_with};
use kernel::{ManualClock, Timestamp};
use sandbox::{Sandbox, SandboxConfig};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use testkit::TestApp;
use tokio::net::TcpListener;
use workflow::{Fate, Point};

/// A provider of payments on a port of its own.
async fn provider(world: &World) -> String {
    let clock = Arc::new(ManualClock::new(Timestamp::from_micros(1_767_614_400_000_000)));
    let sandbox = Sandbox::open(SandboxConfig::default(), clock).expect("a sandbox");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { sandbox::serve(sandbox, listener, std::future::pending::<()>()).await });
    let body = json!({ "name": "Sandbox", "kind": "sandbox", "base_url": url, "api_key": "sk_sandbox" });
    world.post("/api/v1/payments/providers", body).await.expect(201).text("provider_id")
}

testkit::both_engines! {
    setup: setup;

    async fn a_card_tops_a_wallet_up_once(app: TestApp) {
        let world = World::new(app);
        provider(&world).await;
        let alice = world.user("alice", 0).await;
        let bob = world.user("bob", 0).await;
        let body = json!({ "amount_minor": 5_000, "currency": "EUR", "token": "tok_approve" });
        let path = format!("/api/v1/wallets/{alice}/top-ups");
        let begun = world.acme.post(&path).key("t1").json(&body).send().await.expect(202).json;
        world.acme.post(&path).key("t1").json(&body).send().await.expect(202);
        assert_eq!((begun["transfer"]["status"].as_str(), begun["transfer"]["kind"].as_str()), (Some("pending"), Some("top_up")));
        world.app.drained().await;
        let transfer = format!("/api/v1/wallet-transfers/{}", begun["transfer"]["transfer_id"].as_str().expect("an id"));
        assert_eq!((world.get(&transfer).await["status"].as_str(), world.balance(&alice).await.0), (Some("completed"), 5_000));
        // A declined card credits nothing.
        let declined = json!({ "amount_minor": 7_000, "currency": "EUR", "token": "tok_decline" });
        let declined = world.post(&path, declined).await.expect(202).json;
        world.app.drained().await;
        let id = declined["transfer"]["transfer_id"].as_str().expect("an id");
        assert_eq!((world.get(&format!("/api/v1/wallet-transfers/{id}")).await["status"].as_str(), world.balance(&alice).await.0), (Some("rejected"), 5_000));
        // A card number is refused, and kept nowhere.
        let number = json!({ "amount_minor": 1, "currency": "EUR", "token": "4242424242424242" });
        world.post(&path, number).await.expect_problem(400, "payments.card_number");
        world.post(&path, json!({ "amount_minor": 1, "currency": "EUR" })).await.expect_problem(400, "request.invalid");
        // What a card is given back leaves the wallet; what is spent is owed.
        let intent = begun["intent_id"].as_str().expect("an id");
        let refund = |minor: i64| world.acme.post(format!("/api/v1/payments/intents/{intent}/refund")).json(&json!({ "amount_minor": minor })).send();
        refund(1_000).await.expect(200);
        world.app.drained().await;
        assert_eq!(world.balance(&alice).await.0, 4_000);
        world.send(&alice, &bob, 3_500, json!({})).await.expect(201);
        refund(2_000).await.expect(200);
        world.app.drained().await;
        assert_eq!((world.balance(&alice).await.0, world.events(&["wallet.return_owed"]).await), (500, vec![1]));
        assert_eq!(world.get("/api/v1/ledger/trial-balance").await["balanced"], true);
    }

    async fn a_top_up_is_settled_to_no_merchant(app: TestApp) {
        let world = World::new(app);
        provider(&world).await;
        let alice = world.user("alice", 0).await;
        let body = json!({ "amount_minor": 5_000, "currency": "EUR", "token": "tok_approve" });
        world.post(&format!("/api/v1/wallets/{alice}/top-ups"), body).await.expect(202);
        world.app.drained().await;
        assert_eq!(world.balance(&alice).await.0, 5_000);
        // Whoever is called as the module is gets nothing of it, and nobody can be called as its payments are.
        let terms = json!({ "name": "Mallory", "account": "DE02120300000000202051" });
        world.acme.put("/api/v1/payments/merchants/wallets").json(&terms).send().await.expect(200);
        world.acme.put("/api/v1/payments/merchants/module:wallets").json(&terms).send().await.expect_problem(400, "request.invalid");
        let batch = world.post("/api/v1/payments/settlement-batches", json!({ "currency": "EUR" })).await;
        batch.expect_problem(409, "payments.nothing_to_settle");
    }

    /// Whoever knows the id of somebody's stored card can't pay with it.
    async fn a_stored_card_tops_up_its_own_wallet(app: TestApp) {
        let world = World::new(app);
        let provider = provider(&world).await;
        let ((mallory, mallorys_id), (bob, bobs_id)) = (world.person(41), world.person(42));
        let mallorys = world.wallet("mallory", "user", 0, json!({ "user_id": mallorys_id, "owner": "customer-41" })).await;
        let bobs = world.wallet("bob", "user", 0, json!({ "user_id": bobs_id, "owner": "customer-42" })).await;
        let store = async |customer: &str| {
            let body = json!({ "customer": customer, "provider_id": provider, "token": "tok_approve" });
            world.post("/api/v1/payments/methods", body).await.expect(201).text("method_id")
        };
        let (of_owner, of_user) = (store("customer-42").await, store(&bobs_id).await);
        let body = |method: &str| json!({ "amount_minor": 1_000, "currency": "EUR", "method_id": method });
        for method in [&of_owner, &of_user] {
            let path = format!("/api/v1/wallets/{mallorys}/top-ups");
            mallory.post(path).json(&body(method)).send().await.expect_problem(404, "payments.method_not_found");
            bob.post(format!("/api/v1/wallets/{bobs}/top-ups")).json(&body(method)).send().await.expect(202);
        }
        // Who may use every wallet may use every stored card.
        world.post(&format!("/api/v1/wallets/{mallorys}/top-ups"), body(&of_owner)).await.expect(202);
        world.app.drained().await;
        assert_eq!((world.balance(&mallorys).await.0, world.balance(&bobs).await.0), (1_000, 2_000));
    }

    /// The card was charged and nobody can be credited: it is owed, until the payment is refunded.
    async fn a_top_up_of_a_wallet_that_was_closed_meanwhile_is_owed(app: TestApp) {
        let world = World::new(app);
        provider(&world).await;
        let alice = world.user("alice", 0).await;
        let body = json!({ "amount_minor": 5_000, "currency": "EUR", "token": "tok_approve" });
        let begun = world.post(&format!("/api/v1/wallets/{alice}/top-ups"), body).await.expect(202).json;
        world.acme.patch(format!("/api/v1/wallets/{alice}")).json(&json!({ "status": "closed", "reason": "asked for" })).send().await.expect(200);
        world.app.drained().await;
        let id = begun["transfer"]["transfer_id"].as_str().expect("an id");
        assert_eq!(world.get(&format!("/api/v1/wallet-transfers/{id}")).await["status"], "rejected");
        assert_eq!(world.events(&["wallet.top_up_unclaimed", "wallet.transfer_rejected", "wallet.transfer_completed"]).await, [1, 1, 0]);
        let owed = async || {
            let accounts = world.get("/api/v1/ledger/accounts?limit=100").await;
            let accounts = accounts["data"].as_array().expect("accounts").clone();
            let account = accounts.iter().find(|account| account["code"] == "wallets:owed:EUR").expect("an account")["account_id"].clone();
            let path = format!("/api/v1/ledger/accounts/{}/balance", account.as_str().expect("an id"));
            world.get(&path).await["posted_minor"].as_i64()
        };
        assert_eq!(owed().await, Some(-5_000));
        let intent = begun["intent_id"].as_str().expect("an id");
        world.post(&format!("/api/v1/payments/intents/{intent}/refund"), json!({ "amount_minor": 5_000 })).await.expect(200);
        world.app.drained().await;
        assert_eq!(owed().await, Some(0));
    }

    /// Whatever is called off with a saga is called off with its money.
    async fn a_payout_that_is_called_off_lets_go_of_its_money(app: TestApp) {
        let world = World::new(app);
        let alice = world.wallet("alice", "user", 10_000, json!({ "level": 1 })).await;
        let withdraw = async |holder: &str, minor: i64| {
            let body = json!({ "amount_minor": minor, "currency": "EUR", "iban": "DE89370400440532013000", "holder": holder });
            let id = world.post(&format!("/api/v1/wallets/{alice}/withdrawals"), body).await.expect(202).text("transfer_id");
            world.app.drained().await;
            id
        };
        let see = async |id: &str| world.get(&format!("/api/v1/wallet-transfers/{id}")).await;
        let used = async || world.get(&format!("/api/v1/wallets/{alice}")).await["pockets"][0]["used_today_minor"].as_i64();
        let down = withdraw("down", 1_000).await;
        assert_eq!((world.balance(&alice).await, used().await), ((10_000, 9_000), Some(1_000)));
        world.cancel(crate::PAYOUT, &down).await;
        let seen = see(&down).await;
        assert_eq!((seen["status"].as_str(), seen["payout"]["failure"].as_str()), (Some("rejected"), Some("it was cancelled")));
        assert_eq!((world.balance(&alice).await, used().await), ((10_000, 10_000), Some(0)));
        // Nothing leaves a frozen wallet: what the bank has certainly not done is called off, what it is asked for is awaited.
        let (down, silent) = (withdraw("down", 2_000).await, withdraw("silent", 3_000).await);
        let freeze = |status: &str| world.acme.patch(format!("/api/v1/wallets/{alice}")).json(&json!({ "status": status, "reason": "police" })).send();
        freeze("frozen").await.expect(200);
        world.app.drained().await;
        assert_eq!((see(&down).await["status"].as_str(), world.saga(crate::PAYOUT, &down).await.status), (Some("rejected"), workflow::Status::Cancelled));
        world.app.advance_ms(10_000).await;
        assert_eq!((see(&silent).await["status"].as_str(), world.balance(&alice).await), (Some("completed"), (7_000, 7_000)));
    }

    /// However long nobody knows what the bank did, the money is held for it.
    async fn a_payout_in_doubt_stays_held_until_it_is_known(app: TestApp) {
        let world = World::new(app);
        let alice = world.user("alice", 1_000).await;
        let body = json!({ "amount_minor": 700, "currency": "EUR", "iban": "DE89370400440532013000", "holder": "away" });
        let id = world.post(&format!("/api/v1/wallets/{alice}/withdrawals"), body).await.expect(202).text("transfer_id");
        world.app.advance_ms(400 * 86_400_000).await;
        assert_eq!(world.balance(&alice).await, (1_000, 300));
        let saga = world.saga(crate::PAYOUT, &id).await;
        assert_eq!(saga.status, workflow::Status::Parked);
        let decide = |tx: &mut store::Tx<'_>, id: &workflow::SagaId| workflow::decide(tx, *id, &workflow::Decision::Done(json!("bank-7")));
        world.app.store().write(world.app.tenant("acme"), decide, saga.id).await.expect("a person knows");
        world.app.drained().await;
        let seen = world.get(&format!("/api/v1/wallet-transfers/{id}")).await;
        assert_eq!((seen["status"].as_str(), world.balance(&alice).await), (Some("completed"), (300, 300)));
    }

    async fn a_bank_pays_refuses_or_is_asked(app: TestApp) {
        let world = World::new(app);
        let alice = world.wallet("alice", "user", 10_000, json!({ "level": 1 })).await;
        let withdraw = |holder: &str, minor: i64| {
            let body = json!({ "amount_minor": minor, "currency": "EUR", "iban": "DE89 3704 0044 0532 0130 00", "holder": holder });
            let (world, path) = (&world, format!("/api/v1/wallets/{alice}/withdrawals"));
            async move { world.post(&path, body).await.expect(202).json["transfer_id"].as_str().expect("an id").to_owned() }
        };
        let see = |id: String| {
            let world = &world;
            async move { world.get(&format!("/api/v1/wallet-transfers/{id}")).await }
        };
        let paid = withdraw("Alice", 1_000).await;
        let refused = withdraw("refuse", 2_000).await;
        let silent = withdraw("silent", 3_000).await;
        let lost = withdraw("lost", 500).await;
        world.app.drained().await;
        let seen = see(paid.clone()).await;
        assert_eq!((seen["status"].as_str(), seen["payout"]["bank_ref"].as_str()), (Some("completed"), Some(&*format!("bank-{paid}"))));
        let seen = see(refused).await;
        assert_eq!((seen["status"].as_str(), seen["payout"]["failure"].as_str()), (Some("rejected"), Some("account_closed")));
        assert_eq!((see(silent.clone()).await["status"].as_str().map(str::to_owned), world.balance(&alice).await), (Some("pending".to_owned()), (9_000, 5_500)));
        // In doubt it is asked, and not paid again.
        world.app.advance_ms(10_000).await;
        assert_eq!(see(silent).await["status"], "completed");
        assert_eq!(see(lost).await["status"], "rejected");
        assert_eq!(world.balance(&alice).await, (6_000, 6_000));
        let used = world.get(&format!("/api/v1/wallets/{alice}")).await["pockets"][0]["used_today_minor"].as_i64();
        assert_eq!(used, Some(4_000), "what was refused counts no more");
        let path = format!("/api/v1/wallets/{alice}/withdrawals");
        let wrong = json!({ "amount_minor": 1, "currency": "EUR", "iban": "DE89370400440532013001", "holder": "x" });
        assert!(world.post(&path, wrong).await.expect_problem(400, "request.invalid").names_field("iban"));
        let much = json!({ "amount_minor": 6_001, "currency": "EUR", "iban": "DE89370400440532013000", "holder": "x" });
        world.post(&path, much).await.expect_problem(409, "wallets.insufficient_funds");
        // Nobody can tell for three days: it stays held, and a person is called.
        withdraw("away", 700).await;
        world.app.advance_ms(4 * 86_400_000).await;
        assert_eq!((world.balance(&alice).await, world.events(&["wallet.payout_in_doubt"]).await), ((6_000, 5_300), vec![1]));
        world.app.allow_parked();
    }

    async fn a_withdrawal_is_judged_like_any_transfer(app: TestApp) {
        let world = World::new(app);
        let alice = world.user("alice", 100_000).await;
        world.judge(super::world::by_amount(), [100, 200, 300]).await;
        let path = format!("/api/v1/wallets/{alice}/withdrawals");
        let body = |minor: i64| json!({ "amount_minor": minor, "currency": "EUR", "iban": "DE89370400440532013000", "holder": "Alice" });
        let challenged = world.post(&path, body(10_000)).await.expect(202).json;
        assert_eq!(challenged["status"], "challenged");
        let id = challenged["transfer_id"].as_str().expect("an id");
        let code = world.get(&format!("/api/v1/wallet-transfers/{id}/code")).await["one_time_code"].clone();
        assert_eq!(world.post(&format!("/api/v1/wallet-transfers/{id}/confirm"), json!({ "one_time_code": code })).await.expect(202).json["status"], "pending");
        let reviewed = world.post(&path, body(20_000)).await.expect(202).json;
        assert_eq!(reviewed["status"], "in_review");
        let id = reviewed["transfer_id"].as_str().expect("an id");
        assert_eq!(world.balance(&alice).await.1, 70_000);
        let approved = world.post(&format!("/api/v1/wallet-reviews/{id}/approve"), json!({ "reason": "known" })).await.expect(200).json;
        assert_eq!(approved["status"], "pending");
        world.post(&path, body(30_000)).await.expect_problem(409, "wallets.denied");
        world.app.drained().await;
        assert_eq!((world.balance(&alice).await, world.get(&format!("/api/v1/wallet-transfers/{id}")).await["status"].as_str()), ((70_000, 70_000), Some("completed")));
    }
}

/// The process dies before and after the call to the bank: it is paid once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bank_is_asked_once_whatever_dies() {
    for point in [Point::BeforeCall, Point::AfterCall] {
        let died = Arc::new(AtomicUsize::new(0));
        let (bank, told) = (FakeBank::default(), died.clone());
        let setup =
            setup_with(bank.clone()).probe(move |at, _| if at == point && told.fetch_add(1, SeqCst) == 0 { Fate::Die } else { Fate::Go });
        testkit::run(testkit::Engine::Sqlite, setup, |app| async move {
            let world = World::new(app);
            let alice = world.user("alice", 10_000).await;
            let body = json!({ "amount_minor": 1_000, "currency": "EUR", "iban": "DE89370400440532013000", "holder": "Alice" });
            let id = world.post(&format!("/api/v1/wallets/{alice}/withdrawals"), body).await.expect(202).text("transfer_id");
            world.app.drained().await;
            world.app.advance_ms(120_000).await;
            let status = world.get(&format!("/api/v1/wallet-transfers/{id}")).await["status"].clone();
            let paid = bank.0.lock().expect("no test panicked here").len();
            // Never sent before the call: the bank is asked, has never seen it, and says so.
            assert_eq!((status == "completed", paid), (paid == 1, paid), "{status}");
            assert_eq!(world.balance(&alice).await, (10_000 - 1_000 * paid as i64, 10_000 - 1_000 * paid as i64));
            assert!(died.load(SeqCst) > 0);
        })
        .await;
    }
}

/// What a bank behind HTTP may say, and what that means.
#[tokio::test]
async fn a_bank_over_http_is_understood() {
    use crate::service::{Bank as _, PayoutOrder};
    use axum::http::StatusCode;
    use axum::routing::{get, post};
    use workflow::Outcome;

    let said = |holder: &str| match holder {
        "done" => (StatusCode::OK, r#"{"status":"done","bank_ref":"b1"}"#),
        "refused" => (StatusCode::OK, r#"{"status":"refused","reason":"closed"}"#),
        "pending" => (StatusCode::ACCEPTED, r#"{"status":"pending"}"#),
        "unseen" => (StatusCode::NOT_FOUND, r#"{"status":"unknown_reference"}"#),
        "gateway" => (StatusCode::NOT_FOUND, "<html>no such backend</html>"),
        "found" => (StatusCode::OK, r#"{"status":"unknown_reference"}"#),
        "garbled" => (StatusCode::OK, "<html>"),
        _ => (StatusCode::BAD_REQUEST, r#"{"status":"done"}"#),
    };
    let take = post(move |headers: axum::http::HeaderMap, axum::Json(order): axum::Json<PayoutOrder>| async move {
        let fine = headers["idempotency-key"] == order.reference.as_str() && headers["authorization"] == "Bearer secret";
        if fine { said(&order.holder) } else { (StatusCode::FORBIDDEN, "") }
    });
    let tell = get(move |axum::extract::Path(reference): axum::extract::Path<String>| async move { said(&reference) });
    let router = axum::Router::new().route("/payouts", take).route("/payouts/{reference}", tell);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let bank = crate::HttpBank::new(&url, "secret", &policies()).expect("a bank");
    let order = |word: &str| PayoutOrder {
        reference: word.to_owned(),
        iban: "DE89370400440532013000".to_owned(),
        holder: word.to_owned(),
        amount_minor: 1,
        currency: "EUR".parse().expect("a currency"),
    };
    for word in ["done", "refused", "pending", "unseen", "gateway", "found", "garbled", "broken"] {
        let (paid, asked) = (bank.pay(order(word)).await, bank.ask(order(word)).await);
        let fits = |outcome: &Outcome, asked: bool| match word {
            "done" => *outcome == Outcome::Done(json!("b1")),
            "refused" => *outcome == Outcome::Refused("closed".to_owned()),
            "unseen" if asked => matches!(outcome, Outcome::NotDone(_)),
            _ => matches!(outcome, Outcome::Unknown(_)),
        };
        assert!(fits(&paid, false) && fits(&asked, true), "{word}: {paid:?}, {asked:?}");
    }
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let away = crate::HttpBank::new(&format!("http://{nobody}"), "", &policies()).expect("a bank");
    assert!(matches!(away.pay(order("done")).await, Outcome::NotDone(_)) && matches!(away.ask(order("done")).await, Outcome::Unknown(_)));
}
