//! Tax: where it is due, at which rate, and how it is rounded.

use super::round::{round, share};
use super::rules::{Period, Rules, plain_postcode};
use super::{Basket, Working};
use crate::percent::Percent;
use crate::tax::{EXEMPT, Rounding, STANDARD, Unregistered, UntaxedPrice, vat_id_of};
use kernel::{Error, Result, UnitPrice};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

const MILLION: i128 = 1_000_000;

/// Why a basket is taxed as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaxReason {
    /// At home, or before it is known where it goes.
    Origin,
    /// Where it goes: one is registered there.
    Destination,
    /// At home, because one is not registered where it goes.
    NotRegisteredOrigin,
    /// Not at all: one is not registered where it goes.
    NotRegistered,
    /// Not at all: the business customer of another country accounts for it.
    ReverseCharge,
    /// Not at all: the tenant has not said where it sells from.
    NotSetUp,
}

/// How a basket is taxed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaxTreatment {
    /// The country whose rates hold; none when no tax is due.
    pub country: Option<String>,
    /// Why.
    pub reason: TaxReason,
    /// The exception by postcode that holds.
    pub exception: Option<String>,
    /// The tenant's tax number in the country, for the invoice.
    pub registration: Option<String>,
    /// The customer's VAT id, where it is the reason that no tax is due.
    pub vat_id: Option<String>,
    /// Where tax is rounded.
    pub rounding: Rounding,
}

/// How a line is taxed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LineTax {
    /// The class, as the line named it or the settings did.
    pub class: String,
    /// The name of the rate; `none` when no tax is due.
    pub rate_name: String,
    /// The rate.
    pub rate: Percent,
    /// Whether the price has it in it.
    pub included: bool,
    /// Whether the country has no rate for the class, so that the standard one was taken.
    pub fallback: bool,
}

impl Default for LineTax {
    fn default() -> Self {
        LineTax { class: String::new(), rate_name: NONE.to_owned(), rate: Percent::ZERO, included: false, fallback: false }
    }
}

const NONE: &str = "none";

/// The taxes of one rate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaxTotal {
    /// The rate.
    pub rate: Percent,
    /// Whether prices have it in them.
    pub included: bool,
    /// What is taxed, after discounts and without the tax.
    pub base_minor: i64,
    /// The tax: the sum over the lines.
    pub tax_minor: i64,
}

/// Where tax is due. Errors: `pricing.no_tax_rate`.
pub(crate) fn treat(rules: &Rules, basket: &Basket) -> Result<TaxTreatment> {
    let settings = &rules.settings;
    let number = |country: &str| {
        let registered = settings.registrations.iter().find(|r| r.country == country);
        registered.filter(|r| r.starts_at.is_none_or(|from| from <= basket.at))
    };
    let mut treatment = TaxTreatment {
        country: None,
        reason: TaxReason::NotSetUp,
        exception: None,
        registration: None,
        vat_id: None,
        rounding: settings.rounding,
    };
    let destination = basket.country.as_deref();
    let (country, reason) = match (settings.origin_country.as_deref(), destination) {
        (None, None) => return Ok(treatment),
        (Some(origin), None) => (Some(origin), TaxReason::Origin),
        (Some(origin), Some(there)) if origin == there => (Some(origin), TaxReason::Origin),
        (Some(_), Some(there)) if settings.reverse_charge && basket.vat_id.as_deref().is_some_and(|id| vat_id_of(id, there)) => {
            treatment.vat_id = basket.vat_id.clone();
            (None, TaxReason::ReverseCharge)
        }
        (_, Some(there)) if number(there).is_some() => (Some(there), TaxReason::Destination),
        (Some(origin), Some(_)) if settings.unregistered == Unregistered::OriginTax => (Some(origin), TaxReason::NotRegisteredOrigin),
        (Some(_), Some(_)) => (None, TaxReason::NotRegistered),
        (None, Some(_)) if settings.registrations.is_empty() => (None, TaxReason::NotSetUp),
        (None, Some(_)) => (None, TaxReason::NotRegistered),
    };
    treatment.reason = reason;
    treatment.country = country.map(str::to_owned);
    if let Some(country) = country {
        treatment.registration = number(country).and_then(|registration| registration.number.clone());
        let period = period_of(rules, country, basket).ok_or_else(|| no_rates(country))?;
        // A postcode is of the country where it goes.
        if destination == Some(country) {
            treatment.exception = exception_of(period, basket).map(|place| period.period.exceptions[place].name.clone());
        }
    }
    Ok(treatment)
}

fn no_rates(country: &str) -> Error {
    Error::failed_precondition("pricing.no_tax_rate", format!("tax is due in {country}, and there are no rates of that country and day"))
}

/// The rates of a country at the basket's day.
fn period_of<'r>(rules: &'r Rules, country: &str, basket: &Basket) -> Option<&'r Period> {
    let text = basket.at.to_string();
    let day = text.get(..10)?;
    rules.countries.get(country)?.iter().find(|period| period.period.effective_from.as_str() <= day)
}

fn exception_of(period: &Period, basket: &Basket) -> Option<usize> {
    let postcode = plain_postcode(basket.postcode.as_deref()?);
    period.postcodes.iter().position(|pattern| pattern.is_match(&postcode))
}

/// A class's rate in a period: its name, the rate, and whether the standard rate stands in for one that the country doesn't have.
fn rate_of(rules: &Rules, period: &Period, exception: Option<usize>, country: &str, class: &str) -> (String, Percent, bool) {
    if class == EXEMPT {
        return (EXEMPT.to_owned(), Percent::ZERO, false);
    }
    let rule = rules.settings.classes.iter().find(|rule| rule.tax_class == class && rule.country == country);
    let wanted = rule.map_or(class, |rule| rule.rate.as_str());
    let rates = &period.period.rates;
    let exception = exception.map(|place| &period.period.exceptions[place].rates);
    if let Some(rate) = exception.and_then(|rates| rates.get(wanted)) {
        return (wanted.to_owned(), *rate, false);
    }
    let known = rates.get(wanted);
    let name = if known.is_some() { wanted } else { STANDARD };
    let rate = known.or_else(|| rates.get(STANDARD)).copied().unwrap_or_default();
    // The exception's standard rate bounds what it doesn't name: a reduced rate stays, and where nothing is taxed, nothing is.
    let rate = exception.and_then(|rates| rates.get(STANDARD)).map_or(rate, |bound| rate.min(*bound));
    (name.to_owned(), rate, known.is_none())
}

/// Gives each line its rate. Where no tax is due, prices that have the origin's in them lose it, if the settings say so.
/// Errors: `pricing.no_tax_rate`.
pub(crate) fn assign(rules: &Rules, basket: &Basket, treatment: &TaxTreatment, lines: &mut [Working<'_>]) -> Result<()> {
    let settings = &rules.settings;
    let main = main_class(rules, basket, lines);
    let class_of = |line: usize| -> &str {
        let named = match line.checked_sub(basket.lines.len()) {
            None => basket.lines[line].tax_class.as_deref(),
            Some(charge) => basket.charges[charge].tax_class.as_deref().or(settings.charge_class.as_deref()).or(Some(&main)),
        };
        named.unwrap_or(&settings.default_class)
    };
    let Some(country) = treatment.country.as_deref() else {
        let origin = settings.origin_country.as_deref().filter(|_| settings.untaxed_price == UntaxedPrice::RemoveTax);
        let period = origin.and_then(|origin| Some((origin, period_of(rules, origin, basket)?)));
        for (i, line) in lines.iter_mut().enumerate() {
            let class = class_of(i);
            if let (true, Some((origin, period))) = (line.includes_tax, period) {
                let (_, rate, _) = rate_of(rules, period, None, origin, class);
                line.unit_price = without_tax(line.unit_price, rate);
            }
            line.tax = LineTax { class: class.to_owned(), ..LineTax::default() };
        }
        return Ok(());
    };
    let period = period_of(rules, country, basket).ok_or_else(|| no_rates(country))?;
    let exception = treatment.exception.as_ref().and_then(|_| exception_of(period, basket));
    let mut known: BTreeMap<&str, (String, Percent, bool)> = BTreeMap::new();
    for (i, line) in lines.iter_mut().enumerate() {
        let class = class_of(i);
        let (name, rate, fallback) = known.entry(class).or_insert_with(|| rate_of(rules, period, exception, country, class)).clone();
        line.tax = LineTax { class: class.to_owned(), rate_name: name, rate, included: line.includes_tax, fallback };
    }
    Ok(())
}

/// The class of most of the goods, by amount before discounts; of equal ones the first by name.
fn main_class(rules: &Rules, basket: &Basket, lines: &[Working<'_>]) -> String {
    let mut amounts: BTreeMap<&str, i128> = BTreeMap::new();
    for (given, line) in basket.lines.iter().zip(lines) {
        let class = given.tax_class.as_deref().unwrap_or(&rules.settings.default_class);
        *amounts.entry(class).or_default() += i128::from(line.unit_price.micros()) * i128::from(line.quantity);
    }
    let most = amounts.iter().max_by(|a, b| a.1.cmp(b.1).then(b.0.cmp(a.0)));
    most.map_or_else(|| rules.settings.default_class.clone(), |(class, _)| (*class).to_owned())
}

/// A price without the tax that it has in it, rounded to a millionth of the major unit.
fn without_tax(price: UnitPrice, rate: Percent) -> UnitPrice {
    let rate = i128::from(rate.millionths());
    UnitPrice::from_micros(round(i128::from(price.micros()) * MILLION, MILLION + rate))
}

/// The taxes by rate, and of each line what is added and what is in its price.
pub(crate) fn compute(rules: &Rules, treatment: &TaxTreatment, lines: &[Working<'_>]) -> (Vec<TaxTotal>, Vec<(i64, i64)>) {
    let mut groups: BTreeMap<(Percent, bool), Vec<usize>> = BTreeMap::new();
    for (i, line) in lines.iter().enumerate() {
        // An untaxed basket has no rates to tell of.
        if treatment.country.is_some() {
            groups.entry((line.tax.rate, line.tax.included)).or_default().push(i);
        }
    }
    let mut amounts = vec![(0, 0); lines.len()];
    let mut totals = Vec::with_capacity(groups.len());
    for ((rate, included), members) in groups {
        let millionths = i128::from(rate.millionths());
        let denominator = if included { MILLION + millionths } else { MILLION };
        let exact: Vec<i128> = members.iter().map(|i| i128::from(lines[*i].remaining()) * millionths).collect();
        let taxes = match rules.settings.rounding {
            Rounding::Line => exact.iter().map(|numerator| round(*numerator, denominator)).collect(),
            Rounding::Order => share(&exact, denominator),
        };
        let mut total = TaxTotal { rate, included, base_minor: 0, tax_minor: 0 };
        for (i, tax) in members.into_iter().zip(taxes) {
            amounts[i] = if included { (0, tax) } else { (tax, 0) };
            total.tax_minor += tax;
            total.base_minor += lines[i].remaining() - if included { tax } else { 0 };
        }
        totals.push(total);
    }
    (totals, amounts)
}
