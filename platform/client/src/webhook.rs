//! Signatures of the Standard Webhooks specification: `webhook-id`, `webhook-timestamp`, `webhook-signature: v1,<base64>`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kernel::{Error, Result, Timestamp};
use ring::hmac;
use std::fmt;

/// Name of the header with the message's id, the same in every attempt to deliver it.
pub const ID: &str = "webhook-id";
/// Name of the header with the moment of the attempt, in Unix seconds.
pub const TIMESTAMP: &str = "webhook-timestamp";
/// Name of the header with one or more signatures, parted by spaces.
pub const SIGNATURE: &str = "webhook-signature";
/// How far a message's moment may be from ours.
pub const TOLERANCE_MS: i64 = 5 * 60 * 1000;
/// Signatures looked at in one header.
const MAX_SIGNATURES: usize = 8;

/// A shared secret. Its text is `whsec_` and base64; it is never shown.
#[derive(Clone)]
pub struct Secret(hmac::Key);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("whsec_...")
    }
}

impl Secret {
    /// From 24 to 64 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Secret {
        Secret(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }
}

impl std::str::FromStr for Secret {
    type Err = Error;
    /// Errors: `request.invalid_webhook_secret`.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::invalid("request.invalid_webhook_secret", "a webhook's secret is whsec_ and the base64 of 24 to 64 bytes");
        let bytes = STANDARD.decode(text.strip_prefix("whsec_").ok_or_else(wrong)?).map_err(|_| wrong())?;
        if !(24..=64).contains(&bytes.len()) {
            return Err(wrong());
        }
        Ok(Secret::from_bytes(&bytes))
    }
}

/// The text of a secret made of these bytes.
pub fn secret_text(bytes: &[u8]) -> String {
    format!("whsec_{}", STANDARD.encode(bytes))
}

/// Why a message is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// A header is missing or not of its form.
    Malformed,
    /// Its moment is too far from ours: a replay, or a clock that is wrong.
    OutOfTime,
    /// No signature is that of a known secret.
    Forged,
}

fn tag(secret: &Secret, id: &str, seconds: i64, body: &[u8]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(&secret.0);
    context.update(format!("{id}.{seconds}.").as_bytes());
    context.update(body);
    context.sign()
}

/// The value of [`SIGNATURE`] for a message.
pub fn sign(secret: &Secret, id: &str, at: Timestamp, body: &[u8]) -> String {
    format!("v1,{}", STANDARD.encode(tag(secret, id, at.unix_seconds(), body)))
}

/// The value of [`SIGNATURE`] for a message under several secrets, as it is sent while they rotate.
pub fn sign_all(secrets: &[Secret], id: &str, at: Timestamp, body: &[u8]) -> String {
    secrets.iter().map(|secret| sign(secret, id, at, body)).collect::<Vec<_>>().join(" ")
}

/// Checks a message's three headers against the secrets that are in force (two while they rotate).
pub fn verify(
    secrets: &[Secret],
    id: &str,
    timestamp: &str,
    signatures: &str,
    body: &[u8],
    now: Timestamp,
) -> std::result::Result<(), Doubt> {
    if id.is_empty() || id.len() > 255 || signatures.is_empty() {
        return Err(Doubt::Malformed);
    }
    let seconds: i64 = timestamp.parse().map_err(|_| Doubt::Malformed)?;
    let apart = i128::from(now.unix_seconds()) - i128::from(seconds);
    if apart.abs() > i128::from(TOLERANCE_MS / 1000) {
        return Err(Doubt::OutOfTime);
    }
    let given = signatures.split(' ').take(MAX_SIGNATURES).filter_map(|signature| signature.strip_prefix("v1,"));
    let given: Vec<Vec<u8>> = given.filter_map(|text| STANDARD.decode(text).ok()).collect();
    let signed = [format!("{id}.{seconds}.").as_bytes(), body].concat();
    let known = secrets.iter().any(|secret| given.iter().any(|tag| hmac::verify(&secret.0, &signed, tag).is_ok()));
    if known { Ok(()) } else { Err(Doubt::Forged) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's reference libraries.
    #[test]
    fn signs_as_the_reference_does() {
        let secret: Secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().expect("a secret");
        let at = Timestamp::from_micros(1_614_265_330_000_000);
        let body = br#"{"test": 2432232314}"#;
        let signature = sign(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", at, body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let both = format!("v1,AAAA v2,zzz {signature}");
        let check = |signatures: &str, body: &[u8], now: Timestamp| {
            verify(&[Secret::from_bytes(&[1; 32]), secret.clone()], "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", signatures, body, now)
        };
        assert_eq!(check(&both, body, at.plus_ms(299_000)), Ok(()));
        assert_eq!(check(&both, body, at.plus_ms(301_000)), Err(Doubt::OutOfTime));
        assert_eq!(check(&both, body, at.plus_ms(-301_000)), Err(Doubt::OutOfTime));
        assert_eq!(check(&both, br#"{"test": 2432232315}"#, at), Err(Doubt::Forged));
        assert_eq!(check("v1,AAAA", body, at), Err(Doubt::Forged));
        assert_eq!(check("", body, at), Err(Doubt::Malformed));
        assert_eq!(verify(&[secret], "m", "soon", &signature, body, at), Err(Doubt::Malformed));
    }

    #[test]
    fn a_secret_is_long_enough_and_never_shown() {
        assert!("whsec_AAAA".parse::<Secret>().is_err());
        let text = secret_text(&[7; 32]);
        let secret: Secret = text.parse().expect("a secret");
        assert_eq!(format!("{secret:?}"), "whsec_...");
    }
}
