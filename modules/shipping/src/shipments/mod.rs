//! Goods on their way: shipments, their parcels, and what becomes known of them.

pub(crate) mod commands;
pub mod model;
pub(crate) mod queries;
pub(crate) mod routes;
pub(crate) mod sql;
