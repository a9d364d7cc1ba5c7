//! Where tax is due and at which rates: types, and what they may be. What it comes to is [`crate::engine::tax`].

use crate::engine::rules::{plain_postcode, postcode_pattern};
use crate::model::is_country;
use crate::percent::Percent;
use kernel::{Error, Faults, Result, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use utoipa::ToSchema;

/// The most periods of a country's rates.
pub const MAX_PERIODS: usize = 50;
/// The most countries of a file of rates.
pub const MAX_COUNTRIES: usize = 250;
const MAX_CLASSES: usize = 20;
const MAX_EXCEPTIONS: usize = 50;
/// The most exceptions of all countries and periods of a tenant: each is a pattern that is kept compiled.
pub const MAX_ALL_EXCEPTIONS: usize = 2_000;

/// Where tax is rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = TaxRounding)]
pub enum Rounding {
    /// Each line by itself.
    #[default]
    Line,
    /// The sum of each rate; shared out over the lines so that it adds up.
    Order,
}

/// What is done where one is not registered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = TaxUnregistered)]
pub enum Unregistered {
    /// No tax.
    #[default]
    NoTax,
    /// The tax of the origin.
    OriginTax,
}

/// What becomes of a price with tax in it when no tax is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UntaxedPrice {
    /// The tax of the origin is taken out of it.
    #[default]
    RemoveTax,
    /// It stays.
    Keep,
}

/// A country where tax is charged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TaxRegistration)]
pub struct Registration {
    /// Two letters.
    #[schema(min_length = 2, max_length = 2)]
    pub country: String,
    /// The tax number there.
    #[serde(default)]
    #[schema(max_length = 40)]
    pub number: Option<String>,
    /// From then on.
    #[serde(default)]
    pub starts_at: Option<Timestamp>,
}

/// Which rate of a country a class of goods has there, where its name isn't the rate's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TaxClassRule)]
pub struct ClassRule {
    /// The class, as lines name it.
    #[schema(min_length = 1, max_length = 40)]
    pub tax_class: String,
    /// The country.
    #[schema(min_length = 2, max_length = 2)]
    pub country: String,
    /// The name of the rate, such as `reduced1`.
    #[schema(min_length = 1, max_length = 40)]
    pub rate: String,
}

/// How a tenant charges tax.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TaxSettings {
    /// Whether prices and charges have the tax in them; a price list may say otherwise.
    pub prices_include_tax: bool,
    /// Where tax is rounded.
    pub rounding: Rounding,
    /// Where goods are sold from; tax is charged there.
    #[schema(min_length = 2, max_length = 2)]
    pub origin_country: Option<String>,
    /// Other countries where tax is charged.
    #[schema(max_items = 250)]
    pub registrations: Vec<Registration>,
    /// What is done elsewhere.
    pub unregistered: Unregistered,
    /// Whether business customers of other countries, who give a VAT id of theirs, are charged no tax.
    pub reverse_charge: bool,
    /// What becomes of prices with tax in them when no tax is due.
    pub untaxed_price: UntaxedPrice,
    /// The class of lines that name none.
    #[schema(min_length = 1, max_length = 40)]
    pub default_class: String,
    /// The class of charges that name none; left out: that of most of the goods, by amount.
    #[schema(min_length = 1, max_length = 40)]
    pub charge_class: Option<String>,
    /// Where a class and its rate have different names.
    #[schema(max_items = 500)]
    pub classes: Vec<ClassRule>,
}

impl Default for TaxSettings {
    fn default() -> Self {
        TaxSettings {
            prices_include_tax: true,
            rounding: Rounding::Line,
            origin_country: None,
            registrations: Vec::new(),
            unregistered: Unregistered::NoTax,
            reverse_charge: false,
            untaxed_price: UntaxedPrice::RemoveTax,
            default_class: STANDARD.to_owned(),
            charge_class: None,
            classes: Vec::new(),
        }
    }
}

/// The rate that every country has.
pub(crate) const STANDARD: &str = "standard";
/// The class of what is never taxed.
pub(crate) const EXEMPT: &str = "exempt";

impl TaxSettings {
    /// Errors: `request.invalid` naming every field that is wrong.
    pub(crate) fn check(&self) -> Result<()> {
        let mut faults = Faults::default();
        if let Some(country) = &self.origin_country {
            faults.country("origin_country", country);
        }
        if self.registrations.len() > MAX_COUNTRIES {
            faults.add("registrations", "too_many", format!("at most {MAX_COUNTRIES}"));
        }
        let mut seen = HashSet::new();
        for (i, registration) in self.registrations.iter().enumerate() {
            faults.country(format!("registrations[{i}].country"), &registration.country);
            if !seen.insert(&registration.country) {
                faults.add(format!("registrations[{i}].country"), "repeated", "another registration is there");
            }
            if let Some(number) = &registration.number {
                faults.text(format!("registrations[{i}].number"), number, 1, 40);
            }
        }
        faults.text("default_class", &self.default_class, 1, 40);
        if let Some(class) = &self.charge_class {
            faults.text("charge_class", class, 1, 40);
        }
        if self.classes.len() > 500 {
            faults.add("classes", "too_many", "at most 500");
        }
        let mut seen = HashSet::new();
        for (i, rule) in self.classes.iter().enumerate() {
            faults.text(format!("classes[{i}].tax_class"), &rule.tax_class, 1, 40);
            faults.country(format!("classes[{i}].country"), &rule.country);
            faults.text(format!("classes[{i}].rate"), &rule.rate, 1, 40);
            if !seen.insert((&rule.tax_class, &rule.country)) {
                faults.add(format!("classes[{i}]"), "repeated", "another rule is for this class and country");
            }
        }
        faults.finish()
    }
}

/// Other rates for some postcodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaxException {
    /// What people call it.
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
    /// A regular expression that matches the whole postcode, which is stripped of spaces and signs before.
    #[schema(min_length = 1, max_length = 200)]
    pub postcode: String,
    /// The rates there, by name; at least `standard`, which also bounds those that aren't named.
    #[serde(flatten)]
    pub rates: BTreeMap<String, Percent>,
}

/// A country's rates from a day on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TaxPeriod {
    /// The first day, in UTC, such as `2021-01-01`; `0000-01-01` for always.
    #[schema(min_length = 10, max_length = 10, example = "2021-01-01")]
    pub effective_from: String,
    /// The rates in percent by name; at least `standard`.
    #[schema(example = json!({ "standard": 19, "reduced": 7 }))]
    pub rates: BTreeMap<String, Percent>,
    /// Other rates for some postcodes; the first that matches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 50)]
    pub exceptions: Vec<TaxException>,
}

/// How many exceptions periods have.
pub(crate) fn exceptions(periods: &[TaxPeriod]) -> usize {
    periods.iter().map(|period| period.exceptions.len()).sum()
}

/// Refuses more exceptions than a tenant may have in all countries. Errors: `request.invalid` naming `field`.
pub(crate) fn check_all_exceptions(field: &str, all: usize) -> Result<()> {
    if all > MAX_ALL_EXCEPTIONS {
        return Err(Error::field(field, "too_many", format!("{all} exceptions in all countries together; at most {MAX_ALL_EXCEPTIONS}")));
    }
    Ok(())
}

/// Checks a country's periods. Whatever is wrong goes to `faults`, named after `at`.
pub(crate) fn check_periods(periods: &[TaxPeriod], at: &str, faults: &mut Faults) {
    if periods.is_empty() || periods.len() > MAX_PERIODS {
        faults.add(at, "wrong_count", format!("between 1 and {MAX_PERIODS} periods"));
    }
    let mut seen = HashSet::new();
    for (i, period) in periods.iter().enumerate() {
        let at = format!("{at}[{i}]");
        if !is_date(&period.effective_from) {
            faults.add(format!("{at}.effective_from"), "not_a_date", "not a date such as 2021-01-01");
        }
        if !seen.insert(&period.effective_from) {
            faults.add(format!("{at}.effective_from"), "repeated", "another period begins on this day");
        }
        check_rates(&period.rates, &format!("{at}.rates"), faults);
        if period.exceptions.len() > MAX_EXCEPTIONS {
            faults.add(format!("{at}.exceptions"), "too_many", format!("at most {MAX_EXCEPTIONS}"));
            continue;
        }
        for (n, exception) in period.exceptions.iter().enumerate() {
            let at = format!("{at}.exceptions[{n}]");
            faults.text(format!("{at}.name"), &exception.name, 1, 100);
            faults.text(format!("{at}.postcode"), &exception.postcode, 1, 200);
            if exception.postcode.len() <= 200
                && let Err(error) = postcode_pattern(&exception.postcode)
            {
                faults.add(format!("{at}.postcode"), "not_a_pattern", error);
            }
            check_rates(&exception.rates, &at, faults);
        }
    }
}

fn check_rates(rates: &BTreeMap<String, Percent>, at: &str, faults: &mut Faults) {
    if !rates.contains_key(STANDARD) {
        faults.add(format!("{at}.standard"), "required", "the rate that holds where no other is named");
    }
    if rates.len() > MAX_CLASSES {
        faults.add(at, "too_many", format!("at most {MAX_CLASSES} rates"));
    }
    for name in rates.keys() {
        if name.is_empty() || name.chars().count() > 40 || name.chars().any(char::is_control) {
            faults.add(at, "wrong_name", "a rate's name has 1 to 40 characters");
        }
    }
}

/// `YYYY-MM-DD`; each month may have 31 days here, since days are only compared.
fn is_date(text: &str) -> bool {
    let number = |part: Option<&str>| part.filter(|p| p.bytes().all(|b| b.is_ascii_digit())).and_then(|p| p.parse::<u16>().ok());
    let (year, month, day) = (number(text.get(..4)), number(text.get(5..7)), number(text.get(8..)));
    let signs = text.get(4..5) == Some("-") && text.get(7..8) == Some("-");
    text.len() == 10
        && signs
        && year.is_some()
        && month.is_some_and(|m| (1..=12).contains(&m))
        && day.is_some_and(|d| (1..=31).contains(&d))
}

/// A country's rates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = TaxRatesOfCountry)]
pub struct CountryRates {
    /// Two letters.
    pub country: String,
    /// The newest period first.
    pub periods: Vec<TaxPeriod>,
    /// Rises with every change; the `ETag`.
    pub version: i64,
    /// When they were last changed.
    pub updated_at: Timestamp,
}

/// A file of rates, in the shape of `ibericode/vat-rates`; what else it holds is not looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = TaxRatesFile)]
pub struct RatesFile {
    /// Periods by country.
    #[schema(example = json!({ "DE": [{ "effective_from": "2021-01-01", "rates": { "standard": 19, "reduced": 7 } }] }))]
    pub items: BTreeMap<String, Vec<TaxPeriod>>,
}

impl RatesFile {
    /// Errors: `request.invalid` naming every field that is wrong.
    pub(crate) fn check(&self) -> Result<()> {
        let mut faults = Faults::default();
        if self.items.is_empty() || self.items.len() > MAX_COUNTRIES {
            faults.add("items", "wrong_count", format!("between 1 and {MAX_COUNTRIES} countries"));
        }
        for (country, periods) in &self.items {
            if !is_country(country) {
                let shown: String = country.chars().take(20).collect();
                faults.add("items", "not_a_country", format!("{shown:?} is not two capital letters such as DE"));
                continue;
            }
            check_periods(periods, &format!("items.{country}"), &mut faults);
        }
        faults.finish()
    }
}

/// Whether a VAT id is one of this country, as far as its letters tell.
pub(crate) fn vat_id_of(vat_id: &str, country: &str) -> bool {
    let plain = plain_postcode(vat_id);
    let prefix = if country == "GR" { "EL" } else { country };
    plain.len() > 4 && (plain.starts_with(prefix) || plain.starts_with(country))
}
