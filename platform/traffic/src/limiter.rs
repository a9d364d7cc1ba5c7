//! The limiter: the rules of the moment over one table, decided all or none.

use crate::address::owner;
use crate::algorithm::{Algorithm, Quota, State, Verdict};
use crate::rules::{KeyPart, Quotas, Rule, RuleFile, Subject};
use crate::shared::{Shared, SharedMetrics};
use crate::table::{Held, NO_PLACE, Place, Table};
use arc_swap::ArcSwap;
use kernel::{Clock, Rng, Timestamp};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use siphasher::sip::SipHasher13;
use siphasher::sip128::{Hasher128 as _, SipHasher13 as SipHasher13x128};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::hash::Hasher;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Versions of a rule's quota that are known: a key not seen during as many changes begins anew.
const PAST_VERSIONS: usize = 16;
/// Limited keys that are remembered for the operator.
const LIMITED_KEYS: usize = 1_024;
/// The longest text of a key that is shown.
const SHOWN_BYTES: usize = 128;

/// How large the memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimiterConfig {
    /// Keys that are remembered, each in 26 bytes. Default 262,144: 6.7 MB.
    pub keys: usize,
    /// Keys of sliding logs, each in up to 16 KB. Default 4,096: 65 MB at the very worst, with every log at its longest.
    pub log_keys: usize,
}

impl Default for LimiterConfig {
    fn default() -> Self {
        LimiterConfig { keys: 262_144, log_keys: 4_096 }
    }
}

/// Decides whether requests may pass; shared by all threads.
pub struct Limiter {
    clock: Arc<dyn Clock>,
    seed: (u64, u64),
    table: Arc<Table>,
    rules: ArcSwap<Rules>,
    /// One change of the rules after the other.
    changing: Mutex<()>,
    limited: Mutex<HashMap<(u64, u64), LimitedKey>>,
    connections: Mutex<HashMap<IpAddr, u32>>,
    metrics: Metrics,
    shared: OnceLock<Arc<Shared>>,
}

/// The rules of the moment.
#[derive(Default)]
pub struct Rules {
    pub(crate) rules: Vec<ActiveRule>,
    file: RuleFile,
    any_anonymous: bool,
}

pub(crate) struct ActiveRule {
    pub(crate) rule: Rule,
    /// Names its state: made from its name and what its key consists of.
    pub(crate) id: u64,
    /// Counts the changes of its quota.
    version: u8,
    /// The quotas of earlier versions.
    past: Vec<(u8, Quotas)>,
    anonymous: bool,
    refused: Counter,
    would_refuse: Counter,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// Whether the rules that don't look at who asks would let it pass. Nothing is taken.
    Peek,
    /// Whether those rules let it pass, for a request whose sender stays unknown.
    Anonymous,
    /// Whether all rules let it pass.
    All,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It may pass.
    Admitted,
    /// A rule refuses it; nothing was taken from any.
    Limited {
        /// The rule that refuses it for the longest time.
        rule: u16,
        /// When it could pass, in microseconds from now.
        retry_us: u64,
    },
    /// Its address is on the block list.
    Blocked,
    /// The state that nodes share can't be reached, and a rule is closed then.
    Away {
        /// That rule.
        rule: u16,
    },
}

/// A decision with its figures.
#[derive(Clone, Debug)]
pub struct Decision {
    /// May it pass?
    pub outcome: Outcome,
    /// How long it has to wait before it is served, in microseconds.
    pub delay_us: u64,
    /// The rules that looked at it, without those that only try out.
    pub levels: SmallVec<[Level; 6]>,
    now_us: u64,
}

/// What a rule said about a request.
#[derive(Clone, Copy, Debug)]
pub struct Level {
    /// Which, in the order of [`Rules::file`].
    pub rule: u16,
    /// Its quota for this key.
    pub quota: Quota,
    state: State,
}

impl Decision {
    pub(crate) fn new(outcome: Outcome, now_us: u64) -> Decision {
        Decision { outcome, delay_us: 0, levels: SmallVec::new(), now_us }
    }

    pub(crate) fn push_level(&mut self, lookup: &Lookup, state: State) {
        self.levels.push(Level { rule: lookup.rule, quota: lookup.quota, state });
    }

    /// Whether it may pass.
    pub fn admitted(&self) -> bool {
        self.outcome == Outcome::Admitted
    }

    /// The level with the least left, as a share of its quota; the one that refuses when the request is limited.
    pub fn tightest(&self) -> Option<&Level> {
        if let Outcome::Limited { rule, .. } = self.outcome {
            return self.levels.iter().find(|level| level.rule == rule);
        }
        let share = |level: &&Level| (u64::from(self.left(level).0) << 32) / u64::from(level.quota.allowance().0);
        self.levels.iter().min_by_key(share)
    }

    /// What a level has left, and after how many microseconds all of it is there again.
    pub fn left(&self, level: &Level) -> (u32, u64) {
        level.quota.left(level.state, self.now_us)
    }

    /// When it was made, in microseconds since 1970.
    pub fn now_us(&self) -> u64 {
        self.now_us
    }
}

/// A key that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitedKey {
    /// By which rule.
    pub rule: Box<str>,
    /// Who: `ip=192.0.2.1`, `tenant=ten_...`.
    pub key: Box<str>,
    /// How often since it was first noted.
    pub refused: u64,
    /// When last.
    pub last_at: Timestamp,
    /// When it could pass again, as of then.
    pub until: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, prometheus_client::encoding::EncodeLabelSet)]
struct RuleLabel {
    rule: String,
}

#[derive(Clone, Default)]
struct Metrics {
    refused: Family<RuleLabel, Counter>,
    would_refuse: Family<RuleLabel, Counter>,
    blocked: Counter,
    connections_refused: Counter,
    rule_changes: Counter,
    shared: SharedMetrics,
}

/// Figures that the table keeps itself.
#[derive(Debug)]
struct TableFigures(Arc<Table>);

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("keys", &self.keys()).finish()
    }
}

impl Collector for TableFigures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let evictions = ConstCounter::new(self.0.evictions());
        let descriptor =
            encoder.encode_descriptor("limits_evictions", "Keys forgotten before their time", None, evictions.metric_type())?;
        evictions.encode(descriptor)
    }
}

/// A rule's look at a request, between being found and being decided.
pub(crate) struct Lookup {
    pub(crate) rule: u16,
    pub(crate) hash: u64,
    pub(crate) quota: Quota,
    pub(crate) cost: u32,
    place: Place,
    held: u8,
    slot: usize,
    state: State,
    verdict: Verdict,
}

impl Limiter {
    /// A limiter with these rules. The clock should not be set back; what happens then is bounded by the length of each rule's window.
    pub fn new(file: RuleFile, config: LimiterConfig, clock: Arc<dyn Clock>, rng: &dyn Rng) -> Limiter {
        let mut seed = [0; 16];
        rng.fill(&mut seed);
        let (a, b) = seed.split_at(8);
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("half of sixteen bytes"));
        let limiter = Limiter {
            clock,
            seed: (number(a), number(b)),
            table: Arc::new(Table::new(config.keys, config.log_keys)),
            rules: ArcSwap::default(),
            changing: Mutex::new(()),
            limited: Mutex::default(),
            connections: Mutex::default(),
            metrics: Metrics::default(),
            shared: OnceLock::new(),
        };
        limiter.replace(file);
        limiter
    }

    /// Puts its metrics into the registry.
    pub fn register(&self, registry: &mut Registry) {
        let metrics = &self.metrics;
        registry.register("limits_refused", "Requests refused by a rule", metrics.refused.clone());
        registry.register("limits_would_refuse", "Requests that a rule on trial would have refused", metrics.would_refuse.clone());
        registry.register("limits_blocked", "Requests from addresses on the block list", metrics.blocked.clone());
        registry.register(
            "limits_connections_refused",
            "Connections closed because their address holds too many",
            metrics.connections_refused.clone(),
        );
        registry.register("limits_rule_changes", "Times that the rules were replaced", metrics.rule_changes.clone());
        registry.register("limits_shared_up", "1 while the shared state answers", metrics.shared.up.clone());
        registry.register("limits_shared_away", "Decisions made without the shared state", metrics.shared.away.clone());
        registry.register_collector(Box::new(TableFigures(self.table.clone())));
    }

    /// The rules of the moment. Not to be kept for long.
    pub fn rules(&self) -> arc_swap::Guard<Arc<Rules>> {
        self.rules.load()
    }

    /// Whether the address is on the block list.
    pub fn blocks(&self, ip: IpAddr) -> bool {
        let rules = self.rules.load();
        let blocked = rules.file.block.contains(ip);
        if blocked {
            self.metrics.blocked.inc();
        }
        blocked
    }

    /// Puts other rules in their place, for every request that comes from now on. A rule of the same name and key keeps what was counted;
    /// if its quota is another one, each key keeps the share that it has left.
    pub fn replace(&self, file: RuleFile) {
        let _one_by_one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.rules.load_full();
        let rules = file.rules.iter().map(|rule| self.activate(rule.clone(), &old)).collect::<Vec<_>>();
        let any_anonymous = rules.iter().any(|rule| rule.anonymous);
        self.rules.store(Arc::new(Rules { rules, file, any_anonymous }));
        self.metrics.rule_changes.inc();
    }

    fn activate(&self, rule: Rule, old: &Rules) -> ActiveRule {
        let mut hasher = SipHasher13::new_with_keys(self.seed.0, self.seed.1);
        hasher.write(rule.name.as_bytes());
        hasher.write(format!("{:?} {:?}", rule.key, rule.quotas.base.algorithm() == Algorithm::SlidingLog).as_bytes());
        let id = hasher.finish();
        let (mut version, mut past) = (0, Vec::new());
        if let Some(before) = old.rules.iter().find(|other| other.id == id) {
            version = before.version;
            past.clone_from(&before.past);
            if before.rule.quotas != rule.quotas {
                past.push((version, before.rule.quotas.clone()));
                if past.len() > PAST_VERSIONS {
                    past.remove(0);
                }
                version = version.wrapping_add(1);
            }
        }
        let label = RuleLabel { rule: rule.name.to_string() };
        ActiveRule {
            refused: self.metrics.refused.get_or_create_owned(&label),
            would_refuse: self.metrics.would_refuse.get_or_create_owned(&label),
            anonymous: rule.is_anonymous(),
            id,
            version,
            past,
            rule,
        }
    }

    /// Decides about a request, and takes what it costs if it may pass.
    pub fn check(&self, subject: &Subject<'_>) -> Decision {
        self.decide(&self.rules.load(), subject, Take::All)
    }

    /// Decides by these rules.
    pub fn decide(&self, rules: &Rules, subject: &Subject<'_>, take: Take) -> Decision {
        if let Some(blocked) = self.blocked(rules, subject) {
            return blocked;
        }
        if take != Take::All && !rules.any_anonymous {
            return Decision::new(Outcome::Admitted, 0);
        }
        let mut lookups = self.lookups(rules, subject, take);
        if lookups.is_empty() {
            return Decision::new(Outcome::Admitted, 0);
        }
        self.decide_all(rules, subject, take, &mut lookups)
    }

    pub(crate) fn blocked(&self, rules: &Rules, subject: &Subject<'_>) -> Option<Decision> {
        if !subject.ip.is_some_and(|ip| rules.file.block.contains(ip)) {
            return None;
        }
        self.metrics.blocked.inc();
        Some(Decision::new(Outcome::Blocked, self.now_us()))
    }

    pub(crate) fn shared(&self) -> Option<&Arc<Shared>> {
        self.shared.get()
    }

    /// Whether decisions are made with other nodes, so that they take a round trip: [`Limiter::decide_shared`].
    pub fn is_shared(&self) -> bool {
        self.shared.get().is_some()
    }

    /// Once: a second shared state would be another truth.
    pub(crate) fn set_shared(&self, shared: Arc<Shared>) {
        let _ = self.shared.set(shared);
    }

    pub(crate) fn shared_metrics(&self) -> &SharedMetrics {
        &self.metrics.shared
    }

    pub(crate) fn count_trial(&self, active: &ActiveRule) {
        active.would_refuse.inc();
    }

    pub(crate) fn count_refusal(&self, active: &ActiveRule, hash: u64, subject: &Subject<'_>, now_us: u64, retry_us: u64) {
        active.refused.inc();
        self.note(active, hash, subject, now_us, retry_us);
    }

    /// The key in the shared state: the same on every node. 128 bits, because its hash has no secret.
    pub(crate) fn shared_key(&self, rules: &Rules, lookup: &Lookup, subject: &Subject<'_>) -> String {
        let active = &rules.rules[lookup.rule as usize];
        let mut hasher = SipHasher13x128::new();
        hasher.write(format!("{:?}", active.rule.key).as_bytes());
        // It was fed without a gap when the lookup was made.
        let _ = feed(&mut hasher, active, subject);
        let hash = hasher.finish128();
        format!(
            "brandos:limit:{}:{}:{:016x}{:016x}",
            active.rule.name,
            u8::from(lookup.quota.algorithm() == Algorithm::SlidingLog),
            hash.h1,
            hash.h2
        )
    }

    pub(crate) fn now_us(&self) -> u64 {
        self.clock.now().micros().max(0) as u64
    }

    /// The rules that are about this request, in the order of their places.
    pub(crate) fn lookups(&self, rules: &Rules, subject: &Subject<'_>, take: Take) -> SmallVec<[Lookup; 6]> {
        let mut lookups: SmallVec<[Lookup; 6]> = SmallVec::new();
        for (index, active) in rules.rules.iter().enumerate() {
            if (take != Take::All && !active.anonymous) || !active.rule.matches(subject) {
                continue;
            }
            let Some(quota) = active.rule.quotas.of(subject.tenant) else { continue };
            let Some(hash) = self.hash(active, subject) else { continue };
            let place = self.table.place(hash, quota);
            self.table.touch(place);
            lookups.push(Lookup {
                rule: index as u16,
                hash,
                quota: *quota,
                cost: active.rule.cost.saturating_mul(subject.cost.max(1)),
                place,
                held: 0,
                slot: NO_PLACE,
                state: State::default(),
                verdict: Verdict { admitted: false, next: State::default(), delay_us: 0, retry_us: 0 },
            });
        }
        if lookups.len() > 1 {
            lookups.sort_unstable_by_key(|lookup| lookup.place);
        }
        lookups
    }

    /// Locks every key's set, decides each, and writes all or none.
    pub(crate) fn decide_all(&self, rules: &Rules, subject: &Subject<'_>, take: Take, lookups: &mut [Lookup]) -> Decision {
        let mut held: SmallVec<[(Held<'_>, u8); 6]> = SmallVec::new();
        let mut last = None;
        for lookup in lookups.iter_mut() {
            if last != Some(lookup.place) {
                held.push((self.table.lock(lookup.place), 0));
                last = Some(lookup.place);
            }
            lookup.held = (held.len() - 1) as u8;
        }
        // With all locks held: time does not go back between two decisions on one key.
        let now_us = self.now_us();
        for lookup in lookups.iter_mut() {
            let active = &rules.rules[lookup.rule as usize];
            let (set, taken) = &mut held[lookup.held as usize];
            if let Some(found) = set.find(lookup.hash) {
                lookup.slot = found.slot;
                lookup.state = active.current(found.version, found.state, lookup, subject, now_us);
                *taken |= 1 << found.slot;
            }
            lookup.verdict = match set.log(lookup.slot, lookup.hash) {
                Some(log) => {
                    let verdict = log.decide(&lookup.quota, lookup.cost, now_us);
                    lookup.state = log.state(&lookup.quota);
                    verdict
                }
                None if lookup.quota.algorithm() == Algorithm::SlidingLog => {
                    crate::Log::default().decide(&lookup.quota, lookup.cost, now_us)
                }
                None => lookup.quota.decide(lookup.state, lookup.cost, now_us),
            };
        }
        let mut decision = Decision::new(Outcome::Admitted, now_us);
        for lookup in lookups.iter() {
            if rules.rules[lookup.rule as usize].rule.dry_run {
                continue;
            }
            decision.delay_us = decision.delay_us.max(lookup.verdict.delay_us);
            let longest = match decision.outcome {
                Outcome::Limited { retry_us, .. } => retry_us,
                _ => 0,
            };
            if !lookup.verdict.admitted && lookup.verdict.retry_us >= longest {
                decision.outcome = Outcome::Limited { rule: lookup.rule, retry_us: lookup.verdict.retry_us };
            }
        }
        let taking = decision.admitted() && take != Take::Peek;
        for lookup in lookups.iter() {
            let active = &rules.rules[lookup.rule as usize];
            if taking && lookup.verdict.admitted {
                let (set, taken) = &mut held[lookup.held as usize];
                self.write(active, lookup, set, taken, now_us);
            } else if !lookup.verdict.admitted && lookup.verdict.next.until_us < lookup.state.until_us {
                // The clock was set back. Kept as it is now, or the key would stay locked out until the clock is there again.
                let next = lookup.verdict.next;
                held[lookup.held as usize].0.put(lookup.slot, lookup.hash, active.version, lookup.quota.used(next, now_us), next);
            }
            if !active.rule.dry_run {
                let state = if taking { lookup.verdict.next } else { lookup.state };
                decision.levels.push(Level { rule: lookup.rule, quota: lookup.quota, state });
            }
        }
        drop(held);
        if take != Take::Peek || !decision.admitted() {
            self.note_refusals(rules, subject, lookups, decision.admitted(), now_us);
        }
        decision
    }

    fn write(&self, active: &ActiveRule, lookup: &Lookup, set: &mut Held<'_>, taken: &mut u8, now_us: u64) {
        let mut slot = lookup.slot;
        if slot == NO_PLACE {
            let evicts;
            (slot, evicts) = set.victim(*taken, now_us);
            if evicts {
                self.table.count_eviction();
            }
            if slot == NO_PLACE {
                return;
            }
            *taken |= 1 << slot;
        }
        let next = lookup.verdict.next;
        if lookup.quota.algorithm() == Algorithm::SlidingLog {
            set.put_log(slot, lookup.hash, active.version, lookup.cost, next.until_us, now_us);
        } else {
            set.put(slot, lookup.hash, active.version, lookup.quota.used(next, now_us), next);
        }
    }

    /// Counts who was refused by what; only here a key becomes text.
    fn note_refusals(&self, rules: &Rules, subject: &Subject<'_>, lookups: &[Lookup], admitted: bool, now_us: u64) {
        for lookup in lookups.iter().filter(|lookup| !lookup.verdict.admitted) {
            let active = &rules.rules[lookup.rule as usize];
            if active.rule.dry_run {
                active.would_refuse.inc();
            } else if !admitted {
                active.refused.inc();
                self.note(active, lookup.hash, subject, now_us, lookup.verdict.retry_us);
            }
        }
    }

    /// For the operator's eyes: who is limited. When others are at it, this one is left out.
    pub(crate) fn note(&self, active: &ActiveRule, hash: u64, subject: &Subject<'_>, now_us: u64, retry_us: u64) {
        let Ok(mut limited) = self.limited.try_lock() else { return };
        let (last_at, until) = (Timestamp::from_micros(now_us as i64), Timestamp::from_micros((now_us + retry_us) as i64));
        if let Some(known) = limited.get_mut(&(active.id, hash)) {
            known.refused += 1;
            (known.last_at, known.until) = (last_at, until);
            return;
        }
        if limited.len() >= LIMITED_KEYS {
            // The half that was refused least recently makes room at once, so that this is rare.
            let mut times: Vec<Timestamp> = limited.values().map(|key| key.last_at).collect();
            let (_, middle, _) = times.select_nth_unstable(LIMITED_KEYS / 2);
            let middle = *middle;
            limited.retain(|_, key| key.last_at > middle);
            limited.shrink_to(LIMITED_KEYS);
        }
        let noted = LimitedKey { rule: active.rule.name.clone(), key: active.shown(subject), refused: 1, last_at, until };
        limited.insert((active.id, hash), noted);
    }

    /// Who was refused lately, those refused last first.
    pub fn limited(&self) -> Vec<LimitedKey> {
        let mut keys: Vec<LimitedKey> = self.limited.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        keys.sort_by(|a, b| b.last_at.cmp(&a.last_at).then_with(|| b.refused.cmp(&a.refused)));
        keys
    }

    /// How many keys are remembered, counted by walking over all of them.
    pub fn live_keys(&self) -> u64 {
        self.table.live(self.now_us())
    }

    /// How many keys were forgotten before their time.
    pub fn evictions(&self) -> u64 {
        self.table.evictions()
    }

    /// Counts a connection from this address as long as the guard lives; none when it holds as many as it may, or is blocked.
    pub fn connection(self: &Arc<Self>, ip: IpAddr) -> Option<OpenConnection> {
        let rules = self.rules.load();
        let ip = owner(ip);
        if rules.file.block.contains(ip) {
            self.metrics.blocked.inc();
            return None;
        }
        let most = rules.file.connections_per_ip.unwrap_or(u32::MAX);
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let open = connections.entry(ip).or_insert(0);
        if *open >= most {
            drop(connections);
            self.metrics.connections_refused.inc();
            return None;
        }
        *open += 1;
        Some(OpenConnection { limiter: self.clone(), ip })
    }

    /// The key's hash; none when a part of it is not known.
    #[inline]
    pub(crate) fn hash(&self, active: &ActiveRule, subject: &Subject<'_>) -> Option<u64> {
        let mut hasher = SipHasher13::new_with_keys(self.seed.0 ^ active.id, self.seed.1);
        feed(&mut hasher, active, subject)?;
        Some(hasher.finish())
    }
}

/// Everything that makes a key what it is; none when a part of it is not known.
#[inline]
fn feed(hasher: &mut impl Hasher, active: &ActiveRule, subject: &Subject<'_>) -> Option<()> {
    if subject.service.is_some() {
        hasher.write_i64(subject.tenant.map_or(0, kernel::TenantId::as_i64));
    }
    for part in &active.rule.key {
        let mut text = |text: &str| {
            hasher.write_usize(text.len());
            hasher.write(text.as_bytes());
        };
        match part {
            KeyPart::Ip => match owner(subject.ip?) {
                IpAddr::V4(ip) => hasher.write_u64(u64::from(ip.to_bits())),
                IpAddr::V6(ip) => hasher.write_u64((ip.to_bits() >> 64) as u64),
            },
            KeyPart::User => hasher.write_i64(subject.user?),
            KeyPart::ApiKey => hasher.write_i64(subject.api_key?),
            KeyPart::Tenant => hasher.write_i64(subject.tenant?.as_i64()),
            KeyPart::Route => text(subject.route),
            KeyPart::Method => text(subject.method),
            KeyPart::Plan => text(subject.plan?),
            KeyPart::Country => text(subject.country?),
            KeyPart::Name => text(subject.name?),
            KeyPart::Header(name) => text(subject.headers.and_then(|headers| headers(name))?),
        }
    }
    Some(())
}

impl Rules {
    /// The file that they were made from.
    pub fn file(&self) -> &RuleFile {
        &self.file
    }

    /// The name of a rule.
    pub fn name(&self, rule: u16) -> &str {
        self.rules.get(rule as usize).map_or("", |active| &active.rule.name)
    }
}

impl ActiveRule {
    /// A state of an earlier version in today's measure. One of a version that is forgotten begins anew.
    #[inline]
    fn current(&self, version: u8, state: State, lookup: &Lookup, subject: &Subject<'_>, now_us: u64) -> State {
        if version == self.version {
            return state;
        }
        let old = self.past.iter().rev().find(|(number, _)| *number == version);
        old.and_then(|(_, quotas)| quotas.of(subject.tenant)).map_or_else(State::default, |old| lookup.quota.rescaled(old, state, now_us))
    }

    /// The key as an operator reads it.
    pub(crate) fn shown(&self, subject: &Subject<'_>) -> Box<str> {
        let part = |part: &KeyPart| match part {
            KeyPart::Ip => subject.ip.map(|ip| format!("ip={}", owner(ip))),
            KeyPart::User => subject.user.map(|user| format!("user={}", id_text(user))),
            KeyPart::ApiKey => subject.api_key.map(|key| format!("api_key={}", id_text(key))),
            KeyPart::Tenant => subject.tenant.map(|tenant| format!("tenant={tenant}")),
            KeyPart::Route => Some(format!("route={}", subject.route)),
            KeyPart::Method => Some(format!("method={}", subject.method)),
            KeyPart::Plan => subject.plan.map(|plan| format!("plan={plan}")),
            KeyPart::Country => subject.country.map(|country| format!("country={country}")),
            KeyPart::Name => subject.name.map(|name| format!("name={name}")),
            // A header may hold a secret.
            KeyPart::Header(name) => Some(format!("header:{name}=...")),
        };
        let mut text = self.rule.key.iter().filter_map(part).collect::<Vec<_>>().join(" ");
        if text.is_empty() {
            text.push_str("all");
        }
        if text.len() > SHOWN_BYTES {
            let end = (0..=SHOWN_BYTES).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            text.truncate(end);
        }
        text.into()
    }
}

/// The digits of an id whose kind is not known here.
fn id_text(number: i64) -> String {
    kernel::TenantId::from_i64(number).to_string().split_off(4)
}

/// A connection that counts.
pub struct OpenConnection {
    limiter: Arc<Limiter>,
    ip: IpAddr,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        let mut connections = self.limiter.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = connections.get_mut(&self.ip) {
            *open -= 1;
            if *open == 0 {
                connections.remove(&self.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests;
