//! Reads invoice lines out of a CSV file, plain or gzip, without keeping more than one line.

use crate::exit::{Exit, Failure, Outcome};
use crate::input;
use csv::ByteRecord;
use kernel::{Timestamp, UnitPrice};
use std::io::Read;
use std::path::Path;

/// The columns, in order.
const COLUMNS: [&str; 8] = ["InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country"];

/// A line, borrowed from the reader's buffer.
#[derive(Debug, PartialEq)]
pub(crate) struct Line<'a> {
    /// Where it stands in the file, from 1, the header being line 1.
    pub(crate) line: u64,
    pub(crate) invoice: &'a str,
    pub(crate) stock_code: &'a str,
    /// Without white space around it; may be empty.
    pub(crate) description: &'a str,
    /// Whether the description had bytes that are no UTF-8, which were left out.
    pub(crate) mended: bool,
    pub(crate) quantity: i64,
    pub(crate) at: Timestamp,
    pub(crate) unit_price: UnitPrice,
    pub(crate) customer: Option<&'a str>,
    pub(crate) country: &'a str,
}

/// The lines of a file.
pub(crate) struct Lines {
    reader: csv::Reader<Box<dyn Read + Send>>,
    record: ByteRecord,
    description: String,
}

/// Opens a file of invoice lines, as [`input::open`] does. Errors: `cli.file`; `import.wrong_columns`.
pub(crate) fn open(path: &Path, read: impl FnMut(u64) + Send + 'static) -> Outcome<Lines> {
    Lines::new(input::open(path, read)?)
}

impl Lines {
    /// Reads the header. Errors: `import.wrong_columns`.
    pub(crate) fn new(input: Box<dyn Read + Send>) -> Outcome<Lines> {
        let mut reader = csv::ReaderBuilder::new().buffer_capacity(256 * 1024).from_reader(input);
        let header = reader.byte_headers().map_err(|e| unreadable(1, e))?;
        // Spreadsheets put a byte order mark before the first name.
        let named = |i: usize| header.get(i).map(|name| if i == 0 { name.strip_prefix(b"\xef\xbb\xbf").unwrap_or(name) } else { name });
        let same = header.len() == COLUMNS.len() && COLUMNS.iter().enumerate().all(|(i, column)| named(i) == Some(column.as_bytes()));
        if !same {
            return Err(Failure::new(Exit::Usage, "import.wrong_columns", format!("the first line must be {}", COLUMNS.join(","))));
        }
        Ok(Lines { reader, record: ByteRecord::new(), description: String::new() })
    }

    /// The next line. Errors: `import.bad_line` with its number and what is wrong, after which there is nothing more to read.
    pub(crate) fn next(&mut self) -> Outcome<Option<Line<'_>>> {
        let more = self.reader.read_byte_record(&mut self.record).map_err(|e| unreadable(self.reader.position().line(), e))?;
        if !more {
            return Ok(None);
        }
        let line = self.record.position().map_or(0, csv::Position::line);
        let record = &self.record;
        let bad = |column: usize, why: &str| {
            let shown: String = String::from_utf8_lossy(&record[column]).chars().take(40).collect();
            Failure::new(Exit::Usage, "import.bad_line", format!("line {line}: {} {why}, not {shown:?}", COLUMNS[column]))
        };
        let text = |column: usize, max: usize| match std::str::from_utf8(&record[column]) {
            Ok(text) if !text.is_empty() && text.len() <= max => Ok(text),
            _ => Err(bad(column, &format!("must be text of 1 to {max} bytes"))),
        };
        let (description, mended) = match std::str::from_utf8(&record[2]) {
            Ok(text) => (text.trim(), false),
            Err(_) => {
                self.description.clear();
                self.description.extend(record[2].utf8_chunks().map(|chunk| chunk.valid()));
                (self.description.trim(), true)
            }
        };
        if description.len() > 500 {
            return Err(bad(2, "must be at most 500 bytes"));
        }
        Ok(Some(Line {
            line,
            invoice: text(0, 64)?,
            stock_code: text(1, 64)?,
            description,
            mended,
            quantity: whole_number(&record[3]).filter(|q| *q != 0).ok_or_else(|| bad(3, "must be a whole number other than 0"))?,
            at: time(&record[4]).ok_or_else(|| bad(4, "must be a UTC time such as 2010-12-01 08:26:00"))?,
            unit_price: decimal_micros(&record[5])
                .map(UnitPrice::from_micros)
                .ok_or_else(|| bad(5, "must be a decimal number with at most six decimals"))?,
            customer: customer(&record[6]).map_err(|()| bad(6, "must be empty or text of at most 64 bytes"))?,
            country: text(7, 64)?,
        }))
    }
}

fn unreadable(reached: u64, error: csv::Error) -> Failure {
    let line = error.position().map_or(reached, csv::Position::line);
    let (exit, why) = match error.kind() {
        csv::ErrorKind::UnequalLengths { len, .. } => (Exit::Usage, format!("has {len} fields instead of {}", COLUMNS.len())),
        csv::ErrorKind::Io(e) => (Exit::Unavailable, format!("cannot be read: {e}")),
        _ => (Exit::Usage, error.to_string()),
    };
    Failure::new(exit, "import.bad_line", format!("line {line}: {why}"))
}

/// A customer's number. Tools that read an integer column with gaps as decimals have written `17850.0` for `17850`.
fn customer(field: &[u8]) -> Result<Option<&str>, ()> {
    let text = std::str::from_utf8(field).map_err(|_| ())?.trim();
    let text = match text.strip_suffix(".0") {
        Some(number) if number.bytes().all(|b| b.is_ascii_digit()) => number,
        _ => text,
    };
    if text.len() > 64 {
        return Err(());
    }
    Ok(Some(text).filter(|t| !t.is_empty()))
}

/// Digits with an optional minus.
fn whole_number(field: &[u8]) -> Option<i64> {
    let (negative, digits) = match field.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, field),
    };
    let value = digits_of(digits, 12)?;
    Some(if negative { -value } else { value })
}

/// At most `max` digits, at least one.
fn digits_of(digits: &[u8], max: usize) -> Option<i64> {
    if digits.is_empty() || digits.len() > max {
        return None;
    }
    digits.iter().try_fold(0_i64, |value, digit| digit.is_ascii_digit().then(|| value * 10 + i64::from(digit - b'0')))
}

/// A decimal number in millionths, exactly: no float is on the way.
fn decimal_micros(field: &[u8]) -> Option<i64> {
    let (negative, digits) = match field.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, field),
    };
    let (whole, fraction) = match digits.iter().position(|b| *b == b'.') {
        Some(dot) => (&digits[..dot], &digits[dot + 1..]),
        None => (digits, &b"0"[..]),
    };
    let value = digits_of(whole, 9)? * 1_000_000 + digits_of(fraction, 6)? * 10_i64.pow(6 - fraction.len() as u32);
    Some(if negative { -value } else { value })
}

/// `2010-12-01 08:26:00`, in UTC.
fn time(field: &[u8]) -> Option<Timestamp> {
    let shape = field.len() == 19
        && field[4] == b'-'
        && field[7] == b'-'
        && matches!(field[10], b' ' | b'T')
        && field[13] == b':'
        && field[16] == b':';
    if !shape {
        return None;
    }
    let (year, month, day) = (digits_of(&field[..4], 4)?, digits_of(&field[5..7], 2)?, digits_of(&field[8..10], 2)?);
    let (hour, minute, second) = (digits_of(&field[11..13], 2)?, digits_of(&field[14..16], 2)?, digits_of(&field[17..], 2)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in_month = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        1..=12 => 31,
        _ => return None,
    };
    if year < 1900 || day < 1 || day > days_in_month || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = ((days_from_civil(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    Some(Timestamp::from_micros(seconds * 1_000_000))
}

/// Days since 1970-01-01 in the Gregorian calendar, counted in eras of 400 years that begin in March, so that the leap day is last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n";

    fn lines(text: &[u8]) -> Outcome<Lines> {
        Lines::new(Box::new(std::io::Cursor::new(text.to_vec())))
    }

    #[test]
    fn a_line_is_read_exactly() {
        let text = format!(
            "{HEADER}C536379,D,\" Discount, \"\"net\"\" \",-1,2010-12-01 09:41:00,27.505,14527.0,United Kingdom\n536414,22139,,56,2010-12-01 11:52:00,0.0,,EIRE\n"
        );
        let mut lines = lines(text.as_bytes()).expect("a header");
        let expected = Line {
            line: 2,
            invoice: "C536379",
            stock_code: "D",
            description: "Discount, \"net\"",
            mended: false,
            quantity: -1,
            at: "2010-12-01T09:41:00Z".parse().expect("a time"),
            unit_price: UnitPrice::from_micros(27_505_000),
            customer: Some("14527"),
            country: "United Kingdom",
        };
        assert_eq!(lines.next().expect("valid"), Some(expected));
        let second = lines.next().expect("valid").expect("a line");
        assert_eq!((second.line, second.description, second.unit_price.micros(), second.customer), (3, "", 0, None));
        assert_eq!(lines.next().expect("the end"), None);
    }

    #[test]
    fn a_bad_line_is_refused_with_its_number_and_column() {
        let table: &[(&str, &str)] = &[
            ("536365,1,X,six,2010-12-01 08:26:00,2.55,1,UK\n", "line 2: Quantity must be a whole number other than 0, not \"six\""),
            ("536365,1,X,0,2010-12-01 08:26:00,2.55,1,UK\n", "line 2: Quantity"),
            ("536365,1,X,6,2010-02-29 08:26:00,2.55,1,UK\n", "line 2: InvoiceDate"),
            ("536365,1,X,6,12/1/2010 8:26,2.55,1,UK\n", "line 2: InvoiceDate"),
            ("536365,1,X,6,2010-12-01 08:26:00,2.5555555,1,UK\n", "line 2: UnitPrice"),
            ("536365,1,X,6,2010-12-01 08:26:00,1e3,1,UK\n", "line 2: UnitPrice"),
            (",1,X,6,2010-12-01 08:26:00,1,1,UK\n", "line 2: InvoiceNo"),
            ("536365,1,X,6\n", "line 2: has 4 fields instead of 8"),
        ];
        for (line, expected) in table {
            let mut lines = lines(format!("{HEADER}{line}").as_bytes()).expect("a header");
            let failure = lines.next().expect_err(expected);
            assert!(failure.detail.contains(expected), "{:?} does not say {expected:?}", failure.detail);
        }
        assert_eq!(lines(b"a,b\n1,2\n").err().map(|f| f.code), Some("import.wrong_columns"));
    }

    #[test]
    fn bytes_that_are_no_text_are_left_out_of_a_description() {
        let mut text = HEADER.as_bytes().to_vec();
        text.extend_from_slice(b"1,2,Voucher \xa340,1,2010-12-20 10:14:00,34.04,,UK\n");
        let mut lines = lines(&text).expect("a header");
        let line = lines.next().expect("valid").expect("a line");
        assert_eq!((line.description, line.mended), ("Voucher 40", true));
    }

    #[test]
    fn dates_agree_with_the_calendar() {
        for text in [
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00Z",
            "2000-02-29T12:00:00Z",
            "2010-12-01T08:26:00Z",
            "2100-03-01T00:00:00Z",
            "2024-12-31T23:59:59Z",
        ] {
            assert_eq!(time(text.trim_end_matches('Z').as_bytes()), text.parse().ok(), "{text}");
        }
    }
}
