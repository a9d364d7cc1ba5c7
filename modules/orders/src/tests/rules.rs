//! The pure decisions.

use crate::model::*;
use kernel::{Currency, Faults, Timestamp, UnitPrice};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn currency(code: &str) -> Currency {
    code.parse().expect("a currency")
}

fn price(text: &str) -> UnitPrice {
    text.parse().expect("a price")
}

fn line(sku: &str, quantity: i64, unit_price: &str) -> NewLine {
    NewLine {
        line: None,
        sku: sku.to_owned(),
        variant_id: None,
        description: String::new(),
        quantity,
        unit_price: price(unit_price),
        discount_minor: 0,
        tax_minor: 0,
        included_tax_minor: 0,
        charge: false,
    }
}

/// Every state by every command: the state after it, or why it is refused.
#[test]
fn every_command_in_every_state() {
    const COMMANDS: [(&str, Command); 9] = [
        ("place", Command::Place),
        ("edit", Command::Edit { complete: false }),
        ("edit, complete", Command::Edit { complete: true }),
        ("fulfil part", Command::Fulfil { complete: false }),
        ("fulfil rest", Command::Fulfil { complete: true }),
        ("close", Command::Close),
        ("cancel", Command::Cancel { credited: false }),
        ("cancel, credited", Command::Cancel { credited: true }),
        ("credit", Command::Credit),
    ];
    #[rustfmt::skip]
    let table = [
        //                     draft              placed               partly_fulfilled     fulfilled     closed        cancelled
        ("place",            ["placed",          "not_allowed",       "not_allowed",       "not_allowed", "not_allowed", "not_allowed"]),
        ("edit",             ["draft",           "placed",            "partly_fulfilled",  "not_allowed", "not_allowed", "not_allowed"]),
        ("edit, complete",   ["draft",           "placed",            "fulfilled",         "not_allowed", "not_allowed", "not_allowed"]),
        ("fulfil part",      ["not_allowed",     "partly_fulfilled",  "partly_fulfilled",  "not_allowed", "not_allowed", "not_allowed"]),
        ("fulfil rest",      ["not_allowed",     "fulfilled",         "fulfilled",         "not_allowed", "not_allowed", "not_allowed"]),
        ("close",            ["not_allowed",     "not_allowed",       "not_allowed",       "closed",      "not_allowed", "not_allowed"]),
        ("cancel",           ["cancelled",       "cancelled",         "not_allowed",       "not_allowed", "not_allowed", "not_allowed"]),
        ("cancel, credited", ["has_credit_notes", "has_credit_notes", "not_allowed",       "not_allowed", "not_allowed", "not_allowed"]),
        ("credit",           ["not_allowed",     "placed",            "partly_fulfilled",  "fulfilled",   "closed",      "not_allowed"]),
    ];
    for ((name, command), (row, expected)) in COMMANDS.into_iter().zip(table) {
        assert_eq!(name, row);
        for (state, expected) in State::ALL.iter().zip(expected) {
            let decided = match decide(*state, command) {
                Ok(after) => after.as_str().to_owned(),
                Err(error) => error.code().trim_start_matches("orders.").to_owned(),
            };
            assert_eq!(decided, expected, "{name} when {}", state.as_str());
        }
    }
}

#[test]
fn a_line_is_rounded_half_away_from_zero_then_discounted_and_taxed() {
    // Currency, quantity, price, discount, tax: exact micros, total.
    let table = [
        ("GBP", 1, "0.125", 0, 0, 125_000, 13),
        ("GBP", -1, "0.125", 0, 0, -125_000, -13),
        ("GBP", 3, "0.335", 0, 0, 1_005_000, 101),
        ("GBP", 12, "2.55", 60, 500, 30_600_000, 3_500),
        ("JPY", 1, "0.5", 0, 0, 500_000, 1),
        ("BHD", 2, "0.0005", 0, 0, 1_000, 1),
        ("GBP", 5, "0", 0, 0, 0, 0),
    ];
    for (code, quantity, unit_price, discount_minor, tax_minor, micros, total) in table {
        let new = NewLine { discount_minor, tax_minor, ..line("A", quantity, unit_price) };
        let mut faults = Faults::default();
        let lines = price_lines(DocumentKind::Order, currency(code), &[new], 0, &mut faults);
        faults.finish().expect("a valid line");
        assert_eq!((lines[0].extended.micros(), lines[0].total_minor), (micros, total), "{quantity} x {unit_price} {code}");
        assert_eq!(lines[0].kind, if quantity > 0 { LineKind::Sale } else { LineKind::Adjustment });
    }
}

#[test]
fn what_is_wrong_with_a_line_is_named() {
    use DocumentKind::{Adjustment, CreditNote, Order};
    let good = line("A", 1, "1");
    let with = |change: fn(&mut NewLine)| {
        let mut line = good.clone();
        change(&mut line);
        line
    };
    type Row = (DocumentKind, NewLine, Option<(&'static str, &'static str)>);
    let table: Vec<Row> = vec![
        (Order, good.clone(), None),
        (Order, with(|l| l.quantity = 0), Some(("quantity", "zero"))),
        (Order, with(|l| l.quantity = -3), None),
        (CreditNote, good.clone(), Some(("quantity", "out_of_range"))),
        (CreditNote, with(|l| l.quantity = -3), None),
        (Order, with(|l| l.quantity = 1_000_000_001), Some(("quantity", "out_of_range"))),
        (Order, with(|l| l.quantity = i64::MIN), Some(("quantity", "out_of_range"))),
        (Order, with(|l| l.sku.clear()), Some(("sku", "too_short"))),
        (Order, with(|l| l.sku = "x".repeat(65)), Some(("sku", "too_long"))),
        (Order, with(|l| l.sku = "é".repeat(64)), None),
        (Order, with(|l| l.sku.push('\u{7}')), Some(("sku", "control_character"))),
        (Order, with(|l| l.description = "é".repeat(501)), Some(("description", "too_long"))),
        (Order, with(|l| l.unit_price = price("-1")), Some(("unit_price", "out_of_range"))),
        (Adjustment, with(|l| l.unit_price = price("-1")), None),
        (Order, with(|l| l.unit_price = UnitPrice::from_micros(i64::MAX)), Some(("unit_price", "out_of_range"))),
        (Order, with(|l| l.discount_minor = -1), Some(("discount_minor", "wrong_sign"))),
        (Order, with(|l| l.discount_minor = 101), Some(("discount_minor", "too_large"))),
        (Order, with(|l| l.tax_minor = -1), Some(("tax_minor", "wrong_sign"))),
        (Order, with(|l| l.tax_minor = i64::MAX), Some(("tax_minor", "out_of_range"))),
        (Order, with(|l| l.line = Some(0)), Some(("line", "out_of_range"))),
    ];
    for (i, (kind, given, expected)) in table.into_iter().enumerate() {
        let mut faults = Faults::default();
        price_lines(kind, currency("EUR"), &[given], 0, &mut faults);
        match (faults.finish(), expected) {
            (Ok(()), None) => {}
            (Err(error), Some((field, code))) => {
                let named = error.field_errors().iter().any(|f| f.field == format!("lines[0].{field}") && f.code == code);
                assert!(named, "row {i}: {error}");
            }
            (found, expected) => panic!("row {i}: {found:?}, expected {expected:?}"),
        }
    }
    let count = |n: usize| {
        let mut faults = Faults::default();
        price_lines(Order, currency("EUR"), &vec![good.clone(); n], 0, &mut faults);
        faults.finish().is_ok()
    };
    assert_eq!([count(0), count(1), count(2_000), count(2_001)], [false, true, true, false]);
}

#[test]
fn lines_keep_the_numbers_they_are_given_and_the_others_get_the_next() {
    let numbered = |number| NewLine { line: number, ..line("A", 1, "1") };
    let mut faults = Faults::default();
    let given = [numbered(None), numbered(Some(2)), numbered(None)];
    let lines = price_lines(DocumentKind::Order, currency("EUR"), &given, 7, &mut faults);
    assert_eq!(lines.iter().map(|l| l.line).collect::<Vec<_>>(), [2, 8, 9]);
    price_lines(DocumentKind::Order, currency("EUR"), &[numbered(Some(2)), numbered(Some(2))], 0, &mut faults);
    assert_eq!(faults.finish().expect_err("a number twice").field_errors()[0].field, "lines[1].line");
}

#[test]
fn days_are_read_and_written() {
    for (text, day) in [("1970-01-01", 0), ("2010-12-01", 14_944), ("2026-02-28", 20_512)] {
        assert_eq!(parse_day("from", text).expect("a day"), day);
        assert_eq!(format_day(day), text);
    }
    for wrong in ["", "2026-02-30", "2026-1-1", "20260101", "2026-01-01T00:00:00Z", "heute-abend"] {
        assert_eq!(parse_day("from", wrong).expect_err(wrong).field_errors()[0].field, "from");
    }
}

fn any_line() -> impl Strategy<Value = NewLine> {
    let sku = prop::sample::select(vec!["A", "B", "C", "d"]);
    (sku, -1_000_i64..1_000, 0_i64..5_000_000, 0_i64..100, 0_i64..100).prop_filter("not zero", |(_, q, ..)| *q != 0).prop_map(
        |(sku, quantity, micros, discount, tax)| {
            let unit_price = UnitPrice::from_micros(micros);
            let most = unit_price.extended(quantity, currency("EUR")).expect("small").minor;
            let discount_minor = discount.min(most.abs()) * most.signum() * micros.signum();
            NewLine { unit_price, discount_minor, tax_minor: tax * quantity.signum(), ..line(sku, quantity, "0") }
        },
    )
}

fn priced(lines: &[NewLine]) -> Vec<Line> {
    let mut faults = Faults::default();
    let priced = price_lines(DocumentKind::Order, currency("EUR"), lines, 0, &mut faults);
    faults.finish().expect("valid lines");
    priced
}

type SalesBySku = BTreeMap<(String, String), (i64, i64, i64, i64)>;

/// The naive model: a table by country and SKU to which documents are added and from which they are taken.
fn add(model: &mut SalesBySku, sign: i64, country: &str, lines: &[Line]) {
    for line in lines {
        let row = model.entry((country.to_owned(), line.sku.clone())).or_default();
        row.0 += sign;
        row.1 += sign * line.quantity;
        row.2 += sign * line.extended.micros();
        row.3 += sign * line.total_minor;
    }
}

proptest! {
    #[test]
    fn totals_are_the_sum_of_the_lines(new in prop::collection::vec(any_line(), 1..50)) {
        let lines = priced(&new);
        let totals = Totals::of(&lines);
        prop_assert_eq!(totals.total_minor, lines.iter().map(|l| l.total_minor).sum::<i64>());
        // To the minor unit: each line is off its exact amount by at most half a unit.
        for line in &lines {
            let exact = line.extended.micros();
            let rounded = line.total_minor + line.discount_minor - line.tax_minor;
            prop_assert!((rounded * 10_000 - exact).abs() <= 5_000, "{} for {}", rounded, exact);
        }
        prop_assert_eq!(totals.extended_micros, new.iter().map(|l| l.quantity * l.unit_price.micros()).sum::<i64>());
    }

    #[test]
    fn the_events_of_placing_editing_and_cancelling_add_up_to_what_is_there(
        first in prop::collection::vec(any_line(), 1..12),
        second in prop::collection::vec(any_line(), 1..12),
        moves in any::<bool>(),
        cancels in any::<bool>(),
    ) {
        let at = Timestamp::from_micros(1_767_614_400_000_000);
        let (before, after) = (priced(&first), priced(&second));
        let country = if moves { "France" } else { "Germany" };
        let mut events = sales_difference(at, currency("EUR"), None, Some(("Germany", &before)));
        events.extend(sales_difference(at, currency("EUR"), Some(("Germany", &before)), Some((country, &after))));
        let mut expected = SalesBySku::new();
        if cancels {
            events.extend(sales_difference(at, currency("EUR"), Some((country, &after)), None));
        } else {
            add(&mut expected, 1, country, &after);
        }
        let mut found = SalesBySku::new();
        for sales in &events {
            for line in &sales.lines {
                let row = found.entry((sales.country.clone(), line.sku.clone())).or_default();
                row.0 += line.lines;
                row.1 += line.quantity;
                row.2 += line.extended_micros;
                row.3 += line.total_minor;
            }
        }
        found.retain(|_, row| *row != (0, 0, 0, 0));
        expected.retain(|_, row| *row != (0, 0, 0, 0));
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn an_order_fits_its_event() {
    let lines: Vec<NewLine> = (0..2_000).map(|i| line(&format!("{i:06}"), 1, "9.99")).collect();
    let at = Timestamp::from_micros(0);
    let priced = priced(&lines);
    let sales = sales_difference(at, currency("EUR"), None, Some(("Germany", &priced)));
    fits_event(&sales).expect("two thousand lines with ordinary SKUs");
    let long: Vec<NewLine> = (0..2_000).map(|i| line(&format!("{i:06}{}", "é".repeat(58)), 1, "9.99")).collect();
    let long = self::priced(&long);
    let sales = sales_difference(at, currency("EUR"), None, Some(("Germany", &long)));
    assert_eq!(fits_event(&sales).expect_err("too large for an event").field_errors()[0].field, "lines");
}

/// What is paid besides the goods is part of the total, and nothing of it is sent; tax that a price contains is not added.
#[test]
fn charges_and_included_taxes() {
    let currency = "EUR".parse().expect("a currency");
    let priced = |lines: &[NewLine]| {
        let mut faults = Faults::default();
        let lines = price_lines(DocumentKind::Order, currency, lines, 0, &mut faults);
        faults.finish().map(|()| lines)
    };
    let goods = NewLine { included_tax_minor: 190, ..line("A", 1, "11.90") };
    let shipping = NewLine { charge: true, included_tax_minor: 78, ..line("SHIPPING", 1, "4.90") };
    let lines = priced(&[goods.clone(), shipping.clone()]).expect("it is valid");
    assert_eq!((lines[0].kind, lines[1].kind), (LineKind::Sale, LineKind::Charge));
    assert_eq!(Totals::of(&lines).total_minor, 1_190 + 490);
    assert_eq!(remaining(&lines, &BTreeMap::new()), BTreeMap::from([(1, 1)]));
    for (wrong, field) in [
        (NewLine { included_tax_minor: 1_191, ..goods.clone() }, "lines[0].included_tax_minor"),
        (NewLine { included_tax_minor: -1, ..goods.clone() }, "lines[0].included_tax_minor"),
        (NewLine { discount_minor: 1_001, ..goods }, "lines[0].included_tax_minor"),
        (NewLine { quantity: -1, included_tax_minor: -78, ..shipping }, "lines[0].charge"),
    ] {
        let refused = priced(&[wrong]).expect_err("it is refused");
        assert_eq!(refused.field_errors()[0].field, field);
    }
}
