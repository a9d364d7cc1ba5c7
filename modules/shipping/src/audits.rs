//! What `brandos audit` checks of a tenant's shipping. Each check counts what it looked at and what is wrong.

use crate::carriers::sql as carriers;
use crate::rates::{model, queries, sql as rates};
use crate::shipments::sql as shipments;
use kernel::Result;
use store::Read;
use web::{Audit, AuditCheck, AuditOutcome};

/// Every check of this module.
pub(crate) fn audits() -> Vec<Audit> {
    vec![
        Audit { name: "shipping.zones_apart", check: AuditCheck::Tenant(zones_apart) },
        Audit { name: "shipping.rates_lead_somewhere", check: AuditCheck::Tenant(rates_lead_somewhere) },
        Audit { name: "shipping.parcels_add_up", check: AuditCheck::Tenant(parcels_add_up) },
        Audit { name: "shipping.parcels_hold_goods", check: AuditCheck::Tenant(parcels_hold_goods) },
        Audit { name: "shipping.states_recorded", check: AuditCheck::Tenant(states_recorded) },
        Audit { name: "shipping.labels_agree", check: AuditCheck::Tenant(labels_agree) },
    ]
}

fn counted(read: &mut Read<'_>, statement: &'static str, things: &str, fault: &str) -> Result<AuditOutcome> {
    let (looked_at, wrong): (i64, i64) = read.one(statement, ())?;
    let detail = if wrong == 0 { format!("{looked_at} {things}") } else { format!("{wrong} of {looked_at} {things} {fault}") };
    Ok(AuditOutcome { ok: wrong == 0, detail })
}

/// An address lies in one zone only.
fn zones_apart(read: &mut Read<'_>) -> Result<AuditOutcome> {
    let zones = queries::zones(read)?;
    Ok(match model::overlap(&zones) {
        None => AuditOutcome { ok: true, detail: format!("{} zones", zones.len()) },
        Some((one, other, what)) => {
            AuditOutcome { ok: false, detail: format!("{what} is in {} and in {}", zones[one].zone_id, zones[other].zone_id) }
        }
    })
}

/// A rate's method and zone are there.
fn rates_lead_somewhere(read: &mut Read<'_>) -> Result<AuditOutcome> {
    counted(read, rates::AUDIT_RATES, "rates", "have no method or no zone")
}

/// A shipment has as many parcels as it says, and weighs what they weigh.
fn parcels_add_up(read: &mut Read<'_>) -> Result<AuditOutcome> {
    counted(read, shipments::AUDIT_PARCELS, "shipments", "do not come to their parcels")
}

/// No parcel is empty.
fn parcels_hold_goods(read: &mut Read<'_>) -> Result<AuditOutcome> {
    counted(read, shipments::AUDIT_ENTRIES, "parcels", "hold nothing")
}

/// The last change of a shipment tells of the state that it is in.
fn states_recorded(read: &mut Read<'_>) -> Result<AuditOutcome> {
    counted(read, shipments::AUDIT_STATES, "shipments", "are in a state that their last change does not tell of")
}

/// A shipment is labelled when its last labels were bought and not given back.
fn labels_agree(read: &mut Read<'_>) -> Result<AuditOutcome> {
    counted(read, carriers::AUDIT_LABELS, "shipments", "say of their labels what those do not")
}
