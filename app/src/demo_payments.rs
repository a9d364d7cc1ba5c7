//! How the demo's orders are paid: a payment provider of our own beside the demo, and customers who pay, are declined, get money back or
//! contest.

use crate::demo::{Shopper, text};
use crate::demo_catalog::SLUG;
use crate::exit::{Exit, Failure, Outcome};
use crate::wiring::Node;
use bytes::Bytes;
use client::{Client, ClientConfig, Method, Request, webhook};
use sandbox::{Sandbox, SandboxConfig};
use serde_json::{Value, json};
use std::collections::VecDeque;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use traffic::resilience::{Policy, PolicyConfig};

/// The file in the data folder that holds the provider's books.
const BOOKS: &str = "demo-provider.db";
/// The provider's name in the brand's payments.
const NAME: &str = "Demo provider";
/// A payment is looked at again after so many further orders.
const LATER: usize = 5;
/// Of a hundred payments so many are contested, given back, or given back in part.
const DISPUTED: u64 = 4;
const REFUNDED: u64 = 8;
const PARTLY_REFUNDED: u64 = 8;

/// A payment provider on a port of loopback.
#[derive(Clone)]
pub(crate) struct DemoProvider {
    pub(crate) url: String,
    api_key: String,
    sandbox: Sandbox,
}

/// The provider's server, which ends with the demo.
pub(crate) struct Serving {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// Takes a port of loopback, and says the URL. Errors: `cli.port_taken`.
pub(crate) async fn listen() -> Outcome<(TcpListener, String)> {
    let taken = |error| Failure::new(Exit::Unavailable, "cli.port_taken", format!("no free port on 127.0.0.1: {error}"));
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(taken)?;
    let url = format!("http://{}", listener.local_addr().map_err(taken)?);
    Ok((listener, url))
}

impl DemoProvider {
    /// Opens its books beside the demo's data, and serves. Errors: `sandbox.disk`.
    pub(crate) fn serve((listener, url): (TcpListener, String), node: &Node) -> Outcome<(DemoProvider, Serving)> {
        std::fs::create_dir_all(&node.config.data).map_err(|e| Failure::file("cannot make", &node.config.data, &e))?;
        let api_key = format!("sk_{}", crate::admin::made_password(&*node.rng));
        let config = SandboxConfig {
            api_key: api_key.clone(),
            public_url: url.clone(),
            data: Some(node.config.data.join(BOOKS)),
            ..SandboxConfig::default()
        };
        let sandbox = Sandbox::open(config, node.clock.clone())?;
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = sandbox::serve(sandbox.clone(), listener, async move { drop(stopped.await) });
        let task = tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the demo's payment provider has ended");
            }
        });
        Ok((DemoProvider { url, api_key, sandbox }, Serving { stop, task }))
    }

    /// The customer contests a charge, at the provider.
    async fn dispute(&self, client: &Client, charge: &str) -> Result<(), String> {
        let headers = vec![("authorization", format!("Bearer {}", self.api_key))];
        let url = format!("{}/v1/charges/{charge}/dispute", self.url);
        let answer = client.send(Request { method: Method::POST, url, headers, body: Bytes::new() }).await;
        answer.map(|_| ()).map_err(|failure| failure.to_string())
    }
}

impl Serving {
    /// Ends it, once the demo asks the provider for nothing more.
    pub(crate) async fn stop(self) {
        drop(self.stop);
        // It ends within its grace period.
        let _ = self.task.await;
    }
}

/// Where the demo's customers pay.
pub(crate) struct Checkout {
    provider: Option<(DemoProvider, Client)>,
    /// Payments that something may still happen to.
    recent: VecDeque<String>,
}

impl Checkout {
    /// Nobody can pay.
    pub(crate) fn closed() -> Checkout {
        Checkout { provider: None, recent: VecDeque::new() }
    }

    /// Makes the provider known to the brand, or tells the brand where it is now, and sends its callbacks there.
    pub(crate) async fn open(shop: &Shopper, provider: DemoProvider) -> Result<Checkout, String> {
        let policy = Policy::alone("demo", PolicyConfig::default(), shop.rng.clone());
        let client = Client::new(ClientConfig::default(), policy).map_err(|error| error.to_string())?;
        let mut bytes = [0; 32];
        shop.rng.fill(&mut bytes);
        let secret = webhook::secret_text(&bytes);
        let known = shop.send("GET", "/api/v1/payments/providers", None, Bytes::new()).await?.1;
        let known = known["data"].as_array().and_then(|all| all.iter().find(|one| one["name"] == NAME)).cloned();
        let mut body = json!({ "base_url": provider.url, "api_key": provider.api_key, "webhook_secrets": [secret] });
        let id = match known {
            Some(known) => {
                let path = format!("/api/v1/payments/providers/{}", text(&known, "provider_id")?);
                shop.send("PATCH", &path, None, Bytes::from(body.to_string())).await?;
                text(&known, "provider_id")?
            }
            None => {
                body["name"] = json!(NAME);
                body["kind"] = json!("sandbox");
                text(&shop.send("POST", "/api/v1/payments/providers", None, Bytes::from(body.to_string())).await?.1, "provider_id")?
            }
        };
        let callbacks = format!("{}/api/v1/tenants/{SLUG}/payments/callbacks/{id}", shop.url);
        provider.sandbox.call_back(&callbacks, &secret).map_err(|error| error.to_string())?;
        Ok(Checkout { provider: Some((provider, client)), recent: VecDeque::new() })
    }

    /// The order's customer pays; some while later some of them want their money back.
    pub(crate) async fn pay(&mut self, shop: &Shopper, order: &Value) -> Result<(), String> {
        if self.provider.is_none() || order["total_minor"].as_i64().is_none_or(|total| total <= 0) {
            return Ok(());
        }
        let order_id = text(order, "order_id")?;
        let (token, capture) = match shop.rng.below(20) {
            0 => ("tok_soft_decline", "automatic"),
            1 => ("tok_hard_decline", "automatic"),
            // What can go wrong between us and the provider, and is found out by asking.
            2 => ("tok_approve+create:error_after+capture:error_after", "automatic"),
            3 => ("tok_approve", "manual"),
            _ => ("tok_approve", "automatic"),
        };
        let body = json!({
            "amount_minor": order["total_minor"], "currency": order["currency"], "token": token, "capture": capture,
            "order_id": order_id, "confirm": true, "wait_ms": 0,
        });
        let payment = shop.post("/api/v1/payments/intents", &format!("demo-pay-{order_id}"), &body).await?;
        self.recent.push_back(text(&payment, "intent_id")?);
        if self.recent.len() > LATER
            && let Some(earlier) = self.recent.pop_front()
        {
            self.look_again(shop, &earlier).await?;
        }
        Ok(())
    }

    async fn look_again(&self, shop: &Shopper, intent_id: &str) -> Result<(), String> {
        let Some((provider, client)) = &self.provider else { return Ok(()) };
        let path = format!("/api/v1/payments/intents/{intent_id}");
        let payment = shop.send("GET", &path, None, Bytes::new()).await?.1;
        let amount_minor = payment["amount_minor"].as_i64().unwrap_or_default();
        if payment["state"] == "authorized" && payment["capture"] == "manual" {
            // The goods go out now, and so the money is taken.
            shop.post(&format!("{path}/capture"), &format!("demo-capture-{intent_id}"), &json!({ "wait_ms": 0 })).await?;
        }
        if payment["state"] != "captured" {
            return Ok(());
        }
        let chosen = shop.rng.below(100);
        let refund = |body: Value| async move { shop.post(&format!("{path}/refund"), &format!("demo-refund-{intent_id}"), &body).await };
        if chosen < DISPUTED {
            return provider.dispute(client, &text(&payment, "provider_charge")?).await;
        }
        if chosen < DISPUTED + REFUNDED {
            refund(json!({ "wait_ms": 0, "reason": "sent back" })).await?;
        } else if chosen < DISPUTED + REFUNDED + PARTLY_REFUNDED && amount_minor > 1 {
            refund(json!({ "wait_ms": 0, "amount_minor": amount_minor / 2, "reason": "arrived damaged" })).await?;
        }
        Ok(())
    }
}
