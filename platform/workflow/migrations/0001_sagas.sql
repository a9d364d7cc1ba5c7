-- Sagas, jobs and timers. Tenant 0 is the platform.
CREATE TABLE workflow_sagas (
  tenant_id BIGINT NOT NULL,
  saga_id BIGINT NOT NULL,
  kind TEXT NOT NULL,
  business_key TEXT NOT NULL,
  -- Of the steps: a saga ends under the version under which it began.
  version BIGINT NOT NULL,
  -- running, waiting, compensating, parked; done, failed, cancelled.
  status TEXT NOT NULL,
  -- What is to be done next: prepare, call, doubt, again, answer, wait; end.
  phase TEXT NOT NULL DEFAULT 'prepare',
  -- Whether it goes backwards.
  undoing BOOLEAN NOT NULL DEFAULT FALSE,
  cancel BOOLEAN NOT NULL DEFAULT FALSE,
  -- Empty for the first step.
  step TEXT NOT NULL DEFAULT '',
  -- How many steps were entered: part of the stable key.
  visit BIGINT NOT NULL DEFAULT 0,
  -- When a node is to look at it: what it is due for, or the end of the lease; for an ended one, when it is deleted. NULL when parked.
  next_at BIGINT,
  -- Which process holds the lease, 0 for none, and the fencing token, which grows with each write.
  owner BIGINT NOT NULL DEFAULT 0,
  token BIGINT NOT NULL DEFAULT 0,
  attempts BIGINT NOT NULL DEFAULT 0,
  -- Of the call or the wait: since when, and until when.
  since BIGINT,
  deadline_at BIGINT,
  call_key TEXT NOT NULL DEFAULT '',
  -- JSON: the names of the signals that it waits for.
  awaits TEXT NOT NULL DEFAULT '',
  -- Why it is parked or tried again, and why it goes backwards.
  reason TEXT NOT NULL DEFAULT '',
  failure TEXT NOT NULL DEFAULT '',
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  ended_at BIGINT,
  -- JSON, last, since they may be large.
  state TEXT NOT NULL,
  body TEXT NOT NULL DEFAULT '',
  answer TEXT NOT NULL DEFAULT '',
  trail TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (tenant_id, saga_id)
);

CREATE UNIQUE INDEX workflow_sagas_key ON workflow_sagas (tenant_id, kind, business_key);

-- What is due, for the runner, which looks at every tenant at once; NULL for what is parked.
CREATE INDEX workflow_sagas_due ON workflow_sagas (next_at, tenant_id, saga_id);

-- The same for tenants in turn, what is parked of one tenant, and the counts by status, for which it holds ended_at.
CREATE INDEX workflow_sagas_open ON workflow_sagas (tenant_id, next_at, status, saga_id, ended_at) WHERE ended_at IS NULL;

-- What sagas were told, each name once; kept until the saga is deleted, so that a repeated one is known.
CREATE TABLE workflow_signals (
  tenant_id BIGINT NOT NULL,
  saga_id BIGINT NOT NULL,
  name TEXT NOT NULL,
  arrived_at BIGINT NOT NULL,
  heard BOOLEAN NOT NULL,
  payload TEXT NOT NULL,
  PRIMARY KEY (tenant_id, saga_id, name)
)
-- @sqlite
WITHOUT ROWID
-- @end
;
