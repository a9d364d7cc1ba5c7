//! How a provider's settlement file is read: a declared mapping of its columns, and rows as they are compared.

use super::books;
use super::matching::{BreakKind, Direction, RowState, Theirs};
use kernel::{Currency, Error, Result};
use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;
use utoipa::ToSchema;

/// Names of columns; at most so many bytes.
const MAX_NAME: usize = 64;
/// Values of a column that mean something; at most so many.
const MAX_WORDS: usize = 16;
/// Rules of one format, and the most that one may resolve.
const MAX_RULES: usize = 32;
const MAX_RULE_MINOR: i64 = 1_000_000_000_000;
/// The largest amount of a row, in minor units, so that those of one payment can be added up.
pub(crate) const MAX_ROW_MINOR: i64 = 1_000_000_000_000_000;

/// Which column of the file says what. What is missing is not compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SettlementColumns)]
pub struct Columns {
    /// What we called the capture or refund (its `operation_id`).
    #[schema(max_length = 64)]
    pub reference: String,
    /// What the provider calls the payment.
    #[serde(default)]
    #[schema(max_length = 64)]
    pub charge: Option<String>,
    /// What we called the payment, such as `pay_...-1`.
    #[serde(default)]
    #[schema(max_length = 64)]
    pub charge_reference: Option<String>,
    /// The provider's own name of the movement, the same in no two rows.
    #[serde(default)]
    #[schema(max_length = 64)]
    pub movement: Option<String>,
    /// Whether it is a capture or a refund; without it the amount's sign says so. A capture of less than nothing is a refund.
    #[serde(default)]
    #[schema(max_length = 64)]
    pub kind: Option<String>,
    /// The amount before fees.
    #[schema(max_length = 64)]
    pub gross: String,
    /// What the provider keeps.
    #[serde(default)]
    #[schema(max_length = 64)]
    pub fee: Option<String>,
    /// What is paid out: the amount less the fee.
    #[serde(default)]
    #[schema(max_length = 64)]
    pub net: Option<String>,
    /// The currency.
    #[schema(max_length = 64)]
    pub currency: String,
    /// When it happened: a date, or a time of which the date counts.
    #[serde(default)]
    #[schema(max_length = 64)]
    pub occurred_at: Option<String>,
    /// Where it stands.
    #[serde(default)]
    #[schema(max_length = 64)]
    pub status: Option<String>,
}

/// How amounts are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = SettlementAmounts)]
pub enum Amounts {
    /// `1234`.
    #[default]
    Minor,
    /// `12.34`.
    Major,
}

/// What a rule does with a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = BreakRuleAction)]
pub enum RuleAction {
    /// It is taken as it is.
    Accept,
    /// The proposed posting is made.
    Post,
}

/// Resolves differences of a kind by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = BreakRule)]
pub struct Rule {
    /// Of this kind.
    pub kind: BreakKind,
    /// Of at most so many minor units: of what differs, or where that is no amount (a status, a day), of the whole row.
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    pub up_to_minor: i64,
    /// What is done.
    pub action: RuleAction,
}

/// How a provider's settlement files are read and compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SettlementFormat)]
pub struct Format {
    /// Which column says what.
    pub columns: Columns,
    /// What parts columns: `,`, `;` or a tab.
    #[serde(default = "comma")]
    #[schema(min_length = 1, max_length = 1)]
    pub delimiter: String,
    /// How amounts are written.
    #[serde(default)]
    pub amounts: Amounts,
    /// Words in the column `kind` that mean a capture.
    #[serde(default = "captures")]
    #[schema(max_items = 16)]
    pub captures: Vec<String>,
    /// Words in the column `kind` that mean a refund.
    #[serde(default = "refunds")]
    #[schema(max_items = 16)]
    pub refunds: Vec<String>,
    /// Words in the column `status` that mean that the money is paid out.
    #[serde(default = "settled")]
    #[schema(max_items = 16)]
    pub settled: Vec<String>,
    /// Amounts that differ by at most so many minor units are the same.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1_000_000)]
    pub tolerance_minor: i64,
    /// Fees that differ by at most so many minor units are the same.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1_000_000)]
    pub fee_tolerance_minor: i64,
    /// Dates that differ by at most so many days are the same.
    #[serde(default = "one")]
    #[schema(minimum = 0, maximum = 60)]
    pub tolerance_days: i64,
    /// What is resolved without a person, the first rule that fits.
    #[serde(default)]
    #[schema(max_items = 32)]
    pub rules: Vec<Rule>,
}

fn comma() -> String {
    ",".to_owned()
}

fn one() -> i64 {
    1
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

fn captures() -> Vec<String> {
    words(&["capture", "charge", "payment"])
}

fn refunds() -> Vec<String> {
    words(&["refund"])
}

fn settled() -> Vec<String> {
    words(&["settled", "paid", "succeeded", "available"])
}

impl Format {
    /// That of `brandos sandbox-psp`.
    pub fn sandbox() -> Format {
        let name = |name: &str| Some(name.to_owned());
        let columns = Columns {
            reference: "reference".to_owned(),
            charge: name("charge_id"),
            charge_reference: name("charge_reference"),
            movement: name("movement_id"),
            kind: name("type"),
            gross: "gross_minor".to_owned(),
            fee: name("fee_minor"),
            net: name("net_minor"),
            currency: "currency".to_owned(),
            occurred_at: name("occurred_at"),
            status: None,
        };
        Format {
            columns,
            delimiter: comma(),
            amounts: Amounts::Minor,
            captures: captures(),
            refunds: refunds(),
            settled: settled(),
            tolerance_minor: 0,
            fee_tolerance_minor: 0,
            tolerance_days: 1,
            rules: Vec::new(),
        }
    }

    /// Errors: `request.invalid` naming what is out of bounds.
    pub fn check(&self) -> Result<()> {
        let c = &self.columns;
        let optional = [&c.charge, &c.charge_reference, &c.movement, &c.kind, &c.fee, &c.net, &c.occurred_at, &c.status];
        let names = [&c.reference, &c.gross, &c.currency].into_iter().chain(optional.into_iter().flatten());
        if names.clone().any(|name| name.is_empty() || name.len() > MAX_NAME) {
            return Err(Error::field("columns", "out_of_range", format!("a column's name has 1 to {MAX_NAME} bytes")));
        }
        if !matches!(self.delimiter.as_str(), "," | ";" | "\t") {
            return Err(Error::field("delimiter", "invalid", "a comma, a semicolon or a tab"));
        }
        for (field, list) in [("captures", &self.captures), ("refunds", &self.refunds), ("settled", &self.settled)] {
            if list.len() > MAX_WORDS || list.iter().any(|word| word.is_empty() || word.len() > MAX_NAME) {
                return Err(Error::field(field, "out_of_range", format!("at most {MAX_WORDS} words of 1 to {MAX_NAME} bytes")));
            }
        }
        let bounds = [
            ("tolerance_minor", self.tolerance_minor, 1_000_000),
            ("fee_tolerance_minor", self.fee_tolerance_minor, 1_000_000),
            ("tolerance_days", self.tolerance_days, 60),
        ];
        for (field, value, most) in bounds {
            if !(0..=most).contains(&value) {
                return Err(Error::field(field, "out_of_range", format!("0 to {most}")));
            }
        }
        if self.rules.len() > MAX_RULES || self.rules.iter().any(|rule| !(0..=MAX_RULE_MINOR).contains(&rule.up_to_minor)) {
            return Err(Error::field("rules", "out_of_range", format!("at most {MAX_RULES} rules, of amounts from 0 to {MAX_RULE_MINOR}")));
        }
        for (i, rule) in self.rules.iter().enumerate() {
            if rule.kind == BreakKind::Unreadable {
                return Err(Error::field(
                    format!("rules[{i}].kind"),
                    "invalid",
                    "what can't be read has no amount that a rule could bound",
                ));
            }
            if rule.action == RuleAction::Post && books::against(rule.kind).is_none() {
                return Err(Error::field(
                    format!("rules[{i}].action"),
                    "invalid",
                    "this kind of difference has no posting; it can be accepted",
                ));
            }
        }
        Ok(())
    }

    /// Places of the columns in a file with this header. Errors: `payments.file_malformed` naming a column that is not there.
    pub(crate) fn places(&self, header: &csv::ByteRecord) -> Result<Places> {
        let place = |name: &str| {
            let at = header.iter().position(|cell| cell.trim_ascii() == name.as_bytes());
            at.ok_or_else(|| malformed(format!("the file has no column {name:?}")))
        };
        let optional = |name: &Option<String>| name.as_deref().map(place).transpose();
        let c = &self.columns;
        Ok(Places {
            reference: place(&c.reference)?,
            charge: optional(&c.charge)?,
            charge_reference: optional(&c.charge_reference)?,
            movement: optional(&c.movement)?,
            kind: optional(&c.kind)?,
            gross: place(&c.gross)?,
            fee: optional(&c.fee)?,
            net: optional(&c.net)?,
            currency: place(&c.currency)?,
            occurred_at: optional(&c.occurred_at)?,
            status: optional(&c.status)?,
        })
    }
}

pub(crate) fn malformed(detail: String) -> Error {
    Error::invalid("payments.file_malformed", detail.clone()).with_field("body", "malformed", detail)
}

/// Where a file's columns are.
pub(crate) struct Places {
    pub reference: usize,
    pub charge: Option<usize>,
    pub charge_reference: Option<usize>,
    pub movement: Option<usize>,
    pub kind: Option<usize>,
    pub gross: usize,
    pub fee: Option<usize>,
    pub net: Option<usize>,
    pub currency: usize,
    pub occurred_at: Option<usize>,
    pub status: Option<usize>,
}

/// 128 bits of a text: two texts of one file share them by no accident.
pub(crate) fn digest(text: &[u8]) -> u128 {
    let mut hasher = SipHasher13::new();
    hasher.write(text);
    hasher.finish128().as_u128()
}

/// What a row's group is known by: the provider's charge, or our reference where the file doesn't tell the charge.
pub(crate) fn group_of(places: &Places, record: &csv::ByteRecord) -> u128 {
    digest(record.get(places.charge.unwrap_or(places.reference)).unwrap_or_default().trim_ascii())
}

/// A row as it is compared. Errors: why it can't be read.
pub(crate) fn row(
    format: &Format,
    places: &Places,
    record: &csv::ByteRecord,
    group: u128,
    line: u32,
) -> std::result::Result<Theirs, String> {
    let cell = |at: usize| record.get(at).unwrap_or_default().trim_ascii();
    let currency_text = cell(places.currency);
    let currency = std::str::from_utf8(currency_text).ok().and_then(|text| text.to_ascii_uppercase().parse::<Currency>().ok());
    let currency = currency.ok_or_else(|| format!("{:?} is no currency", String::from_utf8_lossy(currency_text)))?;
    let amount = |at: usize, what: &str| {
        let text = cell(at);
        minor(text, format.amounts, currency).ok_or_else(|| format!("{what} {:?} is no amount", String::from_utf8_lossy(text)))
    };
    let signed = amount(places.gross, "gross")?;
    let direction = match places.kind {
        None if signed < 0 => Direction::Refund,
        None => Direction::Capture,
        Some(at) => {
            let word = cell(at);
            let is = |words: &[String]| words.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(word));
            match (is(&format.captures), is(&format.refunds)) {
                (true, _) => Direction::Capture,
                (_, true) => Direction::Refund,
                _ => return Err(format!("{:?} is neither a capture nor a refund", String::from_utf8_lossy(word))),
            }
        }
    };
    // What takes a capture back is none, whatever it is called.
    let direction = if signed < 0 { Direction::Refund } else { direction };
    let gross_minor = signed.abs();
    let fee_minor = places.fee.map(|at| amount(at, "fee")).transpose()?;
    let net_minor = places.net.map(|at| amount(at, "net")).transpose()?;
    let day = match places.occurred_at {
        Some(at) => Some(day_of(cell(at)).ok_or_else(|| format!("{:?} begins with no date", String::from_utf8_lossy(cell(at))))?),
        None => None,
    };
    let state = match places.status {
        Some(at) if !format.settled.iter().any(|word| word.as_bytes().eq_ignore_ascii_case(cell(at))) => RowState::Other,
        _ => RowState::Settled,
    };
    let reference = cell(places.reference);
    let movement = places.movement.map(cell).filter(|text| !text.is_empty());
    Ok(Theirs {
        group,
        reference: if reference.is_empty() { 0 } else { digest(reference) },
        movement: movement.map_or(0, digest),
        gross_minor,
        fee_minor,
        net_minor,
        day: day.map(|day| day as i32),
        line,
        direction,
        currency,
        state,
    })
}

/// An amount in minor units; none unless it is one.
fn minor(text: &[u8], amounts: Amounts, currency: Currency) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let (whole, fraction) = match digits.iter().position(|b| *b == b'.') {
        Some(at) if amounts == Amounts::Major => (&digits[..at], &digits[at + 1..]),
        Some(_) => return None,
        None => (digits, &[][..]),
    };
    let number = |text: &[u8]| -> Option<i64> {
        if text.is_empty() || text.len() > 15 {
            return None;
        }
        text.iter().try_fold(0_i64, |sum, b| b.is_ascii_digit().then(|| sum * 10 + i64::from(b - b'0')))
    };
    let mut value = number(whole)?;
    if amounts == Amounts::Major {
        let exponent = currency.minor_per_major().ilog10() as usize;
        // Digits beyond the minor unit must be zeros.
        let (kept, rest) = fraction.split_at(fraction.len().min(exponent));
        if rest.iter().any(|b| *b != b'0') || (digits.len() != whole.len() && fraction.is_empty()) {
            return None;
        }
        let scale = 10_i64.pow((exponent - kept.len()) as u32);
        let part = if kept.is_empty() { 0 } else { number(kept)? };
        value = value.checked_mul(currency.minor_per_major())?.checked_add(part * scale)?;
    }
    Some(if negative { -value } else { value }).filter(|value| value.abs() <= MAX_ROW_MINOR)
}

/// Days since 1970 of a text that begins with `2026-01-31`.
pub(crate) fn day_of(text: &[u8]) -> Option<i64> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, ..] = text else { return None };
    let number = |digits: &[u8]| digits.iter().try_fold(0_i64, |sum, b| b.is_ascii_digit().then(|| sum * 10 + i64::from(b - b'0')));
    let (year, month, day) = (number(&[*y1, *y2, *y3, *y4])?, number(&[*m1, *m2])?, number(&[*d1, *d2])?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if day < 1 || day > length {
        return None;
    }
    // Howard Hinnant's days-from-civil, on years that begin in March.
    let (y, m) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    Some(era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + (153 * m + 2) / 5 + day - 1 - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact() {
        let eur: Currency = "EUR".parse().expect("a currency");
        let (jpy, bhd): (Currency, Currency) = ("JPY".parse().expect("a currency"), "BHD".parse().expect("a currency"));
        let major = |text: &str, currency| minor(text.as_bytes(), Amounts::Major, currency);
        assert_eq!(major("12.34", eur), Some(1_234));
        assert_eq!(major("-0.05", eur), Some(-5));
        assert_eq!(major("12.3", eur), Some(1_230));
        assert_eq!(major("12.3400", eur), Some(1_234));
        assert_eq!(major("12.345", eur), None);
        assert_eq!(major("12.", eur), None);
        assert_eq!(major(".5", eur), None);
        assert_eq!(major("12", jpy), Some(12));
        assert_eq!(major("1.234", bhd), Some(1_234));
        assert_eq!(minor(b"1234", Amounts::Minor, eur), Some(1_234));
        assert_eq!(minor(b"12.34", Amounts::Minor, eur), None);
        assert_eq!(minor(b"1e3", Amounts::Minor, eur), None);
        assert_eq!(minor(b"", Amounts::Minor, eur), None);
        assert_eq!(minor(b"9999999999999999", Amounts::Minor, eur), None);
        assert_eq!(minor(b"1000000000000000.00", Amounts::Major, eur), None);
        assert_eq!((major("10000000000000", eur), major("-10000000000000.01", eur)), (Some(MAX_ROW_MINOR), None));
    }

    #[test]
    fn a_sign_counts_beside_a_word() {
        let format = Format::sandbox();
        let header = csv::ByteRecord::from(vec![
            "type",
            "charge_id",
            "charge_reference",
            "movement_id",
            "reference",
            "gross_minor",
            "fee_minor",
            "net_minor",
            "currency",
            "occurred_at",
        ]);
        let places = format.places(&header).expect("places");
        let read = |kind: &str, gross: &str| {
            let record = csv::ByteRecord::from(vec![kind, "ch_1", "", "mv_1", "r1", gross, "0", gross, "EUR", "2026-01-05"]);
            let row = row(&format, &places, &record, 1, 1).expect("a row");
            (row.direction, row.gross_minor)
        };
        assert_eq!(read("payment", "500"), (Direction::Capture, 500));
        assert_eq!(read("payment", "-500"), (Direction::Refund, 500));
        assert_eq!(read("refund", "-500"), (Direction::Refund, 500));
        assert_eq!(read("refund", "500"), (Direction::Refund, 500));
    }

    #[test]
    fn rules_are_bounded() {
        let check = |rules: Vec<Rule>| Format { rules, ..Format::sandbox() }.check().is_ok();
        let rule = |kind, action| vec![Rule { kind, up_to_minor: 0, action }];
        assert!(check(rule(BreakKind::Fee, RuleAction::Post)) && check(rule(BreakKind::Status, RuleAction::Accept)));
        assert!(!check(rule(BreakKind::Status, RuleAction::Post)), "there is nothing to post");
        assert!(!check(rule(BreakKind::Unreadable, RuleAction::Accept)), "nobody knows how much it is");
        assert!(!check(vec![Rule { up_to_minor: MAX_RULE_MINOR + 1, kind: BreakKind::Fee, action: RuleAction::Post }]));
    }

    #[test]
    fn days_are_counted() {
        assert_eq!(day_of(b"1970-01-01"), Some(0));
        assert_eq!(day_of(b"2026-01-05T12:00:00Z"), Some(20_458));
        assert_eq!(day_of(b"2024-02-29"), Some(19_782));
        assert_eq!(day_of(b"2025-02-29"), None);
        assert_eq!(day_of(b"05.01.2026"), None);
    }
}
