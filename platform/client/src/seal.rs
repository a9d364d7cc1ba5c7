//! Seals secrets for the store, such as the keys with which others are called: AES-256-GCM, bound to the place where they stand.

use kernel::{Error, Result, Rng};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use std::fmt;

/// Marks the format, so that another can follow it.
const FORMAT: u8 = 1;

/// The key from the configuration. It is never shown.
#[derive(Clone)]
pub struct SealingKey(LessSafeKey);

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKey")
    }
}

impl SealingKey {
    /// From 32 bytes.
    pub fn new(bytes: &[u8; 32]) -> SealingKey {
        // A key of this length is one, whatever its bytes are.
        let key = UnboundKey::new(&AES_256_GCM, bytes).expect("32 bytes are a key of AES-256");
        SealingKey(LessSafeKey::new(key))
    }

    /// Seals a secret for one place (such as the tenant, the provider and the column). The nonce is random: 2^32 secrets under one key are
    /// as many as are safe, and no platform has as many providers.
    pub fn seal(&self, place: &str, secret: &[u8], rng: &dyn Rng) -> Result<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        rng.fill(&mut nonce);
        let mut body = secret.to_vec();
        let sealed = self.0.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place), &mut body);
        sealed.map_err(|_| Error::internal("a secret can't be sealed"))?;
        Ok([&[FORMAT], &nonce[..], &body].concat())
    }

    /// Opens it again. None when it was sealed with another key, for another place, or changed.
    pub fn open(&self, place: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (format, rest) = sealed.split_first()?;
        let (nonce, body) = rest.split_at_checked(NONCE_LEN).filter(|_| *format == FORMAT)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut body = body.to_vec();
        Some(self.0.open_in_place(nonce, Aad::from(place), &mut body).ok()?.to_vec())
    }
}
