//! Reads the table of cases and runs it: first through the pure engine.

use crate::engine::{AccountState, HoldState, LimitState, Moving, Original, Used, View, decide_all};
use crate::model::*;
use kernel::{Currency, Timestamp};
use std::collections::{BTreeMap, HashMap};

const TABLE: &str = include_str!("cases.txt");
/// 2026-01-05T12:00:00Z, as the test kit's clock.
pub(super) const START: Timestamp = Timestamp::from_micros(1_767_614_400_000_000);

/// A line of the table.
pub(super) struct Case {
    pub line: usize,
    pub text: &'static str,
    pub accounts: Vec<GivenAccount>,
    pub asked: Vec<Asked>,
    /// `posted`, `repeated`, or a code without `ledger.`.
    pub outcomes: Vec<String>,
    /// Account, posted balance, available balance if it is told.
    pub balances: Vec<(String, i64, Option<i64>)>,
}

/// An account, or the limits of an owner.
#[derive(Debug)]
pub(super) struct GivenAccount {
    pub name: String,
    /// None for an owner's limits.
    pub account_type: Option<AccountType>,
    pub currency: Currency,
    pub balance: i64,
    /// None for without end.
    pub floor: Option<i64>,
    pub status: AccountStatus,
    pub owner: Option<String>,
    pub limit: Limit,
}

/// Something to do: an operation, or time that passes.
#[derive(Debug)]
pub(super) enum Asked {
    WaitSeconds(i64),
    Request { name: String, linked: bool, key: Option<String>, details: Details, words: Vec<String>, effective_days: Option<i64> },
}

pub(super) fn cases() -> Vec<Case> {
    let lines = TABLE.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    lines.map(|(index, text)| read_case(index + 1, text)).collect()
}

fn read_case(line: usize, text: &'static str) -> Case {
    let columns: Vec<&str> = text.split(" | ").map(str::trim).collect();
    assert!(columns.len() == 3 || columns.len() == 4, "line {line}: three or four columns: {text}");
    let list = |text: &'static str| text.split(';').map(str::trim).filter(|part| !part.is_empty());
    let balance = |part: &str| {
        let (name, amounts) = part.rsplit_once(' ').unwrap_or_else(|| panic!("line {line}: a balance: {part}"));
        let (posted, available) = amounts.split_once('/').map_or((amounts, None), |(p, a)| (p, Some(a)));
        (name.to_owned(), number(posted), available.map(number))
    };
    Case {
        line,
        text,
        accounts: list(columns[0]).map(read_account).collect(),
        asked: list(columns[1]).map(read_asked).collect(),
        outcomes: list(columns[2]).map(str::to_owned).collect(),
        balances: columns.get(3).map_or(Vec::new(), |text| text.split(';').map(|part| balance(part.trim())).collect()),
    }
}

fn number(text: &str) -> i64 {
    text.replace('_', "").parse().unwrap_or_else(|_| panic!("a number: {text}"))
}

fn read_account(text: &str) -> GivenAccount {
    let words: Vec<&str> = text.split_whitespace().collect();
    let owner_limits = words[0] == "owner";
    let name = if owner_limits { words[1] } else { words[0] };
    let account_type = AccountType::from_word(words[1]);
    let mut account = GivenAccount {
        name: name.to_owned(),
        account_type: if owner_limits { None } else { Some(account_type.unwrap_or_else(|| panic!("a type: {text}"))) },
        currency: words[2].parse().unwrap_or_else(|_| panic!("a currency: {text}")),
        balance: 0,
        floor: Some(0),
        status: AccountStatus::Open,
        owner: None,
        limit: Limit::default(),
    };
    let mut rest = words[3..].iter();
    while let Some(word) = rest.next() {
        let mut value = || rest.next().unwrap_or_else(|| panic!("a value after {word}: {text}"));
        match *word {
            "frozen" => account.status = AccountStatus::Frozen,
            "closed" => account.status = AccountStatus::Closed,
            "owner" => account.owner = Some((*value()).to_owned()),
            "min" => account.floor = Some(*value()).filter(|v| *v != "none").map(|v| -number(v)),
            "txn<=" => account.limit.per_transaction_minor = Some(number(value())),
            "day<=" => account.limit.per_day_minor = Some(number(value())),
            "month<=" => account.limit.per_month_minor = Some(number(value())),
            balance => account.balance = number(balance),
        }
    }
    account
}

fn read_asked(text: &str) -> Asked {
    let mut words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    if words[0] == "wait" {
        let days = words[1].strip_suffix('d').map(|d| number(d) * 86_400);
        return Asked::WaitSeconds(days.unwrap_or_else(|| number(&words[1])));
    }
    let (mut name, mut linked, mut key, mut details, mut effective_days) = (String::new(), false, None, Details::default(), None);
    loop {
        match words[0].as_str() {
            "linked" => {
                linked = true;
                words.remove(0);
                continue;
            }
            "key" => key = Some(words[1].clone()),
            "as" => name = words[1].clone(),
            "ref" => details.external_ref = Some(words[1].clone()),
            "entries" => details.metadata = (0..number(&words[1])).map(|n| (format!("name{n}"), "value".to_owned())).collect(),
            "entry-name" => details.metadata = BTreeMap::from([("n".repeat(number(&words[1]) as usize), "v".to_owned())]),
            "entry-value" => details.metadata = BTreeMap::from([("n".to_owned(), "v".repeat(number(&words[1]) as usize))]),
            "text" => details.description = Some("t".repeat(number(&words[1]) as usize)),
            "bell" => details.description = Some(format!("ding{}", '\u{7}')),
            "effective" => effective_days = Some(number(words[1].trim_end_matches('d'))),
            _ => break,
        }
        words.drain(..2);
    }
    Asked::Request { name, linked, key, details, words, effective_days }
}

/// The request that the words stand for. `account` and `done` give ids by name; of a name that nothing has, an id that is not there.
pub(super) fn request(
    asked: &Asked,
    now: Timestamp,
    account: &dyn Fn(&str) -> AccountId,
    done: &dyn Fn(&str) -> TransactionId,
) -> Option<Request> {
    let Asked::Request { linked, key, details, words, effective_days, .. } = asked else { return None };
    let word = |index: usize| words.get(index).map_or("", String::as_str);
    let currency = |index: usize| words.get(index).and_then(|c| c.parse().ok());
    let operation = match word(0) {
        "debit" => {
            Operation::Transfer { debit: account(word(1)), credit: account(word(3)), amount_minor: number(word(4)), currency: currency(5) }
        }
        "post" => {
            let posting = |part: &str| {
                let part: Vec<&str> = part.split_whitespace().collect();
                Posting {
                    side: Side::from_word(part[0]).unwrap_or_else(|| panic!("a side: {part:?}")),
                    account_id: account(part[1]),
                    amount_minor: number(part[2]),
                    currency: part.get(3).and_then(|c| c.parse().ok()),
                }
            };
            let all = words[1..].join(" ");
            let one_by_one = match all.split_once(" times ") {
                Some((two, count)) => {
                    // So many pairs of new accounts, which are not there.
                    let _ = two;
                    (0..number(count))
                        .map(|n| Posting { side: Side::Debit, account_id: account(&format!("?{n}")), amount_minor: 1, currency: None })
                        .collect()
                }
                None => all.split(',').map(str::trim).filter(|p| !p.is_empty()).map(posting).collect(),
            };
            Operation::Journal { postings: one_by_one }
        }
        "hold" => Operation::Hold {
            debit: account(word(2)),
            credit: account(word(4)),
            amount_minor: number(word(5)),
            currency: currency(8),
            expires_at: now.plus_ms(number(word(7)) * 1_000),
        },
        "capture" => Operation::Capture {
            hold_id: done(word(1)),
            amount_minor: words.get(2).filter(|w| *w != "final").map(|w| number(w)),
            release_rest: words.last().is_some_and(|w| w == "final"),
        },
        "void" => Operation::Void { hold_id: done(word(1)) },
        "reverse" => Operation::Reverse { transaction_id: done(word(1)), amount_minor: words.get(2).map(|w| number(w)) },
        "exchange" => Operation::Exchange {
            from: account(word(1)),
            sell_minor: number(word(2)),
            to: account(word(4)),
            buy_minor: number(word(5)),
            rate_nanos: word(7).parse::<Rate>().map_or(0, Rate::nanos),
        },
        other => panic!("an operation: {other}"),
    };
    let mut details = details.clone();
    details.effective_at = effective_days.map(|days| now.plus_ms(days * 86_400_000));
    let request = Request { linked: *linked, ..Request::new(operation).details(details) };
    Some(match key {
        Some(key) => request.key(key),
        None => request,
    })
}

/// How an outcome is told in the table.
pub(super) fn told(outcome: &kernel::Result<Receipt>) -> String {
    match outcome {
        Ok(receipt) if receipt.replayed => "repeated".to_owned(),
        Ok(_) => "posted".to_owned(),
        Err(error) => error.code().trim_start_matches("ledger.").to_owned(),
    }
}

/// Splits what is asked into batches: a chain, a pause, or a single request each.
pub(super) fn batches(asked: &[Asked]) -> Vec<&[Asked]> {
    let mut batches = Vec::new();
    let mut begin = 0;
    for (index, one) in asked.iter().enumerate() {
        if !matches!(one, Asked::Request { linked: true, .. }) || index + 1 == asked.len() {
            batches.push(&asked[begin..=index]);
            begin = index + 1;
        }
    }
    batches
}

pub(super) fn account_named(index: usize) -> AccountId {
    AccountId::from_i64(1_000 + index as i64)
}

struct Pure {
    view: View,
    names: HashMap<String, AccountId>,
    done: HashMap<String, TransactionId>,
    next: i64,
}

impl Pure {
    fn new(given: &[GivenAccount]) -> Pure {
        let mut pure = Pure { view: View::new(START), names: HashMap::new(), done: HashMap::new(), next: 0 };
        let limits = |pure: &mut Pure, subject, account: &GivenAccount| {
            let used = Used::default();
            pure.view.limits.push(LimitState {
                subject,
                name: account.name.clone(),
                currency: account.currency,
                limit: account.limit,
                used,
            });
            pure.view.limits.len() as u32 - 1
        };
        let owners: HashMap<(String, Currency), u32> = given
            .iter()
            .filter(|a| a.account_type.is_none())
            .map(|a| ((a.name.clone(), a.currency), limits(&mut pure, LimitSubject::Owner, a)))
            .collect();
        for (index, account) in given.iter().enumerate() {
            let Some(account_type) = account.account_type else { continue };
            let mut sums = Sums::default();
            let grown = if account.balance >= 0 { account_type.normal_side() } else { account_type.normal_side().opposite() };
            match grown {
                Side::Debit => sums.debits_posted = account.balance.abs(),
                Side::Credit => sums.credits_posted = account.balance.abs(),
            }
            let mut bound = Vec::new();
            if account.limit != Limit::default() {
                bound.push(limits(&mut pure, LimitSubject::Account, account));
            }
            bound.extend(account.owner.as_ref().and_then(|o| owners.get(&(o.clone(), account.currency))));
            let id = account_named(index);
            let place = pure.view.add(AccountState {
                id,
                account_type,
                currency: account.currency,
                status: account.status,
                floor: account.floor,
                managed: false,
                expired: (0, 0),
                limits: bound.into(),
                moving: Moving { sums, ..Moving::default() },
            });
            if account.name.starts_with("conversion:") {
                pure.view.conversion.insert(account.currency, place);
            }
            pure.names.insert(account.name.clone(), id);
        }
        pure
    }

    fn run(&mut self, batch: &[Asked]) -> Vec<String> {
        if let [Asked::WaitSeconds(seconds)] = batch {
            let day = self.view.now.day();
            self.view.now = self.view.now.plus_ms(seconds * 1_000);
            let (today, (first, _)) = (self.view.now.day(), month_of(self.view.now.day()));
            for limit in &mut self.view.limits {
                limit.used.today = if today == day { limit.used.today } else { 0 };
                limit.used.month = if day >= first { limit.used.month } else { 0 };
            }
            let now = self.view.now;
            for hold in self.view.holds.values().filter(|h| h.status == HoldStatus::Open && h.expires_at <= now) {
                // Told once in the table: no case waits twice after an expiry.
                self.view.accounts[hold.debit as usize].expired.0 += hold.remaining_minor;
                self.view.accounts[hold.credit as usize].expired.1 += hold.remaining_minor;
            }
            return Vec::new();
        }
        let missing = AccountId::from_i64(9_999_999);
        let account = |name: &str| match name.strip_prefix('?') {
            Some(n) => AccountId::from_i64(5_000_000 + number(n)),
            None => self.names.get(name).copied().unwrap_or(missing),
        };
        let done = |name: &str| self.done.get(name).copied().unwrap_or(TransactionId::from_i64(8_888_888));
        let requests: Vec<Request> = batch.iter().filter_map(|asked| request(asked, self.view.now, &account, &done)).collect();
        let before = snapshot(&self.view);
        let next = &mut self.next;
        let outcomes = decide_all(&mut self.view, &requests, &mut || {
            *next += 1;
            TransactionId::from_i64(*next)
        });
        if outcomes.iter().all(Result::is_err) {
            assert_eq!(before, snapshot(&self.view), "a refusal changed something");
        }
        for (asked, outcome) in batch.iter().zip(&outcomes) {
            if let (Asked::Request { name, .. }, Ok(receipt)) = (asked, outcome) {
                self.done.insert(name.clone(), receipt.transaction_id);
            }
        }
        self.store();
        outcomes.iter().map(told).collect()
    }

    /// What the database does between two batches.
    fn store(&mut self) {
        let view = &mut self.view;
        view.holds.extend(std::mem::take(&mut view.new_holds));
        for row in std::mem::take(&mut view.transactions) {
            let place = |id: i64| view.by_id[&AccountId::from_i64(id)];
            let pair = |amount_minor| {
                let debit = Leg { account: place(row.debit), side: Side::Debit, amount_minor };
                smallvec::smallvec![debit, Leg { account: place(row.credit), side: Side::Credit, amount_minor }]
            };
            let leg = |p: &crate::engine::NewPosting| Leg {
                account: place(p.account_id.as_i64()),
                side: if p.signed_minor > 0 { Side::Debit } else { Side::Credit },
                amount_minor: p.signed_minor.abs(),
            };
            let several = row.debit == 0;
            let legs = if several {
                view.postings.iter().filter(|p| p.transaction_id == row.transaction_id).map(leg).collect()
            } else {
                pair(row.amount_minor)
            };
            view.originals.insert(row.transaction_id, Original { kind: row.kind, legs, several, reversed_minor: 0, changed: false });
        }
    }
}

use crate::engine::Leg;

/// Everything that a refusal must leave as it is.
fn snapshot(view: &View) -> String {
    let accounts: Vec<&Moving> = view.accounts.iter().map(|a| &a.moving).collect();
    let mut holds: Vec<(i64, &HoldState)> = view.holds.iter().map(|(id, hold)| (id.as_i64(), hold)).collect();
    holds.sort_by_key(|(id, _)| *id);
    let mut reversed: Vec<(i64, i64)> = view.originals.iter().map(|(id, o)| (id.as_i64(), o.reversed_minor)).collect();
    reversed.sort_unstable();
    let used: Vec<Used> = view.limits.iter().map(|l| l.used).collect();
    let written =
        (view.transactions.len(), view.postings.len(), view.marks.len(), view.new_holds.len(), view.new_keys.len(), view.new_refs.len());
    let known = (view.keys.len(), view.refs.len());
    format!("{accounts:?} {holds:?} {reversed:?} {used:?} {written:?} {known:?}")
}

#[test]
fn the_table_holds_for_the_pure_engine() {
    let mut wrong = Vec::new();
    let all = cases();
    for case in &all {
        let mut pure = Pure::new(&case.accounts);
        let outcomes: Vec<String> = batches(&case.asked).into_iter().flat_map(|batch| pure.run(batch)).collect();
        if outcomes != case.outcomes {
            wrong.push(format!("line {}: {}\n   gave {}", case.line, case.text, outcomes.join("; ")));
            continue;
        }
        for (name, posted, available) in &case.balances {
            let account = &pure.view.accounts[pure.view.by_id[&pure.names[name]] as usize];
            let normal = account.account_type.normal_side();
            let sums = &account.moving.sums;
            let expired = if normal == Side::Debit { account.expired.1 } else { account.expired.0 };
            let now = (sums.posted(normal), sums.posted(normal) - sums.pending_out(normal) + expired);
            if now.0 != *posted || available.is_some_and(|a| a != now.1) {
                wrong.push(format!("line {}: {}\n   {name} has {}/{}", case.line, case.text, now.0, now.1));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), all.len(), wrong.join("\n"));
    assert!(all.len() >= 150, "only {} cases", all.len());
}

/// Every outcome that the engine's documentation names is in the table.
#[test]
fn the_table_has_every_outcome() {
    let seen: std::collections::BTreeSet<String> = cases().into_iter().flat_map(|case| case.outcomes).collect();
    for outcome in "idempotency.key_reused too_few_postings too_many_postings amount_negative amount_zero amount_too_large invalid_rate \
        invalid_expiry effective_out_of_range invalid_text metadata_too_large hold_not_found transaction_not_found hold_voided \
        hold_captured hold_expired not_reversible already_reversed capture_exceeds_hold reversal_whole reversal_exceeds unknown_account \
        account_repeated currency_mismatch same_currency no_conversion_account unbalanced rate_mismatch account_closed account_frozen \
        external_ref_taken overflow insufficient_funds transaction_limit daily_limit monthly_limit linked_failed linked_open repeated posted"
        .split_whitespace()
    {
        assert!(seen.contains(outcome), "no case ends in {outcome}");
    }
}

#[test]
fn months_are_those_of_the_calendar() {
    for (day, first, next) in [(0, 0, 31), (58, 31, 59), (789, 761, 790), (20_458, 20_454, 20_485), (-1, -31, 0)] {
        assert_eq!(month_of(day), (first, next), "{}", format_day(day));
    }
    let mut day = month_of(-200_000).1;
    while day < 200_000 {
        let (first, next) = month_of(day);
        assert!(first == day && month_of(next - 1) == (first, next) && format_day(day).ends_with("-01"), "{}", format_day(day));
        day = next;
    }
}

#[test]
fn rates_are_exact() {
    let [eur, jpy, bhd]: [Currency; 3] = ["EUR", "JPY", "BHD"].map(|c| c.parse().unwrap());
    for (rate, sold, from, to, bought) in [
        ("1.0842", 10_000, eur, eur, Some((10_842, true))),
        ("161.5", 100, eur, jpy, Some((161, false))),
        ("0.0062", 1_000, jpy, eur, Some((620, true))),
        ("0.41", 100, eur, bhd, Some((410, true))),
        ("0.000000001", 1, eur, eur, Some((0, false))),
        ("1000000000", MAX_AMOUNT_MINOR, eur, bhd, None),
    ] {
        assert_eq!(rate.parse::<Rate>().unwrap().bought(sold, from, to), bought, "{sold} at {rate}");
    }
    for text in ["", "0", "-1", "1.", ".5", "1.0000000001", "1e3", "1000000001", "99999999999", "1,5"] {
        assert_eq!(text.parse::<Rate>().map_err(|e| e.code()), Err("ledger.invalid_rate"), "{text}");
    }
    assert_eq!("1.50".parse::<Rate>().unwrap().to_string(), "1.5");
}
