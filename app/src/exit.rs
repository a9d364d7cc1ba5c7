//! How a command ends: the documented exit codes, and the failure that carries one with what to say.

use kernel::{Error, ErrorKind};
use std::fmt;

/// The exit codes of `brandos`, the same for every command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done.
    Ok = 0,
    /// It ran, and a check failed (`audit`, `doctor`, `migrate --status`, an import that refused invoices or rows of a catalog, `reconcile` with
    /// something that differs).
    CheckFailed = 1,
    /// Wrong usage, configuration or input; the same call never succeeds.
    Usage = 2,
    /// Something that is needed is away or too busy; try again.
    Unavailable = 3,
    /// Refused by the state of things: not found, already there, in use, not allowed now.
    Refused = 4,
    /// A bug, or data that breaks an invariant.
    Internal = 5,
}

/// The codes as `--help` shows them.
pub(crate) const EXIT_HELP: &str = "\
Exit codes:
  0  done
  1  it ran, and a check failed
  2  wrong usage, configuration or input
  3  something that is needed is away or too busy: try again
  4  refused: not found, already there, in use, or not allowed now
  5  a bug in BrandOS or data that breaks an invariant";

/// Why a command failed: the code it exits with, a stable name, and words for a person.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The process ends with this.
    pub(crate) exit: Exit,
    /// Stable, such as `cli.folder_in_use` or the `kernel::Error`'s own code.
    pub(crate) code: &'static str,
    /// What went wrong and what to do about it.
    pub(crate) detail: String,
}

/// What every command returns.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure that is not a `kernel::Error`.
    pub(crate) fn new(exit: Exit, code: &'static str, detail: impl Into<String>) -> Failure {
        Failure { exit, code, detail: detail.into() }
    }

    /// Wrong configuration or arguments.
    pub(crate) fn usage(detail: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, "cli.usage", detail)
    }

    /// A file or folder that can't be used, with what was tried.
    pub(crate) fn file(what: impl fmt::Display, path: &std::path::Path, error: &std::io::Error) -> Failure {
        Failure::new(Exit::Unavailable, "cli.file", format!("{what} {}: {error}", path.display()))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let exit = match error.kind() {
            ErrorKind::Invalid => Exit::Usage,
            ErrorKind::NotFound
            | ErrorKind::Conflict
            | ErrorKind::FailedPrecondition
            | ErrorKind::Forbidden
            | ErrorKind::Unauthenticated
            | ErrorKind::Limited => Exit::Refused,
            ErrorKind::Overloaded | ErrorKind::Unavailable | ErrorKind::Unknown => Exit::Unavailable,
            ErrorKind::Internal => Exit::Internal,
        };
        let mut detail = error.detail().to_owned();
        for field in error.field_errors() {
            detail.push_str(&format!("; {}: {}", field.field, field.detail));
        }
        // On the operator's own terminal the cause is wanted, unlike over HTTP.
        let mut cause = error.cause().map(|c| c as &dyn std::error::Error);
        while let Some(error) = cause {
            detail.push_str(&format!("; {error}"));
            cause = error.source();
        }
        Failure { exit, code: error.code(), detail }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.detail, self.code)
    }
}
