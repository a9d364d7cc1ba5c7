//! Merchants of a tenant: what they have earned and what it cost, held back and paid out, in batches.
//!
//! Every capture and refund for a merchant waits until a batch settles it, and so does a fee that only a settlement file tells. A batch moves customers' money to each merchant's account, takes
//! the fees and the reserve from it, gives back reserves whose time is over, and pays out what is left. Below zero nothing is paid out: the
//! next batch begins there.

mod batch;
mod commands;
mod queries;
mod routes;
pub(crate) mod sql;

pub(crate) use commands::{note_fee, note_operation};
pub(crate) use queries::AUDIT;
pub(crate) use routes::routes;
