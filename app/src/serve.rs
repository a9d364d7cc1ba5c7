//! `brandos serve`: the databases, the log's consumers and the HTTP server, until a signal says stop.

use crate::config::Config;
use crate::exit::{Exit, Failure, Outcome};
use crate::flows::intake::OrderIntake;
use crate::output::Output;
use crate::wiring::{Node, Use};
use log::Log;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use tokio::task::JoinSet;
use web::Server;
use workflow::Runner;

/// A running node: what `serve` and `demo` have in common.
pub(crate) struct Running {
    pub(crate) node: Node,
    log: Log,
    sagas: Runner,
    server: Server,
    caches: traffic::cache::Caches,
    intake: OrderIntake,
    upkeep: JoinSet<()>,
    stop: Pin<Box<dyn Future<Output = &'static str> + Send>>,
}

impl Running {
    /// Opens everything; `pages` are served beside the API. Errors: `cli.port_taken` before anything is opened; those of [`Node::open`]; TLS files that are none.
    pub(crate) async fn start(config: Config, purpose: &'static str, pages: &'static [web::Page]) -> Outcome<Running> {
        // From here on a signal waits for its turn instead of ending the process.
        let stop = Box::pin(stop_signal()?);
        port_is_free(config.web.listen)?;
        let node = Node::open(config, Use::Serve(purpose))?;
        crate::upkeep::prepare(&node).await;
        let log = node.start_log().await?;
        let auth = node.auth().await?;
        let outside = node.outside(&auth)?;
        let sagas = node.start_workflows(&outside).await?;
        let (seal_key, payments) = (node.seal_key(&auth), outside.payments.clone());
        let intake = node.intake().await;
        let web = node.web(&log, &sagas, auth, outside, intake.clone(), pages).await?;
        let caches = web.app().caches().clone();
        let server = Server::bind(web.clone()).await?;
        let upkeep = crate::upkeep::start(&node, web, payments, seal_key, &intake);
        Ok(Running { node, log, sagas, server, caches, intake, upkeep, stop })
    }

    /// Where it can be reached, such as `http://127.0.0.1:8080`.
    pub(crate) fn url(&self) -> String {
        let mut address = self.server.local_addr();
        if address.ip().is_unspecified() {
            address.set_ip([127, 0, 0, 1].into());
        }
        format!("{}://{address}", if self.server.is_tls() { "https" } else { "http" })
    }

    /// Serves until SIGINT or SIGTERM, finishes what is in flight, and closes the databases. A second signal ends the process at once.
    pub(crate) async fn run(mut self, out: Output) -> Outcome<Exit> {
        let finished = self
            .server
            .run(async move {
                let name = self.stop.await;
                tracing::info!(signal = name, "stopping: finishing what is in flight");
                out.note(format!("{name}: finishing what is in flight; once more to stop at once"));
                tokio::spawn(async {
                    if let Ok(signal) = stop_signal() {
                        signal.await;
                        std::process::exit(130);
                    }
                });
            })
            .await;
        if !finished {
            tracing::warn!("requests were still in flight when the grace period ended");
        }
        self.upkeep.shutdown().await;
        self.intake.close().await;
        self.caches.stop().await;
        self.sagas.stop().await;
        self.log.stop().await;
        self.node.close().await;
        tracing::info!("stopped");
        Ok(Exit::Ok)
    }
}

/// Serves until it is told to stop.
pub(crate) async fn serve(config: Config, out: Output) -> Outcome<Exit> {
    let running = Running::start(config, "serve", &[]).await?;
    let url = running.url();
    tracing::info!(url, node = running.node.config.node, data = %running.node.config.data.display(), "serving");
    out.line(format!("BrandOS serves at {url}"));
    out.line(format!("  API docs  {url}/docs"));
    out.line(format!("  metrics   {url}/metrics"));
    out.line("Stop with Ctrl-C.");
    out.value(&serde_json::json!({ "event": "serving", "url": url, "pid": std::process::id() }));
    running.run(out).await
}

/// Tells of a taken port before the databases are opened and migrated. The server's own bind still decides.
fn port_is_free(address: SocketAddr) -> Outcome {
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(e) => {
            let detail = match e.kind() {
                std::io::ErrorKind::AddrInUse => {
                    format!("{address} is in use by another program; stop that, or choose another with --listen")
                }
                _ => format!("cannot listen on {address}: {e}"),
            };
            Err(Failure::new(Exit::Unavailable, "cli.port_taken", detail))
        }
    }
}

/// Resolves with the signal's name when the process is told to stop.
pub(crate) fn stop_signal() -> Outcome<impl Future<Output = &'static str> + Send> {
    use tokio::signal::unix::{SignalKind, signal};
    let handler = |kind| signal(kind).map_err(|e| Failure::new(Exit::Unavailable, "cli.signals", format!("cannot listen to signals: {e}")));
    let (mut interrupt, mut terminate) = (handler(SignalKind::interrupt())?, handler(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        }
    })
}
