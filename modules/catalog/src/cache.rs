//! What is remembered, for an hour, until it changes: each product with its variants and prices; and which attributes shops don't show.

use crate::attributes::{AttributeValues, Hidden};
use crate::model::{ProductDetail, ProductId};
use crate::queries;
use kernel::{Result, TenantId};
use std::time::Duration;
use store::Change;
use traffic::cache::{Cache, Cached, Caches, Normal, Settings, Tag, Tags};
use web::{App, ModuleCaches, Part};

/// How long a product is remembered, in milliseconds.
const TTL_MS: u64 = 3_600_000;
/// Of the memory of all caches, in percent.
const MEMORY_PERCENT: u8 = 50;
const HIDDEN_MEMORY_PERCENT: u8 = 1;

/// What is remembered.
pub(crate) struct Remembered {
    /// Products by tenant and id.
    pub products: Cache<(TenantId, ProductId), ProductDetail>,
    /// By tenant.
    pub hidden: Cache<TenantId, Hidden>,
}

/// Every change of a product, a variant or a price is an event of the product.
pub(crate) const CACHES: ModuleCaches = ModuleCaches {
    open,
    events: &[
        "product.created",
        "product.updated",
        "variant.created",
        "variant.updated",
        "price.changed",
        "product.published",
        "product.unpublished",
        "attribute.created",
        "attribute.updated",
    ],
    tags: |change: &Change| match (change.tenant, change.subject.parse::<ProductId>()) {
        (Some(tenant), Ok(product)) => Tags::of([tag(&(tenant, product))]),
        (Some(tenant), Err(_)) => Tags::of([hidden_tag(&tenant)]),
        (None, _) => Tags::NONE,
    },
    forget: |_, _| {},
    hot: |app, most| serde_json::to_value(app.part::<Remembered>().products.hot(most)).unwrap_or_default(),
    warm: |app, keys, within| Box::pin(warm(app, keys, within)),
};

async fn warm(app: App, keys: serde_json::Value, within: Duration) -> usize {
    let Ok(keys) = serde_json::from_value::<Vec<(TenantId, ProductId)>>(keys) else { return 0 };
    let store = app.store().clone();
    let load = move |(tenant, id): (TenantId, ProductId)| {
        let store = store.clone();
        async move { store.peek(tenant, move |read| queries::product(read, id)).await.map(Some) }
    };
    app.part::<Remembered>().products.warm(keys, within, load).await
}

fn tag(key: &(TenantId, ProductId)) -> Tag {
    Tag::new("product", (key.0.as_i64(), key.1.as_i64()))
}

fn hidden_tag(tenant: &TenantId) -> Tag {
    Tag::new("hidden_attributes", tenant.as_i64())
}

fn open(caches: &Caches) -> Result<Part> {
    let settings = Settings { ttl_ms: TTL_MS, memory_percent: MEMORY_PERCENT, ..Settings::of::<ProductDetail>("catalog.products") };
    let products = Cache::new(caches, settings, |key| Tags::of([tag(key)]))?;
    let settings =
        Settings { ttl_ms: TTL_MS, memory_percent: HIDDEN_MEMORY_PERCENT, ..Settings::of::<Hidden>("catalog.hidden_attributes") };
    let hidden = Cache::new(caches, settings, |tenant| Tags::of([hidden_tag(tenant)]))?;
    Ok(Part::new(Remembered { products, hidden }))
}

impl Cached for Hidden {
    type Class = Normal;

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.0.iter().map(|code| size_of_val(code) + code.len()).sum::<usize>()
    }
}

impl Cached for ProductDetail {
    type Class = Normal;

    fn bytes(&self) -> usize {
        let texts = |texts: &[&str]| texts.iter().map(|text| text.len()).sum::<usize>();
        let product = &self.product;
        let own = texts(&[&product.title, &product.description, product.external_id.as_deref().unwrap_or_default()]);
        let variants = self.variants.iter().map(|variant| {
            let options = variant.options.iter().map(|option| size_of_val(option) + texts(&[&option.name, &option.value])).sum::<usize>();
            let text = texts(&[&variant.sku, &variant.title, variant.barcode.as_deref().unwrap_or_default()]);
            size_of_val(variant) + text + options + size_of_val(&variant.prices[..])
        });
        let facets = &self.facets;
        let tags = facets.tags.iter().map(|tag| size_of_val(tag) + tag.len()).sum::<usize>();
        let media = facets.media.iter().map(|medium| {
            let text = texts(&[medium.url.as_deref().unwrap_or_default(), medium.key.as_deref().unwrap_or_default(), &medium.alt]);
            size_of_val(medium) + text
        });
        let values =
            |values: &AttributeValues| values.iter().map(|(code, value)| size_of_val(value) + code.len() + value.bytes()).sum::<usize>();
        let described = tags + media.sum::<usize>() + values(&facets.attributes) + size_of_val(&facets.category_ids[..]);
        let attributes: usize = self.variants.iter().map(|variant| values(&variant.attributes)).sum();
        size_of::<Self>() + own + variants.sum::<usize>() + described + attributes
    }
}
