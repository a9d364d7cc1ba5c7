//! Moving money: the one place where a transfer is decided. Limits, score, the ledger's transaction, what is remembered and the event are
//! one command; those that are queued together are decided in their order over one view, and written as a set.
//!
//! Guards are asked in this order; the first that refuses names the outcome.
//!
//! |  # | guard | outcome |
//! |---:|---|---|
//! |  1 | the payer is there, and the caller's to use | `wallets.wallet_not_found` |
//! |  2 | the payee is there, and another one | `wallets.payee_not_found`, `.same_wallet` |
//! |  3 | a merchant is paid, everybody else is sent to | `wallets.not_a_merchant`, `.is_a_merchant` |
//! |  4 | both hold the currency | `wallets.no_currency` |
//! |  5 | neither is closed, the payer is not frozen | `wallets.closed`, `.payee_closed`, `.frozen` |
//! |  6 | the payer's limits, unless it is the tenant's own | `wallets.level_unknown`, `.transaction_limit`, `.daily_limit`, `.monthly_limit` |
//! |  7 | the score | denied, in review or challenged, which is an answer and not an error; challenged too often, `wallets.too_many_codes` |
//! |  8 | what is in the wallet, as the ledger knows it | `wallets.insufficient_funds` |
//!
//! A transfer that the ledger refuses has used nothing of the limits, and is not remembered.

use crate::activity::{Activity, short};
use crate::error;
use crate::model::*;
use crate::policy::InForce;
use crate::score::{Feature, Features, Score, Verdict};
use crate::service::Wallets;
use crate::{service, sql, workflows};
use kernel::{Currency, Error, Result, Timestamp};
use ledger::api::Batch;
use ledger::{AccountId, Details, MAX_HOLD_MS, Posting, Request, Side, TransactionId};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use store::{Engine, Member, NewEvent, Row, Tx, Value};

/// How much longer than a review the ledger's hold stands, in milliseconds: we let go of it ourselves.
const HOLD_GRACE_MS: i64 = 7 * 86_400_000;
/// A wallet is young for so long, in milliseconds.
const YOUNG_MS: i64 = 86_400_000;
/// A mean of fewer than these says nothing yet.
const FEW: i64 = 3;

/// Whose wallets a caller may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// All of the tenant's.
    All,
    /// Those of this user.
    Own(UserId),
}

impl Reach {
    pub(crate) fn covers(self, user_id: Option<UserId>) -> bool {
        match self {
            Reach::All => true,
            Reach::Own(user) => user_id == Some(user),
        }
    }
}

/// What is asked.
#[derive(Clone)]
pub(crate) struct Ask {
    /// None within a workflow: then the policy is read anew.
    pub wallets: Option<Wallets>,
    pub reach: Reach,
    pub kind: TransferKind,
    pub from: WalletId,
    /// [`OUTSIDE`] for a withdrawal.
    pub to: WalletId,
    pub amount_minor: i64,
    pub currency: Currency,
    pub note: String,
    /// A hash of the payer's device; 0 when nobody said.
    pub device: u32,
    /// Where the payer is; zeros when nobody said.
    pub country: [u8; 2],
    /// Of a withdrawal: a hash of where it goes.
    pub target: u32,
    /// The challenged transfer that was confirmed.
    pub confirmed: Option<Box<Transfer>>,
}

/// A wallet in a currency, as decisions see it.
struct Purse {
    wallet_id: WalletId,
    currency: Currency,
    account_id: AccountId,
    used: Used,
    activity: Activity,
    changed: bool,
}

/// What of a wallet is the same in each currency.
#[derive(Clone, Copy)]
struct Head {
    kind: WalletKind,
    status: WalletStatus,
    level: i64,
    user_id: Option<UserId>,
    fee_bps: Option<i64>,
    created_at: Timestamp,
    codes: Codes,
}

/// The ledger's accounts of the tenant itself, in a currency.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Books {
    pub bank: AccountId,
    pub fees: AccountId,
    pub owed: AccountId,
}

/// The tenant's own accounts, by currency.
pub(crate) fn books(tx: &mut Tx<'_>) -> Result<BTreeMap<Currency, Books>> {
    let rows: Vec<(Currency, AccountId, AccountId, AccountId)> = tx.all(sql::BOOKS, ())?;
    Ok(rows.into_iter().map(|(currency, bank, fees, owed)| (currency, Books { bank, fees, owed })).collect())
}

/// Everything that a set touches.
struct World {
    now: Timestamp,
    policy: std::sync::Arc<InForce>,
    heads: HashMap<WalletId, Head>,
    places: HashMap<(WalletId, Currency), usize>,
    purses: Vec<Purse>,
    books: BTreeMap<Currency, Books>,
    ledger: Batch,
}

/// What became of one of a set.
pub(crate) struct Done {
    pub transfer: Transfer,
    events: Vec<NewEvent>,
    wait: Option<Wait>,
}

/// What a transfer waits for.
struct Wait {
    waits_for: WaitsFor,
    hold_id: Option<TransactionId>,
    attempts: i64,
    until: Timestamp,
    device: u32,
    country: [u8; 2],
}

fn purse(row: &dyn Row) -> Result<Option<(Currency, AccountId, Used, Activity)>> {
    let Some(currency) = row.get::<Option<Currency>>(7)? else { return Ok(None) };
    let used = Used { day: row.get(9)?, day_minor: row.get(10)?, month_minor: row.get(11)? };
    let activity = match row.value(12)? {
        store::ValueRef::Bytes(bytes) => Activity::from_bytes(bytes)?,
        _ => return Err(Error::internal("a wallet's activity is not bytes")),
    };
    Ok(Some((currency, row.get(8)?, used, activity)))
}

impl World {
    fn load(tx: &mut Tx<'_>, asks: &[&Ask]) -> Result<World> {
        let Some(first) = asks.first() else { return Err(Error::internal("nothing is to be moved")) };
        let policy = service::policy(tx, first.wallets.as_ref())?;
        let mut ids: Vec<i64> = asks.iter().flat_map(|ask| [ask.from.as_i64(), ask.to.as_i64()]).filter(|id| *id != 0).collect();
        ids.sort_unstable();
        ids.dedup();
        let (mut heads, mut places, mut purses) = (HashMap::new(), HashMap::new(), Vec::new());
        tx.each(sql::PURSES, (ids,), |row| {
            let wallet_id: WalletId = row.get(0)?;
            let head = Head {
                kind: row.get(1)?,
                status: row.get(2)?,
                level: row.get(3)?,
                user_id: row.get(4)?,
                fee_bps: row.get(5)?,
                created_at: row.get(6)?,
                codes: Codes { day: row.get(13)?, asked: row.get(14)?, wrong: row.get(15)? },
            };
            heads.insert(wallet_id, head);
            if let Some((currency, account_id, used, activity)) = purse(row)? {
                places.insert((wallet_id, currency), purses.len());
                purses.push(Purse { wallet_id, currency, account_id, used, activity, changed: false });
            }
            Ok(())
        })?;
        // A plain transfer needs none of the tenant's own accounts.
        let own = asks.iter().any(|ask| ask.kind != TransferKind::Transfer);
        let books = if own { books(tx)? } else { BTreeMap::new() };
        let asked = |currency: Currency| asks.iter().any(|ask| ask.currency == currency);
        let accounts = purses.iter().filter(|purse| asked(purse.currency)).map(|purse| purse.account_id);
        let ledger = Batch::load(tx, accounts.chain(books.values().flat_map(|books| [books.bank, books.fees])))?;
        Ok(World { now: tx.now(), policy, heads, places, purses, books, ledger })
    }

    fn own(&self, currency: Currency) -> Result<Books> {
        self.books.get(&currency).copied().ok_or_else(|| error::no_currency(currency))
    }
}

/// Payer and payee as the guards have found them; a withdrawal has no payee here.
struct Sides {
    payer: Head,
    from: usize,
    payee: Option<(Head, usize)>,
}

/// Guards 1 to 5.
fn sides(world: &World, ask: &Ask) -> Result<Sides> {
    let payer = *world.heads.get(&ask.from).filter(|head| ask.reach.covers(head.user_id)).ok_or_else(error::wallet_not_found)?;
    let out = ask.to == OUTSIDE;
    let payee = world.heads.get(&ask.to).copied();
    if payee.is_none() && !out {
        return Err(error::payee_not_found());
    }
    if ask.from == ask.to {
        return Err(error::same_wallet());
    }
    if let Some(payee) = payee {
        match (ask.kind, payee.kind) {
            (TransferKind::Payment, WalletKind::Merchant) => {}
            (TransferKind::Payment, _) => return Err(error::not_a_merchant()),
            (_, WalletKind::Merchant) => return Err(error::is_a_merchant()),
            _ => {}
        }
    }
    let place = |wallet_id| world.places.get(&(wallet_id, ask.currency)).copied().ok_or_else(|| error::no_currency(ask.currency));
    let from = place(ask.from)?;
    let to = if out { None } else { Some(place(ask.to)?) };
    if payer.status == WalletStatus::Closed {
        return Err(error::closed());
    }
    if payee.is_some_and(|payee| payee.status == WalletStatus::Closed) {
        return Err(error::payee_closed());
    }
    if payer.status == WalletStatus::Frozen {
        return Err(error::frozen());
    }
    Ok(Sides { payer, from, payee: payee.zip(to) })
}

/// Guard 6. What has left so far on this day.
fn within_limits(world: &World, ask: &Ask, sides: &Sides) -> Result<Used> {
    let used = world.purses[sides.from].used.on(world.now.day());
    if sides.payer.kind == WalletKind::System {
        return Ok(used);
    }
    let level = sides.payer.level;
    let limits = world.policy.policy.limits(level, ask.currency).ok_or_else(|| error::level_unknown(level))?;
    if let Some(most) = limits.per_transfer_minor.filter(|most| ask.amount_minor > *most) {
        return Err(error::transaction_limit(most));
    }
    let left = |most: Option<i64>, used: i64| most.map(|most| (most - used).max(0)).filter(|left| ask.amount_minor > *left);
    if let Some(left) = left(limits.per_day_minor, used.day_minor) {
        return Err(error::daily_limit(left));
    }
    if let Some(left) = left(limits.per_month_minor, used.month_minor) {
        return Err(error::monthly_limit(left));
    }
    Ok(used)
}

/// What is known of it, for guard 7.
fn features(world: &World, ask: &Ask, sides: &Sides) -> Features {
    let (now, past) = (world.now, &world.purses[sides.from].activity);
    let (count_hour, sent_hour) = past.sent_last_hour(now);
    let came_hour = past.received_last_hour(now);
    let (count, mean) = past.history();
    let target = if sides.payee.is_some() { short(ask.to.as_i64()) } else { ask.target };
    let new_payee = i64::from(!past.knows_payee(target));
    let percent = |part: i64, whole: i64| if whole > 0 { (i128::from(part) * 100 / i128::from(whole)).min(1_000_000) as i64 } else { 0 };
    let gathered = sides.payee.map_or(0, |(_, to)| world.purses[to].activity.new_payers_today(now));
    Features::default()
        .with(Feature::Amount, ask.amount_minor.saturating_mul(100) / ask.currency.minor_per_major().max(1))
        .with(Feature::AmountRatioPct, if count >= FEW { percent(ask.amount_minor, mean) } else { 0 })
        .with(Feature::SentLastHour, count_hour + 1)
        .with(Feature::SentToday, past.sent_today(now) + 1)
        .with(Feature::NewPayee, new_payee)
        .with(Feature::NewPayeesToday, past.new_payees_today(now) + new_payee)
        .with(Feature::NewDevice, i64::from(past.is_new_device(ask.device)))
        .with(Feature::OtherCountry, i64::from(past.is_other_country(ask.country)))
        .with(Feature::PassThroughPct, percent(sent_hour.saturating_add(ask.amount_minor), came_hour).min(100))
        .with(Feature::ReturnFlow, i64::from(sides.payee.is_some() && past.knows_payer(target)))
        .with(Feature::PayeeNewPayersToday, gathered)
        .with(Feature::YoungWallet, i64::from(now.ms_since(sides.payer.created_at) < YOUNG_MS))
}

/// Decides one: all guards, and its effect on the view. A refused one changes nothing.
fn decide(tx: &Tx<'_>, world: &mut World, ask: &Ask) -> Result<Done> {
    let sides = sides(world, ask)?;
    let used = within_limits(world, ask, &sides)?;
    let score = match sides.payer.kind {
        WalletKind::System => Score::none(),
        _ => world.policy.scorer.score(&features(world, ask, &sides)),
    };
    let (now, times) = (world.now, world.policy.policy.times);
    let fee_minor = match (&sides.payee, ask.kind) {
        (Some((payee, _)), TransferKind::Payment) => {
            let bps = payee.fee_bps.unwrap_or(world.policy.policy.merchant_fee.bps);
            (i128::from(ask.amount_minor) * i128::from(bps) / 10_000) as i64
        }
        _ => 0,
    };
    let transfer_id = ask.confirmed.as_ref().map_or_else(|| tx.new_id(), |confirmed| confirmed.transfer_id);
    let mut transfer = Transfer {
        transfer_id,
        kind: ask.kind,
        status: TransferStatus::Denied,
        from_wallet_id: Some(ask.from),
        to_wallet_id: Some(ask.to).filter(|to| *to != OUTSIDE),
        currency: ask.currency,
        amount_minor: ask.amount_minor,
        fee_minor,
        transaction_id: None,
        score: score.points,
        policy_version: world.policy.version,
        reasons: score.reasons,
        note: ask.note.clone(),
        created_at: ask.confirmed.as_ref().map_or(now, |confirmed| confirmed.created_at),
        ended_at: None,
        counted_at: None,
    };
    let mut wait = None;
    let mut events = Vec::with_capacity(2);
    let outside = sides.payee.is_none();
    match score.verdict {
        Verdict::Deny => transfer.ended_at = Some(now),
        Verdict::Challenge if ask.confirmed.is_none() => {
            let codes = sides.payer.codes.on(now.day());
            if codes.asked >= Codes::MAX_ASKED || codes.wrong >= Codes::MAX_WRONG {
                return Err(error::too_many_codes());
            }
            if let Some(payer) = world.heads.get_mut(&ask.from) {
                payer.codes = Codes { asked: codes.asked + 1, ..codes };
            }
            transfer.status = TransferStatus::Challenged;
            let until = now.plus_ms(times.challenge_seconds * 1_000);
            wait = Some(Wait {
                waits_for: WaitsFor::Challenge,
                hold_id: None,
                attempts: times.challenge_attempts,
                until,
                device: ask.device,
                country: ask.country,
            });
        }
        verdict => {
            let review = verdict == Verdict::Review;
            let until = now.plus_ms(times.review_seconds * 1_000);
            let request = ledger_request(world, ask, &sides, &transfer, (review || outside).then_some(until))?;
            let (receipt, event) = world.ledger.decide(tx, &request).map_err(error::of_ledger)?;
            events.push(event);
            transfer.transaction_id = Some(receipt.transaction_id);
            transfer.counted_at = Some(now);
            if review {
                transfer.status = TransferStatus::InReview;
                wait = Some(Wait {
                    waits_for: WaitsFor::Review,
                    hold_id: Some(receipt.transaction_id),
                    attempts: 0,
                    until,
                    device: ask.device,
                    country: ask.country,
                });
            } else if outside {
                transfer.status = TransferStatus::Pending;
            } else {
                transfer.status = TransferStatus::Completed;
                transfer.ended_at = Some(now);
            }
            remember(world, ask, &sides, used);
        }
    }
    events.push(event_of(&transfer));
    Ok(Done { transfer, events, wait })
}

/// What the ledger is asked for: a transfer, a transaction with the merchant's fee, or (with `held_until`) a hold of all of it.
fn ledger_request(world: &World, ask: &Ask, sides: &Sides, transfer: &Transfer, held_until: Option<Timestamp>) -> Result<Request> {
    let account = |place: usize| world.purses[place].account_id;
    let debit = account(sides.from);
    let credit = match sides.payee {
        Some((_, to)) => account(to),
        None => world.own(ask.currency)?.bank,
    };
    let request = match held_until {
        Some(until) => {
            // A payout's hold ends when it is known what the bank has done, whenever that is.
            let outside = sides.payee.is_none();
            let until = if outside { world.now.plus_ms(MAX_HOLD_MS) } else { until.plus_ms(HOLD_GRACE_MS) };
            Request::hold(debit, credit, ask.amount_minor, until)
        }
        None if transfer.fee_minor > 0 => {
            let posting = |account_id, side, amount_minor| Posting { account_id, side, amount_minor, currency: None };
            Request::journal(vec![
                posting(debit, Side::Debit, ask.amount_minor),
                posting(credit, Side::Credit, ask.amount_minor - transfer.fee_minor),
                posting(world.own(ask.currency)?.fees, Side::Credit, transfer.fee_minor),
            ])
        }
        None => Request::transfer(debit, credit, ask.amount_minor),
    };
    Ok(request.details(described(transfer.transfer_id)))
}

/// What the ledger writes beside an amount, so that a statement leads to the transfer.
pub(crate) fn described(transfer_id: TransferId) -> Details {
    Details { description: Some(transfer_id.to_string()), ..Details::default() }
}

/// Counts it against the limits, and remembers it on both sides.
fn remember(world: &mut World, ask: &Ask, sides: &Sides, used: Used) {
    let now = world.now;
    let target = if sides.payee.is_some() { short(ask.to.as_i64()) } else { ask.target };
    let payer = &mut world.purses[sides.from];
    payer.used = used.plus(ask.amount_minor);
    payer.activity.sent(now, ask.amount_minor, target, ask.device, ask.country);
    payer.changed = true;
    if let Some((_, to)) = sides.payee {
        let payee = &mut world.purses[to];
        payee.activity.received(now, ask.amount_minor, short(ask.from.as_i64()));
        payee.changed = true;
    }
}

/// Payload of every event about a transfer. Notes stay out: events are kept longer than a person may wish to be known.
#[derive(Serialize)]
struct TransferEvent<'a> {
    transfer_id: TransferId,
    kind: TransferKind,
    status: TransferStatus,
    from_wallet_id: Option<WalletId>,
    to_wallet_id: Option<WalletId>,
    currency: Currency,
    amount_minor: i64,
    fee_minor: i64,
    transaction_id: Option<TransactionId>,
    score: i64,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    reasons: &'a [crate::score::Reason],
}

/// The event that tells where a transfer stands.
pub(crate) fn event_of(transfer: &Transfer) -> NewEvent {
    let kind = match transfer.status {
        TransferStatus::Completed => "wallet.transfer_completed",
        TransferStatus::Challenged => "wallet.transfer_challenged",
        TransferStatus::InReview => "wallet.transfer_in_review",
        TransferStatus::Pending => "wallet.transfer_pending",
        TransferStatus::Denied => "wallet.transfer_denied",
        TransferStatus::Rejected => "wallet.transfer_rejected",
        TransferStatus::Expired => "wallet.transfer_expired",
    };
    let t = transfer;
    let payload = TransferEvent {
        transfer_id: t.transfer_id,
        kind: t.kind,
        status: t.status,
        from_wallet_id: t.from_wallet_id,
        to_wallet_id: t.to_wallet_id,
        currency: t.currency,
        amount_minor: t.amount_minor,
        fee_minor: t.fee_minor,
        transaction_id: t.transaction_id,
        score: t.score,
        reasons: &t.reasons,
    };
    NewEvent::new(kind, 1, t.transfer_id, &payload)
}

/// Decides a set in its order and writes what came of it. The events are the caller's to emit.
fn run(tx: &mut Tx<'_>, asks: &[&Ask]) -> Result<Vec<Result<Done>>> {
    let mut world = World::load(tx, asks)?;
    let mut outcomes = Vec::with_capacity(asks.len());
    for ask in asks {
        outcomes.push(decide(tx, &mut world, ask));
    }
    let World { ledger, purses, heads, .. } = world;
    ledger.write(tx)?;
    write_purses(tx, &purses)?;
    let done = || asks.iter().zip(&outcomes).filter_map(|(ask, outcome)| Some((ask, outcome.as_ref().ok()?)));
    let new: Vec<&Transfer> = done().filter(|(ask, _)| ask.confirmed.is_none()).map(|(_, done)| &done.transfer).collect();
    write_transfers(tx, &new)?;
    for (_, done) in done().filter(|(ask, _)| ask.confirmed.is_some()) {
        update_transfer(tx, &done.transfer)?;
    }
    for (_, done) in done() {
        if let Some(wait) = &done.wait {
            write_wait(tx, &done.transfer, wait)?;
        }
        if let (TransferStatus::Challenged, Some(payer)) = (done.transfer.status, done.transfer.from_wallet_id)
            && let Some(Head { codes, .. }) = heads.get(&payer)
        {
            tx.exec(sql::SET_CODES, (payer, codes.day, codes.asked, codes.wrong))?;
        }
    }
    Ok(outcomes)
}

/// Transfers that are queued together, as a set.
pub(crate) fn transfer_set(tx: &mut Tx<'_>, members: &[Member<'_, Ask>]) -> Result<Vec<Result<Transfer>>> {
    let asks: Vec<&Ask> = members.iter().map(|member| &**member).collect();
    let outcomes = run(tx, &asks)?;
    let told = members.iter().zip(outcomes).map(|(member, outcome)| {
        outcome.map(|done| {
            done.events.into_iter().for_each(|event| tx.emit_for(member, event));
            done.transfer
        })
    });
    Ok(told.collect())
}

/// One transfer within another command. Errors: of the guards; nothing was written then.
pub(crate) fn transfer(tx: &mut Tx<'_>, ask: &Ask) -> Result<Transfer> {
    let outcome = run(tx, &[ask])?.pop();
    let done = outcome.unwrap_or_else(|| Err(Error::internal("a transfer was not decided")))?;
    done.events.into_iter().for_each(|event| tx.emit(event));
    Ok(done.transfer)
}

fn ints<T>(rows: &[T], value: impl Fn(&T) -> i64) -> Value<'static> {
    Value::Ints(rows.iter().map(value).collect())
}

fn texts<T>(rows: &[T], value: impl Fn(&T) -> String) -> Value<'static> {
    Value::Texts(rows.iter().map(value).collect())
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)] as char, DIGITS[usize::from(byte & 0xF)] as char]).collect()
}

fn write_purses(tx: &mut Tx<'_>, purses: &[Purse]) -> Result<()> {
    let mut changed: Vec<&Purse> = purses.iter().filter(|purse| purse.changed).collect();
    if changed.is_empty() {
        return Ok(());
    }
    // In the order of the table, so that neighbours are found where the one before was.
    changed.sort_unstable_by_key(|purse| (purse.wallet_id, purse.currency));
    if tx.engine() == Engine::Sqlite {
        return changed.iter().try_for_each(|p| {
            let used = (p.used.day, p.used.day_minor, p.used.month_minor);
            tx.exec(sql::UPDATE_PURSE, (p.wallet_id, p.currency, used.0, used.1, used.2, p.activity.to_bytes()))
        });
    }
    let args = (
        ints(&changed, |p| p.wallet_id.as_i64()),
        texts(&changed, |p| p.currency.code().to_owned()),
        ints(&changed, |p| p.used.day),
        ints(&changed, |p| p.used.day_minor),
        ints(&changed, |p| p.used.month_minor),
        texts(&changed, |p| hex(&p.activity.to_bytes())),
    );
    tx.exec(sql::UPDATE_PURSE_SET, args)
}

fn reasons_of(transfer: &Transfer) -> Result<String> {
    if transfer.reasons.is_empty() {
        return Ok("[]".to_owned());
    }
    serde_json::to_string(&transfer.reasons).map_err(|e| Error::internal("reasons don't serialise").caused_by(e))
}

/// 0 for none.
fn number<E>(id: Option<kernel::Id<E>>) -> i64 {
    id.map_or(0, kernel::Id::as_i64)
}

fn micros(at: Option<Timestamp>) -> i64 {
    at.map_or(0, Timestamp::micros)
}

/// Writes new transfers.
pub(crate) fn write_transfers(tx: &mut Tx<'_>, rows: &[&Transfer]) -> Result<()> {
    if rows.len() < 2 || tx.engine() == Engine::Sqlite {
        return rows.iter().try_for_each(|t| {
            let sides = (number(t.from_wallet_id), number(t.to_wallet_id));
            let reasons = reasons_of(t)?;
            let row = (t.transfer_id, t.kind, t.status, sides.0, sides.1, t.currency, t.amount_minor, t.fee_minor);
            let times = (t.created_at, micros(t.ended_at), micros(t.counted_at));
            tx.exec(
                sql::INSERT_TRANSFER,
                (
                    row.0,
                    row.1,
                    row.2,
                    row.3,
                    row.4,
                    row.5,
                    row.6,
                    row.7,
                    number(t.transaction_id),
                    t.score,
                    t.policy_version,
                    reasons,
                    &t.note,
                    times.0,
                    times.1,
                    times.2,
                ),
            )
        });
    }
    let reasons = rows.iter().map(|t| reasons_of(t)).collect::<Result<Vec<String>>>()?;
    let args = (
        ints(rows, |t| t.transfer_id.as_i64()),
        texts(rows, |t| t.kind.as_str().to_owned()),
        texts(rows, |t| t.status.as_str().to_owned()),
        ints(rows, |t| number(t.from_wallet_id)),
        ints(rows, |t| number(t.to_wallet_id)),
        texts(rows, |t| t.currency.code().to_owned()),
        ints(rows, |t| t.amount_minor),
        ints(rows, |t| t.fee_minor),
        ints(rows, |t| number(t.transaction_id)),
        ints(rows, |t| t.score),
        ints(rows, |t| t.policy_version),
        Value::Texts(reasons),
        texts(rows, |t| t.note.clone()),
        ints(rows, |t| t.created_at.micros()),
        ints(rows, |t| micros(t.ended_at)),
        ints(rows, |t| micros(t.counted_at)),
    );
    tx.exec(sql::INSERT_TRANSFER_SET, args)
}

/// Writes what a waiting transfer has become.
pub(crate) fn update_transfer(tx: &mut Tx<'_>, t: &Transfer) -> Result<()> {
    let judged = (t.score, t.policy_version, reasons_of(t)?);
    let ids = (t.transfer_id, t.status, number(t.transaction_id), t.fee_minor);
    let args = (ids.0, ids.1, ids.2, ids.3, judged.0, judged.1, judged.2, micros(t.ended_at), micros(t.counted_at), t.amount_minor);
    tx.must(sql::UPDATE_TRANSFER, args, || Error::internal("a transfer that had come to its end was changed"))
}

fn write_wait(tx: &mut Tx<'_>, transfer: &Transfer, wait: &Wait) -> Result<()> {
    let country = std::str::from_utf8(&wait.country).unwrap_or_default().trim_matches('\0');
    let now = tx.now();
    let args = (transfer.transfer_id, wait.waits_for, wait.hold_id, wait.attempts, i64::from(wait.device), country, now, wait.until);
    tx.exec(sql::INSERT_PENDING, args)?;
    workflows::expire_at(tx, wait.waits_for.as_str(), transfer.transfer_id, wait.until)
}
