-- Old callbacks are forgotten, the oldest first.
CREATE INDEX payments_callbacks_by_time ON payments_callbacks (tenant_id, received_at);
