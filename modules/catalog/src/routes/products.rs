//! Products with their variants and prices, what was changed of them, and files of them.

use super::{READ, WRITE, by};
use crate::cache::Remembered;
use crate::commands::{self, AddVariant, CreateProduct, SetPrice, UpdateProduct, UpdateVariant};
use crate::history::{self, ChangeId, ProductChangeRecord};
use crate::import::{Format, ImportReport, MAX_BYTES, Rows};
use crate::model::{
    NewProduct, NewVariant, PriceObservation, Product, ProductChange, ProductDetail, ProductId, ProductStatus, Variant, VariantChange,
    VariantId,
};
use crate::queries::{self, ProductFilter, ProductPosition};
use crate::upsert::{UpsertBatch, upsert_variants};
use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use kernel::{Currency, Error, Page, Timestamp, UnitPrice};
use serde::Deserialize;
use traffic::cache::Found;
use utoipa::{IntoParams, ToSchema};
use web::{
    App, Body, Caller, Created, ETag, IfMatch, Keyed, Paging, PagingParams, Params, Query, RawBody, Result, Route, Versioned, handlers,
};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(READ, handlers!(list_products)),
        Route::new(WRITE, handlers!(create_product)).keyed(),
        Route::new(READ, handlers!(get_product)),
        Route::new(WRITE, handlers!(update_product)),
        Route::new(WRITE, handlers!(archive_product)),
        Route::new(READ, handlers!(list_product_changes)),
        Route::new(WRITE, handlers!(add_variant)).keyed(),
        Route::new(READ, handlers!(get_variant_by_sku)),
        Route::new(READ, handlers!(get_variant)),
        Route::new(WRITE, handlers!(update_variant)),
        Route::new(WRITE, handlers!(set_price)),
        Route::new(READ, handlers!(list_price_observations)),
        Route::new(WRITE, handlers!(import)).body_limit(MAX_BYTES).timeout_ms(120_000),
    ]
}

/// Filters of the list of products.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ProductQuery {
    /// Only products of this status.
    status: Option<ProductStatus>,
    /// Only the product that has this SKU.
    #[param(min_length = 1, max_length = 64)]
    sku: Option<String>,
    /// Only products of which something changed at this time or later; the list is then in the order of change, the oldest first.
    updated_since: Option<Timestamp>,
}

/// A product as lists show it.
#[derive(serde::Serialize, ToSchema)]
struct ProductSummary {
    product_id: ProductId,
    external_id: Option<String>,
    title: String,
    status: ProductStatus,
    tax_class: Option<String>,
    /// How many variants it has.
    variant_count: i64,
    version: i64,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<Product> for ProductSummary {
    fn from(p: Product) -> Self {
        let Product { product_id, external_id, title, description: _, status, tax_class, variant_count, version, created_at, updated_at } =
            p;
        ProductSummary { product_id, external_id, title, status, tax_class, variant_count, version, created_at, updated_at }
    }
}

/// Products, the newest first, without descriptions and variants.
#[utoipa::path(get, path = "/api/v1/products", tag = "catalog", params(ProductQuery, PagingParams), responses((status = 200, body = Page<ProductSummary>)))]
async fn list_products(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<ProductQuery>,
    paging: Paging<ProductPosition>,
) -> Result<Json<Page<ProductSummary>>> {
    let filter = ProductFilter { status: query.status, sku: query.sku, updated_since: query.updated_since };
    // Each order has its own positions, so a cursor of one is refused by the other.
    let list = if filter.updated_since.is_some() { "catalog.products_by_change" } else { "catalog.products" };
    let request = paging.request(list)?;
    let rows = app.read(&caller, move |read| queries::products(read, &filter, &request)).await?;
    let page = paging.page(list, rows, |product| (product.updated_at.micros(), product.product_id))?;
    Ok(Json(Page { data: page.data.into_iter().map(ProductSummary::from).collect(), next_cursor: page.next_cursor }))
}

/// Makes a product with its variants and their prices.
#[utoipa::path(post, path = "/api/v1/products", tag = "catalog", request_body = NewProduct,
    responses((status = 201, body = ProductDetail), (status = 409, description = "`catalog.sku_taken`, `catalog.external_id_taken`")))]
async fn create_product(State(app): State<App>, caller: Caller, new: Keyed<NewProduct>) -> Result<impl IntoResponse> {
    let product = app.submit(&caller, new.key, commands::create_product, CreateProduct { by: by(&caller), new: new.body }).await?.value;
    let location = format!("/api/v1/products/{}", product.product.product_id);
    Ok((ETag(product.product.version), Created(location, product)))
}

/// A product with its variants and their prices.
#[utoipa::path(get, path = "/api/v1/products/{product_id}", tag = "catalog", params(("product_id" = ProductId, Path)), responses((status = 200, body = ProductDetail)))]
async fn get_product(
    State(app): State<App>,
    caller: Caller,
    Params(id): Params<ProductId>,
) -> Result<(HeaderMap, Versioned<Found<ProductDetail>>)> {
    let key = (caller.tenant()?, id);
    let found = app.cached(&caller, &app.part::<Remembered>().products, key, move |read| queries::product(read, id)).await?;
    let product = found.ok_or_else(queries::no_product)?;
    Ok((web::aged(&product), Versioned(product.product.version, product)))
}

/// Changes a product; what is left out stays.
#[utoipa::path(patch, path = "/api/v1/products/{product_id}", tag = "catalog", params(("product_id" = ProductId, Path), ("If-Match" = Option<String>, Header)), request_body = ProductChange,
    responses((status = 200, body = ProductDetail), (status = 409, description = "`catalog.external_id_taken`, `catalog.product_not_draft_again`"),
        (status = 412, description = "Changed since the version in `If-Match`")))]
async fn update_product(
    State(app): State<App>,
    caller: Caller,
    Params(product_id): Params<ProductId>,
    if_match: IfMatch,
    Body(change): Body<ProductChange>,
) -> Result<Versioned<ProductDetail>> {
    let product =
        app.submit(&caller, None, commands::update_product, UpdateProduct { product_id, if_match, change, by: by(&caller) }).await?.value;
    Ok(Versioned(product.product.version, product))
}

/// Takes a product off sale for good or for a while; it stays where orders point at it. Archiving an archived one changes nothing.
#[utoipa::path(post, path = "/api/v1/products/{product_id}/archive", tag = "catalog", params(("product_id" = ProductId, Path), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = ProductDetail), (status = 412, description = "Changed since the version in `If-Match`")))]
async fn archive_product(
    State(app): State<App>,
    caller: Caller,
    Params(product_id): Params<ProductId>,
    if_match: IfMatch,
) -> Result<Versioned<ProductDetail>> {
    let change = ProductChange { status: Some(ProductStatus::Archived), ..ProductChange::default() };
    let product =
        app.submit(&caller, None, commands::update_product, UpdateProduct { product_id, if_match, change, by: by(&caller) }).await?.value;
    Ok(Versioned(product.product.version, product))
}

/// Adds a variant to a product.
#[utoipa::path(post, path = "/api/v1/products/{product_id}/variants", tag = "catalog", params(("product_id" = ProductId, Path)), request_body = NewVariant,
    responses((status = 201, body = Variant), (status = 409, description = "`catalog.sku_taken`, `catalog.too_many_variants`")))]
async fn add_variant(
    State(app): State<App>,
    caller: Caller,
    Params(product_id): Params<ProductId>,
    new: Keyed<NewVariant>,
) -> Result<impl IntoResponse> {
    let variant =
        app.submit(&caller, new.key, commands::add_variant, AddVariant { product_id, variant: new.body, by: by(&caller) }).await?.value;
    let location = format!("/api/v1/variants/{}", variant.variant_id);
    Ok((ETag(variant.version), Created(location, variant)))
}

/// The SKU to look up.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct SkuQuery {
    /// The SKU; upper and lower case differ.
    #[param(min_length = 1, max_length = 64)]
    sku: String,
}

/// The variant with a SKU. (In the query, because a SKU may contain a slash.)
#[utoipa::path(get, path = "/api/v1/variants/by-sku", tag = "catalog", params(SkuQuery), responses((status = 200, body = Variant)))]
async fn get_variant_by_sku(State(app): State<App>, caller: Caller, Query(query): Query<SkuQuery>) -> Result<Versioned<Variant>> {
    let variant = app.peek(&caller, move |read| queries::variant_by_sku(read, &query.sku)).await?;
    Ok(Versioned(variant.version, variant))
}

/// A variant with its prices.
#[utoipa::path(get, path = "/api/v1/variants/{variant_id}", tag = "catalog", params(("variant_id" = VariantId, Path)), responses((status = 200, body = Variant)))]
async fn get_variant(State(app): State<App>, caller: Caller, Params(id): Params<VariantId>) -> Result<Versioned<Variant>> {
    let variant = app.peek(&caller, move |read| queries::variant(read, id)).await?;
    Ok(Versioned(variant.version, variant))
}

/// Changes a variant; what is left out stays.
#[utoipa::path(patch, path = "/api/v1/variants/{variant_id}", tag = "catalog", params(("variant_id" = VariantId, Path), ("If-Match" = Option<String>, Header)), request_body = VariantChange,
    responses((status = 200, body = Variant), (status = 409, description = "`catalog.sku_taken`"), (status = 412, description = "Changed since the version in `If-Match`")))]
async fn update_variant(
    State(app): State<App>,
    caller: Caller,
    Params(variant_id): Params<VariantId>,
    if_match: IfMatch,
    Body(change): Body<VariantChange>,
) -> Result<Versioned<Variant>> {
    let variant =
        app.submit(&caller, None, commands::update_variant, UpdateVariant { variant_id, if_match, change, by: by(&caller) }).await?.value;
    Ok(Versioned(variant.version, variant))
}

/// The amount of a price.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PriceAmount {
    /// The price of one unit, not below zero.
    price: UnitPrice,
}

/// Sets the list price of a variant in one currency.
#[utoipa::path(put, path = "/api/v1/variants/{variant_id}/prices/{currency}", tag = "catalog",
    params(("variant_id" = VariantId, Path), ("currency" = Currency, Path), ("If-Match" = Option<String>, Header)), request_body = PriceAmount,
    responses((status = 200, body = Variant), (status = 412, description = "Changed since the version in `If-Match`")))]
async fn set_price(
    State(app): State<App>,
    caller: Caller,
    Params((variant_id, currency)): Params<(VariantId, Currency)>,
    if_match: IfMatch,
    Body(PriceAmount { price }): Body<PriceAmount>,
) -> Result<Versioned<Variant>> {
    let variant =
        app.submit(&caller, None, commands::set_price, SetPrice { variant_id, if_match, currency, price, by: by(&caller) }).await?.value;
    Ok(Versioned(variant.version, variant))
}

/// The prices at which a variant has been traded, by currency and price.
#[utoipa::path(get, path = "/api/v1/variants/{variant_id}/price-observations", tag = "catalog", params(("variant_id" = VariantId, Path), PagingParams),
    responses((status = 200, body = Page<PriceObservation>)))]
async fn list_price_observations(
    State(app): State<App>,
    caller: Caller,
    Params(id): Params<VariantId>,
    paging: Paging<(String, i64)>,
) -> Result<Json<Page<PriceObservation>>> {
    let list = "catalog.price_observations";
    let request = paging.request(list)?;
    let rows = app.read(&caller, move |read| queries::observations(read, id, &request)).await?;
    Ok(Json(paging.page(list, rows, |o| (o.currency.code().to_owned(), o.price.micros()))?))
}

/// What was changed of a product and its variants, by whom and when; the newest first.
#[utoipa::path(get, path = "/api/v1/products/{product_id}/changes", tag = "catalog", params(("product_id" = ProductId, Path), PagingParams),
    responses((status = 200, body = Page<ProductChangeRecord>)))]
async fn list_product_changes(
    State(app): State<App>,
    caller: Caller,
    Params(id): Params<ProductId>,
    paging: Paging<ChangeId>,
) -> Result<Json<Page<ProductChangeRecord>>> {
    let list = format!("catalog.product_changes.{id}");
    let request = paging.request(&list)?;
    let rows = app.read(&caller, move |read| history::changes(read, id, &request)).await?;
    Ok(Json(paging.page(&list, rows, |change| change.change_id)?))
}

/// Makes and changes variants by a file: CSV with the columns `sku`, `product`, `title`, `barcode`, `status`, `product_status`, `currency`,
/// `price`, `tax_class`, `weight_g`, `length_mm`, `width_mm`, `height_mm`, `option1_name`, `option1_value` to `option5_value` (only `sku` is
/// needed), or NDJSON. An empty cell leaves what is stored. A row that is wrong is reported and leaves the others standing. The same file
/// again changes nothing, so it needs no idempotency key: after an error, send it again.
#[utoipa::path(post, path = "/api/v1/catalog/import", tag = "catalog",
    request_body(description = "At most 10,000 rows and 8 MiB", content((String = "text/csv"), (crate::import::ImportRow = "application/x-ndjson"))),
    responses((status = 200, body = ImportReport)))]
async fn import(State(app): State<App>, caller: Caller, file: RawBody) -> Result<Json<ImportReport>> {
    let format = Format::of(&file.content_type)?;
    if file.bytes.is_empty() {
        return Err(Error::field("body", "required", "the body is missing: this route takes a file").into());
    }
    let mut rows = Rows::open(format, &file.bytes)?;
    let mut report = ImportReport::default();
    while let Some((lines, batch)) = rows.next_batch(&mut report)? {
        let outcomes =
            app.store().write(caller.call()?.deadline_ms(30_000), upsert_variants, UpsertBatch { rows: batch, by: by(&caller) }).await?;
        report.add(&lines, outcomes);
    }
    Ok(Json(report.finish()))
}
