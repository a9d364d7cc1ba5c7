//! The text forms of credentials: signed access tokens, and opaque ones (API keys, invitations, refresh tokens) that are stored as hashes.

use crate::model::{ApiKeyId, InvitationId, SessionId, UserId};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use kernel::{Entity, Error, Id, Result, Rng, TenantId};
use serde::{Deserialize, Serialize};

/// Length of a secret: 43 base62 digits are 256 bits.
const SECRET: usize = 43;
/// Length of an id without its prefix.
const ID: usize = 11;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Every API key begins with this, so that secret scanners and people know one when they see it.
pub const API_KEY_PREFIX: &str = "bos_live_";
/// Every publishable key begins with this. It is no secret.
pub const PUBLISHABLE_PREFIX: &str = "pk_";
const INVITATION_PREFIX: &str = "bos_inv_";
const REFRESH_PREFIX: &str = "bos_ref_";
/// No credential is longer than this, in bytes.
pub const MAX_CREDENTIAL: usize = 1024;

/// SHA-256, which is enough for secrets of 256 random bits: there is nothing to guess.
pub type Hash = [u8; 32];

/// SHA-256 of `text`.
pub fn hash(text: &str) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref());
    hash
}

/// Whether two hashes are equal, in a time that does not depend on where they differ.
pub fn same(a: &Hash, b: &Hash) -> bool {
    #[expect(deprecated, reason = "ring's only constant-time comparison of slices")]
    ring::constant_time::verify_slices_are_equal(a, b).is_ok()
}

/// A fresh secret of 256 bits.
pub fn secret(rng: &dyn Rng) -> String {
    (0..SECRET).map(|_| char::from(BASE62[rng.below(62) as usize])).collect()
}

/// An id without its prefix.
fn digits<E: Entity>(id: Id<E>) -> String {
    id.to_string()[E::PREFIX.len() + 1..].to_owned()
}

/// Cuts an id off the beginning of `text`.
fn take_id<E: Entity>(text: &str) -> Option<(Id<E>, &str)> {
    let (digits, rest) = text.split_at_checked(ID)?;
    Some((format!("{}_{digits}", E::PREFIX).parse().ok()?, rest))
}

fn is_secret(text: &str, secrets: usize) -> bool {
    text.len() == SECRET * secrets && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// What of an API key is no secret: it names the tenant and the key, and is shown in lists.
pub fn api_key_prefix(tenant: TenantId, key: ApiKeyId) -> String {
    format!("{API_KEY_PREFIX}{}{}", digits(tenant), digits(key))
}

/// The text of an API key: `bos_live_`, tenant, key, `_`, secret.
pub fn api_key(tenant: TenantId, key: ApiKeyId, secret: &str) -> String {
    format!("{}_{secret}", api_key_prefix(tenant, key))
}

/// Which tenant and key the text names; none if it is not of the form. Whether it is genuine only its hash tells.
pub fn parse_api_key(text: &str) -> Option<(TenantId, ApiKeyId)> {
    let (tenant, rest) = take_id(text.strip_prefix(API_KEY_PREFIX)?)?;
    let (key, rest) = take_id(rest)?;
    is_secret(rest.strip_prefix('_')?, 1).then_some((tenant, key))
}

/// The text of a publishable key: `pk_`, tenant, key. There is nothing secret in it; that it stands is what the store says.
pub fn publishable_key(tenant: TenantId, key: ApiKeyId) -> String {
    format!("{PUBLISHABLE_PREFIX}{}{}", digits(tenant), digits(key))
}

/// Which tenant and key the text of a publishable key names; none if it is not of the form.
pub fn parse_publishable_key(text: &str) -> Option<(TenantId, ApiKeyId)> {
    let (tenant, rest) = take_id(text.strip_prefix(PUBLISHABLE_PREFIX)?)?;
    let (key, rest) = take_id(rest)?;
    rest.is_empty().then_some((tenant, key))
}

/// The text of an invitation's token.
pub fn invitation(tenant: TenantId, invitation: InvitationId, secret: &str) -> String {
    format!("{INVITATION_PREFIX}{}{}_{secret}", digits(tenant), digits(invitation))
}

/// Which tenant and invitation the text names.
pub fn parse_invitation(text: &str) -> Option<(TenantId, InvitationId)> {
    let (tenant, rest) = take_id(text.strip_prefix(INVITATION_PREFIX)?)?;
    let (invitation, rest) = take_id(rest)?;
    is_secret(rest.strip_prefix('_')?, 1).then_some((tenant, invitation))
}

/// A refresh token taken apart. The family's secret stays the same for the whole session and the other one changes with each use. So
/// a genuine but used token can be told from a guess, without a list of all used ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refresh {
    /// The session.
    pub session: SessionId,
    /// Hash of the secret that all its refresh tokens share.
    pub family: Hash,
    /// Hash of the secret of this one.
    pub current: Hash,
}

/// The text of a refresh token, and its hashes.
pub fn refresh(session: SessionId, family_secret: &str, current_secret: &str) -> (String, Refresh) {
    let text = format!("{REFRESH_PREFIX}{}_{family_secret}{current_secret}", digits(session));
    (text, Refresh { session, family: hash(family_secret), current: hash(current_secret) })
}

/// Takes a refresh token apart; with it comes the family's secret, to make the next one. None if it is not of the form.
pub fn parse_refresh(text: &str) -> Option<(Refresh, &str)> {
    let (session, rest) = take_id(text.strip_prefix(REFRESH_PREFIX)?)?;
    let secrets = rest.strip_prefix('_').filter(|s| is_secret(s, 2))?;
    let (family, current) = secrets.split_at(SECRET);
    Some((Refresh { session, family: hash(family), current: hash(current) }, family))
}

/// What an access token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Always `brandos`.
    pub iss: String,
    /// The user.
    pub sub: UserId,
    /// The tenant of the session; absent in sessions on the platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<TenantId>,
    /// The session.
    pub sid: SessionId,
    /// The user's token version when it was issued; a raised one ends every token before it.
    pub ver: i64,
    /// Issued, in Unix seconds.
    pub iat: i64,
    /// Not valid from then on, in Unix seconds.
    pub exp: i64,
}

/// Signs and checks access tokens (HS256).
pub struct Signer {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
}

impl Signer {
    /// With a secret of at least 32 bytes that all nodes share.
    pub fn new(secret: &[u8]) -> Signer {
        let mut validation = Validation::new(Algorithm::HS256);
        // The library would ask the wall clock; the expiry is checked against ours.
        validation.validate_exp = false;
        validation.set_required_spec_claims(&["exp", "sub", "iss"]);
        validation.set_issuer(&["brandos"]);
        Signer { encoding: EncodingKey::from_secret(secret), decoding: DecodingKey::from_secret(secret), validation }
    }

    /// The token's text.
    pub fn sign(&self, claims: &Claims) -> Result<String> {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &self.encoding)
            .map_err(|e| Error::internal("an access token can't be signed").caused_by(e))
    }

    /// The claims, if the signature is ours. The caller checks `exp`. None for anything else.
    pub fn verify(&self, token: &str) -> Option<Claims> {
        jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation).ok().map(|data| data.claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernel::SeededRng;

    #[test]
    fn opaque_tokens_name_what_they_belong_to() {
        let rng = SeededRng::new(7);
        let (tenant, key, session) = (TenantId::from_i64(12_345), ApiKeyId::from_i64(i64::MAX), SessionId::from_i64(99));
        let text = api_key(tenant, key, &secret(&rng));
        assert!(text.starts_with("bos_live_") && text.starts_with(&api_key_prefix(tenant, key)), "{text}");
        assert_eq!(parse_api_key(&text), Some((tenant, key)));
        assert_eq!(parse_invitation(&text), None);
        let text = invitation(tenant, InvitationId::from_i64(5), &secret(&rng));
        assert_eq!(parse_invitation(&text), Some((tenant, InvitationId::from_i64(5))));

        let (family, first, second) = (secret(&rng), secret(&rng), secret(&rng));
        let (text, made) = refresh(session, &family, &first);
        assert_eq!(parse_refresh(&text), Some((made, family.as_str())));
        let (_, next) = refresh(session, &family, &second);
        assert!(same(&made.family, &next.family) && !same(&made.current, &next.current));
    }

    #[test]
    fn malformed_tokens_are_nothing() {
        let rng = SeededRng::new(8);
        let good = api_key(TenantId::from_i64(1), ApiKeyId::from_i64(2), &secret(&rng));
        for bad in [
            "",
            "bos_live_",
            &good[1..],
            &good[..good.len() - 1],
            &format!("{good}x"),
            &good.replace("live", "test"),
            &format!("{}é", &good[..good.len() - 2]),
        ] {
            assert_eq!(parse_api_key(bad), None, "{bad}");
        }
        for bad in ["bos_ref_", "bos_ref_0000000000é", "bos_ref_00000000000_"] {
            assert_eq!(parse_refresh(bad), None, "{bad}");
        }
    }

    #[test]
    fn secrets_differ_and_have_their_length() {
        let rng = SeededRng::new(9);
        let (a, b) = (secret(&rng), secret(&rng));
        assert!(a != b && is_secret(&a, 1) && is_secret(&b, 1));
    }

    #[test]
    fn access_tokens_are_checked() {
        let signer = Signer::new(&[7; 32]);
        let claims = Claims {
            iss: "brandos".into(),
            sub: UserId::from_i64(1),
            tenant_id: Some(TenantId::from_i64(2)),
            sid: SessionId::from_i64(3),
            ver: 4,
            iat: 0,
            exp: 600,
        };
        let token = signer.sign(&claims).unwrap();
        assert_eq!(signer.verify(&token), Some(claims.clone()));
        assert_eq!(Signer::new(&[8; 32]).verify(&token), None);
        // The classic forgeries: another algorithm, none at all, and a changed body.
        let mut parts: Vec<&str> = token.split('.').collect();
        let none = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, r#"{"alg":"none"}"#);
        parts[0] = &none;
        assert_eq!(signer.verify(&parts.join(".")), None);
        parts[2] = "";
        assert_eq!(signer.verify(&parts.join(".")), None);
        let other = jsonwebtoken::encode(&Header::new(Algorithm::HS512), &claims, &EncodingKey::from_secret(&[7; 32])).unwrap();
        assert_eq!(signer.verify(&other), None);
        let foreign = signer.sign(&Claims { iss: "another".into(), ..claims }).unwrap();
        assert_eq!(signer.verify(&foreign), None);
    }
}
