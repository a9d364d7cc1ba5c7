//! Every statement of this module. `$1` is the tenant. A `_SET` writes rows of a whole set in one statement on PostgreSQL; its text for
//! SQLite, where one statement a row is faster, is that of one row.

use store::Sql;

// The hot path.

/// Wallets with their pockets in all currencies: a line for each, and one without a currency for a wallet that has none.
pub(crate) const PURSES: Sql = Sql::per_engine(
    "SELECT w.wallet_id, w.kind, w.status, w.level, w.user_id, w.fee_bps, w.created_at, a.currency, a.account_id, a.used_day, a.day_minor,
  a.month_minor, a.activity, w.codes_day, w.codes_asked, w.codes_wrong
FROM wallets_wallets w LEFT JOIN wallets_accounts a ON a.tenant_id = $1 AND a.wallet_id = w.wallet_id
WHERE w.tenant_id = $1 AND w.wallet_id IN (SELECT value FROM json_each($2))",
    "SELECT w.wallet_id, w.kind, w.status, w.level, w.user_id, w.fee_bps, w.created_at, a.currency, a.account_id, a.used_day, a.day_minor,
  a.month_minor, a.activity, w.codes_day, w.codes_asked, w.codes_wrong
FROM wallets_wallets w LEFT JOIN wallets_accounts a ON a.tenant_id = $1 AND a.wallet_id = w.wallet_id
WHERE w.tenant_id = $1 AND w.wallet_id = ANY($2)",
);

pub(crate) const UPDATE_PURSE: &str = "
UPDATE wallets_accounts SET used_day = $4, day_minor = $5, month_minor = $6, activity = $7
WHERE tenant_id = $1 AND wallet_id = $2 AND currency = $3";

pub(crate) const UPDATE_PURSE_SET: Sql = Sql::per_engine(
    "UPDATE wallets_accounts SET used_day = $4, day_minor = $5, month_minor = $6, activity = $7
WHERE tenant_id = $1 AND wallet_id = $2 AND currency = $3",
    "UPDATE wallets_accounts AS a SET used_day = n.used_day, day_minor = n.day_minor, month_minor = n.month_minor,
  activity = decode(n.activity, 'hex')
FROM unnest($2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[])
  AS n(wallet_id, currency, used_day, day_minor, month_minor, activity)
WHERE a.tenant_id = $1 AND a.wallet_id = n.wallet_id AND a.currency = n.currency",
);

const INSERT_TRANSFER_TEXT: &str = "
INSERT INTO wallets_transfers (tenant_id, transfer_id, kind, status, from_wallet, to_wallet, currency, amount_minor, fee_minor,
  transaction_id, score, policy_version, reasons, note, created_at, ended_at, counted_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, NULLIF($10, 0), $11, $12, $13, $14, $15, NULLIF($16, 0), $17)";

pub(crate) const INSERT_TRANSFER: Sql = Sql::per_engine(
    INSERT_TRANSFER_TEXT,
    "INSERT INTO wallets_transfers (tenant_id, transfer_id, kind, status, from_wallet, to_wallet, currency, amount_minor, fee_minor,
  transaction_id, score, policy_version, reasons, note, created_at, ended_at, counted_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, NULLIF($10::bigint, 0), $11, $12, $13, $14, $15, NULLIF($16::bigint, 0), $17)",
);

pub(crate) const INSERT_TRANSFER_SET: Sql = Sql::per_engine(
    INSERT_TRANSFER_TEXT,
    "INSERT INTO wallets_transfers (tenant_id, transfer_id, kind, status, from_wallet, to_wallet, currency, amount_minor, fee_minor,
  transaction_id, score, policy_version, reasons, note, created_at, ended_at, counted_at)
SELECT $1, n.transfer_id, n.kind, n.status, n.from_wallet, n.to_wallet, n.currency, n.amount_minor, n.fee_minor,
  NULLIF(n.transaction_id, 0), n.score, n.policy_version, n.reasons, n.note, n.created_at, NULLIF(n.ended_at, 0), n.counted_at
FROM unnest($2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::text[], $8::bigint[], $9::bigint[], $10::bigint[],
  $11::bigint[], $12::bigint[], $13::text[], $14::text[], $15::bigint[], $16::bigint[], $17::bigint[])
  AS n(transfer_id, kind, status, from_wallet, to_wallet, currency, amount_minor, fee_minor, transaction_id, score, policy_version, reasons,
  note, created_at, ended_at, counted_at)",
);

/// The latest version of the tenant's policy.
pub(crate) const POLICY_VERSION: &str = "
SELECT version, created_at FROM wallets_policies WHERE tenant_id = $1 ORDER BY version DESC LIMIT 1";

// Transfers.

pub(crate) const TRANSFER: &str = "
SELECT transfer_id, kind, status, from_wallet, to_wallet, currency, amount_minor, fee_minor, transaction_id, score, policy_version, reasons,
  note, created_at, ended_at, counted_at FROM wallets_transfers WHERE tenant_id = $1 AND transfer_id = $2";

pub(crate) const TRANSFERS_PAGE: &str = "
SELECT transfer_id, kind, status, from_wallet, to_wallet, currency, amount_minor, fee_minor, transaction_id, score, policy_version, reasons,
  note, created_at, ended_at, counted_at FROM wallets_transfers WHERE tenant_id = $1 AND transfer_id < $2 ORDER BY transfer_id DESC LIMIT $3";

/// What a challenge or a review has become, or a transfer that was under way outside; only while it waits.
pub(crate) const UPDATE_TRANSFER: Sql = Sql::per_engine(
    "UPDATE wallets_transfers SET status = $3, transaction_id = NULLIF($4, 0), fee_minor = $5, score = $6, policy_version = $7, reasons = $8,
  ended_at = NULLIF($9, 0), counted_at = $10, amount_minor = $11
WHERE tenant_id = $1 AND transfer_id = $2 AND status IN ('challenged', 'in_review', 'pending')",
    "UPDATE wallets_transfers SET status = $3, transaction_id = NULLIF($4::bigint, 0), fee_minor = $5, score = $6, policy_version = $7,
  reasons = $8, ended_at = NULLIF($9::bigint, 0), counted_at = $10, amount_minor = $11
WHERE tenant_id = $1 AND transfer_id = $2 AND status IN ('challenged', 'in_review', 'pending')",
);

// Challenges and reviews.

pub(crate) const INSERT_PENDING: &str = "
INSERT INTO wallets_pending (tenant_id, transfer_id, waits_for, is_open, hold_id, attempts_left, device, country, opened_at, expires_at, reason)
VALUES ($1, $2, $3, TRUE, $4, $5, $6, $7, $8, $9, '')
ON CONFLICT (tenant_id, transfer_id) DO UPDATE SET waits_for = EXCLUDED.waits_for, is_open = TRUE, hold_id = EXCLUDED.hold_id,
  attempts_left = EXCLUDED.attempts_left, opened_at = EXCLUDED.opened_at, expires_at = EXCLUDED.expires_at";

pub(crate) const PENDING: &str = "
SELECT transfer_id, waits_for, is_open, hold_id, attempts_left, device, country, opened_at, expires_at, decided_at, decided_by, reason
FROM wallets_pending WHERE tenant_id = $1 AND transfer_id = $2";

pub(crate) const CLOSE_PENDING: &str = "
UPDATE wallets_pending SET is_open = FALSE, decided_at = $3, decided_by = $4, reason = $5
WHERE tenant_id = $1 AND transfer_id = $2 AND is_open = TRUE";

pub(crate) const USE_ATTEMPT: &str = "
UPDATE wallets_pending SET attempts_left = attempts_left - 1 WHERE tenant_id = $1 AND transfer_id = $2 AND is_open = TRUE";

pub(crate) const CODES: &str = "SELECT codes_day, codes_asked, codes_wrong FROM wallets_wallets WHERE tenant_id = $1 AND wallet_id = $2";

pub(crate) const SET_CODES: &str = "
UPDATE wallets_wallets SET codes_day = $3, codes_asked = $4, codes_wrong = $5 WHERE tenant_id = $1 AND wallet_id = $2";

/// The queue of reviews, the oldest first.
pub(crate) const REVIEWS_PAGE: &str = "
SELECT t.transfer_id, t.kind, t.status, t.from_wallet, t.to_wallet, t.currency, t.amount_minor, t.fee_minor, t.transaction_id, t.score,
  t.policy_version, t.reasons, t.note, t.created_at, t.ended_at, t.counted_at, p.opened_at, p.expires_at
FROM wallets_pending p JOIN wallets_transfers t ON t.tenant_id = $1 AND t.transfer_id = p.transfer_id
WHERE p.tenant_id = $1 AND p.waits_for = 'review' AND p.is_open = TRUE AND p.transfer_id > $2 ORDER BY p.transfer_id LIMIT $3";

// Wallets.

pub(crate) const INSERT_WALLET: &str = "
INSERT INTO wallets_wallets (tenant_id, wallet_id, kind, status, level, level_since, user_id, owner, name, fee_bps, version, created_at, updated_at)
VALUES ($1, $2, $3, 'open', $4, $9, $5, $6, $7, $8, 1, $9, $9)";

pub(crate) const UPDATE_WALLET: &str = "
UPDATE wallets_wallets SET status = $4, level = $5, name = $6, fee_bps = $7, version = version + 1, updated_at = $8,
  level_since = CASE WHEN level = $5 THEN level_since ELSE $8 END
WHERE tenant_id = $1 AND wallet_id = $2 AND version = $3";

pub(crate) const WALLET: &str = "
SELECT wallet_id, kind, status, level, user_id, owner, name, fee_bps, version, created_at, updated_at
FROM wallets_wallets WHERE tenant_id = $1 AND wallet_id = $2";

pub(crate) const WALLETS_PAGE: &str = "
SELECT wallet_id, kind, status, level, user_id, owner, name, fee_bps, version, created_at, updated_at
FROM wallets_wallets WHERE tenant_id = $1 AND wallet_id < $2 ORDER BY wallet_id DESC LIMIT $3";

pub(crate) const WALLETS_OF_OWNER: &str = "
SELECT wallet_id, kind, status, level, user_id, owner, name, fee_bps, version, created_at, updated_at
FROM wallets_wallets WHERE tenant_id = $1 AND owner = $4 AND wallet_id < $2 ORDER BY wallet_id DESC LIMIT $3";

pub(crate) const WALLETS_OF_USER: &str = "
SELECT wallet_id, kind, status, level, user_id, owner, name, fee_bps, version, created_at, updated_at
FROM wallets_wallets WHERE tenant_id = $1 AND user_id = $4 AND wallet_id < $2 ORDER BY wallet_id DESC LIMIT $3";

pub(crate) const INSERT_ACCOUNT: &str = "
INSERT INTO wallets_accounts (tenant_id, wallet_id, currency, account_id, used_day, day_minor, month_minor, activity)
VALUES ($1, $2, $3, $4, 0, 0, 0, $5)";

pub(crate) const ACCOUNTS: &str = "
SELECT currency, account_id, used_day, day_minor, month_minor FROM wallets_accounts
WHERE tenant_id = $1 AND wallet_id = $2 ORDER BY currency";

/// Gives a wallet back what did not leave it in the end.
pub(crate) const SET_USED: &str = "
UPDATE wallets_accounts SET used_day = $4, day_minor = $5, month_minor = $6 WHERE tenant_id = $1 AND wallet_id = $2 AND currency = $3";

pub(crate) const BOOKS: &str = "SELECT currency, bank_account, fees_account, owed_account FROM wallets_books WHERE tenant_id = $1";

pub(crate) const INSERT_BOOKS: &str = "
INSERT INTO wallets_books (tenant_id, currency, bank_account, fees_account, owed_account) VALUES ($1, $2, $3, $4, $5)";

// Policies.

pub(crate) const POLICY: &str = "SELECT body FROM wallets_policies WHERE tenant_id = $1 AND version = $2";

pub(crate) const INSERT_POLICY: &str = "
INSERT INTO wallets_policies (tenant_id, version, body, created_at, created_by) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (tenant_id, version) DO NOTHING";

pub(crate) const POLICIES_PAGE: &str = "
SELECT version, body, created_at FROM wallets_policies WHERE tenant_id = $1 AND version < $2 ORDER BY version DESC LIMIT $3";

// Requests for money.

pub(crate) const INSERT_REQUEST: &str = "
INSERT INTO wallets_requests (tenant_id, request_id, asker_wallet, payer_wallet, currency, amount_minor, note, status, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, 'open', $8, $9)";

pub(crate) const REQUEST: &str = "
SELECT request_id, asker_wallet, payer_wallet, currency, amount_minor, note, status, transfer_id, created_at, expires_at
FROM wallets_requests WHERE tenant_id = $1 AND request_id = $2";

pub(crate) const REQUESTS_OF_ASKER: &str = "
SELECT request_id, asker_wallet, payer_wallet, currency, amount_minor, note, status, transfer_id, created_at, expires_at
FROM wallets_requests WHERE tenant_id = $1 AND asker_wallet = $2 AND request_id < $3 ORDER BY request_id DESC LIMIT $4";

pub(crate) const REQUESTS_OF_PAYER: &str = "
SELECT request_id, asker_wallet, payer_wallet, currency, amount_minor, note, status, transfer_id, created_at, expires_at
FROM wallets_requests WHERE tenant_id = $1 AND payer_wallet = $2 AND request_id < $3 ORDER BY request_id DESC LIMIT $4";

pub(crate) const END_REQUEST: &str = "
UPDATE wallets_requests SET status = $3, transfer_id = $4 WHERE tenant_id = $1 AND request_id = $2 AND status = 'open'";

// Pay codes.

pub(crate) const INSERT_CODE: &str = "
INSERT INTO wallets_codes (tenant_id, code_id, merchant_wallet, currency, amount_minor, note, status, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, 'open', $7, $8)";

pub(crate) const CODE: &str = "
SELECT code_id, merchant_wallet, currency, amount_minor, note, status, transfer_id, created_at, expires_at
FROM wallets_codes WHERE tenant_id = $1 AND code_id = $2";

pub(crate) const END_CODE: &str = "
UPDATE wallets_codes SET status = $3, transfer_id = $4 WHERE tenant_id = $1 AND code_id = $2 AND status = 'open'";

// Schedules.

pub(crate) const INSERT_SCHEDULE: &str = "
INSERT INTO wallets_schedules (tenant_id, schedule_id, from_wallet, to_wallet, currency, amount_minor, note, every, status, first_at, runs,
  done, failures, last_code, next_at, until_at, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'active', $9, 0, 0, 0, '', $9, $10, $11)";

pub(crate) const SCHEDULE: &str = "
SELECT schedule_id, from_wallet, to_wallet, currency, amount_minor, note, every, status, first_at, runs, done, failures, last_code, next_at,
  until_at, created_at FROM wallets_schedules WHERE tenant_id = $1 AND schedule_id = $2";

pub(crate) const SCHEDULES_PAGE: &str = "
SELECT schedule_id, from_wallet, to_wallet, currency, amount_minor, note, every, status, first_at, runs, done, failures, last_code, next_at,
  until_at, created_at FROM wallets_schedules
WHERE tenant_id = $1 AND from_wallet = $2 AND schedule_id < $3 ORDER BY schedule_id DESC LIMIT $4";

pub(crate) const UPDATE_SCHEDULE: &str = "
UPDATE wallets_schedules SET status = $3, runs = $4, done = $5, failures = $6, last_code = $7, next_at = $8
WHERE tenant_id = $1 AND schedule_id = $2 AND status = 'active'";

// Money from and to the outside.

pub(crate) const INSERT_TOPUP: &str = "
INSERT INTO wallets_topups (tenant_id, intent_id, transfer_id, credited_minor, returned_minor) VALUES ($1, $2, $3, 0, 0)";

pub(crate) const TOPUP: &str =
    "SELECT transfer_id, credited_minor, returned_minor FROM wallets_topups WHERE tenant_id = $1 AND intent_id = $2";

pub(crate) const UPDATE_TOPUP: &str = "
UPDATE wallets_topups SET credited_minor = $3, returned_minor = $4 WHERE tenant_id = $1 AND intent_id = $2";

pub(crate) const INSERT_PAYOUT: &str = "
INSERT INTO wallets_payouts (tenant_id, transfer_id, iban, holder, bank_ref, failure) VALUES ($1, $2, $3, $4, '', '')";

pub(crate) const PAYOUT: &str = "SELECT iban, holder, bank_ref, failure FROM wallets_payouts WHERE tenant_id = $1 AND transfer_id = $2";

pub(crate) const END_PAYOUT: &str = "
UPDATE wallets_payouts SET bank_ref = $3, failure = $4 WHERE tenant_id = $1 AND transfer_id = $2";

/// Withdrawals of a wallet that the bank has not paid yet.
pub(crate) const PAYOUTS_UNDER_WAY: Sql = Sql::per_engine(
    // By the index: SQLite would look through all of the tenant's transfers.
    "
SELECT transfer_id FROM wallets_transfers INDEXED BY wallets_transfers_under_way
WHERE tenant_id = $1 AND from_wallet = $2 AND status = 'pending' ORDER BY transfer_id",
    "
SELECT transfer_id FROM wallets_transfers WHERE tenant_id = $1 AND from_wallet = $2 AND status = 'pending' ORDER BY transfer_id",
);

pub(crate) const INSERT_DEPOSIT: &str = "
INSERT INTO wallets_deposits (tenant_id, reference, transfer_id) VALUES ($1, $2, $3) ON CONFLICT (tenant_id, reference) DO NOTHING";

// Audits.

/// What came to wallets and what left them, by their transfers: everything that is completed; and what is held of them.
pub(crate) const AUDIT_CAME: &str = "
SELECT to_wallet, currency, CAST(SUM(amount_minor - fee_minor) AS BIGINT) FROM wallets_transfers
WHERE tenant_id = $1 AND to_wallet > 0 AND status = 'completed' GROUP BY to_wallet, currency";
pub(crate) const AUDIT_LEFT: &str = "
SELECT from_wallet, currency, CAST(SUM(CASE WHEN status = 'completed' THEN amount_minor ELSE 0 END) AS BIGINT),
  CAST(SUM(CASE WHEN status = 'completed' THEN 0 ELSE amount_minor END) AS BIGINT) FROM wallets_transfers
WHERE tenant_id = $1 AND from_wallet > 0 AND status IN ('completed', 'in_review', 'pending') GROUP BY from_wallet, currency";

pub(crate) const AUDIT_ACCOUNTS: &str = "
SELECT a.wallet_id, a.currency, a.account_id, a.used_day, a.day_minor, a.month_minor, w.kind, w.level, w.level_since, w.created_at
FROM wallets_accounts a JOIN wallets_wallets w ON w.tenant_id = $1 AND w.wallet_id = a.wallet_id WHERE a.tenant_id = $1";

/// What was counted against limits, by day.
pub(crate) const AUDIT_COUNTED: &str = "
SELECT from_wallet, currency, counted_at / 86400000000, CAST(SUM(amount_minor) AS BIGINT) FROM wallets_transfers
WHERE tenant_id = $1 AND counted_at > 0 GROUP BY from_wallet, currency, counted_at / 86400000000";

/// Transfers that wait without an entry, and entries without a transfer that waits.
pub(crate) const AUDIT_UNQUEUED: &str = "
SELECT t.transfer_id FROM wallets_transfers t LEFT JOIN wallets_pending p ON p.tenant_id = $1 AND p.transfer_id = t.transfer_id
WHERE t.tenant_id = $1 AND t.status IN ('challenged', 'in_review')
  AND (p.transfer_id IS NULL OR p.is_open = FALSE OR (t.status = 'in_review') <> (p.waits_for = 'review')) LIMIT 1";
pub(crate) const AUDIT_LEFT_OVER: &str = "
SELECT p.transfer_id FROM wallets_pending p JOIN wallets_transfers t ON t.tenant_id = $1 AND t.transfer_id = p.transfer_id
WHERE p.tenant_id = $1 AND p.is_open = TRUE AND t.status NOT IN ('challenged', 'in_review') LIMIT 1";
pub(crate) const AUDIT_REVIEWS: &str = "
SELECT transfer_id, hold_id FROM wallets_pending WHERE tenant_id = $1 AND waits_for = 'review' AND is_open = TRUE";

/// Every statement of a tenant's scope by its name.
pub(crate) const TENANT_STATEMENTS: &[(&str, Sql)] = &[
    ("PURSES", PURSES),
    ("UPDATE_PURSE", Sql::per_engine(UPDATE_PURSE, UPDATE_PURSE)),
    ("UPDATE_PURSE_SET", UPDATE_PURSE_SET),
    ("INSERT_TRANSFER", INSERT_TRANSFER),
    ("INSERT_TRANSFER_SET", INSERT_TRANSFER_SET),
    ("POLICY_VERSION", Sql::per_engine(POLICY_VERSION, POLICY_VERSION)),
    ("TRANSFER", Sql::per_engine(TRANSFER, TRANSFER)),
    ("TRANSFERS_PAGE", Sql::per_engine(TRANSFERS_PAGE, TRANSFERS_PAGE)),
    ("UPDATE_TRANSFER", UPDATE_TRANSFER),
    ("INSERT_PENDING", Sql::per_engine(INSERT_PENDING, INSERT_PENDING)),
    ("PENDING", Sql::per_engine(PENDING, PENDING)),
    ("CLOSE_PENDING", Sql::per_engine(CLOSE_PENDING, CLOSE_PENDING)),
    ("USE_ATTEMPT", Sql::per_engine(USE_ATTEMPT, USE_ATTEMPT)),
    ("CODES", Sql::per_engine(CODES, CODES)),
    ("SET_CODES", Sql::per_engine(SET_CODES, SET_CODES)),
    ("REVIEWS_PAGE", Sql::per_engine(REVIEWS_PAGE, REVIEWS_PAGE)),
    ("INSERT_WALLET", Sql::per_engine(INSERT_WALLET, INSERT_WALLET)),
    ("UPDATE_WALLET", Sql::per_engine(UPDATE_WALLET, UPDATE_WALLET)),
    ("WALLET", Sql::per_engine(WALLET, WALLET)),
    ("WALLETS_PAGE", Sql::per_engine(WALLETS_PAGE, WALLETS_PAGE)),
    ("WALLETS_OF_OWNER", Sql::per_engine(WALLETS_OF_OWNER, WALLETS_OF_OWNER)),
    ("WALLETS_OF_USER", Sql::per_engine(WALLETS_OF_USER, WALLETS_OF_USER)),
    ("INSERT_ACCOUNT", Sql::per_engine(INSERT_ACCOUNT, INSERT_ACCOUNT)),
    ("ACCOUNTS", Sql::per_engine(ACCOUNTS, ACCOUNTS)),
    ("SET_USED", Sql::per_engine(SET_USED, SET_USED)),
    ("BOOKS", Sql::per_engine(BOOKS, BOOKS)),
    ("INSERT_BOOKS", Sql::per_engine(INSERT_BOOKS, INSERT_BOOKS)),
    ("POLICY", Sql::per_engine(POLICY, POLICY)),
    ("INSERT_POLICY", Sql::per_engine(INSERT_POLICY, INSERT_POLICY)),
    ("POLICIES_PAGE", Sql::per_engine(POLICIES_PAGE, POLICIES_PAGE)),
    ("INSERT_REQUEST", Sql::per_engine(INSERT_REQUEST, INSERT_REQUEST)),
    ("REQUEST", Sql::per_engine(REQUEST, REQUEST)),
    ("REQUESTS_OF_ASKER", Sql::per_engine(REQUESTS_OF_ASKER, REQUESTS_OF_ASKER)),
    ("REQUESTS_OF_PAYER", Sql::per_engine(REQUESTS_OF_PAYER, REQUESTS_OF_PAYER)),
    ("END_REQUEST", Sql::per_engine(END_REQUEST, END_REQUEST)),
    ("INSERT_CODE", Sql::per_engine(INSERT_CODE, INSERT_CODE)),
    ("CODE", Sql::per_engine(CODE, CODE)),
    ("END_CODE", Sql::per_engine(END_CODE, END_CODE)),
    ("INSERT_SCHEDULE", Sql::per_engine(INSERT_SCHEDULE, INSERT_SCHEDULE)),
    ("SCHEDULE", Sql::per_engine(SCHEDULE, SCHEDULE)),
    ("SCHEDULES_PAGE", Sql::per_engine(SCHEDULES_PAGE, SCHEDULES_PAGE)),
    ("UPDATE_SCHEDULE", Sql::per_engine(UPDATE_SCHEDULE, UPDATE_SCHEDULE)),
    ("INSERT_TOPUP", Sql::per_engine(INSERT_TOPUP, INSERT_TOPUP)),
    ("TOPUP", Sql::per_engine(TOPUP, TOPUP)),
    ("UPDATE_TOPUP", Sql::per_engine(UPDATE_TOPUP, UPDATE_TOPUP)),
    ("INSERT_PAYOUT", Sql::per_engine(INSERT_PAYOUT, INSERT_PAYOUT)),
    ("PAYOUT", Sql::per_engine(PAYOUT, PAYOUT)),
    ("END_PAYOUT", Sql::per_engine(END_PAYOUT, END_PAYOUT)),
    ("PAYOUTS_UNDER_WAY", PAYOUTS_UNDER_WAY),
    ("INSERT_DEPOSIT", Sql::per_engine(INSERT_DEPOSIT, INSERT_DEPOSIT)),
    ("AUDIT_CAME", Sql::per_engine(AUDIT_CAME, AUDIT_CAME)),
    ("AUDIT_LEFT", Sql::per_engine(AUDIT_LEFT, AUDIT_LEFT)),
    ("AUDIT_ACCOUNTS", Sql::per_engine(AUDIT_ACCOUNTS, AUDIT_ACCOUNTS)),
    ("AUDIT_COUNTED", Sql::per_engine(AUDIT_COUNTED, AUDIT_COUNTED)),
    ("AUDIT_UNQUEUED", Sql::per_engine(AUDIT_UNQUEUED, AUDIT_UNQUEUED)),
    ("AUDIT_LEFT_OVER", Sql::per_engine(AUDIT_LEFT_OVER, AUDIT_LEFT_OVER)),
    ("AUDIT_REVIEWS", Sql::per_engine(AUDIT_REVIEWS, AUDIT_REVIEWS)),
];
