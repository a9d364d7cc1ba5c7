//! A checkout as people see it.

use super::model::{Checkout, CheckoutId, State, order_of};
use super::place::load;
use carts::CartId;
use kernel::{Currency, Error, Result, TenantId, Timestamp};
use orders::api::{NewLine, OrderId};
use payments::api::{self as payments_api, IntentId, Status};
use pricing::api::{TaxTotal, Totals};
use serde::{Deserialize, Serialize};
use store::{Change, Read};
use traffic::cache::{Cache, Cached, Caches, Normal, Settings, Tag, Tags};
use utoipa::ToSchema;
use web::{ModuleCaches, Part};

/// A checkout.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Checkout)]
pub(super) struct CheckoutView {
    /// Its id.
    pub checkout_id: CheckoutId,
    /// Where it stands.
    pub state: State,
    /// Why it failed: what the payment's provider said, or `expired`, `cancelled`, `stock_gone`, `payment_voided`, `payment_expired`. Of a
    /// completed one: why its payment is gone.
    pub reason: Option<String>,
    /// The order that it has become.
    pub order_id: Option<OrderId>,
    /// The cart that it came from.
    pub cart_id: Option<CartId>,
    /// Where the confirmation goes.
    pub email: Option<String>,
    /// Of every amount.
    pub currency: Currency,
    /// What is to be paid, in minor units.
    pub total_minor: i64,
    /// What it is made of.
    pub totals: Totals,
    /// The taxes, by rate.
    pub taxes: Vec<TaxTotal>,
    /// The lines as they were agreed on.
    pub lines: Vec<NewLine>,
    /// The shipping method's name.
    pub shipping_method: Option<String>,
    /// How it is paid; null when there is nothing to pay.
    pub payment: Option<CheckoutPayment>,
    /// When it began.
    pub created_at: Timestamp,
    /// When it last moved.
    pub updated_at: Timestamp,
    /// Until when its stock is kept while it is not paid.
    pub expires_at: Timestamp,
    /// What opens it for a shopper, in the header `Checkout-Token`. Only in the answer to its beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// How old this is, in milliseconds, if it is what was remembered because the database is away. Then nothing is said of the payment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
}

/// How a checkout is paid.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct CheckoutPayment {
    /// The payment.
    pub intent_id: IntentId,
    /// Where it stands.
    pub status: Status,
    /// Where the shopper has to confirm it, while it waits for that.
    pub action_url: Option<String>,
}

impl CheckoutView {
    /// Whether nothing more happens unless somebody does something.
    pub(super) fn at_rest(&self) -> bool {
        self.state != State::Paying || self.payment.as_ref().is_some_and(|payment| payment.action_url.is_some())
    }
}

/// A checkout. Errors: `checkout.checkout_not_found`.
pub(super) fn of(read: &mut Read<'_>, checkout_id: CheckoutId) -> Result<CheckoutView> {
    let checkout = load(read, checkout_id)?;
    shown(read, checkout.ok_or_else(not_found)?)
}

/// What is answered for a checkout that there is not, and for one that the caller may not see.
pub(super) fn not_found() -> Error {
    Error::not_found("checkout.checkout_not_found", "there is no such checkout")
}

/// The same of one that was read.
pub(super) fn shown(read: &mut Read<'_>, checkout: Checkout) -> Result<CheckoutView> {
    let payment = match checkout.intent_id {
        Some(intent_id) => {
            let (status, action_url) = payments_api::status(read, intent_id)?;
            Some(CheckoutPayment { intent_id, status, action_url })
        }
        None => None,
    };
    Ok(with(checkout, payment))
}

/// The same when its payment is known.
pub(super) fn with(checkout: Checkout, payment: Option<CheckoutPayment>) -> CheckoutView {
    let order_id = (checkout.state == State::Completed).then(|| order_of(checkout.checkout_id));
    let agreed = checkout.agreed;
    CheckoutView {
        checkout_id: checkout.checkout_id,
        state: checkout.state,
        reason: Some(checkout.reason).filter(|reason| !reason.is_empty()),
        order_id,
        cart_id: checkout.cart.map(|(cart_id, _)| cart_id),
        email: checkout.email,
        currency: checkout.currency,
        total_minor: checkout.total_minor,
        totals: agreed.priced.totals,
        taxes: agreed.priced.taxes,
        lines: agreed.lines,
        shipping_method: agreed.shipping_method,
        payment,
        created_at: checkout.created_at,
        updated_at: checkout.updated_at,
        expires_at: checkout.expires_at,
        token: None,
        age_ms: None,
    }
}

/// Of the memory of all caches, in percent.
const MEMORY_PERCENT: u8 = 2;

/// A checkout that has ended, without its payment: where that stands is never remembered, and a checkout that is being paid is nothing else.
#[derive(Serialize, Deserialize)]
pub(super) struct Ended(CheckoutView);

/// Checkouts as they ended, for as long as the database is away.
pub(super) struct EndedCheckouts(pub Cache<(TenantId, CheckoutId), Ended>);

/// An ended checkout only changes by what is told of its payment.
pub(super) const CACHES: ModuleCaches = ModuleCaches {
    open,
    events: &["checkout.payment_lost", "checkout.payment_kept"],
    tags: |change: &Change| match (change.tenant, change.subject.parse::<CheckoutId>()) {
        (Some(tenant), Ok(checkout)) => Tags::of([tag(&(tenant, checkout))]),
        _ => Tags::NONE,
    },
    forget: |_, _| {},
    // Nothing is loaded ahead: only what was asked for is remembered.
    hot: |_, _| serde_json::Value::Null,
    warm: |_, _, _| Box::pin(std::future::ready(0)),
};

fn tag(key: &(TenantId, CheckoutId)) -> Tag {
    Tag::new("checkout", (key.0.as_i64(), key.1.as_i64()))
}

fn open(caches: &Caches) -> Result<Part> {
    let settings = Settings::standing_in::<Ended>("checkout.ended", MEMORY_PERCENT);
    Ok(Part::new(EndedCheckouts(Cache::new(caches, settings, |key| Tags::of([tag(key)]))?)))
}

impl Ended {
    /// What is kept of a checkout; nothing of one that has not ended.
    pub(super) fn of(shown: &CheckoutView) -> Option<Ended> {
        let kept =
            || CheckoutView { payment: None, reason: shown.reason.clone().filter(|_| shown.state == State::Failed), ..shown.clone() };
        (shown.state != State::Paying).then(|| Ended(kept()))
    }

    /// The checkout as it was then.
    pub(super) fn shown(&self, age_ms: u64) -> CheckoutView {
        CheckoutView { age_ms: Some(age_ms), ..self.0.clone() }
    }
}

impl Cached for Ended {
    type Class = Normal;

    fn bytes(&self) -> usize {
        let texts = |line: &NewLine| size_of_val(line) + line.description.len() + line.sku.len();
        size_of::<Self>() + self.0.lines.iter().map(texts).sum::<usize>() + self.0.taxes.len() * size_of::<TaxTotal>()
    }
}
