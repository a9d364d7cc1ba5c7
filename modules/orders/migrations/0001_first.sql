-- Orders, credit notes, adjustments, customers, and the daily sales projection.
-- Documents' ids are time-ordered, so everything that is keyed by them is written at the end of its tree.

-- The current head of each order. Its lines are in orders_lines under lines_version.
CREATE TABLE orders_orders (
  tenant_id BIGINT NOT NULL,
  order_id BIGINT NOT NULL,
  number BIGINT NOT NULL,
  state TEXT NOT NULL,
  version BIGINT NOT NULL,
  lines_version BIGINT NOT NULL,
  external_ref TEXT,
  customer_id BIGINT,
  country TEXT NOT NULL,
  currency TEXT NOT NULL,
  line_count BIGINT NOT NULL,
  extended_micros BIGINT NOT NULL,
  discount_minor BIGINT NOT NULL,
  tax_minor BIGINT NOT NULL,
  total_minor BIGINT NOT NULL,
  credited_minor BIGINT NOT NULL,
  placed_at BIGINT,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, order_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
-- @postgres
PARTITION BY RANGE (order_id)
-- @end
;
-- @postgres
CREATE TABLE orders_orders_default PARTITION OF orders_orders DEFAULT;
-- @end

CREATE INDEX orders_orders_by_customer ON orders_orders (tenant_id, customer_id, order_id) WHERE customer_id IS NOT NULL;

-- Lines of every kind of document. A row is never changed: an edit of an order writes its lines anew under the next version.
CREATE TABLE orders_lines (
  tenant_id BIGINT NOT NULL,
  document_id BIGINT NOT NULL,
  version BIGINT NOT NULL,
  line BIGINT NOT NULL,
  kind TEXT NOT NULL,
  sku TEXT NOT NULL,
  variant_id BIGINT,
  description TEXT NOT NULL,
  quantity BIGINT NOT NULL,
  unit_price_micros BIGINT NOT NULL,
  extended_micros BIGINT NOT NULL,
  discount_minor BIGINT NOT NULL,
  tax_minor BIGINT NOT NULL,
  total_minor BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, document_id, version, line)
)
-- @sqlite
WITHOUT ROWID
-- @end
-- @postgres
PARTITION BY RANGE (document_id)
-- @end
;
-- @postgres
CREATE TABLE orders_lines_default PARTITION OF orders_lines DEFAULT;
-- @end

-- What was fulfilled of an order's lines, and by which of its versions. Only added to.
CREATE TABLE orders_fulfilments (
  tenant_id BIGINT NOT NULL,
  order_id BIGINT NOT NULL,
  version BIGINT NOT NULL,
  line BIGINT NOT NULL,
  quantity BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, order_id, version, line)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- One row for each version of an order: who did what, and why. Only added to.
CREATE TABLE orders_changes (
  tenant_id BIGINT NOT NULL,
  order_id BIGINT NOT NULL,
  version BIGINT NOT NULL,
  kind TEXT NOT NULL,
  state TEXT NOT NULL,
  actor_kind TEXT NOT NULL,
  actor_id BIGINT NOT NULL,
  reason TEXT NOT NULL,
  change TEXT NOT NULL,
  request_id TEXT,
  changed_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, order_id, version)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- Credit notes and adjustments. Written once, never changed; their lines are in orders_lines under version 1.
CREATE TABLE orders_notes (
  tenant_id BIGINT NOT NULL,
  kind TEXT NOT NULL,
  note_id BIGINT NOT NULL,
  number BIGINT NOT NULL,
  external_ref TEXT,
  order_id BIGINT,
  customer_id BIGINT,
  country TEXT NOT NULL,
  currency TEXT NOT NULL,
  reason TEXT NOT NULL,
  line_count BIGINT NOT NULL,
  extended_micros BIGINT NOT NULL,
  discount_minor BIGINT NOT NULL,
  tax_minor BIGINT NOT NULL,
  total_minor BIGINT NOT NULL,
  issued_at BIGINT NOT NULL,
  actor_kind TEXT NOT NULL,
  actor_id BIGINT NOT NULL,
  request_id TEXT,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, kind, note_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

CREATE INDEX orders_notes_by_order ON orders_notes (tenant_id, order_id, note_id) WHERE order_id IS NOT NULL;

-- The last number given out, for each kind of document.
CREATE TABLE orders_counters (
  tenant_id BIGINT NOT NULL,
  kind TEXT NOT NULL,
  last BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, kind)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- Which document has a number. Not an index of the documents: a unique one would need the partition's key.
CREATE TABLE orders_numbers (
  tenant_id BIGINT NOT NULL,
  kind TEXT NOT NULL,
  number BIGINT NOT NULL,
  document_id BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, kind, number)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- Which document has an external reference. One name space for all kinds.
CREATE TABLE orders_refs (
  tenant_id BIGINT NOT NULL,
  external_ref TEXT NOT NULL,
  kind TEXT NOT NULL,
  document_id BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, external_ref)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

CREATE TABLE orders_customers (
  tenant_id BIGINT NOT NULL,
  customer_id BIGINT NOT NULL,
  external_ref TEXT,
  name TEXT NOT NULL,
  email TEXT,
  country TEXT NOT NULL,
  version BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, customer_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

CREATE UNIQUE INDEX orders_customers_by_ref ON orders_customers (tenant_id, external_ref) WHERE external_ref IS NOT NULL;

CREATE TABLE orders_addresses (
  tenant_id BIGINT NOT NULL,
  customer_id BIGINT NOT NULL,
  address_id BIGINT NOT NULL,
  label TEXT NOT NULL,
  recipient TEXT NOT NULL,
  line1 TEXT NOT NULL,
  line2 TEXT NOT NULL,
  city TEXT NOT NULL,
  region TEXT NOT NULL,
  postal_code TEXT NOT NULL,
  country TEXT NOT NULL,
  phone TEXT NOT NULL,
  PRIMARY KEY (tenant_id, customer_id, address_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- A projection of the events: what was sold net of credits and adjustments on a day (days since 1970-01-01, UTC).
CREATE TABLE orders_daily_sales (
  tenant_id BIGINT NOT NULL,
  day BIGINT NOT NULL,
  sku TEXT NOT NULL,
  country TEXT NOT NULL,
  currency TEXT NOT NULL,
  lines BIGINT NOT NULL,
  quantity BIGINT NOT NULL,
  extended_micros BIGINT NOT NULL,
  total_minor BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, day, sku, country, currency)
)
-- @sqlite
WITHOUT ROWID
-- @end
;
