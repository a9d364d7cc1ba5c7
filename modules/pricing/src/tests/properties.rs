//! Properties of the core: whatever the rules and the basket, amounts add up to the minor unit.

use super::{at, empty, percent, promotions};
use crate::api::*;
use crate::engine::round::{round, share, split};
use kernel::{Currency, UnitPrice};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Cases of each property; more by `BRANDOS_PRICING_CASES`.
fn cases() -> ProptestConfig {
    let cases = std::env::var("BRANDOS_PRICING_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(400);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

const CLASSES: [&str; 4] = ["standard", "reduced", "exempt", "books"];
const LABELS: [&str; 4] = ["shoes", "summer", "gift", "sale"];
const SKUS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

fn any_percent() -> impl Strategy<Value = Percent> {
    prop_oneof![Just(1_000_000_u32), 1_u32..1_000_000, (1_u32..100).prop_map(|p| p * 10_000)]
        .prop_map(|millionths| Percent::from_millionths(millionths).unwrap())
}

fn any_target() -> impl Strategy<Value = Target> {
    let some = |words: &'static [&'static str]| proptest::sample::subsequence(words, 0..2);
    (some(&SKUS), some(&LABELS), some(&SKUS), some(&LABELS)).prop_map(|(skus, labels, except_skus, except_labels)| {
        let owned = |words: Vec<&str>| words.into_iter().map(str::to_owned).collect();
        Target { skus: owned(skus), labels: owned(labels), except_skus: owned(except_skus), except_labels: owned(except_labels) }
    })
}

fn any_effect() -> impl Strategy<Value = Effect> {
    let step = (1_i64..5_000, any_percent(), any::<bool>(), 1_i64..3_000).prop_map(|(at_least, percent, by_percent, amount_minor)| {
        if by_percent { Tier { at_least, percent, amount_minor: 0 } } else { Tier { at_least, percent: Percent::ZERO, amount_minor } }
    });
    let steps = proptest::collection::vec(step, 1..4).prop_map(|steps| {
        let by_start: BTreeMap<i64, Tier> = steps.into_iter().map(|step| (step.at_least, step)).collect();
        by_start.into_values().collect::<Vec<_>>()
    });
    prop_oneof![
        any_percent().prop_map(|percent| Effect::Percent { percent }),
        (1_i64..20_000).prop_map(|amount_minor| Effect::Amount { amount_minor }),
        (1_i64..500).prop_map(|amount_minor| Effect::AmountEach { amount_minor }),
        (1_i64..4, 1_i64..3, any_percent(), proptest::option::of(any_target()), proptest::option::of(1_i64..4))
            .prop_map(|(buy, get, percent, get_target, at_most)| Effect::BuyGet { buy, get, percent, get_target, at_most }),
        proptest::option::of(1_i64..600).prop_map(|at_most_minor| Effect::FreeShipping { at_most_minor }),
        (prop_oneof![Just(TierMeasure::Amount), Just(TierMeasure::Quantity)], steps).prop_map(|(by, steps)| Effect::Tiers { by, steps }),
    ]
}

fn any_promotion() -> impl Strategy<Value = PromotionSpec> {
    let stacking = prop_oneof![4 => Just(Stacking::Combinable), 1 => Just(Stacking::ExclusiveOnLines), 1 => Just(Stacking::Exclusive)];
    let minimum = proptest::option::of(
        (0_i64..3_000, 0_i64..5, prop_oneof![Just(Of::Target), Just(Of::Order)]).prop_map(|(amount_minor, quantity, of)| Minimum {
            amount_minor,
            quantity,
            of,
        }),
    );
    (-2_i32..3, stacking, any_target(), minimum, any_effect(), proptest::option::of(1_i64..1_000)).prop_map(
        |(priority, stacking, target, minimum, effect, max_discount_minor)| PromotionSpec {
            priority,
            stacking,
            target,
            minimum,
            max_discount_minor,
            currency: None,
            ..super::promotion("some", effect)
        },
    )
}

fn any_settings() -> impl Strategy<Value = TaxSettings> {
    let origin = prop_oneof![Just(None), Just(Some("DE".to_owned()))];
    (any::<bool>(), any::<bool>(), origin, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(prices_include_tax, per_order, origin_country, reverse_charge, keep, elsewhere)| TaxSettings {
            prices_include_tax,
            rounding: if per_order { Rounding::Order } else { Rounding::Line },
            origin_country,
            reverse_charge,
            untaxed_price: if keep { UntaxedPrice::Keep } else { UntaxedPrice::RemoveTax },
            unregistered: if elsewhere { Unregistered::OriginTax } else { Unregistered::NoTax },
            registrations: vec![Registration { country: "FR".to_owned(), number: None, starts_at: None }],
            ..TaxSettings::default()
        },
    )
}

fn any_basket() -> impl Strategy<Value = Basket> {
    let price = prop_oneof![(0_i64..200_000).prop_map(|minor| minor * 10_000), 0_i64..300_000_000];
    let labels = proptest::sample::subsequence(&LABELS[..], 0..3);
    let line = (0..SKUS.len(), prop_oneof![5 => 1_i64..12, 1 => 1_i64..100_000], price, 0..CLASSES.len(), labels);
    let lines = proptest::collection::vec(line, 1..12);
    let charges = proptest::collection::vec(0_i64..2_000, 0..3);
    let country = proptest::option::of(proptest::sample::select(vec!["DE", "FR", "US"]));
    let currency = proptest::sample::select(vec!["EUR", "JPY", "KWD"]);
    (lines, charges, country, currency, any::<bool>()).prop_map(|(lines, charges, country, currency, business)| {
        let count = lines.len() as u32;
        let line = |(line, (sku, quantity, micros, class, labels)): (u32, (usize, i64, i64, usize, Vec<&str>))| BasketLine {
            line,
            sku: SKUS[sku].to_owned(),
            quantity,
            list_price: Some(UnitPrice::from_micros(micros)),
            tax_class: Some(CLASSES[class].to_owned()),
            labels: labels.into_iter().map(str::to_owned).collect(),
        };
        Basket {
            currency: currency.parse().unwrap(),
            country: country.map(str::to_owned),
            postcode: Some("97110".to_owned()),
            vat_id: business.then(|| "FR12345678901".to_owned()),
            lines: (1..).zip(lines).map(line).collect(),
            charges: (count + 1..).zip(charges).map(|(number, amount)| super::shipping(number, amount)).collect(),
            ..empty()
        }
    })
}

fn countries() -> Vec<(String, Vec<TaxPeriod>)> {
    let german = super::period("0000-01-01", &[("standard", "19"), ("reduced", "7")]);
    let mut french = super::period("0000-01-01", &[("standard", "20"), ("reduced", "5.5"), ("books", "2.1")]);
    let rates = [("standard".to_owned(), percent("8.5"))].into();
    french.exceptions.push(TaxException { name: "Guadeloupe".to_owned(), postcode: r"971\d{2,}".to_owned(), rates });
    vec![("DE".to_owned(), vec![german]), ("FR".to_owned(), vec![french])]
}

fn compiled(settings: TaxSettings, specs: Vec<PromotionSpec>) -> Rules {
    Rules::compile(1, settings, Vec::new(), promotions(specs), countries()).unwrap()
}

/// What has to hold of whatever was priced.
fn adds_up(priced: &Priced) {
    let sum = |of: fn(&PricedLine) -> i64| priced.lines.iter().map(of).sum::<i64>();
    for line in &priced.lines {
        assert_eq!(line.extended_minor, line.unit_price.extended(line.quantity, priced.currency).unwrap().minor);
        assert_eq!(line.total_minor, line.extended_minor - line.discount_minor + line.tax_minor);
        assert!(line.discount_minor >= 0 && line.discount_minor <= line.extended_minor, "{line:?}");
        assert!(line.tax_minor >= 0 && line.included_tax_minor >= 0 && (line.tax_minor == 0 || line.included_tax_minor == 0), "{line:?}");
        assert!(line.included_tax_minor <= line.total_minor, "{line:?}");
        // Rounded per line or shared out of the sum: never a whole unit away from the exact tax.
        let (base, rate) = (i128::from(line.extended_minor - line.discount_minor), i128::from(line.tax.rate.millionths()));
        let whole = if line.tax.included { 1_000_000 + rate } else { 1_000_000 };
        let away = i128::from(line.tax_minor + line.included_tax_minor) * whole - base * rate;
        assert!(away.abs() < whole, "{line:?}");
    }
    let totals = &priced.totals;
    assert_eq!(totals.total_minor, sum(|line| line.total_minor));
    assert_eq!(totals.tax_minor, sum(|line| line.tax_minor));
    assert_eq!(totals.included_tax_minor, sum(|line| line.included_tax_minor));
    assert_eq!(totals.discount_minor, sum(|line| line.discount_minor));
    assert_eq!(totals.goods_minor + totals.charges_minor - totals.discount_minor + totals.tax_minor, totals.total_minor);
    // Taxes by rate are those of the lines, and a rate's base and tax are what was paid.
    let of_rates: i64 = priced.taxes.iter().map(|tax| tax.tax_minor).sum();
    assert_eq!(of_rates, totals.tax_minor + totals.included_tax_minor);
    if priced.tax.country.is_some() {
        let paid: i64 = priced.taxes.iter().map(|tax| tax.base_minor + tax.tax_minor).sum();
        assert_eq!(paid, totals.total_minor);
    } else {
        assert!(priced.taxes.is_empty() && of_rates == 0);
    }
    if priced.tax.rounding == Rounding::Order {
        for tax in &priced.taxes {
            let paid = i128::from(tax.base_minor) + if tax.included { i128::from(tax.tax_minor) } else { 0 };
            let rate = i128::from(tax.rate.millionths());
            assert_eq!(tax.tax_minor, round(paid * rate, if tax.included { 1_000_000 + rate } else { 1_000_000 }), "{tax:?}");
        }
    }
    // The explanation adds up to the discounts, line by line.
    let mut explained: BTreeMap<u32, i64> = BTreeMap::new();
    for adjustment in &priced.adjustments {
        assert_eq!(adjustment.amount_minor, adjustment.lines.iter().map(|line| line.amount_minor).sum::<i64>());
        assert!(adjustment.amount_minor > 0);
        for line in &adjustment.lines {
            assert!(line.amount_minor > 0);
            *explained.entry(line.line).or_default() += line.amount_minor;
        }
    }
    for line in &priced.lines {
        assert_eq!(explained.get(&line.line).copied().unwrap_or(0), line.discount_minor, "{line:?}");
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn whatever_is_priced_adds_up(
        settings in any_settings(),
        specs in proptest::collection::vec(any_promotion(), 0..12),
        basket in any_basket(),
    ) {
        let rules = compiled(settings, specs.clone());
        let priced = price(&rules, &basket).unwrap();
        adds_up(&priced);
        prop_assert_eq!(&priced, &price(&rules, &basket).unwrap());
        // Each promotion is explained, once.
        prop_assert_eq!(priced.adjustments.len() + priced.not_applied.len(), specs.len());
        let exclusive = |name: &Adjustment| rules.promotions.iter().any(|r| r.promotion_id == name.promotion_id && r.spec.stacking == Stacking::Exclusive);
        prop_assert!(priced.adjustments.len() < 2 || !priced.adjustments.iter().any(exclusive));
        for adjustment in &priced.adjustments {
            let rule = rules.promotions.iter().find(|rule| rule.promotion_id == adjustment.promotion_id).unwrap();
            prop_assert!(rule.spec.max_discount_minor.is_none_or(|most| adjustment.amount_minor <= most));
        }
        // What is stored is what was priced.
        let stored = serde_json::to_string(&priced.snapshot()).unwrap();
        prop_assert_eq!(serde_json::from_str::<PricedSnapshot>(&stored).unwrap(), priced.snapshot());
    }

    #[test]
    fn refunds_of_parts_add_up_to_the_whole(
        settings in any_settings(),
        specs in proptest::collection::vec(any_promotion(), 0..6),
        basket in any_basket(),
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..30),
    ) {
        let snapshot = price(&compiled(settings, specs), &basket).unwrap().snapshot();
        let (mut already, mut given) = (Vec::new(), Vec::new());
        let left = |already: &[LineQuantity], line: &PricedLine| {
            line.quantity - already.iter().filter(|part| part.line == line.line).map(|part| part.quantity).sum::<i64>()
        };
        for (line, quantity) in cuts {
            let line = line.get(&snapshot.lines);
            let left = left(&already, line);
            if left > 0 {
                let part = LineQuantity { line: line.line, quantity: 1 + quantity.index(left as usize) as i64 };
                given.push(refund(&snapshot, &already, &[part]).unwrap());
                already.push(part);
            }
        }
        let rest: Vec<LineQuantity> = snapshot.lines.iter().map(|line| LineQuantity { line: line.line, quantity: left(&already, line) }).filter(|part| part.quantity > 0).collect();
        if !rest.is_empty() {
            given.push(refund(&snapshot, &already, &rest).unwrap());
            already.extend(rest);
        }
        let parts: Vec<&RefundLine> = given.iter().flat_map(|refund| &refund.lines).collect();
        for line in &snapshot.lines {
            let sum = |of: fn(&RefundLine) -> i64| parts.iter().filter(|part| part.line == line.line).map(|part| of(part)).sum::<i64>();
            prop_assert_eq!(sum(|part| part.extended_minor), line.extended_minor);
            prop_assert_eq!(sum(|part| part.discount_minor), line.discount_minor);
            prop_assert_eq!(sum(|part| part.tax_minor), line.tax_minor);
            prop_assert_eq!(sum(|part| part.included_tax_minor), line.included_tax_minor);
            prop_assert_eq!(sum(|part| part.total_minor), line.total_minor);
        }
        for part in &parts {
            let amounts = [part.extended_minor, part.discount_minor, part.tax_minor, part.included_tax_minor, part.total_minor];
            prop_assert!(amounts.iter().all(|amount| *amount >= 0), "{:?}", part);
            prop_assert_eq!(part.total_minor, part.extended_minor - part.discount_minor + part.tax_minor);
            prop_assert!(part.included_tax_minor <= part.total_minor);
        }
        prop_assert_eq!(given.iter().map(|refund| refund.total_minor).sum::<i64>(), snapshot.totals.total_minor);
        let line = &snapshot.lines[0];
        let more = [LineQuantity { line: line.line, quantity: 1 }];
        prop_assert_eq!(refund(&snapshot, &already, &more).unwrap_err().code(), "pricing.refund_too_much");
    }

    #[test]
    fn shares_add_up_and_are_close(exact in proptest::collection::vec(0_i128..1_000_000_000_000, 0..50), denominator in 1_i128..2_000_000) {
        let shares = share(&exact, denominator);
        prop_assert_eq!(shares.iter().sum::<i64>(), round(exact.iter().sum(), denominator));
        for (share, exact) in shares.iter().zip(&exact) {
            let away = i128::from(*share) * denominator - exact;
            prop_assert!(away.abs() < denominator);
        }
        // The naive way: sort all of them by their fractions.
        let mut order: Vec<usize> = (0..exact.len()).collect();
        order.sort_by_key(|i| (-(exact[*i] % denominator), *i));
        let mut naive: Vec<i64> = exact.iter().map(|exact| (exact / denominator) as i64).collect();
        let missing = round(exact.iter().sum(), denominator) - naive.iter().sum::<i64>();
        for i in order.into_iter().take(missing as usize) {
            naive[i] += 1;
        }
        prop_assert_eq!(shares, naive);
    }

    #[test]
    fn a_split_is_never_more_than_its_weight(weights in proptest::collection::vec(0_i64..1_000_000_000_000, 1..50), part in 0_u32..=1_000) {
        let sum: i64 = weights.iter().sum();
        prop_assume!(sum > 0);
        let amount = (i128::from(sum) * i128::from(part) / 1_000) as i64;
        let parts = split(amount, &weights);
        prop_assert_eq!(parts.iter().sum::<i64>(), amount);
        prop_assert!(parts.iter().zip(&weights).all(|(part, weight)| part <= weight));
    }

    #[test]
    fn a_percentage_is_read_as_it_is_written(millionths in 0_u32..=1_000_000) {
        let percent = Percent::from_millionths(millionths).unwrap();
        prop_assert_eq!(percent.to_string().parse::<Percent>().unwrap(), percent);
        let json = serde_json::to_string(&percent).unwrap();
        prop_assert_eq!(serde_json::from_str::<Percent>(&json).unwrap(), percent);
        prop_assert_eq!(serde_json::from_str::<Percent>(&format!("\"{percent}\"")).unwrap(), percent);
    }
}

/// The largest basket there is: nothing overflows.
#[test]
fn the_largest_amounts() {
    let currency: Currency = "CLF".parse().unwrap();
    let line = |line| BasketLine {
        line,
        sku: "a".to_owned(),
        quantity: 1_000,
        list_price: Some(UnitPrice::from_micros(10_000_000_000)),
        tax_class: None,
        labels: Vec::new(),
    };
    let basket = Basket { currency, at: at("2026-01-01T00:00:00Z"), lines: (1..=1_000).map(line).collect(), ..empty() };
    for (per_order, include) in [(true, true), (false, true), (true, false), (false, false)] {
        let settings = TaxSettings {
            prices_include_tax: include,
            rounding: if per_order { Rounding::Order } else { Rounding::Line },
            origin_country: Some("DE".to_owned()),
            ..TaxSettings::default()
        };
        let specs =
            ["99.9999", "0.0001", "50"].map(|off| PromotionSpec { currency: None, ..super::promotion("some", super::percent_off(off)) });
        let priced = price(&compiled(settings, specs.to_vec()), &basket).unwrap();
        adds_up(&priced);
        assert_eq!(priced.totals.goods_minor, 100_000_000_000_000);
        let parts = |from, to| (from..=to).map(|line| LineQuantity { line, quantity: 1_000 }).collect::<Vec<_>>();
        let first = refund(&priced.snapshot(), &[], &parts(1, 500)).unwrap();
        let second = refund(&priced.snapshot(), &parts(1, 500), &parts(501, 1_000)).unwrap();
        assert_eq!(first.total_minor + second.total_minor, priced.totals.total_minor);
    }
    let mut more = basket;
    more.lines[0].quantity += 1;
    assert!(price(&Rules::default(), &more).unwrap_err().field_errors().iter().any(|field| field.field == "lines"));
}
