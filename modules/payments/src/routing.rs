//! Which provider is asked, and who next: rules as data, weights, cost, and a breaker for each provider.

use crate::model::{Ask, MethodKind, ProviderId};
use kernel::{Error, Result, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use utoipa::ToSchema;

/// Rules of a policy.
pub const MAX_RULES: usize = 100;
/// Entries of a list within a rule.
const MAX_LIST: usize = 250;
/// The largest weight.
const MAX_WEIGHT: u32 = 1_000_000;

/// When a provider may be asked, and how gladly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The provider.
    pub provider_id: ProviderId,
    /// Rules with the lowest number are tried first.
    #[serde(default)]
    #[schema(maximum = 1000)]
    pub priority: u32,
    /// Among rules of the same priority: how often it comes first, relative to the others. 0 for only after the others.
    #[serde(default = "one")]
    #[schema(maximum = 1_000_000)]
    pub weight: u32,
    /// Ways to pay; empty for all.
    #[serde(default)]
    #[schema(max_items = 250)]
    pub methods: Vec<MethodKind>,
    /// Currencies; empty for all.
    #[serde(default)]
    #[schema(max_items = 250)]
    pub currencies: Vec<kernel::Currency>,
    /// The customer's countries, ISO 3166 alpha-2; empty for all. A customer of unknown country matches only the empty list.
    #[serde(default)]
    #[schema(max_items = 250)]
    pub countries: Vec<String>,
    /// Merchants of the tenant; empty for all.
    #[serde(default)]
    #[schema(max_items = 250)]
    pub merchants: Vec<String>,
    /// From this amount on, in minor units.
    #[serde(default)]
    #[schema(minimum = 0)]
    pub min_amount_minor: Option<i64>,
    /// Up to this amount, in minor units.
    #[serde(default)]
    #[schema(minimum = 0)]
    pub max_amount_minor: Option<i64>,
    /// What it costs: millionths of the amount.
    #[serde(default)]
    #[schema(maximum = 1_000_000)]
    pub cost_micros: u32,
    /// What it costs besides, in minor units.
    #[serde(default)]
    #[schema(maximum = 1_000_000)]
    pub cost_fixed_minor: u32,
}

fn one() -> u32 {
    1
}

/// How rules of the same priority are put in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// By chance, by their weights.
    #[default]
    Weighted,
    /// The cheapest for this amount first; of equals by their weights.
    Cheapest,
}

/// A tenant's rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// How rules of the same priority are put in order.
    #[serde(default)]
    pub strategy: Strategy,
    /// The rules; without any, every provider is asked alike.
    #[schema(max_items = 100)]
    pub rules: Vec<Rule>,
}

impl Policy {
    /// Checks bounds. Errors: `request.invalid` naming the field.
    pub fn check(&self) -> Result<()> {
        let wrong = |field: String, detail: &str| Err(Error::field(field, "out_of_range", detail));
        if self.rules.len() > MAX_RULES {
            return wrong("rules".into(), "at most 100 rules");
        }
        for (i, rule) in self.rules.iter().enumerate() {
            let at = |field: &str| format!("rules[{i}].{field}");
            if rule.priority > 1_000 {
                return wrong(at("priority"), "at most 1,000");
            }
            if rule.weight > MAX_WEIGHT {
                return wrong(at("weight"), "at most 1,000,000");
            }
            for (field, value) in [("cost_micros", rule.cost_micros), ("cost_fixed_minor", rule.cost_fixed_minor)] {
                if value > 1_000_000 {
                    return wrong(at(field), "at most 1,000,000");
                }
            }
            let lists = [
                ("methods", rule.methods.len()),
                ("currencies", rule.currencies.len()),
                ("countries", rule.countries.len()),
                ("merchants", rule.merchants.len()),
            ];
            if let Some((field, _)) = lists.into_iter().find(|(_, length)| *length > MAX_LIST) {
                return wrong(at(field), "a list has at most 250 entries");
            }
            if rule.countries.iter().any(|c| c.len() != 2 || !c.bytes().all(|b| b.is_ascii_uppercase())) {
                return wrong(at("countries"), "a country is two capital letters, such as DE");
            }
            if rule.merchants.iter().any(|m| m.is_empty() || m.len() > 64) {
                return wrong(at("merchants"), "a merchant's name has 1 to 64 bytes");
            }
            for (field, value) in [("min_amount_minor", rule.min_amount_minor), ("max_amount_minor", rule.max_amount_minor)] {
                if value.is_some_and(|value| value < 0) {
                    return wrong(at(field), "at least 0");
                }
            }
        }
        Ok(())
    }
}

impl Rule {
    /// A rule that always matches.
    pub fn always(provider_id: ProviderId) -> Rule {
        Rule {
            provider_id,
            priority: 0,
            weight: 1,
            methods: Vec::new(),
            currencies: Vec::new(),
            countries: Vec::new(),
            merchants: Vec::new(),
            min_amount_minor: None,
            max_amount_minor: None,
            cost_micros: 0,
            cost_fixed_minor: 0,
        }
    }

    fn matches(&self, ask: &Ask) -> bool {
        let listed = |empty: bool, found: bool| empty || found;
        listed(self.methods.is_empty(), self.methods.contains(&ask.method))
            && listed(self.currencies.is_empty(), self.currencies.contains(&ask.currency))
            && listed(self.countries.is_empty(), self.countries.contains(&ask.country))
            && listed(self.merchants.is_empty(), self.merchants.contains(&ask.merchant))
            && self.min_amount_minor.is_none_or(|min| ask.amount_minor >= min)
            && self.max_amount_minor.is_none_or(|max| ask.amount_minor <= max)
    }

    /// What it would cost, in millionths of a minor unit.
    fn cost(&self, amount_minor: i64) -> i128 {
        i128::from(amount_minor) * i128::from(self.cost_micros) + i128::from(self.cost_fixed_minor) * 1_000_000
    }
}

/// The providers to ask, in this order, each once. `draw` decides by chance: the same draw gives the same order.
pub fn order(policy: &Policy, ask: &Ask, draw: u64) -> Vec<ProviderId> {
    let mut matching: Vec<(u32, i128, u64, ProviderId)> = Vec::new();
    for (i, rule) in policy.rules.iter().enumerate().filter(|(_, rule)| rule.matches(ask)) {
        let cost = if policy.strategy == Strategy::Cheapest { rule.cost(ask.amount_minor) } else { 0 };
        matching.push((rule.priority, cost, lateness(rule.weight, draw, i as u64), rule.provider_id));
    }
    matching.sort_unstable();
    let mut order: Vec<ProviderId> = Vec::with_capacity(matching.len());
    for (_, _, _, provider) in matching {
        if !order.contains(&provider) {
            order.push(provider);
        }
    }
    order
}

/// A number by which rules are sorted so that each comes first as often as its weight says: the time of the first event of a process
/// with that rate (Efraimidis and Spirakis 2006).
fn lateness(weight: u32, draw: u64, salt: u64) -> u64 {
    if weight == 0 {
        return u64::MAX;
    }
    let mut z = draw ^ salt.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    let uniform = ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64;
    let time = -(1.0 - uniform).ln() / f64::from(weight);
    (time * 1e12) as u64
}

/// Breaks the circuit to a provider that is away: after so many outages in a row nobody asks it for a while, then one call tries again.
#[derive(Debug, Default)]
pub struct Breakers(HashMap<ProviderId, Breaker>);

#[derive(Clone, Copy, Debug, Default)]
struct Breaker {
    failures: u32,
    open_until: Option<Timestamp>,
}

/// Outages in a row that open a breaker.
const OPENS_AFTER: u32 = 5;
/// How long it stays open, in milliseconds.
const OPEN_MS: i64 = 10_000;

impl Breakers {
    /// Whether the provider may be asked now. Of those who ask after the pause one gets through, and the pause begins anew for the others.
    pub fn admits(&mut self, provider: ProviderId, now: Timestamp) -> bool {
        match self.0.get_mut(&provider) {
            Some(breaker) => match breaker.open_until {
                Some(until) if now < until => false,
                Some(_) => {
                    breaker.open_until = Some(now.plus_ms(OPEN_MS));
                    true
                }
                None => true,
            },
            None => true,
        }
    }

    /// The provider answered.
    pub fn answered(&mut self, provider: ProviderId) {
        self.0.remove(&provider);
    }

    /// The provider was away, or gave no answer.
    pub fn failed(&mut self, provider: ProviderId, now: Timestamp) {
        let breaker = self.0.entry(provider).or_default();
        breaker.failures += 1;
        if breaker.failures >= OPENS_AFTER {
            breaker.open_until = Some(now.plus_ms(OPEN_MS));
        }
    }
}
