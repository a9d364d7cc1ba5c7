//! Requests and answers, told in a line.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tower::ServiceExt as _;
use web::Web;

/// Someone who sends requests with a credential.
#[derive(Clone)]
pub struct Client {
    pub(crate) web: Web,
    pub(crate) token: Option<String>,
}

impl Client {
    /// GET.
    pub fn get(&self, path: impl Into<String>) -> TestRequest {
        self.request(Method::GET, path)
    }
    /// POST.
    pub fn post(&self, path: impl Into<String>) -> TestRequest {
        self.request(Method::POST, path)
    }
    /// PUT.
    pub fn put(&self, path: impl Into<String>) -> TestRequest {
        self.request(Method::PUT, path)
    }
    /// PATCH.
    pub fn patch(&self, path: impl Into<String>) -> TestRequest {
        self.request(Method::PATCH, path)
    }
    /// DELETE.
    pub fn delete(&self, path: impl Into<String>) -> TestRequest {
        self.request(Method::DELETE, path)
    }
    /// Any method.
    pub fn request(&self, method: Method, path: impl Into<String>) -> TestRequest {
        let request =
            TestRequest { web: self.web.clone(), method, path: path.into(), headers: HeaderMap::new(), body: Vec::new(), peer: None };
        match &self.token {
            Some(token) => request.bearer(token),
            None => request,
        }
    }
}

/// A request that is being put together.
#[must_use = "a request does nothing until it is sent"]
pub struct TestRequest {
    web: Web,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Vec<u8>,
    peer: Option<std::net::IpAddr>,
}

impl TestRequest {
    /// From this address.
    pub fn from_ip(mut self, ip: &str) -> TestRequest {
        self.peer = Some(ip.parse().unwrap_or_else(|_| panic!("{ip} is no address")));
        self
    }

    /// With this token, instead of the client's.
    pub fn bearer(self, token: impl AsRef<str>) -> TestRequest {
        let value = format!("Bearer {}", token.as_ref());
        self.header("authorization", value)
    }

    /// With this header.
    pub fn header(mut self, name: &str, value: impl AsRef<str>) -> TestRequest {
        let name: HeaderName = name.parse().unwrap_or_else(|_| panic!("{name} is no header name"));
        let value = HeaderValue::from_bytes(value.as_ref().as_bytes()).expect("a header's value");
        self.headers.insert(name, value);
        self
    }

    /// With this `Idempotency-Key`.
    pub fn key(self, key: &str) -> TestRequest {
        self.header("idempotency-key", key)
    }

    /// With this version in `If-Match`.
    pub fn if_match(self, version: i64) -> TestRequest {
        self.header("if-match", format!("\"{version}\""))
    }

    /// With this tenant in `X-Tenant-Id`.
    pub fn tenant(self, tenant: impl ToString) -> TestRequest {
        self.header("x-tenant-id", tenant.to_string())
    }

    /// With a JSON body.
    pub fn json(self, body: &impl Serialize) -> TestRequest {
        let bytes = serde_json::to_vec(body).expect("a body that serialises");
        self.raw("application/json", bytes)
    }

    /// With a body of any kind.
    pub fn raw(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> TestRequest {
        self.body = body.into();
        self.header("content-type", content_type)
    }

    /// Sends it, and reads the whole answer. (An event stream has no end: take [`crate::TestApp::web`] for that.)
    pub async fn send(self) -> TestResponse {
        let mut request = Request::builder().method(self.method.clone()).uri(&self.path);
        if !self.body.is_empty() {
            request = request.header("content-length", self.body.len());
        }
        let mut request = request.body(Body::from(self.body)).unwrap_or_else(|error| panic!("{} is no path: {error}", self.path));
        request.headers_mut().extend(self.headers);
        if let Some(peer) = self.peer {
            request.extensions_mut().insert(web::Peer(peer));
        }
        let response = match self.web.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
        TestResponse {
            asked: format!("{} {}", self.method, self.path),
            status: parts.status,
            headers: parts.headers,
            json,
            body: body.to_vec(),
        }
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct TestResponse {
    asked: String,
    /// The status; compares with numbers.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, if it is JSON; null otherwise.
    pub json: Value,
    /// The body as it came.
    pub body: Vec<u8>,
}

impl TestResponse {
    /// Fails the test, showing the body, unless it has this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> TestResponse {
        assert_eq!(self.status.as_u16(), status, "{}: {}", self.asked, String::from_utf8_lossy(&self.body));
        self
    }

    /// Fails the test unless it is a problem with this status and code.
    #[track_caller]
    pub fn expect_problem(self, status: u16, code: &str) -> TestResponse {
        let response = self.expect(status);
        assert_eq!(response.header("content-type"), "application/problem+json", "{}", response.asked);
        assert_eq!(response.json["code"], code, "{}: {}", response.asked, response.json);
        response
    }

    /// Whether the problem names this field.
    pub fn names_field(&self, field: &str) -> bool {
        self.json["errors"].as_array().is_some_and(|errors| errors.iter().any(|e| e["field"] == field))
    }

    /// A header's text; empty when it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// The body as a `T`.
    #[track_caller]
    pub fn read<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{}: {error}: {}", self.asked, String::from_utf8_lossy(&self.body)))
    }

    /// A text field of the body.
    #[track_caller]
    pub fn text(&self, field: &str) -> String {
        self.json[field].as_str().unwrap_or_else(|| panic!("{}: no text {field} in {}", self.asked, self.json)).to_owned()
    }
}
