//! Cursor paging. A cursor is signed and bound to the tenant and the list that made it, so that a stranger's or an edited one is refused.

use crate::{Error, Result, Scope};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The most rows that a page holds.
pub const MAX_PAGE: u32 = 100;
/// A cursor's position is at most this many bytes.
const MAX_POSITION: usize = 512;
const TAG: usize = 16;

/// Which page is asked for: how many rows, after which position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest<P> {
    /// Between 1 and [`MAX_PAGE`].
    pub limit: u32,
    /// The position of the last row of the page before; none for the first page.
    pub after: Option<P>,
}

/// One page of a list, as it goes over the wire.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Page<T> {
    /// The rows.
    pub data: Vec<T>,
    /// Ask again with this for the next page; null on the last one.
    pub next_cursor: Option<String>,
}

/// The key that signs cursors, shared by the nodes of a platform.
#[derive(Clone)]
pub struct CursorKey(ring::hmac::Key);

impl CursorKey {
    /// From a secret of at least 32 bytes.
    pub fn new(secret: &[u8]) -> Self {
        CursorKey(ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret))
    }

    /// Signs `position` of the list named `list` in `scope`.
    pub fn seal<P: serde::Serialize>(&self, scope: Scope, list: &str, position: &P) -> Result<String> {
        let body = serde_json::to_vec(position).map_err(|e| Error::internal("a cursor position does not serialise").caused_by(e))?;
        let tag = self.tag(scope, list, &body);
        let mut bytes = Vec::with_capacity(TAG + body.len());
        bytes.extend_from_slice(&tag.as_ref()[..TAG]);
        bytes.extend_from_slice(&body);
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Reads a cursor back. Errors: `request.invalid_cursor` when it was not made by [`CursorKey::seal`] for the same scope and list.
    pub fn open<P: serde::de::DeserializeOwned>(&self, scope: Scope, list: &str, cursor: &str) -> Result<P> {
        let wrong = || {
            Error::invalid("request.invalid_cursor", "the cursor was not made by this list; start again without one").with_field(
                "cursor",
                "invalid",
                "unknown cursor",
            )
        };
        if cursor.len() > (TAG + MAX_POSITION) * 2 {
            return Err(wrong());
        }
        let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| wrong())?;
        let (tag, body) = bytes.split_at_checked(TAG).ok_or_else(wrong)?;
        let expected = self.tag(scope, list, body);
        #[expect(deprecated, reason = "ring's only constant-time comparison of slices")]
        ring::constant_time::verify_slices_are_equal(&expected.as_ref()[..TAG], tag).map_err(|_| wrong())?;
        serde_json::from_slice(body).map_err(|_| wrong())
    }

    fn tag(&self, scope: Scope, list: &str, body: &[u8]) -> ring::hmac::Tag {
        let mut context = ring::hmac::Context::with_key(&self.0);
        context.update(&scope.tenant().map_or(0, |t| t.as_i64()).to_be_bytes());
        context.update(&(list.len() as u32).to_be_bytes());
        context.update(list.as_bytes());
        context.update(body);
        context.sign()
    }
}

impl<T> Page<T> {
    /// Builds a page out of up to `limit + 1` rows: the extra row only tells that there is a next page.
    pub fn build<P: serde::Serialize>(
        mut rows: Vec<T>,
        limit: u32,
        key: &CursorKey,
        scope: Scope,
        list: &str,
        position: impl Fn(&T) -> P,
    ) -> Result<Page<T>> {
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let next_cursor = match rows.last() {
            Some(last) if more => Some(key.seal(scope, list, &position(last))?),
            _ => None,
        };
        Ok(Page { data: rows, next_cursor })
    }
}
