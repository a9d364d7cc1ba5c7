//! `brandos demo`: serves a made-up brand with its shop. Shoppers buy in it, and partners order, through the HTTP API, so that there is
//! something to see.

use crate::admin::made_password;
use crate::cli;
use crate::config::Config;
use crate::demo_catalog::{COUNTRIES, CURRENCY, DemoProduct, NAME, PRODUCTS, SLUG, sku};
use crate::demo_payments::{self, Checkout, DemoProvider};
use crate::demo_shop::{COUPON, DemoShop};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::Output;
use crate::serve::Running;
use crate::wiring::{self, Node};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use identity::api::{self, ApiKeySpec, By, NewTenant};
use identity::{ApiKeyId, Known, Plan};
use indicatif::ProgressBar;
use kernel::{Rng, UnitPrice};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The example of a shop's page, which asks the storefront as any page does.
const SHOP: &[web::Page] = &[
    web::Page { path: "/shop/", content_type: "text/html; charset=utf-8", text: include_str!("../../docs/examples/shop/index.html") },
    web::Page {
        path: "/shop/shop.js",
        content_type: "text/javascript; charset=utf-8",
        text: include_str!("../../docs/examples/shop/shop.js"),
    },
    web::Page { path: "/shop/shop.css", content_type: "text/css; charset=utf-8", text: include_str!("../../docs/examples/shop/shop.css") },
];
/// The demo's user.
const EMAIL: &str = "owner@heron-kettle.example";
/// The file in the data folder that holds the id of the key of the last start, so that the next one can end it.
const LAST_KEY: &str = "demo-key-id";
/// Names of customers, who are as invented as the brand.
const CUSTOMERS: &[&str] = &[
    "Ada Lindqvist",
    "Bruno Castellani",
    "Chiara Moretti",
    "Dirk van Leeuwen",
    "Elin Söderberg",
    "Farid Haddad",
    "Greta Baumann",
    "Hugo Lefèvre",
    "Ines Carvalho",
    "Jonas Eichinger",
    "Katja Nowak",
    "Liam O'Rourke",
    "Maren Thygesen",
    "Nils Aaltonen",
    "Olivia Dupont",
    "Pavel Dvořák",
];
/// Value-added tax of the demo's orders, in percent. Tax rules come with selling; here it is given, as any caller gives it.
const TAX_PERCENT: i64 = 19;
/// An answer larger than this is none of ours.
const MAX_ANSWER: usize = 1 << 20;

/// Serves the demo until it is told to stop.
pub(crate) async fn demo(mut config: Config, demo: &cli::Demo, out: Output) -> Outcome<Exit> {
    if !(demo.rate > 0.0 && demo.rate <= 1000.0) {
        return Err(Failure::usage("--rate must be above 0 and at most 1000 orders a second"));
    }
    if config.web.tls_cert.is_some() {
        return Err(Failure::usage("the demo serves plain HTTP; `brandos serve` takes web.tls_cert"));
    }
    // Without a folder of one's own the demo's data goes with the process.
    let temporary = if config.is_default("data") && config.database.is_empty() { Some(TemporaryFolder::make()?) } else { None };
    if let Some(folder) = &temporary {
        config.data.clone_from(&folder.0);
    }
    let listening = demo_payments::listen().await?;
    config.payments.base_urls.push(listening.1.clone());
    let running = Running::start(config, "demo", SHOP).await?;
    let url = running.url();
    let (provider, serving) = DemoProvider::serve(listening, &running.node)?;
    let keys = prepare(&running.node, &url, &provider.url, out).await?;

    let bar = out.progress(0, "{spinner} {msg}");
    bar.enable_steady_tick(Duration::from_millis(200));
    let client = Client::builder(TokioExecutor::new()).build_http();
    let shopper = Arc::new(Shopper { client, url, key: keys.secret, rng: running.node.rng.clone() });
    let shopping = tokio::spawn(run(shopper, keys.publishable, demo.rate, provider, bar.clone()));
    let ended = running.run(out).await;
    shopping.abort();
    serving.stop().await;
    bar.finish_and_clear();
    ended
}

/// A folder that is removed when the demo ends.
struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    fn make() -> Outcome<TemporaryFolder> {
        let path = std::env::temp_dir().join(format!("brandos-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|e| Failure::file("cannot make", &path, &e))?;
        Ok(TemporaryFolder(path))
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, path = %self.0.display(), "the demo's folder could not be removed");
        }
    }
}

/// What opens the demo: for its people, and for its page.
struct Keys {
    secret: String,
    publishable: String,
}

/// Makes tenant, user and API keys, and says how to use them.
async fn prepare(node: &Node, url: &str, provider_url: &str, out: Output) -> Outcome<Keys> {
    let known: Arc<Known> = Arc::new(wiring::known());
    let tenant = NewTenant { slug: SLUG.to_owned(), name: NAME.to_owned(), plan: Plan::Premium };
    let (tenant, _) = api::ensure_tenant(&node.store, By::SYSTEM, tenant).await?;
    let password = made_password(&*node.rng);
    let (user, made) = api::ensure_user(&node.store, By::SYSTEM, &node.rng, EMAIL, "Demo Owner", password.clone()).await?;
    api::put_member(&node.store, By::SYSTEM, &known, tenant, user, "owner").await?;

    // A key's text is stored nowhere, so each start has a new one, and ends the one before.
    let noted = node.config.data.join(LAST_KEY);
    if let Some(id) = std::fs::read_to_string(&noted).ok().and_then(|id| id.trim().parse::<ApiKeyId>().ok()) {
        match api::revoke_api_key(&node.store, By::SYSTEM, &known, tenant, id).await {
            Err(error) if error.kind() != kernel::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    let permissions = known.tenant().iter().map(|p| (*p).to_owned()).collect();
    let spec = ApiKeySpec { name: "demo".to_owned(), permissions, expires_at: None };
    let (id, key) = api::create_api_key(&node.store, By::SYSTEM, &*node.rng, &known, tenant, spec).await?;
    let known_keys = api::list_api_keys(&node.store, &known, tenant, i64::MAX, 100).await?;
    let publishable = match known_keys.into_iter().find(|key| key.publishable && key.revoked_at.is_none()) {
        Some(key) => key.prefix,
        None => api::create_publishable_key(&node.store, By::SYSTEM, tenant, "demo".to_owned(), Vec::new()).await?.1,
    };
    if node.config.database.is_empty() {
        std::fs::write(&noted, id.to_string()).map_err(|e| Failure::file("cannot write", &noted, &e))?;
    }

    out.line(format!("{NAME}, the demo's brand, is open: {url}/docs"));
    out.line(format!("  shop      {url}/shop/?key={publishable}  (coupon {COUPON})"));
    out.line(format!("  data      {}", node.config.data.display()));
    out.line(format!("  provider  {provider_url}, a payment provider of our own"));
    out.line(format!("  user      {EMAIL}{}", if made { format!(", password {password}") } else { String::new() }));
    out.line(format!("  API key   {key}"));
    out.line("Try:");
    out.line(format!("  curl -H 'Authorization: Bearer {key}' '{url}/api/v1/orders?limit=3'"));
    out.line(format!("  curl -H 'Authorization: Bearer {key}' '{url}/api/v1/payments/intents?limit=3'"));
    let today = node.clock.now().to_string();
    let today = today.get(..10).unwrap_or_default();
    out.line(format!(
        "  curl -H 'Authorization: Bearer {key}' '{url}/api/v1/reports/daily-sales?from={today}&to={today}&group_by=product'"
    ));
    out.line("Stop with Ctrl-C.");
    out.value(&json!({ "event": "serving", "url": url, "docs": format!("{url}/docs"), "tenant": SLUG, "tenant_id": tenant, "user": EMAIL, "password": made.then_some(password), "api_key": key, "publishable_key": publishable, "shop": format!("{url}/shop/?key={publishable}"), "provider_url": provider_url, "pid": std::process::id() }));
    Ok(Keys { secret: key, publishable })
}

/// What an order line is made from.
struct Ware {
    sku: String,
    title: String,
    price: UnitPrice,
}

fn wares() -> Vec<Ware> {
    let of = |product: &DemoProduct, (end, value, price): &(&str, &str, &str)| Ware {
        sku: sku(product, end),
        title: variant_title(product.title, value),
        price: price.parse().expect("a test parses every price"),
    };
    PRODUCTS.iter().flat_map(|product| product.variants.iter().map(move |variant| of(product, variant))).collect()
}

fn variant_title(title: &str, value: &str) -> String {
    if value.is_empty() { title.to_owned() } else { format!("{title}, {value}") }
}

/// Sets the brand up, and lets people come: every other one into the shop, the others as partners who order by the API.
async fn run(shopper: Arc<Shopper>, publishable: String, rate: f64, provider: DemoProvider, bar: ProgressBar) {
    if let Err(why) = shopper.fill_catalog().await {
        tracing::error!(why, "the demo's catalog could not be made");
    }
    let mut checkout = Checkout::open(&shopper, provider).await.unwrap_or_else(|why| {
        tracing::error!(why, "the demo's payment provider could not be set up");
        Checkout::closed()
    });
    let shop = match DemoShop::open(shopper.clone(), publishable).await {
        Ok(shop) => Some(Arc::new(shop)),
        Err(why) => {
            tracing::error!(why, "the demo's shop could not be opened");
            None
        }
    };
    let customers = shopper.make_customers().await.unwrap_or_else(|why| {
        tracing::error!(why, "the demo's customers could not be made");
        Vec::new()
    });
    let wares = wares();
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut placed, mut refused, mut of_the_shop) = (0_u64, 0_u64, false);
    loop {
        ticks.tick().await;
        of_the_shop = !of_the_shop;
        if let Some(shop) = shop.as_ref().filter(|_| of_the_shop) {
            shop.welcome();
        } else {
            match shopper.buy(&wares, &customers).await {
                Ok(order) => {
                    placed += 1;
                    if let Err(why) = checkout.pay(&shopper, &order).await {
                        tracing::warn!(why, "an order of the demo was not paid");
                    }
                }
                Err(why) => {
                    refused += 1;
                    if refused.is_power_of_two() {
                        tracing::warn!(why, refused, "an order of the demo was not placed");
                    }
                }
            }
        }
        let (bought, shipped, returned) = shop.as_ref().map(|shop| shop.so_far()).unwrap_or_default();
        bar.set_message(format!("shop: {bought} orders, {shipped} shipped, {returned} with returns; partners: {placed} orders"));
    }
}

/// The client that fills the catalog and then buys.
pub(crate) struct Shopper {
    client: Client<HttpConnector, Full<Bytes>>,
    pub(crate) url: String,
    key: String,
    pub(crate) rng: Arc<dyn Rng>,
}

impl Shopper {
    /// Every product with its variants and prices. What is there from an earlier start stays.
    async fn fill_catalog(&self) -> Result<(), String> {
        for product in PRODUCTS {
            let variant = |(end, value, price): &(&str, &str, &str)| {
                let options = if value.is_empty() { json!([]) } else { json!([{ "name": product.option, "value": value }]) };
                json!({
                    "sku": sku(product, end),
                    "title": variant_title(product.title, value),
                    "options": options,
                    "prices": [{ "currency": CURRENCY, "price": price }],
                })
            };
            let body = json!({
                "external_id": product.code,
                "title": product.title,
                "description": product.description,
                "status": "active",
                "variants": product.variants.iter().map(variant).collect::<Vec<_>>(),
            });
            self.post("/api/v1/products", &format!("demo-product-{}", product.code), &body).await?;
        }
        Ok(())
    }

    /// The demo's customers, each with its id and country.
    async fn make_customers(&self) -> Result<Vec<(String, &'static str)>, String> {
        let mut customers = Vec::new();
        for (index, name) in CUSTOMERS.iter().enumerate() {
            let country = COUNTRIES[index % COUNTRIES.len()];
            let external_ref = format!("demo-{}", index + 1);
            let email = format!("customer{}@example.com", index + 1);
            let body = json!({ "external_ref": external_ref, "name": name, "email": email, "country": country });
            let mut made = self.post("/api/v1/customers", &format!("demo-customer-{}", index + 1), &body).await?;
            if made.is_null() {
                let found = self.send("GET", &format!("/api/v1/customers?external_ref={external_ref}"), None, Bytes::new()).await?.1;
                made = found["data"][0].clone();
            }
            let id = made["customer_id"].as_str().ok_or_else(|| format!("no customer_id in {made}"))?;
            customers.push((id.to_owned(), country));
        }
        Ok(customers)
    }

    /// Places an order of one to four lines.
    async fn buy(&self, wares: &[Ware], customers: &[(String, &'static str)]) -> Result<Value, String> {
        let below = |bound: usize| self.rng.below(bound as u64) as usize;
        let guest = customers.is_empty() || below(4) == 0;
        let (customer_id, country) = if guest {
            // The smaller of two dice: the first countries come more often.
            (None, COUNTRIES[below(COUNTRIES.len()).min(below(COUNTRIES.len()))])
        } else {
            let (id, country) = &customers[below(customers.len())];
            (Some(id), *country)
        };
        let line = |_| {
            let ware = &wares[below(wares.len())];
            let quantity = 1 + below(3) as i64;
            let net_minor = ware.price.micros() * quantity / 10_000;
            json!({
                "sku": ware.sku, "description": ware.title, "quantity": quantity, "unit_price": ware.price,
                "tax_minor": (net_minor * TAX_PERCENT + 50) / 100,
            })
        };
        let lines: Vec<Value> = (0..1 + below(4)).map(line).collect();
        let body = json!({ "customer_id": customer_id, "country": country, "currency": CURRENCY, "lines": lines });
        self.post("/api/v1/orders", &self.random_key(), &body).await
    }

    /// An idempotency key for something that is done once.
    pub(crate) fn random_key(&self) -> String {
        let mut key = [0; 16];
        self.rng.fill(&mut key);
        format!("demo-{:032x}", u128::from_be_bytes(key))
    }

    /// Posts under an idempotency key. What is there already (409) answers null.
    pub(crate) async fn post(&self, path: &str, key: &str, body: &Value) -> Result<Value, String> {
        match self.send("POST", path, Some(key), Bytes::from(body.to_string())).await? {
            (409, _) => Ok(Value::Null),
            (_, answer) => Ok(answer),
        }
    }

    /// Status and body of a request with the brand's own key. Errors: whatever is neither a success nor 409.
    pub(crate) async fn send(&self, method: &str, path: &str, key: Option<&str>, body: Bytes) -> Result<(u16, Value), String> {
        let keyed = [("idempotency-key", key.unwrap_or_default())];
        let headers = if key.is_some() { &keyed[..] } else { &[] };
        match self.ask(&self.key, method, path, headers, body).await? {
            (status @ (200..=299 | 409), answer) => Ok((status, answer)),
            (status, answer) => Err(format!("{method} {path}: {status} {answer}")),
        }
    }

    /// Status and body of a request with any key.
    pub(crate) async fn ask(
        &self,
        bearer: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<(u16, Value), String> {
        let mut request = hyper::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("authorization", format!("Bearer {bearer}"))
            .header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).map_err(|e| e.to_string())?;
        let response = self.client.request(request).await.map_err(|e| e.to_string())?;
        let status = response.status();
        let body = http_body_util::Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|e| e.to_string())?.to_bytes();
        Ok((status.as_u16(), serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }
}

/// A text of an answer.
pub(crate) fn text(value: &Value, name: &str) -> Result<String, String> {
    value[name].as_str().map(str::to_owned).ok_or_else(|| format!("no {name} in {value}"))
}
