//! Caches: typed, in process (L1, weighed in bytes) and shared over Redis (L2), with a bound on how old an invalidated value can be.
//!
//! Promises: a value's type decides whether it may be kept at all ([`Cached`]); memory has a bound in bytes; one miss loads once in a node,
//! and once over all nodes that share a Redis; a load that began before an invalidation never serves a caller that came after it;
//! after [`Caches::invalidate`] has returned, this node never serves the old value, and no other node serves it for longer than
//! [`BusConfig::bound_us`], even when messages are lost (the proof is in `bus.rs`).
//! Must never know: what is cached, and where it comes from.
//!
//! In reading order: `class` says what may be kept, `tags` what it depends on, `typed` is the cache itself, `hub` what all caches of a
//! process share, `bus` how nodes tell each other, `shared` is Redis, `gather` how it is read.

mod bus;
mod class;
mod gather;
mod hub;
mod ring;
mod shared;
mod tags;
#[cfg(test)]
mod tests;
mod typed;

pub use bus::{Bus, BusConfig, Heard, Kind, Message};
pub use class::{Cacheable, Cached, Class, Final, NeverCache, Normal, Reference, Short};
pub use hub::{BusView, CacheView, Caches, CachesConfig};
pub use ring::Ring;
pub use shared::CacheRedis;
pub use tags::{Tag, Tags};
pub use typed::{Cache, Found, Settings, Sourced};
