//! The hash of keys: SipHash-1-3 over whole words, keyed with what nobody outside knows, so that nobody can choose keys that meet.
//!
//! Numbers are one word each and text is its length and then its bytes in words, so that no two keys of one rule are the same message.

use std::hash::Hasher;

/// A SipHash-1-3 under way. Copied, it goes on from where it was: a rule keeps one that has taken in the rule's name.
#[derive(Clone, Copy)]
pub(crate) struct KeyHasher {
    v: [u64; 4],
    words: u64,
}

#[inline]
fn round([mut a, mut b, mut c, mut d]: [u64; 4]) -> [u64; 4] {
    a = a.wrapping_add(b);
    c = c.wrapping_add(d);
    b = b.rotate_left(13) ^ a;
    d = d.rotate_left(16) ^ c;
    a = a.rotate_left(32);
    c = c.wrapping_add(b);
    a = a.wrapping_add(d);
    b = b.rotate_left(17) ^ c;
    d = d.rotate_left(21) ^ a;
    c = c.rotate_left(32);
    [a, b, c, d]
}

impl KeyHasher {
    pub(crate) fn new(seed: (u64, u64)) -> KeyHasher {
        let (a, b) = seed;
        let v = [a ^ 0x736f_6d65_7073_6575, b ^ 0x646f_7261_6e64_6f6d, a ^ 0x6c79_6765_6e65_7261, b ^ 0x7465_6462_7974_6573];
        KeyHasher { v, words: 0 }
    }

    #[inline]
    pub(crate) fn word(&mut self, word: u64) {
        let [a, b, c, d] = self.v;
        let [a, b, c, d] = round([a, b, c, d ^ word]);
        self.v = [a ^ word, b, c, d];
        self.words += 1;
    }
}

impl Hasher for KeyHasher {
    /// Its bytes in words, the last one filled up: whoever writes text writes its length first.
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word));
        }
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.word(word);
    }

    #[inline]
    fn write_i64(&mut self, word: i64) {
        self.word(word as u64);
    }

    #[inline]
    fn write_usize(&mut self, word: usize) {
        self.word(word as u64);
    }

    /// As SipHash ends a message of whole words.
    #[inline]
    fn finish(&self) -> u64 {
        let mut last = *self;
        last.word(self.words.wrapping_mul(8) << 56);
        let [a, b, c, d] = last.v;
        let [a, b, c, d] = round(round(round([a, b, c ^ 0xff, d])));
        a ^ b ^ c ^ d
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use siphasher::sip::SipHasher13;

    #[test]
    fn it_is_siphash() {
        for words in 0..20_u64 {
            let (mut ours, mut theirs) = (KeyHasher::new((7, words)), SipHasher13::new_with_keys(7, words));
            for word in 0..words {
                ours.write_u64(word.wrapping_mul(0x9E37_79B9_7F4A_7C15));
                theirs.write_u64(word.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            }
            assert_eq!(ours.finish(), theirs.finish(), "{words} words");
        }
    }
}
