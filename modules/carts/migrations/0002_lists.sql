-- For lists of a tenant's carts, the newest first: of a customer, and by where they stand.
CREATE INDEX carts_carts_of_customer ON carts_carts (tenant_id, customer_id, cart_id) WHERE customer_id IS NOT NULL;
CREATE INDEX carts_carts_by_status ON carts_carts (tenant_id, status, cart_id);
