//! Collections: products chosen by hand, in an order, or by a rule over what they are.
//!
//! A rule is asked when its collection is read, of so many products at a time as are looked at for a page: so it holds at once for
//! whatever changes, and no read costs more than [`LOOKED_AT`] products, however rare the matches are.

use crate::attributes::{AttributeValue, AttributeValues, MAX_TEXT, MAX_VALUES};
use crate::categories::{Category, CategoryId, ids_of, slug_taken};
use crate::events;
use crate::facets::{MAX_TAG, MAX_TAGS};
use crate::model::{ProductId, ProductStatus, check_code, check_line, check_named, check_price, check_slug, replace};
use crate::sql;
use kernel::{Currency, Error, Faults, PageRequest, Result, Timestamp, UnitPrice};
use serde::{Deserialize, Serialize};
use store::{FromRow, Read, Row, Tx};
use utoipa::ToSchema;

/// Marks collections' ids (`col_...`).
pub enum CollectionEntity {}

impl kernel::Entity for CollectionEntity {
    const PREFIX: &'static str = "col";
}

/// The id of a collection.
pub type CollectionId = kernel::Id<CollectionEntity>;

/// The most collections of a tenant.
const MAX_COLLECTIONS: i64 = 1_000;
/// The most products that are chosen by hand.
pub(crate) const MAX_CHOSEN: usize = 1_000;
/// Products that a rule is asked of in one statement, and for one page.
const WINDOW: u32 = 500;
const LOOKED_AT: u32 = 5_000;

/// Which products: all of the conditions hold. There is at least one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CollectionRule)]
pub(crate) struct Rule {
    /// Those in this category, or below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category_id: Option<CategoryId>,
    /// Those that have all of these tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 30)]
    pub tags: Vec<String>,
    /// Those that have these values themselves, not on variants alone.
    #[serde(default, skip_serializing_if = "AttributeValues::is_empty")]
    #[schema(value_type = std::collections::HashMap<String, AttributeValue>)]
    pub attributes: AttributeValues,
    /// Those whose lowest list price is in this range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<PriceRange>,
    /// Those of this status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ProductStatus>,
}

/// List prices from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CollectionPriceRange)]
pub(crate) struct PriceRange {
    /// Their currency.
    pub currency: Currency,
    /// From this; zero unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<UnitPrice>,
    /// To this; no end unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<UnitPrice>,
}

/// What a rule is asked of.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub product_id: ProductId,
    pub status: ProductStatus,
    pub tags: Vec<String>,
    pub attributes: AttributeValues,
    /// The lowest price of a variant that is for sale, in the rule's currency.
    pub price: Option<UnitPrice>,
    /// Its categories and all that are above them.
    pub categories: Vec<CategoryId>,
}

impl FromRow for Facts {
    fn from_row(row: &dyn Row) -> Result<Self> {
        let paths: Option<String> = row.get(5)?;
        Ok(Facts {
            product_id: row.get(0)?,
            status: row.get(1)?,
            tags: sql::from_json(&row.get::<String>(2)?)?,
            attributes: sql::from_json(&row.get::<String>(3)?)?,
            price: row.get(4)?,
            categories: paths.as_deref().unwrap_or_default().split(',').flat_map(ids_of).collect(),
        })
    }
}

impl Rule {
    /// Whether a product is one of those.
    pub fn holds(&self, of: &Facts) -> bool {
        let in_range = |range: &PriceRange| {
            of.price
                .is_some_and(|price| range.at_least.is_none_or(|least| least <= price) && range.at_most.is_none_or(|most| price <= most))
        };
        self.category_id.is_none_or(|id| of.categories.contains(&id))
            && self.tags.iter().all(|tag| of.tags.contains(tag))
            && self.attributes.iter().all(|(code, value)| of.attributes.get(code) == Some(value))
            && self.price.as_ref().is_none_or(in_range)
            && self.status.is_none_or(|status| of.status == status)
    }

    fn check(&self, faults: &mut Faults) {
        if *self == Rule::default() {
            faults.check("rule", Err(("empty", "has at least one condition".to_owned())));
        }
        if self.tags.len() > MAX_TAGS {
            faults.check("rule.tags", Err(("too_many", format!("at most {MAX_TAGS} tags"))));
        }
        for (i, tag) in self.tags.iter().enumerate().take(MAX_TAGS) {
            faults.check(format!("rule.tags[{i}]"), check_code(tag, MAX_TAG));
        }
        if self.attributes.len() > MAX_VALUES {
            faults.check("rule.attributes", Err(("too_many", format!("at most {MAX_VALUES} values"))));
        }
        for (code, value) in self.attributes.iter().take(MAX_VALUES) {
            let shown: String = code.chars().take(100).collect();
            faults.check(format!("rule.attributes.{shown}"), check_slug(code));
            if let AttributeValue::Text(text) = value {
                faults.check(format!("rule.attributes.{shown}"), check_line(text, MAX_TEXT));
            }
        }
        if let Some(range) = &self.price {
            for (end, field) in [(range.at_least, "at_least"), (range.at_most, "at_most")] {
                if let Some(end) = end {
                    faults.check(format!("rule.price.{field}"), check_price(end));
                }
            }
        }
    }
}

/// A collection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Collection {
    /// Its id.
    pub collection_id: CollectionId,
    /// Its name in addresses, unique in the tenant.
    pub slug: String,
    /// Its title.
    pub title: String,
    /// What is in it, for a person.
    pub description: String,
    /// Which products are in it; null when they are chosen by hand.
    pub rule: Option<Rule>,
    /// Rises with every change of its fields and of what is chosen; the `ETag`.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl FromRow for Collection {
    fn from_row(row: &dyn Row) -> Result<Self> {
        let rule: Option<String> = row.get(4)?;
        Ok(Collection {
            collection_id: row.get(0)?,
            slug: row.get(1)?,
            title: row.get(2)?,
            description: row.get(3)?,
            rule: rule.as_deref().map(sql::from_json).transpose()?,
            version: row.get(5)?,
            created_at: row.get(6)?,
            updated_at: row.get(7)?,
        })
    }
}

/// A collection to make.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewCollection {
    /// Its name in addresses, unique in the tenant: small letters, digits, hyphens.
    #[schema(min_length = 1, max_length = 100, pattern = "^[a-z0-9]+(-[a-z0-9]+)*$")]
    pub slug: String,
    /// Its title.
    #[schema(min_length = 1, max_length = 300)]
    pub title: String,
    /// What is in it, for a person.
    #[serde(default)]
    #[schema(max_length = 20000)]
    pub description: String,
    /// Which products are in it; without one they are chosen by hand.
    #[serde(default)]
    pub rule: Option<Rule>,
}

/// What to change on a collection; what is left out stays. One by rule stays one by rule.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CollectionChange {
    /// Its name in addresses.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 100, pattern = "^[a-z0-9]+(-[a-z0-9]+)*$")]
    pub slug: Option<String>,
    /// Its title.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 300)]
    pub title: Option<String>,
    /// What is in it, for a person.
    #[serde(default)]
    #[schema(max_length = 20000)]
    pub description: Option<String>,
    /// Which products are in it.
    #[serde(default)]
    pub rule: Option<Rule>,
}

/// No such collection, or not the caller's.
pub(crate) fn no_collection() -> Error {
    Error::not_found("catalog.collection_not_found", "there is no such collection")
}

fn other_kind(detail: &str) -> Error {
    Error::failed_precondition("catalog.collection_kind", detail.to_owned())
}

fn check(tx: &mut Tx<'_>, slug: Option<&str>, title: Option<&str>, description: Option<&str>, rule: Option<&Rule>) -> Result<()> {
    let mut faults = Faults::default();
    check_named(slug, title, description, &mut faults);
    if let Some(rule) = rule {
        rule.check(&mut faults);
    }
    faults.finish()?;
    if let Some(id) = rule.and_then(|rule| rule.category_id) {
        let known: Option<Category> = tx.opt(sql::CATEGORY, (id,))?;
        known.ok_or_else(|| Error::field("rule.category_id", "unknown", "there is no such category"))?;
    }
    Ok(())
}

/// One collection. Errors: `catalog.collection_not_found`.
pub(crate) fn collection(read: &mut Read<'_>, id: CollectionId) -> Result<Collection> {
    read.opt(sql::COLLECTION, (id,))?.ok_or_else(no_collection)
}

/// Up to one collection more than the page holds, the newest first.
pub(crate) fn collections(read: &mut Read<'_>, page: &PageRequest<CollectionId>) -> Result<Vec<Collection>> {
    read.all(sql::COLLECTIONS, (page.after.unwrap_or(CollectionId::from_i64(i64::MAX)), page.limit + 1))
}

/// Makes a collection, without products when they are chosen by hand.
/// Errors: `request.invalid`; `catalog.too_many_collections`; `catalog.slug_taken`.
pub(crate) fn create_collection(tx: &mut Tx<'_>, new: &NewCollection) -> Result<Collection> {
    check(tx, Some(&new.slug), Some(&new.title), Some(&new.description), new.rule.as_ref())?;
    let (count,): (i64,) = tx.one(sql::COLLECTION_COUNT, ())?;
    if count >= MAX_COLLECTIONS {
        return Err(Error::failed_precondition("catalog.too_many_collections", format!("at most {MAX_COLLECTIONS} collections")));
    }
    let now = tx.now();
    let collection = Collection {
        collection_id: tx.new_id(),
        slug: new.slug.clone(),
        title: new.title.clone(),
        description: new.description.clone(),
        rule: new.rule.clone(),
        version: 1,
        created_at: now,
        updated_at: now,
    };
    let Collection { collection_id, slug, title, description, rule, .. } = &collection;
    let refusal = slug_taken(slug);
    tx.must(sql::INSERT_COLLECTION, (collection_id, slug, title, description, rule.as_ref().map(sql::to_json), now), || refusal)?;
    tx.emit(events::collection("collection.created", &collection));
    Ok(collection)
}

/// What to change on which collection.
#[derive(Clone, Debug)]
pub(crate) struct UpdateCollection {
    /// Which.
    pub collection_id: CollectionId,
    /// The version that the caller has seen, if it insists on it.
    pub if_match: web::IfMatch,
    /// What.
    pub change: CollectionChange,
}

/// Changes a collection.
/// Errors: `request.invalid`; `catalog.collection_not_found`; `request.precondition_failed`; `catalog.collection_kind`; `catalog.slug_taken`.
pub(crate) fn update_collection(tx: &mut Tx<'_>, update: &UpdateCollection) -> Result<Collection> {
    let CollectionChange { slug, title, description, rule } = &update.change;
    let mut collection = collection(tx, update.collection_id)?;
    check(tx, slug.as_deref(), title.as_deref(), description.as_deref(), rule.as_ref())?;
    update.if_match.check(collection.version)?;
    if rule.is_some() && collection.rule.is_none() {
        return Err(other_kind("its products are chosen by hand: it has no rule"));
    }
    let mut changed = Vec::new();
    replace(&mut collection.slug, slug.as_ref(), "slug", &mut changed);
    replace(&mut collection.title, title.as_ref(), "title", &mut changed);
    replace(&mut collection.description, description.as_ref(), "description", &mut changed);
    if rule.is_some() {
        replace(&mut collection.rule, Some(rule), "rule", &mut changed);
    }
    if changed.is_empty() {
        return Ok(collection);
    }
    if changed.contains(&"slug") && tx.opt::<(CollectionId,)>(sql::COLLECTION_BY_SLUG, (&collection.slug,))?.is_some() {
        return Err(slug_taken(&collection.slug));
    }
    write(tx, &mut collection)?;
    Ok(collection)
}

/// Writes a collection that changed as its next version.
fn write(tx: &mut Tx<'_>, collection: &mut Collection) -> Result<()> {
    collection.version += 1;
    collection.updated_at = tx.now();
    let Collection { collection_id, slug, title, description, rule, version, updated_at, .. } = &*collection;
    tx.exec(sql::UPDATE_COLLECTION, (collection_id, slug, title, description, rule.as_ref().map(sql::to_json), version, updated_at))?;
    tx.emit(events::collection("collection.updated", collection));
    Ok(())
}

/// A collection to delete.
#[derive(Clone, Debug)]
pub(crate) struct DeleteCollection {
    /// Which.
    pub collection_id: CollectionId,
    /// The version that the caller has seen, if it insists on it.
    pub if_match: web::IfMatch,
}

/// Deletes a collection; the products stay.
/// Errors: `catalog.collection_not_found`; `request.precondition_failed`.
pub(crate) fn delete_collection(tx: &mut Tx<'_>, delete: &DeleteCollection) -> Result<()> {
    let collection = collection(tx, delete.collection_id)?;
    delete.if_match.check(collection.version)?;
    tx.exec(sql::FORGET_CHOSEN, (collection.collection_id,))?;
    tx.exec(sql::DELETE_COLLECTION, (collection.collection_id,))?;
    tx.emit(events::collection("collection.deleted", &collection));
    Ok(())
}

/// All products of a collection that are chosen by hand.
#[derive(Clone, Debug)]
pub(crate) struct Choose {
    /// Which collection.
    pub collection_id: CollectionId,
    /// The version that the caller has seen, if it insists on it.
    pub if_match: web::IfMatch,
    /// The products, in their order.
    pub product_ids: Vec<ProductId>,
}

/// Chooses the products of a collection, in their order, instead of those that it had.
/// Errors: `request.invalid`; `catalog.collection_not_found`; `request.precondition_failed`; `catalog.collection_kind`.
pub(crate) fn choose(tx: &mut Tx<'_>, choose: &Choose) -> Result<Collection> {
    let ids = &choose.product_ids;
    if ids.len() > MAX_CHOSEN {
        return Err(Error::field("product_ids", "too_many", format!("at most {MAX_CHOSEN} products")));
    }
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Error::field("product_ids", "duplicate", format!("{} is there twice", twice[0])));
    }
    let mut collection = collection(tx, choose.collection_id)?;
    choose.if_match.check(collection.version)?;
    if collection.rule.is_some() {
        return Err(other_kind("its products are those of its rule"));
    }
    let keys: Vec<i64> = sorted.iter().map(|id| id.as_i64()).collect();
    let known: Vec<(ProductId,)> = if keys.is_empty() { Vec::new() } else { tx.all(sql::PRODUCTS_BY_ID, (keys,))? };
    if let Some(place) = ids.iter().position(|id| known.iter().all(|(known,)| known != id)) {
        return Err(Error::field(format!("product_ids[{place}]"), "unknown", "there is no such product"));
    }
    let before: Vec<(i64, ProductId)> = tx.all(sql::CHOSEN, (collection.collection_id, 0_i64, MAX_CHOSEN as i64))?;
    if before.iter().map(|(_, id)| id).eq(ids) {
        return Ok(collection);
    }
    tx.exec(sql::FORGET_CHOSEN, (collection.collection_id,))?;
    let rows: Vec<(i64, i64)> = (1..).zip(ids.iter().map(|id| id.as_i64())).collect();
    if !rows.is_empty() {
        tx.exec(sql::CHOOSE, (sql::to_json(&rows), collection.collection_id))?;
    }
    write(tx, &mut collection)?;
    Ok(collection)
}

/// Products of a list, and where the next page goes on, if there may be more.
pub type Listed = (Vec<ProductId>, Option<i64>);

/// A page of a collection's products, after a position: those chosen by hand in their order, those of a rule the newest first. One by rule
/// may have fewer than `limit`, even none, and go on.
pub(crate) fn products(read: &mut Read<'_>, collection: &Collection, after: Option<i64>, limit: u32) -> Result<Listed> {
    let Some(rule) = &collection.rule else {
        let mut rows: Vec<(i64, ProductId)> =
            read.all(sql::CHOSEN, (collection.collection_id, after.unwrap_or(0), i64::from(limit) + 1))?;
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let next = rows.last().filter(|_| more).map(|(position, _)| *position);
        return Ok((rows.into_iter().map(|(_, id)| id).collect(), next));
    };
    let currency = rule.price.map(|price| price.currency.code().to_owned()).unwrap_or_default();
    let (mut found, mut at) = (Vec::new(), after.unwrap_or(i64::MAX));
    for _ in 0..LOOKED_AT / WINDOW {
        let window: Vec<Facts> = read.all(sql::FACTS, (at, &currency, WINDOW))?;
        let whole = window.len() == WINDOW as usize;
        for facts in window {
            if rule.holds(&facts) {
                // One more than fits: the next page begins with it.
                if found.len() == limit as usize {
                    return Ok((found, Some(at)));
                }
                found.push(facts.product_id);
            }
            at = facts.product_id.as_i64();
        }
        if !whole {
            return Ok((found, None));
        }
    }
    Ok((found, Some(at)))
}

/// The collection with a slug.
pub(crate) fn by_slug(read: &mut Read<'_>, slug: &str) -> Result<Option<Collection>> {
    match read.opt::<(CollectionId,)>(sql::COLLECTION_BY_SLUG, (slug,))? {
        Some((id,)) => Ok(Some(collection(read, id)?)),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_conditions_of_a_rule_hold() {
        let facts = Facts {
            product_id: ProductId::from_i64(1),
            status: ProductStatus::Active,
            tags: vec!["summer".to_owned(), "sale".to_owned()],
            attributes: serde_json::from_str(r#"{"material":"linen","width":12.5}"#).unwrap(),
            price: Some("20".parse().unwrap()),
            categories: vec![CategoryId::from_i64(1), CategoryId::from_i64(2)],
        };
        let category = |n: i64| format!(r#"{{"category_id":"{}"}}"#, CategoryId::from_i64(n));
        let (inside, outside) = (category(2), category(3));
        let table = [
            ("{}", true),
            (&inside, true),
            (&outside, false),
            (r#"{"tags":["sale"]}"#, true),
            (r#"{"tags":["sale","summer"]}"#, true),
            (r#"{"tags":["sale","winter"]}"#, false),
            (r#"{"attributes":{"material":"linen","width":12.5}}"#, true),
            (r#"{"attributes":{"material":"wool"}}"#, false),
            (r#"{"attributes":{"colour":"red"}}"#, false),
            (r#"{"price":{"currency":"EUR","at_least":"20","at_most":"20"}}"#, true),
            (r#"{"price":{"currency":"EUR","at_most":"19.99"}}"#, false),
            (r#"{"price":{"currency":"EUR","at_least":"20.01"}}"#, false),
            (r#"{"price":{"currency":"EUR"}}"#, true),
            (r#"{"status":"active"}"#, true),
            (r#"{"status":"draft"}"#, false),
            (r#"{"status":"active","tags":["sale"],"price":{"currency":"EUR","at_most":"5"}}"#, false),
        ];
        for (rule, expected) in table {
            let read: Rule = serde_json::from_str(rule).unwrap();
            assert_eq!(read.holds(&facts), expected, "{rule}");
            assert_eq!(serde_json::from_str::<Rule>(&sql::to_json(&read)).unwrap(), read);
        }
        let priceless = Facts { price: None, ..facts };
        assert!(!serde_json::from_str::<Rule>(r#"{"price":{"currency":"EUR"}}"#).unwrap().holds(&priceless));
    }
}
