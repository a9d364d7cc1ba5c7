//! Outgoing HTTP: requests with bounds on time, size and addresses under the policy of who is called, signatures of the Standard Webhooks
//! specification, and the sealing of the secrets with which others are called. Nothing else in the house calls out (`cargo xtask tidy` sees
//! to it).
//!
//! Promises: every request ends within its time, and within the caller's; one who hangs takes no more than the seats of its bulkhead; a
//! request is repeated only when it was certainly not seen, or when who asks says that it may be; an answer is never larger than its bound; a failure says whether the other side may have
//! seen the request; a signature is compared in constant time.
//! Must never know: what is asked for, or of whom. It never logs: what goes out may hold secrets.

mod guard;
mod http;
mod seal;
pub mod webhook;

pub use guard::{below_known, is_public};
pub use http::{Client, ClientConfig, Failure, Request, Response};
pub use hyper::Method;
pub use seal::SealingKey;
