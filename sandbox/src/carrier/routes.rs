//! The carrier's HTTP API: `/v1/labels`, their documents, `/v1/parcels`, and the books.

use super::{Ask, Carrier, Ended, Label, Order, Refusal, ScanStatus, number, refusal};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;

const MAX_BODY: usize = 64 * 1024;
const MAX_TEXT: usize = 255;
const MAX_PARCELS: usize = 50;

pub(super) fn router(carrier: Carrier) -> Router {
    let keyed = Router::new()
        .route("/v1/labels", post(buy).get(list))
        .route("/v1/labels/{id}", get(show))
        .route("/v1/labels/{id}/{document}", get(document))
        .route("/v1/labels/{id}/void", post(void))
        .route("/v1/parcels/{number}", get(parcel))
        .route("/v1/parcels/{number}/scans", post(scan))
        .route("/v1/parcels/{number}/travel", post(travel))
        .route("/books", get(books))
        .route_layer(middleware::from_fn_with_state(carrier.clone(), authorise));
    keyed
        .route("/health", get(async || "ok\n"))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(carrier.clone(), bound))
        .with_state(carrier)
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(json!({ "error": { "code": self.code, "message": self.detail } }))).into_response()
    }
}

type Answered = Result<Response, Refusal>;

/// At most so many requests at once.
async fn bound(State(carrier): State<Carrier>, request: Request, next: Next) -> Response {
    match carrier.0.room.try_acquire() {
        Ok(_place) => next.run(request).await,
        Err(_) => refusal(503, "busy", "too many requests at once").into_response(),
    }
}

async fn authorise(State(carrier): State<Carrier>, request: Request, next: Next) -> Response {
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    match shown.and_then(|value| value.strip_prefix("Bearer ")) {
        Some(key) if key == carrier.0.config.api_key => next.run(request).await,
        _ => refusal(401, "unauthorized", "show the API key as a bearer token").into_response(),
    }
}

fn key(headers: &HeaderMap) -> Result<String, Refusal> {
    let key = headers.get("idempotency-key").and_then(|value| value.to_str().ok()).filter(|key| (1..=MAX_TEXT).contains(&key.len()));
    key.map(str::to_owned).ok_or_else(|| refusal(400, "idempotency_key_required", "send an Idempotency-Key of 1 to 255 characters"))
}

/// Waits as long as the caller is meant to.
async fn hang(carrier: &Carrier) -> Answered {
    tokio::time::sleep(Duration::from_millis(carrier.0.config.hang_ms)).await;
    Err(refusal(504, "timeout", "no answer"))
}

async fn answered(carrier: &Carrier, key: String, ask: Ask) -> Answered {
    match carrier.work(key, ask).await {
        Ended::Answer(answer) => Ok((StatusCode::CREATED, Json((*answer)?)).into_response()),
        Ended::Failed(status) => Err(refusal(status, "internal_error", "something went wrong")),
        Ended::Hang => hang(carrier).await,
    }
}

async fn buy(State(carrier): State<Carrier>, headers: HeaderMap, body: Bytes) -> Answered {
    let order: Order = serde_json::from_slice(&body).map_err(|error| refusal(400, "invalid_request", error.to_string()))?;
    let texts = [&order.reference, &order.service, &order.to.recipient];
    if texts.iter().any(|text| !(1..=MAX_TEXT).contains(&text.len())) || order.to.postal_code.len() > MAX_TEXT {
        return Err(refusal(400, "invalid_request", "a text has 1 to 255 characters"));
    }
    if !(1..=MAX_PARCELS).contains(&order.parcels.len()) || order.parcels.iter().any(|parcel| !(0..=100_000_000).contains(&parcel.weight_g))
    {
        return Err(refusal(400, "invalid_request", "1 to 50 parcels of a weight that there is"));
    }
    answered(&carrier, key(&headers)?, Ask::Buy(order)).await
}

async fn void(State(carrier): State<Carrier>, Path(id): Path<String>, headers: HeaderMap) -> Answered {
    answered(&carrier, key(&headers)?, Ask::Void(id)).await
}

#[derive(Deserialize)]
struct Listing {
    reference: String,
}

/// The labels of a reference, as far as queries say the truth.
async fn list(State(carrier): State<Carrier>, Query(listing): Query<Listing>) -> Answered {
    let found: Vec<Label> = {
        let state = carrier.lock();
        let numbers = state.by_reference.get(&listing.reference).into_iter().flatten().take(100);
        numbers.filter_map(|number| state.labels.get(number)).cloned().collect()
    };
    let mut data = Vec::with_capacity(found.len());
    for label in found {
        match carrier.shown(label) {
            Ok(shown) => data.extend(shown),
            Err(()) => return hang(&carrier).await,
        }
    }
    Ok(Json(json!({ "data": data })).into_response())
}

fn known(carrier: &Carrier, id: &str) -> Result<Label, Refusal> {
    let label = number(id).and_then(|number| carrier.lock().labels.get(&number).cloned());
    label.ok_or_else(|| refusal(404, "label_not_found", "there is no such label"))
}

async fn show(State(carrier): State<Carrier>, Path(id): Path<String>) -> Answered {
    let label = known(&carrier, &id)?;
    match carrier.shown(label) {
        Ok(Some(label)) => Ok(Json(label).into_response()),
        Ok(None) => Err(refusal(404, "label_not_found", "there is no such label")),
        Err(()) => hang(&carrier).await,
    }
}

/// A label to print: PDF, or ZPL for label printers.
async fn document(State(carrier): State<Carrier>, Path((id, document)): Path<(String, String)>) -> Answered {
    let label = known(&carrier, &id)?;
    let none = || refusal(404, "document_not_found", "there is no such document");
    let (place, form) = document.split_once('.').ok_or_else(none)?;
    let place: usize = place.parse().map_err(|_| none())?;
    let parcel = place.checked_sub(1).and_then(|place| label.parcels.get(place)).ok_or_else(none)?;
    let plain = |text: &str| text.chars().filter(|c| c.is_ascii_alphanumeric() || *c == ' ').collect::<String>();
    let (to, number) = (plain(&label.recipient), &parcel.tracking_number);
    match form {
        "pdf" => Ok(([(header::CONTENT_TYPE, "application/pdf")], pdf(&to, number)).into_response()),
        "zpl" => {
            Ok(([(header::CONTENT_TYPE, "application/zpl")], format!("^XA^FO50,50^A0N,40^FD{to}^FS^FO50,120^BCN,100^FD{number}^FS^XZ"))
                .into_response())
        }
        _ => Err(none()),
    }
}

/// The least document that is one: a page with two lines of text.
fn pdf(to: &str, number: &str) -> Vec<u8> {
    let page = format!("BT /F1 14 Tf 20 150 Td ({to}) Tj 0 -40 Td ({number}) Tj ET");
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 288 200] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>".to_owned(),
        format!("<< /Length {} >>\nstream\n{page}\nendstream", page.len()),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>".to_owned(),
    ];
    let mut text = "%PDF-1.4\n".to_owned();
    let mut places = Vec::new();
    for (number, object) in (1..).zip(&objects) {
        places.push(text.len());
        text.push_str(&format!("{number} 0 obj\n{object}\nendobj\n"));
    }
    let begin = text.len();
    text.push_str(&format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1));
    for place in places {
        text.push_str(&format!("{place:010} 00000 n \n"));
    }
    text.push_str(&format!("trailer\n<< /Size {} /Root 1 0 R >>\nstartxref\n{begin}\n%%EOF\n", objects.len() + 1));
    text.into_bytes()
}

fn no_parcel() -> Refusal {
    refusal(404, "parcel_not_found", "there is no such parcel")
}

async fn parcel(State(carrier): State<Carrier>, Path(tracking_number): Path<String>) -> Answered {
    let state = carrier.lock();
    let (label, place) = *state.parcels.get(&tracking_number).ok_or_else(no_parcel)?;
    let parcel = state.labels.get(&label).and_then(|label| label.parcels.get(place)).ok_or_else(no_parcel)?;
    Ok(Json(parcel).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    status: ScanStatus,
    #[serde(default)]
    place: String,
}

async fn scan(State(carrier): State<Carrier>, Path(tracking_number): Path<String>, body: Bytes) -> Answered {
    let Seen { status, place } = serde_json::from_slice(&body).map_err(|error| refusal(400, "invalid_request", error.to_string()))?;
    let place: String = place.chars().take(MAX_TEXT).collect();
    let scan = carrier.scan(&tracking_number, status, &place).ok_or_else(no_parcel)?;
    Ok((StatusCode::CREATED, Json(scan)).into_response())
}

async fn travel(State(carrier): State<Carrier>, Path(tracking_number): Path<String>) -> Answered {
    let ended = carrier.travel(&tracking_number).ok_or_else(no_parcel)?;
    Ok(Json(json!({ "status": ended })).into_response())
}

/// Everything, for comparison with the other side.
async fn books(State(carrier): State<Carrier>) -> Response {
    Json(json!({ "labels": carrier.books() })).into_response()
}
