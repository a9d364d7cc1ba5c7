//! The limiter: the rules of the moment over one table, decided all or none.

use crate::address::owner;
use crate::algorithm::{Algorithm, Quota, State, Verdict};
use crate::country::Countries;
use crate::hash::KeyHasher;
use crate::rules::{KeyPart, Quotas, Rule, RuleFile, Subject, WhenAway};
use crate::shared::{Shared, SharedMetrics};
use crate::table::{Apart, Held, NO_PLACE, Place, SPILLED, Table, Victim};
use arc_swap::ArcSwap;
use kernel::{Clock, Rng, Timestamp};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use siphasher::sip128::{Hasher128 as _, SipHasher13 as SipHasher13x128};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Versions of a rule's quota that are known: a key not seen during as many changes begins anew.
const PAST_VERSIONS: usize = 16;
/// Versions are counted modulo this: an entry has six bits for it.
const VERSIONS: u8 = 64;
/// Limited keys that are remembered for the operator.
const LIMITED_KEYS: usize = 1_024;
/// The longest text of a key that is shown.
const SHOWN_BYTES: usize = 128;

/// How large the memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimiterConfig {
    /// Keys that are remembered, three in 64 bytes, and where many are at their limit up to an eighth more. Default 262,144: 5.6 to 6.4 MB.
    pub keys: usize,
    /// Keys of sliding logs, each in up to 16 KB, when they are used. Default 16,384: 4 MB with the shipped rules, 270 MB at the very worst,
    /// with every log at the longest that a rule can have.
    pub log_keys: usize,
}

impl Default for LimiterConfig {
    fn default() -> Self {
        LimiterConfig { keys: 262_144, log_keys: 16_384 }
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
    limited: Apart<Mutex<HashMap<u64, LimitedKey, BuildHasherDefault<Hashed>>>>,
    connections: Apart<Mutex<HashMap<IpAddr, u32>>>,
    metrics: Metrics,
    shared: OnceLock<Arc<Shared>>,
    countries: OnceLock<Countries>,
}

/// The rules of the moment.
#[derive(Default)]
pub struct Rules {
    pub(crate) rules: Vec<ActiveRule>,
    file: RuleFile,
    any_anonymous: bool,
    any_country: bool,
}

pub(crate) struct ActiveRule {
    pub(crate) rule: Rule,
    /// Names its state: made from its name and what its key consists of.
    pub(crate) id: u64,
    /// Counts the changes of its quota.
    pub(crate) version: u8,
    /// A node's part of them, for the time when the shared state is away.
    pub(crate) part: Quotas,
    /// The quotas of earlier versions.
    past: Vec<(u8, Quotas)>,
    anonymous: bool,
    /// Whether it is about every request that has its key.
    unconditional: bool,
    /// Has taken in its id.
    hasher: KeyHasher,
    refused: Counter,
    would_refuse: Counter,
    /// Its quota as the header `RateLimit-Policy` has it.
    policy: Box<str>,
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
pub struct Decision<'r> {
    /// May it pass?
    pub outcome: Outcome,
    /// How long it has to wait before it is served, in microseconds.
    pub delay_us: u64,
    /// The rules that looked at it, without those that only try out.
    pub levels: SmallVec<[Level<'r>; 6]>,
    now_us: u64,
}

/// What a rule said about a request.
#[derive(Clone, Copy, Debug)]
pub struct Level<'r> {
    /// Which, in the order of [`Rules::file`].
    pub rule: u16,
    /// Its quota for this key.
    pub quota: &'r Quota,
    state: State,
}

impl Outcome {
    /// Whether it may pass.
    pub fn admitted(&self) -> bool {
        *self == Outcome::Admitted
    }
}

impl<'r> Decision<'r> {
    pub(crate) fn new(outcome: Outcome, now_us: u64) -> Decision<'r> {
        Decision { outcome, delay_us: 0, levels: SmallVec::new(), now_us }
    }

    pub(crate) fn push_level(&mut self, lookup: &Lookup<'r>, state: State) {
        self.levels.push(Level { rule: lookup.rule, quota: lookup.quota, state });
    }

    /// Whether it may pass.
    pub fn admitted(&self) -> bool {
        self.outcome.admitted()
    }

    /// The level with the least left, as a share of its quota; the one that refuses when the request is limited.
    pub fn tightest(&self) -> Option<&Level<'r>> {
        if let Outcome::Limited { rule, .. } = self.outcome {
            return self.levels.iter().find(|level| level.rule == rule);
        }
        let share = |level: &&Level<'r>| (u64::from(self.left(level).0) << 32) / u64::from(level.quota.allowance().0);
        self.levels.iter().min_by_key(share)
    }

    /// What a level has left, and after how many microseconds all of it is there again.
    pub fn left(&self, level: &Level<'_>) -> (u32, u64) {
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
    no_room: Counter,
    rule_changes: Counter,
    shared: SharedMetrics,
}

/// For keys that are hashes of their rule and key already.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
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
#[derive(Clone, Copy)]
pub(crate) struct Lookup<'r> {
    pub(crate) hash: u64,
    pub(crate) quota: &'r Quota,
    place: Place,
    pub(crate) rule: u16,
    pub(crate) cost: u32,
}

/// The looks of one request.
pub(crate) type Lookups<'r> = SmallVec<[Lookup<'r>; 6]>;

/// What came of it.
struct Judged {
    /// Of which look.
    lookup: u8,
    /// Which of the locked sets.
    held: u8,
    admitted: bool,
    /// A key that still counts is forgotten for it.
    evicts: bool,
    /// It has a place in its set again, and leaves the room when it is written.
    returns: bool,
    slot: usize,
    state: State,
    next: State,
    retry_us: u64,
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
            limited: Apart::default(),
            connections: Apart::default(),
            metrics: Metrics::default(),
            shared: OnceLock::new(),
            countries: OnceLock::new(),
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
        registry.register(
            "limits_no_room",
            "New keys that were not counted because the memory is full of keys at their limit",
            metrics.no_room.clone(),
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
        let any_country = rules.iter().any(|rule| rule.rule.asks_country());
        self.rules.store(Arc::new(Rules { rules, file, any_anonymous, any_country }));
        self.metrics.rule_changes.inc();
    }

    fn activate(&self, rule: Rule, old: &Rules) -> ActiveRule {
        let mut hasher = KeyHasher::new(self.seed);
        for text in [&*rule.name, &format!("{:?} {:?}", rule.key, rule.quotas.base.algorithm() == Algorithm::SlidingLog)] {
            hasher.write_usize(text.len());
            hasher.write(text.as_bytes());
        }
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
                version = (version + 1) % VERSIONS;
            }
        }
        let label = RuleLabel { rule: rule.name.to_string() };
        ActiveRule {
            refused: self.metrics.refused.get_or_create_owned(&label),
            would_refuse: self.metrics.would_refuse.get_or_create_owned(&label),
            part: rule.quotas.shared_by(self.shared.get().map_or(1, |shared| shared.nodes())),
            anonymous: rule.is_anonymous(),
            unconditional: rule.is_unconditional(),
            policy: policy(&rule.name, &rule.quotas.base).into(),
            hasher,
            id,
            version,
            past,
            rule,
        }
    }

    /// Decides about a request, and takes what it costs if it may pass.
    pub fn check(&self, subject: &Subject<'_>) -> Outcome {
        self.decide(&self.rules.load(), subject, Take::All).outcome
    }

    /// Decides by these rules.
    pub fn decide<'r>(&self, rules: &'r Rules, subject: &Subject<'_>, take: Take) -> Decision<'r> {
        if let Some(blocked) = self.blocked(rules, subject) {
            return blocked;
        }
        if take != Take::All && !rules.any_anonymous {
            return Decision::new(Outcome::Admitted, 0);
        }
        if rules.any_country {
            return self.decide_known(rules, &self.with_country(rules, subject), take);
        }
        self.decide_known(rules, subject, take)
    }

    fn decide_known<'r>(&self, rules: &'r Rules, subject: &Subject<'_>, take: Take) -> Decision<'r> {
        let mut lookups = Lookups::new();
        self.look(rules, subject, take, &mut lookups);
        if lookups.is_empty() {
            return Decision::new(Outcome::Admitted, 0);
        }
        self.decide_all(rules, subject, take, &lookups)
    }

    /// Whether any rule is about this request, on trial or not.
    pub fn knows(&self, rules: &Rules, subject: &Subject<'_>) -> bool {
        let mut lookups = Lookups::new();
        self.look(rules, &self.with_country(rules, subject), Take::All, &mut lookups);
        !lookups.is_empty()
    }

    pub(crate) fn blocked<'r>(&self, rules: &'r Rules, subject: &Subject<'_>) -> Option<Decision<'r>> {
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

    /// Whether the shared state answers; none where there is none.
    pub fn shared_is_up(&self) -> Option<bool> {
        self.is_shared().then(|| self.metrics.shared.up.get() > 0)
    }

    /// Once: a second shared state would be another truth.
    pub(crate) fn set_shared(&self, shared: Arc<Shared>) {
        if self.shared.set(shared).is_ok() {
            // A node's part of each limit follows from it.
            self.replace(self.rules.load().file.clone());
        }
    }

    /// How many keys there is room for.
    pub(crate) fn room(&self) -> usize {
        self.table.keys()
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
    pub(crate) fn shared_key(&self, rules: &Rules, lookup: &Lookup<'_>, subject: &Subject<'_>) -> String {
        let active = &rules.rules[lookup.rule as usize];
        let mut hasher = SipHasher13x128::new();
        hasher.write(format!("{:?}", active.rule.key).as_bytes());
        // It was fed without a gap when the lookup was made.
        let _ = feed(&mut hasher, active, subject);
        let hash = hasher.finish128();
        // Between braces is what a cluster finds the slot by: all of a tenant's keys are in one.
        let tag = match subject.tenant {
            Some(tenant) if active.rule.key.contains(&KeyPart::Tenant) => tenant.to_string(),
            _ => format!("{:016x}", hash.h1),
        };
        format!(
            "brandos:limit:{{{tag}}}:{}:{}:{:016x}{:016x}",
            active.rule.name,
            u8::from(lookup.quota.algorithm() == Algorithm::SlidingLog),
            hash.h1,
            hash.h2
        )
    }

    pub(crate) fn now_us(&self) -> u64 {
        self.clock.now().micros().max(0) as u64
    }

    /// Knows addresses' countries from now on, for rules that ask. Once: the file is read at the start.
    pub fn know_countries(&self, countries: Countries) {
        let _ = self.countries.set(countries);
    }

    /// How many connections the address holds open.
    fn open_connections(&self, ip: Option<IpAddr>) -> u32 {
        let connections = self.connections.0.lock().unwrap_or_else(PoisonError::into_inner);
        ip.and_then(|ip| connections.get(&owner(ip)).copied()).unwrap_or(0)
    }

    /// The request with its address's country, if some rule asks for it.
    pub(crate) fn with_country<'a>(&self, rules: &Rules, subject: &Subject<'a>) -> Subject<'a> {
        let countries = self.countries.get().filter(|_| rules.any_country && subject.country.is_none());
        Subject { country: countries.zip(subject.ip).map_or(subject.country, |(countries, ip)| countries.of(ip)), ..*subject }
    }

    /// Finds the rules that are about this request, and has their keys' memory fetched.
    #[inline]
    pub(crate) fn look<'r>(&self, rules: &'r Rules, subject: &Subject<'_>, take: Take, lookups: &mut Lookups<'r>) {
        for (index, active) in rules.rules.iter().enumerate() {
            if take != Take::All && !active.anonymous {
                continue;
            }
            if !(active.unconditional && subject.service.is_none() || active.rule.matches(subject)) {
                continue;
            }
            if active.rule.connections > 0 && self.open_connections(subject.ip) < active.rule.connections {
                continue;
            }
            let Some(quota) = active.rule.quotas.of(subject.tenant) else { continue };
            let Some(hash) = active.hash(subject) else { continue };
            let place = self.table.place(hash, quota);
            self.table.touch(place);
            let cost = active.rule.cost.saturating_mul(subject.cost.max(1));
            lookups.push(Lookup { hash, quota, place, rule: index as u16, cost });
        }
    }

    /// Locks every key's set, decides each, and writes all or none.
    pub(crate) fn decide_all<'r>(&self, rules: &Rules, subject: &Subject<'_>, take: Take, lookups: &[Lookup<'r>]) -> Decision<'r> {
        // Sorted as numbers of place and index: that moves nothing else, and what was just written in parts is not read as a whole, which
        // would wait until it is written out.
        let mut order: SmallVec<[u64; 6]> = SmallVec::new();
        for (at, lookup) in lookups.iter().enumerate() {
            order.push(lookup.place.number() << 8 | at as u64);
        }
        order.sort_unstable();
        let mut held: SmallVec<[(Held<'_>, u32); 6]> = SmallVec::new();
        let mut last = u64::MAX;
        for number in &order {
            if last != number >> 8 {
                held.push((self.table.lock(lookups[(number & 0xff) as usize].place), 0));
                last = number >> 8;
            }
        }
        // With all locks held: time does not go back between two decisions on one key.
        let now_us = self.now_us();
        let mut decision = Decision::new(Outcome::Admitted, now_us);
        let mut judged: SmallVec<[Judged; 6]> = SmallVec::new();
        let (mut at, mut longest, mut all_admit) = (0, 0, true);
        for (n, number) in order.iter().enumerate() {
            at += u8::from(n > 0 && number >> 8 != order[n - 1] >> 8);
            let lookup = &lookups[(number & 0xff) as usize];
            let active = &rules.rules[lookup.rule as usize];
            let (set, taken) = &mut held[at as usize];
            let (mut slot, mut state) = (NO_PLACE, State::default());
            let mut found = set.find(lookup.hash, now_us);
            if found.is_none() && set.has_spilled() {
                found = self.table.find_spilled(lookup.place, lookup.hash, now_us);
            }
            if let Some(found) = found {
                slot = found.slot;
                state = active.current(found.version, found.state, lookup.quota, subject, now_us);
                if slot != SPILLED {
                    *taken |= 1 << slot;
                }
            }
            let Verdict { admitted, next, delay_us, retry_us } = if lookup.quota.algorithm() == Algorithm::SlidingLog {
                match set.log(slot, lookup.hash) {
                    Some(log) => {
                        let verdict = log.decide(lookup.quota, lookup.cost, now_us);
                        state = log.state(lookup.quota);
                        verdict
                    }
                    None => crate::Log::default().decide(lookup.quota, lookup.cost, now_us),
                }
            } else {
                lookup.quota.decide(state, lookup.cost, now_us)
            };
            all_admit &= admitted;
            if !active.rule.dry_run {
                decision.delay_us = decision.delay_us.max(delay_us);
                if !admitted && retry_us >= longest {
                    longest = retry_us;
                    decision.outcome = Outcome::Limited { rule: lookup.rule, retry_us };
                }
            }
            judged.push(Judged {
                held: at,
                lookup: (number & 0xff) as u8,
                admitted,
                evicts: false,
                returns: false,
                slot,
                state,
                next,
                retry_us,
            });
        }
        if decision.admitted() && take != Take::Peek {
            for judged in judged.iter_mut().filter(|judged| judged.admitted && judged.slot >= SPILLED) {
                let lookup = &lookups[judged.lookup as usize];
                let (set, taken) = &mut held[judged.held as usize];
                if self.find_slot(lookup, judged, set, taken, now_us) {
                    continue;
                }
                self.metrics.no_room.inc();
                // As on a Redis that is full. Otherwise whoever fills the memory would shut everybody else out.
                let rule = &rules.rules[lookup.rule as usize].rule;
                if rule.dry_run || rule.when_away == WhenAway::Open {
                    continue;
                }
                all_admit = false;
                judged.admitted = false;
                judged.retry_us = set.first_ends(now_us);
                judged.state = lookup.quota.having_used(lookup.quota.allowance().0, now_us);
                judged.next = judged.state;
                if judged.retry_us >= longest {
                    longest = judged.retry_us;
                    decision.outcome = Outcome::Limited { rule: lookup.rule, retry_us: longest };
                }
            }
        }
        let admitted = decision.admitted();
        let taking = admitted && take != Take::Peek;
        for judged in &judged {
            let lookup = &lookups[judged.lookup as usize];
            let active = &rules.rules[lookup.rule as usize];
            let next = judged.next;
            // A clock that was set back is kept as it is now, or the key would stay locked out until the clock is there again.
            if taking && judged.admitted || !judged.admitted && next.until_us < judged.state.until_us {
                self.write(active, lookup, judged, &mut held[judged.held as usize].0, now_us);
            }
            if !active.rule.dry_run {
                decision.push_level(lookup, if taking { next } else { judged.state });
            }
        }
        drop(held);
        if !all_admit && (take != Take::Peek || !admitted) {
            self.note_refusals(rules, subject, lookups, &judged, admitted, now_us);
        }
        decision
    }

    /// A slot for a key that is not in its set; not if every one is held by a key that may not be forgotten, and there is no other room.
    #[inline]
    fn find_slot(&self, lookup: &Lookup<'_>, judged: &mut Judged, set: &Held<'_>, taken: &mut u32, now_us: u64) -> bool {
        let (slot, victim) = set.victim(*taken, now_us);
        if judged.slot == SPILLED {
            // Back into its set as soon as there is a place; but not before it is certain that it is written there.
            if victim == Victim::Nobody {
                judged.slot = slot;
                judged.returns = true;
                *taken |= 1 << slot;
            }
            return true;
        }
        if slot == NO_PLACE {
            // All slots are those of other levels of this request, which is one in a million million: decided, and not remembered.
            return true;
        }
        if victim == Victim::Stays && (lookup.quota.algorithm() == Algorithm::SlidingLog || !self.table.spill(lookup.place, slot, now_us)) {
            return false;
        }
        judged.slot = slot;
        judged.evicts = victim == Victim::Light;
        *taken |= 1 << slot;
        true
    }

    #[inline]
    fn write(&self, active: &ActiveRule, lookup: &Lookup<'_>, judged: &Judged, set: &mut Held<'_>, now_us: u64) {
        let next = judged.next;
        let used = lookup.quota.used(next, now_us);
        if judged.evicts {
            self.table.count_eviction();
        }
        if judged.returns {
            self.table.put_spilled(lookup.place, lookup.hash, None);
        }
        if judged.slot >= SPILLED {
            if judged.slot == SPILLED {
                self.table.put_spilled(lookup.place, lookup.hash, Some((active.version, used, next)));
            }
        } else if lookup.quota.algorithm() != Algorithm::SlidingLog {
            set.put(judged.slot, lookup.hash, active.version, used, next);
        } else if judged.admitted {
            set.put_log(judged.slot, lookup.hash, (active.version, used), lookup.cost, next.until_us, now_us);
        }
    }

    /// Counts who was refused by what; only here a key becomes text.
    #[cold]
    fn note_refusals(&self, rules: &Rules, subject: &Subject<'_>, lookups: &[Lookup<'_>], judged: &[Judged], admitted: bool, now_us: u64) {
        for judged in judged.iter().filter(|judged| !judged.admitted) {
            let lookup = &lookups[judged.lookup as usize];
            let active = &rules.rules[lookup.rule as usize];
            if active.rule.dry_run {
                active.would_refuse.inc();
            } else if !admitted {
                active.refused.inc();
                self.note(active, lookup.hash, subject, now_us, judged.retry_us);
            }
        }
    }

    /// For the operator's eyes: who is limited. When others are at it, this one is left out.
    pub(crate) fn note(&self, active: &ActiveRule, hash: u64, subject: &Subject<'_>, now_us: u64, retry_us: u64) {
        let Ok(mut limited) = self.limited.0.try_lock() else { return };
        let (last_at, until) = (Timestamp::from_micros(now_us as i64), Timestamp::from_micros((now_us + retry_us) as i64));
        if let Some(known) = limited.get_mut(&hash) {
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
        limited.insert(hash, noted);
    }

    /// Who was refused lately, those refused last first.
    pub fn limited(&self) -> Vec<LimitedKey> {
        let mut keys: Vec<LimitedKey> = self.limited.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
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

    /// How often a new key was not counted because the memory is full of keys that may not be forgotten.
    pub fn without_room(&self) -> u64 {
        self.metrics.no_room.get()
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
        let mut connections = self.connections.0.lock().unwrap_or_else(PoisonError::into_inner);
        let open = connections.entry(ip).or_insert(0);
        if *open >= most {
            drop(connections);
            self.metrics.connections_refused.inc();
            return None;
        }
        *open += 1;
        Some(OpenConnection { limiter: self.clone(), ip })
    }
}

fn policy(name: &str, quota: &Quota) -> String {
    let (most, window_us) = quota.allowance();
    format!("\"{name}\";q={most};w={}", window_us.div_ceil(1_000_000))
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

    /// A level's quota as the header `RateLimit-Policy` has it: `"name";q=...;w=...`.
    pub fn policy(&self, level: &Level<'_>) -> Cow<'_, str> {
        match self.rules.get(level.rule as usize) {
            Some(active) if *level.quota == active.rule.quotas.base => Cow::Borrowed(&active.policy),
            _ => Cow::Owned(policy(self.name(level.rule), level.quota)),
        }
    }

    /// The name of a rule.
    pub fn name(&self, rule: u16) -> &str {
        self.rules.get(rule as usize).map_or("", |active| &active.rule.name)
    }
}

impl ActiveRule {
    /// The key's hash; none when a part of it is not known.
    #[inline]
    pub(crate) fn hash(&self, subject: &Subject<'_>) -> Option<u64> {
        let mut hasher = self.hasher;
        feed(&mut hasher, self, subject)?;
        Some(hasher.finish())
    }

    /// A state of an earlier version in today's measure. One of a version that is forgotten begins anew.
    #[inline]
    fn current(&self, version: u8, state: State, quota: &Quota, subject: &Subject<'_>, now_us: u64) -> State {
        if version == self.version {
            return state;
        }
        let old = self.past.iter().rev().find(|(number, _)| *number == version);
        old.and_then(|(_, quotas)| quotas.of(subject.tenant)).map_or_else(State::default, |old| quota.rescaled(old, state, now_us))
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
        let mut connections = self.limiter.connections.0.lock().unwrap_or_else(PoisonError::into_inner);
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
