//! Reads. Each is bounded.

use crate::model::*;
use crate::routing::Policy;
use crate::sql;
use kernel::{Currency, Error, Result, Timestamp};
use serde::{Deserialize, Serialize};
use store::{FromRow, Read, Row};
use utoipa::ToSchema;

/// Up to `limit` payments of an order below `before`, the latest first.
pub(crate) fn intents_of_order(read: &mut Read<'_>, order_id: &str, before: IntentId, limit: i64) -> Result<Vec<Intent>> {
    read.all(sql::INTENTS_OF_ORDER, (order_id, before, limit))
}

/// An intent. Errors: `payments.intent_not_found`.
pub(crate) fn intent(read: &mut Read<'_>, intent_id: IntentId) -> Result<Intent> {
    let not_found = || Error::not_found("payments.intent_not_found", "there is no such payment");
    read.opt(sql::INTENT, (intent_id,))?.ok_or_else(not_found)
}

pub(crate) fn intents(read: &mut Read<'_>, before: IntentId, limit: i64) -> Result<Vec<Intent>> {
    read.all(sql::INTENTS_PAGE, (before, limit))
}

/// An operation of an intent. Errors: `internal`: who asks has it from its own saga.
pub(crate) fn operation(read: &mut Read<'_>, intent_id: IntentId, operation_id: OperationId) -> Result<Operation> {
    read.one(sql::OPERATION, (intent_id, operation_id))
}

/// A time that a provider was asked to authorise an intent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Attempt {
    /// From 1.
    pub attempt: i64,
    /// Who was asked.
    pub provider_id: ProviderId,
    /// `asking`, `authorized`, `requires_action`, `soft_decline`, `hard_decline`, `refused`, `outage`, `voided`, `expired` or `cancelled`.
    pub outcome: String,
    /// The provider's word.
    pub code: Option<String>,
    /// What the provider calls it.
    pub provider_charge: Option<String>,
    /// When it was asked.
    pub begun_at: Timestamp,
    /// When the outcome was known.
    pub ended_at: Option<Timestamp>,
}

impl FromRow for Attempt {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(Attempt {
            attempt: row.get(0)?,
            provider_id: row.get(1)?,
            outcome: row.get(2)?,
            code: row.get(3)?,
            provider_charge: row.get(4)?,
            begun_at: row.get(5)?,
            ended_at: row.get(6)?,
        })
    }
}

/// A payment as it is shown. The token of the card is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IntentView {
    /// Its id.
    pub intent_id: IntentId,
    /// Rises with each change.
    pub version: i64,
    /// Where it stands, in the few words that a customer needs.
    pub status: Status,
    /// Where it stands.
    pub state: State,
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
    /// What the provider kept.
    pub fee_minor: i64,
    /// How it is paid.
    pub method: MethodKind,
    /// When what is authorised is taken.
    pub capture: CaptureMode,
    /// The customer's country; empty when unknown.
    pub country: String,
    /// The merchant of the tenant; empty for the tenant itself.
    pub merchant: String,
    /// What the tenant calls it.
    pub external_ref: Option<String>,
    /// The order that it is for.
    pub order_id: Option<String>,
    /// The provider that is asked, or was.
    pub provider_id: Option<ProviderId>,
    /// What that provider calls it.
    pub provider_charge: Option<String>,
    /// Where the customer confirms, while that is wanted.
    pub action_url: Option<String>,
    /// Why it failed, in the provider's word.
    pub failure: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When the authorisation runs out.
    pub expires_at: Option<Timestamp>,
}

impl From<Intent> for IntentView {
    fn from(intent: Intent) -> Self {
        IntentView {
            status: intent.status(),
            intent_id: intent.intent_id,
            version: intent.version,
            state: intent.state,
            amount_minor: intent.amount_minor,
            currency: intent.currency,
            captured_minor: intent.captured_minor,
            capturing_minor: intent.capturing_minor,
            refunded_minor: intent.refunded_minor,
            refunding_minor: intent.refunding_minor,
            fee_minor: intent.fee_minor,
            method: intent.method,
            capture: intent.capture_mode,
            country: intent.country,
            merchant: intent.merchant,
            external_ref: intent.external_ref,
            order_id: intent.order_id,
            provider_id: intent.provider_id,
            provider_charge: intent.provider_charge,
            action_url: intent.action_url,
            failure: intent.failure,
            created_at: intent.created_at,
            updated_at: intent.updated_at,
            expires_at: intent.expires_at,
        }
    }
}

/// A payment with what was asked of providers for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IntentDetail {
    /// The payment.
    #[serde(flatten)]
    pub intent: IntentView,
    /// Who was asked to authorise it, in order.
    pub attempts: Vec<Attempt>,
    /// Captures, voids and refunds, in order.
    pub operations: Vec<Operation>,
}

pub(crate) fn detail(read: &mut Read<'_>, intent_id: IntentId) -> Result<IntentDetail> {
    let intent = intent(read, intent_id)?;
    let attempts = read.all(sql::ATTEMPTS, (intent_id,))?;
    let operations = read.all(sql::OPERATIONS, (intent_id,))?;
    Ok(IntentDetail { intent: intent.into(), attempts, operations })
}

/// A provider as it is stored; its secrets are sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Provider {
    pub provider_id: ProviderId,
    pub version: i64,
    pub name: String,
    pub kind: ProviderKind,
    pub base_url: String,
    pub sealed: Vec<u8>,
    pub honours_keys: bool,
    pub enabled: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl FromRow for Provider {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(Provider {
            provider_id: row.get(0)?,
            version: row.get(1)?,
            name: row.get(2)?,
            kind: row.get(3)?,
            base_url: row.get(4)?,
            sealed: row.get(5)?,
            honours_keys: row.get(6)?,
            enabled: row.get(7)?,
            created_at: row.get(8)?,
            updated_at: row.get(9)?,
        })
    }
}

/// A provider as it is shown: without its secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProviderView {
    /// Its id.
    pub provider_id: ProviderId,
    /// Rises with each change.
    pub version: i64,
    /// For people.
    pub name: String,
    /// Whose API it speaks.
    pub kind: ProviderKind,
    /// Where its API is.
    pub base_url: String,
    /// Whether it does a request once for one idempotency key.
    pub honours_keys: bool,
    /// Whether it is asked for new payments.
    pub enabled: bool,
    /// When it was set up.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl From<Provider> for ProviderView {
    fn from(provider: Provider) -> Self {
        ProviderView {
            provider_id: provider.provider_id,
            version: provider.version,
            name: provider.name,
            kind: provider.kind,
            base_url: provider.base_url,
            honours_keys: provider.honours_keys,
            enabled: provider.enabled,
            created_at: provider.created_at,
            updated_at: provider.updated_at,
        }
    }
}

/// A provider. Errors: `payments.provider_not_found`.
pub(crate) fn provider(read: &mut Read<'_>, provider_id: ProviderId) -> Result<Provider> {
    let not_found = || Error::not_found("payments.provider_not_found", "there is no such provider");
    read.opt(sql::PROVIDER, (provider_id,))?.ok_or_else(not_found)
}

pub(crate) fn providers(read: &mut Read<'_>) -> Result<Vec<ProviderView>> {
    Ok(read.all::<Provider>(sql::PROVIDERS, ())?.into_iter().map(ProviderView::from).collect())
}

/// The tenant's rules with their version; version 0 and none before any were set.
pub(crate) fn policy(read: &mut Read<'_>) -> Result<(i64, Policy)> {
    let Some((version, text)) = read.opt::<(i64, String)>(sql::POLICY, ())? else { return Ok((0, Policy::default())) };
    let policy = serde_json::from_str(&text).map_err(|e| Error::internal("a stored policy can't be read").caused_by(e))?;
    Ok((version, policy))
}

/// A stored method as it is shown: without its token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MethodView {
    /// Its id.
    pub method_id: MethodId,
    /// Whose it is, as the tenant names customers.
    pub customer: String,
    /// The provider whose token it is.
    pub provider_id: ProviderId,
    /// For the customer, such as `Visa ending in 4242`.
    pub label: String,
    /// When it was stored.
    pub created_at: Timestamp,
    /// When it was removed, if it was.
    pub removed_at: Option<Timestamp>,
}

/// A stored method with its token.
pub(crate) struct Method {
    pub view: MethodView,
    pub token: String,
}

impl FromRow for Method {
    fn from_row(row: &dyn Row) -> Result<Self> {
        let view = MethodView {
            method_id: row.get(0)?,
            customer: row.get(1)?,
            provider_id: row.get(2)?,
            label: row.get(3)?,
            created_at: row.get(4)?,
            removed_at: row.get(5)?,
        };
        Ok(Method { view, token: row.get(6)? })
    }
}

/// A stored method. Errors: `payments.method_not_found`.
pub(crate) fn method(read: &mut Read<'_>, method_id: MethodId) -> Result<Method> {
    read.opt(sql::METHOD, (method_id,))?.ok_or_else(method_not_found)
}

pub(crate) fn method_not_found() -> Error {
    Error::not_found("payments.method_not_found", "there is no such stored method")
}

pub(crate) fn methods(read: &mut Read<'_>, before: MethodId, limit: i64) -> Result<Vec<MethodView>> {
    Ok(read.all::<Method>(sql::METHODS_PAGE, (before, limit))?.into_iter().map(|method| method.view).collect())
}

/// What a person has to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Task {
    /// Its id.
    pub task_id: TaskId,
    /// The payment that it is about.
    pub intent_id: IntentId,
    /// `in_doubt`, `contradiction`, `stray_charge`, or `noted` by a person.
    pub kind: String,
    /// What is known.
    pub detail: String,
    /// Since when.
    pub opened_at: Timestamp,
    /// When somebody closed it.
    pub closed_at: Option<Timestamp>,
    /// What that person wrote.
    pub note: Option<String>,
}

impl FromRow for Task {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(Task {
            task_id: row.get(0)?,
            intent_id: row.get(1)?,
            kind: row.get(2)?,
            detail: row.get(3)?,
            opened_at: row.get(4)?,
            closed_at: row.get(5)?,
            note: row.get(6)?,
        })
    }
}

/// A task. Errors: `payments.task_not_found`.
pub(crate) fn task(read: &mut Read<'_>, task_id: TaskId) -> Result<Task> {
    read.opt(sql::TASK, (task_id,))?.ok_or_else(|| Error::not_found("payments.task_not_found", "there is no such task"))
}

pub(crate) fn tasks(read: &mut Read<'_>, before: TaskId, limit: i64) -> Result<Vec<Task>> {
    read.all(sql::TASKS_PAGE, (before, limit))
}
