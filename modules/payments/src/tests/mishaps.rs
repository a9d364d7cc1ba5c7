//! What goes wrong between us and a provider and would charge twice, lose money, or leave a payment where nobody looks: stories, each on both
//! engines, with the audits at the end.

use super::fakestripe::{FakeStripe, Mood};
use super::world::{SECRET, START, World, psp_config, setup, setup_of, stand};
use crate::adapter::{Charge, ChargeStatus};
use crate::commands::{self, NewIntent, Observe, PayWith};
use crate::model::{CaptureMode, IntentId, MethodKind};
use crate::service::PaymentsConfig;
use crate::{AUTHORIZE, OPERATE};
use client::webhook;
use kernel::{Scope, TenantId};
use sandbox::Status;
use serde_json::{Value, json};
use std::sync::Arc;
use store::Tx;
use testkit::{Setup, TestApp};
use traffic::resilience::Policies;
use workflow::{Act, Decision, Kind};

/// With providers called as this TOML says.
fn setup_under(toml: &str) -> Setup {
    let policies = Arc::new(Policies::parse("test", toml, Arc::new(kernel::SeededRng::new(3))).expect("policies"));
    setup_of(PaymentsConfig {
        sealing_key: [7; 32],
        base_urls: vec!["http://127.0.0.1".to_owned()],
        call_timeout_ms: 200,
        rates: None,
        policies,
    })
}

impl World {
    /// What a person does about a saga.
    async fn person(&self, kind: Kind, key: &str, act: Act) {
        let (tenant, key) = (self.app.tenant("acme"), key.to_owned());
        let saga = self.app.store().read(tenant, move |read| workflow::find(read, kind, &key)).await.expect("read").expect("a saga");
        workflow::act(self.app.store(), Some(tenant), 0, saga.id, act).await.expect("it can be done");
        self.app.drained().await;
    }

    /// A payment of which the provider's answer shows nothing: its path and id.
    async fn begin(&self, token: &str, more: Value) -> (String, String) {
        let mut more = more;
        more["wait_ms"] = json!(0);
        let made = self.pay(token, more).await.expect(201);
        (made.header("location").to_owned(), made.text("intent_id"))
    }

    /// The customer's word at the sandbox's page.
    async fn customer(&self, number: usize, outcome: &str) {
        let url = format!("{}/challenge/{}", self.psp.url, self.books()[number].id);
        self.console(url, json!({ "outcome": outcome })).await;
    }

    /// Something that is asked of the sandbox without us.
    async fn console(&self, url: String, body: Value) {
        let headers = vec![("authorization", "Bearer sk_sandbox".to_owned()), ("idempotency-key", "console".to_owned())];
        let request = client::Request { method: client::Method::POST, url, headers, body: body.to_string().into() };
        let answer = crate::tests::world::client().send(request).await.expect("an answer");
        assert!(answer.status < 300, "{answer:?}");
    }

    /// Takes in a charge as a callback's query has shown it.
    async fn observe(&self, charge: Charge) {
        let provider_id = self.psp.id.parse().expect("an id");
        let observed = Observe { provider_id, event_id: "evt_x".to_owned(), charge };
        self.app.store().write(self.app.tenant("acme"), commands::observe, observed).await.expect("taken");
        self.app.drained().await;
    }
}

fn operation(intent: &Value, number: usize) -> (&str, Option<&str>) {
    let operation = &intent["operations"][number];
    (operation["state"].as_str().expect("a state"), operation["code"].as_str())
}

testkit::both_engines! {
    setup: || setup_under("[dependency.payments]\nattempts = 3\npause_ms = 1\n");

    async fn a_write_that_may_be_done_is_not_hidden_by_a_later_refusal(app: TestApp) {
        let world = World::with(app, psp_config(), false).await;
        let stripe = FakeStripe::start(&world).await;
        // Charged, and the answer is lost; whoever sent it again would be told of too many requests.
        stripe.next(&[Mood::Loses, Mood::Says(429)]);
        let path = world.pay("pm_x", json!({})).await.expect(201).header("location").to_owned();
        world.later(60_000).await;
        assert_eq!((stripe.made().len(), world.books().len()), (1, 0), "one charge, at one provider");
        assert_eq!(stand(&world.get(&path).await), ("captured", 10_000));
    }
}

testkit::both_engines! {
    setup: || setup_under("[dependency.payments]\nbulkhead = 2\nbulkhead_wait_ms = 1\nattempts = 1\n");

    async fn more_payments_than_seats_wait_for_one(app: TestApp) {
        let world = World::with(app, sandbox::SandboxConfig { late_ms: 60, ..psp_config() }, false).await;
        let mut paths = Vec::new();
        for _ in 0..12 {
            paths.push(world.begin("tok_late", json!({})).await.0);
        }
        for _ in 0..6 {
            world.later(60_000).await;
        }
        for path in &paths {
            let intent = world.get(path).await;
            assert_eq!(stand(&intent), ("captured", 10_000), "{intent}");
        }
        assert_eq!(world.books().len(), paths.len());
    }
}

testkit::both_engines! {
    setup: setup;

    async fn a_retry_days_later_charges_nobody_twice(app: TestApp) {
        app.allow_parked();
        let world = World::with(app, psp_config(), false).await;
        let stripe = FakeStripe::start(&world).await;
        stripe.state().list_is_away = true;
        stripe.next(&[Mood::Loses]);
        let (done, done_id) = world.begin("pm_x", json!({})).await;
        stripe.until_asked(1).await;
        stripe.next(&[Mood::Drops]);
        let (never, never_id) = world.begin("pm_x", json!({})).await;
        world.later(3_700_000).await;
        assert_eq!((world.tasks().await, stripe.asked()), (vec!["in_doubt".to_owned(), "in_doubt".to_owned()], 2));
        // Two days later Stripe has forgotten the keys, and shows the payments of others first.
        world.later(2 * 86_400_000).await;
        stripe.days_pass(150);
        stripe.state().list_is_away = false;
        world.person(AUTHORIZE, &done_id, Act::Retry).await;
        world.person(AUTHORIZE, &never_id, Act::Retry).await;
        world.later(600_000).await;
        assert_eq!(stand(&world.get(&done).await), ("captured", 10_000));
        assert_eq!(stand(&world.get(&never).await), ("initiated", 0), "whether it was made can't be known any more");
        assert_eq!(stripe.asked(), 2, "each was asked for once");
        world.later(3_700_000).await;
        world.person(AUTHORIZE, &never_id, Act::Decide(Decision::Refused("the provider has no such payment".to_owned()))).await;
        assert_eq!(stand(&world.get(&never).await), ("failed", 0));
    }

    async fn a_second_capture_waits_for_the_first(app: TestApp) {
        let world = World::with(app, psp_config(), false).await;
        let stripe = FakeStripe::start(&world).await;
        let path = world.pay("pm_x", json!({ "capture": "manual" })).await.expect(201).header("location").to_owned();
        stripe.next(&[Mood::Drops]);
        world.ask(&path, "capture", json!({ "amount_minor": 400, "wait_ms": 0 })).await.expect(200);
        world.ask(&path, "capture", json!({ "amount_minor": 300 })).await.expect_problem(409, "payments.capture_under_way");
        world.later(60_000).await;
        assert_eq!((stand(&world.get(&path).await), stripe.made()[0].received), (("captured", 400), 400));
    }

    async fn a_void_of_what_is_over_is_done(app: TestApp) {
        let world = World::with(app, psp_config(), false).await;
        let expired = world.pay("tok_approve", json!({ "capture": "manual" })).await.expect(201).header("location").to_owned();
        // By the provider's clock the authorisation is over before we come to let go of it.
        world.psp.clock.advance_ms(7 * 86_400_000 + 1_000);
        world.later(7 * 86_400_000).await;
        assert_eq!(world.books()[0].status, Status::Expired);
        assert_eq!(stand(&world.get(&expired).await), ("expired", 0));
        assert_eq!(world.tasks().await, Vec::<String>::new());

        // The customer refuses while the void is under way.
        let (declined, _) = world.begin("tok_requires_action+void:outage", json!({})).await;
        world.app.drained().await;
        world.ask(&declined, "void", json!({ "wait_ms": 0 })).await.expect(200);
        world.customer(1, "fail").await;
        world.later(10_000).await;
        let intent = world.get(&declined).await;
        assert_eq!((stand(&intent), operation(&intent, 0)), (("failed", 0), ("succeeded", None)), "{intent}");
    }

    async fn a_void_that_is_refused_is_for_a_person(app: TestApp) {
        let world = World::with(app, psp_config(), false).await;
        let path = world.pay("tok_approve", json!({ "capture": "manual" })).await.expect(201).header("location").to_owned();
        let charge = world.books()[0].id.clone();
        let url = format!("{}/v1/charges/{charge}/captures", world.psp.url);
        world.console(url, json!({ "reference": "console", "amount_minor": 10, "last": true })).await;
        world.ask(&path, "void", json!({ "wait_ms": 0 })).await.expect(200);
        world.app.drained().await;
        let intent = world.get(&path).await;
        assert_eq!((stand(&intent), operation(&intent, 0)), (("authorized", 0), ("failed", Some("not_voidable"))));
        assert_eq!(world.tasks().await, ["contradiction"]);
    }

    async fn a_void_goes_before_the_capture_of_what_is_confirmed_meanwhile(app: TestApp) {
        let world = World::with(app, psp_config(), false).await;
        let (path, _) = world.begin("tok_requires_action+void:outage", json!({})).await;
        world.app.drained().await;
        world.ask(&path, "void", json!({ "wait_ms": 0 })).await.expect(200);
        // The provider takes no void now, and the customer confirms: the callback says so at once.
        world.customer(0, "pass").await;
        let intent_id: IntentId = world.get(&path).await["intent_id"].as_str().expect("an id").parse().expect("an id");
        let shown = Charge { status: ChargeStatus::Authorized, ..charge(&world.books()[0]) };
        assert_eq!(shown.reference, format!("{intent_id}-1"));
        world.observe(shown).await;
        let intent = world.get(&path).await;
        assert_eq!((stand(&intent), intent["capturing_minor"].as_i64()), (("authorized", 0), Some(0)), "{intent}");
        world.ask(&path, "capture", json!({})).await.expect_problem(409, "payments.void_under_way");
        world.later(60_000).await;
        assert_eq!(stand(&world.get(&path).await), ("reversed", 0));
        assert_eq!((world.books()[0].status, world.books()[0].captured_minor), (Status::Voided, 0));
    }

    async fn a_refund_that_fails_later_is_told(app: TestApp) {
        let world = World::with(app, psp_config(), false).await;
        let stripe = FakeStripe::start(&world).await;
        let path = world.pay("pm_x", json!({})).await.expect(201).header("location").to_owned();
        world.ask(&path, "refund", json!({ "amount_minor": 4_000 })).await.expect(200);
        stripe.tell(&world, json!({ "id": "re_1", "payment_intent": "pi_0" })).await.expect(204);
        assert!(world.tasks().await.is_empty(), "it is under way at the bank");
        stripe.fail_refunds();
        stripe.tell(&world, json!({ "id": "re_1", "payment_intent": "pi_0" })).await.expect(204);
        assert_eq!(world.tasks().await, ["contradiction"]);
        assert_eq!(world.get(&path).await["refunded_minor"], 4_000);

        // One of which we don't know yet that it was taken on has failed, and is not done again.
        stripe.next(&[Mood::Loses]);
        world.ask(&path, "refund", json!({ "amount_minor": 1_000, "wait_ms": 0 })).await.expect(200);
        world.app.drained().await;
        stripe.fail_refunds();
        world.later(60_000).await;
        let intent = world.get(&path).await;
        assert_eq!((operation(&intent, 2), intent["refunding_minor"].as_i64()), (("failed", Some("refund_failed")), Some(0)), "{intent}");
    }

    async fn a_failed_payment_that_holds_money_is_told(app: TestApp) {
        app.allow_parked();
        let world = World::with(app, psp_config(), false).await;
        let (path, id) = world.begin("tok_silent", json!({})).await;
        world.later(3_700_000).await;
        world.person(AUTHORIZE, &id, Act::Decide(Decision::Refused("nothing to be seen".to_owned()))).await;
        assert_eq!((stand(&world.get(&path).await), world.tasks().await), (("failed", 0), vec!["in_doubt".to_owned()]));
        let late = Charge { reference: format!("{id}-1"), status: ChargeStatus::Authorized, ..nothing() };
        world.observe(late).await;
        assert_eq!((stand(&world.get(&path).await), world.tasks().await), (("failed", 0), vec!["contradiction".to_owned(), "in_doubt".to_owned()]));
    }

    async fn what_is_cancelled_does_not_stay_open(app: TestApp) {
        let world = World::with(app, psp_config(), false).await;
        // A refund that the provider does not take now.
        let path = world.pay("tok_approve+refund:outage", json!({})).await.expect(201).header("location").to_owned();
        world.ask(&path, "refund", json!({ "amount_minor": 4_000, "wait_ms": 0 })).await.expect(200);
        world.app.drained().await;
        let intent = world.get(&path).await;
        assert_eq!(intent["refunding_minor"], 4_000);
        let key = format!("{}/{}", intent["intent_id"].as_str().expect("an id"), intent["operations"][1]["operation_id"].as_str().expect("an id"));
        world.person(OPERATE, &key, Act::Cancel).await;
        let intent = world.get(&path).await;
        assert_eq!((operation(&intent, 1), intent["refunding_minor"].as_i64(), stand(&intent)), (("failed", Some("cancelled")), Some(0), ("captured", 10_000)));
        world.ask(&path, "refund", json!({ "wait_ms": 0 })).await.expect(200);
        world.later(10_000).await;
        assert_eq!(world.get(&path).await["state"], "refunded", "it can be asked for again");

        // A payment before anybody was asked: nobody rides in a tenant's scope that the platform's has entered.
        let new = NewIntent {
            amount_minor: 500,
            currency: "EUR".parse().expect("a currency"),
            method: MethodKind::Card,
            capture_mode: CaptureMode::Automatic,
            country: String::new(),
            merchant: String::new(),
            external_ref: None,
            order_id: None,
            pay_with: Some(PayWith::Token("tok_approve".to_owned(), None)),
            confirm: true,
        };
        let begin = |tx: &mut Tx<'_>, (tenant, new): &(TenantId, NewIntent)| {
            tx.in_tenant(*tenant, |tx| {
                let made = commands::create(tx, new)?;
                workflow::cancel(tx, AUTHORIZE, &made.intent_id.to_string())?;
                Ok(made.intent_id)
            })
        };
        let id = world.app.store().write(Scope::Platform, begin, (world.app.tenant("acme"), new)).await.expect("made");
        world.app.drained().await;
        let intent = world.get(&format!("/api/v1/payments/intents/{id}")).await;
        assert_eq!((stand(&intent), intent["failure"].as_str(), world.books().len()), (("failed", 0), Some("cancelled"), 1));

        // A payment that waits for its customer.
        let path = world.pay("tok_requires_action", json!({})).await.expect(201).header("location").to_owned();
        let id = world.get(&path).await["intent_id"].as_str().expect("an id").to_owned();
        world.person(AUTHORIZE, &id, Act::Cancel).await;
        assert_eq!((stand(&world.get(&path).await), world.books()[1].status), (("reversed", 0), Status::Voided));
    }

    async fn a_confirmation_is_asked_about_by_the_charge_and_ends_in_time(app: TestApp) {
        let world = World::with(app, psp_config(), false).await;
        let stripe = FakeStripe::start(&world).await;
        stripe.state().strict = true;
        let path = world.pay("pm_x", json!({})).await.expect(201).header("location").to_owned();
        assert_eq!(stand(&world.get(&path).await), ("requires_action", 0));
        // Too many payments of others to find it among them.
        stripe.state().list_is_away = true;
        stripe.state().made[0].status = "requires_capture";
        world.later(120_000).await;
        assert_eq!(stand(&world.get(&path).await), ("captured", 10_000));

        let path = world.pay("pm_x", json!({})).await.expect(201).header("location").to_owned();
        stripe.state().one_is_away = true;
        world.later(3_700_000).await;
        assert_eq!((stand(&world.get(&path).await), stripe.made()[1].status), (("expired", 0), "canceled"));
    }

    async fn a_removed_method_is_charged_by_nothing_that_was_made_before(app: TestApp) {
        let world = World::with(app, psp_config(), false).await;
        let method = json!({ "customer": "ann", "provider_id": world.psp.id, "token": "tok_approve" });
        let stored = world.acme.post("/api/v1/payments/methods").json(&method).send().await.expect(201);
        let new = json!({ "amount_minor": 5, "currency": "EUR", "method_id": stored.json["method_id"] });
        let make = async || world.acme.post("/api/v1/payments/intents").key("made").json(&new).send().await.expect(201).header("location").to_owned();
        let kept = world.acme.post("/api/v1/payments/intents").json(&new).send().await.expect(201).header("location").to_owned();
        assert_eq!(stand(&world.ask(&kept, "confirm", json!({})).await.expect(200).json), ("captured", 5));
        let path = make().await;
        world.acme.delete(stored.header("location")).send().await.expect(200);
        world.ask(&path, "confirm", json!({})).await.expect_problem(409, "payments.method_removed");
        assert_eq!(make().await, path, "by its key it is the same");
        assert_eq!(world.books().len(), 1);
        let held = |read: &mut store::Read<'_>| read.all::<(String,)>("SELECT token FROM payments_intents WHERE tenant_id = $1", ());
        let held = world.app.store().read(world.app.tenant("acme"), held).await.expect("read");
        assert!(held.iter().all(|(token,)| token.is_empty()), "{held:?}");
        // Another way to pay serves.
        assert_eq!(stand(&world.ask(&path, "confirm", json!({ "token": "tok_approve" })).await.expect(200).json), ("captured", 5));
    }

    async fn a_provider_keeps_what_is_not_changed(app: TestApp) {
        let world = World::with(app, psp_config(), false).await;
        let provider = format!("/api/v1/payments/providers/{}", world.psp.id);
        world.pay("tok_approve", json!({})).await.expect(201);
        let deliver = async |event: &str| {
            let body = json!({ "id": event, "type": "charge.captured", "data": { "id": world.books()[0].id } }).to_string();
            let signature = webhook::sign(&SECRET.parse().expect("a secret"), event, START, body.as_bytes());
            let hook = format!("/api/v1/tenants/acme/payments/callbacks/{}", world.psp.id);
            let request = world.app.post(hook).raw("application/json", body).header(webhook::ID, event);
            request.header(webhook::TIMESTAMP, START.unix_seconds().to_string()).header(webhook::SIGNATURE, signature).send().await
        };
        deliver("evt_1").await.expect(204);
        world.acme.patch(&provider).json(&json!({ "api_key": "sk_sandbox" })).send().await.expect(200);
        deliver("evt_2").await.expect(204);
        let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        world.acme.patch(&provider).if_match(2).json(&json!({ "webhook_secrets": [other, SECRET] })).send().await.expect(200);
        deliver("evt_3").await.expect(204);
        assert_eq!(stand(&world.pay("tok_approve", json!({})).await.expect(201).json), ("captured", 10_000), "and its key");
        world.acme.patch(&provider).json(&json!({ "webhook_secrets": [] })).send().await.expect(200);
        deliver("evt_4").await.expect_problem(401, "payments.callback_forged");
        // What could never verify is refused.
        let none = json!({ "webhook_secrets": ["no secret of this form"] });
        assert!(world.acme.patch(&provider).json(&none).send().await.expect_problem(400, "request.invalid").names_field("webhook_secrets"));
        let elsewhere = json!({ "base_url": "http://127.0.0.1:9" });
        assert!(world.acme.patch(&provider).json(&elsewhere).send().await.expect_problem(400, "request.invalid").names_field("api_key"));
        world.acme.patch(&provider).if_match(2).json(&json!({ "api_key": "sk_x" })).send().await.expect_problem(412, "request.precondition_failed");
    }

    async fn a_dispute_ends_as_it_is_decided(app: TestApp) {
        let world = World::new(app).await;
        let mut paths = Vec::new();
        for _ in 0..3 {
            paths.push(world.pay("tok_approve", json!({})).await.expect(201).header("location").to_owned());
        }
        world.ask(&paths[2], "refund", json!({ "amount_minor": 1_000 })).await.expect(200);
        let charges: Vec<String> = world.books().iter().map(|charge| format!("{}/v1/charges/{}/dispute", world.psp.url, charge.id)).collect();
        let until = async |path: &str, state: &str| {
            for _ in 0..200 {
                if world.get(path).await["state"] == state {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            let intent = world.get(path).await;
            assert_eq!(intent["state"], state, "{intent}");
            intent
        };
        for (path, charge) in paths.iter().zip(&charges) {
            world.console(charge.clone(), json!({})).await;
            until(path, "disputed").await;
        }
        let decide = async |number: usize, outcome: &str| world.console(format!("{}/close", charges[number]), json!({ "outcome": outcome })).await;
        decide(0, "won").await;
        until(&paths[0], "captured").await;
        // What was lost is in the books as a refund that nobody asked for; of the third, what had not gone back before.
        for (number, amount) in [(1, 10_000), (2, 9_000)] {
            decide(number, "lost").await;
            let intent = until(&paths[number], "refunded").await;
            let last = intent["operations"].as_array().expect("operations").last().expect("one").clone();
            assert_eq!((last["cause"].as_str(), last["amount_minor"].as_i64(), last["state"].as_str()), (Some("dispute"), Some(amount), Some("succeeded")));
            assert_eq!(intent["refunded_minor"], 10_000);
        }
        assert!(world.tasks().await.is_empty());
        // Told again, it is known.
        let shown = Charge { lost_minor: 10_000, status: ChargeStatus::Captured, captured_minor: 10_000, ..charge(&world.books()[1]) };
        world.observe(shown).await;
        assert_eq!((world.get(&paths[1]).await["refunded_minor"].as_i64(), world.tasks().await.len()), (Some(10_000), 0));
    }

    async fn a_dispute_about_a_part_gives_back_a_part(app: TestApp) {
        let world = World::with(app, psp_config(), false).await;
        let path = world.pay("tok_approve", json!({})).await.expect(201).header("location").to_owned();
        let captured = Charge { status: ChargeStatus::Captured, captured_minor: 10_000, open: false, ..charge(&world.books()[0]) };
        world.observe(Charge { disputed: true, ..captured.clone() }).await;
        assert_eq!(stand(&world.get(&path).await), ("disputed", 10_000));
        for _ in 0..2 {
            world.observe(Charge { lost_minor: 4_000, ..captured.clone() }).await;
            let intent = world.get(&path).await;
            assert_eq!((stand(&intent), intent["refunded_minor"].as_i64()), (("partly_refunded", 10_000), Some(4_000)), "{intent}");
        }
        // More than there was to give back.
        world.observe(Charge { lost_minor: 10_001, ..captured }).await;
        assert_eq!((world.get(&path).await["state"].as_str(), world.tasks().await), (Some("refunded"), vec!["contradiction".to_owned()]));
    }

    /// What a refund that is under way has already is lost to a dispute: nobody knows whether it goes twice.
    async fn a_dispute_that_is_lost_beside_a_refund_is_told(app: TestApp) {
        let world = World::with(app, psp_config(), false).await;
        let path = world.pay("tok_approve+refund:outage", json!({})).await.expect(201).header("location").to_owned();
        world.ask(&path, "refund", json!({ "wait_ms": 0 })).await.expect(200);
        let captured = Charge { status: ChargeStatus::Captured, captured_minor: 10_000, open: false, ..charge(&world.books()[0]) };
        world.observe(Charge { lost_minor: 10_000, ..captured }).await;
        assert_eq!(world.tasks().await, ["contradiction"]);
    }

    async fn events_about_no_charge_are_taken(app: TestApp) {
        let world = World::with(app, psp_config(), false).await;
        let stripe = FakeStripe::start(&world).await;
        stripe.tell(&world, json!({ "object": "balance", "available": [] })).await.expect(204);
        stripe.tell(&world, json!({ "id": "cus_1", "object": "customer" })).await.expect(204);
    }

    async fn a_way_to_pay_that_nobody_takes_is_refused(app: TestApp) {
        let world = World::with(app, psp_config(), false).await;
        for method in ["bank_transfer", "wallet"] {
            let refused = world.pay("tok_approve", json!({ "method": method })).await.expect_problem(400, "request.invalid");
            assert!(refused.names_field("method"), "{}", refused.json);
        }
        assert!(world.books().is_empty());
    }
}

fn nothing() -> Charge {
    Charge {
        id: "ch_0000000001".to_owned(),
        reference: String::new(),
        status: ChargeStatus::Processing,
        amount_minor: 10_000,
        action_url: None,
        decline: None,
        captured_minor: 0,
        refunded_minor: 0,
        open: true,
        disputed: false,
        dispute_won: false,
        lost_minor: 0,
        captures: Vec::new(),
        refunds: Vec::new(),
        failed_refunds: Vec::new(),
    }
}

fn charge(of: &sandbox::Charge) -> Charge {
    Charge { id: of.id.clone(), reference: of.reference.clone(), ..nothing() }
}
