-- Zones, methods and rates; shipments with their parcels, changes and tracking.

-- A part of the world that is shipped to alike. Areas are JSON, with postcodes in their normal form.
CREATE TABLE shipping_zones (
  tenant_id BIGINT NOT NULL,
  zone_id BIGINT NOT NULL,
  name TEXT NOT NULL,
  areas TEXT NOT NULL,
  version BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, zone_id)
);

-- A way to ship that a customer chooses.
CREATE TABLE shipping_methods (
  tenant_id BIGINT NOT NULL,
  method_id BIGINT NOT NULL,
  name TEXT NOT NULL,
  active BOOLEAN NOT NULL,
  min_days BIGINT NOT NULL,
  max_days BIGINT NOT NULL,
  service TEXT NOT NULL,
  version BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, method_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- What a method costs in a zone and a currency. Tiers are JSON.
CREATE TABLE shipping_rates (
  tenant_id BIGINT NOT NULL,
  method_id BIGINT NOT NULL,
  zone_id BIGINT NOT NULL,
  currency TEXT NOT NULL,
  basis TEXT NOT NULL,
  tiers TEXT NOT NULL,
  free_from_minor BIGINT,
  version BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, method_id, zone_id, currency)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- The current head of each shipment. Goods are named by the order's line numbers, the order by its text alone.
CREATE TABLE shipping_shipments (
  tenant_id BIGINT NOT NULL,
  shipment_id BIGINT NOT NULL,
  order_ref TEXT NOT NULL,
  state TEXT NOT NULL,
  version BIGINT NOT NULL,
  method_id BIGINT,
  destination TEXT NOT NULL,
  note TEXT NOT NULL,
  parcel_count BIGINT NOT NULL,
  weight_g BIGINT NOT NULL,
  label_requests BIGINT NOT NULL,
  labelled BOOLEAN NOT NULL,
  shipped_at BIGINT,
  delivered_at BIGINT,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, shipment_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

CREATE INDEX shipping_shipments_by_order ON shipping_shipments (tenant_id, order_ref, shipment_id);
CREATE INDEX shipping_shipments_by_state ON shipping_shipments (tenant_id, state, shipment_id);

CREATE TABLE shipping_parcels (
  tenant_id BIGINT NOT NULL,
  shipment_id BIGINT NOT NULL,
  parcel BIGINT NOT NULL,
  weight_g BIGINT NOT NULL,
  length_mm BIGINT NOT NULL,
  width_mm BIGINT NOT NULL,
  height_mm BIGINT NOT NULL,
  tracking_number TEXT,
  progress TEXT,
  PRIMARY KEY (tenant_id, shipment_id, parcel)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

CREATE UNIQUE INDEX shipping_parcels_by_tracking ON shipping_parcels (tenant_id, tracking_number) WHERE tracking_number IS NOT NULL;

-- What is in a parcel.
CREATE TABLE shipping_parcel_lines (
  tenant_id BIGINT NOT NULL,
  shipment_id BIGINT NOT NULL,
  parcel BIGINT NOT NULL,
  line BIGINT NOT NULL,
  quantity BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, shipment_id, parcel, line)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- One row for each version of a shipment: who did what, and why. Only added to.
CREATE TABLE shipping_changes (
  tenant_id BIGINT NOT NULL,
  shipment_id BIGINT NOT NULL,
  version BIGINT NOT NULL,
  kind TEXT NOT NULL,
  state TEXT NOT NULL,
  actor_kind TEXT NOT NULL,
  actor_id BIGINT NOT NULL,
  reason TEXT NOT NULL,
  request_id TEXT,
  changed_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, shipment_id, version)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- What became known of a parcel under way, each once, in whatever order it came. Only added to.
CREATE TABLE shipping_tracking (
  tenant_id BIGINT NOT NULL,
  shipment_id BIGINT NOT NULL,
  parcel BIGINT NOT NULL,
  event_ref TEXT NOT NULL,
  status TEXT NOT NULL,
  occurred_at BIGINT NOT NULL,
  place TEXT NOT NULL,
  detail TEXT NOT NULL,
  received_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, shipment_id, parcel, event_ref)
)
-- @sqlite
WITHOUT ROWID
-- @end
;
