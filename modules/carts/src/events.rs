//! What carts tell the log: little, and nothing personal, because the log is for ever. Whoever follows them reads the cart by its id.

use crate::model::{Cart, CartId, CustomerId};
use kernel::{Currency, Timestamp};
use serde::Serialize;
use store::NewEvent;
use web::EventInfo;

/// Every kind.
pub(crate) const EVENTS: &[EventInfo] = &[
    EventInfo { kind: "cart.abandoned", version: 1, description: "Nobody changed a cart with lines for a while; told once a cart." },
    EventInfo { kind: "cart.merged", version: 1, description: "A guest's cart went into its customer's cart, at sign-in." },
];

#[derive(Serialize)]
struct Abandoned {
    cart_id: CartId,
    customer_id: Option<CustomerId>,
    currency: Currency,
    lines: i64,
    changed_at: Timestamp,
}

#[derive(Serialize)]
struct Merged {
    cart_id: CartId,
    from_cart_id: CartId,
    customer_id: Option<CustomerId>,
    currency: Currency,
    lines: i64,
    left_out: usize,
}

/// `cart.abandoned`.
pub(crate) fn abandoned(cart: &Cart) -> NewEvent {
    let Cart { cart_id, customer_id, currency, line_count: lines, changed_at, .. } = *cart;
    NewEvent::new("cart.abandoned", 1, cart_id, &Abandoned { cart_id, customer_id, currency, lines, changed_at })
}

/// `cart.merged`. `left_out` lines found no room any more.
pub(crate) fn merged(into: &Cart, from_cart_id: CartId, left_out: usize) -> NewEvent {
    let Cart { cart_id, customer_id, currency, line_count: lines, .. } = *into;
    NewEvent::new("cart.merged", 1, cart_id, &Merged { cart_id, from_cart_id, customer_id, currency, lines, left_out })
}
