-- The order that a payment is for, as the tenant's shop names it; an order may have several payments.
ALTER TABLE payments_intents ADD COLUMN order_id TEXT;

CREATE TABLE payments_of_orders (
  tenant_id BIGINT NOT NULL,
  order_id TEXT NOT NULL,
  intent_id BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, order_id, intent_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;
