//! Rounding and sharing out, in integers. Everything here is for amounts that are not below zero.

/// `numerator / denominator`, a half rounded up. Both at least zero, the denominator above it.
pub(crate) fn round(numerator: i128, denominator: i128) -> i64 {
    quotient(numerator + denominator / 2, denominator) as i64
}

/// Whole units out of exact amounts `numerators[i] / denominator`: they add up to the rounded sum, and each is the exact amount
/// rounded down or up. What remains after rounding down goes, a unit each, to the largest fractions, the first of equals first.
pub(crate) fn share(numerators: &[i128], denominator: i128) -> Vec<i64> {
    let mut shares = Vec::with_capacity(numerators.len());
    let mut fractions: Vec<(i128, usize)> = Vec::with_capacity(numerators.len());
    let (mut sum, mut given) = (0_i128, 0_i64);
    for (i, numerator) in numerators.iter().enumerate() {
        let whole = quotient(*numerator, denominator);
        let fraction = numerator - whole * denominator;
        if fraction > 0 {
            fractions.push((fraction, i));
        }
        shares.push(whole as i64);
        given += whole as i64;
        sum += numerator;
    }
    // Fewer than one unit is missing for each fraction, so there are enough of them.
    let missing = (round(sum, denominator) - given) as usize;
    if missing > 0 {
        let order = |a: &(i128, usize), b: &(i128, usize)| b.0.cmp(&a.0).then(a.1.cmp(&b.1));
        if missing < fractions.len() {
            fractions.select_nth_unstable_by(missing - 1, order);
        }
        for (_, i) in &fractions[..missing] {
            shares[*i] += 1;
        }
    }
    shares
}

/// Splits `amount` by `weights`, which add up to more than zero, by the same rule. No part is larger than its weight if the amount is
/// not larger than their sum.
pub(crate) fn split(amount: i64, weights: &[i64]) -> Vec<i64> {
    let sum: i128 = weights.iter().map(|weight| i128::from(*weight)).sum();
    let numerators: Vec<i128> = weights.iter().map(|weight| i128::from(*weight) * i128::from(amount)).collect();
    share(&numerators, sum)
}

/// Division in 64 bits where it fits: several times faster than in 128.
fn quotient(numerator: i128, denominator: i128) -> i128 {
    match (u64::try_from(numerator), u64::try_from(denominator)) {
        (Ok(numerator), Ok(denominator)) => i128::from(numerator / denominator),
        _ => numerator / denominator,
    }
}
