//! The HTTP routes of reconciliation.

use super::commands::{self, Close, Formatted, Resolve, SetFormat};
use super::format::{self, Format, RuleAction};
use super::queries::{self, Break, BreakId, RunId, RunView};
use super::run::{Source, reconcile};
use super::sql;
use crate::model::ProviderId;
use crate::routes::Clean;
use axum::Json;
use axum::extract::State as AppState;
use axum::response::IntoResponse;
use kernel::{Error, Page};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use web::{
    Access, App, Body, Caller, Created, IfMatch, Keyed, Paging, PagingParams, Params, Query, RawBody, Result, Route, Versioned, handlers,
};

const BODY: usize = 64 * 1024;
/// The largest file over HTTP; larger ones go through `brandos reconcile`.
const FILE: usize = 8 * 1024 * 1024;
const FILE_MS: u64 = 120_000;

pub(crate) fn routes() -> Vec<Route> {
    let (read, settle, configure) =
        (Access::Tenant("payments.read"), Access::Tenant("payments.settle"), Access::Tenant("payments.configure"));
    vec![
        Route::new(read, handlers!(get_format)),
        Route::new(configure, handlers!(set_format)).body_limit(BODY),
        Route::new(settle, handlers!(reconcile_file)).body_limit(FILE).timeout_ms(FILE_MS),
        Route::new(read, handlers!(list_runs)),
        Route::new(read, handlers!(get_run)),
        Route::new(settle, handlers!(close_run)).body_limit(BODY).keyed(),
        Route::new(settle, handlers!(abandon_run)).body_limit(BODY),
        Route::new(read, handlers!(list_breaks)),
        Route::new(settle, handlers!(resolve_break)).body_limit(BODY).keyed(),
    ]
}

/// Shows how a provider's settlement files are read.
#[utoipa::path(get, path = "/api/v1/payments/providers/{provider_id}/settlement-format", tag = "payments", params(("provider_id" = ProviderId, Path)),
    responses((status = 200, body = Format), (status = 409, description = "None was declared, and this kind of provider has none of its own.")))]
async fn get_format(AppState(app): AppState<App>, caller: Caller, Params(provider_id): Params<ProviderId>) -> Result<Versioned<Format>> {
    let (version, format) = app.store().read(caller.tenant()?, move |read| queries::format(read, provider_id)).await?;
    Ok(Versioned(version, format))
}

/// Declares how a provider's settlement files are read: columns, how exact the comparison is, and which differences resolve by rule.
#[utoipa::path(put, path = "/api/v1/payments/providers/{provider_id}/settlement-format", tag = "payments", params(("provider_id" = ProviderId, Path)),
    request_body = Format, responses((status = 200, body = Format), (status = 412, description = "It was changed meanwhile.")))]
async fn set_format(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(provider_id): Params<ProviderId>,
    if_match: IfMatch,
    Clean(Body(format)): Clean<Body<Format>>,
) -> Result<Versioned<Format>> {
    format.check()?;
    let set = app.submit(&caller, None, commands::set_format, SetFormat { provider_id, if_match, format }).await?.value;
    let Formatted { version, format } = set;
    Ok(Versioned(version, format))
}

/// The file's provider and day.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct OfFile {
    /// The provider whose file it is.
    provider_id: ProviderId,
    /// The day that it is of, such as `2026-01-31`: what happened later is not expected in it.
    #[param(min_length = 10, max_length = 10, example = "2026-01-31")]
    day: String,
}

/// Compares a provider's settlement file (CSV, at most 8 MiB) with the payments. The same file again has the same answer.
#[utoipa::path(post, path = "/api/v1/payments/reconciliations", tag = "payments", params(OfFile),
    request_body(content = String, content_type = "text/csv"), responses(
    (status = 201, body = RunView), (status = 409, description = "Another file of this provider is being compared, or no format was declared.")))]
async fn reconcile_file(
    AppState(app): AppState<App>,
    caller: Caller,
    Query(of): Query<OfFile>,
    file: RawBody,
) -> Result<impl IntoResponse> {
    let essence = file.content_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("text/csv") {
        let error = Error::invalid("request.unsupported_media_type", "this route takes text/csv");
        return Err(error.with_field("Content-Type", "unsupported", "not text/csv").into());
    }
    let day = format::day_of(of.day.as_bytes()).filter(|_| of.day.len() == 10);
    let day = day.ok_or_else(|| Error::field("day", "invalid", "a day such as 2026-01-31"))?;
    let run = reconcile(app.store(), caller.tenant()?, of.provider_id, Source::Bytes(file.bytes), day).await?;
    Ok(Created(format!("/api/v1/payments/reconciliations/{}", run.run_id), run))
}

const RUNS: &str = "payments.reconciliations";

/// Lists reconciliations, the latest first.
#[utoipa::path(get, path = "/api/v1/payments/reconciliations", tag = "payments", params(PagingParams), responses((status = 200, body = Page<RunView>)))]
async fn list_runs(AppState(app): AppState<App>, caller: Caller, paging: Paging<RunId>) -> Result<Json<Page<RunView>>> {
    let page = paging.request(RUNS)?;
    let (before, limit) = (page.after.unwrap_or(RunId::from_i64(i64::MAX)), i64::from(page.limit) + 1);
    let found = app.store().read(caller.tenant()?, move |read| read.all::<queries::Run>(sql::RUNS_PAGE, (before, limit))).await?;
    Ok(Json(paging.page(RUNS, found.into_iter().map(RunView::from).collect(), |run| run.run_id)?))
}

/// Shows a reconciliation.
#[utoipa::path(get, path = "/api/v1/payments/reconciliations/{run_id}", tag = "payments", params(("run_id" = RunId, Path)), responses(
    (status = 200, body = RunView)))]
async fn get_run(AppState(app): AppState<App>, caller: Caller, Params(run_id): Params<RunId>) -> Result<Json<RunView>> {
    Ok(Json(app.store().read(caller.tenant()?, move |read| queries::run(read, run_id)).await?.into()))
}

/// How a day is closed.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CloseReconciliation {
    /// Close it although differences are open; they stay open.
    #[serde(default)]
    force: bool,
    /// For people.
    #[serde(default)]
    #[schema(max_length = 200)]
    note: String,
}

fn check_note(note: &str, least: usize) -> kernel::Result<()> {
    if (least..=200).contains(&note.len()) && !note.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Error::field("note", "out_of_range", format!("{least} to 200 bytes without control characters")))
}

/// Books what the file pays out, and closes the day.
#[utoipa::path(post, path = "/api/v1/payments/reconciliations/{run_id}/close", tag = "payments", params(("run_id" = RunId, Path)),
    request_body = Option<CloseReconciliation>, responses((status = 200, body = RunView), (status = 409, description = "It is not done, or differences are open.")))]
async fn close_run(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(run_id): Params<RunId>,
    Clean(Keyed { key, body }): Clean<Keyed<Option<CloseReconciliation>>>,
) -> Result<Json<RunView>> {
    let CloseReconciliation { force, note } = body.unwrap_or_default();
    check_note(&note, 0)?;
    Ok(Json(app.submit(&caller, key, commands::close, Close { run_id, force, note }).await?.value))
}

/// Gives up a reconciliation that broke off, so that another file of its provider can be compared.
#[utoipa::path(post, path = "/api/v1/payments/reconciliations/{run_id}/abandon", tag = "payments", params(("run_id" = RunId, Path)), responses(
    (status = 200, body = RunView), (status = 409, description = "It is done, or nearly.")))]
async fn abandon_run(AppState(app): AppState<App>, caller: Caller, Params(run_id): Params<RunId>) -> Result<Json<RunView>> {
    Ok(Json(app.submit(&caller, None, commands::abandon, run_id).await?.value))
}

/// Which differences to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct BreakFilter {
    /// Only those that this run has found, first or again; the first that was written first.
    run_id: Option<RunId>,
}

const BREAKS: &str = "payments.breaks";

/// Lists differences between files and payments, the latest first, or those of one run in their order.
#[utoipa::path(get, path = "/api/v1/payments/breaks", tag = "payments", params(PagingParams, BreakFilter), responses((status = 200, body = Page<Break>)))]
async fn list_breaks(
    AppState(app): AppState<App>,
    caller: Caller,
    paging: Paging<BreakId>,
    Query(filter): Query<BreakFilter>,
) -> Result<Json<Page<Break>>> {
    let page = paging.request(BREAKS)?;
    let limit = i64::from(page.limit) + 1;
    let found = app
        .store()
        .read(caller.tenant()?, move |read| match filter.run_id {
            Some(run_id) => read.all::<Break>(sql::BREAKS_OF_RUN, (page.after.unwrap_or(BreakId::from_i64(0)), limit, run_id)),
            None => read.all::<Break>(sql::BREAKS_PAGE, (page.after.unwrap_or(BreakId::from_i64(i64::MAX)), limit)),
        })
        .await?;
    Ok(Json(paging.page(BREAKS, found, |found| found.break_id)?))
}

/// How a difference is resolved.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ResolveBreak {
    /// Take it as it is, or make the proposed posting.
    action: RuleAction,
    /// What was found out.
    #[schema(min_length = 1, max_length = 200)]
    note: String,
}

/// Resolves a difference, with the posting that corrects the books or without. Quietly the same when it is resolved.
#[utoipa::path(post, path = "/api/v1/payments/breaks/{break_id}/resolve", tag = "payments", params(("break_id" = BreakId, Path)),
    request_body = ResolveBreak, responses((status = 200, body = Break), (status = 409, description = "It moves no amount, so that there is nothing to post.")))]
async fn resolve_break(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(break_id): Params<BreakId>,
    Clean(Keyed { key, body }): Clean<Keyed<ResolveBreak>>,
) -> Result<Json<Break>> {
    check_note(&body.note, 1)?;
    let resolve = Resolve { break_id, action: body.action, note: body.note };
    Ok(Json(app.submit(&caller, key, commands::resolve, resolve).await?.value))
}
