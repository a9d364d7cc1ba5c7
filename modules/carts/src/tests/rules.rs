//! Pure rules, as tables and properties.

use super::{a_cart, add, content, customer, lines, price, seen, set, variant};
use crate::api::{Difference, Fact, LineEdit, revalidate, settle};
use crate::merge::merge;
use crate::model::{Cart, CartId, Change, Destination, Due, MAX_LINES, MAX_QUANTITY, Settings, Status};
use crate::{events, token};
use kernel::{SeededRng, Timestamp};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const BILLION: i64 = 1_000_000_000_000;

#[test]
fn edits() {
    let remove = |number| LineEdit::Remove(variant(number));
    let most = MAX_QUANTITY;
    type Row = (&'static [(i64, i64)], Vec<LineEdit>, Result<&'static [(i64, i64)], &'static str>);
    let table: Vec<Row> = vec![
        (&[], vec![add(1, 2)], Ok(&[(1, 2)])),
        (&[(1, 2)], vec![add(1, 3)], Ok(&[(1, 5)])),
        (&[(1, 2), (2, 1)], vec![add(1, 1), add(3, 4)], Ok(&[(1, 3), (2, 1), (3, 4)])),
        (&[(1, 2)], vec![set(1, 9)], Ok(&[(1, 9)])),
        (&[(1, 2)], vec![set(2, 9)], Err("carts.line_not_found")),
        (&[(1, 2), (2, 2)], vec![remove(1)], Ok(&[(2, 2)])),
        (&[(1, 2)], vec![remove(7)], Err("carts.line_not_found")),
        // Taken out and put back: at the end.
        (&[(1, 2), (2, 2)], vec![remove(1), add(1, 1)], Ok(&[(2, 2), (1, 1)])),
        (&[(1, 2)], vec![add(2, 1), remove(2)], Ok(&[(1, 2)])),
        (&[], vec![add(1, most)], Ok(&[(1, MAX_QUANTITY)])),
        (&[(1, MAX_QUANTITY)], vec![add(1, 1)], Err("carts.quantity_limit")),
        (&[], vec![add(1, most), add(1, most)], Err("carts.quantity_limit")),
        (&[], vec![add(1, 0)], Err("quantity: too_small")),
        (&[], vec![add(1, -1)], Err("quantity: too_small")),
        (&[], vec![add(1, BILLION)], Err("quantity: too_large")),
        (&[], vec![add(1, i64::MAX)], Err("quantity: too_large")),
        (&[(1, 1)], vec![set(1, 0)], Err("quantity: too_small")),
        (&[(1, 1)], vec![set(1, i64::MIN)], Err("quantity: too_small")),
        (&[(1, 1)], vec![add(2, 1), set(1, 0)], Err("lines[1].quantity: too_small")),
    ];
    for (before, edits, expected) in table {
        let mut cart = a_cart(before);
        let change = lines(edits);
        let outcome = change.check().and_then(|()| cart.apply(&change));
        match (outcome, expected) {
            (Ok(applied), Ok(after)) => {
                assert_eq!(content(&cart), after, "{change:?}");
                assert!(applied.any || after == before, "a change that is not written: {change:?}");
                assert_eq!(cart.line_count, after.len() as i64);
            }
            (Err(error), Err(code)) => {
                let field = error.field_errors().first().map(|f| format!("{}: {}", f.field, f.code));
                assert_eq!(field.as_deref().unwrap_or(error.code()), code, "{change:?}");
            }
            (outcome, expected) => panic!("{change:?}: {outcome:?} instead of {expected:?}"),
        }
    }
}

#[test]
fn a_cart_has_so_many_lines() {
    let full: Vec<(i64, i64)> = (1..=MAX_LINES as i64).map(|number| (number, 1)).collect();
    let mut cart = a_cart(&full);
    cart.apply(&lines([add(1, 1)])).expect("a line that is there has room");
    assert_eq!(cart.apply(&lines([add(501, 1)])).unwrap_err().code(), "carts.too_many_lines");
    let error = lines((0..10_000).map(|number| add(number, 1))).check().unwrap_err();
    assert_eq!(
        (error.code(), error.field_errors()[0].field.as_str(), error.field_errors()[0].code),
        ("request.invalid", "lines", "too_many")
    );
}

#[test]
fn details_name_each_wrong_field() {
    let good = Change {
        email: Some(Some("ann@example.com".to_owned())),
        destination: Some(Some(Destination { country: "NL".to_owned(), postcode: Some("1011 AB".to_owned()), ..Destination::default() })),
        shipping_method: Some(Some("shm_1".to_owned())),
        coupons: Some(vec!["SPRING".to_owned(), "spring".to_owned()]),
        ..Change::default()
    };
    good.check().unwrap();
    let wrong = Change {
        email: Some(Some("ann@".to_owned())),
        destination: Some(Some(Destination { country: "Nl".to_owned(), city: Some("\n".to_owned()), ..Destination::default() })),
        shipping_method: Some(Some("a b".to_owned())),
        coupons: Some(vec!["A".to_owned(), "A".to_owned(), "x".repeat(65)]),
        ..Change::default()
    };
    let error = wrong.check().unwrap_err();
    let fields: Vec<_> = error.field_errors().iter().map(|f| (f.field.as_str(), f.code)).collect();
    let expected = [
        ("email", "not_an_email"),
        ("destination.country", "not_a_country"),
        ("destination.city", "empty"),
        ("shipping_method", "space"),
        ("coupons[1]", "duplicate"),
        ("coupons[2]", "too_long"),
    ];
    assert_eq!(fields, expected);
    let many = Change { coupons: Some((0..11).map(|i| format!("C{i}")).collect()), ..Change::default() };
    assert_eq!(many.check().unwrap_err().field_errors()[0].code, "too_many");
}

/// Cases of one line that was shown at 2.50: what is so now, and what is said of it.
#[test]
fn what_is_different_now() {
    use Difference::*;
    let id = variant(1);
    let fact = |sellable, price_now: Option<&str>, available| Fact {
        variant_id: id,
        sellable,
        unit_price: price_now.map(price),
        available,
        title: "Green tea".to_owned(),
    };
    let not_sold = NotSold { variant_id: id, title: "Tea".to_owned() };
    let fewer = |available| FewerAvailable { variant_id: id, quantity: 3, available };
    let up = PriceUp { variant_id: id, seen: price("2.50"), now: price("2.51") };
    let down = PriceDown { variant_id: id, seen: price("2.50"), now: price("2.4999") };
    // Facts; differences; whether they stop a checkout; the quantity after settling, if the line stays.
    type Row = (Vec<Fact>, Vec<Difference>, bool, Option<i64>);
    let table: Vec<Row> = vec![
        (vec![fact(true, Some("2.50"), None)], vec![], false, Some(3)),
        (vec![fact(true, Some("2.50"), Some(3))], vec![], false, Some(3)),
        (vec![fact(true, Some("2.5000"), Some(4))], vec![], false, Some(3)),
        (vec![], vec![not_sold.clone()], true, None),
        (vec![fact(false, Some("2.50"), Some(9))], vec![not_sold.clone()], true, None),
        (vec![fact(true, None, Some(9))], vec![not_sold.clone()], true, None),
        (vec![fact(true, Some("2.50"), Some(2))], vec![fewer(2)], true, Some(2)),
        (vec![fact(true, Some("2.50"), Some(0))], vec![fewer(0)], true, None),
        (vec![fact(true, Some("2.50"), Some(-4))], vec![fewer(0)], true, None),
        (vec![fact(true, Some("2.51"), None)], vec![up.clone()], true, Some(3)),
        (vec![fact(true, Some("2.4999"), None)], vec![down.clone()], false, Some(3)),
        (vec![fact(true, Some("2.51"), Some(1))], vec![fewer(1), up], true, Some(1)),
        (vec![fact(true, Some("2.4999"), Some(1))], vec![fewer(1), down], true, Some(1)),
        (vec![Fact { variant_id: variant(2), ..fact(true, Some("2.50"), None) }], vec![not_sold], true, None),
    ];
    for (facts, expected, stops, kept) in table {
        let mut cart = a_cart(&[(1, 3)]);
        let diff = revalidate(&cart, &facts);
        assert_eq!(diff.differences, expected, "{facts:?}");
        assert_eq!(diff.stops_checkout(), stops, "{facts:?}");
        cart.apply(&Change { lines: settle(&cart, &facts), ..Change::default() }).unwrap();
        assert_eq!(cart.lines.first().map(|line| line.quantity), kept, "{facts:?}");
        assert!(revalidate(&cart, &facts).differences.is_empty(), "a settled cart differs in nothing: {facts:?}");
        assert!(cart.lines.iter().all(|line| line.title == "Green tea"));
    }
    let mut unseen = a_cart(&[(1, 3)]);
    unseen.lines[0].unit_price = None;
    let diff = revalidate(&unseen, &[fact(true, Some("2.50"), None)]);
    assert_eq!(diff.differences, [PriceNew { variant_id: id, now: price("2.50") }]);
    // In the order of the lines.
    let diff = revalidate(&a_cart(&[(5, 1), (1, 9), (3, 1)]), &[fact(true, Some("2.50"), Some(2))]);
    assert_eq!(diff.differences.iter().map(|d| d.variant_id().as_i64()).collect::<Vec<_>>(), [5, 1, 3]);
}

#[test]
fn what_time_does() {
    let settings = Settings { guest_days: 2, customer_days: 10, abandoned_after_minutes: 60 };
    let at = |minutes: i64| Timestamp::from_micros(0).plus_ms(minutes * 60_000);
    let (open, abandoned) = (Status::Open, Status::Abandoned);
    const DAYS: i64 = 24 * 60;
    // Status, lines, changed at, told at, now; all expire at two days after the change.
    type Row = (Status, i64, i64, Option<i64>, i64, Due);
    let table: &[Row] = &[
        (open, 1, 0, None, 59, Due::Look(at(60))),
        (open, 1, 0, None, 60, Due::Abandon),
        (open, 1, 30, None, 60, Due::Look(at(90))),
        (open, 0, 0, None, 60, Due::Look(at(120))),
        (open, 0, 0, None, 2 * DAYS - 1, Due::Look(at(2 * DAYS))),
        (open, 0, 0, None, 2 * DAYS, Due::Expire),
        // Told once.
        (open, 1, 500, Some(60), 560, Due::Look(at(500 + 2 * DAYS))),
        (abandoned, 1, 0, Some(60), 60, Due::Look(at(2 * DAYS))),
        (abandoned, 1, 0, Some(60), 2 * DAYS, Due::Expire),
        (Status::CheckingOut, 1, 0, None, 3 * DAYS, Due::Look(at(4 * DAYS))),
        (Status::Ordered, 1, 0, None, 60, Due::Forget),
        (Status::Expired, 0, 0, None, 60, Due::Forget),
        (Status::Merged, 1, 0, None, 60, Due::Forget),
    ];
    for (status, line_count, changed, told, now, expected) in table.iter().copied() {
        let mut cart = Cart { status, line_count, changed_at: at(changed), abandoned_at: told.map(at), ..a_cart(&[]) };
        cart.expires_at = settings.expiry(None, cart.changed_at);
        assert_eq!(cart.due(at(now), &settings), expected, "{status:?} with {line_count} lines, changed at {changed}, now {now}");
        if let Due::Look(next) = cart.due(at(now), &settings) {
            assert!(next > at(now), "a look that is due at once would never end");
        }
    }
    assert_eq!(settings.expiry(Some(customer(1)), at(0)), at(10 * DAYS));
}

#[test]
fn who_may_change_a_cart() {
    let now = Timestamp::from_micros(0);
    for (status, refusal) in [
        (Status::Open, None),
        (Status::Abandoned, None),
        (Status::CheckingOut, Some("carts.checking_out")),
        (Status::Ordered, Some("carts.ordered")),
        (Status::Expired, Some("carts.expired")),
        (Status::Merged, Some("carts.merged")),
    ] {
        let cart = Cart { status, ..a_cart(&[]) };
        assert_eq!(cart.must_be_open(now).err().map(|error| error.code()), refusal);
    }
    let late = a_cart(&[]);
    assert_eq!(late.must_be_open(late.expires_at).unwrap_err().code(), "carts.expired");
}

#[test]
fn tokens_open_what_they_are_for() {
    let rng = SeededRng::new(7);
    let (one, two) = (token::new_token(&rng), token::new_token(&rng));
    assert!(one != two && one.len() == 43, "{one}");
    let hash = token::TokenHash::of(&one);
    let both = [token::TokenHash::of(&two).0, hash.0].concat();
    assert!(hash.is_among(&both) && !hash.is_among(&both[..32]) && !hash.is_among(&[]) && !hash.is_among(&both[1..33]));
}

#[test]
fn events_as_they_are_written() {
    let cart = Cart { customer_id: Some(customer(9)), ..a_cart(&[(1, 2), (2, 1)]) };
    let written = [events::abandoned(&cart), events::merged(&cart, CartId::from_i64(4), 3)];
    let golden = [
        (
            "cart.abandoned",
            r#"{"cart_id":"crt_00000000001","customer_id":"cus_00000000009","currency":"EUR","lines":2,"changed_at":"1970-01-01T00:00:00.000000Z"}"#,
        ),
        (
            "cart.merged",
            r#"{"cart_id":"crt_00000000001","from_cart_id":"crt_00000000004","customer_id":"cus_00000000009","currency":"EUR","lines":2,"left_out":3}"#,
        ),
    ];
    for (event, (kind, payload)) in written.iter().zip(golden) {
        assert_eq!((event.kind, event.version, event.subject.as_str(), event.payload.as_str()), (kind, 1, "crt_00000000001", payload));
        assert!(events::EVENTS.iter().any(|known| known.kind == event.kind && known.version == event.version));
    }
}

#[test]
fn merging_takes_over_what_the_customer_has_not_said() {
    let mut own = a_cart(&[(1, 1)]);
    own.email = Some("own@example.com".to_owned());
    own.coupons = (0..9).map(|i| format!("C{i}")).collect();
    let mut guest = a_cart(&[(2, 1), (1, MAX_QUANTITY)]);
    guest.email = Some("guest@example.com".to_owned());
    guest.shipping_method = Some("post".to_owned());
    guest.coupons = vec!["C1".to_owned(), "NEW".to_owned(), "LATE".to_owned()];
    guest.lines[1].unit_price = Some(price("9"));
    let merged = merge(&mut own, &guest);
    assert_eq!(content(&own), [(1, MAX_QUANTITY), (2, 1)]);
    assert_eq!((merged.written.len(), merged.left_out), (2, 0));
    assert_eq!((own.email.as_deref(), own.shipping_method.as_deref()), (Some("own@example.com"), Some("post")));
    assert_eq!(own.coupons.len(), 10);
    assert_eq!(own.coupons.last().map(String::as_str), Some("NEW"));
    assert_eq!(own.lines[0].unit_price, Some(price("9")), "the guest was shown a price later");
    // A price in another currency is none.
    let mut dollars = Cart { currency: "USD".parse().unwrap(), ..a_cart(&[(1, 1)]) };
    merge(&mut dollars, &guest);
    assert_eq!(dollars.lines.iter().map(|line| line.unit_price).collect::<Vec<_>>(), [Some(price("2.50")), None]);
}

fn some_lines(most: usize) -> impl Strategy<Value = Vec<(i64, i64)>> {
    prop::collection::btree_map(1_i64..900, 1_i64..=MAX_QUANTITY, 0..=most)
        .prop_map(|map| map.into_iter().collect::<Vec<_>>())
        .prop_shuffle()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Against a naive model: sums of a map, up to the bounds, in the order in which variants first appear.
    #[test]
    fn merging_adds_up(own in some_lines(MAX_LINES), guest in some_lines(MAX_LINES)) {
        let mut merged = a_cart(&own);
        let outcome = merge(&mut merged, &a_cart(&guest));
        let mut model: BTreeMap<i64, i64> = own.iter().copied().collect();
        let mut order: Vec<i64> = own.iter().map(|(number, _)| *number).collect();
        let mut left_out = 0;
        for (number, quantity) in &guest {
            match model.get_mut(number) {
                Some(sum) => *sum = (*sum + quantity).min(MAX_QUANTITY),
                None if order.len() < MAX_LINES => {
                    model.insert(*number, *quantity);
                    order.push(*number);
                }
                None => left_out += 1,
            }
        }
        let expected: Vec<(i64, i64)> = order.iter().map(|number| (*number, model[number])).collect();
        prop_assert_eq!(content(&merged), expected);
        prop_assert_eq!(outcome.left_out, left_out);
        prop_assert_eq!(merged.line_count as usize, merged.lines.len());
        let places: BTreeSet<i64> = merged.lines.iter().map(|line| line.place).collect();
        prop_assert_eq!(places.len(), merged.lines.len(), "places are unique");
        prop_assert!(merged.lines.is_sorted_by_key(|line| line.place), "the order is that of the places, so that it is read back");
    }

    /// What was written, and nothing else, differs from before, so that what is stored equals what is in memory.
    #[test]
    fn what_differs_is_written(own in some_lines(40), guest in some_lines(40)) {
        let before = a_cart(&own);
        let mut after = before.clone();
        let written = merge(&mut after, &a_cart(&guest)).written;
        for line in &after.lines {
            prop_assert!(written.contains(&line.variant_id) || before.lines.contains(line));
        }
    }

    /// Edits one at a time or all at once come to the same, and what is to be written accounts for the whole difference.
    #[test]
    fn edits_write_what_differs(own in some_lines(20), edits in prop::collection::vec((1_i64..30, 1_i64..50, 0_u8..3), 0..40)) {
        let before = a_cart(&own);
        let mut there: BTreeSet<i64> = own.iter().map(|(number, _)| *number).collect();
        let edits: Vec<LineEdit> = edits.into_iter().map(|(number, quantity, kind)| match kind {
            1 if there.remove(&number) => LineEdit::Remove(variant(number)),
            kind => {
                there.insert(number);
                LineEdit::Add { variant_id: variant(number), quantity, seen: seen(if kind == 0 { "2.50" } else { "3" }) }
            }
        }).collect();
        let mut after = before.clone();
        let applied = after.apply(&lines(edits.clone())).unwrap();
        let mut stored: BTreeMap<i64, crate::api::Line> = before.lines.iter().map(|line| (line.variant_id.as_i64(), line.clone())).collect();
        for variant_id in &applied.removed {
            stored.remove(&variant_id.as_i64());
        }
        for line in applied.written.iter().filter_map(|variant_id| after.line(*variant_id)) {
            stored.insert(line.variant_id.as_i64(), line.clone());
        }
        let mut stored: Vec<_> = stored.into_values().collect();
        stored.sort_by_key(|line| line.place);
        prop_assert_eq!(&stored, &after.lines);
        let mut one_by_one = before;
        for edit in edits {
            one_by_one.apply(&lines([edit])).unwrap();
        }
        prop_assert_eq!(content(&one_by_one), content(&after));
    }
}
