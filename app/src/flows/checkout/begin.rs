//! A checkout begins: in one transaction the cart is checked against the catalog and priced, coupons are taken, stock is reserved and the
//! payment is begun. The provider is called after the commit; no stock is locked meanwhile, only counted as reserved.

use super::model::{Agreed, Checkout, CheckoutId, Settings, State, changed, order_of};
use super::place::place;
use super::view::{CheckoutPayment, CheckoutView};
use super::{sql, view};
use crate::flows::goods;
use carts::api::{self as carts_api, Cart, CartKey, Destination, Difference, Fact, Line as CartLine};
use catalog::api::{self as catalog_api, VariantSnapshot};
use inventory::api::{self as stock, Demand};
use kernel::{Currency, Error, FieldError, Result};
use orders::api::{self as orders_api, By, CustomerId, NewLine};
use payments::api::{self as payments_api, Means, NewPayment, Purpose};
use pricing::api::{self as pricing_api, Charge, ChargeKind, Presented, Priced, PricedKind, Pricing};
use shipping::api::{self as shipping_api, Parcelled};
use std::collections::HashMap;
use store::{Read, Tx};

/// What an order calls its line for shipping, whose description is the method's name.
const SHIPPING: &str = "shipping";
/// The most lines of a checkout without a cart.
pub(super) const MAX_LINES: usize = carts_api::MAX_LINES;

/// What is to be bought.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// A cart, in the version that the shopper saw.
    Cart { key: CartKey, version: i64 },
    /// Variants, without a cart.
    Lines { currency: Currency, lines: Vec<(catalog_api::VariantId, i64)>, details: Box<Details> },
}

/// What a cart knows besides its lines.
#[derive(Clone, Debug, Default)]
pub(super) struct Details {
    pub email: Option<String>,
    pub destination: Option<Destination>,
    pub shipping_method: Option<String>,
    pub coupons: Vec<String>,
}

/// A checkout to begin.
#[derive(Clone, Debug)]
pub(super) struct Begin {
    pub source: Source,
    /// What it is paid with; none when nothing is to be paid.
    pub means: Option<Means>,
    /// What the shopper has agreed to pay, if the page insists on it.
    pub expected_total_minor: Option<i64>,
    pub pricing: Pricing,
    pub by: By,
}

/// What is bought, wherever it comes from.
struct Wanted {
    cart: Option<Cart>,
    currency: Currency,
    lines: Vec<(catalog_api::VariantId, i64)>,
    details: Details,
    customer_id: Option<CustomerId>,
}

/// Begins it, and places the order at once when nothing is to be paid.
/// Errors: those of the cart (`carts.cart_not_found`, `carts.changed`, ...), `checkout.price_changed`, `checkout.total_changed`,
/// `checkout.coupon_refused`, `checkout.payment_required`, `shipping.no_method`, `inventory.insufficient`, those of a payment, and
/// `request.invalid`.
pub(super) fn begin(tx: &mut Tx<'_>, begin: &Begin) -> Result<CheckoutView> {
    let mut wanted = wanted(tx, &begin.source)?;
    let settings = settings(tx)?.0;
    let destination = wanted.details.destination.clone().ok_or_else(|| Error::field("destination", "required", "where it goes to"))?;
    let snapshots = sold(tx, &wanted)?;
    let now = tx.now();
    let checkout_id: CheckoutId = tx.new_id();
    let reference = checkout_id.to_string();

    let rules = begin.pricing.rules(tx)?;
    let goods = |(number, (variant_id, quantity)): (u32, &(catalog_api::VariantId, i64))| {
        Some(goods::line(number, snapshots.get(variant_id)?, *quantity, wanted.currency))
    };
    let lines = (1..).zip(&wanted.lines).filter_map(goods).collect();
    let mut basket = goods::basket(wanted.currency, now, Some(&destination), lines);
    let customer = wanted.customer_id.map(|id| id.to_string()).or_else(|| wanted.details.email.as_deref().map(goods::coupon_guest));
    let presented = Presented { codes: wanted.details.coupons.clone(), customer: customer.clone(), reference: None };
    pricing_api::load(tx, &rules, &mut basket, &presented)?;
    let mut priced = pricing_api::price(&rules, &basket)?;
    let method = shipping(tx, &settings, &wanted, &destination, &snapshots, &priced)?;
    if let Some((name, price_minor)) = &method {
        let line = basket.lines.len() as u32 + 1;
        basket.charges.push(Charge { line, kind: ChargeKind::Shipping, name: name.clone(), amount_minor: *price_minor, tax_class: None });
        priced = pricing_api::price(&rules, &basket)?;
    }
    agreed_to(begin, &priced)?;

    for code in priced.coupons_to_redeem() {
        pricing_api::redeem(tx, code, customer.as_deref(), &reference)?;
    }
    let expires_at = now.plus_ms(settings.hold_minutes * 60_000);
    let lines = wanted.lines.iter().map(|(id, quantity)| (stock::VariantId::from_i64(id.as_i64()), *quantity)).collect();
    stock::reserve(tx, &Demand { reference: reference.clone(), lines, expires_at: Some(expires_at), destination: None })?;
    let cart = match (&mut wanted.cart, &begin.source) {
        (Some(cart), Source::Cart { version, .. }) => {
            carts_api::begin_checkout(tx, cart, *version)?;
            Some((cart.cart_id, cart.attempts))
        }
        _ => None,
    };
    let paid = pay(tx, begin, &settings, checkout_id, &destination, &priced)?;
    let agreed = Agreed {
        lines: order_lines(&wanted, &snapshots, &priced),
        priced: priced.snapshot(),
        destination,
        shipping_method: method.map(|(name, _)| name),
    };
    orders_api::check_lines(wanted.currency, &agreed.lines)?;
    let mut checkout = Checkout {
        checkout_id,
        cart,
        state: State::Paying,
        reason: String::new(),
        intent_id: paid.as_ref().map(|payment| payment.intent_id),
        stock_reference: reference,
        customer_id: wanted.customer_id,
        email: wanted.details.email,
        currency: wanted.currency,
        total_minor: priced.totals.total_minor,
        created_at: now,
        updated_at: now,
        expires_at,
        agreed,
    };
    insert(tx, &checkout)?;
    if paid.is_none() {
        place(tx, &checkout, &begin.by)?;
        checkout.state = State::Completed;
    }
    Ok(view::with(checkout, paid))
}

fn insert(tx: &mut Tx<'_>, checkout: &Checkout) -> Result<()> {
    let agreed = serde_json::to_string(&checkout.agreed);
    let agreed = agreed.map_err(|e| Error::internal("what was agreed on does not serialise").caused_by(e))?;
    let row = (
        checkout.checkout_id,
        checkout.cart.map(|(cart_id, _)| cart_id),
        checkout.cart.map_or(0, |(_, attempt)| attempt),
        checkout.state.as_str(),
        checkout.intent_id,
        &checkout.stock_reference,
        checkout.customer_id,
        checkout.email.as_deref(),
        checkout.currency,
        checkout.total_minor,
        checkout.created_at,
        checkout.expires_at,
        agreed,
    );
    tx.exec(sql::INSERT, row)
}

/// The tenant's settings and their version; 1 when they were never set.
pub(super) fn settings(read: &mut Read<'_>) -> Result<(Settings, i64)> {
    let found: Option<(String, i64)> = read.opt(sql::SETTINGS, ())?;
    let Some((text, version)) = found else { return Ok((Settings::default(), 1)) };
    let settings = serde_json::from_str(&text).map_err(|e| Error::internal("the checkout's settings can't be read").caused_by(e))?;
    Ok((settings, version))
}

fn wanted(tx: &mut Tx<'_>, source: &Source) -> Result<Wanted> {
    match source {
        Source::Lines { currency, lines, details } => {
            // Each variant once, however often it was named: promotions and stock count what there is of it.
            let mut summed: Vec<(catalog_api::VariantId, i64)> = Vec::with_capacity(lines.len());
            for (variant_id, quantity) in lines {
                match summed.iter_mut().find(|(known, _)| known == variant_id) {
                    Some((_, sum)) => *sum = sum.saturating_add(*quantity),
                    None => summed.push((*variant_id, *quantity)),
                }
            }
            if summed.iter().any(|(_, sum)| *sum > carts_api::MAX_QUANTITY) {
                let limit = format!("a variant's lines come to at most {} together", carts_api::MAX_QUANTITY);
                return Err(Error::field("lines", "out_of_range", limit));
            }
            Ok(Wanted { cart: None, currency: *currency, lines: summed, details: Details::clone(details), customer_id: None })
        }
        Source::Cart { key, .. } => {
            let cart = carts_api::load(tx, key)?;
            cart.must_be_open(tx.now())?;
            let lines = cart.lines.iter().map(|line| (catalog_api::VariantId::from_i64(line.variant_id.as_i64()), line.quantity)).collect();
            let customer_id = cart.customer_id.map(|id| CustomerId::from_i64(id.as_i64()));
            let details = Details {
                email: cart.email.clone(),
                destination: cart.destination.clone(),
                shipping_method: cart.shipping_method.clone(),
                coupons: cart.coupons.clone(),
            };
            Ok(Wanted { currency: cart.currency, lines, details, customer_id, cart: Some(cart) })
        }
    }
}

/// What the catalog says of each variant: all of them are sold in this currency, at no more than the shopper saw in the cart.
fn sold(tx: &mut Tx<'_>, wanted: &Wanted) -> Result<HashMap<catalog_api::VariantId, VariantSnapshot>> {
    let ids: Vec<catalog_api::VariantId> = wanted.lines.iter().map(|(id, _)| *id).collect();
    let snapshots = catalog_api::variant_snapshots(tx, &ids)?;
    if let Some(cart) = &wanted.cart {
        let fact = |line: &CartLine| {
            let snapshot = snapshots.get(&catalog_api::VariantId::from_i64(line.variant_id.as_i64()))?;
            let (sellable, unit_price) = (snapshot.for_sale, snapshot.price_in(wanted.currency));
            // Whether there is enough of it the reservation decides.
            Some(Fact { variant_id: line.variant_id, sellable, unit_price, available: None, title: goods::title(snapshot).to_owned() })
        };
        let facts: Vec<Fact> = cart.lines.iter().filter_map(fact).collect();
        let diff = carts_api::revalidate(cart, &facts);
        if diff.stops_checkout() {
            let place = |of: &Difference| cart.lines.iter().position(|line| line.variant_id == of.variant_id()).unwrap_or(0);
            let field = |of: &Difference| match of {
                Difference::PriceUp { seen, now, .. } => Some(("unit_price", "price_up", format!("it costs {now} now, not {seen}"))),
                Difference::PriceNew { now, .. } => Some(("unit_price", "price_new", format!("it costs {now}; no price was shown"))),
                Difference::NotSold { title, .. } => Some(("variant_id", "not_sold", format!("{title} is not for sale"))),
                Difference::FewerAvailable { .. } | Difference::PriceDown { .. } => None,
            };
            let fields = diff.differences.iter().filter_map(|of| {
                let (field, code, detail) = field(of)?;
                Some(FieldError { field: format!("lines[{}].{field}", place(of)), code, detail })
            });
            return Err(changed(fields.collect()));
        }
    }
    let mut wrong = Vec::new();
    for (i, (variant_id, _)) in wanted.lines.iter().enumerate() {
        let (code, detail) = match snapshots.get(variant_id) {
            None => ("unknown", "there is no such variant".to_owned()),
            Some(known) if !known.for_sale => ("not_sold", "it is not for sale".to_owned()),
            Some(known) if known.price_in(wanted.currency).is_none() => ("not_sold", format!("it has no price in {}", wanted.currency)),
            Some(_) => continue,
        };
        wrong.push(FieldError { field: format!("lines[{i}].variant_id"), code, detail });
    }
    Error::fields(wrong).map(|()| snapshots)
}

/// The chosen method's name and price. Errors: `request.invalid`, `shipping.no_method`.
fn shipping(
    tx: &mut Tx<'_>,
    settings: &Settings,
    wanted: &Wanted,
    destination: &Destination,
    snapshots: &HashMap<catalog_api::VariantId, VariantSnapshot>,
    priced: &Priced,
) -> Result<Option<(String, i64)>> {
    let Some(chosen) = &wanted.details.shipping_method else {
        if settings.shipping_required {
            return Err(Error::field("shipping_method", "required", "choose one of the methods that are offered for this destination"));
        }
        return Ok(None);
    };
    let unknown = || Error::field("shipping_method", "unknown", "it is not offered for this destination");
    let method_id = chosen.parse().map_err(|_| unknown())?;
    let weights = wanted.lines.iter().filter_map(|(id, quantity)| Some(goods::weight_g(snapshots.get(id)?, *quantity)));
    let parcelled = Parcelled {
        destination: shipping_api::Destination {
            country: destination.country.clone(),
            postcode: destination.postcode.clone().unwrap_or_default(),
        },
        weight_g: weights.fold(0, i64::saturating_add),
        amount_minor: priced.totals.total_minor,
        currency: wanted.currency,
    };
    let rates = shipping_api::rates(tx)?;
    let quote = shipping_api::quote_of(&rates, &parcelled, method_id)?;
    Ok(Some((quote.name, quote.price_minor)))
}

/// Whether this is what the shopper has agreed to. Errors: `checkout.coupon_refused`, `checkout.total_changed`.
fn agreed_to(begin: &Begin, priced: &Priced) -> Result<()> {
    if let Some((i, refused)) = priced.coupons.iter().enumerate().find(|(_, coupon)| !coupon.applied) {
        let why = refused.reason.map_or_else(|| "it gives nothing here".to_owned(), |reason| reason.to_string());
        let error = Error::failed_precondition("checkout.coupon_refused", format!("the coupon {} can't be used: {why}", refused.code));
        return Err(error.with_field(format!("coupons[{i}]"), "refused", why));
    }
    let total_minor = priced.totals.total_minor;
    match begin.expected_total_minor {
        Some(expected) if expected != total_minor => {
            let error = Error::conflict("checkout.total_changed", format!("it comes to {total_minor} minor units now, not {expected}"));
            Err(error.with_field("expected_total_minor", "changed", format!("{total_minor} now")))
        }
        _ => Ok(()),
    }
}

/// Begins the payment, when there is something to pay. Errors: `checkout.payment_required`, those of payments.
fn pay(
    tx: &mut Tx<'_>,
    begin: &Begin,
    settings: &Settings,
    checkout_id: CheckoutId,
    destination: &Destination,
    priced: &Priced,
) -> Result<Option<CheckoutPayment>> {
    if priced.totals.total_minor == 0 {
        return Ok(None);
    }
    let means = begin.means.clone().ok_or_else(|| {
        let error = Error::failed_precondition("checkout.payment_required", "say what it is paid with");
        error.with_field("payment_token", "required", "a provider's token; never a card's number")
    })?;
    let new = NewPayment {
        amount_minor: priced.totals.total_minor,
        currency: priced.currency,
        country: destination.country.clone(),
        purpose: Purpose::Order { order_id: order_of(checkout_id).to_string(), capture: settings.capture },
        means,
        customers: None,
    };
    let (intent_id, status) = payments_api::pay(tx, &new)?;
    Ok(Some(CheckoutPayment { intent_id, status, action_url: None }))
}

/// The order's lines: as they were priced.
fn order_lines(wanted: &Wanted, snapshots: &HashMap<catalog_api::VariantId, VariantSnapshot>, priced: &Priced) -> Vec<NewLine> {
    let sold = |line: u32| {
        let (variant_id, _) = wanted.lines.get(line as usize - 1)?;
        snapshots.get(variant_id)
    };
    let line = |line: &pricing_api::PricedLine| {
        let snapshot = if line.kind == PricedKind::Sale { sold(line.line) } else { None };
        NewLine {
            line: Some(line.line),
            sku: if snapshot.is_some() { line.sku.clone() } else { SHIPPING.to_owned() },
            variant_id: snapshot.map(|known| orders_api::VariantId::from_i64(known.variant_id.as_i64())),
            description: snapshot.map_or_else(|| line.sku.clone(), |known| goods::title(known).to_owned()),
            quantity: line.quantity,
            unit_price: line.unit_price,
            discount_minor: line.discount_minor,
            tax_minor: line.tax_minor,
            included_tax_minor: line.included_tax_minor,
            charge: snapshot.is_none(),
        }
    };
    priced.lines.iter().map(line).collect()
}
