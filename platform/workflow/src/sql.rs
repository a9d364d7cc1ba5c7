//! Every statement. Those without another remark run in the scope of a saga's owner: `$1` is the tenant, 0 for the platform.

use store::Sql;

/// `$2` the id, `$3` the kind, `$4` the business key, `$5` the version, `$6` the status, `$7` when it is due, `$8` now, `$9` the state.
pub(crate) const START: &str =
    "INSERT INTO workflow_sagas (tenant_id, saga_id, kind, business_key, version, status, next_at, created_at, updated_at, state)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9) ON CONFLICT (tenant_id, kind, business_key) DO NOTHING";

/// One whose first call is prepared: `$2` the id, `$3` the kind, `$4` the business key, `$5` the version, `$6` the status, `$7` the phase,
/// `$8` the step, `$9` its visit, `$10` when it is due, `$11` who has it, `$12` and `$13` since and until when its call's outcome is awaited,
/// `$14` the stable key, `$15` now, `$16` the state, `$17` what is asked.
pub(crate) const START_CALLING: &str =
    "INSERT INTO workflow_sagas (tenant_id, saga_id, kind, business_key, version, status, phase, step, visit, next_at, owner, since,
      deadline_at, call_key, created_at, updated_at, state, body)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $15, $16, $17) ON CONFLICT DO NOTHING";

/// `$2` the id. The columns in the order in which [`crate::Saga`] reads them.
pub(crate) const LOAD: &str =
    "SELECT saga_id, kind, business_key, version, status, phase, undoing, cancel, step, visit, next_at, owner, token,
      attempts, since, deadline_at, call_key, awaits, reason, failure, created_at, updated_at, ended_at, state, body, answer, trail
    FROM workflow_sagas WHERE tenant_id = $1 AND saga_id = $2";

/// `$2` the kind, `$3` the business key.
pub(crate) const FIND: &str =
    "SELECT saga_id, kind, business_key, version, status, phase, undoing, cancel, step, visit, next_at, owner, token,
      attempts, since, deadline_at, call_key, awaits, reason, failure, created_at, updated_at, ended_at, state, body, answer, trail
    FROM workflow_sagas WHERE tenant_id = $1 AND kind = $2 AND business_key = $3";

/// `$2` the id, `$3` the token under which it was leased, `$4` the next token, then the columns.
pub(crate) const SAVE: &str =
    "UPDATE workflow_sagas SET token = $4, status = $5, phase = $6, undoing = $7, step = $8, visit = $9, next_at = $10,
      owner = $11, attempts = $12, since = $13, deadline_at = $14, call_key = $15, awaits = $16, reason = $17, failure = $18,
      updated_at = $19, ended_at = $20, state = $21, body = $22, answer = $23, trail = $24
    WHERE tenant_id = $1 AND saga_id = $2 AND token = $3";

/// `$2` the id, `$3` the token, `$4` this process, `$5` until when.
pub(crate) const RENEW: &str = "UPDATE workflow_sagas SET next_at = $5 WHERE tenant_id = $1 AND saga_id = $2 AND token = $3 AND owner = $4";

/// `$1` now, `$2` when a lease that is taken now would be over: all that are held are over now. On the platform's scope.
pub(crate) const END_LEASES: &str = "UPDATE workflow_sagas SET next_at = $1 WHERE next_at > $1 AND next_at <= $2 AND owner <> 0";

/// `$2` the id, `$3` the token.
pub(crate) const DELETE: &str = "DELETE FROM workflow_sagas WHERE tenant_id = $1 AND saga_id = $2 AND token = $3";

/// `$2` the id.
pub(crate) const DELETE_SIGNALS: &str = "DELETE FROM workflow_signals WHERE tenant_id = $1 AND saga_id = $2";

/// `$2` the kind, `$3` the business key, `$4` the name of a signal: what has to be known to tell a saga something.
pub(crate) const ADDRESSEE: &str = "SELECT s.saga_id, s.status, s.phase, s.undoing, s.owner, s.token, s.call_key, s.awaits,
      (SELECT COUNT(*) FROM workflow_signals g WHERE g.tenant_id = $1 AND g.saga_id = s.saga_id),
      (SELECT COUNT(*) FROM workflow_signals h WHERE h.tenant_id = $1 AND h.saga_id = s.saga_id AND h.name = $4)
    FROM workflow_sagas s WHERE s.tenant_id = $1 AND s.kind = $2 AND s.business_key = $3";

/// `$2` the saga, `$3` the name, `$4` now, `$5` what comes with it.
pub(crate) const KEEP_SIGNAL: &str = "INSERT INTO workflow_signals (tenant_id, saga_id, name, arrived_at, heard, payload)
    VALUES ($1, $2, $3, $4, FALSE, $5) ON CONFLICT (tenant_id, saga_id, name) DO NOTHING";

/// `$2` the id, `$3` now, `$4` the status. It is looked at at once, unless a node has it and will see by itself.
pub(crate) const WAKE: &str = "UPDATE workflow_sagas SET next_at = $3, status = $4 WHERE tenant_id = $1 AND saga_id = $2 AND owner = 0";

/// `$2` the id, `$3` the names: the first of them that has come and was not heard.
pub(crate) const NEXT_SIGNAL: Sql = Sql::per_engine(
    "SELECT name, payload FROM workflow_signals WHERE tenant_id = $1 AND saga_id = $2 AND heard = FALSE
       AND name IN (SELECT value FROM json_each($3)) ORDER BY arrived_at, name LIMIT 1",
    "SELECT name, payload FROM workflow_signals WHERE tenant_id = $1 AND saga_id = $2 AND heard = FALSE
       AND name = ANY($3) ORDER BY arrived_at, name LIMIT 1",
);

/// `$2` the id, `$3` the name.
pub(crate) const HEARD: &str = "UPDATE workflow_signals SET heard = TRUE WHERE tenant_id = $1 AND saga_id = $2 AND name = $3";

/// `$2` the id, `$3` the status, `$4` when it is looked at.
pub(crate) const CANCEL: &str = "UPDATE workflow_sagas SET cancel = TRUE, status = $3, next_at = $4 WHERE tenant_id = $1 AND saga_id = $2";

/// `$2` the id, `$3` the status, `$4` now, `$5` the deadline, `$6` the phase, `$7` the answer, `$8` the visit.
pub(crate) const RESUME: &str =
    "UPDATE workflow_sagas SET status = $3, next_at = $4, since = $4, deadline_at = $5, attempts = 0, phase = $6, answer = $7, visit = $8
    WHERE tenant_id = $1 AND saga_id = $2 AND owner = 0";

/// `$1` before when: what nobody has looked at since. On the platform's scope, for the audit.
pub(crate) const OVERDUE: &str = "SELECT tenant_id, saga_id, kind, version, owner, next_at FROM workflow_sagas
    WHERE next_at <= $1 AND ended_at IS NULL ORDER BY next_at LIMIT 10";

/// `$1` now, `$2` the known kinds as `name/version`, `$3` how many. Those that are due, the earliest first. On the platform's scope.
pub(crate) const DUE: Sql = Sql::per_engine(
    "SELECT tenant_id, saga_id, kind, token, ended_at FROM workflow_sagas
     WHERE next_at <= $1 AND (ended_at IS NOT NULL OR kind || '/' || CAST(version AS TEXT) IN (SELECT value FROM json_each($2)))
     ORDER BY next_at LIMIT $3",
    "SELECT tenant_id, saga_id, kind, token, ended_at FROM workflow_sagas
     WHERE next_at <= $1 AND (ended_at IS NOT NULL OR kind || '/' || CAST(version AS TEXT) = ANY($2))
     ORDER BY next_at LIMIT $3",
);

/// `$1` now, `$2` the known kinds, `$3` the tenant after which it begins, `$4` how many tenants, `$5` how many of each. For when more is
/// due than fits: hops from tenant to tenant along the index, so that a tenant with very many does not hide the others. On the
/// platform's scope.
pub(crate) const DUE_IN_TURN: Sql = Sql::per_engine(
    "WITH RECURSIVE turn (tenant, n) AS (
       SELECT (SELECT MIN(a.tenant_id) FROM workflow_sagas a WHERE a.ended_at IS NULL AND a.tenant_id > $3), 1
       UNION ALL
       SELECT (SELECT MIN(b.tenant_id) FROM workflow_sagas b WHERE b.ended_at IS NULL AND b.tenant_id > turn.tenant), turn.n + 1
       FROM turn WHERE turn.tenant IS NOT NULL AND turn.n < $4)
     SELECT turn.tenant, d.saga_id, d.kind, d.token, d.ended_at FROM turn LEFT JOIN workflow_sagas d
       ON d.tenant_id = turn.tenant AND d.saga_id IN (
         SELECT c.saga_id FROM workflow_sagas c WHERE c.tenant_id = turn.tenant AND c.ended_at IS NULL AND c.next_at <= $1
           AND c.kind || '/' || CAST(c.version AS TEXT) IN (SELECT value FROM json_each($2)) ORDER BY c.next_at LIMIT $5)
     WHERE turn.tenant IS NOT NULL ORDER BY turn.n",
    "WITH RECURSIVE turn (tenant, n) AS (
       SELECT (SELECT MIN(a.tenant_id) FROM workflow_sagas a WHERE a.ended_at IS NULL AND a.tenant_id > $3), CAST(1 AS BIGINT)
       UNION ALL
       SELECT (SELECT MIN(b.tenant_id) FROM workflow_sagas b WHERE b.ended_at IS NULL AND b.tenant_id > turn.tenant), turn.n + 1
       FROM turn WHERE turn.tenant IS NOT NULL AND turn.n < $4)
     SELECT turn.tenant, d.saga_id, d.kind, d.token, d.ended_at FROM turn LEFT JOIN LATERAL (
         SELECT c.saga_id, c.kind, c.token, c.ended_at FROM workflow_sagas c WHERE c.tenant_id = turn.tenant AND c.ended_at IS NULL
           AND c.next_at <= $1 AND c.kind || '/' || CAST(c.version AS TEXT) = ANY($2) ORDER BY c.next_at LIMIT $5) d ON TRUE
     WHERE turn.tenant IS NOT NULL ORDER BY turn.n",
);

/// `$1` now. Since when the first one is due that has not ended. On the platform's scope.
pub(crate) const FIRST_DUE: &str = "SELECT next_at FROM workflow_sagas WHERE next_at <= $1 AND ended_at IS NULL ORDER BY next_at LIMIT 1";

/// When the next one of a shard is due; parked and ended ones are not asked about. Passes by those that have ended, however many: for
/// tests' clocks. On the platform's scope.
pub(crate) const NEXT_DUE: &str =
    "SELECT next_at FROM workflow_sagas WHERE next_at IS NOT NULL AND ended_at IS NULL ORDER BY next_at LIMIT 1";

/// `$1` how many rows are looked at. On the platform's scope.
pub(crate) const COUNTS: &str = "SELECT status, COUNT(*), CAST(MIN(saga_id) AS BIGINT) FROM (
      SELECT status, saga_id FROM workflow_sagas WHERE ended_at IS NULL LIMIT $1) o GROUP BY status";

/// The columns of [`LOAD`] without the large ones; `$2` the id below which the page begins, `$3` how many. The newest first.
pub(crate) const LIST: &str =
    "SELECT saga_id, kind, business_key, version, status, phase, undoing, cancel, step, visit, next_at, owner, token,
      attempts, since, deadline_at, call_key, awaits, reason, failure, created_at, updated_at, ended_at, '', '', '', ''
    FROM workflow_sagas WHERE tenant_id = $1 AND saga_id < $2 ORDER BY saga_id DESC LIMIT $3";

/// The same of parked ones.
pub(crate) const LIST_PARKED: &str =
    "SELECT saga_id, kind, business_key, version, status, phase, undoing, cancel, step, visit, next_at, owner, token,
      attempts, since, deadline_at, call_key, awaits, reason, failure, created_at, updated_at, ended_at, '', '', '', ''
    FROM workflow_sagas WHERE tenant_id = $1 AND ended_at IS NULL AND next_at IS NULL AND status = 'parked' AND saga_id < $2
    ORDER BY saga_id DESC LIMIT $3";

/// `$1` the tenant, `$2` the saga after which the page begins, `$3` how many: parked ones of a shard. On the platform's scope.
pub(crate) const PARKED_OF_SHARD: &str = "SELECT tenant_id, saga_id FROM workflow_sagas
    WHERE next_at IS NULL AND (tenant_id, saga_id) > ($1, $2) ORDER BY tenant_id, saga_id LIMIT $3";
