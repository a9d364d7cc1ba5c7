//! Logs on stderr: JSON for machines, lines for people.

use crate::config::{LogFormat, LogOptions};
use crate::exit::{Failure, Outcome};
use std::io::IsTerminal as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

/// Begins to write logs. Commands that end by themselves are `quiet`: they write warnings only, unless the level says more than its
/// default.
pub(crate) fn start(options: &LogOptions, quiet: bool) -> Outcome {
    let filter: Targets = if quiet && options.level == "info" {
        Targets::new().with_default(LevelFilter::WARN)
    } else {
        options.level.parse().map_err(|e| Failure::usage(format!("`log.level`: {e}")))?
    };
    let terminal = std::io::stderr().is_terminal();
    let json = match options.format {
        LogFormat::Json => true,
        LogFormat::Pretty => false,
        LogFormat::Auto => !terminal,
    };
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let layer = if json { layer.json().flatten_event(true).boxed() } else { layer.with_ansi(terminal).with_target(false).boxed() };
    // Only a second call fails, and then logs are written already.
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
    Ok(())
}
