//! A tenant with something to sell, a provider of our own on a port of its own, and callbacks from it.

use super::super::Checkouts;
use crate::flows::guards;
use kernel::{ManualClock, Timestamp};
use payments::{Payments, PaymentsConfig};
use sandbox::{Charge, Sandbox, SandboxConfig};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use testkit::{Client, Setup, TestApp, TestResponse};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use traffic::resilience::Policies;

/// The moment at which a `TestApp`'s clock stands.
const START: Timestamp = Timestamp::from_micros(1_767_614_400_000_000);
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

pub(super) fn setup() -> Setup {
    // The provider fails all the time here, and is asked nevertheless: what a breaker does is the business of other tests.
    let text = "[dependency.payments]\nattempts = 1\ntimeout_ms = 60_000\nbreaker = { failures = 1_000_000, least_calls = 1_000_000 }\n";
    let policies = Policies::parse("test", text, Arc::new(kernel::SeededRng::new(3))).expect("the policies are valid");
    let payments = Payments::new(&PaymentsConfig {
        sealing_key: [7; 32],
        base_urls: vec!["http://127.0.0.1".to_owned()],
        call_timeout_ms: 150,
        rates: None,
        policies: Arc::new(policies),
    })
    .expect("payments");
    let for_routes = payments.clone();
    let modules = vec![
        catalog::module(),
        inventory::module(),
        orders::module(),
        ledger::module(),
        payments::module(),
        pricing::module(),
        shipping::module(),
        carts::module(),
        crate::flows::module(),
        crate::flows::checkout::module(),
        web::workflows_module(),
    ];
    let caches = traffic::cache::Caches::new(traffic::cache::CachesConfig::default(), Arc::new(kernel::SeededRng::new(5)));
    let customise = move |builder: web::AppBuilder| {
        builder.part(for_routes).part(Checkouts::default()).part(guards::OUTSIDE).part(guards::GATE).caches(caches)
    };
    Setup::new(modules).customise(customise).workflow_part(payments)
}

pub(super) struct World {
    pub app: TestApp,
    pub acme: Client,
    pub sandbox: Sandbox,
    pub location_id: String,
    psp_clock: Arc<ManualClock>,
    address: SocketAddr,
    online: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

fn serve(sandbox: Sandbox, listener: TcpListener) -> (oneshot::Sender<()>, JoinHandle<()>) {
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        let stop = async move { drop(stopped.await) };
        sandbox::serve(sandbox, listener, stop).await.expect("the sandbox serves");
    });
    (stop, serving)
}

impl World {
    pub async fn new(app: TestApp) -> World {
        World::with(app, true).await
    }

    /// Without callbacks.
    pub async fn deaf(app: TestApp) -> World {
        World::with(app, false).await
    }

    async fn with(app: TestApp, callbacks: bool) -> World {
        app.app().part::<Checkouts>().follow(app.store());
        let acme = app.client("acme", &["*"]);
        let psp_clock = Arc::new(ManualClock::new(START));
        let config = SandboxConfig { hang_ms: 250, late_ms: 200, retry_ms: 5, ..SandboxConfig::default() };
        let sandbox = Sandbox::open(config, psp_clock.clone()).expect("a sandbox");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let url = format!("http://{address}");
        let online = Some(serve(sandbox.clone(), listener));
        let provider =
            json!({ "name": "Sandbox", "kind": "sandbox", "base_url": url, "api_key": "sk_sandbox", "webhook_secrets": [SECRET] });
        let provider = acme.post("/api/v1/payments/providers").json(&provider).send().await.expect(201).text("provider_id");
        let front = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let hook = format!("http://{}/api/v1/tenants/acme/payments/callbacks/{provider}", front.local_addr().expect("an address"));
        let router = axum::Router::new().fallback_service(app.web().clone());
        tokio::spawn(async move { axum::serve(front, router).await });
        if callbacks {
            sandbox.call_back(&hook, SECRET).expect("callbacks");
        }
        let location = json!({ "kind": "warehouse", "name": "Utrecht" });
        let location_id = acme.post("/api/v1/inventory/locations").json(&location).send().await.expect(201).text("location_id");
        World { app, acme, sandbox, location_id, psp_clock, address, online }
    }

    /// Nobody reaches the provider any more; it knows what it has done.
    pub async fn offline(&mut self) {
        if let Some((stop, serving)) = self.online.take() {
            drop(stop);
            serving.await.expect("the sandbox ends");
        }
    }

    /// It is back.
    pub async fn online(&mut self) {
        let listener = TcpListener::bind(self.address).await.expect("its port is free");
        self.online = Some(serve(self.sandbox.clone(), listener));
    }

    /// A variant at this price in EUR with so many in stock, or without stock that is counted. Gives its id and its item's.
    pub async fn variant(&self, sku: &str, price: &str, stock: Option<i64>) -> (String, String) {
        let variant = json!({ "sku": sku, "title": sku, "prices": [{ "currency": "EUR", "price": price }] });
        let product = json!({ "title": sku, "status": "active", "variants": [variant] });
        let product = self.acme.post("/api/v1/products").json(&product).send().await.expect(201).json;
        let variant_id = product["variants"][0]["variant_id"].as_str().expect("an id").to_owned();
        let Some(stock) = stock else { return (variant_id, String::new()) };
        let item = json!({ "sku": sku, "name": sku });
        let item_id = self.acme.post("/api/v1/inventory/items").json(&item).send().await.expect(201).text("item_id");
        self.components(&variant_id, &[(&item_id, 1)]).await;
        self.receive(&item_id, stock).await;
        (variant_id, item_id)
    }

    /// Says what a variant is made of.
    pub async fn components(&self, variant_id: &str, parts: &[(&str, i64)]) {
        let parts: Vec<Value> = parts.iter().map(|(item_id, quantity)| json!({ "item_id": item_id, "quantity": quantity })).collect();
        let made_of = json!({ "variant_id": variant_id, "components": parts });
        self.acme.put("/api/v1/inventory/components").json(&made_of).send().await.expect(200);
    }

    pub async fn receive(&self, item_id: &str, quantity: i64) {
        let line = json!({ "item_id": item_id, "location_id": self.location_id, "kind": "received", "quantity": quantity });
        let changes = json!({ "reference": "delivery", "lines": [line] });
        self.acme.post("/api/v1/inventory/movements").json(&changes).send().await.expect(201);
    }

    /// Buys so many of a variant with a token, and waits so long for the payment.
    pub async fn buy(&self, variant_id: &str, quantity: i64, token: &str, wait_ms: u32) -> TestResponse {
        let body = json!({
            "lines": [{ "variant_id": variant_id, "quantity": quantity }], "currency": "EUR", "email": "ada@example.com",
            "destination": { "country": "NL" }, "payment_token": token, "wait_ms": wait_ms,
        });
        self.acme.post("/api/v1/storefront/checkouts").json(&body).send().await
    }

    /// A checkout as the shop sees it.
    pub async fn checkout(&self, checkout_id: &str) -> Value {
        self.acme.get(format!("/api/v1/checkouts/{checkout_id}")).send().await.expect(200).json
    }

    /// On hand and reserved of an item.
    pub async fn level(&self, item_id: &str) -> (i64, i64) {
        let levels = self.acme.get(format!("/api/v1/inventory/items/{item_id}/levels")).send().await.expect(200).json;
        let level = &levels["data"][0];
        (level["on_hand"].as_i64().expect("a quantity"), level["reserved"].as_i64().expect("a quantity"))
    }

    /// Moves both clocks on.
    pub async fn later(&self, ms: i64) {
        self.psp_clock.advance_ms(ms);
        self.app.advance_ms(ms).await;
    }

    /// Moves both clocks on at once: what was due on the way is late. Much faster than [`World::later`] where it is days.
    pub async fn leap(&self, ms: i64) {
        self.psp_clock.advance_ms(ms);
        self.app.clock().advance_ms(ms);
        self.app.drained().await;
    }

    /// Moves the provider's clock on, and not ours.
    pub fn later_there(&self, ms: i64) {
        self.psp_clock.advance_ms(ms);
    }

    /// Sets how checkouts work from now on.
    pub async fn configure(&self, capture: &str, hold_minutes: i64) {
        let settings = json!({ "capture": capture, "hold_minutes": hold_minutes, "shipping_required": false });
        self.acme.put("/api/v1/checkout-settings").json(&settings).send().await.expect(200);
    }

    pub fn charges(&self) -> Vec<Charge> {
        self.sandbox.books()
    }
}
