//! Puts the parts together: which modules there are, how the store is opened, what a command holds while it runs.

use crate::config::Config;
use crate::exit::{Exit, Failure, Outcome};
use crate::flows::checkout::Checkouts;
use crate::flows::guards;
use crate::flows::intake::OrderIntake;
use crate::lock::FolderLock;
use identity::{Auth, AuthConfig, Known};
use kernel::{Clock, CursorKey, IdGenerator, Rng, SystemClock, SystemRng};
use ledger::api::SealKey;
use log::{Log, LogConfig};
use payments::{Payments, PaymentsConfig};
use ring::hmac;
use shipping::{Shipping, ShippingConfig};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::{Environment, ShardConfig, Store, StoreConfig};
use traffic::cache::{CacheRedis, Caches, CachesConfig};
use traffic::resilience::Policies;
use wallets::{Bank, HttpBank, Wallets};
use webhooks::{Webhooks, WebhooksConfig};
use workflow::{Parts, Runner, RunnerConfig};

/// The modules of the product, in the order in which they were built on each other.
pub(crate) fn modules() -> Vec<web::Module> {
    vec![
        identity::module(),
        catalog::module(),
        inventory::module(),
        orders::module(),
        ledger::module(),
        payments::module(),
        webhooks::module(),
        carts::module(),
        wallets::module(),
        shipping::module(),
        pricing::module(),
        crate::flows::module(),
        crate::flows::checkout::module(),
        crate::flows::intake::module(),
        web::events_module(),
        web::workflows_module(),
        web::limits_module(),
        web::caches_module(),
        web::health_module(),
        crate::import::module(),
    ]
}

/// The tables of every part.
pub(crate) fn migrations() -> Vec<store::Migrations> {
    [log::migrations(), workflow::migrations()].into_iter().chain(modules().into_iter().map(|m| m.migrations)).collect()
}

/// Every durable consumer.
pub(crate) fn consumers() -> Vec<log::Consumer> {
    modules().into_iter().flat_map(|m| m.consumers).collect()
}

/// Every saga, job and timer.
fn workflows() -> Vec<workflow::Workflow> {
    modules().into_iter().flat_map(|m| m.workflows).collect()
}

/// The permissions of every module.
pub(crate) fn known() -> Known {
    Known::new(modules().iter().flat_map(|m| m.permissions).map(|p| p.name))
}

/// The key for one use, derived from the platform's secret: keys of different uses tell nothing of each other.
fn derived(secret: &[u8], purpose: &str) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), purpose.as_bytes());
    let mut key = [0; 32];
    key.copy_from_slice(tag.as_ref());
    key
}

/// How a command uses the databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// It serves: its node number is the configured one.
    Serve(&'static str),
    /// It writes: nobody else may have the embedded folder.
    Write(&'static str),
    /// It only reads, beside a running server too.
    Read(&'static str),
}

/// What modules need to reach outside, for routes and workflows alike.
pub(crate) struct Outside {
    pub(crate) payments: Payments,
    webhooks: Webhooks,
    wallets: Wallets,
    shipping: Shipping,
}

/// An open store with what is needed around it.
pub(crate) struct Node {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Arc<dyn Rng>,
    /// How time and ids are made.
    environment: Environment,
    /// How whatever is outside is called.
    policies: Arc<Policies>,
    /// Who has the embedded folder, when it is not this process.
    pub(crate) beside: Option<String>,
    lock: Option<FolderLock>,
}

impl Node {
    /// Opens the databases and brings their tables up to date.
    /// Errors: `cli.folder_in_use`, `cli.no_data` for a reader without data, and those of [`Store::open`].
    pub(crate) fn open(config: Config, how: Use) -> Outcome<Node> {
        let embedded = config.database.is_empty();
        let rng: Arc<dyn Rng> = Arc::new(SystemRng::new());
        let policies = Arc::new(crate::resilience::policies(&config, &rng)?);
        let (mut lock, mut beside) = (None, None);
        match how {
            Use::Serve(purpose) | Use::Write(purpose) if embedded => lock = Some(FolderLock::take(&config.data, purpose)?),
            Use::Read(purpose) if embedded => {
                if !exists(&config.data) {
                    let detail = format!("there is no data in {}; name the folder with --data", config.data.display());
                    return Err(Failure::new(Exit::Refused, "cli.no_data", detail));
                }
                match FolderLock::take(&config.data, purpose) {
                    Ok(taken) => lock = Some(taken),
                    Err(refused) if refused.code == "cli.folder_in_use" => beside = FolderLock::held_by(&config.data),
                    Err(failure) => return Err(failure),
                }
            }
            _ => {}
        }
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        // Servers have the numbers up to 511; a tool takes one of the others, so that its ids differ from those of every server.
        let node = if matches!(how, Use::Serve(_)) { config.node } else { 512 + rng.below(512) as u16 };
        let environment = Environment { clock: clock.clone(), ids: Arc::new(IdGenerator::new(clock.clone(), node)) };
        let store = Store::open(store_config(&config), &migrations(), environment.clone())?;
        Ok(Node { config, store, clock, rng, environment, policies, beside, lock })
    }

    /// Starts the consumers of the log in this process.
    pub(crate) async fn start_log(&self) -> Outcome<Log> {
        Ok(Log::start(self.store.clone(), consumers(), LogConfig::default(), self.rng.clone()).await?)
    }

    /// The log's tools without running consumers.
    pub(crate) fn idle_log(&self) -> Outcome<Log> {
        Ok(Log::idle(self.store.clone(), consumers(), LogConfig::default(), self.rng.clone())?)
    }

    /// Who may come in.
    pub(crate) async fn auth(&self) -> Outcome<Auth> {
        let secret = |purpose| self.config.secret.as_ref().map(|secret| derived(secret.as_bytes(), purpose).to_vec());
        let auth = AuthConfig { token_secret: secret("access tokens"), cursor_secret: secret("cursors"), ..AuthConfig::default() };
        Ok(Auth::start(&self.store, self.rng.clone(), known(), auth).await?)
    }

    /// What reaches outside. Without a configured secret the keys that seal others' secrets follow from one that the database holds.
    pub(crate) fn outside(&self, auth: &Auth) -> Outcome<Outside> {
        let secret = self.config.secret.as_ref().map_or(auth.cursor_secret(), |secret| secret.as_bytes());
        let options = &self.config.payments;
        let payments = Payments::new(&PaymentsConfig {
            sealing_key: derived(secret, "payments' secrets"),
            base_urls: options.base_urls.clone(),
            call_timeout_ms: options.call_timeout_ms,
            rates: options.rates.clone(),
            policies: self.policies.clone(),
        })?;
        let options = &self.config.webhooks;
        let webhooks = Webhooks::new(&WebhooksConfig {
            sealing_key: derived(secret, "webhooks' secrets"),
            allow_private: options.allow_private,
            timeout_ms: options.timeout_ms,
            policies: self.policies.clone(),
        })?;
        let bank: Option<Arc<dyn Bank>> = match &self.config.payouts {
            Some((url, token)) => Some(Arc::new(HttpBank::new(url, token, &self.policies)?)),
            None => None,
        };
        let wallets = Wallets::new(&derived(secret, "wallets' codes"), bank);
        let (base_urls, call_timeout_ms) = self.config.carriers.clone();
        let shipping = Shipping::new(&ShippingConfig {
            sealing_key: derived(secret, "carriers' secrets"),
            base_urls,
            call_timeout_ms,
            policies: self.policies.clone(),
        })?;
        Ok(Outside { payments, webhooks, wallets, shipping })
    }

    /// What signs the heads of ledgers; without a configured secret it follows from one that the database holds.
    pub(crate) fn seal_key(&self, auth: &Auth) -> SealKey {
        let secret = self.config.secret.as_ref().map_or(auth.cursor_secret(), |secret| secret.as_bytes());
        SealKey::from_seed(&derived(secret, "ledgers' seals"))
    }

    /// Where orders go while the database is away: on PostgreSQL, unless the configuration says no. Warns of orders that wait for another
    /// node, or for another database.
    pub(crate) async fn intake(&self) -> OrderIntake {
        let (data, node, inside) = (&self.config.data, self.config.node, self.config.database.is_empty());
        for (other, orders) in crate::flows::intake::stranded(data, &self.environment, node, inside).await {
            let data = data.display();
            tracing::warn!(node = other, orders, %data, "orders wait that a node has taken in: start it with its data folder and its database");
        }
        match self.config.intake {
            _ if inside => OrderIntake::Off,
            Some(bounds) => OrderIntake::open(data, bounds, self.environment.clone(), node).await,
            None => OrderIntake::left(data, self.environment.clone(), node).await,
        }
    }

    /// Starts running sagas in this process.
    pub(crate) async fn start_workflows(&self, outside: &Outside) -> Outcome<Runner> {
        let parts = Parts::new().with(outside.payments.clone()).with(outside.webhooks.clone()).with(outside.wallets.clone());
        let parts = parts.with(outside.shipping.clone());
        // Whoever runs sagas of an embedded folder has its lock.
        let alone = self.config.database.is_empty();
        let config = RunnerConfig { on_outcome: Some(outside.payments.on_outcome()), alone, ..RunnerConfig::default() };
        Ok(Runner::start(self.store.clone(), workflows(), parts, config, self.rng.clone()).await?)
    }

    /// The HTTP application.
    pub(crate) async fn web(
        &self,
        log: &Log,
        sagas: &Runner,
        auth: Auth,
        outside: Outside,
        intake: OrderIntake,
        pages: &'static [web::Page],
    ) -> Outcome<web::Web> {
        let mut registry = prometheus_client::registry::Registry::default();
        self.store.register_metrics(&mut registry);
        log.register(&mut registry);
        sagas.register(&mut registry);
        outside.payments.register(&mut registry);
        self.policies.register(&mut registry);
        let caches = Caches::new(CachesConfig { bytes: self.config.cache.bytes, ..CachesConfig::default() }, self.rng.clone());
        if !self.config.cache.redis.is_empty() {
            caches.share(CacheRedis { urls: self.config.cache.redis.clone(), ..CacheRedis::new("") }).await?;
        }
        let checkouts = Checkouts::default();
        checkouts.follow(&self.store);
        let mut app = web::App::builder(self.store.clone(), Arc::new(auth.clone()));
        if let Some(limits) = crate::limits::start(&self.config.limits, self.clock.clone(), &*self.rng).await? {
            app = app.limits(limits);
        }
        if let Some(queue) = intake.queue() {
            queue.metrics().register(&mut registry);
        }
        if let Some(queue) = intake.taking() {
            app = app.intake(queue.clone());
        }
        if let Some(health) = intake.health() {
            app = app.dependency(health);
        }
        let app = app
            .modules(modules())
            .pages(pages)
            .config(self.config.web.clone())
            .clock(self.clock.clone())
            .rng(self.rng.clone())
            .cursor_key(CursorKey::new(auth.cursor_secret()))
            .caches(caches)
            .dependency(crate::resilience::log_health(log))
            .dependency(crate::resilience::calls_health(&self.policies))
            .dependency(crate::resilience::disk_health(&self.config))
            .registry(registry)
            .part(auth)
            .part(outside.payments)
            .part(outside.webhooks)
            .part(outside.wallets)
            .part(checkouts)
            .part(intake)
            .part(guards::OUTSIDE)
            .part(guards::GATE)
            .part(outside.shipping);
        Ok(app.build()?)
    }

    /// Whether the embedded folder is this process's own, or the database is a server that several processes share.
    pub(crate) fn may_write(&self) -> bool {
        self.lock.is_some() || !self.config.database.is_empty()
    }

    /// Answers what was accepted and lets go of the folder.
    pub(crate) async fn close(self) {
        self.store.close().await;
        drop(self.lock);
    }
}

/// The file of an embedded shard.
pub(crate) fn shard_file(data: &Path, shard: u16) -> PathBuf {
    data.join(format!("shard-{shard}.db"))
}

/// Whether there is an embedded node in the folder.
pub(crate) fn exists(data: &Path) -> bool {
    shard_file(data, 0).exists()
}

/// The store's part of the configuration.
pub(crate) fn store_config(config: &Config) -> StoreConfig {
    let options = &config.store;
    let shards = if config.database.is_empty() {
        (0..options.shards).map(|shard| ShardConfig::Sqlite { path: shard_file(&config.data, shard) }).collect()
    } else {
        let postgres = |(shard, url): (u16, &String)| ShardConfig::Postgres {
            url: url.clone(),
            lanes: options.lanes,
            prepared: options.prepared_statements,
            replicas: config.replicas_of(shard),
        };
        (0..).zip(&config.database).map(postgres).collect()
    };
    StoreConfig {
        shards,
        readers: options.readers,
        queue_commands: options.queue_commands,
        queue_bytes: options.queue_bytes,
        queue_tenant_commands: options.queue_tenant_commands,
        queue_wait_ms: options.queue_wait_ms,
    }
}
