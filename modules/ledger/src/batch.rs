//! Requests of one command that are decided one after the other, each on what those before it have left, and written at once: for a
//! command that has to know one outcome before it asks for the next, without a statement for each.

use crate::books::Books;
use crate::engine::{self, View};
use crate::model::{AccountId, Operation, Receipt, Request};
use crate::{commands, load, write};
use kernel::{Error, Result};
use store::{NewEvent, Tx};

/// Transfers, holds and journals between some accounts that are decided and not yet written. Between its load and its write the command
/// must ask nothing else of the ledger.
pub struct Batch {
    view: View,
    books: Books,
}

impl Batch {
    /// Loads these accounts; those that are not there are unknown to the requests.
    pub fn load(tx: &mut Tx<'_>, accounts: impl Iterator<Item = AccountId>) -> Result<Batch> {
        let (view, books) = load::view_of_accounts(tx, accounts.map(AccountId::as_i64).collect())?;
        Ok(Batch { view, books })
    }

    /// Decides one request: its receipt, and the event that tells of it, which the caller emits. A refused one changes nothing.
    /// Errors: the outcome of the guard that refused; `internal` for an exchange, a capture, a void, a reversal, and for whatever has a
    /// key, a link or an external reference, since those need more than accounts.
    pub fn decide(&mut self, tx: &Tx<'_>, request: &Request) -> Result<(Receipt, NewEvent)> {
        let simple = matches!(request.operation, Operation::Transfer { .. } | Operation::Hold { .. } | Operation::Journal { .. });
        let referred = request.details.as_deref().is_some_and(|details| details.external_ref.is_some());
        if !simple || referred || request.key.is_some() || request.linked {
            return Err(Error::internal("a batch of accounts was asked for more than accounts can tell"));
        }
        let receipt = engine::decide(&mut self.view, request, &mut || tx.new_id())?;
        let row = self.view.transactions.last().ok_or_else(|| Error::internal("a request was decided without a transaction"))?;
        Ok((receipt, commands::event_of(row)))
    }

    /// Writes everything that was decided.
    pub fn write(self, tx: &mut Tx<'_>) -> Result<()> {
        write::view(tx, &self.view, self.books)
    }
}
