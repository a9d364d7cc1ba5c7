//! How much a transfer looks like fraud: a pure function of what is known of it. Rules with points and a small logistic model, both data.
//!
//! Every feature is made so that more of it is more suspicious; rules only ask whether a feature is at least something, points are never
//! negative, and neither are the model's weights. So the score never falls when a feature rises, whatever the data say.

use kernel::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

use crate::model::words;
use store::{FromValue, ToValue, Value, ValueRef};

/// The most points.
pub const MAX_POINTS: i64 = 1_000;

words! {
    /// What is known of a transfer.
    #[schema(as = FraudFeature)]
    Feature {
        /// The amount in hundredths of the major unit, so that it means about the same in each currency.
        Amount = "amount",
        /// The amount in percent of the mean of what was sent before; 0 for the first three.
        AmountRatioPct = "amount_ratio_pct",
        /// How often was sent in the last hour, this time included.
        SentLastHour = "sent_last_hour",
        /// How often was sent today (UTC), this time included.
        SentToday = "sent_today",
        /// 1 when nothing was sent to this payee before.
        NewPayee = "new_payee",
        /// To how many new payees was sent today, this one included.
        NewPayeesToday = "new_payees_today",
        /// 1 when the device is another than those before.
        NewDevice = "new_device",
        /// 1 when the country is another than the last one.
        OtherCountry = "other_country",
        /// What was sent in the last hour, this time included, in percent of what came in it; at most 100, and 0 when nothing came.
        PassThroughPct = "pass_through_pct",
        /// 1 when the payee has sent something to the payer before: money that goes in a circle.
        ReturnFlow = "return_flow",
        /// From how many new payers the payee got something today: money that is gathered.
        PayeeNewPayersToday = "payee_new_payers_today",
        /// 1 in a wallet's first day.
        YoungWallet = "young_wallet",
    }
}

const FEATURES: usize = Feature::ALL.len();

/// The values of all features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features([i64; FEATURES]);

impl Features {
    /// With this value, never below zero.
    #[must_use]
    pub fn with(mut self, feature: Feature, value: i64) -> Features {
        self.0[feature as usize] = value.max(0);
        self
    }

    /// The value.
    pub fn get(&self, feature: Feature) -> i64 {
        self.0[feature as usize]
    }
}

/// A feature is at least something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = FraudCondition)]
pub struct Condition {
    /// Which.
    pub feature: Feature,
    /// From here on.
    #[schema(minimum = 1, maximum = 1_000_000_000_000_i64)]
    pub at_least: i64,
}

/// Points for what meets all conditions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = FraudRule)]
pub struct Rule {
    /// The reason's code: small letters, digits, `_` and `-`.
    #[schema(min_length = 1, max_length = 40, pattern = "^[a-z0-9_-]+$")]
    pub code: String,
    /// All of them.
    #[schema(min_items = 1, max_items = 6)]
    pub when: Vec<Condition>,
    /// For the score.
    #[schema(minimum = 1, maximum = 1000)]
    pub points: i64,
}

/// A logistic model: the probability `1 / (1 + e^-(bias + sum of weight * x))`, where `x` is the feature itself for flags, a hundredth of it
/// for percentages, and `ln(1 + feature)` for amounts and counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = FraudModel)]
pub struct Model {
    /// What it is called, for whoever compares versions.
    #[schema(min_length = 1, max_length = 40)]
    pub name: String,
    /// Of nothing known.
    #[schema(minimum = -50, maximum = 50)]
    pub bias: f64,
    /// By feature; zero or more.
    #[schema(value_type = BTreeMap<String, f64>)]
    pub weights: BTreeMap<Feature, f64>,
    /// The points of a probability of 1.
    #[schema(minimum = 0, maximum = 1000)]
    pub points: i64,
}

/// From how many points on what happens; 1001 for never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = FraudThresholds)]
pub struct Thresholds {
    /// The payer has to confirm with a code.
    #[schema(minimum = 1, maximum = 1001)]
    pub challenge: i64,
    /// A person has to decide.
    #[schema(minimum = 1, maximum = 1001)]
    pub review: i64,
    /// It is refused.
    #[schema(minimum = 1, maximum = 1001)]
    pub deny: i64,
}

/// What makes a score, and what follows from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = FraudPolicy)]
pub struct Fraud {
    /// At most 50.
    #[schema(max_items = 50)]
    pub rules: Vec<Rule>,
    /// The model.
    pub model: Model,
    /// What follows.
    pub thresholds: Thresholds,
}

impl Default for Fraud {
    fn default() -> Fraud {
        use Feature::*;
        let rule = |code: &str, points: i64, when: &[(Feature, i64)]| Rule {
            code: code.to_owned(),
            when: when.iter().map(|(feature, at_least)| Condition { feature: *feature, at_least: *at_least }).collect(),
            points,
        };
        Fraud {
            rules: vec![
                rule("new_payee_large_amount", 200, &[(NewPayee, 1), (Amount, 50_000)]),
                rule("unusual_amount", 150, &[(AmountRatioPct, 500), (Amount, 10_000)]),
                rule("extreme_amount", 250, &[(AmountRatioPct, 2_000), (Amount, 10_000)]),
                rule("many_transfers_in_an_hour", 200, &[(SentLastHour, 20)]),
                rule("very_many_transfers_in_an_hour", 300, &[(SentLastHour, 60)]),
                rule("many_new_payees", 250, &[(NewPayeesToday, 10)]),
                rule("new_device", 100, &[(NewDevice, 1)]),
                rule("new_device_large_amount", 250, &[(NewDevice, 1), (Amount, 50_000)]),
                rule("other_country", 150, &[(OtherCountry, 1)]),
                rule("passes_on_what_came", 200, &[(PassThroughPct, 90), (Amount, 20_000)]),
                rule("money_in_a_circle", 100, &[(ReturnFlow, 1), (Amount, 20_000)]),
                rule("payee_gathers", 200, &[(PayeeNewPayersToday, 25)]),
                rule("young_wallet_large_amount", 150, &[(YoungWallet, 1), (Amount, 50_000)]),
            ],
            model: Model {
                name: "first".to_owned(),
                bias: -7.0,
                weights: [
                    (Amount, 0.2),
                    (AmountRatioPct, 0.15),
                    (SentLastHour, 0.25),
                    (NewPayee, 0.5),
                    (NewPayeesToday, 0.3),
                    (NewDevice, 1.0),
                    (OtherCountry, 1.0),
                    (PassThroughPct, 0.8),
                    (ReturnFlow, 0.3),
                    (PayeeNewPayersToday, 0.2),
                    (YoungWallet, 0.5),
                ]
                .into(),
                points: 400,
            },
            thresholds: Thresholds { challenge: 400, review: 650, deny: 850 },
        }
    }
}

impl Fraud {
    /// Errors: `request.invalid`, naming the field.
    pub fn check(&self) -> Result<()> {
        let wrong = |field: String, detail: &str| Err(Error::field(field, "out_of_range", detail));
        if self.rules.len() > 50 {
            return wrong("fraud.rules".to_owned(), "at most 50");
        }
        for (index, rule) in self.rules.iter().enumerate() {
            let at = |name: &str| format!("fraud.rules[{index}].{name}");
            let letters = rule.code.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b));
            if !(1..=40).contains(&rule.code.len()) || !letters {
                return wrong(at("code"), "1 to 40 small letters, digits, '_' and '-'");
            }
            if self.rules[..index].iter().any(|other| other.code == rule.code) {
                return Err(Error::field(at("code"), "repeated", "this code is there twice"));
            }
            if !(1..=6).contains(&rule.when.len()) {
                return wrong(at("when"), "1 to 6 conditions");
            }
            let outside = |condition: &Condition| !(1..=1_000_000_000_000).contains(&condition.at_least);
            if let Some(place) = rule.when.iter().position(outside) {
                return wrong(at(&format!("when[{place}].at_least")), "between 1 and 1000000000000");
            }
            if !(1..=MAX_POINTS).contains(&rule.points) {
                return wrong(at("points"), "between 1 and 1000");
            }
        }
        crate::model::check_text("fraud.model.name", &self.model.name, 1, 40)?;
        // Written so that what is no number is refused too.
        if !(-50.0..=50.0).contains(&self.model.bias) {
            return wrong("fraud.model.bias".to_owned(), "between -50 and 50");
        }
        if let Some((feature, _)) = self.model.weights.iter().find(|(_, weight)| !(0.0..=50.0).contains(*weight)) {
            return wrong(format!("fraud.model.weights.{}", feature.as_str()), "between 0 and 50");
        }
        if !(0..=MAX_POINTS).contains(&self.model.points) {
            return wrong("fraud.model.points".to_owned(), "between 0 and 1000");
        }
        let Thresholds { challenge, review, deny } = self.thresholds;
        if !(1 <= challenge && challenge <= review && review <= deny && deny <= MAX_POINTS + 1) {
            return wrong("fraud.thresholds".to_owned(), "1 <= challenge <= review <= deny <= 1001");
        }
        Ok(())
    }
}

words! {
    /// What follows from a score.
    Verdict {
        /// It is done.
        Allow = "allow",
        /// The payer has to confirm with a code.
        Challenge = "challenge",
        /// A person has to decide.
        Review = "review",
        /// It is refused.
        Deny = "deny",
    }
}

/// What some of the points are for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = FraudReason)]
pub struct Reason {
    /// A rule's code, or `model.` and a feature.
    pub code: String,
    /// How many.
    pub points: i64,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Score {
    /// 0 to [`MAX_POINTS`].
    pub points: i64,
    /// What the points are for, the heaviest first; they may add up to more than the most.
    pub reasons: Vec<Reason>,
    /// What follows.
    pub verdict: Verdict,
}

impl Score {
    /// Of what is not judged.
    pub fn none() -> Score {
        Score { points: 0, reasons: Vec::new(), verdict: Verdict::Allow }
    }
}

/// A policy's rules and weights, in the shape in which they are asked.
#[derive(Debug)]
pub struct Scorer {
    rules: Vec<Rule>,
    bias: f64,
    weights: [f64; FEATURES],
    points: f64,
    thresholds: Thresholds,
}

/// What the model makes of a feature.
fn input(feature: Feature, value: i64) -> f64 {
    match feature {
        Feature::NewPayee | Feature::NewDevice | Feature::OtherCountry | Feature::ReturnFlow | Feature::YoungWallet => value as f64,
        Feature::AmountRatioPct | Feature::PassThroughPct => value.min(10_000) as f64 / 100.0,
        _ => (value as f64).ln_1p(),
    }
}

impl Scorer {
    /// Of checked data.
    pub fn new(fraud: &Fraud) -> Scorer {
        let mut weights = [0.0; FEATURES];
        fraud.model.weights.iter().for_each(|(feature, weight)| weights[*feature as usize] = *weight);
        Scorer {
            rules: fraud.rules.clone(),
            bias: fraud.model.bias,
            weights,
            points: fraud.model.points as f64,
            thresholds: fraud.thresholds,
        }
    }

    /// Judges a transfer.
    pub fn score(&self, features: &Features) -> Score {
        let mut reasons: Vec<Reason> = Vec::new();
        let mut points = 0;
        for rule in &self.rules {
            if rule.when.iter().all(|condition| features.get(condition.feature) >= condition.at_least) {
                points += rule.points;
                reasons.push(Reason { code: rule.code.clone(), points: rule.points });
            }
        }
        points += self.modelled(features, &mut reasons);
        reasons.sort_by(|a, b| b.points.cmp(&a.points).then_with(|| a.code.cmp(&b.code)));
        let points = points.min(MAX_POINTS);
        let Thresholds { challenge, review, deny } = self.thresholds;
        let verdict = match points {
            _ if points >= deny => Verdict::Deny,
            _ if points >= review => Verdict::Review,
            _ if points >= challenge => Verdict::Challenge,
            _ => Verdict::Allow,
        };
        Score { points, reasons, verdict }
    }

    /// The model's points, split over the features by their share in it; what is left of the split goes to the heaviest.
    fn modelled(&self, features: &Features, reasons: &mut Vec<Reason>) -> i64 {
        let mut parts = [0.0; FEATURES];
        let mut sum = 0.0;
        for feature in Feature::ALL {
            let part = self.weights[*feature as usize] * input(*feature, features.get(*feature));
            parts[*feature as usize] = part;
            sum += part;
        }
        let probability = 1.0 / (1.0 + (-(self.bias + sum)).exp());
        // Whole points, rounded down: a probability below one point is no reason.
        let points = (self.points * probability) as i64;
        if points == 0 {
            return 0;
        }
        let first = reasons.len();
        let mut left = points;
        for feature in Feature::ALL {
            // Without any part (a high bias alone) all of it is nobody's: 0 / 0 is not above zero.
            let part = (points as f64 * parts[*feature as usize] / sum) as i64;
            if part > 0 {
                left -= part;
                reasons.push(Reason { code: format!("model.{}", feature.as_str()), points: part });
            }
        }
        match reasons[first..].iter_mut().max_by_key(|reason| reason.points) {
            Some(heaviest) => heaviest.points += left,
            None => reasons.push(Reason { code: "model".to_owned(), points }),
        }
        points
    }
}
