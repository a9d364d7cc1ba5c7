//! What is asked of a carrier and what its answers mean: the API of `brandos sandbox-carrier`. Another carrier's API is another arm of the
//! matches on [`CarrierKind`].

use crate::carriers::model::{CarrierKind, Purchase};
use crate::shipments::commands::Told;
use crate::shipments::model::{Address, Parcel, Tracked};
use bytes::Bytes;
use client::{Client, Failure, Method, Request, Response, webhook};
use kernel::{Currency, Error, Result, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fmt;
use workflow::Outcome;

/// The largest document of a label, in bytes.
pub(crate) const MAX_DOCUMENT: usize = 1024 * 1024;
/// The most that one look at a parcel takes in.
const MAX_SCANS: usize = 500;

/// A carrier's secrets, opened. Never shown.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Secrets {
    pub api_key: String,
    /// One, or two while they rotate.
    pub webhook_secrets: Vec<String>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets")
    }
}

/// A carrier that can be talked to.
#[derive(Clone)]
pub(crate) struct Adapter {
    pub kind: CarrierKind,
    /// Without a slash at its end.
    pub base_url: String,
    pub secrets: Secrets,
    pub client: Client,
}

/// Labels that are asked for. The reference is chosen before the call, stays the same when it is repeated, and is its idempotency key.
pub(crate) struct Order {
    pub reference: String,
    pub service: String,
    pub destination: Address,
    pub parcels: Vec<Parcel>,
}

/// A label's document.
pub(crate) struct Document {
    /// `application/pdf` or `application/zpl`.
    pub content_type: &'static str,
    pub bytes: Bytes,
}

/// What was told of a parcel.
pub(crate) struct News {
    pub tracking_number: String,
    pub told: Told,
}

#[derive(Deserialize)]
struct WireLabel {
    id: String,
    reference: String,
    status: String,
    price_minor: i64,
    currency: Currency,
    parcels: Vec<WireParcel>,
}

#[derive(Deserialize)]
struct WireParcel {
    tracking_number: String,
    label_url: String,
    scans: Vec<WireScan>,
}

#[derive(Deserialize)]
struct WireScan {
    id: String,
    status: Tracked,
    occurred_at: Timestamp,
    #[serde(default)]
    place: String,
    #[serde(default)]
    detail: String,
}

#[derive(Deserialize)]
struct List {
    data: Vec<WireLabel>,
}

#[derive(Deserialize)]
struct Refusal {
    error: RefusalCode,
}

#[derive(Deserialize)]
struct RefusalCode {
    code: String,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct Scanned {
    id: String,
    data: ScannedParcel,
}

#[derive(Deserialize)]
struct ScannedParcel {
    tracking_number: String,
    scan: WireScan,
}

fn short(text: &str, most: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(most).collect()
}

fn told(scan: WireScan) -> Option<Told> {
    let named = (1..=128).contains(&scan.id.len()) && scan.id.bytes().all(|b| b.is_ascii_graphic());
    named.then(|| Told {
        event_ref: scan.id,
        status: scan.status,
        occurred_at: scan.occurred_at,
        place: short(&scan.place, 200),
        detail: short(&scan.detail, 500),
    })
}

fn read<T: DeserializeOwned>(response: &Response) -> std::result::Result<T, String> {
    serde_json::from_slice(&response.body).map_err(|error| format!("an answer of another form: {error}"))
}

fn refusal(response: &Response) -> Option<RefusalCode> {
    read::<Refusal>(response).ok().map(|refusal| refusal.error)
}

/// What becomes part of a path: what a carrier may call its labels and parcels.
fn is_name(text: &str) -> bool {
    (1..=100).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// What labels that were bought, or found, come to.
fn bought(label: WireLabel, order: &Order) -> Outcome {
    let parcels = label
        .parcels
        .into_iter()
        .map(|parcel| crate::carriers::model::Sold { tracking_number: parcel.tracking_number, label_url: parcel.label_url });
    let purchase = Purchase { label: label.id, price_minor: label.price_minor, currency: label.currency, parcels: parcels.collect() };
    if !is_name(&purchase.label) || !purchase.fits(order.parcels.len()) {
        return Outcome::Unknown("the carrier shows labels that can't be those that were asked for".to_owned());
    }
    match serde_json::to_value(&purchase) {
        Ok(value) => Outcome::Done(value),
        Err(error) => Outcome::Unknown(error.to_string()),
    }
}

/// What an answer to a write means when it is not the one that was hoped for.
fn otherwise(answer: std::result::Result<Response, Failure>) -> Outcome {
    let response = match answer {
        Ok(response) => response,
        Err(Failure::Busy(why) | Failure::NotSent(why)) => return Outcome::NotDone(why),
        Err(Failure::Unanswered(why)) => return Outcome::Unknown(why),
    };
    let refused = refusal(&response);
    match (response.status, refused) {
        // The key is still worked on, by a request of ours that we gave up.
        (409, Some(refused)) if refused.code == "idempotency_in_progress" => Outcome::Unknown("still being worked on".to_owned()),
        (401 | 403 | 429 | 503, _) => Outcome::NotDone(format!("status {}", response.status)),
        (400..=499, Some(refused)) => Outcome::Refused(short(&format!("{}: {}", refused.code, refused.message), 300)),
        // A 404 without the carrier's own words may be a gateway's while the carrier is away.
        (status, _) => Outcome::Unknown(format!("status {status}")),
    }
}

impl Adapter {
    async fn send(&self, method: Method, path: &str, key: Option<&str>, body: Option<Value>) -> std::result::Result<Response, Failure> {
        let mut headers = vec![("authorization", format!("Bearer {}", self.secrets.api_key))];
        if let Some(key) = key {
            headers.push(("idempotency-key", key.to_owned()));
        }
        let body = body.map(|body| {
            headers.push(("content-type", "application/json".to_owned()));
            Bytes::from(body.to_string())
        });
        let repeatable = method == Method::GET;
        let request = Request { method, url: format!("{}{path}", self.base_url), headers, body: body.unwrap_or_default() };
        if repeatable { self.client.send_repeatable(request).await } else { self.client.send(request).await }
    }

    /// Asks for labels. Done: a [`Purchase`].
    pub(crate) async fn buy(&self, order: &Order) -> Outcome {
        let CarrierKind::Sandbox = self.kind;
        let parcels: Vec<Value> = order
            .parcels
            .iter()
            .map(|p| json!({ "weight_g": p.weight_g, "length_mm": p.length_mm, "width_mm": p.width_mm, "height_mm": p.height_mm }))
            .collect();
        let body = json!({ "reference": order.reference, "service": order.service, "to": order.destination, "parcels": parcels });
        match self.send(Method::POST, "/v1/labels", Some(&order.reference), Some(body)).await {
            Ok(response) if matches!(response.status, 200 | 201) => match read::<WireLabel>(&response) {
                Ok(label) => bought(label, order),
                Err(why) => Outcome::Unknown(why),
            },
            answer => otherwise(answer),
        }
    }

    /// Asks what became of labels that were asked for. Where the carrier knows of none, they are asked for again under the same key, which
    /// the carrier honours: whatever the first request still does, there is one purchase.
    pub(crate) async fn find(&self, order: &Order) -> Outcome {
        let path = format!("/v1/labels?reference={}", order.reference);
        match self.send(Method::GET, &path, None, None).await {
            Ok(response) if response.status == 200 => match read::<List>(&response) {
                Ok(list) => match list.data.into_iter().find(|label| label.reference == order.reference) {
                    Some(label) => bought(label, order),
                    None => Outcome::NotDone("the carrier has never seen it".to_owned()),
                },
                Err(why) => Outcome::Unknown(why),
            },
            Ok(response) => Outcome::Unknown(format!("status {}", response.status)),
            Err(failure) => Outcome::Unknown(failure.to_string()),
        }
    }

    /// Asks to take labels back. Done: nothing more to say.
    pub(crate) async fn void(&self, label: &str, key: &str) -> Outcome {
        if !is_name(label) {
            return Outcome::Refused("no name of a label".to_owned());
        }
        match self.send(Method::POST, &format!("/v1/labels/{label}/void"), Some(key), None).await {
            Ok(response) if matches!(response.status, 200 | 201) => Outcome::Done(Value::Null),
            answer => otherwise(answer),
        }
    }

    /// Asks whether labels were taken back. Where they were not, it is asked again under the same key.
    pub(crate) async fn voided(&self, label: &str) -> Outcome {
        if !is_name(label) {
            return Outcome::Refused("no name of a label".to_owned());
        }
        match self.send(Method::GET, &format!("/v1/labels/{label}"), None, None).await {
            Ok(response) if response.status == 200 => match read::<WireLabel>(&response) {
                Ok(label) if label.status == "voided" => Outcome::Done(Value::Null),
                Ok(_) => Outcome::NotDone("the label is still good".to_owned()),
                Err(why) => Outcome::Unknown(why),
            },
            Ok(response) => Outcome::Unknown(format!("status {}", response.status)),
            Err(failure) => Outcome::Unknown(failure.to_string()),
        }
    }

    /// What the carrier has seen of a parcel; none when it can't say now.
    pub(crate) async fn track(&self, tracking_number: &str) -> Option<Vec<Told>> {
        if !is_name(tracking_number) {
            return None;
        }
        let response = self.send(Method::GET, &format!("/v1/parcels/{tracking_number}"), None, None).await.ok()?;
        let parcel: WireParcel = (response.status == 200).then(|| read(&response).ok()).flatten()?;
        Some(parcel.scans.into_iter().take(MAX_SCANS).filter_map(told).collect())
    }

    /// A label's document, from where the carrier keeps it: only below the carrier's own address. Errors: `shipping.carrier_unavailable`.
    pub(crate) async fn document(&self, label_url: &str) -> Result<Document> {
        let away = |why: String| Error::unavailable("shipping.carrier_unavailable", format!("the carrier can't give the label now: {why}"));
        let path = match label_url.strip_prefix(&self.base_url) {
            Some(path) => path,
            None if label_url.starts_with('/') => label_url,
            None => return Err(away("it keeps it at another address".to_owned())),
        };
        if !path.starts_with('/') || path.contains("..") || !path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\' && b != b'#') {
            return Err(away("its address is none".to_owned()));
        }
        let answer = self.send(Method::GET, path, None, None).await.map_err(|failure| away(failure.to_string()))?;
        if answer.status != 200 || answer.body.len() > MAX_DOCUMENT {
            return Err(away(format!("status {}", answer.status)));
        }
        // What it is, its first bytes tell; whatever else it could be is not handed on.
        let content_type = match () {
            () if answer.body.starts_with(b"%PDF-") => "application/pdf",
            () if answer.body.starts_with(b"^XA") => "application/zpl",
            () => return Err(away("it is neither PDF nor ZPL".to_owned())),
        };
        Ok(Document { content_type, bytes: answer.body })
    }

    /// Checks a callback's signature and says what it tells. Errors: `shipping.callback_malformed`, `shipping.callback_out_of_time`,
    /// `shipping.callback_forged`.
    pub(crate) fn callback(&self, header: &dyn Fn(&str) -> String, body: &[u8], now: Timestamp) -> Result<News> {
        let malformed = || Error::invalid("shipping.callback_malformed", "not a callback of this carrier's form");
        let secrets: Vec<webhook::Secret> = self.secrets.webhook_secrets.iter().filter_map(|secret| secret.parse().ok()).collect();
        let id = header(webhook::ID);
        webhook::verify(&secrets, &id, &header(webhook::TIMESTAMP), &header(webhook::SIGNATURE), body, now).map_err(
            |doubt| match doubt {
                webhook::Doubt::Malformed => malformed(),
                webhook::Doubt::OutOfTime => Error::invalid(
                    "shipping.callback_out_of_time",
                    "the callback's moment is more than five minutes from now: a replay, or a wrong clock",
                ),
                webhook::Doubt::Forged => {
                    Error::unauthenticated("shipping.callback_forged", "the callback's signature is not that of a known secret")
                }
            },
        )?;
        let scanned: Scanned = serde_json::from_slice(body).map_err(|_| malformed())?;
        if scanned.id != id || !is_name(&scanned.data.tracking_number) {
            return Err(malformed());
        }
        let told = told(scanned.data.scan).ok_or_else(malformed)?;
        Ok(News { tracking_number: scanned.data.tracking_number, told })
    }
}
