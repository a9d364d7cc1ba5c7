//! A flash sale: far more shoppers than there are units press "buy" at the same moment, the payment provider declines, is silent, and tells
//! things twice and in the wrong order, and the server is killed again and again. In the end exactly what there was is sold, every order is
//! paid once and then shipped or given back, nothing stays reserved, and stock, orders, payments, the provider's books and ours agree: by
//! `brandos audit`, and by a recount of what the API and the provider show.
//!
//! Small unless `BRANDOS_FLASH_BUYERS`, `BRANDOS_FLASH_UNITS` and `BRANDOS_FLASH_SEEDS` say otherwise, such as 10000, 1000 and 100.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::wire::Wire;
use common::{Sandbox, Server, address};
use kernel::{Rng as _, SeededRng};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// A tenth is declined, a twentieth of all that is asked is never answered, and half of the callbacks come twice or after later ones.
const RATES: &str =
    "soft_decline=0.05,hard_decline=0.05,timeout_before=0.025,timeout_after=0.025,callback_twice=0.25,callback_out_of_order=0.25";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const KILLS: u64 = 3;
/// A killed process holds its sagas for half a minute; then they are asked about.
const PATIENCE: Duration = Duration::from_secs(480);
/// Who packs what was sold.
const PACKERS: usize = 16;

fn number(name: &str, usual: i64) -> i64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// What is sold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goods {
    /// One variant, paid for at once.
    One,
    /// A cup, and a set of two of these cups with a pot; paid for as they are shipped.
    CupAndSet,
}

/// A variant for sale, what it is made of, and what it costs.
struct Offer {
    variant: String,
    /// How many of each of the shop's items.
    takes: Vec<i64>,
    price_minor: i64,
}

/// A shop with something that is wanted by more than there is.
struct Shop {
    goods: Goods,
    seed: u64,
    url: String,
    secret: String,
    publishable: String,
    offers: Vec<Offer>,
    /// The items by what is put on the shelf; the first is the one that everybody is after.
    items: Vec<(String, i64)>,
    /// How many of it were sold, by what shoppers were told.
    sold: AtomicI64,
    /// How many checkouts have come to nothing.
    failed: AtomicI64,
}

/// What becomes of an order after the sale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    Shipped,
    CalledOff,
}

fn options() -> [&'static str; 11] {
    // Every shopper is a connection from this machine.
    [
        "serve",
        "--set",
        "payments.base_urls=http://127.0.0.1",
        "--set",
        "payments.call_timeout_ms=400",
        "--set",
        "limits.rules=off",
        "--set",
        "web.concurrency=16384",
        "--set",
        "web.connections=20000",
    ]
}

/// The shop's secret and its publishable key.
fn keys(sandbox: &Sandbox) -> (String, String) {
    sandbox.run(&["tenant", "create", "drop"]).expect(0);
    let key = |more: &[&str]| {
        let arguments = [&["api-key", "create", "--tenant", "drop", "--json"], more].concat();
        sandbox.run(&arguments).expect(0).json()["key"].as_str().unwrap().to_owned()
    };
    (key(&[]), key(&["--publishable"]))
}

impl Shop {
    /// Fills it by its secret key, and gives the id of its payment provider, which is expected at this address.
    fn open(
        server: &Server,
        (secret, publishable): (String, String),
        goods: Goods,
        units: i64,
        seed: u64,
        provider: &str,
    ) -> (Shop, String) {
        let ask = |method: &str, path: &str, body: Value| -> Value {
            let (status, answer) = server.request(method, &format!("/api/v1/{path}"), Some(&secret), &body.to_string());
            assert!((200..300).contains(&status), "{path}: {answer}");
            serde_json::from_str(&answer).unwrap()
        };
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let place = ask("POST", "inventory/locations", json!({ "kind": "warehouse", "name": "North" }))["location_id"].clone();
        let item = |sku: &str| {
            let item = ask("POST", "inventory/items", json!({ "sku": sku, "name": sku }))["item_id"].clone();
            let line = json!({ "kind": "received", "item_id": item, "location_id": place, "quantity": units });
            ask("POST", "inventory/movements", json!({ "lines": [line] }));
            (text(&item), units)
        };
        let items = [item("CUP"), item("POT")];
        let offer = |sku: &str, price: &str, price_minor: i64, takes: &[i64]| {
            let variant = json!({ "sku": sku, "title": sku, "prices": [{ "currency": "EUR", "price": price }] });
            let product = ask("POST", "products", json!({ "title": sku, "status": "active", "variants": [variant] }));
            let variant = text(&product["variants"][0]["variant_id"]);
            let parts =
                items.iter().zip(takes).filter(|(_, of)| **of > 0).map(|((item, _), of)| json!({ "item_id": item, "quantity": of }));
            ask("PUT", "inventory/components", json!({ "variant_id": variant, "components": parts.collect::<Vec<Value>>() }));
            Offer { variant, takes: takes.to_vec(), price_minor }
        };
        let mut offers = vec![offer("CUP-1", "12.34", 1_234, &[1, 0])];
        if goods == Goods::CupAndSet {
            offers.push(offer("SET-2", "39.95", 3_995, &[2, 1]));
        }
        let capture = if goods == Goods::One { "automatic" } else { "manual" };
        ask("PUT", "checkout-settings", json!({ "capture": capture, "hold_minutes": 15, "shipping_required": false }));
        let provider = json!({
            "name": "Sandbox", "kind": "sandbox", "base_url": provider, "api_key": "sk_sandbox", "webhook_secrets": [SECRET],
        });
        let provider = text(&ask("POST", "payments/providers", provider)["provider_id"]);
        let url = format!("{}/api/v1", server.serving["url"].as_str().unwrap());
        (
            Shop {
                goods,
                seed,
                url,
                secret,
                publishable,
                offers,
                items: items.to_vec(),
                sold: AtomicI64::new(0),
                failed: AtomicI64::new(0),
            },
            provider,
        )
    }

    fn units(&self) -> i64 {
        self.items[0].1
    }

    /// The offer of a checkout's first line.
    fn offer(&self, checkout: &Value) -> &Offer {
        let variant = checkout["lines"][0]["variant_id"].as_str();
        self.offers.iter().find(|offer| variant == Some(&offer.variant)).unwrap()
    }

    /// Goes on until the shopper has one, or none is left for anybody: what is reserved may be free again. Gives the order.
    async fn buy(&self, wire: &Wire, shopper: usize) -> Option<String> {
        let rng = SeededRng::new(self.seed << 32 | shopper as u64);
        let offer = &self.offers[shopper % self.offers.len()];
        let body = json!({
            "lines": [{ "variant_id": offer.variant, "quantity": 1 }], "currency": "EUR", "email": format!("{shopper}@example.com"),
            "destination": { "country": "NL" }, "expected_total_minor": offer.price_minor, "payment_token": "tok_random", "wait_ms": 5_000,
        });
        let (mut attempt, mut pause_ms) = (0, 500);
        loop {
            let key = format!("{}-{shopper}-{attempt}", self.seed);
            let headers = [("idempotency-key", key.as_str())];
            let press = || wire.send("POST", "storefront/checkouts", &headers, &body);
            let (status, answer) = if rng.below(10) == 0 {
                // Presses twice: whichever was taken in, there is one checkout.
                let (first, second) = tokio::join!(press(), press());
                let both = (first.0, second.0) == (201, 201);
                assert!(!both || first.1["checkout_id"] == second.1["checkout_id"], "{} and {}", first.1, second.1);
                if first.0 == 201 { first } else { second }
            } else {
                press().await
            };
            match (status, answer["code"].as_str()) {
                (201, _) => {}
                (409, Some("inventory.insufficient")) => {
                    if self.sold.load(Relaxed) + offer.takes[0] > self.units() {
                        return None;
                    }
                    tokio::time::sleep(Duration::from_millis(pause_ms / 2 + rng.below(pause_ms))).await;
                    pause_ms = (pause_ms * 2).min(8_000);
                    continue;
                }
                _ => panic!("shopper {shopper}: {status} {answer}"),
            }
            let over = self.over(wire, answer).await;
            if over["state"] == "completed" {
                self.sold.fetch_add(offer.takes[0], Relaxed);
                return over["order_id"].as_str().map(str::to_owned);
            }
            assert_eq!(over["state"], "failed", "{over}");
            self.failed.fetch_add(1, Relaxed);
            (attempt, pause_ms) = (attempt + 1, 500);
        }
    }

    /// The checkout as it has ended.
    async fn over(&self, wire: &Wire, begun: Value) -> Value {
        let path = format!("storefront/checkouts/{}", begun["checkout_id"].as_str().unwrap());
        let token = begun["token"].as_str().unwrap().to_owned();
        let mut now = begun;
        while now["state"] == "paying" {
            tokio::time::sleep(Duration::from_millis(700)).await;
            let (status, seen) = wire.send("GET", &path, &[("checkout-token", &token)], &Value::Null).await;
            assert_eq!(status, 200, "{seen}");
            now = seen;
        }
        now
    }

    /// Ships an order, or calls it off. Whatever is lost on the way is sent again.
    async fn settle(&self, staff: &Wire, order_id: &str, fate: Fate) {
        if fate == Fate::CalledOff {
            staff.done("POST", &format!("orders/{order_id}/cancel"), &format!("{order_id}-cancel"), &Value::Null, 200).await;
            return;
        }
        let destination = json!({ "recipient": "Ada", "line1": "Kade 1", "city": "Utrecht", "postal_code": "3511 AA", "country": "NL" });
        let parcel = json!({ "weight_g": 500, "lines": [{ "line": 1, "quantity": 1 }] });
        let shipment = json!({ "order_id": order_id, "destination": destination, "parcels": [parcel] });
        let made = staff.done("POST", "shipping/shipments", &format!("{order_id}-shipment"), &shipment, 201).await;
        for step in ["pick", "pack", "ship"] {
            let path = format!("shipping/shipments/{}/steps", made["shipment_id"].as_str().unwrap());
            staff.done("POST", &path, &format!("{order_id}-{step}"), &json!({ "step": step }), 200).await;
        }
    }

    /// Everything that contradicts anything else, by what the API and the provider show of it. Nothing, once all has come to rest.
    async fn contradictions(&self, staff: &Wire, provider: &Value, sales: &BTreeMap<String, Fate>) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut expect = |what: String, found: Value, expected: Value| {
            if found != expected {
                wrong.push(format!("{what}: {found} instead of {expected}"));
            }
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let minor = |value: &Value| value.as_i64().unwrap();
        let by = |rows: Vec<Value>, id: &str| -> BTreeMap<String, Value> { rows.into_iter().map(|row| (text(&row[id]), row)).collect() };
        let checkouts = staff.list("checkouts").await;
        let orders = by(staff.list("orders").await, "order_id");
        let payments = by(staff.list("payments/intents").await, "intent_id");
        let reservations = by(staff.list("inventory/reservations").await, "reference");
        let paid_at_once = self.goods == Goods::One;

        // Those who were told that they have bought have an order, and nobody else has.
        let told: BTreeSet<&String> = sales.keys().collect();
        let completed: Vec<&Value> = checkouts.iter().filter(|checkout| checkout["state"] == "completed").collect();
        let became: BTreeSet<String> = completed.iter().map(|checkout| text(&checkout["order_id"])).collect();
        expect("checkouts that became orders".into(), json!(became), json!(told));
        expect("orders".into(), json!(orders.keys().collect::<Vec<_>>()), json!(told));
        expect("payments".into(), json!(payments.len()), json!(checkouts.len()));
        expect("reservations".into(), json!(reservations.len()), json!(checkouts.len()));

        // Each checkout with its order, its stock and its payment.
        let mut kept_minor = 0;
        for checkout in &checkouts {
            let (id, total_minor) = (text(&checkout["checkout_id"]), minor(&checkout["total_minor"]));
            let order_id = text(&checkout["order_id"]);
            let (ended, order, stock, taken, back) = match sales.get(&order_id) {
                None => ("failed", "none", "released", 0, 0),
                Some(Fate::Kept) => ("completed", "placed", "confirmed", if paid_at_once { total_minor } else { 0 }, 0),
                Some(Fate::Shipped) => ("completed", "fulfilled", "shipped", total_minor, 0),
                Some(Fate::CalledOff) if paid_at_once => ("completed", "cancelled", "released", total_minor, total_minor),
                Some(Fate::CalledOff) => ("completed", "cancelled", "released", 0, 0),
            };
            let payment = &payments[checkout["payment"]["intent_id"].as_str().unwrap()];
            let (mut captured, refunded) = (minor(&payment["captured_minor"]), minor(&payment["refunded_minor"]));
            if ended == "failed" && captured == refunded {
                // Taken before it was known that nothing came of it.
                captured = taken + back;
            }
            let under_way = minor(&payment["capturing_minor"]) + minor(&payment["refunding_minor"]);
            let state = |row: Option<&Value>| row.map_or(json!("none"), |row| row["state"].clone());
            let found =
                json!([checkout["state"], state(orders.get(&order_id)), state(reservations.get(&id)), captured, refunded, under_way]);
            expect(format!("{id} (order, stock, taken, given back, under way)"), found, json!([ended, order, stock, taken, back, 0]));
            kept_minor += taken - back;
        }

        // What was sold is what there was; the shelves, and the ledger of stock.
        let of = |at: usize, fates: &[Fate]| -> i64 {
            let fits = |checkout: &&&Value| sales.get(&text(&checkout["order_id"])).is_some_and(|fate| fates.contains(fate));
            completed.iter().filter(fits).map(|checkout| self.offer(checkout).takes[at]).sum()
        };
        expect("units sold".into(), json!(of(0, &[Fate::Kept, Fate::Shipped, Fate::CalledOff])), json!(self.units()));
        for (at, (item, received)) in self.items.iter().enumerate() {
            let levels = staff.get(&format!("inventory/items/{item}/levels")).await;
            let found: Vec<Value> =
                levels["data"].as_array().unwrap().iter().map(|level| json!([level["on_hand"], level["reserved"]])).collect();
            let on_hand = received - of(at, &[Fate::Shipped]);
            expect(format!("on hand and reserved of {item}"), json!(found), json!([[on_hand, of(at, &[Fate::Kept])]]));
            let movements = staff.list(&format!("inventory/items/{item}/movements")).await;
            let sum: i64 = movements.iter().map(|movement| minor(&movement["on_hand"])).sum();
            expect(format!("sum of the ledger of {item}"), json!(sum), json!(on_hand));
        }

        // The provider's books: what we know of, nothing else, and nothing set aside that nobody will take.
        let set_aside = !paid_at_once && sales.values().any(|fate| *fate == Fate::Kept);
        let mut theirs: BTreeMap<String, (i64, i64)> = BTreeMap::new();
        let mut fees_minor = 0;
        for charge in provider["charges"].as_array().unwrap() {
            if !set_aside && charge["status"] == "authorized" {
                expect(text(&charge["id"]), charge["status"].clone(), json!("over"));
            }
            fees_minor += charge["captures"].as_array().unwrap().iter().map(|capture| minor(&capture["fee_minor"])).sum::<i64>();
            let sums = theirs.entry(charge["reference"].as_str().unwrap().split('-').next().unwrap().to_owned()).or_default();
            *sums = (sums.0 + minor(&charge["captured_minor"]), sums.1 + minor(&charge["refunded_minor"]));
        }
        for (intent, payment) in &payments {
            let ours = json!([payment["captured_minor"], payment["refunded_minor"]]);
            expect(format!("{intent} in the provider's books"), json!(theirs.remove(intent).unwrap_or_default()), ours);
        }
        expect("charges that we do not know".into(), json!(theirs), json!({}));

        // Our books.
        let mut books: BTreeMap<String, i64> = BTreeMap::new();
        for account in staff.list("ledger/accounts").await {
            let balance = staff.get(&format!("ledger/accounts/{}/balance", text(&account["account_id"]))).await;
            let part = text(&account["code"]).split(':').nth(1).unwrap_or_default().to_owned();
            let held = minor(&balance["pending_in_minor"]) + minor(&balance["pending_out_minor"]);
            if !set_aside {
                expect(format!("held in {part}"), json!(held), json!(0));
            }
            *books.entry(part).or_default() += minor(&balance["posted_minor"]);
        }
        let expected = json!({ "clearing": kept_minor, "fees": fees_minor, "receivable": kept_minor - fees_minor });
        expect("our books".into(), json!(books), expected);
        expect("tasks for people".into(), staff.get("payments/tasks").await["data"].clone(), json!([]));
        wrong
    }
}

/// Waits until nothing contradicts anything any more.
async fn agrees(shop: &Shop, staff: &Wire, provider: &Wire, sales: &BTreeMap<String, Fate>) {
    let begun = Instant::now();
    loop {
        let books = provider.get("books").await;
        assert_eq!(books["dropped_callbacks"], 0);
        let wrong = shop.contradictions(staff, &books, sales).await;
        if wrong.is_empty() {
            return;
        }
        let few = || wrong.iter().take(10).map(String::as_str).collect::<Vec<_>>().join("\n");
        assert!(begun.elapsed() < PATIENCE, "{} contradictions:\n{}", wrong.len(), few());
        tokio::time::sleep(Duration::from_millis(1_000)).await;
    }
}

fn sale(sandbox: &Sandbox, goods: Goods, seed: u64) {
    let (buyers, units) = (number("BRANDOS_FLASH_BUYERS", 300) as usize, number("BRANDOS_FLASH_UNITS", 30));
    let rng = SeededRng::new(seed);
    let (front, back) = (address(), address());
    let keys = keys(sandbox);
    let mut server = sandbox.serve_at(&front, &options());
    let (shop, provider_id) = Shop::open(&server, keys, goods, units, seed, &format!("http://{back}"));
    let hook = format!("{}/tenants/drop/payments/callbacks/{provider_id}", shop.url);
    let provider = Sandbox::new();
    let psp = provider.serve_at(
        &back,
        &[
            "sandbox-psp",
            "--seed",
            &seed.to_string(),
            "--rates",
            RATES,
            "--hang-ms",
            "700",
            "--late-ms",
            "600",
            "--callback",
            &hook,
            "--callback-secret",
            SECRET,
        ],
    );
    let books = Wire::new(psp.serving["url"].as_str().unwrap(), "sk_sandbox");
    let (staff, crowd) = (Arc::new(Wire::new(&shop.url, &shop.secret)), Arc::new(Wire::new(&shop.url, &shop.publishable)));
    let shop = Arc::new(shop);
    let runtime = Runtime::new().unwrap();
    let begun = Instant::now();

    // The sale, and three kills at moments of its own choice: how much is sold then, or at the latest some seconds later.
    let mut shoppers = JoinSet::new();
    for shopper in 0..buyers {
        let (shop, crowd) = (shop.clone(), crowd.clone());
        shoppers.spawn_on(async move { shop.buy(&crowd, shopper).await }, runtime.handle());
    }
    for kill in 1..=KILLS {
        let moment = rng.below((units as u64 * kill / KILLS).max(1)) as i64;
        let latest = Instant::now() + Duration::from_millis(300 + rng.below(4_000));
        while shop.sold.load(Relaxed) < moment && Instant::now() < latest {
            std::thread::sleep(Duration::from_millis(2));
        }
        server.signal("KILL");
        drop(server);
        server = sandbox.serve_at(&front, &options());
    }
    let bought = runtime.block_on(async {
        if let Ok(all) = tokio::time::timeout(PATIENCE, shoppers.join_all()).await {
            return all;
        }
        let undecided: Vec<Value> =
            staff.list("checkouts").await.into_iter().filter(|checkout| checkout["state"] == "paying").take(5).collect();
        panic!("only {} of {units} are sold after {PATIENCE:?}; undecided: {undecided:#?}", shop.sold.load(Relaxed));
    });
    let sold_in = begun.elapsed();
    assert_eq!(shop.sold.load(Relaxed), units, "what shoppers were told that they have");
    let mut sales: BTreeMap<String, Fate> = bought.into_iter().flatten().map(|order_id| (order_id, Fate::Kept)).collect();
    runtime.block_on(agrees(&shop, &staff, &books, &sales));

    // Two of three are shipped, the third is called off, and the server is killed once more.
    for (at, fate) in sales.values_mut().enumerate() {
        *fate = if at % 3 == 2 { Fate::CalledOff } else { Fate::Shipped };
    }
    let mut packers = JoinSet::new();
    for packer in 0..PACKERS {
        let mine: Vec<(String, Fate)> = sales.iter().skip(packer).step_by(PACKERS).map(|(id, fate)| (id.clone(), *fate)).collect();
        let (shop, staff) = (shop.clone(), staff.clone());
        let packing = async move {
            for (order_id, fate) in mine {
                shop.settle(&staff, &order_id, fate).await;
            }
        };
        packers.spawn_on(packing, runtime.handle());
    }
    std::thread::sleep(Duration::from_millis(rng.below(400)));
    server.signal("KILL");
    drop(server);
    server = sandbox.serve_at(&front, &options());
    runtime.block_on(packers.join_all());
    runtime.block_on(agrees(&shop, &staff, &books, &sales));

    let _ = writeln!(
        std::io::stderr().lock(),
        "{} {goods:?} seed {seed}: {buyers} shoppers, {units} units sold in {sold_in:?}, at rest after {:?}; {} checkouts failed, {} answers lost, {} times busy",
        sandbox.engine(),
        begun.elapsed(),
        shop.failed.load(Relaxed),
        crowd.lost.load(Relaxed) + staff.lost.load(Relaxed),
        crowd.busy.load(Relaxed) + staff.busy.load(Relaxed),
    );
    assert!(crowd.lost.load(Relaxed) > 0, "nobody has noticed the kills");
    drop((crowd, staff, books));
    assert_eq!(server.stop(), Some(0), "a graceful end");
    assert_eq!(psp.stop(), Some(0));
    let audit = sandbox.run(&["audit", "--json"]).expect(0).json();
    assert_eq!(audit["ok"], true, "{audit}");
}

fn seeds() -> impl Iterator<Item = u64> {
    1..=number("BRANDOS_FLASH_SEEDS", 1) as u64
}

#[test]
fn one_variant_is_sold_out_exactly_on_sqlite() {
    seeds().for_each(|seed| sale(&Sandbox::new(), Goods::One, seed));
}

#[test]
fn one_variant_is_sold_out_exactly_on_postgres() {
    seeds().for_each(|seed| Sandbox::on_postgres().iter().for_each(|sandbox| sale(sandbox, Goods::One, seed)));
}

#[test]
fn a_bundle_and_its_part_are_sold_out_exactly_on_sqlite() {
    seeds().for_each(|seed| sale(&Sandbox::new(), Goods::CupAndSet, seed));
}

#[test]
fn a_bundle_and_its_part_are_sold_out_exactly_on_postgres() {
    seeds().for_each(|seed| Sandbox::on_postgres().iter().for_each(|sandbox| sale(sandbox, Goods::CupAndSet, seed)));
}
