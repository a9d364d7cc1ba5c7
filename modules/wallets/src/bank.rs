//! A bank behind a few lines of HTTP, for whoever puts a service of its own between BrandOS and its bank.
//!
//! `POST {base}/payouts` with the order as JSON, its reference as `Idempotency-Key` too; `GET {base}/payouts/{reference}` to ask. Both answer
//! 2xx with `{"status": "done", "bank_ref": "..."}`, `{"status": "refused", "reason": "..."}` or `{"status": "pending"}`; asked for what it
//! never saw, 404 with `{"status": "unknown_reference"}`, and then it must not do it later either, unless it is sent again. Any other
//! answer leaves the outcome unknown, also a 404 without those words: a gateway may say that while the service is away.

use crate::service::{Bank, PayoutOrder};
use client::{Client, ClientConfig, Failure, Method, Request, Response};
use futures_util::future::BoxFuture;
use kernel::Result;
use serde::Deserialize;
use serde_json::json;
use traffic::resilience::{Policies, PolicyConfig};
use workflow::Outcome;

/// A bank at an address.
#[derive(Clone)]
pub struct HttpBank {
    client: Client,
    base_url: String,
    token: String,
}

#[derive(Deserialize)]
struct Said {
    status: String,
    #[serde(default)]
    bank_ref: String,
    #[serde(default)]
    reason: String,
}

fn heard(answer: &Response) -> Outcome {
    let said = (200..300).contains(&answer.status).then(|| serde_json::from_slice::<Said>(&answer.body).ok()).flatten();
    match said {
        Some(said) if said.status == "done" => Outcome::Done(json!(said.bank_ref)),
        Some(said) if said.status == "refused" => Outcome::Refused(said.reason),
        Some(said) if said.status == "pending" => Outcome::Unknown("the bank is still at it".to_owned()),
        _ => Outcome::Unknown(format!("the bank answered {}", answer.status)),
    }
}

/// Whether it was the bank itself that has not found it.
fn never_seen(answer: &Response) -> bool {
    answer.status == 404 && serde_json::from_slice::<Said>(&answer.body).is_ok_and(|said| said.status == "unknown_reference")
}

impl HttpBank {
    /// At `base_url`, with a bearer token. Errors: `internal` when TLS can't be set up.
    pub fn new(base_url: &str, token: &str, policies: &Policies) -> Result<HttpBank> {
        // The saga that pays out knows itself when to ask again.
        let usual = PolicyConfig { timeout_ms: ClientConfig::default().timeout_ms + 100, attempts: 1, ..PolicyConfig::default() };
        let client = Client::new(ClientConfig::default(), policies.of_kind("wallets.bank", "wallets", usual))?;
        Ok(HttpBank { client, base_url: base_url.trim_end_matches('/').to_owned(), token: token.to_owned() })
    }

    fn request(&self, method: Method, path: &str, order: Option<&PayoutOrder>) -> Request {
        let mut headers = vec![("authorization", format!("Bearer {}", self.token))];
        if let Some(order) = order {
            headers.extend([("content-type", "application/json".to_owned()), ("idempotency-key", order.reference.clone())]);
        }
        let body = order.map(|order| json!(order).to_string()).unwrap_or_default();
        Request { method, url: format!("{}{path}", self.base_url), headers, body: body.into() }
    }
}

impl Bank for HttpBank {
    fn pay(&self, order: PayoutOrder) -> BoxFuture<'static, Outcome> {
        let (client, request) = (self.client.clone(), self.request(Method::POST, "/payouts", Some(&order)));
        Box::pin(async move {
            match client.send(request).await {
                Ok(answer) => heard(&answer),
                Err(Failure::Busy(why) | Failure::NotSent(why)) => Outcome::NotDone(why),
                Err(Failure::Unanswered(why)) => Outcome::Unknown(why),
            }
        })
    }

    fn ask(&self, order: PayoutOrder) -> BoxFuture<'static, Outcome> {
        let (client, request) = (self.client.clone(), self.request(Method::GET, &format!("/payouts/{}", order.reference), None));
        Box::pin(async move {
            match client.send(request).await {
                Ok(answer) if never_seen(&answer) => Outcome::NotDone("the bank has never seen it".to_owned()),
                Ok(answer) => heard(&answer),
                Err(failure) => Outcome::Unknown(failure.to_string()),
            }
        })
    }
}
