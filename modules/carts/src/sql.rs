//! Every statement of this module, and how rows are read. `$1` is the tenant.

use crate::model::{Cart, Destination, Line, Settings, Status};
use kernel::{Error, Result};
use store::{FromRow, FromValue, Row, ToValue, Value, ValueRef};

/// A cart's own row with the tenant's settings; what follows is a condition.
macro_rules! heads {
    ($rest:literal) => {
        concat!(
            "SELECT c.cart_id, c.customer_id, c.status, c.currency, c.email, c.destination, c.shipping_method, c.coupons, c.lines, c.version,
  c.attempts, c.order_id, c.merged_into, c.created_at, c.changed_at, c.expires_at, c.abandoned_at, s.guest_days, s.customer_days,
  s.abandoned_after_minutes, c.tokens
FROM carts_carts c LEFT JOIN carts_settings s ON s.tenant_id = $1 WHERE c.tenant_id = $1 ",
            $rest
        )
    };
}

/// One cart.
pub(crate) const CART: &str = heads!("AND c.cart_id = $2");

/// A customer's cart that is not over.
pub(crate) const CART_OF_CUSTOMER: &str =
    heads!("AND c.customer_id = $2 AND c.customer_id IS NOT NULL AND c.status IN ('open', 'abandoned', 'checking_out')");

/// A page of carts, the newest first. Arguments: before this id, limit.
pub(crate) const CARTS: &str = heads!("AND c.cart_id < $2 ORDER BY c.cart_id DESC LIMIT $3");

/// The same where they stand so. Arguments: before this id, limit, status.
pub(crate) const CARTS_IN_STATUS: &str = heads!("AND c.status = $4 AND c.cart_id < $2 ORDER BY c.cart_id DESC LIMIT $3");

/// The same of a customer, who has few. Arguments: before this id, limit, customer, status or null.
pub(crate) const CARTS_OF_CUSTOMER: &str = heads!(
    "AND c.customer_id = $4 AND c.customer_id IS NOT NULL AND c.cart_id < $2 AND c.status = COALESCE(CAST($5 AS TEXT), c.status)
ORDER BY c.cart_id DESC LIMIT $3"
);

/// Carts that the sweep has to look at, the longest due first. Arguments: now, limit.
pub(crate) const DUE: &str = heads!("AND c.next_at <= $2 ORDER BY c.next_at LIMIT $3");

/// When the sweep has to look next.
pub(crate) const NEXT_DUE: &str = "SELECT MIN(next_at) FROM carts_carts WHERE tenant_id = $1";

/// A cart's lines, at most as many as one may have.
pub(crate) const LINES: &str = "SELECT variant_id, quantity, title, unit_price_micros, place FROM carts_lines
WHERE tenant_id = $1 AND cart_id = $2 ORDER BY place, variant_id LIMIT 500";

pub(crate) const INSERT_CART: &str =
    "INSERT INTO carts_carts (tenant_id, cart_id, customer_id, tokens, status, currency, email, destination,
  shipping_method, coupons, lines, version, attempts, created_at, changed_at, expires_at, next_at)
VALUES ($1, $2, $3, $4, 'open', $5, $6, $7, $8, $9, $10, 1, 0, $11, $11, $12, $13)";

/// Writes a change of the version that was read.
pub(crate) const UPDATE_CART: &str =
    "UPDATE carts_carts SET status = 'open', email = $4, destination = $5, shipping_method = $6, coupons = $7,
  lines = $8, version = version + 1, changed_at = $9, expires_at = $10
WHERE tenant_id = $1 AND cart_id = $2 AND version = $3 AND status IN ('open', 'abandoned')";

pub(crate) const SET_TOKENS: &str = "UPDATE carts_carts SET tokens = $3 WHERE tenant_id = $1 AND cart_id = $2";

pub(crate) const PUT_LINE: &str = "INSERT INTO carts_lines (tenant_id, cart_id, variant_id, place, quantity, title, unit_price_micros)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (tenant_id, cart_id, variant_id) DO UPDATE SET place = excluded.place, quantity = excluded.quantity, title = excluded.title,
  unit_price_micros = excluded.unit_price_micros";

pub(crate) const DELETE_LINE: &str = "DELETE FROM carts_lines WHERE tenant_id = $1 AND cart_id = $2 AND variant_id = $3";

pub(crate) const DELETE_LINES: &str = "DELETE FROM carts_lines WHERE tenant_id = $1 AND cart_id = $2";

pub(crate) const DELETE_CART: &str = "DELETE FROM carts_carts WHERE tenant_id = $1 AND cart_id = $2";

/// Arguments: cart, version.
pub(crate) const BEGIN_CHECKOUT: &str = "UPDATE carts_carts SET status = 'checking_out', attempts = attempts + 1
WHERE tenant_id = $1 AND cart_id = $2 AND version = $3 AND status IN ('open', 'abandoned')";

/// Also when it is this order already. Arguments: cart, order, when it is forgotten.
pub(crate) const ORDERED: &str = "UPDATE carts_carts SET status = 'ordered', order_id = $3, next_at = $4
WHERE tenant_id = $1 AND cart_id = $2 AND status IN ('checking_out', 'ordered') AND COALESCE(order_id, $3) = $3";

/// Arguments: cart, attempt, now, the soonest expiry.
pub(crate) const REOPEN: &str = "UPDATE carts_carts SET status = 'open', changed_at = $4,
  expires_at = CASE WHEN expires_at < $5 THEN $5 ELSE expires_at END
WHERE tenant_id = $1 AND cart_id = $2 AND attempts = $3 AND status = 'checking_out'";

/// Arguments: cart, the cart that it went into, when it is forgotten.
pub(crate) const MERGED: &str = "UPDATE carts_carts SET status = 'merged', merged_into = $3, next_at = $4
WHERE tenant_id = $1 AND cart_id = $2 AND status IN ('open', 'abandoned')";

/// Arguments: cart, now, when to look again.
pub(crate) const ABANDON: &str = "UPDATE carts_carts SET status = 'abandoned', abandoned_at = $3, next_at = $4
WHERE tenant_id = $1 AND cart_id = $2";

/// Arguments: cart, when it is forgotten. What it told of a person is removed with its lines.
pub(crate) const EXPIRE: &str = "UPDATE carts_carts SET status = 'expired', email = NULL, destination = NULL, shipping_method = NULL,
  coupons = '[]', lines = 0, next_at = $3
WHERE tenant_id = $1 AND cart_id = $2";

pub(crate) const LOOK_AGAIN: &str = "UPDATE carts_carts SET next_at = $3 WHERE tenant_id = $1 AND cart_id = $2";

pub(crate) const SETTINGS: &str =
    "SELECT guest_days, customer_days, abandoned_after_minutes, version FROM carts_settings WHERE tenant_id = $1";

pub(crate) const PUT_SETTINGS: &str =
    "INSERT INTO carts_settings (tenant_id, guest_days, customer_days, abandoned_after_minutes, version) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (tenant_id) DO UPDATE SET guest_days = excluded.guest_days, customer_days = excluded.customer_days,
  abandoned_after_minutes = excluded.abandoned_after_minutes, version = excluded.version";

/// Audit: carts, and how many count their lines wrong. A merged cart keeps its lines.
pub(crate) const AUDIT_LINES: &str = "SELECT COUNT(*), COUNT(CASE WHEN c.lines <>
  (SELECT COUNT(*) FROM carts_lines l WHERE l.tenant_id = $1 AND l.cart_id = c.cart_id) THEN 1 END)
FROM carts_carts c WHERE c.tenant_id = $1";

/// Audit: lines, how many are out of bounds, and how many have no cart.
pub(crate) const AUDIT_QUANTITIES: &str = "SELECT COUNT(*), COUNT(CASE WHEN l.quantity < 1 OR l.quantity > 1000000 THEN 1 END),
  COUNT(CASE WHEN c.cart_id IS NULL THEN 1 END)
FROM carts_lines l LEFT JOIN carts_carts c ON c.tenant_id = $1 AND c.cart_id = l.cart_id WHERE l.tenant_id = $1";

/// Audit: carts, and how many say of themselves what can't be.
pub(crate) const AUDIT_STATES: &str = "SELECT COUNT(*), COUNT(CASE WHEN (c.status = 'ordered') <> (c.order_id IS NOT NULL)
  OR (c.status = 'merged') <> (c.merged_into IS NOT NULL) OR (c.status = 'abandoned' AND c.abandoned_at IS NULL)
  OR c.lines > 500 OR c.status NOT IN ('open', 'abandoned', 'checking_out', 'ordered', 'expired', 'merged') THEN 1 END)
FROM carts_carts c WHERE c.tenant_id = $1";

/// Audit: customers with a cart that is not over, and such carts.
pub(crate) const AUDIT_CUSTOMERS: &str = "SELECT COUNT(DISTINCT customer_id), COUNT(*) FROM carts_carts
WHERE tenant_id = $1 AND customer_id IS NOT NULL AND status IN ('open', 'abandoned', 'checking_out')";

/// All of them, for tests that prepare each on both engines.
pub(crate) const STATEMENTS: &[(&str, &str)] = &[
    ("CART", CART),
    ("CART_OF_CUSTOMER", CART_OF_CUSTOMER),
    ("CARTS", CARTS),
    ("CARTS_IN_STATUS", CARTS_IN_STATUS),
    ("CARTS_OF_CUSTOMER", CARTS_OF_CUSTOMER),
    ("DUE", DUE),
    ("NEXT_DUE", NEXT_DUE),
    ("LINES", LINES),
    ("INSERT_CART", INSERT_CART),
    ("UPDATE_CART", UPDATE_CART),
    ("SET_TOKENS", SET_TOKENS),
    ("PUT_LINE", PUT_LINE),
    ("DELETE_LINE", DELETE_LINE),
    ("DELETE_LINES", DELETE_LINES),
    ("DELETE_CART", DELETE_CART),
    ("BEGIN_CHECKOUT", BEGIN_CHECKOUT),
    ("ORDERED", ORDERED),
    ("REOPEN", REOPEN),
    ("MERGED", MERGED),
    ("ABANDON", ABANDON),
    ("EXPIRE", EXPIRE),
    ("LOOK_AGAIN", LOOK_AGAIN),
    ("SETTINGS", SETTINGS),
    ("PUT_SETTINGS", PUT_SETTINGS),
    ("AUDIT_LINES", AUDIT_LINES),
    ("AUDIT_QUANTITIES", AUDIT_QUANTITIES),
    ("AUDIT_STATES", AUDIT_STATES),
    ("AUDIT_CUSTOMERS", AUDIT_CUSTOMERS),
];

impl ToValue for Status {
    fn to_value(&self) -> Value<'_> {
        Value::Text(self.as_str().into())
    }
}

impl FromValue for Status {
    fn from_value(value: ValueRef<'_>) -> Result<Self> {
        let known = Status::ALL.into_iter().find(|status| value == ValueRef::Text(status.as_str()));
        known.ok_or_else(|| Error::internal("a cart has an unknown status"))
    }
}

/// Coupon codes as they are stored.
pub(crate) fn coupons_to_json(coupons: &[String]) -> String {
    serde_json::to_string(coupons).expect("codes are plain strings")
}

/// A destination as it is stored.
pub(crate) fn destination_to_json(destination: Option<&Destination>) -> Option<String> {
    destination.map(|destination| serde_json::to_string(destination).expect("a destination is plain strings"))
}

fn from_json<T: serde::de::DeserializeOwned>(json: &str) -> Result<T> {
    serde_json::from_str(json).map_err(|e| Error::internal("what is stored of a cart is not of its form").caused_by(e))
}

/// A cart's own row, without its lines.
pub(crate) struct Head {
    pub cart: Cart,
    /// The hashes of its tokens, one after the other.
    pub tokens: Vec<u8>,
}

impl FromRow for Head {
    fn from_row(row: &dyn Row) -> Result<Self> {
        let usual = Settings::default();
        let cart = Cart {
            cart_id: row.get(0)?,
            customer_id: row.get(1)?,
            status: row.get(2)?,
            currency: row.get(3)?,
            email: row.get(4)?,
            destination: row.get::<Option<String>>(5)?.as_deref().map(from_json).transpose()?,
            shipping_method: row.get(6)?,
            coupons: from_json(&row.get::<String>(7)?)?,
            line_count: row.get(8)?,
            lines: Vec::new(),
            version: row.get(9)?,
            attempts: row.get(10)?,
            order_id: row.get(11)?,
            merged_into: row.get(12)?,
            created_at: row.get(13)?,
            changed_at: row.get(14)?,
            expires_at: row.get(15)?,
            abandoned_at: row.get(16)?,
            kept: Settings {
                guest_days: row.get::<Option<i64>>(17)?.unwrap_or(usual.guest_days),
                customer_days: row.get::<Option<i64>>(18)?.unwrap_or(usual.customer_days),
                abandoned_after_minutes: row.get::<Option<i64>>(19)?.unwrap_or(usual.abandoned_after_minutes),
            },
        };
        Ok(Head { cart, tokens: row.get(20)? })
    }
}

impl FromRow for Line {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(Line { variant_id: row.get(0)?, quantity: row.get(1)?, title: row.get(2)?, unit_price: row.get(3)?, place: row.get(4)? })
    }
}
