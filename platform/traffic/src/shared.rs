//! Limits that several nodes share: one atomic script in Redis over all levels of a request, by Redis's clock.
//!
//! A round trip for each decision, many of them on one connection at once; or one for a block of them, for rules with a lease. When Redis is
//! slow or gone, each rule does what its `when_away` says, at once: a decision waits for Redis for [`SharedConfig::patience_ms`] at most,
//! and after a lost connection or three answers that did not come in time nobody waits at all until Redis has answered again, which is tried
//! five times a second.
//!
//! In a cluster the keys of one tenant are in one slot, and other keys each in their own. What is in one slot is decided at once, all or
//! none; when another slot's rule refuses, the rest is given back. So nothing is admitted that a rule refuses, and for the time of a round
//! trip a request that is refused in the end may stand in another's way.
//!
//! A rule with limit times window (in microseconds) above 2^53 is rounded by Redis, whose scripts count in doubles; nobody has such rules.

use crate::algorithm::{Algorithm, Quota, State};
use crate::lease::{Desk, Lent, Spent, Want, lend};
use crate::limiter::{Decision, Limiter, Lookup, Lookups, Outcome, Rules, Take};
use crate::redis_link::{Link, Origin};
use crate::rules::{Subject, WhenAway};
use arc_swap::ArcSwapOption;
use kernel::Result;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use redis::{RedisError, Script};
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
    /// `redis://[:password@]host:port/`, `redis+sentinel://[:password@]host:port,host:port/master` or
    /// `redis-cluster://[:password@]host:port,host:port`.
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

/// The script that decides, for whoever measures it by itself.
#[doc(hidden)]
pub fn shared_script() -> String {
    script_text(include_str!("shared.lua"))
}

/// Whether it is a URL of Redis as [`SharedConfig::url`] may be. Errors: `limits.invalid_redis`.
pub fn check_redis_url(url: &str) -> Result<()> {
    Origin::parse(url).map(|_| ())
}

fn script_text(text: &str) -> String {
    format!("{}{text}", include_str!("common.lua"))
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
    origin: Origin,
    script: Script,
    lending: Script,
    link: ArcSwapOption<Link>,
    desk: Desk,
    late: AtomicU32,
    lost: Notify,
    metrics: SharedMetrics,
}

impl Limiter {
    /// Keeps the limits in Redis from now on, together with every node that does the same. Returns when it is connected, or has tried once:
    /// a Redis that is away at the start is waited for in the background. Errors: `limits.invalid_redis` for a URL that is none.
    pub async fn share(self: &Arc<Self>, config: SharedConfig) -> Result<()> {
        let script = |text: &str| Script::new(&script_text(text));
        let shared = Arc::new(Shared {
            origin: Origin::parse(&config.url)?,
            config,
            script: script(include_str!("shared.lua")),
            lending: script(include_str!("lease.lua")),
            link: ArcSwapOption::empty(),
            desk: Desk::new(self.room()),
            late: AtomicU32::new(0),
            lost: Notify::new(),
            metrics: self.shared_metrics().clone(),
        });
        let first = shared.connect().await;
        tokio::spawn(keep(Arc::downgrade(self), Arc::downgrade(&shared), first.is_ok()));
        tokio::spawn(lend(Arc::downgrade(&shared)));
        if let Err(error) = first {
            tracing::warn!(%error, "Redis is away: limits are decided as their rules say");
        }
        self.set_shared(shared);
        Ok(())
    }

    /// How many decisions were made without the shared state.
    pub fn away(&self) -> u64 {
        self.shared_metrics().away.get()
    }

    /// As [`Limiter::decide`], by the state that all nodes share if there is one. [`Take::Peek`] then looks at nothing: it would be a
    /// round trip of its own.
    pub async fn decide_shared<'r>(&self, rules: &'r Rules, subject: &Subject<'_>, take: Take) -> Decision<'r> {
        let Some(shared) = self.shared() else { return self.decide(rules, subject, take) };
        if let Some(decision) = self.blocked(rules, subject) {
            return decision;
        }
        let subject = &self.with_country(rules, subject);
        let mut lookups = Lookups::new();
        self.look(rules, subject, take, &mut lookups);
        if take == Take::Peek || lookups.is_empty() {
            return Decision::new(Outcome::Admitted, 0);
        }
        // One that costs more than a lease is asked for by itself.
        let has_lease = |lookup: &Lookup<'_>| rules.rules[lookup.rule as usize].rule.lease >= lookup.cost;
        if !lookups.iter().any(has_lease) {
            return match self.ask_exactly(shared, rules, subject, &lookups).await {
                Some(decision) => decision,
                None => self.without(shared, rules, subject, take, lookups),
            };
        }
        let leased: Lookups<'r> = lookups.iter().filter(|lookup| has_lease(lookup)).copied().collect();
        let exact: Lookups<'r> = lookups.iter().filter(|lookup| !has_lease(lookup)).copied().collect();
        let deadline = tokio::time::Instant::now() + Duration::from_millis(shared.config.patience_ms);
        let mut answered = false;
        loop {
            match self.spend(&shared.desk, rules, subject, &leased) {
                Spent::Decided(decision) if exact.is_empty() || !decision.admitted() => return decision,
                Spent::Decided(spent) => {
                    let mut decision = match self.ask_exactly(shared, rules, subject, &exact).await {
                        Some(decision) => decision,
                        None => self.without(shared, rules, subject, take, exact),
                    };
                    if !decision.admitted() {
                        self.unspend(&shared.desk, rules, subject, &leased);
                    }
                    decision.levels.extend(spent.levels);
                    return decision;
                }
                Spent::Missing(waits, lacking) => {
                    if shared.link.load().is_none() {
                        break;
                    }
                    // What was lent may be gone before whoever waited for it gets at it. Then it is asked for again, until the patience is
                    // at its end: Redis is there, and others take all that it lends.
                    let late = match tokio::time::timeout_at(deadline, futures_util::future::join_all(waits)).await {
                        Ok(answers) if answers.iter().all(|answer| *answer == Ok(true)) => {
                            answered = true;
                            tokio::time::Instant::now() >= deadline
                        }
                        Ok(_) => break,
                        Err(_) if answered => true,
                        Err(_) => break,
                    };
                    match lacking.filter(|_| late) {
                        Some(lacking) => return self.outrun(rules, subject, &lacking),
                        None if late => break,
                        None => {}
                    }
                }
                Spent::Full => break,
            }
        }
        self.without(shared, rules, subject, take, lookups)
    }

    /// Refuses who got none of what was lent, until there can be another token.
    fn outrun<'r>(&self, rules: &Rules, subject: &Subject<'_>, lookup: &Lookup<'r>) -> Decision<'r> {
        let retry_us = (lookup.quota.per_us() / u64::from(lookup.quota.limit())).clamp(1_000, 250_000);
        let now_us = self.now_us();
        let mut decision = Decision::new(Outcome::Limited { rule: lookup.rule, retry_us }, now_us);
        decision.push_level(lookup, lookup.quota.having_used(lookup.quota.allowance().0, now_us));
        self.count_refusal(&rules.rules[lookup.rule as usize], lookup.hash, subject, now_us, retry_us);
        decision
    }

    /// Decides all of them in Redis, all or none; none when it is away.
    async fn ask_exactly<'r>(&self, shared: &Shared, rules: &Rules, subject: &Subject<'_>, lookups: &[Lookup<'r>]) -> Option<Decision<'r>> {
        let keys: SmallVec<[String; 6]> = lookups.iter().map(|lookup| self.shared_key(rules, lookup, subject)).collect();
        let now_us = if shared.config.own_clock { self.now_us() } else { 0 };
        let answer = if shared.origin.is_cluster() {
            shared.ask_by_slot(rules, lookups, &keys, now_us).await?
        } else {
            shared.ask(rules, lookups, &keys, now_us).await?
        };
        self.judge(rules, subject, lookups, &answer)
    }

    /// Without Redis: closed rules let nothing pass, open ones everything, local ones their share of the limit.
    fn without<'r>(&self, shared: &Shared, rules: &'r Rules, subject: &Subject<'_>, take: Take, mut lookups: Lookups<'r>) -> Decision<'r> {
        shared.metrics.away.inc();
        let rule_of = |lookup: &Lookup<'_>| &rules.rules[lookup.rule as usize].rule;
        if let Some(closed) = lookups.iter().find(|l| rule_of(l).when_away == WhenAway::Closed && !rule_of(l).dry_run) {
            return Decision::new(Outcome::Away { rule: closed.rule }, self.now_us());
        }
        lookups.retain(|lookup| rule_of(lookup).when_away == WhenAway::Local);
        for lookup in &mut lookups {
            if let Some(part) = rules.rules[lookup.rule as usize].part.of(subject.tenant) {
                lookup.quota = part;
            }
        }
        if lookups.is_empty() {
            return Decision::new(Outcome::Admitted, self.now_us());
        }
        self.decide_all(rules, subject, take, &lookups)
    }

    /// Makes a decision out of the script's answer; none if that is not of its form.
    fn judge<'r>(&self, rules: &Rules, subject: &Subject<'_>, lookups: &[Lookup<'r>], answer: &[i64]) -> Option<Decision<'r>> {
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

fn number_of(algorithm: Algorithm) -> u8 {
    match algorithm {
        Algorithm::TokenBucket => 0,
        Algorithm::LeakyBucket => 1,
        Algorithm::FixedWindow => 2,
        Algorithm::SlidingLog => 3,
        Algorithm::SlidingCounter => 4,
    }
}

/// What stands in braces, by which a cluster finds a key's slot.
fn tag(key: &str) -> &str {
    key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or(key, |(tag, _)| tag)
}

impl Shared {
    pub(crate) fn nodes(&self) -> u32 {
        self.config.nodes
    }

    pub(crate) fn desk(&self) -> &Desk {
        &self.desk
    }

    /// How many loans one call may ask for: in a cluster their keys are in several slots, and each is a call of its own.
    pub(crate) fn batch(&self, most: usize) -> usize {
        if self.origin.is_cluster() { 1 } else { most }
    }

    async fn connect(&self) -> std::result::Result<(), RedisError> {
        let late = || RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
        let connection = async {
            let link = self.origin.connect().await?;
            link.load(&self.script).await?;
            link.load(&self.lending).await?;
            Ok::<_, RedisError>(link)
        };
        let link = tokio::time::timeout(CONNECT, connection).await.map_err(|_| late())??;
        self.late.store(0, Relaxed);
        self.link.store(Some(Arc::new(link)));
        self.metrics.up.set(1);
        Ok(())
    }

    /// Runs a call; none when Redis is away or slow.
    async fn run(&self, call: &redis::ScriptInvocation<'_>) -> Option<Vec<i64>> {
        let link = self.link.load_full()?;
        match tokio::time::timeout(Duration::from_millis(self.config.patience_ms), link.run(call)).await {
            Ok(Ok(answer)) => {
                if self.late.load(Relaxed) > 0 {
                    self.late.store(0, Relaxed);
                }
                return Some(answer);
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "Redis refused a decision");
                // One that is out of memory answers, and would be there again at once; any other error may be another server's by now.
                if error.code() != Some("OOM") {
                    self.lose(&link);
                }
            }
            Err(_) if self.late.fetch_add(1, Relaxed) + 1 >= LATE => self.lose(&link),
            Err(_) => {}
        }
        None
    }

    /// Asks for loans; none when Redis is away or slow.
    pub(crate) async fn borrow(&self, wants: &[Want]) -> Option<Vec<Lent>> {
        let mut call = self.lending.prepare_invoke();
        call.arg(0).arg(0);
        for want in wants {
            call.key(&want.key).arg(want.back).arg(want.block).arg(want.least);
            quota_figures(&mut call, &want.quota).arg(0);
        }
        let answer = self.run(&call).await?;
        let lent = |four: &[i64]| Lent {
            tokens: four[0].clamp(0, i64::from(u32::MAX)) as u32,
            left: four[1].clamp(0, i64::from(u32::MAX)) as u32,
            retry_us: four[2].max(0) as u64,
            valid_us: four[3].max(0) as u64,
        };
        (answer.len() == wants.len() * 4).then(|| answer.chunks_exact(4).map(lent).collect())
    }

    /// As [`Shared::ask`], each slot by itself; if one refuses, the others are given back what they took.
    async fn ask_by_slot(&self, rules: &Rules, lookups: &[Lookup<'_>], keys: &[String], now_us: u64) -> Option<Vec<i64>> {
        type Levels = SmallVec<[usize; 6]>;
        let mut slots: SmallVec<[(&str, Levels); 6]> = SmallVec::new();
        for (at, key) in keys.iter().enumerate() {
            match slots.iter_mut().find(|(slot, _)| *slot == tag(key)) {
                Some((_, levels)) => levels.push(at),
                None => slots.push((tag(key), SmallVec::from_elem(at, 1))),
            }
        }
        let asked = slots.iter().map(|(_, levels)| async {
            let looks: Lookups<'_> = levels.iter().map(|at| lookups[*at]).collect();
            let keys: SmallVec<[String; 6]> = levels.iter().map(|at| keys[*at].clone()).collect();
            self.ask(rules, &looks, &keys, now_us).await.filter(|answer| answer.len() == 1 + 6 * levels.len())
        });
        let answers = futures_util::future::join_all(asked).await;
        let is_trial = |at: usize| rules.rules[lookups[at].rule as usize].rule.dry_run;
        let admits = |levels: &[usize], answer: &[i64]| levels.iter().enumerate().all(|(n, at)| answer[1 + n * 6] == 1 || is_trial(*at));
        let all = slots.iter().zip(&answers).all(|((_, levels), answer)| answer.as_ref().is_some_and(|answer| admits(levels, answer)));
        if !all {
            let took = slots.iter().zip(&answers).filter_map(|((_, levels), answer)| {
                let answer = answer.as_ref().filter(|answer| admits(levels, answer))?;
                Some((levels, answer))
            });
            for (levels, answer) in took {
                let mut call = self.lending.prepare_invoke();
                call.arg(0).arg(now_us);
                for (n, at) in levels.iter().enumerate().filter(|(n, _)| answer[1 + n * 6] == 1) {
                    let lookup = &lookups[*at];
                    // Nothing is asked for, and the tokens go back to the window that they were taken from.
                    call.key(&keys[*at]).arg(lookup.cost).arg(0).arg(1);
                    quota_figures(&mut call, lookup.quota).arg(answer[4 + n * 6]);
                }
                let _ = self.run(&call).await;
            }
        }
        let mut whole = vec![0; 1 + 6 * lookups.len()];
        for ((_, levels), answer) in slots.iter().zip(answers) {
            let answer = answer?;
            whole[0] = whole[0].max(answer[0]);
            for (n, at) in levels.iter().enumerate() {
                whole[1 + at * 6..7 + at * 6].copy_from_slice(&answer[1 + n * 6..7 + n * 6]);
            }
        }
        Some(whole)
    }

    /// Runs the script; none when Redis is away or slow.
    async fn ask(&self, rules: &Rules, lookups: &[Lookup<'_>], keys: &[String], now_us: u64) -> Option<Vec<i64>> {
        let mut call = self.script.prepare_invoke();
        call.arg(1).arg(now_us);
        for (lookup, key) in lookups.iter().zip(keys) {
            let quota = lookup.quota;
            let (add_us, add_part) = quota.plus((0, 0), lookup.cost);
            let (full_us, full_part) = quota.full();
            call.key(key).arg(number_of(quota.algorithm())).arg(lookup.cost).arg(quota.limit()).arg(quota.per_us()).arg(quota.burst());
            call.arg(add_us).arg(add_part).arg(full_us).arg(full_part);
            call.arg(u8::from(rules.rules[lookup.rule as usize].rule.dry_run));
        }
        self.run(&call).await
    }

    /// Nobody waits for this connection any more.
    fn lose(&self, link: &Arc<Link>) {
        if self.link.load().as_ref().is_some_and(|current| Arc::ptr_eq(current, link)) {
            self.link.store(None);
            self.lost.notify_one();
        }
    }
}

/// What the scripts know of a quota.
fn quota_figures<'a, 'b>(call: &'a mut redis::ScriptInvocation<'b>, quota: &Quota) -> &'a mut redis::ScriptInvocation<'b> {
    let (full_us, full_part) = quota.full();
    call.arg(number_of(quota.algorithm())).arg(quota.limit()).arg(quota.per_us()).arg(quota.burst()).arg(full_us).arg(full_part)
}

/// Keeps a connection, until the limiter is gone.
async fn keep(limiter: Weak<Limiter>, shared: Weak<Shared>, mut up: bool) {
    loop {
        let Some(shared) = shared.upgrade().filter(|_| limiter.strong_count() > 0) else { return };
        let link = shared.link.load_full();
        match link {
            Some(link) => {
                let there = tokio::time::timeout(CONNECT, link.ping()).await;
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
                if shared.connect().await.is_ok() {
                    up = true;
                    tracing::info!("Redis is there: limits are shared");
                } else {
                    tokio::time::sleep(RECONNECT).await;
                }
            }
        }
    }
}
