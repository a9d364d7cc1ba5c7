//! Others of our own, for tests, demos and benchmarks: a card provider's HTTP API that misbehaves on demand, and a carrier's beside it
//! (`carrier`), which sells labels and loses parcels.
//!
//! Promises of the provider: it keeps its own books, which `GET /books` shows whole, and with a file they survive being killed at any moment; it does
//! exactly what a token or the seed says, the same for the same seed; it honours idempotency keys, and nothing else makes a request
//! happen once (two keys with one reference are two charges); everything it holds is bounded.
//! Must never know: BrandOS. It is the other side, and shares no table, type or secret with it but the two configured ones.

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
