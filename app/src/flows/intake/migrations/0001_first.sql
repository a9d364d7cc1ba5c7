-- What became of the orders that were taken in while this database was away, whichever node took them in.
CREATE TABLE intake_outcomes (
  tenant_id BIGINT NOT NULL,
  intake_id BIGINT NOT NULL,
  -- placed, refused.
  state TEXT NOT NULL,
  -- Where what it has become is.
  location TEXT,
  -- Why it was refused: a problem's code and detail.
  code TEXT,
  detail TEXT,
  taken_in_at BIGINT NOT NULL,
  ended_at BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, intake_id)
)
-- @sqlite
WITHOUT ROWID
-- @end
;
