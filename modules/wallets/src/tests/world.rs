//! A tenant with wallets, a bank that does as it is told, and shorthands.

use crate::service::{Bank, PayoutOrder, Wallets};
use futures_util::future::BoxFuture;
use payments::{Payments, PaymentsConfig};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use testkit::{Client, Setup, TestApp, TestResponse};
use traffic::resilience::Policies;
use workflow::Outcome;

/// A bank whose accounts' holders say what it does: `refuse`, `silent` (paid, and the answer is lost), `lost` (never arrives), `away`,
/// `down` (nobody takes the call).
#[derive(Clone, Default)]
pub(crate) struct FakeBank(pub Arc<Mutex<HashMap<String, PayoutOrder>>>);

impl Bank for FakeBank {
    fn pay(&self, order: PayoutOrder) -> BoxFuture<'static, Outcome> {
        let holder = order.holder.clone();
        let mut paid = self.0.lock().expect("no test panicked here");
        let outcome = match holder.as_str() {
            "refuse" => Outcome::Refused("account_closed".to_owned()),
            "down" => Outcome::NotDone("nobody is there".to_owned()),
            "lost" | "away" => Outcome::Unknown("the line went dead".to_owned()),
            _ => {
                assert!(paid.insert(order.reference.clone(), order.clone()).is_none(), "a bank was asked twice for {}", order.reference);
                match holder.as_str() {
                    "silent" => Outcome::Unknown("the line went dead".to_owned()),
                    _ => Outcome::Done(json!(format!("bank-{}", order.reference))),
                }
            }
        };
        Box::pin(std::future::ready(outcome))
    }

    fn ask(&self, order: PayoutOrder) -> BoxFuture<'static, Outcome> {
        let paid = self.0.lock().expect("no test panicked here").contains_key(&order.reference);
        let outcome = match (order.holder.as_str(), paid) {
            ("away", _) => Outcome::Unknown("closed".to_owned()),
            (_, true) => Outcome::Done(json!(format!("bank-{}", order.reference))),
            // It never arrived; it is sent again, and refused then.
            (_, false) => Outcome::Refused("unknown_reference".to_owned()),
        };
        Box::pin(std::future::ready(outcome))
    }
}

/// How whoever is outside is called: as usual.
pub(crate) fn policies() -> Arc<Policies> {
    Arc::new(Policies::new(Arc::new(kernel::SeededRng::new(3))))
}

pub(crate) fn setup() -> Setup {
    setup_with(FakeBank::default())
}

pub(crate) fn setup_with(bank: FakeBank) -> Setup {
    let config = PaymentsConfig {
        sealing_key: [7; 32],
        base_urls: vec!["http://127.0.0.1".to_owned()],
        call_timeout_ms: 2_000,
        rates: None,
        policies: policies(),
    };
    let payments = Payments::new(&config).expect("payments");
    let wallets = Wallets::new(&[9; 32], Some(Arc::new(bank)));
    let (payments_too, wallets_too) = (payments.clone(), wallets.clone());
    Setup::new(vec![ledger::module(), payments::module(), crate::module(), web::workflows_module()])
        .customise(move |builder| builder.part(payments_too).part(wallets_too))
        .workflow_part(payments)
        .workflow_part(wallets)
}

pub(crate) struct World {
    pub app: TestApp,
    pub acme: Client,
}

impl World {
    pub(crate) fn new(app: TestApp) -> World {
        World { acme: app.client("acme", &["*"]), app }
    }

    /// A wallet in EUR with so much in it, of level 3 (without limits) unless the fields say otherwise.
    pub(crate) async fn wallet(&self, name: &str, kind: &str, minor: i64, more: Value) -> String {
        let mut body = json!({ "kind": kind, "name": name, "currencies": ["EUR"], "level": 3 });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let wallet_id = self.acme.post("/api/v1/wallets").json(&body).send().await.expect(201).text("wallet_id");
        if minor > 0 {
            let deposit = json!({ "amount_minor": minor, "currency": "EUR", "reference": format!("{name}-{wallet_id}") });
            self.acme.post(format!("/api/v1/wallets/{wallet_id}/deposits")).json(&deposit).send().await.expect(201);
        }
        wallet_id
    }

    pub(crate) async fn user(&self, name: &str, minor: i64) -> String {
        self.wallet(name, "user", minor, json!({})).await
    }

    /// Sends EUR from one to another.
    pub(crate) async fn send(&self, from: &str, to: &str, minor: i64, more: Value) -> TestResponse {
        let mut body = json!({ "from_wallet_id": from, "to_wallet_id": to, "amount_minor": minor, "currency": "EUR" });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        self.acme.post("/api/v1/wallet-transfers").json(&body).send().await
    }

    /// What is posted in EUR, and what of it is available.
    pub(crate) async fn balance(&self, wallet_id: &str) -> (i64, i64) {
        let wallet = self.acme.get(format!("/api/v1/wallets/{wallet_id}")).send().await.expect(200).json;
        let balance = &wallet["pockets"][0]["balance"];
        (balance["posted_minor"].as_i64().expect("an amount"), balance["available_minor"].as_i64().expect("an amount"))
    }

    /// Changes the policy that is in force.
    pub(crate) async fn policy(&self, change: impl FnOnce(&mut Value)) {
        let mut policy = self.acme.get("/api/v1/wallet-policy").send().await.expect(200).json["policy"].take();
        change(&mut policy);
        self.acme.put("/api/v1/wallet-policy").json(&policy).send().await.expect(200);
    }

    /// From how many points on what happens, without the model and with one rule: an amount from `amount` on has `points`.
    pub(crate) async fn judge(&self, rules: Value, thresholds: [i64; 3]) {
        let thresholds = json!({ "challenge": thresholds[0], "review": thresholds[1], "deny": thresholds[2] });
        self.policy(|policy| {
            policy["fraud"]["rules"] = rules;
            policy["fraud"]["model"]["points"] = json!(0);
            policy["fraud"]["thresholds"] = thresholds;
        })
        .await;
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.acme.get(path).send().await.expect(200).json
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> TestResponse {
        self.acme.post(path).json(&body).send().await
    }

    /// The saga of a kind, by its business key.
    pub(crate) async fn saga(&self, kind: workflow::Kind, key: &str) -> workflow::SagaView {
        let key = key.to_owned();
        let find = move |read: &mut store::Read<'_>| workflow::find(read, kind, &key);
        self.app.store().read(self.app.tenant("acme"), find).await.expect("it can be found").expect("a saga")
    }

    /// Calls a saga off, as an operator does.
    pub(crate) async fn cancel(&self, kind: workflow::Kind, key: &str) {
        let id = self.saga(kind, key).await.id;
        self.acme.post(format!("/api/v1/workflows/{id}/cancel")).send().await.expect(200);
        self.app.drained().await;
    }

    /// A person who may use its own wallets only: how it calls, and its id.
    pub(crate) fn person(&self, id: i64) -> (Client, String) {
        let token = testkit::token(self.app.tenant("acme"), &["wallets.use"]);
        (self.app.with_token(format!("{token}:{id}")), crate::model::UserId::from_i64(id).to_string())
    }

    /// How many events of each of these kinds there are.
    pub(crate) async fn events(&self, kinds: &[&str]) -> Vec<usize> {
        let events = self.app.store().tenant_events_after(self.app.tenant("acme"), 0, 100_000).await.expect("events");
        kinds.iter().map(|kind| events.iter().filter(|event| event.kind == *kind).count()).collect()
    }
}

/// Rules by the amount alone: at 100.00, 200.00 and 300.00 EUR.
pub(crate) fn by_amount() -> Value {
    let rule = |code: &str, at_least: i64, points: i64| json!({ "code": code, "when": [{ "feature": "amount", "at_least": at_least }], "points": points });
    json!([rule("hundred", 10_000, 100), rule("two_hundred", 20_000, 100), rule("three_hundred", 30_000, 100)])
}
