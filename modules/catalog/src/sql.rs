//! Every statement of the catalog. `$1` is the tenant.

use crate::model::{Dimensions, PriceObservation, Product, ProductStatus, VariantOption, VariantStatus};
use kernel::{Error, Result};
use store::{FromRow, FromValue, Row, Sql, ToValue, Value, ValueRef};
use web::{InScope, Statement};

/// A statement that works on many rows at once. They come as one JSON array of arrays, the second argument: `r.value ->> 0` is the
/// first column of a row, as text on PostgreSQL, so that numbers are cast.
macro_rules! set_based {
    ($head:literal, $tail:literal) => {
        Sql::per_engine(
            concat!($head, " FROM json_each($2) AS r ", $tail),
            concat!($head, " FROM jsonb_array_elements(CAST(CAST($2 AS TEXT) AS JSONB)) AS r(value) ", $tail),
        )
    };
}

/// A statement that looks up many keys at once; they are the second argument.
macro_rules! any_of {
    ($head:literal, $tail:literal) => {
        Sql::per_engine(concat!($head, " IN (SELECT value FROM json_each($2)) ", $tail), concat!($head, " = ANY($2) ", $tail))
    };
}

/// A product's columns, as [`Product`] reads them.
macro_rules! product_columns {
    () => {
        "product_id, external_id, title, description, status, variants, version, created_at, updated_at, tax_class"
    };
}

/// A variant's columns, as [`Variant`] reads them.
macro_rules! variant_columns {
    () => {
        "v.variant_id, v.product_id, v.sku, v.title, v.options, v.barcode, v.status, v.version, v.created_at, v.updated_at, \
         v.tax_class, v.weight_g, v.length_mm, v.width_mm, v.height_mm"
    };
}

/// One product.
pub(crate) const PRODUCT: &str = concat!("SELECT ", product_columns!(), " FROM catalog_products WHERE tenant_id = $1 AND product_id = $2");

/// The product with an external id.
pub(crate) const PRODUCT_BY_EXTERNAL_ID: &str = "SELECT product_id FROM catalog_products WHERE tenant_id = $1 AND external_id = $2";

/// A page of products, the newest first. Arguments: before this id, status or null, limit.
pub(crate) const PRODUCTS: &str = "SELECT product_id, external_id, title, '', status, variants, version, created_at, updated_at, tax_class
FROM catalog_products WHERE tenant_id = $1 AND product_id < $2 AND status = COALESCE(CAST($3 AS TEXT), status)
ORDER BY product_id DESC LIMIT $4";

/// A page of products in the order of their last change. Arguments: after this time and id, status or null, limit.
pub(crate) const PRODUCTS_BY_CHANGE: &str = "SELECT product_id, external_id, title, '', status, variants, version, created_at, updated_at, tax_class
FROM catalog_products WHERE tenant_id = $1 AND (updated_at, product_id) > ($2, $3) AND status = COALESCE(CAST($4 AS TEXT), status)
ORDER BY updated_at, product_id LIMIT $5";

/// The product with a SKU, if it passes the filters. Arguments: SKU, status or null, changed since.
pub(crate) const PRODUCT_BY_SKU: &str =
    "SELECT p.product_id, p.external_id, p.title, '', p.status, p.variants, p.version, p.created_at, p.updated_at, p.tax_class
FROM catalog_variants v JOIN catalog_products p ON p.tenant_id = $1 AND p.product_id = v.product_id
WHERE v.tenant_id = $1 AND v.sku = $2 AND p.status = COALESCE(CAST($3 AS TEXT), p.status) AND p.updated_at >= $4";

/// Products that are for sale, the newest first. Arguments: before this id, a pattern of small letters, limit.
pub(crate) const SHOP_PRODUCTS: &str = "SELECT product_id FROM catalog_products
WHERE tenant_id = $1 AND product_id < $2 AND status = 'active' AND LOWER(title) LIKE $3 ESCAPE '!' ORDER BY product_id DESC LIMIT $4";

/// One variant.
pub(crate) const VARIANT: &str = concat!("SELECT ", variant_columns!(), " FROM catalog_variants v WHERE v.tenant_id = $1 AND v.variant_id = $2");

/// The variant with a SKU.
pub(crate) const VARIANT_BY_SKU: &str =
    concat!("SELECT ", variant_columns!(), " FROM catalog_variants v WHERE v.tenant_id = $1 AND v.sku = $2");

/// The variants of a product, at most as many as one may have.
pub(crate) const VARIANTS_OF_PRODUCT: &str =
    concat!("SELECT ", variant_columns!(), " FROM catalog_variants v WHERE v.tenant_id = $1 AND v.product_id = $2 ORDER BY v.variant_id LIMIT 100");

/// The prices of a variant.
pub(crate) const PRICES_OF_VARIANT: &str =
    "SELECT currency, price_micros FROM catalog_prices WHERE tenant_id = $1 AND variant_id = $2 ORDER BY currency LIMIT 200";

/// The prices of a product's variants.
pub(crate) const PRICES_OF_PRODUCT: &str = "SELECT c.variant_id, c.currency, c.price_micros
FROM catalog_variants v JOIN catalog_prices c ON c.tenant_id = $1 AND c.variant_id = v.variant_id
WHERE v.tenant_id = $1 AND v.product_id = $2 ORDER BY c.variant_id, c.currency LIMIT 20000";

/// What an order copies of each of these variants; a row for each price, or one without.
pub(crate) const SNAPSHOTS: Sql = any_of!(
    "SELECT v.variant_id, v.product_id, v.sku, v.title, p.title, v.status, p.status, c.currency, c.price_micros, COALESCE(v.tax_class, p.tax_class), v.weight_g, v.length_mm, v.width_mm, v.height_mm
FROM catalog_variants v JOIN catalog_products p ON p.tenant_id = $1 AND p.product_id = v.product_id
LEFT JOIN catalog_prices c ON c.tenant_id = $1 AND c.variant_id = v.variant_id
WHERE v.tenant_id = $1 AND v.variant_id",
    "ORDER BY v.variant_id, c.currency"
);

/// A page of all variants, with what their products are called and how many variants they have. Arguments: after this id, limit.
pub(crate) const EXPORT_VARIANTS: &str = concat!(
    "SELECT ",
    variant_columns!(),
    ", p.external_id, p.variants
FROM catalog_variants v JOIN catalog_products p ON p.tenant_id = $1 AND p.product_id = v.product_id
WHERE v.tenant_id = $1 AND v.variant_id > $2 ORDER BY v.variant_id LIMIT $3"
);

/// The prices of a page of variants. Arguments: after this id, to this one, the most that there may be.
pub(crate) const EXPORT_PRICES: &str = "SELECT variant_id, currency, price_micros FROM catalog_prices
WHERE tenant_id = $1 AND variant_id > $2 AND variant_id <= $3 ORDER BY variant_id, currency LIMIT $4";

/// The variants of these SKUs.
pub(crate) const VARIANT_IDS_BY_SKU: Sql =
    any_of!("SELECT sku, variant_id, product_id FROM catalog_variants WHERE tenant_id = $1 AND sku", "");

/// What a bulk upsert has to know of these SKUs.
pub(crate) const UPSERT_VARIANTS: Sql = any_of!(
    "SELECT v.variant_id, v.product_id, v.sku, v.title, v.options, v.barcode, v.status, v.version, v.created_at, v.updated_at,
v.tax_class, v.weight_g, v.length_mm, v.width_mm, v.height_mm, p.external_id, p.title, p.status, p.variants, p.version
FROM catalog_variants v JOIN catalog_products p ON p.tenant_id = $1 AND p.product_id = v.product_id
WHERE v.tenant_id = $1 AND v.sku",
    ""
);

/// What a bulk upsert has to know of the products with these external ids.
pub(crate) const UPSERT_PRODUCTS: Sql = any_of!(
    "SELECT product_id, external_id, title, status, variants, version FROM catalog_products WHERE tenant_id = $1 AND external_id",
    ""
);

/// The prices of these variants.
pub(crate) const UPSERT_PRICES: Sql =
    any_of!("SELECT variant_id, currency, price_micros FROM catalog_prices WHERE tenant_id = $1 AND variant_id", "");

/// Makes a product, unless its external id is taken.
pub(crate) const INSERT_PRODUCT: &str = "INSERT INTO catalog_products (tenant_id, product_id, external_id, title, description, status, variants, version, created_at, updated_at, tax_class)
VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8, $8, $9) ON CONFLICT DO NOTHING";

/// Makes a variant, unless its SKU is taken.
pub(crate) const INSERT_VARIANT: &str = "INSERT INTO catalog_variants (tenant_id, variant_id, product_id, sku, title, options, barcode, status, version, created_at, updated_at,
tax_class, weight_g, length_mm, width_mm, height_mm)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 1, $9, $9, $10, $11, $12, $13, $14) ON CONFLICT DO NOTHING";

/// Writes a product's fields and its next version.
pub(crate) const UPDATE_PRODUCT: &str =
    "UPDATE catalog_products SET external_id = $3, title = $4, description = $5, status = $6, version = $7, updated_at = $8, tax_class = $9
WHERE tenant_id = $1 AND product_id = $2";

/// Raises a product's version because something under it changed, and counts the variants that were added.
pub(crate) const TOUCH_PRODUCT: &str =
    "UPDATE catalog_products SET version = version + 1, variants = variants + CAST($3 AS BIGINT), updated_at = $4
WHERE tenant_id = $1 AND product_id = $2";

/// Writes a variant's fields and its next version.
pub(crate) const UPDATE_VARIANT: &str =
    "UPDATE catalog_variants SET sku = $3, title = $4, options = $5, barcode = $6, status = $7, version = $8, updated_at = $9,
tax_class = $10, weight_g = $11, length_mm = $12, width_mm = $13, height_mm = $14
WHERE tenant_id = $1 AND variant_id = $2";

/// Sets a price.
pub(crate) const SET_PRICE: &str =
    "INSERT INTO catalog_prices (tenant_id, variant_id, currency, price_micros, updated_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (tenant_id, variant_id, currency) DO UPDATE SET price_micros = excluded.price_micros, updated_at = excluded.updated_at";

/// Makes many products: `[product_id, external_id, title, variants]`; then the time.
pub(crate) const INSERT_PRODUCTS: Sql = set_based!(
    "INSERT INTO catalog_products (tenant_id, product_id, external_id, title, description, status, variants, version, created_at, updated_at)
SELECT CAST($1 AS BIGINT), CAST(r.value ->> 0 AS BIGINT), r.value ->> 1, r.value ->> 2, '', 'active', CAST(r.value ->> 3 AS BIGINT), 1,
CAST($3 AS BIGINT), CAST($3 AS BIGINT)",
    ""
);

/// Makes many variants: `[variant_id, product_id, sku, title, options, barcode, tax_class, weight_g, length_mm, width_mm, height_mm]`; then the time.
pub(crate) const INSERT_VARIANTS: Sql = set_based!(
    "INSERT INTO catalog_variants (tenant_id, variant_id, product_id, sku, title, options, barcode, tax_class, weight_g, length_mm, width_mm, height_mm, status, version, created_at, updated_at)
SELECT CAST($1 AS BIGINT), CAST(r.value ->> 0 AS BIGINT), CAST(r.value ->> 1 AS BIGINT), r.value ->> 2, r.value ->> 3, r.value ->> 4, r.value ->> 5, r.value ->> 6,
CAST(r.value ->> 7 AS BIGINT), CAST(r.value ->> 8 AS BIGINT), CAST(r.value ->> 9 AS BIGINT), CAST(r.value ->> 10 AS BIGINT), 'active', 1,
CAST($3 AS BIGINT), CAST($3 AS BIGINT)",
    ""
);

/// Changes many products: `[product_id, title, variants, version]`; then the time.
pub(crate) const UPDATE_PRODUCTS: Sql = set_based!(
    "UPDATE catalog_products SET title = r.value ->> 1, variants = CAST(r.value ->> 2 AS BIGINT), version = CAST(r.value ->> 3 AS BIGINT), updated_at = $3",
    "WHERE catalog_products.tenant_id = $1 AND catalog_products.product_id = CAST(r.value ->> 0 AS BIGINT)"
);

/// Changes many variants: `[variant_id, title, options, barcode, version, tax_class, weight_g, length_mm, width_mm, height_mm]`; then the time.
pub(crate) const UPDATE_VARIANTS: Sql = set_based!(
    "UPDATE catalog_variants SET title = r.value ->> 1, options = r.value ->> 2, barcode = r.value ->> 3, version = CAST(r.value ->> 4 AS BIGINT), updated_at = $3,
tax_class = r.value ->> 5, weight_g = CAST(r.value ->> 6 AS BIGINT), length_mm = CAST(r.value ->> 7 AS BIGINT), width_mm = CAST(r.value ->> 8 AS BIGINT), height_mm = CAST(r.value ->> 9 AS BIGINT)",
    "WHERE catalog_variants.tenant_id = $1 AND catalog_variants.variant_id = CAST(r.value ->> 0 AS BIGINT)"
);

/// Sets many prices: `[variant_id, currency, price_micros]`; then the time.
pub(crate) const SET_PRICES: Sql = set_based!(
    "INSERT INTO catalog_prices (tenant_id, variant_id, currency, price_micros, updated_at)
SELECT CAST($1 AS BIGINT), CAST(r.value ->> 0 AS BIGINT), r.value ->> 1, CAST(r.value ->> 2 AS BIGINT), CAST($3 AS BIGINT)",
    "WHERE TRUE ON CONFLICT (tenant_id, variant_id, currency) DO UPDATE SET price_micros = excluded.price_micros, updated_at = excluded.updated_at"
);

/// Adds many observations, no two of the same key: `[variant_id, currency, price_micros, first_seen, last_seen, times_seen]`.
pub(crate) const OBSERVE_PRICES: Sql = set_based!(
    "INSERT INTO catalog_price_observations AS o (tenant_id, variant_id, currency, price_micros, first_seen, last_seen, times_seen)
SELECT CAST($1 AS BIGINT), CAST(r.value ->> 0 AS BIGINT), r.value ->> 1, CAST(r.value ->> 2 AS BIGINT), CAST(r.value ->> 3 AS BIGINT),
CAST(r.value ->> 4 AS BIGINT), CAST(r.value ->> 5 AS BIGINT)",
    "WHERE TRUE ON CONFLICT (tenant_id, variant_id, currency, price_micros) DO UPDATE SET
first_seen = CASE WHEN excluded.first_seen < o.first_seen THEN excluded.first_seen ELSE o.first_seen END,
last_seen = CASE WHEN excluded.last_seen > o.last_seen THEN excluded.last_seen ELSE o.last_seen END,
times_seen = o.times_seen + excluded.times_seen"
);

/// A page of a variant's observations. Arguments: variant, after this currency and price, limit.
pub(crate) const OBSERVATIONS: &str = "SELECT currency, price_micros, first_seen, last_seen, times_seen
FROM catalog_price_observations WHERE tenant_id = $1 AND variant_id = $2 AND (currency, price_micros) > ($3, $4)
ORDER BY currency, price_micros LIMIT $5";

/// Audit: variants, and how many of them have no product.
pub(crate) const AUDIT_ORPHANS: &str = "SELECT COUNT(*), COUNT(CASE WHEN p.product_id IS NULL THEN 1 END)
FROM catalog_variants v LEFT JOIN catalog_products p ON p.tenant_id = $1 AND p.product_id = v.product_id WHERE v.tenant_id = $1";

/// Audit: variants and distinct SKUs.
pub(crate) const AUDIT_SKUS: &str = "SELECT COUNT(*), COUNT(DISTINCT sku) FROM catalog_variants WHERE tenant_id = $1";

/// Audit: products, and how many of them count their variants wrong.
pub(crate) const AUDIT_COUNTS: &str = "SELECT COUNT(*),
COUNT(CASE WHEN p.variants <> (SELECT COUNT(*) FROM catalog_variants v WHERE v.tenant_id = $1 AND v.product_id = p.product_id) THEN 1 END)
FROM catalog_products p WHERE p.tenant_id = $1";

/// Audit: the currencies of prices, with how many there are, how many are below zero and how many have no variant.
pub(crate) const AUDIT_PRICES: &str = "SELECT c.currency, COUNT(*), COUNT(CASE WHEN c.price_micros < 0 THEN 1 END), COUNT(CASE WHEN v.variant_id IS NULL THEN 1 END)
FROM catalog_prices c LEFT JOIN catalog_variants v ON v.tenant_id = $1 AND v.variant_id = c.variant_id WHERE c.tenant_id = $1 GROUP BY c.currency";

/// Audit: the currencies of observations, with how many there are, how many contradict themselves and how many have no variant.
pub(crate) const AUDIT_OBSERVATIONS: &str = "SELECT o.currency, COUNT(*),
COUNT(CASE WHEN o.times_seen < 1 OR o.last_seen < o.first_seen THEN 1 END), COUNT(CASE WHEN v.variant_id IS NULL THEN 1 END)
FROM catalog_price_observations o LEFT JOIN catalog_variants v ON v.tenant_id = $1 AND v.variant_id = o.variant_id
WHERE o.tenant_id = $1 GROUP BY o.currency";

/// All of them, for tests that prepare each on both engines.
pub(crate) fn statements() -> Vec<Statement> {
    let all: [(&'static str, Sql); 36] = [
        ("PRODUCT", PRODUCT.into()),
        ("PRODUCT_BY_EXTERNAL_ID", PRODUCT_BY_EXTERNAL_ID.into()),
        ("PRODUCTS", PRODUCTS.into()),
        ("PRODUCTS_BY_CHANGE", PRODUCTS_BY_CHANGE.into()),
        ("PRODUCT_BY_SKU", PRODUCT_BY_SKU.into()),
        ("SHOP_PRODUCTS", SHOP_PRODUCTS.into()),
        ("VARIANT", VARIANT.into()),
        ("VARIANT_BY_SKU", VARIANT_BY_SKU.into()),
        ("VARIANTS_OF_PRODUCT", VARIANTS_OF_PRODUCT.into()),
        ("PRICES_OF_VARIANT", PRICES_OF_VARIANT.into()),
        ("PRICES_OF_PRODUCT", PRICES_OF_PRODUCT.into()),
        ("SNAPSHOTS", SNAPSHOTS),
        ("EXPORT_VARIANTS", EXPORT_VARIANTS.into()),
        ("EXPORT_PRICES", EXPORT_PRICES.into()),
        ("VARIANT_IDS_BY_SKU", VARIANT_IDS_BY_SKU),
        ("UPSERT_VARIANTS", UPSERT_VARIANTS),
        ("UPSERT_PRODUCTS", UPSERT_PRODUCTS),
        ("UPSERT_PRICES", UPSERT_PRICES),
        ("INSERT_PRODUCT", INSERT_PRODUCT.into()),
        ("INSERT_VARIANT", INSERT_VARIANT.into()),
        ("UPDATE_PRODUCT", UPDATE_PRODUCT.into()),
        ("TOUCH_PRODUCT", TOUCH_PRODUCT.into()),
        ("UPDATE_VARIANT", UPDATE_VARIANT.into()),
        ("SET_PRICE", SET_PRICE.into()),
        ("INSERT_PRODUCTS", INSERT_PRODUCTS),
        ("INSERT_VARIANTS", INSERT_VARIANTS),
        ("UPDATE_PRODUCTS", UPDATE_PRODUCTS),
        ("UPDATE_VARIANTS", UPDATE_VARIANTS),
        ("SET_PRICES", SET_PRICES),
        ("OBSERVE_PRICES", OBSERVE_PRICES),
        ("OBSERVATIONS", OBSERVATIONS.into()),
        ("AUDIT_ORPHANS", AUDIT_ORPHANS.into()),
        ("AUDIT_SKUS", AUDIT_SKUS.into()),
        ("AUDIT_COUNTS", AUDIT_COUNTS.into()),
        ("AUDIT_PRICES", AUDIT_PRICES.into()),
        ("AUDIT_OBSERVATIONS", AUDIT_OBSERVATIONS.into()),
    ];
    all.into_iter().map(|(name, sql)| Statement::new(name, sql, InScope::Tenant)).collect()
}

impl ToValue for ProductStatus {
    fn to_value(&self) -> Value<'_> {
        Value::Text(self.as_str().into())
    }
}

impl FromValue for ProductStatus {
    fn from_value(value: ValueRef<'_>) -> Result<Self> {
        let all = [ProductStatus::Draft, ProductStatus::Active, ProductStatus::Archived];
        all.into_iter().find(|s| value == ValueRef::Text(s.as_str())).ok_or_else(|| Error::internal("a product has an unknown status"))
    }
}

impl ToValue for VariantStatus {
    fn to_value(&self) -> Value<'_> {
        Value::Text(self.as_str().into())
    }
}

impl FromValue for VariantStatus {
    fn from_value(value: ValueRef<'_>) -> Result<Self> {
        let all = [VariantStatus::Active, VariantStatus::Archived];
        all.into_iter().find(|s| value == ValueRef::Text(s.as_str())).ok_or_else(|| Error::internal("a variant has an unknown status"))
    }
}

/// Options as they are stored.
pub(crate) fn options_to_json(options: &[VariantOption]) -> String {
    serde_json::to_string(options).expect("options are plain strings")
}

/// Options as they were stored.
pub(crate) fn options_from_json(json: &str) -> Result<Vec<VariantOption>> {
    serde_json::from_str(json).map_err(|e| Error::internal("a variant's options are not of their form").caused_by(e))
}

/// Three columns from `first` on: all of them, or none.
pub(crate) fn dimensions(row: &dyn Row, first: usize) -> Result<Option<Dimensions>> {
    let sides: (Option<i64>, Option<i64>, Option<i64>) = (row.get(first)?, row.get(first + 1)?, row.get(first + 2)?);
    let (Some(length_mm), Some(width_mm), Some(height_mm)) = sides else { return Ok(None) };
    Ok(Some(Dimensions { length_mm, width_mm, height_mm }))
}

/// As they are stored.
pub(crate) fn sides(dimensions: Option<Dimensions>) -> [Option<i64>; 3] {
    [dimensions.map(|d| d.length_mm), dimensions.map(|d| d.width_mm), dimensions.map(|d| d.height_mm)]
}

impl FromRow for Product {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(Product {
            product_id: row.get(0)?,
            external_id: row.get(1)?,
            title: row.get(2)?,
            description: row.get(3)?,
            status: row.get(4)?,
            variant_count: row.get(5)?,
            version: row.get(6)?,
            created_at: row.get(7)?,
            updated_at: row.get(8)?,
            tax_class: row.get(9)?,
        })
    }
}

/// A variant without its prices.
impl FromRow for crate::model::Variant {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(crate::model::Variant {
            variant_id: row.get(0)?,
            product_id: row.get(1)?,
            sku: row.get(2)?,
            title: row.get(3)?,
            options: options_from_json(&row.get::<String>(4)?)?,
            barcode: row.get(5)?,
            status: row.get(6)?,
            prices: Vec::new(),
            version: row.get(7)?,
            created_at: row.get(8)?,
            updated_at: row.get(9)?,
            tax_class: row.get(10)?,
            weight_g: row.get(11)?,
            dimensions: dimensions(row, 12)?,
        })
    }
}

impl FromRow for PriceObservation {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(PriceObservation {
            currency: row.get(0)?,
            price: row.get(1)?,
            first_seen: row.get(2)?,
            last_seen: row.get(3)?,
            times_seen: row.get(4)?,
        })
    }
}
