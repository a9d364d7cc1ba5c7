//! Every statement of this module. `$1` is the tenant.
//!
//! Reads of many rows by key take the keys as one argument. Writes of many rows come in pairs: one row (`X`), run in a tight loop on
//! SQLite, and a set (`X_SET`), one statement on PostgreSQL. A `_SET` holds the one-row text for SQLite only so that both of its texts
//! are valid; see `write.rs`.

use store::Sql;

// What a batch loads.

/// A look-up each on PostgreSQL: a plan that was made while the table was small would read all of it later (`OFFSET 0` keeps it so).
pub(crate) const KEYS: Sql = Sql::per_engine(
    "SELECT key_high, key_low, print_high, print_low, transaction_id, recorded_at FROM ledger_keys
WHERE tenant_id = $1 AND key_high IN (SELECT value FROM json_each($2))",
    "SELECT k.key_high, k.key_low, k.print_high, k.print_low, k.transaction_id, k.recorded_at
FROM unnest($2::bigint[]) AS asked(key_high) CROSS JOIN LATERAL (
  SELECT key_high, key_low, print_high, print_low, transaction_id, recorded_at FROM ledger_keys
  WHERE tenant_id = $1 AND key_high = asked.key_high OFFSET 0) AS k",
);

pub(crate) const REFS: Sql = Sql::per_engine(
    "SELECT external_ref, transaction_id FROM ledger_refs WHERE tenant_id = $1 AND external_ref IN (SELECT value FROM json_each($2))",
    "SELECT r.external_ref, r.transaction_id FROM unnest($2::text[]) AS asked(external_ref) CROSS JOIN LATERAL (
  SELECT external_ref, transaction_id FROM ledger_refs WHERE tenant_id = $1 AND external_ref = asked.external_ref OFFSET 0) AS r",
);

pub(crate) const HOLDS: Sql = Sql::per_engine(
    "SELECT hold_id, debit_account, credit_account, amount_minor, captured_minor, remaining_minor, status, expires_at FROM ledger_holds
WHERE tenant_id = $1 AND hold_id IN (SELECT value FROM json_each($2))",
    "SELECT hold_id, debit_account, credit_account, amount_minor, captured_minor, remaining_minor, status, expires_at FROM ledger_holds
WHERE tenant_id = $1 AND hold_id = ANY($2)",
);

/// Holds that are open although their time is over, the oldest first.
pub(crate) const DUE_HOLDS: &str = "
SELECT hold_id, debit_account, credit_account, amount_minor, captured_minor, remaining_minor, status, expires_at FROM ledger_holds
WHERE tenant_id = $1 AND status = 'open' AND expires_at <= $2 ORDER BY expires_at LIMIT $3";

pub(crate) const ORIGINALS: Sql = Sql::per_engine(
    "SELECT t.transaction_id, t.kind, t.debit_account, t.credit_account, t.amount_minor, COALESCE(r.reversed_minor, 0)
FROM ledger_transactions t LEFT JOIN ledger_reversed r ON r.tenant_id = $1 AND r.transaction_id = t.transaction_id
WHERE t.tenant_id = $1 AND t.transaction_id IN (SELECT value FROM json_each($2))",
    "SELECT t.transaction_id, t.kind, t.debit_account, t.credit_account, t.amount_minor, COALESCE(r.reversed_minor, 0)
FROM ledger_transactions t LEFT JOIN ledger_reversed r ON r.tenant_id = $1 AND r.transaction_id = t.transaction_id
WHERE t.tenant_id = $1 AND t.transaction_id = ANY($2)",
);

pub(crate) const POSTINGS: Sql = Sql::per_engine(
    "SELECT transaction_id, account_id, signed_minor FROM ledger_postings
WHERE tenant_id = $1 AND transaction_id IN (SELECT value FROM json_each($2)) ORDER BY transaction_id, posting",
    "SELECT transaction_id, account_id, signed_minor FROM ledger_postings
WHERE tenant_id = $1 AND transaction_id = ANY($2) ORDER BY transaction_id, posting",
);

pub(crate) const ACCOUNT_STATES: Sql = Sql::per_engine(
    "SELECT b.account_id, a.type, a.currency, a.status, a.may_go_negative, a.negative_limit_minor, a.limited,
  b.debits_posted, b.credits_posted, b.debits_pending, b.credits_pending, b.entries, b.last_transaction, b.last_recorded, b.next_expiry,
  (SELECT first_transaction FROM ledger_tail WHERE tenant_id = $1), a.managed
FROM ledger_balances b JOIN ledger_accounts a ON a.tenant_id = $1 AND a.account_id = b.account_id
WHERE b.tenant_id = $1 AND b.account_id IN (SELECT value FROM json_each($2))",
    "SELECT b.account_id, a.type, a.currency, a.status, a.may_go_negative, a.negative_limit_minor, a.limited,
  b.debits_posted, b.credits_posted, b.debits_pending, b.credits_pending, b.entries, b.last_transaction, b.last_recorded, b.next_expiry,
  (SELECT first_transaction FROM ledger_tail WHERE tenant_id = $1), a.managed
FROM ledger_balances b JOIN ledger_accounts a ON a.tenant_id = $1 AND a.account_id = b.account_id
WHERE b.tenant_id = $1 AND b.account_id = ANY($2)",
);

// Transactions that are in no balance yet: see books.rs.

pub(crate) const TAIL_BEGINS: &str = "SELECT first_transaction FROM ledger_tail WHERE tenant_id = $1";
pub(crate) const BEGIN_TAIL: &str = "INSERT INTO ledger_tail (tenant_id, first_transaction) VALUES ($1, $2)";
pub(crate) const END_TAIL: &str = "DELETE FROM ledger_tail WHERE tenant_id = $1";

/// What the transactions from `$2` on have changed: of each account the sums, the number of entries, the last one and its time.
pub(crate) const TAIL: &str = "
WITH legs (account_id, transaction_id, recorded_at, debits, credits) AS (
  SELECT debit_account, transaction_id, recorded_at, amount_minor, 0 FROM ledger_transactions
  WHERE tenant_id = $1 AND transaction_id >= $2 AND debit_account > 0
  UNION ALL
  SELECT credit_account, transaction_id, recorded_at, 0, amount_minor FROM ledger_transactions
  WHERE tenant_id = $1 AND transaction_id >= $2 AND credit_account > 0
  UNION ALL
  SELECT p.account_id, p.transaction_id, t.recorded_at, CASE WHEN p.signed_minor > 0 THEN p.signed_minor ELSE 0 END,
    CASE WHEN p.signed_minor < 0 THEN -p.signed_minor ELSE 0 END
  FROM ledger_postings p JOIN ledger_transactions t ON t.tenant_id = $1 AND t.transaction_id = p.transaction_id
  WHERE p.tenant_id = $1 AND p.transaction_id >= $2
)
SELECT account_id, CAST(SUM(debits) AS BIGINT), CAST(SUM(credits) AS BIGINT), COUNT(*), MAX(transaction_id), MAX(recorded_at)
FROM legs GROUP BY account_id ORDER BY account_id";

/// The same of account `$3` alone; nothing when it is in none of them.
pub(crate) const TAIL_OF: &str = "
WITH legs (transaction_id, recorded_at, debits, credits) AS (
  SELECT transaction_id, recorded_at, CASE WHEN debit_account = $3 THEN amount_minor ELSE 0 END,
    CASE WHEN credit_account = $3 THEN amount_minor ELSE 0 END
  FROM ledger_transactions WHERE tenant_id = $1 AND transaction_id >= $2 AND $3 IN (debit_account, credit_account)
  UNION ALL
  SELECT p.transaction_id, t.recorded_at, CASE WHEN p.signed_minor > 0 THEN p.signed_minor ELSE 0 END,
    CASE WHEN p.signed_minor < 0 THEN -p.signed_minor ELSE 0 END
  FROM ledger_postings p JOIN ledger_transactions t ON t.tenant_id = $1 AND t.transaction_id = p.transaction_id
  WHERE p.tenant_id = $1 AND p.transaction_id >= $2 AND p.account_id = $3
)
SELECT CAST(SUM(debits) AS BIGINT), CAST(SUM(credits) AS BIGINT), MAX(transaction_id), MAX(recorded_at)
FROM legs HAVING COUNT(*) > 0";

pub(crate) const FOLD_BALANCE: &str = "
UPDATE ledger_balances SET debits_posted = debits_posted + $3, credits_posted = credits_posted + $4, entries = entries + $5,
  last_transaction = $6, last_recorded = $7
WHERE tenant_id = $1 AND account_id = $2";

pub(crate) const ACCOUNT_IDS_BY_CODE: Sql = Sql::per_engine(
    "SELECT code, account_id FROM ledger_accounts WHERE tenant_id = $1 AND code IN (SELECT value FROM json_each($2))",
    "SELECT code, account_id FROM ledger_accounts WHERE tenant_id = $1 AND code = ANY($2)",
);

/// What holds of an account that have expired and were not released yet still count among its pending sums.
pub(crate) const EXPIRED_DEBITS: &str = "
SELECT CAST(COALESCE(SUM(remaining_minor), 0) AS BIGINT) FROM ledger_holds
WHERE tenant_id = $1 AND debit_account = $2 AND status = 'open' AND expires_at <= $3";
pub(crate) const EXPIRED_CREDITS: &str = "
SELECT CAST(COALESCE(SUM(remaining_minor), 0) AS BIGINT) FROM ledger_holds
WHERE tenant_id = $1 AND credit_account = $2 AND status = 'open' AND expires_at <= $3";

/// The next expiry after a moment among an account's open holds.
pub(crate) const NEXT_EXPIRY_DEBIT: &str = "
SELECT expires_at FROM ledger_holds
WHERE tenant_id = $1 AND debit_account = $2 AND status = 'open' AND expires_at > $3 ORDER BY expires_at LIMIT 1";
pub(crate) const NEXT_EXPIRY_CREDIT: &str = "
SELECT expires_at FROM ledger_holds
WHERE tenant_id = $1 AND credit_account = $2 AND status = 'open' AND expires_at > $3 ORDER BY expires_at LIMIT 1";

pub(crate) const OWNERS: Sql = Sql::per_engine(
    "SELECT account_id, owner FROM ledger_accounts WHERE tenant_id = $1 AND account_id IN (SELECT value FROM json_each($2))",
    "SELECT account_id, owner FROM ledger_accounts WHERE tenant_id = $1 AND account_id = ANY($2)",
);

pub(crate) const LIMITS_OF: Sql = Sql::per_engine(
    "SELECT subject, currency, per_transaction_minor, per_day_minor, per_month_minor FROM ledger_limits
WHERE tenant_id = $1 AND subject_kind = $2 AND subject IN (SELECT value FROM json_each($3))",
    "SELECT subject, currency, per_transaction_minor, per_day_minor, per_month_minor FROM ledger_limits
WHERE tenant_id = $1 AND subject_kind = $2 AND subject = ANY($3)",
);

/// What left in the month whose days are `$4` up to before `$5`.
pub(crate) const USAGE_OF: Sql = Sql::per_engine(
    "SELECT subject, currency, day, used_minor FROM ledger_usage
WHERE tenant_id = $1 AND subject_kind = $2 AND subject IN (SELECT value FROM json_each($3)) AND day >= $4 AND day < $5",
    "SELECT subject, currency, day, used_minor FROM ledger_usage
WHERE tenant_id = $1 AND subject_kind = $2 AND subject = ANY($3) AND day >= $4 AND day < $5",
);

// What a batch writes.

/// The hot row: a transfer without anything besides.
pub(crate) const INSERT_TRANSFER: &str = "
INSERT INTO ledger_transactions (tenant_id, transaction_id, kind, debit_account, credit_account, amount_minor, pending_minor,
  debit_previous, credit_previous, recorded_at)
VALUES ($1, $2, 'transfer', $3, $4, $5, 0, $6, $7, $8)";

pub(crate) const INSERT_TRANSFER_SET: Sql = Sql::per_engine(
    INSERT_TRANSFER,
    "INSERT INTO ledger_transactions (tenant_id, transaction_id, kind, debit_account, credit_account, amount_minor, pending_minor,
  debit_previous, credit_previous, recorded_at)
SELECT CAST($1 AS BIGINT), transaction_id, 'transfer', debit_account, credit_account, amount_minor, 0, debit_previous, credit_previous, recorded_at
FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[])
  AS t(transaction_id, debit_account, credit_account, amount_minor, debit_previous, credit_previous, recorded_at)",
);

pub(crate) const INSERT_TRANSACTION: &str = "
INSERT INTO ledger_transactions (tenant_id, transaction_id, kind, debit_account, credit_account, amount_minor, pending_minor,
  debit_previous, credit_previous, recorded_at, subject, rate_nanos, effective_at, external_ref, description, metadata)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, NULLIF($11, 0), NULLIF($12, 0), $13, NULLIF($14, ''), NULLIF($15, ''), NULLIF($16, ''))";

/// An effective date of the least number is none: 0 is a date.
pub(crate) const INSERT_TRANSACTION_SET: Sql = Sql::per_engine(
    INSERT_TRANSACTION,
    "INSERT INTO ledger_transactions (tenant_id, transaction_id, kind, debit_account, credit_account, amount_minor, pending_minor,
  debit_previous, credit_previous, recorded_at, subject, rate_nanos, effective_at, external_ref, description, metadata)
SELECT CAST($1 AS BIGINT), transaction_id, kind, debit_account, credit_account, amount_minor, pending_minor, debit_previous, credit_previous,
  recorded_at, NULLIF(subject, 0), NULLIF(rate_nanos, 0), NULLIF(effective_at, -9223372036854775808), NULLIF(external_ref, ''),
  NULLIF(description, ''), NULLIF(metadata, '')
FROM unnest($2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[],
  $11::bigint[], $12::bigint[], $13::bigint[], $14::text[], $15::text[], $16::text[])
  AS t(transaction_id, kind, debit_account, credit_account, amount_minor, pending_minor, debit_previous, credit_previous, recorded_at,
  subject, rate_nanos, effective_at, external_ref, description, metadata)",
);

pub(crate) const INSERT_POSTING: &str = "
INSERT INTO ledger_postings (tenant_id, transaction_id, posting, account_id, signed_minor, previous) VALUES ($1, $2, $3, $4, $5, $6)";

/// Of a transaction with an effective date of its own.
pub(crate) const INSERT_SHIFTED: &str = "INSERT INTO ledger_shifted (tenant_id, account_id, transaction_id) VALUES ($1, $2, $3)";

pub(crate) const INSERT_POSTING_SET: Sql = Sql::per_engine(
    INSERT_POSTING,
    "INSERT INTO ledger_postings (tenant_id, transaction_id, posting, account_id, signed_minor, previous)
SELECT CAST($1 AS BIGINT), transaction_id, posting, account_id, signed_minor, previous
FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[])
  AS t(transaction_id, posting, account_id, signed_minor, previous)",
);

pub(crate) const UPDATE_BALANCE: &str = "
UPDATE ledger_balances SET debits_posted = $3, credits_posted = $4, debits_pending = $5, credits_pending = $6, entries = $7,
  last_transaction = $8, last_recorded = $9, next_expiry = NULLIF($10, 0)
WHERE tenant_id = $1 AND account_id = $2";

pub(crate) const UPDATE_BALANCE_SET: Sql = Sql::per_engine(
    UPDATE_BALANCE,
    "UPDATE ledger_balances b SET debits_posted = t.debits_posted, credits_posted = t.credits_posted, debits_pending = t.debits_pending,
  credits_pending = t.credits_pending, entries = t.entries, last_transaction = t.last_transaction, last_recorded = t.last_recorded,
  next_expiry = NULLIF(t.next_expiry, 0)
FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[])
  AS t(account_id, debits_posted, credits_posted, debits_pending, credits_pending, entries, last_transaction, last_recorded, next_expiry)
WHERE b.tenant_id = $1 AND b.account_id = t.account_id",
);

pub(crate) const INSERT_MARK: &str = "
INSERT INTO ledger_marks (tenant_id, account_id, recorded_at, entries, transaction_id, debits_posted, credits_posted, debits_pending, credits_pending)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";

pub(crate) const INSERT_MARK_SET: Sql = Sql::per_engine(
    INSERT_MARK,
    "INSERT INTO ledger_marks (tenant_id, account_id, recorded_at, entries, transaction_id, debits_posted, credits_posted, debits_pending, credits_pending)
SELECT CAST($1 AS BIGINT), account_id, recorded_at, entries, transaction_id, debits_posted, credits_posted, debits_pending, credits_pending
FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[])
  AS t(account_id, recorded_at, entries, transaction_id, debits_posted, credits_posted, debits_pending, credits_pending)",
);

pub(crate) const INSERT_HOLD: &str = "
INSERT INTO ledger_holds (tenant_id, hold_id, debit_account, credit_account, amount_minor, captured_minor, remaining_minor, status, expires_at)
VALUES ($1, $2, $3, $4, $5, 0, $5, 'open', $6)";

pub(crate) const INSERT_HOLD_SET: Sql = Sql::per_engine(
    INSERT_HOLD,
    "INSERT INTO ledger_holds (tenant_id, hold_id, debit_account, credit_account, amount_minor, captured_minor, remaining_minor, status, expires_at)
SELECT CAST($1 AS BIGINT), hold_id, debit_account, credit_account, amount_minor, 0, amount_minor, 'open', expires_at
FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[]) AS t(hold_id, debit_account, credit_account, amount_minor, expires_at)",
);

pub(crate) const UPDATE_HOLD: &str = "
UPDATE ledger_holds SET captured_minor = $3, remaining_minor = $4, status = $5 WHERE tenant_id = $1 AND hold_id = $2";

pub(crate) const UPDATE_HOLD_SET: Sql = Sql::per_engine(
    UPDATE_HOLD,
    "UPDATE ledger_holds h SET captured_minor = t.captured_minor, remaining_minor = t.remaining_minor, status = t.status
FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::text[]) AS t(hold_id, captured_minor, remaining_minor, status)
WHERE h.tenant_id = $1 AND h.hold_id = t.hold_id",
);

pub(crate) const PUT_REVERSED: &str = "
INSERT INTO ledger_reversed (tenant_id, transaction_id, reversed_minor) VALUES ($1, $2, $3)
ON CONFLICT (tenant_id, transaction_id) DO UPDATE SET reversed_minor = excluded.reversed_minor";

pub(crate) const INSERT_KEY: &str = "
INSERT INTO ledger_keys (tenant_id, key_high, key_low, print_high, print_low, transaction_id, recorded_at) VALUES ($1, $2, $3, $4, $5, $6, $7)";

pub(crate) const INSERT_KEY_SET: Sql = Sql::per_engine(
    INSERT_KEY,
    "INSERT INTO ledger_keys (tenant_id, key_high, key_low, print_high, print_low, transaction_id, recorded_at)
SELECT CAST($1 AS BIGINT), key_high, key_low, print_high, print_low, transaction_id, recorded_at
FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
  AS t(key_high, key_low, print_high, print_low, transaction_id, recorded_at)",
);

pub(crate) const INSERT_REF: &str = "INSERT INTO ledger_refs (tenant_id, external_ref, transaction_id) VALUES ($1, $2, $3)";

pub(crate) const INSERT_REF_SET: Sql = Sql::per_engine(
    INSERT_REF,
    "INSERT INTO ledger_refs (tenant_id, external_ref, transaction_id)
SELECT CAST($1 AS BIGINT), external_ref, transaction_id FROM unnest($2::text[], $3::bigint[]) AS t(external_ref, transaction_id)",
);

pub(crate) const PUT_USAGE: &str = "
INSERT INTO ledger_usage (tenant_id, subject_kind, subject, currency, day, used_minor) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (tenant_id, subject_kind, subject, currency, day) DO UPDATE SET used_minor = excluded.used_minor";

// Accounts and limits.

/// With the owner's limits known, whether any binds it.
pub(crate) const INSERT_ACCOUNT: &str = "
INSERT INTO ledger_accounts (tenant_id, account_id, code, name, type, currency, owner, may_go_negative, negative_limit_minor, status, limited,
  version, created_at, managed)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'open', $10, 1, $11, $12) ON CONFLICT DO NOTHING";

pub(crate) const INSERT_BALANCE: &str = "
INSERT INTO ledger_balances (tenant_id, account_id, debits_posted, credits_posted, debits_pending, credits_pending, entries,
  last_transaction, last_recorded)
VALUES ($1, $2, 0, 0, 0, 0, 0, 0, 0)";

pub(crate) const UPDATE_ACCOUNT: &str = "
UPDATE ledger_accounts SET name = $3, may_go_negative = $4, negative_limit_minor = $5, status = $6, version = $7
WHERE tenant_id = $1 AND account_id = $2";

pub(crate) const ACCOUNT: &str = "
SELECT account_id, code, name, type, currency, owner, may_go_negative, negative_limit_minor, status, version, created_at, managed
FROM ledger_accounts WHERE tenant_id = $1 AND account_id = $2";

pub(crate) const ACCOUNT_BY_CODE: &str = "
SELECT account_id, code, name, type, currency, owner, may_go_negative, negative_limit_minor, status, version, created_at, managed
FROM ledger_accounts WHERE tenant_id = $1 AND code = $2";

pub(crate) const ACCOUNTS_PAGE: &str = "
SELECT account_id, code, name, type, currency, owner, may_go_negative, negative_limit_minor, status, version, created_at, managed
FROM ledger_accounts WHERE tenant_id = $1 AND account_id > $2 ORDER BY account_id LIMIT $3";

pub(crate) const ACCOUNTS_OF_OWNER_PAGE: &str = "
SELECT account_id, code, name, type, currency, owner, may_go_negative, negative_limit_minor, status, version, created_at, managed
FROM ledger_accounts WHERE tenant_id = $1 AND owner = $4 AND account_id > $2 ORDER BY account_id LIMIT $3";

pub(crate) const LIMIT: &str = "
SELECT per_transaction_minor, per_day_minor, per_month_minor FROM ledger_limits
WHERE tenant_id = $1 AND subject_kind = $2 AND subject = $3 AND currency = $4";

pub(crate) const PUT_LIMIT: &str = "
INSERT INTO ledger_limits (tenant_id, subject_kind, subject, currency, per_transaction_minor, per_day_minor, per_month_minor)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (tenant_id, subject_kind, subject, currency) DO UPDATE SET per_transaction_minor = excluded.per_transaction_minor,
  per_day_minor = excluded.per_day_minor, per_month_minor = excluded.per_month_minor";

pub(crate) const MARK_LIMITED: &str = "UPDATE ledger_accounts SET limited = TRUE WHERE tenant_id = $1 AND account_id = $2";

// By the index: SQLite would look through all of the tenant's accounts.
pub(crate) const MARK_OWNER_LIMITED: Sql = Sql::per_engine(
    "
UPDATE ledger_accounts INDEXED BY ledger_accounts_by_owner SET limited = TRUE WHERE tenant_id = $1 AND owner = $2 AND currency = $3",
    "
UPDATE ledger_accounts SET limited = TRUE WHERE tenant_id = $1 AND owner = $2 AND currency = $3",
);

pub(crate) const MANAGED_OF_OWNER: Sql = Sql::per_engine(
    "
SELECT account_id FROM ledger_accounts INDEXED BY ledger_accounts_by_owner
WHERE tenant_id = $1 AND owner = $2 AND currency = $3 AND managed = TRUE LIMIT 1",
    "
SELECT account_id FROM ledger_accounts WHERE tenant_id = $1 AND owner = $2 AND currency = $3 AND managed = TRUE LIMIT 1",
);

// Reads.

pub(crate) const HOLD: &str = "
SELECT hold_id, debit_account, credit_account, amount_minor, captured_minor, remaining_minor, status, expires_at FROM ledger_holds
WHERE tenant_id = $1 AND hold_id = $2";

pub(crate) const TRANSACTION: &str = "
SELECT transaction_id, kind, debit_account, credit_account, amount_minor, pending_minor, recorded_at, subject, rate_nanos, effective_at,
  external_ref, description, metadata
FROM ledger_transactions WHERE tenant_id = $1 AND transaction_id = $2";

/// The latest first.
pub(crate) const TRANSACTIONS_PAGE: &str = "
SELECT transaction_id, kind, debit_account, credit_account, amount_minor, pending_minor, recorded_at, subject, rate_nanos, effective_at,
  external_ref, description, metadata
FROM ledger_transactions WHERE tenant_id = $1 AND transaction_id < $2 ORDER BY transaction_id DESC LIMIT $3";

/// The oldest first, for an export.
pub(crate) const TRANSACTIONS_AFTER: &str = "
SELECT transaction_id, kind, debit_account, credit_account, amount_minor, pending_minor, recorded_at, subject, rate_nanos, effective_at,
  external_ref, description, metadata
FROM ledger_transactions WHERE tenant_id = $1 AND transaction_id > $2 ORDER BY transaction_id LIMIT $3";

pub(crate) const TRANSACTION_BY_REF: &str = "SELECT transaction_id FROM ledger_refs WHERE tenant_id = $1 AND external_ref = $2";

/// The state after an account's first mark that is later than a moment.
pub(crate) const MARK_AFTER: &str = "
SELECT transaction_id, debits_posted, credits_posted, debits_pending, credits_pending FROM ledger_marks
WHERE tenant_id = $1 AND account_id = $2 AND recorded_at > $3 ORDER BY recorded_at, entries LIMIT 1";

/// Up to `$4` entries of account `$2` from transaction `$3` backwards, to the first that was recorded before `$5`: each with how it changed
/// the account, and which came before it.
pub(crate) const ENTRIES: &str = "
WITH RECURSIVE chain (n, transaction_id, kind, side, amount_minor, pending_minor, recorded_at, effective_at, description, external_ref, subject, previous) AS (
  SELECT CAST(1 AS BIGINT), t.transaction_id, t.kind,
    CASE WHEN t.debit_account = $2 OR p.signed_minor > 0 THEN 'debit' ELSE 'credit' END,
    CASE WHEN p.signed_minor IS NULL THEN t.amount_minor ELSE ABS(p.signed_minor) END, t.pending_minor,
    t.recorded_at, t.effective_at, t.description, t.external_ref, t.subject,
    CASE WHEN t.debit_account = $2 THEN t.debit_previous WHEN t.credit_account = $2 THEN t.credit_previous ELSE p.previous END
  FROM ledger_transactions t
  LEFT JOIN ledger_postings p ON p.tenant_id = $1 AND p.transaction_id = t.transaction_id AND p.account_id = $2
  WHERE t.tenant_id = $1 AND t.transaction_id = $3
  UNION ALL
  SELECT c.n + 1, t.transaction_id, t.kind,
    CASE WHEN t.debit_account = $2 OR p.signed_minor > 0 THEN 'debit' ELSE 'credit' END,
    CASE WHEN p.signed_minor IS NULL THEN t.amount_minor ELSE ABS(p.signed_minor) END, t.pending_minor,
    t.recorded_at, t.effective_at, t.description, t.external_ref, t.subject,
    CASE WHEN t.debit_account = $2 THEN t.debit_previous WHEN t.credit_account = $2 THEN t.credit_previous ELSE p.previous END
  FROM chain c JOIN ledger_transactions t ON t.tenant_id = $1 AND t.transaction_id = c.previous
  LEFT JOIN ledger_postings p ON p.tenant_id = $1 AND p.transaction_id = t.transaction_id AND p.account_id = $2
  WHERE c.n < $4 AND c.recorded_at >= $5
)
SELECT transaction_id, kind, side, amount_minor, pending_minor, recorded_at, effective_at, description, external_ref, subject, previous
FROM chain ORDER BY n";

/// [`SHIFTED`], with the indexes that SQLite has to be told of, and the three tables in the order in which it is to look.
macro_rules! shifted {
    ($debit:literal, $credit:literal, $tables:literal) => {
        concat!(
            "
WITH shifted (recorded_at, effective_at, debits, credits) AS (
  SELECT recorded_at, effective_at, amount_minor, 0 FROM ledger_transactions",
            $debit,
            "
  WHERE tenant_id = $1 AND debit_account = $2 AND effective_at IS NOT NULL
  UNION ALL
  SELECT recorded_at, effective_at, 0, amount_minor FROM ledger_transactions",
            $credit,
            "
  WHERE tenant_id = $1 AND credit_account = $2 AND effective_at IS NOT NULL
  UNION ALL
  SELECT t.recorded_at, t.effective_at, CASE WHEN p.signed_minor > 0 THEN p.signed_minor ELSE 0 END,
    CASE WHEN p.signed_minor < 0 THEN -p.signed_minor ELSE 0 END
  FROM ",
            $tables,
            "
  WHERE s.tenant_id = $1 AND s.account_id = $2 AND t.tenant_id = $1 AND t.transaction_id = s.transaction_id
    AND p.tenant_id = $1 AND p.transaction_id = s.transaction_id AND p.account_id = $2
), moved (debits, credits, factor) AS (
  SELECT debits, credits, CASE WHEN effective_at <= $3 AND recorded_at > $3 THEN 1 WHEN effective_at > $3 AND recorded_at <= $3 THEN -1 ELSE 0 END
  FROM shifted
)
SELECT CAST(COALESCE(SUM(debits * factor), 0) AS BIGINT), CAST(COALESCE(SUM(credits * factor), 0) AS BIGINT) FROM moved"
        )
    };
}

/// By how much the effective dates of account `$2`'s transactions move its sums at `$3`: what took effect by then and was recorded later
/// comes to them, what was recorded by then and takes effect later is taken off. With several postings the accounts are 0.
pub(crate) const SHIFTED: Sql = Sql::per_engine(
    shifted!(
        " INDEXED BY ledger_transactions_shifted_debit",
        " INDEXED BY ledger_transactions_shifted_credit",
        "ledger_shifted s CROSS JOIN ledger_transactions t CROSS JOIN ledger_postings p"
    ),
    shifted!("", "", "ledger_shifted s, ledger_transactions t, ledger_postings p"),
);

/// Sums in two parts, of 2^31 and the rest: together they may pass 64 bits, although no account's does.
pub(crate) const TRIAL_BALANCE: &str = "
WITH tail (first) AS (
  SELECT COALESCE(MIN(first_transaction), 9223372036854775807) FROM ledger_tail WHERE tenant_id = $1
), sums (account_id, accounts, debits, credits) AS (
  SELECT account_id, 1, debits_posted, credits_posted FROM ledger_balances WHERE tenant_id = $1
  UNION ALL
  SELECT debit_account, 0, amount_minor, 0 FROM ledger_transactions
  WHERE tenant_id = $1 AND transaction_id >= (SELECT first FROM tail) AND debit_account > 0
  UNION ALL
  SELECT credit_account, 0, 0, amount_minor FROM ledger_transactions
  WHERE tenant_id = $1 AND transaction_id >= (SELECT first FROM tail) AND credit_account > 0
  UNION ALL
  SELECT account_id, 0, CASE WHEN signed_minor > 0 THEN signed_minor ELSE 0 END, CASE WHEN signed_minor < 0 THEN -signed_minor ELSE 0 END
  FROM ledger_postings WHERE tenant_id = $1 AND transaction_id >= (SELECT first FROM tail)
)
SELECT a.currency, a.type, CAST(SUM(s.accounts) AS BIGINT), CAST(SUM(s.debits / 2147483648) AS BIGINT), CAST(SUM(s.debits % 2147483648) AS BIGINT),
  CAST(SUM(s.credits / 2147483648) AS BIGINT), CAST(SUM(s.credits % 2147483648) AS BIGINT)
FROM sums s JOIN ledger_accounts a ON a.tenant_id = $1 AND a.account_id = s.account_id
GROUP BY a.currency, a.type ORDER BY a.currency, a.type";

// Tenants with work to do, on the platform's scope.

/// Tenants with holds whose time is over, at most `$2`.
pub(crate) const TENANTS_WITH_DUE_HOLDS: &str = "
SELECT DISTINCT tenant_id FROM ledger_holds WHERE status = 'open' AND expires_at <= $1 ORDER BY tenant_id LIMIT $2";

/// Tenants after `$1` with accounts or transactions that no seal covers, at most `$2`. Hops from tenant to tenant along the key.
pub(crate) const TENANTS_TO_SEAL: &str = "
WITH RECURSIVE tenants (tenant_id) AS (
  SELECT MIN(tenant_id) FROM ledger_accounts WHERE tenant_id > $1
  UNION ALL
  SELECT (SELECT MIN(a.tenant_id) FROM ledger_accounts a WHERE a.tenant_id > t.tenant_id) FROM tenants t WHERE t.tenant_id IS NOT NULL
), heads (tenant_id, last_account, last_transaction) AS (
  SELECT tenant_id,
    COALESCE((SELECT s.last_account FROM ledger_seals s WHERE s.tenant_id = t.tenant_id ORDER BY s.seal DESC LIMIT 1), 0),
    COALESCE((SELECT s.last_transaction FROM ledger_seals s WHERE s.tenant_id = t.tenant_id ORDER BY s.seal DESC LIMIT 1), 0)
  FROM tenants t WHERE tenant_id IS NOT NULL
)
SELECT tenant_id FROM heads h
WHERE (SELECT MAX(a.account_id) FROM ledger_accounts a WHERE a.tenant_id = h.tenant_id) > h.last_account
   OR (SELECT MAX(t.transaction_id) FROM ledger_transactions t WHERE t.tenant_id = h.tenant_id) > h.last_transaction
ORDER BY tenant_id LIMIT $2";

// Seals: see chain.rs.

pub(crate) const LAST_SEAL: &str = "
SELECT seal, last_account, accounts, last_transaction, transactions, accounts_head, transactions_head, sealed_at, public_key, signature
FROM ledger_seals WHERE tenant_id = $1 ORDER BY seal DESC LIMIT 1";

pub(crate) const SEALS_AFTER: &str = "
SELECT seal, last_account, accounts, last_transaction, transactions, accounts_head, transactions_head, sealed_at, public_key, signature
FROM ledger_seals WHERE tenant_id = $1 AND seal > $2 ORDER BY seal LIMIT $3";

pub(crate) const INSERT_SEAL: &str = "
INSERT INTO ledger_seals (tenant_id, seal, last_account, accounts, last_transaction, transactions, accounts_head, transactions_head,
  sealed_at, public_key, signature)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING";

// Audits. Each gives how many things it looked at and how many of them are wrong.

/// In two parts as the trial balance: what differs in multiples of 2^31 is made good by the rest.
pub(crate) const AUDIT_ZERO: &str = "
SELECT CAST(COUNT(*) AS BIGINT), CAST(COALESCE(SUM(CASE WHEN high * 2147483648 + low = 0 AND pending_high * 2147483648 + pending_low = 0
  THEN 0 ELSE 1 END), 0) AS BIGINT)
FROM (
  SELECT a.currency, SUM(b.debits_posted / 2147483648 - b.credits_posted / 2147483648) AS high,
    SUM(b.debits_posted % 2147483648 - b.credits_posted % 2147483648) AS low,
    SUM(b.debits_pending / 2147483648 - b.credits_pending / 2147483648) AS pending_high,
    SUM(b.debits_pending % 2147483648 - b.credits_pending % 2147483648) AS pending_low
  FROM ledger_accounts a JOIN ledger_balances b ON b.tenant_id = $1 AND b.account_id = a.account_id
  WHERE a.tenant_id = $1 GROUP BY a.currency
) AS sums";

/// As far as the balances go: what is in the tail is read from the transactions themselves.
pub(crate) const AUDIT_RECOUNT: &str = "
WITH tail (first) AS (
  SELECT COALESCE(MIN(first_transaction), 9223372036854775807) FROM ledger_tail WHERE tenant_id = $1
), legs (account_id, debits, credits, pending_debits, pending_credits) AS (
  SELECT debit_account, amount_minor, 0, pending_minor, 0 FROM ledger_transactions
  WHERE tenant_id = $1 AND transaction_id < (SELECT first FROM tail) AND debit_account > 0
  UNION ALL
  SELECT credit_account, 0, amount_minor, 0, pending_minor FROM ledger_transactions
  WHERE tenant_id = $1 AND transaction_id < (SELECT first FROM tail) AND credit_account > 0
  UNION ALL
  SELECT account_id, CASE WHEN signed_minor > 0 THEN signed_minor ELSE 0 END, CASE WHEN signed_minor < 0 THEN -signed_minor ELSE 0 END, 0, 0
  FROM ledger_postings WHERE tenant_id = $1 AND transaction_id < (SELECT first FROM tail)
), recount (account_id, entries, debits, credits, pending_debits, pending_credits) AS (
  SELECT account_id, COUNT(*), SUM(debits), SUM(credits), SUM(pending_debits), SUM(pending_credits) FROM legs GROUP BY account_id
)
SELECT CAST(COUNT(*) AS BIGINT), CAST(COALESCE(SUM(CASE WHEN b.entries = COALESCE(r.entries, 0) AND b.debits_posted = COALESCE(r.debits, 0)
  AND b.credits_posted = COALESCE(r.credits, 0) AND b.debits_pending = COALESCE(r.pending_debits, 0)
  AND b.credits_pending = COALESCE(r.pending_credits, 0) THEN 0 ELSE 1 END), 0) AS BIGINT)
FROM ledger_balances b LEFT JOIN recount r ON r.account_id = b.account_id WHERE b.tenant_id = $1";

pub(crate) const AUDIT_HOLDS: &str = "
WITH held (account_id, debits, credits) AS (
  SELECT debit_account, remaining_minor, 0 FROM ledger_holds WHERE tenant_id = $1 AND status = 'open'
  UNION ALL
  SELECT credit_account, 0, remaining_minor FROM ledger_holds WHERE tenant_id = $1 AND status = 'open'
), sums (account_id, debits, credits) AS (
  SELECT account_id, SUM(debits), SUM(credits) FROM held GROUP BY account_id
)
SELECT CAST(COUNT(*) AS BIGINT), CAST(COALESCE(SUM(CASE WHEN b.debits_pending = COALESCE(s.debits, 0)
  AND b.credits_pending = COALESCE(s.credits, 0) THEN 0 ELSE 1 END), 0) AS BIGINT)
FROM ledger_balances b LEFT JOIN sums s ON s.account_id = b.account_id WHERE b.tenant_id = $1";

/// `$2`: now.
pub(crate) const AUDIT_LIMITS: &str = "
WITH expired (account_id, debits, credits) AS (
  SELECT debit_account, remaining_minor, 0 FROM ledger_holds WHERE tenant_id = $1 AND status = 'open' AND expires_at <= $2
  UNION ALL
  SELECT credit_account, 0, remaining_minor FROM ledger_holds WHERE tenant_id = $1 AND status = 'open' AND expires_at <= $2
), sums (account_id, debits, credits) AS (
  SELECT account_id, SUM(debits), SUM(credits) FROM expired GROUP BY account_id
)
SELECT CAST(COUNT(*) AS BIGINT), CAST(COALESCE(SUM(CASE WHEN a.may_go_negative = TRUE AND a.negative_limit_minor IS NULL THEN 0
  WHEN COALESCE(a.negative_limit_minor, 0) + (CASE WHEN a.type IN ('asset', 'expense')
    THEN b.debits_posted - b.credits_posted - b.credits_pending + COALESCE(s.credits, 0)
    ELSE b.credits_posted - b.debits_posted - b.debits_pending + COALESCE(s.debits, 0) END) >= 0 THEN 0 ELSE 1 END), 0) AS BIGINT)
FROM ledger_accounts a JOIN ledger_balances b ON b.tenant_id = $1 AND b.account_id = a.account_id
LEFT JOIN sums s ON s.account_id = a.account_id WHERE a.tenant_id = $1";

/// Transactions of several postings sum to zero in each currency.
pub(crate) const AUDIT_POSTINGS: &str = "
SELECT CAST(COUNT(*) AS BIGINT), CAST(COALESCE(SUM(CASE WHEN total = 0 THEN 0 ELSE 1 END), 0) AS BIGINT)
FROM (
  SELECT p.transaction_id, a.currency, SUM(p.signed_minor) AS total
  FROM ledger_postings p JOIN ledger_accounts a ON a.tenant_id = $1 AND a.account_id = p.account_id
  WHERE p.tenant_id = $1 GROUP BY p.transaction_id, a.currency
) AS sums";

/// What was taken back of a transaction is the sum of its reversals.
pub(crate) const AUDIT_REVERSED: &str = "
WITH several (transaction_id, debits) AS (
  SELECT transaction_id, SUM(CASE WHEN signed_minor > 0 THEN signed_minor ELSE 0 END) FROM ledger_postings WHERE tenant_id = $1 GROUP BY transaction_id
), reversals (transaction_id, total) AS (
  SELECT t.subject, SUM(t.amount_minor + COALESCE(s.debits, 0)) FROM ledger_transactions t
  LEFT JOIN several s ON s.transaction_id = t.transaction_id
  WHERE t.tenant_id = $1 AND t.kind = 'reversal' GROUP BY t.subject
)
SELECT CAST(COUNT(*) AS BIGINT), CAST(COALESCE(SUM(CASE WHEN v.total = r.reversed_minor
  AND r.reversed_minor <= o.amount_minor + COALESCE(s.debits, 0) THEN 0 ELSE 1 END), 0) AS BIGINT)
FROM ledger_reversed r LEFT JOIN reversals v ON v.transaction_id = r.transaction_id
LEFT JOIN ledger_transactions o ON o.tenant_id = $1 AND o.transaction_id = r.transaction_id
LEFT JOIN several s ON s.transaction_id = r.transaction_id WHERE r.tenant_id = $1";

/// What was captured of a hold is the sum of its captures, and with what is left no more than was held.
pub(crate) const AUDIT_CAPTURES: &str = "
WITH captures (hold_id, total) AS (
  SELECT subject, SUM(amount_minor) FROM ledger_transactions WHERE tenant_id = $1 AND kind = 'capture' GROUP BY subject
)
SELECT CAST(COUNT(*) AS BIGINT), CAST(COALESCE(SUM(CASE WHEN h.captured_minor = COALESCE(c.total, 0)
  AND h.captured_minor + h.remaining_minor <= h.amount_minor AND (h.status = 'open') = (h.remaining_minor > 0) THEN 0 ELSE 1 END), 0) AS BIGINT)
FROM ledger_holds h LEFT JOIN captures c ON c.hold_id = h.hold_id WHERE h.tenant_id = $1";

/// Every statement for a tenant's scope, for a test that prepares each on both engines.
pub(crate) const TENANT_STATEMENTS: &[(&str, Sql)] = &[
    ("KEYS", KEYS),
    ("REFS", REFS),
    ("HOLDS", HOLDS),
    ("DUE_HOLDS", Sql::per_engine(DUE_HOLDS, DUE_HOLDS)),
    ("ORIGINALS", ORIGINALS),
    ("POSTINGS", POSTINGS),
    ("ACCOUNT_STATES", ACCOUNT_STATES),
    ("TAIL_BEGINS", Sql::per_engine(TAIL_BEGINS, TAIL_BEGINS)),
    ("BEGIN_TAIL", Sql::per_engine(BEGIN_TAIL, BEGIN_TAIL)),
    ("END_TAIL", Sql::per_engine(END_TAIL, END_TAIL)),
    ("TAIL", Sql::per_engine(TAIL, TAIL)),
    ("TAIL_OF", Sql::per_engine(TAIL_OF, TAIL_OF)),
    ("FOLD_BALANCE", Sql::per_engine(FOLD_BALANCE, FOLD_BALANCE)),
    ("ACCOUNT_IDS_BY_CODE", ACCOUNT_IDS_BY_CODE),
    ("EXPIRED_DEBITS", Sql::per_engine(EXPIRED_DEBITS, EXPIRED_DEBITS)),
    ("EXPIRED_CREDITS", Sql::per_engine(EXPIRED_CREDITS, EXPIRED_CREDITS)),
    ("NEXT_EXPIRY_DEBIT", Sql::per_engine(NEXT_EXPIRY_DEBIT, NEXT_EXPIRY_DEBIT)),
    ("NEXT_EXPIRY_CREDIT", Sql::per_engine(NEXT_EXPIRY_CREDIT, NEXT_EXPIRY_CREDIT)),
    ("OWNERS", OWNERS),
    ("LIMITS_OF", LIMITS_OF),
    ("USAGE_OF", USAGE_OF),
    ("INSERT_TRANSFER", Sql::per_engine(INSERT_TRANSFER, INSERT_TRANSFER)),
    ("INSERT_TRANSFER_SET", INSERT_TRANSFER_SET),
    ("INSERT_TRANSACTION", Sql::per_engine(INSERT_TRANSACTION, INSERT_TRANSACTION)),
    ("INSERT_TRANSACTION_SET", INSERT_TRANSACTION_SET),
    ("INSERT_POSTING", Sql::per_engine(INSERT_POSTING, INSERT_POSTING)),
    ("INSERT_SHIFTED", Sql::per_engine(INSERT_SHIFTED, INSERT_SHIFTED)),
    ("INSERT_POSTING_SET", INSERT_POSTING_SET),
    ("UPDATE_BALANCE", Sql::per_engine(UPDATE_BALANCE, UPDATE_BALANCE)),
    ("UPDATE_BALANCE_SET", UPDATE_BALANCE_SET),
    ("INSERT_MARK", Sql::per_engine(INSERT_MARK, INSERT_MARK)),
    ("INSERT_MARK_SET", INSERT_MARK_SET),
    ("INSERT_HOLD", Sql::per_engine(INSERT_HOLD, INSERT_HOLD)),
    ("INSERT_HOLD_SET", INSERT_HOLD_SET),
    ("UPDATE_HOLD", Sql::per_engine(UPDATE_HOLD, UPDATE_HOLD)),
    ("UPDATE_HOLD_SET", UPDATE_HOLD_SET),
    ("PUT_REVERSED", Sql::per_engine(PUT_REVERSED, PUT_REVERSED)),
    ("INSERT_KEY", Sql::per_engine(INSERT_KEY, INSERT_KEY)),
    ("INSERT_KEY_SET", INSERT_KEY_SET),
    ("INSERT_REF", Sql::per_engine(INSERT_REF, INSERT_REF)),
    ("INSERT_REF_SET", INSERT_REF_SET),
    ("PUT_USAGE", Sql::per_engine(PUT_USAGE, PUT_USAGE)),
    ("INSERT_ACCOUNT", Sql::per_engine(INSERT_ACCOUNT, INSERT_ACCOUNT)),
    ("INSERT_BALANCE", Sql::per_engine(INSERT_BALANCE, INSERT_BALANCE)),
    ("UPDATE_ACCOUNT", Sql::per_engine(UPDATE_ACCOUNT, UPDATE_ACCOUNT)),
    ("ACCOUNT", Sql::per_engine(ACCOUNT, ACCOUNT)),
    ("ACCOUNT_BY_CODE", Sql::per_engine(ACCOUNT_BY_CODE, ACCOUNT_BY_CODE)),
    ("ACCOUNTS_PAGE", Sql::per_engine(ACCOUNTS_PAGE, ACCOUNTS_PAGE)),
    ("ACCOUNTS_OF_OWNER_PAGE", Sql::per_engine(ACCOUNTS_OF_OWNER_PAGE, ACCOUNTS_OF_OWNER_PAGE)),
    ("LIMIT", Sql::per_engine(LIMIT, LIMIT)),
    ("PUT_LIMIT", Sql::per_engine(PUT_LIMIT, PUT_LIMIT)),
    ("MARK_LIMITED", Sql::per_engine(MARK_LIMITED, MARK_LIMITED)),
    ("MARK_OWNER_LIMITED", MARK_OWNER_LIMITED),
    ("MANAGED_OF_OWNER", MANAGED_OF_OWNER),
    ("HOLD", Sql::per_engine(HOLD, HOLD)),
    ("TRANSACTION", Sql::per_engine(TRANSACTION, TRANSACTION)),
    ("TRANSACTIONS_PAGE", Sql::per_engine(TRANSACTIONS_PAGE, TRANSACTIONS_PAGE)),
    ("TRANSACTIONS_AFTER", Sql::per_engine(TRANSACTIONS_AFTER, TRANSACTIONS_AFTER)),
    ("TRANSACTION_BY_REF", Sql::per_engine(TRANSACTION_BY_REF, TRANSACTION_BY_REF)),
    ("MARK_AFTER", Sql::per_engine(MARK_AFTER, MARK_AFTER)),
    ("ENTRIES", Sql::per_engine(ENTRIES, ENTRIES)),
    ("SHIFTED", SHIFTED),
    ("TRIAL_BALANCE", Sql::per_engine(TRIAL_BALANCE, TRIAL_BALANCE)),
    ("LAST_SEAL", Sql::per_engine(LAST_SEAL, LAST_SEAL)),
    ("SEALS_AFTER", Sql::per_engine(SEALS_AFTER, SEALS_AFTER)),
    ("INSERT_SEAL", Sql::per_engine(INSERT_SEAL, INSERT_SEAL)),
    ("AUDIT_ZERO", Sql::per_engine(AUDIT_ZERO, AUDIT_ZERO)),
    ("AUDIT_RECOUNT", Sql::per_engine(AUDIT_RECOUNT, AUDIT_RECOUNT)),
    ("AUDIT_HOLDS", Sql::per_engine(AUDIT_HOLDS, AUDIT_HOLDS)),
    ("AUDIT_LIMITS", Sql::per_engine(AUDIT_LIMITS, AUDIT_LIMITS)),
    ("AUDIT_POSTINGS", Sql::per_engine(AUDIT_POSTINGS, AUDIT_POSTINGS)),
    ("AUDIT_REVERSED", Sql::per_engine(AUDIT_REVERSED, AUDIT_REVERSED)),
    ("AUDIT_CAPTURES", Sql::per_engine(AUDIT_CAPTURES, AUDIT_CAPTURES)),
];
