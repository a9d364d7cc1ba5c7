//! Requests for money: one asks, another accepts or declines, or nobody answers.

use crate::model::*;
use crate::moves::{self, Ask, Reach};
use crate::service::Wallets;
use crate::{error, queries, service, sql, workflows};
use kernel::{Currency, Result, Timestamp};
use serde::{Deserialize, Serialize};
use store::{FromRow, NewEvent, Read, Row, Tx};
use utoipa::ToSchema;

/// A request for money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MoneyRequest {
    /// Its id.
    pub request_id: RequestId,
    /// Who asks, and is paid.
    pub asker_wallet_id: WalletId,
    /// Who is asked.
    pub payer_wallet_id: WalletId,
    /// The currency.
    pub currency: Currency,
    /// In minor units.
    pub amount_minor: i64,
    /// For people.
    pub note: String,
    /// Where it stands.
    pub status: RequestStatus,
    /// The transfer that it led to.
    pub transfer_id: Option<TransferId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when it can be accepted.
    pub expires_at: Timestamp,
}

impl FromRow for MoneyRequest {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(MoneyRequest {
            request_id: row.get(0)?,
            asker_wallet_id: row.get(1)?,
            payer_wallet_id: row.get(2)?,
            currency: row.get(3)?,
            amount_minor: row.get(4)?,
            note: row.get(5)?,
            status: row.get(6)?,
            transfer_id: row.get(7)?,
            created_at: row.get(8)?,
            expires_at: row.get(9)?,
        })
    }
}

fn emit(tx: &mut Tx<'_>, kind: &'static str, request: &MoneyRequest) {
    let r = request;
    let payload = serde_json::json!({
        "request_id": r.request_id, "asker_wallet_id": r.asker_wallet_id, "payer_wallet_id": r.payer_wallet_id, "currency": r.currency,
        "amount_minor": r.amount_minor, "status": r.status, "transfer_id": r.transfer_id,
    });
    tx.emit(NewEvent::new(kind, 1, r.request_id, &payload));
}

/// A request to be made.
#[derive(Clone)]
pub(crate) struct NewRequest {
    pub wallets: Wallets,
    pub reach: Reach,
    pub asker: WalletId,
    pub payer: WalletId,
    pub currency: Currency,
    pub amount_minor: i64,
    pub note: String,
}

/// Errors: `wallets.wallet_not_found`, `wallets.payee_not_found` for the payer, `wallets.same_wallet`, `wallets.no_currency`, `wallets.closed`.
pub(crate) fn create(tx: &mut Tx<'_>, new: &NewRequest) -> Result<MoneyRequest> {
    let asker = queries::wallet(tx, new.asker, new.reach)?;
    let payer = queries::wallet(tx, new.payer, Reach::All).map_err(|_| error::payer_not_found())?;
    if new.asker == new.payer {
        return Err(error::same_wallet());
    }
    if [&asker, &payer].iter().any(|wallet| wallet.status == WalletStatus::Closed) {
        return Err(error::closed());
    }
    queries::account(tx, new.asker, new.currency)?;
    queries::account(tx, new.payer, new.currency)?;
    let now = tx.now();
    let seconds = service::policy(tx, Some(&new.wallets))?.policy.times.request_seconds;
    let request = MoneyRequest {
        request_id: tx.new_id(),
        asker_wallet_id: new.asker,
        payer_wallet_id: new.payer,
        currency: new.currency,
        amount_minor: new.amount_minor,
        note: new.note.clone(),
        status: RequestStatus::Open,
        transfer_id: None,
        created_at: now,
        expires_at: now.plus_ms(seconds * 1_000),
    };
    let r = &request;
    let args = (r.request_id, r.asker_wallet_id, r.payer_wallet_id, r.currency, r.amount_minor, &r.note, now, r.expires_at);
    tx.exec(sql::INSERT_REQUEST, args)?;
    workflows::expire_at(tx, "request", r.request_id, r.expires_at)?;
    emit(tx, "wallet.money_requested", r);
    Ok(request)
}

/// A request that the caller is a side of; one whose time is over is expired, whether that was written down yet or not.
/// Errors: `wallets.request_not_found`.
pub(crate) fn find(read: &mut Read<'_>, request_id: RequestId, reach: Reach) -> Result<MoneyRequest> {
    let request: MoneyRequest = read.opt(sql::REQUEST, (request_id,))?.ok_or_else(error::request_not_found)?;
    if reach != Reach::All {
        let sides = [request.asker_wallet_id, request.payer_wallet_id];
        if !sides.iter().any(|side| queries::wallet(read, *side, reach).is_ok()) {
            return Err(error::request_not_found());
        }
    }
    Ok(as_of(request, read.now()))
}

fn as_of(mut request: MoneyRequest, now: Timestamp) -> MoneyRequest {
    if request.status == RequestStatus::Open && request.expires_at <= now {
        request.status = RequestStatus::Expired;
    }
    request
}

/// The requests of a wallet, the latest first: those that it was asked, or those that it has made.
pub(crate) fn list(read: &mut Read<'_>, wallet: (WalletId, Reach), made: bool, before: i64, limit: i64) -> Result<Vec<MoneyRequest>> {
    queries::wallet(read, wallet.0, wallet.1)?;
    let statement = if made { sql::REQUESTS_OF_ASKER } else { sql::REQUESTS_OF_PAYER };
    let (found, now): (Vec<MoneyRequest>, _) = (read.all(statement, (wallet.0, before, limit))?, read.now());
    Ok(found.into_iter().map(|request| as_of(request, now)).collect())
}

fn end(tx: &mut Tx<'_>, request: &mut MoneyRequest, status: RequestStatus, transfer_id: Option<TransferId>) -> Result<()> {
    (request.status, request.transfer_id) = (status, transfer_id);
    tx.must(sql::END_REQUEST, (request.request_id, status, transfer_id), || error::not_open("request"))?;
    let kind = match status {
        RequestStatus::Accepted => "wallet.request_accepted",
        RequestStatus::Declined => "wallet.request_declined",
        RequestStatus::Cancelled => "wallet.request_cancelled",
        RequestStatus::Open | RequestStatus::Expired => "wallet.request_expired",
    };
    emit(tx, kind, request);
    Ok(())
}

/// An answer to a request.
#[derive(Clone)]
pub(crate) struct Answer {
    pub wallets: Wallets,
    pub reach: Reach,
    pub request_id: RequestId,
    pub device: u32,
    pub country: [u8; 2],
}

/// Pays what was asked. A denied transfer leaves the request open. Errors: `wallets.request_not_found`, `wallets.not_open`, and those of
/// the guards of a transfer.
pub(crate) fn accept(tx: &mut Tx<'_>, answer: &Answer) -> Result<Transfer> {
    let mut request = find(tx, answer.request_id, Reach::All)?;
    queries::wallet(tx, request.payer_wallet_id, answer.reach).map_err(|_| error::request_not_found())?;
    if request.status != RequestStatus::Open {
        return Err(error::not_open("request"));
    }
    let asker = queries::wallet(tx, request.asker_wallet_id, Reach::All)?;
    let ask = Ask {
        wallets: Some(answer.wallets.clone()),
        reach: Reach::All,
        kind: if asker.kind == WalletKind::Merchant { TransferKind::Payment } else { TransferKind::Transfer },
        from: request.payer_wallet_id,
        to: request.asker_wallet_id,
        amount_minor: request.amount_minor,
        currency: request.currency,
        note: request.note.clone(),
        device: answer.device,
        country: answer.country,
        target: 0,
        confirmed: None,
    };
    let transfer = moves::transfer(tx, &ask)?;
    if transfer.status != TransferStatus::Denied {
        end(tx, &mut request, RequestStatus::Accepted, Some(transfer.transfer_id))?;
    }
    Ok(transfer)
}

/// The payer declines, or (with `by_asker`) the asker takes it back. Errors: `wallets.request_not_found`, `wallets.not_open`.
pub(crate) fn refuse(tx: &mut Tx<'_>, (request_id, reach, by_asker): &(RequestId, Reach, bool)) -> Result<MoneyRequest> {
    let mut request = find(tx, *request_id, Reach::All)?;
    let side = if *by_asker { request.asker_wallet_id } else { request.payer_wallet_id };
    queries::wallet(tx, side, *reach).map_err(|_| error::request_not_found())?;
    if request.status != RequestStatus::Open {
        return Err(error::not_open("request"));
    }
    end(tx, &mut request, if *by_asker { RequestStatus::Cancelled } else { RequestStatus::Declined }, None)?;
    Ok(request)
}

/// Until when a request that is open may be answered; none when it is open no more.
pub(crate) fn open_until(read: &mut Read<'_>, request_id: RequestId) -> Result<Option<Timestamp>> {
    let found: Option<MoneyRequest> = read.opt(sql::REQUEST, (request_id,))?;
    Ok(found.filter(|request| request.status == RequestStatus::Open).map(|request| request.expires_at))
}

/// Ends a request that nobody has answered.
pub(crate) fn expire(tx: &mut Tx<'_>, request_id: RequestId) -> Result<()> {
    let found: Option<MoneyRequest> = tx.opt(sql::REQUEST, (request_id,))?;
    match found {
        Some(mut request) if request.status == RequestStatus::Open => end(tx, &mut request, RequestStatus::Expired, None),
        _ => Ok(()),
    }
}
