//! Merchants and batches as they are stored and shown, and what is audited of them.

use super::batch::Terms;
use super::commands::{MERCHANT, RESERVE, code};
use super::sql;
use kernel::{Currency, Entity, Error, Id, Result, Timestamp};
use serde::{Deserialize, Serialize};
use store::{FromRow, Read, Row};
use utoipa::ToSchema;
use web::{Audit, AuditCheck, AuditOutcome};

/// Marks merchants' ids (`mch_...`).
pub enum MerchantEntity {}

impl Entity for MerchantEntity {
    const PREFIX: &'static str = "mch";
}

/// The id of a merchant.
pub type MerchantId = Id<MerchantEntity>;

/// Marks batches' ids (`stb_...`).
pub enum BatchEntity {}

impl Entity for BatchEntity {
    const PREFIX: &'static str = "stb";
}

/// The id of a batch.
pub type BatchId = Id<BatchEntity>;

/// A merchant with its terms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Merchant)]
pub struct MerchantView {
    /// Its id.
    pub merchant_id: MerchantId,
    /// As payments name it.
    pub merchant: String,
    /// Rises with each change.
    pub version: i64,
    /// How it is settled.
    pub terms: Terms,
    /// When it was declared.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl FromRow for MerchantView {
    fn from_row(row: &dyn Row) -> Result<Self> {
        let terms: String = row.get(3)?;
        Ok(MerchantView {
            merchant_id: row.get(0)?,
            merchant: row.get(1)?,
            version: row.get(2)?,
            terms: serde_json::from_str(&terms).map_err(|e| Error::internal("stored terms can't be read").caused_by(e))?,
            created_at: row.get(4)?,
            updated_at: row.get(5)?,
        })
    }
}

/// A batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = SettlementBatch)]
pub struct Batch {
    /// Its id.
    pub batch_id: BatchId,
    /// Of every amount.
    pub currency: Currency,
    /// How many merchants it settles.
    pub merchants: i64,
    /// How many captures and refunds.
    pub operations: i64,
    /// What is paid out in all, in minor units.
    pub payout_minor: i64,
    /// Whether more waits than one batch takes.
    pub more: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

impl FromRow for Batch {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(Batch {
            batch_id: row.get(0)?,
            currency: row.get(1)?,
            merchants: row.get(2)?,
            operations: row.get(3)?,
            payout_minor: row.get(4)?,
            more: row.get(5)?,
            created_at: row.get(6)?,
        })
    }
}

/// What a batch has of one merchant, in minor units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = SettlementBatchLine)]
pub struct BatchLine {
    /// The merchant.
    pub merchant_id: MerchantId,
    /// As payments name it.
    pub merchant: String,
    /// Taken for it.
    pub captured_minor: i64,
    /// Given back.
    pub refunded_minor: i64,
    /// What providers kept and the merchant bears.
    pub provider_fee_minor: i64,
    /// What the platform keeps.
    pub platform_fee_minor: i64,
    /// What is held back.
    pub reserved_minor: i64,
    /// What was held back before and is free now.
    pub released_minor: i64,
    /// What is paid out.
    pub payout_minor: i64,
    /// The balance after it; below zero the merchant owes it.
    pub balance_minor: i64,
    /// Where the payout goes.
    pub account: String,
    /// For the payout.
    pub name: String,
}

impl FromRow for BatchLine {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(BatchLine {
            merchant_id: row.get(0)?,
            merchant: row.get(1)?,
            captured_minor: row.get(2)?,
            refunded_minor: row.get(3)?,
            provider_fee_minor: row.get(4)?,
            platform_fee_minor: row.get(5)?,
            reserved_minor: row.get(6)?,
            released_minor: row.get(7)?,
            payout_minor: row.get(8)?,
            balance_minor: row.get(9)?,
            account: row.get(10)?,
            name: row.get(11)?,
        })
    }
}

/// The merchant that payments name so. Errors: `payments.merchant_not_found`.
pub(crate) fn merchant(read: &mut Read<'_>, merchant: &str) -> Result<MerchantView> {
    let not_found = || Error::not_found("payments.merchant_not_found", "there is no merchant of this name with terms");
    read.opt(sql::MERCHANT, (merchant,))?.ok_or_else(not_found)
}

/// A batch with its lines. Errors: `payments.batch_not_found`.
pub(crate) fn batch(read: &mut Read<'_>, batch_id: BatchId) -> Result<(Batch, Vec<BatchLine>)> {
    let not_found = || Error::not_found("payments.batch_not_found", "there is no such settlement batch");
    let batch = read.opt(sql::BATCH, (batch_id,))?.ok_or_else(not_found)?;
    Ok((batch, read.all(sql::LINES, (batch_id,))?))
}

/// Each merchant's balance and reserve are in the ledger what the batches say.
pub(crate) const AUDIT: Audit = Audit { name: "payments.merchants_add_up", check: AuditCheck::Tenant(add_up) };

fn add_up(read: &mut Read<'_>) -> Result<AuditOutcome> {
    let sums: Vec<(MerchantId, Currency, i64, i64)> = read.all(sql::BY_BATCHES, ())?;
    for (merchant_id, currency, balance, reserve) in &sums {
        for (part, expected) in [(MERCHANT, *balance), (RESERVE, *reserve)] {
            let account = ledger::api::account_by_code(read, &code(part, *merchant_id, *currency))?;
            let found = match account {
                Some(account) => ledger::api::balance(read, account.account_id)?.posted_minor,
                None => 0,
            };
            if found != expected {
                let detail = format!("{merchant_id} {currency}: {part} is {expected} by the batches, {found} in the ledger");
                return Ok(AuditOutcome { ok: false, detail });
            }
        }
    }
    Ok(AuditOutcome { ok: true, detail: format!("{} merchants and currencies agree", sums.len()) })
}
