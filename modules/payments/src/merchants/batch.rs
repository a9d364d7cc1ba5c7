//! What a merchant gets: pure arithmetic in minor units.

use crate::card;
use kernel::{Error, Result};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Millionths in a whole.
const WHOLE: i64 = 1_000_000;

/// The terms under which a merchant is settled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = MerchantTerms)]
pub struct Terms {
    /// For the payout file.
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
    /// Where payouts go, such as an IBAN.
    #[schema(min_length = 1, max_length = 64)]
    pub account: String,
    /// What the platform keeps of each capture, in millionths of its amount.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1_000_000)]
    pub fee_micros: i64,
    /// What the platform keeps of each capture besides, in minor units.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1_000_000)]
    pub fee_fixed_minor: i64,
    /// Whether the merchant bears what the payment provider keeps.
    #[serde(default)]
    pub bears_provider_fee: bool,
    /// What is held back of each capture, in millionths of its amount.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1_000_000)]
    pub reserve_micros: i64,
    /// For how many days.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 730)]
    pub reserve_days: i64,
    /// Less than this is not paid out, in minor units.
    #[serde(default = "one")]
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    pub payout_from_minor: i64,
}

fn one() -> i64 {
    1
}

impl Terms {
    /// Errors: `request.invalid` naming what is out of bounds.
    pub fn check(&self) -> Result<()> {
        let text = |field: &str, value: &str, most: usize| match (1..=most).contains(&value.len()) && !value.chars().any(char::is_control) {
            true => Ok(()),
            false => Err(Error::field(field, "out_of_range", format!("1 to {most} bytes without control characters"))),
        };
        text("name", &self.name, 100)?;
        text("account", &self.account, 64)?;
        // Digits of a bank account may look like a card's: what proves to be an IBAN is one.
        let suspect = [("name", &self.name, false), ("account", &self.account, is_iban(&self.account))];
        if let Some((field, ..)) = suspect.iter().find(|(_, value, proven)| !proven && card::has_card_number(value.as_bytes())) {
            return Err(card::refused(field));
        }
        let bounds = [
            ("fee_micros", self.fee_micros, 0, WHOLE),
            ("fee_fixed_minor", self.fee_fixed_minor, 0, 1_000_000),
            ("reserve_micros", self.reserve_micros, 0, WHOLE),
            ("reserve_days", self.reserve_days, 0, 730),
            ("payout_from_minor", self.payout_from_minor, 1, 1_000_000_000),
        ];
        for (field, value, least, most) in bounds {
            if !(least..=most).contains(&value) {
                return Err(Error::field(field, "out_of_range", format!("{least} to {most}")));
            }
        }
        Ok(())
    }
}

/// Whether the text is an IBAN with its check digits, spaces aside (ISO 13616).
fn is_iban(text: &str) -> bool {
    let bytes: Vec<u8> = text.bytes().filter(|b| *b != b' ').map(|b| b.to_ascii_uppercase()).collect();
    if !(15..=34).contains(&bytes.len()) || !bytes[..2].iter().all(u8::is_ascii_uppercase) || !bytes.iter().all(u8::is_ascii_alphanumeric) {
        return false;
    }
    let rest = bytes[4..].iter().chain(&bytes[..4]).fold(0_u32, |rest, b| match b {
        b'0'..=b'9' => (rest * 10 + u32::from(b - b'0')) % 97,
        _ => (rest * 100 + u32::from(b - b'A') + 10) % 97,
    });
    rest == 1
}

/// What a batch has of a merchant, in minor units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Taken for the merchant.
    pub captured_minor: i64,
    /// Given back.
    pub refunded_minor: i64,
    /// What providers kept, if the merchant bears it.
    pub provider_fee_minor: i64,
    /// What the platform keeps.
    pub platform_fee_minor: i64,
    /// What is held back.
    pub reserved_minor: i64,
}

fn share(amount_minor: i64, micros: i64) -> i64 {
    let exact = i128::from(amount_minor) * i128::from(micros);
    i64::try_from((exact + i128::from(WHOLE / 2)) / i128::from(WHOLE)).unwrap_or(i64::MAX)
}

impl Totals {
    /// Adds a capture. Fee and reserve together are never more than it is.
    pub fn capture(&mut self, terms: &Terms, amount_minor: i64, provider_fee_minor: i64) {
        let provider = if terms.bears_provider_fee { provider_fee_minor.clamp(0, amount_minor) } else { 0 };
        let platform = share(amount_minor, terms.fee_micros).saturating_add(terms.fee_fixed_minor).min(amount_minor - provider);
        let reserved = share(amount_minor, terms.reserve_micros).min(amount_minor - provider - platform);
        self.captured_minor += amount_minor;
        self.provider_fee_minor += provider;
        self.platform_fee_minor += platform;
        self.reserved_minor += reserved;
    }

    /// Adds a refund: all of it is the merchant's; fees are not given back.
    pub fn refund(&mut self, amount_minor: i64) {
        self.refunded_minor += amount_minor;
    }

    /// Adds what a provider turned out to keep besides; below zero it gives back.
    pub fn fee(&mut self, terms: &Terms, minor: i64) {
        if terms.bears_provider_fee {
            self.provider_fee_minor += minor;
        }
    }

    /// What comes to the merchant's balance; below zero it goes.
    pub fn net_minor(&self) -> i64 {
        self.captured_minor - self.refunded_minor - self.provider_fee_minor - self.platform_fee_minor - self.reserved_minor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms() -> Terms {
        Terms {
            name: "Potter".to_owned(),
            account: "DE02120300000000202051".to_owned(),
            fee_micros: 20_000,
            fee_fixed_minor: 10,
            bears_provider_fee: true,
            reserve_micros: 100_000,
            reserve_days: 30,
            payout_from_minor: 1,
        }
    }

    #[test]
    fn a_card_is_no_account() {
        let account = |account: &str| Terms { account: account.to_owned(), ..terms() }.check().map_err(|error| error.code());
        assert_eq!(account("DE02 1203 0000 0000 2020 51"), Ok(()));
        assert_eq!(account("4242 4242 4242 4242"), Err("payments.card_number"));
        assert_eq!(account("DE02 4242 4242 4242 4242"), Err("payments.card_number"), "its check digits are wrong");
        assert!(Terms { name: "4242424242424242".to_owned(), ..terms() }.check().is_err());
        // An IBAN whose digits satisfy the check of cards.
        let alike = (2..=98).map(|check| format!("AT{check:02} 4242 4242 4242 4242")).find(|text| is_iban(text)).expect("one of them is");
        assert!(card::has_card_number(alike.as_bytes()));
        assert_eq!(account(&alike), Ok(()));
    }

    #[test]
    fn nothing_is_lost_and_nothing_made() {
        let mut totals = Totals::default();
        totals.capture(&terms(), 10_000, 165);
        assert_eq!((totals.platform_fee_minor, totals.provider_fee_minor, totals.reserved_minor), (210, 165, 1_000));
        assert_eq!(totals.net_minor(), 8_625);
        totals.refund(10_000);
        assert_eq!(totals.net_minor(), -1_375);
    }

    #[test]
    fn a_small_capture_bears_no_more_than_it_is() {
        for amount in 1..200 {
            let mut totals = Totals::default();
            totals.capture(&terms(), amount, 26);
            assert!(totals.net_minor() >= 0, "{amount}: {totals:?}");
        }
    }
}
