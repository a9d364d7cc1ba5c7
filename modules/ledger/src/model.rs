//! Accounts, what may be asked of the ledger, and what it answers: types without behaviour beyond their own rules.

use kernel::{Currency, Entity, Error, Id, Result, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use store::{FromRow, FromValue, Row, ToValue, Value, ValueRef};
use utoipa::ToSchema;

/// The largest amount of a posting, in minor units. Sums are checked besides, so that they can't leave 64 bits.
pub const MAX_AMOUNT_MINOR: i64 = 1_000_000_000_000_000;
/// The most postings of a transaction.
pub const MAX_POSTINGS: usize = 64;
/// The most transactions of a batch.
pub const MAX_BATCH: usize = 8_192;
/// Metadata: at most so many entries.
pub const MAX_METADATA: usize = 20;
/// Metadata: at most so many bytes in a name.
pub const MAX_METADATA_NAME: usize = 40;
/// Metadata: at most so many bytes in a value.
pub const MAX_METADATA_VALUE: usize = 200;
/// An external reference has at most so many bytes.
pub const MAX_REF: usize = 128;
/// A description has at most so many bytes.
pub const MAX_DESCRIPTION: usize = 200;
/// An account's code and an owner have at most so many bytes.
pub const MAX_CODE: usize = 96;
/// A hold lasts at most so many milliseconds: ten years.
pub const MAX_HOLD_MS: i64 = 3_660 * 86_400_000;

/// Marks accounts' ids (`acc_...`).
pub enum AccountEntity {}

impl Entity for AccountEntity {
    const PREFIX: &'static str = "acc";
}

/// The id of an account.
pub type AccountId = Id<AccountEntity>;

/// Marks transactions' ids (`txn_...`).
pub enum TransactionEntity {}

impl Entity for TransactionEntity {
    const PREFIX: &'static str = "txn";
}

/// The id of a transaction; that of a hold is the id of the transaction that placed it.
pub type TransactionId = Id<TransactionEntity>;

/// Gives an enum its words: as JSON, in the store, and back.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $($(#[$doc])* $variant,)+
        }

        impl $name {
            /// Every one of them.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];

            /// Its word, as it is stored and goes over the wire.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)+
                }
            }

            /// The one with this word.
            pub fn from_word(word: &str) -> Option<$name> {
                match word {
                    $($word => Some($name::$variant),)+
                    _ => None,
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
                match value {
                    ValueRef::Text(word) => $name::from_word(word),
                    _ => None,
                }
                .ok_or_else(|| Error::internal(concat!("a column holds no ", stringify!($name))))
            }
        }
    };
}

words! {
    /// Which side of a posting.
    Side {
        /// Left: what comes to an asset or an expense.
        Debit = "debit",
        /// Right: what comes to a liability, income or equity.
        Credit = "credit",
    }
}

impl Side {
    /// The other one.
    #[must_use]
    pub const fn opposite(self) -> Side {
        match self {
            Side::Debit => Side::Credit,
            Side::Credit => Side::Debit,
        }
    }
}

words! {
    /// The five types of account.
    AccountType {
        /// What is owned: money at a bank, what others owe.
        Asset = "asset",
        /// What is owed: customers' wallets, merchants' balances.
        Liability = "liability",
        /// What was earned.
        Income = "income",
        /// What was spent.
        Expense = "expense",
        /// What belongs to the owners; also conversion accounts.
        Equity = "equity",
    }
}

impl AccountType {
    /// The side on which its balance grows.
    pub const fn normal_side(self) -> Side {
        match self {
            AccountType::Asset | AccountType::Expense => Side::Debit,
            AccountType::Liability | AccountType::Income | AccountType::Equity => Side::Credit,
        }
    }
}

words! {
    /// What may be done with an account.
    AccountStatus {
        /// Everything.
        Open = "open",
        /// Money may come, and what is held already may be captured; nothing else may leave.
        Frozen = "frozen",
        /// Nothing, for ever. Its balance is zero.
        Closed = "closed",
    }
}

words! {
    /// What a transaction did.
    TransactionKind {
        /// Moved an amount from one account to another.
        Transfer = "transfer",
        /// Moved amounts between several accounts.
        Journal = "journal",
        /// Exchanged one currency for another through conversion accounts.
        Exchange = "exchange",
        /// Set an amount aside.
        Hold = "hold",
        /// Moved what was held, or a part of it.
        Capture = "capture",
        /// Let go of what was held.
        Void = "void",
        /// Let go of what was held because its time was over.
        Expiry = "expiry",
        /// Took back another transaction, or a part of it.
        Reversal = "reversal",
    }
}

impl TransactionKind {
    /// Whether a new transaction may take it back.
    pub(crate) const fn reversible(self) -> bool {
        matches!(self, TransactionKind::Transfer | TransactionKind::Journal | TransactionKind::Exchange | TransactionKind::Capture)
    }
}

words! {
    /// What has become of a hold.
    HoldStatus {
        /// It waits, unless it has expired meanwhile.
        Open = "open",
        /// It was captured, and nothing is left.
        Captured = "captured",
        /// It was voided; what had been captured before stands.
        Voided = "voided",
        /// Its time was over; what had been captured before stands.
        Expired = "expired",
    }
}

words! {
    /// Whose velocity a limit bounds.
    LimitSubject {
        /// One account's.
        Account = "account",
        /// That of all accounts of an owner in one currency.
        Owner = "owner",
    }
}

/// An account as it was set up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Account {
    /// Its id.
    pub account_id: AccountId,
    /// Its name in the chart of accounts, unique for the tenant: parts of letters, digits, `.`, `_` and `-`, joined by `:`.
    pub code: String,
    /// Its name for people.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub account_type: AccountType,
    /// Of all its postings.
    pub currency: Currency,
    /// Whose it is, as the tenant names owners.
    pub owner: Option<String>,
    /// Whether its balance may go below zero (counted on its normal side).
    pub may_go_negative: bool,
    /// How far below zero, in minor units; null for as far as it likes. Zero when it may not go negative.
    pub negative_limit_minor: Option<i64>,
    /// What may be done with it.
    pub status: AccountStatus,
    /// From 1, one more with each change.
    pub version: i64,
    /// When it was opened.
    pub created_at: Timestamp,
    /// Whether a module looks after it: then nobody posts to it, changes it or limits it over HTTP.
    #[serde(default)]
    pub managed: bool,
}

impl FromRow for Account {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(Account {
            account_id: row.get(0)?,
            code: row.get(1)?,
            name: row.get(2)?,
            account_type: row.get(3)?,
            currency: row.get(4)?,
            owner: row.get(5)?,
            may_go_negative: row.get(6)?,
            negative_limit_minor: row.get(7)?,
            status: row.get(8)?,
            version: row.get(9)?,
            created_at: row.get(10)?,
            managed: row.get(11)?,
        })
    }
}

/// The four sums of an account, in minor units, each zero or more. They only grow, except that pending ones shrink when holds end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// Everything that was debited.
    pub debits_posted: i64,
    /// Everything that was credited.
    pub credits_posted: i64,
    /// What holds will debit.
    pub debits_pending: i64,
    /// What holds will credit.
    pub credits_pending: i64,
}

impl Sums {
    /// The balance on the normal side. Both sums are zero or more, so the difference is in range.
    pub fn posted(&self, normal: Side) -> i64 {
        match normal {
            Side::Debit => self.debits_posted - self.credits_posted,
            Side::Credit => self.credits_posted - self.debits_posted,
        }
    }

    /// What holds will take from the balance.
    pub fn pending_out(&self, normal: Side) -> i64 {
        match normal {
            Side::Debit => self.credits_pending,
            Side::Credit => self.debits_pending,
        }
    }

    /// What holds will add to the balance.
    pub fn pending_in(&self, normal: Side) -> i64 {
        match normal {
            Side::Debit => self.debits_pending,
            Side::Credit => self.credits_pending,
        }
    }
}

/// An account's balance on its normal side, in minor units. Expired holds don't count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Balance {
    /// What has been posted.
    pub posted_minor: i64,
    /// What holds will take out.
    pub pending_out_minor: i64,
    /// What holds will bring in; not available before it is captured.
    pub pending_in_minor: i64,
    /// What can be taken out without going below zero: posted less what holds will take out.
    pub available_minor: i64,
}

impl Balance {
    pub(crate) fn of(sums: &Sums, normal: Side) -> Balance {
        let (posted, out) = (sums.posted(normal), sums.pending_out(normal));
        Balance {
            posted_minor: posted,
            pending_out_minor: out,
            pending_in_minor: sums.pending_in(normal),
            available_minor: posted.saturating_sub(out),
        }
    }
}

/// One line of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Posting {
    /// The account.
    pub account_id: AccountId,
    /// Its side.
    pub side: Side,
    /// Above zero.
    #[schema(minimum = 1, maximum = 1_000_000_000_000_000_i64)]
    pub amount_minor: i64,
    /// The account's, if it is to be checked.
    #[serde(default)]
    pub currency: Option<Currency>,
}

/// A rate of exchange: how many major units are bought with one major unit that is sold, in billionths. On the wire a decimal string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(i64);

impl Rate {
    const SCALE: i64 = 1_000_000_000;
    /// At most a thousand million for one.
    const MAX: i64 = 1_000_000_000 * Rate::SCALE;

    /// From billionths. Errors: `ledger.invalid_rate` unless above zero and at most 1,000,000,000.
    pub fn from_nanos(nanos: i64) -> Result<Rate> {
        if nanos <= 0 || nanos > Rate::MAX {
            return Err(crate::error::invalid_rate(""));
        }
        Ok(Rate(nanos))
    }

    /// In billionths.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// What `sold_minor` of one currency gives in the other: rounded down, and whether that is exact. None beyond what can be counted.
    pub(crate) fn bought(self, sold_minor: i64, from: Currency, to: Currency) -> Option<(i64, bool)> {
        let exact = i128::from(sold_minor).checked_mul(i128::from(self.0))?.checked_mul(i128::from(to.minor_per_major()))?;
        let scale = i128::from(Rate::SCALE) * i128::from(from.minor_per_major());
        Some((i64::try_from(exact / scale).ok()?, exact % scale == 0))
    }
}

impl FromStr for Rate {
    type Err = Error;

    /// A decimal number such as `1.0842`. Errors: `ledger.invalid_rate`.
    fn from_str(text: &str) -> Result<Rate> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) || whole.len() > 10 || fraction.len() > 9 {
            return Err(crate::error::invalid_rate(""));
        }
        let number = |s: &str| s.parse::<i64>().map_err(|_| crate::error::invalid_rate(""));
        let nanos = number(whole)?.checked_mul(Rate::SCALE).and_then(|n| n.checked_add(format!("{fraction:0<9}").parse().ok()?));
        Rate::from_nanos(nanos.ok_or_else(|| crate::error::invalid_rate(""))?)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:09}", self.0 / Rate::SCALE, self.0 % Rate::SCALE);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// What a transaction carries besides its amounts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// When it took effect, if that is not when it was recorded.
    pub effective_at: Option<Timestamp>,
    /// What another system calls it; unique for the tenant.
    pub external_ref: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// The tenant's own names and values.
    pub metadata: BTreeMap<String, String>,
}

/// What is asked of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Operation {
    /// Moves an amount: debits one account and credits another of the same currency.
    Transfer {
        /// The account that is debited.
        debit: AccountId,
        /// The account that is credited.
        credit: AccountId,
        /// Above zero.
        amount_minor: i64,
        /// Both accounts', if it is to be checked.
        currency: Option<Currency>,
    },
    /// Moves amounts between several accounts; debits and credits of each currency are equal.
    Journal {
        /// Between 2 and [`MAX_POSTINGS`].
        postings: Vec<Posting>,
    },
    /// Takes `sell_minor` out of one account and brings `buy_minor` to another one of another currency, through the accounts
    /// `conversion:<currency>`. Bought is what was sold at the rate, rounded up or down by less than a minor unit.
    Exchange {
        /// What is sold leaves this account.
        from: AccountId,
        /// What is bought comes to this one.
        to: AccountId,
        /// In minor units of the first account's currency.
        sell_minor: i64,
        /// In minor units of the second's.
        buy_minor: i64,
        /// The stated rate, in billionths; see [`Rate`].
        rate_nanos: i64,
    },
    /// Sets an amount aside until it is captured, voided, or expires.
    Hold {
        /// The account that a capture debits.
        debit: AccountId,
        /// The account that a capture credits.
        credit: AccountId,
        /// Above zero.
        amount_minor: i64,
        /// Both accounts', if it is to be checked.
        currency: Option<Currency>,
        /// From then on it no longer counts.
        expires_at: Timestamp,
    },
    /// Moves what is held, or a part of it.
    Capture {
        /// The hold.
        hold_id: TransactionId,
        /// Above zero and at most what is left; everything that is left when none is given.
        amount_minor: Option<i64>,
        /// Lets go of what is left after it; otherwise more can be captured later.
        release_rest: bool,
    },
    /// Lets go of what is left of a hold.
    Void {
        /// The hold.
        hold_id: TransactionId,
    },
    /// Takes back a transaction by a new one, whole or (with two postings) in part, as often as something is left of it.
    Reverse {
        /// The transaction.
        transaction_id: TransactionId,
        /// Above zero and at most what is left; everything that is left when none is given.
        amount_minor: Option<i64>,
    },
}

/// One request to the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is asked.
    pub operation: Operation,
    /// Makes it happen once, for ever: a repeat gets the first's answer.
    pub key: Option<Key>,
    /// Stands or falls with the next request of the batch.
    pub linked: bool,
    /// What it carries besides amounts.
    pub details: Option<Box<Details>>,
    /// Whether somebody outside asks: then accounts that a module looks after are refused.
    pub direct: bool,
    /// Whether it may take from a frozen account: for what belongs to money that came to it, such as a fee.
    pub from_frozen: bool,
}

impl Request {
    /// Without a key, links or details.
    pub fn new(operation: Operation) -> Request {
        Request { operation, key: None, linked: false, details: None, direct: false, from_frozen: false }
    }

    /// A transfer; see [`Operation::Transfer`].
    pub fn transfer(debit: AccountId, credit: AccountId, amount_minor: i64) -> Request {
        Request::new(Operation::Transfer { debit, credit, amount_minor, currency: None })
    }

    /// Several postings; see [`Operation::Journal`].
    pub fn journal(postings: Vec<Posting>) -> Request {
        Request::new(Operation::Journal { postings })
    }

    /// A hold; see [`Operation::Hold`].
    pub fn hold(debit: AccountId, credit: AccountId, amount_minor: i64, expires_at: Timestamp) -> Request {
        Request::new(Operation::Hold { debit, credit, amount_minor, currency: None, expires_at })
    }

    /// A capture of everything that is left, or of a part; what is left after it stays held. See [`Operation::Capture`].
    pub fn capture(hold_id: TransactionId, amount_minor: Option<i64>) -> Request {
        Request::new(Operation::Capture { hold_id, amount_minor, release_rest: false })
    }

    /// A void; see [`Operation::Void`].
    pub fn void(hold_id: TransactionId) -> Request {
        Request::new(Operation::Void { hold_id })
    }

    /// A reversal, whole or in part; see [`Operation::Reverse`].
    pub fn reverse(transaction_id: TransactionId, amount_minor: Option<i64>) -> Request {
        Request::new(Operation::Reverse { transaction_id, amount_minor })
    }

    /// With these details; they come before the key, which covers them.
    #[must_use]
    pub fn details(mut self, details: Details) -> Request {
        self.details = (details != Details::default()).then(|| Box::new(details));
        self
    }

    /// Under an idempotency key of the tenant's. What makes two requests equal is their operation and their details.
    #[must_use]
    pub fn key(mut self, key: &str) -> Request {
        let content = serde_json::to_vec(&(&self.operation, &self.details)).unwrap_or_default();
        self.key = Some(Key { hash: digest(key.as_bytes()), fingerprint: digest(&content) });
        self
    }

    /// Asked by somebody outside.
    #[must_use]
    pub(crate) fn direct(mut self) -> Request {
        self.direct = true;
        self
    }

    /// May take from a frozen account: for what belongs to money that comes to it at the same time, such as a fee.
    #[must_use]
    pub fn from_frozen(mut self) -> Request {
        self.from_frozen = true;
        self
    }

    /// Linked with the next request of the batch.
    #[must_use]
    pub fn linked(mut self) -> Request {
        self.linked = true;
        self
    }
}

/// An idempotency key and what was asked under it, both as hashes: SHA-256, cut to 128 bits, in two halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    pub(crate) hash: Hash,
    pub(crate) fingerprint: Hash,
}

/// 128 bits as two columns of the store.
pub(crate) type Hash = (i64, i64);

fn digest(bytes: &[u8]) -> Hash {
    let full = ring::digest::digest(&ring::digest::SHA256, bytes);
    let half = |at: usize| full.as_ref()[at..at + 8].iter().fold(0_i64, |sum, byte| (sum << 8) | i64::from(*byte));
    (half(0), half(8))
}

/// The answer to a request that was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Receipt {
    /// The transaction that did it. A hold is captured and voided by this id.
    pub transaction_id: TransactionId,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// Whether this is the answer to an earlier request with the same key.
    pub replayed: bool,
}

/// How much may leave an account, or all accounts of an owner in a currency. In minor units; null for as much as there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// In one transaction.
    #[serde(default)]
    #[schema(minimum = 0)]
    pub per_transaction_minor: Option<i64>,
    /// In a day (UTC).
    #[serde(default)]
    #[schema(minimum = 0)]
    pub per_day_minor: Option<i64>,
    /// In a calendar month (UTC).
    #[serde(default)]
    #[schema(minimum = 0)]
    pub per_month_minor: Option<i64>,
}

impl FromRow for Limit {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(Limit { per_transaction_minor: row.get(0)?, per_day_minor: row.get(1)?, per_month_minor: row.get(2)? })
    }
}

/// The days (since 1970) of the calendar month of a day: the first, and the first of the next month.
pub(crate) fn month_of(day: i64) -> (i64, i64) {
    // Howard Hinnant's civil-from-days, on years that begin in March.
    let z = day + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let first = day - (doy - (153 * mp + 2) / 5);
    let (year, month) = (yoe + era * 400 + i64::from(mp >= 10), if mp < 10 { mp + 3 } else { mp - 9 });
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    (first, first + length)
}

/// `2026-01-31`, of days since 1970.
pub(crate) fn format_day(day: i64) -> String {
    let text = Timestamp::from_micros(day.saturating_mul(86_400_000_000)).to_string();
    text.split('T').next().unwrap_or_default().to_owned()
}
