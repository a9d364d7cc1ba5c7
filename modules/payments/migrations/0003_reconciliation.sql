-- The run of reconciliation that found an operation in its provider's file; none as long as no file had it.
ALTER TABLE payments_operations ADD COLUMN settled_run BIGINT;
CREATE INDEX payments_operations_unsettled ON payments_operations (tenant_id, intent_id, operation_id)
  WHERE settled_run IS NULL AND state <> 'failed' AND kind <> 'void';

-- What adjusted the ledger's accounts of a provider besides payments: payouts and resolved breaks.
ALTER TABLE payments_accounts ADD COLUMN receivable_adjusted BIGINT NOT NULL DEFAULT 0;
ALTER TABLE payments_accounts ADD COLUMN fees_adjusted BIGINT NOT NULL DEFAULT 0;

-- How a provider's settlement files are read, as JSON.
CREATE TABLE payments_formats (
  tenant_id BIGINT NOT NULL,
  provider_id BIGINT NOT NULL,
  version BIGINT NOT NULL,
  format TEXT NOT NULL,
  PRIMARY KEY (tenant_id, provider_id)
);

-- Settlement files that were compared with the payments.
CREATE TABLE payments_runs (
  tenant_id BIGINT NOT NULL,
  run_id BIGINT NOT NULL,
  provider_id BIGINT NOT NULL,
  day BIGINT NOT NULL,
  digest TEXT NOT NULL,
  state TEXT NOT NULL,
  attempt BIGINT NOT NULL,
  summary TEXT NOT NULL,
  begun_at BIGINT NOT NULL,
  ended_at BIGINT,
  closed_at BIGINT,
  note TEXT,
  PRIMARY KEY (tenant_id, run_id)
);
CREATE TABLE payments_files (
  tenant_id BIGINT NOT NULL,
  provider_id BIGINT NOT NULL,
  digest TEXT NOT NULL,
  run_id BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, provider_id, digest)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- Where file and payments differ. The subject is an operation or a row of a file; a difference that is found again is the same one.
CREATE TABLE payments_breaks (
  tenant_id BIGINT NOT NULL,
  provider_id BIGINT NOT NULL,
  subject TEXT NOT NULL,
  kind TEXT NOT NULL,
  break_id BIGINT NOT NULL,
  run_id BIGINT NOT NULL,
  last_run BIGINT NOT NULL,
  state TEXT NOT NULL,
  intent_id BIGINT,
  operation_id BIGINT,
  line BIGINT,
  currency TEXT NOT NULL,
  ours_minor BIGINT,
  theirs_minor BIGINT,
  difference_minor BIGINT NOT NULL,
  day BIGINT NOT NULL,
  detail TEXT NOT NULL,
  resolution TEXT,
  transaction_id BIGINT,
  created_at BIGINT NOT NULL,
  resolved_at BIGINT,
  PRIMARY KEY (tenant_id, provider_id, subject, kind)
);
CREATE UNIQUE INDEX payments_breaks_by_id ON payments_breaks (tenant_id, break_id);
