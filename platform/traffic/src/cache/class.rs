//! What kind of value may be kept, and for how long: decided by the value's type, so that what must never be cached doesn't compile.

use serde::Serialize;
use serde::de::DeserializeOwned;

mod sealed {
    pub trait Sealed {}
}

/// A class of values. There are five, and no others.
pub trait Class: sealed::Sealed + 'static {
    /// As the admin view calls it.
    const NAME: &'static str;
}

/// A class whose values may be kept. [`NeverCache`] is none.
pub trait Cacheable: Class {
    /// How long a value is good, unless its cache says less (or, for [`Normal`] and [`Reference`], more).
    const TTL_MS: u64;
    /// No cache of this class may say more.
    const LONGEST_TTL_MS: u64;
    /// For so long after that it is still given while a new one is loaded behind it.
    const STALE_MS: u64;
    /// For so long after that it is given when no new one can be loaded.
    const STALE_IF_ERROR_MS: u64;
    /// How long it is remembered that there is no such value.
    const NEGATIVE_MS: u64;
    /// Whether nodes share it over Redis.
    const SHARED: bool;
}

/// Balances, the state of a payment, tokens, fraud flags: wrong as soon as they are old. No cache takes them.
pub enum NeverCache {}
/// For display only, such as counts: 5 seconds, in one node.
pub enum Short {}
/// Whatever changes now and then and is invalidated when it does.
pub enum Normal {}
/// What everybody reads and nobody changes by hand: exchange rates, countries. Refreshed each minute, and better old than missing.
pub enum Reference {}
/// What can never change again: a finished idempotent answer, a closed period.
pub enum Final {}

macro_rules! class {
    ($class:ident, $name:literal) => {
        impl sealed::Sealed for $class {}
        impl Class for $class {
            const NAME: &'static str = $name;
        }
    };
    ($class:ident, $name:literal, $ttl:expr, $longest:expr, $stale:expr, $error:expr, $negative:expr, $shared:expr) => {
        class!($class, $name);
        impl Cacheable for $class {
            const TTL_MS: u64 = $ttl;
            const LONGEST_TTL_MS: u64 = $longest;
            const STALE_MS: u64 = $stale;
            const STALE_IF_ERROR_MS: u64 = $error;
            const NEGATIVE_MS: u64 = $negative;
            const SHARED: bool = $shared;
        }
    };
}

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

class!(NeverCache, "never");
class!(Short, "short", 5 * SECOND, 5 * SECOND, 0, 0, SECOND, false);
class!(Normal, "normal", 5 * MINUTE, 24 * HOUR, 30 * SECOND, 10 * MINUTE, 5 * SECOND, true);
class!(Reference, "reference", MINUTE, 24 * HOUR, 10 * MINUTE, 24 * HOUR, 5 * SECOND, true);
class!(Final, "final", 24 * HOUR, 24 * HOUR, 0, 24 * HOUR, SECOND, true);

/// A type whose values a cache may be asked to keep. Whether it does is decided by the class:
///
/// ```
/// use brandos_traffic::cache::{Cache, Cached, Caches, Normal, Settings, Tags};
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Product(String);
/// impl Cached for Product {
///     type Class = Normal;
///     fn bytes(&self) -> usize { self.0.len() }
/// }
/// fn products(caches: &Caches) -> kernel::Result<Cache<i64, Product>> {
///     Cache::new(caches, Settings::of::<Product>("catalog.products"), |_| Tags::NONE)
/// }
/// ```
///
/// A balance in a cache does not compile:
///
/// ```compile_fail,E0277
/// use brandos_traffic::cache::{Cache, Cached, Caches, NeverCache, Settings, Tags};
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Balance(i64);
/// impl Cached for Balance {
///     type Class = NeverCache;
///     fn bytes(&self) -> usize { 8 }
/// }
/// fn balances(caches: &Caches) -> kernel::Result<Cache<i64, Balance>> {
///     Cache::new(caches, Settings::of::<Balance>("ledger.balances"), |_| Tags::NONE)
/// }
/// ```
///
/// Nor does a type that says nothing:
///
/// ```compile_fail,E0277
/// use brandos_traffic::cache::{Cache, Caches, Settings, Tags};
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Token(String);
/// fn tokens(caches: &Caches, settings: Settings) -> kernel::Result<Cache<i64, Token>> {
///     Cache::new(caches, settings, |_| Tags::NONE)
/// }
/// ```
pub trait Cached: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Its class.
    type Class: Class;

    /// About how much memory it holds, in bytes.
    fn bytes(&self) -> usize;

    /// Whether it says what another value of the same key says: one that is remembered is then as good as this one, and stays in its place.
    /// For what is found the same again and again, by something cheap such as its version; false where there is no such thing.
    fn same(&self, _other: &Self) -> bool {
        false
    }
}
