//! A percentage as an exact decimal.

use kernel::{Error, Result};
use serde::de::{Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// A percentage from 0 to 100 with at most four decimals, held in millionths of the whole. On the wire a number, or a text with one;
/// amounts are computed from the millionths alone.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(u32);

impl Percent {
    /// Nothing.
    pub const ZERO: Percent = Percent(0);

    /// From millionths: 190,000 are 19 %. Errors: `request.invalid` above a million.
    pub fn from_millionths(millionths: u32) -> Result<Percent> {
        if millionths > 1_000_000 {
            return Err(Error::field("percent", "out_of_range", "between 0 and 100"));
        }
        Ok(Percent(millionths))
    }

    /// Millionths of the whole.
    pub const fn millionths(self) -> i64 {
        self.0 as i64
    }
}

impl FromStr for Percent {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        const WRONG: &str = "a percentage from 0 to 100 with at most four decimals, such as 19 or 5.5";
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) || whole.len() > 3 || fraction.len() > 4 {
            return Err(WRONG);
        }
        let whole: u32 = whole.parse().map_err(|_| WRONG)?;
        let fraction: u32 = format!("{fraction:0<4}").parse().map_err(|_| WRONG)?;
        let millionths = whole * 10_000 + fraction;
        if millionths > 1_000_000 { Err(WRONG) } else { Ok(Percent(millionths)) }
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / 10_000, self.0 % 10_000);
        if fraction == 0 {
            return write!(f, "{whole}");
        }
        let fraction = format!("{fraction:04}");
        write!(f, "{whole}.{}", fraction.trim_end_matches('0'))
    }
}

impl fmt::Debug for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} %")
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(10_000) {
            return serializer.serialize_u32(self.0 / 10_000);
        }
        // The nearest binary number is shown with the same few decimals.
        serializer.serialize_f64(f64::from(self.0) / 10_000.0)
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Decimal;
        impl Visitor<'_> for Decimal {
            type Value = Percent;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a percentage from 0 to 100 with at most four decimals")
            }
            fn visit_u64<E: serde::de::Error>(self, value: u64) -> std::result::Result<Percent, E> {
                value.to_string().parse().map_err(E::custom)
            }
            fn visit_i64<E: serde::de::Error>(self, value: i64) -> std::result::Result<Percent, E> {
                value.to_string().parse().map_err(E::custom)
            }
            // A number's shortest text is what was written.
            fn visit_f64<E: serde::de::Error>(self, value: f64) -> std::result::Result<Percent, E> {
                value.to_string().parse().map_err(E::custom)
            }
            fn visit_str<E: serde::de::Error>(self, value: &str) -> std::result::Result<Percent, E> {
                value.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Decimal)
    }
}

impl utoipa::PartialSchema for Percent {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::Number)
            .minimum(Some(0.0))
            .maximum(Some(100.0))
            .description(Some("percent, at most four decimals; a text such as \"5.5\" is taken, too"))
            .into()
    }
}

impl utoipa::ToSchema for Percent {}
