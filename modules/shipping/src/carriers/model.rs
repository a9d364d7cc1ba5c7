//! Types of carriers and labels.

use crate::words::{entity, words};
use kernel::{Currency, Result, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

entity!(CarrierEntity, CarrierId, "car", "carriers");

/// The most carriers of a tenant.
pub(crate) const MAX_CARRIERS: usize = 20;
/// How often a carrier is asked for one shipment's labels, at most.
pub(crate) const MAX_ATTEMPTS: i64 = 20;

words! {
    /// Whose API a carrier speaks.
    #[schema(as = CarrierKind)]
    CarrierKind {
        /// That of `brandos sandbox-carrier`.
        Sandbox = "sandbox",
    }
}

/// A carrier with its sealed secrets.
#[derive(Clone)]
pub(crate) struct Carrier {
    pub carrier_id: CarrierId,
    pub version: i64,
    pub name: String,
    pub kind: CarrierKind,
    pub base_url: String,
    pub sealed: Vec<u8>,
    pub enabled: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl store::FromRow for Carrier {
    fn from_row(row: &dyn store::Row) -> Result<Self> {
        Ok(Carrier {
            carrier_id: row.get(0)?,
            version: row.get(1)?,
            name: row.get(2)?,
            kind: row.get(3)?,
            base_url: row.get(4)?,
            sealed: row.get(5)?,
            enabled: row.get(6)?,
            created_at: row.get(7)?,
            updated_at: row.get(8)?,
        })
    }
}

/// A carrier as it is shown: without its secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Carrier)]
pub struct CarrierView {
    /// Its id.
    pub carrier_id: CarrierId,
    /// For people.
    pub name: String,
    /// Whose API it speaks.
    pub kind: CarrierKind,
    /// Where its API is.
    pub base_url: String,
    /// Whether it is asked for new labels.
    pub enabled: bool,
    /// Rises with every change; the `ETag`.
    pub version: i64,
    /// When it was set up.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl From<Carrier> for CarrierView {
    fn from(carrier: Carrier) -> CarrierView {
        let Carrier { carrier_id, version, name, kind, base_url, enabled, created_at, updated_at, sealed: _ } = carrier;
        CarrierView { carrier_id, name, kind, base_url, enabled, version, created_at, updated_at }
    }
}

words! {
    /// Where a request for labels stands.
    #[schema(as = ShipmentLabelState)]
    LabelState {
        /// The carrier is being asked.
        Requested = "requested",
        /// They were bought.
        Bought = "bought",
        /// The carrier did not sell them.
        Refused = "refused",
        /// Nobody could learn in time what became of it; a person has to find out.
        InDoubt = "in_doubt",
        /// The carrier is asked to take them back.
        Voiding = "voiding",
        /// The carrier took them back.
        Voided = "voided",
    }
}

/// Labels of a shipment, or why there are none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ShipmentLabel)]
pub struct Label {
    /// The how manieth request it was, from 1.
    pub attempt: i64,
    /// The carrier.
    pub carrier_id: CarrierId,
    /// What the carrier was asked for.
    pub service: String,
    /// Where it stands.
    pub state: LabelState,
    /// What the carrier calls the labels.
    pub carrier_label: Option<String>,
    /// What they cost, in minor units.
    pub price_minor: Option<i64>,
    /// Of the price.
    pub currency: Option<Currency>,
    /// The carrier's word when it refused.
    pub detail: String,
    /// When it was asked.
    pub requested_at: Timestamp,
    /// When it had answered.
    pub ended_at: Option<Timestamp>,
}

impl store::FromRow for Label {
    fn from_row(row: &dyn store::Row) -> Result<Self> {
        Ok(Label {
            attempt: row.get(0)?,
            carrier_id: row.get(1)?,
            service: row.get(2)?,
            state: row.get(3)?,
            carrier_label: row.get(4)?,
            price_minor: row.get(5)?,
            currency: row.get(6)?,
            detail: row.get(7)?,
            requested_at: row.get(8)?,
            ended_at: row.get(9)?,
        })
    }
}

/// A parcel's label as its carrier sold it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sold {
    pub tracking_number: String,
    pub label_url: String,
}

/// What a carrier sold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Purchase {
    /// The carrier's name for it.
    pub label: String,
    pub price_minor: i64,
    pub currency: Currency,
    /// One for each parcel, in their order.
    pub parcels: Vec<Sold>,
}

impl Purchase {
    /// Whether it can be what was asked for: a label for each parcel, and texts and amounts that there are.
    pub(crate) fn fits(&self, parcels: usize) -> bool {
        let named = |text: &str, most: usize| (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        named(&self.label, 100)
            && (0..=1_000_000_000).contains(&self.price_minor)
            && self.parcels.len() == parcels
            && self.parcels.iter().all(|sold| named(&sold.tracking_number, 64) && named(&sold.label_url, 500))
    }
}
