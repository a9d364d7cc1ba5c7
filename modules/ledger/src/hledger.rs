//! The journal in hledger's text format (hledger.org), so that an accountant's own tool can check it. Holds are not in it: nothing was
//! posted.

use crate::decimal::decimal;
use crate::model::*;
use crate::queries::Transaction;
use kernel::Currency;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;

/// Writes a journal piece by piece.
#[derive(Default)]
pub struct Journal {
    accounts: HashMap<AccountId, (String, Currency)>,
}

impl Journal {
    /// The head of the file: every account with its type, and every currency with its digits. Accounts must be told before their
    /// transactions.
    pub fn head(&mut self, accounts: &[Account]) -> String {
        let mut text = String::new();
        let currencies: BTreeSet<Currency> = accounts.iter().map(|a| a.currency).collect();
        for currency in &currencies {
            // hledger wants the decimal point even where there are no decimals.
            let digits = "0".repeat(currency.exponent() as usize);
            let _ = writeln!(text, "commodity 1000.{digits} {currency}");
        }
        let names: BTreeMap<String, &Account> = accounts.iter().map(|a| (name_of(a), a)).collect();
        for (name, account) in names {
            let _ = writeln!(text, "account {name}  ; type:{}", type_of(account.account_type));
        }
        self.accounts.extend(accounts.iter().map(|a| (a.account_id, (name_of(a), a.currency))));
        text
    }

    /// One transaction, by its effective date; empty for what posted nothing.
    pub fn transaction(&self, transaction: &Transaction) -> String {
        let mut text = String::new();
        if transaction.postings.iter().all(|p| p.amount_minor == 0) {
            return text;
        }
        let date = format_day(transaction.effective_at.day());
        let said = transaction.description.as_deref().unwrap_or(transaction.kind.as_str()).replace([';', '\n', '\r'], ",");
        let _ = write!(text, "\n{date} * ({}) {said}", transaction.transaction_id);
        let _ = write!(text, "  ; kind:{}, recorded:{}", transaction.kind.as_str(), transaction.recorded_at);
        if let Some(subject) = transaction.subject_id {
            let _ = write!(text, ", about:{subject}");
        }
        if let Some(rate) = &transaction.rate {
            let _ = write!(text, ", rate:{rate}");
        }
        text.push('\n');
        for posting in &transaction.postings {
            let Some((name, currency)) = self.accounts.get(&posting.account_id) else { continue };
            let signed = if posting.side == Side::Debit { posting.amount_minor } else { -posting.amount_minor };
            let _ = writeln!(text, "    {name}  {} {currency}", decimal(signed, *currency));
        }
        text
    }
}

/// `liabilities:wallet:alice`: the five roots that hledger knows by heart.
pub(crate) fn name_of(account: &Account) -> String {
    let root = match account.account_type {
        AccountType::Asset => "assets",
        AccountType::Liability => "liabilities",
        AccountType::Income => "income",
        AccountType::Expense => "expenses",
        AccountType::Equity => "equity",
    };
    format!("{root}:{}", account.code)
}

fn type_of(account_type: AccountType) -> &'static str {
    match account_type {
        AccountType::Asset => "A",
        AccountType::Liability => "L",
        AccountType::Income => "R",
        AccountType::Expense => "X",
        AccountType::Equity => "E",
    }
}
