//! `brandos replay` and `brandos dead-letters`: the log's tools.

use crate::cli;
use crate::config::Config;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::Output;
use crate::wiring::{Node, Use};
use kernel::Error;
use log::{FailureKey, FailureState, FailureSummary, FailuresOf, Log, ReplayOf};
use std::time::Duration;
use store::EventId;

/// How long a replay or a retry may take to be handled before the command ends without it.
const HANDLED_WITHIN: Duration = Duration::from_secs(600);
/// The log lists so many failures at once.
const PAGE: u32 = 100;

/// Sets a consumer back and waits until it has caught up.
pub(crate) async fn replay(config: Config, replay: &cli::Replay, out: Output) -> Outcome<Exit> {
    let node = Node::open(config, Use::Write("replay"))?;
    let of = match (replay.shard, replay.lane, replay.from) {
        (None, None, None) => ReplayOf::All,
        (Some(shard), None, None) => ReplayOf::Shard(shard),
        (shard, lane, from) => {
            let shard = shard.unwrap_or(0);
            if shard >= node.store.shards() || (lane.is_none() && node.store.lanes(shard) > 1) {
                return Err(Failure::usage(format!("--from needs --shard and --lane; shard {shard} has {} lanes", node.store.lanes(0))));
            }
            ReplayOf::Lane { shard, lane: lane.unwrap_or(0), after_sequence: from.unwrap_or(0) }
        }
    };
    let log = node.start_log().await?;
    log.replay(&replay.consumer, of).await?;
    let caught_up = caught_up(&log).await?;
    log.stop().await;
    out.line(format!("{} was set back{}", replay.consumer, if caught_up { " and has caught up" } else { "; it has not caught up yet" }));
    out.value(&serde_json::json!({ "ok": true, "consumer": replay.consumer, "caught_up": caught_up }));
    node.close().await;
    Ok(Exit::Ok)
}

async fn caught_up(log: &Log) -> Outcome<bool> {
    match tokio::time::timeout(HANDLED_WITHIN, log.drained()).await {
        Ok(drained) => drained.map(|()| true).map_err(Into::into),
        Err(_) => Ok(false),
    }
}

/// Lists, shows, retries and skips.
pub(crate) async fn dead_letters(config: Config, command: cli::DeadLetters, out: Output) -> Outcome<Exit> {
    match command {
        cli::DeadLetters::List { consumer, limit } => {
            let node = Node::open(config, Use::Read("dead-letters"))?;
            let found = find(&node, limit as usize, |f| consumer.as_ref().is_none_or(|c| *c == f.key.consumer)).await?;
            out.table(
                &["CONSUMER", "EVENT", "KIND", "SUBJECT", "ATTEMPTS", "FAILED AT", "ERROR"],
                &found.iter().map(row).collect::<Vec<_>>(),
            );
            out.line(format!("{} dead letters", found.len()));
            out.value(&serde_json::json!({ "data": found }));
            node.close().await;
        }
        cli::DeadLetters::Show { consumer, event } => {
            let node = Node::open(config, Use::Read("dead-letters"))?;
            let key = named(&node, &consumer, &event).await?;
            let failure = node.idle_log()?.inspect(&key).await?;
            let event = &failure.event;
            let shown = serde_json::json!({
                "failure": failure.summary,
                "event": {
                    "id": event.id, "type": event.kind, "version": event.version, "tenant_id": event.tenant_id, "subject": event.subject,
                    "occurred_at": event.occurred_at, "correlation_id": event.correlation_id, "payload": payload(&event.payload),
                },
            });
            out.line(serde_json::to_string_pretty(&shown).unwrap_or_default());
            out.value(&shown);
            node.close().await;
        }
        cli::DeadLetters::Retry { consumer, event } => {
            let node = Node::open(config, Use::Write("dead-letters retry"))?;
            let key = named(&node, &consumer, &event).await?;
            let log = node.start_log().await?;
            log.retry(&key).await?;
            caught_up(&log).await?;
            log.stop().await;
            let still = find(&node, 1, |f| f.key == key).await?.into_iter().next();
            node.close().await;
            if let Some(still) = still {
                let detail = format!("the event failed again: {} ({})", still.error_detail, still.error_code);
                return Err(Failure::new(Exit::CheckFailed, "cli.failed_again", detail));
            }
            done(out, "handled", &consumer, &event);
        }
        cli::DeadLetters::Skip { consumer, event } => {
            let node = Node::open(config, Use::Write("dead-letters skip"))?;
            let key = named(&node, &consumer, &event).await?;
            let log = node.start_log().await?;
            log.skip(&key).await?;
            caught_up(&log).await?;
            log.stop().await;
            node.close().await;
            done(out, "skipped", &consumer, &event);
        }
    }
    Ok(Exit::Ok)
}

fn done(out: Output, what: &str, consumer: &str, event: &str) {
    out.line(format!("{event} of {consumer}: {what}"));
    out.value(&serde_json::json!({ "ok": true, "consumer": consumer, "event": event, "outcome": what }));
}

fn payload(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

fn row(failure: &FailureSummary) -> Vec<String> {
    let key = &failure.key;
    vec![
        key.consumer.clone(),
        key.event_id.to_string(),
        failure.kind.clone(),
        failure.subject.clone(),
        failure.attempts.to_string(),
        failure.failed_at.to_string(),
        failure.error_code.clone(),
    ]
}

/// How many dead letters there are.
pub(crate) async fn count(node: &Node) -> Outcome<usize> {
    find(node, usize::MAX, |_| true).await.map(|found| found.len())
}

/// The first `limit` dead letters that are `wanted`, over all shards.
async fn find(node: &Node, limit: usize, wanted: impl Fn(&FailureSummary) -> bool) -> Outcome<Vec<FailureSummary>> {
    let log = node.idle_log()?;
    let mut found = Vec::new();
    for shard in 0..node.store.shards() {
        let mut after = None;
        loop {
            let page = log.failures(FailuresOf::Shard(shard), Some(FailureState::Dead), after, PAGE).await?;
            after = page.last().map(|failure| failure.key.clone());
            let full = page.len() == PAGE as usize;
            found.extend(page.into_iter().filter(&wanted).take(limit - found.len()));
            if !full || found.len() >= limit {
                break;
            }
        }
    }
    Ok(found)
}

/// The dead letter of this consumer and event.
async fn named(node: &Node, consumer: &str, event: &str) -> Outcome<FailureKey> {
    let event_id: EventId = event.parse()?;
    let found = find(node, 1, |f| f.key.consumer == consumer && f.key.event_id == event_id).await?;
    let missing = || Error::not_found("log.failure_not_found", "there is no such dead letter");
    Ok(found.into_iter().next().ok_or_else(missing)?.key)
}
