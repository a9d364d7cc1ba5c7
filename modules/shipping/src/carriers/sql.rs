//! Statements about carriers and labels. `$1` is the tenant.

pub(crate) const CARRIERS: &str = "
SELECT carrier_id, version, name, kind, base_url, sealed, enabled, created_at, updated_at
FROM shipping_carriers WHERE tenant_id = $1 ORDER BY carrier_id LIMIT 20";

pub(crate) const CARRIER: &str = "
SELECT carrier_id, version, name, kind, base_url, sealed, enabled, created_at, updated_at
FROM shipping_carriers WHERE tenant_id = $1 AND carrier_id = $2";

pub(crate) const INSERT_CARRIER: &str = "
INSERT INTO shipping_carriers (tenant_id, carrier_id, version, name, kind, base_url, sealed, enabled, created_at, updated_at)
VALUES ($1, $2, 1, $3, $4, $5, $6, TRUE, $7, $7)";

/// `$3` is the version that was read.
pub(crate) const UPDATE_CARRIER: &str = "
UPDATE shipping_carriers SET version = $4, name = $5, base_url = $6, sealed = $7, enabled = $8, updated_at = $9
WHERE tenant_id = $1 AND carrier_id = $2 AND version = $3";

pub(crate) const INSERT_LABEL: &str = "
INSERT INTO shipping_labels (tenant_id, shipment_id, attempt, carrier_id, service, state, carrier_label, price_minor, currency, detail,
  requested_at, ended_at, base_url, sealed)
VALUES ($1, $2, $3, $4, $5, 'requested', NULL, NULL, NULL, '', $6, NULL, $7, $8)";

/// The carrier of a label, where it was when it was asked. Where it still is there, the secrets of today hold: a key is changed because the
/// old one is worth nothing any more. Elsewhere those of then: nobody is shown another one's key.
pub(crate) const CARRIER_OF_LABEL: &str = "
SELECT c.carrier_id, c.version, c.name, c.kind, CASE WHEN l.sealed IS NULL THEN c.base_url ELSE l.base_url END,
  CASE WHEN l.sealed IS NULL OR l.base_url = c.base_url THEN c.sealed ELSE l.sealed END, c.enabled, c.created_at, c.updated_at
FROM shipping_labels l
JOIN shipping_carriers c ON c.tenant_id = $1 AND c.carrier_id = l.carrier_id
WHERE l.tenant_id = $1 AND l.shipment_id = $2 AND l.attempt = $3";

pub(crate) const UPDATE_LABEL: &str = "
UPDATE shipping_labels SET state = $4, carrier_label = $5, price_minor = $6, currency = $7, detail = $8, ended_at = $9
WHERE tenant_id = $1 AND shipment_id = $2 AND attempt = $3";

pub(crate) const LABEL: &str = "
SELECT attempt, carrier_id, service, state, carrier_label, price_minor, currency, detail, requested_at, ended_at
FROM shipping_labels WHERE tenant_id = $1 AND shipment_id = $2 AND attempt = $3";

pub(crate) const LABELS: &str = "
SELECT attempt, carrier_id, service, state, carrier_label, price_minor, currency, detail, requested_at, ended_at
FROM shipping_labels WHERE tenant_id = $1 AND shipment_id = $2 ORDER BY attempt LIMIT 20";

pub(crate) const INSERT_LABEL_PARCEL: &str = "
INSERT INTO shipping_label_parcels (tenant_id, shipment_id, attempt, parcel, tracking_number, label_url) VALUES ($1, $2, $3, $4, $5, $6)";

pub(crate) const LABEL_PARCELS: &str = "
SELECT parcel, tracking_number, label_url FROM shipping_label_parcels
WHERE tenant_id = $1 AND shipment_id = $2 AND attempt = $3 ORDER BY parcel LIMIT 50";

/// Shipments that say of labels what the labels themselves do not, and how many there are.
pub(crate) const AUDIT_LABELS: &str = "
SELECT CAST(COUNT(*) AS BIGINT), CAST(COALESCE(SUM(CASE
  WHEN s.labelled = TRUE AND l.state IN ('bought', 'voiding') THEN 0
  WHEN s.labelled = FALSE AND (l.state IS NULL OR l.state IN ('requested', 'refused', 'in_doubt', 'voided')) THEN 0
  ELSE 1 END), 0) AS BIGINT)
FROM shipping_shipments s
LEFT JOIN shipping_labels l ON l.tenant_id = $1 AND l.shipment_id = s.shipment_id AND l.attempt = s.label_requests
WHERE s.tenant_id = $1";

/// Every statement by its name.
pub(crate) const STATEMENTS: &[(&str, &str)] = &[
    ("CARRIERS", CARRIERS),
    ("CARRIER", CARRIER),
    ("INSERT_CARRIER", INSERT_CARRIER),
    ("UPDATE_CARRIER", UPDATE_CARRIER),
    ("INSERT_LABEL", INSERT_LABEL),
    ("CARRIER_OF_LABEL", CARRIER_OF_LABEL),
    ("UPDATE_LABEL", UPDATE_LABEL),
    ("LABEL", LABEL),
    ("LABELS", LABELS),
    ("INSERT_LABEL_PARCEL", INSERT_LABEL_PARCEL),
    ("LABEL_PARCELS", LABEL_PARCELS),
    ("AUDIT_LABELS", AUDIT_LABELS),
];
