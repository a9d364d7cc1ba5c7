//! Intents: their states, what may be reported of them, and which report moves which state. Pure data and functions.

use crate::reconcile::RunId;
use kernel::{Currency, Entity, Error, Id, Result, Timestamp};
use serde::{Deserialize, Serialize};
use store::{FromRow, FromValue, Row, ToValue, Value, ValueRef};
use utoipa::ToSchema;

/// The largest amount of a payment, in minor units: 10^12 are more than any card bears.
pub const MAX_AMOUNT_MINOR: i64 = 1_000_000_000_000;

/// Marks intents' ids (`pay_...`).
pub enum IntentEntity {}

impl Entity for IntentEntity {
    const PREFIX: &'static str = "pay";
}

/// The id of an intent: what one customer is to pay once.
pub type IntentId = Id<IntentEntity>;

/// Marks operations' ids (`pop_...`).
pub enum OperationEntity {}

impl Entity for OperationEntity {
    const PREFIX: &'static str = "pop";
}

/// The id of an operation: a capture, void or refund.
pub type OperationId = Id<OperationEntity>;

/// Marks providers' ids (`psp_...`).
pub enum ProviderEntity {}

impl Entity for ProviderEntity {
    const PREFIX: &'static str = "psp";
}

/// The id of a provider that a tenant has set up.
pub type ProviderId = Id<ProviderEntity>;

/// Marks stored methods' ids (`pmt_...`).
pub enum MethodEntity {}

impl Entity for MethodEntity {
    const PREFIX: &'static str = "pmt";
}

/// The id of a stored method: a provider's token for a customer's card.
pub type MethodId = Id<MethodEntity>;

/// Marks the ids of tasks for people (`ptk_...`).
pub enum TaskEntity {}

impl Entity for TaskEntity {
    const PREFIX: &'static str = "ptk";
}

/// The id of a task.
pub type TaskId = Id<TaskEntity>;

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
    /// Where an intent stands.
    #[schema(as = PaymentState)]
    State {
        /// Nobody has been asked for money, or nobody has answered yet.
        Initiated = "initiated",
        /// The customer has to confirm at `action_url`.
        RequiresAction = "requires_action",
        /// The money is set aside at the provider.
        Authorized = "authorized",
        /// Some was taken, and more can be.
        PartlyCaptured = "partly_captured",
        /// What was to be taken was.
        Captured = "captured",
        /// Some was given back.
        PartlyRefunded = "partly_refunded",
        /// All was given back. Final.
        Refunded = "refunded",
        /// Nobody authorised it. Final.
        Failed = "failed",
        /// The authorisation was given up before anything was taken. Final.
        Reversed = "reversed",
        /// The authorisation, or the time to confirm, ran out. Final.
        Expired = "expired",
        /// The customer contests it.
        Disputed = "disputed",
    }
}

words! {
    /// What can be learnt of an intent, from whomever: the provider's answer, a query, a callback, our own clock.
    Report {
        /// The customer has to confirm.
        ActionRequired = "action_required",
        /// Authorised.
        Authorized = "authorized",
        /// Something was taken, and more can be.
        CapturedPart = "captured_part",
        /// What was to be taken was.
        CapturedAll = "captured_all",
        /// Some of it was given back.
        RefundedPart = "refunded_part",
        /// All of it was given back.
        RefundedAll = "refunded_all",
        /// Declined for good, or by everyone.
        Declined = "declined",
        /// The authorisation, or what was left of it, was given up.
        Voided = "voided",
        /// The authorisation, or what was left of it, ran out.
        Expired = "expired",
        /// The customer contests it.
        Disputed = "disputed",
        /// The dispute was won.
        DisputeWon = "dispute_won",
        /// The dispute was lost: the money went back.
        DisputeLost = "dispute_lost",
    }
}

/// What a report does to a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It moves there.
    To(State),
    /// Known, or overtaken: it stays, quietly.
    Stay,
    /// It contradicts what is known. The state stays, and a person is told.
    Clash,
}

/// The transitions, complete: a row for each state, a column for each report, in the order of their declarations. The tests hold the same
/// table in words.
const TABLE: [[Verdict; 12]; 11] = {
    use State::*;
    use Verdict::{Clash as X, Stay as S, To};
    [
        // act, authorised, part, all, refunded part, all, declined, voided, expired, disputed, won, lost
        [To(RequiresAction), To(Authorized), To(PartlyCaptured), To(Captured), X, X, To(Failed), To(Reversed), To(Expired), X, X, X],
        [S, To(Authorized), To(PartlyCaptured), To(Captured), X, X, To(Failed), To(Reversed), To(Expired), X, X, X],
        [S, S, To(PartlyCaptured), To(Captured), X, X, X, To(Reversed), To(Expired), X, X, X],
        [S, S, S, To(Captured), To(PartlyRefunded), To(Refunded), X, To(Captured), To(Captured), To(Disputed), S, To(Refunded)],
        [S, S, S, S, To(PartlyRefunded), To(Refunded), X, S, S, To(Disputed), S, To(Refunded)],
        [S, S, S, S, S, To(Refunded), X, S, S, To(Disputed), S, To(Refunded)],
        [S, S, S, S, S, S, X, S, S, X, S, S],
        [S, X, X, X, X, X, S, S, S, X, X, X],
        [S, S, X, X, X, X, S, S, S, X, X, X],
        [S, S, X, X, X, X, S, S, S, X, X, X],
        [S, S, S, S, S, To(Refunded), X, S, S, S, To(Captured), To(Refunded)],
    ]
};

/// What `report` does to `state`. A repeated report stays; a final state is never left.
pub fn verdict(state: State, report: Report) -> Verdict {
    TABLE[state as usize][report as usize]
}

impl State {
    /// Whether nothing moves it any more.
    pub const fn is_final(self) -> bool {
        matches!(self, State::Refunded | State::Failed | State::Reversed | State::Expired)
    }

    /// Whether money was taken.
    pub const fn is_paid(self) -> bool {
        matches!(self, State::PartlyCaptured | State::Captured | State::PartlyRefunded | State::Refunded | State::Disputed)
    }
}

words! {
    /// Where an intent stands, in the few words that a customer needs.
    #[schema(as = PaymentStatus)]
    Status {
        /// Nothing has been asked yet, or the customer has to act.
        Pending = "pending",
        /// It is under way.
        Processing = "processing",
        /// Paid.
        Succeeded = "succeeded",
        /// Not paid, for good.
        Failed = "failed",
        /// Paid, and a refund is under way.
        Refunding = "refunding",
        /// Paid, and some or all given back.
        Refunded = "refunded",
    }
}

/// The public status: of the detailed state, whether a provider is being asked, and whether a refund is under way.
pub fn public_status(state: State, asking: bool, refunding: bool) -> Status {
    match state {
        State::Initiated if asking => Status::Processing,
        State::Initiated | State::RequiresAction => Status::Pending,
        State::Authorized => Status::Processing,
        _ if refunding && state.is_paid() => Status::Refunding,
        State::PartlyCaptured | State::Captured | State::Disputed => Status::Succeeded,
        State::PartlyRefunded | State::Refunded => Status::Refunded,
        State::Failed | State::Reversed | State::Expired => Status::Failed,
    }
}

words! {
    /// When what was authorised is taken.
    CaptureMode {
        /// At once.
        Automatic = "automatic",
        /// When it is asked for, in one or several parts.
        Manual = "manual",
    }
}

words! {
    /// How a customer pays.
    MethodKind {
        /// A card, by a provider's token.
        Card = "card",
        /// A bank transfer. No adapter speaks to a provider that takes one: such a payment is refused.
        BankTransfer = "bank_transfer",
        /// A wallet. The same holds for it.
        Wallet = "wallet",
    }
}

words! {
    /// What is asked of a provider after the authorisation.
    OperationKind {
        /// Take money that is set aside.
        Capture = "capture",
        /// Let go of what is set aside.
        Void = "void",
        /// Give money back.
        Refund = "refund",
    }
}

words! {
    /// What became of an operation.
    OperationState {
        /// It is under way, or in doubt.
        Pending = "pending",
        /// The provider did it.
        Succeeded = "succeeded",
        /// The provider will not do it; nothing was moved.
        Failed = "failed",
    }
}

words! {
    /// Why something came about.
    Cause {
        /// Somebody asked for it.
        Request = "request",
        /// The provider's answer to what it was asked.
        Answer = "answer",
        /// A query, after an answer was missing.
        Query = "query",
        /// The provider's callback, and the query that it led to.
        Callback = "callback",
        /// Time ran out.
        Expiry = "expiry",
        /// No provider was left to ask.
        Routing = "routing",
        /// The customer won a dispute, and the provider gave back what was contested.
        Dispute = "dispute",
    }
}

words! {
    /// Which provider's API a provider speaks.
    ProviderKind {
        /// `brandos sandbox-psp`.
        Sandbox = "sandbox",
        /// Stripe's.
        Stripe = "stripe",
    }
}

/// The amounts of an intent, in minor units, each zero or more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// What is to be paid, and what is authorised once it is.
    pub amount_minor: i64,
    /// Taken, as the provider said.
    pub captured_minor: i64,
    /// Asked to be taken, without an answer yet.
    pub capturing_minor: i64,
    /// Given back, as the provider said.
    pub refunded_minor: i64,
    /// Asked to be given back, without an answer yet.
    pub refunding_minor: i64,
}

impl Amounts {
    /// What can still be captured.
    pub fn capturable(&self) -> i64 {
        self.amount_minor - self.captured_minor - self.capturing_minor
    }

    /// What can still be refunded.
    pub fn refundable(&self) -> i64 {
        self.captured_minor - self.refunded_minor - self.refunding_minor
    }
}

/// The guards of a capture, in this order: one named outcome each. `open` is whether the authorisation still is.
pub fn check_capture(state: State, open: bool, amounts: &Amounts, amount_minor: i64) -> Result<()> {
    if !open || !matches!(state, State::Authorized | State::PartlyCaptured | State::PartlyRefunded) {
        return Err(not_allowed(state, "captured"));
    }
    // Not every provider can say which of two captures it has done.
    if amounts.capturing_minor > 0 {
        return Err(capture_under_way());
    }
    check_amount("amount_minor", amount_minor)?;
    if amount_minor > amounts.capturable() {
        let detail = format!("at most {} minor units can still be captured", amounts.capturable());
        return Err(Error::failed_precondition("payments.capture_exceeds", detail));
    }
    Ok(())
}

/// The guards of a void: of an authorisation, or of what is left of one. `open` is whether more can be captured.
pub fn check_void(state: State, open: bool, amounts: &Amounts) -> Result<()> {
    let has_rest = open && matches!(state, State::PartlyCaptured | State::PartlyRefunded);
    if !has_rest && !matches!(state, State::RequiresAction | State::Authorized) {
        return Err(not_allowed(state, "voided"));
    }
    if amounts.capturing_minor > 0 {
        return Err(capture_under_way());
    }
    Ok(())
}

fn capture_under_way() -> Error {
    Error::failed_precondition("payments.capture_under_way", "a capture is under way; wait for its outcome")
}

/// The guards of a refund. The ledger has the last word on the amount.
pub fn check_refund(state: State, amounts: &Amounts, amount_minor: i64) -> Result<()> {
    if !state.is_paid() || state == State::Refunded {
        return Err(not_allowed(state, "refunded"));
    }
    check_amount("amount_minor", amount_minor)?;
    if amount_minor > amounts.refundable() {
        return Err(refund_exceeds(amounts.refundable()));
    }
    Ok(())
}

/// A refund of more than is left.
pub(crate) fn refund_exceeds(left: i64) -> Error {
    Error::failed_precondition("payments.refund_exceeds", format!("at most {left} minor units can still be refunded"))
}

fn not_allowed(state: State, done: &str) -> Error {
    Error::failed_precondition("payments.not_allowed", format!("a payment that is {} can't be {done}", state.as_str()))
}

/// Between one minor unit and [`MAX_AMOUNT_MINOR`]. Errors: `request.invalid`.
pub fn check_amount(field: &str, amount_minor: i64) -> Result<()> {
    if (1..=MAX_AMOUNT_MINOR).contains(&amount_minor) {
        return Ok(());
    }
    Err(Error::field(field, "out_of_range", format!("an amount is between 1 and {MAX_AMOUNT_MINOR} minor units")))
}

/// What is to be paid, as routing sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// How.
    pub method: MethodKind,
    /// How much, in minor units.
    pub amount_minor: i64,
    /// In which currency.
    pub currency: Currency,
    /// The customer's country, ISO 3166 alpha-2; empty when unknown.
    pub country: String,
    /// For which merchant of the tenant; empty for the tenant itself.
    pub merchant: String,
}

/// An intent as it is stored and shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Its id.
    pub intent_id: IntentId,
    /// Rises with each change.
    pub version: i64,
    /// Where it stands.
    pub state: State,
    /// Whether a provider is being asked to authorise it.
    pub asking: bool,
    /// Whether more can be captured.
    pub capture_open: bool,
    /// What is to be paid, in minor units of `currency`.
    pub amount_minor: i64,
    /// Its currency.
    pub currency: Currency,
    /// Taken so far.
    pub captured_minor: i64,
    /// Being taken.
    pub capturing_minor: i64,
    /// Given back so far.
    pub refunded_minor: i64,
    /// Being given back.
    pub refunding_minor: i64,
    /// What providers kept.
    pub fee_minor: i64,
    /// How it is paid.
    pub method: MethodKind,
    /// When what is authorised is taken.
    pub capture_mode: CaptureMode,
    /// The customer's country; empty when unknown.
    pub country: String,
    /// The merchant of the tenant; empty for the tenant itself.
    pub merchant: String,
    /// What the tenant calls it, such as an order's id; unique for the tenant.
    pub external_ref: Option<String>,
    /// The order that it is for, as the tenant's shop names it.
    pub order_id: Option<String>,
    /// The provider's token of the card, from its confirmation until the outcome of its authorisation is known; never shown, nor kept with
    /// the answer of a request.
    #[serde(skip)]
    pub token: String,
    /// The provider that the token belongs to, when it belongs to one.
    pub token_provider: Option<ProviderId>,
    /// The stored method that it is paid with, when it is.
    #[serde(default)]
    pub method_id: Option<MethodId>,
    /// The provider that is asked, or was.
    pub provider_id: Option<ProviderId>,
    /// What that provider calls it.
    pub provider_charge: Option<String>,
    /// How many providers have been asked, and how often.
    pub attempt: i64,
    /// Where the customer confirms.
    pub action_url: Option<String>,
    /// Why it failed, in the provider's word.
    pub failure: Option<String>,
    /// The ledger's hold.
    pub hold_id: Option<i64>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When the authorisation runs out.
    pub expires_at: Option<Timestamp>,
}

impl FromRow for Intent {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(Intent {
            intent_id: row.get(0)?,
            version: row.get(1)?,
            state: row.get(2)?,
            asking: row.get(3)?,
            capture_open: row.get(4)?,
            amount_minor: row.get(5)?,
            currency: row.get(6)?,
            captured_minor: row.get(7)?,
            capturing_minor: row.get(8)?,
            refunded_minor: row.get(9)?,
            refunding_minor: row.get(10)?,
            fee_minor: row.get(11)?,
            method: row.get(12)?,
            capture_mode: row.get(13)?,
            country: row.get(14)?,
            merchant: row.get(15)?,
            external_ref: row.get(16)?,
            token: row.get(17)?,
            token_provider: row.get(18)?,
            provider_id: row.get(19)?,
            provider_charge: row.get(20)?,
            attempt: row.get(21)?,
            action_url: row.get(22)?,
            failure: row.get(23)?,
            hold_id: row.get(24)?,
            created_at: row.get(25)?,
            updated_at: row.get(26)?,
            expires_at: row.get(27)?,
            order_id: row.get(28)?,
            method_id: row.get(29)?,
        })
    }
}

/// A capture, void or refund as it is stored and shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Operation {
    /// Its id; the provider knows it by this.
    pub operation_id: OperationId,
    /// What was asked.
    pub kind: OperationKind,
    /// What became of it.
    pub state: OperationState,
    /// In minor units; 0 for a void.
    pub amount_minor: i64,
    /// What the provider kept of a capture, in minor units.
    pub fee_minor: i64,
    /// Whether nothing is to be captured after it.
    pub last: bool,
    /// Why it came about.
    pub cause: Cause,
    /// For people.
    pub reason: String,
    /// Why it failed, in the provider's word.
    pub code: Option<String>,
    /// When it was asked for.
    pub begun_at: Timestamp,
    /// When its outcome was known.
    pub ended_at: Option<Timestamp>,
    /// The reconciliation that found it in the provider's settlement file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled_run: Option<RunId>,
}

impl FromRow for Operation {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(Operation {
            operation_id: row.get(0)?,
            kind: row.get(1)?,
            state: row.get(2)?,
            amount_minor: row.get(3)?,
            fee_minor: row.get(4)?,
            last: row.get(5)?,
            cause: row.get(6)?,
            reason: row.get(7)?,
            code: row.get(8)?,
            begun_at: row.get(9)?,
            ended_at: row.get(10)?,
            settled_run: row.get(11)?,
        })
    }
}

impl Intent {
    /// Its amounts.
    pub fn amounts(&self) -> Amounts {
        Amounts {
            amount_minor: self.amount_minor,
            captured_minor: self.captured_minor,
            capturing_minor: self.capturing_minor,
            refunded_minor: self.refunded_minor,
            refunding_minor: self.refunding_minor,
        }
    }

    /// Its public status.
    pub fn status(&self) -> Status {
        public_status(self.state, self.asking, self.refunding_minor > 0)
    }

    /// Whether all that was taken is given back, and nothing more will be taken.
    pub(crate) fn is_all_back(&self) -> bool {
        self.refunded_minor == self.captured_minor && !self.capture_open && self.capturing_minor == 0
    }

    /// As routing sees it.
    pub fn ask(&self) -> Ask {
        Ask {
            method: self.method,
            amount_minor: self.amount_minor,
            currency: self.currency,
            country: self.country.clone(),
            merchant: self.merchant.clone(),
        }
    }

    /// What the provider is to know this attempt by. It is chosen before the call, and never used twice.
    pub fn reference(&self) -> String {
        format!("{}-{}", self.intent_id, self.attempt)
    }
}

/// The intent and the attempt in a reference of [`Intent::reference`].
pub fn intent_of(reference: &str) -> Option<(IntentId, i64)> {
    let (intent, attempt) = reference.split_once('-')?;
    Some((intent.parse().ok()?, attempt.parse().ok()?))
}
