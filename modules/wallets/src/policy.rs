//! What a tenant decides for itself, as data with a version: the limits of each KYC level, fees, times, and what makes a score.
//! Without a policy of its own the built-in one counts (version 0).

use crate::score::{Fraud, Scorer};
use kernel::{Currency, Error, Result, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// How much may leave a wallet of a level, in minor units; null for as much as there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = WalletLimits)]
pub struct Limits {
    /// In one transfer.
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    pub per_transfer_minor: Option<i64>,
    /// In a day (UTC).
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    pub per_day_minor: Option<i64>,
    /// In a calendar month (UTC).
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    pub per_month_minor: Option<i64>,
}

/// A KYC level: how well the owner is known, and what that allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = KycLevel)]
pub struct Level {
    /// Its number.
    #[schema(minimum = 0, maximum = 100)]
    pub level: i64,
    /// For people, such as `identified`.
    #[schema(min_length = 1, max_length = 40)]
    pub name: String,
    /// By currency; at most 20.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, Limits>)]
    pub limits: BTreeMap<Currency, Limits>,
    /// In every other currency, in hundredths of its major unit.
    pub otherwise: Limits,
}

/// What merchants are charged of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MerchantFee {
    /// In hundredths of a percent, rounded down.
    #[schema(minimum = 0, maximum = 5000)]
    pub bps: i64,
}

/// How long things wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = WalletTimes)]
pub struct Times {
    /// A code, in seconds.
    #[schema(minimum = 30, maximum = 3600)]
    pub challenge_seconds: i64,
    /// How many wrong codes end a challenge.
    #[schema(minimum = 1, maximum = 10)]
    pub challenge_attempts: i64,
    /// A review, in seconds.
    #[schema(minimum = 60, maximum = 2_592_000)]
    pub review_seconds: i64,
    /// A request for money, in seconds.
    #[schema(minimum = 60, maximum = 7_776_000)]
    pub request_seconds: i64,
    /// A pay code, in seconds.
    #[schema(minimum = 10, maximum = 86400)]
    pub pay_code_seconds: i64,
}

impl Default for Times {
    fn default() -> Times {
        Times { challenge_seconds: 600, challenge_attempts: 3, review_seconds: 172_800, request_seconds: 604_800, pay_code_seconds: 300 }
    }
}

/// The whole of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = WalletPolicy)]
pub struct Policy {
    /// At most 20; the first one is that of a new wallet. A wallet of a level that is not there may send nothing.
    #[schema(min_items = 1, max_items = 20)]
    pub levels: Vec<Level>,
    /// Unless a merchant has one of its own.
    pub merchant_fee: MerchantFee,
    /// How long things wait.
    #[serde(default)]
    pub times: Times,
    /// What makes a score.
    pub fraud: Fraud,
}

impl Default for Policy {
    fn default() -> Policy {
        let level = |level: i64, name: &str, most: [Option<i64>; 3]| Level {
            level,
            name: name.to_owned(),
            limits: BTreeMap::new(),
            otherwise: Limits { per_transfer_minor: most[0], per_day_minor: most[1], per_month_minor: most[2] },
        };
        Policy {
            levels: vec![
                level(0, "unverified", [Some(15_000), Some(15_000), Some(100_000)]),
                level(1, "identified", [Some(100_000), Some(250_000), Some(1_000_000)]),
                level(2, "verified", [Some(1_000_000), Some(2_500_000), Some(10_000_000)]),
                level(3, "enhanced", [None, None, None]),
            ],
            merchant_fee: MerchantFee { bps: 120 },
            times: Times::default(),
            fraud: Fraud::default(),
        }
    }
}

fn within(field: impl Into<String>, value: i64, least: i64, most: i64) -> Result<()> {
    if (least..=most).contains(&value) { Ok(()) } else { Err(Error::field(field, "out_of_range", format!("between {least} and {most}"))) }
}

fn check_limits(at: &str, limits: &Limits) -> Result<()> {
    let fields = [
        ("per_transfer_minor", limits.per_transfer_minor),
        ("per_day_minor", limits.per_day_minor),
        ("per_month_minor", limits.per_month_minor),
    ];
    fields.iter().try_for_each(|(name, minor)| {
        minor.map_or(Ok(()), |minor| within(format!("{at}.{name}"), minor, 0, crate::model::MAX_AMOUNT_MINOR))
    })
}

impl Policy {
    /// Errors: `request.invalid`, naming the field.
    pub fn check(&self) -> Result<()> {
        within("levels", self.levels.len() as i64, 1, 20)?;
        for (index, level) in self.levels.iter().enumerate() {
            let at = format!("levels[{index}]");
            within(format!("{at}.level"), level.level, 0, 100)?;
            crate::model::check_text(&format!("{at}.name"), &level.name, 1, 40)?;
            if self.levels[..index].iter().any(|other| other.level == level.level) {
                return Err(Error::field(format!("{at}.level"), "repeated", "this level is there twice"));
            }
            within(format!("{at}.limits"), level.limits.len() as i64, 0, 20)?;
            level.limits.iter().try_for_each(|(currency, limits)| check_limits(&format!("{at}.limits.{currency}"), limits))?;
            check_limits(&format!("{at}.otherwise"), &level.otherwise)?;
        }
        within("merchant_fee.bps", self.merchant_fee.bps, 0, 5_000)?;
        let times = &self.times;
        within("times.challenge_seconds", times.challenge_seconds, 30, 3_600)?;
        within("times.challenge_attempts", times.challenge_attempts, 1, 10)?;
        within("times.review_seconds", times.review_seconds, 60, 2_592_000)?;
        within("times.request_seconds", times.request_seconds, 60, 7_776_000)?;
        within("times.pay_code_seconds", times.pay_code_seconds, 10, 86_400)?;
        self.fraud.check()
    }

    /// What may leave a wallet of a level in a currency; none for a level that is not there.
    pub fn limits(&self, level: i64, currency: Currency) -> Option<Limits> {
        let level = self.levels.iter().find(|known| known.level == level)?;
        if let Some(limits) = level.limits.get(&currency) {
            return Some(*limits);
        }
        let scaled = |minor: Option<i64>| minor.map(|minor| minor.saturating_mul(currency.minor_per_major()) / 100);
        let Limits { per_transfer_minor, per_day_minor, per_month_minor } = level.otherwise;
        Some(Limits {
            per_transfer_minor: scaled(per_transfer_minor),
            per_day_minor: scaled(per_day_minor),
            per_month_minor: scaled(per_month_minor),
        })
    }
}

/// A policy that is in force, ready to be asked.
#[derive(Debug)]
pub(crate) struct InForce {
    pub version: i64,
    /// When it was made.
    pub at: Timestamp,
    pub policy: Policy,
    pub scorer: Scorer,
}

impl InForce {
    pub(crate) fn new(version: i64, at: Timestamp, policy: Policy) -> InForce {
        let scorer = Scorer::new(&policy.fraud);
        InForce { version, at, policy, scorer }
    }

    /// The one that counts until a tenant has its own.
    pub(crate) fn built_in() -> InForce {
        InForce::new(0, Timestamp::default(), Policy::default())
    }
}
