//! Files of variants: CSV and NDJSON, read row by row into [`UpsertRow`]s, with a report of each row that is refused. No I/O.

use crate::model::{MAX_OPTIONS, Price, VariantOption};
use crate::upsert::{Change, MAX_BATCH, RowOutcome, UpsertRow};
use kernel::{Currency, Error, FieldError, Result, UnitPrice};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use utoipa::ToSchema;

/// The largest file, in bytes.
pub(crate) const MAX_BYTES: usize = 8 * 1024 * 1024;
/// The most rows of a file.
pub(crate) const MAX_ROWS: usize = 10_000;
/// The most problems that a report describes; the rest are counted.
pub(crate) const MAX_PROBLEMS: usize = 1_000;

/// What a file is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Comma-separated, with a header row (RFC 4180).
    Csv,
    /// A JSON object a line.
    Ndjson,
}

impl Format {
    /// By the content type. Errors: `request.unsupported_media_type`.
    pub fn of(content_type: &str) -> Result<Format> {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let is = |name: &str| essence.eq_ignore_ascii_case(name);
        if is("text/csv") {
            return Ok(Format::Csv);
        }
        if is("application/x-ndjson") || is("application/jsonl") {
            return Ok(Format::Ndjson);
        }
        Err(Error::invalid("request.unsupported_media_type", "this route takes text/csv or application/x-ndjson").with_field(
            "Content-Type",
            "unsupported",
            "not text/csv or application/x-ndjson",
        ))
    }
}

/// A row of a file, as a line of NDJSON; CSV has the same as columns, and `option1_name`, `option1_value` to `option5_value`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImportRow {
    /// The SKU, 1 to 64 visible characters.
    pub sku: String,
    /// External id of the product that it belongs to, made when it is new. Without one a new SKU gets a product of its own.
    #[serde(default)]
    pub product: Option<String>,
    /// The variant's title.
    #[serde(default)]
    pub title: Option<String>,
    /// Its barcode.
    #[serde(default)]
    pub barcode: Option<String>,
    /// The currency of `price`. A SKU may have a row for each currency.
    #[serde(default)]
    pub currency: Option<String>,
    /// The list price, a decimal such as `12.50`.
    #[serde(default)]
    pub price: Option<String>,
    /// Replaces all options; empty leaves them.
    #[serde(default)]
    pub options: Vec<VariantOption>,
}

impl ImportRow {
    /// The row with its values read, or everything that is wrong with it.
    pub fn check(self) -> Result<UpsertRow, Vec<FieldError>> {
        let mut faults = Vec::new();
        let mut note = |field: &str, code: &'static str, detail: String| faults.push(fault(field, code, detail));
        let mut prices = Vec::new();
        match (&self.currency, &self.price) {
            (None, None) => {}
            (None, Some(_)) => note("currency", "required", "a price needs its currency".to_owned()),
            (Some(_), None) => note("price", "required", "a currency needs its price".to_owned()),
            (Some(currency), Some(price)) => match (currency.parse::<Currency>(), price.parse::<UnitPrice>()) {
                (Ok(currency), Ok(price)) => prices.push(Price { currency, price }),
                (currency, price) => {
                    if let Err(error) = currency {
                        note("currency", "unknown", error.detail().to_owned());
                    }
                    if let Err(error) = price {
                        note("price", "invalid", error.detail().to_owned());
                    }
                }
            },
        }
        let row =
            UpsertRow { sku: self.sku, product: self.product, title: self.title, barcode: self.barcode, options: self.options, prices };
        faults.extend(row.faults());
        if faults.is_empty() { Ok(row) } else { Err(faults) }
    }
}

fn fault(field: &str, code: &'static str, detail: impl Into<String>) -> FieldError {
    FieldError { field: field.to_owned(), code, detail: detail.into() }
}

/// The rows of a file, one after another.
pub(crate) struct Rows<'a> {
    source: Source<'a>,
    /// On which line a SKU and currency came first.
    seen: HashMap<(String, Option<Currency>), u64>,
}

enum Source<'a> {
    Csv(CsvRows<'a>),
    Ndjson { bytes: &'a [u8], line: u64 },
}

/// A row with the number of its (first) line, from 1; or what is wrong with it.
pub(crate) type ReadRow = (u64, Result<UpsertRow, Vec<FieldError>>);

impl<'a> Rows<'a> {
    /// Begins to read. Nothing is taken of a file that is wrong as a whole.
    /// Errors: `request.invalid` for a wrong header; `catalog.too_many_rows`.
    pub fn open(format: Format, bytes: &'a [u8]) -> Result<Rows<'a>> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let (source, rows) = match format {
            Format::Csv => {
                let rows = CsvRows::open(bytes)?;
                (Source::Csv(rows), CsvRows::open(bytes)?.take(MAX_ROWS + 1).count())
            }
            Format::Ndjson => {
                let rows = bytes.split(|b| *b == b'\n').filter(|line| !line.trim_ascii().is_empty()).take(MAX_ROWS + 1).count();
                (Source::Ndjson { bytes, line: 0 }, rows)
            }
        };
        if rows > MAX_ROWS {
            return Err(Error::invalid("catalog.too_many_rows", format!("a file has at most {MAX_ROWS} rows; split it")));
        }
        Ok(Rows { source, seen: HashMap::new() })
    }

    /// The next rows that are fine by themselves, with their lines, at most [`MAX_BATCH`]; those that are not go into the report. None at the end.
    pub fn next_batch(&mut self, report: &mut ImportReport) -> Option<(Vec<u64>, Vec<UpsertRow>)> {
        let (mut lines, mut rows) = (Vec::new(), Vec::new());
        while rows.len() < MAX_BATCH
            && let Some((line, row)) = self.next()
        {
            match row {
                Ok(row) => {
                    lines.push(line);
                    rows.push(row);
                }
                Err(faults) => report.reject(line, faults),
            }
        }
        (!rows.is_empty()).then_some((lines, rows))
    }

    fn refuse_repeated(&mut self, line: u64, row: UpsertRow) -> Result<UpsertRow, Vec<FieldError>> {
        let key = (row.sku.clone(), row.prices.first().map(|p| p.currency));
        match self.seen.get(&key) {
            Some(first) => Err(vec![fault("sku", "duplicate", format!("line {first} has the same SKU and currency"))]),
            None => {
                self.seen.insert(key, line);
                Ok(row)
            }
        }
    }
}

impl Iterator for Rows<'_> {
    type Item = ReadRow;

    fn next(&mut self) -> Option<ReadRow> {
        let (line, row) = match &mut self.source {
            Source::Csv(rows) => {
                let (line, record) = rows.next()?;
                (line, rows.header.read(&record))
            }
            Source::Ndjson { bytes, line } => loop {
                let (text, rest) = match bytes.iter().position(|b| *b == b'\n') {
                    Some(end) => (&bytes[..end], &bytes[end + 1..]),
                    None if bytes.is_empty() => return None,
                    None => (*bytes, &bytes[bytes.len()..]),
                };
                *bytes = rest;
                *line += 1;
                if !text.trim_ascii().is_empty() {
                    break (*line, read_json(text));
                }
            },
        };
        let row = row.and_then(|row| self.refuse_repeated(line, row));
        Some((line, row))
    }
}

fn read_json(text: &[u8]) -> Result<UpsertRow, Vec<FieldError>> {
    let row: ImportRow = serde_json::from_slice(text).map_err(|error| {
        // The line that serde names is the row's only one.
        let words = error.to_string();
        let words = words.split(" at line ").next().unwrap_or_default();
        vec![fault("row", "json", words.chars().take(200).collect::<String>())]
    })?;
    row.check()
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Sku,
    Product,
    Title,
    Barcode,
    Currency,
    Price,
    OptionName(usize),
    OptionValue(usize),
}

/// The columns of a CSV file in their order.
struct Header(Vec<Column>);

impl Header {
    /// Errors: `request.invalid` naming `header` for an unknown or repeated column, and when there is no `sku`.
    fn new(record: &csv::ByteRecord) -> Result<Header> {
        let mut columns = Vec::with_capacity(record.len());
        for name in record {
            let name = String::from_utf8_lossy(name).trim().to_ascii_lowercase();
            let shown: String = name.chars().take(60).collect();
            let column = Self::column(&name)
                .ok_or_else(|| Error::field("header", "unknown_column", format!("{shown:?} is no column of this file")))?;
            if columns.contains(&column) {
                return Err(Error::field("header", "repeated_column", format!("the column {shown:?} is there twice")));
            }
            columns.push(column);
        }
        if !columns.contains(&Column::Sku) {
            return Err(Error::field(
                "header",
                "required",
                "the first line names the columns, separated by commas; the column sku must be among them",
            ));
        }
        Ok(Header(columns))
    }

    fn column(name: &str) -> Option<Column> {
        let option = |ending: &str| -> Option<usize> {
            let number: usize = name.strip_prefix("option")?.strip_suffix(ending)?.parse().ok()?;
            (1..=MAX_OPTIONS).contains(&number).then_some(number)
        };
        match name {
            "sku" => Some(Column::Sku),
            "product" => Some(Column::Product),
            "title" => Some(Column::Title),
            "barcode" => Some(Column::Barcode),
            "currency" => Some(Column::Currency),
            "price" => Some(Column::Price),
            _ => option("_name").map(Column::OptionName).or_else(|| option("_value").map(Column::OptionValue)),
        }
    }

    /// Reads a record. Cells are trimmed; an empty one is as if it were not there.
    fn read(&self, record: &csv::ByteRecord) -> Result<UpsertRow, Vec<FieldError>> {
        if record.len() != self.0.len() {
            return Err(vec![fault("row", "columns", format!("has {} cells where the header has {}", record.len(), self.0.len()))]);
        }
        let mut row = ImportRow::default();
        let mut options: [(Option<String>, Option<String>); MAX_OPTIONS] = Default::default();
        for (column, cell) in self.0.iter().zip(record) {
            let Ok(text) = std::str::from_utf8(cell) else {
                return Err(vec![fault("row", "encoding", "is not UTF-8")]);
            };
            let text = text.trim();
            if text.is_empty() {
                continue;
            }
            let text = text.to_owned();
            match *column {
                Column::Sku => row.sku = text,
                Column::Product => row.product = Some(text),
                Column::Title => row.title = Some(text),
                Column::Barcode => row.barcode = Some(text),
                Column::Currency => row.currency = Some(text),
                Column::Price => row.price = Some(text),
                Column::OptionName(n) => options[n - 1].0 = Some(text),
                Column::OptionValue(n) => options[n - 1].1 = Some(text),
            }
        }
        // Which column a row's option came from, to name it.
        let mut numbers = Vec::new();
        for (n, option) in (1..).zip(options) {
            match option {
                (Some(name), Some(value)) => {
                    row.options.push(VariantOption { name, value });
                    numbers.push(n);
                }
                (None, None) => {}
                (Some(_), None) => return Err(vec![fault(&format!("option{n}_value"), "required", "an option needs its value")]),
                (None, Some(_)) => return Err(vec![fault(&format!("option{n}_name"), "required", "an option needs its name")]),
            }
        }
        row.check().map_err(|mut faults| {
            for fault in &mut faults {
                for (i, n) in numbers.iter().enumerate() {
                    if let Some(part) = fault.field.strip_prefix(&format!("options[{i}].")) {
                        fault.field = format!("option{n}_{part}");
                        break;
                    }
                }
            }
            faults
        })
    }
}

/// The records of a CSV file with their lines.
struct CsvRows<'a> {
    bytes: &'a [u8],
    reader: csv::Reader<&'a [u8]>,
    header: Header,
}

impl<'a> CsvRows<'a> {
    fn open(bytes: &'a [u8]) -> Result<CsvRows<'a>> {
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
        let mut first = csv::ByteRecord::new();
        reader.read_byte_record(&mut first).map_err(|e| Error::internal("bytes in memory could not be read").caused_by(e))?;
        Ok(CsvRows { bytes, reader, header: Header::new(&first)? })
    }
}

impl Iterator for CsvRows<'_> {
    type Item = (u64, csv::ByteRecord);

    fn next(&mut self) -> Option<Self::Item> {
        let mut record = csv::ByteRecord::new();
        // Bytes in memory can't fail to be read, and a record of bytes can't be of a wrong encoding or length.
        if !self.reader.read_byte_record(&mut record).unwrap_or(false) {
            return None;
        }
        let start = record.position()?;
        // The reader's position is before the line breaks that it skips.
        let skipped =
            self.bytes.get(start.byte() as usize..)?.iter().take_while(|b| matches!(b, b'\r' | b'\n')).filter(|b| **b == b'\n').count();
        Some((start.line() + skipped as u64, record))
    }
}

/// What is wrong with a row of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct RowProblem {
    /// Line of the file, from 1; that of its first line when a row spans several.
    pub line: u64,
    /// The column, or `row` for the row as a whole.
    pub field: String,
    /// Stable, for programs.
    pub code: &'static str,
    /// For a person.
    pub detail: String,
}

/// What became of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct ImportReport {
    /// Rows that were read.
    pub rows: u64,
    /// Rows that stand in the catalog now: created, updated and unchanged.
    pub accepted: u64,
    /// Rows whose SKU is new.
    pub created: u64,
    /// Rows that changed a variant or a price.
    pub updated: u64,
    /// Rows that said what was there already.
    pub unchanged: u64,
    /// Rows that were refused; nothing of them was taken.
    pub rejected: u64,
    /// What is wrong with the rejected rows, the first 1,000 problems.
    #[schema(max_items = 1000)]
    pub problems: Vec<RowProblem>,
    /// How many more problems there are.
    pub problems_left_out: u64,
}

impl ImportReport {
    /// Counts the rows of a batch.
    pub fn add(&mut self, lines: &[u64], outcomes: Vec<RowOutcome>) {
        for (line, outcome) in lines.iter().zip(outcomes) {
            let count = match outcome {
                Ok((_, Change::Created)) => &mut self.created,
                Ok((_, Change::Updated)) => &mut self.updated,
                Ok((_, Change::Unchanged)) => &mut self.unchanged,
                Err(fault) => {
                    self.reject(*line, vec![fault]);
                    continue;
                }
            };
            *count += 1;
            self.accepted += 1;
            self.rows += 1;
        }
    }

    fn reject(&mut self, line: u64, faults: Vec<FieldError>) {
        self.rows += 1;
        self.rejected += 1;
        for FieldError { field, code, detail } in faults {
            if self.problems.len() < MAX_PROBLEMS {
                self.problems.push(RowProblem { line, field, code, detail });
            } else {
                self.problems_left_out += 1;
            }
        }
    }

    /// Puts the problems in the order of their lines: those of a batch as a whole were found after those of its rows.
    pub fn finish(mut self) -> ImportReport {
        self.problems.sort_by_key(|problem| problem.line);
        self
    }
}
