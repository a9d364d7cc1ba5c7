//! Which location gives what: a pure function of the demand, the stock and the tenant's rules.
//!
//! 1. What is wanted of an item and not there is backordered if the item's policy and limit allow it; else the demand is short.
//! 2. Locations are ranked by the rules' `order`, then by age. Only active ones of the rules' `kinds` count.
//! 3. With `fewest_parcels` the smallest set of locations that has everything is taken; among equals, the one whose ranks come first.
//!    Up to 12 locations that is exact, above it greedy: the location that adds most, again and again. Without it all are taken.
//! 4. Of the chosen locations an item comes from the first that has all of it, else from one after the other.
//! 5. What is backordered is waited for where the rest of the item comes from; else, with `fewest_parcels`, where anything else comes from;
//!    else at the best ranked location that keeps the item; else at the best ranked of all.

use crate::model::{Coordinates, ItemId, LocationId, LocationKind, Policy};
use kernel::{Error, Faults, Result, Timestamp};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Up to so many locations the smallest set is found exactly: at most 4,095 of them.
const EXACT: usize = 12;

/// What a location is ranked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = StockRanking)]
#[serde(rename_all = "snake_case")]
pub enum Ranking {
    /// The way to the destination, the shortest first; locations without coordinates last. Without a destination it ranks nothing.
    Nearest,
    /// The location's priority, the lowest number first.
    Priority,
}

/// How a tenant's stock is allocated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = StockRules)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// Whether as few locations as possible send; else the best ranked give first.
    pub fewest_parcels: bool,
    /// What locations are ranked by: the second where the first ties.
    #[schema(max_items = 2)]
    pub order: Vec<Ranking>,
    /// Which locations are sold from.
    #[schema(min_items = 1, max_items = 3)]
    pub kinds: Vec<LocationKind>,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules { fewest_parcels: true, order: vec![Ranking::Priority, Ranking::Nearest], kinds: LocationKind::ALL.to_vec() }
    }
}

impl Rules {
    /// Errors: `request.invalid`.
    pub(crate) fn check(&self) -> Result<()> {
        let mut faults = Faults::default();
        faults.count("rules.order", self.order.len(), 0, 2);
        faults.count("rules.kinds", self.kinds.len(), 1, LocationKind::ALL.len());
        if self.order.len() == 2 && self.order[0] == self.order[1] {
            faults.add("rules.order[1]", "repeated", "it ranks by this already");
        }
        let repeated = |(at, kind): (usize, &LocationKind)| self.kinds[..at].contains(kind).then_some(at);
        if let Some(at) = self.kinds.iter().enumerate().take(10).find_map(repeated) {
            faults.add(format!("rules.kinds[{at}]"), "repeated", "it is there already");
        }
        faults.finish()
    }
}

/// What has to be known of a location.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Site {
    /// What it is.
    pub kind: LocationKind,
    /// Where it is.
    pub coordinates: Option<Coordinates>,
    /// The lower, the sooner.
    pub priority: i64,
    /// Whether anything is sold from it.
    pub active: bool,
}

/// What has to be known of an item at a location.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StockAt {
    /// The location.
    pub location_id: LocationId,
    /// What it is.
    pub site: Site,
    /// Less what is reserved and what is never sold; below zero when more is promised.
    pub available: i64,
}

/// What has to be known of an item.
#[derive(Clone, Debug, PartialEq)]
pub struct Stock {
    /// What becomes of a demand beyond what is available.
    pub policy: Policy,
    /// How many may be promised beyond it.
    pub oversell_limit: i64,
    /// When those will be there.
    pub promised_at: Option<Timestamp>,
    /// At so many available or fewer, the item is low.
    pub low_stock_at: Option<i64>,
    /// Where it is kept.
    pub levels: Vec<StockAt>,
}

impl Stock {
    /// How many are there, where the rules sell from.
    pub fn in_stock(&self, rules: &Rules) -> i64 {
        self.levels.iter().filter(|level| sells(rules, &level.site)).map(|level| level.available.max(0)).sum()
    }

    /// How many more may be promised beyond that.
    pub fn beyond(&self) -> i64 {
        if self.policy == Policy::Deny {
            return 0;
        }
        let promised: i64 = self.levels.iter().map(|level| (-level.available).max(0)).sum();
        (self.oversell_limit - promised).max(0)
    }

    /// How many there are at active locations, promised ones taken off: what `stock.low` goes by.
    pub fn balance(&self) -> i64 {
        self.levels.iter().filter(|level| level.site.active).map(|level| level.available).sum()
    }
}

fn sells(rules: &Rules, site: &Site) -> bool {
    site.active && rules.kinds.contains(&site.kind)
}

/// What a location gives of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Portion {
    /// The item.
    pub item_id: ItemId,
    /// The location.
    pub location_id: LocationId,
    /// How many.
    pub quantity: i64,
    /// How many of them are not there yet.
    pub backordered: i64,
}

/// An item of which there is not enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// The item.
    pub item_id: ItemId,
    /// How many were wanted in all.
    pub wanted: i64,
    /// How many can be had, those that are promised for later with them.
    pub available: i64,
}

/// The rank of a location: lower is better.
type Rank = (Vec<i64>, LocationId);

fn rank(rules: &Rules, destination: Option<Coordinates>, location_id: LocationId, site: &Site) -> Rank {
    let by = |ranking: &Ranking| match ranking {
        Ranking::Priority => site.priority,
        Ranking::Nearest => destination.map_or(0, |to| site.coordinates.map_or(i64::MAX, |from| from.metres_to(to))),
    };
    (rules.order.iter().map(by).collect(), location_id)
}

/// Divides what is wanted of each item over locations, or says of what there is not enough: then nothing is given. `wanted` is above
/// zero, and `stock` has each of its items. `elsewhere` is asked for all locations, when an item is backordered that is kept nowhere.
/// Errors: those of `elsewhere`.
pub fn allocate(
    rules: &Rules,
    destination: Option<Coordinates>,
    wanted: &BTreeMap<ItemId, i64>,
    stock: &BTreeMap<ItemId, Stock>,
    elsewhere: impl FnOnce() -> Result<Vec<(LocationId, Site)>>,
) -> Result<std::result::Result<Vec<Portion>, Vec<Shortage>>> {
    let known = |item_id: &ItemId| stock.get(item_id).ok_or_else(|| Error::internal("an item is wanted that was not looked up"));
    let mut shortages = Vec::new();
    // What is there of each item, and what is not.
    let mut needs: Vec<(ItemId, &Stock, i64, i64)> = Vec::with_capacity(wanted.len());
    for (item_id, wanted) in wanted {
        let item = known(item_id)?;
        let (there, beyond) = (item.in_stock(rules), item.beyond());
        let missing = (wanted - there).max(0);
        if missing > beyond {
            shortages.push(Shortage { item_id: *item_id, wanted: *wanted, available: there + beyond });
        } else {
            needs.push((*item_id, item, wanted - missing, missing));
        }
    }
    if !shortages.is_empty() {
        return Ok(Err(shortages));
    }
    // The usual case: everything is kept at one place.
    let mut sites: BTreeMap<LocationId, Site> = BTreeMap::new();
    let levels = needs.iter().flat_map(|(_, item, ..)| &item.levels).filter(|level| sells(rules, &level.site));
    sites.extend(levels.map(|level| (level.location_id, level.site)));
    let backordered = needs.iter().any(|(.., missing)| *missing > 0);
    if backordered && sites.is_empty() {
        sites.extend(elsewhere()?.into_iter().filter(|(_, site)| sells(rules, site)));
        if sites.is_empty() {
            let nowhere = |(item_id, _, there, missing): &(ItemId, &Stock, i64, i64)| Shortage {
                item_id: *item_id,
                wanted: there + missing,
                available: *there,
            };
            return Ok(Err(needs.iter().filter(|(.., missing)| *missing > 0).map(nowhere).collect()));
        }
    }
    let mut ranked: Vec<LocationId> = sites.keys().copied().collect();
    if ranked.len() > 1 {
        ranked.sort_by_cached_key(|location_id| rank(rules, destination, *location_id, &sites[location_id]));
    }
    let available = |item: &Stock, location_id: LocationId| {
        item.levels.iter().find(|level| level.location_id == location_id).map_or(0, |level| level.available.max(0))
    };
    // What each ranked location has of each item, at most as many as are needed.
    let has: Vec<Vec<i64>> = ranked
        .iter()
        .map(|location_id| needs.iter().map(|(_, item, there, _)| available(item, *location_id).min(*there)).collect())
        .collect();
    let needed: Vec<i64> = needs.iter().map(|(_, _, there, _)| *there).collect();
    let chosen: Vec<usize> = if rules.fewest_parcels { fewest(&has, &needed) } else { (0..ranked.len()).collect() };
    let mut portions: Vec<Portion> = Vec::with_capacity(needs.len());
    for (place, (item_id, _, there, _)) in needs.iter().enumerate() {
        let whole = chosen.iter().find(|location| has[**location][place] == *there);
        let mut left = *there;
        for location in whole.map_or(&chosen[..], std::slice::from_ref) {
            let quantity = has[*location][place].min(left);
            if quantity > 0 {
                portions.push(Portion { item_id: *item_id, location_id: ranked[*location], quantity, backordered: 0 });
                left -= quantity;
            }
        }
    }
    // The best ranked location that gives anything.
    let used = chosen.iter().map(|location| ranked[*location]).find(|location_id| portions.iter().any(|p| p.location_id == *location_id));
    for (item_id, item, _, missing) in needs.iter().filter(|(.., missing)| *missing > 0) {
        if let Some(portion) = portions.iter_mut().find(|portion| portion.item_id == *item_id) {
            (portion.quantity, portion.backordered) = (portion.quantity + missing, *missing);
            continue;
        }
        let keeps = |location_id: &&LocationId| item.levels.iter().any(|level| level.location_id == **location_id);
        let best = || ranked.iter().find(keeps).or(ranked.first()).copied();
        let location_id = used.filter(|_| rules.fewest_parcels).or_else(best);
        let location_id = location_id.ok_or_else(|| Error::internal("a backorder has no location"))?;
        portions.push(Portion { item_id: *item_id, location_id, quantity: *missing, backordered: *missing });
    }
    Ok(Ok(portions))
}

/// The smallest set of places that together have all that is needed, the one of the best ranks among equals; by index, in order.
fn fewest(has: &[Vec<i64>], needed: &[i64]) -> Vec<usize> {
    let enough =
        |set: &[usize]| needed.iter().enumerate().all(|(item, needed)| set.iter().map(|place| has[*place][item]).sum::<i64>() >= *needed);
    if enough(&[]) {
        return Vec::new();
    }
    if let Some(one) = (0..has.len()).find(|place| enough(&[*place])) {
        return vec![one];
    }
    if has.len() <= EXACT {
        for size in 2..=has.len() {
            let mut set: Vec<usize> = (0..size).collect();
            loop {
                if enough(&set) {
                    return set;
                }
                if !next_set(&mut set, has.len()) {
                    break;
                }
            }
        }
    }
    // Greedy: the one that adds most, the best ranked among equals.
    let mut left = needed.to_vec();
    let mut set = Vec::new();
    while left.iter().any(|left| *left > 0) {
        let adds = |place: &usize| has[*place].iter().zip(&left).map(|(has, left)| has.min(left)).sum::<i64>();
        let Some(best) = (0..has.len()).filter(|place| !set.contains(place)).max_by_key(|place| (adds(place), Reverse(*place))) else {
            break;
        };
        if adds(&best) == 0 {
            break;
        }
        left.iter_mut().zip(&has[best]).for_each(|(left, has)| *left = (*left - has).max(0));
        set.push(best);
    }
    set.sort_unstable();
    set
}

/// The next set of the same size in the order of its indexes; false after the last one.
fn next_set(set: &mut [usize], places: usize) -> bool {
    let size = set.len();
    let Some(at) = (0..size).rev().find(|at| set[*at] < places - size + at) else { return false };
    set[at] += 1;
    for next in at + 1..size {
        set[next] = set[next - 1] + 1;
    }
    true
}
