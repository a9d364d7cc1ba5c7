//! Goes through a settlement file with bounded memory, and writes down what it found.
//!
//! Memory is bounded by passes: rows and operations are parted by their payment, each pass takes one part of both, sorts it and compares
//! payment by payment. What is kept over all passes is what differs, some hundred bytes each, and the ids of what was seen, sixteen.
//!
//! A run that breaks off is gone on with by sending the same file: before everything is found it begins anew, afterwards it compares once
//! more what stood open when it began, and marks what is left. Whatever else happens meanwhile, an operation is compared with the first
//! file that has it.

use super::commands::{self, Begin, Held, NewBreak, NewPart};
use super::format::{self, Format, Places, malformed};
use super::matching::{BreakKind, Direction, Found, Known, Ours, Outcome, RowState, Theirs, Tolerance, compare, guesses};
use super::queries::{self, BreakId, Run, RunId, RunView, Summary, Total};
use super::sql;
use crate::card;
use crate::model::{IntentId, OperationId, OperationKind, OperationState, ProviderId, intent_of};
use bytes::Bytes;
use kernel::{Currency, Error, Result, TenantId, Timestamp};
use ring::digest;
use std::collections::{BTreeMap, HashMap, HashSet};
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
/// Payments of which the other operations are looked up at once.
const GUESSES: usize = 500;
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
    // A run that had found everything knows what it came to.
    let mut summary = if fresh { std::mem::take(&mut matched.summary) } else { run.summary.clone() };
    if fresh {
        summary.breaks = write_breaks(store, tenant, held, &run, &source, &format, &mut matched).await?;
        store.write(call(), commands::found_all, (held, summary.clone())).await?;
    }
    for seen in matched.seen.chunks(MARKS) {
        store.write(call().bytes(1_024 + seen.len() * 16), commands::mark, (held, Arc::new(seen.to_vec()))).await?;
    }
    for parts in matched.parts.chunks(BREAKS) {
        store.write(call().bytes(1_024 + parts.len() * 64), commands::remember_parts, (held, Arc::new(parts.to_vec()))).await?;
    }
    let mut after = Some(BreakId::from_i64(0));
    while let Some(break_id) = after.filter(|_| !format.rules.is_empty()) {
        after = store.write(call(), commands::apply_rules, (held, format.clone(), break_id)).await?;
    }
    let mut after = Some(BreakId::from_i64(0));
    while let Some(break_id) = after {
        after = store.write(call(), commands::take_back_arrived, (held, break_id)).await?;
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
    /// Intent and operation of what the file settles.
    seen: Vec<(i64, i64)>,
    /// Rows that are a part of what they name.
    parts: Vec<NewPart>,
}

/// A payment's operations and rows that can't be compared before it is known what else is of the payment.
type Guess = (Vec<Ours>, Vec<Theirs>);

async fn match_all(store: &Store, tenant: TenantId, run: &Run, source: &Source, format: &Arc<Format>, lines: u64) -> Result<Matched> {
    let provider_id = run.provider_id;
    let (count,): (i64,) = store.read_within(tenant, PAGE_MS, move |read| read.one(sql::UNSETTLED_COUNT, (provider_id,))).await?;
    let passes = (lines.max(count.unsigned_abs()) / PASS + 1) as u128;
    let mut matched = Matched::default();
    for pass in 0..passes {
        // The file is read on one core while the store is read on another.
        let (source, of) = (source.clone(), format.clone());
        let reading = tokio::spawn(blocking(move || read_file(&source, &of, pass, passes, (lines / passes as u64) as usize)));
        let ours = operations(store, tenant, run, format, pass, passes, count.unsigned_abs() as usize / passes as usize).await;
        let theirs = reading.await.map_err(|e| Error::internal("a thread of a reconciliation ended").caused_by(e))??;
        let (ours, known) = ours?;
        let tolerance =
            Tolerance { minor: format.tolerance_minor, fee_minor: format.fee_tolerance_minor, days: format.tolerance_days as i32 };
        let (compared, guesses, mut known) = blocking(move || compare_pass(matched, ours, theirs, known, tolerance)).await?;
        matched = compared;
        for guesses in guesses.chunks(GUESSES) {
            known.references = operations_of(store, tenant, guesses).await?;
            let mut out = Outcome::default();
            for (ours, theirs) in guesses {
                compare(ours, theirs, &known, tolerance, &mut out);
                matched.take(&mut out, ours, theirs);
            }
        }
    }
    Ok(matched)
}

/// Digests of all operations of the payments that these are of.
async fn operations_of(store: &Store, tenant: TenantId, guesses: &[Guess]) -> Result<HashSet<u128>> {
    let intents: HashSet<i64> = guesses.iter().flat_map(|(ours, _)| ours).map(|own| own.intent_id).collect();
    store
        .read_within(tenant, PAGE_MS, move |read| {
            let mut references = HashSet::new();
            for intent_id in &intents {
                let found: Vec<(OperationId,)> = read.all(sql::OPERATIONS_OF_INTENT, (*intent_id,))?;
                references.extend(found.into_iter().map(|(operation_id,)| format::digest(operation_id.to_string().as_bytes())));
            }
            Ok(references)
        })
        .await
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
                    let sign = if row.direction == Direction::Capture { 1 } else { -1 };
                    let (gross_minor, fee_minor) = (sign * row.gross_minor, row.fee_minor.unwrap_or(0));
                    let one = Total { rows: 1, gross_minor, fee_minor, net_minor: row.signed_net(), tolerated_minor: 0 };
                    add(read.totals.entry(row.currency).or_default(), &one)?;
                }
                read.rows.push(row);
            }
            Err(_) => read.unreadable.push(rows.line),
        }
    }
    Ok(read)
}

/// Errors: `payments.file_malformed` for sums that can't be.
fn add(sum: &mut Total, more: &Total) -> Result<()> {
    let too_much = || malformed("its amounts add up to more than can be counted".to_owned());
    sum.rows += more.rows;
    sum.gross_minor = sum.gross_minor.checked_add(more.gross_minor).ok_or_else(too_much)?;
    sum.fee_minor = sum.fee_minor.checked_add(more.fee_minor).ok_or_else(too_much)?;
    sum.net_minor = sum.net_minor.checked_add(more.net_minor).ok_or_else(too_much)?;
    Ok(())
}

type OperationRow = (i64, OperationId, OperationKind, OperationState, i64, i64, Timestamp, Currency, String);

/// What earlier files had of an operation.
#[derive(Default)]
struct Had {
    gross_minor: i64,
    fee_minor: i64,
    movements: Vec<u128>,
}

/// By intent and operation, of the intents of a page.
fn parts(read: &mut Read<'_>, first: i64, last: i64, run_id: RunId) -> Result<HashMap<(i64, i64), Had>> {
    let mut had: HashMap<(i64, i64), Had> = HashMap::new();
    for (intent_id, operation_id, gross, fee, movement) in read.all::<(i64, i64, i64, i64, Vec<u8>)>(sql::PARTS, (first, last, run_id))? {
        let movement = movement.try_into().map(u128::from_be_bytes).map_err(|_| Error::internal("a stored movement is no digest"))?;
        let part = had.entry((intent_id, operation_id)).or_default();
        part.gross_minor += gross;
        part.fee_minor += fee;
        part.movements.push(movement);
    }
    Ok(had)
}

/// Our operations of a pass that no file has had whole, with what is left of them.
async fn operations(
    store: &Store,
    tenant: TenantId,
    run: &Run,
    format: &Format,
    pass: u128,
    passes: u128,
    about: usize,
) -> Result<(Vec<Ours>, Known)> {
    let by_charge = format.columns.charge.is_some();
    let (provider_id, run_id, due_day) = (run.provider_id, run.run_id, run.day - format.tolerance_days);
    let resumed = run.state == "marking";
    let mut known = Known::default();
    let mut ours: Vec<Ours> = Vec::with_capacity(about + about / 16);
    let mut after = 0_i64;
    loop {
        let (page, movements, last): (Vec<Ours>, Vec<u128>, Option<i64>) = store
            .read_within(tenant, PAGE_MS, move |read: &mut Read<'_>| {
                let mut page: Vec<OperationRow> = match resumed {
                    false => read.all(sql::UNSETTLED, (after, PAGE, provider_id))?,
                    true => read.all(sql::UNSETTLED_BEFORE, (after, PAGE, provider_id, run_id))?,
                };
                let full = page.len() as i64 == PAGE;
                // The last intent of a full page may have more than is on it: it comes whole with the next.
                if let (true, Some(last)) = (full, page.last().map(|row| row.0)) {
                    page.retain(|row| row.0 != last);
                }
                let last = page.last().map(|row| row.0).filter(|_| full);
                let mut had = match (page.first(), page.last()) {
                    (Some(first), Some(last)) => parts(read, first.0, last.0, run_id)?,
                    _ => HashMap::new(),
                };
                let (mut of_pass, mut movements) = (Vec::with_capacity(page.len()), Vec::new());
                for (intent_id, operation_id, kind, state, amount, fee, at, currency, charge) in page {
                    let reference = format::digest(operation_id.to_string().as_bytes());
                    let group = if by_charge { format::digest(charge.as_bytes()) } else { reference };
                    if group % passes != pass {
                        continue;
                    }
                    let part = had.remove(&(intent_id, operation_id.as_i64()));
                    let in_part = part.is_some();
                    let part = part.unwrap_or_default();
                    movements.extend(part.movements);
                    of_pass.push(Ours {
                        group,
                        reference,
                        intent_id,
                        operation_id: operation_id.as_i64(),
                        amount_minor: amount - part.gross_minor,
                        fee_minor: fee - part.fee_minor,
                        day: at.day() as i32,
                        direction: if kind == OperationKind::Refund { Direction::Refund } else { Direction::Capture },
                        currency,
                        in_part,
                        succeeded: state == OperationState::Succeeded,
                        due: at.day() <= due_day,
                    });
                }
                Ok((of_pass, movements, last))
            })
            .await?;
        ours.extend(page);
        known.movements.extend(movements);
        match last {
            Some(last) => after = last,
            None => return Ok((ours, known)),
        }
    }
}

impl Matched {
    /// Takes in what came of a charge's operations and rows.
    fn take(&mut self, out: &mut Outcome, ours: &[Ours], theirs: &[Theirs]) {
        self.seen.extend(out.seen.drain(..).map(|place| (ours[place].intent_id, ours[place].operation_id)));
        self.parts.extend(out.parts.drain(..).map(|part| NewPart {
            intent_id: ours[part.place].intent_id,
            operation_id: ours[part.place].operation_id,
            line: i64::from(part.line),
            gross_minor: part.gross_minor,
            fee_minor: part.fee_minor,
            movement: part.movement,
        }));
        self.unknown.extend(out.unknown.drain(..).map(|place| theirs[place].line));
        self.found.append(&mut out.breaks);
        let summary = &mut self.summary;
        summary.matched += std::mem::take(&mut out.matched);
        summary.in_parts += std::mem::take(&mut out.in_parts);
        summary.by_tolerance += std::mem::take(&mut out.by_tolerance);
        while let Some((currency, minor)) = out.tolerated_minor.pop_first() {
            summary.totals.entry(currency.to_string()).or_default().tolerated_minor += minor;
        }
    }
}

fn compare_pass(
    mut matched: Matched,
    mut ours: Vec<Ours>,
    mut file: FilePass,
    known: Known,
    tolerance: Tolerance,
) -> Result<(Matched, Vec<Guess>, Known)> {
    ours.sort_unstable_by_key(|own| (own.group, own.operation_id));
    file.rows.sort_unstable_by_key(|row| (row.group, row.line));
    let summary = &mut matched.summary;
    summary.rows += (file.rows.len() + file.unreadable.len()) as u64;
    summary.operations += ours.len() as u64;
    for (currency, total) in &file.totals {
        add(summary.totals.entry(currency.to_string()).or_default(), total)?;
    }
    let (mut o, mut t) = (0, 0);
    let (mut out, mut unsure) = (Outcome::default(), Vec::new());
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
        let (own, rows) = (&ours[o..own_end], &file.rows[t..row_end]);
        if guesses(own, rows) {
            unsure.push((own.to_vec(), rows.to_vec()));
        } else {
            compare(own, rows, &known, tolerance, &mut out);
            matched.take(&mut out, own, rows);
        }
        (o, t) = (own_end, row_end);
    }
    matched.unreadable.append(&mut file.unreadable);
    Ok((matched, unsure, known))
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
                    awaits: false,
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

/// What may be kept of what a row says.
fn bounded(mut text: String) -> String {
    if card::has_card_number(text.as_bytes()) {
        return "it holds what looks like a card number, and is not kept".to_owned();
    }
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

/// The subject of a difference is our operation where nothing of it has come yet, so that each file finds the same one, and otherwise the
/// row.
fn to_break(found: Found, detail: String, run: &str) -> NewBreak {
    let subject = match (found.kind, found.ours, found.line) {
        (BreakKind::MissingThere, Some((_, operation)), _) | (_, Some((_, operation)), None) => {
            OperationId::from_i64(operation).to_string()
        }
        (BreakKind::Status, Some((_, operation)), _) if found.awaits => OperationId::from_i64(operation).to_string(),
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
        awaits: found.awaits,
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
        awaits: false,
    })
}
