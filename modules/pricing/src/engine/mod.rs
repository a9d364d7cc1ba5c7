//! The pure core: a basket and the compiled rules in, amounts and their explanation out. No I/O, no clock, integers only: the same input
//! always gives the same answer.

pub(crate) mod promotions;
pub(crate) mod refund;
pub(crate) mod round;
pub(crate) mod rules;
pub(crate) mod tax;

use crate::model::{PriceListId, PromotionId, is_country};
use kernel::{Currency, Error, Result, Timestamp, UnitPrice};
use promotions::Promoted;
pub use rules::Rules;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::fmt;
use tax::{LineTax, TaxTotal, TaxTreatment};
use utoipa::ToSchema;

/// The most lines of a basket, charges included.
pub const MAX_LINES: usize = 2_000;
/// The most charges of a basket.
pub const MAX_CHARGES: usize = 20;
/// The most labels of a line: a product in ten categories, each eight levels down, with thirty tags, has 111.
pub const MAX_LABELS: usize = 128;
/// The most coupons of a basket.
pub const MAX_COUPONS: usize = 10;
/// The largest quantity of a line.
pub const MAX_QUANTITY: i64 = 1_000_000_000;
/// The largest unit price: a thousand million major units.
pub const MAX_PRICE_MICROS: i64 = 1_000_000_000_000_000;
/// What a basket may add up to before discounts and tax, in micros: ten thousand million major units.
pub const MAX_EXTENDED_MICROS: i128 = 10_000_000_000_000_000;
/// The largest charge, in minor units.
pub const MAX_CHARGE_MINOR: i64 = 1_000_000_000_000;

/// What is to be priced.
#[derive(Clone, Debug)]
pub struct Basket {
    /// Of every amount.
    pub currency: Currency,
    /// The moment at which it is priced.
    pub at: Timestamp,
    /// Where it goes: two letters; none as long as that is not known.
    pub country: Option<String>,
    /// For tax exceptions.
    pub postcode: Option<String>,
    /// The groups that the customer is in.
    pub customer_groups: Vec<String>,
    /// Of a business customer; whoever gives it has checked it.
    pub vat_id: Option<String>,
    /// Goods.
    pub lines: Vec<BasketLine>,
    /// Shipping and fees.
    pub charges: Vec<Charge>,
    /// What was found of the codes that the customer gave: `api::load` fills it.
    pub coupons: Vec<PresentedCoupon>,
    /// Entries of price lists for these SKUs: `api::load` fills it.
    pub prices: Vec<ListedPrice>,
}

/// Goods of one SKU.
#[derive(Clone, Debug)]
pub struct BasketLine {
    /// Its number, unique in the basket, charges included.
    pub line: u32,
    /// Stock-keeping unit, case-sensitive.
    pub sku: String,
    /// How many, above zero.
    pub quantity: i64,
    /// The catalog's list price, for what no price list has.
    pub list_price: Option<UnitPrice>,
    /// Such as `standard` or `reduced`; none for the tenant's default.
    pub tax_class: Option<String>,
    /// What promotions can aim at: `product:...`, `collection:...`, whatever the caller and the promotions agree on.
    pub labels: Vec<String>,
}

/// What a charge is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = QuoteChargeKind)]
pub enum ChargeKind {
    /// Shipping: a promotion may make it free.
    Shipping,
    /// Any other fee: promotions leave it alone.
    Fee,
}

/// An amount beside the goods.
#[derive(Clone, Debug)]
pub struct Charge {
    /// Its number, unique in the basket, lines included.
    pub line: u32,
    /// What it is.
    pub kind: ChargeKind,
    /// What the customer reads.
    pub name: String,
    /// The amount, not below zero; with tax in it where prices have.
    pub amount_minor: i64,
    /// Its tax class; none for the tenant's class of shipping.
    pub tax_class: Option<String>,
}

/// An entry of a price list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedPrice {
    /// The list.
    pub list_id: PriceListId,
    /// The SKU.
    pub sku: String,
    /// From which quantity.
    pub min_quantity: i64,
    /// The price of one.
    pub price: UnitPrice,
}

/// A code that the customer gave, and what was found of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresentedCoupon {
    /// The code, in its normal form.
    pub code: String,
    /// The promotion that it opens, or why it can't be used.
    pub found: std::result::Result<PromotionId, Reason>,
}

/// Why a promotion or a coupon gives nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = PricingReason)]
pub enum Reason {
    /// It has not begun.
    NotStarted,
    /// It is over.
    Ended,
    /// It is for another currency.
    OtherCurrency,
    /// It is for other customers.
    OtherCustomers,
    /// Nothing in the basket is what it is for.
    NoMatchingLines,
    /// What it is for comes to too little.
    BelowMinimumAmount,
    /// There is too little of what it is for.
    BelowMinimumQuantity,
    /// Another one excludes it, or it excludes one that was there before it.
    NotCombinable,
    /// Nothing is left to take off.
    NothingLeft,
    /// The promotion of the coupon is paused or archived.
    PromotionNotActive,
    /// There is no such code.
    UnknownCoupon,
    /// The code was withdrawn.
    CouponNotActive,
    /// The code was used as often as it may be.
    CouponUsedUp,
    /// The customer has used the code as often as one may.
    CouponUsedByCustomer,
    /// The code is limited for each customer, and nobody says who the customer is.
    CustomerRequired,
}

/// For a person, after the name of what does not hold.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::NotStarted => "it has not begun",
            Reason::Ended => "it is over",
            Reason::OtherCurrency => "it is for another currency",
            Reason::OtherCustomers => "it is for other customers",
            Reason::NoMatchingLines => "nothing here is what it is for",
            Reason::BelowMinimumAmount => "what it is for comes to too little",
            Reason::BelowMinimumQuantity => "there is too little of what it is for",
            Reason::NotCombinable => "it does not go together with another one",
            Reason::NothingLeft => "nothing is left to take off",
            Reason::PromotionNotActive => "its promotion is not active",
            Reason::UnknownCoupon => "there is no such code",
            Reason::CouponNotActive => "it was withdrawn",
            Reason::CouponUsedUp => "it was used as often as it may be",
            Reason::CouponUsedByCustomer => "you have used it as often as one may",
            Reason::CustomerRequired => "it is limited for each customer: say an e-mail address",
        })
    }
}

/// Where a unit price comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PriceSource {
    /// A price list.
    PriceList,
    /// The catalog's list price, as the caller gave it.
    Catalog,
    /// A charge, as the caller gave it.
    Charge,
}

/// What a priced line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PricedKind {
    /// Goods.
    Sale,
    /// Shipping or a fee.
    Charge,
}

/// A line with its amounts. `total_minor` is `quantity * unit_price` rounded to the minor unit, a half away from zero, less
/// `discount_minor`, plus `tax_minor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PricedLine {
    /// Its number, as given.
    pub line: u32,
    /// What it is.
    pub kind: PricedKind,
    /// The SKU; of a charge, its name.
    pub sku: String,
    /// How many.
    pub quantity: i64,
    /// The price of one.
    pub unit_price: UnitPrice,
    /// Where it comes from.
    pub price_source: PriceSource,
    /// The price list, when it comes from one.
    pub price_list_id: Option<PriceListId>,
    /// `quantity * unit_price`, rounded.
    pub extended_minor: i64,
    /// Taken off.
    pub discount_minor: i64,
    /// Added; 0 when the price has the tax in it.
    pub tax_minor: i64,
    /// The tax that is in the price: told, not added.
    pub included_tax_minor: i64,
    /// What is to be paid for the line.
    pub total_minor: i64,
    /// By which rate.
    pub tax: LineTax,
}

/// What a promotion takes off one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = PriceAdjustedLine)]
pub struct AdjustedLine {
    /// The line's number.
    pub line: u32,
    /// Taken off.
    pub amount_minor: i64,
}

/// A promotion that applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = PriceAdjustment)]
pub struct Adjustment {
    /// Which.
    pub promotion_id: PromotionId,
    /// What people call it.
    pub name: String,
    /// The code that opened it.
    pub coupon: Option<String>,
    /// Taken off in all: the sum over the lines.
    pub amount_minor: i64,
    /// On which lines how much; lines without anything are left out.
    pub lines: Vec<AdjustedLine>,
}

/// A promotion that did not apply, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = PromotionNotApplied)]
pub struct NotApplied {
    /// Which.
    pub promotion_id: PromotionId,
    /// What people call it.
    pub name: String,
    /// Why.
    pub reason: Reason,
    /// The same for a person, with the amounts or the other promotion.
    pub detail: String,
}

/// What became of a code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CouponOutcome {
    /// The code, in its normal form.
    pub code: String,
    /// Whether it took something off: such a code is to be redeemed.
    pub applied: bool,
    /// Why not.
    pub reason: Option<Reason>,
    /// The promotion that it opens, if it is known and may be used.
    pub promotion_id: Option<PromotionId>,
}

/// What the lines add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = PricedTotals)]
pub struct Totals {
    /// Goods before discounts.
    pub goods_minor: i64,
    /// Charges before discounts.
    pub charges_minor: i64,
    /// The discounts.
    pub discount_minor: i64,
    /// The taxes that are added.
    pub tax_minor: i64,
    /// The taxes that prices have in them.
    pub included_tax_minor: i64,
    /// What is to be paid: the sum of the lines' totals.
    pub total_minor: i64,
}

/// A priced basket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Priced {
    /// Of every amount.
    pub currency: Currency,
    /// The moment for which it was priced.
    pub priced_at: Timestamp,
    /// Goods in the order given, then charges.
    pub lines: Vec<PricedLine>,
    /// What they add up to.
    pub totals: Totals,
    /// How it is taxed.
    pub tax: TaxTreatment,
    /// The taxes, one for each rate.
    pub taxes: Vec<TaxTotal>,
    /// What was taken off, in the order in which it was.
    pub adjustments: Vec<Adjustment>,
    /// What did not apply. Promotions by coupon are only here when their code was given.
    pub not_applied: Vec<NotApplied>,
    /// The codes that were given.
    pub coupons: Vec<CouponOutcome>,
}

/// What an order keeps of its pricing: enough to show it, to invoice it and to refund it, whatever becomes of the rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PricedSnapshot {
    /// Of this form; 1.
    pub version: u32,
    /// Of every amount.
    pub currency: Currency,
    /// The moment for which it was priced.
    pub priced_at: Timestamp,
    /// The lines.
    pub lines: Vec<PricedLine>,
    /// What they add up to.
    pub totals: Totals,
    /// How it is taxed.
    pub tax: TaxTreatment,
    /// The taxes, one for each rate.
    pub taxes: Vec<TaxTotal>,
    /// What was taken off, without its lines.
    pub promotions: Vec<AppliedPromotion>,
}

/// A promotion as an order remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AppliedPromotion {
    /// Which.
    pub promotion_id: PromotionId,
    /// What people called it.
    pub name: String,
    /// The code that opened it.
    pub coupon: Option<String>,
    /// Taken off in all.
    pub amount_minor: i64,
}

impl Priced {
    /// What an order keeps.
    pub fn snapshot(&self) -> PricedSnapshot {
        let promotions = self.adjustments.iter().map(|adjustment| AppliedPromotion {
            promotion_id: adjustment.promotion_id,
            name: adjustment.name.clone(),
            coupon: adjustment.coupon.clone(),
            amount_minor: adjustment.amount_minor,
        });
        PricedSnapshot {
            version: 1,
            currency: self.currency,
            priced_at: self.priced_at,
            lines: self.lines.clone(),
            totals: self.totals,
            tax: self.tax.clone(),
            taxes: self.taxes.clone(),
            promotions: promotions.collect(),
        }
    }

    /// The codes that took something off: those to redeem with the checkout.
    pub fn coupons_to_redeem(&self) -> impl Iterator<Item = &str> {
        self.coupons.iter().filter(|coupon| coupon.applied).map(|coupon| coupon.code.as_str())
    }
}

/// A line on its way through the engine.
#[derive(Debug)]
pub(crate) struct Working<'b> {
    pub line: u32,
    pub kind: PricedKind,
    pub sku: &'b str,
    pub labels: &'b [String],
    /// Whether promotions on shipping may take it off.
    pub shipping: bool,
    pub quantity: i64,
    pub unit_price: UnitPrice,
    pub price_source: PriceSource,
    pub price_list_id: Option<PriceListId>,
    pub includes_tax: bool,
    pub extended_minor: i64,
    pub discount_minor: i64,
    pub tax: LineTax,
}

impl Working<'_> {
    /// What is left to take off.
    pub fn remaining(&self) -> i64 {
        self.extended_minor - self.discount_minor
    }
}

/// Prices a basket.
/// Errors: `request.invalid` naming the field; `pricing.no_price` when a SKU has no price in the currency; `pricing.no_tax_rate` when a
/// country where tax is due has no rates; `money.overflow`.
pub fn price(rules: &Rules, basket: &Basket) -> Result<Priced> {
    check(basket)?;
    let treatment = tax::treat(rules, basket)?;
    let mut lines = working_lines(rules, basket)?;
    tax::assign(rules, basket, &treatment, &mut lines)?;
    extend(basket, &mut lines)?;
    let Promoted { adjustments, not_applied, coupons } = promotions::apply(rules, basket, &mut lines);
    let (taxes, amounts) = tax::compute(rules, &treatment, &lines);
    let mut totals = Totals::default();
    let lines = lines.into_iter().zip(amounts).map(|(line, (tax_minor, included_tax_minor))| {
        let total_minor = line.remaining() + tax_minor;
        match line.kind {
            PricedKind::Sale => totals.goods_minor += line.extended_minor,
            PricedKind::Charge => totals.charges_minor += line.extended_minor,
        }
        totals.discount_minor += line.discount_minor;
        totals.tax_minor += tax_minor;
        totals.included_tax_minor += included_tax_minor;
        totals.total_minor += total_minor;
        PricedLine {
            line: line.line,
            kind: line.kind,
            sku: line.sku.to_owned(),
            quantity: line.quantity,
            unit_price: line.unit_price,
            price_source: line.price_source,
            price_list_id: line.price_list_id,
            extended_minor: line.extended_minor,
            discount_minor: line.discount_minor,
            tax_minor,
            included_tax_minor,
            total_minor,
            tax: line.tax,
        }
    });
    let lines = lines.collect();
    Ok(Priced { currency: basket.currency, priced_at: basket.at, lines, totals, tax: treatment, taxes, adjustments, not_applied, coupons })
}

/// Whatever is wrong with a basket in itself. Errors: `request.invalid`.
fn check(basket: &Basket) -> Result<()> {
    let lines = basket.lines.len() + basket.charges.len();
    if basket.lines.is_empty() || lines > MAX_LINES || basket.charges.len() > MAX_CHARGES {
        let detail = format!("between 1 and {MAX_LINES} lines, at most {MAX_CHARGES} charges among them");
        return Err(Error::field("lines", "wrong_count", detail));
    }
    let mut numbers = HashSet::with_capacity(lines);
    for (i, line) in basket.lines.iter().enumerate() {
        let wrong = |field: &str, code, detail: String| Err(Error::field(format!("lines[{i}].{field}"), code, detail));
        if !numbers.insert(line.line) {
            return wrong("line", "repeated", "another line has this number".to_owned());
        }
        if line.quantity < 1 || line.quantity > MAX_QUANTITY {
            return wrong("quantity", "out_of_range", format!("between 1 and {MAX_QUANTITY}"));
        }
        if line.labels.len() > MAX_LABELS {
            return wrong("labels", "too_many", format!("at most {MAX_LABELS}"));
        }
        if line.list_price.is_some_and(|price| !(0..=MAX_PRICE_MICROS).contains(&price.micros())) {
            return wrong("list_price", "out_of_range", "not below zero, at most a thousand million".to_owned());
        }
    }
    for (i, charge) in basket.charges.iter().enumerate() {
        if !numbers.insert(charge.line) {
            return Err(Error::field(format!("charges[{i}].line"), "repeated", "another line has this number"));
        }
        if !(0..=MAX_CHARGE_MINOR).contains(&charge.amount_minor) {
            return Err(Error::field(format!("charges[{i}].amount_minor"), "out_of_range", format!("between 0 and {MAX_CHARGE_MINOR}")));
        }
    }
    // A country's name would be one where nobody is registered, and so go untaxed.
    if basket.country.as_deref().is_some_and(|country| !is_country(country)) {
        return Err(Error::field("country", "not_a_country", "two capital letters such as DE (ISO 3166-1)"));
    }
    if basket.coupons.len() > MAX_COUPONS {
        return Err(Error::field("coupons", "too_many", format!("at most {MAX_COUPONS}")));
    }
    Ok(())
}

/// Finds each line's unit price: of the first list in force that has an entry for the SKU and the quantity, the entry of the highest
/// quantity that is reached; else the catalog's.
fn working_lines<'b>(rules: &Rules, basket: &'b Basket) -> Result<Vec<Working<'b>>> {
    let lists = rules.lists_in_force(basket.currency, &basket.customer_groups, basket.at);
    let rank: HashMap<PriceListId, usize> = lists.iter().enumerate().map(|(rank, list)| (list.list_id, rank)).collect();
    // Quantity breaks count what a basket holds of a SKU, on however many lines.
    let mut quantities: HashMap<&str, i64> = HashMap::new();
    let mut best: HashMap<&str, (usize, &ListedPrice)> = HashMap::new();
    if !basket.prices.is_empty() {
        for line in &basket.lines {
            *quantities.entry(&line.sku).or_default() += line.quantity;
        }
        for entry in &basket.prices {
            let (Some(rank), Some(quantity)) = (rank.get(&entry.list_id), quantities.get(entry.sku.as_str())) else { continue };
            if entry.min_quantity <= *quantity {
                let better = |(other, old): &(usize, &ListedPrice)| (*rank, -entry.min_quantity) < (*other, -old.min_quantity);
                let known = best.get(entry.sku.as_str());
                if known.is_none_or(better) {
                    best.insert(&entry.sku, (*rank, entry));
                }
            }
        }
    }
    let default_includes = rules.settings.prices_include_tax;
    let mut lines = Vec::with_capacity(basket.lines.len() + basket.charges.len());
    for (i, line) in basket.lines.iter().enumerate() {
        let listed = best.get(line.sku.as_str()).map(|(rank, entry)| (entry, &lists[*rank]));
        let (unit_price, price_source, price_list_id, includes_tax) = match (listed, line.list_price) {
            (Some((entry, list)), _) => {
                let includes = list.spec.prices_include_tax.unwrap_or(default_includes);
                (entry.price, PriceSource::PriceList, Some(list.list_id), includes)
            }
            (None, Some(price)) => (price, PriceSource::Catalog, None, default_includes),
            (None, None) => {
                let detail = format!("no price list and no list_price has a price of {} in {}", line.sku, basket.currency);
                return Err(Error::failed_precondition("pricing.no_price", detail).with_field(
                    format!("lines[{i}].sku"),
                    "no_price",
                    "there is no price",
                ));
            }
        };
        lines.push(Working {
            line: line.line,
            kind: PricedKind::Sale,
            sku: &line.sku,
            labels: &line.labels,
            shipping: false,
            quantity: line.quantity,
            unit_price,
            price_source,
            price_list_id,
            includes_tax,
            extended_minor: 0,
            discount_minor: 0,
            tax: LineTax::default(),
        });
    }
    let micros_per_minor = 1_000_000 / basket.currency.minor_per_major();
    for charge in &basket.charges {
        lines.push(Working {
            line: charge.line,
            kind: PricedKind::Charge,
            sku: &charge.name,
            labels: &[],
            shipping: charge.kind == ChargeKind::Shipping,
            quantity: 1,
            unit_price: UnitPrice::from_micros(charge.amount_minor * micros_per_minor),
            price_source: PriceSource::Charge,
            price_list_id: None,
            includes_tax: default_includes,
            extended_minor: 0,
            discount_minor: 0,
            tax: LineTax::default(),
        });
    }
    Ok(lines)
}

/// Multiplies out. Errors: `request.invalid` when the sum is too large; `money.overflow`.
fn extend(basket: &Basket, lines: &mut [Working<'_>]) -> Result<()> {
    let exact: i128 = lines.iter().map(|line| i128::from(line.unit_price.micros()) * i128::from(line.quantity)).sum();
    if exact > MAX_EXTENDED_MICROS {
        let detail = "the lines add up to more than ten thousand million of the currency's major unit";
        return Err(Error::field("lines", "too_large", detail));
    }
    for line in lines {
        line.extended_minor = line.unit_price.extended(line.quantity, basket.currency)?.minor;
    }
    Ok(())
}
