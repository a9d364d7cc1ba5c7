//! Every statement of pricing. `$1` is the tenant.

use crate::model::{Coupon, CouponSpec, PriceEntry, PriceList, Promotion};
use crate::tax::CountryRates;
use kernel::{Error, Result};
use serde::de::DeserializeOwned;
use store::{FromRow, Row, Sql};
use web::{InScope, Statement};

/// Which change of the rules is the last one.
pub(crate) const STAMP: &str = "SELECT stamp FROM pricing_state WHERE tenant_id = $1";

/// The tax settings.
pub(crate) const SETTINGS: &str = "SELECT settings, settings_version, settings_updated_at FROM pricing_state WHERE tenant_id = $1";

/// Notes that the rules have changed. Arguments: a stamp that never was, the settings where there are none yet, the time.
pub(crate) const TOUCH: &str = "INSERT INTO pricing_state (tenant_id, stamp, settings, settings_version, settings_updated_at)
VALUES ($1, $2, $3, 1, $4) ON CONFLICT (tenant_id) DO UPDATE SET stamp = excluded.stamp";

/// Writes the tax settings and their next version.
pub(crate) const SET_SETTINGS: &str =
    "UPDATE pricing_state SET settings = $2, settings_version = $3, settings_updated_at = $4 WHERE tenant_id = $1";

/// One price list.
pub(crate) const LIST: &str =
    "SELECT list_id, spec, version, created_at, updated_at FROM pricing_lists WHERE tenant_id = $1 AND list_id = $2";

/// A page of price lists, the newest first. Arguments: before this id, limit.
pub(crate) const LISTS: &str = "SELECT list_id, spec, version, created_at, updated_at FROM pricing_lists
WHERE tenant_id = $1 AND list_id < $2 ORDER BY list_id DESC LIMIT $3";

/// The lists in use.
pub(crate) const ACTIVE_LISTS: &str = "SELECT list_id, spec, version, created_at, updated_at FROM pricing_lists
WHERE tenant_id = $1 AND status = 'active' ORDER BY list_id LIMIT 1000";

/// How many lists are not archived.
pub(crate) const COUNT_LISTS: &str = "SELECT COUNT(*) FROM pricing_lists WHERE tenant_id = $1 AND status <> 'archived'";

/// Makes a list.
pub(crate) const INSERT_LIST: &str = "INSERT INTO pricing_lists (tenant_id, list_id, status, spec, version, created_at, updated_at)
VALUES ($1, $2, $3, $4, 1, $5, $5)";

/// Writes a list and its next version.
pub(crate) const UPDATE_LIST: &str =
    "UPDATE pricing_lists SET status = $3, spec = $4, version = $5, updated_at = $6 WHERE tenant_id = $1 AND list_id = $2";

/// A page of a list's prices. Arguments: list, after this SKU and quantity, limit.
pub(crate) const ENTRIES: &str = "SELECT sku, min_quantity, price_micros FROM pricing_entries
WHERE tenant_id = $1 AND list_id = $2 AND (sku, min_quantity) > ($3, $4) ORDER BY sku, min_quantity LIMIT $5";

/// What a list has of these SKUs, a row for each break.
pub(crate) const ENTRIES_OF_SKUS: Sql = Sql::per_engine(
    "SELECT sku, min_quantity FROM pricing_entries WHERE tenant_id = $1 AND list_id = $2 AND sku IN (SELECT value FROM json_each($3))",
    "SELECT sku, min_quantity FROM pricing_entries WHERE tenant_id = $1 AND list_id = $2 AND sku = ANY($3)",
);

/// The prices of these SKUs in these lists.
pub(crate) const PRICES: Sql = Sql::per_engine(
    "SELECT list_id, sku, min_quantity, price_micros FROM pricing_entries
WHERE tenant_id = $1 AND list_id IN (SELECT value FROM json_each($2)) AND sku IN (SELECT value FROM json_each($3))",
    "SELECT list_id, sku, min_quantity, price_micros FROM pricing_entries WHERE tenant_id = $1 AND list_id = ANY($2) AND sku = ANY($3)",
);

/// Sets a price.
pub(crate) const SET_ENTRY: &str = "INSERT INTO pricing_entries (tenant_id, list_id, sku, min_quantity, price_micros)
VALUES ($1, $2, $3, $4, $5) ON CONFLICT (tenant_id, list_id, sku, min_quantity) DO UPDATE SET price_micros = excluded.price_micros";

/// Removes a price.
pub(crate) const REMOVE_ENTRY: &str =
    "DELETE FROM pricing_entries WHERE tenant_id = $1 AND list_id = $2 AND sku = $3 AND min_quantity = $4";

/// One promotion.
pub(crate) const PROMOTION: &str =
    "SELECT promotion_id, spec, version, created_at, updated_at FROM pricing_promotions WHERE tenant_id = $1 AND promotion_id = $2";

/// A page of promotions, the newest first. Arguments: before this id, limit.
pub(crate) const PROMOTIONS: &str = "SELECT promotion_id, spec, version, created_at, updated_at FROM pricing_promotions
WHERE tenant_id = $1 AND promotion_id < $2 ORDER BY promotion_id DESC LIMIT $3";

/// The promotions in use.
pub(crate) const ACTIVE_PROMOTIONS: &str = "SELECT promotion_id, spec, version, created_at, updated_at FROM pricing_promotions
WHERE tenant_id = $1 AND status = 'active' ORDER BY promotion_id LIMIT 1000";

/// How many promotions are not archived.
pub(crate) const COUNT_PROMOTIONS: &str = "SELECT COUNT(*) FROM pricing_promotions WHERE tenant_id = $1 AND status <> 'archived'";

/// Makes a promotion.
pub(crate) const INSERT_PROMOTION: &str =
    "INSERT INTO pricing_promotions (tenant_id, promotion_id, status, spec, version, created_at, updated_at)
VALUES ($1, $2, $3, $4, 1, $5, $5)";

/// Writes a promotion and its next version.
pub(crate) const UPDATE_PROMOTION: &str =
    "UPDATE pricing_promotions SET status = $3, spec = $4, version = $5, updated_at = $6 WHERE tenant_id = $1 AND promotion_id = $2";

/// A country's rates.
pub(crate) const COUNTRY: &str =
    "SELECT country, periods, version, updated_at FROM pricing_tax_rates WHERE tenant_id = $1 AND country = $2";

/// A page of countries. Arguments: after this one, limit.
pub(crate) const COUNTRIES: &str =
    "SELECT country, periods, version, updated_at FROM pricing_tax_rates WHERE tenant_id = $1 AND country > $2 ORDER BY country LIMIT $3";

/// Sets a country's rates.
pub(crate) const SET_COUNTRY: &str = "INSERT INTO pricing_tax_rates (tenant_id, country, periods, version, updated_at)
VALUES ($1, $2, $3, $4, $5) ON CONFLICT (tenant_id, country) DO UPDATE SET
periods = excluded.periods, version = excluded.version, updated_at = excluded.updated_at";

/// Removes a country's rates.
pub(crate) const REMOVE_COUNTRY: &str = "DELETE FROM pricing_tax_rates WHERE tenant_id = $1 AND country = $2";

/// One coupon.
pub(crate) const COUPON: &str = "SELECT code, promotion_id, status, max_uses, max_uses_per_customer, starts_at, ends_at, uses, version,
created_at, updated_at FROM pricing_coupons WHERE tenant_id = $1 AND code = $2";

/// A page of coupons. Arguments: after this code, limit.
pub(crate) const COUPONS: &str = "SELECT code, promotion_id, status, max_uses, max_uses_per_customer, starts_at, ends_at, uses, version,
created_at, updated_at FROM pricing_coupons WHERE tenant_id = $1 AND code > $2 ORDER BY code LIMIT $3";

/// The same of one promotion. Arguments: promotion, after this code, limit.
pub(crate) const COUPONS_OF_PROMOTION: &str =
    "SELECT code, promotion_id, status, max_uses, max_uses_per_customer, starts_at, ends_at, uses, version,
created_at, updated_at FROM pricing_coupons WHERE tenant_id = $1 AND promotion_id = $2 AND code > $3 ORDER BY code LIMIT $4";

/// Makes a coupon, unless its code is taken.
pub(crate) const INSERT_COUPON: &str = "INSERT INTO pricing_coupons
(tenant_id, code, promotion_id, status, max_uses, max_uses_per_customer, starts_at, ends_at, uses, version, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, 1, $9, $9) ON CONFLICT DO NOTHING";

/// Writes how a coupon may be used, and its next version.
pub(crate) const UPDATE_COUPON: &str = "UPDATE pricing_coupons SET status = $3, max_uses = $4, max_uses_per_customer = $5, starts_at = $6,
ends_at = $7, version = $8, updated_at = $9 WHERE tenant_id = $1 AND code = $2";

/// What a redemption has to know. Arguments: code, customer or null, reference or null.
pub(crate) const REDEEMABLE: &str = "SELECT c.promotion_id, c.status, c.max_uses, c.max_uses_per_customer, c.starts_at, c.ends_at, c.uses,
COALESCE((SELECT u.uses FROM pricing_customer_uses u WHERE u.tenant_id = $1 AND u.code = $2 AND u.customer = $3), 0),
(SELECT r.kept FROM pricing_redemptions r WHERE r.tenant_id = $1 AND r.reference = $4 AND r.code = $2)
FROM pricing_coupons c WHERE c.tenant_id = $1 AND c.code = $2";

/// Uses a coupon once more, if it may be used once more.
pub(crate) const USE: &str = "UPDATE pricing_coupons SET uses = uses + 1
WHERE tenant_id = $1 AND code = $2 AND status = 'active' AND uses < COALESCE(max_uses, 9223372036854775807)";

/// The same of a customer. Arguments: code, customer, how often it may.
pub(crate) const USE_BY_CUSTOMER: &str = "INSERT INTO pricing_customer_uses AS u (tenant_id, code, customer, uses) VALUES ($1, $2, $3, 1)
ON CONFLICT (tenant_id, code, customer) DO UPDATE SET uses = u.uses + 1 WHERE u.uses < $4";

/// Writes down who holds it. Arguments: reference, code, customer, whether it counts for the customer, time.
pub(crate) const INSERT_REDEMPTION: &str =
    "INSERT INTO pricing_redemptions (tenant_id, reference, code, customer, counted, kept, redeemed_at)
VALUES ($1, $2, $3, $4, $5, FALSE, $6) ON CONFLICT DO NOTHING";

/// What a checkout holds or an order keeps.
pub(crate) const REDEMPTIONS_OF: &str =
    "SELECT code, customer, counted, kept FROM pricing_redemptions WHERE tenant_id = $1 AND reference = $2 ORDER BY code LIMIT 100";

/// What is held is kept.
pub(crate) const KEEP: &str = "UPDATE pricing_redemptions SET kept = TRUE WHERE tenant_id = $1 AND reference = $2 AND kept = FALSE";

/// Forgets one.
pub(crate) const REMOVE_REDEMPTION: &str = "DELETE FROM pricing_redemptions WHERE tenant_id = $1 AND reference = $2 AND code = $3";

/// Gives a use back.
pub(crate) const GIVE_BACK: &str = "UPDATE pricing_coupons SET uses = uses - 1 WHERE tenant_id = $1 AND code = $2 AND uses > 0";

/// Gives a customer's use back.
pub(crate) const GIVE_BACK_TO_CUSTOMER: &str =
    "UPDATE pricing_customer_uses SET uses = uses - 1 WHERE tenant_id = $1 AND code = $2 AND customer = $3 AND uses > 0";

/// A page of a coupon's redemptions. Arguments: code, after this reference, limit.
pub(crate) const REDEMPTIONS: &str = "SELECT reference, customer, kept, redeemed_at FROM pricing_redemptions
WHERE tenant_id = $1 AND code = $2 AND reference > $3 ORDER BY reference LIMIT $4";

/// Audit: coupons, their uses, and how many of them count them wrong.
pub(crate) const AUDIT_USES: &str = "SELECT COUNT(*), CAST(COALESCE(SUM(c.uses), 0) AS BIGINT),
COUNT(CASE WHEN c.uses <> (SELECT COUNT(*) FROM pricing_redemptions r WHERE r.tenant_id = $1 AND r.code = c.code) THEN 1 END)
FROM pricing_coupons c WHERE c.tenant_id = $1";

/// Audit: redemptions, and how many of them have no coupon.
pub(crate) const AUDIT_REDEMPTIONS: &str = "SELECT COUNT(*), COUNT(CASE WHEN c.code IS NULL THEN 1 END)
FROM pricing_redemptions r LEFT JOIN pricing_coupons c ON c.tenant_id = $1 AND c.code = r.code WHERE r.tenant_id = $1";

/// Audit: customers' counts, and how many of them are wrong.
pub(crate) const AUDIT_CUSTOMERS: &str = "SELECT COUNT(*), COUNT(CASE WHEN u.uses <> (SELECT COUNT(*) FROM pricing_redemptions r
WHERE r.tenant_id = $1 AND r.code = u.code AND r.customer = u.customer AND r.counted = TRUE) THEN 1 END)
FROM pricing_customer_uses u WHERE u.tenant_id = $1";

/// Audit: prices, how many are below zero, how many have no list.
pub(crate) const AUDIT_ENTRIES: &str =
    "SELECT COUNT(*), COUNT(CASE WHEN e.price_micros < 0 THEN 1 END), COUNT(CASE WHEN l.list_id IS NULL THEN 1 END)
FROM pricing_entries e LEFT JOIN pricing_lists l ON l.tenant_id = $1 AND l.list_id = e.list_id WHERE e.tenant_id = $1";

/// All of them, for tests that prepare each on both engines.
pub(crate) fn statements() -> Vec<Statement> {
    let all: [(&'static str, Sql); 44] = [
        ("STAMP", STAMP.into()),
        ("SETTINGS", SETTINGS.into()),
        ("TOUCH", TOUCH.into()),
        ("SET_SETTINGS", SET_SETTINGS.into()),
        ("LIST", LIST.into()),
        ("LISTS", LISTS.into()),
        ("ACTIVE_LISTS", ACTIVE_LISTS.into()),
        ("COUNT_LISTS", COUNT_LISTS.into()),
        ("INSERT_LIST", INSERT_LIST.into()),
        ("UPDATE_LIST", UPDATE_LIST.into()),
        ("ENTRIES", ENTRIES.into()),
        ("ENTRIES_OF_SKUS", ENTRIES_OF_SKUS),
        ("PRICES", PRICES),
        ("SET_ENTRY", SET_ENTRY.into()),
        ("REMOVE_ENTRY", REMOVE_ENTRY.into()),
        ("PROMOTION", PROMOTION.into()),
        ("PROMOTIONS", PROMOTIONS.into()),
        ("ACTIVE_PROMOTIONS", ACTIVE_PROMOTIONS.into()),
        ("COUNT_PROMOTIONS", COUNT_PROMOTIONS.into()),
        ("INSERT_PROMOTION", INSERT_PROMOTION.into()),
        ("UPDATE_PROMOTION", UPDATE_PROMOTION.into()),
        ("COUNTRY", COUNTRY.into()),
        ("COUNTRIES", COUNTRIES.into()),
        ("SET_COUNTRY", SET_COUNTRY.into()),
        ("REMOVE_COUNTRY", REMOVE_COUNTRY.into()),
        ("COUPON", COUPON.into()),
        ("COUPONS", COUPONS.into()),
        ("COUPONS_OF_PROMOTION", COUPONS_OF_PROMOTION.into()),
        ("INSERT_COUPON", INSERT_COUPON.into()),
        ("UPDATE_COUPON", UPDATE_COUPON.into()),
        ("REDEEMABLE", REDEEMABLE.into()),
        ("USE", USE.into()),
        ("USE_BY_CUSTOMER", USE_BY_CUSTOMER.into()),
        ("INSERT_REDEMPTION", INSERT_REDEMPTION.into()),
        ("REDEMPTIONS_OF", REDEMPTIONS_OF.into()),
        ("KEEP", KEEP.into()),
        ("REMOVE_REDEMPTION", REMOVE_REDEMPTION.into()),
        ("GIVE_BACK", GIVE_BACK.into()),
        ("GIVE_BACK_TO_CUSTOMER", GIVE_BACK_TO_CUSTOMER.into()),
        ("REDEMPTIONS", REDEMPTIONS.into()),
        ("AUDIT_USES", AUDIT_USES.into()),
        ("AUDIT_REDEMPTIONS", AUDIT_REDEMPTIONS.into()),
        ("AUDIT_CUSTOMERS", AUDIT_CUSTOMERS.into()),
        ("AUDIT_ENTRIES", AUDIT_ENTRIES.into()),
    ];
    all.into_iter().map(|(name, sql)| Statement::new(name, sql, InScope::Tenant)).collect()
}

/// What is stored as JSON.
pub(crate) fn from_json<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| Error::internal("what is stored of pricing is not of its form").caused_by(e))
}

/// As JSON, to be stored.
pub(crate) fn to_json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::internal("what is to be stored of pricing has no JSON").caused_by(e))
}

impl FromRow for PriceList {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(PriceList {
            price_list_id: row.get(0)?,
            spec: from_json(&row.get::<String>(1)?)?,
            version: row.get(2)?,
            created_at: row.get(3)?,
            updated_at: row.get(4)?,
        })
    }
}

impl FromRow for Promotion {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(Promotion {
            promotion_id: row.get(0)?,
            spec: from_json(&row.get::<String>(1)?)?,
            version: row.get(2)?,
            created_at: row.get(3)?,
            updated_at: row.get(4)?,
        })
    }
}

impl FromRow for PriceEntry {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(PriceEntry { sku: row.get(0)?, min_quantity: row.get(1)?, price: row.get(2)? })
    }
}

impl FromRow for CountryRates {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(CountryRates {
            country: row.get(0)?,
            periods: from_json(&row.get::<String>(1)?)?,
            version: row.get(2)?,
            updated_at: row.get(3)?,
        })
    }
}

impl FromRow for Coupon {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(Coupon {
            code: row.get(0)?,
            promotion_id: row.get(1)?,
            spec: CouponSpec {
                status: row.get(2)?,
                max_uses: row.get(3)?,
                max_uses_per_customer: row.get(4)?,
                starts_at: row.get(5)?,
                ends_at: row.get(6)?,
            },
            uses: row.get(7)?,
            version: row.get(8)?,
            created_at: row.get(9)?,
            updated_at: row.get(10)?,
        })
    }
}
