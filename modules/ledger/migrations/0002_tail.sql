-- Where balances are behind. On SQLite small groups of transfers leave ledger_balances for later: each of them would change pages all over
-- it. The transactions from the one named here on are in no balance yet; readers add them (sql.rs, TAIL_OF). Without a row nothing is behind.
CREATE TABLE ledger_tail (
  tenant_id BIGINT NOT NULL,
  first_transaction BIGINT NOT NULL,
  PRIMARY KEY (tenant_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;
