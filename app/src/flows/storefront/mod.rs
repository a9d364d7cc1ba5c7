//! The storefront: what a shop's page asks with a publishable key. Products out of the cache, carts in transactions of their own.
//!
//! What is the same for all shoppers may be kept by browsers and by caches on the way ([`shown::Shown`]); carts are nobody's business and
//! are kept nowhere. `docs/storefront.md` tells it to users.

mod carts;
mod commands;
mod facts;
mod price;
mod products;
mod shelf;
mod shown;
mod view;

pub(crate) use shelf::CACHES;
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
        Route::new(Access::Storefront, routes!(products::list_shop_categories)),
        Route::new(Access::Storefront, routes!(products::get_shop_product)),
        Route::new(Access::Storefront, routes!(shelf::get_shop_availability)),
        Route::new(Access::Storefront, routes!(products::get_shop_destinations)),
        Route::new(Access::Storefront, routes!(carts::create_shop_cart)).keyed(),
        Route::new(Access::Storefront, routes!(carts::get_shop_cart)),
        Route::new(Access::Storefront, routes!(carts::change_shop_cart)),
        Route::new(Access::Storefront, routes!(carts::add_cart_line)).keyed(),
        Route::new(Access::Storefront, routes!(carts::set_cart_line, carts::remove_cart_line)),
        Route::new(Access::Storefront, routes!(carts::add_cart_coupon)),
        Route::new(Access::Storefront, routes!(carts::remove_cart_coupon)),
        Route::new(Access::Storefront, routes!(carts::accept_shop_cart)),
        Route::new(Access::Tenant("carts.write"), routes!(carts::sign_in)),
    ]
}
