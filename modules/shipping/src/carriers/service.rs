//! What shipping needs around the store: the sealing key, the HTTP client, and which addresses may be called.

use crate::carriers::adapter::{Adapter, MAX_DOCUMENT, Secrets};
use crate::carriers::model::{Carrier, CarrierId};
use crate::carriers::queries;
use crate::shipments::model::ShipmentId;
use client::{Client, ClientConfig, SealingKey};
use kernel::{Error, Result, Rng, TenantId};
use std::sync::Arc;
use store::Store;
use traffic::resilience::{Policies, PolicyConfig};

/// How shipping is set up.
#[derive(Clone)]
pub struct ShippingConfig {
    /// Seals carriers' secrets in the store: 32 bytes from the configuration. Lost, every carrier has to be given its secrets again.
    pub sealing_key: [u8; 32],
    /// Beginnings of the addresses at which carriers may be called. Tenants choose among these.
    pub base_urls: Vec<String>,
    /// How long one call to a carrier may take, in milliseconds; at most 12 s.
    pub call_timeout_ms: u64,
    /// How carriers are called: `shipping.HOST:PORT` by that name, or `shipping` for all of them.
    pub policies: Arc<Policies>,
}

/// What the module shares between its routes and its workflows; cheap to clone. The application puts one into both.
#[derive(Clone)]
pub struct Shipping(Arc<Inner>);

struct Inner {
    key: SealingKey,
    client: Client,
    policies: Arc<Policies>,
    /// Of a carrier, unless the configuration says otherwise. Sagas know themselves when to ask again: so here it is asked once.
    usual: PolicyConfig,
    base_urls: Vec<String>,
}

fn place(tenant: TenantId, carrier_id: CarrierId) -> String {
    format!("shipping/{tenant}/{carrier_id}")
}

impl Shipping {
    /// Sets it up. Errors: `internal` when TLS can't be.
    pub fn new(config: &ShippingConfig) -> Result<Shipping> {
        let timeout_ms = config.call_timeout_ms.clamp(10, 12_000);
        let usual = PolicyConfig { timeout_ms: timeout_ms + 100, attempts: 1, ..PolicyConfig::default() };
        let policy = config.policies.of_kind("shipping", "shipping", usual);
        let config_of_client = ClientConfig {
            timeout_ms,
            connect_timeout_ms: timeout_ms.min(3_000),
            max_body_bytes: MAX_DOCUMENT,
            idle_per_host: 8,
            ..ClientConfig::default()
        };
        Ok(Shipping(Arc::new(Inner {
            key: SealingKey::new(&config.sealing_key),
            client: Client::new(config_of_client, policy)?,
            policies: config.policies.clone(),
            usual,
            base_urls: config.base_urls.clone(),
        })))
    }

    /// An address as it is stored. Errors: `request.invalid` when it is none at which carriers may be called.
    pub(crate) fn allowed(&self, base_url: &str) -> Result<String> {
        let refused =
            || Error::field("base_url", "not_allowed", "carriers may only be called at the addresses of the option shipping.base_urls");
        client::below_known(&self.0.base_urls, base_url).ok_or_else(refused)
    }

    /// Seals a carrier's secrets.
    pub(crate) fn seal(&self, tenant: TenantId, carrier_id: CarrierId, secrets: &Secrets, rng: &dyn Rng) -> Result<Vec<u8>> {
        let text = serde_json::to_vec(secrets).map_err(|e| Error::internal("secrets don't serialise").caused_by(e))?;
        self.0.key.seal(&place(tenant, carrier_id), &text, rng)
    }

    /// Opens a carrier's secrets. Errors: `shipping.sealed`.
    pub(crate) fn secrets(&self, tenant: TenantId, carrier: &Carrier) -> Result<Secrets> {
        let sealed = || Error::unavailable("shipping.sealed", "a carrier's secrets can't be opened with the configured key");
        let text = self.0.key.open(&place(tenant, carrier.carrier_id), &carrier.sealed).ok_or_else(sealed)?;
        serde_json::from_slice(&text).map_err(|e| Error::internal("sealed secrets can't be read").caused_by(e))
    }

    /// A carrier that can be talked to, as it is set up now. Errors: `shipping.carrier_not_found`, `shipping.sealed`, the store's.
    pub(crate) async fn adapter(&self, store: &Store, tenant: TenantId, carrier_id: CarrierId) -> Result<Adapter> {
        let carrier = store.peek(tenant, move |read| queries::carrier(read, carrier_id)).await?;
        self.adapter_to(tenant, &carrier)
    }

    /// The carrier that a shipment's labels were asked of, where it was then. Errors: as above.
    pub(crate) async fn adapter_of_label(&self, store: &Store, tenant: TenantId, shipment_id: ShipmentId, attempt: i64) -> Result<Adapter> {
        let carrier = store.peek(tenant, move |read| queries::carrier_of_label(read, shipment_id, attempt)).await?;
        self.adapter_to(tenant, &carrier)
    }

    fn adapter_to(&self, tenant: TenantId, carrier: &Carrier) -> Result<Adapter> {
        let secrets = self.secrets(tenant, carrier)?;
        let Carrier { kind, base_url, .. } = carrier.clone();
        let host = base_url.split_once("://").map_or("", |(_, rest)| rest).split('/').next().unwrap_or_default();
        let policy = self.0.policies.of_kind(&format!("shipping.{host}"), "shipping", self.0.usual);
        Ok(Adapter { kind, base_url, secrets, client: self.0.client.under(policy) })
    }
}
