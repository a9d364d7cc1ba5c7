//! Puts lines together into invoices, within a window: an invoice ends when none of its lines was seen for a while.

use super::lines::{Line, Lines};
use crate::exit::{Exit, Failure, Outcome};
use kernel::{Timestamp, UnitPrice};
use serde::Serialize;
use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};

/// So many invoices are open at once. In real files an invoice's lines are together but for a few that its neighbours interrupt.
const OPEN: usize = 64;

/// The most lines of an invoice: as many as a document of `orders` has.
const MAX_LINES: usize = 2_000;

/// What an invoice is, told by the first letter of its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A sale.
    Order,
    /// `C...`: a cancellation.
    CreditNote,
    /// `A...`: a correction of the books.
    Adjustment,
}

/// A line of an invoice.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct InvoiceLine {
    pub(crate) stock_code: String,
    pub(crate) description: String,
    pub(crate) quantity: i64,
    pub(crate) unit_price: UnitPrice,
}

/// An invoice with all its lines, in the order of the file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Invoice {
    pub(crate) number: String,
    pub(crate) kind: Kind,
    /// The time of its first line.
    pub(crate) at: Timestamp,
    pub(crate) customer: Option<String>,
    pub(crate) country: String,
    pub(crate) lines: Vec<InvoiceLine>,
}

/// What was odd about a file. Everything here was imported as it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Odd {
    /// Lines of invoices without a customer.
    pub(crate) lines_without_customer: u64,
    /// Lines with an empty description.
    pub(crate) lines_without_description: u64,
    /// Lines whose description had bytes that are no UTF-8; those were left out.
    pub(crate) descriptions_mended: u64,
    /// Lines with a price of zero.
    pub(crate) zero_prices: u64,
    /// Lines with a price below zero.
    pub(crate) negative_prices: u64,
    /// Lines with a quantity below zero, credit notes' included.
    pub(crate) negative_quantities: u64,
    /// Lines of orders with a quantity below zero: adjustment lines.
    pub(crate) adjustment_lines: u64,
    /// Prices with more decimals than the currency has.
    pub(crate) fine_prices: u64,
    /// Invoices whose lines differ in time; the first one's holds.
    pub(crate) invoices_with_several_times: u64,
    /// Invoices whose lines differ in customer or country; the first one's holds.
    pub(crate) invoices_with_several_customers: u64,
    /// Invoices whose lines are interrupted by another invoice's.
    pub(crate) interrupted_invoices: u64,
    /// Lines of the file.
    pub(crate) lines_read: u64,
    /// Invoices of the file.
    pub(crate) invoices_read: u64,
}

struct Open {
    invoice: Invoice,
    hash: u64,
    /// The number of the last line that was added.
    last: u64,
    several_times: bool,
    several_customers: bool,
    interrupted: bool,
}

/// The invoices of a file, in the order in which they end. The same file gives the same order, which makes a place in it a cursor.
pub(crate) struct Invoices {
    lines: Lines,
    /// In the order of their first lines.
    open: VecDeque<Open>,
    /// Hashes of the invoices that have ended: 8 bytes each, to notice one that comes back.
    ended: HashSet<u64>,
    hasher: RandomState,
    counted: u64,
    odd: Odd,
    /// Set at the end of the file.
    drained: bool,
}

impl Invoices {
    /// Reads from the beginning.
    pub(crate) fn new(lines: Lines) -> Invoices {
        Invoices {
            lines,
            open: VecDeque::new(),
            ended: HashSet::new(),
            hasher: RandomState::new(),
            counted: 0,
            odd: Odd::default(),
            drained: false,
        }
    }

    /// What was odd so far.
    pub(crate) fn odd(&self) -> &Odd {
        &self.odd
    }

    /// The next invoice that has ended. Errors: `import.bad_line`; `import.scattered_invoice`.
    pub(crate) fn next(&mut self) -> Outcome<Option<Invoice>> {
        loop {
            if self.drained || self.open.len() > OPEN {
                return Ok(self.open.pop_front().map(|open| self.end(open)));
            }
            match self.lines.next()? {
                None => self.drained = true,
                Some(line) => {
                    self.counted += 1;
                    note_oddities(&line, &mut self.odd);
                    let hash = self.hasher.hash_one(line.invoice);
                    add(&mut self.open, &self.ended, hash, self.counted, &line)?;
                }
            }
        }
    }

    fn end(&mut self, open: Open) -> Invoice {
        self.ended.insert(open.hash);
        self.odd.invoices_read += 1;
        self.odd.invoices_with_several_times += u64::from(open.several_times);
        self.odd.invoices_with_several_customers += u64::from(open.several_customers);
        self.odd.interrupted_invoices += u64::from(open.interrupted);
        if open.invoice.kind == Kind::Order {
            self.odd.adjustment_lines += open.invoice.lines.iter().filter(|l| l.quantity < 0).count() as u64;
        }
        open.invoice
    }
}

/// Adds a line to its open invoice, or opens one.
fn add(open: &mut VecDeque<Open>, ended: &HashSet<u64>, hash: u64, counted: u64, line: &Line<'_>) -> Outcome {
    let fresh = InvoiceLine {
        stock_code: line.stock_code.to_owned(),
        description: line.description.to_owned(),
        quantity: line.quantity,
        unit_price: line.unit_price,
    };
    // From the back: nearly always it is the last one.
    if let Some(found) = open.iter_mut().rev().find(|o| o.hash == hash && o.invoice.number == line.invoice) {
        found.interrupted |= found.last + 1 != counted;
        found.last = counted;
        found.several_times |= found.invoice.at != line.at;
        found.several_customers |= found.invoice.customer.as_deref() != line.customer || found.invoice.country != line.country;
        if found.invoice.lines.len() >= MAX_LINES {
            let detail = format!("line {}: invoice {} has more than {MAX_LINES} lines", line.line, line.invoice);
            return Err(Failure::new(Exit::Usage, "import.too_many_lines", detail));
        }
        found.invoice.lines.push(fresh);
        return Ok(());
    }
    if ended.contains(&hash) {
        let detail =
            format!("line {}: invoice {} began more than {OPEN} invoices ago; sort the file by InvoiceNo", line.line, line.invoice);
        return Err(Failure::new(Exit::Usage, "import.scattered_invoice", detail));
    }
    let kind = match line.invoice.as_bytes().first() {
        Some(b'C' | b'c') => Kind::CreditNote,
        Some(b'A' | b'a') => Kind::Adjustment,
        _ => Kind::Order,
    };
    open.push_back(Open {
        invoice: Invoice {
            number: line.invoice.to_owned(),
            kind,
            at: line.at,
            customer: line.customer.map(str::to_owned),
            country: line.country.to_owned(),
            lines: vec![fresh],
        },
        hash,
        last: counted,
        several_times: false,
        several_customers: false,
        interrupted: false,
    });
    Ok(())
}

fn note_oddities(line: &Line<'_>, odd: &mut Odd) {
    let price = line.unit_price.micros();
    odd.lines_read += 1;
    odd.lines_without_customer += u64::from(line.customer.is_none());
    odd.lines_without_description += u64::from(line.description.is_empty());
    odd.descriptions_mended += u64::from(line.mended);
    odd.zero_prices += u64::from(price == 0);
    odd.negative_prices += u64::from(price < 0);
    odd.negative_quantities += u64::from(line.quantity < 0);
    odd.fine_prices += u64::from(price % 10_000 != 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invoices(body: &str) -> Invoices {
        let text = format!("InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n{body}");
        Invoices::new(Lines::new(Box::new(std::io::Cursor::new(text.into_bytes()))).expect("a header"))
    }

    fn all(mut invoices: Invoices) -> Outcome<(Vec<(String, usize)>, Odd)> {
        let mut found = Vec::new();
        while let Some(invoice) = invoices.next()? {
            found.push((invoice.number, invoice.lines.len()));
        }
        Ok((found, invoices.odd().clone()))
    }

    #[test]
    fn an_interrupted_invoice_is_put_together() {
        let body =
            "1,a,X,1,2010-12-01 08:26:00,2.55,7.0,UK\nC2,a,X,-1,2010-12-01 08:26:00,2.55,7.0,UK\n1,b,,1,2010-12-01 08:27:00,0,7.0,UK\n";
        let (found, odd) = all(invoices(body)).expect("valid");
        assert_eq!(found, [("1".to_owned(), 2), ("C2".to_owned(), 1)]);
        let expected = Odd {
            lines_read: 3,
            invoices_read: 2,
            interrupted_invoices: 1,
            invoices_with_several_times: 1,
            zero_prices: 1,
            lines_without_description: 1,
            negative_quantities: 1,
            ..Odd::default()
        };
        assert_eq!(odd, expected);
    }

    #[test]
    fn an_invoice_that_comes_back_too_late_is_refused() {
        let line = |invoice: usize| format!("{invoice},a,X,1,2010-12-01 08:26:00,2.55,,UK\n");
        let body: String = (0..200).map(line).collect();
        assert_eq!(all(invoices(&body)).map(|(found, _)| found.len()).ok(), Some(200));
        let refused = all(invoices(&(body + &line(3)))).expect_err("came back");
        assert_eq!(refused.code, "import.scattered_invoice");
        assert!(refused.detail.starts_with("line 202: invoice 3 "), "{}", refused.detail);
    }
}
