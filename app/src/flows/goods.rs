//! Goods as prices are worked out for them: the same for a cart that is looked at and for a checkout that is begun.

use carts::api::Destination;
use catalog::api::VariantSnapshot;
use kernel::{Currency, Timestamp};
use pricing::api::{Basket, BasketLine};

/// A line of goods, numbered from 1; its list price is none in a currency that it is not sold in.
pub(super) fn line(number: u32, snapshot: &VariantSnapshot, quantity: i64, currency: Currency) -> BasketLine {
    BasketLine {
        line: number,
        sku: snapshot.sku.clone(),
        quantity,
        list_price: snapshot.price_in(currency),
        tax_class: snapshot.tax_class.clone(),
        labels: snapshot.labels(),
    }
}

/// What so many weigh, in grams; what nobody has weighed counts as nothing.
pub(super) fn weight_g(snapshot: &VariantSnapshot, quantity: i64) -> i64 {
    snapshot.weight_g.unwrap_or(0).saturating_mul(quantity)
}

/// A basket of these lines, without charges, and without what is stored about it (`pricing::api::load`).
pub(super) fn basket(currency: Currency, at: Timestamp, destination: Option<&Destination>, lines: Vec<BasketLine>) -> Basket {
    Basket {
        currency,
        at,
        country: destination.map(|destination| destination.country.clone()),
        postcode: destination.and_then(|destination| destination.postcode.clone()),
        customer_groups: Vec::new(),
        vat_id: None,
        lines,
        charges: Vec::new(),
        coupons: Vec::new(),
        prices: Vec::new(),
    }
}

/// What a variant is called.
pub(super) fn title(snapshot: &VariantSnapshot) -> &str {
    if snapshot.title.is_empty() { &snapshot.product_title } else { &snapshot.title }
}

/// What coupons know a guest by, whose limit is as good as the address: its letters' case does not count, and of a long one its end does.
pub(super) fn coupon_guest(email: &str) -> String {
    let folded = email.to_lowercase();
    let cut = (folded.len().saturating_sub(128)..=folded.len()).find(|at| folded.is_char_boundary(*at)).unwrap_or(0);
    folded[cut..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::coupon_guest;

    #[test]
    fn a_guest_is_known_by_the_address() {
        assert_eq!(coupon_guest("Ada@Example.com"), "ada@example.com");
        assert_eq!(coupon_guest(&"ä".repeat(100)).len(), 128);
    }
}
