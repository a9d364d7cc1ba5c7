//! Types and pure decisions: what a document is, what its lines come to, and which command an order's state allows.

use crate::error;
use kernel::{Currency, Error, Faults, Id, Result, Timestamp, UnitPrice};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use utoipa::ToSchema;

/// Marks orders' ids (`ord_...`).
pub enum OrderEntity {}
impl kernel::Entity for OrderEntity {
    const PREFIX: &'static str = "ord";
}
/// The id of an order.
pub type OrderId = Id<OrderEntity>;

/// Marks credit notes' ids (`crn_...`).
pub enum CreditNoteEntity {}
impl kernel::Entity for CreditNoteEntity {
    const PREFIX: &'static str = "crn";
}
/// The id of a credit note.
pub type CreditNoteId = Id<CreditNoteEntity>;

/// Marks adjustments' ids (`adj_...`).
pub enum AdjustmentEntity {}
impl kernel::Entity for AdjustmentEntity {
    const PREFIX: &'static str = "adj";
}
/// The id of an adjustment.
pub type AdjustmentId = Id<AdjustmentEntity>;

/// Marks customers' ids (`cus_...`).
pub enum CustomerEntity {}
impl kernel::Entity for CustomerEntity {
    const PREFIX: &'static str = "cus";
}
/// The id of a customer.
pub type CustomerId = Id<CustomerEntity>;

/// Marks addresses' ids (`adr_...`).
pub enum AddressEntity {}
impl kernel::Entity for AddressEntity {
    const PREFIX: &'static str = "adr";
}
/// The id of a customer's address.
pub type AddressId = Id<AddressEntity>;

/// Marks the catalog's variants (`var_...`), which a line may point at and which this module never reads.
pub enum VariantEntity {}
impl kernel::Entity for VariantEntity {
    const PREFIX: &'static str = "var";
}
/// The id of a variant of the catalog.
pub type VariantId = Id<VariantEntity>;

/// The most lines of one document.
pub const MAX_LINES: usize = 2_000;
/// The largest quantity of a line, either way.
pub const MAX_QUANTITY: i64 = 1_000_000_000;
/// The largest unit price, either way: a thousand million major units.
pub const MAX_PRICE_MICROS: i64 = 1_000_000_000_000_000;
/// The largest that the lines of a document may add up to, either way, in micros: ten thousand million major units. Hundreds of
/// such documents still add up within 64 bits.
pub const MAX_EXTENDED_MICROS: i64 = 10_000_000_000_000_000;
/// The largest discount or tax of a line, either way, in minor units.
pub const MAX_AMOUNT_MINOR: i64 = 1_000_000_000_000;
/// The largest line number.
pub const MAX_LINE_NUMBER: u32 = 100_000;
/// An event's payload is at most this long, in bytes: the store takes 256 KiB.
const MAX_PAYLOAD: usize = 250 * 1024;

/// Text columns of a closed list: how they are stored, and read back.
macro_rules! stored_as_text {
    ($type:ident { $($variant:ident = $text:literal),+ $(,)? }) => {
        impl $type {
            /// Every value, in order.
            #[allow(dead_code, reason = "not every list is walked outside tests")]
            pub const ALL: &'static [$type] = &[$($type::$variant),+];

            /// As it is stored and shown.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $($type::$variant => $text),+
                }
            }
        }
        impl store::ToValue for $type {
            fn to_value(&self) -> store::Value<'_> {
                store::Value::Text(self.as_str().into())
            }
        }
        impl store::FromValue for $type {
            fn from_value(value: store::ValueRef<'_>) -> Result<Self> {
                match value {
                    $(store::ValueRef::Text($text) => Ok($type::$variant),)+
                    other => Err(Error::internal(format!(concat!("a column holds {:?} where a ", stringify!($type), " is expected"), other))),
                }
            }
        }
    };
}

pub(crate) use stored_as_text;

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Written down, not agreed; counts in no report.
    Draft,
    /// Agreed.
    Placed,
    /// Some of its goods have gone out.
    PartlyFulfilled,
    /// All of its goods have gone out.
    Fulfilled,
    /// Done; only credit notes may follow.
    Closed,
    /// Called off before anything went out.
    Cancelled,
}
stored_as_text!(State {
    Draft = "draft",
    Placed = "placed",
    PartlyFulfilled = "partly_fulfilled",
    Fulfilled = "fulfilled",
    Closed = "closed",
    Cancelled = "cancelled",
});

/// What can be asked of an order that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Agree on a draft.
    Place,
    /// Change its lines, country or customer. `complete`: after it nothing remains to be sent.
    Edit {
        /// Whether everything that can be fulfilled has been, counted with the new lines.
        complete: bool,
    },
    /// Send goods. `complete`: after it nothing remains to be sent.
    Fulfil {
        /// Whether everything that can be fulfilled has been.
        complete: bool,
    },
    /// File it.
    Close,
    /// Call it off. `credited`: whether credit notes were issued against it.
    Cancel {
        /// Whether credit notes were issued against it.
        credited: bool,
    },
    /// Issue a credit note against it.
    Credit,
}

impl Command {
    fn verb(self) -> &'static str {
        match self {
            Command::Place => "placed",
            Command::Edit { .. } => "edited",
            Command::Fulfil { .. } => "fulfilled",
            Command::Close => "closed",
            Command::Cancel { .. } => "cancelled",
            Command::Credit => "credited",
        }
    }
}

/// The state after `command`. Guards are tried in order; each refusal has one name.
/// Errors: `orders.has_credit_notes`, `orders.not_allowed`.
pub fn decide(state: State, command: Command) -> Result<State> {
    use State::*;
    match (state, command) {
        (Draft, Command::Place) => Ok(Placed),

        (Draft | Placed, Command::Edit { .. }) => Ok(state),
        (PartlyFulfilled, Command::Edit { complete: false }) => Ok(PartlyFulfilled),
        (PartlyFulfilled, Command::Edit { complete: true }) => Ok(Fulfilled),

        (Placed | PartlyFulfilled, Command::Fulfil { complete: false }) => Ok(PartlyFulfilled),
        (Placed | PartlyFulfilled, Command::Fulfil { complete: true }) => Ok(Fulfilled),

        (Fulfilled, Command::Close) => Ok(Closed),

        (Draft | Placed, Command::Cancel { credited: false }) => Ok(Cancelled),
        (Draft | Placed, Command::Cancel { credited: true }) => Err(error::has_credit_notes()),

        (Placed | PartlyFulfilled | Fulfilled | Closed, Command::Credit) => Ok(state),

        _ => Err(error::not_allowed(state, command.verb())),
    }
}

/// The three kinds of document, each with its own series of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DocumentKind {
    /// A sale.
    Order,
    /// Takes back money of a sale; its quantities are below zero.
    CreditNote,
    /// Corrects the books and is tied to no goods.
    Adjustment,
}
stored_as_text!(DocumentKind { Order = "order", CreditNote = "credit_note", Adjustment = "adjustment" });

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LineKind {
    /// Goods or services, to be fulfilled.
    Sale,
    /// A correction: an order's line of negative quantity, and each line of an adjustment.
    Adjustment,
    /// A line of a credit note.
    Credit,
    /// What is paid besides the goods, such as shipping: nothing of it is sent.
    Charge,
}
stored_as_text!(LineKind { Sale = "sale", Adjustment = "adjustment", Credit = "credit", Charge = "charge" });

/// A line as it is asked for. What it says is kept as given: a later change of the catalog does not touch it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewLine {
    /// Its number within the document, unique, from 1. Left out: the next free one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 100_000)]
    pub line: Option<u32>,
    /// Stock-keeping unit, case-sensitive.
    #[schema(min_length = 1, max_length = 64)]
    pub sku: String,
    /// The catalog's variant, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant_id: Option<VariantId>,
    /// What the customer reads.
    #[serde(default)]
    #[schema(max_length = 500)]
    pub description: String,
    /// Not zero. Below zero on an order: a line of kind `adjustment`. Always below zero on a credit note.
    #[schema(minimum = -1_000_000_000, maximum = 1_000_000_000)]
    pub quantity: i64,
    /// Price of one, before discount and tax. Below zero only on an adjustment.
    pub unit_price: UnitPrice,
    /// Taken off the line, in minor units, with the sign of the line's amount.
    #[serde(default)]
    #[schema(minimum = -1_000_000_000_000_i64, maximum = 1_000_000_000_000_i64)]
    pub discount_minor: i64,
    /// Tax of the line as given, in minor units, added to it.
    #[serde(default)]
    #[schema(minimum = -1_000_000_000_000_i64, maximum = 1_000_000_000_000_i64)]
    pub tax_minor: i64,
    /// Tax that the price contains already, in minor units: shown, not added.
    #[serde(default)]
    #[schema(minimum = -1_000_000_000_000_i64, maximum = 1_000_000_000_000_i64)]
    pub included_tax_minor: i64,
    /// On an order: it is paid besides the goods, such as shipping, and nothing of it is sent. Its quantity is above zero.
    #[serde(default)]
    pub charge: bool,
}

/// A line as it is stored and shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Line {
    /// Its number within the document.
    pub line: u32,
    /// What it is.
    pub kind: LineKind,
    /// Stock-keeping unit.
    pub sku: String,
    /// The catalog's variant, when there is one.
    pub variant_id: Option<VariantId>,
    /// What the customer reads.
    pub description: String,
    /// How many.
    pub quantity: i64,
    /// Price of one.
    pub unit_price: UnitPrice,
    /// `quantity` times `unit_price`, exactly.
    pub extended: UnitPrice,
    /// Taken off, in minor units.
    pub discount_minor: i64,
    /// Added, in minor units.
    pub tax_minor: i64,
    /// Tax that the price contains already, in minor units: part of the total as it is.
    #[serde(default)]
    pub included_tax_minor: i64,
    /// `extended` rounded to minor units, a half away from zero, less the discount, plus the tax.
    pub total_minor: i64,
}

/// What the lines of a document add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// How many lines.
    pub lines: i64,
    /// The exact amounts, in micros.
    pub extended_micros: i64,
    /// The discounts.
    pub discount_minor: i64,
    /// The taxes.
    pub tax_minor: i64,
    /// The lines' totals.
    pub total_minor: i64,
}

impl Totals {
    /// Adds up; the bounds of [`price_lines`] keep it within 64 bits.
    pub fn of(lines: &[Line]) -> Totals {
        let mut totals = Totals { lines: lines.len() as i64, ..Totals::default() };
        for line in lines {
            totals.extended_micros += line.extended.micros();
            totals.discount_minor += line.discount_minor;
            totals.tax_minor += line.tax_minor;
            totals.total_minor += line.total_minor;
        }
        totals
    }
}

/// Checks and prices the lines of a document of `kind`. Lines without a number get the next free one above `last_line`.
/// The order of the result is that of the numbers. Whatever is wrong goes to `faults`, named `lines[i].field`.
pub fn price_lines(kind: DocumentKind, currency: Currency, given: &[NewLine], last_line: u32, faults: &mut Faults) -> Vec<Line> {
    if given.is_empty() || given.len() > MAX_LINES {
        faults.add("lines", "wrong_count", format!("{} lines; between 1 and {MAX_LINES}", given.len()));
        return Vec::new();
    }
    let mut next_line = given.iter().filter_map(|l| l.line).max().unwrap_or(0).max(last_line);
    let mut numbers = HashSet::with_capacity(if given.iter().any(|l| l.line.is_some()) { given.len() } else { 0 });
    let mut lines = Vec::with_capacity(given.len());
    for (i, new) in given.iter().enumerate() {
        let at = |field: &str| format!("lines[{i}].{field}");
        let number = match new.line {
            Some(number) => {
                if number == 0 || number > MAX_LINE_NUMBER {
                    faults.add(at("line"), "out_of_range", format!("between 1 and {MAX_LINE_NUMBER}"));
                } else if !numbers.insert(number) {
                    faults.add(at("line"), "repeated", "another line has this number");
                }
                number
            }
            None => {
                next_line = next_line.saturating_add(1);
                next_line
            }
        };
        check_line(kind, new, &at, faults);
        match price_line(kind, currency, number, new) {
            Ok(line) => {
                let rounded = line.total_minor - line.tax_minor + line.discount_minor;
                if line.discount_minor.abs_diff(0) > rounded.abs_diff(0) {
                    faults.add(at("discount_minor"), "too_large", "more than quantity times unit_price");
                }
                if line.included_tax_minor.abs_diff(0) > (rounded - line.discount_minor).abs_diff(0) {
                    faults.add(at("included_tax_minor"), "too_large", "more than the line comes to without added tax");
                }
                lines.push(line);
            }
            Err(_) => faults.add(at("quantity"), "too_large", "quantity times unit_price is larger than can be represented"),
        }
    }
    // Parts of different signs may cancel out, so their sizes are bounded.
    let sum: i128 = lines.iter().map(|l| i128::from(l.extended.micros()).abs()).sum();
    if sum > i128::from(MAX_EXTENDED_MICROS) {
        faults.add("lines", "too_large", "the lines add up to more than ten thousand million of the currency's major unit");
        return Vec::new();
    }
    lines.sort_by_key(|l| l.line);
    lines
}

fn check_line(kind: DocumentKind, new: &NewLine, at: &impl Fn(&str) -> String, faults: &mut Faults) {
    // The names of fields are only made for what is wrong: an import has hundreds of thousands of lines.
    let plain = |text: &str, max: usize| text.len() <= max && !text.bytes().any(|b| b.is_ascii_control());
    if new.sku.is_empty() || !plain(&new.sku, 64) || !new.sku.is_ascii() {
        faults.text(at("sku"), &new.sku, 1, 64);
    }
    if !plain(&new.description, 500) || !new.description.is_ascii() {
        faults.text(at("description"), &new.description, 0, 500);
    }
    if new.quantity == 0 {
        faults.add(at("quantity"), "zero", "not zero");
    } else if new.quantity.abs_diff(0) > MAX_QUANTITY.unsigned_abs() {
        faults.add(at("quantity"), "out_of_range", format!("between -{MAX_QUANTITY} and {MAX_QUANTITY}"));
    } else if kind == DocumentKind::CreditNote && new.quantity > 0 {
        faults.add(at("quantity"), "out_of_range", "a credit note takes back: below zero");
    }
    if new.unit_price.micros().abs_diff(0) > MAX_PRICE_MICROS.unsigned_abs() {
        faults.add(at("unit_price"), "out_of_range", "at most a thousand million of the currency's major unit");
    } else if kind != DocumentKind::Adjustment && new.unit_price.micros() < 0 {
        faults.add(at("unit_price"), "out_of_range", "not below zero; record an adjustment instead");
    }
    let amounts = [("discount_minor", new.discount_minor), ("tax_minor", new.tax_minor), ("included_tax_minor", new.included_tax_minor)];
    for (field, amount) in amounts {
        if amount.abs_diff(0) > MAX_AMOUNT_MINOR.unsigned_abs() {
            faults.add(at(field), "out_of_range", format!("between -{MAX_AMOUNT_MINOR} and {MAX_AMOUNT_MINOR}"));
        }
    }
    let sign = new.quantity.signum() * new.unit_price.micros().signum();
    if new.discount_minor != 0 && new.discount_minor.signum() != sign {
        faults.add(at("discount_minor"), "wrong_sign", "a discount has the sign of quantity times unit_price");
    }
    for (field, tax) in &amounts[1..] {
        if kind != DocumentKind::Adjustment && *tax != 0 && tax.signum() != new.quantity.signum() {
            faults.add(at(field), "wrong_sign", "a tax has the sign of the quantity");
        }
    }
    if new.charge && (kind != DocumentKind::Order || new.quantity < 0) {
        faults.add(at("charge"), "not_allowed", "only a line of an order, of a quantity above zero, is a charge");
    }
}

/// Errors: `money.overflow`.
fn price_line(kind: DocumentKind, currency: Currency, line: u32, new: &NewLine) -> Result<Line> {
    let overflow = || Error::invalid("money.overflow", "the amount is larger than can be represented");
    let rounded = new.unit_price.extended(new.quantity, currency)?.minor;
    let total_minor = rounded.checked_sub(new.discount_minor).and_then(|t| t.checked_add(new.tax_minor)).ok_or_else(overflow)?;
    Ok(Line {
        line,
        kind: match kind {
            DocumentKind::Order if new.charge => LineKind::Charge,
            DocumentKind::Order if new.quantity > 0 => LineKind::Sale,
            DocumentKind::CreditNote => LineKind::Credit,
            DocumentKind::Order | DocumentKind::Adjustment => LineKind::Adjustment,
        },
        sku: new.sku.clone(),
        variant_id: new.variant_id,
        description: new.description.clone(),
        quantity: new.quantity,
        unit_price: new.unit_price,
        extended: UnitPrice::from_micros(new.unit_price.extended_micros(new.quantity)?),
        discount_minor: new.discount_minor,
        tax_minor: new.tax_minor,
        included_tax_minor: new.included_tax_minor,
        total_minor,
    })
}

/// What remains to be sent of each line of goods: line number to quantity. Lines that are done are not in it.
pub fn remaining(lines: &[Line], fulfilled: &BTreeMap<u32, i64>) -> BTreeMap<u32, i64> {
    let open = |l: &&Line| l.kind == LineKind::Sale;
    lines
        .iter()
        .filter(open)
        .map(|l| (l.line, l.quantity - fulfilled.get(&l.line).copied().unwrap_or(0)))
        .filter(|(_, left)| *left > 0)
        .collect()
}

/// What a document adds to the daily sales of one day, country and currency. Part of the events' payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sales {
    /// Days since 1970-01-01, UTC.
    pub day: i64,
    /// Where to.
    pub country: String,
    /// Of the totals.
    pub currency: Currency,
    /// One for each SKU, sorted.
    pub lines: Vec<SalesLine>,
}

/// What a document adds to the daily sales of one SKU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SalesLine {
    /// Stock-keeping unit.
    pub sku: String,
    /// How many lines.
    pub lines: i64,
    /// How many pieces.
    pub quantity: i64,
    /// Exact amount in micros.
    pub extended_micros: i64,
    /// Rounded amount.
    pub total_minor: i64,
}

impl SalesLine {
    /// Whether adding it changes anything.
    pub fn is_nothing(&self) -> bool {
        self.lines == 0 && self.quantity == 0 && self.extended_micros == 0 && self.total_minor == 0
    }
}

/// What `after` adds to the reports beyond `before`: the difference of two versions of a document, or the whole of one.
/// SKUs for which nothing changes are left out, and so are groups without any.
pub fn sales_difference(at: Timestamp, currency: Currency, before: Option<(&str, &[Line])>, after: Option<(&str, &[Line])>) -> Vec<Sales> {
    let mut groups: BTreeMap<&str, BTreeMap<&str, SalesLine>> = BTreeMap::new();
    for (sign, side) in [(-1, before), (1, after)] {
        let Some((country, lines)) = side else { continue };
        let group = groups.entry(country).or_default();
        for line in lines {
            let sum = group.entry(&line.sku).or_default();
            sum.lines += sign;
            sum.quantity += sign * line.quantity;
            sum.extended_micros += sign * line.extended.micros();
            sum.total_minor += sign * line.total_minor;
        }
    }
    let mut sales = Vec::with_capacity(groups.len());
    for (country, group) in groups {
        let lines: Vec<SalesLine> =
            group.into_iter().filter(|(_, sum)| !sum.is_nothing()).map(|(sku, sum)| SalesLine { sku: sku.to_owned(), ..sum }).collect();
        if !lines.is_empty() {
            sales.push(Sales { day: at.day(), country: country.to_owned(), currency, lines });
        }
    }
    sales
}

/// Refuses what an event could not carry: thousands of lines with very long SKUs. Errors: `request.invalid`.
pub fn fits_event(sales: &[Sales]) -> Result<()> {
    // 56 bytes of names and 70 of digits for each line, and a SKU in which every character may need an escape.
    let bound = |line: &SalesLine| 130 + line.sku.len() * 2;
    let bytes: usize = sales.iter().flat_map(|s| &s.lines).map(bound).sum();
    if bytes > MAX_PAYLOAD && serde_json::to_string(sales).map_or(usize::MAX, |text| text.len()) > MAX_PAYLOAD {
        return Err(Error::field("lines", "too_large", "so many lines with such long SKUs do not fit one change; split it"));
    }
    Ok(())
}

/// The days of a date such as `2010-12-01` since 1970-01-01. Errors: `request.invalid` naming `field`.
pub fn parse_day(field: &str, text: &str) -> Result<i64> {
    let wrong = || Error::field(field, "not_a_date", "not a date such as 2026-01-31");
    if text.len() != 10 {
        return Err(wrong());
    }
    let time: Timestamp = format!("{text}T00:00:00Z").parse().map_err(|_| wrong())?;
    Ok(time.day())
}

/// The date of a day since 1970-01-01, such as `2010-12-01`.
pub fn format_day(day: i64) -> String {
    let mut text = Timestamp::from_micros(day.saturating_mul(86_400_000_000)).to_string();
    if let Some(end) = text.find('T') {
        text.truncate(end);
    }
    text
}

/// An order without its lines: the current version of what they add up to and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrderHead {
    /// Its id.
    pub order_id: OrderId,
    /// Unique and rising within the tenant.
    pub number: i64,
    /// Where it stands.
    pub state: State,
    /// Rises with every change; the `ETag`.
    pub version: i64,
    /// The version that wrote the current lines.
    pub lines_version: i64,
    /// What another system calls it; unique among the tenant's documents.
    pub external_ref: Option<String>,
    /// Who bought.
    pub customer_id: Option<CustomerId>,
    /// Where it goes: a country's name or ISO code, as given.
    pub country: String,
    /// Of every amount of the order.
    pub currency: Currency,
    /// How many lines it has.
    pub line_count: i64,
    /// The exact sum of its lines' quantities times prices.
    pub extended: UnitPrice,
    /// The sum of the lines' discounts.
    pub discount_minor: i64,
    /// The sum of the lines' taxes.
    pub tax_minor: i64,
    /// The sum of the lines' totals.
    pub total_minor: i64,
    /// The sum of the credit notes against it, at most zero.
    pub credited_minor: i64,
    /// When it was placed; null for a draft.
    pub placed_at: Option<Timestamp>,
    /// When it was written down.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl OrderHead {
    /// Takes over what its lines add up to.
    pub fn set_totals(&mut self, totals: Totals) {
        self.line_count = totals.lines;
        self.extended = UnitPrice::from_micros(totals.extended_micros);
        self.discount_minor = totals.discount_minor;
        self.tax_minor = totals.tax_minor;
        self.total_minor = totals.total_minor;
    }
}

impl store::FromRow for OrderHead {
    fn from_row(row: &dyn store::Row) -> Result<Self> {
        Ok(OrderHead {
            order_id: row.get(0)?,
            number: row.get(1)?,
            state: row.get(2)?,
            version: row.get(3)?,
            lines_version: row.get(4)?,
            external_ref: row.get(5)?,
            customer_id: row.get(6)?,
            country: row.get(7)?,
            currency: row.get(8)?,
            line_count: row.get(9)?,
            extended: row.get(10)?,
            discount_minor: row.get(11)?,
            tax_minor: row.get(12)?,
            total_minor: row.get(13)?,
            credited_minor: row.get(14)?,
            placed_at: row.get(15)?,
            created_at: row.get(16)?,
            updated_at: row.get(17)?,
        })
    }
}

impl store::FromRow for Line {
    fn from_row(row: &dyn store::Row) -> Result<Self> {
        Ok(Line {
            line: row.get(0)?,
            kind: row.get(1)?,
            sku: row.get(2)?,
            variant_id: row.get(3)?,
            description: row.get(4)?,
            quantity: row.get(5)?,
            unit_price: row.get(6)?,
            extended: row.get(7)?,
            discount_minor: row.get(8)?,
            tax_minor: row.get(9)?,
            included_tax_minor: row.get(10)?,
            total_minor: row.get(11)?,
        })
    }
}

/// A credit note or an adjustment without its lines. Once issued it never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NoteHead {
    /// Its number in the store.
    #[serde(skip)]
    pub note_id: i64,
    /// Its id: `crn_...` or `adj_...`.
    pub id: String,
    /// Which of the two.
    pub kind: DocumentKind,
    /// Unique and rising within the tenant and the kind.
    pub number: i64,
    /// What another system calls it; unique among the tenant's documents.
    pub external_ref: Option<String>,
    /// The order that it credits.
    pub order_id: Option<OrderId>,
    /// Whom it concerns.
    pub customer_id: Option<CustomerId>,
    /// The country of the order, or as given.
    pub country: String,
    /// Of every amount of it.
    pub currency: Currency,
    /// Why it was issued.
    pub reason: String,
    /// How many lines it has.
    pub line_count: i64,
    /// The exact sum of its lines' quantities times prices.
    pub extended: UnitPrice,
    /// The sum of the lines' discounts.
    pub discount_minor: i64,
    /// The sum of the lines' taxes.
    pub tax_minor: i64,
    /// The sum of the lines' totals.
    pub total_minor: i64,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// When it was written down.
    pub created_at: Timestamp,
}

impl NoteHead {
    /// Takes over what its lines add up to.
    pub fn set_totals(&mut self, totals: Totals) {
        self.line_count = totals.lines;
        self.extended = UnitPrice::from_micros(totals.extended_micros);
        self.discount_minor = totals.discount_minor;
        self.tax_minor = totals.tax_minor;
        self.total_minor = totals.total_minor;
    }

    /// The wire form of a note's id.
    pub fn wire_id(kind: DocumentKind, note_id: i64) -> String {
        match kind {
            DocumentKind::Adjustment => AdjustmentId::from_i64(note_id).to_string(),
            DocumentKind::CreditNote | DocumentKind::Order => CreditNoteId::from_i64(note_id).to_string(),
        }
    }
}

impl store::FromRow for NoteHead {
    fn from_row(row: &dyn store::Row) -> Result<Self> {
        let (kind, note_id) = (row.get(0)?, row.get(1)?);
        Ok(NoteHead {
            note_id,
            id: NoteHead::wire_id(kind, note_id),
            kind,
            number: row.get(2)?,
            external_ref: row.get(3)?,
            order_id: row.get(4)?,
            customer_id: row.get(5)?,
            country: row.get(6)?,
            currency: row.get(7)?,
            reason: row.get(8)?,
            line_count: row.get(9)?,
            extended: row.get(10)?,
            discount_minor: row.get(11)?,
            tax_minor: row.get(12)?,
            total_minor: row.get(13)?,
            issued_at: row.get(14)?,
            created_at: row.get(15)?,
        })
    }
}

/// One change of an order, as it was recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    /// The version that it made.
    pub version: i64,
    /// What was done: `created`, `imported`, `placed`, `edited`, `fulfilled`, `credited`, `closed` or `cancelled`.
    pub kind: String,
    /// The state after it.
    pub state: State,
    /// What kind of actor did it: `user`, `api_key` or `system`.
    pub actor_kind: String,
    /// The user's or the key's number; 0 for the system.
    pub actor_id: i64,
    /// Why, as given.
    pub reason: String,
    /// What changed, by kind: quantities fulfilled, line numbers added, changed and removed, totals before and after.
    #[schema(value_type = Object)]
    pub change: serde_json::Value,
    /// The request that did it.
    pub request_id: Option<String>,
    /// When.
    pub changed_at: Timestamp,
}

impl store::FromRow for Change {
    fn from_row(row: &dyn store::Row) -> Result<Self> {
        let change: String = row.get(6)?;
        Ok(Change {
            version: row.get(0)?,
            kind: row.get(1)?,
            state: row.get(2)?,
            actor_kind: row.get(3)?,
            actor_id: row.get(4)?,
            reason: row.get(5)?,
            change: serde_json::from_str(&change).map_err(|e| Error::internal("a stored change is not JSON").caused_by(e))?,
            request_id: row.get(7)?,
            changed_at: row.get(8)?,
        })
    }
}
