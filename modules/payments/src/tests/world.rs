//! A tenant, a provider of our own on a port of its own, and the way between them in both directions.

use crate::service::{Payments, PaymentsConfig};
use kernel::{ManualClock, Timestamp};
use sandbox::{Charge, Sandbox, SandboxConfig};
use serde_json::{Value, json};
use std::sync::Arc;
use testkit::{Client, Setup, TestApp, TestResponse};
use tokio::net::TcpListener;
use traffic::resilience::{BreakerConfig, Policies, Policy, PolicyConfig};

/// The moment at which a `TestApp`'s clock stands.
pub(crate) const START: Timestamp = Timestamp::from_micros(1_767_614_400_000_000);
pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// How long we wait for a provider, and how long it lets us wait, in milliseconds.
const CALL_MS: u64 = 150;
const HANG_MS: u64 = 250;

pub(crate) fn setup() -> Setup {
    setup_within(CALL_MS)
}

/// With another patience for providers, in milliseconds.
pub(crate) fn setup_within(call_timeout_ms: u64) -> Setup {
    setup_of(PaymentsConfig {
        sealing_key: [7; 32],
        base_urls: vec!["http://127.0.0.1".to_owned()],
        call_timeout_ms,
        rates: None,
        policies: policies(),
    })
}

/// With another configuration.
pub(crate) fn setup_of(config: PaymentsConfig) -> Setup {
    let payments = Payments::new(&config).expect("payments");
    let for_routes = payments.clone();
    Setup::new(vec![ledger::module(), crate::module()]).customise(move |builder| builder.part(for_routes)).workflow_part(payments)
}

/// Providers fail all the time here, and are asked nevertheless: what a breaker does is the business of other tests.
pub(crate) fn policies() -> Arc<Policies> {
    let text = "[dependency.payments]\nattempts = 1\ntimeout_ms = 60_000\nbreaker = { failures = 1_000_000, least_calls = 1_000_000 }\n";
    let rng = Arc::new(kernel::SeededRng::new(3));
    Arc::new(Policies::parse("test", text, rng).expect("the policies are valid"))
}

/// A client for what only a test asks for.
pub(crate) fn client() -> client::Client {
    let rng = Arc::new(kernel::SeededRng::new(3));
    // Some of them ask until the other side has started.
    let breaker = BreakerConfig { failures: u32::MAX, least_calls: u32::MAX, ..BreakerConfig::default() };
    let policy = PolicyConfig { attempts: 1, timeout_ms: 60_000, breaker, ..PolicyConfig::default() };
    client::Client::new(client::ClientConfig::default(), Policy::alone("test", policy, rng)).expect("a client")
}

pub(crate) fn psp_config() -> SandboxConfig {
    SandboxConfig { hang_ms: HANG_MS, late_ms: 200, retry_ms: 5, ..SandboxConfig::default() }
}

/// A provider that runs.
pub(crate) struct Psp {
    pub sandbox: Sandbox,
    pub clock: Arc<ManualClock>,
    pub url: String,
    pub id: String,
    _stop: tokio::sync::oneshot::Sender<()>,
}

pub(crate) struct World {
    pub app: TestApp,
    pub acme: Client,
    pub psp: Psp,
}

/// Starts a provider and makes it known to the tenant; callbacks come in over HTTP.
pub(crate) async fn add_psp(app: &TestApp, config: SandboxConfig, callbacks: bool) -> Psp {
    let clock = Arc::new(ManualClock::new(START));
    let sandbox = Sandbox::open(config, clock.clone()).expect("a sandbox");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = sandbox.clone();
    tokio::spawn(async move {
        let stop = async move { drop(stopped.await) };
        sandbox::serve(serving, listener, stop).await.expect("the sandbox serves");
    });
    let acme = app.client("acme", &["*"]);
    let body = json!({ "name": "Sandbox", "kind": "sandbox", "base_url": url, "api_key": "sk_sandbox", "webhook_secrets": [SECRET] });
    let id = acme.post("/api/v1/payments/providers").json(&body).send().await.expect(201).text("provider_id");
    if callbacks {
        let front = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let hook = format!("http://{}/api/v1/tenants/acme/payments/callbacks/{id}", front.local_addr().expect("an address"));
        let router = axum::Router::new().fallback_service(app.web().clone());
        tokio::spawn(async move { axum::serve(front, router).await });
        sandbox.call_back(&hook, SECRET).expect("callbacks");
    }
    Psp { sandbox, clock, url, id, _stop: stop }
}

impl World {
    /// With callbacks.
    pub(crate) async fn new(app: TestApp) -> World {
        World::with(app, psp_config(), true).await
    }

    pub(crate) async fn with(app: TestApp, config: SandboxConfig, callbacks: bool) -> World {
        let psp = add_psp(&app, config, callbacks).await;
        World { acme: app.client("acme", &["*"]), app, psp }
    }

    /// A payment of 100.00 EUR, confirmed at once, with more fields.
    pub(crate) async fn pay(&self, token: &str, more: Value) -> TestResponse {
        let mut body = json!({ "amount_minor": 10_000, "currency": "EUR", "token": token, "confirm": true, "wait_ms": 2_000 });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        self.acme.post("/api/v1/payments/intents").json(&body).send().await
    }

    /// Asks for something of a payment.
    pub(crate) async fn ask(&self, path: &str, what: &str, body: Value) -> TestResponse {
        self.acme.post(format!("{path}/{what}")).json(&body).send().await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.acme.get(path).send().await.expect(200).json
    }

    /// The tasks' kinds, the latest first.
    pub(crate) async fn tasks(&self) -> Vec<String> {
        let tasks = self.get("/api/v1/payments/tasks").await;
        tasks["data"].as_array().expect("tasks").iter().map(|task| task["kind"].as_str().expect("a kind").to_owned()).collect()
    }

    /// Moves both clocks on.
    pub(crate) async fn later(&self, ms: i64) {
        self.psp.clock.advance_ms(ms);
        self.app.advance_ms(ms).await;
    }

    pub(crate) fn books(&self) -> Vec<Charge> {
        self.psp.sandbox.books()
    }
}

/// State and captured amount.
pub(crate) fn stand(intent: &Value) -> (&str, i64) {
    (intent["state"].as_str().expect("a state"), intent["captured_minor"].as_i64().expect("an amount"))
}
