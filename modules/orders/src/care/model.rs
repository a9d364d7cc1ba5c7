//! Types: holds, remarks, tags, the timeline, and what became of each line.

use crate::model::LineKind;
use kernel::{Faults, Id, Result, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use utoipa::ToSchema;

/// Marks remarks' ids (`rmk_...`).
pub enum RemarkEntity {}
impl kernel::Entity for RemarkEntity {
    const PREFIX: &'static str = "rmk";
}
/// The id of a remark.
pub type RemarkId = Id<RemarkEntity>;

/// The most remarks of one order.
pub(crate) const MAX_REMARKS: i64 = 1_000;
/// The most tags of one order.
pub(crate) const MAX_TAGS: usize = 20;

/// Why an order must not go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = OrderHold)]
pub struct Hold {
    /// Why, such as what a fraud review has to look at.
    pub reason: String,
    /// What kind of actor put it on hold: `user`, `api_key` or `system`.
    pub actor_kind: String,
    /// The user's or the key's number; 0 for the system.
    pub actor_id: i64,
    /// Since when.
    pub held_at: Timestamp,
}

impl store::FromRow for Hold {
    fn from_row(row: &dyn store::Row) -> Result<Self> {
        Ok(Hold { reason: row.get(0)?, actor_kind: row.get(1)?, actor_id: row.get(2)?, held_at: row.get(3)? })
    }
}

/// What became of a line of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = OrderLineProgress)]
pub struct Progress {
    /// The line's number.
    pub line: u32,
    /// Stock-keeping unit.
    pub sku: String,
    /// What it is. Only goods are sent.
    pub kind: LineKind,
    /// How many were ordered.
    pub ordered: i64,
    /// How many went out.
    pub shipped: i64,
    /// How many of them are known to have arrived.
    pub delivered: i64,
    /// How many came back.
    pub returned: i64,
    /// How many are in returns that have not come yet.
    pub returning: i64,
    /// How many were refunded by returns.
    pub refunded: i64,
}

/// Something that somebody wrote down about an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = OrderRemark)]
pub struct Remark {
    /// Its id.
    pub remark_id: RemarkId,
    /// What.
    pub text: String,
    /// What kind of actor wrote it: `user`, `api_key` or `system`.
    pub actor_kind: String,
    /// The user's or the key's number; 0 for the system.
    pub actor_id: i64,
    /// When.
    pub written_at: Timestamp,
}

/// One entry of an order's timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = OrderTimelineEntry)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// The kind of the change, or `remark`.
    pub kind: String,
    /// Why, or what was written.
    pub text: String,
    /// What kind of actor it was: `user`, `api_key` or `system`.
    pub actor_kind: String,
    /// The user's or the key's number; 0 for the system.
    pub actor_id: i64,
    /// The version that it made of the order; null for a remark.
    pub version: Option<i64>,
    /// Its place among those of the same moment.
    #[serde(skip)]
    pub place: i64,
}

impl store::FromRow for Entry {
    fn from_row(row: &dyn store::Row) -> Result<Self> {
        Ok(Entry {
            at: row.get(0)?,
            kind: row.get(1)?,
            text: row.get(2)?,
            actor_kind: row.get(3)?,
            actor_id: row.get(4)?,
            version: row.get(5)?,
            place: row.get(6)?,
        })
    }
}

/// Tags as they are stored: lower case, sorted, each once. Errors: `request.invalid`.
pub(crate) fn normal_tags(given: &[String]) -> Result<Vec<String>> {
    let mut faults = Faults::default();
    if given.len() > MAX_TAGS {
        faults.add("tags", "too_many", format!("{} tags; at most {MAX_TAGS}", given.len()));
    }
    let mut tags = BTreeSet::new();
    for (i, tag) in given.iter().take(MAX_TAGS).enumerate() {
        faults.text(format!("tags[{i}]"), tag, 1, 40);
        tags.insert(tag.trim().to_lowercase());
        if tag.trim().is_empty() {
            faults.add(format!("tags[{i}]"), "too_short", "at least 1 character");
        }
    }
    faults.finish()?;
    Ok(tags.into_iter().collect())
}
