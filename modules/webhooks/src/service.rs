//! What webhooks need around the store: the sealing key, the HTTP client, and which addresses may be called.

use crate::model::{Endpoint, EndpointId, Signing};
use client::{Client, ClientConfig, SealingKey, webhook};
use kernel::{Error, Result, Rng, TenantId, Timestamp};
use std::sync::Arc;
use traffic::resilience::{BreakerConfig, Policies, PolicyConfig};

/// How webhooks are set up.
#[derive(Clone)]
pub struct WebhooksConfig {
    /// Seals endpoints' secrets in the store: 32 bytes from the configuration. Lost, every endpoint needs a new secret.
    pub sealing_key: [u8; 32],
    /// Whether plain HTTP and addresses beside the server (loopback, private networks) may be called. For tests and demos.
    pub allow_private: bool,
    /// How long one attempt may take, in milliseconds; at most 15 s.
    pub timeout_ms: u64,
    /// How receivers are called: `webhooks`.
    pub policies: Arc<Policies>,
}

/// What the module shares between its routes and its workflows; cheap to clone. The application puts one into both.
#[derive(Clone)]
pub struct Webhooks(Arc<Inner>);

struct Inner {
    key: SealingKey,
    client: Client,
    allow_private: bool,
}

fn place(tenant: TenantId, endpoint_id: EndpointId) -> String {
    format!("webhooks/{tenant}/{endpoint_id}")
}

impl Webhooks {
    /// Sets it up. Errors: `internal` when TLS can't be.
    pub fn new(config: &WebhooksConfig) -> Result<Webhooks> {
        let timeout_ms = config.timeout_ms.clamp(10, 15_000);
        // A delivery knows itself when to try again, and receivers have nothing to do with each other: one attempt, and a breaker that nobody
        // opens for the others.
        let never = BreakerConfig { failures: u32::MAX, least_calls: u32::MAX, ..BreakerConfig::default() };
        let usual = PolicyConfig { timeout_ms: timeout_ms + 100, attempts: 1, bulkhead: 256, breaker: never, ..PolicyConfig::default() };
        let policy = config.policies.of_kind("webhooks", "webhooks", usual);
        let config_of_client = ClientConfig {
            timeout_ms,
            connect_timeout_ms: timeout_ms.min(3_000),
            // What a receiver says is not kept: only its status counts, whatever comes after it.
            max_body_bytes: 64 * 1024,
            status_only: true,
            idle_per_host: 4,
            public_only: !config.allow_private,
            ..ClientConfig::default()
        };
        let client = Client::new(config_of_client, policy)?;
        Ok(Webhooks(Arc::new(Inner { key: SealingKey::new(&config.sealing_key), client, allow_private: config.allow_private })))
    }

    pub(crate) fn client(&self) -> &Client {
        &self.0.client
    }

    /// Errors: `request.invalid` for an address that may not be called. What a name resolves to is checked at each connection besides.
    pub(crate) fn check_url(&self, url: &str) -> Result<()> {
        let wrong = |detail: &str| Err(Error::field("url", "not_allowed", detail));
        if !(8..=500).contains(&url.len()) || !url.bytes().all(|b| b.is_ascii_graphic()) || url.contains(['\\', '#', '"', '<', '>']) {
            return wrong("8 to 500 visible characters, without a fragment");
        }
        let rest = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
            (Some(rest), _) => rest,
            (None, Some(rest)) if self.0.allow_private => rest,
            _ => return wrong("an address begins with https://"),
        };
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                if port.parse::<u16>().is_err() {
                    return wrong("its port is none");
                }
                host
            }
            _ => authority,
        };
        if host.is_empty() || authority.contains('@') {
            return wrong("it has no host, or a user's name");
        }
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse();
        let private = literal.is_ok_and(|address| !client::is_public(address)) || host.eq_ignore_ascii_case("localhost");
        if private && !self.0.allow_private {
            return wrong("the address is none of the public internet");
        }
        Ok(())
    }

    /// A new secret.
    pub(crate) fn new_secret(&self, rng: &dyn Rng) -> String {
        let mut bytes = [0; 32];
        rng.fill(&mut bytes);
        webhook::secret_text(&bytes)
    }

    /// Seals an endpoint's secrets, the newest first.
    pub(crate) fn seal(&self, tenant: TenantId, endpoint_id: EndpointId, secrets: &[Signing], rng: &dyn Rng) -> Result<Vec<u8>> {
        let text = serde_json::to_vec(secrets).map_err(|e| Error::internal("secrets don't serialise").caused_by(e))?;
        self.0.key.seal(&place(tenant, endpoint_id), &text, rng)
    }

    /// An endpoint's secrets, the newest first. Errors: `webhooks.sealed`.
    pub(crate) fn secrets(&self, tenant: TenantId, endpoint: &Endpoint) -> Result<Vec<Signing>> {
        let sealed = || Error::unavailable("webhooks.sealed", "an endpoint's secrets can't be opened with the configured key; rotate them");
        let text = self.0.key.open(&place(tenant, endpoint.endpoint_id), &endpoint.sealed).ok_or_else(sealed)?;
        serde_json::from_slice(&text).map_err(|e| Error::internal("sealed secrets can't be read").caused_by(e))
    }

    /// The value of the signature's header: one signature for each secret in force.
    pub(crate) fn signatures(&self, secrets: &[Signing], id: &str, now: Timestamp, body: &[u8]) -> Result<String> {
        let live = secrets.iter().filter(|signing| signing.until.is_none_or(|until| now < until));
        let keys: Vec<webhook::Secret> = live.map(|signing| signing.secret.parse()).collect::<Result<_>>()?;
        Ok(webhook::sign_all(&keys, id, now, body))
    }
}
