//! What belongs together, and what differs: pure functions over one charge's movements, ours and the provider's.
//!
//! Each row and each of our operations has at most one difference, the first of this order that applies: a row that can't be read; one
//! that was there before (duplicate); one that nobody asked for (missing here); one that names nothing of ours but is the one that is
//! missing (reference); then direction, currency, status, amount (or a part of it), fee, net, date. What no row tells is missing there.
//!
//! An operation is settled once its money has come whole, or as much of it as will: a row that is not settled says nothing of that, and
//! what came in part is remembered until the rest comes. Amounts of one row are at most [`super::format::MAX_ROW_MINOR`] and rows of one
//! charge are counted, so that sums fit.

use kernel::Currency;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use utoipa::ToSchema;

/// Whether money came or went back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Direction {
    Capture,
    Refund,
}

/// Where a row says that it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowState {
    Settled,
    Other,
}

/// A row of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Theirs {
    pub group: u128,
    /// 0 when it names none.
    pub reference: u128,
    /// 0 when it has none.
    pub movement: u128,
    /// Never negative.
    pub gross_minor: i64,
    pub fee_minor: Option<i64>,
    pub net_minor: Option<i64>,
    pub day: Option<i32>,
    /// From 1, the header not counted.
    pub line: u32,
    pub direction: Direction,
    pub currency: Currency,
    pub state: RowState,
}

impl Theirs {
    /// What it brings us: below zero for a refund.
    pub(crate) fn signed_net(&self) -> i64 {
        self.net_minor.unwrap_or_else(|| signed(self.direction, self.gross_minor).saturating_sub(self.fee_minor.unwrap_or(0)))
    }
}

/// One of our operations that no file has had whole yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ours {
    pub group: u128,
    pub reference: u128,
    pub intent_id: i64,
    pub operation_id: i64,
    /// What no file has had of it yet, and of what the provider keeps of it.
    pub amount_minor: i64,
    pub fee_minor: i64,
    pub day: i32,
    pub direction: Direction,
    pub currency: Currency,
    /// Whether a file has had a part of it.
    pub in_part: bool,
    /// Whether its outcome is known; one that is under way is expected by nobody yet.
    pub succeeded: bool,
    /// Whether it is old enough to be in the file.
    pub due: bool,
}

impl Ours {
    /// What of it we have booked as owed to us: below zero for a refund.
    fn signed_net(&self) -> i64 {
        signed(self.direction, self.amount_minor) - self.fee_minor
    }
}

/// What earlier files had, by digests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// Movements of operations that have come in part.
    pub movements: HashSet<u128>,
    /// Operations beside those that are compared: no row that names one is taken for another by its amount.
    pub references: HashSet<u128>,
}

/// Kinds of differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BreakKind {
    /// We did it, and the file doesn't have it.
    MissingThere,
    /// The file has it, and we know nothing of it.
    MissingHere,
    /// Another amount.
    Amount,
    /// Another currency.
    Currency,
    /// Another fee.
    Fee,
    /// Another day.
    Date,
    /// It was there before, in this file or an earlier one.
    Duplicate,
    /// Here done and there not, or there done and here not.
    Status,
    /// A capture here and a refund there, or the other way round.
    Direction,
    /// The row's own sums are wrong: what is paid out is not the amount less the fee.
    Net,
    /// It is ours by payment and amount, and names something that is none of ours.
    Reference,
    /// The file has a part of it.
    PartlySettled,
    /// A row that can't be read.
    Unreadable,
}

impl BreakKind {
    /// Every kind.
    pub const ALL: &'static [BreakKind] = &[
        BreakKind::MissingThere,
        BreakKind::MissingHere,
        BreakKind::Amount,
        BreakKind::Currency,
        BreakKind::Fee,
        BreakKind::Date,
        BreakKind::Duplicate,
        BreakKind::Status,
        BreakKind::Direction,
        BreakKind::Net,
        BreakKind::Reference,
        BreakKind::PartlySettled,
        BreakKind::Unreadable,
    ];

    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            BreakKind::MissingThere => "missing_there",
            BreakKind::MissingHere => "missing_here",
            BreakKind::Amount => "amount",
            BreakKind::Currency => "currency",
            BreakKind::Fee => "fee",
            BreakKind::Date => "date",
            BreakKind::Duplicate => "duplicate",
            BreakKind::Status => "status",
            BreakKind::Direction => "direction",
            BreakKind::Net => "net",
            BreakKind::Reference => "reference",
            BreakKind::PartlySettled => "partly_settled",
            BreakKind::Unreadable => "unreadable",
        }
    }
}

/// A difference that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub kind: BreakKind,
    /// Intent and operation of ours, when one is known.
    pub ours: Option<(i64, i64)>,
    /// The row, when there is one.
    pub line: Option<u32>,
    pub currency: Currency,
    pub ours_minor: Option<i64>,
    pub theirs_minor: Option<i64>,
    /// What the provider brings more than we have booked, in minor units of `currency`: what a correcting posting moves.
    pub difference_minor: i64,
    pub day: i32,
    /// Whether a later file may end it.
    pub awaits: bool,
}

/// Rows that are less than the operation that they name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Its place in `ours`.
    pub place: usize,
    pub line: u32,
    pub gross_minor: i64,
    /// What was kept of it: its amount less what it brings.
    pub fee_minor: i64,
    /// 0 when it has none.
    pub movement: u128,
}

/// How exact the comparison is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tolerance {
    pub minor: i64,
    pub fee_minor: i64,
    pub days: i32,
}

/// What came of a charge.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub breaks: Vec<Found>,
    /// Places in `ours` of what the file settles, rightly or with a difference.
    pub seen: Vec<usize>,
    pub parts: Vec<Part>,
    /// What the rest brings more than is booked, where that is no difference: within the tolerance.
    pub tolerated_minor: BTreeMap<Currency, i64>,
    /// How many of those have no difference, and of these how many by several rows, and how many within a tolerance only.
    pub matched: u64,
    pub in_parts: u64,
    pub by_tolerance: u64,
    /// Places in `theirs` of rows that nothing of ours explains: whether they are known from before has to be looked up.
    pub unknown: Vec<usize>,
}

fn signed(direction: Direction, minor: i64) -> i64 {
    match direction {
        Direction::Capture => minor,
        Direction::Refund => -minor,
    }
}

/// Whether a row names something that is none of these, and would be taken for one of them by its amount: then what it names is to be
/// known before they are compared.
pub(crate) fn guesses(ours: &[Ours], theirs: &[Theirs]) -> bool {
    theirs.iter().any(|row| {
        row.reference != 0
            && ours.iter().all(|own| own.reference != row.reference)
            && ours.iter().any(|own| own.amount_minor == row.gross_minor)
    })
}

/// Compares one charge's operations with its rows; both are of one group. `theirs` is in the order of the file.
pub(crate) fn compare(ours: &[Ours], theirs: &[Theirs], known: &Known, tolerance: Tolerance, out: &mut Outcome) {
    let mut row_used = vec![false; theirs.len()];
    let mut ours_used = vec![false; ours.len()];
    for (at, row) in theirs.iter().enumerate() {
        // A movement that was under way and is settled is one that goes on, not one that comes twice.
        let twin = |other: &&Theirs| match row.movement {
            0 => Theirs { line: row.line, ..**other } == *row,
            movement => other.movement == movement && other.state == row.state,
        };
        let earlier = row.movement != 0 && row.state == RowState::Settled && known.movements.contains(&row.movement);
        if let Some(first) = theirs[..at].iter().find(twin).or(earlier.then_some(row)) {
            row_used[at] = true;
            out.breaks.push(duplicate(ours.iter().find(|own| own.reference == first.reference), row));
        }
    }
    // The usual case: each operation has its row.
    for (place, own) in ours.iter().enumerate() {
        let rows: Vec<usize> = (0..theirs.len()).filter(|at| !row_used[*at] && theirs[*at].reference == own.reference).collect();
        if rows.is_empty() {
            continue;
        }
        rows.iter().for_each(|at| row_used[*at] = true);
        ours_used[place] = true;
        compare_one(own, place, &rows.iter().map(|at| &theirs[*at]).collect::<Vec<_>>(), tolerance, out);
    }
    // What names nothing of ours: one row for several operations together, or a name that is wrong.
    for (at, row) in theirs.iter().enumerate() {
        if row_used[at] {
            continue;
        }
        let fits = |own: &Ours| own.direction == row.direction && own.currency == row.currency && own.succeeded;
        let left: Vec<usize> = (0..ours.len()).filter(|place| !ours_used[*place] && fits(&ours[*place])).collect();
        let sum: i64 = left.iter().map(|place| ours[*place].amount_minor).sum();
        if row.reference == 0 && !left.is_empty() && sum == row.gross_minor {
            row_used[at] = true;
            left.iter().for_each(|place| ours_used[*place] = true);
            together(ours, &left, row, tolerance, out);
            continue;
        }
        let named = row.reference != 0 && known.references.contains(&row.reference);
        let place = left.iter().copied().find(|place| !named && ours[*place].amount_minor == row.gross_minor);
        if let Some(place) = place.filter(|_| row.state == RowState::Settled) {
            row_used[at] = true;
            ours_used[place] = true;
            out.seen.push(place);
            let own = &ours[place];
            out.breaks.push(Found { difference_minor: row.signed_net() - own.signed_net(), ..found(BreakKind::Reference, own, row) });
            continue;
        }
        out.unknown.push(at);
    }
    for (place, own) in ours.iter().enumerate() {
        // Of what has come in part the rest is missed already.
        if !ours_used[place] && own.succeeded && own.due && !own.in_part {
            out.breaks.push(Found {
                kind: BreakKind::MissingThere,
                ours: Some((own.intent_id, own.operation_id)),
                line: None,
                currency: own.currency,
                ours_minor: Some(own.amount_minor),
                theirs_minor: None,
                difference_minor: -own.signed_net(),
                day: own.day,
                awaits: true,
            });
        }
    }
}

/// A row that was there before; the operation is the one that it was there for.
fn duplicate(own: Option<&Ours>, row: &Theirs) -> Found {
    Found {
        kind: BreakKind::Duplicate,
        ours: own.map(|own| (own.intent_id, own.operation_id)),
        line: Some(row.line),
        currency: row.currency,
        ours_minor: None,
        theirs_minor: Some(row.gross_minor),
        difference_minor: if row.state == RowState::Settled { row.signed_net() } else { 0 },
        day: row.day.unwrap_or_else(|| own.map_or(0, |own| own.day)),
        awaits: false,
    }
}

fn found(kind: BreakKind, own: &Ours, row: &Theirs) -> Found {
    Found {
        kind,
        ours: Some((own.intent_id, own.operation_id)),
        line: Some(row.line),
        currency: own.currency,
        ours_minor: Some(own.amount_minor),
        theirs_minor: Some(row.gross_minor),
        difference_minor: 0,
        day: own.day,
        awaits: false,
    }
}

/// One of our operations with the one or more rows that name it.
fn compare_one(own: &Ours, place: usize, rows: &[&Theirs], tolerance: Tolerance, out: &mut Outcome) {
    let settled: Vec<&Theirs> = rows.iter().copied().filter(|row| row.state == RowState::Settled).collect();
    let Some(first) = settled.first().copied() else {
        // It is under way there: no money has come. Here done, it is missed; here under way, too, there is nothing to say.
        if own.succeeded {
            out.breaks.push(Found { awaits: true, ..found(BreakKind::Status, own, rows[0]) });
        }
        return;
    };
    let gross: i64 = settled.iter().map(|row| row.gross_minor).sum();
    let fee = settled.iter().map(|row| row.fee_minor).try_fold(0_i64, |sum, fee| fee.map(|fee| sum + fee));
    let off = gross - own.amount_minor;
    let at_fault = |wrong: fn(&Theirs, &Ours) -> bool| settled.iter().find(|row| wrong(row, own)).copied();
    if own.in_part && off > tolerance.minor {
        // More than is left of it: what has come in part comes again.
        return out.breaks.extend(settled.iter().map(|row| duplicate(Some(own), row)));
    }
    let one_kind = [
        (BreakKind::Direction, at_fault(|row, own| row.direction != own.direction)),
        (BreakKind::Currency, at_fault(|row, own| row.currency != own.currency)),
        (BreakKind::Status, Some(first).filter(|_| !own.succeeded)),
    ];
    if let Some((kind, row)) = one_kind.into_iter().find_map(|(kind, row)| Some((kind, row?))) {
        out.seen.push(place);
        return out.breaks.push(found(kind, own, row));
    }
    let difference_minor = settled.iter().map(|row| row.signed_net()).sum::<i64>() - own.signed_net();
    if off < -tolerance.minor {
        // Less than the whole: several rows tell that the provider pays in parts, one is another amount as long as no more comes.
        out.parts.extend(settled.iter().map(|row| Part {
            place,
            line: row.line,
            gross_minor: row.gross_minor,
            fee_minor: signed(row.direction, row.gross_minor) - row.signed_net(),
            movement: row.movement,
        }));
        let kind = if own.in_part || settled.len() > 1 { BreakKind::PartlySettled } else { BreakKind::Amount };
        return out.breaks.push(Found { theirs_minor: Some(gross), difference_minor, awaits: true, ..found(kind, own, first) });
    }
    out.seen.push(place);
    if off > tolerance.minor {
        return out.breaks.push(Found { theirs_minor: Some(gross), difference_minor, ..found(BreakKind::Amount, own, first) });
    }
    let fee_off = fee.map_or(0, |fee| fee - own.fee_minor);
    if fee_off.abs() > tolerance.fee_minor {
        let (ours_minor, theirs_minor) = (Some(own.fee_minor), fee);
        return out.breaks.push(Found { ours_minor, theirs_minor, difference_minor, ..found(BreakKind::Fee, own, first) });
    }
    for row in &settled {
        let (Some(net), Some(fee)) = (row.net_minor, row.fee_minor) else { continue };
        let expected = signed(row.direction, row.gross_minor) - fee;
        if net != expected {
            let (ours_minor, theirs_minor) = (Some(expected), Some(net));
            return out.breaks.push(Found { ours_minor, theirs_minor, difference_minor, ..found(BreakKind::Net, own, row) });
        }
    }
    if difference_minor != 0 {
        *out.tolerated_minor.entry(own.currency).or_default() += difference_minor;
    }
    if let Some(row) = settled.iter().find(|row| row.day.is_some_and(|day| (day - own.day).abs() > tolerance.days)) {
        return out.breaks.push(found(BreakKind::Date, own, row));
    }
    out.matched += 1;
    out.in_parts += u64::from(own.in_part || settled.len() > 1);
    out.by_tolerance += u64::from(off != 0 || fee_off != 0);
}

/// One row that is several of our operations together; its amount is their sum.
fn together(ours: &[Ours], left: &[usize], row: &Theirs, tolerance: Tolerance, out: &mut Outcome) {
    let first = &ours[left[0]];
    let fees: i64 = left.iter().map(|place| ours[*place].fee_minor).sum();
    let sum: i64 = left.iter().map(|place| ours[*place].amount_minor).sum();
    let whole = Ours { amount_minor: sum, fee_minor: fees, ..*first };
    let mut one = Outcome::default();
    compare_one(&whole, left[0], &[row], tolerance, &mut one);
    if !one.seen.is_empty() {
        out.seen.extend(left);
    }
    if one.breaks.is_empty() && !one.seen.is_empty() {
        out.matched += left.len() as u64;
        out.in_parts += left.len() as u64;
    }
    out.by_tolerance += one.by_tolerance;
    for (currency, minor) in one.tolerated_minor {
        *out.tolerated_minor.entry(currency).or_default() += minor;
    }
    out.breaks.append(&mut one.breaks);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eur() -> Currency {
        "EUR".parse().expect("a currency")
    }

    fn own(operation: i64, amount_minor: i64) -> Ours {
        Ours {
            group: 1,
            reference: operation as u128,
            intent_id: 1,
            operation_id: operation,
            amount_minor,
            fee_minor: 10,
            day: 100,
            direction: Direction::Capture,
            currency: eur(),
            in_part: false,
            succeeded: true,
            due: true,
        }
    }

    fn row(line: u32, reference: u128, gross_minor: i64) -> Theirs {
        Theirs {
            group: 1,
            reference,
            movement: u128::from(line) + 1_000,
            gross_minor,
            fee_minor: Some(10),
            net_minor: Some(gross_minor - 10),
            day: Some(100),
            line,
            direction: Direction::Capture,
            currency: eur(),
            state: RowState::Settled,
        }
    }

    const EXACT: Tolerance = Tolerance { minor: 0, fee_minor: 0, days: 1 };

    fn kinds(ours: &[Ours], theirs: &[Theirs], tolerance: Tolerance) -> (Vec<&'static str>, u64, usize) {
        let mut out = Outcome::default();
        compare(ours, theirs, &Known::default(), tolerance, &mut out);
        (out.breaks.iter().map(|found| found.kind.as_str()).collect(), out.matched, out.unknown.len())
    }

    type Case = (&'static str, Vec<Ours>, Vec<Theirs>, (Vec<&'static str>, u64, usize));

    /// What is compared, and what comes of it: the kinds of the differences, how many matched, how many rows have to be looked up.
    #[test]
    fn each_difference_has_its_kind() {
        let gbp: Currency = "GBP".parse().expect("a currency");
        let fine = row(1, 7, 500);
        let cases: Vec<Case> = vec![
            ("equal", vec![own(7, 500)], vec![fine], (vec![], 1, 0)),
            ("missing there", vec![own(7, 500)], vec![], (vec!["missing_there"], 0, 0)),
            ("not due", vec![Ours { due: false, ..own(7, 500) }], vec![], (vec![], 0, 0)),
            ("under way", vec![Ours { succeeded: false, ..own(7, 500) }], vec![], (vec![], 0, 0)),
            ("unknown", vec![], vec![fine], (vec![], 0, 1)),
            ("amount", vec![own(7, 500)], vec![row(1, 7, 501)], (vec!["amount"], 0, 0)),
            ("too little", vec![own(7, 500)], vec![row(1, 7, 499)], (vec!["amount"], 0, 0)),
            ("currency", vec![own(7, 500)], vec![Theirs { currency: gbp, ..fine }], (vec!["currency"], 0, 0)),
            ("fee", vec![own(7, 500)], vec![Theirs { fee_minor: Some(11), net_minor: Some(489), ..fine }], (vec!["fee"], 0, 0)),
            ("net", vec![own(7, 500)], vec![Theirs { net_minor: Some(489), ..fine }], (vec!["net"], 0, 0)),
            ("a day later", vec![own(7, 500)], vec![Theirs { day: Some(101), ..fine }], (vec![], 1, 0)),
            ("date", vec![own(7, 500)], vec![Theirs { day: Some(102), ..fine }], (vec!["date"], 0, 0)),
            ("duplicate", vec![own(7, 500)], vec![fine, Theirs { line: 2, ..fine }], (vec!["duplicate"], 1, 0)),
            ("status there", vec![own(7, 500)], vec![Theirs { state: RowState::Other, ..fine }], (vec!["status"], 0, 0)),
            ("status here", vec![Ours { succeeded: false, ..own(7, 500) }], vec![fine], (vec!["status"], 0, 0)),
            ("direction", vec![own(7, 500)], vec![Theirs { direction: Direction::Refund, ..fine }], (vec!["direction"], 0, 0)),
            ("reference", vec![own(7, 500)], vec![Theirs { reference: 99, ..fine }], (vec!["reference"], 0, 0)),
            ("in parts", vec![Ours { fee_minor: 20, ..own(7, 500) }], vec![row(1, 7, 200), row(2, 7, 300)], (vec![], 1, 0)),
            ("partly", vec![own(7, 500)], vec![row(1, 7, 200), row(2, 7, 200)], (vec!["partly_settled"], 0, 0)),
            (
                "several in one row",
                vec![own(7, 500), own(8, 300)],
                vec![Theirs { reference: 0, fee_minor: Some(20), net_minor: Some(780), ..row(1, 0, 800) }],
                (vec![], 2, 0),
            ),
            ("stranger beside ours", vec![own(7, 500)], vec![fine, row(2, 99, 77)], (vec![], 1, 1)),
            ("the first of the order counts", vec![own(7, 500)], vec![Theirs { currency: gbp, ..row(1, 7, 9) }], (vec!["currency"], 0, 0)),
        ];
        for (name, ours, theirs, expected) in cases {
            assert_eq!(kinds(&ours, &theirs, EXACT), expected, "{name}");
        }
        let near = Tolerance { minor: 2, fee_minor: 1, days: 1 };
        assert_eq!(kinds(&[own(7, 500)], &[row(1, 7, 502)], near), (vec![], 1, 0));
        assert_eq!(kinds(&[own(7, 500)], &[row(1, 7, 503)], near), (vec!["amount"], 0, 0));
    }

    #[test]
    fn the_difference_is_what_the_provider_brings_more() {
        let one = |ours: Ours, theirs: &[Theirs]| {
            let mut out = Outcome::default();
            compare(&[ours], theirs, &Known::default(), EXACT, &mut out);
            out.breaks[0].difference_minor
        };
        assert_eq!(one(own(7, 500), &[row(1, 7, 520)]), 20);
        assert_eq!(one(own(7, 500), &[Theirs { fee_minor: Some(13), net_minor: Some(487), ..row(1, 7, 500) }]), -3);
        assert_eq!(one(own(7, 500), &[]), -490);
        let refund = Ours { direction: Direction::Refund, fee_minor: 0, ..own(7, 500) };
        let back = |gross: i64| Theirs { direction: Direction::Refund, fee_minor: Some(0), net_minor: Some(-gross), ..row(1, 7, gross) };
        assert_eq!(one(refund, &[back(520)]), -20);
        assert_eq!(one(refund, &[]), 500);
        // What the provider keeps counts, whatever it is that differs first.
        let no_fee = Ours { fee_minor: 0, ..own(7, 500) };
        assert_eq!(one(no_fee, &[Theirs { fee_minor: Some(20), net_minor: Some(500), ..row(1, 7, 520) }]), 0);
        assert_eq!(one(no_fee, &[Theirs { fee_minor: Some(20), net_minor: Some(480), ..row(1, 99, 500) }]), -20);
        assert_eq!(one(own(7, 500), &[Theirs { fee_minor: Some(12), net_minor: Some(480), ..row(1, 7, 500) }]), -10);
    }

    #[test]
    fn what_is_tolerated_is_counted() {
        let near = Tolerance { minor: 2, fee_minor: 1, days: 1 };
        let mut out = Outcome::default();
        let rows = [Theirs { fee_minor: Some(11), net_minor: Some(491), ..row(1, 7, 502) }, Theirs { day: Some(120), ..row(2, 8, 301) }];
        compare(&[own(7, 500), own(8, 300)], &rows, &Known::default(), near, &mut out);
        assert_eq!((out.matched, out.breaks.len(), out.breaks[0].kind), (1, 1, BreakKind::Date));
        assert_eq!(out.tolerated_minor, BTreeMap::from([(eur(), 2)]));
    }

    /// Which operations a file settles, and how many rows are parts.
    fn marks(ours: &[Ours], theirs: &[Theirs], known: &Known) -> (Vec<usize>, usize, Vec<&'static str>) {
        let mut out = Outcome::default();
        compare(ours, theirs, known, EXACT, &mut out);
        (out.seen, out.parts.len(), out.breaks.iter().map(|found| found.kind.as_str()).collect())
    }

    #[test]
    fn only_what_has_come_is_settled() {
        let none = Known::default();
        let pending = Theirs { state: RowState::Other, ..row(1, 7, 500) };
        assert_eq!(marks(&[own(7, 500)], &[pending], &none), (vec![], 0, vec!["status"]));
        assert_eq!(marks(&[Ours { succeeded: false, ..own(7, 500) }], &[pending], &none), (vec![], 0, vec![]), "under way on both sides");
        // The same movement under way and settled, in one file.
        assert_eq!(marks(&[own(7, 500)], &[pending, Theirs { line: 2, state: RowState::Settled, ..pending }], &none), (vec![0], 0, vec![]));
        assert_eq!(marks(&[own(7, 500)], &[row(1, 7, 500)], &none), (vec![0], 0, vec![]));
        assert_eq!(marks(&[own(7, 500)], &[row(1, 7, 600)], &none), (vec![0], 0, vec!["amount"]));
        // A part is remembered, and the rest settles it.
        assert_eq!(marks(&[own(7, 500)], &[row(1, 7, 200)], &none), (vec![], 1, vec!["amount"]));
        assert_eq!(marks(&[own(7, 500)], &[row(1, 7, 200), row(2, 7, 100)], &none), (vec![], 2, vec!["partly_settled"]));
        let rest = Ours { in_part: true, fee_minor: 10, ..own(7, 300) };
        assert_eq!(marks(&[rest], &[row(1, 7, 300)], &none), (vec![0], 0, vec![]));
        assert_eq!(marks(&[rest], &[row(1, 7, 100)], &none), (vec![], 1, vec!["partly_settled"]));
        assert_eq!(marks(&[rest], &[], &none), (vec![], 0, vec![]), "that it is missing is known");
        assert_eq!(marks(&[rest], &[row(1, 7, 500)], &none), (vec![], 0, vec!["duplicate"]), "more than is left");
        // The part that has come does not come again.
        let known = Known { movements: HashSet::from([1_001]), ..Known::default() };
        assert_eq!(marks(&[Ours { in_part: true, ..own(7, 250) }], &[row(1, 7, 250)], &known), (vec![], 0, vec!["duplicate"]));
    }

    #[test]
    fn a_row_is_taken_for_another_by_its_amount_only_if_it_names_nobody() {
        let (ours, rows) = ([own(8, 500)], [row(1, 7, 500)]);
        assert!(guesses(&ours, &rows) && !guesses(&ours, &[row(1, 8, 500)]) && !guesses(&ours, &[row(1, 7, 400)]));
        assert_eq!(marks(&ours, &rows, &Known::default()), (vec![0], 0, vec!["reference"]));
        let known = Known { references: HashSet::from([7, 8]), ..Known::default() };
        assert_eq!(marks(&ours, &rows, &known), (vec![], 0, vec!["missing_there"]));
    }

    #[test]
    fn sums_of_the_largest_rows_fit() {
        use crate::reconcile::format::MAX_ROW_MINOR;
        let rows: Vec<Theirs> = (1..=1_000).map(|line| row(line, 7, MAX_ROW_MINOR)).collect();
        assert_eq!(marks(&[own(7, 500)], &rows, &Known::default()).2, ["amount"]);
    }
}
