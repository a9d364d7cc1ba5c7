//! Tests of this module: rules as tables and properties, stories over HTTP with a provider that misbehaves, and many seeded runs.

mod hostile;
mod localstripe;
mod rules;
mod stories;
mod world;
