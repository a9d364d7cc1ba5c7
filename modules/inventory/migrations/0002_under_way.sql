-- How much of what is incoming belongs to transfers: what comes in by other ways takes nothing of it.
ALTER TABLE inventory_levels ADD COLUMN in_transit BIGINT NOT NULL DEFAULT 0;

UPDATE inventory_levels SET in_transit = COALESCE((
  SELECT CAST(SUM(m.incoming) AS BIGINT) FROM inventory_movements m
  WHERE m.tenant_id = inventory_levels.tenant_id AND m.item_id = inventory_levels.item_id AND m.location_id = inventory_levels.location_id
    AND m.kind IN ('transfer_expected', 'transfer_in', 'transfer_damaged', 'transfer_short')), 0);

-- By how much stock takes and corrections have changed what is on hand, from here on: what one of them has booked, another one that was
-- counted before it books no more. Compared with itself only, never shown.
ALTER TABLE inventory_levels ADD COLUMN recounted BIGINT NOT NULL DEFAULT 0;
