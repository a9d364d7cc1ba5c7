//! Time-ordered 64-bit ids: 41 bits of milliseconds since 2020-01-01, 10 of node, 12 of sequence; shown as `ord_` + base62.

use crate::{Clock, Error, Result};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// 2020-01-01T00:00:00Z in Unix milliseconds; ids last until 2089.
const EPOCH_MS: u64 = 1_577_836_800_000;
const NODE_BITS: u32 = 10;
const SEQUENCE_BITS: u32 = 12;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// 62^11 > 2^63, so every id has exactly this many digits, and ids sort as text as they sort as numbers.
const DIGITS: usize = 11;

/// What an id belongs to. The prefix is part of the wire format and never changes.
pub trait Entity: 'static {
    /// Three or four lower-case letters, such as `ord`.
    const PREFIX: &'static str;
}

/// The id of an `E`: a positive 64-bit number in the store, `prefix_` + 11 base62 digits on the wire.
pub struct Id<E>(i64, PhantomData<fn() -> E>);

/// An id of whatever kind, for tables that point at several.
pub type AnyId = i64;

impl<E> Id<E> {
    /// The id with this number, which must have come from an [`IdGenerator`] or the store.
    pub const fn from_i64(value: i64) -> Self {
        Id(value, PhantomData)
    }

    /// The number that is stored.
    pub const fn as_i64(self) -> i64 {
        self.0
    }

    /// When it was made, in Unix milliseconds.
    pub const fn unix_ms(self) -> i64 {
        (self.0 >> (NODE_BITS + SEQUENCE_BITS)) + EPOCH_MS as i64
    }

    /// The smallest id that could be made at `unix_ms`: bounds a time range of ids.
    pub const fn first_at(unix_ms: i64) -> Self {
        let since = unix_ms - EPOCH_MS as i64;
        Id(if since < 0 { 0 } else { since << (NODE_BITS + SEQUENCE_BITS) }, PhantomData)
    }
}

impl<E> Clone for Id<E> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<E> Copy for Id<E> {}
impl<E> PartialEq for Id<E> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<E> Eq for Id<E> {}
impl<E> PartialOrd for Id<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<E> Ord for Id<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}
impl<E> Hash for Id<E> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl<E: Entity> fmt::Display for Id<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [b'0'; DIGITS];
        let mut rest = self.0 as u64;
        for digit in digits.iter_mut().rev() {
            *digit = ALPHABET[(rest % 62) as usize];
            rest /= 62;
        }
        f.write_str(E::PREFIX)?;
        f.write_str("_")?;
        f.write_str(std::str::from_utf8(&digits).expect("the alphabet is ASCII"))
    }
}

impl<E: Entity> fmt::Debug for Id<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<E: Entity> FromStr for Id<E> {
    type Err = Error;

    /// Errors: `request.invalid_id` when the prefix, the length or a digit is wrong, or the number is not positive.
    fn from_str(text: &str) -> Result<Self> {
        let wrong =
            || Error::invalid("request.invalid_id", format!("not an id of the form {}_ followed by {DIGITS} letters or digits", E::PREFIX));
        let digits = text.strip_prefix(E::PREFIX).and_then(|t| t.strip_prefix('_')).ok_or_else(wrong)?;
        if digits.len() != DIGITS {
            return Err(wrong());
        }
        let mut value: u64 = 0;
        for byte in digits.bytes() {
            let digit = match byte {
                b'0'..=b'9' => byte - b'0',
                b'A'..=b'Z' => byte - b'A' + 10,
                b'a'..=b'z' => byte - b'a' + 36,
                _ => return Err(wrong()),
            };
            value = value.checked_mul(62).and_then(|v| v.checked_add(u64::from(digit))).ok_or_else(wrong)?;
        }
        match i64::try_from(value) {
            Ok(value) if value > 0 => Ok(Id::from_i64(value)),
            _ => Err(wrong()),
        }
    }
}

impl<E: Entity> serde::Serialize for Id<E> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, E: Entity> serde::Deserialize<'de> for Id<E> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(|e: Error| serde::de::Error::custom(e.detail()))
    }
}

impl<E: Entity> utoipa::PartialSchema for Id<E> {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .pattern(Some(format!("^{}_[0-9A-Za-z]{{{DIGITS}}}$", E::PREFIX)))
            .into()
    }
}

impl<E: Entity> utoipa::ToSchema for Id<E> {
    fn name() -> std::borrow::Cow<'static, str> {
        format!("Id_{}", E::PREFIX).into()
    }
}

/// Makes ids that rise, across threads, as long as this node runs; a clock that steps back is ridden out by counting on.
pub struct IdGenerator {
    clock: Arc<dyn Clock>,
    node: u64,
    /// Milliseconds since the epoch in the high bits, the sequence in the low 12.
    last: AtomicU64,
}

impl IdGenerator {
    /// `node` must differ between the processes that write to one shard at once; only its low 10 bits count.
    pub fn new(clock: Arc<dyn Clock>, node: u16) -> Self {
        IdGenerator { clock, node: u64::from(node) & ((1 << NODE_BITS) - 1), last: AtomicU64::new(0) }
    }

    /// The next id, greater than every one before it from this generator.
    pub fn next<E>(&self) -> Id<E> {
        self.next_above(Id::from_i64(0))
    }

    /// The next id, greater than every one before it from this generator, and than `above`, which another node may have made.
    pub fn next_above<E>(&self, above: Id<E>) -> Id<E> {
        let now_ms = (self.clock.now().unix_ms().max(0) as u64).saturating_sub(EPOCH_MS);
        let above_ms = (above.as_i64().max(0) as u64) >> (NODE_BITS + SEQUENCE_BITS);
        let mut last = self.last.load(Relaxed);
        loop {
            // Only who is behind has to count on from the next millisecond of the other's: its own last id is no reason to, or a
            // thousand ids in a row would be a second ahead of the clock.
            let behind = above.as_i64() > 0 && above_ms >= now_ms && above.as_i64() > self.id(last);
            let floor = if behind { above_ms + 1 } else { now_ms } << SEQUENCE_BITS;
            // When a millisecond's 4,096 are used up the sequence runs over into the next one.
            let next = floor.max(last + 1);
            match self.last.compare_exchange_weak(last, next, Relaxed, Relaxed) {
                Ok(_) => return Id::from_i64(self.id(next)),
                Err(seen) => last = seen,
            }
        }
    }

    /// The id of this node for milliseconds and sequence.
    fn id(&self, at: u64) -> i64 {
        let (ms, sequence) = (at >> SEQUENCE_BITS, at & ((1 << SEQUENCE_BITS) - 1));
        ((ms << (NODE_BITS + SEQUENCE_BITS)) | (self.node << SEQUENCE_BITS) | sequence) as i64
    }
}
