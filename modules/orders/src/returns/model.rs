//! What a return is, which step its state allows, and what it costs: the shares of a line's amounts that its pieces have.

use crate::model::{CreditNoteId, Line, LineKind, MAX_LINES, NewLine, OrderId, VariantId, stored_as_text};
use crate::{error, model};
use kernel::{Currency, Error, Faults, Id, Result, Timestamp, UnitPrice};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Marks returns' ids (`rtn_...`).
pub enum ReturnEntity {}
impl kernel::Entity for ReturnEntity {
    const PREFIX: &'static str = "rtn";
}
/// The id of a return.
pub type ReturnId = Id<ReturnEntity>;

/// Where a return stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReturnState {
    /// The customer wants to send something back.
    Requested,
    /// It may come.
    Approved,
    /// It may not. Final.
    Rejected,
    /// It doesn't come after all. Final.
    Cancelled,
    /// It came.
    Received,
    /// Somebody has seen what may be sold again.
    Inspected,
    /// The money was credited. Final.
    Refunded,
    /// Another order took its place. Final.
    Exchanged,
    /// It ended without money. Final.
    Closed,
}
stored_as_text!(ReturnState {
    Requested = "requested",
    Approved = "approved",
    Rejected = "rejected",
    Cancelled = "cancelled",
    Received = "received",
    Inspected = "inspected",
    Refunded = "refunded",
    Exchanged = "exchanged",
    Closed = "closed",
});

/// What can be asked of a return that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReturnCommand {
    /// Let it come.
    Approve,
    /// Don't.
    Reject,
    /// Call it off.
    Cancel,
    /// Note what came.
    Receive,
    /// Note what may be sold again.
    Inspect,
    /// Credit the money. `money`: whether there is any.
    Refund {
        /// Whether there is something to credit.
        money: bool,
    },
    /// Let another order take its place. `money`: whether there is something to credit.
    Exchange {
        /// Whether there is something to credit.
        money: bool,
    },
    /// End it without money.
    Close,
}

impl ReturnCommand {
    fn verb(self) -> &'static str {
        match self {
            ReturnCommand::Approve => "approved",
            ReturnCommand::Reject => "rejected",
            ReturnCommand::Cancel => "cancelled",
            ReturnCommand::Receive => "received",
            ReturnCommand::Inspect => "inspected",
            ReturnCommand::Refund { .. } => "refunded",
            ReturnCommand::Exchange { .. } => "exchanged",
            ReturnCommand::Close => "closed",
        }
    }
}

/// The state after `command`. Errors: `orders.nothing_to_refund`, `orders.return_not_allowed`.
pub fn decide(state: ReturnState, command: ReturnCommand) -> Result<ReturnState> {
    use ReturnState::*;
    match (state, command) {
        (Requested, ReturnCommand::Approve) => Ok(Approved),
        (Requested, ReturnCommand::Reject) => Ok(Rejected),
        (Requested | Approved, ReturnCommand::Cancel) => Ok(Cancelled),
        (Approved, ReturnCommand::Receive) => Ok(Received),
        (Received, ReturnCommand::Inspect) => Ok(Inspected),
        (Inspected, ReturnCommand::Refund { money: true }) => Ok(Refunded),
        (Inspected, ReturnCommand::Exchange { money: true }) => Ok(Exchanged),
        (Inspected, ReturnCommand::Refund { money: false } | ReturnCommand::Exchange { money: false }) => Err(error::nothing_to_refund()),
        (Inspected, ReturnCommand::Close) => Ok(Closed),
        _ => Err(error::return_not_allowed(state, command.verb())),
    }
}

/// The shares of a line's amounts that some of its pieces have, in minor units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Of quantity times price, rounded: what is left of it without the discount, and the discount.
    pub rounded_minor: i64,
    /// Of the discount.
    pub discount_minor: i64,
    /// Of the tax that was added.
    pub tax_minor: i64,
    /// Of the tax that the price contains.
    pub included_tax_minor: i64,
}

impl Share {
    /// What they come to.
    pub fn total_minor(&self) -> i64 {
        self.rounded_minor - self.discount_minor + self.tax_minor
    }
}

/// What the first `pieces` of `of` have of an amount: rounded, a half away from zero.
fn first(amount: i64, pieces: i64, of: i64) -> i64 {
    let (exact, of) = (i128::from(amount) * i128::from(pieces), i128::from(of));
    let half = if exact < 0 { -of / 2 } else { of / 2 };
    // It lies between zero and the amount.
    ((exact + half) / of) as i64
}

/// The share of `quantity` pieces of a line after the first `before` of them had theirs. Whatever the parts in which all pieces are
/// taken: the shares add up to the line's amounts, to the minor unit, and none is below zero where the line's amount is not. What is paid
/// is shared out, not the price and the discount by themselves: their difference would come to less than nothing now and then.
/// `before + quantity` is at most the line's quantity.
pub fn share(line: &Line, before: i64, quantity: i64) -> Share {
    let of = |amount: i64| first(amount, before + quantity, line.quantity) - first(amount, before, line.quantity);
    let (net_minor, discount_minor) = (of(line.total_minor - line.tax_minor), of(line.discount_minor));
    Share {
        rounded_minor: net_minor + discount_minor,
        discount_minor,
        tax_minor: of(line.tax_minor),
        included_tax_minor: of(line.included_tax_minor),
    }
}

/// What the pieces cost that were sent of each line of goods, and all other lines; in minor units. None when nothing was sent.
pub(crate) fn sent_minor(lines: &[Line], sent: &BTreeMap<u32, i64>) -> Option<i64> {
    let pieces = |line: &Line| of(sent, line.line).min(line.quantity);
    let goods = |line: &&Line| line.kind == LineKind::Sale;
    if lines.iter().filter(goods).all(|line| pieces(line) == 0) {
        return None;
    }
    let minor = |line: &Line| if goods(&line) { share(line, 0, pieces(line)).total_minor() } else { line.total_minor };
    Some(lines.iter().map(minor).sum())
}

/// The line of a credit note that takes back `quantity` pieces of a line. It comes to the negative of their share; what rounding a price
/// alone would make different is part of its discount. Errors: `money.overflow`.
pub fn credit_line(number: u32, line: &Line, currency: Currency, quantity: i64, share: &Share) -> Result<Line> {
    let rounded_minor = line.unit_price.extended(-quantity, currency)?.minor;
    let (tax_minor, total_minor) = (-share.tax_minor, -share.total_minor());
    Ok(Line {
        line: number,
        kind: LineKind::Credit,
        sku: line.sku.clone(),
        variant_id: line.variant_id,
        description: line.description.clone(),
        quantity: -quantity,
        unit_price: line.unit_price,
        extended: UnitPrice::from_micros(line.unit_price.extended_micros(-quantity)?),
        discount_minor: rounded_minor + tax_minor - total_minor,
        tax_minor,
        included_tax_minor: -share.included_tax_minor,
        total_minor,
    })
}

/// How many of a line are wanted back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ReturnWantedLine)]
pub struct WantedLine {
    /// Number of the order's line.
    #[schema(minimum = 1, maximum = 100_000)]
    pub line: u32,
    /// How many.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    pub quantity: i64,
    /// Why.
    #[serde(default)]
    #[schema(max_length = 200)]
    pub reason: String,
}

/// Names what is wrong with a list of wanted lines.
pub(crate) fn check_wanted(wanted: &[WantedLine], faults: &mut Faults) {
    if wanted.is_empty() || wanted.len() > MAX_LINES {
        faults.add("lines", "wrong_count", format!("{} lines; between 1 and {MAX_LINES}", wanted.len()));
        return;
    }
    let mut seen = std::collections::BTreeSet::new();
    for (i, line) in wanted.iter().enumerate() {
        faults.text(format!("lines[{i}].reason"), &line.reason, 0, 200);
        check_line(i, line.line, &[("quantity", line.quantity, 1)], &mut seen, faults);
    }
}

/// Checks a line's number, and quantities that are at least so much.
pub(crate) fn check_line(
    i: usize,
    line: u32,
    quantities: &[(&str, i64, i64)],
    seen: &mut std::collections::BTreeSet<u32>,
    faults: &mut Faults,
) {
    if line == 0 || line > model::MAX_LINE_NUMBER {
        faults.add(format!("lines[{i}].line"), "out_of_range", format!("between 1 and {}", model::MAX_LINE_NUMBER));
    } else if !seen.insert(line) {
        faults.add(format!("lines[{i}].line"), "repeated", "this line is given twice");
    }
    for (field, quantity, least) in quantities {
        if !(*least..=model::MAX_QUANTITY).contains(quantity) {
            faults.add(format!("lines[{i}].{field}"), "out_of_range", format!("between {least} and {}", model::MAX_QUANTITY));
        }
    }
}

/// What of an order's lines may still come back, and which of their pieces have had their share of the money.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// What went out of each line of goods.
    pub fulfilled: BTreeMap<u32, i64>,
    /// What other returns have claimed.
    pub claimed: BTreeMap<u32, i64>,
    /// What was refunded.
    pub refunded: BTreeMap<u32, i64>,
    /// What was given back for each line, by returns and by credit notes that somebody wrote, in minor units.
    pub given_back: BTreeMap<u32, i64>,
}

fn of(quantities: &BTreeMap<u32, i64>, line: u32) -> i64 {
    quantities.get(&line).copied().unwrap_or(0)
}

impl Standing {
    /// How many of a line may still come back.
    pub fn left(&self, line: u32) -> i64 {
        (of(&self.fulfilled, line) - of(&self.claimed, line)).max(0)
    }

    /// What is refunded for so many more of a line: their share, but no more than is left of what the line cost.
    pub fn refund(&self, line: &Line, quantity: i64) -> Share {
        let share = share(line, of(&self.refunded, line.line), quantity);
        let (total_minor, left_minor) = (share.total_minor(), (line.total_minor - of(&self.given_back, line.line)).max(0));
        if total_minor <= left_minor {
            return share;
        }
        // Tax goes with what it is a tax on.
        let part = |amount: i64| (i128::from(amount) * i128::from(left_minor) / i128::from(total_minor)) as i64;
        let tax_minor = part(share.tax_minor);
        let discount_minor = share.rounded_minor + tax_minor - left_minor;
        Share { discount_minor, tax_minor, included_tax_minor: part(share.included_tax_minor), ..share }
    }

    /// Counts what credit notes that somebody wrote have given back, by SKU: the first lines of a SKU have it first, each no more than is
    /// left of what it cost.
    pub(crate) fn credited_by_hand(&mut self, lines: &[Line], mut by_sku: BTreeMap<String, i64>) {
        for line in lines.iter().filter(|line| line.kind == LineKind::Sale) {
            let Some(credited) = by_sku.get_mut(&line.sku) else { continue };
            let given_back = self.given_back.entry(line.line).or_default();
            let some = (*credited).clamp(0, (line.total_minor - *given_back).max(0));
            *credited -= some;
            *given_back += some;
        }
    }
}

/// A line of a preview.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ReturnPreviewLine)]
pub struct PreviewLine {
    /// Number of the order's line.
    pub line: u32,
    /// Stock-keeping unit.
    pub sku: String,
    /// How many.
    pub quantity: i64,
    /// Of what is refunded, the tax that had been added, in minor units.
    pub tax_minor: i64,
    /// What is refunded, in minor units.
    pub refund_minor: i64,
}

/// What a return would cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ReturnPreview)]
pub struct Preview {
    /// Of every amount.
    pub currency: Currency,
    /// By number.
    pub lines: Vec<PreviewLine>,
    /// What would be refunded, in minor units.
    pub refund_minor: i64,
    /// What the goods instead would cost; null without any.
    pub exchange_minor: Option<i64>,
    /// What the customer would have to pay, in minor units; below zero is given back.
    pub due_minor: i64,
}

/// What it would cost to take these lines back, and to send others instead.
/// Errors: `orders.over_return`, `request.invalid` for a line that is not there or is no goods.
pub fn preview(
    lines: &[Line],
    standing: &Standing,
    wanted: &[WantedLine],
    instead: Option<&[Line]>,
    currency: Currency,
) -> Result<Preview> {
    let mut previews = Vec::with_capacity(wanted.len());
    for (i, wanted) in wanted.iter().enumerate() {
        let line = goods(lines, i, wanted.line)?;
        let left = standing.left(line.line);
        if wanted.quantity > left {
            return Err(error::over_return(line.line, left));
        }
        let share = standing.refund(line, wanted.quantity);
        let (tax_minor, refund_minor) = (share.tax_minor, share.total_minor());
        previews.push(PreviewLine { line: line.line, sku: line.sku.clone(), quantity: wanted.quantity, tax_minor, refund_minor });
    }
    previews.sort_unstable_by_key(|line| line.line);
    let refund_minor: i64 = previews.iter().map(|line| line.refund_minor).sum();
    let exchange_minor = instead.map(|lines| lines.iter().map(|line| line.total_minor).sum());
    let due_minor = exchange_minor.unwrap_or(0) - refund_minor;
    Ok(Preview { currency, lines: previews, refund_minor, exchange_minor, due_minor })
}

/// The line of goods with a number. Errors: `request.invalid` naming `lines[i].line`.
pub(crate) fn goods(lines: &[Line], i: usize, number: u32) -> Result<&Line> {
    let found = lines.iter().find(|line| line.line == number && line.kind == LineKind::Sale);
    found.ok_or_else(|| Error::field(format!("lines[{i}].line"), "unknown", "the order has no such line of goods"))
}

/// A line of a return.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReturnLine {
    /// Number of the order's line.
    pub line: u32,
    /// How many were asked for.
    pub quantity: i64,
    /// Why.
    pub reason: String,
    /// How many came.
    pub received: i64,
    /// How many of them may be sold again.
    pub restocked: i64,
    /// How many may not.
    pub written_off: i64,
    /// How many are, or were, refunded.
    pub refunded: i64,
    /// What was refunded for them, in minor units; 0 until it is.
    pub refund_minor: i64,
}

impl store::FromRow for ReturnLine {
    fn from_row(row: &dyn store::Row) -> Result<Self> {
        Ok(ReturnLine {
            line: row.get(0)?,
            quantity: row.get(1)?,
            reason: row.get(2)?,
            received: row.get(3)?,
            restocked: row.get(4)?,
            written_off: row.get(5)?,
            refunded: row.get(6)?,
            refund_minor: row.get(7)?,
        })
    }
}

/// A return without its lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReturnHead {
    /// Its id.
    pub return_id: ReturnId,
    /// The order whose goods come back.
    pub order_id: OrderId,
    /// Where it stands.
    pub state: ReturnState,
    /// Rises with every change; the `ETag`.
    pub version: i64,
    /// Why, as the customer says.
    pub reason: String,
    /// What was refunded, in minor units; 0 until it is.
    pub refund_minor: i64,
    /// Of what was refunded, what counts for the order that takes its place, in minor units: it is not given back.
    #[serde(default)]
    pub carried_minor: i64,
    /// Of every amount.
    pub currency: Currency,
    /// The credit note that gives the money back.
    pub credit_note_id: Option<CreditNoteId>,
    /// The order that takes its place.
    pub exchange_order_id: Option<OrderId>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl store::FromRow for ReturnHead {
    fn from_row(row: &dyn store::Row) -> Result<Self> {
        Ok(ReturnHead {
            return_id: row.get(0)?,
            order_id: row.get(1)?,
            state: row.get(2)?,
            version: row.get(3)?,
            reason: row.get(4)?,
            refund_minor: row.get(5)?,
            currency: row.get(6)?,
            credit_note_id: row.get(7)?,
            exchange_order_id: row.get(8)?,
            created_at: row.get(9)?,
            updated_at: row.get(10)?,
            carried_minor: row.get(11)?,
        })
    }
}

/// A return with its lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Return {
    /// The return.
    #[serde(flatten)]
    pub head: ReturnHead,
    /// By number.
    pub lines: Vec<ReturnLine>,
}

/// A change of a return, as it was recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReturnChange {
    /// The version that it made.
    pub version: i64,
    /// What was done: `requested`, `approved`, `rejected`, `cancelled`, `received`, `inspected`, `refunded`, `exchanged` or `closed`.
    pub kind: String,
    /// The state after it.
    pub state: ReturnState,
    /// What kind of actor did it: `user`, `api_key` or `system`.
    pub actor_kind: String,
    /// The user's or the key's number; 0 for the system.
    pub actor_id: i64,
    /// Why, as given.
    pub reason: String,
    /// The request that did it.
    pub request_id: Option<String>,
    /// When.
    pub changed_at: Timestamp,
}

impl store::FromRow for ReturnChange {
    fn from_row(row: &dyn store::Row) -> Result<Self> {
        Ok(ReturnChange {
            version: row.get(0)?,
            kind: row.get(1)?,
            state: row.get(2)?,
            actor_kind: row.get(3)?,
            actor_id: row.get(4)?,
            reason: row.get(5)?,
            request_id: row.get(6)?,
            changed_at: row.get(7)?,
        })
    }
}

/// What came of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ReturnInspectedLine)]
pub struct InspectedLine {
    /// Number of the order's line.
    #[schema(minimum = 1, maximum = 100_000)]
    pub line: u32,
    /// How many may be sold again. With those that may not it is as many as came.
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    pub restock: i64,
    /// How many may not.
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    pub write_off: i64,
    /// How many are refunded, at most as many as came; left out: all of them.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    pub refund: Option<i64>,
}

/// What a return does to the stock: told with its event, and to the flow in whose transaction it is inspected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Back {
    /// Number of the order's line.
    pub line: u32,
    /// Stock-keeping unit.
    pub sku: String,
    /// The catalog's variant, when there is one.
    pub variant_id: Option<VariantId>,
    /// How many may be sold again.
    pub restock: i64,
    /// How many may not.
    pub write_off: i64,
}

/// Prices the lines that would be sent instead. Errors: `request.invalid` naming `exchange_lines[i]`.
pub(crate) fn instead(currency: Currency, given: &[NewLine]) -> Result<Vec<Line>> {
    let mut faults = Faults::default();
    let lines = model::price_lines(model::DocumentKind::Order, currency, given, 0, &mut faults);
    faults.finish().map_err(|error| {
        let fields =
            error.field_errors().iter().map(|field| kernel::FieldError { field: format!("exchange_{}", field.field), ..field.clone() });
        Error::fields(fields.collect()).err().unwrap_or(error)
    })?;
    Ok(lines)
}
