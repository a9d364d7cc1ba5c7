//! What stock is: items, places, levels, movements, reservations, and the bounds of each.

use kernel::{Entity, Error, Faults, Id, Result, Timestamp};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use store::{FromRow, FromValue, Row, ToValue, Value, ValueRef};
use utoipa::ToSchema;

/// The largest quantity of one line, and of one movement.
pub const MAX_QUANTITY: i64 = 1_000_000_000;
/// The largest that any number of a level may become.
pub const MAX_LEVEL: i64 = 1_000_000_000_000;
/// The most lines of a demand.
pub const MAX_LINES: usize = 500;
/// The most different items that the lines of a demand come to, components expanded.
pub const MAX_DEMAND_ITEMS: usize = 1_000;
/// The most components of a variant.
pub const MAX_COMPONENTS: usize = 50;
/// The most of one item that a variant has.
pub const MAX_COMPONENT_QUANTITY: i64 = 1_000_000;
/// The most locations of a tenant.
pub const MAX_LOCATIONS: usize = 200;
/// The most demands that one call decides together.
pub const MAX_BATCH: usize = 1_000;
/// The most lines of a transfer, a stock take or a list of movements.
pub const MAX_ITEMS: usize = 500;
/// The longest reference, in bytes.
pub const MAX_REFERENCE: usize = 100;
/// The longest note, in characters.
pub const MAX_NOTE: usize = 500;

macro_rules! entity {
    ($(#[$doc:meta])* $entity:ident $id:ident $prefix:literal) => {
        /// Marks ids.
        pub enum $entity {}

        impl Entity for $entity {
            const PREFIX: &'static str = $prefix;
        }

        $(#[$doc])*
        pub type $id = Id<$entity>;
    };
}

entity! {
    /// The id of an item (`itm_...`).
    ItemEntity ItemId "itm"
}
entity! {
    /// The id of a location (`loc_...`).
    LocationEntity LocationId "loc"
}
entity! {
    /// The id of a movement of the stock ledger (`mov_...`).
    MovementEntity MovementId "mov"
}
entity! {
    /// The id of a transfer between locations (`stf_...`).
    TransferEntity TransferId "stf"
}
entity! {
    /// The id of a stock take (`stc_...`).
    CountEntity CountId "stc"
}
entity! {
    /// The id of a variant, as the catalog has it (`var_...`); this module never reads the catalog.
    VariantEntity VariantId "var"
}

/// Gives an enum its words: as JSON, in the store, and back.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
        $(#[$meta])*
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $($(#[$doc])* $variant,)+
        }

        impl $name {
            /// Every one of them, in order.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];

            /// Its word, as it is stored and goes over the wire.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)+
                }
            }
        }

        impl ToValue for $name {
            fn to_value(&self) -> Value<'_> {
                Value::Text(self.as_str().into())
            }
        }

        impl FromValue for $name {
            fn from_value(value: ValueRef<'_>) -> Result<Self> {
                let ValueRef::Text(word) = value else { return Err(Error::internal("a column holds no word")) };
                let known = $name::ALL.iter().find(|known| known.as_str() == word);
                known.copied().ok_or_else(|| Error::internal(concat!("a column holds no ", stringify!($name))))
            }
        }
    };
}

words! {
    /// What becomes of a demand beyond what is available.
    #[schema(as = StockPolicy)]
    #[derive(Default)]
    Policy {
        /// It is refused.
        #[default]
        Deny = "deny",
        /// It is taken, up to a limit, and shipped when stock has come.
        Backorder = "backorder",
        /// The same for what is not out yet.
        Preorder = "preorder",
    }
}

words! {
    /// What a location is.
    #[schema(as = StockLocationKind)]
    LocationKind {
        /// Ships.
        Warehouse = "warehouse",
        /// Sells over the counter, and may ship.
        Shop = "shop",
        /// Somebody else's stock that is sent for the tenant.
        Supplier = "supplier",
    }
}

words! {
    /// Where a reservation stands.
    #[schema(as = StockReservationState)]
    ReservationState {
        /// Until its time is over.
        Held = "held",
        /// Until it is shipped or released.
        Confirmed = "confirmed",
        /// Everything has gone out.
        Shipped = "shipped",
        /// What had not gone out was let go.
        Released = "released",
        /// Nobody confirmed it in time.
        Expired = "expired",
    }
}

impl ReservationState {
    /// Whether it holds stock.
    pub fn is_open(self) -> bool {
        matches!(self, ReservationState::Held | ReservationState::Confirmed)
    }
}

words! {
    /// Why a level changed.
    #[schema(as = StockMovementKind)]
    MovementKind {
        /// A delivery was announced, or less of it.
        Expected = "expected",
        /// Goods came in; what was announced of them is incoming no more.
        Received = "received",
        /// Goods came back on sale.
        Restocked = "restocked",
        /// Goods on hand are lost.
        WrittenOff = "written_off",
        /// Goods on hand were damaged.
        Damaged = "damaged",
        /// Damaged goods are on sale again.
        Repaired = "repaired",
        /// Damaged goods are lost.
        Scrapped = "scrapped",
        /// Somebody has set what is on hand.
        Corrected = "corrected",
        /// Somebody has set how much is never sold.
        SafetySet = "safety_set",
        /// Reserved goods went out.
        Shipped = "shipped",
        /// Shipped goods came back, on sale again.
        Returned = "returned",
        /// Shipped goods came back damaged.
        ReturnedDamaged = "returned_damaged",
        /// Goods left for another location.
        TransferOut = "transfer_out",
        /// Goods from another location are on their way.
        TransferExpected = "transfer_expected",
        /// Goods from another location came in.
        TransferIn = "transfer_in",
        /// Goods from another location came in damaged.
        TransferDamaged = "transfer_damaged",
        /// Goods from another location never came.
        TransferShort = "transfer_short",
        /// A stock take found more or less than the books.
        Counted = "counted",
    }
}

impl MovementKind {
    /// The kind of the event that tells of it.
    pub const fn event(self) -> &'static str {
        match self {
            MovementKind::Expected => "stock.expected",
            MovementKind::Received => "stock.received",
            MovementKind::Restocked => "stock.restocked",
            MovementKind::WrittenOff | MovementKind::Scrapped => "stock.written_off",
            MovementKind::Damaged => "stock.damaged",
            MovementKind::Repaired => "stock.repaired",
            MovementKind::Corrected => "stock.corrected",
            MovementKind::SafetySet => "stock.safety_set",
            MovementKind::Shipped => "stock.shipped",
            MovementKind::Returned | MovementKind::ReturnedDamaged => "stock.returned",
            MovementKind::TransferOut
            | MovementKind::TransferExpected
            | MovementKind::TransferIn
            | MovementKind::TransferDamaged
            | MovementKind::TransferShort => "stock.transferred",
            MovementKind::Counted => "stock.counted",
        }
    }
}

words! {
    /// Where a transfer stands.
    #[schema(as = StockTransferState)]
    TransferState {
        /// Sent; some of it has not come.
        InTransit = "in_transit",
        /// All of it is accounted for.
        Received = "received",
    }
}

words! {
    /// Where a stock take stands.
    #[schema(as = StockCountState)]
    CountState {
        /// Being counted.
        Open = "open",
        /// The differences are booked.
        Applied = "applied",
        /// Called off; nothing was booked.
        Cancelled = "cancelled",
    }
}

/// A place on the earth, in degrees.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = StockCoordinates)]
#[serde(deny_unknown_fields)]
pub struct Coordinates {
    /// North of the equator.
    #[schema(minimum = -90, maximum = 90)]
    pub latitude: f64,
    /// East of Greenwich.
    #[schema(minimum = -180, maximum = 180)]
    pub longitude: f64,
}

impl Coordinates {
    /// The way to another place over a round earth, in metres: good to half a percent.
    pub fn metres_to(self, other: Coordinates) -> i64 {
        const EARTH_RADIUS_METRES: f64 = 6_371_008.8;
        let (from, to) = (self.latitude.to_radians(), other.latitude.to_radians());
        let (north, east) = (to - from, (other.longitude - self.longitude).to_radians());
        let half = (north / 2.0).sin().powi(2) + from.cos() * to.cos() * (east / 2.0).sin().powi(2);
        (2.0 * EARTH_RADIUS_METRES * half.sqrt().clamp(0.0, 1.0).asin()) as i64
    }

    pub(crate) fn check(self, path: &str, faults: &mut Faults) {
        faults.number(format!("{path}.latitude"), self.latitude, -90.0, 90.0);
        faults.number(format!("{path}.longitude"), self.longitude, -180.0, 180.0);
    }
}

/// Checks what a reservation is known by: it stands in paths as it is.
pub(crate) fn check_reference(faults: &mut Faults, field: &str, value: &str) {
    if value.is_empty() || value.len() > MAX_REFERENCE {
        faults.add(field, "wrong_length", format!("{} bytes; between 1 and {MAX_REFERENCE}", value.len()));
    } else if !value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:~".contains(&byte)) {
        faults.add(field, "invalid", "only letters, digits, and - _ . : ~");
    }
}

/// Tells a field that is null from one that is left out.
pub(crate) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> std::result::Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// What is stored and counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = StockItem)]
pub struct Item {
    /// Its id.
    pub item_id: ItemId,
    /// Stock-keeping unit: unique among the tenant's items; upper and lower case differ.
    pub sku: String,
    /// For people.
    pub name: String,
    /// What becomes of a demand beyond what is available.
    pub policy: Policy,
    /// How many may be promised beyond what is available, over all locations; of `backorder` and `preorder`.
    pub oversell_limit: i64,
    /// When what is promised beyond will be there.
    pub promised_at: Option<Timestamp>,
    /// At this many available, over all locations, or fewer: `stock.low`, once for each crossing.
    pub low_stock_at: Option<i64>,
    /// Rises with every change; the `ETag`.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl FromRow for Item {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(Item {
            item_id: row.get(0)?,
            sku: row.get(1)?,
            name: row.get(2)?,
            policy: row.get(3)?,
            oversell_limit: row.get(4)?,
            promised_at: row.get(5)?,
            low_stock_at: row.get(6)?,
            version: row.get(7)?,
            created_at: row.get(8)?,
            updated_at: row.get(9)?,
        })
    }
}

impl Item {
    pub(crate) fn check(&self) -> Result<()> {
        let mut faults = Faults::default();
        faults.name("sku", &self.sku, 64);
        faults.text("name", &self.name, 0, 200);
        faults.number("oversell_limit", self.oversell_limit, 0, MAX_QUANTITY);
        if let Some(low) = self.low_stock_at {
            faults.number("low_stock_at", low, 0, MAX_QUANTITY);
        }
        faults.finish()
    }
}

/// An item to make.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[schema(as = NewStockItem)]
#[serde(deny_unknown_fields)]
pub struct NewItem {
    /// Stock-keeping unit: unique among the tenant's items; upper and lower case differ.
    #[schema(min_length = 1, max_length = 64)]
    pub sku: String,
    /// For people.
    #[serde(default)]
    #[schema(max_length = 200)]
    pub name: String,
    /// What becomes of a demand beyond what is available; `deny` unless said.
    #[serde(default)]
    pub policy: Policy,
    /// How many may be promised beyond what is available, over all locations.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    pub oversell_limit: i64,
    /// When what is promised beyond will be there.
    #[serde(default)]
    pub promised_at: Option<Timestamp>,
    /// At this many available or fewer: `stock.low`.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    pub low_stock_at: Option<i64>,
}

/// A change of an item; what is left out stays.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[schema(as = StockItemChange)]
#[serde(deny_unknown_fields)]
pub struct ItemChange {
    /// Stock-keeping unit.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 64)]
    pub sku: Option<String>,
    /// For people.
    #[serde(default)]
    #[schema(max_length = 200)]
    pub name: Option<String>,
    /// What becomes of a demand beyond what is available.
    #[serde(default)]
    pub policy: Option<Policy>,
    /// How many may be promised beyond what is available.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    pub oversell_limit: Option<i64>,
    /// When what is promised beyond will be there; null for nobody knows.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Timestamp>)]
    pub promised_at: Option<Option<Timestamp>>,
    /// At this many available or fewer: `stock.low`; null for never.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 1_000_000_000)]
    pub low_stock_at: Option<Option<i64>>,
}

/// Where a location is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = StockAddress)]
#[serde(deny_unknown_fields)]
pub struct Address {
    /// First line.
    #[serde(default)]
    #[schema(max_length = 200)]
    pub line1: String,
    /// Second line.
    #[serde(default)]
    #[schema(max_length = 200)]
    pub line2: String,
    /// City.
    #[serde(default)]
    #[schema(max_length = 200)]
    pub city: String,
    /// Region.
    #[serde(default)]
    #[schema(max_length = 200)]
    pub region: String,
    /// Postal code.
    #[serde(default)]
    #[schema(max_length = 32)]
    pub postal_code: String,
    /// Country.
    #[serde(default)]
    #[schema(max_length = 64)]
    pub country: String,
}

/// Where stock is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = StockLocation)]
pub struct Location {
    /// Its id.
    pub location_id: LocationId,
    /// What it is.
    pub kind: LocationKind,
    /// For people.
    pub name: String,
    /// Where it is.
    pub address: Address,
    /// Where it is, for the nearest to be found.
    pub coordinates: Option<Coordinates>,
    /// The lower, the sooner it is taken from.
    pub priority: i64,
    /// Whether anything is sold from it.
    pub active: bool,
    /// Rises with every change; the `ETag`.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl FromRow for Location {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(Location {
            location_id: row.get(0)?,
            kind: row.get(1)?,
            name: row.get(2)?,
            address: Address {
                line1: row.get(3)?,
                line2: row.get(4)?,
                city: row.get(5)?,
                region: row.get(6)?,
                postal_code: row.get(7)?,
                country: row.get(8)?,
            },
            coordinates: coordinates(row.get(9)?, row.get(10)?),
            priority: row.get(11)?,
            active: row.get(12)?,
            version: row.get(13)?,
            created_at: row.get(14)?,
            updated_at: row.get(15)?,
        })
    }
}

/// Both or none.
pub(crate) fn coordinates(latitude: Option<f64>, longitude: Option<f64>) -> Option<Coordinates> {
    latitude.zip(longitude).map(|(latitude, longitude)| Coordinates { latitude, longitude })
}

impl Location {
    pub(crate) fn check(&self) -> Result<()> {
        let mut faults = Faults::default();
        faults.name("name", &self.name, 200);
        let a = &self.address;
        for (field, value) in [("line1", &a.line1), ("line2", &a.line2), ("city", &a.city), ("region", &a.region)] {
            faults.text(format!("address.{field}"), value, 0, 200);
        }
        faults.text("address.postal_code", &a.postal_code, 0, 32);
        faults.text("address.country", &a.country, 0, 64);
        faults.number("priority", self.priority, -1_000_000, 1_000_000);
        if let Some(coordinates) = self.coordinates {
            coordinates.check("coordinates", &mut faults);
        }
        faults.finish()
    }
}

fn yes() -> bool {
    true
}

/// A location to make.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = NewStockLocation)]
#[serde(deny_unknown_fields)]
pub struct NewLocation {
    /// What it is.
    pub kind: LocationKind,
    /// For people.
    #[schema(min_length = 1, max_length = 200)]
    pub name: String,
    /// Where it is.
    #[serde(default)]
    pub address: Address,
    /// Where it is, for the nearest to be found.
    #[serde(default)]
    pub coordinates: Option<Coordinates>,
    /// The lower, the sooner it is taken from; 0 unless said.
    #[serde(default)]
    #[schema(minimum = -1_000_000, maximum = 1_000_000)]
    pub priority: i64,
    /// Whether anything is sold from it; true unless said.
    #[serde(default = "yes")]
    pub active: bool,
}

/// A change of a location; what is left out stays.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[schema(as = StockLocationChange)]
#[serde(deny_unknown_fields)]
pub struct LocationChange {
    /// What it is.
    #[serde(default)]
    pub kind: Option<LocationKind>,
    /// For people.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 200)]
    pub name: Option<String>,
    /// Where it is, all of it.
    #[serde(default)]
    pub address: Option<Address>,
    /// Where it is, for the nearest to be found; null for nobody knows.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Coordinates>)]
    pub coordinates: Option<Option<Coordinates>>,
    /// The lower, the sooner it is taken from.
    #[serde(default)]
    #[schema(minimum = -1_000_000, maximum = 1_000_000)]
    pub priority: Option<i64>,
    /// Whether anything is sold from it.
    #[serde(default)]
    pub active: Option<bool>,
}

/// How much of an item a variant has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = StockComponent)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// The item.
    pub item_id: ItemId,
    /// How many of it in one of the variant.
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub quantity: i64,
}

/// What a variant is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = StockComponents)]
pub struct Components {
    /// The variant.
    pub variant_id: VariantId,
    /// Its items; none: it is not tracked, and always available.
    pub components: Vec<Component>,
    /// Rises with every change; the `ETag`. 1 without components.
    pub version: i64,
}

/// How much of an item a location has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = StockLevel)]
pub struct Level {
    /// The item.
    pub item_id: ItemId,
    /// The location.
    pub location_id: LocationId,
    /// On its shelves and fit for sale, the reserved ones with them.
    pub on_hand: i64,
    /// Promised to somebody.
    pub reserved: i64,
    /// Announced, and not there yet.
    pub incoming: i64,
    /// How many of the incoming ones are on their way from another location.
    pub in_transit: i64,
    /// There, and not fit for sale.
    pub damaged: i64,
    /// Never sold.
    pub safety: i64,
    /// `on_hand` less `reserved` less `safety`; below zero when more is promised than there is.
    pub available: i64,
}

impl Level {
    /// Nothing of an item at a location.
    pub(crate) fn nothing(item_id: ItemId, location_id: LocationId) -> Level {
        Level { item_id, location_id, on_hand: 0, reserved: 0, incoming: 0, in_transit: 0, damaged: 0, safety: 0, available: 0 }
    }
}

impl FromRow for Level {
    fn from_row(row: &dyn Row) -> Result<Self> {
        let (on_hand, reserved, safety): (i64, i64, i64) = (row.get(2)?, row.get(3)?, row.get(6)?);
        Ok(Level {
            item_id: row.get(0)?,
            location_id: row.get(1)?,
            on_hand,
            reserved,
            incoming: row.get(4)?,
            in_transit: row.get(7)?,
            damaged: row.get(5)?,
            safety,
            available: on_hand - reserved - safety,
        })
    }
}

/// An entry of the stock ledger: by how much each number of a level changed, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = StockMovement)]
pub struct Movement {
    /// Its id.
    pub movement_id: MovementId,
    /// Of which item.
    pub item_id: ItemId,
    /// Where.
    pub location_id: LocationId,
    /// Why.
    pub kind: MovementKind,
    /// By how much what is on hand changed.
    pub on_hand: i64,
    /// By how much what is incoming changed.
    pub incoming: i64,
    /// By how much what is damaged changed.
    pub damaged: i64,
    /// By how much what is never sold changed.
    pub safety: i64,
    /// What it belongs to.
    pub reference: String,
    /// For people.
    pub note: String,
    /// When.
    pub moved_at: Timestamp,
}

impl FromRow for Movement {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(Movement {
            movement_id: row.get(0)?,
            item_id: row.get(1)?,
            location_id: row.get(2)?,
            kind: row.get(3)?,
            on_hand: row.get(4)?,
            incoming: row.get(5)?,
            damaged: row.get(6)?,
            safety: row.get(7)?,
            reference: row.get(8)?,
            note: row.get(9)?,
            moved_at: row.get(10)?,
        })
    }
}

/// What somebody wants to have kept for them.
#[derive(Clone, Debug, PartialEq)]
pub struct Demand {
    /// What it is for, such as `chk_...`: one reservation for each, for ever. Up to 100 letters, digits, and `-_.:~`.
    pub reference: String,
    /// Variants and how many of each; 1 to [`MAX_LINES`].
    pub lines: Vec<(VariantId, i64)>,
    /// Until when, unless it is confirmed. None: it is confirmed at once.
    pub expires_at: Option<Timestamp>,
    /// Where it goes, for the nearest location to be found.
    pub destination: Option<Coordinates>,
}

impl Demand {
    /// Errors: `request.invalid`, naming `lines[i].quantity` and the like.
    pub(crate) fn check(&self, now: Timestamp) -> Result<()> {
        let mut faults = Faults::default();
        check_reference(&mut faults, "reference", &self.reference);
        faults.count("lines", self.lines.len(), 1, MAX_LINES);
        for (at, (_, quantity)) in self.lines.iter().take(MAX_LINES).enumerate() {
            if *quantity < 1 || *quantity > MAX_QUANTITY {
                faults.number(format!("lines[{at}].quantity"), *quantity, 1, MAX_QUANTITY);
            }
        }
        if self.expires_at.is_some_and(|at| at <= now || at > now.plus_ms(7_306 * 86_400_000)) {
            faults.add("expires_at", "out_of_range", "after now, and at most twenty years from now");
        }
        if let Some(destination) = self.destination {
            destination.check("destination", &mut faults);
        }
        faults.finish()
    }
}

/// A line of a reservation: what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = StockReservationLine)]
pub struct ReservedLine {
    /// Its number: from 0, in the order in which it was asked for; what was added later has a number of its own.
    pub line: u32,
    /// The variant.
    pub variant_id: VariantId,
    /// How many.
    pub quantity: i64,
}

/// What a reservation holds of an item at a location, for one of its lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = StockAllocation)]
pub struct Allocation {
    /// The line, from 0.
    pub line: u32,
    /// The item.
    pub item_id: ItemId,
    /// The location.
    pub location_id: LocationId,
    /// How many are held.
    pub quantity: i64,
    /// How many of them were not there when they were promised.
    pub backordered: i64,
    /// How many have gone out.
    pub shipped: i64,
    /// How many of those have come back.
    pub returned: i64,
}

impl Allocation {
    /// How many have still to go out.
    pub fn open(&self) -> i64 {
        self.quantity - self.shipped
    }
}

/// A reservation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = StockReservation)]
pub struct Reserved {
    /// What it is for.
    pub reference: String,
    /// Where it stands.
    pub state: ReservationState,
    /// Until when it is held; null once it is confirmed or has ended.
    pub expires_at: Option<Timestamp>,
    /// When what was not there will be, as far as it is known; null when everything was there.
    pub promised_at: Option<Timestamp>,
    /// What was asked for.
    pub lines: Vec<ReservedLine>,
    /// What is held for it, and where. Nothing for variants that are not tracked.
    pub allocations: Vec<Allocation>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl Reserved {
    /// Whether some of it was not there when it was promised.
    pub fn is_backordered(&self) -> bool {
        self.allocations.iter().any(|allocation| allocation.backordered > 0)
    }

    /// Its locations, each once: a parcel from each.
    pub fn locations(&self) -> Vec<LocationId> {
        let mut locations: Vec<LocationId> = self.allocations.iter().map(|allocation| allocation.location_id).collect();
        locations.sort_unstable();
        locations.dedup();
        locations
    }

    /// How many of an item are in one of a line, by the reservation: the catalog of today may say otherwise. Nothing for a line that is not
    /// tracked.
    pub(crate) fn each_of(&self, line: u32) -> BTreeMap<ItemId, i64> {
        let quantity = self.lines.iter().find(|own| own.line == line).map_or(1, |own| own.quantity.max(1));
        let mut sums: BTreeMap<ItemId, i64> = BTreeMap::new();
        for allocation in self.allocations.iter().filter(|allocation| allocation.line == line) {
            *sums.entry(allocation.item_id).or_default() += allocation.quantity;
        }
        sums.into_iter().map(|(item_id, sum)| (item_id, sum / quantity)).collect()
    }

    /// How many of a line have gone out, and how many have still to go; none where it is not tracked.
    pub fn gone_and_open(&self, line: u32) -> Option<(i64, i64)> {
        let of_item = |item_id: ItemId, each: i64| {
            let own = self.allocations.iter().filter(move |part| part.line == line && part.item_id == item_id);
            let (shipped, open) = own.fold((0, 0), |sum, part| (sum.0 + part.shipped, sum.1 + part.open()));
            (shipped / each.max(1), open / each.max(1))
        };
        self.each_of(line).into_iter().map(|(item_id, each)| of_item(item_id, each)).reduce(|a, b| (a.0.min(b.0), a.1.min(b.1)))
    }
}

/// A line as it is stored: variant, quantity, number. Without a number it is the line's place.
#[derive(Serialize, Deserialize)]
struct StoredLine(i64, i64, #[serde(default)] Option<u32>);
type StoredAllocation = (u32, i64, i64, i64, i64, i64, i64);

/// Lines as they are stored.
pub(crate) fn lines_text(lines: &[ReservedLine]) -> Result<String> {
    let row = |line: &ReservedLine| StoredLine(line.variant_id.as_i64(), line.quantity, Some(line.line));
    let rows: Vec<StoredLine> = lines.iter().map(row).collect();
    stored(&rows)
}

/// Allocations as they are stored.
pub(crate) fn allocations_text(allocations: &[Allocation]) -> Result<String> {
    let row = |a: &Allocation| (a.line, a.item_id.as_i64(), a.location_id.as_i64(), a.quantity, a.backordered, a.shipped, a.returned);
    stored(&allocations.iter().map(row).collect::<Vec<StoredAllocation>>())
}

pub(crate) fn stored<T: Serialize>(rows: &T) -> Result<String> {
    serde_json::to_string(rows).map_err(|e| Error::internal("lines do not serialise").caused_by(e))
}

pub(crate) fn restored<T: serde::de::DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| Error::internal("stored lines do not parse").caused_by(e))
}

pub(crate) fn lines_of(text: &str) -> Result<Vec<ReservedLine>> {
    let rows: Vec<StoredLine> = restored(text)?;
    let line = |(place, StoredLine(variant, quantity, number)): (u32, StoredLine)| ReservedLine {
        line: number.unwrap_or(place),
        variant_id: VariantId::from_i64(variant),
        quantity,
    };
    Ok((0..).zip(rows).map(line).collect())
}

pub(crate) fn allocations_of(text: &str) -> Result<Vec<Allocation>> {
    let rows: Vec<StoredAllocation> = restored(text)?;
    let allocation = |(line, item, location, quantity, backordered, shipped, returned): StoredAllocation| Allocation {
        line,
        item_id: ItemId::from_i64(item),
        location_id: LocationId::from_i64(location),
        quantity,
        backordered,
        shipped,
        returned,
    };
    Ok(rows.into_iter().map(allocation).collect())
}

impl FromRow for Reserved {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(Reserved {
            reference: row.get(0)?,
            state: row.get(1)?,
            expires_at: row.get(2)?,
            promised_at: row.get(3)?,
            lines: lines_of(&row.get::<String>(4)?)?,
            allocations: allocations_of(&row.get::<String>(5)?)?,
            created_at: row.get(6)?,
            updated_at: row.get(7)?,
        })
    }
}

/// How much of a variant can be had. What is shown decides nothing: a demand is decided when it is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = StockAvailability)]
pub struct Availability {
    /// The variant.
    pub variant_id: VariantId,
    /// Whether it has components; one without is always available.
    pub tracked: bool,
    /// How many are there; null when it is not tracked.
    pub in_stock: Option<i64>,
    /// How many can be had, those that are promised for later with them; null when it is not tracked.
    pub available: Option<i64>,
    /// `backorder` or `preorder` when more can be had than is in stock, else `deny`.
    pub beyond: Policy,
    /// When what is not in stock will be, as far as it is known.
    pub promised_at: Option<Timestamp>,
}
