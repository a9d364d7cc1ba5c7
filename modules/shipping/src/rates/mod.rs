//! Where is shipped to, how, and what it costs.

pub(crate) mod cache;
pub(crate) mod commands;
pub mod model;
pub(crate) mod queries;
pub(crate) mod routes;
pub(crate) mod sql;
