//! Statements about holds, deliveries, remarks and tags. `$1` is the tenant.

pub(crate) const HOLD: &str = "SELECT reason, actor_kind, actor_id, held_at FROM orders_holds WHERE tenant_id = $1 AND order_id = $2";

pub(crate) const INSERT_HOLD: &str = "
INSERT INTO orders_holds (tenant_id, order_id, reason, actor_kind, actor_id, held_at) VALUES ($1, $2, $3, $4, $5, $6)";

pub(crate) const DELETE_HOLD: &str = "DELETE FROM orders_holds WHERE tenant_id = $1 AND order_id = $2";

pub(crate) const HELD_PAGE: &str = "
SELECT order_id FROM orders_holds WHERE tenant_id = $1 AND order_id < $2 ORDER BY order_id DESC LIMIT $3";

pub(crate) const INSERT_DELIVERY: &str = "
INSERT INTO orders_deliveries (tenant_id, order_id, version, line, quantity) VALUES ($1, $2, $3, $4, $5)";

pub(crate) const DELIVERED: &str = "
SELECT line, CAST(SUM(quantity) AS BIGINT) FROM orders_deliveries WHERE tenant_id = $1 AND order_id = $2 GROUP BY line ORDER BY line";

pub(crate) const INSERT_REMARK: &str = "
INSERT INTO orders_remarks (tenant_id, order_id, remark_id, remark, actor_kind, actor_id, request_id, written_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

pub(crate) const COUNT_REMARKS: &str = "SELECT CAST(COUNT(*) AS BIGINT) FROM orders_remarks WHERE tenant_id = $1 AND order_id = $2";

pub(crate) const TAGS: &str = "SELECT tag FROM orders_tags WHERE tenant_id = $1 AND order_id = $2 ORDER BY tag LIMIT 20";

pub(crate) const DELETE_TAGS: &str = "DELETE FROM orders_tags WHERE tenant_id = $1 AND order_id = $2";

pub(crate) const INSERT_TAG: &str = "INSERT INTO orders_tags (tenant_id, tag, order_id) VALUES ($1, $2, $3)";

pub(crate) const TAGGED_PAGE: &str = "
SELECT order_id FROM orders_tags WHERE tenant_id = $1 AND tag = $4 AND order_id < $2 ORDER BY order_id DESC LIMIT $3";

/// An order's changes and remarks in the order in which they happened, after a moment and a place in it.
pub(crate) const TIMELINE: &str = "
SELECT at, kind, said, actor_kind, actor_id, version, place FROM (
  SELECT changed_at AS at, kind, reason AS said, actor_kind, actor_id, version, version AS place
  FROM orders_changes WHERE tenant_id = $1 AND order_id = $2
  UNION ALL
  SELECT written_at, 'remark', remark, actor_kind, actor_id, CAST(NULL AS BIGINT), remark_id
  FROM orders_remarks WHERE tenant_id = $1 AND order_id = $2
) AS entries
WHERE (at, place) > ($3, $4) ORDER BY at, place LIMIT $5";

/// Lines of which more arrived than went out, and how many orders' lines have arrived. An order that is done has sent all its goods.
pub(crate) const AUDIT_DELIVERIES: &str = "
SELECT CAST(COUNT(*) AS BIGINT), CAST(COALESCE(SUM(CASE WHEN d.quantity <= l.quantity AND l.kind = 'sale' THEN 0 ELSE 1 END), 0) AS BIGINT)
FROM (
  SELECT order_id, line, SUM(quantity) AS quantity FROM orders_deliveries WHERE tenant_id = $1 GROUP BY order_id, line
) AS d
JOIN orders_orders o ON o.tenant_id = $1 AND o.order_id = d.order_id
JOIN orders_lines l ON l.tenant_id = $1 AND l.document_id = d.order_id AND l.version = o.lines_version AND l.line = d.line";

/// Holds without an order, and how many holds there are.
pub(crate) const AUDIT_HOLDS: &str = "
SELECT CAST(COUNT(*) AS BIGINT), CAST(COALESCE(SUM(CASE WHEN o.order_id IS NULL THEN 1 ELSE 0 END), 0) AS BIGINT)
FROM orders_holds h
LEFT JOIN orders_orders o ON o.tenant_id = $1 AND o.order_id = h.order_id
WHERE h.tenant_id = $1";

/// Every statement by its name.
pub(crate) const STATEMENTS: &[(&str, &str)] = &[
    ("HOLD", HOLD),
    ("INSERT_HOLD", INSERT_HOLD),
    ("DELETE_HOLD", DELETE_HOLD),
    ("HELD_PAGE", HELD_PAGE),
    ("INSERT_DELIVERY", INSERT_DELIVERY),
    ("DELIVERED", DELIVERED),
    ("INSERT_REMARK", INSERT_REMARK),
    ("COUNT_REMARKS", COUNT_REMARKS),
    ("TAGS", TAGS),
    ("DELETE_TAGS", DELETE_TAGS),
    ("INSERT_TAG", INSERT_TAG),
    ("TAGGED_PAGE", TAGGED_PAGE),
    ("TIMELINE", TIMELINE),
    ("AUDIT_DELIVERIES", AUDIT_DELIVERIES),
    ("AUDIT_HOLDS", AUDIT_HOLDS),
];
