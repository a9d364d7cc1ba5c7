//! The audit that imported trade is paid: each record of a payment is what its document comes to, and together they are what the imports
//! have booked.

use super::trade::SOURCE;
use kernel::{Currency, Result};
use payments::api::RecordView;
use std::collections::BTreeMap;
use store::Read;
use web::{Audit, AuditCheck, AuditOutcome};

pub(crate) const AUDIT: Audit = Audit { name: "imports.trade_is_paid", check: AuditCheck::Tenant(paid) };

/// What all imports have booked, by currency.
pub(crate) const BOOKED: &str = "
SELECT currency, CAST(SUM(booked) AS BIGINT), CAST(SUM(booked_minor) AS BIGINT)
FROM imports_runs WHERE tenant_id = $1 AND booked > 0 GROUP BY currency ORDER BY currency";

/// Records that are looked at together.
const PAGE: i64 = 5_000;

fn paid(read: &mut Read<'_>) -> Result<AuditOutcome> {
    let wrong = |detail: String| Ok(AuditOutcome { ok: false, detail });
    let mut found: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    let mut last: Option<RecordView> = None;
    loop {
        let page = payments::api::records_after(read, last.as_ref(), PAGE)?;
        let ours: Vec<&RecordView> = page.iter().filter(|record| record.source == SOURCE).collect();
        let totals = orders::api::totals(read, &ours.iter().map(|record| record.document.clone()).collect::<Vec<_>>())?;
        for record in ours {
            let sum = found.entry(record.currency.to_string()).or_default();
            (sum.0, sum.1) = (sum.0 + 1, sum.1 + record.amount_minor);
            let Some(total) = totals.get(&record.document) else {
                return wrong(format!("{} was paid for {}, which is not there", record.record_id, record.document));
            };
            if total.currency != record.currency || total.unchanged && total.total_minor != record.amount_minor {
                let (is, was) = (total.total_minor, record.amount_minor);
                return wrong(format!("{} comes to {is} {}, and {was} {} were paid", record.document, total.currency, record.currency));
            }
        }
        if (page.len() as i64) < PAGE {
            break;
        }
        last = page.into_iter().next_back();
    }
    let booked: Vec<(Currency, i64, i64)> = read.all(BOOKED, ())?;
    let booked: BTreeMap<String, (i64, i64)> =
        booked.into_iter().map(|(currency, records, minor)| (currency.to_string(), (records, minor))).collect();
    if booked != found {
        return wrong(format!("imports have booked {booked:?}, and there is {found:?} (records and minor units)"));
    }
    Ok(AuditOutcome {
        ok: true,
        detail: format!("{} records are what their documents come to", found.values().map(|sum| sum.0).sum::<i64>()),
    })
}
