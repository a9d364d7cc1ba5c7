//! Tests of this module: a table of cases that a reader can check by hand, run through the pure engine and through both databases; a naive
//! ledger to compare with; and stories over HTTP.

mod cases;
mod chain;
mod engines;
mod hledger;
mod model;
mod stories;
