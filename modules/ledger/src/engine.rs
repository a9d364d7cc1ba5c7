//! The ledger's decisions: pure, over an in-memory view of whatever a batch touches. The same function decides one transaction, a bulk of
//! 8,192 and a lane's whole group.
//!
//! Guards are asked in this order; the first that refuses names the outcome. A guard about postings is asked of every posting, in order,
//! before the next guard is.
//!
//! |  # | guard | outcome |
//! |---:|---|---|
//! |  1 | the key was used for something else | `idempotency.key_reused` (a repeat is answered here) |
//! |  2 | between 2 and 64 postings | `ledger.too_few_postings`, `ledger.too_many_postings` |
//! |  3 | amounts, and an exchange's rate | `ledger.amount_negative`, `.amount_zero`, `.amount_too_large`, `.invalid_rate` |
//! |  4 | expiry of a hold | `ledger.invalid_expiry` |
//! |  5 | details | `ledger.effective_out_of_range`, `.invalid_text`, `.metadata_too_large` |
//! |  6 | the hold or the transaction that is meant | `ledger.hold_not_found`, `.transaction_not_found` |
//! |  7 | its state | `ledger.hold_voided`, `.hold_captured`, `.hold_expired`, `.not_reversible`, `.already_reversed` |
//! |  8 | what is left of it | `ledger.capture_exceeds_hold`, `.reversal_whole`, `.reversal_exceeds` |
//! |  9 | accounts exist | `ledger.unknown_account` |
//! | 10 | each account once | `ledger.account_repeated` |
//! | 11 | currencies | `ledger.currency_mismatch`, `.same_currency`, `.no_conversion_account` |
//! | 12 | the sum is zero | `ledger.unbalanced`, `.rate_mismatch` |
//! | 13 | accounts are not closed; who asks from outside means none that a module looks after | `ledger.account_closed`, `.account_managed` |
//! | 14 | accounts that are taken from are not frozen, unless a module asks for what belongs to money that has just come | `ledger.account_frozen` |
//! | 15 | the external reference is free | `ledger.external_ref_taken` |
//! | 16 | sums stay within 64 bits | `ledger.overflow` |
//! | 17 | what is taken out is available | `ledger.insufficient_funds` |
//! | 18 | velocity in this transaction, account before owner | `ledger.transaction_limit` |
//! | 19 | velocity in the day | `ledger.daily_limit` |
//! | 20 | velocity in the month | `ledger.monthly_limit` |
//!
//! A capture, a void and an expiry pass no guard from 14 and 17 on: the hold passed them. A reversal passes no velocity limit: it is a
//! correction. Velocity counts what leaves an account (what is posted against its normal side) when it is posted or held; voids, expiries
//! and reversals give nothing back.

use crate::error;
use crate::model::*;
use kernel::{Currency, Error, Money, Result, Timestamp};
use smallvec::SmallVec;
use std::collections::HashMap;

/// An account's state is written down beside its balance at each of so many entries, so that the past is found without reading it all.
pub(crate) const ENTRIES_PER_MARK: i64 = 256;

/// An account as decisions see it.
#[derive(Clone, Debug)]
pub(crate) struct AccountState {
    pub id: AccountId,
    pub account_type: AccountType,
    pub currency: Currency,
    pub status: AccountStatus,
    /// How far below zero it may go; none for without end.
    pub floor: Option<i64>,
    /// Whether a module looks after it.
    pub managed: bool,
    /// Debits and credits of holds that have expired and are still among the pending sums.
    pub expired: (i64, i64),
    /// The velocity limits that bind it: the account's own before its owner's.
    pub limits: SmallVec<[u32; 2]>,
    pub moving: Moving,
}

/// What of an account changes with each transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moving {
    pub sums: Sums,
    /// How many transactions have touched it.
    pub entries: i64,
    /// The last of them, or 0.
    pub last_transaction: i64,
    /// When that was recorded, in microseconds: times don't step back along an account.
    pub last_recorded: i64,
    /// No open hold of it expires before this, in microseconds; none when there is no open hold.
    pub next_expiry: Option<i64>,
    /// Whether the batch has changed it.
    pub changed: bool,
}

impl Moving {
    /// The time on this account: what has expired when something was recorded stays expired, whichever node's clock is behind.
    pub(crate) fn time(&self, now: Timestamp) -> Timestamp {
        now.max(Timestamp::from_micros(self.last_recorded))
    }
}

/// A hold as decisions see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HoldState {
    pub debit: u32,
    pub credit: u32,
    pub amount_minor: i64,
    pub captured_minor: i64,
    pub remaining_minor: i64,
    pub status: HoldStatus,
    pub expires_at: Timestamp,
    pub changed: bool,
}

/// A transaction that is to be reversed.
#[derive(Clone, Debug)]
pub(crate) struct Original {
    pub kind: TransactionKind,
    /// Its postings; of two, the debit comes first.
    pub legs: SmallVec<[Leg; 2]>,
    /// Whether it has more than a debit and a credit.
    pub several: bool,
    /// What was taken back of its debits so far.
    pub reversed_minor: i64,
    pub changed: bool,
}

/// A posting against an account of the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leg {
    pub account: u32,
    pub side: Side,
    pub amount_minor: i64,
}

/// A velocity limit with what has left so far.
#[derive(Clone, Debug)]
pub(crate) struct LimitState {
    pub subject: LimitSubject,
    /// The account's id as text, or the owner.
    pub name: String,
    pub currency: Currency,
    pub limit: Limit,
    pub used: Used,
}

/// What has left under a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    pub today: i64,
    /// The day included.
    pub month: i64,
    pub changed: bool,
}

/// What is stored under a key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub fingerprint: Hash,
    pub transaction_id: TransactionId,
    pub recorded_at: Timestamp,
}

/// A transaction to be written. With two postings it is a row of its own; more are beside it.
#[derive(Clone, Debug)]
pub(crate) struct NewTransaction {
    pub transaction_id: TransactionId,
    pub kind: TransactionKind,
    /// 0 with several postings.
    pub debit: i64,
    pub credit: i64,
    /// What is posted; 0 for what only concerns pending sums, and with several postings.
    pub amount_minor: i64,
    /// By how much it changes the pending sums.
    pub pending_minor: i64,
    /// The transaction before on the debited account, or 0.
    pub debit_previous: i64,
    pub credit_previous: i64,
    /// The hold or the transaction that it is about, or 0.
    pub subject: i64,
    pub rate_nanos: i64,
    pub recorded_at: Timestamp,
    pub details: Option<Box<Details>>,
}

/// A posting of a transaction with several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NewPosting {
    pub transaction_id: TransactionId,
    pub posting: i64,
    pub account_id: AccountId,
    /// Debits above zero, credits below.
    pub signed_minor: i64,
    pub previous: i64,
}

/// An account's state after an entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub account_id: AccountId,
    pub moving: Moving,
}

/// Whatever a batch touches, and what it changes.
#[derive(Default)]
pub(crate) struct View {
    pub now: Timestamp,
    pub accounts: Vec<AccountState>,
    pub by_id: HashMap<AccountId, u32>,
    /// Accounts `conversion:<currency>`.
    pub conversion: HashMap<Currency, u32>,
    pub holds: HashMap<TransactionId, HoldState>,
    pub originals: HashMap<TransactionId, Original>,
    pub limits: Vec<LimitState>,
    pub keys: HashMap<Hash, Known>,
    /// External references that are taken, among those that the batch would take.
    pub refs: HashMap<String, TransactionId>,

    pub transactions: Vec<NewTransaction>,
    pub postings: Vec<NewPosting>,
    pub marks: Vec<Mark>,
    pub new_holds: Vec<(TransactionId, HoldState)>,
    pub new_keys: Vec<(Key, TransactionId, Timestamp)>,
    pub new_refs: Vec<(String, TransactionId)>,

    /// Within a chain: what to put back when a member is refused.
    undo: Option<Vec<Undo>>,
}

enum Undo {
    Account(u32, Moving),
    Hold(TransactionId, HoldState),
    Reversed(TransactionId, i64, bool),
    Used(u32, Used),
}

/// How much was to be written when a chain began.
struct Written {
    transactions: usize,
    postings: usize,
    marks: usize,
    new_holds: usize,
    new_keys: usize,
    new_refs: usize,
}

impl View {
    pub(crate) fn new(now: Timestamp) -> View {
        View { now, ..View::default() }
    }

    /// Adds an account; its place in the view.
    pub(crate) fn add(&mut self, account: AccountState) -> u32 {
        let place = self.accounts.len() as u32;
        self.by_id.insert(account.id, place);
        self.accounts.push(account);
        place
    }

    fn written(&self) -> Written {
        Written {
            transactions: self.transactions.len(),
            postings: self.postings.len(),
            marks: self.marks.len(),
            new_holds: self.new_holds.len(),
            new_keys: self.new_keys.len(),
            new_refs: self.new_refs.len(),
        }
    }

    /// Takes back everything since `from`.
    fn roll_back(&mut self, from: &Written, undo: Vec<Undo>) {
        for step in undo.into_iter().rev() {
            match step {
                Undo::Account(place, moving) => self.accounts[place as usize].moving = moving,
                Undo::Hold(id, hold) => {
                    self.holds.insert(id, hold);
                }
                Undo::Reversed(id, reversed_minor, changed) => {
                    if let Some(original) = self.originals.get_mut(&id) {
                        (original.reversed_minor, original.changed) = (reversed_minor, changed);
                    }
                }
                Undo::Used(place, used) => self.limits[place as usize].used = used,
            }
        }
        self.transactions.truncate(from.transactions);
        self.postings.truncate(from.postings);
        self.marks.truncate(from.marks);
        self.new_holds.truncate(from.new_holds);
        for (key, ..) in self.new_keys.drain(from.new_keys..) {
            self.keys.remove(&key.hash);
        }
        for (external_ref, _) in self.new_refs.drain(from.new_refs..) {
            self.refs.remove(&external_ref);
        }
    }

    fn remember(&mut self, step: Undo) {
        if let Some(undo) = &mut self.undo {
            undo.push(step);
        }
    }

    fn state(&self, leg: &Leg) -> &AccountState {
        &self.accounts[leg.account as usize]
    }
}

/// Decides a batch. Chains of linked requests stand or fall together; every other request stands or falls alone.
pub(crate) fn decide_all(view: &mut View, requests: &[Request], next_id: &mut dyn FnMut() -> TransactionId) -> Vec<Result<Receipt>> {
    let mut outcomes = Vec::with_capacity(requests.len());
    let mut at = 0;
    while at < requests.len() {
        let length = requests[at..].iter().take_while(|r| r.linked).count() + 1;
        if length == 1 {
            outcomes.push(decide(view, &requests[at], next_id));
            at += 1;
            continue;
        }
        let end = (at + length).min(requests.len());
        outcomes.extend(decide_chain(view, &requests[at..end], next_id));
        at = end;
    }
    outcomes
}

fn decide_chain(view: &mut View, chain: &[Request], next_id: &mut dyn FnMut() -> TransactionId) -> Vec<Result<Receipt>> {
    let begin = view.written();
    view.undo = Some(Vec::new());
    let mut outcomes = Vec::with_capacity(chain.len());
    for (index, request) in chain.iter().enumerate() {
        let open = index + 1 == chain.len() && request.linked;
        match if open { Err(error::linked_open()) } else { decide(view, request, next_id) } {
            Ok(receipt) => outcomes.push(Ok(receipt)),
            Err(refused) => {
                let undo = view.undo.take().unwrap_or_default();
                view.roll_back(&begin, undo);
                return (0..chain.len()).map(|other| Err(if other == index { refused.clone() } else { error::linked_failed() })).collect();
            }
        }
    }
    view.undo = None;
    outcomes
}

/// Decides one request, and takes its effect into the view when it passes every guard. A refused one changes nothing.
pub(crate) fn decide(view: &mut View, request: &Request, next_id: &mut dyn FnMut() -> TransactionId) -> Result<Receipt> {
    if let Some(key) = &request.key
        && let Some(known) = view.keys.get(&key.hash)
    {
        if known.fingerprint != key.fingerprint {
            return Err(error::key_reused());
        }
        return Ok(Receipt { transaction_id: known.transaction_id, recorded_at: known.recorded_at, replayed: true });
    }
    check_shape(request, Some(view.now), "")?;
    match &request.operation {
        Operation::Transfer { debit, credit, amount_minor, currency } => {
            let legs = pair(view, *debit, *credit, *amount_minor, *currency)?;
            post(view, request, next_id, TransactionKind::Transfer, &legs)
        }
        Operation::Hold { debit, credit, amount_minor, currency, expires_at } => {
            let legs = pair(view, *debit, *credit, *amount_minor, *currency)?;
            hold(view, request, next_id, &legs, *expires_at)
        }
        Operation::Journal { postings } => {
            let legs = journal(view, postings)?;
            post(view, request, next_id, TransactionKind::Journal, &legs)
        }
        Operation::Exchange { from, to, sell_minor, buy_minor, rate_nanos } => {
            let legs = exchange(view, *from, *to, *sell_minor, *buy_minor, *rate_nanos)?;
            post(view, request, next_id, TransactionKind::Exchange, &legs)
        }
        Operation::Capture { hold_id, amount_minor, release_rest } => {
            capture(view, request, next_id, *hold_id, *amount_minor, *release_rest)
        }
        Operation::Void { hold_id } => void(view, request, next_id, *hold_id),
        Operation::Reverse { transaction_id, amount_minor } => reverse(view, request, next_id, *transaction_id, *amount_minor),
    }
}

// Guards 2 to 5: what is wrong with the request whatever the ledger holds.

fn check_amount(amount_minor: i64, field: impl Fn() -> String) -> Result<()> {
    match amount_minor {
        ..0 => Err(error::amount_negative(&field())),
        0 => Err(error::amount_zero(&field())),
        1..=MAX_AMOUNT_MINOR => Ok(()),
        _ => Err(error::amount_too_large(&field())),
    }
}

/// `at` stands before the names of fields: where the request is in what was sent. Without `now` no time is judged: a repeat of a key gets
/// the first's answer whatever the time is by then.
pub(crate) fn check_shape(request: &Request, now: Option<Timestamp>, at: &str) -> Result<()> {
    let amount = |amount_minor: i64| check_amount(amount_minor, || format!("{at}amount_minor"));
    match &request.operation {
        Operation::Transfer { amount_minor, .. } => amount(*amount_minor)?,
        Operation::Journal { postings } => {
            if postings.len() < 2 {
                return Err(error::too_few_postings(at));
            }
            if postings.len() > MAX_POSTINGS {
                return Err(error::too_many_postings(at));
            }
            for (index, posting) in postings.iter().enumerate() {
                check_amount(posting.amount_minor, || format!("{at}postings[{index}].amount_minor"))?;
            }
        }
        Operation::Exchange { sell_minor, buy_minor, rate_nanos, .. } => {
            check_amount(*sell_minor, || format!("{at}sell_minor"))?;
            check_amount(*buy_minor, || format!("{at}buy_minor"))?;
            Rate::from_nanos(*rate_nanos)?;
        }
        Operation::Hold { amount_minor, expires_at, .. } => {
            amount(*amount_minor)?;
            if now.is_some_and(|now| *expires_at <= now || *expires_at > now.plus_ms(MAX_HOLD_MS)) {
                return Err(error::invalid_expiry(at));
            }
        }
        Operation::Capture { amount_minor, .. } | Operation::Reverse { amount_minor, .. } => amount_minor.map_or(Ok(()), amount)?,
        Operation::Void { .. } => {}
    }
    request.details.as_deref().map_or(Ok(()), |details| check_details(details, now, at))
}

fn check_details(details: &Details, now: Option<Timestamp>, at: &str) -> Result<()> {
    const CENTURY_MS: i64 = 36_600 * 86_400_000;
    if let (Some(effective_at), Some(now)) = (details.effective_at, now)
        && (effective_at > now.plus_ms(CENTURY_MS) || effective_at < now.plus_ms(-CENTURY_MS))
    {
        return Err(error::effective_out_of_range(at));
    }
    let texts = [("external_ref", &details.external_ref, MAX_REF), ("description", &details.description, MAX_DESCRIPTION)];
    for (field, text, most) in texts {
        if let Some(text) = text {
            check_text(&format!("{at}details.{field}"), text, 1, most)?;
        }
    }
    if details.metadata.is_empty() {
        return Ok(());
    }
    let metadata = format!("{at}details.metadata");
    if details.metadata.len() > MAX_METADATA {
        return Err(error::metadata_too_large(&metadata, format!("at most {MAX_METADATA} entries")));
    }
    for (name, value) in &details.metadata {
        if name.len() > MAX_METADATA_NAME || value.len() > MAX_METADATA_VALUE {
            let detail = format!("names of at most {MAX_METADATA_NAME} bytes, values of at most {MAX_METADATA_VALUE}");
            return Err(error::metadata_too_large(&metadata, detail));
        }
        check_text(&metadata, name, 1, MAX_METADATA_NAME)?;
        check_text(&metadata, value, 0, MAX_METADATA_VALUE)?;
    }
    Ok(())
}

/// Between `least` and `most` bytes without control characters.
pub(crate) fn check_text(field: &str, text: &str, least: usize, most: usize) -> Result<()> {
    if text.len() < least || text.len() > most {
        return Err(error::invalid_text(field, format!("between {least} and {most} bytes")));
    }
    if text.chars().any(char::is_control) {
        return Err(error::invalid_text(field, "without control characters".to_owned()));
    }
    Ok(())
}

// Guards 9 to 12: from what is asked to postings that balance.

type Legs = SmallVec<[Leg; 4]>;

fn find(view: &View, account_id: AccountId, field: impl Fn() -> String) -> Result<u32> {
    view.by_id.get(&account_id).copied().ok_or_else(|| error::unknown_account(&field()))
}

fn check_currency(view: &View, leg: &Leg, stated: Option<Currency>, field: impl Fn() -> String) -> Result<()> {
    let of_account = view.state(leg).currency;
    match stated {
        Some(stated) if stated != of_account => Err(error::currency_mismatch(&field(), stated, of_account)),
        _ => Ok(()),
    }
}

/// A debit and a credit of the same amount.
fn pair(view: &View, debit: AccountId, credit: AccountId, amount_minor: i64, currency: Option<Currency>) -> Result<[Leg; 2]> {
    let debited = find(view, debit, || "debit_account_id".to_owned())?;
    let credited = find(view, credit, || "credit_account_id".to_owned())?;
    if debited == credited {
        return Err(error::account_repeated("credit_account_id"));
    }
    let legs = [Leg { account: debited, side: Side::Debit, amount_minor }, Leg { account: credited, side: Side::Credit, amount_minor }];
    // Without a stated currency the debited account's is meant.
    let meant = Some(currency.unwrap_or(view.state(&legs[0]).currency));
    for leg in &legs {
        check_currency(view, leg, meant, || "currency".to_owned())?;
    }
    Ok(legs)
}

fn journal(view: &View, postings: &[Posting]) -> Result<Legs> {
    let mut legs = Legs::new();
    for (index, posting) in postings.iter().enumerate() {
        let account = find(view, posting.account_id, || format!("postings[{index}].account_id"))?;
        legs.push(Leg { account, side: posting.side, amount_minor: posting.amount_minor });
    }
    for (index, leg) in legs.iter().enumerate() {
        if legs[..index].iter().any(|other| other.account == leg.account) {
            return Err(error::account_repeated(&format!("postings[{index}].account_id")));
        }
    }
    for (index, (leg, posting)) in legs.iter().zip(postings).enumerate() {
        check_currency(view, leg, posting.currency, || format!("postings[{index}].currency"))?;
    }
    check_balanced(view, &legs)?;
    Ok(legs)
}

/// The sum of each currency is zero. At most 64 amounts of at most 10^15 each: no sum leaves 64 bits.
fn check_balanced(view: &View, legs: &[Leg]) -> Result<()> {
    let mut sums: SmallVec<[(Currency, i64); 4]> = SmallVec::new();
    for leg in legs {
        let currency = view.state(leg).currency;
        let signed = if leg.side == Side::Debit { leg.amount_minor } else { -leg.amount_minor };
        match sums.iter_mut().find(|(known, _)| *known == currency) {
            Some((_, sum)) => *sum += signed,
            None => sums.push((currency, signed)),
        }
    }
    match sums.iter().find(|(_, sum)| *sum != 0) {
        Some((currency, _)) => Err(error::unbalanced(*currency)),
        None => Ok(()),
    }
}

/// What is sold leaves one account for a conversion account; what is bought comes from another conversion account.
fn exchange(view: &View, from: AccountId, to: AccountId, sell_minor: i64, buy_minor: i64, rate_nanos: i64) -> Result<Legs> {
    let seller = find(view, from, || "from_account_id".to_owned())?;
    let buyer = find(view, to, || "to_account_id".to_owned())?;
    if seller == buyer {
        return Err(error::account_repeated("to_account_id"));
    }
    let account = |place: u32| &view.accounts[place as usize];
    let (sold, bought) = (account(seller).currency, account(buyer).currency);
    if sold == bought {
        return Err(error::same_currency());
    }
    let through = |currency: Currency| view.conversion.get(&currency).copied().ok_or_else(|| error::no_conversion_account(currency));
    let (out, back) = (through(sold)?, through(bought)?);
    if [seller, buyer].iter().any(|place| [out, back].contains(place)) {
        return Err(error::account_repeated("from_account_id"));
    }
    let (least, exact) = Rate::from_nanos(rate_nanos)?.bought(sell_minor, sold, bought).unwrap_or((i64::MAX, true));
    if buy_minor != least && (exact || buy_minor != least.saturating_add(1)) {
        return Err(error::rate_mismatch(Money::new(least, bought)));
    }
    let leaves = account(seller).account_type.normal_side().opposite();
    let comes = account(buyer).account_type.normal_side();
    Ok(Legs::from_slice(&[
        Leg { account: seller, side: leaves, amount_minor: sell_minor },
        Leg { account: out, side: leaves.opposite(), amount_minor: sell_minor },
        Leg { account: back, side: comes.opposite(), amount_minor: buy_minor },
        Leg { account: buyer, side: comes, amount_minor: buy_minor },
    ]))
}

// Guards 13 to 20: may these accounts take these postings now?

/// Whether a posting takes from its account, rather than bringing something.
fn takes(view: &View, leg: &Leg) -> bool {
    leg.side != view.state(leg).account_type.normal_side()
}

fn check_open(view: &View, request: &Request, legs: &[Leg]) -> Result<()> {
    if legs.iter().any(|leg| view.state(leg).status == AccountStatus::Closed) {
        return Err(error::account_closed());
    }
    check_not_managed(view, request, legs.iter().map(|leg| leg.account))
}

fn check_not_managed(view: &View, request: &Request, mut accounts: impl Iterator<Item = u32>) -> Result<()> {
    let refused = request.direct && accounts.any(|place| view.accounts[place as usize].managed);
    if refused { Err(error::account_managed()) } else { Ok(()) }
}

fn check_not_frozen(view: &View, request: &Request, legs: &[Leg]) -> Result<()> {
    let frozen = !request.from_frozen && legs.iter().any(|leg| view.state(leg).status == AccountStatus::Frozen && takes(view, leg));
    if frozen { Err(error::account_frozen()) } else { Ok(()) }
}

fn check_ref(view: &View, request: &Request) -> Result<()> {
    match request.details.as_deref().and_then(|d| d.external_ref.as_ref()) {
        Some(external_ref) if view.refs.contains_key(external_ref) => Err(error::external_ref_taken()),
        _ => Ok(()),
    }
}

/// Both sums of the side, and what they come to together, stay within 64 bits.
fn check_room(view: &View, legs: &[Leg]) -> Result<()> {
    let fits = |leg: &Leg| {
        let sums = &view.state(leg).moving.sums;
        let (posted, pending) = match leg.side {
            Side::Debit => (sums.debits_posted, sums.debits_pending),
            Side::Credit => (sums.credits_posted, sums.credits_pending),
        };
        posted.checked_add(pending).and_then(|sum| sum.checked_add(leg.amount_minor)).is_some()
    };
    if legs.iter().all(fits) { Ok(()) } else { Err(error::overflow()) }
}

fn check_funds(view: &View, legs: &[Leg]) -> Result<()> {
    let short = |leg: &Leg| {
        let account = view.state(leg);
        let Some(floor) = account.floor else { return false };
        if !takes(view, leg) {
            return false;
        }
        let normal = account.account_type.normal_side();
        let sums = &account.moving.sums;
        let expired = if normal == Side::Debit { account.expired.1 } else { account.expired.0 };
        let held = sums.pending_out(normal) - expired;
        i128::from(sums.posted(normal)) - i128::from(held) - i128::from(leg.amount_minor) < -i128::from(floor)
    };
    if legs.iter().any(short) { Err(error::insufficient_funds()) } else { Ok(()) }
}

/// What leaves under each limit, in the order of the postings, an account's own limit before its owner's.
fn velocity(view: &View, legs: &[Leg]) -> SmallVec<[(u32, i64); 2]> {
    let mut leaving: SmallVec<[(u32, i64); 2]> = SmallVec::new();
    for leg in legs.iter().filter(|leg| !view.state(leg).limits.is_empty() && takes(view, leg)) {
        for limit in &view.state(leg).limits {
            match leaving.iter_mut().find(|(known, _)| known == limit) {
                Some((_, sum)) => *sum += leg.amount_minor,
                None => leaving.push((*limit, leg.amount_minor)),
            }
        }
    }
    leaving
}

fn check_velocity(view: &View, leaving: &[(u32, i64)]) -> Result<()> {
    type Exceeds = fn(&LimitState, i64) -> bool;
    const fn over(limit: Option<i64>, used: i64, amount_minor: i64) -> bool {
        match limit {
            Some(most) => used.saturating_add(amount_minor) > most,
            None => false,
        }
    }
    type Refusal = fn(&Limit) -> Error;
    let guards: [(Exceeds, Refusal); 3] = [
        (|state, amount| over(state.limit.per_transaction_minor, 0, amount), error::transaction_limit),
        (|state, amount| over(state.limit.per_day_minor, state.used.today, amount), error::daily_limit),
        (|state, amount| over(state.limit.per_month_minor, state.used.month, amount), error::monthly_limit),
    ];
    for (exceeds, refusal) in guards {
        for (place, amount) in leaving {
            let state = &view.limits[*place as usize];
            if exceeds(state, *amount) {
                return Err(refusal(&state.limit));
            }
        }
    }
    Ok(())
}

fn use_up(view: &mut View, leaving: &[(u32, i64)]) {
    for (place, amount) in leaving {
        let before = view.limits[*place as usize].used;
        view.remember(Undo::Used(*place, before));
        let used = &mut view.limits[*place as usize].used;
        used.today = used.today.saturating_add(*amount);
        used.month = used.month.saturating_add(*amount);
        used.changed = true;
    }
}

// The operations themselves.

/// Guards 13 to 20 of what takes from accounts, and what leaves under limits.
fn check_legs(view: &View, request: &Request, legs: &[Leg], limited: bool) -> Result<SmallVec<[(u32, i64); 2]>> {
    check_open(view, request, legs)?;
    check_not_frozen(view, request, legs)?;
    check_ref(view, request)?;
    check_room(view, legs)?;
    check_funds(view, legs)?;
    let leaving = if limited { velocity(view, legs) } else { SmallVec::new() };
    check_velocity(view, &leaving)?;
    Ok(leaving)
}

fn post(
    view: &mut View,
    request: &Request,
    next_id: &mut dyn FnMut() -> TransactionId,
    kind: TransactionKind,
    legs: &[Leg],
) -> Result<Receipt> {
    let leaving = check_legs(view, request, legs, true)?;
    use_up(view, &leaving);
    let rate_nanos = if let Operation::Exchange { rate_nanos, .. } = request.operation { rate_nanos } else { 0 };
    let new = Fresh { kind, subject: 0, rate_nanos, id: next_id() };
    Ok(match two(legs) {
        Some((debit, credit)) => record_pair(view, request, &new, (debit, credit), legs[0].amount_minor, 0),
        None => record_several(view, request, &new, legs),
    })
}

/// The debit and the credit, if that is all there is.
fn two(legs: &[Leg]) -> Option<(u32, u32)> {
    match legs {
        [a, b] if a.side == Side::Debit && b.side == Side::Credit => Some((a.account, b.account)),
        [a, b] if a.side == Side::Credit && b.side == Side::Debit => Some((b.account, a.account)),
        _ => None,
    }
}

fn hold(
    view: &mut View,
    request: &Request,
    next_id: &mut dyn FnMut() -> TransactionId,
    legs: &[Leg; 2],
    expires_at: Timestamp,
) -> Result<Receipt> {
    let leaving = check_legs(view, request, legs, true)?;
    use_up(view, &leaving);
    let amount_minor = legs[0].amount_minor;
    let (debit, credit) = (legs[0].account, legs[1].account);
    let new = Fresh { kind: TransactionKind::Hold, subject: 0, rate_nanos: 0, id: next_id() };
    let receipt = record_pair(view, request, &new, (debit, credit), 0, amount_minor);
    for place in [debit, credit] {
        let moving = &mut view.accounts[place as usize].moving;
        moving.next_expiry = Some(moving.next_expiry.map_or(expires_at.micros(), |next| next.min(expires_at.micros())));
    }
    let state = HoldState {
        debit,
        credit,
        amount_minor,
        captured_minor: 0,
        remaining_minor: amount_minor,
        status: HoldStatus::Open,
        expires_at,
        changed: false,
    };
    view.new_holds.push((new.id, state));
    Ok(receipt)
}

/// Guards 6 and 7 of a hold.
fn open_hold(view: &View, hold_id: TransactionId) -> Result<HoldState> {
    let hold = *view.holds.get(&hold_id).ok_or_else(error::hold_not_found)?;
    match hold.status {
        HoldStatus::Voided => Err(error::hold_voided()),
        HoldStatus::Captured => Err(error::hold_captured()),
        HoldStatus::Expired => Err(error::hold_expired()),
        HoldStatus::Open if hold.expires_at <= recorded_at(view, [hold.debit, hold.credit].into_iter()) => Err(error::hold_expired()),
        HoldStatus::Open => Ok(hold),
    }
}

fn capture(
    view: &mut View,
    request: &Request,
    next_id: &mut dyn FnMut() -> TransactionId,
    hold_id: TransactionId,
    amount_minor: Option<i64>,
    release_rest: bool,
) -> Result<Receipt> {
    let mut hold = open_hold(view, hold_id)?;
    let amount_minor = amount_minor.unwrap_or(hold.remaining_minor);
    if amount_minor > hold.remaining_minor {
        return Err(error::capture_exceeds_hold(hold.remaining_minor));
    }
    let legs =
        [Leg { account: hold.debit, side: Side::Debit, amount_minor }, Leg { account: hold.credit, side: Side::Credit, amount_minor }];
    // An account with something held is never closed, and what is captured was counted among the pending sums: guards 13 and 16 hold.
    check_open(view, request, &legs)?;
    check_ref(view, request)?;
    let released = if release_rest { hold.remaining_minor } else { amount_minor };
    hold.captured_minor += amount_minor;
    hold.remaining_minor -= released;
    if hold.remaining_minor == 0 {
        hold.status = HoldStatus::Captured;
    }
    put_hold(view, hold_id, hold);
    let new = Fresh { kind: TransactionKind::Capture, subject: hold_id.as_i64(), rate_nanos: 0, id: next_id() };
    Ok(record_pair(view, request, &new, (hold.debit, hold.credit), amount_minor, -released))
}

fn void(view: &mut View, request: &Request, next_id: &mut dyn FnMut() -> TransactionId, hold_id: TransactionId) -> Result<Receipt> {
    let hold = open_hold(view, hold_id)?;
    check_not_managed(view, request, [hold.debit, hold.credit].into_iter())?;
    check_ref(view, request)?;
    Ok(release(view, request, next_id(), hold_id, hold, TransactionKind::Void))
}

/// Lets go of what is left of a hold whose time is over. None when it is not open, or its time is not over.
pub(crate) fn expire(view: &mut View, hold_id: TransactionId, id: TransactionId) -> Option<Receipt> {
    let hold = view.holds.get(&hold_id).copied().filter(|hold| hold.status == HoldStatus::Open && hold.expires_at <= view.now)?;
    let request = Request::new(Operation::Void { hold_id });
    Some(release(view, &request, id, hold_id, hold, TransactionKind::Expiry))
}

fn release(
    view: &mut View,
    request: &Request,
    id: TransactionId,
    hold_id: TransactionId,
    mut hold: HoldState,
    kind: TransactionKind,
) -> Receipt {
    let released = hold.remaining_minor;
    hold.remaining_minor = 0;
    hold.status = if kind == TransactionKind::Expiry { HoldStatus::Expired } else { HoldStatus::Voided };
    put_hold(view, hold_id, hold);
    let new = Fresh { kind, subject: hold_id.as_i64(), rate_nanos: 0, id };
    record_pair(view, request, &new, (hold.debit, hold.credit), 0, -released)
}

fn put_hold(view: &mut View, hold_id: TransactionId, hold: HoldState) {
    if let Some(before) = view.holds.insert(hold_id, HoldState { changed: true, ..hold }) {
        view.remember(Undo::Hold(hold_id, before));
    }
}

fn reverse(
    view: &mut View,
    request: &Request,
    next_id: &mut dyn FnMut() -> TransactionId,
    transaction_id: TransactionId,
    amount_minor: Option<i64>,
) -> Result<Receipt> {
    let original = view.originals.get(&transaction_id).ok_or_else(error::transaction_not_found)?;
    if !original.kind.reversible() {
        return Err(error::not_reversible(original.kind));
    }
    let whole: i64 = original.legs.iter().filter(|leg| leg.side == Side::Debit).map(|leg| leg.amount_minor).sum();
    let remaining = whole - original.reversed_minor;
    if remaining <= 0 {
        return Err(error::already_reversed());
    }
    let several = original.several;
    if several && amount_minor.is_some() {
        return Err(error::reversal_whole());
    }
    let amount_minor = amount_minor.unwrap_or(remaining);
    if amount_minor > remaining {
        return Err(error::reversal_exceeds(remaining));
    }
    let turned = |leg: &Leg| Leg { side: leg.side.opposite(), amount_minor: if several { leg.amount_minor } else { amount_minor }, ..*leg };
    let legs: Legs = original.legs.iter().map(turned).collect();
    check_legs(view, request, &legs, false)?;
    if let Some(original) = view.originals.get_mut(&transaction_id) {
        let before = (original.reversed_minor, original.changed);
        (original.reversed_minor, original.changed) = (original.reversed_minor + amount_minor, true);
        view.remember(Undo::Reversed(transaction_id, before.0, before.1));
    }
    let new = Fresh { kind: TransactionKind::Reversal, subject: transaction_id.as_i64(), rate_nanos: 0, id: next_id() };
    Ok(match two(&legs) {
        Some((debit, credit)) if !several => record_pair(view, request, &new, (debit, credit), amount_minor, 0),
        _ => record_several(view, request, &new, &legs),
    })
}

// Taking the effect into the view. Every guard has been passed: nothing below can fail.

struct Fresh {
    kind: TransactionKind,
    subject: i64,
    rate_nanos: i64,
    id: TransactionId,
}

/// Not before anything that the accounts have recorded already, so that times rise along each account whichever node's clock is behind.
fn recorded_at(view: &View, places: impl Iterator<Item = u32>) -> Timestamp {
    let latest = places.map(|place| view.accounts[place as usize].moving.last_recorded).max().unwrap_or(0);
    view.now.max(Timestamp::from_micros(latest))
}

/// Changes an account's sums and puts the transaction at the end of its entries; what was the last one before.
fn touch(view: &mut View, place: u32, id: TransactionId, recorded_at: Timestamp, change: impl FnOnce(&mut Sums)) -> i64 {
    let before = view.accounts[place as usize].moving;
    view.remember(Undo::Account(place, before));
    let account = &mut view.accounts[place as usize];
    let moving = &mut account.moving;
    change(&mut moving.sums);
    moving.entries += 1;
    moving.last_transaction = id.as_i64();
    moving.last_recorded = recorded_at.micros();
    moving.changed = true;
    if moving.entries % ENTRIES_PER_MARK == 0 {
        view.marks.push(Mark { account_id: account.id, moving: *moving });
    }
    before.last_transaction
}

/// A transaction of a debit and a credit: one row.
fn record_pair(
    view: &mut View,
    request: &Request,
    new: &Fresh,
    (debit, credit): (u32, u32),
    amount_minor: i64,
    pending_minor: i64,
) -> Receipt {
    let recorded_at = recorded_at(view, [debit, credit].into_iter());
    let debit_previous = touch(view, debit, new.id, recorded_at, |sums| {
        sums.debits_posted += amount_minor;
        sums.debits_pending += pending_minor;
    });
    let credit_previous = touch(view, credit, new.id, recorded_at, |sums| {
        sums.credits_posted += amount_minor;
        sums.credits_pending += pending_minor;
    });
    let ids = (view.accounts[debit as usize].id.as_i64(), view.accounts[credit as usize].id.as_i64());
    let row = NewTransaction {
        transaction_id: new.id,
        kind: new.kind,
        debit: ids.0,
        credit: ids.1,
        amount_minor,
        pending_minor,
        debit_previous,
        credit_previous,
        subject: new.subject,
        rate_nanos: new.rate_nanos,
        recorded_at,
        details: request.details.clone(),
    };
    finish(view, request, row)
}

/// A transaction of several postings: its own row, and one for each of them.
fn record_several(view: &mut View, request: &Request, new: &Fresh, legs: &[Leg]) -> Receipt {
    let recorded_at = recorded_at(view, legs.iter().map(|leg| leg.account));
    for (index, leg) in legs.iter().enumerate() {
        let previous = touch(view, leg.account, new.id, recorded_at, |sums| match leg.side {
            Side::Debit => sums.debits_posted += leg.amount_minor,
            Side::Credit => sums.credits_posted += leg.amount_minor,
        });
        let signed_minor = if leg.side == Side::Debit { leg.amount_minor } else { -leg.amount_minor };
        let account_id = view.state(leg).id;
        view.postings.push(NewPosting { transaction_id: new.id, posting: index as i64 + 1, account_id, signed_minor, previous });
    }
    let row = NewTransaction {
        transaction_id: new.id,
        kind: new.kind,
        debit: 0,
        credit: 0,
        amount_minor: 0,
        pending_minor: 0,
        debit_previous: 0,
        credit_previous: 0,
        subject: new.subject,
        rate_nanos: new.rate_nanos,
        recorded_at,
        details: request.details.clone(),
    };
    finish(view, request, row)
}

fn finish(view: &mut View, request: &Request, row: NewTransaction) -> Receipt {
    let receipt = Receipt { transaction_id: row.transaction_id, recorded_at: row.recorded_at, replayed: false };
    if let Some(key) = request.key {
        let known = Known { fingerprint: key.fingerprint, transaction_id: row.transaction_id, recorded_at: row.recorded_at };
        view.keys.insert(key.hash, known);
        view.new_keys.push((key, row.transaction_id, row.recorded_at));
    }
    if let Some(external_ref) = row.details.as_deref().and_then(|d| d.external_ref.clone()) {
        view.refs.insert(external_ref.clone(), row.transaction_id);
        view.new_refs.push((external_ref, row.transaction_id));
    }
    view.transactions.push(row);
    receipt
}
