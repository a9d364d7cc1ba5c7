//! What stands between BrandOS and a dependency that may be slow, down or lying: one policy for each dependency, made of a bulkhead, a
//! circuit breaker, a timeout, retries with a budget, and a fallback.
//!
//! Every decision is a plain state machine over microseconds that were passed in ([`Breaker`], [`Budget`], [`backoff_us`]); only
//! [`Policy::call`] waits. A call goes through them in this order, from the outside in:
//!
//! 1. the caller's deadline: what can't be in time is not begun;
//! 2. the bulkhead, for the whole call with its retries: one that hangs takes no more than its seats;
//! 3. each attempt: the breaker, then the timeout, which never reaches beyond the deadline;
//! 4. after a failure that may pass: a pause with full jitter, if the budget has a token left;
//! 5. the fallback, if the caller gave one.

mod breaker;
mod policy;
mod shed;
#[cfg(test)]
mod tests;

pub use breaker::{Breaker, BreakerConfig, BreakerState, Pass};
pub use policy::{Budget, Deadline, MAX_POLICIES, Policies, Policy, PolicyConfig, backoff_us};
pub use shed::{Priority, Shedder, Slot};
