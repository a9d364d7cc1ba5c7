//! What happened, for whoever follows the log. Reservations that are made, confirmed and released are their callers' to tell.

use crate::model::*;
use kernel::Timestamp;
use serde::Serialize;
use store::NewEvent;
use web::EventInfo;

const fn event(kind: &'static str, description: &'static str) -> EventInfo {
    EventInfo { kind, version: 1, description }
}

/// Every kind of event.
pub(crate) const EVENTS: &[EventInfo] = &[
    event("inventory.item_created", "An item was made."),
    event("inventory.item_changed", "An item was changed."),
    event("inventory.location_created", "A location was made."),
    event("inventory.location_changed", "A location was changed."),
    event("inventory.components_set", "What a variant is made of was set."),
    event("inventory.rules_set", "How stock is allocated was set."),
    event("inventory.transfer_sent", "Goods left for another location."),
    event("inventory.transfer_received", "Goods from another location came in, or were found missing."),
    event("inventory.count_applied", "The differences that a stock take found were booked."),
    event("stock.expected", "A delivery was announced, or less of it."),
    event("stock.received", "Goods came in."),
    event("stock.restocked", "Goods came back on sale."),
    event("stock.written_off", "Goods are lost."),
    event("stock.damaged", "Goods on hand were damaged."),
    event("stock.repaired", "Damaged goods are on sale again."),
    event("stock.corrected", "Somebody has set what is on hand."),
    event("stock.safety_set", "Somebody has set how much is never sold."),
    event("stock.shipped", "Reserved goods went out."),
    event("stock.returned", "Shipped goods came back."),
    event("stock.transferred", "A transfer changed a level."),
    event("stock.counted", "A stock take changed a level."),
    event("stock.low", "An item has come down to its low-stock mark: once for each crossing."),
    event("stock.oversold", "A location has less than is reserved there of an item that may not be oversold: once for each crossing."),
    event("stock.booked", "Movements of many documents were booked at once; the ledger of stock has each of them."),
    event("stock.reservation_expired", "Nobody confirmed a reservation in time; what it held is free."),
];

/// An item was made or changed.
pub(crate) fn item(kind: &'static str, item: &Item) -> NewEvent {
    NewEvent::new(kind, 1, item.item_id, item)
}

/// A location was made or changed. Its address stays out.
pub(crate) fn location(kind: &'static str, location: &Location) -> NewEvent {
    #[derive(Serialize)]
    struct Payload<'a> {
        location_id: LocationId,
        kind: LocationKind,
        name: &'a str,
        priority: i64,
        active: bool,
        version: i64,
    }
    let Location { location_id, kind: what, name, priority, active, version, .. } = location;
    let payload = Payload { location_id: *location_id, kind: *what, name, priority: *priority, active: *active, version: *version };
    NewEvent::new(kind, 1, location_id, &payload)
}

/// What a variant is made of was set.
pub(crate) fn components_set(components: &Components) -> NewEvent {
    NewEvent::new("inventory.components_set", 1, components.variant_id, components)
}

/// A level changed.
pub(crate) fn moved(movement: &Movement) -> NewEvent {
    #[derive(Serialize)]
    struct Payload<'a> {
        movement_id: MovementId,
        item_id: ItemId,
        location_id: LocationId,
        kind: MovementKind,
        on_hand: i64,
        incoming: i64,
        damaged: i64,
        safety: i64,
        reference: &'a str,
    }
    let m = movement;
    let payload = Payload {
        movement_id: m.movement_id,
        item_id: m.item_id,
        location_id: m.location_id,
        kind: m.kind,
        on_hand: m.on_hand,
        incoming: m.incoming,
        damaged: m.damaged,
        safety: m.safety,
        reference: &m.reference,
    };
    NewEvent::new(m.kind.event(), 1, m.item_id, &payload)
}

/// Many documents' movements were booked at once.
pub(crate) fn booked(movements: &[Movement]) -> Option<NewEvent> {
    #[derive(Serialize)]
    struct Payload {
        first_movement_id: MovementId,
        last_movement_id: MovementId,
        movements: usize,
    }
    let (first, last) = (movements.first()?.movement_id, movements.last()?.movement_id);
    let payload = Payload { first_movement_id: first, last_movement_id: last, movements: movements.len() };
    Some(NewEvent::new("stock.booked", 1, first, &payload))
}

/// An item has come down to its mark.
pub(crate) fn low(item_id: ItemId, available: i64, low_stock_at: i64) -> NewEvent {
    #[derive(Serialize)]
    struct Payload {
        item_id: ItemId,
        available: i64,
        low_stock_at: i64,
    }
    NewEvent::new("stock.low", 1, item_id, &Payload { item_id, available, low_stock_at })
}

/// A location has less than is reserved there.
pub(crate) fn oversold(item_id: ItemId, location_id: LocationId, on_hand: i64, reserved: i64) -> NewEvent {
    #[derive(Serialize)]
    struct Payload {
        item_id: ItemId,
        location_id: LocationId,
        on_hand: i64,
        reserved: i64,
    }
    NewEvent::new("stock.oversold", 1, item_id, &Payload { item_id, location_id, on_hand, reserved })
}

/// Nobody confirmed a reservation in time.
pub(crate) fn expired(reservation: &Reserved) -> NewEvent {
    #[derive(Serialize)]
    struct Payload<'a> {
        reference: &'a str,
        expires_at: Option<Timestamp>,
        lines: &'a [ReservedLine],
    }
    let Reserved { reference, expires_at, lines, .. } = reservation;
    NewEvent::new("stock.reservation_expired", 1, reference, &Payload { reference, expires_at: *expires_at, lines })
}
