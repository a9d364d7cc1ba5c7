//! The HTTP routes about merchants and their settlement.

use super::batch::Terms;
use super::commands::{self, BatchDetail, SetTerms};
use super::queries::{self, Batch, BatchId, MerchantId, MerchantView};
use super::sql;
use crate::card;
use crate::routes::Clean;
use axum::Json;
use axum::extract::State as AppState;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::IntoResponse;
use kernel::{Currency, Error, Page};
use serde::Deserialize;
use utoipa::ToSchema;
use web::{Access, App, Body, Caller, Created, IfMatch, Keyed, Paging, PagingParams, Params, Result, Route, Versioned, handlers};

const BODY: usize = 16 * 1024;

pub(crate) fn routes() -> Vec<Route> {
    let (read, settle, configure) =
        (Access::Tenant("payments.read"), Access::Tenant("payments.settle"), Access::Tenant("payments.configure"));
    vec![
        Route::new(read, handlers!(list_merchants)),
        Route::new(read, handlers!(get_merchant)),
        Route::new(configure, handlers!(set_terms)).body_limit(BODY),
        Route::new(settle, handlers!(make_batch)).body_limit(BODY).keyed().timeout_ms(120_000),
        Route::new(read, handlers!(list_batches)),
        Route::new(read, handlers!(get_batch)),
        Route::new(settle, handlers!(payout_file)),
    ]
}

const MERCHANTS: &str = "payments.merchants";

/// Lists merchants with their terms, the latest first.
#[utoipa::path(get, path = "/api/v1/payments/merchants", tag = "payments", params(PagingParams), responses((status = 200, body = Page<MerchantView>)))]
async fn list_merchants(AppState(app): AppState<App>, caller: Caller, paging: Paging<MerchantId>) -> Result<Json<Page<MerchantView>>> {
    let page = paging.request(MERCHANTS)?;
    let (before, limit) = (page.after.unwrap_or(MerchantId::from_i64(i64::MAX)), i64::from(page.limit) + 1);
    let found = app.store().read(caller.tenant()?, move |read| read.all::<MerchantView>(sql::MERCHANTS_PAGE, (before, limit))).await?;
    Ok(Json(paging.page(MERCHANTS, found, |merchant| merchant.merchant_id)?))
}

fn check_name(merchant: &str) -> kernel::Result<()> {
    if card::has_card_number(merchant.as_bytes()) {
        return Err(card::refused("merchant"));
    }
    if commands::is_settled(merchant) {
        return Ok(());
    }
    Err(Error::field("merchant", "invalid", "a merchant that is settled has a name of 1 to 64 letters, digits, '.', '_' and '-'"))
}

/// Shows a merchant by the name that payments give it.
#[utoipa::path(get, path = "/api/v1/payments/merchants/{merchant}", tag = "payments", params(("merchant" = String, Path, max_length = 64)), responses(
    (status = 200, body = MerchantView)))]
async fn get_merchant(AppState(app): AppState<App>, caller: Caller, Params(merchant): Params<String>) -> Result<Versioned<MerchantView>> {
    check_name(&merchant)?;
    let found = app.store().read(caller.tenant()?, move |read| queries::merchant(read, &merchant)).await?;
    Ok(Versioned(found.version, found))
}

/// Declares the terms under which a merchant is settled. Payments name it by `merchant`.
#[utoipa::path(put, path = "/api/v1/payments/merchants/{merchant}", tag = "payments", params(("merchant" = String, Path, max_length = 64)),
    request_body = Terms, responses((status = 200, body = MerchantView), (status = 412, description = "They were changed meanwhile.")))]
async fn set_terms(
    AppState(app): AppState<App>,
    caller: Caller,
    Params(merchant): Params<String>,
    if_match: IfMatch,
    Body(terms): Body<Terms>,
) -> Result<Versioned<MerchantView>> {
    check_name(&merchant)?;
    terms.check()?;
    let set = app.submit(&caller, None, commands::set_terms, SetTerms { merchant, if_match, terms }).await?.value;
    Ok(Versioned(set.version, set))
}

/// What is settled.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MakeSettlementBatch {
    /// Merchants are settled in one currency at a time.
    currency: Currency,
}

/// Settles what waits for merchants: fees, reserve and payouts are booked at once. At most 10,000 captures and refunds of 200 merchants;
/// `more` says that another batch has something to do.
#[utoipa::path(post, path = "/api/v1/payments/settlement-batches", tag = "payments", request_body = MakeSettlementBatch, responses(
    (status = 201, body = BatchDetail), (status = 409, description = "Nothing waits, or the idempotency key was used for another request.")))]
async fn make_batch(
    AppState(app): AppState<App>,
    caller: Caller,
    Clean(Keyed { key, body }): Clean<Keyed<MakeSettlementBatch>>,
) -> Result<impl IntoResponse> {
    let made = app.submit(&caller, key, commands::settle, body.currency).await?.value;
    Ok(Created(format!("/api/v1/payments/settlement-batches/{}", made.batch.batch_id), made))
}

const BATCHES: &str = "payments.batches";

/// Lists settlement batches, the latest first.
#[utoipa::path(get, path = "/api/v1/payments/settlement-batches", tag = "payments", params(PagingParams), responses((status = 200, body = Page<Batch>)))]
async fn list_batches(AppState(app): AppState<App>, caller: Caller, paging: Paging<BatchId>) -> Result<Json<Page<Batch>>> {
    let page = paging.request(BATCHES)?;
    let (before, limit) = (page.after.unwrap_or(BatchId::from_i64(i64::MAX)), i64::from(page.limit) + 1);
    let found = app.store().read(caller.tenant()?, move |read| read.all::<Batch>(sql::BATCHES_PAGE, (before, limit))).await?;
    Ok(Json(paging.page(BATCHES, found, |batch| batch.batch_id)?))
}

/// Shows a settlement batch with what it has of each merchant.
#[utoipa::path(get, path = "/api/v1/payments/settlement-batches/{batch_id}", tag = "payments", params(("batch_id" = BatchId, Path)), responses(
    (status = 200, body = BatchDetail)))]
async fn get_batch(AppState(app): AppState<App>, caller: Caller, Params(batch_id): Params<BatchId>) -> Result<Json<BatchDetail>> {
    let (batch, lines) = app.store().read(caller.tenant()?, move |read| queries::batch(read, batch_id)).await?;
    Ok(Json(BatchDetail { batch, lines }))
}

/// The payouts of a settlement batch as a file for the bank: CSV, a row for each merchant that is paid.
#[utoipa::path(get, path = "/api/v1/payments/settlement-batches/{batch_id}/payouts", tag = "payments", params(("batch_id" = BatchId, Path)), responses(
    (status = 200, body = String, content_type = "text/csv")))]
async fn payout_file(AppState(app): AppState<App>, caller: Caller, Params(batch_id): Params<BatchId>) -> Result<impl IntoResponse> {
    let (batch, lines) = app.store().read(caller.tenant()?, move |read| queries::batch(read, batch_id)).await?;
    let failed = |error: csv::Error| Error::internal("a payout file can't be written").caused_by(error);
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["reference", "merchant", "name", "account", "currency", "amount_minor", "amount"]).map_err(failed)?;
    for line in lines.iter().filter(|line| line.payout_minor > 0) {
        let amount = kernel::Money::new(line.payout_minor, batch.currency).to_string();
        let amount = amount.split(' ').find(|part| part.starts_with(|c: char| c.is_ascii_digit())).unwrap_or_default();
        writer
            .write_record([
                &format!("{}-{}", batch.batch_id, line.merchant_id),
                &line.merchant,
                &line.name,
                &line.account,
                batch.currency.code(),
                &line.payout_minor.to_string(),
                amount,
            ])
            .map_err(failed)?;
    }
    let bytes = writer.into_inner().map_err(|error| Error::internal("a payout file can't be written").caused_by(error.into_error()))?;
    let name = format!("attachment; filename=\"payouts-{}.csv\"", batch.batch_id);
    Ok(([(CONTENT_TYPE, "text/csv".to_owned()), (CONTENT_DISPOSITION, name)], bytes))
}
