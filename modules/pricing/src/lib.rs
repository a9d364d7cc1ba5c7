//! What a basket costs: price lists, promotions, coupons and tax, computed by a pure core and explained.
//!
//! Promises: the same rules and the same basket give the same amounts, in integers; what lines, taxes and discounts show adds up to the
//! totals to the minor unit, and refunds of parts add up to the whole; a coupon's limits hold whoever races for it; what was changed and
//! acknowledged decides every later checkout, although rules are kept compiled in memory.
//! Must never know: the catalog's tables (prices and labels of lines are given by the caller), carts, orders and payments.

mod commands;
mod compiled;
mod coupons;
mod engine;
mod events;
mod model;
mod percent;
mod queries;
mod routes;
mod sql;
mod tax;
#[cfg(test)]
mod tests;

use web::{Audit, AuditCheck, Module, PermissionInfo};

/// What flows use within their own transactions. A checkout:
///
/// ```text
/// let rules = pricing.rules(tx)?;                         // Pricing: a part of the app, in the command's data; one point read
/// api::load(tx, &rules, &mut basket, &presented)?;        // listed prices and coupons, if there are any
/// let priced = api::price(&rules, &basket)?;              // pure
/// for code in priced.coupons_to_redeem() { api::redeem(tx, code, customer, reference)?; }
/// ... later: api::keep(tx, reference)? or api::release(tx, reference)?
/// ```
pub mod api {
    pub use crate::commands::{create_price_list, create_promotion, import_tax_rates, set_prices, set_tax_rates, set_tax_settings};
    pub use crate::compiled::Pricing;
    pub use crate::coupons::{NewCoupon, Presented, create_coupon, give_back, keep, load, redeem, release};
    pub use crate::engine::refund::{LineQuantity, Refund, RefundLine, refund};
    pub use crate::engine::tax::{LineTax, TaxReason, TaxTotal, TaxTreatment};
    pub use crate::engine::{
        AdjustedLine, Adjustment, AppliedPromotion, Basket, BasketLine, Charge, ChargeKind, CouponOutcome, ListedPrice, MAX_CHARGES,
        MAX_COUPONS, MAX_LABELS, MAX_LINES, MAX_QUANTITY, NotApplied, PresentedCoupon, PriceSource, Priced, PricedKind, PricedLine,
        PricedSnapshot, Reason, Rules, Totals, price,
    };
    pub use crate::model::{
        Coupon, CouponSpec, Effect, Minimum, Of, PriceEntry, PriceList, PriceListId, PriceListSpec, Promotion, PromotionId, PromotionSpec,
        Stacking, Status, Target, Tier, TierMeasure,
    };
    pub use crate::percent::Percent;
    pub use crate::tax::{
        ClassRule, CountryRates, RatesFile, Registration, Rounding, TaxException, TaxPeriod, TaxSettings, Unregistered, UntaxedPrice,
    };
}

const PERMISSIONS: &[PermissionInfo] = &[
    PermissionInfo { name: "pricing.read", description: "See price lists, promotions, coupons and tax, and price baskets." },
    PermissionInfo { name: "pricing.write", description: "Make and change price lists, promotions, coupons and tax." },
];

const MIGRATIONS: &[store::Migration] = &[store::Migration { number: 1, name: "first", sql: include_str!("../migrations/0001_first.sql") }];

/// The module, as plain data.
pub fn module() -> Module {
    Module {
        permissions: PERMISSIONS,
        routes: routes::routes(),
        events: events::EVENTS,
        statements: sql::statements(),
        caches: Some(compiled::CACHES),
        audits: vec![
            Audit { name: "pricing.coupon_uses", check: AuditCheck::Tenant(queries::audit_uses) },
            Audit { name: "pricing.redemptions", check: AuditCheck::Tenant(queries::audit_redemptions) },
            Audit { name: "pricing.listed_prices", check: AuditCheck::Tenant(queries::audit_entries) },
            Audit { name: "pricing.rules_compile", check: AuditCheck::Tenant(queries::audit_rules) },
        ],
        ..Module::new("pricing", MIGRATIONS)
    }
}
