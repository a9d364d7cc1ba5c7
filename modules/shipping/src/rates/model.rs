//! Zones, methods and rate tables, and the pure quote: what it costs to ship where.

use crate::error;
use crate::words::{entity, from_json, words};
use kernel::{Currency, Faults, Result, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

entity!(ZoneEntity, ZoneId, "zon", "zones");
entity!(MethodEntity, MethodId, "smt", "shipping methods");

/// The most zones of a tenant.
pub const MAX_ZONES: usize = 250;
/// The most methods of a tenant.
pub const MAX_METHODS: usize = 100;
/// The most rate tables of a tenant.
pub const MAX_TABLES: usize = 2_000;
/// The most areas of a zone.
const MAX_AREAS: usize = 300;
/// The most postcode ranges of an area.
const MAX_RANGES: usize = 200;
/// The most tiers of a table.
const MAX_TIERS: usize = 50;
/// The longest postcode, without blanks and hyphens.
const MAX_POSTCODE: usize = 12;
/// The heaviest that is quoted for, in grams: a hundred tonnes.
pub const MAX_WEIGHT_G: i64 = 100_000_000;
/// The largest amount, in minor units.
pub const MAX_AMOUNT_MINOR: i64 = 1_000_000_000_000;
/// Every country that no other area names.
pub const ANYWHERE: &str = "*";

/// Postcodes from one to another, both included: those whose first characters lie between the two. One alone is a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PostcodeRange)]
pub struct Range {
    /// The first, or the beginning of the first, such as `10115` or `10`.
    #[schema(min_length = 1, max_length = 20)]
    pub from: String,
    /// The last, as long as `from`; left out: only those that begin with `from`.
    #[serde(default)]
    #[schema(max_length = 20)]
    pub to: String,
}

/// A country, or some postcodes of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ShippingArea)]
pub struct Area {
    /// ISO 3166 alpha-2, or `*` for every country that no other area names.
    #[schema(pattern = r"^([A-Z]{2}|\*)$")]
    pub country: String,
    /// Which postcodes of it; none for all of them.
    #[serde(default)]
    #[schema(max_items = 200)]
    pub postcodes: Vec<Range>,
}

/// A part of the world that is shipped to alike. An address lies in the zone that names it most closely: the longest beginning of its
/// postcode, then its country, then `*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ShippingZone)]
pub struct Zone {
    /// Its id.
    pub zone_id: ZoneId,
    /// For people.
    pub name: String,
    /// What it consists of, postcodes in capitals and without blanks and hyphens.
    pub areas: Vec<Area>,
    /// Rises with every change; the `ETag`.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl store::FromRow for Zone {
    fn from_row(row: &dyn store::Row) -> Result<Self> {
        let areas: String = row.get(2)?;
        Ok(Zone {
            zone_id: row.get(0)?,
            name: row.get(1)?,
            areas: from_json(&areas)?,
            version: row.get(3)?,
            created_at: row.get(4)?,
            updated_at: row.get(5)?,
        })
    }
}

/// A way to ship, as it is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewShippingMethod)]
pub struct NewMethod {
    /// What the customer reads.
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
    /// Whether it is offered.
    #[serde(default = "yes")]
    pub active: bool,
    /// The fewest working days from shipping to delivery that are promised.
    #[schema(minimum = 0, maximum = 365)]
    pub min_days: i64,
    /// The most.
    #[schema(minimum = 0, maximum = 365)]
    pub max_days: i64,
    /// What the carrier calls it when a label is bought; empty for what is delivered by oneself.
    #[serde(default)]
    #[schema(max_length = 64)]
    pub service: String,
}

fn yes() -> bool {
    true
}

impl NewMethod {
    /// Errors: `request.invalid`.
    pub(crate) fn check(&self) -> Result<()> {
        let mut faults = Faults::default();
        faults.text("name", &self.name, 1, 100);
        faults.text("service", &self.service, 0, 64);
        faults.number("min_days", self.min_days, 0, 365);
        faults.number("max_days", self.max_days, 0, 365);
        if self.min_days > self.max_days {
            faults.add("min_days", "out_of_range", "not more than max_days");
        }
        faults.finish()
    }
}

/// A way to ship.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ShippingMethod)]
pub struct Method {
    /// Its id.
    pub method_id: MethodId,
    /// What was set.
    #[serde(flatten)]
    pub set: NewMethod,
    /// Rises with every change; the `ETag`.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl store::FromRow for Method {
    fn from_row(row: &dyn store::Row) -> Result<Self> {
        Ok(Method {
            method_id: row.get(0)?,
            set: NewMethod { name: row.get(1)?, active: row.get(2)?, min_days: row.get(3)?, max_days: row.get(4)?, service: row.get(5)? },
            version: row.get(6)?,
            created_at: row.get(7)?,
            updated_at: row.get(8)?,
        })
    }
}

words! {
    /// By what a table's tiers are chosen.
    #[schema(as = ShippingBasis)]
    Basis {
        /// The weight in grams.
        Weight = "weight",
        /// The goods' amount in minor units.
        Price = "price",
    }
}

/// A step of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ShippingTier)]
pub struct Tier {
    /// It holds up to this, included: grams or minor units, by the basis. Left out in the last one: however much it is.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    pub up_to: Option<i64>,
    /// What shipping costs, in minor units.
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    pub price_minor: i64,
}

/// What a method costs in a zone and a currency, as it is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewShippingRate)]
pub struct NewRate {
    /// By what the tiers are chosen.
    pub basis: Basis,
    /// Rising. What is beyond the last one is not shipped so.
    #[schema(min_items = 1, max_items = 50)]
    pub tiers: Vec<Tier>,
    /// From this amount of goods on it costs nothing, as long as a tier holds it.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    pub free_from_minor: Option<i64>,
}

impl NewRate {
    /// Errors: `request.invalid`.
    pub(crate) fn check(&self) -> Result<()> {
        let mut faults = Faults::default();
        if faults.count("tiers", self.tiers.len(), 1, MAX_TIERS) {
            let mut last = -1;
            for (i, tier) in self.tiers.iter().enumerate() {
                faults.number(format!("tiers[{i}].price_minor"), tier.price_minor, 0, MAX_AMOUNT_MINOR);
                match tier.up_to {
                    Some(up_to) => {
                        faults.number(format!("tiers[{i}].up_to"), up_to, 0, MAX_AMOUNT_MINOR);
                        if up_to <= last {
                            faults.add(format!("tiers[{i}].up_to"), "not_rising", "more than in the tier before");
                        }
                        last = up_to;
                    }
                    None if i + 1 < self.tiers.len() => {
                        faults.add(format!("tiers[{i}].up_to"), "required", "only the last tier may be without an end");
                    }
                    None => {}
                }
            }
        }
        if let Some(free_from_minor) = self.free_from_minor {
            faults.number("free_from_minor", free_from_minor, 0, MAX_AMOUNT_MINOR);
        }
        faults.finish()
    }

    /// What it costs; none when it is beyond the last tier.
    fn price_minor(&self, weight_g: i64, amount_minor: i64) -> Option<i64> {
        let measure = match self.basis {
            Basis::Weight => weight_g,
            Basis::Price => amount_minor,
        };
        let tier = self.tiers.iter().find(|tier| tier.up_to.is_none_or(|up_to| measure <= up_to))?;
        let free = self.free_from_minor.is_some_and(|from| amount_minor >= from);
        Some(if free { 0 } else { tier.price_minor })
    }
}

/// What a method costs in a zone and a currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ShippingRate)]
pub struct Rate {
    /// The method.
    pub method_id: MethodId,
    /// The zone.
    pub zone_id: ZoneId,
    /// The currency.
    pub currency: Currency,
    /// What was set.
    #[serde(flatten)]
    pub set: NewRate,
    /// Rises with every change; the `ETag`.
    pub version: i64,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl store::FromRow for Rate {
    fn from_row(row: &dyn store::Row) -> Result<Self> {
        let tiers: String = row.get(4)?;
        Ok(Rate {
            method_id: row.get(0)?,
            zone_id: row.get(1)?,
            currency: row.get(2)?,
            set: NewRate { basis: row.get(3)?, tiers: from_json(&tiers)?, free_from_minor: row.get(5)? },
            version: row.get(6)?,
            updated_at: row.get(7)?,
        })
    }
}

/// A postcode as it is compared: capitals and digits alone.
pub fn normal_postcode(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).take(MAX_POSTCODE).collect()
}

/// Brings areas into the form in which they are stored and compared. Errors: `request.invalid`.
pub(crate) fn normal_areas(areas: &[Area]) -> Result<Vec<Area>> {
    let mut faults = Faults::default();
    let mut normal = Vec::with_capacity(areas.len().min(MAX_AREAS));
    if faults.count("areas", areas.len(), 1, MAX_AREAS) {
        for (i, area) in areas.iter().enumerate() {
            if area.country != ANYWHERE {
                faults.country(format!("areas[{i}].country"), &area.country);
            } else if !area.postcodes.is_empty() {
                faults.add(format!("areas[{i}].postcodes"), "not_allowed", "postcodes belong to a country");
            }
            let mut postcodes = Vec::new();
            if faults.count(format!("areas[{i}].postcodes"), area.postcodes.len(), 0, MAX_RANGES) {
                for (j, range) in area.postcodes.iter().enumerate() {
                    let at = |field: &str| format!("areas[{i}].postcodes[{j}].{field}");
                    faults.text(at("from"), &range.from, 1, 20);
                    faults.text(at("to"), &range.to, 0, 20);
                    let from = normal_postcode(&range.from);
                    let to = if range.to.is_empty() { from.clone() } else { normal_postcode(&range.to) };
                    if from.is_empty() {
                        faults.add(at("from"), "not_a_postcode", "letters and digits");
                    } else if to.len() != from.len() || to < from {
                        faults.add(at("to"), "not_a_range", "as long as from, and not before it");
                    }
                    postcodes.push(Range { from, to });
                }
            }
            normal.push(Area { country: area.country.clone(), postcodes });
        }
    }
    faults.finish()?;
    Ok(normal)
}

/// A stretch of a country's postcodes as zones are looked up by: how many characters count, and which. All of a country has none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Stretch<'a> {
    country: &'a str,
    length: usize,
    from: &'a str,
    to: &'a str,
    zone: usize,
}

fn stretches(zones: &[Zone]) -> Vec<Stretch<'_>> {
    let mut all = Vec::new();
    for (zone, areas) in zones.iter().map(|zone| &zone.areas).enumerate() {
        for area in areas {
            let country = area.country.as_str();
            if area.postcodes.is_empty() {
                all.push(Stretch { country, length: 0, from: "", to: "", zone });
            }
            all.extend(area.postcodes.iter().map(|r| Stretch { country, length: r.from.len(), from: &r.from, to: &r.to, zone }));
        }
    }
    all.sort_unstable();
    all
}

/// Two zones that name the same addresses equally closely: their places in `zones`, and what they share.
pub fn overlap(zones: &[Zone]) -> Option<(usize, usize, String)> {
    let all = stretches(zones);
    // Within a country and a length they are in the order of their beginnings, so the one that reaches furthest so far is enough.
    let mut furthest: Option<&Stretch<'_>> = None;
    for next in &all {
        let same = furthest.filter(|before| before.country == next.country && before.length == next.length);
        if let Some(before) = same.filter(|before| before.zone != next.zone && next.from <= before.to) {
            let what = if next.length == 0 { next.country.to_owned() } else { format!("{} {}", next.country, next.from) };
            return Some((before.zone, next.zone, what));
        }
        if same.is_none_or(|before| next.to > before.to) {
            furthest = Some(next);
        }
    }
    None
}

/// Where a parcel goes, as far as its price is concerned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ShippingDestination)]
pub struct Destination {
    /// ISO 3166 alpha-2.
    #[schema(pattern = "^[A-Z]{2}$")]
    pub country: String,
    /// Its postcode; empty where there are none.
    #[serde(default)]
    #[schema(max_length = 20)]
    pub postcode: String,
}

/// What is to be shipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ShippingQuoteRequest)]
pub struct Parcelled {
    /// Where to.
    pub destination: Destination,
    /// All of it, in grams.
    #[schema(minimum = 0, maximum = 100_000_000)]
    pub weight_g: i64,
    /// What the goods cost, in minor units.
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    pub amount_minor: i64,
    /// Of the amount and of the quotes.
    pub currency: Currency,
}

impl Parcelled {
    /// Errors: `request.invalid`.
    pub fn check(&self) -> Result<()> {
        let mut faults = Faults::default();
        faults.country("destination.country", &self.destination.country);
        faults.text("destination.postcode", &self.destination.postcode, 0, 20);
        faults.number("weight_g", self.weight_g, 0, MAX_WEIGHT_G);
        faults.number("amount_minor", self.amount_minor, 0, MAX_AMOUNT_MINOR);
        faults.finish()
    }
}

/// What a method costs for what is to be shipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ShippingQuote)]
pub struct MethodQuote {
    /// The method.
    pub method_id: MethodId,
    /// What the customer reads.
    pub name: String,
    /// What it costs, in minor units.
    pub price_minor: i64,
    /// Of the price.
    pub currency: Currency,
    /// The fewest working days that are promised.
    pub min_days: i64,
    /// The most.
    pub max_days: i64,
    /// The zone of the address.
    pub zone_id: ZoneId,
}

/// A tenant's zones, methods and tables, put together for quoting.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// The active ones, by id.
    methods: Vec<Method>,
    /// Those of active methods, by zone and currency.
    tables: Vec<Rate>,
    /// By country; in each, those with the longest beginnings first.
    places: Vec<Place>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    country: String,
    from: String,
    to: String,
    zone_id: ZoneId,
}

impl Rates {
    /// Puts them together.
    pub fn new(zones: &[Zone], mut methods: Vec<Method>, mut tables: Vec<Rate>) -> Rates {
        methods.retain(|method| method.set.active);
        methods.sort_unstable_by_key(|method| method.method_id);
        tables.retain(|table| methods.binary_search_by_key(&table.method_id, |method| method.method_id).is_ok());
        tables.sort_unstable_by_key(|table| (table.zone_id, table.currency, table.method_id));
        let place = |s: Stretch<'_>| Place {
            country: s.country.to_owned(),
            from: s.from.to_owned(),
            to: s.to.to_owned(),
            zone_id: zones[s.zone].zone_id,
        };
        let mut places: Vec<Place> = stretches(zones).into_iter().map(place).collect();
        places.sort_by(|one, other| one.country.cmp(&other.country).then(other.from.len().cmp(&one.from.len())));
        Rates { methods, tables, places }
    }

    /// Its size in memory, about, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let texts = self.places.iter().map(|place| place.country.len() + place.from.len() + place.to.len());
        let names = self.methods.iter().map(|method| method.set.name.len() + method.set.service.len());
        let tiers = self.tables.iter().map(|table| size_of_val(&table.set.tiers[..]));
        let lists = size_of_val(&self.methods[..]) + size_of_val(&self.tables[..]) + size_of_val(&self.places[..]);
        size_of::<Rates>() + lists + texts.chain(names).chain(tiers).sum::<usize>()
    }

    fn in_country(&self, country: &str) -> &[Place] {
        let begin = self.places.partition_point(|place| place.country.as_str() < country);
        let end = self.places.partition_point(|place| place.country.as_str() <= country);
        &self.places[begin..end]
    }

    fn in_zone(&self, zone_id: ZoneId) -> &[Rate] {
        let begin = self.tables.partition_point(|table| table.zone_id < zone_id);
        let end = self.tables.partition_point(|table| table.zone_id <= zone_id);
        &self.tables[begin..end]
    }

    /// The countries of the zones, in their order; [`ANYWHERE`] for all others.
    pub fn countries(&self) -> Vec<String> {
        let mut countries: Vec<String> = self.places.iter().map(|place| place.country.clone()).collect();
        countries.dedup();
        countries
    }

    /// The zone in which an address lies.
    pub fn zone_of(&self, destination: &Destination) -> Option<ZoneId> {
        let postcode = normal_postcode(&destination.postcode);
        let holds = |place: &&Place| {
            let begins = postcode.get(..place.from.len());
            begins.is_some_and(|begins| (place.from.as_str()..=place.to.as_str()).contains(&begins))
        };
        let found = self.in_country(&destination.country).iter().find(holds);
        found.or_else(|| self.in_country(ANYWHERE).first()).map(|place| place.zone_id)
    }

    fn method(&self, method_id: MethodId) -> Option<&Method> {
        self.methods.binary_search_by_key(&method_id, |method| method.method_id).ok().map(|place| &self.methods[place])
    }
}

/// What each method costs, the cheapest first, then the quickest. Empty when it can't be shipped.
pub fn quote(rates: &Rates, parcelled: &Parcelled) -> Vec<MethodQuote> {
    let Some(zone_id) = rates.zone_of(&parcelled.destination) else { return Vec::new() };
    let tables = rates.in_zone(zone_id).iter().filter(|table| table.currency == parcelled.currency);
    let one = |table: &Rate| {
        let method = rates.method(table.method_id)?;
        Some(MethodQuote {
            method_id: table.method_id,
            name: method.set.name.clone(),
            price_minor: table.set.price_minor(parcelled.weight_g, parcelled.amount_minor)?,
            currency: parcelled.currency,
            min_days: method.set.min_days,
            max_days: method.set.max_days,
            zone_id,
        })
    };
    let mut quotes: Vec<MethodQuote> = tables.filter_map(one).collect();
    quotes.sort_unstable_by_key(|quote| (quote.price_minor, quote.max_days, quote.method_id));
    quotes
}

/// As [`quote`], at least one. Errors: `shipping.no_method` naming the field that stands in the way.
pub fn quote_some(rates: &Rates, parcelled: &Parcelled) -> Result<Vec<MethodQuote>> {
    let quotes = quote(rates, parcelled);
    if quotes.is_empty() { Err(obstacle(rates, parcelled)) } else { Ok(quotes) }
}

/// What one method costs. Errors: `shipping.no_method` naming the field that stands in the way, `method_id` when another one would do.
pub fn quote_of(rates: &Rates, parcelled: &Parcelled, method_id: MethodId) -> Result<MethodQuote> {
    let chosen = quote_some(rates, parcelled)?.into_iter().find(|quote| quote.method_id == method_id);
    chosen.ok_or_else(|| error::no_method("method_id", "not_offered", "this method is not offered for this address, weight and amount"))
}

/// Why nothing is offered.
fn obstacle(rates: &Rates, parcelled: &Parcelled) -> kernel::Error {
    let Destination { country, postcode } = &parcelled.destination;
    let parts = rates.in_country(country).iter().any(|place| !place.from.is_empty());
    let not_there = || {
        if parts {
            let detail = if postcode.is_empty() { "say the postcode" } else { "nothing is shipped to this postcode" };
            error::no_method("destination.postcode", "not_served", detail)
        } else {
            error::no_method("destination.country", "not_served", "nothing is shipped to this country")
        }
    };
    let there = rates.zone_of(&parcelled.destination).map(|zone_id| rates.in_zone(zone_id)).unwrap_or_default();
    if there.is_empty() {
        return not_there();
    }
    let mut tables = there.iter().filter(|table| table.currency == parcelled.currency).peekable();
    if tables.peek().is_none() {
        return error::no_method("currency", "not_served", "there are no rates in this currency");
    }
    if tables.any(|table| table.set.basis == Basis::Weight) {
        return error::no_method("weight_g", "too_heavy", "nothing as heavy is shipped there");
    }
    error::no_method("amount_minor", "too_large", "nothing as expensive is shipped there")
}
