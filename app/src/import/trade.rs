//! What invoices did to stock and to money, by rules that the file leaves open and that are the same for everybody who reads it:
//!
//! - An order's lines take goods; a line below zero in an order is a loss, and is written off. A credit note's lines bring goods back on the
//!   shelf: the file does not say what was damaged. An adjustment is about money, and moves no goods.
//! - The file knows no deliveries. One comes in just before an invoice takes more of a stock code than there is: what is missing, in whole
//!   gross. It follows from the level before and the invoice alone, so whoever imports the same invoices in the same order books the same.
//! - Every order was paid when it was placed, and every credit note given back when it was issued; an adjustment corrects what was paid.
//!   What comes to nothing moves nothing.

use super::invoices::{Invoice, Kind};
use inventory::api::{Booking, Change, Changes, ItemId, Keep, LocationId, MAX_QUANTITY, MovementKind};
use kernel::{Currency, Result, Timestamp};
use orders::api::Taken;
use payments::api::{MAX_RECORD_MINOR, NewRecord, RecordKind};
use std::collections::{BTreeMap, HashMap};
use store::Tx;

/// Deliveries come in whole gross.
pub(crate) const GROSS: i64 = 144;
/// Who records the payments.
pub(crate) const SOURCE: &str = "online-retail";
/// The name of the place where imported goods are kept.
const PLACE: &str = "Imported trade";

/// Where imported goods are kept.
pub(crate) const PLACE_OF: &str = "SELECT location_id FROM imports_places WHERE tenant_id = $1";
/// Notes where that is.
pub(crate) const SET_PLACE: &str = "INSERT INTO imports_places (tenant_id, location_id) VALUES ($1, $2)";

/// What one invoice did to one stock code, each zero or more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Moved {
    sold: i64,
    lost: i64,
    back: i64,
}

/// By stock code, in the order in which the invoice names them.
fn moved(invoice: &Invoice) -> Vec<(&str, Moved)> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut all: Vec<(&str, Moved)> = Vec::new();
    if invoice.kind == Kind::Adjustment {
        return all;
    }
    for line in &invoice.lines {
        let place = *places.entry(&line.stock_code).or_insert_with(|| {
            all.push((&line.stock_code, Moved::default()));
            all.len() - 1
        });
        let sum = &mut all[place].1;
        match (invoice.kind, line.quantity) {
            (_, quantity) if quantity > 0 => sum.sold += quantity,
            (Kind::Order, quantity) => sum.lost -= quantity,
            (_, quantity) => sum.back -= quantity,
        }
    }
    all
}

/// What comes in before so many are taken of so many.
fn delivery(on_hand: i64, taken: i64) -> i64 {
    let missing = (taken - on_hand).max(0);
    (missing + GROSS - 1) / GROSS * GROSS
}

/// Why stock or books can't hold an invoice, if they can't.
pub(crate) fn too_large(invoice: &Invoice) -> Option<String> {
    let units: i128 = invoice.lines.iter().map(|line| i128::from(line.quantity).abs()).sum();
    let micros: i128 = invoice.lines.iter().map(|line| (i128::from(line.quantity) * i128::from(line.unit_price.micros())).abs()).sum();
    if units > i128::from(MAX_QUANTITY - GROSS) {
        return Some(format!("{units} units are more than stock keeps"));
    }
    // No currency has fewer than a minor unit a major one, or more than a thousand.
    (micros / 1_000 > i128::from(MAX_RECORD_MINOR)).then(|| "its amounts are larger than the books keep".to_owned())
}

/// What an invoice did to levels, deliveries first; `on_hand` is moved on.
fn booking(
    document: &str,
    invoice: &Invoice,
    items: &HashMap<&str, ItemId>,
    location_id: LocationId,
    on_hand: &mut BTreeMap<ItemId, i64>,
) -> Booking {
    let mut lines = Vec::with_capacity(invoice.lines.len());
    for (code, moved) in moved(invoice) {
        let Some(item_id) = items.get(code).copied() else { continue };
        let level = on_hand.entry(item_id).or_default();
        let delivered = delivery(*level, moved.sold + moved.lost);
        *level += delivered + moved.back - moved.sold - moved.lost;
        let changes = [
            (MovementKind::Received, delivered),
            (MovementKind::Shipped, moved.sold),
            (MovementKind::WrittenOff, moved.lost),
            (MovementKind::Returned, moved.back),
        ];
        let change = |(kind, quantity)| Change { item_id, location_id, kind, quantity, expected: None };
        lines.extend(changes.into_iter().filter(|(_, quantity)| *quantity > 0).map(change));
    }
    Booking { changes: Changes { reference: document.to_owned(), note: String::new(), lines }, at: invoice.at }
}

/// Books what the invoices that were taken did to stock, in their order.
pub(crate) fn stock(tx: &mut Tx<'_>, taken: &[(&Taken, &Invoice)], keep: &[Keep]) -> Result<()> {
    let location_id = place(tx)?;
    let items = inventory::api::ensure_items(tx, keep)?;
    let by_code: HashMap<&str, ItemId> = keep.iter().map(|one| one.sku.as_str()).zip(items.iter().copied()).collect();
    let follow = |on_hand: &BTreeMap<ItemId, i64>| {
        let mut on_hand = on_hand.clone();
        let of = |(taken, invoice): &(&Taken, &Invoice)| booking(&taken.document, invoice, &by_code, location_id, &mut on_hand);
        taken.iter().map(of).collect::<Vec<Booking>>()
    };
    inventory::api::book(tx, location_id, &items, follow).map(drop)
}

/// The tenant's place of imported goods, made if there is none.
fn place(tx: &mut Tx<'_>) -> Result<LocationId> {
    if let Some((location_id,)) = tx.opt(PLACE_OF, ())? {
        return Ok(location_id);
    }
    let new = inventory::api::NewLocation {
        kind: inventory::api::LocationKind::Warehouse,
        name: PLACE.to_owned(),
        address: inventory::api::Address::default(),
        coordinates: None,
        priority: 0,
        active: true,
    };
    let location_id = inventory::api::create_location(tx, &new)?.location_id;
    tx.exec(SET_PLACE, (location_id,))?;
    Ok(location_id)
}

/// Records what was paid and given back for the invoices that were taken: how many records, and what they come to in minor units.
pub(crate) fn payments(tx: &mut Tx<'_>, taken: &[(&Taken, &Invoice)], currency: Currency) -> Result<(i64, i64)> {
    let records: Vec<NewRecord> = taken.iter().filter_map(|(taken, invoice)| record(taken, invoice.kind, invoice.at, currency)).collect();
    for records in records.chunks(payments::api::MAX_RECORDS) {
        payments::api::record(tx, records)?;
    }
    Ok((records.len() as i64, records.iter().map(|record| record.amount_minor).sum()))
}

fn record(taken: &Taken, kind: Kind, at: Timestamp, currency: Currency) -> Option<NewRecord> {
    let kind = match (kind, taken.total_minor) {
        (_, 0) => return None,
        (Kind::Adjustment, _) => RecordKind::Correction,
        (_, total) if total > 0 => RecordKind::Payment,
        _ => RecordKind::Refund,
    };
    let (document, source) = (taken.document.clone(), SOURCE.to_owned());
    Some(NewRecord { kind, amount_minor: taken.total_minor, currency, document, source, at })
}

#[cfg(test)]
mod tests {
    use super::super::invoices::InvoiceLine;
    use super::*;
    use kernel::UnitPrice;

    fn invoice(kind: Kind, lines: &[(&str, i64)]) -> Invoice {
        let line = |(code, quantity): &(&str, i64)| InvoiceLine {
            stock_code: (*code).to_owned(),
            description: String::new(),
            quantity: *quantity,
            unit_price: UnitPrice::from_micros(1_000_000),
        };
        let at = Timestamp::from_micros(0);
        let (customer, country) = (None, "UK".to_owned());
        Invoice { number: "1".to_owned(), kind, at, customer, country, lines: lines.iter().map(line).collect() }
    }

    #[test]
    fn a_delivery_is_what_is_missing_in_whole_gross() {
        for (on_hand, taken, expected) in
            [(0, 0, 0), (0, 1, 144), (0, 144, 144), (0, 145, 288), (5, 5, 0), (5, 6, 144), (100, 50, 0), (1, 80_995, 81_072)]
        {
            assert_eq!(delivery(on_hand, taken), expected, "{taken} of {on_hand}");
        }
    }

    #[test]
    fn an_invoice_moves_each_stock_code_once_for_each_reason_and_never_below_zero() {
        use MovementKind::{Received, Returned, Shipped, WrittenOff};
        let (a, b, place) = (ItemId::from_i64(1), ItemId::from_i64(2), LocationId::from_i64(3));
        let items = HashMap::from([("A", a), ("B", b)]);
        let mut on_hand = BTreeMap::from([(a, 10)]);
        let mut book = |kind, lines: &[(&str, i64)]| {
            let booked = booking("ord_1", &invoice(kind, lines), &items, place, &mut on_hand);
            let told = booked.changes.lines.iter().map(|line| (line.item_id, line.kind, line.quantity)).collect::<Vec<_>>();
            (told, on_hand.get(&a).copied().unwrap_or_default(), on_hand.get(&b).copied().unwrap_or_default())
        };
        assert_eq!(
            book(Kind::Order, &[("A", 4), ("B", 1), ("A", 5)]),
            (vec![(a, Shipped, 9), (b, Received, 144), (b, Shipped, 1)], 1, 143)
        );
        assert_eq!(
            book(Kind::Order, &[("A", 1), ("A", -1), ("B", 0)]),
            (vec![(a, Received, 144), (a, Shipped, 1), (a, WrittenOff, 1)], 143, 143)
        );
        assert_eq!(book(Kind::CreditNote, &[("A", -7), ("B", -1)]), (vec![(a, Returned, 7), (b, Returned, 1)], 150, 144));
        assert_eq!(book(Kind::Adjustment, &[("A", 1), ("B", -1)]), (vec![], 150, 144));
    }

    #[test]
    fn what_was_paid_follows_from_the_document() {
        let taken = |total_minor| Taken { external_ref: "1".to_owned(), document: "ord_1".to_owned(), total_minor };
        let told = |kind, total| {
            let record = record(&taken(total), kind, Timestamp::from_micros(0), "GBP".parse().expect("a currency"));
            record.map(|record| (record.kind, record.amount_minor))
        };
        assert_eq!(told(Kind::Order, 5), Some((RecordKind::Payment, 5)));
        assert_eq!(told(Kind::Order, 0), None);
        assert_eq!(told(Kind::Order, -5), Some((RecordKind::Refund, -5)));
        assert_eq!(told(Kind::CreditNote, -5), Some((RecordKind::Refund, -5)));
        assert_eq!(told(Kind::Adjustment, 7), Some((RecordKind::Correction, 7)));
        assert_eq!(told(Kind::Adjustment, -7), Some((RecordKind::Correction, -7)));
    }

    #[test]
    fn what_neither_stock_nor_books_can_hold_is_told() {
        assert_eq!(too_large(&invoice(Kind::Order, &[("A", 999_999_000)])), None);
        assert!(too_large(&invoice(Kind::Order, &[("A", 999_999_000), ("A", -1_000)])).is_some());
        let mut dear = invoice(Kind::Order, &[("A", 1_000)]);
        dear.lines[0].unit_price = UnitPrice::from_micros(2_000_000_000_000_000);
        assert!(too_large(&dear).is_some());
    }
}
