//! Zones, rate tables and quotes, as tables and as properties against a naive model.

use crate::rates::model::*;
use kernel::{Currency, Timestamp};
use proptest::prelude::*;

fn zone(number: i64, areas: &[(&str, &[(&str, &str)])]) -> Zone {
    let range = |(from, to): &(&str, &str)| Range { from: (*from).to_owned(), to: (*to).to_owned() };
    let area = |(country, ranges): &(&str, &[(&str, &str)])| Area {
        country: (*country).to_owned(),
        postcodes: ranges.iter().map(range).collect(),
    };
    let areas: Vec<Area> = areas.iter().map(area).collect();
    Zone {
        zone_id: ZoneId::from_i64(number),
        name: format!("zone {number}"),
        areas: normal_areas(&areas).expect("areas"),
        version: 1,
        created_at: Timestamp::from_micros(0),
        updated_at: Timestamp::from_micros(0),
    }
}

fn method(number: i64, name: &str, active: bool, days: (i64, i64)) -> Method {
    let at = Timestamp::from_micros(0);
    let set = NewMethod { name: name.to_owned(), active, min_days: days.0, max_days: days.1, service: String::new() };
    Method { method_id: MethodId::from_i64(number), set, version: 1, created_at: at, updated_at: at }
}

/// Tiers as `up to:price`, the last one may be `*:price`.
fn rate(method: i64, zone: i64, currency: &str, basis: Basis, tiers: &str, free_from_minor: Option<i64>) -> Rate {
    let tier = |text: &str| {
        let (up_to, price) = text.split_once(':').expect("a tier");
        Tier { up_to: up_to.parse().ok(), price_minor: price.parse().expect("a price") }
    };
    let set = NewRate { basis, tiers: tiers.split(' ').map(tier).collect(), free_from_minor };
    set.check().expect("a rate");
    Rate {
        method_id: MethodId::from_i64(method),
        zone_id: ZoneId::from_i64(zone),
        currency: currency.parse().expect("a currency"),
        set,
        version: 1,
        updated_at: Timestamp::from_micros(0),
    }
}

/// Germany with its islands apart, Great Britain with the Highlands apart, a country that is not served, Canada's north, and the rest.
fn shop() -> Rates {
    let zones = [
        zone(1, &[("DE", &[])]),
        zone(2, &[("DE", &[("18565", ""), ("25845", "25849"), ("264 65", "26-486")])]),
        zone(3, &[("GB", &[]), ("IE", &[])]),
        zone(4, &[("GB", &[("IV", ""), ("hs1", "HS9"), ("KW15", "KW17")])]),
        zone(5, &[("*", &[])]),
        zone(6, &[("KP", &[])]),
        zone(7, &[("CA", &[("X", "Y")])]),
    ];
    let methods = vec![
        method(1, "standard", true, (2, 4)),
        method(2, "express", true, (1, 1)),
        method(3, "pigeon", false, (0, 1)),
        method(4, "freight", true, (5, 9)),
    ];
    let tables = vec![
        rate(1, 1, "EUR", Basis::Weight, "1000:390 5000:590 31500:990", Some(5_000)),
        rate(2, 1, "EUR", Basis::Weight, "1000:1290 5000:1590", None),
        rate(3, 1, "EUR", Basis::Weight, "*:1", None),
        rate(4, 1, "EUR", Basis::Weight, "*:9900", None),
        rate(1, 2, "EUR", Basis::Weight, "5000:1490", Some(20_000)),
        rate(1, 3, "GBP", Basis::Price, "2000:399 10000:199 50000:0", None),
        rate(1, 4, "GBP", Basis::Price, "50000:999", None),
        rate(1, 5, "EUR", Basis::Weight, "2000:2500 10000:4500", None),
        rate(2, 5, "EUR", Basis::Weight, "2000:2500", None),
        rate(3, 6, "EUR", Basis::Weight, "*:1", None),
        rate(1, 7, "EUR", Basis::Weight, "*:7700", None),
    ];
    assert_eq!(overlap(&zones), None);
    Rates::new(&zones, methods, tables)
}

fn parcelled(country: &str, postcode: &str, weight_g: i64, amount_minor: i64, currency: &str) -> Parcelled {
    let destination = Destination { country: country.to_owned(), postcode: postcode.to_owned() };
    Parcelled { destination, weight_g, amount_minor, currency: currency.parse().expect("a currency") }
}

#[test]
fn what_it_costs() {
    #[rustfmt::skip]
    let table = [
        // Country, postcode, grams, amount, currency: the quotes in their order, or the field that stands in the way.
        ("DE", "10115",    1,      1_000, "EUR", "standard 390, express 1290, freight 9900"),
        ("DE", "",         1,      1_000, "EUR", "standard 390, express 1290, freight 9900"),
        ("DE", "10115",    0,      0,     "EUR", "standard 390, express 1290, freight 9900"),
        ("DE", "10115",    1_000,  1_000, "EUR", "standard 390, express 1290, freight 9900"),
        ("DE", "10115",    1_001,  1_000, "EUR", "standard 590, express 1590, freight 9900"),
        ("DE", "10115",    5_001,  1_000, "EUR", "standard 990, freight 9900"),
        ("DE", "10115",    31_500, 1_000, "EUR", "standard 990, freight 9900"),
        ("DE", "10115",    31_501, 1_000, "EUR", "freight 9900"),
        ("DE", "10115",    1,      4_999, "EUR", "standard 390, express 1290, freight 9900"),
        ("DE", "10115",    1,      5_000, "EUR", "standard 0, express 1290, freight 9900"),
        ("DE", "10115",    31_501, 9_000, "EUR", "freight 9900"),
        ("DE", "18565",    1,      1_000, "EUR", "standard 1490"),
        ("DE", "18 565",   1,      1_000, "EUR", "standard 1490"),
        ("DE", "18566",    1,      1_000, "EUR", "standard 390, express 1290, freight 9900"),
        ("DE", "25844",    1,      1_000, "EUR", "standard 390, express 1290, freight 9900"),
        ("DE", "25845",    1,      1_000, "EUR", "standard 1490"),
        ("DE", "25847",    1,     20_000, "EUR", "standard 0"),
        ("DE", "25849",    1,      1_000, "EUR", "standard 1490"),
        ("DE", "25850",    1,      1_000, "EUR", "standard 390, express 1290, freight 9900"),
        ("DE", "26470",    1,      1_000, "EUR", "standard 1490"),
        ("DE", "26470",    5_001,  1_000, "EUR", "weight_g"),
        ("DE", "2584",     1,      1_000, "EUR", "standard 390, express 1290, freight 9900"),
        ("GB", "SW1A 1AA", 1,      2_000, "GBP", "standard 399"),
        ("GB", "SW1A 1AA", 1,      2_001, "GBP", "standard 199"),
        ("GB", "SW1A 1AA", 1,     50_000, "GBP", "standard 0"),
        ("GB", "SW1A 1AA", 1,     50_001, "GBP", "amount_minor"),
        ("GB", "SW1A 1AA", 1,      2_000, "EUR", "currency"),
        ("GB", "iv1 1aa",  1,      2_000, "GBP", "standard 999"),
        ("GB", "HS5 3AA",  1,      2_000, "GBP", "standard 999"),
        ("GB", "HS0",      1,      2_000, "GBP", "standard 399"),
        ("GB", "KW16 3AA", 1,      2_000, "GBP", "standard 999"),
        ("GB", "KW1 4AA",  1,      2_000, "GBP", "standard 399"),
        ("GB", "KW14 7AA", 1,      2_000, "GBP", "standard 399"),
        ("IE", "D02",      1,      2_000, "GBP", "standard 399"),
        // Anywhere else; two that cost the same: the quicker one first.
        ("FR", "75001",    2_000,  1_000, "EUR", "express 2500, standard 2500"),
        ("FR", "75001",    2_001,  1_000, "EUR", "standard 4500"),
        ("FR", "75001",   10_001,  1_000, "EUR", "weight_g"),
        ("FR", "75001",    1,      1_000, "CHF", "currency"),
        // A zone of its own in which nothing active is offered.
        ("KP", "",         1,      1_000, "EUR", "destination.country"),
        // A part of a country is named; the rest of it is anywhere.
        ("CA", "X0A 0A0",  1,      1_000, "EUR", "standard 7700"),
        ("CA", "Y1A 0A0",  1,      1_000, "EUR", "standard 7700"),
        ("CA", "M5V 0A0",  1,      1_000, "EUR", "express 2500, standard 2500"),
    ];
    let rates = shop();
    for (country, postcode, weight_g, amount_minor, currency, expected) in table {
        let parcelled = parcelled(country, postcode, weight_g, amount_minor, currency);
        parcelled.check().expect("what may be asked");
        let said = match quote_some(&rates, &parcelled) {
            Ok(quotes) => quotes.iter().map(|q| format!("{} {}", q.name, q.price_minor)).collect::<Vec<_>>().join(", "),
            Err(error) => {
                assert_eq!((error.code(), quote(&rates, &parcelled).len()), ("shipping.no_method", 0));
                error.field_errors()[0].field.clone()
            }
        };
        assert_eq!(said, expected, "{parcelled:?}");
    }
}

#[test]
fn where_only_parts_of_a_country_are_served_the_postcode_stands_in_the_way() {
    let zones = [zone(1, &[("DE", &[("10", "14")])])];
    let rates = Rates::new(&zones, vec![method(1, "bike", true, (0, 0))], vec![rate(1, 1, "EUR", Basis::Weight, "9000:500", None)]);
    let field = |country: &str, postcode: &str| {
        let error = quote_some(&rates, &parcelled(country, postcode, 1, 1, "EUR")).expect_err("nothing is offered");
        (error.field_errors()[0].field.clone(), error.field_errors()[0].detail.clone())
    };
    assert_eq!(quote(&rates, &parcelled("DE", "12099", 1, 1, "EUR"))[0].price_minor, 500);
    assert_eq!(field("DE", "80331"), ("destination.postcode".to_owned(), "nothing is shipped to this postcode".to_owned()));
    assert_eq!(field("DE", ""), ("destination.postcode".to_owned(), "say the postcode".to_owned()));
    assert_eq!(field("FR", "12099").0, "destination.country");
}

#[test]
fn a_chosen_method_is_quoted_or_named() {
    let rates = shop();
    let light = parcelled("DE", "10115", 1, 1_000, "EUR");
    assert_eq!(quote_of(&rates, &light, MethodId::from_i64(2)).expect("express").price_minor, 1_290);
    let heavy = parcelled("DE", "10115", 20_000, 1_000, "EUR");
    let error = quote_of(&rates, &heavy, MethodId::from_i64(2)).expect_err("too heavy for express");
    assert_eq!((error.code(), error.field_errors()[0].field.as_str()), ("shipping.no_method", "method_id"));
    let error = quote_of(&rates, &parcelled("KP", "", 1, 1, "EUR"), MethodId::from_i64(1)).expect_err("nothing goes there");
    assert_eq!(error.field_errors()[0].field, "destination.country");
}

#[test]
fn zones_that_share_addresses_are_found() {
    /// Countries with the first and the last postcode.
    type Areas = &'static [(&'static str, &'static str, &'static str)];
    let table: &[(Areas, Areas, Option<&str>)] = &[
        (&[("DE", "", "")], &[("FR", "", "")], None),
        (&[("DE", "", "")], &[("DE", "", "")], Some("DE")),
        (&[("*", "", "")], &[("*", "", "")], Some("*")),
        (&[("DE", "", "")], &[("DE", "10", "")], None),
        (&[("DE", "10", "")], &[("DE", "10", "")], Some("DE 10")),
        (&[("DE", "10", "19")], &[("DE", "19", "25")], Some("DE 19")),
        (&[("DE", "10", "19")], &[("DE", "20", "25")], None),
        (&[("DE", "10", "19")], &[("DE", "101", "105")], None),
        (&[("DE", "10", "19")], &[("AT", "10", "19")], None),
        // The one in between ends before the one that it lies in.
        (&[("DE", "10", "90"), ("DE", "20", "30")], &[("DE", "40", "50")], Some("DE 40")),
        (&[("DE", "10", "12")], &[("DE", "1-0", " 10 ")], Some("DE 10")),
    ];
    for (one, other, expected) in table {
        let build = |number: i64, areas: &[(&str, &str, &str)]| {
            let areas: Vec<Area> = areas
                .iter()
                .map(|(country, from, to)| Area {
                    country: (*country).to_owned(),
                    postcodes: if from.is_empty() { Vec::new() } else { vec![Range { from: (*from).to_owned(), to: (*to).to_owned() }] },
                })
                .collect();
            Zone { areas: normal_areas(&areas).expect("areas"), ..zone(number, &[("DE", &[])]) }
        };
        let zones = [build(1, one), build(2, other)];
        assert_eq!(overlap(&zones).map(|(_, _, what)| what).as_deref(), *expected, "{one:?} {other:?}");
    }
}

#[test]
fn what_is_no_area_and_no_rate_is_refused_by_its_field() {
    let area = |country: &str, from: &str, to: &str| {
        let postcodes = if from.is_empty() { Vec::new() } else { vec![Range { from: from.to_owned(), to: to.to_owned() }] };
        normal_areas(&[Area { country: country.to_owned(), postcodes }])
    };
    let areas = [
        (area("Germany", "", ""), "areas[0].country"),
        (area("de", "", ""), "areas[0].country"),
        (area("*", "10", ""), "areas[0].postcodes"),
        (area("DE", "--", ""), "areas[0].postcodes[0].from"),
        (area("DE", "10", "9"), "areas[0].postcodes[0].to"),
        (area("DE", "20", "10"), "areas[0].postcodes[0].to"),
        (normal_areas(&[]), "areas"),
    ];
    for (answer, field) in areas {
        assert_eq!(answer.expect_err(field).field_errors()[0].field, field);
    }
    let tier = |up_to: Option<i64>, price_minor: i64| Tier { up_to, price_minor };
    let rates = [
        (vec![], None, "tiers"),
        (vec![tier(None, 1), tier(Some(5), 2)], None, "tiers[0].up_to"),
        (vec![tier(Some(5), 1), tier(Some(5), 2)], None, "tiers[1].up_to"),
        (vec![tier(Some(-1), 1)], None, "tiers[0].up_to"),
        (vec![tier(None, -1)], None, "tiers[0].price_minor"),
        (vec![tier(None, 1_000_000_000_001)], None, "tiers[0].price_minor"),
        (vec![tier(None, 1)], Some(-1), "free_from_minor"),
        (vec![tier(None, 1); 51], None, "tiers"),
    ];
    for (tiers, free_from_minor, field) in rates {
        let error = NewRate { basis: Basis::Weight, tiers, free_from_minor }.check().expect_err(field);
        assert_eq!(error.field_errors()[0].field, field);
    }
}

/// The zone of an address by looking at every range of every zone.
fn naive(zones: &[Zone], destination: &Destination) -> Option<ZoneId> {
    let postcode = normal_postcode(&destination.postcode);
    let mut best: Option<(usize, ZoneId)> = None;
    for zone in zones {
        for area in zone.areas.iter().filter(|area| area.country == destination.country) {
            let lengths = area.postcodes.iter().filter(|range| {
                postcode.len() >= range.from.len() && postcode[..range.from.len()] >= *range.from && postcode[..range.to.len()] <= *range.to
            });
            let length = if area.postcodes.is_empty() { Some(0) } else { lengths.map(|range| range.from.len()).max() };
            if let Some(length) = length.filter(|length| best.is_none_or(|(most, _)| *length > most)) {
                best = Some((length, zone.zone_id));
            }
        }
    }
    let anywhere = || zones.iter().find(|zone| zone.areas.iter().any(|area| area.country == ANYWHERE)).map(|zone| zone.zone_id);
    best.map(|(_, zone_id)| zone_id).or_else(anywhere)
}

fn areas() -> impl Strategy<Value = Vec<Area>> {
    let range = ("[0-3]{1,3}", 0_u32..30).prop_map(|(from, more)| {
        let to: u32 = from.parse::<u32>().expect("digits") + more;
        let to = format!("{to:0width$}", width = from.len());
        let to = if to.len() == from.len() { to } else { String::new() };
        Range { from, to }
    });
    let area = (prop::sample::select(vec!["DE", "FR", "*"]), prop::collection::vec(range, 0..3)).prop_map(|(country, postcodes)| Area {
        country: country.to_owned(),
        postcodes: if country == "*" { Vec::new() } else { postcodes },
    });
    prop::collection::vec(area, 1..4)
}

proptest! {
    /// Whatever the zones are, as long as they are apart: an address lies where a look at every range finds it; and when no two were found
    /// to overlap, no address lies in two equally closely.
    #[test]
    fn an_address_lies_in_the_zone_that_names_it_most_closely(
        drawn in prop::collection::vec(areas(), 1..5), country in prop::sample::select(vec!["DE", "FR", "US"]), postcode in "[0-4]{0,4}"
    ) {
        let zones: Vec<Zone> = (1..).zip(&drawn).map(|(n, areas)| Zone { areas: normal_areas(areas).expect("areas"), ..zone(n, &[("DE", &[])]) }).collect();
        let destination = Destination { country: country.to_owned(), postcode };
        let backwards: Vec<Zone> = zones.iter().rev().cloned().collect();
        prop_assert_eq!(overlap(&zones).is_some(), overlap(&backwards).is_some());
        if overlap(&zones).is_none() {
            let found = Rates::new(&zones, Vec::new(), Vec::new()).zone_of(&destination);
            prop_assert_eq!(found, naive(&zones, &destination));
            prop_assert_eq!(found, naive(&backwards, &destination));
        }
    }

    /// A heavier parcel never costs less as long as the table rises, and free shipping never makes anything possible that was not.
    #[test]
    fn tiers_hold_what_they_say(limits in prop::collection::btree_set(1_i64..1_000, 1..6), weight_g in 0_i64..1_200, amount_minor in 0_i64..2_000, free in prop::option::of(0_i64..2_000)) {
        let tiers: Vec<Tier> = limits.iter().map(|up_to| Tier { up_to: Some(*up_to), price_minor: up_to * 2 }).collect();
        let currency: Currency = "EUR".parse().expect("a currency");
        let mut table = rate(1, 1, "EUR", Basis::Weight, "*:1", None);
        table.set = NewRate { basis: Basis::Weight, tiers, free_from_minor: free };
        let rates = Rates::new(&[zone(1, &[("*", &[])])], vec![method(1, "m", true, (1, 2))], vec![table]);
        let parcelled = Parcelled { destination: Destination { country: "US".to_owned(), postcode: String::new() }, weight_g, amount_minor, currency };
        let expected = limits.iter().find(|limit| **limit >= weight_g).map(|limit| if free.is_some_and(|f| amount_minor >= f) { 0 } else { limit * 2 });
        prop_assert_eq!(quote(&rates, &parcelled).first().map(|q| q.price_minor), expected);
    }
}
