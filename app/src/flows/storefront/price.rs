//! What a cart comes to: its lines, its coupons and its shipping, by the tenant's rules.
//!
//! What has to be read is read in the read or the transaction that asks ([`Unpriced::of`]); the pricing itself is pure.

use super::facts::{Facts, of_catalog};
use crate::flows::goods;
use carts::api::{Cart, Line};
use kernel::Result;
use pricing::api::{Basket, Charge, ChargeKind, Presented, Priced, Pricing, Rules};
use shipping::api::{self as shipping_api, Destination, MethodQuote, Parcelled, Rates};
use std::sync::Arc;
use store::Read;

/// A cart's basket, with all that is stored about it.
pub(crate) struct Unpriced {
    rules: Arc<Rules>,
    basket: Basket,
    /// Of all that is priced, in grams; what nobody has weighed counts as nothing.
    weight_g: i64,
}

impl Unpriced {
    /// Of the lines that are for sale, numbered as the cart has them, from 1.
    pub fn of(read: &mut Read<'_>, pricing: &Pricing, cart: &Cart, facts: &Facts) -> Result<Unpriced> {
        let mut weight_g: i64 = 0;
        let line = |(number, line): (u32, &Line)| {
            let snapshot = facts.snapshots.get(&of_catalog(line.variant_id)).filter(|snapshot| snapshot.for_sale)?;
            let priced = goods::line(number, snapshot, line.quantity, cart.currency);
            priced.list_price?;
            weight_g = weight_g.saturating_add(goods::weight_g(snapshot, line.quantity));
            Some(priced)
        };
        let lines = (1..).zip(&cart.lines).filter_map(line).collect();
        let mut basket = goods::basket(cart.currency, read.now(), cart.destination.as_ref(), lines);
        let rules = pricing.rules(read)?;
        // As the checkout names the shopper, so that a coupon for each customer is counted alike.
        let customer = cart.customer_id.map(|id| id.to_string()).or_else(|| cart.email.as_deref().map(goods::coupon_guest));
        let presented = Presented { codes: cart.coupons.clone(), customer, reference: None };
        pricing::api::load(read, &rules, &mut basket, &presented)?;
        Ok(Unpriced { rules, basket, weight_g })
    }

    /// What it comes to, and the ways to ship it, the cheapest first. Goods are priced first, since what shipping costs may depend on it.
    /// A method that was chosen and is not offered any more costs nothing and is not among them. Errors: those of [`pricing::api::price`].
    pub fn price(mut self, rates: &Rates, cart: &Cart) -> Result<(Priced, Vec<MethodQuote>)> {
        let goods = pricing::api::price(&self.rules, &self.basket)?;
        let methods = shipping_methods(rates, cart, self.weight_g, goods.totals.total_minor);
        let chosen = cart.shipping_method.as_ref().and_then(|id| methods.iter().find(|method| method.method_id.to_string() == *id));
        let Some(MethodQuote { name, price_minor, .. }) = chosen else { return Ok((goods, methods)) };
        let (name, amount_minor) = (name.clone(), *price_minor);
        // After every line of goods.
        let line = cart.lines.len() as u32 + 1;
        self.basket.charges = vec![Charge { line, kind: ChargeKind::Shipping, name, amount_minor, tax_class: None }];
        Ok((pricing::api::price(&self.rules, &self.basket)?, methods))
    }
}

/// The ways to ship a cart; none without a destination, or where nothing is shipped to.
fn shipping_methods(rates: &Rates, cart: &Cart, weight_g: i64, goods_minor: i64) -> Vec<MethodQuote> {
    let Some(to) = &cart.destination else { return Vec::new() };
    let destination = Destination { country: to.country.clone(), postcode: to.postcode.clone().unwrap_or_default() };
    shipping_api::quote(rates, &Parcelled { destination, weight_g, amount_minor: goods_minor.max(0), currency: cart.currency })
}
