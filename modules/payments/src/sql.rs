//! Every statement of this module. `$1` is the tenant.

use store::Sql;

pub(crate) const INTENT: &str = "
SELECT intent_id, version, state, asking, capture_open, amount_minor, currency, captured_minor, capturing_minor, refunded_minor, refunding_minor,
  fee_minor, method, capture_mode, country, merchant, external_ref, token, token_provider, provider_id, provider_charge, attempt, action_url,
  failure, hold_id, created_at, updated_at, expires_at, order_id, method_id
FROM payments_intents WHERE tenant_id = $1 AND intent_id = $2";

pub(crate) const INTENTS_PAGE: &str = "
SELECT intent_id, version, state, asking, capture_open, amount_minor, currency, captured_minor, capturing_minor, refunded_minor, refunding_minor,
  fee_minor, method, capture_mode, country, merchant, external_ref, token, token_provider, provider_id, provider_charge, attempt, action_url,
  failure, hold_id, created_at, updated_at, expires_at, order_id, method_id
FROM payments_intents WHERE tenant_id = $1 AND intent_id < $2 ORDER BY intent_id DESC LIMIT $3";

pub(crate) const INTENT_BY_REF: &str = "SELECT intent_id FROM payments_refs WHERE tenant_id = $1 AND external_ref = $2";

pub(crate) const INSERT_INTENT: &str = "
INSERT INTO payments_intents (tenant_id, intent_id, version, state, asking, capture_open, amount_minor, currency, captured_minor,
  capturing_minor, refunded_minor, refunding_minor, fee_minor, method, capture_mode, country, merchant, external_ref, token, token_provider,
  provider_id, provider_charge, attempt, action_url, failure, hold_id, created_at, updated_at, expires_at, order_id,
  method_id)
VALUES ($1, $2, 1, 'initiated', $3, FALSE, $4, $5, 0, 0, 0, 0, 0, $6, $7, $8, $9, $10, $11, $12, $16, NULL, $17, NULL, NULL, $18, $13, $13, NULL, $14,
  $15)";

/// Writes what can change of an intent under its next version; `$3` is the version that was read.
pub(crate) const UPDATE_INTENT: &str = "
UPDATE payments_intents SET version = $4, state = $5, asking = $6, capture_open = $7, captured_minor = $8, capturing_minor = $9,
  refunded_minor = $10, refunding_minor = $11, fee_minor = $12, token = $13, token_provider = $14, provider_id = $15, provider_charge = $16,
  attempt = $17, action_url = $18, failure = $19, hold_id = $20, updated_at = $21, expires_at = $22, method_id = $23
WHERE tenant_id = $1 AND intent_id = $2 AND version = $3";

pub(crate) const INSERT_REF: &str = "
INSERT INTO payments_refs (tenant_id, external_ref, intent_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";

pub(crate) const INSERT_OF_ORDER: &str = "
INSERT INTO payments_of_orders (tenant_id, order_id, intent_id) VALUES ($1, $2, $3)";

pub(crate) const INTENTS_OF_ORDER: &str = "
SELECT i.intent_id, i.version, i.state, i.asking, i.capture_open, i.amount_minor, i.currency, i.captured_minor, i.capturing_minor,
  i.refunded_minor, i.refunding_minor, i.fee_minor, i.method, i.capture_mode, i.country, i.merchant, i.external_ref, i.token, i.token_provider,
  i.provider_id, i.provider_charge, i.attempt, i.action_url, i.failure, i.hold_id, i.created_at, i.updated_at, i.expires_at, i.order_id, i.method_id
FROM payments_of_orders o JOIN payments_intents i ON i.tenant_id = $1 AND i.intent_id = o.intent_id
WHERE o.tenant_id = $1 AND o.order_id = $2 AND o.intent_id < $3 ORDER BY o.intent_id DESC LIMIT $4";

/// Sums of orders' payments, in the order of the orders' names after `$2`.
pub(crate) const PAID_BY_ORDER: &str = "
SELECT o.order_id, i.currency, CAST(COUNT(*) AS BIGINT), CAST(SUM(i.captured_minor) AS BIGINT),
  CAST(SUM(i.refunded_minor + i.refunding_minor) AS BIGINT)
FROM payments_of_orders o JOIN payments_intents i ON i.tenant_id = $1 AND i.intent_id = o.intent_id
WHERE o.tenant_id = $1 AND o.order_id > $2 GROUP BY o.order_id, i.currency ORDER BY o.order_id, i.currency LIMIT $3";

/// Sums of one order's payments in a currency. Of one that was taken in part the rest may still be taken, or is just being taken.
pub(crate) const PAID_FOR_ORDER: &str = "
SELECT CAST(COALESCE(SUM(i.captured_minor), 0) AS BIGINT), CAST(COALESCE(SUM(i.refunded_minor), 0) AS BIGINT),
  CAST(COALESCE(SUM(CASE WHEN i.capture_open = TRUE OR i.capturing_minor > 0 OR i.state IN ('initiated', 'requires_action', 'authorized')
    THEN 1 ELSE 0 END), 0) AS BIGINT),
  CAST(COALESCE(SUM(CASE WHEN i.state = 'disputed' THEN 1 ELSE 0 END), 0) AS BIGINT)
FROM payments_of_orders o JOIN payments_intents i ON i.tenant_id = $1 AND i.intent_id = o.intent_id
WHERE o.tenant_id = $1 AND o.order_id = $2 AND i.currency = $3";

/// Those of some payments that came to nothing, are given back as a whole, or are about to be.
pub(crate) const GIVEN_BACK: Sql = Sql::per_engine(
    "
SELECT i.intent_id FROM payments_intents i
WHERE i.tenant_id = $1 AND i.intent_id IN (SELECT value FROM json_each($2))
  AND (i.state IN ('reversed', 'expired', 'failed', 'refunded')
    OR (i.refunding_minor > 0 AND i.captured_minor = i.refunded_minor + i.refunding_minor)
    OR EXISTS (SELECT 1 FROM payments_operations o
      WHERE o.tenant_id = $1 AND o.intent_id = i.intent_id AND o.kind = 'void' AND o.state = 'pending'))",
    "
SELECT i.intent_id FROM payments_intents i
WHERE i.tenant_id = $1 AND i.intent_id = ANY($2)
  AND (i.state IN ('reversed', 'expired', 'failed', 'refunded')
    OR (i.refunding_minor > 0 AND i.captured_minor = i.refunded_minor + i.refunding_minor)
    OR EXISTS (SELECT 1 FROM payments_operations o
      WHERE o.tenant_id = $1 AND o.intent_id = i.intent_id AND o.kind = 'void' AND o.state = 'pending'))",
);

/// What customers have paid and not got back, or are about to, in each currency.
pub(crate) const PAID: &str = "
SELECT currency, CAST(SUM(captured_minor - refunded_minor - refunding_minor) AS BIGINT)
FROM payments_intents WHERE tenant_id = $1 GROUP BY currency ORDER BY currency";

pub(crate) const INSERT_ATTEMPT: &str = "
INSERT INTO payments_attempts (tenant_id, intent_id, attempt, provider_id, outcome, begun_at) VALUES ($1, $2, $3, $4, 'asking', $5)";

pub(crate) const END_ATTEMPT: &str = "
UPDATE payments_attempts SET outcome = $4, code = $5, provider_charge = $6, ended_at = $7 WHERE tenant_id = $1 AND intent_id = $2 AND attempt = $3";

pub(crate) const ATTEMPTS: &str = "
SELECT attempt, provider_id, outcome, code, provider_charge, begun_at, ended_at
FROM payments_attempts WHERE tenant_id = $1 AND intent_id = $2 ORDER BY attempt LIMIT 100";

pub(crate) const INSERT_OPERATION: &str = "
INSERT INTO payments_operations (tenant_id, intent_id, operation_id, kind, state, amount_minor, fee_minor, last, cause, reason, begun_at, provider_id)
VALUES ($1, $2, $3, $4, 'pending', $5, 0, $6, $7, $8, $9, $10)";

pub(crate) const OPERATION: &str = "
SELECT operation_id, kind, state, amount_minor, fee_minor, last, cause, reason, code, begun_at, ended_at, settled_run
FROM payments_operations WHERE tenant_id = $1 AND intent_id = $2 AND operation_id = $3";

pub(crate) const OPERATIONS: &str = "
SELECT operation_id, kind, state, amount_minor, fee_minor, last, cause, reason, code, begun_at, ended_at, settled_run
FROM payments_operations WHERE tenant_id = $1 AND intent_id = $2 ORDER BY operation_id LIMIT 1000";

pub(crate) const OPERATION_COUNT: &str = "
SELECT CAST(COUNT(*) AS BIGINT) FROM payments_operations WHERE tenant_id = $1 AND intent_id = $2";

pub(crate) const PENDING_OPERATIONS: &str = "
SELECT operation_id, kind, state, amount_minor, fee_minor, last, cause, reason, code, begun_at, ended_at, settled_run
FROM payments_operations WHERE tenant_id = $1 AND intent_id = $2 AND state = 'pending' ORDER BY operation_id LIMIT 1000";

pub(crate) const END_OPERATION: &str = "
UPDATE payments_operations SET state = $4, fee_minor = $5, code = $6, ended_at = $7
WHERE tenant_id = $1 AND intent_id = $2 AND operation_id = $3 AND state = 'pending'";

pub(crate) const INSERT_SOURCE: &str = "
INSERT INTO payments_sources (tenant_id, intent_id, transaction_id, amount_minor, reversed_minor) VALUES ($1, $2, $3, $4, 0)";

pub(crate) const SOURCES: &str = "
SELECT transaction_id, amount_minor - reversed_minor FROM payments_sources
WHERE tenant_id = $1 AND intent_id = $2 AND reversed_minor < amount_minor ORDER BY transaction_id LIMIT 2000";

pub(crate) const REVERSE_SOURCE: &str = "
UPDATE payments_sources SET reversed_minor = reversed_minor + $4 WHERE tenant_id = $1 AND intent_id = $2 AND transaction_id = $3";

pub(crate) const ACCOUNTS: &str = "
SELECT receivable_id, clearing_id, fees_id FROM payments_accounts WHERE tenant_id = $1 AND provider_id = $2 AND currency = $3";

pub(crate) const INSERT_ACCOUNTS: &str = "
INSERT INTO payments_accounts (tenant_id, provider_id, currency, receivable_id, clearing_id, fees_id) VALUES ($1, $2, $3, $4, $5, $6)";

pub(crate) const ALL_ACCOUNTS: &str = "
SELECT provider_id, currency, receivable_id, fees_id, receivable_adjusted, fees_adjusted FROM payments_accounts WHERE tenant_id = $1 ORDER BY provider_id, currency LIMIT 10000";

pub(crate) const CLEARING_ACCOUNTS: &str = "
SELECT currency, clearing_id, clearing_settled FROM payments_accounts WHERE tenant_id = $1 ORDER BY currency, provider_id LIMIT 10000";

pub(crate) const PROVIDER: &str = "
SELECT provider_id, version, name, kind, base_url, sealed, honours_keys, enabled, created_at, updated_at
FROM payments_providers WHERE tenant_id = $1 AND provider_id = $2";

pub(crate) const PROVIDERS: &str = "
SELECT provider_id, version, name, kind, base_url, sealed, honours_keys, enabled, created_at, updated_at
FROM payments_providers WHERE tenant_id = $1 ORDER BY provider_id LIMIT 100";

pub(crate) const ENABLED_PROVIDERS: &str = "
SELECT provider_id FROM payments_providers WHERE tenant_id = $1 AND enabled = TRUE ORDER BY provider_id LIMIT 100";

pub(crate) const INSERT_PROVIDER: &str = "
INSERT INTO payments_providers (tenant_id, provider_id, version, name, kind, base_url, sealed, honours_keys, enabled, created_at, updated_at)
VALUES ($1, $2, 1, $3, $4, $5, $6, $7, TRUE, $8, $8)";

pub(crate) const UPDATE_PROVIDER: &str = "
UPDATE payments_providers SET version = $4, name = $5, sealed = $6, enabled = $7, updated_at = $8, base_url = $9
WHERE tenant_id = $1 AND provider_id = $2 AND version = $3";

pub(crate) const POLICY: &str = "SELECT version, policy FROM payments_policies WHERE tenant_id = $1";

pub(crate) const SET_POLICY: &str = "
INSERT INTO payments_policies (tenant_id, version, policy) VALUES ($1, $2, $3)
ON CONFLICT (tenant_id) DO UPDATE SET version = excluded.version, policy = excluded.policy";

pub(crate) const INSERT_METHOD: &str = "
INSERT INTO payments_methods (tenant_id, method_id, customer, provider_id, token, label, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)";

pub(crate) const METHOD: &str = "
SELECT method_id, customer, provider_id, label, created_at, removed_at, token FROM payments_methods WHERE tenant_id = $1 AND method_id = $2";

pub(crate) const METHODS_PAGE: &str = "
SELECT method_id, customer, provider_id, label, created_at, removed_at, token
FROM payments_methods WHERE tenant_id = $1 AND method_id < $2 ORDER BY method_id DESC LIMIT $3";

/// The token goes with it: what was removed can't be charged.
pub(crate) const REMOVE_METHOD: &str = "
UPDATE payments_methods SET removed_at = $3, token = '' WHERE tenant_id = $1 AND method_id = $2 AND removed_at IS NULL";

pub(crate) const CALLBACK_KNOWN: &str = "
SELECT received_at FROM payments_callbacks WHERE tenant_id = $1 AND provider_id = $2 AND event_id = $3";

pub(crate) const INSERT_CALLBACK: &str = "
INSERT INTO payments_callbacks (tenant_id, provider_id, event_id, received_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";

/// Forgets some of the oldest from before `$2`.
pub(crate) const FORGET_CALLBACKS: &str = "
DELETE FROM payments_callbacks WHERE tenant_id = $1 AND (provider_id, event_id) IN (
  SELECT c.provider_id, c.event_id FROM payments_callbacks c WHERE c.tenant_id = $1 AND c.received_at < $2 ORDER BY c.received_at LIMIT $3)";

pub(crate) const OPEN_TASK: &str = "
INSERT INTO payments_open_tasks (tenant_id, intent_id, kind, task_id) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";

pub(crate) const OPEN_TASK_OF: &str = "
SELECT task_id FROM payments_open_tasks WHERE tenant_id = $1 AND intent_id = $2 AND kind = $3";

pub(crate) const INSERT_TASK: &str = "
INSERT INTO payments_tasks (tenant_id, task_id, intent_id, kind, detail, opened_at)
SELECT CAST($1 AS BIGINT), o.task_id, o.intent_id, o.kind, $5, CAST($6 AS BIGINT)
FROM payments_open_tasks o WHERE o.tenant_id = $1 AND o.intent_id = $2 AND o.kind = $3 AND o.task_id = $4";

pub(crate) const TASK: &str = "
SELECT task_id, intent_id, kind, detail, opened_at, closed_at, note FROM payments_tasks WHERE tenant_id = $1 AND task_id = $2";

pub(crate) const TASKS_PAGE: &str = "
SELECT task_id, intent_id, kind, detail, opened_at, closed_at, note
FROM payments_tasks WHERE tenant_id = $1 AND task_id < $2 ORDER BY task_id DESC LIMIT $3";

pub(crate) const CLOSE_TASK: &str = "
UPDATE payments_tasks SET closed_at = $3, note = $4 WHERE tenant_id = $1 AND task_id = $2 AND closed_at IS NULL";

pub(crate) const FORGET_OPEN_TASK: &str = "
DELETE FROM payments_open_tasks WHERE tenant_id = $1 AND intent_id = $2 AND kind = $3 AND task_id = $4";

/// Amounts of an intent that can't be.
pub(crate) const WRONG_AMOUNTS: &str = "
SELECT intent_id FROM payments_intents
WHERE tenant_id = $1 AND (captured_minor < 0 OR capturing_minor < 0 OR refunded_minor < 0 OR refunding_minor < 0
  OR captured_minor + capturing_minor > amount_minor OR refunded_minor + refunding_minor > captured_minor)
ORDER BY intent_id LIMIT 1";

/// Intents whose amounts are not the sums of their operations.
pub(crate) const WRONG_SUMS: &str = "
SELECT i.intent_id FROM payments_intents i LEFT JOIN (
  SELECT o.intent_id,
    CAST(SUM(CASE WHEN o.kind = 'capture' AND o.state = 'succeeded' THEN o.amount_minor ELSE 0 END) AS BIGINT) AS captured,
    CAST(SUM(CASE WHEN o.kind = 'capture' AND o.state = 'pending' THEN o.amount_minor ELSE 0 END) AS BIGINT) AS capturing,
    CAST(SUM(CASE WHEN o.kind = 'refund' AND o.state = 'succeeded' THEN o.amount_minor ELSE 0 END) AS BIGINT) AS refunded,
    CAST(SUM(CASE WHEN o.kind = 'refund' AND o.state = 'pending' THEN o.amount_minor ELSE 0 END) AS BIGINT) AS refunding,
    CAST(SUM(o.fee_minor) AS BIGINT) AS fees
  FROM payments_operations o WHERE o.tenant_id = $1 GROUP BY o.intent_id
) s ON s.intent_id = i.intent_id
WHERE i.tenant_id = $1 AND (i.captured_minor <> COALESCE(s.captured, 0) OR i.capturing_minor <> COALESCE(s.capturing, 0)
  OR i.refunded_minor <> COALESCE(s.refunded, 0) OR i.refunding_minor <> COALESCE(s.refunding, 0) OR i.fee_minor <> COALESCE(s.fees, 0))
ORDER BY i.intent_id LIMIT 1";

/// What each provider owes by our payments: taken less given back less kept; and what it kept.
pub(crate) const OWED: &str = "
SELECT provider_id, currency, CAST(SUM(captured_minor - refunded_minor - refunding_minor - fee_minor) AS BIGINT), CAST(SUM(fee_minor) AS BIGINT)
FROM payments_intents WHERE tenant_id = $1 AND provider_id IS NOT NULL GROUP BY provider_id, currency
UNION ALL
SELECT CAST(0 AS BIGINT), currency, CAST(SUM(amount_minor) AS BIGINT), CAST(0 AS BIGINT)
FROM payments_records WHERE tenant_id = $1 GROUP BY currency";

// Records of what moved outside.

pub(crate) const INSERT_RECORD: &str = "
INSERT INTO payments_records (tenant_id, document, record_id, kind, amount_minor, currency, source, transaction_id, happened_at, recorded_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";

pub(crate) const INSERT_RECORD_SET: Sql = Sql::per_engine(
    INSERT_RECORD,
    "
INSERT INTO payments_records (tenant_id, document, record_id, kind, amount_minor, currency, source, transaction_id, happened_at, recorded_at)
SELECT CAST($1 AS BIGINT), document, record_id, kind, amount_minor, currency, source, transaction_id, happened_at, CAST($10 AS BIGINT)
FROM unnest($2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::bigint[], $9::bigint[])
  AS t(document, record_id, kind, amount_minor, currency, source, transaction_id, happened_at)",
);

pub(crate) const RECORDS_OF: &str = "
SELECT record_id, kind, amount_minor, currency, document, source, happened_at, recorded_at
FROM payments_records WHERE tenant_id = $1 AND document = $2 ORDER BY record_id DESC LIMIT $3";

/// After `$2` and `$3`.
pub(crate) const RECORDS_AFTER: &str = "
SELECT record_id, kind, amount_minor, currency, document, source, happened_at, recorded_at
FROM payments_records WHERE tenant_id = $1 AND (document, record_id) > ($2, $3) ORDER BY document, record_id LIMIT $4";

pub(crate) const RECORD_SUMS: &str = "
SELECT currency, COUNT(*), CAST(SUM(CASE WHEN amount_minor > 0 THEN amount_minor ELSE 0 END) AS BIGINT),
  CAST(SUM(CASE WHEN amount_minor < 0 THEN -amount_minor ELSE 0 END) AS BIGINT)
FROM payments_records WHERE tenant_id = $1 AND source = $2 GROUP BY currency ORDER BY currency";

/// Sums of documents' records, in the order of the documents' names after `$2`.
pub(crate) const RECORDED_BY_DOCUMENT: &str = "
SELECT document, currency, COUNT(*), CAST(SUM(CASE WHEN amount_minor > 0 THEN amount_minor ELSE 0 END) AS BIGINT),
  CAST(SUM(CASE WHEN amount_minor < 0 THEN -amount_minor ELSE 0 END) AS BIGINT)
FROM payments_records WHERE tenant_id = $1 AND document > $2 GROUP BY document, currency ORDER BY document, currency LIMIT $3";

/// Sums of one document's records in a currency.
pub(crate) const RECORDED_FOR_DOCUMENT: &str = "
SELECT CAST(COALESCE(SUM(CASE WHEN amount_minor > 0 THEN amount_minor ELSE 0 END), 0) AS BIGINT),
  CAST(COALESCE(SUM(CASE WHEN amount_minor < 0 THEN -amount_minor ELSE 0 END), 0) AS BIGINT)
FROM payments_records WHERE tenant_id = $1 AND document = $2 AND currency = $3";

/// What was recorded in each currency.
pub(crate) const RECORDED: &str = "
SELECT currency, CAST(SUM(amount_minor) AS BIGINT) FROM payments_records WHERE tenant_id = $1 GROUP BY currency ORDER BY currency";

/// Attempts, authorisations whose time is over, and operations that are open for longer than any deadline, and no person was told.
pub(crate) const STUCK: &str = "
SELECT i.intent_id FROM payments_intents i
WHERE i.tenant_id = $1 AND ((i.asking = TRUE AND i.updated_at < $2) OR (i.capture_open = TRUE AND i.expires_at < $2))
  AND NOT EXISTS (SELECT 1 FROM payments_open_tasks t WHERE t.tenant_id = $1 AND t.intent_id = i.intent_id)
ORDER BY i.intent_id LIMIT 1";

pub(crate) const STUCK_OPERATION: &str = "
SELECT o.intent_id FROM payments_operations o
WHERE o.tenant_id = $1 AND o.state = 'pending' AND o.begun_at < $2
  AND NOT EXISTS (SELECT 1 FROM payments_open_tasks t WHERE t.tenant_id = $1 AND t.intent_id = o.intent_id)
ORDER BY o.intent_id LIMIT 1";

/// The platform's exchange rates, on its scope.
pub(crate) const RATES: &str = "SELECT currency, base, nanos, at, fetched_at FROM payments_rates ORDER BY currency LIMIT 500";

pub(crate) const FORGET_RATES: &str = "DELETE FROM payments_rates WHERE fetched_at < $1";

pub(crate) const SET_RATE: &str = "
INSERT INTO payments_rates (currency, base, nanos, at, fetched_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (currency) DO UPDATE SET base = excluded.base, nanos = excluded.nanos, at = excluded.at, fetched_at = excluded.fetched_at";

/// Those of the platform's scope.
pub(crate) const PLATFORM_STATEMENTS: &[(&str, &str)] = &[("RATES", RATES), ("FORGET_RATES", FORGET_RATES), ("SET_RATE", SET_RATE)];

/// Those that each engine has its own form of.
pub(crate) const SET_STATEMENTS: &[(&str, Sql)] = &[("INSERT_RECORD_SET", INSERT_RECORD_SET), ("GIVEN_BACK", GIVEN_BACK)];

/// All of them, for tests that prepare each on both engines.
pub(crate) const STATEMENTS: &[(&str, &str)] = &[
    ("INTENT", INTENT),
    ("INTENTS_PAGE", INTENTS_PAGE),
    ("INTENT_BY_REF", INTENT_BY_REF),
    ("INSERT_INTENT", INSERT_INTENT),
    ("UPDATE_INTENT", UPDATE_INTENT),
    ("INSERT_REF", INSERT_REF),
    ("INSERT_OF_ORDER", INSERT_OF_ORDER),
    ("INTENTS_OF_ORDER", INTENTS_OF_ORDER),
    ("PAID_BY_ORDER", PAID_BY_ORDER),
    ("PAID_FOR_ORDER", PAID_FOR_ORDER),
    ("PAID", PAID),
    ("INSERT_ATTEMPT", INSERT_ATTEMPT),
    ("END_ATTEMPT", END_ATTEMPT),
    ("ATTEMPTS", ATTEMPTS),
    ("INSERT_OPERATION", INSERT_OPERATION),
    ("OPERATION", OPERATION),
    ("OPERATIONS", OPERATIONS),
    ("OPERATION_COUNT", OPERATION_COUNT),
    ("PENDING_OPERATIONS", PENDING_OPERATIONS),
    ("END_OPERATION", END_OPERATION),
    ("INSERT_SOURCE", INSERT_SOURCE),
    ("SOURCES", SOURCES),
    ("REVERSE_SOURCE", REVERSE_SOURCE),
    ("ACCOUNTS", ACCOUNTS),
    ("INSERT_ACCOUNTS", INSERT_ACCOUNTS),
    ("ALL_ACCOUNTS", ALL_ACCOUNTS),
    ("CLEARING_ACCOUNTS", CLEARING_ACCOUNTS),
    ("PROVIDER", PROVIDER),
    ("PROVIDERS", PROVIDERS),
    ("ENABLED_PROVIDERS", ENABLED_PROVIDERS),
    ("INSERT_PROVIDER", INSERT_PROVIDER),
    ("UPDATE_PROVIDER", UPDATE_PROVIDER),
    ("POLICY", POLICY),
    ("SET_POLICY", SET_POLICY),
    ("INSERT_METHOD", INSERT_METHOD),
    ("METHOD", METHOD),
    ("METHODS_PAGE", METHODS_PAGE),
    ("REMOVE_METHOD", REMOVE_METHOD),
    ("CALLBACK_KNOWN", CALLBACK_KNOWN),
    ("INSERT_CALLBACK", INSERT_CALLBACK),
    ("FORGET_CALLBACKS", FORGET_CALLBACKS),
    ("OPEN_TASK", OPEN_TASK),
    ("OPEN_TASK_OF", OPEN_TASK_OF),
    ("INSERT_TASK", INSERT_TASK),
    ("TASK", TASK),
    ("TASKS_PAGE", TASKS_PAGE),
    ("CLOSE_TASK", CLOSE_TASK),
    ("FORGET_OPEN_TASK", FORGET_OPEN_TASK),
    ("WRONG_AMOUNTS", WRONG_AMOUNTS),
    ("WRONG_SUMS", WRONG_SUMS),
    ("OWED", OWED),
    ("STUCK", STUCK),
    ("RECORDS_OF", RECORDS_OF),
    ("RECORDS_AFTER", RECORDS_AFTER),
    ("RECORD_SUMS", RECORD_SUMS),
    ("RECORDED_BY_DOCUMENT", RECORDED_BY_DOCUMENT),
    ("RECORDED_FOR_DOCUMENT", RECORDED_FOR_DOCUMENT),
    ("RECORDED", RECORDED),
    ("STUCK_OPERATION", STUCK_OPERATION),
];
