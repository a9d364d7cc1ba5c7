//! Scheduled transfers: once, or each day, week or month.
//!
//! A schedule is a saga that sleeps until its next date. A date on which the transfer is refused (no funds, a limit, the score) moves
//! nothing and is not made up for; `wallet.schedule_run_refused` tells why, and three of them in a row end the schedule. Dates that
//! passed while nothing ran at all are one run. A transfer that has to be confirmed or reviewed counts as a run.

use crate::model::*;
use crate::moves::{self, Ask, Reach};
use crate::{error, queries, sql, workflows};
use kernel::{Currency, Error, ErrorKind, Result, Timestamp};
use serde::{Deserialize, Serialize};
use store::{FromRow, NewEvent, Read, Row, Tx};
use utoipa::ToSchema;
use workflow::{Next, Prepared, Saga, Status};

/// So many refused runs in a row end a schedule.
const MAX_FAILURES: i64 = 3;

/// A schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = WalletSchedule)]
pub struct Schedule {
    /// Its id.
    pub schedule_id: ScheduleId,
    /// Who pays.
    pub from_wallet_id: WalletId,
    /// Who is paid.
    pub to_wallet_id: WalletId,
    /// The currency.
    pub currency: Currency,
    /// In minor units, each time.
    pub amount_minor: i64,
    /// For people.
    pub note: String,
    /// How often.
    pub every: Every,
    /// Where it stands.
    pub status: ScheduleStatus,
    /// The first date.
    pub first_at: Timestamp,
    /// How many dates have passed.
    pub runs: i64,
    /// How many of them made a transfer.
    pub done: i64,
    /// How many in a row did not.
    pub failures: i64,
    /// Why the last one did not; empty when it did.
    pub last_code: String,
    /// The next date; null when there is none.
    pub next_at: Option<Timestamp>,
    /// No date after this.
    pub until_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
}

impl FromRow for Schedule {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(Schedule {
            schedule_id: row.get(0)?,
            from_wallet_id: row.get(1)?,
            to_wallet_id: row.get(2)?,
            currency: row.get(3)?,
            amount_minor: row.get(4)?,
            note: row.get(5)?,
            every: row.get(6)?,
            status: row.get(7)?,
            first_at: row.get(8)?,
            runs: row.get(9)?,
            done: row.get(10)?,
            failures: row.get(11)?,
            last_code: row.get(12)?,
            next_at: row.get(13)?,
            until_at: row.get(14)?,
            created_at: row.get(15)?,
        })
    }
}

fn emit(tx: &mut Tx<'_>, kind: &'static str, schedule: &Schedule) {
    let s = schedule;
    let payload = serde_json::json!({
        "schedule_id": s.schedule_id, "from_wallet_id": s.from_wallet_id, "to_wallet_id": s.to_wallet_id, "currency": s.currency,
        "amount_minor": s.amount_minor, "status": s.status, "runs": s.runs, "failures": s.failures, "code": s.last_code, "next_at": s.next_at,
    });
    tx.emit(NewEvent::new(kind, 1, s.schedule_id, &payload));
}

/// A schedule to be made.
#[derive(Clone, Debug)]
pub(crate) struct NewSchedule {
    pub reach: Reach,
    pub from: WalletId,
    pub to: WalletId,
    pub currency: Currency,
    pub amount_minor: i64,
    pub note: String,
    pub every: Every,
    pub first_at: Timestamp,
    pub until_at: Option<Timestamp>,
}

/// Errors: `wallets.wallet_not_found`, `wallets.payee_not_found`, `wallets.same_wallet`, `wallets.no_currency`, `wallets.closed`,
/// `request.invalid` for a first date that has passed.
pub(crate) fn create(tx: &mut Tx<'_>, new: &NewSchedule) -> Result<Schedule> {
    let now = tx.now();
    let payer = queries::wallet(tx, new.from, new.reach)?;
    let payee = queries::wallet(tx, new.to, Reach::All).map_err(|_| error::payee_not_found())?;
    if new.from == new.to {
        return Err(error::same_wallet());
    }
    if [&payer, &payee].iter().any(|wallet| wallet.status == WalletStatus::Closed) {
        return Err(error::closed());
    }
    queries::account(tx, new.from, new.currency)?;
    queries::account(tx, new.to, new.currency)?;
    if new.first_at < now || new.first_at > now.plus_ms(3_660 * 86_400_000) {
        return Err(Error::field("first_at", "out_of_range", "between now and ten years from now"));
    }
    if new.until_at.is_some_and(|until| until < new.first_at) {
        return Err(Error::field("until_at", "out_of_range", "not before first_at"));
    }
    let schedule = Schedule {
        schedule_id: tx.new_id(),
        from_wallet_id: new.from,
        to_wallet_id: new.to,
        currency: new.currency,
        amount_minor: new.amount_minor,
        note: new.note.clone(),
        every: new.every,
        status: ScheduleStatus::Active,
        first_at: new.first_at,
        runs: 0,
        done: 0,
        failures: 0,
        last_code: String::new(),
        next_at: Some(new.first_at),
        until_at: new.until_at,
        created_at: now,
    };
    let s = &schedule;
    let what = (s.schedule_id, s.from_wallet_id, s.to_wallet_id, s.currency, s.amount_minor, &s.note);
    tx.exec(sql::INSERT_SCHEDULE, (what.0, what.1, what.2, what.3, what.4, what.5, s.every, s.first_at, s.until_at, now))?;
    workflow::start_at(tx, workflows::SCHEDULE, &s.schedule_id.to_string(), &s.schedule_id, s.first_at)?;
    emit(tx, "wallet.schedule_made", s);
    Ok(schedule)
}

/// A schedule of a payer that the caller may use. Errors: `wallets.schedule_not_found`.
pub(crate) fn find(read: &mut Read<'_>, schedule_id: ScheduleId, reach: Reach) -> Result<Schedule> {
    let schedule: Schedule = read.opt(sql::SCHEDULE, (schedule_id,))?.ok_or_else(error::schedule_not_found)?;
    if reach != Reach::All {
        queries::wallet(read, schedule.from_wallet_id, reach).map_err(|_| error::schedule_not_found())?;
    }
    Ok(schedule)
}

/// A payer's schedules, the latest first. Errors: `wallets.wallet_not_found`.
pub(crate) fn list(read: &mut Read<'_>, wallet: (WalletId, Reach), before: i64, limit: i64) -> Result<Vec<Schedule>> {
    queries::wallet(read, wallet.0, wallet.1)?;
    read.all(sql::SCHEDULES_PAGE, (wallet.0, before, limit))
}

fn save(tx: &mut Tx<'_>, s: &Schedule) -> Result<()> {
    let args = (s.schedule_id, s.status, s.runs, s.done, s.failures, &s.last_code, s.next_at);
    tx.must(sql::UPDATE_SCHEDULE, args, || error::not_open("schedule"))
}

/// Calls a schedule off; its saga finds that when it wakes. Errors: `wallets.schedule_not_found`, `wallets.not_open`.
pub(crate) fn cancel(tx: &mut Tx<'_>, (schedule_id, reach): &(ScheduleId, Reach)) -> Result<Schedule> {
    let mut schedule = find(tx, *schedule_id, *reach)?;
    if schedule.status != ScheduleStatus::Active {
        return Err(error::not_open("schedule"));
    }
    call_off(tx, &mut schedule)?;
    workflow::cancel(tx, workflows::SCHEDULE, &schedule_id.to_string())?;
    Ok(schedule)
}

fn call_off(tx: &mut Tx<'_>, schedule: &mut Schedule) -> Result<()> {
    (schedule.status, schedule.next_at) = (ScheduleStatus::Cancelled, None);
    save(tx, schedule)?;
    emit(tx, "wallet.schedule_ended", schedule);
    Ok(())
}

/// A schedule whose saga was cancelled will not run again: it is called off with it.
pub(crate) fn saga_ended(tx: &mut Tx<'_>, saga: &Saga, status: Status, _: &str) -> Result<()> {
    let mut schedule = find(tx, saga.state()?, Reach::All)?;
    if status == Status::Done || schedule.status != ScheduleStatus::Active {
        return Ok(());
    }
    call_off(tx, &mut schedule)
}

/// A date has come.
pub(crate) fn run(tx: &mut Tx<'_>, saga: &mut Saga) -> Result<Prepared> {
    let schedule_id: ScheduleId = saga.state()?;
    let mut schedule = find(tx, schedule_id, Reach::All)?;
    let now = tx.now();
    let (ScheduleStatus::Active, Some(due)) = (schedule.status, schedule.next_at) else { return Ok(Prepared::Next(Next::Finish)) };
    if due > now {
        return Ok(Prepared::Next(Next::StepAt("run", due)));
    }
    let refused = match transfer(tx, &schedule) {
        Ok(transfer) if transfer.status == TransferStatus::Denied => Some("wallets.denied"),
        Ok(_) => None,
        Err(error) if matches!(error.kind(), ErrorKind::FailedPrecondition | ErrorKind::NotFound | ErrorKind::Invalid) => {
            Some(error.code())
        }
        Err(error) => return Err(error),
    };
    schedule.last_code = refused.unwrap_or_default().to_owned();
    match refused {
        None => (schedule.done, schedule.failures) = (schedule.done + 1, 0),
        Some(_) => schedule.failures += 1,
    }
    // The next date that is still to come: what was missed meanwhile was this run.
    schedule.runs += 1;
    let (first, every) = (schedule.first_at, schedule.every);
    while every != Every::Once && date_of(first, every, schedule.runs) <= now {
        schedule.runs += 1;
    }
    let at = date_of(first, every, schedule.runs);
    let last = every == Every::Once || schedule.until_at.is_some_and(|until| at > until);
    schedule.next_at = (!last && schedule.failures < MAX_FAILURES).then_some(at);
    if schedule.next_at.is_none() {
        let failed = schedule.failures >= MAX_FAILURES || (every == Every::Once && refused.is_some());
        schedule.status = if failed { ScheduleStatus::Failed } else { ScheduleStatus::Ended };
    }
    save(tx, &schedule)?;
    emit(tx, if refused.is_some() { "wallet.schedule_run_refused" } else { "wallet.schedule_run_done" }, &schedule);
    if schedule.next_at.is_none() {
        emit(tx, "wallet.schedule_ended", &schedule);
    }
    Ok(Prepared::Next(schedule.next_at.map_or(Next::Finish, |at| Next::StepAt("run", at))))
}

fn transfer(tx: &mut Tx<'_>, schedule: &Schedule) -> Result<Transfer> {
    let payee = queries::wallet(tx, schedule.to_wallet_id, Reach::All)?;
    let ask = Ask {
        wallets: None,
        reach: Reach::All,
        kind: if payee.kind == WalletKind::Merchant { TransferKind::Payment } else { TransferKind::Transfer },
        from: schedule.from_wallet_id,
        to: schedule.to_wallet_id,
        amount_minor: schedule.amount_minor,
        currency: schedule.currency,
        note: schedule.note.clone(),
        device: 0,
        country: [0, 0],
        target: 0,
        confirmed: None,
    };
    moves::transfer(tx, &ask)
}
