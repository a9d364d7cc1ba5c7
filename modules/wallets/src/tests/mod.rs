//! Tests of this module: the score as tables and properties, stories over HTTP on both engines, the guide's examples, and what the audits
//! find.

mod audits;
mod guide;
mod outside;
mod rules;
mod stories;
mod storm;
mod world;
