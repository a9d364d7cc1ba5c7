//! What becomes of a customer's lines when a guest's are added to them: a pure function.

use crate::model::{Cart, Line, MAX_COUPONS, MAX_LINES, MAX_QUANTITY, VariantId};

/// What a merge came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Merge {
    /// The lines that differ from before.
    pub written: Vec<VariantId>,
    /// How many of the guest's lines found no room.
    pub left_out: usize,
}

/// Adds a guest's cart to a customer's. Lines keep their order, the customer's first; quantities are added up to the bound; what was
/// shown last is what the guest was shown, unless that was in another currency. What the customer has not said (e-mail, destination,
/// shipping method) is taken over; coupon codes are added as far as there is room.
pub(crate) fn merge(into: &mut Cart, from: &Cart) -> Merge {
    let mut merge = Merge::default();
    let same_currency = into.currency == from.currency;
    for guests in &from.lines {
        let seen_price = if same_currency { guests.unit_price } else { None };
        let at = into.lines.iter().position(|line| line.variant_id == guests.variant_id);
        match at {
            Some(at) => {
                let line = &mut into.lines[at];
                line.quantity = line.quantity.saturating_add(guests.quantity).min(MAX_QUANTITY);
                line.title.clone_from(&guests.title);
                line.unit_price = seen_price.or(line.unit_price);
            }
            None if into.lines.len() < MAX_LINES => {
                let place = into.next_place();
                into.lines.push(Line { unit_price: seen_price, place, ..guests.clone() });
            }
            None => {
                merge.left_out += 1;
                continue;
            }
        }
        merge.written.push(guests.variant_id);
    }
    into.line_count = into.lines.len() as i64;
    into.email = into.email.take().or_else(|| from.email.clone());
    into.destination = into.destination.take().or_else(|| from.destination.clone());
    into.shipping_method = into.shipping_method.take().or_else(|| from.shipping_method.clone());
    for code in &from.coupons {
        if into.coupons.len() < MAX_COUPONS && !into.coupons.contains(code) {
            into.coupons.push(code.clone());
        }
    }
    merge
}
