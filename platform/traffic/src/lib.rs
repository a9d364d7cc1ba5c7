//! Rate limits, caches, and what keeps one slow neighbour from stopping everybody.
//!
//! Promises: a decision is exact where its algorithm is; several rules decide about one request all or none; what is remembered never grows
//! beyond what was set, whoever asks; rules change while requests run, and keep what was counted.
//! Must never know: HTTP, a route's meaning, a shop. Who asks is told by whoever calls.

mod address;
mod algorithm;
pub mod cache;
mod country;
mod hash;
mod lease;
mod limiter;
mod link;
pub mod lock;
mod redis_link;
pub mod resilience;
mod rules;
mod shared;
mod table;
mod watch;

pub use address::{Network, Networks, client, owner, plain};
pub use algorithm::{Algorithm, Log, MAX_DELAY_US, MAX_LOG, MAX_PER_US, Quota, State, Verdict};
pub use country::Countries;
pub use limiter::{Decision, Level, LimitedKey, Limiter, LimiterConfig, OpenConnection, Outcome, Rules, Take};
pub use rules::{DEFAULT_RULES, GENEROUS_RULES, Headers, Rule, RuleFile, Subject, WhenAway};
pub use shared::{SharedConfig, check_redis_url, shared_script};
pub use watch::watch;
