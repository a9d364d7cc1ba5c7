//! Money: splitting that adds up and is fair, unit prices as text and as amounts, and the ISO 4217 list.

use crate::{Currency, Money, UnitPrice};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// ISO 4217 list one by its minor units, written down apart from the kernel's own list: currencies and the funds codes in use.
const ISO_4217: &[(u32, &str)] = &[
    (0, "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"),
    (
        2,
        "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR \
         FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU \
         MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL \
         THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG",
    ),
    (3, "BHD IQD JOD KWD LYD OMR TND"),
    (4, "CLF UYW"),
];

fn currency(code: &str) -> Currency {
    code.parse().expect("an ISO 4217 code")
}

fn eur(minor: i64) -> Money {
    Money::new(minor, currency("EUR"))
}

fn price(text: &str) -> UnitPrice {
    text.parse().expect("a price")
}

fn any_currency() -> impl Strategy<Value = Currency> {
    prop::sample::select(vec!["EUR", "JPY", "KWD", "CLF"]).prop_map(currency)
}

#[test]
fn currencies_are_those_of_iso_4217_with_its_minor_units() {
    let mut codes = BTreeSet::new();
    for (exponent, list) in ISO_4217 {
        for code in list.split_whitespace() {
            assert_eq!(currency(code).exponent(), *exponent, "{code}");
            assert_eq!(currency(code).minor_per_major(), 10_i64.pow(*exponent), "{code}");
            assert!(codes.insert(code.to_owned()), "{code} is listed twice");
        }
    }
    // And none besides: every other combination of three letters is refused.
    let letters = || 'A'..='Z';
    for code in letters().flat_map(|a| letters().flat_map(move |b| letters().map(move |c| [a, b, c].iter().collect::<String>()))) {
        assert_eq!(code.parse::<Currency>().is_ok(), codes.contains(&code), "{code}");
    }
    for code in ["", "eur", "Eur", "EU", "EURO", "EUR ", "€", "ÄÖ", "AED AFN", "D A"] {
        assert_eq!(code.parse::<Currency>().expect_err(code).code(), "money.unknown_currency", "{code}");
    }
}

#[test]
fn amounts_are_shown_with_the_digits_of_their_currency() {
    for (minor, code, text) in [
        (0, "EUR", "0.00 EUR"),
        (5, "EUR", "0.05 EUR"),
        (-5, "EUR", "-0.05 EUR"),
        (123_456, "EUR", "1234.56 EUR"),
        (123_456, "JPY", "123456 JPY"),
        (-1_001, "KWD", "-1.001 KWD"),
        (1, "CLF", "0.0001 CLF"),
        (i64::MIN, "EUR", "-92233720368547758.08 EUR"),
    ] {
        assert_eq!(Money::new(minor, currency(code)).to_string(), text);
    }
}

#[test]
fn arithmetic_is_checked() {
    let code = |result: crate::Result<Money>| result.map_err(|error| error.code());
    assert_eq!(code(eur(1).plus(eur(2))), Ok(eur(3)));
    assert_eq!(code(eur(1).minus(eur(2))), Ok(eur(-1)));
    assert_eq!(code(eur(i64::MAX).plus(eur(1))), Err("money.overflow"));
    assert_eq!(code(eur(i64::MIN).minus(eur(1))), Err("money.overflow"));
    assert_eq!(code(eur(1).plus(Money::new(1, currency("USD")))), Err("money.currency_mismatch"));
    assert_eq!(code(eur(1).minus(Money::new(1, currency("USD")))), Err("money.currency_mismatch"));
}

#[test]
fn splitting_by_hand() {
    let split = |minor, weights: &[u32]| {
        eur(minor).allocate(weights).map(|parts| parts.iter().map(|part| part.minor).collect::<Vec<_>>()).map_err(|error| error.code())
    };
    for (minor, weights, parts) in [
        (100, vec![1, 1, 1], Ok(vec![34, 33, 33])),
        (-100, vec![1, 1, 1], Ok(vec![-34, -33, -33])),
        (5, vec![1, 1], Ok(vec![3, 2])),
        (1, vec![0, 1, 0], Ok(vec![0, 1, 0])),
        (10, vec![70, 30], Ok(vec![7, 3])),
        // Largest remainder first: 0.5, 1.25, 3.25 of 5.
        (5, vec![2, 5, 13], Ok(vec![1, 1, 3])),
        (0, vec![3, 4], Ok(vec![0, 0])),
        (i64::MAX, vec![1], Ok(vec![i64::MAX])),
        (i64::MIN, vec![1], Ok(vec![i64::MIN])),
        (7, vec![], Err("money.no_weights")),
        (7, vec![0, 0], Err("money.no_weights")),
    ] {
        assert_eq!(split(minor, &weights), parts, "{minor} by {weights:?}");
    }
}

proptest! {
    /// The parts add up to the whole, and each is its exact share, rounded up or down to a whole minor unit.
    #[test]
    fn splits_add_up_and_are_fair(minor: i64, weights in prop::collection::vec(prop_oneof![0..5_u32, any::<u32>()], 1..20), currency in any_currency()) {
        prop_assume!(weights.iter().any(|weight| *weight > 0));
        let parts = Money::new(minor, currency).allocate(&weights).expect("there are weights");
        prop_assert_eq!(parts.len(), weights.len());
        prop_assert_eq!(parts.iter().map(|part| i128::from(part.minor)).sum::<i128>(), i128::from(minor));
        let total: i128 = weights.iter().map(|weight| i128::from(*weight)).sum();
        for (part, weight) in parts.iter().zip(&weights) {
            let error = i128::from(part.minor) * total - i128::from(minor) * i128::from(*weight);
            prop_assert!(error.abs() < total, "{} of {} for {} in {}", part.minor, minor, weight, total);
            prop_assert_eq!(part.currency, currency);
        }
    }

    /// Equal weights differ by one at most, and the earlier one never gets less.
    #[test]
    fn equals_get_equal_parts(minor in 0..i64::MAX, weight in 1..1000_u32, number in 1..50_usize) {
        let parts = eur(minor).allocate(&vec![weight; number]).expect("there are weights");
        prop_assert!(parts.windows(2).all(|pair| pair[0].minor >= pair[1].minor));
        prop_assert!(parts[0].minor - parts[number - 1].minor <= 1);
    }

    #[test]
    fn a_split_of_a_debt_mirrors_that_of_a_credit(minor in 0..i64::MAX, weights in prop::collection::vec(0..1000_u32, 1..10)) {
        prop_assume!(weights.iter().any(|weight| *weight > 0));
        let credit: Vec<i64> = eur(minor).allocate(&weights).expect("there are weights").iter().map(|part| part.minor).collect();
        let debt: Vec<i64> = eur(-minor).allocate(&weights).expect("there are weights").iter().map(|part| -part.minor).collect();
        prop_assert_eq!(credit, debt);
    }
}

#[test]
fn prices_as_text() {
    for (text, micros, shown) in [
        ("0", 0, "0"),
        ("-0", 0, "0"),
        ("3", 3_000_000, "3"),
        ("100", 100_000_000, "100"),
        ("12.5", 12_500_000, "12.5"),
        ("12.500000", 12_500_000, "12.5"),
        ("0.001", 1_000, "0.001"),
        ("0.000001", 1, "0.000001"),
        ("-0.125", -125_000, "-0.125"),
        ("007", 7_000_000, "7"),
        ("9223372036854.775807", i64::MAX, "9223372036854.775807"),
        ("-9223372036854.775808", i64::MIN, "-9223372036854.775808"),
    ] {
        assert_eq!(price(text).micros(), micros, "{text}");
        assert_eq!(price(text).to_string(), shown);
    }
    for text in ["", "-", ".", "1.", ".5", "+1", "--1", "1.0000001", "1,5", "1e3", "0x1", " 1", "1 ", "1.-5", "1.5.5", "NaN", "١", "€1"]
    {
        assert_eq!(text.parse::<UnitPrice>().expect_err(text).code(), "money.invalid_price", "{text}");
    }
    for text in ["9223372036854.775808", "-9223372036854.775809", "9223372036855", "99999999999999999999999999"] {
        assert_eq!(text.parse::<UnitPrice>().expect_err(text).code(), "money.overflow", "{text}");
    }
}

#[test]
fn extended_amounts_round_a_half_away_from_zero() {
    for (unit_price, quantity, code, minor) in [
        ("0.125", 1, "EUR", 13),
        ("-0.125", 1, "EUR", -13),
        ("0.125", -1, "EUR", -13),
        ("0.124999", 1, "EUR", 12),
        ("0.005", 1, "EUR", 1),
        ("0.004999", 1, "EUR", 0),
        ("0.5", 1, "JPY", 1),
        ("0.499999", 1, "JPY", 0),
        ("1.0005", 1, "KWD", 1001),
        ("0.00005", 1, "CLF", 1),
        ("2.55", 6, "GBP", 1530),
        // Rounded once, at the end: 0.001 x 1000 is a whole pound.
        ("0.001", 1000, "GBP", 100),
        ("649.5", -1, "GBP", -64_950),
        ("0", i64::MAX, "EUR", 0),
    ] {
        assert_eq!(
            price(unit_price).extended(quantity, currency(code)).expect("it fits"),
            Money::new(minor, currency(code)),
            "{quantity} x {unit_price} {code}"
        );
    }
}

#[test]
fn what_is_too_large_is_refused() {
    for (micros, quantity) in [(i64::MAX, i64::MAX), (i64::MIN, i64::MAX), (i64::MIN, i64::MIN), (i64::MAX, 10_000_000)] {
        for code in ["JPY", "EUR", "CLF"] {
            let money = UnitPrice::from_micros(micros).extended(quantity, currency(code));
            assert_eq!(money.expect_err("too large").code(), "money.overflow", "{micros} x {quantity} {code}");
        }
        assert_eq!(UnitPrice::from_micros(micros).extended_micros(quantity).expect_err("too large").code(), "money.overflow");
    }
    assert_eq!(UnitPrice::from_micros(2_500_000).extended_micros(-4).ok(), Some(-10_000_000));
}

proptest! {
    #[test]
    fn price_text_comes_back(micros: i64) {
        let price = UnitPrice::from_micros(micros);
        prop_assert_eq!(price.to_string().parse::<UnitPrice>().ok(), Some(price));
        let json = serde_json::to_string(&price).expect("a price serialises");
        prop_assert_eq!(serde_json::from_str::<UnitPrice>(&json).ok(), Some(price));
    }

    #[test]
    fn no_price_text_panics(text in "-?[0-9.]{0,30}|\\PC{0,12}") {
        let _ = text.parse::<UnitPrice>();
    }

    /// The rounded amount is within half a minor unit of the exact one, a half goes away from zero, and the sign is symmetric.
    #[test]
    fn extended_amounts_are_the_nearest(micros in -1_000_000_000_000..1_000_000_000_000_i64, quantity in -1_000_000..1_000_000_i64, currency in any_currency()) {
        let money = UnitPrice::from_micros(micros).extended(quantity, currency).expect("it fits");
        let exact = i128::from(micros) * i128::from(quantity) * i128::from(currency.minor_per_major());
        let error = i128::from(money.minor) * 1_000_000 - exact;
        prop_assert!(error.abs() <= 500_000);
        prop_assert!(error.abs() != 500_000 || error.signum() == exact.signum());
        let mirrored = UnitPrice::from_micros(-micros).extended(quantity, currency).expect("it fits");
        prop_assert_eq!(mirrored.minor, -money.minor);
    }

    #[test]
    fn no_multiplication_panics(micros: i64, quantity: i64, currency in any_currency()) {
        let price = UnitPrice::from_micros(micros);
        let _ = price.extended(quantity, currency);
        let _ = price.extended_micros(quantity);
    }
}

#[test]
fn on_the_wire() {
    assert_eq!(serde_json::to_string(&eur(1250)).ok().as_deref(), Some(r#"{"amount_minor":1250,"currency":"EUR"}"#));
    assert_eq!(serde_json::from_str::<Money>(r#"{"amount_minor":1250,"currency":"EUR"}"#).ok(), Some(eur(1250)));
    for json in [
        r#"{"amount_minor":12.5,"currency":"EUR"}"#,
        r#"{"amount_minor":1250,"currency":"ABC"}"#,
        r#"{"currency":"EUR"}"#,
        r#"{"amount_minor":9223372036854775808,"currency":"EUR"}"#,
    ] {
        assert!(serde_json::from_str::<Money>(json).is_err(), "{json}");
    }
    // A price is text: a JSON number would already have been through a float.
    assert!(serde_json::from_str::<UnitPrice>("12.5").is_err());
}
