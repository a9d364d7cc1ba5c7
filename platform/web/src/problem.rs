//! Errors as they go over the wire: `application/problem+json` (RFC 9457). The one place where an error meets an HTTP status.

use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use kernel::{Error, ErrorKind, FieldError};
use std::borrow::Cow;

/// What handlers return.
pub type Result<T, E = Problem> = std::result::Result<T, E>;

/// A [`kernel::Error`] on its way to the caller. The edge renders and logs it, with the request's id.
#[derive(Clone, Debug)]
pub struct Problem(pub Error);

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        Problem(error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = status(&self.0).into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// The body of every error.
#[derive(Clone, Debug, serde::Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody<'a> {
    /// `/problems/` and the code: where the documentation of this problem is.
    #[serde(rename = "type")]
    #[schema(example = "/problems/request.invalid")]
    kind: String,
    /// The status in words.
    title: Cow<'a, str>,
    /// The HTTP status.
    status: u16,
    /// What happened, for a person.
    detail: Cow<'a, str>,
    /// Stable, for programs.
    #[schema(example = "request.invalid")]
    code: Cow<'a, str>,
    /// The request's id, as in the `X-Request-Id` header.
    request_id: Cow<'a, str>,
    /// The offending fields of the input.
    #[schema(value_type = Vec<ProblemField>)]
    errors: &'a [FieldError],
    /// After so many seconds the same request may succeed, as in the `Retry-After` header; not there when waiting does not help.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_seconds: Option<u32>,
}

/// What is wrong with one field of the input.
#[derive(utoipa::ToSchema)]
#[allow(dead_code, reason = "only its schema is used; the values are kernel::FieldError")]
pub(crate) struct ProblemField {
    /// Path of the field, such as `lines[2].quantity`.
    field: String,
    /// Stable, for programs.
    code: String,
    /// For a person.
    detail: String,
}

/// The version that the caller named in `If-Match` is not the current one. Answered with 412.
pub fn precondition_failed() -> Error {
    Error::failed_precondition(
        "request.precondition_failed",
        "it has been changed since; read it again and repeat the change on its current version",
    )
    .with_field("If-Match", "stale", "not the current version")
}

/// The status for an error: by its kind, but for the few codes that HTTP has a status of their own for.
pub fn status(error: &Error) -> StatusCode {
    match error.code() {
        "request.precondition_failed" => return StatusCode::PRECONDITION_FAILED,
        "request.too_large" => return StatusCode::PAYLOAD_TOO_LARGE,
        "request.unsupported_media_type" => return StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "request.timeout" => return StatusCode::REQUEST_TIMEOUT,
        "request.method_not_allowed" => return StatusCode::METHOD_NOT_ALLOWED,
        _ => {}
    }
    match error.kind() {
        ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        ErrorKind::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict | ErrorKind::FailedPrecondition => StatusCode::CONFLICT,
        ErrorKind::Limited => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::Overloaded | ErrorKind::Unavailable | ErrorKind::Unknown => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Writes the problem out, and logs what the caller may not see.
pub(crate) fn render(error: &Error, request_id: &str) -> Response {
    let status = status(error);
    match error.kind() {
        ErrorKind::Internal => tracing::error!(request_id, error = ?error, "a request failed"),
        ErrorKind::Unavailable | ErrorKind::Unknown => tracing::warn!(request_id, error = ?error, "a request could not be served"),
        _ => tracing::debug!(request_id, error = ?error, "a request was refused"),
    }
    let retry_after_ms =
        error.retry_after().or((status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS).then_some(1000));
    let retry_after_seconds = retry_after_ms.map(|ms| ms.div_ceil(1000).max(1));
    let body = ProblemBody {
        kind: format!("/problems/{}", error.code()),
        title: status.canonical_reason().unwrap_or("Error").into(),
        status: status.as_u16(),
        detail: error.detail().into(),
        code: error.code().into(),
        request_id: request_id.into(),
        errors: error.field_errors(),
        retry_after_seconds,
    };
    let json = serde_json::to_vec(&body).expect("a problem is plain strings and numbers");
    let mut response = (status, [(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"))], json).into_response();
    let headers = response.headers_mut();
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(seconds) = retry_after_seconds {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Makes every answer of 400 and above a problem: ours as they are, those of axum by their status. What else their headers say stays.
pub(crate) fn finish(mut response: Response, request_id: &str) -> Response {
    if let Some(Problem(error)) = response.extensions_mut().remove::<Problem>() {
        return in_place_of(response, &error, request_id);
    }
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error())
        || response.headers().get(CONTENT_TYPE).is_some_and(|t| t == "application/problem+json")
    {
        return response;
    }
    let error = match status {
        StatusCode::NOT_FOUND => Error::not_found("request.unknown_path", "there is nothing at this path"),
        StatusCode::METHOD_NOT_ALLOWED => {
            Error::invalid("request.method_not_allowed", "this path does not take this method; see the Allow header")
        }
        StatusCode::PAYLOAD_TOO_LARGE => Error::invalid("request.too_large", "the body is larger than this route takes"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            Error::invalid("request.unsupported_media_type", "this route does not take this content type")
        }
        status if status.is_client_error() => Error::invalid("request.invalid", "the request is not of the form that this route takes"),
        status => Error::internal(format!("a handler answered {status} without a problem")),
    };
    in_place_of(response, &error, request_id)
}

/// The problem with those headers of a response that are not about its body.
fn in_place_of(response: Response, error: &Error, request_id: &str) -> Response {
    let mut headers = response.into_parts().0.headers;
    for about_body in [CONTENT_TYPE, CONTENT_LENGTH, CONTENT_ENCODING] {
        headers.remove(about_body);
    }
    let mut problem = render(error, request_id);
    problem.headers_mut().extend(headers);
    problem
}
