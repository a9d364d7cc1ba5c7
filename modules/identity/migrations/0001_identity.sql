-- Platform tables, used on the home shard only. They hold no column named tenant_id: a tenant is named by the column `tenant`.

CREATE TABLE identity_secrets (
  name TEXT NOT NULL PRIMARY KEY,
  secret BYTEA NOT NULL,
  created_at BIGINT NOT NULL
);

-- One counter for each bucket of users and tenants; raised with every change of who may do what.
CREATE TABLE identity_epochs (
  bucket BIGINT NOT NULL PRIMARY KEY,
  epoch BIGINT NOT NULL
);

CREATE TABLE identity_tenants (
  id BIGINT NOT NULL PRIMARY KEY,
  slug TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL,
  status TEXT NOT NULL,
  plan TEXT NOT NULL,
  version BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);

CREATE TABLE identity_users (
  id BIGINT NOT NULL PRIMARY KEY,
  email TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL,
  password_hash TEXT NOT NULL,
  status TEXT NOT NULL,
  token_version BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);

CREATE TABLE identity_platform_admins (
  user_id BIGINT NOT NULL PRIMARY KEY,
  created_at BIGINT NOT NULL
);

-- Where to look for a user's memberships. The truth is identity_memberships on each tenant's shard; a row too many does no harm.
CREATE TABLE identity_user_tenants (
  user_id BIGINT NOT NULL,
  tenant BIGINT NOT NULL,
  PRIMARY KEY (user_id, tenant)
);

CREATE TABLE identity_sessions (
  id BIGINT NOT NULL PRIMARY KEY,
  user_id BIGINT NOT NULL,
  tenant BIGINT,
  family_hash BYTEA NOT NULL,
  refresh_hash BYTEA NOT NULL,
  created_at BIGINT NOT NULL,
  refreshed_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  revoked_at BIGINT
);
CREATE INDEX identity_sessions_by_user ON identity_sessions (user_id, id);

CREATE TABLE identity_sign_in_attempts (
  email_hash BYTEA NOT NULL PRIMARY KEY,
  failures BIGINT NOT NULL,
  last_at BIGINT NOT NULL
);
CREATE INDEX identity_sign_in_attempts_by_age ON identity_sign_in_attempts (last_at);

CREATE TABLE identity_platform_audit (
  id BIGINT NOT NULL PRIMARY KEY,
  tenant BIGINT,
  actor_kind TEXT NOT NULL,
  actor_id BIGINT NOT NULL,
  action TEXT NOT NULL,
  subject TEXT NOT NULL,
  before_json TEXT,
  after_json TEXT,
  request_id TEXT,
  occurred_at BIGINT NOT NULL
);

-- Tenants' tables, on the tenant's shard.

CREATE TABLE identity_settings (
  tenant_id BIGINT NOT NULL,
  settings TEXT NOT NULL,
  settings_version BIGINT NOT NULL,
  flags TEXT NOT NULL,
  flags_version BIGINT NOT NULL,
  PRIMARY KEY (tenant_id)
);

CREATE TABLE identity_memberships (
  tenant_id BIGINT NOT NULL,
  user_id BIGINT NOT NULL,
  role TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, user_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;
CREATE INDEX identity_memberships_by_role ON identity_memberships (tenant_id, role);

CREATE TABLE identity_roles (
  tenant_id BIGINT NOT NULL,
  name TEXT NOT NULL,
  description TEXT NOT NULL,
  permissions TEXT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, name)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

CREATE TABLE identity_invitations (
  tenant_id BIGINT NOT NULL,
  invitation_id BIGINT NOT NULL,
  email TEXT NOT NULL,
  role TEXT NOT NULL,
  token_hash BYTEA NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  accepted_at BIGINT,
  revoked_at BIGINT,
  PRIMARY KEY (tenant_id, invitation_id)
);

CREATE TABLE identity_api_keys (
  tenant_id BIGINT NOT NULL,
  key_id BIGINT NOT NULL,
  name TEXT NOT NULL,
  key_hash BYTEA NOT NULL,
  permissions TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT,
  revoked_at BIGINT,
  last_used_at BIGINT,
  PRIMARY KEY (tenant_id, key_id)
);

CREATE TABLE identity_audit (
  tenant_id BIGINT NOT NULL,
  entry_id BIGINT NOT NULL,
  actor_kind TEXT NOT NULL,
  actor_id BIGINT NOT NULL,
  action TEXT NOT NULL,
  subject TEXT NOT NULL,
  before_json TEXT,
  after_json TEXT,
  request_id TEXT,
  occurred_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, entry_id)
);
