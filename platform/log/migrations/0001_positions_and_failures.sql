-- How far each consumer has come on each lane. The row of lane -1 exists only while the events that moved tenants brought along
-- are being replayed; the consumer's other lanes stand at -1 meanwhile, which means that they wait for it.
CREATE TABLE log_positions (
  consumer TEXT NOT NULL,
  lane BIGINT NOT NULL,
  sequence BIGINT NOT NULL,
  -- Which process delivers outside effects, and until when the others leave them to it; 0 for nobody.
  owner BIGINT NOT NULL,
  owned_until BIGINT NOT NULL,
  PRIMARY KEY (consumer, lane)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- Events that a consumer could not handle yet, each with a copy of the event, so that a dead letter outlives archived partitions
-- and moves with its tenant. Of the rows of one (tenant, consumer, subject) the one with the lowest place is retrying or dead,
-- and every other is blocked behind it. Tenant 0 is the platform.
CREATE TABLE log_failures (
  tenant_id BIGINT NOT NULL,
  consumer TEXT NOT NULL,
  event_id BIGINT NOT NULL,
  subject TEXT NOT NULL,
  place BIGINT NOT NULL,
  lane BIGINT NOT NULL,
  sequence BIGINT NOT NULL,
  kind TEXT NOT NULL,
  version BIGINT NOT NULL,
  occurred_at BIGINT NOT NULL,
  correlation_id TEXT,
  state TEXT NOT NULL,
  attempts BIGINT NOT NULL,
  next_attempt_at BIGINT NOT NULL,
  failed_at BIGINT NOT NULL,
  error_code TEXT NOT NULL,
  error_detail TEXT NOT NULL,
  -- Last, since it may be large: what comes before it is read without it.
  payload TEXT NOT NULL,
  PRIMARY KEY (tenant_id, consumer, event_id)
);

-- The queue of a key.
CREATE UNIQUE INDEX log_failures_key ON log_failures (tenant_id, consumer, subject, place);

-- What is due, for the platform's own retry loop, which looks at every tenant at once.
CREATE INDEX log_failures_due ON log_failures (next_attempt_at, tenant_id, consumer, subject, place, event_id) WHERE state = 'retrying';
