//! Goes through a settlement file with bounded memory, and writes down what it found.
//!
//! Memory is bounded by passes: rows and operations are parted by their payment, each pass takes one part of both, sorts it and compares
//! payment by payment. What is kept over all passes is what differs, and the ids of what was seen.
//!
//! A run that breaks off is gone on with by sending the same file: before everything is found it begins anew, afterwards it marks what is
//! left. Whatever else happens meanwhile, an operation is compared with the first file that has it.

use super::commands::{self, Begin, Held, NewBreak};
use super::format::{self, Format, Places, malformed};
use super::matching::{BreakKind, Direction, Found, Ours, Outcome, RowState, Theirs, Tolerance, compare};
use super::queries::{self, BreakId, Run, RunView, Summary, Total};
use super::sql;
use crate::model::{IntentId, OperationId, OperationKind, OperationState, ProviderId, intent_of};
use bytes::Bytes;
use kernel::{Currency, Error, Result, TenantId, Timestamp};
use ring::digest;
use std::collections::BTreeMap;
use std::io::{BufReader, Read as _};
use std::path::PathBuf;
use std::sync::Arc;
use store::{Call, Read, Store};

/// Rows and operations of one pass: some hundred bytes each.
const PASS: u64 = 1_000_000;
/// Rows of one payment; more are no settlement file.
const MAX_GROUP: usize = 1_000;
/// Operations that are read at once: more than one payment has.
const PAGE: i64 = 20_000;
const PAGE_MS: u32 = 120_000;
/// Differences that are written, and operations that are marked, in one transaction.
const BREAKS: usize = 250;
const MARKS: usize = 2_000;
/// How long such a transaction may wait for its turn.
const WRITE_MS: u32 = 60_000;
/// Bytes of a break's detail.
const MAX_DETAIL: usize = 300;

/// Where the file is.
#[derive(Clone, Debug)]
pub enum Source {
    /// On this machine.
    Path(PathBuf),
    /// In memory.
    Bytes(Bytes),
}

impl Source {
    fn open(&self) -> Result<Box<dyn std::io::Read + Send>> {
        Ok(match self {
            Source::Path(path) => Box::new(std::fs::File::open(path).map_err(unreadable)?),
            Source::Bytes(bytes) => Box::new(std::io::Cursor::new(bytes.clone())),
        })
    }

    /// SHA-256 of it, and at most how many rows it has.
    fn look(&self) -> Result<(String, u64)> {
        let mut reader = self.open()?;
        let (mut context, mut lines, mut buffer) = (digest::Context::new(&digest::SHA256), 0_u64, vec![0; 256 * 1024]);
        loop {
            let read = reader.read(&mut buffer).map_err(unreadable)?;
            if read == 0 {
                break;
            }
            context.update(&buffer[..read]);
            lines += buffer[..read].iter().filter(|b| **b == b'\n').count() as u64;
        }
        let digest = context.finish();
        Ok((digest.as_ref().iter().map(|b| format!("{b:02x}")).collect(), lines))
    }

    fn rows(&self, format: &Format) -> Result<Rows> {
        let delimiter = format.delimiter.bytes().next().unwrap_or(b',');
        let reader = BufReader::with_capacity(256 * 1024, self.open()?);
        let mut csv =
            csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(Box::new(reader) as Box<dyn std::io::Read + Send>);
        let header = csv.byte_headers().map_err(|e| malformed(e.to_string()))?;
        // A file may begin with a mark of its byte order.
        let header: csv::ByteRecord = header.iter().map(|cell| cell.strip_prefix(b"\xef\xbb\xbf").unwrap_or(cell)).collect();
        let places = format.places(&header)?;
        Ok(Rows { csv, places, record: csv::ByteRecord::new(), line: 0 })
    }
}

fn unreadable(error: std::io::Error) -> Error {
    Error::invalid("payments.file_malformed", "the file can't be read").caused_by(error)
}

/// The rows of a file, one after the other.
struct Rows {
    csv: csv::Reader<Box<dyn std::io::Read + Send>>,
    places: Places,
    record: csv::ByteRecord,
    line: u32,
}

impl Rows {
    /// The next one, if there is one: then `record` is it.
    fn next(&mut self) -> Result<bool> {
        self.line = self.line.checked_add(1).ok_or_else(|| malformed("more rows than can be counted".to_owned()))?;
        self.csv.read_byte_record(&mut self.record).map_err(|e| malformed(e.to_string()))
    }

    fn text(&self, at: Option<usize>) -> String {
        let cell = at.and_then(|at| self.record.get(at)).unwrap_or_default().trim_ascii();
        String::from_utf8_lossy(&cell[..cell.len().min(100)]).into_owned()
    }

    /// The group of the row: one of its own when it names nothing.
    fn group(&self) -> u128 {
        let named = self.record.get(self.places.charge.unwrap_or(self.places.reference)).is_some_and(|cell| !cell.trim_ascii().is_empty());
        if named { format::group_of(&self.places, &self.record) } else { u128::from(self.line) }
    }
}

/// Compares a file with what the provider did by our payments; a file that was compared before is answered as it was then.
/// `day` is the day that the file is of, in days since 1970: what happened after it is not expected yet.
/// Errors: `payments.provider_not_found`, `payments.no_format`, `payments.file_malformed`, `payments.reconciliation_under_way`,
/// `payments.reconciliation_superseded`; the store's.
pub async fn reconcile(store: &Store, tenant: TenantId, provider_id: ProviderId, source: Source, day: i64) -> Result<RunView> {
    let (_, format) = store.peek(tenant, move |read| queries::format(read, provider_id)).await?;
    let format = Arc::new(format);
    let (looked, checked) = (source.clone(), format.clone());
    let (digest, lines) = blocking(move || {
        let looked_at = looked.look()?;
        // A file without the declared columns begins no run.
        looked.rows(&checked)?;
        Ok(looked_at)
    })
    .await?;
    let call = || Call::new(tenant).deadline_ms(WRITE_MS);
    let run = store.write(call(), commands::begin, Begin { provider_id, day, digest }).await?;
    if !matches!(run.state.as_str(), "matching" | "marking") {
        return Ok(run.into());
    }
    let held = Held { run_id: run.run_id, provider_id, attempt: run.attempt };
    let fresh = run.state == "matching";
    let mut matched = match_all(store, tenant, &run, &source, &format, lines).await?;
    let mut summary = if fresh { std::mem::take(&mut matched.summary) } else { run.summary.clone() };
    if fresh {
        summary.breaks = write_breaks(store, tenant, held, &run, &source, &format, &mut matched).await?;
        store.write(call(), commands::found_all, (held, summary.clone())).await?;
    }
    for seen in matched.seen.chunks(MARKS) {
        store.write(call().bytes(1_024 + seen.len() * 16), commands::mark, (held, Arc::new(seen.to_vec()))).await?;
    }
    let mut after = Some(BreakId::from_i64(0));
    while let Some(break_id) = after.filter(|_| !format.rules.is_empty()) {
        after = store.write(call(), commands::apply_rules, (held, format.clone(), break_id)).await?;
    }
    store.write(call(), commands::finish, (held, summary)).await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::internal("a thread of a reconciliation ended").caused_by(e))?
}

/// What all passes have come to.
#[derive(Default)]
struct Matched {
    summary: Summary,
    found: Vec<Found>,
    /// Lines of rows that nothing explains, and of those that can't be read.
    unknown: Vec<u32>,
    unreadable: Vec<u32>,
    /// Intent and operation of what the file has.
    seen: Vec<(i64, i64)>,
}

async fn match_all(store: &Store, tenant: TenantId, run: &Run, source: &Source, format: &Arc<Format>, lines: u64) -> Result<Matched> {
    let (count,): (i64,) = store.read_within(tenant, PAGE_MS, |read| read.one(sql::UNSETTLED_COUNT, ())).await?;
    let passes = (lines.max(count.unsigned_abs()) / PASS + 1) as u128;
    let mut matched = Matched::default();
    for pass in 0..passes {
        // The file is read on one core while the store is read on another.
        let (source, of) = (source.clone(), format.clone());
        let reading = tokio::spawn(blocking(move || read_file(&source, &of, pass, passes, (lines / passes as u64) as usize)));
        let ours = operations(store, tenant, run, format, pass, passes, count.unsigned_abs() as usize / passes as usize).await;
        let theirs = reading.await.map_err(|e| Error::internal("a thread of a reconciliation ended").caused_by(e))??;
        let ours = ours?;
        let tolerance =
            Tolerance { minor: format.tolerance_minor, fee_minor: format.fee_tolerance_minor, days: format.tolerance_days as i32 };
        matched = blocking(move || compare_pass(matched, ours, theirs, tolerance)).await?;
    }
    Ok(matched)
}

/// One pass over the file.
#[derive(Default)]
struct FilePass {
    rows: Vec<Theirs>,
    unreadable: Vec<u32>,
    totals: BTreeMap<Currency, Total>,
}

fn read_file(source: &Source, format: &Format, pass: u128, passes: u128, about: usize) -> Result<FilePass> {
    let mut read = FilePass { rows: Vec::with_capacity(about + about / 16), ..FilePass::default() };
    let mut rows = source.rows(format)?;
    while rows.next()? {
        let group = rows.group();
        if group % passes != pass {
            continue;
        }
        match format::row(format, &rows.places, &rows.record, group, rows.line) {
            Ok(row) => {
                if row.state == RowState::Settled {
                    let total = read.totals.entry(row.currency).or_default();
                    let sign = if row.direction == Direction::Capture { 1 } else { -1 };
                    total.rows += 1;
                    total.gross_minor = total.gross_minor.saturating_add(sign * row.gross_minor);
                    total.fee_minor = total.fee_minor.saturating_add(row.fee_minor.unwrap_or(0));
                    total.net_minor = total.net_minor.saturating_add(row.signed_net());
                }
                read.rows.push(row);
            }
            Err(_) => read.unreadable.push(rows.line),
        }
    }
    Ok(read)
}

type OperationRow = (i64, OperationId, OperationKind, OperationState, i64, i64, Timestamp, Currency, String, i64);

/// Our operations of a pass that no file has had.
async fn operations(
    store: &Store,
    tenant: TenantId,
    run: &Run,
    format: &Format,
    pass: u128,
    passes: u128,
    about: usize,
) -> Result<Vec<Ours>> {
    let by_charge = format.columns.charge.is_some();
    let (provider_id, due_day) = (run.provider_id, run.day - format.tolerance_days);
    let mut ours: Vec<Ours> = Vec::with_capacity(about + about / 16);
    let mut after = 0_i64;
    loop {
        let (page, last): (Vec<Ours>, Option<i64>) = store
            .read_within(tenant, PAGE_MS, move |read: &mut Read<'_>| {
                let mut page: Vec<OperationRow> = read.all(sql::UNSETTLED, (after, PAGE, provider_id))?;
                let full = page.len() as i64 == PAGE;
                // The last intent of a full page may have more than is on it: it comes whole with the next.
                if let (true, Some(last)) = (full, page.last().map(|row| row.0)) {
                    page.retain(|row| row.0 != last);
                }
                let last = page.last().map(|row| row.0).filter(|_| full);
                let of_pass =
                    page.into_iter().filter_map(|(intent_id, operation_id, kind, state, amount, fee, at, currency, charge, own)| {
                        let reference = format::digest(operation_id.to_string().as_bytes());
                        let group = if by_charge { format::digest(charge.as_bytes()) } else { reference };
                        (own == 1 && group % passes == pass).then(|| Ours {
                            group,
                            reference,
                            intent_id,
                            operation_id: operation_id.as_i64(),
                            amount_minor: amount,
                            fee_minor: fee,
                            day: at.day() as i32,
                            direction: if kind == OperationKind::Refund { Direction::Refund } else { Direction::Capture },
                            currency,
                            succeeded: state == OperationState::Succeeded,
                            due: at.day() <= due_day,
                        })
                    });
                Ok((of_pass.collect(), last))
            })
            .await?;
        ours.extend(page);
        match last {
            Some(last) => after = last,
            None => return Ok(ours),
        }
    }
}

fn compare_pass(mut matched: Matched, mut ours: Vec<Ours>, mut file: FilePass, tolerance: Tolerance) -> Result<Matched> {
    ours.sort_unstable_by_key(|own| (own.group, own.operation_id));
    file.rows.sort_unstable_by_key(|row| (row.group, row.line));
    let summary = &mut matched.summary;
    summary.rows += (file.rows.len() + file.unreadable.len()) as u64;
    summary.operations += ours.len() as u64;
    for (currency, total) in &file.totals {
        let sum = summary.totals.entry(currency.to_string()).or_default();
        sum.rows += total.rows;
        sum.gross_minor = sum.gross_minor.saturating_add(total.gross_minor);
        sum.fee_minor = sum.fee_minor.saturating_add(total.fee_minor);
        sum.net_minor = sum.net_minor.saturating_add(total.net_minor);
    }
    let (mut o, mut t) = (0, 0);
    let mut out = Outcome::default();
    while o < ours.len() || t < file.rows.len() {
        let group = match (ours.get(o), file.rows.get(t)) {
            (Some(own), Some(row)) => own.group.min(row.group),
            (Some(own), None) => own.group,
            (None, row) => row.map_or(0, |row| row.group),
        };
        let own_end = o + ours[o..].iter().take_while(|own| own.group == group).count();
        let row_end = t + file.rows[t..].iter().take_while(|row| row.group == group).count();
        if row_end - t > MAX_GROUP {
            return Err(malformed(format!("more than {MAX_GROUP} rows of one payment, from row {}", file.rows[t].line)));
        }
        compare(&ours[o..own_end], &file.rows[t..row_end], tolerance, &mut out);
        matched.seen.extend(out.seen.drain(..).map(|place| (ours[o + place].intent_id, ours[o + place].operation_id)));
        matched.unknown.extend(out.unknown.drain(..).map(|place| file.rows[t + place].line));
        matched.found.append(&mut out.breaks);
        (o, t) = (own_end, row_end);
    }
    summary.matched += out.matched;
    summary.in_parts += out.in_parts;
    summary.by_tolerance += out.by_tolerance;
    matched.unreadable.append(&mut file.unreadable);
    Ok(matched)
}

/// What a row that nothing unsettled explains says of itself.
struct Stranger {
    row: Theirs,
    operation: Option<(IntentId, OperationId)>,
    text: String,
}

/// Reads the rows once more that differ, says what they say, and writes the differences down; how many there are of each kind.
async fn write_breaks(
    store: &Store,
    tenant: TenantId,
    held: Held,
    run: &Run,
    source: &Source,
    format: &Arc<Format>,
    matched: &mut Matched,
) -> Result<BTreeMap<String, u64>> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let (mut found, mut unknown, mut unreadable) =
        (std::mem::take(&mut matched.found), std::mem::take(&mut matched.unknown), std::mem::take(&mut matched.unreadable));
    // Those without a row come first, in the order of the payments: the next run finds them in the same.
    found.sort_by_key(|found| (found.line, found.ours));
    unknown.sort_unstable();
    unreadable.sort_unstable();
    let (send, mut chunks) = tokio::sync::mpsc::channel::<Vec<Told>>(4);
    let (source, of, run_id, day) = (source.clone(), format.clone(), run.run_id, run.day);
    let reading = tokio::spawn(blocking(move || {
        let mut chunk = Vec::with_capacity(BREAKS);
        let mut push = |told: Told| -> bool {
            chunk.push(told);
            chunk.len() < BREAKS || send.blocking_send(std::mem::replace(&mut chunk, Vec::with_capacity(BREAKS))).is_ok()
        };
        let mut found = found.into_iter().peekable();
        while let Some(found) = found.next_if(|found| found.line.is_none()) {
            push(Told::Known(Box::new(to_break(found, String::new(), ""))));
        }
        let (mut unknown, mut unreadable) = (unknown.into_iter().peekable(), unreadable.into_iter().peekable());
        let short = run_id.to_string();
        let mut rows = source.rows(&of)?;
        while (found.peek().is_some() || unknown.peek().is_some() || unreadable.peek().is_some()) && rows.next()? {
            let line = rows.line;
            let text = || detail(&rows);
            while let Some(found) = found.next_if(|found| found.line == Some(line)) {
                push(Told::Known(Box::new(to_break(found, text(), &short))));
            }
            let read = || format::row(&of, &rows.places, &rows.record, 0, line);
            if unknown.next_if_eq(&line).is_some()
                && let Ok(row) = read()
            {
                let intent = intent_of(&rows.text(rows.places.charge_reference)).map(|(intent_id, _)| intent_id);
                let operation = rows.text(Some(rows.places.reference)).parse::<OperationId>().ok();
                push(Told::Stranger(Stranger { row, operation: intent.zip(operation), text: text() }));
            }
            if unreadable.next_if_eq(&line).is_some()
                && let Err(why) = read()
            {
                push(Told::Known(Box::new(NewBreak {
                    subject: format!("{short}:{line}"),
                    kind: BreakKind::Unreadable,
                    ours: None,
                    line: Some(line),
                    // It has none that could be read.
                    currency: rows.text(Some(rows.places.currency)).to_ascii_uppercase().parse().unwrap_or(unknown_currency()),
                    ours_minor: None,
                    theirs_minor: None,
                    difference_minor: 0,
                    day,
                    detail: bounded(why),
                })));
            }
        }
        let _ = send.blocking_send(chunk);
        Ok(())
    }));
    let mut failed = None;
    while let Some(chunk) = chunks.recv().await {
        let ready = match look_up(store, tenant, held, run.day, chunk).await {
            Ok(ready) => ready,
            Err(error) => {
                failed = Some(error);
                break;
            }
        };
        for found in &ready {
            *counts.entry(found.kind.as_str().to_owned()).or_default() += 1;
        }
        let call = Call::new(tenant).deadline_ms(WRITE_MS).bytes(1_024 + ready.len() * 512);
        if let Err(error) = store.write(call, commands::write_breaks, (held, Arc::new(ready))).await {
            failed = Some(error);
            break;
        }
    }
    drop(chunks);
    let ended = reading.await.map_err(|e| Error::internal("a thread of a reconciliation ended").caused_by(e))?;
    match failed {
        Some(error) => Err(error),
        None => ended.map(|()| counts),
    }
}

enum Told {
    Known(Box<NewBreak>),
    Stranger(Stranger),
}

/// XXX is ISO 4217's word for no currency; where a row can't be read, that of the euro stands for it, and the amount is zero.
fn unknown_currency() -> Currency {
    "XXX".parse().or_else(|_| "EUR".parse()).expect("the euro is a currency")
}

fn bounded(mut text: String) -> String {
    if text.len() > MAX_DETAIL {
        let end = (0..=MAX_DETAIL).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    text.retain(|c| !c.is_control());
    text
}

/// What people need to find the row at the provider.
fn detail(rows: &Rows) -> String {
    let places = &rows.places;
    let parts =
        [("reference", Some(places.reference)), ("charge", places.charge), ("movement", places.movement), ("status", places.status)];
    let parts = parts.into_iter().filter(|(_, at)| at.is_some()).map(|(name, at)| format!("{name} {}", rows.text(at)));
    bounded(parts.collect::<Vec<_>>().join(", "))
}

/// The subject of a difference is our operation where there is one that a later file may explain, and otherwise the row.
fn to_break(found: Found, detail: String, run: &str) -> NewBreak {
    let subject = match (found.kind, found.ours, found.line) {
        (BreakKind::MissingThere, Some((_, operation)), _) | (_, Some((_, operation)), None) => {
            OperationId::from_i64(operation).to_string()
        }
        (_, _, line) => format!("{run}:{}", line.unwrap_or(0)),
    };
    NewBreak {
        subject,
        kind: found.kind,
        ours: found.ours,
        line: found.line,
        currency: found.currency,
        ours_minor: found.ours_minor,
        theirs_minor: found.theirs_minor,
        difference_minor: found.difference_minor,
        day: i64::from(found.day),
        detail,
    }
}

/// Says what strangers are: known from an earlier file, refused here, or nobody's.
async fn look_up(store: &Store, tenant: TenantId, held: Held, day: i64, chunk: Vec<Told>) -> Result<Vec<NewBreak>> {
    store
        .read_within(tenant, PAGE_MS, move |read| {
            let mut ready = Vec::with_capacity(chunk.len());
            for told in chunk {
                match told {
                    Told::Known(found) => ready.push(*found),
                    Told::Stranger(stranger) => ready.push(stranger_is(read, held, day, stranger)?),
                }
            }
            Ok(ready)
        })
        .await
}

fn stranger_is(read: &mut Read<'_>, held: Held, day: i64, stranger: Stranger) -> Result<NewBreak> {
    let Stranger { row, operation, text } = stranger;
    let standing: Option<(OperationState, i64, Option<i64>)> = match operation {
        Some((intent_id, operation_id)) => read.opt(sql::STANDING, (intent_id, operation_id))?,
        None => None,
    };
    let kind = match &standing {
        None => BreakKind::MissingHere,
        Some((_, _, Some(_))) => BreakKind::Duplicate,
        Some((OperationState::Succeeded, _, None)) => BreakKind::Reference,
        Some(_) => BreakKind::Status,
    };
    let moves = matches!(kind, BreakKind::MissingHere | BreakKind::Duplicate) && row.state == RowState::Settled;
    Ok(NewBreak {
        subject: format!("{}:{}", held.run_id, row.line),
        kind,
        ours: operation.filter(|_| standing.is_some()).map(|(intent_id, operation_id)| (intent_id.as_i64(), operation_id.as_i64())),
        line: Some(row.line),
        currency: row.currency,
        ours_minor: standing.map(|(_, amount_minor, _)| amount_minor),
        theirs_minor: Some(row.gross_minor),
        difference_minor: if moves { row.signed_net() } else { 0 },
        day: row.day.map_or(day, i64::from),
        detail: text,
    })
}
