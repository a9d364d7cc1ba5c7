//! Every statement of the checkout. `$1` is the tenant.

use store::Sql;
use web::{InScope, Statement};

pub(super) const INSERT: &str = "
INSERT INTO checkout_checkouts (tenant_id, checkout_id, cart_id, cart_attempt, state, reason, intent_id, stock_reference, customer_id, email,
  currency, total_minor, created_at, updated_at, expires_at, agreed)
VALUES ($1, $2, $3, $4, $5, '', $6, $7, $8, $9, $10, $11, $12, $12, $13, $14)";

/// `$2` the checkout; `$3` the state that it was read in. A checkout is over once, whoever comes first.
pub(super) const END: &str = "
UPDATE checkout_checkouts SET state = $4, reason = $5, stock_reference = $6, updated_at = $7
WHERE tenant_id = $1 AND checkout_id = $2 AND state = $3";

pub(super) const CHECKOUT: &str = "
SELECT checkout_id, cart_id, cart_attempt, state, reason, intent_id, stock_reference, customer_id, email, currency, total_minor, created_at,
  updated_at, expires_at, agreed
FROM checkout_checkouts WHERE tenant_id = $1 AND checkout_id = $2";

/// `$2` the ids of some.
pub(super) const CHECKOUTS: Sql = Sql::per_engine(
    "
SELECT checkout_id, cart_id, cart_attempt, state, reason, intent_id, stock_reference, customer_id, email, currency, total_minor, created_at,
  updated_at, expires_at, agreed
FROM checkout_checkouts WHERE tenant_id = $1 AND checkout_id IN (SELECT value FROM json_each($2))",
    "
SELECT checkout_id, cart_id, cart_attempt, state, reason, intent_id, stock_reference, customer_id, email, currency, total_minor, created_at,
  updated_at, expires_at, agreed
FROM checkout_checkouts WHERE tenant_id = $1 AND checkout_id = ANY($2)",
);

/// `$2` the id below which the page begins, `$3` how many.
pub(super) const PAGE: &str = "
SELECT checkout_id, cart_id, cart_attempt, state, reason, intent_id, stock_reference, customer_id, email, currency, total_minor, created_at,
  updated_at, expires_at, agreed
FROM checkout_checkouts WHERE tenant_id = $1 AND checkout_id < $2 ORDER BY checkout_id DESC LIMIT $3";

/// For the audit: `$2` the id after which the page begins, `$3` how many.
pub(super) const AFTER: &str = "
SELECT checkout_id, state, reason, intent_id, stock_reference, currency, total_minor
FROM checkout_checkouts WHERE tenant_id = $1 AND checkout_id > $2 ORDER BY checkout_id LIMIT $3";

pub(super) const SETTINGS: &str = "SELECT settings, version FROM checkout_settings WHERE tenant_id = $1";

/// `$2` the version that was read, 1 when there is none; `$3` the settings.
pub(super) const SET_SETTINGS: &str = "
INSERT INTO checkout_settings (tenant_id, version, settings) VALUES ($1, CAST($2 AS BIGINT) + 1, $3)
ON CONFLICT (tenant_id) DO UPDATE SET version = checkout_settings.version + 1, settings = excluded.settings
WHERE checkout_settings.version = CAST($2 AS BIGINT)";

/// All of them, for tests that prepare each on both engines.
pub(super) fn statements() -> Vec<Statement> {
    let all: [(&'static str, Sql); 8] = [
        ("INSERT", INSERT.into()),
        ("CHECKOUTS", CHECKOUTS),
        ("END", END.into()),
        ("CHECKOUT", CHECKOUT.into()),
        ("PAGE", PAGE.into()),
        ("AFTER", AFTER.into()),
        ("SETTINGS", SETTINGS.into()),
        ("SET_SETTINGS", SET_SETTINGS.into()),
    ];
    all.into_iter().map(|(name, sql)| Statement::new(name, sql, InScope::Tenant)).collect()
}
