//! The score and the other pure rules: tables that a reader can audit, and properties.

use crate::model::{Every, Used, date_of};
use crate::outside::iban;
use crate::policy::Policy;
use crate::score::{Condition, Feature, Features, Fraud, MAX_POINTS, Rule, Scorer, Verdict};
use kernel::{Currency, Timestamp};
use proptest::prelude::*;
use std::collections::BTreeMap;

use Feature::*;

fn of(known: &[(Feature, i64)]) -> Features {
    known.iter().fold(Features::default(), |features, (feature, value)| features.with(*feature, *value))
}

/// What the built-in policy makes of it, and with which reasons of its rules.
#[test]
fn the_built_in_rules() {
    type Case = (&'static str, &'static [(Feature, i64)], Verdict, &'static [&'static str]);
    let cases: &[Case] = &[
        ("a small one to a friend", &[(Amount, 1_000), (SentLastHour, 1), (SentToday, 1)], Verdict::Allow, &[]),
        ("a first one", &[(Amount, 2_000), (NewPayee, 1), (NewPayeesToday, 1), (YoungWallet, 1)], Verdict::Allow, &[]),
        (
            "a large one to somebody new",
            &[(Amount, 60_000), (NewPayee, 1), (NewPayeesToday, 1)],
            Verdict::Allow,
            &["new_payee_large_amount"],
        ),
        ("one below the line", &[(Amount, 49_999), (NewPayee, 1)], Verdict::Allow, &[]),
        ("a new telephone", &[(Amount, 2_000), (NewDevice, 1)], Verdict::Allow, &["new_device"]),
        (
            "a new telephone, somebody new and much",
            &[(Amount, 60_000), (NewPayee, 1), (NewDevice, 1)],
            Verdict::Challenge,
            &["new_device_large_amount", "new_payee_large_amount", "new_device"],
        ),
        (
            "the same from abroad",
            &[(Amount, 60_000), (NewPayee, 1), (NewDevice, 1), (OtherCountry, 1)],
            Verdict::Review,
            &["new_device_large_amount", "new_payee_large_amount", "other_country", "new_device"],
        ),
        (
            "the same, and thirty times as much as ever",
            &[(Amount, 60_000), (AmountRatioPct, 3_000), (NewPayee, 1), (NewDevice, 1), (OtherCountry, 1)],
            Verdict::Deny,
            &["extreme_amount", "new_device_large_amount", "new_payee_large_amount", "other_country", "unusual_amount", "new_device"],
        ),
        (
            "a machine",
            &[(Amount, 1_000), (SentLastHour, 60)],
            Verdict::Challenge,
            &["very_many_transfers_in_an_hour", "many_transfers_in_an_hour"],
        ),
        (
            "a mule",
            &[(Amount, 90_000), (PassThroughPct, 100), (NewPayee, 1), (YoungWallet, 1), (PayeeNewPayersToday, 40)],
            Verdict::Review,
            &["new_payee_large_amount", "passes_on_what_came", "payee_gathers", "young_wallet_large_amount"],
        ),
        ("a scatter", &[(Amount, 1_000), (NewPayee, 1), (NewPayeesToday, 10)], Verdict::Allow, &["many_new_payees"]),
        ("a circle", &[(Amount, 20_000), (ReturnFlow, 1)], Verdict::Allow, &["money_in_a_circle"]),
    ];
    let scorer = Scorer::new(&Fraud::default());
    for (name, known, verdict, reasons) in cases {
        let score = scorer.score(&of(known));
        let codes: Vec<&str> = score.reasons.iter().map(|reason| reason.code.as_str()).filter(|code| !code.starts_with("model")).collect();
        assert_eq!((score.verdict, &codes[..]), (*verdict, *reasons), "{name}: {score:?}");
    }
}

/// Reasons add up to the points, the model's parts too.
#[test]
fn the_model_is_split_without_a_rest() {
    let mut fraud = Fraud { rules: Vec::new(), ..Fraud::default() };
    fraud.model.bias = 0.0;
    fraud.model.weights = [(NewPayee, 1.0), (Amount, 0.5)].into();
    fraud.model.points = 1_000;
    // 1 / (1 + e^-(1 + 0.5 ln(1 + e^2 - 1))) = 1 / (1 + e^-2) = 0.8808
    let score = Scorer::new(&fraud).score(&of(&[(NewPayee, 1), (Amount, 6)]));
    assert_eq!(score.points, 877, "ln(7) is a little below 2");
    let parts: Vec<(&str, i64)> = score.reasons.iter().map(|reason| (reason.code.as_str(), reason.points)).collect();
    assert_eq!(parts, [("model.new_payee", 445), ("model.amount", 432)]);
    // A bias alone is nobody's.
    fraud.model.bias = 3.0;
    let score = Scorer::new(&fraud).score(&Features::default());
    assert_eq!((score.points, score.reasons[0].code.as_str(), score.reasons[0].points), (952, "model", 952));
}

fn feature() -> impl Strategy<Value = Feature> {
    (0..Feature::ALL.len()).prop_map(|at| Feature::ALL[at])
}

prop_compose! {
    fn fraud()(
        rules in proptest::collection::vec((proptest::collection::vec((feature(), 1_i64..10_000), 1..4), 1_i64..400), 0..12),
        weights in proptest::collection::btree_map(feature(), 0.0..5.0_f64, 0..12),
        bias in -10.0..5.0_f64,
        points in 0_i64..1_000,
        mut thresholds in [1_i64..=1_001, 1_i64..=1_001, 1_i64..=1_001],
    ) -> Fraud {
        thresholds.sort_unstable();
        let rule = |(n, (when, points)): (usize, (Vec<(Feature, i64)>, i64))| Rule {
            code: format!("rule_{n}"),
            when: when.into_iter().map(|(feature, at_least)| Condition { feature, at_least }).collect(),
            points,
        };
        let mut fraud = Fraud { rules: rules.into_iter().enumerate().map(rule).collect(), ..Fraud::default() };
        (fraud.model.weights, fraud.model.bias, fraud.model.points) = (weights, bias, points);
        (fraud.thresholds.challenge, fraud.thresholds.review, fraud.thresholds.deny) = (thresholds[0], thresholds[1], thresholds[2]);
        fraud
    }
}

proptest! {
    /// Whatever the data say: more of a feature never makes a lower score or a milder verdict, and the score keeps its bounds.
    #[test]
    fn the_score_is_monotone(fraud in fraud(), values in proptest::collection::vec(0_i64..20_000, 12), grown in feature(), by in 1_i64..1_000_000) {
        fraud.check().unwrap();
        let scorer = Scorer::new(&fraud);
        let before = Feature::ALL.iter().zip(&values).fold(Features::default(), |features, (feature, value)| features.with(*feature, *value));
        let after = before.with(grown, before.get(grown) + by);
        let (low, high) = (scorer.score(&before), scorer.score(&after));
        prop_assert!(low.points <= high.points, "{} grew by {by}: {low:?} to {high:?}", grown.as_str());
        prop_assert!(low.verdict <= high.verdict);
        prop_assert!((0..=MAX_POINTS).contains(&high.points));
        let sum: i64 = high.reasons.iter().map(|reason| reason.points).sum();
        prop_assert!(sum == high.points || (sum > MAX_POINTS && high.points == MAX_POINTS), "{high:?}");
    }

    /// What has left and come back counts as if it had never left.
    #[test]
    fn what_comes_back_counts_no_more(days in proptest::collection::vec((0_i64..70, 1_i64..1_000, any::<bool>()), 1..30)) {
        let mut days = days;
        days.sort_unstable();
        let (mut with, mut without) = (Used::default(), Used::default());
        let last = days.last().map_or(0, |(day, ..)| *day) + 20_000;
        for (day, minor, back) in &days {
            with = with.on(20_000 + day).plus(*minor);
            if *back { with = with.less(20_000 + day, *minor); } else { without = without.on(20_000 + day).plus(*minor); }
        }
        let (with, without) = (with.on(last), without.on(last));
        prop_assert_eq!((with.day_minor, with.month_minor), (without.day_minor, without.month_minor));
    }
}

#[test]
fn dates_of_schedules() {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let cases = [
        ("2026-01-31T09:30:00Z", Every::Month, 1, "2026-02-28T09:30:00Z"),
        ("2026-01-31T09:30:00Z", Every::Month, 2, "2026-03-31T09:30:00Z"),
        ("2028-01-31T09:30:00Z", Every::Month, 1, "2028-02-29T09:30:00Z"),
        ("2026-12-15T00:00:00Z", Every::Month, 1, "2027-01-15T00:00:00Z"),
        ("2026-10-31T00:00:00Z", Every::Month, 13, "2027-11-30T00:00:00Z"),
        ("2026-02-28T12:00:00Z", Every::Day, 1, "2026-03-01T12:00:00Z"),
        ("2026-12-28T12:00:00Z", Every::Week, 1, "2027-01-04T12:00:00Z"),
        ("2026-12-28T12:00:00Z", Every::Once, 5, "2026-12-28T12:00:00Z"),
    ];
    for (first, every, n, expected) in cases {
        assert_eq!(date_of(at(first), every, n), at(expected), "{first} {every:?} {n}");
    }
}

#[test]
fn ibans_have_check_digits() {
    for good in ["DE89370400440532013000", "de89 3704 0044 0532 0130 00", "GB29NWBK60161331926819", "NO9386011117947"] {
        iban(good).unwrap();
    }
    for bad in ["", "DE89370400440532013001", "DE8937040044053201300", "89DE370400440532013000", "DE893704004405320130ÄÄ", "XX00"] {
        assert!(iban(bad).is_err(), "{bad}");
    }
}

#[test]
fn policies_are_checked() {
    type Spoil = fn(&mut Policy);
    let wrong: &[(&str, Spoil)] = &[
        ("levels", |policy| policy.levels.clear()),
        ("levels[1].level", |policy| policy.levels[1].level = 0),
        ("levels[0].otherwise.per_day_minor", |policy| policy.levels[0].otherwise.per_day_minor = Some(-1)),
        ("merchant_fee.bps", |policy| policy.merchant_fee.bps = 5_001),
        ("times.challenge_attempts", |policy| policy.times.challenge_attempts = 0),
        ("times.review_seconds", |policy| policy.times.review_seconds = 1),
        ("fraud.rules[0].points", |policy| policy.fraud.rules[0].points = -5),
        ("fraud.rules[0].when", |policy| policy.fraud.rules[0].when.clear()),
        ("fraud.rules[1].code", |policy| policy.fraud.rules[1].code = policy.fraud.rules[0].code.clone()),
        ("fraud.model.bias", |policy| policy.fraud.model.bias = f64::NAN),
        ("fraud.model.weights.amount", |policy| policy.fraud.model.weights = BTreeMap::from([(Amount, -0.1)])),
        ("fraud.thresholds", |policy| policy.fraud.thresholds.deny = policy.fraud.thresholds.challenge - 1),
    ];
    Policy::default().check().unwrap();
    for (field, spoil) in wrong {
        let mut policy = Policy::default();
        spoil(&mut policy);
        let error = policy.check().expect_err(field);
        assert_eq!(error.field_errors()[0].field, *field);
    }
}

#[test]
fn limits_of_other_currencies_are_scaled() {
    let policy = Policy::default();
    let most = |code: &str| policy.limits(0, code.parse::<Currency>().unwrap()).unwrap().per_day_minor;
    assert_eq!((most("EUR"), most("JPY"), most("KWD")), (Some(15_000), Some(150), Some(150_000)));
    assert_eq!(policy.limits(9, "EUR".parse().unwrap()), None);
}
