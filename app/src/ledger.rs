//! `brandos ledger`: the books of a tenant for an accountant, and whether they add up.

use crate::cli::{self, ExportFormat};
use crate::config::Config;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{Output, grouped};
use crate::wiring::{Node, Use};
use kernel::TenantId;
use ledger::Account;
use ledger::api::{self, Journal, Transaction};
use std::collections::BTreeSet;
use std::io::BufRead;
use std::path::Path;
use web::{AuditCheck, AuditOutcome};

/// Rows that are read at once.
const PAGE: u32 = 2_000;
/// The longest that one check may take: a recount reads every transaction.
const CHECK_MS: u32 = 30 * 60 * 1_000;
const PAGE_MS: u32 = 60_000;

/// `brandos ledger ...`.
pub(crate) async fn ledger(config: Config, command: cli::Ledger, out: Output) -> Outcome<Exit> {
    if let cli::Ledger::Verify { file: Some(file), public_key, head, .. } = &command {
        return verify_file(file, public_key.as_deref(), head.as_deref(), out);
    }
    let how = if matches!(command, cli::Ledger::Seal { .. }) { Use::Write("ledger") } else { Use::Read("ledger") };
    let node = Node::open(config, how)?;
    let exit = match command {
        cli::Ledger::Seal { tenant } => seal(&node, &tenant, out).await,
        cli::Ledger::TrialBalance { tenant } => trial_balance(&node, &tenant, out).await,
        cli::Ledger::Export { tenant, format } => export(&node, &tenant, format, out).await,
        cli::Ledger::Verify { tenant, .. } => verify(&node, &tenant.unwrap_or_default(), out).await,
    }?;
    node.close().await;
    Ok(exit)
}

async fn trial_balance(node: &Node, tenant: &str, out: Output) -> Outcome<Exit> {
    let tenant = crate::admin::find(node, tenant).await?.id;
    let trial = node.store.read_within(tenant, CHECK_MS, api::trial_balance).await?;
    let row = |line: &api::TrialBalanceLine| {
        let amounts = [line.accounts, line.debits_minor, line.credits_minor, line.debits_minor - line.credits_minor];
        [line.currency.to_string(), line.account_type.as_str().to_owned()].into_iter().chain(amounts.map(grouped)).collect()
    };
    out.table(
        &["CURRENCY", "TYPE", "ACCOUNTS", "DEBITS (MINOR)", "CREDITS (MINOR)", "DIFFERENCE"],
        &trial.lines.iter().map(row).collect::<Vec<_>>(),
    );
    out.line(if trial.balanced { "debits and credits are equal in each currency" } else { "FAILED: debits and credits differ" });
    out.value(&trial);
    Ok(if trial.balanced { Exit::Ok } else { Exit::CheckFailed })
}

async fn export(node: &Node, tenant: &str, format: ExportFormat, out: Output) -> Outcome<Exit> {
    let tenant = crate::admin::find(node, tenant).await?.id;
    // All of one moment: accounts and transactions that come after it are left out.
    let moment = |read: &mut store::Read<'_>| Ok((api::last_transaction(read)?, seals(read)?, api::trial_balance(read)?));
    let (last, seals, trial) = node.store.read_within(tenant, CHECK_MS, moment).await?;
    let mut accounts = accounts(node, tenant).await?;
    accounts.truncate(trial.lines.iter().map(|line| line.accounts as usize).sum());
    let mut journal = Journal::default();
    let head = journal.head(&accounts);
    let json = out.is_json() || format == ExportFormat::Json;
    if json {
        line(out, "journal", &api::JournalHead { version: 1, tenant_id: tenant })?;
        seals.iter().try_for_each(|seal| line(out, "seal", seal))?;
        accounts.iter().try_for_each(|account| line(out, "account", account))?;
    } else {
        out.kept(head.trim_end())?;
    }
    let (mut after, mut count) = (None, 0_u64);
    while let Some(last) = last.filter(|last| after.is_none_or(|after| after < *last)) {
        let page = node.store.read_within(tenant, PAGE_MS, move |read| api::transactions_after(read, after, PAGE)).await?;
        let page: Vec<Transaction> = page.into_iter().filter(|t| t.transaction_id <= last).collect();
        let Some(end) = page.last().map(|t| t.transaction_id) else { break };
        for transaction in &page {
            if json {
                line(out, "transaction", transaction)?;
            } else {
                let text = journal.transaction(transaction);
                if !text.is_empty() {
                    out.kept(text.trim_end_matches('\n'))?;
                }
            }
        }
        (after, count) = (Some(end), count + page.len() as u64);
    }
    if json {
        line(out, "trial_balance", &trial)?;
    }
    out.note(format!("{} accounts, {} transactions", grouped(accounts.len() as i64), grouped(count as i64)));
    if out.is_json() {
        out.kept(&serde_json::json!({ "ok": true, "accounts": accounts.len(), "transactions": count }).to_string())?;
    }
    Ok(Exit::Ok)
}

/// Every seal.
fn seals(read: &mut store::Read<'_>) -> kernel::Result<Vec<api::Seal>> {
    let mut all: Vec<api::Seal> = Vec::new();
    loop {
        let page = api::seals_after(read, all.last().map_or(0, |seal| seal.seal), PAGE)?;
        let full = page.len() == PAGE as usize;
        all.extend(page);
        if !full {
            return Ok(all);
        }
    }
}

async fn seal(node: &Node, tenant: &str, out: Output) -> Outcome<Exit> {
    let tenant = crate::admin::find(node, tenant).await?.id;
    let key = node.seal_key(&node.auth().await?);
    while api::seal(&node.store, tenant, &key, node.clock.now()).await? {}
    let last = node.store.read_within(tenant, CHECK_MS, seals).await?.pop();
    let (accounts, transactions) = last.as_ref().map_or((0, 0), |seal| (seal.accounts, seal.transactions));
    out.line(format!("{} accounts and {} transactions are sealed", grouped(accounts), grouped(transactions)));
    out.line(format!("public key  {}", key.public_key()));
    if let Some(seal) = &last {
        out.line(format!("head        {}", seal.transactions_head));
    }
    out.value(&serde_json::json!({ "ok": true, "public_key": key.public_key(), "seal": last }));
    Ok(Exit::Ok)
}

/// Tenants whose ledgers could not be looked after when that was last tried: each is told of once, and keeps nobody else waiting.
#[derive(Debug, Default)]
pub(crate) struct Failing(BTreeSet<TenantId>);

impl Failing {
    fn saw(&mut self, tenant: TenantId, what: &str, outcome: kernel::Result<()>) {
        match outcome {
            Ok(()) => {
                self.0.remove(&tenant);
            }
            Err(error) if self.0.insert(tenant) => tracing::warn!(%tenant, ?error, "{what}"),
            Err(_) => {}
        }
    }
}

/// Seals the journals that have grown, on every shard.
pub(crate) async fn seal_all(
    store: &store::Store,
    key: &api::SealKey,
    clock: &dyn kernel::Clock,
    failing: &mut Failing,
) -> kernel::Result<()> {
    const TENANTS: u32 = 1_000;
    for shard in 0..store.shards() {
        let mut after = None;
        loop {
            let tenants = store.read_shard(shard, move |read| api::tenants_to_seal(read, after, TENANTS)).await?;
            for tenant in &tenants {
                // One that has more than a seal takes goes on when the others had their turn.
                let sealed = api::seal(store, *tenant, key, clock.now()).await;
                failing.saw(*tenant, "a ledger can't be sealed", sealed.map(|_| ()));
            }
            after = tenants.last().copied();
            if tenants.len() < TENANTS as usize {
                break;
            }
        }
    }
    Ok(())
}

/// An exported journal, without a database.
fn verify_file(file: &Path, public_key: Option<&str>, head: Option<&str>, out: Output) -> Outcome<Exit> {
    let mut verifier = api::Verifier::new();
    if let Some(key) = public_key {
        verifier = verifier.signed_by(key);
    }
    if let Some(head) = head {
        verifier = verifier.expecting(head);
    }
    let unreadable = |error: &std::io::Error| Failure::file("read", file, error);
    let input: Box<dyn BufRead> = if file == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(std::io::BufReader::new(std::fs::File::open(file).map_err(|e| unreadable(&e))?))
    };
    for text in input.lines() {
        verifier.line(&text.map_err(|e| unreadable(&e))?);
    }
    let report = verifier.finish();
    for fault in &report.faults {
        out.line(format!("FAILED  {fault}"));
    }
    out.line(format!(
        "{} accounts, {} transactions, {} seals; {} transactions come after the last seal",
        grouped(report.accounts),
        grouped(report.transactions),
        grouped(report.seals),
        grouped(report.unsealed)
    ));
    for key in &report.public_keys {
        out.line(format!("signed by   {key}{}", if public_key.is_some() { "" } else { "  (compare it: the journal says so itself)" }));
    }
    if let Some(head) = &report.head {
        out.line(format!("head        {head}"));
    }
    out.line(if report.ok { "the journal adds up" } else { "the journal does NOT add up" });
    out.value(&report);
    Ok(if report.ok { Exit::Ok } else { Exit::CheckFailed })
}

/// A line of JSON that says what it is.
fn line(out: Output, name: &str, thing: &impl serde::Serialize) -> Outcome {
    let value = serde_json::to_value(thing).map_err(|e| kernel::Error::internal("an export does not serialise").caused_by(e))?;
    out.kept(&serde_json::json!({ name: value }).to_string())
}

async fn accounts(node: &Node, tenant: TenantId) -> Outcome<Vec<Account>> {
    let mut all: Vec<Account> = Vec::new();
    loop {
        let after = all.last().map(|account| account.account_id);
        let page = node.store.read(tenant, move |read| api::accounts(read, after, PAGE)).await?;
        let full = page.len() == PAGE as usize;
        all.extend(page);
        if !full {
            return Ok(all);
        }
    }
}

/// Every check of the ledger, on one tenant.
async fn verify(node: &Node, tenant: &str, out: Output) -> Outcome<Exit> {
    let tenant = crate::admin::find(node, tenant).await?.id;
    let mut checks = Vec::new();
    for audit in ledger::module().audits {
        let AuditCheck::Tenant(check) = audit.check else { continue };
        let AuditOutcome { ok, detail } = node.store.read_within(tenant, CHECK_MS, check).await?;
        out.line(format!("{}  {:<32} {detail}", if ok { "ok    " } else { "FAILED" }, audit.name));
        checks.push(serde_json::json!({ "name": audit.name, "ok": ok, "detail": detail }));
    }
    let ok = checks.iter().all(|check| check["ok"] == true);
    out.line(if ok { "the books add up" } else { "the books do NOT add up" });
    out.value(&serde_json::json!({ "ok": ok, "checks": checks }));
    Ok(if ok { Exit::Ok } else { Exit::CheckFailed })
}

/// Releases the holds whose time is over, on every shard.
pub(crate) async fn expire_holds(store: &store::Store, failing: &mut Failing) -> kernel::Result<()> {
    /// Tenants that are looked at in one round.
    const TENANTS: u32 = 1_000;
    for shard in 0..store.shards() {
        let tenants = store.read_shard(shard, |read| api::tenants_with_due_holds(read, TENANTS)).await?;
        for tenant in tenants {
            let released = expire_holds_of(store, tenant).await;
            failing.saw(tenant, "holds whose time is over can't be released", released);
        }
    }
    Ok(())
}

/// What a tenant has more than these waits for the next round, so that the others have their turn.
async fn expire_holds_of(store: &store::Store, tenant: TenantId) -> kernel::Result<()> {
    /// Holds that are released in one commit, and commits of one round.
    const HOLDS: u32 = 500;
    const COMMITS: u32 = 20;
    for _ in 0..COMMITS {
        if store.write(tenant, |tx: &mut store::Tx<'_>, limit: &u32| api::expire_holds(tx, *limit), HOLDS).await? < HOLDS {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernel::{IdGenerator, ManualClock, Timestamp};
    use ledger::api::NewAccount;
    use ledger::{AccountType, Request};
    use std::sync::Arc;

    /// A tenant with `holds` of a second.
    fn some_holds(tx: &mut store::Tx<'_>, holds: &u32) -> kernel::Result<()> {
        let euro = "EUR".parse()?;
        let bank = api::open_account(tx, &NewAccount::new("bank", AccountType::Asset, euro).unbounded())?.account_id;
        let alice = api::open_account(tx, &NewAccount::new("alice", AccountType::Liability, euro))?.account_id;
        let until = tx.now().plus_ms(1_000);
        let requests: Vec<Request> = (0..*holds).map(|_| Request::hold(bank, alice, 1, until)).collect();
        api::post_all(tx, &requests)?.into_iter().try_for_each(|outcome| outcome.map(|_| ()))
    }

    fn opened() -> (tempfile::TempDir, Arc<ManualClock>, store::Store) {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(ManualClock::new(Timestamp::from_micros(1_767_614_400_000_000)));
        let environment = store::Environment { clock: clock.clone(), ids: Arc::new(IdGenerator::new(clock.clone(), 1)) };
        let shard = store::ShardConfig::Sqlite { path: folder.path().join("shard.db") };
        let config = store::StoreConfig::with_shards(vec![shard]);
        let store = store::Store::open(config, &[ledger::module().migrations], environment).expect("the store opens");
        (folder, clock, store)
    }

    async fn count(store: &store::Store, tenant: TenantId, sql: &'static str) -> i64 {
        let read = move |read: &mut store::Read<'_>| read.one::<(i64,)>(sql, ());
        store.read(tenant, read).await.expect("it can be counted").0
    }

    #[tokio::test]
    async fn one_broken_ledger_stops_nobody_elses() {
        const DUE: &str = "SELECT COUNT(*) FROM ledger_holds WHERE tenant_id = $1 AND status = 'open'";
        const SEALS: &str = "SELECT COUNT(*) FROM ledger_seals WHERE tenant_id = $1";
        let (_folder, clock, store) = opened();
        let (broken, well) = (TenantId::from_i64(7), TenantId::from_i64(8));
        store.write(broken, some_holds, 1_u32).await.expect("holds");
        store.write(well, some_holds, 1_u32).await.expect("holds");
        // A hold of no number, and a seal that is none.
        let damage = |tx: &mut store::Tx<'_>, (): &()| {
            tx.exec("UPDATE ledger_holds SET captured_minor = 'none' WHERE tenant_id = $1", ())?;
            let seal = "INSERT INTO ledger_seals (tenant_id, seal, last_account, accounts, last_transaction, transactions, accounts_head,
              transactions_head, sealed_at, public_key, signature) VALUES ($1, 1, 0, 0, 0, 0, 'none', 'none', 0, '', '')";
            tx.exec(seal, ())
        };
        store.write(broken, damage, ()).await.expect("the damage is done");
        clock.advance_ms(2_000);
        let key = api::SealKey::from_seed(&[7; 32]);
        let (mut unsealed, mut unreleased) = (Failing::default(), Failing::default());
        for _ in 0..2 {
            seal_all(&store, &key, &*clock, &mut unsealed).await.expect("the others are sealed");
            expire_holds(&store, &mut unreleased).await.expect("those of the others are released");
        }
        assert_eq!((unsealed.0.contains(&broken), unsealed.0.len()), (true, 1));
        assert_eq!((unreleased.0.contains(&broken), unreleased.0.len()), (true, 1));
        assert_eq!((count(&store, well, DUE).await, count(&store, broken, DUE).await), (0, 1));
        assert!(count(&store, well, SEALS).await > 0);
        store.close().await;
    }

    #[tokio::test]
    async fn whatever_is_due_is_released_in_one_round() {
        let (_folder, clock, store) = opened();
        let tenant = TenantId::from_i64(8);
        store.write(tenant, some_holds, 1_200_u32).await.expect("holds");
        clock.advance_ms(2_000);
        expire_holds(&store, &mut Failing::default()).await.expect("they are released");
        let open = count(&store, tenant, "SELECT COUNT(*) FROM ledger_holds WHERE tenant_id = $1 AND status = 'open'").await;
        assert_eq!(open, 0);
        store.close().await;
    }
}
