-- How far an import has come: one row for each file and tenant. The documents themselves are told apart by their external
-- references; this only spares a second run from asking for each of them.
CREATE TABLE imports_runs (
  tenant_id BIGINT NOT NULL,
  fingerprint TEXT NOT NULL,
  source TEXT NOT NULL,
  documents_done BIGINT NOT NULL,
  started_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, fingerprint)
)
-- @sqlite
WITHOUT ROWID
-- @end
;
