-- Products, their variants, prices, and the prices seen in past trade.

CREATE TABLE catalog_products (
  tenant_id BIGINT NOT NULL,
  product_id BIGINT NOT NULL,
  external_id TEXT,
  title TEXT NOT NULL,
  description TEXT NOT NULL,
  status TEXT NOT NULL,
  -- How many variants it has: bounds them without counting. The audit recounts.
  variants BIGINT NOT NULL,
  -- Rises with every change of the product, its variants or their prices.
  version BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, product_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

CREATE UNIQUE INDEX catalog_products_external ON catalog_products (tenant_id, external_id);

CREATE INDEX catalog_products_updated ON catalog_products (tenant_id, updated_at, product_id);

CREATE TABLE catalog_variants (
  tenant_id BIGINT NOT NULL,
  variant_id BIGINT NOT NULL,
  product_id BIGINT NOT NULL,
  sku TEXT NOT NULL,
  title TEXT NOT NULL,
  -- JSON: [{"name": ..., "value": ...}, ...]
  options TEXT NOT NULL,
  barcode TEXT,
  status TEXT NOT NULL,
  -- Rises with every change of the variant or its prices.
  version BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, variant_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

CREATE UNIQUE INDEX catalog_variants_sku ON catalog_variants (tenant_id, sku);

CREATE INDEX catalog_variants_product ON catalog_variants (tenant_id, product_id, variant_id);

CREATE TABLE catalog_prices (
  tenant_id BIGINT NOT NULL,
  variant_id BIGINT NOT NULL,
  currency TEXT NOT NULL,
  price_micros BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, variant_id, currency)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

CREATE TABLE catalog_price_observations (
  tenant_id BIGINT NOT NULL,
  variant_id BIGINT NOT NULL,
  currency TEXT NOT NULL,
  price_micros BIGINT NOT NULL,
  first_seen BIGINT NOT NULL,
  last_seen BIGINT NOT NULL,
  times_seen BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, variant_id, currency, price_micros)
)
-- @sqlite
WITHOUT ROWID
-- @end
;
