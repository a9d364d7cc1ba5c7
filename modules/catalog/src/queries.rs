//! Reads.

use crate::categories::{CategoryId, ids_of};
use crate::facets::{self, Facets};
use crate::import::ImportRow;
use crate::model::{
    Dimensions, Price, PriceObservation, Product, ProductDetail, ProductId, ProductStatus, Variant, VariantId, VariantStatus,
};
use crate::sql;
use crate::upsert::VariantRef;
use kernel::{Currency, Error, PageRequest, Result, Timestamp, UnitPrice};
use std::collections::HashMap;
use store::{FromRow as _, Read};
use web::AuditOutcome;

/// The most SKUs or variants that are looked up at once.
pub const MAX_LOOKUP: usize = 2_000;

/// More currencies than there are.
const MAX_CURRENCIES: i64 = 200;

/// No such product, or not the caller's.
pub(crate) fn no_product() -> Error {
    Error::not_found("catalog.product_not_found", "there is no such product")
}

/// No such variant, or not the caller's.
pub(crate) fn no_variant() -> Error {
    Error::not_found("catalog.variant_not_found", "there is no such variant")
}

/// A product without its variants. Errors: `catalog.product_not_found`.
pub(crate) fn bare_product(read: &mut Read<'_>, id: ProductId) -> Result<Product> {
    read.opt(sql::PRODUCT, (id,))?.ok_or_else(no_product)
}

/// A product with its variants and their prices. Errors: `catalog.product_not_found`.
pub(crate) fn product(read: &mut Read<'_>, id: ProductId) -> Result<ProductDetail> {
    let product = bare_product(read, id)?;
    let mut variants: Vec<Variant> = read.all(sql::VARIANTS_OF_PRODUCT, (id,))?;
    let prices: Vec<(VariantId, Currency, UnitPrice)> = read.all(sql::PRICES_OF_PRODUCT, (id,))?;
    for (variant_id, currency, price) in prices {
        // Both are in the order of their ids.
        if let Ok(place) = variants.binary_search_by_key(&variant_id, |v| v.variant_id) {
            variants[place].prices.push(Price { currency, price });
        }
    }
    Ok(ProductDetail { product, facets: facets(read, id)?, variants })
}

/// What a product that is there has besides its name.
pub(crate) fn facets(read: &mut Read<'_>, id: ProductId) -> Result<Facets> {
    let mut facets: Facets = read.opt(sql::FACETS, (id,))?.ok_or_else(no_product)?;
    facets.category_ids = read.all::<(CategoryId,)>(sql::PLACES, (id,))?.into_iter().map(|(id,)| id).collect();
    Ok(facets)
}

/// A variant with its prices. Errors: `catalog.variant_not_found`.
pub(crate) fn variant(read: &mut Read<'_>, id: VariantId) -> Result<Variant> {
    let found: Option<Variant> = read.opt(sql::VARIANT, (id,))?;
    with_prices(read, found)
}

/// The variant with a SKU. Errors: `catalog.variant_not_found`.
pub(crate) fn variant_by_sku(read: &mut Read<'_>, sku: &str) -> Result<Variant> {
    let found: Option<Variant> = read.opt(sql::VARIANT_BY_SKU, (sku,))?;
    with_prices(read, found)
}

fn with_prices(read: &mut Read<'_>, found: Option<Variant>) -> Result<Variant> {
    let mut variant = found.ok_or_else(no_variant)?;
    let prices: Vec<(Currency, UnitPrice)> = read.all(sql::PRICES_OF_VARIANT, (variant.variant_id,))?;
    variant.prices = prices.into_iter().map(|(currency, price)| Price { currency, price }).collect();
    Ok(variant)
}

/// Which products a list shows.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProductFilter {
    /// Only these.
    pub status: Option<ProductStatus>,
    /// Only the one that has this SKU.
    pub sku: Option<String>,
    /// Only those that changed at this time or later. Orders the list by change, the oldest first, so that a client that follows it
    /// misses none: what changes meanwhile moves to its end.
    pub updated_since: Option<Timestamp>,
}

/// Where a page of products ended: the change's time (0 in the order of ids) and the id.
pub(crate) type ProductPosition = (i64, ProductId);

/// Up to one product more than the page holds, without descriptions.
pub(crate) fn products(read: &mut Read<'_>, filter: &ProductFilter, page: &PageRequest<ProductPosition>) -> Result<Vec<Product>> {
    let since = filter.updated_since.unwrap_or(Timestamp::from_micros(i64::MIN));
    let limit = page.limit + 1;
    if let Some(sku) = &filter.sku {
        return if page.after.is_some() { Ok(Vec::new()) } else { read.all(sql::PRODUCT_BY_SKU, (sku, filter.status, since)) };
    }
    if filter.updated_since.is_some() {
        let (time, id) = page.after.unwrap_or((since.micros(), ProductId::from_i64(0)));
        return read.all(sql::PRODUCTS_BY_CHANGE, (time, id, filter.status, limit));
    }
    let before = page.after.map_or(ProductId::from_i64(i64::MAX), |(_, id)| id);
    read.all(sql::PRODUCTS, (before, filter.status, limit))
}

/// Up to one observation more than the page holds, by currency and price. Errors: `catalog.variant_not_found`.
pub(crate) fn observations(read: &mut Read<'_>, id: VariantId, page: &PageRequest<(String, i64)>) -> Result<Vec<PriceObservation>> {
    if read.opt::<Variant>(sql::VARIANT, (id,))?.is_none() {
        return Err(no_variant());
    }
    let (currency, price) = page.after.clone().unwrap_or((String::new(), 0));
    read.all(sql::OBSERVATIONS, (id, currency, price, page.limit + 1))
}

/// What an order copies of a variant: it stays as it was, whatever becomes of the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VariantSnapshot {
    /// The variant.
    pub variant_id: VariantId,
    /// Its product.
    pub product_id: ProductId,
    /// Its SKU.
    pub sku: String,
    /// Its title.
    pub title: String,
    /// The product's title.
    pub product_title: String,
    /// Whether both the variant and its product are for sale now.
    pub for_sale: bool,
    /// What it is taxed as, by itself or as its product; none for the tenant's default class.
    pub tax_class: Option<String>,
    /// What one unit weighs as it is packed, in grams; none when nobody has said.
    pub weight_g: Option<i64>,
    /// What one unit measures as it is packed.
    pub dimensions: Option<Dimensions>,
    /// The product's tags.
    pub tags: Vec<String>,
    /// The categories that the product stands in, and all that are above them.
    pub categories: Vec<CategoryId>,
    /// One price a currency, by currency.
    pub prices: Vec<Price>,
}

impl VariantSnapshot {
    /// What promotions can aim at: `product:prd_...`, `category:cat_...` and `tag:...`.
    pub fn labels(&self) -> Vec<String> {
        let categories = self.categories.iter().map(|id| format!("category:{id}"));
        let tags = self.tags.iter().map(|tag| format!("tag:{tag}"));
        std::iter::once(format!("product:{}", self.product_id)).chain(categories).chain(tags).collect()
    }

    /// The list price in `currency`, if there is one.
    pub fn price_in(&self, currency: Currency) -> Option<UnitPrice> {
        self.prices.iter().find(|p| p.currency == currency).map(|p| p.price)
    }
}

/// What an order copies of these variants, in one statement; those that do not exist are missing.
/// Errors: `catalog.batch_too_large` above [`MAX_LOOKUP`].
pub fn variant_snapshots(read: &mut Read<'_>, ids: &[VariantId]) -> Result<HashMap<VariantId, VariantSnapshot>> {
    check_lookup(ids.len())?;
    let keys: Vec<i64> = ids.iter().map(|id| id.as_i64()).collect();
    let now = read.now();
    let mut snapshots: HashMap<VariantId, VariantSnapshot> = HashMap::with_capacity(ids.len());
    read.each(sql::SNAPSHOTS, (keys,), |row| {
        let variant_id = row.get(0)?;
        let price = match (row.get::<Option<Currency>>(7)?, row.get::<Option<UnitPrice>>(8)?) {
            (Some(currency), Some(price)) => Some(Price { currency, price }),
            _ => None,
        };
        if let Some(snapshot) = snapshots.get_mut(&variant_id) {
            snapshot.prices.extend(price);
            return Ok(());
        }
        let shown = facets::for_sale(row.get(6)?, row.get(14)?, row.get(15)?, now);
        let for_sale = shown && row.get::<VariantStatus>(5)? == VariantStatus::Active;
        let paths: Option<String> = row.get(17)?;
        let mut categories: Vec<CategoryId> = paths.as_deref().unwrap_or_default().split(',').flat_map(ids_of).collect();
        categories.sort_unstable();
        categories.dedup();
        let snapshot = VariantSnapshot {
            variant_id,
            product_id: row.get(1)?,
            sku: row.get(2)?,
            title: row.get(3)?,
            product_title: row.get(4)?,
            for_sale,
            tax_class: row.get(9)?,
            weight_g: row.get(10)?,
            dimensions: sql::dimensions(row, 11)?,
            tags: sql::from_json(&row.get::<String>(16)?)?,
            categories,
            prices: price.into_iter().collect(),
        };
        snapshots.insert(variant_id, snapshot);
        Ok(())
    })?;
    Ok(snapshots)
}

/// A page of all variants as rows of a file, after a variant, and where it ended; at the end nothing. Importing the rows again changes
/// nothing. Importing them elsewhere makes the same variants, of products of the same status, under their external id (those without one
/// that have several variants under what is their id here) and titled by it, or by their only variant; what else a product has, its
/// description and schedule for instance, is not in the rows.
/// Errors: those of the store.
pub fn export_page(read: &mut Read<'_>, after: Option<VariantId>, limit: u32) -> Result<Option<(Vec<ImportRow>, VariantId)>> {
    let after = after.unwrap_or(VariantId::from_i64(0));
    let mut variants: Vec<(Variant, Option<String>, ProductStatus)> = Vec::with_capacity(limit as usize);
    read.each(sql::EXPORT_VARIANTS, (after, limit), |row| {
        let variant = Variant::from_row(row)?;
        let (external_id, siblings): (Option<String>, i64) = (row.get(16)?, row.get(17)?);
        let product = external_id.or_else(|| (siblings > 1).then(|| variant.product_id.to_string()));
        variants.push((variant, product, row.get(18)?));
        Ok(())
    })?;
    let Some(last) = variants.last().map(|(variant, ..)| variant.variant_id) else { return Ok(None) };
    let most = i64::from(limit) * MAX_CURRENCIES;
    let prices: Vec<(VariantId, Currency, UnitPrice)> = read.all(sql::EXPORT_PRICES, (after, last, most))?;
    for (variant_id, currency, price) in prices {
        if let Ok(place) = variants.binary_search_by_key(&variant_id, |(v, ..)| v.variant_id) {
            variants[place].0.prices.push(Price { currency, price });
        }
    }
    let rows = variants.into_iter().flat_map(|(variant, product, status)| ImportRow::of(&variant, product, status));
    Ok(Some((rows.collect(), last)))
}

/// Where these SKUs are; those that do not exist are missing. Errors: `catalog.batch_too_large` above [`MAX_LOOKUP`].
pub fn variants_by_sku(read: &mut Read<'_>, skus: &[String]) -> Result<HashMap<String, VariantRef>> {
    check_lookup(skus.len())?;
    let rows: Vec<(String, VariantId, ProductId)> = read.all(sql::VARIANT_IDS_BY_SKU, (skus.to_vec(),))?;
    Ok(rows.into_iter().map(|(sku, variant_id, product_id)| (sku, VariantRef { variant_id, product_id })).collect())
}

fn check_lookup(len: usize) -> Result<()> {
    if len > MAX_LOOKUP {
        return Err(Error::invalid("catalog.batch_too_large", format!("at most {MAX_LOOKUP} at once")));
    }
    Ok(())
}

/// Audit: each variant has its product.
pub(crate) fn audit_orphans(read: &mut Read<'_>) -> Result<AuditOutcome> {
    let (variants, orphans): (i64, i64) = read.one(sql::AUDIT_ORPHANS, ())?;
    Ok(AuditOutcome { ok: orphans == 0, detail: format!("{variants} variants, {orphans} without a product") })
}

/// Audit: no SKU is there twice.
pub(crate) fn audit_skus(read: &mut Read<'_>) -> Result<AuditOutcome> {
    let (variants, distinct): (i64, i64) = read.one(sql::AUDIT_SKUS, ())?;
    Ok(AuditOutcome { ok: variants == distinct, detail: format!("{variants} variants, {distinct} different SKUs") })
}

/// Audit: whatever stands in a category is there, and so is the category.
pub(crate) fn audit_places(read: &mut Read<'_>) -> Result<AuditOutcome> {
    let (places, wrong): (i64, i64) = read.one(sql::AUDIT_PLACES, ())?;
    Ok(AuditOutcome { ok: wrong == 0, detail: format!("{places} places in categories, {wrong} of what is not there") })
}

/// Audit: each category is at the root or below one that is there.
pub(crate) fn audit_tree(read: &mut Read<'_>) -> Result<AuditOutcome> {
    let (categories, wrong): (i64, i64) = read.one(sql::AUDIT_TREE, ())?;
    Ok(AuditOutcome { ok: wrong == 0, detail: format!("{categories} categories, {wrong} below none that is there") })
}

/// Audit: products count their variants right.
pub(crate) fn audit_counts(read: &mut Read<'_>) -> Result<AuditOutcome> {
    let (products, wrong): (i64, i64) = read.one(sql::AUDIT_COUNTS, ())?;
    Ok(AuditOutcome { ok: wrong == 0, detail: format!("{products} products, {wrong} count their variants wrong") })
}

/// Audit: prices are of known currencies, not below zero, and of variants that exist.
pub(crate) fn audit_prices(read: &mut Read<'_>) -> Result<AuditOutcome> {
    let rows: Vec<(String, i64, i64, i64)> = read.all(sql::AUDIT_PRICES, ())?;
    Ok(judge("prices", "below zero", &rows))
}

/// Audit: observations are of known currencies, seen in order, and of variants that exist.
pub(crate) fn audit_observations(read: &mut Read<'_>) -> Result<AuditOutcome> {
    let rows: Vec<(String, i64, i64, i64)> = read.all(sql::AUDIT_OBSERVATIONS, ())?;
    Ok(judge("observations", "contradict themselves", &rows))
}

/// Adds up rows of currency, how many, how many wrong, how many without a variant.
fn judge(things: &str, wrong: &str, rows: &[(String, i64, i64, i64)]) -> AuditOutcome {
    let (mut all, mut bad, mut lost, mut unknown) = (0, 0, 0, 0);
    for (currency, count, wrong, orphans) in rows {
        (all, bad, lost) = (all + count, bad + wrong, lost + orphans);
        if currency.parse::<Currency>().is_err() {
            unknown += count;
        }
    }
    let detail = format!("{all} {things}, {bad} {wrong}, {lost} without a variant, {unknown} of an unknown currency");
    AuditOutcome { ok: bad == 0 && lost == 0 && unknown == 0, detail }
}
