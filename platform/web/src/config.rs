//! How the edge is set up: each option with its unit and default.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Options of the HTTP edge. The defaults suit a laptop; nothing is exposed beyond loopback unless `listen` says so.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebConfig {
    /// Where to listen. Default `127.0.0.1:8080`; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Domain whose subdomains name tenants: with `brand.example`, a request to `acme.brand.example` is tenant `acme`'s. Default none.
    pub base_domain: Option<String>,
    /// Subdomains of `base_domain` that name no tenant. Default `api`, `www`.
    pub plain_subdomains: Vec<String>,
    /// The most bytes of a request's body, for routes that don't say otherwise. Default 1 MiB.
    pub body_limit_bytes: usize,
    /// The most bytes of a request's line and headers together, at least 8 KiB. Default 16 KiB.
    pub header_limit_bytes: usize,
    /// How long the headers of a request may take, and how long a kept-alive connection may idle. Default 30 s.
    pub header_timeout_ms: u64,
    /// How long a request's body may take. Default 20 s.
    pub body_timeout_ms: u64,
    /// How long a request may take until its answer begins. Default 30 s.
    pub request_timeout_ms: u64,
    /// The most requests in flight; more are answered 503 at once. Default 4096.
    pub concurrency: u32,
    /// The most connections open; more wait to be accepted. Default 16384.
    pub connections: usize,
    /// The most event streams open. Default 1024.
    pub event_streams: u32,
    /// Origins of web pages that may call the API, such as `https://shop.example`, or `*` for all. Default none.
    pub cors_origins: Vec<String>,
    /// Networks of the proxies whose `X-Forwarded-For` is believed, such as `10.0.0.0/8`. Default none: the client is whoever holds the connection.
    pub trusted_proxies: Vec<String>,
    /// PEM file with the certificate chain; TLS is on when both files are given. Default none.
    pub tls_cert: Option<PathBuf>,
    /// PEM file with the private key. Default none.
    pub tls_key: Option<PathBuf>,
    /// How long a shutdown waits for what is in flight. Default 20 s.
    pub shutdown_ms: u64,
}

impl Default for WebConfig {
    fn default() -> Self {
        WebConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            base_domain: None,
            plain_subdomains: vec!["api".to_owned(), "www".to_owned()],
            body_limit_bytes: 1024 * 1024,
            header_limit_bytes: 16 * 1024,
            header_timeout_ms: 30_000,
            body_timeout_ms: 20_000,
            request_timeout_ms: 30_000,
            concurrency: 4096,
            connections: 16_384,
            event_streams: 1024,
            cors_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            tls_cert: None,
            tls_key: None,
            shutdown_ms: 20_000,
        }
    }
}
