//! Idempotency keys on SQLite: clients' keys are random, and random keys in one large index are slow (17 times at five million).
//! So keys stand in buckets that are opened one after another: only the open bucket's pages are written to, and a sealed bucket has a
//! Bloom filter that answers almost every question about it. Filters are stored at sealing and loaded at start.

/// A bucket is sealed when it holds this many keys: its pages stay in the page cache.
const BUCKET_KEYS: u64 = 200_000;
/// A bucket is sealed when it is this old, so that purging by bucket is timely.
const BUCKET_MS: i64 = 60 * 60 * 1_000;
/// The bucket of keys that a tenant brought along from another shard, or that a restore brought back.
pub(crate) const ARRIVED: i64 = 0;
/// Keys are kept this long after their bucket is sealed.
pub(crate) const KEEP_MS: i64 = 24 * 60 * 60 * 1_000;
/// Sixteen bits for each key, of which eight are set: one false alarm in several hundred.
const BITS_PER_KEY: u64 = 16;
/// Words of a block: a cache line.
const BLOCK: usize = 8;
const BLOCKS: usize = (BUCKET_KEYS * BITS_PER_KEY) as usize / (64 * BLOCK);

/// A Bloom filter over keys that are already uniformly distributed (cut SHA-256). All bits of a key are in one block, so that a question
/// costs one miss of the processor's cache (Putze, Sanders, Singler 2007): a new key is looked for in every filter.
struct Filter(Vec<[u64; BLOCK]>);

impl Filter {
    fn new() -> Filter {
        Filter(vec![[0; BLOCK]; BLOCKS])
    }

    /// A key's block, and its bits in each of the block's words.
    fn bits(tenant: i64, hash: &[u8; 16]) -> (usize, [u64; BLOCK]) {
        let half = |at: usize| u64::from_le_bytes(hash[at..at + 8].try_into().expect("eight of sixteen bytes"));
        // The tenant is mixed in so that equal keys of two tenants differ.
        let place = half(0) ^ (tenant as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let block = (u128::from(place) * BLOCKS as u128) >> 64;
        // One bit in each word, from six bits of the other half.
        let bits = std::array::from_fn(|word| 1 << (half(8) >> (word * 6) & 63));
        (block as usize, bits)
    }

    fn insert(&mut self, tenant: i64, hash: &[u8; 16]) {
        let (block, bits) = Filter::bits(tenant, hash);
        self.0[block].iter_mut().zip(bits).for_each(|(word, bits)| *word |= bits);
    }

    fn holds(&self, block: usize, bits: &[u64; BLOCK]) -> bool {
        // A filter without blocks knows nothing: then everything may be in it.
        self.0.get(block).is_none_or(|words| words.iter().zip(bits).all(|(word, bits)| word & bits == *bits))
    }

    fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flatten().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// One that was stored in another shape, by another version, would deny keys that it holds: it becomes a filter that knows nothing.
    fn from_bytes(bytes: &[u8]) -> Filter {
        if bytes.len() != BLOCKS * BLOCK * 8 {
            return Filter(Vec::new());
        }
        let word = |chunk: &[u8]| u64::from_le_bytes(chunk.try_into().expect("chunks of eight"));
        let block = |chunk: &[u8]| std::array::from_fn(|n| word(&chunk[n * 8..n * 8 + 8]));
        Filter(bytes.chunks_exact(BLOCK * 8).map(block).collect())
    }
}

struct Sealed {
    bucket: i64,
    at_ms: i64,
    filter: Filter,
}

/// The buckets of one SQLite shard, owned by its lane.
pub(crate) struct Buckets {
    open: i64,
    opened_at_ms: i64,
    keys: u64,
    filter: Filter,
    sealed: Vec<Sealed>,
}

impl Buckets {
    /// Reads the buckets back; the open one's filter is rebuilt from its keys (at most [`BUCKET_KEYS`] and a group).
    pub(crate) fn load(connection: &rusqlite::Connection, now_ms: i64) -> Result<Buckets, rusqlite::Error> {
        let mut buckets = Buckets { open: 0, opened_at_ms: now_ms, keys: 0, filter: Filter::new(), sealed: Vec::new() };
        let mut rows = connection.prepare("SELECT bucket, opened_at, filter, sealed_at FROM store_once_buckets ORDER BY bucket")?;
        let mut rows = rows.query([])?;
        let mut open = None;
        while let Some(row) = rows.next()? {
            let bucket: i64 = row.get(0)?;
            match row.get::<_, Option<Vec<u8>>>(2)? {
                Some(bytes) => buckets.sealed.push(Sealed { bucket, at_ms: row.get(3)?, filter: Filter::from_bytes(&bytes) }),
                None => open = Some((bucket, row.get(1)?)),
            }
        }
        match open {
            Some((bucket, opened_at_ms)) => {
                buckets.open = bucket;
                buckets.opened_at_ms = opened_at_ms;
                let mut keys = connection.prepare("SELECT tenant_id, hash FROM store_once WHERE bucket = ?1")?;
                let mut keys = keys.query([bucket])?;
                while let Some(row) = keys.next()? {
                    buckets.filter.insert(row.get(0)?, &row.get(1)?);
                    buckets.keys += 1;
                }
            }
            None => {
                buckets.open = buckets.sealed.last().map_or(1, |last| last.bucket + 1);
                connection.execute(
                    "INSERT INTO store_once_buckets (bucket, sealed_at, opened_at, keys, filter) VALUES (?1, NULL, ?2, 0, NULL)",
                    (buckets.open, now_ms),
                )?;
            }
        }
        Ok(buckets)
    }

    /// The buckets that may hold a key, newest first; nearly always none when the key is new. The bucket of arrived keys is not among
    /// them: it is written behind the lane's back.
    pub(crate) fn candidates(&self, tenant: i64, hash: &[u8; 16]) -> smallvec::SmallVec<[i64; 4]> {
        let (block, bits) = Filter::bits(tenant, hash);
        let open = self.filter.holds(block, &bits).then_some(self.open);
        let sealed = self.sealed.iter().rev().filter(|sealed| sealed.filter.holds(block, &bits)).map(|sealed| sealed.bucket);
        open.into_iter().chain(sealed).collect()
    }

    /// The bucket into which keys go now.
    pub(crate) fn open_bucket(&self) -> i64 {
        self.open
    }

    /// Takes note of a key that is being inserted. If its transaction is rolled back the filter only raises a false alarm.
    pub(crate) fn note(&mut self, tenant: i64, hash: &[u8; 16]) {
        self.filter.insert(tenant, hash);
        self.keys += 1;
    }

    /// Whether the open bucket is due for sealing.
    pub(crate) fn due(&self, now_ms: i64) -> bool {
        self.keys >= BUCKET_KEYS || (self.keys > 0 && now_ms - self.opened_at_ms >= BUCKET_MS)
    }

    /// Seals the open bucket and opens the next, in a transaction of its own, and drops the filters of buckets whose time is over.
    /// Their rows are deleted by and by ([`Buckets::purge`]).
    pub(crate) fn seal(&mut self, connection: &rusqlite::Connection, now_ms: i64) -> Result<(), rusqlite::Error> {
        let transaction = connection.unchecked_transaction()?;
        transaction.execute(
            "UPDATE store_once_buckets SET sealed_at = ?2, keys = ?3, filter = ?4 WHERE bucket = ?1",
            (self.open, now_ms, self.keys as i64, self.filter.to_bytes()),
        )?;
        transaction.execute(
            "INSERT INTO store_once_buckets (bucket, sealed_at, opened_at, keys, filter) VALUES (?1, NULL, ?2, 0, NULL)",
            (self.open + 1, now_ms),
        )?;
        transaction.commit()?;
        let filter = std::mem::replace(&mut self.filter, Filter::new());
        self.sealed.push(Sealed { bucket: self.open, at_ms: now_ms, filter });
        self.open += 1;
        self.opened_at_ms = now_ms;
        self.keys = 0;
        Ok(())
    }

    /// Deletes up to `most` arrived keys whose time is over.
    pub(crate) fn purge_arrived(connection: &rusqlite::Connection, now_ms: i64, most: u32) -> Result<(), rusqlite::Error> {
        connection.execute(
            "DELETE FROM store_once WHERE bucket = 0 AND (tenant_id, hash) IN
               (SELECT tenant_id, hash FROM store_once WHERE bucket = 0 AND created_at < ?1 LIMIT ?2)",
            ((now_ms - KEEP_MS) * 1_000, most),
        )?;
        Ok(())
    }

    /// Deletes up to `most` keys of the oldest bucket whose time is over.
    pub(crate) fn purge(&mut self, connection: &rusqlite::Connection, now_ms: i64, most: u32) -> Result<(), rusqlite::Error> {
        let bucket = match self.sealed.first() {
            Some(oldest) if now_ms - oldest.at_ms >= KEEP_MS => oldest.bucket,
            _ => return Ok(()),
        };
        let transaction = connection.unchecked_transaction()?;
        let deleted = transaction.execute(
            "DELETE FROM store_once WHERE bucket = ?1 AND (tenant_id, hash) IN
               (SELECT tenant_id, hash FROM store_once WHERE bucket = ?1 ORDER BY tenant_id, hash LIMIT ?2)",
            (bucket, most),
        )?;
        let emptied = deleted < most as usize;
        if emptied {
            transaction.execute("DELETE FROM store_once_buckets WHERE bucket = ?1", [bucket])?;
        }
        transaction.commit()?;
        if emptied {
            self.sealed.remove(0);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> [u8; 16] {
        let digest = ring::digest::digest(&ring::digest::SHA256, &n.to_le_bytes());
        digest.as_ref()[..16].try_into().expect("sixteen bytes")
    }

    #[test]
    fn a_filter_never_misses_a_key_and_seldom_cries_wolf() {
        let mut filter = Filter::new();
        for n in 0..BUCKET_KEYS {
            filter.insert(7, &key(n));
        }
        let filter = Filter::from_bytes(&filter.to_bytes());
        let may_contain = |tenant, n| {
            let (block, bits) = Filter::bits(tenant, &key(n));
            filter.holds(block, &bits)
        };
        assert!((0..BUCKET_KEYS).all(|n| may_contain(7, n)));
        let alarms = (0..50_000).filter(|n| may_contain(7, BUCKET_KEYS + n)).count();
        assert!(alarms < 50_000 / 250, "{alarms} false alarms in 50,000");
        let other_tenant = (0..50_000).filter(|n| may_contain(8, *n)).count();
        assert!(other_tenant < 50_000 / 250, "{other_tenant} false alarms for another tenant");
    }

    #[test]
    fn a_filter_of_another_shape_denies_nothing() {
        let (block, bits) = Filter::bits(7, &[3; 16]);
        for words in [0, 1, BUCKET_KEYS as usize * 10 / 64, BLOCKS * BLOCK - BLOCK, BLOCKS * BLOCK + BLOCK] {
            assert!(Filter::from_bytes(&vec![0; words * 8]).holds(block, &bits), "{words} words");
        }
        assert!(!Filter::from_bytes(&Filter::new().to_bytes()).holds(block, &bits));
    }
}
