//! Tests of this module.
mod rules;
