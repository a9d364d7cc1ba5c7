//! What pricing tells the log.

use crate::model::{PriceListId, PromotionId, Status};
use serde::Serialize;
use store::NewEvent;
use web::EventInfo;

/// Every kind.
pub(crate) const EVENTS: &[EventInfo] = &[
    EventInfo { kind: "price_list.changed", version: 1, description: "A price list was made or changed; version 1 is the first." },
    EventInfo { kind: "price_list.prices_changed", version: 1, description: "Prices of a list were set or removed." },
    EventInfo { kind: "promotion.changed", version: 1, description: "A promotion was made or changed; version 1 is the first." },
    EventInfo { kind: "coupon.changed", version: 1, description: "A coupon was made or changed; version 1 is the first." },
    EventInfo { kind: "coupons.generated", version: 1, description: "A batch of coupons was made." },
    EventInfo { kind: "coupon.redeemed", version: 1, description: "A checkout took a use of a coupon." },
    EventInfo { kind: "coupon.released", version: 1, description: "A use of a coupon was given back." },
    EventInfo { kind: "tax_settings.changed", version: 1, description: "The tax settings were changed." },
    EventInfo { kind: "tax_rates.changed", version: 1, description: "Tax rates of countries were set or removed." },
];

#[derive(Serialize)]
struct ListChanged<'a> {
    price_list_id: PriceListId,
    name: &'a str,
    status: Status,
    version: i64,
}

/// `price_list.changed`.
pub(crate) fn list_changed(price_list_id: PriceListId, name: &str, status: Status, version: i64) -> NewEvent {
    NewEvent::new("price_list.changed", 1, price_list_id, &ListChanged { price_list_id, name, status, version })
}

#[derive(Serialize)]
struct PricesChanged {
    price_list_id: PriceListId,
    set: usize,
    removed: usize,
}

/// `price_list.prices_changed`.
pub(crate) fn prices_changed(price_list_id: PriceListId, set: usize, removed: usize) -> NewEvent {
    NewEvent::new("price_list.prices_changed", 1, price_list_id, &PricesChanged { price_list_id, set, removed })
}

#[derive(Serialize)]
struct PromotionChanged<'a> {
    promotion_id: PromotionId,
    name: &'a str,
    status: Status,
    version: i64,
}

/// `promotion.changed`.
pub(crate) fn promotion_changed(promotion_id: PromotionId, name: &str, status: Status, version: i64) -> NewEvent {
    NewEvent::new("promotion.changed", 1, promotion_id, &PromotionChanged { promotion_id, name, status, version })
}

#[derive(Serialize)]
struct CouponChanged<'a> {
    code: &'a str,
    promotion_id: PromotionId,
    status: Status,
    version: i64,
}

/// `coupon.changed`.
pub(crate) fn coupon_changed(code: &str, promotion_id: PromotionId, status: Status, version: i64) -> NewEvent {
    NewEvent::new("coupon.changed", 1, code, &CouponChanged { code, promotion_id, status, version })
}

#[derive(Serialize)]
struct CouponsGenerated<'a> {
    promotion_id: PromotionId,
    count: usize,
    prefix: &'a str,
}

/// `coupons.generated`.
pub(crate) fn coupons_generated(promotion_id: PromotionId, count: usize, prefix: &str) -> NewEvent {
    NewEvent::new("coupons.generated", 1, promotion_id, &CouponsGenerated { promotion_id, count, prefix })
}

#[derive(Serialize)]
struct CouponUse<'a> {
    code: &'a str,
    promotion_id: PromotionId,
    reference: &'a str,
    customer: Option<&'a str>,
}

/// `coupon.redeemed`.
pub(crate) fn coupon_redeemed(code: &str, promotion_id: PromotionId, reference: &str, customer: Option<&str>) -> NewEvent {
    NewEvent::new("coupon.redeemed", 1, code, &CouponUse { code, promotion_id, reference, customer })
}

#[derive(Serialize)]
struct CouponReleased<'a> {
    code: &'a str,
    reference: &'a str,
    customer: Option<&'a str>,
    kept: bool,
}

/// `coupon.released`; `kept`: whether an order had kept it.
pub(crate) fn coupon_released(code: &str, reference: &str, customer: Option<&str>, kept: bool) -> NewEvent {
    NewEvent::new("coupon.released", 1, code, &CouponReleased { code, reference, customer, kept })
}

#[derive(Serialize)]
struct SettingsChanged {
    version: i64,
}

/// `tax_settings.changed`.
pub(crate) fn settings_changed(version: i64) -> NewEvent {
    NewEvent::new("tax_settings.changed", 1, "tax_settings", &SettingsChanged { version })
}

#[derive(Serialize)]
struct RatesChanged<'a> {
    set: &'a [String],
    removed: &'a [String],
}

/// `tax_rates.changed`.
pub(crate) fn rates_changed(set: &[String], removed: &[String]) -> NewEvent {
    NewEvent::new("tax_rates.changed", 1, "tax_rates", &RatesChanged { set, removed })
}
