//! The carrier as its callers see it, over HTTP in this process.

use crate::{Carrier, CarrierConfig, LabelStatus, ScanStatus};
use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use kernel::{ManualClock, Timestamp};
use serde_json::{Value, json};
use std::sync::Arc;
use tower::ServiceExt as _;

fn carrier() -> Carrier {
    let config = CarrierConfig { hang_ms: 20, late_ms: 40, ..CarrierConfig::default() };
    Carrier::open(config, Arc::new(ManualClock::new(Timestamp::from_micros(1_767_614_400_000_000)))).expect("a carrier")
}

async fn call(carrier: &Carrier, method: &str, path: &str, key: &str, body: Value) -> (u16, Value) {
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    let request = Request::builder().method(method).uri(path).header("authorization", "Bearer ck_sandbox").header("idempotency-key", key);
    let response = carrier.router().oneshot(request.body(body).expect("a request")).await.expect("an answer");
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.expect("a body").to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned())))
}

fn order(service: &str, reference: &str) -> Value {
    json!({ "reference": reference, "service": service, "to": { "recipient": "Ann", "country": "DE" }, "parcels": [{ "weight_g": 1_500 }, { "weight_g": 1 }] })
}

#[tokio::test]
async fn a_label_is_bought_printed_and_given_back() {
    let carrier = carrier();
    let (status, label) = call(&carrier, "POST", "/v1/labels", "a", order("standard", "r")).await;
    assert_eq!((status, label["price_minor"].as_i64(), label["parcels"].as_array().map(Vec::len)), (201, Some(870), Some(2)));
    let (status, page) = call(&carrier, "GET", label["parcels"][1]["label_url"].as_str().expect("a url"), "", Value::Null).await;
    assert!(status == 200 && page.as_str().is_some_and(|page| page.starts_with("%PDF-1.4") && page.contains("SBX00000000102")), "{page}");
    let zpl = call(&carrier, "GET", "/v1/labels/lbl_0000000001/1.zpl", "", Value::Null).await.1;
    assert!(zpl.as_str().is_some_and(|zpl| zpl.starts_with("^XA") && zpl.contains("SBX00000000101")));
    let again = call(&carrier, "POST", "/v1/labels", "a", order("standard", "r")).await;
    assert_eq!((again.0, &again.1["id"], carrier.books().len()), (201, &label["id"], 1));
    assert_eq!(call(&carrier, "POST", "/v1/labels", "a", order("standard", "other")).await.1["error"]["code"], "idempotency_key_reused");
    assert_eq!(call(&carrier, "POST", "/v1/labels/lbl_0000000001/void", "v", Value::Null).await.1["status"], "voided");
    // What was seen can't be given back.
    call(&carrier, "POST", "/v1/labels", "b", order("standard", "s")).await;
    carrier.scan("SBX00000000201", ScanStatus::InTransit, "Kassel").expect("a parcel");
    assert_eq!(call(&carrier, "POST", "/v1/labels/lbl_0000000002/void", "w", Value::Null).await.1["error"]["code"], "already_used");
    assert_eq!(carrier.books()[1].status, LabelStatus::Bought);
    assert_eq!(call(&carrier, "GET", "/v1/parcels/SBX00000000201", "", Value::Null).await.1["scans"][1]["place"], "Kassel");
}

#[tokio::test]
async fn a_key_makes_a_request_happen_once_whatever_becomes_of_the_answer() {
    let carrier = carrier();
    // The service, what the first attempt says, how many labels there are then, and what the second says.
    let table = [
        ("timeout_before", 504, 0, 201),
        ("timeout_after", 504, 1, 201),
        ("error_after", 500, 1, 201),
        ("outage", 503, 0, 201),
        ("late", 201, 1, 201),
        ("silent", 504, 0, 504),
        ("mute", 504, 1, 504),
        ("refuse_address", 422, 0, 422),
    ];
    let mut expected = 0;
    for (fault, first, made, second) in table {
        let service = format!("standard+{fault}");
        assert_eq!(call(&carrier, "POST", "/v1/labels", fault, order(&service, fault)).await.0, first, "{fault}");
        assert_eq!(carrier.books().len(), expected + made, "{fault}");
        assert_eq!(call(&carrier, "POST", "/v1/labels", fault, order(&service, fault)).await.0, second, "{fault}");
        expected += usize::from(!matches!(fault, "silent" | "refuse_address"));
        assert_eq!(carrier.books().len(), expected, "{fault}");
    }
    assert_eq!(call(&carrier, "GET", "/v1/labels?reference=mute", "", Value::Null).await.0, 504);
    assert_eq!(call(&carrier, "POST", "/v1/labels", "x", order("pigeon", "x")).await.1["error"]["code"], "unknown_service");
    call(&carrier, "POST", "/v1/labels", "y", order("express+stale", "stale")).await;
    let mut shown = Vec::new();
    for _ in 0..3 {
        let listed = call(&carrier, "GET", "/v1/labels?reference=stale", "", Value::Null).await.1;
        shown.push(listed["data"].as_array().map_or(0, Vec::len));
    }
    assert_eq!(shown, [0, 0, 1], "queries lie for a while");
}

#[tokio::test]
async fn parcels_end_as_their_service_says() {
    let carrier = carrier();
    for (service, ended) in
        [("standard", ScanStatus::Delivered), ("standard+lost", ScanStatus::Lost), ("express+returned", ScanStatus::Returned)]
    {
        let (_, label) = call(&carrier, "POST", "/v1/labels", service, order(service, service)).await;
        let number = label["parcels"][0]["tracking_number"].as_str().expect("a number").to_owned();
        assert_eq!(carrier.travel(&number), Some(ended), "{service}");
    }
    assert_eq!(carrier.travel("SBX"), None);
}
