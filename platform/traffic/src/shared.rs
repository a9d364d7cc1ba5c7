//! Limits that several nodes share: one atomic script in Redis over all levels of a request, by Redis's clock.
//!
//! A round trip for each decision, many of them on one connection at once. When Redis is slow or gone, each rule does what its `when_away`
//! says, at once: a decision waits for Redis for [`SharedConfig::patience_ms`] at most, and after a lost connection or three answers that
//! did not come in time nobody waits at all until Redis has answered again, which is tried five times a second.
//!
//! A rule with limit times window (in microseconds) above 2^53 is rounded by Redis, whose scripts count in doubles; nobody has such rules.

use crate::algorithm::{Algorithm, Quota, State};
use crate::limiter::{Decision, Limiter, Lookup, Outcome, Rules, Take};
use crate::rules::{Subject, WhenAway};
use arc_swap::ArcSwapOption;
use kernel::{Error, Result};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use redis::aio::MultiplexedConnection;
use redis::{Client, RedisError, Script};
use smallvec::SmallVec;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;

/// How long a connection may take to be made, and Redis to say that it is there.
const CONNECT: Duration = Duration::from_millis(500);
/// Between two attempts to connect.
const RECONNECT: Duration = Duration::from_millis(200);
/// How often Redis is asked whether it is there.
const PING: Duration = Duration::from_millis(500);
/// So many answers in a row that did not come in time end a connection.
const LATE: u32 = 3;

/// Where the shared state is.
#[derive(Clone, Debug)]
pub struct SharedConfig {
    /// `redis://[:password@]host:port/`.
    pub url: String,
    /// How long a decision waits for Redis. Default 25 ms.
    pub patience_ms: u64,
    /// How many nodes there are: with `when_away = "local"` each takes this part of a limit. Default 1.
    pub nodes: u32,
    /// By the limiter's own clock instead of Redis's: for tests.
    #[doc(hidden)]
    pub own_clock: bool,
}

impl SharedConfig {
    /// With the defaults.
    pub fn new(url: impl Into<String>) -> SharedConfig {
        SharedConfig { url: url.into(), patience_ms: 25, nodes: 1, own_clock: false }
    }
}

/// The metrics of the shared state.
#[derive(Clone, Default)]
pub(crate) struct SharedMetrics {
    /// 1 while Redis answers.
    pub(crate) up: Gauge,
    /// Decisions that were made without it.
    pub(crate) away: Counter,
}

/// The shared state of a limiter.
pub(crate) struct Shared {
    config: SharedConfig,
    script: Script,
    link: ArcSwapOption<MultiplexedConnection>,
    late: AtomicU32,
    lost: Notify,
    metrics: SharedMetrics,
}

impl Limiter {
    /// Keeps the limits in Redis from now on, together with every node that does the same. Returns when it is connected, or has tried once:
    /// a Redis that is away at the start is waited for in the background. Errors: `limits.invalid_redis` for a URL that is none.
    pub async fn share(self: &Arc<Self>, config: SharedConfig) -> Result<()> {
        let client = Client::open(config.url.as_str()).map_err(|error| {
            Error::invalid("limits.invalid_redis", "the URL of Redis is not of the form redis://host:port/").caused_by(error)
        })?;
        let shared = Arc::new(Shared {
            config,
            script: Script::new(include_str!("shared.lua")),
            link: ArcSwapOption::empty(),
            late: AtomicU32::new(0),
            lost: Notify::new(),
            metrics: self.shared_metrics().clone(),
        });
        let first = shared.connect(&client).await;
        tokio::spawn(keep(Arc::downgrade(self), Arc::downgrade(&shared), client, first.is_ok()));
        if let Err(error) = first {
            tracing::warn!(%error, "Redis is away: limits are decided as their rules say");
        }
        self.set_shared(shared);
        Ok(())
    }

    /// As [`Limiter::decide`], by the state that all nodes share if there is one. [`Take::Peek`] then looks at nothing: it would be a
    /// round trip of its own.
    pub async fn decide_shared(&self, rules: &Rules, subject: &Subject<'_>, take: Take) -> Decision {
        let Some(shared) = self.shared() else { return self.decide(rules, subject, take) };
        if let Some(decision) = self.blocked(rules, subject) {
            return decision;
        }
        let mut lookups = self.lookups(rules, subject, take);
        if take == Take::Peek || lookups.is_empty() {
            return Decision::new(Outcome::Admitted, 0);
        }
        let keys: SmallVec<[String; 6]> = lookups.iter().map(|lookup| self.shared_key(rules, lookup, subject)).collect();
        let now_us = if shared.config.own_clock { self.now_us() } else { 0 };
        if let Some(answer) = shared.ask(rules, &lookups, &keys, now_us).await
            && let Some(decision) = self.judge(rules, subject, &lookups, &answer)
        {
            return decision;
        }
        // Without Redis: closed rules let nothing pass, open ones everything, local ones their share of the limit.
        shared.metrics.away.inc();
        let rule_of = |lookup: &Lookup| &rules.rules[lookup.rule as usize].rule;
        if let Some(closed) = lookups.iter().find(|l| rule_of(l).when_away == WhenAway::Closed && !rule_of(l).dry_run) {
            return Decision::new(Outcome::Away { rule: closed.rule }, self.now_us());
        }
        lookups.retain(|lookup| rule_of(lookup).when_away == WhenAway::Local);
        for lookup in &mut lookups {
            lookup.quota = lookup.quota.shared_by(shared.config.nodes);
        }
        if lookups.is_empty() {
            return Decision::new(Outcome::Admitted, self.now_us());
        }
        self.decide_all(rules, subject, take, &mut lookups)
    }

    /// Makes a decision out of the script's answer; none if that is not of its form.
    fn judge(&self, rules: &Rules, subject: &Subject<'_>, lookups: &[Lookup], answer: &[i64]) -> Option<Decision> {
        let (now, levels) = answer.split_first()?;
        if levels.len() != lookups.len() * 6 {
            return None;
        }
        let now_us = *now as u64;
        let mut decision = Decision::new(Outcome::Admitted, now_us);
        let mut longest = 0;
        for (lookup, level) in lookups.iter().zip(levels.chunks_exact(6)) {
            let active = &rules.rules[lookup.rule as usize];
            let (admitted, retry_us, delay_us) = (level[0] == 1, level[1] as u64, level[2] as u64);
            if active.rule.dry_run {
                if !admitted {
                    self.count_trial(active);
                }
                continue;
            }
            decision.delay_us = decision.delay_us.max(delay_us);
            if !admitted && retry_us >= longest {
                longest = retry_us;
                decision.outcome = Outcome::Limited { rule: lookup.rule, retry_us };
            }
            let (x, y) = (level[4] as u64, level[5] as u64);
            let word = if lookup.quota.algorithm() == Algorithm::SlidingCounter { y << 32 | x } else { x };
            decision.push_level(lookup, State { until_us: level[3] as u64, word });
        }
        if !decision.admitted() {
            for (lookup, level) in lookups.iter().zip(levels.chunks_exact(6)).filter(|(_, level)| level[0] == 0) {
                let active = &rules.rules[lookup.rule as usize];
                if !active.rule.dry_run {
                    self.count_refusal(active, lookup.hash, subject, now_us, level[1] as u64);
                }
            }
        }
        Some(decision)
    }
}

impl Shared {
    async fn connect(&self, client: &Client) -> std::result::Result<(), RedisError> {
        let late = || RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
        let connection = async {
            let mut connection = client.get_multiplexed_async_connection().await?;
            self.script.load_async(&mut connection).await?;
            Ok::<_, RedisError>(connection)
        };
        let connection = tokio::time::timeout(CONNECT, connection).await.map_err(|_| late())??;
        self.late.store(0, Relaxed);
        self.link.store(Some(Arc::new(connection)));
        self.metrics.up.set(1);
        Ok(())
    }

    /// Runs the script; none when Redis is away or slow.
    async fn ask(&self, rules: &Rules, lookups: &[Lookup], keys: &[String], now_us: u64) -> Option<Vec<i64>> {
        let link = self.link.load_full()?;
        let mut call = self.script.prepare_invoke();
        call.arg(1).arg(now_us);
        for (lookup, key) in lookups.iter().zip(keys) {
            let quota = &lookup.quota;
            let (add_us, add_part) = quota.plus((0, 0), lookup.cost);
            let algorithm = match quota.algorithm() {
                Algorithm::TokenBucket => 0,
                Algorithm::LeakyBucket => 1,
                Algorithm::FixedWindow => 2,
                Algorithm::SlidingLog => 3,
                Algorithm::SlidingCounter => 4,
            };
            let (full_us, full_part) = quota.full();
            call.key(key).arg(algorithm).arg(lookup.cost).arg(quota.limit()).arg(quota.per_us()).arg(quota.burst());
            call.arg(add_us).arg(add_part).arg(full_us).arg(full_part);
            call.arg(u8::from(rules.rules[lookup.rule as usize].rule.dry_run));
        }
        let mut connection = (*link).clone();
        match tokio::time::timeout(Duration::from_millis(self.config.patience_ms), call.invoke_async::<Vec<i64>>(&mut connection)).await {
            Ok(Ok(answer)) => {
                if self.late.load(Relaxed) > 0 {
                    self.late.store(0, Relaxed);
                }
                return Some(answer);
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "Redis refused a decision");
                self.lose(&link);
            }
            Err(_) if self.late.fetch_add(1, Relaxed) + 1 >= LATE => self.lose(&link),
            Err(_) => {}
        }
        None
    }

    /// Nobody waits for this connection any more.
    fn lose(&self, link: &Arc<MultiplexedConnection>) {
        if self.link.load().as_ref().is_some_and(|current| Arc::ptr_eq(current, link)) {
            self.link.store(None);
            self.lost.notify_one();
        }
    }
}

/// Keeps a connection, until the limiter is gone.
async fn keep(limiter: Weak<Limiter>, shared: Weak<Shared>, client: Client, mut up: bool) {
    loop {
        let Some(shared) = shared.upgrade().filter(|_| limiter.strong_count() > 0) else { return };
        let link = shared.link.load_full();
        match link {
            Some(link) => {
                let mut connection = (*link).clone();
                let there = tokio::time::timeout(CONNECT, redis::cmd("PING").query_async::<String>(&mut connection)).await;
                if !matches!(there, Ok(Ok(_))) {
                    shared.lose(&link);
                    continue;
                }
                let _ = tokio::time::timeout(PING, shared.lost.notified()).await;
            }
            None => {
                if up {
                    up = false;
                    shared.metrics.up.set(0);
                    tracing::warn!("Redis is away: limits are decided as their rules say");
                }
                if shared.connect(&client).await.is_ok() {
                    up = true;
                    tracing::info!("Redis is there: limits are shared");
                } else {
                    tokio::time::sleep(RECONNECT).await;
                }
            }
        }
    }
}

impl Quota {
    /// A node's part of it, at least one.
    fn shared_by(&self, nodes: u32) -> Quota {
        if nodes <= 1 {
            return *self;
        }
        let part = |number: u32| (number / nodes).max(1);
        Quota::new(self.algorithm(), part(self.limit()), self.per_us(), part(self.burst())).unwrap_or(*self)
    }
}
