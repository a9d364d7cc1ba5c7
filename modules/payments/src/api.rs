//! Payments inside other modules' commands: a payment is made in the transaction of what it is for.

use crate::commands::{self, NewIntent, PayWith};
use crate::model::{self, CaptureMode, IntentId, MethodId, MethodKind, ProviderId};
use crate::{card, queries};
use kernel::{Currency, Error, Result};
use ledger::AccountId;
use store::{Read, Tx};

pub use crate::model::{State, Status};

/// What somebody is to pay with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Means {
    /// A provider's token, of 1 to 200 bytes: of a card, of Apple Pay or of Google Pay.
    Token(String),
    /// A stored method.
    Stored(MethodId),
}

/// A payment that is authorised and captured at once.
#[derive(Clone, Debug)]
pub struct NewPayment {
    /// Between one minor unit and [`model::MAX_AMOUNT_MINOR`].
    pub amount_minor: i64,
    /// Its currency.
    pub currency: Currency,
    /// Two capital letters, or empty: for routing.
    pub country: String,
    /// For routing.
    pub merchant: String,
    /// Unique among the tenant's payments.
    pub external_ref: String,
    /// What it is paid with.
    pub means: Means,
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

/// Makes the payment and begins to ask a provider; its events tell what becomes of it. Errors: as [`check`], `payments.external_ref_taken`,
/// `payments.method_not_found`, `payments.method_removed`.
pub fn pay(tx: &mut Tx<'_>, new: &NewPayment) -> Result<IntentId> {
    check(new)?;
    let pay_with = match &new.means {
        Means::Token(token) => PayWith::Token(token.clone(), None),
        Means::Stored(method_id) => PayWith::Stored(*method_id),
    };
    let intent = NewIntent {
        amount_minor: new.amount_minor,
        currency: new.currency,
        method: MethodKind::Card,
        capture_mode: CaptureMode::Automatic,
        country: new.country.clone(),
        merchant: new.merchant.clone(),
        external_ref: Some(new.external_ref.clone()),
        pay_with: Some(pay_with),
        confirm: true,
    };
    Ok(commands::create(tx, &intent)?.intent_id)
}

/// Where a payment stands: its public status, and where the customer has to confirm it. Errors: `payments.intent_not_found`.
pub fn status(read: &mut Read<'_>, intent_id: IntentId) -> Result<(Status, Option<String>)> {
    let intent = queries::intent(read, intent_id)?;
    Ok((intent.status(), intent.action_url.filter(|_| intent.state == State::RequiresAction)))
}

/// The account that holds what customers have paid through a provider until it is somebody's. Errors: `internal` when nothing was.
pub fn clearing_account(read: &mut Read<'_>, provider_id: ProviderId, currency: Currency) -> Result<AccountId> {
    let account = ledger::api::account_by_code(read, &format!("payments:clearing:{provider_id}:{currency}"))?;
    Ok(account.ok_or_else(|| Error::internal("a payment was captured without its accounts"))?.account_id)
}
