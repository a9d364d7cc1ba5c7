//! Transfers, their one-time codes, and reviews of those that are held.

use super::{BODY, Whence, answer, currency, note, reach, reason, service};
use crate::commands::{self, Confirm, Confirmed, Decide};
use crate::error;
use crate::model::*;
use crate::moves::{self, Ask, Reach};
use crate::queries::{self, Payout, Review};
use axum::Json;
use axum::extract::State as AppState;
use axum::response::{IntoResponse, Response};
use kernel::{Currency, Error, Page, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use web::{Access, App, Caller, Keyed, Paging, PagingParams, Params, Result, Route, handlers};

pub(super) fn routes() -> Vec<Route> {
    let (own, operate, review) = (Access::Tenant("wallets.use"), Access::Tenant("wallets.operate"), Access::Tenant("wallets.review"));
    vec![
        Route::new(own, handlers!(make_transfer)).body_limit(BODY).keyed(),
        Route::new(operate, handlers!(list_transfers)),
        Route::new(own, handlers!(get_transfer)),
        Route::new(own, handlers!(confirm_transfer)).body_limit(BODY).keyed(),
        Route::new(Access::Tenant("wallets.deliver"), handlers!(get_code)),
        Route::new(review, handlers!(list_reviews)),
        Route::new(review, handlers!(approve_review)).body_limit(BODY).keyed(),
        Route::new(review, handlers!(reject_review)).body_limit(BODY).keyed(),
    ]
}

/// What kind of transfer is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = WalletTransferPurpose)]
enum Purpose {
    /// From one wallet to another.
    #[default]
    Transfer,
    /// To a merchant, who is charged a fee of it.
    Payment,
}

/// A transfer between two wallets.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewWalletTransfer {
    /// What for; a transfer when it is left out.
    #[serde(default)]
    kind: Purpose,
    /// Who pays.
    from_wallet_id: WalletId,
    /// Who is paid.
    to_wallet_id: WalletId,
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
    /// Where the payer is.
    #[serde(default)]
    whence: Whence,
}

/// Moves money from one wallet to another, or pays a merchant. Limits, the fraud score and the ledger's transaction are decided at once.
#[utoipa::path(post, path = "/api/v1/wallet-transfers", tag = "wallets", request_body = NewWalletTransfer, responses(
    (status = 201, description = "The money has moved.", body = Transfer),
    (status = 202, description = "The payer has to confirm it with a code, or a person has to review it.", body = Transfer),
    (status = 409, description = "A limit, the funds, one of the wallets or the score (`wallets.denied`, with a reason a field) do not allow it.")))]
async fn make_transfer(AppState(app): AppState<App>, caller: Caller, Keyed { key, body }: Keyed<NewWalletTransfer>) -> Result<Response> {
    let (amount_minor, currency) = (body.amount_minor.minor()?, currency(&body.currency)?);
    note(&body.note)?;
    let (device, country) = body.whence.read()?;
    let ask = Ask {
        wallets: Some(service(&app)),
        reach: reach(&caller),
        kind: if body.kind == Purpose::Payment { TransferKind::Payment } else { TransferKind::Transfer },
        from: body.from_wallet_id,
        to: body.to_wallet_id,
        amount_minor,
        currency,
        note: body.note,
        device,
        country,
        target: 0,
        confirmed: None,
    };
    answer(app.submit_set(&caller, key, moves::transfer_set, ask).await?.value)
}

/// Lists all transfers of the tenant, the latest first.
#[utoipa::path(get, path = "/api/v1/wallet-transfers", tag = "wallets", params(PagingParams), responses((status = 200, body = Page<Transfer>)))]
async fn list_transfers(AppState(app): AppState<App>, caller: Caller, paging: Paging<i64>) -> Result<Json<Page<Transfer>>> {
    const LIST: &str = "wallets.transfers";
    let page = paging.request(LIST)?;
    let (before, limit) = (page.after.unwrap_or(i64::MAX), i64::from(page.limit) + 1);
    let rows = app.read(&caller, move |read| queries::transfers(read, before, limit)).await?;
    Ok(Json(paging.page(LIST, rows, |transfer| transfer.transfer_id.as_i64())?))
}

/// A transfer with where its money goes, if that is a bank account.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WalletTransferDetail)]
struct TransferDetail {
    /// The transfer.
    #[serde(flatten)]
    transfer: Transfer,
    /// Of a withdrawal.
    payout: Option<Payout>,
}

/// Reads a transfer.
#[utoipa::path(get, path = "/api/v1/wallet-transfers/{transfer_id}", tag = "wallets", params(("transfer_id" = TransferId, Path)), responses((status = 200, body = TransferDetail)))]
async fn get_transfer(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(transfer_id): Params<TransferId>,
) -> Result<Json<TransferDetail>> {
    let reach = reach(&caller);
    let read = move |read: &mut store::Read<'_>| {
        Ok(TransferDetail { transfer: queries::visible_transfer(read, transfer_id, reach)?, payout: queries::payout(read, transfer_id)? })
    };
    Ok(Json(app.read(&caller, read).await?))
}

/// A one-time code.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct GivenCode {
    /// Six digits.
    #[schema(pattern = "^[0-9]{6}$")]
    one_time_code: String,
}

/// Confirms a challenged transfer with its one-time code. It is decided anew then.
#[utoipa::path(post, path = "/api/v1/wallet-transfers/{transfer_id}/confirm", tag = "wallets", params(("transfer_id" = TransferId, Path)), request_body = GivenCode,
    responses((status = 201, body = Transfer), (status = 202, description = "A person has to review it, or the bank is asked.", body = Transfer),
    (status = 409, description = "It is not the code, its time is over, or the transfer is not allowed any more.")))]
async fn confirm_transfer(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(transfer_id): Params<TransferId>,
    Keyed { key, body }: Keyed<GivenCode>,
) -> Result<Response> {
    if body.one_time_code.len() != 6 || !body.one_time_code.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Error::field("one_time_code", "invalid", "six digits").into());
    }
    let confirm = Confirm { wallets: service(&app), reach: reach(&caller), transfer_id, code: body.one_time_code, by: caller.actor.id };
    match app.submit(&caller, key, commands::confirm, confirm).await?.value {
        Confirmed::Right(transfer) => answer(*transfer),
        Confirmed::Wrong(left) => Err(error::wrong_code(left).into()),
    }
}

/// A one-time code, for whoever delivers it.
#[derive(Serialize, ToSchema)]
struct OneTimeCode {
    /// Six digits.
    one_time_code: String,
    /// Until when it counts.
    expires_at: Timestamp,
}

/// Reads the one-time code of a challenged transfer, to send it to the payer.
#[utoipa::path(get, path = "/api/v1/wallet-transfers/{transfer_id}/code", tag = "wallets", params(("transfer_id" = TransferId, Path)),
    responses((status = 200, body = OneTimeCode), (status = 409, description = "The transfer does not wait for a code.")))]
async fn get_code(AppState(app): AppState<App>, caller: Caller, Params(transfer_id): Params<TransferId>) -> Result<impl IntoResponse> {
    let wallets = service(&app);
    let tenant = caller.tenant()?;
    let read = move |read: &mut store::Read<'_>| {
        queries::transfer(read, transfer_id, Reach::All)?;
        let waits = queries::pending(read, transfer_id)?.filter(|pending| pending.is_open && pending.waits_for == WaitsFor::Challenge);
        waits.filter(|pending| pending.expires_at > read.now()).ok_or_else(error::not_challenged)
    };
    let expires_at = app.read(&caller, read).await?.expires_at;
    let code = OneTimeCode { one_time_code: wallets.one_time_code(tenant, transfer_id), expires_at };
    Ok(([(axum::http::header::CACHE_CONTROL, "no-store")], Json(code)))
}

/// Lists the transfers that wait for a review, the oldest first.
#[utoipa::path(get, path = "/api/v1/wallet-reviews", tag = "wallets", params(PagingParams), responses((status = 200, body = Page<Review>)))]
async fn list_reviews(AppState(app): AppState<App>, caller: Caller, paging: Paging<i64>) -> Result<Json<Page<Review>>> {
    const LIST: &str = "wallets.reviews";
    let page = paging.request(LIST)?;
    let (after, limit) = (page.after.unwrap_or(0), i64::from(page.limit) + 1);
    let rows = app.read(&caller, move |read| queries::reviews(read, after, limit)).await?;
    Ok(Json(paging.page(LIST, rows, |review| review.transfer.transfer_id.as_i64())?))
}

/// Why it was decided so.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = WalletReviewReason)]
struct ReviewReason {
    /// For whoever asks later.
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
}

/// Lets a transfer in review through: its money moves.
#[utoipa::path(post, path = "/api/v1/wallet-reviews/{transfer_id}/approve", tag = "wallets", params(("transfer_id" = TransferId, Path)), request_body = ReviewReason,
    responses((status = 200, body = Transfer), (status = 409, description = "It does not wait for a review, or its payer is frozen.")))]
async fn approve_review(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(transfer_id): Params<TransferId>,
    Keyed { key, body }: Keyed<ReviewReason>,
) -> Result<Json<Transfer>> {
    reason(&body.reason)?;
    let decide = Decide { transfer_id, approve: true, reason: body.reason, by: caller.actor.id };
    Ok(Json(app.submit(&caller, key, commands::decide_review, decide).await?.value))
}

/// Refuses a transfer in review: what was held is let go.
#[utoipa::path(post, path = "/api/v1/wallet-reviews/{transfer_id}/reject", tag = "wallets", params(("transfer_id" = TransferId, Path)), request_body = ReviewReason,
    responses((status = 200, body = Transfer), (status = 409, description = "It does not wait for a review.")))]
async fn reject_review(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(transfer_id): Params<TransferId>,
    Keyed { key, body }: Keyed<ReviewReason>,
) -> Result<Json<Transfer>> {
    reason(&body.reason)?;
    let decide = Decide { transfer_id, approve: false, reason: body.reason, by: caller.actor.id };
    Ok(Json(app.submit(&caller, key, commands::decide_review, decide).await?.value))
}
