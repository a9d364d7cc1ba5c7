//! The one path of a request: id, overload, tenant's path form, routing, then (per route) tenant, credential, permission, limits,
//! time, the handler, and on the way back problems, conditional answers, compression and headers.

use crate::app::{App, Credential, Identity};
use crate::builtin;
use crate::caller::Caller;
use crate::extract::{IDEMPOTENCY_KEY, too_large};
use crate::handlers::Handlers;
use crate::intake::{Again, Deferred, Kept, intake_of};
use crate::limits::{self, Asking, Peer, Told};
use crate::metrics::RouteMetrics;
use crate::module::{Access, Module, Route, STOREFRONT, STOREFRONT_PATH};
use crate::problem::{Problem, finish, render};
use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use axum::http::header::{
    ACCEPT_ENCODING, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH,
    CONTENT_TYPE, ETAG, HOST, IF_NONE_MATCH, ORIGIN, VARY,
};
use axum::http::request::Parts;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http_body_util::BodyExt as _;
use kernel::{Error, Result, TenantId};
use prometheus_client::metrics::gauge::Gauge;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use store::CommitPosition;
use tower::{Layer, Service};
use traffic::resilience::{Deadline, Priority, Slot};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_TENANT_ID: HeaderName = HeaderName::from_static("x-tenant-id");
/// What a caller has seen, told by the answer to a write and sent along with what comes after it.
const BRANDOS_POSITION: HeaderName = HeaderName::from_static("brandos-position");
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// What comes before the tenant in the path form.
const TENANT_PATH: &str = "/api/v1/tenants/";
/// Longer names of tenants don't exist.
const MAX_TENANT_NAME: usize = 64;
/// Longer tokens don't exist.
const MAX_TOKEN: usize = 4096;
/// Bodies are compressed from and up to these sizes.
const GZIP_BYTES: std::ops::RangeInclusive<u64> = 1025..=1024 * 1024;

/// The application as a service of HTTP requests; cheap to clone.
#[derive(Clone)]
pub struct Web(Arc<Edge>);

struct Edge {
    app: App,
    router: Router,
    request_ids: RequestIds,
}

impl Web {
    pub(crate) fn new(app: App, mut modules: Vec<Module>, pages: &'static [builtin::Page]) -> Result<Web> {
        crate::module::check(&modules)?;
        let mut router: Router<App> = Router::new();
        let mut built_in = builtin::routes();
        for route in modules.iter_mut().flat_map(|module| &mut module.routes).chain(&mut built_in) {
            router = mount(router, route, &app);
        }
        let router = builtin::pages(router, modules, pages).with_state(app.clone());
        let mut seed = [0; 16];
        app.rng().fill(&mut seed);
        Ok(Web(Arc::new(Edge { request_ids: RequestIds::new(seed), app, router })))
    }

    /// The state that handlers get.
    pub fn app(&self) -> &App {
        &self.0.app
    }

    /// Answers one request.
    pub async fn handle(&self, mut request: Request) -> Response {
        let edge = &*self.0;
        let (request_id, id_header) = edge.request_ids.of(request.headers());
        let back = WayBack::of(&request);
        let mut caller = Caller::nobody(request_id.clone());
        if request.headers().contains_key(IDEMPOTENCY_KEY) {
            caller.replayed = Some(Arc::default());
        }
        let replayed = caller.replayed.clone();
        let mut response = match self.enter(&mut request, &mut caller) {
            Some(answer) => finish(answer, &request_id),
            None => {
                let metrics = &edge.app.0.metrics;
                let flight = InFlight::enter(&metrics.in_flight);
                let full = flight.others >= i64::from(edge.app.config().concurrency);
                if full && !is_probe(request.uri().path()) {
                    metrics.overloaded.inc();
                    render(
                        &Error::overloaded("server.overloaded", "too many requests are in flight; nothing was done").retry_after_ms(1000),
                        &request_id,
                    )
                } else {
                    request.extensions_mut().insert(caller);
                    let response = match edge.router.clone().call(request).await {
                        Ok(response) => response,
                        Err(never) => match never {},
                    };
                    let lost = matches!(response.status(), StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED);
                    if lost && response.extensions().get::<Problem>().is_none() {
                        metrics.unmatched.inc();
                    }
                    finish(response, &request_id)
                }
            }
        };
        response.headers_mut().insert(X_REQUEST_ID, id_header);
        if replayed.is_some_and(|replayed: Arc<AtomicBool>| replayed.load(Relaxed)) {
            response.headers_mut().insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
        }
        back.finish(response, &edge.app).await
    }

    /// Does a request that was taken in, under its key, as whoever asked for it may do it now. Errors: those of the route; unauthenticated
    /// or forbidden when the caller may not do it any more.
    pub async fn again(&self, request: Deferred, key: &str) -> Result<Response> {
        let app = self.app();
        let identity = app.authenticator().actor_now(app.store(), request.actor, request.tenant).await?;
        let mut response = match self.0.router.clone().call(request.request(key, identity)?).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        match response.extensions_mut().remove::<Problem>() {
            Some(Problem(error)) => Err(error),
            None if response.status().is_success() => Ok(response),
            None => Err(Error::internal(format!("a route answered {} to what was taken in", response.status()))),
        }
    }

    /// What comes before routing: the block list, preflights, and the path form of the tenant.
    fn enter(&self, request: &mut Request, caller: &mut Caller) -> Option<Response> {
        if let Some(limiter) = self.0.app.limits() {
            let peer = request.extensions().get::<Peer>();
            let ip = limits::client_ip(request.headers(), peer, self.0.app.trusted_proxies());
            if ip.is_some_and(|ip| limiter.blocks(ip)) {
                return Some(Problem(limits::blocked()).into_response());
            }
        }
        if request.method() == Method::OPTIONS
            && (!self.0.app.config().cors_origins.is_empty() || is_storefront(request.uri().path()))
            && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
        {
            return Some(StatusCode::NO_CONTENT.into_response());
        }
        let after = request.uri().path().strip_prefix(TENANT_PATH)?;
        let (tenant, rest) = after.split_once('/')?;
        if rest.is_empty() {
            return None;
        }
        let tenant: Box<str> = tenant.into();
        let plain = match request.uri().query() {
            Some(query) => format!("/api/v1/{rest}?{query}"),
            None => format!("/api/v1/{rest}"),
        };
        match PathAndQuery::from_maybe_shared(Bytes::from(plain)) {
            Ok(plain) => *request.uri_mut() = Uri::from(plain),
            Err(_) => return Some(Problem(Error::not_found("request.unknown_path", "there is nothing at this path")).into_response()),
        }
        caller.path_tenant = Some(tenant);
        None
    }
}

impl Service<Request<Body>> for Web {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let web = self.clone();
        Box::pin(async move { Ok(web.handle(request).await) })
    }
}

/// What tells how the server is stays reachable when it is full.
fn is_probe(path: &str) -> bool {
    path.starts_with("/health/") || path == "/metrics"
}

/// Counts a request as long as its answer has not begun.
struct InFlight<'a> {
    gauge: &'a Gauge,
    /// How many there were before it.
    others: i64,
}

impl<'a> InFlight<'a> {
    fn enter(gauge: &'a Gauge) -> Self {
        InFlight { gauge, others: gauge.inc() }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

/// Makes the ids of requests that bring none: unique within the process by counting, between processes by a random start.
struct RequestIds {
    start: u64,
    count: AtomicU64,
}

impl RequestIds {
    fn new(seed: [u8; 16]) -> RequestIds {
        let (start, count) = seed.split_at(8);
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("half of sixteen bytes"));
        RequestIds { start: number(start), count: AtomicU64::new(number(count)) }
    }

    /// The request's own id when it has a valid one, or a new one; as text and as the header of the answer.
    fn of(&self, headers: &HeaderMap) -> (Arc<str>, HeaderValue) {
        if let Some(header) = headers.get(X_REQUEST_ID) {
            let bytes = header.as_bytes();
            let good = (1..=64).contains(&bytes.len()) && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
            if let (true, Ok(text)) = (good, header.to_str()) {
                return (text.into(), header.clone());
            }
        }
        let mut text = String::with_capacity(32);
        let _ = write!(text, "{:016x}{:016x}", self.start, self.count.fetch_add(1, Relaxed));
        let id = Arc::from(text.as_str());
        (id, HeaderValue::from_maybe_shared(Bytes::from(text)).expect("hexadecimal digits are a header value"))
    }
}

/// What the way back needs to know of the request.
struct WayBack {
    if_none_match: Option<HeaderValue>,
    origin: Option<HeaderValue>,
    preflight: bool,
    gzip: bool,
    storefront: bool,
}

impl WayBack {
    fn of(request: &Request) -> WayBack {
        let headers = request.headers();
        let reads = request.method() == Method::GET || request.method() == Method::HEAD;
        WayBack {
            if_none_match: headers.get(IF_NONE_MATCH).filter(|_| reads).cloned(),
            origin: headers.get(ORIGIN).cloned(),
            preflight: request.method() == Method::OPTIONS,
            storefront: is_storefront(request.uri().path()),
            gzip: request.method() != Method::HEAD && headers.get(ACCEPT_ENCODING).is_some_and(takes_gzip),
        }
    }

    async fn finish(self, mut response: Response, app: &App) -> Response {
        if let (Some(seen), Some(tag)) = (&self.if_none_match, response.headers().get(ETAG))
            && response.status() == StatusCode::OK
            && names_tag(seen, tag)
        {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            *response.body_mut() = Body::empty();
            response.headers_mut().remove(CONTENT_TYPE);
            response.headers_mut().remove(CONTENT_LENGTH);
        }
        if self.gzip {
            response = compressed(response).await;
        }
        if let Some(origin) = self.origin {
            allow_origin(response.headers_mut(), &app.config().cors_origins, origin, self.preflight, self.storefront);
        }
        response
    }
}

fn takes_gzip(accept: &HeaderValue) -> bool {
    let Ok(text) = accept.to_str() else { return false };
    text.split(',').any(|item| {
        let mut words = item.split(';').map(str::trim);
        let coding = words.next().unwrap_or("");
        coding.eq_ignore_ascii_case("gzip") && !words.any(|w| w.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0)))
    })
}

fn names_tag(seen: &HeaderValue, tag: &HeaderValue) -> bool {
    let (Ok(seen), Ok(tag)) = (seen.to_str(), tag.to_str()) else { return false };
    seen.trim() == "*" || seen.split(',').any(|s| s.trim().trim_start_matches("W/") == tag)
}

/// Compresses a whole body of text. Streams go out as they are.
async fn compressed(mut response: Response) -> Response {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|t| t.to_str().ok()).unwrap_or("");
    let text = (kind.starts_with("text/") && !kind.starts_with("text/event-stream")) || kind.contains("json");
    let size = response.body().size_hint().exact().unwrap_or(0);
    if !text || !GZIP_BYTES.contains(&size) || response.headers().contains_key(CONTENT_ENCODING) {
        return response;
    }
    let body = std::mem::take(response.body_mut());
    let Ok(whole) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
        return Problem(Error::internal("a body that was in memory could not be read")).into_response();
    };
    let mut encoder = flate2::write::GzEncoder::new(Vec::with_capacity(whole.len() / 4), flate2::Compression::fast());
    let packed = std::io::Write::write_all(&mut encoder, &whole).and_then(|()| encoder.finish());
    let headers = response.headers_mut();
    headers.append(VARY, HeaderValue::from_static("accept-encoding"));
    *response.body_mut() = match packed {
        Ok(packed) => {
            headers.remove(CONTENT_LENGTH);
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            Body::from(packed)
        }
        Err(_) => Body::from(whole),
    };
    response
}

/// Pages of every origin may ask the storefront: a browser adds nothing by which a caller is known. Which of them may use its key a tenant
/// says with the key.
pub(crate) fn is_storefront(path: &str) -> bool {
    let after_tenant = || path.strip_prefix(TENANT_PATH)?.split_once('/').map(|(_, rest)| rest.starts_with("storefront/"));
    path.starts_with(STOREFRONT_PATH) || after_tenant().unwrap_or(false)
}

fn allow_origin(headers: &mut HeaderMap, allowed: &[String], origin: HeaderValue, preflight: bool, storefront: bool) {
    if allowed.is_empty() && !storefront {
        return;
    }
    headers.append(VARY, HeaderValue::from_static("origin"));
    if !storefront && !allowed.iter().any(|a| a == "*" || a.as_bytes() == origin.as_bytes()) {
        return;
    }
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    if preflight {
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE"));
        let names = "authorization, brandos-position, cart-token, checkout-token, content-type, idempotency-key, if-match, if-none-match, last-event-id, x-request-id, x-tenant-id";
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(names));
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    } else {
        let names = "age, brandos-position, etag, idempotency-replayed, location, retry-after, warning, x-request-id";
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(names));
        headers.append(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(limits::EXPOSED));
    }
}

/// Takes a route's handlers and puts them behind its guard; what describes them stays with it. The modules have been checked: the route has one path, and none collides with another.
fn mount(router: Router<App>, route: &mut Route, app: &App) -> Router<App> {
    let Handlers { paths, methods, router: handlers, .. } = &mut route.handlers;
    let [path] = &paths[..] else { return router };
    let config = app.config();
    let rules = Rules {
        access: route.access,
        body_limit_bytes: route.body_limit_bytes.unwrap_or(config.body_limit_bytes),
        time: Duration::from_millis(route.timeout_ms.unwrap_or(config.request_timeout_ms)),
        priority: route.priority,
        taken_in: route.taken_in,
        path: path.as_str().into(),
        in_tenant: path.starts_with("/api/"),
        metrics: methods.iter().map(|method| (method.clone(), app.0.metrics.of_route(method, path))).collect(),
    };
    let rules = Arc::new(rules);
    router.route(path, std::mem::take(handlers).route_layer(GuardLayer { app: app.clone(), rules }))
}

/// What a route demands.
struct Rules {
    access: Access,
    path: Box<str>,
    body_limit_bytes: usize,
    time: Duration,
    /// How much it matters, unless that follows from the method.
    priority: Option<Priority>,
    /// Whether its POST may be done later, while the store is away.
    taken_in: bool,
    /// Whether the request's tenant matters: not to health checks and the like.
    in_tenant: bool,
    metrics: Vec<(Method, RouteMetrics)>,
}

#[derive(Clone)]
struct GuardLayer {
    app: App,
    rules: Arc<Rules>,
}

impl<S> Layer<S> for GuardLayer {
    type Service = Guard<S>;

    fn layer(&self, handler: S) -> Guard<S> {
        Guard { app: self.app.clone(), rules: self.rules.clone(), handler }
    }
}

/// Stands before the handlers of one route.
#[derive(Clone)]
struct Guard<S> {
    app: App,
    rules: Arc<Rules>,
    handler: S,
}

impl<S> Service<Request> for Guard<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let Guard { app, rules, handler } = self.clone();
        Box::pin(async move {
            let begun = Instant::now();
            let method = request.method().clone();
            let mut told = None;
            let mut response = {
                // Pinned where it is: it is large, and each of those around it would copy it.
                let work = pin!(admitted(&app, &rules, handler, request, &mut told));
                let work = AssertUnwindSafe(work).catch_unwind();
                // The timer costs nothing when the handler answers at once: it is armed only when it has to wait.
                match tokio::time::timeout(rules.time, Deadline::within(rules.time).scope(work)).await {
                    Ok(Ok(response)) => response,
                    Ok(Err(panic)) => Problem(Error::internal(format!("a handler panicked: {}", panic_text(&*panic)))).into_response(),
                    Err(_) => Problem(out_of_time(&method)).into_response(),
                }
            };
            let status = match response.extensions().get::<Problem>() {
                Some(Problem(error)) => crate::problem::status(error),
                None => response.status(),
            };
            let counted = if method == Method::HEAD { &Method::GET } else { &method };
            if let Some((_, metrics)) = rules.metrics.iter().find(|(m, _)| m == counted) {
                metrics.record(status, begun.elapsed());
            }
            if let Some(told) = told {
                told.write(response.headers_mut());
            }
            Ok(response)
        })
    }
}

/// Answers a request with the handler, if it may come in. `told` is what the answer says of the caller's limits.
async fn admitted<S>(app: &App, rules: &Rules, mut handler: S, request: Request, told: &mut Option<Told>) -> Response
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    let (mut parts, body) = request.into_parts();
    // Health checks and metrics come in however full it is.
    let _slot = if rules.in_tenant {
        match make_room(app, rules, &parts.method) {
            Ok(slot) => Some(slot),
            Err(error) => return Problem(error).into_response(),
        }
    } else {
        None
    };
    let again = if rules.taken_in { parts.extensions.remove::<Again>() } else { None };
    let intake = intake_of(app, rules.taken_in && parts.method == Method::POST, again.is_some());
    if let Err(error) = admit(app, rules, &mut parts, again, told).await {
        return Problem(error).into_response();
    }
    // A body of unknown length is cut off whichever way the handler reads it.
    let body =
        if body.size_hint().upper().is_none() { Body::new(http_body_util::Limited::new(body, rules.body_limit_bytes)) } else { body };
    let seen = seen(rules, &parts);
    // Read here, where it is still there when the handler has found the store away.
    let (body, kept) = match intake {
        Some(_) => match crate::extract::read(&parts, body, app).await {
            Ok(bytes) => (Body::from(bytes.clone()), Kept::of(&parts, &bytes)),
            Err(error) => return Problem(error).into_response(),
        },
        None => (body, None),
    };
    let mut response = match handler.call(Request::from_parts(parts, body)).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    if let (Some(intake), Some(kept)) = (intake, kept) {
        response = kept.unless_done(intake, response).await;
    }
    if let Some((tenant, before)) = seen {
        tell_position(app, tenant, before, response.headers_mut()).await;
    }
    response
}

/// A place among the requests that are served at once. As these become many, what matters least is turned away first.
fn make_room(app: &App, rules: &Rules, method: &Method) -> Result<Slot> {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let priority = rules.priority.unwrap_or(if reads { Priority::Low } else { Priority::Normal });
    app.0.shedder.enter(priority).ok_or_else(|| {
        app.0.metrics.shed(priority);
        Error::overloaded("server.overloaded", "too much is under way for a request that can wait; nothing was done").retry_after_ms(1000)
    })
}

/// The tenant in which a request writes, and what its caller had seen before.
fn seen(rules: &Rules, parts: &Parts) -> Option<(TenantId, Option<CommitPosition>)> {
    if !matches!(rules.access, Access::Tenant(_) | Access::Storefront) || parts.method == Method::GET || parts.method == Method::HEAD {
        return None;
    }
    let caller = parts.extensions.get::<Caller>().filter(|caller| !caller.away)?;
    Some((caller.tenant?, caller.position))
}

/// Tells the caller how far it has seen now: never less than it said itself. Refusals tell it too, since they may rest on what another
/// has written. Nothing where there are no replicas.
async fn tell_position(app: &App, tenant: TenantId, before: Option<CommitPosition>, headers: &mut HeaderMap) {
    let Some(position) = app.store().position(tenant).await else { return };
    let position = before.map_or(position, |before| before.or_later(position));
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(position.to_string())) {
        headers.insert(BRANDOS_POSITION, value);
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without words")
}

fn out_of_time(method: &Method) -> Error {
    if method == Method::GET || method == Method::HEAD {
        return Error::unavailable("server.timeout", "the answer took too long");
    }
    Error::unknown("server.timeout", "the answer took too long; it may have happened or not: ask again with the same Idempotency-Key")
}

/// Finds out tenant and actor, and lets them in or not. `told` is what the answer says of the caller's limits.
async fn admit(app: &App, rules: &Rules, parts: &mut Parts, again: Option<Again>, told: &mut Option<Told>) -> Result<()> {
    // What is done again was counted when it was taken in.
    let asking = if rules.in_tenant && again.is_none() { Asking::new(app, &rules.path, parts) } else { None };
    if let Some(asking) = &asking {
        asking.enter(told).await?;
    }
    let announced = parts.headers.get(CONTENT_LENGTH).and_then(|n| n.to_str().ok()).and_then(|n| n.parse::<usize>().ok()).unwrap_or(0);
    if announced > rules.body_limit_bytes {
        return Err(too_large(rules.body_limit_bytes));
    }
    let position = if rules.in_tenant { position(&parts.headers)? } else { None };
    let named = match &again {
        Some(Again(identity)) => identity.tenant,
        None if rules.in_tenant => named_tenant(app, parts).await?,
        None => None,
    };
    let identity = match (again, rules.access) {
        (Some(Again(identity)), _) => Some(identity),
        (None, Access::Public) => None,
        _ => match authenticate(app, parts, named).await {
            Ok(identity) => Some(identity),
            Err(error) => {
                if let Some(asking) = &asking {
                    asking.unknown(told).await?;
                }
                return Err(error);
            }
        },
    };
    if let Some(asking) = &asking {
        // All shoppers of a shop show the same publishable key: each is limited by its address, as if it showed none.
        asking.take(identity.as_ref().filter(|identity| identity.publishable.is_none()), told).await?;
    }
    let caller = parts.extensions.get_mut::<Caller>().ok_or_else(|| Error::internal("a handler was called around the edge"))?;
    caller.tenant = named;
    caller.position = position;
    caller.body_bytes = announced;
    caller.body_limit_bytes = rules.body_limit_bytes;
    caller.on_platform = matches!(rules.access, Access::Platform(_));
    let Some(identity) = identity else { return Ok(()) };
    caller.away = identity.remembered;
    if caller.away && !rules.taken_in && parts.method != Method::GET && parts.method != Method::HEAD {
        return caller.reach();
    }
    if let Some(origins) = &identity.publishable {
        may_use(origins, rules.access, &parts.headers)?;
    }
    if let (Some(own), Some(named)) = (identity.tenant, named)
        && own != named
    {
        return Err(mismatch("the credential"));
    }
    caller.tenant = named.or(identity.tenant);
    caller.actor = identity.actor;
    caller.permissions = identity.permissions;
    caller.platform = identity.platform;
    let permission = match rules.access {
        Access::Public | Access::SignedIn => return Ok(()),
        Access::Tenant(permission) => {
            caller.tenant()?;
            permission
        }
        Access::Storefront => {
            caller.tenant()?;
            STOREFRONT
        }
        Access::Platform(permission) => permission,
    };
    if !caller.has(permission) {
        return Err(Error::forbidden("request.forbidden", format!("this needs the permission {permission}")));
    }
    Ok(())
}

/// Whether a publishable key may be used here and from there. Errors: `request.forbidden`, `request.origin_not_allowed`.
fn may_use(origins: &[String], access: Access, headers: &HeaderMap) -> Result<()> {
    if access != Access::Storefront {
        return Err(Error::forbidden("request.forbidden", "a publishable key opens the storefront and nothing else"));
    }
    let listed = |origin: &HeaderValue| origins.is_empty() || origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes());
    match headers.get(ORIGIN) {
        Some(origin) if !listed(origin) => Err(Error::forbidden("request.origin_not_allowed", "this key is for pages of other origins")),
        _ => Ok(()),
    }
}

/// What the caller has seen, if it says so.
fn position(headers: &HeaderMap) -> Result<Option<CommitPosition>> {
    let mut values = headers.get_all(BRANDOS_POSITION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let position = value.to_str().ok().and_then(CommitPosition::parse).filter(|_| values.next().is_none());
    let wrong = || Error::field("BrandOS-Position", "invalid", "one position as an answer gave it, such as 0-1-615bd8c0");
    position.map(Some).ok_or_else(wrong)
}

fn mismatch(source: &str) -> Error {
    Error::invalid("request.tenant_mismatch", format!("the request names one tenant and {source} another")).with_field(
        "X-Tenant-Id",
        "mismatch",
        "subdomain, X-Tenant-Id, path and credential must agree",
    )
}

/// The credential's identity. Errors: `request.unauthenticated` without one; the authenticator's.
pub(crate) async fn authenticate(app: &App, parts: &Parts, tenant: Option<TenantId>) -> Result<Identity> {
    let token = bearer(&parts.headers)?;
    app.authenticator().authenticate(app.store(), Credential::Bearer(token), tenant).await
}

/// The token of the `Authorization` header.
pub(crate) fn bearer(headers: &HeaderMap) -> Result<&str> {
    let missing = || {
        Error::unauthenticated("request.unauthenticated", "this needs a credential: Authorization: Bearer and an access token or API key")
    };
    let text = headers.get(AUTHORIZATION).ok_or_else(missing)?.to_str().map_err(|_| missing())?;
    let (scheme, token) = text.split_once(' ').ok_or_else(missing)?;
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() || token.len() > MAX_TOKEN {
        return Err(missing());
    }
    Ok(token)
}

/// The tenant that the request names: by path, header or subdomain. Errors: `request.tenant_mismatch`, `request.unknown_tenant`.
async fn named_tenant(app: &App, parts: &Parts) -> Result<Option<TenantId>> {
    let path = parts.extensions.get::<Caller>().and_then(|caller| caller.path_tenant.as_deref());
    let header = match parts.headers.get(X_TENANT_ID) {
        Some(value) => Some(value.to_str().map_err(|_| Error::field("X-Tenant-Id", "invalid", "X-Tenant-Id is a tenant's slug or id"))?),
        None => None,
    };
    let config = app.config();
    let subdomain = config
        .base_domain
        .as_deref()
        .and_then(|base| subdomain(&parts.headers, base))
        .filter(|s| !config.plain_subdomains.iter().any(|p| p == s));
    let mut found: Option<(&str, TenantId)> = None;
    for (source, name) in [("the path", path), ("X-Tenant-Id", header), ("the subdomain", subdomain)] {
        let Some(name) = name else { continue };
        let tenant = tenant_by_name(app, name).await?;
        match found {
            Some((_, earlier)) if earlier != tenant => return Err(mismatch(source)),
            _ => found = Some((source, tenant)),
        }
    }
    Ok(found.map(|(_, tenant)| tenant))
}

fn subdomain<'a>(headers: &'a HeaderMap, base: &str) -> Option<&'a str> {
    let host = headers.get(HOST)?.to_str().ok()?;
    let host = host.split(':').next()?;
    let (label, domain) = host.split_at_checked(host.len().checked_sub(base.len())?)?;
    let label = label.strip_suffix('.')?;
    (domain.eq_ignore_ascii_case(base) && !label.is_empty()).then_some(label)
}

async fn tenant_by_name(app: &App, name: &str) -> Result<TenantId> {
    let unknown = || Error::not_found("request.unknown_tenant", "there is no such tenant");
    let shaped =
        !name.is_empty() && name.len() <= MAX_TENANT_NAME && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if !shaped {
        return Err(unknown());
    }
    app.authenticator().tenant_by_name(app.store(), name).await?.ok_or_else(unknown)
}
