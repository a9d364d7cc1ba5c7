//! `openapi`: docs/openapi.json is what the routes generate.

use crate::Outcome;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// The committed description of the HTTP API.
const FILE: &str = "docs/openapi.json";

/// Asks the binary for its description, and writes it to [`FILE`], or with `check` compares the two.
pub(crate) fn run(root: &Path, check: bool) -> Outcome {
    let generated = generate(root)?;
    let path = root.join(FILE);
    if !check {
        return fs::write(&path, generated).map_err(|error| format!("{FILE}: {error}"));
    }
    let committed = fs::read_to_string(&path).map_err(|error| format!("{FILE}: {error}"))?;
    match first_difference(&committed, &generated) {
        None => Ok(()),
        Some(difference) => Err(format!("{FILE} is not what the routes generate (run `cargo xtask openapi`): {difference}")),
    }
}

fn generate(root: &Path) -> Outcome<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["run", "--quiet", "--package", "brandos", "--", "openapi"])
        .current_dir(root)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("`brandos openapi` failed ({})", output.status));
    }
    pretty(&output.stdout)
}

/// The same JSON on many lines, so that a change can be read in a review.
fn pretty(json: &[u8]) -> Outcome<String> {
    let value: serde_json::Value =
        serde_json::from_slice(json).map_err(|error| format!("`brandos openapi` did not print JSON: {error}"))?;
    serde_json::to_string_pretty(&value).map(|text| text + "\n").map_err(|error| error.to_string())
}

fn first_difference(committed: &str, generated: &str) -> Option<String> {
    if committed == generated {
        return None;
    }
    let (mut old, mut new) = (committed.lines(), generated.lines());
    for line in 1.. {
        let (old, new) = (old.next(), new.next());
        if old != new {
            return Some(format!("line {line} is `{}` and should be `{}`", old.unwrap_or_default().trim(), new.unwrap_or_default().trim()));
        }
        if old.is_none() {
            break;
        }
    }
    Some("they differ in their line ends".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_told() {
        for (committed, generated, difference) in [
            ("{\n}\n", "{\n}\n", None),
            ("a\nb\n", "a\nc\n", Some("line 2 is `b` and should be `c`")),
            ("a\n", "a\nb\n", Some("line 2 is `` and should be `b`")),
            ("a\r\n", "a\n", Some("they differ in their line ends")),
        ] {
            assert_eq!(first_difference(committed, generated).as_deref(), difference);
        }
    }

    #[test]
    fn what_is_not_json_is_refused() {
        assert!(pretty(b"error").is_err());
        assert_eq!(pretty(br#"{"a":1}"#).as_deref(), Ok("{\n  \"a\": 1\n}\n"));
    }
}
