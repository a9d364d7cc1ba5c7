//! Reservations: made by looking up what a whole set of demands rests on in one statement, deciding them in memory in their order, and
//! writing each level once and each reservation once.
//!
//! Nothing is reserved twice, because a tenant's commands run one after the other on its lane and see each other's writes; the update of
//! a level says what it rests on all the same, and refuses when somebody has written beside the lane.

use crate::allocate::{Portion, Rules, Site, Stock, StockAt, allocate};
use crate::model::*;
use crate::{error, events, sql};
use kernel::{Error, Result, TenantId, Timestamp};
use std::collections::{BTreeMap, HashMap, HashSet};
use store::{Engine, Member, Read, Row, Tx, Value};

/// A line that stock is held for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Its place among those of the request, for refusals.
    pub at: usize,
    /// Its number in the reservation.
    pub line: u32,
    /// The variant.
    pub variant_id: VariantId,
    /// How many.
    pub quantity: i64,
}

/// What demands are decided on.
#[derive(Default)]
pub(crate) struct Books {
    /// What each variant is made of; one that is not here is not tracked.
    pub components: HashMap<VariantId, Vec<(ItemId, i64)>>,
    /// Each item with its levels, less what has been decided so far.
    pub stock: BTreeMap<ItemId, Stock>,
    /// How the tenant allocates.
    pub rules: Rules,
    /// The reservations that are there.
    known: HashMap<String, Reserved>,
    /// Every location, once it was asked for.
    sites: Option<Vec<(LocationId, Site)>>,
    /// The levels that are reserved from: how many, and how many were available before; none where there is no level yet.
    taken: BTreeMap<(ItemId, LocationId), (i64, Option<i64>)>,
    /// The items that are reserved from, with what there was of them before.
    before: BTreeMap<ItemId, i64>,
}

struct DemandRow<'r>(&'r dyn Row);

impl DemandRow<'_> {
    fn reservation(&self) -> Result<Reserved> {
        let row = self.0;
        Ok(Reserved {
            reference: row.get(4)?,
            state: row.get(10)?,
            expires_at: row.get(7)?,
            promised_at: row.get(6)?,
            lines: lines_of(&row.get::<String>(15)?)?,
            allocations: allocations_of(&row.get::<String>(16)?)?,
            created_at: row.get(8)?,
            updated_at: row.get(9)?,
        })
    }

    fn level(&self) -> Result<Option<StockAt>> {
        let row = self.0;
        let Some(location_id) = row.get::<Option<LocationId>>(8)? else { return Ok(None) };
        let site =
            Site { kind: row.get(10)?, coordinates: coordinates(row.get(11)?, row.get(12)?), priority: row.get(13)?, active: row.get(14)? };
        Ok(Some(StockAt { location_id, site, available: row.get(9)? }))
    }
}

impl Books {
    /// Looks up everything that these variants and references come to: one statement.
    pub(crate) fn open(read: &mut Read<'_>, variants: Vec<i64>, references: Vec<String>) -> Result<Books> {
        let mut books = Books::default();
        let mut rules: Option<String> = None;
        read.each(sql::DEMAND, (variants, references), |row| {
            let own = DemandRow(row);
            if row.get::<i64>(0)? == 0 {
                let reservation = own.reservation()?;
                books.known.insert(reservation.reference.clone(), reservation);
                return Ok(());
            }
            let (variant_id, item_id, each): (VariantId, ItemId, i64) = (row.get(1)?, row.get(2)?, row.get(3)?);
            let components = books.components.entry(variant_id).or_default();
            if !components.iter().any(|(known, _)| *known == item_id) {
                components.push((item_id, each));
            }
            let item = match books.stock.entry(item_id) {
                std::collections::btree_map::Entry::Occupied(there) => there.into_mut(),
                std::collections::btree_map::Entry::Vacant(place) => place.insert(Stock {
                    policy: row.get(4)?,
                    oversell_limit: row.get(5)?,
                    promised_at: row.get(6)?,
                    low_stock_at: row.get(7)?,
                    levels: Vec::new(),
                }),
            };
            if let Some(level) = own.level()?
                && !item.levels.iter().any(|known| known.location_id == level.location_id)
            {
                item.levels.push(level);
            }
            if rules.is_none() {
                rules = row.get(15)?;
            }
            Ok(())
        })?;
        if let Some(rules) = rules {
            books.rules = restored(&rules)?;
        }
        Ok(books)
    }

    /// Decides one demand, and takes what it gets out of the stock. The second is false for a repeat of what is there already.
    /// Errors: `inventory.reference_reused`, `inventory.reservation_ended`, `inventory.insufficient`, `request.invalid`.
    fn decide(&mut self, read: &mut Read<'_>, demand: &Demand) -> Result<(Reserved, bool)> {
        let now = read.now();
        if let Some(known) = self.known.get(&demand.reference) {
            let same = known.lines.iter().map(|line| (line.variant_id, line.quantity)).eq(demand.lines.iter().copied());
            return match (same, known.state) {
                (false, _) => Err(error::reference_reused()),
                (true, state) if state.is_open() => Ok((known.clone(), false)),
                (true, state) => Err(error::reservation_ended(state)),
            };
        }
        let lines = (0..).zip(&demand.lines);
        let wanted: Vec<Wanted> = lines
            .map(|(line, (variant_id, quantity))| Wanted { at: line as usize, line, variant_id: *variant_id, quantity: *quantity })
            .collect();
        let (allocations, promised_at) = self.hold(read, demand.destination, &wanted)?;
        let reserved = Reserved {
            reference: demand.reference.clone(),
            state: if demand.expires_at.is_some() { ReservationState::Held } else { ReservationState::Confirmed },
            expires_at: demand.expires_at,
            promised_at,
            lines: wanted.iter().map(|of| ReservedLine { line: of.line, variant_id: of.variant_id, quantity: of.quantity }).collect(),
            allocations,
            created_at: now,
            updated_at: now,
        };
        self.known.insert(demand.reference.clone(), reserved.clone());
        Ok((reserved, true))
    }

    /// Takes what lines want out of the stock, all of it or nothing: what is held for each, and when what is not there will be.
    /// Errors: `inventory.insufficient`, `request.invalid`.
    pub(crate) fn hold(
        &mut self,
        read: &mut Read<'_>,
        destination: Option<Coordinates>,
        lines: &[Wanted],
    ) -> Result<(Vec<Allocation>, Option<Timestamp>)> {
        // What each line has of each item, and all of them together.
        let mut needs: Vec<(u32, ItemId, i64)> = Vec::with_capacity(lines.len());
        let mut wanted: BTreeMap<ItemId, i64> = BTreeMap::new();
        for line in lines {
            for (item_id, each) in self.components.get(&line.variant_id).into_iter().flatten() {
                // At most 10^15 a line, of at most 500.
                let need = line.quantity * each;
                needs.push((line.line, *item_id, need));
                *wanted.entry(*item_id).or_default() += need;
            }
        }
        if wanted.len() > MAX_DEMAND_ITEMS {
            return Err(Error::field("lines", "too_many_items", format!("the lines come to more than {MAX_DEMAND_ITEMS} different items")));
        }
        let sites = &mut self.sites;
        let elsewhere = || {
            if sites.is_none() {
                *sites = Some(all_sites(read)?);
            }
            Ok(sites.clone().unwrap_or_default())
        };
        let portions = match allocate(&self.rules, destination, &wanted, &self.stock, elsewhere)? {
            Ok(portions) => portions,
            Err(shortages) => return Err(error::insufficient(lines, &shortages, &self.components)),
        };
        let late = portions.iter().filter(|portion| portion.backordered > 0);
        let promised_at = late.filter_map(|portion| self.stock.get(&portion.item_id)?.promised_at).max();
        self.take(&portions)?;
        Ok((to_lines(&needs, &portions), promised_at))
    }

    /// Takes portions out of the stock.
    fn take(&mut self, portions: &[Portion]) -> Result<()> {
        for portion in portions {
            let item =
                self.stock.get_mut(&portion.item_id).ok_or_else(|| Error::internal("an item was allocated that was not looked up"))?;
            self.before.entry(portion.item_id).or_insert_with(|| item.balance());
            let level = item.levels.iter_mut().find(|level| level.location_id == portion.location_id);
            let seen = level.as_ref().map(|level| level.available);
            let taken = self.taken.entry((portion.item_id, portion.location_id)).or_insert((0, seen));
            taken.0 += portion.quantity;
            match level {
                Some(level) => level.available -= portion.quantity,
                None => {
                    let site = self.sites.iter().flatten().find(|(location_id, _)| *location_id == portion.location_id);
                    let site = site.or(self.sites_of_levels(portion.location_id).as_ref()).map(|(_, site)| *site);
                    let site = site.ok_or_else(|| Error::internal("a location was allocated that was not looked up"))?;
                    let level = StockAt { location_id: portion.location_id, site, available: -portion.quantity };
                    if let Some(item) = self.stock.get_mut(&portion.item_id) {
                        item.levels.push(level);
                    }
                }
            }
        }
        Ok(())
    }

    /// A location as another item's level tells of it.
    fn sites_of_levels(&self, location_id: LocationId) -> Option<(LocationId, Site)> {
        let mut levels = self.stock.values().flat_map(|item| &item.levels);
        levels.find(|level| level.location_id == location_id).map(|level| (location_id, level.site))
    }

    /// Writes what was decided: each level once.
    pub(crate) fn write_levels(&self, tx: &mut Tx<'_>) -> Result<()> {
        for ((item_id, location_id), (quantity, seen)) in &self.taken {
            match seen {
                Some(seen) => tx.must(sql::RESERVE, (item_id, location_id, quantity, seen), error::contended)?,
                None => tx.exec(sql::RESERVE_ANEW, (item_id, location_id, quantity))?,
            }
        }
        for (item_id, before) in &self.before {
            let Some(item) = self.stock.get(item_id) else { continue };
            if let Some(mark) = item.low_stock_at.filter(|mark| before > mark && item.balance() <= *mark) {
                tx.emit(events::low(*item_id, item.balance(), mark));
            }
        }
        Ok(())
    }
}

/// Every location of the tenant.
fn all_sites(read: &mut Read<'_>) -> Result<Vec<(LocationId, Site)>> {
    type SiteRow = (LocationId, LocationKind, Option<f64>, Option<f64>, i64, bool);
    let rows: Vec<SiteRow> = read.all(sql::SITES, ())?;
    let site = |(location_id, kind, latitude, longitude, priority, active): SiteRow| {
        (location_id, Site { kind, coordinates: coordinates(latitude, longitude), priority, active })
    };
    Ok(rows.into_iter().map(site).collect())
}

/// Deals the portions of each item out to the lines that need it, in their order: the first lines get what is there.
fn to_lines(needs: &[(u32, ItemId, i64)], portions: &[Portion]) -> Vec<Allocation> {
    // What is there, then what is not, of each item.
    let mut pieces: BTreeMap<ItemId, Vec<(LocationId, i64, bool)>> = BTreeMap::new();
    for late in [false, true] {
        for portion in portions {
            let quantity = if late { portion.backordered } else { portion.quantity - portion.backordered };
            if quantity > 0 {
                pieces.entry(portion.item_id).or_default().push((portion.location_id, quantity, late));
            }
        }
    }
    let mut allocations: Vec<Allocation> = Vec::with_capacity(needs.len());
    for (line, item_id, need) in needs {
        let mut left = *need;
        for (location_id, there, late) in pieces.get_mut(item_id).into_iter().flatten() {
            let quantity = left.min(*there);
            if quantity == 0 {
                continue;
            }
            (*there, left) = (*there - quantity, left - quantity);
            let backordered = if *late { quantity } else { 0 };
            let same = |a: &&mut Allocation| (a.line, a.item_id, a.location_id) == (*line, *item_id, *location_id);
            match allocations.iter_mut().rev().take_while(|a| a.line == *line).find(same) {
                Some(own) => (own.quantity, own.backordered) = (own.quantity + quantity, own.backordered + backordered),
                None => allocations.push(Allocation {
                    line: *line,
                    item_id: *item_id,
                    location_id: *location_id,
                    quantity,
                    backordered,
                    shipped: 0,
                    returned: 0,
                }),
            }
        }
    }
    allocations
}

/// Makes the reservations of a set of demands: an answer for each, in their order. A repeat gets the answer of the first; what is refused
/// leaves nothing behind. Errors: those of the whole: `request.invalid` above [`MAX_BATCH`].
pub(crate) fn reserve_all(tx: &mut Tx<'_>, demands: &[&Demand]) -> Result<Vec<Result<Reserved>>> {
    if demands.len() > MAX_BATCH {
        return Err(Error::field("demands", "wrong_count", format!("{} demands; at most {MAX_BATCH}", demands.len())));
    }
    let now = tx.now();
    let checked: Vec<Result<()>> = demands.iter().map(|demand| demand.check(now)).collect();
    let fine = || demands.iter().zip(&checked).filter(|(_, checked)| checked.is_ok()).map(|(demand, _)| demand);
    let variants: HashSet<i64> = fine().flat_map(|demand| demand.lines.iter().map(|(variant_id, _)| variant_id.as_i64())).collect();
    if variants.is_empty() {
        return Ok(checked.into_iter().map(|checked| checked.and(Err(Error::internal("a demand without lines passed")))).collect());
    }
    let references: Vec<String> = fine().map(|demand| demand.reference.clone()).collect();
    let mut books = Books::open(tx, variants.into_iter().collect(), references)?;
    let mut outcomes = Vec::with_capacity(demands.len());
    let mut made: Vec<Reserved> = Vec::new();
    for (demand, checked) in demands.iter().zip(checked) {
        outcomes.push(match checked.and_then(|()| books.decide(tx, demand)) {
            Ok((reserved, is_new)) => {
                if is_new {
                    made.push(reserved.clone());
                }
                Ok(reserved)
            }
            // What the database says is the end of all of them.
            Err(error) if error.kind() == kernel::ErrorKind::Internal => return Err(error),
            Err(error) => Err(error),
        });
    }
    books.write_levels(tx)?;
    insert(tx, &made)?;
    Ok(outcomes)
}

/// Demands that are queued together, as a set.
pub(crate) fn reserve_set(tx: &mut Tx<'_>, members: &[Member<'_, Demand>]) -> Result<Vec<Result<Reserved>>> {
    let demands: Vec<&Demand> = members.iter().map(|member| &**member).collect();
    let mut outcomes = Vec::with_capacity(demands.len());
    for some in demands.chunks(MAX_BATCH) {
        outcomes.append(&mut reserve_all(tx, some)?);
    }
    Ok(outcomes)
}

fn insert(tx: &mut Tx<'_>, made: &[Reserved]) -> Result<()> {
    let now = tx.now();
    let texts = made.iter().map(|r| Ok((lines_text(&r.lines)?, allocations_text(&r.allocations)?))).collect::<Result<Vec<_>>>()?;
    if tx.engine() == Engine::Postgres && made.len() > 1 {
        let time = |at: Option<Timestamp>| at.map_or(0, Timestamp::micros);
        let (lines, allocations): (Vec<String>, Vec<String>) = texts.into_iter().unzip();
        return tx.exec(
            sql::INSERT_RESERVATION_SET,
            (
                made.iter().map(|r| r.reference.clone()).collect::<Vec<String>>(),
                made.iter().map(|r| r.state.as_str().to_owned()).collect::<Vec<String>>(),
                Value::Ints(made.iter().map(|r| time(r.expires_at)).collect()),
                Value::Ints(made.iter().map(|r| time(r.promised_at)).collect()),
                lines,
                allocations,
                now,
            ),
        );
    }
    let rows = made.iter().zip(&texts);
    tx.exec_each(
        sql::INSERT_RESERVATION,
        rows.map(|(r, (lines, allocations))| (&r.reference, r.state, r.expires_at, r.promised_at, lines, allocations, now)),
    )
}

/// What became of a confirmation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// It holds until it is shipped or released; so it does when it was confirmed or shipped already.
    Confirmed,
    /// Its time was over, and what it held is free again.
    Expired,
    /// Somebody had released it.
    Released,
    /// There is no such reservation.
    Unknown,
}

/// Confirms reservations: they have no expiry any more. One statement; those that there are not are missing in the answer.
pub(crate) fn confirm_all(tx: &mut Tx<'_>, references: Vec<String>) -> Result<HashMap<String, Confirmation>> {
    let now = tx.now();
    let states: Vec<(String, ReservationState)> = tx.write_all(sql::CONFIRM, (references, now))?;
    let confirmation = |state| match state {
        ReservationState::Expired => Confirmation::Expired,
        ReservationState::Released => Confirmation::Released,
        ReservationState::Held | ReservationState::Confirmed | ReservationState::Shipped => Confirmation::Confirmed,
    };
    Ok(states.into_iter().map(|(reference, state)| (reference, confirmation(state))).collect())
}

/// The same for one.
pub(crate) fn confirm(tx: &mut Tx<'_>, reference: &str) -> Result<Confirmation> {
    let confirmed = confirm_all(tx, vec![reference.to_owned()])?;
    Ok(confirmed.get(reference).copied().unwrap_or(Confirmation::Unknown))
}

/// What became of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// What had not gone out is free again.
    Released,
    /// It held nothing any more.
    Ended,
    /// There is no such reservation.
    Unknown,
}

/// Lets go of what a reservation still holds.
pub(crate) fn release(tx: &mut Tx<'_>, reference: &str) -> Result<Release> {
    let now = tx.now();
    let open: Option<(String,)> = tx.write_opt(sql::RELEASE, (reference, now))?;
    match open {
        Some((allocations,)) => {
            let_go(tx, &allocations_of(&allocations)?)?;
            Ok(Release::Released)
        }
        None => {
            let known = tx.opt::<Reserved>(sql::RESERVATION, (reference,))?;
            Ok(if known.is_some() { Release::Ended } else { Release::Unknown })
        }
    }
}

/// Frees what is open of these: each level once.
fn let_go(tx: &mut Tx<'_>, allocations: &[Allocation]) -> Result<()> {
    let mut free: BTreeMap<(ItemId, LocationId), i64> = BTreeMap::new();
    for allocation in allocations.iter().filter(|allocation| allocation.open() > 0) {
        *free.entry((allocation.item_id, allocation.location_id)).or_default() += allocation.open();
    }
    for ((item_id, location_id), quantity) in free {
        tx.must(sql::UNRESERVE, (item_id, location_id, quantity), error::contended)?;
    }
    Ok(())
}

/// Releases up to `limit` reservations whose time is over, the oldest first; how many it were. As many as `limit` says that there may be
/// more. Each is told by `stock.reservation_expired`.
pub(crate) fn expire_due(tx: &mut Tx<'_>, limit: u32) -> Result<u32> {
    let now = tx.now();
    let due: Vec<Reserved> = tx.all(sql::DUE, (now, limit))?;
    let allocations: Vec<Allocation> = due.iter().flat_map(|reservation| reservation.allocations.iter().copied()).collect();
    let_go(tx, &allocations)?;
    tx.exec_each(sql::EXPIRE, due.iter().map(|reservation| (&reservation.reference, now)))?;
    due.iter().for_each(|reservation| tx.emit(events::expired(reservation)));
    Ok(due.len() as u32)
}

/// Up to `limit` tenants after `after` that have reservations whose time is over, on the platform's scope of a shard.
pub(crate) fn tenants_with_due(read: &mut Read<'_>, after: i64, limit: u32) -> Result<Vec<TenantId>> {
    let now = read.now();
    Ok(read.all::<(TenantId,)>(sql::TENANTS_WITH_DUE, (now, after, limit))?.into_iter().map(|(tenant,)| tenant).collect())
}

/// How much of each variant can be had, in the order in which they are asked for. Errors: `request.invalid` above [`MAX_LINES`].
pub(crate) fn available(read: &mut Read<'_>, variants: &[VariantId]) -> Result<Vec<Availability>> {
    if variants.len() > MAX_LINES {
        return Err(Error::field("variants", "wrong_count", format!("{} variants; at most {MAX_LINES}", variants.len())));
    }
    let books = Books::open(read, variants.iter().map(|variant_id| variant_id.as_i64()).collect(), Vec::new())?;
    Ok(variants.iter().map(|variant_id| books.availability(*variant_id)).collect())
}

impl Books {
    fn availability(&self, variant_id: VariantId) -> Availability {
        let nothing = Availability { variant_id, tracked: false, in_stock: None, available: None, beyond: Policy::Deny, promised_at: None };
        let Some(components) = self.components.get(&variant_id) else { return nothing };
        let mut shown = Availability { tracked: true, in_stock: Some(i64::MAX), available: Some(i64::MAX), ..nothing };
        let items = components.iter().filter_map(|(item_id, each)| Some((self.stock.get(item_id)?, *each)));
        for (item, each) in items.clone() {
            let there = item.in_stock(&self.rules);
            shown.in_stock = shown.in_stock.map(|least| least.min(there / each));
            shown.available = shown.available.map(|least| least.min((there + item.beyond()) / each));
        }
        if shown.available > shown.in_stock {
            // What holds the variant back now, and what becomes of it.
            let scarce = items.filter(|(item, each)| Some(item.in_stock(&self.rules) / each) < shown.available);
            for (item, _) in scarce {
                shown.beyond = shown.beyond.max(item.policy);
                shown.promised_at = shown.promised_at.max(item.promised_at);
            }
        }
        shown
    }
}

/// A reservation. Errors: `inventory.reservation_not_found`.
pub(crate) fn find(read: &mut Read<'_>, reference: &str) -> Result<Reserved> {
    read.opt(sql::RESERVATION, (reference,))?.ok_or_else(error::reservation_not_found)
}

/// Up to `limit` reservations after `after`, in the order of their references.
pub(crate) fn list(read: &mut Read<'_>, after: &str, limit: i64) -> Result<Vec<Reserved>> {
    read.all(sql::RESERVATIONS_PAGE, (after, limit))
}
