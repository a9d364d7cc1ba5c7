//! The table of cases in `cases.txt`: the amounts were worked out with exact fractions, apart from this code.

use super::{empty, period, promotion, promotions};
use crate::api::*;
use kernel::{Currency, Timestamp};
use std::collections::BTreeMap;
use std::str::SplitWhitespace;

const CASES: &str = include_str!("cases.txt");

struct Line {
    goods: bool,
    quantity: i64,
    price: String,
    rate: String,
    included: bool,
    expected: [i64; 5],
}

#[derive(Default)]
struct Case {
    name: String,
    currency: String,
    include: bool,
    per_order: bool,
    lines: Vec<Line>,
    promotions: Vec<(String, String)>,
    sum: [i64; 4],
    refunds: Vec<(Vec<LineQuantity>, [i64; 3])>,
}

fn numbers<const N: usize>(words: SplitWhitespace<'_>) -> [i64; N] {
    let numbers: Vec<i64> = words.map(|word| word.parse().unwrap()).collect();
    numbers.try_into().unwrap()
}

fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in CASES.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let mut words = line.split_whitespace();
        let kind = words.next().unwrap();
        if kind == "case" {
            let words: Vec<&str> = words.collect();
            let [name, currency, "prices", include, "rounding", rounding] = words[..] else { panic!("{line}") };
            let (include, per_order) = (include == "include", rounding == "order");
            cases.push(Case { name: name.to_owned(), currency: currency.to_owned(), include, per_order, ..Case::default() });
            continue;
        }
        let case = cases.last_mut().unwrap();
        match kind {
            "goods" | "charge" => {
                let (left, right) = line.split_once("=>").unwrap();
                let left: Vec<&str> = left.split_whitespace().collect();
                let [_, quantity, "x", price, rate, included] = left[..] else { panic!("{line}") };
                case.lines.push(Line {
                    goods: kind == "goods",
                    quantity: quantity.parse().unwrap(),
                    price: price.to_owned(),
                    rate: rate.trim_end_matches('%').to_owned(),
                    included: included == "in",
                    expected: numbers(right.split_whitespace()),
                });
            }
            "promotion" => case.promotions.push((words.next().unwrap().to_owned(), words.next().unwrap().to_owned())),
            "sum" => case.sum = numbers(words),
            "refund" => {
                let (left, right) = line.split_once("=>").unwrap();
                let part = |word: &str| {
                    let (line, quantity) = word.split_once(':').unwrap();
                    LineQuantity { line: line.parse().unwrap(), quantity: quantity.parse().unwrap() }
                };
                let parts = left.split_whitespace().skip(1).map(part).collect();
                case.refunds.push((parts, numbers(right.split_whitespace())));
            }
            other => panic!("{other}"),
        }
    }
    cases
}

/// The case's rules: a country with a rate for each class, and a price list for the lines that are priced the other way.
fn rules(case: &Case) -> Rules {
    let mut rates: BTreeMap<String, Percent> = [("standard".to_owned(), Percent::ZERO)].into();
    rates.extend(case.lines.iter().map(|line| (format!("rate {}", line.rate), line.rate.parse().unwrap())));
    let settings = TaxSettings {
        prices_include_tax: case.include,
        rounding: if case.per_order { Rounding::Order } else { Rounding::Line },
        origin_country: Some("DE".to_owned()),
        ..TaxSettings::default()
    };
    let other = PriceList {
        price_list_id: PriceListId::from_i64(1),
        spec: PriceListSpec {
            name: "the other way".to_owned(),
            currency: case.currency.parse().unwrap(),
            status: Status::Active,
            priority: 0,
            customer_group: None,
            prices_include_tax: Some(!case.include),
            starts_at: None,
            ends_at: None,
        },
        version: 1,
        created_at: Timestamp::from_micros(0),
        updated_at: Timestamp::from_micros(0),
    };
    let effect = |(kind, value): &(String, String)| match kind.as_str() {
        "percent" => Effect::Percent { percent: value.parse().unwrap() },
        "amount" => Effect::Amount { amount_minor: value.parse().unwrap() },
        "each" => Effect::AmountEach { amount_minor: value.parse().unwrap() },
        "shipping" => Effect::FreeShipping { at_most_minor: None },
        other => panic!("{other}"),
    };
    let specs = case.promotions.iter().map(|given| PromotionSpec { currency: None, ..promotion(&given.0, effect(given)) }).collect();
    let countries = vec![("DE".to_owned(), vec![TaxPeriod { rates, ..period("0000-01-01", &[]) }])];
    Rules::compile(1, settings, vec![other], promotions(specs), countries).unwrap()
}

fn priced(case: &Case) -> Priced {
    let currency: Currency = case.currency.parse().unwrap();
    let mut basket = Basket { currency, ..empty() };
    for (number, line) in (1..).zip(&case.lines) {
        let (price, class) = (line.price.parse().unwrap(), Some(format!("rate {}", line.rate)));
        if line.goods {
            let sku = format!("sku-{number}");
            if line.included != case.include {
                basket.prices.push(ListedPrice { list_id: PriceListId::from_i64(1), sku: sku.clone(), min_quantity: 1, price });
            }
            let list_price = (line.included == case.include).then_some(price);
            basket.lines.push(BasketLine { line: number, sku, quantity: line.quantity, list_price, tax_class: class, labels: Vec::new() });
        } else {
            let amount_minor = price.extended(1, currency).unwrap().minor;
            let name = "Post".to_owned();
            basket.charges.push(Charge { line: number, kind: ChargeKind::Shipping, name, amount_minor, tax_class: class });
        }
    }
    price(&rules(case), &basket).unwrap()
}

#[test]
fn every_case_of_the_table() {
    let cases = cases();
    assert!(cases.len() >= 200, "{}", cases.len());
    for case in &cases {
        let priced = priced(case);
        let name = &case.name;
        for (line, expected) in priced.lines.iter().zip(&case.lines) {
            let amounts = [line.extended_minor, line.discount_minor, line.tax_minor, line.included_tax_minor, line.total_minor];
            assert_eq!(amounts, expected.expected, "case {name}, line {}", line.line);
        }
        assert_eq!(priced.lines.len(), case.lines.len());
        let totals = &priced.totals;
        assert_eq!([totals.discount_minor, totals.tax_minor, totals.included_tax_minor, totals.total_minor], case.sum, "case {name}");
        let (snapshot, mut already) = (priced.snapshot(), Vec::new());
        for (parts, expected) in &case.refunds {
            let given = refund(&snapshot, &already, parts).unwrap();
            assert_eq!([given.total_minor, given.tax_minor, given.included_tax_minor], *expected, "case {name}, {parts:?}");
            already.extend(parts);
        }
        let whole: i64 = case.refunds.iter().map(|(_, amounts)| amounts[0]).sum();
        assert_eq!(whole, totals.total_minor, "case {name}: the refunds add up to the whole");
    }
}
