//! What goes over the wire and has to be read with care: amounts, details, bulks.

use crate::engine::check_shape;
use crate::error;
use crate::model::*;
use crate::routes::{NewExchange, NewHold, NewTransaction, NewTransfer};
use axum::http::HeaderMap;
use kernel::{Currency, Error, FieldError, Result, Timestamp};
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use utoipa::ToSchema;

/// An amount as it was written: what is no whole number of minor units is refused by a guard of its own, not as a wrong type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Amount {
    Whole(i64),
    Fractional,
    TooLarge,
}

impl Amount {
    pub(crate) fn minor(self, field: &str) -> Result<i64> {
        match self {
            Amount::Whole(minor) => Ok(minor),
            Amount::Fractional => Err(error::amount_fractional(field)),
            Amount::TooLarge => Err(error::amount_too_large(field)),
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

/// A posting as it was written.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WirePosting {
    /// The account.
    pub account_id: AccountId,
    /// Its side.
    pub side: Side,
    /// Above zero, in minor units.
    #[schema(value_type = i64, minimum = 1, maximum = 1_000_000_000_000_000_i64)]
    pub amount_minor: Amount,
    /// The account's, if it is to be checked.
    #[serde(default)]
    #[schema(value_type = Option<Currency>)]
    pub currency: Option<String>,
}

impl WirePosting {
    pub(crate) fn read(&self, at: &str) -> Result<Posting> {
        let currency = self.currency.as_deref().map(|code| code.parse().map_err(|_| error::unknown_currency(&format!("{at}currency"))));
        Ok(Posting {
            account_id: self.account_id,
            side: self.side,
            amount_minor: self.amount_minor.minor(&format!("{at}amount_minor"))?,
            currency: currency.transpose()?,
        })
    }
}

/// What a transaction carries besides its amounts.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WireDetails {
    /// When it took effect, if that is not when it is recorded.
    effective_at: Option<Timestamp>,
    /// What another system calls it; unique for the tenant, for ever.
    #[schema(min_length = 1, max_length = 128)]
    external_ref: Option<String>,
    /// For people.
    #[schema(min_length = 1, max_length = 200)]
    description: Option<String>,
    /// Names and values of one's own: at most 20, names of at most 40 bytes, values of at most 200.
    metadata: BTreeMap<String, String>,
}

impl From<WireDetails> for Details {
    fn from(wire: WireDetails) -> Details {
        let WireDetails { effective_at, external_ref, description, metadata } = wire;
        Details { effective_at, external_ref, description, metadata }
    }
}

/// A rate in billionths. Errors: `ledger.invalid_rate`.
pub(crate) fn rate_of(text: &str, at: &str) -> Result<i64> {
    // The field is named by where it stands; a rate by itself doesn't know.
    Ok(text.parse::<Rate>().map_err(|_| error::invalid_rate(at))?.nanos())
}

/// Under the key of the `Idempotency-Key` header, if there is one, which has been checked by its extractor. Keys of clients are apart
/// from those of other modules.
pub(crate) fn key_of(headers: &HeaderMap, request: Request) -> Request {
    match headers.get("idempotency-key").and_then(|key| key.to_str().ok()) {
        Some(key) => request.key(&client_key(key)),
        None => request,
    }
}

fn client_key(key: &str) -> String {
    format!("client:{key}")
}

/// A capture in a bulk.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BulkCapture {
    /// The hold.
    hold_id: TransactionId,
    /// In minor units; everything that is left when it is left out.
    #[serde(default)]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 1_000_000_000_000_000_i64)]
    amount_minor: Option<Amount>,
    /// Lets go of what is left after it.
    #[serde(default)]
    release_rest: bool,
    /// What it carries besides.
    #[serde(default)]
    details: WireDetails,
}

/// A void in a bulk.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BulkVoid {
    /// The hold.
    hold_id: TransactionId,
    /// What it carries besides.
    #[serde(default)]
    details: WireDetails,
}

/// A reversal in a bulk.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BulkReversal {
    /// The transaction.
    transaction_id: TransactionId,
    /// In minor units; everything that is left when it is left out.
    #[serde(default)]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 1_000_000_000_000_000_i64)]
    amount_minor: Option<Amount>,
    /// What it carries besides.
    #[serde(default)]
    details: WireDetails,
}

/// One of a bulk: exactly one of its operations, under a key of its own if it has one.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BulkItem {
    /// A transfer.
    #[serde(default)]
    transfer: Option<NewTransfer>,
    /// A transaction of several postings.
    #[serde(default)]
    transaction: Option<NewTransaction>,
    /// An exchange.
    #[serde(default)]
    exchange: Option<NewExchange>,
    /// A hold.
    #[serde(default)]
    hold: Option<NewHold>,
    /// A capture.
    #[serde(default)]
    capture: Option<BulkCapture>,
    /// A void.
    #[serde(default)]
    void: Option<BulkVoid>,
    /// A reversal.
    #[serde(default)]
    reversal: Option<BulkReversal>,
    /// Makes it happen once, as the `Idempotency-Key` header does for a single one.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 255)]
    key: Option<String>,
    /// Stands or falls with the next one.
    #[serde(default)]
    linked: bool,
}

impl BulkItem {
    fn request(self, index: usize, now: Timestamp) -> Result<Request> {
        let at = |name: &str| format!("transactions[{index}].{name}.");
        let mut found: Vec<(&'static str, Result<Operation>, WireDetails)> = Vec::with_capacity(1);
        if let Some(transfer) = self.transfer {
            found.push(("transfer", transfer.operation(&at("transfer")), transfer.details));
        }
        if let Some(transaction) = self.transaction {
            found.push(("transaction", transaction.operation(&at("transaction")), transaction.details));
        }
        if let Some(exchange) = self.exchange {
            found.push(("exchange", exchange.operation(&at("exchange")), exchange.details));
        }
        if let Some(hold) = self.hold {
            found.push(("hold", hold.operation(&at("hold")), hold.details));
        }
        let minor = |amount: Option<Amount>, name: &str| amount.map(|a| a.minor(&format!("{}amount_minor", at(name)))).transpose();
        if let Some(BulkCapture { hold_id, amount_minor, release_rest, details }) = self.capture {
            let amount_minor = minor(amount_minor, "capture");
            found.push(("capture", amount_minor.map(|amount_minor| Operation::Capture { hold_id, amount_minor, release_rest }), details));
        }
        if let Some(BulkVoid { hold_id, details }) = self.void {
            found.push(("void", Ok(Operation::Void { hold_id }), details));
        }
        if let Some(BulkReversal { transaction_id, amount_minor, details }) = self.reversal {
            let amount_minor = minor(amount_minor, "reversal");
            found.push(("reversal", amount_minor.map(|amount_minor| Operation::Reverse { transaction_id, amount_minor }), details));
        }
        let (Some((name, operation, details)), true) = (found.pop(), found.is_empty()) else {
            let detail = "exactly one of transfer, transaction, exchange, hold, capture, void and reversal";
            return Err(Error::field(format!("transactions[{index}]"), "wrong_count", detail));
        };
        let mut request = Request::new(operation?).details(details.into()).direct();
        // A key is looked at before anything that time may change: it may be a repeat.
        check_shape(&request, self.key.is_none().then_some(now), &at(name))?;
        request.linked = self.linked;
        if let Some(key) = self.key {
            if !(1..=255).contains(&key.len()) || !key.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(Error::field(format!("transactions[{index}].key"), "invalid", "1 to 255 visible ASCII characters"));
            }
            request = request.key(&client_key(&key));
        }
        Ok(request)
    }
}

/// Up to 8,192 at once.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BulkBody {
    /// In the order in which they are decided.
    #[schema(min_items = 1, max_items = 8192)]
    transactions: Vec<BulkItem>,
}

impl BulkBody {
    /// What is wrong with one of them whatever the ledger holds and, under a key, whatever the time is refuses them all: nothing of it
    /// was meant so.
    pub(crate) fn requests(self, now: Timestamp) -> Result<Vec<Request>> {
        if self.transactions.is_empty() || self.transactions.len() > MAX_BATCH {
            return Err(error::batch_too_large(MAX_BATCH));
        }
        self.transactions.into_iter().enumerate().map(|(index, item)| item.request(index, now)).collect()
    }
}

/// Why one of a bulk was refused: as the problem of a single one.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BulkRefusal {
    /// Stable.
    code: &'static str,
    /// For people.
    detail: String,
    /// What is wrong with which field.
    #[schema(value_type = Vec<std::collections::BTreeMap<String, String>>)]
    errors: Vec<FieldError>,
}

/// What became of one of a bulk.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BulkOutcome {
    /// It was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Receipt>,
    /// It was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<BulkRefusal>,
}

impl From<Result<Receipt>> for BulkOutcome {
    fn from(outcome: Result<Receipt>) -> BulkOutcome {
        match outcome {
            Ok(receipt) => BulkOutcome { receipt: Some(receipt), error: None },
            Err(e) => {
                let refusal = BulkRefusal { code: e.code(), detail: e.detail().to_owned(), errors: e.field_errors().to_vec() };
                BulkOutcome { receipt: None, error: Some(refusal) }
            }
        }
    }
}
