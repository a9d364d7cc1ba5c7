//! `brandos ledger`: the books of a tenant for an accountant, and whether they add up.

use crate::cli::{self, ExportFormat};
use crate::config::Config;
use crate::exit::{Exit, Outcome};
use crate::output::{Output, grouped};
use crate::wiring::{Node, Use};
use kernel::TenantId;
use ledger::Account;
use ledger::api::{self, Journal, Transaction};
use web::{AuditCheck, AuditOutcome};

/// Rows that are read at once.
const PAGE: u32 = 2_000;
/// The longest that one check may take: a recount reads every transaction.
const CHECK_MS: u32 = 30 * 60 * 1_000;
const PAGE_MS: u32 = 60_000;

/// `brandos ledger ...`.
pub(crate) async fn ledger(config: Config, command: cli::Ledger, out: Output) -> Outcome<Exit> {
    let node = Node::open(config, Use::Read("ledger"))?;
    let exit = match command {
        cli::Ledger::TrialBalance { tenant } => trial_balance(&node, &tenant, out).await,
        cli::Ledger::Export { tenant, format } => export(&node, &tenant, format, out).await,
        cli::Ledger::Verify { tenant } => verify(&node, &tenant, out).await,
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
    // Up to the last transaction of this moment: every account of those is found after it.
    let last = node.store.read(tenant, api::last_transaction).await?;
    let accounts = accounts(node, tenant).await?;
    let mut journal = Journal::default();
    let head = journal.head(&accounts);
    let json = out.is_json() || format == ExportFormat::Json;
    if json {
        accounts.iter().try_for_each(|account| line(out, "account", account))?;
    } else {
        out.raw(head.trim_end());
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
                    out.raw(text.trim_end_matches('\n'));
                }
            }
        }
        (after, count) = (Some(end), count + page.len() as u64);
    }
    out.note(format!("{} accounts, {} transactions", grouped(accounts.len() as i64), grouped(count as i64)));
    out.value(&serde_json::json!({ "ok": true, "accounts": accounts.len(), "transactions": count }));
    Ok(Exit::Ok)
}

/// A line of JSON that says what it is.
fn line(out: Output, name: &str, thing: &impl serde::Serialize) -> Outcome {
    let value = serde_json::to_value(thing).map_err(|e| kernel::Error::internal("an export does not serialise").caused_by(e))?;
    out.raw(&serde_json::json!({ name: value }).to_string());
    Ok(())
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
pub(crate) async fn expire_holds(store: &store::Store) -> kernel::Result<()> {
    /// Tenants that are looked at in one round, and holds that are released in one commit.
    const TENANTS: u32 = 1_000;
    const HOLDS: u32 = 500;
    for shard in 0..store.shards() {
        let tenants = store.read_shard(shard, |read| api::tenants_with_due_holds(read, TENANTS)).await?;
        for tenant in tenants {
            store.write(tenant, |tx: &mut store::Tx<'_>, limit: &u32| api::expire_holds(tx, *limit), HOLDS).await?;
        }
    }
    Ok(())
}
