//! Categories: a tree of bounded depth and size, in which products may stand in several places.
//!
//! A category's path is the ids from the root down to itself, so a subtree is one range of an index, and a move that would make a circle
//! is one comparison of texts.

use crate::events;
use crate::model::{ProductId, check_named, check_range, present, replace};
use crate::sql;
use kernel::{Error, Faults, PageRequest, Result, Timestamp};
use serde::{Deserialize, Serialize};
use store::{FromRow, Read, Row, Tx};
use utoipa::ToSchema;

/// Marks categories' ids (`cat_...`).
pub enum CategoryEntity {}

impl kernel::Entity for CategoryEntity {
    const PREFIX: &'static str = "cat";
}

/// The id of a category.
pub type CategoryId = kernel::Id<CategoryEntity>;

/// The most categories of a tenant: the whole tree is one answer.
pub(crate) const MAX_CATEGORIES: i64 = 2_000;
/// The most levels of the tree.
pub(crate) const MAX_DEPTH: usize = 8;
/// The largest position among siblings.
const MAX_POSITION: i64 = 1_000_000;
/// Digits of an id in a path.
const STEP: usize = 16;

/// A category.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Category {
    /// Its id.
    pub category_id: CategoryId,
    /// The category that it is in; null at the root.
    pub parent_id: Option<CategoryId>,
    /// How far down it is, from 1.
    pub depth: usize,
    /// Its name in addresses, unique in the tenant.
    pub slug: String,
    /// Its title.
    pub title: String,
    /// What is in it, for a person.
    pub description: String,
    /// Among its siblings, the smallest first; of equal ones, the older first.
    pub position: i64,
    /// Rises with every change of its fields, and when a category above it moves; the `ETag`. What is in it is told by its products.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// The ids from the root to itself, [`STEP`] digits each.
    #[serde(skip)]
    pub path: String,
}

/// A path by its last id and what is above it.
pub(crate) fn path_of(above: &str, id: CategoryId) -> String {
    format!("{above}{:016x}", id.as_i64())
}

/// The ids along a path, from the root.
pub(crate) fn ids_of(path: &str) -> impl Iterator<Item = CategoryId> {
    // Paths are ASCII, and written by `path_of` alone.
    (0..path.len() / STEP).filter_map(|i| i64::from_str_radix(&path[i * STEP..(i + 1) * STEP], 16).ok()).map(CategoryId::from_i64)
}

/// Where the range of a subtree ends: `g` comes after every digit.
fn end_of(path: &str) -> String {
    format!("{path}g")
}

/// The path that a category of this one would get below `above`, whose subtree is so many levels deep, itself included.
/// Errors: `catalog.category_cycle`, `catalog.tree_too_deep`.
pub(crate) fn moved(own: &str, id: CategoryId, above: &str, levels: usize) -> Result<String> {
    if !own.is_empty() && above.starts_with(own) {
        let error = Error::conflict("catalog.category_cycle", "a category can't be moved into itself or below itself");
        return Err(error.with_field("parent_id", "cycle", "is the category itself, or is below it"));
    }
    if above.len() / STEP + levels > MAX_DEPTH {
        let error = Error::failed_precondition("catalog.tree_too_deep", format!("the tree has at most {MAX_DEPTH} levels"));
        return Err(error.with_field("parent_id", "too_deep", format!("at most {MAX_DEPTH} levels")));
    }
    Ok(path_of(above, id))
}

impl FromRow for Category {
    fn from_row(row: &dyn Row) -> Result<Self> {
        let path: String = row.get(1)?;
        let mut above: Vec<CategoryId> = ids_of(&path).collect();
        let depth = above.len();
        above.pop();
        Ok(Category {
            category_id: row.get(0)?,
            parent_id: above.last().copied(),
            depth,
            slug: row.get(2)?,
            title: row.get(3)?,
            description: row.get(4)?,
            position: row.get(5)?,
            version: row.get(6)?,
            created_at: row.get(7)?,
            updated_at: row.get(8)?,
            path,
        })
    }
}

/// A category to make.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewCategory {
    /// The category that it goes into; the root unless said.
    #[serde(default)]
    pub parent_id: Option<CategoryId>,
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
    /// Among its siblings, the smallest first.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1000000)]
    pub position: i64,
}

/// What to change on a category; what is left out stays.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CategoryChange {
    /// The category that it moves into, with all that is below it; null for the root.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<CategoryId>)]
    pub parent_id: Option<Option<CategoryId>>,
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
    /// Among its siblings, the smallest first.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1000000)]
    pub position: Option<i64>,
}

/// No such category, or not the caller's.
pub(crate) fn no_category() -> Error {
    Error::not_found("catalog.category_not_found", "there is no such category")
}

fn unknown_parent() -> Error {
    Error::field("parent_id", "unknown", "there is no such category")
}

/// Of a category or a collection, each kind with its own.
pub(crate) fn slug_taken(slug: &str) -> Error {
    Error::conflict("catalog.slug_taken", format!("another one has the slug {slug} already")).with_field("slug", "taken", "choose another")
}

fn check(slug: Option<&str>, title: Option<&str>, description: Option<&str>, position: Option<i64>) -> Result<()> {
    let mut faults = Faults::default();
    check_named(slug, title, description, &mut faults);
    if let Some(position) = position {
        faults.check("position", check_range(position, 0, MAX_POSITION));
    }
    faults.finish()
}

/// One category. Errors: `catalog.category_not_found`.
pub(crate) fn category(read: &mut Read<'_>, id: CategoryId) -> Result<Category> {
    read.opt(sql::CATEGORY, (id,))?.ok_or_else(no_category)
}

/// Up to one category more than the page holds, each parent before its children; without descriptions.
pub(crate) fn categories(read: &mut Read<'_>, page: &PageRequest<String>) -> Result<Vec<Category>> {
    read.all(sql::CATEGORIES, (page.after.clone().unwrap_or_default(), page.limit + 1))
}

/// Makes a category.
/// Errors: `request.invalid`; `catalog.too_many_categories`; `catalog.tree_too_deep`; `catalog.slug_taken`.
pub(crate) fn create_category(tx: &mut Tx<'_>, new: &NewCategory) -> Result<Category> {
    check(Some(&new.slug), Some(&new.title), Some(&new.description), Some(new.position))?;
    let (count,): (i64,) = tx.one(sql::CATEGORY_COUNT, ())?;
    if count >= MAX_CATEGORIES {
        return Err(Error::failed_precondition("catalog.too_many_categories", format!("at most {MAX_CATEGORIES} categories")));
    }
    let above = above(tx, new.parent_id)?;
    let (category_id, now) = (tx.new_id(), tx.now());
    let path = moved("", category_id, &above, 1)?;
    let category = Category {
        category_id,
        parent_id: new.parent_id,
        depth: path.len() / STEP,
        slug: new.slug.clone(),
        title: new.title.clone(),
        description: new.description.clone(),
        position: new.position,
        version: 1,
        created_at: now,
        updated_at: now,
        path,
    };
    let row = (category_id, &category.path, &category.slug, &category.title, &category.description, category.position, now);
    let refusal = slug_taken(&category.slug);
    tx.must(sql::INSERT_CATEGORY, row, || refusal)?;
    tx.emit(events::category("category.created", &category));
    Ok(category)
}

/// The path of a parent; empty for the root. Errors: `request.invalid`.
fn above(tx: &mut Tx<'_>, parent_id: Option<CategoryId>) -> Result<String> {
    let Some(parent_id) = parent_id else { return Ok(String::new()) };
    let parent: Option<Category> = tx.opt(sql::CATEGORY, (parent_id,))?;
    Ok(parent.ok_or_else(unknown_parent)?.path)
}

/// What to change on which category.
#[derive(Clone, Debug)]
pub(crate) struct UpdateCategory {
    /// Which.
    pub category_id: CategoryId,
    /// The version that the caller has seen, if it insists on it.
    pub if_match: web::IfMatch,
    /// What.
    pub change: CategoryChange,
}

/// Changes a category, and moves all that is below it along.
/// Errors: `request.invalid`; `catalog.category_not_found`; `request.precondition_failed`; `catalog.category_cycle`;
/// `catalog.tree_too_deep`; `catalog.slug_taken`.
pub(crate) fn update_category(tx: &mut Tx<'_>, update: &UpdateCategory) -> Result<Category> {
    let CategoryChange { parent_id, slug, title, description, position } = &update.change;
    check(slug.as_deref(), title.as_deref(), description.as_deref(), *position)?;
    let mut category = category(tx, update.category_id)?;
    update.if_match.check(category.version)?;
    let old = category.path.clone();
    let mut changed = Vec::new();
    replace(&mut category.slug, slug.as_ref(), "slug", &mut changed);
    replace(&mut category.title, title.as_ref(), "title", &mut changed);
    replace(&mut category.description, description.as_ref(), "description", &mut changed);
    replace(&mut category.position, position.as_ref(), "position", &mut changed);
    replace(&mut category.parent_id, parent_id.as_ref(), "parent_id", &mut changed);
    if changed.is_empty() {
        return Ok(category);
    }
    if changed.contains(&"parent_id") {
        let above = above(tx, category.parent_id)?;
        let (deepest,): (i64,) = tx.one(sql::LONGEST_PATH, (&old, end_of(&old)))?;
        let levels = (deepest as usize - old.len()) / STEP + 1;
        category.path = moved(&old, category.category_id, &above, levels)?;
        category.depth = category.path.len() / STEP;
    }
    if changed.contains(&"slug") && tx.opt::<(CategoryId,)>(sql::CATEGORY_BY_SLUG, (&category.slug,))?.is_some() {
        return Err(slug_taken(&category.slug));
    }
    category.version += 1;
    category.updated_at = tx.now();
    let Category { category_id, slug, title, description, position, version, updated_at, path, .. } = &category;
    if *path != old {
        tx.exec(sql::MOVE_CATEGORIES, (&old, end_of(&old), path, old.len() as i64 + 1, updated_at))?;
    }
    // After the move, which has raised the versions of all that moved, this one's too.
    tx.exec(sql::UPDATE_CATEGORY, (category_id, slug, title, description, position, version, updated_at))?;
    tx.emit(events::category("category.updated", &category));
    Ok(category)
}

/// A category to delete.
#[derive(Clone, Debug)]
pub(crate) struct DeleteCategory {
    /// Which.
    pub category_id: CategoryId,
    /// The version that the caller has seen, if it insists on it.
    pub if_match: web::IfMatch,
}

/// Deletes a category that has neither categories nor products in it.
/// Errors: `catalog.category_not_found`; `request.precondition_failed`; `catalog.category_not_empty`.
pub(crate) fn delete_category(tx: &mut Tx<'_>, delete: &DeleteCategory) -> Result<()> {
    let category = category(tx, delete.category_id)?;
    delete.if_match.check(category.version)?;
    let (longest,): (i64,) = tx.one(sql::LONGEST_PATH, (&category.path, end_of(&category.path)))?;
    let products: Vec<(ProductId,)> = tx.all(sql::CATEGORY_MEMBERS, (category.category_id, 1_i64))?;
    if longest as usize > category.path.len() || !products.is_empty() {
        return Err(Error::failed_precondition("catalog.category_not_empty", "it has categories or products in it: move them first"));
    }
    tx.exec(sql::DELETE_CATEGORY, (category.category_id,))?;
    tx.emit(events::category("category.deleted", &category));
    Ok(())
}

/// A category as a shop's page lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ShopCategory {
    /// Its id.
    pub category_id: CategoryId,
    /// The category that it is in; null at the root.
    pub parent_id: Option<CategoryId>,
    /// Its name in addresses.
    pub slug: String,
    /// Its title.
    pub title: String,
}

/// All categories: each parent before its children, siblings in their order.
pub fn shop_categories(read: &mut Read<'_>) -> Result<Vec<ShopCategory>> {
    let mut all: Vec<Category> = read.all(sql::CATEGORIES, ("", MAX_CATEGORIES))?;
    all.sort_by_cached_key(|category| (category.depth, category.position, category.category_id));
    let shown = |c: Category| ShopCategory { category_id: c.category_id, parent_id: c.parent_id, slug: c.slug, title: c.title };
    Ok(all.into_iter().map(shown).collect())
}

/// Products in the category with this slug or below it, the newest first, up to `limit`: those before `before`. None when there is no
/// such category.
pub(crate) fn products_below(read: &mut Read<'_>, slug: &str, before: ProductId, limit: u32) -> Result<Option<Vec<ProductId>>> {
    let Some((id,)) = read.opt::<(CategoryId,)>(sql::CATEGORY_BY_SLUG, (slug,))? else { return Ok(None) };
    let path = category(read, id)?.path;
    let end = end_of(&path);
    let rows: Vec<(ProductId,)> = read.all(sql::PRODUCTS_BELOW, (path, end, before, limit))?;
    Ok(Some(rows.into_iter().map(|(id,)| id).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(n: i64) -> CategoryId {
        CategoryId::from_i64(n)
    }

    #[test]
    fn a_move_makes_no_circle_and_no_deep_tree() {
        let path = |ids: &[i64]| ids.iter().fold(String::new(), |above, n| path_of(&above, id(*n)));
        // Its own path, where it goes to, how many levels it has; what comes of it.
        type Case = (&'static [i64], &'static [i64], usize, Result<&'static [i64], &'static str>);
        let table: [Case; 9] = [
            (&[], &[], 1, Ok(&[7])),
            (&[], &[1, 2], 1, Ok(&[1, 2, 7])),
            (&[1, 7], &[], 1, Ok(&[7])),
            (&[1, 7], &[2], 3, Ok(&[2, 7])),
            (&[1, 7], &[1, 7], 2, Err("catalog.category_cycle")),
            (&[1, 7], &[1, 7, 8], 2, Err("catalog.category_cycle")),
            (&[1, 7], &[1], 2, Ok(&[1, 7])),
            (&[7], &[1, 2, 3, 4, 5], 3, Ok(&[1, 2, 3, 4, 5, 7])),
            (&[7], &[1, 2, 3, 4, 5], 4, Err("catalog.tree_too_deep")),
        ];
        for (own, above, levels, expected) in table {
            let found = moved(&path(own), id(7), &path(above), levels).map_err(|error| error.code());
            assert_eq!(found, expected.map(path), "{own:?} below {above:?}");
        }
    }

    proptest! {
        #[test]
        fn a_subtree_is_a_range(above in proptest::collection::vec(1..i64::MAX, 0..4), below in proptest::collection::vec(1..i64::MAX, 0..4), other in 1..i64::MAX) {
            let root = above.iter().fold(String::new(), |path, n| path_of(&path, id(*n)));
            let inner = below.iter().fold(root.clone(), |path, n| path_of(&path, id(*n)));
            prop_assert!(root <= inner && inner < end_of(&root));
            prop_assert_eq!(ids_of(&inner).map(|id| id.as_i64()).collect::<Vec<_>>(), [above.clone(), below].concat());
            // A sibling of the root's last step is outside.
            if let Some((last, before)) = above.split_last() && *last != other {
                let sibling = path_of(&before.iter().fold(String::new(), |path, n| path_of(&path, id(*n))), id(other));
                prop_assert!(sibling < root || sibling >= end_of(&root));
            }
        }
    }
}
