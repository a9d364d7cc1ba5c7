-- How products are arranged and described: categories, collections, typed attributes, tags, media; when they are shown; what was changed.

-- JSON: ["summer", ...]
ALTER TABLE catalog_products ADD COLUMN tags TEXT NOT NULL DEFAULT '[]';
-- JSON: {"material": "linen", ...}; codes of catalog_attributes.
ALTER TABLE catalog_products ADD COLUMN attributes TEXT NOT NULL DEFAULT '{}';
-- JSON: [{"kind": "image", "url": ...}, ...], in their order.
ALTER TABLE catalog_products ADD COLUMN media TEXT NOT NULL DEFAULT '[]';
-- An active product is for sale from the one to the other.
ALTER TABLE catalog_products ADD COLUMN publish_at BIGINT;
ALTER TABLE catalog_products ADD COLUMN unpublish_at BIGINT;
ALTER TABLE catalog_variants ADD COLUMN attributes TEXT NOT NULL DEFAULT '{}';

-- A tree. The path is the ids from the root to the category itself, sixteen lower-case hexadecimal digits each: a subtree is a range of
-- it in every collation.
CREATE TABLE catalog_categories (
  tenant_id BIGINT NOT NULL,
  category_id BIGINT NOT NULL,
  path TEXT NOT NULL,
  slug TEXT NOT NULL,
  title TEXT NOT NULL,
  description TEXT NOT NULL,
  -- Among its siblings.
  position BIGINT NOT NULL,
  version BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, category_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

CREATE UNIQUE INDEX catalog_categories_slug ON catalog_categories (tenant_id, slug);

CREATE INDEX catalog_categories_path ON catalog_categories (tenant_id, path);

CREATE TABLE catalog_category_products (
  tenant_id BIGINT NOT NULL,
  category_id BIGINT NOT NULL,
  product_id BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, category_id, product_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

CREATE INDEX catalog_category_products_product ON catalog_category_products (tenant_id, product_id, category_id);

CREATE TABLE catalog_collections (
  tenant_id BIGINT NOT NULL,
  collection_id BIGINT NOT NULL,
  slug TEXT NOT NULL,
  title TEXT NOT NULL,
  description TEXT NOT NULL,
  -- JSON of the rule; null when its products are chosen by hand.
  rule TEXT,
  version BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, collection_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

CREATE UNIQUE INDEX catalog_collections_slug ON catalog_collections (tenant_id, slug);

-- What was chosen by hand, in its order.
CREATE TABLE catalog_collection_products (
  tenant_id BIGINT NOT NULL,
  collection_id BIGINT NOT NULL,
  position BIGINT NOT NULL,
  product_id BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, collection_id, position)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

CREATE TABLE catalog_attributes (
  tenant_id BIGINT NOT NULL,
  attribute_id BIGINT NOT NULL,
  code TEXT NOT NULL,
  title TEXT NOT NULL,
  kind TEXT NOT NULL,
  -- JSON: what a choice may be.
  choices TEXT NOT NULL,
  version BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, attribute_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

CREATE UNIQUE INDEX catalog_attributes_code ON catalog_attributes (tenant_id, code);

-- When a product begins or ceases to be for sale by the clock, until that has been told.
CREATE TABLE catalog_moments (
  tenant_id BIGINT NOT NULL,
  at BIGINT NOT NULL,
  product_id BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, at, product_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- Who changed what of a product, and when. Written once, never changed.
CREATE TABLE catalog_history (
  tenant_id BIGINT NOT NULL,
  product_id BIGINT NOT NULL,
  change_id BIGINT NOT NULL,
  at BIGINT NOT NULL,
  actor_kind TEXT NOT NULL,
  actor_id BIGINT NOT NULL,
  request_id TEXT,
  what TEXT NOT NULL,
  -- Null for the product itself.
  variant_id BIGINT,
  -- JSON: [{"field": ..., "from": ..., "to": ...}, ...]
  changes TEXT NOT NULL,
  PRIMARY KEY (tenant_id, product_id, change_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;
