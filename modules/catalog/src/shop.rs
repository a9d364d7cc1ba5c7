//! What a shop shows of the catalog: products that are for sale, with their variants that are, and nothing else of them.

use crate::attributes::{self, AttributeValues, Hidden};
use crate::cache::Remembered;
use crate::categories;
use crate::collections::{self, Listed};
use crate::facets::{self, Media};
use crate::model::{Price, ProductDetail, ProductId, VariantId, VariantOption, VariantStatus};
use crate::{queries, sql};
use kernel::{Currency, Error, Result, Timestamp, UnitPrice};
use store::Read;
use web::{App, Caller};

/// The longest text that products are searched for, in characters.
pub const MAX_SEARCH: usize = 100;

/// A product that is for sale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShopProduct {
    /// Its id.
    pub product_id: ProductId,
    /// Its title.
    pub title: String,
    /// What it is, for a person.
    pub description: String,
    /// Values by the codes of their attributes, those that shops show.
    pub attributes: AttributeValues,
    /// Pictures and other files, in the order in which they are shown.
    pub media: Vec<Media>,
    /// Its variants that are for sale, in the order in which they were added; perhaps none.
    pub variants: Vec<ShopVariant>,
}

/// A variant that is for sale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShopVariant {
    /// Its id.
    pub variant_id: VariantId,
    /// Its SKU.
    pub sku: String,
    /// Its title.
    pub title: String,
    /// What tells it from its siblings.
    pub options: Vec<VariantOption>,
    /// Values of its own, by the codes of their attributes, those that shops show.
    pub attributes: AttributeValues,
    /// One list price a currency, by currency.
    pub prices: Vec<Price>,
}

impl ShopVariant {
    /// The list price in `currency`, if there is one.
    pub fn price_in(&self, currency: Currency) -> Option<UnitPrice> {
        self.prices.iter().find(|p| p.currency == currency).map(|p| p.price)
    }
}

/// What a shop shows of a product at a moment; nothing of a draft, of what was archived, or outside its schedule.
pub(crate) fn shown(detail: &ProductDetail, hidden: &Hidden, now: Timestamp) -> Option<ShopProduct> {
    if !facets::for_sale(detail.product.status, detail.facets.publish_at, detail.facets.unpublish_at, now) {
        return None;
    }
    let for_sale = detail.variants.iter().filter(|variant| variant.status == VariantStatus::Active);
    let told = |values: &AttributeValues| {
        let told = values.iter().filter(|(code, _)| !hidden.0.contains(*code));
        told.map(|(code, value)| (code.clone(), value.clone())).collect::<AttributeValues>()
    };
    let variant = |v: &crate::model::Variant| ShopVariant {
        variant_id: v.variant_id,
        sku: v.sku.clone(),
        title: v.title.clone(),
        options: v.options.clone(),
        attributes: told(&v.attributes),
        prices: v.prices.clone(),
    };
    Some(ShopProduct {
        product_id: detail.product.product_id,
        title: detail.product.title.clone(),
        description: detail.product.description.clone(),
        attributes: told(&detail.facets.attributes),
        media: detail.facets.media.clone(),
        variants: for_sale.map(variant).collect(),
    })
}

/// A product of the caller's tenant, out of the cache; none when there is no such product, or it is not for sale.
pub async fn shop_product(app: &App, caller: &Caller, id: ProductId) -> Result<Option<ShopProduct>> {
    let (tenant, remembered) = (caller.tenant()?, app.part::<Remembered>());
    let found = app.cached(caller, &remembered.products, (tenant, id), move |read| queries::product(read, id)).await?;
    let Some(detail) = found else { return Ok(None) };
    let hidden = app.cached(caller, &remembered.hidden, tenant, attributes::hidden).await?;
    let hidden = hidden.ok_or_else(|| Error::internal("what is hidden is there, were it only nothing"))?;
    Ok(shown(&detail, &hidden, app.clock().now()))
}

/// The ids of products that are for sale, the newest first, up to `limit`: those before `before`, and with `text` somewhere in their
/// title, if it is not empty. Of letters beyond ASCII it tells small from capital ones, on SQLite.
pub fn shop_products(read: &mut Read<'_>, text: &str, before: Option<ProductId>, limit: u32) -> Result<Vec<ProductId>> {
    let before = before.unwrap_or(ProductId::from_i64(i64::MAX));
    let rows: Vec<(ProductId,)> = read.all(sql::SHOP_PRODUCTS, (before, like(text), read.now(), limit))?;
    Ok(rows.into_iter().map(|(id,)| id).collect())
}

/// Where a shop's page looks for products.
#[derive(Clone, Debug)]
pub enum Shelf {
    /// In the category with this slug, or below it.
    Category(String),
    /// In the collection with this slug.
    Collection(String),
}

/// Products of a shelf after a position, up to `limit`, whether they are for sale or not, and where the next page goes on; none when there is
/// no such shelf. A page may have fewer than `limit`, even none, and go on.
pub fn shelf_products(read: &mut Read<'_>, shelf: &Shelf, after: Option<i64>, limit: u32) -> Result<Option<Listed>> {
    match shelf {
        Shelf::Category(slug) => {
            let before = ProductId::from_i64(after.unwrap_or(i64::MAX));
            let Some(mut ids) = categories::products_below(read, slug, before, limit + 1)? else { return Ok(None) };
            let more = ids.len() > limit as usize;
            ids.truncate(limit as usize);
            let next = ids.last().filter(|_| more).map(|id| id.as_i64());
            Ok(Some((ids, next)))
        }
        Shelf::Collection(slug) => match collections::by_slug(read, slug)? {
            Some(collection) => Ok(Some(collections::products(read, &collection, after, limit)?)),
            None => Ok(None),
        },
    }
}

/// A pattern that finds `text` anywhere; its own wildcards mean themselves.
pub(crate) fn like(text: &str) -> String {
    let mut pattern = String::from("%");
    for c in text.to_lowercase().chars() {
        if matches!(c, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}
