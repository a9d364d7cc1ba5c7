//! For flows, importers and the command line: an order in the transaction of what it comes from, many documents in one transaction, and
//! counts of what is stored.

use crate::care::commands as care;
use crate::commands::{self, CreateOrder, Fulfil, Step, emit_customer, emit_note, emit_order};
use crate::customers::Customer;
use crate::model::*;
use crate::write::{self, Registered};
use crate::{queries, sql};
use kernel::{Currency, Error, Faults, Result, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};
use store::{Read, Tx};

pub use crate::care::model::{Hold, Progress};
pub use crate::commands::Outside;
pub use crate::model::{CustomerId, DocumentKind, Line, LineKind, NewLine, OrderHead, OrderId, State, VariantId};
pub use crate::write::By;

/// The most documents of one batch.
pub const MAX_DOCUMENTS: usize = 5_000;
/// Times of imported documents lie from here (1970) to this long after now, in milliseconds.
const AHEAD_MS: i64 = 86_400_000;

/// An order that is placed as it is.
#[derive(Clone, Debug)]
pub struct NewOrder {
    /// Its id, which no order has yet.
    pub order_id: OrderId,
    /// Who buys, if that is a customer.
    pub customer_id: Option<CustomerId>,
    /// Where to: 1 to 64 characters.
    pub country: String,
    /// Of every amount.
    pub currency: Currency,
    /// Its lines.
    pub lines: Vec<NewLine>,
    /// Who places it.
    pub by: By,
}

/// Checks and prices lines as those of an order. Errors: `request.invalid` with every field that is wrong.
pub fn check_lines(currency: Currency, lines: &[NewLine]) -> Result<()> {
    let mut faults = Faults::default();
    price_lines(DocumentKind::Order, currency, lines, 0, &mut faults);
    faults.finish()
}

/// Places orders in the transaction of what they come from, all of them or none: what is the same for all is read and written once.
/// Errors: `request.invalid`.
pub fn place_all(tx: &mut Tx<'_>, all: Vec<NewOrder>) -> Result<Vec<OrderHead>> {
    let create = |new: NewOrder| {
        let mut faults = Faults::default();
        faults.text("country", &new.country, 1, 64);
        let lines = price_lines(DocumentKind::Order, new.currency, &new.lines, 0, &mut faults);
        faults.finish()?;
        let (customer_id, country, currency, by) = (new.customer_id, new.country, new.currency, new.by);
        Ok((new.order_id, CreateOrder { draft: false, external_ref: None, customer_id, country, currency, lines, by }))
    };
    let all = all.into_iter().map(create).collect::<Result<Vec<_>>>()?;
    commands::create_orders_as(tx, &all)
}

/// Calls an order off. Errors: `orders.order_not_found`, `orders.not_allowed`, `orders.has_credit_notes`.
pub fn cancel(tx: &mut Tx<'_>, order_id: OrderId, reason: &str, by: &By) -> Result<OrderHead> {
    commands::cancel_order(tx, &step(order_id, reason, by))
}

fn step(order_id: OrderId, reason: &str, by: &By) -> Step {
    Step { order_id, if_match: web::IfMatch(None), reason: reason.to_owned(), by: by.clone() }
}

/// Records that goods went out: line number to quantity, each above zero; none for everything that remains.
/// Errors: `orders.order_not_found`, `orders.not_allowed`, `orders.over_fulfilment`, `orders.on_hold`.
pub fn fulfil(tx: &mut Tx<'_>, order_id: OrderId, quantities: Option<BTreeMap<u32, i64>>, reason: &str, by: &By) -> Result<OrderHead> {
    commands::fulfil_order(tx, &Fulfil { step: step(order_id, reason, by), quantities })
}

/// Records that goods arrived: line number to quantity, each above zero; none for everything that is under way.
/// Errors: `orders.order_not_found`, `orders.over_delivery`, `orders.nothing_under_way`.
pub fn deliver(tx: &mut Tx<'_>, order_id: OrderId, quantities: Option<BTreeMap<u32, i64>>, reason: &str, by: &By) -> Result<OrderHead> {
    care::deliver(tx, &care::Deliver { step: step(order_id, reason, by), quantities })
}

/// Why an order is on hold, if it is. Errors: `orders.order_not_found`.
pub fn on_hold(read: &mut Read<'_>, order_id: OrderId) -> Result<Option<Hold>> {
    crate::care::queries::hold(read, order_id)
}

/// What became of each line of an order. Errors: `orders.order_not_found`.
pub fn progress(read: &mut Read<'_>, order_id: OrderId) -> Result<Vec<Progress>> {
    crate::care::queries::progress(read, order_id)
}

/// What exchanges have carried over to an order of what came back of others, less what they have carried from it to others; in minor units.
pub fn carried(read: &mut Read<'_>, order_id: OrderId) -> Result<i64> {
    let (carried_minor,) = read.one(crate::returns::sql::CARRIED, (order_id,))?;
    Ok(carried_minor)
}

/// What the goods cost that have left an order, by its lines as they are now, with all that is no goods (charges, corrections) from the
/// first of them on; in minor units. None as long as nothing has left. Parts add up to the order's total, to the minor unit.
pub fn sent_minor(read: &mut Read<'_>, order: &OrderHead) -> Result<Option<i64>> {
    let lines = queries::lines(read, order.order_id.as_i64(), order.lines_version)?;
    let sent = queries::fulfilled(read, order, &lines)?;
    Ok(crate::returns::model::sent_minor(&lines, &sent))
}

/// A customer of another system.
#[derive(Clone, Debug)]
pub struct ImportCustomer {
    /// What the other system calls it: 1 to 128 characters.
    pub external_ref: String,
    /// Its name: 1 to 200 characters.
    pub name: String,
    /// Its e-mail address.
    pub email: Option<String>,
    /// Its country: up to 64 characters.
    pub country: String,
}

/// A document of another system.
#[derive(Clone, Debug)]
pub struct ImportDocument {
    /// What it is.
    pub kind: DocumentKind,
    /// What the other system calls it: 1 to 128 characters, unique over all kinds. Makes the import idempotent.
    pub external_ref: String,
    /// When it was placed or issued.
    pub at: Timestamp,
    /// Where to: 1 to 64 characters.
    pub country: String,
    /// Of every amount.
    pub currency: Currency,
    /// The `external_ref` of its customer, who is in the same batch or stored already.
    pub customer_ref: Option<String>,
    /// Where an order stands: placed, fulfilled or closed. Of no meaning for the other kinds.
    pub state: State,
    /// Why a credit note or an adjustment was issued: 1 to 500 characters. Of no meaning for orders.
    pub reason: String,
    /// Its lines.
    pub lines: Vec<NewLine>,
}

/// What is imported at once.
#[derive(Clone, Debug)]
pub struct ImportBatch {
    /// Customers that the documents name; those that are stored already stay as they are.
    pub customers: Vec<ImportCustomer>,
    /// At most [`MAX_DOCUMENTS`].
    pub documents: Vec<ImportDocument>,
    /// Who imports.
    pub by: By,
}

/// A document that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// Which.
    pub external_ref: String,
    /// Why, with every field that is wrong.
    pub detail: String,
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportOutcome {
    /// New orders.
    pub orders: u64,
    /// New credit notes.
    pub credit_notes: u64,
    /// New adjustments.
    pub adjustments: u64,
    /// Lines of the new documents.
    pub lines: u64,
    /// New customers.
    pub customers: u64,
    /// Documents that were there already.
    pub already_there: u64,
    /// Documents and customers that were not taken; the others of the batch were.
    pub rejected: Vec<Rejected>,
    /// The new documents, in their order.
    #[serde(skip)]
    pub taken: Vec<Taken>,
}

/// A document that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// What the other system calls it.
    pub external_ref: String,
    /// What it is called here: `ord_...`, or as credit notes and adjustments are.
    pub document: String,
    /// What it comes to, in minor units: below zero for what is given back.
    pub total_minor: i64,
}

/// An accepted document on its way into the store.
enum Accepted {
    Order(OrderHead, Vec<Line>),
    Note(NoteHead, Vec<Line>),
}

impl Accepted {
    fn taken(&self, external_ref: &str) -> Taken {
        let (document, total_minor) = match self {
            Accepted::Order(head, _) => (head.order_id.to_string(), head.total_minor),
            Accepted::Note(head, _) => (head.id.clone(), head.total_minor),
        };
        Taken { external_ref: external_ref.to_owned(), document, total_minor }
    }

    fn id_and_lines(&self) -> (i64, &[Line]) {
        match self {
            Accepted::Order(head, lines) => (head.order_id.as_i64(), lines),
            Accepted::Note(head, lines) => (head.note_id, lines),
        }
    }
}

/// Takes a batch in: everything that is valid and new, with the same checks, numbers, changes and events as the HTTP API's commands.
/// Run again it changes nothing. Errors: `request.invalid` when the batch is too large; a document's own fault only rejects it.
pub fn import_documents(tx: &mut Tx<'_>, batch: &ImportBatch) -> Result<ImportOutcome> {
    if batch.documents.len() > MAX_DOCUMENTS {
        return Err(Error::field(
            "documents",
            "too_many",
            format!("{} documents; at most {MAX_DOCUMENTS} in one batch", batch.documents.len()),
        ));
    }
    let mut outcome = ImportOutcome::default();
    // Reads first: each costs PostgreSQL a round trip.
    let set = write::set_based(tx);
    let mut seen = write::taken_refs(tx, batch.documents.iter().map(|d| d.external_ref.clone()))?;
    let customers = import_customers(tx, set, batch, &mut outcome)?;

    let mut fresh = Vec::with_capacity(batch.documents.len());
    for document in &batch.documents {
        if seen.contains(&document.external_ref) {
            outcome.already_there += 1;
            continue;
        }
        match checked(tx.now(), document, &customers) {
            Ok((customer_id, lines, sales)) => {
                seen.insert(document.external_ref.clone());
                fresh.push((document, customer_id, lines, sales));
            }
            Err(error) => outcome.rejected.push(Rejected { external_ref: document.external_ref.clone(), detail: error.to_string() }),
        }
    }

    let mut next = HashMap::new();
    for kind in DocumentKind::ALL {
        let count = fresh.iter().filter(|(document, ..)| document.kind == *kind).count() as i64;
        if count > 0 {
            next.insert(*kind, write::take_numbers(tx, *kind, count)?);
        }
    }
    let mut accepted = Vec::with_capacity(fresh.len());
    for (document, customer_id, lines, sales) in fresh {
        let next = next.entry(document.kind).or_insert(0);
        let number = *next;
        *next += 1;
        outcome.lines += lines.len() as u64;
        let counted = match document.kind {
            DocumentKind::Order => &mut outcome.orders,
            DocumentKind::CreditNote => &mut outcome.credit_notes,
            DocumentKind::Adjustment => &mut outcome.adjustments,
        };
        *counted += 1;
        let document_taken = accept(tx, document, customer_id, number, lines);
        outcome.taken.push(document_taken.taken(&document.external_ref));
        accepted.push((document_taken, sales));
    }
    store_all(tx, set, &accepted, &batch.by)?;
    Ok(outcome)
}

/// Prices a document and finds its customer. Errors: `request.invalid`.
fn checked(
    now: Timestamp,
    document: &ImportDocument,
    customers: &HashMap<&str, CustomerId>,
) -> Result<(Option<CustomerId>, Vec<Line>, Vec<Sales>)> {
    let mut faults = Faults::default();
    faults.text("external_ref", &document.external_ref, 1, 128);
    faults.text("country", &document.country, 1, 64);
    if document.at.micros() < 0 || document.at > now.plus_ms(AHEAD_MS) {
        faults.add("at", "out_of_range", "before 1970 or in the future");
    }
    if document.kind == DocumentKind::Order {
        if !matches!(document.state, State::Placed | State::Fulfilled | State::Closed) {
            faults.add("state", "not_importable", "an imported order is placed, fulfilled or closed");
        }
    } else {
        faults.text("reason", &document.reason, 1, 500);
    }
    let customer_id = match &document.customer_ref {
        None => None,
        Some(reference) => {
            let found = customers.get(reference.as_str()).copied();
            if found.is_none() {
                faults.add("customer_ref", "unknown", "the customer is neither stored nor in the batch");
            }
            found
        }
    };
    let lines = price_lines(document.kind, document.currency, &document.lines, 0, &mut faults);
    faults.finish()?;
    let sales = sales_difference(document.at, document.currency, None, Some((&document.country, &lines)));
    fits_event(&sales)?;
    Ok((customer_id, lines, sales))
}

fn accept(tx: &Tx<'_>, document: &ImportDocument, customer_id: Option<CustomerId>, number: i64, lines: Vec<Line>) -> Accepted {
    let now = tx.now();
    let totals = Totals::of(&lines);
    if document.kind == DocumentKind::Order {
        let mut head = OrderHead {
            order_id: tx.new_id(),
            number,
            state: document.state,
            version: 1,
            lines_version: 1,
            external_ref: Some(document.external_ref.clone()),
            customer_id,
            country: document.country.clone(),
            currency: document.currency,
            line_count: 0,
            extended: Default::default(),
            discount_minor: 0,
            tax_minor: 0,
            total_minor: 0,
            credited_minor: 0,
            placed_at: Some(document.at),
            created_at: now,
            updated_at: now,
        };
        head.set_totals(totals);
        return Accepted::Order(head, lines);
    }
    let note_id = tx.new_id::<CreditNoteEntity>().as_i64();
    let mut head = NoteHead {
        note_id,
        id: NoteHead::wire_id(document.kind, note_id),
        kind: document.kind,
        number,
        external_ref: Some(document.external_ref.clone()),
        order_id: None,
        customer_id,
        country: document.country.clone(),
        currency: document.currency,
        reason: document.reason.clone(),
        line_count: 0,
        extended: Default::default(),
        discount_minor: 0,
        tax_minor: 0,
        total_minor: 0,
        issued_at: document.at,
        created_at: now,
    };
    head.set_totals(totals);
    Accepted::Note(head, lines)
}

fn store_all(tx: &mut Tx<'_>, set: bool, accepted: &[(Accepted, Vec<Sales>)], by: &By) -> Result<()> {
    let mut orders = Vec::new();
    let mut registered = Vec::with_capacity(accepted.len());
    for (document, _) in accepted {
        registered.push(match document {
            Accepted::Order(head, _) => {
                orders.push(head);
                Registered::order(head)
            }
            Accepted::Note(head, _) => {
                write::note(tx, head, by)?;
                Registered { kind: head.kind, document_id: head.note_id, number: head.number, external_ref: head.external_ref.as_deref() }
            }
        });
    }
    write::orders(tx, set, &orders)?;
    let changes: Vec<(&OrderHead, &By)> = orders.iter().map(|head| (*head, by)).collect();
    write::first_changes(tx, set, "imported", &changes)?;
    write::register_all(tx, set, &registered)?;
    let lines: Vec<(i64, &[Line])> = accepted.iter().map(|(document, _)| document.id_and_lines()).collect();
    write::lines_of(tx, set, 1, &lines)?;
    for (document, sales) in accepted {
        match document {
            Accepted::Order(head, _) => emit_order(tx, "order.placed", head, sales, None),
            Accepted::Note(head, _) => emit_note(tx, head, sales),
        }
    }
    Ok(())
}

/// Stores the batch's customers that are new; returns the ids of all that the batch names.
fn import_customers<'a>(
    tx: &mut Tx<'_>,
    set: bool,
    batch: &'a ImportBatch,
    outcome: &mut ImportOutcome,
) -> Result<HashMap<&'a str, CustomerId>> {
    let named =
        batch.documents.iter().filter_map(|d| d.customer_ref.as_deref()).chain(batch.customers.iter().map(|c| c.external_ref.as_str()));
    let named: HashSet<&str> = named.collect();
    if named.is_empty() {
        return Ok(HashMap::new());
    }
    let wanted: Vec<String> = named.iter().map(|r| (*r).to_owned()).collect();
    let mut ids = HashMap::with_capacity(named.len());
    for (reference, customer_id) in tx.all::<(String, CustomerId)>(sql::CUSTOMERS_BY_REFS, (wanted,))? {
        if let Some(reference) = named.get(reference.as_str()) {
            ids.insert(*reference, customer_id);
        }
    }
    let now = tx.now();
    let mut new = Vec::new();
    for customer in &batch.customers {
        if ids.contains_key(customer.external_ref.as_str()) {
            continue;
        }
        if let Err(error) = check_customer(customer) {
            outcome.rejected.push(Rejected { external_ref: customer.external_ref.clone(), detail: error.to_string() });
            continue;
        }
        let customer_id: CustomerId = tx.new_id();
        ids.insert(&customer.external_ref, customer_id);
        new.push(Customer {
            customer_id,
            external_ref: Some(customer.external_ref.clone()),
            name: customer.name.clone(),
            email: customer.email.clone(),
            country: customer.country.clone(),
            version: 1,
            created_at: now,
            updated_at: now,
        });
    }
    outcome.customers = new.len() as u64;
    write::customers(tx, set, &new)?;
    for customer in &new {
        emit_customer(tx, "customer.created", customer);
    }
    Ok(ids)
}

fn check_customer(customer: &ImportCustomer) -> Result<()> {
    let mut faults = Faults::default();
    faults.text("external_ref", &customer.external_ref, 1, 128);
    faults.text("name", &customer.name, 1, 200);
    if let Some(email) = &customer.email {
        faults.email("email", email);
    }
    faults.text("country", &customer.country, 0, 64);
    faults.finish()
}

/// What a kind of document comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KindSummary {
    /// How many documents.
    pub documents: i64,
    /// How many lines they have.
    pub lines: i64,
    /// The exact sum in micros.
    pub extended_micros: i64,
    /// The sum of the lines' totals in minor units.
    pub total_minor: i64,
}

/// What a country comes to, in one currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CountrySummary {
    /// As the documents have it.
    pub country: String,
    /// Of the amounts.
    pub currency: Currency,
    /// How many lines.
    pub lines: i64,
    /// The exact sum in micros.
    pub extended_micros: i64,
    /// The sum of the lines' totals in minor units.
    pub total_minor: i64,
}

/// What a tenant's documents come to, counted from what is stored. Drafts and cancelled orders do not count. Amounts of different
/// currencies are added up as they are; `by_country` keeps them apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Lines of all documents.
    pub lines: i64,
    /// Orders.
    pub orders: KindSummary,
    /// Credit notes.
    pub credit_notes: KindSummary,
    /// Adjustments.
    pub adjustments: KindSummary,
    /// Customers.
    pub customers: i64,
    /// Different countries of documents.
    pub countries: i64,
    /// Different SKUs of lines, case-sensitive.
    pub stock_codes: i64,
    /// The exact sum of all lines in micros.
    pub extended_total_micros: i64,
    /// The sum of all lines' totals in minor units.
    pub rounded_total_minor: i64,
    /// At most 1,000, sorted.
    pub by_country: Vec<CountrySummary>,
}

/// Counts a tenant's documents. Reads every line: for tools, not for requests.
pub fn summary(read: &mut Read<'_>) -> Result<Summary> {
    let mut summary = Summary::default();
    let kinds: Vec<(DocumentKind, i64, i64, i64, i64)> = read.all(sql::COUNT_DOCUMENTS, ())?;
    for (kind, documents, lines, extended_micros, total_minor) in kinds {
        let slot = match kind {
            DocumentKind::Order => &mut summary.orders,
            DocumentKind::CreditNote => &mut summary.credit_notes,
            DocumentKind::Adjustment => &mut summary.adjustments,
        };
        *slot = KindSummary { documents, lines, extended_micros, total_minor };
    }
    (summary.lines, summary.stock_codes, summary.extended_total_micros, summary.rounded_total_minor) = read.one(sql::COUNT_LINES, ())?;
    (summary.customers,) = read.one(sql::COUNT_CUSTOMERS, ())?;
    let countries: Vec<(String, Currency, i64, i64, i64)> = read.all(sql::COUNT_BY_COUNTRY, ())?;
    summary.by_country = countries
        .into_iter()
        .map(|(country, currency, lines, extended_micros, total_minor)| CountrySummary {
            country,
            currency,
            lines,
            extended_micros,
            total_minor,
        })
        .collect();
    summary.countries = summary.by_country.iter().map(|c| &c.country).collect::<HashSet<_>>().len() as i64;
    Ok(summary)
}

/// Whether the tenant has this customer.
pub fn customer_exists(read: &mut Read<'_>, customer_id: CustomerId) -> Result<bool> {
    let found: Option<(CustomerId,)> = read.opt(sql::KNOWN_CUSTOMERS, (vec![customer_id.as_i64()],))?;
    Ok(found.is_some())
}

/// An order's head, if there is such an order.
pub fn head(read: &mut Read<'_>, order_id: OrderId) -> Result<Option<OrderHead>> {
    read.opt(sql::ORDER, (order_id,))
}

/// The heads of those orders that there are, in no order. At most some thousands at once.
pub fn heads(read: &mut Read<'_>, order_ids: &[OrderId]) -> Result<Vec<OrderHead>> {
    let ids: Vec<i64> = order_ids.iter().map(|order_id| order_id.as_i64()).collect();
    read.all(sql::ORDERS_BY_ID, (ids,))
}

/// What a document comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DocumentTotal {
    /// Of the amount.
    pub currency: Currency,
    /// In minor units; below zero for what is given back.
    pub total_minor: i64,
    /// Whether it stands as it was placed or issued.
    pub unchanged: bool,
}

/// What those of the documents come to that there are: orders, credit notes and adjustments by their ids. At most some thousands at once.
pub fn totals(read: &mut Read<'_>, documents: &[String]) -> Result<HashMap<String, DocumentTotal>> {
    let order_ids: Vec<OrderId> = documents.iter().filter_map(|id| id.parse().ok()).collect();
    let mut totals = HashMap::with_capacity(documents.len());
    for head in heads(read, &order_ids)? {
        let total = DocumentTotal { currency: head.currency, total_minor: head.total_minor, unchanged: head.version == 1 };
        totals.insert(head.order_id.to_string(), total);
    }
    let credit_notes = documents.iter().filter_map(|id| id.parse().ok()).map(CreditNoteId::as_i64).collect();
    let adjustments = documents.iter().filter_map(|id| id.parse().ok()).map(AdjustmentId::as_i64).collect();
    let kinds: [(DocumentKind, Vec<i64>); 2] = [(DocumentKind::CreditNote, credit_notes), (DocumentKind::Adjustment, adjustments)];
    for (kind, ids) in kinds.into_iter().filter(|(_, ids)| !ids.is_empty()) {
        for (note_id, currency, total_minor) in read.all::<(i64, Currency, i64)>(sql::NOTE_TOTALS, (kind, ids))? {
            totals.insert(NoteHead::wire_id(kind, note_id), DocumentTotal { currency, total_minor, unchanged: true });
        }
    }
    Ok(totals)
}
