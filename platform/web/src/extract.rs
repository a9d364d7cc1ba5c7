//! What handlers take out of a request. Every refusal is a problem that names the field.

use crate::app::App;
use crate::caller::Caller;
use crate::edge::is_storefront;
use crate::problem::{Problem, precondition_failed};
use axum::RequestPartsExt as _;
use axum::extract::path::ErrorKind as PathErrorKind;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, RawPathParams, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, IF_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use bytes::Bytes;
use kernel::{CursorKey, Error, MAX_PAGE, Page, PageRequest, Result, Scope};
use serde::de::value::SeqDeserializer;
use serde::de::{DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use serde::{Serialize, forward_to_deserialize_any};
use std::cell::Cell;
use std::marker::PhantomData;
use std::time::Duration;
use store::OnceKey;

/// Rows of a page when the caller does not say.
const DEFAULT_PAGE: u32 = 50;
/// Arrays and objects within each other in a JSON body.
const MAX_DEPTH: usize = 32;
/// An idempotency key is at most this many characters.
const MAX_KEY: usize = 255;
/// Words about the caller's own input are cut to this many characters.
const MAX_DETAIL: usize = 300;

/// The header that makes a request happen once.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A JSON body. Unknown fields are the type's affair (`#[serde(deny_unknown_fields)]`).
pub struct Body<T>(
    /// The body.
    pub T,
);

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let bytes = read(&parts, body, app).await?;
        Ok(Body(json(&parts.headers, &bytes)?))
    }
}

/// A JSON body and the `Idempotency-Key` header, if there is one. Hand the key to [`App::submit`].
pub struct Keyed<T> {
    /// Of the caller's key, with method, path and body as the fingerprint.
    pub key: Option<OnceKey>,
    /// The body.
    pub body: T,
}

impl<T: DeserializeOwned> FromRequest<App> for Keyed<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let given = client_key(&parts.headers)?;
        let bytes = read(&parts, body, app).await?;
        let body = json(&parts.headers, &bytes)?;
        let key = given.map(|key| once_key(&parts, key, &bytes));
        Ok(Keyed { key, body })
    }
}

/// A body of any content type, whole: a file of a bounded size. Routes that take more than the usual set `Route::body_limit`.
pub struct RawBody {
    /// The content type, empty when the caller gave none.
    pub content_type: String,
    /// The bytes.
    pub bytes: Bytes,
    /// Of the `Idempotency-Key` header, with method, path and body as the fingerprint.
    pub key: Option<OnceKey>,
}

impl FromRequest<App> for RawBody {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let given = client_key(&parts.headers)?;
        let bytes = read(&parts, body, app).await?;
        let key = given.map(|key| once_key(&parts, key, &bytes));
        Ok(RawBody { content_type: content_type(&parts.headers).to_owned(), bytes, key })
    }
}

/// The parameters of the path: one value, a tuple in the path's order, or a struct by name.
pub struct Params<T>(
    /// The parameters.
    pub T,
);

impl<T: DeserializeOwned + Send + 'static> FromRequestParts<App> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let rejection = match parts.extract_with_state::<Path<T>, _>(app).await {
            Ok(Path(params)) if !parts.uri.path().contains("%00") => return Ok(Params(params)),
            Ok(_) => None,
            Err(rejection) => Some(rejection),
        };
        let raw: Vec<(String, String)> = match parts.extract_with_state::<RawPathParams, _>(app).await {
            Ok(raw) => raw.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            Err(_) => Vec::new(),
        };
        let Some(rejection) = rejection else {
            let name = raw.iter().find(|(_, value)| value.contains('\0')).map_or("path", |(name, _)| name);
            return Err(Error::field(name, "invalid", "contains a zero character").into());
        };
        Err(path_problem(rejection, &raw, || culprit::<T>(&raw)).into())
    }
}

/// Which of several parameters could not be read: they are read once more, one after the other. Only who errs pays for it.
fn culprit<T: DeserializeOwned>(raw: &[(String, String)]) -> Option<usize> {
    let reached = Cell::new(0);
    let parts = raw.iter().enumerate().map(|(index, (_, text))| PathPart { text, index, reached: &reached });
    T::deserialize(SeqDeserializer::new(parts)).err().map(|_| reached.get())
}

/// A path's parameter that notes that it was asked for.
struct PathPart<'a> {
    text: &'a str,
    index: usize,
    reached: &'a Cell<usize>,
}

impl<'de> IntoDeserializer<'de> for PathPart<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for PathPart<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> std::result::Result<V::Value, Self::Error> {
        self.reached.set(self.index);
        visitor.visit_str(self.text)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> std::result::Result<V::Value, Self::Error> {
        match self.text.parse() {
            Ok(number) => visitor.visit_i64(number),
            Err(_) => self.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct seq tuple
        tuple_struct map struct enum identifier ignored_any
    }
}

fn path_problem(rejection: PathRejection, raw: &[(String, String)], culprit: impl Fn() -> Option<usize>) -> Error {
    let PathRejection::FailedToDeserializePathParams(failure) = rejection else {
        return Error::internal("a handler takes path parameters that its route does not have");
    };
    let at = |index: usize| raw.get(index).map_or("path", |(name, _)| name).to_owned();
    let unnamed = || if raw.len() > 1 { culprit().map_or("path".to_owned(), at) } else { at(0) };
    let (field, detail) = match failure.into_kind() {
        PathErrorKind::ParseErrorAtKey { key, expected_type, .. } => (key, format!("not a {expected_type}")),
        PathErrorKind::ParseErrorAtIndex { index, expected_type, .. } => (at(index), format!("not a {expected_type}")),
        PathErrorKind::ParseError { expected_type, .. } => (unnamed(), format!("not a {expected_type}")),
        PathErrorKind::InvalidUtf8InPathParam { key } => (key, "not UTF-8".to_owned()),
        PathErrorKind::DeserializeError { key, message, .. } => (key, message),
        PathErrorKind::Message(message) => (unnamed(), message),
        wrong => return Error::internal(format!("a handler takes path parameters that its route does not have: {wrong}")),
    };
    Error::field(field, "invalid", shortened(detail))
}

/// The query string.
pub struct Query<T>(
    /// The values.
    pub T,
);

impl<T: DeserializeOwned> FromRequestParts<App> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        Ok(Query(query(parts)?))
    }
}

fn query<T: DeserializeOwned>(parts: &Parts) -> Result<T> {
    let text = parts.uri.query().unwrap_or("");
    if let Some(pair) = text.split('&').find(|pair| pair.contains("%00")) {
        let name = pair.split('=').next().filter(|name| !name.contains("%00") && !name.is_empty());
        return Err(Error::field(name.unwrap_or("query"), "invalid", "contains a zero character"));
    }
    let input = serde_urlencoded::Deserializer::new(form_urlencoded::parse(text.as_bytes()));
    serde_path_to_error::deserialize(input).map_err(|error| {
        let path = error.path().to_string();
        let message = error.into_inner().to_string();
        described("query", &path, message)
    })
}

/// Documents the parameters that [`Paging`] reads: `params(web::PagingParams)`.
#[derive(Debug, serde::Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PagingParams {
    /// The most rows of the page.
    #[param(minimum = 1, maximum = 100, default = 50)]
    pub limit: Option<u32>,
    /// `next_cursor` of the page before; none for the first page.
    #[param(max_length = 1200)]
    pub cursor: Option<String>,
}

/// The page that is asked for, by `limit` and `cursor` of the query string. `P` is the position that cursors of this list hold.
pub struct Paging<P> {
    limit: u32,
    cursor: Option<String>,
    scope: Scope,
    key: CursorKey,
    position: PhantomData<fn() -> P>,
}

impl<P: DeserializeOwned + Serialize> Paging<P> {
    /// The page of the list named `list`, such as `orders.orders`. Errors: `request.invalid_cursor` for a cursor of another list or tenant.
    pub fn request(&self, list: &str) -> Result<PageRequest<P>> {
        let after = self.cursor.as_deref().map(|cursor| self.key.open(self.scope, list, cursor)).transpose()?;
        Ok(PageRequest { limit: self.limit, after })
    }

    /// The answer out of up to `limit + 1` rows of the same list.
    pub fn page<T>(&self, list: &str, rows: Vec<T>, position: impl Fn(&T) -> P) -> Result<Page<T>> {
        Page::build(rows, self.limit, &self.key, self.scope, list, position)
    }

    /// The answer out of rows of the same list whose reader knows where the next page begins, if there is one.
    pub fn page_to<T>(&self, list: &str, data: Vec<T>, next: Option<P>) -> Result<Page<T>> {
        let next_cursor = next.map(|position| self.key.seal(self.scope, list, &position)).transpose()?;
        Ok(Page { data, next_cursor })
    }
}

impl<P> FromRequestParts<App> for Paging<P> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let asked: PagingParams = query(parts)?;
        let limit = asked.limit.unwrap_or(DEFAULT_PAGE);
        if !(1..=MAX_PAGE).contains(&limit) {
            return Err(Error::field("limit", "out_of_range", format!("limit is between 1 and {MAX_PAGE}")).into());
        }
        Ok(Paging { limit, cursor: asked.cursor, scope: caller(parts)?.scope(), key: app.cursor_key().clone(), position: PhantomData })
    }
}

/// The version that the caller has seen, by `If-Match: "3"`; none when the header is missing or `*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IfMatch(
    /// The version.
    pub Option<i64>,
);

impl IfMatch {
    /// Refuses unless the caller named no version or this one. Errors: `request.precondition_failed` (412).
    pub fn check(self, current: i64) -> Result<()> {
        match self.0 {
            Some(seen) if seen != current => Err(precondition_failed()),
            _ => Ok(()),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(value) = only(&parts.headers, &IF_MATCH, "If-Match")? else { return Ok(IfMatch(None)) };
        if value == "*" {
            return Ok(IfMatch(None));
        }
        // A tag that is none of ours is well-formed, and matches nothing: version 0 does not exist.
        let quoted =
            |v: &str| v.strip_prefix('"').and_then(|v| v.strip_suffix('"')).filter(|v| !v.contains('"')).map(|v| v.parse().unwrap_or(0));
        let version = value.to_str().ok().and_then(quoted);
        let wrong = || Error::field("If-Match", "invalid", "If-Match is one entity tag as it came in ETag, such as \"3\", or *");
        Ok(IfMatch(Some(version.ok_or_else(wrong)?)))
    }
}

fn caller(parts: &Parts) -> Result<&Caller> {
    parts.extensions.get().ok_or_else(|| Error::internal("a handler was called around the edge"))
}

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName, shown: &'static str) -> Result<Option<&'a HeaderValue>> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(Error::field(shown, "repeated", format!("the {shown} header is given more than once")));
    }
    Ok(first)
}

/// The client's key. Errors: `request.invalid` naming the header.
fn client_key(headers: &HeaderMap) -> Result<Option<&str>> {
    let Some(value) = only(headers, &IDEMPOTENCY_KEY, "Idempotency-Key")? else { return Ok(None) };
    let good = value.to_str().ok().filter(|key| (1..=MAX_KEY).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic()));
    let wrong = || Error::field("Idempotency-Key", "invalid", format!("Idempotency-Key is 1 to {MAX_KEY} visible ASCII characters"));
    good.ok_or_else(wrong).map(Some)
}

/// The header by which a shopper reaches a cart.
const CART_TOKEN: &str = "cart-token";

/// A client's key. All shoppers show the same credential, which is no secret: their keys are apart from those of the tenant's own
/// programs, and those of a cart's holder from everybody else's.
fn once_key(parts: &Parts, key: &str, body: &[u8]) -> OnceKey {
    let fingerprint = fingerprint(parts, body);
    if !is_storefront(parts.uri.path()) {
        return OnceKey::new(key, &fingerprint);
    }
    let cart = parts.headers.get(CART_TOKEN).map_or(&b""[..], |token| token.as_bytes());
    OnceKey::new(&format!("storefront {} {key}", String::from_utf8_lossy(cart)), &fingerprint)
}

/// What must be equal when a key is repeated.
fn fingerprint(parts: &Parts, body: &[u8]) -> Vec<u8> {
    let (method, path) = (parts.method.as_str().as_bytes(), parts.uri.path().as_bytes());
    [method, b" ", path, b"\n", body].concat()
}

/// Reads the body within the route's limit and the time for bodies.
pub(crate) async fn read(parts: &Parts, body: axum::body::Body, app: &App) -> Result<Bytes> {
    let limit = caller(parts)?.body_limit_bytes;
    let whole = axum::body::to_bytes(body, limit);
    let time = Duration::from_millis(app.config().body_timeout_ms);
    match tokio::time::timeout(time, whole).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_over_limit(&error) => Err(too_large(limit)),
        Ok(Err(error)) => Err(Error::invalid("request.body_incomplete", "the body broke off").caused_by(error)),
        Err(_) => Err(Error::invalid("request.timeout", "the body did not arrive in time")),
    }
}

fn is_over_limit(error: &axum::Error) -> bool {
    let mut causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.any(|cause| cause.is::<http_body_util::LengthLimitError>())
}

/// The body is larger than the route takes.
pub(crate) fn too_large(limit: usize) -> Error {
    Error::invalid("request.too_large", format!("the body is larger than the {limit} bytes that this route takes")).with_field(
        "body",
        "too_large",
        format!("at most {limit} bytes"),
    )
}

fn content_type(headers: &HeaderMap) -> &str {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("")
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or("").trim();
    let bytes = essence.as_bytes();
    essence.eq_ignore_ascii_case("application/json") || (bytes.len() > 5 && bytes[bytes.len() - 5..].eq_ignore_ascii_case(b"+json"))
}

/// Parses a JSON body. An empty one is taken as null, for handlers whose body is optional.
fn json<T: DeserializeOwned>(headers: &HeaderMap, bytes: &[u8]) -> Result<T> {
    if bytes.is_empty() && headers.get(CONTENT_LENGTH).is_none_or(|n| n == "0") {
        return serde_json::from_slice(b"null").map_err(|_| Error::field("body", "required", "the body is missing: this route takes JSON"));
    }
    if !is_json(content_type(headers)) {
        return Err(Error::invalid("request.unsupported_media_type", "this route takes a body of Content-Type: application/json")
            .with_field("Content-Type", "unsupported", "not application/json"));
    }
    look_over(bytes)?;
    // Serde would take an array for a struct, its fields by their order.
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        return Err(Error::field("body", "invalid", "this route takes a JSON object, not an array"));
    }
    serde_json::from_slice(bytes).or_else(|_| {
        // Read again, with the path: only who errs pays for it.
        let mut input = serde_json::Deserializer::from_slice(bytes);
        let value = serde_path_to_error::deserialize(&mut input).map_err(|error| {
            let path = error.path().to_string();
            let inner = error.into_inner();
            if inner.is_data() { described("body", &path, inner.to_string()) } else { syntax(&inner) }
        })?;
        input.end().map_err(|error| syntax(&error))?;
        Ok(value)
    })
}

fn syntax(error: &serde_json::Error) -> Error {
    Error::field("body", "syntax", format!("not JSON: {error}"))
}

/// Turns serde's words into a field, a code and a detail.
fn described(root: &str, path: &str, mut message: String) -> Error {
    if let Some(end) = message.rfind(" at line ") {
        message.truncate(end);
    }
    let path = path.trim_end_matches(['?', '.']);
    let named = |after: &str| message.strip_prefix(after).and_then(|rest| rest.split('`').nth(1)).map(str::to_owned);
    let (name, code) = if let Some(name) = named("missing field ") {
        (Some(name), "required")
    } else if let Some(name) = named("unknown field ") {
        (Some(name), "unknown_field")
    } else if let Some(name) = named("duplicate field ") {
        (Some(name), "repeated")
    } else {
        (None, "invalid")
    };
    let field = match name {
        Some(name) if path.is_empty() => name,
        Some(name) if path == name || path.ends_with(&format!(".{name}")) => path.to_owned(),
        Some(name) => format!("{path}.{name}"),
        None if path.is_empty() => root.to_owned(),
        None => path.to_owned(),
    };
    Error::field(shortened(field), code, shortened(message))
}

fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_DETAIL) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Refuses what no route takes, before anything is built from it: deep nesting, and zero characters, which PostgreSQL can't store.
fn look_over(bytes: &[u8]) -> Result<()> {
    let (mut depth, mut in_text, mut at) = (0_usize, false, 0);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' if in_text => {
                if bytes[at + 1..].starts_with(b"u0000") {
                    let field = field_with_zero(bytes).unwrap_or_else(|| "body".to_owned());
                    return Err(Error::field(field, "invalid", "contains a zero character"));
                }
                at += 1;
            }
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(Error::field("body", "too_deep", format!("objects and arrays are nested at most {MAX_DEPTH} deep")));
                }
            }
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// The path of the first text with a zero character.
fn field_with_zero(bytes: &[u8]) -> Option<String> {
    fn find(value: &serde_json::Value, path: &str) -> Option<String> {
        match value {
            serde_json::Value::String(text) if text.contains('\0') => Some(path.to_owned()),
            serde_json::Value::Array(items) => items.iter().enumerate().find_map(|(i, item)| find(item, &format!("{path}[{i}]"))),
            serde_json::Value::Object(fields) => {
                let inner = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
                fields.iter().find_map(|(name, item)| if name.contains('\0') { Some(path.to_owned()) } else { find(item, &inner(name)) })
            }
            _ => None,
        }
    }
    let value = serde_json::from_slice(bytes).ok()?;
    find(&value, "").filter(|path| !path.is_empty())
}
