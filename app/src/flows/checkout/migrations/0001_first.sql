-- Checkouts. A checkout has the number of the order that it becomes.
CREATE TABLE checkout_checkouts (
  tenant_id BIGINT NOT NULL,
  checkout_id BIGINT NOT NULL,
  -- The cart, and which of its attempts this is; NULL for one without a cart.
  cart_id BIGINT,
  cart_attempt BIGINT NOT NULL,
  -- paying, completed, failed.
  state TEXT NOT NULL,
  -- Why it failed; of a completed one, why its payment is gone.
  reason TEXT NOT NULL,
  -- NULL when nothing was to be paid.
  intent_id BIGINT,
  -- What the stock is reserved under.
  stock_reference TEXT NOT NULL,
  customer_id BIGINT,
  email TEXT,
  currency TEXT NOT NULL,
  total_minor BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  -- JSON: lines, prices, taxes, destination, as they were agreed on.
  agreed TEXT NOT NULL,
  PRIMARY KEY (tenant_id, checkout_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

CREATE TABLE checkout_settings (
  tenant_id BIGINT NOT NULL,
  version BIGINT NOT NULL,
  settings TEXT NOT NULL,
  PRIMARY KEY (tenant_id)
);
