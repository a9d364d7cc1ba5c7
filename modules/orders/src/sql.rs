//! Every statement of this module. `$1` is the tenant.
//!
//! Where many rows are written at once there is a pair: one row (`X`), run in a tight loop on SQLite, and a set (`X_SET`), one
//! statement on PostgreSQL. A `_SET` holds the one-row text for SQLite only so that both of its texts are valid; see `write.rs`.

use store::Sql;

/// Takes `$3` numbers of kind `$2`; returns the last one.
pub(crate) const TAKE_NUMBERS: &str = "
INSERT INTO orders_counters (tenant_id, kind, last) VALUES ($1, $2, $3)
ON CONFLICT (tenant_id, kind) DO UPDATE SET last = orders_counters.last + excluded.last
RETURNING last";

// Documents.

pub(crate) const INSERT_ORDER: &str = "
INSERT INTO orders_orders (tenant_id, order_id, number, state, version, lines_version, external_ref, customer_id, country, currency,
  line_count, extended_micros, discount_minor, tax_minor, total_minor, credited_minor, placed_at, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)";

/// New orders: at version 1, nothing credited; placed at the largest number there is means not placed. `$15`: now.
pub(crate) const INSERT_ORDER_SET: Sql = Sql::per_engine(
    INSERT_ORDER,
    "
INSERT INTO orders_orders (tenant_id, order_id, number, state, version, lines_version, external_ref, customer_id, country, currency,
  line_count, extended_micros, discount_minor, tax_minor, total_minor, credited_minor, placed_at, created_at, updated_at)
SELECT CAST($1 AS BIGINT), order_id, number, state, 1, 1, NULLIF(external_ref, ''), NULLIF(customer_id, 0), country, currency,
  line_count, extended_micros, discount_minor, tax_minor, total_minor, 0, NULLIF(placed_at, 9223372036854775807), CAST($15 AS BIGINT), CAST($15 AS BIGINT)
FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::text[], $9::bigint[], $10::bigint[], $11::bigint[],
  $12::bigint[], $13::bigint[], $14::bigint[])
  AS t(order_id, number, state, external_ref, customer_id, country, currency, line_count, extended_micros, discount_minor, tax_minor, total_minor, placed_at)",
);

pub(crate) const INSERT_NOTE: &str = "
INSERT INTO orders_notes (tenant_id, kind, note_id, number, external_ref, order_id, customer_id, country, currency, reason,
  line_count, extended_micros, discount_minor, tax_minor, total_minor, issued_at, actor_kind, actor_id, request_id, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)";

pub(crate) const INSERT_LINE: &str = "
INSERT INTO orders_lines (tenant_id, document_id, version, line, kind, sku, variant_id, description, quantity, unit_price_micros,
  extended_micros, discount_minor, tax_minor, included_tax_minor, total_minor)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)";

/// Lines of several documents, all of version `$2`.
pub(crate) const INSERT_LINE_SET: Sql = Sql::per_engine(
    INSERT_LINE,
    "
INSERT INTO orders_lines (tenant_id, document_id, version, line, kind, sku, variant_id, description, quantity, unit_price_micros,
  extended_micros, discount_minor, tax_minor, included_tax_minor, total_minor)
SELECT CAST($1 AS BIGINT), document_id, CAST($2 AS BIGINT), line, kind, sku, NULLIF(variant_id, 0), description, quantity, unit_price_micros,
  extended_micros, discount_minor, tax_minor, included_tax_minor, total_minor
FROM unnest($3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::bigint[], $8::text[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[],
  $13::bigint[], $14::bigint[], $15::bigint[])
  AS t(document_id, line, kind, sku, variant_id, description, quantity, unit_price_micros, extended_micros, discount_minor, tax_minor,
    included_tax_minor, total_minor)",
);

pub(crate) const INSERT_NUMBER: &str = "INSERT INTO orders_numbers (tenant_id, kind, number, document_id) VALUES ($1, $2, $3, $4)";

pub(crate) const INSERT_NUMBER_SET: Sql = Sql::per_engine(
    INSERT_NUMBER,
    "
INSERT INTO orders_numbers (tenant_id, kind, number, document_id)
SELECT CAST($1 AS BIGINT), kind, number, document_id FROM unnest($2::text[], $3::bigint[], $4::bigint[]) AS t(kind, number, document_id)",
);

pub(crate) const INSERT_REF: &str = "
INSERT INTO orders_refs (tenant_id, external_ref, kind, document_id) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";

pub(crate) const INSERT_REF_SET: Sql = Sql::per_engine(
    INSERT_REF,
    "
INSERT INTO orders_refs (tenant_id, external_ref, kind, document_id)
SELECT CAST($1 AS BIGINT), external_ref, kind, document_id FROM unnest($2::text[], $3::text[], $4::bigint[]) AS t(external_ref, kind, document_id)",
);

pub(crate) const INSERT_CHANGE: &str = "
INSERT INTO orders_changes (tenant_id, order_id, version, kind, state, actor_kind, actor_id, reason, change, request_id, changed_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";

/// The first change of new orders.
pub(crate) const INSERT_CHANGE_SET: Sql = Sql::per_engine(
    INSERT_CHANGE,
    "
INSERT INTO orders_changes (tenant_id, order_id, version, kind, state, actor_kind, actor_id, reason, change, request_id, changed_at)
SELECT CAST($1 AS BIGINT), order_id, 1, CAST($2 AS TEXT), state, actor_kind, actor_id, '', '{}', NULLIF(request_id, ''), CAST($3 AS BIGINT)
FROM unnest($4::bigint[], $5::text[], $6::text[], $7::bigint[], $8::text[]) AS t(order_id, state, actor_kind, actor_id, request_id)",
);

/// Writes the whole head under its next version; `$3` is the version that was read.
pub(crate) const UPDATE_ORDER: &str = "
UPDATE orders_orders SET version = $4, state = $5, lines_version = $6, customer_id = $7, country = $8, line_count = $9, extended_micros = $10,
  discount_minor = $11, tax_minor = $12, total_minor = $13, credited_minor = $14, placed_at = $15, updated_at = $16
WHERE tenant_id = $1 AND order_id = $2 AND version = $3";

pub(crate) const INSERT_FULFILMENT: &str = "
INSERT INTO orders_fulfilments (tenant_id, order_id, version, line, quantity) VALUES ($1, $2, $3, $4, $5)";

pub(crate) const ORDER: &str = "
SELECT order_id, number, state, version, lines_version, external_ref, customer_id, country, currency, line_count, extended_micros,
  discount_minor, tax_minor, total_minor, credited_minor, placed_at, created_at, updated_at
FROM orders_orders WHERE tenant_id = $1 AND order_id = $2";

pub(crate) const ORDERS_BY_ID: Sql = Sql::per_engine(
    "
SELECT order_id, number, state, version, lines_version, external_ref, customer_id, country, currency, line_count, extended_micros,
  discount_minor, tax_minor, total_minor, credited_minor, placed_at, created_at, updated_at
FROM orders_orders WHERE tenant_id = $1 AND order_id IN (SELECT value FROM json_each($2))",
    "
SELECT order_id, number, state, version, lines_version, external_ref, customer_id, country, currency, line_count, extended_micros,
  discount_minor, tax_minor, total_minor, credited_minor, placed_at, created_at, updated_at
FROM orders_orders WHERE tenant_id = $1 AND order_id = ANY($2::bigint[])",
);

pub(crate) const ORDERS_PAGE: &str = "
SELECT order_id, number, state, version, lines_version, external_ref, customer_id, country, currency, line_count, extended_micros,
  discount_minor, tax_minor, total_minor, credited_minor, placed_at, created_at, updated_at
FROM orders_orders WHERE tenant_id = $1 AND order_id < $2 ORDER BY order_id DESC LIMIT $3";

pub(crate) const ORDERS_OF_CUSTOMER_PAGE: &str = "
SELECT order_id, number, state, version, lines_version, external_ref, customer_id, country, currency, line_count, extended_micros,
  discount_minor, tax_minor, total_minor, credited_minor, placed_at, created_at, updated_at
FROM orders_orders WHERE tenant_id = $1 AND customer_id = $4 AND order_id < $2 ORDER BY order_id DESC LIMIT $3";

pub(crate) const LINES: &str = "
SELECT line, kind, sku, variant_id, description, quantity, unit_price_micros, extended_micros, discount_minor, tax_minor,
  included_tax_minor, total_minor
FROM orders_lines WHERE tenant_id = $1 AND document_id = $2 AND version = $3 ORDER BY line LIMIT 2000";

/// The version that wrote the lines which version `$3` of a document has.
pub(crate) const LINES_VERSION_AT: &str = "
SELECT CAST(COALESCE(MAX(version), 1) AS BIGINT) FROM orders_lines WHERE tenant_id = $1 AND document_id = $2 AND version <= $3";

pub(crate) const FULFILLED: &str = "
SELECT line, CAST(SUM(quantity) AS BIGINT) FROM orders_fulfilments WHERE tenant_id = $1 AND order_id = $2 GROUP BY line";

pub(crate) const CHANGES_PAGE: &str = "
SELECT version, kind, state, actor_kind, actor_id, reason, change, request_id, changed_at
FROM orders_changes WHERE tenant_id = $1 AND order_id = $2 AND version > $3 ORDER BY version LIMIT $4";

pub(crate) const DOCUMENT_BY_NUMBER: &str = "SELECT document_id FROM orders_numbers WHERE tenant_id = $1 AND kind = $2 AND number = $3";

pub(crate) const DOCUMENT_BY_REF: &str = "SELECT document_id FROM orders_refs WHERE tenant_id = $1 AND external_ref = $3 AND kind = $2";

pub(crate) const NOTE: &str = "
SELECT kind, note_id, number, external_ref, order_id, customer_id, country, currency, reason, line_count, extended_micros,
  discount_minor, tax_minor, total_minor, issued_at, created_at
FROM orders_notes WHERE tenant_id = $1 AND kind = $2 AND note_id = $3";

/// Of those notes of a kind that there are.
pub(crate) const NOTE_TOTALS: Sql = Sql::per_engine(
    "SELECT note_id, currency, total_minor FROM orders_notes WHERE tenant_id = $1 AND kind = $2 AND note_id IN (SELECT value FROM json_each($3))",
    "SELECT note_id, currency, total_minor FROM orders_notes WHERE tenant_id = $1 AND kind = $2 AND note_id = ANY($3::bigint[])",
);

pub(crate) const NOTES_PAGE: &str = "
SELECT kind, note_id, number, external_ref, order_id, customer_id, country, currency, reason, line_count, extended_micros,
  discount_minor, tax_minor, total_minor, issued_at, created_at
FROM orders_notes WHERE tenant_id = $1 AND kind = $2 AND note_id < $3 ORDER BY note_id DESC LIMIT $4";

pub(crate) const NOTES_OF_ORDER_PAGE: &str = "
SELECT kind, note_id, number, external_ref, order_id, customer_id, country, currency, reason, line_count, extended_micros,
  discount_minor, tax_minor, total_minor, issued_at, created_at
FROM orders_notes WHERE tenant_id = $1 AND order_id = $5 AND kind = $2 AND note_id < $3 ORDER BY note_id DESC LIMIT $4";

pub(crate) const HAS_CREDIT_NOTES: &str = "SELECT note_id FROM orders_notes WHERE tenant_id = $1 AND order_id = $2 LIMIT 1";

/// Which of the external references `$2` are there.
pub(crate) const KNOWN_REFS: Sql = Sql::per_engine(
    "SELECT external_ref FROM orders_refs WHERE tenant_id = $1 AND external_ref IN (SELECT value FROM json_each($2))",
    "SELECT external_ref FROM orders_refs WHERE tenant_id = $1 AND external_ref = ANY($2::text[])",
);

// Customers.

pub(crate) const INSERT_CUSTOMER: &str = "
INSERT INTO orders_customers (tenant_id, customer_id, external_ref, name, email, country, version, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, 1, $7, $7) ON CONFLICT DO NOTHING";

pub(crate) const INSERT_CUSTOMER_SET: Sql = Sql::per_engine(
    INSERT_CUSTOMER,
    "
INSERT INTO orders_customers (tenant_id, customer_id, external_ref, name, email, country, version, created_at, updated_at)
SELECT CAST($1 AS BIGINT), customer_id, external_ref, name, NULLIF(email, ''), country, 1, CAST($7 AS BIGINT), CAST($7 AS BIGINT)
FROM unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[]) AS t(customer_id, external_ref, name, email, country)",
);

/// `$4` is the version that was read.
pub(crate) const UPDATE_CUSTOMER: &str = "
UPDATE orders_customers SET version = $4, external_ref = $5, name = $6, email = $7, country = $8, updated_at = $9
WHERE tenant_id = $1 AND customer_id = $2 AND version = $3";

pub(crate) const CUSTOMER: &str = "
SELECT customer_id, external_ref, name, email, country, version, created_at, updated_at
FROM orders_customers WHERE tenant_id = $1 AND customer_id = $2";

pub(crate) const KNOWN_CUSTOMERS: Sql = Sql::per_engine(
    "SELECT customer_id FROM orders_customers WHERE tenant_id = $1 AND customer_id IN (SELECT value FROM json_each($2))",
    "SELECT customer_id FROM orders_customers WHERE tenant_id = $1 AND customer_id = ANY($2::bigint[])",
);

pub(crate) const CUSTOMER_BY_REF: &str = "SELECT customer_id FROM orders_customers WHERE tenant_id = $1 AND external_ref = $2";

pub(crate) const CUSTOMERS_BY_REFS: Sql = Sql::per_engine(
    "SELECT external_ref, customer_id FROM orders_customers WHERE tenant_id = $1 AND external_ref IN (SELECT value FROM json_each($2))",
    "SELECT external_ref, customer_id FROM orders_customers WHERE tenant_id = $1 AND external_ref = ANY($2::text[])",
);

pub(crate) const CUSTOMERS_PAGE: &str = "
SELECT customer_id, external_ref, name, email, country, version, created_at, updated_at
FROM orders_customers WHERE tenant_id = $1 AND customer_id < $2 ORDER BY customer_id DESC LIMIT $3";

pub(crate) const ADDRESSES: &str = "
SELECT address_id, label, recipient, line1, line2, city, region, postal_code, country, phone
FROM orders_addresses WHERE tenant_id = $1 AND customer_id = $2 ORDER BY address_id LIMIT 20";

pub(crate) const INSERT_ADDRESS: &str = "
INSERT INTO orders_addresses (tenant_id, customer_id, address_id, label, recipient, line1, line2, city, region, postal_code, country, phone)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";

pub(crate) const UPDATE_ADDRESS: &str = "
UPDATE orders_addresses SET label = $4, recipient = $5, line1 = $6, line2 = $7, city = $8, region = $9, postal_code = $10, country = $11, phone = $12
WHERE tenant_id = $1 AND customer_id = $2 AND address_id = $3";

pub(crate) const DELETE_ADDRESS: &str = "DELETE FROM orders_addresses WHERE tenant_id = $1 AND customer_id = $2 AND address_id = $3";

// The daily sales projection.

pub(crate) const ADD_SALES: &str = "
INSERT INTO orders_daily_sales (tenant_id, day, sku, country, currency, lines, quantity, extended_micros, total_minor)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (tenant_id, day, sku, country, currency) DO UPDATE SET lines = orders_daily_sales.lines + excluded.lines,
  quantity = orders_daily_sales.quantity + excluded.quantity, extended_micros = orders_daily_sales.extended_micros + excluded.extended_micros,
  total_minor = orders_daily_sales.total_minor + excluded.total_minor";

pub(crate) const ADD_SALES_SET: Sql = Sql::per_engine(
    ADD_SALES,
    "
INSERT INTO orders_daily_sales (tenant_id, day, sku, country, currency, lines, quantity, extended_micros, total_minor)
SELECT CAST($1 AS BIGINT), day, sku, country, currency, lines, quantity, extended_micros, total_minor
FROM unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[])
  AS t(day, sku, country, currency, lines, quantity, extended_micros, total_minor)
ON CONFLICT (tenant_id, day, sku, country, currency) DO UPDATE SET lines = orders_daily_sales.lines + excluded.lines,
  quantity = orders_daily_sales.quantity + excluded.quantity, extended_micros = orders_daily_sales.extended_micros + excluded.extended_micros,
  total_minor = orders_daily_sales.total_minor + excluded.total_minor",
);

/// Every tenant's of a shard: the one statement on the platform's scope.
pub(crate) const RESET_SALES: &str = "DELETE FROM orders_daily_sales";

pub(crate) const SALES_BY_DAY: &str = "
SELECT day, currency, CAST(SUM(lines) AS BIGINT), CAST(SUM(quantity) AS BIGINT), CAST(SUM(extended_micros) AS BIGINT), CAST(SUM(total_minor) AS BIGINT)
FROM orders_daily_sales WHERE tenant_id = $1 AND day >= $2 AND day <= $3 AND (day, currency) > ($4, $5)
GROUP BY day, currency ORDER BY day, currency LIMIT $6";

pub(crate) const SALES_BY_PRODUCT: &str = "
SELECT sku, currency, CAST(SUM(lines) AS BIGINT), CAST(SUM(quantity) AS BIGINT), CAST(SUM(extended_micros) AS BIGINT), CAST(SUM(total_minor) AS BIGINT)
FROM orders_daily_sales WHERE tenant_id = $1 AND day >= $2 AND day <= $3 AND (sku, currency) > ($4, $5)
GROUP BY sku, currency ORDER BY sku, currency LIMIT $6";

pub(crate) const SALES_BY_COUNTRY: &str = "
SELECT country, currency, CAST(SUM(lines) AS BIGINT), CAST(SUM(quantity) AS BIGINT), CAST(SUM(extended_micros) AS BIGINT), CAST(SUM(total_minor) AS BIGINT)
FROM orders_daily_sales WHERE tenant_id = $1 AND day >= $2 AND day <= $3 AND (country, currency) > ($4, $5)
GROUP BY country, currency ORDER BY country, currency LIMIT $6";

pub(crate) const SALES_TOTALS: &str = "
SELECT currency, CAST(SUM(lines) AS BIGINT), CAST(SUM(quantity) AS BIGINT), CAST(SUM(extended_micros) AS BIGINT), CAST(SUM(total_minor) AS BIGINT)
FROM orders_daily_sales WHERE tenant_id = $1 AND day >= $2 AND day <= $3 GROUP BY currency ORDER BY currency";

// Counting what is stored. Drafts and cancelled orders count as documents, and not as sales.

/// Kind, state class, documents, lines, exact and rounded sums out of the heads.
pub(crate) const COUNT_DOCUMENTS: &str = "
SELECT kind, CAST(COUNT(*) AS BIGINT), CAST(SUM(line_count) AS BIGINT), CAST(SUM(extended_micros) AS BIGINT), CAST(SUM(total_minor) AS BIGINT)
FROM (
  SELECT 'order' AS kind, line_count, extended_micros, total_minor FROM orders_orders
  WHERE tenant_id = $1 AND state IN ('placed', 'partly_fulfilled', 'fulfilled', 'closed')
  UNION ALL
  SELECT kind, line_count, extended_micros, total_minor FROM orders_notes WHERE tenant_id = $1
) AS documents GROUP BY kind ORDER BY kind";

/// Lines, distinct SKUs, exact and rounded sums out of the lines themselves.
pub(crate) const COUNT_LINES: &str = "
SELECT CAST(COUNT(*) AS BIGINT), CAST(COUNT(DISTINCT sku) AS BIGINT), CAST(COALESCE(SUM(extended_micros), 0) AS BIGINT),
  CAST(COALESCE(SUM(total_minor), 0) AS BIGINT)
FROM (
  SELECT l.sku, l.extended_micros, l.total_minor FROM orders_orders o
  JOIN orders_lines l ON l.tenant_id = $1 AND l.document_id = o.order_id AND l.version = o.lines_version
  WHERE o.tenant_id = $1 AND o.state IN ('placed', 'partly_fulfilled', 'fulfilled', 'closed')
  UNION ALL
  SELECT l.sku, l.extended_micros, l.total_minor FROM orders_notes n
  JOIN orders_lines l ON l.tenant_id = $1 AND l.document_id = n.note_id AND l.version = 1
  WHERE n.tenant_id = $1
) AS lines";

pub(crate) const COUNT_CUSTOMERS: &str = "SELECT CAST(COUNT(*) AS BIGINT) FROM orders_customers WHERE tenant_id = $1";

pub(crate) const COUNT_BY_COUNTRY: &str = "
SELECT country, currency, CAST(SUM(line_count) AS BIGINT), CAST(SUM(extended_micros) AS BIGINT), CAST(SUM(total_minor) AS BIGINT)
FROM (
  SELECT country, currency, line_count, extended_micros, total_minor FROM orders_orders
  WHERE tenant_id = $1 AND state IN ('placed', 'partly_fulfilled', 'fulfilled', 'closed')
  UNION ALL
  SELECT country, currency, line_count, extended_micros, total_minor FROM orders_notes WHERE tenant_id = $1
) AS documents GROUP BY country, currency ORDER BY country, currency LIMIT 1000";

// Audits: each counts what is wrong, and what was looked at.

pub(crate) const AUDIT_ORDER_TOTALS: &str = "
SELECT CAST(COUNT(*) AS BIGINT), CAST(COALESCE(SUM(wrong), 0) AS BIGINT) FROM (
  SELECT CASE WHEN COUNT(l.line) = o.line_count AND COALESCE(SUM(l.total_minor), 0) = o.total_minor AND COALESCE(SUM(l.tax_minor), 0) = o.tax_minor
    AND COALESCE(SUM(l.discount_minor), 0) = o.discount_minor AND COALESCE(SUM(l.extended_micros), 0) = o.extended_micros THEN 0 ELSE 1 END AS wrong
  FROM orders_orders o
  LEFT JOIN orders_lines l ON l.tenant_id = $1 AND l.document_id = o.order_id AND l.version = o.lines_version
  WHERE o.tenant_id = $1
  GROUP BY o.order_id, o.line_count, o.total_minor, o.tax_minor, o.discount_minor, o.extended_micros
) AS checked";

pub(crate) const AUDIT_NOTE_TOTALS: &str = "
SELECT CAST(COUNT(*) AS BIGINT), CAST(COALESCE(SUM(wrong), 0) AS BIGINT) FROM (
  SELECT CASE WHEN COUNT(l.line) > 0 AND COUNT(l.line) = n.line_count AND COALESCE(SUM(l.total_minor), 0) = n.total_minor
    AND COALESCE(SUM(l.extended_micros), 0) = n.extended_micros THEN 0 ELSE 1 END AS wrong
  FROM orders_notes n
  LEFT JOIN orders_lines l ON l.tenant_id = $1 AND l.document_id = n.note_id AND l.version = 1
  WHERE n.tenant_id = $1
  GROUP BY n.kind, n.note_id, n.line_count, n.total_minor, n.extended_micros
) AS checked";

/// Documents whose number is missing from the list of numbers or given to another, counted with repeated numbers.
pub(crate) const AUDIT_NUMBERS: &str = "
SELECT CAST(COUNT(*) AS BIGINT), CAST(COALESCE(SUM(CASE WHEN k.document_id = d.document_id AND d.number <= c.last THEN 0 ELSE 1 END), 0) AS BIGINT)
FROM (
  SELECT 'order' AS kind, number, order_id AS document_id FROM orders_orders WHERE tenant_id = $1
  UNION ALL
  SELECT kind, number, note_id FROM orders_notes WHERE tenant_id = $1
) AS d
LEFT JOIN orders_numbers k ON k.tenant_id = $1 AND k.kind = d.kind AND k.number = d.number
LEFT JOIN orders_counters c ON c.tenant_id = $1 AND c.kind = d.kind";

/// Orders whose latest change is missing, tells of another state, or is not the last.
pub(crate) const AUDIT_STATES: &str = "
SELECT CAST(COUNT(*) AS BIGINT), CAST(COALESCE(SUM(CASE WHEN c.state = o.state AND later.version IS NULL THEN 0 ELSE 1 END), 0) AS BIGINT)
FROM orders_orders o
LEFT JOIN orders_changes c ON c.tenant_id = $1 AND c.order_id = o.order_id AND c.version = o.version
LEFT JOIN orders_changes later ON later.tenant_id = $1 AND later.order_id = o.order_id AND later.version = o.version + 1
WHERE o.tenant_id = $1";

/// Orders whose credit notes do not add up to what the order says was credited, the two added up with opposite signs.
pub(crate) const AUDIT_CREDITS: &str = "
SELECT CAST(COUNT(*) AS BIGINT), CAST(COALESCE(SUM(CASE WHEN difference = 0 THEN 0 ELSE 1 END), 0) AS BIGINT) FROM (
  SELECT SUM(credited) AS difference FROM (
    SELECT order_id, credited_minor AS credited FROM orders_orders WHERE tenant_id = $1
    UNION ALL
    SELECT order_id, -total_minor FROM orders_notes WHERE tenant_id = $1 AND order_id IS NOT NULL
  ) AS both_sides
  GROUP BY order_id
) AS compared";

/// Days, SKUs and countries for which the projection differs from the documents. The two sides are added up with opposite signs.
pub(crate) const AUDIT_DAILY_SALES: &str = "
SELECT CAST(COUNT(*) AS BIGINT), CAST(COALESCE(SUM(CASE WHEN lines = 0 AND quantity = 0 AND extended_micros = 0 AND total_minor = 0 THEN 0 ELSE 1 END), 0) AS BIGINT)
FROM (
  SELECT SUM(lines) AS lines, SUM(quantity) AS quantity, SUM(extended_micros) AS extended_micros, SUM(total_minor) AS total_minor
  FROM (
    SELECT day, sku, country, currency, lines, quantity, extended_micros, total_minor FROM orders_daily_sales WHERE tenant_id = $1
    UNION ALL
    SELECT o.placed_at / 86400000000, l.sku, o.country, o.currency, -1, -l.quantity, -l.extended_micros, -l.total_minor FROM orders_orders o
    JOIN orders_lines l ON l.tenant_id = $1 AND l.document_id = o.order_id AND l.version = o.lines_version
    WHERE o.tenant_id = $1 AND o.state IN ('placed', 'partly_fulfilled', 'fulfilled', 'closed')
    UNION ALL
    SELECT n.issued_at / 86400000000, l.sku, n.country, n.currency, -1, -l.quantity, -l.extended_micros, -l.total_minor FROM orders_notes n
    JOIN orders_lines l ON l.tenant_id = $1 AND l.document_id = n.note_id AND l.version = 1
    WHERE n.tenant_id = $1
  ) AS both_sides
  GROUP BY day, sku, country, currency
) AS compared";

/// Every statement of a tenant's scope by its name, for tests that prepare each on both engines.
pub(crate) const TENANT_STATEMENTS: &[(&str, Sql)] = &[
    ("TAKE_NUMBERS", Sql::per_engine(TAKE_NUMBERS, TAKE_NUMBERS)),
    ("INSERT_ORDER", Sql::per_engine(INSERT_ORDER, INSERT_ORDER)),
    ("INSERT_ORDER_SET", INSERT_ORDER_SET),
    ("ORDERS_BY_ID", ORDERS_BY_ID),
    ("INSERT_NOTE", Sql::per_engine(INSERT_NOTE, INSERT_NOTE)),
    ("INSERT_LINE", Sql::per_engine(INSERT_LINE, INSERT_LINE)),
    ("INSERT_LINE_SET", INSERT_LINE_SET),
    ("INSERT_NUMBER", Sql::per_engine(INSERT_NUMBER, INSERT_NUMBER)),
    ("INSERT_NUMBER_SET", INSERT_NUMBER_SET),
    ("INSERT_REF", Sql::per_engine(INSERT_REF, INSERT_REF)),
    ("INSERT_REF_SET", INSERT_REF_SET),
    ("INSERT_CHANGE", Sql::per_engine(INSERT_CHANGE, INSERT_CHANGE)),
    ("INSERT_CHANGE_SET", INSERT_CHANGE_SET),
    ("UPDATE_ORDER", Sql::per_engine(UPDATE_ORDER, UPDATE_ORDER)),
    ("INSERT_FULFILMENT", Sql::per_engine(INSERT_FULFILMENT, INSERT_FULFILMENT)),
    ("ORDER", Sql::per_engine(ORDER, ORDER)),
    ("ORDERS_PAGE", Sql::per_engine(ORDERS_PAGE, ORDERS_PAGE)),
    ("ORDERS_OF_CUSTOMER_PAGE", Sql::per_engine(ORDERS_OF_CUSTOMER_PAGE, ORDERS_OF_CUSTOMER_PAGE)),
    ("LINES", Sql::per_engine(LINES, LINES)),
    ("LINES_VERSION_AT", Sql::per_engine(LINES_VERSION_AT, LINES_VERSION_AT)),
    ("FULFILLED", Sql::per_engine(FULFILLED, FULFILLED)),
    ("CHANGES_PAGE", Sql::per_engine(CHANGES_PAGE, CHANGES_PAGE)),
    ("DOCUMENT_BY_NUMBER", Sql::per_engine(DOCUMENT_BY_NUMBER, DOCUMENT_BY_NUMBER)),
    ("DOCUMENT_BY_REF", Sql::per_engine(DOCUMENT_BY_REF, DOCUMENT_BY_REF)),
    ("NOTE", Sql::per_engine(NOTE, NOTE)),
    ("NOTE_TOTALS", NOTE_TOTALS),
    ("NOTES_PAGE", Sql::per_engine(NOTES_PAGE, NOTES_PAGE)),
    ("NOTES_OF_ORDER_PAGE", Sql::per_engine(NOTES_OF_ORDER_PAGE, NOTES_OF_ORDER_PAGE)),
    ("HAS_CREDIT_NOTES", Sql::per_engine(HAS_CREDIT_NOTES, HAS_CREDIT_NOTES)),
    ("KNOWN_REFS", KNOWN_REFS),
    ("INSERT_CUSTOMER", Sql::per_engine(INSERT_CUSTOMER, INSERT_CUSTOMER)),
    ("INSERT_CUSTOMER_SET", INSERT_CUSTOMER_SET),
    ("UPDATE_CUSTOMER", Sql::per_engine(UPDATE_CUSTOMER, UPDATE_CUSTOMER)),
    ("CUSTOMER", Sql::per_engine(CUSTOMER, CUSTOMER)),
    ("KNOWN_CUSTOMERS", KNOWN_CUSTOMERS),
    ("CUSTOMER_BY_REF", Sql::per_engine(CUSTOMER_BY_REF, CUSTOMER_BY_REF)),
    ("CUSTOMERS_BY_REFS", CUSTOMERS_BY_REFS),
    ("CUSTOMERS_PAGE", Sql::per_engine(CUSTOMERS_PAGE, CUSTOMERS_PAGE)),
    ("ADDRESSES", Sql::per_engine(ADDRESSES, ADDRESSES)),
    ("INSERT_ADDRESS", Sql::per_engine(INSERT_ADDRESS, INSERT_ADDRESS)),
    ("UPDATE_ADDRESS", Sql::per_engine(UPDATE_ADDRESS, UPDATE_ADDRESS)),
    ("DELETE_ADDRESS", Sql::per_engine(DELETE_ADDRESS, DELETE_ADDRESS)),
    ("ADD_SALES", Sql::per_engine(ADD_SALES, ADD_SALES)),
    ("ADD_SALES_SET", ADD_SALES_SET),
    ("SALES_BY_DAY", Sql::per_engine(SALES_BY_DAY, SALES_BY_DAY)),
    ("SALES_BY_PRODUCT", Sql::per_engine(SALES_BY_PRODUCT, SALES_BY_PRODUCT)),
    ("SALES_BY_COUNTRY", Sql::per_engine(SALES_BY_COUNTRY, SALES_BY_COUNTRY)),
    ("SALES_TOTALS", Sql::per_engine(SALES_TOTALS, SALES_TOTALS)),
    ("COUNT_DOCUMENTS", Sql::per_engine(COUNT_DOCUMENTS, COUNT_DOCUMENTS)),
    ("COUNT_LINES", Sql::per_engine(COUNT_LINES, COUNT_LINES)),
    ("COUNT_CUSTOMERS", Sql::per_engine(COUNT_CUSTOMERS, COUNT_CUSTOMERS)),
    ("COUNT_BY_COUNTRY", Sql::per_engine(COUNT_BY_COUNTRY, COUNT_BY_COUNTRY)),
    ("AUDIT_ORDER_TOTALS", Sql::per_engine(AUDIT_ORDER_TOTALS, AUDIT_ORDER_TOTALS)),
    ("AUDIT_NOTE_TOTALS", Sql::per_engine(AUDIT_NOTE_TOTALS, AUDIT_NOTE_TOTALS)),
    ("AUDIT_NUMBERS", Sql::per_engine(AUDIT_NUMBERS, AUDIT_NUMBERS)),
    ("AUDIT_STATES", Sql::per_engine(AUDIT_STATES, AUDIT_STATES)),
    ("AUDIT_CREDITS", Sql::per_engine(AUDIT_CREDITS, AUDIT_CREDITS)),
    ("AUDIT_DAILY_SALES", Sql::per_engine(AUDIT_DAILY_SALES, AUDIT_DAILY_SALES)),
];
