//! Every statement of reconciliation. `$1` is the tenant.

use store::Sql;

/// Up to `$3` of a provider's operations that no file has had whole, of intents after `$2`; whole intents but for the last one.
pub(crate) const UNSETTLED: &str = "
SELECT o.intent_id, o.operation_id, o.kind, o.state, o.amount_minor, o.fee_minor, COALESCE(o.ended_at, o.begun_at), i.currency,
  COALESCE(i.provider_charge, '')
FROM payments_operations o JOIN payments_intents i ON i.tenant_id = $1 AND i.intent_id = o.intent_id
WHERE o.tenant_id = $1 AND o.provider_id = $4 AND o.intent_id > $2 AND o.settled_run IS NULL AND o.state <> 'failed' AND o.kind <> 'void'
ORDER BY o.intent_id, o.operation_id LIMIT $3";

/// The same, and those that run `$5` has marked already: what it stood before when it began.
pub(crate) const UNSETTLED_BEFORE: &str = "
SELECT o.intent_id, o.operation_id, o.kind, o.state, o.amount_minor, o.fee_minor, COALESCE(o.ended_at, o.begun_at), i.currency,
  COALESCE(i.provider_charge, '')
FROM payments_operations o JOIN payments_intents i ON i.tenant_id = $1 AND i.intent_id = o.intent_id
WHERE o.tenant_id = $1 AND o.provider_id = $4 AND o.intent_id > $2 AND COALESCE(o.settled_run, $5) = $5 AND o.state <> 'failed'
  AND o.kind <> 'void'
ORDER BY o.intent_id, o.operation_id LIMIT $3";

// By the index: SQLite would look through all of the tenant's operations.
pub(crate) const UNSETTLED_COUNT: Sql = Sql::per_engine(
    "
SELECT CAST(COUNT(*) AS BIGINT) FROM payments_operations INDEXED BY payments_operations_unsettled
WHERE tenant_id = $1 AND provider_id = $2 AND settled_run IS NULL AND state <> 'failed' AND kind <> 'void'",
    "
SELECT CAST(COUNT(*) AS BIGINT) FROM payments_operations
WHERE tenant_id = $1 AND provider_id = $2 AND settled_run IS NULL AND state <> 'failed' AND kind <> 'void'",
);

/// What other runs than `$4` have had of the operations of intents from `$2` to `$3`.
pub(crate) const PARTS: &str = "
SELECT intent_id, operation_id, gross_minor, fee_minor, movement FROM payments_settled_parts
WHERE tenant_id = $1 AND intent_id >= $2 AND intent_id <= $3 AND run_id <> $4";

pub(crate) const INSERT_PART: &str = "
INSERT INTO payments_settled_parts (tenant_id, intent_id, operation_id, run_id, line, gross_minor, fee_minor, movement)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING";

pub(crate) const OPERATIONS_OF_INTENT: &str = "
SELECT operation_id FROM payments_operations WHERE tenant_id = $1 AND intent_id = $2 ORDER BY operation_id LIMIT 1000";

/// Where an operation stands for a row that nothing unsettled explains: its state, amount, and the run that had it.
pub(crate) const STANDING: &str = "
SELECT state, amount_minor, settled_run FROM payments_operations WHERE tenant_id = $1 AND intent_id = $2 AND operation_id = $3";

/// One operation on SQLite, a set of them on PostgreSQL.
pub(crate) const MARK: Sql = Sql::per_engine(
    "UPDATE payments_operations SET settled_run = $2 WHERE tenant_id = $1 AND intent_id = $3 AND operation_id = $4",
    "UPDATE payments_operations o SET settled_run = $2 FROM unnest($3::bigint[], $4::bigint[]) AS t(intent_id, operation_id)
WHERE o.tenant_id = $1 AND o.intent_id = t.intent_id AND o.operation_id = t.operation_id",
);

pub(crate) const FORMAT: &str = "SELECT version, format FROM payments_formats WHERE tenant_id = $1 AND provider_id = $2";

pub(crate) const SET_FORMAT: &str = "
INSERT INTO payments_formats (tenant_id, provider_id, version, format) VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant_id, provider_id) DO UPDATE SET version = excluded.version, format = excluded.format";

pub(crate) const RUN: &str = "
SELECT run_id, provider_id, day, digest, state, attempt, summary, begun_at, ended_at, closed_at, note
FROM payments_runs WHERE tenant_id = $1 AND run_id = $2";

pub(crate) const RUNS_PAGE: &str = "
SELECT run_id, provider_id, day, digest, state, attempt, summary, begun_at, ended_at, closed_at, note
FROM payments_runs WHERE tenant_id = $1 AND run_id < $2 ORDER BY run_id DESC LIMIT $3";

pub(crate) const RUN_OF_FILE: &str = "
SELECT run_id FROM payments_files WHERE tenant_id = $1 AND provider_id = $2 AND digest = $3";

/// A run of the provider that is under way.
pub(crate) const RUN_UNDER_WAY: Sql = Sql::per_engine(
    "
SELECT run_id FROM payments_runs INDEXED BY payments_runs_under_way
WHERE tenant_id = $1 AND provider_id = $2 AND state IN ('matching', 'marking') LIMIT 1",
    "
SELECT run_id FROM payments_runs WHERE tenant_id = $1 AND provider_id = $2 AND state IN ('matching', 'marking') LIMIT 1",
);

pub(crate) const INSERT_RUN: &str = "
INSERT INTO payments_runs (tenant_id, run_id, provider_id, day, digest, state, attempt, summary, begun_at)
VALUES ($1, $2, $3, $4, $5, 'matching', 1, '{}', $6)";

pub(crate) const INSERT_FILE: &str = "INSERT INTO payments_files (tenant_id, provider_id, digest, run_id) VALUES ($1, $2, $3, $4)";

pub(crate) const DELETE_FILE: &str = "DELETE FROM payments_files WHERE tenant_id = $1 AND run_id = $2 AND provider_id = $3 AND digest = $4";

/// Takes a run over: whoever had it before can't write any more.
pub(crate) const TAKE_RUN: &str = "UPDATE payments_runs SET attempt = $3 WHERE tenant_id = $1 AND run_id = $2";

/// Changes nothing, and fails unless the run is still this attempt's and stands there.
pub(crate) const HOLD_RUN: &str = "
UPDATE payments_runs SET attempt = attempt WHERE tenant_id = $1 AND run_id = $2 AND attempt = $3 AND state = $4";

pub(crate) const MOVE_RUN: &str = "
UPDATE payments_runs SET state = $5, summary = $6, ended_at = $7 WHERE tenant_id = $1 AND run_id = $2 AND attempt = $3 AND state = $4";

pub(crate) const CLOSE_RUN: &str = "
UPDATE payments_runs SET state = 'closed', closed_at = $3, note = $4 WHERE tenant_id = $1 AND run_id = $2 AND state = 'done'";

pub(crate) const ABANDON_RUN: &str = "
UPDATE payments_runs SET state = 'abandoned', ended_at = $3, attempt = attempt + 1 WHERE tenant_id = $1 AND run_id = $2 AND state = 'matching'";

/// Forgets what an attempt that broke off had found.
pub(crate) const CLEAR_BREAKS: &str = "
DELETE FROM payments_breaks WHERE tenant_id = $1 AND provider_id = $3 AND run_id = $2 AND state = 'open'";

pub(crate) const INSERT_BREAK: &str = "
INSERT INTO payments_breaks (tenant_id, provider_id, subject, kind, break_id, run_id, last_run, state, intent_id, operation_id, line, currency,
  ours_minor, theirs_minor, difference_minor, day, detail, created_at, awaits)
VALUES ($1, $2, $3, $4, $5, $6, $6, 'open', $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
ON CONFLICT (tenant_id, provider_id, subject, kind) DO UPDATE SET last_run = excluded.last_run";

pub(crate) const BREAK: &str = "
SELECT break_id, run_id, last_run, provider_id, kind, state, intent_id, operation_id, line, currency, ours_minor, theirs_minor, difference_minor,
  day, detail, resolution, transaction_id, created_at, resolved_at, reversal_id
FROM payments_breaks WHERE tenant_id = $1 AND break_id = $2";

pub(crate) const BREAKS_PAGE: &str = "
SELECT break_id, run_id, last_run, provider_id, kind, state, intent_id, operation_id, line, currency, ours_minor, theirs_minor, difference_minor,
  day, detail, resolution, transaction_id, created_at, resolved_at, reversal_id
FROM payments_breaks WHERE tenant_id = $1 AND break_id < $2 ORDER BY break_id DESC LIMIT $3";

/// Of one run, after a break: what it found first, and what it found again, in the order in which they were written.
pub(crate) const BREAKS_OF_RUN: &str = "
SELECT break_id, run_id, last_run, provider_id, kind, state, intent_id, operation_id, line, currency, ours_minor, theirs_minor, difference_minor,
  day, detail, resolution, transaction_id, created_at, resolved_at, reversal_id
FROM payments_breaks WHERE tenant_id = $1 AND break_id > $2 AND (run_id = $4 OR last_run = $4) ORDER BY break_id LIMIT $3";

/// What was accepted awaits nothing more; what was posted is taken back if it comes after all.
pub(crate) const RESOLVE_BREAK: &str = "
UPDATE payments_breaks SET state = 'resolved', resolution = $3, transaction_id = $4, resolved_at = $5,
  awaits = CASE WHEN CAST($4 AS BIGINT) IS NULL THEN FALSE ELSE awaits END
WHERE tenant_id = $1 AND break_id = $2 AND state = 'open'";

/// What was missing, whole or in part, and has come since, or more of it: then another break tells of the rest.
pub(crate) const RESOLVE_ARRIVED: &str = "
UPDATE payments_breaks SET state = 'resolved', resolution = 'it came in a later file', resolved_at = $3, awaits = FALSE
WHERE tenant_id = $1 AND provider_id = $2 AND awaits = TRUE AND state = 'open' AND (EXISTS (
  SELECT 1 FROM payments_operations o WHERE o.tenant_id = $1 AND o.intent_id = payments_breaks.intent_id
    AND o.operation_id = payments_breaks.operation_id AND o.settled_run IS NOT NULL
) OR EXISTS (
  SELECT 1 FROM payments_settled_parts p WHERE p.tenant_id = $1 AND p.intent_id = payments_breaks.intent_id
    AND p.operation_id = payments_breaks.operation_id AND p.run_id > payments_breaks.last_run))";

/// The same of what was written off, after a break: its posting has to be taken back.
pub(crate) const WRITTEN_OFF_ARRIVED: &str = "
SELECT break_id, run_id, last_run, provider_id, kind, state, intent_id, operation_id, line, currency, ours_minor, theirs_minor, difference_minor,
  day, detail, resolution, transaction_id, created_at, resolved_at, reversal_id
FROM payments_breaks WHERE tenant_id = $1 AND provider_id = $2 AND awaits = TRUE AND break_id > $3 AND state = 'resolved' AND (EXISTS (
  SELECT 1 FROM payments_operations o WHERE o.tenant_id = $1 AND o.intent_id = payments_breaks.intent_id
    AND o.operation_id = payments_breaks.operation_id AND o.settled_run IS NOT NULL
) OR EXISTS (
  SELECT 1 FROM payments_settled_parts p WHERE p.tenant_id = $1 AND p.intent_id = payments_breaks.intent_id
    AND p.operation_id = payments_breaks.operation_id AND p.run_id > payments_breaks.last_run))
ORDER BY break_id LIMIT $4";

pub(crate) const REVERSE_BREAK: &str = "
UPDATE payments_breaks SET awaits = FALSE, reversal_id = $3 WHERE tenant_id = $1 AND break_id = $2 AND awaits = TRUE";

pub(crate) const RESOLVED_BY_RULE: &str = "
SELECT CAST(COUNT(*) AS BIGINT) FROM payments_breaks WHERE tenant_id = $1 AND provider_id = $2 AND last_run = $3 AND resolution = $4";

pub(crate) const OPEN_BREAKS: &str = "
SELECT kind, CAST(COUNT(*) AS BIGINT) FROM payments_breaks
WHERE tenant_id = $1 AND provider_id = $2 AND state = 'open' AND (run_id = $3 OR last_run = $3)
GROUP BY kind ORDER BY kind";

pub(crate) const ADJUST: &str = "
UPDATE payments_accounts SET receivable_adjusted = receivable_adjusted + $4, fees_adjusted = fees_adjusted + $5
WHERE tenant_id = $1 AND provider_id = $2 AND currency = $3";

/// Those that differ, by their names.
pub(crate) const BY_ENGINE: &[(&str, Sql)] = &[("MARK", MARK), ("UNSETTLED_COUNT", UNSETTLED_COUNT), ("RUN_UNDER_WAY", RUN_UNDER_WAY)];

/// All of the others, for tests that prepare each on both engines.
pub(crate) const STATEMENTS: &[(&str, &str)] = &[
    ("UNSETTLED", UNSETTLED),
    ("UNSETTLED_BEFORE", UNSETTLED_BEFORE),
    ("PARTS", PARTS),
    ("INSERT_PART", INSERT_PART),
    ("OPERATIONS_OF_INTENT", OPERATIONS_OF_INTENT),
    ("STANDING", STANDING),
    ("FORMAT", FORMAT),
    ("SET_FORMAT", SET_FORMAT),
    ("RUN", RUN),
    ("RUNS_PAGE", RUNS_PAGE),
    ("RUN_OF_FILE", RUN_OF_FILE),
    ("INSERT_RUN", INSERT_RUN),
    ("INSERT_FILE", INSERT_FILE),
    ("DELETE_FILE", DELETE_FILE),
    ("TAKE_RUN", TAKE_RUN),
    ("HOLD_RUN", HOLD_RUN),
    ("MOVE_RUN", MOVE_RUN),
    ("CLOSE_RUN", CLOSE_RUN),
    ("ABANDON_RUN", ABANDON_RUN),
    ("CLEAR_BREAKS", CLEAR_BREAKS),
    ("INSERT_BREAK", INSERT_BREAK),
    ("BREAK", BREAK),
    ("BREAKS_PAGE", BREAKS_PAGE),
    ("BREAKS_OF_RUN", BREAKS_OF_RUN),
    ("RESOLVE_BREAK", RESOLVE_BREAK),
    ("RESOLVE_ARRIVED", RESOLVE_ARRIVED),
    ("WRITTEN_OFF_ARRIVED", WRITTEN_OFF_ARRIVED),
    ("REVERSE_BREAK", REVERSE_BREAK),
    ("RESOLVED_BY_RULE", RESOLVED_BY_RULE),
    ("OPEN_BREAKS", OPEN_BREAKS),
    ("ADJUST", ADJUST),
];
