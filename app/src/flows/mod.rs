//! What spans modules: each flow puts the APIs of several together, in one read or by events, and none of them knows of it.

pub(crate) mod checkout;
mod fulfilment;
mod goods;
pub(crate) mod guards;
pub(crate) mod intake;
mod order_payments;
mod storefront;

/// The flows' routes and audits, as a module without tables.
pub(crate) fn module() -> web::Module {
    web::Module {
        permissions: storefront::PERMISSIONS,
        routes: order_payments::routes().into_iter().chain(storefront::routes()).collect(),
        consumers: fulfilment::consumers(),
        events: fulfilment::EVENTS,
        audits: vec![order_payments::AUDIT],
        caches: Some(storefront::CACHES),
        ..web::Module::new("flows", &[])
    }
}
