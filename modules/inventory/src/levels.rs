//! Changes of levels: each is decided by a pure rule, written, and entered into the stock ledger with its reason.

use crate::model::*;
use crate::{error, events, sql};
use kernel::{Error, Faults, Result, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use store::{Engine, FromRow, Read, Row, Tx, Value};
use utoipa::ToSchema;

/// One change of a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Of which item.
    pub item_id: ItemId,
    /// Where.
    pub location_id: LocationId,
    /// Why.
    pub kind: MovementKind,
    /// How many; for `corrected` and `safety_set` what it shall be; below zero for `expected` and `counted` only.
    pub quantity: i64,
    /// What the number that is changed is now, as far as the caller knows: another one refuses. `corrected` has to know.
    pub expected: Option<i64>,
}

/// Changes that stand or fall together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// What they belong to; up to 100 characters, or empty.
    pub reference: String,
    /// For people; up to 500 characters.
    pub note: String,
    /// In this order; up to [`MAX_ITEMS`].
    pub lines: Vec<Change>,
}

/// What people may do to a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = StockManualKind)]
#[serde(rename_all = "snake_case")]
pub enum ManualKind {
    /// A delivery was announced; below zero: less of it.
    Expected,
    /// Goods came in; what was announced of them is incoming no more.
    Received,
    /// Goods came back on sale.
    Restocked,
    /// Goods on hand are lost.
    WrittenOff,
    /// Goods on hand were damaged.
    Damaged,
    /// Damaged goods are on sale again.
    Repaired,
    /// Damaged goods are lost.
    Scrapped,
    /// What is on hand is set to `quantity`; it has to be told what it is believed to be now.
    Corrected,
    /// What is never sold is set to `quantity`.
    SafetySet,
}

impl From<ManualKind> for MovementKind {
    fn from(kind: ManualKind) -> MovementKind {
        match kind {
            ManualKind::Expected => MovementKind::Expected,
            ManualKind::Received => MovementKind::Received,
            ManualKind::Restocked => MovementKind::Restocked,
            ManualKind::WrittenOff => MovementKind::WrittenOff,
            ManualKind::Damaged => MovementKind::Damaged,
            ManualKind::Repaired => MovementKind::Repaired,
            ManualKind::Scrapped => MovementKind::Scrapped,
            ManualKind::Corrected => MovementKind::Corrected,
            ManualKind::SafetySet => MovementKind::SafetySet,
        }
    }
}

/// By how much each number of a level changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deltas {
    /// On hand.
    pub on_hand: i64,
    /// Incoming.
    pub incoming: i64,
    /// Of the incoming ones, those from another location.
    pub in_transit: i64,
    /// Damaged.
    pub damaged: i64,
    /// Never sold.
    pub safety: i64,
}

/// What a change does to a level as it is.
pub fn deltas(level: &Level, kind: MovementKind, quantity: i64) -> Deltas {
    use MovementKind::*;
    let none = Deltas::default();
    match kind {
        Expected => Deltas { incoming: quantity, ..none },
        TransferExpected => Deltas { incoming: quantity, in_transit: quantity, ..none },
        // What is under way from another location comes by its transfer, not by this.
        Received => Deltas { on_hand: quantity, incoming: -announced(level).clamp(0, quantity), ..none },
        Restocked | Returned | Counted => Deltas { on_hand: quantity, ..none },
        WrittenOff | Shipped | TransferOut => Deltas { on_hand: -quantity, ..none },
        Damaged => Deltas { on_hand: -quantity, damaged: quantity, ..none },
        Repaired => Deltas { on_hand: quantity, damaged: -quantity, ..none },
        Scrapped => Deltas { damaged: -quantity, ..none },
        ReturnedDamaged => Deltas { damaged: quantity, ..none },
        Corrected => Deltas { on_hand: quantity - level.on_hand, ..none },
        SafetySet => Deltas { safety: quantity - level.safety, ..none },
        TransferIn => Deltas { on_hand: quantity, incoming: -quantity, in_transit: -quantity, ..none },
        TransferDamaged => Deltas { damaged: quantity, incoming: -quantity, in_transit: -quantity, ..none },
        TransferShort => Deltas { incoming: -quantity, in_transit: -quantity, ..none },
    }
}

/// How many of the incoming ones somebody has announced.
fn announced(level: &Level) -> i64 {
    level.incoming - level.in_transit
}

/// The number that a change is about, as `expected` knows it.
fn about(level: &Level, kind: MovementKind) -> i64 {
    use MovementKind::*;
    match kind {
        Expected | TransferExpected | TransferIn | TransferDamaged | TransferShort => level.incoming,
        Repaired | Scrapped | ReturnedDamaged => level.damaged,
        SafetySet => level.safety,
        Received | Restocked | WrittenOff | Damaged | Corrected | Shipped | Returned | TransferOut | Counted => level.on_hand,
    }
}

/// The level after a change, and what it changed. `at` names the change in a refusal.
/// Errors: `inventory.expected_differs`, `inventory.below_zero`, `inventory.level_too_large`.
pub fn decide(level: &Level, change: &Change, at: impl Fn() -> String) -> Result<(Level, Deltas)> {
    if let Some(expected) = change.expected.filter(|expected| *expected != about(level, change.kind)) {
        return Err(error::expected_differs(format!("{}.expected", at()), expected, about(level, change.kind)));
    }
    let by = deltas(level, change.kind, change.quantity);
    let mut after = *level;
    for (name, number, by) in [
        ("on hand", &mut after.on_hand, by.on_hand),
        ("incoming", &mut after.incoming, by.incoming),
        ("in transit", &mut after.in_transit, by.in_transit),
        ("damaged", &mut after.damaged, by.damaged),
        ("safety", &mut after.safety, by.safety),
    ] {
        let before = *number;
        *number += by;
        if *number < 0 {
            return Err(error::below_zero(format!("{}.quantity", at()), format!("{} to be taken, {before} {name}", -by)));
        }
        if *number > MAX_LEVEL {
            return Err(error::level_too_large(format!("{}.quantity", at()), MAX_LEVEL));
        }
    }
    after.available = after.on_hand - after.reserved - after.safety;
    if change.kind == MovementKind::Expected && change.quantity < 0 && announced(&after) < 0 {
        return Err(error::below_zero(
            format!("{}.quantity", at()),
            format!("{} to be taken, {} announced", -change.quantity, announced(level)),
        ));
    }
    // A transfer takes only what is nobody's.
    if change.kind == MovementKind::TransferOut && after.available < 0 {
        return Err(error::below_zero(
            format!("{}.quantity", at()),
            format!("{} to be sent, {} available", change.quantity, level.available),
        ));
    }
    Ok((after, by))
}

/// An item with its levels, while they change.
pub(crate) struct Kept {
    policy: Policy,
    low_stock_at: Option<i64>,
    levels: BTreeMap<LocationId, KeptLevel>,
}

/// A level, while it changes.
#[derive(Clone, Copy)]
struct KeptLevel {
    level: Level,
    /// Whether anything is sold from there.
    active: bool,
    /// By how much stock takes and corrections have changed what is on hand.
    recounted: i64,
}

impl Kept {
    /// On hand at a location.
    pub(crate) fn on_hand(&self, location_id: LocationId) -> i64 {
        self.levels.get(&location_id).map_or(0, |kept| kept.level.on_hand)
    }

    fn balance(&self) -> i64 {
        self.levels.values().filter(|kept| kept.active).map(|kept| kept.level.available).sum()
    }
}

struct KeptRow {
    item_id: ItemId,
    policy: Policy,
    low_stock_at: Option<i64>,
    level: Option<KeptLevel>,
}

impl FromRow for KeptRow {
    fn from_row(row: &dyn Row) -> Result<Self> {
        let item_id = row.get(0)?;
        let level = match row.get::<Option<LocationId>>(3)? {
            None => None,
            Some(location_id) => {
                let (on_hand, reserved, incoming, damaged, safety) = (row.get(4)?, row.get(5)?, row.get(6)?, row.get(7)?, row.get(8)?);
                let (available, in_transit) = (on_hand - reserved - safety, row.get(10)?);
                let level = Level { item_id, location_id, on_hand, reserved, incoming, in_transit, damaged, safety, available };
                Some(KeptLevel { level, active: row.get(9)?, recounted: row.get(11)? })
            }
        };
        Ok(KeptRow { item_id, policy: row.get(1)?, low_stock_at: row.get(2)?, level })
    }
}

/// Those of the items that are there, with their levels.
pub(crate) fn load(read: &mut Read<'_>, items: impl Iterator<Item = ItemId>) -> Result<BTreeMap<ItemId, Kept>> {
    let ids: BTreeSet<i64> = items.map(ItemId::as_i64).collect();
    let mut kept: BTreeMap<ItemId, Kept> = BTreeMap::new();
    let rows: Vec<KeptRow> = read.all(sql::ITEM_LEVELS, (ids.into_iter().collect::<Vec<i64>>(),))?;
    for row in rows {
        let item = kept.entry(row.item_id).or_insert(Kept { policy: row.policy, low_stock_at: row.low_stock_at, levels: BTreeMap::new() });
        if let Some(kept) = row.level {
            item.levels.insert(kept.level.location_id, kept);
        }
    }
    Ok(kept)
}

/// What changes of one level come to.
struct Sum {
    was: Level,
    by: Deltas,
    recounted: i64,
}

impl Sum {
    fn from(was: Level) -> Sum {
        Sum { was, by: Deltas::default(), recounted: 0 }
    }

    fn add(&mut self, kind: MovementKind, by: Deltas) {
        let sum = &mut self.by;
        (sum.on_hand, sum.damaged, sum.safety) = (sum.on_hand + by.on_hand, sum.damaged + by.damaged, sum.safety + by.safety);
        (sum.incoming, sum.in_transit) = (sum.incoming + by.incoming, sum.in_transit + by.in_transit);
        if matches!(kind, MovementKind::Counted | MovementKind::Corrected) {
            self.recounted += by.on_hand;
        }
    }
}

/// Makes changes, all or none, in their order; the entries of the ledger. `field` names a change in a refusal: `lines[0]`.
/// Errors: `request.invalid` (for an unknown item or location, too), and those of [`decide`].
pub(crate) fn change_named(tx: &mut Tx<'_>, changes: &Changes, field: impl Fn(usize) -> String) -> Result<Vec<Movement>> {
    let mut faults = Faults::default();
    faults.count("lines", changes.lines.len(), 1, 2 * MAX_ITEMS);
    check(&mut faults, changes, &field);
    faults.finish()?;
    let now = tx.now();
    let movements = decide_all(tx, &[(changes, now)], |_, line| field(line))?;
    movements.iter().for_each(|movement| tx.emit(events::moved(movement)));
    Ok(movements)
}

/// Decides what was checked, each on what those before it have left, and writes it; telling of the movements is the caller's.
/// `at` names a change in a refusal, by its document and its line.
pub(crate) fn decide_all(
    tx: &mut Tx<'_>,
    documents: &[(&Changes, Timestamp)],
    at: impl Fn(usize, usize) -> String,
) -> Result<Vec<Movement>> {
    let kept = load(tx, documents.iter().flat_map(|(changes, _)| &changes.lines).map(|line| line.item_id))?;
    decide_on(tx, kept, documents, at)
}

/// The same on items that are loaded; any other is unknown to it.
pub(crate) fn decide_on(
    tx: &mut Tx<'_>,
    mut kept: BTreeMap<ItemId, Kept>,
    documents: &[(&Changes, Timestamp)],
    at: impl Fn(usize, usize) -> String,
) -> Result<Vec<Movement>> {
    let lines = || documents.iter().flat_map(|(changes, _)| &changes.lines);
    let unseen = |line: &Change| kept.get(&line.item_id).is_some_and(|item| !item.levels.contains_key(&line.location_id));
    if lines().any(unseen) {
        add_unseen(tx, lines(), &mut kept)?;
    }
    let before: BTreeMap<ItemId, i64> = kept.iter().map(|(item_id, item)| (*item_id, item.balance())).collect();
    let mut sums: BTreeMap<(ItemId, LocationId), Sum> = BTreeMap::new();
    let mut movements = Vec::with_capacity(lines().count());
    for (document, (changes, moved_at)) in documents.iter().enumerate() {
        for (index, line) in changes.lines.iter().enumerate() {
            let unknown =
                |what: &str| Error::field(format!("{}.{what}_id", at(document, index)), "unknown", format!("there is no such {what}"));
            let item = kept.get_mut(&line.item_id).ok_or_else(|| unknown("item"))?;
            let level = &mut item.levels.get_mut(&line.location_id).ok_or_else(|| unknown("location"))?.level;
            let (after, by) = decide(level, line, || at(document, index))?;
            sums.entry((line.item_id, line.location_id)).or_insert_with(|| Sum::from(*level)).add(line.kind, by);
            *level = after;
            movements.push(Movement {
                movement_id: tx.new_id(),
                item_id: line.item_id,
                location_id: line.location_id,
                kind: line.kind,
                on_hand: by.on_hand,
                incoming: by.incoming,
                damaged: by.damaged,
                safety: by.safety,
                reference: changes.reference.clone(),
                note: changes.note.clone(),
                moved_at: *moved_at,
            });
        }
    }
    save(tx, &sums)?;
    insert(tx, &movements)?;
    for ((item_id, location_id), Sum { was, .. }) in &sums {
        let Some(item) = kept.get(item_id) else { continue };
        let Some(KeptLevel { level, .. }) = item.levels.get(location_id) else { continue };
        if item.policy == Policy::Deny && was.on_hand >= was.reserved && level.on_hand < level.reserved {
            tx.emit(events::oversold(*item_id, *location_id, level.on_hand, level.reserved));
        }
    }
    for (item_id, before) in before {
        let Some(item) = kept.get(&item_id) else { continue };
        if let Some(mark) = item.low_stock_at.filter(|mark| before > *mark && item.balance() <= *mark) {
            tx.emit(events::low(item_id, item.balance(), mark));
        }
    }
    Ok(movements)
}

/// More levels than this are worth a statement for all of them, where that saves messages.
const FEW: usize = 4;
/// Rows of one statement: bounds its memory.
const SET_ROWS: usize = 5_000;

/// Adds to levels: a statement for all on PostgreSQL, where a message costs more than a row.
fn save(tx: &mut Tx<'_>, sums: &BTreeMap<(ItemId, LocationId), Sum>) -> Result<()> {
    if sums.len() > FEW && tx.engine() == Engine::Postgres {
        let ints = |value: fn(&(ItemId, LocationId), &Sum) -> i64| -> Value<'static> {
            Value::Ints(sums.iter().map(|(key, sum)| value(key, sum)).collect())
        };
        let keys = (ints(|key, _| key.0.as_i64()), ints(|key, _| key.1.as_i64()));
        let here = (ints(|_, sum| sum.by.on_hand), ints(|_, sum| sum.by.damaged), ints(|_, sum| sum.by.safety));
        let coming = (ints(|_, sum| sum.by.incoming), ints(|_, sum| sum.by.in_transit));
        let recounted = ints(|_, sum| sum.recounted);
        return tx.exec(sql::CHANGE_LEVEL_SET, (keys.0, keys.1, here.0, coming.0, here.1, here.2, coming.1, recounted));
    }
    let rows = sums.iter().map(|((item_id, location_id), sum)| {
        let by = &sum.by;
        (item_id, location_id, by.on_hand, by.incoming, by.damaged, by.safety, by.in_transit, sum.recounted)
    });
    tx.exec_each(sql::CHANGE_LEVEL, rows)
}

/// The same for a list that is called `lines`.
pub(crate) fn change(tx: &mut Tx<'_>, changes: &Changes) -> Result<Vec<Movement>> {
    change_named(tx, changes, |index| format!("lines[{index}]"))
}

/// Levels of nothing at locations that are there and keep nothing of an item yet.
fn add_unseen<'c>(tx: &mut Tx<'_>, lines: impl Iterator<Item = &'c Change>, kept: &mut BTreeMap<ItemId, Kept>) -> Result<()> {
    type SiteRow = (LocationId, LocationKind, Option<f64>, Option<f64>, i64, bool);
    let sites: Vec<SiteRow> = tx.all(sql::SITES, ())?;
    let active: BTreeMap<LocationId, bool> = sites.into_iter().map(|site| (site.0, site.5)).collect();
    for line in lines {
        if let (Some(item), Some(active)) = (kept.get_mut(&line.item_id), active.get(&line.location_id)) {
            let level = Level::nothing(line.item_id, line.location_id);
            let nothing = KeptLevel { level, active: *active, recounted: 0 };
            item.levels.entry(line.location_id).or_insert(nothing);
        }
    }
    Ok(())
}

/// Checks everything but how many lines there are.
pub(crate) fn check(faults: &mut Faults, changes: &Changes, field: &impl Fn(usize) -> String) {
    faults.text("reference", &changes.reference, 0, MAX_REFERENCE);
    faults.text("note", &changes.note, 0, MAX_NOTE);
    for (index, line) in changes.lines.iter().enumerate() {
        let (least, most) = match line.kind {
            MovementKind::Expected => (-MAX_QUANTITY, MAX_QUANTITY),
            MovementKind::Counted => (-MAX_LEVEL, MAX_LEVEL),
            MovementKind::Corrected | MovementKind::SafetySet => (0, MAX_QUANTITY),
            _ => (1, MAX_QUANTITY),
        };
        if line.quantity < least || line.quantity > most {
            faults.number(format!("{}.quantity", field(index)), line.quantity, least, most);
        }
        if line.kind == MovementKind::Corrected && line.expected.is_none() {
            faults.add(format!("{}.expected", field(index)), "required", "a correction says what is believed to be on hand now");
        }
        if let Some(expected) = line.expected.filter(|expected| *expected < 0 || *expected > MAX_LEVEL) {
            faults.number(format!("{}.expected", field(index)), expected, 0, MAX_LEVEL);
        }
    }
}

/// Enters movements into the ledger, and tells of each.
pub(crate) fn enter(tx: &mut Tx<'_>, movements: &[Movement]) -> Result<()> {
    insert(tx, movements)?;
    movements.iter().for_each(|movement| tx.emit(events::moved(movement)));
    Ok(())
}

/// Enters movements into the ledger.
fn insert(tx: &mut Tx<'_>, movements: &[Movement]) -> Result<()> {
    // In the order of the table: an item's entries are neighbours there.
    let mut movements: Vec<&Movement> = movements.iter().collect();
    movements.sort_by_key(|movement| (movement.item_id, movement.movement_id));
    if movements.len() > FEW && tx.engine() == Engine::Postgres {
        return movements.chunks(SET_ROWS).try_for_each(|rows| {
            let ints = |value: fn(&Movement) -> i64| -> Value<'static> { Value::Ints(rows.iter().map(|row| value(row)).collect()) };
            let texts =
                |value: fn(&Movement) -> &str| -> Value<'static> { Value::Texts(rows.iter().map(|row| value(row).to_owned()).collect()) };
            let keys = (ints(|m| m.movement_id.as_i64()), ints(|m| m.item_id.as_i64()), ints(|m| m.location_id.as_i64()));
            let by = (ints(|m| m.on_hand), ints(|m| m.incoming), ints(|m| m.damaged), ints(|m| m.safety));
            let words = (texts(|m| m.kind.as_str()), texts(|m| &m.reference), texts(|m| &m.note));
            let args = (keys.0, keys.1, keys.2, words.0, by.0, by.1, by.2, by.3, words.1, words.2, ints(|m| m.moved_at.micros()));
            tx.exec(sql::INSERT_MOVEMENT_SET, args)
        });
    }
    let row = |m: &&Movement| {
        let what = (m.movement_id, m.item_id, m.location_id, m.kind, m.on_hand, m.incoming, m.damaged, m.safety);
        let (reference, note) = (m.reference.clone(), m.note.clone());
        (what.0, what.1, what.2, what.3, what.4, what.5, what.6, what.7, reference, note, m.moved_at)
    };
    tx.exec_each(sql::INSERT_MOVEMENT, movements.iter().map(row))
}

/// The levels of an item. Errors: `inventory.item_not_found`.
pub(crate) fn levels(read: &mut Read<'_>, item_id: ItemId) -> Result<Vec<Level>> {
    crate::items::item(read, item_id)?;
    read.all(sql::LEVELS, (item_id,))
}

/// The level of an item at a location; nothing where there is none.
pub(crate) fn level(read: &mut Read<'_>, item_id: ItemId, location_id: LocationId) -> Result<Level> {
    Ok(read.opt(sql::LEVEL, (item_id, location_id))?.unwrap_or(Level::nothing(item_id, location_id)))
}

/// Up to `limit` entries of an item before `before`, the latest first. Errors: `inventory.item_not_found`.
pub(crate) fn movements(read: &mut Read<'_>, item_id: ItemId, before: i64, limit: i64) -> Result<Vec<Movement>> {
    crate::items::item(read, item_id)?;
    read.all(sql::MOVEMENTS_PAGE, (item_id, before, limit))
}

/// What a stock take is compared with.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counting {
    /// What the books have on hand.
    pub on_hand: i64,
    /// What stock takes and corrections have changed of it so far.
    pub recounted: i64,
}

/// What the books have of items at a location; an item that isn't there at all is left out.
pub(crate) fn at_location(
    read: &mut Read<'_>,
    location_id: LocationId,
    items: impl Iterator<Item = ItemId>,
) -> Result<BTreeMap<ItemId, Counting>> {
    let counting = |kept: &KeptLevel| Counting { on_hand: kept.level.on_hand, recounted: kept.recounted };
    let there = |item: &Kept| item.levels.get(&location_id).map_or(Counting::default(), counting);
    Ok(load(read, items)?.into_iter().map(|(item_id, item)| (item_id, there(&item))).collect())
}
