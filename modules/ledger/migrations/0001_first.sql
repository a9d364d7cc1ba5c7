-- The ledger. Transactions are only ever added to; their ids are time-ordered, so they are written at the end of their tree. Nothing here
-- is ever purged.

-- How accounts are set up. What moves with each transaction is in ledger_balances, so that the hot rows are small.
CREATE TABLE ledger_accounts (
  tenant_id BIGINT NOT NULL,
  account_id BIGINT NOT NULL,
  code TEXT NOT NULL,
  name TEXT NOT NULL,
  type TEXT NOT NULL,
  currency TEXT NOT NULL,
  owner TEXT,
  may_go_negative BOOLEAN NOT NULL,
  negative_limit_minor BIGINT,
  status TEXT NOT NULL,
  -- Whether a velocity limit binds the account or its owner in its currency: only then are limits looked for.
  limited BOOLEAN NOT NULL,
  version BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, account_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

CREATE UNIQUE INDEX ledger_accounts_by_code ON ledger_accounts (tenant_id, code);
CREATE INDEX ledger_accounts_by_owner ON ledger_accounts (tenant_id, owner, account_id) WHERE owner IS NOT NULL;

-- The sums of each account after its last transaction.
CREATE TABLE ledger_balances (
  tenant_id BIGINT NOT NULL,
  account_id BIGINT NOT NULL,
  debits_posted BIGINT NOT NULL,
  credits_posted BIGINT NOT NULL,
  debits_pending BIGINT NOT NULL,
  credits_pending BIGINT NOT NULL,
  -- How many transactions have touched the account, which was the last one (0: none), and when that was recorded.
  entries BIGINT NOT NULL,
  last_transaction BIGINT NOT NULL,
  last_recorded BIGINT NOT NULL,
  -- No open hold of it expires before this.
  next_expiry BIGINT,
  PRIMARY KEY (tenant_id, account_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
-- @postgres
-- Room on each page for the next version of its rows, so that an update touches no index.
WITH (fillfactor = 50)
-- @end
;

-- One row is a whole transaction of a debit and a credit. With several postings the accounts are 0 and the postings are beside it.
-- Each row names the transaction before it on both of its accounts: an account's entries are a chain, and need no index.
CREATE TABLE ledger_transactions (
  tenant_id BIGINT NOT NULL,
  transaction_id BIGINT NOT NULL,
  kind TEXT NOT NULL,
  debit_account BIGINT NOT NULL,
  credit_account BIGINT NOT NULL,
  -- What was posted, and by how much the pending sums changed (below zero when a hold ended).
  amount_minor BIGINT NOT NULL,
  pending_minor BIGINT NOT NULL,
  debit_previous BIGINT NOT NULL,
  credit_previous BIGINT NOT NULL,
  recorded_at BIGINT NOT NULL,
  -- The hold that it ends, or the transaction that it reverses.
  subject BIGINT,
  rate_nanos BIGINT,
  effective_at BIGINT,
  external_ref TEXT,
  description TEXT,
  metadata TEXT,
  PRIMARY KEY (tenant_id, transaction_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

CREATE TABLE ledger_postings (
  tenant_id BIGINT NOT NULL,
  transaction_id BIGINT NOT NULL,
  posting BIGINT NOT NULL,
  account_id BIGINT NOT NULL,
  -- Debits above zero, credits below.
  signed_minor BIGINT NOT NULL,
  previous BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, transaction_id, posting)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- An account's sums after each 256th of its transactions: the past is found from the next mark after it.
CREATE TABLE ledger_marks (
  tenant_id BIGINT NOT NULL,
  account_id BIGINT NOT NULL,
  recorded_at BIGINT NOT NULL,
  entries BIGINT NOT NULL,
  transaction_id BIGINT NOT NULL,
  debits_posted BIGINT NOT NULL,
  credits_posted BIGINT NOT NULL,
  debits_pending BIGINT NOT NULL,
  credits_pending BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, account_id, recorded_at, entries)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- What has become of each hold. Its id is that of the transaction that placed it.
CREATE TABLE ledger_holds (
  tenant_id BIGINT NOT NULL,
  hold_id BIGINT NOT NULL,
  debit_account BIGINT NOT NULL,
  credit_account BIGINT NOT NULL,
  amount_minor BIGINT NOT NULL,
  captured_minor BIGINT NOT NULL,
  remaining_minor BIGINT NOT NULL,
  status TEXT NOT NULL,
  expires_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, hold_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- Open holds by their expiry: all of them, and those of an account.
CREATE INDEX ledger_holds_by_expiry ON ledger_holds (tenant_id, expires_at) WHERE status = 'open';
CREATE INDEX ledger_holds_by_debit ON ledger_holds (tenant_id, debit_account, expires_at) WHERE status = 'open';
CREATE INDEX ledger_holds_by_credit ON ledger_holds (tenant_id, credit_account, expires_at) WHERE status = 'open';

-- How much of a transaction's debits was taken back. A row only for those of which something was.
CREATE TABLE ledger_reversed (
  tenant_id BIGINT NOT NULL,
  transaction_id BIGINT NOT NULL,
  reversed_minor BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, transaction_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- Idempotency keys and what was asked under them, both as hashes of 128 bits in two halves. They never expire.
CREATE TABLE ledger_keys (
  tenant_id BIGINT NOT NULL,
  key_high BIGINT NOT NULL,
  key_low BIGINT NOT NULL,
  print_high BIGINT NOT NULL,
  print_low BIGINT NOT NULL,
  transaction_id BIGINT NOT NULL,
  recorded_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, key_high, key_low)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

CREATE TABLE ledger_refs (
  tenant_id BIGINT NOT NULL,
  external_ref TEXT NOT NULL,
  transaction_id BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, external_ref)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- Velocity limits. A subject is an account's number as text, or an owner.
CREATE TABLE ledger_limits (
  tenant_id BIGINT NOT NULL,
  subject_kind TEXT NOT NULL,
  subject TEXT NOT NULL,
  currency TEXT NOT NULL,
  per_transaction_minor BIGINT,
  per_day_minor BIGINT,
  per_month_minor BIGINT,
  PRIMARY KEY (tenant_id, subject_kind, subject, currency)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- What left under a limit, by UTC day (days since 1970).
CREATE TABLE ledger_usage (
  tenant_id BIGINT NOT NULL,
  subject_kind TEXT NOT NULL,
  subject TEXT NOT NULL,
  currency TEXT NOT NULL,
  day BIGINT NOT NULL,
  used_minor BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, subject_kind, subject, currency, day)
)
-- @sqlite
WITHOUT ROWID
-- @end
;
