-- Wallets. Money itself is in the ledger: here is whose it is, what may be done with it, and what was asked for.

CREATE TABLE wallets_wallets (
  tenant_id BIGINT NOT NULL,
  wallet_id BIGINT NOT NULL,
  kind TEXT NOT NULL,
  status TEXT NOT NULL,
  -- The KYC level, as the policy knows it.
  level BIGINT NOT NULL,
  level_since BIGINT NOT NULL,
  -- The user who may use it as its own.
  user_id BIGINT,
  owner TEXT,
  name TEXT NOT NULL,
  -- Of a merchant, in hundredths of a percent; the policy's when it is null.
  fee_bps BIGINT,
  version BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, wallet_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

CREATE INDEX wallets_wallets_by_owner ON wallets_wallets (tenant_id, owner, wallet_id) WHERE owner IS NOT NULL;
CREATE INDEX wallets_wallets_by_user ON wallets_wallets (tenant_id, user_id, wallet_id) WHERE user_id IS NOT NULL;

-- A wallet in a currency: its account in the ledger, what has left it in the day and the month, and what is remembered of its past.
CREATE TABLE wallets_accounts (
  tenant_id BIGINT NOT NULL,
  wallet_id BIGINT NOT NULL,
  currency TEXT NOT NULL,
  account_id BIGINT NOT NULL,
  -- The UTC day (since 1970) of the last outflow, what left in it, and what left in its month.
  used_day BIGINT NOT NULL,
  day_minor BIGINT NOT NULL,
  month_minor BIGINT NOT NULL,
  -- See activity.rs: of bounded size.
  activity BYTEA NOT NULL,
  PRIMARY KEY (tenant_id, wallet_id, currency)
)
-- @sqlite
WITHOUT ROWID
-- @end
-- @postgres
WITH (fillfactor = 50)
-- @end
;

-- The ledger's accounts of the platform itself, by currency.
CREATE TABLE wallets_books (
  tenant_id BIGINT NOT NULL,
  currency TEXT NOT NULL,
  -- What is at the bank (an asset), what merchants were charged (income), and what wallets owe us (an asset).
  bank_account BIGINT NOT NULL,
  fees_account BIGINT NOT NULL,
  owed_account BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, currency)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- Whatever was to move money into, out of or between wallets. A wallet of 0 is the world outside.
CREATE TABLE wallets_transfers (
  tenant_id BIGINT NOT NULL,
  transfer_id BIGINT NOT NULL,
  kind TEXT NOT NULL,
  status TEXT NOT NULL,
  from_wallet BIGINT NOT NULL,
  to_wallet BIGINT NOT NULL,
  currency TEXT NOT NULL,
  amount_minor BIGINT NOT NULL,
  -- What the receiver was charged of it.
  fee_minor BIGINT NOT NULL,
  -- The ledger's transaction that moved it or set it aside.
  transaction_id BIGINT,
  score BIGINT NOT NULL,
  policy_version BIGINT NOT NULL,
  reasons TEXT NOT NULL,
  note TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  ended_at BIGINT,
  -- When it was counted against the payer's limits; 0 when it was not, or no more.
  counted_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, transfer_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- Transfers that wait for a code or for a person. The open ones are the queue.
CREATE TABLE wallets_pending (
  tenant_id BIGINT NOT NULL,
  transfer_id BIGINT NOT NULL,
  waits_for TEXT NOT NULL,
  is_open BOOLEAN NOT NULL,
  -- The ledger's hold of a review.
  hold_id BIGINT,
  attempts_left BIGINT NOT NULL,
  -- Of the payer when it asked, as hashes; see activity.rs.
  device BIGINT NOT NULL,
  country TEXT NOT NULL,
  opened_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  decided_at BIGINT,
  decided_by BIGINT,
  reason TEXT NOT NULL,
  PRIMARY KEY (tenant_id, transfer_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

CREATE INDEX wallets_pending_open ON wallets_pending (tenant_id, waits_for, transfer_id) WHERE is_open = TRUE;

-- What somebody was asked to pay.
CREATE TABLE wallets_requests (
  tenant_id BIGINT NOT NULL,
  request_id BIGINT NOT NULL,
  asker_wallet BIGINT NOT NULL,
  payer_wallet BIGINT NOT NULL,
  currency TEXT NOT NULL,
  amount_minor BIGINT NOT NULL,
  note TEXT NOT NULL,
  status TEXT NOT NULL,
  transfer_id BIGINT,
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, request_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

CREATE INDEX wallets_requests_by_asker ON wallets_requests (tenant_id, asker_wallet, request_id);
CREATE INDEX wallets_requests_by_payer ON wallets_requests (tenant_id, payer_wallet, request_id);

-- Pay codes: what a point of sale shows.
CREATE TABLE wallets_codes (
  tenant_id BIGINT NOT NULL,
  code_id BIGINT NOT NULL,
  merchant_wallet BIGINT NOT NULL,
  currency TEXT NOT NULL,
  amount_minor BIGINT NOT NULL,
  note TEXT NOT NULL,
  status TEXT NOT NULL,
  transfer_id BIGINT,
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, code_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

CREATE TABLE wallets_schedules (
  tenant_id BIGINT NOT NULL,
  schedule_id BIGINT NOT NULL,
  from_wallet BIGINT NOT NULL,
  to_wallet BIGINT NOT NULL,
  currency TEXT NOT NULL,
  amount_minor BIGINT NOT NULL,
  note TEXT NOT NULL,
  every TEXT NOT NULL,
  status TEXT NOT NULL,
  first_at BIGINT NOT NULL,
  -- How many dates have passed, how many of them moved money, how many in a row did not, and why the last one did not.
  runs BIGINT NOT NULL,
  done BIGINT NOT NULL,
  failures BIGINT NOT NULL,
  last_code TEXT NOT NULL,
  next_at BIGINT,
  until_at BIGINT,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, schedule_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

CREATE INDEX wallets_schedules_by_wallet ON wallets_schedules (tenant_id, from_wallet, schedule_id);

-- Top-ups by the payment that brings the money. What was credited and taken back so far, as the payment's events told.
CREATE TABLE wallets_topups (
  tenant_id BIGINT NOT NULL,
  intent_id BIGINT NOT NULL,
  transfer_id BIGINT NOT NULL,
  credited_minor BIGINT NOT NULL,
  returned_minor BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, intent_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

CREATE INDEX wallets_topups_by_transfer ON wallets_topups (tenant_id, transfer_id);

-- Where withdrawals go.
CREATE TABLE wallets_payouts (
  tenant_id BIGINT NOT NULL,
  transfer_id BIGINT NOT NULL,
  iban TEXT NOT NULL,
  holder TEXT NOT NULL,
  hold_id BIGINT,
  bank_ref TEXT NOT NULL,
  failure TEXT NOT NULL,
  PRIMARY KEY (tenant_id, transfer_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- References of incoming bank transfers: each is credited once.
CREATE TABLE wallets_deposits (
  tenant_id BIGINT NOT NULL,
  reference TEXT NOT NULL,
  transfer_id BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, reference)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- The tenant's policy, each version of it.
CREATE TABLE wallets_policies (
  tenant_id BIGINT NOT NULL,
  version BIGINT NOT NULL,
  body TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  created_by BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, version)
)
-- @sqlite
WITHOUT ROWID
-- @end
;
