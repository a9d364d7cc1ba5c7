//! Whether a product's variants can be had, as a page shows it: at most a second old, and it decides nothing.

use super::facts::{Available, stock, words};
use super::shown::Shown;
use axum::extract::State;
use catalog::api::{self as catalog_api, ProductId, VariantId};
use kernel::{Error, Result as KernelResult, TenantId};
use serde::{Deserialize, Serialize};
use traffic::cache::{Cache, Cached, Caches, Settings, Short, Tags};
use utoipa::ToSchema;
use web::{App, Caller, ModuleCaches, Params, Part, Result};

/// How long it is remembered, in milliseconds.
const TTL_MS: u64 = 1_000;

/// By tenant and product.
struct Shelves(Cache<(TenantId, ProductId), Shelf>);

/// The variants of a product.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub(super) struct Shelf {
    /// Those that are for sale.
    #[schema(max_items = 100)]
    data: Vec<OnShelf>,
}

/// A variant.
#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
pub(super) struct OnShelf {
    variant_id: VariantId,
    /// Whether it can be had.
    available: Available,
}

impl Cached for Shelf {
    type Class = Short;

    fn bytes(&self) -> usize {
        size_of::<Self>() + size_of_val(&self.data[..])
    }
}

/// Nothing makes it old but time.
pub(crate) const CACHES: ModuleCaches = ModuleCaches {
    open,
    events: &[],
    tags: |_| Tags::NONE,
    forget: |_, _| {},
    hot: |_, _| serde_json::Value::Null,
    warm: |_, _, _| Box::pin(std::future::ready(0)),
};

fn open(caches: &Caches) -> KernelResult<Part> {
    let settings = Settings { ttl_ms: TTL_MS, memory_percent: 2, ..Settings::of::<Shelf>("storefront.shelves") };
    Ok(Part::new(Shelves(Cache::new(caches, settings, |_| Tags::NONE)?)))
}

/// Whether a product's variants can be had; at most a second old. Only a checkout decides.
#[utoipa::path(get, path = "/api/v1/storefront/products/{product_id}/availability", tag = "storefront", params(("product_id" = ProductId, Path)),
    responses((status = 200, body = Shelf), (status = 304, description = "It is still what `If-None-Match` names")))]
pub(super) async fn get_shop_availability(State(app): State<App>, caller: Caller, Params(id): Params<ProductId>) -> Result<Shown<Shelf>> {
    let no_product = || Error::not_found("storefront.product_not_found", "there is no such product, or it is not for sale");
    let product = catalog_api::shop_product(&app, &caller, id).await?.ok_or_else(no_product)?;
    let variants: Vec<VariantId> = product.variants.iter().map(|variant| variant.variant_id).collect();
    let key = (caller.tenant()?, id);
    let found = app.cached(&caller, &app.part::<Shelves>().0, key, move |read| {
        let known = stock(read, variants.iter().map(|id| id.as_i64()))?;
        let of = |id: &VariantId| OnShelf { variant_id: *id, available: words(known.get(&id.as_i64()).copied().flatten()) };
        Ok(Shelf { data: variants.iter().map(of).collect() })
    });
    let shelf = found.await?.ok_or_else(no_product)?;
    Ok(Shown { body: (*shelf).clone(), max_age_s: 0 })
}
