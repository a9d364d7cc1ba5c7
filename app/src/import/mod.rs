//! `brandos import online-retail`: a file of invoice lines becomes catalog, customers, orders, credit notes and adjustments, with the stock
//! that they moved and the payments that they were settled by.
//!
//! One thread reads and parses; batches go through a short queue to the tenant's lane, each one transaction with the place that the
//! import has reached. So a kill at any moment loses at most the batch in flight, and the next run goes on after the last one that
//! was committed. Documents that are there already, from another file or before, are not taken again.

mod audit;
mod batch;
mod invoices;
mod lines;
mod trade;

use crate::cli;
use crate::config::Config;
use crate::exit::{Exit, Failure, Outcome};
use crate::input;
use crate::output::{Output, grouped, major_from_micros};
use crate::wiring::{Node, Use};
use batch::{Batch, Look, PARTLY_THERE};
use catalog::api::UpsertRow;
use indicatif::ProgressBar;
use inventory::api::{Moved, MovementKind};
use invoices::{Invoices, Odd};
use kernel::{Currency, TenantId};
use orders::api::{ImportOutcome, Summary};
use payments::api::RecordSum;
use std::collections::HashMap;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use store::{Call, Engine};
use tokio::sync::mpsc;

/// A batch is sent when it has so many lines or invoices.
/// The larger, the fewer times a batch looks up the same stock codes and writes the same pages; and the more memory it takes.
const BATCH_LINES: usize = 48_000;
/// The same on PostgreSQL, where other nodes wait for the lane meanwhile.
const SHARED_BATCH_LINES: usize = 16_000;
const BATCH_INVOICES: usize = 4_000;
const _: () = assert!(BATCH_INVOICES <= orders::api::MAX_DOCUMENTS);
/// How long a batch may take, far more than it does.
const BATCH_DEADLINE_MS: u32 = 120_000;
/// How long the consumers may take to catch up at the end.
const CATCH_UP: Duration = Duration::from_secs(600);
/// The longest that counting may take: it reads everything that the tenant has.
const SUMMARY_MS: u32 = 10 * 60 * 1_000;
/// Part of each fingerprint: raised when invoices come in another order or are understood in another way.
const VERSION: &str = "online-retail/1";

const MIGRATIONS: &[store::Migration] = &[
    store::Migration { number: 1, name: "imports", sql: include_str!("../../migrations/0001_imports.sql") },
    store::Migration { number: 2, name: "trade", sql: include_str!("../../migrations/0002_trade.sql") },
];

/// The importer's own table, as a module without routes.
pub(crate) fn module() -> web::Module {
    let statement = |name, sql| web::Statement::new(name, sql, web::InScope::Tenant);
    web::Module {
        statements: vec![
            statement("DONE", batch::DONE),
            statement("BEGIN", batch::BEGIN),
            statement("ADVANCE", batch::ADVANCE),
            statement("PLACE_OF", trade::PLACE_OF),
            statement("SET_PLACE", trade::SET_PLACE),
            statement("BOOKED", audit::BOOKED),
        ],
        audits: vec![audit::AUDIT],
        ..web::Module::new("imports", MIGRATIONS)
    }
}

/// Imports the file, waits until the projections have caught up, and reports what is stored.
pub(crate) async fn online_retail(config: Config, import: cli::OnlineRetail, out: Output) -> Outcome<Exit> {
    let currency: Currency = import.currency.parse()?;
    let fingerprint = fingerprint(&import.file, currency)?;
    let source = import.file.file_name().map_or_else(String::new, |name| name.to_string_lossy().chars().take(200).collect());
    let size = std::fs::metadata(&import.file).map_or(0, |m| m.len());

    let node = Node::open(config, Use::Write("import"))?;
    let tenant = crate::admin::tenant_or_new(&node, &import.tenant, out).await?;
    let log = node.start_log().await?;
    let done = node.store.write(tenant, batch::begin, (fingerprint.clone(), source)).await?;
    if done > 0 {
        out.note(format!("going on after {} invoices that are imported already", grouped(done as i64)));
    }

    let bar = out.progress(size, "{msg} {wide_bar} {bytes}/{total_bytes} {elapsed}");
    bar.set_message("importing");
    let (path, read) = (import.file.clone(), bar.clone());
    let mut outcome = ImportOutcome::default();
    let most_lines = match node.store.engine(0) {
        Engine::Sqlite => BATCH_LINES,
        Engine::Postgres => SHARED_BATCH_LINES,
    };
    let read = move |batches: &mpsc::Sender<Batch>| read_file(&path, read, &fingerprint, currency, done, most_lines, batches);
    let fed = input::feed(read, async |batch| {
        let taken = write(&node, tenant, batch).await?;
        // Which they were the batch itself has used; here they would only be kept.
        batch::add(&mut outcome, ImportOutcome { taken: Vec::new(), ..taken });
        Ok(())
    });
    let fed = fed.await;
    bar.finish_and_clear();
    let odd = fed?;

    let bar = out.progress(0, "{msg} {elapsed}");
    bar.set_message("waiting for the projections");
    tokio::time::timeout(CATCH_UP, log.drained()).await.map_err(|_| {
        Failure::new(
            Exit::Unavailable,
            "import.not_caught_up",
            "the import is done, but the projections have not caught up; look at brandos audit",
        )
    })??;
    log.stop().await;
    if outcome.orders + outcome.credit_notes + outcome.adjustments > 0 {
        bar.set_message("letting the planner know");
        node.store.analyze(node.store.shard_of(tenant)).await?;
    }
    bar.set_message("counting what is stored");
    let counted = move |read: &mut store::Read<'_>| {
        let place: Option<(inventory::LocationId,)> = read.opt(trade::PLACE_OF, ())?;
        let stock = place.map(|(location_id,)| inventory::api::moved(read, location_id)).transpose()?.unwrap_or_default();
        let books = payments::api::record_sums(read, trade::SOURCE)?.into_iter().find(|sum| sum.currency == currency);
        Ok((orders::api::summary(read)?, Booked::new(&stock, books)))
    };
    let (summary, booked) = node.store.read_within(tenant, SUMMARY_MS, counted).await?;
    bar.finish_and_clear();
    node.close().await;

    report(out, currency, &outcome, &odd, &summary, &booked);
    Ok(if outcome.rejected.is_empty() { Exit::Ok } else { Exit::CheckFailed })
}

/// Writes a batch; when some of its invoices came from another file, invoice by invoice.
async fn write(node: &Node, tenant: TenantId, batch: Batch) -> Outcome<ImportOutcome> {
    let call = Call::new(tenant).deadline_ms(BATCH_DEADLINE_MS).bytes(batch.bytes());
    let batch = Arc::new(batch);
    let whole = (batch.clone(), Look::AtTheBatch);
    match node.store.write(call.clone(), batch::import_batch, whole).await {
        Err(error) if error.code() == PARTLY_THERE => Ok(node.store.write(call, batch::import_batch, (batch, Look::AtEachInvoice)).await?),
        other => Ok(other?),
    }
}

/// Names the file's content together with how it is understood.
fn fingerprint(path: &Path, currency: Currency) -> Outcome<Arc<str>> {
    let mut file =
        std::fs::File::open(path).map_err(|e| Failure::new(Exit::Usage, "cli.file", format!("cannot open {}: {e}", path.display())))?;
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(VERSION.as_bytes());
    context.update(currency.code().as_bytes());
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let n = file.read(&mut buffer).map_err(|e| Failure::file("cannot read", path, &e))?;
        if n == 0 {
            break;
        }
        context.update(&buffer[..n]);
    }
    Ok(context.finish().as_ref().iter().map(|b| format!("{b:02x}")).collect::<String>().into())
}

/// Reads the whole file, and sends what comes after the first `done` invoices in batches. Says what was odd about all of it.
fn read_file(
    path: &Path,
    bar: ProgressBar,
    fingerprint: &Arc<str>,
    currency: Currency,
    done: u64,
    most_lines: usize,
    batches: &mpsc::Sender<Batch>,
) -> Outcome<Odd> {
    let mut invoices = Invoices::new(lines::open(path, move |bytes| bar.inc(bytes))?);
    let mut codes = StockCodes::default();
    let empty =
        |done_before| Batch { fingerprint: fingerprint.clone(), currency, done_before, invoices: Vec::new(), lines: 0, news: Vec::new() };
    let mut batch = empty(done);
    let mut number = 0;
    while let Some(invoice) = invoices.next()? {
        number += 1;
        let skipped = number <= done;
        for line in &invoice.lines {
            let news = codes.meet(&line.stock_code, &line.description);
            batch.news.extend(news.filter(|_| !skipped));
        }
        if skipped {
            continue;
        }
        batch.lines += invoice.lines.len();
        batch.invoices.push(invoice);
        if batch.lines >= most_lines || batch.invoices.len() >= BATCH_INVOICES {
            let full = std::mem::replace(&mut batch, empty(number));
            if batches.blocking_send(full).is_err() {
                return Ok(invoices.odd().clone());
            }
        }
    }
    if !batch.invoices.is_empty() {
        // A receiver that has gone away has its own reason to tell.
        let _ = batches.blocking_send(batch);
    }
    Ok(invoices.odd().clone())
}

/// Which stock codes the file has named so far, and whether it has described them: the first description is the title.
#[derive(Default)]
struct StockCodes(HashMap<String, bool>);

impl StockCodes {
    /// What the catalog is to be told of a line's stock code, if it is news.
    fn meet(&mut self, code: &str, description: &str) -> Option<UpsertRow> {
        let described = !description.is_empty();
        match self.0.get_mut(code) {
            Some(known) if *known || !described => return None,
            Some(known) => *known = true,
            None => _ = self.0.insert(code.to_owned(), described),
        }
        Some(UpsertRow { sku: code.to_owned(), title: described.then(|| description.to_owned()), ..UpsertRow::default() })
    }
}

/// What is stored of stock, in units, and of payments.
struct Booked {
    items: i64,
    received: i64,
    sold: i64,
    written_off: i64,
    returned: i64,
    on_hand: i64,
    records: i64,
    in_minor: i64,
    out_minor: i64,
}

impl Booked {
    fn new(stock: &Moved, books: Option<RecordSum>) -> Booked {
        let units = |kind| stock.by_kind.get(&kind).map_or(0, |(_, on_hand): &(i64, i64)| on_hand.abs());
        Booked {
            items: stock.levels,
            received: units(MovementKind::Received),
            sold: units(MovementKind::Shipped),
            written_off: units(MovementKind::WrittenOff),
            returned: units(MovementKind::Returned),
            on_hand: stock.on_hand,
            records: books.map_or(0, |sum| sum.records),
            in_minor: books.map_or(0, |sum| sum.in_minor),
            out_minor: books.map_or(0, |sum| sum.out_minor),
        }
    }
}

fn report(out: Output, currency: Currency, outcome: &ImportOutcome, odd: &Odd, summary: &Summary, booked: &Booked) {
    let stored = [
        ("lines", grouped(summary.lines)),
        ("invoices", grouped(summary.orders.documents + summary.credit_notes.documents + summary.adjustments.documents)),
        ("orders", format!("{:>12}  {:>16}", grouped(summary.orders.documents), major_from_micros(summary.orders.extended_micros.into()))),
        (
            "credit notes",
            format!(
                "{:>12}  {:>16}",
                grouped(summary.credit_notes.documents),
                major_from_micros(summary.credit_notes.extended_micros.into())
            ),
        ),
        (
            "adjustments",
            format!(
                "{:>12}  {:>16}",
                grouped(summary.adjustments.documents),
                major_from_micros(summary.adjustments.extended_micros.into())
            ),
        ),
        ("stock codes", grouped(summary.stock_codes)),
        ("customers", grouped(summary.customers)),
        ("countries", grouped(summary.countries)),
        ("extended total", major_from_micros(summary.extended_total_micros.into())),
        ("rounded total", minor(summary.rounded_total_minor, currency)),
        ("payments", format!("{:>12}  {:>16}", grouped(booked.records), minor(booked.in_minor - booked.out_minor, currency))),
        ("units received", grouped(booked.received)),
        ("units sold", grouped(booked.sold)),
        ("units returned", grouped(booked.returned)),
        ("units lost", grouped(booked.written_off)),
        ("units on hand", grouped(booked.on_hand)),
    ];
    let new = outcome.orders + outcome.credit_notes + outcome.adjustments;
    out.line(format!(
        "imported {} invoices with {} lines; {} were there already",
        grouped(new as i64),
        grouped(outcome.lines as i64),
        grouped(odd.invoices_read as i64 - new as i64)
    ));
    out.line("stored now:");
    for (name, value) in stored {
        out.line(format!("  {name:<15} {value:>12}"));
    }
    out.line("odd in the file, and imported as it is:");
    if let Ok(serde_json::Value::Object(odd)) = serde_json::to_value(odd) {
        for (name, count) in odd.iter().filter(|(name, count)| !name.ends_with("_read") && count.as_u64() != Some(0)) {
            out.line(format!("  {:<30} {:>9}", name.replace('_', " "), grouped(count.as_i64().unwrap_or_default())));
        }
    }
    for rejected in &outcome.rejected {
        out.line(format!("  NOT IMPORTED: invoice {}: {}", rejected.external_ref, rejected.detail));
    }
    out.value(&answer(currency, outcome, odd, summary, booked));
}

/// The last line with `--json`: counted from what is stored. Amounts are decimal texts, exact.
fn answer(currency: Currency, outcome: &ImportOutcome, odd: &Odd, summary: &Summary, booked: &Booked) -> serde_json::Value {
    let mut by_country: HashMap<&str, i128> = HashMap::new();
    for country in &summary.by_country {
        *by_country.entry(&country.country).or_default() += i128::from(country.extended_micros);
    }
    let by_country: serde_json::Map<String, serde_json::Value> =
        by_country.into_iter().map(|(country, micros)| (country.to_owned(), major_from_micros(micros).into())).collect();
    serde_json::json!({
        "lines": summary.lines,
        "invoices": summary.orders.documents + summary.credit_notes.documents + summary.adjustments.documents,
        "orders": summary.orders.documents,
        "credit_notes": summary.credit_notes.documents,
        "adjustments": summary.adjustments.documents,
        "stock_codes": summary.stock_codes,
        "customers": summary.customers,
        "countries": summary.countries,
        "extended_total": major_from_micros(summary.extended_total_micros.into()),
        "rounded_total": minor(summary.rounded_total_minor, currency),
        "orders_total": major_from_micros(summary.orders.extended_micros.into()),
        "credit_notes_total": major_from_micros(summary.credit_notes.extended_micros.into()),
        "adjustments_total": major_from_micros(summary.adjustments.extended_micros.into()),
        "by_country": by_country,
        "stock": {
            "items": booked.items, "received": booked.received, "sold": booked.sold, "written_off": booked.written_off,
            "returned": booked.returned, "on_hand": booked.on_hand,
        },
        "payments": {
            "records": booked.records, "taken": minor(booked.in_minor, currency),
            "given_back": minor(booked.out_minor, currency),
            "kept": minor(booked.in_minor - booked.out_minor, currency),
        },
        "this_run": outcome,
        "odd": odd,
    })
}

/// Minor units as text.
fn minor(minor: i64, currency: Currency) -> String {
    major_from_micros(i128::from(minor) * 1_000_000 / i128::from(currency.minor_per_major()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stock_code_is_news_when_it_is_named_and_when_it_is_described() {
        let mut codes = StockCodes::default();
        let mut met = |code: &str, description: &str| codes.meet(code, description).map(|row| row.title);
        assert_eq!(met("a", ""), Some(None));
        assert_eq!(met("a", ""), None);
        assert_eq!(met("a", "Lantern"), Some(Some("Lantern".to_owned())));
        assert_eq!(met("a", "Another"), None);
        assert_eq!(met("A", "Lantern"), Some(Some("Lantern".to_owned())));
    }
}
