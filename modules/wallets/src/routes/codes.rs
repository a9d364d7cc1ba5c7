//! Pay codes.

use super::{BODY, Nothing, Whence, answer, currency, note, reach, service};
use crate::codes::{self, NewCode, PayCode};
use crate::model::*;
use axum::Json;
use axum::extract::State as AppState;
use axum::response::{IntoResponse, Response};
use kernel::Currency;
use serde::Deserialize;
use utoipa::ToSchema;
use web::{Access, App, Caller, Created, Keyed, Params, Result, Route, handlers};

pub(super) fn routes() -> Vec<Route> {
    let own = Access::Tenant("wallets.use");
    vec![
        Route::new(own, handlers!(make_pay_code)).body_limit(BODY).keyed(),
        Route::new(own, handlers!(get_pay_code)),
        Route::new(own, handlers!(cancel_pay_code)).body_limit(BODY).keyed(),
        Route::new(own, handlers!(pay_code)).body_limit(BODY).keyed(),
    ]
}

/// A pay code for a point of sale.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewPayCode {
    /// Who is paid.
    merchant_wallet_id: WalletId,
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

/// Makes a pay code: `pay_code` is the text for the QR code. It is paid once, and only in time.
#[utoipa::path(post, path = "/api/v1/wallet-pay-codes", tag = "wallets", request_body = NewPayCode, responses((status = 201, body = PayCode),
    (status = 409, description = "The merchant's wallet is closed or does not hold the currency.")))]
async fn make_pay_code(AppState(app): AppState<App>, caller: Caller, Keyed { key, body }: Keyed<NewPayCode>) -> Result<impl IntoResponse> {
    let (amount_minor, currency) = (body.amount_minor.minor()?, currency(&body.currency)?);
    note(&body.note)?;
    let new = NewCode {
        wallets: service(&app),
        reach: reach(&caller),
        merchant: body.merchant_wallet_id,
        currency,
        amount_minor,
        note: body.note,
    };
    let code = app.submit(&caller, key, codes::create, new).await?.value;
    Ok(Created(format!("/api/v1/wallet-pay-codes/{}", code.code_id), code))
}

/// Reads a pay code: the point of sale sees when it was paid.
#[utoipa::path(get, path = "/api/v1/wallet-pay-codes/{code_id}", tag = "wallets", params(("code_id" = CodeId, Path)), responses((status = 200, body = PayCode)))]
async fn get_pay_code(AppState(app): AppState<App>, caller: Caller, Params(code_id): Params<CodeId>) -> Result<Json<PayCode>> {
    let (wallets, reach) = (service(&app), reach(&caller));
    Ok(Json(app.read(&caller, move |read| codes::find(read, &wallets, code_id, reach)).await?))
}

/// Takes a pay code back.
#[utoipa::path(post, path = "/api/v1/wallet-pay-codes/{code_id}/cancel", tag = "wallets", params(("code_id" = CodeId, Path)),
    responses((status = 200, body = PayCode), (status = 409, description = "It is open no more.")))]
async fn cancel_pay_code(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(code_id): Params<CodeId>,
    Keyed { key, .. }: Keyed<Option<Nothing>>,
) -> Result<Json<PayCode>> {
    Ok(Json(app.submit(&caller, key, codes::cancel, (service(&app), code_id, reach(&caller))).await?.value))
}

/// A scanned pay code.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ScannedCode {
    /// Who pays.
    from_wallet_id: WalletId,
    /// The text of the QR code.
    #[schema(min_length = 1, max_length = 200)]
    pay_code: String,
    /// Where the payer is.
    #[serde(default)]
    whence: Whence,
}

/// Pays what a scanned pay code says.
#[utoipa::path(post, path = "/api/v1/wallet-pay-codes/pay", tag = "wallets", request_body = ScannedCode, responses((status = 201, body = Transfer),
    (status = 202, description = "The payer has to confirm it, or a person has to review it.", body = Transfer),
    (status = 409, description = "It was used, its time is over, or the payment is not allowed.")))]
async fn pay_code(AppState(app): AppState<App>, caller: Caller, Keyed { key, body }: Keyed<ScannedCode>) -> Result<Response> {
    check_text("pay_code", &body.pay_code, 1, 200)?;
    let wallets = service(&app);
    let code_id = codes::read_text(&wallets, caller.tenant()?, &body.pay_code)?;
    let (device, country) = body.whence.read()?;
    let pay = codes::Pay { wallets, reach: reach(&caller), from: body.from_wallet_id, code_id, device, country };
    answer(app.submit(&caller, key, codes::pay, pay).await?.value)
}
