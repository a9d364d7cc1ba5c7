//! Rules as the engine wants them: in the order in which they are tried, and found by what a line says of itself.

use crate::model::{Effect, PriceList, PriceListId, PriceListSpec, Promotion, PromotionId, PromotionSpec, Status, Target};
use crate::tax::{TaxPeriod, TaxSettings};
use kernel::{Currency, Error, Result, Timestamp};
use regex_lite::Regex;
use std::collections::HashMap;

/// A tenant's rules, compiled.
#[derive(Debug, Default)]
pub struct Rules {
    /// Of which change of the rules; 0 for a tenant that has none.
    pub(crate) stamp: i64,
    pub(crate) settings: TaxSettings,
    /// In the order in which they are asked.
    pub(crate) lists: Vec<List>,
    /// In the order in which they are tried.
    pub(crate) promotions: Vec<Rule>,
    /// What aims at a SKU.
    pub(crate) by_sku: HashMap<Box<str>, Vec<Aim>>,
    /// What aims at a label.
    pub(crate) by_label: HashMap<Box<str>, Vec<Aim>>,
    /// By country, the newest period first.
    pub(crate) countries: HashMap<String, Vec<Period>>,
}

/// A price list.
#[derive(Debug)]
pub(crate) struct List {
    pub list_id: PriceListId,
    pub spec: PriceListSpec,
}

/// A promotion.
#[derive(Debug)]
pub(crate) struct Rule {
    pub promotion_id: PromotionId,
    pub spec: PromotionSpec,
}

/// One end of an aim: the promotion by its place, and what the match means. Bits of [`Rules::aims`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Aim {
    pub promotion: u32,
    pub bit: u8,
}

/// The line is what the promotion is for.
pub(crate) const INCLUDED: u8 = 1;
/// The line is left out of it.
pub(crate) const EXCLUDED: u8 = 2;
/// The line is what one gets.
pub(crate) const GET_INCLUDED: u8 = 4;
/// The line is left out of what one gets.
pub(crate) const GET_EXCLUDED: u8 = 8;

/// A country's rates from a day on.
#[derive(Debug)]
pub(crate) struct Period {
    pub period: TaxPeriod,
    /// As many as it has exceptions, in their order.
    pub postcodes: Vec<Regex>,
}

/// A postcode's pattern, which has to match all of it. Errors: a text that says what is wrong.
pub(crate) fn postcode_pattern(pattern: &str) -> std::result::Result<Regex, String> {
    let whole = format!("^(?:{pattern})$");
    regex_lite::RegexBuilder::new(&whole).size_limit(64 * 1024).build().map_err(|error| error.to_string())
}

/// A postcode without its spaces and signs, in upper case: what patterns are matched with.
pub(crate) fn plain_postcode(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).collect()
}

impl Rules {
    /// Compiles what is stored. Rows that are not active are left out. Errors: `internal` when a stored pattern can't be read.
    pub fn compile(
        stamp: i64,
        settings: TaxSettings,
        lists: Vec<PriceList>,
        promotions: Vec<Promotion>,
        countries: Vec<(String, Vec<TaxPeriod>)>,
    ) -> Result<Rules> {
        let active = lists.into_iter().filter(|list| list.spec.status == Status::Active);
        let mut lists: Vec<List> = active.map(|list| List { list_id: list.price_list_id, spec: list.spec }).collect();
        // Higher priority; then those for a group; then what began last; then the newest.
        lists.sort_by(|a, b| {
            let key = |list: &List| (list.spec.priority, list.spec.customer_group.is_some(), list.spec.starts_at, list.list_id);
            key(b).cmp(&key(a))
        });
        let active = promotions.into_iter().filter(|promotion| promotion.spec.status == Status::Active);
        let mut promotions: Vec<Rule> = active.map(|p| Rule { promotion_id: p.promotion_id, spec: p.spec }).collect();
        // Higher priority, then the oldest.
        promotions.sort_by_key(|rule| (-i64::from(rule.spec.priority), rule.promotion_id));
        let mut rules = Rules { stamp, settings, lists, ..Rules::default() };
        for (place, rule) in promotions.iter().enumerate() {
            rules.aim(place, &rule.spec.target, INCLUDED, EXCLUDED);
            if let Effect::BuyGet { get_target: Some(target), .. } = &rule.spec.effect {
                rules.aim(place, target, GET_INCLUDED, GET_EXCLUDED);
            }
        }
        rules.promotions = promotions;
        for (country, mut periods) in countries {
            periods.sort_by(|a, b| b.effective_from.cmp(&a.effective_from));
            let compile = |period: TaxPeriod| {
                let patterns = period.exceptions.iter().map(|exception| postcode_pattern(&exception.postcode));
                let postcodes = patterns.collect::<std::result::Result<_, _>>().map_err(Error::internal)?;
                Ok(Period { period, postcodes })
            };
            rules.countries.insert(country, periods.into_iter().map(compile).collect::<Result<_>>()?);
        }
        Ok(rules)
    }

    fn aim(&mut self, place: usize, target: &Target, included: u8, excluded: u8) {
        let promotion = place as u32;
        let mut note = |map: fn(&mut Rules) -> &mut HashMap<Box<str>, Vec<Aim>>, keys: &[String], bit| {
            for key in keys {
                map(self).entry(key.as_str().into()).or_default().push(Aim { promotion, bit });
            }
        };
        note(|rules| &mut rules.by_sku, &target.skus, included);
        note(|rules| &mut rules.by_label, &target.labels, included);
        note(|rules| &mut rules.by_sku, &target.except_skus, excluded);
        note(|rules| &mut rules.by_label, &target.except_labels, excluded);
    }

    /// The lists for these customers at this time, the first to be asked first.
    pub(crate) fn lists_in_force(&self, currency: Currency, groups: &[String], at: Timestamp) -> Vec<&List> {
        let fits = |list: &&List| {
            let spec = &list.spec;
            spec.currency == currency
                && spec.starts_at.is_none_or(|from| from <= at)
                && spec.ends_at.is_none_or(|end| at < end)
                && spec.customer_group.as_ref().is_none_or(|group| groups.contains(group))
        };
        self.lists.iter().filter(fits).collect()
    }

    /// About how much memory this takes, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let aims: usize = self.by_sku.iter().chain(&self.by_label).map(|(key, aims)| key.len() + 64 + aims.len() * size_of::<Aim>()).sum();
        let promotions: usize = self.promotions.iter().map(|rule| size_of::<Rule>() + rule.spec.bytes()).sum();
        let periods: usize = self.countries.values().flatten().map(|p| 512 + p.postcodes.len() * 4096).sum();
        size_of::<Self>() + self.lists.len() * 512 + aims + promotions + periods
    }
}
