//! Others of our own, for tests, demos and benchmarks: a card provider's HTTP API that misbehaves on demand, and beside it a carrier's
//! (`carrier`), which sells labels and loses parcels.
//!
//! Promises: each does exactly what a token, a service or the seed says, the same for the same seed; each honours idempotency keys, and
//! nothing else makes a request happen once (two keys with one reference are two charges); `GET /books` shows everything, and the
//! provider's books survive being killed at any moment when they have a file; everything they hold is bounded.
//! Must never know: BrandOS. They are the other side, and share no table, type or secret with it but the configured ones.

mod behaviour;
mod books;
mod callbacks;
mod carrier;
mod disk;
mod generated;
mod routes;
mod server;
mod settlement;
#[cfg(test)]
mod tests;

pub use behaviour::{Fault, Rates, Verdict};
pub use books::{Charge, Decline, Dispute, DisputeState, Movement, Status};
pub use carrier::{Carrier, CarrierConfig, Label, LabelStatus, ScanStatus, serve_carrier};
pub use generated::{DIFFERENCES, GeneratedDay, Made};
pub use server::{Sandbox, SandboxConfig, serve};
