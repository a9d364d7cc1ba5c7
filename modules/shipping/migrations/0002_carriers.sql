-- Carriers that are asked for labels, and the labels that they sold.

-- Whose API is called where; the key and the callbacks' secrets are sealed.
CREATE TABLE shipping_carriers (
  tenant_id BIGINT NOT NULL,
  carrier_id BIGINT NOT NULL,
  version BIGINT NOT NULL,
  name TEXT NOT NULL,
  kind TEXT NOT NULL,
  base_url TEXT NOT NULL,
  sealed BYTEA NOT NULL,
  enabled BOOLEAN NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, carrier_id)
);

-- One row for each time that a carrier was asked for a shipment's labels.
CREATE TABLE shipping_labels (
  tenant_id BIGINT NOT NULL,
  shipment_id BIGINT NOT NULL,
  attempt BIGINT NOT NULL,
  carrier_id BIGINT NOT NULL,
  service TEXT NOT NULL,
  state TEXT NOT NULL,
  carrier_label TEXT,
  price_minor BIGINT,
  currency TEXT,
  detail TEXT NOT NULL,
  requested_at BIGINT NOT NULL,
  ended_at BIGINT,
  PRIMARY KEY (tenant_id, shipment_id, attempt)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- The label of each parcel: its number, and where its carrier keeps the document.
CREATE TABLE shipping_label_parcels (
  tenant_id BIGINT NOT NULL,
  shipment_id BIGINT NOT NULL,
  attempt BIGINT NOT NULL,
  parcel BIGINT NOT NULL,
  tracking_number TEXT NOT NULL,
  label_url TEXT NOT NULL,
  PRIMARY KEY (tenant_id, shipment_id, attempt, parcel)
)
-- @sqlite
WITHOUT ROWID
-- @end
;
