//! Files of variants: CSV and NDJSON, read row by row into [`UpsertRow`]s, with a report of each row that is refused, and written again.
//!
//! A file is of variants. Of their products it carries the external id (or the id, of one that has none and several variants) and the
//! status; not titles, descriptions, tax classes, schedules, tags, attributes, media and categories. Cells of CSV are trimmed.

use crate::model::{Dimensions, MAX_OPTIONS, Price, ProductStatus, Variant, VariantOption, VariantStatus};
use crate::upsert::{Change, MAX_BATCH, RowOutcome, UpsertRow};
use kernel::{Currency, Error, FieldError, Result, UnitPrice};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Read};
use utoipa::ToSchema;

/// The largest file, in bytes.
pub(crate) const MAX_BYTES: usize = 8 * 1024 * 1024;
/// The most rows of a file.
pub(crate) const MAX_ROWS: usize = 10_000;
/// The most problems that a report describes; the rest are counted.
pub(crate) const MAX_PROBLEMS: usize = 1_000;

/// The columns of a file that is exported.
pub const CSV_HEADER: [&str; 23] = [
    "sku",
    "product",
    "title",
    "barcode",
    "status",
    "product_status",
    "currency",
    "price",
    "tax_class",
    "weight_g",
    "length_mm",
    "width_mm",
    "height_mm",
    "option1_name",
    "option1_value",
    "option2_name",
    "option2_value",
    "option3_name",
    "option3_value",
    "option4_name",
    "option4_value",
    "option5_name",
    "option5_value",
];

/// What a file is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated, with a header row (RFC 4180).
    Csv,
    /// A JSON object a line.
    Ndjson,
}

impl Format {
    /// By the content type. Errors: `request.unsupported_media_type`.
    pub(crate) fn of(content_type: &str) -> Result<Format> {
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportRow {
    /// The SKU, 1 to 64 visible characters.
    pub sku: String,
    /// External id of the product that it belongs to, or its id; made under this name when there is none. Without one a new SKU gets a product
    /// of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// The variant's title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Its barcode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub barcode: Option<String>,
    /// Whether the variant is for sale when its product is; a new one is, unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<VariantStatus>)]
    pub status: Option<String>,
    /// Where the product is in its life; a new one is active, unless said. One that was for sale is no draft again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ProductStatus>)]
    pub product_status: Option<String>,
    /// The currency of `price`. A SKU may have a row for each currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// The list price, a decimal such as `12.50`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<String>,
    /// Replaces all options; empty leaves them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<VariantOption>,
    /// What the variant is taxed as, if not as its product.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tax_class: Option<String>,
    /// What one unit weighs as it is packed, in grams; a number or its digits.
    #[serde(default, deserialize_with = "whole", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub weight_g: Option<String>,
    /// What one unit measures as it is packed, in millimetres: all three of them, or none.
    #[serde(default, deserialize_with = "whole", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub length_mm: Option<String>,
    /// See `length_mm`.
    #[serde(default, deserialize_with = "whole", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub width_mm: Option<String>,
    /// See `length_mm`.
    #[serde(default, deserialize_with = "whole", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    pub height_mm: Option<String>,
}

/// A whole number of NDJSON as its digits, so that both kinds of files are read alike.
fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Whole {
        Number(i64),
        Digits(String),
    }
    Ok(Option::<Whole>::deserialize(deserializer)?.map(|whole| match whole {
        Whole::Number(number) => number.to_string(),
        Whole::Digits(digits) => digits,
    }))
}

impl ImportRow {
    /// The rows that make this variant again, one for each price.
    pub(crate) fn of(variant: &Variant, product: Option<String>, product_status: ProductStatus) -> Vec<ImportRow> {
        let digits = |number: Option<i64>| number.map(|number| number.to_string());
        let [length_mm, width_mm, height_mm] = crate::sql::sides(variant.dimensions).map(digits);
        let row = ImportRow {
            sku: variant.sku.clone(),
            product,
            title: Some(variant.title.clone()),
            barcode: variant.barcode.clone(),
            status: Some(variant.status.as_str().to_owned()),
            product_status: Some(product_status.as_str().to_owned()),
            options: variant.options.clone(),
            tax_class: variant.tax_class.clone(),
            weight_g: digits(variant.weight_g),
            length_mm,
            width_mm,
            height_mm,
            ..ImportRow::default()
        };
        let Some((first, more)) = variant.prices.split_first() else { return vec![row] };
        let priced = |row: ImportRow, price: &Price| ImportRow {
            currency: Some(price.currency.code().to_owned()),
            price: Some(price.price.to_string()),
            ..row
        };
        // What is not the price is said once.
        let bare = || ImportRow { sku: variant.sku.clone(), ..ImportRow::default() };
        std::iter::once(priced(row, first)).chain(more.iter().map(|price| priced(bare(), price))).collect()
    }

    /// The cells of a CSV file with the header [`CSV_HEADER`].
    pub fn cells(&self) -> Vec<&str> {
        let texts = [&self.product, &self.title, &self.barcode, &self.status, &self.product_status, &self.currency, &self.price];
        let goods = [&self.tax_class, &self.weight_g];
        let sides = [&self.length_mm, &self.width_mm, &self.height_mm];
        let mut cells = vec![self.sku.as_str()];
        cells.extend(texts.into_iter().chain(goods).chain(sides).map(|text| text.as_deref().unwrap_or_default()));
        cells.extend(self.options.iter().flat_map(|option| [option.name.as_str(), option.value.as_str()]));
        cells.resize(CSV_HEADER.len(), "");
        cells
    }

    /// The row with its values read, or everything that is wrong with it.
    pub(crate) fn check(self) -> Result<UpsertRow, Vec<FieldError>> {
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
        let status = VariantStatus::ALL.into_iter().find(|status| self.status.as_deref() == Some(status.as_str()));
        if self.status.is_some() && status.is_none() {
            note("status", "unknown", "active or archived".to_owned());
        }
        let product_status = ProductStatus::ALL.into_iter().find(|status| self.product_status.as_deref() == Some(status.as_str()));
        if self.product_status.is_some() && product_status.is_none() {
            note("product_status", "unknown", "draft, active or archived".to_owned());
        }
        let mut number = |field: &str, text: &Option<String>| -> Option<i64> {
            let text = text.as_ref()?;
            let number = text.parse();
            if number.is_err() {
                note(field, "invalid", "must be a whole number".to_owned());
            }
            number.ok()
        };
        let weight_g = number("weight_g", &self.weight_g);
        let sides = [("length_mm", &self.length_mm), ("width_mm", &self.width_mm), ("height_mm", &self.height_mm)];
        let dimensions = match sides.map(|(field, text)| number(field, text)) {
            [Some(length_mm), Some(width_mm), Some(height_mm)] => Some(Dimensions { length_mm, width_mm, height_mm }),
            _ => {
                if sides.iter().any(|(_, text)| text.is_some()) {
                    sides
                        .iter()
                        .filter(|(_, text)| text.is_none())
                        .for_each(|(field, _)| note(field, "required", "length, width and height belong together".to_owned()));
                }
                None
            }
        };
        let row = UpsertRow {
            sku: self.sku,
            product: self.product,
            title: self.title,
            barcode: self.barcode,
            status,
            product_status,
            options: self.options,
            tax_class: self.tax_class,
            weight_g,
            dimensions,
            prices,
        };
        faults.extend(row.faults());
        if faults.is_empty() { Ok(row) } else { Err(faults) }
    }
}

fn fault(field: &str, code: &'static str, detail: impl Into<String>) -> FieldError {
    FieldError { field: field.to_owned(), code, detail: detail.into() }
}

/// The rows of a file, one after another.
pub struct Rows<R> {
    source: Source<R>,
    /// On which line a SKU and currency came first; none for a stream, of which nothing is kept.
    seen: Option<HashMap<(String, Option<Currency>), u64>>,
}

enum Source<R> {
    Csv(CsvRows<R>),
    Ndjson(JsonLines<R>),
}

/// A row with the number of its (first) line, from 1; or what is wrong with it.
pub(crate) type ReadRow = (u64, Result<UpsertRow, Vec<FieldError>>);

impl<'a> Rows<&'a [u8]> {
    /// Begins to read. Nothing is taken of a file that is wrong as a whole, and of two rows of one SKU and currency the later is refused.
    /// Errors: `request.invalid` for a wrong header; `catalog.too_many_rows`; `catalog.unreadable_file`.
    pub(crate) fn open(format: Format, bytes: &'a [u8]) -> Result<Rows<&'a [u8]>> {
        let mut rows = 0;
        let mut counted = Source::open(format, bytes)?;
        while rows <= MAX_ROWS && counted.next().transpose()?.is_some() {
            rows += 1;
        }
        if rows > MAX_ROWS {
            return Err(Error::invalid("catalog.too_many_rows", format!("a file has at most {MAX_ROWS} rows; split it")));
        }
        Ok(Rows { source: Source::open(format, bytes)?, seen: Some(HashMap::new()) })
    }
}

impl<R: Read> Rows<R> {
    /// Begins to read a file of any length, of which a batch is in memory at a time. What a later row says of a SKU wins.
    /// Errors: `request.invalid` for a wrong header; `catalog.unreadable_file`.
    pub fn stream(format: Format, input: R) -> Result<Rows<R>> {
        Ok(Rows { source: Source::open(format, input)?, seen: None })
    }

    /// The next rows that are fine by themselves, with their lines, at most [`MAX_BATCH`]; those that are not go into the report. None at
    /// the end. Of a stream it stops early, perhaps without any row, when the report fills, so that each problem can be told.
    /// Errors: `catalog.unreadable_file`, after which there are no more.
    pub fn next_batch(&mut self, report: &mut ImportReport) -> Result<Option<(Vec<u64>, Vec<UpsertRow>)>> {
        let (mut lines, mut rows) = (Vec::new(), Vec::new());
        while rows.len() < MAX_BATCH && (self.seen.is_some() || report.problems.len() < MAX_PROBLEMS / 2) {
            let Some((line, row)) = self.next().transpose()? else {
                return Ok((!rows.is_empty()).then_some((lines, rows)));
            };
            match row {
                Ok(row) => {
                    lines.push(line);
                    rows.push(row);
                }
                Err(faults) => report.reject(line, faults),
            }
        }
        Ok(Some((lines, rows)))
    }

    fn refuse_repeated(&mut self, line: u64, row: UpsertRow) -> Result<UpsertRow, Vec<FieldError>> {
        let Some(seen) = &mut self.seen else { return Ok(row) };
        let key = (row.sku.clone(), row.prices.first().map(|p| p.currency));
        match seen.get(&key) {
            Some(first) => Err(vec![fault("sku", "duplicate", format!("line {first} has the same SKU and currency"))]),
            None => {
                seen.insert(key, line);
                Ok(row)
            }
        }
    }
}

impl<R: Read> Iterator for Rows<R> {
    type Item = Result<ReadRow>;

    fn next(&mut self) -> Option<Self::Item> {
        let (line, row) = match self.source.next()? {
            Ok(read) => read,
            Err(error) => return Some(Err(error)),
        };
        let row = row.and_then(|row| self.refuse_repeated(line, row));
        Some(Ok((line, row)))
    }
}

impl<R: Read> Source<R> {
    fn open(format: Format, input: R) -> Result<Source<R>> {
        let mut input = BufReader::with_capacity(BUFFER, input);
        // Spreadsheets put a byte order mark before the first line.
        if input.fill_buf().map_err(unreadable)?.starts_with(b"\xef\xbb\xbf") {
            input.consume(3);
        }
        Ok(match format {
            Format::Csv => Source::Csv(CsvRows::open(input)?),
            Format::Ndjson => Source::Ndjson(JsonLines { input, text: Vec::new(), line: 0 }),
        })
    }

    fn next(&mut self) -> Option<Result<ReadRow>> {
        match self {
            Source::Csv(rows) => rows.next(),
            Source::Ndjson(lines) => lines.next(),
        }
    }
}

/// Bytes that are read ahead.
const BUFFER: usize = 64 * 1024;
/// The longest record: a quote that is never closed would otherwise take the whole file into memory.
const MAX_RECORD: u64 = 1024 * 1024;

fn unreadable(error: std::io::Error) -> Error {
    // What a reader of ours or of a packed file has to say is for the sender; what the system says is not.
    let detail = if error.get_ref().is_some() { error.to_string() } else { "the file can't be read".to_owned() };
    Error::invalid("catalog.unreadable_file", detail).caused_by(error)
}

/// The lines of an NDJSON file that are not blank.
struct JsonLines<R> {
    input: BufReader<R>,
    text: Vec<u8>,
    line: u64,
}

impl<R: Read> JsonLines<R> {
    fn next(&mut self) -> Option<Result<ReadRow>> {
        loop {
            self.text.clear();
            let read = (&mut self.input).take(MAX_RECORD).read_until(b'\n', &mut self.text);
            let cut = match read {
                Ok(0) => return None,
                Ok(read) => read as u64 == MAX_RECORD && self.text.last() != Some(&b'\n'),
                Err(error) => return Some(Err(unreadable(error))),
            };
            self.line += 1;
            if cut {
                if let Err(error) = self.input.skip_until(b'\n') {
                    return Some(Err(unreadable(error)));
                }
                return Some(Ok((self.line, Err(vec![fault("row", "too_long", format!("at most {MAX_RECORD} bytes"))]))));
            }
            if !self.text.trim_ascii().is_empty() {
                return Some(Ok((self.line, read_json(&self.text))));
            }
        }
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
    Status,
    ProductStatus,
    Currency,
    Price,
    TaxClass,
    WeightG,
    LengthMm,
    WidthMm,
    HeightMm,
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
            "status" => Some(Column::Status),
            "product_status" => Some(Column::ProductStatus),
            "currency" => Some(Column::Currency),
            "price" => Some(Column::Price),
            "tax_class" => Some(Column::TaxClass),
            "weight_g" => Some(Column::WeightG),
            "length_mm" => Some(Column::LengthMm),
            "width_mm" => Some(Column::WidthMm),
            "height_mm" => Some(Column::HeightMm),
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
                Column::Status => row.status = Some(text),
                Column::ProductStatus => row.product_status = Some(text),
                Column::Currency => row.currency = Some(text),
                Column::Price => row.price = Some(text),
                Column::TaxClass => row.tax_class = Some(text),
                Column::WeightG => row.weight_g = Some(text),
                Column::LengthMm => row.length_mm = Some(text),
                Column::WidthMm => row.width_mm = Some(text),
                Column::HeightMm => row.height_mm = Some(text),
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
struct CsvRows<R> {
    reader: csv::Reader<Breaks<BufReader<R>>>,
    header: Header,
    record: csv::ByteRecord,
}

impl<R: Read> CsvRows<R> {
    fn open(input: BufReader<R>) -> Result<CsvRows<R>> {
        let input = Breaks { inner: input, passed: 0, record: 0, breaks: VecDeque::new(), line: 1 };
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).buffer_capacity(BUFFER).from_reader(input);
        let mut record = csv::ByteRecord::new();
        read_record(&mut reader, &mut record)?;
        Ok(CsvRows { header: Header::new(&record)?, reader, record })
    }

    fn next(&mut self) -> Option<Result<ReadRow>> {
        match read_record(&mut self.reader, &mut self.record) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => return Some(Err(error)),
        }
        let start = self.record.position()?.byte();
        Some(Ok((self.reader.get_mut().line_of(start), self.header.read(&self.record))))
    }
}

/// A record of bytes is never of a wrong encoding or length, so whatever goes wrong is of the input.
fn read_record<R: Read>(reader: &mut csv::Reader<R>, record: &mut csv::ByteRecord) -> Result<bool> {
    reader.read_byte_record(record).map_err(|error| match error.into_kind() {
        csv::ErrorKind::Io(error) => unreadable(error),
        other => Error::internal("a record of bytes could not be read").caused_by(std::io::Error::other(format!("{other:?}"))),
    })
}

/// Passes on what it reads and remembers where lines end: the CSV reader reads ahead, and says where a record begins only as the place
/// before the blank lines that it skips.
struct Breaks<R> {
    inner: R,
    passed: u64,
    /// Where the last record began.
    record: u64,
    /// Places of `\r` and `\n` (true) from there on.
    breaks: VecDeque<(u64, bool)>,
    /// The line at `record`, from 1.
    line: u64,
}

impl<R: Read> Read for Breaks<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.passed - self.record > MAX_RECORD + BUFFER as u64 {
            let detail = format!("the row of line {} is longer than {MAX_RECORD} bytes: is a quote not closed?", self.line);
            return Err(std::io::Error::other(detail));
        }
        let read = self.inner.read(buffer)?;
        for (at, byte) in (self.passed..).zip(&buffer[..read]) {
            if matches!(byte, b'\r' | b'\n') {
                self.breaks.push_back((at, *byte == b'\n'));
            }
        }
        self.passed += read as u64;
        Ok(read)
    }
}

impl<R> Breaks<R> {
    /// The line of the record that begins at or, after blank lines, behind `start`; asked for one record after the other.
    fn line_of(&mut self, mut start: u64) -> u64 {
        while let Some((at, new_line)) = self.breaks.front().copied()
            && at <= start
        {
            start += u64::from(at == start);
            self.line += u64::from(new_line);
            self.breaks.pop_front();
        }
        self.record = start;
        self.line
    }
}

/// What is wrong with a row of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct RowProblem {
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
pub struct ImportReport {
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

    /// Adds what another part of the same file has come to.
    pub fn absorb(&mut self, part: ImportReport) {
        self.rows += part.rows;
        self.accepted += part.accepted;
        self.created += part.created;
        self.updated += part.updated;
        self.unchanged += part.unchanged;
        self.rejected += part.rejected;
        self.problems_left_out += part.problems_left_out;
        self.problems.extend(part.problems);
    }

    /// The problems so far, in the order of their lines, to be told at once: a long file has more than are worth keeping.
    pub fn take_problems(&mut self) -> Vec<RowProblem> {
        let mut problems = std::mem::take(&mut self.problems);
        problems.sort_by_key(|problem| problem.line);
        problems
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
