//! What happens later or outside: expiries, scheduled transfers, payouts.

use crate::commands;
use crate::model::*;
use crate::moves::Reach;
use crate::service::{PayoutOrder, Wallets};
use crate::{queries, requests, schedules, sql};
use futures_util::future::BoxFuture;
use kernel::{Error, Id, Result, Timestamp};
use log::Backoff;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{NewEvent, Tx};
use workflow::{Action, Heard, Kind, Next, Outcome, Prepared, Request, Saga, Status, Step, Workflow};

/// Ends what nobody confirmed, decided or answered in time; its business key is what it is and its number.
pub const EXPIRE: Kind = Kind { name: "wallets.expire", version: 1 };
/// Runs a schedule at its dates; its business key is the schedule's id.
pub const SCHEDULE: Kind = Kind { name: "wallets.schedule", version: 1 };
/// Pays a withdrawal out; its business key is the transfer's id.
pub const PAYOUT: Kind = Kind { name: "wallets.payout", version: 1 };

/// How long it may stay unknown what became of a payout, in milliseconds. Then a person has to look.
pub(crate) const PAYOUT_DEADLINE_MS: i64 = 3 * 86_400_000;

pub(crate) fn workflows() -> Vec<Workflow> {
    let pay = Action::outside(prepare_payout, pay, paid).ask(ask).deadline_ms(PAYOUT_DEADLINE_MS).backoff(Backoff {
        base_ms: 1_000,
        cap_ms: 600_000,
        max_attempts: 10,
    });
    vec![
        Workflow::job(EXPIRE, Action::sql(expire)).on_end(expiry_ended),
        Workflow::new(SCHEDULE).version(1, vec![Step::new("run", Action::sql(schedules::run))]).on_end(schedules::saga_ended),
        Workflow::new(PAYOUT).version(1, vec![Step::new("pay", pay)]).on_park(in_doubt).on_end(payout_ended),
    ]
}

#[derive(Serialize, Deserialize)]
struct Expiring {
    what: String,
    id: i64,
}

/// Looks at something again when its time is over.
pub(crate) fn expire_at<E>(tx: &mut Tx<'_>, what: &str, id: Id<E>, at: Timestamp) -> Result<()> {
    let id = id.as_i64();
    workflow::start_at(tx, EXPIRE, &format!("{what}:{id}"), &Expiring { what: what.to_owned(), id }, at)
}

fn expire(tx: &mut Tx<'_>, saga: &mut Saga) -> Result<Prepared> {
    // A clock that has stepped back: its time is still to come.
    if let Some(at) = waits_until(tx, saga)?.filter(|at| *at > tx.now()) {
        return Ok(Prepared::Next(Next::StepAt("run", at)));
    }
    end_waiting(tx, saga, "nobody did anything in time")?;
    Ok(Prepared::Done(Value::Null))
}

/// Until when what the saga is to end waits; none when it waits no more.
fn waits_until(tx: &mut Tx<'_>, saga: &Saga) -> Result<Option<Timestamp>> {
    let Expiring { what, id } = saga.state()?;
    if what == "request" {
        return requests::open_until(tx, Id::from_i64(id));
    }
    // A challenge that was confirmed may wait for a review now, which has an expiry of its own.
    let pending = queries::pending(tx, TransferId::from_i64(id))?;
    Ok(pending.filter(|pending| pending.is_open && pending.waits_for.as_str() == what).map(|pending| pending.expires_at))
}

/// Ends what still waits.
fn end_waiting(tx: &mut Tx<'_>, saga: &Saga, reason: &str) -> Result<()> {
    if waits_until(tx, saga)?.is_none() {
        return Ok(());
    }
    let Expiring { what, id } = saga.state()?;
    if what == "request" {
        return requests::expire(tx, Id::from_i64(id));
    }
    let mut transfer = queries::transfer(tx, TransferId::from_i64(id), Reach::All)?;
    commands::end(tx, &mut transfer, TransferStatus::Expired, None, reason)
}

/// Nothing waits for an expiry that never comes: what an expiry that was cancelled would have ended is ended with it.
fn expiry_ended(tx: &mut Tx<'_>, saga: &Saga, status: Status, _: &str) -> Result<()> {
    if status == Status::Done { Ok(()) } else { end_waiting(tx, saga, "its expiry was cancelled") }
}

/// Begins to ask the bank.
pub(crate) fn begin_payout(tx: &mut Tx<'_>, transfer_id: TransferId) -> Result<()> {
    workflow::start(tx, PAYOUT, &transfer_id.to_string(), &transfer_id)
}

fn prepare_payout(tx: &mut Tx<'_>, saga: &mut Saga) -> Result<Prepared> {
    let transfer_id: TransferId = saga.state()?;
    let transfer = queries::transfer(tx, transfer_id, Reach::All)?;
    if transfer.status != TransferStatus::Pending {
        return Ok(Prepared::Next(Next::Finish));
    }
    let payout = queries::payout(tx, transfer_id)?.ok_or_else(|| Error::internal("a withdrawal goes nowhere"))?;
    let order = PayoutOrder {
        reference: transfer_id.to_string(),
        iban: payout.iban,
        holder: payout.holder,
        amount_minor: transfer.amount_minor,
        currency: transfer.currency,
    };
    let body = serde_json::to_value(&order).map_err(|e| Error::internal("a payout does not serialise").caused_by(e))?;
    Ok(Prepared::Call { key: order.reference, body })
}

fn order(request: &Request) -> std::result::Result<(PayoutOrder, Wallets), String> {
    Ok((request.body().map_err(|error| error.to_string())?, request.part::<Wallets>().clone()))
}

fn pay(request: Request) -> BoxFuture<'static, Outcome> {
    Box::pin(async move {
        match order(&request) {
            Ok((order, wallets)) => match wallets.bank() {
                Ok(bank) => bank.pay(order).await,
                Err(error) => Outcome::NotDone(error.to_string()),
            },
            Err(why) => Outcome::NotDone(why),
        }
    })
}

fn ask(request: Request) -> BoxFuture<'static, Outcome> {
    Box::pin(async move {
        match order(&request) {
            Ok((order, wallets)) => match wallets.bank() {
                Ok(bank) => bank.ask(order).await,
                Err(error) => Outcome::Unknown(error.to_string()),
            },
            Err(why) => Outcome::Unknown(why),
        }
    })
}

fn paid(tx: &mut Tx<'_>, saga: &mut Saga, heard: Heard) -> Result<Next> {
    let transfer_id: TransferId = saga.state()?;
    let mut transfer = queries::transfer(tx, transfer_id, Reach::All)?;
    if transfer.status != TransferStatus::Pending {
        return Ok(Next::Finish);
    }
    match heard {
        Heard::Done(said) => {
            let hold_id = transfer.transaction_id.ok_or_else(|| Error::internal("a withdrawal holds nothing"))?;
            commands::capture(tx, &mut transfer, hold_id)?;
            crate::moves::update_transfer(tx, &transfer)?;
            let bank_ref: String = said.as_str().unwrap_or_default().chars().take(100).collect();
            tx.exec(sql::END_PAYOUT, (transfer_id, bank_ref, ""))?;
            let event = crate::moves::event_of(&transfer);
            tx.emit(event);
            Ok(Next::Finish)
        }
        Heard::Refused(why) => {
            let why: String = why.chars().take(100).collect();
            commands::end(tx, &mut transfer, TransferStatus::Rejected, None, &why)?;
            tx.exec(sql::END_PAYOUT, (transfer_id, "", why))?;
            Ok(Next::Finish)
        }
        Heard::Signal { .. } | Heard::Deadline => Ok(Next::Park("a payout waits for nothing".to_owned())),
    }
}

/// A payout that was called off before the bank had done it: what was held for it is let go. While a call is under way or in doubt a
/// saga does not end.
fn payout_ended(tx: &mut Tx<'_>, saga: &Saga, status: Status, reason: &str) -> Result<()> {
    if status == Status::Done {
        return Ok(());
    }
    let transfer_id: TransferId = saga.state()?;
    let mut transfer = queries::transfer(tx, transfer_id, Reach::All)?;
    if transfer.status != TransferStatus::Pending {
        return Ok(());
    }
    commands::end(tx, &mut transfer, TransferStatus::Rejected, None, reason)?;
    tx.exec(sql::END_PAYOUT, (transfer_id, "", reason))
}

/// Calls off the payouts of a wallet that the bank has not been asked for yet, or that it has certainly not done; what it is being asked
/// for goes on until that is known.
pub(crate) fn cancel_payouts(tx: &mut Tx<'_>, wallet_id: WalletId) -> Result<()> {
    for (transfer_id,) in tx.all::<(TransferId,)>(sql::PAYOUTS_UNDER_WAY, (wallet_id,))? {
        workflow::cancel(tx, PAYOUT, &transfer_id.to_string())?;
    }
    Ok(())
}

/// Nobody could learn in time whether the bank has paid: the money stays held, and a person has to find out.
fn in_doubt(tx: &mut Tx<'_>, saga: &Saga, reason: &str) -> Result<()> {
    let transfer_id: TransferId = saga.state()?;
    let payload = serde_json::json!({ "transfer_id": transfer_id, "reason": reason });
    tx.emit(NewEvent::new("wallet.payout_in_doubt", 1, transfer_id, &payload));
    Ok(())
}
