//! Tests of this module: rules as tables and properties, and stories over HTTP on each engine.

mod rules;
mod stories;
