//! The binary `brandos`: reads the command line and the configuration, and hands over to the command.

mod admin;
mod audit;
mod backup;
mod catalog;
mod cli;
mod config;
mod dead_letters;
mod demo;
mod demo_catalog;
mod demo_payments;
mod demo_shop;
mod doctor;
mod exit;
mod flows;
mod import;
mod input;
mod ledger;
mod limits;
mod lock;
mod logging;
mod migrate;
mod openapi;
mod output;
#[cfg(test)]
mod plans;
mod reconcile;
mod resilience;
mod sandbox_psp;
mod serve;
mod upkeep;
mod wiring;
mod workflows;

use clap::Parser as _;
use cli::{Cli, Command, Common, Import};
use config::{Config, Given};
use exit::{Exit, Failure, Outcome};
use output::Output;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(told) => {
            // --help and --version end here too, on stdout and with 0.
            let _ = told.print();
            return ExitCode::from(if told.use_stderr() { Exit::Usage as u8 } else { Exit::Ok as u8 });
        }
    };
    let out = Output::new(cli.common.json);
    let ended = configuration(&cli).and_then(|config| run(cli.command, config, out));
    let exit = ended.unwrap_or_else(|failure| {
        out.failure(&failure);
        failure.exit
    });
    ExitCode::from(exit as u8)
}

/// File, environment and flags, put together.
fn configuration(cli: &Cli) -> Outcome<Config> {
    let path = cli.common.config.clone().or_else(|| std::env::var_os("BRANDOS_CONFIG").map(Into::into));
    let file = match path {
        None => None,
        Some(path) => {
            let text = std::fs::read_to_string(&path)
                .map_err(|e| Failure::usage(format!("cannot read the configuration file {}: {e}", path.display())))?;
            Some((path.display().to_string(), text))
        }
    };
    let lossy = |s: std::ffi::OsString| s.to_string_lossy().into_owned();
    let environment = std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value))).collect();
    Config::build(&Given { file, environment, flags: flags(&cli.common, &cli.command)? })
}

/// The flags that stand for options.
fn flags(common: &Common, command: &Command) -> Outcome<Vec<(String, String, String)>> {
    let mut flags = Vec::new();
    for pair in &common.set {
        let (key, value) = pair.split_once('=').ok_or_else(|| Failure::usage(format!("--set takes NAME=VALUE, not {pair:?}")))?;
        flags.push((format!("--set {key}"), key.to_owned(), value.to_owned()));
    }
    let mut flag = |name: &str, key: &str, value: &str| flags.push((name.to_owned(), key.to_owned(), value.to_owned()));
    if let Some(data) = &common.data {
        flag("--data", "data", data);
    }
    if !common.database.is_empty() {
        flag("--database", "database", &common.database.join(","));
    }
    let (Command::Serve(cli::Serve { listen }) | Command::Demo(cli::Demo { listen, .. })) = command else { return Ok(flags) };
    if let Some(listen) = listen {
        flag("--listen", "web.listen", listen);
    }
    Ok(flags)
}

/// Runs the command on a runtime of its own.
fn run(command: Command, config: Config, out: Output) -> Outcome<Exit> {
    let quiet = !matches!(command, Command::Serve(_) | Command::Demo(_) | Command::SandboxPsp(_) | Command::SandboxCarrier(_));
    logging::start(&config.log, quiet)?;
    // What needs neither runtime nor store.
    match &command {
        Command::Config(show) => return Ok(show_config(&config, show, out)),
        Command::Openapi => return openapi::print(out),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("brandos")
        .build()
        .map_err(|e| Failure::new(Exit::Unavailable, "cli.runtime", format!("cannot start the runtime: {e}")))?;
    runtime.block_on(async {
        match command {
            Command::Serve(_) => serve::serve(config, out).await,
            Command::Demo(demo) => demo::demo(config, &demo, out).await,
            Command::Tenant(command) => admin::tenant(config, command, out).await,
            Command::User(command) => admin::user(config, command, out).await,
            Command::ApiKey(command) => admin::api_key(config, command, out).await,
            Command::Import(Import::OnlineRetail(import)) => import::online_retail(config, import, out).await,
            Command::Migrate(cli::Migrate { status: true }) => migrate::status(config, out).await,
            Command::Migrate(_) => migrate::migrate(config, out).await,
            Command::Limits(command) => limits::limits(config, command, out).await,
            Command::Audit => audit::audit(config, out).await,
            Command::Ledger(command) => ledger::ledger(config, command, out).await,
            Command::Catalog(command) => catalog::run(config, command, out).await,
            Command::Reconcile(given) => reconcile::run(config, given, out).await,
            Command::Replay(replay) => dead_letters::replay(config, &replay, out).await,
            Command::DeadLetters(command) => dead_letters::dead_letters(config, command, out).await,
            Command::Workflow(command) => workflows::workflow(config, command, out).await,
            Command::Backup(backup) => backup::backup(config, &backup, out).await,
            Command::Restore(restore) => backup::restore(config, &restore, out).await,
            Command::SandboxPsp(sandbox) => sandbox_psp::sandbox_psp(sandbox, out).await,
            Command::SandboxCarrier(carrier) => sandbox_psp::sandbox_carrier(carrier, out).await,
            Command::Doctor => doctor::doctor(config, out).await,
            Command::Openapi | Command::Config(_) => unreachable!("done above"),
        }
    })
}

fn show_config(config: &Config, show: &cli::ShowConfig, out: Output) -> Exit {
    if show.example {
        out.raw(config::example().trim_end());
        return Exit::Ok;
    }
    let shown = config.shown();
    let options: serde_json::Map<String, serde_json::Value> =
        shown.iter().map(|(key, value, source)| ((*key).to_owned(), serde_json::json!({ "value": value, "source": source }))).collect();
    out.value(&options);
    out.table(
        &["OPTION", "VALUE", "SOURCE"],
        &shown.into_iter().map(|(key, value, source)| vec![key.to_owned(), value, source]).collect::<Vec<_>>(),
    );
    Exit::Ok
}
