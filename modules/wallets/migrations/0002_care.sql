-- The withdrawals of a wallet that the bank has not paid yet: a wallet that is frozen calls them off.
CREATE INDEX wallets_transfers_under_way ON wallets_transfers (tenant_id, from_wallet, transfer_id) WHERE status = 'pending';
-- Nothing ever asked for it. (Nor for wallets_payouts.hold_id, which is not written any more.)
DROP INDEX wallets_topups_by_transfer;
-- One-time codes of a wallet on its last day (since 1970) with any: how many were asked for, and how many wrong ones were given.
ALTER TABLE wallets_wallets ADD COLUMN codes_day BIGINT NOT NULL DEFAULT 0;
ALTER TABLE wallets_wallets ADD COLUMN codes_asked BIGINT NOT NULL DEFAULT 0;
ALTER TABLE wallets_wallets ADD COLUMN codes_wrong BIGINT NOT NULL DEFAULT 0;
