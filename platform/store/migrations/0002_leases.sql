-- Leases: who may do what only one may do at a time. The token rises each time that a lease changes hands, and is never taken back; a
-- write that requires an older one is refused. Tenant 0 is the platform itself.
CREATE TABLE store_leases (
  tenant_id BIGINT NOT NULL,
  name TEXT NOT NULL,
  owner BIGINT NOT NULL,
  token BIGINT NOT NULL,
  until_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, name)
)
-- @sqlite
WITHOUT ROWID
-- @end
;
