//! What reaches providers: authorisation with its cascade, the customer's confirmation, captures, voids, refunds, and expiry.
//!
//! A provider's reference is written down before the call, and stays the same when the call is repeated. An outcome that is unknown is
//! asked about, or told by a callback; at its deadline a person gets a task, and nothing is guessed.

use crate::adapter::{Adapter, Charge, ChargeStatus, Found, Order, Told};
use crate::model::{CaptureMode, Cause, Intent, IntentId, Operation, OperationId, OperationKind, ProviderId, Report, State, intent_of};
use crate::service::Payments;
use crate::{books, commands, known, queries, routing, sql};
use futures_util::future::BoxFuture;
use kernel::{Error, ErrorKind, Result, Timestamp};
use log::Backoff;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::Tx;
use workflow::{Action, Heard, Kind, Next, Outcome, Prepared, Request, Saga, Status, Step, Workflow};

/// Asks providers to authorise an intent; its business key is the intent's id.
pub const AUTHORIZE: Kind = Kind { name: "payments.authorize", version: 1 };
/// Asks the provider for a capture, void or refund; its business key is the intent's id and the operation's, parted by a slash.
pub const OPERATE: Kind = Kind { name: "payments.operate", version: 1 };
/// Lets go of an authorisation whose time is over; its business key is the intent's id.
pub const EXPIRE: Kind = Kind { name: "payments.expire", version: 1 };

/// How long we count on an authorisation, in milliseconds: an hour less than the seven days that cards usually give.
const AUTHORIZATION_MS: i64 = 7 * 86_400_000 - 3_600_000;
/// How long a customer has to confirm, in milliseconds.
const CONFIRM_MS: i64 = 3_600_000;
/// How long it may stay unknown what became of an authorisation, in milliseconds. Then a person gets a task.
pub(crate) const AUTHORIZE_DEADLINE_MS: i64 = 3_600_000;
/// The same for a capture, void or refund.
pub(crate) const OPERATE_DEADLINE_MS: i64 = 24 * 3_600_000;
/// One call; more than the client's own limit, so that its failure says whether anything was sent.
const CALL_MS: u32 = 15_000;
/// The pauses after which it is looked up again what is asked of whom, while the store is busy, in milliseconds; shorter than a call by far.
const BUSY_MS: [u64; 6] = [20, 50, 100, 200, 400, 800];
/// An expiry that finds a capture under way looks again so much later, in milliseconds.
const EXPIRE_AGAIN_MS: i64 = 600_000;

/// The module's workflows.
pub(crate) fn workflows() -> Vec<Workflow> {
    let quick = Backoff { base_ms: 500, cap_ms: 60_000, max_attempts: 10 };
    let patient = Backoff { base_ms: 2_000, cap_ms: 60_000, max_attempts: 10 };
    let authorize = Action::outside(prepare_authorize, authorize, authorized)
        .ask(resolve_authorize)
        .timeout_ms(CALL_MS)
        .deadline_ms(AUTHORIZE_DEADLINE_MS)
        .backoff(quick);
    // The call is a question: after a crash its answer is as good the second time.
    let confirm = Action::outside(prepare_confirm, ask_confirmed, confirmed)
        .ask(ask_confirmed)
        .timeout_ms(CALL_MS)
        .deadline_ms(CONFIRM_MS)
        .backoff(patient);
    let operate = Action::outside(prepare_operate, operate, operated)
        .ask(resolve_operate)
        .timeout_ms(CALL_MS)
        .deadline_ms(OPERATE_DEADLINE_MS)
        .backoff(quick);
    vec![
        Workflow::new(AUTHORIZE)
            .version(1, vec![Step::new("authorize", authorize), Step::new("confirm", confirm)])
            .on_park(parked)
            .on_end(ended),
        Workflow::new(OPERATE).version(1, vec![Step::new("operate", operate)]).on_park(parked).on_end(ended),
        Workflow::job(EXPIRE, Action::sql(expire)).on_park(parked).on_end(ended),
    ]
}

/// The state of an authorisation's saga.
#[derive(Serialize, Deserialize)]
struct Authorizing {
    intent_id: IntentId,
    /// Those who declined for now, or were away.
    tried: Vec<ProviderId>,
    /// What the last of them said.
    said: Option<String>,
}

/// The state of an operation's saga.
#[derive(Serialize, Deserialize)]
struct Operating {
    intent_id: IntentId,
    operation_id: OperationId,
}

/// What is asked of the outside.
#[derive(Clone, Serialize, Deserialize)]
struct Asked {
    provider_id: ProviderId,
    order: Order,
    /// When it was first asked: a person's retry does not make it younger.
    #[serde(default)]
    asked_at: Option<Timestamp>,
    /// What the provider calls the charge, where that is known.
    #[serde(default)]
    charge: Option<String>,
}

/// What was learnt, and how.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    told: Told,
    cause: Cause,
}

impl Answer {
    pub(crate) fn charge(charge: Charge, cause: Cause) -> Answer {
        Answer { told: Told::Charge { charge: Box::new(charge) }, cause }
    }

    pub(crate) fn refused(code: &str, cause: Cause) -> Answer {
        Answer { told: Told::Refused { code: code.to_owned() }, cause }
    }

    fn outcome(self) -> Outcome {
        match serde_json::to_value(&self) {
            Ok(value) => Outcome::Done(value),
            Err(error) => Outcome::Unknown(error.to_string()),
        }
    }

    fn read(value: Value) -> Result<Answer> {
        serde_json::from_value(value).map_err(|e| Error::internal("an answer of a provider can't be read").caused_by(e))
    }
}

fn json(value: &impl Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|e| Error::internal("a request does not serialise").caused_by(e))
}

/// Chooses the first provider of an intent that is written down after this, and sets its money aside. None when there is none to be asked.
pub(crate) fn first_attempt(tx: &mut Tx<'_>, intent: &mut Intent) -> Result<Option<ProviderId>> {
    let provider_id = choose(tx, intent, &[])?;
    if let Some(provider_id) = provider_id {
        attempt(tx, intent, provider_id)?;
    }
    Ok(provider_id)
}

/// Begins to ask providers for an intent that is written down: its first attempt is, if there is one.
pub(crate) fn begin_authorization(tx: &mut Tx<'_>, intent: &Intent, first: Option<ProviderId>) -> Result<()> {
    let (key, state) = (intent.intent_id.to_string(), Authorizing { intent_id: intent.intent_id, tried: Vec::new(), said: None });
    match first {
        Some(provider_id) => {
            let asked = begin_attempt(tx, intent, provider_id)?;
            workflow::start_calling(tx, AUTHORIZE, &key, &state, &intent.reference(), &asked)
        }
        // It fails there, as when the last one is away.
        None => workflow::start(tx, AUTHORIZE, &key, &state),
    }
}

/// Begins to ask the provider for an operation that is written down.
pub(crate) fn begin_operation(tx: &mut Tx<'_>, intent: &Intent, operation: &Operation) -> Result<()> {
    let (intent_id, operation_id) = (intent.intent_id, operation.operation_id);
    let (state, asked) = (Operating { intent_id, operation_id }, operating(intent, operation, tx.now())?);
    workflow::start_calling(tx, OPERATE, &operation_key(intent_id, operation_id), &state, &operation_id.to_string(), &asked)
}

/// Lets go of what is still authorised at that moment.
pub(crate) fn begin_expiry(tx: &mut Tx<'_>, intent_id: IntentId, at: Timestamp) -> Result<()> {
    workflow::start_at(tx, EXPIRE, &intent_id.to_string(), &intent_id, at)
}

/// A callback has shown where the intent's charge stands: ends the doubt of whoever waits.
pub(crate) fn report_authorization(tx: &mut Tx<'_>, intent: &Intent, answer: &Answer) -> Result<()> {
    let (key, reference) = (intent.intent_id.to_string(), intent.reference());
    let Told::Charge { charge } = &answer.told else { return Ok(()) };
    if charge.status == ChargeStatus::Processing {
        return Ok(());
    }
    if intent.state == State::RequiresAction {
        if charge.status != ChargeStatus::RequiresAction {
            workflow::report(tx, AUTHORIZE, &key, &confirmation_of(&reference), &answer.clone().outcome())?;
        }
        return Ok(());
    }
    workflow::report(tx, AUTHORIZE, &key, &reference, &answer.clone().outcome())?;
    Ok(())
}

/// A callback has shown that an operation was done.
pub(crate) fn report_operation(tx: &mut Tx<'_>, intent_id: IntentId, operation_id: OperationId, answer: &Answer) -> Result<()> {
    workflow::report(tx, OPERATE, &operation_key(intent_id, operation_id), &operation_id.to_string(), &answer.clone().outcome())?;
    Ok(())
}

fn operation_key(intent_id: IntentId, operation_id: OperationId) -> String {
    format!("{intent_id}/{operation_id}")
}

/// The intent whose saga this is, by the saga's business key.
pub(crate) fn intent_of_saga(kind: &str, key: &str) -> Option<IntentId> {
    if ![AUTHORIZE.name, OPERATE.name].contains(&kind) {
        return None;
    }
    key.split('/').next()?.parse().ok()
}

fn confirmation_of(reference: &str) -> String {
    format!("{reference}-confirm")
}

/// The authorisation that the intent's current attempt asks for.
fn authorization(intent: &Intent) -> Order {
    Order::Authorize {
        reference: intent.reference(),
        token: intent.token.clone(),
        amount_minor: intent.amount_minor,
        currency: intent.currency,
    }
}

/// What an operation asks of the intent's provider.
pub(crate) fn order(intent: &Intent, operation: &Operation) -> Result<Order> {
    let charge = intent.provider_charge.clone().ok_or_else(|| Error::internal("an operation on a payment that no provider knows"))?;
    let (reference, amount_minor, currency) = (operation.operation_id.to_string(), operation.amount_minor, intent.currency);
    Ok(match operation.kind {
        OperationKind::Capture => Order::Capture { charge, reference, amount_minor, currency, last: operation.last },
        OperationKind::Void => Order::Void { charge, reference, rest: intent.captured_minor > 0 },
        OperationKind::Refund => Order::Refund { charge, reference, amount_minor, currency },
    })
}

/// Chooses the next provider, writes down under which reference it will be asked, and sets the money aside in the ledger.
fn prepare_authorize(tx: &mut Tx<'_>, saga: &mut Saga) -> Result<Prepared> {
    let state: Authorizing = saga.state()?;
    let mut intent = queries::intent(tx, state.intent_id)?;
    if intent.state != State::Initiated {
        return Ok(Prepared::Next(Next::Finish));
    }
    let Some(provider_id) = choose(tx, &intent, &state.tried)? else {
        let said = state.said.unwrap_or_else(|| "no_provider".to_owned());
        fail(tx, &mut intent, &said, Cause::Routing)?;
        return Ok(Prepared::Next(Next::Finish));
    };
    attempt(tx, &mut intent, provider_id)?;
    let asked = begin_attempt(tx, &intent, provider_id)?;
    commands::save(tx, &mut intent)?;
    Ok(Prepared::Call { key: intent.reference(), body: json(&asked)? })
}

/// The provider to ask, of those that were not tried.
fn choose(tx: &mut Tx<'_>, intent: &Intent, tried: &[ProviderId]) -> Result<Option<ProviderId>> {
    let routes = known::routes(tx)?;
    let order = match intent.token_provider {
        Some(owner) => vec![owner],
        None => routing::order(&routes.policy, &intent.ask(), intent.intent_id.as_i64() as u64),
    };
    Ok(order.into_iter().find(|provider| routes.enabled.contains(provider) && !tried.contains(provider)))
}

/// The intent's next attempt is at this provider, and its money is set aside for it.
fn attempt(tx: &mut Tx<'_>, intent: &mut Intent, provider_id: ProviderId) -> Result<()> {
    let until = tx.now().plus_ms(AUTHORIZATION_MS);
    intent.provider_id = Some(provider_id);
    intent.attempt += 1;
    books::hold(tx, intent, until)
}

/// Writes the intent's attempt down: what is asked.
fn begin_attempt(tx: &mut Tx<'_>, intent: &Intent, provider_id: ProviderId) -> Result<Asked> {
    let now = tx.now();
    tx.exec(sql::INSERT_ATTEMPT, (intent.intent_id, intent.attempt, provider_id, now))?;
    Ok(Asked { provider_id, order: authorization(intent), asked_at: Some(now), charge: None })
}

/// Nobody authorises it.
fn fail(tx: &mut Tx<'_>, intent: &mut Intent, code: &str, cause: Cause) -> Result<()> {
    books::release(tx, intent)?;
    intent.asking = false;
    intent.token.clear();
    intent.failure = Some(commands::short(code));
    commands::hear(tx, intent, Report::Declined, cause)?;
    Ok(())
}

/// The provider that is asked, and what of it.
async fn asked(request: &Request) -> std::result::Result<(Asked, Arc<Adapter>), String> {
    let asked: Asked = request.body().map_err(|error| error.to_string())?;
    let mut pauses_ms = BUSY_MS.into_iter();
    loop {
        match looked_up(request, asked.clone()).await {
            Ok(found) => return Ok(found),
            Err(error) => match pauses_ms.next().filter(|_| is_busy(&error)) {
                Some(pause_ms) => tokio::time::sleep(Duration::from_millis(pause_ms)).await,
                None => return Err(error.to_string()),
            },
        }
    }
}

/// Whether it is our own store that is busy or away: that is no attempt at the provider, after which one waits longer and longer.
fn is_busy(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Overloaded | ErrorKind::Unavailable) && error.code().starts_with("store.")
}

/// What is not written down with what is asked: the token, and how the provider is reached.
async fn looked_up(request: &Request, mut asked: Asked) -> Result<(Asked, Arc<Adapter>)> {
    let tenant = request.tenant.ok_or_else(|| Error::internal("a payment without a tenant"))?;
    if let Order::Authorize { reference, token, .. } = &mut asked.order {
        let (intent_id, _) = intent_of(reference).ok_or_else(|| Error::internal("a reference that is none of ours"))?;
        *token = request.store().peek(tenant, move |read| queries::intent(read, intent_id)).await?.token;
    }
    let adapter = request.part::<Payments>().adapter(request.store(), tenant, asked.provider_id).await?;
    Ok((asked, adapter))
}

/// Calls the provider, unless its breaker is open.
async fn call(request: &Request) -> Told {
    let (asked, adapter) = match asked(request).await {
        Ok(found) => found,
        Err(why) => return Told::NotAsked { why },
    };
    let payments = request.part::<Payments>();
    let now = request.store().clock().now();
    if !payments.breakers().admits(asked.provider_id, now) {
        return Told::Outage { why: "the provider has been away, and is left alone for a while".to_owned() };
    }
    let began = Instant::now();
    let told = adapter.perform(&asked.order).await;
    payments.metrics().called(adapter.kind, &told, began.elapsed());
    match &told {
        Told::Outage { .. } | Told::Unknown { .. } => payments.breakers().failed(asked.provider_id, now),
        Told::Charge { .. } | Told::Refused { .. } => payments.breakers().answered(asked.provider_id),
        Told::NotAsked { .. } => {}
    }
    told
}

/// Learns what became of a call.
async fn ask(request: &Request) -> Told {
    match asked(request).await {
        Ok((asked, adapter)) => {
            // Of one that an earlier program has begun nobody knows when: long ago. It is looked for among all, and never asked anew.
            let since = asked.asked_at.unwrap_or(Timestamp::from_micros(0));
            adapter.resolve(&asked.order, since, request.store().clock().now()).await
        }
        Err(why) => Told::Unknown { why },
    }
}

fn authorize(request: Request) -> BoxFuture<'static, Outcome> {
    Box::pin(async move {
        match call(&request).await {
            Told::Unknown { why } => Outcome::Unknown(why),
            // No word of the provider's: the same one is asked a little later.
            Told::NotAsked { why } => Outcome::NotDone(why),
            // An outage is an answer here: another provider may be asked.
            told => Answer { told, cause: Cause::Answer }.outcome(),
        }
    })
}

fn operate(request: Request) -> BoxFuture<'static, Outcome> {
    Box::pin(async move {
        match call(&request).await {
            Told::Unknown { why } => Outcome::Unknown(why),
            Told::Outage { why } | Told::NotAsked { why } => Outcome::NotDone(why),
            told => Answer { told, cause: Cause::Answer }.outcome(),
        }
    })
}

fn resolve_authorize(request: Request) -> BoxFuture<'static, Outcome> {
    Box::pin(async move { resolved(ask(&request).await) })
}

fn resolve_operate(request: Request) -> BoxFuture<'static, Outcome> {
    Box::pin(async move { resolved(ask(&request).await) })
}

fn resolved(told: Told) -> Outcome {
    match told {
        Told::Unknown { why } | Told::Outage { why } | Told::NotAsked { why } => Outcome::Unknown(why),
        told => Answer { told, cause: Cause::Query }.outcome(),
    }
}

/// Hears what became of an authorisation.
fn authorized(tx: &mut Tx<'_>, saga: &mut Saga, heard: Heard) -> Result<Next> {
    let mut state: Authorizing = saga.state()?;
    let mut intent = queries::intent(tx, state.intent_id)?;
    let (told, cause) = match heard {
        Heard::Done(value) => {
            let answer = Answer::read(value)?;
            (answer.told, answer.cause)
        }
        Heard::Refused(code) => (Told::Refused { code }, Cause::Answer),
        Heard::Signal { .. } | Heard::Deadline => return Ok(Next::Park("an authorisation waits for nothing".to_owned())),
    };
    match told {
        Told::Charge { charge } if charge.status == ChargeStatus::Declined => {
            let (code, soft) = charge.decline.clone().unwrap_or_else(|| ("declined".to_owned(), false));
            end_attempt(tx, &intent, if soft { "soft_decline" } else { "hard_decline" }, Some(&code), Some(&charge.id))?;
            if soft {
                return try_another(tx, saga, &mut state, &mut intent, code);
            }
            intent.provider_charge = Some(charge.id);
            fail(tx, &mut intent, &code, cause)?;
            Ok(Next::Finish)
        }
        Told::Charge { charge } => settle(tx, &mut intent, &charge, cause),
        Told::Refused { code } => {
            end_attempt(tx, &intent, "refused", Some(&code), None)?;
            fail(tx, &mut intent, &code, cause)?;
            Ok(Next::Finish)
        }
        Told::Outage { why } => {
            end_attempt(tx, &intent, "outage", Some(&commands::short(&why)), None)?;
            try_another(tx, saga, &mut state, &mut intent, "outage".to_owned())
        }
        Told::Unknown { why } | Told::NotAsked { why } => Ok(Next::Park(why)),
    }
}

/// The next provider, after a soft decline or an outage; never after a hard decline, and never while an outcome is unknown.
fn try_another(tx: &mut Tx<'_>, saga: &mut Saga, state: &mut Authorizing, intent: &mut Intent, said: String) -> Result<Next> {
    books::release(tx, intent)?;
    commands::save(tx, intent)?;
    state.tried.extend(intent.provider_id);
    state.said = Some(said);
    saga.set_state(state)?;
    Ok(Next::Step("authorize"))
}

fn end_attempt(tx: &mut Tx<'_>, intent: &Intent, outcome: &str, code: Option<&str>, charge: Option<&str>) -> Result<()> {
    let now = tx.now();
    tx.exec(sql::END_ATTEMPT, (intent.intent_id, intent.attempt, outcome, code.map(commands::short), charge, now))
}

/// The provider has a charge that was not declined: what follows from where it stands.
fn settle(tx: &mut Tx<'_>, intent: &mut Intent, charge: &Charge, cause: Cause) -> Result<Next> {
    let outcome = match charge.status {
        ChargeStatus::RequiresAction => "requires_action",
        ChargeStatus::Voided => "voided",
        ChargeStatus::Expired => "expired",
        ChargeStatus::Authorized | ChargeStatus::Captured => "authorized",
        ChargeStatus::Declined | ChargeStatus::Processing => "unclear",
    };
    end_attempt(tx, intent, outcome, None, Some(&charge.id))?;
    intent.provider_charge = Some(charge.id.clone());
    intent.asking = false;
    intent.token.clear();
    intent.action_url = None;
    match charge.status {
        ChargeStatus::RequiresAction => {
            intent.action_url = charge.action_url.clone();
            commands::hear(tx, intent, Report::ActionRequired, cause)?;
            Ok(Next::Step("confirm"))
        }
        ChargeStatus::Authorized | ChargeStatus::Captured => {
            let at = tx.now().plus_ms(AUTHORIZATION_MS);
            if !matches!(intent.state, State::Initiated | State::RequiresAction) {
                // Word from before our own void, or of a payment that was given up: the table knows which of them a person has to see.
                commands::hear(tx, intent, Report::Authorized, cause)?;
                return Ok(Next::Finish);
            }
            // What is being given up is not taken: a void that was asked for while the customer had to confirm goes on.
            let voiding = intent.state == State::RequiresAction && commands::is_voiding(tx, intent.intent_id)?;
            intent.expires_at = Some(at);
            intent.capture_open = true;
            if intent.capture_mode == CaptureMode::Automatic && !voiding {
                // What is taken at once never runs out; if it is not taken after all, that is when its time begins to count.
                let capture = commands::reserve(tx, intent, OperationKind::Capture, intent.amount_minor, true, Cause::Request, "")?;
                commands::hear(tx, intent, Report::Authorized, cause)?;
                begin_operation(tx, intent, &capture)?;
            } else {
                commands::hear(tx, intent, Report::Authorized, cause)?;
                begin_expiry(tx, intent.intent_id, at)?;
            }
            Ok(Next::Finish)
        }
        ChargeStatus::Voided | ChargeStatus::Expired => {
            books::release(tx, intent)?;
            let report = if charge.status == ChargeStatus::Voided { Report::Voided } else { Report::Expired };
            commands::hear(tx, intent, report, cause)?;
            Ok(Next::Finish)
        }
        ChargeStatus::Declined | ChargeStatus::Processing => Ok(Next::Park("an answer that says nothing".to_owned())),
    }
}

/// Waits for the customer, by asking the provider now and then; a callback ends the wait at once.
fn prepare_confirm(tx: &mut Tx<'_>, saga: &mut Saga) -> Result<Prepared> {
    let state: Authorizing = saga.state()?;
    let intent = queries::intent(tx, state.intent_id)?;
    let provider_id = intent.provider_id.ok_or_else(|| Error::internal("a customer confirms at no provider"))?;
    let (order, charge) = (authorization(&intent), intent.provider_charge.clone());
    let asked = Asked { provider_id, order, asked_at: Some(tx.now()), charge };
    Ok(Prepared::Call { key: confirmation_of(&intent.reference()), body: json(&asked)? })
}

fn ask_confirmed(request: Request) -> BoxFuture<'static, Outcome> {
    Box::pin(async move {
        let (asked, adapter) = match asked(&request).await {
            Ok(found) => found,
            Err(why) => return Outcome::NotDone(why),
        };
        let found = match &asked.charge {
            Some(charge) => adapter.retrieve(charge).await,
            None => adapter.find(&asked.order, asked.asked_at.unwrap_or(request.first_called_at)).await,
        };
        match found {
            Found::Charge(charge) if !matches!(charge.status, ChargeStatus::RequiresAction | ChargeStatus::Processing) => {
                Answer::charge(*charge, Cause::Query).outcome()
            }
            Found::Charge(_) | Found::Absent => Outcome::NotDone("the customer has not confirmed".to_owned()),
            // Nothing is in doubt by this question. In time it is asked again; after that the charge is given up, whatever it says by then.
            Found::Unknown(why) => Outcome::NotDone(why),
        }
    })
}

/// Hears what the customer did, or that time ran out.
fn confirmed(tx: &mut Tx<'_>, saga: &mut Saga, heard: Heard) -> Result<Next> {
    let state: Authorizing = saga.state()?;
    let mut intent = queries::intent(tx, state.intent_id)?;
    let Heard::Done(value) = heard else {
        // In time the customer did nothing: the charge is given up, whatever it says by then.
        if intent.state == State::RequiresAction {
            commands::void(tx, &mut intent, Cause::Expiry, "the customer did not confirm in time")?;
        }
        return Ok(Next::Finish);
    };
    let Answer { told, cause } = Answer::read(value)?;
    match told {
        Told::Charge { charge } if charge.status == ChargeStatus::Declined => {
            let (code, _) = charge.decline.clone().unwrap_or_else(|| ("declined".to_owned(), false));
            end_attempt(tx, &intent, "hard_decline", Some(&code), Some(&charge.id))?;
            intent.action_url = None;
            fail(tx, &mut intent, &code, cause)?;
            Ok(Next::Finish)
        }
        Told::Charge { charge } => settle(tx, &mut intent, &charge, cause),
        Told::Refused { .. } | Told::Outage { .. } | Told::NotAsked { .. } | Told::Unknown { .. } => {
            Ok(Next::Park("a confirmation without a charge".to_owned()))
        }
    }
}

fn prepare_operate(tx: &mut Tx<'_>, saga: &mut Saga) -> Result<Prepared> {
    let state: Operating = saga.state()?;
    let intent = queries::intent(tx, state.intent_id)?;
    let operation = queries::operation(tx, state.intent_id, state.operation_id)?;
    let asked = operating(&intent, &operation, tx.now())?;
    Ok(Prepared::Call { key: operation.operation_id.to_string(), body: json(&asked)? })
}

/// What is asked for an operation.
fn operating(intent: &Intent, operation: &Operation, now: Timestamp) -> Result<Asked> {
    let provider_id = intent.provider_id.ok_or_else(|| Error::internal("an operation on a payment without a provider"))?;
    Ok(Asked { provider_id, order: order(intent, operation)?, asked_at: Some(now), charge: None })
}

/// Hears what became of an operation.
fn operated(tx: &mut Tx<'_>, saga: &mut Saga, heard: Heard) -> Result<Next> {
    let state: Operating = saga.state()?;
    let mut intent = queries::intent(tx, state.intent_id)?;
    let operation = queries::operation(tx, state.intent_id, state.operation_id)?;
    match heard {
        Heard::Done(value) => match Answer::read(value)? {
            Answer { told: Told::Charge { charge }, cause } => commands::operation_done(tx, &mut intent, &operation, &charge, cause)?,
            Answer { told: Told::Refused { code }, cause } => commands::operation_failed(tx, &mut intent, &operation, &code, cause)?,
            Answer { told: Told::Outage { why } | Told::NotAsked { why } | Told::Unknown { why }, .. } => return Ok(Next::Park(why)),
        },
        // The deadline of what was certainly never done.
        Heard::Refused(_) => commands::operation_failed(tx, &mut intent, &operation, "provider_away", Cause::Expiry)?,
        Heard::Signal { .. } | Heard::Deadline => return Ok(Next::Park("an operation waits for nothing".to_owned())),
    }
    Ok(Next::Finish)
}

/// An authorisation's time is over: what was not captured is let go.
fn expire(tx: &mut Tx<'_>, saga: &mut Saga) -> Result<Prepared> {
    let intent_id: IntentId = saga.state()?;
    let mut intent = queries::intent(tx, intent_id)?;
    if !intent.capture_open {
        return Ok(Prepared::Done(Value::Null));
    }
    if intent.capturing_minor > 0 {
        let again: Timestamp = tx.now().plus_ms(EXPIRE_AGAIN_MS);
        return Ok(Prepared::Next(Next::StepAt("run", again)));
    }
    if intent.captured_minor == 0 {
        commands::void(tx, &mut intent, Cause::Expiry, "the authorisation ran out")?;
    } else {
        intent.capture_open = false;
        books::release(tx, &mut intent)?;
        let all_back = intent.refunded_minor == intent.captured_minor;
        commands::hear(tx, &mut intent, if all_back { Report::RefundedAll } else { Report::Expired }, Cause::Expiry)?;
    }
    Ok(Prepared::Done(Value::Null))
}

/// The intent that a saga is about.
fn intent_of_state(saga: &Saga) -> Result<IntentId> {
    Ok(match saga.kind() {
        "payments.authorize" => saga.state::<Authorizing>()?.intent_id,
        "payments.operate" => saga.state::<Operating>()?.intent_id,
        _ => saga.state::<IntentId>()?,
    })
}

/// Somebody has cancelled it. A saga ends so only when what it was at was certainly not done, or was heard: so nothing will come of it any
/// more, and the payment hears that.
fn ended(tx: &mut Tx<'_>, saga: &Saga, status: Status, _: &str) -> Result<()> {
    if status != Status::Cancelled {
        return Ok(());
    }
    let mut intent = queries::intent(tx, intent_of_state(saga)?)?;
    match saga.kind() {
        "payments.authorize" if intent.state == State::Initiated && intent.asking => {
            // An attempt that was begun and is not over has its money set aside.
            if intent.hold_id.is_some() {
                end_attempt(tx, &intent, "cancelled", None, None)?;
            }
            fail(tx, &mut intent, "cancelled", Cause::Request)
        }
        // Nobody waits for the customer any more.
        "payments.authorize" if intent.state == State::RequiresAction => {
            commands::void(tx, &mut intent, Cause::Request, "waiting for the customer was cancelled")
        }
        "payments.operate" => {
            let operation = queries::operation(tx, intent.intent_id, saga.state::<Operating>()?.operation_id)?;
            commands::operation_failed(tx, &mut intent, &operation, "cancelled", Cause::Request)
        }
        "payments.expire" if intent.capture_open => commands::open_task(
            tx,
            &intent,
            "in_doubt",
            "nobody lets go of the authorisation when its time is over: that was cancelled",
            Cause::Request,
        ),
        _ => Ok(()),
    }
}

/// Nobody could learn in time what became of it: a person has to.
fn parked(tx: &mut Tx<'_>, saga: &Saga, reason: &str) -> Result<()> {
    let intent = queries::intent(tx, intent_of_state(saga)?)?;
    let detail = format!("{} at step {}: {reason}", saga.kind(), saga.step());
    commands::open_task(tx, &intent, "in_doubt", &detail, Cause::Expiry)
}
