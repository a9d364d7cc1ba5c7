-- What customers are to pay, and where that stands.
CREATE TABLE payments_intents (
  tenant_id BIGINT NOT NULL,
  intent_id BIGINT NOT NULL,
  version BIGINT NOT NULL,
  state TEXT NOT NULL,
  asking BOOLEAN NOT NULL,
  capture_open BOOLEAN NOT NULL,
  amount_minor BIGINT NOT NULL,
  currency TEXT NOT NULL,
  captured_minor BIGINT NOT NULL,
  capturing_minor BIGINT NOT NULL,
  refunded_minor BIGINT NOT NULL,
  refunding_minor BIGINT NOT NULL,
  fee_minor BIGINT NOT NULL,
  method TEXT NOT NULL,
  capture_mode TEXT NOT NULL,
  country TEXT NOT NULL,
  merchant TEXT NOT NULL,
  external_ref TEXT,
  token TEXT NOT NULL,
  token_provider BIGINT,
  provider_id BIGINT,
  provider_charge TEXT,
  attempt BIGINT NOT NULL,
  action_url TEXT,
  failure TEXT,
  hold_id BIGINT,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  expires_at BIGINT,
  PRIMARY KEY (tenant_id, intent_id)
);

-- What the tenant calls its payments: each name once.
CREATE TABLE payments_refs (
  tenant_id BIGINT NOT NULL,
  external_ref TEXT NOT NULL,
  intent_id BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, external_ref)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- Each time a provider was asked to authorise an intent.
CREATE TABLE payments_attempts (
  tenant_id BIGINT NOT NULL,
  intent_id BIGINT NOT NULL,
  attempt BIGINT NOT NULL,
  provider_id BIGINT NOT NULL,
  outcome TEXT NOT NULL,
  code TEXT,
  provider_charge TEXT,
  begun_at BIGINT NOT NULL,
  ended_at BIGINT,
  PRIMARY KEY (tenant_id, intent_id, attempt)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- Captures, voids and refunds.
CREATE TABLE payments_operations (
  tenant_id BIGINT NOT NULL,
  intent_id BIGINT NOT NULL,
  operation_id BIGINT NOT NULL,
  kind TEXT NOT NULL,
  state TEXT NOT NULL,
  amount_minor BIGINT NOT NULL,
  fee_minor BIGINT NOT NULL,
  last BOOLEAN NOT NULL,
  cause TEXT NOT NULL,
  reason TEXT NOT NULL,
  code TEXT,
  begun_at BIGINT NOT NULL,
  ended_at BIGINT,
  PRIMARY KEY (tenant_id, intent_id, operation_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- The ledger's transactions that brought an intent's money, and how much of each a refund has taken back.
CREATE TABLE payments_sources (
  tenant_id BIGINT NOT NULL,
  intent_id BIGINT NOT NULL,
  transaction_id BIGINT NOT NULL,
  amount_minor BIGINT NOT NULL,
  reversed_minor BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, intent_id, transaction_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- The ledger's accounts for what a provider moves in a currency.
CREATE TABLE payments_accounts (
  tenant_id BIGINT NOT NULL,
  provider_id BIGINT NOT NULL,
  currency TEXT NOT NULL,
  receivable_id BIGINT NOT NULL,
  clearing_id BIGINT NOT NULL,
  fees_id BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, provider_id, currency)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- Providers that the tenant has set up; their secrets are sealed.
CREATE TABLE payments_providers (
  tenant_id BIGINT NOT NULL,
  provider_id BIGINT NOT NULL,
  version BIGINT NOT NULL,
  name TEXT NOT NULL,
  kind TEXT NOT NULL,
  base_url TEXT NOT NULL,
  sealed BYTEA NOT NULL,
  honours_keys BOOLEAN NOT NULL,
  enabled BOOLEAN NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, provider_id)
);

-- The tenant's rules of routing, as JSON.
CREATE TABLE payments_policies (
  tenant_id BIGINT NOT NULL,
  version BIGINT NOT NULL,
  policy TEXT NOT NULL,
  PRIMARY KEY (tenant_id)
);

-- Customers' stored methods: providers' tokens.
CREATE TABLE payments_methods (
  tenant_id BIGINT NOT NULL,
  method_id BIGINT NOT NULL,
  customer TEXT NOT NULL,
  provider_id BIGINT NOT NULL,
  token TEXT NOT NULL,
  label TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  removed_at BIGINT,
  PRIMARY KEY (tenant_id, method_id)
);

-- Callbacks that were taken, so that a replayed one is known.
CREATE TABLE payments_callbacks (
  tenant_id BIGINT NOT NULL,
  provider_id BIGINT NOT NULL,
  event_id TEXT NOT NULL,
  received_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, provider_id, event_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;

-- What a person has to look at. One open task for each intent and kind.
CREATE TABLE payments_tasks (
  tenant_id BIGINT NOT NULL,
  task_id BIGINT NOT NULL,
  intent_id BIGINT NOT NULL,
  kind TEXT NOT NULL,
  detail TEXT NOT NULL,
  opened_at BIGINT NOT NULL,
  closed_at BIGINT,
  note TEXT,
  PRIMARY KEY (tenant_id, task_id)
);
CREATE TABLE payments_open_tasks (
  tenant_id BIGINT NOT NULL,
  intent_id BIGINT NOT NULL,
  kind TEXT NOT NULL,
  task_id BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, intent_id, kind)
)
-- @sqlite
WITHOUT ROWID
-- @end
;
