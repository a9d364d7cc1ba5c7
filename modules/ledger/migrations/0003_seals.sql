-- Sealed heads of the chain of hashes over the journal (chain.rs): written beside the hot path, from the committed order.
CREATE TABLE ledger_seals (
  tenant_id BIGINT NOT NULL,
  -- From 1, without a gap.
  seal BIGINT NOT NULL,
  -- The last account and the last transaction that it covers, and how many there are up to them.
  last_account BIGINT NOT NULL,
  accounts BIGINT NOT NULL,
  last_transaction BIGINT NOT NULL,
  transactions BIGINT NOT NULL,
  -- SHA-256 and Ed25519, in hexadecimal.
  accounts_head TEXT NOT NULL,
  transactions_head TEXT NOT NULL,
  sealed_at BIGINT NOT NULL,
  public_key TEXT NOT NULL,
  signature TEXT NOT NULL,
  PRIMARY KEY (tenant_id, seal)
)
-- @sqlite
WITHOUT ROWID
-- @end
;
