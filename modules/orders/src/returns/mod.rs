//! Goods that come back: asked for, approved, received, inspected, refunded or exchanged.

pub(crate) mod commands;
pub mod model;
pub(crate) mod queries;
pub(crate) mod routes;
pub(crate) mod sql;
