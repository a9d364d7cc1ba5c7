//! The words that every part of BrandOS shares: ids, money, time, errors, pages, tenants and scopes.
//!
//! Promises: nothing here does I/O, waits, reads the wall clock on its own or draws randomness that was not passed in.
//! Must never know: a database, a protocol, or what a shop is.

mod clock;
mod error;
mod faults;
mod id;
mod money;
mod page;
mod rng;
mod scope;
#[cfg(test)]
mod tests;

pub use clock::{Clock, ManualClock, SystemClock, Timestamp};
pub use error::{Error, ErrorKind, FieldError, Result};
pub use faults::Faults;
pub use id::{AnyId, Entity, Id, IdGenerator};
pub use money::{Currency, Money, UnitPrice};
pub use page::{CursorKey, MAX_PAGE, Page, PageRequest};
pub use rng::{Rng, SeededRng, SystemRng};
pub use scope::{Actor, ActorKind, Scope, Tenant, TenantId};
