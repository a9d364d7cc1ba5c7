//! What spans modules: each flow puts the APIs of several together, in one read or by events, and none of them knows of it.

pub(crate) mod checkout;
mod fulfilment;
pub(crate) mod guards;
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

/// What coupons know a guest by, whose limit is as good as the address: its letters' case does not count, and of a long one its end does.
fn coupon_guest(email: &str) -> String {
    let folded = email.to_lowercase();
    let cut = (folded.len().saturating_sub(128)..=folded.len()).find(|at| folded.is_char_boundary(*at)).unwrap_or(0);
    folded[cut..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::coupon_guest;

    #[test]
    fn a_guest_is_known_by_the_address() {
        assert_eq!(coupon_guest("Ada@Example.com"), "ada@example.com");
        assert_eq!(coupon_guest(&"ä".repeat(100)).len(), 128);
    }
}
