//! `brandos sandbox-psp` and `brandos sandbox-carrier`: a payment provider and a carrier of our own, for tests, demos and benchmarks.

use crate::cli::{SandboxCarrier, SandboxPsp};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::Output;
use kernel::SystemClock;
use sandbox::{Carrier, CarrierConfig, Sandbox, SandboxConfig};
use std::sync::Arc;
use tokio::net::TcpListener;

/// Listens there. Says the address. Errors: `cli.port_taken`.
async fn listen(at: std::net::SocketAddr) -> Outcome<(TcpListener, String)> {
    let taken = |error| Failure::new(Exit::Unavailable, "cli.port_taken", format!("cannot listen on {at}: {error}"));
    let listener = TcpListener::bind(at).await.map_err(taken)?;
    let url = format!("http://{}", listener.local_addr().map_err(taken)?);
    Ok((listener, url))
}

/// Says that it serves, and where its books are.
fn serving(what: &str, url: &str, out: &Output) {
    out.line(format!("The sandbox {what} serves at {url}"));
    out.line(format!("  books  {url}/books"));
    out.line("Stop with Ctrl-C.");
    out.value(&serde_json::json!({ "event": "serving", "url": url, "pid": std::process::id() }));
}

/// Serves until it is told to stop. Errors: `cli.port_taken`; rates or a secret that are none; `sandbox.disk`.
pub(crate) async fn sandbox_psp(given: SandboxPsp, out: Output) -> Outcome<Exit> {
    let stop = crate::serve::stop_signal()?;
    let (listener, url) = listen(given.listen).await?;
    let config = SandboxConfig {
        api_key: given.api_key,
        callback: given.callback.zip(given.callback_secret),
        seed: given.seed,
        rates: given.rates.parse()?,
        public_url: url.clone(),
        data: given.books,
        hang_ms: given.hang_ms,
        late_ms: given.late_ms,
        ..SandboxConfig::default()
    };
    let sandbox = Sandbox::open(config, Arc::new(SystemClock))?;
    serving("provider", &url, &out);
    let told = async {
        stop.await;
    };
    sandbox::serve(sandbox, listener, told).await?;
    Ok(Exit::Ok)
}

/// The same for a carrier. Errors: `cli.port_taken`; rates or a secret that are none.
pub(crate) async fn sandbox_carrier(given: SandboxCarrier, out: Output) -> Outcome<Exit> {
    let stop = crate::serve::stop_signal()?;
    let (listener, url) = listen(given.listen).await?;
    let config = CarrierConfig {
        api_key: given.api_key,
        callback: given.callback.zip(given.callback_secret),
        seed: given.seed,
        rates: given.rates.parse()?,
        public_url: url.clone(),
        hang_ms: given.hang_ms,
        late_ms: given.late_ms,
        ..CarrierConfig::default()
    };
    let carrier = Carrier::open(config, Arc::new(SystemClock))?;
    serving("carrier", &url, &out);
    let told = async {
        stop.await;
    };
    sandbox::serve_carrier(carrier, listener, told).await?;
    Ok(Exit::Ok)
}
