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
use web::{Access, PermissionInfo, Route, STOREFRONT, handlers};

pub(crate) const PERMISSIONS: &[PermissionInfo] = &[PermissionInfo {
    name: STOREFRONT,
    description: "Ask the storefront with another credential than a publishable key, such as a shop's own server.",
}];

pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::new(Access::Storefront, handlers!(products::get_shop)),
        Route::new(Access::Storefront, handlers!(products::list_shop_products)),
        Route::new(Access::Storefront, handlers!(products::list_shop_categories)),
        Route::new(Access::Storefront, handlers!(products::get_shop_product)),
        Route::new(Access::Storefront, handlers!(shelf::get_shop_availability)),
        Route::new(Access::Storefront, handlers!(products::get_shop_destinations)),
        Route::new(Access::Storefront, handlers!(carts::create_shop_cart)).keyed(),
        Route::new(Access::Storefront, handlers!(carts::get_shop_cart)),
        Route::new(Access::Storefront, handlers!(carts::change_shop_cart)),
        Route::new(Access::Storefront, handlers!(carts::add_cart_line)).keyed(),
        Route::new(Access::Storefront, handlers!(carts::set_cart_line, carts::remove_cart_line)),
        Route::new(Access::Storefront, handlers!(carts::add_cart_coupon)),
        Route::new(Access::Storefront, handlers!(carts::remove_cart_coupon)),
        Route::new(Access::Storefront, handlers!(carts::accept_shop_cart)),
        Route::new(Access::Tenant("carts.write"), handlers!(carts::sign_in)),
    ]
}
