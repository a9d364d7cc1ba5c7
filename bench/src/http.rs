//! The order path over HTTP.

use clap::Args;

/// Options of `http`.
#[derive(Args)]
pub struct Options {
    /// `host:port` of the server.
    #[arg(long)]
    address: String,
}

/// Runs it.
pub async fn run(options: Options) {
    let _ = options.address;
}
