//! Commands: load, decide, write, emit. Each runs in one transaction and may be run again.

use crate::adapter::{Charge, ChargeStatus};
use crate::model::*;
use crate::routing::Policy;
use crate::workflows::{self, Answer};
use crate::{adapter, books, known, merchants, queries, sql};
use kernel::{Currency, Error, Result, Timestamp};
use serde::{Deserialize, Serialize};
use store::{NewEvent, Tx};
use web::IfMatch;

/// Operations of one intent.
const MAX_OPERATIONS: i64 = 500;
/// How long a callback is known again, in milliseconds: ninety days, more than any provider repeats one.
const KEEP_CALLBACKS_MS: i64 = 90 * 86_400_000;

/// Payload of every event about a payment.
#[derive(Serialize)]
struct PaymentEvent<'a> {
    intent_id: IntentId,
    version: i64,
    state: State,
    status: Status,
    currency: Currency,
    amount_minor: i64,
    captured_minor: i64,
    refunded_minor: i64,
    fee_minor: i64,
    external_ref: &'a Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order_id: &'a Option<String>,
    merchant: &'a str,
    provider_id: Option<ProviderId>,
    cause: Cause,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: &'a Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<&'a Operation>,
}

fn emit(tx: &mut Tx<'_>, kind: &'static str, intent: &Intent, cause: Cause, operation: Option<&Operation>) {
    let payload = PaymentEvent {
        intent_id: intent.intent_id,
        version: intent.version,
        state: intent.state,
        status: intent.status(),
        currency: intent.currency,
        amount_minor: intent.amount_minor,
        captured_minor: intent.captured_minor,
        refunded_minor: intent.refunded_minor,
        fee_minor: intent.fee_minor,
        external_ref: &intent.external_ref,
        order_id: &intent.order_id,
        merchant: &intent.merchant,
        provider_id: intent.provider_id,
        cause,
        failure: &intent.failure,
        operation,
    };
    tx.emit(NewEvent::new(kind, 1, intent.intent_id, &payload));
}

/// The event that tells of a state.
fn event_of(state: State) -> &'static str {
    match state {
        State::Initiated => "payment.initiated",
        State::RequiresAction => "payment.requires_action",
        State::Authorized => "payment.authorized",
        State::PartlyCaptured | State::Captured => "payment.captured",
        State::PartlyRefunded | State::Refunded => "payment.refunded",
        State::Failed => "payment.failed",
        State::Reversed => "payment.voided",
        State::Expired => "payment.expired",
        State::Disputed => "payment.disputed",
    }
}

/// Writes an intent under its next version.
pub(crate) fn save(tx: &mut Tx<'_>, intent: &mut Intent) -> Result<()> {
    let read = intent.version;
    intent.version += 1;
    intent.updated_at = tx.now();
    let i = &*intent;
    let args = (
        i.intent_id,
        read,
        i.version,
        i.state,
        i.asking,
        i.capture_open,
        i.captured_minor,
        i.capturing_minor,
        i.refunded_minor,
        i.refunding_minor,
        i.fee_minor,
        &i.token,
        i.token_provider,
        i.provider_id,
        &i.provider_charge,
        i.attempt,
        &i.action_url,
        &i.failure,
        i.hold_id,
        i.updated_at,
        i.expires_at,
        i.method_id,
    );
    tx.must(sql::UPDATE_INTENT, args, || Error::internal("a payment was changed by two commands at once"))
}

/// Moves the intent as a report says, saves it, and tells of it. What is known already changes nothing; what contradicts becomes a task.
/// Says whether it moved.
pub(crate) fn hear(tx: &mut Tx<'_>, intent: &mut Intent, report: Report, cause: Cause) -> Result<bool> {
    match verdict(intent.state, report) {
        Verdict::To(state) => {
            intent.state = state;
            save(tx, intent)?;
            emit(tx, event_of(state), intent, cause, None);
            Ok(true)
        }
        Verdict::Stay => {
            save(tx, intent)?;
            Ok(false)
        }
        Verdict::Clash => {
            save(tx, intent)?;
            let detail = format!("the payment is {}, and by {} it was told {}", intent.state.as_str(), cause.as_str(), report.as_str());
            open_task(tx, intent, "contradiction", &detail, cause)?;
            Ok(false)
        }
    }
}

/// Opens a task for people, unless one of its kind is open for this intent.
pub(crate) fn open_task(tx: &mut Tx<'_>, intent: &Intent, kind: &'static str, detail: &str, cause: Cause) -> Result<()> {
    let (task_id, now) = (tx.new_id::<TaskEntity>(), tx.now());
    tx.exec(sql::OPEN_TASK, (intent.intent_id, kind, task_id))?;
    tx.exec(sql::INSERT_TASK, (intent.intent_id, kind, task_id, detail, now))?;
    tracing::warn!(intent = %intent.intent_id, kind, detail, "a payment needs a person");
    emit(tx, "payment.needs_attention", intent, cause, None);
    Ok(())
}

/// What a customer is to pay.
#[derive(Clone, Debug)]
pub(crate) struct NewIntent {
    pub amount_minor: i64,
    pub currency: Currency,
    pub method: MethodKind,
    pub capture_mode: CaptureMode,
    pub country: String,
    pub merchant: String,
    pub external_ref: Option<String>,
    pub order_id: Option<String>,
    pub pay_with: Option<PayWith>,
    /// Ask a provider at once.
    pub confirm: bool,
}

/// What it is paid with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PayWith {
    /// A provider's token, and whose it is when it is not every provider's.
    Token(String, Option<ProviderId>),
    /// A stored method.
    Stored(MethodId),
}

/// The token, whose it is, and the stored method that it is of.
fn token(tx: &mut Tx<'_>, pay_with: &PayWith) -> Result<(String, Option<ProviderId>, Option<MethodId>)> {
    match pay_with {
        PayWith::Token(token, provider) => {
            if let Some(provider_id) = provider {
                queries::provider(tx, *provider_id)?;
            }
            Ok((token.clone(), *provider, None))
        }
        PayWith::Stored(method_id) => {
            let method = queries::method(tx, *method_id)?;
            if method.view.removed_at.is_some() {
                return Err(Error::failed_precondition("payments.method_removed", "this stored method was removed"));
            }
            Ok((method.token, Some(method.view.provider_id), Some(*method_id)))
        }
    }
}

/// Writes an intent down and, if asked to, confirms it. Errors: `payments.external_ref_taken`, `payments.method_not_found`,
/// `payments.method_removed`, `payments.provider_not_found`, `payments.token_required`; when it is confirmed, the ledger's, where the
/// provider's accounts can't hold the money.
pub(crate) fn create(tx: &mut Tx<'_>, new: &NewIntent) -> Result<Intent> {
    let (mut token, token_provider, method_id) = match &new.pay_with {
        Some(pay_with) => token(tx, pay_with)?,
        None if new.confirm => return Err(token_required()),
        None => (String::new(), None, None),
    };
    // A stored method may be removed before anybody asks: its token is read when that is confirmed.
    if method_id.is_some() && !new.confirm {
        token.clear();
    }
    let intent_id: IntentId = tx.new_id();
    let now = tx.now();
    if let Some(external_ref) = &new.external_ref {
        let taken = || Error::conflict("payments.external_ref_taken", "another payment has this external reference");
        tx.must(sql::INSERT_REF, (external_ref, intent_id), taken)?;
    }
    let mut intent = Intent {
        intent_id,
        version: 1,
        state: State::Initiated,
        asking: new.confirm,
        capture_open: false,
        amount_minor: new.amount_minor,
        currency: new.currency,
        captured_minor: 0,
        capturing_minor: 0,
        refunded_minor: 0,
        refunding_minor: 0,
        fee_minor: 0,
        method: new.method,
        capture_mode: new.capture_mode,
        country: new.country.clone(),
        merchant: new.merchant.clone(),
        external_ref: new.external_ref.clone(),
        order_id: new.order_id.clone(),
        token,
        token_provider,
        method_id,
        provider_id: None,
        provider_charge: None,
        attempt: 0,
        action_url: None,
        failure: None,
        hold_id: None,
        created_at: now,
        updated_at: now,
        expires_at: None,
    };
    let first = if new.confirm { workflows::first_attempt(tx, &mut intent)? } else { None };
    let i = &intent;
    let args = (
        i.intent_id,
        i.asking,
        i.amount_minor,
        i.currency,
        i.method,
        i.capture_mode,
        &i.country,
        &i.merchant,
        &i.external_ref,
        &i.token,
        i.token_provider,
        now,
        &i.order_id,
        i.method_id,
        i.provider_id,
        i.attempt,
        i.hold_id,
    );
    tx.exec(sql::INSERT_INTENT, args)?;
    if let Some(order_id) = &intent.order_id {
        tx.exec(sql::INSERT_OF_ORDER, (order_id, intent_id))?;
    }
    emit(tx, "payment.initiated", &intent, Cause::Request, None);
    if new.confirm {
        workflows::begin_authorization(tx, &intent, first)?;
    }
    Ok(intent)
}

fn token_required() -> Error {
    Error::failed_precondition("payments.token_required", "say what it is paid with: a provider's token or a stored method")
}

/// Asks for an intent's money.
#[derive(Clone, Debug)]
pub(crate) struct Confirm {
    pub intent_id: IntentId,
    pub pay_with: Option<PayWith>,
}

/// Begins to ask a provider. Quietly the same when that has begun. Errors: `payments.intent_not_found`, `payments.not_allowed` when it
/// has failed, `payments.token_required`, those of stored methods, and the ledger's, where the provider's accounts can't hold the money.
pub(crate) fn confirm(tx: &mut Tx<'_>, confirm: &Confirm) -> Result<Intent> {
    let mut intent = queries::intent(tx, confirm.intent_id)?;
    if intent.asking || !matches!(intent.state, State::Initiated) {
        if matches!(intent.state, State::Failed | State::Reversed | State::Expired) {
            let detail = format!("a payment that is {} can't be confirmed; make a new one", intent.state.as_str());
            return Err(Error::failed_precondition("payments.not_allowed", detail));
        }
        return Ok(intent);
    }
    let stored = intent.method_id.map(PayWith::Stored);
    if let Some(pay_with) = confirm.pay_with.as_ref().or(stored.as_ref()) {
        (intent.token, intent.token_provider, intent.method_id) = token(tx, pay_with)?;
    }
    if intent.token.is_empty() {
        return Err(token_required());
    }
    intent.asking = true;
    let first = workflows::first_attempt(tx, &mut intent)?;
    save(tx, &mut intent)?;
    workflows::begin_authorization(tx, &intent, first)?;
    Ok(intent)
}

/// A capture, void or refund that somebody asks for.
#[derive(Clone, Debug)]
pub(crate) struct Operate {
    pub intent_id: IntentId,
    pub kind: OperationKind,
    /// None for all that is left.
    pub amount_minor: Option<i64>,
    /// Of a capture: nothing is to be captured after it.
    pub last: bool,
    pub reason: String,
}

/// Writes an operation down and begins to ask the provider. A void of what is void already succeeds quietly.
/// Errors: `payments.intent_not_found`, `payments.not_allowed`, `payments.capture_exceeds`, `payments.capture_under_way`,
/// `payments.void_under_way`, `payments.refund_exceeds`, `payments.too_many_operations`.
pub(crate) fn operate(tx: &mut Tx<'_>, operate: &Operate) -> Result<Intent> {
    let mut intent = queries::intent(tx, operate.intent_id)?;
    match operate.kind {
        OperationKind::Capture => {
            let amount_minor = operate.amount_minor.unwrap_or_else(|| intent.amounts().capturable());
            check_capture(intent.state, intent.capture_open, &intent.amounts(), amount_minor)?;
            if is_voiding(tx, intent.intent_id)? {
                return Err(Error::failed_precondition("payments.void_under_way", "a void is under way; wait for its outcome"));
            }
            begin(tx, &mut intent, operate.kind, amount_minor, operate.last, Cause::Request, &operate.reason)?;
        }
        OperationKind::Void => {
            if matches!(intent.state, State::Reversed | State::Expired) {
                return Ok(intent);
            }
            if intent.state == State::Initiated && !intent.asking {
                hear(tx, &mut intent, Report::Voided, Cause::Request)?;
                return Ok(intent);
            }
            check_void(intent.state, intent.capture_open, &intent.amounts())?;
            void(tx, &mut intent, Cause::Request, &operate.reason)?;
        }
        OperationKind::Refund => {
            let amount_minor = operate.amount_minor.unwrap_or_else(|| intent.amounts().refundable());
            check_refund(intent.state, &intent.amounts(), amount_minor)?;
            begin(tx, &mut intent, operate.kind, amount_minor, false, Cause::Request, &operate.reason)?;
        }
    }
    Ok(intent)
}

/// Begins a void, unless one is under way.
pub(crate) fn void(tx: &mut Tx<'_>, intent: &mut Intent, cause: Cause, reason: &str) -> Result<()> {
    if is_voiding(tx, intent.intent_id)? {
        return Ok(());
    }
    begin(tx, intent, OperationKind::Void, 0, true, cause, reason)
}

/// Whether a void is under way.
pub(crate) fn is_voiding(tx: &mut Tx<'_>, intent_id: IntentId) -> Result<bool> {
    let pending: Vec<Operation> = tx.all(sql::PENDING_OPERATIONS, (intent_id,))?;
    Ok(pending.iter().any(|operation| operation.kind == OperationKind::Void))
}

/// Writes an operation down, reserves its amount, and starts its saga.
pub(crate) fn begin(
    tx: &mut Tx<'_>,
    intent: &mut Intent,
    kind: OperationKind,
    amount_minor: i64,
    last: bool,
    cause: Cause,
    reason: &str,
) -> Result<()> {
    let operation = reserve(tx, intent, kind, amount_minor, last, cause, reason)?;
    save(tx, intent)?;
    workflows::begin_operation(tx, intent, &operation)
}

/// Writes an operation down and reserves its amount; whoever saves the intent after it starts its saga.
pub(crate) fn reserve(
    tx: &mut Tx<'_>,
    intent: &mut Intent,
    kind: OperationKind,
    amount_minor: i64,
    last: bool,
    cause: Cause,
    reason: &str,
) -> Result<Operation> {
    let (count,) = tx.one::<(i64,)>(sql::OPERATION_COUNT, (intent.intent_id,))?;
    if count >= MAX_OPERATIONS {
        let detail = format!("a payment has at most {MAX_OPERATIONS} captures, voids and refunds");
        return Err(Error::failed_precondition("payments.too_many_operations", detail));
    }
    let operation_id: OperationId = tx.new_id();
    let now = tx.now();
    match kind {
        OperationKind::Capture => intent.capturing_minor += amount_minor,
        OperationKind::Refund => {
            books::refund(tx, intent, &operation_id.to_string(), amount_minor)?;
            intent.refunding_minor += amount_minor;
        }
        OperationKind::Void => {}
    }
    tx.exec(sql::INSERT_OPERATION, (intent.intent_id, operation_id, kind, amount_minor, last, cause, reason, now, intent.provider_id))?;
    Ok(Operation {
        operation_id,
        kind,
        state: OperationState::Pending,
        amount_minor,
        fee_minor: 0,
        last,
        cause,
        reason: reason.to_owned(),
        code: None,
        begun_at: now,
        ended_at: None,
        settled_run: None,
    })
}

/// The provider has done an operation: its charge shows it.
pub(crate) fn operation_done(tx: &mut Tx<'_>, intent: &mut Intent, operation: &Operation, charge: &Charge, cause: Cause) -> Result<()> {
    if operation.state != OperationState::Pending {
        return Ok(());
    }
    let name = operation.operation_id.to_string();
    let mut done = Operation { state: OperationState::Succeeded, ended_at: Some(tx.now()), ..operation.clone() };
    let report = match operation.kind {
        OperationKind::Capture => {
            let movement = charge.captures.iter().find(|m| m.reference == name || m.reference == adapter::ANY);
            // A provider that keeps more than it took is not believed.
            done.fee_minor = movement.map_or(0, |m| m.fee_minor).clamp(0, operation.amount_minor);
            intent.capturing_minor -= operation.amount_minor;
            intent.captured_minor += operation.amount_minor;
            intent.fee_minor += done.fee_minor;
            let last = operation.last || intent.captured_minor == intent.amount_minor || !charge.open;
            intent.capture_open = intent.capture_open && !last;
            books::capture(tx, intent, &name, operation.amount_minor, done.fee_minor, last)?;
            if last { Report::CapturedAll } else { Report::CapturedPart }
        }
        OperationKind::Void => {
            intent.capture_open = false;
            books::release(tx, intent)?;
            if let Some((code, _)) = &charge.decline {
                intent.failure = Some(short(code));
            }
            match charge.status {
                _ if intent.captured_minor > 0 && intent.is_all_back() => Report::RefundedAll,
                _ if intent.captured_minor > 0 => Report::Voided,
                ChargeStatus::Declined => Report::Declined,
                ChargeStatus::Expired => Report::Expired,
                _ if operation.cause == Cause::Expiry => Report::Expired,
                _ => Report::Voided,
            }
        }
        OperationKind::Refund => {
            intent.refunding_minor -= operation.amount_minor;
            intent.refunded_minor += operation.amount_minor;
            if intent.is_all_back() { Report::RefundedAll } else { Report::RefundedPart }
        }
    };
    end_operation(tx, intent, &done)?;
    merchants::note_operation(tx, intent, &done)?;
    if let Verdict::To(state) = verdict(intent.state, report) {
        intent.state = state;
    } else if verdict(intent.state, report) == Verdict::Clash {
        let detail = format!("the payment is {}, and its {} was done", intent.state.as_str(), operation.kind.as_str());
        open_task(tx, intent, "contradiction", &detail, cause)?;
    }
    save(tx, intent)?;
    let kind = match operation.kind {
        OperationKind::Capture => "payment.captured",
        OperationKind::Void => event_of(intent.state),
        OperationKind::Refund => "payment.refunded",
    };
    emit(tx, kind, intent, cause, Some(&done));
    Ok(())
}

/// The provider will not do an operation: what was reserved for it is free again.
pub(crate) fn operation_failed(tx: &mut Tx<'_>, intent: &mut Intent, operation: &Operation, code: &str, cause: Cause) -> Result<()> {
    if operation.state != OperationState::Pending {
        return Ok(());
    }
    match operation.kind {
        OperationKind::Capture => intent.capturing_minor -= operation.amount_minor,
        OperationKind::Refund => {
            intent.refunding_minor -= operation.amount_minor;
            books::refund_failed(tx, intent, &operation.operation_id.to_string(), operation.amount_minor)?;
        }
        OperationKind::Void => {}
    }
    let failed = Operation { state: OperationState::Failed, code: Some(short(code)), ended_at: Some(tx.now()), ..operation.clone() };
    end_operation(tx, intent, &failed)?;
    save(tx, intent)?;
    emit(tx, "payment.operation_failed", intent, cause, Some(&failed));
    if operation.kind == OperationKind::Void {
        // The money is still held, and nothing of ours lets go of it any more.
        let detail = format!("the payment is {}, and its provider did not give it up: {code}", intent.state.as_str());
        open_task(tx, intent, "contradiction", &detail, cause)?;
    }
    match intent.expires_at.filter(|_| operation.kind == OperationKind::Capture && intent.capture_open) {
        Some(at) => workflows::begin_expiry(tx, intent.intent_id, at),
        None => Ok(()),
    }
}

fn end_operation(tx: &mut Tx<'_>, intent: &Intent, ended: &Operation) -> Result<()> {
    let args = (intent.intent_id, ended.operation_id, ended.state, ended.fee_minor, &ended.code, ended.ended_at);
    tx.must(sql::END_OPERATION, args, || Error::internal("an operation ended twice"))
}

/// A provider's word, bounded.
pub(crate) fn short(code: &str) -> String {
    code.chars().take(100).collect()
}

/// What a callback led to: the charge as its provider shows it when asked.
#[derive(Clone, Debug)]
pub(crate) struct Observe {
    pub provider_id: ProviderId,
    pub event_id: String,
    pub charge: Charge,
}

/// Takes in what a query after a callback showed. Whatever waits for it hears it; what is known already changes nothing.
pub(crate) fn observe(tx: &mut Tx<'_>, observed: &Observe) -> Result<()> {
    let now = tx.now();
    // Two for each that comes: what is kept shrinks to what is young. A callback so old is refused by its timestamp.
    tx.exec(sql::FORGET_CALLBACKS, (now.plus_ms(-KEEP_CALLBACKS_MS), 2_i64))?;
    let charge = &observed.charge;
    let Some((intent_id, attempt)) = intent_of(&charge.reference) else {
        return tx.exec(sql::INSERT_CALLBACK, (observed.provider_id, &observed.event_id, now));
    };
    let Some(mut intent) = tx.opt::<Intent>(sql::INTENT, (intent_id,))? else {
        return tx.exec(sql::INSERT_CALLBACK, (observed.provider_id, &observed.event_id, now));
    };
    let pending: Vec<Operation> = tx.all(sql::PENDING_OPERATIONS, (intent_id,))?;
    tx.exec(sql::INSERT_CALLBACK, (observed.provider_id, &observed.event_id, now))?;
    let current = attempt == intent.attempt && intent.provider_id == Some(observed.provider_id);
    if !current || intent.provider_charge.as_ref().is_some_and(|known| *known != charge.id) {
        // Another attempt's charge. It matters only if it holds money that we don't know of.
        if matches!(charge.status, ChargeStatus::Authorized | ChargeStatus::Captured) {
            let detail = format!(
                "{} holds {} minor units as {}, which no attempt of ours knows",
                observed.provider_id, charge.amount_minor, charge.id
            );
            open_task(tx, &intent, "stray_charge", &detail, Cause::Callback)?;
        }
        return Ok(());
    }
    let answer = Answer::charge(charge.clone(), Cause::Callback);
    if intent.asking || intent.state == State::RequiresAction {
        return workflows::report_authorization(tx, &intent, &answer);
    }
    for operation in &pending {
        if workflows::order(&intent, operation)?.is_done_in(charge) {
            workflows::report_operation(tx, intent_id, operation.operation_id, &answer)?;
        }
    }
    let beyond_minor = contested(tx, &mut intent, charge)?;
    failed_refunds(tx, &intent, charge)?;
    // What is asked of a provider is counted before it is asked, so it can't have done more than that by our word.
    let captured = charge.captured_minor > intent.captured_minor + intent.capturing_minor;
    let back_minor = charge.refunded_minor + charge.lost_minor;
    if captured || beyond_minor > 0 || back_minor > intent.refunded_minor + intent.refunding_minor {
        let detail = format!("the provider took {} and gave back {back_minor} minor units, more than was asked", charge.captured_minor);
        open_task(tx, &intent, "contradiction", &detail, Cause::Callback)?;
    }
    // A payment that came to nothing holds no money.
    if charge.status == ChargeStatus::Authorized && verdict(intent.state, Report::Authorized) == Verdict::Clash {
        hear(tx, &mut intent, Report::Authorized, Cause::Callback)?;
    }
    // The provider let go of it by itself, or somebody did at its own console.
    let over = matches!(charge.status, ChargeStatus::Voided | ChargeStatus::Expired | ChargeStatus::Declined);
    if let (true, true, Some(report)) = (over, pending.is_empty() && !intent.state.is_final(), charge.report()) {
        if intent.state == State::Authorized && report != Report::Declined {
            books::release(tx, &mut intent)?;
            intent.capture_open = false;
        }
        hear(tx, &mut intent, report, Cause::Callback)?;
    }
    Ok(())
}

/// What the customer contests, and what became of that. What was lost is booked as a refund that nobody asked for, once. Gives what was
/// lost beyond what is left to give back: it is gone twice, or a refund that is under way has it, and nobody knows yet whether that happens.
fn contested(tx: &mut Tx<'_>, intent: &mut Intent, charge: &Charge) -> Result<i64> {
    let mut beyond_minor = 0;
    if charge.disputed && intent.state != State::Disputed {
        hear(tx, intent, Report::Disputed, Cause::Callback)?;
    }
    if charge.lost_minor > 0 {
        let operations: Vec<Operation> = tx.all(sql::OPERATIONS, (intent.intent_id,))?;
        let booked: i64 = operations.iter().filter(|known| known.cause == Cause::Dispute).map(|known| known.amount_minor).sum();
        let due_minor = charge.lost_minor - booked;
        let lost_minor = due_minor.min(intent.amounts().refundable());
        beyond_minor = due_minor - lost_minor;
        if lost_minor > 0 {
            lost(tx, intent, lost_minor, !charge.disputed)?;
            return Ok(beyond_minor);
        }
    }
    if charge.dispute_won && !charge.disputed && intent.state == State::Disputed {
        hear(tx, intent, Report::DisputeWon, Cause::Callback)?;
    }
    Ok(beyond_minor)
}

/// The provider has given back `amount_minor` after a dispute; `over` when no other one is open.
fn lost(tx: &mut Tx<'_>, intent: &mut Intent, amount_minor: i64, over: bool) -> Result<()> {
    let (operation_id, now): (OperationId, Timestamp) = (tx.new_id(), tx.now());
    let done = Operation {
        operation_id,
        kind: OperationKind::Refund,
        state: OperationState::Succeeded,
        amount_minor,
        fee_minor: 0,
        last: false,
        cause: Cause::Dispute,
        reason: "a dispute was lost".to_owned(),
        code: None,
        begun_at: now,
        ended_at: Some(now),
        settled_run: None,
    };
    books::refund(tx, intent, &operation_id.to_string(), amount_minor)?;
    let row = (intent.intent_id, operation_id, done.kind, amount_minor, done.last, done.cause, &done.reason, now, intent.provider_id);
    tx.exec(sql::INSERT_OPERATION, row)?;
    end_operation(tx, intent, &done)?;
    merchants::note_operation(tx, intent, &done)?;
    intent.refunded_minor += amount_minor;
    let reports: &[Report] = match (intent.is_all_back(), over) {
        (true, _) => &[Report::DisputeLost],
        // It is contested no more, and some of it went back.
        (false, true) => &[Report::DisputeWon, Report::RefundedPart],
        (false, false) => &[],
    };
    for report in reports {
        if let Verdict::To(state) = verdict(intent.state, *report) {
            intent.state = state;
        }
    }
    save(tx, intent)?;
    emit(tx, "payment.refunded", intent, Cause::Dispute, Some(&done));
    Ok(())
}

/// Refunds that the provider had taken on and could not do after all: one that we wait for has failed; one that we have booked is for a
/// person, since the customer does not have the money.
fn failed_refunds(tx: &mut Tx<'_>, intent: &Intent, charge: &Charge) -> Result<()> {
    for operation_id in charge.failed_refunds.iter().filter_map(|reference| reference.parse::<OperationId>().ok()) {
        let known: Option<Operation> = tx.opt(sql::OPERATION, (intent.intent_id, operation_id))?;
        match known.map(|operation| operation.state) {
            Some(OperationState::Pending) => {
                let answer = Answer::refused(adapter::REFUND_FAILED, Cause::Callback);
                workflows::report_operation(tx, intent.intent_id, operation_id, &answer)?;
            }
            Some(OperationState::Succeeded) => {
                let detail = format!("the refund {operation_id} was done, and failed at the provider later: the customer does not have it");
                open_task(tx, intent, "contradiction", &detail, Cause::Callback)?;
            }
            Some(OperationState::Failed) | None => {}
        }
    }
    Ok(())
}

/// A provider to set up; its secrets are sealed already.
#[derive(Clone, Debug)]
pub(crate) struct NewProvider {
    pub provider_id: ProviderId,
    pub name: String,
    pub kind: ProviderKind,
    pub base_url: String,
    pub sealed: Vec<u8>,
    pub honours_keys: bool,
}

/// Sets a provider up. Errors: `payments.too_many_providers`.
pub(crate) fn add_provider(tx: &mut Tx<'_>, new: &NewProvider) -> Result<queries::ProviderView> {
    if queries::providers(tx)?.len() >= 100 {
        return Err(Error::failed_precondition("payments.too_many_providers", "a tenant has at most 100 providers"));
    }
    let now = tx.now();
    known::routes_change(tx)?;
    tx.exec(sql::INSERT_PROVIDER, (new.provider_id, &new.name, new.kind, &new.base_url, &new.sealed, new.honours_keys, now))?;
    let provider = queries::Provider {
        provider_id: new.provider_id,
        version: 1,
        name: new.name.clone(),
        kind: new.kind,
        base_url: new.base_url.clone(),
        sealed: Vec::new(),
        honours_keys: new.honours_keys,
        enabled: true,
        created_at: now,
        updated_at: now,
    };
    Ok(provider.into())
}

/// A change of a provider. What is none stays.
#[derive(Clone, Debug)]
pub(crate) struct ChangeProvider {
    pub provider_id: ProviderId,
    pub if_match: IfMatch,
    pub name: Option<String>,
    pub base_url: Option<String>,
    pub sealed: Option<Vec<u8>>,
    pub enabled: Option<bool>,
}

/// Changes a provider. Errors: `payments.provider_not_found`, `request.precondition_failed`.
pub(crate) fn change_provider(tx: &mut Tx<'_>, change: &ChangeProvider) -> Result<queries::ProviderView> {
    let mut provider = queries::provider(tx, change.provider_id)?;
    change.if_match.check(provider.version)?;
    let read = provider.version;
    provider.version += 1;
    provider.updated_at = tx.now();
    provider.name = change.name.clone().unwrap_or(provider.name);
    provider.base_url = change.base_url.clone().unwrap_or(provider.base_url);
    provider.enabled = change.enabled.unwrap_or(provider.enabled);
    provider.sealed = change.sealed.clone().unwrap_or(provider.sealed);
    let args = (
        provider.provider_id,
        read,
        provider.version,
        &provider.name,
        &provider.sealed,
        provider.enabled,
        provider.updated_at,
        &provider.base_url,
    );
    known::routes_change(tx)?;
    tx.must(sql::UPDATE_PROVIDER, args, || Error::internal("a provider was changed by two commands at once"))?;
    Ok(provider.into())
}

/// The tenant's rules, with their version.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Policed {
    pub version: i64,
    pub policy: Policy,
}

/// Sets the rules of routing. Errors: `request.invalid` naming a rule whose provider is not there, `request.precondition_failed`.
pub(crate) fn set_policy(tx: &mut Tx<'_>, new: &(IfMatch, Policy)) -> Result<Policed> {
    let (if_match, policy) = new;
    let known = queries::providers(tx)?;
    let (version, _) = queries::policy(tx)?;
    if_match.check(version)?;
    for (i, rule) in policy.rules.iter().enumerate() {
        if !known.iter().any(|provider| provider.provider_id == rule.provider_id) {
            return Err(Error::field(format!("rules[{i}].provider_id"), "unknown", "there is no such provider"));
        }
    }
    let text = serde_json::to_string(policy).map_err(|e| Error::internal("a policy does not serialise").caused_by(e))?;
    known::routes_change(tx)?;
    tx.exec(sql::SET_POLICY, (version + 1, text))?;
    Ok(Policed { version: version + 1, policy: policy.clone() })
}

/// A method to store.
#[derive(Clone, Debug)]
pub(crate) struct NewMethod {
    pub customer: String,
    pub provider_id: ProviderId,
    pub token: String,
    pub label: String,
}

/// Stores a provider's token for a customer. Errors: `payments.provider_not_found`.
pub(crate) fn store_method(tx: &mut Tx<'_>, new: &NewMethod) -> Result<queries::MethodView> {
    queries::provider(tx, new.provider_id)?;
    let (method_id, now): (MethodId, Timestamp) = (tx.new_id(), tx.now());
    tx.exec(sql::INSERT_METHOD, (method_id, &new.customer, new.provider_id, &new.token, &new.label, now))?;
    Ok(queries::MethodView {
        method_id,
        customer: new.customer.clone(),
        provider_id: new.provider_id,
        label: new.label.clone(),
        created_at: now,
        removed_at: None,
    })
}

/// Removes a stored method and forgets its token. Quietly the same when it was removed. Errors: `payments.method_not_found`.
pub(crate) fn remove_method(tx: &mut Tx<'_>, method_id: &MethodId) -> Result<queries::MethodView> {
    let mut method = queries::method(tx, *method_id)?.view;
    if method.removed_at.is_none() {
        let now = tx.now();
        tx.exec(sql::REMOVE_METHOD, (*method_id, now))?;
        method.removed_at = Some(now);
    }
    Ok(method)
}

/// A payment that somebody wants to be looked at.
#[derive(Clone, Debug)]
pub(crate) struct NoteTask {
    pub intent_id: IntentId,
    pub detail: String,
}

/// Opens a task by hand. Quietly the one that is open already. Errors: `payments.intent_not_found`.
pub(crate) fn note_task(tx: &mut Tx<'_>, new: &NoteTask) -> Result<queries::Task> {
    let intent = queries::intent(tx, new.intent_id)?;
    if let Some((task_id,)) = tx.opt::<(TaskId,)>(sql::OPEN_TASK_OF, (new.intent_id, "noted"))? {
        return queries::task(tx, task_id);
    }
    open_task(tx, &intent, "noted", &new.detail, Cause::Request)?;
    let (task_id,) = tx.one::<(TaskId,)>(sql::OPEN_TASK_OF, (new.intent_id, "noted"))?;
    queries::task(tx, task_id)
}

/// A task that a person is done with.
#[derive(Clone, Debug)]
pub(crate) struct CloseTask {
    pub task_id: TaskId,
    pub note: String,
}

/// Closes a task. Quietly the same when it is closed. Errors: `payments.task_not_found`.
pub(crate) fn close_task(tx: &mut Tx<'_>, close: &CloseTask) -> Result<queries::Task> {
    let mut task = queries::task(tx, close.task_id)?;
    if task.closed_at.is_none() {
        let now = tx.now();
        tx.exec(sql::CLOSE_TASK, (close.task_id, now, &close.note))?;
        tx.exec(sql::FORGET_OPEN_TASK, (task.intent_id, &task.kind, close.task_id))?;
        task.closed_at = Some(now);
        task.note = Some(close.note.clone());
    }
    Ok(task)
}
