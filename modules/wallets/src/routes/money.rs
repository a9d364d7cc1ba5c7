//! Money that comes in from outside and goes out again.

use super::{BODY, Whence, answer, currency, reach, service};
use crate::model::*;
use crate::moves::Ask;
use crate::outside::{self, Deposit, TopUp, TopUpBegun, Withdraw};
use axum::Json;
use axum::extract::State as AppState;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use kernel::{Currency, Error};
use payments::MethodId;
use payments::api::Means;
use serde::Deserialize;
use utoipa::ToSchema;
use web::{Access, App, Caller, Keyed, Params, Result, Route, handlers};

pub(super) fn routes() -> Vec<Route> {
    let (own, admin) = (Access::Tenant("wallets.use"), Access::Tenant("wallets.admin"));
    vec![
        Route::new(admin, handlers!(credit_deposit)).body_limit(BODY).keyed(),
        Route::new(own, handlers!(top_up)).body_limit(BODY).keyed(),
        Route::new(own, handlers!(withdraw)).body_limit(BODY).keyed(),
    ]
}

/// A bank transfer that has come in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewDeposit {
    /// In minor units.
    #[schema(value_type = i64, minimum = 1, maximum = 1_000_000_000_000_i64)]
    amount_minor: Amount,
    /// The currency.
    #[schema(value_type = Currency)]
    currency: String,
    /// What the bank calls it: credited once.
    #[schema(min_length = 1, max_length = 128)]
    reference: String,
}

/// Credits a bank transfer that has come in, once for its reference.
#[utoipa::path(post, path = "/api/v1/wallets/{wallet_id}/deposits", tag = "wallets", params(("wallet_id" = WalletId, Path)), request_body = NewDeposit,
    responses((status = 201, body = Transfer), (status = 409, description = "The reference was credited before, or the wallet can't take it.")))]
async fn credit_deposit(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(wallet_id): Params<WalletId>,
    Keyed { key, body }: Keyed<NewDeposit>,
) -> Result<Response> {
    let (amount_minor, currency) = (body.amount_minor.minor()?, currency(&body.currency)?);
    check_text("reference", &body.reference, 1, 128)?;
    let new = Deposit { wallet_id, amount_minor, currency, reference: body.reference };
    answer(app.submit(&caller, key, outside::deposit, new).await?.value)
}

/// A top-up by card, Apple Pay or Google Pay. Exactly one of `token` and `method_id` is given.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewTopUp {
    /// In minor units.
    #[schema(value_type = i64, minimum = 1, maximum = 1_000_000_000_000_i64)]
    amount_minor: Amount,
    /// The currency.
    #[schema(value_type = Currency)]
    currency: String,
    /// The payment provider's token.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 200)]
    token: Option<String>,
    /// A stored way to pay. Without `wallets.operate` it has to be the wallet owner's or the user's own.
    #[serde(default)]
    method_id: Option<MethodId>,
    /// Of the card: two capital letters, for routing.
    #[serde(default)]
    #[schema(pattern = "^[A-Z]{2}$")]
    country: Option<String>,
}

/// Begins to top a wallet up. It is credited once the payment is captured; the payment's own routes tell whether its customer has to
/// confirm.
#[utoipa::path(post, path = "/api/v1/wallets/{wallet_id}/top-ups", tag = "wallets", params(("wallet_id" = WalletId, Path)), request_body = NewTopUp,
    responses((status = 202, body = TopUpBegun), (status = 409, description = "The wallet can't take it.")))]
async fn top_up(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(wallet_id): Params<WalletId>,
    Keyed { key, body }: Keyed<NewTopUp>,
) -> Result<impl IntoResponse> {
    let (amount_minor, currency) = (body.amount_minor.minor()?, currency(&body.currency)?);
    country("country", body.country.as_deref())?;
    let means = match (body.token, body.method_id) {
        (Some(token), None) => Means::Token(token),
        (None, Some(method_id)) => Means::Stored(method_id),
        _ => return Err(Error::field("token", "wrong_count", "exactly one of token and method_id").into()),
    };
    let new = TopUp { reach: reach(&caller), wallet_id, amount_minor, currency, country: body.country.unwrap_or_default(), means };
    let begun = app.submit(&caller, key, outside::top_up, new).await?.value;
    Ok((StatusCode::ACCEPTED, Json(begun)))
}

/// A withdrawal to a bank account.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewWithdrawal {
    /// In minor units.
    #[schema(value_type = i64, minimum = 1, maximum = 1_000_000_000_000_i64)]
    amount_minor: Amount,
    /// The currency.
    #[schema(value_type = Currency)]
    currency: String,
    /// The account that gets it.
    #[schema(min_length = 15, max_length = 42)]
    iban: String,
    /// Whose that is.
    #[schema(min_length = 1, max_length = 100)]
    holder: String,
    /// Where the payer is.
    #[serde(default)]
    whence: Whence,
}

/// Pays out to a bank account: the amount is held at once, and leaves the wallet when the bank has paid.
#[utoipa::path(post, path = "/api/v1/wallets/{wallet_id}/withdrawals", tag = "wallets", params(("wallet_id" = WalletId, Path)), request_body = NewWithdrawal,
    responses((status = 202, body = Transfer), (status = 409, description = "A limit, the funds, the wallet or the score do not allow it.")))]
async fn withdraw(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(wallet_id): Params<WalletId>,
    Keyed { key, body }: Keyed<NewWithdrawal>,
) -> Result<Response> {
    let (amount_minor, currency) = (body.amount_minor.minor()?, currency(&body.currency)?);
    let iban = outside::iban(&body.iban)?;
    check_text("holder", &body.holder, 1, 100)?;
    let (device, country) = body.whence.read()?;
    let ask = Ask {
        wallets: Some(service(&app)),
        reach: reach(&caller),
        kind: TransferKind::Withdrawal,
        from: wallet_id,
        to: OUTSIDE,
        amount_minor,
        currency,
        note: String::new(),
        device,
        country,
        target: outside::target_of(&iban),
        confirmed: None,
    };
    answer(app.submit(&caller, key, outside::withdraw, Withdraw { ask, iban, holder: body.holder }).await?.value)
}
