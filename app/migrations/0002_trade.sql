-- What the documents that a run took come to, for the audit: how many were booked as payments, and the sum of them all.
ALTER TABLE imports_runs ADD COLUMN currency TEXT NOT NULL DEFAULT '';
ALTER TABLE imports_runs ADD COLUMN booked BIGINT NOT NULL DEFAULT 0;
ALTER TABLE imports_runs ADD COLUMN booked_minor BIGINT NOT NULL DEFAULT 0;

-- Where imported goods are kept: one location for a tenant.
CREATE TABLE imports_places (
  tenant_id BIGINT NOT NULL,
  location_id BIGINT NOT NULL,
  PRIMARY KEY (tenant_id)
);
