//! Statements about zones, methods and rates. `$1` is the tenant.

pub(crate) const ZONES: &str = "
SELECT zone_id, name, areas, version, created_at, updated_at FROM shipping_zones WHERE tenant_id = $1 ORDER BY zone_id LIMIT 250";

pub(crate) const ZONE: &str = "
SELECT zone_id, name, areas, version, created_at, updated_at FROM shipping_zones WHERE tenant_id = $1 AND zone_id = $2";

pub(crate) const ZONES_PAGE: &str = "
SELECT zone_id, name, areas, version, created_at, updated_at FROM shipping_zones WHERE tenant_id = $1 AND zone_id < $2
ORDER BY zone_id DESC LIMIT $3";

pub(crate) const INSERT_ZONE: &str = "
INSERT INTO shipping_zones (tenant_id, zone_id, name, areas, version, created_at, updated_at) VALUES ($1, $2, $3, $4, 1, $5, $5)";

/// `$3` is the version that was read.
pub(crate) const UPDATE_ZONE: &str = "
UPDATE shipping_zones SET version = $4, name = $5, areas = $6, updated_at = $7 WHERE tenant_id = $1 AND zone_id = $2 AND version = $3";

pub(crate) const DELETE_ZONE: &str = "DELETE FROM shipping_zones WHERE tenant_id = $1 AND zone_id = $2";

pub(crate) const DELETE_RATES_OF_ZONE: &str = "DELETE FROM shipping_rates WHERE tenant_id = $1 AND zone_id = $2";

pub(crate) const METHODS: &str = "
SELECT method_id, name, active, min_days, max_days, service, version, created_at, updated_at
FROM shipping_methods WHERE tenant_id = $1 ORDER BY method_id LIMIT 100";

pub(crate) const METHOD: &str = "
SELECT method_id, name, active, min_days, max_days, service, version, created_at, updated_at
FROM shipping_methods WHERE tenant_id = $1 AND method_id = $2";

pub(crate) const METHODS_PAGE: &str = "
SELECT method_id, name, active, min_days, max_days, service, version, created_at, updated_at
FROM shipping_methods WHERE tenant_id = $1 AND method_id < $2 ORDER BY method_id DESC LIMIT $3";

pub(crate) const COUNT_METHODS: &str = "SELECT CAST(COUNT(*) AS BIGINT) FROM shipping_methods WHERE tenant_id = $1";

pub(crate) const INSERT_METHOD: &str = "
INSERT INTO shipping_methods (tenant_id, method_id, name, active, min_days, max_days, service, version, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8, $8)";

/// `$3` is the version that was read.
pub(crate) const UPDATE_METHOD: &str = "
UPDATE shipping_methods SET version = $4, name = $5, active = $6, min_days = $7, max_days = $8, service = $9, updated_at = $10
WHERE tenant_id = $1 AND method_id = $2 AND version = $3";

pub(crate) const RATES: &str = "
SELECT method_id, zone_id, currency, basis, tiers, free_from_minor, version, updated_at
FROM shipping_rates WHERE tenant_id = $1 ORDER BY method_id, zone_id, currency LIMIT 2000";

pub(crate) const RATES_OF_METHOD: &str = "
SELECT method_id, zone_id, currency, basis, tiers, free_from_minor, version, updated_at
FROM shipping_rates WHERE tenant_id = $1 AND method_id = $2 AND (zone_id, currency) > ($3, $4) ORDER BY zone_id, currency LIMIT $5";

pub(crate) const RATE: &str = "
SELECT method_id, zone_id, currency, basis, tiers, free_from_minor, version, updated_at
FROM shipping_rates WHERE tenant_id = $1 AND method_id = $2 AND zone_id = $3 AND currency = $4";

pub(crate) const COUNT_RATES: &str = "SELECT CAST(COUNT(*) AS BIGINT) FROM shipping_rates WHERE tenant_id = $1";

pub(crate) const SET_RATE: &str = "
INSERT INTO shipping_rates (tenant_id, method_id, zone_id, currency, basis, tiers, free_from_minor, version, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (tenant_id, method_id, zone_id, currency) DO UPDATE SET basis = excluded.basis, tiers = excluded.tiers,
  free_from_minor = excluded.free_from_minor, version = excluded.version, updated_at = excluded.updated_at";

pub(crate) const DELETE_RATE: &str = "
DELETE FROM shipping_rates WHERE tenant_id = $1 AND method_id = $2 AND zone_id = $3 AND currency = $4";

/// Rates whose method or zone is not there, and how many rates there are.
pub(crate) const AUDIT_RATES: &str = "
SELECT CAST(COUNT(*) AS BIGINT), CAST(COALESCE(SUM(CASE WHEN m.method_id IS NULL OR z.zone_id IS NULL THEN 1 ELSE 0 END), 0) AS BIGINT)
FROM shipping_rates r
LEFT JOIN shipping_methods m ON m.tenant_id = $1 AND m.method_id = r.method_id
LEFT JOIN shipping_zones z ON z.tenant_id = $1 AND z.zone_id = r.zone_id
WHERE r.tenant_id = $1";

/// Every statement by its name.
pub(crate) const STATEMENTS: &[(&str, &str)] = &[
    ("ZONES", ZONES),
    ("ZONE", ZONE),
    ("ZONES_PAGE", ZONES_PAGE),
    ("INSERT_ZONE", INSERT_ZONE),
    ("UPDATE_ZONE", UPDATE_ZONE),
    ("DELETE_ZONE", DELETE_ZONE),
    ("DELETE_RATES_OF_ZONE", DELETE_RATES_OF_ZONE),
    ("METHODS", METHODS),
    ("METHOD", METHOD),
    ("METHODS_PAGE", METHODS_PAGE),
    ("COUNT_METHODS", COUNT_METHODS),
    ("INSERT_METHOD", INSERT_METHOD),
    ("UPDATE_METHOD", UPDATE_METHOD),
    ("RATES", RATES),
    ("RATES_OF_METHOD", RATES_OF_METHOD),
    ("RATE", RATE),
    ("COUNT_RATES", COUNT_RATES),
    ("SET_RATE", SET_RATE),
    ("DELETE_RATE", DELETE_RATE),
    ("AUDIT_RATES", AUDIT_RATES),
];
