//! Schedules.

use super::{BODY, Nothing, currency, note, reach};
use crate::model::*;
use crate::schedules::{self, NewSchedule, Schedule};
use axum::Json;
use axum::extract::State as AppState;
use axum::response::IntoResponse;
use kernel::{Currency, Page, Timestamp};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use web::{Access, App, Caller, Created, Keyed, Paging, PagingParams, Params, Query, Result, Route, handlers};

pub(super) fn routes() -> Vec<Route> {
    let own = Access::Tenant("wallets.use");
    vec![
        Route::new(own, handlers!(make_schedule)).body_limit(BODY).keyed(),
        Route::new(own, handlers!(list_schedules)),
        Route::new(own, handlers!(get_schedule)),
        Route::new(own, handlers!(cancel_schedule)).body_limit(BODY).keyed(),
    ]
}

/// A transfer for later, once or again and again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewWalletSchedule {
    /// Who pays.
    from_wallet_id: WalletId,
    /// Who is paid.
    to_wallet_id: WalletId,
    /// In minor units, each time.
    #[schema(value_type = i64, minimum = 1, maximum = 1_000_000_000_000_i64)]
    amount_minor: Amount,
    /// The currency.
    #[schema(value_type = Currency)]
    currency: String,
    /// For people.
    #[serde(default)]
    #[schema(max_length = 140)]
    note: String,
    /// How often.
    every: Every,
    /// The first date.
    first_at: Timestamp,
    /// No date after this.
    #[serde(default)]
    until_at: Option<Timestamp>,
}

/// Schedules a transfer. A date on which it is refused moves nothing and is not made up for; three in a row end the schedule.
#[utoipa::path(post, path = "/api/v1/wallet-schedules", tag = "wallets", request_body = NewWalletSchedule, responses((status = 201, body = Schedule),
    (status = 409, description = "One of the wallets is closed or does not hold the currency.")))]
async fn make_schedule(
    AppState(app): AppState<App>,
    caller: Caller,
    Keyed { key, body }: Keyed<NewWalletSchedule>,
) -> Result<impl IntoResponse> {
    let (amount_minor, currency) = (body.amount_minor.minor()?, currency(&body.currency)?);
    note(&body.note)?;
    let new = NewSchedule {
        reach: reach(&caller),
        from: body.from_wallet_id,
        to: body.to_wallet_id,
        currency,
        amount_minor,
        note: body.note,
        every: body.every,
        first_at: body.first_at,
        until_at: body.until_at,
    };
    let schedule = app.submit(&caller, key, schedules::create, new).await?.value;
    Ok(Created(format!("/api/v1/wallet-schedules/{}", schedule.schedule_id), schedule))
}

/// Whose schedules to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ScheduleFilter {
    /// The payer's wallet.
    wallet_id: WalletId,
}

/// Lists a payer's schedules, the latest first.
#[utoipa::path(get, path = "/api/v1/wallet-schedules", tag = "wallets", params(PagingParams, ScheduleFilter), responses((status = 200, body = Page<Schedule>)))]
async fn list_schedules(
    AppState(app): AppState<App>,
    caller: Caller,
    Query(filter): Query<ScheduleFilter>,
    paging: Paging<i64>,
) -> Result<Json<Page<Schedule>>> {
    let wallet = (filter.wallet_id, reach(&caller));
    let list = format!("wallets.schedules.{}", filter.wallet_id);
    let page = paging.request(&list)?;
    let (before, limit) = (page.after.unwrap_or(i64::MAX), i64::from(page.limit) + 1);
    let rows = app.read(&caller, move |read| schedules::list(read, wallet, before, limit)).await?;
    Ok(Json(paging.page(&list, rows, |schedule| schedule.schedule_id.as_i64())?))
}

/// Reads a schedule.
#[utoipa::path(get, path = "/api/v1/wallet-schedules/{schedule_id}", tag = "wallets", params(("schedule_id" = ScheduleId, Path)), responses((status = 200, body = Schedule)))]
async fn get_schedule(AppState(app): AppState<App>, caller: Caller, Params(schedule_id): Params<ScheduleId>) -> Result<Json<Schedule>> {
    let reach = reach(&caller);
    Ok(Json(app.read(&caller, move |read| schedules::find(read, schedule_id, reach)).await?))
}

/// Calls a schedule off.
#[utoipa::path(post, path = "/api/v1/wallet-schedules/{schedule_id}/cancel", tag = "wallets", params(("schedule_id" = ScheduleId, Path)),
    responses((status = 200, body = Schedule), (status = 409, description = "It has ended.")))]
async fn cancel_schedule(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(schedule_id): Params<ScheduleId>,
    Keyed { key, .. }: Keyed<Option<Nothing>>,
) -> Result<Json<Schedule>> {
    Ok(Json(app.submit(&caller, key, schedules::cancel, (schedule_id, reach(&caller))).await?.value))
}
