//! Tests of this module: rules as tables and properties, and stories over HTTP on each engine.

mod returns;
mod rules;
mod stories;
