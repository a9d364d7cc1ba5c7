//! Wallets, transfers and what surrounds them: types and the rules that need nothing else.

use crate::error;
use crate::score::Reason;
use kernel::{Currency, Entity, Error, Faults, Id, Result, Timestamp};
use ledger::{AccountId, Balance, TransactionId};
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use std::fmt;
use store::{FromRow, FromValue, Row, ToValue, Value, ValueRef};
use utoipa::ToSchema;

/// The largest amount, in minor units.
pub const MAX_AMOUNT_MINOR: i64 = 1_000_000_000_000;
/// The most currencies of a wallet.
pub const MAX_CURRENCIES: usize = 10;
/// A note has at most so many bytes.
pub const MAX_NOTE: usize = 140;

macro_rules! entity {
    ($(#[$doc:meta])* $entity:ident $id:ident $prefix:literal) => {
        /// Marks ids.
        pub enum $entity {}

        impl Entity for $entity {
            const PREFIX: &'static str = $prefix;
        }

        $(#[$doc])*
        pub type $id = Id<$entity>;
    };
}

entity! {
    /// The id of a wallet (`wal_...`).
    WalletEntity WalletId "wal"
}
entity! {
    /// The id of a transfer (`trf_...`), also of a top-up or a withdrawal.
    TransferEntity TransferId "trf"
}
entity! {
    /// The id of a request for money (`wrq_...`).
    RequestEntity RequestId "wrq"
}
entity! {
    /// The id of a pay code (`pcd_...`).
    CodeEntity CodeId "pcd"
}
entity! {
    /// The id of a schedule (`wsc_...`).
    ScheduleEntity ScheduleId "wsc"
}
entity! {
    /// The id of a user, as the identity module has it (`usr_...`).
    UserEntity UserId "usr"
}

/// One-time codes of a payer's wallet on a day: guesses have an end, and so has what is sent to the payer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Codes {
    /// The UTC day, since 1970.
    pub day: i64,
    /// How many transfers were challenged.
    pub asked: i64,
    /// How many codes were wrong.
    pub wrong: i64,
}

impl Codes {
    /// The most transfers of a wallet that are challenged in a day.
    pub(crate) const MAX_ASKED: i64 = 100;
    /// The most wrong codes for a wallet's transfers in a day. After that none is looked at, however many transfers wait for one.
    pub(crate) const MAX_WRONG: i64 = 10;

    /// Those of this day.
    pub(crate) fn on(self, day: i64) -> Codes {
        if self.day == day { self } else { Codes { day, ..Codes::default() } }
    }
}

impl FromRow for Codes {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(Codes { day: row.get(0)?, asked: row.get(1)?, wrong: row.get(2)? })
    }
}

/// The world outside, where a transfer has no wallet on one side.
pub const OUTSIDE: WalletId = WalletId::from_i64(0);

/// Gives an enum its words: as JSON, in the store, and back.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
        $(#[$meta])*
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $($(#[$doc])* $variant,)+
        }

        impl $name {
            /// Every one of them, in order.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];

            /// Its word, as it is stored and goes over the wire.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)+
                }
            }
        }

        impl ToValue for $name {
            fn to_value(&self) -> Value<'_> {
                Value::Text(self.as_str().into())
            }
        }

        impl FromValue for $name {
            fn from_value(value: ValueRef<'_>) -> Result<Self> {
                let ValueRef::Text(word) = value else { return Err(Error::internal("a column holds no word")) };
                let known = $name::ALL.iter().find(|known| known.as_str() == word);
                known.copied().ok_or_else(|| Error::internal(concat!("a column holds no ", stringify!($name))))
            }
        }
    };
}
pub(crate) use words;

words! {
    /// Whose a wallet is.
    #[schema(as = WalletKind)]
    WalletKind {
        /// A person's.
        User = "user",
        /// A merchant's: it is paid, and charged a fee.
        Merchant = "merchant",
        /// The tenant's own: without limits and without a score.
        System = "system",
    }
}

words! {
    /// What may be done with a wallet.
    #[schema(as = WalletStatus)]
    WalletStatus {
        /// Everything.
        Open = "open",
        /// Money may come; nothing leaves.
        Frozen = "frozen",
        /// Nothing, for ever. It is empty.
        Closed = "closed",
    }
}

words! {
    /// What a transfer is for.
    #[schema(as = WalletTransferKind)]
    TransferKind {
        /// From one wallet to another.
        Transfer = "transfer",
        /// To a merchant, who is charged a fee of it.
        Payment = "payment",
        /// From a card, through payments.
        TopUp = "top_up",
        /// A bank transfer that has come in.
        Deposit = "deposit",
        /// To a bank account.
        Withdrawal = "withdrawal",
        /// What payments gave back of a top-up.
        Return = "return",
    }
}

words! {
    /// Where a transfer stands.
    #[schema(as = WalletTransferStatus)]
    TransferStatus {
        /// The money has moved.
        Completed = "completed",
        /// The payer has to confirm it with a code.
        Challenged = "challenged",
        /// The money is held until a person has decided.
        InReview = "in_review",
        /// It is under way outside: a card is asked, or a bank.
        Pending = "pending",
        /// The score was too high. Nothing moved. Final.
        Denied = "denied",
        /// A person, a card or a bank refused it. Nothing moved, or all is back. Final.
        Rejected = "rejected",
        /// Nobody confirmed or decided in time. Nothing moved. Final.
        Expired = "expired",
    }
}

words! {
    /// What a pending transfer waits for.
    WaitsFor {
        /// A one-time code.
        Challenge = "challenge",
        /// A person.
        Review = "review",
    }
}

words! {
    /// Where a request for money stands.
    #[schema(as = MoneyRequestStatus)]
    RequestStatus {
        /// It waits.
        Open = "open",
        /// It was accepted; its transfer says whether the money has moved.
        Accepted = "accepted",
        /// The payer refused. Final.
        Declined = "declined",
        /// The asker took it back. Final.
        Cancelled = "cancelled",
        /// Nobody answered in time. Final.
        Expired = "expired",
    }
}

words! {
    /// Where a pay code stands.
    #[schema(as = PayCodeStatus)]
    CodeStatus {
        /// It can be paid.
        Open = "open",
        /// It was used; its transfer says whether the money has moved. Final.
        Used = "used",
        /// The merchant took it back. Final.
        Cancelled = "cancelled",
        /// Its time is over. Final.
        Expired = "expired",
    }
}

words! {
    /// How often a scheduled transfer comes back.
    #[schema(as = ScheduleEvery)]
    Every {
        /// Not at all.
        Once = "once",
        /// Each day at the same time (UTC).
        Day = "day",
        /// Each week on the same weekday.
        Week = "week",
        /// Each month on the same day, or on the last one of a shorter month.
        Month = "month",
    }
}

words! {
    /// Where a schedule stands.
    #[schema(as = WalletScheduleStatus)]
    ScheduleStatus {
        /// It will run.
        Active = "active",
        /// It has run for the last time. Final.
        Ended = "ended",
        /// Somebody called it off. Final.
        Cancelled = "cancelled",
        /// It was refused three times in a row. Final.
        Failed = "failed",
    }
}

/// An amount as it was written: what is no whole number of minor units is refused by a guard of its own, not as a wrong type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Amount {
    Whole(i64),
    Fractional,
    TooLarge,
}

impl Amount {
    /// Between one minor unit and [`MAX_AMOUNT_MINOR`]. Errors: a code for each way to be wrong.
    pub(crate) fn minor(self) -> Result<i64> {
        match self {
            Amount::Whole(..0) => Err(error::amount_negative()),
            Amount::Whole(0) => Err(error::amount_zero()),
            Amount::Whole(minor @ 1..=MAX_AMOUNT_MINOR) => Ok(minor),
            Amount::Whole(_) | Amount::TooLarge => Err(error::amount_too_large()),
            Amount::Fractional => Err(error::amount_fractional()),
        }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Digits;
        impl Visitor<'_> for Digits {
            type Value = Amount;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number of minor units")
            }

            fn visit_i64<E>(self, minor: i64) -> std::result::Result<Amount, E> {
                Ok(Amount::Whole(minor))
            }

            fn visit_u64<E>(self, minor: u64) -> std::result::Result<Amount, E> {
                Ok(i64::try_from(minor).map_or(Amount::TooLarge, Amount::Whole))
            }

            /// Only told apart, never counted with.
            fn visit_f64<E>(self, number: f64) -> std::result::Result<Amount, E> {
                Ok(if number.abs() >= MAX_AMOUNT_MINOR as f64 { Amount::TooLarge } else { Amount::Fractional })
            }
        }
        deserializer.deserialize_any(Digits)
    }
}

/// A wallet as it was set up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Wallet {
    /// Its id.
    pub wallet_id: WalletId,
    /// Whose it is.
    pub kind: WalletKind,
    /// What may be done with it.
    pub status: WalletStatus,
    /// The KYC level, as the policy knows it.
    pub level: i64,
    /// The user who may use it as its own.
    pub user_id: Option<UserId>,
    /// What the tenant calls its owner.
    pub owner: Option<String>,
    /// For people.
    pub name: String,
    /// Of a merchant: its fee in hundredths of a percent; the policy's when it is null.
    pub fee_bps: Option<i64>,
    /// From 1, one more with each change.
    pub version: i64,
    /// When it was opened.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl FromRow for Wallet {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(Wallet {
            wallet_id: row.get(0)?,
            kind: row.get(1)?,
            status: row.get(2)?,
            level: row.get(3)?,
            user_id: row.get(4)?,
            owner: row.get(5)?,
            name: row.get(6)?,
            fee_bps: row.get(7)?,
            version: row.get(8)?,
            created_at: row.get(9)?,
            updated_at: row.get(10)?,
        })
    }
}

/// A wallet in one currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pocket {
    /// The currency.
    pub currency: Currency,
    /// The account in the ledger.
    pub account_id: AccountId,
    /// What is in it.
    pub balance: Balance,
    /// What has left it today (UTC), holds included, in minor units.
    pub used_today_minor: i64,
    /// What has left it in this calendar month, holds included.
    pub used_this_month_minor: i64,
}

/// A wallet with what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WalletDetail {
    /// The wallet.
    #[serde(flatten)]
    pub wallet: Wallet,
    /// By currency.
    pub pockets: Vec<Pocket>,
}

/// A transfer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = WalletTransfer)]
pub struct Transfer {
    /// Its id.
    pub transfer_id: TransferId,
    /// What it is for.
    pub kind: TransferKind,
    /// Where it stands.
    pub status: TransferStatus,
    /// Who pays; null from outside.
    pub from_wallet_id: Option<WalletId>,
    /// Who is paid; null to outside.
    pub to_wallet_id: Option<WalletId>,
    /// The currency.
    pub currency: Currency,
    /// In minor units.
    pub amount_minor: i64,
    /// What the receiver is charged of it.
    pub fee_minor: i64,
    /// The ledger's transaction that moved it or set it aside.
    pub transaction_id: Option<TransactionId>,
    /// How much it looks like fraud: 0 to 1,000 points. The payee sees 0.
    pub score: i64,
    /// Which version of the policy said so; 0 for the one that is built in.
    pub policy_version: i64,
    /// What the points are for, the heaviest first. The payee sees none.
    pub reasons: Vec<Reason>,
    /// For people.
    pub note: String,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it came to its end.
    pub ended_at: Option<Timestamp>,
    /// When it was counted against the payer's limits; null when it was not, or no more.
    pub counted_at: Option<Timestamp>,
}

fn wallet_of(row: &dyn Row, at: usize) -> Result<Option<WalletId>> {
    Ok(Some(row.get::<WalletId>(at)?).filter(|id| *id != OUTSIDE))
}

impl FromRow for Transfer {
    fn from_row(row: &dyn Row) -> Result<Self> {
        let reasons: String = row.get(11)?;
        Ok(Transfer {
            transfer_id: row.get(0)?,
            kind: row.get(1)?,
            status: row.get(2)?,
            from_wallet_id: wallet_of(row, 3)?,
            to_wallet_id: wallet_of(row, 4)?,
            currency: row.get(5)?,
            amount_minor: row.get(6)?,
            fee_minor: row.get(7)?,
            transaction_id: row.get(8)?,
            score: row.get(9)?,
            policy_version: row.get(10)?,
            reasons: match reasons.as_str() {
                "[]" => Vec::new(),
                text => serde_json::from_str(text).map_err(|e| Error::internal("a transfer's reasons can't be read").caused_by(e))?,
            },
            note: row.get(12)?,
            created_at: row.get(13)?,
            ended_at: row.get(14)?,
            counted_at: Some(row.get::<Timestamp>(15)?).filter(|at| at.micros() > 0),
        })
    }
}

/// What has left a wallet in a currency, in the UTC day and month of the last outflow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Days since 1970.
    pub day: i64,
    /// In that day.
    pub day_minor: i64,
    /// In its month.
    pub month_minor: i64,
}

/// The year and month of a day since 1970 (Howard Hinnant's civil-from-days), and the day in it.
pub(crate) fn civil(day: i64) -> (i64, i64, i64) {
    let z = day + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

/// The day since 1970 of a date.
fn day_of(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let mp = (month + 9) % 12;
    let doy = (153 * mp + 2) / 5 + day - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

impl Used {
    /// As it counts on a day: another day or month begins at nothing.
    #[must_use]
    pub fn on(self, day: i64) -> Used {
        if day <= self.day {
            return self;
        }
        let same_month = civil(day).0 == civil(self.day).0 && civil(day).1 == civil(self.day).1;
        Used { day, day_minor: 0, month_minor: if same_month { self.month_minor } else { 0 } }
    }

    /// After so much has left.
    #[must_use]
    pub fn plus(self, minor: i64) -> Used {
        Used { day: self.day, day_minor: self.day_minor.saturating_add(minor), month_minor: self.month_minor.saturating_add(minor) }
    }

    /// After what had left on `day` came back: it counts no more, if its day or month is still the one that is counted.
    #[must_use]
    pub fn less(self, day: i64, minor: i64) -> Used {
        let month = |day: i64| (civil(day).0, civil(day).1);
        let back = |counted: i64, same: bool| if same { (counted - minor).max(0) } else { counted };
        Used {
            day: self.day,
            day_minor: back(self.day_minor, day == self.day),
            month_minor: back(self.month_minor, month(day) == month(self.day)),
        }
    }
}

/// The date of the `n`th run (from 0) of a schedule that began at `first`.
pub fn date_of(first: Timestamp, every: Every, n: i64) -> Timestamp {
    const DAY_MS: i64 = 86_400_000;
    match every {
        Every::Once => first,
        Every::Day => first.plus_ms(n.saturating_mul(DAY_MS)),
        Every::Week => first.plus_ms(n.saturating_mul(7 * DAY_MS)),
        Every::Month => {
            let (year, month, day) = civil(first.day());
            let months = month - 1 + n;
            let (year, month) = (year + months.div_euclid(12), months.rem_euclid(12) + 1);
            let next = if month == 12 { day_of(year + 1, 1, 1) } else { day_of(year, month + 1, 1) };
            let last = next - day_of(year, month, 1);
            let days = day_of(year, month, day.min(last)) - first.day();
            first.plus_ms(days.saturating_mul(DAY_MS))
        }
    }
}

/// Between `least` and `most` bytes without control characters. Errors: `request.invalid`.
pub(crate) fn check_text(field: &str, text: &str, least: usize, most: usize) -> Result<()> {
    let mut faults = Faults::default();
    faults.text(field, text, least, most);
    faults.finish()
}

/// Two capital letters as bytes. Errors: `request.invalid`.
pub(crate) fn country(field: &str, text: Option<&str>) -> Result<[u8; 2]> {
    match text.map(str::as_bytes) {
        None => Ok([0, 0]),
        Some([a, b]) if a.is_ascii_uppercase() && b.is_ascii_uppercase() => Ok([*a, *b]),
        Some(_) => Err(Error::field(field, "invalid", "a country is two capital letters, such as DE")),
    }
}
