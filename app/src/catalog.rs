//! `brandos catalog`: files of a tenant's whole catalog, of any size, brought in by the command of the API and written again.
//!
//! One thread reads and parses a few batches ahead of the lane that writes. Each batch is one transaction, and a row that says what is
//! there already writes nothing: so an import that was stopped, at whatever moment, is simply run again.

use crate::cli;
use crate::config::Config;
use crate::exit::{Exit, Failure, Outcome};
use crate::input;
use crate::output::{Output, grouped};
use crate::wiring::{Node, Use};
use catalog::api::{
    By, CSV_HEADER, Format, ImportReport, ImportRow, RowOutcome, RowProblem, Rows, UpsertBatch, export_page, upsert_variants,
};
use indicatif::ProgressBar;
use serde::Serialize;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use store::{Call, Engine, Tx};
use tokio::sync::mpsc;

/// Batches of rows that are written in one transaction. SQLite, where nobody else is waiting, writes each page that a transaction has
/// touched once: SKUs in no order touch a page of their index each, so large transactions save most of that. On PostgreSQL others wait.
const TOGETHER: usize = 16;
const TOGETHER_BESIDE_OTHERS: usize = 2;
/// How long a transaction may take, far more than it does.
const DEADLINE_MS: u32 = 120_000;
/// About what a row takes in memory, in bytes.
const ROW_BYTES: usize = 300;
/// Variants of one read of an export, and how long that may take.
const PAGE: u32 = 2_000;
const PAGE_MS: u32 = 60_000;

/// `brandos catalog ...`.
pub(crate) async fn run(config: Config, command: cli::Catalog, out: Output) -> Outcome<Exit> {
    match command {
        cli::Catalog::Import { file, tenant, format } => import(config, &file, &tenant, format, out).await,
        cli::Catalog::Export { tenant, format } => export(config, &tenant, format, out).await,
    }
}

/// Rows that are written together, with their lines.
type Part = Vec<(Vec<u64>, Arc<UpsertBatch>)>;

/// A part of the file as it was read.
struct Parsed {
    part: Part,
    /// Rows of it that are wrong by themselves.
    refused: ImportReport,
}

/// The last line of an import with `--json`.
#[derive(Serialize)]
struct Done<'a> {
    ok: bool,
    seconds: f64,
    #[serde(flatten)]
    report: &'a ImportReport,
}

async fn import(config: Config, file: &Path, tenant: &str, format: Option<cli::CatalogFormat>, out: Output) -> Outcome<Exit> {
    let format = match format {
        Some(cli::CatalogFormat::Csv) => Format::Csv,
        Some(cli::CatalogFormat::Ndjson) => Format::Ndjson,
        None => by_name(file)?,
    };
    let size = std::fs::metadata(file).map_or(0, |m| m.len());
    let node = Node::open(config, Use::Write("catalog import"))?;
    let tenant = crate::admin::find(&node, tenant).await?.id;
    let bar = out.progress(size, "{msg} {wide_bar} {bytes}/{total_bytes} {elapsed}");
    bar.set_message("importing");
    let begun = Instant::now();
    let (path, shown) = (file.to_owned(), bar.clone());
    let together = if node.store.engine(node.store.shard_of(tenant)) == Engine::Sqlite { TOGETHER } else { TOGETHER_BESIDE_OTHERS };
    let read = move |parts: &mpsc::Sender<Parsed>| read_file(&path, format, together, shown, parts);
    let mut report = ImportReport::default();
    let fed = input::feed(read, async |Parsed { part, refused }| {
        report.absorb(refused);
        let rows: usize = part.iter().map(|(lines, _)| lines.len()).sum();
        let call = Call::new(tenant).deadline_ms(DEADLINE_MS).bytes(rows * ROW_BYTES);
        let batches = Together(part.iter().map(|(_, batch)| batch.clone()).collect());
        let outcomes = node.store.write(call, upsert_all, batches).await?;
        for ((lines, _), outcomes) in part.iter().zip(outcomes) {
            bar.suspend(|| report.take_problems().iter().for_each(|problem| tell(problem, out)));
            report.add(lines, outcomes);
        }
        Ok(())
    });
    let fed = fed.await;
    bar.suspend(|| report.take_problems().iter().for_each(|problem| tell(problem, out)));
    bar.finish_and_clear();
    fed?;
    let seconds = begun.elapsed().as_secs_f64();
    node.store.analyze(node.store.shard_of(tenant)).await?;
    node.close().await;
    let count = |n: u64| grouped(n as i64);
    out.line(format!(
        "{} rows in {seconds:.1} s ({} a second): {} new, {} changed, {} as they were, {} refused",
        count(report.rows),
        count((report.rows as f64 / seconds.max(0.001)) as u64),
        count(report.created),
        count(report.updated),
        count(report.unchanged),
        count(report.rejected)
    ));
    out.value(&Done { ok: report.rejected == 0, seconds, report: &report });
    Ok(if report.rejected == 0 { Exit::Ok } else { Exit::CheckFailed })
}

/// Batches of one transaction.
struct Together(Vec<Arc<UpsertBatch>>);

/// Each in its order.
fn upsert_all(tx: &mut Tx<'_>, batches: &Together) -> kernel::Result<Vec<Vec<RowOutcome>>> {
    batches.0.iter().map(|batch| upsert_variants(tx, batch)).collect()
}

/// What is wrong with a row, on a line of its own.
fn tell(problem: &RowProblem, out: Output) {
    let RowProblem { line, field, code, detail } = problem;
    out.line(format!("line {line}: {field}: {detail} ({code})"));
    out.value(problem);
}

/// By the end of its name, before `.gz`. Errors: `cli.usage`.
fn by_name(file: &Path) -> Outcome<Format> {
    let name = file.to_string_lossy().to_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    if name.ends_with(".csv") {
        return Ok(Format::Csv);
    }
    if name.ends_with(".ndjson") || name.ends_with(".jsonl") {
        return Ok(Format::Ndjson);
    }
    Err(Failure::usage("the file's name ends neither in .csv nor in .ndjson: say --format"))
}

/// Reads the whole file and sends it in parts.
fn read_file(path: &Path, format: Format, together: usize, bar: ProgressBar, parts: &mpsc::Sender<Parsed>) -> Outcome<()> {
    let mut rows = Rows::stream(format, input::open(path, move |bytes| bar.inc(bytes))?)?;
    loop {
        let mut refused = ImportReport::default();
        let mut part: Part = Vec::with_capacity(together);
        while part.len() < together
            && let Some((lines, rows)) = rows.next_batch(&mut refused)?
        {
            part.push((lines, Arc::new(UpsertBatch { rows, by: By::SYSTEM })));
        }
        let last = part.len() < together;
        // A receiver that has gone away has its own reason to tell.
        if parts.blocking_send(Parsed { part, refused }).is_err() || last {
            return Ok(());
        }
    }
}

async fn export(config: Config, tenant: &str, format: cli::CatalogFormat, out: Output) -> Outcome<Exit> {
    let node = Node::open(config, Use::Read("catalog export"))?;
    let tenant = crate::admin::find(&node, tenant).await?.id;
    let mut file = BufWriter::new(std::io::stdout());
    let csv = format == cli::CatalogFormat::Csv && !out.is_json();
    let mut wanted = still_wanted(if csv { write_cells(&mut file, &CSV_HEADER) } else { Ok(()) })?;
    let (mut after, mut count) = (None, 0_u64);
    while wanted && let Some((rows, last)) = node.store.read_within(tenant, PAGE_MS, move |read| export_page(read, after, PAGE)).await? {
        let write = |row: &ImportRow| if csv { write_cells(&mut file, &row.cells()) } else { write_line(&mut file, row) };
        wanted = still_wanted(rows.iter().try_for_each(write))?;
        (after, count) = (Some(last), count + rows.len() as u64);
    }
    if wanted {
        still_wanted(file.flush())?;
    }
    out.note(format!("{} rows", grouped(count as i64)));
    out.value(&serde_json::json!({ "ok": true, "rows": count }));
    node.close().await;
    Ok(Exit::Ok)
}

/// A reader that has gone away wants no more, which is no error; a disk that is full is one. Errors: `cli.file`.
fn still_wanted(written: std::io::Result<()>) -> Outcome<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::file("cannot write", Path::new("stdout"), &error)),
    }
}

fn write_line(file: &mut impl Write, row: &ImportRow) -> std::io::Result<()> {
    serde_json::to_writer(&mut *file, row)?;
    file.write_all(b"\n")
}

/// A line of CSV (RFC 4180, with line feeds).
fn write_cells(file: &mut impl Write, cells: &[&str]) -> std::io::Result<()> {
    for (i, cell) in cells.iter().enumerate() {
        if i > 0 {
            file.write_all(b",")?;
        }
        if cell.contains([',', '"', '\n', '\r']) {
            write!(file, "\"{}\"", cell.replace('"', "\"\""))?;
        } else {
            file.write_all(cell.as_bytes())?;
        }
    }
    file.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_they_must_be() {
        let mut file = Vec::new();
        write_cells(&mut file, &["a", "", "b,c", "say \"hi\"", "two\nlines"]).unwrap();
        assert_eq!(String::from_utf8(file).unwrap(), "a,,\"b,c\",\"say \"\"hi\"\"\",\"two\nlines\"\n");
    }

    #[test]
    fn formats_by_the_end_of_the_name() {
        let of = |name: &str| by_name(Path::new(name)).ok();
        assert_eq!(
            [of("a.csv"), of("A.CSV.gz"), of("a.jsonl"), of("a.ndjson.gz")],
            [Some(Format::Csv), Some(Format::Csv), Some(Format::Ndjson), Some(Format::Ndjson)]
        );
        assert_eq!([of("csv"), of("a.json"), of("a.gz")], [None, None, None]);
    }
}
