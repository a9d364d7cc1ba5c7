//! A reservation follows what it is for: lines are added to it, become more or fewer, or are let go of.

use crate::model::*;
use crate::reserve::{self, Books, Wanted};
use crate::{error, sql};
use kernel::{Faults, Result};
use std::collections::BTreeMap;
use store::Tx;

/// What a reservation shall hold from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Amendment {
    /// The reservation's.
    pub reference: String,
    /// All of its lines, each number once; one that is not here, or has no variant, is let go of.
    pub lines: Vec<AmendedLine>,
}

/// A line as it shall be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AmendedLine {
    /// Its number.
    pub line: u32,
    /// The variant; none: nothing is kept for it.
    pub variant_id: Option<VariantId>,
    /// How many.
    pub quantity: i64,
}

/// Changes what a reservation holds, all of it or nothing. What has gone out stays out. See [`crate::api::amend`].
pub(crate) fn amend(tx: &mut Tx<'_>, amendment: &Amendment) -> Result<Reserved> {
    let mut reservation = reserve::find(tx, &amendment.reference)?;
    if matches!(reservation.state, ReservationState::Released | ReservationState::Expired) {
        return Err(error::reservation_ended(reservation.state));
    }
    let more = let_go(tx, &mut reservation, amendment)?;
    if !more.is_empty() {
        hold_more(tx, &mut reservation, &more)?;
    }
    let out = reservation.allocations.iter().any(|part| part.shipped > 0);
    let open = reservation.allocations.iter().any(|part| part.open() > 0);
    reservation.state = match reservation.state {
        ReservationState::Held => ReservationState::Held,
        _ if out && !open => ReservationState::Shipped,
        _ => ReservationState::Confirmed,
    };
    reservation.updated_at = tx.now();
    let r = &reservation;
    let (lines, allocations) = (lines_text(&r.lines)?, allocations_text(&r.allocations)?);
    tx.must(sql::AMEND_RESERVATION, (&r.reference, r.state, r.promised_at, lines, allocations, r.updated_at), error::contended)?;
    Ok(reservation)
}

/// Lets go of what is no longer wanted, so that another line can have it; what is wanted besides.
/// Errors: `inventory.over_shipped` for what has gone out, `request.invalid`.
fn let_go(tx: &mut Tx<'_>, reservation: &mut Reserved, amendment: &Amendment) -> Result<Vec<Wanted>> {
    let mut shall = checked(amendment)?;
    let mut free: BTreeMap<(ItemId, LocationId), i64> = BTreeMap::new();
    let mut more = Vec::new();
    for own in reservation.lines.clone() {
        // Another variant under its number is another line.
        let stays = shall.get(&own.line).copied().filter(|wanted| wanted.variant_id == own.variant_id);
        if let Some(wanted) = stays {
            shall.remove(&own.line);
            if wanted.quantity > own.quantity {
                more.push(Wanted { quantity: wanted.quantity - own.quantity, ..wanted });
            }
        }
        let quantity = stays.map_or(0, |wanted| wanted.quantity);
        if quantity < own.quantity {
            shrink(reservation, own, quantity, &mut free)?;
        }
    }
    more.extend(shall.into_values());
    more.sort_unstable_by_key(|wanted| wanted.at);
    for ((item_id, location_id), quantity) in free {
        tx.must(sql::UNRESERVE, (item_id, location_id, quantity), error::contended)?;
    }
    Ok(more)
}

/// The lines as they shall be, by number. Errors: `request.invalid`.
fn checked(amendment: &Amendment) -> Result<BTreeMap<u32, Wanted>> {
    let mut faults = Faults::default();
    let mut shall = BTreeMap::new();
    for (at, AmendedLine { line, variant_id, quantity }) in amendment.lines.iter().enumerate() {
        let Some(variant_id) = *variant_id else { continue };
        faults.number(format!("lines[{at}].quantity"), *quantity, 1, MAX_QUANTITY);
        if shall.insert(*line, Wanted { at, line: *line, variant_id, quantity: *quantity }).is_some() {
            faults.add(format!("lines[{at}].line"), "repeated", "each line once");
        }
    }
    faults.count("lines", shall.len(), 0, MAX_LINES);
    faults.finish()?;
    Ok(shall)
}

/// Takes a line down to a quantity: what is not there yet goes first, then what was allocated last.
/// Errors: `inventory.over_shipped`.
fn shrink(reservation: &mut Reserved, own: ReservedLine, quantity: i64, free: &mut BTreeMap<(ItemId, LocationId), i64>) -> Result<()> {
    for (item_id, each) in reservation.each_of(own.line) {
        let mut left = each * (own.quantity - quantity);
        for late in [true, false] {
            let of_item = |part: &&mut Allocation| part.line == own.line && part.item_id == item_id;
            for part in reservation.allocations.iter_mut().rev().filter(of_item) {
                let some = left.min(part.open()).min(if late { part.backordered } else { i64::MAX });
                part.quantity -= some;
                part.backordered -= if late { some } else { 0 };
                left -= some;
                *free.entry((item_id, part.location_id)).or_default() += some;
            }
        }
        if left > 0 {
            let gone = own.quantity - quantity - left / each.max(1);
            return Err(error::over_shipped("lines".to_owned(), own.quantity - quantity, gone));
        }
    }
    free.retain(|_, quantity| *quantity > 0);
    reservation.allocations.retain(|part| part.quantity > 0);
    match quantity {
        0 => reservation.lines.retain(|line| line.line != own.line),
        _ => reservation.lines.iter_mut().filter(|line| line.line == own.line).for_each(|line| line.quantity = quantity),
    }
    Ok(())
}

/// Holds what is wanted besides. Errors: `inventory.insufficient`, `inventory.components_changed`, `request.invalid`.
fn hold_more(tx: &mut Tx<'_>, reservation: &mut Reserved, more: &[Wanted]) -> Result<()> {
    let mut books = Books::open(tx, more.iter().map(|of| of.variant_id.as_i64()).collect(), Vec::new())?;
    for of in more.iter().filter(|of| reservation.lines.iter().any(|own| own.line == of.line)) {
        // All of a line are alike, or nobody could say what three of it are.
        let today: BTreeMap<ItemId, i64> = books.components.get(&of.variant_id).into_iter().flatten().copied().collect();
        if today != reservation.each_of(of.line) {
            return Err(error::components_changed(format!("lines[{}].quantity", of.at)));
        }
    }
    let (held, promised_at) = books.hold(tx, None, more)?;
    books.write_levels(tx)?;
    reservation.promised_at = reservation.promised_at.max(promised_at);
    for part in held {
        let same = |own: &&mut Allocation| (own.line, own.item_id, own.location_id) == (part.line, part.item_id, part.location_id);
        match reservation.allocations.iter_mut().find(same) {
            Some(own) => (own.quantity, own.backordered) = (own.quantity + part.quantity, own.backordered + part.backordered),
            None => reservation.allocations.push(part),
        }
    }
    for of in more {
        match reservation.lines.iter_mut().find(|own| own.line == of.line) {
            Some(own) => own.quantity += of.quantity,
            None => reservation.lines.push(ReservedLine { line: of.line, variant_id: of.variant_id, quantity: of.quantity }),
        }
    }
    Ok(())
}
