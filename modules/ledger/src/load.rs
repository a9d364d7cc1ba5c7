//! Loading whatever a batch touches, once for the whole batch: each read is one statement, however many rows it finds.

use crate::books::{self, Books};
use crate::engine::{AccountState, HoldState, Known, Leg, LimitState, Moving, Original, Used, View};
use crate::model::*;
use crate::sql;
use kernel::{Currency, Result, Timestamp};
use smallvec::SmallVec;
use std::collections::HashMap;
use store::{FromValue as _, Read, Row, Tx};

/// What requests name.
#[derive(Default)]
struct Named {
    keys: Vec<i64>,
    refs: Vec<String>,
    holds: Vec<i64>,
    originals: Vec<i64>,
    accounts: Vec<i64>,
    exchanges: bool,
}

impl Named {
    fn of<'a>(requests: impl Iterator<Item = &'a Request>) -> Named {
        let mut named = Named::default();
        for request in requests {
            named.keys.extend(request.key.map(|key| key.hash.0));
            named.refs.extend(request.details.as_deref().and_then(|d| d.external_ref.clone()));
            match &request.operation {
                Operation::Transfer { debit, credit, .. } | Operation::Hold { debit, credit, .. } => {
                    named.accounts.extend([debit.as_i64(), credit.as_i64()]);
                }
                // Too many postings are refused by their number: their accounts need not be known.
                Operation::Journal { postings } => {
                    named.accounts.extend(postings.iter().take(MAX_POSTINGS).map(|p| p.account_id.as_i64()));
                }
                Operation::Exchange { from, to, .. } => {
                    named.exchanges = true;
                    named.accounts.extend([from.as_i64(), to.as_i64()]);
                }
                Operation::Capture { hold_id, .. } | Operation::Void { hold_id } => named.holds.push(hold_id.as_i64()),
                Operation::Reverse { transaction_id, .. } => named.originals.push(transaction_id.as_i64()),
            }
        }
        named
    }
}

/// Everything that the requests touch, and what the lane remembers of the tenant: to be given to [`crate::write::view`].
pub(crate) fn view<'a>(read: &mut Tx<'_>, requests: impl Iterator<Item = &'a Request> + Clone) -> Result<(View, Books)> {
    let mut view = View::new(read.now());
    let mut books = books::take(read)?;
    let named = Named::of(requests.clone());
    if !named.keys.is_empty() {
        keys(read, &mut view, named.keys)?;
    }
    if !named.refs.is_empty() {
        view.refs = read.all(sql::REFS, (named.refs,))?.into_iter().collect();
    }
    let holds = if named.holds.is_empty() { Vec::new() } else { hold_rows(read, sql::HOLDS, named.holds)? };
    let originals = if named.originals.is_empty() { Vec::new() } else { original_rows(read, named.originals)? };
    let mut ids = named.accounts;
    ids.extend(holds.iter().flat_map(|hold| [hold.debit, hold.credit]));
    ids.extend(originals.iter().flat_map(|original| original.legs.iter().map(|leg| leg.0)));
    accounts(read, &mut books, &mut view, ids)?;
    place_holds(&mut view, &holds);
    place_originals(&mut view, originals);
    if named.exchanges {
        conversion_accounts(read, &mut books, &mut view, requests)?;
    }
    bound(read, &mut view)?;
    Ok((view, books))
}

/// These accounts alone, for requests that name nothing else.
pub(crate) fn view_of_accounts(read: &mut Tx<'_>, ids: Vec<i64>) -> Result<(View, Books)> {
    let mut view = View::new(read.now());
    let mut books = books::take(read)?;
    accounts(read, &mut books, &mut view, ids)?;
    bound(read, &mut view)?;
    Ok((view, books))
}

/// Holds whose time is over, at most `limit` of them, the oldest first, with their accounts; and how many they are.
pub(crate) fn due_holds(read: &mut Tx<'_>, limit: i64) -> Result<(View, Books, Vec<TransactionId>)> {
    let mut view = View::new(read.now());
    let mut books = books::take(read)?;
    let now = read.now();
    let mut rows = Vec::new();
    read.each(sql::DUE_HOLDS, (now, limit), |row| {
        rows.push(HoldRow::read(row)?);
        Ok(())
    })?;
    accounts(read, &mut books, &mut view, rows.iter().flat_map(|hold| [hold.debit, hold.credit]).collect())?;
    place_holds(&mut view, &rows);
    Ok((view, books, rows.into_iter().map(|row| row.hold_id).collect()))
}

fn keys(read: &mut Read<'_>, view: &mut View, mut high: Vec<i64>) -> Result<()> {
    high.sort_unstable();
    high.dedup();
    read.each(sql::KEYS, (high,), |row| {
        let known = Known { fingerprint: (row.get(2)?, row.get(3)?), transaction_id: row.get(4)?, recorded_at: row.get(5)? };
        view.keys.insert((row.get(0)?, row.get(1)?), known);
        Ok(())
    })
}

struct HoldRow {
    hold_id: TransactionId,
    debit: i64,
    credit: i64,
    state: HoldState,
}

impl HoldRow {
    fn read(row: &dyn Row) -> Result<HoldRow> {
        let state = HoldState {
            debit: 0,
            credit: 0,
            amount_minor: row.get(3)?,
            captured_minor: row.get(4)?,
            remaining_minor: row.get(5)?,
            status: row.get(6)?,
            expires_at: row.get(7)?,
            changed: false,
        };
        Ok(HoldRow { hold_id: row.get(0)?, debit: row.get(1)?, credit: row.get(2)?, state })
    }
}

fn hold_rows(read: &mut Read<'_>, statement: store::Sql, mut ids: Vec<i64>) -> Result<Vec<HoldRow>> {
    ids.sort_unstable();
    ids.dedup();
    let mut rows = Vec::new();
    read.each(statement, (ids,), |row| {
        rows.push(HoldRow::read(row)?);
        Ok(())
    })?;
    Ok(rows)
}

fn place(view: &View, account: i64) -> Option<u32> {
    view.by_id.get(&AccountId::from_i64(account)).copied()
}

fn place_holds(view: &mut View, rows: &[HoldRow]) {
    for row in rows {
        // Accounts are never removed, so both are there.
        if let (Some(debit), Some(credit)) = (place(view, row.debit), place(view, row.credit)) {
            view.holds.insert(row.hold_id, HoldState { debit, credit, ..row.state });
        }
    }
}

struct OriginalRow {
    transaction_id: TransactionId,
    kind: TransactionKind,
    several: bool,
    reversed_minor: i64,
    /// Account, side, amount.
    legs: SmallVec<[(i64, Side, i64); 2]>,
}

fn original_rows(read: &mut Read<'_>, mut ids: Vec<i64>) -> Result<Vec<OriginalRow>> {
    ids.sort_unstable();
    ids.dedup();
    let mut rows: Vec<OriginalRow> = Vec::new();
    read.each(sql::ORIGINALS, (ids,), |row| {
        let (debit, credit, amount_minor): (i64, i64, i64) = (row.get(2)?, row.get(3)?, row.get(4)?);
        let several = debit == 0;
        let mut legs = SmallVec::new();
        if !several {
            legs.extend([(debit, Side::Debit, amount_minor), (credit, Side::Credit, amount_minor)]);
        }
        rows.push(OriginalRow { transaction_id: row.get(0)?, kind: row.get(1)?, several, reversed_minor: row.get(5)?, legs });
        Ok(())
    })?;
    let several: Vec<i64> = rows.iter().filter(|row| row.several).map(|row| row.transaction_id.as_i64()).collect();
    if !several.is_empty() {
        let places: HashMap<i64, usize> = rows.iter().enumerate().map(|(index, row)| (row.transaction_id.as_i64(), index)).collect();
        read.each(sql::POSTINGS, (several,), |row| {
            let signed: i64 = row.get(2)?;
            if let Some(index) = places.get(&row.get::<i64>(0)?) {
                let side = if signed > 0 { Side::Debit } else { Side::Credit };
                rows[*index].legs.push((row.get(1)?, side, signed.abs()));
            }
            Ok(())
        })?;
    }
    Ok(rows)
}

fn place_originals(view: &mut View, rows: Vec<OriginalRow>) {
    for row in rows {
        let leg = |(account, side, amount_minor): &(i64, Side, i64)| {
            Some(Leg { account: place(view, *account)?, side: *side, amount_minor: *amount_minor })
        };
        let legs = row.legs.iter().filter_map(leg).collect();
        let original = Original { kind: row.kind, legs, several: row.several, reversed_minor: row.reversed_minor, changed: false };
        view.originals.insert(row.transaction_id, original);
    }
}

/// Adds those accounts that exist and that the view does not have yet. Their limits come with [`bound`].
fn accounts(tx: &mut Tx<'_>, books: &mut Books, view: &mut View, mut ids: Vec<i64>) -> Result<()> {
    ids.sort_unstable();
    ids.dedup();
    view.accounts.reserve(ids.len());
    view.by_id.reserve(ids.len());
    ids.retain(|id| {
        let id = AccountId::from_i64(*id);
        if view.by_id.contains_key(&id) {
            return false;
        }
        match books.account(id) {
            Some(known) => {
                view.add(known.clone());
                false
            }
            None => true,
        }
    });
    if ids.is_empty() {
        return Ok(());
    }
    let mut states = Vec::with_capacity(ids.len());
    if account_states(tx, &ids, &mut states)? && !books.has_tail() {
        // Somebody before has left a tail that this lane does not remember.
        books::recount(tx)?;
        states.clear();
        account_states(tx, &ids, &mut states)?;
    }
    for state in states {
        books.learn(&state);
        view.add(state);
    }
    Ok(())
}

/// The accounts with these ids, as they are stored. Whether there are transactions that are in no balance yet.
fn account_states(read: &mut Read<'_>, ids: &[i64], states: &mut Vec<AccountState>) -> Result<bool> {
    let mut tail = false;
    // Most accounts of a batch share a currency: what was parsed last is kept.
    let mut last: Option<([u8; 3], Currency)> = None;
    read.each(sql::ACCOUNT_STATES, (ids.to_vec(),), |row| {
        tail |= row.get::<Option<i64>>(15)?.is_some();
        let currency = match (row.value(2)?, &last) {
            (store::ValueRef::Text(text), Some((code, currency))) if text.as_bytes() == code => *currency,
            (value, _) => {
                let currency = Currency::from_value(value)?;
                last = <[u8; 3]>::try_from(currency.code().as_bytes()).ok().map(|code| (code, currency));
                currency
            }
        };
        let may_go_negative: bool = row.get(4)?;
        let limit: Option<i64> = row.get(5)?;
        let state = AccountState {
            id: row.get(0)?,
            account_type: row.get(1)?,
            currency,
            status: row.get(3)?,
            floor: if may_go_negative { limit } else { Some(0) },
            managed: row.get(16)?,
            expired: (0, 0),
            // A place that no limit has says that there are some to be looked for.
            limits: if row.get::<bool>(6)? { smallvec::smallvec![u32::MAX] } else { SmallVec::new() },
            moving: Moving {
                sums: Sums {
                    debits_posted: row.get(7)?,
                    credits_posted: row.get(8)?,
                    debits_pending: row.get(9)?,
                    credits_pending: row.get(10)?,
                },
                entries: row.get(11)?,
                last_transaction: row.get(12)?,
                last_recorded: row.get(13)?,
                next_expiry: row.get(14)?,
                changed: false,
            },
        };
        states.push(state);
        Ok(())
    })?;
    Ok(tail)
}

/// The accounts `conversion:<currency>` of the currencies between which is exchanged.
fn conversion_accounts<'a>(
    read: &mut Tx<'_>,
    books: &mut Books,
    view: &mut View,
    requests: impl Iterator<Item = &'a Request>,
) -> Result<()> {
    let mut currencies: Vec<Currency> = requests
        .filter_map(|request| if let Operation::Exchange { from, to, .. } = &request.operation { Some([*from, *to]) } else { None })
        .flatten()
        .filter_map(|id| view.by_id.get(&id).map(|place| view.accounts[*place as usize].currency))
        .collect();
    currencies.sort_unstable();
    currencies.dedup();
    let codes: Vec<String> = currencies.iter().map(|currency| conversion_code(*currency)).collect();
    let found: HashMap<String, i64> = read.all::<(String, i64)>(sql::ACCOUNT_IDS_BY_CODE, (codes,))?.into_iter().collect();
    accounts(read, books, view, found.values().copied().collect())?;
    for currency in currencies {
        let account = found.get(&conversion_code(currency)).and_then(|id| place(view, *id));
        // An account of that name in another currency converts nothing.
        if let Some(account) = account.filter(|account| view.accounts[*account as usize].currency == currency) {
            view.conversion.insert(currency, account);
        }
    }
    Ok(())
}

/// The code of the account through which a currency is exchanged.
pub(crate) fn conversion_code(currency: Currency) -> String {
    format!("conversion:{currency}")
}

/// What binds the accounts besides their balance: expired holds that were not released yet, and velocity limits.
fn bound(read: &mut Read<'_>, view: &mut View) -> Result<()> {
    let now = view.now;
    for account in view.accounts.iter_mut().filter(|a| a.moving.next_expiry.is_some_and(|at| at <= a.moving.time(now).micros())) {
        let now = account.moving.time(now);
        account.expired = expired(read, account.id, now)?;
        if account.expired == (0, 0) {
            account.moving.next_expiry = next_expiry(read, account.id, now)?;
        }
    }
    let limited: Vec<AccountId> = view.accounts.iter().filter(|a| !a.limits.is_empty()).map(|a| a.id).collect();
    if limited.is_empty() {
        return Ok(());
    }
    let ids: Vec<i64> = limited.iter().map(|id| id.as_i64()).collect();
    let owners: HashMap<AccountId, Option<String>> = read.all(sql::OWNERS, (ids,))?.into_iter().collect();
    let mut places: HashMap<(LimitSubject, String, Currency), u32> = HashMap::new();
    let mut owned: Vec<String> = owners.values().flatten().cloned().collect();
    owned.sort_unstable();
    owned.dedup();
    let accounts = limited.iter().map(|id| id.as_i64().to_string()).collect();
    for (subject, names) in [(LimitSubject::Account, accounts), (LimitSubject::Owner, owned)] {
        limits_of(read, view, &mut places, subject, names)?;
    }
    for id in limited {
        let Some(account) = place(view, id.as_i64()) else { continue };
        let currency = view.accounts[account as usize].currency;
        let of = |subject, name: String| places.get(&(subject, name, currency)).copied();
        let own = of(LimitSubject::Account, id.as_i64().to_string());
        let owner = owners.get(&id).cloned().flatten().and_then(|owner| of(LimitSubject::Owner, owner));
        view.accounts[account as usize].limits = own.into_iter().chain(owner).collect();
    }
    Ok(())
}

/// Debits and credits of an account's open holds whose time is over.
pub(crate) fn expired(read: &mut Read<'_>, account_id: AccountId, now: Timestamp) -> Result<(i64, i64)> {
    let (debits,): (i64,) = read.one(sql::EXPIRED_DEBITS, (account_id, now))?;
    let (credits,): (i64,) = read.one(sql::EXPIRED_CREDITS, (account_id, now))?;
    Ok((debits, credits))
}

/// When the next open hold of an account expires, in microseconds.
pub(crate) fn next_expiry(read: &mut Read<'_>, account_id: AccountId, now: Timestamp) -> Result<Option<i64>> {
    let debit: Option<(i64,)> = read.opt(sql::NEXT_EXPIRY_DEBIT, (account_id, now))?;
    let credit: Option<(i64,)> = read.opt(sql::NEXT_EXPIRY_CREDIT, (account_id, now))?;
    Ok(debit.into_iter().chain(credit).map(|(at,)| at).min())
}

fn limits_of(
    read: &mut Read<'_>,
    view: &mut View,
    places: &mut HashMap<(LimitSubject, String, Currency), u32>,
    subject: LimitSubject,
    names: Vec<String>,
) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    read.each(sql::LIMITS_OF, (subject, names.clone()), |row| {
        let limit = Limit { per_transaction_minor: row.get(2)?, per_day_minor: row.get(3)?, per_month_minor: row.get(4)? };
        let (name, currency): (String, Currency) = (row.get(0)?, row.get(1)?);
        places.insert((subject, name.clone(), currency), view.limits.len() as u32);
        view.limits.push(LimitState { subject, name, currency, limit, used: Used::default() });
        Ok(())
    })?;
    let today = view.now.day();
    let (first, next) = month_of(today);
    read.each(sql::USAGE_OF, (subject, names, first, next), |row| {
        let key = (subject, row.get::<String>(0)?, row.get::<Currency>(1)?);
        if let Some(place) = places.get(&key) {
            let used = &mut view.limits[*place as usize].used;
            let minor: i64 = row.get(3)?;
            used.month = used.month.saturating_add(minor);
            if row.get::<i64>(2)? == today {
                used.today = minor;
            }
        }
        Ok(())
    })
}
