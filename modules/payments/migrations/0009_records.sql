-- Money that moved outside, and is only written down here: above zero it came in, below zero it went back.
CREATE TABLE payments_records (
  tenant_id BIGINT NOT NULL,
  document TEXT NOT NULL,
  record_id BIGINT NOT NULL,
  kind TEXT NOT NULL,
  amount_minor BIGINT NOT NULL,
  currency TEXT NOT NULL,
  source TEXT NOT NULL,
  transaction_id BIGINT NOT NULL,
  happened_at BIGINT NOT NULL,
  recorded_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, document, record_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;
