//! The HTTP routes: parse, check, and hand over to a command or a query.

use crate::codes::{self, NewCode, PayCode};
use crate::commands::{self, Change, Confirm, Confirmed, Decide, Open, PolicyVersion, PutPolicy};
use crate::model::*;
use crate::moves::{self, Ask, Reach};
use crate::outside::{self, Deposit, TopUp, TopUpBegun, Withdraw};
use crate::policy::Policy;
use crate::queries::{self, Payout, Review, WalletLine, Which};
use crate::requests::{self, Answer, MoneyRequest, NewRequest};
use crate::schedules::{self, NewSchedule, Schedule};
use crate::service::{self, Wallets};
use crate::{error, sql};
use axum::Json;
use axum::extract::State as AppState;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use kernel::{ActorKind, Currency, Error, Page, Timestamp};
use ledger::api::StatementPosition;
use payments::MethodId;
use payments::api::Means;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;
use web::{Access, App, Body, Caller, Created, IfMatch, Keyed, Paging, PagingParams, Params, Query, Result, Route, Versioned};

const BODY: usize = 8 * 1024;
const POLICY_BODY: usize = 256 * 1024;

pub(crate) fn routes() -> Vec<Route> {
    let (own, operate, admin) = (Access::Tenant("wallets.use"), Access::Tenant("wallets.operate"), Access::Tenant("wallets.admin"));
    let review = Access::Tenant("wallets.review");
    vec![
        Route::new(admin, routes!(open_wallet)).body_limit(BODY).keyed(),
        Route::new(own, routes!(list_wallets)),
        Route::new(own, routes!(get_wallet)),
        Route::new(admin, routes!(change_wallet)).body_limit(BODY),
        Route::new(admin, routes!(add_currency)).body_limit(BODY).keyed(),
        Route::new(own, routes!(get_statement)),
        Route::new(admin, routes!(credit_deposit)).body_limit(BODY).keyed(),
        Route::new(own, routes!(top_up)).body_limit(BODY).keyed(),
        Route::new(own, routes!(withdraw)).body_limit(BODY).keyed(),
        Route::new(own, routes!(make_transfer)).body_limit(BODY).keyed(),
        Route::new(operate, routes!(list_transfers)),
        Route::new(own, routes!(get_transfer)),
        Route::new(own, routes!(confirm_transfer)).body_limit(BODY).keyed(),
        Route::new(Access::Tenant("wallets.deliver"), routes!(get_code)),
        Route::new(review, routes!(list_reviews)),
        Route::new(review, routes!(approve_review)).body_limit(BODY).keyed(),
        Route::new(review, routes!(reject_review)).body_limit(BODY).keyed(),
        Route::new(own, routes!(request_money)).body_limit(BODY).keyed(),
        Route::new(own, routes!(list_requests)),
        Route::new(own, routes!(get_request)),
        Route::new(own, routes!(accept_request)).body_limit(BODY).keyed(),
        Route::new(own, routes!(decline_request)).body_limit(BODY).keyed(),
        Route::new(own, routes!(cancel_request)).body_limit(BODY).keyed(),
        Route::new(own, routes!(make_pay_code)).body_limit(BODY).keyed(),
        Route::new(own, routes!(get_pay_code)),
        Route::new(own, routes!(cancel_pay_code)).body_limit(BODY).keyed(),
        Route::new(own, routes!(pay_code)).body_limit(BODY).keyed(),
        Route::new(own, routes!(make_schedule)).body_limit(BODY).keyed(),
        Route::new(own, routes!(list_schedules)),
        Route::new(own, routes!(get_schedule)),
        Route::new(own, routes!(cancel_schedule)).body_limit(BODY).keyed(),
        Route::new(own, routes!(get_policy)),
        Route::new(Access::Tenant("wallets.configure"), routes!(set_policy)).body_limit(POLICY_BODY),
        Route::new(Access::Tenant("wallets.configure"), routes!(list_policies)),
    ]
}

/// Whose wallets the caller may use. A program without `wallets.operate` has none of its own.
fn reach(caller: &Caller) -> Reach {
    if caller.has("wallets.operate") {
        return Reach::All;
    }
    Reach::Own(UserId::from_i64(if caller.actor.kind == ActorKind::User { caller.actor.id } else { 0 }))
}

fn service(app: &App) -> Wallets {
    app.part::<Wallets>().clone()
}

/// An active currency. Errors: `money.unknown_currency`.
fn currency(text: &str) -> kernel::Result<Currency> {
    text.parse().map_err(|_| error::unknown_currency("currency"))
}

fn note(text: &str) -> kernel::Result<()> {
    check_text("note", text, 0, MAX_NOTE)
}

fn reason(text: &str) -> kernel::Result<()> {
    check_text("reason", text, 1, 500)
}

/// Where the payer is when it asks, as far as the application knows: for the score.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PayerWhence)]
struct Whence {
    /// A name of the payer's device that stays the same.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 200)]
    device: Option<String>,
    /// Two capital letters.
    #[serde(default)]
    #[schema(pattern = "^[A-Z]{2}$")]
    country: Option<String>,
}

impl Whence {
    fn read(&self) -> kernel::Result<(u32, [u8; 2])> {
        let device = match &self.device {
            Some(device) => {
                check_text("whence.device", device, 1, 200)?;
                outside::target_of(device)
            }
            None => 0,
        };
        Ok((device, country("whence.country", self.country.as_deref())?))
    }
}

/// A transfer by what has become of it: 201 when the money has moved, 202 while something is waited for, a problem when it was denied.
fn answer(transfer: Transfer) -> Result<Response> {
    let location = format!("/api/v1/wallet-transfers/{}", transfer.transfer_id);
    match transfer.status {
        TransferStatus::Denied => Err(error::denied(&transfer).into()),
        TransferStatus::Completed => Ok(Created(location, transfer).into_response()),
        _ => Ok((StatusCode::ACCEPTED, [(axum::http::header::LOCATION, location)], Json(transfer)).into_response()),
    }
}

// Wallets.

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

// Transfers.

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

// Reviews.

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

// Requests for money.

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

/// An empty object.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

// Pay codes.

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

// Schedules.

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

// The policy.

/// Reads the policy that is in force.
#[utoipa::path(get, path = "/api/v1/wallet-policy", tag = "wallets", responses((status = 200, body = PolicyVersion)))]
async fn get_policy(AppState(app): AppState<App>, caller: Caller) -> Result<Versioned<PolicyVersion>> {
    let wallets = service(&app);
    let found = app.read(&caller, move |read| service::policy(read, Some(&wallets))).await?;
    let created_at = Some(found.at).filter(|at| at.micros() > 0);
    Ok(Versioned(found.version, PolicyVersion { version: found.version, created_at, policy: found.policy.clone() }))
}

/// Puts a policy into force as a new version: limits of the levels, fees, times, and what makes a score.
#[utoipa::path(put, path = "/api/v1/wallet-policy", tag = "wallets", params(("If-Match" = Option<String>, Header)), request_body = Policy,
    responses((status = 200, body = PolicyVersion), (status = 412, description = "Another version is in force than If-Match says.")))]
async fn set_policy(
    AppState(app): AppState<App>,
    caller: Caller,
    if_match: IfMatch,
    Body(policy): Body<Policy>,
) -> Result<Versioned<PolicyVersion>> {
    policy.check()?;
    let put = PutPolicy { if_match, policy, by: caller.actor.id };
    let put = app.submit(&caller, None, commands::put_policy, put).await?.value;
    Ok(Versioned(put.version, put))
}

/// Lists the versions of the policy, the latest first.
#[utoipa::path(get, path = "/api/v1/wallet-policy/versions", tag = "wallets", params(PagingParams), responses((status = 200, body = Page<PolicyVersion>)))]
async fn list_policies(AppState(app): AppState<App>, caller: Caller, paging: Paging<i64>) -> Result<Json<Page<PolicyVersion>>> {
    const LIST: &str = "wallets.policies";
    let page = paging.request(LIST)?;
    let (before, limit) = (page.after.unwrap_or(i64::MAX), i64::from(page.limit) + 1);
    let rows = app.read(&caller, move |read| {
        let rows: Vec<(i64, String, Timestamp)> = read.all(sql::POLICIES_PAGE, (before, limit))?;
        rows.into_iter()
            .map(|(version, body, at)| {
                let policy = serde_json::from_str(&body).map_err(|e| Error::internal("a policy can't be read").caused_by(e))?;
                Ok(PolicyVersion { version, created_at: Some(at), policy })
            })
            .collect::<kernel::Result<Vec<PolicyVersion>>>()
    });
    Ok(Json(paging.page(LIST, rows.await?, |policy| policy.version)?))
}
