//! Types and pure decisions: what a cart may hold, what an edit does to it, and what is to be done with it as time goes by.

use crate::error;
use kernel::{Currency, Faults, Id, Result, Timestamp, UnitPrice};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Marks carts' ids (`crt_...`).
pub enum CartEntity {}
impl kernel::Entity for CartEntity {
    const PREFIX: &'static str = "crt";
}
/// The id of a cart.
pub type CartId = Id<CartEntity>;

/// Marks customers' ids (`cus_...`), which a cart may belong to and which this module never reads.
pub enum CustomerEntity {}
impl kernel::Entity for CustomerEntity {
    const PREFIX: &'static str = "cus";
}
/// The id of a customer.
pub type CustomerId = Id<CustomerEntity>;

/// Marks the catalog's variants (`var_...`), which lines point at and which this module never reads.
pub enum VariantEntity {}
impl kernel::Entity for VariantEntity {
    const PREFIX: &'static str = "var";
}
/// The id of a variant of the catalog.
pub type VariantId = Id<VariantEntity>;

/// Marks orders' ids (`ord_...`), which carts become and which this module never reads.
pub enum OrderEntity {}
impl kernel::Entity for OrderEntity {
    const PREFIX: &'static str = "ord";
}
/// The id of an order.
pub type OrderId = Id<OrderEntity>;

/// The most lines of a cart.
pub const MAX_LINES: usize = 500;
/// The most units of a line.
pub const MAX_QUANTITY: i64 = 1_000_000;
/// The most coupon codes of a cart.
pub const MAX_COUPONS: usize = 10;
/// The longest coupon code, in characters.
pub const MAX_COUPON: usize = 64;
/// The most tokens of a cart; a further one takes the place of the oldest.
pub(crate) const MAX_TOKENS: usize = 5;
/// The longest title that is kept of a line, in characters; a longer one is cut off.
pub(crate) const MAX_TITLE: usize = 300;
/// How long a cart is kept after it is over, in milliseconds: 90 days.
pub(crate) const KEPT_MS: i64 = 90 * DAY_MS;
/// When to look again at a cart that is being checked out, in milliseconds.
pub(crate) const BUSY_MS: i64 = DAY_MS;
/// What a cart has left after a failed checkout at least, in milliseconds.
pub(crate) const REOPENED_MS: i64 = DAY_MS;
const DAY_MS: i64 = 24 * 3_600_000;
const MINUTE_MS: i64 = 60_000;

/// Where a cart is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = CartStatus)]
pub enum Status {
    /// It can be changed and checked out.
    Open,
    /// Nobody changed it for a while, and that was told. A change opens it again.
    Abandoned,
    /// A checkout is under way: it can't be changed.
    CheckingOut,
    /// Over: it is an order.
    Ordered,
    /// Over: nobody changed it for too long.
    Expired,
    /// Over: it went into its customer's cart.
    Merged,
}

impl Status {
    /// Every status.
    pub(crate) const ALL: [Status; 6] =
        [Status::Open, Status::Abandoned, Status::CheckingOut, Status::Ordered, Status::Expired, Status::Merged];

    /// As it is stored and sent.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Open => "open",
            Status::Abandoned => "abandoned",
            Status::CheckingOut => "checking_out",
            Status::Ordered => "ordered",
            Status::Expired => "expired",
            Status::Merged => "merged",
        }
    }

    /// Whether it can be changed, if its time is not over.
    pub fn is_open(self) -> bool {
        matches!(self, Status::Open | Status::Abandoned)
    }
}

/// A line: one for each variant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = CartLine)]
pub struct Line {
    /// The variant.
    pub variant_id: VariantId,
    /// How many, from 1 to 1,000,000.
    pub quantity: i64,
    /// The title that the cart's owner was last shown.
    pub title: String,
    /// The price of one unit that the cart's owner was last shown, in the cart's currency; null when there was none.
    pub unit_price: Option<UnitPrice>,
    /// Where it stands among the lines; rises in the order in which they were added.
    #[serde(skip)]
    pub(crate) place: i64,
}

/// Where it is to be sent. Rates need the country, perhaps the postcode; the rest is for the parcel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CartDestination)]
pub struct Destination {
    /// ISO 3166-1 alpha-2, such as `NL`.
    #[schema(min_length = 2, max_length = 2, pattern = "^[A-Z]{2}$", example = "NL")]
    pub country: String,
    /// The postcode; not every country has one.
    #[serde(default)]
    #[schema(max_length = 20)]
    pub postcode: Option<String>,
    /// Who gets it.
    #[serde(default)]
    #[schema(max_length = 200)]
    pub recipient: Option<String>,
    /// Street and number.
    #[serde(default)]
    #[schema(max_length = 200)]
    pub line1: Option<String>,
    /// What else belongs to it.
    #[serde(default)]
    #[schema(max_length = 200)]
    pub line2: Option<String>,
    /// The city.
    #[serde(default)]
    #[schema(max_length = 100)]
    pub city: Option<String>,
    /// State, province or county.
    #[serde(default)]
    #[schema(max_length = 100)]
    pub region: Option<String>,
    /// For the carrier.
    #[serde(default)]
    #[schema(max_length = 40)]
    pub phone: Option<String>,
}

/// A cart with its lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cart {
    /// Its id.
    pub cart_id: CartId,
    /// Whose it is; null for a guest's.
    pub customer_id: Option<CustomerId>,
    /// Where it is in its life.
    pub status: Status,
    /// Of the prices that its owner was shown, and of the order that it becomes. It never changes.
    pub currency: Currency,
    /// Where the confirmation goes.
    pub email: Option<String>,
    /// Where it is to be sent.
    pub destination: Option<Destination>,
    /// The shipping method that was chosen.
    pub shipping_method: Option<String>,
    /// Coupon codes, in the order in which they were given.
    pub coupons: Vec<String>,
    /// How many lines it has.
    pub line_count: i64,
    /// The lines, in the order in which they were added.
    pub lines: Vec<Line>,
    /// Rises with every change; the `ETag`. A checkout names the version that was seen.
    pub version: i64,
    /// How many checkouts were begun with it.
    pub attempts: i64,
    /// The order that it became.
    pub order_id: Option<OrderId>,
    /// The cart that it went into.
    pub merged_into: Option<CartId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub changed_at: Timestamp,
    /// When it is given up unless it is changed.
    pub expires_at: Timestamp,
    /// When it was told that it was abandoned.
    pub abandoned_at: Option<Timestamp>,
    /// How long it is kept.
    #[serde(skip)]
    pub(crate) kept: Settings,
}

/// How long a tenant keeps carts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CartSettings)]
pub struct Settings {
    /// Days without a change after which a guest's cart is given up.
    #[schema(minimum = 1, maximum = 365)]
    pub guest_days: i64,
    /// The same of a customer's.
    #[schema(minimum = 1, maximum = 3650)]
    pub customer_days: i64,
    /// Minutes without a change after which it is told that a cart was abandoned.
    #[schema(minimum = 5, maximum = 525600)]
    pub abandoned_after_minutes: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { guest_days: 30, customer_days: 365, abandoned_after_minutes: 24 * 60 }
    }
}

impl Settings {
    /// Errors: `request.invalid` with every wrong field.
    pub(crate) fn check(&self) -> Result<()> {
        let mut faults = Faults::default();
        for (field, value, least, most) in [
            ("guest_days", self.guest_days, 1, 365),
            ("customer_days", self.customer_days, 1, 3_650),
            ("abandoned_after_minutes", self.abandoned_after_minutes, 5, 525_600),
        ] {
            faults.number(field, value, least, most);
        }
        faults.finish()
    }

    /// When a cart that was changed at `at` is given up.
    pub(crate) fn expiry(&self, customer: Option<CustomerId>, at: Timestamp) -> Timestamp {
        at.plus_ms(DAY_MS * if customer.is_some() { self.customer_days } else { self.guest_days })
    }

    /// When a cart that was changed at `at` counts as abandoned.
    pub(crate) fn abandonment(&self, at: Timestamp) -> Timestamp {
        at.plus_ms(MINUTE_MS * self.abandoned_after_minutes)
    }
}

/// An edit of one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineEdit {
    /// So many more of a variant, which gets a line if it has none.
    Add {
        /// The variant.
        variant_id: VariantId,
        /// From 1.
        quantity: i64,
        /// What the owner is shown now.
        seen: Seen,
    },
    /// So many of a variant that has a line.
    Set {
        /// The variant.
        variant_id: VariantId,
        /// From 1.
        quantity: i64,
        /// What the owner is shown now; none leaves what was shown.
        seen: Option<Seen>,
    },
    /// No line of a variant that has one.
    Remove(
        /// The variant.
        VariantId,
    ),
}

impl LineEdit {
    /// The variant that it is about.
    pub fn variant_id(&self) -> VariantId {
        match self {
            LineEdit::Add { variant_id, .. } | LineEdit::Set { variant_id, .. } | LineEdit::Remove(variant_id) => *variant_id,
        }
    }
}

/// What the owner of a cart is shown of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The title; what is beyond 300 characters is cut off.
    pub title: String,
    /// The price of one unit in the cart's currency; none when there is none.
    pub unit_price: Option<UnitPrice>,
}

/// What to change of a cart; what is left out stays. All of it happens, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The lines, in this order.
    pub lines: Vec<LineEdit>,
    /// Where the confirmation goes; `Some(None)` removes it.
    pub email: Option<Option<String>>,
    /// Where it is to be sent.
    pub destination: Option<Option<Destination>>,
    /// The shipping method.
    pub shipping_method: Option<Option<String>>,
    /// All coupon codes.
    pub coupons: Option<Vec<String>>,
}

/// What a change came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    /// Lines to write, by their variant.
    pub written: Vec<VariantId>,
    /// Lines to remove.
    pub removed: Vec<VariantId>,
    /// Whether anything differs at all.
    pub any: bool,
}

impl Change {
    /// Checks what can be checked without the cart. Fields are named as the storefront names them.
    /// Errors: `request.invalid` with every wrong field.
    pub fn check(&self) -> Result<()> {
        let mut faults = Faults::default();
        if self.lines.len() > MAX_LINES {
            faults.add("lines", "too_many", format!("at most {MAX_LINES} lines"));
            return faults.finish();
        }
        for (i, edit) in self.lines.iter().enumerate() {
            if let LineEdit::Add { quantity, .. } | LineEdit::Set { quantity, .. } = edit {
                let field = if self.lines.len() == 1 { "quantity".to_owned() } else { format!("lines[{i}].quantity") };
                note(&mut faults, &field, check_quantity(*quantity));
            }
        }
        if let Some(Some(email)) = &self.email {
            note(&mut faults, "email", check_email(email));
        }
        if let Some(Some(destination)) = &self.destination {
            destination.check(&mut faults);
        }
        if let Some(Some(method)) = &self.shipping_method {
            note(&mut faults, "shipping_method", check_code(method, 100));
        }
        if let Some(coupons) = &self.coupons {
            if coupons.len() > MAX_COUPONS {
                faults.add("coupons", "too_many", format!("at most {MAX_COUPONS} codes"));
                return faults.finish();
            }
            for (i, code) in coupons.iter().enumerate() {
                note(&mut faults, &format!("coupons[{i}]"), check_coupon(code));
                if coupons[..i].contains(code) {
                    faults.add(format!("coupons[{i}]"), "duplicate", "each code is given once");
                }
            }
        }
        faults.finish()
    }
}

impl Cart {
    /// Whether it may be changed or checked out. Errors: `carts.expired`, `carts.checking_out`, `carts.ordered`, `carts.merged`.
    pub fn must_be_open(&self, now: Timestamp) -> Result<()> {
        if !self.status.is_open() {
            return Err(error::not_open(self.status));
        }
        if self.expires_at <= now { Err(error::expired()) } else { Ok(()) }
    }

    /// The line of a variant.
    pub fn line(&self, variant_id: VariantId) -> Option<&Line> {
        self.lines.iter().find(|line| line.variant_id == variant_id)
    }

    /// Makes a change that was checked. The cart is as before when it is refused only as far as the caller throws it away.
    /// Errors: `carts.line_not_found`, `carts.too_many_lines`, `carts.quantity_limit`.
    pub(crate) fn apply(&mut self, change: &Change) -> Result<Applied> {
        let mut applied = Applied::default();
        for edit in &change.lines {
            self.edit(edit, &mut applied)?;
        }
        replace(&mut self.email, change.email.as_ref(), &mut applied.any);
        replace(&mut self.destination, change.destination.as_ref(), &mut applied.any);
        replace(&mut self.shipping_method, change.shipping_method.as_ref(), &mut applied.any);
        replace(&mut self.coupons, change.coupons.as_ref(), &mut applied.any);
        self.line_count = self.lines.len() as i64;
        applied.any |= !applied.written.is_empty() || !applied.removed.is_empty();
        Ok(applied)
    }

    fn edit(&mut self, edit: &LineEdit, applied: &mut Applied) -> Result<()> {
        let variant_id = edit.variant_id();
        let at = self.lines.iter().position(|line| line.variant_id == variant_id);
        match (edit, at) {
            (LineEdit::Remove(_), Some(at)) => {
                self.lines.remove(at);
                applied.written.retain(|written| *written != variant_id);
                applied.removed.push(variant_id);
                return Ok(());
            }
            (LineEdit::Set { .. } | LineEdit::Remove(_), None) => return Err(error::line_not_found()),
            (LineEdit::Set { quantity, seen, .. }, Some(at)) => {
                let before = self.lines[at].clone();
                self.lines[at].quantity = *quantity;
                if let Some(seen) = seen {
                    self.lines[at].show(seen);
                }
                if self.lines[at] == before {
                    return Ok(());
                }
            }
            (LineEdit::Add { quantity, seen, .. }, Some(at)) => {
                let line = &mut self.lines[at];
                line.quantity =
                    line.quantity.checked_add(*quantity).filter(|sum| *sum <= MAX_QUANTITY).ok_or_else(error::quantity_limit)?;
                line.show(seen);
            }
            (LineEdit::Add { quantity, seen, .. }, None) => {
                if self.lines.len() >= MAX_LINES {
                    return Err(error::too_many_lines());
                }
                let place = self.next_place();
                let mut line = Line { variant_id, quantity: *quantity, title: String::new(), unit_price: None, place };
                line.show(seen);
                self.lines.push(line);
            }
        }
        applied.removed.retain(|removed| *removed != variant_id);
        if !applied.written.contains(&variant_id) {
            applied.written.push(variant_id);
        }
        Ok(())
    }

    pub(crate) fn next_place(&self) -> i64 {
        self.lines.last().map_or(1, |line| line.place + 1)
    }

    /// What is to be done with it now, and when to look again.
    pub(crate) fn due(&self, now: Timestamp, settings: &Settings) -> Due {
        match self.status {
            Status::Open | Status::Abandoned if self.expires_at <= now => Due::Expire,
            Status::Open | Status::Abandoned if self.abandoned_at.is_some() => Due::Look(self.expires_at),
            Status::Open | Status::Abandoned => {
                let at = settings.abandonment(self.changed_at);
                match self.line_count {
                    // Nothing was left behind yet; a line that is added now is abandoned no sooner than this.
                    0 => Due::Look(settings.abandonment(now).min(self.expires_at)),
                    _ if at <= now => Due::Abandon,
                    _ => Due::Look(at.min(self.expires_at)),
                }
            }
            Status::CheckingOut => Due::Look(now.plus_ms(BUSY_MS)),
            Status::Ordered | Status::Expired | Status::Merged => Due::Forget,
        }
    }
}

impl Line {
    fn show(&mut self, seen: &Seen) {
        self.title = seen.title.chars().take(MAX_TITLE).collect();
        self.unit_price = seen.unit_price;
    }
}

/// What time does to a cart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing yet: look again at this moment.
    Look(Timestamp),
    /// Tell that it was abandoned.
    Abandon,
    /// Give it up.
    Expire,
    /// Remove it.
    Forget,
}

fn replace<T: Clone + PartialEq>(current: &mut T, new: Option<&T>, any: &mut bool) {
    if let Some(new) = new
        && current != new
    {
        current.clone_from(new);
        *any = true;
    }
}

/// What is wrong with a value: a stable code, and for a person the limit and the problem.
pub(crate) type Fault = (&'static str, String);

/// Notes the outcome of a check of a field.
fn note(faults: &mut Faults, field: &str, outcome: Result<(), Fault>) {
    if let Err((code, detail)) = outcome {
        faults.add(field, code, detail);
    }
}

/// From 1 to [`MAX_QUANTITY`].
pub(crate) fn check_quantity(quantity: i64) -> Result<(), Fault> {
    match quantity {
        i64::MIN..=0 => Err(("too_small", "must be at least 1; to take a line out, remove it".to_owned())),
        1..=MAX_QUANTITY => Ok(()),
        _ => Err(("too_large", format!("at most {MAX_QUANTITY}"))),
    }
}

fn check_length(text: &str, max: usize) -> Result<(), Fault> {
    // A character takes at most four bytes: long texts are refused without counting them.
    if text.len() > max * 4 || text.chars().count() > max {
        return Err(("too_long", format!("at most {max} characters")));
    }
    Ok(())
}

/// 1 to `max` characters on one line, not only white space.
fn check_line(text: &str, max: usize) -> Result<(), Fault> {
    check_length(text, max)?;
    if text.trim().is_empty() {
        return Err(("empty", "must not be empty; leave it out instead".to_owned()));
    }
    if text.chars().any(char::is_control) {
        return Err(("control_character", "must not contain control characters or line breaks".to_owned()));
    }
    Ok(())
}

/// A coupon code as a shopper types it.
pub(crate) fn check_coupon(code: &str) -> Result<(), Fault> {
    check_code(code, MAX_COUPON)
}

/// A code that people type: 1 to `max` visible characters.
fn check_code(code: &str, max: usize) -> Result<(), Fault> {
    check_line(code, max)?;
    if code.chars().any(char::is_whitespace) {
        return Err(("space", "must not contain spaces".to_owned()));
    }
    Ok(())
}

/// An e-mail address, as far as its shape tells.
fn check_email(email: &str) -> Result<(), Fault> {
    check_code(email, 254)?;
    match email.split_once('@') {
        Some((name, host)) if !name.is_empty() && host.len() > 2 && !host.contains('@') && host.contains('.') => Ok(()),
        _ => Err(("not_an_email", "not an e-mail address such as name@example.com".to_owned())),
    }
}

impl Destination {
    fn check(&self, faults: &mut Faults) {
        faults.country("destination.country", &self.country);
        for (name, value, max) in [
            ("postcode", &self.postcode, 20),
            ("recipient", &self.recipient, 200),
            ("line1", &self.line1, 200),
            ("line2", &self.line2, 200),
            ("city", &self.city, 100),
            ("region", &self.region, 100),
            ("phone", &self.phone, 40),
        ] {
            if let Some(value) = value {
                note(faults, &format!("destination.{name}"), check_line(value, max));
            }
        }
    }
}
