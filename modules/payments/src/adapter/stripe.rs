//! Stripe's HTTP API: PaymentIntents with manual capture, refunds, and its webhooks. Form-encoded, JSON answers.

use super::{ANY, Adapter, Callback, Charge, ChargeStatus, Found, Movement, Order, REFUND_FAILED, Told, forged, malformed, out_of_time};
use bytes::Bytes;
use client::{Failure, Method, Request, Response};
use kernel::{Currency, Result, Timestamp};
use ring::hmac;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;

/// How far a webhook's moment may be from ours, in seconds: what Stripe's own libraries allow.
const TOLERANCE_S: i64 = 300;
/// Pages of a search, of 100 each.
const MAX_PAGES: usize = 20;
/// How much earlier than we asked a charge may have been made by Stripe's clock, in seconds.
const CLOCK_SKEW_S: i64 = 300;

/// Declines after which nobody else is to be asked: the card is lost, stolen, closed or forbidden to be used so.
const HARD: &[&str] = &[
    "do_not_try_again",
    "fraudulent",
    "incorrect_number",
    "invalid_account",
    "invalid_number",
    "lost_card",
    "merchant_blacklist",
    "new_account_information_available",
    "pickup_card",
    "restricted_card",
    "revocation_of_all_authorizations",
    "revocation_of_authorization",
    "security_violation",
    "stolen_card",
    "stop_payment_order",
    "payment_intent_authentication_failure",
];

#[derive(Deserialize)]
struct Wire {
    id: String,
    status: String,
    amount: i64,
    currency: Option<String>,
    amount_received: Option<i64>,
    #[serde(default)]
    created: i64,
    #[serde(default)]
    metadata: HashMap<String, String>,
    next_action: Option<NextAction>,
    /// Whole, where it was asked for so; otherwise its id.
    latest_charge: Option<serde_json::Value>,
    last_payment_error: Option<WireError>,
}

#[derive(Deserialize)]
struct NextAction {
    redirect_to_url: Option<Redirect>,
}

#[derive(Deserialize)]
struct Redirect {
    url: Option<String>,
}

#[derive(Deserialize)]
struct WireError {
    code: Option<String>,
    decline_code: Option<String>,
    r#type: Option<String>,
    payment_intent: Option<Box<Wire>>,
}

#[derive(Deserialize)]
struct Failed {
    error: WireError,
}

#[derive(Deserialize)]
struct List<T> {
    data: Vec<T>,
    #[serde(default)]
    has_more: bool,
}

#[derive(Deserialize)]
struct WireRefund {
    amount: i64,
    status: Option<String>,
    #[serde(default)]
    metadata: HashMap<String, String>,
}

impl WireRefund {
    /// Whether the money did not go back after all, be it days later: a closed account, say.
    fn has_failed(&self) -> bool {
        matches!(self.status.as_deref(), Some("failed" | "canceled"))
    }
}

#[derive(Deserialize)]
struct WireDispute {
    amount: i64,
    status: String,
}

/// Stripe's amounts differ from ISO 4217 for a few currencies: ISK and UGX keep two decimals, MGA has none, and three decimals end in 0.
/// None when the amount can't be said.
fn to_stripe(amount_minor: i64, currency: Currency) -> Option<i64> {
    match currency.code() {
        "ISK" | "UGX" => amount_minor.checked_mul(100),
        "MGA" => (amount_minor % 100 == 0).then_some(amount_minor / 100),
        "BHD" | "JOD" | "KWD" | "OMR" | "TND" => (amount_minor % 10 == 0).then_some(amount_minor),
        _ => Some(amount_minor),
    }
}

fn from_stripe(amount: i64, currency: &str) -> i64 {
    match currency {
        "ISK" | "UGX" => amount / 100,
        "MGA" => amount.saturating_mul(100),
        _ => amount,
    }
}

fn wire_currency(currency: Currency) -> String {
    currency.code().to_ascii_lowercase()
}

async fn send(
    adapter: &Adapter,
    method: Method,
    path: &str,
    key: Option<&str>,
    form: &[(&str, String)],
) -> std::result::Result<Response, Failure> {
    let mut headers = vec![("authorization", format!("Bearer {}", adapter.secrets.api_key))];
    if let Some(key) = key {
        headers.push(("idempotency-key", key.to_owned()));
    }
    let mut body = Bytes::new();
    if method == Method::POST {
        headers.push(("content-type", "application/x-www-form-urlencoded".to_owned()));
        body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish().into();
    }
    let url = format!("{}{path}", adapter.base_url);
    adapter.send(Request { method, url, headers, body }).await
}

fn read<T: DeserializeOwned>(response: &Response) -> std::result::Result<T, String> {
    serde_json::from_slice(&response.body).map_err(|error| format!("an answer of another form: {error}"))
}

/// The code of a decline, and whether another provider may be asked.
fn decline(error: &WireError) -> (String, bool) {
    let code = error.decline_code.as_deref().or(error.code.as_deref()).unwrap_or("card_declined");
    let hard = HARD.contains(&code) || error.code.as_deref().is_some_and(|code| HARD.contains(&code));
    (code.to_owned(), !hard)
}

fn charge(wire: Wire, refunds: Vec<WireRefund>) -> Box<Charge> {
    let currency = wire.currency.as_deref().unwrap_or_default().to_ascii_uppercase();
    let currency = currency.as_str();
    let status = match wire.status.as_str() {
        "requires_action" => ChargeStatus::RequiresAction,
        "requires_capture" => ChargeStatus::Authorized,
        "succeeded" => ChargeStatus::Captured,
        "canceled" => ChargeStatus::Voided,
        // Before it is confirmed it has no error; after a failed attempt it has.
        "requires_payment_method" if wire.last_payment_error.is_some() => ChargeStatus::Declined,
        _ => ChargeStatus::Processing,
    };
    let captured_minor =
        if status == ChargeStatus::Captured { from_stripe(wire.amount_received.unwrap_or(wire.amount), currency) } else { 0 };
    let (failed, refunds): (Vec<WireRefund>, Vec<WireRefund>) = refunds.into_iter().partition(WireRefund::has_failed);
    let refunds: Vec<Movement> = refunds
        .into_iter()
        .map(|mut refund| Movement {
            reference: refund.metadata.remove("reference").unwrap_or_default(),
            amount_minor: from_stripe(refund.amount, currency),
            fee_minor: 0,
        })
        .collect();
    Box::new(Charge {
        reference: wire.metadata.get("reference").cloned().unwrap_or_default(),
        id: wire.id,
        status,
        amount_minor: from_stripe(wire.amount, currency),
        action_url: wire.next_action.and_then(|next| next.redirect_to_url).and_then(|redirect| redirect.url),
        decline: wire.last_payment_error.as_ref().filter(|_| status == ChargeStatus::Declined).map(decline),
        captured_minor,
        refunded_minor: refunds.iter().map(|refund| refund.amount_minor).sum(),
        open: status == ChargeStatus::Authorized,
        disputed: false,
        dispute_won: false,
        lost_minor: 0,
        // A PaymentIntent is captured once, and doesn't keep our reference of that; what Stripe keeps is known from the settlement.
        captures: if captured_minor > 0 {
            vec![Movement { reference: ANY.to_owned(), amount_minor: captured_minor, fee_minor: 0 }]
        } else {
            Vec::new()
        },
        refunds,
        failed_refunds: failed.into_iter().filter_map(|mut refund| refund.metadata.remove("reference")).collect(),
    })
}

/// What an answer that is not the wanted one means for a request that changes something.
fn refused(response: &Response) -> Told {
    match response.status {
        // 409 is a key that is still worked on, or an object that is locked.
        409 | 500..=599 => Told::Unknown { why: format!("status {}", response.status) },
        401 | 403 | 429 => Told::Outage { why: format!("status {}", response.status) },
        status => {
            let error = read::<Failed>(response).ok().map(|failed| failed.error);
            let code = error.and_then(|error| error.decline_code.or(error.code).or(error.r#type));
            Told::Refused { code: code.unwrap_or_else(|| format!("status_{status}")) }
        }
    }
}

pub(super) async fn perform(adapter: &Adapter, order: &Order) -> Told {
    match order {
        Order::Authorize { reference, token, amount_minor, currency } => {
            let Some(amount) = to_stripe(*amount_minor, *currency) else { return unsayable() };
            let form = [
                ("amount", amount.to_string()),
                ("currency", wire_currency(*currency)),
                ("payment_method", token.clone()),
                ("payment_method_types[0]", "card".to_owned()),
                ("capture_method", "manual".to_owned()),
                ("confirm", "true".to_owned()),
                ("metadata[reference]", reference.clone()),
            ];
            match send(adapter, Method::POST, "/v1/payment_intents", Some(reference), &form).await {
                Ok(response) if response.status == 200 => told(&response),
                Ok(response) if response.status == 402 => declined(&response, reference, *amount_minor),
                other => not_done(other),
            }
        }
        Order::Capture { charge, reference, amount_minor, currency, .. } => {
            let Some(amount) = to_stripe(*amount_minor, *currency) else { return unsayable() };
            let form = [("amount_to_capture", amount.to_string())];
            let path = format!("/v1/payment_intents/{charge}/capture");
            match send(adapter, Method::POST, &path, Some(reference), &form).await {
                Ok(response) if response.status == 200 => match told(&response) {
                    Told::Charge { mut charge } if charge.status == ChargeStatus::Captured => {
                        // 200 to a capture of this amount means this amount.
                        charge.captured_minor = *amount_minor;
                        charge.captures = vec![Movement { reference: reference.clone(), amount_minor: *amount_minor, fee_minor: 0 }];
                        Told::Charge { charge }
                    }
                    Told::Charge { .. } => Told::Unknown { why: "captured, and yet not".to_owned() },
                    other => other,
                },
                other => not_done(other),
            }
        }
        Order::Void { charge, reference, .. } => {
            let path = format!("/v1/payment_intents/{charge}/cancel");
            match send(adapter, Method::POST, &path, Some(reference), &[]).await {
                Ok(response) if response.status == 200 => told(&response),
                other => not_done(other),
            }
        }
        Order::Refund { charge, reference, amount_minor, currency } => {
            let Some(amount) = to_stripe(*amount_minor, *currency) else { return unsayable() };
            let form = [("payment_intent", charge.clone()), ("amount", amount.to_string()), ("metadata[reference]", reference.clone())];
            match send(adapter, Method::POST, "/v1/refunds", Some(reference), &form).await {
                Ok(response) if response.status == 200 && read::<WireRefund>(&response).is_ok_and(|refund| refund.has_failed()) => {
                    Told::Refused { code: REFUND_FAILED.to_owned() }
                }
                Ok(response) if response.status == 200 => match retrieve(adapter, charge).await {
                    Found::Charge(charge) if order.has_failed_in(&charge) => Told::Refused { code: REFUND_FAILED.to_owned() },
                    Found::Charge(charge) => Told::Charge { charge },
                    Found::Absent => Told::Unknown { why: "refunded, and yet gone".to_owned() },
                    Found::Unknown(why) => Told::Unknown { why },
                },
                other => not_done(other),
            }
        }
    }
}

fn unsayable() -> Told {
    Told::Refused { code: "amount_not_representable".to_owned() }
}

fn told(response: &Response) -> Told {
    match read::<Wire>(response) {
        Ok(wire) => {
            let charge = charge(wire, Vec::new());
            if charge.status == ChargeStatus::Processing {
                return Told::Unknown { why: "still being processed".to_owned() };
            }
            Told::Charge { charge }
        }
        Err(why) => Told::Unknown { why },
    }
}

/// A declined card: 402, with the PaymentIntent within the error.
fn declined(response: &Response, reference: &str, amount_minor: i64) -> Told {
    let Ok(Failed { mut error }) = read::<Failed>(response) else { return refused(response) };
    let said = decline(&error);
    let mut charge = match error.payment_intent.take() {
        Some(wire) => charge(*wire, Vec::new()),
        None => Box::new(Charge {
            id: String::new(),
            reference: reference.to_owned(),
            status: ChargeStatus::Declined,
            amount_minor,
            action_url: None,
            decline: None,
            captured_minor: 0,
            refunded_minor: 0,
            open: false,
            disputed: false,
            dispute_won: false,
            lost_minor: 0,
            captures: Vec::new(),
            refunds: Vec::new(),
            failed_refunds: Vec::new(),
        }),
    };
    charge.status = ChargeStatus::Declined;
    charge.decline = Some(said);
    Told::Charge { charge }
}

fn not_done(answer: std::result::Result<Response, Failure>) -> Told {
    match answer {
        Ok(response) => refused(&response),
        Err(Failure::Busy(why)) => Told::NotAsked { why },
        Err(Failure::NotSent(why)) => Told::Outage { why },
        Err(Failure::Unanswered(why)) => Told::Unknown { why },
    }
}

/// Walks the list, which unlike the search shows what was just made, from the newest back to when it was first asked for.
pub(super) async fn find(adapter: &Adapter, reference: &str, since: Timestamp) -> Found {
    let mut after = String::new();
    for _ in 0..MAX_PAGES {
        let path = format!("/v1/payment_intents?limit=100{after}");
        let response = match send(adapter, Method::GET, &path, None, &[]).await {
            Ok(response) if response.status == 200 => response,
            Ok(response) => return Found::Unknown(format!("status {}", response.status)),
            Err(failure) => return Found::Unknown(failure.to_string()),
        };
        let list: List<Wire> = match read(&response) {
            Ok(list) => list,
            Err(why) => return Found::Unknown(why),
        };
        let last = list.data.last().map(|wire| (wire.id.clone(), wire.created));
        if let Some(wire) = list.data.into_iter().find(|wire| wire.metadata.get("reference").is_some_and(|known| known == reference)) {
            return with_refunds(adapter, wire).await;
        }
        match last {
            Some((id, created)) if list.has_more && created >= since.unix_seconds() - CLOCK_SKEW_S => {
                after = format!("&starting_after={id}")
            }
            _ => return Found::Absent,
        }
    }
    Found::Unknown("too many payments since then to be sure".to_owned())
}

pub(super) async fn retrieve(adapter: &Adapter, id: &str) -> Found {
    match send(adapter, Method::GET, &format!("/v1/payment_intents/{id}?expand%5B%5D=latest_charge"), None, &[]).await {
        Ok(response) if response.status == 200 => match read(&response) {
            Ok(wire) => with_refunds(adapter, wire).await,
            Err(why) => Found::Unknown(why),
        },
        Ok(response) if response.status == 404 => Found::Absent,
        Ok(response) => Found::Unknown(format!("status {}", response.status)),
        Err(failure) => Found::Unknown(failure.to_string()),
    }
}

/// With what else is known of a charge that was captured: its refunds, and its disputes when it has any.
async fn with_refunds(adapter: &Adapter, wire: Wire) -> Found {
    if wire.status != "succeeded" {
        return Found::Charge(charge(wire, Vec::new()));
    }
    let (id, currency) = (wire.id.clone(), wire.currency.as_deref().unwrap_or_default().to_ascii_uppercase());
    let disputed = wire.latest_charge.as_ref().is_some_and(|charge| charge["disputed"] == true);
    let refunds = match list_of::<WireRefund>(adapter, "refunds", &id).await {
        Ok(refunds) => refunds,
        Err(why) => return Found::Unknown(why),
    };
    let mut charge = charge(wire, refunds);
    if disputed {
        match list_of::<WireDispute>(adapter, "disputes", &id).await {
            Ok(disputes) => contest(&mut charge, &disputes, &currency),
            Err(why) => return Found::Unknown(why),
        }
    }
    Found::Charge(charge)
}

/// What a PaymentIntent has of these, up to 100.
async fn list_of<T: DeserializeOwned>(adapter: &Adapter, what: &str, id: &str) -> std::result::Result<Vec<T>, String> {
    let path = format!("/v1/{what}?payment_intent={id}&limit=100");
    match send(adapter, Method::GET, &path, None, &[]).await {
        Ok(response) if response.status == 200 => read::<List<T>>(&response).map(|list| list.data),
        Ok(response) => Err(format!("status {}", response.status)),
        Err(failure) => Err(failure.to_string()),
    }
}

/// An inquiry (`warning_...`) moves no money, and is none yet.
fn contest(charge: &mut Charge, disputes: &[WireDispute], currency: &str) {
    charge.disputed = disputes.iter().any(|dispute| matches!(dispute.status.as_str(), "needs_response" | "under_review"));
    charge.dispute_won = disputes.iter().any(|dispute| dispute.status == "won");
    charge.lost_minor =
        disputes.iter().filter(|dispute| dispute.status == "lost").map(|dispute| from_stripe(dispute.amount, currency)).sum();
}

#[derive(Deserialize)]
struct Event {
    id: String,
    data: EventData,
}

#[derive(Deserialize)]
struct EventData {
    object: EventObject,
}

#[derive(Deserialize)]
struct EventObject {
    /// Not every object has one: a balance has none.
    id: Option<String>,
    payment_intent: Option<String>,
}

/// `Stripe-Signature: t=...,v1=...`: HMAC-SHA256 in hex over the moment, a dot and the body.
pub(super) fn callback(adapter: &Adapter, header: &dyn Fn(&str) -> String, body: &[u8], now: Timestamp) -> Result<Option<Callback>> {
    let header = header("stripe-signature");
    let mut moment = None;
    let mut signatures = Vec::new();
    for (name, value) in header.split(',').take(16).filter_map(|part| part.trim().split_once('=')) {
        match name {
            "t" => moment = value.parse::<i64>().ok(),
            "v1" => signatures.extend(from_hex(value)),
            _ => {}
        }
    }
    let moment = moment.ok_or_else(malformed)?;
    if signatures.is_empty() {
        return Err(malformed());
    }
    if (i128::from(now.unix_seconds()) - i128::from(moment)).abs() > i128::from(TOLERANCE_S) {
        return Err(out_of_time());
    }
    let signed = [format!("{moment}.").as_bytes(), body].concat();
    let known = adapter.secrets.webhook_secrets.iter().any(|secret| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        signatures.iter().any(|signature| hmac::verify(&key, &signed, signature).is_ok())
    });
    if !known {
        return Err(forged());
    }
    let event: Event = serde_json::from_slice(body).map_err(|_| malformed())?;
    let object = event.data.object;
    let charge = object.id.filter(|id| id.starts_with("pi_")).or(object.payment_intent);
    Ok(charge.map(|charge| Callback { event_id: event.id, charge }))
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    (0..32).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(json: serde_json::Value) -> Wire {
        serde_json::from_value(json).expect("a PaymentIntent")
    }

    #[test]
    fn amounts_are_said_as_stripe_says_them() {
        let table = [
            ("EUR", 1_050, Some(1_050)),
            ("JPY", 1_050, Some(1_050)),
            ("ISK", 7, Some(700)),
            ("UGX", 7, Some(700)),
            ("MGA", 700, Some(7)),
            ("MGA", 701, None),
            ("KWD", 1_230, Some(1_230)),
            ("KWD", 1_234, None),
        ];
        for (currency, ours, theirs) in table {
            let known = currency.parse().expect("a currency");
            assert_eq!(to_stripe(ours, known), theirs, "{ours} {currency}");
            if let Some(theirs) = theirs {
                assert_eq!(from_stripe(theirs, currency), ours, "{theirs} {currency}");
            }
        }
    }

    #[test]
    fn states_are_read_as_documented() {
        let of = |status: &str, more: serde_json::Value| {
            let mut json =
                serde_json::json!({ "id": "pi_1", "status": status, "amount": 1000, "currency": "eur", "metadata": { "reference": "r" } });
            json.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            charge(wire(json), Vec::new())
        };
        let none = || serde_json::json!({});
        assert_eq!(of("requires_capture", none()).status, ChargeStatus::Authorized);
        assert_eq!(of("requires_confirmation", none()).status, ChargeStatus::Processing);
        assert_eq!(of("processing", none()).status, ChargeStatus::Processing);
        assert_eq!(of("requires_payment_method", none()).status, ChargeStatus::Processing);
        assert_eq!(of("canceled", none()).status, ChargeStatus::Voided);
        let part = of("succeeded", serde_json::json!({ "amount_received": 400 }));
        // It keeps no reference of a capture, so the amount says whether one is ours.
        let capture = |amount_minor: i64| {
            let currency = "EUR".parse().expect("a currency");
            Order::Capture { charge: "pi_1".into(), reference: "pop_1".into(), amount_minor, currency, last: true }
        };
        assert!(capture(400).is_done_in(&part) && !capture(300).is_done_in(&part));
        let disputes = |words: &[&str]| {
            let of = |word: &&str| WireDispute { amount: 300, status: (*word).to_owned() };
            let json = serde_json::json!({ "id": "pi_1", "status": "succeeded", "amount": 1000, "currency": "eur" });
            let mut contested = charge(wire(json), Vec::new());
            contest(&mut contested, &words.iter().map(of).collect::<Vec<_>>(), "EUR");
            (contested.disputed, contested.dispute_won, contested.lost_minor)
        };
        assert_eq!(disputes(&["warning_needs_response"]), (false, false, 0));
        assert_eq!(disputes(&["needs_response"]), (true, false, 0));
        assert_eq!(disputes(&["lost", "under_review"]), (true, false, 300));
        assert_eq!(disputes(&["won", "lost", "lost"]), (false, true, 600));
        let refund = |status: &str| -> WireRefund {
            let json = serde_json::json!({ "amount": 100, "status": status, "metadata": { "reference": status } });
            serde_json::from_value(json).expect("a refund")
        };
        let json = serde_json::json!({ "id": "pi_1", "status": "succeeded", "amount": 1000, "currency": "eur" });
        let refunded = charge(wire(json), ["pending", "succeeded", "failed", "canceled"].map(refund).into());
        assert_eq!((refunded.refunded_minor, refunded.failed_refunds), (200, vec!["failed".to_owned(), "canceled".to_owned()]));
        assert_eq!((part.status, part.captured_minor, part.open), (ChargeStatus::Captured, 400, false));
        let action = of(
            "requires_action",
            serde_json::json!({ "next_action": { "type": "redirect_to_url", "redirect_to_url": { "url": "https://x" } } }),
        );
        assert_eq!((action.status, action.action_url.as_deref()), (ChargeStatus::RequiresAction, Some("https://x")));
        let failed = |code: &str| {
            of("requires_payment_method", serde_json::json!({ "last_payment_error": { "code": "card_declined", "decline_code": code } }))
        };
        assert_eq!(failed("insufficient_funds").decline, Some(("insufficient_funds".into(), true)));
        assert_eq!(failed("stolen_card").decline, Some(("stolen_card".into(), false)));
    }
}
