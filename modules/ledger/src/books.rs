//! What a lane remembers of accounts from one group to the next, and which of them are behind in `ledger_balances`. Only on SQLite, where
//! a lane is alone: on PostgreSQL another node may have written since.
//!
//! A transfer changes two accounts, which stand anywhere in the table of balances: a group of thirty would write sixty pages to tell
//! what two pages of the journal tell already. So small groups of transfers leave the balances for later. `ledger_tail` names the first
//! transaction that is in no balance yet, and every reader adds the journal's tail to what it reads. After [`TAIL`] transactions, or when
//! something other than transfers comes, the tail is folded: each balance is written once, and the row is gone.
//!
//! All of this follows from what is written: whoever finds a tail without remembering it folds it by a recount (`sql::TAIL`).

use crate::engine::{AccountState, Moving};
use crate::model::*;
use crate::sql;
use kernel::{Result, TenantId};
use std::collections::{BTreeSet, HashMap};
use store::{Engine, Tx};

/// Transactions that may be in no balance yet: bounds what a reader adds up, and how long a fold takes.
const TAIL: usize = 512;
/// Larger groups write their balances themselves.
const SMALL: usize = 128;
/// Accounts that a lane remembers, of all tenants.
const REMEMBERED: usize = 100_000;

/// Of every tenant of the lane.
#[derive(Default)]
struct Remembered {
    tenants: HashMap<TenantId, Books>,
    accounts: usize,
}

/// What is remembered of one tenant.
#[derive(Default)]
pub(crate) struct Books {
    accounts: HashMap<AccountId, AccountState>,
    /// Accounts with transactions that are not in their stored balance; all of them are remembered.
    behind: BTreeSet<AccountId>,
    /// How many transactions are in no balance.
    tail: usize,
}

/// Takes out what is remembered of the tenant; to be given back with [`give_back`].
pub(crate) fn take(tx: &mut Tx<'_>) -> Result<Books> {
    let tenant = tx.tenant()?;
    let Some(mut all) = tx.take_kept::<Remembered>() else { return Ok(Books::default()) };
    let books = all.tenants.remove(&tenant).unwrap_or_default();
    all.accounts -= books.accounts.len();
    tx.keep(all);
    Ok(books)
}

/// Remembers it for the next group. Nothing on PostgreSQL.
pub(crate) fn give_back(tx: &mut Tx<'_>, books: Books) -> Result<()> {
    if tx.engine() != Engine::Sqlite {
        return Ok(());
    }
    let tenant = tx.tenant()?;
    let mut all = tx.take_kept::<Remembered>().unwrap_or_default();
    if all.accounts + books.accounts.len() > REMEMBERED {
        // Whatever is behind is found again by its tail.
        all = Remembered::default();
    }
    if books.accounts.len() <= REMEMBERED {
        all.accounts += books.accounts.len();
        all.tenants.insert(tenant, books);
    }
    tx.keep(all);
    Ok(())
}

/// Folds what is behind and forgets the tenant: before accounts are changed by anything but transactions.
pub(crate) fn settle(tx: &mut Tx<'_>) -> Result<()> {
    take(tx)?;
    recount(tx)
}

/// Folds a tail that nobody remembers, if there is one.
pub(crate) fn recount(tx: &mut Tx<'_>) -> Result<()> {
    let Some((first,)) = tx.opt::<(i64,)>(sql::TAIL_BEGINS, ())? else { return Ok(()) };
    type Row = (AccountId, i64, i64, i64, i64, i64);
    let sums: Vec<Row> = tx.all(sql::TAIL, (first,))?;
    tx.exec_each(sql::FOLD_BALANCE, sums)?;
    tx.exec(sql::END_TAIL, ())
}

impl Books {
    /// The account, if it is remembered.
    pub(crate) fn account(&self, id: AccountId) -> Option<&AccountState> {
        self.accounts.get(&id)
    }

    /// Whether there is a tail that is remembered.
    pub(crate) fn has_tail(&self) -> bool {
        self.tail > 0
    }

    /// Remembers an account as it was read.
    pub(crate) fn learn(&mut self, account: &AccountState) {
        self.accounts.insert(account.id, account.clone());
    }

    /// Writes the balances that a batch of `transactions` has changed, or leaves them for later if `may_wait`.
    pub(crate) fn write(
        &mut self,
        tx: &mut Tx<'_>,
        transactions: &[TransactionId],
        changed: &[&AccountState],
        may_wait: bool,
    ) -> Result<()> {
        for account in changed {
            if let Some(known) = self.accounts.get_mut(&account.id) {
                known.moving = Moving { changed: false, ..account.moving };
            }
        }
        let wait = may_wait && transactions.len() <= SMALL && self.tail + transactions.len() <= TAIL;
        let Some(first) = transactions.first().filter(|_| wait && changed.iter().all(|a| self.accounts.contains_key(&a.id))) else {
            return self.fold(tx, changed);
        };
        if self.tail == 0 {
            tx.exec(sql::BEGIN_TAIL, (*first,))?;
        }
        self.tail += transactions.len();
        self.behind.extend(changed.iter().map(|account| account.id));
        Ok(())
    }

    /// Writes the balances of these accounts, and of all that are behind, in the order of the table.
    fn fold(&mut self, tx: &mut Tx<'_>, changed: &[&AccountState]) -> Result<()> {
        let behind = std::mem::take(&mut self.behind);
        let mut rows: Vec<(AccountId, Moving)> = behind.iter().filter_map(|id| self.accounts.get(id)).map(|a| (a.id, a.moving)).collect();
        rows.extend(changed.iter().filter(|account| !behind.contains(&account.id)).map(|account| (account.id, account.moving)));
        rows.sort_unstable_by_key(|(id, _)| *id);
        crate::write::balances(tx, &rows)?;
        if std::mem::take(&mut self.tail) > 0 {
            tx.exec(sql::END_TAIL, ())?;
        }
        Ok(())
    }
}
