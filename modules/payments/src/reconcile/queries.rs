//! Runs and differences as they are stored and shown, and reads of them.

use super::books;
use super::format::Format;
use super::matching::BreakKind;
use super::sql;
use crate::model::{IntentId, OperationId, ProviderId, ProviderKind};
use crate::queries;
use kernel::{Currency, Entity, Error, Id, Result, Timestamp};
use ledger::TransactionId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use store::{FromRow, Read, Row};
use utoipa::ToSchema;

/// Marks the ids of runs (`rcn_...`).
pub enum RunEntity {}

impl Entity for RunEntity {
    const PREFIX: &'static str = "rcn";
}

/// The id of a run: one settlement file, compared.
pub type RunId = Id<RunEntity>;

/// Marks the ids of differences (`brk_...`).
pub enum BreakEntity {}

impl Entity for BreakEntity {
    const PREFIX: &'static str = "brk";
}

/// The id of a difference.
pub type BreakId = Id<BreakEntity>;

/// What a file pays out in a currency, by its rows that are settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = SettlementTotal)]
pub struct Total {
    /// How many rows.
    pub rows: u64,
    /// Captures less refunds, in minor units.
    pub gross_minor: i64,
    /// What the provider keeps.
    pub fee_minor: i64,
    /// What is paid out.
    pub net_minor: i64,
    /// What matched within the declared tolerances brings more than was booked; it is booked when the day is closed.
    #[serde(default)]
    pub tolerated_minor: i64,
}

/// What came of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = ReconciliationSummary)]
pub struct Summary {
    /// Rows of the file.
    pub rows: u64,
    /// Operations of ours that no file before had whole.
    pub operations: u64,
    /// Operations that the file has, without a difference.
    pub matched: u64,
    /// Of those: with several rows, or several in one row.
    pub in_parts: u64,
    /// Of those: not exactly, but within the declared tolerance.
    pub by_tolerance: u64,
    /// Differences by kind.
    #[schema(value_type = std::collections::BTreeMap<String, u64>)]
    pub breaks: BTreeMap<String, u64>,
    /// Of those: resolved by the format's rules.
    pub resolved_by_rule: u64,
    /// What the file pays out, by currency.
    #[schema(value_type = std::collections::BTreeMap<String, Total>)]
    pub totals: BTreeMap<String, Total>,
}

/// A run as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub run_id: RunId,
    pub provider_id: ProviderId,
    pub day: i64,
    pub digest: String,
    pub state: String,
    pub attempt: i64,
    pub summary: Summary,
    pub begun_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    pub closed_at: Option<Timestamp>,
    pub note: Option<String>,
}

impl FromRow for Run {
    fn from_row(row: &dyn Row) -> Result<Self> {
        let summary: String = row.get(6)?;
        Ok(Run {
            run_id: row.get(0)?,
            provider_id: row.get(1)?,
            day: row.get(2)?,
            digest: row.get(3)?,
            state: row.get(4)?,
            attempt: row.get(5)?,
            summary: serde_json::from_str(&summary).map_err(|e| Error::internal("a stored summary can't be read").caused_by(e))?,
            begun_at: row.get(7)?,
            ended_at: row.get(8)?,
            closed_at: row.get(9)?,
            note: row.get(10)?,
        })
    }
}

/// A run as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Reconciliation)]
pub struct RunView {
    /// Its id.
    pub run_id: RunId,
    /// Whose file it was.
    pub provider_id: ProviderId,
    /// The day that the file is of, such as `2026-01-31`.
    pub day: String,
    /// SHA-256 of the file: the same file is the same run.
    pub file_sha256: String,
    /// `matching`, `marking`, `done`, `closed`, or `abandoned`.
    pub state: String,
    /// What came of it.
    pub summary: Summary,
    /// When it began.
    pub begun_at: Timestamp,
    /// When it was done.
    pub ended_at: Option<Timestamp>,
    /// When the day was closed.
    pub closed_at: Option<Timestamp>,
    /// What the person who closed it wrote.
    pub note: Option<String>,
}

/// `2026-01-31`, of days since 1970.
pub(crate) fn format_day(day: i64) -> String {
    Timestamp::from_micros(day.saturating_mul(86_400_000_000)).to_string().chars().take(10).collect()
}

impl From<Run> for RunView {
    fn from(run: Run) -> Self {
        RunView {
            run_id: run.run_id,
            provider_id: run.provider_id,
            day: format_day(run.day),
            file_sha256: run.digest,
            state: run.state,
            summary: run.summary,
            begun_at: run.begun_at,
            ended_at: run.ended_at,
            closed_at: run.closed_at,
            note: run.note,
        }
    }
}

/// A difference as it is stored and shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ReconciliationBreak)]
pub struct Break {
    /// Its id.
    pub break_id: BreakId,
    /// The run that found it first.
    pub run_id: RunId,
    /// The run that found it last.
    pub last_run: RunId,
    /// Whose file it was.
    pub provider_id: ProviderId,
    /// What differs.
    pub kind: BreakKind,
    /// `open` or `resolved`.
    pub state: String,
    /// The payment, when one is known.
    pub intent_id: Option<IntentId>,
    /// The capture or refund, when one is known.
    pub operation_id: Option<OperationId>,
    /// The row of the file, from 1, the header not counted.
    pub line: Option<i64>,
    /// Of the amounts.
    pub currency: Currency,
    /// What we have.
    pub ours_minor: Option<i64>,
    /// What the file has.
    pub theirs_minor: Option<i64>,
    /// What the provider brings more than we have booked; the proposed posting moves it.
    pub difference_minor: i64,
    /// The day of the movement (days since 1970); a difference is as old as that.
    pub day: i64,
    /// What the row says, or why it can't be read.
    pub detail: String,
    /// How it was resolved.
    pub resolution: Option<String>,
    /// The ledger's transaction that resolved it.
    #[schema(value_type = Option<String>)]
    pub transaction_id: Option<TransactionId>,
    /// When it was found.
    pub created_at: Timestamp,
    /// When it was resolved.
    pub resolved_at: Option<Timestamp>,
    /// The ledger's transaction that took that back, when what was written off came in a later file.
    #[schema(value_type = Option<String>)]
    pub reversal_id: Option<TransactionId>,
}

impl Break {
    /// What a rule's bound is compared with, in minor units: what differs, or where that is no amount, all that the row is about.
    pub(crate) fn at_stake_minor(&self) -> i64 {
        let (ours, theirs) = (self.ours_minor.unwrap_or(0), self.theirs_minor.unwrap_or(0));
        match self.kind {
            BreakKind::Status | BreakKind::Direction | BreakKind::Currency | BreakKind::Reference | BreakKind::Date => ours.max(theirs),
            BreakKind::Unreadable => i64::MAX,
            BreakKind::MissingThere
            | BreakKind::MissingHere
            | BreakKind::Amount
            | BreakKind::Fee
            | BreakKind::Duplicate
            | BreakKind::Net
            | BreakKind::PartlySettled => self.difference_minor.abs().max((theirs - ours).abs()),
        }
    }

    /// Whether a posting corrects it.
    pub(crate) fn can_be_posted(&self) -> bool {
        books::against(self.kind).is_some() && self.difference_minor != 0
    }
}

impl FromRow for Break {
    fn from_row(row: &dyn Row) -> Result<Self> {
        let kind: String = row.get(4)?;
        let known = BreakKind::ALL.iter().find(|known| known.as_str() == kind);
        Ok(Break {
            break_id: row.get(0)?,
            run_id: row.get(1)?,
            last_run: row.get(2)?,
            provider_id: row.get(3)?,
            kind: known.copied().ok_or_else(|| Error::internal("a column holds no kind of break"))?,
            state: row.get(5)?,
            intent_id: row.get(6)?,
            operation_id: row.get(7)?,
            line: row.get(8)?,
            currency: row.get(9)?,
            ours_minor: row.get(10)?,
            theirs_minor: row.get(11)?,
            difference_minor: row.get(12)?,
            day: row.get(13)?,
            detail: row.get(14)?,
            resolution: row.get(15)?,
            transaction_id: row.get(16)?,
            created_at: row.get(17)?,
            resolved_at: row.get(18)?,
            reversal_id: row.get(19)?,
        })
    }
}

/// A run. Errors: `payments.reconciliation_not_found`.
pub(crate) fn run(read: &mut Read<'_>, run_id: RunId) -> Result<Run> {
    let not_found = || Error::not_found("payments.reconciliation_not_found", "there is no such reconciliation");
    read.opt(sql::RUN, (run_id,))?.ok_or_else(not_found)
}

/// A difference. Errors: `payments.break_not_found`.
pub(crate) fn find_break(read: &mut Read<'_>, break_id: BreakId) -> Result<Break> {
    read.opt(sql::BREAK, (break_id,))?.ok_or_else(|| Error::not_found("payments.break_not_found", "there is no such break"))
}

/// How the provider's files are read, with its version; version 0 and that of its kind before any was set.
/// Errors: `payments.provider_not_found`; `payments.no_format` for a kind that has none of its own.
pub(crate) fn format(read: &mut Read<'_>, provider_id: ProviderId) -> Result<(i64, Format)> {
    let provider = queries::provider(read, provider_id)?;
    if let Some((version, text)) = read.opt::<(i64, String)>(sql::FORMAT, (provider_id,))? {
        let format = serde_json::from_str(&text).map_err(|e| Error::internal("a stored format can't be read").caused_by(e))?;
        return Ok((version, format));
    }
    match provider.kind {
        ProviderKind::Sandbox => Ok((0, Format::sandbox())),
        ProviderKind::Stripe => {
            Err(Error::failed_precondition("payments.no_format", "declare first how this provider's settlement files are read"))
        }
    }
}
