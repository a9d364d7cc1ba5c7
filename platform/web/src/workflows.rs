//! The tenant's sagas for the people who look after them: list, inspect, retry, cancel, and tell what became of a call.

use crate::app::App;
use crate::caller::Caller;
use crate::extract::{Body, Paging, PagingParams, Params, Query};
use crate::handlers;
use crate::module::{Access, Audit, AuditCheck, AuditOutcome, EventInfo, Module, PermissionInfo, Route};
use crate::problem::Result;
use axum::Json;
use axum::extract::State;
use kernel::{Page, Result as KernelResult};
use store::{Read, Tx};
use workflow::{Decision, SagaId, SagaView};

/// May see the tenant's sagas.
const READ: &str = "workflows.read";
/// May retry, cancel and decide them.
const WRITE: &str = "workflows.write";
const LIST: &str = "workflow.sagas";

/// The module with the routes and audits of sagas. Their tables are [`workflow::migrations`].
pub fn workflows_module() -> Module {
    Module {
        permissions: &[
            PermissionInfo { name: READ, description: "See the tenant's sagas: what is under way outside, and what is stuck" },
            PermissionInfo { name: WRITE, description: "Retry and cancel sagas, and tell what became of their calls" },
        ],
        routes: vec![
            Route::new(Access::Tenant(READ), handlers!(list)),
            Route::new(Access::Tenant(READ), handlers!(inspect)),
            Route::new(Access::Tenant(WRITE), handlers!(retry)),
            Route::new(Access::Tenant(WRITE), handlers!(cancel)),
            Route::new(Access::Tenant(WRITE), handlers!(decide)),
        ],
        events: &[EventInfo {
            kind: "workflow.parked",
            version: 1,
            description: "A saga can't go on by itself: a person has to look at it",
        }],
        audits: vec![
            Audit { name: "workflow.consistent", check: AuditCheck::Platform(consistent) },
            Audit { name: "workflow.parked", check: AuditCheck::Platform(parked) },
        ],
        ..Module::new("workflows", &[])
    }
}

fn consistent(read: &mut Read<'_>) -> KernelResult<AuditOutcome> {
    let found = workflow::overdue(read)?;
    Ok(AuditOutcome { ok: found.is_none(), detail: found.unwrap_or_else(|| "nothing is overdue".to_owned()) })
}

fn parked(read: &mut Read<'_>) -> KernelResult<AuditOutcome> {
    let found = workflow::parked(read)?;
    Ok(AuditOutcome { ok: found.is_none(), detail: found.unwrap_or_else(|| "none".to_owned()) })
}

/// Which sagas are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
enum Which {
    /// Those that wait for a person.
    Parked,
    /// All that are kept.
    #[default]
    All,
}

#[derive(serde::Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// Which ones.
    #[param(inline)]
    which: Option<Which>,
}

/// Sagas, the newest first, without what they carry.
#[utoipa::path(get, path = "/api/v1/workflows", tag = "workflows", params(Filter, PagingParams), responses((status = 200, body = Page<SagaView>)))]
async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(filter): Query<Filter>,
    paging: Paging<SagaId>,
) -> Result<Json<Page<SagaView>>> {
    let request = paging.request(LIST)?;
    let parked = filter.which.unwrap_or_default() == Which::Parked;
    let rows = app.store().read(caller.tenant()?, move |read| workflow::list(read, parked, request.after, request.limit + 1)).await?;
    Ok(Json(paging.page(LIST, rows, |saga| saga.id)?))
}

/// A saga with all that it knows: its state, what it asked, what it was answered, what it has done that can be undone.
#[utoipa::path(get, path = "/api/v1/workflows/{saga_id}", tag = "workflows", params(("saga_id" = SagaId, Path)), responses((status = 200, body = SagaView)))]
async fn inspect(State(app): State<App>, caller: Caller, Params(id): Params<SagaId>) -> Result<Json<SagaView>> {
    Ok(Json(app.store().read(caller.tenant()?, move |read| workflow::inspect(read, id)).await?))
}

/// Tries a saga again where it stopped, with its attempts and its time anew.
#[utoipa::path(post, path = "/api/v1/workflows/{saga_id}/retry", tag = "workflows", params(("saga_id" = SagaId, Path)),
    responses((status = 200, body = SagaView), (status = 409, description = "`workflow.not_retryable`")))]
async fn retry(State(app): State<App>, caller: Caller, Params(id): Params<SagaId>) -> Result<Json<SagaView>> {
    let command = |tx: &mut Tx<'_>, id: &SagaId| workflow::retry(tx, *id);
    app.store().write(caller.call()?, command, id).await?;
    inspect(State(app), caller, Params(id)).await
}

/// Cancels a saga: what it has done is undone. While a call is under way or in doubt, its outcome is awaited first.
#[utoipa::path(post, path = "/api/v1/workflows/{saga_id}/cancel", tag = "workflows", params(("saga_id" = SagaId, Path)),
    responses((status = 200, body = SagaView), (status = 409, description = "`workflow.not_cancellable`")))]
async fn cancel(State(app): State<App>, caller: Caller, Params(id): Params<SagaId>) -> Result<Json<SagaView>> {
    let command = |tx: &mut Tx<'_>, id: &SagaId| workflow::cancel_saga(tx, *id);
    app.store().write(caller.call()?, command, id).await?;
    inspect(State(app), caller, Params(id)).await
}

/// Tells what a person has found out about the call that a saga is parked for: that it has happened, with its answer, or that it has
/// not and will not.
#[utoipa::path(post, path = "/api/v1/workflows/{saga_id}/decide", tag = "workflows", params(("saga_id" = SagaId, Path)), request_body = Decision,
    responses((status = 200, body = SagaView), (status = 409, description = "`workflow.not_in_doubt`")))]
async fn decide(
    State(app): State<App>,
    caller: Caller,
    Params(id): Params<SagaId>,
    Body(decision): Body<Decision>,
) -> Result<Json<SagaView>> {
    let command = |tx: &mut Tx<'_>, (id, decision): &(SagaId, Decision)| workflow::decide(tx, *id, decision);
    app.store().write(caller.call()?, command, (id, decision)).await?;
    inspect(State(app), caller, Params(id)).await
}
