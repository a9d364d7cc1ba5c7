//! What happens to a placed order besides its lines: it is held for review, arrives, is written about and tagged.

pub(crate) mod commands;
pub mod model;
pub(crate) mod queries;
pub(crate) mod routes;
pub(crate) mod sql;
