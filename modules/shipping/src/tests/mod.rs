//! Tests of this module: rules as tables and properties, and stories over HTTP on each engine.

mod carriers;
mod events;
mod rates;
mod shipments;
mod stories;
