//! Stock takes: what was counted at a location, against what the books had at that moment. The difference is booked, not the count, so
//! that what is sold between counting and booking is not undone; less what another stock take or a correction has booked meanwhile, so
//! that a difference that two people have found is booked once.

use crate::levels::{self, Change, Changes};
use crate::model::*;
use crate::{error, sql};
use kernel::{Error, Faults, Result, Timestamp};
use serde::{Deserialize, Serialize};
use store::{FromRow, NewEvent, Read, Row, Tx};
use utoipa::ToSchema;
use web::IfMatch;

/// An item that was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = StockCountLine)]
pub struct CountLine {
    /// The item.
    pub item_id: ItemId,
    /// How many the books had on hand when the count was told; what another stock take or a correction changed of it before this one
    /// was applied is in it.
    pub expected: i64,
    /// How many there were.
    pub counted: i64,
    /// `counted` less `expected`.
    pub difference: i64,
    /// What stock takes and corrections had changed at this level so far when `expected` was read.
    #[serde(skip)]
    pub(crate) recounted: i64,
}

/// A stock take, with its report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = StockCount)]
pub struct Count {
    /// Its id.
    pub count_id: CountId,
    /// Where.
    pub location_id: LocationId,
    /// Where it stands.
    pub state: CountState,
    /// For people.
    pub note: String,
    /// What was counted.
    pub lines: Vec<CountLine>,
    /// How many lines differ from the books.
    pub differing: i64,
    /// Rises with every change; the `ETag`.
    pub version: i64,
    /// When it began.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// A line as it is stored: the item, expected, counted, recounted. Lines of before the last one was known have it from 0, as levels have.
#[derive(Serialize, Deserialize)]
struct StoredLine(i64, i64, i64, #[serde(default)] i64);

fn lines_text(lines: &[CountLine]) -> Result<String> {
    stored(
        &lines
            .iter()
            .map(|line| StoredLine(line.item_id.as_i64(), line.expected, line.counted, line.recounted))
            .collect::<Vec<StoredLine>>(),
    )
}

fn lines_of(text: &str) -> Result<Vec<CountLine>> {
    let rows: Vec<StoredLine> = restored(text)?;
    let line = |StoredLine(item, expected, counted, recounted): StoredLine| CountLine {
        item_id: ItemId::from_i64(item),
        expected,
        counted,
        difference: counted - expected,
        recounted,
    };
    Ok(rows.into_iter().map(line).collect())
}

impl FromRow for Count {
    fn from_row(row: &dyn Row) -> Result<Self> {
        let lines = lines_of(&row.get::<String>(4)?)?;
        Ok(Count {
            count_id: row.get(0)?,
            location_id: row.get(1)?,
            state: row.get(2)?,
            note: row.get(3)?,
            differing: differing(&lines),
            lines,
            version: row.get(5)?,
            created_at: row.get(6)?,
            updated_at: row.get(7)?,
        })
    }
}

fn differing(lines: &[CountLine]) -> i64 {
    lines.iter().filter(|line| line.difference != 0).count() as i64
}

/// A stock take to begin.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = NewStockCount)]
#[serde(deny_unknown_fields)]
pub struct NewCount {
    /// Where.
    pub location_id: LocationId,
    /// For people.
    #[serde(default)]
    #[schema(max_length = 500)]
    pub note: String,
}

/// Begins a stock take. Errors: `request.invalid`.
pub(crate) fn begin(tx: &mut Tx<'_>, new: &NewCount) -> Result<Count> {
    let mut faults = Faults::default();
    faults.text("note", &new.note, 0, MAX_NOTE);
    faults.finish()?;
    if tx.opt::<Location>(sql::LOCATION, (new.location_id,))?.is_none() {
        return Err(Error::field("location_id", "unknown", "there is no such location"));
    }
    let now = tx.now();
    let count = Count {
        count_id: tx.new_id(),
        location_id: new.location_id,
        state: CountState::Open,
        note: new.note.clone(),
        lines: Vec::new(),
        differing: 0,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    let c = &count;
    tx.exec(sql::INSERT_COUNT, (c.count_id, c.location_id, c.state, &c.note, lines_text(&c.lines)?, now))?;
    Ok(count)
}

/// What was counted of an item.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[schema(as = StockCounted)]
#[serde(deny_unknown_fields)]
pub struct Counted {
    /// The item.
    pub item_id: ItemId,
    /// How many were there, fit for sale: the reserved ones with them.
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    pub counted: i64,
}

/// What was counted, to be noted.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    pub count_id: CountId,
    pub if_match: IfMatch,
    pub lines: Vec<Counted>,
}

fn open(tx: &mut Tx<'_>, count_id: CountId, if_match: IfMatch) -> Result<Count> {
    let count = count(tx, count_id)?;
    if_match.check(count.version)?;
    if count.state == CountState::Open { Ok(count) } else { Err(error::not_open("stock take")) }
}

fn save(tx: &mut Tx<'_>, count: &mut Count) -> Result<()> {
    let read = count.version;
    (count.version, count.updated_at, count.differing) = (read + 1, tx.now(), differing(&count.lines));
    let c = &*count;
    let row = (c.count_id, read, c.version, c.state, lines_text(&c.lines)?, c.updated_at);
    tx.must(sql::UPDATE_COUNT, row, error::version_conflict)
}

/// Notes what was counted, against what the books have now; an item that was noted before is counted anew.
/// Errors: `inventory.count_not_found`, `inventory.not_open`, `request.precondition_failed`, `request.invalid`.
pub(crate) fn note(tx: &mut Tx<'_>, asked: &Note) -> Result<Count> {
    let mut count = open(tx, asked.count_id, asked.if_match)?;
    let mut faults = Faults::default();
    faults.count("lines", asked.lines.len(), 1, MAX_ITEMS);
    for (at, line) in asked.lines.iter().enumerate().take(MAX_ITEMS) {
        faults.number(format!("lines[{at}].counted"), line.counted, 0, MAX_QUANTITY);
        if asked.lines[..at].iter().any(|other| other.item_id == line.item_id) {
            faults.add(format!("lines[{at}].item_id"), "repeated", "each item once");
        }
    }
    faults.finish()?;
    let there = levels::at_location(tx, count.location_id, asked.lines.iter().map(|line| line.item_id))?;
    for (at, line) in asked.lines.iter().enumerate() {
        let there = there.get(&line.item_id);
        let books = there.ok_or_else(|| Error::field(format!("lines[{at}].item_id"), "unknown", "there is no such item"))?;
        let noted = CountLine {
            item_id: line.item_id,
            expected: books.on_hand,
            counted: line.counted,
            difference: line.counted - books.on_hand,
            recounted: books.recounted,
        };
        match count.lines.iter_mut().find(|own| own.item_id == line.item_id) {
            Some(own) => *own = noted,
            None => count.lines.push(noted),
        }
    }
    if count.lines.len() > MAX_ITEMS {
        return Err(Error::field("lines", "too_many", format!("a stock take has at most {MAX_ITEMS} items: begin another one")));
    }
    save(tx, &mut count)?;
    Ok(count)
}

/// A step that needs nothing but the stock take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub count_id: CountId,
    pub if_match: IfMatch,
}

/// Books the differences, less what was booked of them meanwhile. Errors: `inventory.count_not_found`, `inventory.not_open`, `request.precondition_failed`,
/// `inventory.below_zero` when more has gone out since than was found.
pub(crate) fn apply(tx: &mut Tx<'_>, step: &Step) -> Result<Count> {
    let mut count = open(tx, step.count_id, step.if_match)?;
    let there = levels::at_location(tx, count.location_id, count.lines.iter().map(|line| line.item_id))?;
    for line in &mut count.lines {
        let books = there.get(&line.item_id).copied().unwrap_or_default();
        line.expected += books.recounted - line.recounted;
        (line.recounted, line.difference) = (books.recounted, line.counted - line.expected);
    }
    let differing: Vec<(usize, CountLine)> = count.lines.iter().copied().enumerate().filter(|(_, line)| line.difference != 0).collect();
    let line = |(_, line): &(usize, CountLine)| Change {
        item_id: line.item_id,
        location_id: count.location_id,
        kind: MovementKind::Counted,
        quantity: line.difference,
        expected: None,
    };
    if !differing.is_empty() {
        let changes =
            Changes { reference: count.count_id.to_string(), note: count.note.clone(), lines: differing.iter().map(line).collect() };
        levels::change_named(tx, &changes, |at| format!("lines[{}]", differing[at].0))?;
    }
    count.state = CountState::Applied;
    save(tx, &mut count)?;
    tx.emit(NewEvent::new("inventory.count_applied", 1, count.count_id, &count));
    Ok(count)
}

/// Calls a stock take off. Errors: `inventory.count_not_found`, `inventory.not_open`, `request.precondition_failed`.
pub(crate) fn cancel(tx: &mut Tx<'_>, step: &Step) -> Result<Count> {
    let mut count = open(tx, step.count_id, step.if_match)?;
    count.state = CountState::Cancelled;
    save(tx, &mut count)?;
    Ok(count)
}

/// A stock take. Errors: `inventory.count_not_found`.
pub(crate) fn count(read: &mut Read<'_>, count_id: CountId) -> Result<Count> {
    read.opt(sql::COUNT, (count_id,))?.ok_or_else(error::count_not_found)
}

/// Up to `limit` stock takes before `before`, the latest first.
pub(crate) fn counts(read: &mut Read<'_>, before: i64, limit: i64) -> Result<Vec<Count>> {
    read.all(sql::COUNTS_PAGE, (before, limit))
}
