//! Checkouts begin: in one transaction the cart is checked against the catalog and priced, coupons are taken, stock is reserved and the
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
use pricing::api::{self as pricing_api, Charge, ChargeKind, Presented, Priced, PricedKind, Pricing, Rules};
use shipping::api::{self as shipping_api, Parcelled, Rates};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use store::{Member, Read, Tx};

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

/// What the shop says of everything that is bought in some checkouts: looked up once for all of them.
struct Shop {
    settings: Settings,
    rules: Arc<Rules>,
    snapshots: HashMap<catalog_api::VariantId, VariantSnapshot>,
    /// None when nobody has chosen how it is shipped.
    rates: Option<Rates>,
}

/// A checkout that nothing is against but that its goods, or what its coupons give, may be gone.
struct Draft {
    checkout: Checkout,
    cart: Option<(Cart, i64)>,
    /// Who uses the coupons.
    customer: Option<String>,
    coupons: Vec<String>,
    demand: Demand,
    payment: Option<NewPayment>,
}

/// Begins checkouts that come at once: what is the same for them is looked up once, and what they reserve is decided in their order and
/// written once. One with nothing to be paid is placed at once.
/// Errors of one: those of the cart (`carts.cart_not_found`, `carts.changed`, ...), `checkout.price_changed`, `checkout.total_changed`,
/// `checkout.coupon_refused`, `checkout.payment_required`, `shipping.no_method`, `inventory.insufficient`, those of a payment, and
/// `request.invalid`.
pub(super) fn begin(tx: &mut Tx<'_>, members: &[Member<'_, Begin>]) -> Result<Vec<Result<CheckoutView>>> {
    let mut outcomes = Vec::with_capacity(members.len());
    let (mut some, mut lines) = (Vec::new(), 0);
    for begin in members {
        let wanted = wanted(tx, &begin.source);
        let more = wanted.as_ref().map_or(0, |wanted| wanted.lines.len());
        if lines + more > catalog_api::MAX_LOOKUP {
            outcomes.append(&mut begin_some(tx, std::mem::take(&mut some))?);
            lines = 0;
        }
        lines += more;
        some.push((begin, wanted));
    }
    outcomes.append(&mut begin_some(tx, some)?);
    Ok(outcomes)
}

type Asked<'a, 'm> = (&'a Member<'m, Begin>, Result<Wanted>);

/// Those whose lines are looked up at once.
fn begin_some(tx: &mut Tx<'_>, asked: Vec<Asked<'_, '_>>) -> Result<Vec<Result<CheckoutView>>> {
    let shop = Shop::open(tx, &asked)?;
    let one = asked.len() == 1;
    let mut carts = HashSet::new();
    let mut drafts = Vec::with_capacity(asked.len());
    for (begin, wanted) in asked {
        let draft = wanted.and_then(|wanted| draft(tx, &shop, begin, wanted));
        // What a coupon or a cart says may have changed by a neighbour.
        let rests = |draft: &Draft| draft.coupons.is_empty() && draft.cart.as_ref().is_none_or(|(cart, _)| carts.insert(cart.cart_id));
        let together = draft.as_ref().is_ok_and(rests);
        drafts.push((begin, draft, together));
    }
    let demands: Vec<&Demand> =
        drafts.iter().filter(|(_, _, together)| *together).filter_map(|(_, draft, _)| Some(&draft.as_ref().ok()?.demand)).collect();
    let mut reserved = stock::reserve_all(tx, &demands)?.into_iter();
    let mut outcomes = Vec::with_capacity(drafts.len());
    for (begin, draft, together) in drafts {
        tx.correlate(begin.correlation());
        let outcome = match draft {
            Ok(draft) if together => match reserved.next() {
                Some(Ok(_)) => Ok(write(tx, begin, draft)?),
                Some(Err(refused)) => Err(refused),
                None => return Err(Error::internal("a demand was not decided")),
            },
            Ok(draft) if one => take(tx, begin, draft),
            Ok(draft) => tx.attempt(|tx| take(tx, begin, draft))?,
            Err(refused) => Err(refused),
        };
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

impl Shop {
    fn open(tx: &mut Tx<'_>, asked: &[Asked<'_, '_>]) -> Result<Shop> {
        let wanted = || asked.iter().filter_map(|(_, wanted)| wanted.as_ref().ok());
        let ids: BTreeSet<catalog_api::VariantId> = wanted().flat_map(|wanted| wanted.lines.iter().map(|(id, _)| *id)).collect();
        let (settings, _) = settings(tx)?;
        let rates = match wanted().any(|wanted| wanted.details.shipping_method.is_some()) {
            true => Some(shipping_api::rates(tx)?),
            false => None,
        };
        let rules = match asked.first() {
            Some((begin, _)) => begin.pricing.rules(tx)?,
            None => Arc::default(),
        };
        let ids: Vec<catalog_api::VariantId> = ids.into_iter().collect();
        Ok(Shop { settings, rules, snapshots: catalog_api::variant_snapshots(tx, &ids)?, rates })
    }
}

/// Everything about a checkout that can be said before it takes anything.
fn draft(tx: &mut Tx<'_>, shop: &Shop, begin: &Begin, wanted: Wanted) -> Result<Draft> {
    let destination = wanted.details.destination.clone().ok_or_else(|| Error::field("destination", "required", "where it goes to"))?;
    let now = tx.now();
    let cart = match &begin.source {
        Source::Cart { version, .. } => Some(*version),
        Source::Lines { .. } => None,
    };
    if let (Some(cart), Some(version)) = (&wanted.cart, cart) {
        carts_api::may_check_out(cart, version, now)?;
    }
    sold(&shop.snapshots, &wanted)?;
    let checkout_id: CheckoutId = tx.new_id();
    let reference = checkout_id.to_string();

    let goods = |(number, (variant_id, quantity)): (u32, &(catalog_api::VariantId, i64))| {
        Some(goods::line(number, shop.snapshots.get(variant_id)?, *quantity, wanted.currency))
    };
    let lines = (1..).zip(&wanted.lines).filter_map(goods).collect();
    let mut basket = goods::basket(wanted.currency, now, Some(&destination), lines);
    let customer = wanted.customer_id.map(|id| id.to_string()).or_else(|| wanted.details.email.as_deref().map(goods::coupon_guest));
    let presented = Presented { codes: wanted.details.coupons.clone(), customer: customer.clone(), reference: None };
    pricing_api::load(tx, &shop.rules, &mut basket, &presented)?;
    let mut priced = pricing_api::price(&shop.rules, &basket)?;
    let method = shipping(shop, &wanted, &destination, &priced)?;
    if let Some((name, price_minor)) = &method {
        let line = basket.lines.len() as u32 + 1;
        basket.charges.push(Charge { line, kind: ChargeKind::Shipping, name: name.clone(), amount_minor: *price_minor, tax_class: None });
        priced = pricing_api::price(&shop.rules, &basket)?;
    }
    agreed_to(begin, &priced)?;
    let payment = payment(begin, &shop.settings, checkout_id, &destination, &priced)?;
    let agreed = Agreed {
        lines: order_lines(&wanted, &shop.snapshots, &priced),
        priced: priced.snapshot(),
        destination,
        shipping_method: method.map(|(name, _)| name),
    };
    orders_api::check_lines(wanted.currency, &agreed.lines)?;
    let expires_at = now.plus_ms(shop.settings.hold_minutes * 60_000);
    let lines = wanted.lines.iter().map(|(id, quantity)| (stock::VariantId::from_i64(id.as_i64()), *quantity)).collect();
    let checkout = Checkout {
        checkout_id,
        cart: None,
        state: State::Paying,
        reason: String::new(),
        intent_id: None,
        stock_reference: reference.clone(),
        customer_id: wanted.customer_id,
        email: wanted.details.email,
        currency: wanted.currency,
        total_minor: priced.totals.total_minor,
        created_at: now,
        updated_at: now,
        expires_at,
        agreed,
    };
    Ok(Draft {
        checkout,
        cart: wanted.cart.zip(cart),
        customer,
        coupons: priced.coupons_to_redeem().map(str::to_owned).collect(),
        demand: Demand { reference, lines, expires_at: Some(expires_at), destination: None },
        payment,
    })
}

/// Takes what a single checkout wants, and writes it down.
fn take(tx: &mut Tx<'_>, begin: &Begin, draft: Draft) -> Result<CheckoutView> {
    for code in &draft.coupons {
        pricing_api::redeem(tx, code, draft.customer.as_deref(), &draft.demand.reference)?;
    }
    stock::reserve(tx, &draft.demand)?;
    write(tx, begin, draft)
}

/// Writes down a checkout that has its goods, and begins its payment.
fn write(tx: &mut Tx<'_>, begin: &Begin, draft: Draft) -> Result<CheckoutView> {
    let Draft { mut checkout, cart, payment, .. } = draft;
    if let Some((mut cart, version)) = cart {
        carts_api::begin_checkout(tx, &mut cart, version)?;
        checkout.cart = Some((cart.cart_id, cart.attempts));
    }
    let paid = match &payment {
        Some(new) => {
            let (intent_id, status) = payments_api::pay(tx, new)?;
            Some(CheckoutPayment { intent_id, status, action_url: None })
        }
        None => None,
    };
    checkout.intent_id = paid.as_ref().map(|payment| payment.intent_id);
    insert(tx, &checkout)?;
    if paid.is_none() {
        place(tx, &[&checkout], &begin.by)?;
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

/// Whether all of it is sold in this currency, at no more than the shopper saw in the cart.
fn sold(snapshots: &HashMap<catalog_api::VariantId, VariantSnapshot>, wanted: &Wanted) -> Result<()> {
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
    Error::fields(wrong)
}

/// The chosen method's name and price. Errors: `request.invalid`, `shipping.no_method`.
fn shipping(shop: &Shop, wanted: &Wanted, destination: &Destination, priced: &Priced) -> Result<Option<(String, i64)>> {
    let (Some(chosen), Some(rates)) = (&wanted.details.shipping_method, &shop.rates) else {
        if shop.settings.shipping_required {
            return Err(Error::field("shipping_method", "required", "choose one of the methods that are offered for this destination"));
        }
        return Ok(None);
    };
    let unknown = || Error::field("shipping_method", "unknown", "it is not offered for this destination");
    let method_id = chosen.parse().map_err(|_| unknown())?;
    let weights = wanted.lines.iter().filter_map(|(id, quantity)| Some(goods::weight_g(shop.snapshots.get(id)?, *quantity)));
    let parcelled = Parcelled {
        destination: shipping_api::Destination {
            country: destination.country.clone(),
            postcode: destination.postcode.clone().unwrap_or_default(),
        },
        weight_g: weights.fold(0, i64::saturating_add),
        amount_minor: priced.totals.total_minor,
        currency: wanted.currency,
    };
    let quote = shipping_api::quote_of(rates, &parcelled, method_id)?;
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

/// What is to be paid, if anything is. Errors: `checkout.payment_required`, `request.invalid`, `payments.card_number`.
fn payment(
    begin: &Begin,
    settings: &Settings,
    checkout_id: CheckoutId,
    destination: &Destination,
    priced: &Priced,
) -> Result<Option<NewPayment>> {
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
    payments_api::check(&new).map(|()| Some(new))
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
