-- Where a tenant's events are delivered; the secrets are sealed.
CREATE TABLE webhooks_endpoints (
  tenant_id BIGINT NOT NULL,
  endpoint_id BIGINT NOT NULL,
  version BIGINT NOT NULL,
  url TEXT NOT NULL,
  description TEXT NOT NULL,
  events TEXT NOT NULL,
  sealed BYTEA NOT NULL,
  state TEXT NOT NULL,
  waiting BIGINT NOT NULL,
  failing_since BIGINT,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, endpoint_id)
);

-- What is delivered: each event once, however many endpoints get it.
CREATE TABLE webhooks_messages (
  tenant_id BIGINT NOT NULL,
  event_id BIGINT NOT NULL,
  kind TEXT NOT NULL,
  body TEXT NOT NULL,
  PRIMARY KEY (tenant_id, event_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- The log of deliveries: one for each event and endpoint, and one for each time it was sent again by hand.
CREATE TABLE webhooks_deliveries (
  tenant_id BIGINT NOT NULL,
  delivery_id BIGINT NOT NULL,
  endpoint_id BIGINT NOT NULL,
  event_id BIGINT NOT NULL,
  kind TEXT NOT NULL,
  state TEXT NOT NULL,
  attempts BIGINT NOT NULL,
  status BIGINT,
  error TEXT,
  created_at BIGINT NOT NULL,
  attempted_at BIGINT,
  next_at BIGINT,
  PRIMARY KEY (tenant_id, delivery_id)
);
CREATE INDEX webhooks_deliveries_of_endpoint ON webhooks_deliveries (tenant_id, endpoint_id, delivery_id);
