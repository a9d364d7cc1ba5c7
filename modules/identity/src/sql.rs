//! Every statement. Those of a tenant's scope take the tenant as `$1`; those of the platform's run on the home shard.

use store::Sql;
use web::{InScope, Statement};

/// Names the constants once more as a list, for the tests that prepare each on both engines.
macro_rules! statements {
    ($($scope:ident { $($(#[$doc:meta])* $name:ident = $sql:expr;)* })*) => {
        $($($(#[$doc])* pub(crate) const $name: Sql = $sql;)*)*
        pub(crate) fn all() -> Vec<Statement> {
            vec![$($(Statement::new(stringify!($name), $name, InScope::$scope),)*)*]
        }
    };
}

const fn both(text: &'static str) -> Sql {
    Sql::per_engine(text, text)
}

statements! {
    Platform {
        SECRET = both("SELECT secret FROM identity_secrets WHERE name = $1");
        SECRET_INSERT = both("INSERT INTO identity_secrets (name, secret, created_at) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING");

        EPOCHS = both("SELECT bucket, epoch FROM identity_epochs");
        EPOCH_RAISE = both(
            "INSERT INTO identity_epochs (bucket, epoch) VALUES ($1, 1) ON CONFLICT (bucket) DO UPDATE SET epoch = identity_epochs.epoch + 1",
        );

        TENANT = both("SELECT id, slug, name, status, plan, version, created_at, updated_at FROM identity_tenants WHERE id = $1");
        TENANT_BY_SLUG = both("SELECT id, slug, name, status, plan, version, created_at, updated_at FROM identity_tenants WHERE slug = $1");
        TENANT_INSERT = both(
            "INSERT INTO identity_tenants (id, slug, name, status, plan, version, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, 1, $6, $6) ON CONFLICT (slug) DO NOTHING",
        );
        TENANT_UPDATE = both(
            "UPDATE identity_tenants SET name = $2, status = $3, plan = $4, version = version + 1, updated_at = $5 WHERE id = $1",
        );
        TENANTS_PAGE = both(
            "SELECT id, slug, name, status, plan, version, created_at, updated_at FROM identity_tenants WHERE id < $1 ORDER BY id DESC LIMIT $2",
        );
        TENANTS_BY_IDS = Sql::per_engine(
            "SELECT id, slug, name, status, plan, version, created_at, updated_at FROM identity_tenants
             WHERE id IN (SELECT value FROM json_each($1)) ORDER BY slug",
            "SELECT id, slug, name, status, plan, version, created_at, updated_at FROM identity_tenants WHERE id = ANY($1) ORDER BY slug",
        );

        USER = both("SELECT id, email, name, password_hash, status, token_version FROM identity_users WHERE id = $1");
        USER_BY_EMAIL = both("SELECT id, email, name, password_hash, status, token_version FROM identity_users WHERE email = $1");
        USERS_BY_IDS = Sql::per_engine(
            "SELECT id, email, name FROM identity_users WHERE id IN (SELECT value FROM json_each($1))",
            "SELECT id, email, name FROM identity_users WHERE id = ANY($1)",
        );
        USER_INSERT = both(
            "INSERT INTO identity_users (id, email, name, password_hash, status, token_version, created_at, updated_at)
             VALUES ($1, $2, $3, $4, 'active', 1, $5, $5) ON CONFLICT (email) DO NOTHING",
        );
        USER_PASSWORD = both(
            "UPDATE identity_users SET password_hash = $2, token_version = token_version + 1, updated_at = $3 WHERE id = $1",
        );
        USER_STATUS = both("UPDATE identity_users SET status = $2, token_version = token_version + 1, updated_at = $3 WHERE id = $1");

        PLATFORM_ADMIN = both("SELECT user_id FROM identity_platform_admins WHERE user_id = $1");
        PLATFORM_ADMIN_INSERT = both("INSERT INTO identity_platform_admins (user_id, created_at) VALUES ($1, $2) ON CONFLICT (user_id) DO NOTHING");
        PLATFORM_ADMIN_DELETE = both("DELETE FROM identity_platform_admins WHERE user_id = $1");

        USER_TENANTS = both("SELECT tenant FROM identity_user_tenants WHERE user_id = $1 ORDER BY tenant LIMIT 100");
        USER_TENANT_INSERT = both("INSERT INTO identity_user_tenants (user_id, tenant) VALUES ($1, $2) ON CONFLICT (user_id, tenant) DO NOTHING");
        USER_TENANT_DELETE = both("DELETE FROM identity_user_tenants WHERE user_id = $1 AND tenant = $2");

        ATTEMPTS = both("SELECT failures, last_at FROM identity_sign_in_attempts WHERE email_hash = $1");
        ATTEMPT_UPSERT = both(
            "INSERT INTO identity_sign_in_attempts (email_hash, failures, last_at) VALUES ($1, 1, $2)
             ON CONFLICT (email_hash) DO UPDATE SET failures = identity_sign_in_attempts.failures + 1, last_at = excluded.last_at",
        );
        ATTEMPTS_DELETE = both("DELETE FROM identity_sign_in_attempts WHERE email_hash = $1");
        ATTEMPTS_FORGET = both("DELETE FROM identity_sign_in_attempts WHERE last_at < $1");

        SESSION_INSERT = both(
            "INSERT INTO identity_sessions (id, user_id, tenant, family_hash, refresh_hash, created_at, refreshed_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $6, $7)",
        );
        SESSION_TO_REFRESH = both(
            "SELECT s.user_id, s.tenant, s.family_hash, s.refresh_hash, s.created_at, s.expires_at, s.revoked_at, u.status, u.token_version
             FROM identity_sessions s JOIN identity_users u ON u.id = s.user_id WHERE s.id = $1",
        );
        SESSION_ROTATE = both(
            "UPDATE identity_sessions SET refresh_hash = $3, refreshed_at = $4, expires_at = $5
             WHERE id = $1 AND refresh_hash = $2 AND revoked_at IS NULL",
        );
        SESSION_REVOKE = both("UPDATE identity_sessions SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL");
        SESSIONS_REVOKE_OF_USER = both("UPDATE identity_sessions SET revoked_at = $2 WHERE user_id = $1 AND revoked_at IS NULL");
        SESSIONS_REVOKE_OF_MEMBER = both(
            "UPDATE identity_sessions SET revoked_at = $3 WHERE user_id = $1 AND tenant = $2 AND revoked_at IS NULL",
        );
        SESSIONS_DELETE_ENDED = both("DELETE FROM identity_sessions WHERE user_id = $1 AND (expires_at <= $2 OR revoked_at IS NOT NULL)");
        /// All but the newest 49, to make room for one more.
        SESSIONS_DELETE_OLDEST = both(
            "DELETE FROM identity_sessions WHERE user_id = $1
             AND id IN (SELECT id FROM identity_sessions WHERE user_id = $1 ORDER BY id DESC LIMIT 1000 OFFSET 49)",
        );
        /// Everything on the home shard that decides what an access token allows, in one round trip.
        SESSION_ACCESS = both(
            "SELECT s.user_id, s.tenant, s.expires_at, s.revoked_at, u.status, u.token_version, t.status, a.user_id, t.plan
             FROM identity_sessions s
             JOIN identity_users u ON u.id = s.user_id
             LEFT JOIN identity_tenants t ON t.id = s.tenant
             LEFT JOIN identity_platform_admins a ON a.user_id = s.user_id
             WHERE s.id = $1",
        );

        PLATFORM_AUDIT_INSERT = both(
            "INSERT INTO identity_platform_audit
             (id, tenant, actor_kind, actor_id, action, subject, before_json, after_json, request_id, occurred_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        );
        PLATFORM_AUDIT_PAGE = both(
            "SELECT id, tenant, actor_kind, actor_id, action, subject, before_json, after_json, request_id, occurred_at
             FROM identity_platform_audit WHERE id < $1 ORDER BY id DESC LIMIT $2",
        );

        /// Counts of some tenants on one shard.
        REPORT_MEMBERS = Sql::per_engine(
            "SELECT tenant_id, COUNT(*) FROM identity_memberships WHERE tenant_id IN (SELECT value FROM json_each($1)) GROUP BY tenant_id",
            "SELECT tenant_id, COUNT(*) FROM identity_memberships WHERE tenant_id = ANY($1) GROUP BY tenant_id",
        );
        REPORT_API_KEYS = Sql::per_engine(
            "SELECT tenant_id, COUNT(*) FROM identity_api_keys
             WHERE tenant_id IN (SELECT value FROM json_each($1)) AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2) GROUP BY tenant_id",
            "SELECT tenant_id, COUNT(*) FROM identity_api_keys
             WHERE tenant_id = ANY($1) AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2) GROUP BY tenant_id",
        );
    }

    Tenant {
        SETTINGS = both("SELECT settings, settings_version, flags, flags_version FROM identity_settings WHERE tenant_id = $1");
        SETTINGS_UPSERT = both(
            "INSERT INTO identity_settings (tenant_id, settings, settings_version, flags, flags_version) VALUES ($1, $2, $3, '{}', 1)
             ON CONFLICT (tenant_id) DO UPDATE SET settings = excluded.settings, settings_version = excluded.settings_version",
        );
        FLAGS_UPSERT = both(
            "INSERT INTO identity_settings (tenant_id, settings, settings_version, flags, flags_version) VALUES ($1, '{}', 1, $2, $3)
             ON CONFLICT (tenant_id) DO UPDATE SET flags = excluded.flags, flags_version = excluded.flags_version",
        );

        MEMBER_ACCESS = both(
            "SELECT m.role, r.permissions FROM identity_memberships m
             LEFT JOIN identity_roles r ON r.tenant_id = $1 AND r.name = m.role
             WHERE m.tenant_id = $1 AND m.user_id = $2",
        );
        MEMBER = both("SELECT user_id, role, created_at, updated_at FROM identity_memberships WHERE tenant_id = $1 AND user_id = $2");
        MEMBERS_PAGE = both(
            "SELECT user_id, role, created_at, updated_at FROM identity_memberships WHERE tenant_id = $1 AND user_id < $2 ORDER BY user_id DESC LIMIT $3",
        );
        MEMBER_INSERT = both(
            "INSERT INTO identity_memberships (tenant_id, user_id, role, created_at, updated_at) VALUES ($1, $2, $3, $4, $4)
             ON CONFLICT (tenant_id, user_id) DO NOTHING",
        );
        MEMBER_SET_ROLE = both("UPDATE identity_memberships SET role = $3, updated_at = $4 WHERE tenant_id = $1 AND user_id = $2");
        MEMBER_DELETE = both("DELETE FROM identity_memberships WHERE tenant_id = $1 AND user_id = $2");
        MEMBERS_OF_ROLE = both("SELECT COUNT(*) FROM identity_memberships WHERE tenant_id = $1 AND role = $2");

        MEMBER_ROLES = both("SELECT role, COUNT(*) FROM identity_memberships WHERE tenant_id = $1 GROUP BY role");

        ROLE = both("SELECT name, description, permissions, updated_at FROM identity_roles WHERE tenant_id = $1 AND name = $2");
        ROLES = both("SELECT name, description, permissions, updated_at FROM identity_roles WHERE tenant_id = $1 ORDER BY name LIMIT 50");
        ROLES_COUNT = both("SELECT COUNT(*) FROM identity_roles WHERE tenant_id = $1");
        ROLE_UPSERT = both(
            "INSERT INTO identity_roles (tenant_id, name, description, permissions, updated_at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (tenant_id, name) DO UPDATE
             SET description = excluded.description, permissions = excluded.permissions, updated_at = excluded.updated_at",
        );
        ROLE_DELETE = both("DELETE FROM identity_roles WHERE tenant_id = $1 AND name = $2");

        INVITATION = both(
            "SELECT invitation_id, email, role, token_hash, created_at, expires_at, accepted_at, revoked_at
             FROM identity_invitations WHERE tenant_id = $1 AND invitation_id = $2",
        );
        INVITATIONS_PAGE = both(
            "SELECT invitation_id, email, role, token_hash, created_at, expires_at, accepted_at, revoked_at
             FROM identity_invitations WHERE tenant_id = $1 AND invitation_id < $2 ORDER BY invitation_id DESC LIMIT $3",
        );
        INVITATIONS_OPEN = both(
            "SELECT COUNT(*) FROM identity_invitations WHERE tenant_id = $1 AND accepted_at IS NULL AND revoked_at IS NULL AND expires_at > $2",
        );
        INVITATION_INSERT = both(
            "INSERT INTO identity_invitations (tenant_id, invitation_id, email, role, token_hash, created_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        );
        INVITATION_ACCEPT = both(
            "UPDATE identity_invitations SET accepted_at = $3
             WHERE tenant_id = $1 AND invitation_id = $2 AND accepted_at IS NULL AND revoked_at IS NULL",
        );
        INVITATION_REVOKE = both(
            "UPDATE identity_invitations SET revoked_at = $3
             WHERE tenant_id = $1 AND invitation_id = $2 AND accepted_at IS NULL AND revoked_at IS NULL",
        );

        API_KEY_ACCESS = both(
            "SELECT key_hash, permissions, expires_at, revoked_at, last_used_at, publishable, origins
             FROM identity_api_keys WHERE tenant_id = $1 AND key_id = $2",
        );
        API_KEY = both(
            "SELECT key_id, name, permissions, created_at, expires_at, revoked_at, last_used_at, publishable, origins
             FROM identity_api_keys WHERE tenant_id = $1 AND key_id = $2",
        );
        API_KEYS_PAGE = both(
            "SELECT key_id, name, permissions, created_at, expires_at, revoked_at, last_used_at, publishable, origins
             FROM identity_api_keys WHERE tenant_id = $1 AND key_id < $2 ORDER BY key_id DESC LIMIT $3",
        );
        API_KEYS_LIVE = both("SELECT COUNT(*) FROM identity_api_keys WHERE tenant_id = $1 AND revoked_at IS NULL");
        API_KEY_INSERT = both(
            "INSERT INTO identity_api_keys (tenant_id, key_id, name, key_hash, permissions, created_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        );
        PUBLISHABLE_KEY_INSERT = both(
            "INSERT INTO identity_api_keys (tenant_id, key_id, name, key_hash, permissions, created_at, expires_at, publishable, origins)
             VALUES ($1, $2, $3, $4, '[]', $5, NULL, TRUE, $6)",
        );
        API_KEY_REVOKE = both("UPDATE identity_api_keys SET revoked_at = $3 WHERE tenant_id = $1 AND key_id = $2 AND revoked_at IS NULL");
        API_KEY_USED = both("UPDATE identity_api_keys SET last_used_at = $3 WHERE tenant_id = $1 AND key_id = $2");

        AUDIT_INSERT = both(
            "INSERT INTO identity_audit
             (tenant_id, entry_id, actor_kind, actor_id, action, subject, before_json, after_json, request_id, occurred_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        );
        AUDIT_PAGE = both(
            "SELECT entry_id, actor_kind, actor_id, action, subject, before_json, after_json, request_id, occurred_at
             FROM identity_audit WHERE tenant_id = $1 AND entry_id < $2 ORDER BY entry_id DESC LIMIT $3",
        );
    }
}
