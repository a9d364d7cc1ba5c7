-- What follows a placed order: holds, deliveries, notes, tags, and returns.

-- Orders that must not go until somebody has looked at them. A row is there as long as the hold lasts.
CREATE TABLE orders_holds (
  tenant_id BIGINT NOT NULL,
  order_id BIGINT NOT NULL,
  reason TEXT NOT NULL,
  actor_kind TEXT NOT NULL,
  actor_id BIGINT NOT NULL,
  held_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, order_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- What of an order's lines arrived, and by which of its versions. Only added to.
CREATE TABLE orders_deliveries (
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

-- What people wrote down about an order. Only added to.
CREATE TABLE orders_remarks (
  tenant_id BIGINT NOT NULL,
  order_id BIGINT NOT NULL,
  remark_id BIGINT NOT NULL,
  remark TEXT NOT NULL,
  actor_kind TEXT NOT NULL,
  actor_id BIGINT NOT NULL,
  request_id TEXT,
  written_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, order_id, remark_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

CREATE TABLE orders_tags (
  tenant_id BIGINT NOT NULL,
  tag TEXT NOT NULL,
  order_id BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, tag, order_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

CREATE INDEX orders_tags_of_order ON orders_tags (tenant_id, order_id, tag);

-- Goods that come back. The lines are in orders_return_lines.
CREATE TABLE orders_returns (
  tenant_id BIGINT NOT NULL,
  return_id BIGINT NOT NULL,
  order_id BIGINT NOT NULL,
  state TEXT NOT NULL,
  version BIGINT NOT NULL,
  reason TEXT NOT NULL,
  refund_minor BIGINT NOT NULL,
  currency TEXT NOT NULL,
  credit_note_id BIGINT,
  exchange_order_id BIGINT,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, return_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

CREATE INDEX orders_returns_by_order ON orders_returns (tenant_id, order_id, return_id);
CREATE INDEX orders_returns_by_state ON orders_returns (tenant_id, state, return_id);

-- `claimed` is what no other return may take back: what was asked for, then what came, nothing once it was rejected or called off.
CREATE TABLE orders_return_lines (
  tenant_id BIGINT NOT NULL,
  order_id BIGINT NOT NULL,
  return_id BIGINT NOT NULL,
  line BIGINT NOT NULL,
  quantity BIGINT NOT NULL,
  reason TEXT NOT NULL,
  claimed BIGINT NOT NULL,
  received BIGINT NOT NULL,
  restocked BIGINT NOT NULL,
  written_off BIGINT NOT NULL,
  refunded BIGINT NOT NULL,
  refund_minor BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, order_id, return_id, line)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- One row for each version of a return: who did what, and why. Only added to.
CREATE TABLE orders_return_changes (
  tenant_id BIGINT NOT NULL,
  return_id BIGINT NOT NULL,
  version BIGINT NOT NULL,
  kind TEXT NOT NULL,
  state TEXT NOT NULL,
  actor_kind TEXT NOT NULL,
  actor_id BIGINT NOT NULL,
  reason TEXT NOT NULL,
  request_id TEXT,
  changed_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, return_id, version)
)
-- @sqlite
WITHOUT ROWID
-- @end
;
