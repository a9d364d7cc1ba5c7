//! Attributes: what a tenant tells of its products and variants, each of a type that values are checked against.

use crate::events;
use crate::model::{MAX_TITLE, check_line, check_slug};
use crate::sql;
use kernel::{Error, Faults, PageRequest, Result, Timestamp};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use store::{FromRow, FromValue, Read, Row, ToValue, Tx, Value, ValueRef};
use utoipa::ToSchema;

/// Marks attributes' ids (`atr_...`).
pub(crate) enum AttributeEntity {}

impl kernel::Entity for AttributeEntity {
    const PREFIX: &'static str = "atr";
}

/// The id of an attribute.
pub(crate) type AttributeId = kernel::Id<AttributeEntity>;

/// The most attributes of a tenant.
pub(crate) const MAX_ATTRIBUTES: i64 = 500;
/// The most values of a product or a variant.
pub(crate) const MAX_VALUES: usize = 50;
/// The most values that a choice is of.
pub(crate) const MAX_CHOICES: usize = 200;
/// The longest text, in characters.
pub(crate) const MAX_TEXT: usize = 1_000;
/// The longest choice, in characters.
const MAX_CHOICE: usize = 100;
/// The largest number, and the smallest with a minus before it: doubles are exact to the thousandth below it.
const MAX_NUMBER: f64 = 1e12;

/// What the values of an attribute are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AttributeKind {
    /// A line of text, at most 1,000 characters.
    Text,
    /// A number between minus and plus a million million.
    Number,
    /// True or false.
    Boolean,
    /// A day, such as `2026-01-31`.
    Date,
    /// One of the attribute's choices.
    Choice,
}

impl AttributeKind {
    const ALL: [AttributeKind; 5] =
        [AttributeKind::Text, AttributeKind::Number, AttributeKind::Boolean, AttributeKind::Date, AttributeKind::Choice];

    /// As it is stored and sent.
    fn as_str(self) -> &'static str {
        match self {
            AttributeKind::Text => "text",
            AttributeKind::Number => "number",
            AttributeKind::Boolean => "boolean",
            AttributeKind::Date => "date",
            AttributeKind::Choice => "choice",
        }
    }
}

impl ToValue for AttributeKind {
    fn to_value(&self) -> Value<'_> {
        Value::Text(self.as_str().into())
    }
}

impl FromValue for AttributeKind {
    fn from_value(value: ValueRef<'_>) -> Result<Self> {
        let known = Self::ALL.into_iter().find(|kind| value == ValueRef::Text(kind.as_str()));
        known.ok_or_else(|| Error::internal("an attribute is of an unknown kind"))
    }
}

/// A value of an attribute: of the type that the attribute has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum AttributeValue {
    /// Of a boolean.
    Boolean(bool),
    /// Of a number.
    #[serde(deserialize_with = "plain")]
    #[schema(value_type = f64)]
    Number(serde_json::Number),
    /// Of a text, a date or a choice.
    Text(String),
}

/// A number as it is kept and compared: 12.0 is 12.
fn plain<'de, D: Deserializer<'de>>(deserializer: D) -> Result<serde_json::Number, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    let whole = number.as_f64().filter(|value| number.is_f64() && value.fract() == 0.0 && value.abs() <= MAX_NUMBER);
    Ok(whole.map_or(number, |value| serde_json::Number::from(value as i64)))
}

impl AttributeValue {
    /// About how many bytes it has beside itself.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            AttributeValue::Text(text) => text.len(),
            AttributeValue::Boolean(_) | AttributeValue::Number(_) => 0,
        }
    }
}

/// Values by the codes of their attributes.
pub type AttributeValues = BTreeMap<String, AttributeValue>;

/// An attribute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Attribute {
    /// Its id.
    pub attribute_id: AttributeId,
    /// What values name it by, unique in the tenant. It and the kind are for ever, since values rest on them.
    pub code: String,
    /// Its title.
    pub title: String,
    /// What its values are.
    pub kind: AttributeKind,
    /// What a choice may be, in their order.
    pub choices: Vec<String>,
    /// Whether a shop shows its values to anybody; they are known to the tenant's own people and programs alone where it does not.
    pub storefront: bool,
    /// Rises with every change; the `ETag`.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl FromRow for Attribute {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(Attribute {
            attribute_id: row.get(0)?,
            code: row.get(1)?,
            title: row.get(2)?,
            kind: row.get(3)?,
            choices: sql::from_json(&row.get::<String>(4)?)?,
            version: row.get(5)?,
            created_at: row.get(6)?,
            updated_at: row.get(7)?,
            storefront: row.get(8)?,
        })
    }
}

/// An attribute to define.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewAttribute {
    /// What values name it by, unique in the tenant: small letters, digits, hyphens.
    #[schema(min_length = 1, max_length = 100, pattern = "^[a-z0-9]+(-[a-z0-9]+)*$")]
    pub code: String,
    /// Its title.
    #[schema(min_length = 1, max_length = 300)]
    pub title: String,
    /// What its values are.
    pub kind: AttributeKind,
    /// What a choice may be, in their order; only for choices.
    #[serde(default)]
    #[schema(max_items = 200)]
    pub choices: Vec<String>,
    /// Whether a shop shows its values to anybody; so it is unless said.
    #[serde(default = "yes")]
    pub storefront: bool,
}

const fn yes() -> bool {
    true
}

/// What to change on an attribute; what is left out stays.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AttributeChange {
    /// Its title.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 300)]
    pub title: Option<String>,
    /// All choices. None may go, since products may have it.
    #[serde(default)]
    #[schema(max_items = 200)]
    pub choices: Option<Vec<String>>,
    /// Whether a shop shows its values to anybody.
    #[serde(default)]
    pub storefront: Option<bool>,
}

fn check_choices(kind: AttributeKind, choices: &[String], faults: &mut Faults) {
    let count = choices.len();
    match kind {
        AttributeKind::Choice if count == 0 => faults.check("choices", Err(("empty", "a choice is of at least one value".to_owned()))),
        AttributeKind::Choice if count > MAX_CHOICES => faults.check("choices", Err(("too_many", format!("at most {MAX_CHOICES}")))),
        AttributeKind::Choice => {
            for (i, choice) in choices.iter().enumerate() {
                faults.check(format!("choices[{i}]"), check_line(choice, MAX_CHOICE));
                if choices[..i].contains(choice) {
                    faults.check(format!("choices[{i}]"), Err(("duplicate", "it is there already".to_owned())));
                }
            }
        }
        _ if count > 0 => faults.check("choices", Err(("not_allowed", "only a choice has choices".to_owned()))),
        _ => {}
    }
}

/// Whether a value is of an attribute's type. Errors: a code, and what it should be.
pub(crate) fn check_value(attribute: &Attribute, value: &AttributeValue) -> Result<(), crate::model::Fault> {
    match (attribute.kind, value) {
        (AttributeKind::Text, AttributeValue::Text(text)) => check_line(text, MAX_TEXT),
        (AttributeKind::Number, AttributeValue::Number(number)) => match number.as_f64() {
            Some(number) if number.abs() <= MAX_NUMBER => Ok(()),
            _ => Err(("out_of_range", "between minus and plus a million million".to_owned())),
        },
        (AttributeKind::Boolean, AttributeValue::Boolean(_)) => Ok(()),
        (AttributeKind::Date, AttributeValue::Text(day)) => {
            let is_day = day.len() == 10 && format!("{day}T00:00:00Z").parse::<Timestamp>().is_ok();
            if is_day { Ok(()) } else { Err(("invalid", "a day, such as 2026-01-31".to_owned())) }
        }
        (AttributeKind::Choice, AttributeValue::Text(choice)) => {
            if attribute.choices.contains(choice) {
                Ok(())
            } else {
                Err(("not_a_choice", format!("one of: {}", listed(&attribute.choices))))
            }
        }
        (kind, _) => Err(("wrong_type", format!("the values of {} are of the type {}", attribute.code, kind.as_str()))),
    }
}

/// The first ones, for a message.
fn listed(choices: &[String]) -> String {
    let shown: Vec<&str> = choices.iter().take(10).map(String::as_str).collect();
    if choices.len() > shown.len() { format!("{}, ...", shown.join(", ")) } else { shown.join(", ") }
}

/// Changes to values by code: null removes one, what is left out stays.
pub(crate) type ValueChanges = BTreeMap<String, Option<AttributeValue>>;

/// Makes the changes, each value checked against its attribute; `path` names the field that has them.
/// Errors: `request.invalid` naming `attributes.<code>`.
pub(crate) fn apply(tx: &mut Tx<'_>, path: &str, values: &mut AttributeValues, changes: &ValueChanges) -> Result<()> {
    let mut faults = Faults::default();
    if changes.len() > MAX_VALUES * 2 {
        faults.check(path, Err(("too_many", format!("at most {} at once", MAX_VALUES * 2))));
        return faults.finish();
    }
    let set: Vec<String> = changes.iter().filter(|(_, value)| value.is_some()).map(|(code, _)| code.clone()).collect();
    let known: HashMap<String, Attribute> = if set.is_empty() {
        HashMap::new()
    } else {
        tx.all::<Attribute>(sql::ATTRIBUTES_BY_CODE, (set,))?.into_iter().map(|attribute| (attribute.code.clone(), attribute)).collect()
    };
    for (code, value) in changes {
        let Some(value) = value else {
            values.remove(code);
            continue;
        };
        let shown: String = code.chars().take(100).collect();
        match known.get(code) {
            Some(attribute) => faults.check(format!("{path}.{shown}"), check_value(attribute, value)),
            None => faults.check(format!("{path}.{shown}"), Err(("unknown", "there is no such attribute".to_owned()))),
        }
        values.insert(code.clone(), value.clone());
    }
    if values.len() > MAX_VALUES {
        faults.check(path, Err(("too_many", format!("at most {MAX_VALUES} values"))));
    }
    faults.finish()
}

/// No such attribute, or not the caller's.
pub(crate) fn no_attribute() -> Error {
    Error::not_found("catalog.attribute_not_found", "there is no such attribute")
}

/// One attribute. Errors: `catalog.attribute_not_found`.
pub(crate) fn attribute(read: &mut Read<'_>, id: AttributeId) -> Result<Attribute> {
    read.opt(sql::ATTRIBUTE, (id,))?.ok_or_else(no_attribute)
}

/// Up to one attribute more than the page holds, by code.
pub(crate) fn attributes(read: &mut Read<'_>, page: &PageRequest<String>) -> Result<Vec<Attribute>> {
    read.all(sql::ATTRIBUTES, (page.after.clone().unwrap_or_default(), page.limit + 1))
}

/// The codes of attributes whose values a shop does not show.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Hidden(pub BTreeSet<String>);

/// Those of the tenant.
pub(crate) fn hidden(read: &mut Read<'_>) -> Result<Hidden> {
    let all: Vec<Attribute> = read.all(sql::ATTRIBUTES, ("", MAX_ATTRIBUTES))?;
    Ok(Hidden(all.into_iter().filter(|attribute| !attribute.storefront).map(|attribute| attribute.code).collect()))
}

/// Defines an attribute. Errors: `request.invalid`; `catalog.too_many_attributes`; `catalog.attribute_taken`.
pub(crate) fn create_attribute(tx: &mut Tx<'_>, new: &NewAttribute) -> Result<Attribute> {
    let mut faults = Faults::default();
    faults.check("code", check_slug(&new.code));
    faults.check("title", check_line(&new.title, MAX_TITLE));
    check_choices(new.kind, &new.choices, &mut faults);
    faults.finish()?;
    let (count,): (i64,) = tx.one(sql::ATTRIBUTE_COUNT, ())?;
    if count >= MAX_ATTRIBUTES {
        return Err(Error::failed_precondition("catalog.too_many_attributes", format!("at most {MAX_ATTRIBUTES} attributes")));
    }
    let now = tx.now();
    let attribute = Attribute {
        attribute_id: tx.new_id(),
        code: new.code.clone(),
        title: new.title.clone(),
        kind: new.kind,
        choices: new.choices.clone(),
        storefront: new.storefront,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    let Attribute { attribute_id, code, title, kind, choices, storefront, .. } = &attribute;
    let row = (attribute_id, code, title, kind, sql::to_json(choices), now, storefront);
    tx.must(sql::INSERT_ATTRIBUTE, row, || Error::conflict("catalog.attribute_taken", "another attribute has this code already"))?;
    tx.emit(events::attribute("attribute.created", &attribute));
    Ok(attribute)
}

/// What to change on which attribute.
#[derive(Clone, Debug)]
pub(crate) struct UpdateAttribute {
    /// Which.
    pub attribute_id: AttributeId,
    /// The version that the caller has seen, if it insists on it.
    pub if_match: web::IfMatch,
    /// What.
    pub change: AttributeChange,
}

/// Changes an attribute.
/// Errors: `request.invalid`; `catalog.attribute_not_found`; `request.precondition_failed`; `catalog.choice_kept`.
pub(crate) fn update_attribute(tx: &mut Tx<'_>, update: &UpdateAttribute) -> Result<Attribute> {
    let mut attribute = attribute(tx, update.attribute_id)?;
    update.if_match.check(attribute.version)?;
    let mut faults = Faults::default();
    if let Some(title) = &update.change.title {
        faults.check("title", check_line(title, MAX_TITLE));
    }
    if let Some(choices) = &update.change.choices {
        check_choices(attribute.kind, choices, &mut faults);
    }
    faults.finish()?;
    let mut changed = Vec::new();
    if let Some(choices) = &update.change.choices
        && let Some(gone) = attribute.choices.iter().find(|choice| !choices.contains(choice))
    {
        return Err(Error::failed_precondition("catalog.choice_kept", format!("the choice {gone:?} can't go: products may have it")));
    }
    crate::model::replace(&mut attribute.title, update.change.title.as_ref(), "title", &mut changed);
    crate::model::replace(&mut attribute.choices, update.change.choices.as_ref(), "choices", &mut changed);
    crate::model::replace(&mut attribute.storefront, update.change.storefront.as_ref(), "storefront", &mut changed);
    if changed.is_empty() {
        return Ok(attribute);
    }
    attribute.version += 1;
    attribute.updated_at = tx.now();
    let Attribute { attribute_id, title, choices, storefront, version, updated_at, .. } = &attribute;
    let row = (attribute_id, title, sql::to_json(choices), storefront, version, updated_at);
    tx.exec(sql::UPDATE_ATTRIBUTE, row)?;
    tx.emit(events::attribute("attribute.updated", &attribute));
    Ok(attribute)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_of_their_attributes_type() {
        let of = |kind: AttributeKind| Attribute {
            attribute_id: AttributeId::from_i64(1),
            code: "a".to_owned(),
            title: "A".to_owned(),
            kind,
            choices: if kind == AttributeKind::Choice { vec!["red".to_owned(), "blue".to_owned()] } else { Vec::new() },
            storefront: true,
            version: 1,
            created_at: Timestamp::default(),
            updated_at: Timestamp::default(),
        };
        let table = [
            (AttributeKind::Text, r#""linen""#, "ok"),
            (AttributeKind::Text, r#""""#, "empty"),
            (AttributeKind::Text, r#""two\nlines""#, "control_character"),
            (AttributeKind::Text, "7", "wrong_type"),
            (AttributeKind::Number, "7", "ok"),
            (AttributeKind::Number, "-0.25", "ok"),
            (AttributeKind::Number, "1000000000000", "ok"),
            (AttributeKind::Number, "-1.1e12", "out_of_range"),
            (AttributeKind::Number, r#""7""#, "wrong_type"),
            (AttributeKind::Boolean, "false", "ok"),
            (AttributeKind::Boolean, "0", "wrong_type"),
            (AttributeKind::Date, r#""2028-02-29""#, "ok"),
            (AttributeKind::Date, r#""2026-02-29""#, "invalid"),
            (AttributeKind::Date, r#""2026-2-1""#, "invalid"),
            (AttributeKind::Date, "true", "wrong_type"),
            (AttributeKind::Choice, r#""red""#, "ok"),
            (AttributeKind::Choice, r#""Red""#, "not_a_choice"),
            (AttributeKind::Choice, "true", "wrong_type"),
        ];
        for (kind, value, expected) in table {
            let read: AttributeValue = serde_json::from_str(value).unwrap();
            let found = check_value(&of(kind), &read).map_or_else(|(code, _)| code, |()| "ok");
            assert_eq!(found, expected, "{kind:?} {value}");
            assert_eq!(serde_json::to_value(&read).unwrap(), serde_json::from_str::<serde_json::Value>(value).unwrap());
        }
    }

    #[test]
    fn a_number_is_what_it_is_however_it_is_written() {
        let table = [
            ("12", "12"),
            ("12.0", "12"),
            ("1.2e1", "12"),
            ("-0.0", "0"),
            ("1e12", "1000000000000"),
            ("12.50", "12.5"),
            ("1e13", "10000000000000.0"),
        ];
        for (value, expected) in table {
            let read: AttributeValue = serde_json::from_str(value).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), expected, "{value}");
        }
    }
}
