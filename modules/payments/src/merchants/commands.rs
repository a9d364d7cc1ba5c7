//! Commands about merchants. Each runs in one transaction and may be run again.

use super::batch::{Terms, Totals};
use super::queries::{Batch, BatchId, BatchLine, MerchantId, MerchantView};
use super::sql;
use crate::books;
use crate::model::{Intent, Operation, OperationId, OperationKind, ProviderId};
use kernel::{Currency, Error, Result, Timestamp};
use ledger::api::{NewAccount, balance, ensure_account, post};
use ledger::{AccountId, AccountType, Posting, Request, Side};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use store::{NewEvent, Tx};
use web::IfMatch;

/// Captures and refunds of one batch, and merchants.
const MAX_OPERATIONS: i64 = 10_000;
const MAX_MERCHANTS: usize = 200;
const MAX_RESERVES: i64 = 2_000;
const DAY_MS: i64 = 86_400_000;

/// The word of what waits for a merchant and is neither a capture nor a refund.
const FEE: &str = "fee";

/// Parts of the chart of accounts.
pub(crate) const MERCHANT: &str = "merchant";
pub(crate) const RESERVE: &str = "reserve";
/// What is on its way to merchants, by currency.
const PAYOUTS: &str = "payments:payouts";

/// The code of a merchant's account.
pub(crate) fn code(part: &str, merchant_id: MerchantId, currency: Currency) -> String {
    format!("payments:{part}:{merchant_id}:{currency}")
}

/// Terms to declare.
#[derive(Clone, Debug)]
pub(crate) struct SetTerms {
    pub merchant: String,
    pub if_match: IfMatch,
    pub terms: Terms,
}

/// Declares how a merchant is settled. Errors: `request.precondition_failed`.
pub(crate) fn set_terms(tx: &mut Tx<'_>, set: &SetTerms) -> Result<MerchantView> {
    let text = serde_json::to_string(&set.terms).map_err(|e| Error::internal("terms don't serialise").caused_by(e))?;
    let (now, known) = (tx.now(), tx.opt::<MerchantView>(sql::MERCHANT, (&set.merchant,))?);
    set.if_match.check(known.as_ref().map_or(0, |known| known.version))?;
    match known {
        Some(known) => {
            let changed = || Error::internal("a merchant was changed by two commands at once");
            tx.must(sql::UPDATE_MERCHANT, (known.merchant_id, known.version, known.version + 1, text, now), changed)?;
            Ok(MerchantView { version: known.version + 1, terms: set.terms.clone(), updated_at: now, ..known })
        }
        None => {
            let merchant_id: MerchantId = tx.new_id();
            tx.exec(sql::INSERT_MERCHANT, (merchant_id, &set.merchant, text, now))?;
            let (merchant, terms) = (set.merchant.clone(), set.terms.clone());
            Ok(MerchantView { merchant_id, merchant, version: 1, terms, created_at: now, updated_at: now })
        }
    }
}

/// Whether payments for whom this names are settled by batches. Those of another module, and for a merchant whose name can have no terms,
/// never are: who asked for them knows whose the money is.
pub(crate) fn is_settled(merchant: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=64).contains(&merchant.len()) && merchant.bytes().all(fits)
}

/// A capture or refund was done: if it is for a merchant, a batch will settle it.
pub(crate) fn note_operation(tx: &mut Tx<'_>, intent: &Intent, done: &Operation) -> Result<()> {
    let (true, Some(provider_id)) = (is_settled(&intent.merchant) && done.kind != OperationKind::Void, intent.provider_id) else {
        return Ok(());
    };
    let args = (intent.currency, done.operation_id, &intent.merchant, provider_id, done.kind, done.amount_minor, done.fee_minor);
    tx.exec(sql::INSERT_OPERATION, args)
}

/// The provider keeps so much more for a payment than was known when it was captured: if it is for a merchant, a batch will charge it.
pub(crate) fn note_fee(tx: &mut Tx<'_>, intent: &Intent, provider_id: ProviderId, fee_minor: i64) -> Result<()> {
    if !is_settled(&intent.merchant) || fee_minor == 0 {
        return Ok(());
    }
    let id: OperationId = tx.new_id();
    tx.exec(sql::INSERT_OPERATION, (intent.currency, id, &intent.merchant, provider_id, FEE, 0_i64, fee_minor))
}

/// A batch as it is answered.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = SettlementBatchDetail)]
pub(crate) struct BatchDetail {
    /// The batch.
    #[serde(flatten)]
    pub batch: Batch,
    /// What it has of each merchant.
    pub lines: Vec<BatchLine>,
}

/// What a batch takes of one merchant.
struct Part {
    merchant: MerchantView,
    totals: Totals,
    /// Captures less refunds, by the provider that has the customers' money.
    by_provider: BTreeMap<ProviderId, i64>,
    released_minor: i64,
}

/// Settles what waits in a currency. What is for merchants without terms goes on waiting.
/// Errors: `payments.nothing_to_settle`.
pub(crate) fn settle(tx: &mut Tx<'_>, currency: &Currency) -> Result<BatchDetail> {
    let currency = *currency;
    let (batch_id, now): (BatchId, Timestamp) = (tx.new_id(), tx.now());
    let waiting: Vec<(OperationId, String, ProviderId, String, i64, i64)> = tx.all(sql::OPERATIONS, (currency, MAX_OPERATIONS))?;
    let due: Vec<(Timestamp, BatchId, MerchantId, i64, String)> = tx.all(sql::DUE_RESERVES, (currency, now, MAX_RESERVES))?;
    let mut more = waiting.len() as i64 == MAX_OPERATIONS || due.len() as i64 == MAX_RESERVES;
    let mut parts: BTreeMap<String, Option<Part>> = BTreeMap::new();
    let mut operations = 0_i64;
    for (operation_id, name, provider_id, kind, amount, fee) in waiting {
        let Some(part) = part_of(tx, &mut parts, &name, &mut more)? else { continue };
        // What of it customers have paid: no fee is theirs.
        let moved = match kind.as_str() {
            FEE => {
                part.totals.fee(&part.merchant.terms, fee);
                0
            }
            kind if kind == OperationKind::Refund.as_str() => {
                part.totals.refund(amount);
                -amount
            }
            _ => {
                part.totals.capture(&part.merchant.terms, amount, fee);
                amount
            }
        };
        *part.by_provider.entry(provider_id).or_default() += moved;
        operations += 1;
        tx.exec(sql::DELETE_OPERATION, (currency, operation_id))?;
    }
    for (release_at, of, merchant_id, amount, name) in due {
        let Some(part) = part_of(tx, &mut parts, &name, &mut more)? else { continue };
        part.released_minor += amount;
        tx.exec(sql::DELETE_RESERVE, (release_at, of, merchant_id))?;
    }
    let parts: Vec<Part> = parts.into_values().flatten().collect();
    if parts.is_empty() {
        return Err(Error::failed_precondition("payments.nothing_to_settle", format!("nothing waits to be settled in {currency}")));
    }
    let lines = parts.iter().map(|part| settle_one(tx, batch_id, currency, part, now)).collect::<Result<Vec<_>>>()?;
    let payout_minor = lines.iter().map(|line| line.payout_minor).sum();
    let batch = Batch { batch_id, currency, merchants: lines.len() as i64, operations, payout_minor, more, created_at: now };
    tx.exec(sql::INSERT_BATCH, (batch_id, currency, batch.merchants, operations, payout_minor, more, now))?;
    tx.emit(NewEvent::new("settlement.batch_made", 1, batch_id, &batch));
    Ok(BatchDetail { batch, lines })
}

/// The merchant's part of the batch; none when it has no terms, or the batch is full.
fn part_of<'p>(
    tx: &mut Tx<'_>,
    parts: &'p mut BTreeMap<String, Option<Part>>,
    name: &str,
    more: &mut bool,
) -> Result<Option<&'p mut Part>> {
    let full = parts.values().flatten().count() >= MAX_MERCHANTS;
    if let Entry::Vacant(place) = parts.entry(name.to_owned()) {
        if full {
            *more = true;
            return Ok(None);
        }
        let merchant: Option<MerchantView> = tx.opt(sql::MERCHANT, (name,))?;
        let part = |merchant| Part { merchant, totals: Totals::default(), by_provider: BTreeMap::new(), released_minor: 0 };
        place.insert(merchant.map(part));
    }
    Ok(parts.get_mut(name).and_then(Option::as_mut))
}

fn open(
    tx: &mut Tx<'_>,
    code: String,
    name: &str,
    account_type: AccountType,
    currency: Currency,
    owner: Option<String>,
) -> Result<AccountId> {
    let name = format!("{name} {currency}");
    // What has been paid out is the tenant's to book on: its bank says what became of it.
    let managed = !code.starts_with(PAYOUTS);
    let new = NewAccount { code, name, account_type, currency, owner, may_go_negative: true, negative_limit_minor: None, managed };
    Ok(ensure_account(tx, &new)?.account_id)
}

/// Moves one merchant's money in the ledger, and writes its line.
fn settle_one(tx: &mut Tx<'_>, batch_id: BatchId, currency: Currency, part: &Part, now: Timestamp) -> Result<BatchLine> {
    let Part { merchant, totals, by_provider, released_minor } = part;
    let id = merchant.merchant_id;
    let owner = Some(id.to_string());
    let account = open(tx, code(MERCHANT, id, currency), "Owed to merchant", AccountType::Liability, currency, owner.clone())?;
    let reserve = open(tx, code(RESERVE, id, currency), "Held back of merchant", AccountType::Liability, currency, owner)?;
    let income = open(tx, format!("payments:platform_fees:{currency}"), "Platform fees", AccountType::Income, currency, None)?;
    let borne =
        open(tx, format!("payments:fees_borne:{currency}"), "Provider fees borne by merchants", AccountType::Income, currency, None)?;
    let mut postings = Vec::new();
    let mut credit = |account_id: AccountId, minor: i64| {
        let side = if minor > 0 { Side::Credit } else { Side::Debit };
        if minor != 0 {
            postings.push(Posting { account_id, side, amount_minor: minor.abs(), currency: None });
        }
    };
    credit(account, totals.net_minor() + released_minor);
    credit(reserve, totals.reserved_minor - released_minor);
    credit(income, totals.platform_fee_minor);
    credit(borne, totals.provider_fee_minor);
    let mut clearing = Vec::new();
    for (provider_id, moved) in by_provider {
        clearing.push((books::accounts(tx, *provider_id, currency)?.clearing, *provider_id, *moved));
    }
    for (account_id, _, moved) in &clearing {
        credit(*account_id, -moved);
    }
    if postings.len() >= 2 {
        post(tx, &Request::journal(postings).key(&format!("{batch_id}:{id}")))?;
    }
    for (_, provider_id, moved) in clearing {
        tx.exec(sql::SETTLE_CLEARING, (provider_id, currency, moved))?;
    }
    if totals.reserved_minor > 0 {
        let release_at = now.plus_ms(merchant.terms.reserve_days * DAY_MS);
        tx.exec(sql::INSERT_RESERVE, (release_at, batch_id, id, currency, totals.reserved_minor))?;
    }
    let mut balance_minor = balance(tx, account)?.posted_minor;
    let payout_minor = if balance_minor >= merchant.terms.payout_from_minor { balance_minor } else { 0 };
    if payout_minor > 0 {
        let payouts = open(tx, format!("{PAYOUTS}:{currency}"), "Payouts under way", AccountType::Liability, currency, None)?;
        post(tx, &Request::transfer(account, payouts, payout_minor).key(&format!("{batch_id}:{id}:payout")))?;
        balance_minor -= payout_minor;
    }
    let line = BatchLine {
        merchant_id: id,
        merchant: merchant.merchant.clone(),
        captured_minor: totals.captured_minor,
        refunded_minor: totals.refunded_minor,
        provider_fee_minor: totals.provider_fee_minor,
        platform_fee_minor: totals.platform_fee_minor,
        reserved_minor: totals.reserved_minor,
        released_minor: *released_minor,
        payout_minor,
        balance_minor,
        account: merchant.terms.account.clone(),
        name: merchant.terms.name.clone(),
    };
    let l = &line;
    let args = (
        batch_id,
        id,
        currency,
        l.captured_minor,
        l.refunded_minor,
        l.provider_fee_minor,
        l.platform_fee_minor,
        l.reserved_minor,
        l.released_minor,
        payout_minor,
        balance_minor,
        &l.account,
        &l.name,
    );
    tx.exec(sql::INSERT_LINE, args)?;
    Ok(line)
}
