-- Where balances are behind. On SQLite small groups of transfers leave ledger_balances for later: each of them would change pages all over
-- it. Of the transactions from the one named here on a balance has those up to its last_transaction; readers add the others (sql.rs,
-- TAIL_OF). Without a row nothing is behind.
CREATE TABLE ledger_tail (
  tenant_id BIGINT NOT NULL,
  first_transaction BIGINT NOT NULL,
  PRIMARY KEY (tenant_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;
