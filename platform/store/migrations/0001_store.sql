-- The shard's own tables: its lanes, its log of events, its idempotency keys, and where tenants live.

-- What the shard remembers of itself (how many lanes it was made with).
CREATE TABLE store_meta (
  key TEXT NOT NULL PRIMARY KEY,
  value TEXT NOT NULL
);

-- The last event of each lane, raised in the transaction that inserts the events. Ids rise within a lane although the clocks of its
-- nodes differ, so that a tenant's events can be followed by id.
CREATE TABLE store_lanes (
  lane BIGINT NOT NULL PRIMARY KEY,
  last_sequence BIGINT NOT NULL,
  last_event_id BIGINT NOT NULL DEFAULT 0
);

-- On the home shard: tenants that live on another shard. The column is not called tenant_id, since this is the platform's table.
CREATE TABLE store_directory (
  tenant BIGINT NOT NULL PRIMARY KEY,
  shard BIGINT NOT NULL,
  placed_at BIGINT NOT NULL
);

-- On the shard that a tenant leaves: its commands are held while the state is 'moving', and sent on to the shard once it is 'moved'.
CREATE TABLE store_departures (
  tenant BIGINT NOT NULL PRIMARY KEY,
  shard BIGINT NOT NULL,
  state TEXT NOT NULL
);

-- The shard's log. Tenant 0 is the platform itself; lane -1 holds the history of tenants that moved here, with sequence = event_id.
-- An exception to the rule that a tenant's table begins its primary key with tenant_id: consumers read a lane in order, for all
-- tenants, so that is the key. On SQLite the rows lie in the order of their appends (a rowid table, because events are too large for
-- WITHOUT ROWID), and both keys are small indexes beside them. On PostgreSQL the log is partitioned by month, by the time in event_id.
CREATE TABLE store_events (
  tenant_id BIGINT NOT NULL,
  event_id BIGINT NOT NULL,
  lane BIGINT NOT NULL,
  sequence BIGINT NOT NULL,
  kind TEXT NOT NULL,
  version BIGINT NOT NULL,
  subject TEXT NOT NULL,
  occurred_at BIGINT NOT NULL,
  correlation_id TEXT,
  payload TEXT NOT NULL,
-- @sqlite
  PRIMARY KEY (lane, sequence)
)
-- @postgres
  PRIMARY KEY (lane, sequence, event_id)
) PARTITION BY RANGE (event_id)
-- @end
;

CREATE INDEX store_events_tenant ON store_events (tenant_id, event_id);

-- @postgres
CREATE TABLE store_events_default PARTITION OF store_events DEFAULT;
-- @end

-- Answers of commands under an idempotency key. Tenant 0 is the platform itself.
-- @sqlite
-- The other exception to the rule: buckets are opened one after another, so that random keys stay local (see once.rs).
-- Bucket 0 holds keys that came with a tenant or out of a backup.
CREATE TABLE store_once (
  bucket BIGINT NOT NULL,
  tenant_id BIGINT NOT NULL,
  hash BYTEA NOT NULL,
  fingerprint BYTEA NOT NULL,
  answer BYTEA NOT NULL,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (bucket, tenant_id, hash)
) WITHOUT ROWID;

-- A sealed bucket has a time of sealing and a Bloom filter; the open one has neither. Times are Unix milliseconds.
CREATE TABLE store_once_buckets (
  bucket BIGINT NOT NULL PRIMARY KEY,
  sealed_at BIGINT,
  opened_at BIGINT NOT NULL,
  keys BIGINT NOT NULL,
  filter BYTEA
);
-- @postgres
CREATE TABLE store_once (
  tenant_id BIGINT NOT NULL,
  hash BYTEA NOT NULL,
  fingerprint BYTEA NOT NULL,
  answer BYTEA NOT NULL,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, hash)
);

CREATE INDEX store_once_age ON store_once (created_at);
-- @end

-- What a tenant that is being moved changes meanwhile: the keys of its changed rows, written by triggers that stand only during a
-- move. key is a JSON list.
CREATE TABLE store_changes (
-- @sqlite
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  table_name TEXT NOT NULL,
  key TEXT NOT NULL
-- @postgres
  seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  table_name TEXT NOT NULL,
  key TEXT NOT NULL
-- @end
);

CREATE INDEX store_changes_key ON store_changes (table_name, key);
