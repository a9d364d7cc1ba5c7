//! Every statement of this module. `$1` is the tenant.

pub(crate) const ENDPOINT: &str = "
SELECT endpoint_id, version, url, description, events, sealed, state, waiting, failing_since, created_at, updated_at
FROM webhooks_endpoints WHERE tenant_id = $1 AND endpoint_id = $2";

pub(crate) const ENDPOINTS: &str = "
SELECT endpoint_id, version, url, description, events, sealed, state, waiting, failing_since, created_at, updated_at
FROM webhooks_endpoints WHERE tenant_id = $1 ORDER BY endpoint_id LIMIT 100";

pub(crate) const INSERT_ENDPOINT: &str = "
INSERT INTO webhooks_endpoints (tenant_id, endpoint_id, version, url, description, events, sealed, state, waiting, created_at, updated_at)
VALUES ($1, $2, 1, $3, $4, $5, $6, 'enabled', 0, $7, $7)";

/// Writes what people change under the next version; `$3` is the version that was read.
pub(crate) const UPDATE_ENDPOINT: &str = "
UPDATE webhooks_endpoints SET version = $4, url = $5, description = $6, events = $7, sealed = $8, state = $9, failing_since = $10, updated_at = $11
WHERE tenant_id = $1 AND endpoint_id = $2 AND version = $3";

pub(crate) const DELETE_ENDPOINT: &str = "DELETE FROM webhooks_endpoints WHERE tenant_id = $1 AND endpoint_id = $2";

pub(crate) const ADD_WAITING: &str = "
UPDATE webhooks_endpoints SET waiting = waiting + $3 WHERE tenant_id = $1 AND endpoint_id = $2";

pub(crate) const SET_FAILING: &str = "
UPDATE webhooks_endpoints SET failing_since = $3 WHERE tenant_id = $1 AND endpoint_id = $2";

pub(crate) const INSERT_MESSAGE: &str = "
INSERT INTO webhooks_messages (tenant_id, event_id, kind, body) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";

pub(crate) const MESSAGE: &str = "SELECT body FROM webhooks_messages WHERE tenant_id = $1 AND event_id = $2";

pub(crate) const INSERT_DELIVERY: &str = "
INSERT INTO webhooks_deliveries (tenant_id, delivery_id, endpoint_id, event_id, kind, state, attempts, error, created_at, next_at)
VALUES ($1, $2, $3, $4, $5, $6, 0, $7, $8, $9)";

pub(crate) const DELIVERY: &str = "
SELECT delivery_id, endpoint_id, event_id, kind, state, attempts, status, error, created_at, attempted_at, next_at
FROM webhooks_deliveries WHERE tenant_id = $1 AND delivery_id = $2";

pub(crate) const DELIVERIES_PAGE: &str = "
SELECT delivery_id, endpoint_id, event_id, kind, state, attempts, status, error, created_at, attempted_at, next_at
FROM webhooks_deliveries WHERE tenant_id = $1 AND delivery_id < $2 ORDER BY delivery_id DESC LIMIT $3";

pub(crate) const DELIVERIES_OF_ENDPOINT_PAGE: &str = "
SELECT delivery_id, endpoint_id, event_id, kind, state, attempts, status, error, created_at, attempted_at, next_at
FROM webhooks_deliveries WHERE tenant_id = $1 AND endpoint_id = $4 AND delivery_id < $2 ORDER BY delivery_id DESC LIMIT $3";

pub(crate) const ATTEMPTED: &str = "
UPDATE webhooks_deliveries SET state = $3, attempts = $4, status = $5, error = $6, attempted_at = $7, next_at = $8
WHERE tenant_id = $1 AND delivery_id = $2";

/// Forgets some of what is older than the id `$2`; ids rise with time.
pub(crate) const FORGET_DELIVERIES: &str = "
DELETE FROM webhooks_deliveries WHERE tenant_id = $1 AND delivery_id IN (
  SELECT d.delivery_id FROM webhooks_deliveries d WHERE d.tenant_id = $1 AND d.delivery_id < $2 AND d.state <> 'waiting'
  ORDER BY d.delivery_id LIMIT $3)";

pub(crate) const FORGET_MESSAGES: &str = "
DELETE FROM webhooks_messages WHERE tenant_id = $1 AND event_id IN (
  SELECT m.event_id FROM webhooks_messages m WHERE m.tenant_id = $1 AND m.event_id < $2 ORDER BY m.event_id LIMIT $3)";

/// Endpoints whose count of what waits is not what waits.
pub(crate) const WRONG_WAITING: &str = "
SELECT e.endpoint_id, e.waiting, CAST(COALESCE(s.waiting, 0) AS BIGINT) FROM webhooks_endpoints e LEFT JOIN (
  SELECT d.endpoint_id, CAST(COUNT(*) AS BIGINT) AS waiting FROM webhooks_deliveries d
  WHERE d.tenant_id = $1 AND d.state = 'waiting' GROUP BY d.endpoint_id
) s ON s.endpoint_id = e.endpoint_id
WHERE e.tenant_id = $1 AND e.waiting <> COALESCE(s.waiting, 0) ORDER BY e.endpoint_id LIMIT 1";

/// All of a tenant's, for tests that prepare each on both engines.
pub(crate) const STATEMENTS: &[(&str, &str)] = &[
    ("ENDPOINT", ENDPOINT),
    ("ENDPOINTS", ENDPOINTS),
    ("INSERT_ENDPOINT", INSERT_ENDPOINT),
    ("UPDATE_ENDPOINT", UPDATE_ENDPOINT),
    ("DELETE_ENDPOINT", DELETE_ENDPOINT),
    ("ADD_WAITING", ADD_WAITING),
    ("SET_FAILING", SET_FAILING),
    ("INSERT_MESSAGE", INSERT_MESSAGE),
    ("MESSAGE", MESSAGE),
    ("INSERT_DELIVERY", INSERT_DELIVERY),
    ("DELIVERY", DELIVERY),
    ("DELIVERIES_PAGE", DELIVERIES_PAGE),
    ("DELIVERIES_OF_ENDPOINT_PAGE", DELIVERIES_OF_ENDPOINT_PAGE),
    ("ATTEMPTED", ATTEMPTED),
    ("FORGET_DELIVERIES", FORGET_DELIVERIES),
    ("FORGET_MESSAGES", FORGET_MESSAGES),
    ("WRONG_WAITING", WRONG_WAITING),
];
