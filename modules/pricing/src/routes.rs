//! The HTTP API.

use crate::commands::{
    self, ChangeEntries, ChangeList, ChangePromotion, ChangeRates, ChangeSettings, EntriesChanged, RatesImported, RemoveRates,
};
use crate::compiled::Pricing;
use crate::coupons::{self, ChangeCoupon, Generate, Presented, RedeemOutside};
use crate::engine::{self, Basket, BasketLine, Charge, ChargeKind, Priced};
use crate::model::{
    Coupon, CouponSpec, EntryChanges, MAX_BATCH, PriceEntry, PriceList, PriceListId, PriceListSpec, Promotion, PromotionId, PromotionSpec,
    Status, normal_code,
};
use crate::queries::{self, Redemption, VersionedSettings};
use crate::tax::{CountryRates, RatesFile, TaxPeriod, TaxSettings};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use kernel::{Currency, Error, Faults, Page, Rng, Timestamp, UnitPrice};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use utoipa::{IntoParams, ToSchema};
use web::{
    Access, App, Body, Caller, Created, ETag, IfMatch, Keyed, Paging, PagingParams, Params, Query, Result, Route, Versioned, handlers,
};

const READ: Access = Access::Tenant("pricing.read");
const WRITE: Access = Access::Tenant("pricing.write");
/// A basket of the most lines with their labels.
const QUOTE_BYTES: usize = 4 * 1024 * 1024;

/// Every route.
pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::new(READ, handlers!(list_price_lists)),
        Route::new(WRITE, handlers!(create_price_list)).keyed(),
        Route::new(READ, handlers!(get_price_list)),
        Route::new(WRITE, handlers!(change_price_list)),
        Route::new(READ, handlers!(list_price_entries)),
        Route::new(WRITE, handlers!(change_price_entries)),
        Route::new(READ, handlers!(list_promotions)),
        Route::new(WRITE, handlers!(create_promotion)).keyed(),
        Route::new(READ, handlers!(get_promotion)),
        Route::new(WRITE, handlers!(change_promotion)),
        Route::new(READ, handlers!(list_coupons)),
        Route::new(WRITE, handlers!(create_coupon)).keyed(),
        Route::new(WRITE, handlers!(generate_coupons)).keyed(),
        Route::new(READ, handlers!(get_coupon)),
        Route::new(WRITE, handlers!(change_coupon)),
        Route::new(READ, handlers!(list_redemptions)),
        Route::new(WRITE, handlers!(redeem_coupon)).keyed(),
        Route::new(READ, handlers!(get_tax_settings)),
        Route::new(WRITE, handlers!(change_tax_settings)),
        Route::new(READ, handlers!(list_tax_rates)),
        Route::new(READ, handlers!(get_tax_rates)),
        Route::new(WRITE, handlers!(change_tax_rates)),
        Route::new(WRITE, handlers!(remove_tax_rates)),
        Route::new(WRITE, handlers!(import_tax_rates)),
        Route::new(READ, handlers!(create_quote)).body_limit(QUOTE_BYTES),
    ]
}

/// Price lists, the newest first, archived ones included.
#[utoipa::path(get, path = "/api/v1/pricing/price-lists", tag = "pricing", params(PagingParams), responses((status = 200, body = Page<PriceList>)))]
async fn list_price_lists(State(app): State<App>, caller: Caller, paging: Paging<PriceListId>) -> Result<Json<Page<PriceList>>> {
    let list = "pricing.price_lists";
    let request = paging.request(list)?;
    let rows = app.read(&caller, move |read| queries::lists(read, &request)).await?;
    Ok(Json(paging.page(list, rows, |row| row.price_list_id)?))
}

/// Makes a price list, without prices.
#[utoipa::path(post, path = "/api/v1/pricing/price-lists", tag = "pricing", request_body = PriceListSpec,
    responses((status = 201, body = PriceList), (status = 409, description = "`pricing.too_many`")))]
async fn create_price_list(State(app): State<App>, caller: Caller, new: Keyed<PriceListSpec>) -> Result<impl IntoResponse> {
    let list = app.submit(&caller, new.key, commands::create_price_list, new.body).await?.value;
    Ok((ETag(list.version), Created(format!("/api/v1/pricing/price-lists/{}", list.price_list_id), list)))
}

/// A price list without its prices.
#[utoipa::path(get, path = "/api/v1/pricing/price-lists/{price_list_id}", tag = "pricing", params(("price_list_id" = PriceListId, Path)),
    responses((status = 200, body = PriceList)))]
async fn get_price_list(State(app): State<App>, caller: Caller, Params(id): Params<PriceListId>) -> Result<Versioned<PriceList>> {
    let list = app.peek(&caller, move |read| queries::list(read, id)).await?;
    Ok(Versioned(list.version, list))
}

/// Sets a price list to what is sent. Its currency stays.
#[utoipa::path(put, path = "/api/v1/pricing/price-lists/{price_list_id}", tag = "pricing", request_body = PriceListSpec,
    params(("price_list_id" = PriceListId, Path), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = PriceList), (status = 409, description = "`pricing.too_many`"),
        (status = 412, description = "Changed since the version in `If-Match`")))]
async fn change_price_list(
    State(app): State<App>,
    caller: Caller,
    Params(id): Params<PriceListId>,
    if_match: IfMatch,
    Body(spec): Body<PriceListSpec>,
) -> Result<Versioned<PriceList>> {
    let list = app.submit(&caller, None, commands::change_list, ChangeList { id, if_match, spec }).await?.value;
    Ok(Versioned(list.version, list))
}

/// The prices of a list, by SKU and quantity.
#[utoipa::path(get, path = "/api/v1/pricing/price-lists/{price_list_id}/entries", tag = "pricing",
    params(("price_list_id" = PriceListId, Path), PagingParams), responses((status = 200, body = Page<PriceEntry>)))]
async fn list_price_entries(
    State(app): State<App>,
    caller: Caller,
    Params(id): Params<PriceListId>,
    paging: Paging<(String, i64)>,
) -> Result<Json<Page<PriceEntry>>> {
    let list = "pricing.price_entries";
    let request = paging.request(list)?;
    let rows = app.read(&caller, move |read| queries::entries(read, id, &request)).await?;
    Ok(Json(paging.page(list, rows, |entry| (entry.sku.clone(), entry.min_quantity))?))
}

/// Sets and removes prices of a list, up to 1,000 at once. The same again changes nothing, so it needs no idempotency key.
#[utoipa::path(post, path = "/api/v1/pricing/price-lists/{price_list_id}/entries", tag = "pricing", request_body = EntryChanges,
    params(("price_list_id" = PriceListId, Path)), responses((status = 200, body = EntriesChanged)))]
async fn change_price_entries(
    State(app): State<App>,
    caller: Caller,
    Params(id): Params<PriceListId>,
    Body(changes): Body<EntryChanges>,
) -> Result<Json<EntriesChanged>> {
    Ok(Json(app.submit(&caller, None, commands::change_entries, ChangeEntries { id, changes }).await?.value))
}

/// Promotions, the newest first, archived ones included.
#[utoipa::path(get, path = "/api/v1/pricing/promotions", tag = "pricing", params(PagingParams), responses((status = 200, body = Page<Promotion>)))]
async fn list_promotions(State(app): State<App>, caller: Caller, paging: Paging<PromotionId>) -> Result<Json<Page<Promotion>>> {
    let list = "pricing.promotions";
    let request = paging.request(list)?;
    let rows = app.read(&caller, move |read| queries::promotions(read, &request)).await?;
    Ok(Json(paging.page(list, rows, |row| row.promotion_id)?))
}

/// Makes a promotion.
#[utoipa::path(post, path = "/api/v1/pricing/promotions", tag = "pricing", request_body = PromotionSpec,
    responses((status = 201, body = Promotion), (status = 409, description = "`pricing.too_many`")))]
async fn create_promotion(State(app): State<App>, caller: Caller, new: Keyed<PromotionSpec>) -> Result<impl IntoResponse> {
    let promotion = app.submit(&caller, new.key, commands::create_promotion, new.body).await?.value;
    Ok((ETag(promotion.version), Created(format!("/api/v1/pricing/promotions/{}", promotion.promotion_id), promotion)))
}

/// A promotion.
#[utoipa::path(get, path = "/api/v1/pricing/promotions/{promotion_id}", tag = "pricing", params(("promotion_id" = PromotionId, Path)),
    responses((status = 200, body = Promotion)))]
async fn get_promotion(State(app): State<App>, caller: Caller, Params(id): Params<PromotionId>) -> Result<Versioned<Promotion>> {
    let promotion = app.peek(&caller, move |read| queries::promotion(read, id)).await?;
    Ok(Versioned(promotion.version, promotion))
}

/// Sets a promotion to what is sent.
#[utoipa::path(put, path = "/api/v1/pricing/promotions/{promotion_id}", tag = "pricing", request_body = PromotionSpec,
    params(("promotion_id" = PromotionId, Path), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = Promotion), (status = 409, description = "`pricing.too_many`"),
        (status = 412, description = "Changed since the version in `If-Match`")))]
async fn change_promotion(
    State(app): State<App>,
    caller: Caller,
    Params(id): Params<PromotionId>,
    if_match: IfMatch,
    Body(spec): Body<PromotionSpec>,
) -> Result<Versioned<Promotion>> {
    let promotion = app.submit(&caller, None, commands::change_promotion, ChangePromotion { id, if_match, spec }).await?.value;
    Ok(Versioned(promotion.version, promotion))
}

/// Filters of the list of coupons.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct CouponQuery {
    /// Only coupons of this promotion.
    promotion_id: Option<PromotionId>,
}

/// Coupons, by code.
#[utoipa::path(get, path = "/api/v1/pricing/coupons", tag = "pricing", params(CouponQuery, PagingParams), responses((status = 200, body = Page<Coupon>)))]
async fn list_coupons(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<CouponQuery>,
    paging: Paging<String>,
) -> Result<Json<Page<Coupon>>> {
    let list = "pricing.coupons";
    let request = paging.request(list)?;
    let rows = app.read(&caller, move |read| queries::coupons(read, query.promotion_id, &request)).await?;
    Ok(Json(paging.page(list, rows, |row| row.code.clone())?))
}

/// A coupon to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateCoupon {
    /// What customers type; small letters become capital ones.
    #[schema(min_length = 3, max_length = 40)]
    code: String,
    /// The promotion that it opens; one that takes a coupon.
    promotion_id: PromotionId,
    /// Whether it may be used.
    #[serde(default)]
    status: Status,
    /// How often in all; left out: without limit.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    max_uses: Option<i64>,
    /// How often by each customer; left out: without limit.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    max_uses_per_customer: Option<i64>,
    /// From then on.
    starts_at: Option<Timestamp>,
    /// Until then, that moment not included.
    ends_at: Option<Timestamp>,
}

/// Makes a coupon.
#[utoipa::path(post, path = "/api/v1/pricing/coupons", tag = "pricing", request_body = CreateCoupon,
    responses((status = 201, body = Coupon), (status = 409, description = "`pricing.coupon_taken`")))]
async fn create_coupon(State(app): State<App>, caller: Caller, Keyed { key, body }: Keyed<CreateCoupon>) -> Result<impl IntoResponse> {
    let CreateCoupon { code, promotion_id, status, max_uses, max_uses_per_customer, starts_at, ends_at } = body;
    let code = normal_code(&code).map_err(|detail| Error::field("code", "wrong", detail))?;
    let spec = CouponSpec { status, max_uses, max_uses_per_customer, starts_at, ends_at };
    let coupon = app.submit(&caller, key, coupons::create_coupon, coupons::NewCoupon { code, promotion_id, spec }).await?.value;
    Ok((ETag(coupon.version), Created(format!("/api/v1/pricing/coupons/{}", coupon.code), coupon)))
}

/// Coupons to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewCoupons {
    /// The promotion that they open; one that takes a coupon.
    promotion_id: PromotionId,
    /// How many.
    #[schema(minimum = 1, maximum = 1000)]
    count: u32,
    /// What they begin with.
    #[serde(default)]
    #[schema(max_length = 20)]
    prefix: String,
    /// How often each in all; left out: once.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    max_uses: Option<i64>,
    /// How often each by each customer; left out: without limit.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    max_uses_per_customer: Option<i64>,
    /// From then on.
    starts_at: Option<Timestamp>,
    /// Until then, that moment not included.
    ends_at: Option<Timestamp>,
}

/// Codes that were made.
#[derive(Debug, Serialize, ToSchema)]
struct GeneratedCoupons {
    /// The promotion that they open.
    promotion_id: PromotionId,
    /// The codes.
    codes: Vec<String>,
}

/// Letters and digits of random codes, without those that are mistaken for others: 31, so 12 of them are 59 bits.
const ALPHABET: &[u8; 31] = b"23456789ABCDEFGHJKMNPQRSTUVWXYZ";
const RANDOM_DIGITS: usize = 12;

fn random_code(prefix: &str, rng: &dyn Rng) -> String {
    let digits = (0..RANDOM_DIGITS).map(|_| char::from(ALPHABET[rng.below(ALPHABET.len() as u64) as usize]));
    prefix.chars().chain(digits).collect()
}

/// Makes up to 1,000 coupons with random codes that nobody guesses.
#[utoipa::path(post, path = "/api/v1/pricing/coupons/generate", tag = "pricing", request_body = NewCoupons,
    responses((status = 201, body = GeneratedCoupons), (status = 409, description = "`pricing.coupon_taken`: try again")))]
async fn generate_coupons(State(app): State<App>, caller: Caller, Keyed { key, body }: Keyed<NewCoupons>) -> Result<impl IntoResponse> {
    let NewCoupons { promotion_id, count, prefix, max_uses, max_uses_per_customer, starts_at, ends_at } = body;
    let mut faults = Faults::default();
    faults.number("count", count, 1, MAX_BATCH);
    let prefix = prefix.trim().to_ascii_uppercase();
    if prefix.len() > 20 || normal_code(&format!("{prefix}AAA")).is_err() {
        faults.add("prefix", "wrong", "at most 20 letters, digits, hyphens and underscores");
    }
    faults.finish()?;
    let rng = app.rng().clone();
    let mut codes = BTreeSet::new();
    while codes.len() < count as usize {
        codes.insert(random_code(&prefix, &*rng));
    }
    let spec = CouponSpec { status: Status::Active, max_uses: max_uses.or(Some(1)), max_uses_per_customer, starts_at, ends_at };
    let batch = Generate { codes: codes.into_iter().collect(), prefix, promotion_id, spec };
    let codes = app.submit(&caller, key, coupons::generate, batch).await?.value;
    Ok((StatusCode::CREATED, Json(GeneratedCoupons { promotion_id, codes })))
}

/// A coupon's code out of a path. Errors: `request.invalid`.
fn path_code(text: &str) -> kernel::Result<String> {
    normal_code(text).map_err(|detail| Error::field("coupon_code", "wrong", detail))
}

/// A coupon, with how often it is used.
#[utoipa::path(get, path = "/api/v1/pricing/coupons/{coupon_code}", tag = "pricing", params(("coupon_code" = String, Path)),
    responses((status = 200, body = Coupon)))]
async fn get_coupon(State(app): State<App>, caller: Caller, Params(code): Params<String>) -> Result<Versioned<Coupon>> {
    let code = path_code(&code)?;
    let coupon = app.peek(&caller, move |read| queries::coupon(read, &code)).await?;
    Ok(Versioned(coupon.version, coupon))
}

/// Sets how a coupon may be used. A limit below what is used already ends it.
#[utoipa::path(put, path = "/api/v1/pricing/coupons/{coupon_code}", tag = "pricing", request_body = CouponSpec,
    params(("coupon_code" = String, Path), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = Coupon), (status = 409, description = "`pricing.coupon_in_use`"),
        (status = 412, description = "Changed since the version in `If-Match`")))]
async fn change_coupon(
    State(app): State<App>,
    caller: Caller,
    Params(code): Params<String>,
    if_match: IfMatch,
    Body(spec): Body<CouponSpec>,
) -> Result<Versioned<Coupon>> {
    let code = path_code(&code)?;
    let coupon = app.submit(&caller, None, coupons::change, ChangeCoupon { code, if_match, spec }).await?.value;
    Ok(Versioned(coupon.version, coupon))
}

/// Who uses a coupon, by reference.
#[utoipa::path(get, path = "/api/v1/pricing/coupons/{coupon_code}/redemptions", tag = "pricing",
    params(("coupon_code" = String, Path), PagingParams), responses((status = 200, body = Page<Redemption>)))]
async fn list_redemptions(
    State(app): State<App>,
    caller: Caller,
    Params(code): Params<String>,
    paging: Paging<String>,
) -> Result<Json<Page<Redemption>>> {
    let list = "pricing.redemptions";
    let (code, request) = (path_code(&code)?, paging.request(list)?);
    let rows = app.read(&caller, move |read| queries::redemptions(read, &code, &request)).await?;
    Ok(Json(paging.page(list, rows, |row| row.reference.clone())?))
}

/// A use of a coupon outside of our checkout, at a till for one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewCouponRedemption)]
struct NewRedemption {
    /// Of the sale: the same one again uses the coupon no more.
    #[schema(min_length = 1, max_length = 128)]
    reference: String,
    /// The customer, in the caller's own words.
    #[schema(min_length = 1, max_length = 128)]
    customer: Option<String>,
}

/// Uses a coupon for a sale that was made elsewhere. The checkout does so by itself.
#[utoipa::path(post, path = "/api/v1/pricing/coupons/{coupon_code}/redemptions", tag = "pricing", request_body = NewRedemption,
    params(("coupon_code" = String, Path)),
    responses((status = 201, body = Coupon), (status = 409, description = "`pricing.coupon_used_up`, `pricing.coupon_used_by_customer`, \
        `pricing.coupon_customer_required`, `pricing.coupon_not_active`, `pricing.coupon_not_started`, `pricing.coupon_ended`")))]
async fn redeem_coupon(
    State(app): State<App>,
    caller: Caller,
    Params(code): Params<String>,
    Keyed { key, body }: Keyed<NewRedemption>,
) -> Result<impl IntoResponse> {
    let code = path_code(&code)?;
    let mut faults = Faults::default();
    for (field, text) in [("reference", Some(&body.reference)), ("customer", body.customer.as_ref())] {
        if let Some(text) = text {
            faults.text(field, text, 1, 128);
        }
    }
    faults.finish()?;
    let redeem = RedeemOutside { code, customer: body.customer, reference: body.reference };
    let location = format!("/api/v1/pricing/coupons/{}/redemptions", redeem.code);
    let coupon = app.submit(&caller, key, coupons::redeem_outside, redeem).await?.value;
    Ok(Created(location, coupon))
}

/// How the tenant charges tax.
#[utoipa::path(get, path = "/api/v1/pricing/tax/settings", tag = "pricing", responses((status = 200, body = VersionedSettings)))]
async fn get_tax_settings(State(app): State<App>, caller: Caller) -> Result<Versioned<VersionedSettings>> {
    let settings = app.peek(&caller, queries::settings).await?;
    Ok(Versioned(settings.version, settings))
}

/// Sets how the tenant charges tax.
#[utoipa::path(put, path = "/api/v1/pricing/tax/settings", tag = "pricing", request_body = TaxSettings, params(("If-Match" = Option<String>, Header)),
    responses((status = 200, body = VersionedSettings), (status = 412, description = "Changed since the version in `If-Match`")))]
async fn change_tax_settings(
    State(app): State<App>,
    caller: Caller,
    if_match: IfMatch,
    Body(settings): Body<TaxSettings>,
) -> Result<Versioned<VersionedSettings>> {
    let settings = app.submit(&caller, None, commands::change_settings, ChangeSettings { if_match, settings }).await?.value;
    Ok(Versioned(settings.version, settings))
}

/// Tax rates, by country.
#[utoipa::path(get, path = "/api/v1/pricing/tax/rates", tag = "pricing", params(PagingParams), responses((status = 200, body = Page<CountryRates>)))]
async fn list_tax_rates(State(app): State<App>, caller: Caller, paging: Paging<String>) -> Result<Json<Page<CountryRates>>> {
    let list = "pricing.tax_rates";
    let request = paging.request(list)?;
    let rows = app.read(&caller, move |read| queries::countries(read, &request)).await?;
    Ok(Json(paging.page(list, rows, |row| row.country.clone())?))
}

/// A country out of a path. Errors: `request.invalid`.
fn path_country(text: String) -> kernel::Result<String> {
    let mut faults = Faults::default();
    faults.country("country", &text);
    faults.finish().map(|()| text)
}

/// A country's tax rates.
#[utoipa::path(get, path = "/api/v1/pricing/tax/rates/{country}", tag = "pricing", params(("country" = String, Path)),
    responses((status = 200, body = CountryRates)))]
async fn get_tax_rates(State(app): State<App>, caller: Caller, Params(country): Params<String>) -> Result<Versioned<CountryRates>> {
    let country = path_country(country)?;
    let rates = app.peek(&caller, move |read| queries::country(read, &country)).await?;
    Ok(Versioned(rates.version, rates))
}

/// A country's rates to set.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewTaxRates)]
struct NewRates {
    /// At least one, in any order.
    #[schema(min_items = 1, max_items = 50)]
    periods: Vec<TaxPeriod>,
}

/// Sets a country's tax rates, all periods of them.
#[utoipa::path(put, path = "/api/v1/pricing/tax/rates/{country}", tag = "pricing", request_body = NewRates,
    params(("country" = String, Path), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = CountryRates), (status = 412, description = "Changed since the version in `If-Match`")))]
async fn change_tax_rates(
    State(app): State<App>,
    caller: Caller,
    Params(country): Params<String>,
    if_match: IfMatch,
    Body(NewRates { periods }): Body<NewRates>,
) -> Result<Versioned<CountryRates>> {
    let country = path_country(country)?;
    let rates = app.submit(&caller, None, commands::change_rates, ChangeRates { country, if_match, periods }).await?.value;
    Ok(Versioned(rates.version, rates))
}

/// Removes a country's tax rates. Where tax is due there, nothing can be priced until there are new ones.
#[utoipa::path(delete, path = "/api/v1/pricing/tax/rates/{country}", tag = "pricing",
    params(("country" = String, Path), ("If-Match" = Option<String>, Header)),
    responses((status = 204, description = "Removed"), (status = 412, description = "Changed since the version in `If-Match`")))]
async fn remove_tax_rates(
    State(app): State<App>,
    caller: Caller,
    Params(country): Params<String>,
    if_match: IfMatch,
) -> Result<StatusCode> {
    let country = path_country(country)?;
    app.submit(&caller, None, commands::remove_rates, RemoveRates { country, if_match }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sets the rates of every country of a file in the shape of `ibericode/vat-rates`; other countries keep theirs. The same file again
/// changes nothing, so it needs no idempotency key.
#[utoipa::path(post, path = "/api/v1/pricing/tax/rates/import", tag = "pricing", request_body = RatesFile,
    responses((status = 200, body = RatesImported)))]
async fn import_tax_rates(State(app): State<App>, caller: Caller, Body(file): Body<RatesFile>) -> Result<Json<RatesImported>> {
    Ok(Json(app.submit(&caller, None, commands::import_tax_rates, file).await?.value))
}

/// Goods to be priced.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct QuoteLine {
    /// Stock-keeping unit, case-sensitive.
    #[schema(min_length = 1, max_length = 64)]
    sku: String,
    /// How many.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    quantity: i64,
    /// The catalog's list price, for what no price list has.
    list_price: Option<UnitPrice>,
    /// Left out: the settings' default class.
    #[schema(min_length = 1, max_length = 40)]
    tax_class: Option<String>,
    /// What promotions can aim at, such as `product:prd_...` or `collection:summer`.
    #[serde(default)]
    #[schema(max_items = 128)]
    labels: Vec<String>,
}

/// Shipping or a fee to be priced.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct QuoteCharge {
    /// What it is.
    kind: ChargeKind,
    /// What the customer reads.
    #[schema(min_length = 1, max_length = 64)]
    name: String,
    /// The amount, with tax in it where prices have.
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    amount_minor: i64,
    /// Left out: as the settings say.
    #[schema(min_length = 1, max_length = 40)]
    tax_class: Option<String>,
}

/// A basket to be priced.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewQuote {
    /// Of every amount.
    currency: Currency,
    /// At this moment; left out: now.
    at: Option<Timestamp>,
    /// Where it goes; left out: as long as that is not known.
    #[schema(min_length = 2, max_length = 2)]
    country: Option<String>,
    /// Where it goes.
    #[schema(max_length = 20)]
    postcode: Option<String>,
    /// The customer, in the caller's own words: coupons may be limited for each.
    #[schema(min_length = 1, max_length = 128)]
    customer: Option<String>,
    /// The groups that the customer is in.
    #[serde(default)]
    #[schema(max_items = 20)]
    customer_groups: Vec<String>,
    /// Of a business customer.
    #[schema(max_length = 20)]
    vat_id: Option<String>,
    /// The codes that the customer gives.
    #[serde(default)]
    #[schema(max_items = 10)]
    coupons: Vec<String>,
    /// Goods; they are numbered from 1 in this order, charges after them.
    #[schema(min_items = 1, max_items = 2000)]
    lines: Vec<QuoteLine>,
    /// Shipping and fees.
    #[serde(default)]
    #[schema(max_items = 20)]
    charges: Vec<QuoteCharge>,
}

impl NewQuote {
    /// Errors: `request.invalid` naming every field that is wrong.
    fn basket(self, now: Timestamp) -> kernel::Result<(Basket, Presented)> {
        let mut faults = Faults::default();
        if self.lines.is_empty() || self.lines.len() + self.charges.len() > engine::MAX_LINES {
            faults.add("lines", "wrong_count", format!("between 1 and {} lines, charges included", engine::MAX_LINES));
            faults.finish()?;
            return Err(Error::internal("a wrong count of lines was not refused"));
        }
        if let Some(country) = &self.country {
            faults.country("country", country);
        }
        let texts = [("postcode", &self.postcode, 20), ("customer", &self.customer, 128), ("vat_id", &self.vat_id, 20)];
        for (field, text, most) in texts {
            if let Some(text) = text {
                faults.text(field, text, 1, most);
            }
        }
        let lists = [("customer_groups", &self.customer_groups, 20, 64), ("coupons", &self.coupons, engine::MAX_COUPONS, 100)];
        for (field, texts, count, most) in lists {
            if texts.len() > count {
                faults.add(field, "too_many", format!("at most {count}"));
            }
            for (i, text) in texts.iter().take(count).enumerate() {
                faults.text(format!("{field}[{i}]"), text, 1, most);
            }
        }
        for (i, line) in self.lines.iter().enumerate() {
            // The names of fields are only made for what is wrong: a basket may have thousands of lines.
            let plain = |text: &str, most: usize| (1..=most).contains(&text.len()) && text.bytes().all(|b| (32..127).contains(&b));
            if !plain(&line.sku, 64) {
                faults.text(format!("lines[{i}].sku"), &line.sku, 1, 64);
            }
            if let Some(class) = &line.tax_class {
                faults.text(format!("lines[{i}].tax_class"), class, 1, 40);
            }
            for (n, label) in line.labels.iter().take(engine::MAX_LABELS).enumerate() {
                if !plain(label, 100) {
                    faults.text(format!("lines[{i}].labels[{n}]"), label, 1, 100);
                }
            }
        }
        for (i, charge) in self.charges.iter().enumerate() {
            faults.text(format!("charges[{i}].name"), &charge.name, 1, 64);
            if let Some(class) = &charge.tax_class {
                faults.text(format!("charges[{i}].tax_class"), class, 1, 40);
            }
        }
        faults.finish()?;
        let goods = self.lines.len() as u32;
        let line = |(number, line): (u32, QuoteLine)| BasketLine {
            line: number,
            sku: line.sku,
            quantity: line.quantity,
            list_price: line.list_price,
            tax_class: line.tax_class,
            labels: line.labels,
        };
        let charge = |(number, charge): (u32, QuoteCharge)| Charge {
            line: number,
            kind: charge.kind,
            name: charge.name,
            amount_minor: charge.amount_minor,
            tax_class: charge.tax_class,
        };
        let basket = Basket {
            currency: self.currency,
            at: self.at.unwrap_or(now),
            country: self.country,
            postcode: self.postcode,
            customer_groups: self.customer_groups,
            vat_id: self.vat_id,
            lines: (1..).zip(self.lines).map(line).collect(),
            charges: (goods + 1..).zip(self.charges).map(charge).collect(),
            coupons: Vec::new(),
            prices: Vec::new(),
        };
        Ok((basket, Presented { codes: self.coupons, customer: self.customer, reference: None }))
    }
}

/// Prices a basket and explains it: which promotion took what off which line, and which did not apply and why. Nothing is stored, and no
/// coupon is used.
#[utoipa::path(post, path = "/api/v1/pricing/quotes", tag = "pricing", request_body = NewQuote,
    responses((status = 200, body = Priced), (status = 409, description = "`pricing.no_price`, `pricing.no_tax_rate`")))]
async fn create_quote(State(app): State<App>, caller: Caller, Body(quote): Body<NewQuote>) -> Result<Json<Priced>> {
    let (basket, presented) = quote.basket(app.clock().now())?;
    let pricing = app.part::<Pricing>().clone();
    let priced = app
        .read(&caller, move |read| {
            let (rules, mut basket) = (pricing.rules(read)?, basket.clone());
            coupons::load(read, &rules, &mut basket, &presented)?;
            engine::price(&rules, &basket)
        })
        .await?;
    Ok(Json(priced))
}
