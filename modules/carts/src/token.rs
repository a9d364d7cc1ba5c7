//! What opens a cart: a text of 256 random bits, of which only the hash is kept.

use base64::Engine as _;
use kernel::Rng;

/// SHA-256 of a cart's token, which is enough for 256 random bits: there is nothing to guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenHash(pub(crate) [u8; 32]);

impl TokenHash {
    /// Of a token as its holder sends it. Any text has one; a wrong text's opens nothing.
    pub fn of(token: &str) -> TokenHash {
        let mut hash = [0; 32];
        hash.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, token.as_bytes()).as_ref());
        TokenHash(hash)
    }

    /// Whether it is one of these, in a time that depends only on how many there are.
    pub(crate) fn is_among(&self, hashes: &[u8]) -> bool {
        #[expect(deprecated, reason = "ring's only constant-time comparison of slices")]
        let same = |hash: &[u8]| ring::constant_time::verify_slices_are_equal(hash, &self.0).is_ok();
        hashes.chunks_exact(32).fold(false, |found, hash| found | same(hash))
    }
}

/// A fresh token, to be shown once.
pub fn new_token(rng: &dyn Rng) -> String {
    let mut bytes = [0; 32];
    rng.fill(&mut bytes);
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}
