//! Wallets: opened, listed, changed, and their statements.

use super::{BODY, currency, reach, reason, service};
use crate::commands::{self, Change, Open};
use crate::error;
use crate::model::*;
use crate::moves::Reach;
use crate::queries::{self, WalletLine, Which};
use axum::Json;
use axum::extract::State as AppState;
use axum::response::IntoResponse;
use kernel::{Currency, Error, Page};
use ledger::api::StatementPosition;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use web::{Access, App, Body, Caller, Created, IfMatch, Keyed, Paging, PagingParams, Params, Query, Result, Route, Versioned, handlers};

pub(super) fn routes() -> Vec<Route> {
    let (own, admin) = (Access::Tenant("wallets.use"), Access::Tenant("wallets.admin"));
    vec![
        Route::new(admin, handlers!(open_wallet)).body_limit(BODY).keyed(),
        Route::new(own, handlers!(list_wallets)),
        Route::new(own, handlers!(get_wallet)),
        Route::new(admin, handlers!(change_wallet)).body_limit(BODY),
        Route::new(admin, handlers!(add_currency)).body_limit(BODY).keyed(),
        Route::new(own, handlers!(get_statement)),
    ]
}

/// A wallet to be opened.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewWallet {
    /// Whose it is.
    kind: WalletKind,
    /// The user who may use it as its own.
    #[serde(default)]
    user_id: Option<UserId>,
    /// What the tenant calls its owner: letters, digits, '.', '_', '-', ':' and '@'.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 96)]
    owner: Option<String>,
    /// For people.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// Its KYC level; the policy's first one when it is left out.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 100)]
    level: Option<i64>,
    /// Of a merchant: its fee in hundredths of a percent; the policy's when it is left out.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 5000)]
    fee_bps: Option<i64>,
    /// What it holds; more can be added.
    #[schema(value_type = Vec<Currency>, min_items = 1, max_items = 10)]
    currencies: Vec<String>,
}

fn within(field: &str, value: Option<i64>, most: i64) -> kernel::Result<()> {
    match value {
        Some(value) if !(0..=most).contains(&value) => Err(Error::field(field, "out_of_range", format!("between 0 and {most}"))),
        _ => Ok(()),
    }
}

fn owner(text: &str) -> kernel::Result<()> {
    let fine = (1..=96).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-:@".contains(&b));
    if fine { Ok(()) } else { Err(Error::field("owner", "invalid", "1 to 96 letters, digits, '.', '_', '-', ':' and '@'")) }
}

/// Opens a wallet.
#[utoipa::path(post, path = "/api/v1/wallets", tag = "wallets", request_body = NewWallet, responses((status = 201, body = Wallet),
    (status = 409, description = "The idempotency key was used for another request.")))]
async fn open_wallet(AppState(app): AppState<App>, caller: Caller, Keyed { key, body }: Keyed<NewWallet>) -> Result<impl IntoResponse> {
    check_text("name", &body.name, 1, 100)?;
    body.owner.as_deref().map_or(Ok(()), owner)?;
    within("level", body.level, 100)?;
    within("fee_bps", body.fee_bps, 5_000)?;
    if !(1..=MAX_CURRENCIES).contains(&body.currencies.len()) {
        return Err(Error::field("currencies", "wrong_count", format!("between 1 and {MAX_CURRENCIES}")).into());
    }
    let mut currencies = Vec::new();
    for (index, text) in body.currencies.iter().enumerate() {
        let currency: Currency = text.parse().map_err(|_| error::unknown_currency(&format!("currencies[{index}]")))?;
        if currencies.contains(&currency) {
            return Err(Error::field(format!("currencies[{index}]"), "repeated", "this currency is there twice").into());
        }
        currencies.push(currency);
    }
    let NewWallet { kind, user_id, owner, name, level, fee_bps, .. } = body;
    let new = Open { wallets: service(&app), kind, user_id, owner, name, level, fee_bps, currencies };
    let wallet = app.submit(&caller, key, commands::open, new).await?.value;
    Ok((web::ETag(wallet.version), Created(format!("/api/v1/wallets/{}", wallet.wallet_id), wallet)))
}

/// Which wallets to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct WalletFilter {
    /// Only those of this owner.
    #[param(min_length = 1, max_length = 96)]
    owner: Option<String>,
    /// Only those of this user.
    user_id: Option<UserId>,
}

/// Lists wallets, the latest first; without `wallets.operate` one's own. At most one of the filters may be given.
#[utoipa::path(get, path = "/api/v1/wallets", tag = "wallets", params(PagingParams, WalletFilter), responses((status = 200, body = Page<Wallet>)))]
async fn list_wallets(
    AppState(app): AppState<App>,
    caller: Caller,
    Query(filter): Query<WalletFilter>,
    paging: Paging<i64>,
) -> Result<Json<Page<Wallet>>> {
    let which = match (reach(&caller), filter.owner, filter.user_id) {
        (_, Some(_), Some(_)) => return Err(Error::field("query", "too_many", "at most one of owner and user_id").into()),
        (Reach::Own(user), ..) => Which::OfUser(user),
        (Reach::All, Some(owner), None) => Which::OfOwner(owner),
        (Reach::All, None, Some(user)) => Which::OfUser(user),
        (Reach::All, None, None) => Which::All,
    };
    const LIST: &str = "wallets.wallets";
    let page = paging.request(LIST)?;
    let (before, limit) = (page.after.unwrap_or(i64::MAX), i64::from(page.limit) + 1);
    let rows = app.read(&caller, move |read| queries::wallets(read, &which, before, limit)).await?;
    Ok(Json(paging.page(LIST, rows, |wallet| wallet.wallet_id.as_i64())?))
}

/// Reads a wallet with its balances. What is available is what is in it less what is held.
#[utoipa::path(get, path = "/api/v1/wallets/{wallet_id}", tag = "wallets", params(("wallet_id" = WalletId, Path)), responses((status = 200, body = WalletDetail)))]
async fn get_wallet(AppState(app): AppState<App>, caller: Caller, Params(wallet_id): Params<WalletId>) -> Result<Versioned<WalletDetail>> {
    let reach = reach(&caller);
    let detail = app.read(&caller, move |read| queries::detail(read, wallet_id, reach)).await?;
    Ok(Versioned(detail.wallet.version, detail))
}

/// A change of a wallet. What is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct WalletEdit {
    /// For people.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    /// Freezes it, opens it again, or closes it for ever. Frozen, its withdrawals under way are called off, unless the bank is being asked.
    #[serde(default)]
    status: Option<WalletStatus>,
    /// Its KYC level.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 100)]
    level: Option<i64>,
    /// A merchant's own fee, in hundredths of a percent.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 5000)]
    fee_bps: Option<i64>,
    /// Why, for whoever reads the events later.
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
}

/// Renames, freezes, opens, closes a wallet, or gives it another level or fee.
#[utoipa::path(patch, path = "/api/v1/wallets/{wallet_id}", tag = "wallets", params(("wallet_id" = WalletId, Path), ("If-Match" = Option<String>, Header)),
    request_body = WalletEdit, responses((status = 200, body = Wallet), (status = 409, description = "It is closed, or not empty."),
    (status = 412, description = "It has another version than If-Match says.")))]
async fn change_wallet(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(wallet_id): Params<WalletId>,
    if_match: IfMatch,
    Body(body): Body<WalletEdit>,
) -> Result<Versioned<Wallet>> {
    body.name.as_deref().map_or(Ok(()), |name| check_text("name", name, 1, 100))?;
    within("level", body.level, 100)?;
    within("fee_bps", body.fee_bps, 5_000)?;
    reason(&body.reason)?;
    let WalletEdit { name, status, level, fee_bps, reason } = body;
    let change = Change { wallet_id, if_match, name, status, level, fee_bps: fee_bps.map(Some), reason };
    let wallet = app.submit(&caller, None, commands::change, change).await?.value;
    Ok(Versioned(wallet.version, wallet))
}

/// A currency for a wallet.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewCurrency {
    /// The currency.
    #[schema(value_type = Currency)]
    currency: String,
}

/// Lets a wallet hold one more currency.
#[utoipa::path(post, path = "/api/v1/wallets/{wallet_id}/currencies", tag = "wallets", params(("wallet_id" = WalletId, Path)), request_body = NewCurrency,
    responses((status = 200, body = Wallet), (status = 409, description = "It is closed, or holds ten already.")))]
async fn add_currency(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(wallet_id): Params<WalletId>,
    Keyed { key, body }: Keyed<NewCurrency>,
) -> Result<Json<Wallet>> {
    let new = (wallet_id, currency(&body.currency)?);
    Ok(Json(app.submit(&caller, key, commands::add_currency, new).await?.value))
}

/// Of which currency.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct OfCurrency {
    /// The currency.
    #[param(value_type = Currency)]
    currency: String,
}

/// Reads a wallet's statement in a currency, the latest line first, each with the balance after it.
#[utoipa::path(get, path = "/api/v1/wallets/{wallet_id}/statement", tag = "wallets", params(("wallet_id" = WalletId, Path), OfCurrency, PagingParams),
    responses((status = 200, body = Page<WalletLine>), (status = 409, description = "The wallet does not hold this currency.")))]
async fn get_statement(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(wallet_id): Params<WalletId>,
    Query(of): Query<OfCurrency>,
    paging: Paging<StatementPosition>,
) -> Result<Json<Page<WalletLine>>> {
    let currency = currency(&of.currency)?;
    let list = format!("wallets.statement.{wallet_id}.{currency}");
    let page = paging.request(&list)?;
    let reach = reach(&caller);
    let read = move |read: &mut store::Read<'_>| queries::statement(read, (wallet_id, reach), currency, page.after.clone(), page.limit + 1);
    let rows = app.read(&caller, read).await?;
    let page = paging.page(&list, rows, |(_, position)| position.clone())?;
    Ok(Json(Page { data: page.data.into_iter().map(|(line, _)| line).collect(), next_cursor: page.next_cursor }))
}
