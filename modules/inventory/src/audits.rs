//! What `brandos audit` checks of a tenant's stock.

use crate::model::*;
use crate::sql;
use kernel::{Error, Result, Timestamp};
use std::collections::BTreeMap;
use store::Read;
use web::{Audit, AuditCheck, AuditOutcome};

/// Every check of this module.
pub(crate) fn audits() -> Vec<Audit> {
    vec![
        Audit { name: "inventory.levels_are_sums_of_movements", check: AuditCheck::Tenant(levels) },
        Audit { name: "inventory.reserved_is_what_is_open", check: AuditCheck::Tenant(reserved) },
        Audit { name: "inventory.transfers_are_accounted_for", check: AuditCheck::Tenant(transfers) },
    ]
}

/// Each number of a level is the sum of what the ledger of stock has of it, and none is below zero.
fn levels(read: &mut Read<'_>) -> Result<AuditOutcome> {
    let (looked_at, wrong): (i64, i64) = read.one(sql::AUDIT_LEVELS, ())?;
    let detail = if wrong == 0 {
        format!("{looked_at} levels")
    } else {
        format!("{wrong} of {looked_at} levels are not the sums of their movements")
    };
    Ok(AuditOutcome { ok: wrong == 0, detail })
}

/// What a level has reserved is what open reservations hold there; one that is confirmed has no expiry, one that is held has.
fn reserved(read: &mut Read<'_>) -> Result<AuditOutcome> {
    let mut open: BTreeMap<(ItemId, LocationId), i64> = BTreeMap::new();
    let (mut reservations, mut fault) = (0_i64, None);
    read.each(sql::AUDIT_OPEN, (), |row| {
        reservations += 1;
        let (reference, state): (String, ReservationState) = (row.get(0)?, row.get(1)?);
        for allocation in allocations_of(&row.get::<String>(2)?)? {
            if allocation.open() < 0 || allocation.returned > allocation.shipped {
                fault = Some(format!("{reference} has sent more than it held"));
            }
            *open.entry((allocation.item_id, allocation.location_id)).or_default() += allocation.open();
        }
        if row.get::<Option<Timestamp>>(3)?.is_some() != (state == ReservationState::Held) {
            fault = Some(format!(
                "{reference} is {} and has {} expiry",
                state.as_str(),
                if state == ReservationState::Held { "no" } else { "an" }
            ));
        }
        Ok(())
    })?;
    read.each(sql::AUDIT_RESERVED, (), |row| {
        let (item_id, location_id, reserved): (ItemId, LocationId, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let held = open.remove(&(item_id, location_id)).unwrap_or_default();
        if held != reserved {
            fault = Some(format!("{item_id} at {location_id} has {reserved} reserved, and reservations hold {held}"));
        }
        Ok(())
    })?;
    if let Some(((item_id, location_id), _)) = open.iter().find(|(_, held)| **held != 0) {
        fault = Some(format!("{item_id} is reserved at {location_id}, which keeps none"));
    }
    Ok(match fault {
        Some(detail) => AuditOutcome { ok: false, detail },
        None => AuditOutcome { ok: true, detail: format!("{reservations} open reservations") },
    })
}

/// A transfer is under way exactly as long as something of it is, and levels know what is.
fn transfers(read: &mut Read<'_>) -> Result<AuditOutcome> {
    let (mut looked_at, mut fault) = (0_i64, None);
    let mut in_transit: BTreeMap<(ItemId, LocationId), i64> = BTreeMap::new();
    read.each(sql::AUDIT_TRANSFERS, (), |row| {
        looked_at += 1;
        let (transfer_id, state): (TransferId, TransferState) = (row.get(0)?, row.get(1)?);
        let lines = crate::transfers::lines_of(&row.get::<String>(2)?)?;
        let under_way = lines.iter().map(|line| line.under_way()).sum::<i64>();
        if lines.iter().any(|line| line.under_way() < 0) || (under_way > 0) != (state == TransferState::InTransit) {
            fault = Some(format!("{transfer_id} is {} with {under_way} under way", state.as_str()));
        }
        let to: LocationId = row.get(3)?;
        lines.iter().for_each(|line| *in_transit.entry((line.item_id, to)).or_default() += line.under_way());
        Ok::<(), Error>(())
    })?;
    read.each(sql::AUDIT_IN_TRANSIT, (), |row| {
        *in_transit.entry((row.get(0)?, row.get(1)?)).or_default() -= row.get::<i64>(2)?;
        Ok(())
    })?;
    if let Some(((item_id, location_id), by)) = in_transit.iter().find(|(_, by)| **by != 0) {
        fault = Some(format!("{item_id}: transfers have {by} more on their way to {location_id} than its level"));
    }
    Ok(match fault {
        Some(detail) => AuditOutcome { ok: false, detail },
        None => AuditOutcome { ok: true, detail: format!("{looked_at} transfers") },
    })
}
