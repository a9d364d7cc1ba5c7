//! What every BrandOS serves by itself: health, metrics, the OpenAPI document, and the pages to browse them.

use crate::app::App;
use crate::handlers;
use crate::health::Mode;
use crate::module::{Access, Module, Route};
use crate::problem::Result;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use kernel::Error;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// Nothing from elsewhere, nothing inline, no framing.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The documented routes.
pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::new(Access::Public, handlers!(live)),
        Route::new(Access::Public, handlers!(ready)),
        Route::new(Access::Public, handlers!(metrics)),
    ]
}

/// A file that is served as it is, beside the API: what a page needs comes from this server, and nothing from elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Such as `/shop/shop.js`.
    pub path: &'static str,
    /// Its content type, such as `text/html; charset=utf-8`.
    pub content_type: &'static str,
    /// What it is.
    pub text: &'static str,
}

/// The pages, which are not part of the API.
pub(crate) fn pages(router: Router<App>, modules: Vec<Module>, own: &'static [Page]) -> Router<App> {
    let document = Arc::new(Document { modules, text: OnceCell::new() });
    let router = own.iter().fold(router, |router, file| {
        let html = file.content_type.starts_with("text/html");
        router.route(file.path, get(move || async move { if html { page(file.text) } else { asset(file.content_type, file.text) } }))
    });
    router
        .route("/", get(|| async { page(include_str!("pages/root.html")) }))
        .route("/docs", get(|| async { page(include_str!("pages/docs.html")) }))
        .route("/docs/docs.js", get(|| async { asset("text/javascript; charset=utf-8", include_str!("pages/docs.js")) }))
        .route("/docs/docs.css", get(|| async { asset("text/css; charset=utf-8", include_str!("pages/docs.css")) }))
        .route("/openapi.json", get(move || openapi(document)))
}

/// The OpenAPI document, made when it is asked for the first time.
struct Document {
    modules: Vec<Module>,
    text: OnceCell<Bytes>,
}

async fn openapi(document: Arc<Document>) -> Result<Response> {
    let make = || async {
        let of = document.clone();
        let made = tokio::task::spawn_blocking(move || Bytes::from(crate::openapi::openapi(&of.modules).to_string())).await;
        made.map_err(|error| Error::internal("the OpenAPI document was not made").caused_by(error))
    };
    let text = document.text.get_or_try_init(make).await?.clone();
    Ok(([(CONTENT_TYPE, "application/json")], text).into_response())
}

fn page(html: &'static str) -> Response {
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, PAGE_POLICY),
        (X_FRAME_OPTIONS, "DENY"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, html).into_response()
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    ([(CONTENT_TYPE, kind), (X_CONTENT_TYPE_OPTIONS, "nosniff"), (CACHE_CONTROL, "no-cache")], text).into_response()
}

/// The answer of the health checks.
#[derive(serde::Serialize, utoipa::ToSchema)]
struct Health {
    /// `ok`, or `degraded` when something that can be done without is away.
    status: &'static str,
    /// Each dependency. What is done without it is told to those who may see it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dependencies: Vec<HealthOf>,
}

/// A dependency and how it is.
#[derive(serde::Serialize, utoipa::ToSchema)]
struct HealthOf {
    /// Its name.
    name: &'static str,
    /// How it is.
    mode: Mode,
}

/// Whether the process runs.
#[utoipa::path(get, path = "/health/live", tag = "platform", responses((status = 200, body = Health)))]
async fn live() -> Json<Health> {
    Json(Health { status: "ok", dependencies: Vec::new() })
}

/// Whether requests can be served: the store answers, or is away and orders are taken in meanwhile; and the server is not stopping. Names
/// each dependency and how it is.
#[utoipa::path(get, path = "/health/ready", tag = "platform", responses((status = 200, body = Health)))]
async fn ready(State(app): State<App>) -> Result<Json<Health>> {
    if *app.stopping().borrow() {
        return Err(Error::unavailable("server.not_ready", "the server is stopping").into());
    }
    let states = crate::health::states(&app).await;
    // All nodes that share a database lose it at once. As long as they take orders in, nobody is helped by asking none of them.
    let takes_in = app.0.intake.as_ref().is_some_and(|intake| intake.has_room());
    if let Some(store) = states.iter().find(|state| !takes_in && state.name == crate::health::STORE && state.mode == Mode::Away) {
        return Err(Error::unavailable("server.not_ready", format!("the store {}", store.detail)).into());
    }
    let status = if states.iter().all(|state| state.mode == Mode::Normal) { "ok" } else { "degraded" };
    Ok(Json(Health { status, dependencies: states.iter().map(|state| HealthOf { name: state.name, mode: state.mode }).collect() }))
}

/// Metrics in the text form of Prometheus (OpenMetrics).
#[utoipa::path(get, path = "/metrics", tag = "platform", responses((status = 200, body = String, content_type = "application/openmetrics-text")))]
async fn metrics(State(app): State<App>) -> Result<Response> {
    for state in crate::health::states(&app).await {
        app.0.metrics.dependency(state.name, state.mode);
    }
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, app.registry())
        .map_err(|error| Error::internal("the metrics could not be written").caused_by(error))?;
    Ok(([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response())
}
