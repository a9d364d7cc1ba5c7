//! For other modules and the application: a payment made in the transaction of what it is for, what was paid for an order, and what
//! customers have paid in all.

use crate::commands::{self, NewIntent, Operate, PayWith};
use crate::model::{self, MethodId, MethodKind, OperationKind, ProviderId};
use crate::{card, queries, records, sql};
use kernel::{Currency, Error, Result};
use ledger::AccountId;
use std::collections::{BTreeMap, HashSet};
use store::{FromRow, Read, Row, Tx};

pub use crate::model::{CaptureMode, IntentId, State, Status};
pub use crate::queries::IntentView;
pub use crate::records::{MAX_RECORD_MINOR, MAX_RECORDS, NewRecord, RecordId, RecordKind, RecordSum, RecordView};
pub use crate::routes::Clean;

/// The most payments of one order that are looked at.
pub const MAX_OF_ORDER: i64 = 100;

/// What was paid for an order in one currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaidOrder {
    /// The order, as the payments name it.
    pub order_id: String,
    /// Of the amounts.
    pub currency: Currency,
    /// How many payments there are for it, failed ones too.
    pub payments: i64,
    /// Taken, in minor units.
    pub captured_minor: i64,
    /// Given back or about to be, in minor units.
    pub refunded_minor: i64,
}

impl FromRow for PaidOrder {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(PaidOrder {
            order_id: row.get(0)?,
            currency: row.get(1)?,
            payments: row.get(2)?,
            captured_minor: row.get(3)?,
            refunded_minor: row.get(4)?,
        })
    }
}

/// The latest [`MAX_OF_ORDER`] payments for an order, the latest first.
pub fn payments_of_order(read: &mut Read<'_>, order_id: &str) -> Result<Vec<IntentView>> {
    let found = crate::queries::intents_of_order(read, order_id, IntentId::from_i64(i64::MAX), MAX_OF_ORDER)?;
    Ok(found.into_iter().map(IntentView::from).collect())
}

/// What all payments for an order in a currency come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PaidForOrder {
    /// Taken, in minor units.
    pub captured_minor: i64,
    /// Given back, in minor units.
    pub refunded_minor: i64,
    /// How many payments are being asked for, or are authorised and not all taken.
    pub open: i64,
    /// How many the customer contests.
    pub disputed: i64,
}

/// Sums of all payments for an order in a currency, however many there are.
pub fn paid_for_order(read: &mut Read<'_>, order_id: &str, currency: Currency) -> Result<PaidForOrder> {
    let (captured_minor, refunded_minor, open, disputed): (i64, i64, i64, i64) = read.one(sql::PAID_FOR_ORDER, (order_id, currency))?;
    let (in_minor, out_minor): (i64, i64) = read.one(sql::RECORDED_FOR_DOCUMENT, (order_id, currency))?;
    Ok(PaidForOrder { captured_minor: captured_minor + in_minor, refunded_minor: refunded_minor + out_minor, open, disputed })
}

/// Writes down and books money that moved outside: taken at another system's provider, over the counter or by bank, or given back there.
/// All or none; whoever records sees to it that nothing is recorded twice, as by the transaction of the document that it is for.
/// Errors: `request.invalid`, also above [`MAX_RECORDS`]; `payments.card_number`.
pub fn record(tx: &mut Tx<'_>, records: &[NewRecord]) -> Result<()> {
    records::record(tx, records)
}

/// The latest [`MAX_OF_ORDER`] records for a document, the latest first.
pub fn records_of(read: &mut Read<'_>, document: &str) -> Result<Vec<RecordView>> {
    records::of_document(read, document, MAX_OF_ORDER)
}

/// Up to `limit` records after this one, by document and id: all of them, page by page.
pub fn records_after(read: &mut Read<'_>, after: Option<&RecordView>, limit: i64) -> Result<Vec<RecordView>> {
    records::after(read, after, limit)
}

/// What the records of a source come to, by currency. Reads all of them: for tools, not for requests.
pub fn record_sums(read: &mut Read<'_>, source: &str) -> Result<Vec<RecordSum>> {
    records::sums(read, source)
}

/// Up to `limit` sums of orders' payments, by the orders' names after `after`. An order in two currencies has two; the last one of a full
/// page may have another on the next, so a reader drops the last name of a full page and goes on before it.
pub fn paid_by_order(read: &mut Read<'_>, after: &str, limit: i64) -> Result<Vec<PaidOrder>> {
    let mut sums: BTreeMap<(String, String), PaidOrder> = BTreeMap::new();
    for statement in [sql::PAID_BY_ORDER, sql::RECORDED_BY_DOCUMENT] {
        for paid in read.all::<PaidOrder>(statement, (after, limit))? {
            let sum = sums.entry((paid.order_id.clone(), paid.currency.to_string())).or_insert(PaidOrder {
                payments: 0,
                captured_minor: 0,
                refunded_minor: 0,
                ..paid.clone()
            });
            sum.payments += paid.payments;
            sum.captured_minor += paid.captured_minor;
            sum.refunded_minor += paid.refunded_minor;
        }
    }
    // Texts are in the order of their bytes here and there; each of the two has its own first ones, so the first of both are whole.
    Ok(sums.into_values().take(limit.max(0) as usize).collect())
}

/// What customers have paid and not got back, in minor units of each currency: by the payments, and by the ledger's accounts.
pub fn customers_money(read: &mut Read<'_>) -> Result<BTreeMap<String, (i64, i64)>> {
    let mut sums: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for statement in [sql::PAID, sql::RECORDED] {
        for (currency, minor) in read.all::<(Currency, i64)>(statement, ())? {
            sums.entry(currency.to_string()).or_default().0 += minor;
        }
    }
    for (currency, clearing, settled) in read.all::<(Currency, AccountId, i64)>(sql::CLEARING_ACCOUNTS, ())? {
        // What was moved on to merchants was the customers' money, too.
        sums.entry(currency.to_string()).or_default().1 += ledger::api::balance(read, clearing)?.posted_minor + settled;
    }
    Ok(sums)
}

/// What somebody is to pay with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Means {
    /// A provider's token, of 1 to 200 bytes: of a card, of Apple Pay or of Google Pay.
    Token(String),
    /// A stored method.
    Stored(MethodId),
}

/// What a payment is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A module whose money it becomes, which takes it from clearing itself: routing sees the merchant `module:` and this name, and no
    /// batch settles it. Captured at once.
    Module {
        /// The module's name.
        name: &'static str,
        /// What the module calls it: unique among the tenant's payments.
        external_ref: String,
    },
    /// An order of the tenant's own shop.
    Order {
        /// The order's id.
        order_id: String,
        /// When what is authorised is taken.
        capture: CaptureMode,
    },
}

/// A payment that a provider is asked for at once.
#[derive(Clone, Debug)]
pub struct NewPayment {
    /// Between one minor unit and [`model::MAX_AMOUNT_MINOR`].
    pub amount_minor: i64,
    /// Its currency.
    pub currency: Currency,
    /// Two capital letters, or empty: for routing.
    pub country: String,
    /// What it is for.
    pub purpose: Purpose,
    /// What it is paid with.
    pub means: Means,
    /// Whose a stored method has to be, as the tenant names customers: one of these; none for anybody's.
    pub customers: Option<Vec<String>>,
}

/// Refuses what payments would, before anything is kept. Errors: `request.invalid`, `payments.card_number`.
pub fn check(new: &NewPayment) -> Result<()> {
    model::check_amount("amount_minor", new.amount_minor)?;
    if let Means::Token(token) = &new.means {
        if card::has_card_number(token.as_bytes()) {
            return Err(card::refused("token"));
        }
        if !(1..=200).contains(&token.len()) || token.chars().any(char::is_control) {
            return Err(Error::field("token", "out_of_range", "1 to 200 bytes without control characters"));
        }
    }
    Ok(())
}

/// Makes the payment and begins to ask a provider; its events tell what becomes of it. Answers where it stands. Errors: as [`check`], `payments.external_ref_taken`,
/// `payments.method_not_found` (also for a stored method of somebody else), `payments.method_removed`.
pub fn pay(tx: &mut Tx<'_>, new: &NewPayment) -> Result<(IntentId, Status)> {
    check(new)?;
    let pay_with = match &new.means {
        Means::Token(token) => PayWith::Token(token.clone(), None),
        Means::Stored(method_id) => {
            let method = queries::method(tx, *method_id)?.view;
            if new.customers.as_ref().is_some_and(|customers| !customers.contains(&method.customer)) {
                return Err(queries::method_not_found());
            }
            PayWith::Stored(*method_id)
        }
    };
    let (merchant, external_ref, order_id, capture_mode) = match &new.purpose {
        Purpose::Module { name, external_ref } => (format!("module:{name}"), Some(external_ref.clone()), None, CaptureMode::Automatic),
        Purpose::Order { order_id, capture } => (String::new(), None, Some(order_id.clone()), *capture),
    };
    let intent = NewIntent {
        amount_minor: new.amount_minor,
        currency: new.currency,
        method: MethodKind::Card,
        capture_mode,
        country: new.country.clone(),
        merchant,
        order_id,
        external_ref,
        pay_with: Some(pay_with),
        confirm: true,
    };
    let intent = commands::create(tx, &intent)?;
    Ok((intent.intent_id, intent.status()))
}

/// What is authorised of a payment and was not taken, in minor units; 0 while a capture is under way, and when the authorisation is over.
/// Errors: `payments.intent_not_found`.
pub fn capturable(read: &mut Read<'_>, intent_id: IntentId) -> Result<i64> {
    let intent = queries::intent(read, intent_id)?;
    let open = intent.capture_open && intent.capturing_minor == 0;
    Ok(if open { intent.amounts().capturable() } else { 0 })
}

/// Those of these payments that are let go of, or given back as a whole, or about to be: whatever was heard of them before, nothing may
/// rest on them.
pub fn given_back(read: &mut Read<'_>, intents: &[IntentId]) -> Result<HashSet<IntentId>> {
    if intents.is_empty() {
        return Ok(HashSet::new());
    }
    let ids: Vec<i64> = intents.iter().map(|intent_id| intent_id.as_i64()).collect();
    Ok(read.all::<(IntentId,)>(sql::GIVEN_BACK, (ids,))?.into_iter().map(|(intent_id,)| intent_id).collect())
}

/// Takes what is authorised, or a part of it: without `last` more may be taken later. Errors: `payments.intent_not_found`,
/// `payments.not_allowed`, `payments.capture_exceeds`, `payments.capture_under_way`, `payments.void_under_way`.
pub fn capture(tx: &mut Tx<'_>, intent_id: IntentId, amount_minor: Option<i64>, last: bool) -> Result<()> {
    let operate = Operate { intent_id, kind: OperationKind::Capture, amount_minor, last, reason: String::new() };
    commands::operate(tx, &operate).map(drop)
}

/// Gives back what was taken, or a part of it. Errors: `payments.intent_not_found`, `payments.not_allowed`, `payments.refund_exceeds`.
pub fn refund(tx: &mut Tx<'_>, intent_id: IntentId, amount_minor: Option<i64>, reason: &str) -> Result<()> {
    let operate = Operate { intent_id, kind: OperationKind::Refund, amount_minor, last: false, reason: reason.to_owned() };
    commands::operate(tx, &operate).map(drop)
}

/// Lets go of what was authorised and not taken. Quietly nothing when that has happened, or is under way. Errors:
/// `payments.intent_not_found`, `payments.not_allowed`, `payments.capture_under_way`.
pub fn void(tx: &mut Tx<'_>, intent_id: IntentId, reason: &str) -> Result<()> {
    let operate = Operate { intent_id, kind: OperationKind::Void, amount_minor: None, last: true, reason: reason.to_owned() };
    commands::operate(tx, &operate).map(drop)
}

/// Gives a payment back whose purpose is gone: what was authorised is let go of, what was taken is refunded. Called again for each event of
/// the payment until nothing is left to be done. While a provider is being asked it does nothing: the outcome's event follows.
/// Errors: `payments.intent_not_found`.
pub fn give_back(tx: &mut Tx<'_>, intent_id: IntentId, reason: &str) -> Result<()> {
    let intent = queries::intent(tx, intent_id)?;
    let amounts = intent.amounts();
    if amounts.capturing_minor > 0 || intent.asking && intent.state == State::Initiated {
        return Ok(());
    }
    // Two operations, each with its own outcome: what was not taken of it is let go of, what was is refunded.
    if intent.capture_open && matches!(intent.state, State::PartlyCaptured | State::PartlyRefunded) {
        void(tx, intent_id, reason)?;
    }
    if intent.state.is_paid() && amounts.refundable() > 0 && intent.state != State::Disputed {
        return refund(tx, intent_id, None, reason);
    }
    match intent.state {
        State::Initiated | State::RequiresAction | State::Authorized => void(tx, intent_id, reason),
        _ => Ok(()),
    }
}

/// Where a payment stands: its public status, and where the customer has to confirm it. Errors: `payments.intent_not_found`.
pub fn status(read: &mut Read<'_>, intent_id: IntentId) -> Result<(Status, Option<String>)> {
    let intent = queries::intent(read, intent_id)?;
    Ok((intent.status(), intent.action_url.filter(|_| intent.state == State::RequiresAction)))
}

/// The account that holds what customers have paid through a provider until it is somebody's, of which `amount_minor` is to become
/// somebody's now, or comes back when it is below zero: whoever asks moves just that. Errors: `internal` when nothing was paid.
pub fn take_from_clearing(tx: &mut Tx<'_>, provider_id: ProviderId, currency: Currency, amount_minor: i64) -> Result<AccountId> {
    let account = ledger::api::account_by_code(tx, &format!("payments:clearing:{provider_id}:{currency}"))?;
    let account = account.ok_or_else(|| Error::internal("a payment was captured without its accounts"))?;
    tx.exec(crate::merchants::sql::SETTLE_CLEARING, (provider_id, currency, amount_minor))?;
    Ok(account.account_id)
}
