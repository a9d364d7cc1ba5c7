//! What a checkout is, and what becomes of it: pure data and decisions.

use carts::CartId;
use carts::api::Destination;
use kernel::{Currency, Error, FieldError, Id, Result, Timestamp};
use orders::api::{CustomerId, NewLine, OrderId};
use payments::api::{CaptureMode, IntentId};
use pricing::api::PricedSnapshot;
use serde::{Deserialize, Serialize};
use store::{FromRow, Row};
use utoipa::ToSchema;

/// Marks checkouts' ids (`chk_...`).
pub(crate) enum CheckoutEntity {}
impl kernel::Entity for CheckoutEntity {
    const PREFIX: &'static str = "chk";
}
/// The id of a checkout: the number of the order that it becomes, so that each finds the other without a table in between.
pub(crate) type CheckoutId = Id<CheckoutEntity>;

/// The order that a checkout becomes.
pub(super) fn order_of(checkout_id: CheckoutId) -> OrderId {
    OrderId::from_i64(checkout_id.as_i64())
}

/// The checkout of an order, by the name that its payment has for it.
pub(super) fn of_order_name(order: &str) -> Option<CheckoutId> {
    let order_id: OrderId = order.parse().ok()?;
    Some(CheckoutId::from_i64(order_id.as_i64()))
}

/// Where a checkout stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = CheckoutState)]
pub(crate) enum State {
    /// Stock is reserved, and the payment is being asked for or waits for the shopper to confirm it.
    Paying,
    /// It is an order.
    Completed,
    /// Over without an order: whatever was reserved is free again, and what was paid is given back.
    Failed,
}

impl State {
    /// As it is stored.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            State::Paying => "paying",
            State::Completed => "completed",
            State::Failed => "failed",
        }
    }

    fn parse(text: &str) -> Result<State> {
        let all = [State::Paying, State::Completed, State::Failed];
        all.into_iter().find(|state| state.as_str() == text).ok_or_else(|| Error::internal(format!("{text} is no state of a checkout")))
    }
}

/// What a checkout hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Its payment is authorised, or taken.
    Paid,
    /// Its payment has failed, was let go of, or has run out.
    Unpaid,
    /// All that was taken was given back.
    Refunded,
    /// What was authorised could not be taken.
    NotTaken,
    /// What was taken could not be given back.
    NotRefunded,
    /// Nobody had paid when its stock's time was over.
    StockExpired,
    /// The shopper has thought better of it.
    Cancelled,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Place the order.
    Place,
    /// Free what is reserved, and let the cart be changed again.
    Release,
    /// Give the payment back, or stop it: there is nothing that it is for.
    GiveBack,
    /// The order stands, and nobody has paid for it any more: a person has to see it.
    Tell,
    /// Somebody has paid for nothing, and does not get it back by itself: a person has to see it.
    TellKept,
    /// Nothing.
    Nothing,
}

/// Decides. Every pair is listed: a state that nobody thought of does not compile.
pub(super) fn decide(state: State, heard: Heard) -> Act {
    match (state, heard) {
        (State::Paying, Heard::Paid) => Act::Place,
        (State::Paying, Heard::Unpaid | Heard::Refunded) => Act::Release,
        // The order is placed when it is authorised: that word is on its way.
        (State::Paying, Heard::NotTaken | Heard::NotRefunded) => Act::Nothing,
        (State::Paying, Heard::StockExpired | Heard::Cancelled) => Act::GiveBack,

        (State::Completed, Heard::Unpaid | Heard::NotTaken) => Act::Tell,
        // A refund of an order is the shop's own business.
        (State::Completed, Heard::Paid | Heard::Refunded | Heard::NotRefunded | Heard::StockExpired | Heard::Cancelled) => Act::Nothing,

        // Late word of a payment that was asked for before it failed.
        (State::Failed, Heard::Paid) => Act::GiveBack,
        (State::Failed, Heard::NotRefunded) => Act::TellKept,
        (State::Failed, Heard::Unpaid | Heard::Refunded | Heard::NotTaken | Heard::StockExpired | Heard::Cancelled) => Act::Nothing,
    }
}

/// What was agreed on when the checkout began, and stays, whatever becomes of the catalog.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Agreed {
    /// The order's lines.
    pub lines: Vec<NewLine>,
    /// How they were priced, for refunds of parts.
    pub priced: PricedSnapshot,
    /// Where it goes.
    pub destination: Destination,
    /// How: the method's name.
    pub shipping_method: Option<String>,
}

/// A checkout as it is stored.
#[derive(Clone, Debug)]
pub(super) struct Checkout {
    pub checkout_id: CheckoutId,
    /// The cart, and which of its attempts this is.
    pub cart: Option<(CartId, i64)>,
    pub state: State,
    /// Why it failed; of a completed one, why its payment is gone.
    pub reason: String,
    pub intent_id: Option<IntentId>,
    pub stock_reference: String,
    pub customer_id: Option<CustomerId>,
    pub email: Option<String>,
    pub currency: Currency,
    pub total_minor: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub expires_at: Timestamp,
    pub agreed: Agreed,
}

impl FromRow for Checkout {
    fn from_row(row: &dyn Row) -> Result<Self> {
        let (cart_id, attempt): (Option<CartId>, i64) = (row.get(1)?, row.get(2)?);
        let agreed: String = row.get(14)?;
        let unreadable = |e| Error::internal("what a checkout agreed on can't be read").caused_by(e);
        Ok(Checkout {
            checkout_id: row.get(0)?,
            cart: cart_id.map(|cart_id| (cart_id, attempt)),
            state: State::parse(&row.get::<String>(3)?)?,
            reason: row.get(4)?,
            intent_id: row.get(5)?,
            stock_reference: row.get(6)?,
            customer_id: row.get(7)?,
            email: row.get(8)?,
            currency: row.get(9)?,
            total_minor: row.get(10)?,
            created_at: row.get(11)?,
            updated_at: row.get(12)?,
            expires_at: row.get(13)?,
            agreed: serde_json::from_str(&agreed).map_err(unreadable)?,
        })
    }
}

/// How a tenant's checkouts work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CheckoutSettings)]
pub(super) struct Settings {
    /// When what was authorised is taken: at once, or when the shop asks for it (at shipping).
    pub capture: CaptureMode,
    /// For how many minutes stock is kept for a checkout that is not paid.
    #[schema(minimum = 5, maximum = 1440)]
    pub hold_minutes: i64,
    /// Whether a shipping method has to be chosen.
    pub shipping_required: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { capture: CaptureMode::Automatic, hold_minutes: 15, shipping_required: false }
    }
}

impl Settings {
    /// Errors: `request.invalid`.
    pub(super) fn check(&self) -> Result<()> {
        if (5..=1_440).contains(&self.hold_minutes) {
            return Ok(());
        }
        Err(Error::field("hold_minutes", "out_of_range", "from 5 to 1440"))
    }
}

/// What is offered instead of what the shopper agreed to; each field that differs.
pub(super) fn changed(fields: Vec<FieldError>) -> Error {
    let error = Error::conflict("checkout.price_changed", "what it costs, or whether it is sold, has changed: show the cart again");
    fields.into_iter().fold(error, |error, field| error.with_field(field.field, field.code, field.detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every state by every word: a checkout that is over is never placed, and money for nothing goes back.
    #[test]
    fn every_word_in_every_state() {
        use {Act::*, Heard::*};
        const TABLE: [(Heard, [Act; 3]); 7] = [
            // paying, completed, failed
            (Paid, [Place, Nothing, GiveBack]),
            (Unpaid, [Release, Tell, Nothing]),
            (Refunded, [Release, Nothing, Nothing]),
            (NotTaken, [Nothing, Tell, Nothing]),
            (NotRefunded, [Nothing, Nothing, TellKept]),
            (StockExpired, [GiveBack, Nothing, Nothing]),
            (Cancelled, [GiveBack, Nothing, Nothing]),
        ];
        for (heard, acts) in TABLE {
            for (state, act) in [State::Paying, State::Completed, State::Failed].into_iter().zip(acts) {
                assert_eq!(decide(state, heard), act, "{state:?} {heard:?}");
            }
        }
    }

    #[test]
    fn a_checkout_and_its_order_have_one_number() {
        let checkout_id = CheckoutId::from_i64(4_711);
        assert_eq!(of_order_name(&order_of(checkout_id).to_string()), Some(checkout_id));
        assert_eq!(of_order_name("another shop's order"), None);
    }
}
