//! What is for sale, as shoppers see it.

use super::shown::Shown;
use axum::extract::State;
use catalog::api::{
    self as catalog_api, AttributeValue, AttributeValues, MAX_SEARCH, Media, MediaKind, ProductId, Shelf, ShopCategory, ShopProduct,
    ShopVariant, VariantId, VariantOption,
};
use identity::api as identity_api;
use kernel::{Currency, Error, Page, UnitPrice};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use web::{App, Caller, Paging, PagingParams, Params, Query, Result};

/// For how long a product's page may be kept, in seconds. A cart tells today's price in any case.
const PRODUCTS_S: u32 = 30;
/// The same of what hardly ever changes.
const SHOP_S: u32 = 300;
const LIST: &str = "storefront.products";

/// The shop.
#[derive(Serialize, ToSchema)]
pub(super) struct Shop {
    /// Of prices and carts, unless another one is asked for.
    currency: Currency,
    /// BCP 47 language tag of its texts.
    #[schema(example = "en-GB")]
    locale: String,
    /// Where customers write to.
    support_email: Option<String>,
}

/// What a page has to know of the shop before it shows anything.
#[utoipa::path(get, path = "/api/v1/storefront/shop", tag = "storefront", responses((status = 200, body = Shop)))]
pub(super) async fn get_shop(State(app): State<App>, caller: Caller) -> Result<Shown<Shop>> {
    let settings = app.peek(&caller, identity_api::settings).await?;
    let shop = Shop { currency: settings.default_currency, locale: settings.locale, support_email: settings.support_email };
    Ok(Shown { body: shop, max_age_s: SHOP_S })
}

/// Where the shop ships to.
#[derive(Serialize, ToSchema)]
pub(super) struct ShopDestinations {
    /// ISO 3166 codes of two letters, in their order; `*` stands for all others.
    #[schema(max_items = 300)]
    countries: Vec<String>,
}

/// The countries that the shop ships to, perhaps not all of each: a cart with a destination tells the methods and what they cost.
#[utoipa::path(get, path = "/api/v1/storefront/destinations", tag = "storefront",
    responses((status = 200, body = ShopDestinations), (status = 304, description = "It is still what `If-None-Match` names")))]
pub(super) async fn get_shop_destinations(State(app): State<App>, caller: Caller) -> Result<Shown<ShopDestinations>> {
    let countries = shipping::api::cached_rates(&app, &caller).await?.countries();
    Ok(Shown { body: ShopDestinations { countries }, max_age_s: SHOP_S })
}

/// The tree of categories.
#[derive(Serialize, ToSchema)]
pub(super) struct ShopCategories {
    /// Each parent before its children, siblings in their order.
    #[schema(max_items = 2000)]
    data: Vec<ShopCategory>,
}

/// All categories: each names the one that it is in.
#[utoipa::path(get, path = "/api/v1/storefront/categories", tag = "storefront",
    responses((status = 200, body = ShopCategories), (status = 304, description = "It is still what `If-None-Match` names")))]
pub(super) async fn list_shop_categories(State(app): State<App>, caller: Caller) -> Result<Shown<ShopCategories>> {
    let data = app.read(&caller, catalog_api::shop_categories).await?;
    Ok(Shown { body: ShopCategories { data }, max_age_s: PRODUCTS_S })
}

/// Which products, and in which currency their prices are.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ShopQuery {
    /// Of the prices; the shop's own unless said.
    currency: Option<Currency>,
    /// Only products with this text in their title; small and capital letters are alike.
    #[param(min_length = 1, max_length = 100)]
    q: Option<String>,
    /// Only products in the category with this slug, or below it; without `q`.
    #[param(min_length = 1, max_length = 100)]
    category: Option<String>,
    /// Only products of the collection with this slug; without `q` and `category`.
    #[param(min_length = 1, max_length = 100)]
    collection: Option<String>,
}

/// In which currency prices are.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct CurrencyQuery {
    /// Of the prices; the shop's own unless said.
    currency: Option<Currency>,
}

/// A product in a list.
#[derive(Serialize, ToSchema)]
pub(super) struct ShopProductSummary {
    product_id: ProductId,
    title: String,
    /// How many variants are for sale.
    variant_count: usize,
    /// The first picture.
    image: Option<Media>,
    currency: Currency,
    /// The lowest price of one unit among its variants; null when none has a price in this currency.
    from_price: Option<UnitPrice>,
}

/// A product with its variants.
#[derive(Serialize, ToSchema)]
pub(super) struct ShopProductView {
    product_id: ProductId,
    title: String,
    description: String,
    /// Values by the codes of their attributes, those that the shop shows.
    #[schema(value_type = std::collections::HashMap<String, AttributeValue>)]
    attributes: AttributeValues,
    /// Pictures and other files, in the order in which they are shown.
    #[schema(max_items = 50)]
    media: Vec<Media>,
    currency: Currency,
    /// Those that are for sale.
    #[schema(max_items = 100)]
    variants: Vec<ShopVariantView>,
}

/// A variant.
#[derive(Serialize, ToSchema)]
pub(super) struct ShopVariantView {
    variant_id: VariantId,
    sku: String,
    title: String,
    /// What tells it from its siblings.
    options: Vec<VariantOption>,
    /// Values of its own, by the codes of their attributes, those that the shop shows.
    #[schema(value_type = std::collections::HashMap<String, AttributeValue>)]
    attributes: AttributeValues,
    /// The list price of one unit; null when it is not sold in this currency. Promotions show in the cart.
    unit_price: Option<UnitPrice>,
}

/// The currency that was asked for, or the tenant's own.
pub(super) async fn currency_of(app: &App, caller: &Caller, asked: Option<Currency>) -> kernel::Result<Currency> {
    match asked {
        Some(currency) => Ok(currency),
        None => Ok(app.peek(caller, identity_api::settings).await?.default_currency),
    }
}

fn summary(product: ShopProduct, currency: Currency) -> ShopProductSummary {
    ShopProductSummary {
        product_id: product.product_id,
        title: product.title,
        variant_count: product.variants.len(),
        image: product.media.iter().find(|medium| medium.kind == MediaKind::Image).cloned(),
        currency,
        from_price: product.variants.iter().filter_map(|variant| variant.price_in(currency)).min(),
    }
}

/// A category or a collection that was asked for. Errors: `request.invalid` when more than one way to look is named.
fn shelf_of(query: &ShopQuery) -> kernel::Result<Option<Shelf>> {
    let not_with = |field: &str, other: &str| Err(Error::field(field, "not_allowed", format!("not together with {other}")));
    match (&query.category, &query.collection, &query.q) {
        (None, None, _) => Ok(None),
        (Some(slug), None, None) => Ok(Some(Shelf::Category(slug.clone()))),
        (None, Some(slug), None) => Ok(Some(Shelf::Collection(slug.clone()))),
        (Some(_), Some(_), _) => not_with("collection", "category"),
        (..) => not_with("q", "category or collection"),
    }
}

/// Products that are for sale: the newest first, those that were chosen for a collection in their order. A page may have fewer than
/// `limit`, even none, while there is a `next_cursor`.
#[utoipa::path(get, path = "/api/v1/storefront/products", tag = "storefront", params(ShopQuery, PagingParams),
    responses((status = 200, body = Page<ShopProductSummary>), (status = 304, description = "It is still what `If-None-Match` names")))]
pub(super) async fn list_shop_products(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<ShopQuery>,
    paging: Paging<i64>,
) -> Result<Shown<Page<ShopProductSummary>>> {
    let shelf = shelf_of(&query)?;
    let text = query.q.unwrap_or_default();
    if text.chars().count() > MAX_SEARCH {
        return Err(Error::field("q", "too_long", format!("at most {MAX_SEARCH} characters")).into());
    }
    // A position means something in its own list alone.
    let list = match &shelf {
        None => LIST.to_owned(),
        Some(Shelf::Category(slug)) => format!("{LIST}.category.{slug}"),
        Some(Shelf::Collection(slug)) => format!("{LIST}.collection.{slug}"),
    };
    let request = paging.request(&list)?;
    let currency = currency_of(&app, &caller, query.currency).await?;
    let page = match shelf {
        None => {
            let before = request.after.map(ProductId::from_i64);
            let found = app.read(&caller, move |read| catalog_api::shop_products(read, &text, before, request.limit + 1)).await?;
            paging.page(&list, found, |id| id.as_i64())?
        }
        Some(shelf) => {
            let field = if matches!(shelf, Shelf::Category(_)) { "category" } else { "collection" };
            let found = app.read(&caller, move |read| catalog_api::shelf_products(read, &shelf, request.after, request.limit)).await?;
            let (found, next) = found.ok_or_else(|| Error::field(field, "unknown", "there is none with this slug"))?;
            paging.page_to(&list, found, next)?
        }
    };
    let mut data = Vec::with_capacity(page.data.len());
    for id in page.data {
        // One that is not for sale, or not any more, is left out.
        data.extend(catalog_api::shop_product(&app, &caller, id).await?.map(|product| summary(product, currency)));
    }
    Ok(Shown { body: Page { data, next_cursor: page.next_cursor }, max_age_s: PRODUCTS_S })
}

/// A product that is for sale, with its variants that are.
#[utoipa::path(get, path = "/api/v1/storefront/products/{product_id}", tag = "storefront", params(("product_id" = ProductId, Path), CurrencyQuery),
    responses((status = 200, body = ShopProductView), (status = 304, description = "It is still what `If-None-Match` names")))]
pub(super) async fn get_shop_product(
    State(app): State<App>,
    caller: Caller,
    Params(id): Params<ProductId>,
    Query(query): Query<CurrencyQuery>,
) -> Result<Shown<ShopProductView>> {
    let currency = currency_of(&app, &caller, query.currency).await?;
    let no_product = || Error::not_found("storefront.product_not_found", "there is no such product, or it is not for sale");
    let ShopProduct { product_id, title, description, attributes, media, variants } =
        catalog_api::shop_product(&app, &caller, id).await?.ok_or_else(no_product)?;
    let view = |variant: ShopVariant| {
        let unit_price = variant.price_in(currency);
        let ShopVariant { variant_id, sku, title, options, attributes, prices: _ } = variant;
        ShopVariantView { variant_id, sku, title, options, attributes, unit_price }
    };
    let body =
        ShopProductView { product_id, title, description, attributes, media, currency, variants: variants.into_iter().map(view).collect() };
    Ok(Shown { body, max_age_s: PRODUCTS_S })
}
