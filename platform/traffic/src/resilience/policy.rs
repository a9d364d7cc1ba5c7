//! A dependency's policy, and the deadline that travels with a request.

use super::breaker::{Breaker, BreakerConfig, BreakerState};
use kernel::{Error, ErrorKind, Result, Rng};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// When whoever asked has no more use for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

tokio::task_local! {
    static CURRENT: Deadline;
}

impl Deadline {
    /// So long from now.
    pub fn within(time: Duration) -> Deadline {
        // A deadline that lies too far away for the clock is a month away.
        let now = Instant::now();
        Deadline(now.checked_add(time).unwrap_or(now + Duration::from_secs(30 * 86_400)))
    }

    /// The deadline of the request that is being handled, if there is one.
    pub fn current() -> Option<Deadline> {
        CURRENT.try_with(|deadline| *deadline).ok()
    }

    /// Runs the future under this deadline, or under the current one if that is earlier: whatever it calls sees it.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        let deadline = Deadline::current().map_or(self, |outer| outer.min(self));
        CURRENT.scope(deadline, future).await
    }

    /// What is left, for the next one to be asked; none when it is over.
    pub fn left(self) -> Option<Duration> {
        self.0.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }
}

/// How a dependency is called. The defaults are the house's.
#[derive(Clone, Copy, Debug, PartialEq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyConfig {
    /// The longest that one attempt may take. Default 5 s.
    pub timeout_ms: u64,
    /// How often it is tried in all. Default 3.
    pub attempts: u32,
    /// The first pause is up to so long, the next up to twice as long ... Default 1 s.
    pub pause_ms: u64,
    /// ... and none longer than this. Default 10 s.
    pub longest_pause_ms: u64,
    /// Retries, in percent of the calls: beyond it nobody retries, because a dependency in trouble needs fewer calls. Default 10.
    pub retry_percent: u32,
    /// Retries that are always there to begin with. Default 10.
    pub retry_reserve: u32,
    /// Calls at once. Default 64.
    pub bulkhead: u32,
    /// How long a call may wait for a seat. Default 100 ms.
    pub bulkhead_wait_ms: u64,
    /// The circuit breaker.
    pub breaker: BreakerConfig,
}

impl Default for PolicyConfig {
    fn default() -> Self {
        PolicyConfig {
            timeout_ms: 5_000,
            attempts: 3,
            pause_ms: 1_000,
            longest_pause_ms: 10_000,
            retry_percent: 10,
            retry_reserve: 10,
            bulkhead: 64,
            bulkhead_wait_ms: 100,
            breaker: BreakerConfig::default(),
        }
    }
}

impl PolicyConfig {
    fn check(&self) -> Result<(), &'static str> {
        if self.timeout_ms == 0 || self.attempts == 0 || self.bulkhead == 0 {
            return Err("timeout_ms, attempts and bulkhead are above 0");
        }
        if self.attempts > 20 || self.bulkhead > 1_000_000 {
            return Err("attempts is at most 20, bulkhead at most 1000000");
        }
        if [self.timeout_ms, self.pause_ms, self.longest_pause_ms, self.bulkhead_wait_ms].iter().any(|ms| *ms > 3_600_000) {
            return Err("no time is longer than an hour");
        }
        if self.retry_percent > 100 || self.retry_reserve > 1_000_000 {
            return Err("retry_percent is at most 100, retry_reserve at most 1000000");
        }
        let breaker = &self.breaker;
        if breaker.failures == 0 || breaker.window_ms == 0 || breaker.open_ms == 0 || breaker.probes == 0 || breaker.least_calls == 0 {
            return Err("the figures of a breaker are above 0");
        }
        if breaker.window_ms.max(breaker.open_ms) > 3_600_000 || breaker.failure_percent == 0 || breaker.failure_percent > 100 {
            return Err("a breaker's times are at most an hour, its failure_percent from 1 to 100");
        }
        Ok(())
    }
}

/// The pause before attempt `number` (from 2): anything from nothing to the first pause doubled each time, capped; `random` is below 2^64.
/// The whole of it is random (full jitter), so that callers who failed together don't come back together.
pub fn backoff_us(config: &PolicyConfig, number: u32, random: u64) -> u64 {
    let doubled = config.pause_ms.saturating_mul(1 << number.saturating_sub(2).min(30));
    let most = doubled.min(config.longest_pause_ms).saturating_mul(1000);
    ((u128::from(random) * (u128::from(most) + 1)) >> 64) as u64
}

/// Retries that may still be made: each call adds a share of one, each retry takes one.
pub struct Budget {
    /// Thousandths.
    tokens: AtomicI64,
    most: i64,
    each: i64,
}

impl Budget {
    /// `reserve` to begin with and at most, and `percent` of the calls.
    pub fn new(percent: u32, reserve: u32) -> Budget {
        let most = i64::from(reserve) * 1000;
        Budget { tokens: AtomicI64::new(most), most, each: i64::from(percent) * 10 }
    }

    /// A call was made.
    pub fn earn(&self) {
        // Nothing is written while it is full, which is nearly always.
        if self.tokens.load(Relaxed) < self.most {
            let _ = self.tokens.fetch_update(Relaxed, Relaxed, |tokens| Some((tokens + self.each).min(self.most)));
        }
    }

    /// Whether a retry may be made; if so it is taken.
    pub fn spend(&self) -> bool {
        self.tokens.fetch_update(Relaxed, Relaxed, |tokens| (tokens >= 1000).then_some(tokens - 1000)).is_ok()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    dependency: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DependencyLabel {
    dependency: String,
}

#[derive(Clone, Default)]
struct Families {
    calls: Family<OutcomeLabels, Counter>,
    breaker: Family<DependencyLabel, Gauge>,
}

struct Counters {
    ok: Counter,
    failed: Counter,
    timeout: Counter,
    retried: Counter,
    no_budget: Counter,
    breaker_open: Counter,
    bulkhead_full: Counter,
    too_late: Counter,
    fallback: Counter,
    breaker: Gauge,
}

impl Counters {
    fn new(families: &Families, name: &str) -> Counters {
        let of = |outcome| families.calls.get_or_create_owned(&OutcomeLabels { dependency: name.to_owned(), outcome });
        Counters {
            ok: of("ok"),
            failed: of("failed"),
            timeout: of("timeout"),
            retried: of("retried"),
            no_budget: of("no_retry_budget"),
            breaker_open: of("breaker_open"),
            bulkhead_full: of("bulkhead_full"),
            too_late: of("too_late"),
            fallback: of("fallback"),
            breaker: families.breaker.get_or_create_owned(&DependencyLabel { dependency: name.to_owned() }),
        }
    }
}

/// A dependency and how it is called. Shared by all who call it.
pub struct Policy {
    name: Box<str>,
    config: PolicyConfig,
    seats: Semaphore,
    breaker: Breaker,
    budget: Budget,
    rng: Arc<dyn Rng>,
    begun: Instant,
    counters: Counters,
}

/// Gives a pass back even when the call is dropped half-way.
struct Probe<'a> {
    policy: &'a Policy,
    pass: Option<super::Pass>,
}

impl Probe<'_> {
    fn done(mut self, ok: bool) {
        let Some(pass) = self.pass.take() else { return };
        if self.policy.breaker.leave(pass, ok, self.policy.now_us()) {
            self.policy.tell_breaker();
        }
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        if let Some(pass) = self.pass.take() {
            self.policy.breaker.forget(pass);
        }
    }
}

impl Policy {
    fn new(name: &str, config: PolicyConfig, rng: Arc<dyn Rng>, families: &Families) -> Policy {
        Policy {
            name: name.into(),
            config,
            seats: Semaphore::new(config.bulkhead as usize),
            breaker: Breaker::new(config.breaker),
            budget: Budget::new(config.retry_percent, config.retry_reserve),
            rng,
            begun: Instant::now(),
            counters: Counters::new(families, name),
        }
    }

    /// A policy that stands alone: of a tool, or in a test. Its metrics are nobody's.
    pub fn alone(name: &str, config: PolicyConfig, rng: Arc<dyn Rng>) -> Arc<Policy> {
        Arc::new(Policy::new(name, config, rng, &Families::default()))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Calls that are under way or wait between attempts.
    pub fn in_flight(&self) -> u32 {
        self.config.bulkhead - self.seats.available_permits().min(self.config.bulkhead as usize) as u32
    }

    fn now_us(&self) -> u64 {
        self.begun.elapsed().as_micros() as u64
    }

    fn tell_breaker(&self) {
        let state = self.breaker.state();
        self.counters.breaker.set(match state {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        });
        match state {
            BreakerState::Open => tracing::warn!(dependency = &*self.name, "too many failures: nobody calls it for a while"),
            _ => tracing::info!(dependency = &*self.name, "it answers again"),
        }
    }

    /// Where the breaker stands.
    pub fn breaker(&self) -> BreakerState {
        self.breaker.state()
    }

    /// How it is called.
    pub fn config(&self) -> &PolicyConfig {
        &self.config
    }

    /// Calls it, again after a failure that may pass. Only for what can be done twice: reads, and writes under a stable idempotency key.
    /// The attempt gets its number, from 1. Errors: those of the attempts; unavailable with `dependency.timeout`, `dependency.open`,
    /// `dependency.busy` or `dependency.too_late`.
    pub async fn call<T, F>(&self, attempt: impl FnMut(u32) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        self.run(true, attempt).await
    }

    /// Calls it, and again only when it has certainly not been done (the kinds unavailable and overloaded). A timeout is `unknown` here.
    pub async fn call_once<T, F>(&self, attempt: impl FnMut(u32) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        self.run(false, attempt).await
    }

    /// As [`Policy::call`]; when the dependency fails, the fallback answers instead, and is told why. Its own refusals (not found, invalid ...)
    /// are answers, and are given as they are.
    pub async fn call_or<T, F>(&self, attempt: impl FnMut(u32) -> F, fallback: impl FnOnce(Error) -> Result<T>) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        match self.run(true, attempt).await {
            Err(error) if is_failure(&error) => {
                self.counters.fallback.inc();
                fallback(error)
            }
            answer => answer,
        }
    }

    async fn run<T, F>(&self, repeatable: bool, mut attempt: impl FnMut(u32) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let deadline = Deadline::current();
        let _seat = self.seat(deadline).await?;
        self.budget.earn();
        let mut number = 1;
        loop {
            let error = match self.once(repeatable, deadline, attempt(number)).await {
                Err(error) if is_failure(&error) => error,
                answer => return answer,
            };
            // What the breaker refused is not tried again: waiting for it would only hold the seat.
            let done_for_certain = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Overloaded);
            let again = (repeatable || done_for_certain)
                && number < self.config.attempts
                && !matches!(error.code(), "dependency.open" | "dependency.too_late");
            if !again {
                return Err(error);
            }
            if !self.budget.spend() {
                self.counters.no_budget.inc();
                return Err(error);
            }
            number += 1;
            let mut random = [0; 8];
            self.rng.fill(&mut random);
            let pause = backoff_us(&self.config, number, u64::from_le_bytes(random));
            // It said itself when to come again; not believed beyond our own longest pause.
            let asked = u64::from(error.retry_after().unwrap_or(0)).min(self.config.longest_pause_ms) * 1000;
            let pause = Duration::from_micros(pause.max(asked));
            if deadline.is_some_and(|deadline| deadline.left().is_none_or(|left| left <= pause)) {
                return Err(error);
            }
            self.counters.retried.inc();
            tokio::time::sleep(pause).await;
        }
    }

    async fn seat(&self, deadline: Option<Deadline>) -> Result<tokio::sync::SemaphorePermit<'_>> {
        if let Ok(seat) = self.seats.try_acquire() {
            return Ok(seat);
        }
        let left = deadline.map_or(Some(Duration::MAX), Deadline::left).ok_or_else(|| self.too_late())?;
        let wait = Duration::from_millis(self.config.bulkhead_wait_ms).min(left);
        match tokio::time::timeout(wait, self.seats.acquire()).await {
            Ok(Ok(seat)) => Ok(seat),
            _ => {
                self.counters.bulkhead_full.inc();
                let detail = format!("{} already has as many calls as it may have", self.name);
                Err(Error::unavailable("dependency.busy", detail).retry_after_ms(1000))
            }
        }
    }

    fn too_late(&self) -> Error {
        self.counters.too_late.inc();
        Error::unavailable("dependency.too_late", format!("there is no time left to ask {}", self.name))
    }

    /// One attempt, under the breaker and in time.
    async fn once<T>(&self, repeatable: bool, deadline: Option<Deadline>, attempt: impl Future<Output = Result<T>>) -> Result<T> {
        let mut time = Duration::from_millis(self.config.timeout_ms);
        let mut shortened = false;
        if let Some(deadline) = deadline {
            let left = deadline.left().ok_or_else(|| self.too_late())?;
            shortened = left < time;
            time = time.min(left);
        }
        let pass = self.breaker.enter(self.now_us()).map_err(|wait_us| {
            self.counters.breaker_open.inc();
            let detail = format!("{} has failed too often; it is not asked for a while", self.name);
            Error::unavailable("dependency.open", detail).retry_after_ms(wait_us.div_ceil(1000).try_into().unwrap_or(u32::MAX))
        })?;
        let probe = Probe { policy: self, pass: Some(pass) };
        match tokio::time::timeout(time, attempt).await {
            Ok(answer) => {
                let failed = answer.as_ref().is_err_and(is_failure);
                if failed { &self.counters.failed } else { &self.counters.ok }.inc();
                probe.done(!failed);
                answer
            }
            Err(_) => {
                self.counters.timeout.inc();
                // That a caller was in a hurry says nothing of the dependency.
                if shortened {
                    drop(probe)
                } else {
                    probe.done(false)
                }
                let detail = format!("{} took longer than {} ms", self.name, time.as_millis());
                let kind = if repeatable { ErrorKind::Unavailable } else { ErrorKind::Unknown };
                Err(Error::new(kind, "dependency.timeout", detail))
            }
        }
    }
}

/// Whether the dependency failed, as against having answered something unwelcome.
fn is_failure(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Overloaded | ErrorKind::Unknown | ErrorKind::Internal)
}

/// Names of dependencies that have a policy, and metrics, of their own.
pub const MAX_POLICIES: usize = 256;

/// What is usual, with what differs from it.
fn laid_over(d: &PolicyConfig, own: &toml::Table) -> Result<PolicyConfig, String> {
    let b = &d.breaker;
    let number = |value: u64| toml::Value::Integer(value as i64);
    let mut breaker: toml::Table = [
        ("failures", u64::from(b.failures)),
        ("failure_percent", u64::from(b.failure_percent)),
        ("least_calls", u64::from(b.least_calls)),
        ("window_ms", b.window_ms),
        ("open_ms", b.open_ms),
        ("probes", u64::from(b.probes)),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), number(value)))
    .collect();
    let mut all: toml::Table = [
        ("timeout_ms", d.timeout_ms),
        ("attempts", u64::from(d.attempts)),
        ("pause_ms", d.pause_ms),
        ("longest_pause_ms", d.longest_pause_ms),
        ("retry_percent", u64::from(d.retry_percent)),
        ("retry_reserve", u64::from(d.retry_reserve)),
        ("bulkhead", u64::from(d.bulkhead)),
        ("bulkhead_wait_ms", d.bulkhead_wait_ms),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), number(value)))
    .collect();
    for (key, value) in own {
        match (key.as_str(), value) {
            ("breaker", toml::Value::Table(own)) => breaker.extend(own.clone()),
            (_, value) => _ = all.insert(key.clone(), value.clone()),
        }
    }
    all.entry("breaker").or_insert(toml::Value::Table(breaker));
    let config: PolicyConfig = all.try_into().map_err(|error: toml::de::Error| error.message().to_owned())?;
    config.check().map_err(str::to_owned)?;
    Ok(config)
}

/// The policies of all dependencies.
pub struct Policies {
    default: PolicyConfig,
    /// What the configuration says of a dependency: it is laid over what is usual for that one.
    own: HashMap<String, toml::Table>,
    made: Mutex<HashMap<String, Arc<Policy>>>,
    rng: Arc<dyn Rng>,
    families: Families,
}

#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawPolicies {
    default: Option<toml::Spanned<PolicyConfig>>,
    dependency: HashMap<String, toml::Spanned<toml::Table>>,
}

impl Policies {
    /// The house's defaults for everybody.
    pub fn new(rng: Arc<dyn Rng>) -> Policies {
        Policies { default: PolicyConfig::default(), own: HashMap::new(), made: Mutex::default(), rng, families: Families::default() }
    }

    /// Policies out of TOML: `[default]`, and `[dependency.NAME]` with what differs from what is usual for it. `name` is what errors call
    /// the text.
    /// Errors: `dependency.invalid_policy`, with the line.
    pub fn parse(name: &str, text: &str, rng: Arc<dyn Rng>) -> Result<Policies> {
        let wrong = |at: usize, why: &str| {
            let line = text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
            Error::invalid("dependency.invalid_policy", format!("{name}:{line}: {why}"))
        };
        let raw: RawPolicies = toml::from_str(text).map_err(|error| wrong(error.span().map_or(0, |span| span.start), error.message()))?;
        let mut policies = Policies::new(rng);
        if let Some(default) = raw.default {
            default.get_ref().check().map_err(|why| wrong(default.span().start, why))?;
            policies.default = default.into_inner();
        }
        for (dependency, own) in raw.dependency {
            let at = own.span().start;
            let own = own.into_inner();
            laid_over(&policies.default, &own).map_err(|why| wrong(at, &format!("{dependency}: {why}")))?;
            policies.own.insert(dependency, own);
        }
        Ok(policies)
    }

    /// The policy of a dependency, the same for all who ask.
    pub fn of(&self, dependency: &str) -> Arc<Policy> {
        self.of_kind(dependency, dependency, self.default)
    }

    /// The policy of one of several dependencies of a kind, such as a payment provider's host: what the configuration says of it, or else of
    /// its kind, laid over `usual`. Beyond [`MAX_POLICIES`] names those of a kind share one.
    pub fn of_kind(&self, dependency: &str, kind: &str, usual: PolicyConfig) -> Arc<Policy> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let dependency = if made.len() < MAX_POLICIES || made.contains_key(dependency) { dependency } else { kind };
        if let Some(policy) = made.get(dependency) {
            return policy.clone();
        }
        let own = self.own.get(dependency).or(self.own.get(kind));
        // It was found to fit when it was read, and no bound of it depends on what it is laid over.
        let config = own.map_or(usual, |own| laid_over(&usual, own).unwrap_or(usual));
        let policy = Arc::new(Policy::new(dependency, config, self.rng.clone(), &self.families));
        made.insert(dependency.to_owned(), policy.clone());
        policy
    }

    /// Those that were asked for so far, by name.
    pub fn all(&self) -> Vec<Arc<Policy>> {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<Arc<Policy>> = made.values().cloned().collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }

    /// Puts the metrics of all of them into the registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("dependency_calls", "Calls of dependencies by what came of them", self.families.calls.clone());
        registry.register("dependency_breaker", "Circuit breakers: 0 closed, 1 half open, 2 open", self.families.breaker.clone());
    }
}
