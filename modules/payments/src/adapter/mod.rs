//! Providers behind one face: what is asked of them, what they say, and what that means. One file for each API that is spoken.

pub(crate) mod sandbox;
pub(crate) mod stripe;

use crate::model::{ProviderKind, Report};
use client::{Client, Failure, Method, Request, Response};
use kernel::{Currency, Error, Result, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What is asked of a provider. The reference is chosen before the call, stays the same when it is repeated, and is its idempotency key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub(crate) enum Order {
    /// The token stays out of what is written down: whoever may look at sagas may not see it.
    Authorize {
        reference: String,
        #[serde(skip)]
        token: String,
        amount_minor: i64,
        currency: Currency,
    },
    Capture {
        charge: String,
        reference: String,
        amount_minor: i64,
        currency: Currency,
        last: bool,
    },
    Void {
        charge: String,
        reference: String,
        /// Something was taken, and stays so: the rest is given up.
        #[serde(default)]
        rest: bool,
    },
    Refund {
        charge: String,
        reference: String,
        amount_minor: i64,
        currency: Currency,
    },
}

impl Order {
    /// Ours.
    pub(crate) fn reference(&self) -> &str {
        match self {
            Order::Authorize { reference, .. }
            | Order::Capture { reference, .. }
            | Order::Void { reference, .. }
            | Order::Refund { reference, .. } => reference,
        }
    }

    /// Whether the charge, as the provider shows it, tells that this was done.
    pub(crate) fn is_done_in(&self, charge: &Charge) -> bool {
        let listed = |movements: &[Movement], ours: &str, amount_minor: i64| {
            movements.iter().any(|m| m.reference == ours || (m.reference == ANY && m.amount_minor == amount_minor))
        };
        match self {
            Order::Authorize { .. } => charge.status != ChargeStatus::Processing,
            Order::Capture { reference, amount_minor, .. } => listed(&charge.captures, reference, *amount_minor),
            // What ran out or was declined needs no void any more.
            Order::Void { rest: true, .. } if charge.status == ChargeStatus::Captured => !charge.open,
            Order::Void { .. } => matches!(charge.status, ChargeStatus::Voided | ChargeStatus::Expired | ChargeStatus::Declined),
            Order::Refund { reference, amount_minor, .. } => listed(&charge.refunds, reference, *amount_minor),
        }
    }

    /// Whether the charge tells that the provider could not do this after all.
    pub(crate) fn has_failed_in(&self, charge: &Charge) -> bool {
        matches!(self, Order::Refund { reference, .. } if charge.failed_refunds.contains(reference))
    }
}

/// The reference of a movement at a provider that keeps none and allows only one: it is ours when its amount is.
pub(crate) const ANY: &str = "*";

/// For how long a key is counted on, in milliseconds: providers keep one for a day at least, and would do an older request anew.
const KEYS_MS: i64 = 23 * 3_600_000;

/// The code of a refund that was taken on and could not be done.
pub(crate) const REFUND_FAILED: &str = "refund_failed";

/// Where a charge stands at its provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ChargeStatus {
    Processing,
    RequiresAction,
    Authorized,
    Captured,
    Voided,
    Declined,
    Expired,
}

/// A capture or refund as the provider shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Movement {
    pub reference: String,
    pub amount_minor: i64,
    /// What the provider keeps, as far as it says.
    pub fee_minor: i64,
}

/// A charge as its provider shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Charge {
    pub id: String,
    pub reference: String,
    pub status: ChargeStatus,
    pub amount_minor: i64,
    pub action_url: Option<String>,
    /// For a declined one: the provider's word, and whether another provider may be asked.
    pub decline: Option<(String, bool)>,
    pub captured_minor: i64,
    pub refunded_minor: i64,
    /// Whether more can be captured.
    pub open: bool,
    /// Whether a dispute is open.
    pub disputed: bool,
    /// Whether one was won.
    #[serde(default)]
    pub dispute_won: bool,
    /// What was given back by disputes that were lost; not among the refunds.
    #[serde(default)]
    pub lost_minor: i64,
    pub captures: Vec<Movement>,
    pub refunds: Vec<Movement>,
    /// References of refunds that the provider had taken on, and could not do.
    #[serde(default)]
    pub failed_refunds: Vec<String>,
}

impl Charge {
    /// What it says of its intent besides amounts.
    pub(crate) fn report(&self) -> Option<Report> {
        match self.status {
            ChargeStatus::Processing => None,
            ChargeStatus::RequiresAction => Some(Report::ActionRequired),
            ChargeStatus::Authorized => Some(Report::Authorized),
            ChargeStatus::Captured if self.open => Some(Report::CapturedPart),
            ChargeStatus::Captured => Some(Report::CapturedAll),
            ChargeStatus::Voided => Some(Report::Voided),
            ChargeStatus::Declined => Some(Report::Declined),
            ChargeStatus::Expired => Some(Report::Expired),
        }
    }
}

/// What a provider said to an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "told", rename_all = "snake_case")]
pub(crate) enum Told {
    /// It was done, or declined: the charge as it is now.
    Charge { charge: Box<Charge> },
    /// It will not be done, and was not.
    Refused { code: String },
    /// It was certainly not done: the provider is away, or takes no requests now.
    Outage { why: String },
    /// It was certainly not done, by trouble of our own that says nothing of the provider.
    NotAsked { why: String },
    /// Nobody can tell.
    Unknown { why: String },
}

/// What became of a search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Charge(Box<Charge>),
    /// There is none with this reference, as far as the provider knows by now.
    Absent,
    Unknown(String),
}

/// What a callback is about, once its signature was found good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Callback {
    /// The same in every delivery of one event.
    pub event_id: String,
    /// The provider's name of the charge.
    pub charge: String,
}

/// A provider's secrets, opened. Never shown.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Secrets {
    pub api_key: String,
    /// One, or two while they rotate.
    pub webhook_secrets: Vec<String>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets")
    }
}

/// A provider that can be talked to.
#[derive(Clone)]
pub(crate) struct Adapter {
    pub kind: ProviderKind,
    /// Without a slash at its end.
    pub base_url: String,
    pub secrets: Secrets,
    /// Whether it does a request once for one idempotency key, so that repeating an unanswered one is safe.
    pub honours_keys: bool,
    pub client: Client,
}

impl Adapter {
    /// Calls it. A read is sent again when the policy says so; a write only when it was certainly not seen, whatever keys the provider
    /// honours: between two attempts it may be done, and then "too many requests" to the second would read as certainly not done.
    async fn send(&self, request: Request) -> std::result::Result<Response, Failure> {
        if request.method == Method::GET { self.client.send_repeatable(request).await } else { self.client.send(request).await }
    }

    /// Asks it to do something. `order.reference()` is the idempotency key.
    pub(crate) async fn perform(&self, order: &Order) -> Told {
        let told = match self.kind {
            ProviderKind::Sandbox => sandbox::perform(self, order).await,
            ProviderKind::Stripe => stripe::perform(self, order).await,
        };
        match (order, told) {
            // It may be refused because nothing is left to void: it ran out, or somebody voided it at the provider's own console.
            (Order::Void { charge, .. }, Told::Refused { code }) => match self.retrieve(charge).await {
                Found::Charge(charge) if order.is_done_in(&charge) => Told::Charge { charge },
                Found::Charge(_) => Told::Refused { code },
                Found::Absent => Told::Unknown { why: "the void was refused, and the charge is not shown".to_owned() },
                Found::Unknown(why) => Told::Unknown { why },
            },
            (_, told) => told,
        }
    }

    /// Looks for the charge that this order made or changed. `since` is when it was first asked for.
    pub(crate) async fn find(&self, order: &Order, since: Timestamp) -> Found {
        match order {
            Order::Authorize { reference, .. } => match self.kind {
                ProviderKind::Sandbox => sandbox::find(self, reference).await,
                ProviderKind::Stripe => stripe::find(self, reference, since).await,
            },
            Order::Capture { charge, .. } | Order::Void { charge, .. } | Order::Refund { charge, .. } => self.retrieve(charge).await,
        }
    }

    /// A charge by the provider's name for it.
    pub(crate) async fn retrieve(&self, charge: &str) -> Found {
        // It becomes part of a path: what is no name of a charge names none.
        if charge.is_empty() || charge.len() > 100 || !charge.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Found::Absent;
        }
        match self.kind {
            ProviderKind::Sandbox => sandbox::retrieve(self, charge).await,
            ProviderKind::Stripe => stripe::retrieve(self, charge).await,
        }
    }

    /// Learns what became of an order that was first asked for at `since` and whose answer is missing: asks, and repeats the order under the
    /// same key where that is safe.
    pub(crate) async fn resolve(&self, order: &Order, since: Timestamp, now: Timestamp) -> Told {
        match self.find(order, since).await {
            Found::Charge(charge) if order.has_failed_in(&charge) => Told::Refused { code: REFUND_FAILED.to_owned() },
            Found::Charge(charge) if order.is_done_in(&charge) => Told::Charge { charge },
            Found::Unknown(why) => Told::Unknown { why },
            Found::Charge(_) | Found::Absent if self.honours_keys && now.ms_since(since) < KEYS_MS => match self.perform(order).await {
                // It was under way once, and that nobody takes it now says nothing of that. A refusal does: it is the key's.
                Told::Outage { why } | Told::NotAsked { why } => Told::Unknown { why },
                told => told,
            },
            Found::Charge(_) | Found::Absent => Told::Unknown { why: "the provider doesn't know of it, or not yet".to_owned() },
        }
    }

    /// Checks a callback's signature and says what it is about; none for one that is about no charge.
    /// Errors: `payments.callback_malformed`, `payments.callback_out_of_time`, `payments.callback_forged`.
    pub(crate) fn callback(&self, header: &dyn Fn(&str) -> String, body: &[u8], now: Timestamp) -> Result<Option<Callback>> {
        match self.kind {
            ProviderKind::Sandbox => sandbox::callback(self, header, body, now),
            ProviderKind::Stripe => stripe::callback(self, header, body, now),
        }
    }
}

pub(crate) fn malformed() -> Error {
    Error::invalid("payments.callback_malformed", "not a callback of this provider's form")
}

pub(crate) fn out_of_time() -> Error {
    Error::invalid("payments.callback_out_of_time", "the callback's moment is more than five minutes from now: a replay, or a wrong clock")
}

pub(crate) fn forged() -> Error {
    Error::unauthenticated("payments.callback_forged", "the callback's signature is not that of a known secret")
}
