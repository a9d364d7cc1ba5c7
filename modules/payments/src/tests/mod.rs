//! Tests of this module: rules as tables and properties, stories over HTTP with a provider that misbehaves, and many seeded runs.

mod fakestripe;
mod hostile;
mod localstripe;
mod merchants;
mod mishaps;
mod records;
mod rules;
mod settlement;
mod stories;
pub(crate) mod world;
