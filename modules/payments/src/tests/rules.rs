//! Rules as tables and properties: transitions, routing, card numbers, sealing.

use crate::card::has_card_number;
use crate::model::{Amounts, check_capture, check_refund, check_void};
use crate::model::{Ask, CaptureMode, MethodKind, ProviderId, Report, State, Status, Verdict, public_status, verdict};
use crate::routing::{Breakers, Policy, Rule, Strategy, order};
use client::SealingKey;
use kernel::{Currency, SeededRng, Timestamp};
use proptest::prelude::*;

/// Every state with every report. `.` stays, `!` clashes; otherwise the first letters of the state that it moves to.
const TRANSITIONS: &str = "
                 act  auth cap+ cap  ref+ ref  decl void expi disp won  lost
initiated        req  auth part capt !    !    fail reve expi !    !    !
requires_action  .    auth part capt !    !    fail reve expi !    !    !
authorized       .    .    part capt !    !    !    reve expi !    !    !
partly_captured  .    .    .    capt pref refu !    capt capt disp .    refu
captured         .    .    .    .    pref refu !    .    .    disp .    refu
partly_refunded  .    .    .    .    .    refu !    .    .    disp .    refu
refunded         .    .    .    .    .    .    !    .    .    !    .    .
failed           .    !    !    !    !    !    .    .    .    !    !    !
reversed         .    .    !    !    !    !    .    .    .    !    !    !
expired          .    .    !    !    !    !    .    .    .    !    !    !
disputed         .    .    .    .    .    refu !    .    .    .    capt refu
";

fn state(short: &str) -> State {
    match short {
        "req" => State::RequiresAction,
        "auth" => State::Authorized,
        "part" => State::PartlyCaptured,
        "capt" => State::Captured,
        "pref" => State::PartlyRefunded,
        "refu" => State::Refunded,
        "fail" => State::Failed,
        "reve" => State::Reversed,
        "expi" => State::Expired,
        "disp" => State::Disputed,
        other => panic!("{other} is no state"),
    }
}

#[test]
fn every_state_answers_every_report_as_the_table_says() {
    let mut cells = 0;
    for (row, of) in TRANSITIONS.trim().lines().skip(1).zip(State::ALL) {
        let mut words = row.split_whitespace();
        assert_eq!(words.next(), Some(of.as_str()));
        for (word, report) in words.zip(Report::ALL) {
            let expected = match word {
                "." => Verdict::Stay,
                "!" => Verdict::Clash,
                short => Verdict::To(state(short)),
            };
            assert_eq!(verdict(*of, *report), expected, "{} hears {}", of.as_str(), report.as_str());
            cells += 1;
        }
    }
    assert_eq!(cells, State::ALL.len() * Report::ALL.len());
}

fn after(from: State, report: Report) -> State {
    match verdict(from, report) {
        Verdict::To(to) => to,
        Verdict::Stay | Verdict::Clash => from,
    }
}

/// How far along a state is. A dispute that is won leads back to what was paid.
fn rank(state: State) -> u32 {
    match state {
        State::Initiated => 0,
        State::RequiresAction => 1,
        State::Authorized => 2,
        State::PartlyCaptured => 3,
        State::Captured => 4,
        State::PartlyRefunded => 6,
        State::Disputed => 7,
        State::Refunded | State::Failed | State::Reversed | State::Expired => 8,
    }
}

proptest! {
    #[test]
    fn no_report_leads_back_out_of_a_final_state_or_matters_twice(reports in prop::collection::vec(0..Report::ALL.len(), 0..40)) {
        let mut at = State::Initiated;
        for report in reports.into_iter().map(|i| Report::ALL[i]) {
            let next = after(at, report);
            prop_assert!(!at.is_final() || next == at);
            prop_assert!(rank(next) >= rank(at) || (at == State::Disputed && report == Report::DisputeWon));
            // The same again changes nothing, and is no clash unless it was one.
            prop_assert_eq!(after(next, report), next);
            prop_assert!(next == at || verdict(next, report) == Verdict::Stay);
            // Paid never becomes unpaid.
            prop_assert!(!at.is_paid() || next.is_paid());
            at = next;
        }
    }
}

#[test]
fn customers_see_six_words() {
    for of in State::ALL {
        let expected = match of {
            State::Initiated | State::RequiresAction => Status::Pending,
            State::Authorized => Status::Processing,
            State::PartlyCaptured | State::Captured | State::Disputed => Status::Succeeded,
            State::PartlyRefunded | State::Refunded => Status::Refunded,
            State::Failed | State::Reversed | State::Expired => Status::Failed,
        };
        assert_eq!(public_status(*of, false, false), expected, "{}", of.as_str());
        let refunding = if of.is_paid() { Status::Refunding } else { expected };
        assert_eq!(public_status(*of, false, true), refunding, "{}", of.as_str());
    }
    assert_eq!(public_status(State::Initiated, true, false), Status::Processing);
    assert_eq!(CaptureMode::ALL.len(), 2);
}

#[test]
fn guards_refuse_in_their_order() {
    let amounts = Amounts { amount_minor: 100, captured_minor: 40, capturing_minor: 10, refunded_minor: 15, refunding_minor: 5 };
    assert_eq!((amounts.capturable(), amounts.refundable()), (50, 20));
    let idle = Amounts { capturing_minor: 0, ..amounts };
    let code = |result: kernel::Result<()>| result.err().map_or("ok", |error| error.code());
    assert_eq!(code(check_capture(State::Captured, true, &amounts, 0)), "payments.not_allowed");
    assert_eq!(code(check_capture(State::Authorized, true, &amounts, 0)), "payments.capture_under_way");
    assert_eq!(code(check_capture(State::Authorized, true, &idle, 0)), "request.invalid");
    assert_eq!(code(check_capture(State::Authorized, true, &idle, -1)), "request.invalid");
    assert_eq!(code(check_capture(State::PartlyCaptured, true, &idle, 61)), "payments.capture_exceeds");
    assert_eq!(code(check_capture(State::PartlyCaptured, true, &idle, 60)), "ok");
    assert_eq!(code(check_capture(State::PartlyCaptured, false, &idle, 60)), "payments.not_allowed");
    assert_eq!(code(check_void(State::PartlyCaptured, false, &amounts)), "payments.not_allowed");
    assert_eq!(code(check_void(State::PartlyCaptured, true, &amounts)), "payments.capture_under_way");
    assert_eq!(code(check_void(State::PartlyRefunded, true, &idle)), "ok");
    assert_eq!(code(check_void(State::Captured, true, &idle)), "payments.not_allowed");
    assert_eq!(code(check_void(State::Authorized, true, &amounts)), "payments.capture_under_way");
    assert_eq!(code(check_void(State::Authorized, true, &Amounts::default())), "ok");
    assert_eq!(code(check_refund(State::Authorized, &amounts, 1)), "payments.not_allowed");
    assert_eq!(code(check_refund(State::Refunded, &amounts, 1)), "payments.not_allowed");
    assert_eq!(code(check_refund(State::Captured, &amounts, 21)), "payments.refund_exceeds");
    assert_eq!(code(check_refund(State::Disputed, &amounts, 20)), "ok");
    assert_eq!(code(check_refund(State::Captured, &amounts, i64::MAX)), "request.invalid");
}

#[test]
fn card_numbers_are_found_wherever_they_hide() {
    let found = [
        "4242424242424242",
        r#"{"token":"4242 4242 4242 4242"}"#,
        "4242-4242-4242-4242",
        "card=4242.4242.4242.4242&x=1",
        "378282246310005",
        "3782 822463 10005",
        "6011111111111117 12/27 123",
        "12 4242424242424242",
        "pan4242424242424242x",
        "4242%20424242424242%34%32",
        r#"{"note":"\u0034242424242424242"}"#,
        "5019717010103742",
        "6759649826438453",
        "4222222222222",
        "6304000000000000",
        "4000000000000000006",
        "PAN-4242-4242-4242-4242",
    ];
    for text in found {
        assert!(has_card_number(text.as_bytes()), "{text}");
    }
    let none = [
        "",
        "4242424242424241",
        "42424242424242424242424242",
        "42424242424",
        r#"{"amount_minor":4242,"x":42424242}"#,
        "2026-01-05T12:00:00.000000Z",
        "pay_0LkVb3qKz1A-1",
        "123e4567-e89b-4242-8424-242424242424",
        "4242 4242 then 4242 4242",
        "000000000000000",
        r#"[1234,5678,9012,3456]"#,
    ];
    for text in none {
        assert!(!has_card_number(text.as_bytes()), "{text}");
    }
}

proptest! {
    /// Whatever has Luhn's check digit is found, in any grouping.
    #[test]
    fn any_number_with_its_check_digit_is_found(digits in "[1-9][0-9]{10,17}", cuts in prop::collection::vec(any::<bool>(), 18), separator in "[ .-]") {
        let sum: u32 = digits.bytes().rev().enumerate().map(|(i, d)| { let d = u32::from(d - b'0'); if i % 2 == 0 { d * 2 / 10 + d * 2 % 10 } else { d } }).sum();
        let whole = format!("{digits}{}", (10 - sum % 10) % 10);
        let mut text = String::from("x ");
        for (digit, cut) in whole.chars().zip(cuts.iter().chain(std::iter::repeat(&false))) {
            text.push(digit);
            if *cut {
                text.push_str(&separator);
            }
        }
        prop_assert!(has_card_number(text.as_bytes()), "{}", text);
    }
}

fn provider(number: i64) -> ProviderId {
    ProviderId::from_i64(number)
}

fn rule(number: i64) -> Rule {
    Rule::always(provider(number))
}

fn ask(amount_minor: i64, currency: &str, country: &str) -> Ask {
    let currency: Currency = currency.parse().expect("a currency");
    Ask { method: MethodKind::Card, amount_minor, currency, country: country.into(), merchant: String::new() }
}

#[test]
fn rules_match_by_every_condition() {
    let eur = "EUR".parse().expect("a currency");
    let rules = vec![
        Rule { currencies: vec![eur], countries: vec!["DE".into(), "FR".into()], ..rule(1) },
        Rule { priority: 1, min_amount_minor: Some(1_000), max_amount_minor: Some(5_000), ..rule(2) },
        Rule { priority: 2, methods: vec![MethodKind::Wallet], ..rule(3) },
        Rule { priority: 2, merchants: vec!["shop".into()], ..rule(4) },
        Rule { priority: 3, ..rule(1) },
    ];
    let policy = Policy { strategy: Strategy::Weighted, rules };
    let of = |ask: &Ask| order(&policy, ask, 7).into_iter().map(|id| id.as_i64()).collect::<Vec<_>>();
    assert_eq!(of(&ask(500, "EUR", "DE")), [1]);
    assert_eq!(of(&ask(1_000, "EUR", "DE")), [1, 2]);
    assert_eq!(of(&ask(5_000, "USD", "DE")), [2, 1]);
    assert_eq!(of(&ask(5_001, "EUR", "")), [1]);
    assert_eq!(of(&Ask { merchant: "shop".into(), ..ask(9_999, "EUR", "US") }), [4, 1]);
    assert_eq!(of(&Ask { method: MethodKind::Wallet, ..ask(1, "EUR", "US") }), [3, 1]);
    assert!(order(&Policy { rules: vec![rule(1)], ..Policy::default() }, &ask(1, "EUR", ""), 0) == [provider(1)]);
}

#[test]
fn weights_decide_how_often_each_comes_first() {
    let rules =
        vec![Rule { weight: 7, ..rule(1) }, Rule { weight: 2, ..rule(2) }, Rule { weight: 1, ..rule(3) }, Rule { weight: 0, ..rule(4) }];
    let policy = Policy { strategy: Strategy::Weighted, rules };
    let mut first = [0_u32; 5];
    for draw in 0..10_000_u64 {
        let all = order(&policy, &ask(1, "EUR", ""), draw.wrapping_mul(0x2545_F491_4F6C_DD1D));
        assert_eq!((all.len(), all[3]), (4, provider(4)));
        first[all[0].as_i64() as usize] += 1;
    }
    assert!((6_800..7_200).contains(&first[1]) && (1_850..2_150).contains(&first[2]) && (880..1_120).contains(&first[3]), "{first:?}");
}

#[test]
fn the_cheapest_depends_on_the_amount() {
    let rules = vec![Rule { cost_micros: 29_000, ..rule(1) }, Rule { cost_micros: 14_000, cost_fixed_minor: 30, ..rule(2) }];
    let policy = Policy { strategy: Strategy::Cheapest, rules };
    assert_eq!(order(&policy, &ask(1_000, "EUR", ""), 1)[0], provider(1));
    assert_eq!(order(&policy, &ask(10_000, "EUR", ""), 1)[0], provider(2));
}

#[test]
fn policies_are_bounded() {
    let wrong = [
        Rule { priority: 1_001, ..rule(1) },
        Rule { weight: 1_000_001, ..rule(1) },
        Rule { cost_micros: 1_000_001, ..rule(1) },
        Rule { countries: vec!["de".into()], ..rule(1) },
        Rule { merchants: vec![String::new()], ..rule(1) },
        Rule { min_amount_minor: Some(-1), ..rule(1) },
    ];
    for rule in wrong {
        assert!(Policy { rules: vec![rule], ..Policy::default() }.check().is_err());
    }
    assert!(Policy { rules: vec![rule(1); 101], ..Policy::default() }.check().is_err());
    assert!(Policy { rules: vec![rule(1); 100], ..Policy::default() }.check().is_ok());
}

#[test]
fn a_breaker_opens_after_outages_and_lets_one_try_again() {
    let mut breakers = Breakers::default();
    let (one, other) = (provider(1), provider(2));
    let at = |ms: i64| Timestamp::from_micros(0).plus_ms(ms);
    for _ in 0..4 {
        breakers.failed(one, at(0));
    }
    assert!(breakers.admits(one, at(0)));
    breakers.answered(one);
    for _ in 0..5 {
        assert!(breakers.admits(one, at(0)));
        breakers.failed(one, at(0));
    }
    assert!(!breakers.admits(one, at(9_999)) && breakers.admits(other, at(0)));
    assert!(breakers.admits(one, at(10_000)) && !breakers.admits(one, at(10_001)));
    breakers.failed(one, at(10_100));
    assert!(!breakers.admits(one, at(20_000)) && breakers.admits(one, at(20_100)));
    breakers.answered(one);
    assert!(breakers.admits(one, at(20_101)) && breakers.admits(one, at(20_101)));
}

#[test]
fn a_sealed_secret_opens_only_where_it_was_put() {
    let rng = SeededRng::new(7);
    let key = SealingKey::new(&[1; 32]);
    let sealed = key.seal("ten_1/psp_1", b"sk_live", &rng).expect("sealed");
    assert!(!sealed.windows(7).any(|w| w == b"sk_live"));
    assert_ne!(sealed, key.seal("ten_1/psp_1", b"sk_live", &rng).expect("sealed"));
    assert_eq!(key.open("ten_1/psp_1", &sealed).expect("opened"), b"sk_live");
    assert_eq!(key.open("ten_2/psp_1", &sealed), None);
    assert_eq!(SealingKey::new(&[2; 32]).open("ten_1/psp_1", &sealed), None);
    let mut bent = sealed.clone();
    *bent.last_mut().expect("a byte") ^= 1;
    assert_eq!(key.open("ten_1/psp_1", &bent), None);
    assert_eq!(key.open("ten_1/psp_1", &[]), None);
}
