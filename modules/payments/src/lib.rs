//! Payments: intents, the providers that are asked for money, and what becomes of both.
//!
//! Promises: x
//! Must never know: x

mod adapter;
mod card;
mod model;
mod routing;
mod seal;
#[cfg(test)]
mod tests;
