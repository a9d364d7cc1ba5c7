//! Many tenants under a steady mixed load; and what the benches through the whole HTTP path share: the application in this process, without sockets, and a load that does not wait for answers.

use crate::measure::tell;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use clap::Args;
use futures_util::stream::{self, StreamExt as _};
use hdrhistogram::Histogram;
use http_body_util::BodyExt as _;
use identity::api::{ApiKeySpec, By, NewTenant};
use identity::{Auth, AuthConfig, Known, Plan};
use kernel::{CursorKey, IdGenerator, Rng, SeededRng, SystemClock, SystemRng, TenantId};
use log::{Log, LogConfig};
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use store::{Environment, ShardConfig, Store, StoreConfig};
use tokio::sync::{Semaphore, mpsc};
use web::{Web, WebConfig};

/// The order of three lines that `http` places too.
const ORDER: &str = r#"{"currency":"EUR","country":"NL","lines":[{"sku":"TEA-01","description":"Green tea, 100 g","quantity":2,"unit_price":"4.95","tax_minor":89},{"sku":"TEA-02","description":"White tea, 50 g","quantity":1,"unit_price":"9.5","tax_minor":85},{"sku":"CUP-07","description":"Cup, stoneware","quantity":4,"unit_price":"12.25","tax_minor":1029}]}"#;
/// Tenants and orders that are made at once while the data is prepared.
const AT_ONCE: usize = 128;
/// Two full pages: with fewer members, listing them would be cheaper for ten tenants than for many.
const FEW_MEMBERS: u64 = 100;

// ---- the application ------------------------------------------------------------------------------------------------

/// Where the data is, and the bounds of the server; the defaults are those of `brandos serve`.
#[derive(Args, Clone)]
pub struct Place {
    /// A fresh PostgreSQL database: `postgres://...`. SQLite unless given.
    #[arg(long)]
    postgres: Option<String>,
    /// An empty folder for the SQLite file; a temporary one unless given.
    #[arg(long, conflicts_with = "postgres")]
    folder: Option<PathBuf>,
    /// `web.concurrency`: the most requests in flight.
    #[arg(long, default_value_t = 4096)]
    concurrency: u32,
    /// `store.queue_commands`: the most commands that wait on one lane.
    #[arg(long, default_value_t = 8192)]
    queue_commands: usize,
    /// `store.queue_tenant_commands`: the most commands of one tenant that wait.
    #[arg(long, default_value_t = 4096)]
    queue_tenant_commands: usize,
    /// `store.queue_wait_ms`: the longest expected wait of an accepted command. 0 for `tenants`, whose set-up is a flood itself.
    #[arg(long, default_value_t = 25)]
    queue_wait_ms: u32,
}

/// A tenant of the bench: the credential of its API key, and orders to read.
#[derive(Clone)]
pub struct Tenant {
    id: TenantId,
    pub credential: HeaderValue,
    orders: Vec<String>,
}

impl Tenant {
    /// The path of one of its orders.
    pub fn order(&self) -> &str {
        &self.orders[0]
    }
}

/// An answer that has been read to its end.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// A text field of the body; empty when it has none of that name.
    pub fn text(&self, field: &str) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body[field].as_str().unwrap_or_default().to_owned()
    }
}

/// Everything that `brandos serve` runs but the sockets.
pub struct Application {
    web: Web,
    store: Store,
    log: Log,
    rng: Arc<dyn Rng>,
    known: Arc<Known>,
    next_key: AtomicU64,
    /// Answers that should not have come, by status and code: how many, and the first of them.
    unexpected: Mutex<BTreeMap<(u16, String), (u64, String)>>,
    // Last: removed after everything that uses it.
    _temporary: tempfile::TempDir,
}

impl Application {
    /// Opens the database and starts the consumers, and tells the conditions.
    pub async fn open(place: &Place) -> Arc<Application> {
        Application::open_limited(place, None).await
    }

    /// The same with rate limits.
    pub async fn open_limited(place: &Place, limits: Option<Arc<traffic::Limiter>>) -> Arc<Application> {
        let temporary = tempfile::tempdir().expect("a folder");
        let folder = place.folder.as_deref().unwrap_or(temporary.path());
        let (engine, shard) = match &place.postgres {
            Some(url) => {
                ("PostgreSQL, 4 lanes", ShardConfig::Postgres { url: url.clone(), lanes: 4, prepared: true, replicas: Vec::new() })
            }
            None => ("SQLite, synchronous=FULL", ShardConfig::Sqlite { path: folder.join("bench-http.db") }),
        };
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        tell(&format!(
            "{engine}; the whole HTTP path in process, load generator included, on {cores} cores; at most {} requests in flight, {} commands a lane, {} a tenant, {} ms of wait",
            place.concurrency, place.queue_commands, place.queue_tenant_commands, place.queue_wait_ms
        ));
        let config = StoreConfig {
            shards: vec![shard],
            readers: 4,
            queue_commands: place.queue_commands,
            queue_bytes: 64 * 1024 * 1024,
            queue_tenant_commands: place.queue_tenant_commands,
            queue_wait_ms: place.queue_wait_ms,
        };
        let modules = || vec![identity::module(), catalog::module(), orders::module(), web::events_module()];
        let migrations: Vec<_> = std::iter::once(log::migrations()).chain(modules().into_iter().map(|m| m.migrations)).collect();
        let clock = Arc::new(SystemClock);
        let environment = Environment { clock: clock.clone(), ids: Arc::new(IdGenerator::new(clock, 1)) };
        let store = Store::open(config, &migrations, environment).expect("the store opens");
        let rng: Arc<dyn Rng> = Arc::new(SystemRng::new());
        let consumers = modules().into_iter().flat_map(|m| m.consumers).collect();
        let log = Log::start(store.clone(), consumers, LogConfig::default(), rng.clone()).await.expect("the consumers start");
        let mut registry = Registry::default();
        store.register_metrics(&mut registry);
        log.register(&mut registry);
        let known = || Known::new(modules().iter().flat_map(|m| m.permissions).map(|p| p.name));
        let auth = Auth::start(&store, rng.clone(), known(), AuthConfig::default()).await.expect("the authenticator starts");
        let mut web = web::App::builder(store.clone(), Arc::new(auth.clone()))
            .modules(modules())
            .config(WebConfig { concurrency: place.concurrency, ..WebConfig::default() })
            .rng(rng.clone())
            .cursor_key(CursorKey::new(auth.cursor_secret()))
            .registry(registry)
            .part(auth);
        if let Some(limits) = limits {
            web = web.limits(limits);
        }
        let web = web.build().expect("the modules fit together");
        Arc::new(Application {
            web,
            store,
            log,
            rng,
            known: Arc::new(known()),
            next_key: AtomicU64::new(0),
            unexpected: Mutex::default(),
            _temporary: temporary,
        })
    }

    /// Sends a request and reads the whole answer.
    pub async fn send(&self, request: Request) -> Answer {
        let (parts, body) = self.web.handle(request).await.into_parts();
        let body = body.collect().await.expect("a body that is in memory").to_bytes();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// The lane on which a tenant's orders are placed.
    pub fn lane_of(&self, tenant: &Tenant) -> u16 {
        self.store.lane_of(tenant.id)
    }

    /// Places an order under a key of its own.
    pub async fn place(&self, credential: &HeaderValue) -> Answer {
        // Also unlike the keys of an earlier run on the same data.
        let key = format!("bench-{}-{}", std::process::id(), self.next_key.fetch_add(1, Ordering::Relaxed));
        let request = Request::post("/api/v1/orders")
            .header(AUTHORIZATION, credential)
            .header(CONTENT_TYPE, "application/json")
            .header(CONTENT_LENGTH, ORDER.len())
            .header("idempotency-key", key)
            .body(Body::from(ORDER));
        self.send(request.expect("a valid request")).await
    }

    async fn get(&self, credential: &HeaderValue, path: &str) -> Answer {
        self.send(Request::get(path).header(AUTHORIZATION, credential).body(Body::empty()).expect("a valid request")).await
    }

    /// Makes these tenants with an API key and some orders each. A tenant that is there already gets another key.
    pub async fn tenants(self: &Arc<Self>, numbers: std::ops::Range<u64>, orders: u64) -> Vec<Tenant> {
        let (app, first) = (self.clone(), numbers.start);
        let mut tenants = each("tenants with an API key", numbers.end - first, AT_ONCE, move |n| {
            let app = app.clone();
            async move { app.tenant(first + n).await }
        })
        .await;
        if orders == 0 {
            return tenants;
        }
        let (app, credentials) = (self.clone(), tenants.iter().map(|t| t.credential.clone()).collect::<Vec<_>>());
        let placed = each("orders", tenants.len() as u64 * orders, AT_ONCE, move |n| {
            let (app, credential) = (app.clone(), credentials[(n / orders) as usize].clone());
            async move {
                let answer = app.place(&credential).await;
                assert_eq!(answer.status, StatusCode::CREATED, "{}", String::from_utf8_lossy(&answer.body));
                format!("/api/v1/orders/{}", answer.text("order_id"))
            }
        })
        .await;
        for (n, order) in placed.into_iter().enumerate() {
            tenants[n / orders as usize].orders.push(order);
        }
        tenants
    }

    async fn tenant(&self, n: u64) -> Tenant {
        let new = NewTenant { slug: format!("bench-{n}"), name: format!("Bench {n}"), plan: Plan::Free };
        let (id, _) = identity::api::ensure_tenant(&self.store, By::SYSTEM, new).await.expect("a tenant is made");
        let permissions = ["orders.read", "orders.write", "identity.members.read"].map(str::to_owned).to_vec();
        let spec = ApiKeySpec { name: "bench".to_owned(), permissions, expires_at: None };
        let (_, key) = identity::api::create_api_key(&self.store, By::SYSTEM, &*self.rng, &self.known, id, spec).await.expect("a key");
        let credential = HeaderValue::try_from(format!("Bearer {key}")).expect("a key is a header's value");
        Tenant { id, credential, orders: Vec::new() }
    }

    /// Makes these users members of the tenant; the first one owns it.
    async fn members(self: &Arc<Self>, tenant: TenantId, numbers: std::ops::Range<u64>) {
        let (app, hashing, first) = (self.clone(), Arc::new(Semaphore::new(2)), numbers.start);
        each("users as members of one tenant", numbers.end.saturating_sub(first), 16, move |n| {
            let (app, hashing, n) = (app.clone(), hashing.clone(), first + n);
            async move {
                let (email, password) = (format!("user-{n}@bench.example"), format!("not a secret {n}"));
                // Nearly all of the cost is the password's hash, on a blocking thread: one for each of two cores.
                let turn = hashing.acquire().await.expect("it is not closed");
                let made = identity::api::ensure_user(&app.store, By::SYSTEM, &app.rng, &email, &format!("User {n}"), password).await;
                drop(turn);
                let (user, _) = made.expect("a user is made");
                let role = if n == 0 { "owner" } else { "staff" };
                identity::api::put_member(&app.store, By::SYSTEM, &app.known, tenant, user, role).await.expect("a member is made");
            }
        })
        .await;
    }

    /// The path of every page of the tenant's list of members.
    async fn pages_of_members(&self, tenant: &Tenant) -> Vec<String> {
        let first = "/api/v1/members?limit=50".to_owned();
        let mut pages = vec![first.clone()];
        loop {
            let answer = self.get(&tenant.credential, &pages[pages.len() - 1]).await;
            assert_eq!(answer.status, StatusCode::OK, "{}", String::from_utf8_lossy(&answer.body));
            match answer.text("next_cursor") {
                cursor if cursor.is_empty() => return pages,
                cursor => pages.push(format!("{first}&cursor={cursor}")),
            }
        }
    }

    /// Counts an answer that should not have come, for [`Application::told`].
    pub fn unexpected(&self, answer: &Answer) {
        let mut unexpected = self.unexpected.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = (answer.status.as_u16(), answer.text("code"));
        let (count, _) = unexpected.entry(kind).or_insert_with(|| (0, String::from_utf8_lossy(&answer.body).into_owned()));
        *count += 1;
    }

    /// Tells of the answers that should not have come, one of each kind in full, and forgets them.
    pub fn told(&self) {
        let unexpected = std::mem::take(&mut *self.unexpected.lock().unwrap_or_else(PoisonError::into_inner));
        for ((status, _), (count, body)) in unexpected {
            tell(&format!("  unexpected, {count} times: {status} {body}"));
        }
    }

    /// Waits until the consumers have handled everything, so that one measurement doesn't pay for what came before it.
    pub async fn drained(&self) {
        let began = Instant::now();
        self.log.drained().await.expect("the log can be asked");
        if began.elapsed() > Duration::from_secs(1) {
            tell(&format!("  the consumers came to the end of the log after {:.1} s", began.elapsed().as_secs_f64()));
        }
    }

    pub async fn close(&self) {
        self.log.stop().await;
        self.store.close().await;
    }
}

/// Makes `count` things, up to `at_once` at a time, in their order, and tells how far it is at each tenth.
async fn each<T, F, R>(what: &str, count: u64, at_once: usize, make: F) -> Vec<T>
where
    T: Send + 'static,
    F: Fn(u64) -> R,
    R: Future<Output = T> + Send + 'static,
{
    let began = Instant::now();
    let mut made = Vec::with_capacity(count as usize);
    let mut tasks = stream::iter(0..count).map(|n| tokio::spawn(make(n))).buffered(at_once);
    while let Some(one) = tasks.next().await {
        made.push(one.expect("the task does not panic"));
        let done = made.len() as u64;
        if done == count || (count >= 1_000 && done.is_multiple_of(count / 10)) {
            let seconds = began.elapsed().as_secs_f64();
            tell(&format!("  {done} of {count} {what}, {seconds:.1} s, {:.0}/s", done as f64 / seconds));
        }
    }
    made
}

// ---- open-loop load -------------------------------------------------------------------------------------------------

/// Latencies in microseconds of the requests that ended alike.
pub struct Class {
    /// From the moment at which the request was meant to be sent.
    pub latency: Histogram<u64>,
    /// From the moment at which the application took it up: without the wait for a thread that the generator shares with it.
    pub inside: Histogram<u64>,
}

impl Class {
    fn new() -> Class {
        let empty = || Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are valid");
        Class { latency: empty(), inside: empty() }
    }

    pub fn count(&self) -> u64 {
        self.latency.len()
    }

    pub fn mean_ms(&self) -> f64 {
        self.latency.mean() / 1e3
    }

    pub fn ms(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1e3
    }

    /// One line for the table of results.
    pub fn line(&self, name: &str) -> String {
        format!(
            "  {name:<28} {:>8}   mean {:>8.2}   p50 {:>8.2}   p95 {:>8.2}   p99 {:>8.2}   max {:>8.1} ms   (inside p99 {:.2} ms)",
            self.count(),
            self.mean_ms(),
            self.ms(0.5),
            self.ms(0.95),
            self.ms(0.99),
            self.latency.max() as f64 / 1e3,
            self.inside.value_at_quantile(0.99) as f64 / 1e3
        )
    }

    /// All of them as one.
    pub fn sum<'a>(classes: impl IntoIterator<Item = &'a Class>) -> Class {
        let mut sum = Class::new();
        for class in classes {
            sum.latency.add(&class.latency).expect("equal histograms");
            sum.inside.add(&class.inside).expect("equal histograms");
        }
        sum
    }
}

/// Sends `rate` requests a second for `seconds`, whether or not there are answers, and waits for all of them. `ask(n)` says in which of
/// the `classes` the n-th one ended. A request that is sent late counts from when it was meant to be sent: no coordinated omission.
pub async fn open_loop<F, R>(rate: f64, seconds: f64, classes: usize, ask: F) -> Vec<Class>
where
    F: Fn(u64) -> R + Clone + Send + 'static,
    R: Future<Output = usize> + Send + 'static,
{
    let tally = Arc::new(Mutex::new((0..classes).map(|_| Class::new()).collect::<Vec<_>>()));
    let runtime = tokio::runtime::Handle::current();
    // Each request holds a sender: the channel ends when the last one is answered.
    let (under_way, mut ended) = mpsc::channel::<()>(1);
    let total = (rate * seconds) as u64;
    let counted = tally.clone();
    // A thread of its own, so that it is the operating system that shares the cores between the generator and the application.
    let pacer = std::thread::spawn(move || {
        let begin = Instant::now();
        for n in 0..total {
            let intended = begin + Duration::from_secs_f64(n as f64 / rate);
            let wait = intended.saturating_duration_since(Instant::now());
            if !wait.is_zero() {
                std::thread::sleep(wait);
            }
            let (ask, counted, under_way) = (ask.clone(), counted.clone(), under_way.clone());
            runtime.spawn(async move {
                let begun = Instant::now();
                let class = ask(n).await;
                let (latency, inside) = (micros(intended.elapsed()), micros(begun.elapsed()));
                let mut counted = counted.lock().unwrap_or_else(PoisonError::into_inner);
                counted[class].latency.saturating_record(latency);
                counted[class].inside.saturating_record(inside);
                drop(under_way);
            });
        }
        begin.elapsed().as_secs_f64()
    });
    let _ = ended.recv().await;
    let sent = pacer.join().expect("the pacer does not panic");
    if total > 0 && sent > seconds * 1.05 {
        tell(&format!("  the generator fell behind: {:.0}/s offered instead of {rate:.0}/s", total as f64 / sent));
    }
    let classes = std::mem::take(&mut *tally.lock().unwrap_or_else(PoisonError::into_inner));
    assert_eq!(classes.iter().map(Class::count).sum::<u64>(), total, "every request is counted");
    classes
}

fn micros(time: Duration) -> u64 {
    time.as_micros().max(1) as u64
}

// ---- the bench ------------------------------------------------------------------------------------------------------

/// Options of `tenants`.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    place: Place,
    /// Tenants, each with an API key.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    tenants: u64,
    /// Users who are members of one of them.
    #[arg(long, default_value_t = 10_000)]
    users: u64,
    /// Orders that each tenant has before the load, and that a list of orders shows.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=100))]
    orders: u64,
    /// Requests a second.
    #[arg(long, default_value_t = 400.0)]
    rate: f64,
    /// Seconds of load.
    #[arg(long, default_value_t = 20.0)]
    seconds: f64,
    /// Seconds of the same load before it, which don't count: long enough that each of many tenants has been met, since a steady load is
    /// asked about and not a start.
    #[arg(long, default_value_t = 60.0)]
    warm_up: f64,
    /// Measures with so many tenants first, and then with all, and compares.
    #[arg(long)]
    compare: Option<u64>,
}

const KINDS: [&str; 4] = ["read an order", "place an order", "list orders", "list members"];
/// The class of answers that should not have come.
const UNEXPECTED: usize = KINDS.len();

/// What the load is sent to.
struct Target {
    app: Arc<Application>,
    tenants: Vec<Tenant>,
    /// Of the first tenant's members.
    pages: Vec<String>,
    /// The path of a list of as many orders as every tenant has, so that its cost does not hang on how many more are placed.
    list: String,
}

/// 70 % reads of an order, 20 % orders placed, 5 % lists of orders, 5 % lists of members; tenants, orders and pages chosen uniformly.
async fn ask(target: &Target, seed: u64) -> usize {
    let rng = SeededRng::new(seed);
    let pick = |length: usize| rng.below(length as u64) as usize;
    let kind = match rng.below(100) {
        0..70 => 0,
        70..90 => 1,
        90..95 => 2,
        _ => 3,
    };
    let tenant = &target.tenants[pick(target.tenants.len())];
    let app = &target.app;
    let (answer, expected) = match kind {
        0 => (app.get(&tenant.credential, &tenant.orders[pick(tenant.orders.len())]).await, StatusCode::OK),
        1 => (app.place(&tenant.credential).await, StatusCode::CREATED),
        2 => (app.get(&tenant.credential, &target.list).await, StatusCode::OK),
        _ => (app.get(&target.tenants[0].credential, &target.pages[pick(target.pages.len())]).await, StatusCode::OK),
    };
    if answer.status == expected {
        return kind;
    }
    app.unexpected(&answer);
    UNEXPECTED
}

/// Warms up, measures, and tells. The last class is that of the four kinds together.
async fn measure(options: &Options, target: Arc<Target>) -> Vec<Class> {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    target.app.drained().await;
    let load = |seconds| {
        let (target, first) = (target.clone(), RUNS.fetch_add(1, Ordering::Relaxed) << 32);
        open_loop(options.rate, seconds, KINDS.len() + 1, move |n| {
            let target = target.clone();
            async move { ask(&target, first + n).await }
        })
    };
    load(options.warm_up).await;
    let mut classes = load(options.seconds).await;
    let unexpected = classes.pop().map_or(0, |class| class.count());
    classes.push(Class::sum(&classes));
    tell(&format!(
        "{} tenants, {} pages of members, {}/s for {} s after {} s, counted from the intended start:",
        target.tenants.len(),
        target.pages.len(),
        options.rate,
        options.seconds,
        options.warm_up
    ));
    for (class, name) in classes.iter().zip(KINDS.iter().chain(["all"].iter())) {
        tell(&class.line(name));
    }
    tell(&format!("  {unexpected} answers that should not have come"));
    target.app.told();
    classes
}

/// Runs it.
pub async fn run(options: Options) {
    let app = Application::open(&options.place).await;
    let target =
        |tenants, pages| Arc::new(Target { app: app.clone(), tenants, pages, list: format!("/api/v1/orders?limit={}", options.orders) });
    let (mut tenants, mut before) = (Vec::new(), None);
    let mut members = 0;
    if let Some(few) = options.compare.map(|few| few.clamp(1, options.tenants)) {
        let there = identity::api::list_tenants(&app.store, i64::MAX, 1).await.expect("tenants can be listed");
        if !there.is_empty() {
            tell("the database is not fresh: what is measured first is not a database with few tenants");
        }
        tenants = app.tenants(0..few, options.orders).await;
        members = options.users.min(FEW_MEMBERS);
        app.members(tenants[0].id, 0..members).await;
        let pages = app.pages_of_members(&tenants[0]).await;
        before = Some(measure(&options, target(tenants.clone(), pages)).await);
    }
    tenants.extend(app.tenants(tenants.len() as u64..options.tenants, options.orders).await);
    app.members(tenants[0].id, members..options.users).await;
    let pages = app.pages_of_members(&tenants[0]).await;
    let after = measure(&options, target(tenants, pages)).await;
    if let Some(before) = before {
        tell("many tenants / few tenants:");
        for ((few, many), name) in before.iter().zip(&after).zip(KINDS.iter().chain(["all"].iter())) {
            tell(&format!(
                "  {name:<28} mean {:.2}   p50 {:.2}   p95 {:.2}   p99 {:.2}",
                many.mean_ms() / few.mean_ms(),
                many.ms(0.5) / few.ms(0.5),
                many.ms(0.95) / few.ms(0.95),
                many.ms(0.99) / few.ms(0.99)
            ));
        }
    }
    app.close().await;
}
