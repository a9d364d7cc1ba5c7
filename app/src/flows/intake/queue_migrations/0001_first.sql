-- Requests that a node has taken in, in a file of the node's own. One that has ended is kept for a while without its body.
CREATE TABLE intake_requests (
  tenant_id BIGINT NOT NULL,
  intake_id BIGINT NOT NULL,
  -- Under which it is done once: the caller's idempotency key, or the intake's id.
  request_key TEXT NOT NULL,
  -- SHA-256 of path and body.
  fingerprint BYTEA NOT NULL,
  -- Who asked: user or api_key, and its number.
  actor_kind TEXT NOT NULL,
  actor_id BIGINT NOT NULL,
  request_id TEXT NOT NULL,
  path TEXT NOT NULL,
  body BYTEA NOT NULL,
  -- waiting, placed, refused.
  state TEXT NOT NULL,
  location TEXT,
  code TEXT,
  detail TEXT,
  taken_in_at BIGINT NOT NULL,
  ended_at BIGINT,
  PRIMARY KEY (tenant_id, intake_id)
);

CREATE UNIQUE INDEX intake_requests_key ON intake_requests (tenant_id, request_key);
