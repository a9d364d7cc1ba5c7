//! Minor units as decimal text.

use kernel::Currency;

/// `-12.05`, with as many decimals as the currency has.
pub(crate) fn decimal(minor: i64, currency: Currency) -> String {
    let (sign, value, digits) = (if minor < 0 { "-" } else { "" }, minor.unsigned_abs(), currency.exponent() as usize);
    if digits == 0 {
        return format!("{sign}{value}");
    }
    let scale = currency.minor_per_major().unsigned_abs();
    format!("{sign}{}.{:0digits$}", value / scale, value % scale)
}
