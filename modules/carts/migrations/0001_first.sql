-- Carts, what is in them, and how long a tenant keeps them.

CREATE TABLE carts_carts (
  tenant_id BIGINT NOT NULL,
  cart_id BIGINT NOT NULL,
  -- Null: a guest's.
  customer_id BIGINT,
  -- SHA-256 of the tokens that open it, 32 bytes each, the newest last, at most five.
  tokens BYTEA NOT NULL,
  status TEXT NOT NULL,
  currency TEXT NOT NULL,
  email TEXT,
  -- JSON.
  destination TEXT,
  shipping_method TEXT,
  -- JSON: ["SPRING", ...]
  coupons TEXT NOT NULL,
  -- How many lines it has: bounds them without counting. The audit recounts.
  lines BIGINT NOT NULL,
  -- Rises with every change that its owner makes.
  version BIGINT NOT NULL,
  -- How many checkouts were begun with it.
  attempts BIGINT NOT NULL,
  order_id BIGINT,
  merged_into BIGINT,
  created_at BIGINT NOT NULL,
  changed_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  abandoned_at BIGINT,
  -- When the sweep looks at it next. A change does not move it: the sweep finds that it is early, and comes again.
  next_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, cart_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

CREATE INDEX carts_carts_next ON carts_carts (tenant_id, next_at);

-- One cart that is not over for each customer.
CREATE UNIQUE INDEX carts_carts_customer ON carts_carts (tenant_id, customer_id)
WHERE customer_id IS NOT NULL AND status IN ('open', 'abandoned', 'checking_out');

CREATE TABLE carts_lines (
  tenant_id BIGINT NOT NULL,
  cart_id BIGINT NOT NULL,
  variant_id BIGINT NOT NULL,
  -- Their order.
  place BIGINT NOT NULL,
  quantity BIGINT NOT NULL,
  -- What its owner was last shown.
  title TEXT NOT NULL,
  unit_price_micros BIGINT,
  PRIMARY KEY (tenant_id, cart_id, variant_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

CREATE TABLE carts_settings (
  tenant_id BIGINT NOT NULL,
  guest_days BIGINT NOT NULL,
  customer_days BIGINT NOT NULL,
  abandoned_after_minutes BIGINT NOT NULL,
  version BIGINT NOT NULL,
  PRIMARY KEY (tenant_id)
);
