//! A naive ledger, written without a look at the engine: everything is recounted from the list of what happened. Random operations, by a
//! seed, must end alike here, on SQLite and on PostgreSQL.

use super::cases::told;
use crate::api::{self, NewAccount};
use crate::model::*;
use kernel::{Clock as _, Currency, Rng as _, SeededRng, TenantId, Timestamp};
use std::collections::{BTreeMap, HashMap};
use store::{Read, Tx};
use testkit::{Engine, Setup, TestApp};

const ACCOUNTS: usize = 24;
const BATCH: usize = 500;
const SET: usize = 90;
/// Operations of one seed: the naive ledger copies itself for each chain.
const OF_A_SEED: usize = 20_000;

/// An account of the naive ledger, and the entries that were posted or held on it.
struct NaiveAccount {
    debit_is_up: bool,
    currency: usize,
    /// None for without end.
    floor: Option<i64>,
    frozen: bool,
    day_limit: Option<i64>,
    /// What is up or down, one number a posting.
    posted: i128,
    left_today: i64,
    day: i64,
}

struct NaiveHold {
    debit: usize,
    credit: usize,
    left: i64,
    /// open, voided, captured.
    state: &'static str,
    expires_at: i64,
}

/// A transaction that can be taken back: what it did to which account, debits above zero.
struct NaiveDone {
    moves: Vec<(usize, i64)>,
    pair: bool,
    kind: &'static str,
    taken_back: i64,
}

struct Naive {
    accounts: Vec<NaiveAccount>,
    holds: BTreeMap<usize, NaiveHold>,
    done: Vec<NaiveDone>,
    keys: HashMap<String, String>,
    refs: HashMap<String, usize>,
    now: i64,
}

/// One random operation, by places instead of ids.
#[derive(Clone, Debug)]
enum Op {
    Transfer(usize, usize, i64),
    Journal(Vec<(usize, i64)>),
    Hold(usize, usize, i64, i64),
    Capture(usize, Option<i64>, bool),
    Void(usize),
    Reverse(usize, Option<i64>),
    Exchange(usize, usize, i64, i64, i64),
}

#[derive(Clone, Debug)]
struct Step {
    op: Op,
    key: Option<String>,
    external_ref: Option<String>,
    linked: bool,
}

impl Naive {
    /// How much could leave the account now.
    fn free(&self, account: usize) -> i128 {
        let a = &self.accounts[account];
        let held: i128 = self
            .holds
            .values()
            .filter(|h| h.state == "open" && h.expires_at > self.now && (if a.debit_is_up { h.credit } else { h.debit }) == account)
            .map(|h| i128::from(h.left))
            .sum();
        a.posted - held + a.floor.map_or(i128::from(i64::MAX), i128::from)
    }

    fn leaves(&self, account: usize, debited: bool) -> bool {
        self.accounts[account].debit_is_up != debited
    }

    /// May these moves (debits above zero) happen now?
    fn may(&self, moves: &[(usize, i64)], external_ref: Option<&String>, velocity: bool) -> Result<(), &'static str> {
        let out: Vec<(usize, i64)> = moves.iter().filter(|(a, m)| self.leaves(*a, *m > 0)).map(|(a, m)| (*a, m.abs())).collect();
        if out.iter().any(|(a, _)| self.accounts[*a].frozen) {
            return Err("account_frozen");
        }
        if external_ref.is_some_and(|r| self.refs.contains_key(r)) {
            return Err("external_ref_taken");
        }
        if out.iter().any(|(a, m)| self.accounts[*a].floor.is_some() && self.free(*a) < i128::from(*m)) {
            return Err("insufficient_funds");
        }
        let today = self.now.div_euclid(86_400_000_000);
        let over = |(a, m): &(usize, i64)| {
            let account = &self.accounts[*a];
            let left = if account.day == today { account.left_today } else { 0 };
            account.day_limit.is_some_and(|limit| left + m > limit)
        };
        if velocity && out.iter().any(over) {
            return Err("daily_limit");
        }
        Ok(())
    }

    fn count_velocity(&mut self, moves: &[(usize, i64)]) {
        let today = self.now.div_euclid(86_400_000_000);
        for (account, m) in moves {
            if self.leaves(*account, *m > 0) {
                let a = &mut self.accounts[*account];
                a.left_today = if a.day == today { a.left_today } else { 0 } + m.abs();
                a.day = today;
            }
        }
    }

    fn post(&mut self, moves: &[(usize, i64)]) {
        for (account, m) in moves {
            let a = &mut self.accounts[*account];
            a.posted += i128::from(if a.debit_is_up { *m } else { -*m });
        }
    }

    fn step(&mut self, step: &Step) -> Result<&'static str, &'static str> {
        let content = format!("{:?} {:?}", step.op, step.external_ref);
        if let Some(known) = step.key.as_ref().and_then(|key| self.keys.get(key)) {
            return if *known == content { Ok("repeated") } else { Err("idempotency.key_reused") };
        }
        let external_ref = step.external_ref.as_ref();
        let done = match step.op.clone() {
            Op::Transfer(debit, credit, m) => {
                self.amounts(&[m])?;
                if debit == credit {
                    return Err("account_repeated");
                }
                if self.accounts[debit].currency != self.accounts[credit].currency {
                    return Err("currency_mismatch");
                }
                self.plain("transfer", vec![(debit, m), (credit, -m)], true, external_ref)?
            }
            Op::Journal(moves) => {
                self.amounts(&moves.iter().map(|(_, m)| m.abs()).collect::<Vec<_>>())?;
                let mut places: Vec<usize> = moves.iter().map(|(a, _)| *a).collect();
                places.sort_unstable();
                places.dedup();
                if places.len() < moves.len() {
                    return Err("account_repeated");
                }
                for currency in 0..2 {
                    if moves.iter().filter(|(a, _)| self.accounts[*a].currency == currency).map(|(_, m)| m).sum::<i64>() != 0 {
                        return Err("unbalanced");
                    }
                }
                let pair = moves.len() == 2;
                self.plain("journal", moves, pair, external_ref)?
            }
            Op::Exchange(from, to, sell, buy, rate) => {
                self.amounts(&[sell, buy])?;
                // The last two accounts are those through which is exchanged.
                let through = |currency: usize| ACCOUNTS + currency;
                if from == to {
                    return Err("account_repeated");
                }
                let (sold, bought) = (self.accounts[from].currency, self.accounts[to].currency);
                if sold == bought {
                    return Err("same_currency");
                }
                // EUR has two decimals, JPY none.
                let exact = i128::from(sell) * i128::from(rate) * if sold == 0 { 1 } else { 10_000 };
                let wanted = 100_000_000_000_i128 * i128::from(buy);
                if (exact - wanted).abs() >= 100_000_000_000 {
                    return Err("rate_mismatch");
                }
                let out = if self.accounts[from].debit_is_up { -sell } else { sell };
                let back = if self.accounts[to].debit_is_up { buy } else { -buy };
                let moves = vec![(from, out), (through(sold), -out), (through(bought), -back), (to, back)];
                self.plain("exchange", moves, false, external_ref)?
            }
            Op::Hold(debit, credit, m, seconds) => {
                self.amounts(&[m])?;
                if seconds <= 0 {
                    return Err("invalid_expiry");
                }
                if debit == credit {
                    return Err("account_repeated");
                }
                if self.accounts[debit].currency != self.accounts[credit].currency {
                    return Err("currency_mismatch");
                }
                let moves = [(debit, m), (credit, -m)];
                self.may(&moves, external_ref, true)?;
                self.count_velocity(&moves);
                let hold = NaiveHold { debit, credit, left: m, state: "open", expires_at: self.now + seconds * 1_000_000 };
                self.holds.insert(self.done.len(), hold);
                NaiveDone { moves: Vec::new(), pair: true, kind: "hold", taken_back: 0 }
            }
            Op::Capture(hold, m, last) => {
                self.amounts(&m.into_iter().collect::<Vec<_>>())?;
                self.open(hold)?;
                let h = &self.holds[&hold];
                let m = m.unwrap_or(h.left);
                if m > h.left {
                    return Err("capture_exceeds_hold");
                }
                if external_ref.is_some_and(|r| self.refs.contains_key(r)) {
                    return Err("external_ref_taken");
                }
                let moves = vec![(h.debit, m), (h.credit, -m)];
                self.post(&moves);
                let h = self.holds.get_mut(&hold).unwrap();
                h.left = if last { 0 } else { h.left - m };
                if h.left == 0 {
                    h.state = "captured";
                }
                NaiveDone { moves, pair: true, kind: "capture", taken_back: 0 }
            }
            Op::Void(hold) => {
                self.open(hold)?;
                if external_ref.is_some_and(|r| self.refs.contains_key(r)) {
                    return Err("external_ref_taken");
                }
                let h = self.holds.get_mut(&hold).unwrap();
                (h.left, h.state) = (0, "voided");
                NaiveDone { moves: Vec::new(), pair: true, kind: "void", taken_back: 0 }
            }
            Op::Reverse(at, m) => {
                self.amounts(&m.into_iter().collect::<Vec<_>>())?;
                let Some(d) = self.done.get(at) else { return Err("transaction_not_found") };
                if ["hold", "void", "reversal"].contains(&d.kind) {
                    return Err("not_reversible");
                }
                let whole: i64 = d.moves.iter().map(|(_, m)| (*m).max(0)).sum();
                let left = whole - d.taken_back;
                if left == 0 {
                    return Err("already_reversed");
                }
                if !d.pair && m.is_some() {
                    return Err("reversal_whole");
                }
                let m = m.unwrap_or(left);
                if m > left {
                    return Err("reversal_exceeds");
                }
                let back = |(a, x): &(usize, i64)| (*a, if d.pair { -x.signum() * m } else { -x });
                let moves: Vec<(usize, i64)> = d.moves.iter().map(back).collect();
                let pair = d.pair;
                self.may(&moves, external_ref, false)?;
                self.post(&moves);
                self.done[at].taken_back += m;
                NaiveDone { moves, pair, kind: "reversal", taken_back: 0 }
            }
        };
        if let Some(external_ref) = &step.external_ref {
            self.refs.insert(external_ref.clone(), self.done.len());
        }
        if let Some(key) = &step.key {
            self.keys.insert(key.clone(), content);
        }
        self.done.push(done);
        Ok("posted")
    }

    fn amounts(&self, amounts: &[i64]) -> Result<(), &'static str> {
        match amounts.iter().find(|m| **m <= 0) {
            Some(0) => Err("amount_zero"),
            Some(_) => Err("amount_negative"),
            None => Ok(()),
        }
    }

    fn open(&self, hold: usize) -> Result<(), &'static str> {
        match self.holds.get(&hold) {
            None => Err("hold_not_found"),
            Some(h) if h.state == "voided" => Err("hold_voided"),
            Some(h) if h.state == "captured" => Err("hold_captured"),
            Some(h) if h.expires_at <= self.now => Err("hold_expired"),
            Some(_) => Ok(()),
        }
    }

    fn plain(
        &mut self,
        kind: &'static str,
        moves: Vec<(usize, i64)>,
        pair: bool,
        external_ref: Option<&String>,
    ) -> Result<NaiveDone, &'static str> {
        self.may(&moves, external_ref, true)?;
        self.count_velocity(&moves);
        self.post(&moves);
        Ok(NaiveDone { moves, pair, kind, taken_back: 0 })
    }

    /// A chain: tried on a copy of everything, kept when all of it passes.
    fn chain(&mut self, steps: &[Step]) -> Vec<String> {
        let said = |outcome: Result<&'static str, &'static str>| outcome.unwrap_or_else(|e| e).to_owned();
        if let [single] = steps {
            return vec![said(self.step(single))];
        }
        let mut copy = self.copy();
        let mut outcomes = Vec::new();
        for (index, step) in steps.iter().enumerate() {
            match copy.step(step) {
                Ok(outcome) => outcomes.push(outcome.to_owned()),
                Err(refused) => {
                    return (0..steps.len()).map(|i| if i == index { refused } else { "linked_failed" }.to_owned()).collect();
                }
            }
        }
        *self = copy;
        outcomes
    }

    fn copy(&self) -> Naive {
        let account = |a: &NaiveAccount| NaiveAccount { ..*a };
        let done = |d: &NaiveDone| NaiveDone { moves: d.moves.clone(), ..*d };
        Naive {
            accounts: self.accounts.iter().map(account).collect(),
            holds: self.holds.iter().map(|(id, h)| (*id, NaiveHold { ..*h })).collect(),
            done: self.done.iter().map(done).collect(),
            keys: self.keys.clone(),
            refs: self.refs.clone(),
            now: self.now,
        }
    }
}

struct Dice(SeededRng);

impl Dice {
    fn below(&self, bound: usize) -> usize {
        self.0.below(bound as u64) as usize
    }

    fn one_in(&self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// Mostly what passes, sometimes what doesn't.
    fn amount(&self) -> i64 {
        match self.below(50) {
            0 => 0,
            1 => -(self.below(100) as i64),
            2 => 100_000 + self.below(1_000_000) as i64,
            _ => 1 + self.below(400) as i64,
        }
    }

    /// One of the last `among` numbers below `end`.
    fn late(&self, end: usize, among: usize) -> usize {
        end.saturating_sub(1 + self.below(among))
    }

    fn op(&self, naive: &Naive, holds: &[usize]) -> Op {
        let account = || self.below(ACCOUNTS);
        // Accounts of one currency stand together, so that most pairs fit.
        let near = |a: usize| if self.one_in(20) { account() } else { a / (ACCOUNTS / 2) * (ACCOUNTS / 2) + self.below(ACCOUNTS / 2) };
        let some_hold = || if holds.is_empty() || self.one_in(50) { usize::MAX } else { holds[self.late(holds.len(), 40)] };
        let part = || (!self.one_in(3)).then(|| 1 + self.below(120) as i64);
        match self.below(20) {
            0..8 => {
                let debit = account();
                Op::Transfer(debit, near(debit), self.amount())
            }
            8..10 => {
                let first = account();
                let mut moves: Vec<(usize, i64)> = (0..1 + self.below(3)).map(|_| (near(first), self.amount())).collect();
                if self.one_in(2) {
                    moves.iter_mut().for_each(|(_, m)| *m = -*m);
                }
                // A negative amount can't be told from the other side here, so journals have none.
                moves.iter_mut().for_each(|(_, m)| *m = if *m == 0 { 1 } else { *m });
                let sum: i64 = moves.iter().map(|(_, m)| m).sum();
                moves.push((near(first), if self.one_in(30) { 1 - sum } else { -sum }));
                moves.retain(|(_, m)| *m != 0);
                if moves.len() < 2 { Op::Transfer(first, near(first), 1) } else { Op::Journal(moves) }
            }
            10..13 => {
                let debit = account();
                Op::Hold(debit, near(debit), self.amount(), if self.one_in(40) { 0 } else { 1 + self.below(3_000) as i64 })
            }
            13..16 => Op::Capture(some_hold(), part(), self.one_in(3)),
            16 => Op::Void(some_hold()),
            17 | 18 => {
                Op::Reverse(if naive.done.is_empty() || self.one_in(50) { usize::MAX } else { self.late(naive.done.len(), 200) }, part())
            }
            _ => {
                let (from, to) = (account(), account());
                let sell = 1 + self.below(5_000) as i64;
                let rate = 1_500_000 + self.below(2_000_000_000) as i64;
                let scale = if naive.accounts[from].currency == 0 { 1 } else { 10_000 };
                let buy = (i128::from(sell) * i128::from(rate) * scale / 100_000_000_000) as i64 + self.below(2) as i64;
                Op::Exchange(from, to, sell, buy + if self.one_in(10) { 2 } else { 0 }, rate)
            }
        }
    }
}

fn naive(now: Timestamp) -> (Naive, Vec<NewAccount>) {
    let currencies: [Currency; 2] = ["EUR".parse().unwrap(), "JPY".parse().unwrap()];
    let (mut accounts, mut new) = (Vec::new(), Vec::new());
    for place in 0..ACCOUNTS + 2 {
        let through = place >= ACCOUNTS;
        let currency = if through { place - ACCOUNTS } else { place / (ACCOUNTS / 2) };
        let account_type = if through { AccountType::Equity } else { AccountType::ALL[place % 5] };
        // In each currency some go without end, some a little below zero, most not at all.
        let floor = match (through, place % 6) {
            (true, _) | (_, 0) => None,
            (_, 1) => Some(500),
            _ => Some(0),
        };
        let code = if through { format!("conversion:{}", currencies[currency]) } else { format!("account-{place}") };
        accounts.push(NaiveAccount {
            debit_is_up: matches!(account_type, AccountType::Asset | AccountType::Expense),
            currency,
            floor,
            frozen: place % 12 == 7,
            day_limit: (place % 12 == 6).then_some(20_000),
            posted: 0,
            left_today: 0,
            day: 0,
        });
        new.push(NewAccount {
            may_go_negative: floor != Some(0),
            negative_limit_minor: floor.filter(|f| *f > 0),
            ..NewAccount::new(code, account_type, currencies[currency])
        });
    }
    let naive = Naive { accounts, holds: BTreeMap::new(), done: Vec::new(), keys: HashMap::new(), refs: HashMap::new(), now: now.micros() };
    (naive, new)
}

fn open(tx: &mut Tx<'_>, new: &[NewAccount]) -> kernel::Result<Vec<AccountId>> {
    let mut ids = Vec::new();
    for (place, account) in new.iter().enumerate() {
        let id = api::open_account(tx, account)?.account_id;
        if place % 12 == 7 && place < ACCOUNTS {
            api::set_account_status(tx, id, AccountStatus::Frozen)?;
        }
        if place % 12 == 6 && place < ACCOUNTS {
            api::limit_account(tx, id, Limit { per_day_minor: Some(20_000), ..Limit::default() })?;
        }
        ids.push(id);
    }
    Ok(ids)
}

fn real(step: &Step, now: Timestamp, accounts: &[AccountId], done: &[TransactionId]) -> Request {
    let account = |place: usize| accounts[place];
    let transaction = |place: usize| done.get(place).copied().unwrap_or(TransactionId::from_i64(1));
    let operation = match &step.op {
        Op::Transfer(debit, credit, m) => {
            Operation::Transfer { debit: account(*debit), credit: account(*credit), amount_minor: *m, currency: None }
        }
        Op::Journal(moves) => Operation::Journal {
            postings: moves
                .iter()
                .map(|(a, m)| Posting {
                    account_id: account(*a),
                    side: if *m > 0 { Side::Debit } else { Side::Credit },
                    amount_minor: m.abs(),
                    currency: None,
                })
                .collect(),
        },
        Op::Hold(debit, credit, m, seconds) => Operation::Hold {
            debit: account(*debit),
            credit: account(*credit),
            amount_minor: *m,
            currency: None,
            expires_at: now.plus_ms(seconds * 1_000),
        },
        Op::Capture(hold, m, last) => Operation::Capture { hold_id: transaction(*hold), amount_minor: *m, release_rest: *last },
        Op::Void(hold) => Operation::Void { hold_id: transaction(*hold) },
        Op::Reverse(at, m) => Operation::Reverse { transaction_id: transaction(*at), amount_minor: *m },
        Op::Exchange(from, to, sell, buy, rate) => {
            Operation::Exchange { from: account(*from), to: account(*to), sell_minor: *sell, buy_minor: *buy, rate_nanos: *rate }
        }
    };
    let details = Details { external_ref: step.external_ref.clone(), ..Details::default() };
    let request = Request { linked: step.linked, ..Request::new(operation).details(details) };
    match &step.key {
        Some(key) => request.key(key),
        None => request,
    }
}

/// Runs `operations` random ones in batches and compares each outcome, and from time to time every balance, also of the past.
async fn compare(app: &TestApp, tenant: TenantId, operations: usize, seed: u64) {
    let dice = Dice(SeededRng::new(seed));
    let (mut naive, new) = naive(app.clock().now());
    let accounts = app.store().write(tenant, |tx: &mut Tx<'_>, new: &Vec<NewAccount>| open(tx, new), new).await.unwrap();
    let mut ids: Vec<TransactionId> = Vec::new();
    let mut past: Vec<(Timestamp, Vec<i64>)> = Vec::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let (mut made, mut batch_number) = (0, 0);
    while made < operations {
        batch_number += 1;
        let holds: Vec<usize> = naive.holds.iter().filter(|(_, h)| h.state == "open").map(|(at, _)| *at).collect();
        let mut steps = Vec::new();
        // A bulk, one request alone, or many callers at once whose requests a lane takes as sets.
        let as_set = dice.one_in(3);
        let size = match as_set {
            true => 1 + dice.below(SET),
            false if dice.one_in(4) => 1,
            false => 1 + dice.below(BATCH),
        };
        while steps.len() < size {
            let key = dice.one_in(10).then(|| format!("key-{}", dice.below(operations)));
            let external_ref = dice.one_in(15).then(|| format!("ref-{}", dice.below(operations * 2)));
            let repeated = if key.is_some() && dice.one_in(5) { steps.last().cloned() } else { None };
            let step =
                repeated.unwrap_or_else(|| Step { op: dice.op(&naive, &holds), key, external_ref, linked: !as_set && dice.one_in(40) });
            steps.push(Step { linked: step.linked && !as_set, ..step });
        }
        if let Some(last) = steps.last_mut() {
            last.linked = false;
        }
        let now = app.clock().now();
        naive.now = now.micros();
        let requests: Vec<Request> = steps.iter().map(|step| real(step, now, &accounts, &ids)).collect();
        let given = if as_set {
            // Polled in turn, so that they are queued in this order.
            futures_util::future::join_all(requests.into_iter().map(|request| api::submit(app.store(), tenant, request))).await
        } else if let [single] = &requests[..] {
            vec![api::submit(app.store(), tenant, single.clone()).await]
        } else {
            api::submit_bulk(app.store(), store::Call::new(tenant).deadline_ms(60_000), requests).await.unwrap()
        };
        let mut expected = Vec::new();
        for chain in steps.chunk_by(|a, _| a.linked) {
            expected.extend(naive.chain(chain));
        }
        for (index, (outcome, expected)) in given.iter().zip(&expected).enumerate() {
            assert_eq!(told(outcome), *expected, "seed {seed}, batch {batch_number}, {index}: {:?}", steps[index]);
            *seen.entry(expected.clone()).or_default() += 1;
            if let Ok(receipt) = outcome
                && !receipt.replayed
            {
                ids.push(receipt.transaction_id);
            }
        }
        assert_eq!(ids.len(), naive.done.len());
        made += steps.len();
        if batch_number % 20 == 0 {
            past.push(check(app, tenant, &mut naive, &accounts).await);
        }
        if dice.one_in(3) {
            app.clock().advance_ms(1 + dice.below(200_000) as i64);
        }
        if dice.one_in(9) {
            // Posts in vain: its group is rolled back, and what the lane remembers is forgotten.
            let vain = Request::transfer(accounts[0], accounts[6], 5);
            let refused = app.store().write(tenant, |tx: &mut Tx<'_>, vain: &Request| in_vain(tx, vain), vain).await;
            assert_eq!(refused.unwrap_err().code(), "test.in_vain");
        }
        if dice.one_in(9) {
            app.store().write(tenant, |tx: &mut Tx<'_>, _: &()| api::expire_holds(tx, 50), ()).await.unwrap();
        }
        if dice.one_in(10) {
            app.clock().advance_ms(1);
        }
    }
    check(app, tenant, &mut naive, &accounts).await;
    for outcome in
        ["posted", "insufficient_funds", "daily_limit", "account_frozen", "capture_exceeds_hold", "hold_expired", "linked_failed"]
    {
        assert!(seen.contains_key(outcome), "no operation ended in {outcome}: {seen:?}");
    }
    // Every past moment is as it was seen then.
    for (at, posted) in past {
        let places = accounts.clone();
        let then = app
            .store()
            .read_within(tenant, 60_000, move |read: &mut Read<'_>| {
                places.iter().map(|id| Ok(api::balance_at(read, *id, at)?.posted_minor)).collect::<kernel::Result<Vec<i64>>>()
            })
            .await
            .unwrap();
        assert_eq!(then, posted, "at {at}");
    }
}

fn in_vain(tx: &mut Tx<'_>, request: &Request) -> kernel::Result<()> {
    api::post(tx, request)?;
    Err(kernel::Error::conflict("test.in_vain", "after it was posted"))
}

/// Compares every balance, and moves on so that this moment is over; when it was, and the posted balances.
async fn check(app: &TestApp, tenant: TenantId, naive: &mut Naive, accounts: &[AccountId]) -> (Timestamp, Vec<i64>) {
    let (places, now) = (accounts.to_vec(), app.clock().now());
    naive.now = now.micros();
    let balances: Vec<Balance> = app
        .store()
        .read_within(tenant, 60_000, move |read: &mut Read<'_>| places.iter().map(|id| api::balance(read, *id)).collect())
        .await
        .unwrap();
    for (place, balance) in balances.iter().enumerate() {
        let account = &naive.accounts[place];
        assert_eq!(i128::from(balance.posted_minor), account.posted, "account {place}");
        let floor = account.floor.map_or(i128::from(i64::MAX), i128::from);
        assert_eq!(i128::from(balance.available_minor), naive.free(place) - floor, "account {place}");
    }
    app.clock().advance_ms(1);
    (now, balances.iter().map(|b| b.posted_minor).collect())
}

async fn run(engine: Engine, operations: usize, seed: u64) {
    testkit::run(engine, Setup::new(vec![crate::module()]), |app| async move {
        compare(&app, app.tenant("acme"), operations, seed).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_operations_end_as_in_a_naive_ledger_on_sqlite() {
    run_all(Engine::Sqlite, 1_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_operations_end_as_in_a_naive_ledger_on_postgres() {
    run_all(Engine::Postgres, 2_000).await;
}

/// `BRANDOS_LEDGER_OPERATIONS` makes it more, split in seeds: a million is the long form.
async fn run_all(engine: Engine, first_seed: u64) {
    let operations: usize = std::env::var("BRANDOS_LEDGER_OPERATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(OF_A_SEED);
    for seed in 0..operations.div_ceil(OF_A_SEED) {
        run(engine, OF_A_SEED, first_seed + seed as u64).await;
    }
}
