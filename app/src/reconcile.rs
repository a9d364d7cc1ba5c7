//! `brandos reconcile`: a provider's settlement file against the payments, from a file of any size.

use crate::cli;
use crate::config::Config;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{Output, grouped};
use crate::wiring::{Node, Use};
use kernel::{Money, Timestamp};
use payments::ProviderId;
use payments::reconcile::{Source, reconcile};

/// Compares the file, and says what differs. Exits 1 when something does.
pub(crate) async fn run(config: Config, given: cli::Reconcile, out: Output) -> Outcome<Exit> {
    let provider_id: ProviderId = given.provider.parse().map_err(|_| Failure::usage("--provider takes a provider's id (psp_...)"))?;
    let day: Timestamp = format!("{}T00:00:00Z", given.day).parse().map_err(|_| Failure::usage("--day takes a day such as 2026-01-31"))?;
    if !given.file.is_file() {
        return Err(Failure::usage(format!("there is no file {}", given.file.display())));
    }
    let node = Node::open(config, Use::Write("reconcile"))?;
    let tenant = crate::admin::find(&node, &given.tenant).await?.id;
    let run = reconcile(&node.store, tenant, provider_id, Source::Path(given.file), day.day()).await?;
    let summary = &run.summary;
    out.line(format!("{} of {}: {}", run.run_id, run.day, run.state));
    out.line(format!(
        "  {} rows, {} operations, {} match ({} in parts, {} within the tolerance)",
        grouped(summary.rows as i64),
        grouped(summary.operations as i64),
        grouped(summary.matched as i64),
        grouped(summary.in_parts as i64),
        grouped(summary.by_tolerance as i64)
    ));
    for (currency, total) in &summary.totals {
        let paid =
            currency.parse().map_or_else(|_| total.net_minor.to_string(), |currency| Money::new(total.net_minor, currency).to_string());
        out.line(format!("  pays out {paid} for {} rows", grouped(total.rows as i64)));
    }
    out.table(
        &["DIFFERENCE", "COUNT"],
        &summary.breaks.iter().map(|(kind, count)| vec![kind.clone(), grouped(*count as i64)]).collect::<Vec<_>>(),
    );
    if summary.resolved_by_rule > 0 {
        out.line(format!("  {} resolved by rule", grouped(summary.resolved_by_rule as i64)));
    }
    out.value(&run);
    node.close().await;
    let open = summary.breaks.values().sum::<u64>() - summary.resolved_by_rule;
    Ok(if open == 0 { Exit::Ok } else { Exit::CheckFailed })
}
