//! `brandos sandbox-psp`: a payment provider of our own, for tests, demos and benchmarks.

use crate::cli::SandboxPsp;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::Output;
use kernel::SystemClock;
use sandbox::{Sandbox, SandboxConfig};
use std::sync::Arc;
use tokio::net::TcpListener;

/// Serves until it is told to stop. Errors: `cli.port_taken`; rates or a secret that are none; `sandbox.disk`.
pub(crate) async fn sandbox_psp(given: SandboxPsp, out: Output) -> Outcome<Exit> {
    let stop = crate::serve::stop_signal()?;
    let taken = |error| Failure::new(Exit::Unavailable, "cli.port_taken", format!("cannot listen on {}: {error}", given.listen));
    let listener = TcpListener::bind(given.listen).await.map_err(taken)?;
    let url = format!("http://{}", listener.local_addr().map_err(taken)?);
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
    out.line(format!("The sandbox provider serves at {url}"));
    out.line(format!("  books  {url}/books"));
    out.line("Stop with Ctrl-C.");
    out.value(&serde_json::json!({ "event": "serving", "url": url, "pid": std::process::id() }));
    let told = async {
        stop.await;
    };
    sandbox::serve(sandbox, listener, told).await?;
    Ok(Exit::Ok)
}
