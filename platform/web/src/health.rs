//! What this process depends on, how each of these is, and what is done without it.

use crate::app::App;
use crate::handlers;
use crate::module::{Access, Module, PermissionInfo, Route};
use crate::problem::Result;
use axum::Json;
use axum::extract::State;
use kernel::Scope;
use std::time::Duration;

const READ: &str = "platform.health.read";
/// How long the store may take to say that it is there.
const READY: Duration = Duration::from_millis(1_000);
/// The name of the one without which nothing can be served.
pub(crate) const STORE: &str = "store";

/// How a dependency is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// As it should be.
    Normal,
    /// It works less well, or only partly.
    Degraded,
    /// It is not there. What is done without it is said.
    Away,
}

/// Asks one dependency how it is: its mode, and what that means for those who call. It answers at once, from memory.
type Ask = Box<dyn Fn() -> (Mode, String) + Send + Sync>;

/// Something outside that this process depends on.
pub struct Dependency {
    name: &'static str,
    ask: Ask,
}

impl Dependency {
    /// By its name, such as `redis.caches`, and how it is asked.
    pub fn new(name: &'static str, ask: impl Fn() -> (Mode, String) + Send + Sync + 'static) -> Dependency {
        Dependency { name, ask: Box::new(ask) }
    }
}

/// A dependency as it is now.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = Dependency)]
pub(crate) struct DependencyState {
    /// Its name.
    pub(crate) name: &'static str,
    /// How it is.
    pub(crate) mode: Mode,
    /// What is done meanwhile.
    pub(crate) detail: String,
}

/// Asks all of them, the store first.
pub(crate) async fn states(app: &App) -> Vec<DependencyState> {
    let asked = app.store().read(Scope::Platform, |read| read.one::<(i64,)>("SELECT CAST(1 AS BIGINT)", ()));
    let (mode, detail) = match tokio::time::timeout(READY, asked).await {
        Ok(Ok(_)) => (Mode::Normal, "answers".to_owned()),
        Ok(Err(error)) => {
            tracing::debug!(?error, "the store cannot be asked");
            (Mode::Away, "cannot be asked: only what is remembered is served".to_owned())
        }
        Err(_) => (Mode::Away, "does not answer in time: only what is remembered is served".to_owned()),
    };
    let mut states = vec![DependencyState { name: STORE, mode, detail }];
    if let Some(up) = app.limits().and_then(|limits| limits.shared_is_up()) {
        let (mode, detail) = if up { (Mode::Normal, "answers") } else { (Mode::Away, "each rule does what its when_away says") };
        states.push(DependencyState { name: "limits", mode, detail: detail.to_owned() });
    }
    let bus = app.caches().bus();
    if bus.shared || !bus.proven {
        let (mode, detail) = match (bus.shared && !bus.connected, bus.proven) {
            (true, _) => (Mode::Away, format!("each node remembers for itself, nothing for longer than {} ms", bus.bound_ms)),
            (false, false) => (Mode::Degraded, format!("nothing is remembered for longer than {} ms", bus.bound_ms)),
            (false, true) => (Mode::Normal, format!("{} nodes", bus.nodes)),
        };
        states.push(DependencyState { name: "caches", mode, detail });
    }
    states.extend(app.0.dependencies.iter().map(|dependency| {
        let (mode, detail) = (dependency.ask)();
        DependencyState { name: dependency.name, mode, detail }
    }));
    states
}

/// The module with the view of what is depended on.
pub fn health_module() -> Module {
    Module {
        permissions: &[PermissionInfo { name: READ, description: "See what the platform depends on, and what it does without" }],
        routes: vec![Route::new(Access::Platform(READ), handlers!(health)).priority(traffic::resilience::Priority::Critical)],
        ..Module::new("health", &[])
    }
}

/// What the node that answers depends on.
#[derive(serde::Serialize, utoipa::ToSchema)]
struct HealthOverview {
    /// The worst of all.
    mode: Mode,
    /// Each of them.
    dependencies: Vec<DependencyState>,
}

/// What the node that answers depends on, how each of these is, and what is done without those that are away.
#[utoipa::path(get, path = "/api/v1/platform/health", tag = "platform", responses((status = 200, body = HealthOverview)))]
async fn health(State(app): State<App>) -> Result<Json<HealthOverview>> {
    let dependencies = states(&app).await;
    let mode = dependencies.iter().map(|dependency| dependency.mode).max().unwrap_or(Mode::Normal);
    Ok(Json(HealthOverview { mode, dependencies }))
}
