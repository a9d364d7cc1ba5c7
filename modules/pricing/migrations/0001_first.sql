-- Price lists, promotions, coupons and tax.

-- One row a tenant: which change of the rules is the last one, and the tax settings.
CREATE TABLE pricing_state (
  tenant_id BIGINT NOT NULL,
  stamp BIGINT NOT NULL,
  settings TEXT NOT NULL,
  settings_version BIGINT NOT NULL,
  settings_updated_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

CREATE TABLE pricing_lists (
  tenant_id BIGINT NOT NULL,
  list_id BIGINT NOT NULL,
  status TEXT NOT NULL,
  spec TEXT NOT NULL,
  version BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, list_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

CREATE TABLE pricing_entries (
  tenant_id BIGINT NOT NULL,
  list_id BIGINT NOT NULL,
  sku TEXT NOT NULL,
  min_quantity BIGINT NOT NULL,
  price_micros BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, list_id, sku, min_quantity)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

CREATE TABLE pricing_promotions (
  tenant_id BIGINT NOT NULL,
  promotion_id BIGINT NOT NULL,
  status TEXT NOT NULL,
  spec TEXT NOT NULL,
  version BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, promotion_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- A country's rates, all periods in one row.
CREATE TABLE pricing_tax_rates (
  tenant_id BIGINT NOT NULL,
  country TEXT NOT NULL,
  periods TEXT NOT NULL,
  version BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, country)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- `uses` is the number of rows of pricing_redemptions with the code.
CREATE TABLE pricing_coupons (
  tenant_id BIGINT NOT NULL,
  code TEXT NOT NULL,
  promotion_id BIGINT NOT NULL,
  status TEXT NOT NULL,
  max_uses BIGINT,
  max_uses_per_customer BIGINT,
  starts_at BIGINT,
  ends_at BIGINT,
  uses BIGINT NOT NULL,
  version BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, code)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

CREATE INDEX pricing_coupons_by_promotion ON pricing_coupons (tenant_id, promotion_id, code);

-- How often a customer has used a code: kept for codes that limit it.
CREATE TABLE pricing_customer_uses (
  tenant_id BIGINT NOT NULL,
  code TEXT NOT NULL,
  customer TEXT NOT NULL,
  uses BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, code, customer)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- A code that a checkout holds (kept = FALSE) or an order keeps. A released one is no more.
CREATE TABLE pricing_redemptions (
  tenant_id BIGINT NOT NULL,
  reference TEXT NOT NULL,
  code TEXT NOT NULL,
  customer TEXT,
  counted BOOLEAN NOT NULL,
  kept BOOLEAN NOT NULL,
  redeemed_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, reference, code)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

CREATE INDEX pricing_redemptions_by_code ON pricing_redemptions (tenant_id, code, reference);
