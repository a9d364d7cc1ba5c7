//! What payments need around the store: the sealing key, the HTTP client, which addresses may be called, and the breakers.

use crate::adapter::{Adapter, Secrets};
use crate::metrics::Metrics;
use crate::model::{IntentId, ProviderId};
use crate::queries::{self, Provider};
use crate::routing::Breakers;
use client::{Client, ClientConfig, SealingKey};
use kernel::{Error, Result, Rng, TenantId};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use store::Store;
use traffic::resilience::{BreakerConfig, Policies, PolicyConfig};
use web::{Waiter, Waiters};

/// Providers whose opened secrets are kept in memory.
const MAX_OPEN: usize = 1_024;

/// How payments are set up.
#[derive(Clone)]
pub struct PaymentsConfig {
    /// Seals providers' secrets in the store: 32 bytes from the configuration. Lost, every provider has to be given its secrets again.
    pub sealing_key: [u8; 32],
    /// Beginnings of the addresses at which providers may be called, such as `https://api.stripe.com`. Tenants choose among these.
    pub base_urls: Vec<String>,
    /// How long one call to a provider may take, in milliseconds; at most 12 s.
    pub call_timeout_ms: u64,
    /// Where exchange rates come from each minute: an absolute path, or `http(s)://...`. None for no rates.
    pub rates: Option<String>,
    /// How providers are called: `payments.HOST:PORT` by that name, or `payments` for all of them.
    pub policies: Arc<Policies>,
}

/// What the module shares between its routes and its workflows; cheap to clone. The application puts one into both.
#[derive(Clone)]
pub struct Payments(Arc<Inner>);

struct Inner {
    key: SealingKey,
    client: Client,
    metrics: Metrics,
    policies: Arc<Policies>,
    /// Of a provider, unless the configuration says otherwise. Whatever asks a provider is a saga's step, which knows itself when to ask
    /// again: so here it is asked once.
    usual: PolicyConfig,
    base_urls: Vec<String>,
    rates: Option<String>,
    breakers: Mutex<Breakers>,
    waiting: Waiters,
    /// Whether this process runs the sagas and says what they have come to.
    told: AtomicBool,
    open: Mutex<HashMap<(TenantId, ProviderId), Opened>>,
}

/// A provider that can be talked to, and the version of its row that it was made of.
type Opened = (i64, Arc<Adapter>);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn place(tenant: TenantId, provider_id: ProviderId) -> String {
    format!("payments/{tenant}/{provider_id}")
}

impl Payments {
    /// Sets it up. Errors: `internal` when TLS can't be.
    pub fn new(config: &PaymentsConfig) -> Result<Payments> {
        let timeout_ms = config.call_timeout_ms.clamp(10, 12_000);
        // Routing has a breaker for each provider in front of this one, and leads payments elsewhere when it opens. This one is for a host that
        // is gone altogether: what it refuses can go nowhere else.
        let breaker = BreakerConfig { failures: 20, failure_percent: 90, least_calls: 50, ..BreakerConfig::default() };
        // As many seats as sagas of a node usually are under way, and a wait for one that fits into the time of a step.
        let (bulkhead, bulkhead_wait_ms) = (512, 2_000);
        let usual =
            PolicyConfig { timeout_ms: timeout_ms + 100, attempts: 1, bulkhead, bulkhead_wait_ms, breaker, ..PolicyConfig::default() };
        let policy = config.policies.of_kind("payments", "payments", usual);
        let client =
            Client::new(ClientConfig { timeout_ms, connect_timeout_ms: timeout_ms.min(3_000), ..ClientConfig::default() }, policy)?;
        Ok(Payments(Arc::new(Inner {
            key: SealingKey::new(&config.sealing_key),
            client,
            metrics: Metrics::default(),
            policies: config.policies.clone(),
            usual,
            base_urls: config.base_urls.clone(),
            rates: config.rates.clone(),
            breakers: Mutex::default(),
            waiting: Waiters::default(),
            told: AtomicBool::new(false),
            open: Mutex::default(),
        })))
    }

    /// Takes over exchange rates from their source; the application does it each minute. Errors: `payments.rates_unavailable`; the store's.
    pub async fn feed_rates(&self, store: &Store) -> Result<()> {
        crate::rates::feed(self, store).await
    }

    /// Makes what is counted of providers' calls known to the metrics' page.
    pub fn register(&self, registry: &mut prometheus_client::registry::Registry) {
        self.0.metrics.register(registry);
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Where exchange rates come from.
    pub(crate) fn rates_source(&self) -> Option<&str> {
        self.0.rates.as_deref()
    }

    /// The client with which providers are called.
    pub(crate) fn client(&self) -> &Client {
        &self.0.client
    }

    /// For the runner of the sagas ([`workflow::RunnerConfig::on_outcome`]): whoever waits for a payment looks at it then, and not before.
    pub fn on_outcome(&self) -> workflow::OnOutcome {
        self.0.told.store(true, Ordering::Relaxed);
        let payments = self.clone();
        Arc::new(move |kind: &'static str, key: &str| {
            if let Some(intent_id) = crate::workflows::intent_of_saga(kind, key) {
                payments.0.waiting.tell(intent_id.as_i64());
            }
        })
    }

    /// Whether [`Payments::on_outcome`] is told of outcomes.
    pub(crate) fn is_told(&self) -> bool {
        self.0.told.load(Ordering::Relaxed)
    }

    /// Begins to wait for a payment.
    pub(crate) fn wait_for(&self, intent_id: IntentId) -> Waiter {
        self.0.waiting.wait_for(intent_id.as_i64())
    }

    /// The breakers.
    pub(crate) fn breakers(&self) -> MutexGuard<'_, Breakers> {
        locked(&self.0.breakers)
    }

    /// An address as it is stored. Errors: `request.invalid` when it is none at which providers may be called.
    pub(crate) fn allowed(&self, base_url: &str) -> Result<String> {
        let refused =
            || Error::field("base_url", "not_allowed", "providers may only be called at the addresses of the option payments.base_urls");
        client::below_known(&self.0.base_urls, base_url).ok_or_else(refused)
    }

    /// Seals a provider's secrets.
    pub(crate) fn seal(&self, tenant: TenantId, provider_id: ProviderId, secrets: &Secrets, rng: &dyn Rng) -> Result<Vec<u8>> {
        let text = serde_json::to_vec(secrets).map_err(|e| Error::internal("secrets don't serialise").caused_by(e))?;
        self.0.key.seal(&place(tenant, provider_id), &text, rng)
    }

    /// Opens a provider's secrets. Errors: `payments.sealed`.
    pub(crate) fn secrets(&self, tenant: TenantId, provider: &Provider) -> Result<Secrets> {
        let sealed = || Error::unavailable("payments.sealed", "a provider's secrets can't be opened with the configured key");
        let text = self.0.key.open(&place(tenant, provider.provider_id), &provider.sealed).ok_or_else(sealed)?;
        serde_json::from_slice(&text).map_err(|e| Error::internal("sealed secrets can't be read").caused_by(e))
    }

    /// A provider that can be talked to, as it is set up now. Errors: `payments.provider_not_found`, `payments.sealed`, the store's.
    pub(crate) async fn adapter(&self, store: &Store, tenant: TenantId, provider_id: ProviderId) -> Result<Arc<Adapter>> {
        let provider = store.peek(tenant, move |read| queries::provider(read, provider_id)).await?;
        if let Some((version, adapter)) = locked(&self.0.open).get(&(tenant, provider_id))
            && *version == provider.version
        {
            return Ok(adapter.clone());
        }
        let secrets = self.secrets(tenant, &provider)?;
        let Provider { kind, base_url, honours_keys, version, .. } = provider;
        let host = base_url.split_once("://").map_or("", |(_, rest)| rest).split('/').next().unwrap_or_default();
        let policy = self.0.policies.of_kind(&format!("payments.{host}"), "payments", self.0.usual);
        let adapter = Arc::new(Adapter { kind, base_url, secrets, honours_keys, client: self.0.client.under(policy) });
        let mut open = locked(&self.0.open);
        if open.len() >= MAX_OPEN {
            open.clear();
        }
        open.insert((tenant, provider_id), (version, adapter.clone()));
        Ok(adapter)
    }
}
