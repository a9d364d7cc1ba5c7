//! Answers that carry more than a body.

use crate::problem::Problem;
use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, ETAG, LOCATION};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, IntoResponseParts, Response, ResponseParts};
use kernel::Error;
use serde::Serialize;
use std::convert::Infallible;

/// Most answers with one thing are shorter, in bytes: a buffer that has to grow is copied each time.
const USUAL_BYTES: usize = 1536;

/// Most answers have no more headers, with those of the edge: room that has to grow is copied too.
const USUAL_HEADERS: usize = 12;

/// A thing as JSON, written at once into memory that is large enough for most. (`axum::Json` begins with 128 bytes.)
fn json(thing: &impl Serialize) -> Response {
    let mut body = Vec::with_capacity(USUAL_BYTES);
    match serde_json::to_writer(&mut body, thing) {
        Ok(()) => {
            let mut response = Response::new(Body::from(body));
            let headers = response.headers_mut();
            headers.reserve(USUAL_HEADERS);
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(error) => Problem::from(Error::internal("an answer does not serialise").caused_by(error)).into_response(),
    }
}

/// 201 with the path of what was made, and the thing as JSON.
pub struct Created<T>(
    /// Path of the new thing, such as `/api/v1/orders/ord_...`.
    pub String,
    /// The new thing.
    pub T,
);

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        let mut response = json(&self.1);
        if !response.status().is_success() {
            return response;
        }
        *response.status_mut() = StatusCode::CREATED;
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
        (ETag(self.0), json(&self.1)).into_response()
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
