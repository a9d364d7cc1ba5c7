//! Every statement about merchants. `$1` is the tenant.

pub(crate) const MERCHANT: &str = "
SELECT merchant_id, merchant, version, terms, created_at, updated_at FROM payments_merchants WHERE tenant_id = $1 AND merchant = $2";

pub(crate) const MERCHANTS_PAGE: &str = "
SELECT merchant_id, merchant, version, terms, created_at, updated_at
FROM payments_merchants WHERE tenant_id = $1 AND merchant_id < $2 ORDER BY merchant_id DESC LIMIT $3";

pub(crate) const INSERT_MERCHANT: &str = "
INSERT INTO payments_merchants (tenant_id, merchant_id, merchant, version, terms, created_at, updated_at) VALUES ($1, $2, $3, 1, $4, $5, $5)";

pub(crate) const UPDATE_MERCHANT: &str = "
UPDATE payments_merchants SET version = $4, terms = $5, updated_at = $6 WHERE tenant_id = $1 AND merchant_id = $2 AND version = $3";

pub(crate) const INSERT_OPERATION: &str = "
INSERT INTO payments_merchant_operations (tenant_id, currency, operation_id, merchant, provider_id, kind, amount_minor, fee_minor)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

/// The oldest of merchants with terms: what waits for others stands in nobody's way.
pub(crate) const OPERATIONS: &str = "
SELECT o.operation_id, o.merchant, o.provider_id, o.kind, o.amount_minor, o.fee_minor
FROM payments_merchant_operations o JOIN payments_merchants m ON m.tenant_id = $1 AND m.merchant = o.merchant
WHERE o.tenant_id = $1 AND o.currency = $2 ORDER BY o.operation_id LIMIT $3";

pub(crate) const DELETE_OPERATION: &str = "
DELETE FROM payments_merchant_operations WHERE tenant_id = $1 AND currency = $2 AND operation_id = $3";

pub(crate) const INSERT_BATCH: &str = "
INSERT INTO payments_batches (tenant_id, batch_id, currency, merchants, operations, payout_minor, more, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

pub(crate) const BATCH: &str = "
SELECT batch_id, currency, merchants, operations, payout_minor, more, created_at FROM payments_batches WHERE tenant_id = $1 AND batch_id = $2";

pub(crate) const BATCHES_PAGE: &str = "
SELECT batch_id, currency, merchants, operations, payout_minor, more, created_at
FROM payments_batches WHERE tenant_id = $1 AND batch_id < $2 ORDER BY batch_id DESC LIMIT $3";

pub(crate) const INSERT_LINE: &str = "
INSERT INTO payments_batch_lines (tenant_id, batch_id, merchant_id, currency, captured_minor, refunded_minor, provider_fee_minor,
  platform_fee_minor, reserved_minor, released_minor, payout_minor, balance_minor, account, name)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";

pub(crate) const LINES: &str = "
SELECT l.merchant_id, m.merchant, l.captured_minor, l.refunded_minor, l.provider_fee_minor, l.platform_fee_minor, l.reserved_minor,
  l.released_minor, l.payout_minor, l.balance_minor, l.account, l.name
FROM payments_batch_lines l JOIN payments_merchants m ON m.tenant_id = $1 AND m.merchant_id = l.merchant_id
WHERE l.tenant_id = $1 AND l.batch_id = $2 ORDER BY l.merchant_id LIMIT 1000";

pub(crate) const INSERT_RESERVE: &str = "
INSERT INTO payments_reserves (tenant_id, release_at, batch_id, merchant_id, currency, amount_minor) VALUES ($1, $2, $3, $4, $5, $6)";

pub(crate) const DUE_RESERVES: &str = "
SELECT r.release_at, r.batch_id, r.merchant_id, r.amount_minor, m.merchant
FROM payments_reserves r JOIN payments_merchants m ON m.tenant_id = $1 AND m.merchant_id = r.merchant_id
WHERE r.tenant_id = $1 AND r.currency = $2 AND r.release_at <= $3 ORDER BY r.release_at, r.batch_id, r.merchant_id LIMIT $4";

pub(crate) const DELETE_RESERVE: &str = "
DELETE FROM payments_reserves WHERE tenant_id = $1 AND release_at = $2 AND batch_id = $3 AND merchant_id = $4";

pub(crate) const SETTLE_CLEARING: &str = "
UPDATE payments_accounts SET clearing_settled = clearing_settled + $4 WHERE tenant_id = $1 AND provider_id = $2 AND currency = $3";

/// What each merchant's balance and reserve come to by the batches.
pub(crate) const BY_BATCHES: &str = "
SELECT merchant_id, currency,
  CAST(SUM(captured_minor - refunded_minor - provider_fee_minor - platform_fee_minor - reserved_minor + released_minor - payout_minor) AS BIGINT),
  CAST(SUM(reserved_minor - released_minor) AS BIGINT)
FROM payments_batch_lines WHERE tenant_id = $1 GROUP BY merchant_id, currency ORDER BY merchant_id, currency LIMIT 100000";

/// All of them, for tests that prepare each on both engines.
pub(crate) const STATEMENTS: &[(&str, &str)] = &[
    ("MERCHANT", MERCHANT),
    ("MERCHANTS_PAGE", MERCHANTS_PAGE),
    ("INSERT_MERCHANT", INSERT_MERCHANT),
    ("UPDATE_MERCHANT", UPDATE_MERCHANT),
    ("INSERT_MERCHANT_OPERATION", INSERT_OPERATION),
    ("MERCHANT_OPERATIONS", OPERATIONS),
    ("DELETE_MERCHANT_OPERATION", DELETE_OPERATION),
    ("INSERT_BATCH", INSERT_BATCH),
    ("BATCH", BATCH),
    ("BATCHES_PAGE", BATCHES_PAGE),
    ("INSERT_LINE", INSERT_LINE),
    ("LINES", LINES),
    ("INSERT_RESERVE", INSERT_RESERVE),
    ("DUE_RESERVES", DUE_RESERVES),
    ("DELETE_RESERVE", DELETE_RESERVE),
    ("SETTLE_CLEARING", SETTLE_CLEARING),
    ("BY_BATCHES", BY_BATCHES),
];
