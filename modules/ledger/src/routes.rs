//! The HTTP routes: parse, check, and hand over to a command or a query.

use crate::commands::{self, AccountChange, NewAccount};
use crate::model::*;
use crate::queries::{self, Hold, StatementLine, StatementPosition, Transaction, TrialBalance};
use crate::wire::{Amount, BulkBody, BulkOutcome, WireDetails, WirePosting, key_of, rate_of};
use crate::{api, error};
use axum::Json;
use axum::extract::State as AppState;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use kernel::{Currency, Error, Page, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use web::{
    Access, App, Body, Caller, Created, ETag, IfMatch, Keyed, Paging, PagingParams, Params, Query, Result, Route, Versioned, handlers,
};

const SMALL_BODY: usize = 64 * 1024;
/// 8,192 transactions with some details.
const BULK_BODY: usize = 6 * 1024 * 1024;
/// How long a bulk may take, its body included.
const BULK_MS: u32 = 30_000;

pub(crate) fn routes() -> Vec<Route> {
    let (read, write, admin) = (Access::Tenant("ledger.read"), Access::Tenant("ledger.write"), Access::Tenant("ledger.admin"));
    let posting = |router| Route::new(write, router).body_limit(SMALL_BODY).keyed();
    vec![
        Route::new(admin, handlers!(open_account)).body_limit(SMALL_BODY).keyed(),
        Route::new(read, handlers!(list_accounts)),
        Route::new(read, handlers!(get_account)),
        Route::new(admin, handlers!(change_account)).body_limit(SMALL_BODY),
        Route::new(read, handlers!(get_balance)),
        Route::new(read, handlers!(get_statement)),
        Route::new(read, handlers!(get_account_limits)),
        Route::new(admin, handlers!(put_account_limits)).body_limit(SMALL_BODY),
        Route::new(read, handlers!(get_owner_limits)),
        Route::new(admin, handlers!(put_owner_limits)).body_limit(SMALL_BODY),
        posting(handlers!(post_transfer)),
        posting(handlers!(post_transaction)),
        Route::new(write, handlers!(post_bulk)).body_limit(BULK_BODY).timeout_ms(u64::from(BULK_MS)),
        posting(handlers!(post_exchange)),
        posting(handlers!(place_hold)),
        posting(handlers!(capture_hold)),
        posting(handlers!(void_hold)),
        posting(handlers!(reverse_transaction)),
        Route::new(read, handlers!(list_transactions)),
        Route::new(read, handlers!(get_transaction)),
        Route::new(read, handlers!(get_hold)),
        Route::new(read, handlers!(get_trial_balance)),
    ]
}

// Accounts.

/// An account to be opened.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct OpenAccount {
    /// Its name in the chart of accounts, unique: parts of letters, digits, `.`, `_` and `-`, joined by `:`.
    #[schema(min_length = 1, max_length = 96, example = "wallet:alice")]
    code: String,
    /// Its name for people; the code if it has no other.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    /// Its type.
    #[serde(rename = "type")]
    account_type: AccountType,
    /// Of all its postings.
    currency: Currency,
    /// Whose it is.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 96)]
    owner: Option<String>,
    /// Whether its balance may go below zero, counted on its normal side.
    #[serde(default)]
    may_go_negative: bool,
    /// How far below zero, if it may; null for as far as it likes.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1_000_000_000_000_000_i64)]
    negative_limit_minor: Option<i64>,
}

/// Opens an account.
#[utoipa::path(post, path = "/api/v1/ledger/accounts", tag = "ledger", request_body = OpenAccount, responses(
    (status = 201, body = Account), (status = 409, description = "The code is taken, or the idempotency key was used for another request.")))]
async fn open_account(AppState(app): AppState<App>, caller: Caller, Keyed { key, body }: Keyed<OpenAccount>) -> Result<impl IntoResponse> {
    let OpenAccount { code, name, account_type, currency, owner, may_go_negative, negative_limit_minor } = body;
    let name = name.unwrap_or_else(|| code.clone());
    let new = NewAccount { code, name, account_type, currency, owner, may_go_negative, negative_limit_minor, managed: false };
    let account = app.submit(&caller, key, commands::open_account, new).await?.value;
    Ok((ETag(account.version), Created(format!("/api/v1/ledger/accounts/{}", account.account_id), account)))
}

/// Which accounts to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct AccountFilter {
    /// Only those of this owner.
    #[param(max_length = 96)]
    owner: Option<String>,
}

/// Lists accounts, the oldest first.
#[utoipa::path(get, path = "/api/v1/ledger/accounts", tag = "ledger", params(PagingParams, AccountFilter), responses((status = 200, body = Page<Account>)))]
async fn list_accounts(
    AppState(app): AppState<App>,
    caller: Caller,
    Query(filter): Query<AccountFilter>,
    paging: Paging<i64>,
) -> Result<Json<Page<Account>>> {
    const LIST: &str = "ledger.accounts";
    let page = paging.request(LIST)?;
    let (after, limit) = (page.after.unwrap_or(0), i64::from(page.limit) + 1);
    let rows = app.store().read(caller.tenant()?, move |read| queries::accounts(read, filter.owner.as_deref(), after, limit)).await?;
    Ok(Json(paging.page(LIST, rows, |account| account.account_id.as_i64())?))
}

/// An account with its balance.
#[derive(Debug, Serialize, ToSchema)]
struct AccountWithBalance {
    /// The account.
    #[serde(flatten)]
    account: Account,
    /// Its balance now, on its normal side.
    balance: Balance,
}

/// Reads an account with its balance.
#[utoipa::path(get, path = "/api/v1/ledger/accounts/{account_id}", tag = "ledger", params(("account_id" = AccountId, Path)),
    responses((status = 200, body = AccountWithBalance)))]
async fn get_account(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(account_id): Params<AccountId>,
) -> Result<Versioned<AccountWithBalance>> {
    let found = app.store().peek(caller.tenant()?, move |read| {
        let account = queries::account(read, account_id)?;
        let balance = queries::balance(read, &account)?;
        Ok(AccountWithBalance { account, balance })
    });
    let found = found.await?;
    Ok(Versioned(found.account.version, found))
}

/// A change of an account. What is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangeAccount {
    /// Its name for people.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    /// What may be done with it. Closing is for ever.
    #[serde(default)]
    status: Option<AccountStatus>,
    /// Whether its balance may go below zero; with it, how far is set too.
    #[serde(default)]
    may_go_negative: Option<bool>,
    /// How far below zero; null for as far as it likes. Only together with `may_go_negative`.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1_000_000_000_000_000_i64)]
    negative_limit_minor: Option<i64>,
}

/// Renames, freezes, opens again or closes an account, or sets how far it may go below zero.
#[utoipa::path(patch, path = "/api/v1/ledger/accounts/{account_id}", tag = "ledger",
    params(("account_id" = AccountId, Path), ("If-Match" = Option<String>, Header)), request_body = ChangeAccount, responses((status = 200, body = Account),
    (status = 409, description = "It is closed, not empty, beyond the limit, or a module looks after it."), (status = 412, description = "It has another version than If-Match says.")))]
async fn change_account(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(account_id): Params<AccountId>,
    seen: IfMatch,
    Body(body): Body<ChangeAccount>,
) -> Result<Versioned<Account>> {
    let ChangeAccount { name, status, may_go_negative, negative_limit_minor } = body;
    if may_go_negative.is_none() && negative_limit_minor.is_some() {
        return Err(Error::field("may_go_negative", "required", "negative_limit_minor comes with it").into());
    }
    let change = AccountChange { name, status, may_go_negative: may_go_negative.map(|may| (may, negative_limit_minor)), direct: true };
    let command = move |tx: &mut store::Tx<'_>, change: &AccountChange| commands::change_account(tx, account_id, seen, change);
    let account = app.submit(&caller, None, command, change).await?.value;
    Ok(Versioned(account.version, account))
}

/// When.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Moment {
    /// Any moment up to now; now when it is left out.
    at: Option<Timestamp>,
    /// Instead of `at`: the moment by effective dates, so that what was recorded later and took effect before counts, and what was recorded
    /// before and takes effect later doesn't.
    effective_at: Option<Timestamp>,
}

/// An account's balance now, as it was recorded at any moment, or by effective dates.
#[utoipa::path(get, path = "/api/v1/ledger/accounts/{account_id}/balance", tag = "ledger", params(("account_id" = AccountId, Path), Moment),
    responses((status = 200, body = Balance)))]
async fn get_balance(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(account_id): Params<AccountId>,
    Query(Moment { at, effective_at }): Query<Moment>,
) -> Result<Json<Balance>> {
    if at.is_some() && effective_at.is_some() {
        return Err(Error::field("effective_at", "conflicts", "it comes instead of at").into());
    }
    let balance = app.store().read(caller.tenant()?, move |read| match (at, effective_at) {
        (Some(at), _) => api::balance_at(read, account_id, at),
        (None, Some(at)) => api::balance_effective_at(read, account_id, at),
        (None, None) => api::balance(read, account_id),
    });
    Ok(Json(balance.await?))
}

/// An account's statement, the latest first, with the balance after each line.
#[utoipa::path(get, path = "/api/v1/ledger/accounts/{account_id}/statement", tag = "ledger", params(("account_id" = AccountId, Path), PagingParams),
    responses((status = 200, body = Page<StatementLine>)))]
async fn get_statement(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(account_id): Params<AccountId>,
    paging: Paging<StatementPosition>,
) -> Result<Json<Page<StatementLine>>> {
    // The position holds sums: a cursor of one account must not go on in another.
    let list = format!("ledger.statement.{account_id}");
    let page = paging.request(&list)?;
    let limit = i64::from(page.limit) + 1;
    let rows = app.store().read(caller.tenant()?, move |read| {
        let account = queries::account(read, account_id)?;
        queries::statement(read, &account, page.after, limit)
    });
    let page = paging.page(&list, rows.await?, |(_, position)| position.clone())?;
    Ok(Json(Page { data: page.data.into_iter().map(|(line, _)| line).collect(), next_cursor: page.next_cursor }))
}

// Velocity limits.

/// An account's velocity limits.
#[utoipa::path(get, path = "/api/v1/ledger/accounts/{account_id}/limits", tag = "ledger", params(("account_id" = AccountId, Path)),
    responses((status = 200, body = Limit)))]
async fn get_account_limits(AppState(app): AppState<App>, caller: Caller, Params(account_id): Params<AccountId>) -> Result<Json<Limit>> {
    let limit = app.store().peek(caller.tenant()?, move |read| {
        let account = queries::account(read, account_id)?;
        queries::limit(read, LimitSubject::Account, &account_id.as_i64().to_string(), account.currency)
    });
    Ok(Json(limit.await?))
}

/// Sets how much may leave an account.
#[utoipa::path(put, path = "/api/v1/ledger/accounts/{account_id}/limits", tag = "ledger", params(("account_id" = AccountId, Path)), request_body = Limit,
    responses((status = 200, body = Limit), (status = 409, description = "A module looks after it.")))]
async fn put_account_limits(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(account_id): Params<AccountId>,
    Body(limit): Body<Limit>,
) -> Result<Json<Limit>> {
    let command = move |tx: &mut store::Tx<'_>, limit: &Limit| commands::limit_account(tx, account_id, *limit, true);
    Ok(Json(app.submit(&caller, None, command, limit).await?.value))
}

/// An owner's velocity limits in a currency.
#[utoipa::path(get, path = "/api/v1/ledger/owners/{owner}/limits/{currency}", tag = "ledger", params(("owner" = String, Path), ("currency" = Currency, Path)),
    responses((status = 200, body = Limit)))]
async fn get_owner_limits(
    AppState(app): AppState<App>,
    caller: Caller,
    Params((owner, currency)): Params<(String, Currency)>,
) -> Result<Json<Limit>> {
    commands::check_owner(&owner)?;
    let limit = app.store().peek(caller.tenant()?, move |read| queries::limit(read, LimitSubject::Owner, &owner, currency));
    Ok(Json(limit.await?))
}

/// Sets how much may leave all accounts of an owner in a currency.
#[utoipa::path(put, path = "/api/v1/ledger/owners/{owner}/limits/{currency}", tag = "ledger", params(("owner" = String, Path), ("currency" = Currency, Path)),
    request_body = Limit, responses((status = 200, body = Limit), (status = 409, description = "A module looks after one of them.")))]
async fn put_owner_limits(
    AppState(app): AppState<App>,
    caller: Caller,
    Params((owner, currency)): Params<(String, Currency)>,
    Body(limit): Body<Limit>,
) -> Result<Json<Limit>> {
    let command = move |tx: &mut store::Tx<'_>, limit: &Limit| commands::limit_owner(tx, &owner, currency, *limit, true);
    Ok(Json(app.submit(&caller, None, command, limit).await?.value))
}

// What posts.

/// Does one request; those that come at once share a commit.
async fn submit(app: &App, caller: &Caller, headers: &HeaderMap, operation: Operation, details: WireDetails) -> Result<Created<Receipt>> {
    let request = key_of(headers, Request::new(operation).details(details.into()).direct());
    let receipt = app.submit_set(caller, None, commands::post_set, request).await?.value;
    if receipt.replayed {
        caller.mark_replayed();
    }
    Ok(Created(format!("/api/v1/ledger/transactions/{}", receipt.transaction_id), receipt))
}

/// An amount that moves from one account to another.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewTransfer {
    /// The account that is debited.
    pub debit_account_id: AccountId,
    /// The account that is credited.
    pub credit_account_id: AccountId,
    /// Above zero, in minor units.
    #[schema(value_type = i64, minimum = 1, maximum = 1_000_000_000_000_000_i64)]
    pub amount_minor: Amount,
    /// Both accounts', if it is to be checked.
    #[serde(default)]
    #[schema(value_type = Option<Currency>)]
    pub currency: Option<String>,
    /// What it carries besides.
    #[serde(default)]
    pub details: WireDetails,
}

/// Debits one account and credits another.
#[utoipa::path(post, path = "/api/v1/ledger/transfers", tag = "ledger", request_body = NewTransfer, responses((status = 201, body = Receipt),
    (status = 409, description = "A guard refuses it, or the idempotency key was used for another request.")))]
async fn post_transfer(
    AppState(app): AppState<App>,
    caller: Caller,
    headers: HeaderMap,
    Keyed { body, .. }: Keyed<NewTransfer>,
) -> Result<Created<Receipt>> {
    let operation = body.operation("")?;
    submit(&app, &caller, &headers, operation, body.details).await
}

/// Amounts that move between several accounts.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewTransaction {
    /// Debits and credits of each currency are equal.
    #[schema(min_items = 2, max_items = 64)]
    pub postings: Vec<WirePosting>,
    /// What it carries besides.
    #[serde(default)]
    pub details: WireDetails,
}

/// Posts a transaction of two or more postings.
#[utoipa::path(post, path = "/api/v1/ledger/transactions", tag = "ledger", request_body = NewTransaction, responses((status = 201, body = Receipt),
    (status = 409, description = "A guard refuses it, or the idempotency key was used for another request.")))]
async fn post_transaction(
    AppState(app): AppState<App>,
    caller: Caller,
    headers: HeaderMap,
    Keyed { body, .. }: Keyed<NewTransaction>,
) -> Result<Created<Receipt>> {
    let operation = body.operation("")?;
    submit(&app, &caller, &headers, operation, body.details).await
}

/// What a bulk came to.
#[derive(Debug, Serialize, ToSchema)]
struct BulkAnswer {
    /// How many were done, repeats included.
    done: usize,
    /// How many were refused.
    refused: usize,
    /// One for each, in their order.
    outcomes: Vec<BulkOutcome>,
}

/// Does up to 8,192 transactions in one commit. Each stands or falls alone, or with those that it is linked with; but what is wrong with one
/// whatever the ledger holds (an amount of zero, a text that is too long) refuses the whole bulk.
#[utoipa::path(post, path = "/api/v1/ledger/transactions/bulk", tag = "ledger", request_body = BulkBody, responses((status = 200, body = BulkAnswer)))]
async fn post_bulk(AppState(app): AppState<App>, caller: Caller, Body(body): Body<BulkBody>) -> Result<Json<BulkAnswer>> {
    let requests = body.requests(app.clock().now())?;
    let call = caller.call()?.deadline_ms(BULK_MS);
    let outcomes = api::submit_bulk(app.store(), call, requests).await?;
    let outcomes: Vec<BulkOutcome> = outcomes.into_iter().map(BulkOutcome::from).collect();
    let done = outcomes.iter().filter(|outcome| outcome.receipt.is_some()).count();
    Ok(Json(BulkAnswer { done, refused: outcomes.len() - done, outcomes }))
}

/// One currency for another.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewExchange {
    /// What is sold leaves this account.
    pub from_account_id: AccountId,
    /// What is bought comes to this one.
    pub to_account_id: AccountId,
    /// In minor units of the first account's currency.
    #[schema(value_type = i64, minimum = 1, maximum = 1_000_000_000_000_000_i64)]
    pub sell_minor: Amount,
    /// In minor units of the second's: what is sold at the rate, rounded up or down.
    #[schema(value_type = i64, minimum = 1, maximum = 1_000_000_000_000_000_i64)]
    pub buy_minor: Amount,
    /// How many major units are bought with one that is sold; at most nine decimals.
    #[schema(pattern = r"^[0-9]{1,10}(\.[0-9]{1,9})?$")]
    pub rate: String,
    /// What it carries besides.
    #[serde(default)]
    pub details: WireDetails,
}

/// Exchanges one currency for another at a stated rate, through the accounts `conversion:<currency>`.
#[utoipa::path(post, path = "/api/v1/ledger/exchanges", tag = "ledger", request_body = NewExchange, responses((status = 201, body = Receipt),
    (status = 409, description = "A guard refuses it, or the idempotency key was used for another request.")))]
async fn post_exchange(
    AppState(app): AppState<App>,
    caller: Caller,
    headers: HeaderMap,
    Keyed { body, .. }: Keyed<NewExchange>,
) -> Result<Created<Receipt>> {
    let operation = body.operation("")?;
    submit(&app, &caller, &headers, operation, body.details).await
}

/// An amount to be set aside.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewHold {
    /// The account that a capture debits.
    pub debit_account_id: AccountId,
    /// The account that a capture credits.
    pub credit_account_id: AccountId,
    /// Above zero, in minor units.
    #[schema(value_type = i64, minimum = 1, maximum = 1_000_000_000_000_000_i64)]
    pub amount_minor: Amount,
    /// Both accounts', if it is to be checked.
    #[serde(default)]
    #[schema(value_type = Option<Currency>)]
    pub currency: Option<String>,
    /// From then on it no longer counts; within ten years.
    pub expires_at: Timestamp,
    /// What it carries besides.
    #[serde(default)]
    pub details: WireDetails,
}

/// Sets an amount aside until it is captured, voided, or expires.
#[utoipa::path(post, path = "/api/v1/ledger/holds", tag = "ledger", request_body = NewHold, responses((status = 201, body = Receipt),
    (status = 409, description = "A guard refuses it, or the idempotency key was used for another request.")))]
async fn place_hold(
    AppState(app): AppState<App>,
    caller: Caller,
    headers: HeaderMap,
    Keyed { body, .. }: Keyed<NewHold>,
) -> Result<Created<Receipt>> {
    let operation = body.operation("")?;
    submit(&app, &caller, &headers, operation, body.details).await
}

/// How much is captured.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewCapture {
    /// In minor units; everything that is left when it is left out.
    #[serde(default)]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 1_000_000_000_000_000_i64)]
    amount_minor: Option<Amount>,
    /// Lets go of what is left after it.
    #[serde(default)]
    release_rest: bool,
    /// What it carries besides.
    #[serde(default)]
    details: WireDetails,
}

/// Moves what is held, or a part of it.
#[utoipa::path(post, path = "/api/v1/ledger/holds/{hold_id}/capture", tag = "ledger", params(("hold_id" = TransactionId, Path)),
    request_body = Option<NewCapture>, responses((status = 201, body = Receipt),
    (status = 409, description = "A guard refuses it, or the idempotency key was used for another request.")))]
async fn capture_hold(
    AppState(app): AppState<App>,
    caller: Caller,
    headers: HeaderMap,
    Params(hold_id): Params<TransactionId>,
    Keyed { body, .. }: Keyed<Option<NewCapture>>,
) -> Result<Created<Receipt>> {
    let NewCapture { amount_minor, release_rest, details } = body.unwrap_or_default();
    let amount_minor = amount_minor.map(|amount| amount.minor("amount_minor")).transpose()?;
    submit(&app, &caller, &headers, Operation::Capture { hold_id, amount_minor, release_rest }, details).await
}

/// What a void carries.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewVoid {
    /// What it carries besides.
    #[serde(default)]
    details: WireDetails,
}

/// Lets go of what is left of a hold.
#[utoipa::path(post, path = "/api/v1/ledger/holds/{hold_id}/void", tag = "ledger", params(("hold_id" = TransactionId, Path)),
    request_body = Option<NewVoid>, responses((status = 201, body = Receipt),
    (status = 409, description = "A guard refuses it, or the idempotency key was used for another request.")))]
async fn void_hold(
    AppState(app): AppState<App>,
    caller: Caller,
    headers: HeaderMap,
    Params(hold_id): Params<TransactionId>,
    Keyed { body, .. }: Keyed<Option<NewVoid>>,
) -> Result<Created<Receipt>> {
    let details = body.unwrap_or_default().details;
    submit(&app, &caller, &headers, Operation::Void { hold_id }, details).await
}

/// How much is taken back.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewReversal {
    /// In minor units; everything that is left when it is left out. A transaction of several postings is taken back whole.
    #[serde(default)]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 1_000_000_000_000_000_i64)]
    amount_minor: Option<Amount>,
    /// What it carries besides.
    #[serde(default)]
    details: WireDetails,
}

/// Takes back a transaction, or a part of it, by a new one.
#[utoipa::path(post, path = "/api/v1/ledger/transactions/{transaction_id}/reverse", tag = "ledger", params(("transaction_id" = TransactionId, Path)),
    request_body = Option<NewReversal>, responses((status = 201, body = Receipt),
    (status = 409, description = "A guard refuses it, or the idempotency key was used for another request.")))]
async fn reverse_transaction(
    AppState(app): AppState<App>,
    caller: Caller,
    headers: HeaderMap,
    Params(transaction_id): Params<TransactionId>,
    Keyed { body, .. }: Keyed<Option<NewReversal>>,
) -> Result<Created<Receipt>> {
    let NewReversal { amount_minor, details } = body.unwrap_or_default();
    let amount_minor = amount_minor.map(|amount| amount.minor("amount_minor")).transpose()?;
    submit(&app, &caller, &headers, Operation::Reverse { transaction_id, amount_minor }, details).await
}

impl NewTransfer {
    pub(crate) fn operation(&self, at: &str) -> kernel::Result<Operation> {
        Ok(Operation::Transfer {
            debit: self.debit_account_id,
            credit: self.credit_account_id,
            amount_minor: self.amount_minor.minor(&format!("{at}amount_minor"))?,
            currency: currency_of(self.currency.as_deref(), at)?,
        })
    }
}

impl NewTransaction {
    pub(crate) fn operation(&self, at: &str) -> kernel::Result<Operation> {
        if self.postings.len() > MAX_POSTINGS {
            return Err(error::too_many_postings(at));
        }
        let posting = |(index, posting): (usize, &WirePosting)| posting.read(&format!("{at}postings[{index}]."));
        Ok(Operation::Journal { postings: self.postings.iter().enumerate().map(posting).collect::<kernel::Result<_>>()? })
    }
}

impl NewExchange {
    pub(crate) fn operation(&self, at: &str) -> kernel::Result<Operation> {
        Ok(Operation::Exchange {
            from: self.from_account_id,
            to: self.to_account_id,
            sell_minor: self.sell_minor.minor(&format!("{at}sell_minor"))?,
            buy_minor: self.buy_minor.minor(&format!("{at}buy_minor"))?,
            rate_nanos: rate_of(&self.rate, at)?,
        })
    }
}

impl NewHold {
    pub(crate) fn operation(&self, at: &str) -> kernel::Result<Operation> {
        Ok(Operation::Hold {
            debit: self.debit_account_id,
            credit: self.credit_account_id,
            amount_minor: self.amount_minor.minor(&format!("{at}amount_minor"))?,
            currency: currency_of(self.currency.as_deref(), at)?,
            expires_at: self.expires_at,
        })
    }
}

fn currency_of(code: Option<&str>, at: &str) -> kernel::Result<Option<Currency>> {
    code.map(|code| code.parse().map_err(|_| error::unknown_currency(&format!("{at}currency")))).transpose()
}

// What was posted.

/// Which transactions to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct TransactionFilter {
    /// Only the one with this external reference.
    #[param(max_length = 128)]
    external_ref: Option<String>,
}

/// Lists transactions, the latest first.
#[utoipa::path(get, path = "/api/v1/ledger/transactions", tag = "ledger", params(PagingParams, TransactionFilter),
    responses((status = 200, body = Page<Transaction>)))]
async fn list_transactions(
    AppState(app): AppState<App>,
    caller: Caller,
    Query(filter): Query<TransactionFilter>,
    paging: Paging<i64>,
) -> Result<Json<Page<Transaction>>> {
    const LIST: &str = "ledger.transactions";
    let page = paging.request(LIST)?;
    let (before, limit) = (page.after.unwrap_or(i64::MAX), i64::from(page.limit) + 1);
    let rows =
        app.store().read(caller.tenant()?, move |read| queries::transactions(read, filter.external_ref.as_deref(), before, limit)).await?;
    Ok(Json(paging.page(LIST, rows, |transaction| transaction.transaction_id.as_i64())?))
}

/// Reads a transaction.
#[utoipa::path(get, path = "/api/v1/ledger/transactions/{transaction_id}", tag = "ledger", params(("transaction_id" = TransactionId, Path)),
    responses((status = 200, body = Transaction)))]
async fn get_transaction(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(transaction_id): Params<TransactionId>,
) -> Result<Json<Transaction>> {
    Ok(Json(app.store().peek(caller.tenant()?, move |read| queries::transaction(read, transaction_id)).await?))
}

/// Reads a hold.
#[utoipa::path(get, path = "/api/v1/ledger/holds/{hold_id}", tag = "ledger", params(("hold_id" = TransactionId, Path)), responses((status = 200, body = Hold)))]
async fn get_hold(AppState(app): AppState<App>, caller: Caller, Params(hold_id): Params<TransactionId>) -> Result<Json<Hold>> {
    Ok(Json(app.store().peek(caller.tenant()?, move |read| queries::hold(read, hold_id)).await?))
}

/// The trial balance: a line for each currency and type of account.
#[utoipa::path(get, path = "/api/v1/ledger/trial-balance", tag = "ledger", responses((status = 200, body = TrialBalance)))]
async fn get_trial_balance(AppState(app): AppState<App>, caller: Caller) -> Result<Json<TrialBalance>> {
    Ok(Json(app.store().read(caller.tenant()?, queries::trial_balance).await?))
}
