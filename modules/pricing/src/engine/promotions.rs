//! Promotions: which apply, in which order, what each takes off which line, and why the others don't.

use super::round::{round, share, split};
use super::rules::{EXCLUDED, GET_EXCLUDED, GET_INCLUDED, INCLUDED, Rule, Rules};
use super::{AdjustedLine, Adjustment, Basket, CouponOutcome, NotApplied, PricedKind, Reason, Working};
use crate::model::{Effect, Of, PromotionId, Stacking, Target, Tier, TierMeasure};
use crate::percent::Percent;
use kernel::{Currency, Money};
use std::collections::{HashMap, HashSet};

const MILLION: i128 = 1_000_000;

/// What came of the promotions.
pub(crate) struct Promoted {
    pub adjustments: Vec<Adjustment>,
    pub not_applied: Vec<NotApplied>,
    pub coupons: Vec<CouponOutcome>,
}

/// A refusal with its words.
type Refusal = (Reason, String);

/// Tries every promotion in its order and takes off what each gives.
pub(crate) fn apply(rules: &Rules, basket: &Basket, lines: &mut [Working<'_>]) -> Promoted {
    let opened: HashMap<PromotionId, &str> =
        basket.coupons.iter().rev().filter_map(|coupon| Some((coupon.found.ok()?, coupon.code.as_str()))).collect();
    let aims = Aims::of(rules, lines);
    let measures = Measures::of(lines);
    let mut run = Run { currency: basket.currency, lines, locked: HashSet::new(), exclusive: None, applied: Vec::new() };
    let mut not_applied = Vec::new();
    for (place, rule) in rules.promotions.iter().enumerate() {
        let coupon = opened.get(&rule.promotion_id).copied();
        // What needs a code is nobody's business who has none.
        if rule.spec.coupon_required && coupon.is_none() {
            continue;
        }
        if let Err((reason, detail)) = run.attempt(place, rule, basket, &aims, &measures, coupon) {
            not_applied.push(NotApplied { promotion_id: rule.promotion_id, name: rule.spec.name.clone(), reason, detail });
        }
    }
    let adjustments = run.applied;
    let coupons = outcomes(rules, basket, &adjustments, &not_applied);
    Promoted { adjustments, not_applied, coupons }
}

/// What became of each code. Of several codes of one promotion the first counts.
fn outcomes(rules: &Rules, basket: &Basket, adjustments: &[Adjustment], not_applied: &[NotApplied]) -> Vec<CouponOutcome> {
    let mut used = HashSet::new();
    let outcome = |coupon: &super::PresentedCoupon| {
        let code = coupon.code.clone();
        let id = match coupon.found {
            Ok(id) => id,
            Err(reason) => return CouponOutcome { code, applied: false, reason: Some(reason), promotion_id: None },
        };
        let reason = if !rules.promotions.iter().any(|rule| rule.promotion_id == id) {
            Some(Reason::PromotionNotActive)
        } else if let Some(refused) = not_applied.iter().find(|refused| refused.promotion_id == id) {
            Some(refused.reason)
        } else if !used.insert(id) || !adjustments.iter().any(|done| done.promotion_id == id && done.coupon.is_some()) {
            // Another code of the same promotion counts, or the promotion applies to everybody.
            Some(Reason::NotCombinable)
        } else {
            None
        };
        CouponOutcome { code, applied: reason.is_none(), reason, promotion_id: Some(id) }
    };
    basket.coupons.iter().map(outcome).collect()
}

/// Which lines each promotion is for.
struct Aims {
    goods: usize,
    /// Bits by promotion and line.
    bits: Vec<u8>,
}

impl Aims {
    fn of(rules: &Rules, lines: &[Working<'_>]) -> Aims {
        let goods = lines.iter().filter(|line| line.kind == PricedKind::Sale).count();
        let mut bits = vec![0_u8; rules.promotions.len() * goods];
        for (i, line) in lines[..goods].iter().enumerate() {
            let by_sku = rules.by_sku.get(line.sku).into_iter().flatten();
            let by_label = line.labels.iter().filter_map(|label| rules.by_label.get(label.as_str())).flatten();
            for aim in by_sku.chain(by_label) {
                bits[aim.promotion as usize * goods + i] |= aim.bit;
            }
        }
        Aims { goods, bits }
    }

    /// The places of the lines that a target means.
    fn lines(&self, place: usize, target: &Target, included: u8, excluded: u8) -> Vec<usize> {
        let own = &self.bits[place * self.goods..][..self.goods];
        let everything = target.everything();
        (0..self.goods).filter(|i| (everything || own[*i] & included != 0) && own[*i] & excluded == 0).collect()
    }
}

/// Amounts and pieces of each line of goods before any promotion.
struct Measures(Vec<(i64, i64)>);

impl Measures {
    fn of(lines: &[Working<'_>]) -> Measures {
        let goods = lines.iter().filter(|line| line.kind == PricedKind::Sale);
        Measures(goods.map(|line| (line.extended_minor, line.quantity)).collect())
    }

    fn sum(&self, lines: &[usize]) -> (i64, i64) {
        lines.iter().map(|i| self.0[*i]).fold((0, 0), |sum, line| (sum.0 + line.0, sum.1 + line.1))
    }

    fn all(&self) -> (i64, i64) {
        self.0.iter().fold((0, 0), |sum, line| (sum.0 + line.0, sum.1 + line.1))
    }
}

struct Run<'l, 'b> {
    currency: Currency,
    lines: &'l mut [Working<'b>],
    /// Places of lines on which nothing may follow.
    locked: HashSet<usize>,
    /// The exclusive promotion that applied.
    exclusive: Option<String>,
    applied: Vec<Adjustment>,
}

impl Run<'_, '_> {
    fn shown(&self, amount_minor: i64) -> String {
        Money::new(amount_minor, self.currency).to_string()
    }

    /// Applies a promotion, or tells why not.
    fn attempt(
        &mut self,
        place: usize,
        rule: &Rule,
        basket: &Basket,
        aims: &Aims,
        measures: &Measures,
        coupon: Option<&str>,
    ) -> Result<(), Refusal> {
        let spec = &rule.spec;
        gate(rule, basket)?;
        let matching = aims.lines(place, &spec.target, INCLUDED, EXCLUDED);
        if matching.is_empty() {
            return Err((Reason::NoMatchingLines, "nothing in the basket is what it is for".to_owned()));
        }
        let measured = measures.sum(&matching);
        self.reached(rule, measured, measures)?;
        if let Some(other) = &self.exclusive {
            return Err((Reason::NotCombinable, format!("{other} applies alone")));
        }
        if spec.stacking == Stacking::Exclusive
            && let Some(other) = self.applied.first()
        {
            return Err((Reason::NotCombinable, format!("it applies alone, and {} applies already", other.name)));
        }
        let got = match &spec.effect {
            Effect::BuyGet { get_target: Some(target), .. } => aims.lines(place, target, GET_INCLUDED, GET_EXCLUDED),
            _ => Vec::new(),
        };
        let open =
            |i: &usize| !self.locked.contains(i) && (spec.stacking != Stacking::ExclusiveOnLines || self.lines[*i].discount_minor == 0);
        let free: Vec<usize> = matching.iter().copied().filter(open).collect();
        let got: Vec<usize> = got.into_iter().filter(open).collect();
        // Free shipping takes nothing off the goods that it is for.
        if free.is_empty() && !matches!(spec.effect, Effect::FreeShipping { .. }) {
            return Err((Reason::NotCombinable, "what it is for is discounted by one that excludes it, or that it excludes".to_owned()));
        }
        let mut taken = self.discounts(&spec.effect, &free, &got, measured)?;
        if let Some(most) = spec.max_discount_minor {
            cap(&mut taken, most);
        }
        taken.retain(|(_, amount)| *amount > 0);
        if taken.is_empty() {
            return Err((Reason::NothingLeft, "nothing is left to take off".to_owned()));
        }
        for (i, amount) in &taken {
            self.lines[*i].discount_minor += amount;
            if spec.stacking == Stacking::ExclusiveOnLines {
                self.locked.insert(*i);
            }
        }
        if spec.stacking == Stacking::Exclusive {
            self.exclusive = Some(spec.name.clone());
        }
        self.applied.push(Adjustment {
            promotion_id: rule.promotion_id,
            name: spec.name.clone(),
            // A promotion that everybody gets uses up nobody's code.
            coupon: coupon.filter(|_| spec.coupon_required).map(str::to_owned),
            amount_minor: taken.iter().map(|(_, amount)| amount).sum(),
            lines: taken.into_iter().map(|(i, amount_minor)| AdjustedLine { line: self.lines[i].line, amount_minor }).collect(),
        });
        Ok(())
    }

    /// Whether its minimum is reached.
    fn reached(&self, rule: &Rule, measured: (i64, i64), measures: &Measures) -> Result<(), Refusal> {
        let Some(minimum) = &rule.spec.minimum else { return Ok(()) };
        let (amount, quantity) = match minimum.of {
            Of::Target => measured,
            Of::Order => measures.all(),
        };
        if amount < minimum.amount_minor {
            let (have, want) = (self.shown(amount), self.shown(minimum.amount_minor));
            return Err((Reason::BelowMinimumAmount, format!("{have} of at least {want}")));
        }
        if quantity < minimum.quantity {
            return Err((Reason::BelowMinimumQuantity, format!("{quantity} of at least {} pieces", minimum.quantity)));
        }
        Ok(())
    }

    fn remaining(&self, lines: &[usize]) -> Vec<i64> {
        lines.iter().map(|i| self.lines[*i].remaining()).collect()
    }

    /// What an effect takes off which line: never more than is left of it.
    fn discounts(&self, effect: &Effect, free: &[usize], got: &[usize], measured: (i64, i64)) -> Result<Vec<(usize, i64)>, Refusal> {
        let on = |lines: &[usize], amounts: Vec<i64>| lines.iter().copied().zip(amounts).collect::<Vec<_>>();
        Ok(match effect {
            Effect::Percent { percent } => on(free, self.percent_off(free, *percent)),
            Effect::Amount { amount_minor } => on(free, self.amount_off(free, *amount_minor)),
            Effect::AmountEach { amount_minor } => {
                let each = |i: &usize| {
                    let line = &self.lines[*i];
                    amount_minor.saturating_mul(line.quantity).min(line.remaining())
                };
                on(free, free.iter().map(each).collect())
            }
            Effect::BuyGet { buy, get, percent, get_target, at_most } => {
                let got = if get_target.is_some() { got } else { free };
                let pieces = self.pieces_got(free, got, *buy, *get, at_most.unwrap_or(i64::MAX));
                if pieces.is_empty() {
                    return Err((Reason::BelowMinimumQuantity, format!("{buy} pieces to buy and {get} to get are not there")));
                }
                let off = |(i, pieces): (usize, i64)| {
                    let line = &self.lines[i];
                    let exact = i128::from(line.remaining()) * i128::from(pieces) * i128::from(percent.millionths());
                    (i, round(exact, i128::from(line.quantity) * MILLION))
                };
                pieces.into_iter().map(off).collect()
            }
            Effect::FreeShipping { at_most_minor } => {
                let shipping: Vec<usize> = (0..self.lines.len()).filter(|i| self.lines[*i].shipping && !self.locked.contains(i)).collect();
                let amount = self.remaining(&shipping).iter().sum::<i64>();
                on(&shipping, self.amount_off(&shipping, at_most_minor.unwrap_or(amount)))
            }
            Effect::Tiers { by, steps } => {
                let (measure, reason) = match by {
                    TierMeasure::Amount => (measured.0, Reason::BelowMinimumAmount),
                    TierMeasure::Quantity => (measured.1, Reason::BelowMinimumQuantity),
                };
                let reached = steps.iter().filter(|step| step.at_least <= measure).max_by_key(|step| step.at_least);
                match reached {
                    Some(Tier { amount_minor: 0, percent, .. }) => on(free, self.percent_off(free, *percent)),
                    Some(Tier { amount_minor, .. }) => on(free, self.amount_off(free, *amount_minor)),
                    None => {
                        let first = steps.iter().map(|step| step.at_least).min().unwrap_or_default();
                        let shown = |value| if *by == TierMeasure::Amount { self.shown(value) } else { format!("{value} pieces") };
                        return Err((reason, format!("{} of at least {}", shown(measure), shown(first))));
                    }
                }
            }
        })
    }

    /// A part of what is left, rounded once for all of the lines and shared out over them.
    fn percent_off(&self, lines: &[usize], percent: Percent) -> Vec<i64> {
        let off = i128::from(percent.millionths());
        let exact: Vec<i128> = lines.iter().map(|i| i128::from(self.lines[*i].remaining()) * off).collect();
        share(&exact, MILLION)
    }

    /// An amount, or what is left if that is less, shared out over the lines.
    fn amount_off(&self, lines: &[usize], amount_minor: i64) -> Vec<i64> {
        let left = self.remaining(lines);
        let sum: i64 = left.iter().sum();
        if sum == 0 { vec![0; lines.len()] } else { split(amount_minor.min(sum), &left) }
    }

    /// Which pieces one gets: the cheapest of `got`, as many times `get` as there are `buy` other pieces of `bought` to pay for.
    fn pieces_got(&self, bought: &[usize], got: &[usize], buy: i64, get: i64, at_most: i64) -> Vec<(usize, i64)> {
        let also_bought: HashSet<usize> = bought.iter().copied().collect();
        let mut cheapest = got.to_vec();
        cheapest.sort_by_key(|i| (self.lines[*i].unit_price, also_bought.contains(i), *i));
        let pieces = |lines: &[usize]| lines.iter().map(|i| self.lines[*i].quantity).sum::<i64>();
        let (to_pay, to_get) = (pieces(bought), pieces(got));
        // The first `count` pieces, cheapest first.
        let first = |count: i64| {
            let mut left = count;
            let mut taken = Vec::new();
            for i in &cheapest {
                let pieces = left.min(self.lines[*i].quantity);
                if pieces == 0 {
                    break;
                }
                taken.push((*i, pieces));
                left -= pieces;
            }
            taken
        };
        let fits = |times: i64| {
            let taken: i64 = first(times * get).iter().filter(|(i, _)| also_bought.contains(i)).map(|(_, pieces)| pieces).sum();
            to_pay - taken >= times * buy
        };
        // The more times, the more pieces are got and the fewer are left to pay for: the highest that fits is found by halving.
        let (mut fitting, mut beyond) = (0, (to_get / get).min(to_pay / buy).min(at_most) + 1);
        while beyond - fitting > 1 {
            let middle = fitting + (beyond - fitting) / 2;
            if fits(middle) {
                fitting = middle;
            } else {
                beyond = middle;
            }
        }
        first(fitting * get)
    }
}

/// Whether the basket is one that the promotion is for.
fn gate(rule: &Rule, basket: &Basket) -> Result<(), Refusal> {
    let spec = &rule.spec;
    if let Some(from) = spec.starts_at
        && basket.at < from
    {
        return Err((Reason::NotStarted, format!("it begins at {from}")));
    }
    if let Some(end) = spec.ends_at
        && end <= basket.at
    {
        return Err((Reason::Ended, format!("it ended at {end}")));
    }
    if let Some(currency) = spec.currency
        && currency != basket.currency
    {
        return Err((Reason::OtherCurrency, format!("it is for {currency}")));
    }
    if !spec.customer_groups.is_empty() && !spec.customer_groups.iter().any(|group| basket.customer_groups.contains(group)) {
        return Err((Reason::OtherCustomers, format!("it is for customers of {}", spec.customer_groups.join(", "))));
    }
    Ok(())
}

/// Cuts what is taken off to `most` in all, line by line in proportion.
fn cap(taken: &mut [(usize, i64)], most: i64) {
    let amounts: Vec<i64> = taken.iter().map(|(_, amount)| *amount).collect();
    if amounts.iter().sum::<i64>() > most {
        for (line, amount) in taken.iter_mut().zip(split(most, &amounts)) {
            line.1 = amount;
        }
    }
}
