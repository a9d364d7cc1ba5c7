//! What spans modules: each flow puts the APIs of several together, in one read or by events, and none of them knows of it.

mod order_payments;

/// The flows' routes and audits, as a module without tables.
pub(crate) fn module() -> web::Module {
    web::Module { routes: order_payments::routes(), audits: vec![order_payments::AUDIT], ..web::Module::new("flows", &[]) }
}
