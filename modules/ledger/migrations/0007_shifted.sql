-- Accounts of transactions with several postings that took effect at another moment than they were recorded. (With two postings the
-- transaction's own indexes lead to them.)
CREATE TABLE ledger_shifted (
  tenant_id BIGINT NOT NULL,
  account_id BIGINT NOT NULL,
  transaction_id BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, account_id, transaction_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

INSERT INTO ledger_shifted (tenant_id, account_id, transaction_id)
SELECT p.tenant_id, p.account_id, p.transaction_id FROM ledger_transactions t
JOIN ledger_postings p ON p.tenant_id = t.tenant_id AND p.transaction_id = t.transaction_id
WHERE t.debit_account = 0 AND t.effective_at IS NOT NULL;
