//! One batch of invoices in one transaction: how far the import is, the catalog, what prices were seen, and the documents.

use super::invoices::{Invoice, Kind};
use super::trade;
use catalog::api::{MAX_BATCH, MAX_LOOKUP, Observation, UpsertRow, VariantId, VariantRef};
use inventory::api::Keep;
use kernel::{Actor, Currency, Error, Result, Timestamp, UnitPrice};
use orders::api::{By, DocumentKind, ImportBatch, ImportCustomer, ImportDocument, ImportOutcome, NewLine, Rejected, State, Taken};
use std::collections::HashMap;
use std::sync::Arc;
use store::{Read, Tx};

/// How far an import has come. `$2` is the file's fingerprint.
pub(crate) const DONE: &str = "SELECT documents_done FROM imports_runs WHERE tenant_id = $1 AND fingerprint = $2";
/// Begins an import.
pub(crate) const BEGIN: &str = "INSERT INTO imports_runs (tenant_id, fingerprint, source, documents_done, started_at, updated_at)
VALUES ($1, $2, $3, 0, $4, $4) ON CONFLICT (tenant_id, fingerprint) DO NOTHING";
/// Moves it on from where it is believed to be, with what was booked.
pub(crate) const ADVANCE: &str = "
UPDATE imports_runs SET documents_done = $4, updated_at = $5, currency = $6, booked = booked + $7, booked_minor = booked_minor + $8
WHERE tenant_id = $1 AND fingerprint = $2 AND documents_done = $3";

/// A few thousand lines.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Of the file.
    pub(crate) fingerprint: Arc<str>,
    pub(crate) currency: Currency,
    /// How many invoices of the file come before these.
    pub(crate) done_before: u64,
    pub(crate) invoices: Vec<Invoice>,
    /// How many lines they have.
    pub(crate) lines: usize,
    /// Stock codes that the file names here for the first time, or describes for the first time.
    pub(crate) news: Vec<UpsertRow>,
}

/// Whether the invoices of a batch are there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// All of them or none, as it is when one file is imported.
    AtTheBatch,
    /// Some, from another file: each has to be looked at by itself.
    AtEachInvoice,
}

impl Batch {
    /// About how much memory it takes, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.lines * 160 + self.invoices.len() * 200
    }
}

/// Notes that an import of the file begins, and says how many of its invoices are done.
pub(crate) fn begin(tx: &mut Tx<'_>, (fingerprint, source): &(Arc<str>, String)) -> Result<u64> {
    let done: Option<(i64,)> = tx.opt(DONE, (&**fingerprint,))?;
    if done.is_none() {
        let now = tx.now();
        tx.exec(BEGIN, (&**fingerprint, source, now))?;
    }
    Ok(done.map_or(0, |(done,)| done as u64))
}

/// The code of the error that asks for the batch again, invoice by invoice.
pub(crate) const PARTLY_THERE: &str = "import.partly_there";

/// Imports a batch. Errors: `import.runs_elsewhere` when the import has moved on without this process; `import.partly_there`.
pub(crate) fn import_batch(tx: &mut Tx<'_>, (batch, look): &(Arc<Batch>, Look)) -> Result<ImportOutcome> {
    for rows in batch.news.chunks(MAX_BATCH) {
        catalog::api::upsert_by_sku(tx, rows)?;
    }
    let variants = variants(tx, batch)?;
    let mut outcome = ImportOutcome::default();
    let mut fit: Vec<&Invoice> = Vec::with_capacity(batch.invoices.len());
    for invoice in &batch.invoices {
        match trade::too_large(invoice) {
            None => fit.push(invoice),
            Some(detail) => outcome.rejected.push(Rejected { external_ref: invoice.number.clone(), detail }),
        }
    }
    let together = if *look == Look::AtEachInvoice { 1 } else { fit.len().max(1) };
    for invoices in fit.chunks(together) {
        let taken = orders::api::import_documents(tx, &documents(invoices, batch, &variants))?;
        let there = taken.already_there as usize;
        if there > 0 && there < invoices.len() {
            return Err(Error::conflict(PARTLY_THERE, "some of the invoices are there already"));
        }
        // A price is observed with the line that it was seen on, and never again.
        if there == 0 {
            let rejected: Vec<&str> = taken.rejected.iter().map(|r| r.external_ref.as_str()).collect();
            let stored = invoices.iter().copied().filter(|invoice| !rejected.contains(&invoice.number.as_str()));
            catalog::api::observe_prices(tx, &observations(stored, batch.currency, &variants))?;
        }
        add(&mut outcome, taken);
    }
    let (booked, booked_minor) = book(tx, batch, &fit, &outcome.taken, &variants)?;
    let now = tx.now();
    let (before, after) = (batch.done_before as i64, (batch.done_before + batch.invoices.len() as u64) as i64);
    tx.must(ADVANCE, (&*batch.fingerprint, before, after, now, batch.currency, booked, booked_minor), || {
        Error::conflict("import.runs_elsewhere", "another process imports the same file for the same tenant; wait for it, or end it")
    })?;
    Ok(outcome)
}

/// Books what the documents that were taken did to stock and money; see [`trade`].
fn book(
    tx: &mut Tx<'_>,
    batch: &Batch,
    invoices: &[&Invoice],
    taken: &[Taken],
    variants: &HashMap<String, VariantRef>,
) -> Result<(i64, i64)> {
    let by_number: HashMap<&str, &Invoice> = invoices.iter().map(|invoice| (invoice.number.as_str(), *invoice)).collect();
    let taken: Vec<(&Taken, &Invoice)> =
        taken.iter().filter_map(|taken| Some((taken, *by_number.get(taken.external_ref.as_str())?))).collect();
    if taken.is_empty() {
        return Ok((0, 0));
    }
    let titles: HashMap<&str, &str> = batch.news.iter().filter_map(|row| Some((row.sku.as_str(), row.title.as_deref()?))).collect();
    let mut codes: Vec<&str> = taken.iter().flat_map(|(_, invoice)| &invoice.lines).map(|line| line.stock_code.as_str()).collect();
    codes.sort_unstable();
    codes.dedup();
    let keep = |code: &&str| Keep {
        sku: (*code).to_owned(),
        name: titles.get(code).map_or_else(String::new, |title| title.chars().take(200).collect()),
        variant_id: variants.get(*code).map(|known| kernel::Id::from_i64(known.variant_id.as_i64())),
    };
    let keep: Vec<Keep> = codes.iter().map(keep).collect();
    trade::stock(tx, &taken, &keep)?;
    trade::payments(tx, &taken, batch.currency)
}

/// Where the batch's stock codes are in the catalog.
fn variants(read: &mut Read<'_>, batch: &Batch) -> Result<HashMap<String, VariantRef>> {
    let lines = batch.invoices.iter().flat_map(|invoice| &invoice.lines);
    let mut codes: Vec<String> = lines.map(|line| line.stock_code.clone()).collect();
    codes.sort_unstable();
    codes.dedup();
    let mut variants = HashMap::with_capacity(codes.len());
    for codes in codes.chunks(MAX_LOOKUP) {
        variants.extend(catalog::api::variants_by_sku(read, codes)?);
    }
    Ok(variants)
}

fn documents(invoices: &[&Invoice], batch: &Batch, variants: &HashMap<String, VariantRef>) -> ImportBatch {
    let mut customers: HashMap<&str, ImportCustomer> = HashMap::new();
    let documents = invoices.iter().map(|invoice| {
        if let Some(customer) = &invoice.customer {
            customers.entry(customer).or_insert_with(|| ImportCustomer {
                external_ref: customer.clone(),
                name: format!("Customer {customer}"),
                email: None,
                country: invoice.country.clone(),
            });
        }
        document(invoice, batch.currency, variants)
    });
    let documents: Vec<ImportDocument> = documents.collect();
    // In the order of their references, so that a replayed command numbers them alike.
    let mut customers: Vec<ImportCustomer> = customers.into_values().collect();
    customers.sort_unstable_by(|a, b| a.external_ref.cmp(&b.external_ref));
    ImportBatch { customers, documents, by: By { actor: Actor::SYSTEM, request_id: None } }
}

fn document(invoice: &Invoice, currency: Currency, variants: &HashMap<String, VariantRef>) -> ImportDocument {
    let line = |line: &super::invoices::InvoiceLine| NewLine {
        line: None,
        sku: line.stock_code.clone(),
        variant_id: variants.get(&line.stock_code).map(|v| kernel::Id::from_i64(v.variant_id.as_i64())),
        description: line.description.clone(),
        quantity: line.quantity,
        unit_price: line.unit_price,
        discount_minor: 0,
        tax_minor: 0,
        included_tax_minor: 0,
        charge: false,
    };
    let first = invoice.lines.first().map_or("", |line| line.description.as_str());
    let (kind, reason) = match invoice.kind {
        Kind::Order => (DocumentKind::Order, ""),
        Kind::CreditNote => (DocumentKind::CreditNote, "Cancellation"),
        Kind::Adjustment => (DocumentKind::Adjustment, if first.is_empty() { "Adjustment" } else { first }),
    };
    ImportDocument {
        kind,
        external_ref: invoice.number.clone(),
        at: invoice.at,
        country: invoice.country.clone(),
        currency,
        customer_ref: invoice.customer.clone(),
        state: State::Closed,
        reason: reason.to_owned(),
        lines: invoice.lines.iter().map(line).collect(),
    }
}

/// The prices of the lines, one row for each variant and price.
fn observations<'a>(
    invoices: impl Iterator<Item = &'a Invoice>,
    currency: Currency,
    variants: &HashMap<String, VariantRef>,
) -> Vec<Observation> {
    let mut seen: HashMap<(VariantId, UnitPrice), (Timestamp, Timestamp, i64)> = HashMap::new();
    for invoice in invoices {
        for line in &invoice.lines {
            let Some(variant) = variants.get(&line.stock_code) else { continue };
            let (first, last, times) = seen.entry((variant.variant_id, line.unit_price)).or_insert((invoice.at, invoice.at, 0));
            *first = (*first).min(invoice.at);
            *last = (*last).max(invoice.at);
            *times += 1;
        }
    }
    let observation = |((variant_id, price), (first_seen, last_seen, times_seen))| Observation {
        variant_id,
        currency,
        price,
        first_seen,
        last_seen,
        times_seen,
    };
    seen.into_iter().map(observation).collect()
}

/// Adds up what became of several batches; of the rejected at most 100 are kept.
pub(crate) fn add(total: &mut ImportOutcome, more: ImportOutcome) {
    total.orders += more.orders;
    total.credit_notes += more.credit_notes;
    total.adjustments += more.adjustments;
    total.lines += more.lines;
    total.customers += more.customers;
    total.already_there += more.already_there;
    let room = 100_usize.saturating_sub(total.rejected.len());
    total.rejected.extend(more.rejected.into_iter().take(room));
    total.taken.extend(more.taken);
}
