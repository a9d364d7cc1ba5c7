//! A made-up Stripe that does to each request what it was told before, and keeps count of what it has done. It honours idempotency keys until
//! it forgets them.

use super::world::World;
use axum::body::Bytes;
use axum::extract::State as Shared;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use kernel::{Clock as _, ManualClock};
use ring::hmac;
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use testkit::TestResponse;

const SECRET: &str = "whsec_of_a_stripe_of_our_own";

/// What becomes of a write.
#[derive(Clone, Copy)]
pub(crate) enum Mood {
    /// It is done as it should be.
    Well,
    /// It is done, and never answered.
    Loses,
    /// It is neither done nor answered.
    Drops,
    /// It is not done, and answered so.
    Says(u16),
}

/// A PaymentIntent.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub reference: String,
    pub status: &'static str,
    pub amount: i64,
    pub received: i64,
    created: i64,
    /// Reference, amount and status.
    refunds: Vec<(String, i64, &'static str)>,
}

#[derive(Default)]
pub(crate) struct State {
    pub made: Vec<Made>,
    keys: HashMap<String, (u16, Value)>,
    pub moods: VecDeque<Mood>,
    pub list_is_away: bool,
    pub one_is_away: bool,
    /// Customers have to confirm.
    pub strict: bool,
    /// Paths that were posted to.
    pub posts: Vec<String>,
    events: u32,
}

#[derive(Clone)]
pub(crate) struct FakeStripe {
    state: Arc<Mutex<State>>,
    clock: Arc<ManualClock>,
    pub id: String,
}

impl Made {
    fn json(&self, number: usize) -> Value {
        json!({ "id": format!("pi_{number}"), "object": "payment_intent", "status": self.status, "amount": self.amount, "currency": "eur",
            "amount_received": self.received, "created": self.created, "metadata": { "reference": self.reference },
            "next_action": (self.status == "requires_action").then(|| json!({ "redirect_to_url": { "url": "https://bank.example/" } })) })
    }
}

impl FakeStripe {
    /// Starts one, on the clock of the world's provider, and has it asked before that one.
    pub(crate) async fn start(world: &World) -> FakeStripe {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let body = json!({ "name": "Stripe", "kind": "stripe", "base_url": url, "api_key": "sk_x", "webhook_secrets": [SECRET] });
        let id = world.acme.post("/api/v1/payments/providers").json(&body).send().await.expect(201).text("provider_id");
        let rules = json!({ "rules": [{ "provider_id": id }, { "provider_id": world.psp.id, "priority": 1 }] });
        world.acme.put("/api/v1/payments/routing").json(&rules).send().await.expect(200);
        let stripe = FakeStripe { state: Arc::default(), clock: world.psp.clock.clone(), id };
        let router = axum::Router::new().fallback(answer).with_state(stripe.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        stripe
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panicked here")
    }

    /// What becomes of the next writes.
    pub(crate) fn next(&self, moods: &[Mood]) {
        self.state().moods.extend(moods);
    }

    pub(crate) fn made(&self) -> Vec<Made> {
        self.state().made.clone()
    }

    /// How often it was asked to make a PaymentIntent.
    pub(crate) fn asked(&self) -> usize {
        self.state().posts.iter().filter(|path| *path == "/v1/payment_intents").count()
    }

    /// Waits until it was asked so often.
    pub(crate) async fn until_asked(&self, times: usize) {
        for _ in 0..500 {
            if self.asked() >= times {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it was asked {} times", self.asked());
    }

    /// Days pass: so many PaymentIntents of others are made, and every key is forgotten.
    pub(crate) fn days_pass(&self, others: usize) {
        let created = self.clock.now().unix_seconds();
        let other = Made { reference: "other".into(), status: "succeeded", amount: 1, received: 1, created, refunds: Vec::new() };
        let mut state = self.state();
        state.made.extend(std::iter::repeat_n(other, others));
        state.keys.clear();
    }

    /// Delivers a signed event about this object.
    pub(crate) async fn tell(&self, world: &World, object: Value) -> TestResponse {
        let at = self.clock.now().unix_seconds();
        let number = {
            let mut state = self.state();
            state.events += 1;
            state.events
        };
        let body = json!({ "id": format!("evt_{number}"), "type": "something", "data": { "object": object } }).to_string();
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
        let signature: String = hmac::sign(&key, format!("{at}.{body}").as_bytes()).as_ref().iter().map(|b| format!("{b:02x}")).collect();
        let hook = format!("/api/v1/tenants/acme/payments/callbacks/{}", self.id);
        world.app.post(hook).raw("application/json", body).header("stripe-signature", format!("t={at},v1={signature}")).send().await
    }

    /// Every refund fails, as one does days later.
    pub(crate) fn fail_refunds(&self) {
        self.state().made.iter_mut().flat_map(|made| &mut made.refunds).for_each(|refund| refund.2 = "failed");
    }
}

async fn never() -> Response {
    tokio::time::sleep(Duration::from_millis(600)).await;
    StatusCode::GATEWAY_TIMEOUT.into_response()
}

fn say((status, body): (u16, Value)) -> Response {
    (StatusCode::from_u16(status).expect("a status"), axum::Json(body)).into_response()
}

async fn answer(Shared(stripe): Shared<FakeStripe>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    if method == Method::GET {
        let found = stripe.state().show(&uri);
        return say(found);
    }
    let mood = {
        let mut state = stripe.state();
        state.posts.push(uri.path().to_owned());
        state.moods.pop_front().unwrap_or(Mood::Well)
    };
    match mood {
        Mood::Drops => return never().await,
        Mood::Says(status) => return say((status, json!({ "error": {} }))),
        Mood::Well | Mood::Loses => {}
    }
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok()).expect("a key").to_owned();
    let form: HashMap<String, String> = form_urlencoded::parse(&body).into_owned().collect();
    let done = {
        let mut state = stripe.state();
        match state.keys.get(&key) {
            Some(known) => known.clone(),
            None => {
                let done = state.work(uri.path(), &form, stripe.clock.now().unix_seconds());
                state.keys.insert(key, done.clone());
                done
            }
        }
    };
    if matches!(mood, Mood::Loses) { never().await } else { say(done) }
}

fn number(id: &str) -> usize {
    id.strip_prefix("pi_").and_then(|number| number.parse().ok()).expect("an id of ours")
}

impl State {
    fn show(&self, uri: &Uri) -> (u16, Value) {
        let query: HashMap<String, String> = form_urlencoded::parse(uri.query().unwrap_or("").as_bytes()).into_owned().collect();
        if uri.path() == "/v1/refunds" {
            let made = &self.made[number(&query["payment_intent"])];
            let refund = |(reference, amount, status): &(String, i64, &str)| json!({ "amount": amount, "status": status, "metadata": { "reference": reference } });
            return (200, json!({ "data": made.refunds.iter().map(refund).collect::<Vec<_>>() }));
        }
        if let Some(id) = uri.path().strip_prefix("/v1/payment_intents/") {
            return if self.one_is_away { (500, json!({})) } else { (200, self.made[number(id)].json(number(id))) };
        }
        if self.list_is_away {
            return (500, json!({}));
        }
        let end = query.get("starting_after").map_or(self.made.len(), |id| number(id));
        let begin = end.saturating_sub(100);
        let data: Vec<Value> = (begin..end).rev().map(|at| self.made[at].json(at)).collect();
        (200, json!({ "data": data, "has_more": begin > 0 }))
    }

    fn work(&mut self, path: &str, form: &HashMap<String, String>, created: i64) -> (u16, Value) {
        let amount = |name: &str| form[name].parse::<i64>().expect("an amount");
        let refused = || (400, json!({ "error": { "code": "payment_intent_unexpected_state" } }));
        if path == "/v1/payment_intents" {
            let status = if self.strict { "requires_action" } else { "requires_capture" };
            let reference = form["metadata[reference]"].clone();
            self.made.push(Made { reference, status, amount: amount("amount"), received: 0, created, refunds: Vec::new() });
            let at = self.made.len() - 1;
            return (200, self.made[at].json(at));
        }
        if path == "/v1/refunds" {
            let made = &mut self.made[number(&form["payment_intent"])];
            made.refunds.push((form["metadata[reference]"].clone(), amount("amount"), "pending"));
            return (200, json!({ "id": "re_1", "amount": amount("amount"), "status": "pending" }));
        }
        let (id, what) = path.strip_prefix("/v1/payment_intents/").and_then(|rest| rest.split_once('/')).expect("a known path");
        let made = &mut self.made[number(id)];
        match what {
            "capture" if made.status == "requires_capture" => (made.status, made.received) = ("succeeded", amount("amount_to_capture")),
            "cancel" if made.status != "succeeded" && made.status != "canceled" => made.status = "canceled",
            _ => return refused(),
        }
        (200, made.json(number(id)))
    }
}
