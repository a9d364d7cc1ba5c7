-- Whose file an operation comes in: each provider's are looked through by themselves.
ALTER TABLE payments_operations ADD COLUMN provider_id BIGINT;
UPDATE payments_operations SET provider_id = (
  SELECT i.provider_id FROM payments_intents i
  WHERE i.tenant_id = payments_operations.tenant_id AND i.intent_id = payments_operations.intent_id);
DROP INDEX payments_operations_unsettled;
CREATE INDEX payments_operations_unsettled ON payments_operations (tenant_id, provider_id, intent_id, operation_id)
  WHERE settled_run IS NULL AND state <> 'failed' AND kind <> 'void';

-- What files had of operations that they did not have whole: the row, and what it brought.
CREATE TABLE payments_settled_parts (
  tenant_id BIGINT NOT NULL,
  intent_id BIGINT NOT NULL,
  operation_id BIGINT NOT NULL,
  run_id BIGINT NOT NULL,
  line BIGINT NOT NULL,
  gross_minor BIGINT NOT NULL,
  fee_minor BIGINT NOT NULL,
  movement BYTEA NOT NULL,
  PRIMARY KEY (tenant_id, intent_id, operation_id, run_id, line)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- Whether a later file may end a break, and the transaction that took its posting back when one did.
ALTER TABLE payments_breaks ADD COLUMN awaits BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE payments_breaks ADD COLUMN reversal_id BIGINT;
UPDATE payments_breaks SET awaits = TRUE WHERE kind = 'missing_there' AND (state = 'open' OR transaction_id IS NOT NULL);
CREATE INDEX payments_breaks_awaiting ON payments_breaks (tenant_id, provider_id, break_id) WHERE awaits = TRUE;

-- Top-ups of wallets are no merchant's: their captures wait for no settlement.
UPDATE payments_intents SET merchant = 'module:wallets' WHERE merchant = 'wallets' AND external_ref LIKE 'trf\_%' ESCAPE '\';
DELETE FROM payments_merchant_operations WHERE merchant = 'wallets' AND (tenant_id, operation_id) IN (
  SELECT o.tenant_id, o.operation_id FROM payments_operations o
  JOIN payments_intents i ON i.tenant_id = o.tenant_id AND i.intent_id = o.intent_id WHERE i.merchant = 'module:wallets');
