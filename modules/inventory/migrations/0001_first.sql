-- Stock: what there is, where it is, who has it reserved, and every change of it.
-- Ids are time-ordered, so what is keyed by them is written at the end of its tree.

-- What is stored and counted. A variant of the catalog is made of one or several of them.
CREATE TABLE inventory_items (
  tenant_id BIGINT NOT NULL,
  item_id BIGINT NOT NULL,
  sku TEXT NOT NULL,
  name TEXT NOT NULL,
  -- deny, backorder or preorder: what becomes of a demand beyond what is available.
  policy TEXT NOT NULL,
  oversell_limit BIGINT NOT NULL,
  promised_at BIGINT,
  low_stock_at BIGINT,
  version BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, item_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

CREATE UNIQUE INDEX inventory_items_by_sku ON inventory_items (tenant_id, sku);

CREATE TABLE inventory_locations (
  tenant_id BIGINT NOT NULL,
  location_id BIGINT NOT NULL,
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  line1 TEXT NOT NULL,
  line2 TEXT NOT NULL,
  city TEXT NOT NULL,
  region TEXT NOT NULL,
  postal_code TEXT NOT NULL,
  country TEXT NOT NULL,
  latitude DOUBLE PRECISION,
  longitude DOUBLE PRECISION,
  priority BIGINT NOT NULL,
  active BOOLEAN NOT NULL,
  version BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, location_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- Which items a variant is made of. All rows of a variant have the same version: that of its list.
CREATE TABLE inventory_components (
  tenant_id BIGINT NOT NULL,
  variant_id BIGINT NOT NULL,
  item_id BIGINT NOT NULL,
  quantity BIGINT NOT NULL,
  version BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, variant_id, item_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

CREATE INDEX inventory_components_by_item ON inventory_components (tenant_id, item_id, variant_id);

-- on_hand, incoming, damaged and safety are the sums of the movements; reserved is the sum of what is open of the reservations.
CREATE TABLE inventory_levels (
  tenant_id BIGINT NOT NULL,
  item_id BIGINT NOT NULL,
  location_id BIGINT NOT NULL,
  on_hand BIGINT NOT NULL,
  reserved BIGINT NOT NULL,
  incoming BIGINT NOT NULL,
  damaged BIGINT NOT NULL,
  safety BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, item_id, location_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- The stock ledger. Only added to.
CREATE TABLE inventory_movements (
  tenant_id BIGINT NOT NULL,
  item_id BIGINT NOT NULL,
  movement_id BIGINT NOT NULL,
  location_id BIGINT NOT NULL,
  kind TEXT NOT NULL,
  on_hand BIGINT NOT NULL,
  incoming BIGINT NOT NULL,
  damaged BIGINT NOT NULL,
  safety BIGINT NOT NULL,
  reference TEXT NOT NULL,
  note TEXT NOT NULL,
  moved_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, item_id, movement_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- One row a reservation, with its lines and allocations as JSON: making one is one insert, however many items it holds.
CREATE TABLE inventory_reservations (
  tenant_id BIGINT NOT NULL,
  reference TEXT NOT NULL,
  state TEXT NOT NULL,
  expires_at BIGINT,
  promised_at BIGINT,
  lines TEXT NOT NULL,
  allocations TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, reference)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

CREATE INDEX inventory_reservations_by_expiry ON inventory_reservations (tenant_id, expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE inventory_transfers (
  tenant_id BIGINT NOT NULL,
  transfer_id BIGINT NOT NULL,
  from_location_id BIGINT NOT NULL,
  to_location_id BIGINT NOT NULL,
  state TEXT NOT NULL,
  note TEXT NOT NULL,
  lines TEXT NOT NULL,
  version BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, transfer_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

CREATE TABLE inventory_counts (
  tenant_id BIGINT NOT NULL,
  count_id BIGINT NOT NULL,
  location_id BIGINT NOT NULL,
  state TEXT NOT NULL,
  note TEXT NOT NULL,
  lines TEXT NOT NULL,
  version BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, count_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- One row a tenant: its rules of allocation.
CREATE TABLE inventory_settings (
  tenant_id BIGINT NOT NULL,
  rules TEXT NOT NULL,
  version BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;
