//! A chain of hashes over the journal, and signed heads of it, so that whoever was once given a head can prove that nothing before it
//! was edited, removed, added or put into another order.
//!
//! Each link is `SHA-256(link before, content)`: one chain over what never changes of accounts (id, code, type, currency), one over whole
//! transactions, both in the order of their ids. That is the order in which they were committed: a lane's ids rise with its commits
//! (store, `lane.rs`). So the chain needs no place in a command: a job reads what was committed since the last seal, on a snapshot, and
//! writes one row. What is not sealed yet is a matter of seconds.
//!
//! Who holds the signing key can make another chain; who removes the end of a journal with its seals leaves one that is well. Against both
//! helps only a head that is kept elsewhere: [`Verifier::expecting`].

use crate::model::*;
use crate::queries::{Transaction, TrialBalance};
use crate::{queries, sql};
use kernel::{Currency, Error, Result, TenantId, Timestamp};
use ring::digest::{Context, SHA256};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use store::{FromRow, Read, Row, Store, Tx};

/// The most accounts, and the most transactions, that one seal adds.
pub const MAX_SEALED: usize = 50_000;
/// Rows that are read at once.
const PAGE: i64 = 2_000;
/// The longest that reading for one seal may take.
const READ_MS: u32 = 60_000;
/// Faults that a report names; the rest is counted.
const MAX_FAULTS: usize = 20;

type Head = [u8; 32];

/// Signs heads.
pub struct SealKey(Ed25519KeyPair);

impl SealKey {
    /// From 32 secret bytes.
    pub fn from_seed(seed: &[u8; 32]) -> SealKey {
        SealKey(Ed25519KeyPair::from_seed_unchecked(seed).expect("a seed of 32 bytes makes a key"))
    }

    /// What verifies its signatures, in hexadecimal.
    pub fn public_key(&self) -> String {
        hex(self.0.public_key().as_ref())
    }
}

/// A signed head: everything up to it is proven by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// From 1, without a gap.
    pub seal: i64,
    /// The last account that it covers, or 0.
    pub last_account: i64,
    /// How many accounts there are up to that.
    pub accounts: i64,
    /// The last transaction that it covers, or 0.
    pub last_transaction: i64,
    /// How many transactions there are up to that.
    pub transactions: i64,
    /// The chain over accounts, in hexadecimal.
    pub accounts_head: String,
    /// The chain over transactions, in hexadecimal.
    pub transactions_head: String,
    /// When it was made.
    pub sealed_at: Timestamp,
    /// Whose signature it is: Ed25519, in hexadecimal.
    pub public_key: String,
    /// Over all of the above and the tenant.
    pub signature: String,
}

impl FromRow for Seal {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(Seal {
            seal: row.get(0)?,
            last_account: row.get(1)?,
            accounts: row.get(2)?,
            last_transaction: row.get(3)?,
            transactions: row.get(4)?,
            accounts_head: row.get(5)?,
            transactions_head: row.get(6)?,
            sealed_at: row.get(7)?,
            public_key: row.get(8)?,
            signature: row.get(9)?,
        })
    }
}

impl Seal {
    fn message(&self, tenant: TenantId) -> String {
        let at = self.sealed_at.micros();
        let Seal { seal, last_account, accounts, last_transaction, transactions, accounts_head, transactions_head, .. } = self;
        format!(
            "brandos ledger seal 1\n{}\n{seal}\n{last_account}\n{accounts}\n{accounts_head}\n{last_transaction}\n{transactions}\n{transactions_head}\n{at}\n",
            tenant.as_i64()
        )
    }

    fn is_signed(&self, tenant: TenantId) -> bool {
        let (Some(key), Some(signature)) = (bytes(&self.public_key), bytes(&self.signature)) else { return false };
        UnparsedPublicKey::new(&ED25519, key).verify(self.message(tenant).as_bytes(), &signature).is_ok()
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digit = |at: usize| hex.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    if hex.len().is_multiple_of(2) { (0..hex.len()).step_by(2).map(digit).collect() } else { None }
}

/// The two chains as they grow.
#[derive(Clone)]
struct Chains {
    accounts: Head,
    transactions: Head,
    buffer: Vec<u8>,
}

impl Chains {
    /// A tenant's first links are its own, so that one tenant's journal is not taken for another's.
    fn new(tenant: TenantId) -> Chains {
        let first = |what: &str| link(&[0; 32], format!("brandos ledger {what} 1\n{}", tenant.as_i64()).as_bytes());
        Chains { accounts: first("accounts"), transactions: first("transactions"), buffer: Vec::new() }
    }

    fn from(seal: &Seal) -> Result<Chains> {
        let head =
            |hex: &str| bytes(hex).and_then(|head| Head::try_from(head).ok()).ok_or_else(|| Error::internal("a seal's head is no hash"));
        Ok(Chains { accounts: head(&seal.accounts_head)?, transactions: head(&seal.transactions_head)?, buffer: Vec::new() })
    }

    fn account(&mut self, id: AccountId, code: &str, account_type: AccountType, currency: Currency) {
        self.buffer.clear();
        self.buffer.extend(id.as_i64().to_be_bytes());
        for text in [code, account_type.as_str(), currency.code()] {
            put(&mut self.buffer, text);
        }
        self.accounts = link(&self.accounts, &self.buffer);
    }

    fn transaction(&mut self, t: &Transaction) {
        let buffer = &mut self.buffer;
        buffer.clear();
        let subject = t.subject_id.map_or(0, |id| id.as_i64());
        for number in [t.transaction_id.as_i64(), t.recorded_at.micros(), t.effective_at.micros(), subject, t.pending_minor] {
            buffer.extend(number.to_be_bytes());
        }
        put(buffer, t.kind.as_str());
        for text in [&t.rate, &t.external_ref, &t.description] {
            buffer.push(u8::from(text.is_some()));
            put(buffer, text.as_deref().unwrap_or_default());
        }
        buffer.extend((t.postings.len() as u32).to_be_bytes());
        for posting in &t.postings {
            buffer.extend(posting.account_id.as_i64().to_be_bytes());
            buffer.push(u8::from(posting.side == Side::Debit));
            buffer.extend(posting.amount_minor.to_be_bytes());
        }
        buffer.extend((t.metadata.len() as u32).to_be_bytes());
        for text in t.metadata.iter().flat_map(|(name, value)| [name, value]) {
            put(buffer, text);
        }
        self.transactions = link(&self.transactions, buffer);
    }
}

/// A text with its length before it, so that no two contents look alike.
fn put(buffer: &mut Vec<u8>, text: &str) {
    buffer.extend((text.len() as u32).to_be_bytes());
    buffer.extend(text.as_bytes());
}

fn link(before: &Head, content: &[u8]) -> Head {
    let mut context = Context::new(&SHA256);
    context.update(before);
    context.update(content);
    let mut head = [0; 32];
    head.copy_from_slice(context.finish().as_ref());
    head
}

/// Seals up to [`MAX_SEALED`] of what was committed since the last seal. Whether there may be more. When two nodes do it at once, one of
/// them has done nothing.
pub async fn seal(store: &Store, tenant: TenantId, key: &SealKey, now: Timestamp) -> Result<bool> {
    let prepared = store.read_within(tenant, READ_MS, move |read| prepare(read, tenant, now)).await?;
    let Some((mut seal, more)) = prepared else { return Ok(false) };
    seal.public_key = key.public_key();
    seal.signature = hex(key.0.sign(seal.message(tenant).as_bytes()).as_ref());
    store.write(tenant, put_seal, seal).await?;
    Ok(more)
}

fn put_seal(tx: &mut Tx<'_>, s: &Seal) -> Result<()> {
    let heads = (&s.accounts_head, &s.transactions_head, s.sealed_at, &s.public_key, &s.signature);
    let args = (s.seal, s.last_account, s.accounts, s.last_transaction, s.transactions, heads.0, heads.1, heads.2, heads.3, heads.4);
    tx.exec(sql::INSERT_SEAL, args)
}

/// The next seal without its signature; none when nothing is new. Whether there may be more.
fn prepare(read: &mut Read<'_>, tenant: TenantId, now: Timestamp) -> Result<Option<(Seal, bool)>> {
    let last: Option<Seal> = read.opt(sql::LAST_SEAL, ())?;
    let mut chains = last.as_ref().map_or_else(|| Ok(Chains::new(tenant)), Chains::from)?;
    let (mut last_account, mut accounts) = last.as_ref().map_or((0, 0), |seal| (seal.last_account, seal.accounts));
    let (mut last_transaction, mut transactions) = last.as_ref().map_or((0, 0), |seal| (seal.last_transaction, seal.transactions));
    let before = (accounts, transactions);
    let most = MAX_SEALED as i64;
    // Accounts first, and all of them before any transaction: then whatever a sealed transaction names is sealed.
    let mut more = loop {
        let page = queries::accounts(read, None, last_account, PAGE)?;
        for a in &page {
            chains.account(a.account_id, &a.code, a.account_type, a.currency);
            (last_account, accounts) = (a.account_id.as_i64(), accounts + 1);
        }
        if (page.len() as i64) < PAGE {
            break false;
        }
        if accounts - before.0 >= most {
            break true;
        }
    };
    while !more {
        let page = queries::transactions_after(read, last_transaction, PAGE)?;
        for transaction in &page {
            chains.transaction(transaction);
            (last_transaction, transactions) = (transaction.transaction_id.as_i64(), transactions + 1);
        }
        if (page.len() as i64) < PAGE {
            break;
        }
        more = transactions - before.1 >= most;
    }
    if (accounts, transactions) == before {
        return Ok(None);
    }
    let (accounts_head, transactions_head) = (hex(&chains.accounts), hex(&chains.transactions));
    let (seal, sealed_at) = (last.map_or(0, |seal| seal.seal) + 1, now);
    let (public_key, signature) = (String::new(), String::new());
    let seal = Seal {
        seal,
        last_account,
        accounts,
        last_transaction,
        transactions,
        accounts_head,
        transactions_head,
        sealed_at,
        public_key,
        signature,
    };
    Ok(Some((seal, more)))
}

/// Up to `limit` seals after `after`, the oldest first.
pub(crate) fn seals_after(read: &mut Read<'_>, after: i64, limit: i64) -> Result<Vec<Seal>> {
    read.all(sql::SEALS_AFTER, (after, limit))
}

/// What stands in each line of an exported journal, in this order: `journal`, `seal`, `account`, `transaction`, `trial_balance`.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    Journal(JournalHead),
    Seal(Box<Seal>),
    Account(Box<Account>),
    Transaction(Box<Transaction>),
    TrialBalance(TrialBalance),
}

/// The first line of an exported journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalHead {
    /// 1.
    pub version: u32,
    /// Whose it is.
    pub tenant_id: TenantId,
}

/// What a verification found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Whether nothing is wrong.
    pub ok: bool,
    /// What is wrong, the first few of it.
    pub faults: Vec<String>,
    /// How much is wrong.
    pub fault_count: u64,
    /// How many accounts there are.
    pub accounts: i64,
    /// How many transactions there are.
    pub transactions: i64,
    /// How many of them come after the last seal: nothing proves these yet.
    pub unsealed: i64,
    /// How many seals there are, all of them signed.
    pub seals: i64,
    /// The public keys that have signed, in hexadecimal.
    pub public_keys: Vec<String>,
    /// The last sealed head of the transactions, to be kept elsewhere.
    pub head: Option<String>,
}

/// Checks an exported journal line by line, without a database: each transaction sums to zero in each currency; the balances give the
/// trial balance; ids rise; both chains lead to each sealed head; each seal is signed, and by the right key.
#[derive(Default)]
pub struct Verifier {
    report: Report,
    lines: u64,
    tenant: Option<TenantId>,
    chains: Option<Chains>,
    pinned: Option<String>,
    expected_head: Option<String>,
    seals: Vec<Seal>,
    /// The next seal whose accounts, and the next whose transactions are to be compared.
    accounts_of: usize,
    transactions_of: usize,
    last_account: i64,
    last_transaction: i64,
    accounts: HashMap<AccountId, Sums>,
    kinds: HashMap<AccountId, (AccountType, Currency)>,
    trial: Option<TrialBalance>,
}

impl Verifier {
    /// Believes the keys that the seals name themselves. Better say which it must be.
    pub fn new() -> Verifier {
        Verifier::default()
    }

    /// Accepts only seals by this public key, in hexadecimal.
    #[must_use]
    pub fn signed_by(mut self, public_key: &str) -> Verifier {
        self.pinned = Some(public_key.to_ascii_lowercase());
        self
    }

    /// Wants a seal with this head, kept from an earlier verification: proves that nothing up to it was taken away either.
    #[must_use]
    pub fn expecting(mut self, head: &str) -> Verifier {
        self.expected_head = Some(head.to_ascii_lowercase());
        self
    }

    fn fault(&mut self, what: impl std::fmt::Display) {
        self.report.fault_count += 1;
        if self.report.faults.len() < MAX_FAULTS {
            self.report.faults.push(format!("line {}: {what}", self.lines));
        }
    }

    /// Takes the next line.
    pub fn line(&mut self, text: &str) {
        self.lines += 1;
        match serde_json::from_str::<Line>(text) {
            Ok(Line::Journal(head)) if self.lines == 1 && head.version == 1 => {
                self.tenant = Some(head.tenant_id);
                self.chains = Some(Chains::new(head.tenant_id));
            }
            Ok(Line::Journal(_)) => self.fault("a journal of version 1 begins in the first line and nowhere else"),
            Ok(_) if self.chains.is_none() => self.fault("the first line does not say whose journal it is"),
            Ok(Line::Seal(seal)) => self.seal(*seal),
            Ok(Line::Account(account)) => self.account(&account),
            Ok(Line::Transaction(transaction)) => self.transaction(&transaction),
            Ok(Line::TrialBalance(trial)) => self.trial = Some(trial),
            // What an export answers at its end.
            Err(_) if text.starts_with("{\"accounts\":") || text.starts_with("{\"ok\":") => {}
            Err(error) => self.fault(format_args!("it is no line of a journal: {error}")),
        }
    }

    fn seal(&mut self, seal: Seal) {
        if !self.accounts.is_empty() || self.report.transactions > 0 {
            self.fault("a seal comes after what it seals");
        }
        let before = self.seals.last();
        let rises = before
            .map_or(seal.seal == 1, |b| seal.seal == b.seal + 1 && seal.accounts >= b.accounts && seal.transactions >= b.transactions);
        if !rises {
            self.fault(format_args!("seal {} does not follow the one before it", seal.seal));
        }
        if !self.tenant.is_some_and(|tenant| seal.is_signed(tenant)) {
            self.fault(format_args!("seal {} is not signed by its key", seal.seal));
        }
        if self.pinned.as_ref().is_some_and(|key| *key != seal.public_key) {
            self.fault(format_args!("seal {} is signed by another key", seal.seal));
        }
        if !self.report.public_keys.contains(&seal.public_key) {
            self.report.public_keys.push(seal.public_key.clone());
        }
        self.seals.push(seal);
    }

    fn account(&mut self, account: &Account) {
        let id = account.account_id;
        if id.as_i64() <= self.last_account {
            self.fault(format_args!("account {id} is not in order"));
        }
        self.last_account = id.as_i64();
        self.report.accounts += 1;
        self.accounts.insert(id, Sums::default());
        self.kinds.insert(id, (account.account_type, account.currency));
        let Some(chains) = &mut self.chains else { return };
        chains.account(id, &account.code, account.account_type, account.currency);
        let (head, count) = (hex(&chains.accounts), self.report.accounts);
        while let Some(seal) = self.seals.get(self.accounts_of).filter(|seal| seal.accounts <= count) {
            let (wrong, number) = (seal.accounts == count && (seal.last_account != id.as_i64() || seal.accounts_head != head), seal.seal);
            if wrong {
                self.fault(format_args!("the accounts up to {id} are not those of seal {number}"));
            }
            self.accounts_of += 1;
        }
    }

    fn transaction(&mut self, transaction: &Transaction) {
        let id = transaction.transaction_id;
        if id.as_i64() <= self.last_transaction {
            self.fault(format_args!("transaction {id} is not in order"));
        }
        self.last_transaction = id.as_i64();
        self.report.transactions += 1;
        if transaction.postings.len() < 2 {
            self.fault(format_args!("transaction {id} has fewer than two postings"));
        }
        let mut sums: BTreeMap<Currency, i128> = BTreeMap::new();
        for posting in &transaction.postings {
            let (Some(moved), Some((_, currency))) = (self.accounts.get_mut(&posting.account_id), self.kinds.get(&posting.account_id))
            else {
                self.fault(format_args!("transaction {id} is on account {}, which is not in the journal", posting.account_id));
                continue;
            };
            let (sum, signed) = match posting.side {
                Side::Debit => (&mut moved.debits_posted, i128::from(posting.amount_minor)),
                Side::Credit => (&mut moved.credits_posted, -i128::from(posting.amount_minor)),
            };
            *sum = sum.saturating_add(posting.amount_minor);
            *sums.entry(*currency).or_default() += signed;
            if posting.amount_minor < 0 {
                self.fault(format_args!("transaction {id} has an amount below zero"));
            }
        }
        for (currency, sum) in sums.iter().filter(|(_, sum)| **sum != 0) {
            self.fault(format_args!("transaction {id} does not sum to zero: {sum} {currency} are left"));
        }
        let Some(chains) = &mut self.chains else { return };
        chains.transaction(transaction);
        let count = self.report.transactions;
        while let Some(seal) = self.seals.get(self.transactions_of).filter(|seal| seal.transactions <= count) {
            // Several seals may end at one transaction, when only accounts came after it; one may end before the first.
            let wrong =
                seal.transactions == count && (seal.last_transaction != id.as_i64() || seal.transactions_head != hex(&chains.transactions));
            let number = seal.seal;
            if wrong {
                self.fault(format_args!("the transactions up to {id} are not those of seal {number}"));
                break;
            }
            self.transactions_of += 1;
        }
    }

    /// What was found.
    pub fn finish(mut self) -> Report {
        let last = self.seals.last().cloned();
        if self.chains.is_none() {
            self.fault("there is no journal");
        }
        if let Some(seal) = &last
            && (seal.accounts > self.report.accounts || seal.transactions > self.report.transactions)
        {
            let (accounts, transactions) = (seal.accounts - self.report.accounts, seal.transactions - self.report.transactions);
            self.fault(format_args!("at least {} accounts and {} transactions are missing", accounts.max(0), transactions.max(0)));
        }
        if let Some(head) = self.expected_head.clone()
            && !self.seals.iter().any(|seal| seal.transactions_head == head)
        {
            self.fault(format_args!("no seal has the head {head}"));
        }
        // All accounts of a type together may pass 64 bits.
        type Lines = BTreeMap<(Currency, &'static str), (i128, i128, i128)>;
        let add = |lines: &mut Lines, key, accounts: i64, debits: i64, credits: i64| {
            let line = lines.entry(key).or_default();
            *line = (line.0 + i128::from(accounts), line.1 + i128::from(debits), line.2 + i128::from(credits));
        };
        let (mut lines, mut told) = (Lines::new(), Lines::new());
        for (id, (account_type, currency)) in &self.kinds {
            let sums = self.accounts[id];
            add(&mut lines, (*currency, account_type.as_str()), 1, sums.debits_posted, sums.credits_posted);
        }
        let given = self.trial.take();
        for line in given.iter().flat_map(|trial| &trial.lines) {
            add(&mut told, (line.currency, line.account_type.as_str()), line.accounts, line.debits_minor, line.credits_minor);
        }
        let as_told = given.is_some() && told == lines;
        if !as_told && self.chains.is_some() {
            self.fault("the balances do not give the trial balance");
        }
        self.report.unsealed = self.report.transactions - last.as_ref().map_or(0, |seal| seal.transactions);
        self.report.seals = self.seals.len() as i64;
        self.report.head = last.map(|seal| seal.transactions_head);
        self.report.ok = self.report.fault_count == 0;
        self.report
    }
}
