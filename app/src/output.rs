//! The one place that writes to the terminal: lines and tables for people, one JSON value a line for machines, progress bars.

use crate::exit::{Failure, Outcome};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

/// Where a command's answers go. Answers are on stdout; notes, bars and logs on stderr.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    /// With `json` only JSON values go to stdout, one a line, the last one being the answer.
    pub(crate) fn new(json: bool) -> Output {
        Output { json }
    }

    /// Whether a machine reads.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// A line for a person; nothing for a machine.
    pub(crate) fn line(self, text: impl AsRef<str>) {
        if !self.json {
            self.raw(text.as_ref());
        }
    }

    /// A line on stdout whoever reads. A reader that has gone away is no error: there is nobody left to tell.
    pub(crate) fn raw(self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{text}");
        let _ = out.flush();
    }

    /// A line of what somebody keeps, such as an export: whoever has less than all must know. Errors: `cli.file`.
    pub(crate) fn kept(self, text: &str) -> Outcome<()> {
        let mut out = std::io::stdout().lock();
        let written = writeln!(out, "{text}").and_then(|()| out.flush());
        written.map_err(|error| Failure::file("cannot write to", Path::new("stdout"), &error))
    }

    /// What happens meanwhile, on stderr, for a person.
    pub(crate) fn note(self, text: impl AsRef<str>) {
        if !self.json {
            let _ = writeln!(std::io::stderr().lock(), "{}", text.as_ref());
        }
    }

    /// A value on a line of its own; nothing for a person.
    pub(crate) fn value(self, value: &impl Serialize) {
        if self.json {
            match serde_json::to_string(value) {
                Ok(text) => self.raw(&text),
                Err(error) => tracing::error!(%error, "an answer does not serialise"),
            }
        }
    }

    /// A table for a person.
    pub(crate) fn table(self, head: &[&str], rows: &[Vec<String>]) {
        if !self.json {
            for line in table(head, rows) {
                self.raw(&line);
            }
        }
    }

    /// How a failed command says so: a JSON object as the last line for a machine, a sentence on stderr for a person.
    pub(crate) fn failure(self, failure: &crate::exit::Failure) {
        if self.json {
            self.raw(&serde_json::json!({ "ok": false, "error": { "code": failure.code, "detail": failure.detail } }).to_string());
        } else {
            let _ = writeln!(std::io::stderr().lock(), "error: {failure}");
        }
    }

    /// A bar over `length` steps on a terminal; elsewhere one that draws nothing.
    pub(crate) fn progress(self, length: u64, template: &'static str) -> ProgressBar {
        let shown = !self.json && std::io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr_with_hz(5) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(length), target);
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar
    }
}

/// Rows in columns as wide as their widest cell; the last column is not padded.
fn table(head: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(head.get(column).map(|h| h.len())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    std::iter::once(line(&mut head.iter().copied())).chain(rows.iter().map(|row| line(&mut row.iter().map(String::as_str)))).collect()
}

/// `12345678` as `12,345,678`.
pub(crate) fn grouped(number: impl Into<i64>) -> String {
    let number: i64 = number.into();
    let digits = number.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0 { format!("-{text}") } else { text }
}

/// `9747747934000` millionths as `9747747.934`: exact, without zeros that say nothing, with at least two decimals.
pub(crate) fn major_from_micros(micros: i128) -> String {
    let (whole, fraction) = (micros.unsigned_abs() / 1_000_000, micros.unsigned_abs() % 1_000_000);
    let digits = format!("{fraction:06}");
    let kept = digits.trim_end_matches('0').len().max(2);
    format!("{}{whole}.{}", if micros < 0 { "-" } else { "" }, &digits[..kept])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = vec![vec!["acme".to_owned(), "active".to_owned()], vec!["a".to_owned(), "suspended".to_owned()]];
        assert_eq!(table(&["SLUG", "STATUS"], &rows), ["SLUG  STATUS", "acme  active", "a     suspended"]);
    }

    #[test]
    fn numbers_read_well() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (541_909, "541,909"), (-12_345_678, "-12,345,678")] {
            assert_eq!(grouped(number), text);
        }
        for (micros, text) in
            [(0, "0.00"), (9_747_747_934_000, "9747747.934"), (-896_812_490_000, "-896812.49"), (1, "0.000001"), (-10_000, "-0.01")]
        {
            assert_eq!(major_from_micros(micros), text);
        }
    }
}
