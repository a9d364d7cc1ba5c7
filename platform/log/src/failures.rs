//! Events that a consumer could not handle yet: recorded, retried, inspected, skipped.

use crate::SqlEffect;
use crate::backoff::{Backoff, Next, mix};
use crate::positions::on_lane;
use crate::runs::{Keys, key_texts, tenant_number, tenant_of};
use crate::sql;
use kernel::{Error, ErrorKind, Result, Scope, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use std::panic::{AssertUnwindSafe, catch_unwind};
use store::{ArgList, Args, Call, Event, EventId, FromRow, Position, Read, Row, Store, Tx, Value};

/// Where a failed event stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureState {
    /// First of its key; tried again when it is due.
    Retrying,
    /// Waits behind an earlier event of its key.
    Blocked,
    /// First of its key; waits for somebody to retry or to skip it.
    Dead,
}

/// Names one failure: the cursor of lists, and the handle of inspect, retry and skip.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FailureKey {
    /// The shard. A tenant's failures are looked for where the tenant is now.
    pub shard: u16,
    /// Whose event; none for the platform's own.
    pub tenant_id: Option<TenantId>,
    /// Whose effect failed.
    pub consumer: String,
    /// The event.
    pub event_id: EventId,
}

/// Which failures a list holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailuresOf {
    /// One tenant's.
    Tenant(TenantId),
    /// Those of a whole shard, the platform's own included: for the platform's administrator.
    Shard(u16),
}

/// One line of a list of failures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailureSummary {
    /// Its name.
    pub key: FailureKey,
    /// Where it stands.
    pub state: FailureState,
    /// The event's kind.
    pub kind: String,
    /// The event's subject: later events of the same subject wait behind it.
    pub subject: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried again, if it is retrying.
    pub next_attempt_at: Option<Timestamp>,
    /// When it first failed or was queued.
    pub failed_at: Timestamp,
    /// The last error's stable code; empty for an event that only waits.
    pub error_code: String,
    /// The last error's public text.
    pub error_detail: String,
}

/// A failure with its event.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What the list shows.
    pub summary: FailureSummary,
    /// The event as it was committed.
    pub event: Event,
}

impl FailureState {
    /// Every state.
    pub const ALL: [FailureState; 3] = [FailureState::Retrying, FailureState::Blocked, FailureState::Dead];

    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            FailureState::Retrying => "retrying",
            FailureState::Blocked => "blocked",
            FailureState::Dead => "dead",
        }
    }

    fn parse(text: &str) -> Result<FailureState> {
        FailureState::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| Error::internal(format!("{text} is no state of a failure")))
    }
}

/// The most bytes of an error's text that are kept.
const MAX_DETAIL: usize = 1_000;

/// What a person may see of an error: its detail and the offending fields.
fn public_text(error: &Error) -> String {
    let mut text = error.detail().to_owned();
    for field in error.field_errors() {
        text.push_str(&format!("; {}: {}", field.field, field.detail));
    }
    if text.len() > MAX_DETAIL {
        let cut = (0..=MAX_DETAIL).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(cut);
    }
    text
}

/// Whether an error is the store's trouble rather than the event's: nothing was recorded, and the same events are tried again.
/// A statement that ran into its deadline counts as the event's.
pub(crate) fn is_trouble(error: &Error) -> bool {
    let kind = matches!(error.kind(), ErrorKind::Overloaded | ErrorKind::Unavailable | ErrorKind::Unknown);
    kind && error.code().starts_with("store.") && error.code() != "store.statement_timeout"
}

/// The arguments of a statement whose `$1` is the tenant: `Tx` binds it in a tenant's scope, and on the platform's it is 0.
fn keyed<'a>(scope: Scope, rest: &'a impl Args) -> ArgList<'a> {
    let mut list = ArgList::new();
    if scope == Scope::Platform {
        list.push(Value::Int(0));
    }
    rest.push_to(&mut list);
    list
}

/// Runs `inner` in the scope of an event's owner.
pub(crate) fn in_scope<T>(tx: &mut Tx<'_>, tenant: Option<TenantId>, inner: impl FnOnce(&mut Tx<'_>) -> Result<T>) -> Result<T> {
    match tenant {
        Some(tenant) => tx.in_tenant(tenant, inner),
        None => inner(tx),
    }
}

/// Runs an SQL effect so that neither an error nor a panic of it spoils the rest of the transaction.
pub(crate) fn try_effect(tx: &mut Tx<'_>, effect: SqlEffect, events: &[Event]) -> Result<Result<()>> {
    tx.attempt(|tx| {
        catch_unwind(AssertUnwindSafe(|| effect(tx, events))).unwrap_or_else(|_| Err(Error::internal("a consumer's effect panicked")))
    })
}

/// A failed attempt, for the log: effects may run several times before they commit, so it is written down only after that.
#[derive(Debug)]
pub(crate) struct FailedAttempt {
    pub event_id: EventId,
    pub subject: String,
    pub error: Error,
    pub dead: bool,
}

/// How the failures of one consumer are recorded.
#[derive(Clone, Copy)]
pub(crate) struct Recorder {
    pub consumer: &'static str,
    pub backoff: Backoff,
    /// Drawn outside the command, which may run more than once.
    pub seed: u64,
}

impl Recorder {
    fn next(&self, event: EventId, attempts: u32, error: &Error, now: Timestamp) -> (FailureState, Timestamp) {
        match self.backoff.after(attempts, error.kind(), self.seed ^ mix(event.as_i64() as u64)) {
            Next::RetryAfterMs(wait_ms) => (FailureState::Retrying, now.plus_ms(wait_ms)),
            Next::Dead => (FailureState::Dead, now),
        }
    }

    /// Records an event whose first attempt failed, or, without an error, one that waits: behind others of its key if there are
    /// any, else due at once. In the event's scope.
    pub(crate) fn record(&self, tx: &mut Tx<'_>, event: &Event, error: Option<&Error>, keys: &mut Keys) -> Result<FailureState> {
        let now = tx.now();
        let (place, behind) = keys.enqueue(tenant_number(event.tenant_id), event);
        let (state, next) = match error {
            _ if behind => (FailureState::Blocked, now),
            Some(error) => self.next(event.id, 1, error, now),
            None => (FailureState::Retrying, now),
        };
        let attempts = u32::from(error.is_some());
        let (code, detail) = error.map_or(("", String::new()), |error| (error.code(), public_text(error)));
        let row = (
            self.consumer,
            event.id,
            event.subject.as_str(),
            place,
            event.position.lane,
            event.position.sequence,
            event.kind.as_str(),
            event.version,
            event.occurred_at,
            event.correlation_id.as_deref(),
            state.as_str(),
            attempts,
            next,
            now,
            code,
            detail,
            event.payload.as_str(),
        );
        tx.exec(sql::RECORD, &keyed(tx.scope(), &row)[..])?;
        Ok(state)
    }

    /// Records that a retry failed: the attempt number `attempts` of the first of a key. In the event's scope.
    pub(crate) fn failed_again(&self, tx: &mut Tx<'_>, event: EventId, attempts: u32, error: &Error) -> Result<FailureState> {
        let (state, next) = self.next(event, attempts, error, tx.now());
        let row = (self.consumer, event, state.as_str(), attempts, next, error.code(), public_text(error));
        tx.exec(sql::FAILED_AGAIN, &keyed(tx.scope(), &row)[..])?;
        Ok(state)
    }
}

/// Which of these events' keys have failures. On the platform's scope.
pub(crate) fn outstanding<'a>(read: &mut Read<'_>, consumer: &str, events: impl IntoIterator<Item = &'a Event>) -> Result<Keys> {
    let rows: Vec<(i64, String, i64)> = read.all(sql::OUTSTANDING, (consumer, key_texts(events)))?;
    let mut keys = Keys::default();
    for (tenant, subject, place) in rows {
        keys.insert(tenant, subject, place);
    }
    Ok(keys)
}

/// A row of the table of failures. The event lacks its shard, which the reader knows.
pub(crate) struct FailureRow {
    pub consumer: String,
    pub event: Event,
    pub state: FailureState,
    pub attempts: u32,
    next_attempt_at: Timestamp,
    failed_at: Timestamp,
    error_code: String,
    error_detail: String,
}

impl FromRow for FailureRow {
    fn from_row(row: &dyn Row) -> Result<FailureRow> {
        let state: String = row.get(10)?;
        Ok(FailureRow {
            consumer: row.get(1)?,
            event: Event {
                id: row.get(2)?,
                position: Position { shard: 0, lane: row.get(4)?, sequence: row.get(5)? },
                tenant_id: tenant_of(row.get(0)?),
                kind: row.get(6)?,
                version: row.get(7)?,
                subject: row.get(3)?,
                occurred_at: row.get(8)?,
                correlation_id: row.get(9)?,
                payload: row.get(16)?,
            },
            state: FailureState::parse(&state)?,
            attempts: row.get(11)?,
            next_attempt_at: row.get(12)?,
            failed_at: row.get(13)?,
            error_code: row.get(14)?,
            error_detail: row.get(15)?,
        })
    }
}

impl FailureRow {
    /// As a caller sees it.
    pub(crate) fn on(mut self, shard: u16) -> Failure {
        self.event.position.shard = shard;
        let summary = FailureSummary {
            key: FailureKey { shard, tenant_id: self.event.tenant_id, consumer: self.consumer, event_id: self.event.id },
            state: self.state,
            kind: self.event.kind.clone(),
            subject: self.event.subject.clone(),
            attempts: self.attempts,
            next_attempt_at: (self.state == FailureState::Retrying).then_some(self.next_attempt_at),
            failed_at: self.failed_at,
            error_code: self.error_code,
            error_detail: self.error_detail,
        };
        Failure { summary, event: self.event }
    }
}

/// The first `limit` of a key's queue, in order. In the key's scope.
pub(crate) fn queue_of(read: &mut Read<'_>, consumer: &str, subject: &str, limit: u32) -> Result<Vec<FailureRow>> {
    let scope = read.scope();
    read.all(sql::KEY_QUEUE, &keyed(scope, &(consumer, subject, limit))[..])
}

fn gone() -> Error {
    Error::not_found("log.failure_not_found", "there is no such failure; it may have been handled by now")
}

/// One failure. In its scope.
fn find(read: &mut Read<'_>, key: &FailureKey) -> Result<FailureRow> {
    let scope = read.scope();
    let found = read.opt(sql::FAILURE, &keyed(scope, &(key.consumer.as_str(), key.event_id))[..])?;
    found.ok_or_else(gone)
}

/// Takes an event out of its key's queue and makes the next one due. In the key's scope. Errors: `log.failure_not_found` when it was taken out
/// since it was read, as by a replay, which does not wait for retries: what was done for it here must not stand, or it would be done twice.
pub(crate) fn forget(tx: &mut Tx<'_>, consumer: &str, event: EventId, subject: &str) -> Result<()> {
    let scope = tx.scope();
    tx.must(sql::FORGET, &keyed(scope, &(consumer, event))[..], gone)?;
    tx.exec(sql::PROMOTE, &keyed(scope, &(consumer, subject, tx.now()))[..])
}

/// Says that an outside effect is being retried: nobody else may before `until`. In the key's scope.
pub(crate) fn claim_retry(tx: &mut Tx<'_>, consumer: &str, event: EventId, attempts: u32, until: Timestamp) -> Result<()> {
    tx.exec(sql::CLAIM_RETRY, &keyed(tx.scope(), &(consumer, event, attempts, until))[..])
}

/// A command in the scope of a failure's owner: on the tenant's own lane, wherever the tenant is now.
pub(crate) fn call_for(tenant: Option<TenantId>, shard: u16, lane: i16) -> Call {
    match tenant {
        Some(tenant) => Call::new(tenant).deadline_ms(10_000),
        None => on_lane(shard, lane),
    }
}

fn shard_of(store: &Store, key: &FailureKey) -> u16 {
    key.tenant_id.map_or(key.shard, |tenant| store.shard_of(tenant))
}

/// See [`crate::Log::failures`].
pub(crate) async fn list(
    store: &Store,
    of: FailuresOf,
    state: Option<FailureState>,
    after: Option<FailureKey>,
    limit: u32,
) -> Result<Vec<FailureSummary>> {
    let limit = limit.clamp(1, kernel::MAX_PAGE);
    let state = state.map(FailureState::as_str);
    let (tenant, consumer, event) = match after {
        Some(key) => (tenant_number(key.tenant_id), key.consumer, key.event_id.as_i64()),
        None => (-1, String::new(), 0),
    };
    let (shard, rows): (u16, Vec<FailureRow>) = match of {
        FailuresOf::Tenant(owner) => {
            let rows = store.read(owner, move |read| read.all(sql::FAILURES_OF_TENANT, (consumer, event, state, limit))).await?;
            (store.shard_of(owner), rows)
        }
        FailuresOf::Shard(shard) => {
            let rows =
                store.read_shard(shard, move |read| read.all(sql::FAILURES_OF_SHARD, (tenant, consumer, event, state, limit))).await?;
            (shard, rows)
        }
    };
    Ok(rows.into_iter().map(|row| row.on(shard).summary).collect())
}

/// See [`crate::Log::inspect`].
pub(crate) async fn inspect(store: &Store, key: &FailureKey) -> Result<Failure> {
    let (shard, wanted) = (shard_of(store, key), key.clone());
    let row = match key.tenant_id {
        Some(tenant) => store.read(tenant, move |read| find(read, &wanted)).await?,
        None => store.read_shard(shard, move |read| find(read, &wanted)).await?,
    };
    Ok(row.on(shard))
}

/// A command on the lane that handles a failure's key.
async fn call_of(store: &Store, key: &FailureKey) -> Result<Call> {
    let lane = match key.tenant_id {
        Some(_) => 0, // The tenant's own, whatever is said here.
        None => inspect(store, key).await?.event.position.lane,
    };
    Ok(call_for(key.tenant_id, key.shard, lane))
}

/// See [`crate::Log::retry`].
pub(crate) async fn retry_now(store: &Store, key: &FailureKey) -> Result<()> {
    store.write(call_of(store, key).await?, retry_one, key.clone()).await
}

fn retry_one(tx: &mut Tx<'_>, key: &FailureKey) -> Result<()> {
    let row = find(tx, key)?;
    if row.state == FailureState::Blocked {
        return Err(Error::failed_precondition(
            "log.failure_blocked",
            "an earlier event of the same subject has to be retried or skipped first",
        ));
    }
    tx.exec(sql::RETRY_NOW, &keyed(tx.scope(), &(key.consumer.as_str(), key.event_id, tx.now()))[..])
}

/// See [`crate::Log::skip`].
pub(crate) async fn skip(store: &Store, key: &FailureKey) -> Result<Failure> {
    let shard = shard_of(store, key);
    let row = store.write(call_of(store, key).await?, skip_one, key.clone()).await?;
    Ok(row.on(shard))
}

fn skip_one(tx: &mut Tx<'_>, key: &FailureKey) -> Result<FailureRow> {
    let row = find(tx, key)?;
    forget(tx, &key.consumer, key.event_id, &row.event.subject)?;
    Ok(row)
}
