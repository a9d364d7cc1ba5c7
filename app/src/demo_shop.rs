//! What makes the demo's brand a shop: stock, shipping, taxes and a coupon; shoppers who buy through the storefront as the shop's page does;
//! and the people who send what was bought and take back what was not liked. All of it over HTTP.

use crate::demo::{Shopper, text};
use crate::demo_catalog::{CURRENCY, PRODUCTS, sku};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

/// A code that anybody may use: a tenth off.
pub(crate) const COUPON: &str = "TIDELINE";
/// Where the brand's goods are.
const LOCATION: &str = "Dock warehouse";
/// Shoppers who are about at once, until their order has arrived.
const SHOPPERS: usize = 64;
/// How long the demo takes for what takes a real shop a day.
const DAY: Duration = Duration::from_secs(2);
/// How often a payment that is under way is looked at, and for how long.
const LOOKS: (u32, Duration) = (40, Duration::from_millis(250));
/// Units of a delivery.
const DELIVERY: i64 = 48;

/// Where the brand ships to: the country, its standard rate of tax in percent, and somewhere to live there.
const PLACES: &[(&str, i64, &str, &str, &str)] = &[
    ("DE", 19, "Hafenstraße 12", "20457", "Hamburg"),
    ("FR", 20, "3 quai du Port", "44000", "Nantes"),
    ("NL", 21, "Oudegracht 88", "3511 AV", "Utrecht"),
    ("AT", 20, "Uferweg 5", "1020", "Wien"),
    ("BE", 21, "Graslei 9", "9000", "Gent"),
    ("DK", 25, "Havnegade 21", "1058", "København"),
    ("IT", 22, "Riva Grande 4", "34121", "Trieste"),
    ("ES", 21, "Calle del Mar 7", "46003", "València"),
    ("SE", 25, "Skeppsbron 2", "211 20", "Malmö"),
    ("IE", 23, "Bridge Street 30", "H91 X0A0", "Galway"),
];
const NAMES: &[&str] = &["Anna Weiler", "Björn Ek", "Clara Roux", "Dario Conti", "Eva de Wit", "Finn Maher", "Gala Soler", "Henk Bos"];

/// The brand's shop: what shoppers and its people need to know of it, and what has happened so far.
pub(crate) struct DemoShop {
    shopper: Arc<Shopper>,
    publishable: String,
    location_id: String,
    /// By variant.
    items: HashMap<String, String>,
    about: Arc<Semaphore>,
    orders: AtomicU64,
    shipped: AtomicU64,
    returned: AtomicU64,
}

/// The ways to ship a cart.
#[derive(Deserialize)]
struct Offered {
    shipping_methods: Vec<Value>,
}

/// What somebody has bought.
struct Bought {
    order_id: String,
    /// The number and the quantity of each line of goods.
    lines: Vec<(u32, i64)>,
    name: &'static str,
    place: usize,
}

impl DemoShop {
    /// Sets the shop up; what is there from an earlier start stays.
    pub(crate) async fn open(shopper: Arc<Shopper>, publishable: String) -> Result<DemoShop, String> {
        let location = json!({ "kind": "warehouse", "name": LOCATION, "address": { "city": "Hamburg", "country": "DE" } });
        let location_id = named(&shopper, "/api/v1/inventory/locations", "location_id", location).await?;
        let items = stock(&shopper, &location_id).await?;
        shipping(&shopper).await?;
        taxes(&shopper).await?;
        let promotion = json!({ "name": "A tenth off", "coupon_required": true, "effect": { "kind": "percent", "percent": 10 } });
        let promotion_id = named(&shopper, "/api/v1/pricing/promotions", "promotion_id", promotion).await?;
        shopper.post("/api/v1/pricing/coupons", "demo-coupon", &json!({ "code": COUPON, "promotion_id": promotion_id })).await?;
        let settings = json!({ "capture": "manual", "hold_minutes": 15, "shipping_required": true });
        shopper.send("PUT", "/api/v1/checkout-settings", None, Bytes::from(settings.to_string())).await?;
        let nothing = || AtomicU64::new(0);
        let about = Arc::new(Semaphore::new(SHOPPERS));
        Ok(DemoShop { shopper, publishable, location_id, items, about, orders: nothing(), shipped: nothing(), returned: nothing() })
    }

    /// Somebody comes by, unless the shop is full. What becomes of the visit goes on beside everything else.
    pub(crate) fn welcome(self: &Arc<Self>) {
        let Ok(seat) = self.about.clone().try_acquire_owned() else { return };
        let shop = self.clone();
        tokio::spawn(async move {
            if let Err(why) = shop.visit().await {
                tracing::warn!(why, "a shopper of the demo did not get what they wanted");
            }
            drop(seat);
        });
    }

    /// Orders, those that were sent, and those that something came back of, since the demo began.
    pub(crate) fn so_far(&self) -> (u64, u64, u64) {
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        (count(&self.orders), count(&self.shipped), count(&self.returned))
    }

    fn below(&self, bound: usize) -> usize {
        self.shopper.rng.below(bound as u64) as usize
    }

    async fn visit(&self) -> Result<(), String> {
        let Some(bought) = self.buy().await? else { return Ok(()) };
        self.orders.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(DAY).await;
        self.ship(&bought).await?;
        self.shipped.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(DAY).await;
        if self.below(6) == 0 {
            self.take_back(&bought).await?;
            self.returned.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// A request of the shop's page.
    async fn page(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &Value) -> Result<Value, String> {
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        match self.shopper.ask(&self.publishable, method, &format!("/api/v1/storefront{path}"), headers, body).await? {
            (200..=299, answer) => Ok(answer),
            (status, answer) => Err(format!("{method} {path}: {status} {answer}")),
        }
    }

    /// Looks around, fills a cart, and perhaps pays for it.
    async fn buy(&self) -> Result<Option<Bought>, String> {
        let Some(first) = self.choose().await? else { return Ok(None) };
        let cart = self.page("POST", "/carts", &[], &json!({ "currency": CURRENCY, "lines": [first] })).await?;
        let (path, token) = (format!("/carts/{}", text(&cart, "cart_id")?), text(&cart, "token")?);
        let token = [("cart-token", token.as_str())];
        if self.below(2) == 0
            && let Some(second) = self.choose().await?
        {
            self.page("POST", &format!("{path}/lines"), &token, &second).await?;
        }
        if self.below(4) == 0 {
            // Leaves it, as people do.
            return Ok(None);
        }
        // The smaller of two dice: the first places come more often.
        let place = self.below(PLACES.len()).min(self.below(PLACES.len()));
        let name = NAMES[self.below(NAMES.len())];
        let (country, _, line1, postcode, city) = PLACES[place];
        let destination = json!({ "recipient": name, "line1": line1, "postcode": postcode, "city": city, "country": country });
        let email = format!("{}@example.com", name.to_lowercase().replace(' ', ".").replace('ö', "o"));
        let cart = self.page("PATCH", &path, &token, &json!({ "email": email, "destination": destination })).await?;
        if self.below(8) == 0 {
            self.page("POST", &format!("{path}/coupons"), &token, &json!({ "code": COUPON })).await?;
        }
        let methods = serde_json::from_value(cart).map(|offered: Offered| offered.shipping_methods).unwrap_or_default();
        let method = methods.get(self.below(methods.len().max(1))).map(|method| method["method_id"].clone()).unwrap_or_default();
        let cart = self.page("PATCH", &path, &token, &json!({ "shipping_method": method })).await?;
        if cart["can_checkout"] != true {
            self.deliver(&cart).await?;
            return Ok(None);
        }
        let card = if self.below(12) == 0 { "tok_hard_decline" } else { "tok_approve" };
        let body = json!({
            "cart_id": cart["cart_id"], "cart_version": cart["version"],
            "expected_total_minor": cart["pricing"]["totals"]["total_minor"], "payment_token": card,
        });
        let key = self.shopper.random_key();
        let checkout = self.page("POST", "/checkouts", &[token[0], ("idempotency-key", key.as_str())], &body).await?;
        let (path, token) = (format!("/checkouts/{}", text(&checkout, "checkout_id")?), text(&checkout, "token")?);
        let mut checkout = checkout;
        for _ in 0..LOOKS.0 {
            if checkout["state"] != "paying" {
                break;
            }
            tokio::time::sleep(LOOKS.1).await;
            checkout = self.page("GET", &path, &[("checkout-token", token.as_str())], &Value::Null).await?;
        }
        if checkout["state"] != "completed" {
            return Ok(None);
        }
        let goods = checkout["lines"].as_array().map(Vec::as_slice).unwrap_or_default().iter().zip(1..);
        let goods =
            goods.filter(|(line, _)| line["charge"] != true).filter_map(|(line, number)| Some((number, line["quantity"].as_i64()?)));
        Ok(Some(Bought { order_id: text(&checkout, "order_id")?, lines: goods.collect(), name, place }))
    }

    /// One or two of something that is for sale, at the price that the page shows.
    async fn choose(&self) -> Result<Option<Value>, String> {
        let list = self.page("GET", &format!("/products?currency={CURRENCY}&limit=100"), &[], &Value::Null).await?;
        let list = list["data"].as_array().map(Vec::as_slice).unwrap_or_default();
        let Some(product) = list.get(self.below(list.len().max(1))) else { return Ok(None) };
        let product_id = text(product, "product_id")?;
        let product = self.page("GET", &format!("/products/{product_id}?currency={CURRENCY}"), &[], &Value::Null).await?;
        let variants = product["variants"].as_array().map(Vec::as_slice).unwrap_or_default();
        let sold: Vec<&Value> = variants.iter().filter(|variant| variant["unit_price"].is_string()).collect();
        let Some(variant) = sold.get(self.below(sold.len().max(1))) else { return Ok(None) };
        Ok(Some(json!({ "variant_id": variant["variant_id"], "quantity": 1 + self.below(2), "seen_price": variant["unit_price"] })))
    }

    /// There are fewer than somebody wanted: more of them come in.
    async fn deliver(&self, cart: &Value) -> Result<(), String> {
        let lines = cart["lines"].as_array().map(Vec::as_slice).unwrap_or_default();
        let items = lines.iter().filter_map(|line| self.items.get(line["variant_id"].as_str()?));
        let line = |item| json!({ "item_id": item, "location_id": self.location_id, "kind": "received", "quantity": DELIVERY });
        let lines: Vec<Value> = items.map(line).collect();
        if lines.is_empty() {
            return Ok(());
        }
        let body = json!({ "reference": "delivery", "lines": lines });
        self.shopper.post("/api/v1/inventory/movements", &self.shopper.random_key(), &body).await.map(drop)
    }

    /// An order goes out, and arrives.
    async fn ship(&self, bought: &Bought) -> Result<(), String> {
        let (country, _, line1, postcode, city) = PLACES[bought.place];
        let entries: Vec<Value> = bought.lines.iter().map(|(line, quantity)| json!({ "line": line, "quantity": quantity })).collect();
        let destination = json!({ "recipient": bought.name, "line1": line1, "postal_code": postcode, "city": city, "country": country });
        let parcel = json!({ "weight_g": 400 * bought.lines.iter().map(|(_, quantity)| quantity).sum::<i64>(), "lines": entries });
        let body = json!({ "order_id": bought.order_id, "destination": destination, "ordered": entries, "parcels": [parcel] });
        let shipment = self.shopper.post("/api/v1/shipping/shipments", &format!("demo-ship-{}", bought.order_id), &body).await?;
        let steps = format!("/api/v1/shipping/shipments/{}/steps", text(&shipment, "shipment_id")?);
        for step in ["pick", "pack", "ship", "deliver"] {
            if step == "deliver" {
                tokio::time::sleep(DAY).await;
            }
            self.shopper.post(&steps, &self.shopper.random_key(), &json!({ "step": step })).await?;
        }
        Ok(())
    }

    /// One of an order's goods was not liked: it comes back, is put on the shelf again, and its price is given back.
    async fn take_back(&self, bought: &Bought) -> Result<(), String> {
        let Some((line, _)) = bought.lines.first() else { return Ok(()) };
        let body = json!({ "lines": [{ "line": line, "quantity": 1 }], "reason": "not the colour of the sea" });
        let asked = self.shopper.post(&format!("/api/v1/orders/{}/returns", bought.order_id), &self.shopper.random_key(), &body).await?;
        let path = format!("/api/v1/returns/{}", text(&asked, "return_id")?);
        for (step, body) in [
            ("steps", json!({ "step": "approve" })),
            ("receive", json!({})),
            ("inspect", json!({ "lines": [{ "line": line, "restock": 1, "write_off": 0 }] })),
            ("refund", json!({})),
        ] {
            self.shopper.post(&format!("{path}/{step}"), &self.shopper.random_key(), &body).await?;
        }
        Ok(())
    }
}

/// The id of what has this name in a list, which is made if there is none.
async fn named(shopper: &Shopper, path: &str, id: &str, new: Value) -> Result<String, String> {
    let list = shopper.send("GET", &format!("{path}?limit=100"), None, Bytes::new()).await?.1;
    let known = list["data"].as_array().and_then(|all| all.iter().find(|one| one["name"] == new["name"]));
    match known {
        Some(known) => text(known, id),
        None => text(&shopper.post(path, &shopper.random_key(), &new).await?, id),
    }
}

/// An item of stock for each variant, and some of each on the shelf: of a few only a few. The items by variant. A start that was broken off
/// is finished by the next one: an item without any level has not been delivered yet.
async fn stock(shopper: &Shopper, location_id: &str) -> Result<HashMap<String, String>, String> {
    let (mut items, mut received) = (HashMap::new(), Vec::new());
    let skus = PRODUCTS.iter().flat_map(|product| product.variants.iter().map(move |(end, ..)| sku(product, end)));
    let skus: Vec<String> = skus.collect();
    for sku in skus {
        let variant = shopper.send("GET", &format!("/api/v1/variants/by-sku?sku={sku}"), None, Bytes::new()).await?.1;
        let variant_id = text(&variant, "variant_id")?;
        let known = shopper.send("GET", &format!("/api/v1/inventory/items?sku={sku}"), None, Bytes::new()).await?.1;
        let item_id = match text(&known["data"][0], "item_id") {
            Ok(item_id) => item_id,
            Err(_) => {
                let new = json!({ "sku": sku, "name": variant["title"], "low_stock_at": 5 });
                text(&shopper.post("/api/v1/inventory/items", &shopper.random_key(), &new).await?, "item_id")?
            }
        };
        let made_of = json!({ "variant_id": variant_id, "components": [{ "item_id": item_id, "quantity": 1 }] });
        shopper.send("PUT", "/api/v1/inventory/components", None, Bytes::from(made_of.to_string())).await?;
        let levels = shopper.send("GET", &format!("/api/v1/inventory/items/{item_id}/levels"), None, Bytes::new()).await?.1;
        if levels["data"].as_array().is_none_or(Vec::is_empty) {
            let quantity = 3 + shopper.rng.below(DELIVERY as u64);
            received.push(json!({ "item_id": item_id, "location_id": location_id, "kind": "received", "quantity": quantity }));
        }
        items.insert(variant_id, item_id);
    }
    if !received.is_empty() {
        let body = json!({ "reference": "first delivery", "lines": received });
        shopper.post("/api/v1/inventory/movements", &shopper.random_key(), &body).await?;
    }
    Ok(items)
}

/// One zone, and two ways to get there.
async fn shipping(shopper: &Shopper) -> Result<(), String> {
    let areas: Vec<Value> = PLACES.iter().map(|place| json!({ "country": place.0 })).collect();
    let zone = named(shopper, "/api/v1/shipping/zones", "zone_id", json!({ "name": "Europe", "areas": areas })).await?;
    for (name, days, price_minor, free_from) in [("Standard", (2, 4), 490, Some(7_500)), ("Express", (1, 1), 1_290, None)] {
        let method = json!({ "name": name, "min_days": days.0, "max_days": days.1 });
        let method = named(shopper, "/api/v1/shipping/methods", "method_id", method).await?;
        let mut rate = json!({ "basis": "price", "tiers": [{ "price_minor": price_minor }] });
        if let Some(free_from) = free_from {
            rate["free_from_minor"] = json!(free_from);
        }
        let path = format!("/api/v1/shipping/methods/{method}/rates/{zone}/{CURRENCY}");
        shopper.send("PUT", &path, None, Bytes::from(rate.to_string())).await?;
    }
    Ok(())
}

/// The standard rate of each country that is shipped to; prices have it in them.
async fn taxes(shopper: &Shopper) -> Result<(), String> {
    for (country, percent, ..) in PLACES {
        let rates = json!({ "periods": [{ "effective_from": "0000-01-01", "rates": { "standard": percent } }] });
        shopper.send("PUT", &format!("/api/v1/pricing/tax/rates/{country}"), None, Bytes::from(rates.to_string())).await?;
    }
    let (origin, others) = (PLACES[0].0, &PLACES[1..]);
    let registrations: Vec<Value> = others.iter().map(|place| json!({ "country": place.0 })).collect();
    let settings = json!({ "origin_country": origin, "registrations": registrations });
    shopper.send("PUT", "/api/v1/pricing/tax/settings", None, Bytes::from(settings.to_string())).await.map(drop)
}
