//! Tests: the pure core as a table of cases (`table`), as rules told one by one (`rules`) and as properties (`properties`); what needs a
//! store, on both engines, in `http` and `races`.

mod http;
mod properties;
mod races;
mod rules;
mod table;

use crate::api::*;
use kernel::{Currency, Timestamp};

/// The application under test.
fn setup() -> testkit::Setup {
    testkit::Setup::new(vec![crate::module()])
}

fn eur() -> Currency {
    "EUR".parse().unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A basket of nothing, in EUR, at the end of January 2026.
fn empty() -> Basket {
    Basket {
        currency: eur(),
        at: at("2026-01-31T12:00:00Z"),
        country: None,
        postcode: None,
        customer_groups: Vec::new(),
        vat_id: None,
        lines: Vec::new(),
        charges: Vec::new(),
        coupons: Vec::new(),
        prices: Vec::new(),
    }
}

/// A basket of these SKUs, quantities and prices, numbered from 1.
fn basket(lines: &[(&str, i64, &str)]) -> Basket {
    let line = |(line, (sku, quantity, price)): (u32, &(&str, i64, &str))| BasketLine {
        line,
        sku: (*sku).to_owned(),
        quantity: *quantity,
        list_price: Some(price.parse().unwrap()),
        tax_class: None,
        labels: Vec::new(),
    };
    Basket { lines: (1..).zip(lines).map(line).collect(), ..empty() }
}

fn shipping(line: u32, amount_minor: i64) -> Charge {
    Charge { line, kind: ChargeKind::Shipping, name: "Post".to_owned(), amount_minor, tax_class: None }
}

/// A promotion for everything and everybody.
fn promotion(name: &str, effect: Effect) -> PromotionSpec {
    PromotionSpec {
        name: name.to_owned(),
        status: Status::Active,
        coupon_required: false,
        priority: 0,
        stacking: Stacking::Combinable,
        currency: Some(eur()),
        starts_at: None,
        ends_at: None,
        customer_groups: Vec::new(),
        target: Target::default(),
        minimum: None,
        effect,
        max_discount_minor: None,
    }
}

fn percent(text: &str) -> Percent {
    text.parse().unwrap()
}

fn percent_off(text: &str) -> Effect {
    Effect::Percent { percent: percent(text) }
}

/// Numbered from 1, in the order of their ids.
fn promotions(specs: Vec<PromotionSpec>) -> Vec<Promotion> {
    let zero = Timestamp::from_micros(0);
    let promotion =
        |(id, spec)| Promotion { promotion_id: PromotionId::from_i64(id), spec, version: 1, created_at: zero, updated_at: zero };
    (1..).zip(specs).map(promotion).collect()
}

fn period(from: &str, rates: &[(&str, &str)]) -> TaxPeriod {
    let rates = rates.iter().map(|(name, rate)| ((*name).to_owned(), percent(rate))).collect();
    TaxPeriod { effective_from: from.to_owned(), rates, exceptions: Vec::new() }
}

/// Rules of promotions alone: no tax.
fn promoting(specs: Vec<PromotionSpec>) -> Rules {
    Rules::compile(1, TaxSettings::default(), Vec::new(), promotions(specs), Vec::new()).unwrap()
}
