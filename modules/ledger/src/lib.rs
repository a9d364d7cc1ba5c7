//! The ledger: immutable double entry.
//!
//! Promises: debits and credits of each transaction and currency are equal; nothing that was recorded is changed or removed, and what was
//! wrong is taken back by a new transaction; a balance is the sum of its entries at every moment, now and in the past; what is held is
//! not available to anybody else, and an expired hold holds nothing; no account goes beyond its limit; a key and an external reference
//! happen once, for ever; guards are asked in one documented order, and each has one named outcome.
//! Must never know: payments, wallets, orders, or what anybody buys.

mod engine;
mod error;
mod model;
#[cfg(test)]
mod tests;

pub use model::*;
