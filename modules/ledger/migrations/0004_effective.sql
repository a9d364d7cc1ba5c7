-- Transactions that took effect at another moment than they were recorded: a balance by effective date is that by record, moved by these.
CREATE INDEX ledger_transactions_shifted_debit ON ledger_transactions (tenant_id, debit_account, effective_at) WHERE effective_at IS NOT NULL;
CREATE INDEX ledger_transactions_shifted_credit ON ledger_transactions (tenant_id, credit_account, effective_at) WHERE effective_at IS NOT NULL;
