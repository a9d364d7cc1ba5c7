//! `brandos audit`: every check of every module over all tenants and shards, and a JSON object that says how it went.

use crate::config::Config;
use crate::exit::{Exit, Outcome};
use crate::output::{Output, grouped};
use crate::wiring::{self, Node, Use};
use kernel::Result;
use serde::Serialize;
use std::time::Duration;
use store::Store;
use web::{Audit, AuditCheck, AuditOutcome};

/// How long the consumers may take to catch up before what they build is checked.
const CATCH_UP: Duration = Duration::from_secs(300);
/// Beside a running server a check may see its consumers a moment behind: it is tried this often before it counts as failed.
const TRIES_BESIDE: u32 = 10;
const BETWEEN_TRIES: Duration = Duration::from_millis(300);

/// What one check found, over all that it was run on.
#[derive(Debug, PartialEq, Serialize)]
struct Check {
    name: String,
    ok: bool,
    detail: String,
}

/// The last line of `brandos audit --json`.
#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    checks: Vec<Check>,
}

/// Runs every check. Exits 1 when one fails.
pub(crate) async fn audit(config: Config, out: Output) -> Outcome<Exit> {
    let node = Node::open(config, Use::Read("audit"))?;
    if let Some(holder) = &node.beside {
        out.note(format!("{holder} has the data folder: checking beside it, without writing"));
    }
    let mut checks = Vec::new();
    let caught_up = catch_up(&node).await;
    record(&mut checks, out, caught_up);
    let dead = dead_letters(&node).await;
    record(&mut checks, out, dead);

    let tenants = tenants(&node).await?;
    let bar = out.progress(0, "{msg} {wide_bar} {pos}/{len}");
    for module in wiring::modules() {
        for audit in &module.audits {
            bar.set_message(audit.name);
            bar.set_length(tenants.len() as u64);
            bar.set_position(0);
            let tries = if node.may_write() && node.config.database.is_empty() { 1 } else { TRIES_BESIDE };
            let check = run(&node.store, audit, &tenants, tries, &bar).await;
            bar.suspend(|| record(&mut checks, out, check));
        }
    }
    bar.finish_and_clear();

    let report = Report { ok: checks.iter().all(|check| check.ok), checks };
    out.line(if report.ok { "audit: everything adds up" } else { "audit: FAILED" });
    out.value(&report);
    node.close().await;
    Ok(if report.ok { Exit::Ok } else { Exit::CheckFailed })
}

/// Every tenant with its slug.
async fn tenants(node: &Node) -> Outcome<Vec<(kernel::TenantId, String)>> {
    let mut all = Vec::new();
    crate::admin::each_tenant(node, |tenant| all.push((tenant.id, tenant.slug))).await?;
    Ok(all)
}

fn record(checks: &mut Vec<Check>, out: Output, check: Check) {
    out.line(format!("{}  {:<40} {}", if check.ok { "ok    " } else { "FAILED" }, check.name, check.detail));
    checks.push(check);
}

/// Lets the consumers finish what was committed before, as a start of the server would.
async fn catch_up(node: &Node) -> Check {
    let check = |ok, detail: String| Check { name: "log.caught_up".to_owned(), ok, detail };
    let caught_up = async {
        let log = if node.may_write() { node.start_log().await? } else { node.idle_log()? };
        let drained = tokio::time::timeout(CATCH_UP, log.drained()).await;
        let lag = log.lag().await;
        log.stop().await;
        Ok::<_, crate::exit::Failure>((drained, lag?))
    };
    match caught_up.await {
        Ok((Ok(Ok(())), lag)) => check(true, format!("{} positions", grouped(lag.len() as i64))),
        Ok((_, lag)) => {
            let behind: Vec<String> =
                lag.iter().filter(|l| l.events_behind > 0).map(|l| format!("{} by {}", l.consumer, l.events_behind)).collect();
            check(node.beside.is_some() && behind.is_empty(), format!("behind after {} s: {}", CATCH_UP.as_secs(), behind.join(", ")))
        }
        Err(failure) => check(false, failure.to_string()),
    }
}

async fn dead_letters(node: &Node) -> Check {
    let counted = crate::dead_letters::count(node).await;
    let (ok, detail) = match counted {
        Ok(0) => (true, "none".to_owned()),
        Ok(some) => (false, format!("{some} wait for `brandos dead-letters`")),
        Err(failure) => (false, failure.to_string()),
    };
    Check { name: "log.dead_letters".to_owned(), ok, detail }
}

/// The longest that one check of one tenant may take: a recount of a large tenant reads all its orders.
const CHECK_MS: u32 = 10 * 60 * 1_000;

/// Runs one check wherever it applies, and sums up.
async fn run(store: &Store, audit: &Audit, tenants: &[(kernel::TenantId, String)], tries: u32, bar: &indicatif::ProgressBar) -> Check {
    let mut found: Vec<(String, Result<AuditOutcome>)> = Vec::new();
    let mut passed = 0_usize;
    let mut last_detail = String::new();
    let mut keep = |place: String, outcome: Result<AuditOutcome>| match outcome {
        Ok(AuditOutcome { ok: true, detail }) => {
            passed += 1;
            last_detail = detail;
        }
        // The first few say what is wrong; the rest is counted.
        other if found.len() < 10 => found.push((place, other)),
        _ => {}
    };
    let places = match audit.check {
        AuditCheck::Platform(check) => {
            for shard in 0..store.shards() {
                keep(format!("shard {shard}"), retried(tries, || store.read_shard(shard, check)).await);
            }
            usize::from(store.shards())
        }
        AuditCheck::Tenant(check) => {
            for (tenant, slug) in tenants {
                keep(format!("tenant {slug}"), retried(tries, || store.read_within(*tenant, CHECK_MS, check)).await);
                bar.inc(1);
            }
            tenants.len()
        }
    };
    sum_up(audit.name, &audit.check, passed, places, last_detail, &found)
}

/// Tries until the check passes or it was tried often enough.
async fn retried<F: Future<Output = Result<AuditOutcome>>>(tries: u32, mut check: impl FnMut() -> F) -> Result<AuditOutcome> {
    let mut outcome = check().await;
    for _ in 1..tries {
        match &outcome {
            Ok(AuditOutcome { ok: true, .. }) => break,
            // It has had all the time that a check may take.
            Err(error) if error.code() == "store.statement_timeout" => break,
            _ => {}
        }
        tokio::time::sleep(BETWEEN_TRIES).await;
        outcome = check().await;
    }
    outcome
}

fn sum_up(
    name: &str,
    kind: &AuditCheck,
    passed: usize,
    places: usize,
    last_detail: String,
    failed: &[(String, Result<AuditOutcome>)],
) -> Check {
    let what = if matches!(kind, AuditCheck::Tenant(_)) { "tenants" } else { "shards" };
    let detail = match (passed == places, places) {
        (true, 0) => format!("no {what}"),
        (true, 1) => last_detail,
        (true, _) => format!("{} {what}", grouped(places as i64)),
        (false, _) => {
            let first: Vec<String> = failed
                .iter()
                .map(|(place, outcome)| match outcome {
                    Ok(outcome) => format!("{place}: {}", outcome.detail),
                    Err(error) => format!("{place}: could not be checked: {error:?}"),
                })
                .collect();
            format!("{} of {} {what} failed: {}", places - passed, places, first.join("; "))
        }
    };
    Check { name: name.to_owned(), ok: passed == places, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(ok: bool, detail: &str) -> Result<AuditOutcome> {
        Ok(AuditOutcome { ok, detail: detail.to_owned() })
    }

    #[test]
    fn a_check_says_what_failed_and_where() {
        let kind = AuditCheck::Tenant(|_| outcome(true, ""));
        let one = sum_up("orders.totals", &kind, 1, 1, "7 orders".to_owned(), &[]);
        assert_eq!(one, Check { name: "orders.totals".to_owned(), ok: true, detail: "7 orders".to_owned() });
        let failed = [("tenant acme".to_owned(), outcome(false, "off by 1"))];
        let several = sum_up("orders.totals", &kind, 2, 3, String::new(), &failed);
        assert_eq!((several.ok, several.detail.as_str()), (false, "1 of 3 tenants failed: tenant acme: off by 1"));
    }
}
