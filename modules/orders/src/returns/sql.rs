//! Statements about returns. `$1` is the tenant.

use store::Sql;

pub(crate) const INSERT_RETURN: &str = "
INSERT INTO orders_returns (tenant_id, return_id, order_id, state, version, reason, refund_minor, currency, credit_note_id, exchange_order_id,
  created_at, updated_at)
VALUES ($1, $2, $3, $4, 1, $5, 0, $6, NULL, NULL, $7, $7)";

/// `$3` is the version that was read.
pub(crate) const UPDATE_RETURN: &str = "
UPDATE orders_returns SET version = $4, state = $5, refund_minor = $6, credit_note_id = $7, exchange_order_id = $8, updated_at = $9,
  carried_minor = $10
WHERE tenant_id = $1 AND return_id = $2 AND version = $3";

pub(crate) const RETURN: &str = "
SELECT return_id, order_id, state, version, reason, refund_minor, currency, credit_note_id, exchange_order_id, created_at, updated_at,
  carried_minor
FROM orders_returns WHERE tenant_id = $1 AND return_id = $2";

pub(crate) const RETURNS_PAGE: &str = "
SELECT return_id, order_id, state, version, reason, refund_minor, currency, credit_note_id, exchange_order_id, created_at, updated_at,
  carried_minor
FROM orders_returns WHERE tenant_id = $1 AND return_id < $2 ORDER BY return_id DESC LIMIT $3";

pub(crate) const RETURNS_OF_ORDER_PAGE: &str = "
SELECT return_id, order_id, state, version, reason, refund_minor, currency, credit_note_id, exchange_order_id, created_at, updated_at,
  carried_minor
FROM orders_returns WHERE tenant_id = $1 AND order_id = $4 AND return_id < $2 ORDER BY return_id DESC LIMIT $3";

pub(crate) const RETURNS_IN_STATE_PAGE: &str = "
SELECT return_id, order_id, state, version, reason, refund_minor, currency, credit_note_id, exchange_order_id, created_at, updated_at,
  carried_minor
FROM orders_returns WHERE tenant_id = $1 AND state = $4 AND return_id < $2 ORDER BY return_id DESC LIMIT $3";

pub(crate) const COUNT_RETURNS: &str = "SELECT CAST(COUNT(*) AS BIGINT) FROM orders_returns WHERE tenant_id = $1 AND order_id = $2";

pub(crate) const INSERT_RETURN_LINE: &str = "
INSERT INTO orders_return_lines (tenant_id, order_id, return_id, line, quantity, reason, claimed, received, restocked, written_off, refunded, refund_minor)
VALUES ($1, $2, $3, $4, $5, $6, $5, 0, 0, 0, 0, 0)";

pub(crate) const UPDATE_RETURN_LINE: &str = "
UPDATE orders_return_lines SET claimed = $5, received = $6, restocked = $7, written_off = $8, refunded = $9, refund_minor = $10
WHERE tenant_id = $1 AND order_id = $2 AND return_id = $3 AND line = $4";

pub(crate) const RETURN_LINES: &str = "
SELECT line, quantity, reason, received, restocked, written_off, refunded, refund_minor
FROM orders_return_lines WHERE tenant_id = $1 AND order_id = $2 AND return_id = $3 ORDER BY line LIMIT 2000";

/// What of each line of an order returns have claimed, and what of it was refunded already, in pieces and in minor units.
pub(crate) const CLAIMED: &str = "
SELECT l.line, CAST(SUM(l.claimed) AS BIGINT), CAST(SUM(CASE WHEN r.state IN ('refunded', 'exchanged') THEN l.refunded ELSE 0 END) AS BIGINT),
  CAST(SUM(l.refund_minor) AS BIGINT)
FROM orders_return_lines l
JOIN orders_returns r ON r.tenant_id = $1 AND r.return_id = l.return_id
WHERE l.tenant_id = $1 AND l.order_id = $2
GROUP BY l.line ORDER BY l.line";

/// What credit notes of an order that no return has issued give back for each SKU, in minor units, above zero. At most as many as lines.
pub(crate) const CREDITED_BY_HAND: Sql = Sql::per_engine(
    // From the order's notes to their lines, which SQLite would look for among all that the tenant has.
    "
SELECT l.sku, CAST(-SUM(l.total_minor) AS BIGINT)
FROM orders_notes n INDEXED BY orders_notes_by_order CROSS JOIN orders_lines l
LEFT JOIN orders_returns r INDEXED BY orders_returns_by_order ON r.tenant_id = $1 AND r.order_id = $2 AND r.credit_note_id = n.note_id
WHERE n.tenant_id = $1 AND n.order_id = $2 AND n.kind = 'credit_note' AND l.tenant_id = $1 AND l.document_id = n.note_id AND l.version = 1
  AND r.return_id IS NULL
GROUP BY l.sku ORDER BY l.sku LIMIT 20000",
    "
SELECT l.sku, CAST(-SUM(l.total_minor) AS BIGINT)
FROM orders_notes n
JOIN orders_lines l ON l.tenant_id = $1 AND l.document_id = n.note_id AND l.version = 1
LEFT JOIN orders_returns r ON r.tenant_id = $1 AND r.order_id = $2 AND r.credit_note_id = n.note_id
WHERE n.tenant_id = $1 AND n.order_id = $2 AND n.kind = 'credit_note' AND r.return_id IS NULL
GROUP BY l.sku ORDER BY l.sku LIMIT 20000",
);

/// The return that an order has taken the place of.
pub(crate) const EXCHANGED_FOR: &str =
    "SELECT return_id FROM orders_returns WHERE tenant_id = $1 AND exchange_order_id = $2 AND exchange_order_id IS NOT NULL LIMIT 1";

/// What exchanges have carried over to an order, less what they have carried from it.
pub(crate) const CARRIED: Sql = Sql::per_engine(
    "
SELECT CAST(COALESCE(SUM(minor), 0) AS BIGINT) FROM (
  SELECT carried_minor AS minor FROM orders_returns INDEXED BY orders_returns_by_exchange
  WHERE tenant_id = $1 AND exchange_order_id = $2 AND exchange_order_id IS NOT NULL
  UNION ALL
  SELECT -carried_minor FROM orders_returns INDEXED BY orders_returns_by_order WHERE tenant_id = $1 AND order_id = $2
) AS carried",
    "
SELECT CAST(COALESCE(SUM(minor), 0) AS BIGINT) FROM (
  SELECT carried_minor AS minor FROM orders_returns WHERE tenant_id = $1 AND exchange_order_id = $2 AND exchange_order_id IS NOT NULL
  UNION ALL
  SELECT -carried_minor FROM orders_returns WHERE tenant_id = $1 AND order_id = $2
) AS carried",
);

/// What of each line of an order came back.
pub(crate) const RECEIVED: &str = "
SELECT line, CAST(SUM(received) AS BIGINT) FROM orders_return_lines WHERE tenant_id = $1 AND order_id = $2 GROUP BY line ORDER BY line";

pub(crate) const INSERT_RETURN_CHANGE: &str = "
INSERT INTO orders_return_changes (tenant_id, return_id, version, kind, state, actor_kind, actor_id, reason, request_id, changed_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";

pub(crate) const RETURN_CHANGES_PAGE: &str = "
SELECT version, kind, state, actor_kind, actor_id, reason, request_id, changed_at
FROM orders_return_changes WHERE tenant_id = $1 AND return_id = $2 AND version > $3 ORDER BY version LIMIT $4";

/// Returns whose refund is neither the sum of their lines nor what their credit note gives back, and how many returns there are.
pub(crate) const AUDIT_REFUNDS: &str = "
SELECT CAST(COUNT(*) AS BIGINT), CAST(COALESCE(SUM(wrong), 0) AS BIGINT) FROM (
  SELECT CASE WHEN COALESCE(SUM(l.refund_minor), 0) = r.refund_minor AND COALESCE(MAX(n.total_minor), 0) = -r.refund_minor
    AND COUNT(l.line) > 0 THEN 0 ELSE 1 END AS wrong
  FROM orders_returns r
  LEFT JOIN orders_return_lines l ON l.tenant_id = $1 AND l.order_id = r.order_id AND l.return_id = r.return_id
  LEFT JOIN orders_notes n ON n.tenant_id = $1 AND n.kind = 'credit_note' AND n.note_id = r.credit_note_id
  WHERE r.tenant_id = $1
  GROUP BY r.return_id, r.refund_minor
) AS checked";

/// Lines of returns whose quantities contradict each other, and how many there are.
pub(crate) const AUDIT_RETURN_LINES: &str = "
SELECT CAST(COUNT(*) AS BIGINT), CAST(COALESCE(SUM(CASE
  WHEN received <= quantity AND restocked + written_off <= received AND refunded <= received AND claimed <= quantity AND claimed >= received
    THEN 0 ELSE 1 END), 0) AS BIGINT)
FROM orders_return_lines WHERE tenant_id = $1";

/// Returns whose latest change is missing, tells of another state, or is not the last.
pub(crate) const AUDIT_RETURN_STATES: &str = "
SELECT CAST(COUNT(*) AS BIGINT), CAST(COALESCE(SUM(CASE WHEN c.state = r.state AND later.version IS NULL THEN 0 ELSE 1 END), 0) AS BIGINT)
FROM orders_returns r
LEFT JOIN orders_return_changes c ON c.tenant_id = $1 AND c.return_id = r.return_id AND c.version = r.version
LEFT JOIN orders_return_changes later ON later.tenant_id = $1 AND later.return_id = r.return_id AND later.version = r.version + 1
WHERE r.tenant_id = $1";

/// Those that differ, by their names.
pub(crate) const BY_ENGINE: &[(&str, Sql)] = &[("CREDITED_BY_HAND", CREDITED_BY_HAND), ("CARRIED", CARRIED)];

/// Every other statement by its name.
pub(crate) const STATEMENTS: &[(&str, &str)] = &[
    ("INSERT_RETURN", INSERT_RETURN),
    ("UPDATE_RETURN", UPDATE_RETURN),
    ("RETURN", RETURN),
    ("RETURNS_PAGE", RETURNS_PAGE),
    ("RETURNS_OF_ORDER_PAGE", RETURNS_OF_ORDER_PAGE),
    ("RETURNS_IN_STATE_PAGE", RETURNS_IN_STATE_PAGE),
    ("COUNT_RETURNS", COUNT_RETURNS),
    ("INSERT_RETURN_LINE", INSERT_RETURN_LINE),
    ("UPDATE_RETURN_LINE", UPDATE_RETURN_LINE),
    ("RETURN_LINES", RETURN_LINES),
    ("CLAIMED", CLAIMED),
    ("EXCHANGED_FOR", EXCHANGED_FOR),
    ("RECEIVED", RECEIVED),
    ("INSERT_RETURN_CHANGE", INSERT_RETURN_CHANGE),
    ("RETURN_CHANGES_PAGE", RETURN_CHANGES_PAGE),
    ("AUDIT_REFUNDS", AUDIT_REFUNDS),
    ("AUDIT_RETURN_LINES", AUDIT_RETURN_LINES),
    ("AUDIT_RETURN_STATES", AUDIT_RETURN_STATES),
];
