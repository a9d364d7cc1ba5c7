//! Every statement of this module. `$1` is the tenant.

use store::Sql;
use web::{InScope, Statement};

// What a demand is decided on, in one round trip: the reservations that have these references already (`0`), and for each component of
// the variants its item, the rules, and a row a location that keeps it (`1`). The columns of the two are the same place in `load.rs`.

/// `$2` variants, `$3` references. On PostgreSQL they are hidden from the planner in a subquery: else it finds the plan for an array that it
/// sees cheaper than the one for any, and plans these six tables anew each time, which takes three times as long as running it.
pub(crate) const DEMAND: Sql = Sql::per_engine(
    "
SELECT CAST(0 AS BIGINT), CAST(NULL AS BIGINT), CAST(NULL AS BIGINT), CAST(NULL AS BIGINT), r.reference, CAST(NULL AS BIGINT),
  r.promised_at, r.expires_at, r.created_at, r.updated_at, r.state, CAST(NULL AS DOUBLE PRECISION), CAST(NULL AS DOUBLE PRECISION),
  CAST(NULL AS BIGINT), CAST(NULL AS BOOLEAN), r.lines, r.allocations
FROM inventory_reservations r WHERE r.tenant_id = $1 AND r.reference IN (SELECT value FROM json_each($3))
UNION ALL
SELECT CAST(1 AS BIGINT), c.variant_id, c.item_id, c.quantity, i.policy, i.oversell_limit,
  i.promised_at, i.low_stock_at, l.location_id, l.on_hand - l.reserved - l.safety, o.kind, o.latitude, o.longitude,
  o.priority, o.active, s.rules, CAST(NULL AS TEXT)
FROM inventory_components c
JOIN inventory_items i ON i.tenant_id = $1 AND i.item_id = c.item_id
LEFT JOIN inventory_settings s ON s.tenant_id = $1
LEFT JOIN inventory_levels l ON l.tenant_id = $1 AND l.item_id = c.item_id
LEFT JOIN inventory_locations o ON o.tenant_id = $1 AND o.location_id = l.location_id
WHERE c.tenant_id = $1 AND c.variant_id IN (SELECT value FROM json_each($2))",
    "
SELECT CAST(0 AS BIGINT), CAST(NULL AS BIGINT), CAST(NULL AS BIGINT), CAST(NULL AS BIGINT), r.reference, CAST(NULL AS BIGINT),
  r.promised_at, r.expires_at, r.created_at, r.updated_at, r.state, CAST(NULL AS DOUBLE PRECISION), CAST(NULL AS DOUBLE PRECISION),
  CAST(NULL AS BIGINT), CAST(NULL AS BOOLEAN), r.lines, r.allocations
FROM inventory_reservations r WHERE r.tenant_id = $1 AND r.reference = ANY((SELECT $3::text[])::text[])
UNION ALL
SELECT CAST(1 AS BIGINT), c.variant_id, c.item_id, c.quantity, i.policy, i.oversell_limit,
  i.promised_at, i.low_stock_at, l.location_id, l.on_hand - l.reserved - l.safety, o.kind, o.latitude, o.longitude,
  o.priority, o.active, s.rules, CAST(NULL AS TEXT)
FROM inventory_components c
JOIN inventory_items i ON i.tenant_id = $1 AND i.item_id = c.item_id
LEFT JOIN inventory_settings s ON s.tenant_id = $1
LEFT JOIN inventory_levels l ON l.tenant_id = $1 AND l.item_id = c.item_id
LEFT JOIN inventory_locations o ON o.tenant_id = $1 AND o.location_id = l.location_id
WHERE c.tenant_id = $1 AND c.variant_id = ANY((SELECT $2::bigint[])::bigint[])",
);

/// Where anything may be kept.
pub(crate) const SITES: &str = "
SELECT location_id, kind, latitude, longitude, priority, active FROM inventory_locations WHERE tenant_id = $1 ORDER BY location_id LIMIT 1000";

/// `$4` more are reserved, if as many as were seen (`$5`) are still available.
pub(crate) const RESERVE: &str = "
UPDATE inventory_levels SET reserved = reserved + $4
WHERE tenant_id = $1 AND item_id = $2 AND location_id = $3 AND on_hand - reserved - safety >= $5";

/// The same where there was no level.
pub(crate) const RESERVE_ANEW: &str = "
INSERT INTO inventory_levels (tenant_id, item_id, location_id, on_hand, reserved, incoming, damaged, safety)
VALUES ($1, $2, $3, 0, $4, 0, 0, 0)
ON CONFLICT (tenant_id, item_id, location_id) DO UPDATE SET reserved = inventory_levels.reserved + excluded.reserved";

pub(crate) const UNRESERVE: &str = "
UPDATE inventory_levels SET reserved = reserved - $4
WHERE tenant_id = $1 AND item_id = $2 AND location_id = $3 AND reserved >= $4";

/// Reserved ones go out.
pub(crate) const SHIP: &str = "
UPDATE inventory_levels SET on_hand = on_hand - $4, reserved = reserved - $4
WHERE tenant_id = $1 AND item_id = $2 AND location_id = $3 AND on_hand >= $4 AND reserved >= $4";

pub(crate) const INSERT_RESERVATION: &str = "
INSERT INTO inventory_reservations (tenant_id, reference, state, expires_at, promised_at, lines, allocations, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)";

/// Several; 0 stands for no time. `$8`: now.
pub(crate) const INSERT_RESERVATION_SET: Sql = Sql::per_engine(
    INSERT_RESERVATION,
    "
INSERT INTO inventory_reservations (tenant_id, reference, state, expires_at, promised_at, lines, allocations, created_at, updated_at)
SELECT CAST($1 AS BIGINT), reference, state, NULLIF(expires_at, 0), NULLIF(promised_at, 0), lines, allocations, CAST($8 AS BIGINT), CAST($8 AS BIGINT)
FROM unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::text[], $7::text[])
  AS t(reference, state, expires_at, promised_at, lines, allocations)",
);

pub(crate) const RESERVATION: &str = "
SELECT reference, state, expires_at, promised_at, lines, allocations, created_at, updated_at
FROM inventory_reservations WHERE tenant_id = $1 AND reference = $2";

pub(crate) const RESERVATIONS_PAGE: &str = "
SELECT reference, state, expires_at, promised_at, lines, allocations, created_at, updated_at
FROM inventory_reservations WHERE tenant_id = $1 AND reference > $2 ORDER BY reference LIMIT $3";

/// Confirms what is held of these; says where each of them stands. `$3`: now.
pub(crate) const CONFIRM: Sql = Sql::per_engine(
    "
UPDATE inventory_reservations SET
  state = CASE WHEN state = 'held' THEN 'confirmed' ELSE state END,
  updated_at = CASE WHEN state = 'held' THEN CAST($3 AS BIGINT) ELSE updated_at END,
  expires_at = NULL
WHERE tenant_id = $1 AND reference IN (SELECT value FROM json_each($2)) RETURNING reference, state",
    "
UPDATE inventory_reservations SET
  state = CASE WHEN state = 'held' THEN 'confirmed' ELSE state END,
  updated_at = CASE WHEN state = 'held' THEN CAST($3 AS BIGINT) ELSE updated_at END,
  expires_at = NULL
WHERE tenant_id = $1 AND reference = ANY($2) RETURNING reference, state",
);

/// Lets go of what is open. `$3`: now.
pub(crate) const RELEASE: &str = "
UPDATE inventory_reservations SET state = 'released', expires_at = NULL, updated_at = $3
WHERE tenant_id = $1 AND reference = $2 AND state IN ('held', 'confirmed') RETURNING allocations";

/// `$2`: now, `$3`: how many.
pub(crate) const DUE: &str = "
SELECT reference, state, expires_at, promised_at, lines, allocations, created_at, updated_at
FROM inventory_reservations WHERE tenant_id = $1 AND expires_at <= $2 ORDER BY expires_at LIMIT $3";

pub(crate) const EXPIRE: &str = "
UPDATE inventory_reservations SET state = 'expired', expires_at = NULL, updated_at = $3
WHERE tenant_id = $1 AND reference = $2 AND state = 'held'";

/// What has gone out or come back. `$3` the state, `$4` the allocations, `$5` now. It is confirmed by that, if it was not.
pub(crate) const SAVE_RESERVATION: &str = "
UPDATE inventory_reservations SET state = $3, expires_at = NULL, allocations = $4, updated_at = $5 WHERE tenant_id = $1 AND reference = $2";

/// Up to `$3` tenants after `$2` with reservations whose time is over at `$1`; hops from tenant to tenant along the index.
pub(crate) const TENANTS_WITH_DUE: &str = "
WITH RECURSIVE tenants (tenant_id) AS (
  SELECT MIN(tenant_id) FROM inventory_reservations WHERE expires_at IS NOT NULL AND tenant_id > $2
  UNION ALL
  SELECT (SELECT MIN(r.tenant_id) FROM inventory_reservations r WHERE r.expires_at IS NOT NULL AND r.tenant_id > t.tenant_id)
  FROM tenants t WHERE t.tenant_id IS NOT NULL
)
SELECT tenant_id FROM tenants t WHERE tenant_id IS NOT NULL
  AND EXISTS (SELECT 1 FROM inventory_reservations d WHERE d.tenant_id = t.tenant_id AND d.expires_at <= $1)
ORDER BY tenant_id LIMIT $3";

/// Other lines. `$3` the state, `$4` when what is not there will be, `$5` the lines, `$6` the allocations, `$7` now.
pub(crate) const AMEND_RESERVATION: &str = "
UPDATE inventory_reservations SET state = $3, promised_at = $4, lines = $5, allocations = $6, updated_at = $7
WHERE tenant_id = $1 AND reference = $2";

// Levels and the ledger of stock.

/// Items with their levels, for a change of them.
pub(crate) const ITEM_LEVELS: Sql = Sql::per_engine(
    "
SELECT i.item_id, i.policy, i.low_stock_at, l.location_id, l.on_hand, l.reserved, l.incoming, l.damaged, l.safety, o.active,
  l.in_transit, l.recounted
FROM inventory_items i
LEFT JOIN inventory_levels l ON l.tenant_id = $1 AND l.item_id = i.item_id
LEFT JOIN inventory_locations o ON o.tenant_id = $1 AND o.location_id = l.location_id
WHERE i.tenant_id = $1 AND i.item_id IN (SELECT value FROM json_each($2))",
    "
SELECT i.item_id, i.policy, i.low_stock_at, l.location_id, l.on_hand, l.reserved, l.incoming, l.damaged, l.safety, o.active,
  l.in_transit, l.recounted
FROM inventory_items i
LEFT JOIN inventory_levels l ON l.tenant_id = $1 AND l.item_id = i.item_id
LEFT JOIN inventory_locations o ON o.tenant_id = $1 AND o.location_id = l.location_id
WHERE i.tenant_id = $1 AND i.item_id = ANY($2::bigint[])",
);

/// Adds to a level.
pub(crate) const CHANGE_LEVEL: &str = "
INSERT INTO inventory_levels (tenant_id, item_id, location_id, on_hand, reserved, incoming, damaged, safety, in_transit, recounted)
VALUES ($1, $2, $3, $4, 0, $5, $6, $7, $8, $9)
ON CONFLICT (tenant_id, item_id, location_id) DO UPDATE SET on_hand = inventory_levels.on_hand + excluded.on_hand,
  incoming = inventory_levels.incoming + excluded.incoming, damaged = inventory_levels.damaged + excluded.damaged,
  safety = inventory_levels.safety + excluded.safety, in_transit = inventory_levels.in_transit + excluded.in_transit,
  recounted = inventory_levels.recounted + excluded.recounted";

pub(crate) const INSERT_MOVEMENT: &str = "
INSERT INTO inventory_movements (tenant_id, movement_id, item_id, location_id, kind, on_hand, incoming, damaged, safety, reference, note, moved_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";

/// Several levels.
pub(crate) const CHANGE_LEVEL_SET: Sql = Sql::per_engine(
    CHANGE_LEVEL,
    "
INSERT INTO inventory_levels (tenant_id, item_id, location_id, on_hand, reserved, incoming, damaged, safety, in_transit, recounted)
SELECT CAST($1 AS BIGINT), item_id, location_id, on_hand, 0, incoming, damaged, safety, in_transit, recounted
FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[])
  AS t(item_id, location_id, on_hand, incoming, damaged, safety, in_transit, recounted)
ON CONFLICT (tenant_id, item_id, location_id) DO UPDATE SET on_hand = inventory_levels.on_hand + excluded.on_hand,
  incoming = inventory_levels.incoming + excluded.incoming, damaged = inventory_levels.damaged + excluded.damaged,
  safety = inventory_levels.safety + excluded.safety, in_transit = inventory_levels.in_transit + excluded.in_transit,
  recounted = inventory_levels.recounted + excluded.recounted",
);

/// Several movements.
pub(crate) const INSERT_MOVEMENT_SET: Sql = Sql::per_engine(
    INSERT_MOVEMENT,
    "
INSERT INTO inventory_movements (tenant_id, movement_id, item_id, location_id, kind, on_hand, incoming, damaged, safety, reference, note, moved_at)
SELECT CAST($1 AS BIGINT), movement_id, item_id, location_id, kind, on_hand, incoming, damaged, safety, reference, note, moved_at
FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::text[],
  $11::text[], $12::bigint[])
  AS t(movement_id, item_id, location_id, kind, on_hand, incoming, damaged, safety, reference, note, moved_at)",
);

pub(crate) const LEVELS: &str = "
SELECT item_id, location_id, on_hand, reserved, incoming, damaged, safety, in_transit
FROM inventory_levels WHERE tenant_id = $1 AND item_id = $2 ORDER BY location_id LIMIT 1000";

pub(crate) const LEVEL: &str = "
SELECT item_id, location_id, on_hand, reserved, incoming, damaged, safety, in_transit
FROM inventory_levels WHERE tenant_id = $1 AND item_id = $2 AND location_id = $3";

pub(crate) const MOVEMENTS_PAGE: &str = "
SELECT movement_id, item_id, location_id, kind, on_hand, incoming, damaged, safety, reference, note, moved_at
FROM inventory_movements WHERE tenant_id = $1 AND item_id = $2 AND movement_id < $3 ORDER BY movement_id DESC LIMIT $4";

// Items, locations, components, settings.

pub(crate) const INSERT_ITEM: &str = "
INSERT INTO inventory_items (tenant_id, item_id, sku, name, policy, oversell_limit, promised_at, low_stock_at, version, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING";

/// `$3`: the version that was read.
pub(crate) const UPDATE_ITEM: &str = "
UPDATE inventory_items SET sku = $4, name = $5, policy = $6, oversell_limit = $7, promised_at = $8, low_stock_at = $9, version = $10, updated_at = $11
WHERE tenant_id = $1 AND item_id = $2 AND version = $3";

pub(crate) const ITEM: &str = "
SELECT item_id, sku, name, policy, oversell_limit, promised_at, low_stock_at, version, created_at, updated_at
FROM inventory_items WHERE tenant_id = $1 AND item_id = $2";

pub(crate) const ITEM_BY_SKU: &str = "
SELECT item_id, sku, name, policy, oversell_limit, promised_at, low_stock_at, version, created_at, updated_at
FROM inventory_items WHERE tenant_id = $1 AND sku = $2";

pub(crate) const ITEMS_PAGE: &str = "
SELECT item_id, sku, name, policy, oversell_limit, promised_at, low_stock_at, version, created_at, updated_at
FROM inventory_items WHERE tenant_id = $1 AND item_id < $2 ORDER BY item_id DESC LIMIT $3";

/// The items of these SKUs.
pub(crate) const ITEMS_BY_SKUS: Sql = Sql::per_engine(
    "SELECT sku, item_id FROM inventory_items WHERE tenant_id = $1 AND sku IN (SELECT value FROM json_each($2))",
    "SELECT sku, item_id FROM inventory_items WHERE tenant_id = $1 AND sku = ANY($2::text[])",
);

/// Those of the variants that are made of something.
pub(crate) const TRACKED_VARIANTS: Sql = Sql::per_engine(
    "SELECT DISTINCT variant_id FROM inventory_components WHERE tenant_id = $1 AND variant_id IN (SELECT value FROM json_each($2))",
    "SELECT DISTINCT variant_id FROM inventory_components WHERE tenant_id = $1 AND variant_id = ANY($2::bigint[])",
);

/// What each kind of movement comes to at a location: how many movements, and what they did to what is on hand.
pub(crate) const MOVED_AT: &str = "
SELECT kind, COUNT(*), CAST(SUM(on_hand) AS BIGINT) FROM inventory_movements WHERE tenant_id = $1 AND location_id = $2 GROUP BY kind ORDER BY kind";

/// How many levels a location has, and what is on hand in all of them.
pub(crate) const ON_HAND_AT: &str = "
SELECT COUNT(*), CAST(COALESCE(SUM(on_hand), 0) AS BIGINT) FROM inventory_levels WHERE tenant_id = $1 AND location_id = $2";

/// Those of the items that are there.
pub(crate) const KNOWN_ITEMS: Sql = Sql::per_engine(
    "SELECT item_id FROM inventory_items WHERE tenant_id = $1 AND item_id IN (SELECT value FROM json_each($2))",
    "SELECT item_id FROM inventory_items WHERE tenant_id = $1 AND item_id = ANY($2::bigint[])",
);

pub(crate) const COUNT_LOCATIONS: &str = "SELECT COUNT(*) FROM inventory_locations WHERE tenant_id = $1";

pub(crate) const INSERT_LOCATION: &str = "
INSERT INTO inventory_locations (tenant_id, location_id, kind, name, line1, line2, city, region, postal_code, country, latitude, longitude,
  priority, active, version, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)";

/// `$3`: the version that was read.
pub(crate) const UPDATE_LOCATION: &str = "
UPDATE inventory_locations SET kind = $4, name = $5, line1 = $6, line2 = $7, city = $8, region = $9, postal_code = $10, country = $11,
  latitude = $12, longitude = $13, priority = $14, active = $15, version = $16, updated_at = $17
WHERE tenant_id = $1 AND location_id = $2 AND version = $3";

pub(crate) const LOCATION: &str = "
SELECT location_id, kind, name, line1, line2, city, region, postal_code, country, latitude, longitude, priority, active, version, created_at, updated_at
FROM inventory_locations WHERE tenant_id = $1 AND location_id = $2";

pub(crate) const LOCATIONS_PAGE: &str = "
SELECT location_id, kind, name, line1, line2, city, region, postal_code, country, latitude, longitude, priority, active, version, created_at, updated_at
FROM inventory_locations WHERE tenant_id = $1 AND location_id < $2 ORDER BY location_id DESC LIMIT $3";

pub(crate) const COMPONENTS: &str = "
SELECT item_id, quantity, version FROM inventory_components WHERE tenant_id = $1 AND variant_id = $2 ORDER BY item_id LIMIT 100";

pub(crate) const DELETE_COMPONENTS: &str = "DELETE FROM inventory_components WHERE tenant_id = $1 AND variant_id = $2";

pub(crate) const INSERT_COMPONENT: &str = "
INSERT INTO inventory_components (tenant_id, variant_id, item_id, quantity, version) VALUES ($1, $2, $3, $4, $5)";

/// Variants that an item is in, after `$3`.
pub(crate) const VARIANTS_OF_ITEM_PAGE: &str = "
SELECT variant_id, quantity FROM inventory_components WHERE tenant_id = $1 AND item_id = $2 AND variant_id > $3 ORDER BY variant_id LIMIT $4";

pub(crate) const SETTINGS: &str = "SELECT rules, version FROM inventory_settings WHERE tenant_id = $1";

pub(crate) const SAVE_SETTINGS: &str = "
INSERT INTO inventory_settings (tenant_id, rules, version, updated_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant_id) DO UPDATE SET rules = excluded.rules, version = excluded.version, updated_at = excluded.updated_at";

// Transfers and stock takes.

pub(crate) const INSERT_TRANSFER: &str = "
INSERT INTO inventory_transfers (tenant_id, transfer_id, from_location_id, to_location_id, state, note, lines, version, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8, $8)";

/// `$3`: the version that was read.
pub(crate) const UPDATE_TRANSFER: &str = "
UPDATE inventory_transfers SET version = $4, state = $5, lines = $6, updated_at = $7 WHERE tenant_id = $1 AND transfer_id = $2 AND version = $3";

pub(crate) const TRANSFER: &str = "
SELECT transfer_id, from_location_id, to_location_id, state, note, lines, version, created_at, updated_at
FROM inventory_transfers WHERE tenant_id = $1 AND transfer_id = $2";

pub(crate) const TRANSFERS_PAGE: &str = "
SELECT transfer_id, from_location_id, to_location_id, state, note, lines, version, created_at, updated_at
FROM inventory_transfers WHERE tenant_id = $1 AND transfer_id < $2 ORDER BY transfer_id DESC LIMIT $3";

pub(crate) const INSERT_COUNT: &str = "
INSERT INTO inventory_counts (tenant_id, count_id, location_id, state, note, lines, version, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, 1, $7, $7)";

/// `$3`: the version that was read.
pub(crate) const UPDATE_COUNT: &str = "
UPDATE inventory_counts SET version = $4, state = $5, lines = $6, updated_at = $7 WHERE tenant_id = $1 AND count_id = $2 AND version = $3";

pub(crate) const COUNT: &str = "
SELECT count_id, location_id, state, note, lines, version, created_at, updated_at FROM inventory_counts WHERE tenant_id = $1 AND count_id = $2";

pub(crate) const COUNTS_PAGE: &str = "
SELECT count_id, location_id, state, note, lines, version, created_at, updated_at
FROM inventory_counts WHERE tenant_id = $1 AND count_id < $2 ORDER BY count_id DESC LIMIT $3";

// Audits.

/// How many levels there are, and how many are not the sums of their movements. A movement without a level counts as one.
pub(crate) const AUDIT_LEVELS: &str = "
WITH sums AS (
  SELECT item_id, location_id, CAST(SUM(on_hand) AS BIGINT) AS on_hand, CAST(SUM(incoming) AS BIGINT) AS incoming,
    CAST(SUM(damaged) AS BIGINT) AS damaged, CAST(SUM(safety) AS BIGINT) AS safety
  FROM inventory_movements WHERE tenant_id = $1 GROUP BY item_id, location_id
), compared AS (
  SELECT CASE WHEN l.on_hand = COALESCE(s.on_hand, 0) AND l.incoming = COALESCE(s.incoming, 0) AND l.damaged = COALESCE(s.damaged, 0)
      AND l.safety = COALESCE(s.safety, 0) AND l.on_hand >= 0 AND l.incoming >= 0 AND l.damaged >= 0 AND l.safety >= 0 THEN 0 ELSE 1 END AS wrong
  FROM inventory_levels l LEFT JOIN sums s ON s.item_id = l.item_id AND s.location_id = l.location_id WHERE l.tenant_id = $1
), strays AS (
  SELECT COUNT(*) AS wrong FROM sums s WHERE NOT EXISTS (
    SELECT 1 FROM inventory_levels l WHERE l.tenant_id = $1 AND l.item_id = s.item_id AND l.location_id = s.location_id)
)
SELECT COUNT(*), CAST(COALESCE(SUM(wrong), 0) + (SELECT wrong FROM strays) AS BIGINT) FROM compared";

pub(crate) const AUDIT_RESERVED: &str = "SELECT item_id, location_id, reserved FROM inventory_levels WHERE tenant_id = $1";

pub(crate) const AUDIT_OPEN: &str = "
SELECT reference, state, allocations, expires_at FROM inventory_reservations WHERE tenant_id = $1 AND state IN ('held', 'confirmed')";

/// What is under way between locations.
pub(crate) const AUDIT_TRANSFERS: &str = "
SELECT transfer_id, state, lines, to_location_id FROM inventory_transfers WHERE tenant_id = $1";

pub(crate) const AUDIT_IN_TRANSIT: &str = "
SELECT item_id, location_id, in_transit FROM inventory_levels WHERE tenant_id = $1 AND in_transit <> 0";

/// Every statement, for tests that prepare each on both engines.
pub(crate) fn statements() -> Vec<Statement> {
    let tenant = |(name, sql): (&'static str, Sql)| Statement::new(name, sql, InScope::Tenant);
    let both = |(name, sql): (&'static str, &'static str)| Statement::new(name, sql, InScope::Tenant);
    let per_engine = [
        ("DEMAND", DEMAND),
        ("CONFIRM", CONFIRM),
        ("INSERT_RESERVATION_SET", INSERT_RESERVATION_SET),
        ("CHANGE_LEVEL_SET", CHANGE_LEVEL_SET),
        ("INSERT_MOVEMENT_SET", INSERT_MOVEMENT_SET),
        ("ITEMS_BY_SKUS", ITEMS_BY_SKUS),
        ("TRACKED_VARIANTS", TRACKED_VARIANTS),
        ("ITEM_LEVELS", ITEM_LEVELS),
        ("KNOWN_ITEMS", KNOWN_ITEMS),
    ];
    let plain = [
        ("SITES", SITES),
        ("RESERVE", RESERVE),
        ("RESERVE_ANEW", RESERVE_ANEW),
        ("UNRESERVE", UNRESERVE),
        ("SHIP", SHIP),
        ("INSERT_RESERVATION", INSERT_RESERVATION),
        ("RESERVATION", RESERVATION),
        ("RESERVATIONS_PAGE", RESERVATIONS_PAGE),
        ("RELEASE", RELEASE),
        ("DUE", DUE),
        ("EXPIRE", EXPIRE),
        ("SAVE_RESERVATION", SAVE_RESERVATION),
        ("AMEND_RESERVATION", AMEND_RESERVATION),
        ("CHANGE_LEVEL", CHANGE_LEVEL),
        ("INSERT_MOVEMENT", INSERT_MOVEMENT),
        ("MOVED_AT", MOVED_AT),
        ("ON_HAND_AT", ON_HAND_AT),
        ("LEVELS", LEVELS),
        ("LEVEL", LEVEL),
        ("MOVEMENTS_PAGE", MOVEMENTS_PAGE),
        ("INSERT_ITEM", INSERT_ITEM),
        ("UPDATE_ITEM", UPDATE_ITEM),
        ("ITEM", ITEM),
        ("ITEM_BY_SKU", ITEM_BY_SKU),
        ("ITEMS_PAGE", ITEMS_PAGE),
        ("COUNT_LOCATIONS", COUNT_LOCATIONS),
        ("INSERT_LOCATION", INSERT_LOCATION),
        ("UPDATE_LOCATION", UPDATE_LOCATION),
        ("LOCATION", LOCATION),
        ("LOCATIONS_PAGE", LOCATIONS_PAGE),
        ("COMPONENTS", COMPONENTS),
        ("DELETE_COMPONENTS", DELETE_COMPONENTS),
        ("INSERT_COMPONENT", INSERT_COMPONENT),
        ("VARIANTS_OF_ITEM_PAGE", VARIANTS_OF_ITEM_PAGE),
        ("SETTINGS", SETTINGS),
        ("SAVE_SETTINGS", SAVE_SETTINGS),
        ("INSERT_TRANSFER", INSERT_TRANSFER),
        ("UPDATE_TRANSFER", UPDATE_TRANSFER),
        ("TRANSFER", TRANSFER),
        ("TRANSFERS_PAGE", TRANSFERS_PAGE),
        ("INSERT_COUNT", INSERT_COUNT),
        ("UPDATE_COUNT", UPDATE_COUNT),
        ("COUNT", COUNT),
        ("COUNTS_PAGE", COUNTS_PAGE),
        ("AUDIT_LEVELS", AUDIT_LEVELS),
        ("AUDIT_RESERVED", AUDIT_RESERVED),
        ("AUDIT_OPEN", AUDIT_OPEN),
        ("AUDIT_TRANSFERS", AUDIT_TRANSFERS),
        ("AUDIT_IN_TRANSIT", AUDIT_IN_TRANSIT),
    ];
    let mut all: Vec<Statement> = per_engine.into_iter().map(tenant).chain(plain.into_iter().map(both)).collect();
    all.push(Statement::new("TENANTS_WITH_DUE", TENANTS_WITH_DUE, InScope::Platform));
    all
}
