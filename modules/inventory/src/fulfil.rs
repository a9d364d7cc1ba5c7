//! What goes out of a reservation, and what of it comes back.

use crate::levels::{self, Change, Changes};
use crate::model::*;
use crate::{error, reserve, sql};
use kernel::{Error, Faults, Result};
use std::collections::BTreeMap;
use store::Tx;

/// Which part of a reservation goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parts {
    /// Everything that is still reserved.
    Rest,
    /// Everything that is still reserved at one location: a parcel.
    At(LocationId),
    /// So many of these lines, by their numbers, with all their components, from wherever they are reserved. Each line once.
    Lines(Vec<(u32, i64)>),
}

/// Goods of a reservation that go out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shipment {
    /// The reservation's.
    pub reference: String,
    /// For people, and for the parcel's own name; up to 500 characters.
    pub note: String,
    /// Which.
    pub parts: Parts,
}

/// Goods of a reservation that come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Return {
    /// The reservation's.
    pub reference: String,
    /// For people; up to 500 characters.
    pub note: String,
    /// Where they come to.
    pub location_id: LocationId,
    /// So many of these lines, by their numbers, with all their components. Each line once.
    pub lines: Vec<(u32, i64)>,
    /// Whether they can't be sold again.
    pub damaged: bool,
}

fn check_note(note: &str) -> Result<()> {
    let mut faults = Faults::default();
    faults.text("note", note, 0, MAX_NOTE);
    faults.finish()
}

fn check_lines(reservation: &Reserved, lines: &[(u32, i64)]) -> Result<()> {
    let mut faults = Faults::default();
    faults.count("lines", lines.len(), 1, MAX_LINES);
    for (at, (line, quantity)) in lines.iter().enumerate().take(MAX_LINES) {
        if !reservation.lines.iter().any(|own| own.line == *line) {
            faults.add(format!("lines[{at}].line"), "unknown", format!("the reservation has no line {line}; the first one is 0"));
        }
        if lines[..at].iter().any(|(other, _)| other == line) {
            faults.add(format!("lines[{at}].line"), "repeated", "each line once");
        }
        faults.number(format!("lines[{at}].quantity"), *quantity, 1, MAX_QUANTITY);
    }
    faults.finish()
}

/// What goes out: by allocation. Pure. Errors: `request.invalid`, `inventory.over_shipped`.
fn to_ship(reservation: &Reserved, parts: &Parts) -> Result<Vec<i64>> {
    let open = |at: &dyn Fn(&Allocation) -> bool| {
        reservation.allocations.iter().map(|allocation| if at(allocation) { allocation.open() } else { 0 }).collect()
    };
    let lines = match parts {
        Parts::Rest => return Ok(open(&|_| true)),
        Parts::At(location_id) => return Ok(open(&|allocation| allocation.location_id == *location_id)),
        Parts::Lines(lines) => lines,
    };
    check_lines(reservation, lines)?;
    let mut shipped = vec![0; reservation.allocations.len()];
    for (at, (line, quantity)) in lines.iter().enumerate() {
        for (item_id, each) in reservation.each_of(*line) {
            let mut left = each * quantity;
            let of_item = |a: &Allocation| a.line == *line && a.item_id == item_id;
            for (allocation, out) in reservation.allocations.iter().zip(&mut shipped).filter(|(a, _)| of_item(a)) {
                *out = allocation.open().min(left);
                left -= *out;
            }
            if left > 0 {
                let all = reservation.allocations.iter().filter(|a| of_item(a)).map(Allocation::open).sum::<i64>();
                return Err(error::over_shipped(format!("lines[{at}].quantity"), *quantity, all / each.max(1)));
            }
        }
    }
    Ok(shipped)
}

/// Goods go out: what is on hand and what is reserved go down together. A reservation that is only held is confirmed by it.
/// Errors: `inventory.reservation_not_found`, `inventory.reservation_ended`, `inventory.over_shipped`, `inventory.not_on_hand` (what is
/// backordered and has not come, too), `request.invalid`.
pub(crate) fn ship(tx: &mut Tx<'_>, shipment: &Shipment) -> Result<Reserved> {
    check_note(&shipment.note)?;
    let mut reservation = reserve::find(tx, &shipment.reference)?;
    if !reservation.state.is_open() {
        return Err(error::reservation_ended(reservation.state));
    }
    let out = to_ship(&reservation, &shipment.parts)?;
    let mut goods: BTreeMap<(ItemId, LocationId), i64> = BTreeMap::new();
    for (allocation, out) in reservation.allocations.iter_mut().zip(out).filter(|(_, out)| *out > 0) {
        allocation.shipped += out;
        *goods.entry((allocation.item_id, allocation.location_id)).or_default() += out;
    }
    let tracked = !reservation.allocations.is_empty();
    if goods.is_empty() && tracked {
        return Err(error::over_shipped("lines".to_owned(), 1, 0));
    }
    let now = tx.now();
    let mut movements = Vec::with_capacity(goods.len());
    for ((item_id, location_id), quantity) in goods {
        tx.must(sql::SHIP, (item_id, location_id, quantity), move || error::not_on_hand(item_id, location_id, quantity))?;
        movements.push(Movement {
            movement_id: tx.new_id(),
            item_id,
            location_id,
            kind: MovementKind::Shipped,
            on_hand: -quantity,
            incoming: 0,
            damaged: 0,
            safety: 0,
            reference: shipment.reference.clone(),
            note: shipment.note.clone(),
            moved_at: now,
        });
    }
    levels::enter(tx, &movements)?;
    let complete = reservation.allocations.iter().all(|allocation| allocation.open() == 0);
    reservation.state = if complete { ReservationState::Shipped } else { ReservationState::Confirmed };
    save(tx, &mut reservation)?;
    Ok(reservation)
}

fn save(tx: &mut Tx<'_>, reservation: &mut Reserved) -> Result<()> {
    (reservation.expires_at, reservation.updated_at) = (None, tx.now());
    let row = (&reservation.reference, reservation.state, allocations_text(&reservation.allocations)?, reservation.updated_at);
    tx.must(sql::SAVE_RESERVATION, row, error::contended)
}

/// Shipped goods come back, to be sold again or damaged. Not more than went out, whatever has become of the reservation since.
/// Errors: `inventory.reservation_not_found`, `inventory.over_returned`, `request.invalid`, those of a change of levels.
pub(crate) fn take_back(tx: &mut Tx<'_>, back: &Return) -> Result<Reserved> {
    check_note(&back.note)?;
    let mut reservation = reserve::find(tx, &back.reference)?;
    check_lines(&reservation, &back.lines)?;
    if tx.opt::<Location>(sql::LOCATION, (back.location_id,))?.is_none() {
        return Err(Error::field("location_id", "unknown", "there is no such location"));
    }
    let mut goods: BTreeMap<ItemId, i64> = BTreeMap::new();
    for (at, (line, quantity)) in back.lines.iter().enumerate() {
        for (item_id, each) in reservation.each_of(*line) {
            let mut left = each * quantity;
            *goods.entry(item_id).or_default() += left;
            let of_item = |a: &&mut Allocation| a.line == *line && a.item_id == item_id;
            let mut out = 0;
            for allocation in reservation.allocations.iter_mut().filter(of_item) {
                let some = (allocation.shipped - allocation.returned).min(left);
                out += allocation.shipped - allocation.returned;
                allocation.returned += some;
                left -= some;
            }
            if left > 0 {
                return Err(error::over_returned(format!("lines[{at}].quantity"), *quantity, out / each.max(1)));
            }
        }
    }
    if goods.is_empty() {
        return Err(Error::field("lines", "not_tracked", "nothing of these lines is tracked"));
    }
    let kind = if back.damaged { MovementKind::ReturnedDamaged } else { MovementKind::Returned };
    let line = |(item_id, quantity)| Change { item_id, location_id: back.location_id, kind, quantity, expected: None };
    let changes = Changes { reference: back.reference.clone(), note: back.note.clone(), lines: goods.into_iter().map(line).collect() };
    // The goods are named by the lines, and the location by itself.
    levels::change_named(tx, &changes, |_| "lines".to_owned())?;
    save(tx, &mut reservation)?;
    Ok(reservation)
}
