//! Answers that are the same for every shopper of a tenant, and may be kept for a while.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, VARY};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use kernel::Error;
use ring::digest;
use serde::Serialize;
use std::fmt::Write as _;
use web::Problem;

/// 200 with JSON, an `ETag` of its content, by which the edge answers 304, and for how long it may be kept. It is kept apart for each
/// credential: `Vary: Authorization`.
pub(super) struct Shown<T> {
    /// What is shown.
    pub body: T,
    /// For how long anybody may keep it, in seconds.
    pub max_age_s: u32,
}

impl<T: Serialize> IntoResponse for Shown<T> {
    fn into_response(self) -> Response {
        let Ok(json) = serde_json::to_vec(&self.body) else {
            return Problem(Error::internal("what the storefront shows does not serialise")).into_response();
        };
        let mut tag = String::with_capacity(34);
        tag.push('"');
        for byte in &digest::digest(&digest::SHA256, &json).as_ref()[..16] {
            let _ = write!(tag, "{byte:02x}");
        }
        tag.push('"');
        let text = |text: String| HeaderValue::try_from(text).expect("digits and quotes are a header value");
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (CACHE_CONTROL, text(format!("public, max-age={}", self.max_age_s))),
            (VARY, HeaderValue::from_static("authorization")),
            (ETAG, text(tag)),
        ];
        (StatusCode::OK, headers, Body::from(json)).into_response()
    }
}
