//! What a shipment is, which step its state allows, and what follows from what is known of its parcels.

use crate::error;
use crate::rates::model::MethodId;
use crate::words::{entity, from_json, words};
use kernel::{Error, Faults, Result, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use utoipa::ToSchema;

entity!(ShipmentEntity, ShipmentId, "shp", "shipments");

/// The most parcels of a shipment.
pub const MAX_PARCELS: usize = 50;
/// The most entries of all its parcels together.
pub const MAX_ENTRIES: usize = 2_000;
/// The heaviest parcel, in grams.
const MAX_PARCEL_G: i64 = 2_000_000;
/// The longest side of a parcel, in millimetres.
const MAX_SIDE_MM: i64 = 20_000;
/// The largest line number of an order.
const MAX_LINE_NUMBER: u32 = 100_000;
/// The largest quantity.
const MAX_QUANTITY: i64 = 1_000_000_000;
/// The most that is kept of one parcel's way.
pub const MAX_TRACKING: i64 = 500;

words! {
    /// Where a shipment stands.
    #[schema(as = ShipmentState)]
    State {
        /// To be picked.
        Pending = "pending",
        /// Its goods lie ready to be packed.
        Picked = "picked",
        /// Its parcels are closed.
        Packed = "packed",
        /// A carrier is being asked for labels.
        LabelRequested = "label_requested",
        /// Labelled; the carrier may have it.
        Ready = "ready",
        /// On its way.
        Shipped = "shipped",
        /// It arrived. Its carrier may still bring it back.
        Delivered = "delivered",
        /// Lost, or not to be delivered. It may still turn up.
        Failed = "failed",
        /// Called off before it went. Final.
        Cancelled = "cancelled",
        /// It came back.
        ReturnedToSender = "returned_to_sender",
    }
}

words! {
    /// What can be done with a shipment by hand.
    #[schema(as = ShipmentStep)]
    Step {
        /// Its goods were taken from their places.
        Pick = "pick",
        /// Its parcels were closed.
        Pack = "pack",
        /// It is labelled with labels of one's own.
        MakeReady = "make_ready",
        /// It went.
        Ship = "ship",
        /// It arrived.
        Deliver = "deliver",
        /// It is lost, or can't be delivered.
        Fail = "fail",
        /// It came back.
        TakeBack = "take_back",
        /// It is called off.
        Cancel = "cancel",
    }
}

impl Step {
    fn verb(self) -> &'static str {
        match self {
            Step::Pick => "picked",
            Step::Pack => "packed",
            Step::MakeReady => "made ready",
            Step::Ship => "shipped",
            Step::Deliver => "delivered",
            Step::Fail => "failed",
            Step::TakeBack => "taken back",
            Step::Cancel => "cancelled",
        }
    }
}

/// What can happen to a shipment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Somebody did this.
    By(Step),
    /// Other parcels for the same goods.
    Repack,
    /// Labels are asked for.
    RequestLabel,
    /// The carrier sold them.
    LabelBought,
    /// The carrier did not.
    LabelRefused,
    /// The carrier took them back.
    LabelVoided,
    /// What is known of its parcels says so.
    Tracked(State),
}

/// The state after `command`. `labelled`: whether labels were bought of a carrier, and not given back.
/// Errors: `shipping.has_label`, `shipping.not_allowed`.
pub fn decide(state: State, labelled: bool, command: Command) -> Result<State> {
    use State::*;
    match (state, command) {
        (Ready, Command::By(Step::Cancel | Step::Pack) | Command::Repack) if labelled => Err(error::has_label()),

        (Pending, Command::By(Step::Pick)) => Ok(Picked),
        // Who packs has picked.
        (Pending | Picked, Command::By(Step::Pack)) => Ok(Packed),
        (Packed, Command::By(Step::MakeReady)) => Ok(Ready),
        (Packed | Ready, Command::By(Step::Ship)) => Ok(Shipped),
        (Shipped | Failed, Command::By(Step::Deliver)) => Ok(Delivered),
        (Shipped, Command::By(Step::Fail)) => Ok(Failed),
        (Shipped | Failed | Delivered, Command::By(Step::TakeBack)) => Ok(ReturnedToSender),
        (Pending | Picked | Packed | Ready, Command::By(Step::Cancel)) => Ok(Cancelled),

        (Pending | Picked | Packed, Command::Repack) => Ok(state),

        (Packed, Command::RequestLabel) => Ok(LabelRequested),
        (LabelRequested, Command::LabelBought) => Ok(Ready),
        (LabelRequested, Command::LabelRefused) => Ok(Packed),
        (Ready, Command::LabelVoided) => Ok(Packed),

        // What the carrier has seen is true whatever we have noted so far, but for a shipment that was called off.
        (Cancelled, Command::Tracked(_)) => Ok(Cancelled),
        // Somebody saw it arrive or come back: that it was on its way before is no news.
        (Delivered | ReturnedToSender, Command::Tracked(Shipped)) => Ok(state),
        (_, Command::Tracked(now @ (Shipped | Delivered | Failed | ReturnedToSender))) => Ok(now),

        (_, command) => Err(error::not_allowed(
            state,
            match command {
                Command::By(step) => step.verb(),
                Command::Repack => "repacked",
                Command::RequestLabel => "labelled",
                Command::LabelBought | Command::LabelRefused => "answered for",
                Command::LabelVoided => "unlabelled",
                Command::Tracked(_) => "tracked",
            },
        )),
    }
}

words! {
    /// What a carrier tells of a parcel.
    #[schema(as = TrackingStatus)]
    Tracked {
        /// Its label is known; it was not seen yet.
        Announced = "announced",
        /// It was seen on its way.
        InTransit = "in_transit",
        /// It is in the van.
        OutForDelivery = "out_for_delivery",
        /// Nobody was at home, the address is incomplete, customs ask: it goes on somehow.
        Exception = "exception",
        /// It arrived.
        Delivered = "delivered",
        /// It is lost.
        Lost = "lost",
        /// It is back at the sender's.
        Returned = "returned",
    }
}

impl Tracked {
    /// How much it counts beside what else is known: an announcement nothing, an end more than what is on the way to it.
    fn weight(self) -> u8 {
        match self {
            Tracked::Announced => 0,
            Tracked::InTransit | Tracked::OutForDelivery | Tracked::Exception | Tracked::Lost => 1,
            Tracked::Delivered | Tracked::Returned => 2,
        }
    }
}

/// What stands of a parcel: an end counts more than what is on the way to it, whenever that is told; else the latest counts. It follows from
/// what is known, not from the order in which it became known.
pub fn progress<'a>(known: impl IntoIterator<Item = &'a (Tracked, Timestamp)>) -> Option<Tracked> {
    known.into_iter().max_by_key(|(status, at)| (status.weight(), *at, *status)).map(|(status, _)| *status)
}

/// Where a shipment stands by what is known of its parcels; none as long as none of them was seen.
pub fn standing(parcels: &[Option<Tracked>]) -> Option<State> {
    let seen = |parcel: &&Option<Tracked>| parcel.is_some_and(|status| status != Tracked::Announced);
    if !parcels.iter().any(|parcel| seen(&parcel)) {
        return None;
    }
    let all = |ends: &[Tracked]| parcels.iter().all(|parcel| parcel.is_some_and(|status| ends.contains(&status)));
    Some(match () {
        () if all(&[Tracked::Delivered]) => State::Delivered,
        () if all(&[Tracked::Delivered, Tracked::Returned]) => State::ReturnedToSender,
        () if all(&[Tracked::Delivered, Tracked::Returned, Tracked::Lost]) => State::Failed,
        () => State::Shipped,
    })
}

/// Where a shipment goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ShippingAddress)]
pub struct Address {
    /// Who receives there.
    #[schema(min_length = 1, max_length = 200)]
    pub recipient: String,
    /// Street and number.
    #[schema(min_length = 1, max_length = 200)]
    pub line1: String,
    /// More of it.
    #[serde(default)]
    #[schema(max_length = 200)]
    pub line2: String,
    /// City.
    #[schema(min_length = 1, max_length = 100)]
    pub city: String,
    /// State, province or county.
    #[serde(default)]
    #[schema(max_length = 100)]
    pub region: String,
    /// Postal code; not every country has one.
    #[serde(default)]
    #[schema(max_length = 20)]
    pub postal_code: String,
    /// ISO 3166 alpha-2.
    #[schema(pattern = "^[A-Z]{2}$")]
    pub country: String,
    /// Telephone.
    #[serde(default)]
    #[schema(max_length = 32)]
    pub phone: String,
}

impl Address {
    fn check(&self, faults: &mut Faults) {
        let texts = [
            ("recipient", &self.recipient, 1, 200),
            ("line1", &self.line1, 1, 200),
            ("line2", &self.line2, 0, 200),
            ("city", &self.city, 1, 100),
            ("region", &self.region, 0, 100),
            ("postal_code", &self.postal_code, 0, 20),
            ("phone", &self.phone, 0, 32),
        ];
        for (field, value, min, max) in texts {
            faults.text(format!("destination.{field}"), value, min, max);
        }
        faults.country("destination.country", &self.country);
    }
}

/// Goods in a parcel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ParcelEntry)]
pub struct Entry {
    /// Number of the order's line.
    #[schema(minimum = 1, maximum = 100_000)]
    pub line: u32,
    /// How many of it.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    pub quantity: i64,
}

/// A parcel as it is packed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewParcel {
    /// Its weight in grams, packing included.
    #[schema(minimum = 0, maximum = 2_000_000)]
    pub weight_g: i64,
    /// Its length in millimetres; 0 when it isn't known.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 20_000)]
    pub length_mm: i64,
    /// Its width in millimetres.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 20_000)]
    pub width_mm: i64,
    /// Its height in millimetres.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 20_000)]
    pub height_mm: i64,
    /// What is in it; each line once.
    #[schema(min_items = 1, max_items = 2000)]
    pub lines: Vec<Entry>,
}

/// Checks the parcels of a shipment.
pub(crate) fn check_parcels(parcels: &[NewParcel], faults: &mut Faults) {
    if !faults.count("parcels", parcels.len(), 1, MAX_PARCELS) {
        return;
    }
    let entries: usize = parcels.iter().map(|parcel| parcel.lines.len()).sum();
    if entries > MAX_ENTRIES {
        faults.add("parcels", "too_many", format!("{entries} lines in all parcels together; at most {MAX_ENTRIES}"));
        return;
    }
    for (i, parcel) in parcels.iter().enumerate() {
        faults.number(format!("parcels[{i}].weight_g"), parcel.weight_g, 0, MAX_PARCEL_G);
        for (field, side) in [("length_mm", parcel.length_mm), ("width_mm", parcel.width_mm), ("height_mm", parcel.height_mm)] {
            faults.number(format!("parcels[{i}].{field}"), side, 0, MAX_SIDE_MM);
        }
        faults.count(format!("parcels[{i}].lines"), parcel.lines.len(), 1, MAX_ENTRIES);
        let mut seen = BTreeSet::new();
        for (j, entry) in parcel.lines.iter().enumerate() {
            faults.number(format!("parcels[{i}].lines[{j}].line"), i64::from(entry.line), 1, i64::from(MAX_LINE_NUMBER));
            faults.number(format!("parcels[{i}].lines[{j}].quantity"), entry.quantity, 1, MAX_QUANTITY);
            if !seen.insert(entry.line) {
                faults.add(format!("parcels[{i}].lines[{j}].line"), "repeated", "the parcel names this line twice");
            }
        }
    }
}

/// What parcels hold together: line number to quantity. The bounds of [`check_parcels`] keep it within 64 bits.
pub fn goods<'a>(parcels: impl IntoIterator<Item = &'a [Entry]>) -> BTreeMap<u32, i64> {
    let mut goods = BTreeMap::new();
    for entry in parcels.into_iter().flatten() {
        *goods.entry(entry.line).or_default() += entry.quantity;
    }
    goods
}

/// A shipment to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewShipment {
    /// The order, as whoever has it names it: 1 to 64 characters.
    pub order_ref: String,
    /// How it goes.
    pub method_id: Option<MethodId>,
    /// Where to.
    pub destination: Address,
    /// For whoever packs: up to 500 characters.
    pub note: String,
    /// At least one.
    pub parcels: Vec<NewParcel>,
    /// How many of each line were ordered. Given, no more than that goes into the order's shipments that are not cancelled, failed or
    /// returned; lines that are not named can't be shipped.
    pub ordered: Option<BTreeMap<u32, i64>>,
}

impl NewShipment {
    /// Errors: `request.invalid`.
    pub fn check(&self) -> Result<()> {
        let mut faults = Faults::default();
        faults.text("order_id", &self.order_ref, 1, 64);
        faults.text("note", &self.note, 0, 500);
        self.destination.check(&mut faults);
        check_parcels(&self.parcels, &mut faults);
        faults.finish()
    }
}

/// A parcel as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Parcel {
    /// Its number within the shipment, from 1.
    pub parcel: u32,
    /// Its weight in grams.
    pub weight_g: i64,
    /// Its length in millimetres.
    pub length_mm: i64,
    /// Its width in millimetres.
    pub width_mm: i64,
    /// Its height in millimetres.
    pub height_mm: i64,
    /// What its carrier calls it.
    pub tracking_number: Option<String>,
    /// What stands of it by its carrier.
    pub progress: Option<Tracked>,
    /// What is in it.
    pub lines: Vec<Entry>,
}

impl store::FromRow for Parcel {
    fn from_row(row: &dyn store::Row) -> Result<Self> {
        Ok(Parcel {
            parcel: row.get(0)?,
            weight_g: row.get(1)?,
            length_mm: row.get(2)?,
            width_mm: row.get(3)?,
            height_mm: row.get(4)?,
            tracking_number: row.get(5)?,
            progress: row.get(6)?,
            lines: Vec::new(),
        })
    }
}

/// A shipment without its parcels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShipmentHead {
    /// Its id.
    pub shipment_id: ShipmentId,
    /// The order, as whoever has it names it.
    pub order_id: String,
    /// Where it stands.
    pub state: State,
    /// Rises with every change; the `ETag`.
    pub version: i64,
    /// How it goes.
    pub method_id: Option<MethodId>,
    /// Where to.
    pub destination: Address,
    /// For whoever packs.
    pub note: String,
    /// How many parcels it has.
    pub parcel_count: i64,
    /// Of all its parcels, in grams.
    pub weight_g: i64,
    /// How often a carrier was asked for labels.
    pub label_requests: i64,
    /// Whether labels were bought of a carrier, and not given back.
    pub labelled: bool,
    /// When it went.
    pub shipped_at: Option<Timestamp>,
    /// When it arrived.
    pub delivered_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl store::FromRow for ShipmentHead {
    fn from_row(row: &dyn store::Row) -> Result<Self> {
        let destination: String = row.get(5)?;
        Ok(ShipmentHead {
            shipment_id: row.get(0)?,
            order_id: row.get(1)?,
            state: row.get(2)?,
            version: row.get(3)?,
            method_id: row.get(4)?,
            destination: from_json(&destination)?,
            note: row.get(6)?,
            parcel_count: row.get(7)?,
            weight_g: row.get(8)?,
            label_requests: row.get(9)?,
            labelled: row.get(10)?,
            shipped_at: row.get(11)?,
            delivered_at: row.get(12)?,
            created_at: row.get(13)?,
            updated_at: row.get(14)?,
        })
    }
}

/// A shipment with its parcels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Shipment {
    /// The shipment.
    #[serde(flatten)]
    pub head: ShipmentHead,
    /// By number.
    pub parcels: Vec<Parcel>,
}

/// What a carrier has told of a parcel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tracking {
    /// The parcel's number.
    pub parcel: u32,
    /// What its teller calls the event; told again it is the same.
    pub event_ref: String,
    /// What happened.
    pub status: Tracked,
    /// When.
    pub occurred_at: Timestamp,
    /// Where.
    pub place: String,
    /// In the teller's words.
    pub detail: String,
    /// When it became known here.
    pub received_at: Timestamp,
}

impl store::FromRow for Tracking {
    fn from_row(row: &dyn store::Row) -> Result<Self> {
        Ok(Tracking {
            parcel: row.get(0)?,
            event_ref: row.get(1)?,
            status: row.get(2)?,
            occurred_at: row.get(3)?,
            place: row.get(4)?,
            detail: row.get(5)?,
            received_at: row.get(6)?,
        })
    }
}

/// A change of a shipment, as it was recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ShipmentChange)]
pub struct Change {
    /// The version that it made.
    pub version: i64,
    /// What was done: a step, `created`, `repacked`, `tracked`, or what became of a label.
    pub kind: String,
    /// The state after it.
    pub state: State,
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

impl store::FromRow for Change {
    fn from_row(row: &dyn store::Row) -> Result<Self> {
        Ok(Change {
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

/// Of each line what may still go into a shipment. Errors: `shipping.over_shipment`, `request.invalid` for a line that was not ordered.
pub(crate) fn within(ordered: &BTreeMap<u32, i64>, elsewhere: &BTreeMap<u32, i64>, wanted: &BTreeMap<u32, i64>) -> Result<()> {
    for (line, quantity) in wanted {
        let Some(most) = ordered.get(line) else {
            let unknown = Error::field("parcels", "unknown_line", format!("the order has no line {line} that is shipped"));
            return Err(unknown.with_field("ordered", "incomplete", format!("line {line} is missing")));
        };
        let left = (most - elsewhere.get(line).copied().unwrap_or(0)).max(0);
        if *quantity > left {
            return Err(error::over_shipment(*line, left));
        }
    }
    Ok(())
}
