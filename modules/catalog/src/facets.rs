//! What a product has besides its name: tags, attributes, media, its places in the tree, and the time in which it is shown.

use crate::attributes::{self, AttributeValues, ValueChanges};
use crate::categories::CategoryId;
use crate::model::{Fault, ProductId, ProductStatus, check_code, check_line, replace};
use crate::sql;
use kernel::{Error, Faults, Result, Timestamp};
use serde::{Deserialize, Serialize};
use store::{FromRow, Row, Tx};
use utoipa::ToSchema;

/// The most tags of a product.
pub(crate) const MAX_TAGS: usize = 30;
/// The longest tag, in characters.
pub(crate) const MAX_TAG: usize = 60;
/// The most media of a product.
pub(crate) const MAX_MEDIA: usize = 50;
/// The most categories that a product stands in.
pub(crate) const MAX_PLACES: usize = 10;
const MAX_URL: usize = 2_000;
const MAX_KEY: usize = 500;
const MAX_ALT: usize = 300;

/// What a medium is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MediaKind {
    /// A picture.
    Image,
    /// A film.
    Video,
    /// A body in three dimensions.
    Model,
    /// A text, such as a manual.
    Document,
}

/// A picture or another file of a product: where it is, not what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Media {
    /// What it is.
    pub kind: MediaKind,
    /// Where it is, `https://...`; or else `key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 9, max_length = 2000)]
    pub url: Option<String>,
    /// What it is called in the tenant's own storage; or else `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 500)]
    pub key: Option<String>,
    /// What it shows, in words, for whoever does not see it.
    #[serde(default)]
    #[schema(max_length = 300)]
    pub alt: String,
}

/// What a product has besides its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ProductFacets)]
pub(crate) struct Facets {
    /// Words that it is found and gathered by.
    #[schema(max_items = 30)]
    pub tags: Vec<String>,
    /// Values by the codes of their attributes.
    #[schema(value_type = std::collections::HashMap<String, attributes::AttributeValue>)]
    pub attributes: AttributeValues,
    /// Pictures and other files, in the order in which they are shown.
    #[schema(max_items = 50)]
    pub media: Vec<Media>,
    /// From when on an active product is for sale; null for always.
    pub publish_at: Option<Timestamp>,
    /// From when on it is not any more; null for never.
    pub unpublish_at: Option<Timestamp>,
    /// The categories that it stands in.
    #[schema(max_items = 10)]
    pub category_ids: Vec<CategoryId>,
}

/// Without its categories.
impl FromRow for Facets {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(Facets {
            tags: sql::from_json(&row.get::<String>(0)?)?,
            attributes: sql::from_json(&row.get::<String>(1)?)?,
            media: sql::from_json(&row.get::<String>(2)?)?,
            publish_at: row.get(3)?,
            unpublish_at: row.get(4)?,
            category_ids: Vec::new(),
        })
    }
}

/// Whether a product of this status is for sale at a moment, by its schedule.
pub(crate) fn for_sale(status: ProductStatus, publish_at: Option<Timestamp>, unpublish_at: Option<Timestamp>, now: Timestamp) -> bool {
    status == ProductStatus::Active && publish_at.is_none_or(|at| at <= now) && unpublish_at.is_none_or(|at| now < at)
}

/// What to change; what is none stays.
#[derive(Clone, Debug, Default)]
pub(crate) struct FacetChange<'a> {
    pub tags: Option<&'a Vec<String>>,
    pub attributes: Option<&'a ValueChanges>,
    pub media: Option<&'a Vec<Media>>,
    pub publish_at: Option<&'a Option<Timestamp>>,
    pub unpublish_at: Option<&'a Option<Timestamp>>,
    pub category_ids: Option<&'a Vec<CategoryId>>,
}

fn check_medium(medium: &Media) -> Result<(), (&'static str, Fault)> {
    match (&medium.url, &medium.key) {
        (Some(_), Some(_)) => return Err(("key", ("not_allowed", "either a url or a key".to_owned()))),
        (None, None) => return Err(("url", ("required", "a url or a key".to_owned()))),
        (Some(url), None) => {
            let plain = url.len() <= MAX_URL && url.len() > 8 && url.bytes().all(|byte| byte.is_ascii_graphic());
            if !plain || !url.starts_with("https://") {
                return Err(("url", ("invalid", format!("https://..., at most {MAX_URL} visible ASCII characters"))));
            }
        }
        (None, Some(key)) => check_code(key, MAX_KEY).map_err(|fault| ("key", fault))?,
    }
    if medium.alt.is_empty() { Ok(()) } else { check_line(&medium.alt, MAX_ALT).map_err(|fault| ("alt", fault)) }
}

impl FacetChange<'_> {
    /// Checks what can be checked without the store.
    pub fn check(&self, faults: &mut Faults) {
        if let Some(tags) = self.tags {
            if tags.len() > MAX_TAGS {
                faults.check("tags", Err(("too_many", format!("at most {MAX_TAGS} tags"))));
            }
            for (i, tag) in tags.iter().enumerate().take(MAX_TAGS) {
                faults.check(format!("tags[{i}]"), check_code(tag, MAX_TAG));
                if tags[..i].contains(tag) {
                    faults.check(format!("tags[{i}]"), Err(("duplicate", "it is there already".to_owned())));
                }
            }
        }
        if let Some(media) = self.media {
            if media.len() > MAX_MEDIA {
                faults.check("media", Err(("too_many", format!("at most {MAX_MEDIA} media"))));
            }
            for (i, medium) in media.iter().enumerate().take(MAX_MEDIA) {
                if let Err((field, fault)) = check_medium(medium) {
                    faults.check(format!("media[{i}].{field}"), Err(fault));
                }
            }
        }
        if let Some(ids) = self.category_ids
            && ids.len() > MAX_PLACES
        {
            faults.check("category_ids", Err(("too_many", format!("at most {MAX_PLACES} categories"))));
        }
    }

    /// Makes the change, and names the fields that differ now. Errors: `request.invalid`.
    pub fn apply(&self, tx: &mut Tx<'_>, facets: &mut Facets) -> Result<Vec<&'static str>> {
        let mut changed = Vec::new();
        replace(&mut facets.tags, self.tags, "tags", &mut changed);
        replace(&mut facets.media, self.media, "media", &mut changed);
        replace(&mut facets.publish_at, self.publish_at, "publish_at", &mut changed);
        replace(&mut facets.unpublish_at, self.unpublish_at, "unpublish_at", &mut changed);
        if let (Some(from), Some(to)) = (facets.publish_at, facets.unpublish_at)
            && to <= from
        {
            return Err(Error::field("unpublish_at", "out_of_range", "must be later than publish_at"));
        }
        if let Some(changes) = self.attributes.filter(|changes| !changes.is_empty()) {
            let mut values = facets.attributes.clone();
            attributes::apply(tx, "attributes", &mut values, changes)?;
            replace(&mut facets.attributes, Some(&values), "attributes", &mut changed);
        }
        if let Some(ids) = self.category_ids {
            let mut ids = ids.clone();
            ids.sort_unstable();
            ids.dedup();
            check_places(tx, &ids)?;
            replace(&mut facets.category_ids, Some(&ids), "category_ids", &mut changed);
        }
        Ok(changed)
    }
}

/// Errors: `request.invalid` naming the category that there is not.
fn check_places(tx: &mut Tx<'_>, ids: &[CategoryId]) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let keys: Vec<i64> = ids.iter().map(|id| id.as_i64()).collect();
    let known: Vec<(CategoryId,)> = tx.all(sql::CATEGORIES_BY_ID, (keys,))?;
    let missing = ids.iter().find(|id| known.iter().all(|(known,)| known != *id));
    missing.map_or(Ok(()), |id| Err(Error::field("category_ids", "unknown", format!("there is no category {id}"))))
}

/// Writes what changed of a product's facets; `before` is what is stored.
pub(crate) fn write(tx: &mut Tx<'_>, id: ProductId, before: &Facets, after: &Facets) -> Result<()> {
    let places = |of: &Facets, than: &Facets| -> Vec<i64> {
        of.category_ids.iter().filter(|id| !than.category_ids.contains(id)).map(|id| id.as_i64()).collect()
    };
    let row =
        (id, sql::to_json(&after.tags), sql::to_json(&after.attributes), sql::to_json(&after.media), after.publish_at, after.unpublish_at);
    tx.exec(sql::UPDATE_FACETS, row)?;
    let (gone, new) = (places(before, after), places(after, before));
    if !gone.is_empty() {
        tx.exec(sql::LEAVE_CATEGORIES, (gone, id))?;
    }
    if !new.is_empty() {
        tx.exec(sql::ENTER_CATEGORIES, (new, id))?;
    }
    crate::publishing::schedule(tx, id, before, after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_is_for_sale_between_its_moments() {
        let at = |second: i64| Timestamp::from_micros(second * 1_000_000);
        let table = [
            (ProductStatus::Active, None, None, true),
            (ProductStatus::Active, Some(9), None, true),
            (ProductStatus::Active, Some(10), None, true),
            (ProductStatus::Active, Some(11), None, false),
            (ProductStatus::Active, None, Some(11), true),
            (ProductStatus::Active, None, Some(10), false),
            (ProductStatus::Active, Some(9), Some(11), true),
            (ProductStatus::Draft, Some(9), Some(11), false),
            (ProductStatus::Archived, None, None, false),
        ];
        for (status, from, to, expected) in table {
            assert_eq!(for_sale(status, from.map(at), to.map(at), at(10)), expected, "{status:?} {from:?} {to:?}");
        }
    }

    #[test]
    fn media_are_somewhere() {
        let table = [
            (r#"{"kind":"image","url":"https://cdn.example/a.png","alt":"A shirt"}"#, None),
            (r#"{"kind":"document","key":"manuals/a.pdf"}"#, None),
            (r#"{"kind":"image"}"#, Some(("url", "required"))),
            (r#"{"kind":"image","url":"https://a.example/x","key":"x"}"#, Some(("key", "not_allowed"))),
            (r#"{"kind":"image","url":"http://a.example/x"}"#, Some(("url", "invalid"))),
            (r#"{"kind":"image","url":"javascript:alert(1)"}"#, Some(("url", "invalid"))),
            (r#"{"kind":"image","url":"https://a.example/a b"}"#, Some(("url", "invalid"))),
            (r#"{"kind":"video","key":" x"}"#, Some(("key", "space"))),
            (r#"{"kind":"model","key":"x","alt":"a\nb"}"#, Some(("alt", "control_character"))),
        ];
        for (text, expected) in table {
            let medium: Media = serde_json::from_str(text).unwrap();
            assert_eq!(check_medium(&medium).err().map(|(field, (code, _))| (field, code)), expected, "{text}");
        }
    }
}
