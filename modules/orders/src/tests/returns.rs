//! Returns: the table of states, shares that add up whatever the parts, and stories over HTTP on each engine.

use crate::care::commands::delivered_event;
use crate::care::model::normal_tags;
use crate::model::*;
use crate::returns::commands::{self, Inspect, Receive, RequestReturn, ReturnStep, event, named};
use crate::returns::model::{self, *};
use crate::write::By;
use kernel::{Actor, ActorKind, Currency, Faults, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use store::Tx;
use testkit::{Client, Setup, TestApp};

fn priced(lines: &[NewLine]) -> Vec<Line> {
    let mut faults = Faults::default();
    let priced = price_lines(DocumentKind::Order, "GBP".parse().expect("a currency"), lines, 0, &mut faults);
    faults.finish().expect("lines");
    priced
}

fn sold(quantity: i64, unit_price: &str, discount_minor: i64, tax_minor: i64) -> Line {
    let new: NewLine = serde_json::from_value(json!({ "sku": "S", "quantity": quantity, "unit_price": unit_price,
        "discount_minor": discount_minor, "tax_minor": tax_minor }))
    .expect("a line");
    priced(&[new]).remove(0)
}

/// Every state by every command: the state after it, or why it is refused.
#[test]
fn every_command_in_every_state() {
    use ReturnCommand::*;
    let commands = [
        Approve,
        Reject,
        Cancel,
        Receive,
        Inspect,
        Refund { money: true },
        Refund { money: false },
        Exchange { money: true },
        Exchange { money: false },
        Close,
    ];
    #[rustfmt::skip]
    let table = [
        //             approve   reject    cancel     receive   inspect    refund    without money      exchange   without money      close
        ("requested", "approved  rejected  cancelled  -         -          -         -                  -          -                  -"),
        ("approved",  "-         -         cancelled  received  -          -         -                  -          -                  -"),
        ("rejected",  "-         -         -          -         -          -         -                  -          -                  -"),
        ("cancelled", "-         -         -          -         -          -         -                  -          -                  -"),
        ("received",  "-         -         -          -         inspected  -         -                  -          -                  -"),
        ("inspected", "-         -         -          -         -          refunded  nothing_to_refund  exchanged  nothing_to_refund  closed"),
        ("refunded",  "-         -         -          -         -          -         -                  -          -                  -"),
        ("exchanged", "-         -         -          -         -          -         -                  -          -                  -"),
        ("closed",    "-         -         -          -         -          -         -                  -          -                  -"),
    ];
    assert_eq!(table.len(), ReturnState::ALL.len());
    for (state, (row, expected)) in ReturnState::ALL.iter().zip(table) {
        assert_eq!(state.as_str(), row);
        let expected: Vec<&str> = expected.split_whitespace().collect();
        assert_eq!(expected.len(), commands.len());
        for (command, expected) in commands.iter().zip(expected) {
            let decided = match model::decide(*state, *command) {
                Ok(after) => after.as_str(),
                Err(error) if error.code() == "orders.return_not_allowed" => "-",
                Err(error) => error.code().trim_start_matches("orders."),
            };
            assert_eq!(decided, expected, "{command:?} when {row}");
        }
    }
}

#[test]
fn a_share_of_a_line() {
    // Quantity, price, discount, tax; before, pieces: rounded, discount, tax.
    #[rustfmt::skip]
    let table = [
        ((3, "0.335", 0, 0),      (0, 1), (34, 0, 0)),
        ((3, "0.335", 0, 0),      (1, 1), (33, 0, 0)),
        ((3, "0.335", 0, 0),      (2, 1), (34, 0, 0)),
        ((3, "0.335", 0, 0),      (0, 3), (101, 0, 0)),
        ((4, "10", 1, 1),         (0, 1), (1_000, 0, 0)),
        ((4, "10", 1, 1),         (1, 1), (1_001, 1, 1)),
        ((4, "10", 1, 1),         (2, 2), (1_999, 0, 0)),
        // A discount of nearly all of it: no part is less than nothing.
        ((3, "0.01", 2, 0),       (0, 1), (1, 1, 0)),
        ((3, "0.01", 2, 0),       (1, 1), (1, 0, 0)),
        ((3, "0.01", 2, 0),       (2, 1), (1, 1, 0)),
        ((3, "9.99", 100, 575),   (0, 1), (999, 33, 192)),
        ((3, "9.99", 100, 575),   (1, 1), (999, 34, 191)),
        ((3, "9.99", 100, 575),   (2, 1), (999, 33, 192)),
        ((1_000, "0.001", 0, 0),  (0, 4), (0, 0, 0)),
        ((1_000, "0.001", 0, 0),  (0, 5), (1, 0, 0)),
        ((5, "0", 0, 0),          (0, 5), (0, 0, 0)),
    ];
    for ((quantity, price, discount, tax), (before, pieces), (rounded_minor, discount_minor, tax_minor)) in table {
        let line = sold(quantity, price, discount, tax);
        let expected = Share { rounded_minor, discount_minor, tax_minor, included_tax_minor: 0 };
        assert_eq!(share(&line, before, pieces), expected, "{quantity} x {price} - {discount} + {tax}: {pieces} after {before}");
    }
}

proptest! {
    /// Whatever the line and the parts in which it comes back: what is credited adds up to the line, each credit line is what it says,
    /// and no part takes back more or less than a minor unit for each amount beside its even share.
    #[test]
    fn parts_add_up_to_the_line(
        quantity in 1_i64..50, price in 0_i64..200_000_000, discount in 0_i64..10_000, tax in 0_i64..10_000, cuts in prop::collection::vec(1_i64..50, 0..8)
    ) {
        let price = kernel::UnitPrice::from_micros(price);
        let currency: Currency = "GBP".parse().expect("a currency");
        let rounded = price.extended(quantity, currency).expect("an amount").minor;
        let included_tax_minor = tax.min(rounded - discount.min(rounded));
        let line = Line { included_tax_minor, ..sold(quantity, &price.to_string(), discount.min(rounded), tax) };
        let mut bounds: Vec<i64> = cuts.into_iter().filter(|cut| *cut < quantity).collect();
        bounds.extend([0, quantity]);
        bounds.sort_unstable();
        bounds.dedup();
        let (mut sum, mut total, mut extended) = (Share::default(), 0, 0);
        for (number, part) in (1..).zip(bounds.windows(2)) {
            let (before, pieces) = (part[0], part[1] - part[0]);
            let one = share(&line, before, pieces);
            let even = |amount: i64| amount as f64 * pieces as f64 / quantity as f64;
            let (net_minor, net) = (one.rounded_minor - one.discount_minor, rounded - line.discount_minor);
            for (share, amount) in [(net_minor, net), (one.discount_minor, line.discount_minor), (one.tax_minor, line.tax_minor)] {
                prop_assert!((share as f64 - even(amount)).abs() <= 1.0, "{} of {}", share, amount);
                prop_assert!(share >= 0, "{} of {}", share, amount);
            }
            sum = Share {
                rounded_minor: sum.rounded_minor + one.rounded_minor,
                discount_minor: sum.discount_minor + one.discount_minor,
                tax_minor: sum.tax_minor + one.tax_minor,
                included_tax_minor: sum.included_tax_minor + one.included_tax_minor,
            };
            let credit = credit_line(number, &line, currency, pieces, &one).expect("a credit line");
            prop_assert_eq!(credit.total_minor, -one.total_minor());
            let said = line.unit_price.extended(-pieces, currency).expect("an amount").minor - credit.discount_minor + credit.tax_minor;
            prop_assert_eq!(said, credit.total_minor, "a line is its price, less its discount, plus its tax");
            total += credit.total_minor;
            extended += credit.extended.micros();
        }
        let (discount_minor, tax_minor) = (line.discount_minor, line.tax_minor);
        prop_assert_eq!(sum, Share { rounded_minor: rounded, discount_minor, tax_minor, included_tax_minor });
        prop_assert_eq!((total, extended), (-line.total_minor, -line.extended.micros()));
    }
}

proptest! {
    /// Whatever a credit note has given back for a line, and whatever the parts in which it comes back after that: together they give back
    /// the line, and none of them less than nothing.
    #[test]
    fn what_was_credited_is_not_refunded_again(
        quantity in 1_i64..20, price in 0_i64..20_000_000, discount in 0_i64..2_000, tax in 0_i64..1_000, by_hand in 0_i64..50_000, cut in 0_i64..20
    ) {
        let price = kernel::UnitPrice::from_micros(price);
        let rounded = price.extended(quantity, "GBP".parse().expect("a currency")).expect("an amount").minor;
        let line = Line { line: 1, ..sold(quantity, &price.to_string(), discount.min(rounded), tax) };
        let mut standing = Standing::default();
        standing.credited_by_hand(std::slice::from_ref(&line), BTreeMap::from([("S".to_owned(), by_hand)]));
        let by_hand = by_hand.min(line.total_minor);
        let mut refunds = 0;
        for pieces in [cut.min(quantity), quantity - cut.min(quantity)] {
            let share = standing.refund(&line, pieces);
            prop_assert!(share.total_minor() >= 0 && share.tax_minor >= 0, "{:?}", share);
            *standing.refunded.entry(1).or_default() += pieces;
            *standing.given_back.entry(1).or_default() += share.total_minor();
            refunds += share.total_minor();
        }
        prop_assert!(by_hand + refunds <= line.total_minor, "{} and {} of {}", by_hand, refunds, line.total_minor);
        prop_assert!(by_hand > 0 || refunds == line.total_minor);
    }
}

/// What a return has given back for a line is no room for a credit note: the note's money is the next line's.
#[test]
fn a_credit_note_counts_for_what_is_left_of_a_line() {
    let lines = [Line { line: 1, ..sold(1, "10", 0, 0) }, Line { line: 2, ..sold(1, "10", 0, 0) }];
    let mut standing = Standing { given_back: BTreeMap::from([(1, 900)]), refunded: BTreeMap::from([(1, 1)]), ..Standing::default() };
    standing.credited_by_hand(&lines, BTreeMap::from([("S".to_owned(), 700)]));
    assert_eq!(standing.given_back, BTreeMap::from([(1, 1_000), (2, 600)]));
    assert_eq!(standing.refund(&lines[1], 1).total_minor(), 400);
}

/// What was sent costs its share of the lines, all else comes with the first piece, and all of it is the order's total.
#[test]
fn what_was_sent_costs_its_share() {
    let lines = priced(
        &serde_json::from_value::<Vec<NewLine>>(json!([
            { "sku": "A", "quantity": 3, "unit_price": "3.333", "tax_minor": 100 },
            { "sku": "B", "quantity": 1, "unit_price": "5" },
            { "sku": "POST", "quantity": 1, "unit_price": "4.95", "charge": true },
            { "sku": "OFF", "quantity": -1, "unit_price": "1" },
        ]))
        .expect("lines"),
    );
    let total_minor: i64 = lines.iter().map(|line| line.total_minor).sum();
    let table = [
        (vec![], None),
        (vec![(3, 1)], None),
        (vec![(1, 1)], Some(333 + 33 + 495 - 100)),
        (vec![(1, 2), (2, 1)], Some(667 + 67 + 500 + 495 - 100)),
        (vec![(1, 3), (2, 9)], Some(total_minor)),
    ];
    for (sent, minor) in table {
        assert_eq!(sent_minor(&lines, &sent.iter().copied().collect()), minor, "{sent:?}");
    }
}

#[test]
fn a_preview_says_what_it_will_cost() {
    let lines = priced(
        &serde_json::from_value::<Vec<NewLine>>(json!([
            { "sku": "A", "quantity": 3, "unit_price": "10", "tax_minor": 300 },
            { "sku": "B", "quantity": 1, "unit_price": "5" },
            { "sku": "OFF", "quantity": -1, "unit_price": "2" },
        ]))
        .expect("lines"),
    );
    let standing = Standing {
        fulfilled: BTreeMap::from([(1, 2), (2, 1)]),
        claimed: BTreeMap::from([(1, 1)]),
        refunded: BTreeMap::from([(1, 1)]),
        ..Standing::default()
    };
    let wanted = |line: u32, quantity: i64| WantedLine { line, quantity, reason: String::new() };
    let gbp: Currency = "GBP".parse().expect("a currency");
    let seen = preview(&lines, &standing, &[wanted(2, 1), wanted(1, 1)], None, gbp).expect("a preview");
    assert_eq!((seen.refund_minor, seen.exchange_minor, seen.due_minor), (1_100 + 500, None, -1_600));
    assert_eq!((seen.lines[0].line, seen.lines[0].tax_minor, seen.lines[0].refund_minor), (1, 100, 1_100));
    let instead =
        priced(&serde_json::from_value::<Vec<NewLine>>(json!([{ "sku": "C", "quantity": 1, "unit_price": "20" }])).expect("lines"));
    let seen = preview(&lines, &standing, &[wanted(1, 1)], Some(&instead), gbp).expect("a preview");
    assert_eq!((seen.refund_minor, seen.exchange_minor, seen.due_minor), (1_100, Some(2_000), 900));
    let refused = |line: u32, quantity: i64| preview(&lines, &standing, &[wanted(line, quantity)], None, gbp).expect_err("refused");
    assert_eq!(refused(1, 2).code(), "orders.over_return");
    for line in [3, 4] {
        assert_eq!(refused(line, 1).field_errors()[0].field, "lines[0].line", "what is no goods does not come back");
    }
}

#[test]
fn events_as_they_are_written() {
    let at = Timestamp::from_micros(0);
    let head = ReturnHead {
        return_id: ReturnId::from_i64(1),
        order_id: OrderId::from_i64(2),
        state: ReturnState::Inspected,
        version: 4,
        reason: "too small".to_owned(),
        refund_minor: 0,
        carried_minor: 0,
        currency: "EUR".parse().expect("a currency"),
        credit_note_id: None,
        exchange_order_id: None,
        created_at: at,
        updated_at: at,
    };
    let line =
        ReturnLine { line: 1, quantity: 2, reason: String::new(), received: 2, restocked: 1, written_off: 1, refunded: 2, refund_minor: 0 };
    let back = [Back { line: 1, sku: "S".to_owned(), variant_id: None, restock: 1, write_off: 1 }];
    let told = event("return.inspected", &Return { head, lines: vec![line] }, Some(&back));
    let golden = r#"{"return_id":"rtn_00000000001","order_id":"ord_00000000002","state":"inspected","version":4,"reason":"too small","refund_minor":0,"carried_minor":0,"currency":"EUR","credit_note_id":null,"exchange_order_id":null,"created_at":"1970-01-01T00:00:00.000000Z","updated_at":"1970-01-01T00:00:00.000000Z","lines":[{"line":1,"quantity":2,"reason":"","received":2,"restocked":1,"written_off":1,"refunded":2,"refund_minor":0}],"back":[{"line":1,"sku":"S","variant_id":null,"restock":1,"write_off":1}]}"#;
    assert_eq!((told.version, told.subject.as_str(), told.payload.as_str()), (1, "rtn_00000000001", golden));
    for state in ReturnState::ALL {
        let (kind, _) = named(*state);
        assert!(crate::EVENTS.iter().any(|known| known.kind == kind), "{kind}");
    }
    let mut order: OrderHead =
        serde_json::from_value(json!({ "order_id": "ord_00000000002", "number": 7, "state": "fulfilled", "version": 3,
        "lines_version": 1, "external_ref": null, "customer_id": null, "country": "DE", "currency": "EUR", "line_count": 1, "extended": "1",
        "discount_minor": 0, "tax_minor": 0, "total_minor": 100, "credited_minor": 0, "placed_at": null,
        "created_at": "1970-01-01T00:00:00Z", "updated_at": "1970-01-01T00:00:00Z" }))
        .expect("an order");
    order.version = 4;
    let arrived = delivered_event(&order, &BTreeMap::from([(1, 2)]));
    let golden = r#"{"order_id":"ord_00000000002","number":7,"version":4,"state":"fulfilled","delivered":{"1":2}}"#;
    assert_eq!((arrived.kind, arrived.payload.as_str()), ("order.delivered", golden));
}

#[test]
fn tags_are_alike_whatever_their_case() {
    let tags = |given: &[&str]| normal_tags(&given.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>());
    assert_eq!(tags(&["VIP", " gift ", "vip"]).expect("tags"), ["gift", "vip"]);
    assert_eq!(tags(&["a", "  "]).expect_err("empty").field_errors()[0].field, "tags[1]");
    assert_eq!(tags(&["x"; 21]).expect_err("too many").field_errors()[0].field, "tags");
}

fn setup() -> Setup {
    Setup::new(vec![crate::module()])
}

/// Three of A for 3 x 0.335 less 8 with 7 of tax, two of B for 10.00, and a charge off.
fn order() -> Value {
    json!({ "country": "DE", "currency": "EUR", "lines": [
        { "sku": "A", "quantity": 3, "unit_price": "0.335", "discount_minor": 8, "tax_minor": 7 },
        { "sku": "B", "quantity": 2, "unit_price": "10" },
        { "sku": "OFF", "quantity": -1, "unit_price": "1" },
    ] })
}

struct World {
    acme: Client,
    /// Of the order.
    path: String,
    order_id: String,
}

impl World {
    /// An order that went out.
    async fn sent(app: &TestApp) -> World {
        let acme = app.client("acme", &["*"]);
        let placed = acme.post("/api/v1/orders").json(&order()).send().await.expect(201);
        let world = World { acme, path: placed.header("location").to_owned(), order_id: placed.text("order_id") };
        world.acme.post(format!("{}/fulfil", world.path)).send().await.expect(200);
        world
    }

    async fn ask(&self, line: u32, quantity: i64) -> testkit::TestResponse {
        let body = json!({ "reason": "too small", "lines": [{ "line": line, "quantity": quantity, "reason": "tight" }] });
        self.acme.post(format!("{}/returns", self.path)).json(&body).send().await
    }

    async fn post(&self, path: &str, what: &str, body: Value) -> testkit::TestResponse {
        self.acme.post(format!("{path}/{what}")).json(&body).send().await
    }

    /// A return of one line that is inspected, everything to be sold again and refunded: its path.
    async fn inspected(&self, line: u32, quantity: i64) -> String {
        let path = self.ask(line, quantity).await.expect(201).header("location").to_owned();
        self.post(&path, "steps", json!({ "step": "approve" })).await.expect(200);
        self.post(&path, "receive", json!({})).await.expect(200);
        self.post(&path, "inspect", json!({ "lines": [{ "line": line, "restock": quantity, "write_off": 0 }] })).await.expect(200);
        path
    }

    async fn get(&self, path: &str) -> Value {
        self.acme.get(path).send().await.expect(200).json
    }

    async fn progress(&self, line: usize) -> [i64; 5] {
        let progress = self.get(&format!("{}/progress", self.path)).await["lines"][line].clone();
        ["shipped", "delivered", "returning", "returned", "refunded"].map(|field| progress[field].as_i64().expect("a quantity"))
    }
}

testkit::both_engines! {
    setup: setup;

    async fn a_return_goes_from_requested_to_refunded(app: TestApp) {
        let world = World::sent(&app).await;
        let preview = json!({ "lines": [{ "line": 1, "quantity": 2 }, { "line": 2, "quantity": 1 }] });
        let seen = world.post(&world.path, "returns/preview", preview).await.expect(200).json;
        // 2/3 of 101 - 8 + 7, and 10.00.
        assert_eq!((seen["refund_minor"].as_i64(), seen["due_minor"].as_i64()), (Some(67 - 5 + 5 + 1_000), Some(-1_067)));

        let body = json!({ "reason": "too small", "lines": [{ "line": 2, "quantity": 1 }, { "line": 1, "quantity": 2, "reason": "tight" }] });
        let made = world.acme.post(format!("{}/returns", world.path)).key("r1").json(&body).send().await.expect(201);
        let again = world.acme.post(format!("{}/returns", world.path)).key("r1").json(&body).send().await.expect(201);
        assert_eq!(again.json, made.json);
        let path = made.header("location").to_owned();
        assert_eq!(world.progress(0).await, [3, 0, 2, 0, 0]);
        world.ask(1, 2).await.expect_problem(409, "orders.over_return");

        world.post(&path, "receive", json!({})).await.expect_problem(409, "orders.return_not_allowed");
        world.acme.post(format!("{path}/steps")).if_match(9).json(&json!({ "step": "approve" })).send().await.expect_problem(412, "request.precondition_failed");
        world.post(&path, "steps", json!({ "step": "approve", "reason": "within thirty days" })).await.expect(200);
        // One of A did not come; it may come another time.
        world.post(&path, "receive", json!({ "lines": [{ "line": 1, "quantity": 3 }] })).await.expect_problem(409, "orders.over_return");
        world.post(&path, "receive", json!({ "lines": [{ "line": 3, "quantity": 1 }] })).await.expect_problem(400, "request.invalid");
        world.post(&path, "receive", json!({ "lines": [{ "line": 1, "quantity": 0 }] })).await.expect_problem(400, "request.invalid");
        world.post(&path, "receive", json!({ "lines": [{ "line": 1, "quantity": 1 }, { "line": 2, "quantity": 1 }] })).await.expect(200);
        assert_eq!(world.progress(0).await, [3, 0, 0, 1, 0]);
        let half = json!({ "lines": [{ "line": 1, "restock": 1, "write_off": 0 }] });
        world.post(&path, "inspect", half).await.expect_problem(409, "orders.inspection_incomplete");
        let seen = json!({ "lines": [{ "line": 1, "restock": 1, "write_off": 0 }, { "line": 2, "restock": 0, "write_off": 1, "refund": 1 }] });
        world.post(&path, "inspect", seen).await.expect(200);
        let refunded = world.post(&path, "refund", json!({ "reason": "as agreed" })).await.expect(200).json;
        assert_eq!((refunded["state"].as_str(), refunded["refund_minor"].as_i64()), (Some("refunded"), Some(34 - 3 + 2 + 1_000)));
        let note = world.get(&format!("/api/v1/credit-notes/{}", refunded["credit_note_id"].as_str().expect("a credit note"))).await;
        assert_eq!((note["total_minor"].as_i64(), note["lines"][0]["quantity"].as_i64(), note["order_id"].as_str()), (Some(-1_033), Some(-1), Some(world.order_id.as_str())));
        assert_eq!(world.get(&world.path).await["credited_minor"], -1_033);
        world.post(&path, "refund", json!({})).await.expect_problem(409, "orders.return_not_allowed");
        assert_eq!(world.progress(0).await, [3, 0, 0, 1, 1]);

        let changes = world.get(&format!("{path}/changes")).await;
        let kinds: Vec<&str> = changes["data"].as_array().expect("changes").iter().filter_map(|c| c["kind"].as_str()).collect();
        assert_eq!(kinds, ["requested", "approved", "received", "inspected", "refunded"]);
        assert_eq!(changes["data"][1]["reason"], "within thirty days");
        let timeline = world.get(&format!("{}/timeline", world.path)).await;
        let kinds: Vec<&str> = timeline["data"].as_array().expect("entries").iter().filter_map(|c| c["kind"].as_str()).collect();
        assert_eq!(kinds, ["created", "fulfilled", "return_requested", "return_approved", "return_received", "return_inspected", "credited", "return_refunded"]);
        let listed = world.get(&format!("/api/v1/returns?order_id={}", world.order_id)).await;
        assert_eq!(listed["data"].as_array().map(Vec::len), Some(1));
        assert_eq!(world.get("/api/v1/returns?state=refunded&limit=1").await["data"][0]["return_id"], refunded["return_id"]);
        app.client("other", &["*"]).get(&path).send().await.expect_problem(404, "orders.return_not_found");
    }

    async fn piece_by_piece_a_line_is_refunded_exactly(app: TestApp) {
        let world = World::sent(&app).await;
        let mut refunds = Vec::new();
        for _ in 0..3 {
            let path = world.inspected(1, 1).await;
            refunds.push(world.post(&path, "refund", json!({})).await.expect(200).json["refund_minor"].as_i64().expect("an amount"));
        }
        assert_eq!(refunds, [34 - 3 + 2, 33 - 2 + 3, 34 - 3 + 2]);
        assert_eq!(refunds.iter().sum::<i64>(), 101 - 8 + 7, "what the line came to");
        world.ask(1, 1).await.expect_problem(409, "orders.over_return");
        assert_eq!(world.get(&world.path).await["credited_minor"], -100);
    }

    async fn what_a_credit_note_has_given_back_is_not_refunded_again(app: TestApp) {
        let world = World::sent(&app).await;
        let note = json!({ "order_id": world.order_id, "currency": "EUR", "reason": "arrived broken",
            "lines": [{ "sku": "B", "quantity": -1, "unit_price": "10" }] });
        world.acme.post("/api/v1/credit-notes").json(&note).send().await.expect(201);
        let preview = json!({ "lines": [{ "line": 2, "quantity": 2 }] });
        assert_eq!(world.post(&world.path, "returns/preview", preview).await.expect(200).json["refund_minor"], 1_000);
        let first = world.inspected(2, 1).await;
        assert_eq!(world.post(&first, "refund", json!({})).await.expect(200).json["refund_minor"], 1_000);
        let second = world.inspected(2, 1).await;
        world.post(&second, "refund", json!({})).await.expect_problem(409, "orders.nothing_to_refund");
        world.post(&second, "steps", json!({ "step": "close" })).await.expect(200);
        assert_eq!(world.get(&world.path).await["credited_minor"], -2_000);
    }

    async fn an_order_takes_the_place_of_one_return(app: TestApp) {
        let world = World::sent(&app).await;
        let instead = world.acme.post("/api/v1/orders").json(&order()).send().await.expect(201).text("order_id");
        let (first, second) = (world.inspected(2, 1).await, world.inspected(2, 1).await);
        world.post(&first, "exchange", json!({ "order_id": instead })).await.expect(200);
        world.post(&second, "exchange", json!({ "order_id": instead })).await.expect_problem(409, "orders.already_exchanged");
        world.post(&second, "refund", json!({})).await.expect(200);
    }

    async fn what_does_not_come_may_come_another_time(app: TestApp) {
        let world = World::sent(&app).await;
        let path = world.ask(2, 2).await.expect(201).header("location").to_owned();
        world.ask(2, 1).await.expect_problem(409, "orders.over_return");
        world.post(&path, "steps", json!({ "step": "reject", "reason": "worn" })).await.expect(200);
        let path = world.ask(2, 2).await.expect(201).header("location").to_owned();
        world.post(&path, "steps", json!({ "step": "approve" })).await.expect(200);
        world.post(&path, "steps", json!({ "step": "cancel" })).await.expect(200);
        let path = world.inspected(2, 2).await;
        // What was not sold may not come back.
        world.ask(3, 1).await.expect_problem(400, "request.invalid");
        // Nothing is refunded: it is closed.
        let path2 = world.ask(1, 1).await.expect(201).header("location").to_owned();
        world.post(&path2, "steps", json!({ "step": "approve" })).await.expect(200);
        world.post(&path2, "receive", json!({})).await.expect(200);
        let worn = json!({ "lines": [{ "line": 1, "restock": 0, "write_off": 1, "refund": 0 }] });
        world.post(&path2, "inspect", worn).await.expect(200);
        world.post(&path2, "refund", json!({})).await.expect_problem(409, "orders.nothing_to_refund");
        world.post(&path2, "steps", json!({ "step": "close" })).await.expect(200);
        world.post(&path, "refund", json!({})).await.expect(200);
        assert_eq!(world.get(&world.path).await["credited_minor"], -2_000);
        // What was closed without money does not move the shares of the others.
        assert_eq!(world.progress(0).await, [3, 0, 0, 1, 0]);
    }

    async fn another_order_takes_the_place_of_what_came_back(app: TestApp) {
        let world = World::sent(&app).await;
        let preview = json!({ "lines": [{ "line": 2, "quantity": 1 }], "exchange_lines": [{ "sku": "C", "quantity": 1, "unit_price": "12.50" }] });
        let seen = world.post(&world.path, "returns/preview", preview).await.expect(200).json;
        assert_eq!((seen["exchange_minor"].as_i64(), seen["due_minor"].as_i64()), (Some(1_250), Some(250)));
        let wrong = json!({ "lines": [{ "line": 2, "quantity": 1 }], "exchange_lines": [{ "sku": "C", "quantity": 0, "unit_price": "1" }] });
        assert!(world.post(&world.path, "returns/preview", wrong).await.expect_problem(400, "request.invalid").names_field("exchange_lines[0].quantity"));

        let path = world.inspected(2, 1).await;
        let other = |draft: bool, currency: &str| json!({ "draft": draft, "country": "DE", "currency": currency, "lines": [{ "sku": "C", "quantity": 1, "unit_price": "12.50" }] });
        for (draft, currency) in [(true, "EUR"), (false, "GBP")] {
            let wrong = world.acme.post("/api/v1/orders").json(&other(draft, currency)).send().await.expect(201).text("order_id");
            world.post(&path, "exchange", json!({ "order_id": wrong })).await.expect_problem(409, "orders.not_an_exchange");
        }
        world.post(&path, "exchange", json!({ "order_id": world.order_id })).await.expect_problem(409, "orders.not_an_exchange");
        world.post(&path, "exchange", json!({ "order_id": "ord_00000000001" })).await.expect_problem(400, "request.invalid");
        let instead = world.acme.post("/api/v1/orders").json(&other(false, "EUR")).send().await.expect(201).text("order_id");
        let done = world.post(&path, "exchange", json!({ "order_id": instead })).await.expect(200).json;
        assert_eq!((done["state"].as_str(), done["due_minor"].as_i64(), done["exchange_order_id"].as_str()), (Some("exchanged"), Some(250), Some(instead.as_str())));
        let changes = world.get(&format!("/api/v1/orders/{instead}/changes")).await;
        assert_eq!(changes["data"][1]["kind"], "exchanged_for");
    }

    async fn two_people_take_back_the_same_piece_and_one_of_them_does(app: TestApp) {
        let world = World::sent(&app).await;
        let mut racing = tokio::task::JoinSet::new();
        for _ in 0..10 {
            let body = json!({ "lines": [{ "line": 2, "quantity": 2 }] });
            let request = world.acme.post(format!("{}/returns", world.path)).json(&body);
            racing.spawn(async move { request.send().await.status.as_u16() });
        }
        let statuses = racing.join_all().await;
        assert_eq!((statuses.iter().filter(|s| **s == 201).count(), statuses.iter().filter(|s| **s == 409).count()), (1, 9));
        let path = world.get("/api/v1/returns").await["data"][0]["return_id"].as_str().map(|id| format!("/api/v1/returns/{id}")).expect("a return");
        world.post(&path, "steps", json!({ "step": "approve" })).await.expect(200);
        world.post(&path, "receive", json!({})).await.expect(200);
        world.post(&path, "inspect", json!({ "lines": [{ "line": 2, "restock": 2, "write_off": 0 }] })).await.expect(200);
        let mut racing = tokio::task::JoinSet::new();
        for _ in 0..10 {
            let request = world.acme.post(format!("{path}/refund"));
            racing.spawn(async move { request.send().await.status.as_u16() });
        }
        let statuses = racing.join_all().await;
        assert_eq!(statuses.iter().filter(|s| **s == 200).count(), 1, "{statuses:?}");
        assert_eq!(world.get(&world.path).await["credited_minor"], -2_000);
        // Two people who ship the same line.
        let placed = world.acme.post("/api/v1/orders").json(&order()).send().await.expect(201).header("location").to_owned();
        let mut racing = tokio::task::JoinSet::new();
        for _ in 0..10 {
            let request = world.acme.post(format!("{placed}/fulfil")).json(&json!({ "lines": [{ "line": 1, "quantity": 2 }] }));
            racing.spawn(async move { request.send().await.status.as_u16() });
        }
        let statuses = racing.join_all().await;
        assert_eq!(statuses.iter().filter(|s| **s == 200).count(), 1, "two of three fit once: {statuses:?}");
    }

    async fn what_is_on_hold_does_not_go(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        let path = acme.post("/api/v1/orders").json(&order()).send().await.expect(201).header("location").to_owned();
        acme.post(format!("{path}/release")).send().await.expect_problem(409, "orders.not_on_hold");
        acme.post(format!("{path}/hold")).json(&json!({ "reason": "three cards from one address" })).send().await.expect(200);
        acme.post(format!("{path}/hold")).send().await.expect_problem(409, "orders.on_hold");
        acme.post(format!("{path}/fulfil")).send().await.expect_problem(409, "orders.on_hold");
        let hold = acme.get(format!("{path}/hold")).send().await.expect(200).json;
        assert_eq!((hold["on_hold"].as_bool(), hold["hold"]["reason"].as_str()), (Some(true), Some("three cards from one address")));
        let held = acme.get("/api/v1/marked-orders").send().await.expect(200).json;
        assert_eq!(held["data"].as_array().map(Vec::len), Some(1));
        acme.post(format!("{path}/release")).if_match(2).json(&json!({ "reason": "they are a family" })).send().await.expect(200);
        acme.post(format!("{path}/fulfil")).send().await.expect(200);
        acme.post(format!("{path}/hold")).send().await.expect_problem(409, "orders.not_allowed");
        let second = acme.post("/api/v1/orders").json(&order()).send().await.expect(201).header("location").to_owned();
        acme.post(format!("{second}/hold")).send().await.expect(200);
        acme.post(format!("{second}/cancel")).send().await.expect(200);
        app.client("other", &["*"]).post(format!("{second}/hold")).send().await.expect_problem(404, "orders.order_not_found");
    }

    async fn what_arrives_is_counted_and_written_about(app: TestApp) {
        let world = World::sent(&app).await;
        let path = &world.path;
        world.post(path, "deliver", json!({ "lines": [{ "line": 1, "quantity": 4 }] })).await.expect_problem(409, "orders.over_delivery");
        world.post(path, "deliver", json!({ "lines": [{ "line": 1, "quantity": 2 }] })).await.expect(200);
        assert_eq!(world.progress(0).await, [3, 2, 0, 0, 0]);
        world.acme.post(format!("{path}/deliver")).send().await.expect(200);
        assert_eq!((world.progress(0).await, world.progress(1).await, world.progress(2).await), ([3, 3, 0, 0, 0], [2, 2, 0, 0, 0], [0; 5]));
        world.acme.post(format!("{path}/deliver")).send().await.expect_problem(409, "orders.nothing_under_way");

        app.clock().advance_ms(1_000);
        world.acme.post(format!("{path}/remarks")).key("n").json(&json!({ "text": "rang the bell\ntwice" })).send().await.expect(201);
        app.clock().advance_ms(1_000);
        world.acme.put(format!("{path}/tags")).json(&json!({ "tags": ["VIP", "gift"] })).send().await.expect(200);
        let version = world.get(path).await["version"].clone();
        world.acme.put(format!("{path}/tags")).json(&json!({ "tags": ["gift", "vip"] })).send().await.expect(200);
        assert_eq!(world.get(path).await["version"], version, "the same tags change nothing");
        assert_eq!(world.get(&format!("{path}/tags")).await["tags"], json!(["gift", "vip"]));
        assert_eq!(world.get("/api/v1/marked-orders?tag=Vip").await["data"].as_array().map(Vec::len), Some(1));
        assert_eq!(world.get("/api/v1/marked-orders?tag=other").await["data"], json!([]));
        let mut seen = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = world.get(&format!("{path}/timeline?limit=2{cursor}")).await;
            seen.extend(page["data"].as_array().expect("entries").iter().filter_map(|e| e["kind"].as_str()).map(str::to_owned));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(seen, ["created", "fulfilled", "delivered", "delivered", "remark", "tagged"]);
    }

    async fn a_flow_does_it_in_one_transaction(app: TestApp) {
        let world = World::sent(&app).await;
        let order_id: OrderId = world.order_id.parse().expect("an id");
        let by = By { actor: Actor { kind: ActorKind::System, id: 0 }, request_id: None };
        let command = |tx: &mut Tx<'_>, (order_id, by): &(OrderId, By)| {
            let wanted = vec![WantedLine { line: 2, quantity: 2, reason: String::new() }];
            let made = commands::request(tx, &RequestReturn { order_id: *order_id, lines: wanted, reason: "x".to_owned(), by: by.clone() })?;
            let step = || ReturnStep { return_id: made.head.return_id, if_match: web::IfMatch(None), reason: String::new(), by: by.clone() };
            commands::take(tx, &(step(), ReturnCommand::Approve))?;
            commands::receive(tx, &Receive { step: step(), quantities: None })?;
            let lines = vec![InspectedLine { line: 2, restock: 1, write_off: 1, refund: None }];
            let inspected = commands::inspect(tx, &Inspect { step: step(), lines })?;
            assert_eq!((inspected.lines[0].restocked, inspected.lines[0].written_off), (1, 1));
            Ok(commands::refund(tx, &step())?.head.refund_minor)
        };
        assert_eq!(app.store().write(app.tenant("acme"), command, (order_id, by)).await.expect("done"), 2_000);
        assert_eq!(world.progress(1).await, [2, 0, 0, 2, 2]);
    }
}
