//! Outgoing HTTP: requests with bounds on time and size, and signatures of the Standard Webhooks specification.
//!
//! Promises: every request ends within its time; an answer is never larger than its bound; a failure says whether the other side may have
//! seen the request; a signature is compared in constant time.
//! Must never know: what is asked for, or of whom. It never logs: what goes out may hold secrets.

mod http;
pub mod webhook;

pub use http::{Client, ClientConfig, Failure, Request, Response};
pub use hyper::Method;
