//! Every statement of the catalog. `$1` is the tenant.

use crate::model::{Dimensions, PriceObservation, Product, ProductStatus, VariantStatus};
use kernel::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
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

/// The same of rows that have a key of their own beside the primary one: on SQLite, whose planner takes the tenant's part of the primary
/// key to be as good as a whole secondary key, the keys come first, each of them a search.
macro_rules! by_key {
    ($columns:literal, $from:literal, $key:literal) => {
        Sql::per_engine(
            concat!("SELECT ", $columns, " FROM json_each($2) AS k CROSS JOIN ", $from, " AND ", $key, " = k.value"),
            concat!("SELECT ", $columns, " FROM ", $from, " AND ", $key, " = ANY($2)"),
        )
    };
}

/// A statement that looks up many keys at once; they are the second argument.
macro_rules! any_of {
    ($head:literal, $tail:literal) => {
        Sql::per_engine(concat!($head, " IN (SELECT value FROM json_each($2)) ", $tail), concat!($head, " = ANY($2) ", $tail))
    };
}

/// A variant's columns, as [`Variant`] reads them.
macro_rules! variant_columns {
    () => {
        "v.variant_id, v.product_id, v.sku, v.title, v.options, v.barcode, v.status, v.version, v.created_at, v.updated_at, \
         v.tax_class, v.weight_g, v.length_mm, v.width_mm, v.height_mm, v.attributes"
    };
}

/// One product.
pub(crate) const PRODUCT: &str =
    "SELECT product_id, external_id, title, description, status, variants, version, created_at, updated_at, tax_class
FROM catalog_products WHERE tenant_id = $1 AND product_id = $2";

/// The product with an external id.
pub(crate) const PRODUCT_BY_EXTERNAL_ID: &str = "SELECT product_id FROM catalog_products WHERE tenant_id = $1 AND external_id = $2";

/// A page of products, the newest first. Arguments: before this id, status or null, limit.
pub(crate) const PRODUCTS: &str = "SELECT product_id, external_id, title, '', status, variants, version, created_at, updated_at, tax_class
FROM catalog_products WHERE tenant_id = $1 AND product_id < $2 AND status = COALESCE(CAST($3 AS TEXT), status)
ORDER BY product_id DESC LIMIT $4";

/// A page of products in the order of their last change. Arguments: after this time and id, status or null, limit.
pub(crate) const PRODUCTS_BY_CHANGE: &str =
    "SELECT product_id, external_id, title, '', status, variants, version, created_at, updated_at, tax_class
FROM catalog_products WHERE tenant_id = $1 AND (updated_at, product_id) > ($2, $3) AND status = COALESCE(CAST($4 AS TEXT), status)
ORDER BY updated_at, product_id LIMIT $5";

/// The product with a SKU, if it passes the filters. Arguments: SKU, status or null, changed since.
pub(crate) const PRODUCT_BY_SKU: &str =
    "SELECT p.product_id, p.external_id, p.title, '', p.status, p.variants, p.version, p.created_at, p.updated_at, p.tax_class
FROM catalog_variants v JOIN catalog_products p ON p.tenant_id = $1 AND p.product_id = v.product_id
WHERE v.tenant_id = $1 AND v.sku = $2 AND p.status = COALESCE(CAST($3 AS TEXT), p.status) AND p.updated_at >= $4";

/// Products that are for sale, the newest first. Arguments: before this id, a pattern of small letters, now, limit.
pub(crate) const SHOP_PRODUCTS: &str = "SELECT product_id FROM catalog_products
WHERE tenant_id = $1 AND product_id < $2 AND status = 'active' AND LOWER(title) LIKE $3 ESCAPE '!'
  AND COALESCE(publish_at, CAST($4 AS BIGINT)) <= $4 AND COALESCE(unpublish_at, CAST($4 AS BIGINT) + 1) > $4
ORDER BY product_id DESC LIMIT $5";

/// One variant.
pub(crate) const VARIANT: &str =
    concat!("SELECT ", variant_columns!(), " FROM catalog_variants v WHERE v.tenant_id = $1 AND v.variant_id = $2");

/// The variant with a SKU.
pub(crate) const VARIANT_BY_SKU: &str =
    concat!("SELECT ", variant_columns!(), " FROM catalog_variants v WHERE v.tenant_id = $1 AND v.sku = $2");

/// The variants of a product, at most as many as one may have.
pub(crate) const VARIANTS_OF_PRODUCT: &str = concat!(
    "SELECT ",
    variant_columns!(),
    " FROM catalog_variants v WHERE v.tenant_id = $1
AND v.variant_id IN (SELECT i.variant_id FROM catalog_variants i WHERE i.tenant_id = $1 AND i.product_id = $2)
ORDER BY v.variant_id LIMIT 100"
);

/// The prices of a variant.
pub(crate) const PRICES_OF_VARIANT: &str =
    "SELECT currency, price_micros FROM catalog_prices WHERE tenant_id = $1 AND variant_id = $2 ORDER BY currency LIMIT 200";

/// The prices of a product's variants.
pub(crate) const PRICES_OF_PRODUCT: &str = "SELECT c.variant_id, c.currency, c.price_micros FROM catalog_prices c
WHERE c.tenant_id = $1 AND c.variant_id IN (SELECT i.variant_id FROM catalog_variants i WHERE i.tenant_id = $1 AND i.product_id = $2)
ORDER BY c.variant_id, c.currency LIMIT 20000";

/// What an order copies of each of these variants; a row for each price, or one without.
pub(crate) const SNAPSHOTS: Sql = any_of!(
    "SELECT v.variant_id, v.product_id, v.sku, v.title, p.title, v.status, p.status, c.currency, c.price_micros, COALESCE(v.tax_class, p.tax_class), v.weight_g, v.length_mm, v.width_mm, v.height_mm,
p.publish_at, p.unpublish_at, p.tags,
(SELECT STRING_AGG(k.path, ',') FROM catalog_category_products m JOIN catalog_categories k ON k.tenant_id = $1 AND k.category_id = m.category_id
  WHERE m.tenant_id = $1 AND m.product_id = p.product_id)
FROM catalog_variants v JOIN catalog_products p ON p.tenant_id = $1 AND p.product_id = v.product_id
LEFT JOIN catalog_prices c ON c.tenant_id = $1 AND c.variant_id = v.variant_id
WHERE v.tenant_id = $1 AND v.variant_id",
    "ORDER BY v.variant_id, c.currency"
);

/// A page of all variants, with what their products are called, how many variants they have and where they are in their life. Arguments: after this id, limit.
pub(crate) const EXPORT_VARIANTS: &str = concat!(
    "SELECT ",
    variant_columns!(),
    ", p.external_id, p.variants, p.status
FROM catalog_variants v JOIN catalog_products p ON p.tenant_id = $1 AND p.product_id = v.product_id
WHERE v.tenant_id = $1 AND v.variant_id > $2 ORDER BY v.variant_id LIMIT $3"
);

/// The prices of a page of variants. Arguments: after this id, to this one, the most that there may be.
pub(crate) const EXPORT_PRICES: &str = "SELECT variant_id, currency, price_micros FROM catalog_prices
WHERE tenant_id = $1 AND variant_id > $2 AND variant_id <= $3 ORDER BY variant_id, currency LIMIT $4";

/// The variants of these SKUs.
pub(crate) const VARIANT_IDS_BY_SKU: Sql =
    by_key!("v.sku, v.variant_id, v.product_id", "catalog_variants v WHERE v.tenant_id = $1", "v.sku");

/// What a bulk upsert has to know of these SKUs.
pub(crate) const UPSERT_VARIANTS: Sql = by_key!(
    "v.variant_id, v.product_id, v.sku, v.title, v.options, v.barcode, v.status, v.version, v.created_at, v.updated_at,
v.tax_class, v.weight_g, v.length_mm, v.width_mm, v.height_mm, v.attributes, p.product_id, p.external_id, p.title, p.status, p.tax_class, p.variants, p.version",
    "catalog_variants v CROSS JOIN catalog_products p WHERE p.tenant_id = $1 AND p.product_id = v.product_id AND v.tenant_id = $1",
    "v.sku"
);

/// What a bulk upsert has to know of the products with these external ids.
pub(crate) const UPSERT_PRODUCTS: Sql = by_key!(
    "p.product_id, p.external_id, p.title, p.status, p.tax_class, p.variants, p.version",
    "catalog_products p WHERE p.tenant_id = $1",
    "p.external_id"
);

/// The same of the products with these ids.
pub(crate) const UPSERT_PRODUCTS_BY_ID: Sql = any_of!(
    "SELECT p.product_id, p.external_id, p.title, p.status, p.tax_class, p.variants, p.version FROM catalog_products p
WHERE p.tenant_id = $1 AND p.product_id",
    ""
);

/// The prices of these variants.
pub(crate) const UPSERT_PRICES: Sql =
    any_of!("SELECT variant_id, currency, price_micros FROM catalog_prices WHERE tenant_id = $1 AND variant_id", "");

/// What a product has besides its name, without its categories.
pub(crate) const FACETS: &str =
    "SELECT tags, attributes, media, publish_at, unpublish_at FROM catalog_products WHERE tenant_id = $1 AND product_id = $2";

/// Writes the same.
pub(crate) const UPDATE_FACETS: &str =
    "UPDATE catalog_products SET tags = $3, attributes = $4, media = $5, publish_at = $6, unpublish_at = $7
WHERE tenant_id = $1 AND product_id = $2";

/// The categories that a product stands in.
pub(crate) const PLACES: &str =
    "SELECT category_id FROM catalog_category_products WHERE tenant_id = $1 AND product_id = $2 ORDER BY category_id LIMIT 100";

/// Puts a product into categories. Arguments: their ids, the product.
pub(crate) const ENTER_CATEGORIES: Sql = Sql::per_engine(
    "INSERT INTO catalog_category_products (tenant_id, category_id, product_id) SELECT $1, value, $3 FROM json_each($2) WHERE TRUE ON CONFLICT DO NOTHING",
    "INSERT INTO catalog_category_products (tenant_id, category_id, product_id)
SELECT CAST($1 AS BIGINT), c, CAST($3 AS BIGINT) FROM unnest(CAST($2 AS BIGINT[])) AS c ON CONFLICT DO NOTHING",
);

/// Takes a product out of categories. Arguments: their ids, the product.
pub(crate) const LEAVE_CATEGORIES: Sql =
    any_of!("DELETE FROM catalog_category_products WHERE tenant_id = $1 AND category_id", "AND product_id = $3");

/// A category.
pub(crate) const CATEGORY: &str = "SELECT category_id, path, slug, title, description, position, version, created_at, updated_at
FROM catalog_categories WHERE tenant_id = $1 AND category_id = $2";

/// Which of these categories there are.
pub(crate) const CATEGORIES_BY_ID: Sql = any_of!("SELECT category_id FROM catalog_categories WHERE tenant_id = $1 AND category_id", "");

/// The category with a slug.
pub(crate) const CATEGORY_BY_SLUG: &str = "SELECT category_id FROM catalog_categories WHERE tenant_id = $1 AND slug = $2";

/// A page of the tree, each parent before its children, without descriptions. Arguments: after this path, limit.
pub(crate) const CATEGORIES: &str = "SELECT category_id, path, slug, title, '', position, version, created_at, updated_at
FROM catalog_categories WHERE tenant_id = $1 AND path > $2 ORDER BY path LIMIT $3";

/// How many categories there are.
pub(crate) const CATEGORY_COUNT: &str = "SELECT COUNT(*) FROM catalog_categories WHERE tenant_id = $1";

/// The length of the longest path of a subtree. Arguments: its path and the end of its range.
pub(crate) const LONGEST_PATH: &str =
    "SELECT CAST(COALESCE(MAX(LENGTH(path)), 0) AS BIGINT) FROM catalog_categories WHERE tenant_id = $1 AND path >= $2 AND path < $3";

/// Makes a category, unless its slug is taken.
pub(crate) const INSERT_CATEGORY: &str =
    "INSERT INTO catalog_categories (tenant_id, category_id, path, slug, title, description, position, version, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8, $8) ON CONFLICT DO NOTHING";

/// Writes a category's fields and its next version.
pub(crate) const UPDATE_CATEGORY: &str =
    "UPDATE catalog_categories SET slug = $3, title = $4, description = $5, position = $6, version = $7, updated_at = $8
WHERE tenant_id = $1 AND category_id = $2";

/// Moves a subtree: how deep each category is changes, and so its version. Arguments: its path, the end of its range, its new path, from
/// which character on the old ones are kept, the time.
pub(crate) const MOVE_CATEGORIES: &str =
    "UPDATE catalog_categories SET path = CAST($4 AS TEXT) || SUBSTR(path, CAST(CAST($5 AS BIGINT) AS INTEGER)), version = version + 1, updated_at = $6
WHERE tenant_id = $1 AND path >= $2 AND path < $3";

/// Deletes a category.
pub(crate) const DELETE_CATEGORY: &str = "DELETE FROM catalog_categories WHERE tenant_id = $1 AND category_id = $2";

/// Some products of a category. Arguments: the category, limit.
pub(crate) const CATEGORY_MEMBERS: &str =
    "SELECT product_id FROM catalog_category_products WHERE tenant_id = $1 AND category_id = $2 LIMIT $3";

/// A page of the products of a subtree, the newest first: of each category no more than the page holds. Arguments: its path, the end of its
/// range, before this product, limit.
pub(crate) const PRODUCTS_BELOW: Sql = Sql::per_engine(
    "SELECT DISTINCT m.product_id FROM catalog_categories c CROSS JOIN catalog_category_products m
WHERE m.tenant_id = $1 AND m.category_id = c.category_id AND m.product_id IN (
  SELECT n.product_id FROM catalog_category_products n WHERE n.tenant_id = $1 AND n.category_id = c.category_id AND n.product_id < $4
  ORDER BY n.product_id DESC LIMIT $5)
AND c.tenant_id = $1 AND c.path >= $2 AND c.path < $3 ORDER BY m.product_id DESC LIMIT $5",
    "SELECT DISTINCT m.product_id FROM catalog_categories c CROSS JOIN LATERAL (
  SELECT n.product_id FROM catalog_category_products n WHERE n.tenant_id = $1 AND n.category_id = c.category_id AND n.product_id < $4
  ORDER BY n.product_id DESC LIMIT $5) m
WHERE c.tenant_id = $1 AND c.path >= $2 AND c.path < $3 ORDER BY m.product_id DESC LIMIT $5",
);

/// A collection.
pub(crate) const COLLECTION: &str = "SELECT collection_id, slug, title, description, rule, version, created_at, updated_at
FROM catalog_collections WHERE tenant_id = $1 AND collection_id = $2";

/// The collection with a slug.
pub(crate) const COLLECTION_BY_SLUG: &str = "SELECT collection_id FROM catalog_collections WHERE tenant_id = $1 AND slug = $2";

/// A page of collections, the newest first. Arguments: before this id, limit.
pub(crate) const COLLECTIONS: &str = "SELECT collection_id, slug, title, description, rule, version, created_at, updated_at
FROM catalog_collections WHERE tenant_id = $1 AND collection_id < $2 ORDER BY collection_id DESC LIMIT $3";

/// How many collections there are.
pub(crate) const COLLECTION_COUNT: &str = "SELECT COUNT(*) FROM catalog_collections WHERE tenant_id = $1";

/// Makes a collection, unless its slug is taken.
pub(crate) const INSERT_COLLECTION: &str =
    "INSERT INTO catalog_collections (tenant_id, collection_id, slug, title, description, rule, version, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, 1, $7, $7) ON CONFLICT DO NOTHING";

/// Writes a collection's fields and its next version.
pub(crate) const UPDATE_COLLECTION: &str =
    "UPDATE catalog_collections SET slug = $3, title = $4, description = $5, rule = $6, version = $7, updated_at = $8
WHERE tenant_id = $1 AND collection_id = $2";

/// Deletes a collection.
pub(crate) const DELETE_COLLECTION: &str = "DELETE FROM catalog_collections WHERE tenant_id = $1 AND collection_id = $2";

/// A page of what was chosen by hand. Arguments: the collection, after this position, limit.
pub(crate) const CHOSEN: &str = "SELECT position, product_id FROM catalog_collection_products
WHERE tenant_id = $1 AND collection_id = $2 AND position > $3 ORDER BY position LIMIT $4";

/// Chooses products: `[position, product_id]`; then the collection.
pub(crate) const CHOOSE: Sql = set_based!(
    "INSERT INTO catalog_collection_products (tenant_id, collection_id, position, product_id)
SELECT CAST($1 AS BIGINT), CAST($3 AS BIGINT), CAST(r.value ->> 0 AS BIGINT), CAST(r.value ->> 1 AS BIGINT)",
    ""
);

/// Forgets all that was chosen.
pub(crate) const FORGET_CHOSEN: &str = "DELETE FROM catalog_collection_products WHERE tenant_id = $1 AND collection_id = $2";

/// Which of these products there are.
pub(crate) const PRODUCTS_BY_ID: Sql = any_of!("SELECT product_id FROM catalog_products WHERE tenant_id = $1 AND product_id", "");

/// What rules are asked of, the newest product first. Arguments: before this id, the currency of the price, limit.
pub(crate) const FACTS: &str = "SELECT p.product_id, p.status, p.tags, p.attributes,
(SELECT MIN(c.price_micros) FROM catalog_variants i CROSS JOIN catalog_variants v CROSS JOIN catalog_prices c
  WHERE i.tenant_id = $1 AND i.product_id = p.product_id AND v.tenant_id = $1 AND v.variant_id = i.variant_id AND v.status = 'active'
  AND c.tenant_id = $1 AND c.variant_id = v.variant_id AND c.currency = $3),
(SELECT STRING_AGG(k.path, ',') FROM catalog_category_products m JOIN catalog_categories k ON k.tenant_id = $1 AND k.category_id = m.category_id
  WHERE m.tenant_id = $1 AND m.product_id = p.product_id)
FROM catalog_products p WHERE p.tenant_id = $1 AND p.product_id < $2 ORDER BY p.product_id DESC LIMIT $4";

/// An attribute.
pub(crate) const ATTRIBUTE: &str = "SELECT attribute_id, code, title, kind, choices, version, created_at, updated_at, storefront
FROM catalog_attributes WHERE tenant_id = $1 AND attribute_id = $2";

/// A page of attributes. Arguments: after this code, limit.
pub(crate) const ATTRIBUTES: &str = "SELECT attribute_id, code, title, kind, choices, version, created_at, updated_at, storefront
FROM catalog_attributes WHERE tenant_id = $1 AND code > $2 ORDER BY code LIMIT $3";

/// The attributes with these codes.
pub(crate) const ATTRIBUTES_BY_CODE: Sql = by_key!(
    "a.attribute_id, a.code, a.title, a.kind, a.choices, a.version, a.created_at, a.updated_at, a.storefront",
    "catalog_attributes a WHERE a.tenant_id = $1",
    "a.code"
);

/// How many attributes there are.
pub(crate) const ATTRIBUTE_COUNT: &str = "SELECT COUNT(*) FROM catalog_attributes WHERE tenant_id = $1";

/// Defines an attribute, unless its code is taken.
pub(crate) const INSERT_ATTRIBUTE: &str =
    "INSERT INTO catalog_attributes (tenant_id, attribute_id, code, title, kind, choices, version, created_at, updated_at, storefront)
VALUES ($1, $2, $3, $4, $5, $6, 1, $7, $7, $8) ON CONFLICT DO NOTHING";

/// Writes an attribute's fields and its next version.
pub(crate) const UPDATE_ATTRIBUTE: &str =
    "UPDATE catalog_attributes SET title = $3, choices = $4, storefront = $5, version = $6, updated_at = $7
WHERE tenant_id = $1 AND attribute_id = $2";

/// A moment that is to be told.
pub(crate) const INSERT_MOMENT: &str = "INSERT INTO catalog_moments (tenant_id, at, product_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";

/// One that is not to be told any more.
pub(crate) const DELETE_MOMENT: &str = "DELETE FROM catalog_moments WHERE tenant_id = $1 AND at = $2 AND product_id = $3";

/// Moments that have come. Arguments: now, limit.
pub(crate) const DUE_MOMENTS: &str =
    "SELECT at, product_id FROM catalog_moments WHERE tenant_id = $1 AND at <= $2 ORDER BY at, product_id LIMIT $3";

/// The next tenants that have moments that have come. Arguments: now, after this tenant, limit.
pub(crate) const TENANTS_WITH_MOMENTS: &str = "
WITH RECURSIVE tenants (tenant_id) AS (
  SELECT MIN(tenant_id) FROM catalog_moments WHERE tenant_id > $2
  UNION ALL
  SELECT (SELECT MIN(m.tenant_id) FROM catalog_moments m WHERE m.tenant_id > t.tenant_id) FROM tenants t WHERE t.tenant_id IS NOT NULL
)
SELECT tenant_id FROM tenants t WHERE tenant_id IS NOT NULL
  AND EXISTS (SELECT 1 FROM catalog_moments d WHERE d.tenant_id = t.tenant_id AND d.at <= $1)
ORDER BY tenant_id LIMIT $3";

/// Records a change.
pub(crate) const INSERT_CHANGE: &str =
    "INSERT INTO catalog_history (tenant_id, product_id, change_id, at, actor_kind, actor_id, request_id, what, variant_id, changes)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";

/// Records what came in by a file: `[product_id, change_id, changes]`; then the time, the kind of actor, its number, the request.
pub(crate) const INSERT_IMPORTED: Sql = set_based!(
    "INSERT INTO catalog_history (tenant_id, product_id, change_id, at, actor_kind, actor_id, request_id, what, changes)
SELECT CAST($1 AS BIGINT), CAST(r.value ->> 0 AS BIGINT), CAST(r.value ->> 1 AS BIGINT), CAST($3 AS BIGINT), CAST($4 AS TEXT), CAST($5 AS BIGINT), CAST($6 AS TEXT),
'imported', r.value ->> 2",
    ""
);

/// A page of a product's changes, the newest first. Arguments: the product, before this change, limit.
pub(crate) const CHANGES: &str = "SELECT change_id, at, actor_kind, actor_id, request_id, what, variant_id, changes
FROM catalog_history WHERE tenant_id = $1 AND product_id = $2 AND change_id < $3 ORDER BY change_id DESC LIMIT $4";

/// Audit: products in categories, and how many of these are not there.
pub(crate) const AUDIT_PLACES: &str = "SELECT COUNT(*), COUNT(CASE WHEN p.product_id IS NULL OR c.category_id IS NULL THEN 1 END)
FROM catalog_category_products m LEFT JOIN catalog_products p ON p.tenant_id = $1 AND p.product_id = m.product_id
LEFT JOIN catalog_categories c ON c.tenant_id = $1 AND c.category_id = m.category_id WHERE m.tenant_id = $1";

/// Audit: categories, and how many of them are not below one that is there.
pub(crate) const AUDIT_TREE: &str = "SELECT COUNT(*), COUNT(CASE WHEN LENGTH(c.path) > 16 AND NOT EXISTS
  (SELECT 1 FROM catalog_categories a WHERE a.tenant_id = $1 AND a.path = SUBSTR(c.path, 1, LENGTH(c.path) - 16)) THEN 1 END)
FROM catalog_categories c WHERE c.tenant_id = $1";

/// Makes a product, unless its external id is taken.
pub(crate) const INSERT_PRODUCT: &str = "INSERT INTO catalog_products (tenant_id, product_id, external_id, title, description, status, variants, version, created_at, updated_at, tax_class)
VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8, $8, $9) ON CONFLICT DO NOTHING";

/// Makes a variant, unless its SKU is taken.
pub(crate) const INSERT_VARIANT: &str = "INSERT INTO catalog_variants (tenant_id, variant_id, product_id, sku, title, options, barcode, status, version, created_at, updated_at,
tax_class, weight_g, length_mm, width_mm, height_mm, attributes)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 1, $9, $9, $10, $11, $12, $13, $14, $15) ON CONFLICT DO NOTHING";

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
tax_class = $10, weight_g = $11, length_mm = $12, width_mm = $13, height_mm = $14, attributes = $15
WHERE tenant_id = $1 AND variant_id = $2";

/// Sets a price.
pub(crate) const SET_PRICE: &str =
    "INSERT INTO catalog_prices (tenant_id, variant_id, currency, price_micros, updated_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (tenant_id, variant_id, currency) DO UPDATE SET price_micros = excluded.price_micros, updated_at = excluded.updated_at";

/// Makes many products: `[product_id, external_id, title, variants, status]`; then the time.
pub(crate) const INSERT_PRODUCTS: Sql = set_based!(
    "INSERT INTO catalog_products (tenant_id, product_id, external_id, title, description, status, variants, version, created_at, updated_at)
SELECT CAST($1 AS BIGINT), CAST(r.value ->> 0 AS BIGINT), r.value ->> 1, r.value ->> 2, '', r.value ->> 4, CAST(r.value ->> 3 AS BIGINT), 1,
CAST($3 AS BIGINT), CAST($3 AS BIGINT)",
    ""
);

/// Makes many variants: `[variant_id, product_id, sku, title, options, barcode, tax_class, weight_g, length_mm, width_mm, height_mm, status]`; then the time.
pub(crate) const INSERT_VARIANTS: Sql = set_based!(
    "INSERT INTO catalog_variants (tenant_id, variant_id, product_id, sku, title, options, barcode, tax_class, weight_g, length_mm, width_mm, height_mm, status, version, created_at, updated_at)
SELECT CAST($1 AS BIGINT), CAST(r.value ->> 0 AS BIGINT), CAST(r.value ->> 1 AS BIGINT), r.value ->> 2, r.value ->> 3, r.value ->> 4, r.value ->> 5, r.value ->> 6,
CAST(r.value ->> 7 AS BIGINT), CAST(r.value ->> 8 AS BIGINT), CAST(r.value ->> 9 AS BIGINT), CAST(r.value ->> 10 AS BIGINT), r.value ->> 11, 1,
CAST($3 AS BIGINT), CAST($3 AS BIGINT)",
    ""
);

/// Changes a product as an upsert does. Arguments: product, title, status, how many variants, version, time.
pub(crate) const UPSERT_PRODUCT: &str = "UPDATE catalog_products SET title = $3, status = $4, variants = $5, version = $6, updated_at = $7
WHERE tenant_id = $1 AND product_id = $2";

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
    let all: [(&'static str, Sql); 79] = [
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
        ("UPSERT_PRODUCTS_BY_ID", UPSERT_PRODUCTS_BY_ID),
        ("UPSERT_PRICES", UPSERT_PRICES),
        ("FACETS", FACETS.into()),
        ("UPDATE_FACETS", UPDATE_FACETS.into()),
        ("PLACES", PLACES.into()),
        ("ENTER_CATEGORIES", ENTER_CATEGORIES),
        ("LEAVE_CATEGORIES", LEAVE_CATEGORIES),
        ("CATEGORY", CATEGORY.into()),
        ("CATEGORIES_BY_ID", CATEGORIES_BY_ID),
        ("CATEGORY_BY_SLUG", CATEGORY_BY_SLUG.into()),
        ("CATEGORIES", CATEGORIES.into()),
        ("CATEGORY_COUNT", CATEGORY_COUNT.into()),
        ("LONGEST_PATH", LONGEST_PATH.into()),
        ("INSERT_CATEGORY", INSERT_CATEGORY.into()),
        ("UPDATE_CATEGORY", UPDATE_CATEGORY.into()),
        ("MOVE_CATEGORIES", MOVE_CATEGORIES.into()),
        ("DELETE_CATEGORY", DELETE_CATEGORY.into()),
        ("CATEGORY_MEMBERS", CATEGORY_MEMBERS.into()),
        ("PRODUCTS_BELOW", PRODUCTS_BELOW),
        ("COLLECTION", COLLECTION.into()),
        ("COLLECTION_BY_SLUG", COLLECTION_BY_SLUG.into()),
        ("COLLECTIONS", COLLECTIONS.into()),
        ("COLLECTION_COUNT", COLLECTION_COUNT.into()),
        ("INSERT_COLLECTION", INSERT_COLLECTION.into()),
        ("UPDATE_COLLECTION", UPDATE_COLLECTION.into()),
        ("DELETE_COLLECTION", DELETE_COLLECTION.into()),
        ("CHOSEN", CHOSEN.into()),
        ("CHOOSE", CHOOSE),
        ("FORGET_CHOSEN", FORGET_CHOSEN.into()),
        ("PRODUCTS_BY_ID", PRODUCTS_BY_ID),
        ("FACTS", FACTS.into()),
        ("ATTRIBUTE", ATTRIBUTE.into()),
        ("ATTRIBUTES", ATTRIBUTES.into()),
        ("ATTRIBUTES_BY_CODE", ATTRIBUTES_BY_CODE),
        ("ATTRIBUTE_COUNT", ATTRIBUTE_COUNT.into()),
        ("INSERT_ATTRIBUTE", INSERT_ATTRIBUTE.into()),
        ("UPDATE_ATTRIBUTE", UPDATE_ATTRIBUTE.into()),
        ("INSERT_MOMENT", INSERT_MOMENT.into()),
        ("DELETE_MOMENT", DELETE_MOMENT.into()),
        ("DUE_MOMENTS", DUE_MOMENTS.into()),
        ("INSERT_CHANGE", INSERT_CHANGE.into()),
        ("INSERT_IMPORTED", INSERT_IMPORTED),
        ("CHANGES", CHANGES.into()),
        ("AUDIT_PLACES", AUDIT_PLACES.into()),
        ("AUDIT_TREE", AUDIT_TREE.into()),
        ("INSERT_PRODUCT", INSERT_PRODUCT.into()),
        ("INSERT_VARIANT", INSERT_VARIANT.into()),
        ("UPDATE_PRODUCT", UPDATE_PRODUCT.into()),
        ("TOUCH_PRODUCT", TOUCH_PRODUCT.into()),
        ("UPDATE_VARIANT", UPDATE_VARIANT.into()),
        ("SET_PRICE", SET_PRICE.into()),
        ("INSERT_PRODUCTS", INSERT_PRODUCTS),
        ("INSERT_VARIANTS", INSERT_VARIANTS),
        ("UPSERT_PRODUCT", UPSERT_PRODUCT.into()),
        ("SET_PRICES", SET_PRICES),
        ("OBSERVE_PRICES", OBSERVE_PRICES),
        ("OBSERVATIONS", OBSERVATIONS.into()),
        ("AUDIT_ORPHANS", AUDIT_ORPHANS.into()),
        ("AUDIT_SKUS", AUDIT_SKUS.into()),
        ("AUDIT_COUNTS", AUDIT_COUNTS.into()),
        ("AUDIT_PRICES", AUDIT_PRICES.into()),
        ("AUDIT_OBSERVATIONS", AUDIT_OBSERVATIONS.into()),
    ];
    let tenant = all.into_iter().map(|(name, sql)| Statement::new(name, sql, InScope::Tenant));
    tenant.chain([Statement::new("TENANTS_WITH_MOMENTS", TENANTS_WITH_MOMENTS, InScope::Platform)]).collect()
}

impl ToValue for ProductStatus {
    fn to_value(&self) -> Value<'_> {
        Value::Text(self.as_str().into())
    }
}

impl FromValue for ProductStatus {
    fn from_value(value: ValueRef<'_>) -> Result<Self> {
        ProductStatus::ALL
            .into_iter()
            .find(|s| value == ValueRef::Text(s.as_str()))
            .ok_or_else(|| Error::internal("a product has an unknown status"))
    }
}

impl ToValue for VariantStatus {
    fn to_value(&self) -> Value<'_> {
        Value::Text(self.as_str().into())
    }
}

impl FromValue for VariantStatus {
    fn from_value(value: ValueRef<'_>) -> Result<Self> {
        VariantStatus::ALL
            .into_iter()
            .find(|s| value == ValueRef::Text(s.as_str()))
            .ok_or_else(|| Error::internal("a variant has an unknown status"))
    }
}

/// What is stored as JSON.
pub(crate) fn to_json(value: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string(value).expect("texts, numbers and lists of them serialise")
}

/// The same, as it was stored.
pub(crate) fn from_json<T: DeserializeOwned>(json: &str) -> Result<T> {
    serde_json::from_str(json).map_err(|e| Error::internal("stored JSON is not of its form").caused_by(e))
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
            options: from_json(&row.get::<String>(4)?)?,
            barcode: row.get(5)?,
            status: row.get(6)?,
            prices: Vec::new(),
            version: row.get(7)?,
            created_at: row.get(8)?,
            updated_at: row.get(9)?,
            tax_class: row.get(10)?,
            weight_g: row.get(11)?,
            dimensions: dimensions(row, 12)?,
            attributes: from_json(&row.get::<String>(15)?)?,
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
