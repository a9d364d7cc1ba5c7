//! Stories over HTTP, on each engine. Each ends with the audits: amounts, sums, the ledger, nothing stuck.

use super::world::{SECRET, START, World, add_psp, psp_config, setup, stand};
use client::webhook;
use sandbox::Status;
use serde_json::{Value, json};
use testkit::TestApp;

testkit::both_engines! {
    setup: setup;

    async fn a_payment_is_taken_and_given_back(app: TestApp) {
        let world = World::new(app).await;
        let paid = world.pay("tok_approve", json!({ "external_ref": "order-1", "country": "DE" })).await.expect(201);
        assert_eq!((stand(&paid.json), paid.json["status"].as_str(), paid.json["fee_minor"].as_i64()), (("captured", 10_000), Some("succeeded"), Some(165)));
        let path = paid.header("location").to_owned();
        let part = world.ask(&path, "refund", json!({ "amount_minor": 4_000, "reason": "a broken cup" })).await.expect(200).json;
        assert_eq!((part["state"].as_str(), part["status"].as_str(), part["refunded_minor"].as_i64()), (Some("partly_refunded"), Some("refunded"), Some(4_000)));
        world.ask(&path, "refund", json!({ "amount_minor": 6_001 })).await.expect_problem(409, "payments.refund_exceeds");
        assert_eq!(world.ask(&path, "refund", json!({})).await.expect(200).json["state"], "refunded");
        world.ask(&path, "refund", json!({ "amount_minor": 1 })).await.expect_problem(409, "payments.not_allowed");
        world.ask(&path, "void", json!({})).await.expect_problem(409, "payments.not_allowed");

        let books = world.books();
        assert_eq!((books.len(), books[0].captured_minor, books[0].refunded_minor, books[0].refunds.len()), (1, 10_000, 10_000, 2));
        let detail = world.get(&path).await;
        assert_eq!((detail["attempts"][0]["outcome"].as_str(), detail["operations"].as_array().map(Vec::len)), (Some("authorized"), Some(3)));
        assert!(!detail.to_string().contains("tok_approve"), "the token is not shown");
        let found = world.get("/api/v1/payments/intents?external_ref=order-1").await;
        assert_eq!(found["data"][0]["intent_id"], detail["intent_id"]);
        world.pay("tok_approve", json!({ "external_ref": "order-1" })).await.expect_problem(409, "payments.external_ref_taken");
        assert_eq!(world.books().len(), 1);
    }

    async fn an_orders_payments_are_added_up_however_many_there_are(app: TestApp) {
        let world = World::new(app).await;
        world.pay("tok_approve", json!({ "order_id": "ord_1" })).await.expect(201);
        world.pay("tok_approve", json!({ "order_id": "ord_1", "currency": "USD" })).await.expect(201);
        // More that were begun later than are listed.
        let more = |tx: &mut store::Tx<'_>, (): &()| {
            for number in 0..crate::api::MAX_OF_ORDER {
                let intent_id = crate::IntentId::from_i64(i64::MAX - 1_000 + number);
                tx.exec(
                    "INSERT INTO payments_intents (tenant_id, intent_id, version, state, asking, capture_open, amount_minor, currency, captured_minor,
  capturing_minor, refunded_minor, refunding_minor, fee_minor, method, capture_mode, country, merchant, token, attempt, created_at, updated_at, order_id)
VALUES ($1, $2, 1, 'failed', FALSE, FALSE, 10000, 'EUR', 0, 0, 0, 0, 0, 'card', 'automatic', '', '', '', 1, $3, $3, 'ord_1')",
                    (intent_id, tx.now()),
                )?;
                tx.exec(crate::sql::INSERT_OF_ORDER, ("ord_1", intent_id))?;
            }
            Ok(())
        };
        world.app.store().write(world.app.tenant("acme"), more, ()).await.expect("more");
        let euro: kernel::Currency = "EUR".parse().expect("a currency");
        let (sums, listed) = world
            .app
            .store()
            .read(world.app.tenant("acme"), move |read| Ok((crate::api::paid_for_order(read, "ord_1", euro)?, crate::api::payments_of_order(read, "ord_1")?)))
            .await
            .expect("sums");
        assert_eq!(listed.iter().map(|payment| payment.captured_minor).sum::<i64>(), 0);
        assert_eq!(sums, crate::api::PaidForOrder { captured_minor: 10_000, refunded_minor: 0, open: 0, disputed: 0 });
    }

    async fn an_authorisation_is_captured_in_parts(app: TestApp) {
        let world = World::new(app).await;
        let held = world.pay("tok_approve", json!({ "capture": "manual" })).await.expect(201);
        assert_eq!((stand(&held.json), held.json["status"].as_str()), (("authorized", 0), Some("processing")));
        let path = held.header("location").to_owned();
        assert_eq!(stand(&world.ask(&path, "capture", json!({ "amount_minor": 3_000 })).await.expect(200).json), ("partly_captured", 3_000));
        world.ask(&path, "capture", json!({ "amount_minor": 7_001 })).await.expect_problem(409, "payments.capture_exceeds");
        // A refund between two captures leaves the rest to be captured.
        assert_eq!(world.ask(&path, "refund", json!({ "amount_minor": 3_000 })).await.expect(200).json["state"], "partly_refunded");
        assert_eq!(stand(&world.ask(&path, "capture", json!({ "amount_minor": 2_000 })).await.expect(200).json), ("partly_refunded", 5_000));
        assert_eq!(stand(&world.ask(&path, "capture", json!({ "amount_minor": 1_000, "last": true })).await.expect(200).json), ("partly_refunded", 6_000));
        world.ask(&path, "capture", json!({ "amount_minor": 1 })).await.expect_problem(409, "payments.not_allowed");
        assert_eq!(world.ask(&path, "refund", json!({})).await.expect(200).json["state"], "refunded");
        let charge = &world.books()[0];
        assert_eq!((charge.captures.len(), charge.captured_minor, charge.refunded_minor, charge.open), (3, 6_000, 6_000, false));
    }

    async fn what_is_left_of_an_authorisation_is_given_up(app: TestApp) {
        let world = World::new(app).await;
        let held = async |captured: i64| {
            let path = world.pay("tok_approve", json!({ "capture": "manual" })).await.expect(201).header("location").to_owned();
            world.ask(&path, "capture", json!({ "amount_minor": captured })).await.expect(200);
            path
        };
        let rest = held(3_000).await;
        assert_eq!(stand(&world.ask(&rest, "void", json!({})).await.expect(200).json), ("captured", 3_000));
        world.ask(&rest, "capture", json!({ "amount_minor": 1 })).await.expect_problem(409, "payments.not_allowed");
        world.ask(&rest, "void", json!({})).await.expect_problem(409, "payments.not_allowed");
        // One whose purpose is gone: what was taken is refunded, and the rest is nobody's any more.
        let gone = held(4_000).await;
        let intent_id: crate::IntentId = world.get(&gone).await["intent_id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
        let give_back = |tx: &mut store::Tx<'_>, intent_id: &crate::IntentId| crate::api::give_back(tx, *intent_id, "called off");
        for _ in 0..2 {
            world.app.store().write(world.app.tenant("acme"), give_back, intent_id).await.expect("given back");
            world.app.drained().await;
        }
        let intent = world.get(&gone).await;
        assert_eq!((stand(&intent), intent["refunded_minor"].as_i64(), intent["operations"].as_array().map(Vec::len)), (("refunded", 4_000), Some(4_000), Some(3)));
        let books = world.books();
        assert_eq!(books.iter().map(|charge| (charge.captured_minor, charge.refunded_minor, charge.open)).collect::<Vec<_>>(), [(3_000, 0, false), (4_000, 4_000, false)]);
    }

    async fn an_authorisation_is_given_up_or_runs_out(app: TestApp) {
        let world = World::new(app).await;
        let voided = world.pay("tok_approve", json!({ "capture": "manual" })).await.expect(201).header("location").to_owned();
        assert_eq!(world.ask(&voided, "void", json!({})).await.expect(200).json["state"], "reversed");
        assert_eq!(world.ask(&voided, "void", json!({})).await.expect(200).json["status"], "failed");
        world.ask(&voided, "capture", json!({})).await.expect_problem(409, "payments.not_allowed");
        let unasked = world.acme.post("/api/v1/payments/intents").json(&json!({ "amount_minor": 5, "currency": "EUR" })).send().await.expect(201);
        assert_eq!(unasked.json["status"], "pending");
        let unasked = unasked.header("location").to_owned();
        world.ask(&unasked, "confirm", json!({})).await.expect_problem(409, "payments.token_required");
        assert_eq!(world.ask(&unasked, "void", json!({})).await.expect(200).json["state"], "reversed");
        world.ask(&unasked, "confirm", json!({ "token": "tok_approve" })).await.expect_problem(409, "payments.not_allowed");

        let forgotten = world.pay("tok_approve", json!({ "capture": "manual" })).await.expect(201).header("location").to_owned();
        let part = world.pay("tok_approve", json!({ "capture": "manual" })).await.expect(201).header("location").to_owned();
        world.ask(&part, "capture", json!({ "amount_minor": 10 })).await.expect(200);
        world.later(7 * 86_400_000).await;
        assert_eq!(world.get(&forgotten).await["state"], "expired");
        assert_eq!(stand(&world.get(&part).await), ("captured", 10));
        assert_eq!(world.books().iter().map(|charge| charge.status).collect::<Vec<_>>(), [Status::Voided, Status::Voided, Status::Captured]);
    }

    async fn a_decline_that_is_hard_ends_it_and_a_soft_one_goes_to_the_next(app: TestApp) {
        let strict = psp_config();
        let world = World::with(app, sandbox::SandboxConfig { rates: "soft_decline=1".parse().expect("rates"), ..strict.clone() }, true).await;
        let other = add_psp(&world.app, strict, true).await;
        let rules = json!({ "rules": [{ "provider_id": world.psp.id }, { "provider_id": other.id, "priority": 1 }] });
        world.acme.put("/api/v1/payments/routing").json(&rules).send().await.expect(200);

        let hard = world.pay("tok_hard_decline", json!({})).await.expect(201);
        assert_eq!((stand(&hard.json), hard.json["failure"].as_str(), hard.json["status"].as_str()), (("failed", 0), Some("stolen_card"), Some("failed")));
        assert_eq!((world.books().len(), other.sandbox.books().len()), (1, 0));
        world.ask(hard.header("location"), "confirm", json!({})).await.expect_problem(409, "payments.not_allowed");

        let soft = world.pay("tok_random", json!({})).await.expect(201);
        assert_eq!((stand(&soft.json), soft.json["provider_id"].as_str()), (("captured", 10_000), Some(other.id.as_str())));
        let detail = world.get(soft.header("location")).await;
        let outcomes: Vec<&str> = detail["attempts"].as_array().expect("attempts").iter().filter_map(|a| a["outcome"].as_str()).collect();
        assert_eq!(outcomes, ["soft_decline", "authorized"]);
        // A token of one provider is no other's.
        let bound = world.pay("tok_random", json!({ "token_provider_id": world.psp.id })).await.expect(201);
        assert_eq!((stand(&bound.json), bound.json["failure"].as_str()), (("failed", 0), Some("insufficient_funds")));
        assert_eq!(other.sandbox.books().len(), 1);
    }

    async fn a_change_of_the_rules_or_of_a_provider_is_in_force_for_the_next_payment(app: TestApp) {
        let world = World::with(app, psp_config(), false).await;
        let by = async || world.pay("tok_approve", json!({})).await.expect(201).text("provider_id");
        assert_eq!(by().await, world.psp.id);
        let other = add_psp(&world.app, psp_config(), false).await;
        for first in [&other.id, &world.psp.id] {
            let rules = json!({ "rules": [{ "provider_id": first }] });
            world.acme.put("/api/v1/payments/routing").json(&rules).send().await.expect(200);
            assert_eq!(by().await, *first);
        }
        let path = format!("/api/v1/payments/providers/{}", world.psp.id);
        for (enabled, state) in [(false, "failed"), (true, "captured")] {
            world.acme.patch(&path).json(&json!({ "enabled": enabled })).send().await.expect(200);
            assert_eq!(stand(&world.pay("tok_approve", json!({})).await.expect(201).json).0, state);
        }
    }

    async fn an_outage_goes_to_the_next_and_doubt_does_not(app: TestApp) {
        let world = World::with(app, psp_config(), false).await;
        let other = add_psp(&world.app, psp_config(), false).await;
        let rules = json!({ "rules": [{ "provider_id": world.psp.id }, { "provider_id": other.id, "priority": 1 }] });
        world.acme.put("/api/v1/payments/routing").json(&rules).send().await.expect(200);
        let away = world.pay("tok_outage", json!({})).await.expect(201);
        // The other one is out at its first request, too, by the same token: nobody is left.
        assert_eq!((stand(&away.json), away.json["failure"].as_str()), (("failed", 0), Some("outage")));

        let doubt = world.pay("tok_timeout_before", json!({ "wait_ms": 300 })).await.expect(201);
        assert_eq!((stand(&doubt.json), doubt.json["status"].as_str()), (("initiated", 0), Some("processing")));
        assert!(world.books().is_empty() && other.sandbox.books().is_empty());
        world.later(120_000).await;
        let now = world.get(doubt.header("location")).await;
        assert_eq!((stand(&now), now["provider_id"].as_str()), (("captured", 10_000), Some(world.psp.id.as_str())));
        assert_eq!((world.books().len(), other.sandbox.books().len()), (1, 0));
    }

    async fn whatever_becomes_of_the_answer_there_is_one_charge(app: TestApp) {
        let world = World::with(app, psp_config(), false).await;
        let faults = ["timeout_before", "timeout_after", "late", "error_after", "stale", "outage"];
        let mut paths = Vec::new();
        for fault in faults {
            let token = format!("tok_approve+create:{}+capture:{fault}", if fault == "outage" { "late" } else { fault });
            paths.push(world.pay(&token, json!({ "wait_ms": 0 })).await.expect(201).header("location").to_owned());
        }
        for _ in 0..6 {
            world.later(30_000).await;
        }
        for (path, fault) in paths.iter().zip(faults) {
            assert_eq!(stand(&world.get(path).await), ("captured", 10_000), "{fault}");
        }
        let books = world.books();
        assert_eq!(books.len(), faults.len());
        assert!(books.iter().all(|charge| charge.captures.len() == 1 && charge.captured_minor == 10_000));

        for (path, fault) in paths.iter().zip(faults) {
            let refunded = world.ask(path, "refund", json!({ "amount_minor": 100, "wait_ms": 0 })).await;
            refunded.expect(200);
            let _ = fault;
        }
        world.later(30_000).await;
        assert!(world.books().iter().all(|charge| charge.refunded_minor == 100));
    }

    async fn a_customer_confirms_or_does_not(app: TestApp) {
        let world = World::new(app).await;
        let mut paths = Vec::new();
        for _ in 0..3 {
            let waiting = world.pay("tok_requires_action", json!({})).await.expect(201);
            assert_eq!((stand(&waiting.json), waiting.json["status"].as_str()), (("requires_action", 0), Some("pending")));
            assert!(waiting.json["action_url"].as_str().is_some_and(|url| url.contains("/challenge/")), "{}", waiting.json);
            paths.push(waiting.header("location").to_owned());
        }
        let word = async |number: usize, outcome: &str| {
            let url = format!("{}/challenge/{}", world.psp.url, world.books()[number].id);
            let body = json!({ "outcome": outcome }).to_string().into();
            let request = client::Request { method: client::Method::POST, url, headers: vec![("content-type", "application/json".into())], body };
            let client = crate::tests::world::client();
            assert_eq!(client.send(request).await.expect("an answer").status, 200);
        };
        word(0, "pass").await;
        word(1, "fail").await;
        world.later(120_000).await;
        assert_eq!(stand(&world.get(&paths[0]).await), ("captured", 10_000));
        let refused = world.get(&paths[1]).await;
        assert_eq!((stand(&refused), refused["failure"].as_str()), (("failed", 0), Some("authentication_failed")));
        assert_eq!(world.get(&paths[2]).await["state"], "requires_action");
        world.later(3_600_000).await;
        let late = world.get(&paths[2]).await;
        assert_eq!((late["state"].as_str(), late["status"].as_str()), (Some("expired"), Some("failed")));
        assert_eq!(world.books()[2].status, Status::Voided);
    }

    async fn doubt_that_lasts_becomes_a_task_and_nothing_is_guessed(app: TestApp) {
        app.allow_parked();
        let world = World::with(app, psp_config(), false).await;
        let silent = world.pay("tok_silent", json!({ "wait_ms": 0 })).await.expect(201).header("location").to_owned();
        let mute = world.pay("tok_mute", json!({ "wait_ms": 0 })).await.expect(201).header("location").to_owned();
        world.later(3_500_000).await;
        assert!(world.tasks().await.is_empty());
        world.later(300_000).await;
        assert_eq!(world.tasks().await, ["in_doubt", "in_doubt"]);
        for path in [&silent, &mute] {
            let intent = world.get(path).await;
            assert_eq!((stand(&intent), intent["status"].as_str()), (("initiated", 0), Some("processing")));
        }
        // The ledger still holds the money of both.
        let tasks = world.get("/api/v1/payments/tasks").await;
        let task = format!("/api/v1/payments/tasks/{}/close", tasks["data"][0]["task_id"].as_str().expect("an id"));
        world.acme.post(&task).json(&json!({ "note": "asked the provider by telephone" })).send().await.expect(200);
        let closed = world.acme.post(&task).json(&json!({ "note": "again" })).send().await.expect(200);
        assert_eq!(closed.json["note"], "asked the provider by telephone");
        let noted = json!({ "intent_id": world.get(&silent).await["intent_id"], "detail": "the customer has called" });
        let first = world.acme.post("/api/v1/payments/tasks").json(&noted).send().await.expect(201);
        assert_eq!(world.acme.post("/api/v1/payments/tasks").json(&noted).send().await.expect(201).json, first.json);
        assert_eq!(world.tasks().await, ["noted", "in_doubt", "in_doubt"]);
    }

    async fn callbacks_are_believed_only_when_signed_and_asked_about(app: TestApp) {
        let world = World::with(app, psp_config(), false).await;
        let doubt = world.pay("tok_timeout_after", json!({ "wait_ms": 400 })).await.expect(201);
        let path = doubt.header("location").to_owned();
        assert_eq!(doubt.json["status"], "processing");
        let charge = world.books()[0].clone();
        let hook = format!("/api/v1/tenants/acme/payments/callbacks/{}", world.psp.id);
        let body = |id: &str, status: &str| json!({ "id": id, "type": "charge.declined", "data": { "id": charge.id, "status": status } }).to_string();
        let send = async |id: &str, at: kernel::Timestamp, secret: &str, body: &str| {
            let secret: webhook::Secret = secret.parse().expect("a secret");
            let signature = webhook::sign(&secret, id, at, body.as_bytes());
            let request = world.app.post(&hook).raw("application/json", body).header(webhook::ID, id);
            request.header(webhook::TIMESTAMP, at.unix_seconds().to_string()).header(webhook::SIGNATURE, signature).send().await
        };
        let lie = body("evt_1", "declined");
        send("evt_1", START, "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", &lie).await.expect_problem(401, "payments.callback_forged");
        send("evt_1", START.plus_ms(-301_000), SECRET, &lie).await.expect_problem(400, "payments.callback_out_of_time");
        send("evt_1", START.plus_ms(301_000), SECRET, &lie).await.expect_problem(400, "payments.callback_out_of_time");
        world.app.post(&hook).raw("application/json", lie.clone()).send().await.expect_problem(400, "payments.callback_malformed");
        send("evt_2", START, SECRET, &lie).await.expect_problem(400, "payments.callback_malformed");
        world.app.post(format!("/api/v1/payments/callbacks/{}", world.psp.id)).send().await.expect_problem(400, "request.tenant_required");
        assert_eq!(world.get(&path).await["status"], "processing", "nothing changed");

        // Signed, and lying: the provider is asked, and says that it is authorised.
        send("evt_1", START, SECRET, &lie).await.expect(204);
        world.app.drained().await;
        assert_eq!(stand(&world.get(&path).await), ("captured", 10_000));
        send("evt_1", START, SECRET, &lie).await.expect(204);
        send("evt_3", START, SECRET, &body("evt_3", "declined")).await.expect(204);
        world.app.drained().await;
        assert_eq!((stand(&world.get(&path).await), world.tasks().await.len()), (("captured", 10_000), 0));
    }

    async fn card_numbers_are_refused_wherever_they_stand(app: TestApp) {
        let world = World::with(app, psp_config(), false).await;
        let refused = async |request: testkit::TestRequest| {
            let answer = request.send().await.expect_problem(400, "payments.card_number");
            assert!(!String::from_utf8_lossy(&answer.body).contains("4242"), "the answer repeats it");
        };
        let intents = "/api/v1/payments/intents";
        let new = |field: &str, value: &str| {
            let mut body = json!({ "amount_minor": 1, "currency": "EUR" });
            body[field] = json!(value);
            world.acme.post(intents).json(&body)
        };
        refused(new("token", "4242424242424242")).await;
        refused(new("external_ref", "4242 4242 4242 4242")).await;
        refused(new("unknown", "4242-4242-4242-4242")).await;
        refused(world.acme.post(intents).key("4242424242424242").json(&json!({ "amount_minor": 1, "currency": "EUR" }))).await;
        refused(world.acme.get(format!("{intents}?external_ref=4242%204242%204242%204242"))).await;
        refused(world.acme.get(format!("{intents}/4242424242424242"))).await;
        refused(world.acme.post("/api/v1/payments/methods").raw("text/plain", "card 4242424242424242")).await;
        assert_eq!(world.get(intents).await["data"], json!([]));
    }

    async fn one_key_is_one_charge_for_fifty_at_once(app: TestApp) {
        let world = World::new(app).await;
        let body = json!({ "amount_minor": 4_200, "currency": "EUR", "token": "tok_approve", "confirm": true });
        let all = (0..50).map(|_| {
            let (acme, body) = (world.acme.clone(), body.clone());
            tokio::spawn(async move { acme.post("/api/v1/payments/intents").key("the-one").json(&body).send().await.expect(201).json })
        });
        let all: Vec<_> = all.collect();
        let mut answers = Vec::new();
        for one in all {
            answers.push(one.await.expect("an answer"));
        }
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        assert_eq!(stand(&answers[0]), ("captured", 4_200));
        let books = world.books();
        assert_eq!((books.len(), books[0].captured_minor, books[0].captures.len()), (1, 4_200, 1));
    }

    async fn a_storm_of_refunds_never_exceeds_the_capture(app: TestApp) {
        let world = World::new(app).await;
        let path = world.pay("tok_approve", json!({})).await.expect(201).header("location").to_owned();
        let storm = (0..200).map(|i| {
            let (acme, path) = (world.acme.clone(), path.clone());
            let body = json!({ "amount_minor": 70 + i % 7, "wait_ms": 0 });
            tokio::spawn(async move {
                loop {
                    let answer = acme.post(format!("{path}/refund")).json(&body).send().await;
                    // So many at once may be more than a small machine takes; nothing was done then.
                    if answer.status != 503 {
                        return answer;
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
            })
        });
        let storm: Vec<_> = storm.collect();
        let (mut taken, mut refused) = (0, 0);
        for one in storm {
            let answer = one.await.expect("an answer");
            match answer.status.as_u16() {
                200 => taken += 1,
                _ => {
                    let code = answer.json["code"].as_str();
                    assert!(matches!(code, Some("payments.refund_exceeds" | "payments.not_allowed")), "{}", answer.json);
                    refused += 1;
                }
            }
        }
        assert!(taken > 100 && refused > 40, "{taken} {refused}");
        // The breaker may have opened meanwhile, and what was in doubt is asked about in growing pauses.
        for _ in 0..4 {
            world.later(120_000).await;
        }
        let intent = world.get(&path).await;
        let charge = &world.books()[0];
        assert_eq!(intent["refunded_minor"].as_i64(), Some(charge.refunded_minor));
        let failed: Vec<Value> = world.get(&path).await["operations"].as_array().expect("operations").iter().filter(|o| o["state"] == "failed").cloned().collect();
        assert!(failed.is_empty(), "{failed:?}");
        assert!(charge.refunded_minor <= 10_000 && charge.refunded_minor > 10_000 - 77, "{}", charge.refunded_minor);
        assert_eq!(charge.refunds.len(), taken);
    }

    async fn a_refused_operation_frees_what_it_reserved(app: TestApp) {
        let world = World::new(app).await;
        let path = world.pay("tok_approve", json!({})).await.expect(201).header("location").to_owned();
        // Somebody refunds at the provider's own console; ours is refused there, and its reservation is free again.
        let charge = world.books()[0].id.clone();
        let refund = client::Request {
            method: client::Method::POST,
            url: format!("{}/v1/charges/{charge}/refunds", world.psp.url),
            headers: vec![("authorization", "Bearer sk_sandbox".into()), ("idempotency-key", "console".into())],
            body: json!({ "reference": "console", "amount_minor": 9_000 }).to_string().into(),
        };
        crate::tests::world::client().send(refund).await.expect("an answer");
        let refused = world.ask(&path, "refund", json!({ "amount_minor": 2_000 })).await.expect(200).json;
        assert_eq!((stand(&refused), refused["refunded_minor"].as_i64(), refused["refunding_minor"].as_i64()), (("captured", 10_000), Some(0), Some(0)));
        let detail = world.get(&path).await;
        assert_eq!((detail["operations"][1]["state"].as_str(), detail["operations"][1]["code"].as_str()), (Some("failed"), Some("refund_exceeds")));
        assert_eq!(world.ask(&path, "refund", json!({ "amount_minor": 1_000 })).await.expect(200).json["refunded_minor"], 1_000);
        // The callbacks told of more than we asked for: somebody has to look.
        for _ in 0..200 {
            if !world.tasks().await.is_empty() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert_eq!(world.tasks().await, ["contradiction"]);
    }

    async fn providers_keep_their_secrets_and_methods_their_tokens(app: TestApp) {
        let world = World::with(app, psp_config(), false).await;
        let list = world.acme.get("/api/v1/payments/providers").send().await.expect(200);
        assert!(!String::from_utf8_lossy(&list.body).contains("sk_sandbox"));
        let provider = format!("/api/v1/payments/providers/{}", world.psp.id);
        let add = |url: &str| json!({ "name": "x", "kind": "stripe", "base_url": url, "api_key": "sk_x" });
        for url in ["http://127.0.0.1.evil.example", "http://127.0.0.1:80@evil.example", "https://internal.example", "http://127.0.0.1:80x/", "http://127.0.0.1/a/../b", "http://127.0.0.1/%2e%2e/b", "http://127.0.0.1/./b"] {
            let refused = world.acme.post("/api/v1/payments/providers").json(&add(url)).send().await.expect_problem(400, "request.invalid");
            assert!(refused.names_field("base_url"), "{url}");
        }
        let method = json!({ "customer": "ann", "provider_id": world.psp.id, "token": "tok_approve", "label": "Visa" });
        let stored = world.acme.post("/api/v1/payments/methods").json(&method).send().await.expect(201);
        let pay = json!({ "amount_minor": 5, "currency": "EUR", "method_id": stored.json["method_id"], "confirm": true });
        assert_eq!(stand(&world.acme.post("/api/v1/payments/intents").json(&pay).send().await.expect(201).json), ("captured", 5));
        world.acme.delete(stored.header("location")).send().await.expect(200);
        world.acme.delete(stored.header("location")).send().await.expect(200);
        world.acme.post("/api/v1/payments/intents").json(&pay).send().await.expect_problem(409, "payments.method_removed");
        assert!(!String::from_utf8_lossy(&world.acme.get("/api/v1/payments/methods").send().await.expect(200).body).contains("tok_"));

        // Wrong secrets: the provider takes no requests of ours, which is as good as away.
        let changed = world.acme.patch(&provider).if_match(1).json(&json!({ "api_key": "sk_wrong", "webhook_secrets": [SECRET] })).send().await.expect(200);
        assert_eq!(changed.header("etag"), "\"2\"");
        assert_eq!(world.pay("tok_approve", json!({})).await.expect(201).json["failure"], "outage");
        world.acme.patch(&provider).if_match(1).json(&json!({ "enabled": false })).send().await.expect_problem(412, "request.precondition_failed");
        world.acme.patch(&provider).json(&json!({ "enabled": false })).send().await.expect(200);
        assert_eq!(world.pay("tok_approve", json!({})).await.expect(201).json["failure"], "no_provider");
    }

    async fn rights_are_asked_for(app: TestApp) {
        let world = World::with(app, psp_config(), false).await;
        let path = world.pay("tok_approve", json!({})).await.expect(201).header("location").to_owned();
        let clerk = world.app.client("acme", &["payments.read", "payments.write"]);
        clerk.post(format!("{path}/refund")).send().await.expect_problem(403, "request.forbidden");
        clerk.put("/api/v1/payments/routing").json(&json!({ "rules": [] })).send().await.expect_problem(403, "request.forbidden");
        clerk.get(&path).send().await.expect(200);
        world.app.client("other", &["*"]).get(&path).send().await.expect_problem(404, "payments.intent_not_found");
        let wrong: [(Value, &str); 6] = [
            (json!({ "amount_minor": 0, "currency": "EUR" }), "amount_minor"),
            (json!({ "amount_minor": -1, "currency": "EUR" }), "amount_minor"),
            (json!({ "amount_minor": 1.5, "currency": "EUR" }), "amount_minor"),
            (json!({ "amount_minor": 1_000_000_000_001_i64, "currency": "EUR" }), "amount_minor"),
            (json!({ "amount_minor": 1, "currency": "XYZ" }), "currency"),
            (json!({ "amount_minor": 1, "currency": "EUR", "country": "Germany" }), "country"),
        ];
        let long = json!({ "amount_minor": 1, "currency": "EUR", "wait_ms": 20_001 });
        assert!(world.acme.post("/api/v1/payments/intents").json(&long).send().await.expect_problem(400, "request.invalid").names_field("wait_ms"));
        assert_eq!(world.get("/api/v1/payments/intents").await["data"].as_array().map(Vec::len), Some(1));
        for (body, field) in wrong {
            let refused = world.acme.post("/api/v1/payments/intents").json(&body).send().await.expect_problem(400, "request.invalid");
            assert!(refused.names_field(field), "{body}: {}", refused.json);
        }
    }

    async fn old_callbacks_are_forgotten(app: TestApp) {
        let world = World::new(app).await;
        let count = async |world: &World| {
            let tenant = world.app.tenant("acme");
            let counted = |read: &mut store::Read<'_>| read.one::<(i64,)>("SELECT CAST(COUNT(*) AS BIGINT) FROM payments_callbacks WHERE tenant_id = $1", ());
            world.app.store().read(tenant, counted).await.expect("a count").0
        };
        let until = async |world: &World, least: i64| {
            for _ in 0..200 {
                if count(world).await >= least {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            count(world).await
        };
        for _ in 0..2 {
            world.pay("tok_approve", json!({})).await.expect(201);
        }
        assert_eq!(until(&world, 4).await, 4);
        world.later(91 * 86_400_000).await;
        world.pay("tok_approve", json!({})).await.expect(201);
        for _ in 0..200 {
            if count(&world).await == 2 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert_eq!(count(&world).await, 2);
    }
}
