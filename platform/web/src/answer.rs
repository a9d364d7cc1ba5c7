//! Answers that carry more than a body.

use axum::Json;
use axum::http::header::{ETAG, LOCATION};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, IntoResponseParts, Response, ResponseParts};
use serde::Serialize;
use std::convert::Infallible;

/// 201 with the path of what was made, and the thing as JSON.
pub struct Created<T>(
    /// Path of the new thing, such as `/api/v1/orders/ord_...`.
    pub String,
    /// The new thing.
    pub T,
);

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        let mut response = (StatusCode::CREATED, Json(self.1)).into_response();
        if let Ok(location) = HeaderValue::from_maybe_shared(bytes::Bytes::from(self.0)) {
            response.headers_mut().insert(LOCATION, location);
        }
        response
    }
}

/// 200 with the thing as JSON and its version as `ETag`, for `If-Match` and `If-None-Match`.
pub struct Versioned<T>(
    /// The version of the thing, from 1.
    pub i64,
    /// The thing.
    pub T,
);

impl<T: Serialize> IntoResponse for Versioned<T> {
    fn into_response(self) -> Response {
        (ETag(self.0), Json(self.1)).into_response()
    }
}

/// Sets the `ETag` header to a version, in a tuple before another answer: `(ETag(1), Created(location, order))`.
pub struct ETag(
    /// The version of the thing, from 1.
    pub i64,
);

impl IntoResponseParts for ETag {
    type Error = Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Infallible> {
        let tag = HeaderValue::from_maybe_shared(bytes::Bytes::from(format!("\"{}\"", self.0))).expect("a quoted number is a header value");
        parts.headers_mut().insert(ETAG, tag);
        Ok(parts)
    }
}
