//! The HTTP API: `/v1/charges` and what is done to them, the challenge page, the books and the settlement files.

use crate::books::{Answer, Ask, Charge, Refusal, refusal};
use crate::server::{Ended, Sandbox};
use crate::settlement;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use kernel::{Currency, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::time::Duration;

const MAX_BODY: usize = 16 * 1024;
const MAX_TEXT: usize = 255;
/// 10^12 minor units are more than any card bears.
const MAX_AMOUNT: i64 = 1_000_000_000_000;
const MAX_PAGE: usize = 1_000;

pub(crate) fn router(sandbox: Sandbox) -> Router {
    let keyed = Router::new()
        .route("/v1/charges", post(create).get(list))
        .route("/v1/charges/{id}", get(show))
        .route("/v1/charges/{id}/captures", post(capture))
        .route("/v1/charges/{id}/void", post(void))
        .route("/v1/charges/{id}/refunds", post(refund))
        .route("/v1/charges/{id}/dispute", post(dispute))
        .route("/v1/charges/{id}/dispute/close", post(decide))
        .route("/books", get(books))
        .route("/settlements/{file}", get(settlement))
        .route_layer(middleware::from_fn_with_state(sandbox.clone(), authorise));
    keyed
        .route("/challenge/{id}", get(challenge_page).post(challenge))
        .route("/health", get(async || "ok\n"))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(sandbox.clone(), bound))
        .with_state(sandbox)
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(json!({ "error": { "code": self.code, "message": self.detail } }))).into_response()
    }
}

type Answered = Result<Response, Refusal>;

/// At most so many requests at once.
async fn bound(State(sandbox): State<Sandbox>, request: Request, next: Next) -> Response {
    match sandbox.0.room.try_acquire() {
        Ok(_place) => next.run(request).await,
        Err(_) => refusal(503, "busy", "too many requests at once").into_response(),
    }
}

async fn authorise(State(sandbox): State<Sandbox>, request: Request, next: Next) -> Response {
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    match shown.and_then(|value| value.strip_prefix("Bearer ")) {
        Some(key) if key == sandbox.0.config.api_key => next.run(request).await,
        _ => refusal(401, "unauthorized", "show the API key as a bearer token").into_response(),
    }
}

fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| refusal(400, "invalid_request", error.to_string()))
}

fn key(headers: &HeaderMap) -> Result<String, Refusal> {
    let key = headers.get("idempotency-key").and_then(|value| value.to_str().ok()).filter(|key| (1..=MAX_TEXT).contains(&key.len()));
    key.map(str::to_owned).ok_or_else(|| refusal(400, "idempotency_key_required", "send an Idempotency-Key of 1 to 255 characters"))
}

fn checked(amount_minor: i64, texts: &[&str]) -> Result<(), Refusal> {
    if !(1..=MAX_AMOUNT).contains(&amount_minor) {
        return Err(refusal(400, "invalid_amount", format!("an amount is between 1 and {MAX_AMOUNT} minor units")));
    }
    if texts.iter().any(|text| !(1..=MAX_TEXT).contains(&text.len())) {
        return Err(refusal(400, "invalid_request", "a text has 1 to 255 characters"));
    }
    Ok(())
}

/// Waits as long as the caller is meant to.
async fn hang(sandbox: &Sandbox) -> Answered {
    tokio::time::sleep(Duration::from_millis(sandbox.0.config.hang_ms)).await;
    Err(refusal(504, "timeout", "no answer"))
}

async fn answered(sandbox: &Sandbox, key: String, ask: Ask) -> Answered {
    match sandbox.work(key, ask).await {
        Ended::Answer(answer) => Ok((StatusCode::CREATED, Json((*answer)?)).into_response()),
        Ended::Failed(status) => Err(refusal(status, "internal_error", "something went wrong")),
        Ended::Hang => hang(sandbox).await,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewCharge {
    reference: String,
    token: String,
    amount_minor: i64,
    currency: Currency,
    #[serde(default)]
    capture: bool,
}

async fn create(State(sandbox): State<Sandbox>, headers: HeaderMap, body: Bytes) -> Answered {
    let new: NewCharge = read(&body)?;
    checked(new.amount_minor, &[&new.reference, &new.token])?;
    let NewCharge { reference, token, amount_minor, currency, capture } = new;
    answered(&sandbox, key(&headers)?, Ask::Create { reference, token, amount_minor, currency, capture }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewCapture {
    reference: String,
    amount_minor: i64,
    #[serde(default)]
    last: bool,
}

async fn capture(State(sandbox): State<Sandbox>, Path(charge): Path<String>, headers: HeaderMap, body: Bytes) -> Answered {
    let NewCapture { reference, amount_minor, last } = read(&body)?;
    checked(amount_minor, &[&reference])?;
    answered(&sandbox, key(&headers)?, Ask::Capture { charge, reference, amount_minor, last }).await
}

async fn void(State(sandbox): State<Sandbox>, Path(charge): Path<String>, headers: HeaderMap) -> Answered {
    answered(&sandbox, key(&headers)?, Ask::Void { charge }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewRefund {
    reference: String,
    amount_minor: i64,
}

async fn refund(State(sandbox): State<Sandbox>, Path(charge): Path<String>, headers: HeaderMap, body: Bytes) -> Answered {
    let NewRefund { reference, amount_minor } = read(&body)?;
    checked(amount_minor, &[&reference])?;
    answered(&sandbox, key(&headers)?, Ask::Refund { charge, reference, amount_minor }).await
}

async fn show(State(sandbox): State<Sandbox>, Path(id): Path<String>) -> Answered {
    let now = sandbox.0.clock.now();
    let unknown = || refusal(404, "charge_not_found", "there is no such charge");
    let charge = sandbox.look(|books| books.get(&id, now).cloned()).ok_or_else(unknown)?;
    match sandbox.shown(&charge) {
        Ok(charge) => Ok(Json(charge.ok_or_else(unknown)?).into_response()),
        Err(()) => hang(&sandbox).await,
    }
}

#[derive(Deserialize)]
struct Listing {
    reference: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

async fn list(State(sandbox): State<Sandbox>, Query(listing): Query<Listing>) -> Answered {
    let limit = listing.limit.unwrap_or(100).clamp(1, MAX_PAGE);
    let after = listing.after.as_deref().and_then(crate::books::number).unwrap_or(0);
    let found: Vec<Charge> = sandbox.look(|books| match &listing.reference {
        Some(reference) => books.by_reference(reference).into_iter().take(limit).cloned().collect(),
        None => books.charges.range(after + 1..).take(limit).map(|(_, charge)| charge.clone()).collect(),
    });
    let mut data = Vec::with_capacity(found.len());
    for charge in &found {
        match sandbox.shown(charge) {
            Ok(shown) => data.extend(shown),
            Err(()) => return hang(&sandbox).await,
        }
    }
    Ok(Json(json!({ "data": data })).into_response())
}

async fn dispute(State(sandbox): State<Sandbox>, Path(id): Path<String>) -> Answered {
    Ok(Json(sandbox.dispute(&id).await?).into_response())
}

/// The bank's word on a dispute.
async fn decide(State(sandbox): State<Sandbox>, Path(id): Path<String>, body: Bytes) -> Answered {
    let won = match read::<Word>(&body)?.outcome.as_str() {
        "won" => true,
        "lost" => false,
        _ => return Err(refusal(400, "invalid_request", "an outcome is won or lost")),
    };
    Ok(Json(sandbox.decide(&id, won).await?).into_response())
}

#[derive(Deserialize)]
struct Word {
    outcome: String,
}

/// What the customer's browser sends: a form, or JSON.
async fn challenge(State(sandbox): State<Sandbox>, Path(id): Path<String>, body: Bytes) -> Answered {
    let passed = match &body[..] {
        b"outcome=pass" => true,
        b"outcome=fail" => false,
        _ => read::<Word>(&body)?.outcome == "pass",
    };
    let charge: Answer = sandbox.challenge(&id, passed).await;
    Ok(Json(json!({ "status": charge?.status })).into_response())
}

async fn challenge_page(State(sandbox): State<Sandbox>, Path(id): Path<String>) -> Answered {
    let now = sandbox.0.clock.now();
    let known = sandbox.look(|books| books.get(&id, now).map(|charge| (charge.amount_minor, charge.currency)));
    let (amount_minor, currency) = known.ok_or_else(|| refusal(404, "charge_not_found", "there is no such charge"))?;
    let amount = kernel::Money::new(amount_minor, currency);
    let page = format!(
        "<!doctype html><meta charset=utf-8><title>Confirm</title><h1>Confirm a payment of {amount}</h1>\
         <form method=post><button name=outcome value=pass>Confirm</button> <button name=outcome value=fail>Refuse</button></form>"
    );
    Ok(Html(page).into_response())
}

/// Everything, for comparison with the books of the other side.
async fn books(State(sandbox): State<Sandbox>) -> Response {
    Json(json!({ "charges": sandbox.books(), "dropped_callbacks": sandbox.dropped_callbacks() })).into_response()
}

async fn settlement(State(sandbox): State<Sandbox>, Path(file): Path<String>) -> Answered {
    let date = file.strip_suffix(".csv").unwrap_or(&file);
    let day: Timestamp =
        format!("{date}T00:00:00Z").parse().map_err(|_| refusal(404, "no_such_day", "name a day such as 2026-01-31.csv"))?;
    let csv =
        sandbox.look(|books| settlement::file(books, day.day())).map_err(|error| refusal(500, "internal_error", error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "text/csv")], csv).into_response())
}
