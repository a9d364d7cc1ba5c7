//! Tags: what a value depends on. An invalidation raises the tag's generation, whatever hangs on it: it costs the same for one value and
//! for a million.

use siphasher::sip::SipHasher13;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering::Acquire, Ordering::Release};

/// Tags share so many generations. Two tags that share one are invalidated together, which costs a load and is never wrong.
pub(crate) const BUCKETS: usize = 1 << 16;

/// Something that values depend on, such as a product, or all products of a tenant. The same on every node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(pub(crate) u16);

/// The tags of a value, three at most: a value that depends on more is better two values.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tags {
    tags: [Tag; MOST],
    count: usize,
}

/// Tags of a value, its cache's own aside.
const MOST: usize = 3;

impl Tags {
    /// No tag but the cache's own.
    pub const NONE: Tags = Tags { tags: [Tag(0); MOST], count: 0 };

    /// These. More than three don't compile.
    pub fn of<const N: usize>(some: [Tag; N]) -> Tags {
        const { assert!(N <= MOST, "a value has three tags at most") };
        let mut tags = Tags { count: N, ..Tags::NONE };
        tags.tags[..N].copy_from_slice(&some);
        tags
    }
}

impl Deref for Tags {
    type Target = [Tag];
    fn deref(&self) -> &[Tag] {
        &self.tags[..self.count]
    }
}

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

/// What a value depends on, and the generations that held before it was loaded: of its tags, and last of its cache's own. Places without a
/// tag of the value have the cache's own. 24 bytes: an entry's head has to fit on one line of the processor's cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamps {
    generations: [u32; MOST + 1],
    tags: [Tag; MOST],
}

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

    /// What holds now for a value with these tags, in the cache with this tag.
    pub(crate) fn stamps(&self, tags: Tags, own: Tag) -> Stamps {
        let all = std::array::from_fn(|place| tags.get(place).copied().unwrap_or(own));
        self.again(all, own)
    }

    /// Whether what held then still does. `own` is the cache's tag.
    pub(crate) fn hold(&self, stamps: &Stamps, own: Tag) -> bool {
        *stamps == self.again(stamps.tags, own)
    }

    fn again(&self, tags: [Tag; MOST], own: Tag) -> Stamps {
        let [a, b, c] = tags;
        Stamps { generations: [a, b, c, own].map(|tag| self.of(tag.0)), tags }
    }
}

impl Stamps {
    /// The buckets of the value's tags and of its cache's own, each once, in an order that is the same on every node.
    pub(crate) fn buckets(&self, own: Tag) -> Vec<u16> {
        let mut buckets: Vec<u16> = self.tags.iter().chain([&own]).map(|tag| tag.0).collect();
        buckets.sort_unstable();
        buckets.dedup();
        buckets
    }

    /// What holds when each of these tags has been raised once more.
    pub(crate) fn raised(mut self, raised: &[Tag], own: Tag) -> Stamps {
        let [a, b, c] = self.tags;
        for (tag, generation) in [a, b, c, own].into_iter().zip(&mut self.generations) {
            let times = raised.iter().filter(|other| **other == tag).count() as u32;
            *generation = generation.wrapping_add(times);
        }
        self
    }
}
