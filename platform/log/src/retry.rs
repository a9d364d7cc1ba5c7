//! Retries: what is due on a shard, tenants in turn, on the lane of the event's owner.

use crate::failures::{FailedAttempt, FailureRow, FailureState, Recorder, call_for, claim_retry, forget, is_trouble, queue_of, try_effect};
use crate::handle::{Shared, Woken};
use crate::outside::{attempt, is_timeout};
use crate::runs::tenant_of;
use crate::{Consumer, Effect, OutsideEffect, SqlEffect, sql};
use futures_util::StreamExt as _;
use kernel::{Error, Result, TenantId};
use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use store::{Event, EventId, Tx};

/// How many due retries are looked at together, and of one tenant.
const DUE: (u32, u32) = (128, 8);
/// The most events of one key that follow a retry in its transaction.
const CHAIN: u32 = 32;
/// The most SQL retries that are under way at once.
const SQL_CONCURRENCY: usize = 16;
/// How much longer than its timeout an outside retry is left alone, for it to be recorded.
const GRACE_MS: i64 = 10_000;

/// Which consumers a loop serves: slow outside effects must not hold up the SQL ones.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Sql,
    Outside,
}

impl Kind {
    fn of(consumer: &Consumer) -> Kind {
        match consumer.effect {
            Effect::Sql(_) => Kind::Sql,
            Effect::Outside(_) => Kind::Outside,
        }
    }
}

/// The first of a key whose next attempt is due.
#[derive(Clone, Debug)]
struct Due {
    tenant: Option<TenantId>,
    consumer: String,
    event_id: EventId,
    subject: String,
    lane: i16,
    attempts: u32,
}

/// Runs the retries of one shard until the log stops.
pub(crate) async fn run(shared: Arc<Shared>, shard: u16, kind: Kind) {
    let mut waiter = shared.waiter_without_lane();
    loop {
        let retried = match pass(&shared, shard, kind).await {
            Ok(retried) => retried,
            Err(error) => {
                tracing::warn!(shard, ?error, "due retries can't be read");
                0
            }
        };
        if waiter.stopping() {
            return;
        }
        if retried == 0 && waiter.wait(Duration::MAX).await == Woken::Stop {
            return;
        }
    }
}

/// One round over what is due; answers with how many attempts were recorded.
async fn pass(shared: &Arc<Shared>, shard: u16, kind: Kind) -> Result<usize> {
    let due = due(shared, shard, kind).await?;
    if due.is_empty() {
        return Ok(0);
    }
    // Tenants with a receiver that is slow in this round: the rest of theirs waits for the next one.
    let slow: Mutex<HashSet<Option<TenantId>>> = Mutex::default();
    let concurrency = if kind == Kind::Sql { SQL_CONCURRENCY } else { shared.config.outside_concurrency.max(1) };
    let recorded = futures_util::stream::iter(due)
        .map(|due| async {
            shared.retries.under_way.fetch_add(1, Ordering::SeqCst);
            let recorded = one(shared, shard, due, &slow).await;
            shared.retries.ended.fetch_add(1, Ordering::SeqCst);
            shared.retries.under_way.fetch_sub(1, Ordering::SeqCst);
            recorded
        })
        .buffer_unordered(concurrency)
        .filter(|recorded| std::future::ready(*recorded))
        .count()
        .await;
    Ok(recorded)
}

async fn due(shared: &Shared, shard: u16, kind: Kind) -> Result<Vec<Due>> {
    let names: Vec<String> = shared.consumers.iter().filter(|c| Kind::of(c) == kind).map(|c| c.name.to_owned()).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    type DueRow = (i64, String, EventId, String, i16, u32);
    let rows: Vec<DueRow> = shared
        .store
        .read_shard(shard, move |read| {
            let now = read.now();
            read.all(sql::DUE, (now, names, DUE.1, DUE.0))
        })
        .await?;
    let due = |(tenant, consumer, event_id, subject, lane, attempts)| Due {
        tenant: tenant_of(tenant),
        consumer,
        event_id,
        subject,
        lane,
        attempts,
    };
    Ok(rows.into_iter().map(due).collect())
}

/// Whether anything is due now.
pub(crate) async fn any_due(shared: &Shared, shard: u16) -> Result<bool> {
    Ok(!due(shared, shard, Kind::Sql).await?.is_empty() || !due(shared, shard, Kind::Outside).await?.is_empty())
}

async fn one(shared: &Arc<Shared>, shard: u16, due: Due, slow: &Mutex<HashSet<Option<TenantId>>>) -> bool {
    let Some(consumer) = shared.consumers.iter().find(|c| c.name == due.consumer) else { return false };
    if shared.stopping() || slow.lock().unwrap_or_else(PoisonError::into_inner).contains(&due.tenant) {
        return false;
    }
    let tenant = due.tenant;
    let recorder = Recorder { consumer: consumer.name, backoff: shared.config.backoff, seed: shared.rng.below(u64::MAX) };
    let retried = match consumer.effect {
        Effect::Sql(effect) => sql_retry(shared, shard, due, effect, recorder).await,
        Effect::Outside(effect) => outside_retry(shared, shard, due, effect, recorder).await,
    };
    match retried {
        Ok(Some(retried)) => {
            if retried.failed.iter().any(|failed| is_timeout(&failed.error)) {
                slow.lock().unwrap_or_else(PoisonError::into_inner).insert(tenant);
            }
            shared.report(shard, consumer.name, retried.handled, 0, &retried.failed);
            true
        }
        // Somebody else has retried, skipped or replayed it.
        Ok(None) => false,
        Err(error) => {
            tracing::warn!(consumer = consumer.name, shard, ?error, "a retry could not be recorded");
            false
        }
    }
}

/// What a retry came to: how many events of the key are handled, and the one that failed.
struct Retried {
    handled: u64,
    failed: Vec<FailedAttempt>,
}

struct SqlRetry {
    shard: u16,
    due: Due,
    effect: SqlEffect,
    recorder: Recorder,
}

/// Runs the first of a key and then those behind it, in one transaction, up to the first that fails.
async fn sql_retry(shared: &Shared, shard: u16, due: Due, effect: SqlEffect, recorder: Recorder) -> Result<Option<Retried>> {
    let call = || call_for(due.tenant, shard, due.lane);
    let retry = Arc::new(SqlRetry { shard, due: due.clone(), effect, recorder });
    let mut tried = Err(Error::internal("no attempt was made"));
    // When several together take too long, the first alone.
    for chain in [CHAIN, 1] {
        tried = shared.store.write(call(), run_chain, (retry.clone(), chain)).await;
        match &tried {
            Err(error) if !is_trouble(error) => continue,
            _ => return tried,
        }
    }
    match tried {
        // It breaks the transaction itself, so the failure is recorded without running it.
        Err(error) => {
            let broke = Broke { due: due.clone(), recorder, error };
            shared.store.write(call(), record_broken, Arc::new(broke)).await
        }
        done => done,
    }
}

/// The first of the key, if it is still as it was found.
fn head<'a>(rows: &'a [FailureRow], due: &Due) -> Option<&'a FailureRow> {
    rows.first().filter(|row| row.event.id == due.event_id && row.attempts == due.attempts && row.state == FailureState::Retrying)
}

fn run_chain(tx: &mut Tx<'_>, (retry, chain): &(Arc<SqlRetry>, u32)) -> Result<Option<Retried>> {
    let due = &retry.due;
    let mut rows = queue_of(tx, retry.recorder.consumer, &due.subject, *chain)?;
    if head(&rows, due).is_none() {
        return Ok(None);
    }
    let mut retried = Retried { handled: 0, failed: Vec::new() };
    for row in &mut rows {
        row.event.position.shard = retry.shard;
        match try_effect(tx, retry.effect, std::slice::from_ref(&row.event))? {
            Ok(()) => {
                forget(tx, retry.recorder.consumer, row.event.id, &due.subject)?;
                retried.handled += 1;
            }
            Err(error) if is_trouble(&error) => return Err(error),
            Err(error) => {
                retried.failed.push(failed_again(tx, &retry.recorder, row.event.id, &due.subject, row.attempts + 1, error)?);
                break;
            }
        }
    }
    Ok(Some(retried))
}

fn failed_again(tx: &mut Tx<'_>, recorder: &Recorder, event: EventId, subject: &str, attempts: u32, error: Error) -> Result<FailedAttempt> {
    let state = recorder.failed_again(tx, event, attempts, &error)?;
    Ok(FailedAttempt { event_id: event, subject: subject.to_owned(), error, dead: state == FailureState::Dead })
}

struct Broke {
    due: Due,
    recorder: Recorder,
    error: Error,
}

fn record_broken(tx: &mut Tx<'_>, broke: &Arc<Broke>) -> Result<Option<Retried>> {
    let due = &broke.due;
    let rows = queue_of(tx, broke.recorder.consumer, &due.subject, 1)?;
    if head(&rows, due).is_none() {
        return Ok(None);
    }
    let failed = failed_again(tx, &broke.recorder, due.event_id, &due.subject, due.attempts + 1, broke.error.clone())?;
    Ok(Some(Retried { handled: 0, failed: vec![failed] }))
}

/// Claims the first of a key, delivers it, and records how that went.
async fn outside_retry(shared: &Shared, shard: u16, due: Due, effect: OutsideEffect, recorder: Recorder) -> Result<Option<Retried>> {
    let call = || call_for(due.tenant, shard, due.lane);
    let timeout_ms = shared.config.outside_timeout_ms;
    let alone_ms = i64::try_from(timeout_ms).unwrap_or(i64::MAX / 2_000).saturating_add(GRACE_MS);
    let claimed = shared.store.write(call(), claim, (due.clone(), recorder.consumer, alone_ms)).await?;
    let Some(mut event) = claimed else { return Ok(None) };
    event.position.shard = shard;
    let result = attempt(effect, event, timeout_ms).await;
    let finish = Arc::new(OutsideFinish { due: due.clone(), recorder, error: result.err() });
    shared.store.write(call(), record_outside, finish).await
}

fn claim(tx: &mut Tx<'_>, (due, consumer, alone_ms): &(Due, &'static str, i64)) -> Result<Option<Event>> {
    let mut rows = queue_of(tx, consumer, &due.subject, 1)?;
    if head(&rows, due).is_none() {
        return Ok(None);
    }
    claim_retry(tx, consumer, due.event_id, due.attempts + 1, tx.now().plus_ms(*alone_ms))?;
    Ok(rows.pop().map(|row| row.event))
}

struct OutsideFinish {
    due: Due,
    recorder: Recorder,
    error: Option<Error>,
}

fn record_outside(tx: &mut Tx<'_>, finish: &Arc<OutsideFinish>) -> Result<Option<Retried>> {
    let claimed = Due { attempts: finish.due.attempts + 1, ..finish.due.clone() };
    let consumer = finish.recorder.consumer;
    let rows = queue_of(tx, consumer, &claimed.subject, 1)?;
    if head(&rows, &claimed).is_none() {
        return Ok(None);
    }
    let mut retried = Retried { handled: 0, failed: Vec::new() };
    match &finish.error {
        None => {
            forget(tx, consumer, claimed.event_id, &claimed.subject)?;
            retried.handled = 1;
        }
        Some(error) => {
            let failed = failed_again(tx, &finish.recorder, claimed.event_id, &claimed.subject, claimed.attempts, error.clone())?;
            retried.failed.push(failed);
        }
    }
    Ok(Some(retried))
}
