//! The API of `brandos sandbox-psp`.

use super::{Adapter, Callback, Charge, ChargeStatus, Found, Movement, Order, Told, forged, malformed, out_of_time};
use bytes::Bytes;
use client::{Failure, Method, Request, Response, webhook};
use kernel::{Result, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Wire {
    id: String,
    reference: String,
    status: ChargeStatus,
    amount_minor: i64,
    captured_minor: i64,
    refunded_minor: i64,
    open: bool,
    dispute: Option<WireDispute>,
    decline: Option<WireDecline>,
    action_url: Option<String>,
    captures: Vec<Movement>,
    refunds: Vec<Movement>,
}

#[derive(Deserialize)]
struct WireDispute {
    /// `open`, `won` or `lost`.
    state: String,
    amount_minor: i64,
}

#[derive(Deserialize)]
struct WireDecline {
    soft: bool,
    code: String,
}

#[derive(Deserialize)]
struct List {
    data: Vec<Wire>,
}

#[derive(Deserialize)]
struct Refusal {
    error: RefusalCode,
}

#[derive(Deserialize)]
struct RefusalCode {
    code: String,
}

fn charge(wire: Wire) -> Box<Charge> {
    let dispute = |state: &str| wire.dispute.as_ref().filter(|dispute| dispute.state == state);
    Box::new(Charge {
        id: wire.id,
        reference: wire.reference,
        status: wire.status,
        amount_minor: wire.amount_minor,
        action_url: wire.action_url,
        decline: wire.decline.map(|decline| (decline.code, decline.soft)),
        captured_minor: wire.captured_minor,
        refunded_minor: wire.refunded_minor,
        open: wire.open,
        disputed: dispute("open").is_some(),
        dispute_won: dispute("won").is_some(),
        lost_minor: dispute("lost").map_or(0, |dispute| dispute.amount_minor),
        captures: wire.captures,
        refunds: wire.refunds,
        failed_refunds: Vec::new(),
    })
}

async fn send(
    adapter: &Adapter,
    method: Method,
    path: &str,
    key: Option<&str>,
    body: Option<Value>,
) -> std::result::Result<Response, Failure> {
    let mut headers = vec![("authorization", format!("Bearer {}", adapter.secrets.api_key))];
    if let Some(key) = key {
        headers.push(("idempotency-key", key.to_owned()));
    }
    let body = body.map(|body| {
        headers.push(("content-type", "application/json".to_owned()));
        Bytes::from(body.to_string())
    });
    let url = format!("{}{path}", adapter.base_url);
    adapter.send(Request { method, url, headers, body: body.unwrap_or_default() }).await
}

fn read<T: DeserializeOwned>(response: &Response) -> std::result::Result<T, String> {
    serde_json::from_slice(&response.body).map_err(|error| format!("an answer of another form: {error}"))
}

pub(super) async fn perform(adapter: &Adapter, order: &Order) -> Told {
    let (path, body) = match order {
        Order::Authorize { reference, token, amount_minor, currency } => (
            "/v1/charges".to_owned(),
            Some(json!({ "reference": reference, "token": token, "amount_minor": amount_minor, "currency": currency })),
        ),
        Order::Capture { charge, reference, amount_minor, last, .. } => {
            (format!("/v1/charges/{charge}/captures"), Some(json!({ "reference": reference, "amount_minor": amount_minor, "last": last })))
        }
        Order::Void { charge, .. } => (format!("/v1/charges/{charge}/void"), None),
        Order::Refund { charge, reference, amount_minor, .. } => {
            (format!("/v1/charges/{charge}/refunds"), Some(json!({ "reference": reference, "amount_minor": amount_minor })))
        }
    };
    let response = match send(adapter, Method::POST, &path, Some(order.reference()), body).await {
        Ok(response) => response,
        Err(Failure::Busy(why)) => return Told::NotAsked { why },
        Err(Failure::NotSent(why)) => return Told::Outage { why },
        Err(Failure::Unanswered(why)) => return Told::Unknown { why },
    };
    match response.status {
        200 | 201 => match read(&response) {
            Ok(wire) => Told::Charge { charge: charge(wire) },
            Err(why) => Told::Unknown { why },
        },
        // The key is still worked on, by a request of ours that we gave up.
        409 if refusal(&response) == "idempotency_in_progress" => Told::Unknown { why: "still being worked on".to_owned() },
        401 | 403 | 429 | 503 => Told::Outage { why: format!("status {}", response.status) },
        400..=499 => Told::Refused { code: refusal(&response) },
        status => Told::Unknown { why: format!("status {status}") },
    }
}

fn refusal(response: &Response) -> String {
    read::<Refusal>(response).map_or_else(|_| format!("status_{}", response.status), |refusal| refusal.error.code)
}

pub(super) async fn find(adapter: &Adapter, reference: &str) -> Found {
    let path = format!("/v1/charges?reference={reference}");
    match send(adapter, Method::GET, &path, None, None).await {
        Ok(response) if response.status == 200 => match read::<List>(&response) {
            Ok(list) => list.data.into_iter().next().map_or(Found::Absent, |wire| Found::Charge(charge(wire))),
            Err(why) => Found::Unknown(why),
        },
        Ok(response) => Found::Unknown(format!("status {}", response.status)),
        Err(failure) => Found::Unknown(failure.to_string()),
    }
}

pub(super) async fn retrieve(adapter: &Adapter, id: &str) -> Found {
    match send(adapter, Method::GET, &format!("/v1/charges/{id}"), None, None).await {
        Ok(response) if response.status == 200 => match read(&response) {
            Ok(wire) => Found::Charge(charge(wire)),
            Err(why) => Found::Unknown(why),
        },
        Ok(response) if response.status == 404 => Found::Absent,
        Ok(response) => Found::Unknown(format!("status {}", response.status)),
        Err(failure) => Found::Unknown(failure.to_string()),
    }
}

#[derive(Deserialize)]
struct Event {
    id: String,
    data: EventCharge,
}

#[derive(Deserialize)]
struct EventCharge {
    id: String,
}

pub(super) fn callback(adapter: &Adapter, header: &dyn Fn(&str) -> String, body: &[u8], now: Timestamp) -> Result<Option<Callback>> {
    let secrets: Vec<webhook::Secret> = adapter.secrets.webhook_secrets.iter().filter_map(|secret| secret.parse().ok()).collect();
    let id = header(webhook::ID);
    webhook::verify(&secrets, &id, &header(webhook::TIMESTAMP), &header(webhook::SIGNATURE), body, now).map_err(|doubt| match doubt {
        webhook::Doubt::Malformed => malformed(),
        webhook::Doubt::OutOfTime => out_of_time(),
        webhook::Doubt::Forged => forged(),
    })?;
    let event: Event = serde_json::from_slice(body).map_err(|_| malformed())?;
    if event.id != id {
        return Err(malformed());
    }
    Ok(Some(Callback { event_id: event.id, charge: event.data.id }))
}
