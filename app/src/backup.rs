//! `brandos backup`, `restore` and `tenant move`.

use crate::cli;
use crate::config::Config;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::Output;

/// Copies the node while it serves.
pub(crate) async fn backup(_config: Config, _backup: &cli::Backup, _out: Output) -> Outcome<Exit> {
    Err(Failure::usage("not built yet"))
}

/// Brings a backup back.
pub(crate) async fn restore(_config: Config, _restore: &cli::Restore, _out: Output) -> Outcome<Exit> {
    Err(Failure::usage("not built yet"))
}

/// Moves a tenant.
pub(crate) async fn move_tenant(_config: Config, _tenant: &str, _to_shard: u16, _out: Output) -> Outcome<Exit> {
    Err(Failure::usage("not built yet"))
}
