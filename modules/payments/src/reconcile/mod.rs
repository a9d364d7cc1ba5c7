//! Reconciliation: a provider's settlement file, row by row, against what the payments say that the provider did.
//!
//! `format` reads rows by a declared mapping, `matching` finds what belongs together and classifies what differs, `run` goes through a file
//! with bounded memory and writes down what was found, `books` posts payouts and what corrects a difference.

mod books;
mod commands;
mod format;
mod matching;
mod queries;
mod routes;
mod run;
pub(crate) mod sql;

pub use format::{Amounts, Columns, Format, Rule, RuleAction};
pub use matching::BreakKind;
pub use queries::{Break, BreakId, RunId, RunView, Summary};
pub use run::{Source, reconcile};

pub(crate) use routes::routes;
