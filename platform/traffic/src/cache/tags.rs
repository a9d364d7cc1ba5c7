//! Tags: what a value depends on. An invalidation raises the tag's generation, whatever hangs on it: it costs the same for one value and
//! for a million.

use siphasher::sip::SipHasher13;
use smallvec::SmallVec;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU32, Ordering::Acquire, Ordering::Release};

/// Tags share so many generations. Two tags that share one are invalidated together, which costs a load and is never wrong.
pub(crate) const BUCKETS: usize = 1 << 16;

/// Something that values depend on, such as a product, or all products of a tenant. The same on every node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(pub(crate) u16);

/// The tags of a value.
pub type Tags = SmallVec<[Tag; 3]>;

impl Tag {
    /// The tag of `what` in a scope (a tenant's id, or 0), such as `Tag::new("product", (tenant, product))`.
    pub fn new(kind: &str, what: impl Hash) -> Tag {
        // The keys are fixed: a tag means the same on every node and after every start.
        let mut hasher = SipHasher13::new_with_keys(0x6272_616e_646f_7321, 0x7461_6773_7461_6773);
        kind.hash(&mut hasher);
        what.hash(&mut hasher);
        Tag((hasher.finish() >> 48) as u16)
    }
}

/// What a value depends on, and the generations that held before it was loaded.
pub(crate) type Stamps = SmallVec<[(u16, u32); 4]>;

/// The generation of every tag, in this process.
pub(crate) struct Generations(Box<[AtomicU32]>);

impl Generations {
    pub(crate) fn new() -> Generations {
        Generations((0..BUCKETS).map(|_| AtomicU32::new(0)).collect())
    }

    pub(crate) fn of(&self, bucket: u16) -> u32 {
        self.0[usize::from(bucket)].load(Acquire)
    }

    /// Raises it, and gives what it is now.
    pub(crate) fn raise(&self, bucket: u16) -> u32 {
        self.0[usize::from(bucket)].fetch_add(1, Release).wrapping_add(1)
    }

    pub(crate) fn stamps(&self, tags: &[Tag]) -> Stamps {
        tags.iter().map(|tag| (tag.0, self.of(tag.0))).collect()
    }

    pub(crate) fn hold(&self, stamps: &[(u16, u32)]) -> bool {
        stamps.iter().all(|(bucket, generation)| self.of(*bucket) == *generation)
    }
}
