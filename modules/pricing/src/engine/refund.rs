//! Refunds of parts: whatever the order and the partition, the parts add up to the whole, tax included.
//!
//! What the first `k` of a line's `n` pieces are worth is a rounded share of the line; a refund is the difference of two such shares, so
//! that whatever telescopes to `n` pieces telescopes to the line. Tax follows the amount that it is of.

use super::round::round;
use super::{PricedKind, PricedLine, PricedSnapshot};
use kernel::{Currency, Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// So many pieces of a line. A charge has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RefundQuantity)]
pub struct LineQuantity {
    /// The line's number.
    pub line: u32,
    /// How many.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    pub quantity: i64,
}

/// What is given back of a line. No amount is below zero; `total_minor` is `extended_minor - discount_minor + tax_minor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = PricedRefundLine)]
pub struct RefundLine {
    /// The line's number.
    pub line: u32,
    /// What it is.
    pub kind: PricedKind,
    /// How many.
    pub quantity: i64,
    /// Its share of the line before the discount.
    pub extended_minor: i64,
    /// Its share of the discount.
    pub discount_minor: i64,
    /// Its share of the added tax.
    pub tax_minor: i64,
    /// Its share of the tax in the price.
    pub included_tax_minor: i64,
    /// What is given back.
    pub total_minor: i64,
}

/// What is given back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = PricedRefund)]
pub struct Refund {
    /// Of every amount.
    pub currency: Currency,
    /// By line, in the order of their numbers.
    pub lines: Vec<RefundLine>,
    /// The added taxes.
    pub tax_minor: i64,
    /// The taxes in the prices.
    pub included_tax_minor: i64,
    /// What is given back in all.
    pub total_minor: i64,
}

/// What the first pieces of a line are worth.
#[derive(Clone, Copy)]
struct Share {
    net: i64,
    discount: i64,
    tax: i64,
    included: i64,
}

fn share_of(line: &PricedLine, pieces: i64) -> Share {
    let part =
        |amount: i64, of: i64, whole: i64| if whole == 0 { 0 } else { round(i128::from(amount) * i128::from(of), i128::from(whole)) };
    let whole = line.extended_minor - line.discount_minor;
    let net = part(whole, pieces, line.quantity);
    Share {
        net,
        discount: part(line.discount_minor, pieces, line.quantity),
        // At least nothing and at most a unit for each unit of the amount, so no part is below zero or more than its amount.
        tax: part(line.tax_minor, net, whole),
        included: part(line.included_tax_minor, net, whole),
    }
}

/// What `now` is worth, after `already` was refunded. Lines may be named several times; their quantities add up.
/// Errors: `pricing.refund_unknown_line`; `pricing.refund_too_much`; `request.invalid` for a quantity below 1.
pub fn refund(snapshot: &PricedSnapshot, already: &[LineQuantity], now: &[LineQuantity]) -> Result<Refund> {
    let lines: BTreeMap<u32, &PricedLine> = snapshot.lines.iter().map(|line| (line.line, line)).collect();
    let gone = sums(&lines, already)?;
    let mut refund =
        Refund { currency: snapshot.currency, lines: Vec::with_capacity(now.len()), tax_minor: 0, included_tax_minor: 0, total_minor: 0 };
    for (number, quantity) in sums(&lines, now)? {
        let line = lines[&number];
        let before = gone.get(&number).copied().unwrap_or(0);
        if quantity > line.quantity - before.min(line.quantity) {
            let detail = format!("line {number}: {quantity} more than {before} already, of {}", line.quantity);
            return Err(Error::failed_precondition("pricing.refund_too_much", detail));
        }
        let (from, to) = (share_of(line, before), share_of(line, before + quantity));
        let (net, discount, tax) = (to.net - from.net, to.discount - from.discount, to.tax - from.tax);
        let part = RefundLine {
            line: number,
            kind: line.kind,
            quantity,
            extended_minor: net + discount,
            discount_minor: discount,
            tax_minor: tax,
            included_tax_minor: to.included - from.included,
            total_minor: net + tax,
        };
        refund.tax_minor += part.tax_minor;
        refund.included_tax_minor += part.included_tax_minor;
        refund.total_minor += part.total_minor;
        refund.lines.push(part);
    }
    Ok(refund)
}

/// Quantities by line, added up.
fn sums(lines: &BTreeMap<u32, &PricedLine>, quantities: &[LineQuantity]) -> Result<BTreeMap<u32, i64>> {
    let mut sums: BTreeMap<u32, i64> = BTreeMap::new();
    for (i, part) in quantities.iter().enumerate() {
        if part.quantity < 1 {
            return Err(Error::field(format!("lines[{i}].quantity"), "out_of_range", "at least 1"));
        }
        if !lines.contains_key(&part.line) {
            return Err(Error::failed_precondition("pricing.refund_unknown_line", format!("the order has no line {}", part.line)));
        }
        let sum = sums.entry(part.line).or_default();
        *sum = sum.saturating_add(part.quantity);
    }
    Ok(sums)
}
