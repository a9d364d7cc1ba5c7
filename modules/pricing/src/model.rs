//! What a tenant sets up: price lists, promotions, coupons, tax; as they are asked for, stored and shown. The rules of their form.

use crate::percent::Percent;
use kernel::{Currency, Error, Faults, Id, Result, Timestamp, UnitPrice};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::collections::HashSet;
use utoipa::ToSchema;

/// Marks price lists' ids (`pls_...`).
pub enum PriceListEntity {}
impl kernel::Entity for PriceListEntity {
    const PREFIX: &'static str = "pls";
}
/// The id of a price list.
pub type PriceListId = Id<PriceListEntity>;

/// Marks promotions' ids (`prm_...`).
pub enum PromotionEntity {}
impl kernel::Entity for PromotionEntity {
    const PREFIX: &'static str = "prm";
}
/// The id of a promotion.
pub type PromotionId = Id<PromotionEntity>;

/// The most price lists of a tenant that are not archived.
pub const MAX_LISTS: i64 = 200;
/// The most promotions of a tenant that are not archived.
pub const MAX_PROMOTIONS: i64 = 500;
/// The most SKUs, and the most labels, that a target names.
pub const MAX_TARGETS: usize = 500;
/// The most entries of one request.
pub const MAX_ENTRIES: usize = 1_000;
/// The most quantity breaks of a SKU in one list.
pub const MAX_BREAKS: usize = 20;
/// The most codes that are made at once.
pub const MAX_BATCH: u32 = 1_000;
const MAX_STEPS: usize = 20;
const MAX_GROUPS: usize = 20;
const MAX_AMOUNT_MINOR: i64 = 1_000_000_000_000;
const MAX_COUNT: i64 = 1_000_000_000;
const MAX_PRIORITY: i32 = 1_000;

fn check_texts(faults: &mut Faults, field: &str, values: &[String], count: usize, most: usize) {
    if values.len() > count {
        faults.add(field, "too_many", format!("{}; at most {count}", values.len()));
        return;
    }
    for (i, value) in values.iter().enumerate() {
        faults.text(format!("{field}[{i}]"), value, 1, most);
    }
}

fn check_window(faults: &mut Faults, starts_at: Option<Timestamp>, ends_at: Option<Timestamp>) {
    if let (Some(start), Some(end)) = (starts_at, ends_at)
        && end < start
    {
        faults.add("ends_at", "out_of_range", "not before starts_at");
    }
}

/// Two capital letters.
pub(crate) fn is_country(text: &str) -> bool {
    text.len() == 2 && text.bytes().all(|b| b.is_ascii_uppercase())
}

/// Whether something is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = PricingStatus)]
pub enum Status {
    /// In use.
    #[default]
    Active,
    /// Not in use for a while.
    Paused,
    /// Not in use any more; kept because orders name it. It doesn't count towards the limits.
    Archived,
}

impl Status {
    /// As it is stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Active => "active",
            Status::Paused => "paused",
            Status::Archived => "archived",
        }
    }
}

impl store::ToValue for Status {
    fn to_value(&self) -> store::Value<'_> {
        store::Value::Text(self.as_str().into())
    }
}

impl store::FromValue for Status {
    fn from_value(value: store::ValueRef<'_>) -> Result<Self> {
        let all = [Status::Active, Status::Paused, Status::Archived];
        all.into_iter().find(|s| value == store::ValueRef::Text(s.as_str())).ok_or_else(|| Error::internal("a row has an unknown status"))
    }
}

/// What a price list is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceListSpec {
    /// What people call it.
    #[schema(min_length = 1, max_length = 200)]
    pub name: String,
    /// Of its prices.
    pub currency: Currency,
    /// Whether it is in use.
    #[serde(default)]
    pub status: Status,
    /// Of several lists that are in force the one of the highest priority is asked first.
    #[serde(default)]
    #[schema(minimum = -1000, maximum = 1000)]
    pub priority: i32,
    /// Only for customers of this group; left out: for everybody.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 64)]
    pub customer_group: Option<String>,
    /// Whether its prices have the tax in them; left out: as the tax settings say.
    #[serde(default)]
    pub prices_include_tax: Option<bool>,
    /// In force from then on.
    #[serde(default)]
    pub starts_at: Option<Timestamp>,
    /// In force until then, that moment not included.
    #[serde(default)]
    pub ends_at: Option<Timestamp>,
}

impl PriceListSpec {
    /// Errors: `request.invalid` naming every field that is wrong.
    pub(crate) fn check(&self) -> Result<()> {
        let mut faults = Faults::default();
        faults.text("name", &self.name, 1, 200);
        faults.number("priority", self.priority, -MAX_PRIORITY, MAX_PRIORITY);
        if let Some(group) = &self.customer_group {
            faults.text("customer_group", group, 1, 64);
        }
        check_window(&mut faults, self.starts_at, self.ends_at);
        faults.finish()
    }
}

/// A price list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PriceList {
    /// Its id.
    pub price_list_id: PriceListId,
    /// What it is.
    #[serde(flatten)]
    pub spec: PriceListSpec,
    /// Rises with every change; the `ETag`.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A price in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceEntry {
    /// Stock-keeping unit, case-sensitive.
    #[schema(min_length = 1, max_length = 64)]
    pub sku: String,
    /// From this quantity on.
    #[serde(default = "one")]
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    pub min_quantity: i64,
    /// The price of one.
    pub price: UnitPrice,
}

/// A price to be removed from a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PriceEntryKey)]
pub struct EntryKey {
    /// Stock-keeping unit, case-sensitive.
    #[schema(min_length = 1, max_length = 64)]
    pub sku: String,
    /// Of this quantity.
    #[serde(default = "one")]
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    pub min_quantity: i64,
}

const fn one() -> i64 {
    1
}

/// What to change in a list of prices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PriceEntryChanges)]
pub struct EntryChanges {
    /// Prices to set.
    #[serde(default)]
    #[schema(max_items = 1000)]
    pub set: Vec<PriceEntry>,
    /// Prices to remove, before any is set.
    #[serde(default)]
    #[schema(max_items = 1000)]
    pub remove: Vec<EntryKey>,
}

impl EntryChanges {
    /// Errors: `request.invalid` naming every field that is wrong.
    pub(crate) fn check(&self) -> Result<()> {
        let mut faults = Faults::default();
        if self.set.len() + self.remove.len() > MAX_ENTRIES {
            faults.add("set", "too_many", format!("at most {MAX_ENTRIES} entries to set and to remove"));
            return faults.finish();
        }
        let mut seen = HashSet::new();
        for (i, entry) in self.set.iter().enumerate() {
            faults.text(format!("set[{i}].sku"), &entry.sku, 1, 64);
            faults.number(format!("set[{i}].min_quantity"), entry.min_quantity, 1, MAX_COUNT);
            if !(0..=crate::engine::MAX_PRICE_MICROS).contains(&entry.price.micros()) {
                faults.add(format!("set[{i}].price"), "out_of_range", "not below zero, at most a thousand million");
            }
            if !seen.insert((&entry.sku, entry.min_quantity)) {
                faults.add(format!("set[{i}]"), "repeated", "another entry has this SKU and quantity");
            }
        }
        for (i, entry) in self.remove.iter().enumerate() {
            faults.text(format!("remove[{i}].sku"), &entry.sku, 1, 64);
            faults.number(format!("remove[{i}].min_quantity"), entry.min_quantity, 1, MAX_COUNT);
        }
        faults.finish()
    }
}

/// Which lines a promotion is for: those whose SKU or one of whose labels is named, or all when nothing is, without the exceptions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(remote = "Self", deny_unknown_fields, default)]
#[schema(as = PromotionTarget)]
pub struct Target {
    /// These SKUs.
    #[schema(max_items = 500)]
    pub skus: Vec<String>,
    /// What lines are labelled with, such as `product:prd_...`, `collection:summer`, `category:shoes`.
    #[schema(max_items = 500)]
    pub labels: Vec<String>,
    /// Not these SKUs.
    #[schema(max_items = 500)]
    pub except_skus: Vec<String>,
    /// Not what is labelled so.
    #[schema(max_items = 500)]
    pub except_labels: Vec<String>,
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        Target::serialize(self, serializer)
    }
}

/// From an object alone: serde's own form would take a list of lists, too, and leave most of it out.
impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Target;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<Target, A::Error> {
                Target::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

impl Target {
    /// Whether it names nothing, and so means every line.
    pub(crate) fn everything(&self) -> bool {
        self.skus.is_empty() && self.labels.is_empty()
    }

    fn check(&self, at: &str, faults: &mut Faults) {
        check_texts(faults, &format!("{at}.skus"), &self.skus, MAX_TARGETS, 64);
        check_texts(faults, &format!("{at}.labels"), &self.labels, MAX_TARGETS, 100);
        check_texts(faults, &format!("{at}.except_skus"), &self.except_skus, MAX_TARGETS, 64);
        check_texts(faults, &format!("{at}.except_labels"), &self.except_labels, MAX_TARGETS, 100);
    }

    fn bytes(&self) -> usize {
        [&self.skus, &self.labels, &self.except_skus, &self.except_labels].into_iter().flatten().map(|text| text.len() + 24).sum()
    }
}

/// What a measure is taken of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = MinimumOf)]
pub enum Of {
    /// Of the lines that the promotion is for.
    #[default]
    Target,
    /// Of all goods.
    Order,
}

/// What has to be reached, measured before any promotion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = PromotionMinimum)]
pub struct Minimum {
    /// At least this amount, as prices are shown.
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    pub amount_minor: i64,
    /// At least so many pieces.
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    pub quantity: i64,
    /// Of what.
    pub of: Of,
}

/// By what tiers are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = PromotionTierMeasure)]
pub enum TierMeasure {
    /// By the amount of what the promotion is for, before any promotion.
    Amount,
    /// By its pieces.
    Quantity,
}

/// A tier: percent or amount, one of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PromotionTier)]
pub struct Tier {
    /// From this amount in minor units, or this many pieces.
    #[schema(minimum = 1, maximum = 1_000_000_000_000_i64)]
    pub at_least: i64,
    /// So many percent off.
    #[serde(default)]
    pub percent: Percent,
    /// So much off in all.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    pub amount_minor: i64,
}

/// What a promotion gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[schema(as = PromotionEffect)]
pub enum Effect {
    /// So many percent off what it is for.
    Percent {
        /// Above 0, at most 100.
        percent: Percent,
    },
    /// An amount off what it is for, in all: shared out over the lines by their amounts.
    Amount {
        /// The amount.
        #[schema(minimum = 1, maximum = 1_000_000_000_000_i64)]
        amount_minor: i64,
    },
    /// An amount off each piece.
    AmountEach {
        /// The amount.
        #[schema(minimum = 1, maximum = 1_000_000_000_000_i64)]
        amount_minor: i64,
    },
    /// Whoever buys `buy` pieces gets `get` more pieces for less. The cheapest pieces are those that one gets.
    BuyGet {
        /// Pieces to pay for.
        #[schema(minimum = 1, maximum = 1000)]
        buy: i64,
        /// Pieces that one gets.
        #[schema(minimum = 1, maximum = 1000)]
        get: i64,
        /// How much less they cost; 100: they are free.
        percent: Percent,
        /// What one gets; left out: of what the promotion is for.
        #[serde(default)]
        get_target: Option<Target>,
        /// How often at most; left out: as often as it fits.
        #[serde(default)]
        #[schema(minimum = 1, maximum = 1_000_000)]
        at_most: Option<i64>,
    },
    /// Shipping is free.
    FreeShipping {
        /// Up to this amount; left out: all of it.
        #[serde(default)]
        #[schema(minimum = 1, maximum = 1_000_000_000_000_i64)]
        at_most_minor: Option<i64>,
    },
    /// The more, the more off: the highest tier that is reached.
    Tiers {
        /// By what.
        by: TierMeasure,
        /// At least one.
        #[schema(min_items = 1, max_items = 20)]
        steps: Vec<Tier>,
    },
}

/// What goes with what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = PromotionStacking)]
pub enum Stacking {
    /// With others, on what those before it have left.
    #[default]
    Combinable,
    /// With others, but not on the same line: it leaves alone what is discounted already, and nothing follows on its lines.
    ExclusiveOnLines,
    /// Alone: not after any other, and none after it.
    Exclusive,
}

/// What a promotion is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PromotionSpec {
    /// What people call it.
    #[schema(min_length = 1, max_length = 200)]
    pub name: String,
    /// Whether it is in use.
    #[serde(default)]
    pub status: Status,
    /// Whether it takes one of its coupons.
    #[serde(default)]
    pub coupon_required: bool,
    /// Those of higher priority are tried first; of equal ones the oldest.
    #[serde(default)]
    #[schema(minimum = -1000, maximum = 1000)]
    pub priority: i32,
    /// What it goes with.
    #[serde(default)]
    pub stacking: Stacking,
    /// For baskets of this currency; needed as soon as an amount is named.
    #[serde(default)]
    pub currency: Option<Currency>,
    /// From then on.
    #[serde(default)]
    pub starts_at: Option<Timestamp>,
    /// Until then, that moment not included.
    #[serde(default)]
    pub ends_at: Option<Timestamp>,
    /// For customers of any of these groups; empty: for everybody.
    #[serde(default)]
    #[schema(max_items = 20)]
    pub customer_groups: Vec<String>,
    /// What it is for.
    #[serde(default)]
    pub target: Target,
    /// What has to be reached.
    #[serde(default)]
    pub minimum: Option<Minimum>,
    /// What it gives.
    pub effect: Effect,
    /// No more than this in all.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1_000_000_000_000_i64)]
    pub max_discount_minor: Option<i64>,
}

impl PromotionSpec {
    /// Errors: `request.invalid` naming every field that is wrong.
    pub(crate) fn check(&self) -> Result<()> {
        let mut faults = Faults::default();
        faults.text("name", &self.name, 1, 200);
        faults.number("priority", self.priority, -MAX_PRIORITY, MAX_PRIORITY);
        check_window(&mut faults, self.starts_at, self.ends_at);
        check_texts(&mut faults, "customer_groups", &self.customer_groups, MAX_GROUPS, 64);
        self.target.check("target", &mut faults);
        let mut amounts = false;
        if let Some(minimum) = &self.minimum {
            faults.number("minimum.amount_minor", minimum.amount_minor, 0, MAX_AMOUNT_MINOR);
            faults.number("minimum.quantity", minimum.quantity, 0, MAX_COUNT);
            amounts |= minimum.amount_minor > 0;
        }
        if let Some(most) = self.max_discount_minor {
            faults.number("max_discount_minor", most, 1, MAX_AMOUNT_MINOR);
            amounts = true;
        }
        amounts |= self.effect.check(&mut faults);
        if amounts && self.currency.is_none() {
            faults.add("currency", "required", "an amount is named: say in which currency");
        }
        faults.finish()
    }

    pub(crate) fn bytes(&self) -> usize {
        let more = match &self.effect {
            Effect::BuyGet { get_target: Some(target), .. } => target.bytes(),
            Effect::Tiers { steps, .. } => size_of_val(&steps[..]),
            _ => 0,
        };
        self.name.len() + self.target.bytes() + more + self.customer_groups.iter().map(|group| group.len() + 24).sum::<usize>()
    }
}

impl Effect {
    /// Whether it names amounts.
    fn check(&self, faults: &mut Faults) -> bool {
        let percent = |faults: &mut Faults, field: &str, percent: Percent| {
            if percent == Percent::ZERO {
                faults.add(field, "out_of_range", "above 0, at most 100");
            }
        };
        match self {
            Effect::Percent { percent: off } => {
                percent(faults, "effect.percent", *off);
                false
            }
            Effect::Amount { amount_minor } | Effect::AmountEach { amount_minor } => {
                faults.number("effect.amount_minor", *amount_minor, 1, MAX_AMOUNT_MINOR);
                true
            }
            Effect::BuyGet { buy, get, percent: off, get_target, at_most } => {
                faults.number("effect.buy", *buy, 1, 1_000);
                faults.number("effect.get", *get, 1, 1_000);
                percent(faults, "effect.percent", *off);
                if let Some(target) = get_target {
                    target.check("effect.get_target", faults);
                }
                if let Some(times) = at_most {
                    faults.number("effect.at_most", *times, 1, 1_000_000);
                }
                false
            }
            Effect::FreeShipping { at_most_minor } => {
                if let Some(most) = at_most_minor {
                    faults.number("effect.at_most_minor", *most, 1, MAX_AMOUNT_MINOR);
                }
                at_most_minor.is_some()
            }
            Effect::Tiers { by, steps } => {
                if steps.is_empty() || steps.len() > MAX_STEPS {
                    faults.add("effect.steps", "wrong_count", format!("between 1 and {MAX_STEPS}"));
                }
                let mut amounts = *by == TierMeasure::Amount;
                let mut seen = HashSet::new();
                for (i, step) in steps.iter().enumerate() {
                    faults.number(format!("effect.steps[{i}].at_least"), step.at_least, 1, MAX_AMOUNT_MINOR);
                    faults.number(format!("effect.steps[{i}].amount_minor"), step.amount_minor, 0, MAX_AMOUNT_MINOR);
                    if (step.percent == Percent::ZERO) == (step.amount_minor == 0) {
                        faults.add(format!("effect.steps[{i}]"), "wrong", "either percent or amount_minor, above zero");
                    }
                    if !seen.insert(step.at_least) {
                        faults.add(format!("effect.steps[{i}].at_least"), "repeated", "another step begins there");
                    }
                    amounts |= step.amount_minor > 0;
                }
                amounts
            }
        }
    }
}

/// A promotion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Promotion {
    /// Its id.
    pub promotion_id: PromotionId,
    /// What it is.
    #[serde(flatten)]
    pub spec: PromotionSpec,
    /// Rises with every change; the `ETag`.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// How a coupon may be used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CouponSpec {
    /// Whether it may be used.
    #[serde(default)]
    pub status: Status,
    /// How often in all; left out: without limit.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    pub max_uses: Option<i64>,
    /// How often by each customer; left out: without limit.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    pub max_uses_per_customer: Option<i64>,
    /// From then on, within its promotion's time.
    #[serde(default)]
    pub starts_at: Option<Timestamp>,
    /// Until then, that moment not included.
    #[serde(default)]
    pub ends_at: Option<Timestamp>,
}

impl CouponSpec {
    /// Errors: `request.invalid` naming every field that is wrong.
    pub(crate) fn check(&self) -> Result<()> {
        let mut faults = Faults::default();
        for (field, limit) in [("max_uses", self.max_uses), ("max_uses_per_customer", self.max_uses_per_customer)] {
            if let Some(limit) = limit {
                faults.number(field, limit, 1, MAX_COUNT);
            }
        }
        check_window(&mut faults, self.starts_at, self.ends_at);
        faults.finish()
    }
}

/// A coupon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Coupon {
    /// What customers type: capital letters, digits, hyphens and underscores.
    pub code: String,
    /// The promotion that it opens.
    pub promotion_id: PromotionId,
    /// How it may be used.
    #[serde(flatten)]
    pub spec: CouponSpec,
    /// How often it is used: held by checkouts, or kept by orders.
    pub uses: i64,
    /// Rises with every change by people, not with uses; the `ETag`.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed by people.
    pub updated_at: Timestamp,
}

/// The normal form of a code: without spaces around it, in capital letters. Errors: a detail of what is wrong.
pub(crate) fn normal_code(text: &str) -> std::result::Result<String, &'static str> {
    let code = text.trim().to_ascii_uppercase();
    let fine = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    if (3..=40).contains(&code.len()) && code.bytes().all(fine) {
        return Ok(code);
    }
    Err("3 to 40 letters, digits, hyphens and underscores")
}
