//! Money in minor units with a currency (ISO 4217), in checked integers; unit prices in millionths of the major unit.

use crate::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// An ISO 4217 currency that is in use.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

/// Currencies in use whose minor unit is not a hundredth (ISO 4217 list one).
const EXPONENTS: &[(&[u8; 3], u32)] = &[
    (b"BHD", 3),
    (b"BIF", 0),
    (b"CLF", 4),
    (b"CLP", 0),
    (b"DJF", 0),
    (b"GNF", 0),
    (b"IQD", 3),
    (b"ISK", 0),
    (b"JOD", 3),
    (b"JPY", 0),
    (b"KMF", 0),
    (b"KRW", 0),
    (b"KWD", 3),
    (b"LYD", 3),
    (b"OMR", 3),
    (b"PYG", 0),
    (b"RWF", 0),
    (b"TND", 3),
    (b"UGX", 0),
    (b"UYI", 0),
    (b"UYW", 4),
    (b"VND", 0),
    (b"VUV", 0),
    (b"XAF", 0),
    (b"XOF", 0),
    (b"XPF", 0),
];

/// Every active code of ISO 4217 list one that moves money (no metals, no test codes), sorted.
const CODES: &str = "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CLF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYI UYU UYW UZS VED VES VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG";

impl Currency {
    /// The three letters.
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a currency code is ASCII")
    }

    /// How many decimal digits the minor unit has.
    pub fn exponent(self) -> u32 {
        EXPONENTS.iter().find(|(code, _)| **code == self.0).map_or(2, |(_, exponent)| *exponent)
    }

    /// How many minor units make a major one.
    pub fn minor_per_major(self) -> i64 {
        10_i64.pow(self.exponent())
    }
}

impl FromStr for Currency {
    type Err = Error;
    /// Errors: `money.unknown_currency`.
    fn from_str(code: &str) -> Result<Self> {
        let known = code.len() == 3 && code.bytes().all(|b| b.is_ascii_uppercase()) && CODES.split(' ').any(|c| c == code);
        match code.as_bytes() {
            [a, b, c] if known => Ok(Currency([*a, *b, *c])),
            _ => Err(Error::invalid("money.unknown_currency", "not an active ISO 4217 currency code such as EUR")),
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl serde::Serialize for Currency {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> serde::Deserialize<'de> for Currency {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(|e: Error| serde::de::Error::custom(e.detail()))
    }
}

impl utoipa::PartialSchema for Currency {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .enum_values(Some(CODES.split(' ')))
            .description(Some("ISO 4217 code"))
            .into()
    }
}

impl utoipa::ToSchema for Currency {}

/// An amount in minor units of its currency. Arithmetic is checked; two currencies never mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Money {
    /// Minor units: cents, pence, yen.
    #[serde(rename = "amount_minor")]
    pub minor: i64,
    /// Its currency.
    pub currency: Currency,
}

fn overflow() -> Error {
    Error::invalid("money.overflow", "the amount is larger than can be represented")
}

impl Money {
    /// `minor` units of `currency`.
    pub const fn new(minor: i64, currency: Currency) -> Self {
        Money { minor, currency }
    }

    /// Nothing, in `currency`.
    pub const fn zero(currency: Currency) -> Self {
        Money { minor: 0, currency }
    }

    fn same(self, other: Money) -> Result<()> {
        if self.currency == other.currency {
            return Ok(());
        }
        Err(Error::invalid("money.currency_mismatch", format!("{} and {} cannot be combined", self.currency, other.currency)))
    }

    /// Sum. Errors: `money.overflow`, `money.currency_mismatch`.
    pub fn plus(self, other: Money) -> Result<Money> {
        self.same(other)?;
        Ok(Money { minor: self.minor.checked_add(other.minor).ok_or_else(overflow)?, currency: self.currency })
    }

    /// Difference. Errors: `money.overflow`, `money.currency_mismatch`.
    pub fn minus(self, other: Money) -> Result<Money> {
        self.same(other)?;
        Ok(Money { minor: self.minor.checked_sub(other.minor).ok_or_else(overflow)?, currency: self.currency })
    }

    /// Splits by `weights` so that the parts add up to the whole: the remainder goes, one minor unit each, to the largest
    /// fractions, the first of equals first (largest-remainder method).
    /// Errors: `money.no_weights` when the weights are empty or add up to zero.
    pub fn allocate(self, weights: &[u32]) -> Result<Vec<Money>> {
        let total: i128 = weights.iter().map(|w| i128::from(*w)).sum();
        if total == 0 {
            return Err(Error::invalid("money.no_weights", "an amount can only be split by weights that add up to more than zero"));
        }
        let sign = i128::from(self.minor.signum());
        let whole = i128::from(self.minor).abs();
        let mut parts: Vec<(i128, i128, usize)> =
            weights.iter().enumerate().map(|(i, w)| (whole * i128::from(*w) / total, whole * i128::from(*w) % total, i)).collect();
        let mut left = whole - parts.iter().map(|p| p.0).sum::<i128>();
        parts.sort_by(|a, b| b.1.cmp(&a.1).then(a.2.cmp(&b.2)));
        for part in &mut parts {
            if left == 0 {
                break;
            }
            part.0 += 1;
            left -= 1;
        }
        parts.sort_by_key(|p| p.2);
        Ok(parts.into_iter().map(|(part, _, _)| Money { minor: (part * sign) as i64, currency: self.currency }).collect())
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", Decimal(self.minor, self.currency.exponent()), self.currency)
    }
}

/// A scaled integer as decimal text.
struct Decimal(i64, u32);

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, value) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        if self.1 == 0 {
            return write!(f, "{sign}{value}");
        }
        let scale = 10_u64.pow(self.1);
        write!(f, "{sign}{}.{:0width$}", value / scale, value % scale, width = self.1 as usize)
    }
}

/// A price of one unit, in millionths of the currency's major unit: real price lists have more digits than the currency.
/// On the wire a decimal string such as `"0.125"`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnitPrice(i64);

impl UnitPrice {
    const SCALE: i64 = 1_000_000;

    /// From millionths of the major unit.
    pub const fn from_micros(micros: i64) -> Self {
        UnitPrice(micros)
    }

    /// Millionths of the major unit.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// `quantity` times this price, exactly, in millionths of the major unit. Errors: `money.overflow`.
    pub fn extended_micros(self, quantity: i64) -> Result<i64> {
        self.0.checked_mul(quantity).ok_or_else(overflow)
    }

    /// `quantity` times this price in minor units, a half rounded away from zero. Errors: `money.overflow`.
    pub fn extended(self, quantity: i64, currency: Currency) -> Result<Money> {
        let scale = i128::from(Self::SCALE);
        let exact = i128::from(self.0) * i128::from(quantity);
        let exact = exact.checked_mul(i128::from(currency.minor_per_major())).ok_or_else(overflow)?;
        let rounded = (exact.abs() + scale / 2) / scale * exact.signum();
        Ok(Money { minor: i64::try_from(rounded).map_err(|_| overflow())?, currency })
    }
}

impl FromStr for UnitPrice {
    type Err = Error;
    /// A decimal number with at most six decimals. Errors: `money.invalid_price`, `money.overflow`.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::invalid("money.invalid_price", "not a decimal number with at most six decimals such as 12.5");
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let all_digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        if !all_digits(whole) || !all_digits(fraction) || fraction.len() > 6 {
            return Err(wrong());
        }
        let whole: i64 = whole.parse().map_err(|_| overflow())?;
        let fraction: i64 = format!("{fraction:0<6}").parse().map_err(|_| wrong())?;
        let micros = i128::from(whole) * i128::from(Self::SCALE) + i128::from(fraction);
        i64::try_from(if negative { -micros } else { micros }).map(UnitPrice).map_err(|_| overflow())
    }
}

impl fmt::Display for UnitPrice {
    /// Without trailing zeros beyond what is needed: `12.5`, `3`, `0.001`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, value) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        let (whole, mut fraction, mut width) = (value / Self::SCALE.unsigned_abs(), value % Self::SCALE.unsigned_abs(), 6);
        if fraction == 0 {
            return write!(f, "{sign}{whole}");
        }
        while fraction % 10 == 0 {
            (fraction, width) = (fraction / 10, width - 1);
        }
        write!(f, "{sign}{whole}.{fraction:0width$}")
    }
}

impl fmt::Debug for UnitPrice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for UnitPrice {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for UnitPrice {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(|e: Error| serde::de::Error::custom(e.detail()))
    }
}

impl utoipa::PartialSchema for UnitPrice {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .pattern(Some(r"^-?[0-9]{1,12}(\.[0-9]{1,6})?$"))
            .description(Some("decimal amount of the currency's major unit, at most six decimals"))
            .into()
    }
}

impl utoipa::ToSchema for UnitPrice {}
