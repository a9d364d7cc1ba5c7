//! Leases: a node takes a block of a key's tokens from Redis and spends it by itself, so that a key that is asked often costs no round trip.
//!
//! Tokens that are lent count in Redis from the moment they are lent, so that all nodes together never admit more than the rule has given
//! out. What is not exact is the moment: a token may be spent later than it was lent, within its time. So in any window there may pass, in
//! excess of the rule, what the nodes held when the window began: at most the rule's `lease` on each node. A token that is not spent in
//! time, or is too many, goes back (token bucket) or is lost (windows).
//!
//! How much is asked for follows the demand: twice as much as before when that was gone within half of its time, half as much when some of
//! it was left over; never so much that a node would hold more than the rule's `lease`. A refusal is remembered too, until there can be a
//! token again, so that a key over its limit costs few round trips.

use crate::algorithm::{Quota, State};
use crate::limiter::{Decision, Limiter, Lookup, Outcome, Rules};
use crate::rules::Subject;
use crate::shared::Shared;
use crate::table::{Held, NO_PLACE, Place, Table};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::{Notify, oneshot};

/// The largest lease of a rule: what fits into an entry.
pub(crate) const MAX_LEASE: u32 = 0x7fff;
/// Loans that wait to be asked for; more are not waited for.
const MAX_WANTED: usize = 65_536;
/// Loans of one call.
const BATCH: usize = 64;
/// Calls under way at once.
const CALLS: usize = 16;
/// A refusal holds at least so long, so that a key over its limit is asked for in blocks too.
const REFUSED_US: u64 = 5_000;
/// And at most so long, since tokens may come back.
const REFUSED_MOST_US: u64 = 250_000;

/// What a node knows of a key: tokens that it may spend until their time is over, or that there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Loan {
    /// Tokens left.
    left: u32,
    /// How many were asked for last; 0: refused.
    block: u32,
    /// Tokens that Redis had left then; when refused, milliseconds until there are some.
    beyond: u32,
}

impl Loan {
    fn of(word: u64) -> Loan {
        let high = (word >> 32) as u32;
        Loan { left: high & MAX_LEASE, block: high >> 15 & MAX_LEASE, beyond: word as u32 }
    }

    fn word(self) -> u64 {
        u64::from(self.block << 15 | self.left.min(MAX_LEASE)) << 32 | u64::from(self.beyond.min(0x3fff_ffff))
    }
}

/// A loan to be asked for.
pub(crate) struct Want {
    pub(crate) key: String,
    pub(crate) quota: Quota,
    hash: u64,
    version: u8,
    lease: u32,
    /// Tokens that go back.
    pub(crate) back: u32,
    /// Tokens asked for.
    pub(crate) block: u32,
    /// The least that is of use.
    pub(crate) least: u32,
}

/// What Redis says to it.
pub(crate) struct Lent {
    pub(crate) tokens: u32,
    pub(crate) left: u32,
    pub(crate) retry_us: u64,
    pub(crate) valid_us: u64,
}

/// Where a node keeps its loans and asks for them.
pub(crate) struct Desk {
    table: Table,
    begun: Instant,
    wanted: Mutex<Wanted>,
    called: Notify,
}

#[derive(Default)]
struct Wanted {
    queue: Vec<Want>,
    /// By the key's hash: those who wait for a loan that is asked for or under way. They are told whether Redis answered.
    waiting: HashMap<u64, Vec<oneshot::Sender<bool>>>,
}

/// What spending came to.
pub(crate) enum Spent<'r> {
    /// All tokens were there and are taken, or a rule refuses and none is.
    Decided(Decision<'r>),
    /// Some have to be lent first: whom to wait for, and the first that is missing of a rule that is not on trial.
    Missing(SmallVec<[oneshot::Receiver<bool>; 6]>, Option<Lookup<'r>>),
    /// There is nobody to ask.
    Full,
}

impl Desk {
    pub(crate) fn new(keys: usize) -> Desk {
        Desk { table: Table::new(keys, 1), begun: Instant::now(), wanted: Mutex::default(), called: Notify::new() }
    }

    /// Time that never goes back, in microseconds.
    fn now_us(&self) -> u64 {
        // Not from zero: a moment of zero is none.
        1 + self.begun.elapsed().as_micros() as u64
    }

    /// Asks for a loan, once however many want it.
    fn want(&self, want: Want, wait: bool) -> Option<oneshot::Receiver<bool>> {
        let (sender, receiver) = oneshot::channel();
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(others) = wanted.waiting.get_mut(&want.hash) {
            if wait {
                others.push(sender);
            }
            drop(wanted);
            self.give_back(want);
            return Some(receiver);
        }
        if wanted.queue.len() >= MAX_WANTED {
            return None;
        }
        wanted.waiting.insert(want.hash, if wait { vec![sender] } else { Vec::new() });
        wanted.queue.push(want);
        drop(wanted);
        self.called.notify_one();
        Some(receiver)
    }

    /// Gives tokens of a bucket back that nobody here may spend. Those of a window are lost: Redis may be in another one by now.
    fn give_back(&self, want: Want) {
        if want.back == 0 || want.quota.algorithm() != crate::Algorithm::TokenBucket {
            return;
        }
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        if wanted.queue.len() < MAX_WANTED {
            wanted.queue.push(Want { block: 0, least: 1, ..want });
            drop(wanted);
            self.called.notify_one();
        }
    }

    /// Enters what Redis said, and wakes those who wait. `asked_us` is when it was asked: the time of a loan begins before it is given.
    fn settle(&self, want: Want, lent: Option<&Lent>, asked_us: u64) {
        if want.block == 0 {
            // Nothing was asked for, and nobody waits.
            return;
        }
        let mut too_many = 0;
        if let Some(lent) = lent {
            let now_us = self.now_us();
            let mut held = self.table.lock(self.table.place(want.hash, &want.quota));
            let found = held.find(want.hash, now_us);
            let live = found.as_ref().filter(|found| found.version == want.version && found.state.until_us > now_us);
            let (left, held_until_us) = live.map_or((0, 0), |found| (Loan::of(found.state.word).left, found.state.until_us));
            let slot = found.map_or_else(|| held.victim(0, now_us).0, |found| found.slot);
            let (loan, until_us) = if lent.tokens > 0 {
                // Tokens may have been put back since these were asked for. Nobody holds more than the lease.
                too_many = (left + lent.tokens).saturating_sub(want.lease);
                let left = left + lent.tokens - too_many;
                (Loan { left, block: want.block, beyond: lent.left }, asked_us + lent.valid_us)
            } else if left > 0 {
                // What is held may still be spent; the next one who lacks a token asks again.
                (Loan { left, block: want.block, beyond: 0 }, held_until_us)
            } else {
                let floor = REFUSED_US.min(want.quota.allowance().1 / 4);
                let beyond = lent.retry_us.div_ceil(1_000).min(0x3fff_ffff) as u32;
                (Loan { left: 0, block: 0, beyond }, now_us + lent.retry_us.clamp(floor, REFUSED_MOST_US.max(floor)))
            };
            held.put(slot, want.hash, want.version, worth(loan, want.lease), State { until_us, word: loan.word() });
        }
        let waiting = self.wanted.lock().unwrap_or_else(PoisonError::into_inner).waiting.remove(&want.hash);
        for waiter in waiting.into_iter().flatten() {
            let _ = waiter.send(lent.is_some());
        }
        self.give_back(Want { back: too_many, ..want });
    }
}

/// How much would be lost with a loan, of 255.
fn worth(loan: Loan, lease: u32) -> u8 {
    (u64::from(loan.left) * 255 / u64::from(lease.max(1))).min(255) as u8
}

impl Limiter {
    /// Takes what the request costs out of this node's loans, all or none, or says what has to be lent first.
    pub(crate) fn spend<'r>(&self, desk: &Desk, rules: &'r Rules, subject: &Subject<'_>, lookups: &[Lookup<'r>]) -> Spent<'r> {
        let mut order: SmallVec<[(Place, u8); 6]> = SmallVec::new();
        for (at, lookup) in lookups.iter().enumerate() {
            order.push((desk.table.place(lookup.hash, lookup.quota), at as u8));
        }
        order.sort_unstable();
        let mut held: SmallVec<[(Place, Held<'_>); 6]> = SmallVec::new();
        for (place, _) in &order {
            if held.last().is_none_or(|(last, _)| last != place) {
                held.push((*place, desk.table.lock(*place)));
            }
        }
        let now_us = desk.now_us();
        let wall_us = self.now_us();
        let mut decision = Decision::new(Outcome::Admitted, wall_us);
        // The lookup, its held set, the slot there, what the loan is then, and until when.
        type Taken = (u8, u8, usize, Loan, u64);
        let mut loans: SmallVec<[Taken; 6]> = SmallVec::new();
        let mut wants: SmallVec<[(Want, bool); 6]> = SmallVec::new();
        // What goes back with the next loan is no longer held.
        let mut emptied: SmallVec<[Taken; 6]> = SmallVec::new();
        let (mut at, mut missing, mut lacking, mut longest) = (0_usize, false, None, 0);
        for (place, index) in &order {
            while held[at].0 != *place {
                at += 1;
            }
            let lookup = &lookups[*index as usize];
            let active = &rules.rules[lookup.rule as usize];
            let lease = active.rule.lease.min(lookup.quota.most()).max(lookup.cost);
            let set = &held[at].1;
            let found = set.find(lookup.hash, now_us).filter(|found| found.version == active.version);
            let (slot, mut loan, until_us) =
                found.map_or((NO_PLACE, Loan::default(), 0), |found| (found.slot, Loan::of(found.state.word), found.state.until_us));
            let live = until_us > now_us;
            if live && loan.block == 0 {
                let retry_us = (u64::from(loan.beyond) * 1_000).max(until_us - now_us);
                if active.rule.dry_run {
                    self.count_trial(active);
                } else if retry_us >= longest {
                    longest = retry_us;
                    decision.outcome = Outcome::Limited { rule: lookup.rule, retry_us };
                }
                if !active.rule.dry_run {
                    decision.push_level(lookup, lookup.quota.having_used(lookup.quota.allowance().0, wall_us));
                }
                continue;
            }
            let want = |back: u32, left: u32, block: u32| Want {
                key: self.shared_key(rules, lookup, subject),
                quota: *lookup.quota,
                hash: lookup.hash,
                version: active.version,
                lease,
                back,
                block: block.clamp(lookup.cost, lease).min(lease - left.min(lease)).max(lookup.cost.saturating_sub(left)).max(1),
                least: lookup.cost.saturating_sub(left).max(1),
            };
            let quick = live && until_us - now_us > lookup.quota.per_us().min(60_000_000) / 2;
            if !live || loan.left < lookup.cost {
                missing = true;
                if !active.rule.dry_run {
                    lacking = lacking.or(Some(*lookup));
                }
                let is_bucket = lookup.quota.algorithm() == crate::Algorithm::TokenBucket;
                let (back, left) = match live {
                    true => (0, loan.left),
                    // What is left of a window's loan is lost: it was counted in a window that may be over.
                    false => (if is_bucket { loan.left } else { 0 }, 0),
                };
                let block = match (loan.block, live) {
                    (0, _) => lease / 4,
                    (block, true) if quick => block * 2,
                    (block, true) => block,
                    (block, false) if loan.left > 0 => block / 2,
                    (block, false) => block,
                };
                if back > 0 {
                    emptied.push((*index, at as u8, slot, Loan { left: 0, ..loan }, until_us));
                }
                wants.push((want(back, left, block), true));
                continue;
            }
            loan.left -= lookup.cost;
            if loan.left < loan.block / 4 && loan.beyond > 0 {
                // Before it is used up, so that nobody has to wait.
                wants.push((want(0, loan.left, if quick { loan.block * 2 } else { loan.block }), false));
            }
            loans.push((*index, at as u8, slot, loan, until_us));
            if !active.rule.dry_run {
                let left = loan.left.saturating_add(loan.beyond).min(lookup.quota.allowance().0);
                decision.push_level(lookup, lookup.quota.having_used(lookup.quota.allowance().0 - left, wall_us));
            }
        }
        let changed = if missing { emptied } else { loans };
        if decision.admitted() {
            for (index, at, slot, loan, until_us) in &changed {
                let lookup = &lookups[*index as usize];
                let active = &rules.rules[lookup.rule as usize];
                let state = State { until_us: *until_us, word: loan.word() };
                held[*at as usize].1.put(*slot, lookup.hash, active.version, worth(*loan, active.rule.lease), state);
            }
        }
        drop(held);
        if let Outcome::Limited { rule, retry_us } = decision.outcome {
            if let Some(lookup) = lookups.iter().find(|lookup| lookup.rule == rule) {
                self.count_refusal(&rules.rules[rule as usize], lookup.hash, subject, wall_us, retry_us);
            }
            return Spent::Decided(decision);
        }
        let mut receivers = SmallVec::new();
        for (want, wait) in wants {
            match desk.want(want, wait) {
                Some(receiver) if wait => receivers.push(receiver),
                None if wait => return Spent::Full,
                _ => {}
            }
        }
        if missing { Spent::Missing(receivers, lacking) } else { Spent::Decided(decision) }
    }

    /// Puts back what [`Limiter::spend`] took, since a rule without a lease refused.
    pub(crate) fn unspend(&self, desk: &Desk, rules: &Rules, subject: &Subject<'_>, lookups: &[Lookup<'_>]) {
        for lookup in lookups {
            let active = &rules.rules[lookup.rule as usize];
            let lease = active.rule.lease;
            let mut too_many = lookup.cost;
            let now_us = desk.now_us();
            let mut held = desk.table.lock(desk.table.place(lookup.hash, lookup.quota));
            if let Some(found) = held.find(lookup.hash, now_us).filter(|found| found.version == active.version) {
                let mut loan = Loan::of(found.state.word);
                if found.state.until_us > now_us && loan.block > 0 {
                    too_many = (loan.left + lookup.cost).saturating_sub(lease);
                    loan.left += lookup.cost - too_many;
                    held.put(found.slot, lookup.hash, active.version, worth(loan, lease), State { word: loan.word(), ..found.state });
                }
            }
            drop(held);
            if too_many > 0 {
                desk.give_back(Want {
                    key: self.shared_key(rules, lookup, subject),
                    quota: *lookup.quota,
                    hash: lookup.hash,
                    version: active.version,
                    lease,
                    back: too_many,
                    block: 0,
                    least: 1,
                });
            }
        }
    }
}

/// Asks Redis for the loans that are wanted, many in one call and several calls at once, until nobody holds the desk.
pub(crate) async fn lend(shared: std::sync::Weak<Shared>) {
    let calls = Arc::new(tokio::sync::Semaphore::new(CALLS));
    loop {
        let Some(here) = shared.upgrade() else { return };
        let desk = here.desk();
        let batch: Vec<Want> = {
            let mut wanted = desk.wanted.lock().unwrap_or_else(PoisonError::into_inner);
            let many = wanted.queue.len().min(here.batch(BATCH));
            wanted.queue.drain(..many).collect()
        };
        if batch.is_empty() {
            // Now and then to see whether somebody still holds the desk.
            let _ = tokio::time::timeout(std::time::Duration::from_millis(500), desk.called.notified()).await;
            continue;
        }
        let Ok(permit) = calls.clone().acquire_owned().await else { return };
        tokio::spawn(async move {
            let desk = here.desk();
            let asked_us = desk.now_us();
            let answer = here.borrow(&batch).await;
            for (at, want) in batch.into_iter().enumerate() {
                desk.settle(want, answer.as_ref().and_then(|lent| lent.get(at)), asked_us);
            }
            drop(permit);
        });
    }
}
