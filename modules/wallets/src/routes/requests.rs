//! Requests for money.

use super::{BODY, Nothing, Whence, answer, currency, note, reach, service};
use crate::model::*;
use crate::requests::{self, Answer, MoneyRequest, NewRequest};
use axum::Json;
use axum::extract::State as AppState;
use axum::response::{IntoResponse, Response};
use kernel::{Currency, Page};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use web::{Access, App, Caller, Created, Keyed, Paging, PagingParams, Params, Query, Result, Route, handlers};

pub(super) fn routes() -> Vec<Route> {
    let own = Access::Tenant("wallets.use");
    vec![
        Route::new(own, handlers!(request_money)).body_limit(BODY).keyed(),
        Route::new(own, handlers!(list_requests)),
        Route::new(own, handlers!(get_request)),
        Route::new(own, handlers!(accept_request)).body_limit(BODY).keyed(),
        Route::new(own, handlers!(decline_request)).body_limit(BODY).keyed(),
        Route::new(own, handlers!(cancel_request)).body_limit(BODY).keyed(),
    ]
}

/// A request for money.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewMoneyRequest {
    /// Who asks, and is paid.
    asker_wallet_id: WalletId,
    /// Who is asked.
    payer_wallet_id: WalletId,
    /// In minor units.
    #[schema(value_type = i64, minimum = 1, maximum = 1_000_000_000_000_i64)]
    amount_minor: Amount,
    /// The currency.
    #[schema(value_type = Currency)]
    currency: String,
    /// For people.
    #[serde(default)]
    #[schema(max_length = 140)]
    note: String,
}

/// Asks somebody for money.
#[utoipa::path(post, path = "/api/v1/wallet-requests", tag = "wallets", request_body = NewMoneyRequest, responses((status = 201, body = MoneyRequest),
    (status = 409, description = "One of the wallets is closed or does not hold the currency.")))]
async fn request_money(
    AppState(app): AppState<App>,
    caller: Caller,
    Keyed { key, body }: Keyed<NewMoneyRequest>,
) -> Result<impl IntoResponse> {
    let (amount_minor, currency) = (body.amount_minor.minor()?, currency(&body.currency)?);
    note(&body.note)?;
    let new = NewRequest {
        wallets: service(&app),
        reach: reach(&caller),
        asker: body.asker_wallet_id,
        payer: body.payer_wallet_id,
        currency,
        amount_minor,
        note: body.note,
    };
    let request = app.submit(&caller, key, requests::create, new).await?.value;
    Ok(Created(format!("/api/v1/wallet-requests/{}", request.request_id), request))
}

/// Which side of requests to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Side {
    /// Those that the wallet has made.
    Asker,
    /// Those that the wallet was asked.
    Payer,
}

/// Whose requests to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct RequestFilter {
    /// The wallet.
    wallet_id: WalletId,
    /// On which side it is.
    #[param(inline)]
    side: Side,
}

/// Lists a wallet's requests for money, the latest first.
#[utoipa::path(get, path = "/api/v1/wallet-requests", tag = "wallets", params(PagingParams, RequestFilter), responses((status = 200, body = Page<MoneyRequest>)))]
async fn list_requests(
    AppState(app): AppState<App>,
    caller: Caller,
    Query(filter): Query<RequestFilter>,
    paging: Paging<i64>,
) -> Result<Json<Page<MoneyRequest>>> {
    let (wallet, made) = ((filter.wallet_id, reach(&caller)), filter.side == Side::Asker);
    let list = format!("wallets.requests.{}.{made}", filter.wallet_id);
    let page = paging.request(&list)?;
    let (before, limit) = (page.after.unwrap_or(i64::MAX), i64::from(page.limit) + 1);
    let rows = app.read(&caller, move |read| requests::list(read, wallet, made, before, limit)).await?;
    Ok(Json(paging.page(&list, rows, |request| request.request_id.as_i64())?))
}

/// Reads a request for money.
#[utoipa::path(get, path = "/api/v1/wallet-requests/{request_id}", tag = "wallets", params(("request_id" = RequestId, Path)), responses((status = 200, body = MoneyRequest)))]
async fn get_request(AppState(app): AppState<App>, caller: Caller, Params(request_id): Params<RequestId>) -> Result<Json<MoneyRequest>> {
    let reach = reach(&caller);
    Ok(Json(app.read(&caller, move |read| requests::find(read, request_id, reach)).await?))
}

/// An accepted request.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = MoneyRequestAcceptance)]
struct Acceptance {
    /// Where the payer is.
    #[serde(default)]
    whence: Whence,
}

/// Pays what was asked.
#[utoipa::path(post, path = "/api/v1/wallet-requests/{request_id}/accept", tag = "wallets", params(("request_id" = RequestId, Path)), request_body = Option<Acceptance>,
    responses((status = 201, body = Transfer), (status = 202, description = "The payer has to confirm it, or a person has to review it.", body = Transfer),
    (status = 409, description = "It is open no more, or the transfer is not allowed.")))]
async fn accept_request(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(request_id): Params<RequestId>,
    Keyed { key, body }: Keyed<Option<Acceptance>>,
) -> Result<Response> {
    let (device, country) = body.unwrap_or_default().whence.read()?;
    let accepted = Answer { wallets: service(&app), reach: reach(&caller), request_id, device, country };
    answer(app.submit(&caller, key, requests::accept, accepted).await?.value)
}

/// Declines a request for money.
#[utoipa::path(post, path = "/api/v1/wallet-requests/{request_id}/decline", tag = "wallets", params(("request_id" = RequestId, Path)),
    responses((status = 200, body = MoneyRequest), (status = 409, description = "It is open no more.")))]
async fn decline_request(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(request_id): Params<RequestId>,
    Keyed { key, .. }: Keyed<Option<Nothing>>,
) -> Result<Json<MoneyRequest>> {
    Ok(Json(app.submit(&caller, key, requests::refuse, (request_id, reach(&caller), false)).await?.value))
}

/// Takes a request for money back.
#[utoipa::path(post, path = "/api/v1/wallet-requests/{request_id}/cancel", tag = "wallets", params(("request_id" = RequestId, Path)),
    responses((status = 200, body = MoneyRequest), (status = 409, description = "It is open no more.")))]
async fn cancel_request(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(request_id): Params<RequestId>,
    Keyed { key, .. }: Keyed<Option<Nothing>>,
) -> Result<Json<MoneyRequest>> {
    Ok(Json(app.submit(&caller, key, requests::refuse, (request_id, reach(&caller), true)).await?.value))
}
