//! The project's own tools: `cargo xtask COMMAND`.

mod engines;
mod openapi;
mod scaffold;
mod source;
mod tidy;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const USAGE: &str = "\
cargo xtask COMMAND

  tidy                        check the rules of the house that the compiler can't see
  engines up [--state DIR]    start a private PostgreSQL with a replica and a PgBouncer, and print their environment
  engines down [--state DIR]  end exactly what `up` started (DIR: target/engines)
  openapi [--check]           write docs/openapi.json from the routes, or fail when it differs
  new-module NAME             start a module that compiles and is tidy
  bench ...                   run the benchmarks (`cargo xtask bench --help`)";

/// What a task returns: nothing, or what to tell the person who ran it.
pub(crate) type Outcome<T = ()> = Result<T, String>;

/// A line on stdout. A reader that has gone away is no error.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match run(&root(), &arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            let _ = writeln!(std::io::stderr().lock(), "{message}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the repository, which this was built in.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the repository").to_owned()
}

fn run(root: &Path, arguments: &[OsString]) -> Outcome {
    let words: Vec<&str> = arguments.iter().map(|argument| argument.to_str().unwrap_or_default()).collect();
    match words.as_slice() {
        ["tidy"] => tidy::run(root),
        ["engines", "up", rest @ ..] => engines::up(&state(root, rest)?),
        ["engines", "down", rest @ ..] => engines::down(&state(root, rest)?),
        ["openapi"] => openapi::run(root, false),
        ["openapi", "--check"] => openapi::run(root, true),
        ["new-module", name] => scaffold::new_module(root, name),
        ["bench", ..] => bench(root, &arguments[1..]),
        ["help" | "--help" | "-h"] => {
            say(USAGE);
            Ok(())
        }
        _ => Err(USAGE.to_owned()),
    }
}

fn state(root: &Path, rest: &[&str]) -> Outcome<engines::State> {
    match rest {
        [] => Ok(engines::State::new(root.join("target/engines"))),
        ["--state", folder] => Ok(engines::State::new(root.join(folder))),
        _ => Err(USAGE.to_owned()),
    }
}

fn bench(root: &Path, arguments: &[OsString]) -> Outcome {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let run = ["run", "--quiet", "--release", "--package", "brandos-bench", "--"];
    let status = Command::new(cargo).args(run).args(arguments).current_dir(root).status().map_err(|error| format!("cargo: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("the benchmark failed ({status})")) }
}
