//! Every statement.

use store::Sql;

/// Bounded by consumers times lanes.
pub(crate) const POSITIONS: &str = "SELECT consumer, lane, sequence FROM log_positions ORDER BY consumer, lane";

/// `$1` the consumer, `$2` the lane. Takes the row on PostgreSQL, so that a replay from another lane waits or is waited for.
pub(crate) const TAKE_POSITION: Sql = Sql::per_engine(
    "SELECT p.sequence, EXISTS (SELECT 1 FROM log_failures) FROM log_positions p WHERE p.consumer = $1 AND p.lane = $2",
    "SELECT p.sequence, EXISTS (SELECT 1 FROM log_failures) FROM log_positions p WHERE p.consumer = $1 AND p.lane = $2 FOR UPDATE OF p",
);

/// `$1` the consumer, `$2` the lane, `$3` the sequence.
pub(crate) const CREATE_POSITION: &str = "INSERT INTO log_positions (consumer, lane, sequence, owner, owned_until)
    VALUES ($1, $2, $3, 0, 0) ON CONFLICT (consumer, lane) DO NOTHING";

/// `$1` the consumer, `$2` the lane, `$3` the sequence that is expected, `$4` the one that follows.
pub(crate) const ADVANCE: &str = "UPDATE log_positions SET sequence = $4 WHERE consumer = $1 AND lane = $2 AND sequence = $3";

/// `$1` the consumer. Its lanes wait for its history.
pub(crate) const HOLD_LANES: &str = "UPDATE log_positions SET sequence = -1 WHERE consumer = $1 AND lane >= 0";

/// `$1` the consumer, `$2` the lane, `$3` the sequence.
pub(crate) const SET_BACK_LANE: &str = "UPDATE log_positions SET sequence = $3 WHERE consumer = $1 AND lane = $2";

/// `$1` the consumer.
pub(crate) const END_HISTORY: &str = "DELETE FROM log_positions WHERE consumer = $1 AND lane = -1";

/// `$1` the consumer. Its lanes no longer wait for the history.
pub(crate) const RELEASE_LANES: &str = "UPDATE log_positions SET sequence = 0 WHERE consumer = $1 AND lane >= 0 AND sequence = -1";

/// `$1` the consumer, `$2` the lane, `$3` this process, `$4` now, `$5` until when. Answers when nobody else delivers.
pub(crate) const CLAIM: &str = "UPDATE log_positions SET owner = $3, owned_until = $5
    WHERE consumer = $1 AND lane = $2 AND (owner = $3 OR owned_until <= $4) RETURNING sequence";

/// `$1` the consumer, `$2` the lane, `$3` this process.
pub(crate) const RELEASE: &str = "UPDATE log_positions SET owned_until = 0 WHERE consumer = $1 AND lane = $2 AND owner = $3";

/// `$1` the consumer, `$2` keys as `tenant:subject`. Those that have failures, with the last place of each. On the platform's scope.
pub(crate) const OUTSTANDING: Sql = Sql::per_engine(
    "SELECT f.tenant_id, f.subject, MAX(f.place) FROM json_each($2) k CROSS JOIN log_failures f
     WHERE f.consumer = $1 AND f.tenant_id = CAST(substr(k.value, 1, instr(k.value, ':') - 1) AS INTEGER)
       AND f.subject = substr(k.value, instr(k.value, ':') + 1)
     GROUP BY f.tenant_id, f.subject",
    "SELECT f.tenant_id, f.subject, MAX(f.place) FROM unnest($2::text[]) AS k(value) JOIN log_failures f
       ON f.consumer = $1 AND f.tenant_id = CAST(split_part(k.value, ':', 1) AS BIGINT)
       AND f.subject = substr(k.value, strpos(k.value, ':') + 1)
     GROUP BY f.tenant_id, f.subject",
);

/// `$1` the tenant, `$2` the consumer, then the event, the place and the state. A failure that is there already stays as it is.
pub(crate) const RECORD: &str = "INSERT INTO log_failures (tenant_id, consumer, event_id, subject, place, lane, sequence, kind, version,
      occurred_at, correlation_id, state, attempts, next_attempt_at, failed_at, error_code, error_detail, payload)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
    ON CONFLICT (tenant_id, consumer, event_id) DO NOTHING";

/// The columns of a failure in the order in which [`crate::failures::FailureRow`] reads them; `$1` the tenant, `$2` the consumer,
/// `$3` the subject, `$4` how many. The queue of a key.
pub(crate) const KEY_QUEUE: &str =
    "SELECT tenant_id, consumer, event_id, subject, lane, sequence, kind, version, occurred_at, correlation_id,
      state, attempts, next_attempt_at, failed_at, error_code, error_detail, payload
    FROM log_failures WHERE tenant_id = $1 AND consumer = $2 AND subject = $3 ORDER BY place LIMIT $4";

/// `$1` the tenant, `$2` the consumer, `$3` the event.
pub(crate) const FAILURE: &str =
    "SELECT tenant_id, consumer, event_id, subject, lane, sequence, kind, version, occurred_at, correlation_id,
      state, attempts, next_attempt_at, failed_at, error_code, error_detail, payload
    FROM log_failures WHERE tenant_id = $1 AND consumer = $2 AND event_id = $3";

/// `$1` the tenant, `$2` and `$3` the consumer and event after which the page begins, `$4` the state or NULL, `$5` how many.
pub(crate) const FAILURES_OF_TENANT: &str = "SELECT tenant_id, consumer, event_id, subject, lane, sequence, kind, version, occurred_at,
      correlation_id, state, attempts, next_attempt_at, failed_at, error_code, error_detail, ''
    FROM log_failures WHERE tenant_id = $1 AND (consumer, event_id) > ($2, $3) AND state = COALESCE(CAST($4 AS TEXT), state)
    ORDER BY consumer, event_id LIMIT $5";

/// `$1`, `$2` and `$3` the tenant, consumer and event after which the page begins, `$4` the state or NULL, `$5` how many.
/// On the platform's scope.
pub(crate) const FAILURES_OF_SHARD: &str = "SELECT tenant_id, consumer, event_id, subject, lane, sequence, kind, version, occurred_at,
      correlation_id, state, attempts, next_attempt_at, failed_at, error_code, error_detail, ''
    FROM log_failures WHERE (tenant_id, consumer, event_id) > ($1, $2, $3) AND state = COALESCE(CAST($4 AS TEXT), state)
    ORDER BY tenant_id, consumer, event_id LIMIT $5";

/// `$1` the tenant, `$2` the consumer, `$3` the event.
pub(crate) const FORGET: &str = "DELETE FROM log_failures WHERE tenant_id = $1 AND consumer = $2 AND event_id = $3";

/// `$1` the tenant, `$2` the consumer, `$3` the subject, `$4` when. The first of a key's queue is due, if it was blocked.
pub(crate) const PROMOTE: &str = "UPDATE log_failures SET state = 'retrying', next_attempt_at = $4
    WHERE tenant_id = $1 AND consumer = $2 AND subject = $3 AND state = 'blocked'
      AND place = (SELECT MIN(b.place) FROM log_failures b WHERE b.tenant_id = $1 AND b.consumer = $2 AND b.subject = $3)";

/// `$1` the tenant, `$2` the consumer, `$3` the event, `$4` the state, `$5` the attempts, `$6` when next, `$7` and `$8` the error.
pub(crate) const FAILED_AGAIN: &str =
    "UPDATE log_failures SET state = $4, attempts = $5, next_attempt_at = $6, error_code = $7, error_detail = $8
    WHERE tenant_id = $1 AND consumer = $2 AND event_id = $3";

/// `$1` the tenant, `$2` the consumer, `$3` the event, `$4` the attempts, this one included, `$5` when somebody else may try.
pub(crate) const CLAIM_RETRY: &str =
    "UPDATE log_failures SET attempts = $4, next_attempt_at = $5 WHERE tenant_id = $1 AND consumer = $2 AND event_id = $3";

/// `$1` the tenant, `$2` the consumer, `$3` the event, `$4` now.
pub(crate) const RETRY_NOW: &str = "UPDATE log_failures SET state = 'retrying', attempts = 0, next_attempt_at = $4
    WHERE tenant_id = $1 AND consumer = $2 AND event_id = $3";

/// `$1` now, `$2` the consumers, `$3` how many of one tenant, `$4` how many. Tenants in turn. A consumer that is going through its
/// history is left out. On the platform's scope.
pub(crate) const DUE: Sql = Sql::per_engine(
    "SELECT tenant_id, consumer, event_id, subject, lane, attempts FROM (
       SELECT f.tenant_id, f.consumer, f.event_id, f.subject, f.lane, f.attempts, f.next_attempt_at,
         ROW_NUMBER() OVER (PARTITION BY f.tenant_id ORDER BY f.next_attempt_at, f.event_id) AS turn
       FROM log_failures f WHERE f.state = 'retrying' AND f.next_attempt_at <= $1 AND f.consumer IN (SELECT value FROM json_each($2))
         AND NOT EXISTS (SELECT 1 FROM log_positions h WHERE h.consumer = f.consumer AND h.lane = -1)) due
     WHERE turn <= $3 ORDER BY turn, next_attempt_at LIMIT $4",
    "SELECT tenant_id, consumer, event_id, subject, lane, attempts FROM (
       SELECT f.tenant_id, f.consumer, f.event_id, f.subject, f.lane, f.attempts, f.next_attempt_at,
         ROW_NUMBER() OVER (PARTITION BY f.tenant_id ORDER BY f.next_attempt_at, f.event_id) AS turn
       FROM log_failures f WHERE f.state = 'retrying' AND f.next_attempt_at <= $1 AND f.consumer = ANY($2)
         AND NOT EXISTS (SELECT 1 FROM log_positions h WHERE h.consumer = f.consumer AND h.lane = -1)) due
     WHERE turn <= $3 ORDER BY turn, next_attempt_at LIMIT $4",
);

/// On the platform's scope.
pub(crate) const COUNT_FAILURES: &str = "SELECT consumer, state, COUNT(*) FROM log_failures GROUP BY consumer, state";

/// `$1` the consumer. On the platform's scope: a replay from zero begins without failures.
pub(crate) const FORGET_ALL: &str = "DELETE FROM log_failures WHERE consumer = $1";

/// `$1` the consumer, `$2` the lane, `$3` the sequence after which it is replayed. On the platform's scope.
pub(crate) const FORGET_AFTER: &str = "DELETE FROM log_failures WHERE consumer = $1 AND lane = $2 AND sequence > $3";
