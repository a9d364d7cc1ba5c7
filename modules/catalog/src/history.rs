//! Who changed what of a product, and when: a row for each change, of the same transaction.

use crate::model::{ProductId, VariantId};
use crate::sql;
use kernel::{Actor, ActorKind, PageRequest, Result, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use store::{FromRow, Read, Row, Tx};
use utoipa::ToSchema;

/// Marks changes' ids (`chg_...`).
pub(crate) enum ChangeEntity {}

impl kernel::Entity for ChangeEntity {
    const PREFIX: &'static str = "chg";
}

/// The id of a change.
pub(crate) type ChangeId = kernel::Id<ChangeEntity>;

/// Values whose JSON is longer, in bytes, are not kept.
const MAX_VALUE: usize = 500;

/// Who asked for a change, and with which request.
#[derive(Clone, Debug)]
pub struct By {
    /// Who.
    pub actor: Actor,
    /// The request, if it was one.
    pub request_id: Option<Arc<str>>,
}

impl By {
    /// The platform itself, such as the command line.
    pub const SYSTEM: By = By { actor: Actor::SYSTEM, request_id: None };

    /// The kind of actor, as it is stored.
    fn kind(&self) -> &'static str {
        match self.actor.kind {
            ActorKind::User => "user",
            ActorKind::ApiKey => "api_key",
            ActorKind::System => "system",
        }
    }
}

/// A field that is different now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ProductFieldChange)]
pub(crate) struct FieldChange {
    /// Its name.
    pub field: String,
    /// What it was; left out when it was nothing, or is too long to be kept.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub from: Value,
    /// What it is; left out when it is nothing, or is too long to be kept.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub to: Value,
}

/// A change of a product or of one of its variants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct ProductChangeRecord {
    /// Its id.
    pub change_id: ChangeId,
    /// When.
    pub at: Timestamp,
    /// What kind of actor did it: `user`, `api_key` or `system`.
    pub actor_kind: String,
    /// The user's or the key's number; 0 for the system.
    pub actor_id: i64,
    /// The request, if it was one.
    pub request_id: Option<String>,
    /// `created`, `updated`, or `imported`.
    pub what: String,
    /// The variant; null for the product itself.
    pub variant_id: Option<VariantId>,
    /// Which fields; of what was made none, and of what came in by a file only their names.
    pub changes: Vec<FieldChange>,
}

impl FromRow for ProductChangeRecord {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(ProductChangeRecord {
            change_id: row.get(0)?,
            at: row.get(1)?,
            actor_kind: row.get(2)?,
            actor_id: row.get(3)?,
            request_id: row.get(4)?,
            what: row.get(5)?,
            variant_id: row.get(6)?,
            changes: sql::from_json(&row.get::<String>(7)?)?,
        })
    }
}

/// The fields in which two JSON objects differ, apart from those that differ with every change.
pub(crate) fn diff(before: &impl Serialize, after: &impl Serialize) -> Vec<FieldChange> {
    let object = |value: serde_json::Result<Value>| match value {
        Ok(Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let (mut before, after) = (object(serde_json::to_value(before)), object(serde_json::to_value(after)));
    let kept = |value: Value| if value.to_string().len() > MAX_VALUE { Value::Null } else { value };
    let differs = after.into_iter().filter_map(|(field, to)| {
        let from = before.remove(&field).unwrap_or_default();
        let told = !matches!(field.as_str(), "version" | "updated_at" | "variant_count") && from != to;
        told.then(|| FieldChange { field, from: kept(from), to: kept(to) })
    });
    differs.collect()
}

/// Records a change.
pub(crate) fn record(
    tx: &mut Tx<'_>,
    by: &By,
    product_id: ProductId,
    variant_id: Option<VariantId>,
    what: &'static str,
    changes: &[FieldChange],
) -> Result<()> {
    let change_id: ChangeId = tx.new_id();
    let now = tx.now();
    let (actor, request_id) = ((by.kind(), by.actor.id), by.request_id.as_deref());
    tx.exec(sql::INSERT_CHANGE, (product_id, change_id, now, actor.0, actor.1, request_id, what, variant_id, sql::to_json(&changes)))
}

/// Records that a file made or changed these products; with each, the JSON of its changes.
pub(crate) fn record_imported(tx: &mut Tx<'_>, by: &By, products: &[(ProductId, String)]) -> Result<()> {
    if products.is_empty() {
        return Ok(());
    }
    let rows: Vec<(i64, i64, &str)> = products
        .iter()
        .map(|(id, changes)| {
            let change_id: ChangeId = tx.new_id();
            (id.as_i64(), change_id.as_i64(), changes.as_str())
        })
        .collect();
    let now = tx.now();
    tx.exec(sql::INSERT_IMPORTED, (sql::to_json(&rows), now, by.kind(), by.actor.id, by.request_id.as_deref()))
}

/// Up to one change more than the page holds, the newest first. Errors: `catalog.product_not_found`.
pub(crate) fn changes(read: &mut Read<'_>, id: ProductId, page: &PageRequest<ChangeId>) -> Result<Vec<ProductChangeRecord>> {
    crate::queries::bare_product(read, id)?;
    read.all(sql::CHANGES, (id, page.after.unwrap_or(ChangeId::from_i64(i64::MAX)), page.limit + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_change_tells_what_it_was_and_is() {
        let change = |field: &str, from: Value, to: Value| FieldChange { field: field.to_owned(), from, to };
        let before = json!({ "title": "Shirt", "version": 1, "description": "x".repeat(600), "tags": [], "updated_at": 1 });
        let after = json!({ "title": "Linen shirt", "version": 2, "description": "short", "tags": [], "updated_at": 2, "barcode": "7" });
        let found = diff(&before, &after);
        assert_eq!(
            found,
            [
                change("barcode", Value::Null, json!("7")),
                change("description", Value::Null, json!("short")),
                change("title", json!("Shirt"), json!("Linen shirt")),
            ]
        );
        assert_eq!(sql::to_json(&found[0]), r#"{"field":"barcode","to":"7"}"#);
        assert_eq!(diff(&before, &before), []);
    }
}
