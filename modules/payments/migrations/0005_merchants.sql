-- What was moved from a provider's customers' money to merchants.
ALTER TABLE payments_accounts ADD COLUMN clearing_settled BIGINT NOT NULL DEFAULT 0;

-- Merchants of the tenant, with the terms under which they are settled, as JSON.
CREATE TABLE payments_merchants (
  tenant_id BIGINT NOT NULL,
  merchant_id BIGINT NOT NULL,
  merchant TEXT NOT NULL,
  version BIGINT NOT NULL,
  terms TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, merchant_id)
);
CREATE UNIQUE INDEX payments_merchants_by_name ON payments_merchants (tenant_id, merchant);

-- Captures and refunds for merchants that no batch has settled yet.
CREATE TABLE payments_merchant_operations (
  tenant_id BIGINT NOT NULL,
  currency TEXT NOT NULL,
  operation_id BIGINT NOT NULL,
  merchant TEXT NOT NULL,
  provider_id BIGINT NOT NULL,
  kind TEXT NOT NULL,
  amount_minor BIGINT NOT NULL,
  fee_minor BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, currency, operation_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- Batches: what merchants were settled together.
CREATE TABLE payments_batches (
  tenant_id BIGINT NOT NULL,
  batch_id BIGINT NOT NULL,
  currency TEXT NOT NULL,
  merchants BIGINT NOT NULL,
  operations BIGINT NOT NULL,
  payout_minor BIGINT NOT NULL,
  more BOOLEAN NOT NULL,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, batch_id)
);
CREATE TABLE payments_batch_lines (
  tenant_id BIGINT NOT NULL,
  batch_id BIGINT NOT NULL,
  merchant_id BIGINT NOT NULL,
  currency TEXT NOT NULL,
  captured_minor BIGINT NOT NULL,
  refunded_minor BIGINT NOT NULL,
  provider_fee_minor BIGINT NOT NULL,
  platform_fee_minor BIGINT NOT NULL,
  reserved_minor BIGINT NOT NULL,
  released_minor BIGINT NOT NULL,
  payout_minor BIGINT NOT NULL,
  balance_minor BIGINT NOT NULL,
  account TEXT NOT NULL,
  name TEXT NOT NULL,
  PRIMARY KEY (tenant_id, batch_id, merchant_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- What is held back of a merchant's money, and until when.
CREATE TABLE payments_reserves (
  tenant_id BIGINT NOT NULL,
  release_at BIGINT NOT NULL,
  batch_id BIGINT NOT NULL,
  merchant_id BIGINT NOT NULL,
  currency TEXT NOT NULL,
  amount_minor BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, release_at, batch_id, merchant_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;
