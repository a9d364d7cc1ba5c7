//! Reads, and the audits.

use crate::model::{Coupon, PriceEntry, PriceList, PriceListId, Promotion, PromotionId};
use crate::sql;
use crate::tax::{CountryRates, TaxSettings};
use kernel::{Error, PageRequest, Result, Timestamp};
use serde::{Deserialize, Serialize};
use store::Read;
use utoipa::ToSchema;
use web::AuditOutcome;

/// No such list, or not the caller's.
pub(crate) fn no_list() -> Error {
    Error::not_found("pricing.price_list_not_found", "there is no such price list")
}

/// No such promotion, or not the caller's.
pub(crate) fn no_promotion() -> Error {
    Error::not_found("pricing.promotion_not_found", "there is no such promotion")
}

/// No such coupon, or not the caller's.
pub(crate) fn no_coupon() -> Error {
    Error::not_found("pricing.coupon_not_found", "there is no such coupon")
}

/// No rates of the country.
pub(crate) fn no_country() -> Error {
    Error::not_found("pricing.tax_rates_not_found", "there are no rates of this country")
}

/// A price list. Errors: `pricing.price_list_not_found`.
pub(crate) fn list(read: &mut Read<'_>, id: PriceListId) -> Result<PriceList> {
    read.opt(sql::LIST, (id,))?.ok_or_else(no_list)
}

/// Up to one more than the page holds, the newest first.
pub(crate) fn lists(read: &mut Read<'_>, page: &PageRequest<PriceListId>) -> Result<Vec<PriceList>> {
    read.all(sql::LISTS, (page.after.unwrap_or(PriceListId::from_i64(i64::MAX)), page.limit + 1))
}

/// Up to one more than the page holds, by SKU and quantity. Errors: `pricing.price_list_not_found`.
pub(crate) fn entries(read: &mut Read<'_>, id: PriceListId, page: &PageRequest<(String, i64)>) -> Result<Vec<PriceEntry>> {
    list(read, id)?;
    let (sku, quantity) = page.after.clone().unwrap_or_default();
    read.all(sql::ENTRIES, (id, sku, quantity, page.limit + 1))
}

/// A promotion. Errors: `pricing.promotion_not_found`.
pub(crate) fn promotion(read: &mut Read<'_>, id: PromotionId) -> Result<Promotion> {
    read.opt(sql::PROMOTION, (id,))?.ok_or_else(no_promotion)
}

/// Up to one more than the page holds, the newest first.
pub(crate) fn promotions(read: &mut Read<'_>, page: &PageRequest<PromotionId>) -> Result<Vec<Promotion>> {
    read.all(sql::PROMOTIONS, (page.after.unwrap_or(PromotionId::from_i64(i64::MAX)), page.limit + 1))
}

/// A coupon by its normal code. Errors: `pricing.coupon_not_found`.
pub(crate) fn coupon(read: &mut Read<'_>, code: &str) -> Result<Coupon> {
    read.opt(sql::COUPON, (code,))?.ok_or_else(no_coupon)
}

/// Up to one more than the page holds, by code; of one promotion if it is named.
pub(crate) fn coupons(read: &mut Read<'_>, of: Option<PromotionId>, page: &PageRequest<String>) -> Result<Vec<Coupon>> {
    let after = page.after.clone().unwrap_or_default();
    match of {
        Some(promotion) => read.all(sql::COUPONS_OF_PROMOTION, (promotion, after, page.limit + 1)),
        None => read.all(sql::COUPONS, (after, page.limit + 1)),
    }
}

/// A use of a coupon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = CouponRedemption)]
pub struct Redemption {
    /// Of the checkout or the order.
    pub reference: String,
    /// Who used it, as far as that was said.
    pub customer: Option<String>,
    /// Whether an order keeps it; a checkout holds it otherwise.
    pub kept: bool,
    /// When.
    pub redeemed_at: Timestamp,
}

impl store::FromRow for Redemption {
    fn from_row(row: &dyn store::Row) -> Result<Self> {
        Ok(Redemption { reference: row.get(0)?, customer: row.get(1)?, kept: row.get(2)?, redeemed_at: row.get(3)? })
    }
}

/// Up to one more than the page holds, by reference. Errors: `pricing.coupon_not_found`.
pub(crate) fn redemptions(read: &mut Read<'_>, code: &str, page: &PageRequest<String>) -> Result<Vec<Redemption>> {
    coupon(read, code)?;
    read.all(sql::REDEMPTIONS, (code, page.after.clone().unwrap_or_default(), page.limit + 1))
}

/// How a tenant charges tax, with its version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = VersionedTaxSettings)]
pub struct VersionedSettings {
    /// The settings.
    #[serde(flatten)]
    pub settings: TaxSettings,
    /// Rises with every change; the `ETag`. 1 for what nobody has set.
    pub version: i64,
    /// When they were last changed; none for what nobody has set.
    pub updated_at: Option<Timestamp>,
}

/// The tax settings, those of a tenant that has set none included.
pub(crate) fn settings(read: &mut Read<'_>) -> Result<VersionedSettings> {
    let row: Option<(String, i64, Timestamp)> = read.opt(sql::SETTINGS, ())?;
    Ok(match row {
        Some((text, version, at)) => {
            VersionedSettings { settings: sql::from_json(&text)?, version, updated_at: (version > 1).then_some(at) }
        }
        None => VersionedSettings { version: 1, ..VersionedSettings::default() },
    })
}

/// A country's rates. Errors: `pricing.tax_rates_not_found`.
pub(crate) fn country(read: &mut Read<'_>, country: &str) -> Result<CountryRates> {
    read.opt(sql::COUNTRY, (country,))?.ok_or_else(no_country)
}

/// Up to one more than the page holds, by country.
pub(crate) fn countries(read: &mut Read<'_>, page: &PageRequest<String>) -> Result<Vec<CountryRates>> {
    read.all(sql::COUNTRIES, (page.after.clone().unwrap_or_default(), i64::from(page.limit) + 1))
}

/// Audit: coupons count their uses right.
pub(crate) fn audit_uses(read: &mut Read<'_>) -> Result<AuditOutcome> {
    let (coupons, uses, wrong): (i64, i64, i64) = read.one(sql::AUDIT_USES, ())?;
    Ok(AuditOutcome { ok: wrong == 0, detail: format!("{coupons} coupons, {uses} uses, {wrong} count them wrong") })
}

/// Audit: each redemption has its coupon, and customers' uses are counted right.
pub(crate) fn audit_redemptions(read: &mut Read<'_>) -> Result<AuditOutcome> {
    let (redemptions, lost): (i64, i64) = read.one(sql::AUDIT_REDEMPTIONS, ())?;
    let (customers, wrong): (i64, i64) = read.one(sql::AUDIT_CUSTOMERS, ())?;
    let detail = format!("{redemptions} redemptions, {lost} without a coupon; {customers} customers' counts, {wrong} wrong");
    Ok(AuditOutcome { ok: lost == 0 && wrong == 0, detail })
}

/// Audit: listed prices are not below zero and belong to a list.
pub(crate) fn audit_entries(read: &mut Read<'_>) -> Result<AuditOutcome> {
    let (prices, negative, lost): (i64, i64, i64) = read.one(sql::AUDIT_ENTRIES, ())?;
    let detail = format!("{prices} listed prices, {negative} below zero, {lost} without a list");
    Ok(AuditOutcome { ok: negative == 0 && lost == 0, detail })
}

/// Audit: the stored rules can be compiled.
pub(crate) fn audit_rules(read: &mut Read<'_>) -> Result<AuditOutcome> {
    let rules = crate::compiled::load(read, 0)?;
    let (lists, promotions, countries) = (rules.lists.len(), rules.promotions.len(), rules.countries.len());
    Ok(AuditOutcome { ok: true, detail: format!("{lists} lists, {promotions} promotions and {countries} countries' rates in use") })
}
