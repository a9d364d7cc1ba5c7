//! Carriers: how they are called, the labels that they sell and take back, and what they tell of parcels.

pub(crate) mod adapter;
pub(crate) mod commands;
pub mod model;
pub(crate) mod queries;
pub(crate) mod routes;
pub(crate) mod service;
pub(crate) mod sql;
pub(crate) mod workflows;
