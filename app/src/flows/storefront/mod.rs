//! The storefront: what a shop's page asks with a publishable key. Products out of the cache, carts in transactions of their own.
//!
//! What is the same for all shoppers may be kept by browsers and by caches on the way ([`shown::Shown`]); carts are nobody's business and
//! are kept nowhere. `docs/storefront.md` tells it to users.

mod products;
mod shown;

use utoipa_axum::routes;
use web::{Access, PermissionInfo, Route, STOREFRONT};

pub(crate) const PERMISSIONS: &[PermissionInfo] = &[PermissionInfo {
    name: STOREFRONT,
    description: "Ask the storefront with another credential than a publishable key, such as a shop's own server.",
}];

pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::new(Access::Storefront, routes!(products::get_shop)),
        Route::new(Access::Storefront, routes!(products::list_shop_products)),
        Route::new(Access::Storefront, routes!(products::get_shop_product)),
    ]
}
