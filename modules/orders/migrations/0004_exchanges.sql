-- An order takes the place of one return. Not unique: before this there may be such that were named by several.
CREATE INDEX orders_returns_by_exchange ON orders_returns (tenant_id, exchange_order_id) WHERE exchange_order_id IS NOT NULL;

-- Of what a return credits, what counts for the order that takes its place and is not given back.
ALTER TABLE orders_returns ADD COLUMN carried_minor BIGINT NOT NULL DEFAULT 0;
