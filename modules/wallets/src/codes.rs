//! Pay codes: a point of sale shows one as a QR code, and whoever scans it pays exactly that, once, and in time.
//!
//! The text is `brandos-pay:1:<tenant>:<code>:<currency>:<amount in minor units>:<unix second of its end>:<signature>`: a wallet's
//! application shows the amount without asking us. The signature is checked before anything is looked up.

use crate::model::*;
use crate::moves::{self, Ask, Reach};
use crate::service::Wallets;
use crate::{error, queries, service, sql};
use kernel::{Currency, Result, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use store::{FromRow, NewEvent, Read, Row, Tx};
use utoipa::ToSchema;

/// A pay code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PayCode {
    /// Its id.
    pub code_id: CodeId,
    /// Who is paid.
    pub merchant_wallet_id: WalletId,
    /// The currency.
    pub currency: Currency,
    /// In minor units.
    pub amount_minor: i64,
    /// For people.
    pub note: String,
    /// Where it stands.
    pub status: CodeStatus,
    /// The payment that it led to.
    pub transfer_id: Option<TransferId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when it can be paid.
    pub expires_at: Timestamp,
    /// The text that a QR code shows.
    pub pay_code: String,
}

struct Found(PayCode);

impl FromRow for Found {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(Found(PayCode {
            code_id: row.get(0)?,
            merchant_wallet_id: row.get(1)?,
            currency: row.get(2)?,
            amount_minor: row.get(3)?,
            note: row.get(4)?,
            status: row.get(5)?,
            transfer_id: row.get(6)?,
            created_at: row.get(7)?,
            expires_at: row.get(8)?,
            pay_code: String::new(),
        }))
    }
}

fn content(currency: Currency, amount_minor: i64, expires_at: Timestamp) -> String {
    format!("{currency}:{amount_minor}:{}", expires_at.unix_seconds())
}

impl Found {
    fn shown(self, wallets: &Wallets, tenant: TenantId, now: Timestamp) -> PayCode {
        let mut code = self.0;
        let content = content(code.currency, code.amount_minor, code.expires_at);
        let signature = wallets.pay_code_signature(tenant, code.code_id, &content);
        code.pay_code = format!("brandos-pay:1:{tenant}:{}:{content}:{signature}", code.code_id);
        if code.status == CodeStatus::Open && code.expires_at <= now {
            code.status = CodeStatus::Expired;
        }
        code
    }
}

/// The code that a text names. Errors: `wallets.pay_code_invalid` unless we have signed it for this tenant.
pub(crate) fn read_text(wallets: &Wallets, tenant: TenantId, text: &str) -> Result<CodeId> {
    let parts: Vec<&str> = text.split(':').collect();
    let &["brandos-pay", "1", of, code_id, currency, amount, until, signature] = &parts[..] else { return Err(error::code_invalid()) };
    let code_id: CodeId = code_id.parse().map_err(|_| error::code_invalid())?;
    let ours = of.parse::<TenantId>().is_ok_and(|of| of == tenant);
    let signed = wallets.is_pay_code_signature(tenant, code_id, &format!("{currency}:{amount}:{until}"), signature);
    if ours && signed { Ok(code_id) } else { Err(error::code_invalid()) }
}

/// A pay code to be made.
#[derive(Clone)]
pub(crate) struct NewCode {
    pub wallets: Wallets,
    pub reach: Reach,
    pub merchant: WalletId,
    pub currency: Currency,
    pub amount_minor: i64,
    pub note: String,
}

/// Errors: `wallets.wallet_not_found`, `wallets.not_a_merchant`, `wallets.closed`, `wallets.no_currency`.
pub(crate) fn create(tx: &mut Tx<'_>, new: &NewCode) -> Result<PayCode> {
    let merchant = queries::wallet(tx, new.merchant, new.reach)?;
    if merchant.kind != WalletKind::Merchant {
        return Err(error::not_a_merchant());
    }
    if merchant.status == WalletStatus::Closed {
        return Err(error::closed());
    }
    queries::account(tx, new.merchant, new.currency)?;
    let now = tx.now();
    let seconds = service::policy(tx, Some(&new.wallets))?.policy.times.pay_code_seconds;
    // A whole second, as the text has it.
    let expires_at = Timestamp::from_micros((now.unix_seconds() + seconds) * 1_000_000);
    let code = PayCode {
        code_id: tx.new_id(),
        merchant_wallet_id: new.merchant,
        currency: new.currency,
        amount_minor: new.amount_minor,
        note: new.note.clone(),
        status: CodeStatus::Open,
        transfer_id: None,
        created_at: now,
        expires_at,
        pay_code: String::new(),
    };
    let c = &code;
    tx.exec(sql::INSERT_CODE, (c.code_id, c.merchant_wallet_id, c.currency, c.amount_minor, &c.note, now, c.expires_at))?;
    Ok(Found(code).shown(&new.wallets, tx.tenant()?, now))
}

/// A pay code of a merchant that the caller may use. Errors: `wallets.code_not_found`.
pub(crate) fn find(read: &mut Read<'_>, wallets: &Wallets, code_id: CodeId, reach: Reach) -> Result<PayCode> {
    let Found(code) = read.opt(sql::CODE, (code_id,))?.ok_or_else(error::code_not_found)?;
    queries::wallet(read, code.merchant_wallet_id, reach).map_err(|_| error::code_not_found())?;
    Ok(Found(code).shown(wallets, read.tenant()?, read.now()))
}

/// Takes a code back. Errors: `wallets.code_not_found`, `wallets.not_open`.
pub(crate) fn cancel(tx: &mut Tx<'_>, (wallets, code_id, reach): &(Wallets, CodeId, Reach)) -> Result<PayCode> {
    let mut code = find(tx, wallets, *code_id, *reach)?;
    if code.status != CodeStatus::Open {
        return Err(error::not_open("pay code"));
    }
    code.status = CodeStatus::Cancelled;
    tx.must(sql::END_CODE, (*code_id, code.status, None::<TransferId>), || error::not_open("pay code"))?;
    Ok(code)
}

/// Somebody pays what a code says.
#[derive(Clone)]
pub(crate) struct Pay {
    pub wallets: Wallets,
    pub reach: Reach,
    pub from: WalletId,
    pub code_id: CodeId,
    pub device: u32,
    pub country: [u8; 2],
}

/// Pays a code and uses it up, unless the payment is denied. Errors: `wallets.pay_code_invalid`, `wallets.pay_code_used`,
/// `wallets.pay_code_expired`, `wallets.not_open`, and those of the guards of a payment.
pub(crate) fn pay(tx: &mut Tx<'_>, pay: &Pay) -> Result<Transfer> {
    let Found(code) = tx.opt(sql::CODE, (pay.code_id,))?.ok_or_else(error::code_invalid)?;
    match code.status {
        CodeStatus::Used => return Err(error::code_used()),
        CodeStatus::Cancelled => return Err(error::not_open("pay code")),
        CodeStatus::Open if code.expires_at > tx.now() => {}
        CodeStatus::Open | CodeStatus::Expired => return Err(error::code_expired()),
    }
    let ask = Ask {
        wallets: Some(pay.wallets.clone()),
        reach: pay.reach,
        kind: TransferKind::Payment,
        from: pay.from,
        to: code.merchant_wallet_id,
        amount_minor: code.amount_minor,
        currency: code.currency,
        note: code.note.clone(),
        device: pay.device,
        country: pay.country,
        target: 0,
        confirmed: None,
    };
    let transfer = moves::transfer(tx, &ask)?;
    if transfer.status != TransferStatus::Denied {
        tx.must(sql::END_CODE, (pay.code_id, CodeStatus::Used, Some(transfer.transfer_id)), error::code_used)?;
        let payload = serde_json::json!({ "code_id": pay.code_id, "merchant_wallet_id": code.merchant_wallet_id, "transfer_id": transfer.transfer_id });
        tx.emit(NewEvent::new("wallet.pay_code_used", 1, pay.code_id, &payload));
    }
    Ok(transfer)
}
