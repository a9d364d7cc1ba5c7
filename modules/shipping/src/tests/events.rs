//! Events as they are written, word for word: whoever reads them counts on it.

use crate::rates::commands::{method_event, rate_event, zone_event};
use crate::rates::model::*;
use crate::shipments::commands::{event, event_of};
use crate::shipments::model::*;
use kernel::Timestamp;
use std::collections::BTreeMap;

fn known(kind: &str) -> bool {
    crate::EVENTS.iter().any(|known| known.kind == kind && known.version == 1)
}

#[test]
fn what_is_set_is_told() {
    let at = Timestamp::from_micros(0);
    let zone =
        Zone { zone_id: ZoneId::from_i64(1), name: "Home".to_owned(), areas: Vec::new(), version: 2, created_at: at, updated_at: at };
    let set = NewMethod { name: "Standard".to_owned(), active: true, min_days: 1, max_days: 3, service: "std".to_owned() };
    let method = Method { method_id: MethodId::from_i64(2), set, version: 1, created_at: at, updated_at: at };
    let set = NewRate {
        basis: Basis::Weight,
        tiers: vec![Tier { up_to: Some(1_000), price_minor: 390 }, Tier { up_to: None, price_minor: 990 }],
        free_from_minor: Some(5_000),
    };
    let rate =
        Rate { method_id: method.method_id, zone_id: zone.zone_id, currency: "EUR".parse().unwrap(), set, version: 4, updated_at: at };
    let written = [
        zone_event("shipping_zone.removed", &zone),
        method_event("shipping_method.created", &method),
        rate_event("shipping_rate.set", &rate),
    ];
    let golden = [
        ("zon_00000000001", r#"{"zone_id":"zon_00000000001","name":"Home","version":2}"#),
        (
            "smt_00000000002",
            r#"{"method_id":"smt_00000000002","version":1,"name":"Standard","active":true,"min_days":1,"max_days":3,"service":"std"}"#,
        ),
        (
            "smt_00000000002",
            r#"{"method_id":"smt_00000000002","zone_id":"zon_00000000001","currency":"EUR","version":4,"basis":"weight","tiers":[{"up_to":1000,"price_minor":390},{"up_to":null,"price_minor":990}],"free_from_minor":5000}"#,
        ),
    ];
    for (event, (subject, payload)) in written.iter().zip(golden) {
        assert_eq!((event.version, event.subject.as_str(), event.payload.as_str()), (1, subject, payload));
        assert!(known(event.kind), "{}", event.kind);
    }
    for kind in crate::rates::cache::CACHES.events {
        assert!(known(kind), "{kind}");
    }
}

#[test]
fn what_becomes_of_a_shipment_is_told_without_its_address() {
    let at = Timestamp::from_micros(0);
    let destination = Address {
        recipient: "Ann".to_owned(),
        line1: "1 High Street".to_owned(),
        line2: String::new(),
        city: "Leeds".to_owned(),
        region: String::new(),
        postal_code: "LS1".to_owned(),
        country: "GB".to_owned(),
        phone: String::new(),
    };
    let head = ShipmentHead {
        shipment_id: ShipmentId::from_i64(1),
        order_id: "ord_1".to_owned(),
        state: State::Shipped,
        version: 3,
        method_id: None,
        destination,
        note: "leave it at the door".to_owned(),
        parcel_count: 1,
        weight_g: 700,
        label_requests: 0,
        labelled: false,
        shipped_at: Some(at),
        delivered_at: None,
        created_at: at,
        updated_at: at,
    };
    let goods = BTreeMap::from([(1, 2), (7, 1)]);
    let tracking = Tracking {
        parcel: 1,
        event_ref: "e1".to_owned(),
        status: Tracked::InTransit,
        occurred_at: at,
        place: "Leeds".to_owned(),
        detail: String::new(),
        received_at: at,
    };
    let body = r#""shipment_id":"shp_00000000001","order_id":"ord_1","state":"shipped","version":3,"method_id":null,"parcel_count":1,"weight_g":700"#;
    let shipped = event(event_of(State::Shipped), &head, Some(&goods), None);
    assert_eq!((shipped.kind, shipped.subject.as_str()), ("shipment.shipped", "shp_00000000001"));
    assert_eq!(shipped.payload, format!(r#"{{{body},"goods":{{"1":2,"7":1}}}}"#));
    let tracked = event("shipment.tracked", &head, None, Some(&tracking));
    let told = r#""tracking":{"parcel":1,"event_ref":"e1","status":"in_transit","occurred_at":"1970-01-01T00:00:00.000000Z","place":"Leeds","detail":"","received_at":"1970-01-01T00:00:00.000000Z"}"#;
    assert_eq!(tracked.payload, format!("{{{body},{told}}}"));
    for state in State::ALL {
        assert!(known(event_of(*state)), "{}", event_of(*state));
    }
}
