//! Consistent hashing: which of several Redis nodes has a key. A node more or less moves only its share of the keys.

use siphasher::sip::SipHasher13;
use std::hash::Hasher as _;

/// Places of each node on the ring: with 150 the largest share is within some ten percent of the mean.
const VIRTUAL: u32 = 150;

/// The ring.
#[derive(Clone, Debug)]
pub struct Ring {
    places: Vec<(u64, u16)>,
    nodes: u16,
}

fn place(text: &[u8]) -> u64 {
    // Fixed keys: every process has the same ring.
    let mut hasher = SipHasher13::new_with_keys(0x7269_6e67, 0x7269_6e67);
    hasher.write(text);
    hasher.finish()
}

impl Ring {
    /// Of these nodes, by their names; the order of the names does not matter, only which there are.
    pub fn new<S: AsRef<str>>(nodes: &[S]) -> Ring {
        let mut places: Vec<(u64, u16)> = Vec::with_capacity(nodes.len() * VIRTUAL as usize);
        for (number, name) in (0..).zip(nodes) {
            places.extend((0..VIRTUAL).map(|at| (place(format!("{}#{at}", name.as_ref()).as_bytes()), number)));
        }
        places.sort_unstable();
        Ring { places, nodes: nodes.len() as u16 }
    }

    /// The node that has the key, and the next one on the ring, which has its copy.
    pub fn owners(&self, key: &[u8]) -> (u16, Option<u16>) {
        if self.nodes < 2 {
            return (0, None);
        }
        let wanted = place(key);
        let at = self.places.partition_point(|(place, _)| *place < wanted);
        let mut around = self.places[at..].iter().chain(&self.places[..at]).map(|(_, node)| *node);
        let first = around.next().unwrap_or(0);
        (first, around.find(|node| *node != first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_spread_and_a_new_node_takes_only_its_share() {
        let names: Vec<String> = (0..6).map(|n| format!("cache-{n}:6379")).collect();
        let (five, six) = (Ring::new(&names[..5]), Ring::new(&names));
        let keys: Vec<String> = (0..100_000).map(|n| format!("key {n}")).collect();
        let mut shares = [0_u32; 5];
        let mut moved = 0;
        for key in &keys {
            let (first, copy) = five.owners(key.as_bytes());
            shares[usize::from(first)] += 1;
            assert!(copy.is_some_and(|copy| copy != first));
            let (after, _) = six.owners(key.as_bytes());
            assert!(after == first || after == 5, "a key only ever moves to the new node");
            moved += u32::from(after != first);
        }
        assert!(shares.iter().all(|share| (15_000..25_000).contains(share)), "{shares:?}");
        assert!((12_000..22_000).contains(&moved), "{moved} of 100000 moved where a sixth should");
        // Without its node, a key is where its copy was.
        let without = |gone: u16| -> Ring {
            let rest: Vec<&String> = names[..5].iter().enumerate().filter(|(n, _)| *n != usize::from(gone)).map(|(_, name)| name).collect();
            Ring::new(&rest)
        };
        let ring = without(2);
        for key in keys.iter().take(5_000) {
            let (first, copy) = five.owners(key.as_bytes());
            let now = ring.owners(key.as_bytes()).0;
            let now = if now >= 2 { now + 1 } else { now };
            assert_eq!(now, if first == 2 { copy.unwrap() } else { first });
        }
    }

    #[test]
    fn one_node_has_everything() {
        assert_eq!(Ring::new(&["a"]).owners(b"x"), (0, None));
    }
}
