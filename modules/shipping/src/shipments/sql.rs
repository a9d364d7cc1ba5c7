//! Statements about shipments, their parcels and what is known of them. `$1` is the tenant.

use store::Sql;

pub(crate) const INSERT_SHIPMENT: &str = "
INSERT INTO shipping_shipments (tenant_id, shipment_id, order_ref, state, version, method_id, destination, note, parcel_count, weight_g,
  label_requests, labelled, shipped_at, delivered_at, created_at, updated_at)
VALUES ($1, $2, $3, $4, 1, $5, $6, $7, $8, $9, 0, FALSE, NULL, NULL, $10, $10)";

/// `$3` is the version that was read.
pub(crate) const UPDATE_SHIPMENT: &str = "
UPDATE shipping_shipments SET version = $4, state = $5, parcel_count = $6, weight_g = $7, label_requests = $8, labelled = $9,
  shipped_at = $10, delivered_at = $11, updated_at = $12
WHERE tenant_id = $1 AND shipment_id = $2 AND version = $3";

pub(crate) const SHIPMENT: &str = "
SELECT shipment_id, order_ref, state, version, method_id, destination, note, parcel_count, weight_g, label_requests, labelled,
  shipped_at, delivered_at, created_at, updated_at
FROM shipping_shipments WHERE tenant_id = $1 AND shipment_id = $2";

pub(crate) const SHIPMENTS_PAGE: &str = "
SELECT shipment_id, order_ref, state, version, method_id, destination, note, parcel_count, weight_g, label_requests, labelled,
  shipped_at, delivered_at, created_at, updated_at
FROM shipping_shipments WHERE tenant_id = $1 AND shipment_id < $2 ORDER BY shipment_id DESC LIMIT $3";

pub(crate) const SHIPMENTS_OF_ORDER_PAGE: &str = "
SELECT shipment_id, order_ref, state, version, method_id, destination, note, parcel_count, weight_g, label_requests, labelled,
  shipped_at, delivered_at, created_at, updated_at
FROM shipping_shipments WHERE tenant_id = $1 AND order_ref = $4 AND shipment_id < $2 ORDER BY shipment_id DESC LIMIT $3";

pub(crate) const SHIPMENTS_IN_STATE_PAGE: &str = "
SELECT shipment_id, order_ref, state, version, method_id, destination, note, parcel_count, weight_g, label_requests, labelled,
  shipped_at, delivered_at, created_at, updated_at
FROM shipping_shipments WHERE tenant_id = $1 AND state = $4 AND shipment_id < $2 ORDER BY shipment_id DESC LIMIT $3";

pub(crate) const INSERT_PARCEL: &str = "
INSERT INTO shipping_parcels (tenant_id, shipment_id, parcel, weight_g, length_mm, width_mm, height_mm, tracking_number, progress)
VALUES ($1, $2, $3, $4, $5, $6, $7, NULL, NULL)";

pub(crate) const INSERT_ENTRY: &str = "
INSERT INTO shipping_parcel_lines (tenant_id, shipment_id, parcel, line, quantity) VALUES ($1, $2, $3, $4, $5)";

pub(crate) const DELETE_PARCELS: &str = "DELETE FROM shipping_parcels WHERE tenant_id = $1 AND shipment_id = $2";

pub(crate) const DELETE_ENTRIES: &str = "DELETE FROM shipping_parcel_lines WHERE tenant_id = $1 AND shipment_id = $2";

pub(crate) const PARCELS: &str = "
SELECT parcel, weight_g, length_mm, width_mm, height_mm, tracking_number, progress
FROM shipping_parcels WHERE tenant_id = $1 AND shipment_id = $2 ORDER BY parcel LIMIT 50";

pub(crate) const ENTRIES: &str = "
SELECT parcel, line, quantity FROM shipping_parcel_lines WHERE tenant_id = $1 AND shipment_id = $2 ORDER BY parcel, line LIMIT 2000";

/// What of each line of an order is in shipments that go or went.
pub(crate) const GOODS_OF_ORDER: Sql = Sql::per_engine(
    // From the order's shipments to their goods, which SQLite would look for among all that the tenant has.
    "
SELECT e.line, CAST(SUM(e.quantity) AS BIGINT) FROM shipping_shipments s INDEXED BY shipping_shipments_by_order CROSS JOIN shipping_parcel_lines e
WHERE s.tenant_id = $1 AND s.order_ref = $2 AND s.state NOT IN ('cancelled', 'failed', 'returned_to_sender')
  AND e.tenant_id = $1 AND e.shipment_id = s.shipment_id
GROUP BY e.line ORDER BY e.line",
    "
SELECT e.line, CAST(SUM(e.quantity) AS BIGINT) FROM shipping_shipments s
JOIN shipping_parcel_lines e ON e.tenant_id = $1 AND e.shipment_id = s.shipment_id
WHERE s.tenant_id = $1 AND s.order_ref = $2 AND s.state NOT IN ('cancelled', 'failed', 'returned_to_sender')
GROUP BY e.line ORDER BY e.line",
);

pub(crate) const PARCEL_BY_NUMBER: &str = "
SELECT shipment_id, parcel FROM shipping_parcels WHERE tenant_id = $1 AND tracking_number = $2";

pub(crate) const SET_TRACKING_NUMBER: &str = "
UPDATE shipping_parcels SET tracking_number = $4 WHERE tenant_id = $1 AND shipment_id = $2 AND parcel = $3";

pub(crate) const SET_PROGRESS: &str = "
UPDATE shipping_parcels SET progress = $4 WHERE tenant_id = $1 AND shipment_id = $2 AND parcel = $3";

pub(crate) const INSERT_CHANGE: &str = "
INSERT INTO shipping_changes (tenant_id, shipment_id, version, kind, state, actor_kind, actor_id, reason, request_id, changed_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";

pub(crate) const CHANGES_PAGE: &str = "
SELECT version, kind, state, actor_kind, actor_id, reason, request_id, changed_at
FROM shipping_changes WHERE tenant_id = $1 AND shipment_id = $2 AND version > $3 ORDER BY version LIMIT $4";

pub(crate) const INSERT_TRACKING: &str = "
INSERT INTO shipping_tracking (tenant_id, shipment_id, parcel, event_ref, status, occurred_at, place, detail, received_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING";

/// What is known of a parcel's way.
pub(crate) const KNOWN: &str = "
SELECT event_ref, status, occurred_at FROM shipping_tracking WHERE tenant_id = $1 AND shipment_id = $2 AND parcel = $3 LIMIT 1000";

pub(crate) const TRACKING_PAGE: &str = "
SELECT parcel, event_ref, status, occurred_at, place, detail, received_at FROM shipping_tracking
WHERE tenant_id = $1 AND shipment_id = $2 AND (occurred_at, parcel, event_ref) > ($3, $4, $5) ORDER BY occurred_at, parcel, event_ref LIMIT $6";

/// Shipments whose parcels don't come to what their heads say, and how many there are.
pub(crate) const AUDIT_PARCELS: &str = "
SELECT CAST(COUNT(*) AS BIGINT), CAST(COALESCE(SUM(wrong), 0) AS BIGINT) FROM (
  SELECT CASE WHEN COUNT(p.parcel) = s.parcel_count AND COALESCE(SUM(p.weight_g), 0) = s.weight_g THEN 0 ELSE 1 END AS wrong
  FROM shipping_shipments s
  LEFT JOIN shipping_parcels p ON p.tenant_id = $1 AND p.shipment_id = s.shipment_id
  WHERE s.tenant_id = $1
  GROUP BY s.shipment_id, s.parcel_count, s.weight_g
) AS checked";

/// Parcels without goods, and how many there are.
pub(crate) const AUDIT_ENTRIES: &str = "
SELECT CAST(COUNT(*) AS BIGINT), CAST(COALESCE(SUM(wrong), 0) AS BIGINT) FROM (
  SELECT CASE WHEN COUNT(e.line) > 0 THEN 0 ELSE 1 END AS wrong
  FROM shipping_parcels p
  LEFT JOIN shipping_parcel_lines e ON e.tenant_id = $1 AND e.shipment_id = p.shipment_id AND e.parcel = p.parcel
  WHERE p.tenant_id = $1
  GROUP BY p.shipment_id, p.parcel
) AS checked";

/// Shipments whose latest change is missing, tells of another state, or is not the last.
pub(crate) const AUDIT_STATES: &str = "
SELECT CAST(COUNT(*) AS BIGINT), CAST(COALESCE(SUM(CASE WHEN c.state = s.state AND later.version IS NULL THEN 0 ELSE 1 END), 0) AS BIGINT)
FROM shipping_shipments s
LEFT JOIN shipping_changes c ON c.tenant_id = $1 AND c.shipment_id = s.shipment_id AND c.version = s.version
LEFT JOIN shipping_changes later ON later.tenant_id = $1 AND later.shipment_id = s.shipment_id AND later.version = s.version + 1
WHERE s.tenant_id = $1";

/// Those that differ, by their names.
pub(crate) const BY_ENGINE: &[(&str, Sql)] = &[("GOODS_OF_ORDER", GOODS_OF_ORDER)];

/// Every other statement by its name.
pub(crate) const STATEMENTS: &[(&str, &str)] = &[
    ("INSERT_SHIPMENT", INSERT_SHIPMENT),
    ("UPDATE_SHIPMENT", UPDATE_SHIPMENT),
    ("SHIPMENT", SHIPMENT),
    ("SHIPMENTS_PAGE", SHIPMENTS_PAGE),
    ("SHIPMENTS_OF_ORDER_PAGE", SHIPMENTS_OF_ORDER_PAGE),
    ("SHIPMENTS_IN_STATE_PAGE", SHIPMENTS_IN_STATE_PAGE),
    ("INSERT_PARCEL", INSERT_PARCEL),
    ("INSERT_ENTRY", INSERT_ENTRY),
    ("DELETE_PARCELS", DELETE_PARCELS),
    ("DELETE_ENTRIES", DELETE_ENTRIES),
    ("PARCELS", PARCELS),
    ("ENTRIES", ENTRIES),
    ("PARCEL_BY_NUMBER", PARCEL_BY_NUMBER),
    ("SET_TRACKING_NUMBER", SET_TRACKING_NUMBER),
    ("SET_PROGRESS", SET_PROGRESS),
    ("INSERT_CHANGE", INSERT_CHANGE),
    ("CHANGES_PAGE", CHANGES_PAGE),
    ("INSERT_TRACKING", INSERT_TRACKING),
    ("KNOWN", KNOWN),
    ("TRACKING_PAGE", TRACKING_PAGE),
    ("AUDIT_PARCELS", AUDIT_PARCELS),
    ("AUDIT_ENTRIES", AUDIT_ENTRIES),
    ("AUDIT_STATES", AUDIT_STATES),
];
